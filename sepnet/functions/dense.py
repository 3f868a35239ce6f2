"""From a dense array to a sum of rank-one tensors, in any array namespace.

One axis: exact. Two: the singular value decomposition, which is optimal. More: the array is compressed to a small core
by the sequentially truncated higher-order SVD (Vannieuwenhoven, Vandebril, Meerbergen, SIAM J. Sci. Comput. 34, 2012),
and the core is fitted by alternating least squares with a growing number of columns, each new one being the rank-one
part that a chain of SVDs finds in the present residual. Where that does not reach the tolerance, nested SVDs do,
at a higher rank. All errors are those of the dense difference, not estimates.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from sepnet.backends.arrays import Array, device_of, eps, namespace, needs_autograd
from sepnet.backends.threads import one_blas_thread
from sepnet.functions.evaluation import outer

__all__ = ["decompose", "mode_product", "number", "truncated_svd"]

MAX_SWEEPS = 400
# Beyond this many columns ALS costs more than it saves; nested SVDs take over.
MAX_ALS_RANK = 128
# Share of the tolerance, squared, that the compression to a core may use up.
CORE_SHARE = 0.1


def number(scalar: Array) -> float:
    """Return an array of shape () as a float (without the warning of torch for tensors that record gradients)."""
    return float(scalar.detach() if needs_autograd(scalar) else scalar)


def mode_product(tensor: Array, matrix: Array, axis: int) -> Array:
    """Multiply `tensor` by `matrix` along one axis."""
    xp = namespace(tensor, matrix)
    moved = xp.tensordot(matrix, tensor, axes=([1], [axis]))
    order = [*range(1, axis + 1), 0, *range(axis + 1, tensor.ndim)]
    return xp.permute_dims(moved, tuple(order))


@one_blas_thread()
def decompose(tensor: Array, *, tol: float, rank: int | None) -> list[Array]:
    """Return matrices ``a_i`` (n_i, R) with ``sum_r a_1[:, r] x ... x a_d[:, r]`` close to `tensor`.

    Parameters
    ----------
    tensor : array of shape (n_1, ..., n_d)
        Finite real numbers.
    tol : float
        Relative error allowed, in the Euclidean norm; not less than 50 units of round-off can be reached.
    rank : int or None
        Largest rank. With it the error may stay above `tol`; without it the rank is as high as `tol` needs.

    Returns
    -------
    list of arrays (n_i, R)
    """
    xp = namespace(tensor)
    total = number(xp.linalg.vector_norm(tensor))
    if total == 0.0:
        shape = tuple(int(n) for n in tensor.shape)
        return [xp.zeros((n, 0), dtype=tensor.dtype, device=device_of(tensor)) for n in shape]
    allowed = max(tol, 50 * eps(tensor.dtype, xp)) * total
    if tensor.ndim == 1:
        return [tensor[:, None]]
    if tensor.ndim == 2:
        left, right, _ = truncated_svd(tensor, allowed, rank)
        return [left, right]
    core, frames, lost = _core(tensor, sqrt(CORE_SHARE) * allowed)
    columns = _fit_core(core, sqrt(max(allowed**2 - lost**2, 0.0)), rank)
    return [frame @ column for frame, column in zip(frames, columns, strict=True)]


def truncated_svd(matrix: Array, allowed: float, rank: int | None = None) -> tuple[Array, Array, float]:
    """Return ``(left, right, error)`` with ``left @ right.T`` of the lowest rank with an error of at most `allowed`.

    `rank` bounds the rank in any case; the singular values are in `right`.
    """
    xp = namespace(matrix)
    u, s, vh = xp.linalg.svd(matrix, full_matrices=False)
    squares = [number(s[k]) ** 2 for k in range(int(s.shape[0]))]
    kept = len(squares)
    tail = 0.0
    while kept > 1 and tail + squares[kept - 1] <= allowed**2:
        kept -= 1
        tail += squares[kept]
    if rank is not None and kept > rank:
        kept = rank
        tail = sum(squares[kept:])
    return u[:, :kept], (vh[:kept, :] * s[:kept, None]).T, sqrt(tail)


def _unfold(tensor: Array, axis: int) -> Array:
    xp = namespace(tensor)
    order = (axis, *(k for k in range(tensor.ndim) if k != axis))
    return xp.reshape(xp.permute_dims(tensor, order), (int(tensor.shape[axis]), -1))


def _core(tensor: Array, allowed: float) -> tuple[Array, list[Array], float]:
    """Return core, orthonormal frames and the error, by the sequentially truncated higher-order SVD."""
    xp = namespace(tensor)
    frames, lost = [], 0.0
    for axis in range(tensor.ndim):
        matrix = _unfold(tensor, axis)
        # The frame of a wide matrix from the triangle of its transpose: small, and no digits are squared away.
        if matrix.shape[1] > matrix.shape[0]:
            matrix = xp.linalg.qr(matrix.T, mode="reduced")[1].T
        frame, _, error = truncated_svd(matrix, allowed / sqrt(tensor.ndim))
        lost += error**2
        frames.append(frame)
        tensor = mode_product(tensor, frame.T, axis)
    return tensor, frames, sqrt(lost)


def _fit_core(core: Array, allowed: float, rank: int | None) -> list[Array]:
    xp = namespace(core)
    limit = MAX_ALS_RANK if rank is None else rank
    residual, columns = core, None
    while True:
        have = 0 if columns is None else int(columns[0].shape[1])
        new = _leading(residual, min(max(1, have // 4), limit - have))
        columns = new if columns is None else [xp.concat([a, b], axis=1) for a, b in zip(columns, new, strict=True)]
        columns, error = _sweeps(core, columns, allowed)
        if error <= allowed:
            return columns
        if int(columns[0].shape[1]) >= limit:
            return columns if rank is not None else _nested(core, allowed)
        residual = core - outer(columns)


def _leading(tensor: Array, count: int) -> list[Array]:
    """Return `count` rank-one terms, each the one that a chain of SVDs finds in what the others leave."""
    xp = namespace(tensor)
    terms = []
    for _ in range(count):
        vectors, rest = [], tensor
        while rest.ndim > 1:
            left, right, _ = truncated_svd(_unfold(rest, 0), 0.0, 1)
            vectors.append(left)
            rest = xp.reshape(right[:, 0], tuple(int(n) for n in rest.shape[1:]))
        vectors.append(rest[:, None])
        terms.append(vectors)
        tensor = tensor - outer(vectors)
    return [xp.concat(list(column), axis=1) for column in zip(*terms, strict=True)]


def _sweeps(core: Array, columns: Sequence[Array], allowed: float) -> tuple[list[Array], float]:
    """Alternate least squares on a dense core; stops at `allowed`, or when the error falls by less than 1 % in five.

    After each sweep a step further along its change is tried, its length the cube root of the sweep's number, and kept
    if it lowers the error (Bro, Multi-way analysis in the food industry, 1998, section 4.4): that is what gets ALS
    through its swamps.
    """
    xp = namespace(core)
    current = list(columns)
    unfolded = [_unfold(core, axis) for axis in range(core.ndim)]
    error = last = float("inf")
    for sweep in range(MAX_SWEEPS):
        before = current
        current = _sweep(unfolded, current)
        error = number(xp.linalg.vector_norm(core - outer(current)))
        if error <= allowed:
            break
        if sweep >= 4:
            length = (sweep + 1) ** (1 / 3)
            further = [a + length * (b - a) for a, b in zip(before, current, strict=True)]
            trial = number(xp.linalg.vector_norm(core - outer(further)))
            if trial < error:
                current, error = further, trial
        if sweep % 5 == 4:
            if error > 0.99 * last:
                break
            last = error
    return current, error


def _sweep(unfolded: Sequence[Array], columns: Sequence[Array]) -> list[Array]:
    """Solve for the columns of every axis in turn; those of the last carry the norms."""
    xp = namespace(*columns)
    current = list(columns)
    cutoff = 10 * int(current[0].shape[1]) * eps(current[0].dtype, xp)
    for i, matrix in enumerate(unfolded):
        others = [c for e, c in enumerate(current) if e != i]
        # A core is small enough for the pseudo-inverse itself, which loses no digits to normal equations.
        current[i] = matrix @ xp.linalg.pinv(_khatri_rao(others), rtol=cutoff).T
        if i < len(current) - 1:
            norm = xp.linalg.vector_norm(current[i], axis=0)
            current[i] = current[i] / xp.where(norm > 0, norm, xp.ones_like(norm))
    return current


def _khatri_rao(columns: Sequence[Array]) -> Array:
    xp = namespace(*columns)
    result = columns[0]
    for column in columns[1:]:
        result = xp.reshape(result[:, None, :] * column[None, :, :], (-1, int(column.shape[1])))
    return result


def _nested(tensor: Array, allowed: float) -> list[Array]:
    """Split off one axis by an SVD and treat every slice of the rest in the same way: always within `allowed`."""
    xp = namespace(tensor)
    if tensor.ndim == 2:
        left, right, _ = truncated_svd(tensor, allowed)
        return [left, right]
    share = allowed / sqrt(2.0)
    left, right, _ = truncated_svd(_unfold(tensor, 0), share)
    count = int(left.shape[1])
    shape = tuple(int(n) for n in tensor.shape[1:])
    parts = []
    for k in range(count):
        slices = _nested(xp.reshape(right[:, k], shape), share / sqrt(count))
        first = left[:, k : k + 1] * xp.ones_like(slices[0][:1, :])
        parts.append([first, *slices])
    return [xp.concat(list(column), axis=1) for column in zip(*parts, strict=True)]
