"""Linear systems on a tensor space as sums of Kronecker products: applied, measured, never formed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import final

import numpy as np
import scipy.sparse

from sepnet.backends.arrays import Array, Namespace, from_host, namespace
from sepnet.separable_norm import NOISE, separable_norm
from sepnet.solvers.assembly import LoadTable, MatrixTable
from sepnet.solvers.automaton import Automaton, build_automaton
from sepnet.solvers.axis_matrices import AxisMatrices, stack_matrices
from sepnet.spaces import TensorSpace

__all__ = ["SeparableMatrix", "SeparableVector"]


@final
@dataclass(frozen=True)
class SeparableMatrix:
    """The matrix ``sum_m w_m  A_1[index m1] (x) ... (x) A_d[index md]`` of a bilinear form.

    Parameters
    ----------
    space : TensorSpace
        Trial and test space.
    axes : tuple of AxisMatrices
        The distinct one-dimensional matrices.
    automaton : Automaton
        The table of terms with shared prefixes and suffixes.
    index : ndarray of shape (M, d)
        The table of terms itself.
    weights : ndarray of shape (M,)
        Weights of the terms.
    """

    space: TensorSpace
    axes: tuple[AxisMatrices, ...]
    automaton: Automaton
    index: np.ndarray
    weights: np.ndarray

    @classmethod
    def from_table(cls, table: MatrixTable) -> SeparableMatrix:
        """Build from assembled one-dimensional matrices."""
        axes = tuple(
            stack_matrices(basis, matrices) for basis, matrices in zip(table.space.bases, table.matrices, strict=True)
        )
        automaton = build_automaton(table.index, table.weights, tuple(a.count for a in axes))
        return cls(table.space, axes, automaton, table.index, table.weights)

    def to(self, xp: Namespace, device: object, dtype: object) -> SeparableMatrix:
        """Move the matrices to another namespace; the table stays on the host."""
        axes = tuple(a.to(xp, device, dtype) for a in self.axes)
        return SeparableMatrix(self.space, axes, self.automaton.to(xp, device, dtype), self.index, self.weights)

    def apply(self, factors: Sequence[Array]) -> list[Array]:
        """Return the factors of ``A u``: rank M R, as coefficients of the dual basis."""
        xp = namespace(*factors)
        result = []
        for i, (axis, factor) in enumerate(zip(self.axes, factors, strict=True)):
            applied = axis.apply(factor)
            columns = [applied[:, int(j), :] for j in self.index[:, i]]
            if i == 0:
                columns = [c * float(w) for c, w in zip(columns, self.weights, strict=True)]
            result.append(xp.concat(columns, axis=1))
        return result

    def inner(self, test: Sequence[Array], trial: Sequence[Array]) -> float:
        """Return ``v' A u``."""
        xp = namespace(*test, *trial)
        env = None
        for axis, step, v, u in zip(self.axes, self.automaton.steps, test, trial, strict=True):
            gram = axis.gram(v, axis.apply(u))
            env = step.left(xp.ones_like(gram[:1, :, :]) if env is None else env, gram)
        return float(xp.sum(env))

    def energy(self, factors: Sequence[Array]) -> float:
        """Return ``u' A u``."""
        return self.inner(factors, factors)

    def kronecker(self) -> scipy.sparse.csc_array:
        """Return the sparse matrix of size prod(n_i): for small problems only."""
        states: dict[int, scipy.sparse.csr_array] = {0: scipy.sparse.csr_array(np.ones((1, 1)))}
        for axis, step in zip(self.axes, self.automaton.steps, strict=True):
            following: dict[int, scipy.sparse.csr_array] = {}
            weights = step.to_target.sum(axis=0)
            for move, weight in enumerate(weights):
                matrix = weight * axis.sparse(int(step.letter[move]))
                part = scipy.sparse.csr_array(scipy.sparse.kron(states[int(step.source[move])], matrix, format="csr"))
                target = int(step.target[move])
                following[target] = following[target] + part if target in following else part
            states = following
        return scipy.sparse.csc_array(states[0])

    def is_symmetric(self) -> bool:
        """Tell whether ``v' A u = u' A v`` up to round-off, for three pairs of random rank-one functions (host only).

        For forms that are symmetric without looking so; `BilinearForm.is_symmetric` reads it off the terms.
        """
        rng = np.random.default_rng(0)
        for _ in range(3):
            u, v = ([rng.standard_normal((n, 1)) for n in self.space.shape] for _ in range(2))
            noise = 64 * float(np.finfo(np.float64).eps) * self.magnitude(v, u)
            if abs(self.inner(v, u) - self.inner(u, v)) > noise:
                return False
        return True

    def magnitude(self, test: Sequence[np.ndarray], trial: Sequence[np.ndarray]) -> float:
        """Return ``|v|' |A| |u|``: the round-off of ``v' A u`` is proportional to it (host only)."""
        env = np.ones((1, 1, 1))
        for axis, step, v, u in zip(self.axes, self.automaton.steps, test, trial, strict=True):
            absolute = axis.absolute()
            gram = absolute.gram(np.abs(v), absolute.apply(np.abs(u)))
            moves = replace(step, to_target=np.abs(step.to_target))
            env = moves.left(env, gram)
        return float(np.sum(env))


@final
@dataclass(frozen=True)
class SeparableVector:
    """The vector ``sum_m w_m  b_1[index m1] (x) ... (x) b_d[index md]`` of a linear form.

    Parameters
    ----------
    vectors : tuple of arrays (n_b, N)
        The distinct one-dimensional vectors.
    automaton : Automaton
        The table of terms with shared prefixes and suffixes.
    index, weights : ndarray
        The table of terms itself, (M, d) and (M,).
    noise : float
        Norm of what was added up to form the terms: round-off is proportional to it.
    """

    vectors: tuple[Array, ...]
    automaton: Automaton
    index: np.ndarray
    weights: np.ndarray
    noise: float = 0.0

    @classmethod
    def from_table(cls, table: LoadTable) -> SeparableVector:
        """Build from assembled one-dimensional vectors."""
        counts = tuple(int(v.shape[0]) for v in table.vectors)
        automaton = build_automaton(table.index, table.weights, counts)
        return cls(table.vectors, automaton, table.index, table.weights, table.noise)

    @property
    def is_zero(self) -> bool:
        """Tell whether there is no term, or the terms cancel exactly."""
        return int(self.automaton.steps[0].letter.shape[0]) == 0

    def norm(self) -> float:
        """Return the Euclidean norm, exactly zero if it is the round-off of its terms (host only)."""
        if self.is_zero:
            return 0.0
        columns = [v[rows].T for v, rows in zip(self.vectors, self.index.T, strict=True)]
        columns[0] = columns[0] * self.weights
        norm = separable_norm(columns)
        if not isfinite(norm):
            msg = "data or coefficients overflow or are NaN: scale them, or give finite values"
            raise ValueError(msg)
        return norm if norm > NOISE * self.noise else 0.0

    def to(self, xp: Namespace, device: object, dtype: object) -> SeparableVector:
        """Move the vectors to another namespace; the table stays on the host."""
        vectors = tuple(from_host(v, xp, device=device, dtype=dtype) for v in self.vectors)
        return SeparableVector(vectors, self.automaton.to(xp, device, dtype), self.index, self.weights, self.noise)

    def inner(self, factors: Sequence[Array]) -> float:
        """Return ``b' u``."""
        if self.weights.size == 0:
            return 0.0
        xp = namespace(*factors)
        env = None
        for vectors, step, factor in zip(self.vectors, self.automaton.steps, factors, strict=True):
            values = vectors @ factor
            env = step.left(xp.ones_like(values[:1, :]) if env is None else env, values)
        return float(xp.sum(env))

    def dense(self) -> np.ndarray:
        """Return the vector of size prod(n_i), for small problems only."""
        total = np.zeros(int(np.prod([v.shape[1] for v in self.vectors])))
        for row, weight in zip(self.index, self.weights, strict=True):
            part = np.array([weight])
            for vectors, j in zip(self.vectors, row, strict=True):
                part = np.kron(part, vectors[j])
            total += part
        return total
