"""Residuals of tensor trains without cancellation, against dense quadrature and dense duals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solver_support import EPS, Grid, dense, full_vector, on_grid, random_factors, system_of, tabulated
from support import EXAMPLES
from train_support import AXES, random_cores, vector

import sepnet as sn
from sepnet.functions.trains import add_trains, cp_to_train, scale
from sepnet.solvers.dual_norm import DualNorm
from sepnet.solvers.kronecker_sum import KroneckerSum
from sepnet.solvers.lifting import make_lift
from sepnet.solvers.system import make_system, residual_norm
from sepnet.solvers.train_norms import CLOSE, TrainDualNorm, train_residual

SOLVER = settings(max_examples=min(EXAMPLES["dev"], settings().max_examples))


# ---------------------------------------------------------------------------------------------------- least squares


def heat():
    V = sn.TensorSpace(
        x=sn.BSpline((0, 1), cells=4, zero="both"), k=sn.Legendre((0.5, 1), 3), t=sn.BSpline((0, 0.5), cells=3)
    )
    x, k, t = V.coordinates
    start = sn.apply(lambda s: np.sin(np.pi * s), x)
    return sn.LeastSquares(V.d.t - k * V.d.x**2, source=x * t + 1, initial={"t": start})


def robin():
    V = sn.TensorSpace(
        x=sn.BSpline((0, 1), cells=3), y=sn.BSpline((0, 1), cells=3, zero="both"), z=sn.Fourier((0, 1), 1)
    )
    x, y, _ = V.coordinates
    conditions = [((V.d.x + 2 * V.identity).at(x=1), 1 + y), ((0.5 * V.d.x).at(x=0), y**2)]
    operator = V.d.x**2 + V.d.y**2 + V.d.z**2 + x * V.identity
    return sn.LeastSquares(operator, source=y, conditions=conditions)


def lifted():
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), y=sn.BSpline((0, 1), cells=4, zero="both"))
    _, y = V.coordinates
    return sn.LeastSquares(V.d.x**2 + V.d.y**2, source=1, boundary={"x": (sn.apply(lambda s: s * (1 - s), y), 0)})


def line():
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=5, zero="both"))
    return sn.LeastSquares(V.d.x**2 + V.identity, source=V.coordinates[0])


PROBLEMS = {"heat": heat(), "robin": robin(), "lifted": lifted(), "line": line()}


def by_quadrature(problem, u):
    """``||L u - f||`` with the conditions, from the definition."""
    total = 0.0
    for operator, data in [(problem.operator, problem.source), *problem.conditions]:
        data = data if isinstance(data, sn.coefficients.Coefficient) else sn.coefficients.constant(float(data))
        faces = {a: f.at for t in operator.terms for a, f in t.factors if f.at is not None}
        # one cell of a Fourier axis is no polynomial: 16 points are good to round-off
        grid = Grid.of(u.space, 16, **faces)
        points = np.stack([g.ravel() for g in grid.coordinates], axis=1)
        values = tabulated(u.space, grid, operator.on(u.space)) @ full_vector(u.factors)
        total += (
            grid.norm(values.reshape(grid.weights.shape) - data(points, u.space.names).reshape(grid.weights.shape)) ** 2
        )
    return math.sqrt(total)


def prepared(problem):
    lift = make_lift(problem, 1e-3)
    return make_system(problem, lift), lift.function


def as_train(factors, order):
    return cp_to_train([factors[k] for k in order])


@pytest.mark.parametrize("name", sorted(PROBLEMS))
@pytest.mark.parametrize("rank", [1, 3])
def test_residual_is_the_one_of_the_definition(name, rank):
    problem = PROBLEMS[name]
    system, lift = prepared(problem)
    factors = random_factors(system.space, rank, 5)
    v = sn.CP(system.space, factors)
    expected = by_quadrature(problem, v if lift is None else lift + v)
    for order in itertools.permutations(range(system.space.dim)):
        found = train_residual(system, lift, as_train(factors, order), order)
        # sums of squares without cancellation
        assert found == pytest.approx(expected, rel=1e-10)
        assert train_residual(system, lift, as_train(factors, order), list(order)) == found


def test_residual_of_a_train_that_is_no_sum_of_few_products():
    system, lift = prepared(PROBLEMS["heat"])
    cores = random_cores(np.random.default_rng(0), system.space.shape, [3, 2])
    paths = [
        np.stack([cores[0][0, :, a] for a in range(3) for _ in range(2)], axis=1),
        np.stack([cores[1][a, :, b] for a in range(3) for b in range(2)], axis=1),
        np.stack([cores[2][b, :, 0] for _ in range(3) for b in range(2)], axis=1),
    ]
    expected = residual_norm(system, lift, paths)
    assert train_residual(system, lift, cores, [0, 1, 2]) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("name", sorted(PROBLEMS))
@pytest.mark.parametrize("size", [1e-6, 1e-9, 1e-12])
def test_small_residuals_are_seen(name, size):
    # data that a known function meets, and a small change of it: the change alone is the residual
    problem = PROBLEMS[name]
    system, _ = prepared(problem)
    space = system.space
    factors, change = random_factors(space, 2, 1), random_factors(space, 1, 2)
    u = sn.CP(space, factors).as_coefficient()
    blocks = tuple((operator, operator.apply(u)) for operator, _ in system.blocks)
    system = sn.solvers.system.System(space, system.matrices, system.loads, system.scale, blocks)
    zero = [0 * f for f in factors]
    reference = train_residual(system, None, as_train(zero, range(space.dim)), range(space.dim))
    homogeneous = tuple((operator, sn.coefficients.Coefficient()) for operator, _ in system.blocks)
    alone = sn.solvers.system.System(space, system.matrices, system.loads, system.scale, homogeneous)
    change[0] = (
        change[0] * size * reference / train_residual(alone, None, as_train(change, range(space.dim)), range(space.dim))
    )
    order = list(range(space.dim))[::-1]
    moved = add_trains(as_train(factors, order), as_train(change, order))
    found = train_residual(system, None, moved, order)
    # the terms of L u that cancel against f are some 1e3 times the data
    assert found == pytest.approx(size * reference, rel=1e-9 + 1e4 * EPS / size)


# --------------------------------------------------------------------------------------------------------- dual norm


def elliptic(kinds, shift, wave=1.0):
    V = sn.TensorSpace(**{f"a{i}": AXES[k] for i, k in enumerate(kinds)})
    form = shift * sn.inner(V.identity, V.identity)
    for c, d in zip((1.0, 1e-2, 30.0, 2.0), V.d, strict=False):
        form = form + c * sn.inner(d, d)
    first, last = V.coordinates[0], V.coordinates[-1]
    return sn.Galerkin(form, source=1 + first * last + sn.apply(lambda s: np.sin(wave * s), last))


@SOLVER
@given(
    st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=4),
    st.floats(0.1, 5.0),
    st.integers(0, 2**31),
    st.randoms(),
)
def test_dual_norm_of_a_train(kinds, shift, seed, random):
    order = list(range(len(kinds)))
    random.shuffle(order)
    check_dual_norm(kinds, shift, seed, order)


def check_dual_norm(kinds, shift, seed, order):
    problem = elliptic(kinds, shift)
    matrix, load, lift = system_of(problem)
    riesz = KroneckerSum.from_form(problem.form)
    factors = random_factors(lift.space, 2, seed)
    norm = TrainDualNorm(riesz, matrix, load, order)
    found = norm.measure(as_train(factors, order))
    A, b = dense(matrix), load.dense()
    residual = A @ full_vector(factors) - b
    reference = math.sqrt(b @ np.linalg.solve(A, b))
    assert norm.reference == pytest.approx(reference, rel=CLOSE)
    # the form is its own Kronecker sum: P = A
    assert found == pytest.approx(math.sqrt(residual @ np.linalg.solve(A, residual)) / reference, rel=2 * CLOSE)
    # and the same sum of exponentials as for sums of products: equal up to the round-off of the difference of squares
    other = DualNorm(riesz, matrix, load, np, None, np.float64)
    assert found == pytest.approx(other.measure(factors)[0] / other.reference, rel=1e-6)


@pytest.mark.parametrize("size", [1e-5, 1e-9, 1e-12])
@pytest.mark.parametrize("order", [[0, 1, 2], [1, 2, 0]])
def test_small_dual_norms_are_seen(size, order):
    problem = elliptic(["spline", "free", "legendre"], 1.0)
    matrix, load, lift = system_of(problem)
    A, b = dense(matrix), load.dense()
    shape = lift.space.shape
    u = np.linalg.solve(A, b).reshape(shape).transpose(order)
    sizes = u.shape
    one, s, rest = np.linalg.svd(u.reshape(sizes[0], -1), full_matrices=False)
    two = (s[:, None] * rest).reshape(len(s) * sizes[1], -1)
    cores = [one[None], np.eye(len(two)).reshape(len(s), sizes[1], -1), two[:, :, None]]
    np.testing.assert_allclose(vector(cores), u.ravel(), atol=1e-12)
    norm = TrainDualNorm(KroneckerSum.from_form(problem.form), matrix, load, order)
    change = random_factors(lift.space, 1, 3)
    w = full_vector(change)
    change[0] = change[0] * size * norm.reference / math.sqrt(w @ A @ w)
    moved = norm.measure(add_trains(cores, as_train(change, order)))
    # the dense solution itself is off by its round-off
    assert moved == pytest.approx(size, rel=CLOSE + 1e2 * EPS * np.linalg.cond(A) / size)
    # scaled by what the load was divided by: nothing is left but round-off
    assert norm.measure(cores) <= 1e2 * EPS * np.linalg.cond(A)
    assert norm.measure(scale(cores, 0.0)) == pytest.approx(1.0, rel=1e-12)
    assert norm.measure(scale(cores, 3.0)) == pytest.approx(2.0, rel=2 * CLOSE)


def test_float32_cores_are_measured_in_double():
    problem = elliptic(["spline", "free", "legendre"], 1.0)
    matrix, load, lift = system_of(problem)
    norm = TrainDualNorm(KroneckerSum.from_form(problem.form), matrix, load, [0, 1, 2])
    single = [c.astype(np.float32) for c in as_train(random_factors(lift.space, 2, 0), [0, 1, 2])]
    assert norm.measure(single) == norm.measure([c.astype(np.float64) for c in single])


def test_values_of_the_helper_are_those_of_the_grid():
    system, _ = prepared(PROBLEMS["lifted"])
    v = sn.CP(system.space, random_factors(system.space, 2, 0))
    grid = Grid.of(system.space, 4)
    values = tabulated(system.space, grid, system.space.identity) @ full_vector(v.factors)
    np.testing.assert_allclose(values.reshape(grid.weights.shape), on_grid(v, grid), atol=1e-12)
