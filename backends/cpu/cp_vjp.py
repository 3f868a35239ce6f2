"""The columns of a CP function, and the vector-Jacobian products of columns and sum, on the CPU.

As in the gradient, eight columns of the rank at a time run through all axes, forth for the products before each axis,
back for those after it. The cotangent stands in front of the first factor, so that on the way back the product of both
is what the value owes to each factor: times the slope it goes to the point, times the powers of s to the table.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sepnet.backends.arrays import Array
from sepnet.backends.checks import bad_point, check_cp, check_vjp
from sepnet.backends.contract import Names, Wanted
from sepnet.backends.cpu.accumulate import accumulate
from sepnet.backends.cpu.cells import pack_axes
from sepnet.backends.cpu.cp import LANES, _evaluate, _place, _product
from sepnet.backends.cpu.jit import inlined, njit
from sepnet.backends.cpu.simd import add, fma, get, load8, mul, put, splat8, store8, total

__all__ = ["cp_columns", "cp_columns_vjp", "cp_vjp"]


def cp_columns(points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None) -> Array:
    """See `sepnet.backends.contract.Kernels.cp_columns`."""
    check_cp(points, breaks, tables)
    columns = np.empty((points.shape[0], tables[0].shape[2]), dtype=points.dtype)
    _evaluate(_columns, points, breaks, tables, names, columns)
    return columns


def cp_vjp(
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
    """See `sepnet.backends.contract.Kernels.cp_vjp`; always deterministic."""
    check_cp(points, breaks, tables)
    check_vjp(points, cotangent, wanted)
    return _carry_back(points, breaks, tables, cotangent, 0, wanted, names)


def cp_columns_vjp(
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
    """See `sepnet.backends.contract.Kernels.cp_columns_vjp`; always deterministic."""
    check_cp(points, breaks, tables)
    check_vjp(points, cotangent, wanted, (tables[0].shape[2],))
    return _carry_back(points, breaks, tables, cotangent, 1, wanted, names)


def _carry_back(
    points: Array,
    breaks: tuple[Array, ...],
    tables: tuple[Array, ...],
    cotangent: Array,
    step: int,
    wanted: Wanted,
    names: Names,
) -> tuple[Array | None, tuple[Array, ...] | None]:
    """Do both: a point has one cotangent for all columns (`step` 0), or one for each (`step` 1)."""
    n, d = points.shape
    dtype, one = points.dtype, points.dtype.type(1)
    # these names keep what the addresses point to alive until the kernel is done
    points, cotangent = np.ascontiguousarray(points), np.ascontiguousarray(cotangent)
    solid = [np.ascontiguousarray(table) for table in tables]
    where = np.array([table.ctypes.data for table in solid], dtype=np.int64)
    degrees = np.array([table.shape[1] - 1 for table in solid], dtype=np.int64)
    rank, axes = solid[0].shape[2], pack_axes(breaks)
    inputs = (points.ctypes.data, axes.addresses(), where.ctypes.data, degrees.ctypes.data, d, rank)
    slopes = np.empty((n if wanted != "tables" else 0, d), dtype=dtype)
    what = wanted != "tables", wanted != "points"
    offsets = np.cumsum([0, *(table.size if wanted != "points" else 0 for table in solid)])

    def piece(start: int, stop: int, sums: int) -> int:
        rows, to = np.empty(d, dtype=np.int64), sums + offsets[:-1] * dtype.itemsize
        work = np.empty(2 * d + (4 * d + 1) * LANES, dtype=dtype)
        memory = (rows.ctypes.data, work.ctypes.data)
        outputs = (cotangent.ctypes.data, slopes.ctypes.data, to.ctypes.data)
        return int(_vjp(start, stop, *inputs, *memory, *outputs, step, *what, one))

    numbers = sum(table.shape[1] for table in solid) * rank
    bad, sums = accumulate(piece, n, numbers, int(offsets[-1]), dtype)
    if bad >= 0:
        row, axis = divmod(bad, d)
        raise bad_point(axis, float(points[row, axis]), float(breaks[axis][0]), float(breaks[axis][-1]), names)
    if wanted == "points":
        return slopes, None
    parts = [sums[a:b].reshape(t.shape) for a, b, t in zip(offsets[:-1], offsets[1:], solid, strict=True)]
    return (None if wanted == "tables" else slopes), tuple(parts)


@njit
def _columns(
    start: Any, stop: Any, points: Any, axes: Any, where: Any, degrees: Any, d: Any, rank: Any,
    rows: Any, work: Any, columns: Any, one: Any,
) -> Any:  # fmt: skip
    full = rank - rank % LANES
    for k in range(start, stop):
        bad = _place(k, points, axes, degrees, d, rank, rows, work, one)
        if bad >= 0:
            return k * d + bad
        for r in range(0, full, LANES):
            store8(columns, k * rank + r, LANES, _product(where, degrees, d, rank, rows, work, r, LANES, one))
        if full < rank:
            rest = _product(where, degrees, d, rank, rows, work, full, rank - full, one)
            store8(columns, k * rank + full, rank - full, rest)
    return -1


@inlined
def _forth(
    where: Any, degrees: Any, d: Any, rank: Any, rows: Any, work: Any, first: Any, at: Any, r: Any, count: Any, one: Any
) -> Any:
    """Write per axis the factor, its slope and the product before it to `work`; number `at` of `first` starts it."""
    whole, start = np.int64(0), 2 * d + d * LANES
    product = load8(first, at, count, one)
    for i in range(d):
        s, table, row = splat8(get(work, i, one)), get(where, i, whole), get(rows, i, whole) + r
        v, dv = load8(table, row, count, one), splat8(one - one)
        for _ in range(get(degrees, i, whole)):
            row -= rank
            dv = fma(dv, s, v)
            v = fma(v, s, load8(table, row, count, one))
        at = start + 3 * i * LANES
        store8(work, at, LANES, v)
        store8(work, at + LANES, LANES, mul(dv, splat8(get(work, d + i, one))))
        store8(work, at + 2 * LANES, LANES, product)
        product = mul(product, v)


@inlined
def _back(
    degrees: Any, d: Any, rank: Any, rows: Any, work: Any, to: Any, r: Any, count: Any, pull: Any, spread: Any, one: Any
) -> Any:
    """Add the block's share to the slopes of the point, in `work`, and to the sums of its cells."""
    whole = np.int64(0)
    after = splat8(one)
    for j in range(d):
        i = d - 1 - j
        at = 2 * d + (d + 3 * i) * LANES
        share = mul(load8(work, at + 2 * LANES, LANES, one), after)
        after = mul(after, load8(work, at, LANES, one))
        if pull:
            slope, entry = load8(work, at + LANES, LANES, one), 2 * d + i * LANES
            store8(work, entry, LANES, fma(share, slope, load8(work, entry, LANES, one)))
        if spread:
            degree, sums, s = get(degrees, i, whole), get(to, i, whole), splat8(get(work, i, one))
            row = get(rows, i, whole) + r - degree * rank
            for _ in range(degree + 1):
                store8(sums, row, count, add(load8(sums, row, count, one), share))
                share = mul(share, s)
                row += rank


@njit
def _vjp(
    start: Any, stop: Any, points: Any, axes: Any, where: Any, degrees: Any, d: Any, rank: Any, rows: Any, work: Any,
    cotangent: Any, slopes: Any, to: Any, step: Any, pull: Any, spread: Any, one: Any,
) -> Any:  # fmt: skip
    # `work` holds s and ds/dx of each axis, the slopes of the point in eight parts each, three vectors an axis, and
    # a cotangent in all lanes
    full, same = rank - rank % LANES, 2 * d + 4 * d * LANES
    for k in range(start, stop):
        bad = _place(k, points, axes, degrees, d, rank, rows, work, one)
        if bad >= 0:
            return k * d + bad
        for i in range(d):
            store8(work, 2 * d + i * LANES, LANES, splat8(one - one))
        first, at = cotangent, k * rank
        if not step:
            first, at = work, same
            store8(work, same, LANES, splat8(get(cotangent, k, one)))
        for r in range(0, full, LANES):
            _forth(where, degrees, d, rank, rows, work, first, at + r * step, r, LANES, one)
            _back(degrees, d, rank, rows, work, to, r, LANES, pull, spread, one)
        if full < rank:
            _forth(where, degrees, d, rank, rows, work, first, at + full * step, full, rank - full, one)
            _back(degrees, d, rank, rows, work, to, full, rank - full, pull, spread, one)
        if pull:
            for i in range(d):
                put(slopes, k * d + i, total(load8(work, 2 * d + i * LANES, LANES, one)))
    return -1
