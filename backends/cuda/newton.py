"""Newton's method on the level set of a CP function, on a CUDA device: every sample in one launch.

The rules are those of `sepnet.backends.newton`.
"""

from __future__ import annotations

import numpy as np

from sepnet.backends import generic
from sepnet.backends.arrays import Array, device_of, eps, float_name, namespace
from sepnet.backends.checks import check_levels
from sepnet.backends.contract import Names
from sepnet.backends.cuda import driver as drivers
from sepnet.backends.cuda.layout import MAX_AXES, axes_record, group_size, program_of, solid, vector_size
from sepnet.backends.cuda.points import empty_like, no_bad_point
from sepnet.backends.newton import REACH, SHARE, Samples

__all__ = ["cp_newton"]

# Registers bind: small blocks leave few of them over.
THREADS = 64


@drivers.on_its_device
def cp_newton(
    starts: Array,
    targets: Array,
    low: Array,
    high: Array,
    breaks: tuple[Array, ...],
    tables: tuple[Array, ...],
    /,
    *,
    tol: Array,
    max_steps: int,
    names: Names = None,
) -> Samples:
    """See `sepnet.backends.contract.Kernels.cp_newton`."""
    check_levels(starts, targets, low, high, breaks, tables, tol, names)
    if len(tables) > MAX_AXES:
        return generic.cp_newton(starts, targets, low, high, breaks, tables, tol=tol, max_steps=max_steps, names=names)
    driver, xp = drivers.driver_of(starts), namespace(starts)
    inputs = tuple(map(solid, (starts, targets, tol, low, high)))
    breaks, tables = tuple(map(solid, breaks)), tuple(map(solid, tables))
    (n, d), rank = starts.shape, int(tables[0].shape[2])
    points, values = empty_like(starts, n, d), empty_like(starts, n)
    counts = tuple(xp.empty((n,), dtype=xp.int64, device=device_of(starts)) for _ in range(2))
    # the box lies in the domain and no step leaves it: there is no bad point to read back
    # wide loads here leave fewer lanes a sample, and all of them do the same beside the evaluation
    vector = vector_size(driver, tables, starts.dtype.itemsize)
    group, bad = group_size(-(-rank // vector)), no_bad_point(starts)
    program = program_of("cp_newton.cu", tables, str(float_name(starts.dtype)), vector=vector)
    sizes = (int(n), np.int32(rank), np.int32(group))
    arguments = (axes_record(driver, breaks, tables), *inputs, points, values, *counts, *sizes)
    rules = _rules(program.dtype, eps(starts.dtype, xp), max_steps)
    items = int(n) * group
    drivers.launch(driver, program, "cp_newton", items, *arguments, rules, bad, threads=THREADS)
    return Samples(points, values, *counts)


def _rules(dtype: str, unit: float, max_steps: int) -> np.ndarray:
    """Return the record ``Rules`` of the kernel."""
    real = [(name, dtype) for name in ("reach", "least", "share")]
    record = np.zeros((), dtype=np.dtype([*real, ("most", "i4")], align=True))
    record[()] = (REACH, unit**0.5, SHARE, min(max_steps, np.iinfo(np.int32).max))
    return record
