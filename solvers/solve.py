"""The entry point: from a problem to a solution."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from math import prod, sqrt
from typing import Any

import numpy as np

from sepnet.backends.arrays import Namespace, to_host
from sepnet.backends.threads import one_blas_thread
from sepnet.coefficients import Source
from sepnet.forms import LinearForm
from sepnet.functions import CP
from sepnet.problems import Galerkin, LeastSquares, Problem
from sepnet.solvers.als import AlternatingLeastSquares
from sepnet.solvers.assembly import MatrixTable
from sepnet.solvers.axis_systems import NotPositiveDefiniteError
from sepnet.solvers.continuation import Outcome, continue_rank
from sepnet.solvers.full_tensor import Factorisation, check_size, tensor_to_cp
from sepnet.solvers.lifting import Lift, make_lift
from sepnet.solvers.meter import Meter
from sepnet.solvers.options import DEFAULT_RANK, Options
from sepnet.solvers.progress import make_progress
from sepnet.solvers.refinement import best_axis
from sepnet.solvers.result import Record, Solution, Status
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.solvers.system import System, make_system, residual_norm
from sepnet.solvers.uniqueness import check_uniqueness
from sepnet.spaces import TensorSpace

__all__ = ["solve", "solve_many"]

logger = logging.getLogger(__name__)

# A relative residual above this says that nothing was solved.
NO_PROGRESS = 0.7


def solve(
    problem: Problem,
    *,
    rank: int | None = None,
    tol: float | None = None,
    method: str = "als",
    xp: Namespace = None,
    device: Any = None,
    dtype: Any = None,
    seed: int = 0,
    progress: bool = False,
    callback: Callable[[Record], object] | None = None,
) -> Solution:
    """Solve a problem for a function in CP format.

    Parameters
    ----------
    problem : LeastSquares or Galerkin
        What to solve.
    rank : int, optional
        Largest rank of the solution, lifted data included. Given alone, the solver goes on until the residual
        stagnates at this rank; with `tol` it stops at the tolerance.
    tol : float, optional
        Relative residual to reach; 0.01 by default.
    method : {"als", "full"}, optional
        Alternating least squares with rank continuation, or the direct solution on the full tensor space (small
        problems; the only method for non-symmetric Galerkin forms).
    xp, device, dtype : optional
        Where the iteration runs and the solution lives: array library, device, dtype. NumPy float64 by default.
        Assembly is float64 on the host in any case.
    seed : int, optional
        Seed of the starting columns; the result is reproducible.
    progress : bool, optional
        Show a bar with the residual.
    callback : callable, optional
        Called after every sweep with a `Record`; returning True interrupts the solve.

    Returns
    -------
    Solution

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value, or the form is not coercive (ALS).
    MemoryError
        If the problem is too large for ``method="full"``.

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8, zero="both"), y=sn.BSpline((0, 1), cells=8, zero="both"))
    >>> solution = sn.solve(sn.LeastSquares(V.d.x**2 + V.d.y**2, source=-1), rank=6)
    >>> solution.status.name, solution.u.rank
    ('MESH_LIMITED', 6)
    """
    options = Options.checked(
        problem,
        rank=rank,
        tol=tol,
        method=method,
        xp=xp,
        device=device,
        dtype=dtype,
        seed=seed,
        progress=progress,
        callback=callback,
    )
    with one_blas_thread():
        return _solve_all(problem, [problem], options)[0]


def solve_many(problem: Problem, sources: Sequence[Source | LinearForm], **options: Any) -> list[Solution]:
    """Solve one problem for several right-hand sides, assembling its matrices once.

    Parameters
    ----------
    problem : LeastSquares or Galerkin
        The problem; its own source is not used.
    sources : sequence
        Right-hand sides, each as the problem's ``source``.
    **options
        As in `solve`; one factorisation serves all with ``method="full"``.

    Returns
    -------
    list of Solution

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8, zero="both"))
    >>> problem = sn.Galerkin(sn.inner(V.d.x, V.d.x))
    >>> [round(float(s.u([[0.5]])[0]), 3) for s in sn.solve_many(problem, [1, 2], rank=1)]
    [0.125, 0.25]
    """
    if isinstance(sources, str) or not isinstance(sources, Sequence):
        msg = f"`sources` is {type(sources).__name__}, expected a list of right-hand sides"
        raise TypeError(msg)
    checked = Options.checked(problem, **options)
    members: list[Any] = [dataclasses.replace(problem, source=s) for s in sources]  # type: ignore[arg-type]
    with one_blas_thread():
        return _solve_all(problem, members, checked)


def _solve_all(problem: Problem, problems: Sequence[Problem], options: Options) -> list[Solution]:
    lift = make_lift(problem, options.goal / 10)
    check_uniqueness(problem, lift.space)
    if options.method == "full":
        check_size(lift.space)
    solutions = []
    table: MatrixTable | None = None
    matrix: SeparableMatrix | None = None
    direct: Factorisation | None = None
    for member in problems:
        system = make_system(member, lift, table)
        if table is None or matrix is None:
            table = system.matrices
            matrix = SeparableMatrix.from_table(table)
        load = SeparableVector.from_table(system.loads)
        if load.norm() == 0.0:
            solutions.append(_only_lift(system, lift, options))
        elif options.method == "full":
            symmetric = isinstance(member, LeastSquares) or (member.form.is_symmetric or matrix.is_symmetric())
            direct = direct or Factorisation(matrix, symmetric=symmetric)
            solutions.append(_solve_full(member, direct, system, load, lift, options))
        else:
            solutions.append(_solve_als(member, system, matrix, load, lift, options))
    return solutions


def _put(function: CP, options: Options) -> CP:
    return function.to(options.xp, device=options.device, dtype=options.dtype)


def _only_lift(system: System, lift: Lift, options: Options) -> Solution:
    """Return the lift, or zero: with no load v = 0 is the solution, exact unless the data are orthogonal to all L v."""
    u = lift.function or CP(lift.space, [np.zeros((n, 1)) for n in lift.space.shape])
    orthogonal = system.scale > 0.0
    residual = 1.0 if orthogonal else 0.0
    status = Status.STAGNATED if residual > options.goal else Status.CONVERGED
    message = "the right-hand side is orthogonal to everything the operator reaches on this mesh" if orthogonal else ""
    solution = Solution(
        _put(u, options), residual, residual * system.scale, status, data_error=lift.data_error, message=message
    )
    return _with_data(solution, lift, options)


def _solve_full(
    problem: Problem, direct: Factorisation, system: System, load: SeparableVector, lift: Lift, options: Options
) -> Solution:
    began = time.perf_counter()
    v = tensor_to_cp(lift.space, direct.solve(load))
    rank = _unknown_rank(lift, options)
    cut = options.rank is not None and v.rank > rank
    put = _put(v.compress(rank=rank) if cut else v, options)
    # What is measured is what is returned: after rounding to the rank and to the dtype.
    v = CP(v.space, [to_host(f).astype(np.float64) for f in put.factors])
    relative = _residual_full(direct, system, load, lift, v)
    u = system.scale * put
    u = u if lift.function is None else _put(lift.function, options) + u
    seconds = time.perf_counter() - began
    status, refine, message = Status.CONVERGED, None, ""
    if relative > options.goal:
        # The direct solution is the best there is on this mesh: only a finer mesh helps, or the rank that was cut off.
        status, message = Status.STAGNATED, "the mesh is too coarse for the tolerance: refine an axis"
        if cut:
            status, message = Status.RANK_LIMITED, ""
        elif isinstance(problem, LeastSquares) and v.rank <= DEFAULT_RANK:
            refine = best_axis(problem, lift, v.factors, relative)
            status, message = (Status.MESH_LIMITED, "") if refine else (status, message)
    solution = Solution(
        u, relative, relative * system.scale, status, (), lift.data_error, seconds, refine=refine, message=message
    )
    return _with_data(solution, lift, options)


def _residual_full(direct: Factorisation, system: System, load: SeparableVector, lift: Lift, v: CP) -> float:
    """Return the relative residual of v: of the linear system, or for least squares of the functional."""
    coefficients, b = np.asarray(v.full()), load.dense()
    if not system.blocks:
        return direct.residual(coefficients, b)
    exact = residual_norm(system, lift.function, (system.scale * v).factors)
    if exact is not None:
        return exact / system.scale
    value, noise = direct.functional(coefficients, b)
    return sqrt(max(1.0 + value, 0.0) + noise)


def _unknown_rank(lift: Lift, options: Options) -> int:
    """Return the rank left for v when u may have the rank asked for."""
    lifted = lift.function.rank if lift.function is not None else 0
    rank = (options.rank or DEFAULT_RANK + lifted) - lifted
    if rank < 1:
        msg = (
            f"`rank` is {options.rank}, but the lifted initial and boundary data alone have rank {lifted}: raise it, "
            "or lower theirs, e.g. initial={...: u.restrict(t=...).compress(tol=1e-3)}"
        )
        raise ValueError(msg)
    # More columns than the product of all sizes but the largest never help: the tensor has no higher rank.
    return min(rank, _highest_rank(lift.space))


def _highest_rank(space: TensorSpace) -> int:
    return prod(space.shape) // max(space.shape)


def _with_data(solution: Solution, lift: Lift, options: Options) -> Solution:
    """No success with initial or boundary data that are resolved worse than the tolerance."""
    if lift.data_error <= options.goal or solution.status in (Status.FAILED, Status.INTERRUPTED):
        return solution
    if lift.clash is not None:
        message = (
            f"the initial or boundary data do not vanish where axis {lift.clash!r} does (its zero=): they are met up "
            f"to {lift.data_error:.2g} only"
        )
    else:
        message = f"the initial or boundary data are resolved up to {lift.data_error:.2g} only"
    axis = lift.clash or lift.worst
    return dataclasses.replace(solution, status=Status.MESH_LIMITED, refine=axis, message=message)


def _solve_als(
    problem: Problem, system: System, matrix: SeparableMatrix, load: SeparableVector, lift: Lift, options: Options
) -> Solution:
    rank = _unknown_rank(lift, options)
    lifted = lift.function.rank if lift.function is not None else 0
    if isinstance(problem, Galerkin) and not (problem.form.is_symmetric or matrix.is_symmetric()):
        msg = (
            "the form is not symmetric, so ALS minimises nothing: use method='full' (small problems), or the strong "
            "form with sn.LeastSquares"
        )
        raise ValueError(msg)
    xp, device, dtype = options.xp, options.device, options.dtype
    iteration = AlternatingLeastSquares(matrix.to(xp, device, dtype), load.to(xp, device, dtype), seed=options.seed)
    meter = Meter(problem, system, matrix, load, lift, iteration, options)
    began = time.perf_counter()
    try:
        outcome = continue_rank(
            iteration,
            meter,
            rank=rank,
            tol=options.goal,
            to_stagnation=options.tol is None and options.rank is not None,
            lifted=lifted,
            progress=make_progress(options.progress),
            callback=options.callback,
        )
    except NotPositiveDefiniteError as error:
        msg = f"{error}: the form is not coercive on this space: give boundary values, a reaction term, or check signs"
        raise ValueError(msg) from error
    seconds = time.perf_counter() - began
    return _report(problem, lift, outcome, meter, seconds, options)


def _report(problem: Problem, lift: Lift, outcome: Outcome, meter: Meter, seconds: float, options: Options) -> Solution:
    v = meter.system.scale * CP(lift.space, outcome.factors)
    u = v if lift.function is None else _put(lift.function, options) + v
    residual = meter.final(outcome)
    if isinstance(problem, LeastSquares) and residual > 1.0 and outcome.status is not Status.INTERRUPTED:
        # Worse than v = 0: what is left of the data after the lift is round-off in this dtype.
        message = "nothing was gained over the lifted data: their remainder is round-off"
        message += "" if options.dtype == options.xp.float64 else ', use dtype="float64"'
        u = _put(lift.function, options) if lift.function is not None else 0.0 * v
        stuck = Solution(
            u, 1.0, meter.system.scale, Status.STAGNATED, outcome.history, lift.data_error, seconds, None, message
        )
        return _with_data(stuck, lift, options)
    status, refine = outcome.status, None
    if status is not Status.FAILED and status is not Status.INTERRUPTED:
        status = Status.CONVERGED if residual <= options.goal else status
        if status is Status.RANK_LIMITED and v.rank == _highest_rank(lift.space):
            status = Status.STAGNATED
        status = Status.STAGNATED if status is Status.CONVERGED and residual > options.goal else status
    if status is Status.STAGNATED and isinstance(problem, LeastSquares):
        hosts = [to_host(f).astype(np.float64) for f in outcome.factors]
        refine = best_axis(problem, lift, hosts, residual)
        status = Status.MESH_LIMITED if refine else status
    logger.info("%s after %d sweeps: residual %.3e", status.name, len(outcome.history), residual)
    solution = Solution(
        u=u,
        residual=residual,
        residual_norm=residual * meter.unit * meter.system.scale,
        status=status,
        history=outcome.history,
        data_error=lift.data_error,
        seconds=seconds,
        refine=refine,
        message=outcome.message or _advice(outcome),
    )
    return _with_data(solution, lift, options)


def _advice(outcome: Outcome) -> str:
    if outcome.status in (Status.RANK_LIMITED, Status.STAGNATED) and outcome.residual > NO_PROGRESS:
        return (
            "the residual hardly fell: the problem may have no unique solution (only natural boundary conditions and "
            "no reaction term?), or the mesh may not see the data"
        )
    return ""
