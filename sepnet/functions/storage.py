"""Functions in HDF5 files: a small versioned format, written to a temporary file and renamed.

Layout, version 2: attributes ``format = "sepnet"``, ``version``, ``kind`` ("CP", "TensorTrain", ...), ``checksum``
(SHA-256 of all that follows, see `_checksum`), ``note:*`` (free text); group ``axes`` with one member ``0, 1, ...``
per axis in order (attributes ``name``, ``basis``: class and parameters as JSON) and the coefficients ``factor``: the
matrix (n_i, R) of a CP function, the core (r_{i-1}, n_i, r_i) of a tensor train. A train along another order of the
axes has the attribute ``order``, their names along it as JSON. A Tucker function has matrices (n_i, r_i), and its core
(r_1, ..., r_d) as the dataset ``core``; files without it say version 1, which older readers take.

A separable neural architecture (kind "SNA", version 3) has axes without factors, the attribute ``activation``, the
dataset ``constant``, and a group ``parts`` with one member ``0, 1, ...`` per part: attributes ``kind``, ``axes`` (names
as JSON) and ``order`` (as above), and its arrays ``0, 1, ...`` as above, one an axis, then the core, then the weight.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

from sepnet.backends.arrays import float_name
from sepnet.bases import BSpline, Chebyshev, Fourier, Legendre
from sepnet.bases.basis import Basis
from sepnet.spaces import TensorSpace

__all__ = ["FORMAT_VERSION", "LIBRARY", "Stored", "checked_path", "read", "read_text", "replacing", "write"]

FORMAT_VERSION = 3
# From this version of HDF5 on, all that describes the data carries checksums: in older files a flipped byte can crash
# the library, or keep it busy for minutes. Texts of fixed length are among what is covered, others are not.
LIBRARY = ("v110", "v110")
# gzip packs no more than 1032 bytes into one.
MAX_RATIO = 1100
# A part of a sum in a file: kind, names of the axes, their order along a train, arrays.
Part: TypeAlias = tuple[str, tuple[str, ...], tuple[str, ...], tuple[np.ndarray, ...]]
BASES: dict[str, type[Basis]] = {cls.__name__: cls for cls in (BSpline, Fourier, Legendre, Chebyshev)}


@dataclasses.dataclass(frozen=True)
class Stored:
    """What a file holds: the kind of function, its space, host factors, free text, and the order along a train.

    The order is empty where it is that of the space. There is one factor an axis; the core of a Tucker function comes
    after them. A separable neural architecture has the constant as its only factor, parts, whose weights come after
    their other arrays, and an activation.
    """

    kind: str
    space: TensorSpace
    factors: tuple[np.ndarray, ...]
    notes: dict[str, str]
    order: tuple[str, ...] = ()
    parts: tuple[Stored, ...] = ()
    activation: str = ""


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
    with replacing(path) as temporary, h5py.File(temporary, "w", libver=LIBRARY) as file:
        _fill(file, stored)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which takes its place at the end of the block; see `write`."""
    target = checked_path(path).resolve()
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
        yield temporary
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def checked_path(path: object) -> Path:
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
    sparse = bool(stored.activation)
    parts = [(part.kind, part.space.names, part.order, part.factors) for part in stored.parts]
    count = 0 if sparse else stored.space.dim
    factors, others = stored.factors[:count], stored.factors[count:]
    file.attrs["version"] = 3 if sparse else 2 if others else 1
    _put(file, "format", "sepnet")
    _put(file, "kind", stored.kind)
    for key, text in stored.notes.items():
        _put(file, f"note:{key}", text)
    bases = [json.dumps(_describe(basis)) for basis in stored.space.bases]
    arrays = [*stored.factors, *(array for part in stored.parts for array in part.factors)]
    names = [*stored.space.names, *stored.order, *_outline(stored.activation, parts)]
    _put(file, "checksum", _checksum(stored.kind, names, bases, arrays, stored.notes))
    if stored.order:
        _put(file, "order", json.dumps(stored.order))
    for number, (name, basis) in enumerate(zip(stored.space.names, bases, strict=True)):
        group = file.create_group(f"axes/{number}")
        _put(group, "name", name)
        _put(group, "basis", basis)
    for number, factor in enumerate(factors):
        file[f"axes/{number}"].create_dataset("factor", data=factor, compression="gzip")
    for array in others:
        file.create_dataset("constant" if sparse else "core", data=array, compression="gzip" if array.ndim else None)
    if sparse:
        _put(file, "activation", stored.activation)
        _fill_parts(file.create_group("parts"), parts)


def _fill_parts(parent: h5py.Group, parts: Sequence[Part]) -> None:
    for number, (kind, axes, order, arrays) in enumerate(parts):
        group = parent.create_group(str(number))
        _put(group, "kind", kind)
        _put(group, "axes", json.dumps(axes))
        _put(group, "order", json.dumps(order))
        for place, array in enumerate(arrays):
            group.create_dataset(str(place), data=array, compression="gzip" if array.ndim else None)


def _outline(activation: str, parts: Sequence[Part]) -> list[str]:
    """Return, for the checksum, what describes parts beside their arrays; nothing for other functions."""
    outline = [[kind, axes, order, len(arrays)] for kind, axes, order, arrays in parts]
    return [json.dumps([activation, outline])] if activation else []


def _put(group: h5py.Group, key: str, text: str) -> None:
    data = text.encode()
    group.attrs.create(key, data, dtype=h5py.string_dtype("utf-8", max(len(data), 1)))


def read_text(group: h5py.Group, key: str) -> str:
    """Return the text of an attribute, of fixed length or, as in older files, of any.

    Raises
    ------
    KeyError
        If there is no such attribute.
    UnicodeDecodeError
        If it is no UTF-8.
    """
    value = group.attrs[key]
    return value.decode() if isinstance(value, bytes) else str(value)


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
    target = checked_path(path)
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


def _numbers(dataset: h5py.Dataset, file_size: int) -> np.ndarray:
    """Return the numbers of a dataset; one that claims more than its file can hold is damaged, and is not read.

    HDF5 would fill the memory with it, or be busy for minutes, before the checksum is asked.
    """
    claimed = max(dataset.size, prod(dataset.chunks or ())) * dataset.dtype.itemsize
    if claimed > MAX_RATIO * file_size:
        msg = f"the dataset {dataset.name!r} claims {claimed} bytes in a file of {file_size}"
        raise ValueError(msg)
    return np.asarray(dataset)


def _parse(file: h5py.File, target: Path) -> Stored | str:
    """Return what the file holds, or why it is refused though it was understood."""
    if "format" not in file.attrs or read_text(file, "format") != "sepnet":
        return f"{str(target)!r} is an HDF5 file, but not one written by sepnet: expected the attribute format='sepnet'"
    version = int(file.attrs["version"])
    if version > FORMAT_VERSION:
        return f"{str(target)!r} has format version {version}, this sepnet reads up to {FORMAT_VERSION}: update sepnet"
    kind = read_text(file, "kind")
    notes = {key.removeprefix("note:"): read_text(file, key) for key in file.attrs if key.startswith("note:")}
    groups = [file[f"axes/{number}"] for number in range(len(file["axes"]))]
    names, bases = [read_text(g, "name") for g in groups], [read_text(g, "basis") for g in groups]
    if kind == "SNA":
        datasets, activation = [file["constant"]], read_text(file, "activation")
    else:
        datasets, activation = [*(g["factor"] for g in groups), *([file["core"]] if "core" in file else [])], ""
    size = target.stat().st_size
    factors = [_numbers(dataset, size) for dataset in datasets]
    parts = [_part(file["parts"][str(k)], size) for k in range(len(file["parts"]))] if activation else []
    order = tuple(str(name) for name in json.loads(read_text(file, "order"))) if "order" in file.attrs else ()
    arrays = [*factors, *(array for part in parts for array in part[3])]
    outline = _outline(activation, parts)
    if read_text(file, "checksum") != _checksum(kind, [*names, *order, *outline], bases, arrays, notes):
        return f"{str(target)!r} is damaged, its checksum does not fit: take a copy, or compute it again"
    foreign = [array.dtype for array in arrays if float_name(_native(array).dtype) is None]
    if foreign:
        return f"{str(target)!r} holds {foreign[0]} numbers, expected float32 or float64: convert and save it again"
    space = TensorSpace(**{name: _basis(text) for name, text in zip(names, bases, strict=True)})
    made = tuple(
        Stored(kind, TensorSpace(**{name: space.axes[name] for name in axes}), tuple(map(_native, arrays)), {}, order)
        for kind, axes, order, arrays in parts
    )
    return Stored(kind, space, tuple(map(_native, factors)), notes, order, made, activation)


def _part(group: h5py.Group, file_size: int) -> Part:
    axes, order = (tuple(json.loads(read_text(group, key))) for key in ("axes", "order"))
    arrays = tuple(_numbers(group[str(place)], file_size) for place in range(len(group)))
    return read_text(group, "kind"), axes, order, arrays


def _native(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, dtype=array.dtype.newbyteorder("="))
