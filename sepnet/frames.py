"""Ready-made maps of coordinates: polar, affine, and a frame that turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import pi
from typing import Any

import numpy as np

from sepnet.backends.arrays import Array, namespace
from sepnet.coefficients import Coefficient, apply, constant
from sepnet.coordinate_map import CoordinateMap
from sepnet.spaces import TensorSpace

__all__ = ["affine", "polar", "rotating"]

ROUND_OFF = 256 * float(np.finfo(np.float64).eps)


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

    def to_physical(q: Array) -> Array:
        xp = namespace(q)
        x, y = q[:, i] * xp.cos(q[:, j]) + centre[0], q[:, i] * xp.sin(q[:, j]) + centre[1]
        return _with(q, {i: x, j: y})

    def to_computational(x: Array) -> Array:
        xp = namespace(x)
        a, b = x[:, i] - centre[0], x[:, j] - centre[1]
        turned = xp.atan2(b, a)
        turned = turned - 2 * pi * xp.floor((turned - start) / (2 * pi))
        return _with(x, {i: xp.hypot(a, b), j: turned})

    def jacobian(q: Array) -> Array:
        xp = namespace(q)
        c, s, r = xp.cos(q[:, j]), xp.sin(q[:, j]), q[:, i]
        return _identity_but(q, {(i, i): c, (i, j): -r * s, (j, i): s, (j, j): r * c})

    r, theta = space.coordinates[i], space.coordinates[j]
    cosine, sine = _turning(theta)
    inverse = apply(_power(-1), r, derivatives=[_power(-2, -1.0), _power(-3, 2.0), _power(-4, -6.0)])
    x, y = names
    known = _carried(space, {x: radius, y: angle})
    known |= {(x, radius): cosine, (x, angle): -1 * sine * inverse}
    known |= {(y, radius): sine, (y, angle): cosine * inverse}
    shown = _renamed(space, {radius: x, angle: y})
    expressions = _kept(space, (radius, angle)) | {x: r * cosine + centre[0], y: r * sine + centre[1]}
    return CoordinateMap(space, shown, to_physical, to_computational, jacobian, known, expressions, r)


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
    d = space.dim
    A = np.array(matrix, dtype=np.float64)
    b = np.zeros(d) if offset is None else np.array(offset, dtype=np.float64)
    if A.shape != (d, d) or b.shape != (d,) or not np.isfinite(A).all() or not np.isfinite(b).all():
        msg = f"`matrix` has shape {A.shape} and `offset` {b.shape}, expected finite ({d}, {d}) and ({d},)"
        raise ValueError(msg)
    if np.linalg.cond(A) > 1 / ROUND_OFF:
        msg = "`matrix` is singular, expected an invertible one: the map could not be undone"
        raise ValueError(msg)
    inverse = np.linalg.inv(A)
    names = tuple(names)

    def here(a: np.ndarray, like: Array) -> Array:
        xp = namespace(like)
        return xp.asarray(a.tolist(), dtype=like.dtype, device=like.device)

    def jacobian(q: Array) -> Array:
        xp = namespace(q)
        return xp.broadcast_to(here(A, q)[None, :, :], (int(q.shape[0]), d, d))

    known = {(x, q): float(inverse[i, j]) for j, x in enumerate(names) for i, q in enumerate(space.names)}
    expressions = {}
    for x, row, shift in zip(names, A, b, strict=False):
        expressions[x] = sum((float(c) * q for c, q in zip(row, space.coordinates, strict=True)), constant(shift))
    return CoordinateMap(
        space,
        names,
        lambda q: q @ here(A.T, q) + here(b, q),
        lambda x: (x - here(b, x)) @ here(inverse.T, x),
        jacobian,
        known,
        expressions,
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
    ValueError
        If an axis is missing.

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
    space.check_axes((*plane, time, *([rate] if isinstance(rate, str) else [])), "rotating")
    i, j, k = (space.names.index(name) for name in (*plane, time))
    m = space.names.index(rate) if isinstance(rate, str) else None
    start = space.axes[time].domain[0]

    def speed(points: Array) -> Any:
        return rate if m is None else points[:, m]

    def turned(points: Array, sign: float) -> Array:
        xp = namespace(points)
        angle = sign * speed(points) * (points[:, k] - start)
        c, s = xp.cos(angle), xp.sin(angle)
        a, b = points[:, i], points[:, j]
        return _with(points, {i: a * c - b * s, j: a * s + b * c})

    def jacobian(q: Array) -> Array:
        xp = namespace(q)
        after = q[:, k] - start
        angle = speed(q) * after
        c, s, a, b = xp.cos(angle), xp.sin(angle), q[:, i], q[:, j]
        across, along = -a * s - b * c, a * c - b * s
        entries = {(i, i): c, (i, j): -s, (j, i): s, (j, j): c}
        entries |= {(i, k): speed(q) * across, (j, k): speed(q) * along}
        if m is not None:
            entries |= {(i, m): after * across, (j, m): after * along}
        return _identity_but(q, entries)

    letters = dict(zip(space.names, space.coordinates, strict=True))
    xi, eta = (letters[name] for name in plane)
    x, y = names
    known = _carried(space, {x: plane[0], y: plane[1]})
    for name in (x, y):  # cos and sin of an angle that is a product: separated when asked for
        del known[name, plane[0]], known[name, plane[1]]
    velocity = letters[rate] if isinstance(rate, str) else constant(rate)
    known |= {(time, plane[0]): velocity * eta, (time, plane[1]): -1 * velocity * xi}
    if isinstance(rate, str):
        after = letters[time] - start
        known |= {(rate, plane[0]): after * eta, (rate, plane[1]): -1 * after * xi}
    shown = _renamed(space, {plane[0]: x, plane[1]: y})
    return CoordinateMap(
        space, shown, lambda q: turned(q, 1.0), lambda p: turned(p, -1.0), jacobian, known, _kept(space, plane)
    )


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
