"""Evaluate sums of functions of few variables: sums of products on splines are packed into few calls of the kernels.

A kernel finds the cell of each point on each axis, which costs more than the coefficients of a low rank, and computes
eight columns at a time. So parts that share axes, or fill up the eight columns, go together as one sum of products,
with the constant 1 along the axes they do not have. One call a part instead took twice the time for additive functions
of 10 variables. Nothing is kept between calls, since the arrays of the parts are not copied and may change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, final

import numpy as np

from sepnet.backends import dispatch
from sepnet.backends.arrays import Array, device_of, from_host, is_numpy, namespace
from sepnet.functions.axis_maps import local_polynomials
from sepnet.functions.cp import CP
from sepnet.functions.sna_parts import Parts
from sepnet.spaces import TensorSpace

__all__ = ["Group", "Sum", "packed"]

LANES = 8
# Nanoseconds a point, roughly: an axis, eight columns on an axis, a call, the copy of a coordinate.
AXIS, COLUMNS, CALL, COPY = 12, 5, 40, 2


# Points a round on the host: copies of their columns stay in the cache, which takes a third off.
ROUND = 2**16


class Group(NamedTuple):
    """Parts that are evaluated together.

    Attributes
    ----------
    axes : tuple of int
        All their axes.
    columns : tuple of pairs
        For each axis the parts that have it, as pairs (part, place of the axis in it), and for each column of the sum
        the number of its column among those of these parts, or one more than the last, which is the constant 1.
    """

    axes: tuple[int, ...]
    columns: tuple[tuple[tuple[tuple[int, int], ...], np.ndarray], ...]


@lru_cache(maxsize=64)
def packed(shapes: tuple[tuple[tuple[int, ...], int], ...]) -> tuple[Group, ...]:
    """Return groups of parts that are cheap to evaluate together; greedy, in the order given.

    Parameters
    ----------
    shapes : tuple of (axes, rank)
        The axes and the rank of each part.

    Returns
    -------
    tuple of Group
    """
    groups: list[tuple[set[int], int, list[int]]] = []
    for part, (axes, rank) in enumerate(shapes):
        best, least = None, _cost(len(axes), rank)
        for place, (joint, total, _) in enumerate(groups):
            more = _cost(len(joint.union(axes)), total + rank) - _cost(len(joint), total)
            if more < least:
                best, least = place, more
        if best is None:
            groups.append((set(axes), rank, [part]))
        else:
            joint, total, members = groups[best]
            groups[best] = (joint.union(axes), total + rank, [*members, part])
    # All in one needs no copies of coordinates, if it has all axes.
    every, rank = {axis for axes, _ in shapes for axis in axes}, sum(rank for _, rank in shapes)
    apart = sum(_cost(len(joint), total) for joint, total, _ in groups)
    if len(groups) > 1 and _cost(len(every), rank) - COPY * len(every) <= apart:
        groups = [(every, rank, list(range(len(shapes))))]
    return tuple(_group(shapes, tuple(sorted(joint)), members) for joint, _, members in groups)


def _cost(axes: int, rank: int) -> int:
    return CALL + axes * (AXIS + COPY + COLUMNS * -(-rank // LANES))


def _group(shapes: Sequence[tuple[tuple[int, ...], int]], axes: tuple[int, ...], members: Sequence[int]) -> Group:
    columns = []
    for axis in axes:
        owners = [k for k in members if axis in shapes[k][0]]
        starts = dict(zip(owners, np.cumsum([0, *(shapes[k][1] for k in owners)]).tolist(), strict=False))
        one = sum(shapes[k][1] for k in owners)
        chosen = [
            np.arange(starts[k], starts[k] + shapes[k][1]) if k in starts else np.full(shapes[k][1], one)
            for k in members
        ]
        places = tuple((k, shapes[k][0].index(axis)) for k in owners)
        columns.append((places, np.concatenate(chosen).astype(np.int64)))
    return Group(axes, tuple(columns))


@final
class Sum:
    """A sum of functions of few variables, ready to be evaluated at many points.

    Parameters
    ----------
    space : TensorSpace
    terms : mapping of subset to function
    constant : array of shape ()
    """

    def __init__(self, space: TensorSpace, terms: Parts, constant: Array) -> None:
        self.constant = constant
        number = {name: k for k, name in enumerate(space.names)}
        plain = {s: u for s, u in terms.items() if isinstance(u, CP) and _on_pieces(u)}
        # Axes, and what evaluates a function of these.
        self.items: list[tuple[Sequence[int], Callable[[Array, int], tuple[Array, ...]]]] = [
            ([number[name] for name in subset], part._evaluate) for subset, part in terms.items() if subset not in plain
        ]
        factors = [part.factors for part in plain.values()]
        shapes = tuple((tuple(number[name] for name in s), part.rank) for s, part in plain.items())
        for group in packed(shapes):
            self.items.append((group.axes, _together(space, group, factors)))

    def evaluate(self, points: Array, order: int) -> tuple[Array, ...]:
        """Return the values (n,), and up to `order` gradients (n, d) and Hessians (n, d, d).

        Raises
        ------
        ValueError
            If a point is NaN or outside the domain.
        """
        xp, n = namespace(points), int(points.shape[0])
        if n <= ROUND or len(self.items) == 1 or not is_numpy(xp):
            return self._evaluate(points, order)
        value, slopes, bends = (np.empty((n, *points.shape[1:] * k), points.dtype) for k in range(3))
        results = (value, slopes, bends)[: order + 1]
        for start in range(0, n, ROUND):
            rows = slice(start, start + ROUND)
            for result, part in zip(results, self._evaluate(points[rows], order), strict=True):
                result[rows] = part
        return results

    def _evaluate(self, points: Array, order: int) -> tuple[Array, ...]:
        xp, d = namespace(points), int(points.shape[1])
        value = self.constant
        if len(self.items) == 1 and len(self.items[0][0]) == d:
            jet = self.items[0][1](points, order)
            return (value + jet[0], *jet[1:])
        zero = xp.zeros_like(points[:, 0])
        slopes, bends = [zero] * d, {(i, k): zero for i in range(d) for k in range(d)}
        for axes, function in self.items:
            jet = function(_columns(points, axes), order)
            value = jet[0] + value
            for a, i in enumerate(axes if order > 0 else ()):
                slopes[i] = slopes[i] + jet[1][:, a]
                for b, k in enumerate(axes if order > 1 else ()):
                    bends[i, k] = bends[i, k] + jet[2][:, a, b]
        results = [value if self.items else zero + value]
        if order > 0:
            results.append(xp.stack(slopes, axis=1))
        if order > 1:
            results.append(xp.stack([xp.stack([bends[i, k] for k in range(d)], axis=1) for i in range(d)], axis=1))
        return tuple(results)


def _on_pieces(part: CP) -> bool:
    return all(basis.pieces is not None for basis in part.space.bases)


def _columns(points: Array, axes: Sequence[int]) -> Array:
    """Return some columns of the points; a view where they are neighbours."""
    if axes[-1] - axes[0] == len(axes) - 1:
        return points[:, axes[0] : axes[-1] + 1]
    return namespace(points).stack([points[:, axis] for axis in axes], axis=1)


def _together(
    space: TensorSpace, group: Group, factors: Sequence[Sequence[Array]]
) -> Callable[[Array, int], tuple[Array, ...]]:
    """Return what evaluates several sums of products as one."""
    names = tuple(space.names[axis] for axis in group.axes)
    breaks, tables = [], []
    for axis, (places, chosen) in zip(group.axes, group.columns, strict=True):
        own = [factors[part][place] for part, place in places]
        xp = namespace(*own)
        pair = local_polynomials(space.bases[axis], xp.concat(own, axis=1) if len(own) > 1 else own[0])
        assert pair is not None
        table = pair[1]
        if len(chosen) > int(table.shape[2]):
            # 1 is a polynomial on every cell, also where the functions of the basis vanish at the ends.
            one = np.zeros((int(table.shape[0]), int(table.shape[1]), 1))
            one[:, 0, :] = 1.0
            device = device_of(table)
            table = xp.concat([table, from_host(one, xp, device=device, dtype=table.dtype)], axis=2)
            table = xp.take(table, from_host(chosen, xp, device=device), axis=2)
        breaks.append(pair[0])
        tables.append(table)

    def evaluate(points: Array, order: int) -> tuple[Array, ...]:
        kernel = (dispatch.cp_value, dispatch.cp_gradient, dispatch.cp_hessian)[order]
        result = kernel(points, tuple(breaks), tuple(tables), names=names)
        return (result,) if order == 0 else result

    return evaluate
