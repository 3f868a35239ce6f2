"""Problems: what is to be solved, as frozen data without any algorithm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from numbers import Real
from typing import TypeAlias, final

from sepnet.coefficients import Coefficient, Source, as_coefficient
from sepnet.forms import BilinearForm, LinearForm, as_linear_form, check_derivatives, inner, load_on
from sepnet.nonlinear import NonlinearOperator
from sepnet.nonlinear_forms import NonlinearForm
from sepnet.operators import Operator
from sepnet.spaces import TensorSpace

__all__ = ["Galerkin", "LeastSquares", "Problem", "faces"]

Faces: TypeAlias = "Mapping[str, tuple[Source | None, Source | None]]"


@final
@dataclass(frozen=True, eq=False)
class LeastSquares:
    """Minimise ``|| L u - f ||`` over the box, subject to initial and boundary values.

    Parameters
    ----------
    operator : Operator or NonlinearOperator
        The operator L; it carries the space. Nonlinear equations are written with ``u = V.unknown``, as in
        ``d.t(u) + u * d.x(u)``; what turns out to be linear in u is the linear problem.
    source : number, Coefficient or separable function, optional
        The right-hand side f; missing axes mean constant.
    initial : mapping of str to data, optional
        Axis name to the value of u at its left end, e.g. ``{"t": u0}``.
    boundary : mapping of str to (data or None, data or None), optional
        Axis name to the values of u at its left and right end; None leaves an end free. Data may depend on every other
        axis.
    conditions : sequence of (Operator or NonlinearOperator, data), optional
        Further residuals, each added to the functional as ``|| B u - g ||**2``: on a face where `B` is evaluated with
        ``.at(x=1)``, e.g. Robin conditions; scale both sides to weight them.
    stability : float or (float, float), optional
        What is known of the equation, for error bounds: constants C and C_0 (0 if one number is given) with ::

            || e ||  <=  C ( || L e ||**2 + sum || B e ||**2 )**(1/2)  +  C_0 || e on the initial faces ||

        in L2 of the box, for all e that vanish where `boundary` gives data and the basis has ``zero=`` ends. For
        ``u_t + b . grad u - div(k grad u)`` with a divergence-free wind b and zero walls over a time T they are
        ``(2 * T / pi, sqrt(T))``, for ``-Laplace u`` with zero walls the reciprocal of the smallest eigenvalue.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If an axis is unknown, a datum depends on the axis it is given on, an axis lacks the derivatives, or a constant
        of `stability` is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=16, zero="both"), t=sn.BSpline((0, 1), cells=8))
    >>> x, t = V.coordinates
    >>> start = sn.apply(np.sin, np.pi * x)
    >>> problem = sn.LeastSquares(V.d.t - 0.1 * V.d.x**2, initial={"t": start}, stability=(2 / np.pi, 1))
    >>> sn.solve(problem, tol=1e-3).converged
    True
    """

    operator: Operator | NonlinearOperator
    source: Source = 0.0
    initial: Mapping[str, Source] = field(default_factory=dict)
    boundary: Faces = field(default_factory=dict)
    conditions: Sequence[tuple[Operator | NonlinearOperator, Source]] = ()
    stability: float | tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.operator, Operator | NonlinearOperator):
            kind = type(self.operator).__name__
            form = isinstance(self.operator, BilinearForm | NonlinearForm)
            hint = ": a form belongs into sn.Galerkin" if form else ""
            msg = f"`operator` is {kind}, expected an operator such as V.d.t - V.d.x**2{hint}"
            raise TypeError(msg)
        operator, source = _settled(self.operator, self.source, "source")
        if isinstance(operator, Operator) and not operator.terms:
            msg = "`operator` is zero, expected at least one term"
            raise ValueError(msg)
        object.__setattr__(self, "operator", operator)
        object.__setattr__(self, "source", source)
        _check_orders(operator)
        self.space.check_axes(as_coefficient(self.source, "source").axes, "`source`")
        _check_faces(self.space, self.initial, self.boundary)
        object.__setattr__(self, "conditions", _checked_conditions(self.space, self.conditions))
        _ = self.constants

    @property
    def space(self) -> TensorSpace:
        """The space of the unknown."""
        return self.operator.space

    @property
    def blocks(self) -> list[tuple[Operator | NonlinearOperator, Source, str]]:
        """The residuals that are minimised: operator, data and name of the data; first the equation."""
        conditions = [(op, g, f"conditions[{k}]") for k, (op, g) in enumerate(self.conditions)]
        return [(self.operator, self.source, "source"), *conditions]

    @property
    def is_nonlinear(self) -> bool:
        """Whether the equation or a condition is nonlinear."""
        return any(isinstance(operator, NonlinearOperator) for operator, _, _ in self.blocks)

    @property
    def linear_blocks(self) -> list[tuple[Operator, Source, str]]:
        """The same of a linear problem.

        Raises
        ------
        TypeError
            If the problem is nonlinear.
        """
        return [(_linear(operator), data, name) for operator, data, name in self.blocks]

    @property
    def constants(self) -> tuple[float, float] | None:
        """The constants C and C_0 of `stability`, or None."""
        given = self.stability
        if given is None:
            return None
        pair = tuple(given) if isinstance(given, tuple | list) else (given, 0.0)
        if len(pair) != 2 or any(isinstance(c, bool) or not isinstance(c, Real) for c in pair):
            msg = f"`stability` is {given!r}, expected a number C or a pair (C, C_0)"
            raise TypeError(msg)
        constant, initial = float(pair[0]), float(pair[1])
        if not (0.0 < constant < inf and 0.0 <= initial < inf):
            msg = f"`stability` is {given!r}, expected finite constants C > 0 and C_0 >= 0"
            raise ValueError(msg)
        return constant, initial


@final
@dataclass(frozen=True, eq=False)
class Galerkin:
    """Find u with ``a(u, v) = f(v)`` for all v of the space, subject to initial and boundary values.

    Parameters
    ----------
    form : BilinearForm or NonlinearForm
        The form a; it carries the space. Where it is symmetric and coercive, u minimises the energy. Nonlinear forms
        are written with ``u = V.unknown``, as in ``inner(c * d.x(u), d.x) + inner(u**3, one)``.
    source : number, Coefficient, separable function or LinearForm, optional
        The load f; data are tested with the identity, other loads come from ``sn.load_on``.
    initial, boundary : mapping, optional
        As in `LeastSquares`. Ends without data are natural.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If an axis is unknown, or a datum depends on the axis it is given on.

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8, zero="both"), y=sn.BSpline((0, 1), cells=8, zero="both"))
    >>> a = sn.inner(V.d.x, V.d.x) + sn.inner(V.d.y, V.d.y)
    >>> u = sn.solve(sn.Galerkin(a, source=1), rank=5).u
    >>> round(float(u([[0.5, 0.5]])[0]), 4)
    0.0737
    """

    form: BilinearForm | NonlinearForm
    source: Source | LinearForm = 0.0
    initial: Mapping[str, Source] = field(default_factory=dict)
    boundary: Faces = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.form, BilinearForm | NonlinearForm):
            operator = isinstance(self.form, Operator | NonlinearOperator)
            hint = ": an operator belongs into sn.LeastSquares" if operator else ""
            msg = f"`form` is {type(self.form).__name__}, expected a form such as sn.inner(d.x, d.x){hint}"
            raise TypeError(msg)
        as_linear_form(self.source, self.space, "source")
        if isinstance(self.form, NonlinearForm) and self.form.degree <= 1:
            object.__setattr__(self, "source", _without_unknown(self.form, self.source))
            object.__setattr__(self, "form", _bilinear(self.form))
        if isinstance(self.form, BilinearForm) and not self.form.pairs:
            msg = "`form` is zero, expected at least one integral"
            raise ValueError(msg)
        _check_faces(self.space, self.initial, self.boundary)

    @property
    def space(self) -> TensorSpace:
        """The space of the unknown."""
        return self.form.space

    @property
    def is_nonlinear(self) -> bool:
        """Whether the form is nonlinear in the unknown."""
        return isinstance(self.form, NonlinearForm)

    @property
    def bilinear(self) -> BilinearForm:
        """The form of a linear problem.

        Raises
        ------
        TypeError
            If the problem is nonlinear.
        """
        if isinstance(self.form, NonlinearForm):
            raise TypeError(_NO_LINEAR)
        return self.form


Problem: TypeAlias = LeastSquares | Galerkin


_NO_LINEAR = (
    "the problem is nonlinear, and what was asked for is known of linear ones only: solve it with sn.solve, or "
    "linearise it, R.linearised(v)"
)


def _linear(operator: Operator | NonlinearOperator) -> Operator:
    if isinstance(operator, NonlinearOperator):
        raise TypeError(_NO_LINEAR)
    return operator


def _settled(
    operator: Operator | NonlinearOperator, data: Source, name: str
) -> tuple[Operator | NonlinearOperator, Source]:
    """Return what is linear in the unknown as a linear operator, its data on the other side."""
    if not isinstance(operator, NonlinearOperator) or operator.degree > 1:
        return operator, data
    known = operator.data
    return operator.linear, as_coefficient(data, name) - known if known.terms else data


def _bilinear(form: NonlinearForm) -> BilinearForm:
    total = BilinearForm(form.space)
    for expression, test in form.parts:
        if expression.linear.terms:
            total = total + inner(expression.linear, test)
    return total


def _without_unknown(form: NonlinearForm, source: Source | LinearForm) -> Source | LinearForm:
    known = [load_on(expression.data, test) for expression, test in form.parts if expression.data.terms]
    return sum((-1 * load for load in known), as_linear_form(source, form.space, "source")) if known else source


def _check_orders(operator: Operator | NonlinearOperator) -> None:
    parts = [operator] if isinstance(operator, Operator) else [operator.partial(jet) for jet in operator.jets]
    for part in parts:
        check_derivatives(part)


def _checked_conditions(
    space: TensorSpace, conditions: Sequence[tuple[Operator | NonlinearOperator, Source]]
) -> tuple[tuple[Operator | NonlinearOperator, Source], ...]:
    if isinstance(conditions, str) or not isinstance(conditions, Sequence):
        msg = f"`conditions` is {type(conditions).__name__}, expected a list of pairs (operator, data)"
        raise TypeError(msg)
    settled: list[tuple[Operator | NonlinearOperator, Source]] = []
    for number, pair in enumerate(conditions):
        name = f"conditions[{number}]"
        if not (
            isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], Operator | NonlinearOperator)
        ):
            hint = ": `conditions` is a list of pairs, [(B, g)]" if isinstance(pair, Operator) else ""
            msg = f"`{name}` is {type(pair).__name__}, expected a pair (operator, data){hint}"
            raise TypeError(msg)
        operator, data = _settled(*pair, name)
        settled.append((operator, data))
        if operator.space != space:
            msg = f"`{name}` is on another space: rebind it with B.on(V)"
            raise ValueError(msg)
        if isinstance(operator, Operator) and not operator.terms:
            msg = f"`{name}` has the operator zero, expected at least one term"
            raise ValueError(msg)
        try:
            _ = operator.face
        except ValueError as error:
            msg = f"`{name}`: {error} (a condition that couples two faces is periodicity: give the axis periodic=True)"
            raise ValueError(msg) from error
        _check_orders(operator)
        space.check_axes(as_coefficient(data, name).axes, f"`{name}`")
    return tuple(settled)


def _check_faces(space: TensorSpace, initial: Mapping[str, Source], boundary: Faces) -> None:
    for name, mapping in (("initial", initial), ("boundary", boundary)):
        if not isinstance(mapping, Mapping):
            msg = f"`{name}` is {type(mapping).__name__}, expected a mapping from axis names to data"
            raise TypeError(msg)
    space.check_axes(initial, "`initial`")
    space.check_axes(boundary, "`boundary`")
    for axis, data in faces(initial, boundary).items():
        basis = space.axes[axis]
        for end, datum in zip(("left", "right"), data, strict=True):
            if datum is None:
                continue
            if basis.periodic:
                msg = f"axis {axis!r} is periodic and has no ends: drop its initial or boundary data"
                raise ValueError(msg)
            if basis.zero in (end, "both") and datum.terms:
                msg = (
                    f"axis {axis!r} has zero={basis.zero!r} and data other than 0 at its {end} end: "
                    "give the basis zero=None there, the solver lifts the data itself"
                )
                raise ValueError(msg)
            space.check_axes(datum.axes, f"the data at the {end} end of axis {axis!r}")
            if axis in datum.axes:
                msg = f"the data at the {end} end of axis {axis!r} depend on {axis!r} itself: restrict them to the end"
                raise ValueError(msg)


def faces(initial: Mapping[str, Source], boundary: Faces) -> dict[str, tuple[Coefficient | None, Coefficient | None]]:
    """Return all data on faces as coefficients: axis name to (left, right)."""
    result: dict[str, tuple[Coefficient | None, Coefficient | None]] = {}
    for axis, data in boundary.items():
        if not (isinstance(data, tuple | list) and len(data) == 2):
            msg = f"`boundary[{axis!r}]` is {type(data).__name__}, expected a pair (left, right), None for a free end"
            raise TypeError(msg)
        left, right = (None if g is None else as_coefficient(g, f"boundary[{axis!r}]") for g in data)
        result[axis] = (left, right)
    for axis, datum in initial.items():
        if result.get(axis, (None, None))[0] is not None:
            msg = f"axis {axis!r} has both initial data and data at its left end: give one of them"
            raise ValueError(msg)
        result[axis] = (as_coefficient(datum, f"initial[{axis!r}]"), result.get(axis, (None, None))[1])
    return result
