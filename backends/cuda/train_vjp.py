"""The vector-Jacobian product of a tensor train, on a CUDA device.

The tables' cotangents are outer products of the rows and columns at the points. By default each point adds its own to
the tables, in whatever order the device gets to them. For the same bits in every run the rows and columns are written
down, a chunk of points at a time; for each axis the points are sorted by cell, and each entry of a table is summed by
one thread over a fixed part of the points of its cell.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import final

import numpy as np

from sepnet.backends import generic
from sepnet.backends.arrays import Array, device_of, float_name, namespace
from sepnet.backends.checks import check_train, check_vjp
from sepnet.backends.contract import Names, Wanted
from sepnet.backends.cuda import driver as drivers
from sepnet.backends.cuda.driver import Driver
from sepnet.backends.cuda.layout import axes_record, program_of, solid
from sepnet.backends.cuda.points import empty_like, no_bad_point, raise_bad_point
from sepnet.backends.cuda.source import Program
from sepnet.backends.cuda.train import Plan, mirrored, plan_of, tables_record

__all__ = ["train_vjp"]

_logger = logging.getLogger(__name__)

KEPT = np.dtype([("before", "u8"), ("after", "u8"), ("local", "u8"), ("cells", "u8"), ("total", "i4")], align=True)
# Bytes of rows and columns that are written down at a time.
CHUNK = 2**28
# Threads that the sums of one axis are split over, where there are points enough: 32 a thread at least.
ITEMS, LEAST = 2**17, 32


@drivers.on_its_device
def train_vjp(
    points: Array,
    breaks: tuple[Array, ...],
    tables: tuple[Array, ...],
    cotangent: Array,
    /,
    *,
    wanted: Wanted = "both",
    deterministic: bool = False,
    names: Names = None,
) -> tuple[Array | None, tuple[Array, ...] | None]:
    """See `sepnet.backends.contract.Kernels.train_vjp`."""
    check_train(points, breaks, tables)
    check_vjp(points, cotangent, wanted)
    driver = drivers.driver_of(points)
    plan = plan_of(driver, tables, points.dtype.itemsize, 2 + 2 * len(tables))
    if plan.gap is not None:
        _logger.info("train_vjp takes the generic kernel: %s", plan.gap)
        return generic.train_vjp(points, breaks, tables, cotangent, wanted=wanted, names=names)
    points, breaks, tables = solid(points), tuple(map(solid, breaks)), tuple(map(solid, tables))
    n, bad = int(points.shape[0]), no_bad_point(points)
    slopes = None if wanted == "tables" else empty_like(points, n, len(tables))
    work = _Work(driver, plan, points, breaks, tables, mirrored(tables), solid(cotangent), slopes, bad)
    sums: tuple[Array, ...] | None = None
    if wanted == "points":
        work.launch(0, n, (None,) * len(tables), np.zeros((), dtype=KEPT))
    elif deterministic:
        sums = work.ordered_sums()
    else:
        xp = namespace(points)
        sums = tuple(xp.zeros(t.shape, dtype=t.dtype, device=device_of(t)) for t in tables)
        work.launch(0, n, sums, np.zeros((), dtype=KEPT))
    raise_bad_point(bad, points, breaks, names)
    return slopes, sums


@final
@dataclass(frozen=True)
class _Work:
    """What all launches of one call have in common; the fields' arrays outlive the kernels that run on them."""

    driver: Driver
    plan: Plan
    points: Array
    breaks: tuple[Array, ...]
    tables: tuple[Array, ...]
    mirrors: tuple[Array, ...]
    cotangent: Array
    slopes: Array | None
    bad: Array

    @property
    def program(self) -> Program:
        return program_of("train_vjp.cu", self.tables, str(float_name(self.points.dtype)))

    def launch(self, first: int, count: int, sums: tuple[Array | None, ...], kept: np.ndarray) -> None:
        """Take `count` points from number `first` on."""
        plan, null = self.plan, np.uint64(0)
        records = (
            axes_record(self.driver, self.breaks, self.tables),
            tables_record(self.driver, self.mirrors),
            tables_record(self.driver, sums),
            kept,
        )
        arrays = self.points, self.cotangent, null if self.slopes is None else self.slopes
        sizes = first, count, np.int32(plan.width), np.int32(plan.group), np.int32(plan.each)
        drivers.launch(
            self.driver, self.program, "train_vjp", count * plan.group, *records, *arrays, *sizes, self.bad,
            threads=plan.threads, shared=plan.shared,
        )  # fmt: skip

    def ordered_sums(self) -> tuple[Array, ...]:
        """Return the tables' cotangents, each sum in an order that depends on the points and the shapes alone."""
        xp, n, d = namespace(self.points), int(self.points.shape[0]), len(self.tables)
        total = sum(int(t.shape[2]) for t in self.tables) + 1
        size = max(CHUNK // ((2 * total + d) * self.points.dtype.itemsize), 1024)
        sums = [xp.zeros(t.shape, dtype=t.dtype, device=device_of(t)) for t in self.tables]
        for first in range(0, n, size):
            count = min(size, n - first)
            before, after = empty_like(self.points, count, total), empty_like(self.points, count, total)
            local = empty_like(self.points, count, d)
            cells = xp.empty((count, d), dtype=xp.int32, device=device_of(self.points))
            addresses = (self.driver.address(a) for a in (before, after, local, cells))
            kept = np.array((*addresses, total), dtype=KEPT)
            self.launch(first, count, (None,) * d, kept)
            at = 0
            for i, table in enumerate(self.tables):
                sums[i] = sums[i] + self._axis_sums(i, at, cells[:, i], kept)
                at += int(table.shape[2])
        return tuple(sums)

    def _axis_sums(self, i: int, at: int, cells: Array, kept: np.ndarray) -> Array:
        """Return the sums over the kept points for axis number `i`, whose rows begin at `at`."""
        xp, table, count = namespace(cells), self.tables[i], int(cells.shape[0])
        number, _, left, right = (int(size) for size in table.shape)
        keys = solid(cells)
        order = xp.argsort(keys, stable=True)
        every = xp.arange(number + 1, dtype=xp.int32, device=device_of(cells))
        begins = xp.searchsorted(xp.take(keys, order), every)
        parts = max(1, min(ITEMS // max(number * left * right, 1), count // (number * LEAST)))
        sums = empty_like(table, parts, *table.shape)
        axes = axes_record(self.driver, self.breaks, self.tables)
        items = parts * number * left * right
        drivers.launch(
            self.driver, self.program, "train_vjp_sums", items, axes, kept, order, begins, sums, np.int32(i),
            np.int32(at), parts,
        )  # fmt: skip
        return sums[0, ...] if parts == 1 else xp.sum(sums, axis=0)
