"""Sums over windows of functions, and the normal equations of samples, on a CUDA device."""

from __future__ import annotations

import numpy as np

from sepnet.backends.arrays import Array, describe, device_of, float_name, namespace
from sepnet.backends.checks import check_normal, check_windows
from sepnet.backends.cuda import driver as drivers
from sepnet.backends.cuda.layout import solid
from sepnet.backends.cuda.points import empty_like
from sepnet.backends.cuda.source import Program

__all__ = ["normal_blocks", "window_values"]

THREADS = 256
# Numbers of the result that a block of `window_values` writes at a time.
ENTRIES = 1024
# As in normal.cu.
CHUNK = 32
# Numbers of the dense rows of a tile: 256 MiB in double precision, enough for the matrix product to be at its speed.
TILE_NUMBERS = 2**25
# Columns of J that one matrix product takes on its left; what is right of them is left out, above the diagonal. With
# four panels 5/8 of the whole product is computed; narrower ones would keep the device less busy.
PANEL = 2048


@drivers.on_its_device
def window_values(first: Array, values: Array, table: Array, /) -> Array:
    """See `sepnet.backends.contract.Kernels.window_values`."""
    check_windows(first, values, table)
    n, width, rank = int(values.shape[0]), int(values.shape[1]), int(table.shape[1])
    first, result = _numbers(first, values), empty_like(values, n, rank)
    samples = max(1, ENTRIES // max(rank, 1))
    blocks = -(-n // samples) if rank else 0
    drivers.launch(
        drivers.driver_of(values), _program(values), "window_values", blocks * THREADS, first, solid(values),
        solid(table), result, n, np.int32(width), np.int32(rank), np.int32(samples), threads=THREADS,
    )  # fmt: skip
    return result


@drivers.on_its_device
def normal_blocks(
    first: tuple[Array, ...],
    values: tuple[Array, ...],
    gains: tuple[Array, ...],
    curvature: Array,
    slope: Array,
    /,
    *,
    sizes: tuple[int, ...],
) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.normal_blocks`.

    The rows of J are made dense, a tile of samples at a time, and multiplied by the library: matrix units, a sum in the
    same order in every run, and memory for a tile only. Only panels on and below the diagonal are computed.
    """
    check_normal(first, values, gains, curvature, slope, sizes)
    xp = namespace(*values, *gains, curvature, slope)
    total = sum(size * int(g.shape[1]) for size, g in zip(sizes, gains, strict=True))
    matrix = xp.zeros((total, total), dtype=slope.dtype, device=device_of(slope))
    vector = xp.zeros((total,), dtype=slope.dtype, device=device_of(slope))
    n = int(slope.shape[0])
    if n == 0 or total == 0:
        return matrix, vector
    first = tuple(_numbers(f, slope) for f in first)
    values, gains = tuple(map(solid, values)), tuple(map(solid, gains))
    root, slope = solid(xp.sqrt(curvature)), solid(slope)
    tile = min(n, max(CHUNK, TILE_NUMBERS // total))
    rows, loads = empty_like(slope, tile, total), empty_like(slope, -(-tile // CHUNK), total)
    for start in range(0, n, tile):
        part = slice(start, min(start + tile, n))
        count = part.stop - start
        offset = 0
        for f, v, g, size in zip(first, values, gains, sizes, strict=True):
            _write_rows(f[part], v[part], g[part], root[part], slope[part], rows, loads, size, offset, total)
            offset += size * int(g.shape[1])
        for left in range(0, total, PANEL):
            right = min(left + PANEL, total)
            matrix[left:right, :right] += rows[:count, left:right].T @ rows[:count, :right]
        vector += xp.sum(loads[: -(-count // CHUNK)], axis=0)
    return matrix, vector


def _write_rows(
    first: Array, values: Array, gains: Array, root: Array, slope: Array, rows: Array, loads: Array, size: int,
    offset: int, total: int,
) -> None:  # fmt: skip
    """Write the columns of one axis into the rows of a tile."""
    n, width, rank = int(values.shape[0]), int(values.shape[1]), int(gains.shape[1])
    length = size * rank
    threads = min(THREADS, -(-length // drivers.WARP) * drivers.WARP)
    units = -(-n // CHUNK) * -(-length // threads) if length else 0
    drivers.launch(
        drivers.driver_of(slope), _program(slope), "normal_rows", units * threads, first, values, gains, root, slope,
        rows, loads, n, np.int32(width), np.int32(rank), length, offset, total, threads=threads,
    )  # fmt: skip


def _numbers(first: Array, values: Array) -> Array:
    """Return `first` as int64; TypeError if a kernel with `values` would read it on another device."""
    xp = namespace(first, values)
    if device_of(first) != device_of(values):
        msg = (
            f"`first` is {describe(first)} and `values` is {describe(values)}, expected one device: move one side first"
        )
        raise TypeError(msg)
    return solid(xp.astype(first, xp.int64, copy=False))


def _program(array: Array) -> Program:
    return Program("normal.cu", str(float_name(array.dtype)))
