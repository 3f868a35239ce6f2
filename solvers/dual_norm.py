"""The dual norm of a Galerkin residual, computed from the factors.

``||A u - b||`` in coefficients depends on the basis and means nothing. Here it is measured in ``P^-1``, with P the
Kronecker-sum part of the form: the Riesz map of the test space. The inverse is a sum of exponentials with positive
weights, within 0.1 % of ``1 / s`` on the spectrum, so what is measured is a norm in its own right, equivalent to the
dual norm with constants within 0.05 % of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp, log, prod, sqrt
from typing import final

import numpy as np

from sepnet.backends.arrays import Array, Namespace, device_of, from_host, is_numpy, namespace
from sepnet.forms import BilinearForm
from sepnet.solvers.automaton import Automaton, Transitions
from sepnet.solvers.kronecker_sum import KroneckerSum
from sepnet.solvers.on_device import read
from sepnet.solvers.separable import SeparableMatrix, SeparableVector

__all__ = ["DualNorm"]

# Relative error of the sum of exponentials.
CLOSE = 1e-3
# Multiplications that orthogonalising ``A u - b``, as a tensor train, may take: 100 columns of 40 functions in 10
# variables, 2 s, or 250 columns of 10 functions in 3.
MOST_WORK = 2e10


@final
class DualNorm:
    """Measures ``||A u - b||`` in the dual norm of a symmetric coercive form.

    Inside, the load has dual norm one and everything is spread evenly over the axes, so that products of many factors
    stay in the range of the dtype.

    Parameters
    ----------
    form : BilinearForm or KroneckerSum
        The form, of which the Kronecker-sum part is the Riesz map; or that part where it is at hand.
    matrix, load : SeparableMatrix, SeparableVector
        The assembled form and load, on the host.
    xp, device, dtype
        Where the factors live.

    Attributes
    ----------
    reference : float
        Dual norm of the load.
    """

    def __init__(
        self,
        form: BilinearForm | KroneckerSum,
        matrix: SeparableMatrix,
        load: SeparableVector,
        xp: Namespace,
        device: object,
        dtype: object,
    ) -> None:
        riesz = form if isinstance(form, KroneckerSum) else KroneckerSum.from_form(form)
        weights, exponents = riesz.exponentials(CLOSE)
        weights = weights * np.exp(-riesz.low * exponents)
        damping = [np.exp(-np.outer(exponents, values)) for values in riesz.values]
        loads, automaton, self.reference = _unit_load(riesz, load, weights, damping)

        def put(host: np.ndarray) -> Array:
            return from_host(host, xp, device=device, dtype="int64" if host.dtype.kind == "i" else dtype)

        self._weights, self._exponentials = put(weights), weights.tolist()
        # Transformed matrices V' A_j, vectors V' b_k, and damping exp(-t_q lambda) per axis.
        self._left = [
            put(np.stack([v.T @ a.sparse(j) for j in range(a.count)], axis=1))
            for v, a in zip(riesz.vectors, matrix.axes, strict=True)
        ]
        self._loads = [put(b) for b in loads]
        self._damping = [put(d) for d in damping]
        self._moves = [_Pairs(s, s, put) for s in matrix.automaton.steps]
        self._cross = [_Pairs(s, t, put) for s, t in zip(matrix.automaton.steps, automaton.steps, strict=True)]
        self._trains = [a.to(xp, device, dtype) for a in (matrix.automaton, automaton)]
        self._states = [
            (int(s.to_source.shape[0]), int(t.to_source.shape[0]))
            for s, t in zip(matrix.automaton.steps, automaton.steps, strict=True)
        ]

    def measure(self, factors: Sequence[Array]) -> tuple[float, float]:
        """Return the dual norm of ``A u - b`` and the round-off below which it cannot be seen.

        Near the round-off of the difference ``u'A P^-1 A u - 2 b'P^-1 A u + b'P^-1 b`` the columns of ``A u - b`` are
        orthogonalised instead, if they are few.

        Parameters
        ----------
        factors : sequence of arrays (N_i, R)
            Factors of u.

        Returns
        -------
        value, floor : float
        """
        share = exp(-log(self.reference) / len(factors)) if self.reference > 0.0 else 1.0
        factors = [f * share for f in factors]
        square = cross = None
        xp = namespace(*factors)
        for i, factor in enumerate(factors):
            b, damping = self._loads[i], self._damping[i]
            columns = self._applied(i, factor)
            n, j, rank = (int(k) for k in columns.shape)
            columns = xp.reshape(columns, (n, j * rank))
            count = int(damping.shape[0])
            damped = damping[:, :, None] * columns[None, :, :]
            gram = xp.matmul(xp.matrix_transpose(damped), columns)  # (Q, J R, J R)
            gram = xp.reshape(gram, (count, j, rank, j, rank))
            square = self._moves[i].carry(square, xp.permute_dims(gram, (1, 3, 0, 2, 4)))
            mixed = xp.reshape(xp.matmul(xp.matrix_transpose(damped), b), (count, j, rank, int(b.shape[1])))
            cross = self._cross[i].carry(cross, xp.permute_dims(mixed, (1, 3, 0, 2)))
        one, two = read(*(_weighted(self._weights, v) for v in (square, cross)))
        unit = 1.0 if self.reference > 0.0 else 0.0
        floor = 16 * float(xp.finfo(factors[0].dtype).eps) * (abs(one) + 2 * abs(two) + unit)
        difference = one - 2 * two + unit
        scale = self.reference if self.reference > 0.0 else 1.0
        if difference < 100 * floor:
            rank = int(factors[0].shape[1])
            columns = [s * rank + t for s, t in self._states]
            sizes = [int(left.shape[0]) for left in self._left]
            work = 2 * int(self._weights.shape[0]) * sum(n * c**3 for n, c in zip(sizes, columns, strict=True))
            if work <= MOST_WORK:
                return self._orthogonalised(factors) * scale, 16 * float(xp.finfo(factors[0].dtype).eps) * scale
        return sqrt(max(difference, 0.0)) * scale, sqrt(floor) * scale

    def _applied(self, i: int, factor: Array) -> Array:
        """Return ``V' A_j C`` for all matrices of an axis, (N, J, R)."""
        xp = namespace(factor)
        left = self._left[i]
        n, j = int(left.shape[0]), int(left.shape[1])
        return xp.reshape(xp.reshape(left, (n * j, -1)) @ factor, (n, j, int(factor.shape[1])))

    def _orthogonalised(self, factors: Sequence[Array]) -> float:
        """Return the norm of ``A u - b`` as that of a tensor train, made orthogonal from left to right.

        By its automaton, A has a few states at every cut and ``A u`` that many times the rank of u columns: 2 R for a
        Laplacian, where its terms one by one have d R.
        """
        xp = namespace(*factors)
        applied = [self._applied(i, f) for i, f in enumerate(factors)]
        count = len(self._exponentials)
        norms = [self._train_norm(applied, [xp.sqrt(d[q, :]) for d in self._damping]) for q in range(count)]
        numbers = read(*(number for pair in norms for number in pair))
        terms = zip(self._exponentials, numbers[::2], numbers[1::2], strict=True)
        return sqrt(sum(weight * (exp(logarithm) * norm) ** 2 for weight, norm, logarithm in terms))

    def _train_norm(self, applied: Sequence[Array], roots: Sequence[Array]) -> tuple[Array, Array]:
        """Return a norm, as a number and the logarithm of what it is to be multiplied with."""
        xp = namespace(*applied)
        rank = int(applied[0].shape[2])
        left = xp.ones((1, 1, rank), dtype=applied[0].dtype, device=device_of(self._weights))
        right = xp.ones((1, 1, 1), dtype=applied[0].dtype, device=device_of(self._weights))
        size = xp.zeros_like(self._weights[0])
        last = len(applied) - 1
        for i, (columns, b, root) in enumerate(zip(applied, self._loads, roots, strict=True)):
            one = _carry(self._trains[0].steps[i], left, root[:, None, None] * columns)
            two = _carry(self._trains[1].steps[i], right, (root[:, None] * b)[:, :, None])
            states = (int(one.shape[1]), int(two.shape[1]))
            if i == last:
                break
            flat: Array = xp.concat([xp.reshape(one, (-1, states[0] * rank)), xp.reshape(two, (-1, states[1]))], axis=1)
            # NumPy alone can leave the orthogonal factor out, which is half of the work.
            flat = np.linalg.qr(flat, mode="r") if is_numpy(xp) else xp.linalg.qr(flat, mode="reduced")[1]
            largest = xp.max(xp.abs(flat))
            largest = xp.where(largest == 0.0, xp.ones_like(largest), largest)
            size = size + xp.log(largest)
            flat = flat / largest
            left = xp.reshape(flat[:, : states[0] * rank], (-1, states[0], rank))
            right = xp.reshape(flat[:, states[0] * rank :], (-1, states[1], 1))
        one, two = xp.sum(one, axis=2), xp.sum(two, axis=2)
        return xp.linalg.vector_norm(xp.sum(one, axis=1) - xp.sum(two, axis=1)), size


def _weighted(weights: Array, environment: Array) -> Array:
    """Return the sum over the exponentials, a number where the arrays are."""
    xp = namespace(weights)
    values = xp.sum(xp.reshape(environment, (int(weights.shape[0]), -1)), axis=1)
    return xp.sum(values * weights)


def _carry(step: Transitions, carried: Array, values: Array) -> Array:
    """Carry (k, S, R) over an axis with values (N, J, R): returns (k N, S', R)."""
    xp = namespace(values)
    before = xp.permute_dims(xp.take(carried, step.source, axis=1), (1, 0, 2))  # (moves, k, R)
    here = xp.permute_dims(xp.take(values, step.letter, axis=1), (1, 0, 2))  # (moves, N, R)
    moves, k, rank = (int(m) for m in before.shape)
    product = xp.reshape(before[:, :, None, :] * here[:, None, :, :], (moves, -1))
    total = xp.reshape(step.to_target @ product, (int(step.to_target.shape[0]), k * int(here.shape[1]), rank))
    return xp.permute_dims(total, (1, 0, 2))


def _unit_load(
    riesz: KroneckerSum, load: SeparableVector, weights: np.ndarray, damping: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], Automaton, float]:
    """Return ``V' b_k`` per axis and the load's automaton, scaled to dual norm one, and the norm it had."""
    loads = [v.T @ b.T for v, b in zip(riesz.vectors, load.vectors, strict=True)]
    sizes = [float(np.linalg.norm(b, axis=0).max(initial=0.0)) or 1.0 for b in loads]
    largest = float(np.abs(load.weights).max(initial=0.0)) or 1.0
    loads = [b / size for b, size in zip(loads, sizes, strict=True)]
    # Every term makes one move on the first axis, so that is where all weights can be scaled.
    first = load.automaton.steps[0]
    scaled = {name: getattr(first, name) / largest for name in ("to_source", "to_letter", "to_target")}
    steps = (replace(first, **scaled), *load.automaton.steps[1:])
    env = None
    for b, damp, step in zip(loads, damping, steps, strict=True):
        gram = np.matmul((damp[:, :, None] * b).transpose(0, 2, 1), b)  # (Q, n_b, n_b)
        env = _Pairs(step, step, np.asarray).carry(env, gram.transpose(1, 2, 0))
    norm = sqrt(max(float(_weighted(weights, env)), 0.0))
    if norm == 0.0:
        return loads, replace(load.automaton, steps=steps), 0.0
    loads[0] = loads[0] / norm
    return loads, replace(load.automaton, steps=steps), norm * exp(log(largest) + sum(map(log, sizes)))


@final
class _Pairs:
    """The product of two automata on one axis: moves in both at once."""

    def __init__(self, first: Transitions, second: Transitions, put: Callable[[np.ndarray], Array]) -> None:
        self._first = tuple(put(a) for a in (first.source, first.letter, first.to_target))
        self._second = tuple(put(a) for a in (second.source, second.letter, second.to_target))

    def carry(self, env: Array | None, values: Array) -> Array:
        """Carry (S, T, ...) to (S', T', ...); `values` has shape (J, K, ...)."""
        xp = namespace(values)
        (source, letter, target), (other_source, other_letter, other_target) = self._first, self._second
        chosen = _picked(values, letter, other_letter)
        if env is not None:
            chosen = chosen * _picked(env, source, other_source)
        # One automaton after the other: summing pairs of moves at once takes the square of their number.
        tail = tuple(int(n) for n in values.shape[2:])
        after = (int(target.shape[0]), int(other_target.shape[0]))
        first = target @ xp.reshape(chosen, (int(chosen.shape[0]), -1))
        rest = xp.reshape(first, (after[0], int(chosen.shape[1]), prod(tail)))
        return xp.reshape(xp.matmul(other_target, rest), (*after, *tail))


def _picked(values: Array, rows: Array, columns: Array) -> Array:
    xp = namespace(values)
    return xp.take(xp.take(values, rows, axis=0), columns, axis=1)
