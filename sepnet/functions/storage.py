"""Functions in HDF5 files: a small versioned format, written to a temporary file and renamed.

Layout, version 1: attributes ``format = "sepnet"``, ``version``, ``kind`` ("CP"), ``checksum`` (SHA-256 of all that
follows, see `_checksum`), ``note:*`` (free text); group ``axes`` with one member ``0, 1, ...`` per axis in order
(attributes ``name``, ``basis``: class and parameters as JSON) and the coefficient matrix ``factor`` of shape (n_i, R).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sepnet.backends.arrays import float_name
from sepnet.bases import BSpline, Chebyshev, Fourier, Legendre
from sepnet.bases.basis import Basis
from sepnet.spaces import TensorSpace

__all__ = ["FORMAT_VERSION", "Stored", "read", "write"]

FORMAT_VERSION = 1
BASES: dict[str, type[Basis]] = {cls.__name__: cls for cls in (BSpline, Fourier, Legendre, Chebyshev)}


@dataclasses.dataclass(frozen=True)
class Stored:
    """What a file holds: the kind of function, its space, host factors and free text attributes."""

    kind: str
    space: TensorSpace
    factors: tuple[np.ndarray, ...]
    notes: dict[str, str]


def write(path: str | os.PathLike[str], stored: Stored) -> None:
    """Write `stored` to `path`; an existing file is replaced only when the new one is complete.

    A symbolic link is followed: the file it leads to is replaced, with the permissions it has.

    Raises
    ------
    TypeError, ValueError
        If `path` is no path, or empty.
    OSError
        If the folder does not exist or cannot be written, or `path` is a folder; no partial file is left behind.
    """
    target = _checked(path).resolve()
    if target.is_dir():
        msg = f"`path` is {str(path)!r}, a folder, expected a file: add a name such as 'u.h5'"
        raise IsADirectoryError(msg)
    if not target.parent.is_dir():
        msg = f"`path` is {str(path)!r}, but the folder {str(target.parent)!r} does not exist: create it first"
        raise FileNotFoundError(msg)
    # Short, since the name of the target may be as long as the file system allows.
    temporary = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        # Created by the system with the usual permissions, which only it knows without changing the umask.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        with h5py.File(temporary, "w") as file:
            _fill(file, stored)
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _checked(path: object) -> Path:
    """Return `path` as a Path.

    Raises
    ------
    TypeError, ValueError
        If it is no path, empty, or holds NUL.
    """
    if not isinstance(path, str | os.PathLike):
        msg = f"`path` is {path!r}, expected a str or a path, e.g. 'u.h5'"
        raise TypeError(msg)
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        msg = f"`path` is {path!r}, expected the name of a file, e.g. 'u.h5'"
        raise ValueError(msg)
    return Path(text)


def _fill(file: h5py.File, stored: Stored) -> None:
    file.attrs.update({"format": "sepnet", "version": FORMAT_VERSION, "kind": stored.kind})
    for key, text in stored.notes.items():
        file.attrs[f"note:{key}"] = text
    bases = [json.dumps(_describe(basis)) for basis in stored.space.bases]
    file.attrs["checksum"] = _checksum(stored.kind, stored.space.names, bases, stored.factors, stored.notes)
    for number, (name, basis, factor) in enumerate(zip(stored.space.names, bases, stored.factors, strict=True)):
        group = file.create_group(f"axes/{number}")
        group.attrs["name"] = name
        group.attrs["basis"] = basis
        group.create_dataset("factor", data=factor, compression="gzip")


def _checksum(
    kind: str, names: Sequence[str], bases: Sequence[str], factors: Sequence[np.ndarray], notes: Mapping[str, str]
) -> str:
    """Return the SHA-256 of kind, notes (sorted), axis names, bases, and each factor's dtype, shape and numbers."""
    digest = hashlib.sha256(json.dumps([kind, sorted(notes.items()), list(names), list(bases)]).encode())
    for factor in factors:
        little = np.ascontiguousarray(factor, dtype=factor.dtype.newbyteorder("<"))
        digest.update(f"{factor.dtype.name}{factor.shape}".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()


def _describe(basis: Basis) -> dict[str, Any]:
    return {"class": type(basis).__name__, **basis.parameters()}


def _basis(text: str) -> Basis:
    arguments = json.loads(text)
    return BASES[arguments.pop("class")].from_parameters(arguments)


def read(path: str | os.PathLike[str]) -> Stored:
    """Read a file written by `write`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, damaged, foreign, or of a newer version.
    """
    target = _checked(path)
    if target.is_dir():
        msg = f"`path` is {str(target)!r}, a folder, expected a file written by `u.save`: add its name"
        raise IsADirectoryError(msg)
    if not target.is_file():
        msg = f"`path` is {str(target)!r}: no such file"
        raise FileNotFoundError(msg)
    try:
        with h5py.File(target, "r") as file:
            result = _parse(file, target)
    except PermissionError:
        raise
    # A damaged file can make h5py and the constructors raise almost anything.
    except Exception as error:
        msg = f"{str(target)!r} is no readable sepnet file (truncated, damaged or foreign): {error}"
        raise ValueError(msg) from error
    if isinstance(result, str):
        raise ValueError(result)
    return result


def _parse(file: h5py.File, target: Path) -> Stored | str:
    """Return what the file holds, or why it is refused though it was understood."""
    if file.attrs.get("format") != "sepnet":
        return f"{str(target)!r} is an HDF5 file, but not one written by sepnet: expected the attribute format='sepnet'"
    version = int(file.attrs["version"])
    if version > FORMAT_VERSION:
        return f"{str(target)!r} has format version {version}, this sepnet reads up to {FORMAT_VERSION}: update sepnet"
    kind = str(file.attrs["kind"])
    notes = {k.removeprefix("note:"): str(v) for k, v in file.attrs.items() if k.startswith("note:")}
    groups = [file[f"axes/{number}"] for number in range(len(file["axes"]))]
    names, bases = [str(g.attrs["name"]) for g in groups], [str(g.attrs["basis"]) for g in groups]
    factors = [np.asarray(g["factor"]) for g in groups]
    if file.attrs["checksum"] != _checksum(kind, names, bases, factors, notes):
        return f"{str(target)!r} is damaged, its checksum does not fit: take a copy, or compute it again"
    native = tuple(np.asarray(factor, dtype=factor.dtype.newbyteorder("=")) for factor in factors)
    if any(float_name(factor.dtype) is None for factor in native):
        return (
            f"{str(target)!r} holds {native[0].dtype} numbers, expected float32 or float64: convert and save it again"
        )
    space = TensorSpace(**{name: _basis(text) for name, text in zip(names, bases, strict=True)})
    return Stored(kind, space, native, notes)
