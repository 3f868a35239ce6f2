"""The calculus of bases is closed: products, sums, derivatives, refinement, embedding."""

import numpy as np
import pytest
from basis_examples import EPS, every_basis, points_inside, rate, seeds, splines
from hypothesis import given

from sepnet.bases import BSpline, Chebyshev, Fourier, Legendre


def random_function(basis, seed):
    coefficients = np.random.default_rng(seed).standard_normal(basis.size)
    return lambda x, order=0: basis.values(x, order) @ coefficients


def assert_contains(basis, f, bound=1e4 * EPS):
    """`f`, interpolated in `basis`, is `f` everywhere: the error is that of the samples times a Lebesgue constant."""
    x = points_inside(basis, 100, 7)
    exact = f(x)
    error = np.abs(basis.values(x) @ basis.interpolate(f(basis.nodes)) - exact).max()
    assert error <= bound * max(np.abs(exact).max(), np.abs(f(basis.nodes)).max(), 1e-300)


@given(splines(), splines(), seeds)
def test_products_of_splines(first, second, seed):
    f, g = random_function(first, seed), random_function(second, seed + 1)
    basis = first.product_basis(second)
    assert basis.degree == first.degree + second.degree
    assert basis.periodic == (first.periodic and second.periodic)
    for end in ("left", "right"):
        assert (basis.zero in (end, "both")) == (first.zero in (end, "both") or second.zero in (end, "both"))
    # a break that both have up to round-off counts once, and a point beside it may fall on the other side
    assert_contains(basis, lambda x: f(x) * g(x))


@given(splines(), splines(), seeds)
def test_sums_of_splines(first, second, seed):
    f, g = random_function(first, seed), random_function(second, seed + 1)
    basis = first.sum_basis(second)
    assert basis.degree == max(first.degree, second.degree)
    assert basis.contains(first)
    assert basis.contains(second)
    assert_contains(basis, lambda x: f(x) + g(x))
    for end in ("left", "right"):
        assert (basis.zero in (end, "both")) == (first.zero in (end, "both") and second.zero in (end, "both"))


def test_a_sum_basis_is_the_smallest():
    first = BSpline((0, 1), cells=2, degree=2, continuity=0)
    second = BSpline((0, 1), cells=3, degree=2, zero="left")
    x = np.linspace(0, 1, 200)
    rank = np.linalg.matrix_rank(np.concatenate([first.values(x), second.values(x)], axis=1))
    assert first.sum_basis(second).size == rank
    assert first.sum_basis(second).continuity == (1, 0, 1)


def test_high_degrees_keep_their_digits():
    first = BSpline((0, 1), cells=5, degree=15, continuity=2)
    second = BSpline(breaks=(0, 1e-3, 0.2, 1), degree=15, zero="both")
    f, g = random_function(first, 0), random_function(second, 1)
    assert_contains(first.product_basis(second), lambda x: f(x) * g(x))
    with pytest.raises(ValueError, match="expected at most 30"):
        first.product_basis(second).product_basis(first)


@given(splines(most_degree=7), seeds)
def test_derivatives_of_splines(basis, seed):
    for order in range(min(basis.max_order, 3) + 1):
        f = random_function(basis, seed)
        target = basis.derivative_basis(order)
        assert target.degree == basis.degree - order
        assert target.zero is (None if order else basis.zero)
        x = points_inside(target, 30, seed)
        difference = target.values(x) @ target.interpolate(f(target.nodes, order)) - f(x, order)
        # the round-off of x moves a derivative by eps times the next one
        bound = 1e4 * EPS * rate(basis, order) * (1 + EPS * rate(basis, 1))
        assert np.abs(difference).max() <= bound


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Legendre((0, 1), 5), Legendre((0, 1), 3, "left")),
        (Chebyshev((0, 1), 5, "right"), Chebyshev((0, 1), 3, "left")),
        (Chebyshev((0, 1), 5, "both"), Legendre((0, 1), 3, "both")),
        (Legendre((0, 1), 5, "both"), BSpline((0, 1), 4, degree=3)),
        (BSpline((0, 1), 4, degree=3, zero="left"), Chebyshev((0, 1), 6, "both")),
        (BSpline((0, 1), 4, degree=3, periodic=True), Chebyshev((0, 1), 2)),
        (Fourier((0, 1), 3), Fourier((0, 1), 2)),
    ],
    ids=repr,
)
def test_products_and_sums_of_other_families(first, second):
    f, g = random_function(first, 0), random_function(second, 1)
    assert_contains(first.product_basis(second), lambda x: f(x) * g(x))
    assert_contains(first.sum_basis(second), lambda x: f(x) + g(x))
    assert first.product_basis(second).size == second.product_basis(first).size
    assert first.sum_basis(second).contains(first)
    assert first.sum_basis(second).contains(second)


@every_basis
def test_derivative_bases_of_all_families(basis):
    f = random_function(basis, 3)
    for order in range(min(basis.max_order, 4) + 1):
        target = basis.derivative_basis(order)
        x = np.random.default_rng(5).uniform(*basis.domain, 50)
        difference = target.values(x) @ target.interpolate(f(target.nodes, order)) - f(x, order)
        assert np.abs(difference).max() <= 1e4 * EPS * rate(basis, order)


@every_basis
def test_refine_is_nested_and_embed_exact(basis):
    fine = basis.refine()
    assert fine.contains(basis)
    assert not basis.contains(fine)
    assert fine.zero == basis.zero
    assert fine.periodic == basis.periodic
    matrix = fine.embed(basis)
    assert matrix.shape == (fine.size, basis.size)
    x = points_inside(fine, 50)
    assert np.abs(fine.values(x) @ matrix - basis.values(x)).max() <= 1e4 * EPS * max(1, np.abs(basis.values(x)).max())
    with pytest.raises(ValueError, match="contained in"):
        basis.embed(fine)


def test_refine_keeps_continuity():
    fine = BSpline(breaks=(0, 1, 3), degree=3, continuity=0).refine()
    assert fine == BSpline(breaks=(0, 0.5, 1, 2, 3), degree=3, continuity=(2, 0, 2))
    ring = BSpline(breaks=(0, 1, 3), degree=3, continuity=(0, 1), periodic=True).refine()
    assert ring == BSpline(breaks=(0, 0.5, 1, 2, 3), degree=3, continuity=(2, 0, 2, 1), periodic=True)


def test_breaks_that_differ_by_round_off_are_one():
    halved = BSpline((-1.25, 1.25), cells=17).refine()
    fresh = BSpline((-1.25, 1.25), cells=34)
    assert halved.sum_basis(fresh).size == fresh.size
    assert fresh.contains(halved)
    tiny = BSpline(breaks=(0, 1e-17, 1e-16, 1), degree=1)  # but a graded mesh keeps its own
    assert tiny.sum_basis(BSpline(breaks=(0, 3e-17, 1), degree=1)).size == 5


def test_as_spline_is_the_same_space():
    basis = Legendre((0, 1), 4, "left")
    spline = basis.as_spline()
    assert spline.size == basis.size
    assert (
        np.linalg.matrix_rank(
            np.concatenate([basis.values(np.linspace(0, 1, 30)), spline.values(np.linspace(0, 1, 30))], 1)
        )
        == 4
    )


@pytest.mark.parametrize(
    ("first", "second", "error", "match"),
    [
        (Fourier((0, 1), 2), Legendre((0, 1), 2), TypeError, "u.project"),
        (Legendre((0, 1), 2), Fourier((0, 1), 2), TypeError, "u.project"),
        (BSpline((0, 1), 2), Fourier((0, 1), 2), TypeError, "u.project"),
        (Fourier((0, 1), 2), BSpline((0, 1), 2), TypeError, "u.project"),
        (BSpline((0, 1), 2), BSpline((0, 2), 2), ValueError, "domain"),
        (Fourier((0, 1), 2), Fourier((0, 2), 2), ValueError, "domain"),
        (Legendre((0, 1), 2), Chebyshev((0, 2), 2), ValueError, "domain"),
        (Legendre((0, 1), 2), BSpline((0, 2), 2), ValueError, "domain"),
        (Legendre((0, 1), 40), BSpline((0, 1), 2), ValueError, "expected at most 30"),
    ],
    ids=repr,
)
def test_bases_that_cannot_be_combined(first, second, error, match):
    with pytest.raises(error, match=match):
        first.product_basis(second)
    with pytest.raises(error, match=match):
        first.sum_basis(second)
    assert error is ValueError or not first.contains(second)


@pytest.mark.parametrize(
    ("basis", "order", "match"),
    [
        (BSpline((0, 1), 4, degree=3), 4, "weak form"),
        (BSpline((0, 1), 4, degree=3, continuity=0), 2, "it is no function"),
        (BSpline((0, 1), 4, degree=0), 1, "jumps"),
        (BSpline((0, 1), 1, degree=3), 4, "zero everywhere"),
        (Legendre((0, 1), 2), 3, "zero everywhere"),
    ],
)
def test_derivatives_that_are_no_functions(basis, order, match):
    with pytest.raises(ValueError, match=match):
        basis.derivative_basis(order)
    with pytest.raises(ValueError, match="at least 0"):
        basis.derivative_basis(-1)
