"""Evaluate Tucker functions at points: matrix products with the core, between two halves of the axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from sepnet.backends.arrays import Array, namespace
from sepnet.functions.evaluation import chunked
from sepnet.spaces import TensorSpace

__all__ = ["derivatives"]

# A point takes as many numbers as both halves of the core have columns; beyond this many the chunks are smaller, so
# that a chunk stays at a few times 16 MiB whatever the ranks are.
NUMBERS = 512


def derivatives(
    space: TensorSpace, factors: Sequence[Array], core: Array, points: Array, order: int
) -> tuple[Array, ...]:
    """Return the values (n,), and up to `order` gradients (n, d) and Hessians (n, d, d).

    With the axes in two halves the value is ``a' M b``: a and b are the products of the columns of each half at the
    point, M the core as a matrix. Contracting axis by axis instead does as many operations, but holds the largest part
    of a core for every point.

    Parameters
    ----------
    space : TensorSpace
    factors : sequence of arrays (n_i, r_i)
    core : array of shape (r_1, ..., r_d)
    points : array of shape (n, d)
    order : int
        0, 1 or 2.

    Returns
    -------
    tuple of arrays

    Raises
    ------
    ValueError
        If a point is NaN or outside the domain; the message begins with the axis.
    """
    ranks = [int(r) for r in core.shape]
    # Split where the two halves are most nearly of one size.
    cut = min(range(1, max(space.dim, 2)), key=lambda k: prod(ranks[:k]) + prod(ranks[k:]))
    sizes = prod(ranks[:cut]), prod(ranks[cut:])
    matrix = namespace(core).reshape(core, sizes)
    share = NUMBERS / max(sum(sizes), NUMBERS)
    return chunked(points, lambda part: _part(space, factors, matrix, cut, part, order), share=share)


def _part(
    space: TensorSpace, factors: Sequence[Array], matrix: Array, cut: int, points: Array, order: int
) -> tuple[Array, ...]:
    xp, d = namespace(points), space.dim
    jets = [[_columns(space, factors, points, i, k) for k in range(order + 1)] for i in range(d)]

    def rows(half: range, *derived: int) -> Array:
        """Return the products of the columns of some axes, differentiated once for each mention in `derived`."""
        result = xp.ones_like(points[:, :1])
        for i in half:
            values = jets[i][derived.count(i)]
            count = int(result.shape[1]) * int(values.shape[1])
            result = xp.reshape(result[:, :, None] * values[:, None, :], (int(points.shape[0]), count))
        return result

    left, right = range(cut), range(cut, d)
    after = rows(right)
    forward = rows(left) @ matrix
    results = [xp.sum(forward * after, axis=1)]
    if order == 0:
        return tuple(results)
    backward = after @ matrix.T
    slopes = [rows(left, i) * backward if i < cut else forward * rows(right, i) for i in range(d)]
    results.append(xp.stack([xp.sum(slope, axis=1) for slope in slopes], axis=1))
    if order == 2:
        entries: dict[tuple[int, int], Array] = {}
        for i in range(d):
            across = rows(left, i) @ matrix if i < cut else None
            for k in range(i, d):
                if k < cut:
                    terms = rows(left, i, k) * backward
                else:
                    terms = forward * rows(right, i, k) if across is None else across * rows(right, k)
                entries[i, k] = entries[k, i] = xp.sum(terms, axis=1)
        results.append(xp.stack([xp.stack([entries[i, k] for k in range(d)], axis=1) for i in range(d)], axis=1))
    return tuple(results)


def _columns(space: TensorSpace, factors: Sequence[Array], points: Array, axis: int, order: int) -> Array:
    """Return the derivatives (n, r_i) of the columns of one axis at the points."""
    try:
        return space.bases[axis].values(points[:, axis], derivative=order) @ factors[axis]
    except ValueError as error:
        msg = f"axis {space.names[axis]!r}: {error}"
        raise ValueError(msg) from error
