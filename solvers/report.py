"""From the outcome of an iteration to a solution: statuses that hold, and the next step."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

import numpy as np

from sepnet.functions import CP, TensorTrain
from sepnet.problems import LeastSquares
from sepnet.solvers.lifting import Lift
from sepnet.solvers.prepare import Prepared, put
from sepnet.solvers.record import Status
from sepnet.solvers.result import Solution
from sepnet.solvers.run import Outcome

__all__ = ["only_lift", "report", "with_data"]

logger = logging.getLogger(__name__)

# A relative residual above this says that nothing was solved.
NO_PROGRESS = 0.7


def report(
    prepared: Prepared,
    v: CP | TensorTrain,
    outcome: Outcome,
    *,
    residual: float,
    unit: float,
    seconds: float,
    exhausted: bool,
    refine: Callable[[], str | None],
) -> Solution:
    """Return the solution.

    Parameters
    ----------
    prepared : Prepared
        What was solved.
    v : CP or TensorTrain
        The unknown, scaled.
    outcome : Outcome
        How the iteration ended.
    residual : float
        Relative residual of v, as exactly as it can be had.
    unit : float
        The absolute residual is this multiple of it.
    seconds : float
        Time of the iteration.
    exhausted : bool
        Whether v has the highest rank there is.
    refine : callable
        Measures which axis to refine, if any; called where the residual stagnates.
    """
    lift, options = prepared.lift, prepared.options
    u = v if lift.function is None else put(lift.function, options) + v
    if isinstance(prepared.problem, LeastSquares) and residual > 1.0 and outcome.status is not Status.INTERRUPTED:
        # Worse than v = 0: what is left of the data after the lift is round-off in this dtype.
        message = "nothing was gained over the lifted data: their remainder is round-off"
        message += "" if options.dtype == options.xp.float64 else ', use dtype="float64"'
        u = put(lift.function, options) if lift.function is not None else 0.0 * v
        outcome = dataclasses.replace(outcome, status=Status.STAGNATED, message=message)
        residual = 1.0
    status = outcome.status
    if status is not Status.FAILED and status is not Status.INTERRUPTED:
        status = Status.CONVERGED if residual <= options.goal else status
        if status is Status.RANK_LIMITED and exhausted:
            status = Status.STAGNATED
        status = Status.STAGNATED if status is Status.CONVERGED and residual > options.goal else status
    axis = None
    if status is Status.STAGNATED and residual < 1.0:
        axis = refine()
        status = Status.MESH_LIMITED if axis else status
    logger.info("%s after %d sweeps: residual %.3e", status.name, len(outcome.history), residual)
    solution = Solution(
        u=u,
        residual=residual,
        residual_norm=residual * unit,
        status=status,
        history=outcome.history,
        data_error=lift.data_error,
        seconds=seconds,
        refine=axis,
        message=outcome.message or _advice(outcome),
        problem=prepared.problem,
        lift=lift,
    )
    return with_data(solution, lift, options.goal)


def only_lift(prepared: Prepared) -> Solution:
    """Return the lift, or zero: with no load v = 0 is the solution, exact unless the data are orthogonal to all L v."""
    lift, system, options = prepared.lift, prepared.system, prepared.options
    u = put(lift.function or CP(lift.space, [np.zeros((n, 1)) for n in lift.space.shape]), options)
    orthogonal = system.scale > 0.0
    residual = 1.0 if orthogonal else 0.0
    solution = Solution(
        u=TensorTrain.from_cp(u) if options.format == "tt" else u,
        residual=residual,
        residual_norm=residual * system.scale,
        status=Status.STAGNATED if residual > options.goal else Status.CONVERGED,
        data_error=lift.data_error,
        message="the right-hand side is orthogonal to everything the operator reaches on this mesh"
        if orthogonal
        else "",
        problem=prepared.problem,
        lift=lift,
    )
    return with_data(solution, lift, options.goal)


def with_data(solution: Solution, lift: Lift, goal: float) -> Solution:
    """No success with initial or boundary data that are resolved worse than the tolerance."""
    if lift.data_error <= goal or solution.status in (Status.FAILED, Status.INTERRUPTED):
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


def _advice(outcome: Outcome) -> str:
    if outcome.status in (Status.RANK_LIMITED, Status.STAGNATED) and outcome.residual > NO_PROGRESS:
        return (
            "the residual hardly fell below that of the lifted data: the mesh may not see what is left of the source "
            "(all there is, if the data are close to the solution: see residual_norm), or the problem may have no "
            "unique solution (only natural boundary conditions and no reaction term?)"
        )
    return ""
