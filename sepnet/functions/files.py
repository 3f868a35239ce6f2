"""Read functions from files."""

from __future__ import annotations

import os
from typing import Any

from sepnet.backends.arrays import Namespace, as_device, as_dtype, as_namespace, from_host
from sepnet.functions import storage
from sepnet.functions.cp import CP

__all__ = ["load"]


def load(path: str | os.PathLike[str], *, xp: Namespace = None, device: Any = None, dtype: Any = None) -> CP:
    """Read a function written by `CP.save`.

    Parameters
    ----------
    path : path
        The file.
    xp, device, dtype : optional
        Where the factors shall live; by default NumPy in the stored dtype.

    Returns
    -------
    CP

    Raises
    ------
    OSError
        If there is no such file (FileNotFoundError), it is a folder, or cannot be read.
    TypeError
        If `path` is no path or `xp` no array library.
    ValueError
        If the file is truncated, damaged, foreign, or of a newer version, or `device` or `dtype` is none of `xp`.
    """
    target = as_namespace(xp)
    device = None if device is None else as_device(device, target)
    dtype = None if dtype is None else as_dtype(dtype, target)
    stored = storage.read(path)
    if stored.kind != "CP":
        msg = f"{os.fspath(path)!r} holds a {stored.kind}, expected CP: update sepnet"
        raise ValueError(msg)
    kind = as_dtype(stored.factors[0].dtype, target) if dtype is None else dtype
    return CP(stored.space, [from_host(f, target, device=device, dtype=kind) for f in stored.factors])
