"""Columns, samples and slow answers for the tests of fits."""

from __future__ import annotations

from functools import reduce

import numpy as np

from sepnet.bases import BSpline, Fourier, Legendre
from sepnet.solvers.fit_axes import FitAxis
from sepnet.solvers.fit_columns import Columns, Factors
from sepnet.solvers.fit_data import Table

# what windows of every kind go over; the constant comes last, as in every fit
AXES = (
    FitAxis(BSpline((-1, 2), cells=2)),
    FitAxis(BSpline((0, 1), cells=3, degree=2, periodic=True)),
    FitAxis(Legendre((0, 2), 3)),
    FitAxis(BSpline((0, 4), cells=2, degree=3, zero="both")),
    FitAxis(None),
)
# the same without the ends that are held: only there the basis contains the constant
FREE = (*AXES[:3], FitAxis(Fourier((1, 3), 1)), AXES[4])
SUBSETS = ((4,), (0,), (0, 1), (1, 2, 3), (0, 1, 2, 3))


def random_columns(seed: int, axes: tuple[FitAxis, ...] = AXES) -> tuple[Columns, Factors]:
    """Some of the subsets, with coefficients of size one; the constant is one column."""
    rng = np.random.default_rng(seed)
    chosen = [s for s in SUBSETS if rng.random() < 0.7] or [SUBSETS[-1]]
    columns = Columns(axes, tuple(chosen), tuple(1 if s == SUBSETS[0] else int(rng.integers(1, 4)) for s in chosen))
    return columns, [rng.uniform(-1, 1, (a.size, len(k))) for a, k in zip(axes, columns.active, strict=True)]


def random_table(seed: int, n: int, axes: tuple[FitAxis, ...] = AXES) -> Table:
    """Points of the box, targets of size one, weights of which some are zero."""
    rng = np.random.default_rng(seed)
    domains = np.array([a.basis.domain for a in axes if a.basis is not None])
    points = rng.uniform(*domains.T, (n, len(domains)))
    return Table(points, rng.standard_normal(n), rng.random(n) * (rng.random(n) < 0.8) + 1e-3)


def parts_of(columns: Columns, factors: Factors) -> list[dict[int, np.ndarray]]:
    """Of each column the coefficients on the axes that take part."""
    result = []
    for k, (subset, rank) in enumerate(zip(columns.subsets, columns.ranks, strict=True)):
        result += [{i: factors[i][:, columns.place(i, k)][:, r] for i in subset} for r in range(rank)]
    return result


def tabulated(axis: FitAxis, points: np.ndarray, order: int = 0) -> np.ndarray:
    """Values of the functions of an axis."""
    if axis.basis is None:
        return np.ones((len(points), 1)) * (order == 0)
    return axis.basis.values(points, order)


def values_at(columns: Columns, factors: Factors, points: np.ndarray) -> np.ndarray:
    """The function at points (n, d), by definition."""
    points = np.column_stack([points, points[:, 0]])
    total = np.zeros(len(points))
    for part in parts_of(columns, factors):
        total += reduce(np.multiply, [tabulated(columns.axes[i], points[:, i]) @ c for i, c in part.items()])
    return total


def jacobian(columns: Columns, factors: Factors, points: np.ndarray) -> np.ndarray:
    """Derivatives of the values by all coefficients, basis index slow, column fast, axis after axis."""
    where = np.column_stack([points, points[:, 0]])
    tables = [tabulated(axis, where[:, i]) for i, axis in enumerate(columns.axes)]
    blocks = [np.zeros((len(points), *f.shape)) for f in factors]
    seen = [0] * len(factors)
    for part in parts_of(columns, factors):
        for i in part:
            others = [tables[j] @ c for j, c in part.items() if j != i]
            blocks[i][:, :, seen[i]] = tables[i] * reduce(np.multiply, others, np.ones(len(points)))[:, None]
            seen[i] += 1
    return np.concatenate([b.reshape(len(points), -1) for b in blocks], axis=1)
