"""Rank continuation: ALS with a few columns more every few sweeps, until the residual says stop.

From a random start of full rank ALS stalls; grown four columns at a time it does not (the start matters more than the
sweeps). What stops the iteration is the residual, never the change of the energy: a stalled ALS changes little too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from sepnet.backends.arrays import Array
from sepnet.solvers.als import AlternatingLeastSquares
from sepnet.solvers.axis_systems import NotPositiveDefiniteError
from sepnet.solvers.progress import Progress
from sepnet.solvers.result import Record, Status

__all__ = ["Outcome", "continue_rank"]

logger = logging.getLogger(__name__)

# Columns added at a time; fewer waste sweeps, more start to stall (4 is what the 6-D problem likes best).
COLUMNS = 4
# Sweeps between two additions: at least, at most, and the relative fall of the residual that is worth another one.
LEAST_SWEEPS, MOST_SWEEPS, WORTH = 2, 6, 0.05
# At the last rank: sweeps at most, and the fall over five sweeps below which the residual stagnates.
FINAL_SWEEPS, FINAL_WINDOW, FINAL_WORTH = 60, 5, 0.01
# Two additions in a row that lower the residual by less than this share: the rank is not what is missing.
RANK_HELPS = 0.02


@final
@dataclass(frozen=True)
class Outcome:
    """How the iteration ended: factors of the best sweep, its residual, status, history, message."""

    factors: list[Array]
    residual: float
    status: Status
    history: tuple[Record, ...]
    message: str = ""


@final
class _Stop(Exception):  # noqa: N818 - it is no error
    """Raised inside the loop to end it with a status."""

    def __init__(self, status: Status, message: str = "") -> None:
        super().__init__(message)
        self.status, self.message = status, message


def continue_rank(
    iteration: AlternatingLeastSquares,
    measure: Callable[[float, float], float],
    *,
    rank: int,
    tol: float,
    to_stagnation: bool,
    lifted: int,
    progress: Progress,
    callback: Callable[[Record], object] | None = None,
) -> Outcome:
    """Run ALS with rank continuation.

    Parameters
    ----------
    iteration : AlternatingLeastSquares
        Fresh iteration.
    measure : callable
        Takes ``a(u, u)`` and ``f(u)`` after a sweep and returns the relative residual.
    rank : int
        Largest number of columns.
    tol : float
        Relative residual at which the solve counts as converged.
    to_stagnation : bool
        Go on below `tol` until the residual stagnates.
    lifted : int
        Rank of the lifted data, which the records count in.
    progress : Progress
        Told about every sweep.
    callback : callable, optional
        Called with every record; returning True interrupts the solve.

    Returns
    -------
    Outcome

    Raises
    ------
    NotPositiveDefiniteError
        If the very first sweep fails.
    FloatingPointError
        If its residual is not finite.
    """
    run = _Run(iteration, measure, lifted, progress, callback)
    try:
        run.climb(rank, tol, to_stagnation)
        status, message = Status.CONVERGED, ""
    except _Stop as stop:
        status, message = stop.status, stop.message
    except KeyboardInterrupt:
        status, message = Status.INTERRUPTED, "interrupted from the keyboard"
    except NotPositiveDefiniteError as error:
        if not run.history:
            raise
        status, message = Status.FAILED, str(error)
    finally:
        progress.close()
    if run.best is None:
        if status is Status.FAILED:
            msg = f"{message} after the first sweep: scale the data towards one, or use dtype='float64'"
            raise FloatingPointError(msg)
        raise KeyboardInterrupt
    residual, factors = run.best
    if residual <= tol and status in (Status.RANK_LIMITED, Status.STAGNATED):
        status = Status.CONVERGED
    return Outcome(factors, residual, status, tuple(run.history), message)


@final
class _Run:
    """The loop, with its history and the best iterate."""

    def __init__(
        self,
        iteration: AlternatingLeastSquares,
        measure: Callable[[float, float], float],
        lifted: int,
        progress: Progress,
        callback: Callable[[Record], object] | None,
    ) -> None:
        self.iteration, self.measure, self.lifted = iteration, measure, lifted
        self.progress, self.callback = progress, callback
        self.history: list[Record] = []
        self.best: tuple[float, list[Array]] | None = None
        self.began = time.perf_counter()

    def climb(self, rank: int, tol: float, to_stagnation: bool) -> None:
        """Add columns until the rank is reached, then sweep until the residual stagnates."""
        goal = 0.0 if to_stagnation else tol
        useless, before = 0, float("inf")
        while self.iteration.rank < rank:
            before = self.history[-1].residual if self.history else float("inf")
            self.iteration.grow(min(COLUMNS, rank - self.iteration.rank))
            after = self._sweeps(LEAST_SWEEPS, MOST_SWEEPS, goal)
            if after <= goal:
                return
            useless = useless + 1 if after > (1 - RANK_HELPS) * before else 0
            if useless >= 2:
                # Sweep on before giving up: a swamp looks the same.
                polished = self._final(goal)
                if polished <= goal:
                    return
                if polished > (1 - RANK_HELPS) * before:
                    raise _Stop(Status.STAGNATED)
                useless = 0
        final = self._final(goal)
        if final > goal:
            raise _Stop(Status.STAGNATED if final > (1 - RANK_HELPS) * before else Status.RANK_LIMITED)

    def _sweeps(self, least: int, most: int, goal: float) -> float:
        residual = self._sweep()
        for k in range(1, most):
            if residual <= goal:
                break
            previous, residual = residual, self._sweep()
            if k + 1 >= least and residual > (1 - WORTH) * previous:
                break
        return residual

    def _final(self, goal: float) -> float:
        recent = [self.history[-1].residual]
        for _ in range(FINAL_SWEEPS):
            if recent[-1] <= goal:
                break
            recent.append(self._sweep())
            if len(recent) > FINAL_WINDOW and recent[-1] > (1 - FINAL_WORTH) * recent[-1 - FINAL_WINDOW]:
                break
        return recent[-1]

    def _sweep(self) -> float:
        energy, work = self.iteration.sweep()
        residual = self.measure(energy, work)
        if not residual == residual or residual == float("inf"):
            raise _Stop(Status.FAILED, "the residual is not finite")
        rank = self.iteration.rank + self.lifted
        record = Record(len(self.history) + 1, rank, residual, time.perf_counter() - self.began)
        self.history.append(record)
        if self.best is None or residual <= self.best[0]:
            self.best = (residual, self.iteration.balanced())
        self.progress.step(record)
        logger.debug("sweep %d: rank %d, residual %.3e, %.3f s", *record)
        answer = None if self.callback is None else self.callback(record)
        if isinstance(answer, bool | np.bool_) and answer:
            raise _Stop(Status.INTERRUPTED, "stopped by the callback")
        return residual
