"""Choose the implementation of each kernel by the arrays it is given.

NumPy arrays go to the numba kernels, which are imported, and compiled or read from the cache, at the first call; CuPy
arrays and torch tensors on a CUDA device go to the CUDA kernels; all else goes to the generic ones, and so does a torch
tensor whose computation torch follows, for a gradient, a transform or a graph: these kernels are torch's own
operations. Nothing is ever copied from one namespace, device or dtype to another: mixing them is an error.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
from typing import Any, cast

from sepnet.backends.arrays import (
    Array,
    Namespace,
    as_namespace,
    describe,
    device_of,
    is_cupy,
    is_followed,
    is_numpy,
    is_torch,
    namespace,
)
from sepnet.backends.availability import BackendUnavailable, require_cupy
from sepnet.backends.contract import Kernels, Names, Wanted
from sepnet.backends.newton import Samples

__all__ = [
    "cp_columns",
    "cp_columns_vjp",
    "cp_gradient",
    "cp_hessian",
    "cp_newton",
    "cp_value",
    "cp_vjp",
    "fill_band",
    "fill_blocks",
    "fill_dense",
    "fill_dense_from_bands",
    "kernels",
    "local_values",
    "normal_blocks",
    "train_gradient",
    "train_hessian",
    "train_value",
    "train_vjp",
    "window_values",
]

_logger = logging.getLogger(__name__)


def kernels(xp: Namespace = None, device: Any = None) -> Kernels:
    """Return the kernels for arrays of `xp`.

    Parameters
    ----------
    xp : module, optional
        An array library or its array-API namespace; ``None`` means NumPy.
    device : optional
        Where the arrays are, as ``array.device`` says it; it counts for torch alone, where ``None`` means the host.

    Returns
    -------
    Kernels
        A module whose functions follow `sepnet.backends.contract.Kernels`. It takes no gradients of torch tensors on
        CUDA devices; the functions of this module do.

    Raises
    ------
    BackendUnavailable
        If `xp` is CuPy and a driver, a device or a library is missing.
    """
    xp = as_namespace(xp)
    return _implementation(xp, is_torch(xp) and device is not None and str(device).startswith("cuda"))


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
    """See `sepnet.backends.contract.Kernels.cp_vjp`; TypeError if namespaces, devices or dtypes differ."""
    chosen = _kernels_of(points=points, breaks=breaks, tables=tables, cotangent=cotangent)
    return chosen.cp_vjp(points, breaks, tables, cotangent, wanted=wanted, deterministic=deterministic, names=names)


def cp_columns(points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None) -> Array:
    """See `sepnet.backends.contract.Kernels.cp_columns`; TypeError if namespaces, devices or dtypes differ."""
    return _kernels_of(points=points, breaks=breaks, tables=tables).cp_columns(points, breaks, tables, names=names)


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
    """See `sepnet.backends.contract.Kernels.cp_columns_vjp`; TypeError if namespaces, devices or dtypes differ."""
    chosen = _kernels_of(points=points, breaks=breaks, tables=tables, cotangent=cotangent)
    return chosen.cp_columns_vjp(
        points, breaks, tables, cotangent, wanted=wanted, deterministic=deterministic, names=names
    )


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
    """See `sepnet.backends.contract.Kernels.train_vjp`; TypeError if namespaces, devices or dtypes differ."""
    chosen = _kernels_of(points=points, breaks=breaks, tables=tables, cotangent=cotangent)
    return chosen.train_vjp(points, breaks, tables, cotangent, wanted=wanted, deterministic=deterministic, names=names)


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


def fill_blocks(bands: Array, weights: Array, /, *, group: int) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.fill_blocks`; TypeError if namespaces, devices or dtypes differ."""
    return _kernels_of(bands=bands, weights=weights).fill_blocks(bands, weights, group=group)


def fill_band(bands: Array, weights: Array, /, *, out: Array | None = None) -> Array:
    """See `sepnet.backends.contract.Kernels.fill_band`; TypeError if the arrays are not NumPy's, or dtypes differ."""
    return _kernels_of(bands=bands, weights=weights).fill_band(bands, weights, out=out)


def _kernels_of(**arguments: Array | tuple[Array, ...]) -> Kernels:
    """Return the kernels for `arguments`; raise TypeError unless all share namespace, device and real dtype."""
    flat = [(name, a) for name, value in arguments.items() for a in (value if isinstance(value, tuple) else (value,))]
    xp = namespace(*(a for _, a in flat))
    name, lead = flat[0]
    dtype, device = lead.dtype, device_of(lead)
    if not xp.isdtype(dtype, "real floating"):
        msg = f"`{name}` is {describe(lead)}, expected float32 or float64: convert it first, e.g. with u.to(dtype=...)"
        raise TypeError(msg)
    for other, array in flat[1:]:
        if array.dtype != dtype or device_of(array) != device:
            msg = (
                f"`{other}` is {describe(array)} and `{name}` is {describe(lead)}, expected one device and dtype: "
                "move one side first, e.g. with u.to(device=..., dtype=...)"
            )
            raise TypeError(msg)
    on_cuda = is_torch(xp) and _on_cuda(device)
    return _implementation(xp, on_cuda and not is_followed(*(a for _, a in flat)))


def _on_cuda(device: Any) -> bool:
    """Tell whether a device of torch is a CUDA device."""
    return bool(device.type == "cuda")


@functools.cache
def _implementation(xp: Namespace, torch_on_cuda: bool) -> Kernels:
    name = "sepnet.backends.generic"
    if is_numpy(xp) and _has_numba():
        name = "sepnet.backends.cpu"
    elif is_cupy(xp) or (torch_on_cuda and _has_cupy()):
        name = "sepnet.backends.cuda"
    return cast(Kernels, importlib.import_module(name))


@functools.cache
def _has_numba() -> bool:
    if importlib.util.find_spec("numba") is None:
        _logger.info("numba is not installed: NumPy arrays take the generic kernels, about ten times as slow")
        return False
    return True


@functools.cache
def _has_cupy() -> bool:
    # torch needs no CuPy for its own work, so a part that is missing is no error here
    try:
        require_cupy()
    except BackendUnavailable as error:
        _logger.info("torch tensors on CUDA devices take the generic kernels: %s", error)
        return False
    return True
