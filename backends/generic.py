"""The kernels in plain Array API: every namespace and device, and differentiable where the namespace is.

See `sepnet.backends.contract` for what each function takes and gives. Torch can differentiate all of it with respect to
points and tables, because a cell number has no derivative and all the rest is additions and products.
"""

from __future__ import annotations

from sepnet.backends.arrays import Array, device_of, namespace
from sepnet.backends.checks import (
    check_bands,
    check_blocks,
    check_cp,
    check_levels,
    check_local,
    check_normal,
    check_train,
    check_windows,
)
from sepnet.backends.contract import Names
from sepnet.backends.generic_parts import (
    cell_numbers,
    check_domain,
    chunk_size,
    columns_after,
    factor_jets,
    horner,
    in_chunks,
    locate,
    matrix_jets,
    prefixes,
    rows_before,
    suffixes,
)
from sepnet.backends.generic_vjp import cp_columns, cp_columns_vjp, cp_vjp, train_vjp
from sepnet.backends.newton import Samples, level_newton

__all__ = [
    "cp_columns",
    "cp_columns_vjp",
    "cp_gradient",
    "cp_hessian",
    "cp_newton",
    "cp_value",
    "cp_vjp",
    "fill_band",
    "fill_blocks",
    "fill_dense",
    "fill_dense_from_bands",
    "local_values",
    "normal_blocks",
    "train_gradient",
    "train_hessian",
    "train_value",
    "train_vjp",
    "window_values",
]


def local_values(points: Array, breaks: Array, table: Array, /, *, names: Names = None) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.local_values`."""
    check_local(points, breaks, table)
    xp = namespace(points, breaks, table)
    check_domain(points[:, None], (breaks,), names, xp)

    def chunk(x: Array) -> tuple[Array, ...]:
        cell, s, _ = locate(x, breaks, xp)
        return cell, horner(table, cell, s)

    cell, values = in_chunks(chunk, points, xp)
    return cell, values


def cp_value(points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None) -> Array:
    """See `sepnet.backends.contract.Kernels.cp_value`."""
    check_cp(points, breaks, tables)
    xp = namespace(points, *breaks, *tables)
    check_domain(points, breaks, names, xp)

    def chunk(x: Array) -> tuple[Array, ...]:
        product = None
        for axis, table in enumerate(tables):
            cell, s, _ = locate(x[:, axis], breaks[axis], xp)
            factor = horner(table, cell, s)
            product = factor if product is None else product * factor
        return (xp.sum(product, axis=1),)

    return in_chunks(chunk, points, xp)[0]


def cp_gradient(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.cp_gradient`."""
    check_cp(points, breaks, tables)
    xp = namespace(points, *breaks, *tables)
    check_domain(points, breaks, names, xp)

    def chunk(x: Array) -> tuple[Array, ...]:
        jets = factor_jets(x, breaks, tables, 1, xp)
        before, after = prefixes([j[0] for j in jets]), suffixes([j[0] for j in jets])
        columns = [xp.sum(before[i] * jets[i][1] * after[i], axis=1) for i in range(len(jets))]
        return xp.sum(before[-1] * jets[-1][0], axis=1), xp.stack(columns, axis=1)

    value, gradient = in_chunks(chunk, points, xp)
    return value, gradient


def cp_hessian(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array, Array]:
    """See `sepnet.backends.contract.Kernels.cp_hessian`."""
    check_cp(points, breaks, tables)
    xp = namespace(points, *breaks, *tables)
    check_domain(points, breaks, names, xp)
    d = len(tables)

    def chunk(x: Array) -> tuple[Array, ...]:
        jets = factor_jets(x, breaks, tables, 2, xp)
        before, after = prefixes([j[0] for j in jets]), suffixes([j[0] for j in jets])
        gradient = [xp.sum(before[i] * jets[i][1] * after[i], axis=1) for i in range(d)]
        entries = {}
        for i in range(d):
            entries[i, i] = xp.sum(before[i] * jets[i][2] * after[i], axis=1)
            left = before[i] * jets[i][1]
            for k in range(i + 1, d):
                entries[i, k] = entries[k, i] = xp.sum(left * jets[k][1] * after[k], axis=1)
                left = left * jets[k][0]
        rows = [xp.stack([entries[i, k] for k in range(d)], axis=1) for i in range(d)]
        value = xp.sum(before[-1] * jets[-1][0], axis=1)
        return value, xp.stack(gradient, axis=1), xp.stack(rows, axis=1)

    value, gradient, hessian = in_chunks(chunk, points, xp)
    return value, gradient, hessian


def cp_newton(
    starts: Array,
    targets: Array,
    low: Array,
    high: Array,
    breaks: tuple[Array, ...],
    tables: tuple[Array, ...],
    /,
    *,
    tol: Array,
    max_steps: int,
    names: Names = None,
) -> Samples:
    """See `sepnet.backends.contract.Kernels.cp_newton`."""
    check_levels(starts, targets, low, high, breaks, tables, tol, names)

    def evaluate(points: Array) -> tuple[Array, Array]:
        return cp_gradient(points, breaks, tables, names=names)

    return level_newton(evaluate, starts, targets, low, high, tol=tol, max_steps=max_steps)


def train_value(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> Array:
    """See `sepnet.backends.contract.Kernels.train_value`."""
    check_train(points, breaks, tables)
    xp = namespace(points, *breaks, *tables)
    check_domain(points, breaks, names, xp)

    def chunk(x: Array) -> tuple[Array, ...]:
        row: Array = None
        for (matrix,) in matrix_jets(x, breaks, tables, 0, xp):
            row = matrix if row is None else row @ matrix
        return (row[:, 0, 0],)

    return in_chunks(chunk, points, xp, cell_numbers(tables))[0]


def train_gradient(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.train_gradient`."""
    check_train(points, breaks, tables)
    xp = namespace(points, *breaks, *tables)
    check_domain(points, breaks, names, xp)

    def chunk(x: Array) -> tuple[Array, ...]:
        jets = list(matrix_jets(x, breaks, tables, 1, xp))
        before, after = rows_before(jets, xp), columns_after(jets, xp)
        columns = [(before[i] @ jets[i][1] @ after[i])[:, 0, 0] for i in range(len(jets))]
        return (before[-1] @ jets[-1][0])[:, 0, 0], xp.stack(columns, axis=1)

    value, gradient = in_chunks(chunk, points, xp, cell_numbers(tables))
    return value, gradient


def train_hessian(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array, Array]:
    """See `sepnet.backends.contract.Kernels.train_hessian`."""
    check_train(points, breaks, tables)
    xp = namespace(points, *breaks, *tables)
    check_domain(points, breaks, names, xp)
    d = len(tables)

    def chunk(x: Array) -> tuple[Array, ...]:
        jets = list(matrix_jets(x, breaks, tables, 2, xp))
        before, after = rows_before(jets, xp), columns_after(jets, xp)
        gradient, entries = [], {}
        for i in range(d):
            entries[i, i] = (before[i] @ jets[i][2] @ after[i])[:, 0, 0]
            left = before[i] @ jets[i][1]
            gradient.append((left @ after[i])[:, 0, 0])
            for k in range(i + 1, d):
                entries[i, k] = entries[k, i] = (left @ (jets[k][1] @ after[k]))[:, 0, 0]
                left = left @ jets[k][0]
        rows = [xp.stack([entries[i, k] for k in range(d)], axis=1) for i in range(d)]
        value = (before[-1] @ jets[-1][0])[:, 0, 0]
        return value, xp.stack(gradient, axis=1), xp.stack(rows, axis=1)

    value, gradient, hessian = in_chunks(chunk, points, xp, cell_numbers(tables))
    return value, gradient, hessian


def window_values(first: Array, values: Array, table: Array, /) -> Array:
    """See `sepnet.backends.contract.Kernels.window_values`."""
    check_windows(first, values, table)
    xp = namespace(values, table)
    total = values[:, :1] * xp.take(table, first, axis=0)
    for m in range(1, int(values.shape[1])):
        total = total + values[:, m : m + 1] * xp.take(table, first + m, axis=0)
    return total


def normal_blocks(
    first: tuple[Array, ...],
    values: tuple[Array, ...],
    gains: tuple[Array, ...],
    curvature: Array,
    slope: Array,
    /,
    *,
    sizes: tuple[int, ...],
) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.normal_blocks`; the rows of J are made dense, a chunk at a time."""
    check_normal(first, values, gains, curvature, slope, sizes)
    xp = namespace(*values, *gains, curvature, slope)
    n, total = int(slope.shape[0]), sum(m * int(g.shape[1]) for m, g in zip(sizes, gains, strict=True))
    matrix = xp.zeros((total, total), dtype=slope.dtype, device=device_of(slope))
    vector = xp.zeros((total,), dtype=slope.dtype, device=device_of(slope))
    size = chunk_size(slope, xp, total)
    for start in range(0, n, size):
        part = slice(start, min(start + size, n))
        rows = []
        for f, v, g, count in zip(first, values, gains, sizes, strict=True):
            place = xp.arange(count, dtype=f.dtype, device=device_of(f))[None, :] - f[part, None]
            dense = xp.zeros((int(v[part, :].shape[0]), count), dtype=v.dtype, device=device_of(v))
            for m in range(int(v.shape[1])):
                dense = dense + xp.where(place == m, v[part, m : m + 1], xp.zeros_like(dense))
            block = dense[:, :, None] * g[part, None, :]
            rows.append(xp.reshape(block, (int(block.shape[0]), count * int(g.shape[1]))))
        J = xp.concat(rows, axis=1)
        matrix = matrix + J.T @ (curvature[part, None] * J)
        vector = vector + J.T @ slope[part]
    return matrix, vector


def fill_dense(matrices: Array, weights: Array, /) -> Array:
    """See `sepnet.backends.contract.Kernels.fill_dense`."""
    check_bands(matrices, weights)
    xp = namespace(matrices, weights)
    rows, columns, rank = matrices.shape[1], matrices.shape[2], weights.shape[1]
    blocks = xp.tensordot(matrices, weights, axes=((0,), (0,)))
    return xp.reshape(xp.permute_dims(blocks, (0, 2, 1, 3)), (rows * rank, columns * rank))


def fill_dense_from_bands(bands: Array, weights: Array, /) -> Array:
    """See `sepnet.backends.contract.Kernels.fill_dense_from_bands`."""
    check_bands(bands, weights)
    xp = namespace(bands, weights)
    n = bands.shape[1]
    # eye(k = -o) puts entry i of the o-th subdiagonal at row i + o of column i, and drops what is past the end
    lower = xp.zeros((bands.shape[0], n, n), dtype=bands.dtype, device=device_of(bands))
    for o in range(bands.shape[2]):
        lower = lower + xp.eye(n, k=-o, dtype=bands.dtype, device=device_of(bands))[None, :, :] * bands[:, None, :, o]
    full = fill_dense(lower, weights)
    return xp.tril(full) + xp.matrix_transpose(xp.tril(full, k=-1))


def fill_blocks(bands: Array, weights: Array, /, *, group: int) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.fill_blocks`; no more launches for many blocks than for one."""
    check_blocks(bands, weights, group)
    xp = namespace(bands, weights)
    terms, n, width = (int(k) for k in bands.shape)
    rank, home = int(weights.shape[1]), {"dtype": bands.dtype, "device": device_of(bands)}
    count = -(-n // group)
    missing = count * group - n
    if missing:
        bands = xp.concat([bands, xp.zeros((terms, missing, width), **home)], axis=1)
    columns = xp.reshape(xp.permute_dims(bands, (1, 2, 0)), (count * group * width, terms))
    flat = columns @ xp.reshape(weights, (terms, rank * rank))
    # Column k of a group begins at row k. With 2 group + 1 places a column, read as if they were 2 group, each column
    # slides down by one place more than the one before.
    flat = xp.reshape(flat, (count, group, width, rank * rank))
    flat = xp.concat([flat, xp.zeros((count, group, 2 * group + 1 - width, rank * rank), **home)], axis=2)
    flat = xp.reshape(flat, (count, group * (2 * group + 1), rank * rank))[:, : 2 * group * group, :]
    blocks = xp.permute_dims(xp.reshape(flat, (count, group, 2 * group, rank, rank)), (0, 2, 3, 1, 4))
    size = group * rank
    blocks = xp.reshape(blocks, (count, 2 * size, size))
    if missing:
        blocks[-1, size - missing * rank : size, size - missing * rank :] = xp.eye(missing * rank, **home)
    return blocks[:, :size, :], blocks[: max(count - 1, 0), size:, :]


def fill_band(bands: Array, weights: Array, /, *, out: Array | None = None) -> Array:
    """Raise TypeError: LAPACK's band storage exists for NumPy only, others take `fill_dense_from_bands`."""
    msg = (
        f"`bands` is a {type(bands).__module__.split('.')[0]} array, expected NumPy (the band is for LAPACK): "
        "use fill_dense_from_bands"
    )
    raise TypeError(msg)
