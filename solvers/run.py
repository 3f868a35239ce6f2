"""One run of an iteration: its history, its best iterate, and the ways in which it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np

from sepnet.backends.arrays import Array
from sepnet.solvers.axis_systems import NotPositiveDefiniteError
from sepnet.solvers.on_device import beside
from sepnet.solvers.progress import Progress
from sepnet.solvers.record import Record, Saved, State, Status

__all__ = ["Iteration", "Outcome", "Run", "Stop"]

logger = logging.getLogger(__name__)


class Iteration(Protocol):
    """What a run needs of an iteration."""

    @property
    def rank(self) -> int:
        """Present rank."""
        ...

    @property
    def sweep(self) -> Callable[..., tuple[float, float]]:
        """The method that goes on by one sweep and returns ``a(u, u)`` and ``f(u)``; options are its own."""
        ...

    def present(self) -> tuple[float, float]:
        """Return ``a(u, u)`` and ``f(u)`` of the present iterate."""
        ...

    def balanced(self) -> list[Array]:
        """Return the factors or cores of the present iterate."""
        ...

    def state(self) -> State:
        """Return all that the next sweep depends on."""
        ...

    def restore(self, state: State) -> None:
        """Go back to a state; what follows is the same to the last bit."""
        ...


@final
@dataclass(frozen=True)
class Outcome:
    """How the iteration ended: factors (or cores) of the best sweep, its residual, status, history, message."""

    factors: list[Array]
    residual: float
    status: Status
    history: tuple[Record, ...]
    message: str = ""


@final
class Stop(Exception):  # noqa: N818 - it is no error
    """Raised inside a strategy to end the run with a status."""

    def __init__(self, status: Status, message: str = "") -> None:
        super().__init__(message)
        self.status, self.message = status, message


@final
class Run:
    """Carries out sweeps and keeps their history and the best iterate.

    Parameters
    ----------
    measure : callable
        Takes ``a(u, u)`` and ``f(u)`` after a sweep and returns the relative residual.
    lifted : int
        Rank of the lifted data, which the records count in.
    progress : Progress
        Told about every sweep.
    callback : callable, optional
        Called with every record; returning True interrupts the solve.
    keep : callable, optional
        Called after every sweep with what is to be saved, and at the end once more, with True beside it.
    saved : Saved, optional
        Where an earlier run stood: its sweeps are not carried out again. A strategy decides by residuals alone, so that
        it takes the same way through the history; at its end the iterations are set to the states that were saved.
    """

    def __init__(
        self,
        measure: Callable[[float, float], float],
        *,
        lifted: int,
        progress: Progress,
        callback: Callable[[Record], object] | None = None,
        keep: Callable[[Saved, bool], None] | None = None,
        saved: Saved | None = None,
    ) -> None:
        self.measure, self.lifted = measure, lifted
        self.progress, self.callback, self.keep, self.saved = progress, callback, keep, saved
        self.history: list[Record] = []
        self.best: tuple[float, list[Array]] | None = None
        self._iterations: list[Iteration] = []
        self._latest: Saved | None = None
        self.began = time.perf_counter() - (saved.history[-1].seconds if saved and saved.history else 0.0)

    @property
    def residual(self) -> float:
        """The residual of the last sweep; infinite before the first."""
        return self.history[-1].residual if self.history else float("inf")

    @property
    def rank(self) -> int:
        """The rank after the last sweep, without the lifted data; zero before the first."""
        return self.history[-1].rank - self.lifted if self.history else 0

    def sweep(self, iteration: Iteration, *, worth: float = 1.0, **options: Any) -> float:
        """Carry out one sweep and return its residual.

        Parameters
        ----------
        iteration : Iteration
            What sweeps.
        worth : float, optional
            The iterate counts as the best if its residual is at most this multiple of the best one so far.
        **options
            Handed to the iteration.

        Raises
        ------
        Stop
            If the residual is not finite, or the callback says so.
        """
        return self._go_on(iteration, lambda: iteration.sweep(**options), worth)

    def look(self, iteration: Iteration) -> float:
        """Record the iterate that an iteration begins from, as `sweep` does, and return its residual."""
        return self._go_on(iteration, iteration.present, 1.0)

    def _go_on(self, iteration: Iteration, go: Callable[[], tuple[float, float]], worth: float) -> float:
        if all(known is not iteration for known in self._iterations):
            self._iterations.append(iteration)
        if self.saved is not None and len(self.history) < len(self.saved.history):
            return self._repeat(self.saved, iteration, worth)
        energy, work = go()
        residual = self.measure(energy, work)
        if not residual == residual or residual == float("inf"):
            raise Stop(Status.FAILED, "the residual is not finite")
        rank = iteration.rank + self.lifted
        record = Record(len(self.history) + 1, rank, residual, time.perf_counter() - self.began)
        self.history.append(record)
        if self.best is None or residual <= worth * self.best[0]:
            self.best = (residual, iteration.balanced())
        self.progress.step(record)
        logger.debug("sweep %d: rank %d, residual %.3e, %.3f s", *record)
        if self.keep is not None:
            # Taken now, since an interrupt leaves the iterations in the middle of a sweep.
            self._latest = self._save()
            self.keep(self._latest, False)
        answer = None if self.callback is None else self.callback(record)
        if isinstance(answer, bool | np.bool_) and answer:
            raise Stop(Status.INTERRUPTED, "stopped by the callback")
        return residual

    def _repeat(self, saved: Saved, iteration: Iteration, worth: float) -> float:
        """Take a sweep from the history; after the last one set everything to what was saved."""
        record = saved.history[len(self.history)]
        self.history.append(record)
        if self.best is None or record.residual <= worth * self.best[0]:
            self.best = (record.residual, [])
        if len(self.history) == len(saved.history):
            for known, state in zip(self._iterations, saved.states, strict=True):
                known.restore(state)
            like = iteration.balanced()[0]
            self.best = (saved.best[0], [beside(p, like) for p in saved.best[1]])
        return record.residual

    def _save(self) -> Saved:
        residual, parts = self.best if self.best is not None else (float("inf"), [])
        states = tuple(iteration.state() for iteration in self._iterations)
        return Saved(tuple(self.history), (residual, list(parts)), states)

    def outcome(self, strategy: Callable[[], None], tol: float) -> Outcome:
        """Carry out a strategy to its end, whatever that is.

        Raises
        ------
        NotPositiveDefiniteError
            If the very first sweep fails.
        FloatingPointError
            If its residual is not finite.
        """
        try:
            strategy()
            status, message = Status.CONVERGED, ""
        except Stop as stop:
            status, message = stop.status, stop.message
        except KeyboardInterrupt:
            status, message = Status.INTERRUPTED, "interrupted from the keyboard"
        except NotPositiveDefiniteError as error:
            if not self.history:
                raise
            status, message = Status.FAILED, str(error)
        finally:
            self.progress.close()
            if self.keep is not None and self._latest is not None:
                self.keep(self._latest, True)
        if self.best is None:
            if status is Status.FAILED:
                msg = f"{message} after the first sweep: scale the data towards one, or use dtype='float64'"
                raise FloatingPointError(msg)
            raise KeyboardInterrupt
        residual, factors = self.best
        if residual <= tol and status in (Status.RANK_LIMITED, Status.STAGNATED):
            status = Status.CONVERGED
        return Outcome(factors, residual, status, tuple(self.history), message)
