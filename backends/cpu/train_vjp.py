"""The vector-Jacobian product of a tensor train, on the CPU.

The rows before each axis and the columns after it are those of the gradient (`sepnet.backends.cpu.train`). What the
value owes to a matrix is the outer product of the two, which goes to the coefficients times the powers of s: one
vector of the column, times a power, stays in a register while it is added to all rows of the matrix.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sepnet.backends.arrays import Array
from sepnet.backends.checks import bad_point, check_train, check_vjp
from sepnet.backends.contract import Names, Wanted
from sepnet.backends.cpu.accumulate import accumulate
from sepnet.backends.cpu.cells import pack_axes
from sepnet.backends.cpu.jit import inlined, njit
from sepnet.backends.cpu.simd import fma, get, load8, mul, put, splat8, store8
from sepnet.backends.cpu.train import LANES, _axis, _backward, _dot, _forward, _layout, _place

__all__ = ["train_vjp"]

# Points whose vectors are kept until they are added up cell by cell; and their numbers at most.
TILE, TILE_NUMBERS = 256, 2**17
# Cells that the points of a tile are sorted into; where an axis has more, several share a place.
BUCKETS = 1024


def train_vjp(
    points: Array,
    breaks: tuple[Array, ...],
    tables: tuple[Array, ...],
    cotangent: Array,
    /,
    *,
    wanted: Wanted = "both",
    deterministic: bool = False,
    names: Names = None,
) -> tuple[Array | None, tuple[Array, ...] | None]:
    """See `sepnet.backends.contract.Kernels.train_vjp`; always deterministic."""
    check_train(points, breaks, tables)
    check_vjp(points, cotangent, wanted)
    n, d = points.shape
    dtype, one = points.dtype, points.dtype.type(1)
    # these names keep what the addresses point to alive until the kernel is done
    points, cotangent = np.ascontiguousarray(points), np.ascontiguousarray(cotangent)
    solid = [np.ascontiguousarray(table) for table in tables]
    where = np.array([table.ctypes.data for table in solid], dtype=np.int64)
    shapes, width, _ = _layout(solid)
    axes = pack_axes(breaks)
    buckets = np.array([min(table.shape[0], BUCKETS) for table in solid], dtype=np.int64)
    inputs = (points.ctypes.data, axes.addresses(), where.ctypes.data, shapes.ctypes.data, d, width)
    stride = 2 * d + 4 * width
    tile = 1 if wanted == "points" else max(1, min(TILE, n, TILE_NUMBERS // stride))
    slopes = np.empty((n if wanted != "tables" else 0, d), dtype=dtype)
    # rows of whole vectors: masked ones, and those across cache lines, take twice the time
    padded = [(*table.shape[:3], -(-table.shape[3] // LANES) * LANES) for table in solid]
    offsets = np.cumsum([0, *(math.prod(shape) if wanted != "points" else 0 for shape in padded)])

    def piece(start: int, stop: int, sums: int) -> int:
        to, rows = sums + offsets[:-1] * dtype.itemsize, np.empty(tile * d, dtype=np.int64)
        work, order = np.empty(tile * stride, dtype=dtype), np.empty(tile, dtype=np.int64)
        places = np.empty(BUCKETS + 1, dtype=np.int64)
        memory = (rows.ctypes.data, work.ctypes.data, places.ctypes.data, order.ctypes.data)
        outputs = (cotangent.ctypes.data, slopes.ctypes.data, to.ctypes.data)
        sizes = (buckets.ctypes.data, tile, dtype.itemsize)
        return int(_vjp(start, stop, *inputs, *memory, *sizes, *outputs, wanted != "tables", wanted != "points", one))

    numbers = sum(table[0].size for table in solid)
    bad, sums = accumulate(piece, n, numbers, int(offsets[-1]), dtype)
    if bad >= 0:
        row, axis = divmod(bad, d)
        raise bad_point(axis, float(points[row, axis]), float(breaks[axis][0]), float(breaks[axis][-1]), names)
    if wanted == "points":
        return slopes, None
    blocks = [sums[a:b].reshape(shape) for a, b, shape in zip(offsets[:-1], offsets[1:], padded, strict=True)]
    parts = [np.ascontiguousarray(block[..., : t.shape[3]]) for block, t in zip(blocks, solid, strict=True)]
    return (None if wanted == "tables" else slopes), tuple(parts)


@inlined
def _spread(sums: Any, row: Any, axis: Any, work: Any, base: Any, after: Any, s: Any, y: Any, one: Any) -> Any:
    """Add the outer product times the powers of s to the sums of the cell, which are from `row` on."""
    degree, (left, right), (source, to, _) = axis
    padded = -(-right // LANES) * LANES
    for j in range(0, padded, LANES):
        column, at = mul(load8(work, after + to + j, right - j, one), y), row + j
        for _ in range(degree + 1):
            for a in range(left):
                share = fma(splat8(get(work, base + source + a, one)), column, load8(sums, at, LANES, one))
                store8(sums, at, LANES, share)
                at += padded
            column = mul(column, s)


@inlined
def _sort(i: Any, count: Any, buckets: Any, entries: Any, d: Any, rows: Any, places: Any, order: Any) -> Any:
    """Write the numbers of the points of a tile to `order`, by cells of axis `i`, those of a cell as they come."""
    whole = np.int64(0)
    for c in range(buckets + 1):
        put(places, c, whole)
    for m in range(count):
        c = get(rows, m * d + i, whole) // entries % buckets + 1
        put(places, c, get(places, c, whole) + 1)
    for c in range(buckets):
        put(places, c + 1, get(places, c, whole) + get(places, c + 1, whole))
    for m in range(count):
        c = get(rows, m * d + i, whole) // entries % buckets
        to = get(places, c, whole)
        put(order, to, m)
        put(places, c, to + 1)


@njit
def _vjp(
    start: Any, stop: Any, points: Any, axes: Any, where: Any, shapes: Any, d: Any, width: Any,
    rows: Any, work: Any, places: Any, order: Any, buckets: Any, tile: Any, size: Any,
    cotangent: Any, slopes: Any, to: Any, pull: Any, spread: Any, one: Any,
) -> Any:  # fmt: skip
    whole, base, after, stride = np.int64(0), 2 * d, 2 * d + 3 * width, (2 * d + 4 * width) * size
    for first in range(start, stop, tile):
        count = min(tile, stop - first)
        for m in range(count):
            k, own, at = first + m, rows + 8 * m * d, work + m * stride
            bad = _place(k, points, axes, shapes, d, own, at, one)
            if bad >= 0:
                return k * d + bad
            _forward(where, shapes, d, width, own, at, 1, one)
            _backward(where, shapes, d, width, own, at, 1, one)
            if pull:
                y = get(cotangent, k, one)
                for i in range(d):
                    _, (_, right), (_, v, _) = _axis(i, shapes)
                    put(slopes, k * d + i, y * _dot(at, base + width + v, after + v, right, one))
        if spread:
            for i in range(d):
                axis, sums = _axis(i, shapes), get(to, i, whole)
                degree, (left, right), _ = axis
                powers, entries, padded = degree + 1, max(left * right, 1), -(-right // LANES) * LANES
                _sort(i, count, get(buckets, i, whole), powers * entries, d, rows, places, order)
                for q in range(count):
                    m = get(order, q, whole)
                    at, row = work + m * stride, (get(rows, m * d + i, whole) // entries - degree) * left * padded
                    s, y = splat8(get(at, i, one)), splat8(get(cotangent, first + m, one))
                    _spread(sums, row, axis, at, base, after, s, y, one)
    return -1
