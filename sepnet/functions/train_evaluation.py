"""Evaluate tensor trains at points: the kernels where every axis is piecewise polynomial, recurrences elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from sepnet.backends import dispatch
from sepnet.backends.arrays import Array, namespace
from sepnet.functions.axis_maps import local_polynomials
from sepnet.functions.evaluation import chunked
from sepnet.spaces import TensorSpace

__all__ = ["derivatives"]

# Matrices of this many numbers a point go in the chunks of `chunked`; larger ones in smaller chunks.
NUMBERS = 64


def derivatives(
    space: TensorSpace, matrices: Sequence[Array], ranks: Sequence[int], points: Array, order: int
) -> tuple[Array, ...]:
    """Return the values (n,), and up to `order` gradients (n, d) and Hessians (n, d, d).

    Parameters
    ----------
    space : TensorSpace
    matrices : sequence of arrays (n_i, r_{i-1} r_i)
        The cores, their two ranks in one.
    ranks : sequence of int
        ``r_0 = 1, r_1, ..., r_d = 1``.
    points : array of shape (n, d)
    order : int
        0, 1 or 2.

    Returns
    -------
    tuple of arrays

    Raises
    ------
    ValueError
        If a point is NaN or outside the domain.
    """
    pairs = [local_polynomials(basis, matrix) for basis, matrix in zip(space.bases, matrices, strict=True)]
    breaks, tables = [], []
    for pair, (left, right) in zip(pairs, pairwise(ranks), strict=True):
        if pair is None:
            break
        xp = namespace(pair[1])
        breaks.append(pair[0])
        tables.append(xp.reshape(pair[1], (*(int(n) for n in pair[1].shape[:2]), left, right)))
    if len(tables) < space.dim:
        largest = max(left * right for left, right in pairwise(ranks))
        size = NUMBERS / max(largest, NUMBERS)
        return chunked(points, lambda part: _part(space, matrices, ranks, part, order), share=size)
    if order == 0:
        return (dispatch.train_value(points, tuple(breaks), tuple(tables), names=space.names),)
    kernel = dispatch.train_gradient if order == 1 else dispatch.train_hessian
    result: tuple[Array, ...] = kernel(points, tuple(breaks), tuple(tables), names=space.names)
    return result


def _part(
    space: TensorSpace, matrices: Sequence[Array], ranks: Sequence[int], points: Array, order: int
) -> tuple[Array, ...]:
    xp = namespace(points)
    n, d = int(points.shape[0]), space.dim
    jets = []
    for i, (basis, matrix) in enumerate(zip(space.bases, matrices, strict=True)):
        values = [basis.values(points[:, i], derivative=k) @ matrix for k in range(order + 1)]
        jets.append([xp.reshape(v, (n, ranks[i], ranks[i + 1])) for v in values])
    rows = [xp.ones_like(jets[0][0][:, :, :1])]
    for jet in jets:
        rows.append(rows[-1] @ jet[0])
    results = [rows[-1][:, 0, 0]]
    if order == 0:
        return tuple(results)
    columns = [xp.ones_like(jets[-1][0][:, :1, :])]
    for jet in reversed(jets[1:]):
        columns.append(jet[0] @ columns[-1])
    columns.reverse()
    slopes = [(rows[i] @ jets[i][1] @ columns[i])[:, 0, 0] for i in range(d)]
    results.append(xp.stack(slopes, axis=1))
    if order == 2:
        results.append(_second(jets, rows, columns))
    return tuple(results)


def _second(jets: Sequence[Sequence[Array]], rows: Sequence[Array], columns: Sequence[Array]) -> Array:
    """Return the Hessians from the matrices and their derivatives, the rows before and the columns after each axis."""
    xp = namespace(rows[0])
    d = len(jets)
    entries = {}
    for i in range(d):
        entries[i, i] = (rows[i] @ jets[i][2] @ columns[i])[:, 0, 0]
        left = rows[i] @ jets[i][1]
        for k in range(i + 1, d):
            entries[i, k] = entries[k, i] = (left @ jets[k][1] @ columns[k])[:, 0, 0]
            left = left @ jets[k][0]
    return xp.stack([xp.stack([entries[i, k] for k in range(d)], axis=1) for i in range(d)], axis=1)
