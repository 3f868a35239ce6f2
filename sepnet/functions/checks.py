"""Checks of what functions are built from and asked for: arguments to plain values, or a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sepnet.backends.arrays import Array, device_of, float_name, namespace
from sepnet.bases.checks import real_number
from sepnet.spaces import TensorSpace

__all__ = ["a_space", "box_order", "factors_of", "position", "text_notes"]


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
    wanted = f"one array (n_i, R) per axis: {', '.join(space.names)}"
    if not isinstance(factors, Sequence) or isinstance(factors, str | bytes):
        msg = f"`factors` is {type(factors).__name__}, expected a list or tuple of arrays, {wanted}"
        raise TypeError(msg)
    for factor in factors:
        if not hasattr(factor, "shape") or not hasattr(factor, "dtype"):
            msg = f"`factors` holds {type(factor).__name__}, expected {wanted}; np.asarray(...) makes one of lists"
            raise TypeError(msg)
    if len(factors) != space.dim:
        msg = f"`factors` has {len(factors)} members, expected one per axis: {', '.join(space.names)}"
        raise ValueError(msg)
    namespace(*factors)
    first = factors[0]
    for (name, basis), factor in zip(space.items, factors, strict=True):
        if factor.ndim != 2 or int(factor.shape[0]) != basis.size or factor.shape[1] != first.shape[1]:
            shape = f"({basis.size}, {first.shape[1] if first.ndim == 2 else 'R'})"
            msg = f"the factor of axis {name!r} has shape {tuple(factor.shape)}, expected {shape}"
            raise ValueError(msg)
        if float_name(factor.dtype) is None:
            msg = (
                f"the factor of axis {name!r} has dtype {factor.dtype}, expected float32 or float64 in the byte order "
                "of this machine: convert it, e.g. factor.astype(np.float64)"
            )
            raise TypeError(msg)
        if factor.dtype != first.dtype or device_of(factor) != device_of(first):
            msg = f"the factor of axis {name!r} differs in dtype or device from the first: move them together"
            raise TypeError(msg)
    return tuple(factors)


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
