"""Parts of a fit against slow answers: windows, columns, normal equations, penalty, losses, steps, shapes."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
from basis_examples import every_basis, points_inside
from fit_support import AXES, FREE, jacobian, parts_of, random_columns, random_table, tabulated, values_at
from hypothesis import given
from hypothesis import strategies as st
from solver_support import gauss
from support import Backend, dev_size

from sepnet.backends.arrays import device_of, namespace, to_host
from sepnet.bases import BSpline, Fourier
from sepnet.bases.basis import Basis
from sepnet.solvers.fit_als import half_step, solve_symmetric, sweep
from sepnet.solvers.fit_axes import FitAxis
from sepnet.solvers.fit_columns import Columns
from sepnet.solvers.fit_data import PART, Table
from sepnet.solvers.fit_lm import LMState, levenberg_marquardt
from sepnet.solvers.fit_loss import Logistic, Squared, loss_of
from sepnet.solvers.fit_model import Model, empty_model
from sepnet.solvers.fit_penalty import Penalty
from sepnet.solvers.fit_samples import Held, normal, objective

EPS = float(np.finfo(np.float64).eps)
seeds = st.integers(0, 2**31)


# ------------------------------------------------------------------------------------------------------------- axes


def rows(axis: FitAxis, first: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Windows as rows over all window functions, and from there to the functions of the basis."""
    dense = np.zeros((len(first), axis.length))
    for s in range(len(first)):
        dense[s, first[s] : first[s] + values.shape[1]] += values[s]
    return dense if axis.spread is None else dense @ axis.spread


@every_basis
def test_windows_are_the_basis(basis: Basis, xp: Backend) -> None:
    axis, points = FitAxis(basis), points_inside(basis, 20)
    # rounded first; in float32 a point beside the end may be rounded past it
    points = np.clip(points.astype(xp.host_dtype).astype(float), *basis.domain)
    inside = xp.asarray(points)
    first, values = axis.window(inside, "x")
    assert namespace(values) is namespace(inside)
    assert values.dtype == xp.dtype
    assert first.dtype == xp.xp.int64
    assert device_of(first) == device_of(values) == device_of(inside)
    table = to_host(basis.values(inside)).astype(float)
    # the same polynomials, of two evaluations
    tol = 64 * (basis.degree + 1) ** 2 * xp.eps * max(1.0, float(np.abs(table).max(initial=0.0)))
    np.testing.assert_allclose(rows(axis, to_host(first), to_host(values)), table, rtol=0, atol=tol)
    if axis.spread is not None:
        assert set(np.unique(axis.spread)) <= {0.0, 1.0}


def test_smooth_splines_need_no_spread() -> None:
    assert FitAxis(BSpline((0, 1), cells=4)).spread is None
    assert FitAxis(BSpline((0, 1), cells=4, periodic=True)).spread.shape == (7, 4)
    assert FitAxis(BSpline((0, 1), cells=4, zero="both")).spread.shape == (7, 5)


@every_basis
def test_gram_matrices_and_constant(basis: Basis) -> None:
    axis = FitAxis(basis)
    count = basis.degree + 2 if not isinstance(basis, Fourier) else 40 * (basis.degree + 1)
    points, weights = gauss(basis.breaks, count)
    length = basis.domain[1] - basis.domain[0]
    order = min(2, basis.max_order)
    for matrix, k, there in ((axis.mass, 0, True), (axis.roughness, order, order > 0)):
        table = basis.values(points, k) * length**k * there
        want = table.T @ (weights[:, None] * table) / length
        # sums over cells that may be 1e-6 small, of derivatives that cancel where they are large
        np.testing.assert_allclose(matrix, want, rtol=0, atol=1e-10 * np.abs(want).max() + 1e-25)
    # the mean over the axis of the constant's square is that of the constant: a projection, and one where it can be
    mean = weights @ basis.values(points) / length
    np.testing.assert_allclose(axis.mass @ axis.constant, mean, rtol=0, atol=1e-11)
    if abs(mean @ axis.constant - 1.0) < 1e-9:
        np.testing.assert_allclose(basis.values(points) @ axis.constant, 1.0, rtol=0, atol=1e-8)


def test_constant_axis() -> None:
    axis = FitAxis(None)
    first, values = axis.window(np.array([3.0, -1.0]), "constant")
    assert first.tolist() == [0, 0]
    assert values.tolist() == [[1.0], [1.0]]
    assert (axis.size, axis.length, axis.spread) == (1, 1, None)
    assert axis.roughness.tolist() == [[0.0]]
    assert axis.mass.tolist() == axis.constant[:, None].tolist() == [[1.0]]


def test_points_outside_are_refused() -> None:
    for basis in (BSpline((0, 1), cells=2), Fourier((0, 1), 1)):
        with pytest.raises(ValueError, match="domain"):
            FitAxis(basis).window(np.array([0.5, 1.5]), "x")


# ---------------------------------------------------------------------------------------------------------- columns


@dev_size
@given(seed=seeds, n=st.sampled_from([0, 1, 2, 20]))
def test_values_gains_and_normal_equations(seed: int, n: int) -> None:
    columns, factors = random_columns(seed)
    table = random_table(seed, n)
    (part,) = table.samples(AXES).parts
    values = columns.values(part.windows, factors)
    f = columns.total(values)
    # sums of some ten products of up to four sums of four terms below one
    np.testing.assert_allclose(f, values_at(columns, factors, table.points), rtol=0, atol=1e-13)
    # times the gains, an axis' own columns add up to what it takes part in
    for i, (own, gains) in enumerate(zip(values, columns.gains(values), strict=True)):
        assert gains.shape == own.shape
        without = [*factors[:i], 0 * factors[i], *factors[i + 1 :]]
        passive = values_at(columns, without, table.points)
        np.testing.assert_allclose(np.sum(own * gains, axis=1) + passive, f, rtol=0, atol=1e-13)
    if not n:
        return
    J, share = jacobian(columns, factors, table.points), table.weights / table.weights.sum()
    for loss, targets in ((Squared(), table.targets), (Logistic(), (table.targets > 0) * 1.0)):
        samples = replace(table, targets=targets).samples(AXES)
        terms = loss.terms(f, targets)
        got = normal(samples, columns, factors, loss)
        matrix, vector = J.T @ ((share * terms.curvature)[:, None] * J), J.T @ (share * terms.slope)
        np.testing.assert_allclose(got.matrix, matrix, rtol=0, atol=1e-12)
        np.testing.assert_allclose(got.vector, vector, rtol=0, atol=1e-12)
        assert math.isclose(got.loss, float(share @ terms.value), rel_tol=1e-12)
        assert math.isclose(objective(samples, columns, factors, loss), got.loss, rel_tol=1e-12)
        for i in (i for i, active in enumerate(columns.active) if len(active)):
            mine = slice(columns.offsets[i], columns.offsets[i + 1])
            one = normal(samples, columns, factors, loss, axis=i)
            np.testing.assert_allclose(one.matrix, matrix[mine, mine], rtol=0, atol=1e-12)
            np.testing.assert_allclose(one.vector, vector[mine], rtol=0, atol=1e-12)


@given(seed=seeds)
def test_several_batches_add_up(seed: int) -> None:
    columns, factors = random_columns(seed)
    table = random_table(seed, 30)
    whole = table.samples(AXES)
    cuts = np.split(np.arange(30), [7, 8])
    held = [Table(table.points[k], table.targets[k], table.weights[k]).samples(AXES) for k in cuts]
    pieces = Held(tuple(h.parts[0] for h in held))
    one, other = (normal(s, columns, factors, Squared()) for s in (whole, pieces))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)


def test_samples_in_every_namespace(xp: Backend) -> None:
    """Normal equations and objective of arrays that are not NumPy's are NumPy's."""
    columns, factors = random_columns(5)
    table = random_table(5, 40)
    rounded = Table(*(a.astype(xp.host_dtype).astype(float) for a in (table.points, table.targets, table.weights)))
    there = Table(*(xp.asarray(a) for a in (table.points, table.targets, table.weights)))
    got = normal(there.samples(AXES), columns, factors, Squared())
    want = normal(rounded.samples(AXES), columns, factors, Squared())
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e3 * xp.eps)
    assert math.isclose(objective(there.samples(AXES), columns, factors, Squared()), want.loss, rel_tol=1e3 * xp.eps)


@dev_size
@given(seed=seeds)
def test_join_split_pad_balance(seed: int) -> None:
    columns, factors = random_columns(seed, FREE)
    back = columns.split(columns.join(factors))
    assert all((a == b).all() for a, b in zip(back, factors, strict=True))
    assert columns.size == sum(f.size for f in factors) == columns.join(factors).size
    points = random_table(seed, 10, FREE).points
    f = values_at(columns, factors, points)
    where = [*points.T, points[:, 0]]
    padded = [tabulated(a, x) @ p for a, x, p in zip(FREE, where, columns.padded(factors), strict=True)]
    np.testing.assert_allclose(np.sum(reduce(np.multiply, padded), axis=1), f, rtol=0, atol=1e-12)
    balanced = columns.balanced(factors)
    np.testing.assert_allclose(values_at(columns, balanced, points), f, rtol=0, atol=1e-13)
    for part in parts_of(columns, balanced):
        norms = [math.sqrt(c @ FREE[i].mass @ c) for i, c in part.items()]
        np.testing.assert_allclose(norms, norms[0], rtol=1e-12)


def test_balance_leaves_columns_of_zeros() -> None:
    columns = Columns(AXES[:1] * 2, ((0, 1),), (2,))
    factors = [np.ones((5, 2)), np.stack([np.ones(5), np.zeros(5)], axis=1)]
    for a, b in zip(columns.balanced(factors), factors, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-15)


# ---------------------------------------------------------------------------------------------------------- penalty

WEIGHTS = (0.3, 0.02, 0.5, 0.07, 0.0)


def tensor_grid(axes: tuple[FitAxis, ...]) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Of each axis the values and scaled second derivatives at Gauss points, and the weights of the tensor grid."""
    tables, rules = [], []
    for axis in axes:
        if axis.basis is None:
            tables.append((np.ones((1, 1)), np.zeros((1, 1))))
            rules.append(np.ones(1))
            continue
        points, weights = gauss(axis.basis.breaks, 12 if isinstance(axis.basis, Fourier) else axis.basis.degree + 1)
        length = axis.basis.domain[1] - axis.basis.domain[0]
        tables.append((axis.basis.values(points), axis.basis.values(points, 2) * length**2))
        rules.append(weights / length)
    return tables, reduce(np.multiply.outer, rules)


def by_quadrature(columns: Columns, terms: list[list[dict[int, np.ndarray]]], penalty: Penalty) -> float:
    """The penalty by definition of a function whose columns are sums of products."""
    tables, weights = tensor_grid(columns.axes)
    constant = len(columns.axes) - 1

    def on_grid(parts: list[dict[int, np.ndarray]], bent: int | None = None) -> np.ndarray:
        total = np.zeros(weights.shape)
        for part in parts:
            factors = [
                table[i == bent] @ part[i] if i in part else np.full(len(table[0]), float(i != bent))
                for i, table in enumerate(tables)
            ]
            total += reduce(np.multiply.outer, factors)
        return total

    def square(f: np.ndarray) -> float:
        return float(np.sum(weights * f**2))

    result = 0.0
    for i, weight in enumerate(penalty.weights):
        result += weight * square(sum(on_grid(parts, i) for parts in terms)) if weight else 0.0
    result += penalty.ridge * square(sum((on_grid(p) for p in terms if constant not in p[0]), np.zeros(weights.shape)))
    return result + penalty.apart * sum(square(on_grid(parts)) for parts in terms if constant not in parts[0])


@dev_size
@given(seed=seeds, free=st.booleans())
def test_penalty_is_its_definition(seed: int, free: bool) -> None:
    """Value, gradient, Gauss-Newton matrix, and the quadratic form of every factor."""
    axes = FREE if free else AXES
    columns, factors = random_columns(seed, axes)
    penalty = Penalty(WEIGHTS, ridge=0.11, apart=0.13)
    terms = penalty.terms(columns, factors)
    # second derivatives are some hundreds, so squares 1e5: relative to the value
    scale = 1e-11 * (terms.value + 1.0)
    assert abs(terms.value - by_quadrature(columns, [[p] for p in parts_of(columns, factors)], penalty)) <= scale
    assert abs(terms.value - penalty.value(columns, factors)) <= scale
    rng = np.random.default_rng(seed)
    step = [rng.uniform(-1, 1, f.shape) for f in factors]
    tangent = []
    for old, new in zip(parts_of(columns, factors), parts_of(columns, step), strict=True):
        tangent.append([{**old, i: new[i]} for i in old])
    v = columns.join(step)
    square = by_quadrature(columns, tangent, penalty)
    assert abs(v @ terms.matrix @ v - square) <= 1e-11 * (square + 1.0)
    np.testing.assert_allclose(terms.matrix, terms.matrix.T, rtol=0, atol=1e-14 * np.abs(terms.matrix).max())
    for i in range(len(axes)):
        # quadratic in a factor: central differences of any length are exact
        ends = []
        for sign in (1.0, -1.0):
            moved = [f + sign * step[j] if j == i else f for j, f in enumerate(factors)]
            ends.append(penalty.value(columns, moved))
        mine = slice(columns.offsets[i], columns.offsets[i + 1])
        assert abs((ends[0] - ends[1]) / 2 + 2 * terms.vector[mine] @ v[mine]) <= 1e-11 * (sum(ends) + 1.0)
        own, rest, load = penalty.block(columns, factors, i)
        c = factors[i].ravel()
        form = c @ (penalty.weights[i] * own + rest) @ c - 2.0 * c @ load
        empty = penalty.value(columns, [f * float(j != i) for j, f in enumerate(factors)])
        assert abs(form + empty - terms.value) <= scale


@given(seed=seeds)
def test_penalty_does_not_see_the_scaling_of_factors(seed: int) -> None:
    columns, factors = random_columns(seed)
    penalty = Penalty(WEIGHTS, ridge=0.11, apart=0.13)
    before = penalty.value(columns, factors)
    balanced = columns.balanced(factors)
    assert math.isclose(penalty.value(columns, balanced), before, rel_tol=1e-11)


def test_no_penalty() -> None:
    columns, factors = random_columns(0)
    terms = Penalty((0.0,) * 5).terms(columns, factors)
    assert terms.value == 0.0
    assert not terms.vector.any()
    assert not terms.matrix.any()


# ----------------------------------------------------------------------------------------------------------- losses


@given(f=st.floats(-30, 30), y=st.sampled_from([0.0, 1.0, 0.3]))
def test_loss_derivatives(f: float, y: float) -> None:
    h = 1e-3
    for loss in (Squared(), Logistic()):
        terms = [loss.terms(np.array([f + s]), np.array([y])) for s in (-h, 0.0, h)]
        value, slope, curvature = (np.array([t[k][0] for t in terms]) for k in range(3))
        # truncation h^2/6 times a third derivative below one; round-off eps |value| / h
        tol = h**2 + 4 * EPS * (np.abs(value).max() + 1) / h
        assert abs((value[2] - value[0]) / (2 * h) + 2 * slope[1]) <= tol
        assert abs((slope[2] - slope[0]) / (2 * h) + curvature[1]) <= tol
    assert math.isclose(value[1], 2 * np.log(1 + np.exp(f)) - 2 * y * f, abs_tol=1e-12)


def test_logistic_loss_does_not_overflow() -> None:
    f, y = np.array([-1e4, 1e4, -1e4, 1e4]), np.array([0.0, 0.0, 1.0, 1.0])
    terms = Logistic().terms(f, y)
    assert terms.value.tolist() == [0.0, 2e4, 2e4, 0.0]
    assert terms.slope.tolist() == [0.0, -1.0, 1.0, 0.0]


def test_loss_names() -> None:
    assert isinstance(loss_of("squared"), Squared)
    assert isinstance(loss_of("logistic"), Logistic)
    with pytest.raises(ValueError, match=r"`loss` is 'huber', expected 'squared'"):
        loss_of("huber")


# ------------------------------------------------------------------------------------------------------------ steps


@dev_size
@given(seed=seeds)
def test_als_falls_and_each_half_step_is_the_minimum(seed: int) -> None:
    columns, factors = random_columns(seed)
    samples, penalty, loss = random_table(seed, 150).samples(AXES), Penalty(WEIGHTS, 1e-3, 1e-6), Squared()
    factors = list(columns.balanced(factors))

    def total() -> float:
        return objective(samples, columns, factors, loss) + penalty.value(columns, factors)

    last = total()
    for i, active in enumerate(columns.active):
        if len(active):
            factors[i] = half_step(samples, columns, factors, loss, penalty, i)
            now, mine = total(), slice(columns.offsets[i], columns.offsets[i + 1])
            # the ridge of the solver, 1e3 eps of the diagonal, does not move the minimum, but round-off of it does
            assert now <= last * (1 + 1e-11)
            slope = (normal(samples, columns, factors, loss).vector + penalty.terms(columns, factors).vector)[mine]
            curve = penalty.terms(columns, factors).matrix[mine, mine]
            size = np.abs(curve) @ np.abs(factors[i].ravel()) + 1.0
            assert (np.abs(slope) <= 1e-8 * size).all()
            last = now
    swept = sweep(samples, columns, factors, loss, penalty)
    assert objective(samples, columns, swept, loss) + penalty.value(columns, swept) <= last * (1 + 1e-11)


@dev_size
@given(seed=seeds, logistic=st.booleans())
def test_levenberg_marquardt_falls(seed: int, logistic: bool) -> None:
    columns, factors = random_columns(seed)
    table = random_table(seed, 150)
    loss = Logistic() if logistic else Squared()
    table = replace(table, targets=(table.targets > 0) * 1.0) if logistic else table
    samples, penalty = table.samples(AXES), Penalty(WEIGHTS, 1e-3, 1e-6)
    seen: list[LMState] = []
    state = levenberg_marquardt(samples, columns, factors, loss, penalty, steps=6, tol=1e-3, after=seen.append)
    falls = [objective(samples, columns, factors, loss) + penalty.value(columns, factors)]
    falls += [s.objective for s in seen]
    # only steps that lower the objective are taken; the start is balanced, which moves it by round-off
    assert all(b <= a * (1 + 1e-12) for a, b in itertools.pairwise(falls))
    assert falls[-1] == state.objective
    assert state.steps == len(seen) <= 6
    here = objective(samples, columns, state.factors, loss)
    assert math.isclose(here, state.data.loss, rel_tol=1e-12)
    assert state.settled or state.steps == 6


@dev_size
@given(seed=seeds)
def test_levenberg_marquardt_finds_what_it_can_represent(seed: int) -> None:
    """From a start nearby, down to round-off: relative errors of 1e-10, where the loss is 1e-20."""
    columns = Columns(AXES, ((0, 1), (2, 3)), (1, 1))
    rng = np.random.default_rng(seed)
    exact = [rng.uniform(0.5, 1, (a.size, len(k))) for a, k in zip(AXES, columns.active, strict=True)]
    table = random_table(seed, 300)
    table = replace(table, targets=values_at(columns, exact, table.points))
    start = [f + 0.1 * rng.standard_normal(f.shape) for f in exact]
    state = levenberg_marquardt(
        table.samples(AXES), columns, start, Squared(), Penalty((0.0,) * 5), steps=100, tol=1e-6
    )
    size = float(np.mean(table.targets**2))
    assert state.data.loss <= 1e-20 * size, state


@dev_size
@given(seed=seeds)
def test_als_and_levenberg_marquardt_agree(seed: int) -> None:
    """Both end at the same function where there is one minimum: one product from a good start."""
    columns = Columns(AXES, ((0, 1, 2),), (1,))
    rng = np.random.default_rng(seed)
    exact = [rng.uniform(0.5, 1, (a.size, len(k))) for a, k in zip(AXES, columns.active, strict=True)]
    table = random_table(seed, 200)
    noisy = values_at(columns, exact, table.points) + 0.1 * table.targets
    samples, penalty = replace(table, targets=noisy).samples(AXES), Penalty((1e-3,) * 4 + (0.0,), apart=1e-6)
    state = levenberg_marquardt(samples, columns, exact, Squared(), penalty, steps=100, tol=1e-14)
    factors = exact
    for _ in range(30):
        factors = sweep(samples, columns, factors, Squared(), penalty)
    value = objective(samples, columns, factors, Squared()) + penalty.value(columns, factors)
    assert math.isclose(value, state.objective, rel_tol=1e-8)
    ours, theirs = (values_at(columns, f, table.points) for f in (factors, state.factors))
    # the objective is flat to second order: the root of its agreement
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def test_directions_that_nothing_sees_stay() -> None:
    matrix, start = np.diag([2.0, 0.0]), np.array([1.0, 7.0])
    solution = solve_symmetric(matrix, np.array([6.0, 0.0]), start)
    np.testing.assert_allclose(solution, [3.0, 7.0], rtol=1e-12)
    np.testing.assert_array_equal(solve_symmetric(0 * matrix, np.zeros(2), start), start)


# ------------------------------------------------------------------------------------------------------------ shapes


@dev_size
@given(seed=seeds)
def test_moves_keep_the_function(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = random_columns(seed, FREE), random_columns(seed + 1, FREE)
    points = random_table(seed, 12, FREE).points
    model = Model(*one, Penalty(WEIGHTS))
    f = values_at(*one, points)
    both = model.joined(*other)
    np.testing.assert_allclose(
        values_at(both.columns, both.factors, points), f + values_at(*other, points), rtol=0, atol=1e-12
    )
    neat = both.tidy()
    np.testing.assert_allclose(
        values_at(neat.columns, neat.factors, points), f + values_at(*other, points), rtol=0, atol=1e-12
    )
    assert all(r == 1 for s, r in zip(neat.columns.subsets, neat.columns.ranks, strict=True) if len(s) == 1)
    fine = {0: FitAxis(FREE[0].basis.refine()), 1: FitAxis(FREE[1].basis.refine())}
    finer = model.refined(fine)
    assert finer.columns.axes[0].size > FREE[0].size
    np.testing.assert_allclose(values_at(finer.columns, finer.factors, points), f, rtol=0, atol=1e-12)
    axis = int(rng.integers(0, 4))
    without = model.without(axis)
    nodes, weights = gauss(FREE[axis].basis.breaks, 20)
    mean = np.zeros(len(points))
    for x, w in zip(nodes, weights / weights.sum(), strict=True):
        moved = points.copy()
        moved[:, axis] = x
        mean += w * values_at(*one, moved)
    np.testing.assert_allclose(values_at(without.columns, without.factors, points), mean, rtol=0, atol=1e-11)
    assert not len(without.columns.active[axis])


def test_without_the_constant() -> None:
    model = empty_model(AXES, Penalty(WEIGHTS))
    assert model.columns.size == 0
    with pytest.raises(ValueError, match="no axis to leave out"):
        model.without(4)


def test_windows_of_changed_axes_alone_are_made_anew() -> None:
    table = random_table(0, PART + 10)
    old = table.samples(AXES)
    assert [len(part.targets) for part in old.parts] == [PART, 10]
    finer = (FitAxis(AXES[0].basis.refine()), *AXES[1:])
    new = table.samples(finer, like=old, new=(0,))
    direct = table.samples(finer)
    for a, b, before in zip(new.parts, direct.parts, old.parts, strict=True):
        assert a.windows[1] is before.windows[1]
        for (f, v), (g, w) in zip(a.windows, b.windows, strict=True):
            np.testing.assert_array_equal(f, g)
            np.testing.assert_array_equal(v, w)
