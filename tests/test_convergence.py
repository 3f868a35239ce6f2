"""Orders of convergence: the last pair of meshes above round-off, and an absolute cap."""

import itertools
import math
from functools import reduce

import numpy as np
import pytest
from solver_support import EPS, Grid, check_rate, on_grid, rates

import sepnet as sn

PI = math.pi


def wave(x, order=0):
    """sin(pi x) exp(x) and its derivatives: Im of exp((1 + i pi) x)."""
    return np.imag((1 + 1j * PI) ** order * np.exp((1 + 1j * PI) * x))


def exact(grid, **orders):
    return reduce(np.multiply.outer, [wave(points, orders.get(name, 0)) for name, points in grid.points.items()])


def source(names):
    """-Laplace u for u = product of waves."""
    total = None
    for k in names:
        parts = {n: (lambda s: -wave(s, 2)) if n == k else wave for n in names}
        term = sn.product(**parts)
        total = term if total is None else total + term
    return total


def laplace(V):
    return reduce(lambda a, b: a + b, [k**2 for k in V.d])


def energy(V):
    return reduce(lambda a, b: a + b, [sn.inner(k, k) for k in V.d])


def problem_on(V, kind):
    if kind == "galerkin":
        return sn.Galerkin(energy(V), source=source(V.names))
    return sn.LeastSquares(-1 * laplace(V), source=source(V.names))


def errors_of(u, degree):
    """Relative errors in L2, in the H1 and in the H2 seminorm, by quadrature of four points more than the degree."""
    names = u.space.names
    grid = Grid.of(u.space, degree + 5)

    def seminorm(orders):
        pairs = [(on_grid(u, grid, **o), exact(grid, **o)) for o in orders]
        return math.sqrt(sum(grid.norm(a - b) ** 2 for a, b in pairs) / sum(grid.norm(b) ** 2 for _, b in pairs))

    first = [{n: 1} for n in names]
    result = [seminorm([{}]), seminorm(first)]
    if degree >= 2 and all(b.max_order >= 2 for b in u.space.bases):
        result.append(seminorm([{n: 2} for n in names]))
    return result


def condition(V, kind):
    """Condition of the 1-D matrix scaled to a unit diagonal; a d-D one is no worse than that times the mass's, 1e2."""
    basis = V.bases[0]
    W = sn.TensorSpace(x=basis)
    form = sn.inner(W.d.x, W.d.x) if kind == "galerkin" else sn.inner(W.d.x**2, W.d.x**2)
    A = sn.assemble(form).matrices[0][0].toarray()
    s = 1 / np.sqrt(np.diag(A))
    return float(np.linalg.cond(A * s * s[:, None]))


def study(kind, d, meshes, degree, *, method, make=None):
    """Errors per norm over the meshes, and the largest condition."""
    make = make or (lambda n: sn.BSpline((0, 1), cells=n, degree=degree, zero="both"))
    table, kappa = [], 0.0
    for n in meshes:
        V = sn.TensorSpace(**{a: make(n) for a in "xyz"[:d]})
        options = {"method": "full"} if method == "full" else {"rank": 1}
        table.append(errors_of(sn.solve(problem_on(V, kind), **options).u, degree))
        kappa = max(kappa, condition(V, kind))
    return [list(column) for column in zip(*table, strict=True)], kappa


def check(kind, degree, meshes, errors, kappa, caps, method="full"):
    p = degree
    orders = (p + 1, p) if kind == "galerkin" else (min(p + 1, 2 * p - 2), min(p, 2 * p - 2), p - 1)
    # below 1e3 eps kappa an error is round-off; ALS adds its ridge of 64 eps
    floor = 1e3 * EPS * kappa
    return [
        check_rate(e, [1 / n for n in meshes], order, floor=floor, cap=cap)
        for e, order, cap in zip(errors, orders, caps, strict=False)
    ]


# Meshes, and caps: one and a half times what was measured on the finer one.
GALERKIN = {
    (1, 1): ((32, 64), (4.3e-04, 2.6e-02)),
    (1, 2): ((32, 64), (1.0e-06, 1.3e-04)),
    (1, 3): ((16, 32), (1.8e-07, 1.1e-05)),
    (1, 4): ((12, 24), (1.1e-08, 4.9e-07)),
    (2, 1): ((16, 32), (2.0e-03, 5.2e-02)),
    (2, 2): ((16, 32), (1.2e-05, 5.2e-04)),
    (2, 3): ((12, 24), (7.9e-07, 2.6e-05)),
    (2, 4): ((8, 16), (1.2e-07, 2.5e-06)),
    (3, 1): ((6, 12), (1.5e-02, 1.4e-01)),
    (3, 2): ((6, 12), (2.8e-04, 3.8e-03)),
    (3, 3): ((5, 10), (3.1e-05, 3.4e-04)),
    (3, 4): ((5, 10), (1.5e-06, 1.7e-05)),
}
LEAST_SQUARES = {
    (1, 2): ((32, 64), (1.9e-04, 2.6e-04, 1.7e-02)),
    (1, 3): ((16, 32), (3.3e-07, 1.1e-05, 6.0e-04)),
    (1, 4): ((12, 24), (1.1e-08, 4.9e-07, 1.9e-05)),
    (1, 5): ((8, 16), (3.0e-09, 8.1e-08, 2.0e-06)),
    (2, 2): ((16, 32), (4.6e-04, 7.7e-04, 3.3e-02)),
    (2, 3): ((12, 24), (1.2e-06, 2.6e-05, 1.1e-03)),
    (2, 4): ((8, 16), (1.2e-07, 2.5e-06, 6.5e-05)),
    (2, 5): ((6, 12), (2.5e-08, 3.4e-07, 6.3e-06)),
    (3, 2): ((6, 12), (2.5e-03, 4.8e-03, 8.9e-02)),
    (3, 3): ((5, 10), (4.4e-05, 3.7e-04, 6.2e-03)),
    (3, 4): ((5, 10), (1.6e-06, 1.7e-05, 2.7e-04)),
    (3, 5): ((4, 8), (3.7e-07, 2.7e-06, 3.1e-05)),
}


@pytest.mark.parametrize("method", ["full", "rank one"])
@pytest.mark.parametrize(("d", "degree"), list(GALERKIN))
def test_galerkin_rates(d, degree, method):
    meshes, caps = GALERKIN[d, degree]
    errors, kappa = study("galerkin", d, meshes, degree, method=method)
    check("galerkin", degree, meshes, errors, kappa, caps)


@pytest.mark.parametrize("method", ["full", "rank one"])
@pytest.mark.parametrize(("d", "degree"), list(LEAST_SQUARES))
def test_least_squares_rates(d, degree, method):
    meshes, caps = LEAST_SQUARES[d, degree]
    errors, kappa = study("least squares", d, meshes, degree, method=method)
    check("least squares", degree, meshes, errors, kappa, caps)


def graded(n, degree, continuity):
    """Cells that shrink smoothly by a factor of e from the left end to the right one, where the solution is steep."""
    breaks = 1 - np.expm1(np.linspace(1, 0, n + 1)) / np.expm1(1)
    return sn.BSpline(breaks=breaks, degree=degree, continuity=continuity, zero="both")


# Meshes on which the best approximation itself has reached its order: late for C1 cubics, early for C0.
ROUGH = [
    (1, "galerkin", 2, 0, (24, 48)), (2, "galerkin", 2, 0, (24, 48)),
    (1, "galerkin", 3, 0, (16, 32)), (2, "galerkin", 3, 0, (16, 32)),
    (1, "galerkin", 3, 1, (48, 96)),
    (1, "galerkin", 4, 0, (8, 16)), (2, "galerkin", 4, 0, (8, 16)),
    (1, "least squares", 3, 1, (16, 32)), (2, "least squares", 3, 1, (12, 24)),
    (1, "least squares", 4, 1, (5, 10)), (2, "least squares", 4, 1, (5, 10)),
]  # fmt: skip


@pytest.mark.parametrize(("d", "kind", "degree", "continuity", "meshes"), ROUGH)
def test_rates_on_graded_breaks_with_low_continuity(d, kind, degree, continuity, meshes):
    make = lambda n: graded(n, degree, continuity)  # noqa: E731
    errors, kappa = study(kind, d, meshes, degree, method="full", make=make)
    check(kind, degree, meshes, errors[: 2 if kind == "galerkin" else 3], kappa, (2e-5, 1e-3, 2e-2))


@pytest.mark.parametrize("family", [sn.Legendre, sn.Chebyshev])
@pytest.mark.parametrize("kind", ["galerkin", "least squares"])
@pytest.mark.parametrize("d", [1, 2])
def test_polynomials_converge_exponentially(family, kind, d):
    # sin(pi x) exp(x) is entire: ten times better for two more degrees, down to 1e-12
    errors = []
    for n in range(4, 17, 2):
        V = sn.TensorSpace(**{a: family((0, 1), n, "both") for a in "xy"[:d]})
        errors.append(errors_of(sn.solve(problem_on(V, kind), method="full").u, n)[0])
    for coarse, fine in itertools.pairwise(errors):
        assert fine <= max(coarse / 10, 1e-12)
    assert errors[-1] <= 1e-12


@pytest.mark.parametrize("d", [1, 2])
def test_fourier_series_converge_exponentially(d):
    # exp(sin(2 pi x)) is entire; (1 - Laplace) u = f on the ring
    def u(x, order=0):
        s, c = np.sin(2 * PI * x), np.cos(2 * PI * x)
        return np.exp(s) * [1.0, 2 * PI * c, (2 * PI) ** 2 * (c * c - s)][order]

    errors = []
    names = "xy"[:d]
    for n in range(2, 17, 2):
        V = sn.TensorSpace(**{a: sn.Fourier((0, 1), n) for a in names})
        f = sn.product(**{a: u for a in names})
        for k in names:
            f = f - sn.product(**{a: ((lambda s: u(s, 2)) if a == k else u) for a in names})
        solution = sn.solve(sn.Galerkin(energy(V) + sn.inner(V.identity, V.identity), source=f), method="full").u
        grid = Grid.of(V, 60)
        reference = reduce(np.multiply.outer, [u(p) for p in grid.points.values()])
        errors.append(grid.norm(on_grid(solution, grid) - reference) / grid.norm(reference))
    for coarse, fine in itertools.pairwise(errors):
        assert fine <= max(coarse / 10, 1e-12)
    assert errors[-1] <= 1e-12


def two_terms(V, share):
    """-Laplace u for u = wave wave + share sin(3 pi x) sin(2 pi y)."""
    second = sn.product(x=lambda s: share * 13 * PI**2 * np.sin(3 * PI * s), y=lambda s: np.sin(2 * PI * s))
    return sn.Galerkin(energy(V), source=source(V.names) + second)


def test_slope_before_the_rank_saturates_and_plateau_after():
    share, meshes, degree = 3e-4, (4, 8, 16, 32, 64), 2
    history = {}
    for rank in (1, 2):
        errors = []
        for n in meshes:
            V = sn.TensorSpace(**{a: sn.BSpline((0, 1), cells=n, degree=degree, zero="both") for a in "xy"})
            u = sn.solve(two_terms(V, share), rank=rank).u
            grid = Grid.of(V, 8)
            x, y = grid.coordinates
            reference = wave(x) * wave(y) + share * np.sin(3 * PI * x) * np.sin(2 * PI * y)
            errors.append(grid.norm(on_grid(u, grid) - reference) / grid.norm(reference))
        history[rank] = errors
    one, two = (rates(history[r], [1 / n for n in meshes]) for r in (1, 2))
    # rank two is the solution: p + 1 throughout
    assert two[-1] >= degree + 1 - 0.1
    # rank one: p + 1 while the second term, about 0.5 * share / |wave|**2, is small beside the mesh error, then nothing
    assert one[0] >= degree + 1 - 0.1
    assert abs(one[-1]) <= 0.1
    grid_norm = 1.7  # ||wave||**2 = 0.99 * 1.7 by quadrature, to two digits
    assert history[1][-1] == pytest.approx(0.5 * share / grid_norm, rel=0.3)
