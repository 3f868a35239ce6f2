"""Nonlinear problems: Newton's method outside, linear solvers inside."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import prod
from typing import final

import numpy as np

from sepnet.backends.arrays import to_host
from sepnet.functions import CP, TensorTrain
from sepnet.problems import LeastSquares, Problem
from sepnet.solvers.full_tensor import tensor_to_cp
from sepnet.solvers.lifting import Lift, make_lift
from sepnet.solvers.nonlinear_band import SingularError, memory
from sepnet.solvers.nonlinear_low_rank import solve_by_low_rank
from sepnet.solvers.nonlinear_newton import DIVERGED, TOO_SHORT, NewtonIterate, NoStepError, run_newton
from sepnet.solvers.nonlinear_system import FullSystem, make_full_system
from sepnet.solvers.options import Options
from sepnet.solvers.prepare import highest_rank
from sepnet.solvers.record import Status
from sepnet.solvers.report import with_data
from sepnet.solvers.result import Solution

__all__ = ["solve_nonlinear"]

# Largest band matrix, in bytes, that method="full" may need, and what "auto" takes it for.
LIMIT, AUTOMATIC = 2 * 2**30, 2**29
METHODS = ("auto", "als", "full")
EPS = float(np.finfo(np.float64).eps)
# A residual below this multiple of the round-off of what it adds up is zero.
NOISE = 1e4 * EPS
# A train is rounded at this relative error; a refinement must lower the squared residual by this share to be a remedy.
ROUND_OFF, USEFUL = 1e-14, 0.02
TOO_COARSE = (
    "Newton's method came to an end above the tolerance: the mesh is too coarse for it, or the problem has no solution"
)


def solve_nonlinear(
    problem: Problem, options: Options, solve_linear: Callable[[Problem, Options], Solution]
) -> Solution:
    """Solve a nonlinear problem.

    Parameters
    ----------
    problem : LeastSquares or Galerkin
        Nonlinear.
    options : Options
        What the user asked for.
    solve_linear : callable
        Solves a linear problem with other options.

    Returns
    -------
    Solution
        ``history`` has one record a Newton step, the first that of the start.

    Raises
    ------
    ValueError
        If a method or option is asked for that nonlinear problems do not know.
    MemoryError
        If the problem is too large for ``method="full"``.
    """
    if options.method not in METHODS:
        msg = f"`method` is {options.method!r}, expected one of {', '.join(map(repr, METHODS))} for a nonlinear problem"
        raise ValueError(msg)
    if options.checkpoint is not None:
        msg = "`checkpoint` is given, but runs of nonlinear problems are not kept: leave it out, and use start= instead"
        raise ValueError(msg)
    lift = make_lift(problem, options.goal / 10)
    needed = memory(lift.space, symmetric=isinstance(problem, LeastSquares))
    if options.method == "full" and needed > LIMIT:
        msg = (
            f"method='full' would factorise {prod(lift.space.shape):.3g} unknowns with about {needed / 2**30:.3g} GiB, "
            f"at most {LIMIT / 2**30:.0f} GiB are allowed: use fewer cells, or method='als'"
        )
        raise MemoryError(msg)
    if options.method == "full" or (options.method == "auto" and needed <= AUTOMATIC):
        return _solve_fully(problem, lift, options)
    return solve_by_low_rank(problem, lift, options, solve_linear)


def _solve_fully(problem: Problem, lift: Lift, options: Options) -> Solution:
    """Solve for the dense array of coefficients, and write it in the format asked for."""
    began = time.perf_counter()
    system = make_full_system(problem, lift.space, lift.function)
    v = np.zeros(lift.space.shape)
    if options.start is not None:
        start = options.start.to(np, dtype="float64")
        start = start if lift.function is None else start - lift.function
        v = np.asarray(start.project(lift.space).function.full())
    iterate = _FullIterate(system, v)
    reference = system.residual(None)
    if reference <= NOISE * system.noise(None):
        # The lifted data solve the problem; another start is measured by what it leaves.
        reference = iterate.residual if iterate.residual > NOISE * system.noise(v) else 1.0
    outcome = run_newton(
        iterate,
        reference=reference,
        goal=options.goal,
        early=False,
        progress=options.progress,
        callback=options.callback,
    )
    u, w = _written(iterate.v, lift, options)
    residual = system.residual(w) / reference
    status, message, refine = outcome.status, outcome.message, None
    if status is Status.CONVERGED and residual > options.goal:
        status, message = Status.STAGNATED, TOO_COARSE
        cut = iterate.residual <= options.goal * reference
        if cut and options.rank is not None:
            status, message = Status.RANK_LIMITED, ""
        elif cut and options.dtype != np.float64:
            message = TOO_SHORT.format(options.dtype)
        else:
            refine = _best_axis(problem, lift, w, system.residual(w))
            status, message = (Status.MESH_LIMITED, "") if refine else (status, message)
    solution = Solution(
        u=u,
        residual=residual,
        residual_norm=residual * reference,
        status=status,
        history=outcome.history,
        data_error=lift.data_error,
        seconds=time.perf_counter() - began,
        refine=refine,
        message=message,
        problem=problem,
        lift=lift,
    )
    return with_data(solution, lift, options.goal)


def _written(v: np.ndarray, lift: Lift, options: Options) -> tuple[CP | TensorTrain, np.ndarray]:
    """Return the solution in the format, the rank and the home asked for, and its unknown part as a dense array."""
    function = tensor_to_cp(lift.space, v)
    rank = None if options.rank is None else options.rank - (lift.function.rank if lift.function is not None else 0)
    if rank is not None and rank < function.rank:
        function = function.compress(rank=max(rank, 1))
    there = function.to(options.xp, device=options.device, dtype=options.dtype)
    w = np.asarray(CP(lift.space, [to_host(f).astype(np.float64) for f in there.factors]).full())
    if lift.function is not None:
        there = lift.function.to(options.xp, device=options.device, dtype=options.dtype) + there
    return (TensorTrain.from_cp(there).compress(ROUND_OFF) if options.format == "tt" else there), w


def _best_axis(problem: Problem, lift: Lift, v: np.ndarray, residual: float) -> str | None:
    """Return the axis whose refinement lowers the least-squares residual most in one step, None if none does."""
    if not isinstance(problem, LeastSquares):
        return None
    found: dict[str, float] = {}
    for k, (name, basis) in enumerate(lift.space.items):
        space = lift.space.replace(**{name: basis.refine()})
        if memory(space, symmetric=True) > LIMIT:
            continue
        system = make_full_system(problem, space, lift.function)
        finer = np.moveaxis(np.tensordot(space.axes[name].embed(basis), v, axes=(1, k)), 0, k)
        try:
            found[name] = system.residual(finer + system.step(finer)[0])
        except SingularError:
            continue
    best = min(found, key=lambda name: found[name], default=None)
    return best if best is not None and found[best] ** 2 < (1 - USEFUL) * residual**2 else None


@final
class _FullIterate(NewtonIterate):
    """The dense array of coefficients."""

    def __init__(self, system: FullSystem, v: np.ndarray) -> None:
        self.system, self.v = system, v
        # A start may leave the range of numbers.
        with np.errstate(over="ignore", invalid="ignore"):
            self._residual = system.residual(v)
            self._floor = EPS * system.noise(v)
        self._step = v

    @property
    def residual(self) -> float:
        """Norm of the nonlinear residual."""
        return self._residual

    @property
    def rank(self) -> int:
        """The highest rank that there is: the array is full."""
        return highest_rank(self.v.shape)

    @property
    def floor(self) -> float:
        """The residual that round-off leaves."""
        return self._floor

    def step(self) -> float:
        """Compute the next step, and the square of the residual that it promises to take away."""
        try:
            self._step, promised = self.system.step(self.v)
        except SingularError as error:
            msg = f"the linearised problem is singular up to round-off. {DIVERGED}"
            raise NoStepError(msg) from error
        return promised

    def measure(self, share: float) -> float:
        """Return the residual after this share of the step."""
        return self.system.residual(self.v + share * self._step)

    def go(self, share: float, residual: float) -> None:
        """Take this share of the step."""
        self.v = self.v + share * self._step
        self._residual = residual
