"""The strategy for tensor trains: ranks that grow with the accuracy, in the order of the axes that needs the fewest.

Every sweep adds directions of the residual to all bonds and drops what the accuracy reached does not need, so that the
ranks settle where they are wanted; the last sweep adds none. The order of the axes is decided at the beginning, by
trial: a short run in the order given measures the ranks of all matricisations, these propose other orders, and each is
tried up to the same residual. The order with the fewest coefficients goes on from where its trial stopped. (The
proposal alone is not enough: what counts is the energy norm, and it errs by a factor of two in coefficients.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import final

import numpy as np

from sepnet.backends.arrays import to_host
from sepnet.solvers.axis_order import MOST_AXES, best_order, ranks_at, sampled_values, train_size
from sepnet.solvers.meter import Meter
from sepnet.solvers.record import Status
from sepnet.solvers.run import Run, Stop
from sepnet.solvers.train_als import TrainIteration

__all__ = ["TrainGrowth", "Trial", "choose_order"]

# Directions added to every bond: at least, and as a share of the largest rank.
COLUMNS, SHARE = 4, 0.25
# The part of the residual that rounding may cost in one sweep: it raises the residual by half a per cent.
ROUNDING = 0.1
# Sweeps at most; the fall of the residual over some sweeps below which it stagnates.
MOST_SWEEPS, WINDOW, WORTH = 100, 4, 0.02
# A rounded train counts as no worse up to this factor, where no tolerance says how much it may be.
AS_GOOD = 1.01
# Trials of an order end at this residual, or after so many sweeps; proposals at these multiples of the residual;
# another order must save this share.
PILOT, PILOT_SWEEPS, PROPOSALS, SAVES = 0.01, 8, (1.0, 3.0, 10.0), 0.1
# The share of the coefficients that a proposal must promise for a trial. Of many orders one looks good by chance, by a
# fifth where all axes are alike.
PROMISE = 0.7
# Up to this many axes every order has the same ranks, or there is no other.
FEW_AXES = 2


@final
@dataclass(frozen=True)
class Trial:
    """An iteration in some order of the axes, its meter, and its residual so far: infinite if it is not known."""

    iteration: TrainIteration
    meter: Meter
    residual: float


@final
class TrainGrowth:
    """The strategy.

    Parameters
    ----------
    run : Run
        Carries out the sweeps; it measures by the meter of the trial.
    trial : Trial
        Where to begin.
    rank : int or None
        Largest rank of a bond.
    goal : float
        Relative residual at which to stop; zero to go on until it stagnates.
    """

    def __init__(self, run: Run, trial: Trial, *, rank: int | None, goal: float) -> None:
        self.run, self.trial, self.rank, self.goal = run, trial, rank, goal

    def __call__(self) -> None:
        """Sweep until the goal is reached or the residual stagnates.

        Raises
        ------
        Stop
            With the status, unless the goal is reached.
        """
        iteration = self.trial.iteration
        recent: list[float] = []
        if self.trial.residual == inf:
            recent.append(self.run.look(iteration))
            if recent[-1] <= self.goal:
                return
        for _ in range(MOST_SWEEPS):
            allowed = _allowed(recent[-1] if recent else self.trial.residual, self.trial.meter)
            recent.append(self.run.sweep(iteration, allowed=allowed, columns=_columns(iteration), rank=self.rank))
            if recent[-1] <= self.goal:
                break
            if len(recent) > WINDOW and recent[-1] > (1 - WORTH) * recent[-1 - WINDOW]:
                break
        # From the history, not from the iteration: a run that is resumed takes the same decision.
        full = self.rank is not None and self.run.rank >= self.rank
        self._round(recent[-1])
        if recent[-1] > self.goal:
            raise Stop(Status.RANK_LIMITED if full else Status.STAGNATED)

    def _round(self, residual: float) -> None:
        """Drop the directions that the accuracy does not need."""
        best = self.run.best[0] if self.run.best else residual
        worth = max(self.goal / best, 1.0) if residual <= self.goal and best > 0.0 else AS_GOOD
        spare = max(0.5 * (self.goal**2 - residual**2), (ROUNDING * residual) ** 2)
        allowed = spare * self.trial.meter.unit**2
        self.run.sweep(self.trial.iteration, worth=worth, allowed=allowed, rank=self.rank)


def _allowed(residual: float, meter: Meter) -> float:
    """Return what rounding may add to the functional in one sweep."""
    return (ROUNDING * residual * meter.unit) ** 2


def _columns(iteration: TrainIteration) -> int:
    return max(COLUMNS, int(SHARE * iteration.rank))


def choose_order(make: Callable[[Sequence[int]], Trial], dim: int, *, rank: int | None, goal: float) -> Trial:
    """Return a trial in the order of the axes that needs the fewest coefficients.

    Parameters
    ----------
    make : callable
        Order to a fresh trial.
    dim : int
        Number of axes.
    rank : int or None
        Largest rank of a bond.
    goal : float
        Residual at which a trial may stop.
    """
    given = list(range(dim))
    first = make(given)
    if not FEW_AXES < dim <= MOST_AXES:
        return first
    best = _try(first, max(PILOT, goal), PILOT_SWEEPS, rank)
    level, seen, sweeps = best.residual, [given], PILOT_SWEEPS + 2
    cores = [to_host(c).astype(np.float64) for c in best.iteration.cores]
    sizes, values, smallest = [c.shape[1] for c in cores], sampled_values(cores), best.iteration.size
    for share in PROPOSALS:
        if share * level >= 1.0:
            continue
        ranks = ranks_at(values, share * level)
        order = best_order(ranks, sizes)
        promise = train_size(ranks, sizes, order) / train_size(ranks, sizes, given)
        if order in seen or order[::-1] in seen or promise > PROMISE:
            continue
        seen.append(order)
        other = _try(make(order), level, sweeps, rank, level)
        if other.residual <= (1 + ROUNDING) * level and other.iteration.size < (1 - SAVES) * smallest:
            best, smallest = other, other.iteration.size
    return best


def _try(trial: Trial, goal: float, sweeps: int, rank: int | None, level: float = 0.0) -> Trial:
    """Sweep until the residual is below `goal`, and round to the residual `level`."""
    residual = 1.0
    for _ in range(sweeps):
        allowed = _allowed(residual, trial.meter)
        energy, work = trial.iteration.sweep(allowed=allowed, columns=_columns(trial.iteration), rank=rank)
        residual = trial.meter(energy, work)
        if not residual > goal:
            break
    # Orders are compared without the directions that the last sweep added, and at one residual.
    spare = max(level**2 - residual**2, (ROUNDING * residual) ** 2)
    energy, work = trial.iteration.sweep(allowed=spare * trial.meter.unit**2, rank=rank)
    return Trial(trial.iteration, trial.meter, trial.meter(energy, work))
