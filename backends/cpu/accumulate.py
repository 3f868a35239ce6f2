"""Sums over points into tables, in several threads, with the same bits for any number of threads.

Two threads must not add to one number, and the order of the additions decides the last bits. So the points are cut into
chunks whose number depends on the sizes of the problem only; each chunk adds into zeros of its own, and the chunks'
sums are added in their order, whoever computed them. Rejected: one sum per thread (other bits for other numbers of
threads), atomic additions (other bits in every run).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from sepnet.backends.arrays import Array

__all__ = ["CHUNKS", "CHUNK_WORK", "accumulate", "chunk_count"]

# More chunks than threads, so that one that was held up does not hold up the call.
CHUNKS = 16
# Coefficients that the points of a chunk read at least, about a millisecond: a thread costs a tenth of that.
CHUNK_WORK = 2**20
# Bytes that the sums of all chunks may take. Tables of more than half of that are added up on one thread.
MEMORY = 2**27
# Cache lines: a vector that straddles two of them takes two loads and two stores.
LINE = 64


def chunk_count(n: int, numbers: int, entries: int, size: int) -> int:
    """Return the number of chunks of `n` points.

    Parameters
    ----------
    n : int
        Points.
    numbers : int
        Coefficients that a point reads, and sums that it adds to.
    entries, size : int
        Numbers of one set of sums, and bytes of a number.

    Returns
    -------
    int
        At least one: making and adding up the sums stays below a quarter of the work on the points, and their memory
        below `MEMORY` where that of one set does.
    """
    work = n * numbers
    return max(1, min(CHUNKS, work // CHUNK_WORK, work // (4 * max(entries, 1)), MEMORY // max(entries * size, 1)))


def accumulate(
    kernel: Callable[[int, int, int], int], n: int, numbers: int, entries: int, dtype: np.dtype
) -> tuple[int, Array]:
    """Call ``kernel(start, stop, address of the chunk's sums)`` over the chunks of ``range(n)``.

    Parameters
    ----------
    kernel : callable
        Adds to its sums and returns -1, or something else to say which point is bad; it has to release the GIL.
    n, numbers, entries : int
        See `chunk_count`.
    dtype : data type
        Of the sums.

    Returns
    -------
    bad : int
        The smallest result of the kernel that is not -1, else -1.
    sums : array of shape (entries,)
    """
    count, size = chunk_count(n, numbers, entries, dtype.itemsize), dtype.itemsize
    stride = -(-entries * size // LINE) * (LINE // size)
    memory = np.zeros(count * stride + LINE // size, dtype=dtype)
    skip = -memory.ctypes.data % LINE // size
    sums = memory[skip : skip + count * stride].reshape(count, stride)
    ends = [n * k // count for k in range(count + 1)]
    where = [sums[k].ctypes.data for k in range(count)]
    threads = min(numba.get_num_threads(), count)
    if threads == 1:
        results = [kernel(*chunk) for chunk in zip(ends[:-1], ends[1:], where, strict=True)]
    else:
        with ThreadPoolExecutor(threads) as pool:
            results = list(pool.map(kernel, ends[:-1], ends[1:], where))
    for k in range(1, count):
        sums[0] += sums[k]
    return min((r for r in results if r >= 0), default=-1), sums[0, :entries].copy()
