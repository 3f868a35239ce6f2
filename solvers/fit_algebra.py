"""The dense algebra of a fit in the namespace of its samples: what the array standard has no word for.

A fit of samples on a device solves its normal equations there: a matrix of 3000 coefficients is 72 MB, which over
PCIe takes as long as its factorisation on the device. On NumPy arrays LAPACK is called as it is, in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import scipy.linalg

from sepnet.backends.arrays import Array, device_of, from_host, is_numpy, namespace
from sepnet.solvers.lower_factor import is_sound, lower_factor, triangular

__all__ = ["Cholesky", "cholesky", "flat", "kron", "moved", "picked", "plus_diagonal"]


@final
@dataclass(frozen=True)
class Cholesky:
    """The Cholesky factor of a matrix, and how to solve with it.

    Parameters
    ----------
    lower : array of shape (P, P)
        Only the lower triangle counts.
    """

    lower: Array

    def solve(self, right: Array) -> Array:
        """Return the solution (P,) for a right-hand side (P,)."""
        xp = namespace(self.lower)
        if is_numpy(xp):
            return scipy.linalg.cho_solve((self.lower, True), right, check_finite=False)
        half = triangular(xp, self.lower, right[:, None])
        return triangular(xp, self.lower, half, transposed=True)[:, 0]


def cholesky(matrix: Array) -> Cholesky | None:
    """Return the Cholesky factor of a symmetric matrix, or None if it is not positive definite.

    Parameters
    ----------
    matrix : array of shape (P, P)
        A NumPy array is overwritten.
    """
    xp = namespace(matrix)
    if is_numpy(xp):
        try:
            lower = scipy.linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)[0]
        except np.linalg.LinAlgError:
            return None
        # LAPACK makes NaN of NaN
        return Cholesky(lower) if np.isfinite(np.einsum("ii->i", lower)).all() else None
    lower = lower_factor(xp, matrix)
    squares, diagonal = xp.linalg.vector_norm(lower, axis=1) ** 2, xp.linalg.diagonal(matrix)
    sound = is_sound(xp, lower[None, :, :], squares[None, :], diagonal[None, :], int(matrix.shape[0]))
    return Cholesky(lower) if bool(sound) else None


def plus_diagonal(matrix: Array, diagonal: Array | float) -> Array:
    """Return a copy of a matrix (P, P) with numbers, or an array (P,) of them, added to its diagonal."""
    xp = namespace(matrix)
    if is_numpy(xp):
        result = matrix.copy()
        result[np.diag_indices_from(result)] += diagonal
        return result
    identity = xp.eye(int(matrix.shape[0]), dtype=matrix.dtype, device=device_of(matrix))
    return matrix + identity * diagonal


def kron(a: Array, b: Array) -> Array:
    """Return the Kronecker product of two matrices."""
    xp = namespace(a, b)
    blocks = a[:, None, :, None] * b[None, :, None, :]
    return xp.reshape(blocks, (int(a.shape[0]) * int(b.shape[0]), int(a.shape[1]) * int(b.shape[1])))


def picked(matrix: Array, rows: Array, columns: Array) -> Array:
    """Return the rows and columns of a matrix with some numbers, arrays of int64."""
    xp = namespace(matrix, rows, columns)
    return xp.take(xp.take(matrix, rows, axis=0), columns, axis=1)


def flat(array: Array) -> Array:
    """Return an array as a vector."""
    size = 1
    for n in array.shape:
        size *= int(n)
    return namespace(array).reshape(array, (size,))


def moved(arrays: list[Array], like: Array) -> list[Array]:
    """Return arrays where another one lives and in its dtype; those of the host are moved, others are there."""
    xp = namespace(like)
    if is_numpy(xp) and all(isinstance(a, np.ndarray) for a in arrays):
        return arrays
    home = {"device": device_of(like), "dtype": like.dtype}
    return [from_host(a, xp, **home) if isinstance(a, np.ndarray) else a for a in arrays]
