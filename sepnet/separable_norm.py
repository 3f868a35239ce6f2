"""Norms of sums of rank-one tensors without cancellation."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot, isfinite, prod, sqrt

import numpy as np

from sepnet.backends.arrays import Array, eps, namespace, needs_autograd
from sepnet.backends.threads import one_blas_thread

__all__ = ["MANY_COLUMNS", "NOISE", "gram_square", "separable_norm", "sound_norm"]

# Above this number of columns the orthogonalised norm costs more than a solve.
MANY_COLUMNS = 200
# What counts as round-off, relative to what was added up: coefficients from a linear solve carry a few hundred
# units of round-off, 1e4 leave room.
NOISE = 1e4 * float(np.finfo(np.float64).eps)


@one_blas_thread()
def separable_norm(factors: Sequence[Array]) -> float:
    """Return the Euclidean norm of the tensor ``sum_r  a_1[:, r] x ... x a_d[:, r]``.

    The Gram formula, the sum of the elementwise product of all ``a_i' a_i``, is a difference of large numbers: it
    cannot see a norm below the square root of the round-off times the largest column. Here the columns are
    orthogonalised instead: one QR factorisation of a Khatri-Rao product an axis, from left to right, as in the
    orthogonalisation of a tensor train (Oseledets, SIAM J. Sci. Comput. 33, 2011, section 3). The cost is that of
    ``d`` factorisations of size ``(R n) x R``.

    Parameters
    ----------
    factors : sequence of arrays of shape (n_i, R)
        One matrix an axis, in one namespace; scale rows by the square roots of quadrature weights beforehand.

    Returns
    -------
    float
        The norm, with an error of a few units of round-off of the largest column product. With more than
        `MANY_COLUMNS` columns the Gram formula is used where it is known to give eight digits.
    """
    xp = namespace(*factors)
    factors = [a.detach() if needs_autograd(a) else a for a in factors]
    rank = int(factors[0].shape[1])
    if rank == 0 or any(int(a.shape[0]) == 0 for a in factors):
        return 0.0
    # Squares of very large or small numbers would leave the range of the dtype.
    sizes = [float(xp.max(xp.abs(a))) for a in factors]
    if min(sizes) == 0.0 or not all(map(isfinite, sizes)):
        return 0.0 if min(sizes) == 0.0 else float("nan")
    factors = [a / size for a, size in zip(factors, sizes, strict=True)]
    if rank > MANY_COLUMNS:
        square, noise = gram_square(factors)
        if noise < 1e-8 * square:
            return prod(sizes, start=sqrt(square))
    carried = factors[0]
    for factor in factors[1:]:
        carried = xp.linalg.qr(carried, mode="reduced")[1]
        rows = int(factor.shape[0])
        if rows > rank:
            factor = xp.linalg.qr(factor, mode="reduced")[1]
            rows = int(factor.shape[0])
        product = carried[:, None, :] * factor[None, :, :]
        carried = xp.reshape(product, (int(carried.shape[0]) * rows, rank))
    total = xp.sum(carried, axis=1)
    norm = xp.linalg.vector_norm(total)
    return prod(sizes, start=float(norm))


def gram_square(factors: Sequence[Array]) -> tuple[float, float]:
    """Return the squared norm by the Gram formula, and a bound of its round-off.

    The bound is 4 units of round-off of the square of the sum of all terms' norms, which is what the formula adds up.
    """
    xp = namespace(*factors)
    gram, norms = factors[0].T @ factors[0], xp.linalg.vector_norm(factors[0], axis=0)
    for factor in factors[1:]:
        gram = gram * (factor.T @ factor)
        norms = norms * xp.linalg.vector_norm(factor, axis=0)
    square, total = xp.sum(gram), xp.sum(norms)
    if needs_autograd(square):
        square, total = square.detach(), total.detach()
    return max(float(square), 0.0), 4 * eps(gram.dtype, xp) * float(total) ** 2


def sound_norm(factors: Sequence[np.ndarray], magnitudes: Sequence[np.ndarray]) -> float:
    """Return the norm of a sum of rank-one tensors on the host, and exactly zero where it is round-off.

    Parameters
    ----------
    factors : sequence of ndarray (m_i, R)
        The columns.
    magnitudes : sequence of ndarray (m_i, R)
        What the evaluation of the columns added up, in absolute value; it bounds the round-off in them.
    """
    noise = np.ones(factors[0].shape[1])
    for columns in magnitudes:
        # Norms by `hypot`, since squares of large or small data leave the range.
        noise = noise * [hypot(*column) for column in columns.T]
    norm = separable_norm(factors)
    if not isfinite(norm):
        msg = "data or coefficients overflow or are NaN: scale them, or give finite values"
        raise ValueError(msg)
    return norm if norm > NOISE * hypot(*noise) else 0.0
