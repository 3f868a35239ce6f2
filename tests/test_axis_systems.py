"""The linear system of one ALS step, for every kind of axis and every namespace, against the dense matrix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solver_support import EPS, matrix_of, ratio
from support import dev_size

import sepnet as sn
from sepnet.solvers import block_band
from sepnet.solvers.axis_systems import GROWTH, RIDGE, NotPositiveDefiniteError, factorise_axis, solve_axis

AXES = {
    "banded": sn.BSpline((0, 1), cells=9, degree=3, zero="both"),
    "banded, as wide as long": sn.BSpline((0, 1), cells=1, degree=3),
    "linear": sn.BSpline((0, 1), cells=5, degree=1),
    "constant": sn.BSpline((0, 1), cells=1, degree=0),
    "cyclic": sn.BSpline((0, 1), cells=17, degree=3, periodic=True),
    "cyclic, just long enough for a border": sn.BSpline((0, 1), cells=10, degree=3, periodic=True),
    "cyclic, too short for a border": sn.BSpline((0, 1), cells=9, degree=3, periodic=True),
    "cyclic, one cell": sn.BSpline((0, 1), cells=1, degree=3, periodic=True),
    "fourier": sn.Fourier((0, 1), 3),
    "legendre": sn.Legendre((0, 1), 6, zero="both"),
    "chebyshev": sn.Chebyshev((0, 1), 5),
}


def stack(basis):
    """The 1-D matrices of a step: stiffness and a mass with a weight, both symmetric."""
    V = sn.TensorSpace(x=basis)
    (x,) = V.coordinates
    form = sn.inner((1 + x) * V.identity, V.identity)
    if basis.max_order >= 1:
        form = form + sn.inner(V.d.x, V.d.x)
    return matrix_of(form).axes[0]


def positive(rng, count, rank, spread=1.0):
    """Symmetric positive definite weights with a condition of about 10**(2 spread)."""
    result = []
    for _ in range(count):
        q, _ = np.linalg.qr(rng.standard_normal((rank, rank)))
        result.append(q * 10 ** rng.uniform(-spread, spread, rank) @ q.T)
    w = np.array(result)
    return (w + w.transpose(0, 2, 1)) / 2


def system(axis, weights):
    return sum(np.kron(a, w) for a, w in zip(np.asarray(axis.dense()), weights, strict=True))


def check_solution(H, x, b, eps):
    """LAPACK's residual ratio, up to the ridge.

    The ridge changes H by at most RIDGE eps (diag + mean), whose 1-norm is at most 2 RIDGE ||H||_1: an exact solution
    of the regularised system has a ratio of at most 2 RIDGE = 128, Cholesky itself adds what LAPACK allows, 30.
    """
    assert ratio(H, x, b, eps) < 30 + 2 * RIDGE
    # and without the ridge: r + ridge x is what Cholesky left
    ridge = RIDGE * eps * (np.diag(H) + np.diag(H).mean())
    # LAPACK's threshold: for the matrix with its ridge, or for the matrix itself where the ridge was refined away
    assert min(ratio(H + np.diag(ridge), x, b, eps), ratio(H, x, b, eps)) < 30


def check_numpy(kind, rank, seed):
    axis = stack(AXES[kind])
    rng = np.random.default_rng(seed)
    weights = positive(rng, axis.count, rank)
    load = rng.standard_normal((axis.size, rank))
    H = system(axis, weights)
    x = solve_axis(axis, weights, load)
    assert x.shape == load.shape
    check_solution(H, x.ravel(), load.ravel(), EPS)


@dev_size
@given(st.sampled_from(sorted(AXES)), st.integers(1, 5), st.integers(0, 2**31))
def test_solution_in_numpy(kind, rank, seed):
    check_numpy(kind, rank, seed)


@pytest.mark.parametrize("kind", sorted(AXES))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_kind_and_dtype(kind, dtype):
    axis = stack(AXES[kind])
    rng = np.random.default_rng(7)
    weights = positive(rng, axis.count, 3, spread=0.5).astype(dtype)
    load = rng.standard_normal((axis.size, 3)).astype(dtype)
    moved = axis.to(np, None, dtype)
    x = solve_axis(moved, weights, load)
    assert x.dtype == dtype
    H = system(moved, weights.astype(np.float64))
    check_solution(H, x.ravel().astype(np.float64), load.ravel().astype(np.float64), float(np.finfo(dtype).eps))


@pytest.mark.parametrize("kind", ["banded", "cyclic", "legendre", "fourier", "cyclic, one cell"])
def test_every_namespace(xp, kind):
    axis = stack(AXES[kind])
    rng = np.random.default_rng(3)
    weights, load = positive(rng, axis.count, 3, spread=0.5), rng.standard_normal((axis.size, 3))
    moved = axis.to(xp.xp, xp.device, xp.dtype)
    x = solve_axis(moved, xp.asarray(weights), xp.asarray(load))
    assert x.dtype == xp.dtype
    host = np.asarray(_host(x), dtype=np.float64)
    H = system(axis, weights)
    # rounding weights, load and matrices to the dtype changes H and b by eps each: 2 more than a solver may
    check_solution(H, host.ravel(), load.ravel(), xp.eps)


@pytest.mark.parametrize("kind", ["banded", "linear", "cyclic", "legendre"])
def test_the_way_of_a_device(xp, kind, monkeypatch):
    # as on a device, but for the size of the blocks: several of them, and the inverses of their factors
    monkeypatch.setattr(block_band, "on_host", lambda array: False)
    monkeypatch.setattr(block_band, "DEVICE_ROWS", 1)
    monkeypatch.setattr(block_band, "FEW", 1)
    axis = stack(AXES[kind])
    rng = np.random.default_rng(3)
    weights, load = positive(rng, axis.count, 3, spread=0.5), rng.standard_normal((axis.size, 3))
    moved = axis.to(xp.xp, xp.device, xp.dtype)
    H = system(axis, weights)
    many = factorise_axis(moved, xp.asarray(weights))
    for x in (solve_axis(moved, xp.asarray(weights), xp.asarray(load)), many(xp.asarray(load))):
        check_solution(H, np.asarray(_host(x), dtype=np.float64).ravel(), load.ravel(), xp.eps)
    indefinite = xp.asarray(np.stack([np.array([[1.0, 1.2], [1.2, 1.0]])] * axis.count))
    with pytest.raises(NotPositiveDefiniteError):
        solve_axis(moved, indefinite, xp.asarray(np.ones((axis.size, 2))))


def _host(array):
    from sepnet.backends.arrays import to_host

    return to_host(array)


@pytest.mark.parametrize("kind", sorted(AXES))
def test_one_factorisation_serves_many_loads(xp, kind):
    axis = stack(AXES[kind])
    rng = np.random.default_rng(5)
    weights = positive(rng, axis.count, 3, spread=0.5)
    solve = factorise_axis(axis.to(xp.xp, xp.device, xp.dtype), xp.asarray(weights))
    H = system(axis, weights)
    for _ in range(2):
        load = rng.standard_normal((axis.size, 3))
        moved = xp.asarray(load)
        x = solve(moved)
        assert x.dtype == xp.dtype
        assert tuple(x.shape) == load.shape
        np.testing.assert_array_equal(_host(moved), load.astype(xp.host_dtype))
        check_solution(H, np.asarray(_host(x), dtype=np.float64).ravel(), load.ravel(), xp.eps)


@pytest.mark.parametrize("kind", ["banded", "cyclic", "legendre"])
def test_damped_weights_shift_the_terms(kind):
    # (1 + s) on the diagonals of the weights: s times the block of each term alone
    axis = stack(AXES[kind])
    rng = np.random.default_rng(6)
    weights, load = positive(rng, axis.count, 2, spread=0.5), rng.standard_normal((axis.size, 2))
    x = factorise_axis(axis, weights * (1 + 0.5 * np.eye(2)))(load)
    alone = sum(np.kron(a, np.diag(np.diag(w))) for a, w in zip(np.asarray(axis.dense()), weights, strict=True))
    check_solution(system(axis, weights) + 0.5 * alone, x.ravel(), load.ravel(), EPS)


@pytest.mark.parametrize("kind", ["banded", "cyclic", "legendre"])
def test_scaling_of_the_unknowns_hardly_matters(kind):
    # columns of different size, as between ALS steps: most of the ridge is relative to each diagonal entry
    axis = stack(AXES[kind])
    rng = np.random.default_rng(11)
    weights, load = positive(rng, axis.count, 3, spread=0.2), rng.standard_normal((axis.size, 3))
    scale = np.array([1.0, 100.0, 0.1])
    x = solve_axis(axis, weights, load)
    y = solve_axis(axis, weights * scale[:, None] * scale, load * scale) * scale
    # the other part of it is RIDGE eps of the mean, 1e4 / 1e-2 times the entries of the smallest column
    kappa = np.linalg.cond(system(axis, weights))
    np.testing.assert_allclose(y, x, rtol=0, atol=RIDGE * EPS * 1e6 * kappa * np.abs(x).max())


@pytest.mark.parametrize("kind", ["banded", "cyclic", "cyclic, one cell", "fourier", "legendre"])
def test_indefinite_systems_raise(xp, kind):
    axis = stack(AXES[kind]).to(xp.xp, xp.device, xp.dtype)
    # one positive and one negative column: no ridge that is a perturbation can mend that
    weights = np.stack([np.diag([1.0, -1.0])] * axis.count)
    with pytest.raises(NotPositiveDefiniteError, match="not positive definite"):
        solve_axis(axis, xp.asarray(weights), xp.asarray(np.ones((axis.size, 2))))
    with pytest.raises(NotPositiveDefiniteError, match="not positive definite"):
        factorise_axis(axis, xp.asarray(weights))


@pytest.mark.parametrize("large", [True, False])
@pytest.mark.parametrize("kind", ["banded", "cyclic", "legendre"])
def test_solutions_whose_squares_are_no_numbers(xp, kind, large):
    # the factorisation is the same and everything else linear: a power of two changes no digit
    axis = stack(AXES[kind]).to(xp.xp, xp.device, xp.dtype)
    rng = np.random.default_rng(5)
    weights, load = positive(rng, axis.count, 3), rng.standard_normal((axis.size, 3))
    scale = 2.0 ** ((80 if xp.eps > EPS else 600) * (1 if large else -1))
    x = solve_axis(axis, xp.asarray(weights), xp.asarray(load))
    y = solve_axis(axis, xp.asarray(weights), xp.asarray(load) * scale)
    assert (_host(y) == _host(x) * scale).all()


@pytest.mark.parametrize("kind", ["banded", "cyclic", "fourier", "legendre"])
def test_indefinite_systems_with_a_positive_diagonal_raise(xp, kind):
    # eigenvalues 2.2 and -0.2: a ridge that grew without regard to the dtype would cover it up in float32
    axis = stack(AXES[kind]).to(xp.xp, xp.device, xp.dtype)
    weights = np.stack([np.array([[1.0, 1.2], [1.2, 1.0]])] * axis.count)
    with pytest.raises(NotPositiveDefiniteError):
        solve_axis(axis, xp.asarray(weights), xp.asarray(np.ones((axis.size, 2))))


@pytest.mark.parametrize("kind", ["banded", "cyclic", "legendre"])
def test_empty_and_dependent_columns_have_a_finite_answer(xp, kind):
    # a column that became zero, or equal to another, is ALS's daily bread: the ridge keeps the answer finite
    axis = stack(AXES[kind]).to(xp.xp, xp.device, xp.dtype)
    ones, empty = np.ones((axis.count, 2, 2)), np.zeros((axis.count, 2, 2))
    empty[:, 0, 0] = 1.0
    for weights, load in ((ones, np.ones((axis.size, 2))), (empty, np.eye(axis.size, 2)[:, ::-1] * [[0.0, 1.0]])):
        x = _host(solve_axis(axis, xp.asarray(weights), xp.asarray(load * [[1.0, float(weights[0, 1, 1])]])))
        assert np.isfinite(x).all()
    # dependent columns share the load evenly: their sum solves the single system
    x = _host(solve_axis(axis, xp.asarray(ones), xp.asarray(np.ones((axis.size, 2))))).sum(axis=1)
    H = system(stack(AXES[kind]), np.ones((axis.count, 1, 1)))
    # up to GROWTH times the ridge, should the first trial have failed
    assert ratio(H, x, np.ones(axis.size), xp.eps) < 30 + 4 * RIDGE * GROWTH


def test_not_a_number_is_no_solution():
    axis = stack(AXES["banded"])
    with pytest.raises(NotPositiveDefiniteError):
        solve_axis(axis, np.full((axis.count, 2, 2), np.nan), np.ones((axis.size, 2)))


@pytest.mark.parametrize("kind", ["banded", "cyclic", "legendre"])
def test_the_ridge_is_refined_away_where_it_is_felt(kind):
    # an ill-conditioned system with a smooth solution: the ridge alone would cost RIDGE eps kappa, about 1e-3
    axis = stack(AXES[kind])
    rank = 2
    weights = np.zeros((axis.count, rank, rank))
    weights[0] = np.array([[1.0, 1.0 - 1e-11], [1.0 - 1e-11, 1.0]])
    H = system(axis, weights)
    exact = np.linalg.solve(np.asarray(axis.dense()[0]), np.ones(axis.size))
    x = np.stack([exact, -exact], axis=1)
    solved = solve_axis(axis, weights, (H @ x.ravel()).reshape(x.shape))
    # round-off of the load and of the solution: eps kappa, kappa 2e11 times that of the one-dimensional matrix
    kappa = np.linalg.cond(H)
    assert np.abs(solved - x).max() <= 4 * EPS * kappa * np.abs(x).max()
