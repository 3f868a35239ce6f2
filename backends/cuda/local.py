"""Values of the functions that live on each point's cell, on a CUDA device."""

from __future__ import annotations

import numpy as np

from sepnet.backends.arrays import Array, device_of, float_name, namespace
from sepnet.backends.checks import check_local
from sepnet.backends.contract import Names
from sepnet.backends.cuda import driver as drivers
from sepnet.backends.cuda.layout import axes_record, group_size, program_of, solid
from sepnet.backends.cuda.points import empty_like, no_bad_point, raise_bad_point

__all__ = ["local_values"]


@drivers.on_its_device
def local_values(points: Array, breaks: Array, table: Array, /, *, names: Names = None) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.local_values`."""
    check_local(points, breaks, table)
    driver = drivers.driver_of(points)
    points, breaks, table = solid(points), solid(breaks), solid(table)
    xp, n, width = namespace(points), int(points.shape[0]), int(table.shape[2])
    cells = xp.empty((n,), dtype=xp.int64, device=device_of(points))
    values, column = empty_like(points, n, width), points[:, None]
    group, bad = group_size(width), no_bad_point(column)
    record = axes_record(driver, (breaks,), (table,))
    program = program_of("local.cu", (table,), str(float_name(points.dtype)))
    sizes = (n, np.int32(width), np.int32(group))
    drivers.launch(driver, program, "local_values", n * group, record, points, cells, values, *sizes, bad)
    raise_bad_point(bad, column, (breaks,), names)
    return cells, values
