"""Spaces, random functions and dense oracles for the tests of separable functions."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from support import Backend

import sepnet as sn
from sepnet.backends.arrays import to_host
from sepnet.bases import Basis

SPACES = {
    "splines": sn.TensorSpace(
        x=sn.BSpline((-1, 2), cells=4, zero="both"),
        y=sn.BSpline(breaks=(0, 0.1, 0.5, 1), degree=2),
        t=sn.BSpline((0, 3), cells=3, degree=4, zero="left"),
    ),
    "mixed": sn.TensorSpace(
        x=sn.BSpline((0, 1), cells=3),
        a=sn.Fourier((0, 2), 2),
        b=sn.Legendre((-1, 1), 4),
        c=sn.Chebyshev((0, 1), 3, "left"),
    ),
    "rough": sn.TensorSpace(
        x=sn.BSpline((0, 1), cells=4, degree=2, continuity=0), y=sn.BSpline((0, 1), cells=5, periodic=True)
    ),
    "line": sn.TensorSpace(x=sn.BSpline((0, 1), cells=6)),
}


def random_cp(space: sn.TensorSpace, rank: int, seed: int = 0, backend: Backend | None = None) -> sn.CP:
    """A function with coefficients in [-1, 1]."""
    rng = np.random.default_rng(seed)
    hosts = [rng.uniform(-1, 1, (n, rank)) for n in space.shape]
    return sn.CP(space, hosts if backend is None else [backend.asarray(h) for h in hosts])


def random_points(space: sn.TensorSpace, n: int, seed: int = 1) -> np.ndarray:
    """Points of the box, uniform."""
    low, high = np.array([b.domain for b in space.bases]).T
    return low + (high - low) * np.random.default_rng(seed).random((n, space.dim))


@lru_cache(maxsize=512)
def _table(basis: Basis, data: bytes, order: int) -> np.ndarray:
    found = basis.tabulate(np.frombuffer(data), order).toarray()
    found.setflags(write=False)
    return found


def table(basis: Basis, points: np.ndarray, order: int = 0) -> np.ndarray:
    """Values of the basis functions' derivatives at points of one axis, kept: the oracles ask for the same again."""
    return _table(basis, points.astype(np.float64).tobytes(), order)


def columns(u: sn.CP, points: np.ndarray, orders: tuple[int, ...]) -> np.ndarray:
    """The oracle: products over the axes of the columns' derivatives at the points, shape (n, R)."""
    total = np.ones((len(points), u.rank))
    for k, (basis, order) in enumerate(zip(u.space.bases, orders, strict=True)):
        total *= table(basis, points[:, k], order) @ to_host(u.factors[k]).astype(np.float64)
    return total


def dense(u: sn.CP, points: np.ndarray, orders: tuple[int, ...] | None = None) -> np.ndarray:
    """Values, or a mixed partial derivative, as the sum over all products of basis functions."""
    return columns(u, points, orders or (0,) * u.space.dim).sum(axis=1)


def size(u: sn.CP, points: np.ndarray, orders: tuple[int, ...] | None = None) -> float:
    """The size of the terms before they are added, at `points` and over the box: what round-off is relative to."""
    points = np.concatenate([points, random_points(u.space, 50)])
    total = np.ones((len(points), u.rank))
    for k, (basis, order) in enumerate(zip(u.space.bases, orders or (0,) * u.space.dim, strict=True)):
        total *= abs(table(basis, points[:, k], order)) @ abs(to_host(u.factors[k]).astype(np.float64))
    return float(total.sum(axis=1).max(initial=1e-300))


def gauss(space: sn.TensorSpace, extra: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Tensor Gauss points (n, d) and weights (n,)."""
    rules = [basis.quadrature(2 * basis.degree + 1 + extra) for basis in space.bases]
    points = np.stack([g.ravel() for g in np.meshgrid(*[r.points for r in rules], indexing="ij")], axis=1)
    weights = np.prod([g.ravel() for g in np.meshgrid(*[r.weights for r in rules], indexing="ij")], axis=0)
    return points, weights
