"""What the generic kernels are put together from: chunks of points, cells, polynomials and their products.

See `sepnet.backends.generic`; all of this is plain Array API.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sepnet.backends.arrays import Array, Namespace, device_of, eps, gather, is_numpy, is_torch, to_host
from sepnet.backends.checks import bad_point, slack
from sepnet.backends.contract import Names

__all__ = [
    "cell_numbers",
    "check_domain",
    "chunk_size",
    "columns_after",
    "factor_jets",
    "horner",
    "in_chunks",
    "jet",
    "locate",
    "matrix_jets",
    "prefixes",
    "rows_before",
    "suffixes",
]

# Eager CPU code runs out of cache when the (n, p + 1, R) intermediates are large: 5.0 s -> 0.5 s for 1e6 points in 6-D
# at rank 16 with torch. A device wants the opposite, few launches; there the limit only bounds the memory.
HOST_CHUNK = 4096
DEVICE_CHUNK = 2**18


def in_chunks(
    function: Callable[[Array], tuple[Array, ...]], points: Array, xp: Namespace, numbers: int = 64
) -> list[Array]:
    """Apply `function` to pieces of `points` and join each of its results along the first axis.

    `numbers` is how many numbers a point needs at a time; above 64, rank 16 of cubics, the pieces get smaller.
    """
    n, size = points.shape[0], chunk_size(points, xp, numbers)
    if n <= size:
        return list(function(points))
    parts = [function(points[start : min(start + size, n), ...]) for start in range(0, n, size)]
    return [xp.concat(list(pieces), axis=0) for pieces in zip(*parts, strict=True)]


def chunk_size(points: Array, xp: Namespace, numbers: int) -> int:
    """Return how many points to take at a time if each needs `numbers` numbers."""
    on_host = is_numpy(xp) or (is_torch(xp) and device_of(points).type == "cpu")
    return max((HOST_CHUNK if on_host else DEVICE_CHUNK) * 64 // max(numbers, 64), 64)


def check_domain(points: Array, breaks: tuple[Array, ...], names: Names, xp: Namespace) -> None:
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
    # torch warns where a number is made of a tensor that records gradients
    raise bad_point(axis, float(to_host(points[row, axis])), *ends[axis], names)


def locate(x: Array, breaks: Array, xp: Namespace) -> tuple[Array, Array, Array]:
    """Return cell numbers, local coordinates s and the slopes ds/dx, each of shape (n,)."""
    # torch warns, at a cost, when it has to copy a strided column for the search
    keys = x.contiguous() if is_torch(xp) else x
    cell = xp.astype(xp.searchsorted(breaks, keys, side="right"), xp.int64) - 1
    cell = xp.clip(cell, 0, breaks.shape[0] - 2)
    left, slope = xp.take(breaks, cell, axis=0), 2 / (breaks[1:] - breaks[:-1])
    slope = xp.take(slope, cell, axis=0)
    # the difference of neighbouring numbers is exact, so s has the round-off of one product, wherever the axis lies
    return cell, (x - left) * slope - 1, slope


def horner(table: Array, cell: Array, s: Array) -> Array:
    """Return the (n, q) values of the polynomials of each point's cell."""
    rows = gather(table, cell)
    value = rows[:, -1, :]
    for m in range(table.shape[1] - 2, -1, -1):
        value = value * s[:, None] + rows[:, m, :]
    return value


def jet(table: Array, cell: Array, s: Array, slope: Array, order: int, xp: Namespace) -> list[Array]:
    """Return [value, first, ... `order`-th derivative by x] of the factors of an axis, each of shape (n, R)."""
    rows = gather(table, cell)
    parts = [rows[:, -1, :]] + [xp.zeros_like(rows[:, -1, :]) for _ in range(order)]
    for m in range(table.shape[1] - 2, -1, -1):
        # Horner for Taylor coefficients: from the highest order down, so that each uses the older lower one
        for k in range(order, 0, -1):
            parts[k] = parts[k] * s[:, None] + parts[k - 1]
        parts[0] = parts[0] * s[:, None] + rows[:, m, :]
    factor = slope[:, None]
    for k in range(1, order + 1):
        parts[k] = parts[k] * factor
        factor = factor * slope[:, None] * (k + 1)
    return parts


def factor_jets(
    x: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], order: int, xp: Namespace
) -> list[list[Array]]:
    """Return what `jet` gives for each axis."""
    return [jet(table, *locate(x[:, i], breaks[i], xp), order, xp) for i, table in enumerate(tables)]


def prefixes(factors: list[Array]) -> list[Array]:
    """Return the products of the factors before each one (1.0 before the first)."""
    products: list[Array] = [1.0]
    for factor in factors[:-1]:
        products.append(products[-1] * factor)
    return products


def suffixes(factors: list[Array]) -> list[Array]:
    """Return the products of the factors after each one (1.0 after the last)."""
    return prefixes(factors[::-1])[::-1]


def cell_numbers(tables: tuple[Array, ...]) -> int:
    """Return the number of coefficients of one cell, on the mean of the axes."""
    return sum(int(table.shape[1] * table.shape[2] * table.shape[3]) for table in tables) // len(tables)


def matrix_jets(
    x: Array, breaks: tuple[Array, ...], tables: tuple[Array, ...], order: int, xp: Namespace
) -> Iterator[list[Array]]:
    """Give for each axis what `jet` gives, each of shape (n, r_{i-1}, r_i)."""
    for axis, table in enumerate(tables):
        cells, powers, left, right = table.shape
        flat = xp.reshape(table, (cells, powers, left * right))
        parts = jet(flat, *locate(x[:, axis], breaks[axis], xp), order, xp)
        yield [xp.reshape(part, (x.shape[0], left, right)) for part in parts]


def rows_before(jets: list[list[Array]], xp: Namespace) -> list[Array]:
    """Return the (n, 1, r) products of the matrices before each one (ones before the first)."""
    first = jets[0][0]
    rows = [xp.ones((first.shape[0], 1, 1), dtype=first.dtype, device=device_of(first))]
    for own in jets[:-1]:
        rows.append(rows[-1] @ own[0])
    return rows


def columns_after(jets: list[list[Array]], xp: Namespace) -> list[Array]:
    """Return the (n, r, 1) products of the matrices after each one (ones after the last)."""
    first = jets[0][0]
    columns = [xp.ones((first.shape[0], 1, 1), dtype=first.dtype, device=device_of(first))]
    for own in jets[:0:-1]:
        columns.append(own[0] @ columns[-1])
    return columns[::-1]
