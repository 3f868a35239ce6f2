"""What every kernel over scattered points needs on the host's side: memory for results, and the first bad point."""

from __future__ import annotations

from sepnet.backends.arrays import Array, device_of, namespace
from sepnet.backends.checks import bad_point
from sepnet.backends.contract import Names

__all__ = ["empty_like", "no_bad_point", "raise_bad_point"]


def empty_like(like: Array, *shape: int) -> Array:
    """Return memory of `shape` in the library, on the device and of the dtype of `like`."""
    return namespace(like).empty(shape, dtype=like.dtype, device=device_of(like))


def no_bad_point(points: Array) -> Array:
    """Return the number, on the device, that a kernel lowers to ``row * d + axis`` of the first bad coordinate."""
    xp = namespace(points)
    return xp.full((1,), int(points.shape[0]) * int(points.shape[1]), dtype=xp.int64, device=device_of(points))


def raise_bad_point(bad: Array, points: Array, breaks: tuple[Array, ...], names: Names) -> None:
    """Raise ValueError if a kernel lowered `bad`; reading it waits for the kernel, the one wait of an evaluation."""
    first, d = int(bad[0]), int(points.shape[1])
    if first < int(points.shape[0]) * d:
        row, axis = divmod(first, d)
        raise bad_point(axis, float(points[row, axis]), float(breaks[axis][0]), float(breaks[axis][-1]), names)
