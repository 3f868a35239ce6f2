"""The one place that knows array namespaces: everything else asks here.

Only this module imports ``array_api_compat``. No function copies between devices except the two whose names say so,
`to_host` and `from_host`; they are for set-up and for ``u.to(...)``.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import array_api_compat as compat
import numpy as np

from sepnet.backends.availability import require_cupy

Array: TypeAlias = Any
Namespace: TypeAlias = Any

__all__ = [
    "Array",
    "Namespace",
    "as_device",
    "as_dtype",
    "as_namespace",
    "describe",
    "device_of",
    "eps",
    "float_name",
    "from_host",
    "gather",
    "is_cupy",
    "is_followed",
    "is_numpy",
    "is_torch",
    "library_name",
    "namespace",
    "needs_autograd",
    "to_host",
]


def as_namespace(xp: Namespace, /) -> Namespace:
    """Return the array-API namespace of a module such as ``numpy``, ``torch`` or ``cupy``.

    Parameters
    ----------
    xp : module or None
        The module a user would name; ``None`` means NumPy.

    Returns
    -------
    module
        The namespace whose functions follow the Array API standard.

    Raises
    ------
    BackendUnavailable
        If `xp` is CuPy and a driver, a device or a library is missing.
    TypeError
        If `xp` has no ``asarray``: it is no array library.
    """
    if xp is None:
        return compat.array_namespace(np.empty(0))
    if not hasattr(xp, "asarray"):
        msg = f"`xp` is {xp!r}, expected an array library such as numpy, torch or cupy: pass the module itself"
        raise TypeError(msg)
    if is_cupy(xp):
        require_cupy()
    return compat.array_namespace(xp.empty(0) if hasattr(xp, "empty") else xp.asarray([]))


def library_name(xp: Namespace, /) -> str:
    """Return the name by which `importlib` finds an array library, e.g. "torch"."""
    return str(xp.__name__).removeprefix("array_api_compat.")


_NAMESPACES: dict[type | None, Namespace] = {}


def namespace(*arrays: Array) -> Namespace:
    """Return the common namespace of `arrays`.

    Raises
    ------
    BackendUnavailable
        If they are CuPy's and a library is missing that CuPy needs.
    TypeError
        If the arrays come from different libraries, or something is no array.
    """
    # Asked a hundred times in a sweep of ALS, at 2 us each: the answer for one type of array is remembered.
    kind = type(arrays[0]) if arrays else None
    known = _NAMESPACES.get(kind)
    if known is not None and all(type(a) is kind for a in arrays):
        return known
    try:
        found = compat.array_namespace(*arrays)
    except TypeError as error:
        kinds = ", ".join(sorted({f"{type(a).__module__.split('.')[0]}.{type(a).__name__}" for a in arrays}))
        msg = f"the arrays are of {kinds}, expected one array library: move one side first, e.g. with u.to(xp=...)"
        raise TypeError(msg) from error
    if is_cupy(found):
        require_cupy()
    if kind is not None and all(type(a) is kind for a in arrays):
        _NAMESPACES[kind] = found
    return found


def device_of(array: Array, /) -> Any:
    """Return the device `array` lives on."""
    return compat.device(array)


def describe(array: Array, /) -> str:
    """Return ``"torch float32 on cpu"`` and the like, for error messages."""
    xp = namespace(array)
    return f"{_library(xp)} {str(array.dtype).rsplit('.', 1)[-1]} on {device_of(array)}"


def is_numpy(xp: Namespace, /) -> bool:
    """Tell whether `xp` is NumPy's namespace."""
    return bool(compat.is_numpy_namespace(xp))


def is_torch(xp: Namespace, /) -> bool:
    """Tell whether `xp` is torch's namespace."""
    return bool(compat.is_torch_namespace(xp))


def is_cupy(xp: Namespace, /) -> bool:
    """Tell whether `xp` is CuPy's namespace."""
    return bool(compat.is_cupy_namespace(xp))


def float_name(dtype: Any, /) -> str | None:
    """Return "float32" or "float64" for such a data type of any library, and None for every other object.

    A NumPy data type in the byte order of another machine is none of the two: neither the kernels nor other libraries
    take it.
    """
    if isinstance(dtype, str):
        name = dtype
    elif dtype is float:
        name = "float64"
    elif isinstance(dtype, np.dtype) or (isinstance(dtype, type) and issubclass(dtype, np.generic)):
        native = np.dtype(dtype)
        name = native.name if native.isnative else ""
    else:
        name = str(dtype).rsplit(".", 1)[-1]
    return name if name in ("float32", "float64") else None


def as_dtype(dtype: Any, xp: Namespace, /) -> Any:
    """Return the data type of `xp` that a user names.

    Parameters
    ----------
    dtype : str, data type or None
        ``"float32"`` or ``"float64"``, the same of any array library, or Python's float; None means float64.
    xp : module
        The namespace, see `as_namespace`.

    Returns
    -------
    data type of `xp`

    Raises
    ------
    ValueError
        If it is anything else.
    """
    name = "float64" if dtype is None else float_name(dtype)
    if name is None:
        msg = f'`dtype` is {dtype!r}, expected "float32" or "float64": these are what the kernels are made for'
        raise ValueError(msg)
    return getattr(xp, name)


def as_device(device: Any, xp: Namespace, /) -> Any:
    """Return the device of `xp` that a user names, by making an empty array there.

    Parameters
    ----------
    device : object
        What `xp` takes as a device, such as ``"cuda:0"`` for torch; None means its default.
    xp : module
        The namespace, see `as_namespace`.

    Returns
    -------
    device of `xp`

    Raises
    ------
    ValueError
        If there is no such device, or it is not CuPy's current one.
    """
    try:
        found = device_of(xp.empty((0,), device=device))
        asked = int(device) if is_cupy(xp) and device is not None else None
    # Each library has its own errors here: torch alone raises AssertionError, RuntimeError, TypeError and others.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        msg = f"`device` is {device!r}, which {_library(xp)} does not offer here ({reason}): {_advice(xp)}"
        raise ValueError(msg) from error
    if asked is not None and asked != found.id:
        # CuPy's functions make arrays on its current device, and its array-API namespace ignores `device`
        msg = f"`device` is {device!r}, CuPy's current one is {found.id}: work within `with cupy.cuda.Device({asked}):`"
        raise ValueError(msg)
    return found


def _library(xp: Namespace) -> str:
    return str(getattr(xp, "__name__", xp)).removeprefix("array_api_compat.").split(".")[0]


def _advice(xp: Namespace) -> str:
    if is_numpy(xp):
        return 'leave `device` out, or name a library with devices, e.g. xp=torch, device="cuda"'
    return "leave `device` out for the default one, or name one that exists"


def needs_autograd(*arrays: Array) -> bool:
    """Tell whether a torch tensor among `arrays` records gradients."""
    return any(bool(getattr(a, "requires_grad", False)) for a in arrays)


def is_followed(*tensors: Array) -> bool:
    """Tell whether torch follows what is computed with `tensors`, and must see its own operations.

    It does so to record a gradient, forward or backward, under a transform of ``torch.func``, while it traces or
    compiles, under a dispatch mode, and for subclasses of its tensor: all that a kernel which is given addresses would
    be left out of, without an error.
    """
    import torch

    if torch.is_grad_enabled() and needs_autograd(*tensors):
        return True
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.autograd.forward_ad._current_level >= 0:
        return True
    # torch has no public names for these two; its own autograd.Function asks the first
    if torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack() > 0:
        return True
    return any(type(t) is not torch.Tensor and type(t) is not torch.nn.Parameter for t in tensors)


def eps(dtype: Any, xp: Namespace, /) -> float:
    """Return the unit round-off spacing of a real floating `dtype` of `xp`."""
    return float(xp.finfo(dtype).eps)


def to_host(array: Array, /) -> np.ndarray:
    """Copy `array` to a NumPy array on the host, whatever device it is on (set-up and saving only)."""
    if isinstance(array, np.ndarray):
        return array
    if compat.is_torch_array(array):
        return np.asarray(array.detach().cpu().numpy())
    if compat.is_cupy_array(array):
        return np.asarray(array.get())
    if hasattr(array, "__array_namespace__"):
        home = namespace(array).__array_namespace_info__().default_device()
        return np.asarray(compat.to_device(array, home))
    return np.asarray(array)


def from_host(array: Any, xp: Namespace, /, *, device: Any = None, dtype: Any = None) -> Array:
    """Move a host array to namespace `xp`, `device` and `dtype` (by default `xp`'s own and the array's)."""
    if dtype is not None and isinstance(dtype, str):
        dtype = getattr(xp, dtype)
    host = np.ascontiguousarray(array)
    if is_torch(xp) and not host.flags.writeable:
        host = host.copy()  # torch warns about read-only memory, and set-up arrays are read-only
    return xp.asarray(host, device=device, dtype=dtype)


def gather(array: Array, index: Array, /) -> Array:
    """Return ``array[index, ...]`` for an integer array `index` of any shape (``take`` is 1-D in the standard)."""
    xp = namespace(array, index)
    rows = xp.take(array, xp.reshape(index, (-1,)), axis=0)
    return xp.reshape(rows, tuple(index.shape) + tuple(array.shape[1:]))
