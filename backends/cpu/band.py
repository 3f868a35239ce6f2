"""The ALS matrix in LAPACK's band storage: filled by one batched matrix product that writes where the band is."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from sepnet.backends.arrays import Array
from sepnet.backends.checks import check_bands

__all__ = ["fill_band"]


def fill_band(bands: Array, weights: Array, /, *, out: Array | None = None) -> Array:
    """See `sepnet.backends.contract.Kernels.fill_band`.

    For a fixed column s within the blocks and a fixed block offset o, the entries for all (i, r) are the product of an
    (N, J) and a (J, R) matrix, and lie in the band at a constant stride in i. So BLAS writes them in place. The part of
    the diagonal block above the diagonal lands in the last s numbers of the column before; it goes there first, is
    overwritten by the last block where that has an entry, and is cleared elsewhere at the end.

    Rejected (N = 36, w = 3, J = 12, against dpbtrf, R = 16 / 32 / 64 / 128): one loop in numba, 1.4 / 1.3 / 0.7 / 0.3
    times dpbtrf; all blocks by one BLAS product and a scatter in numba, 0.1 / 1.0 / 0.5 / 0.2; this one, 0.2 / 0.16 /
    0.13 / 0.07, and nothing to compile.
    """
    check_bands(bands, weights)
    terms, n, width = bands.shape
    rank = weights.shape[1]
    height = width * rank
    flat = _flat(out, height, n * rank, bands.dtype)
    if flat.size == 0 or terms == 0:
        flat[:] = 0
        return flat.reshape(n * rank, height).T
    factors = np.ascontiguousarray(bands.transpose(2, 1, 0))
    rows = np.ascontiguousarray(weights.transpose(2, 0, 1))
    view = flat.reshape(n, rank, height)
    if width == 1:
        # no room beside the diagonal block: the columns of one block would overlap
        blocks = np.matmul(factors[0], rows)
        for s in range(rank):
            view[:, s, : rank - s] = blocks[s, :, s:]
    else:
        unit = flat.itemsize
        strides = (rank * unit, (height - 1) * unit, rank * height * unit, unit)
        target = as_strided(flat, (width, rank, n, rank), strides)
        np.matmul(factors[:1, None], rows[None], out=target[:1])
        np.matmul(factors[1:, None], rows[None], out=target[1:])
    for s in range(1, rank):
        view[:, s, height - s :] = 0
    return flat.reshape(n * rank, height).T


def _flat(out: Array | None, rows: int, columns: int, dtype: np.dtype) -> Array:
    """Return the memory of `out`, or new memory, as one row of numbers."""
    if out is None:
        return np.empty(rows * columns, dtype=dtype)
    if out.shape != (rows, columns) or out.dtype != dtype or not out.flags.f_contiguous or not out.flags.writeable:
        order = "Fortran" if out.flags.f_contiguous else "another"
        msg = (
            f"`out` is {out.dtype} of shape {out.shape} in {order} order, expected writeable {dtype} of shape "
            f"{(rows, columns)} in Fortran order: leave it out to take new memory"
        )
        raise ValueError(msg)
    return out.T.reshape(-1)
