"""Forms that are polynomial in an unknown: the weak form of nonlinear problems."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, final

from sepnet.coefficients import finite
from sepnet.nonlinear import NonlinearOperator
from sepnet.operators import Operator
from sepnet.terms import Term

if TYPE_CHECKING:
    from sepnet.spaces import TensorSpace

__all__ = ["NonlinearForm"]


@final
@dataclass(frozen=True, eq=False)
class NonlinearForm:
    """A sum of integrals ``sum int R(u) (S v)``, polynomial in the unknown u and linear in the test function v.

    It comes from `inner` with an expression in the unknown as first argument.

    Parameters
    ----------
    space : TensorSpace
        Space of the unknown and of the test functions.
    parts : tuple of (NonlinearOperator, Operator)
        Expression and test operator of each integral.
    """

    space: TensorSpace
    parts: tuple[tuple[NonlinearOperator, Operator], ...] = ()

    @classmethod
    def from_pairs(cls, space: TensorSpace, pairs: Iterable[tuple[Term, Term]]) -> NonlinearForm:
        """Return a bilinear form, given by its trial and test terms, as a form in the unknown."""
        u = space.unknown
        return cls(space, tuple((u.under(Operator(space, (a,))), Operator(space, (b,))) for a, b in pairs))

    def __add__(self, other: object) -> NonlinearForm:
        """Add a form on the same space."""
        if not isinstance(other, NonlinearForm):
            return self if isinstance(other, Real) and other == 0 else NotImplemented
        if other.space != self.space:
            msg = f"forms on different spaces meet, {self.space!r} and {other.space!r}: rebind one with a.on(W)"
            raise ValueError(msg)
        return NonlinearForm(self.space, (*self.parts, *other.parts))

    __radd__ = __add__

    def __rmul__(self, weight: object) -> NonlinearForm:
        """Scale by a number; coefficients belong into the expressions, ``inner(c * d.x(u), d.x)``."""
        if not isinstance(weight, Real):
            return NotImplemented
        number = finite(float(weight), "the factor of a form")
        return NonlinearForm(self.space, tuple((number * a, b) for a, b in self.parts))

    __mul__ = __rmul__

    def __truediv__(self, other: object) -> NonlinearForm:
        """Divide by a number."""
        return (1.0 / float(other)) * self if isinstance(other, Real) else NotImplemented

    def __neg__(self) -> NonlinearForm:
        """Change the sign."""
        return -1.0 * self

    def __sub__(self, other: object) -> NonlinearForm:
        """Subtract a form on the same space."""
        return self + (-other) if isinstance(other, NonlinearForm) else NotImplemented

    __array_ufunc__ = None

    def __repr__(self) -> str:
        """Tell the number of integrals and the degree."""
        return (
            f"NonlinearForm({len(self.parts)} integrals over {', '.join(self.space.names)}, of degree {self.degree} in "
            "the unknown)"
        )

    @property
    def degree(self) -> int:
        """Degree of the polynomial in the unknown."""
        return max((expression.degree for expression, _ in self.parts), default=0)

    def on(self, space: TensorSpace) -> NonlinearForm:
        """Return the same form on another space with the same axes."""
        return NonlinearForm(space, tuple((a.on(space), b.on(space)) for a, b in self.parts))
