"""The axes of a function as the record that kernels take by value: addresses and sizes, no copy of anything."""

from __future__ import annotations

import numpy as np

from sepnet.backends.arrays import Array, is_torch, namespace
from sepnet.backends.cuda.driver import WARP, Driver
from sepnet.backends.cuda.source import Program

__all__ = [
    "AXIS",
    "MAX_AXES",
    "MOST_BENT",
    "MOST_CORES",
    "axes_record",
    "group_size",
    "program_of",
    "solid",
    "vector_size",
]

AXIS = np.dtype(
    [("breaks", "u8"), ("table", "u8"), ("cells", "i4"), ("powers", "i4"), ("left", "i4"), ("right", "i4")], align=True
)

# A kernel takes 4 KiB of arguments on every device; more axes go to the generic kernels.
MAX_AXES = 100
# The device keeps the arrays over the axes that do not fit into registers for all of its threads at a time; those of
# the Hessian of a CP function grow with the square: 1.7 GB at 32 axes in double, 13 GB at 100.
MOST_BENT = 32
# The cores of a train take a second table each, for the way back.
MOST_CORES = 64
# Up to this many coefficients a cell the loop of Horner's rule is unrolled.
UNROLLED = 8


def solid(array: Array, /) -> Array:
    """Return `array` contiguous in memory: itself where it is so already."""
    xp = namespace(array)
    if is_torch(xp):
        # the imaginary part of a conjugate has its sign in a flag alone
        return array.detach().resolve_neg().contiguous()
    return xp.ascontiguousarray(array) if hasattr(xp, "ascontiguousarray") else xp.asarray(array, copy=True)


def axes_record(driver: Driver, breaks: tuple[Array, ...], tables: tuple[Array, ...]) -> np.ndarray:
    """Return the axes of d contiguous tables as one record ``Axes``; keep the arrays alive while it is used."""
    record = np.zeros((), dtype=np.dtype([("axis", AXIS, (len(tables),))]))
    for i, (b, t) in enumerate(zip(breaks, tables, strict=True)):
        cells, powers, left, right = (*t.shape[:2], 1, t.shape[2]) if t.ndim == 3 else t.shape
        record["axis"][i] = (driver.address(b), driver.address(t), cells, powers, left, right)
    return record


def program_of(file: str, tables: tuple[Array, ...], dtype: str, *, vector: int = 1) -> Program:
    """Return the variant of `file` for these tables: their number, and their degree where it is one and low."""
    powers = {int(t.shape[1]) for t in tables}
    fixed = powers.pop() if len(powers) == 1 else 0
    options = (("AXES", len(tables)), ("POWERS", fixed if fixed <= UNROLLED else 0))
    return Program(file, dtype, options if vector == 1 else (*options, ("VECTOR", vector)))


def vector_size(driver: Driver, tables: tuple[Array, ...], bytes_each: int) -> int:
    """Return how many neighbouring columns a lane may read at once: 16 bytes where rank and addresses allow it."""
    width = 16 // bytes_each
    fits = all(int(t.shape[-1]) % width == 0 and driver.address(t) % 16 == 0 for t in tables)
    return width if fits else 1


def group_size(columns: int) -> int:
    """Return how many lanes share a point: the power of two that holds all columns, at most a warp."""
    return min(1 << max(columns - 1, 0).bit_length(), WARP)
