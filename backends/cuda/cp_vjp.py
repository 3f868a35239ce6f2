"""The vector-Jacobian product of a CP function, on a CUDA device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np

from sepnet.backends import generic
from sepnet.backends.arrays import Array, float_name, namespace
from sepnet.backends.checks import check_cp, check_vjp
from sepnet.backends.contract import Names, Wanted
from sepnet.backends.cuda import driver as drivers
from sepnet.backends.cuda.driver import WARP, Driver
from sepnet.backends.cuda.layout import MAX_AXES, axes_record, group_size, program_of, solid, vector_size
from sepnet.backends.cuda.points import empty_like, no_bad_point, raise_bad_point
from sepnet.backends.cuda.source import Program

__all__ = ["cp_columns_vjp", "cp_vjp"]

# The points are cut into parts of PART points at least, and into MOST_PARTS at most: some for each block of a large
# device. Each part has its own sums in memory, of PARTIAL numbers in all at most if one part has not more.
PART, MOST_PARTS, PARTIAL = 256, 1024, 2**24
# Bytes of a row of the tables that are read at a time.
SECTOR = 32
# Threads of a block, and how often they go round to fill a tile; fewer where many axes make a tile too large.
BLOCKS = ((128, 2), (128, 1), (64, 1), (32, 1))
# Up to so many axes the sources keep in registers.
UNROLLED_AXES = 8
COTANGENT = np.dtype([("numbers", "u8"), ("columns", "i4")], align=True)
PLAN = np.dtype(
    [("n", "i8"), ("rows", "i8"), *((name, "i4") for name in ("rank", "parts", "slices", "width", "window", "tile"))],
    align=True,
)


@drivers.on_its_device
def cp_vjp(
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
    """See `sepnet.backends.contract.Kernels.cp_vjp`.

    Only tables too large for the shared memory of a block make a difference for `deterministic`.
    """
    check_cp(points, breaks, tables)
    check_vjp(points, cotangent, wanted)
    if len(tables) > MAX_AXES:
        return generic.cp_vjp(points, breaks, tables, cotangent, wanted=wanted, names=names)
    return _vjp(points, breaks, tables, cotangent, wanted, deterministic, names)


@drivers.on_its_device
def cp_columns_vjp(
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
    """See `sepnet.backends.contract.Kernels.cp_columns_vjp`, and `cp_vjp`."""
    check_cp(points, breaks, tables)
    check_vjp(points, cotangent, wanted, (int(tables[0].shape[2]),))
    if len(tables) > MAX_AXES:
        return generic.cp_columns_vjp(points, breaks, tables, cotangent, wanted=wanted, names=names)
    return _vjp(points, breaks, tables, cotangent, wanted, deterministic, names)


def _vjp(
    points: Array,
    breaks: tuple[Array, ...],
    tables: tuple[Array, ...],
    cotangent: Array,
    wanted: Wanted,
    deterministic: bool,
    names: Names,
) -> tuple[Array | None, tuple[Array, ...] | None]:
    """Carry a cotangent of shape (n,) or (n, R) back."""
    driver, bad = drivers.driver_of(points), no_bad_point(points)
    points, cotangent = solid(points), solid(cotangent)
    breaks, tables = tuple(map(solid, breaks)), tuple(map(solid, tables))
    # more axes are not held in registers, where wide loads would pay, and would make large tiles
    packed = tables if cotangent.ndim == 1 else (*tables, cotangent)
    vector = vector_size(driver, packed, points.dtype.itemsize) if len(tables) <= UNROLLED_AXES else 1
    program = program_of("cp_vjp.cu", tables, str(float_name(points.dtype)), vector=vector)
    call = _Call(driver, program, axes_record(driver, breaks, tables), points, cotangent, tables, vector, bad)
    pulled = None if wanted == "tables" else _pull(call)
    sums = None if wanted == "points" else _spread(call, deterministic)
    raise_bad_point(bad, points, breaks, names)
    return pulled, sums


@final
@dataclass(frozen=True)
class _Call:
    """What the launches of one call share; the tables are kept alive by it."""

    driver: Driver
    program: Program
    axes: np.ndarray
    points: Array
    cotangent: Array
    tables: tuple[Array, ...]
    vector: int
    bad: Array

    @property
    def inputs(self) -> tuple[Array, ...]:
        """The first arguments of the kernels: axes, points and cotangent."""
        cotangent = np.zeros((), dtype=COTANGENT)
        columns = 1 if self.cotangent.ndim == 1 else self.rank
        cotangent[()] = (self.driver.address(self.cotangent), columns)
        return self.axes, self.points, cotangent

    @property
    def n(self) -> int:
        return int(self.points.shape[0])

    @property
    def rank(self) -> int:
        return int(self.tables[0].shape[2])

    @property
    def rows(self) -> int:
        """Rows (axis, cell, power) of all tables."""
        return sum(int(t.shape[0]) * int(t.shape[1]) for t in self.tables)

    def launch_points(self, kernel: str, result: Array) -> None:
        """Launch a kernel whose groups of lanes take a point each."""
        group = group_size(-(-self.rank // self.vector))
        sizes = (self.n, np.int32(self.rank), np.int32(group))
        drivers.launch(self.driver, self.program, kernel, self.n * group, *self.inputs, result, *sizes, self.bad)


def _pull(call: _Call) -> Array:
    """Return the cotangent of the points."""
    result = empty_like(call.points, *call.points.shape)
    call.launch_points("cp_pull", result)
    return result


def _spread(call: _Call, deterministic: bool) -> tuple[Array, ...]:
    """Return the cotangents of the tables: views of one array."""
    size = call.rows * call.rank
    plan, threads, shared = _plan(call)
    result = empty_like(call.points, size)
    if int(plan["window"]) < call.rows and not deterministic:
        result[...] = 0
        # neighbouring lanes must add to neighbouring numbers
        narrow = program_of(call.program.file, call.tables, call.program.dtype)
        replace(call, program=narrow, vector=1).launch_points("cp_spread_atomic", result)
    else:
        parts, windows = int(plan["parts"]), -(-call.rows // int(plan["window"]))
        jobs = parts * windows * int(plan["slices"])
        partial = empty_like(call.points, parts * size)
        arguments = (*call.inputs, partial, plan, call.bad)
        sizes = {"threads": threads, "shared": shared}
        drivers.launch(call.driver, call.program, "cp_spread", jobs * threads, *arguments, **sizes)
        # eight threads for each number; they meet at a barrier of their block
        whole = -(-size // WARP) * WARP * 8
        drivers.launch(call.driver, call.program, "cp_spread_sum", whole, partial, result, size, np.int32(parts))
    views, start = [], 0
    for table in call.tables:
        cells, powers, rank = (int(k) for k in table.shape)
        stop = start + cells * powers * rank
        views.append(namespace(result).reshape(result[start:stop], (cells, powers, rank)))
        start = stop
    return tuple(views)


def _plan(call: _Call) -> tuple[np.ndarray, int, int]:
    """Return the record ``Plan`` of ``cp_spread``, the threads of a block and its bytes of dynamic shared memory.

    A third of the shared memory a block: then three blocks share a multiprocessor, and while one adds another fills.
    Slices get narrower for that, until they are a sector wide; then a block has up to all of it; then windows take
    turns.
    The number of parts depends on shapes alone, for the order of the sum does.
    """
    each, d = int(call.points.dtype.itemsize), len(call.tables)
    limit = call.driver.shared_limit() - 64 * d  # less what the ends of the axes take
    third = limit // 3 - 1024  # of which the device keeps 1 KiB a block
    width = group_size(-(-call.rank // call.vector)) * call.vector
    if d > UNROLLED_AXES:
        width = max(width, SECTOR // each)  # lanes to spare, so that a tile of many axes has fewer points
    least = min(width, max(SECTOR // each, call.vector))
    for threads, turns in BLOCKS:
        tile = turns * threads * call.vector // least
        if _tile_bytes(tile, least, d, each) <= third:
            break
    while width > least and call.rows * width * each + _tile_bytes(tile * least // width, width, d, each) > third:
        width //= 2
    tile = tile * least // width
    space = (limit - _tile_bytes(tile, width, d, each)) // (width * each)
    window, slices = min(call.rows, space), max(1, -(-call.rank // width))
    parts = min(-(-call.n // PART), MOST_PARTS, max(1, PARTIAL // max(call.rows * call.rank, 1)))
    plan = np.zeros((), dtype=PLAN)
    plan[()] = (call.n, call.rows, call.rank, parts, slices, width, window, tile)
    return plan, threads, window * width * each + _tile_bytes(tile, width, d, each)


def _tile_bytes(tile: int, width: int, d: int, each: int) -> int:
    """Return the bytes of gains, s and rows of a tile, see ``Tile`` in the source."""
    return tile * d * (width * each + each + 4)
