"""Value, columns, gradient and Hessian of a CP function at scattered points, on a CUDA device."""

from __future__ import annotations

import numpy as np

from sepnet.backends import generic
from sepnet.backends.arrays import Array, float_name
from sepnet.backends.checks import check_cp
from sepnet.backends.contract import Names
from sepnet.backends.cuda import driver as drivers
from sepnet.backends.cuda.layout import MAX_AXES, MOST_BENT, axes_record, group_size, program_of, solid, vector_size
from sepnet.backends.cuda.points import empty_like, no_bad_point, raise_bad_point

__all__ = ["cp_columns", "cp_gradient", "cp_hessian", "cp_value"]


@drivers.on_its_device
def cp_value(points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None) -> Array:
    """See `sepnet.backends.contract.Kernels.cp_value`."""
    check_cp(points, breaks, tables)
    if len(tables) > MAX_AXES:
        return generic.cp_value(points, breaks, tables, names=names)
    value = empty_like(points, points.shape[0])
    _evaluate("cp_value", points, breaks, tables, names, value)
    return value


@drivers.on_its_device
def cp_columns(points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None) -> Array:
    """See `sepnet.backends.contract.Kernels.cp_columns`."""
    check_cp(points, breaks, tables)
    if len(tables) > MAX_AXES:
        return generic.cp_columns(points, breaks, tables, names=names)
    columns = empty_like(points, points.shape[0], tables[0].shape[2])
    _evaluate("cp_columns", points, breaks, tables, names, columns)
    return columns


@drivers.on_its_device
def cp_gradient(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.cp_gradient`."""
    check_cp(points, breaks, tables)
    if len(tables) > MAX_AXES:
        return generic.cp_gradient(points, breaks, tables, names=names)
    n, d = points.shape
    value, gradient = empty_like(points, n), empty_like(points, n, d)
    _evaluate("cp_gradient", points, breaks, tables, names, value, gradient)
    return value, gradient


@drivers.on_its_device
def cp_hessian(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array, Array]:
    """See `sepnet.backends.contract.Kernels.cp_hessian`."""
    check_cp(points, breaks, tables)
    if len(tables) > MOST_BENT:
        return generic.cp_hessian(points, breaks, tables, names=names)
    n, d = points.shape
    value, gradient, hessian = empty_like(points, n), empty_like(points, n, d), empty_like(points, n, d, d)
    _evaluate("cp_hessian", points, breaks, tables, names, value, gradient, hessian)
    return value, gradient, hessian


def _evaluate(
    kernel: str, points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], names: Names, *results: Array
) -> None:
    """Fill `results`; raise ValueError for the first bad point."""
    driver = drivers.driver_of(points)
    points, breaks, tables = solid(points), tuple(map(solid, breaks)), tuple(map(solid, tables))
    n, rank = int(points.shape[0]), int(tables[0].shape[2])
    # wide loads need registers: the Hessian has none to spare
    vector = vector_size(driver, tables, points.dtype.itemsize) if kernel != "cp_hessian" else 1
    group, bad = group_size(-(-rank // vector)), no_bad_point(points)
    record = axes_record(driver, breaks, tables)
    program = program_of("cp.cu", tables, str(float_name(points.dtype)), vector=vector)
    sizes = (n, np.int32(rank), np.int32(group))
    drivers.launch(driver, program, kernel, n * group, record, points, *results, *sizes, bad)
    raise_bad_point(bad, points, breaks, names)
