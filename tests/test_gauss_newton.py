"""Gauss-Newton on all factors: its products against dense Jacobians, descent, fixed points, speed where it is due."""

import itertools
import math
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solver_support import EPS, dense, full_vector, random_factors, system_of
from support import dev_size

import sepnet as sn
from sepnet.backends.arrays import to_host
from sepnet.solvers.als import AlternatingLeastSquares
from sepnet.solvers.automaton import Transitions, build_automaton
from sepnet.solvers.axis_systems import NotPositiveDefiniteError
from sepnet.solvers.gauss_newton import START, GaussNewton, _Model
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.solvers.tangent import Tangent

AXES = {
    "spline": sn.BSpline((0, 1), cells=3, degree=2, zero="both"),
    "free": sn.BSpline((0, 1), cells=2, degree=1),
    "ring": sn.BSpline((0, 1), cells=4, degree=1, periodic=True),
    "fourier": sn.Fourier((0, 1), 1),
    "legendre": sn.Legendre((0, 1), 3, zero="left"),
}
KINDS = st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=4)


def problem(kinds, strong, wave=2.0, axes=AXES):
    """Definite: a weak form, or a first-order operator in the strong form, whose 1-D matrices are not symmetric."""
    V = sn.TensorSpace(**{f"a{i}": axes[k] for i, k in enumerate(kinds)})
    c, d = list(V.coordinates), list(V.d)
    source = 1 + c[0] * c[-1] + sn.product(a0=lambda s: np.cos(wave * s))
    if strong:
        L = wave * V.identity
        for i in range(len(kinds)):
            L = L + (1 + c[i - 1]) * d[i]
        return sn.LeastSquares(L, source=source)
    form = sn.inner(V.identity, V.identity)
    for x, k in zip(c, d, strict=True):
        form = form + sn.inner((1 + x) * k, k)
    return sn.Galerkin(form, source=source)


def systems(kinds):
    return st.builds(
        lambda kinds, strong, wave: system_of(problem(kinds, strong, wave)), kinds, st.booleans(), st.floats(0.5, 4.0)
    )


SYSTEMS = systems(KINDS)
# one axis has nothing to precondition, and a test of its own; four are slow to write as dense matrices
COUPLED = systems(st.lists(st.sampled_from(sorted(AXES)), min_size=2, max_size=3))


def jacobian(factors):
    """du/dC by definition: one column for each entry of each factor, in order."""
    columns = []
    for axis, factor in enumerate(factors):
        for n, r in itertools.product(*map(range, factor.shape)):
            parts = [f[:, r] for f in factors]
            parts[axis] = np.eye(factor.shape[0])[n]
            columns.append(reduce(np.kron, parts))
    return np.stack(columns, axis=1)


def flat(vector):
    return np.concatenate([np.asarray(v).ravel() for v in vector])


def split(values, factors):
    ends = np.cumsum([f.size for f in factors])[:-1]
    return [v.reshape(f.shape) for v, f in zip(np.split(values, ends), factors, strict=True)]


def block_diagonal(normal, factors):
    result = np.zeros_like(normal)
    ends = [0, *np.cumsum([f.size for f in factors])]
    for a, b in itertools.pairwise(ends):
        result[a:b, a:b] = normal[a:b, a:b]
    return result


def block_lower(normal, factors):
    """The blocks strictly below the diagonal."""
    result = np.zeros_like(normal)
    ends = [0, *np.cumsum([f.size for f in factors])]
    for a, b in itertools.pairwise(ends):
        result[a:b, :a] = normal[a:b, :a]
    return result


def functional(A, b, factors):
    u = full_vector([np.asarray(to_host(f), dtype=np.float64) for f in factors])
    return float(u @ A @ u - 2 * b @ u)


def noise(A, b, factors):
    """Round-off of the functional, for the dense sums and for the factorised ones."""
    u = np.abs(full_vector([np.abs(f) for f in factors]))
    return 1e2 * EPS * float(u @ np.abs(A) @ u + 2 * np.abs(b) @ u)


def manufactured(matrix, factors):
    """The load ``A u`` of a given function u, exactly as separable as it is."""
    columns = matrix.apply(factors)
    count = columns[0].shape[1]
    index = np.repeat(np.arange(count)[:, None], len(columns), axis=1)
    weights = np.ones(count)
    automaton = build_automaton(index, weights, (count,) * len(columns))
    return SeparableVector(tuple(np.ascontiguousarray(c.T) for c in columns), automaton, index, weights)


# ------------------------------------------------------------------------------------------------- tangent products


@given(SYSTEMS, st.integers(1, 3), st.integers(0, 2**31))
def test_products_with_the_normal_matrix(system, rank, seed):
    matrix, load, lift = system
    factors = random_factors(lift.space, rank, seed)
    P = random_factors(lift.space, rank, seed + 1)
    point = Tangent(matrix, load, factors)
    A, b, T = dense(matrix), load.dense(), jacobian(factors)
    normal = T.T @ A @ T
    # sums of at most 5 * 4 * 3 * 81 products, in any order; 1e2 eps of the magnitudes is plenty and shows any error
    size = 1e2 * EPS * (np.abs(T).T @ np.abs(A) @ np.abs(T))
    blocks = [a.times(w, p) for a, w, p in zip(matrix.axes, point.weights, P, strict=True)]
    parts = {}
    for name, go in (("below", point.forward), ("above", point.backward)):
        seen = {}

        def visit(i, coupling, seen=seen):
            seen[i] = np.zeros_like(P[i]) if coupling is None else coupling
            return P[i]

        assert all(x is y for x, y in zip(go(visit), P, strict=True))
        parts[name] = flat([seen[i] for i in range(len(P))])
    x = flat(P)
    lower = block_lower(normal, factors)
    for got, expected in (
        (flat(blocks), block_diagonal(normal, factors)),
        (parts["below"], lower),
        (parts["above"], lower.T),
    ):
        assert (np.abs(got - expected @ x) <= size @ np.abs(x)).all()
    u = full_vector(factors)
    magnitude = 1e2 * EPS * (np.abs(T).T @ (np.abs(A) @ np.abs(T) @ np.abs(flat(factors)) + np.abs(b)))
    assert (np.abs(flat(point.gradient) - T.T @ (A @ u - b)) <= magnitude).all()
    assert abs(point.functional - functional(A, b, factors)) <= noise(A, b, factors)


@given(SYSTEMS, st.integers(1, 3), st.integers(0, 2**31))
def test_gradient_is_the_difference_quotient(system, rank, seed):
    matrix, load, lift = system
    factors, P = random_factors(lift.space, rank, seed), random_factors(lift.space, rank, seed + 1)
    point = Tangent(matrix, load, factors)
    # J along a line is a polynomial of degree 2 d: a central difference with 2 d + 1 points has round-off only
    half = len(factors)
    nodes = np.cos(np.pi * np.arange(2 * half + 1) / (2 * half))
    values = [Tangent(matrix, load, [c + t * p for c, p in zip(factors, P, strict=True)]) for t in nodes]
    slope = np.polynomial.polynomial.polyfit(nodes, [v.functional for v in values], 2 * half)[1]
    size = max(v.noise for v in values)
    # the derivative at the middle of Chebyshev points loses at most degree**2 digits of the values
    assert abs(slope - 2 * flat(point.gradient) @ flat(P)) <= 1e2 * (2 * half) ** 2 * size


def model_at(system, rank, seed):
    matrix, load, lift = system
    factors = random_factors(lift.space, rank, seed)
    point = Tangent(matrix, load, factors)
    T = jacobian(factors)
    return _Model(point), factors, T.T @ dense(matrix) @ T


@dev_size
@given(COUPLED, st.integers(1, 2), st.floats(1e-3, 1.0), st.integers(0, 2**31))
def test_preconditioner_is_symmetric_positive_and_never_too_small(system, rank, damping, seed):
    model, factors, normal = model_at(system, rank, seed)
    n = len(normal)
    K = np.stack([flat(model.operator(split(e, factors), damping)) for e in np.eye(n)], axis=1)
    D = (1 + damping) * np.stack([flat(model.times(split(e, factors))) for e in np.eye(n)], axis=1)
    # the ridge of the factorised blocks, 4 eps, and the condition of the blocks between D and its inverse
    tol = 1e2 * EPS * np.linalg.cond(D)
    DK = D @ K
    assert np.abs(DK - DK.T).max() <= tol * np.abs(D).max()
    root = np.linalg.cholesky(D)
    inverse = np.linalg.inv(root)
    low, *_, high = np.linalg.eigvalsh(inverse @ (DK + DK.T) @ inverse.T / 2)
    # M >= B, and the blocks of D^-1 T'AT have norm one at most (Cauchy-Schwarz): s D <= B, M <= (1 + s) d^2 D
    assert high <= 1 + tol
    assert low >= damping / (1 + damping) / len(factors) ** 2 - tol
    # and it is the same system: K = (D + L)^-1 B (D + L')^-1 D
    lower = block_lower(normal, factors)
    B = lower + lower.T + D
    expected = np.linalg.solve(D + lower, B @ np.linalg.solve(D + lower.T, D))
    assert np.abs(K - expected).max() <= tol * max(1.0, np.abs(expected).max()) * np.linalg.cond(D + lower)


@dev_size
@given(COUPLED, st.integers(1, 2), st.floats(1e-2, 1.0), st.integers(0, 2**31))
def test_step_minimises_the_damped_model(system, rank, damping, seed):
    model, factors, normal = model_at(system, rank, seed)
    g = flat(model.point.gradient)
    D = np.stack([flat(model.times(split(e, factors))) for e in np.eye(len(g))], axis=1)
    lower = block_lower(normal, factors)
    B = lower + lower.T + (1 + damping) * D
    step = model.solve(damping, 0.0)
    P = flat(step.change)
    exact = np.linalg.solve(B, -g)
    # inexact by the forcing term of 0.05, in a norm that is within 1 / smallest eigenvalue of K of that of B
    gap, size = (P - exact) @ B @ (P - exact), exact @ B @ exact
    assert gap <= 0.05**2 * size * len(factors) ** 2 * (1 + damping) / damping
    # the fall that is promised is that of the undamped model: where the forcing term enters, the difference is a
    # product of P with the final residual, zero as CG minimises; round-off of a few dozen steps is left
    fall = -2 * g @ P - P @ normal @ P
    scale = 2 * np.abs(g) @ np.abs(P) + np.abs(P) @ np.abs(normal) @ np.abs(P)
    assert abs(step.fall - fall) <= 1e4 * EPS * np.linalg.cond(D) ** 0.5 * scale
    assert step.fall > 0


# ---------------------------------------------------------------------------------------------------------- descent


@dev_size
@given(SYSTEMS, st.integers(1, 3), st.integers(0, 2**31))
def test_every_step_lowers_the_functional_or_says_so(system, rank, seed):
    matrix, load, lift = system
    A, b = dense(matrix), load.dense()
    iteration = GaussNewton(matrix, load)
    start = random_factors(lift.space, rank, seed)
    iteration.start(start)
    last = functional(A, b, start)
    assert abs(functional(A, b, iteration.factors) - last) <= noise(A, b, start)
    for _ in range(6):
        before = iteration.factors
        energy, work = iteration.sweep()
        J = functional(A, b, iteration.factors)
        doubt = noise(A, b, before) + noise(A, b, iteration.factors)
        assert abs(energy - 2 * work - J) <= doubt
        assert last + doubt >= J
        if iteration.stalled:
            assert all(np.array_equal(x, y) for x, y in zip(before, iteration.factors, strict=True))
            break
        norms = np.array([np.linalg.norm(f, axis=0) for f in iteration.factors])
        np.testing.assert_allclose(norms, np.broadcast_to(norms[0], norms.shape), rtol=1e2 * EPS)
        last = J


@pytest.mark.parametrize(
    ("kinds", "rank", "strong"),
    [
        # of rank two the strong form on three axes has no best approximation: two terms grow against each other
        *itertools.product([("spline", "legendre")], [1, 2], [False, True]),
        *[(("free", "ring", "spline"), *case) for case in [(1, False), (1, True), (2, False)]],
    ],
)
def test_it_stops_at_stationary_points(kinds, rank, strong):
    matrix, load, lift = system_of(problem(kinds, strong))
    iteration = GaussNewton(matrix, load)
    iteration.start(random_factors(lift.space, rank, 0))
    for _ in range(400):
        last = iteration.sweep()
        if iteration.stalled:
            break
    assert iteration.stalled
    assert iteration.sweep() == last
    assert iteration.stalled
    A, b, T = dense(matrix), load.dense(), jacobian(iteration.factors)
    g = T.T @ (A @ full_vector(iteration.factors) - b)
    D = block_diagonal(T.T @ A @ T, iteration.factors)
    # the first inner step promises g' M^-1 g, M <= (1 + s) d^2 D; a promise of many times the round-off of J would have
    # been kept, as the model is exact to first order. A ridge of sqrt(eps), should columns have become parallel
    square = g @ np.linalg.solve(D + EPS**0.5 * np.diag(np.diag(D)), g)
    assert square <= 1e2 * Tangent(matrix, load, iteration.factors).noise * (1 + START) * len(kinds) ** 2


@pytest.mark.parametrize("strong", [False, True])
@pytest.mark.parametrize("kinds", [("spline", "legendre"), ("free", "ring", "spline")])
def test_never_worse_than_the_als_it_starts_from(kinds, strong):
    matrix, load, _ = system_of(problem(kinds, strong))
    als = AlternatingLeastSquares(matrix, load)
    als.grow(2)
    for _ in range(10):
        energy, work = als.sweep()
    iteration = GaussNewton(matrix, load)
    iteration.start(als.balanced())
    for _ in range(10):
        final = iteration.sweep()
    A, b = dense(matrix), load.dense()
    assert final[0] - 2 * final[1] <= energy - 2 * work + noise(A, b, als.balanced())


@pytest.mark.parametrize("d", [2, 3, 4])
def test_fast_on_a_solution_of_its_rank(d):
    matrix, _, lift = system_of(problem(["legendre"] * d, False))
    exact = random_factors(lift.space, 2, 5)
    load = manufactured(matrix, exact)
    near = [f + 0.1 * p for f, p in zip(exact, random_factors(lift.space, 2, 6), strict=True)]
    iteration = GaussNewton(matrix, load)
    iteration.start(near)
    lowest = -matrix.energy(exact)
    falls = []
    for _ in range(12):
        energy, work = iteration.sweep()
        falls.append(energy - 2 * work - lowest)
        if iteration.stalled:
            break
    # the squared distance in the energy, down to the round-off of its two terms
    floor = 16 * EPS * 3 * abs(lowest)
    assert falls[-1] <= floor
    # faster than any fixed linear rate: the last step above the floor gains ten times as much as the first one at least
    above = [f for f in falls if f > floor]
    assert len(above) >= 3
    assert above[-1] / above[-2] < 0.1 * above[1] / above[0]


def swamp(d=3, size=6, close=0.95):
    """Three terms whose columns are nearly parallel in every axis: what ALS crawls on."""
    V = sn.TensorSpace(**{f"a{i}": sn.Legendre((0, 1), size) for i in range(d)})
    matrix = SeparableMatrix.from_table(sn.assemble(sn.inner(V.identity, V.identity)))
    rng = np.random.default_rng(0)
    gram = close + (1 - close) * np.eye(3)
    exact = [np.linalg.qr(rng.standard_normal((n, 3)))[0] @ np.linalg.cholesky(gram).T for n in V.shape]
    return matrix, manufactured(matrix, exact), exact, [f + 0.3 * rng.standard_normal(f.shape) for f in exact]


def test_crosses_a_swamp_that_als_crawls_through():
    matrix, load, exact, start = swamp()
    lowest = -matrix.energy(exact)
    als, iteration = AlternatingLeastSquares(matrix, load), GaussNewton(matrix, load)
    als.start(start)
    iteration.start(start)
    for _ in range(40):
        energy, work = als.sweep()
        final = iteration.sweep()
    # squared distances; both from one start, in 40 rounds
    assert final[0] - 2 * final[1] - lowest <= 1e-3 * (energy - 2 * work - lowest)


# ------------------------------------------------------------------------------------------------------ edge cases


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("kind", sorted(AXES))
def test_one_axis_is_linear(kind, rank):
    matrix, load, lift = system_of(problem([kind], False))
    iteration = GaussNewton(matrix, load)
    iteration.start(random_factors(lift.space, rank, 1))
    energy, work = iteration.sweep()
    A, b = dense(matrix), load.dense()
    lowest = -float(b @ np.linalg.solve(A, b))
    assert energy - 2 * work - lowest <= noise(A, b, iteration.factors)
    iteration.sweep()
    assert iteration.stalled


def test_rank_one_is_solved_as_by_als():
    # the best approximation of rank one of a positive load: one minimum, both find it
    matrix, load, lift = system_of(problem(["legendre", "spline", "free"], False))
    als, iteration = AlternatingLeastSquares(matrix, load, seed=1), GaussNewton(matrix, load)
    als.grow(1)
    iteration.start([np.ones((n, 1)) for n in lift.space.shape])
    for _ in range(60):
        energy, work = als.sweep()
        final = iteration.sweep()
    A, b = dense(matrix), load.dense()
    assert abs((final[0] - 2 * final[1]) - (energy - 2 * work)) <= noise(A, b, iteration.factors)


@pytest.mark.parametrize("case", ["empty", "empty twice", "equal", "opposite", "empty axis", "all empty"])
def test_singular_normal_matrices(xp, case):
    kinds = ("free", "ring", "spline")
    matrix, load, lift = system_of(problem(kinds, False))
    factors = random_factors(lift.space, 3, 2)
    if case == "equal":
        factors = [np.concatenate([f[:, :2], f[:, :1]], axis=1) for f in factors]
    elif case == "opposite":  # two terms that cancel: parallel in every axis
        factors = [np.concatenate([f[:, :2], f[:, :1] * (-1 if i == 0 else 1)], axis=1) for i, f in enumerate(factors)]
    else:
        axes, columns = {
            "empty": (1, slice(1)),
            "empty twice": (2, slice(1)),
            "empty axis": (1, slice(3)),
            "all empty": (len(kinds), slice(3)),
        }[case]
        for f in factors[:axes]:
            f[:, columns] = 0.0
    iteration = GaussNewton(matrix.to(xp.xp, xp.device, xp.dtype), load.to(xp.xp, xp.device, xp.dtype))
    iteration.start([xp.asarray(f) for f in factors])
    A, b = dense(matrix), load.dense()
    first = functional(A, b, iteration.factors)
    for _ in range(5):
        energy, work = iteration.sweep()
        assert math.isfinite(energy - 2 * work)
    hosts = [np.asarray(to_host(f), dtype=np.float64) for f in iteration.factors]
    assert all(np.isfinite(f).all() for f in hosts)
    if case == "all empty":
        assert iteration.stalled
        assert (energy, work) == (0.0, 0.0)
        return
    assert functional(A, b, hosts) < first
    if case in ("empty", "empty axis"):
        # the gradient of the empty column is not zero: the term comes back
        assert np.linalg.norm(hosts[0][:, 0]) > 0
    if case == "empty twice":
        assert not any(f[:, 0].any() for f in hosts[:2])


def test_same_steps_on_every_namespace(xp):
    matrix, load, lift = system_of(problem(["spline", "legendre", "ring"], True))
    start = random_factors(lift.space, 2, 3)
    reference = GaussNewton(matrix, load)
    reference.start(start)
    iteration = GaussNewton(matrix.to(xp.xp, xp.device, xp.dtype), load.to(xp.xp, xp.device, xp.dtype))
    iteration.start([xp.asarray(f) for f in start])
    A, b = dense(matrix), load.dense()
    for _ in range(3):
        expected, got = reference.sweep(), iteration.sweep()
    assert all(f.dtype == xp.dtype for f in iteration.factors)
    assert [tuple(f.shape) for f in iteration.factors] == [f.shape for f in start]
    # the steps repeat each other until round-off, amplified by the condition of the blocks, tells them apart
    size = abs(expected[0]) + 2 * abs(expected[1])
    assert abs((expected[0] - 2 * expected[1]) - (got[0] - 2 * got[1])) <= 1e2 * xp.eps * np.linalg.cond(A) * size
    assert functional(A, b, iteration.factors) < functional(A, b, start)


def test_single_precision_reaches_single_precision():
    matrix, _, lift = system_of(problem(["legendre"] * 3, False))
    exact = random_factors(lift.space, 2, 5)
    load = manufactured(matrix, exact)
    near = [f + 0.1 * p for f, p in zip(exact, random_factors(lift.space, 2, 6), strict=True)]
    iteration = GaussNewton(matrix.to(np, None, np.float32), load.to(np, None, np.float32))
    iteration.start([f.astype(np.float32) for f in near])
    for _ in range(15):
        iteration.sweep()
    assert all(f.dtype == np.float32 for f in iteration.factors)
    A, b = dense(matrix), load.dense()
    eps = float(np.finfo(np.float32).eps)
    final, lowest = functional(A, b, iteration.factors), -matrix.energy(exact)
    # J is seen up to its round-off in float32: 4 eps of its magnitudes, which are what `noise` sums for float64
    assert final - lowest <= noise(A, b, exact) * eps / EPS


def test_a_step_with_too_little_damping_is_taken_back():
    matrix, load, lift = system_of(problem(["spline", "legendre", "ring"], False))
    start = [0.01 * f for f in random_factors(lift.space, 2, 0)]
    point = Tangent(matrix, load, start)
    # near u = 0 the tangent space says little: the full step overshoots by orders of magnitude
    full = _Model(point).solve(1e-9, 0.0)
    beyond = Tangent(matrix, load, [c + p for c, p in zip(start, full.change, strict=True)])
    assert beyond.functional > point.functional
    iteration = GaussNewton(matrix, load)
    iteration.start(start)
    iteration.damping = 1e-9
    energy, work = iteration.sweep()
    assert not iteration.stalled
    assert energy - 2 * work < point.functional
    assert iteration.damping > 1e-9 * 2**3  # two trials failed at least


def test_damping_keeps_a_size_from_which_it_can_grow():
    matrix, load, _exact, start = swamp()
    iteration = GaussNewton(matrix, load)
    iteration.start(start)
    iteration.damping = 2e-8
    iteration.sweep()
    assert not iteration.stalled
    # a good step divides it by three, unless it is the square root of round-off already
    assert iteration.damping == EPS**0.5


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda f: f[:-1], "shapes"),
        (lambda f: [f[0][:, :1], *f[1:]], "shapes"),
        (lambda f: [f[0][:-1], *f[1:]], "shapes"),
        (lambda f: [g[:, :0] for g in f], "R >= 1"),
        (lambda f: [], "shapes"),
        (lambda f: [f[0] * np.nan, *f[1:]], "not finite"),
        (lambda f: [*f[:-1], f[-1] + np.inf], "not finite"),
    ],
)
def test_bad_starts_are_refused(spoil, match):
    matrix, load, lift = system_of(problem(["spline", "free"], False))
    iteration = GaussNewton(matrix, load)
    with pytest.raises(ValueError, match=match):
        iteration.start(spoil(random_factors(lift.space, 2, 0)))
    assert iteration.rank == 0
    assert iteration.factors == iteration.balanced() == []
    with pytest.raises(ValueError, match="call start"):
        iteration.sweep()


def test_indefinite_forms_are_refused():
    V = sn.TensorSpace(x=AXES["free"], y=AXES["legendre"])
    form = sn.inner(V.identity, V.identity)
    matrix = SeparableMatrix.from_table(sn.assemble(form))
    _, load, _ = system_of(sn.Galerkin(form, source=1))
    negative = SeparableMatrix.from_table(sn.assemble(-1.0 * form))
    iteration = GaussNewton(negative, load)
    iteration.start(random_factors(V, 2, 0))
    with pytest.raises(NotPositiveDefiniteError):
        iteration.sweep()
    good = GaussNewton(matrix, load)
    good.start(random_factors(V, 2, 0))
    good.sweep()


def test_cost_of_a_product_is_linear_in_the_dimension(monkeypatch):
    counted = 0

    def counting(method):
        def call(self, first, second):
            nonlocal counted
            counted += int(self.letter.shape[0]) * math.prod(first.shape[1:])
            return method(self, first, second)

        return call

    for name in ("left", "right", "around"):
        monkeypatch.setattr(Transitions, name, counting(getattr(Transitions, name)))
    dimensions, costs = (4, 8, 16, 32), []
    for d in dimensions:
        matrix, load, lift = system_of(problem(["spline"] * d, False))
        factors = [f / np.linalg.norm(f, axis=0) for f in random_factors(lift.space, 2, 0)]
        model = _Model(Tangent(matrix, load, factors))
        counted = 0
        model.operator(factors, 0.1)
        costs.append(counted)
    # affine: the ends of the chain have fewer moves than its inside
    slopes = np.diff(costs) / np.diff(dimensions)
    assert slopes[0] > 0
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-12)
