"""Value, gradient and Hessian of a CP function at scattered points, on the CPU.

Per point the cell, the local coordinate and the place of the coefficients are found once per axis; then eight columns
of the rank at a time run through all axes, so that the running products stay in registers. Degree, rank and number of
axes are run-time numbers: one compilation per dtype serves them all. Rejected: the axis as outer loop with the running
product in memory (500 ns a point at rank 16 where this takes 85: LLVM fears aliasing and does not vectorise), four
lanes (twice as slow at rank 16), sixteen lanes (7 % faster at rank 16, 20 % slower at rank 3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sepnet.backends.arrays import Array
from sepnet.backends.checks import bad_point, check_cp
from sepnet.backends.contract import Names
from sepnet.backends.cpu.cells import axis_of, find_cell, pack_axes
from sepnet.backends.cpu.jit import inlined, njit, run
from sepnet.backends.cpu.simd import add, fma, get, load8, mul, put, splat8, store8, total

__all__ = ["cp_gradient", "cp_hessian", "cp_value"]

LANES = 8

# Numbers of workspace by number of results: s and ds/dx of each axis, the sums, and what a block needs.
WORK: dict[int, Callable[[int], int]] = {
    1: lambda d: 2 * d,
    2: lambda d: 2 * d + (4 * d + 1) * LANES,
    3: lambda d: 2 * d + (1 + 6 * d + d * (d + 1) // 2) * LANES,
}


def cp_value(points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None) -> Array:
    """See `sepnet.backends.contract.Kernels.cp_value`."""
    check_cp(points, breaks, tables)
    value = np.empty(points.shape[0], dtype=points.dtype)
    _evaluate(_value, points, breaks, tables, names, value)
    return value


def cp_gradient(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.cp_gradient`."""
    check_cp(points, breaks, tables)
    n, d = points.shape
    value, gradient = np.empty(n, dtype=points.dtype), np.empty((n, d), dtype=points.dtype)
    _evaluate(_gradient, points, breaks, tables, names, value, gradient)
    return value, gradient


def cp_hessian(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array, Array]:
    """See `sepnet.backends.contract.Kernels.cp_hessian`."""
    check_cp(points, breaks, tables)
    n, d = points.shape
    value, gradient = np.empty(n, dtype=points.dtype), np.empty((n, d), dtype=points.dtype)
    hessian = np.empty((n, d, d), dtype=points.dtype)
    _evaluate(_hessian, points, breaks, tables, names, value, gradient, hessian)
    return value, gradient, hessian


def _evaluate(
    kernel: Callable[..., Any],
    points: Array,
    breaks: tuple[Array, ...],
    tables: tuple[Array, ...],
    names: Names,
    *results: Array,
) -> None:
    """Fill `results` by `kernel`; raise ValueError for the first bad point."""
    n, d = points.shape
    # these names keep what the addresses point to alive until the kernel is done
    points = np.ascontiguousarray(points)
    solid = [np.ascontiguousarray(table) for table in tables]
    where = np.array([table.ctypes.data for table in solid], dtype=np.int64)
    degrees = np.array([table.shape[1] - 1 for table in solid], dtype=np.int64)
    rank, axes, one = solid[0].shape[2], pack_axes(breaks), points.dtype.type(1)
    inputs = (points.ctypes.data, axes.addresses(), where.ctypes.data, degrees.ctypes.data, d, rank)
    outputs = tuple(r.ctypes.data for r in results)

    def piece(start: int, stop: int) -> int:
        rows = np.empty(d, dtype=np.int64)
        work = np.empty(WORK[len(results)](d), dtype=points.dtype)
        return int(kernel(start, stop, *inputs, rows.ctypes.data, work.ctypes.data, *outputs, one))

    bad = run(piece, n)
    if bad >= 0:
        row, axis = divmod(bad, d)
        raise bad_point(axis, float(points[row, axis]), float(breaks[axis][0]), float(breaks[axis][-1]), names)


@inlined
def _place(k: Any, points: Any, axes: Any, degrees: Any, d: Any, rank: Any, rows: Any, work: Any, one: Any) -> Any:
    """Write s and ds/dx of all axes to `work`, where the top coefficients are to `rows`; return a bad axis or -1."""
    whole = np.int64(0)
    for i in range(d):
        x = get(points, k * d + i, one)
        axis = axis_of(i, axes, one)
        c = find_cell(x, axis, axes)
        if c < 0:
            return i
        at = axis[1][0] + c
        slope, degree = get(axes[1], at, one), get(degrees, i, whole)
        put(work, i, (x - get(axes[0], at, one)) * slope - one)
        put(work, d + i, slope)
        put(rows, i, (c * (degree + 1) + degree) * rank)
    return -1


@inlined
def _product(where: Any, degrees: Any, d: Any, rank: Any, rows: Any, work: Any, r: Any, count: Any, one: Any) -> Any:
    """Return the product over the axes of `count` columns from `r` on, in one vector."""
    whole = np.int64(0)
    product = splat8(one)
    for i in range(d):
        s, table, row = splat8(get(work, i, one)), get(where, i, whole), get(rows, i, whole) + r
        v = load8(table, row, count, one)
        for _ in range(get(degrees, i, whole)):
            row -= rank
            v = fma(v, s, load8(table, row, count, one))
        product = mul(product, v)
    return product


@njit
def _value(
    start: Any, stop: Any, points: Any, axes: Any, where: Any, degrees: Any, d: Any, rank: Any,
    rows: Any, work: Any, value: Any, one: Any,
) -> Any:  # fmt: skip
    full = rank - rank % LANES
    for k in range(start, stop):
        bad = _place(k, points, axes, degrees, d, rank, rows, work, one)
        if bad >= 0:
            return k * d + bad
        result = splat8(one - one)
        # the count is known to the compiler for whole blocks, which turns the masked loads into plain ones
        for r in range(0, full, LANES):
            result = add(result, _product(where, degrees, d, rank, rows, work, r, LANES, one))
        if full < rank:
            result = add(result, _product(where, degrees, d, rank, rows, work, full, rank - full, one))
        put(value, k, total(result))
    return -1


@inlined
def _gradient_block(
    where: Any, degrees: Any, d: Any, rank: Any, rows: Any, work: Any, r: Any, count: Any, one: Any
) -> Any:
    """Add the block's share to the sums in `work`: value, then gradient."""
    whole = np.int64(0)
    sums = 2 * d
    factors, slopes, before = sums + (d + 1) * LANES, sums + (2 * d + 1) * LANES, sums + (3 * d + 1) * LANES
    product = splat8(one)
    for i in range(d):
        s, table, row = splat8(get(work, i, one)), get(where, i, whole), get(rows, i, whole) + r
        v, dv = load8(table, row, count, one), splat8(one - one)
        for _ in range(get(degrees, i, whole)):
            row -= rank
            dv = fma(dv, s, v)
            v = fma(v, s, load8(table, row, count, one))
        store8(work, factors + i * LANES, LANES, v)
        store8(work, slopes + i * LANES, LANES, mul(dv, splat8(get(work, d + i, one))))
        store8(work, before + i * LANES, LANES, product)
        product = mul(product, v)
    store8(work, sums, LANES, add(load8(work, sums, LANES, one), product))
    after = splat8(one)
    for j in range(d):
        i = d - 1 - j
        share = mul(load8(work, before + i * LANES, LANES, one), after)
        to = sums + (i + 1) * LANES
        slope = load8(work, slopes + i * LANES, LANES, one)
        store8(work, to, LANES, fma(share, slope, load8(work, to, LANES, one)))
        after = mul(after, load8(work, factors + i * LANES, LANES, one))


@njit
def _gradient(
    start: Any, stop: Any, points: Any, axes: Any, where: Any, degrees: Any, d: Any, rank: Any,
    rows: Any, work: Any, value: Any, gradient: Any, one: Any,
) -> Any:  # fmt: skip
    full, sums = rank - rank % LANES, 2 * d
    for k in range(start, stop):
        bad = _place(k, points, axes, degrees, d, rank, rows, work, one)
        if bad >= 0:
            return k * d + bad
        for i in range(d + 1):
            store8(work, sums + i * LANES, LANES, splat8(one - one))
        for r in range(0, full, LANES):
            _gradient_block(where, degrees, d, rank, rows, work, r, LANES, one)
        if full < rank:
            _gradient_block(where, degrees, d, rank, rows, work, full, rank - full, one)
        put(value, k, total(load8(work, sums, LANES, one)))
        for i in range(d):
            put(gradient, k * d + i, total(load8(work, sums + (i + 1) * LANES, LANES, one)))
    return -1


@inlined
def _jet_block(
    where: Any, degrees: Any, d: Any, rank: Any, rows: Any, work: Any, jets: Any, r: Any, count: Any, one: Any
) -> Any:
    """Write per axis the factor, its two derivatives, the product before and after it to `work` from `jets` on."""
    whole = np.int64(0)
    product = splat8(one)
    for i in range(d):
        s, scale, at = splat8(get(work, i, one)), splat8(get(work, d + i, one)), jets + 5 * i * LANES
        table, row = get(where, i, whole), get(rows, i, whole) + r
        v, dv, ddv = load8(table, row, count, one), splat8(one - one), splat8(one - one)
        for _ in range(get(degrees, i, whole)):
            row -= rank
            ddv = fma(ddv, s, dv)
            dv = fma(dv, s, v)
            v = fma(v, s, load8(table, row, count, one))
        store8(work, at, LANES, v)
        store8(work, at + LANES, LANES, mul(dv, scale))
        # Horner gives the Taylor coefficient, half the second derivative
        store8(work, at + 2 * LANES, LANES, mul(mul(add(ddv, ddv), scale), scale))
        store8(work, at + 3 * LANES, LANES, product)
        product = mul(product, v)
    after = splat8(one)
    for j in range(d):
        at = jets + 5 * (d - 1 - j) * LANES
        store8(work, at + 4 * LANES, LANES, after)
        after = mul(after, load8(work, at, LANES, one))
    store8(work, 2 * d, LANES, add(load8(work, 2 * d, LANES, one), product))


@inlined
def _hessian_block(d: Any, work: Any, jets: Any, one: Any) -> Any:
    """Add the block's share to the sums in `work`: gradient, then the upper triangle of the Hessian by rows."""
    pair = 2 * d + (d + 1) * LANES
    for i in range(d):
        at, entry = jets + 5 * i * LANES, 2 * d + (i + 1) * LANES
        before, after = load8(work, at + 3 * LANES, LANES, one), load8(work, at + 4 * LANES, LANES, one)
        left = mul(before, load8(work, at + LANES, LANES, one))
        store8(work, entry, LANES, fma(left, after, load8(work, entry, LANES, one)))
        curve = load8(work, at + 2 * LANES, LANES, one)
        store8(work, pair, LANES, fma(mul(before, after), curve, load8(work, pair, LANES, one)))
        pair += LANES
        for j in range(i + 1, d):
            to = jets + 5 * j * LANES
            right = mul(load8(work, to + LANES, LANES, one), load8(work, to + 4 * LANES, LANES, one))
            store8(work, pair, LANES, fma(left, right, load8(work, pair, LANES, one)))
            pair += LANES
            left = mul(left, load8(work, to, LANES, one))


@njit
def _hessian(
    start: Any, stop: Any, points: Any, axes: Any, where: Any, degrees: Any, d: Any, rank: Any,
    rows: Any, work: Any, value: Any, gradient: Any, hessian: Any, one: Any,
) -> Any:  # fmt: skip
    sums, full, entries = 2 * d, rank - rank % LANES, 1 + d + d * (d + 1) // 2
    jets = sums + entries * LANES
    for k in range(start, stop):
        bad = _place(k, points, axes, degrees, d, rank, rows, work, one)
        if bad >= 0:
            return k * d + bad
        for i in range(entries):
            store8(work, sums + i * LANES, LANES, splat8(one - one))
        for r in range(0, full, LANES):
            _jet_block(where, degrees, d, rank, rows, work, jets, r, LANES, one)
            _hessian_block(d, work, jets, one)
        if full < rank:
            _jet_block(where, degrees, d, rank, rows, work, jets, full, rank - full, one)
            _hessian_block(d, work, jets, one)
        put(value, k, total(load8(work, sums, LANES, one)))
        at = sums + (d + 1) * LANES
        for i in range(d):
            put(gradient, k * d + i, total(load8(work, sums + (i + 1) * LANES, LANES, one)))
            for j in range(i, d):
                entry = total(load8(work, at, LANES, one))
                put(hessian, (k * d + i) * d + j, entry)
                put(hessian, (k * d + j) * d + i, entry)
                at += LANES
    return -1
