"""Read functions from files."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from sepnet.backends.arrays import Namespace, as_device, as_dtype, as_namespace
from sepnet.functions import storage
from sepnet.functions.cp import CP
from sepnet.functions.sna import SNA
from sepnet.functions.tensor_train import TensorTrain
from sepnet.functions.tucker import Tucker

__all__ = ["load"]

KINDS = ("CP", "TensorTrain", "Tucker", "SNA")


def load(
    path: str | os.PathLike[str], *, xp: Namespace = None, device: Any = None, dtype: Any = None
) -> CP | TensorTrain | Tucker | SNA:
    """Read a function written by its `save`.

    Parameters
    ----------
    path : path
        The file.
    xp, device, dtype : optional
        Where the factors shall live; by default NumPy in the stored dtype.

    Returns
    -------
    CP, TensorTrain, Tucker or SNA
        What was saved.

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
    name = repr(os.fspath(path))
    if stored.kind not in KINDS:
        msg = f"{name} holds a {stored.kind}, expected one of {', '.join(KINDS)}: update sepnet"
        raise ValueError(msg)
    try:
        function = _made(stored)
    except (TypeError, ValueError) as error:
        msg = f"{name} is no sound {stored.kind} ({error}): take a copy, or compute it again"
        raise ValueError(msg) from error
    return function.to(target, device=device, dtype=dtype)


def _made(stored: storage.Stored) -> CP | TensorTrain | Tucker | SNA:
    if stored.kind == "SNA":
        return _sparse(stored)
    if stored.kind == "Tucker":
        return Tucker(stored.space, stored.factors[:-1], stored.factors[-1])
    if stored.kind == "TensorTrain" and stored.order:
        stored.space.check_axes(stored.order, "order")
        cores = [stored.factors[stored.space.names.index(name)] for name in stored.order]
        return TensorTrain(stored.space, cores, stored.order)
    return (CP if stored.kind == "CP" else TensorTrain)(stored.space, stored.factors)


def _sparse(stored: storage.Stored) -> SNA:
    parts, weights = {}, {}
    for part in stored.parts:
        count = part.space.dim + (part.kind == "Tucker")
        subset = part.space.names
        parts[subset] = _made(dataclasses.replace(part, factors=part.factors[:count]))
        if len(part.factors) > count:
            weights[subset] = part.factors[count]
    activation: Any = stored.activation
    made: Any = parts
    return SNA(stored.space, made, constant=stored.factors[0], weights=weights, activation=activation)
