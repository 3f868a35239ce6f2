"""Non-symmetric Galerkin systems as minimisation: the dual norm of the residual.

``A u = b`` with A not symmetric (time, wind) minimises nothing in itself, and ALS on it need not even converge. What
is minimised instead is ``||A u - b||`` in ``P^-1``, P the Kronecker-sum Riesz map of the test space (Lynch, Rice and
Thomas for its inverse, see `kronecker_sum`; minimal residuals in a dual norm: Billaud-Friess, Nouy and Zahm, ESAIM:
M2AN 48, 2014). With ``P^-1 = sum_q w_q E_q1 (x) .. (x) E_qd`` its normal equations

    A' P^-1 A u = A' P^-1 b

are again a sum of Kronecker products, symmetric and positive definite, and every solver for symmetric systems applies.
The sum of exponentials need not be close to the inverse for that: any positive one measures the residual in an
equivalent norm. Its matrices are dense, one for each pair of matrices of A and each exponential.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import final

import numpy as np

from sepnet.solvers.automaton import build_automaton
from sepnet.solvers.axis_matrices import AxisMatrices
from sepnet.solvers.kronecker_sum import KroneckerSum
from sepnet.solvers.separable import SeparableMatrix, SeparableVector

__all__ = ["NormalForm", "normal_form"]

# Relative error of the sum of exponentials: the norm is within 2.5 % of the dual norm.
CLOSE = 0.05


@final
@dataclass(frozen=True)
class NormalForm:
    """The normal equations of a Galerkin system in the dual norm of P.

    Parameters
    ----------
    matrix : SeparableMatrix
        ``A' P^-1 A``.
    load : SeparableVector
        ``A' P^-1 b / reference``.
    reference : float
        The dual norm of b: the unknown of the normal equations is u divided by it, and the squared relative residual
        ``u' A' P^-1 A u - 2 u' A' P^-1 b + 1``.
    """

    matrix: SeparableMatrix
    load: SeparableVector
    reference: float


def normal_form(matrix: SeparableMatrix, load: SeparableVector, riesz: KroneckerSum) -> NormalForm:
    """Return the normal equations (set-up, on the host).

    Parameters
    ----------
    matrix, load : SeparableMatrix, SeparableVector
        A and b.
    riesz : KroneckerSum
        P.
    """
    weights, exponents = riesz.exponentials(CLOSE)
    weights = weights * np.exp(-riesz.low * exponents)
    table = _Table(riesz, exponents)
    terms = [
        (m, q, k) for q in range(weights.size) for m in range(matrix.weights.size) for k in range(matrix.weights.size)
    ]
    rows = [
        (m, q, k) for q in range(weights.size) for m in range(matrix.weights.size) for k in range(load.weights.size)
    ]
    A, b = matrix.weights, load.weights
    square = np.array([weights[q] * A[m] * A[k] for m, q, k in terms])
    mixed = np.array([weights[q] * A[m] * b[k] for m, q, k in rows])
    constant = weights[:, None, None] * np.outer(b, b)
    axes, vectors, indices, loads = [], [], [], []
    for i, axis in enumerate(matrix.axes):
        left = [axis.sparse(j) for j in range(axis.count)]
        right = load.vectors[i]
        numbers, stack = _numbered([(matrix.index[m, i], table.kind(i, q), matrix.index[k, i]) for m, q, k in terms])
        products = [left[j].T @ (table.inverse(i, e) @ left[k]) for j, e, k in stack]
        axes.append(AxisMatrices("dense", np.stack(products, axis=1), None, axis.size - 1))
        indices.append(numbers)
        numbers, stack = _numbered([(matrix.index[m, i], table.kind(i, q), load.index[k, i]) for m, q, k in rows])
        vectors.append(np.stack([left[j].T @ (table.inverse(i, e) @ right[k]) for j, e, k in stack]))
        loads.append(numbers)
        grams = np.stack([right @ table.inverse(i, table.kind(i, q)) @ right.T for q in range(weights.size)])
        constant = constant * grams[:, load.index[:, i][:, None], load.index[:, i][None, :]]
    reference = sqrt(float(np.sum(constant)))
    index, rows_index = np.stack(indices, axis=1), np.stack(loads, axis=1)
    automaton = build_automaton(index, square, tuple(a.count for a in axes))
    mixed = mixed / reference
    counts = tuple(int(v.shape[0]) for v in vectors)
    return NormalForm(
        SeparableMatrix(matrix.space, tuple(axes), automaton, index, square),
        SeparableVector(tuple(vectors), build_automaton(rows_index, mixed, counts), rows_index, mixed, load.noise),
        reference,
    )


@final
class _Table:
    """The factors ``E_qi = V exp(-t_q lambda) V'`` of the exponentials, made once each."""

    def __init__(self, riesz: KroneckerSum, exponents: np.ndarray) -> None:
        self._riesz, self._exponents = riesz, exponents
        self._known: dict[tuple[int, int], np.ndarray] = {}

    def kind(self, axis: int, q: int) -> int:
        """Return the number of the exponential on an axis; on one without stiffness all are the same."""
        return q if self._riesz.values[axis].any() else 0

    def inverse(self, axis: int, kind: int) -> np.ndarray:
        """Return the matrix E."""
        if (axis, kind) not in self._known:
            vectors = self._riesz.vectors[axis]
            damping = np.exp(-self._exponents[kind] * self._riesz.values[axis])
            self._known[axis, kind] = (vectors * damping) @ vectors.T
        return self._known[axis, kind]


def _numbered(keys: list[tuple[int, int, int]]) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Return the numbers of the keys among the distinct ones, and these."""
    known: dict[tuple[int, int, int], int] = {}
    numbers = [known.setdefault((int(a), int(b), int(c)), len(known)) for a, b, c in keys]
    return np.array(numbers, dtype=np.int64), list(known)
