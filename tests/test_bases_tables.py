"""What is computed from a basis once: quadrature, integrals, pieces, nodes, interpolation."""

from fractions import Fraction

import numpy as np
import pytest
from basis_examples import EPS, every_basis, every_spline, points_inside, seeds, smallest_cell, splines
from hypothesis import given

from sepnet.bases import BSpline, Chebyshev, Fourier, Legendre

# ------------------------------------------------------------------------------------ quadrature, integrals


@pytest.mark.parametrize("exactness", [*range(12), 31, 61])
def test_quadrature_is_exact_to_its_degree_and_no_further(exactness):
    basis = BSpline(breaks=(-1, -0.9, 0.3, 2), degree=2)
    points, weights = basis.quadrature(exactness)
    cell = np.repeat(np.arange(3), len(points) // 3)
    left, right = basis.breaks[:-1], basis.breaks[1:]
    assert np.all((points > left[cell]) & (points < right[cell]) & (weights > 0))
    s = (2 * points - left[cell] - right[cell]) / (right - left)[cell]
    for degree in range(exactness + 1):
        exact = 0.0 if degree % 2 else 1 / (degree + 1)
        sums = np.bincount(cell, weights * s**degree) / (right - left)
        # s carries eps * 2 / width of the smallest cell, times the degree
        assert np.abs(sums - exact).max() <= 8 * (degree + 1) * EPS / 0.1
    count = exactness // 2 + 1
    if count <= 8:  # beyond, even the error drowns in round-off
        beyond = np.bincount(cell, weights * s ** (2 * count)) / (right - left)
        assert np.abs(beyond - 1 / (2 * count + 1)).min() > 1e-8


def test_default_quadrature_integrates_products():
    assert len(BSpline((0, 1), cells=3, degree=4).quadrature().points) == 3 * 5
    assert len(Legendre((0, 1), 4).quadrature().points) == 5


@pytest.mark.parametrize("harmonics", [0, 1, 2, 5, 20, 60])
def test_fourier_quadrature_integrates_products_and_polynomials(harmonics):
    basis = Fourier((1, 3), harmonics)
    points, weights = basis.quadrature()
    values = basis.values(points)
    gram = np.diag([2.0] + [1.0] * (2 * harmonics))
    # waves of up to `harmonics` periods carry the round-off of the points that often
    bound = 50 * (harmonics + 1) * EPS
    assert np.abs(values.T @ (weights[:, None] * values) - gram).max() <= bound
    assert np.abs(weights @ (points - 2) ** 4 - 2 / 5) <= bound
    fewer = basis.quadrature(harmonics)  # exact for the functions themselves
    assert len(fewer.points) <= len(points) <= len(basis.quadrature(6 * harmonics + 2).points)
    assert np.abs(fewer.weights @ basis.values(fewer.points) - basis.integrals()).max() <= bound


@every_basis
def test_integrals_are_those_of_the_quadrature(basis):
    points, weights = basis.quadrature()
    length = basis.domain[1] - basis.domain[0]
    assert basis.integrals().shape == (basis.size,)
    assert np.abs(weights @ basis.values(points) - basis.integrals()).max() <= 30 * (basis.degree + 1) * EPS * length


@every_spline
def test_integrals_sum_to_the_length_without_end_conditions(basis):
    full = basis.with_zero(None)
    length = basis.domain[1] - basis.domain[0]
    assert abs(full.integrals().sum() - length) <= 4 * full.size * EPS * length


@every_basis
def test_kind_and_bandwidth_are_those_of_the_mass_matrix(basis):
    points, weights = basis.quadrature()
    values = basis.values(points)
    far = np.abs(np.arange(basis.size)[:, None] - np.arange(basis.size))
    if basis.kind == "cyclic":
        far = np.minimum(far, basis.size - far)
        assert basis.size > 2 * basis.bandwidth
    gram = values.T @ (weights[:, None] * values)
    assert not gram[far > basis.bandwidth].any()
    assert basis.kind == ("banded" if isinstance(basis, BSpline) and not basis.periodic else basis.kind)
    if isinstance(basis, BSpline):
        assert basis.kind != "dense" or (basis.periodic and basis.size <= 2 * basis.degree)
        assert gram[far == basis.bandwidth].any()


# ------------------------------------------------------------------------------------ pieces


def from_pieces(basis, x):
    breaks, index, table = basis.pieces.breaks, basis.pieces.index, basis.pieces.table
    cell = np.clip(np.searchsorted(breaks, x, side="right") - 1, 0, len(breaks) - 2)
    left, right = breaks[cell], breaks[cell + 1]
    s = ((x - left) - (right - x)) / (right - left)
    local = np.einsum("nm,nmj->nj", s[:, None] ** np.arange(table.shape[1]), table[cell])
    values = np.zeros((len(x), basis.size))
    np.add.at(values, (np.arange(len(x))[:, None], index[cell]), local)
    return values


@given(splines(most_degree=15), seeds)
def test_pieces_are_the_values(basis, seed):
    x = points_inside(basis, 30, seed)
    p, table = basis.degree, basis.pieces.table
    assert table.shape == (len(basis.breaks) - 1, p + 1, p + 1)
    assert basis.pieces.index.dtype == np.int64
    assert basis.pieces.index.min() >= 0
    assert basis.pieces.index.max() < basis.size
    # the sum of |terms| is at most the column sums of the table; s carries 2 roundings, each power m of them
    bound = 4 * (p + 1) * (p + 2) * EPS * max(1.0, np.abs(table).sum(axis=1).max())
    assert np.abs(from_pieces(basis, x) - basis.values(x)).max() <= bound / min(1.0, smallest_cell(basis) * 1e3)


def exact_table(basis, cell):
    """The recurrence of Cox and de Boor on polynomials in s with rational coefficients."""
    p = basis.degree
    t = [Fraction(float(k)) for k in basis.knots]
    left, right = (Fraction(float(b)) for b in basis.breaks[cell : cell + 2])
    mu = max(i for i in range(len(t) - 1) if t[i] == left and t[i + 1] == right)
    middle, half = (left + right) / 2, (right - left) / 2
    rows = {mu: [Fraction(1)]}
    for q in range(1, p + 1):
        fresh = {}
        for i in range(mu - q, mu + 1):
            total = [Fraction(0)] * (q + 1)
            for j, zero_at, one_at in ((i, t[i], t[i + q]), (i + 1, t[i + q + 1], t[i + 1])):
                if j in rows:
                    slope = half / (one_at - zero_at)
                    start = (middle - zero_at) / (one_at - zero_at)
                    for m, a in enumerate(rows[j]):
                        total[m] += start * a
                        total[m + 1] += slope * a
            fresh[i] = total
        rows = fresh
    return np.array([[float(rows[mu - p + j][m]) for j in range(p + 1)] for m in range(p + 1)])


@pytest.mark.parametrize(
    "basis",
    [
        BSpline((0, 1), cells=20, degree=15),
        BSpline(breaks=[0, *10.0 ** np.arange(-12, 1)], degree=15),
        BSpline(breaks=[0, *10.0 ** np.arange(-12, 1)], degree=4, continuity=1),
        BSpline(breaks=(-1, -0.5, 0.9, 1), degree=7, continuity=(-1, 3)),
        BSpline((0, 1), cells=3, degree=11, periodic=True),
    ],
    ids=repr,
)
def test_tables_are_exact_to_round_off(basis):
    for cell in range(0, len(basis.breaks) - 1, 3):
        exact = exact_table(basis, cell)
        error = np.abs(basis.pieces.table[cell] - exact).max(axis=0)
        # the knots are taken as they are; plain float64 where the machine has nothing longer costs degree + 1 roundings
        assert np.all(error <= (basis.degree + 1) * EPS * np.abs(exact).max(axis=0))


@given(splines(most_degree=4, periodic=False))
def test_pieces_of_functions_left_out_are_zero(basis):
    full, both = basis.with_zero(None), basis.with_zero(None)
    if full.size > 2:
        both = full.with_zero("both")
        np.testing.assert_array_equal(both.pieces.table[0, :, 0], 0.0)
        np.testing.assert_array_equal(both.pieces.table[-1, :, -1], 0.0)
        inner = slice(1, -1)
        np.testing.assert_array_equal(both.pieces.index[0, inner], full.pieces.index[0, inner] - 1)


def test_spectral_bases_have_no_pieces():
    assert Fourier((0, 1), 3).pieces is None
    assert Legendre((0, 1), 3).pieces is None


# ------------------------------------------------------------------------------------ nodes, interpolation


@given(splines(most_degree=15))
def test_spline_nodes_are_unisolvent(basis):
    assert basis.nodes.shape == (basis.size,)
    assert np.all(np.diff(basis.nodes) > 0)
    # the condition of B-splines themselves grows as 2**degree; measured: below 2 times, periodic 14 times that
    factor = 30 if basis.periodic else 4
    assert np.linalg.cond(basis.values(basis.nodes)) <= factor * 2.0**basis.degree


@given(splines(most_degree=15, periodic=False))
def test_spline_interpolation_is_stable(basis):
    x = basis.quadrature(40).points
    lagrange = np.linalg.solve(basis.values(basis.nodes).T, basis.values(x).T)
    assert np.abs(lagrange).sum(axis=0).max() <= 20  # the Lebesgue constant; measured: below 17


@pytest.mark.parametrize("degree", [1, 2, 3, 7])
def test_low_degree_nodes_are_greville_points(degree):
    basis = BSpline((0, 1), cells=5, degree=degree, zero="left")
    np.testing.assert_array_equal(basis.nodes, basis.greville)
    np.testing.assert_allclose(
        basis.greville, [basis.knots[i + 1 : i + degree + 1].mean() for i in range(1, degree + 5)]
    )
    assert basis.nodes[-1] == 1.0


@pytest.mark.parametrize("degree", [3, 10, 30, 100])
@pytest.mark.parametrize("zero", [None, "left", "right", "both"])
@pytest.mark.parametrize("family", [Legendre, Chebyshev])
def test_polynomial_nodes_are_unisolvent(family, zero, degree):
    basis = family((0, 1), degree, zero)
    assert np.all(np.diff(basis.nodes) > 0)
    # measured: at most 1.5 * degree
    assert np.linalg.cond(basis.values(basis.nodes)) <= 2 * (degree + 1)


@pytest.mark.parametrize("harmonics", [0, 1, 30])
def test_fourier_nodes_are_orthogonal(harmonics):
    basis = Fourier((0, 1), harmonics)
    # the constant is longer than the waves by sqrt(2), nothing else
    assert np.linalg.cond(basis.values(basis.nodes)) <= np.sqrt(2) * (1 + 1e-12)


@every_basis
def test_interpolation_gives_back_coefficients(basis):
    coefficients = np.random.default_rng(0).standard_normal((basis.size, 2, 3))
    samples = np.einsum("ni,i...->n...", basis.values(basis.nodes), coefficients)
    found = basis.interpolate(samples)
    condition = np.linalg.cond(basis.values(basis.nodes))
    assert found.shape == coefficients.shape
    assert np.abs(found - coefficients).max() <= 100 * EPS * condition * np.abs(coefficients).max()
    single = basis.interpolate(samples[:, 0, 0])
    assert single.shape == (basis.size,)
    assert np.abs(single - found[:, 0, 0]).max() <= 100 * EPS * condition * np.abs(coefficients).max()


@pytest.mark.parametrize(
    "basis", [Legendre((0, 2), 60), Chebyshev((0, 2), 60), Fourier((0, 2), 20), BSpline((0, 2), 40, degree=13)]
)
def test_interpolation_of_an_analytic_function_reaches_round_off(basis):
    f = lambda x: np.exp(np.sin(np.pi * x))  # noqa: E731
    x = np.linspace(0, 2, 101)
    assert np.abs(basis.values(x) @ basis.interpolate(f(basis.nodes)) - f(x)).max() < 1e4 * EPS


def test_samples_of_the_wrong_length():
    with pytest.raises(ValueError, match=r"`samples` has shape \(3,\), expected \(4, \.\.\.\)"):
        BSpline((0, 1), cells=1).interpolate([1, 2, 3])
