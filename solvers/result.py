"""What a solve returns: the function, its residual, and why the iteration ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, final

from sepnet.functions import CP

__all__ = ["Record", "Solution", "Status"]


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
class Solution:
    """The result of `solve`.

    Parameters
    ----------
    u : CP
        The solution, initial and boundary data included.
    residual : float
        Relative residual. Least squares: ``||L u - f|| / ||f - L lift||``, conditions included. Symmetric Galerkin: the
        dual norm of ``A u - f`` over that of ``f``, with the Kronecker-sum part of the form as Riesz map; for a form
        that is its own Kronecker sum, such as Poisson's, this is the relative energy distance to the discrete
        solution. ``method="full"`` with Galerkin: the Euclidean norm of the linear system's residual over that of its
        load.
    residual_norm : float
        The same, absolute.
    status : Status
        Why the iteration ended.
    history : tuple of Record
        One record a sweep.
    data_error : float
        Relative L2 error of the projected initial and boundary data; not part of the residual.
    seconds : float
        Time of the iteration, without assembly.
    refine : str or None
        With MESH_LIMITED: the axis whose refinement lowers the residual most, measured.
    message : str
        Details of a failure, or empty.
    """

    u: CP
    residual: float
    residual_norm: float
    status: Status
    history: tuple[Record, ...] = ()
    data_error: float = 0.0
    seconds: float = 0.0
    refine: str | None = None
    message: str = ""

    @property
    def converged(self) -> bool:
        """True when the status is CONVERGED."""
        return self.status is Status.CONVERGED

    def __repr__(self) -> str:
        """One screen: function, status with the next step, residual, data error, time."""
        hint = f" (axis {self.refine!r})" if self.refine else ""
        lines = [
            f"Solution of {self.u!r}",
            f"  status      {self.status.name}: {self.status.value}{hint}",
            f"  residual    {self.residual:.3e} relative, {self.residual_norm:.3e} absolute",
            f"  data error  {self.data_error:.3e}",
            f"  work        {len(self.history)} sweeps, {self.seconds:.3g} s",
        ]
        if self.message:
            lines.append(f"  message     {self.message}")
        return "\n".join(lines)
