"""Functions of few axes each as terms of one sum: in wider spaces, on more axes, added, multiplied, split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import TypeAlias

import numpy as np

from sepnet.backends.arrays import Array
from sepnet.bases.basis import Basis
from sepnet.functions import axis_maps
from sepnet.functions.base import SeparableFunction
from sepnet.functions.cp import CP
from sepnet.functions.interaction import Subset
from sepnet.functions.tensor_train import MAX_PATHS, TensorTrain
from sepnet.functions.train_products import paths
from sepnet.functions.tucker import Tucker
from sepnet.functions.tucker_tensors import tucker_terms
from sepnet.spaces import TensorSpace

__all__ = [
    "Density",
    "Parts",
    "as_products",
    "as_train",
    "common_space",
    "embed",
    "extend",
    "formats",
    "merged",
    "opened",
    "scaled",
    "split_means",
    "subspace",
    "times",
    "volume",
    "weights_and_mass",
]

Parts: TypeAlias = dict[Subset, SeparableFunction]
Density: TypeAlias = Callable[[np.ndarray], np.ndarray]


# ------------------------------------------------------------------------------------------------------------- spaces


def subspace(space: TensorSpace, names: Iterable[str]) -> TensorSpace:
    """Return the space of some of the axes."""
    return TensorSpace(**{name: space.axes[name] for name in names})


def opened(space: TensorSpace, names: Iterable[str]) -> TensorSpace:
    """Return the space with constants on the named axes: functions need no longer vanish at their ends."""
    closed = [name for name in names if space.axes[name].zero is not None]
    return space.replace(**{name: space.axes[name].with_zero(None) for name in closed}) if closed else space


def common_space(space: TensorSpace, other: TensorSpace) -> TensorSpace:
    """Return the smallest space that contains two spaces on one box."""
    axis_maps.same_box(space, other)
    pairs = zip(space.names, space.bases, other.bases, strict=True)
    return TensorSpace(**{name: a if a == b else a.sum_basis(b) for name, a, b in pairs})


def volume(space: TensorSpace, without: Iterable[str] = ()) -> float:
    """Return the volume of the box along all axes but some."""
    return prod(basis.domain[1] - basis.domain[0] for name, basis in space.items if name not in set(without))


# -------------------------------------------------------------------------------------------------------------- parts


def scaled(part: SeparableFunction, weight: Array) -> SeparableFunction:
    """Multiply a part by an array of shape (), or the terms of a CP part by one of shape (R,)."""
    first, *others = part.arrays
    return part._like(part.space, [first * weight, *others])


def embed(part: SeparableFunction, space: TensorSpace) -> SeparableFunction:
    """Write a part in the bases that a larger space has on its axes."""
    target = subspace(space, part.space.names)
    if target == part.space:
        return part
    return part._with_matrices(target, axis_maps.embed(target, part.space, part._matrices()))


def extend(part: SeparableFunction, space: TensorSpace) -> SeparableFunction:
    """Write a part as a function of all axes of `space`, constant along those it does not have.

    Parameters
    ----------
    part : CP, TensorTrain or Tucker
    space : TensorSpace
        All axes; those that `part` does not have must have bases that contain constants.

    Returns
    -------
    CP, TensorTrain or Tucker
        In the format of `part` and of the same ranks, along the order of `space`.
    """
    mine = part.space
    target = space.replace(**dict(mine.items))
    if target == mine:
        return part
    xp, ones = part.xp, {}
    for name in space.names:
        if name not in mine.names:
            ones[name] = part._here(axis_maps.constant(space.axes[name])[:, None])
    if isinstance(part, TensorTrain):
        part = part.reorder(*mine.names)
        own, rank, cores = dict(zip(mine.names, part.cores, strict=True)), 1, []
        for name in space.names:
            if name in ones:
                eye = xp.eye(rank, dtype=part.dtype, device=part.device)
                cores.append(eye[:, None, :] * ones[name][None, :, :])
            else:
                cores.append(own[name])
            rank = int(cores[-1].shape[2])
        return TensorTrain(target, cores)
    assert isinstance(part, CP | Tucker)
    own = dict(zip(mine.names, part.factors, strict=True))
    if isinstance(part, CP):
        row = xp.ones((1, part.rank), dtype=part.dtype, device=part.device)
        return CP(target, [ones[name] * row if name in ones else own[name] for name in space.names])
    factors = [ones[name] if name in ones else own[name] for name in space.names]
    return Tucker(target, factors, xp.reshape(part.core, tuple(int(f.shape[1]) for f in factors)))


def merged(pieces: Iterable[tuple[Subset, SeparableFunction]]) -> Parts:
    """Add up functions of the same axes; those of one axis become one column, exactly."""
    result: Parts = {}
    for subset, piece in pieces:
        part = piece if subset not in result else _plus(result[subset], piece)
        result[subset] = CP(part.space, [part._dense()[:, None]]) if len(subset) == 1 else part
    return dict(sorted(result.items(), key=lambda item: len(item[0])))


def _plus(left: SeparableFunction, right: SeparableFunction) -> SeparableFunction:
    left, right = formats(left, right)
    total: SeparableFunction = left + right
    return total


def formats(left: SeparableFunction, right: SeparableFunction) -> tuple[SeparableFunction, SeparableFunction]:
    """Return both in formats that meet: a Tucker function beside a train becomes one."""
    if isinstance(left, Tucker) and isinstance(right, TensorTrain):
        return left.to_train(), right
    if isinstance(left, TensorTrain) and isinstance(right, Tucker):
        return left, right.to_train()
    return left, right


def times(
    left: SeparableFunction, mine: TensorSpace, right: SeparableFunction, theirs: TensorSpace, target: TensorSpace
) -> SeparableFunction:
    """Return the product of functions of some axes each, as a function of all these.

    Parameters
    ----------
    left, right : CP, TensorTrain or Tucker
        On the same box along the axes they share.
    mine, theirs : TensorSpace
        All axes, in whose bases each of the two is constant along the axes that only the other has.
    target : TensorSpace
        All axes, with bases that contain the product.
    """
    names = [name for name in target.names if name in left.space.names or name in right.space.names]
    a, b = formats(extend(left, subspace(mine, names)), extend(right, subspace(theirs, names)))
    product: SeparableFunction = a * b
    return embed(product, target)


def as_products(part: SeparableFunction) -> CP:
    """Write a part as a sum of products, exactly: one term for each path through a train or entry of a core.

    Raises
    ------
    ValueError
        If these are more than 1024.
    """
    if isinstance(part, CP):
        return part
    assert isinstance(part, TensorTrain | Tucker)
    ranks = part.ranks
    count = prod(ranks) if isinstance(part, TensorTrain) else prod(ranks) // max(ranks)
    if count > MAX_PATHS:
        msg = (
            f"the part on {', '.join(part.space.names)} is a {type(part).__name__} function of ranks "
            f"{'-'.join(map(str, ranks))}, as a sum of products of {count} terms, expected at most {MAX_PATHS}: "
            "take u.to_train(), or fit a sum to the part first, part.to_cp(tol=...)"
        )
        raise ValueError(msg)
    if isinstance(part, Tucker):
        return CP(part.space, tucker_terms(part.factors, part.core))
    chain = paths(part.cores)
    return CP(part.space, [chain[place] for place in part.places])


def as_train(part: SeparableFunction) -> TensorTrain:
    """Write a part as a tensor train, exactly up to round-off."""
    if isinstance(part, CP):
        return TensorTrain.from_cp(part)
    if isinstance(part, Tucker):
        return part.to_train()
    assert isinstance(part, TensorTrain)
    return part


# -------------------------------------------------------------------------------------------------------------- means


def weights_and_mass(basis: Basis, density: Density | None) -> tuple[np.ndarray, float]:
    """Return ``int B_n density``, shape (size,), and ``int density``, for a basis that contains constants."""
    row = axis_maps.integrals(basis, density)
    return row, float(row @ axis_maps.constant(basis))


def split_means(space: TensorSpace, constant: Array, parts: Parts, rows: Mapping[str, Array]) -> tuple[Array, Parts]:
    """Split a sum into a constant and parts whose mean over each of their variables is zero.

    Every variable of every part is split into the mean and the rest (Hoeffding, Ann. Math. Statist. 19, 1948); what
    the parts give for one subset is added up.

    Parameters
    ----------
    space : TensorSpace
        All axes, with bases that contain constants.
    constant : array of shape ()
    parts : mapping of subset to function
        In the bases of `space`.
    rows : mapping of str to array of shape (1, n_i)
        Coefficients to mean values along each axis; the mean of 1 is 1.

    Returns
    -------
    constant : array of shape ()
        The mean.
    parts : mapping of subset to function
    """
    pieces = []
    for subset, part in parts.items():
        found: list[tuple[Subset, SeparableFunction]] = [((), part)]
        for name in subset:
            split = []
            for kept, function in found:
                split.append((kept, function._contract({name: rows[name]})))
                split.append(((*kept, name), _centred(function, name, rows[name])))
            found = split
        constant = constant + found[0][1]
        pieces += found[1:]
    ranked = sorted(pieces, key=lambda piece: tuple(map(space.names.index, piece[0])))
    return constant, merged(ranked)


def _centred(function: SeparableFunction, name: str, row: Array) -> SeparableFunction:
    """Return a function without its mean along one axis."""
    k = function.space.names.index(name)
    matrices = function._matrices()
    one = function._here(axis_maps.constant(function.space.axes[name])[:, None])
    matrices[k] = matrices[k] - one @ (row @ matrices[k])
    return function._with_matrices(function.space, matrices)
