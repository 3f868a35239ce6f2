"""The low-rank methods: which iteration, from which start, by which strategy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import inf, prod

import numpy as np

from sepnet.backends.arrays import Array, from_host, to_host
from sepnet.functions import CP, TensorTrain
from sepnet.problems import LeastSquares
from sepnet.solvers.als import AlternatingLeastSquares
from sepnet.solvers.axis_systems import NotPositiveDefiniteError
from sepnet.solvers.checkpoint import Checkpoint, fingerprint
from sepnet.solvers.continuation import RankContinuation, sweep_on
from sepnet.solvers.gauss_newton import GaussNewton
from sepnet.solvers.mesh_norm import mesh_axis
from sepnet.solvers.meter import Meter, cp_meter, train_meter
from sepnet.solvers.pgd import GreedyEnrichment
from sepnet.solvers.prepare import Prepared, highest_rank, unknown_rank
from sepnet.solvers.progress import make_progress
from sepnet.solvers.refinement import best_axis
from sepnet.solvers.report import report
from sepnet.solvers.result import Solution
from sepnet.solvers.run import Outcome, Run
from sepnet.solvers.separable import SeparableMatrix
from sepnet.solvers.starts import laplace_start
from sepnet.solvers.train_als import TrainIteration
from sepnet.solvers.train_growth import TrainGrowth, Trial, choose_order
from sepnet.solvers.warm_start import warm_start

__all__ = ["solve_iteratively"]

# A start from the inverse of a Kronecker sum is this much closer than the tolerance, and takes this share of the rank
# at most: what more columns gain tells whether the rank is what is missing.
CLOSER, SHARE = 0.5, 0.75


def solve_iteratively(prepared: Prepared) -> Solution:
    """Solve by a low-rank method.

    Raises
    ------
    ValueError
        If the form is not coercive.
    """
    try:
        return _solve_train(prepared) if _wants_train(prepared) else _solve_cp(prepared)
    except NotPositiveDefiniteError as error:
        msg = f"{error}: the form is not coercive on this space: give boundary values, a reaction term, or check signs"
        raise ValueError(msg) from error


def _wants_train(prepared: Prepared) -> bool:
    options = prepared.options
    if options.format != "auto":
        return options.format == "tt"
    if prepared.space.dim <= 2 or options.method not in ("auto", "als"):
        return False
    rank = unknown_rank(prepared)
    return isinstance(options.start, TensorTrain) or _start(prepared, rank, prepared.minimised[2]) is None


def _run(prepared: Prepared, meter: Meter) -> Run:
    options = prepared.options
    keep = None
    if options.checkpoint is not None:
        mark = fingerprint(prepared.matrix, prepared.load)
        keep = Checkpoint(
            options.checkpoint, options.checkpoint_every, prepared.problem, options.stored(), mark, prepared.saved
        )
    return Run(
        meter,
        lifted=prepared.lifted,
        progress=make_progress(options.progress, "sweeps"),
        callback=options.callback,
        keep=keep,
        saved=prepared.saved,
    )


def _goal(prepared: Prepared) -> float:
    """Return the residual to stop at; with a rank alone the iteration goes on until it stagnates."""
    options = prepared.options
    return 0.0 if options.tol is None and options.rank is not None else options.goal


def _start(prepared: Prepared, rank: int | None, unit: float) -> CP | TensorTrain | None:
    """Return a function to begin from, in the units of the minimised system (host), or None."""
    if prepared.options.start is not None:
        return warm_start(prepared, prepared.options.start, unit)
    if not prepared.symmetric or mesh_axis(prepared.space) is not None:
        return None
    tol = max(CLOSER * prepared.options.goal, 1e-12)
    rank = None if rank is None else max(int(SHARE * rank), 1)
    factors = laplace_start(prepared.problem, prepared.system, prepared.lift, tol=tol, rank=rank, riesz=prepared.riesz)
    return None if factors is None else CP(prepared.space, factors)


def _refine(prepared: Prepared, outcome: Outcome, residual: float, order: list[int] | None) -> str | None:
    if not isinstance(prepared.problem, LeastSquares):
        return None
    hosts = [to_host(f).astype(np.float64) for f in outcome.factors]
    return best_axis(prepared.problem, prepared.lift, hosts, residual, order=order)


# ----------------------------------------------------------------------------------------------------------- products


def _solve_cp(prepared: Prepared) -> Solution:
    options = prepared.options
    rank = min(unknown_rank(prepared), highest_rank(prepared.space.shape))
    host_matrix, host_load, unit = prepared.minimised
    home = (options.xp, options.device, options.dtype)
    matrix, load = host_matrix.to(*home), host_load.to(*home)
    greedy = options.method in ("pgd", "pgd-update")
    iteration: AlternatingLeastSquares | GreedyEnrichment
    if greedy:
        iteration = GreedyEnrichment(matrix, load, seed=options.seed, update=options.method == "pgd-update")
    else:
        iteration = AlternatingLeastSquares(matrix, load, seed=options.seed)
        start = _start(prepared, rank, unit)
        if start is not None:
            iteration.start(_here(prepared, _short_cp(start, options.goal, rank).factors))
    meter = cp_meter(prepared, iteration)
    began = time.perf_counter()
    run, goal = _run(prepared, meter), _goal(prepared)
    strategy = RankContinuation(run, iteration, rank=rank, goal=goal)
    if greedy:
        # One mode at a time and never touched again, but for the updates that are part of every sweep.
        strategy = RankContinuation(
            run, iteration, rank=rank, goal=goal, columns=1, most=1, polish=lambda goal: run.residual
        )
    if options.method == "gauss-newton" or (options.method == "auto" and options.tol is not None):
        newton = GaussNewton(matrix, load)

        def polish(goal: float) -> float:
            # Where a rank alone is given, ALS is as good for its time; a tolerance that it misses is worth the steps.
            if options.method == "auto" and sweep_on(run, iteration, goal) <= goal:
                return run.residual
            newton.start(iteration.balanced())
            meter.watch(newton)
            residual = sweep_on(run, newton, goal, lambda: newton.stalled)
            iteration.start(newton.balanced())
            meter.watch(iteration)
            return residual

        strategy.polish = polish
    outcome = run.outcome(strategy, options.goal)
    return _cp_solution(prepared, outcome, meter, unit, time.perf_counter() - began)


def _cp_solution(prepared: Prepared, outcome: Outcome, meter: Meter, unit: float, seconds: float) -> Solution:
    v = unit * CP(prepared.space, outcome.factors)
    residual = meter.final(outcome)
    return report(
        prepared,
        v,
        outcome,
        residual=residual,
        unit=meter.unit * unit,
        seconds=seconds,
        exhausted=v.rank == highest_rank(prepared.space.shape),
        refine=lambda: _refine(prepared, outcome, residual, None),
    )


# ------------------------------------------------------------------------------------------------------------- trains


def _solve_train(prepared: Prepared) -> Solution:
    options = prepared.options
    rank = None if options.rank is None else unknown_rank(prepared)
    host_matrix, host_load, unit = prepared.minimised
    home = (options.xp, options.device, options.dtype)
    matrix, load = host_matrix.to(*home), host_load.to(*home)
    goal, dim = _goal(prepared), prepared.space.dim

    def make(order: Sequence[int], residual: float) -> Trial:
        iteration = TrainIteration(matrix, load, order=order, seed=options.seed)
        return Trial(iteration, train_meter(prepared, iteration, order), residual)

    began = time.perf_counter()
    start = _start(prepared, rank, unit)
    order = options.axis_order(prepared.space)
    if prepared.saved is not None:
        order = [int(k) for k in prepared.saved.states[0].numbers["order"]]
    if start is not None:
        trial = make(order, inf)
        trial.iteration.start(_here(prepared, _train_cores(start, order, options.goal, rank)))
    elif options.order is not None or prepared.saved is not None or _alike(host_matrix):
        trial = make(order, 1.0)
    else:
        trial = choose_order(lambda order: make(order, 1.0), dim, rank=rank, goal=options.goal)
    run = _run(prepared, trial.meter)
    outcome = run.outcome(TrainGrowth(run, trial, rank=rank, goal=goal), options.goal)
    residual = trial.meter.final(outcome)
    names = [prepared.space.names[k] for k in trial.iteration.order]
    v = unit * TensorTrain(prepared.space, outcome.factors, names)
    return report(
        prepared,
        v,
        outcome,
        residual=residual,
        unit=trial.meter.unit * unit,
        seconds=time.perf_counter() - began,
        exhausted=_full(outcome.factors),
        refine=lambda: _refine(prepared, outcome, residual, trial.iteration.order),
    )


def _alike(matrix: SeparableMatrix) -> bool:
    """Tell whether all axes have the same matrices: then one order is as good as another."""
    contents = [sorted(axis.values[:, j, :].tobytes() for j in range(axis.count)) for axis in matrix.axes]
    return all(content == contents[0] for content in contents)


def _full(cores: Sequence[Array]) -> bool:
    """Tell whether every bond has the highest rank there is."""
    sizes = [int(c.shape[1]) for c in cores]
    most = [min(prod(sizes[:k]), prod(sizes[k:])) for k in range(1, len(sizes))]
    return [int(c.shape[2]) for c in cores[:-1]] == most


def _train_cores(start: CP | TensorTrain, order: Sequence[int], tol: float, rank: int | None) -> Sequence[Array]:
    """Return the cores of a start; what rounding costs, the first sweep makes good."""
    train = TensorTrain.from_cp(start) if isinstance(start, CP) else start
    train = train.compress(tol=CLOSER * tol)
    train = train.reorder(*(train.space.names[k] for k in order))
    return (train if rank is None or train.rank <= rank else train.compress(rank=rank)).cores


def _short_cp(start: CP | TensorTrain, tol: float, rank: int) -> CP:
    """Return a start as a sum of products of at most that rank."""
    short = start if isinstance(start, CP) else start.to_cp(tol=CLOSER * tol).function
    return short if short.rank <= rank else short.compress(rank=rank)


def _here(prepared: Prepared, parts: Sequence[Array]) -> list[Array]:
    options = prepared.options
    return [from_host(p, options.xp, device=options.device, dtype=options.dtype) for p in parts]
