"""Checks of what a separable neural architecture is built from: arguments to plain values, or a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from sepnet.backends.arrays import Array, describe, device_of, from_host, namespace
from sepnet.coefficients import finite
from sepnet.functions.activations import ACTIVATIONS, Activation
from sepnet.functions.base import SeparableFunction
from sepnet.functions.cp import CP
from sepnet.functions.interaction import Subset, as_subsets, ordered
from sepnet.functions.sna_parts import Parts, subspace
from sepnet.spaces import TensorSpace

__all__ = ["activation_of", "constant_of", "parts_of", "weights_of"]


def parts_of(space: TensorSpace, parts: object) -> Parts:
    """Return the parts of a function on `space` by subset.

    Raises
    ------
    TypeError, ValueError
        If they are no functions of one library, device and dtype on subspaces of `space`.
    """
    if not isinstance(parts, Mapping):
        msg = f"`parts` is {type(parts).__name__}, expected a mapping of tuples of axis names to functions"
        raise TypeError(msg)
    result: Parts = {}
    first: SeparableFunction | None = None
    for subset, part in zip(as_subsets(parts, "parts"), parts.values(), strict=True):
        inorder = ordered(subset, space.names)
        if inorder != subset:
            msg = f"`parts` has the subset {subset!r}, expected the order of the space, {inorder!r}: reorder the axes"
            raise ValueError(msg)
        if not isinstance(part, SeparableFunction):
            msg = f"the part {subset!r} is {type(part).__name__}, expected a CP, TensorTrain or Tucker function"
            raise TypeError(msg)
        wanted = subspace(space, subset)
        if part.space != wanted:
            msg = f"the part {subset!r} lives on {part.space}, expected {wanted}: embed or project it there"
            raise ValueError(msg)
        first = part if first is None else first
        _same_home(f"the part {subset!r}", part.arrays[0], first.arrays[0])
        result[subset] = part
    return result


def constant_of(constant: object, parts: Parts) -> Array:
    """Return the constant as an array of shape () where the parts live; raise TypeError or ValueError."""
    return _scalar(constant, "`constant`", parts)


def weights_of(weights: object, parts: Parts) -> dict[Subset, Array]:
    """Return the modal weights by subset, in the order of the parts.

    Raises
    ------
    TypeError, ValueError
        If a weight is for no part, lives elsewhere, or has a shape that does not fit.
    """
    if weights is None:
        return {}
    if not isinstance(weights, Mapping):
        msg = f"`weights` is {type(weights).__name__}, expected a mapping of tuples of axis names to numbers or arrays"
        raise TypeError(msg)
    given = dict(zip(as_subsets(weights, "weights"), weights.values(), strict=True))
    strange = [subset for subset in given if subset not in parts]
    if strange:
        msg = f"`weights` has an entry for {strange[0]!r}, expected one of the parts, {', '.join(map(str, parts))}"
        raise ValueError(msg)
    return {s: _weight(given[s], f"the weight of {s!r}", part, parts) for s, part in parts.items() if s in given}


def _weight(weight: Any, name: str, part: SeparableFunction, parts: Parts) -> Array:
    if isinstance(weight, Real) or getattr(weight, "shape", None) == ():
        return _scalar(weight, name, parts)
    if not isinstance(part, CP) or tuple(getattr(weight, "shape", ())) != (part.rank,):
        fits = f"a number or an array ({part.rank},)" if isinstance(part, CP) else "a number"
        msg = f"{name} is {weight!r}, expected {fits} for a {type(part).__name__} part"
        raise ValueError(msg)
    _same_home(name, weight, part.arrays[0])
    return weight


def _scalar(value: Any, name: str, parts: Parts) -> Array:
    like = next(iter(parts.values())).arrays[0] if parts else None
    if like is None and isinstance(value, np.floating):
        return np.asarray(value)  # what remains of a function keeps its dtype
    if isinstance(value, Real) and not isinstance(value, bool):
        host = np.float64(finite(float(value), name))
        if like is None:
            return np.asarray(host)
        xp = namespace(like)
        return xp.reshape(from_host(host, xp, device=device_of(like), dtype=like.dtype), ())
    if getattr(value, "shape", None) != () or not hasattr(value, "dtype"):
        msg = f"{name} is {value!r}, expected a number or an array of shape ()"
        raise TypeError(msg)
    if like is not None:
        _same_home(name, value, like)
    return value


def _same_home(name: str, array: Array, like: Array) -> None:
    namespace(array, like)
    if array.dtype != like.dtype or device_of(array) != device_of(like):
        msg = f"{name} is {describe(array)}, the first part is {describe(like)}: move one, e.g. with u.to(dtype=...)"
        raise TypeError(msg)


def activation_of(activation: Activation) -> Activation:
    """Return the name of an activation; raise ValueError for anything else."""
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        msg = f"`activation` is {activation!r}, expected one of {', '.join(ACTIVATIONS)}"
        raise ValueError(msg)
    return activation
