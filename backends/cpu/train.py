"""Value, gradient and Hessian of a tensor train at scattered points, on the CPU.

A row vector goes through the matrices from left to right. With ``T_m`` the coefficients of ``s**m`` on the point's
cell, ``v G(s) = sum_m s**m (v T_m)``: Horner's rule runs over the rows ``v T_m``, eight columns at a time, so the
matrix itself is never formed, each coefficient is read once, and the derivatives of ``v G`` by s come for a few
operations more. The gradient needs the way back too, ``G z`` for column vectors z: there Horner's rule gives eight
entries of a row of G, which are multiplied with z at once. The Hessian keeps these matrices, and takes each
``v G_i' G_{i+1} ... G_{k-1}`` one matrix further per axis. Degrees, ranks and number of axes are run-time numbers.

Rejected for the value (ranks 4-14-20-16-4, cubic, 64 cells; this one takes 630 ns a point): Horner's rule for the
entries of G first, 720 ns, since its loop over the degree is short; four sums for a literal degree of 3, 570 ns, not
worth a second code; fetching the next axis's coefficients ahead, no change (where they are in the cache: 390 ns).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sepnet.backends.arrays import Array
from sepnet.backends.checks import bad_point, check_train
from sepnet.backends.contract import Names
from sepnet.backends.cpu.cells import axis_of, find_cell, pack_axes
from sepnet.backends.cpu.jit import inlined, njit, run
from sepnet.backends.cpu.simd import add, fma, get, load8, mul, put, splat8, store8, total

__all__ = ["train_gradient", "train_hessian", "train_value"]

LANES = 8

# Per axis in `shapes`: degree, left and right rank, where its left and right vectors and its matrix are kept. The
# vectors of each kind (v, its two derivatives, z, G' z, those carried on) take `width` numbers, one kind after another.
FIELDS = 6


def train_value(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> Array:
    """See `sepnet.backends.contract.Kernels.train_value`."""
    check_train(points, breaks, tables)
    value = np.empty(points.shape[0], dtype=points.dtype)
    _evaluate(_value, points, breaks, tables, names, value)
    return value


def train_gradient(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.train_gradient`."""
    check_train(points, breaks, tables)
    n, d = points.shape
    value, gradient = np.empty(n, dtype=points.dtype), np.empty((n, d), dtype=points.dtype)
    _evaluate(_gradient, points, breaks, tables, names, value, gradient)
    return value, gradient


def train_hessian(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array, Array]:
    """See `sepnet.backends.contract.Kernels.train_hessian`."""
    check_train(points, breaks, tables)
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
    shapes, width, entries = _layout(solid)
    axes, one = pack_axes(breaks), points.dtype.type(1)
    inputs = (points.ctypes.data, axes.addresses(), where.ctypes.data, shapes.ctypes.data, d, width)
    outputs = tuple(r.ctypes.data for r in results)
    # s and ds/dx of each axis; six kinds of vectors, of which the value and the gradient need some only; matrices
    size = 2 * d + 6 * width + (entries if len(results) > 2 else 0)

    def piece(start: int, stop: int) -> int:
        rows, work = np.empty(d, dtype=np.int64), np.empty(size, dtype=points.dtype)
        return int(kernel(start, stop, *inputs, rows.ctypes.data, work.ctypes.data, *outputs, one))

    bad = run(piece, n)
    if bad >= 0:
        row, axis = divmod(bad, d)
        raise bad_point(axis, float(points[row, axis]), float(breaks[axis][0]), float(breaks[axis][-1]), names)


def _layout(tables: list[Array]) -> tuple[Array, int, int]:
    """Return `FIELDS` of each axis, the numbers that one vector per rank takes, and those that all matrices take."""
    shapes = np.empty((len(tables), FIELDS), dtype=np.int64)
    width, entries = LANES, 0
    for i, table in enumerate(tables):
        _, powers, left, right = table.shape
        padded = -(-right // LANES) * LANES
        before = shapes[i - 1, 4] if i else 0
        shapes[i] = powers - 1, left, right, before, width, entries
        width, entries = width + padded, entries + left * padded
    return shapes, width, entries


@inlined
def _place(k: Any, points: Any, axes: Any, shapes: Any, d: Any, rows: Any, work: Any, one: Any) -> Any:
    """Write s and ds/dx of all axes to `work`, where the top coefficients are to `rows`; return a bad axis or -1."""
    whole = np.int64(0)
    for i in range(d):
        x = get(points, k * d + i, one)
        axis = axis_of(i, axes, one)
        c = find_cell(x, axis, axes)
        if c < 0:
            return i
        at = axis[1][0] + c
        slope, degree = get(axes[1], at, one), get(shapes, FIELDS * i, whole)
        entries = get(shapes, FIELDS * i + 1, whole) * get(shapes, FIELDS * i + 2, whole)
        put(work, i, (x - get(axes[0], at, one)) * slope - one)
        put(work, d + i, slope)
        put(rows, i, (c * (degree + 1) + degree) * entries)
    return -1


@inlined
def _axis(i: Any, shapes: Any) -> Any:
    """Return degree, (left, right) ranks and places of axis `i`; see `FIELDS`."""
    whole, at = np.int64(0), FIELDS * i
    ranks = get(shapes, at + 1, whole), get(shapes, at + 2, whole)
    places = get(shapes, at + 3, whole), get(shapes, at + 4, whole), get(shapes, at + 5, whole)
    return get(shapes, at, whole), ranks, places


@inlined
def _row(table: Any, row: Any, left: Any, right: Any, work: Any, vector: Any, count: Any, one: Any) -> Any:
    """Return `count` columns of the product of the vector at `vector` and the matrix whose first row is at `row`."""
    result = splat8(one - one)
    for a in range(left):
        result = fma(splat8(get(work, vector + a, one)), load8(table, row + a * right, count, one), result)
    return result


@inlined
def _block(
    table: Any, row: Any, axis: Any, work: Any, base: Any, width: Any, s: Any, scale: Any, j: Any, count: Any,
    order: Any, one: Any,
) -> Any:  # fmt: skip
    """Write `count` columns, from `j` on, of the vector on the right of the axis and of its derivatives."""
    degree, (left, right), (source, to, _) = axis
    zero = splat8(one - one)
    v, dv, ddv = _row(table, row + j, left, right, work, base + source, count, one), zero, zero
    for _ in range(degree):
        row -= left * right
        ddv = fma(ddv, s, dv)
        dv = fma(dv, s, v)
        v = fma(v, s, _row(table, row + j, left, right, work, base + source, count, one))
    # there is room for all lanes, and nobody reads those beyond the rank
    store8(work, base + to + j, LANES, v)
    if order > 0:
        store8(work, base + width + to + j, LANES, mul(dv, scale))
    if order > 1:
        # Horner gives the Taylor coefficient, half the second derivative
        store8(work, base + 2 * width + to + j, LANES, mul(mul(add(ddv, ddv), scale), scale))


@inlined
def _forward(where: Any, shapes: Any, d: Any, width: Any, rows: Any, work: Any, order: Any, one: Any) -> Any:
    """Write the rows ``v_i = G_1 ... G_i``, and up to `order` derivatives of each by x_i; return where v_d is."""
    whole, base = np.int64(0), 2 * d
    last = base
    put(work, base, one)
    for i in range(d):
        axis = _axis(i, shapes)
        right = axis[1][1]
        full = right - right % LANES
        s, scale = splat8(get(work, i, one)), splat8(get(work, d + i, one))
        table, row = get(where, i, whole), get(rows, i, whole)
        # the count is known to the compiler for whole blocks, which turns the masked loads into plain ones
        for j in range(0, full, LANES):
            _block(table, row, axis, work, base, width, s, scale, j, LANES, order, one)
        if full < right:
            _block(table, row, axis, work, base, width, s, scale, full, right - full, order, one)
        last = base + axis[2][1]
    return last


@inlined
def _entries(
    table: Any, at: Any, axis: Any, work: Any, kept: Any, z: Any, s: Any, sums: Any, count: Any, order: Any, one: Any
) -> Any:
    """Add the share of `count` entries of a row of G, and of its derivative by s, in the products with `z`."""
    degree, (left, right), _ = axis
    v, dv = load8(table, at, count, one), splat8(one - one)
    for _ in range(degree):
        at -= left * right
        dv = fma(dv, s, v)
        v = fma(v, s, load8(table, at, count, one))
    if order > 1:
        store8(work, kept, LANES, v)
    return fma(v, z, sums[0]), fma(dv, z, sums[1])


@inlined
def _backward(where: Any, shapes: Any, d: Any, width: Any, rows: Any, work: Any, order: Any, one: Any) -> Any:
    """Write the columns ``z_i = G_{i+1} ... G_d``; for the Hessian also ``G_i' z_i`` and the matrices G_i."""
    whole, after = np.int64(0), 2 * d + 3 * width
    put(work, after + _axis(d - 1, shapes)[2][1], one)
    for m in range(d - 1):
        i = d - 1 - m
        axis = _axis(i, shapes)
        (left, right), (to, source, kept) = axis[1], axis[2]
        full, padded, kept = right - right % LANES, -(-right // LANES) * LANES, kept + after + 3 * width
        s, table, row = splat8(get(work, i, one)), get(where, i, whole), get(rows, i, whole)
        for a in range(left):
            sums, at = (splat8(one - one), splat8(one - one)), row + a * right
            for j in range(0, full, LANES):
                z = load8(work, after + source + j, LANES, one)
                sums = _entries(table, at + j, axis, work, kept + j, z, s, sums, LANES, order, one)
            if full < right:
                z = load8(work, after + source + full, right - full, one)
                sums = _entries(table, at + full, axis, work, kept + full, z, s, sums, right - full, order, one)
            put(work, after + to + a, total(sums[0]))
            if order > 1:
                put(work, after + width + to + a, total(sums[1]) * get(work, d + i, one))
                kept += padded


@inlined
def _dot(work: Any, first: Any, second: Any, count: Any, one: Any) -> Any:
    """Return the product of a row and a column of `count` numbers."""
    full, part = count - count % LANES, splat8(one - one)
    for j in range(0, full, LANES):
        part = fma(load8(work, first + j, LANES, one), load8(work, second + j, LANES, one), part)
    if full < count:
        rest = count - full
        part = fma(load8(work, first + full, rest, one), load8(work, second + full, rest, one), part)
    return total(part)


@njit
def _value(
    start: Any, stop: Any, points: Any, axes: Any, where: Any, shapes: Any, d: Any, width: Any,
    rows: Any, work: Any, value: Any, one: Any,
) -> Any:  # fmt: skip
    for k in range(start, stop):
        bad = _place(k, points, axes, shapes, d, rows, work, one)
        if bad >= 0:
            return k * d + bad
        put(value, k, get(work, _forward(where, shapes, d, width, rows, work, 0, one), one))
    return -1


@njit
def _gradient(
    start: Any, stop: Any, points: Any, axes: Any, where: Any, shapes: Any, d: Any, width: Any,
    rows: Any, work: Any, value: Any, gradient: Any, one: Any,
) -> Any:  # fmt: skip
    slopes, after = 2 * d + width, 2 * d + 3 * width
    for k in range(start, stop):
        bad = _place(k, points, axes, shapes, d, rows, work, one)
        if bad >= 0:
            return k * d + bad
        put(value, k, get(work, _forward(where, shapes, d, width, rows, work, 1, one), one))
        _backward(where, shapes, d, width, rows, work, 1, one)
        for i in range(d):
            _, (_, right), (_, at, _) = _axis(i, shapes)
            put(gradient, k * d + i, _dot(work, slopes + at, after + at, right, one))
    return -1


@njit
def _hessian(
    start: Any, stop: Any, points: Any, axes: Any, where: Any, shapes: Any, d: Any, width: Any,
    rows: Any, work: Any, value: Any, gradient: Any, hessian: Any, one: Any,
) -> Any:  # fmt: skip
    slopes, curves, after = 2 * d + width, 2 * d + 2 * width, 2 * d + 3 * width
    sloped, carried, matrices = after + width, after + 2 * width, after + 3 * width
    for k in range(start, stop):
        bad = _place(k, points, axes, shapes, d, rows, work, one)
        if bad >= 0:
            return k * d + bad
        put(value, k, get(work, _forward(where, shapes, d, width, rows, work, 2, one), one))
        _backward(where, shapes, d, width, rows, work, 2, one)
        for i in range(d):
            _, (_, right), (_, at, _) = _axis(i, shapes)
            put(gradient, k * d + i, _dot(work, slopes + at, after + at, right, one))
            put(hessian, (k * d + i) * d + i, _dot(work, curves + at, after + at, right, one))
            vector = slopes + at
            for m in range(i + 1, d):
                _, (left, right), (at, to, kept) = _axis(m, shapes)
                entry = _dot(work, vector, sloped + at, left, one)
                put(hessian, (k * d + i) * d + m, entry)
                put(hessian, (k * d + m) * d + i, entry)
                padded = -(-right // LANES) * LANES
                for j in range(0, padded, LANES):
                    row = _row(work, matrices + kept + j, left, padded, work, vector, LANES, one)
                    store8(work, carried + to + j, LANES, row)
                vector = carried + to
    return -1
