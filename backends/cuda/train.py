"""Value, gradient and Hessian of a tensor train at scattered points, on a CUDA device."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from typing import final

import numpy as np

from sepnet.backends import generic
from sepnet.backends.arrays import Array, float_name, namespace
from sepnet.backends.checks import check_train
from sepnet.backends.contract import Names
from sepnet.backends.cuda import driver as drivers
from sepnet.backends.cuda.driver import WARP, Driver
from sepnet.backends.cuda.layout import MOST_CORES, axes_record, group_size, program_of, solid
from sepnet.backends.cuda.points import empty_like, no_bad_point, raise_bad_point

__all__ = ["Plan", "mirrored", "plan_of", "tables_record", "train_gradient", "train_hessian", "train_value"]

_logger = logging.getLogger(__name__)

# What a point keeps of one axis: s and ds/dx, and the cell in the place of a third number.
SPOT = 3
THREADS = 256
# A device that holds eight blocks of 256 threads has all its places taken: blocks of more shared memory get smaller.
BLOCKS = 8


@final
@dataclass(frozen=True)
class Plan:
    """How a launch lays points over threads and shared memory."""

    group: int
    """Lanes that share a point."""
    width: int
    """Numbers that each vector of a point takes, the largest rank."""
    each: int
    """Bytes of shared memory a point."""
    threads: int
    """Threads of a block."""
    gap: str | None = None
    """Why the train goes to the generic kernels, or None where it need not."""

    @property
    def shared(self) -> int:
        """Bytes of dynamic shared memory of a block."""
        return self.threads // self.group * self.each


def plan_of(driver: Driver, tables: tuple[Array, ...], itemsize: int, vectors: int) -> Plan:
    """Return the plan for a kernel that keeps `vectors` vectors of the largest rank for each point.

    Parameters
    ----------
    driver : Driver
    tables : tuple of d arrays of shape (cells, p + 1, left, right)
    itemsize : int
        Bytes of a number.
    vectors : int

    Returns
    -------
    Plan
        With the reason in `gap` where there are too many axes, too many coefficients in a cell, or the vectors of the
        points of one warp do not fit into the shared memory of a block.
    """
    d, ranks = len(tables), [1, *(int(t.shape[3]) for t in tables)]
    width = max(ranks)
    # as many lanes as there are entries in the largest matrix: they lie over its columns and over several rows
    group = group_size(max(a * b for a, b in itertools.pairwise(ranks)))
    place = max(int(t.shape[1] * t.shape[2] * t.shape[3]) for t in tables)
    each = -(-(vectors * width + SPOT * d) * itemsize // 16) * 16
    # a block keeps ``Train`` too (rows.cuh), four numbers an axis and an int a rank, in front of the dynamic memory
    own = -(-(4 * itemsize * d + 4 * (d + 1)) // 16) * 16
    limit, threads, gap = driver.shared_limit() - own, THREADS, None
    while threads > WARP and threads // group * each > limit // BLOCKS:
        threads //= 2
    if d > MOST_CORES:
        gap = f"{d} axes, of which the kernels for tensor trains take at most {MOST_CORES}"
    elif place >= 2**31:
        gap = f"{place} coefficients in a cell of an axis, of which the kernels for tensor trains take less than 2**31"
    elif threads // group * each > limit:
        gap = (
            f"rank {width} with {d} axes needs {threads // group * each + own} bytes of shared memory a warp, of which "
            f"a block has {limit + own}"
        )
    return Plan(group, width, each, threads, gap)


def mirrored(tables: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return contiguous tables of the transposed matrices; no copy where one rank is 1."""
    turned = []
    for table in tables:
        xp, (cells, powers, left, right) = namespace(table), table.shape
        one = left == 1 or right == 1
        swapped = xp.reshape(table, (cells, powers, right, left)) if one else xp.permute_dims(table, (0, 1, 3, 2))
        turned.append(solid(swapped))
    return tuple(turned)


def tables_record(driver: Driver, tables: tuple[Array | None, ...]) -> np.ndarray:
    """Return the addresses of d contiguous tables as one record ``Tables``; null where there is none."""
    record = np.zeros((), dtype=np.dtype([("table", "u8", (len(tables),))]))
    for i, table in enumerate(tables):
        record["table"][i] = 0 if table is None else driver.address(table)
    return record


@drivers.on_its_device
def train_value(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> Array:
    """See `sepnet.backends.contract.Kernels.train_value`."""
    check_train(points, breaks, tables)
    value = empty_like(points, points.shape[0])
    if gap := _evaluate("train_value", 2, points, breaks, tables, names, value):
        _logger.info("train_value takes the generic kernel: %s", gap)
        return generic.train_value(points, breaks, tables, names=names)
    return value


@drivers.on_its_device
def train_gradient(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.train_gradient`."""
    check_train(points, breaks, tables)
    n, d = points.shape
    value, gradient = empty_like(points, n), empty_like(points, n, d)
    if gap := _evaluate("train_gradient", 2 + d, points, breaks, tables, names, value, gradient):
        _logger.info("train_gradient takes the generic kernel: %s", gap)
        return generic.train_gradient(points, breaks, tables, names=names)
    return value, gradient


@drivers.on_its_device
def train_hessian(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array, Array]:
    """See `sepnet.backends.contract.Kernels.train_hessian`."""
    check_train(points, breaks, tables)
    n, d = points.shape
    value, gradient, hessian = empty_like(points, n), empty_like(points, n, d), empty_like(points, n, d, d)
    if gap := _evaluate("train_hessian", 4 * d, points, breaks, tables, names, value, gradient, hessian):
        _logger.info("train_hessian takes the generic kernel: %s", gap)
        return generic.train_hessian(points, breaks, tables, names=names)
    return value, gradient, hessian


def _evaluate(
    kernel: str,
    vectors: int,
    points: Array,
    breaks: tuple[Array, ...],
    tables: tuple[Array, ...],
    names: Names,
    *results: Array,
) -> str | None:
    """Fill `results`, or return why not; raise ValueError for the first bad point."""
    driver = drivers.driver_of(points)
    plan = plan_of(driver, tables, points.dtype.itemsize, vectors)
    if plan.gap is not None:
        return plan.gap
    points, breaks, tables = solid(points), tuple(map(solid, breaks)), tuple(map(solid, tables))
    n, bad = int(points.shape[0]), no_bad_point(points)
    mirrors = mirrored(tables) if len(results) > 1 else ()
    records = (axes_record(driver, breaks, tables), *([tables_record(driver, mirrors)] if mirrors else []))
    program = program_of("train.cu", tables, str(float_name(points.dtype)))
    sizes = (n, np.int32(plan.width), np.int32(plan.group), np.int32(plan.each))
    drivers.launch(
        driver, program, kernel, n * plan.group, *records, points, *results, *sizes, bad,
        threads=plan.threads, shared=plan.shared,
    )  # fmt: skip
    raise_bad_point(bad, points, breaks, names)
    return None
