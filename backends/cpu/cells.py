"""Finding the cell of a point in about constant time, for uniform and graded breaks alike.

Each axis is cut into equal buckets; `Axes.first` knows the cell at the left end of each. Uniform breaks take one bucket
per cell, graded breaks four. The guess is then corrected against the breaks themselves, by no step at all in most
cases, so round-off in the guess never decides a cell. Buckets with many cells (strong grading) are searched by halving.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sepnet.backends.arrays import Array
from sepnet.backends.checks import slack
from sepnet.backends.cpu.jit import inlined, njit
from sepnet.backends.cpu.simd import get

__all__ = ["Axes", "axis_of", "find_cell", "pack_axes"]

GRADED_BUCKETS = 4


class Axes(NamedTuple):
    """The axes laid one after the other, so that one compiled kernel serves any number of them."""

    flat: Array
    """The breaks of all axes."""
    slopes: Array
    """ds/dx on each cell; one unused number after each axis, so that `flat` and `slopes` are indexed alike."""
    ends: Array
    """Per axis: left and right end, each with its slack, and buckets per unit of length."""
    layout: Array
    """Per axis, int64: start in `flat`, number of cells, start in `first`, number of buckets."""
    first: Array
    """Cell at the left end of each bucket."""

    def addresses(self) -> tuple[int, ...]:
        """Where the arrays are in memory, for `find_cell`; keep the object alive meanwhile."""
        return tuple(a.ctypes.data for a in self)


def pack_axes(breaks: tuple[Array, ...]) -> Axes:
    """Return the `Axes` of d arrays of shape (cells_i + 1,)."""
    cells = np.array([b.shape[0] - 1 for b in breaks], dtype=np.int64)
    flat = np.concatenate(breaks)
    slopes = np.empty_like(flat)
    ends = np.empty((len(breaks), 3), dtype=flat.dtype)
    unit = float(np.finfo(flat.dtype).eps)
    for axis, b in enumerate(breaks):
        left, right = float(b[0]), float(b[-1])
        ends[axis, 0], ends[axis, 1] = left - slack(left, right, unit), right + slack(left, right, unit)
    layout = np.empty((len(breaks), 4), dtype=np.int64)
    first = np.empty(GRADED_BUCKETS * int(np.sum(cells)) + len(breaks), dtype=np.int64)
    _fill_buckets(flat, cells, slopes, ends, layout, first)
    return Axes(flat, slopes, ends, layout, first)


@njit
def _fill_buckets(flat: Any, cells: Any, slopes: Any, ends: Any, layout: Any, first: Any) -> None:
    start, bucket = 0, 0
    for axis in range(cells.shape[0]):
        count = cells[axis]
        left, right = flat[start], flat[start + count]
        uniform = True
        for c in range(count):
            slopes[start + c] = 2 / (flat[start + c + 1] - flat[start + c])
            even = left + (right - left) * c / count
            uniform = uniform and abs(flat[start + c] - even) <= 1e-3 * (right - left) / count
        buckets = count if uniform else GRADED_BUCKETS * count
        ends[axis, 2] = buckets / (right - left)
        layout[axis, 0], layout[axis, 1], layout[axis, 2], layout[axis, 3] = start, count, bucket, buckets
        cell = 0
        for b in range(buckets):
            while cell < count - 1 and flat[start + cell + 1] <= left + (right - left) * b / buckets:
                cell += 1
            first[bucket + b] = b if uniform else cell
        first[bucket + buckets] = count - 1
        start, bucket = start + count + 1, bucket + buckets + 1


@inlined
def axis_of(i: Any, axes: Any, like: Any) -> Any:
    """Return what `find_cell` needs of axis `i`; for loops over the points of one axis, to read it once."""
    whole = np.int64(0)
    limits = get(axes[2], 3 * i, like), get(axes[2], 3 * i + 1, like), get(axes[2], 3 * i + 2, like)
    start, cells = get(axes[3], 4 * i, whole), get(axes[3], 4 * i + 1, whole)
    return limits, (start, cells, get(axes[3], 4 * i + 2, whole), get(axes[3], 4 * i + 3, whole))


@inlined
def find_cell(x: Any, axis: Any, axes: Any) -> Any:
    """Return the cell of `x` on an axis of `axis_of`, or -1 where `x` is NaN or outside the domain."""
    (low, high, per_length), (start, cells, bucket, buckets) = axis
    flat, first, whole, last = axes[0], axes[4], np.int64(0), cells - 1
    if not (x >= low and x <= high):
        return -1
    b = min(max(np.int64((x - low) * per_length), 0), buckets - 1)
    cell = get(first, bucket + b, whole)
    if cell < last and x >= get(flat, start + cell + 1, x):
        cell += 1
        end = max(get(first, bucket + b + 1, whole), cell)
        while cell < end:
            middle = (cell + end + 1) >> 1
            if x >= get(flat, start + middle, x):
                cell = middle
            else:
                end = middle - 1
        # round-off can put x one bucket too low or too high
        while cell < last and x >= get(flat, start + cell + 1, x):
            cell += 1
    while cell > 0 and x < get(flat, start + cell, x):
        cell -= 1
    return cell
