"""Dense, slow answers for the solvers, from the definition: quadrature on the tensor grid and NumPy's linear algebra.

The functions named ``check_...`` are shared by the tests and by the sabotage tests, which break the library and expect
them to fail.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

import sepnet as sn
from sepnet.operators import Operator
from sepnet.solvers.als import AlternatingLeastSquares
from sepnet.solvers.axis_systems import GROWTH, RIDGE
from sepnet.solvers.full_tensor import tensor_to_cp
from sepnet.solvers.lifting import make_lift
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.solvers.system import make_system

EPS = float(np.finfo(np.float64).eps)


# ------------------------------------------------------------------------------------------------ dense quadrature


def gauss(breaks: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss points and weights on every cell; NumPy's rule, where the library takes SciPy's."""
    s, w = np.polynomial.legendre.leggauss(count)
    half, middle = np.diff(breaks) / 2, (breaks[1:] + breaks[:-1]) / 2
    return (middle[:, None] + half[:, None] * s).ravel(), (half[:, None] * w).ravel()


@dataclass(frozen=True)
class Grid:
    """Tensor quadrature of a box, or of a face of it: an axis in `faces` is one point of weight one."""

    points: dict[str, np.ndarray]
    weights: np.ndarray

    @classmethod
    def of(cls, space: sn.TensorSpace, count: int, **faces: float) -> Grid:
        rules = {}
        for name, basis in space.items:
            at = faces.get(name)
            rules[name] = gauss(basis.breaks, count) if at is None else (np.array([at]), np.ones(1))
        return cls({n: p for n, (p, _) in rules.items()}, reduce(np.multiply.outer, [w for _, w in rules.values()]))

    @property
    def coordinates(self) -> list[np.ndarray]:
        return np.meshgrid(*self.points.values(), indexing="ij")

    def norm(self, values: np.ndarray) -> float:
        return math.sqrt(float(np.sum(self.weights * values**2)))

    def inner(self, a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sum(self.weights * a * b))


def on_grid(u: sn.CP, grid: Grid, **orders: int) -> np.ndarray:
    """Values of a derivative of a CP function on the grid, by definition."""
    columns = [
        u.space.axes[name].values(points, orders.get(name, 0)) @ factor
        for (name, points), factor in zip(grid.points.items(), u.factors, strict=True)
    ]
    # the sum over the terms is one matrix product; term by term it cost a pass over the grid each
    first, *others = columns
    rest = reduce(lambda a, b: (a[:, None, :] * b).reshape(-1, u.rank), others, np.ones((1, u.rank)))
    return (first @ rest.T).reshape(grid.weights.shape)


def tabulated(space: sn.TensorSpace, grid: Grid, operator: Operator) -> np.ndarray:
    """Values of ``operator B_n`` for all tensor basis functions at all grid points, (points, functions)."""
    total = np.zeros((grid.weights.size, int(np.prod(space.shape))))
    for term in operator.terms:
        parts = []
        for name, points in grid.points.items():
            factor = term.factor(name)
            parts.append(factor.coefficient(points)[:, None] * space.axes[name].values(points, factor.order))
        total += term.weight * reduce(np.kron, parts)
    return total


def dense_form(trial: Operator, test: Operator, count: int, **faces: float) -> np.ndarray:
    """The matrix of ``inner(trial, test)`` by quadrature with `count` points a cell; rows are test functions."""
    space = trial.space
    grid = Grid.of(space, count, **faces)
    left, right = tabulated(space, grid, test), tabulated(space, grid, trial)
    return left.T @ (grid.weights.reshape(-1, 1) * right)


def norms_of_error(
    u: sn.CP, exact: Callable[..., np.ndarray], slopes: Sequence[Callable[..., np.ndarray]], count: int
) -> tuple[float, float]:
    """L2 error and H1 seminorm error on a tensor rule with `count` points a cell."""
    grid = Grid.of(u.space, count)
    x = grid.coordinates
    zero = grid.norm(on_grid(u, grid) - exact(*x))
    parts = [
        grid.norm(on_grid(u, grid, **{name: 1}) - slope(*x)) for name, slope in zip(u.space.names, slopes, strict=True)
    ]
    return zero, math.sqrt(sum(p * p for p in parts))


# ------------------------------------------------------------------------------------------------------ assembled


def matrix_of(form: sn.forms.BilinearForm) -> SeparableMatrix:
    return SeparableMatrix.from_table(sn.assemble(form))


def system_of(problem: Any) -> tuple[SeparableMatrix, SeparableVector, Any]:
    """Matrix and load of a problem, as `solve` sees them, and the space of the unknown."""
    lift = make_lift(problem, 1e-3)
    system = make_system(problem, lift)
    # `solve` iterates on v / scale; the tests compare with v
    loads = dataclasses.replace(system.loads, weights=system.loads.weights * (system.scale or 1.0))
    return SeparableMatrix.from_table(system.matrices), SeparableVector.from_table(loads), lift


def dense(matrix: SeparableMatrix) -> np.ndarray:
    """The matrix by `np.kron`, term by term: no automaton."""
    n = int(np.prod(matrix.space.shape))
    total = np.zeros((n, n))
    stacks = [np.asarray(a.dense()) for a in matrix.axes]
    for row, weight in zip(matrix.index, matrix.weights, strict=True):
        total += weight * reduce(np.kron, [s[j] for s, j in zip(stacks, row, strict=True)])
    return total


def full_vector(factors: Sequence[np.ndarray]) -> np.ndarray:
    """The coefficient vector of a CP function, basis index of the first axis slowest."""
    total = np.zeros(int(np.prod([f.shape[0] for f in factors])))
    for r in range(factors[0].shape[1]):
        total += reduce(np.kron, [f[:, r] for f in factors])
    return total


def random_factors(space: sn.TensorSpace, rank: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, rank)) for n in space.shape]


# --------------------------------------------------------------------------------------------------------- checks


def ratio(A: np.ndarray, x: np.ndarray, b: np.ndarray, eps: float = EPS) -> float:
    """LAPACK's residual ratio ||b - A x||_1 / (||A||_1 ||x||_1 eps)."""
    scale = np.linalg.norm(A, 1) * np.linalg.norm(x, 1) * eps
    return float(np.linalg.norm(b - A @ x, 1) / scale)


def check_form(form: sn.forms.BilinearForm, reference: np.ndarray) -> None:
    """The assembled form equals a dense matrix up to round-off."""
    ours = matrix_of(form).kronecker().toarray()
    # every entry is a sum of some 1e2 products with an error of eps each, on the scale of the largest entry
    np.testing.assert_allclose(ours, reference, rtol=0, atol=1e3 * EPS * np.abs(reference).max())


def check_automaton(index: np.ndarray, weights: np.ndarray, automaton: Any, values: Sequence[np.ndarray]) -> None:
    """Left, right and around environments equal the sums over terms; `values` are (J, ...) an axis."""
    d = index.shape[1]
    letters = [v[index[:, i]] for i, v in enumerate(values)]  # (M, ...)
    column = weights.reshape(-1, *[1] * (values[0].ndim - 1))
    total = np.sum(column * np.prod(letters, axis=0), axis=0)
    # the automaton scales its states by quotients of weights: round-off on the scale of the absolute sum
    size = np.sum(np.abs(column * np.prod(letters, axis=0)), axis=0).max(initial=0.0) + 1e-300
    one = np.ones_like(values[0][:1])
    left = [one]
    for step, value in zip(automaton.steps, values, strict=True):
        left.append(step.left(left[-1], value))
    right = [one]
    for step, value in zip(automaton.steps[::-1], values[::-1], strict=True):
        right.append(step.right(right[-1], value))
    right = right[::-1]
    tol = 50 * d * EPS * size
    np.testing.assert_allclose(np.sum(left[-1], axis=0), total, rtol=0, atol=tol)
    np.testing.assert_allclose(np.sum(right[0], axis=0), total, rtol=0, atol=tol)
    for i in range(d):
        around = automaton.steps[i].around(left[i], right[i + 1])
        np.testing.assert_allclose(np.sum(around * values[i], axis=0), total, rtol=0, atol=tol)
        rest = column * np.prod([v for k, v in enumerate(letters) if k != i], axis=0)
        if d == 1:
            rest = column * np.ones_like(letters[0])
        bound = np.sum(np.abs(rest), axis=0).max(initial=0.0) + 1e-300
        for j in range(values[i].shape[0]):
            np.testing.assert_allclose(
                around[j], np.sum(rest[index[:, i] == j], axis=0), rtol=0, atol=50 * d * EPS * bound
            )


def check_als_steps(matrix: SeparableMatrix, load: SeparableVector, *, rank: int, sweeps: int, seed: int = 0) -> float:
    """The guarantees of every single ALS step; returns the energy distance to the solution on the full space.

    Every step is a Galerkin problem on the linear space of one factor, so a(u, u) = f(u), the functional does not rise,
    the residual is orthogonal to all changes of that factor, and ||u - u_h||_a^2 = J(u) - J(u_h).
    """
    A, b = dense(matrix), load.dense()
    exact = np.linalg.solve(A, b)
    lowest = -float(b @ exact)
    iteration = AlternatingLeastSquares(matrix, load, seed=seed)
    iteration.grow(rank)
    previous = iteration.balanced()
    last = math.inf
    # Equalities hold up to the ridge rho (diag H + its mean), for which one retry with a larger one is allowed, and up
    # to round-off of the dense sums, on the scale of the magnitudes summed.
    rho = RIDGE * GROWTH * EPS
    # what the reference is off by
    doubt = 1e3 * EPS * float(np.abs(exact) @ np.abs(A) @ np.abs(exact) + 2 * np.abs(b) @ np.abs(exact))

    def after(axis: int, energy: float, work: float) -> None:
        nonlocal last, previous
        factors = iteration.balanced()
        u = full_vector(factors)
        Au = A @ u
        columns, terms = _embedding(factors, axis)
        C, before = _scaled_up(factors, axis), _scaled_up(factors, axis, previous[axis])
        ridge = rho * np.array([terms[k] @ A @ terms[k] for k in range(len(terms))])
        ridge += ridge.mean()
        absolute = np.abs(columns).sum(axis=0)
        noise = 1e3 * EPS * float(absolute @ np.abs(A) @ absolute + 2 * np.abs(b) @ absolute)
        assert abs(energy - u @ Au) <= noise
        assert abs(work - b @ u) <= noise
        assert abs(energy - work) <= float(ridge @ C.ravel() ** 2) + noise
        functional = float(u @ Au - 2 * b @ u)
        assert functional <= last + float(ridge @ before.ravel() ** 2) + noise
        assert abs((u - exact) @ A @ (u - exact) - (functional - lowest)) <= noise + doubt
        gradient = np.array([t @ (b - Au) for t in terms])
        size = np.array([np.abs(t) @ (np.abs(b) + np.abs(A) @ absolute) for t in terms])
        assert (np.abs(gradient) <= ridge * np.abs(C.ravel()) + 1e3 * EPS * size).all()
        last, previous = functional, factors

    for _ in range(sweeps):
        iteration.sweep(after)
    return math.sqrt(max(last - lowest, 0.0) / abs(lowest))


def _embedding(factors: Sequence[np.ndarray], axis: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The rank-one terms, and the full vectors of all unit changes of one factor, its neighbours of norm one."""
    shapes = [f / np.linalg.norm(f, axis=0) for f in factors]
    columns = np.stack([full_vector([f[:, r : r + 1] for f in factors]) for r in range(factors[0].shape[1])])
    units = []
    for n in range(factors[axis].shape[0]):
        for r in range(factors[axis].shape[1]):
            parts = [f[:, r] for f in shapes]
            parts[axis] = np.eye(factors[axis].shape[0])[n]
            units.append(reduce(np.kron, parts))
    return columns, units


def _scaled_up(factors: Sequence[np.ndarray], axis: int, other: np.ndarray | None = None) -> np.ndarray:
    """One factor times the norms of all others: the unknown of an ALS step."""
    share = np.prod([np.linalg.norm(f, axis=0) for k, f in enumerate(factors) if k != axis], axis=0)
    if other is None:
        return factors[axis] * share
    # an earlier factor, balanced with earlier column norms: the others have not changed but in scale
    return other * np.linalg.norm(other, axis=0) ** (len(factors) - 1)


def rates(errors: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Observed orders between consecutive meshes."""
    return [
        math.log(a / b) / math.log(h / k)
        for (a, b), (h, k) in zip(itertools.pairwise(errors), itertools.pairwise(sizes), strict=True)
    ]


def check_rate(errors: Sequence[float], sizes: Sequence[float], order: float, *, floor: float, cap: float) -> float:
    """The last pair of meshes whose finer error is above `floor` converges at least at `order` - 0.1; returns the rate.

    `floor` is 1e3 eps kappa: below it the error is round-off. `cap` bounds the last error above the floor, so that a
    constant factor cannot creep in.
    """
    kept = [(e, h) for e, h in zip(errors, sizes, strict=True) if e > floor]
    assert len(kept) >= 2, f"only {len(kept)} errors above the floor of {floor:.1e}: {errors}"
    rate = rates([e for e, _ in kept], [h for _, h in kept])[-1]
    assert rate >= order - 0.1, f"rate {rate:.3f} < {order} - 0.1; errors {errors}"
    assert kept[-1][0] <= cap, f"error {kept[-1][0]:.2e} above the cap {cap:.1e}"
    return rate


def check_symmetric_pair(matrix: SeparableMatrix, seed: int) -> None:
    """<A x, y> = <x, A y> for a symmetric form."""
    u, v = random_factors(matrix.space, 2, seed), random_factors(matrix.space, 3, seed + 1)
    one, other = matrix.inner(v, u), matrix.inner(u, v)
    scale = math.sqrt(abs(matrix.energy(u) * matrix.energy(v)))
    assert abs(one - other) <= 1e3 * EPS * scale


def as_cp(space: sn.TensorSpace, vector: np.ndarray) -> sn.CP:
    """A coefficient vector as a CP function."""
    return tensor_to_cp(space, vector.reshape(space.shape))
