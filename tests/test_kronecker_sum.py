"""Sums of exponentials for 1/s, Kronecker sums and their inverses, and the starts made of them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solver_support import EPS, dense, full_vector, system_of
from support import dev_size

import sepnet as sn
from sepnet.solvers.exponential_sums import TIGHTEST, exponential_sum, shortest_sum
from sepnet.solvers.kronecker_sum import KroneckerSum
from sepnet.solvers.lifting import make_lift
from sepnet.solvers.starts import laplace_start
from sepnet.solvers.system import make_system, residual_norm

# ------------------------------------------------------------------------------------------------------- exponentials


def error_of(weights, exponents, low, high):
    s = np.geomspace(low, high, 4001)
    return float(np.abs(s * (np.exp(-np.outer(s, exponents)) @ weights) - 1.0).max())


@given(st.floats(-8.0, 8.0), st.floats(0.0, 10.0), st.floats(-12.5, -0.1))
def test_exponential_sum_meets_its_tolerance(start, decades, accuracy):
    check_sum(10.0**start, 10.0 ** (start + decades), 10.0**accuracy)


def check_sum(low, high, tol):
    weights, exponents = exponential_sum(low, high, tol)
    # adding up round-off of the exponents, of at most t s = 40, takes some 40 eps
    assert error_of(weights, exponents, low, high) <= tol + 50 * EPS
    assert (weights > 0).all()  # so that what the dual norm measures is a norm
    assert (exponents > 0).all()
    assert (np.diff(exponents) > 0).all()
    # the best sum has some log(16 / tol) log(8 R) / pi**2 terms (Braess and Hackbusch, large R): a tenth and six more
    best = math.log(16 / tol) * math.log(8 * high / low) / math.pi**2
    assert weights.size <= 1.1 * best + 6.0


@dev_size
@given(st.sampled_from([0.0, 0.5, 3.0, 9.0]), st.integers(1, 60))
def test_shortest_sum_has_no_more_terms_and_no_better_one_does(decades, terms):
    low, high = 3.0, 3.0 * 10.0**decades
    weights, exponents = shortest_sum(low, high, terms)
    assert 1 <= weights.size <= terms
    assert (weights > 0).all()
    error = error_of(weights, exponents, low, high)
    if error > 10 * TIGHTEST and weights.size < terms:
        # no step of the ladder of errors, a quarter of a decade each, lies between: another has more terms
        assert exponential_sum(low, high, max(error * 10**-0.5, TIGHTEST))[0].size > terms


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0, math.inf), (math.nan, 1.0)])
def test_no_interval_is_refused(low, high):
    with pytest.raises(ValueError, match=r"`low` and `high` are .*expected 0 < low <= high"):
        exponential_sum(low, high, 1e-3)


@pytest.mark.parametrize("tol", [0.0, 1e-14, 1.0, math.nan])
def test_no_tolerance_is_refused(tol):
    with pytest.raises(ValueError, match=r"`tol` is .*expected a number from 1e-13 to below 1"):
        exponential_sum(1.0, 2.0, tol)


# ----------------------------------------------------------------------------------------------------- Kronecker sums

AXES = {
    "spline": sn.BSpline((0, 1), cells=5, degree=2, zero="both"),
    "left": sn.BSpline((0, 2), cells=4, degree=3, zero="left"),
    "ring": sn.BSpline((0, 1), cells=8, degree=2, periodic=True),
    "free": sn.BSpline((-1, 1), cells=3, degree=2),
    "fourier": sn.Fourier((0, 1), 2),
    "legendre": sn.Legendre((0, 1), 5, zero="both"),
}
KINDS = st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=3)


def space(kinds):
    return sn.TensorSpace(**{f"a{i}": AXES[k] for i, k in enumerate(kinds)})


def random_kronecker_sum(kinds, seed):
    """Diffusion and reaction that depend on the own axis only, a first-order pair, a Robin term."""
    V = space(kinds)
    rng = np.random.default_rng(seed)
    form = float(rng.uniform(0.1, 5.0)) * sn.inner(V.identity, V.identity)
    for x, d in zip(V.coordinates, V.d, strict=True):
        a, b, c = rng.uniform(0.1, 2.0, 3)
        form = form + sn.inner((3.0 + a * x) * d, d) + sn.inner(b * x**2 * V.identity, V.identity)
        form = form + 0.1 * c * (sn.inner(d, V.identity) + sn.inner(V.identity, d))
    if kinds[0] == "left":
        face = V.identity.at(a0=2)
        form = form + sn.inner(1.5 * face, face)
    return V, form


def load_of(V, form, seed):
    """A load of several terms."""
    first, last = V.coordinates[0], V.coordinates[-1]
    wave = sn.product(**{V.names[0]: lambda s: np.cos(3.0 * s + seed)})
    return system_of(sn.Galerkin(form, source=1 + first * last - 2 * wave))


@dev_size
@given(KINDS, st.integers(0, 2**31), st.floats(-11.0, -1.0))
def test_solution_is_the_dense_one(kinds, seed, accuracy):
    check_solution(kinds, seed, 10.0**accuracy)


def check_solution(kinds, seed, tol):
    V, form = random_kronecker_sum(kinds, seed)
    matrix, load, _ = load_of(V, form, seed)
    A, b = dense(matrix), load.dense()
    P = KroneckerSum.from_form(form)
    assert P.exact
    exact = np.linalg.solve(A, b)
    distance = full_vector(P.solve(load, tol)) - exact
    # the tolerance, and the residual of a dense solution and of the eigenvectors, relative to the condition number
    room = tol + 100 * EPS * np.linalg.cond(A)
    assert math.sqrt(distance @ A @ distance) <= room * math.sqrt(exact @ A @ exact)


@dev_size
@given(KINDS, st.integers(0, 2**31))
def test_spectrum_is_that_of_the_form(kinds, seed):
    V, form = random_kronecker_sum(kinds, seed)
    P = KroneckerSum.from_form(form)
    A = dense(system_of(sn.Galerkin(form, source=1))[0])
    M = dense(system_of(sn.Galerkin(sn.inner(V.identity, V.identity), source=1))[0])
    root = np.linalg.inv(np.linalg.cholesky(M))
    values = np.linalg.eigvalsh(root @ A @ root.T)
    # M has a condition number of some 1e2 an axis
    assert P.low == pytest.approx(values[0], rel=1e-10)
    assert P.high == pytest.approx(values[-1], rel=1e-10)
    assert all(v[0] == 0.0 and (np.diff(v) >= 0).all() for v in P.values)
    for basis, vectors in zip(V.bases, P.vectors, strict=True):
        mass = dense(system_of(sn.Galerkin(sn.inner(*[sn.TensorSpace(x=basis).identity] * 2), source=1))[0])
        np.testing.assert_allclose(vectors.T @ mass @ vectors, np.eye(basis.size), atol=1e-10)


def not_kronecker(V):
    x, y = V.coordinates
    plain = sn.inner(V.d.a0, V.d.a0) + sn.inner(V.d.a1, V.d.a1) + sn.inner(V.identity, V.identity)
    return {
        "diffusion depends on the other axis": plain + sn.inner(y * V.d.a0, V.d.a0),
        "mixed derivatives": plain + 0.1 * (sn.inner(V.d.a0, V.d.a1) + sn.inner(V.d.a1, V.d.a0)),
        "reaction on both axes": plain + sn.inner(x * y * V.identity, V.identity),
        "a face with a coefficient": plain + sn.inner(y * V.identity.at(a0=1), V.identity.at(a0=1)),
        "wind": plain + sn.inner(V.d.a0, V.identity),
        "negative": plain - 100.0 * sn.inner(V.identity, V.identity),
        "without energy": sn.inner(V.d.a0, V.d.a0) + sn.inner(V.d.a1, V.d.a1),
    }


@pytest.mark.parametrize("what", not_kronecker(space(("free", "free"))))
def test_other_forms_are_no_kronecker_sums_and_give_positive_ones(what):
    P = KroneckerSum.from_form(not_kronecker(space(("free", "free")))[what])
    assert not P.exact
    assert 0.0 < P.low <= P.high < math.inf
    assert all(np.isfinite(v).all() and v[0] == 0.0 for v in P.values)


def test_a_constant_coefficient_on_another_axis_is_exact_and_the_mean_of_others():
    V = space(("free", "free"))
    _, y = V.coordinates
    plain = sn.inner(2.0 * V.d.a0, V.d.a0) + sn.inner(V.d.a1, V.d.a1) + sn.inner(V.identity, V.identity)
    constant = sn.inner(sn.apply(lambda s: np.full_like(s, 2.0), y) * V.d.a0, V.d.a0)
    P = KroneckerSum.from_form(constant + sn.inner(V.d.a1, V.d.a1) + sn.inner(V.identity, V.identity))
    reference = KroneckerSum.from_form(plain)
    assert P.exact
    # quadrature with other points: round-off of the largest eigenvalue
    np.testing.assert_allclose(P.values[0], reference.values[0], rtol=0, atol=1e-12 * P.high)
    # y runs from -1 to 1, its mean is zero by symmetry
    mean = KroneckerSum.from_form(
        sn.inner((2.0 + y) * V.d.a0, V.d.a0) + sn.inner(V.d.a1, V.d.a1) + sn.inner(V.identity, V.identity)
    )
    assert not mean.exact
    np.testing.assert_allclose(mean.values[0], reference.values[0], rtol=0, atol=1e-12 * P.high)


@pytest.mark.parametrize("rank", [1, 3, 7, 100])
def test_rank_bounds_the_columns_and_more_of_them_lower_the_error(rank):
    V, form = random_kronecker_sum(("spline", "legendre"), 1)
    matrix, load, _ = load_of(V, form, 1)
    P = KroneckerSum.from_form(form)
    A, b = dense(matrix), load.dense()
    exact = np.linalg.solve(A, b)

    def distance(factors):
        e = full_vector(factors) - exact
        return math.sqrt((e @ A @ e) / (exact @ A @ exact))

    factors = P.solve(load, 1e-6, rank=rank)
    assert 1 <= factors[0].shape[1] <= rank
    assert distance(factors) <= (1e-6 if rank == 100 else 1.0)
    norms = [np.linalg.norm(np.linalg.solve(v, f), axis=0) for v, f in zip(P.vectors, factors, strict=True)]
    np.testing.assert_allclose(norms[0], norms[1], rtol=1e-10)  # spread evenly, in L2
    assert (np.diff(norms[0]) <= 1e-12 * norms[0][0]).all()  # the largest first
    assert distance(P.solve(load, 1e-6, rank=12 * load.weights.size)) < 0.05
    with pytest.raises(ValueError, match=r"`rank` is 0, expected an integer >= 1"):
        P.solve(load, 1e-3, rank=0)


def poisson(d, cells=8):
    V = sn.TensorSpace(**{f"x{i}": sn.BSpline((0, 1), cells=cells, zero="both") for i in range(d)})
    return V, sum(sn.inner(k, k) for k in V.d)


def test_equal_axes_share_their_arrays():
    V, form = poisson(64)
    P = KroneckerSum.from_form(form)
    assert len({id(v) for v in P.vectors}) == len({id(v) for v in P.values}) == 1
    other = KroneckerSum.from_form(form + sn.inner(V.d.x3, V.d.x3))
    assert len({id(v) for v in other.vectors}) == len({id(v) for v in other.values}) == 2


def test_sixty_four_axes_have_the_residual_that_was_asked_for():
    _, form = poisson(64)
    matrix, load, _ = system_of(sn.Galerkin(form, source=1))
    P = KroneckerSum.from_form(form)
    factors = P.solve(load, 1e-4)
    assert all(np.isfinite(f).all() for f in factors)
    # u'A u = u'b for the solution, whose relative error in energy is 1e-4 at most: by its square and to first order
    energy, work = matrix.energy(factors), load.inner(factors)
    assert abs(energy - work) <= 2e-4 * energy
    assert sum(f.size for f in factors) == 64 * 9 * factors[0].shape[1]  # linear in the number of axes


def test_cost_is_linear_in_the_number_of_axes(monkeypatch):
    calls = []
    original = np.linalg.norm
    monkeypatch.setattr(np.linalg, "norm", lambda *a, **k: calls.append(np.size(a[0])) or original(*a, **k))
    costs = []
    for d in (4, 8, 16, 32):
        _, form = poisson(d)
        _, load, _ = system_of(sn.Galerkin(form, source=1))
        calls.clear()
        KroneckerSum.from_form(form).solve(load, 1e-4)
        costs.append(sum(calls))
    assert np.polyfit(np.log([4, 8, 16, 32]), np.log(costs), 1)[0] <= 1.1


# ------------------------------------------------------------------------------------------------------------- starts


def started(problem, tol, rank=None, riesz=None):
    lift = make_lift(problem, 1e-6)
    system = make_system(problem, lift)
    return system, lift, laplace_start(problem, system, lift, tol=tol, rank=rank, riesz=riesz)


def test_start_of_a_galerkin_problem_is_its_solution():
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=6), y=sn.BSpline((0, 1), cells=6, zero="left"))
    x, y = V.coordinates
    form = sn.inner(V.d.x, V.d.x) + sn.inner(V.d.y, V.d.y) + sn.inner(V.identity, V.identity)
    problem = sn.Galerkin(form, source=x, boundary={"x": (y, None)})
    system, lift, factors = started(problem, 1e-9)
    u = system.scale * sn.CP(system.space, factors) + lift.function
    reference = sn.solve(problem, method="full").u
    # the tolerance, in the energy; in L2 the factor between them is below 10 here
    assert (u - reference).norm() <= 1e-8 * reference.norm()
    given_sum = started(problem, 1e-9, riesz=KroneckerSum.from_form(problem.form.on(system.space)))[2]
    np.testing.assert_array_equal(given_sum[0], factors[0])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_start_of_least_squares_is_nearly_its_minimiser(sign):
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=10), y=sn.BSpline((0, 1), cells=10, zero="both"))
    _, y = V.coordinates
    L = sign * (3.0 * V.identity - V.d.x**2 - 2.0 * V.d.y**2)
    problem = sn.LeastSquares(L, source=1, boundary={"x": (y * (1 - y), 0)})
    system, lift, factors = started(problem, 1e-8)
    factors[0] = factors[0] * system.scale
    residual = residual_norm(system, lift.function, factors)
    best = sn.solve(problem, method="full").residual_norm
    # both have the order of the mesh; Galerkin's residual is some per cent larger, and no sign or scale is wrong
    assert best <= residual * (1 + 1e-6)
    assert residual <= 1.2 * best
    assert best < 0.1 * system.scale


def least_squares_without_a_start():
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=5, zero="both"), y=sn.BSpline((0, 1), cells=5, zero="both"))
    x, _ = V.coordinates
    free = sn.TensorSpace(x=sn.BSpline((0, 1), cells=5), y=sn.BSpline((0, 1), cells=5, zero="both"))
    laplace, d = V.d.x**2 + V.d.y**2, free.d
    return {
        "coefficient on another axis": sn.LeastSquares(V.d.y**2 + x * V.d.y**2 + V.d.x**2, source=1),
        "wind": sn.LeastSquares(laplace + V.d.x, source=1),
        "product of derivatives": sn.LeastSquares(V.d.x**2 @ V.d.y**2, source=1),
        "indefinite": sn.LeastSquares(V.d.x**2 - V.d.y**2, source=1),
        "conditions": sn.LeastSquares(laplace, source=1, conditions=[(V.d.x.at(x=1), 1.0)]),
        "free end": sn.LeastSquares(d.x**2 + d.y**2, source=1, boundary={"x": (0, None)}),
    }


@pytest.mark.parametrize("what", least_squares_without_a_start())
def test_other_least_squares_problems_have_no_start(what):
    assert started(least_squares_without_a_start()[what], 1e-3)[2] is None


def test_other_galerkin_problems_and_loads_of_many_terms_have_no_start():
    V = space(("spline", "legendre"))
    x, y = V.coordinates
    plain = sn.inner(V.d.a0, V.d.a0) + sn.inner(V.d.a1, V.d.a1)
    assert started(sn.Galerkin(plain + sn.inner(x * y * V.identity, V.identity), source=1), 1e-3)[2] is None
    assert started(sn.Galerkin(plain, source=1 + x * y), 1e-3, rank=1)[2] is None
    assert started(sn.Galerkin(plain, source=1 + x * y), 1e-3, rank=2)[2][0].shape[1] == 2
    assert started(sn.Galerkin(plain, source=0), 1e-3)[2] is None
