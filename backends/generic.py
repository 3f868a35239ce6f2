"""The kernels in plain Array API: every namespace and device, and differentiable where the namespace is.

See `sepnet.backends.contract` for what each function takes and gives. Torch can differentiate all of it with respect to
points and tables, because a cell number has no derivative and all the rest is additions and products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sepnet.backends.arrays import Array, Namespace, device_of, eps, gather, is_numpy, is_torch, namespace
from sepnet.backends.checks import (
    bad_point,
    check_bands,
    check_cp,
    check_levels,
    check_local,
    check_normal,
    check_train,
    check_windows,
    slack,
)
from sepnet.backends.contract import Names
from sepnet.backends.newton import Samples, level_newton

__all__ = [
    "cp_gradient",
    "cp_hessian",
    "cp_newton",
    "cp_value",
    "fill_band",
    "fill_dense",
    "fill_dense_from_bands",
    "local_values",
    "normal_blocks",
    "train_gradient",
    "train_hessian",
    "train_value",
    "window_values",
]

# Eager CPU code runs out of cache when the (n, p + 1, R) intermediates are large: 5.0 s -> 0.5 s for 1e6 points in 6-D
# at rank 16 with torch. A device wants the opposite, few launches; there the limit only bounds the memory.
HOST_CHUNK = 4096
DEVICE_CHUNK = 2**18


def local_values(points: Array, breaks: Array, table: Array, /, *, names: Names = None) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.local_values`."""
    check_local(points, breaks, table)
    xp = namespace(points, breaks, table)
    _check_domain(points[:, None], (breaks,), names, xp)

    def chunk(x: Array) -> tuple[Array, ...]:
        cell, s, _ = _locate(x, breaks, xp)
        return cell, _horner(table, cell, s)

    cell, values = _in_chunks(chunk, points, xp)
    return cell, values


def cp_value(points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None) -> Array:
    """See `sepnet.backends.contract.Kernels.cp_value`."""
    check_cp(points, breaks, tables)
    xp = namespace(points, *breaks, *tables)
    _check_domain(points, breaks, names, xp)

    def chunk(x: Array) -> tuple[Array, ...]:
        product = None
        for axis, table in enumerate(tables):
            cell, s, _ = _locate(x[:, axis], breaks[axis], xp)
            factor = _horner(table, cell, s)
            product = factor if product is None else product * factor
        return (xp.sum(product, axis=1),)

    return _in_chunks(chunk, points, xp)[0]


def cp_gradient(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.cp_gradient`."""
    check_cp(points, breaks, tables)
    xp = namespace(points, *breaks, *tables)
    _check_domain(points, breaks, names, xp)

    def chunk(x: Array) -> tuple[Array, ...]:
        jets = _jets(x, breaks, tables, 1, xp)
        before, after = _prefixes([j[0] for j in jets]), _suffixes([j[0] for j in jets])
        columns = [xp.sum(before[i] * jets[i][1] * after[i], axis=1) for i in range(len(jets))]
        return xp.sum(before[-1] * jets[-1][0], axis=1), xp.stack(columns, axis=1)

    value, gradient = _in_chunks(chunk, points, xp)
    return value, gradient


def cp_hessian(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array, Array]:
    """See `sepnet.backends.contract.Kernels.cp_hessian`."""
    check_cp(points, breaks, tables)
    xp = namespace(points, *breaks, *tables)
    _check_domain(points, breaks, names, xp)
    d = len(tables)

    def chunk(x: Array) -> tuple[Array, ...]:
        jets = _jets(x, breaks, tables, 2, xp)
        before, after = _prefixes([j[0] for j in jets]), _suffixes([j[0] for j in jets])
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

    value, gradient, hessian = _in_chunks(chunk, points, xp)
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
    _check_domain(points, breaks, names, xp)

    def chunk(x: Array) -> tuple[Array, ...]:
        row: Array = None
        for (matrix,) in _matrix_jets(x, breaks, tables, 0, xp):
            row = matrix if row is None else row @ matrix
        return (row[:, 0, 0],)

    return _in_chunks(chunk, points, xp, _numbers(tables))[0]


def train_gradient(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array]:
    """See `sepnet.backends.contract.Kernels.train_gradient`."""
    check_train(points, breaks, tables)
    xp = namespace(points, *breaks, *tables)
    _check_domain(points, breaks, names, xp)

    def chunk(x: Array) -> tuple[Array, ...]:
        jets = list(_matrix_jets(x, breaks, tables, 1, xp))
        before, after = _rows_before(jets, xp), _columns_after(jets, xp)
        columns = [(before[i] @ jets[i][1] @ after[i])[:, 0, 0] for i in range(len(jets))]
        return (before[-1] @ jets[-1][0])[:, 0, 0], xp.stack(columns, axis=1)

    value, gradient = _in_chunks(chunk, points, xp, _numbers(tables))
    return value, gradient


def train_hessian(
    points: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], /, *, names: Names = None
) -> tuple[Array, Array, Array]:
    """See `sepnet.backends.contract.Kernels.train_hessian`."""
    check_train(points, breaks, tables)
    xp = namespace(points, *breaks, *tables)
    _check_domain(points, breaks, names, xp)
    d = len(tables)

    def chunk(x: Array) -> tuple[Array, ...]:
        jets = list(_matrix_jets(x, breaks, tables, 2, xp))
        before, after = _rows_before(jets, xp), _columns_after(jets, xp)
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

    value, gradient, hessian = _in_chunks(chunk, points, xp, _numbers(tables))
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
    size = _chunk_size(slope, xp, total)
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


def fill_band(bands: Array, weights: Array, /, *, out: Array | None = None) -> Array:
    """Raise TypeError: LAPACK's band storage exists for NumPy only, others take `fill_dense_from_bands`."""
    msg = (
        f"`bands` is a {type(bands).__module__.split('.')[0]} array, expected NumPy (the band is for LAPACK): "
        "use fill_dense_from_bands"
    )
    raise TypeError(msg)


def _in_chunks(
    function: Callable[[Array], tuple[Array, ...]], points: Array, xp: Namespace, numbers: int = 64
) -> list[Array]:
    """Apply `function` to pieces of `points` and join each of its results along the first axis.

    `numbers` is how many numbers a point needs at a time; above 64, rank 16 of cubics, the pieces get smaller.
    """
    n, size = points.shape[0], _chunk_size(points, xp, numbers)
    if n <= size:
        return list(function(points))
    parts = [function(points[start : min(start + size, n), ...]) for start in range(0, n, size)]
    return [xp.concat(list(pieces), axis=0) for pieces in zip(*parts, strict=True)]


def _chunk_size(points: Array, xp: Namespace, numbers: int) -> int:
    on_host = is_numpy(xp) or (is_torch(xp) and device_of(points).type == "cpu")
    return max((HOST_CHUNK if on_host else DEVICE_CHUNK) * 64 // max(numbers, 64), 64)


def _check_domain(points: Array, breaks: tuple[Array, ...], names: Names, xp: Namespace) -> None:
    """Raise ValueError for the first point that is NaN or outside; one reduction over all points."""
    ends = [(float(b[0]), float(b[-1])) for b in breaks]
    unit = eps(points.dtype, xp)
    options = {"dtype": points.dtype, "device": device_of(points)}
    low = xp.asarray([left - slack(left, right, unit) for left, right in ends], **options)
    high = xp.asarray([right + slack(left, right, unit) for left, right in ends], **options)
    inside = (points >= low[None, :]) & (points <= high[None, :])
    if bool(xp.all(inside)):
        return
    first = int(xp.argmin(xp.astype(xp.reshape(inside, (-1,)), xp.int64)))
    row, axis = divmod(first, len(breaks))
    raise bad_point(axis, float(points[row, axis]), *ends[axis], names)


def _locate(x: Array, breaks: Array, xp: Namespace) -> tuple[Array, Array, Array]:
    """Return cell numbers, local coordinates s and the slopes ds/dx, each of shape (n,)."""
    # torch warns, at a cost, when it has to copy a strided column for the search
    keys = x.contiguous() if is_torch(xp) else x
    cell = xp.astype(xp.searchsorted(breaks, keys, side="right"), xp.int64) - 1
    cell = xp.clip(cell, 0, breaks.shape[0] - 2)
    left, slope = xp.take(breaks, cell, axis=0), 2 / (breaks[1:] - breaks[:-1])
    slope = xp.take(slope, cell, axis=0)
    # the difference of neighbouring numbers is exact, so s has the round-off of one product, wherever the axis lies
    return cell, (x - left) * slope - 1, slope


def _horner(table: Array, cell: Array, s: Array) -> Array:
    """Return the (n, q) values of the polynomials of each point's cell."""
    rows = gather(table, cell)
    value = rows[:, -1, :]
    for m in range(table.shape[1] - 2, -1, -1):
        value = value * s[:, None] + rows[:, m, :]
    return value


def _jets(
    x: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], order: int, xp: Namespace
) -> list[list[Array]]:
    """Return for each axis [value, first, ... `order`-th derivative by x] of its factors, each of shape (n, R)."""
    jets = []
    for axis, table in enumerate(tables):
        cell, s, slope = _locate(x[:, axis], breaks[axis], xp)
        rows = gather(table, cell)
        jet = [rows[:, -1, :]] + [xp.zeros_like(rows[:, -1, :]) for _ in range(order)]
        for m in range(table.shape[1] - 2, -1, -1):
            # Horner for Taylor coefficients: from the highest order down, so that each uses the older lower one
            for k in range(order, 0, -1):
                jet[k] = jet[k] * s[:, None] + jet[k - 1]
            jet[0] = jet[0] * s[:, None] + rows[:, m, :]
        factor = slope[:, None]
        for k in range(1, order + 1):
            jet[k] = jet[k] * factor
            factor = factor * slope[:, None] * (k + 1)
        jets.append(jet)
    return jets


def _prefixes(factors: list[Array]) -> list[Array]:
    """Return the products of the factors before each one (1.0 before the first)."""
    products: list[Array] = [1.0]
    for factor in factors[:-1]:
        products.append(products[-1] * factor)
    return products


def _suffixes(factors: list[Array]) -> list[Array]:
    """Return the products of the factors after each one (1.0 after the last)."""
    return _prefixes(factors[::-1])[::-1]


def _numbers(tables: tuple[Array, ...]) -> int:
    """Return the number of coefficients of one cell, on the mean of the axes."""
    return sum(int(table.shape[1] * table.shape[2] * table.shape[3]) for table in tables) // len(tables)


def _matrix_jets(
    x: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], order: int, xp: Namespace
) -> Iterator[list[Array]]:
    """Give for each axis what `_jets` gives, each of shape (n, r_{i-1}, r_i)."""
    for axis, table in enumerate(tables):
        cells, powers, left, right = table.shape
        flat = xp.reshape(table, (cells, powers, left * right))
        (jet,) = _jets(x[:, axis : axis + 1], (breaks[axis],), (flat,), order, xp)
        yield [xp.reshape(part, (x.shape[0], left, right)) for part in jet]


def _rows_before(jets: list[list[Array]], xp: Namespace) -> list[Array]:
    """Return the (n, 1, r) products of the matrices before each one (ones before the first)."""
    first = jets[0][0]
    rows = [xp.ones((first.shape[0], 1, 1), dtype=first.dtype, device=device_of(first))]
    for jet in jets[:-1]:
        rows.append(rows[-1] @ jet[0])
    return rows


def _columns_after(jets: list[list[Array]], xp: Namespace) -> list[Array]:
    """Return the (n, r, 1) products of the matrices after each one (ones after the last)."""
    first = jets[0][0]
    columns = [xp.ones((first.shape[0], 1, 1), dtype=first.dtype, device=device_of(first))]
    for jet in jets[:0:-1]:
        columns.append(jet[0] @ columns[-1])
    return columns[::-1]
