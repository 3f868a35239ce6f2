"""Values and derivatives of bases in every namespace; bad input; bases as values."""

import copy
import pickle

import numpy as np
import pytest
import scipy.interpolate
import scipy.special
from basis_examples import BASES, EPS, every_basis, points_inside, rate, seeds, smallest_cell, splines
from hypothesis import given
from hypothesis import strategies as st

from sepnet.backends import arrays
from sepnet.bases import SMOOTH, BSpline, Chebyshev, Fourier, Legendre

# ------------------------------------------------------------------------------------ values of splines


@given(splines(most_degree=15), seeds)
def test_partition_of_unity(basis, seed):
    basis = basis.with_zero(None)
    values = basis.values(points_inside(basis, 30, seed))
    assert (
        np.abs(values.sum(axis=1) - 1).max() <= 4 * (basis.degree + 1) * EPS
    )  # degree + 1 roundings in each of two sums
    assert values.min() >= 0


def folded(basis, matrix):
    """Columns of a full, non-periodic matrix added up or dropped to those of `basis`."""
    if basis.periodic:
        return np.stack([matrix[:, i :: basis.size].sum(axis=1) for i in range(basis.size)], axis=1)
    first = int(basis.zero in ("left", "both"))
    return matrix[:, first : first + basis.size]


@given(splines(most_degree=9), seeds)
def test_values_are_scipys(basis, seed):
    x = points_inside(basis, 30, seed)
    theirs = scipy.interpolate.BSpline.design_matrix(x, basis.knots, basis.degree).toarray()
    # both are convex combinations: 3 roundings a level; scipy works from other differences of the knots, hence 8
    assert np.abs(basis.values(x) - folded(basis, theirs)).max() <= 8 * 3 * (basis.degree + 1) * EPS / smallest_cell(
        basis
    )
    np.testing.assert_array_equal(basis.tabulate(x).toarray(), basis.values(x))


@given(splines(most_degree=6, domain=(-1.0, 2.0)), st.integers(1, 8), seeds)
def test_derivatives_are_scipys(basis, order, seed):
    x = np.random.default_rng(seed).uniform(*basis.domain, 20)
    if order > basis.degree:
        assert not basis.values(x, order).any()
        return
    count = len(basis.knots) - basis.degree - 1
    exact = scipy.interpolate.BSpline(basis.knots, np.eye(count), basis.degree)(x, nu=order)
    bound = 100 * EPS * rate(basis, order) / smallest_cell(basis)
    assert np.abs(basis.values(x, order) - folded(basis, exact)).max() <= bound
    np.testing.assert_array_equal(basis.tabulate(x, order).toarray(), basis.values(x, order))


def test_values_at_breaks_are_from_the_right_and_at_the_end_from_the_left():
    basis = BSpline((0, 1), cells=2, degree=0)
    np.testing.assert_array_equal(basis.values([0.0, 0.5, 1.0]), [[1, 0], [0, 1], [0, 1]])
    hats = BSpline((0, 1), cells=2, degree=1)
    np.testing.assert_array_equal(hats.values([0.5, 1.0], 1), [[0, -2, 2], [0, -2, 2]])


@every_basis
def test_zero_ends_are_exactly_zero(basis):
    left, right = (basis.values(end) for end in basis.domain)
    assert (not left.any()) == (basis.zero in ("left", "both"))
    assert (not right.any()) == (basis.zero in ("right", "both"))


@pytest.mark.parametrize("basis", [b for b in BASES if not b.periodic], ids=repr)
def test_with_zero_drops_one_function_an_end(basis):
    full = basis.with_zero(None)
    for zero, lost in ((None, 0), ("left", 1), ("right", 1), ("both", 2)):
        if full.size > lost:
            assert full.with_zero(zero).size == full.size - lost
            assert full.contains(full.with_zero(zero))
        else:
            with pytest.raises(ValueError, match="no function"):
                full.with_zero(zero)


def jump(basis, place, other, order):
    """Largest jump of a derivative between two places, over what it may be."""
    below = basis.values(np.nextafter(place, -np.inf), order)
    return np.abs(basis.values(other, order) - below).max() / rate(basis, order)


@given(splines(most_degree=5))
def test_continuity_at_every_break_and_the_seam(basis):
    basis = basis.with_zero(None)
    left, right = basis.domain
    places = [(b, b) for b in basis.breaks[1:-1]] + ([(right, left)] if basis.periodic else [])
    assert len(places) == len(basis.continuity)
    for (place, other), smooth in zip(places, basis.continuity, strict=True):
        for order in range(smooth + 1):
            # one ulp of the place moves the value by one derivative more
            assert jump(basis, place, other, order) <= 100 * EPS * rate(basis, 1) * max(1, abs(right))
    assert basis.smoothness == min(basis.continuity, default=SMOOTH)
    assert basis.max_order == min(basis.smoothness + 1, basis.degree)


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("smooth", [-1, 0, 1, 2])
def test_no_more_continuity_than_said(smooth, periodic):
    basis = BSpline((0, 1), cells=3, degree=3, continuity=smooth, periodic=periodic)
    assert jump(basis, 1 / 3 + 1e-12, 1 / 3 + 1e-12, smooth + 1) < 1e-8
    assert jump(basis, basis.breaks[1], basis.breaks[1], smooth + 1) > 1e-3
    if periodic:
        assert jump(basis, 1.0, 0.0, smooth + 1) > 1e-3
    elif smooth >= 0:
        assert jump(basis, 1.0, 0.0, 0) > 1e-3


# ------------------------------------------------------------------------------------ values of all families


@every_basis
@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivative_is_the_difference_of_the_one_before(basis, order):
    rng = np.random.default_rng(1)
    inner = rng.uniform(0.2, 0.8, (len(basis.breaks) - 1, 5))
    x = (basis.breaks[:-1, None] + np.diff(basis.breaks)[:, None] * inner).reshape(-1)
    step = np.repeat(np.diff(basis.breaks), 5)[:, None] * 1e-4 / max(basis.degree, 1)
    after, before = (basis.values(x + sign * step[:, 0], order - 1) for sign in (1, -1))
    width = ((x + step[:, 0]) - (x - step[:, 0]))[:, None]
    difference = (after - before) / width
    # local scale: the cell's own; truncation step**2 / 6, round-off of the points eps * |x| / step
    scale = (20 * max(basis.degree, 1) / np.repeat(np.diff(basis.breaks), 5)[:, None]) ** order
    top = max(1.0, np.abs(basis.values(x)).max())
    assert np.all(np.abs(basis.values(x, order) - difference) <= 1e-6 * top * scale)


@pytest.mark.parametrize("order", [0, 1, 2, 5])
@pytest.mark.parametrize(
    ("family", "module"), [(Legendre, np.polynomial.legendre), (Chebyshev, np.polynomial.chebyshev)]
)
def test_polynomials_are_numpys(family, module, order):
    s = np.concatenate([[-1.0, 1.0], np.random.default_rng(0).uniform(-1, 1, 50)])
    values = family((-1, 1), 20).values(s, order)
    for k in range(21):
        unit = np.eye(21)[k]
        exact = module.legval(s, module.legder(unit, order)) if family is Legendre else None
        exact = module.chebval(s, module.chebder(unit, order)) if exact is None else exact
        # the largest value is the one at an end; recurrences lose at most a few digits of the degree from it
        assert np.abs(values[:, k] - exact).max() <= 1e3 * EPS * max(1.0, np.abs(exact).max())


@pytest.mark.parametrize("family", [Legendre, Chebyshev])
def test_polynomials_of_degree_100_at_the_ends_and_against_the_closed_form(family):
    basis = family((0, 2), 100)
    np.testing.assert_array_equal(basis.values([0.0, 2.0]), [(-1.0) ** np.arange(101), np.ones(101)])
    angle = np.linspace(0.01, np.pi - 0.01, 40)
    if family is Chebyshev:
        exact = np.cos(np.arange(101) * angle[:, None])
        # moving x by eps moves T_100 by up to 1e4 eps at the ends
        np.testing.assert_allclose(basis.values(1 + np.cos(angle)), exact, rtol=0, atol=1e4 * EPS)
    else:
        exact = np.stack([scipy.special.eval_legendre(k, np.cos(angle)) for k in range(101)], axis=1)
        np.testing.assert_allclose(basis.values(1 + np.cos(angle)), exact, rtol=0, atol=1e4 * EPS)


@pytest.mark.parametrize("order", range(6))
def test_fourier_is_the_complex_exponential(order):
    basis = Fourier((-1, 2), 5)
    x = np.random.default_rng(0).uniform(-1, 2, 20)
    wave = 2j * np.pi * np.arange(1, 6) / 3
    exact = wave**order * np.exp(wave * (x[:, None] + 1))
    values = basis.values(x, order)
    np.testing.assert_allclose(values[:, 1::2], exact.real, rtol=0, atol=100 * EPS * rate(basis, order))
    np.testing.assert_allclose(values[:, 2::2], exact.imag, rtol=0, atol=100 * EPS * rate(basis, order))
    np.testing.assert_array_equal(values[:, 0], order == 0)


# ------------------------------------------------------------------------------------ namespaces and gradients


@every_basis
def test_values_in_every_namespace(basis, xp):
    host = np.random.default_rng(0).uniform(*basis.domain, 40)
    points = xp.asarray(host)
    eps = arrays.eps(points.dtype, xp.xp)
    exact_points = np.clip(np.asarray(arrays.to_host(points), dtype=float), *basis.domain)
    for order in (0, 1, basis.degree + 1):
        values = basis.values(points, order)
        assert arrays.namespace(values) is arrays.namespace(points)
        assert values.dtype == points.dtype
        assert values.shape == (40, basis.size)
        exact = basis.values(exact_points, order)
        # breaks are rounded too: eps of the largest end, times one derivative more
        bound = 100 * eps * rate(basis, order) * max(1.0, rate(basis, 1) * max(np.abs(basis.domain)))
        if np.diff(basis.breaks).min() > 1e3 * eps:
            assert np.abs(arrays.to_host(values) - exact).max() <= bound


@pytest.mark.parametrize("count", [0, 1, 2])
@every_basis
def test_few_points(basis, count, xp):
    points = xp.asarray(np.linspace(*basis.domain, 5)[1 : 1 + count])
    assert basis.values(points).shape == (count, basis.size)
    assert basis.values(points, 2).shape == (count, basis.size)
    assert basis.values(xp.asarray(np.full((count, 3), basis.domain[1]))).shape == (count, 3, basis.size)
    assert basis.tabulate(np.zeros(0)).shape == (0, basis.size)


def test_numbers_lists_and_integers_are_float64():
    basis = BSpline((0, 2), cells=2, degree=1)
    for points, shape in (
        (1, (3,)),
        (0.5, (3,)),
        ([0, 1], (2, 3)),
        (np.arange(3), (3, 3)),
        (np.float64(2), (3,)),
        ([], (0, 3)),
    ):
        values = basis.values(points)
        assert isinstance(values, np.ndarray)
        assert values.dtype == np.float64
        assert values.shape == shape


@every_basis
def test_gradients_flow_to_the_points(basis):
    torch = pytest.importorskip("torch")
    host = np.concatenate([np.random.default_rng(0).uniform(*basis.domain, 10), basis.domain])
    for order in (0, 1):
        points = torch.tensor(host, requires_grad=True)
        weights = torch.linspace(1, 2, basis.size, dtype=torch.float64)
        (gradient,) = torch.autograd.grad((basis.values(points, order) @ weights).sum(), points)
        exact = basis.values(host, order + 1) @ weights.numpy()
        assert np.abs(gradient.numpy() - exact).max() <= 1e3 * EPS * basis.size * max(1.0, rate(basis, order + 1))


def test_points_too_coarse_for_the_breaks():
    basis = BSpline(breaks=(0, 1, 1 + 1e-12, 2))
    with pytest.raises(TypeError, match="float64"):
        basis.values(np.float32([0.5]))


# ------------------------------------------------------------------------------------ bad input


@every_basis
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 5.0, -5.0])
def test_points_outside(basis, bad, xp):
    points = xp.asarray(np.array([basis.domain[0], bad]))
    with pytest.raises(ValueError, match=r"`points` has .* \(1 of 2 are so\), expected values inside the domain"):
        basis.values(points)
    with pytest.raises(ValueError, match="domain"):
        basis.tabulate([bad])


def test_points_a_rounding_outside_are_moved_onto_the_end():
    basis = BSpline((0, 0.3), cells=3)
    np.testing.assert_array_equal(basis.values(0.1 + 0.2), basis.values(0.3))
    np.testing.assert_array_equal(basis.values(-1e-17), basis.values(0.0))
    with pytest.raises(ValueError, match="domain"):
        basis.values(0.3 + 1e-14)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: BSpline((1, 0), 3), ValueError, "left < right"),
        (lambda: BSpline((0, 0), 3), ValueError, "left < right"),
        (lambda: BSpline((0, np.nan), 3), ValueError, "finite"),
        (lambda: BSpline((0, np.inf), 3), ValueError, "finite"),
        (lambda: BSpline(3, 3), TypeError, "two numbers"),
        (lambda: BSpline((0, 1, 2), 3), TypeError, "two numbers"),
        (lambda: BSpline((0, 1)), TypeError, "expected both"),
        (lambda: BSpline(cells=3), TypeError, "expected both"),
        (lambda: BSpline((0, 1), 0), ValueError, "`cells` is 0"),
        (lambda: BSpline((0, 1), 2.0), TypeError, "`cells` is 2.0"),
        (lambda: BSpline((0, 1), True), TypeError, "`cells` is True"),
        (lambda: BSpline((1, 1 + 1e-15), 100), ValueError, "fewer cells"),
        (lambda: BSpline((0, 1), 2, degree=-1), ValueError, "`degree` is -1"),
        (lambda: BSpline((0, 1), 2, degree=16), ValueError, "0 to 15"),
        (lambda: BSpline((0, 1), 2, breaks=(0, 1)), TypeError, "leave out `cells`"),
        (lambda: BSpline((0, 2), breaks=(0, 0.5, 1)), ValueError, "leave out `domain`"),
        (lambda: BSpline(breaks=(0, 0.5, 0.5, 1)), ValueError, "expected finite numbers that rise"),
        (lambda: BSpline(breaks=(0, np.nan, 1)), ValueError, "expected finite numbers that rise"),
        (lambda: BSpline(breaks=(0, np.inf)), ValueError, "expected finite numbers that rise"),
        (lambda: BSpline(breaks=(0,)), ValueError, "at least 2"),
        (lambda: BSpline(breaks="ab"), TypeError, "`breaks`"),
        (lambda: BSpline((0, 1), 3, continuity=3), ValueError, "-1 to 2|at least -1"),
        (lambda: BSpline((0, 1), 3, continuity=-2), ValueError, "`continuity` is -2"),
        (lambda: BSpline((0, 1), 3, continuity=(0,)), ValueError, "1 entries, expected 2"),
        (lambda: BSpline((0, 1), 3, continuity="2"), TypeError, "`continuity` is '2'"),
        (lambda: BSpline((0, 1), 1, continuity=7), ValueError, "`continuity` is 7"),
        (lambda: BSpline((0, 1), 3, zero="top"), ValueError, "`zero` is 'top'"),
        (lambda: BSpline((0, 1), 3, zero=["left"]), ValueError, "`zero` is"),
        (lambda: BSpline((0, 1), 3, zero="left", periodic=True), ValueError, "ring"),
        (lambda: BSpline((0, 1), 3, periodic="yes"), TypeError, "`periodic`"),
        (lambda: BSpline((0, 1), 1, degree=1, zero="both"), ValueError, "leaves no function"),
        (lambda: BSpline((0, 1), 1, degree=0, zero="left"), ValueError, "leaves no function"),
        (lambda: Fourier((0, 1), -1), ValueError, "`harmonics` is -1"),
        (lambda: Fourier((0, 1), 1.5), TypeError, "`harmonics` is 1.5"),
        (lambda: Fourier((0, 1), 1).with_zero("left"), ValueError, "periodic"),
        (lambda: Legendre((0, 1), 1, "both"), ValueError, "no function is left"),
        (lambda: Legendre((0, 1), -1), ValueError, "`degree` is -1"),
        (lambda: Chebyshev((0, 1), 2, "up"), ValueError, "`zero` is 'up'"),
        (lambda: BSpline((0, 1), 2).values(0.5, -1), ValueError, "`derivative` is -1"),
        (lambda: BSpline((0, 1), 2).values(0.5, 1.0), TypeError, "`derivative` is 1.0"),
        (lambda: BSpline((0, 1), 2).values(np.array([1j])), TypeError, "real numbers"),
        (lambda: BSpline((0, 1), 2).values(np.array([True])), TypeError, "real numbers"),
        (lambda: BSpline((0, 1), 2).quadrature(-1), ValueError, "`exactness` is -1"),
        (lambda: Fourier((0, 1), 2).quadrature(1.5), TypeError, "`exactness` is 1.5"),
        (lambda: BSpline(breaks=(1, 1 + EPS)).refine(), ValueError, "halved"),
    ],
)
def test_bad_input(make, error, match):
    with pytest.raises(error, match=match):
        make()


# ------------------------------------------------------------------------------------ as a value


@every_basis
def test_bases_are_values(basis):
    fresh = eval(repr(basis)) if "..." not in repr(basis) else copy.deepcopy(basis)
    assert "\n" not in repr(basis)
    assert fresh == basis
    assert hash(fresh) == hash(basis)
    basis.interpolate(np.zeros(basis.size))  # leaves a factorisation behind, which must not travel
    loaded = pickle.loads(pickle.dumps(basis))
    assert loaded == basis
    np.testing.assert_array_equal(loaded.interpolate(np.ones(basis.size)), basis.interpolate(np.ones(basis.size)))
    assert basis != basis.refine()
    with pytest.raises(AttributeError):
        basis.degree = 3
    for array in (basis.breaks, basis.nodes, basis.quadrature().points):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0.0


def test_families_differ():
    assert Legendre((0, 1), 3) != Chebyshev((0, 1), 3)
    assert BSpline((0, 1), 2) == BSpline(breaks=(0, 0.5, 1)) != BSpline((0, 1), 2, continuity=1)
    assert len({BSpline((0, 1), 2), BSpline(breaks=[0.0, 0.5, 1.0], degree=3, continuity=[2]), BSpline((0, 1), 3)}) == 2
