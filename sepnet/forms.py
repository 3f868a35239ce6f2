"""Bilinear and linear forms over a tensor space: ``inner`` and ``load_on``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, final, overload

from sepnet.bases.matrix_axis import MASS, Assembled
from sepnet.coefficients import Coefficient, Source, as_coefficient, finite
from sepnet.nonlinear import NonlinearOperator
from sepnet.nonlinear_forms import NonlinearForm
from sepnet.operators import Operator
from sepnet.smoothness import check_jumps, check_order
from sepnet.terms import Term, make_term

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
    doubtful : bool, optional
        Whether a coefficient was separated approximately (`Coefficient.doubts`).
    """

    space: TensorSpace
    pairs: tuple[tuple[Term, Term], ...] = ()
    doubtful: bool = False

    @overload
    def __add__(self, other: NonlinearForm) -> NonlinearForm: ...
    @overload
    def __add__(self, other: BilinearForm) -> BilinearForm: ...
    def __add__(self, other: object) -> BilinearForm | NonlinearForm:
        """Add a form on the same space."""
        if isinstance(other, NonlinearForm):
            return NonlinearForm.from_pairs(self.space, self.pairs) + other
        if not isinstance(other, BilinearForm):
            return NotImplemented
        if other.space != self.space:
            msg = f"forms on different spaces meet, {self.space!r} and {other.space!r}: rebind one with a.on(W)"
            raise ValueError(msg)
        return BilinearForm(self.space, (*self.pairs, *other.pairs), self.doubtful or other.doubtful)

    @overload
    def __radd__(self, other: NonlinearForm) -> NonlinearForm: ...
    @overload
    def __radd__(self, other: float) -> BilinearForm: ...
    def __radd__(self, other: object) -> BilinearForm | NonlinearForm:
        """Let the builtin ``sum`` start from 0."""
        if isinstance(other, NonlinearForm):
            return other + NonlinearForm.from_pairs(self.space, self.pairs)
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
        return BilinearForm(self.space, scaled, self.doubtful and bool(scaled))

    __mul__ = __rmul__

    def __neg__(self) -> BilinearForm:
        """Change the sign."""
        return -1.0 * self

    @overload
    def __sub__(self, other: NonlinearForm) -> NonlinearForm: ...
    @overload
    def __sub__(self, other: BilinearForm) -> BilinearForm: ...
    def __sub__(self, other: object) -> BilinearForm | NonlinearForm:
        """Subtract a form on the same space."""
        return self + (-other) if isinstance(other, BilinearForm | NonlinearForm) else NotImplemented

    def __rsub__(self, other: NonlinearForm) -> NonlinearForm:
        """Subtract from a form that is nonlinear in its unknown."""
        return other + (-self) if isinstance(other, NonlinearForm) else NotImplemented

    __array_ufunc__ = None

    def on(self, space: TensorSpace) -> BilinearForm:
        """Return the same form on another space with the same axes."""
        if space.names != self.space.names:
            msg = f"the new space has the axes {space.names}, expected {self.space.names}"
            raise ValueError(msg)
        return BilinearForm(space, self.pairs, self.doubtful)

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
                functions.append((axis, coefficient, a.at, b.matrix))
                orders.append((a.order, b.order))
            if not all(_symmetric_matrix(self.space, axis, name) for axis, _, _, name in functions):
                return False
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


@overload
def inner(trial: Operator, test: Operator, **matrices: str) -> BilinearForm: ...
@overload
def inner(trial: NonlinearOperator, test: Operator) -> NonlinearForm: ...
def inner(trial: Operator | NonlinearOperator, test: Operator, **matrices: str) -> BilinearForm | NonlinearForm:
    """Return the form ``(u, v) -> int (trial u) (test v)``.

    Parameters
    ----------
    trial : Operator or NonlinearOperator
        What is applied to the trial function; for nonlinear problems an expression in the unknown ``V.unknown``.
    test : Operator
        What is applied to the test function, on the same space. Evaluated on a face with ``.at(x=1)``, both of them,
        the integral is over the face.
    **matrices : str
        Name of an axis given by matrices (`MatrixAxis`, `Mesh`) to the name of the matrix there; the mass otherwise.

    Returns
    -------
    BilinearForm or NonlinearForm

    Raises
    ------
    TypeError
        If an argument is no operator.
    ValueError
        If the spaces differ, only one side is evaluated on a face, an axis lacks the derivatives, or there is no such
        matrix.

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8, zero="left"))
    >>> sn.inner(V.d.x, V.d.x) + sn.inner(2 * V.identity.at(x=1), V.identity.at(x=1))
    BilinearForm(2 separable integrals over x)
    >>> u = V.unknown
    >>> sn.inner(V.d.x, V.d.x) + sn.inner(u**3, V.identity)
    NonlinearForm(2 integrals over x, of degree 3 in the unknown)
    """
    if isinstance(trial, NonlinearOperator):
        if matrices:
            msg = f"sn.inner: {next(iter(matrices))}= names a matrix, but `trial` is an expression in the unknown"
            raise TypeError(msg)
        return _nonlinear_inner(trial, test)
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
    for axis, name in matrices.items():
        _given_axis("sn.inner", trial.space, axis, name).matrix(name)
        pairs = tuple((a, _with_matrix(b, axis, name)) for a, b in pairs)
    return BilinearForm(trial.space, pairs, bool(trial.doubts or test.doubts))


def _nonlinear_inner(trial: NonlinearOperator, test: Operator) -> NonlinearForm:
    if isinstance(test, NonlinearOperator):
        msg = (
            "sn.inner: `test` is an expression in the unknown, expected the operator itself: sn.inner(c * d.x(u), d.x)"
        )
        raise TypeError(msg)
    # The linear partial derivatives are checked in the place of the expression: spaces, faces, orders.
    for jet in trial.jets or ((),):
        part = trial.partial(jet)
        inner(part.at(**dict(trial.face)) if trial.face else part, test)
    return NonlinearForm(trial.space, ((trial, test),))


def load_on(data: Source, test: Operator, **loads: str) -> LinearForm:
    """Return the linear form ``v -> int data (test v)``, over a face if `test` is evaluated there.

    Parameters
    ----------
    data : number, Coefficient or separable function
        The load.
    test : Operator
        The test operator, e.g. ``V.identity.at(x=1)`` for a Neumann condition, ``V.d.x`` for a load in divergence form.
    **loads : str
        Name of an axis given by matrices (`MatrixAxis`, `Mesh`) to the name of a load vector there, which stands for
        the integral; the data do not depend on that axis then. For data that do, the name of a matrix to integrate
        with.

    Returns
    -------
    LinearForm

    Raises
    ------
    TypeError
        If `test` is no operator or `data` is no data.
    ValueError
        If there is no such load or matrix.
    """
    if not isinstance(test, Operator):
        msg = f"sn.load_on: `test` is {type(test).__name__}, expected an operator such as V.identity.at(x=1)"
        raise TypeError(msg)
    check_derivatives(test)
    coefficient = as_coefficient(data, "data")
    test.space.check_axes(coefficient.axes, "sn.load_on: `data`")
    for axis, name in loads.items():
        given = _given_axis("sn.load_on", test.space, axis, name)
        if axis in coefficient.axes:
            given.matrix(name)
        else:
            given.load(name)
        test = Operator(test.space, tuple(_with_matrix(t, axis, name) for t in test.terms), test.doubts)
    return LinearForm(test.space, ((coefficient, test),))


def _given_axis(what: str, space: TensorSpace, axis: str, name: object) -> Assembled:
    """Return an axis given by matrices; raise where it is none, or the name is no str."""
    space.check_axes([axis], what)
    basis = space.axes[axis]
    if not isinstance(basis, Assembled):
        msg = f"{what}: axis {axis!r} is {basis!r}, which has no named matrices: leave {axis}= out"
        raise TypeError(msg)
    if not isinstance(name, str):
        msg = f"{what}: {axis}={name!r}, expected the name of a matrix on that axis, e.g. {axis}='stiffness'"
        raise TypeError(msg)
    return basis


def _with_matrix(term: Term, axis: str, name: str) -> Term:
    factors = dict(term.factors)
    factors[axis] = replace(term.factor(axis), matrix=None if name == MASS else name)
    return make_term(term.weight, factors)


def _symmetric_matrix(space: TensorSpace, axis: str, name: str | None) -> bool:
    basis = space.axes[axis]
    return not isinstance(basis, Assembled) or basis.symmetric(name)


def as_linear_form(value: object, space: TensorSpace, name: str) -> LinearForm:
    """Return data or a linear form as a linear form on `space` (data are tested with the identity)."""
    if isinstance(value, LinearForm):
        return value.on(space) if value.space != space else value
    coefficient = as_coefficient(value, name)
    space.check_axes(coefficient.axes, f"`{name}`")
    return LinearForm(space, ((coefficient, space.identity),))


def check_derivatives(operator: Operator) -> None:
    """Refuse terms that need more derivatives than an axis has; warn where a coefficient jumps off its breaks."""
    for term in operator.terms:
        for axis, factor in term.factors:
            basis = operator.space.axes[axis]
            if factor.order and isinstance(basis, Assembled):
                msg = (
                    f"the term with d.{axis} needs a derivative on axis {axis!r}, which is given by matrices: use the "
                    f"weak form with one of them, e.g. sn.inner(one, one, {axis}='stiffness')"
                )
                raise ValueError(msg)
            check_order(axis, operator.space.axes[axis], factor.order)
            check_jumps(axis, operator.space.axes[axis], factor)
