"""Cholesky's lower factor and its triangular solves, in every array library but by LAPACK directly.

Whether a matrix is positive definite is a number that stays where the arrays are. Libraries raise, or give factors
that mean nothing (CuPy; torch, unless it is made to wait for the device). What is looked at: the diagonal of L is
positive, and the squares of every row of L sum up to the diagonal of the matrix, as far as round-off lets them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sepnet.backends.arrays import Array, eps, is_cupy, is_torch

__all__ = ["is_sound", "lower_factor", "triangular"]

# The squares of a row of L sum up to the diagonal of the matrix within this many units of round-off an entry.
SOUND = 4


def lower_factor(xp: Any, matrix: Array) -> Array:
    """Return the lower factors of symmetric matrices (..., n, n); anything, for one that is not positive definite."""
    if is_torch(xp):
        import torch

        return torch.linalg.cholesky_ex(matrix)[0]
    try:
        return xp.linalg.cholesky(matrix)
    except (ValueError, np.linalg.LinAlgError):
        return matrix * float("nan")


def is_sound(xp: Any, lower: Array, squares: Array, expected: Array, terms: int) -> Array:
    """Tell, as an array of shape (), whether factors (B, m, m) belong to positive definite matrices.

    Parameters
    ----------
    xp : module
    lower : array of shape (B, m, m)
    squares : array of shape (B, m)
        Sums of the squares of the rows of L.
    expected : array of shape (B, m)
        Diagonals of the matrices.
    terms : int
        Numbers in a row.
    """
    allowed = SOUND * terms * eps(lower.dtype, xp)
    return xp.all((xp.linalg.diagonal(lower) > 0.0) & (xp.abs(squares - expected) <= allowed * expected))


def triangular(xp: Any, lower: Array, right: Array, *, transposed: bool = False) -> Array:
    """Solve ``G x = right``, or with `transposed` ``G' x = right``, for a lower triangular G.

    Parameters
    ----------
    xp : module
    lower : array of shape (n, n); for torch also (K, n, n)
    right : array of shape (n, k)
    """
    if is_torch(xp):
        import torch

        return torch.linalg.solve_triangular(lower.mT if transposed else lower, right, upper=transposed)
    if is_cupy(xp):
        from cupyx.scipy.linalg import solve_triangular

        return solve_triangular(lower, right, lower=True, trans="T" if transposed else "N")
    # The standard has no triangular solve: a general one, which only the conformance namespace ever takes.
    return xp.linalg.solve(xp.matrix_transpose(lower) if transposed else lower, right)
