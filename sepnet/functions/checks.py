"""Checks of what functions are built from and asked for: arguments to plain values, or a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sepnet.backends.arrays import Array, device_of, float_name, namespace
from sepnet.bases.checks import real_number
from sepnet.spaces import TensorSpace

__all__ = [
    "a_space",
    "box_order",
    "cores_of",
    "factors_of",
    "one_array_an_axis",
    "one_home",
    "position",
    "text_notes",
]


def a_space(space: object, caller: str) -> TensorSpace:
    """Return `space`; raise TypeError unless it is a TensorSpace."""
    if not isinstance(space, TensorSpace):
        msg = f"{caller}: `space` is {type(space).__name__}, expected a TensorSpace"
        raise TypeError(msg)
    return space


def factors_of(space: TensorSpace, factors: object) -> tuple[Array, ...]:
    """Return the coefficient matrices of a CP function on `space` as a tuple.

    Raises
    ------
    TypeError, ValueError
        If they are no real floating matrices of one library, device and dtype, or do not fit the space.
    """
    a_space(space, "sn.CP")
    arrays = one_array_an_axis(space, factors, "factor", "(n_i, R)")
    first = arrays[0]
    for (name, basis), factor in zip(space.items, arrays, strict=True):
        if factor.ndim != 2 or int(factor.shape[0]) != basis.size or factor.shape[1] != first.shape[1]:
            shape = f"({basis.size}, {first.shape[1] if first.ndim == 2 else 'R'})"
            msg = f"the factor of axis {name!r} has shape {tuple(factor.shape)}, expected {shape}"
            raise ValueError(msg)
    one_home(space, arrays, "factor")
    return arrays


def cores_of(space: TensorSpace, cores: object) -> tuple[Array, ...]:
    """Return the cores of a tensor train on `space` as a tuple.

    Raises
    ------
    TypeError, ValueError
        If they are no real floating arrays of one library, device and dtype, or do not fit the space or each other.
    """
    a_space(space, "sn.TensorTrain")
    arrays = one_array_an_axis(space, cores, "core", "(r, n_i, r')")
    rank = 1
    for k, ((name, basis), core) in enumerate(zip(space.items, arrays, strict=True)):
        right = "1" if k == space.dim - 1 else "r'"
        fits = core.ndim == 3 and int(core.shape[0]) == rank and int(core.shape[1]) == basis.size
        if not fits or int(core.shape[2]) < 1 or (right == "1" and int(core.shape[2]) != 1):
            msg = (
                f"the core of axis {name!r} has shape {tuple(core.shape)}, expected ({rank}, {basis.size}, {right}): "
                "the first and last rank are 1, each core begins with the rank that the one before ends with"
            )
            raise ValueError(msg)
        rank = int(core.shape[2])
    one_home(space, arrays, "core")
    return arrays


def one_array_an_axis(space: TensorSpace, arrays: object, what: str, shape: str) -> tuple[Array, ...]:
    """Return `arrays` as a tuple; raise TypeError or ValueError unless there is one array for each axis."""
    wanted = f"one array {shape} per axis: {', '.join(space.names)}"
    if not isinstance(arrays, Sequence) or isinstance(arrays, str | bytes):
        msg = f"`{what}s` is {type(arrays).__name__}, expected a list or tuple of arrays, {wanted}"
        raise TypeError(msg)
    for array in arrays:
        if not hasattr(array, "shape") or not hasattr(array, "dtype"):
            msg = f"`{what}s` holds {type(array).__name__}, expected {wanted}; np.asarray(...) makes one of lists"
            raise TypeError(msg)
    if len(arrays) != space.dim:
        msg = f"`{what}s` has {len(arrays)} members, expected one per axis: {', '.join(space.names)}"
        raise ValueError(msg)
    namespace(*arrays)
    return tuple(arrays)


def one_home(space: TensorSpace, arrays: Sequence[Array], what: str) -> None:
    """Raise TypeError unless all arrays are real floating ones of one library, device and dtype."""
    first = arrays[0]
    for name, array in zip(space.names, arrays, strict=True):
        if float_name(array.dtype) is None:
            msg = (
                f"the {what} of axis {name!r} has dtype {array.dtype}, expected float32 or float64 in the byte order "
                f"of this machine: convert it, e.g. {what}.astype(np.float64)"
            )
            raise TypeError(msg)
        if array.dtype != first.dtype or device_of(array) != device_of(first):
            msg = f"the {what} of axis {name!r} differs in dtype or device from the first: move them together"
            raise TypeError(msg)


def position(name: str, value: object, domain: tuple[float, float], slack: float) -> float:
    """Return a position on an axis as a float.

    Raises
    ------
    TypeError
        If it is no real number.
    ValueError
        If it is NaN, or outside `domain` by more than `slack`.
    """
    place = real_number(f"restrict: the position on axis {name!r}", value)
    if not domain[0] - slack <= place <= domain[1] + slack:
        msg = f"restrict: the position on axis {name!r} is {place}, expected a number in the domain {domain}"
        raise ValueError(msg)
    return place


def box_order(space: TensorSpace, other: TensorSpace) -> list[int]:
    """Return the number in `space` of each axis of `other`, whose box must be the same.

    Raises
    ------
    ValueError
        If the axes have other names or domains.
    """
    if set(space.names) != set(other.names):
        there, here = ", ".join(other.names), ", ".join(space.names)
        msg = f"`reference` is a function of {there}, expected one of {here}: restrict or integrate the others out"
        raise ValueError(msg)
    for name, basis in other.items:
        if basis.domain != space.axes[name].domain:
            msg = (
                f"`reference` has the domain {basis.domain} on axis {name!r}, expected {space.axes[name].domain}: "
                "measure on one box"
            )
            raise ValueError(msg)
    return [space.names.index(name) for name in other.names]


def text_notes(notes: object) -> dict[str, str]:
    """Return free text for a file as a dict.

    Raises
    ------
    TypeError
        If it is no mapping of str to str.
    ValueError
        If a text cannot be stored: it holds NUL or a lone surrogate, or the key is empty or too long.
    """
    if notes is None:
        return {}
    if not isinstance(notes, Mapping):
        msg = f"`notes` is {type(notes).__name__}, expected a mapping of str to str"
        raise TypeError(msg)
    for key, text in notes.items():
        for what, entry in (("key", key), (f"text of {key!r}", text)):
            _check_text(what, entry)
        if not 0 < len(key.encode()) <= 200:
            msg = f"`notes`: a key has {len(key.encode())} bytes, expected 1 to 200: put the text into the value"
            raise ValueError(msg)
        if len(text.encode()) > 60_000:
            msg = f"`notes`: the text of {key!r} has {len(text.encode())} bytes, expected at most 60000: shorten it"
            raise ValueError(msg)
    return dict(notes)


def _check_text(what: str, entry: Any) -> None:
    if type(entry) is not str:
        msg = f"`notes`: the {what} is {entry!r}, expected a str: write str(...) or repr(...) of it"
        raise TypeError(msg)
    try:
        entry.encode()
    except UnicodeEncodeError as error:
        msg = f"`notes`: the {what} cannot be written as UTF-8 ({error.reason}): remove such characters"
        raise ValueError(msg) from error
    if "\0" in entry:
        msg = f"`notes`: the {what} holds a NUL character, where HDF5 ends a text: remove it"
        raise ValueError(msg)
