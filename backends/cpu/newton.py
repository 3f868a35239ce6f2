"""Newton's method on the level set of a CP function: each sample goes to its end in one call, on the CPU.

The rules are those of `sepnet.backends.newton`. The evaluation is that of `cp_gradient`, put into the loop: nothing is
stored between two steps of a sample but d coordinates and d slopes, which stay in the first-level cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sepnet.backends.arrays import Array
from sepnet.backends.checks import check_levels
from sepnet.backends.contract import Names
from sepnet.backends.cpu.cells import pack_axes
from sepnet.backends.cpu.cp import LANES, WORK, _gradient_block, _place
from sepnet.backends.cpu.jit import inlined, njit, run
from sepnet.backends.cpu.simd import get, load8, put, splat8, store8, total
from sepnet.backends.newton import OUT_OF_STEPS, REACH, REACHED, SHARE, STATIONARY, Samples

__all__ = ["cp_newton"]


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
    n, d = starts.shape
    dtype = starts.dtype
    # these names keep what the addresses point to alive until the kernel is done
    solid = [np.ascontiguousarray(table) for table in tables]
    where = np.array([table.ctypes.data for table in solid], dtype=np.int64)
    degrees = np.array([table.shape[1] - 1 for table in solid], dtype=np.int64)
    rank, axes, one = solid[0].shape[2], pack_axes(breaks), dtype.type(1)
    box = np.stack([low, high, high - low])
    asked = np.stack([targets, tol], axis=1)
    unit = np.finfo(dtype).eps
    rules = np.array([REACH, unit**0.5, unit, SHARE], dtype=dtype)
    points, values = np.array(starts, order="C"), np.empty(n, dtype=dtype)
    counts = np.empty((n, 2), dtype=np.int64)
    function = (axes.addresses(), where.ctypes.data, degrees.ctypes.data, d, rank)
    inputs = (asked.ctypes.data, box.ctypes.data, rules.ctypes.data, max_steps)
    outputs = (points.ctypes.data, values.ctypes.data, counts.ctypes.data)

    def piece(start: int, stop: int) -> int:
        rows = np.empty(d, dtype=np.int64)
        work = np.empty(WORK[2](d), dtype=dtype)
        sample = np.empty((4, d), dtype=dtype)
        memory = (rows.ctypes.data, work.ctypes.data, sample.ctypes.data, dtype.itemsize)
        return int(_samples(start, stop, *function, *inputs, *memory, *outputs, one))

    run(piece, n)
    return Samples(points, values, counts[:, 0].copy(), counts[:, 1].copy())


@inlined
def _jet(
    at: Any, to: Any, axes: Any, where: Any, degrees: Any, d: Any, rank: Any, rows: Any, work: Any, one: Any
) -> Any:
    """Return the value at the point at address `at`; write the gradient to address `to`."""
    full, sums = rank - rank % LANES, 2 * d
    if _place(0, at, axes, degrees, d, rank, rows, work, one) >= 0:
        return (one - one) / (one - one)
    for i in range(d + 1):
        store8(work, sums + i * LANES, LANES, splat8(one - one))
    for r in range(0, full, LANES):
        _gradient_block(where, degrees, d, rank, rows, work, r, LANES, one)
    if full < rank:
        _gradient_block(where, degrees, d, rank, rows, work, full, rank - full, one)
    for i in range(d):
        put(to, i, total(load8(work, sums + (i + 1) * LANES, LANES, one)))
    return total(load8(work, sums, LANES, one))


@inlined
def _try(x: Any, gradient: Any, trial: Any, slopes: Any, box: Any, d: Any, misfit: Any, reach: Any, one: Any) -> Any:
    """Write the point to try to `trial`; return what the gradient promises there, zero if there is no way to go."""
    zero = one - one
    sign = -one if misfit < zero else one
    square, steepest = zero, zero
    for i in range(d):
        here = get(x, i, one)
        slope = get(gradient, i, one) * get(box, 2 * d + i, one) * sign
        if (here <= get(box, i, one) and slope < zero) or (here >= get(box, d + i, one) and slope > zero):
            slope = zero
        put(slopes, i, slope)
        steepest = max(steepest, abs(slope))
    if not steepest > zero:
        return zero
    for i in range(d):
        slope = get(slopes, i, one) / steepest
        put(slopes, i, slope)
        square += slope * slope
    # a gradient with a NaN
    if not square > zero:
        return zero
    length = min(abs(misfit) / steepest / square, reach)
    promise = zero
    for i in range(d):
        here = get(x, i, one)
        there = here + length * get(slopes, i, one) * get(box, 2 * d + i, one)
        there = min(max(there, get(box, i, one)), get(box, d + i, one))
        put(trial, i, there)
        promise += get(gradient, i, one) * (there - here)
    return promise * sign


@inlined
def _longest(x: Any, trial: Any, box: Any, d: Any, one: Any) -> Any:
    """Return the largest component of a step in the scale of the box."""
    largest = one - one
    for i in range(d):
        width = get(box, 2 * d + i, one)
        if width > one - one:
            largest = max(largest, abs(get(trial, i, one) - get(x, i, one)) / width)
    return largest


@njit
def _samples(
    start: Any, stop: Any, axes: Any, where: Any, degrees: Any, d: Any, rank: Any, asked: Any, box: Any, rules: Any,
    max_steps: Any, rows: Any, work: Any, sample: Any, size: Any, points: Any, values: Any, counts: Any, one: Any,
) -> Any:  # fmt: skip
    cap, least, unit, share = get(rules, 0, one), get(rules, 1, one), get(rules, 2, one), get(rules, 3, one)
    row = d * size
    gradient, other, trial, slopes = sample, sample + row, sample + 2 * row, sample + 3 * row
    for k in range(start, stop):
        x, target, tol = points + k * row, get(asked, 2 * k, one), get(asked, 2 * k + 1, one)
        value = _jet(x, gradient, axes, where, degrees, d, rank, rows, work, one)
        reach, steps, end = cap, 1, OUT_OF_STEPS
        while True:
            misfit = target - value
            if abs(misfit) <= tol:
                end = REACHED
                break
            promise = _try(x, gradient, trial, slopes, box, d, misfit, reach, one)
            if not promise > unit * (abs(target) + abs(value)) or reach < least:
                end = STATIONARY
                break
            if steps == max_steps:
                break
            steps += 1
            new = _jet(trial, other, axes, where, degrees, d, rank, rows, work, one)
            if abs(misfit) - abs(target - new) >= share * promise:
                for i in range(d):
                    put(x, i, get(trial, i, one))
                value, gradient, other = new, other, gradient
                reach = min(reach + reach, cap)
            else:
                reach = _longest(x, trial, box, d, one) / (one + one)
        put(values, k, value)
        put(counts, 2 * k, np.int64(steps))
        put(counts, 2 * k + 1, np.int64(end))
    return -1
