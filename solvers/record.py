"""What is known of a run: why it ended, its sweeps, and what it needs to go on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, final

from sepnet.backends.arrays import Array

__all__ = ["Record", "Saved", "State", "Status"]


@final
class Status(Enum):
    """Why a solve ended. The value is the sentence for the user, with the next step."""

    CONVERGED = "The residual is below the tolerance."
    RANK_LIMITED = "The rank asked for does not reach the tolerance: raise rank=."
    MESH_LIMITED = "The residual no longer falls with the rank: refine the axis named in `refine`."
    STAGNATED = "The residual stagnates above the tolerance: try another seed=, or a larger rank=."
    INTERRUPTED = "The solve was interrupted; u is the best function so far: solve again to go on."
    FAILED = "The solve failed; u is the last sound function: see `message`."


class Record(NamedTuple):
    """One sweep: number, rank with the lifted data, relative residual, seconds since the start of the iteration."""

    sweep: int
    rank: int
    residual: float
    seconds: float


@final
@dataclass(frozen=True)
class State:
    """What an iteration needs to go on: arrays by name, and numbers and texts that JSON knows.

    The arrays are those of the iteration, which writes into none of them, so that to keep a state costs nothing. They
    are copied to the host when a file is written; those read from a file are on the host.
    """

    arrays: dict[str, list[Array]]
    numbers: dict[str, Any]


@final
@dataclass(frozen=True)
class Saved:
    """What a run needs to go on: its history, the best iterate, and the states of its iterations in order of use."""

    history: tuple[Record, ...]
    best: tuple[float, list[Array]]
    states: tuple[State, ...]
