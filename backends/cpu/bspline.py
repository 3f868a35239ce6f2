"""Values of the functions that live on each point's cell, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from sepnet.backends.arrays import Array
from sepnet.backends.checks import bad_point, check_local
from sepnet.backends.contract import Names
from sepnet.backends.cpu.cells import axis_of, find_cell, pack_axes
from sepnet.backends.cpu.jit import njit, run
from sepnet.backends.cpu.simd import fma, get, load4, load8, put, splat4, splat8, store4, store8

__all__ = ["local_values"]


def local_values(points: Array, breaks: Array, table: Array, /, *, names: Names = None) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.local_values`."""
    check_local(points, breaks, table)
    points, table = np.ascontiguousarray(points), np.ascontiguousarray(table)
    n, powers, width = points.shape[0], table.shape[1], table.shape[2]
    cell, values = np.empty(n, dtype=np.int64), np.empty((n, width), dtype=points.dtype)
    axes, one = pack_axes((breaks,)), points.dtype.type(1)
    inputs = (points.ctypes.data, axes.addresses(), table.ctypes.data, powers, width)
    kernel = _four if width == 4 else _blocks

    def piece(start: int, stop: int) -> int:
        return int(kernel(start, stop, *inputs, cell.ctypes.data, values.ctypes.data, one))

    bad = run(piece, n)
    if bad >= 0:
        raise bad_point(0, float(points[bad]), float(breaks[0]), float(breaks[-1]), names)
    return cell, values


@njit
def _four(
    start: Any, stop: Any, points: Any, axes: Any, table: Any, powers: Any, width: Any, cell: Any, to: Any, one: Any
) -> Any:
    """Cubic splines, by far the most used: four functions fill four lanes and the count is known to the compiler."""
    flat, slopes, axis = axes[0], axes[1], axis_of(0, axes, one)
    for k in range(start, stop):
        x = get(points, k, one)
        c = find_cell(x, axis, axes)
        if c < 0:
            return k
        put(cell, k, c)
        s = splat4((x - get(flat, c, one)) * get(slopes, c, one) - one)
        row = (c * powers + powers - 1) * 4
        v = load4(table, row, 4, one)
        for _ in range(powers - 1):
            row -= 4
            v = fma(v, s, load4(table, row, 4, one))
        store4(to, 4 * k, 4, v)
    return -1


@njit
def _blocks(
    start: Any, stop: Any, points: Any, axes: Any, table: Any, powers: Any, width: Any, cell: Any, to: Any, one: Any
) -> Any:
    """Any number of functions, eight at a time."""
    flat, slopes, axis = axes[0], axes[1], axis_of(0, axes, one)
    for k in range(start, stop):
        x = get(points, k, one)
        c = find_cell(x, axis, axes)
        if c < 0:
            return k
        put(cell, k, c)
        s = splat8((x - get(flat, c, one)) * get(slopes, c, one) - one)
        for j in range(0, width, 8):
            row = (c * powers + powers - 1) * width + j
            v = load8(table, row, width - j, one)
            for _ in range(powers - 1):
                row -= width
                v = fma(v, s, load8(table, row, width - j, one))
            store8(to, k * width + j, width - j, v)
    return -1
