"""Ready-made maps of coordinates: polar, affine, and a frame that turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import pi
from typing import Any

import numpy as np

from sepnet.backends.arrays import Array, namespace
from sepnet.bases.checks import real_number
from sepnet.coefficients import Coefficient, apply, constant
from sepnet.coordinate_map import CoordinateMap
from sepnet.spaces import TensorSpace

__all__ = ["affine", "polar", "rotating"]

ROUND_OFF = 256 * float(np.finfo(np.float64).eps)
TINY = float(np.finfo(np.float64).tiny)


def polar(
    space: TensorSpace,
    *,
    radius: str = "r",
    angle: str = "theta",
    names: tuple[str, str] = ("x", "y"),
    centre: tuple[float, float] = (0.0, 0.0),
) -> CoordinateMap:
    """Return polar (with further axes: cylindrical) coordinates, ``x = r cos(theta), y = r sin(theta)``.

    Parameters
    ----------
    space : TensorSpace
        With the axes `radius` (not negative) and `angle` (at most one turn, in radians); the others are carried
        over.
    radius, angle : str, optional
        Names of the two axes.
    names : (str, str), optional
        Names of x and y, which take their places.
    centre : (float, float), optional
        Where the radius is zero.

    Returns
    -------
    CoordinateMap

    Raises
    ------
    ValueError
        If an axis is missing, or its domain is not as above.
    """
    space.check_axes((radius, angle), "polar")
    i, j = space.names.index(radius), space.names.index(angle)
    (inner, outer), (low, high) = space.axes[radius].domain, space.axes[angle].domain
    if inner < 0.0 or high - low > 2 * pi * (1 + ROUND_OFF):
        msg = (
            f"polar: {radius!r} is on [{inner:g}, {outer:g}] and {angle!r} on [{low:g}, {high:g}], expected a radius "
            "from 0 on and an angle of at most 2 pi"
        )
        raise ValueError(msg)
    # In the middle of what the box leaves out is the cut of the angle.
    start = low - (2 * pi - (high - low)) / 2
    turn = _Polar(i, j, start, (float(centre[0]), float(centre[1])))
    r, theta = space.coordinates[i], space.coordinates[j]
    cosine, sine = _turning(theta)
    inverse = apply(_power(-1), r, derivatives=[_power(-2, -1.0), _power(-3, 2.0), _power(-4, -6.0)])
    x, y = names
    known = _carried(space, {x: radius, y: angle})
    known |= {(x, radius): cosine, (x, angle): -1 * sine * inverse}
    known |= {(y, radius): sine, (y, angle): cosine * inverse}
    shown = _renamed(space, {radius: x, angle: y})
    expressions = _kept(space, (radius, angle)) | {x: r * cosine + centre[0], y: r * sine + centre[1]}
    return CoordinateMap(space, shown, turn.to_physical, turn.to_computational, turn.jacobian, known, expressions, r)


def affine(space: TensorSpace, names: Sequence[str], matrix: Any, offset: Any = None) -> CoordinateMap:
    """Return the affine map ``x = A q + b``: shifts, shears, moving frames at constant speed.

    Parameters
    ----------
    space : TensorSpace
        The space of q.
    names : sequence of str
        Names of x.
    matrix : array_like of shape (d, d)
        A, invertible.
    offset : array_like of shape (d,), optional
        b; zero if absent.

    Returns
    -------
    CoordinateMap

    Raises
    ------
    TypeError
        If A or b are no real numbers.
    ValueError
        If a shape is wrong or A is singular.

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(xi=sn.BSpline((-1, 1), cells=4), t=sn.BSpline((0, 1), cells=4))
    >>> M = sn.affine(V, ["x", "t"], [[1, 2], [0, 1]])  # x = xi + 2 t, a frame that moves
    >>> M.d.t  # at a fixed x
    Operator(2 separable terms: d.xi, d.t)
    """
    d, names = space.dim, tuple(names)
    A = _numbers("matrix", matrix)
    b = np.zeros(d) if offset is None else _numbers("offset", offset)
    if len(names) != d:
        msg = f"`names` is {names}, expected {d}: one for each physical coordinate"
        raise ValueError(msg)
    if A.shape != (d, d) or b.shape != (d,) or not np.isfinite(A).all() or not np.isfinite(b).all():
        msg = f"`matrix` has shape {A.shape} and `offset` {b.shape}, expected finite ({d}, {d}) and ({d},)"
        raise ValueError(msg)
    # Units say nothing about being singular: rows and columns count by their sizes.
    scaled = A / np.maximum(np.linalg.norm(A, axis=0), TINY)
    scaled = scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), TINY)
    if not scaled.any() or np.linalg.cond(scaled) > 1 / ROUND_OFF:
        msg = "`matrix` is singular, expected an invertible one: the map could not be undone"
        raise ValueError(msg)
    inverse = np.linalg.inv(A)
    known = {(x, q): float(inverse[i, j]) for j, x in enumerate(names) for i, q in enumerate(space.names)}
    expressions = {}
    for x, row, shift in zip(names, A, b, strict=True):
        expressions[x] = sum((float(c) * q for c, q in zip(row, space.coordinates, strict=True)), constant(shift))
    turn = _Affine(A, inverse, b)
    return CoordinateMap(
        space, names, turn.to_physical, turn.to_computational, turn.jacobian, known, expressions, turn.element
    )


def rotating(
    space: TensorSpace,
    plane: tuple[str, str],
    *,
    time: str = "t",
    rate: str | float = 1.0,
    names: tuple[str, str] = ("x", "y"),
) -> CoordinateMap:
    """Return a frame that turns about the origin of a plane, by the angle ``rate * (t - t_0)``.

    With ``(xi, eta)`` the axes of the plane, ``x = xi cos(a) - eta sin(a), y = xi sin(a) + eta cos(a)``; what is at
    rest in the frame turns counterclockwise in (x, y).

    Parameters
    ----------
    space : TensorSpace
        With the axes of the plane, of time, and of the rate where that is one.
    plane : (str, str)
        The axes xi and eta.
    time : str, optional
        The axis of time; the angle is zero at its left end.
    rate : str or float, optional
        The angular velocity: the name of an axis, or a number.
    names : (str, str), optional
        Names of x and y, which take the places of xi and eta.

    Returns
    -------
    CoordinateMap

    Raises
    ------
    TypeError
        If the rate is neither a name nor a number.
    ValueError
        If an axis is missing, or named twice.

    Examples
    --------
    >>> import sepnet as sn
    >>> B = sn.BSpline((-1, 1), cells=4)
    >>> V = sn.TensorSpace(xi=B, eta=B, t=sn.BSpline((0, 1), cells=4), omega=sn.BSpline((0, 1), cells=1))
    >>> M = sn.rotating(V, ("xi", "eta"), rate="omega")
    >>> xi, eta, t, omega = V.coordinates
    >>> M.d.t + omega * (xi * V.d.eta - eta * V.d.xi)  # the wind of a solid body is gone
    Operator(1 separable terms: d.t)
    """
    used = (*plane, time, *([rate] if isinstance(rate, str) else []))
    if isinstance(plane, str) or len(plane) != 2 or len(set(used)) < len(used):
        msg = (
            f"rotating: `plane` is {plane!r}, `time` {time!r} and `rate` {rate!r}, expected two axes and others for "
            "time and rate, e.g. plane=('xi', 'eta'), time='t', rate='omega'"
        )
        raise ValueError(msg)
    space.check_axes(used, "rotating")
    i, j, k = (space.names.index(name) for name in (*plane, time))
    m = space.names.index(rate) if isinstance(rate, str) else None
    start = space.axes[time].domain[0]

    turn = _Turning(i, j, k, m, 0.0 if isinstance(rate, str) else real_number("`rate`", rate), start)
    letters = dict(zip(space.names, space.coordinates, strict=True))
    xi, eta = (letters[name] for name in plane)
    x, y = names
    known = _carried(space, {x: plane[0], y: plane[1]})
    for name in (x, y):  # cos and sin of an angle that is a product: separated when asked for
        del known[name, plane[0]], known[name, plane[1]]
    velocity = letters[rate] if isinstance(rate, str) else constant(turn.rate)
    known |= {(time, plane[0]): velocity * eta, (time, plane[1]): -1 * velocity * xi}
    if isinstance(rate, str):
        after = letters[time] - start
        known |= {(rate, plane[0]): after * eta, (rate, plane[1]): -1 * after * xi}
    shown = _renamed(space, {plane[0]: x, plane[1]: y})
    return CoordinateMap(
        space, shown, turn.to_physical, turn.to_computational, turn.jacobian, known, _kept(space, plane)
    )


@dataclass(frozen=True)
class _Polar:
    """The callables of `polar`: the columns of radius and angle, where the angle begins, and the pole."""

    i: int
    j: int
    start: float
    centre: tuple[float, float]

    def to_physical(self, q: Array) -> Array:
        xp, r, angle = namespace(q), q[:, self.i], q[:, self.j]
        return _with(q, {self.i: r * xp.cos(angle) + self.centre[0], self.j: r * xp.sin(angle) + self.centre[1]})

    def to_computational(self, x: Array) -> Array:
        xp = namespace(x)
        a, b = x[:, self.i] - self.centre[0], x[:, self.j] - self.centre[1]
        turned = xp.atan2(b, a)
        turned = turned - 2 * pi * xp.floor((turned - self.start) / (2 * pi))
        return _with(x, {self.i: xp.hypot(a, b), self.j: turned})

    def jacobian(self, q: Array) -> Array:
        xp, i, j = namespace(q), self.i, self.j
        c, s, r = xp.cos(q[:, j]), xp.sin(q[:, j]), q[:, i]
        return _identity_but(q, {(i, i): c, (i, j): -r * s, (j, i): s, (j, j): r * c})


@dataclass(frozen=True, eq=False)
class _Affine:
    """The callables of `affine`."""

    matrix: np.ndarray
    inverse: np.ndarray
    offset: np.ndarray

    @property
    def element(self) -> Coefficient:
        return constant(abs(float(np.linalg.det(self.matrix))))

    def to_physical(self, q: Array) -> Array:
        return q @ _here(self.matrix.T, q) + _here(self.offset, q)

    def to_computational(self, x: Array) -> Array:
        return (x - _here(self.offset, x)) @ _here(self.inverse.T, x)

    def jacobian(self, q: Array) -> Array:
        return namespace(q).broadcast_to(_here(self.matrix, q)[None, :, :], (int(q.shape[0]), *self.matrix.shape))


@dataclass(frozen=True)
class _Turning:
    """The callables of `rotating`: the columns of plane, time and rate (or that as a number), and the first time."""

    i: int
    j: int
    k: int
    m: int | None
    rate: float
    start: float

    def to_physical(self, q: Array) -> Array:
        return self._turned(q, 1.0)

    def to_computational(self, x: Array) -> Array:
        return self._turned(x, -1.0)

    def _speed(self, points: Array) -> Any:
        return self.rate if self.m is None else points[:, self.m]

    def _turned(self, points: Array, sign: float) -> Array:
        xp = namespace(points)
        angle = sign * self._speed(points) * (points[:, self.k] - self.start)
        c, s = xp.cos(angle), xp.sin(angle)
        a, b = points[:, self.i], points[:, self.j]
        return _with(points, {self.i: a * c - b * s, self.j: a * s + b * c})

    def jacobian(self, q: Array) -> Array:
        xp, i, j, k, speed = namespace(q), self.i, self.j, self.k, self._speed(q)
        after = q[:, k] - self.start
        angle = speed * after
        c, s, a, b = xp.cos(angle), xp.sin(angle), q[:, i], q[:, j]
        across, along = -a * s - b * c, a * c - b * s
        entries = {(i, i): c, (i, j): -s, (j, i): s, (j, j): c}
        entries |= {(i, k): speed * across, (j, k): speed * along}
        if self.m is not None:
            entries |= {(i, self.m): after * across, (j, self.m): after * along}
        return _identity_but(q, entries)


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"affine: `{name}` is {value!r}, expected an array of real numbers"
        raise TypeError(msg) from error


def _here(a: np.ndarray, like: Array) -> Array:
    return namespace(like).asarray(a.tolist(), dtype=like.dtype, device=like.device)


def _with(points: Array, columns: Mapping[int, Array]) -> Array:
    xp = namespace(points)
    return xp.stack([columns.get(k, points[:, k]) for k in range(int(points.shape[1]))], axis=1)


def _identity_but(points: Array, entries: Mapping[tuple[int, int], Array]) -> Array:
    xp, d = namespace(points), int(points.shape[1])
    one, zero = xp.ones_like(points[:, 0]), xp.zeros_like(points[:, 0])
    rows = [xp.stack([entries.get((i, j), one if i == j else zero) for j in range(d)], axis=1) for i in range(d)]
    return xp.stack(rows, axis=1)


def _carried(space: TensorSpace, places: Mapping[str, str]) -> dict[tuple[str, str], Any]:
    """Return the entries of the identity, with the names of physical coordinates in the places of axes."""
    physical = _renamed(space, {axis: name for name, axis in places.items()})
    return {(x, q): float(i == j) for j, x in enumerate(physical) for i, q in enumerate(space.names)}


def _renamed(space: TensorSpace, names: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(names.get(name, name) for name in space.names)


def _kept(space: TensorSpace, without: Sequence[str]) -> dict[str, Coefficient]:
    return {n: c for n, c in zip(space.names, space.coordinates, strict=True) if n not in without}


@dataclass(frozen=True)
class _power:  # noqa: N801  a function with parameters
    """``scale * x**exponent``."""

    exponent: int
    scale: float = 1.0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.scale * x ** float(self.exponent))


def _minus_sine(x: np.ndarray) -> np.ndarray:
    return np.asarray(-np.sin(x))


def _minus_cosine(x: np.ndarray) -> np.ndarray:
    return np.asarray(-np.cos(x))


def _turning(angle: Coefficient) -> tuple[Coefficient, Coefficient]:
    """Return cosine and sine with their first eight derivatives."""
    cycle: list[Callable[[np.ndarray], np.ndarray]] = [np.cos, _minus_sine, _minus_cosine, np.sin]
    cosine, sine = (
        apply(cycle[first], angle, derivatives=[cycle[(first + k) % 4] for k in range(1, 9)]) for first in (0, 3)
    )
    return cosine, sine
