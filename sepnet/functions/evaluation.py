"""Evaluate CP factors at points: the kernels where every axis is piecewise polynomial, recurrences elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sepnet.backends import dispatch
from sepnet.backends.arrays import Array, device_of, from_host, namespace
from sepnet.bases.basis import Basis
from sepnet.bases.checks import checked_points
from sepnet.bases.matrix_axis import Assembled
from sepnet.functions.axis_maps import local_polynomials
from sepnet.spaces import TensorSpace

__all__ = ["chunked", "column_at", "column_values", "gradient", "hessian", "outer", "value"]

# Points a chunk on the recurrence path: fits the caches (torch in eager mode is ten times slower unchunked).
CHUNK = 4096


def value(space: TensorSpace, factors: Sequence[Array], points: Array) -> Array:
    """Return the values (n,)."""
    tables = _tables(space, factors)
    if tables is not None:
        return dispatch.cp_value(points, *tables, names=space.names)
    return chunked(points, lambda part: (_products(_columns(space, factors, part, 0))[0],))[0]


def gradient(space: TensorSpace, factors: Sequence[Array], points: Array) -> tuple[Array, Array]:
    """Return the values (n,) and gradients (n, d)."""
    tables = _tables(space, factors)
    if tables is not None:
        result: tuple[Array, Array] = dispatch.cp_gradient(points, *tables, names=space.names)
        return result

    def part(block: Array) -> tuple[Array, ...]:
        columns = [_columns(space, factors, block, k) for k in (0, 1)]
        total, others = _products(columns[0])
        xp = namespace(block)
        slopes = [xp.sum(first * rest, axis=1) for first, rest in zip(columns[1], others, strict=True)]
        return total, xp.stack(slopes, axis=1)

    total, slopes = chunked(points, part)
    return total, slopes


def hessian(space: TensorSpace, factors: Sequence[Array], points: Array) -> tuple[Array, Array, Array]:
    """Return the values (n,), gradients (n, d) and Hessians (n, d, d)."""
    tables = _tables(space, factors)
    if tables is not None:
        result: tuple[Array, Array, Array] = dispatch.cp_hessian(points, *tables, names=space.names)
        return result

    def part(block: Array) -> tuple[Array, ...]:
        xp = namespace(block)
        columns = [_columns(space, factors, block, k) for k in (0, 1, 2)]
        total, others = _products(columns[0])
        slopes = [xp.sum(first * rest, axis=1) for first, rest in zip(columns[1], others, strict=True)]
        rows = []
        for i in range(space.dim):
            mixed = [columns[1][i] if j == i else columns[0][j] for j in range(space.dim)]
            rest = _products(mixed)[1]
            row = [
                xp.sum((columns[2][i] * others[i]) if j == i else (columns[1][j] * rest[j]), axis=1)
                for j in range(space.dim)
            ]
            rows.append(xp.stack(row, axis=1))
        return total, xp.stack(slopes, axis=1), xp.stack(rows, axis=1)

    total, slopes, second = chunked(points, part)
    return total, slopes, second


def column_values(space: TensorSpace, factors: Sequence[Array], grid: Mapping[str, Array]) -> list[Array]:
    """Return the values (m_i, R) of the columns of every axis at its own points.

    Raises
    ------
    ValueError
        If a point is NaN or outside the domain; the message begins with the axis.
    """
    values = []
    for (name, basis), factor in zip(space.items, factors, strict=True):
        pair = local_polynomials(basis, factor)
        if pair is not None:
            values.append(dispatch.local_values(grid[name], *pair, names=(name,))[1])
            continue
        try:
            values.append(column_at(basis, factor, grid[name]))
        except ValueError as error:
            msg = f"axis {name!r}: {error}"
            raise ValueError(msg) from error
    return values


def outer(columns: Sequence[Array]) -> Array:
    """Return the dense array ``sum_r  a_1[:, r] x ... x a_d[:, r]`` by one matrix product of two Khatri-Rao halves."""
    xp = namespace(*columns)
    shape = tuple(int(c.shape[0]) for c in columns)
    if len(columns) == 1:
        return xp.sum(columns[0], axis=1)
    # Split where the two halves are most nearly of one size: that is the least memory beside the result.
    sizes = [1.0]
    for n in shape:
        sizes.append(sizes[-1] * max(n, 1))
    cut = min(range(1, len(columns)), key=lambda k: sizes[k] + sizes[-1] / sizes[k])
    left, right = _khatri_rao(columns[:cut]), _khatri_rao(columns[cut:])
    return xp.reshape(left @ right.T, shape)


def _khatri_rao(columns: Sequence[Array]) -> Array:
    xp = namespace(*columns)
    result = columns[0]
    for column in columns[1:]:
        product = result[:, None, :] * column[None, :, :]
        result = xp.reshape(product, (int(result.shape[0]) * int(column.shape[0]), int(column.shape[1])))
    return result


def _tables(space: TensorSpace, factors: Sequence[Array]) -> tuple[tuple[Array, ...], tuple[Array, ...]] | None:
    pairs = []
    for basis, factor in zip(space.bases, factors, strict=True):
        pair = local_polynomials(basis, factor)
        if pair is None:
            return None
        pairs.append(pair)
    return tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)


def _columns(space: TensorSpace, factors: Sequence[Array], points: Array, order: int) -> list[Array]:
    return [
        column_at(basis, factor, points[:, i], order)
        for i, (basis, factor) in enumerate(zip(space.bases, factors, strict=True))
    ]


def column_at(basis: Basis, factor: Array, points: Array, order: int = 0) -> Array:
    """Return the values (n, R), or derivatives, of the columns of one axis without local polynomials."""
    if isinstance(basis, Assembled) and order == 0:
        # A table of unit rows has as many entries as points times degrees of freedom.
        x, _ = checked_points(points, basis.domain)
        xp = namespace(factor)
        rows = from_host(basis.numbers(x), xp, device=device_of(factor), dtype="int64")
        return xp.take(factor, rows, axis=0)
    return basis.values(points, derivative=order) @ factor


def _products(columns: Sequence[Array]) -> tuple[Array, list[Array]]:
    """Return the sum over r of the full product, and for each axis the product of the others (no division)."""
    xp = namespace(*columns)
    d = len(columns)
    before = [xp.ones_like(columns[0])]
    for column in columns[:-1]:
        before.append(before[-1] * column)
    after = [xp.ones_like(columns[0])]
    for column in reversed(columns[1:]):
        after.append(after[-1] * column)
    others = [before[i] * after[d - 1 - i] for i in range(d)]
    return xp.sum(before[-1] * columns[-1], axis=1), others


def chunked(points: Array, function: Callable[[Array], tuple[Array, ...]], *, share: float = 1.0) -> tuple[Array, ...]:
    """Apply a function to pieces of `points` and join its results.

    Parameters
    ----------
    points : array of shape (n, d)
    function : callable
        Points of shape (m, d) to arrays whose first dimension is m.
    share : float, optional
        Part of the usual `CHUNK` points in a piece, where a point takes more memory than usual.

    Returns
    -------
    tuple of arrays
    """
    n, size = int(points.shape[0]), max(int(CHUNK * share), 64)
    if n <= size:
        return function(points)
    xp = namespace(points)
    parts = [function(points[k : min(k + size, n), :]) for k in range(0, n, size)]
    return tuple(xp.concat(list(column), axis=0) for column in zip(*parts, strict=True))
