"""Progress meters: an object with a null default, so that solvers never print on their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

from sepnet.solvers.record import Record

__all__ = ["BarProgress", "NoProgress", "Progress", "make_progress"]


class Progress(ABC):
    """What a solver tells while it runs."""

    @abstractmethod
    def step(self, record: Record) -> None:
        """Tell about one sweep."""

    @abstractmethod
    def close(self) -> None:
        """Tell that the iteration has ended."""


@final
class NoProgress(Progress):
    """Says nothing."""

    def step(self, record: Record) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Say nothing."""


@final
class BarProgress(Progress):
    """A tqdm bar that counts sweeps or steps and shows rank and residual."""

    def __init__(self, what: str) -> None:
        from tqdm import tqdm

        self._bar = tqdm(leave=True, bar_format=f"{{n}} {what} [{{elapsed}}{{postfix}}]")

    def step(self, record: Record) -> None:
        """Move the bar by one sweep."""
        self._bar.set_postfix_str(f"rank {record.rank}, residual {record.residual:.3e}", refresh=False)
        self._bar.update(1)

    def close(self) -> None:
        """Close the bar."""
        self._bar.refresh()
        self._bar.close()


def make_progress(progress: bool, what: str) -> Progress:
    """Return a bar that counts, e.g. ``"sweeps"``, if `progress`, else nothing to see."""
    return BarProgress(what) if progress else NoProgress()
