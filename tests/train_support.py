"""Dense answers for the solvers on tensor trains: frames by contraction, projections by matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from solver_support import matrix_of
from support import Backend

import sepnet as sn
from sepnet.backends.arrays import namespace, to_host
from sepnet.solvers.automaton import build_automaton
from sepnet.solvers.train_local import AxisStep, extend, extend_load

AXES = {
    "spline": sn.BSpline((0, 1), cells=4, degree=2, zero="both"),
    "free": sn.BSpline((0, 1), cells=2, degree=3),
    "one function": sn.BSpline((0, 1), cells=1, degree=2, zero="both"),
    "two functions": sn.BSpline((0, 1), cells=1, degree=1),
    "ring": sn.BSpline((0, 1), cells=6, degree=2, periodic=True),
    "fourier": sn.Fourier((0, 1), 2),
    "legendre": sn.Legendre((0, 1), 4, zero="left"),
}


def galerkin(kinds: Sequence[str], wave: float = 2.0) -> sn.Galerkin:
    """A coercive symmetric form with variable coefficients, and a load that is not of rank one."""
    V = sn.TensorSpace(**{f"a{i}": AXES[k] for i, k in enumerate(kinds)})
    form = sn.inner(V.identity, V.identity)
    for c, d in zip(V.coordinates, V.d, strict=True):
        form = form + sn.inner((1 + c) * d, d)
    first, last = f"a{0}", f"a{len(kinds) - 1}"
    source = 1 + V.coordinates[0] * V.coordinates[-1]
    source = source + sn.product(**{first: lambda s: np.cos(wave * s)})
    return sn.Galerkin(form, source=source + sn.product(**{last: lambda s: np.exp(-wave * s)}))


def host(array: Any) -> np.ndarray:
    return to_host(array).astype(np.float64)


def left_frame(cores: Sequence[np.ndarray]) -> np.ndarray:
    """What the cores make of their axes, (product of sizes, last rank)."""
    total = np.ones((1, 1))
    for core in cores:
        total = np.einsum("Na,anb->Nnb", total, core).reshape(-1, core.shape[2])
    return total


def right_frame(cores: Sequence[np.ndarray]) -> np.ndarray:
    """The same from the right, (product of sizes, first rank)."""
    total = np.ones((1, 1))
    for core in reversed(list(cores)):
        total = np.einsum("anb,Nb->nNa", core, total).reshape(-1, core.shape[0])
    return total


def vector(cores: Sequence[Any]) -> np.ndarray:
    """The coefficient vector of a train, in the order of its axes."""
    return left_frame([host(c) for c in cores])[:, 0]


def in_order(tensor: np.ndarray, shape: Sequence[int], order: Sequence[int]) -> np.ndarray:
    """A coefficient vector in the order of the space, in that of a train."""
    return tensor.reshape(shape).transpose(order).ravel()


def embedding(cores: Sequence[np.ndarray], i: int) -> np.ndarray:
    """The matrix from the entries of core i, (a, n, c), to the coefficient vector."""
    one, two = left_frame(cores[:i]), right_frame(cores[i + 1 :])
    return np.kron(np.kron(one, np.eye(cores[i].shape[1])), two)


def kronecker(stacks: Sequence[np.ndarray], index: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``sum_m w_m S_1[index m1] (x) ...``, term by term: no automaton."""
    parts = [
        w * reduce(np.kron, [s[j] for s, j in zip(stacks, row, strict=True)])
        for row, w in zip(index, weights, strict=True)
    ]
    return np.sum(parts, axis=0)


def random_cores(rng: np.random.Generator, sizes: Sequence[int], ranks: Sequence[int]) -> list[np.ndarray]:
    """Cores with the given inner ranks."""
    every = [1, *ranks, 1]
    return [rng.standard_normal((a, n, c)) for a, n, c in zip(every[:-1], sizes, every[1:], strict=True)]


class Table:
    """A random sum of Kronecker products over axes of any kind, with its dense matrix and load."""

    def __init__(self, kinds: Sequence[str], seed: int, backend: Backend) -> None:
        rng = np.random.default_rng(seed)
        self.axes = []
        for kind in kinds:
            V = sn.TensorSpace(x=AXES[kind])
            form = sn.inner((1 + V.coordinates[0]) * V.identity, V.identity) + sn.inner(V.d.x, V.identity)
            self.axes.append(matrix_of(form).axes[0])
        self.sizes = [a.size for a in self.axes]
        terms = int(rng.integers(1, 6))
        index = np.stack([rng.integers(0, a.count, terms) for a in self.axes], axis=1)
        # no two that cancel: a sum without terms is no form
        weights = rng.uniform(0.5, 2.0, terms) * rng.choice([-1, 1], terms)
        stacks = [np.asarray(a.dense()) for a in self.axes]
        self.matrix = kronecker(stacks, index, weights)
        self.size = kronecker([np.abs(s) for s in stacks], index, np.abs(weights))
        moves = build_automaton(index, weights, tuple(a.count for a in self.axes))
        moved = moves.to(backend.xp, backend.device, backend.dtype).steps
        self.steps = [
            AxisStep(a.to(backend.xp, backend.device, backend.dtype), m) for a, m in zip(self.axes, moved, strict=True)
        ]
        terms = int(rng.integers(1, 5))
        vectors = [rng.standard_normal((2, n)) for n in self.sizes]
        index, weights = rng.integers(0, 2, (terms, len(kinds))), rng.uniform(0.5, 2.0, terms)
        self.load = kronecker(vectors, index, weights)
        self.load_size = kronecker([np.abs(v) for v in vectors], index, np.abs(weights))
        self.vectors = [backend.asarray(v) for v in vectors]
        own = build_automaton(index, weights, (2,) * len(kinds))
        self.moves = own.to(backend.xp, backend.device, backend.dtype).steps

    def environments(self, backend: Backend, test: Sequence[Any], trial: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Left and right environments at all bonds."""
        one = backend.asarray(np.ones((1, 1, 1)))
        return both(self.steps, test, trial, one)

    def load_environments(self, backend: Backend, test: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Left and right environments of the load at all bonds."""
        left, right = [backend.asarray(np.ones((1, 1)))], [backend.asarray(np.ones((1, 1)))]
        for v, m, c in zip(self.vectors, self.moves, test, strict=True):
            left.append(extend_load(v, m, left[-1], c))
        for v, m, c in list(zip(self.vectors, self.moves, test, strict=True))[::-1]:
            right.append(extend_load(v, m.reversed(), right[-1], flip(c)))
        return left, right[::-1]


def both(steps: Sequence[AxisStep], test: Sequence[Any], trial: Sequence[Any], one: Any) -> tuple[list[Any], list[Any]]:
    """Left and right environments of a form at all bonds."""
    flipped = [[flip(c) for c in cores] for cores in (test, trial)]
    left, right = [one], [one]
    for step, w, u in zip(steps, test, trial, strict=True):
        left.append(extend(step, left[-1], w, u))
    for step, w, u in list(zip(steps, *flipped, strict=True))[::-1]:
        right.append(extend(step.reversed(), right[-1], w, u))
    return left, right[::-1]


def flip(core: Any) -> Any:
    """A core seen from the other side."""
    return namespace(core).permute_dims(core, (2, 1, 0))
