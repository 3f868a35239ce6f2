"""Linear differential operators with separable coefficients, as an algebra."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, final

import numpy as np

from sepnet.coefficients import Coefficient, Doubts, Source, as_coefficient, compose_doubts
from sepnet.terms import Factor, Term, collect, compose, multiply

if TYPE_CHECKING:
    from sepnet.nonlinear import NonlinearOperator
    from sepnet.spaces import TensorSpace

__all__ = ["Derivatives", "Operator"]


@final
@dataclass(frozen=True, eq=False)
class Operator:
    """A sum of separable terms ``weight * prod_i c_i(x_i) d^k_i/dx_i^k_i`` on a space.

    Operators come from ``V.d`` and ``V.identity``. They are added, scaled by numbers, multiplied from the left by
    coefficients (``x * d.y``), raised to powers (``d.x**2``), composed with ``@`` and restricted to a face with `at`.

    Parameters
    ----------
    space : TensorSpace
        The space the operator acts on.
    terms : tuple of Term
        Terms in normal form.
    doubts : tuple of (float, tuple of Term), optional
        How far the operator may be off the one it stands for, from coefficients that were separated approximately:
        ``|L u - terms u| <= sum_k delta_k |T_k u|`` pointwise.
    """

    space: TensorSpace
    terms: tuple[Term, ...] = ()
    doubts: Doubts = ()

    def __repr__(self) -> str:
        """Tell the number of terms and the highest orders."""
        orders = {a: max(t.factor(a).order for t in self.terms) for a in self.space.names} if self.terms else {}
        shown = ", ".join(f"d.{a}**{k}" if k > 1 else f"d.{a}" for a, k in orders.items() if k)
        return f"Operator({len(self.terms)} separable terms{': ' + shown if shown else ''})"

    def _same(self, other: Operator) -> None:
        if other.space != self.space:
            msg = f"operators on different spaces meet, {self.space!r} and {other.space!r}: rebind one with L.on(W)"
            raise ValueError(msg)

    def __add__(self, other: object) -> Operator:
        """Add an operator on the same space."""
        if isinstance(other, Operator):
            self._same(other)
            return Operator(self.space, collect((*self.terms, *other.terms)), (*self.doubts, *other.doubts))
        # The builtin sum() starts from 0.
        return self if isinstance(other, Real) and other == 0 else self._refuse(other, "+")

    __radd__ = __add__

    def __neg__(self) -> Operator:
        """Change the sign."""
        return Operator(self.space, tuple(Term(-t.weight, t.factors) for t in self.terms), self.doubts)

    def __sub__(self, other: object) -> Operator:
        """Subtract an operator on the same space."""
        return self + (-other) if isinstance(other, Operator) else self._refuse(other, "-")

    def __rsub__(self, other: object) -> Operator:
        """Refuse, with the next step."""
        return self._refuse(other, "-")

    def _refuse(self, other: object, sign: str) -> Operator:
        if isinstance(other, Real | Coefficient):
            msg = f"an operator {sign} a coefficient: write `c * V.identity` for multiplication by c"
            raise TypeError(msg)
        if hasattr(other, "under"):
            msg = f"an operator {sign} an expression in the unknown: apply the operator to it, e.g. d.x(u)"
            raise TypeError(msg)
        msg = f"an operator {sign} {type(other).__name__}, expected another operator on the same space"
        raise TypeError(msg)

    def __rmul__(self, other: object) -> Operator:
        """Multiply from the left by a number, a coefficient or a separable function."""
        if isinstance(other, Real | Coefficient) or hasattr(other, "as_coefficient"):
            coefficient = as_coefficient(other, "the coefficient")
            self.space.check_axes(coefficient.axes, "the coefficient")
            doubts = compose_doubts(coefficient.terms, coefficient.doubts, self.terms, self.doubts)
            return Operator(self.space, multiply(coefficient.terms, self.terms), doubts)
        return NotImplemented

    def __mul__(self, other: object) -> Operator:
        """Multiply by a number; anything else is refused, with the next step."""
        if isinstance(other, Real):
            return self.__rmul__(other)
        if hasattr(other, "under"):
            msg = "an operator * an expression in the unknown: apply the operator to it, e.g. d.x(u)"
            raise TypeError(msg)
        msg = f"operator * {type(other).__name__}: write `c * L` for a coefficient, `L1 @ L2` for composition"
        raise TypeError(msg)

    def __truediv__(self, other: object) -> Operator:
        """Divide by a number."""
        return self.__rmul__(1.0 / float(other)) if isinstance(other, Real) else NotImplemented

    __array_ufunc__ = None

    def __matmul__(self, other: object) -> Operator:
        """Compose: ``(L1 @ L2) u = L1 (L2 u)``."""
        if not isinstance(other, Operator):
            return NotImplemented
        self._same(other)
        doubts = compose_doubts(self.terms, self.doubts, other.terms, other.doubts)
        return Operator(self.space, compose(self.terms, other.terms), doubts)

    def __pow__(self, exponent: int) -> Operator:
        """Compose with itself; the power 0 is the identity."""
        if isinstance(exponent, bool) or not isinstance(exponent, int | np.integer) or exponent < 0:
            msg = f"the exponent of an operator is {exponent!r}, expected an integer >= 0"
            raise TypeError(msg)
        result = Operator(self.space, (Term(),))
        for _ in range(exponent):
            result = result @ self
        return result

    def __call__(self, expression: NonlinearOperator) -> NonlinearOperator:
        """Apply to an expression in the unknown ``V.unknown``: ``d.x(u)``, ``d.x(u**2)``.

        Functions and data are what `apply` is for.
        """
        if not hasattr(expression, "under"):
            msg = (
                f"an operator is called with {type(expression).__name__}, expected an expression in the unknown, such "
                "as u = V.unknown: for data there is L.apply(data)"
            )
            raise TypeError(msg)
        return expression.under(self)

    def at(self, **faces: float) -> Operator:
        """Evaluate on the face ``axis = value``, after the operator.

        Parameters
        ----------
        **faces : float
            Axis name to a position in that axis's domain (several axes: an edge).

        Returns
        -------
        Operator

        Raises
        ------
        ValueError
            If a position lies outside the domain, or the operator is already evaluated there.
        """
        if not faces:
            msg = "`at` needs a face, e.g. L.at(x=1)"
            raise ValueError(msg)
        self.space.check_axes(faces, "the face")
        several = [self.terms, *(terms for _, terms in self.doubts)]
        for axis, value in faces.items():
            low, high = self.space.axes[axis].domain
            if isinstance(value, bool) or not isinstance(value, Real):
                msg = f"at({axis}={value!r}): expected a number in [{low:g}, {high:g}]"
                raise TypeError(msg)
            if not low <= float(value) <= high:
                msg = f"at({axis}={value}) lies outside the axis's domain [{low:g}, {high:g}]"
                raise ValueError(msg)
            several = [tuple(_evaluate(t, axis, float(value)) for t in terms) for terms in several]
        terms, *moved = map(collect, several)
        doubts = tuple((delta, t) for (delta, _), t in zip(self.doubts, moved, strict=True))
        return Operator(self.space, terms, doubts)

    @property
    def face(self) -> dict[str, float]:
        """The face on which the operator is evaluated, axis name to position; empty inside the box.

        Raises
        ------
        ValueError
            If its terms are evaluated on different faces.
        """
        faces = {tuple((a, f.at) for a, f in term.factors if f.at is not None) for term in self.terms}
        if len(faces) > 1:
            shown = " and ".join(sorted(", ".join(f"{a}={v:g}" for a, v in f) or "inside the box" for f in faces))
            msg = f"the terms of an operator are evaluated at {shown}: write one condition for each face"
            raise ValueError(msg)
        return {a: float(v) for a, v in next(iter(faces), ())}

    def apply(self, data: Source) -> Coefficient:
        """Return ``L data`` for differentiable data; evaluated on a face, it is constant along that axis.

        Parameters
        ----------
        data : number, Coefficient or separable function
            Callables in it need their derivatives, ``sn.apply(f, x, derivatives=[...])``.

        Returns
        -------
        Coefficient

        Examples
        --------
        >>> import sepnet as sn
        >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4))
        >>> (x,) = V.coordinates
        >>> float((x * V.d.x).apply(x**3)([[0.5]], ["x"])[0])
        0.375
        """
        expression = as_coefficient(data, "data")
        self.space.check_axes(expression.axes, "`data`")
        composed = compose(self.terms, expression.terms)
        doubts = compose_doubts(self.terms, self.doubts, expression.terms, expression.doubts)
        return Coefficient(_as_values(composed), tuple((delta, _as_values(terms)) for delta, terms in doubts))

    def on(self, space: TensorSpace) -> Operator:
        """Return the same operator on another space with the same axes."""
        if space.names != self.space.names:
            msg = f"the new space has the axes {space.names}, expected {self.space.names}"
            raise ValueError(msg)
        return Operator(space, self.terms, self.doubts)


def _evaluate(term: Term, axis: str, value: float) -> Term:
    factors = dict(term.factors)
    factor = term.factor(axis)
    if factor.at is not None:
        msg = f"at({axis}={value:g}): the operator is already evaluated at {axis} = {factor.at:g}"
        raise ValueError(msg)
    factors[axis] = Factor(factor.coefficient, factor.order, value)
    return Term(term.weight, tuple(sorted(factors.items())))


def _as_values(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    """Return what an operator composed with data is: its terms without derivatives of the unknown, on the faces."""
    return collect(_values_on_faces(t) for t in terms if all(f.order == 0 for _, f in t.factors))


def _values_on_faces(term: Term) -> Term:
    weight, factors = term.weight, []
    for axis, factor in term.factors:
        if factor.at is None:
            factors.append((axis, factor))
        else:
            weight *= float(factor.coefficient(np.array([factor.at]))[0])
    return Term(weight, tuple(factors)) if weight != 0.0 else Term(0.0)


@final
@dataclass(frozen=True)
class Derivatives:
    """The partial derivatives of a space, ``d.x``, ``d.t``; also ``d["x"]``."""

    _space: TensorSpace

    def __getattr__(self, axis: str) -> Operator:
        """Return the first partial derivative along `axis`."""
        if axis.startswith("__"):
            raise AttributeError(axis)
        return self[axis]

    def __getitem__(self, axis: str) -> Operator:
        """Return the first partial derivative along `axis`."""
        if axis not in self._space.axes:
            msg = f"no axis {axis!r}, expected one of {', '.join(self._space.names)}"
            raise AttributeError(msg)
        return Operator(self._space, (Term(1.0, ((axis, Factor(order=1)),)),))

    def __iter__(self) -> Iterator[Operator]:
        """Iterate over the partial derivatives in axis order."""
        return (self[axis] for axis in self._space.names)
