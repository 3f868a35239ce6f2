"""The linear system of a mesh axis in an ALS step, ``sum_j A_j C W_j' = F``, by scalar solves of the mesh's size.

A factorisation of the coupled system, dofs times rank unknowns, would fill without bound. With one matrix the columns
separate at once. With two, the generalised eigenvectors of the small weight matrices decouple it into R scalar systems
with shifted matrices (the pencil form of fast diagonalisation; for low-rank solvers of parametric problems Kressner and
Tobler, SIAM J. Matrix Anal. Appl. 32, 2011). With more it is solved by conjugate gradients, preconditioned by one
scalar factorisation of the mean operator and the small mean matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.linalg
import scipy.sparse

from sepnet.bases.sparse_root import factorised
from sepnet.solvers.axis_matrices import AxisMatrices

__all__ = ["solve_sparse"]

# The ridge on small weight matrices, in units of round-off, since columns may be nearly parallel; its growth after a
# failure, and the largest, in units of the root of round-off.
RIDGE, GROWTH, LARGEST = 4.0, 100.0, 100.0
# Shifts closer than this are one, and share a factorisation.
EQUAL = 1e-13
# Conjugate gradients: the residual, in the norm of the preconditioner, relative to that of the load, at which they
# stop, well below what a sweep changes; and their number at most.
SMALL, MOST = 1e-9, 500


def solve_sparse(axis: AxisMatrices, weights: np.ndarray, load: np.ndarray) -> np.ndarray:
    """Solve for the factor C of a mesh axis.

    Parameters
    ----------
    axis : AxisMatrices
        J sparse matrices of size N, symmetric.
    weights : ndarray (J, R, R)
        What the other axes contribute to each matrix, symmetric.
    load : ndarray (N, R)
        Right-hand side F.

    Returns
    -------
    ndarray (N, R)

    Raises
    ------
    ValueError
        If the system is not positive definite.
    """
    scales = [float(np.abs(a.diagonal()).mean()) or 1.0 for a in axis.entries]
    weights = np.asarray([s * (w + w.T) / 2 for s, w in zip(scales, weights, strict=True)], dtype=np.float64)
    matrices = [a.astype(np.float64) / s for s, a in zip(scales, axis.entries, strict=True)]
    eps = float(np.finfo(load.dtype).eps)
    ridge = RIDGE * eps
    while True:
        try:
            return np.asarray(_solved(matrices, weights, ridge, load), dtype=load.dtype)
        except ValueError:
            ridge *= GROWTH
            if ridge > LARGEST * eps**0.5:
                raise


def _solved(
    matrices: Sequence[scipy.sparse.csr_array], weights: np.ndarray, ridge: float, load: np.ndarray
) -> np.ndarray:
    """Solve with a ridge on all weights, each by its own size: their sum alone would leave single ones below zero."""
    weights = weights.copy()
    diagonals = np.einsum("jii->ji", weights)
    sizes = np.abs(diagonals)
    diagonals += ridge * (sizes + sizes.mean(axis=1, keepdims=True))
    metric = np.sum(weights, axis=0)
    if not (np.diagonal(metric) > 0.0).all():
        msg = "the weights of a mesh axis are not positive definite"
        raise ValueError(msg)
    if len(matrices) <= 2:
        return _decoupled(matrices, weights, metric, load)
    return _iterated(matrices, weights, metric, load)


def _decoupled(
    matrices: Sequence[scipy.sparse.csr_array], weights: np.ndarray, metric: np.ndarray, load: np.ndarray
) -> np.ndarray:
    """Solve in the eigenvectors of ``(W_1, W_1 + W_2)``, whose eigenvalues are shares between 0 and 1."""
    shares, vectors = _eigenpairs(weights[0], metric)
    turned = load @ vectors
    columns = np.empty_like(turned)
    done = np.zeros(shares.size, dtype=bool)
    for k in range(shares.size):
        if done[k]:
            continue
        same = np.abs(shares - shares[k]) <= EQUAL
        matrix = shares[k] * matrices[0]
        if len(matrices) == 2:
            matrix = matrix + (1.0 - shares[k]) * matrices[1]
        columns[:, same] = _refined(scipy.sparse.csr_array(matrix), turned[:, same])
        done |= same
    return np.asarray(columns @ vectors.T)


def _eigenpairs(first: np.ndarray, metric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    try:
        shares, vectors = scipy.linalg.eigh(first, metric)
    except np.linalg.LinAlgError as error:
        msg = "the weights of a mesh axis are not positive definite"
        raise ValueError(msg) from error
    return shares, vectors


def _refined(matrix: scipy.sparse.csr_array, right: np.ndarray) -> np.ndarray:
    """Solve a scalar system, with one step of refinement, since the factorisation does not pivot."""
    lu = factorised(matrix, "a shifted matrix of a mesh axis")
    x = lu.solve(right)
    return np.asarray(x + lu.solve(right - matrix @ x))


def _iterated(
    matrices: Sequence[scipy.sparse.csr_array], weights: np.ndarray, metric: np.ndarray, load: np.ndarray
) -> np.ndarray:
    """Solve by conjugate gradients, preconditioned by ``P^-1 F G^-1`` with means P and G."""
    try:
        small = scipy.linalg.cho_factor(metric)
    except np.linalg.LinAlgError as error:
        msg = "the weights of a mesh axis are not positive definite"
        raise ValueError(msg) from error
    rank = metric.shape[0]
    means = [float(np.trace(scipy.linalg.cho_solve(small, w))) / rank for w in weights]
    lu = factorised(sum(c * a for c, a in zip(means, matrices, strict=True)), "the mean matrix of a mesh axis")

    def apply(c: np.ndarray) -> np.ndarray:
        return np.asarray(sum((a @ c) @ w for a, w in zip(matrices, weights, strict=True)))

    def precondition(r: np.ndarray) -> np.ndarray:
        return np.asarray(scipy.linalg.cho_solve(small, lu.solve(r).T).T)

    return _conjugate_gradients(apply, precondition, load)


def _conjugate_gradients(
    apply: Callable[[np.ndarray], np.ndarray], precondition: Callable[[np.ndarray], np.ndarray], load: np.ndarray
) -> np.ndarray:
    x = np.zeros(load.shape)
    r = np.array(load, dtype=np.float64)
    z = precondition(r)
    p = z
    size = first = float(np.sum(r * z))
    for _ in range(MOST):
        if not size > SMALL**2 * first:
            break
        image = apply(p)
        curvature = float(np.sum(p * image))
        if not curvature > 0.0:
            msg = "the system of a mesh axis is not positive definite"
            raise ValueError(msg)
        step = size / curvature
        x, r = x + step * p, r - step * image
        z = precondition(r)
        size, before = float(np.sum(r * z)), size
        p = z + (size / before) * p
    return x
