"""Choose the implementation of each kernel by the arrays it is given.

NumPy arrays go to the numba kernels, which are imported, and compiled or read from the cache, at the first call; all
other namespaces go to the generic ones. Nothing is ever copied from one namespace, device or dtype to another: mixing
them is an error.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
from typing import cast

from sepnet.backends.arrays import Array, Namespace, as_namespace, describe, device_of, is_numpy, namespace
from sepnet.backends.contract import Kernels, Names
from sepnet.backends.newton import Samples

__all__ = [
    "cp_gradient",
    "cp_hessian",
    "cp_newton",
    "cp_value",
    "fill_band",
    "fill_dense",
    "fill_dense_from_bands",
    "kernels",
    "local_values",
    "normal_blocks",
    "train_gradient",
    "train_hessian",
    "train_value",
    "window_values",
]

_logger = logging.getLogger(__name__)


def kernels(xp: Namespace = None) -> Kernels:
    """Return the kernels for arrays of `xp`.

    Parameters
    ----------
    xp : module, optional
        An array library or its array-API namespace; ``None`` means NumPy.

    Returns
    -------
    Kernels
        A module whose functions follow `sepnet.backends.contract.Kernels`.
    """
    name = "sepnet.backends.generic"
    if (xp is None or is_numpy(as_namespace(xp))) and _has_numba():
        name = "sepnet.backends.cpu"
    return cast(Kernels, importlib.import_module(name))


def local_values(points: Array, breaks: Array, table: Array, /, *, names: Names = None) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.local_values`; TypeError if namespaces, devices or dtypes differ."""
    return _kernels_of(points=points, breaks=breaks, table=table).local_values(points, breaks, table, names=names)


def cp_value(points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None) -> Array:
    """See `sepnet.backends.contract.Kernels.cp_value`; TypeError if namespaces, devices or dtypes differ."""
    return _kernels_of(points=points, breaks=breaks, tables=tables).cp_value(points, breaks, tables, names=names)


def cp_gradient(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.cp_gradient`; TypeError if namespaces, devices or dtypes differ."""
    return _kernels_of(points=points, breaks=breaks, tables=tables).cp_gradient(points, breaks, tables, names=names)


def cp_hessian(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array, Array]:
    """See `sepnet.backends.contract.Kernels.cp_hessian`; TypeError if namespaces, devices or dtypes differ."""
    return _kernels_of(points=points, breaks=breaks, tables=tables).cp_hessian(points, breaks, tables, names=names)


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
    """See `sepnet.backends.contract.Kernels.cp_newton`; TypeError if namespaces, devices or dtypes differ."""
    arrays = {"targets": targets, "low": low, "high": high, "breaks": breaks, "tables": tables, "tol": tol}
    chosen = _kernels_of(starts=starts, **arrays)
    return chosen.cp_newton(starts, targets, low, high, breaks, tables, tol=tol, max_steps=max_steps, names=names)


def train_value(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> Array:
    """See `sepnet.backends.contract.Kernels.train_value`; TypeError if namespaces, devices or dtypes differ."""
    return _kernels_of(points=points, breaks=breaks, tables=tables).train_value(points, breaks, tables, names=names)


def train_gradient(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.train_gradient`; TypeError if namespaces, devices or dtypes differ."""
    return _kernels_of(points=points, breaks=breaks, tables=tables).train_gradient(points, breaks, tables, names=names)


def train_hessian(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array, Array]:
    """See `sepnet.backends.contract.Kernels.train_hessian`; TypeError if namespaces, devices or dtypes differ."""
    return _kernels_of(points=points, breaks=breaks, tables=tables).train_hessian(points, breaks, tables, names=names)


def window_values(first: Array, values: Array, table: Array, /) -> Array:
    """See `sepnet.backends.contract.Kernels.window_values`; TypeError if namespaces, devices or dtypes differ."""
    return _kernels_of(values=values, table=table).window_values(first, values, table)


def normal_blocks(
    first: tuple[Array, ...],
    values: tuple[Array, ...],
    gains: tuple[Array, ...],
    curvature: Array,
    slope: Array,
    /,
    *,
    sizes: tuple[int, ...],
) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.normal_blocks`; TypeError if namespaces, devices or dtypes differ."""
    chosen = _kernels_of(slope=slope, curvature=curvature, values=values, gains=gains)
    return chosen.normal_blocks(first, values, gains, curvature, slope, sizes=sizes)


def fill_dense(matrices: Array, weights: Array, /) -> Array:
    """See `sepnet.backends.contract.Kernels.fill_dense`; TypeError if namespaces, devices or dtypes differ."""
    return _kernels_of(matrices=matrices, weights=weights).fill_dense(matrices, weights)


def fill_dense_from_bands(bands: Array, weights: Array, /) -> Array:
    """See `sepnet.backends.contract.Kernels.fill_dense_from_bands`; TypeError if the arrays do not go together."""
    return _kernels_of(bands=bands, weights=weights).fill_dense_from_bands(bands, weights)


def fill_band(bands: Array, weights: Array, /, *, out: Array | None = None) -> Array:
    """See `sepnet.backends.contract.Kernels.fill_band`; TypeError if the arrays are not NumPy's, or dtypes differ."""
    return _kernels_of(bands=bands, weights=weights).fill_band(bands, weights, out=out)


def _kernels_of(**arguments: Array | tuple[Array, ...]) -> Kernels:
    """Return the kernels for `arguments`; raise TypeError unless all share namespace, device and real dtype."""
    flat = [(name, a) for name, value in arguments.items() for a in (value if isinstance(value, tuple) else (value,))]
    xp = namespace(*(a for _, a in flat))
    name, lead = flat[0]
    if not xp.isdtype(lead.dtype, "real floating"):
        msg = f"`{name}` is {describe(lead)}, expected float32 or float64: convert it first, e.g. with u.to(dtype=...)"
        raise TypeError(msg)
    for other, array in flat[1:]:
        if array.dtype != lead.dtype or device_of(array) != device_of(lead):
            msg = (
                f"`{other}` is {describe(array)} and `{name}` is {describe(lead)}, expected one device and dtype: "
                "move one side first, e.g. with u.to(device=..., dtype=...)"
            )
            raise TypeError(msg)
    return kernels(xp)


@functools.cache
def _has_numba() -> bool:
    if importlib.util.find_spec("numba") is None:
        _logger.info("numba is not installed: NumPy arrays take the generic kernels, about ten times as slow")
        return False
    return True
