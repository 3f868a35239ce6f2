"""Coefficients and data: sums of products of univariate functions of the coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, inf, log2
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias, final

import numpy as np

from sepnet.terms import Factor, Term, collect, compose, make_term, multiply
from sepnet.univariate import Applied, Univariate, describe_callable, make_univariate

if TYPE_CHECKING:
    from sepnet.functions.base import SeparableFunction

__all__ = [
    "UNKNOWN",
    "Coefficient",
    "Doubts",
    "Source",
    "apply",
    "as_coefficient",
    "compose_doubts",
    "constant",
    "coordinate",
    "finite",
    "product",
]

# Entries (delta, terms): what carries them is off by at most the sum of all delta |terms u| at every point.
Doubts: TypeAlias = "tuple[tuple[float, tuple[Term, ...]], ...]"

UNKNOWN: Doubts = ((inf, (Term(),)),)


def compose_doubts(left: tuple[Term, ...], ahead: Doubts, right: tuple[Term, ...], behind: Doubts) -> Doubts:
    """Return the doubts of ``left after right`` from those of both, `ahead` and `behind`.

    With errors ``a - a'`` and ``b - b'`` this is ``(a - a') b' + a' (b - b') + (a - a') (b - b')``. Nothing is known of
    the derivatives of an error: they are in doubt without a bound.
    """
    if behind and any(f.order for terms in (left, *(t for _, t in ahead)) for t in terms for _, f in t.factors):
        return UNKNOWN
    entries = [(delta, compose(terms, right)) for delta, terms in ahead]
    entries += [(delta, compose(left, terms)) for delta, terms in behind]
    entries += [(a * b, compose(s, t)) for a, s in ahead for b, t in behind]
    sums: dict[tuple[Term, ...], float] = {}
    for delta, terms in entries:
        if terms:
            sums[terms] = sums.get(terms, 0.0) + delta
    return tuple((delta, terms) for terms, delta in sums.items())


@final
@dataclass(frozen=True, eq=False)
class Coefficient:
    """A sum of separable terms ``weight * prod_i c_i(x_i)``, written as an expression.

    Coefficients come from ``V.coordinates``, `apply` and `product`, and are combined with ``+ - *``, non-negative
    integer powers, and division by numbers. They multiply operators, and serve as data (sources, initial and boundary
    values). Two expressions are compared with ``a.terms == b.terms``.

    Parameters
    ----------
    terms : tuple of Term
        Terms of order zero, in normal form.
    doubts : tuple of (float, tuple of Term), optional
        How far the terms may be off the function c that they stand for: ``|c - terms| <= sum_k delta_k |T_k|``
        pointwise, with ``(delta_k, T_k)`` the entries. Functions that were separated approximately begin with their
        sup-norm error and ``T = 1``, sums and products carry it on, error bounds count it.
    """

    terms: tuple[Term, ...] = ()
    doubts: Doubts = ()

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes on which the expression depends, sorted."""
        return tuple(sorted({axis for term in self.terms for axis in term.axes}))

    def __repr__(self) -> str:
        """Tell the number of terms and the axes."""
        return f"Coefficient({len(self.terms)} separable terms in {', '.join(self.axes) or 'no axis'})"

    def __call__(self, points: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Evaluate at host points.

        Parameters
        ----------
        points : ndarray of shape (n, d), float64
            Points, one column per axis.
        names : sequence of str
            Axis names of the columns.

        Returns
        -------
        ndarray of shape (n,), float64
        """
        unknown = sorted(set(self.axes) - set(names))
        if unknown:
            msg = f"the expression depends on {', '.join(unknown)}, expected only axes among {', '.join(names)}"
            raise ValueError(msg)
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != len(names):
            msg = f"`points` has shape {points.shape}, expected (n, {len(names)}) with columns {', '.join(names)}"
            raise ValueError(msg)
        total = np.zeros(points.shape[0])
        for term in self.terms:
            value = np.full(points.shape[0], term.weight)
            for axis, factor in term.factors:
                value = value * factor.coefficient(points[:, list(names).index(axis)])
            total += value
        return total

    def __add__(self, other: object) -> Coefficient:
        """Add."""
        more = _expression(other)
        if more is None:
            return NotImplemented
        return Coefficient(collect((*self.terms, *more.terms)), (*self.doubts, *more.doubts))

    __radd__ = __add__

    def __neg__(self) -> Coefficient:
        """Change the sign."""
        return Coefficient(tuple(Term(-t.weight, t.factors) for t in self.terms), self.doubts)

    def __sub__(self, other: object) -> Coefficient:
        """Subtract."""
        less = _expression(other)
        return NotImplemented if less is None else self + (-less)

    def __rsub__(self, other: object) -> Coefficient:
        """Subtract from."""
        return (-self) + other

    def __mul__(self, other: Coefficient | SeparableFunction | float) -> Coefficient:
        """Multiply by a number or another coefficient (operators take over in their own class)."""
        factor = _expression(other)
        if factor is None:
            return NotImplemented
        doubts = compose_doubts(self.terms, self.doubts, factor.terms, factor.doubts)
        return Coefficient(multiply(self.terms, factor.terms), doubts)

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> Coefficient:
        """Divide by a number."""
        if isinstance(other, Real):
            if float(other) == 0.0:
                msg = "a coefficient is divided by zero"
                raise ZeroDivisionError(msg)
            return self * (1.0 / float(other))
        if isinstance(other, Coefficient):
            msg = "division by a coefficient: write the reciprocal as a callable, sn.apply(lambda s: 1 / s, x)"
            raise TypeError(msg)
        return NotImplemented

    def __rtruediv__(self, other: object) -> Coefficient:
        """Refuse, with the next step."""
        msg = "division by a coefficient: write the reciprocal as a callable, sn.apply(lambda s: 1 / s, x)"
        raise TypeError(msg)

    def __pow__(self, exponent: int) -> Coefficient:
        """Raise to a non-negative integer power."""
        if isinstance(exponent, bool) or not isinstance(exponent, int | np.integer) or exponent < 0:
            msg = f"the exponent is {exponent!r}, expected an integer >= 0: use sn.apply for other powers"
            raise TypeError(msg)
        result = Coefficient((Term(),))
        for _ in range(int(exponent)):
            result = result * self
        return result

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Let NumPy scalars take part in arithmetic; refuse functions, with the next step."""
        operation = {"divide": "truediv", "true_divide": "truediv", "subtract": "sub", "add": "add", "multiply": "mul"}
        name = operation.get(ufunc.__name__)
        others = [a for a in inputs if not isinstance(a, Coefficient)]
        if method == "__call__" and name and len(others) == 1 and isinstance(others[0], Real | np.ndarray | np.generic):
            number = np.asarray(others[0])
            if number.ndim == 0 and np.isrealobj(number):
                side = "r" if others[0] is inputs[0] else ""
                return getattr(self, f"__{side}{name}__")(float(number))
            msg = (
                f"an array of shape {number.shape} and dtype {number.dtype} meets a coefficient, expected a real "
                "number: for tabulated data interpolate first, sn.apply(lambda s: np.interp(s, points, values), x)"
            )
            raise TypeError(msg)
        msg = f"np.{ufunc.__name__} of a coefficient: write sn.apply(np.{ufunc.__name__}, ...) instead"
        raise TypeError(msg)


Source: TypeAlias = "float | Coefficient | SeparableFunction"


def finite(value: float, name: str) -> float:
    """Return `value`; raise ValueError, with `name` as the subject, if it is infinite or NaN."""
    if not np.isfinite(value):
        msg = f"{name} is {value}, expected a finite number"
        raise ValueError(msg)
    return value


def constant(value: float) -> Coefficient:
    """Return a constant as a coefficient."""
    number = finite(float(value), "a coefficient")
    return Coefficient((Term(number),) if number != 0.0 else ())


def coordinate(axis: str, domain: tuple[float, float] = (-1.0, 1.0)) -> Coefficient:
    """Return the coordinate function of `axis`, written in the local variable of its domain."""
    # A power of two for the length: the division by it is exact.
    centre, length = (domain[0] + domain[1]) / 2, 2.0 ** ceil(log2((domain[1] - domain[0]) / 2))
    local = make_univariate((centre, length), (), (centre, length))
    return Coefficient(collect([make_term(1.0, {axis: Factor(local)})]))


def _expression(value: object) -> Coefficient | None:
    if isinstance(value, Coefficient):
        return value
    return constant(float(value)) if isinstance(value, Real) else None


def as_coefficient(value: object, name: str) -> Coefficient:
    """Return data given by the user as a `Coefficient`; `name` is the argument for the error message."""
    if isinstance(value, Coefficient):
        return value
    if isinstance(value, bool):
        msg = f"`{name}` is {value}, expected a number, an expression of the coordinates or a function"
        raise TypeError(msg)
    if isinstance(value, Real):
        return constant(finite(float(value), f"`{name}`"))
    if hasattr(value, "as_coefficient"):
        result: Coefficient = value.as_coefficient()
        return result
    hint = "; wrap it, e.g. sn.product(x=f) or sn.apply(f, x)" if callable(value) else ""
    msg = (
        f"`{name}` is {type(value).__name__}, expected a number, an expression of the coordinates, sn.product(...), "
        f"a separable function, or a sum of these{hint}"
    )
    raise TypeError(msg)


def apply(
    function: Callable[[np.ndarray], np.ndarray],
    argument: Coefficient,
    *,
    derivatives: Sequence[Callable[[np.ndarray], np.ndarray]] = (),
) -> Coefficient:
    """Apply a univariate callable to an expression in one coordinate.

    Parameters
    ----------
    function : callable
        Takes and returns a float64 NumPy array of one dimension.
    argument : Coefficient
        An expression of one coordinate, or a constant.
    derivatives : sequence of callable, optional
        First, second, ... derivative of `function`; needed only where the expression itself is differentiated
        (operators composed with ``@``).

    Returns
    -------
    Coefficient

    Raises
    ------
    TypeError
        If `argument` is no expression.
    ValueError
        If `argument` depends on several coordinates: the result would not separate.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), y=sn.BSpline((0, 1), cells=4))
    >>> x, y = V.coordinates
    >>> sn.apply(np.sin, 2 * x + 1) * y
    Coefficient(1 separable terms in x, y)
    """
    if not isinstance(argument, Coefficient):
        msg = f"`argument` is {type(argument).__name__}, expected an expression of one coordinate such as 2 * x"
        raise TypeError(msg)
    _check_callable("function", function)
    if len(argument.axes) > 1:
        depends = " and ".join(argument.axes)
        msg = (
            f"sn.apply: the argument depends on {depends}, expected one coordinate: a function of several does "
            "not separate; project it first, sn.project(f, V, rank=...), and use the result as the coefficient"
        )
        raise ValueError(msg)
    for k, slope in enumerate(derivatives):
        _check_callable(f"derivatives[{k}]", slope)
    if not argument.axes:
        value = Univariate((sum(t.weight for t in argument.terms),))
        return constant(Applied(function, (value,))(np.zeros(1))[0])
    axis = argument.axes[0]
    inner = tuple(_plain(t.factor(axis).coefficient).scaled(t.weight) for t in argument.terms)
    applied = Applied(_hashable(function), inner, tuple(_hashable(slope) for slope in derivatives))
    # How far an error moves the function's value is not known.
    doubts = UNKNOWN if argument.doubts else ()
    return Coefficient((Term(1.0, ((axis, Factor(Univariate((1.0,), (applied,)))),)),), doubts)


@final
@dataclass(frozen=True, eq=False)
class _ByIdentity:
    """A callable that cannot be hashed, such as ``np.polynomial.Polynomial``, compared by identity."""

    function: Callable[[np.ndarray], np.ndarray]

    @property
    def __name__(self) -> str:
        return describe_callable(self.function)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.function(x)


def _check_callable(name: str, function: object) -> None:
    if not callable(function):
        msg = f"`{name}` is {type(function).__name__}, expected a callable of one NumPy array"
        raise TypeError(msg)


def _hashable(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    try:
        hash(function)
    except TypeError:
        return _ByIdentity(function)
    return function


def _plain(argument: Univariate) -> Univariate:
    """Return linear arguments in powers of x itself: ``sn.apply(f, x)`` then sees x as it is, not ``c + h s``."""
    if argument.degree != 1:
        return argument
    return make_univariate(argument.powers_in((0.0, 1.0)), (), (0.0, 1.0))


def product(**functions: Callable[[np.ndarray], np.ndarray] | float) -> Coefficient:
    """Return the product of univariate callables, one per named axis; missing axes are constant.

    Parameters
    ----------
    **functions : callable or float
        Axis name to a callable of one float64 NumPy array, or to a number.

    Returns
    -------
    Coefficient

    Raises
    ------
    TypeError
        If a value is neither callable nor a number.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> sn.product(x=np.sin, y=lambda s: s**2)
    Coefficient(1 separable terms in x, y)
    """
    result = Coefficient((Term(),))
    for axis, function in functions.items():
        if isinstance(function, Real):
            result = result * float(function)
        elif callable(function):
            result = result * apply(function, coordinate(axis))
        else:
            msg = f"sn.product: `{axis}` is {type(function).__name__}, expected a callable of one NumPy array"
            raise TypeError(msg)
    return result
