"""The matrices of ALS steps from those of their terms, on a CUDA device."""

from __future__ import annotations

import numpy as np

from sepnet.backends.arrays import Array, float_name, namespace
from sepnet.backends.checks import check_bands, check_blocks
from sepnet.backends.cuda import driver as drivers
from sepnet.backends.cuda.layout import solid
from sepnet.backends.cuda.points import empty_like
from sepnet.backends.cuda.source import Program
from sepnet.backends.generic import fill_band

__all__ = ["fill_band", "fill_blocks", "fill_dense", "fill_dense_from_bands"]

THREADS = 256
# As in fill.cu.
STRIP, COLUMNS = 4, 1024
BANDS = np.dtype(
    [(name, "u8") for name in ("bands", "weights", "flipped")]
    + [(name, "i4") for name in ("size", "width", "rank", "terms")],
    align=True,
)


@drivers.on_its_device
def fill_dense(matrices: Array, weights: Array, /) -> Array:
    """See `sepnet.backends.contract.Kernels.fill_dense`."""
    check_bands(matrices, weights)
    terms, rows, columns = map(int, matrices.shape)
    rank = int(weights.shape[1])
    result = empty_like(matrices, rows * rank, columns * rank)
    units = _units(rows, rank, columns * rank)
    sizes = map(np.int32, (rows, columns, rank, terms))
    _launch("fill_dense", matrices, units, solid(matrices), solid(weights), result, units, *sizes)
    return result


@drivers.on_its_device
def fill_dense_from_bands(bands: Array, weights: Array, /) -> Array:
    """See `sepnet.backends.contract.Kernels.fill_dense_from_bands`."""
    check_bands(bands, weights)
    size, rank = int(bands.shape[1]), int(weights.shape[1])
    result = empty_like(bands, size * rank, size * rank)
    units = _units(size, rank, size * rank)
    # a transposed copy of the weights is one number in N**2 / J of H
    parts = solid(bands), solid(weights), solid(namespace(weights).matrix_transpose(weights))
    _launch("fill_dense_from_bands", bands, units, _record(*parts), result, units)
    return result


@drivers.on_its_device
def fill_blocks(bands: Array, weights: Array, /, *, group: int) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.fill_blocks`."""
    check_blocks(bands, weights, group)
    size, rank = int(bands.shape[1]), int(weights.shape[1])
    blocks, side = -(-size // group), group * rank
    diagonal, below = empty_like(bands, blocks, side, side), empty_like(bands, max(blocks - 1, 0), side, side)
    units = _units(blocks * group, rank, 2 * side)
    parts = solid(bands), solid(weights)
    sizes = np.int32(group), np.int32(blocks)
    _launch("fill_blocks", bands, units, _record(*parts), diagonal, below, units, *sizes)
    return diagonal, below


def _units(rows: int, rank: int, columns: int) -> int:
    """Return how many pieces of work the blocks of threads share."""
    return -(-rows // STRIP) * rank * -(-columns // COLUMNS)


def _launch(kernel: str, like: Array, units: int, *arguments: object) -> None:
    program = Program("fill.cu", str(float_name(like.dtype)))
    drivers.launch(drivers.driver_of(like), program, kernel, units * THREADS, *arguments, threads=THREADS)


def _record(bands: Array, weights: Array, flipped: Array | None = None) -> np.ndarray:
    """Return what the kernels take by value; keep the arrays alive while it is used."""
    driver = drivers.driver_of(bands)
    record = np.zeros((), dtype=BANDS)
    addresses = [0 if a is None else driver.address(a) for a in (bands, weights, flipped)]
    record[()] = (*addresses, bands.shape[1], bands.shape[2], weights.shape[1], bands.shape[0])
    return record
