"""The dual norm of a Galerkin residual, computed from the factors.

``||A u - b||`` in coefficients depends on the basis and means nothing. Here it is measured in ``P^-1``, with P the
Kronecker-sum part of the form, ``P = c M + sum_i M (x) .. K_i .. (x) M``: the Riesz map of the test space. In the
M-orthonormal eigenvectors of the one-dimensional pencils (fast diagonalisation, Lynch, Rice and Thomas, Numer. Math. 6,
1964) P is the diagonal ``c + sum_i lambda_i``, and ``1 / s`` is replaced by a sum of exponentials, which separates
(Hackbusch, Tensor Spaces, section 9.8.2). The sum has positive weights and is within 0.1 % of ``1 / s``, so what is
measured is a norm in its own right, equivalent to the dual norm with constants within 0.1 % of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, exp, log, sqrt
from typing import final

import numpy as np
import scipy.linalg

from sepnet.backends.arrays import Array, Namespace, from_host, namespace
from sepnet.forms import BilinearForm
from sepnet.functions.axis_maps import mass
from sepnet.separable_norm import MANY_COLUMNS, separable_norm
from sepnet.solvers.assembly import assemblers
from sepnet.solvers.automaton import Transitions
from sepnet.solvers.separable import SeparableMatrix, SeparableVector

__all__ = ["DualNorm", "exponential_sum"]

# Trapezoidal step of the integral for 1/s: relative error 2 |Gamma(1 + 2 pi i / h)|, 1e-3 at h = 1.
STEP = 1.0


def exponential_sum(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weights w and exponents t with ``sum_q w_q exp(-t_q s)`` within 0.2 % of ``1 / s`` for s in [low, high].

    Trapezoidal rule for ``1 / s = int exp(y - s exp(y)) dy`` (Beylkin and Monzon, Appl. Comput. Harmon. Anal. 28,
    2010).
    """
    first, last = -log(high) - 7.0, log(9.0 / low)
    y = first + STEP * np.arange(ceil((last - first) / STEP) + 1)
    return STEP * np.exp(y), np.exp(y)


@final
class DualNorm:
    """Measures ``||A u - b||`` in the dual norm of a symmetric coercive form.

    Parameters
    ----------
    form : BilinearForm
        The form; its Kronecker-sum part is the Riesz map.
    matrix, load : SeparableMatrix, SeparableVector
        The assembled form and load, on the host.
    xp, device, dtype
        Where the factors live.
    """

    def __init__(
        self,
        form: BilinearForm,
        matrix: SeparableMatrix,
        load: SeparableVector,
        xp: Namespace,
        device: object,
        dtype: object,
    ) -> None:
        vectors, values, shift = _riesz(form)
        low = shift + sum(float(v[0]) for v in values)
        high = shift + sum(float(v[-1]) for v in values)
        low = max(low, 1e-10 * high)
        weights, exponents = exponential_sum(low, high)
        weights = weights * np.exp(-shift * exponents)
        self._matrix, self._load = matrix.automaton, load.automaton
        self._terms = (matrix.index, matrix.weights, load.index, load.weights)

        def put(host: np.ndarray) -> Array:
            return from_host(host, xp, device=device, dtype="int64" if host.dtype.kind == "i" else dtype)

        self._weights = put(weights)
        # Transformed matrices V' A_j, vectors V' b_k, and damping exp(-t_q lambda) per axis.
        self._left = [
            put(np.stack([v.T @ a.sparse(j) for j in range(a.count)], axis=1))
            for v, a in zip(vectors, matrix.axes, strict=True)
        ]
        self._loads = [put(v.T @ b.T) for v, b in zip(vectors, load.vectors, strict=True)]
        self._damping = [put(np.exp(-exponents[:, None] * np.maximum(lam, 0.0))) for lam in values]
        self._moves = [_pairs(s, s, put) for s in self._matrix.steps]
        self._cross = [_pairs(s, t, put) for s, t in zip(self._matrix.steps, self._load.steps, strict=True)]
        self._own = [_pairs(t, t, put) for t in self._load.steps]
        self.reference = sqrt(max(self._load_square(), 0.0))

    def _load_square(self) -> float:
        env = None
        for b, damping, pair in zip(self._loads, self._damping, self._own, strict=True):
            xp = namespace(b)
            gram = xp.matmul((damping[:, :, None] * b[None, :, :]).mT, b)  # (Q, n_b, n_b)
            env = pair.carry(env, xp.permute_dims(gram, (1, 2, 0)))
        xp = namespace(self._weights)
        return float(xp.sum(xp.reshape(env, (-1,)) * self._weights))

    def measure(self, factors: Sequence[Array]) -> tuple[float, float]:
        """Return the dual norm of ``A u - b`` and the round-off below which it cannot be seen.

        Near the round-off of the difference ``u'A P^-1 A u - 2 b'P^-1 A u + b'P^-1 b`` the columns of ``A u - b`` are
        orthogonalised instead, if they are few.
        """
        square = cross = None
        xp = namespace(*factors)
        for i, factor in enumerate(factors):
            left, b, damping = self._left[i], self._loads[i], self._damping[i]
            n, j, rank = int(left.shape[0]), int(left.shape[1]), int(factor.shape[1])
            columns = xp.reshape(xp.reshape(left, (n * j, -1)) @ factor, (n, j * rank))
            count = int(damping.shape[0])
            damped = damping[:, :, None] * columns[None, :, :]
            gram = xp.matmul(damped.mT, columns)  # (Q, J R, J R)
            gram = xp.reshape(gram, (count, j, rank, j, rank))
            square = self._moves[i].carry(square, xp.permute_dims(gram, (1, 3, 0, 2, 4)))
            mixed = xp.reshape(xp.matmul(damped.mT, b), (count, j, rank, int(b.shape[1])))
            cross = self._cross[i].carry(cross, xp.permute_dims(mixed, (1, 3, 0, 2)))
        one = float(xp.sum(xp.sum(xp.reshape(square, (int(self._weights.shape[0]), -1)), axis=1) * self._weights))
        two = float(xp.sum(xp.sum(xp.reshape(cross, (int(self._weights.shape[0]), -1)), axis=1) * self._weights))
        floor = 16 * float(xp.finfo(factors[0].dtype).eps) * (abs(one) + 2 * abs(two) + self.reference**2)
        difference = one - 2 * two + self.reference**2
        matrix_index, _, load_index, _ = self._terms
        if difference < 100 * floor and len(matrix_index) * int(factors[0].shape[1]) + len(load_index) <= MANY_COLUMNS:
            return self._orthogonalised(factors)
        return sqrt(max(difference, 0.0)), sqrt(floor)

    def _orthogonalised(self, factors: Sequence[Array]) -> tuple[float, float]:
        xp = namespace(*factors)
        matrix_index, matrix_weights, load_index, load_weights = self._terms
        columns = []
        for i, factor in enumerate(factors):
            first = i == 0
            applied = [
                (self._left[i][:, int(j), :] @ factor) * (float(w) if first else 1.0)
                for j, w in zip(matrix_index[:, i], matrix_weights, strict=True)
            ]
            loads = [
                self._loads[i][:, int(k)][:, None] * (-float(w) if first else 1.0)
                for k, w in zip(load_index[:, i], load_weights, strict=True)
            ]
            columns.append(xp.concat([*applied, *loads], axis=1))
        total = 0.0
        for q in range(int(self._weights.shape[0])):
            damped = [xp.sqrt(d[q, :])[:, None] * c for d, c in zip(self._damping, columns, strict=True)]
            total += float(self._weights[q]) * separable_norm(damped) ** 2
        return sqrt(total), 16 * float(xp.finfo(factors[0].dtype).eps) * self.reference


@final
class _Pairs:
    """The product of two automata on one axis: moves in both at once."""

    def __init__(
        self, first: Array, second: Array, letters: tuple[Array, Array], target: Array, states: tuple[int, int]
    ) -> None:
        self.first, self.second = first, second
        self.letters, self.target = letters, target
        self.states = states

    def carry(self, env: Array | None, values: Array) -> Array:
        """Carry (S T, ...) to (S' T', ...); `values` has shape (J, K, ...)."""
        xp = namespace(values)
        tail = tuple(int(n) for n in values.shape[2:])
        k = int(values.shape[1])
        flat = xp.reshape(values, (-1, *tail))
        chosen = xp.take(flat, self.letters[0] * k + self.letters[1], axis=0)
        if env is not None:
            chosen = chosen * xp.take(env, self.first * self.states[1] + self.second, axis=0)
        total = self.target @ xp.reshape(chosen, (int(chosen.shape[0]), -1))
        return xp.reshape(total, (int(total.shape[0]), *tail))


def _pairs(a: Transitions, b: Transitions, put: Callable[[np.ndarray], Array]) -> _Pairs:
    na, nb = a.source.size, b.source.size
    left, right = np.repeat(np.arange(na), nb), np.tile(np.arange(nb), na)
    weight = (a.to_target.sum(axis=0)[left]) * (b.to_target.sum(axis=0)[right])
    states = (a.to_source.shape[0], b.to_source.shape[0])
    after = b.to_target.shape[0]
    target = np.zeros((a.to_target.shape[0] * after, left.size))
    target[a.target[left] * after + b.target[right], np.arange(left.size)] = weight
    letters = (put(a.letter[left]), put(b.letter[right]))
    return _Pairs(put(a.source[left]), put(b.source[right]), letters, put(target), states)


def _riesz(form: BilinearForm) -> tuple[list[np.ndarray], list[np.ndarray], float]:
    """Return per axis the eigenvectors and eigenvalues of the Kronecker-sum part, and the multiple of the mass."""
    space = form.space
    masses = [mass(b) for b in space.bases]
    stiff = [np.zeros_like(m) for m in masses]
    shift = 0.0
    axes = assemblers(space, [t for pair in form.pairs for t in pair])
    for trial, test in form.pairs:
        orders = [(trial.factor(n).order, test.factor(n).order) for n in space.names]
        if any(a != b for a, b in orders) or sum(a > 0 for a, _ in orders) > 1:
            continue
        weight = trial.weight * test.weight
        active = next((i for i, (a, _) in enumerate(orders) if a > 0), None)
        found = None
        for i, name in enumerate(space.names):
            one = axes[name].matrix(trial.factor(name), test.factor(name)).toarray()
            if i == active:
                found = (one + one.T) / 2
            else:
                weight *= float(np.trace(one) / np.trace(masses[i]))
        if active is None:
            shift += weight
        elif found is not None:
            stiff[active] += weight * found
    return _pencils(masses, stiff, shift)


def _pencils(
    masses: Sequence[np.ndarray], stiff: Sequence[np.ndarray], shift: float
) -> tuple[list[np.ndarray], list[np.ndarray], float]:
    vectors, values = [], []
    for m, k in zip(masses, stiff, strict=True):
        lam, v = scipy.linalg.eigh(k, m)
        vectors.append(v)
        values.append(np.maximum(lam, 0.0))
    total = max(shift, 0.0) + sum(float(v[-1]) for v in values)
    if total <= 0.0:
        return vectors, values, 1.0
    return vectors, values, max(shift, 0.0, 0.0 if sum(float(v[0]) for v in values) > 0 else exp(-23) * total)
