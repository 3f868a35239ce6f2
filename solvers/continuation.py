"""Rank continuation: ALS with a few columns more every few sweeps, until the residual says stop.

From a random start of full rank ALS stalls; grown four columns at a time it does not (the start matters more than the
sweeps). What stops the iteration is the residual, never the change of the energy: a stalled ALS changes little too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, final

from sepnet.solvers.record import Status
from sepnet.solvers.run import Iteration, Run, Stop

__all__ = ["Growing", "RankContinuation", "sweep_on"]

# Columns added at a time; fewer waste sweeps, more start to stall (4 is what the 6-D problem likes best).
COLUMNS = 4
# Sweeps between two additions: at least, at most, and the relative fall of the residual that is worth another one.
LEAST_SWEEPS, MOST_SWEEPS, WORTH = 2, 6, 0.05
# At the last rank: sweeps at most, and the fall over five sweeps below which the residual stagnates.
FINAL_SWEEPS, FINAL_WINDOW, FINAL_WORTH = 60, 5, 0.01
# Two additions in a row that lower the residual by less than this share: the rank is not what is missing.
RANK_HELPS = 0.02


def sweep_on(run: Run, iteration: Iteration, goal: float, stalled: Callable[[], bool] = lambda: False) -> float:
    """Sweep until the residual meets the goal or stagnates, or the iteration says that it stalled, and return it."""
    recent = [run.residual]
    for _ in range(FINAL_SWEEPS):
        if recent[-1] <= goal or stalled():
            break
        recent.append(run.sweep(iteration))
        if len(recent) > FINAL_WINDOW and recent[-1] > (1 - FINAL_WORTH) * recent[-1 - FINAL_WINDOW]:
            break
    return recent[-1]


class Growing(Iteration, Protocol):
    """An iteration that takes more columns."""

    def grow(self, columns: int) -> None:
        """Append columns to every factor."""
        ...


@final
class RankContinuation:
    """The strategy.

    Parameters
    ----------
    run : Run
        Carries out the sweeps.
    iteration : Growing
        Fresh, or started from a function of some rank.
    rank : int
        Largest number of columns.
    goal : float
        Relative residual at which to stop; zero to go on until it stagnates.
    columns : int, optional
        Columns added at a time.
    most : int, optional
        Sweeps between two additions, at most.
    polish : callable, optional
        Improves the iterate at a given rank and returns its residual; by default more sweeps, until they stagnate.
    """

    def __init__(
        self,
        run: Run,
        iteration: Growing,
        *,
        rank: int,
        goal: float,
        columns: int = COLUMNS,
        most: int = MOST_SWEEPS,
        polish: Callable[[float], float] | None = None,
    ) -> None:
        self.run, self.iteration, self.rank, self.goal = run, iteration, rank, goal
        self.columns, self.most, self.polish = columns, most, polish or self._sweep_on

    def __call__(self) -> None:
        """Add columns until the rank is reached, then sweep until the residual stagnates.

        Raises
        ------
        Stop
            With the status, unless the goal is reached.
        """
        useless, before = 0, float("inf")
        helps = RANK_HELPS * self.columns / COLUMNS
        if self.iteration.rank > 0 and (self.run.look(self.iteration) <= self.goal or self._sweeps() <= self.goal):
            return
        while self.iteration.rank < self.rank:
            before = self.run.residual
            self.iteration.grow(min(self.columns, self.rank - self.iteration.rank))
            after = self._sweeps()
            if after <= self.goal:
                return
            useless = useless + 1 if after > (1 - helps) * before else 0
            if useless >= 2:
                # Sweep on before giving up: a swamp looks the same.
                polished = self.polish(self.goal)
                if polished <= self.goal:
                    return
                if polished > (1 - helps) * before:
                    raise Stop(Status.STAGNATED)
                useless = 0
        final = self.polish(self.goal)
        if final > self.goal:
            raise Stop(Status.STAGNATED if final > (1 - helps) * before else Status.RANK_LIMITED)

    def _sweeps(self) -> float:
        residual = self.run.sweep(self.iteration)
        for k in range(1, self.most):
            if residual <= self.goal:
                break
            previous, residual = residual, self.run.sweep(self.iteration)
            if k + 1 >= LEAST_SWEEPS and residual > (1 - WORTH) * previous:
                break
        return residual

    def _sweep_on(self, goal: float) -> float:
        return sweep_on(self.run, self.iteration, goal)
