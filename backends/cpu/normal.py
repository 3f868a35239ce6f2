"""Normal equations of samples, block by block of the axes, on the CPU.

A sample touches ``q_i`` neighbouring functions of axis ``i``, so its row of the Jacobian holds ``q_i R_i`` neighbouring
numbers there, and its share of the block (i, j) of the normal matrix is one small outer product with contiguous rows.
Two ways to add them up, the cheaper one is taken: dense rows of some hundred samples and BLAS, at a ninth of the time
a number but for all ``M_i R_i`` columns; or the outer products themselves, which touch nothing else. The latter take
some hundred samples at a time and go through the pairs of axes outside the samples, so that the block which is being
filled (some ten thousand numbers) stays in the first cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg

from sepnet.backends.arrays import Array
from sepnet.backends.checks import check_normal, check_windows
from sepnet.backends.cpu.jit import njit
from sepnet.backends.cpu.simd import fma, get, load8, mul, splat8, store8

__all__ = ["normal_blocks", "window_values"]

LANES = 8
TILE = 256  # samples at a time: their rows of all axes (some 100 kB) stay in the second cache
OUTER_COST = 8  # time of a number in an outer product over that of a number in a BLAS product, measured


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
    """See `sepnet.backends.contract.Kernels.normal_blocks`."""
    check_normal(first, values, gains, curvature, slope, sizes)
    ranks = [g.shape[1] for g in gains]
    lengths = np.array([m * r for m, r in zip(sizes, ranks, strict=True)], dtype=np.int64)
    widths = np.array([v.shape[1] * r for v, r in zip(values, ranks, strict=True)], dtype=np.int64)
    touched, every = float(widths.sum()) ** 2 + (widths**2).sum(), float(lengths.sum()) ** 2
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    add_up = _products if OUTER_COST * touched < every else _dense
    return add_up(first, values, gains, curvature, slope, offsets, widths)


def window_values(first: Array, values: Array, table: Array, /) -> Array:
    """See `sepnet.backends.contract.Kernels.window_values`."""
    check_windows(first, values, table)
    result = np.empty((values.shape[0], table.shape[1]), dtype=table.dtype)
    _window_values(first, values, table, result)
    return result


def _dense(
    first: tuple[Array, ...], values: tuple[Array, ...], gains: tuple[Array, ...],
    curvature: Array, slope: Array, offsets: np.ndarray, widths: np.ndarray,
) -> tuple[Array, Array]:  # fmt: skip
    dtype, n, total = slope.dtype, slope.shape[0], int(offsets[-1])
    matrix, vector = np.zeros((total, total), dtype=dtype), np.zeros(total, dtype=dtype)
    (rank_k,) = scipy.linalg.get_blas_funcs(("syrk",), (matrix,))
    root = np.sqrt(curvature)
    tile = np.empty((min(TILE, n), total), dtype=dtype)
    for start in range(0, n, TILE):
        rows = tile[: min(TILE, n - start)]
        rows.fill(0.0)
        for i in range(len(first)):
            _scatter(first[i], values[i], gains[i], root, slope, start, offsets[i], rows, vector)
        # matrix.T and rows.T are Fortran-ordered views: nothing is copied, and the lower triangle is that of `matrix`
        matrix = rank_k(1.0, rows.T, beta=1.0, c=matrix.T, overwrite_c=True, lower=False).T
    return matrix, vector


def _products(
    first: tuple[Array, ...], values: tuple[Array, ...], gains: tuple[Array, ...],
    curvature: Array, slope: Array, offsets: np.ndarray, widths: np.ndarray,
) -> tuple[Array, Array]:  # fmt: skip
    dtype, d, n, total, width = slope.dtype, len(first), slope.shape[0], int(offsets[-1]), int(widths.max())
    matrix, vector = np.zeros((total, total), dtype=dtype), np.zeros(total, dtype=dtype)
    rows, scaled = np.empty((d, TILE, width), dtype=dtype), np.empty((TILE, width), dtype=dtype)
    at = np.empty((d, TILE), dtype=np.int64)
    for start in range(0, n, TILE):
        stop = min(start + TILE, n)
        for i in range(d):
            _rows(first[i], values[i], gains[i], slope, start, stop, offsets[i], rows[i], at[i], vector)
        for i in range(d):
            _scale(rows[i], curvature, start, stop, widths[i], scaled)
            for j in range(i + 1):
                _outer(scaled.ctypes.data, rows[j].ctypes.data, at[i], at[j], stop - start, width, widths[i],
                       widths[j], matrix.ctypes.data, total, dtype.type(1))  # fmt: skip
    return matrix, vector


@njit
def _window_values(first: Any, values: Any, table: Any, result: Any) -> None:
    n, q = values.shape
    for s in range(n):
        at = first[s]
        for r in range(table.shape[1]):
            total = values[s, 0] * table[at, r]
            for m in range(1, q):
                total += values[s, m] * table[at + m, r]
            result[s, r] = total


@njit
def _scatter(
    first: Any, values: Any, gains: Any, root: Any, slope: Any, start: Any, offset: Any, rows: Any, vector: Any
) -> None:
    q, rank = values.shape[1], gains.shape[1]
    for k in range(rows.shape[0]):
        s = start + k
        at = offset + first[s] * rank
        for m in range(q):
            v = values[s, m]
            scaled, push = v * root[s], v * slope[s]
            for r in range(rank):
                rows[k, at + m * rank + r] = scaled * gains[s, r]
                vector[at + m * rank + r] += push * gains[s, r]


@njit
def _rows(
    first: Any, values: Any, gains: Any, slope: Any, start: Any, stop: Any, offset: Any, rows: Any, at: Any, vector: Any
) -> None:
    q, rank = values.shape[1], gains.shape[1]
    for s in range(start, stop):
        at[s - start] = offset + first[s] * rank
        g = slope[s]
        for m in range(q):
            v = values[s, m]
            for r in range(rank):
                share = v * gains[s, r]
                rows[s - start, m * rank + r] = share
                vector[at[s - start] + m * rank + r] += g * share


@njit
def _scale(rows: Any, curvature: Any, start: Any, stop: Any, width: Any, scaled: Any) -> None:
    for s in range(stop - start):
        for k in range(width):
            scaled[s, k] = curvature[start + s] * rows[s, k]


@njit
def _outer(
    left: Any, right: Any, at_left: Any, at_right: Any, count: Any, stride: Any, height: Any, width: Any,
    matrix: Any, total: Any, one: Any,
) -> None:  # fmt: skip
    full = width - width % LANES
    for s in range(count):
        a, b, corner = s * stride, s * stride, at_left[s] * total + at_right[s]
        for c in range(0, full, LANES):
            piece = load8(right, b + c, LANES, one)
            for k in range(height):
                to = corner + k * total + c
                store8(matrix, to, LANES, fma(piece, splat8(get(left, a + k, one)), load8(matrix, to, LANES, one)))
        if full < width:
            rest = width - full
            piece = load8(right, b + full, rest, one)
            for k in range(height):
                to = corner + k * total + full
                share = mul(piece, splat8(get(left, a + k, one)))
                store8(matrix, to, rest, fma(share, splat8(one), load8(matrix, to, rest, one)))
