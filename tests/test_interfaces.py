"""Piecewise coefficients, continuity by place, and problems with an interface."""

import itertools
import math
import warnings
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solver_support import EPS, Grid, check_rate, gauss, on_grid, rates

import sepnet as sn
from sepnet.models.gallery_conditions import interface
from sepnet.piecewise import jumps_of, piecewise
from sepnet.solvers.certificates import error_bound

few = settings(max_examples=min(10, settings().max_examples))
PI = math.pi

# ------------------------------------------------------------------------------------------------ piecewise functions


@st.composite
def places(draw, most=3):
    """Rising places strictly inside the unit interval, sixty-fourths: some of them breaks of the bases below."""
    numbers = draw(st.lists(st.integers(1, 63), min_size=1, max_size=most, unique=True))
    return [n / 64 for n in sorted(numbers)]


def polynomial(x, powers):
    return sum(c * x**k for k, c in enumerate(powers)) + 0 * x


@st.composite
def piecewise_cases(draw):
    where = draw(places())
    powers = [draw(st.lists(st.integers(-3, 3), min_size=1, max_size=3)) for _ in range(len(where) + 1)]
    return where, powers


def by_hand(where, powers, points):
    number = np.searchsorted(where, points, side="right")
    return np.array([polynomial(p, powers[k]) for p, k in zip(points, number, strict=True)])


@given(piecewise_cases())
def test_values_are_those_of_the_piece(case):
    where, powers = case
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4))
    (x,) = V.coordinates
    points = np.concatenate([np.linspace(0, 1, 17), where])
    f = piecewise(x, where, [polynomial(x, p) for p in powers])
    callables = piecewise(x, where, [lambda s, p=p: polynomial(s, p) for p in powers])
    # powers of x are kept in a local variable: a few units of round-off of what is added up, 9 at most
    for g in (f, callables):
        np.testing.assert_allclose(g(points[:, None], ["x"]), by_hand(where, powers, points), rtol=0, atol=1e3 * EPS)


@given(piecewise_cases(), piecewise_cases(), st.integers(1, 3))
def test_integrals_are_exact_whatever_the_breaks_of_the_basis(one, two, degree):
    """Breaks of the coefficient are no breaks of the basis here: quadrature must cut its cells there."""
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=3, degree=degree))
    (x,) = V.coordinates
    f, g = (piecewise(x, w, [polynomial(x, p) for p in powers]) for w, powers in (one, two))
    form = sn.forms.BilinearForm(V, tuple((a, b) for a in (f * g * V.identity).terms for b in V.identity.terms))
    matrices = sn.assemble(form)
    ours = sum(
        w * matrices.matrices[0][k].toarray() for w, k in zip(matrices.weights, matrices.index[:, 0], strict=True)
    )
    cells = np.unique(np.concatenate([V.axes["x"].breaks, one[0], two[0]]))
    points, weights = gauss(cells, degree + 4)
    table = V.axes["x"].values(points)
    values = by_hand(*one, points) * by_hand(*two, points)
    reference = table.T @ ((weights * values)[:, None] * table)
    np.testing.assert_allclose(np.broadcast_to(ours, reference.shape), reference, rtol=0, atol=1e4 * EPS)


def test_values_may_depend_on_other_axes():
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), k=sn.BSpline((1, 3), cells=2))
    x, k = V.coordinates
    f = piecewise(x, [0.25, 0.5], [1 + x, k * x, 7])
    points = np.random.default_rng(0).uniform((0, 1), (1, 3), size=(200, 2))
    a, b = points.T
    expected = np.select([a < 0.25, a < 0.5], [1 + a, b * a], 7.0)
    np.testing.assert_allclose(f(points, V.names), expected, rtol=1e-14)
    assert len(f.terms) == 2  # what depends on x alone is one term
    assert piecewise(x, [0.5], [0.0, 0.0]).terms == ()
    assert piecewise(x, [], [3.0])([[0.2]], ["x"]) == 3.0


def test_a_kink_has_a_derivative_and_a_jump_has_none():
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4))
    (x,) = V.coordinates
    kink = piecewise(x, [0.5], [x**2, 1 - 1.5 * x])
    points = np.array([[0.2], [0.4], [0.6], [0.9]])
    np.testing.assert_allclose(V.d.x.apply(kink)(points, ["x"]), [0.4, 0.8, -1.5, -1.5], rtol=1e-13)
    jump = piecewise(x, [0.5], [1.0, 2.0])
    assert V.d.x.apply(piecewise(x, [0.5], [1.0, 1.0])).terms == ()
    with pytest.raises(ValueError, match=r"jumps at 0.5 is differentiated.*weak form, .*continuity=\{0.5: 0\}"):
        V.d.x @ (jump * V.d.x)
    assert jumps_of((jump * kink).terms[0].factor("x").coefficient) == (0.5,)
    assert jumps_of(sn.apply(np.sqrt, jump).terms[0].factor("x").coefficient) == (0.5,)
    assert jumps_of(kink.terms[0].factor("x").coefficient) == ()


def test_a_callable_of_a_piecewise_function_is_integrated_exactly_enough():
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4))
    (x,) = V.coordinates
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "is not resolved by quadrature", without the break
        f = sn.apply(np.exp, piecewise(x, [0.3], [0.0, 1.0]))
        load = sn.solve(sn.Galerkin(sn.inner(V.identity, V.identity), source=f), method="full").u
    # the projection onto splines keeps the integral
    assert load.integrate("x") == pytest.approx(0.3 + 0.7 * math.e, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("x", [0.5], [1, 2]), TypeError, "`coordinate` is str, expected one of V.coordinates"),
        ((lambda x, y: x * y, [0.5], [1, 2]), TypeError, "`coordinate` is Coefficient"),
        ((lambda x, y: 2 * x, [0.5], [1, 2]), TypeError, "`coordinate` is Coefficient"),
        ((lambda x, y: x**2, [0.5], [1, 2]), TypeError, "`coordinate` is Coefficient"),
        ((lambda x, y: x, 0.5, [1, 2]), TypeError, "`breaks` is 0.5, expected a list"),
        ((lambda x, y: x, [0.5, 0.4], [1, 2, 3]), ValueError, "expected finite numbers that rise"),
        ((lambda x, y: x, [0.5, 0.5], [1, 2, 3]), ValueError, "expected finite numbers that rise"),
        ((lambda x, y: x, [math.nan], [1, 2]), ValueError, "expected finite numbers that rise"),
        ((lambda x, y: x, [0.5], [1]), ValueError, "`values` has 1 entries, expected 2"),
        ((lambda x, y: x, [0.5], 3), ValueError, "`values` has int entries, expected 2"),
        ((lambda x, y: x, [0.5], [1, math.inf]), ValueError, "finite"),
        ((lambda x, y: x, [0.5], [1, "two"]), TypeError, r"`values\[1\]` is str"),
    ],
)
def test_bad_arguments(arguments, error, message):
    V = sn.TensorSpace(x=sn.BSpline((1000, 1001), cells=4), y=sn.BSpline((0, 1), cells=4))
    first, *rest = arguments
    with pytest.raises(error, match=message):
        piecewise(first(*V.coordinates) if callable(first) else first, *rest)


def test_far_coordinates_are_recognised():
    V = sn.TensorSpace(x=sn.BSpline((1000, 1001), cells=4))
    assert piecewise(V.coordinates[0], [1000.5], [1, 2])([[1000.6]], ["x"]) == 2.0


# ------------------------------------------------------------------------------------------------ continuity by place


@given(places(), st.integers(1, 40), st.integers(1, 5), st.data())
def test_cells_are_divided_at_the_places_named(where, cells, degree, data):
    entries = {w: data.draw(st.integers(-1, degree - 1)) for w in where}
    if cells < len(where) + 1:
        equal = np.linspace(0, 1, cells + 1)
        if not all(w in equal for w in where):
            with pytest.raises(ValueError, match="give more cells"):
                sn.BSpline((0, 1), cells=cells, degree=degree, continuity=entries)
            return
    basis = sn.BSpline((0, 1), cells=cells, degree=degree, continuity=entries)
    assert len(basis.breaks) == cells + 1
    assert basis.size == cells + degree + sum(degree - 1 - c for c in entries.values())
    inner = dict(zip(basis.breaks[1:-1].tolist(), basis.continuity, strict=True))
    assert {w: inner[w] for w in where} == entries
    assert all(c == degree - 1 for b, c in inner.items() if b not in entries)
    assert basis == sn.BSpline(breaks=basis.breaks, degree=degree, continuity=basis.continuity)
    # equal cells in every part; with a narrower widest cell every part needs more cells than there are
    widest, needed = np.diff(basis.breaks).max(), 0
    for low, high in itertools.pairwise([0.0, *where, 1.0]):
        widths = np.diff(basis.breaks[(basis.breaks >= low) & (basis.breaks <= high)])
        assert np.ptp(widths) <= 16 * EPS
        needed += math.floor((high - low) / widest * (1 + 1e-9)) + 1
    assert needed > cells


def test_equal_cells_stay_equal_to_the_last_bit():
    basis = sn.BSpline((0, 1), cells=10, continuity={0.3: 0})
    assert np.array_equal(basis.breaks, np.linspace(0, 1, 11))
    assert basis == sn.BSpline((0, 1), cells=10, continuity=[2, 2, 0, 2, 2, 2, 2, 2, 2])
    ring = sn.BSpline((0, 1), cells=4, continuity={1: 0, 0.25: 1}, periodic=True)
    assert ring.continuity == (1, 2, 2, 0)
    assert ring == sn.BSpline((0, 1), cells=4, continuity={0: 0, 0.25: 1}, periodic=True)
    assert sn.BSpline((0, 1), cells=4, continuity={}) == sn.BSpline((0, 1), cells=4)
    assert sn.BSpline(breaks=(0, 0.1 + 0.2, 1), continuity={0.3: 0}).continuity == (0,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(domain=(0, 1), cells=4, continuity={1.0: 0}), ValueError, "names 1, expected interior places"),
        (dict(domain=(0, 1), cells=4, continuity={2.0: 0}, periodic=True), ValueError, "names 2, expected places"),
        (dict(domain=(0, 1), cells=4, continuity={"left": 0}), TypeError, "a key of `continuity`"),
        (dict(domain=(0, 1), cells=4, continuity={math.nan: 0}), ValueError, "`continuity` names nan"),
        (dict(domain=(0, 1), cells=4, continuity={0.5: 0, 0.5 + 2e-16: 1}), ValueError, "which are one break"),
        (
            dict(domain=(0, 1), cells=4, continuity={0.0: 0, 1.0: 1}, periodic=True),
            ValueError,
            "0.0 and 1.0, which are",
        ),
        (dict(domain=(0, 1), cells=4, continuity={0.5: 3}), ValueError, "`continuity` is 3, expected .* -1 to 2"),
        (dict(breaks=(0, 0.5, 1), continuity={0.4: 0}), ValueError, "none of the `breaks` .the nearest is 0.5.: add"),
        (dict(domain=(0, 1), cells=1, continuity={0.4: 0}), ValueError, "into 2 parts: give more cells"),
    ],
)
def test_bad_continuity(arguments, error, message):
    with pytest.raises(error, match=message):
        sn.BSpline(**arguments)


# ---------------------------------------------------------------------------------------------- convergence, refusals

AT, RATIO = 0.4, 10.0


def layered(x, order=0):
    """``-(k u')' = exp(x)`` with zero ends, k = 1 and then `RATIO`: u, its slope, or the flux k u'."""
    e = np.exp(AT)
    c = ((math.e - e) / RATIO + e - 1) / (AT + (1 - AT) / RATIO)
    if order:
        return (c - np.exp(x)) / np.where(x < AT, 1.0, RATIO)
    return np.where(x < AT, c * x - np.exp(x) + 1, (c * (x - 1) - np.exp(x) + math.e) / RATIO)


def study(d, degree, meshes, continuity, **options):
    """Relative L2 and H1 errors of ``-div(k(x) grad u) = f`` with u = layered(x) sin(pi y) sin(pi z)."""
    names = "xyz"[:d]
    errors = []
    for n in meshes:
        join = {AT: continuity} if continuity is not None else None
        bases = {a: sn.BSpline((0, 1), cells=n, degree=degree, zero="both") for a in names[1:]}
        V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=n, degree=degree, zero="both", continuity=join), **bases)
        x = V.coordinates[0]
        k = piecewise(x, [AT], [1.0, RATIO])
        form = reduce(lambda a, b: a + b, [sn.inner(k * s, s) for s in V.d])
        sines = {a: lambda s: np.sin(PI * s) for a in names[1:]}
        f = sn.product(x=np.exp, **sines)
        if d > 1:
            f = f + (d - 1) * PI**2 * k * piecewise(x, [AT], [layered, layered]) * sn.product(**sines)
        u = sn.solve(sn.Galerkin(form, source=f), **options).u
        grid = Grid.of(u.space, degree + 5)
        functions = [layered, *sines.values()]
        slopes = [lambda s: layered(s, 1), *[lambda s: PI * np.cos(PI * s)] * (d - 1)]
        exact = reduce(np.multiply.outer, [g(p) for g, p in zip(functions, grid.points.values(), strict=True)])
        steep = reduce(
            np.multiply.outer, [g(p) for g, p in zip([slopes[0], *functions[1:]], grid.points.values(), strict=True)]
        )
        errors.append(
            (
                grid.norm(on_grid(u, grid) - exact) / grid.norm(exact),
                grid.norm(on_grid(u, grid, x=1) - steep) / grid.norm(steep),
            )
        )
    return [list(column) for column in zip(*errors, strict=True)]


# Meshes, and caps: one and a half times what was measured on the finer one. 0.4 is a break of equal cells.
RATES = {
    (1, 1): ((20, 40), (2.0e-03, 6.8e-02)),
    (1, 2): ((20, 40), (3.1e-06, 2.2e-04)),
    (1, 3): ((20, 40), (1.2e-08, 8.2e-07)),
    (1, 4): ((15, 30), (2.1e-10, 1.1e-08)),
    (2, 2): ((10, 20), (4.2e-05, 8.8e-04)),
    (2, 3): ((10, 20), (8.6e-07, 6.5e-06)),
    (3, 2): ((5, 10), (4.4e-04, 3.5e-03)),
}


@pytest.mark.parametrize(("d", "degree"), list(RATES))
def test_rates_across_a_jump(d, degree):
    """Continuity 0 at the interface: p + 1 in L2 and p in H1."""
    meshes, caps = RATES[d, degree]
    errors = study(d, degree, meshes, 0, **({"method": "full"} if d < 3 else {"rank": 2, "tol": 1e-9}))
    for e, order, cap in zip(errors, (degree + 1, degree), caps, strict=True):
        # the stiffness matrices of these meshes have conditions below 1e5
        check_rate(e, [1 / n for n in meshes], order, floor=1e3 * EPS * 1e2, cap=cap)


@pytest.mark.parametrize("degree", [2, 3])
def test_rates_are_lost_without_continuity_0(degree):
    """The slope jumps and the splines' do not: order 1 in L2 at best, 1/2 in H1; and there is a warning."""
    meshes = (20, 40)
    with pytest.warns(UserWarning, match=r"of d.x jumps at x = 0.4, .* continuity \d: .*continuity=\{0.4: 0\}"):
        rough = study(1, degree, meshes, None, method="full")
    good = study(1, degree, meshes, 0, method="full")
    # the best approximation of a kink at a break by smoother splines: h**(3/2) in L2, h**(1/2) in H1
    assert rates(rough[0], [1 / n for n in meshes])[-1] <= 1.6
    assert rates(rough[1], [1 / n for n in meshes])[-1] <= 0.6
    assert rough[0][-1] > 100 * good[0][-1]


@pytest.mark.parametrize("options", [dict(method="als", tol=1e-6), dict(format="tt", tol=1e-6), dict(method="full")])
def test_all_solvers_take_a_layer_whose_conductivity_is_an_axis(options):
    case = interface(cells={"x": 10, "y": 6, "k2": 5}, k2=(1.0, 4.0), amplitudes=(1.0,))
    solution = sn.solve(case.problem, **options)
    assert solution.converged
    # the mesh: measured 6.6e-5 with the direct solver, and all agree to a tenth of it
    assert case.measure(solution.u).value < 1e-4


def test_the_reference_of_the_layers():
    """Both sides solve their equation; temperature and flux are continuous, and the walls are cold."""
    case = interface(k1=2.0, amplitudes=(1.0, 0.0, 0.3))
    rng = np.random.default_rng(0)
    points = rng.uniform((0.05, 0.05, 1.0), (0.95, 0.95, 100.0), size=(60, 3))
    points = points[np.abs(points[:, 0] - 0.4) > 0.02]
    step = 3e-3
    laplacian = 0.0
    for axis in (0, 1):
        shift = step * np.eye(3)[axis]
        values = [case.reference(points + j * shift) for j in (-2, -1, 0, 1, 2)]
        laplacian += np.dot([-1 / 12, 4 / 3, -5 / 2, 4 / 3, -1 / 12], values) / step**2
    k = np.where(points[:, 0] < 0.4, 2.0, points[:, 2])
    f = case.problem.source(points, case.space.names)
    # truncation: step**4 / 90 times the sixth derivative, (3 pi)**4 times the second at most
    np.testing.assert_allclose(-k * laplacian, f, atol=1e-6 * 2)
    face = rng.uniform((0.4, 0, 1), (0.4, 1, 100), size=(20, 3))
    dx = np.array([1e-4, 0, 0])
    left = 2.0 * (3 * case.reference(face) - 4 * case.reference(face - dx) + case.reference(face - 2 * dx)) / 2e-4
    right = (
        -face[:, 2] * (3 * case.reference(face) - 4 * case.reference(face + dx) + case.reference(face + 2 * dx)) / 2e-4
    )
    # one-sided differences of second order; round-off eps / step
    np.testing.assert_allclose(left, right, atol=1e-5)
    for end in (0.0, 1.0):
        walls = face.copy()
        walls[:, 0] = end
        assert np.abs(case.reference(walls)).max() < 1e-12


@few
@given(st.integers(1, 3), st.sampled_from([0.1, 1.0, 50.0]), st.sampled_from([0.25, 0.4, 0.625]), st.integers(2, 8))
def test_error_bounds_hold_across_a_jump(degree, ratio, place, cells):
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=cells, degree=degree, zero="both", continuity={place: 0}))
    (x,) = V.coordinates
    problem = sn.Galerkin(sn.inner(piecewise(x, [place], [1.0, ratio]) * V.d.x, V.d.x), source=1)
    u = sn.solve(problem, method="full").u
    bound = error_bound(problem, u)
    assert bound.finite
    # k u' = c - x with c from u(1) = 0
    c = (place**2 / 2 + (1 - place**2) / (2 * ratio)) / (place + (1 - place) / ratio)
    points, weights = gauss(V.axes["x"].breaks, 6)
    k = np.where(points < place, 1.0, ratio)
    slope = V.axes["x"].values(points, 1) @ u.factors[0].sum(axis=1)
    error = math.sqrt(np.sum(weights * k * (slope - (c - points) / k) ** 2))
    assert bound.value >= error * (1 - 1e-9)
    # and it is of use; quadratic pieces are exact from degree 2 on, so that round-off is all there is
    assert bound.value <= 10 * error + 1e-9


def test_the_strong_form_is_refused():
    rough = sn.TensorSpace(x=sn.BSpline((0, 1), cells=10, continuity={0.4: 0}))
    (x,) = rough.coordinates
    with pytest.raises(ValueError, match=r"d.x\*\*2.*which has 1, since .* has continuity 0 at 0.4: use the weak form"):
        sn.LeastSquares(rough.d.x**2)
    with pytest.raises(ValueError, match=r"jumps at 0\.4 is differentiated"):
        rough.d.x @ (piecewise(x, [0.4], [1.0, 2.0]) * rough.d.x)
    ring = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8, continuity={0: 0}, periodic=True))
    with pytest.raises(ValueError, match="continuity 0 at 0:"):
        sn.LeastSquares(ring.d.x**2)
    with pytest.raises(ValueError, match="raise degree="):
        sn.LeastSquares(sn.TensorSpace(x=sn.BSpline((0, 1), cells=8, degree=1)).d.x ** 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda V, k: sn.inner(k * V.d.x, V.d.x), "of d.x jumps at x = 0.45, where .* has no break"),
        (lambda V, k: sn.inner(k * V.identity, V.identity), "in x jumps at x = 0.45, where .* has no break"),
        (lambda V, k: sn.LeastSquares(k * V.d.x**2), r"of d.x\*\*2 jumps at x = 0.45, .*continuity=\{0.45: 1\}"),
        (lambda V, k: sn.inner(sn.apply(np.sqrt, k) * V.d.x, V.d.x), "of d.x jumps at x = 0.45"),
    ],
)
def test_a_jump_off_the_breaks_is_a_warning(make, message):
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=10))
    k = piecewise(V.coordinates[0], [0.45], [1.0, 2.0])
    with pytest.warns(UserWarning, match=message):
        make(V, k)


def test_no_warning_where_the_basis_can_follow():
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=10, continuity={0.4: 0}), y=sn.Legendre((0, 1), 4))
    x, y = V.coordinates
    k = piecewise(x, [0.4], [1.0, 2.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sn.inner(k * V.d.x, V.d.x) + sn.inner(k * V.identity, V.identity) + sn.inner(k * V.d.y, V.d.y)
        sn.inner((piecewise(y, [2.0], [1.0, 3.0]) * V.identity).at(x=1), V.identity.at(x=1))  # outside the box
        sn.load_on(piecewise(x, [0.33], [1.0, 2.0]), V.identity)  # data may jump anywhere
        smooth = sn.TensorSpace(x=sn.BSpline((0, 1), cells=10, continuity={0.4: 1}))
        sn.LeastSquares(k * smooth.d.x**2)
