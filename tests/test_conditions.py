"""Boundary conditions of every kind on every kind of axis: orders of convergence against manufactured solutions.

``u_t + p u - Laplace u = f`` with a product as the solution. An axis is held (data at both ends), has a flux (Neumann)
or a film (Robin) at both ends, is a ring (periodic), is time (an initial value) or a period of time (a ring, too), or
is the parameter p, which is also the film coefficient. All data depend on all other axes.
"""

import math
from functools import reduce

import numpy as np
import pytest
from solver_support import EPS, Grid, check_rate, on_grid

import sepnet as sn
from sepnet.models.gallery_conditions import periodic_heat, robin
from sepnet.solvers.certificates import error_bound

TURN = 2 * math.pi


def wave(s, order=0):
    """exp(s) sin(2 s + 0.3): no derivative vanishes at an end."""
    return np.imag((1 + 2j) ** order * np.exp((1 + 2j) * s + 0.3j))


def tide(s, order=0):
    """sin(2 pi s + 1) + 1/2."""
    return TURN**order * np.sin(TURN * s + 1 + order * math.pi / 2) + 0.5 * (order == 0)


def decay(s, order=0):
    return (-1.0) ** order * np.exp(-s)


def line(s, order=0):
    return 1 + s if order == 0 else np.ones_like(s)


EXACT = {
    "held": wave, "flux": wave, "film": wave, "ring": tide, "time": decay, "period": tide, "parameter": line,
}  # fmt: skip


def basis(kind, n, degree):
    if kind in ("ring", "period"):
        return sn.BSpline((0, 1), cells=2 * n, degree=degree, periodic=True)
    if kind == "parameter":  # resolved exactly
        return sn.BSpline((1, 2), cells=1, degree=2)
    return sn.BSpline((0, 1), cells=n, degree=degree)


def value(function, place, order=0):
    return float(function(np.array([place]), order)[0])


def problem_on(axes, kind, degree, n):
    """The problem and its solution, one function an axis."""
    V = sn.TensorSpace(**{a: basis(role, n, degree) for a, role in axes.items()})
    d, one = V.d, V.identity
    p = dict(zip(V.names, V.coordinates, strict=True)).get("p", 1.0)
    exact = {a: EXACT[role] for a, role in axes.items()}

    def u(skip=(), **orders):
        parts = {a: (lambda s, a=a: exact[a](s, orders.get(a, 0))) for a in axes if a not in skip}
        return sn.product(**parts) if parts else 1.0

    spatial = [a for a, role in axes.items() if role in ("held", "flux", "film", "ring")]
    f = p * u() - reduce(lambda a, b: a + b, [u(**{a: 2}) for a in spatial])
    form = sn.inner(p * one, one) + reduce(lambda a, b: a + b, [sn.inner(d[a], d[a]) for a in spatial])
    operator = p * one - reduce(lambda a, b: a + b, [d[a] ** 2 for a in spatial])
    if "t" in axes:
        f, form, operator = f + u(t=1), form + sn.inner(d.t, one), operator + d.t
    load, conditions, boundary = sn.load_on(f, one), [], {}
    for a in spatial:
        ends = [value(exact[a], end) * u(skip=(a,)) for end in (0.0, 1.0)]
        if axes[a] == "held":
            boundary[a] = tuple(ends)
        for end, sign in ((0.0, -1.0), (1.0, 1.0)):
            face = one.at(**{a: end})
            g = sign * value(exact[a], end, 1) * u(skip=(a,))
            if axes[a] == "flux":
                conditions.append(((sign * d[a]).at(**{a: end}), g))
            elif axes[a] == "film":
                g = g + p * ends[int(end)]
                form = form + sn.inner(p * face, face)
                conditions.append(((sign * d[a] + p * one).at(**{a: end}), g))
            if axes[a] in ("flux", "film"):
                load = load + sn.load_on(g, face)
    # the residual of a flux belongs into H**(1/2) of the face: on splines, L2 with the root of the number of cells
    conditions = [(math.sqrt(n) * B, math.sqrt(n) * g) for B, g in conditions]
    initial = {"t": u(skip=("t",))} if axes.get("t") == "time" else {}
    if kind == "galerkin":
        return sn.Galerkin(form, source=load, initial=initial, boundary=boundary), exact
    return sn.LeastSquares(operator, source=f, initial=initial, boundary=boundary, conditions=conditions), exact


def error_of(u, exact, space):
    """Relative L2 error; on the mesh of the problem, since lifted data may bring many more cells."""
    grid = Grid.of(space, 7)
    reference = reduce(np.multiply.outer, [exact[a](p) for a, p in grid.points.items()])
    return grid.norm(u.on_grid(**grid.points) - reference) / grid.norm(reference)


CONDITIONS = {
    "Neumann": {"x": "flux"},
    "Neumann, plane": {"x": "flux", "y": "flux"},
    "Neumann, heat": {"x": "flux", "t": "time"},
    "Neumann, heat in the plane": {"x": "flux", "y": "held", "t": "time"},
    "Robin": {"x": "film"},
    "Robin, plane and parameter": {"x": "film", "y": "held", "p": "parameter"},
    "Robin, heat and parameter": {"x": "film", "t": "time", "p": "parameter"},
    "Dirichlet, heat and parameter": {"x": "held", "t": "time", "p": "parameter"},
    "periodic": {"x": "ring"},
    "periodic, plane and parameter": {"x": "ring", "y": "flux", "p": "parameter"},
    "periodic, heat": {"x": "ring", "t": "time"},
    "time-periodic, Dirichlet": {"x": "held", "t": "period"},
    "time-periodic, Robin and parameter": {"x": "film", "t": "period", "p": "parameter"},
}
# Kind and degree: meshes, and caps of one and a half times what was measured on the finer one.
RATES = {
    ("Neumann", "galerkin"): [(1, (16, 32), 4.1e-04), (2, (16, 32), 2.9e-06), (3, (16, 32), 1.7e-08)],
    ("Neumann", "least squares"): [(2, (16, 32), 3.2e-04), (3, (16, 32), 2.6e-08), (4, (8, 16), 1.0e-08)],
    ("Neumann, plane", "galerkin"): [(2, (12, 24), 9.6e-06), (3, (8, 16), 3.9e-07)],
    ("Neumann, plane", "least squares"): [(3, (8, 16), 6.0e-07)],
    ("Neumann, heat", "galerkin"): [(2, (12, 24), 6.8e-06), (3, (8, 16), 2.8e-07)],
    ("Neumann, heat", "least squares"): [(3, (8, 16), 6.8e-07)],
    ("Neumann, heat in the plane", "galerkin"): [(3, (4, 8), 6.3e-06)],
    ("Neumann, heat in the plane", "least squares"): [(3, (4, 8), 1.2e-05)],
    ("Robin", "galerkin"): [(1, (16, 32), 4.6e-04), (2, (16, 32), 2.9e-06), (3, (16, 32), 1.7e-08)],
    ("Robin", "least squares"): [(2, (16, 32), 2.3e-04), (3, (16, 32), 2.7e-08), (4, (8, 16), 1.0e-08)],
    ("Robin, plane and parameter", "galerkin"): [(3, (8, 16), 3.9e-07)],
    ("Robin, plane and parameter", "least squares"): [(3, (8, 16), 5.5e-07)],
    ("Robin, heat and parameter", "galerkin"): [(3, (8, 16), 2.8e-07)],
    ("Robin, heat and parameter", "least squares"): [(3, (8, 16), 5.6e-07)],
    ("Dirichlet, heat and parameter", "galerkin"): [(3, (8, 16), 2.8e-07)],
    ("Dirichlet, heat and parameter", "least squares"): [(3, (8, 16), 4.5e-07)],
    ("periodic", "galerkin"): [(1, (16, 32), 1.1e-03), (2, (16, 32), 6.7e-06), (3, (16, 32), 1.0e-07)],
    ("periodic", "least squares"): [(2, (16, 32), 9.4e-04), (3, (16, 32), 1.8e-07), (4, (8, 16), 5.3e-08)],
    ("periodic, plane and parameter", "galerkin"): [(3, (8, 16), 1.7e-06)],
    ("periodic, plane and parameter", "least squares"): [(3, (8, 16), 3.1e-06)],
    ("periodic, heat", "galerkin"): [(2, (12, 24), 1.6e-05), (3, (8, 16), 1.7e-06)],
    ("periodic, heat", "least squares"): [(3, (8, 16), 2.9e-06)],
    ("time-periodic, Dirichlet", "galerkin"): [(2, (12, 24), 1.7e-05), (3, (8, 16), 1.7e-06)],
    ("time-periodic, Dirichlet", "least squares"): [(3, (8, 16), 1.7e-06)],
    ("time-periodic, Robin and parameter", "galerkin"): [(3, (8, 16), 1.7e-06)],
    ("time-periodic, Robin and parameter", "least squares"): [(3, (8, 16), 1.7e-06)],
}


# Least squares with three axes take seconds each.
SLOW = (
    "Neumann, heat in the plane",
    "Robin, plane and parameter",
    "Dirichlet, heat and parameter",
    "periodic, plane and parameter",
    "time-periodic, Robin and parameter",
)


def studied():
    for name, kind in RATES:
        marks = [pytest.mark.slow] if kind == "least squares" and name in SLOW else []
        yield pytest.param(name, kind, marks=marks, id=f"{name}, {kind}")


@pytest.mark.parametrize(("name", "kind"), list(studied()))
def test_rates(name, kind):
    """Galerkin p + 1, least squares of second order min(p + 1, 2 p - 2), in L2."""
    axes = CONDITIONS[name]
    for degree, meshes, cap in RATES[name, kind]:
        errors = []
        for n in meshes:
            problem, exact = problem_on(axes, kind, degree, n)
            # a loose tolerance: the data are projected onto the mesh of the solution, and not onto a finer one
            errors.append(error_of(sn.solve(problem, method="full", tol=0.5).u, exact, problem.space))
        order = degree + 1 if kind == "galerkin" else min(degree + 1, 2 * degree - 2)
        # the matrices have conditions below 1e5 (least squares of degree 4: 1e7): 1e3 eps kappa
        check_rate(errors, [1 / n for n in meshes], order, floor=1e3 * EPS * 1e4, cap=cap)


ITERATED = [
    ("Neumann, plane", "galerkin"),
    ("Neumann, heat", "least squares"),
    ("periodic, heat", "galerkin"),
    ("time-periodic, Dirichlet", "galerkin"),
    ("time-periodic, Dirichlet", "least squares"),
    ("Robin, plane and parameter", "galerkin"),
    ("Robin, heat and parameter", "least squares"),
]


@pytest.mark.parametrize("options", [dict(method="als", rank=9), dict(format="tt", rank=6)], ids=["als", "tt"])
@pytest.mark.parametrize(("name", "kind"), ITERATED)
def test_sums_of_products_and_trains_are_as_good_as_the_full_space(name, kind, options):
    problem, exact = problem_on(CONDITIONS[name], kind, 3, 5)
    limit = error_of(sn.solve(problem, method="full", tol=0.5).u, exact, problem.space)
    # the full space sees the data on its own mesh, these solvers on that or a finer one; and a residual of 1e-2 is an
    # error of a fifth of that at most
    u = sn.solve(problem, tol=1e-2, **options).u
    assert error_of(u, exact, problem.space) <= max(3 * limit, 2e-3)


def test_a_robin_condition_without_weights_loses_a_little():
    """The reason for the weights of `problem_on`: without them conditions on lines lower the rate below p + 1 - 0.1."""
    errors = []
    for n in (16, 32):
        problem, exact = problem_on(CONDITIONS["Neumann, plane"], "least squares", 3, n)
        plain = [(B / math.sqrt(n), g / math.sqrt(n)) for B, g in problem.conditions]
        bare = sn.LeastSquares(problem.operator, source=problem.source, conditions=plain)
        errors.append([error_of(sn.solve(p, method="full", tol=0.5).u, exact, p.space) for p in (problem, bare)])
    weighted, unweighted = (math.log2(a / b) for a, b in zip(*errors, strict=True))
    assert weighted >= 3.9 > unweighted
    assert errors[1][1] > 2 * errors[1][0]


def test_the_solution_lives_where_it_was_asked_for(xp):
    problem, exact = problem_on(CONDITIONS["time-periodic, Dirichlet"], "least squares", 3, 6)
    u = sn.solve(problem, rank=4, xp=xp.xp, device=xp.device, dtype=xp.dtype).u
    assert all(f.dtype == xp.dtype for f in u.factors)
    # single precision: its condition, some 1e3, times its round-off, about 1e-4
    assert error_of(u.to(np, dtype="float64"), exact, problem.space) < 1e-4 + 2e3 * xp.eps


@pytest.mark.parametrize("kappa", [0.1, 1.0])
@pytest.mark.parametrize("cells", [4, 9])
@pytest.mark.parametrize("rank", [1, 4])
def test_the_error_of_a_periodic_state_is_bounded(kappa, cells, rank):
    """On a ring (e_t, e) = 0, so that kappa pi**2 ||e||**2 <= (L e, e), and C = 1 / (kappa pi**2)."""
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=cells, zero="both"), t=sn.BSpline((0, 1), cells=cells, periodic=True))

    def state(x, t, wave, turns):  # of the source sin(wave pi x) cos(turns 2 pi t)
        return np.real(np.exp(1j * turns * TURN * t) / (1j * turns * TURN + kappa * (wave * math.pi) ** 2)) * np.sin(
            wave * math.pi * x
        )

    parts = [(1, 1), (2, 1), (3, 2)]
    f = sum(
        sn.product(x=lambda s, w=w: np.sin(w * math.pi * s), t=lambda s, k=k: np.cos(k * TURN * s)) for w, k in parts
    )
    problem = sn.LeastSquares(V.d.t - kappa * V.d.x**2, source=f, stability=1 / (kappa * math.pi**2))
    solution = sn.solve(problem, rank=rank)
    grid = Grid.of(V, 8)
    x, t = grid.coordinates
    error = grid.norm(on_grid(solution.u, grid) - sum(state(x, t, *part) for part in parts))
    assert error <= solution.error_bound.value
    assert error_bound(problem, 0.5 * solution.u).value >= 0.4 * solution.u.norm()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda V: sn.Galerkin(sn.inner(V.d.x, V.d.x) + sn.inner(V.d.t, V.identity), source=1),
            "constants have no energy",
        ),
        (lambda V: sn.LeastSquares(V.d.t - V.d.x**2, source=1), "constants have no energy.*a condition, or a reaction"),
        (lambda V: sn.LeastSquares(V.d.t - V.d.x**2, initial={"t": 0}), "'t' is periodic and has no ends"),
        (lambda V: sn.LeastSquares(V.d.t - V.d.x**2, boundary={"t": (None, 1)}), "'t' is periodic and has no ends"),
        (
            lambda V: sn.LeastSquares(V.d.x**2, conditions=[(V.identity.at(x=0) - V.identity.at(x=1), 0)]),
            "x=0 and x=1: .*couples two faces is periodicity: give the axis periodic=True",
        ),
    ],
)
def test_conditions_that_cannot_be(make, message):
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), t=sn.BSpline((0, 1), cells=4, periodic=True))
    with pytest.raises(ValueError, match=message):
        sn.solve(make(V))


# ---------------------------------------------------------------------------------------------------------- gallery


def derivative(f, points, axis, order, step):
    """First or second derivative by central differences of fourth order."""
    weights = {1: (1 / 12, -2 / 3, 0, 2 / 3, -1 / 12), 2: (-1 / 12, 4 / 3, -5 / 2, 4 / 3, -1 / 12)}[order]
    shift = step * np.eye(points.shape[1])[axis]
    return np.dot(weights, [f(points + j * shift) for j in (-2, -1, 0, 1, 2)]) / step**order


def inside(case, n=40):
    low, high = np.array([b.domain for b in case.space.bases]).T
    return np.random.default_rng(0).uniform(low + 0.05 * (high - low), high - 0.05 * (high - low), (n, case.space.dim))


def test_the_reference_of_the_film():
    case = robin(amplitudes=(1.0, 0.3))
    points = inside(case)
    laplacian = sum(derivative(case.reference, points, axis, 2, 2e-3) for axis in (0, 1))
    # truncation: step**4 / 90 times the sixth derivative, (2 pi)**4 times the second
    np.testing.assert_allclose(-laplacian, case.problem.source(points, case.space.names), atol=1e-7)
    wall = points.copy()
    wall[:, 0] = 1.0
    flux = derivative(case.reference, wall, 0, 1, 1e-3)  # the formula goes on beyond the wall
    np.testing.assert_allclose(flux + wall[:, 2] * case.reference(wall), 0.0, atol=1e-9)
    wall[:, 0] = 0.0
    np.testing.assert_allclose(derivative(case.reference, wall, 0, 1, 1e-3), 0.0, atol=1e-9)
    wall[:, 1] = 0.0
    np.testing.assert_allclose(case.reference(wall), 0.0, atol=1e-14)


def test_the_reference_of_the_ground():
    case = periodic_heat(depth=0.7, period=2.0)
    points = inside(case)
    u_t = derivative(case.reference, points, 1, 1, 1e-3)
    u_xx = derivative(case.reference, points, 0, 2, 1e-3)
    # truncation: step**4 / 90 (w / kappa)**3, 3e6 at most
    np.testing.assert_allclose(u_t, points[:, 2] * u_xx, atol=1e-6)
    surface = points.copy()
    surface[:, 0] = 0.0
    np.testing.assert_allclose(case.reference(surface), np.cos(math.pi * surface[:, 1]), atol=1e-13)
    surface[:, 0] = 0.7
    np.testing.assert_allclose(derivative(case.reference, surface, 0, 1, 1e-3), 0.0, atol=1e-8)
    later = points + np.array([0, 2.0, 0])
    np.testing.assert_allclose(case.reference(later), case.reference(points), atol=1e-12)


@pytest.mark.parametrize(
    ("case", "error"),
    [
        (robin(cells=8, rank=6), 1.5e-4),
        (periodic_heat(cells={"x": 12, "t": 8, "kappa": 4}, rank=10), 2e-3),
    ],
    ids=lambda c: getattr(c, "name", ""),
)
def test_small_solves(case, error):
    solution = sn.solve(case.problem, **case.options)
    assert case.measure(solution.u, n=20_000).value < error
    if case.name == "robin":
        assert solution.error_bound.finite


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: robin(h=(-1, 2)), "`h` is"),
        (lambda: periodic_heat(kappa=(0, 1)), "`kappa` is .* expected a range above 0"),
        (lambda: periodic_heat(depth=0), "depth"),
        (lambda: robin(degree=0), "degree"),
    ],
)
def test_constants_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
