"""The dual norm of a Galerkin residual against its dense definition."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solver_support import dense, full_vector, random_factors, system_of
from support import dev_size

import sepnet as sn
from sepnet.solvers.dual_norm import DualNorm
from sepnet.solvers.kronecker_sum import KroneckerSum

# The sum of exponentials is within 0.1 % of 1/s, hence the norm within 0.05 %.
CLOSE = 1e-3


AXES = {
    "spline": sn.BSpline((0, 1), cells=5, degree=2, zero="both"),
    "left": sn.BSpline((0, 2), cells=4, degree=3, zero="left"),
    "ring": sn.BSpline((0, 1), cells=8, degree=2, periodic=True),
    "free": sn.BSpline((-1, 1), cells=3, degree=2),
    "fourier": sn.Fourier((0, 1), 2),
    "legendre": sn.Legendre((0, 1), 5, zero="both"),
}


def kronecker_sum(kinds, diffusion, shift):
    V = sn.TensorSpace(**{f"a{i}": AXES[k] for i, k in enumerate(kinds)})
    form = shift * sn.inner(V.identity, V.identity)
    for c, d in zip(diffusion, V.d, strict=False):
        form = form + c * sn.inner(d, d)
    return V, form


def measured(problem, factors, xp=None):
    matrix, load, _ = system_of(problem)
    target = (np, None, np.float64) if xp is None else (xp.xp, xp.device, xp.dtype)
    norm = DualNorm(problem.form, matrix, load, *target)
    moved = factors if xp is None else [xp.asarray(f) for f in factors]
    return norm, norm.measure(moved), dense(matrix), load.dense()


@dev_size
@given(
    st.lists(st.sampled_from(sorted(AXES)), min_size=2, max_size=3),
    st.floats(0.1, 5.0),
    st.integers(0, 2**31),
    st.integers(1, 3),
)
def test_norm_equals_the_dense_one(kinds, shift, seed, rank):
    check_norm(kinds, shift, seed, rank)


def check_norm(kinds, shift, seed, rank):
    V, form = kronecker_sum(kinds, (1.0, 1e-3, 30.0), shift)
    first = V.coordinates[0]
    factors = random_factors(V, rank, seed)
    norm, (value, floor), A, b = measured(sn.Galerkin(form, source=1 + first), factors)
    # the form is its own Kronecker sum: P = A
    residual = A @ full_vector(factors) - b
    expected = math.sqrt(residual @ np.linalg.solve(A, residual))
    assert abs(value - expected) <= CLOSE * expected
    assert floor < value
    assert norm.reference == pytest.approx(math.sqrt(b @ np.linalg.solve(A, b)), rel=CLOSE)


def test_variable_coefficients_count_by_their_mean():
    V = sn.TensorSpace(x=AXES["spline"], y=AXES["legendre"])
    x, _ = V.coordinates
    form = sn.inner(V.d.x, V.d.x) + sn.inner((1 + 3 * x) * V.d.y, V.d.y)
    factors = random_factors(V, 2, 5)
    _, (value, _), A, b = measured(sn.Galerkin(form, source=1), factors)
    weighted = dense(system_of(sn.Galerkin(sn.inner((1 + 3 * x) * V.identity, V.identity), source=1))[0])
    plain = dense(system_of(sn.Galerkin(sn.inner(V.identity, V.identity), source=1))[0])
    mean = np.trace(weighted) / np.trace(plain)
    Kx = dense(system_of(sn.Galerkin(sn.inner(V.d.x, V.d.x), source=1))[0])
    Ky = dense(system_of(sn.Galerkin(sn.inner(V.d.y, V.d.y), source=1))[0])
    P = Kx + mean * Ky
    residual = A @ full_vector(factors) - b
    assert value == pytest.approx(math.sqrt(residual @ np.linalg.solve(P, residual)), rel=CLOSE)


def test_for_poisson_it_is_the_energy_distance():
    _V, form = kronecker_sum(("spline", "spline"), (1.0, 1.0), 0.0)
    problem = sn.Galerkin(form, source=1)
    exact = sn.solve(problem, method="full").u
    solution = sn.solve(problem, rank=2)
    A = dense(system_of(problem)[0])
    e, u = (full_vector([np.asarray(f) for f in w.factors]) for w in (solution.u - exact, exact))
    assert solution.residual == pytest.approx(math.sqrt((e @ A @ e) / (u @ A @ u)), rel=2 * CLOSE)


def test_zero_residual_is_not_seen_below_its_floor():
    _V, form = kronecker_sum(("spline", "left"), (1.0, 1.0), 1.0)
    problem = sn.Galerkin(form, source=1)
    u = sn.solve(problem, method="full").u
    norm, (value, floor), _, _ = measured(problem, [np.asarray(f) for f in u.factors])
    assert value <= floor
    assert floor <= 1e-6 * norm.reference


@pytest.mark.parametrize("kinds", [("free", "ring"), ("fourier", "free")])
def test_singular_kronecker_sums_are_measured_all_the_same(kinds):
    # no reaction and no walls: constants have no energy; the norm must stay finite and positive
    V, form = kronecker_sum(kinds, (1.0, 1.0), 0.0)
    one = sn.inner(V.identity, V.identity)
    norm, (value, floor), _, _ = measured(sn.Galerkin(form, source=1), random_factors(V, 2, 0))
    assert np.isfinite([value, floor, norm.reference]).all()
    assert value > floor
    assert one.pairs


def test_same_on_every_namespace(xp):
    V, form = kronecker_sum(("spline", "ring", "legendre"), (1.0, 2.0, 0.5), 1.0)
    problem = sn.Galerkin(form, source=1 + V.coordinates[2])
    factors = random_factors(V, 2, 9)
    _, (here, _), _, _ = measured(problem, factors)
    _, (there, _), _, _ = measured(problem, factors, xp)
    # a square root of a sum of some 1e3 terms without cancellation (the factors are far from the solution)
    assert there == pytest.approx(here, rel=1e3 * xp.eps)


@pytest.mark.parametrize("size", [1e-5, 1e-8, 1e-11])
def test_residuals_below_the_round_off_of_the_difference_are_seen(size):
    # the difference of squares ends at sqrt(64 eps) = 1.2e-7; a residual of known size far below is a change of u
    V, form = kronecker_sum(("spline", "left", "legendre"), (1.0, 2.0, 0.5), 1.0)
    problem = sn.Galerkin(form, source=1 + V.coordinates[0])
    u = sn.solve(problem, method="full").u
    factors = [np.asarray(f) for f in u.factors]
    change = random_factors(V, 1, 3)
    norm, _, A, _ = measured(problem, factors)
    w = full_vector(change)
    change[0] = change[0] * size * norm.reference / math.sqrt(w @ A @ w)
    moved = [np.concatenate(pair, axis=1) for pair in zip(factors, change, strict=True)]
    value, floor = norm.measure(moved)
    # the dense solution has a residual of its own of some 1e2 units of round-off
    assert value == pytest.approx(size * norm.reference, rel=CLOSE + 1e-13 / size)
    assert floor < 1e-13 * norm.reference or size == 1e-5


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("d", [6, 64])
def test_many_axes_neither_overflow_nor_underflow(d, dtype):
    # u = c * (product of one function): ||A u - b|| follows from one-dimensional numbers alone
    # a short interval: the 64th power of a load's size, about 0.09, is out of the range of float32
    basis = sn.BSpline((0, 0.01), cells=6, zero="both")
    V = sn.TensorSpace(**{f"x{i}": basis for i in range(d)})
    form = sum(sn.inner(k, k) for k in V.d)
    matrix, load, _ = system_of(sn.Galerkin(form, source=1))
    riesz = KroneckerSum.from_form(form)
    norm = DualNorm(riesz, matrix, load, np, None, dtype)
    v, lam = riesz.vectors[0][:, 0], riesz.low / d
    first = float(v @ load.vectors[0][0])  # the load's part along the lowest mode, of every axis
    # b = (lowest mode) + rest; u solves for the first, 1 % too large: the residual is 0.01 times that, and the rest
    part = first**d / math.sqrt(d * lam)
    u = [(v * first * (1.01 / (d * lam)) ** (1 / d))[:, None].astype(dtype) for _ in range(d)]
    value, _ = norm.measure(u)
    expected = math.sqrt(norm.reference**2 - part**2 + (0.01 * part) ** 2)
    # in float32 the d-th power of a factor's round-off
    assert value == pytest.approx(expected, rel=CLOSE + 4 * d * float(np.finfo(dtype).eps))
    assert 0.0 < part < norm.reference


def test_the_kronecker_sum_may_be_given():
    V, form = kronecker_sum(("spline", "ring"), (1.0, 2.0), 1.0)
    problem = sn.Galerkin(form, source=1)
    matrix, load, _ = system_of(problem)
    factors = random_factors(V, 2, 1)
    one = DualNorm(form, matrix, load, np, None, np.float64).measure(factors)
    assert DualNorm(KroneckerSum.from_form(form), matrix, load, np, None, np.float64).measure(factors) == one
