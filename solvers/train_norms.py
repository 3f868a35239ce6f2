"""Residuals of tensor trains without cancellation: the residual is itself a train, and is orthogonalised.

An operator is a train whose ranks are the states of its automaton, so that ``L u - f`` is one of ranks (states times
rank of u) plus rank of f, exactly. Its norm by QR factorisations sees what the difference of squares cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, hypot, sqrt
from typing import Any, final

import numpy as np

from sepnet.backends.arrays import Array, Namespace, as_namespace, device_of, from_host, namespace
from sepnet.functions.trains import add_trains, cp_to_train, scale, train_norm
from sepnet.operators import Operator
from sepnet.solvers.assembly import AxisAssembler, assemblers
from sepnet.solvers.automaton import Automaton, Transitions, build_automaton
from sepnet.solvers.kronecker_sum import KroneckerSum
from sepnet.solvers.lifting import separable_values
from sepnet.solvers.on_device import read, rows
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.solvers.system import System, applied
from sepnet.spaces import TensorSpace
from sepnet.terms import Factor

__all__ = ["TrainDualNorm", "multiplied", "train_residual"]

# Relative error of the sum of exponentials that measures a dual norm; the norm is within half of it.
CLOSE = 1e-3
# A squared relative residual that inner products see with two digits: the squares subtracted are about one.
SEEN = 2e-14


def train_residual(system: System, lift: Any, cores: Sequence[np.ndarray], order: Sequence[int]) -> float:
    """Return the least-squares residual norm of ``lift + v``.

    Parameters
    ----------
    system : System
        The problem.
    lift : CP or None
        The lifted data.
    cores : sequence of ndarray (r, n, r')
        v, on the host.
    order : sequence of int
        The order of the axes along the train.
    """
    norms = []
    for operator, data in system.blocks:
        rest = data - applied(operator, lift)
        axes = assemblers(system.space, (*rest.terms, *operator.terms))
        image = _image(system.space, operator, axes, cores, order)
        if rest.terms:
            values = separable_values(system.space, rest, axes, operator.face)
            image = add_trains(image, scale(cp_to_train([values[k] for k in order]), -1.0))
        norms.append(train_norm(image))
    return hypot(*norms)


def _image(
    space: TensorSpace,
    operator: Operator,
    axes: dict[str, AxisAssembler],
    cores: Sequence[np.ndarray],
    order: Sequence[int],
) -> list[np.ndarray]:
    """Return ``L v`` at the quadrature points, scaled by root weights, as a train."""
    letters: list[list[np.ndarray]] = []
    index = np.zeros((len(operator.terms), len(order)), dtype=np.int64)
    for place, k in enumerate(order):
        name = space.names[k]
        known: dict[Factor, int] = {}
        for m, term in enumerate(operator.terms):
            index[m, place] = known.setdefault(term.factor(name), len(known))
        tables = [axes[name].table(f) for f in known]
        letters.append([(t.toarray() * np.sqrt(w)[:, None]) for t, w in tables])
    weights = np.array([t.weight for t in operator.terms])
    automaton = build_automaton(index, weights, tuple(len(ls) for ls in letters))
    return multiplied(automaton, letters, cores)


def multiplied(
    automaton: Automaton, letters: Sequence[Sequence[np.ndarray]], cores: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Return the cores of A u, ranks (states x rank of u)."""
    result = []
    for step, matrices, core in zip(automaton.steps, letters, cores, strict=True):
        before, after = step.states
        a, _, c = core.shape
        image = np.zeros((before, a, matrices[0].shape[0], after, c))
        weights = step.to_letter.sum(axis=0)
        products = {j: np.einsum("mn,anc->amc", matrices[j], core, optimize=True) for j in set(step.letter.tolist())}
        for s, j, t, w in zip(step.source, step.letter, step.target, weights, strict=True):
            image[s, :, :, t, :] += w * products[int(j)]
        result.append(image.reshape(before * a, -1, after * c))
    return result


@final
class TrainDualNorm:
    """Measures ``||A u - b||`` of a train u in the dual norm of a Kronecker sum, in float64 where the cores are.

    Parameters
    ----------
    riesz : KroneckerSum
        P; the norm is that of ``P^-1``, as in `sepnet.solvers.dual_norm`.
    matrix, load : SeparableMatrix, SeparableVector
        A and b, on the host.
    order : sequence of int
        The order of the axes along the train.
    xp, device : optional
        Where the cores are; NumPy by default.
    """

    def __init__(
        self,
        riesz: KroneckerSum,
        matrix: SeparableMatrix,
        load: SeparableVector,
        order: Sequence[int],
        xp: Namespace = None,
        device: object = None,
    ) -> None:
        weights, exponents = riesz.exponentials(CLOSE)
        space = as_namespace(xp)

        def put(host: np.ndarray) -> Array:
            return from_host(host, space, device=device, dtype="int64" if host.dtype.kind == "i" else "float64")

        self._weights = weights * np.exp(-riesz.low * exponents)
        self._device_weights = put(self._weights)
        self._roots = [put(np.exp(-0.5 * np.outer(exponents, riesz.values[k]))) for k in order]
        moves = build_automaton(matrix.index[:, order], matrix.weights, tuple(matrix.axes[k].count for k in order))
        self._images = [
            _Image(
                np.stack([riesz.vectors[k].T @ matrix.axes[k].sparse(j) for j in range(matrix.axes[k].count)]), m, put
            )
            for k, m in zip(order, moves.steps, strict=True)
        ]
        vectors = [riesz.vectors[k].T @ load.vectors[k].T for k in order]
        automaton = build_automaton(load.index[:, order], load.weights, tuple(v.shape[1] for v in vectors))
        ones = [np.ones((1, 1, 1)) for _ in order]
        cores = multiplied(automaton, [[v[:, [j]] for j in range(v.shape[1])] for v in vectors], ones)
        self._load = [put(core) for core in cores]
        self.reference = self._norm(self._load)

    def _norm(self, cores: Sequence[Array]) -> float:
        total = 0.0
        for q, weight in enumerate(self._weights):
            damped = [root[q, :][None, :, None] * core for root, core in zip(self._roots, cores, strict=True)]
            total += float(weight) * train_norm(damped) ** 2
        return sqrt(total)

    def measure(self, cores: Sequence[Any]) -> float:
        """Return the dual norm of ``A u - b`` over that of b; reads one number, or some for every axis below 1e-7."""
        xp = namespace(*cores)
        image = [i.of(xp.astype(c, xp.float64)) for i, c in zip(self._images, cores, strict=True)]
        residual = add_trains(image, scale(self._load, -1.0))
        # Products instead of factorisations take a seventh of the time, and see the residual as long as its square is
        # not round-off of the squares of what is subtracted.
        square = self._square(residual) / self.reference**2
        if square > SEEN:
            return sqrt(square)
        return self._norm(residual) / self.reference

    def _square(self, cores: Sequence[Array]) -> float:
        """Return the square of `_norm` by inner products."""
        xp = namespace(*cores)
        gram = xp.ones_like(self._device_weights)[:, None, None]
        size = xp.zeros_like(self._device_weights[0])
        for root, core in zip(self._roots, cores, strict=True):
            r, n, s = (int(k) for k in core.shape)
            half = xp.reshape(xp.matmul(gram, xp.reshape(core, (r, n * s))), (-1, r, n, s))
            half = xp.reshape(half * (root * root)[:, None, :, None], (-1, r * n, s))
            gram = xp.matmul(xp.reshape(core, (r * n, s)).T, half)
            largest = xp.max(xp.abs(gram))
            largest = xp.where(largest == 0.0, xp.ones_like(largest), largest)
            gram, size = gram / largest, size + xp.log(largest)
        total, exponent = read(xp.sum(self._device_weights * gram[:, 0, 0]), size)
        return max(total, 0.0) * exp(exponent)


@final
class _Image:
    """One core of ``A u``, ranks (states x rank of u), from that of u.

    Every pair of states has the sum of few moves, mostly one or none: as many products of the core with a matrix are
    picked for each pair as the pair with the most moves has, some with weight zero.
    """

    def __init__(self, letters: np.ndarray, moves: Transitions, put: Callable[[np.ndarray], Array]) -> None:
        self._letters, (before, after) = put(letters), moves.states
        self._states = (before, after)
        pairs: dict[int, list[tuple[int, float]]] = {}
        weights = moves.to_letter.sum(axis=0)
        for s, j, t, w in zip(moves.source, moves.letter, moves.target, weights, strict=True):
            pairs.setdefault(int(s) * after + int(t), []).append((int(j), float(w)))
        most = max(map(len, pairs.values()), default=0)
        self._picks = []
        for k in range(most):
            letter, weight = np.zeros(before * after, dtype=np.int64), np.zeros(before * after)
            for pair, chosen in pairs.items():
                if k < len(chosen):
                    letter[pair], weight[pair] = chosen[k]
            self._picks.append((put(letter), put(weight)))

    def of(self, core: Array) -> Array:
        """Return the core of A u."""
        xp = namespace(core)
        a, n, c = (int(k) for k in core.shape)
        count, m, _ = (int(k) for k in self._letters.shape)
        flat = xp.reshape(xp.permute_dims(core, (1, 0, 2)), (n, a * c))
        products = xp.reshape(xp.reshape(self._letters, (count * m, n)) @ flat, (count, m * a * c))
        before, after = self._states
        image = xp.zeros((before * after, m * a * c), dtype=core.dtype, device=device_of(core))
        for letter, weight in self._picks:
            image = image + weight[:, None] * rows(products, letter)
        image = xp.permute_dims(xp.reshape(image, (before, after, m, a, c)), (0, 3, 2, 1, 4))
        return xp.reshape(image, (before * a, m, after * c))
