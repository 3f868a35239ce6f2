"""Cholesky factorisations of the systems of one axis where LAPACK's band storage is not to be had: CuPy, torch, others.

``H = sum_j A_j (x) W_j`` with half-bandwidth w in the basis index is block-tridiagonal once g >= w neighbouring basis
functions are taken together, with diagonal blocks ``D_b`` and blocks ``E_b`` below them (Golub and Van Loan, Matrix
Computations, 4th ed., section 4.5.1):

    G_b G_b' = D_b - S_{b-1} S_{b-1}',        S_b = E_b G_b^-T.

With g > w only the corner of ``E_b`` that the band reaches is not zero, w R rows and columns, and so it is for ``S_b``:
products and triangular solves take corners only. A periodic axis has a border beside the band, a spectral one is dense.

**How many functions to a block.** In units of (w R)^3 the band takes ``N / w`` times ``c^2 / 3 + 3 / c``
multiplications with blocks of g = c w functions: 3.3 for c = 1, least at c = 1.65, and 2.8 for c = 2, which has half
the launches of c = 1. A dense factorisation takes ``(N / w)^3 / 3``, less up to N = 1.5 g for g = 2 w. On a device
each block costs some five launches, of 5 to 10 us each, and waits for the one before; small factorisations take a
hundred us whatever their size. So blocks have at least 256 rows there, and up to three of them are taken as one dense
matrix. The host is content with 64 rows.

**Loads.** A substitution takes five launches a block in each direction, among them a triangular solve, which for one
load is as slow on a device as for many. Where many loads follow one another, and on a device always, the ``G_b`` are
inverted instead: then all blocks are multiplied at once, and what is carried from block to block, ``S_b`` times an
inverse, takes two launches. That costs the multiplications of the factorisation once more, and some digits where H is
ill-conditioned: `solve_axis` takes them back by refinement, a preconditioner does not need them.

**Whether H is positive definite** is decided once per factorisation, by a number that stays where the arrays are, as in
`lower_factor`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

from sepnet.backends import dispatch
from sepnet.backends.arrays import Array, device_of, is_torch, namespace
from sepnet.solvers.lower_factor import is_sound, lower_factor, triangular
from sepnet.solvers.on_device import on_host

__all__ = [
    "Factored",
    "factorise_band",
    "factorise_blocks",
    "factorise_bordered",
    "factorise_dense",
    "group_size",
    "inverted_factors",
]

# Rows of a block, at least, on the host and on a device; up to this many blocks are one dense matrix.
HOST_ROWS, DEVICE_ROWS, FEW = 64, 256, 3


@final
@dataclass(frozen=True)
class Factored:
    """A factorised symmetric matrix.

    Parameters
    ----------
    solve : callable
        Takes loads of shape (n,) or (n, k) and returns the solutions in that shape.
    sound : array of bool, of shape ()
        Whether the matrix was positive definite; solutions mean nothing else. It is where the arrays are: to read it is
        to wait for the factorisation.
    """

    solve: Callable[[Array], Array]
    sound: Array


def group_size(n: int, width: int, rank: int, *, host: bool) -> int:
    """Return how many neighbouring basis functions to take together; n for one dense matrix.

    Parameters
    ----------
    n : int
        Number of basis functions.
    width : int
        Half-bandwidth in the basis index.
    rank : int
        Unknowns for each function.
    host : bool
        Whether the processor computes, and not a device.
    """
    group = max(2 * width, -(-(HOST_ROWS if host else DEVICE_ROWS) // max(rank, 1)), 1)
    if n <= FEW * group:
        return max(n, 1)
    # of even size: the last block is computed as long as the others are
    return -(-n // -(-n // group))


def factorise_band(
    bands: Array, weights: Array, ridge: float, *, group: int | None = None, repeated: bool = False
) -> Factored:
    """Factorise ``H = sum_j A_j (x) W_j`` for banded matrices.

    The memory is that of the diagonal blocks and of the blocks below, N g R^2 each.

    Parameters
    ----------
    bands : array of shape (J, N, w + 1)
        Lower bands: ``bands[j, i, o] = A_j[i + o, i]``, and zero where ``i + o >= N``.
    weights : array of shape (J, R, R)
        Only the sum H has to be symmetric.
    ridge : float
        Added to the diagonal, times the sum of each entry and the mean of all.
    group : int, optional
        Functions to a block; by default `group_size`.
    repeated : bool, optional
        Whether many loads will be solved, one after the other.

    Returns
    -------
    Factored
        For loads of N R rows, basis index slow, rank index fast.
    """
    n, width, rank = int(bands.shape[1]), int(bands.shape[2]) - 1, int(weights.shape[1])
    size = group or group_size(n, width, rank, host=on_host(weights))
    diagonal, below = dispatch.fill_blocks(bands, weights, group=size)
    reach = width * rank
    corner = below[:, :reach, int(below.shape[2]) - reach :]
    return factorise_blocks(diagonal, corner, n * rank, ridge, repeated=repeated)


def factorise_bordered(
    bands: Array, border: Array, weights: Array, ridge: float, *, group: int | None = None, repeated: bool = False
) -> Factored:
    """Factorise ``H = sum_j A_j (x) W_j`` for matrices that are banded but for their last w rows and columns.

    Parameters
    ----------
    bands : array of shape (J, N - w, w + 1)
        Lower bands of the part without border.
    border : array of shape (w, J, N)
        The last w rows of the matrices.
    weights : array of shape (J, R, R)
    ridge : float
    group : int, optional
    repeated : bool, optional
        As in `factorise_band`.

    Returns
    -------
    Factored
    """
    xp = namespace(bands, border, weights)
    width, _, n = (int(k) for k in border.shape)
    rank = int(weights.shape[1])
    inner = (n - width) * rank
    band = factorise_band(bands, weights, ridge, group=group, repeated=repeated)
    coupling = xp.permute_dims(xp.tensordot(border, weights, axes=((1,), (0,))), (0, 2, 1, 3))
    coupling = xp.reshape(coupling, (width * rank, n * rank))
    outer, corner = coupling[:, :inner], coupling[:, inner:]
    entries = xp.linalg.diagonal(corner)
    identity = xp.eye(width * rank, dtype=corner.dtype, device=device_of(corner))
    corner = corner + identity * _ridge(xp, entries, entries, ridge)
    solved = band.solve(xp.matrix_transpose(outer))
    small = factorise_dense(corner - outer @ solved, 0.0)

    def solve(load: Array) -> Array:
        first = band.solve(load[:inner, ...])
        last = small.solve(load[inner:, ...] - outer @ first)
        return xp.concat([first - solved @ last, last], axis=0)

    return Factored(solve, xp.logical_and(band.sound, small.sound))


def factorise_dense(matrix: Array, ridge: float) -> Factored:
    """Factorise a symmetric matrix of shape (n, n), of which the lower triangle counts.

    Parameters
    ----------
    matrix : array of shape (n, n)
        It may be overwritten.
    ridge : float
        As in `factorise_band`.

    Returns
    -------
    Factored
    """
    n = int(matrix.shape[0])
    return factorise_blocks(matrix[None, :, :], matrix[None, :0, :0], n, ridge)


def factorise_blocks(diagonal: Array, corner: Array, n: int, ridge: float, *, repeated: bool = False) -> Factored:
    """Factorise a block-tridiagonal matrix.

    Parameters
    ----------
    diagonal : array of shape (B, m, m)
        The diagonal blocks, of which the lower triangles count. They are overwritten.
    corner : array of shape (B - 1, v, v)
        Of the blocks below the first v rows and last v columns: the rest of them is zero.
    n : int
        Rows that count; those behind them, in the last block, are the identity.
    ridge : float
    repeated : bool, optional
        As in `factorise_band`.

    Returns
    -------
    Factored
    """
    xp = namespace(diagonal, corner)
    count, size, _ = (int(k) for k in diagonal.shape)
    reach = int(corner.shape[1]) if count > 1 else 0
    # The entries of the diagonals are every (size + 1)-th of a block: no matrix is needed to change them.
    flat = xp.reshape(diagonal, (count, size * size))
    entries = flat[:, :: size + 1]
    expected = entries
    if ridge:
        expected = entries + _ridge(xp, entries, xp.reshape(entries, (count * size,))[:n], ridge)
        flat[:, :: size + 1] = expected
    expected = expected + 0.0  # the entries themselves are overwritten below
    lower, links = _eliminate(xp, xp.reshape(flat, (count, size, size)), corner, reach)
    squares = xp.linalg.vector_norm(lower, axis=2) ** 2
    if links:
        squares[1:, :reach] = squares[1:, :reach] + xp.linalg.vector_norm(xp.stack(links), axis=2) ** 2
    sound = is_sound(xp, lower, squares, expected, size + reach)
    if not on_host(lower) or (repeated and count > 1):
        return Factored(_inverted(xp, lower, links, n), sound)
    return Factored(lambda load: _substitute(xp, lower, links, load, n), sound)


def inverted_factors(matrices: Array) -> tuple[Array, Array]:
    """Return the inverses of the Cholesky factors of a stack of matrices, and whether all were positive definite.

    Parameters
    ----------
    matrices : array of shape (K, n, n)

    Returns
    -------
    inverses : array of shape (K, n, n)
    sound : array of bool, of shape ()
    """
    xp = namespace(matrices)
    n = int(matrices.shape[1])
    lower = lower_factor(xp, matrices)
    squares = xp.linalg.vector_norm(lower, axis=2) ** 2
    sound = is_sound(xp, lower, squares, xp.linalg.diagonal(matrices), n)
    # CuPy inverts stacks of small matrices in one launch; torch waits for the device in `inv`, to see whether it worked
    return _inverses(xp, lower) if is_torch(xp) else xp.linalg.inv(lower), sound


def _ridge(xp: Any, entries: Array, kept: Array, ridge: float) -> Array:
    # Relative to each entry, so that scaling does not matter, plus a trace of the mean, so that empty columns do not.
    return ridge * (entries + xp.mean(kept))


def _eliminate(xp: Any, diagonal: Array, corner: Array, reach: int) -> tuple[Array, list[Array]]:
    """Overwrite the diagonal blocks by the G_b; return them, and the corners of the S_b."""
    count, size, _ = (int(k) for k in diagonal.shape)
    links: list[Array] = []
    for b in range(count):
        if b and reach:
            last = diagonal[b - 1, size - reach :, size - reach :]
            link = xp.matrix_transpose(triangular(xp, last, xp.matrix_transpose(corner[b - 1, :, :])))
            links.append(link)
            diagonal[b, :reach, :reach] = diagonal[b, :reach, :reach] - link @ xp.matrix_transpose(link)
        diagonal[b, :, :] = lower_factor(xp, diagonal[b, :, :])
    return diagonal, links


def _substitute(xp: Any, lower: Array, links: Sequence[Array], load: Array, n: int) -> Array:
    """Solve ``L L' x = load``."""
    count, size, _ = (int(k) for k in lower.shape)
    x = _padded(xp, load, n, count, size)
    reach = int(links[0].shape[0]) if links else 0
    for b in range(count):
        if b and reach:
            x[b, :reach, :] = x[b, :reach, :] - links[b - 1] @ x[b - 1, size - reach :, :]
        x[b, :, :] = triangular(xp, lower[b, :, :], x[b, :, :])
    for b in range(count - 1, -1, -1):
        if b + 1 < count and reach:
            x[b, size - reach :, :] = x[b, size - reach :, :] - xp.matrix_transpose(links[b]) @ x[b + 1, :reach, :]
        x[b, :, :] = triangular(xp, lower[b, :, :], x[b, :, :], transposed=True)
    return xp.reshape(xp.reshape(x, (count * size, -1))[:n, :], tuple(load.shape))


def _padded(xp: Any, load: Array, n: int, count: int, size: int) -> Array:
    """Return loads (n,) or (n, k) by blocks, (B, m, k), in memory of its own."""
    columns = xp.reshape(load, (n, -1))
    missing = xp.zeros((count * size - n, int(columns.shape[1])), dtype=columns.dtype, device=device_of(columns))
    return xp.reshape(xp.concat([columns, missing], axis=0), (count, size, -1))


def _inverted(xp: Any, lower: Array, links: Sequence[Array], n: int) -> Callable[[Array], Array]:
    """Return what solves ``L L' x = load`` by the inverses of the diagonal blocks of L."""
    count, size, _ = (int(k) for k in lower.shape)
    inverses = _inverses(xp, lower)
    turned = xp.matrix_transpose(inverses)
    down: list[Array] = []
    up: list[Array] = []
    reach = int(links[0].shape[0]) if links else 0
    if reach:
        stack = xp.stack(list(links))
        carried = xp.matmul(inverses[1:, :, :reach], stack)
        returned = xp.matmul(turned[:-1, :, size - reach :], xp.matrix_transpose(stack))
        down, up = ([part[b, :, :] for b in range(count - 1)] for part in (carried, returned))

    def solve(load: Array) -> Array:
        x = xp.matmul(inverses, _padded(xp, load, n, count, size))
        if reach:
            parts = [x[0, :, :]]
            for b in range(1, count):
                parts.append(x[b, :, :] - down[b - 1] @ parts[-1][size - reach :, :])
            x = xp.stack(parts)
        x = xp.matmul(turned, x)
        if reach:
            parts = [x[count - 1, :, :]]
            for b in range(count - 2, -1, -1):
                parts.append(x[b, :, :] - up[b] @ parts[-1][:reach, :])
            x = xp.stack(parts[::-1])
        return xp.reshape(xp.reshape(x, (count * size, -1))[:n, :], tuple(load.shape))

    return solve


def _inverses(xp: Any, lower: Array) -> Array:
    """Return the inverses of a stack of lower triangular matrices."""
    identity = xp.eye(int(lower.shape[1]), dtype=lower.dtype, device=device_of(lower))
    if is_torch(xp):
        return triangular(xp, lower, identity)
    return xp.stack([triangular(xp, lower[b, :, :], identity) for b in range(int(lower.shape[0]))])
