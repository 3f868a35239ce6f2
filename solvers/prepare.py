"""What is common to all ways of solving: a problem, assembled, with the options that apply to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import final

from sepnet.functions import CP
from sepnet.problems import Galerkin, LeastSquares, Problem
from sepnet.solvers.kronecker_sum import KroneckerSum
from sepnet.solvers.lifting import Lift
from sepnet.solvers.normal_form import NormalForm, normal_form
from sepnet.solvers.options import DEFAULT_RANK, Options
from sepnet.solvers.record import Saved
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.solvers.system import System
from sepnet.spaces import TensorSpace

__all__ = ["Prepared", "highest_rank", "put", "unknown_rank"]


@final
@dataclass(frozen=True)
class Prepared:
    """An assembled problem.

    Parameters
    ----------
    problem : LeastSquares or Galerkin
        What is solved.
    lift : Lift
        Its lifted data.
    system : System
        The assembled tables; its unknown is ``(u - lift) / system.scale``.
    matrix, load : SeparableMatrix, SeparableVector
        The same as linear system, on the host.
    options : Options
        What the user asked for.
    saved : Saved, optional
        Where an earlier run stood.
    norm : KroneckerSum, optional
        The Riesz map of the test space, where it is not the one read off the form.
    """

    problem: Problem
    lift: Lift
    system: System
    matrix: SeparableMatrix
    load: SeparableVector
    options: Options
    saved: Saved | None = None
    norm: KroneckerSum | None = None

    @property
    def space(self) -> TensorSpace:
        """The space of the unknown."""
        return self.lift.space

    @property
    def lifted(self) -> int:
        """Rank of the lifted data."""
        return self.lift.function.rank if self.lift.function is not None else 0

    @cached_property
    def symmetric(self) -> bool:
        """Whether the system is symmetric; for Galerkin by its terms, or where they do not show it, by its matrix."""
        if isinstance(self.problem, LeastSquares):
            return True
        return self.problem.bilinear.is_symmetric or self.matrix.is_symmetric()

    @cached_property
    def riesz(self) -> KroneckerSum | None:
        """The Riesz map of the test space, for Galerkin."""
        if self.norm is not None or not isinstance(self.problem, Galerkin):
            return self.norm
        return KroneckerSum.from_form(self.problem.bilinear.on(self.space))

    @cached_property
    def normal(self) -> NormalForm | None:
        """The normal equations in the dual norm, where the system is not symmetric."""
        if self.symmetric or self.riesz is None:
            return None
        return normal_form(self.matrix, self.load, self.riesz)

    @property
    def minimised(self) -> tuple[SeparableMatrix, SeparableVector, float]:
        """The symmetric system that the low-rank methods see, and what its unknown is multiplied with."""
        if self.normal is None:
            return self.matrix, self.load, self.system.scale
        return self.normal.matrix, self.normal.load, self.system.scale * self.normal.reference


def put(function: CP, options: Options) -> CP:
    """Move a function to where the user wants the solution."""
    return function.to(options.xp, device=options.device, dtype=options.dtype)


def unknown_rank(prepared: Prepared) -> int:
    """Return the rank left for v when u may have the rank asked for.

    Raises
    ------
    ValueError
        If the lifted data alone have that rank.
    """
    lifted, rank = prepared.lifted, prepared.options.rank
    left = (rank or DEFAULT_RANK + lifted) - lifted
    if left < 1:
        msg = (
            f"`rank` is {rank}, but the lifted initial and boundary data alone have rank {lifted}: raise it, "
            "or lower theirs, e.g. initial={...: u.restrict(t=...).compress(tol=1e-3)}"
        )
        raise ValueError(msg)
    return left


def highest_rank(shape: Sequence[int]) -> int:
    """Return the product of all sizes but the largest: no tensor has a higher rank."""
    return prod(shape) // max(shape)
