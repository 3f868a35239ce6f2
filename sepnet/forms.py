"""Bilinear and linear forms over a tensor space: ``inner`` and ``load_on``."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, final

from sepnet.coefficients import Coefficient, Source, as_coefficient, finite
from sepnet.operators import Operator
from sepnet.terms import Term

if TYPE_CHECKING:
    from sepnet.spaces import TensorSpace

__all__ = ["BilinearForm", "LinearForm", "as_linear_form", "check_derivatives", "inner", "load_on"]


@final
@dataclass(frozen=True, eq=False)
class BilinearForm:
    """A sum of integrals ``a(u, v) = sum_m w_m  int (T_m u) (S_m v)`` with separable trial and test operators.

    Parameters
    ----------
    space : TensorSpace
        Trial and test space.
    pairs : tuple of (Term, Term)
        Trial and test term of each integral.
    """

    space: TensorSpace
    pairs: tuple[tuple[Term, Term], ...] = ()

    def __add__(self, other: object) -> BilinearForm:
        """Add a form on the same space."""
        if not isinstance(other, BilinearForm):
            return NotImplemented
        if other.space != self.space:
            msg = f"forms on different spaces meet, {self.space!r} and {other.space!r}: rebind one with a.on(W)"
            raise ValueError(msg)
        return BilinearForm(self.space, (*self.pairs, *other.pairs))

    def __radd__(self, other: object) -> BilinearForm:
        """Let the builtin ``sum`` start from 0."""
        return self if isinstance(other, Real) and other == 0 else NotImplemented

    def __truediv__(self, other: object) -> BilinearForm:
        """Divide by a number."""
        return (1.0 / float(other)) * self if isinstance(other, Real) else NotImplemented

    def __rmul__(self, weight: object) -> BilinearForm:
        """Scale by a number; coefficients belong into the operators, ``inner(c * d.x, d.x)``."""
        if not isinstance(weight, Real):
            if isinstance(weight, Coefficient):
                msg = "coefficient * form: write the coefficient inside, sn.inner(c * d.x, d.x)"
                raise TypeError(msg)
            return NotImplemented
        number = finite(float(weight), "the factor of a form")
        scaled = tuple((Term(number * a.weight, a.factors), b) for a, b in self.pairs) if number else ()
        return BilinearForm(self.space, scaled)

    __mul__ = __rmul__

    def __neg__(self) -> BilinearForm:
        """Change the sign."""
        return -1.0 * self

    def __sub__(self, other: object) -> BilinearForm:
        """Subtract a form on the same space."""
        return self + (-other) if isinstance(other, BilinearForm) else NotImplemented

    __array_ufunc__ = None

    def on(self, space: TensorSpace) -> BilinearForm:
        """Return the same form on another space with the same axes."""
        if space.names != self.space.names:
            msg = f"the new space has the axes {space.names}, expected {self.space.names}"
            raise ValueError(msg)
        return BilinearForm(space, self.pairs)

    @property
    def is_symmetric(self) -> bool:
        """Whether ``a(u, v) = a(v, u)``, read off the integrals: exchanging trial and test gives the same sum."""
        sums: dict[object, float] = {}
        for trial, test in self.pairs:
            weight = trial.weight * test.weight
            orders, functions = [], []
            for axis in sorted({*trial.axes, *test.axes}):
                a, b = trial.factor(axis), test.factor(axis)
                scale, coefficient = (a.coefficient * b.coefficient).normalised()
                weight *= scale
                functions.append((axis, coefficient, a.at))
                orders.append((a.order, b.order))
            swapped = [(b, a) for a, b in orders]
            for key, sign in ((orders, 1.0), (swapped, -1.0)):
                name = (tuple(functions), tuple(key))
                sums[name] = sums.get(name, 0.0) + sign * weight
        size = max((abs(t.weight * s.weight) for t, s in self.pairs), default=0.0)
        return all(abs(rest) <= 1e-12 * size for rest in sums.values())

    def __repr__(self) -> str:
        """Tell the number of integrals."""
        return f"BilinearForm({len(self.pairs)} separable integrals over {', '.join(self.space.names)})"


@final
@dataclass(frozen=True, eq=False)
class LinearForm:
    """A sum of integrals ``f(v) = sum int g (S v)`` with separable data and test operators.

    Parameters
    ----------
    space : TensorSpace
        Test space.
    parts : tuple of (Coefficient, Operator)
        Data and test operator of each integral.
    """

    space: TensorSpace
    parts: tuple[tuple[Coefficient, Operator], ...] = ()

    def __add__(self, other: object) -> LinearForm:
        """Add a linear form, or data (tested with the identity)."""
        if isinstance(other, LinearForm):
            self._same(other)
        form = as_linear_form(other, self.space, "the summand")
        return LinearForm(self.space, (*self.parts, *form.parts))

    def _same(self, other: LinearForm) -> None:
        if other.space != self.space:
            msg = f"forms on different spaces meet, {self.space!r} and {other.space!r}: rebind one with f.on(W)"
            raise ValueError(msg)

    __radd__ = __add__

    def __neg__(self) -> LinearForm:
        """Change the sign."""
        return LinearForm(self.space, tuple((-g, op) for g, op in self.parts))

    def __sub__(self, other: object) -> LinearForm:
        """Subtract a linear form or data."""
        if isinstance(other, LinearForm):
            self._same(other)
        return self + (-as_linear_form(other, self.space, "the subtrahend"))

    def __rsub__(self, other: object) -> LinearForm:
        """Subtract from data."""
        return (-self) + other

    def __rmul__(self, weight: object) -> LinearForm:
        """Scale by a number."""
        if not isinstance(weight, Real):
            if isinstance(weight, Coefficient):
                msg = "coefficient * form: write the coefficient inside, sn.load_on(c * g, test)"
                raise TypeError(msg)
            return NotImplemented
        number = finite(float(weight), "the factor of a form")
        return LinearForm(self.space, tuple((number * g, op) for g, op in self.parts) if number else ())

    __mul__ = __rmul__

    def __truediv__(self, other: object) -> LinearForm:
        """Divide by a number."""
        return (1.0 / float(other)) * self if isinstance(other, Real) else NotImplemented

    def on(self, space: TensorSpace) -> LinearForm:
        """Return the same form on another space with the same axes."""
        if space.names != self.space.names:
            msg = f"the new space has the axes {space.names}, expected {self.space.names}"
            raise ValueError(msg)
        return LinearForm(space, tuple((g, op.on(space)) for g, op in self.parts))

    __array_ufunc__ = None

    def __repr__(self) -> str:
        """Tell the number of parts."""
        return f"LinearForm({len(self.parts)} loads over {', '.join(self.space.names)})"


def inner(trial: Operator, test: Operator) -> BilinearForm:
    """Return the bilinear form ``(u, v) -> int (trial u) (test v)``.

    Parameters
    ----------
    trial, test : Operator
        Operators on the same space. Evaluated on a face with ``.at(x=1)``, both of them, the integral is over the face.

    Returns
    -------
    BilinearForm

    Raises
    ------
    TypeError
        If an argument is no operator.
    ValueError
        If the spaces differ, only one side is evaluated on a face, or an axis lacks the derivatives.

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8, zero="left"))
    >>> sn.inner(V.d.x, V.d.x) + sn.inner(2 * V.identity.at(x=1), V.identity.at(x=1))
    BilinearForm(2 separable integrals over x)
    """
    for name, value in (("trial", trial), ("test", test)):
        if not isinstance(value, Operator):
            msg = f"sn.inner: `{name}` is {type(value).__name__}, expected an operator such as V.d.x or c * V.identity"
            raise TypeError(msg)
    if trial.space != test.space:
        msg = f"sn.inner: trial and test operator are on different spaces, {trial.space!r} and {test.space!r}"
        raise ValueError(msg)
    pairs = tuple((a, b) for a in trial.terms for b in test.terms)
    for a, b in pairs:
        for axis in {*a.axes, *b.axes}:
            if a.factor(axis).at != b.factor(axis).at:
                msg = (
                    f"sn.inner: one operator is evaluated at {axis} = {a.factor(axis).at}, the other at "
                    f"{b.factor(axis).at}: evaluate both on the same face with .at({axis}=...)"
                )
                raise ValueError(msg)
    check_derivatives(trial)
    check_derivatives(test)
    return BilinearForm(trial.space, pairs)


def load_on(data: Source, test: Operator) -> LinearForm:
    """Return the linear form ``v -> int data (test v)``, over a face if `test` is evaluated there.

    Parameters
    ----------
    data : number, Coefficient or separable function
        The load.
    test : Operator
        The test operator, e.g. ``V.identity.at(x=1)`` for a Neumann condition, ``V.d.x`` for a load in divergence form.

    Returns
    -------
    LinearForm

    Raises
    ------
    TypeError
        If `test` is no operator or `data` is no data.
    """
    if not isinstance(test, Operator):
        msg = f"sn.load_on: `test` is {type(test).__name__}, expected an operator such as V.identity.at(x=1)"
        raise TypeError(msg)
    check_derivatives(test)
    coefficient = as_coefficient(data, "data")
    test.space.check_axes(coefficient.axes, "sn.load_on: `data`")
    return LinearForm(test.space, ((coefficient, test),))


def as_linear_form(value: object, space: TensorSpace, name: str) -> LinearForm:
    """Return data or a linear form as a linear form on `space` (data are tested with the identity)."""
    if isinstance(value, LinearForm):
        return value.on(space) if value.space != space else value
    coefficient = as_coefficient(value, name)
    space.check_axes(coefficient.axes, f"`{name}`")
    return LinearForm(space, ((coefficient, space.identity),))


def check_derivatives(operator: Operator) -> None:
    """Refuse terms that need more derivatives than an axis has."""
    for term in operator.terms:
        for axis, factor in term.factors:
            basis = operator.space.axes[axis]
            if factor.order > basis.max_order:
                msg = (
                    f"the term with d.{axis}**{factor.order} needs {factor.order} derivatives on axis {axis!r}, which "
                    f"has {basis.max_order} ({basis!r}): raise degree= (and continuity=), or use the weak form, "
                    f"e.g. sn.inner(d.{axis}, d.{axis})"
                )
                raise ValueError(msg)
