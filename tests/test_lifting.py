"""Initial and boundary data: lifted, exact at the ends, and honest about what they could not resolve."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solver_support import EPS, Grid, on_grid
from support import dev_size

import sepnet as sn
from sepnet.solvers.lifting import make_lift


def plane(cells=5, degree=3, names="xy"):
    return sn.TensorSpace(**{n: sn.BSpline((0, 1), cells=cells, degree=degree) for n in names})


def laplace(V):
    return sum((k**2 for k in list(V.d)[1:]), next(iter(V.d)) ** 2)


# A projection solves a saddle system with the mass matrix: its condition, about 1e2 for cubics, times eps
EXACT = 1e4 * EPS


@dev_size
@given(st.lists(st.integers(-8, 8).map(lambda k: k / 4), min_size=4, max_size=4))
def test_bilinear_data_on_all_four_sides_are_taken_exactly(c):
    V = plane()
    x, y = V.coordinates

    def g(s, t):
        return c[0] + c[1] * s + c[2] * t + c[3] * s * t

    sides = {"x": (g(0, y), g(1, y)), "y": (g(x, 0), g(x, 1))}
    lift = make_lift(sn.LeastSquares(laplace(V), boundary=sides), 1e-3)
    if lift.function is None:
        assert not any(abs(k) > 0 for k in c)
        return
    s = np.linspace(0, 1, 9)
    values = lift.function.on_grid(x=s, y=s)
    np.testing.assert_allclose(values, g(s[:, None], s[None, :]), rtol=0, atol=EXACT * (1 + max(map(abs, c))))
    assert lift.data_error <= EXACT
    assert [b.zero for b in lift.space.bases] == ["both", "both"]


@pytest.mark.parametrize("tol", [1e-2, 1e-5])
def test_smooth_data_with_compatible_corners(tol):
    # g = exp(x) cos(2 y) on all sides: the transfinite interpolant takes all of them, the corners once
    V = plane(6)
    f = [lambda s: np.exp(s), lambda s: np.cos(2 * s)]
    sides = {
        "x": (sn.product(y=f[1]), np.e * sn.product(y=f[1])),
        "y": (sn.product(x=f[0]), np.cos(2.0) * sn.product(x=f[0])),
    }
    lift = make_lift(sn.LeastSquares(laplace(V), boundary=sides), tol)
    assert lift.data_error <= tol
    s = np.linspace(0, 1, 41)
    for side, expected in (
        (dict(x=[0.0], y=s), f[1](s)), (dict(x=[1.0], y=s), np.e * f[1](s)),
        (dict(x=s, y=[0.0]), f[0](s)), (dict(x=s, y=[1.0]), np.cos(2.0) * f[0](s)),
    ):  # fmt: skip
        values = lift.function.on_grid(**side).ravel()
        # pointwise on a side; the projection is stable there: ten times the L2 tolerance
        np.testing.assert_allclose(values, expected, rtol=0, atol=10 * tol)
    corners = lift.function.on_grid(x=2, y=2)
    np.testing.assert_allclose(corners, np.outer(f[0](np.array([0, 1])), f[1](np.array([0, 1]))), rtol=0, atol=EXACT)


@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_ends_are_exact_for_data_that_are_not(degree):
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4, degree=degree), t=sn.BSpline((0, 2), cells=2))
    data = {"t": sn.product(x=lambda s: np.exp(3 * s))}
    lift = make_lift(sn.LeastSquares(V.d.t, initial=data), 1.0)  # a tolerance that asks for nothing
    ends = lift.function.restrict(t=0.0)(np.array([[0.0], [1.0]]))
    np.testing.assert_allclose(ends, [1, np.exp(3)], rtol=EXACT)
    assert lift.space.axes["t"].zero == "left"
    assert lift.space.axes["x"].zero is None


def test_data_error_is_the_distance():
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4, degree=2), t=sn.BSpline((0, 2), cells=2))
    lift = make_lift(sn.LeastSquares(V.d.t, initial={"t": sn.product(x=lambda s: np.exp(3 * s))}), 1.0)
    grid = Grid.of(lift.function.space, 12)
    exact = np.exp(3 * grid.coordinates[0])
    expected = grid.norm(on_grid(lift.function, grid) - exact) / grid.norm(exact)
    assert lift.data_error == pytest.approx(expected, rel=1e-6)


def test_zero_data_are_zero_ends():
    V = plane()
    lift = make_lift(sn.LeastSquares(laplace(V), boundary={"x": (0, 0), "y": (0.0, None)}), 1e-3)
    assert lift.function is None
    assert lift.data_error == 0.0
    assert [b.zero for b in lift.space.bases] == ["both", "left"]
    one = sn.solve(sn.LeastSquares(laplace(V), source=1, boundary={"x": (0, 0), "y": (0, 0)}), rank=3)
    Z = sn.TensorSpace(**{n: sn.BSpline((0, 1), cells=5, zero="both") for n in "xy"})
    two = sn.solve(sn.LeastSquares(laplace(Z), source=1), rank=3)
    for a, b in zip(one.u.factors, two.u.factors, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6])
def test_data_that_the_space_resolves_badly_are_put_on_finer_knots(tol):
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=6), t=sn.BSpline((0, 1), cells=2))
    narrow = sn.product(x=lambda s: np.exp(-(((s - 0.4) / 0.06) ** 2)))
    solution = sn.solve(sn.LeastSquares(V.d.t + V.identity, initial={"t": narrow}), tol=tol)
    assert 0 < solution.data_error <= tol / 10
    # the answer is one CP on the finer knots, and takes the data to that accuracy
    x = np.linspace(0, 1, 201)
    start = solution.u.on_grid(x=x, t=[0.0]).ravel()
    assert np.linalg.norm(start - np.exp(-(((x - 0.4) / 0.06) ** 2))) <= 2 * tol / 10 * np.linalg.norm(start)
    assert solution.u.space.axes["x"].size > V.axes["x"].size
    assert solution.u.space.axes["t"].contains(V.axes["t"])


def test_data_that_no_refinement_resolves():
    # a kink at 1/3 on dyadic breaks: the error falls by 2**1.5 a refinement and never reaches 1e-9
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), t=sn.BSpline((0, 1), cells=2))
    kink = sn.product(x=lambda s: np.abs(s - 1 / 3))
    lift = make_lift(sn.LeastSquares(V.d.t, initial={"t": kink}), 1e-9)
    assert 1e-9 < lift.data_error < 1e-3
    grid = Grid.of(lift.function.space, 20)
    exact = np.abs(grid.coordinates[0] - 1 / 3)
    # a kink inside a cell is beyond Gauss: two digits
    expected = grid.norm(on_grid(lift.function, grid) - exact) / grid.norm(exact)
    assert lift.data_error == pytest.approx(expected, rel=0.3)


def test_data_that_contradict_zero_ends_show_in_data_error():
    # u0 = 1 on walls where u = 0: the L2 distance cannot vanish
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=6, zero="both"), t=sn.BSpline((0, 1), cells=2))
    solution = sn.solve(sn.LeastSquares(V.d.t - V.d.x**2, initial={"t": 1}), rank=6)
    assert 1e-2 < solution.data_error < 1.0
    np.testing.assert_allclose(solution.u(np.array([[0.0, 0.5], [1.0, 0.3]])), 0.0, atol=EXACT)


def incompatible():
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=6), t=sn.BSpline((0, 1), cells=4))
    x, _ = V.coordinates
    L = V.d.t - V.d.x**2
    yield "cold start, hot walls", sn.LeastSquares(L, initial={"t": 0}, boundary={"x": (1, 1)}), ([0.0, 0.5], 1.0)
    yield "one wall", sn.LeastSquares(L, initial={"t": x}, boundary={"x": (1, None)}), ([0.0, 0.5], 1.0)
    W = plane()
    box = sn.LeastSquares(laplace(W), boundary={"x": (1, 1), "y": (0, 0)})
    yield "box", box, ([0.0, 0.5], 1.0)


@pytest.mark.parametrize("case", list(incompatible()), ids=lambda c: c[0])
def test_data_that_disagree_at_a_corner_are_never_dropped_in_silence(case):
    _, problem, (point, expected) = case
    try:
        solution = sn.solve(problem, rank=8)
    except ValueError as error:
        if "corner" not in str(error) and "disagree" not in str(error):
            raise
        return
    taken = abs(float(solution.u(np.array([point]))[0]) - expected)
    assert taken <= 1e-6 or solution.data_error >= 0.1 * taken


def test_a_datum_that_solves_the_equation_is_the_solution():
    # u = x**3 solves u_t + u_xx = 6 x: what is left of the source after the lift is round-off
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8), t=sn.BSpline((0, 1), cells=8))
    x, _ = V.coordinates
    for method in ("als", "full"):
        solution = sn.solve(sn.LeastSquares(V.d.x**2 + V.d.t, 6 * x, {"t": x**3}), rank=4, method=method)
        assert solution.converged
        assert solution.residual == 0.0
        points = np.random.default_rng(0).random((20, 2))
        np.testing.assert_allclose(solution.u(points), points[:, 0] ** 3, rtol=0, atol=EXACT)


@pytest.mark.parametrize("method", ["als", "full"])
@pytest.mark.parametrize("kind", ["least squares", "galerkin"])
def test_without_a_remaining_source_the_lift_is_the_solution(kind, method):
    V = plane()
    x, y = V.coordinates
    sides = {"x": (1 + y, 2 + 3 * y), "y": (1 + x, 2 + 3 * x)}
    if kind == "galerkin":
        problem = sn.Galerkin(sn.inner(V.d.x, V.d.x) + sn.inner(V.d.y, V.d.y), boundary=sides)
    else:
        problem = sn.LeastSquares(laplace(V), boundary=sides)
    solution = sn.solve(problem, rank=9, method=method)
    points = np.random.default_rng(0).random((20, 2))
    exact = 1 + points[:, 0] + points[:, 1] * (1 + 2 * points[:, 0])
    np.testing.assert_allclose(solution.u(points), exact, rtol=0, atol=10 * EXACT)
    assert solution.converged
    assert solution.residual == 0.0


def test_neither_source_nor_data_is_zero():
    V = plane()
    solution = sn.solve(sn.LeastSquares(laplace(V), boundary={"x": (0, 0)}), rank=2)
    assert solution.converged
    assert solution.residual == 0.0
    assert solution.u.norm() == 0.0


# -------------------------------------------------------------------------- Robin, Neumann, divergence: exact in 1-D


def line(zero=None):
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=3, degree=3, zero=zero))
    return V, V.coordinates[0], V.d, V.identity


def agree(solution, exact):
    points = np.linspace(0, 1, 33)
    # exact solutions lie in the space; kappa of the least-squares system is 1e3 to 1e4, of Galerkin 1e2, and the ridge
    # weighs 64 eps
    np.testing.assert_allclose(solution.u(points[:, None]), exact(points), rtol=0, atol=64 * EPS * 1e5)


@pytest.mark.parametrize("method", ["als", "full"])
def test_robin_as_a_residual_on_a_face(method):
    _, _, d, one = line()
    h = 2.5
    conditions = [((d.x + h * one).at(x=1), 2 + 1.5 * h)]
    # -u'' = -1, u(0) = 0, u'(1) + h u(1) = g has the solution x + x**2 / 2
    problem = sn.LeastSquares(-1 * d.x**2, source=-1, boundary={"x": (0, None)}, conditions=conditions)
    solution = sn.solve(problem, rank=1, method=method)
    agree(solution, lambda s: s + s**2 / 2)


@pytest.mark.parametrize("method", ["als", "full"])
def test_robin_in_the_weak_form(method):
    V, _, d, one = line("left")
    h = 2.5
    form = sn.inner(d.x, d.x) + sn.inner(h * one.at(x=1), one.at(x=1))
    load = sn.load_on(-1, one) + sn.load_on(2 + 1.5 * h, one.at(x=1))
    agree(sn.solve(sn.Galerkin(form, source=load), rank=1, method=method), lambda s: s + s**2 / 2)
    assert V.dim == 1


@pytest.mark.parametrize("method", ["als", "full"])
def test_neumann_in_the_weak_form(method):
    V, x, d, one = line("left")
    # -u'' = 6 x, u(0) = 0, u'(1) = 2: u = 5 x - x**3
    load = 6 * x + sn.load_on(2, one.at(x=1))
    agree(sn.solve(sn.Galerkin(sn.inner(d.x, d.x), source=load), rank=1, method=method), lambda s: 5 * s - s**3)
    assert V.dim == 1


@pytest.mark.parametrize("method", ["als", "full"])
def test_load_in_divergence_form(method):
    _, x, d, _ = line("both")
    # int u' v' = int x**2 v': u' = x**2 - 1/3
    load = sn.load_on(x**2, d.x)
    agree(sn.solve(sn.Galerkin(sn.inner(d.x, d.x), source=load), rank=1, method=method), lambda s: (s**3 - s) / 3)


@pytest.mark.parametrize("method", ["als", "full"])
def test_lifted_galerkin_with_a_neumann_end(method):
    _, x, d, one = line()
    # u(0) = 1, u'(1) = 2, -u'' = 6 x: u = 1 + 5 x - x**3; the lift enters the load
    problem = sn.Galerkin(sn.inner(d.x, d.x), source=6 * x + sn.load_on(2, one.at(x=1)), boundary={"x": (1, None)})
    agree(sn.solve(problem, rank=3, method=method), lambda s: 1 + 5 * s - s**3)


def test_robin_on_a_side_of_a_square():
    # u = (x + x**2 / 2)(1 + y): the condition's data depend on the other axis
    V = plane()
    x, y = V.coordinates
    d, one, h = V.d, V.identity, 0.5
    problem = sn.LeastSquares(
        d.x**2 + d.y**2,
        source=1 + y,
        boundary={"x": (0, None), "y": (x + x**2 / 2, 2 * x + x**2)},
        conditions=[((d.x + h * one).at(x=1), (2 + 1.5 * h) * (1 + y))],
    )
    solution = sn.solve(problem, rank=6, method="als")
    points = np.random.default_rng(0).random((50, 2))
    exact = (points[:, 0] + points[:, 0] ** 2 / 2) * (1 + points[:, 1])
    np.testing.assert_allclose(solution.u(points), exact, rtol=0, atol=64 * EPS * 1e5)


# ------------------------------------------------------------------------------------------------ what is refused


def test_wrong_data_are_refused():
    V = plane()
    x, y = V.coordinates
    L = laplace(V)
    ring = sn.TensorSpace(x=sn.BSpline((0, 1), cells=5, periodic=True), y=sn.BSpline((0, 1), cells=5, zero="left"))
    cases = [
        (lambda: sn.LeastSquares(L, boundary={"x": (x, None)}), ValueError, "depend on 'x' itself"),
        (lambda: sn.LeastSquares(L, boundary={"t": (0, 0)}), ValueError, "names the axis 't'"),
        (lambda: sn.LeastSquares(L, boundary={"x": 0}), TypeError, "pair"),
        (lambda: sn.LeastSquares(L, initial={"x": y}, boundary={"x": (y, None)}), ValueError, "both initial data"),
        (lambda: sn.LeastSquares(L, initial={"x": np.nan}), ValueError, "finite"),
        (lambda: sn.LeastSquares(L, initial={"x": np.sin}), TypeError, "sn.product"),
        (lambda: sn.LeastSquares(ring.d.x, boundary={"x": (1, None)}), ValueError, "periodic"),
        (lambda: sn.LeastSquares(ring.d.x, boundary={"y": (1, None)}), ValueError, "zero=None"),
        (lambda: sn.LeastSquares(L, conditions=[L]), TypeError, "pair"),
        (lambda: sn.LeastSquares(L, conditions=[(ring.d.x, 0)]), ValueError, "another space"),
    ]
    for make, kind, message in cases:
        with pytest.raises(kind, match=message):
            make()


def test_a_rank_below_that_of_the_data_is_refused():
    V = plane()
    x, y = V.coordinates
    problem = sn.LeastSquares(laplace(V), source=1, boundary={"x": (y, 1 + y**2), "y": (x, 1 + x)})
    with pytest.raises(ValueError, match=r"boundary data alone have rank"):
        sn.solve(problem, rank=1)
