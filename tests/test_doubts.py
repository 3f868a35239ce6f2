"""What coefficients and data that were separated approximately carry into the bounds of a solution."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import sepnet as sn
from sepnet.coefficients import UNKNOWN, Coefficient
from sepnet.operators import Operator
from sepnet.separation.separate import separate
from sepnet.solvers import certificates, doubts
from sepnet.solvers.certificates import SAMPLED
from sepnet.terms import Term

V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), y=sn.BSpline((0, 2), cells=4))
X, Y = V.coordinates
POINTS = np.random.default_rng(5).uniform([0, 0], [1, 2], size=(40, 2))


# ------------------------------------------------------------------------------------------------------- the algebra


def doubtful(exact, error, delta):
    """An expression that stands for `exact` and is off by `error`, at most `delta`."""
    return Coefficient((exact + error).terms, ((delta, (Term(),)),))


@st.composite
def expressions(draw, depth=3):
    """An expression and what it stands for: sums, products and powers of exact and of doubtful ones."""
    if depth == 0 or draw(st.booleans()):
        exact = draw(st.sampled_from([X, Y, 1 + X * Y, X - Y, X**2]))
        if draw(st.booleans()):
            return exact, exact
        delta = draw(st.sampled_from([1e-3, 0.1, 1.0]))
        # |error| <= delta on the box, both signs
        return exact, doubtful(exact, delta * draw(st.sampled_from([X, -1.0 * X, 1 - Y, X - 0.5 * Y])), delta)
    kind = draw(st.sampled_from(["sum", "difference", "product", "power", "scaled", "negated"]))
    a, b = draw(expressions(depth=depth - 1))
    if kind in ("sum", "difference", "product"):
        c, e = draw(expressions(depth=depth - 1))
        return (a + c, b + e) if kind == "sum" else (a - c, b - e) if kind == "difference" else (a * c, b * e)
    if kind == "power":
        return a**2, b**2
    return (-a, -b) if kind == "negated" else (-2.5 * a / 3, -2.5 * b / 3)


def allowed(entries, points=POINTS):
    return sum((delta * np.abs(Coefficient(terms)(points, V.names)) for delta, terms in entries), np.zeros(len(points)))


@given(pair=expressions())
def test_an_expression_is_off_by_no_more_than_its_doubts(pair):
    exact, given_ = pair
    miss = np.abs(given_(POINTS, V.names) - exact(POINTS, V.names))
    # Round-off of values up to a few hundred.
    assert (miss <= allowed(given_.doubts) + 1e-10).all()


@given(pair=expressions(depth=1), other=expressions(depth=1))
def test_so_are_operators_and_their_values_on_faces(pair, other):
    d, one = V.d, V.identity
    u = X**3 * (1 + Y) ** 2
    (a, b), (c, e) = pair, other
    exact, given_ = (p * d.x**2 - 2 * (q * (X * d.y + one)) / 3 for p, q in ((a, c), (b, e)))
    for face in ({}, {"x": 0.5}, {"x": 1.0, "y": 2.0}):
        L, M = (op.at(**face) if face else op for op in (exact, given_))
        points = POINTS.copy()
        for name, value in face.items():
            points[:, V.names.index(name)] = value
        miss = np.abs(M.apply(u)(points, V.names) - L.apply(u)(points, V.names))
        bound = np.zeros(len(points))
        for delta, terms in M.doubts:
            bound += delta * np.abs(Operator(V, terms).apply(u)(points, V.names))
        assert (miss <= bound + 1e-9).all()
    assert given_.on(V).doubts == given_.doubts


def test_what_is_applied_to_data_passes_doubts_on():
    S = doubtful(X * Y, 0.1 * X, 0.1)
    assert ((1 + X) * V.identity).apply(S).doubts
    assert (S * V.d.x).apply(X**2).doubts
    # Nothing is known of the derivative of an error, nor of what a callable makes of it.
    assert V.d.x.apply(S).doubts == UNKNOWN == (V.d.x @ (S * V.d.x)).doubts
    assert sn.apply(np.exp, doubtful(X, 0.1 * X, 0.1)).doubts == UNKNOWN
    assert not (0 * S).doubts
    assert not (X * V.d.x @ (Y * V.d.y)).doubts


def test_equal_entries_are_one():
    S = doubtful(X * Y, 0.1 * X, 0.1)
    assert (S * (1 + S)).doubts != ()
    assert len((S * S).doubts) == 2
    assert (3 * S).doubts == ((0.1, (Term(3.0),)),)


# ------------------------------------------------------------------------------------------- least squares: diffusion


def k(p):
    return 1 / (1 + p[:, 0] * p[:, 1])


def kx(p):
    return -p[:, 1] * k(p) ** 2


def ky(p):
    return -p[:, 0] * k(p) ** 2


def exact(p):
    return np.sin(np.pi * p[:, 0]) * np.sin(np.pi * p[:, 1])


def source(p):
    """The source ``-div(k grad u)`` of the exact solution."""
    (s, c), (S, C) = ((np.sin(np.pi * q), np.cos(np.pi * q)) for q in p.T)
    return 2 * np.pi**2 * k(p) * s * S - np.pi * (kx(p) * c * S + ky(p) * s * C)


def strong(tol):
    """``-k Laplace u = f`` with separated k and f; k >= 1/2 and the smallest eigenvalue 2 pi**2 give C."""
    W = sn.TensorSpace(**{n: sn.BSpline((0, 1), cells=6, degree=5, zero="both") for n in "xy"})
    K, F = separate(k, W, tol), separate(lambda p: 2 * np.pi**2 * k(p) * exact(p), W, tol)
    return sn.LeastSquares(-(K * (W.d.x**2 + W.d.y**2)), source=F, stability=1 / np.pi**2)


def l2_error(u, reference=exact):
    x, w = np.polynomial.legendre.leggauss(8)
    nodes, weights = (np.arange(6)[:, None] + 0.5 * (x + 1)).ravel() / 6, np.tile(w, 6) / 12
    points = np.stack([g.ravel() for g in np.meshgrid(nodes, nodes, indexing="ij")], axis=1)
    return math.sqrt(float(np.multiply.outer(weights, weights).ravel() @ (u(points) - reference(points)) ** 2))


def test_variable_diffusion_in_the_strong_form(monkeypatch):
    """The error falls with the tolerance of `separate`, and the bound holds however sloppy that is."""
    errors, bounds = [], []
    for tol in (1e-2, 1e-4, 1e-6):
        solution = sn.solve(strong(tol), rank=6)
        errors.append(l2_error(solution.u))
        bounds.append(solution.error_bound)
        assert errors[-1] <= bounds[-1].value
        assert SAMPLED in bounds[-1].derivation
    assert errors[1] < 0.1 * errors[0]
    assert errors[2] < errors[1]
    assert bounds[2].value < 1e-2 * bounds[0].value
    # Red without the doubt: the residual alone is that of another equation.
    solution = sn.solve(strong(1e-2), rank=6)
    monkeypatch.setattr(certificates, "image_doubt", lambda *_: 0.0)
    monkeypatch.setattr(certificates, "data_doubt", lambda *_: 0.0)
    without = certificates.error_bound(solution.problem, solution.u, solution.lift)
    assert without.value < errors[0]
    assert SAMPLED not in without.derivation


def test_initial_values_and_conditions():
    """The heat equation from an approximate start, and one whose wall is an approximate condition."""
    W = sn.TensorSpace(x=sn.BSpline((0, 1), cells=6, degree=5, zero="both"), t=sn.BSpline((0, 1), cells=6, degree=5))
    d, C = W.d, (2 / np.pi, 1.0)
    # sin(pi x) plus what stands for an error of at most 0.01
    start = Coefficient(sn.apply(lambda s: np.sin(np.pi * s) + 0.01 * s * (1 - s), W.coordinates[0]).terms)
    heat = sn.LeastSquares(
        d.t - 0.1 * d.x**2, initial={"t": Coefficient(start.terms, ((0.01, (Term(),)),))}, stability=C
    )
    solution = sn.solve(heat, rank=4)
    true = l2_error(solution.u, lambda p: np.sin(np.pi * p[:, 0]) * np.exp(-0.1 * np.pi**2 * p[:, 1]))
    bound = solution.error_bound
    # C_0 = 1 times the doubt on the face of length 1 is part of the bound
    assert true <= bound.value
    assert bound.value >= 0.01
    assert SAMPLED in bound.derivation
    # Values that are met exactly and in doubt all the same.
    x = W.coordinates[0]
    given_ = Coefficient((x * (1 - x)).terms, ((0.01, (Term(),)),))
    unknown = sn.LeastSquares(heat.operator, initial={"t": given_}, stability=C[0])
    assert "no constant C_0" in certificates.error_bound(unknown, sn.project(x * (1 - x), W)).derivation
    wall = Coefficient((0.5 + 0 * X).terms, ((0.25, (Term(),)),))
    condition = sn.LeastSquares(heat.operator, conditions=[(W.identity.at(x=0.5), wall)], stability=C)
    plain = sn.LeastSquares(heat.operator, conditions=[(W.identity.at(x=0.5), 0.5)], stability=C)
    with_, without = (certificates.error_bound(p, solution.u).value for p in (condition, plain))
    # the face has the measure 1: C * 0.25, by the triangle inequality in the block of the face
    assert without < with_ <= without + C[0] * 0.25 * (1 + 1e-12)


def test_doubtful_faces_and_derivatives_have_no_bound():
    W = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), y=sn.BSpline((0, 1), cells=4, zero="both"))
    d, y = W.d, W.coordinates[1]
    u = sn.project(y * (1 - y), W)
    wall = Coefficient((y * (1 - y)).terms, ((1e-3, (Term(),)),))
    strong_ = sn.LeastSquares(d.x**2 + d.y**2, source=-2, boundary={"x": (wall, wall)}, stability=1)
    weak = sn.Galerkin(sn.inner(d.x, d.x) + sn.inner(d.y, d.y), source=2, boundary={"x": (wall, wall)})
    for problem in (strong_, weak):
        bound = certificates.error_bound(problem, u)
        assert not bound.finite
        assert "separated approximately" in bound.derivation
    S = Coefficient((1 + y).terms, ((1e-3, (Term(),)),))
    twice = sn.LeastSquares(d.x @ (S * d.x) + d.y**2, source=1, stability=1)
    assert "differentiated" in certificates.error_bound(twice, u).derivation


# ----------------------------------------------------------------------------------------------------------- Galerkin


def test_a_doubtful_load_raises_the_energy_bound(monkeypatch):
    """By Friedrichs' constant times its norm; with a parameter that all diffusions share."""
    W = sn.TensorSpace(
        x=sn.BSpline((0, 1), cells=8, zero="both"), y=sn.BSpline((0, 1), cells=8, zero="both"), m=sn.Legendre((1, 4), 4)
    )
    d, m = W.d, W.coordinates[2]
    form = sn.inner(m * d.x, d.x) + sn.inner(m * d.y, d.y)
    sine = sn.product(**{n: lambda s: np.sin(np.pi * s) for n in "xy"})
    # u = sin sin for every m; the load is 1 % off everywhere, by a function of one sign
    load = 2 * np.pi**2 * m * sine
    off = Coefficient((load - 0.2 * sine).terms, ((0.2, (Term(),)),))
    solution = sn.solve(sn.Galerkin(form, source=off), rank=2)
    # the energy distance of m a(sin sin) and of its part 1 - 0.2 / (2 pi**2 m)
    difference = 0.2 / (2 * np.pi**2)
    true = difference * math.sqrt(np.pi**2 / 2 * math.log(4))
    bound = solution.error_bound
    assert true <= bound.value <= 10 * true
    assert SAMPLED in bound.derivation
    monkeypatch.setattr(certificates, "load_doubt", lambda *_: 0.0)
    assert certificates.error_bound(solution.problem, solution.u).value < true


def test_doubtful_loads_on_faces_have_no_bound():
    W = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4, zero="left"), y=sn.BSpline((0, 1), cells=4))
    d, one, y = W.d, W.identity, W.coordinates[1]
    wall = Coefficient((1 + y).terms, ((1e-3, (Term(),)),))
    problem = sn.Galerkin(sn.inner(d.x, d.x) + sn.inner(d.y, d.y), source=sn.load_on(wall, one.at(x=1)))
    bound = sn.solve(problem, rank=2).error_bound
    assert not bound.finite
    assert "on a face" in bound.derivation


def test_weak_diffusion_with_a_separated_coefficient():
    """The solution of the weak form converges with the tolerance."""
    W = sn.TensorSpace(**{n: sn.BSpline((0, 1), cells=6, degree=5, zero="both") for n in "xy"})
    d, errors = W.d, []
    for tol in (1e-2, 1e-4, 1e-6):
        K, F = (separate(g, W, tol) for g in (k, source))
        u = sn.solve(sn.Galerkin(sn.inner(K * d.x, d.x) + sn.inner(K * d.y, d.y), source=F), rank=6).u
        errors.append(l2_error(u))
    # the mesh alone leaves 4e-7
    assert errors[1] < 0.1 * errors[0]
    assert errors[2] < 0.5 * errors[1]


def test_a_bound_of_nothing_is_nothing():
    datum = Coefficient((X * Y).terms)
    assert doubts.data_doubt(datum, V, {}) == 0.0
    assert doubts.image_doubt(V.d.x, sn.project(X, V)) == 0.0


def test_a_doubtful_form_has_no_bound():
    """Whatever is done with it: sums, factors, other spaces."""
    W = sn.TensorSpace(**{n: sn.BSpline((0, 1), cells=4, zero="both") for n in "xy"})
    d = W.d
    K = Coefficient((1 + W.coordinates[0]).terms, ((1e-3, (Term(),)),))
    form = 2 * (sn.inner(d.x, K * d.x) + sn.inner(d.y, d.y)).on(W)
    bound = sn.solve(sn.Galerkin(form, source=1), rank=2).error_bound
    assert not bound.finite
    assert "a coefficient of the form was separated approximately" in bound.derivation
    assert not (0 * form).doubtful
    assert not sn.inner(d.x, d.x).doubtful


def test_quantities_of_interest_count_doubts():
    """The mean of a solution whose load is 1 % off; a functional that is 1 % off; least squares and Galerkin."""
    W = sn.TensorSpace(**{n: sn.BSpline((0, 1), cells=8, zero="both") for n in "xy"})
    d = W.d
    sine = sn.product(**{n: lambda s: np.sin(np.pi * s) for n in "xy"})
    off = Coefficient((2 * np.pi**2 * 0.99 * sine).terms, ((0.02 * np.pi**2, (Term(),)),))
    weak = sn.Galerkin(sn.inner(d.x, d.x) + sn.inner(d.y, d.y), source=off)
    strong_ = sn.LeastSquares(-(d.x**2) - d.y**2, source=off, stability=1 / (2 * np.pi**2))
    one = Coefficient((0.99 + 0 * W.coordinates[0]).terms, ((0.01, (Term(),)),))
    for problem in (weak, strong_):
        solution = sn.solve(problem, rank=2)
        for functional in (1, one):
            mean = solution.goal(functional)
            # 0.4 is 4 / pi**2; each of the two errors is 1 % of it
            miss = abs(mean.value - 4 / np.pi**2)
            assert 3e-3 < miss <= mean.bound.value < 0.1
            assert SAMPLED in mean.bound.derivation
