"""Piecewise coefficients and data: materials with an interface, loads that switch on, functions with a kink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import final

import numpy as np

from sepnet.coefficients import Coefficient, Source, apply, as_coefficient
from sepnet.terms import Factor, Term
from sepnet.univariate import ONE, Applied, Callable1D, Univariate

__all__ = ["Piecewise", "jumps_of", "piecewise"]

# Values on both sides of a break that differ by less than this many units of round-off are one.
_UNITS = 64.0


@final
@dataclass(frozen=True)
class Piecewise:
    """A function given by another expression on each side of its breaks; at a break, that of the right side.

    Parameters
    ----------
    places : tuple of float
        The breaks, rising.
    pieces : tuple of tuple of Univariate
        One more than breaks; each a sum of functions, empty for zero.
    """

    places: tuple[float, ...]
    pieces: tuple[tuple[Univariate, ...], ...]

    label = "sn.piecewise"

    @cached_property
    def key(self) -> str:
        """What factors are ordered by."""
        pieces = [[(u.powers, u.frame, [f.key for f in u.callables]) for u in piece] for piece in self.pieces]
        return repr((self.places, pieces))

    @cached_property
    def breaks(self) -> np.ndarray:
        """Where the function is not smooth, float64, rising: its own breaks and those of its pieces."""
        inner = [u.breaks for piece in self.pieces for u in piece]
        return np.unique(np.concatenate([np.array(self.places), *inner]))

    @cached_property
    def degree(self) -> int | None:
        """Polynomial degree between the breaks, or None if a callable takes part."""
        degrees = [u.piece_degree for piece in self.pieces for u in piece]
        return None if None in degrees else max((d for d in degrees if d is not None), default=0)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Evaluate at the float64 array `x` of one dimension; every piece sees its own points only."""
        return self._evaluated(x, magnitude=False)

    def magnitude(self, x: np.ndarray) -> np.ndarray:
        """Return what the evaluation at `x` adds up, in absolute value."""
        return self._evaluated(x, magnitude=True)

    def _evaluated(self, x: np.ndarray, *, magnitude: bool) -> np.ndarray:
        number = np.searchsorted(np.array(self.places), x, side="right")
        values = np.zeros_like(x)
        for k, piece in enumerate(self.pieces):
            here = number == k
            for u in piece:
                values[here] += u.magnitude(x[here]) if magnitude else u(x[here])
        return values

    @cached_property
    def jumps(self) -> tuple[float, ...]:
        """The breaks at which the value jumps."""
        found = []
        for place, left, right in zip(self.places, self.pieces, self.pieces[1:], strict=False):
            at = np.array([place])
            jump = sum((u(at)[0] for u in right), 0.0) - sum((u(at)[0] for u in left), 0.0)
            size = sum(u.magnitude(at)[0] for u in (*left, *right))
            if abs(jump) > _UNITS * np.finfo(np.float64).eps * size:
                found.append(place)
        return tuple(found)

    def derivative(self) -> tuple[Univariate, ...]:
        """Return the derivative, piecewise too; raise ValueError where the value jumps."""
        if self.jumps:
            place = f"{self.jumps[0]:g}"
            msg = (
                f"a coefficient that jumps at {place} is differentiated, which gives no function there: use the weak "
                f"form, sn.Galerkin(sn.inner(k * d.x, d.x)), on a basis with BSpline(..., continuity={{{place}: 0}})"
            )
            raise ValueError(msg)
        pieces = tuple(tuple(d for u in piece for d in u.derivative()) for piece in self.pieces)
        return (Univariate((1.0,), (Piecewise(self.places, pieces),)),) if any(pieces) else ()


def piecewise(coordinate: Coefficient, breaks: Sequence[float], values: Sequence[Source | Callable1D]) -> Coefficient:
    """Return a function that is given by another value on each side of the breaks of one coordinate.

    Quadrature knows the breaks and is exact for pieces that are polynomials. A solution whose equation has a
    coefficient that jumps has a kink there, which its basis must have too: ``BSpline(..., continuity={0.4: 0})``, and
    the weak form; see the page on conditions.

    Parameters
    ----------
    coordinate : Coefficient
        One of ``V.coordinates``.
    breaks : sequence of float
        Rising places of the coordinate.
    values : sequence
        One more than breaks: numbers, expressions of any coordinates (parameters, too), separable functions, or
        callables of the coordinate. At a break, the value is that of the right side.

    Returns
    -------
    Coefficient
        One separable term for all values that depend on the coordinate alone, and those of the others.

    Raises
    ------
    TypeError
        If `coordinate` is no coordinate, or a value is no data.
    ValueError
        If the breaks do not rise, or their number does not fit that of the values.

    Examples
    --------
    Two layers, the conductivity of the second a parameter, and the heat equation in them:

    >>> import sepnet as sn
    >>> from sepnet.piecewise import piecewise
    >>> V = sn.TensorSpace(
    ...     x=sn.BSpline((0, 1), cells=10, continuity={0.4: 0}, zero="both"), k2=sn.BSpline((1, 10), cells=2)
    ... )
    >>> x, k2 = V.coordinates
    >>> k = piecewise(x, [0.4], [1.0, k2])
    >>> k([[0.2, 5.0], [0.7, 5.0]], ["x", "k2"])
    array([1., 5.])
    >>> u = sn.solve(sn.Galerkin(sn.inner(k * V.d.x, V.d.x), source=1), tol=1e-6).u
    """
    axis = _axis_of(coordinate)
    places = _rising(breaks)
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray) or len(values) != len(places) + 1:
        count = len(values) if isinstance(values, Sequence | np.ndarray) else type(values).__name__
        msg = f"sn.piecewise: `values` has {count} entries, expected {len(places) + 1}: one more than `breaks`"
        raise ValueError(msg)
    members = [_value(v, coordinate, k) for k, v in enumerate(values)]
    own: list[tuple[Univariate, ...]] = []
    total = Coefficient()
    for k, member in enumerate(members):
        # Members that are in doubt stay apart: products and sums carry their doubts on.
        alone = set(member.axes) <= {axis} and not member.doubts
        own.append(tuple(t.factor(axis).coefficient.scaled(t.weight) for t in member.terms) if alone else ())
        if not alone:
            indicator = tuple((ONE,) if j == k else () for j in range(len(members)))
            total = total + _factor(axis, Piecewise(places, indicator)) * member
    return total + _factor(axis, Piecewise(places, tuple(own))) if any(own) else total


def jumps_of(function: Univariate) -> tuple[float, ...]:
    """Return the places at which a univariate function jumps, as far as its factors tell, rising."""
    found: set[float] = set()
    for factor in function.callables:
        if isinstance(factor, Piecewise):
            found.update(factor.jumps)
        elif isinstance(factor, Applied):
            found.update(place for part in factor.argument for place in jumps_of(part))
    return tuple(sorted(found))


def _factor(axis: str, factor: Piecewise) -> Coefficient:
    return Coefficient((Term(1.0, ((axis, Factor(Univariate((1.0,), (factor,)))),)),))


def _axis_of(coordinate: object) -> str:
    if isinstance(coordinate, Coefficient) and len(coordinate.terms) == len(coordinate.axes) == 1:
        axis = coordinate.axes[0]
        u = coordinate.terms[0].factor(axis).coefficient
        if u.degree == 1:
            slope = np.asarray(u.powers_in((0.0, 1.0))) * coordinate.terms[0].weight
            if np.allclose(slope, [0.0, 1.0], rtol=0, atol=1e-12 * max(1.0, abs(u.frame[0]))):
                return axis
    shown = repr(coordinate) if isinstance(coordinate, Coefficient) else type(coordinate).__name__
    msg = f"sn.piecewise: `coordinate` is {shown}, expected one of V.coordinates: write x, y = V.coordinates"
    raise TypeError(msg)


def _rising(breaks: object) -> tuple[float, ...]:
    try:
        places = tuple(float(b) for b in breaks)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        msg = f"sn.piecewise: `breaks` is {breaks!r}, expected a list of rising numbers, e.g. [0.4]"
        raise TypeError(msg) from error
    if not np.isfinite(places).all() or not (np.diff(places) > 0).all():
        msg = f"sn.piecewise: `breaks` is {list(places)}, expected finite numbers that rise: sort them, drop doubles"
        raise ValueError(msg)
    return places


def _value(value: object, coordinate: Coefficient, number: int) -> Coefficient:
    known = isinstance(value, Coefficient | Real) or hasattr(value, "as_coefficient")
    if not known and callable(value):
        return apply(value, coordinate)
    return as_coefficient(value, f"values[{number}]")
