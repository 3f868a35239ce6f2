"""Nonlinear problems: linearisation, Newton's convergence, rates, damping, and the ways in which a solve ends."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solver_support import EPS, Grid, check_rate, on_grid
from support import EXAMPLES

import sepnet as sn
from sepnet.functions import CP
from sepnet.nonlinear import NonlinearOperator
from sepnet.solvers import nonlinear_newton
from sepnet.solvers.lifting import make_lift
from sepnet.solvers.nonlinear_continuation import continuation
from sepnet.solvers.nonlinear_grid import Grid as TensorGrid
from sepnet.solvers.nonlinear_system import make_full_system

PI = math.pi
FEW = settings(max_examples=min(10, EXAMPLES["ci"]), deadline=None)


def space(cells=3, degree=3, dim=2, **options):
    names = "xyz"[:dim]
    return sn.TensorSpace(
        **{n: sn.BSpline((0, 1), cells=cells + k, degree=degree, **options) for k, n in enumerate(names)}
    )


MIXED = sn.TensorSpace(
    x=sn.BSpline((-1, 2), cells=3, zero="both"),
    y=sn.BSpline((0, 1), cells=4, degree=2, periodic=True),
    k=sn.Legendre((1, 2), 2),
)


def atoms(V):
    """Expressions to build others from."""
    u, d = V.unknown, V.d
    first, last = V.names[0], V.names[-1]
    x, *_ = V.coordinates
    return [u, d[first](u), (d[first] ** 2)(u), d[last](u), x * u, (x**2 * d[first])(u), u * 0 + x, d[first](u * x)]


@st.composite
def expressions(draw, V):
    """A random polynomial in the unknown, of degree three at most."""
    choice = st.sampled_from(atoms(V))
    total = V.unknown * 0
    for _ in range(draw(st.integers(1, 3))):
        product = draw(choice)
        for _ in range(draw(st.integers(0, 2))):
            product = product * draw(choice)
        total = total + draw(st.integers(-3, 3)) * product
    return total


def polynomial(seed):
    """A random polynomial on MIXED, as data."""
    rng = np.random.default_rng(seed)
    x, y, k = MIXED.coordinates
    a = rng.uniform(-1, 1, 5)
    return a[0] + a[1] * x * y + a[2] * x**2 * k + a[3] * y**2 + a[4] * x**3


def random_cp(V, rank, seed):
    rng = np.random.default_rng(seed)
    return CP(V, [rng.uniform(-1, 1, (n, rank)) for n in V.shape])


def points_of(V, n=40, seed=0):
    low, high = np.array([b.domain for b in V.bases]).T
    return low + (high - low) * np.random.default_rng(seed).random((n, V.dim))


def at_points(data, V, points):
    return data(points, V.names)


# -------------------------------------------------------------------------------------------------- the expressions


@FEW
@given(expressions(MIXED), st.integers(0, 100))
def test_linearisation_is_the_difference_quotient(R, seed):
    v, w = polynomial(seed), polynomial(seed + 1)
    points = points_of(MIXED)
    derivative = at_points(R.linearised(v).apply(w), MIXED, points)

    def along(h):
        return at_points(R.value(v + h * w), MIXED, points)

    # of degree three along a line: Richardson's extrapolation of two central differences is exact up to round-off
    first, second = ((along(h) - along(-h)) / (2 * h) for h in (1.0, 2.0))
    quotient = (4 * first - second) / 3
    size = max(np.abs(along(2.0)).max(), np.abs(along(-2.0)).max(), 1.0)
    np.testing.assert_allclose(derivative, quotient, rtol=0, atol=1e3 * EPS * size)


@FEW
@given(expressions(MIXED), expressions(MIXED), st.integers(0, 100))
def test_algebra_commutes_with_evaluation(R, S, seed):
    v, points = polynomial(seed), points_of(MIXED)
    r, s = (at_points(e.value(v), MIXED, points) for e in (R, S))
    # monomials of high degree in x in [-1, 2] cancel: some hundred units of round-off of the largest product
    size = 1e5 * EPS * (1 + np.abs(r).max()) * (1 + np.abs(s).max())
    np.testing.assert_allclose(at_points((R + S).value(v), MIXED, points), r + s, rtol=0, atol=size)
    np.testing.assert_allclose(at_points((R * S - 2).value(v), MIXED, points), r * s - 2, rtol=0, atol=size)
    np.testing.assert_allclose(at_points((3 - S / 2).value(v), MIXED, points), 3 - s / 2, rtol=0, atol=size)


@FEW
@given(expressions(MIXED), st.integers(0, 100))
def test_operators_after_expressions_follow_the_product_rule(R, seed):
    x, *_ = MIXED.coordinates
    L = MIXED.d.k + x * MIXED.d.k + 2 * MIXED.identity
    v, points = polynomial(seed), points_of(MIXED)
    left = at_points(L(R).value(v), MIXED, points)
    right = at_points(L.apply(R.value(v)), MIXED, points)
    np.testing.assert_allclose(left, right, rtol=0, atol=1e5 * EPS * (1 + np.abs(right).max()))


def test_functions_and_expressions_take_the_place_of_the_unknown_alike():
    V = space(2)
    x, y = V.coordinates
    data = x * (1 - x) * y + x**2
    u = V.unknown
    R = u * V.d.x(u) - (V.d.x**2)(u) + u**3
    v, points = sn.project(data, V), points_of(V)
    expected = at_points(R.value(data), V, points)
    np.testing.assert_allclose(at_points(R.value(v), V, points), expected, atol=1e-10)
    np.testing.assert_allclose(at_points(R.value(v, tol=1e-9), V, points), expected, atol=1e-7)
    a, b = (at_points(R.linearised(w).apply(y), V, points) for w in (v, data))
    np.testing.assert_allclose(a, b, atol=1e-10)


def test_rounded_products_are_as_close_as_asked():
    V = space(cells=8)
    v = random_cp(V, 6, 0)
    R = V.unknown**2
    exact, rounded = R.value(v), R.value(v, tol=1e-2)
    assert len(rounded.terms) < len(exact.terms)
    points = points_of(V, 4000)
    difference = at_points(exact - rounded, V, points)
    # sampled norms of a ratio that the rounding bounds in L2
    assert np.linalg.norm(difference) <= 1.2e-2 * np.linalg.norm(at_points(exact, V, points))


def test_faces():
    V = space()
    u, d, x = V.unknown, V.d, V.coordinates[0]
    robin = (d.x(u) + u**2 - x).at(x=1.0)
    v = random_cp(V, 2, 3)
    points = points_of(V)
    on_face = points.copy()
    on_face[:, 0] = 1.0
    plain = d.x(u) + u**2 - x
    np.testing.assert_allclose(at_points(robin.value(v), V, points), at_points(plain.value(v), V, on_face), atol=1e-12)
    assert robin.linearised(v).face == {"x": 1.0}
    assert V.identity.at(x=1.0)(u).face == (("x", 1.0),)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda u, V: u * V.d.x, TypeError, "apply the operator to the unknown"),
        (lambda u, V: V.d.x * u, TypeError, "apply the operator to it"),
        (lambda u, V: V.d.x + u, TypeError, "apply the operator to it"),
        (lambda u, V: u**0.5, TypeError, "integer >= 0"),
        (lambda u, V: u**-1, TypeError, "integer >= 0"),
        (lambda u, V: 1 / u, TypeError, "multiply the equation by the denominator"),
        (lambda u, V: np.exp(u), TypeError, "only polynomials"),
        (lambda u, V: np.ones(3) * u, TypeError, "an array of shape"),
        (lambda u, V: u + np.ones(3), TypeError, "an array of shape"),
        (lambda u, V: V.d.x(3), TypeError, "L.apply"),
        (lambda u, V: u + space(4).unknown, ValueError, "different spaces"),
        (lambda u, V: space(4).d.x(u), ValueError, "rebind"),
        (lambda u, V: u.at(x=0) + u, ValueError, "different faces"),
        (lambda u, V: u.at(x=0).at(x=1), ValueError, "already evaluated"),
        (lambda u, V: V.d.x(u.at(x=0)), ValueError, "apply .at"),
        (lambda u, V: u.at(x=7), ValueError, "outside"),
        (lambda u, V: sn.LeastSquares((V.d.x**4)(u) + u**2), ValueError, "derivatives"),
        (lambda u, V: sn.LeastSquares(sn.inner(u**2, V.identity)), TypeError, "sn.Galerkin"),
        (lambda u, V: sn.Galerkin(u**2), TypeError, "sn.LeastSquares"),
        (lambda u, V: sn.inner(V.d.x, u), TypeError, "sn.inner"),
        (lambda u, V: sn.inner(u, V.d.x(u)), TypeError, "the operator itself"),
        (lambda u, V: sn.inner(u**2, V.identity.at(x=0)), ValueError, "same face"),
        (lambda u, V: sn.LeastSquares(u * 0), ValueError, "zero"),
        (
            lambda u, V: (u**2).value(sn.project(1.0 + 0 * space(dim=1).coordinates[0], space(dim=1))),
            ValueError,
            "axes",
        ),
        (lambda u, V: (u**2).value("u"), TypeError, "v"),
    ],
)
def test_wrong_input_is_refused_with_the_next_step(make, error, says):
    V = space()
    with pytest.raises(error, match=says):
        make(V.unknown, V)


# ------------------------------------------------------------------------------------------- what is linear after all


def test_linear_expressions_are_the_linear_problem():
    V = space(6, zero="both")
    u, d, one = V.unknown, V.d, V.identity
    x, y = V.coordinates
    strong = sn.LeastSquares(-(d.x**2)(u) - (d.y**2)(u) + u * x - x * y, source=1)
    plain = sn.LeastSquares(-(d.x**2) - d.y**2 + x * one, source=1 + x * y)
    assert not strong.is_nonlinear
    a, b = (sn.solve(p, method="full", tol=0.5).u for p in (strong, plain))
    assert (a - b).norm() <= 1e3 * EPS * b.norm()
    weak = sn.Galerkin(sn.inner(d.x(u) - x, d.x) + sn.inner(d.y, d.y) + sn.inner(u**2 - u * u + u, one), source=1)
    other = sn.Galerkin(sn.inner(d.x, d.x) + sn.inner(d.y, d.y) + sn.inner(one, one), source=1 + sn.load_on(x, d.x))
    assert not weak.is_nonlinear
    a, b = (sn.solve(p, method="full").u for p in (weak, other))
    assert (a - b).norm() <= 1e4 * EPS * b.norm()


def test_conditions_that_are_linear_in_the_unknown_are_linear():
    V = space(6, dim=1)
    u, d = V.unknown, V.d
    problem = sn.LeastSquares(-(d.x**2)(u), conditions=[((u - 2).at(x=0), 1), (d.x(u).at(x=1), 0)])
    assert not problem.is_nonlinear
    assert abs(float(sn.solve(problem, method="full").u([[0.5]])[0]) - 3) < 1e-10


# ------------------------------------------------------------------------------------------------- the full system


def systems():
    V = sn.TensorSpace(
        x=sn.BSpline((-1, 1), cells=3, zero="both"),
        t=sn.BSpline((0, 1), cells=2, degree=2),
        k=sn.BSpline((1, 2), cells=3, degree=1, periodic=True),
    )
    u, d, one = V.unknown, V.d, V.identity
    x, t, k = V.coordinates
    start = 1 - x**2
    strong = sn.LeastSquares(
        d.t(u) + u * d.x(u) - k * (d.x**2)(u),
        source=x * t,
        initial={"t": start},
        conditions=[((d.x(u) + u**3).at(x=1), t), (d.x.at(t=1), 1)],
    )
    form = sn.inner(k * d.x(u), d.x) + sn.inner(d.t(u) + u**3, one) + sn.inner(t * u**2, x * d.x + d.k)
    weak = sn.Galerkin(form + sn.inner(d.t, one), source=x + sn.load_on(t, d.x.at(x=1)), initial={"t": start})
    return {"strong": strong, "weak": weak}


@pytest.mark.parametrize("kind", ["strong", "weak"])
def test_newton_step_equals_that_of_a_dense_jacobian(kind):
    problem = systems()[kind]
    lift = make_lift(problem, 1e-6)
    system = make_full_system(problem, lift.space, lift.function)
    v = 0.1 * np.random.default_rng(0).standard_normal(lift.space.shape)

    def residual(w):
        w = w.reshape(v.shape)
        if kind == "weak":
            return system._vector(w).ravel()
        parts = [np.sqrt(b.grid.weights) * b.value(b.derivatives(w)) for b in system._blocks]
        return np.concatenate([p.ravel() for p in parts])

    units = np.eye(v.size)
    h = 1e-5
    J = np.stack([(residual(v.ravel() + h * e) - residual(v.ravel() - h * e)) / (2 * h) for e in units], axis=1)
    expected = np.linalg.lstsq(J, -residual(v.ravel()), rcond=None)[0].reshape(v.shape)
    step, promised = system.step(v)
    # central differences of a cubic: h**2 = 1e-10 relative, times a condition number of about 1e3
    np.testing.assert_allclose(step, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    assert promised == pytest.approx(np.linalg.norm(J @ expected.ravel()) ** 2, rel=1e-6)
    assert system.residual(v) == pytest.approx(np.linalg.norm(residual(v.ravel())), rel=1e-12)


def test_tensor_grid_sums_equal_dense_sums():
    V = MIXED
    x, y, _ = V.coordinates
    grid = TensorGrid(V, [x * y], 1, {})
    tensor = np.random.default_rng(0).standard_normal(V.shape)
    jet = (("x", 1), ("y", 2))
    tables = [a.table({"x": 1, "y": 2}.get(n, 0)) for n, a in zip(V.names, grid.axes, strict=True)]
    np.testing.assert_allclose(grid.of_tensor(tensor, jet), np.einsum("ai,bj,ck,ijk->abc", *tables, tensor), atol=1e-10)
    values = np.random.default_rng(1).standard_normal(grid.shape)
    np.testing.assert_allclose(grid.tested(values, jet), np.einsum("ai,bj,ck,abc->ijk", *tables, values), atol=1e-9)
    assert grid.norm(grid.data(x * y)) == pytest.approx(math.sqrt(3 * 1 / 3), rel=1e-13)  # int x**2 = 3, int y**2 = 1/3


# --------------------------------------------------------------------------------------------------- convergence


def polynomial_problem(kind, V=None):
    """A nonlinear problem whose solution is in the space."""
    V = V or space(4, zero="both")
    u, d, one = V.unknown, V.d, V.identity
    x, y = V.coordinates
    exact = 16 * x * (1 - x) * y * (1 - y)
    strong = -(d.x**2)(u) - (d.y**2)(u) + 5 * u**3 + u * d.x(u)
    f = strong.value(exact)
    if kind == "least-squares":
        return sn.LeastSquares(strong, source=f), exact
    form = sn.inner(d.x(u), d.x) + sn.inner(d.y(u), d.y) + sn.inner(5 * u**3 + u * d.x(u), one)
    return sn.Galerkin(form, source=f), exact


@pytest.mark.parametrize("kind", ["galerkin", "least-squares"])
def test_convergence_is_quadratic(kind):
    problem, exact = polynomial_problem(kind)
    solution = sn.solve(problem, tol=1e-10, method="full")
    assert solution.converged
    residuals = [r.residual for r in solution.history]
    assert [r.sweep for r in solution.history] == list(range(len(residuals)))
    assert residuals[0] == 1.0
    small = [(a, b) for a, b in itertools.pairwise(residuals) if a < 0.1 and b > 1e-13]
    # the constant of e' <= C e**2 is not known beforehand; from one step to the next it must not grow
    assert len(small) >= 2
    assert all(b <= 5 * a**2 for a, b in small), residuals
    error = (solution.u - sn.project(exact, solution.u.space)).norm()
    assert error <= 1e-12


def wave(x):
    return np.sin(PI * x) * np.exp(x)


def smooth_source(V):
    """The source of -Laplace u + u**3 for u = product of waves."""
    second = lambda x: np.exp(x) * ((1 - PI**2) * np.sin(PI * x) + 2 * PI * np.cos(PI * x))  # noqa: E731
    u = sn.product(**dict.fromkeys(V.names, wave))
    parts = [sn.product(**{m: second if m == n else wave for m in V.names}) for n in V.names]
    total = u**3
    for p in parts:
        total = total - p
    return total


def error_of(u, degree):
    grid = Grid.of(u.space, degree + 5)
    exact = np.ones(())
    for points in grid.points.values():
        exact = np.multiply.outer(exact, wave(points))
    return grid.norm(on_grid(u, grid) - exact) / grid.norm(exact)


@pytest.mark.parametrize(
    ("kind", "degree", "order", "cap"),
    [
        ("galerkin", 1, 2, 5e-3),
        ("galerkin", 2, 3, 1e-4),
        ("galerkin", 3, 4, 5e-6),
        ("strong", 3, 4, 1e-5),
        ("strong", 4, 5, 1e-6),
    ],
)
def test_rates(kind, degree, order, cap):
    errors, sizes = [], []
    for cells in (8, 16):
        V = sn.TensorSpace(
            x=sn.BSpline((0, 1), cells=cells, degree=degree, zero="both"),
            y=sn.BSpline((0, 1), cells=cells, degree=degree, zero="both"),
        )
        u, d, one = V.unknown, V.d, V.identity
        if kind == "galerkin":
            form = sn.inner(d.x(u), d.x) + sn.inner(d.y(u), d.y) + sn.inner(u**3, one)
            problem = sn.Galerkin(form, source=smooth_source(V))
        else:
            problem = sn.LeastSquares(-(d.x**2)(u) - (d.y**2)(u) + u**3, source=smooth_source(V))
        errors.append(error_of(sn.solve(problem, tol=0.1, method="full").u, degree))
        sizes.append(1 / cells)
    check_rate(errors, sizes, order, floor=1e3 * EPS * 1e4, cap=cap)


@pytest.mark.parametrize(("kind", "format"), [("galerkin", "cp"), ("least-squares", "cp"), ("least-squares", "tt")])
def test_low_rank_equals_full(kind, format):
    V = sn.TensorSpace(
        x=sn.BSpline((0, 1), cells=5, zero="both"),
        y=sn.BSpline((0, 1), cells=5, zero="both"),
        k=sn.BSpline((1, 4), cells=2),
    )
    u, d, one = V.unknown, V.d, V.identity
    x, y, k = V.coordinates
    if kind == "galerkin":
        form = sn.inner(d.x(u), d.x) + sn.inner(d.y(u), d.y) + sn.inner(k * u**3, one)
        problem, tol = sn.Galerkin(form, source=40), 1e-3
    else:
        source = 600 * x * (1 - x) * y * (1 - y)
        problem, tol = sn.LeastSquares(-(d.x**2)(u) - (d.y**2)(u) + k * u**3, source=source), 5e-2
    full = sn.solve(problem, method="full", tol=tol)
    short = sn.solve(problem, method="als", format=format, tol=tol)
    assert short.converged
    assert short.residual <= tol
    assert isinstance(short.u, sn.TensorTrain if format == "tt" else sn.CP)
    # the residual bounds the distance in a stronger norm, in which the full solution has a residual of its own
    assert (short.u - full.u).norm() <= tol * full.u.norm()
    assert len(short.history) > 2


@pytest.mark.parametrize("format", ["cp", "tt"])
def test_low_rank_with_a_rank_that_does_not_suffice(format):
    V = space(5, dim=3, zero="both")
    u, one, x = V.unknown, V.identity, V.coordinates[0]
    form = sum((sn.inner(slope(u), slope) for slope in V.d), sn.inner(x * 20 * u**3, one))
    solution = sn.solve(sn.Galerkin(form, source=100), tol=1e-4, rank=2, method="als", format=format)
    assert solution.status is sn.Status.RANK_LIMITED
    assert solution.u.rank <= 2
    assert 1e-4 < solution.residual < 0.2


# ----------------------------------------------------------------------------------------------- damping and endings


def hump(rate, cells=8):
    """-u'' = rate (1 + u + u**2 / 2): two solutions for small rates, none beyond a turning point near 4."""
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=cells, zero="both"))
    u, d, one = V.unknown, V.d, V.identity
    return sn.Galerkin(sn.inner(d.x(u), d.x) - sn.inner(rate * (1 + u + u**2 / 2), one))


def finite(solution):
    return all(np.isfinite(f).all() for f in solution.u.factors) and math.isfinite(solution.residual)


@pytest.mark.parametrize("rate", [6.0, 1e3, 1e8])
def test_no_solution_is_a_status(rate):
    solution = sn.solve(hump(rate), tol=1e-6)
    assert solution.status is sn.Status.FAILED
    assert finite(solution)
    assert "sn.continuation" in solution.message
    residuals = [r.residual for r in solution.history]
    assert all(b <= a for a, b in itertools.pairwise(residuals)), residuals


def test_least_squares_without_solution_is_no_success():
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8))
    u, d = V.unknown, V.d
    solution = sn.solve(sn.LeastSquares(d.x(u) + u**2 + 1, conditions=[(u.at(x=0), 0), (u.at(x=1), 5)]), tol=1e-3)
    assert not solution.converged
    assert finite(solution)


def test_damping_goes_where_full_steps_do_not():
    # u**2 = 1 from u = 0.01: the full step is to 50, where the residual is 2500
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4))
    u, d = V.unknown, V.d
    problem = sn.LeastSquares(u**2 + 0.01 * d.x(u), source=1)
    start = sn.interpolate(np.full(V.shape, 0.01), V)
    solution = sn.solve(problem, tol=1e-8, start=start)
    assert solution.converged
    residuals = [r.residual for r in solution.history]
    assert all(b <= a for a, b in itertools.pairwise(residuals)), residuals
    np.testing.assert_allclose(solution.u([[0.0], [0.7]]), 1.0, atol=1e-8)
    system = make_full_system(problem, V, None)
    v = start.full()
    assert system.residual(v + system.step(v)[0]) > 100 * system.residual(v)  # or the test would show nothing


def test_continuation_follows_a_solution_and_stops_at_the_turn():
    solution = continuation(hump, [1, 3], tol=1e-8)
    assert solution.converged
    lost = continuation(lambda rate: hump(rate, 5), [3, 6], tol=1e-8)
    assert lost.status is sn.Status.FAILED
    assert finite(lost)
    reached = float(lost.message.split("up to ")[1].split(",")[0])
    # With G = u + u**2 / 2 + u**3 / 6 and the largest value M, energy conservation gives rate(M)**(1/2) = 2 int_0^M
    # du / (2 G(M) - 2 G(u))**(1/2), whose maximum over M is 3.99791; five cells of degree 3 see it up to 1e-3.
    assert 3.9 < reached < 3.99791 * (1 + 1e-3)
    with pytest.raises(ValueError, match="empty"):
        continuation(hump, [])
    with pytest.raises(TypeError, match="callable"):
        continuation(3, [1])
    with pytest.raises(TypeError, match="`values` is int"):
        continuation(hump, 3)
    with pytest.raises(ValueError, match="finite"):
        continuation(hump, [1, math.nan])


def test_continuation_halves_the_way():
    asked = []

    def problem(rate):
        asked.append(rate)
        return hump(rate)

    assert continuation(problem, [0.5, 3.9], tol=1e-8).converged
    assert asked[0] == 0.5
    assert asked[-1] == 3.9


def test_continuation_does_not_follow_what_is_not_settled(monkeypatch):
    # Least squares beyond the turn: Gauss and Newton's steps go on for ever, and settle nowhere.
    monkeypatch.setattr(nonlinear_newton, "MAX_STEPS", 8)
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8, zero="both"))
    u, d = V.unknown, V.d
    lost = continuation(lambda rate: sn.LeastSquares((d.x**2)(u) + rate * (1 + u + u**2 / 2)), [1, 50], tol=1e-2)
    assert lost.status is sn.Status.FAILED
    assert lost.residual < 2e-2  # that of a solution; beyond the turn it is 0.7
    assert "followed up to" in lost.message


def test_an_interrupted_continuation_says_where_it_is():
    stopped = continuation(hump, [1, 3], tol=1e-8, callback=lambda record: record.sweep == 2)
    assert stopped.status is sn.Status.INTERRUPTED
    assert "on the way to 1" in stopped.message


@pytest.mark.parametrize("method", ["full", "als"])
def test_a_start_beyond_the_range_of_numbers_is_refused(method):
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), y=sn.BSpline((0, 1), cells=4))
    start = sn.CP(V, [np.full((n, 1), 1e100) for n in V.shape])
    with pytest.raises(ValueError, match=r"`start`.* beyond the range of numbers"):
        sn.solve(sn.LeastSquares(V.unknown**2 - 1), start=start, method=method, tol=1e-6)


@pytest.mark.parametrize("method", ["full", "als"])
def test_single_precision_that_does_not_suffice_is_named(method):
    solution = sn.solve(hump(3), tol=1e-10, dtype="float32", method=method)
    assert not solution.converged
    assert "float32" in solution.message


def test_a_start_is_used_and_any_mesh_will_do():
    coarse = sn.solve(hump(3, 5), tol=1e-8)
    warm = sn.solve(hump(3, 20), tol=1e-8, start=coarse)
    cold = sn.solve(hump(3, 20), tol=1e-8)
    assert warm.history[0].residual < 1e-2
    assert len(warm.history) < len(cold.history)
    assert (warm.u - cold.u).norm() <= 1e-10 * cold.u.norm()


def test_a_trivial_problem_returns_its_lift():
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), y=sn.BSpline((0, 1), cells=4))
    u, d = V.unknown, V.d
    x, _ = V.coordinates
    problem = sn.LeastSquares((d.x**2)(u) * (1 + u**2) + (d.y**2)(u), boundary={"x": (0, 1)})
    solution = sn.solve(problem)
    assert solution.converged
    assert (solution.u - sn.project(x, V)).norm() < 1e-12


def test_interrupt_and_history():
    problem, _ = polynomial_problem("galerkin")
    seen = []
    solution = sn.solve(problem, callback=lambda record: seen.append(record) or record.sweep == 2)
    assert solution.status is sn.Status.INTERRUPTED
    assert [r.sweep for r in seen] == [1, 2]
    assert solution.history[1:] == tuple(seen)
    assert finite(solution)


def test_what_nonlinear_problems_do_not_know(tmp_path):
    problem, _ = polynomial_problem("galerkin")
    with pytest.raises(ValueError, match="nonlinear"):
        sn.solve(problem, method="pgd")
    with pytest.raises(ValueError, match="checkpoint"):
        sn.solve(problem, checkpoint=tmp_path / "run.h5")
    big = sn.TensorSpace(**{n: sn.BSpline((0, 1), cells=60, zero="both") for n in "xyz"})
    huge = sn.Galerkin(sn.inner(big.d.x(big.unknown), big.d.x) + sn.inner(big.unknown**3, big.identity))
    with pytest.raises(MemoryError, match="GiB"):
        sn.solve(huge, method="full")
    solution = sn.solve(problem)
    assert not solution.error_bound.finite
    with pytest.raises(TypeError, match="nonlinear"):
        solution.goal(1)


def test_several_sources():
    problem, _ = polynomial_problem("galerkin")
    one, two = sn.solve_many(problem, [problem.source, 0.5 * problem.source], tol=1e-8)
    assert one.converged
    assert two.converged
    assert 0.3 < two.u.norm() / one.u.norm() < 0.9


def test_rank_and_home(xp):
    problem, exact = polynomial_problem("least-squares")
    tol = 1e-4 if xp.host_dtype is np.float32 else 1e-9
    if xp.readonly:
        pytest.skip("the solver makes its own arrays")
    solution = sn.solve(problem, tol=tol, xp=xp.xp, device=xp.device, dtype=xp.dtype, format="tt")
    assert isinstance(solution.u, sn.TensorTrain)
    assert solution.u.dtype == xp.dtype
    assert (
        solution.u.xp
        is sn.solve(sn.LeastSquares(problem.space.d.x**2, 1), rank=1, xp=xp.xp, device=xp.device, dtype=xp.dtype).u.xp
    )
    home = solution.u.to(np, dtype="float64")
    error = (home.to_cp(tol=1e-12).function - sn.project(exact, problem.space)).norm()
    assert error <= 30 * xp.eps


def test_rank_limited():
    V = space(8, zero="both")
    u, d, one = V.unknown, V.d, V.identity
    x, y = V.coordinates
    problem = sn.Galerkin(
        sn.inner(d.x(u), d.x) + sn.inner(d.y(u), d.y) + sn.inner(20 * u**3, one),
        source=50 * sn.apply(np.sin, 3 * x) * y,
    )
    solution = sn.solve(problem, tol=1e-8, rank=1)
    assert solution.status is sn.Status.RANK_LIMITED
    assert solution.u.rank == 1
    assert solution.residual > 1e-8
    assert sn.solve(problem, tol=1e-8).converged


def test_replaced_and_rebound_problems_stay_nonlinear():
    problem, _ = polynomial_problem("least-squares")
    W = problem.space.replace(x=sn.BSpline((0, 1), cells=7, zero="both"))
    again = dataclasses.replace(problem, operator=problem.operator.on(W))
    assert isinstance(again.operator, NonlinearOperator)
    assert again.space == W
    assert sn.solve(again, tol=1e-9).converged
