"""The linear system of one axis (an ALS step, a diagonal block of Gauss-Newton), solved by the kind of the axis.

The unknowns ``C[n, r]`` are ordered basis-index slow, rank-index fast, so that ``H = sum_j A_j (x) W_j`` is
block-banded with half-bandwidth ``(w + 1) R - 1``: LAPACK's band Cholesky. A periodic axis is a band plus a border,
dense axes a dense Cholesky, a mesh is solved by scalar sparse systems (`sparse_systems`). Outside NumPy bands are
factorised by blocks, where the arrays are (`block_band`): a step reads one number, its relative correction, in which
it sees whether the factorisation was one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import scipy.linalg
from scipy.linalg import lapack

from sepnet.backends import dispatch
from sepnet.backends.arrays import Array, eps, is_numpy, namespace
from sepnet.solvers.axis_matrices import AxisMatrices
from sepnet.solvers.block_band import Factored, factorise_band, factorise_bordered, factorise_dense
from sepnet.solvers.sparse_systems import solve_sparse

__all__ = ["NotPositiveDefiniteError", "factorise_axis", "solve_axis"]

# The ridge in units of round-off, its growth after a failure, and, in units of the square root of round-off, how large
# it may become before the system counts as not positive definite: in any dtype it must stay a perturbation.
RIDGE = 4.0
GROWTH = 100.0
LARGEST = 100.0
# Steps of iterative refinement at most, and the relative step that is small enough.
REFINEMENTS, SMALL = 3, 1e-7
MESSAGE = "the local system is not positive definite"


class NotPositiveDefiniteError(ArithmeticError):
    """The system of an ALS step is not positive definite: the form is not coercive."""


def solve_axis(axis: AxisMatrices, weights: Array, load: Array) -> Array:
    """Solve ``sum_j A_j C W_j' = F`` for the factor C of one axis.

    A ridge keeps the factorisation possible when columns become parallel. On fine meshes it would cost more digits than
    round-off does (second order, 1600 cells: an error of 5e-3 instead of 5e-6), so the solution is refined with the
    matrix without ridge.

    Parameters
    ----------
    axis : AxisMatrices
        J matrices of size N.
    weights : array of shape (J, R, R)
        What the other axes contribute to each matrix.
    load : array of shape (N, R)
        Right-hand side F.

    Returns
    -------
    array of shape (N, R)

    Raises
    ------
    NotPositiveDefiniteError
        If the factorisation fails even with a ridge of 100 square roots of round-off.
    """
    if axis.kind == "sparse":
        try:
            return solve_sparse(axis, weights, load)
        except ValueError as error:
            raise NotPositiveDefiniteError(MESSAGE) from error
    on_numpy = is_numpy(namespace(axis.values, weights, load))
    for factored in _factorisations(axis, weights):
        if on_numpy and not factored.sound:  # costs nothing to know
            continue
        solution = _refined(axis, weights, load, factored)
        if solution is not None:
            return solution
    raise NotPositiveDefiniteError(MESSAGE)


def factorise_axis(axis: AxisMatrices, weights: Array) -> Callable[[Array], Array]:
    """Factorise ``C -> sum_j A_j C W_j'`` once, to solve with it for many loads.

    The ridge is as in `solve_axis` but is not refined away: for a preconditioner, which applies the factorisation
    dozens of times, a refinement would cost more than the digits it gives. A shift goes into the weights: with
    ``(1 + s) W_j[r, r]`` on their diagonals every term r is damped by s times its own energy.

    Parameters
    ----------
    axis : AxisMatrices
        J matrices of size N.
    weights : array of shape (J, R, R)
        What the other axes contribute to each matrix.

    Returns
    -------
    callable
        Takes a load of shape (N, R) and returns the solution of that shape.

    Raises
    ------
    NotPositiveDefiniteError
        If the factorisation fails even with a ridge of 100 square roots of round-off.
    """
    for factored in _factorisations(axis, weights, repeated=True):
        if bool(factored.sound):
            break
    else:
        raise NotPositiveDefiniteError(MESSAGE)

    def solve(load: Array) -> Array:
        xp = namespace(load)
        return xp.reshape(factored.solve(xp.reshape(load, (-1,))), tuple(load.shape))

    return solve


def _factorisations(axis: AxisMatrices, weights: Array, *, repeated: bool = False) -> Iterator[Factored]:
    """Yield the system factorised with larger and larger ridges."""
    xp = namespace(axis.values, weights)
    factorise: Callable[..., Factored] = partial(_factorise_generic, repeated=repeated)
    if is_numpy(xp):
        factorise = {"banded": _factorise_banded, "cyclic": _factorise_cyclic, "dense": _factorise_dense}[axis.kind]
    ridge = RIDGE * eps(weights.dtype, xp)
    while ridge <= LARGEST * eps(weights.dtype, xp) ** 0.5:
        # Cholesky works in place, so the matrix is filled again after a failure; that is rare.
        yield factorise(axis, weights, ridge)
        ridge *= GROWTH


def _refined(axis: AxisMatrices, weights: Array, load: Array, factored: Factored) -> Array | None:
    """Solve, and refine with the matrix without ridge until the steps are small or no longer shrink.

    Returns None if the matrix is not positive definite or the solution not finite. Each step reads one number, in which
    all of this is seen: the relative size of the step, NaN for a failure.
    """
    xp = namespace(load)
    shape = tuple(load.shape)
    flat = xp.reshape(load, (-1,))
    x = factored.solve(flat)
    last = float("inf")
    for k in range(REFINEMENTS):
        step = factored.solve(flat - xp.reshape(axis.times(weights, xp.reshape(x, shape)), (-1,)))
        # the largest numbers: squares of large or small ones need be none
        size, norm = xp.max(xp.abs(step)), xp.max(xp.abs(x + step))
        relative = size / xp.where(norm > 0.0, norm, xp.ones_like(norm))
        if k == 0:
            relative = xp.where(factored.sound, relative, xp.full_like(relative, float("nan")))
        share = float(relative)
        if k == 0 and not share < last:
            return None
        if not share < last / 2:
            break
        x, last = x + step, share
        if share <= SMALL:
            break
    return xp.reshape(x, shape)


def _regularise(diagonal: np.ndarray, ridge: float) -> None:
    # Relative to each entry, so that scaling does not matter, plus a trace of the mean, so that empty columns do not.
    diagonal += ridge * (diagonal + diagonal.mean())


def _unsound(b: np.ndarray) -> np.ndarray:
    return np.full_like(b, np.nan)


def _factorise_banded(axis: AxisMatrices, weights: np.ndarray, ridge: float) -> Factored:
    band = dispatch.fill_band(axis.lower, weights)
    _regularise(band[0], ridge)
    factorise, substitute = _band_lapack(weights.dtype)
    factor, info = factorise(band, lower=1, overwrite_ab=1)
    return Factored(lambda b: substitute(factor, b, lower=1)[0], np.asarray(info == 0))


def _band_lapack(dtype: Any) -> tuple[Any, Any]:
    return (lapack.dpbtrf, lapack.dpbtrs) if dtype == np.float64 else (lapack.spbtrf, lapack.spbtrs)


def _factorise_dense(axis: AxisMatrices, weights: np.ndarray, ridge: float) -> Factored:
    matrix = dispatch.fill_dense(axis.dense(), weights)
    _regularise(np.einsum("ii->i", matrix), ridge)
    try:
        factor = scipy.linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        return Factored(_unsound, np.asarray(False))
    return Factored(lambda b: scipy.linalg.cho_solve(factor, b, check_finite=False), np.asarray(True))


def _factorise_cyclic(axis: AxisMatrices, weights: np.ndarray, ridge: float) -> Factored:
    """Band for all but the last w basis functions, which form the border; then a Schur complement."""
    n, w, rank = axis.size, axis.width, weights.shape[1]
    if n < 3 * w + 1:
        return _factorise_dense(axis, weights, ridge)
    inner = n - w
    band = dispatch.fill_band(axis.inner, weights)
    coupling = np.tensordot(axis.last_rows(), weights, axes=(1, 0)).transpose(0, 2, 1, 3).reshape(w * rank, n * rank)
    outer, corner = coupling[:, : inner * rank], coupling[:, inner * rank :].copy()
    _regularise(band[0], ridge)
    _regularise(np.einsum("ii->i", corner), ridge)
    factorise, substitute = _band_lapack(weights.dtype)
    factor, info = factorise(band, lower=1, overwrite_ab=1)
    if info != 0:
        return Factored(_unsound, np.asarray(False))
    solved = substitute(factor, np.ascontiguousarray(outer.T), lower=1)[0]
    try:
        small = scipy.linalg.cho_factor(corner - outer @ solved, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return Factored(_unsound, np.asarray(False))

    def solve(b: np.ndarray) -> np.ndarray:
        first = substitute(factor, b[: inner * rank], lower=1)[0]
        last = scipy.linalg.cho_solve(small, b[inner * rank :] - outer @ first, check_finite=False)
        return np.concatenate([first - solved @ last, last])

    return Factored(solve, np.asarray(True))


def _factorise_generic(axis: AxisMatrices, weights: Array, ridge: float, *, repeated: bool) -> Factored:
    if axis.kind == "banded":
        return factorise_band(axis.lower, weights, ridge, repeated=repeated)
    if axis.kind == "cyclic" and axis.size >= 3 * axis.width + 1:
        return factorise_bordered(axis.inner, axis.last_rows(), weights, ridge, repeated=repeated)
    return factorise_dense(dispatch.fill_dense(axis.dense(), weights), ridge)
