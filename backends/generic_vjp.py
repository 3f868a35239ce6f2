"""The vector-Jacobian products of the functions, in plain Array API; see `sepnet.backends.generic`.

The sum over the points of a cell is a matrix product with the matrix of zeros and ones that tells which point lies in
which cell, a chunk of points at a time: the standard has no way to add to chosen entries. That costs
``cells (p + 1) R`` operations a point and axis, by BLAS; it takes the points in a fixed order, and torch can
differentiate it again.
"""

from __future__ import annotations

from collections.abc import Callable

from sepnet.backends.arrays import Array, Namespace, device_of, namespace
from sepnet.backends.checks import check_cp, check_train, check_vjp
from sepnet.backends.contract import Names, Wanted
from sepnet.backends.generic_parts import (
    cell_numbers,
    check_domain,
    chunk_size,
    columns_after,
    factor_jets,
    in_chunks,
    jet,
    locate,
    prefixes,
    rows_before,
    suffixes,
)

__all__ = ["cp_columns", "cp_columns_vjp", "cp_vjp", "train_vjp"]


def cp_columns(points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None) -> Array:
    """See `sepnet.backends.contract.Kernels.cp_columns`."""
    check_cp(points, breaks, tables)
    xp = namespace(points, *breaks, *tables)
    check_domain(points, breaks, names, xp)

    def chunk(x: Array) -> tuple[Array, ...]:
        factors = [parts[0] for parts in factor_jets(x, breaks, tables, 0, xp)]
        return (prefixes(factors)[-1] * factors[-1],)

    return in_chunks(chunk, points, xp)[0]


def cp_vjp(
    points: Array,
    breaks: tuple[Array, ...],
    tables: tuple[Array, ...],
    cotangent: Array,
    /,
    *,
    wanted: Wanted = "both",
    deterministic: bool = False,
    names: Names = None,
) -> tuple[Array | None, tuple[Array, ...] | None]:
    """See `sepnet.backends.contract.Kernels.cp_vjp`; always deterministic."""
    check_cp(points, breaks, tables)
    check_vjp(points, cotangent, wanted)
    return _carry_back(points, breaks, tables, cotangent[:, None], wanted, names)


def cp_columns_vjp(
    points: Array,
    breaks: tuple[Array, ...],
    tables: tuple[Array, ...],
    cotangent: Array,
    /,
    *,
    wanted: Wanted = "both",
    deterministic: bool = False,
    names: Names = None,
) -> tuple[Array | None, tuple[Array, ...] | None]:
    """See `sepnet.backends.contract.Kernels.cp_columns_vjp`; always deterministic."""
    check_cp(points, breaks, tables)
    check_vjp(points, cotangent, wanted, (int(tables[0].shape[2]),))
    return _carry_back(points, breaks, tables, cotangent, wanted, names)


def _carry_back(
    points: Array,
    breaks: tuple[Array, ...],
    tables: tuple[Array, ...],
    cotangent: Array,
    wanted: Wanted,
    names: Names,
) -> tuple[Array | None, tuple[Array, ...] | None]:
    """Do both: `cotangent` has one column for all columns of the function, or one for each."""
    xp = namespace(points, *breaks, *tables, cotangent)
    check_domain(points, breaks, names, xp)

    def chunk(x: Array, y: Array) -> tuple[list[Array], list[Array]]:
        places = [locate(x[:, i], b, xp) for i, b in enumerate(breaks)]
        order = 0 if wanted == "tables" else 1
        jets = [jet(t, *place, order, xp) for t, place in zip(tables, places, strict=True)]
        factors = [parts[0] for parts in jets]
        # the cotangent in front of all factors, in the shape of one: for a single axis it is the whole product
        first = y + xp.zeros_like(factors[0])
        gains = [first * b * a for b, a in zip(prefixes(factors), suffixes(factors), strict=True)]
        columns, sums = [], []
        if wanted != "tables":
            columns = [xp.sum(gain * parts[1], axis=1) for gain, parts in zip(gains, jets, strict=True)]
        if wanted != "points":
            sums = [_by_cell(g, p, t, xp) for g, p, t in zip(gains, places, tables, strict=True)]
        return columns, sums

    numbers = max(t.shape[1] * t.shape[2] for t in tables)
    return _in_chunks(chunk, points, cotangent, max(numbers, *(t.shape[0] for t in tables)), wanted, xp)


def train_vjp(
    points: Array,
    breaks: tuple[Array, ...],
    tables: tuple[Array, ...],
    cotangent: Array,
    /,
    *,
    wanted: Wanted = "both",
    deterministic: bool = False,
    names: Names = None,
) -> tuple[Array | None, tuple[Array, ...] | None]:
    """See `sepnet.backends.contract.Kernels.train_vjp`; always deterministic."""
    check_train(points, breaks, tables)
    check_vjp(points, cotangent, wanted)
    xp = namespace(points, *breaks, *tables, cotangent)
    check_domain(points, breaks, names, xp)

    def chunk(x: Array, y: Array) -> tuple[list[Array], list[Array]]:
        places = [locate(x[:, i], b, xp) for i, b in enumerate(breaks)]
        jets, n = [], int(x.shape[0])
        for table, place in zip(tables, places, strict=True):
            cells, powers, left, right = table.shape
            flat = xp.reshape(table, (cells, powers, left * right))
            parts = jet(flat, *place, 0 if wanted == "tables" else 1, xp)
            jets.append([xp.reshape(part, (n, left, right)) for part in parts])
        before, after = [y[:, None, None] * row for row in rows_before(jets, xp)], columns_after(jets, xp)
        columns, sums = [], []
        if wanted != "tables":
            columns = [(b @ parts[1] @ a)[:, 0, 0] for b, parts, a in zip(before, jets, after, strict=True)]
        if wanted != "points":
            for b, a, place, table in zip(before, after, places, tables, strict=True):
                outer = xp.matrix_transpose(b) @ xp.matrix_transpose(a)
                gain = xp.reshape(outer, (n, int(table.shape[2] * table.shape[3])))
                sums.append(xp.reshape(_by_cell(gain, place, table, xp), tuple(table.shape)))
        return columns, sums

    numbers = max(cell_numbers(tables), *(t.shape[0] for t in tables))
    return _in_chunks(chunk, points, cotangent, numbers, wanted, xp)


def _by_cell(gain: Array, place: tuple[Array, Array, Array], table: Array, xp: Namespace) -> Array:
    """Return ``sum s**m gain`` over the points of each cell, of shape (cells, p + 1, q)."""
    (cell, s, _), cells = place, int(table.shape[0])
    every = xp.arange(cells, dtype=cell.dtype, device=device_of(cell))
    inside = xp.astype(every[:, None] == cell[None, :], gain.dtype)
    rows = []
    for _ in range(int(table.shape[1])):
        rows.append(inside @ gain)
        gain = gain * s[:, None]
    return xp.stack(rows, axis=1)


def _in_chunks(
    function: Callable[[Array, Array], tuple[list[Array], list[Array]]],
    points: Array,
    cotangent: Array,
    numbers: int,
    wanted: Wanted,
    xp: Namespace,
) -> tuple[Array | None, tuple[Array, ...] | None]:
    """Apply `function` to pieces of points and cotangent; join its first result and add up the second."""
    n, size = int(points.shape[0]), chunk_size(points, xp, numbers)
    pieces: list[Array] = []
    totals: list[Array] = []
    # no points make one empty piece, whose sums are zeros
    for start in range(0, max(n, 1), size):
        stop = min(start + size, n)
        columns, sums = function(points[start:stop, :], cotangent[start:stop, ...])
        totals = [a + b for a, b in zip(totals, sums, strict=True)] if totals else sums
        if columns:
            pieces.append(xp.stack(columns, axis=1))
    joined = None if wanted == "tables" else xp.concat(pieces, axis=0)
    return joined, None if wanted == "points" else tuple(totals)
