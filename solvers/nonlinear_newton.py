"""The damped Newton iteration: steps, a line search on the true residual, and the ways in which it ends."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any, final

import numpy as np

from sepnet.solvers.progress import make_progress
from sepnet.solvers.record import Record, Status

__all__ = ["DIVERGED", "TOO_SHORT", "NewtonIterate", "NewtonOutcome", "NoStepError", "run_newton"]

logger = logging.getLogger(__name__)

# Share of the decrease that the linearisation promises which a step must bring (Armijo), and the shortest step.
ARMIJO, SHORTEST = 1e-4, 2.0**-20
MAX_STEPS = 60
# Least squares are settled when a step would lower the residual by no more than this share, squared: what is left of
# the discrete minimiser is then beyond the discretisation error that the residual stands for.
SETTLED = 1e-3
# A minimiser counts as found, even though no step lowers the residual, when the step promises less than this share.
STATIONARY = 1e-2
DIVERGED = (
    "Newton's method does not get on from here: give start= from the solution of an easier problem (a coarser mesh, a "
    "larger viscosity), follow the solution with sn.continuation, or check that there is a solution"
)

TOO_SHORT = "the solution was found, and loses its accuracy in {}: take dtype='float64', or raise tol="
BEYOND = (
    "the residual of `start`, or of the initial and boundary data, is beyond the range of numbers: give a start nearer "
    "to a solution, or scale the unknown"
)


@final
class NoStepError(Exception):
    """The linearised problem has no solution; the message says why."""


class NewtonIterate(ABC):
    """Where a Newton iteration stands.

    Attributes
    ----------
    exhausted : bool
        Whether the last step gained little because its result had to be cut to the rank allowed.
    """

    exhausted: bool = False

    @property
    @abstractmethod
    def residual(self) -> float:
        """Norm of the nonlinear residual."""

    @property
    @abstractmethod
    def rank(self) -> int:
        """Rank of the function."""

    @property
    @abstractmethod
    def floor(self) -> float:
        """The residual that round-off leaves."""

    @abstractmethod
    def step(self) -> float:
        """Compute the next step; return the square of the residual that it would take away from a linear problem.

        Raises
        ------
        NoStepError
            If there is none.
        """

    @abstractmethod
    def measure(self, share: float) -> float:
        """Return the residual after this share of the step."""

    @abstractmethod
    def go(self, share: float, residual: float) -> None:
        """Take this share of the step, with the residual that was measured for it."""


@final
@dataclass(frozen=True)
class NewtonOutcome:
    """How an iteration ended: status (CONVERGED: the discrete solution is found), history, message."""

    status: Status
    history: tuple[Record, ...]
    message: str = ""


def run_newton(
    iterate: NewtonIterate,
    *,
    reference: float,
    goal: float,
    early: bool,
    progress: bool,
    callback: Callable[[Record], Any] | None,
) -> NewtonOutcome:
    """Take damped Newton steps until the discrete solution is found, or there is no way on.

    The step is halved until the squared residual falls by at least 1e-4 of what the linearisation promises (Armijo,
    Pacific J. Math. 16, 1966; Dennis and Schnabel, Numerical Methods for Unconstrained Optimization, section 6.3).

    Parameters
    ----------
    iterate : NewtonIterate
        Where it begins; it is changed.
    reference : float
        Residuals are relative to this.
    goal : float
        The relative residual that is wanted.
    early : bool
        Whether to stop at the goal, or to go on to the discrete solution.
    progress, callback
        As in `solve`.

    Raises
    ------
    ValueError
        If the residual where it begins is not finite.
    """
    if not isfinite(iterate.residual):
        raise ValueError(BEYOND)
    began, history = time.perf_counter(), [Record(0, iterate.rank, iterate.residual / reference, 0.0)]
    meter = make_progress(progress, "Newton steps")

    def ended(status: Status, message: str = "") -> NewtonOutcome:
        return NewtonOutcome(status, tuple(history), message)

    try:
        while len(history) <= MAX_STEPS:
            before = iterate.residual
            if before <= iterate.floor or (early and before <= goal * reference):
                return ended(Status.CONVERGED)
            try:
                promised = iterate.step()
            except NoStepError as error:
                return ended(Status.FAILED, str(error))
            settled = promised <= (SETTLED * before) ** 2
            found = _last(iterate) if settled else _search(iterate, promised)
            # Half-way, in digits, between the goal and round-off, what does not fall any more is round-off.
            low = before <= sqrt(goal * reference * iterate.floor)
            if found is None:
                done = settled or low or promised <= (STATIONARY * before) ** 2
                return ended(Status.CONVERGED) if done else ended(Status.FAILED, DIVERGED)
            iterate.go(*found)
            record = Record(len(history), iterate.rank, iterate.residual / reference, time.perf_counter() - began)
            history.append(record)
            meter.step(record)
            logger.debug("step %d: rank %d, residual %.3e, %.3f s, share %.3g", *record, found[0])
            answer = None if callback is None else callback(record)
            if isinstance(answer, bool | np.bool_) and answer:
                return ended(Status.INTERRUPTED, "stopped by the callback")
            if iterate.exhausted:
                return ended(Status.STAGNATED)
            if settled or (low and iterate.residual > before / 2):
                return ended(Status.CONVERGED)
        if iterate.residual <= goal * reference:
            return ended(Status.CONVERGED)
        return ended(Status.FAILED, f"not settled after {MAX_STEPS} steps. {DIVERGED}")
    except KeyboardInterrupt:
        return ended(Status.INTERRUPTED, "interrupted from the keyboard")
    finally:
        meter.close()


def _last(iterate: NewtonIterate) -> tuple[float, float] | None:
    """Return the full step and the residual there; None if it does not lower the residual."""
    residual = iterate.measure(1.0)
    return (1.0, residual) if residual <= iterate.residual else None


def _search(iterate: NewtonIterate, promised: float) -> tuple[float, float] | None:
    """Return the share of the step to take, and the residual there; None if no share lowers it enough."""
    share, square = 1.0, iterate.residual**2
    while share >= SHORTEST:
        # A step too far may leave the range of numbers: then it is one that does not lower the residual.
        with np.errstate(over="ignore", invalid="ignore"):
            residual = iterate.measure(share)
        if isfinite(residual) and residual**2 <= square - 2 * ARMIJO * share * promised:
            return share, residual
        share /= 2
    return None
