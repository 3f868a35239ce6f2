"""Alternating least squares on tensor trains: the guarantees of every step, of rounding and of enrichment."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solver_support import EPS, dense, system_of
from support import EXAMPLES
from train_support import AXES, embedding, galerkin, host, in_order, random_cores, vector

import sepnet as sn
from sepnet.solvers import train_als, train_local
from sepnet.solvers.axis_systems import RIDGE
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.solvers.train_als import TrainIteration

SOLVER = settings(max_examples=min(EXAMPLES["dev"], settings().max_examples))
KINDS = st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=4)


class Watched:
    """An iteration with the dense system beside it: J before and after every step, and around every rounding."""

    def __init__(self, problem, monkeypatch, *, order=None, seed=0, start=None, home=None):
        matrix, load, lift = system_of(problem)
        self.shape, d = lift.space.shape, lift.space.dim
        self.order = list(range(d)) if order is None else list(order)
        n = int(np.prod(self.shape))
        axes = [*self.order, *(d + k for k in self.order)]
        self.A = dense(matrix).reshape(*self.shape, *self.shape).transpose(axes).reshape(n, n)
        self.b = in_order(load.dense(), self.shape, self.order)
        self.exact = np.linalg.solve(self.A, self.b)
        home = home or (np, None, np.float64)
        self.iteration = TrainIteration(matrix.to(*home), load.to(*home), order=order, seed=seed)
        if start is not None:
            self.iteration.start(start)
        self.eps = float(home[0].finfo(home[2]).eps)
        self.steps, self.cuts = [], []
        split = TrainIteration._split

        def watched(iteration, *arguments):
            before = self.u
            split(iteration, *arguments)
            self.cuts.append((self.functional(self.u) - self.functional(before), self.u - before, self.noise(before)))

        monkeypatch.setattr(TrainIteration, "_split", watched)

    @property
    def u(self):
        return vector(self.iteration.cores)

    def functional(self, u):
        return float(u @ self.A @ u - 2 * self.b @ u)

    def noise(self, u):
        """Round-off of a(u, u) and f(u); the sums over many axes and the frames take a few steps each."""
        size = np.abs(u)
        return 1e3 * self.eps * float(size @ np.abs(self.A) @ size + 2 * np.abs(self.b) @ size)

    def energy_norm(self, u):
        return math.sqrt(max(float(u @ self.A @ u), 0.0))

    def sweep(self, **options):
        def after(axis, energy, work):
            self.steps.append((axis, energy, work, self.u))

        return self.iteration.sweep(after_step=after, **options)

    @property
    def distance(self):
        return self.energy_norm(self.u - self.exact) / self.energy_norm(self.exact)


# --------------------------------------------------------------------------------------------------------- each step


@SOLVER
@given(KINDS, st.integers(0, 2**31), st.floats(0, 1e-2), st.integers(0, 3), st.booleans(), st.randoms())
def test_every_step_is_a_galerkin_problem(kinds, seed, share, columns, direct, random):
    order = list(range(len(kinds)))
    random.shuffle(order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_local, "DIRECT", np.inf if direct else 0.0)
        watched = Watched(galerkin(kinds), patch, order=order, seed=seed)
        check_steps(watched, share, columns)


def check_steps(watched, share, columns, sweeps=3):
    lowest = -float(watched.b @ watched.exact)
    allowed = share * abs(lowest)
    last = math.inf
    for count in range(sweeps):
        watched.steps.clear()
        watched.cuts.clear()
        energy, work = watched.sweep(allowed=allowed, columns=columns)
        assert [s[0] for s in watched.steps] == (watched.order if count % 2 == 0 else watched.order[::-1])
        budget = 0.0
        for k, (_, energy, work, u) in enumerate(watched.steps):
            noise = watched.noise(u)
            assert abs(energy - u @ watched.A @ u) <= noise
            assert abs(work - watched.b @ u) <= noise
            # a(u, u) = f(u), hence ||u|| <= ||f||_* / alpha: in the energy norm alpha is one
            assert abs(energy - work) <= noise
            assert energy <= abs(lowest) + noise
            # the step itself never raises the functional; the rounding before it by no more than its share
            assert watched.functional(u) <= last + budget + noise
            last = watched.functional(u)
            if k < len(watched.cuts):
                rise, change, noise = watched.cuts[k]
                assert rise <= allowed / max(len(watched.order) - 1, 1) + noise
                assert change @ watched.A @ change <= allowed / max(len(watched.order) - 1, 1) + noise
                budget = max(rise, 0.0)
        assert (energy, work) == watched.steps[-1][1:3]


def test_iterates_are_bounded_by_the_load(monkeypatch):
    # ||u||_V <= ||f||_V' / alpha with V normed by M + K; the coefficients 1 and 1 + x are at least one, alpha too
    problem = galerkin(["free", "ring", "spline"])
    watched = Watched(problem, monkeypatch)
    V = problem.space
    form = sn.inner(V.identity, V.identity)
    for d in V.d:
        form = form + sn.inner(d, d)
    G = dense(system_of(sn.Galerkin(form, source=1))[0])
    inverse = np.linalg.inv(np.linalg.cholesky(G))
    alpha = np.linalg.eigvalsh(inverse @ watched.A @ inverse.T)[0]
    assert alpha >= 1 - 1e-10
    bound = np.linalg.norm(inverse @ watched.b) / alpha
    for _ in range(4):
        watched.sweep(columns=2)
    seen = [math.sqrt(u @ G @ u) for *_, u in watched.steps]
    assert len(seen) == 12
    assert max(seen) <= bound * (1 + 1e-9)


@pytest.mark.parametrize("direct", [0.0, np.inf])
def test_every_step_in_least_squares(direct, monkeypatch):
    monkeypatch.setattr(train_local, "DIRECT", direct)
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=5, zero="both"), t=sn.BSpline((0, 1), cells=3, degree=2))
    x, _ = V.coordinates
    start = sn.apply(lambda s: s * (1 - s), x)
    problem = sn.LeastSquares(V.d.t - 0.2 * V.d.x**2 + x * V.identity, source=1 + x, initial={"t": start})
    check_steps(Watched(problem, monkeypatch), 1e-4, 2)


# ---------------------------------------------------------------------------------------------------------- rounding


@SOLVER
@given(st.integers(0, 2**31), st.floats(1e-8, 1e-1), st.booleans())
def test_rounding_spends_its_share_and_no_more(seed, share, direct):
    # a start of full ranks: there is something to drop
    kinds = ["spline", "free", "ring"]
    with pytest.MonkeyPatch.context() as patch:
        # so that they leave a residual worth speaking of
        patch.setattr(train_local, "MOST_ITERATIONS", 2)
        patch.setattr(train_local, "DIRECT", np.inf if direct else 0.0)
        sizes = [AXES[k].size for k in kinds]
        start = random_cores(np.random.default_rng(seed), sizes, [4, 6])
        watched = Watched(galerkin(kinds), patch, start=start)
        allowed = share * float(watched.b @ watched.exact)
        before = watched.iteration.size
        watched.sweep(allowed=allowed)
        assert len(watched.cuts) == 2
        for rise, change, noise in watched.cuts:
            lost = float(change @ watched.A @ change)
            assert lost <= allowed / 2 + noise
            assert rise <= allowed / 2 + noise
            if direct:  # Pythagoras: the core before was the minimiser over a space that contains the one after
                assert abs(rise - lost) <= noise
        if share > 1e-3:
            assert watched.iteration.size < before


def test_the_rank_dropped_is_the_largest_that_the_energy_allows(monkeypatch):
    kinds = ["spline", "free", "ring"]
    start = random_cores(np.random.default_rng(3), [AXES[k].size for k in kinds], [4, 6])
    watched = Watched(galerkin(kinds), monkeypatch, start=start)
    allowed = 1e-3 * float(watched.b @ watched.exact)
    watched.sweep(allowed=allowed)
    core, rest = watched.steps[0][3], None
    kept = watched.iteration.ranks[0]
    matrix = core.reshape(AXES["spline"].size, -1)
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    for k in (kept, kept - 1):
        rest = ((u[:, k:] * s[k:]) @ vt[k:]).ravel()
        assert (rest @ watched.A @ rest <= allowed / 2) == (k == kept)


@pytest.mark.parametrize(("left_over", "kept"), [(0.0, 2), (1.0, 3), (-1.0, 2)])
def test_rounding_counts_what_an_inexact_solution_left(left_over, kept):
    # with H = I: cutting off the least singular value costs 1, and 2 <r, l> more
    u, s, vt = np.eye(6)[:, :3], np.array([3.0, 2.0, 1.0]), np.eye(3)
    core = (u * s @ vt).reshape(2, 3, 3)
    system = SimpleNamespace(energy=lambda x: float(np.sum(x * x)))
    assert train_als._shortest(system, left_over * core, (u, s, vt), 1.5) == kept


def test_enrichment_leaves_the_function_as_it_is(monkeypatch):
    watched = Watched(galerkin(["spline", "free", "fourier", "ring"]), monkeypatch)
    for _ in range(4):
        watched.cuts.clear()
        before = watched.iteration.ranks
        watched.sweep(columns=2)
        for _, change, _ in watched.cuts:
            # two products with orthonormal frames
            assert np.linalg.norm(change) <= 1e2 * EPS * np.linalg.norm(watched.u)
        after = watched.iteration.ranks
        assert all(b <= a <= b + 2 for a, b in zip(after, before, strict=True))
    assert watched.iteration.ranks != (2, 2, 2)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_rank_is_never_above_its_bound(rank, monkeypatch):
    watched = Watched(galerkin(["spline", "free", "ring"]), monkeypatch)
    for _ in range(4):
        watched.sweep(columns=4, rank=rank)
        assert watched.iteration.rank <= rank
    assert watched.iteration.rank == rank
    cut = watched.iteration
    watched.sweep(columns=4, rank=1)
    assert cut.ranks == (1, 1)
    assert np.isfinite(watched.u).all()


def test_ranks_stay_what_the_sizes_allow(monkeypatch):
    watched = Watched(galerkin(["one function", "two functions", "spline", "two functions"]), monkeypatch)
    for _ in range(4):
        watched.sweep(columns=8)
        assert all(r <= m for r, m in zip(watched.iteration.ranks, (1, 2, 2), strict=True))
    # full ranks are the full space: what is left is the solution of a linear system
    assert watched.distance <= 1e2 * EPS * np.linalg.cond(watched.A)


def test_the_train_of_the_residual_is_followed(monkeypatch):
    # a new random one every sweep would forget what it has seen: small axes must not bring that about
    watched = Watched(galerkin(["two functions", "spline", "free", "two functions"]), monkeypatch)
    made = []
    random = TrainIteration._random

    def counted(iteration, *arguments):
        made.append(arguments)
        return random(iteration, *arguments)

    monkeypatch.setattr(TrainIteration, "_random", counted)
    for _ in range(3):
        watched.sweep(columns=4)
    assert len(made) == 1


@pytest.mark.parametrize("sweeps", [0, 2])
def test_enrichment_sees_the_residual(sweeps, monkeypatch):
    # through the frames of u on the left, or of the train that follows it, and of that train on the right
    watched = Watched(galerkin(["spline", "free", "ring"]), monkeypatch, order=[1, 0, 2])
    for _ in range(sweeps):
        watched.sweep(columns=2, rank=2)
    seen = []
    for name in ("residual", "followed"):
        ours = getattr(train_als._Frames, name)

        def compared(frames, i, core, name=name, ours=ours):
            iteration = watched.iteration
            cores = [*iteration._cores[:i], core, *iteration._cores[i + 1 :]]
            rest = watched.b - watched.A @ vector(cores)
            left = cores[:i] if name == "residual" else iteration._residual[:i]
            frame = embedding([*left, core, *iteration._residual[i + 1 :]], i)
            size = 1e3 * EPS * np.abs(watched.A).max() * np.abs(vector(cores)).max()
            result = ours(frames, i, core)
            np.testing.assert_allclose(result.ravel(), frame.T @ rest, rtol=0, atol=size)
            seen.append(name)
            return result

        monkeypatch.setattr(train_als._Frames, name, compared)
    watched.sweep(columns=2, rank=3)
    assert seen == ["residual", "followed"] * 2


def test_what_is_added_is_what_is_seen(monkeypatch):
    rng = np.random.default_rng(0)
    u = np.linalg.qr(rng.standard_normal((9, 3)))[0]
    new = rng.standard_normal((9, 2)) @ np.diag([1.0, 1e-9]) @ rng.standard_normal((2, 4))
    for unit in (1.0, 1e-200):
        frame, added = train_als._enriched(np, u, unit * new, 2)
        assert added == 2
        np.testing.assert_array_equal(frame[:, :3], u)
        np.testing.assert_allclose(frame.T @ frame, np.eye(5), atol=1e2 * EPS)
        assert np.linalg.norm(new - frame @ (frame.T @ new)) <= 1e2 * EPS * np.linalg.norm(new)
        # the leading direction first
        one, added = train_als._enriched(np, u, unit * new, 1)
        assert added == 1
        assert np.linalg.norm(new - one @ (one.T @ new)) <= 1e-7 * np.linalg.norm(new)
    assert train_als._enriched(np, u, 0 * new, 2) == (u, 0)
    # all that is left of it is round-off: whatever is added is orthonormal
    frame, added = train_als._enriched(np, u, u @ rng.standard_normal((3, 4)), 2)
    np.testing.assert_allclose(frame.T @ frame, np.eye(3 + added), atol=1e2 * EPS)


# ------------------------------------------------------------------------------------------------------ convergence


@pytest.mark.parametrize("order", [None, [2, 0, 1], [1, 2, 0]])
@pytest.mark.parametrize("direct", [0.0, np.inf])
def test_with_enrichment_it_converges_to_the_solution_in_every_order(order, direct, monkeypatch):
    monkeypatch.setattr(train_local, "DIRECT", direct)
    watched = Watched(galerkin(["spline", "free", "ring"]), monkeypatch, order=order)
    for _ in range(12):
        watched.sweep(columns=2)
    # full ranks are reached; conjugate gradients gain two digits a step
    assert watched.distance <= 1e3 * EPS * np.linalg.cond(watched.A)


def test_order_and_direction_do_not_change_the_function(monkeypatch):
    problem = galerkin(["spline", "free", "ring"])
    natural = in_space(Watched(problem, monkeypatch), 12)
    other = in_space(Watched(problem, monkeypatch, order=[2, 0, 1]), 11)
    np.testing.assert_allclose(other, natural, rtol=0, atol=1e-9 * np.abs(natural).max())


def in_space(watched, sweeps):
    for _ in range(sweeps):
        watched.sweep(columns=2)
    back = np.argsort(watched.order)
    return watched.u.reshape([watched.shape[k] for k in watched.order]).transpose(back).ravel()


def test_a_sweep_ends_with_the_function_it_says(monkeypatch):
    watched = Watched(galerkin(["spline", "free", "ring"]), monkeypatch, order=[1, 2, 0])
    for _ in range(4):
        energy, work = watched.sweep(columns=1)
        u = watched.u
        assert energy == pytest.approx(u @ watched.A @ u, rel=1e3 * EPS)
        assert work == pytest.approx(watched.b @ u, rel=1e3 * EPS)
        for a, b in zip(watched.iteration.balanced(), watched.iteration.cores, strict=True):
            np.testing.assert_array_equal(a, b)


def low_rank_solution(seed=0):
    """A system whose solution is a random train of ranks 2 and 3."""
    problem = galerkin(["spline", "free", "ring"])
    matrix, _, lift = system_of(problem)
    cores = random_cores(np.random.default_rng(seed), lift.space.shape, [2, 3])
    columns = [
        np.stack([cores[0][0, :, a] for a in range(2) for _ in range(3)], axis=1),
        np.stack([cores[1][a, :, b] for a in range(2) for b in range(3)], axis=1),
        np.stack([cores[2][b, :, 0] for _ in range(2) for b in range(3)], axis=1),
    ]
    image = matrix.apply(columns)
    terms = image[0].shape[1]
    index = np.tile(np.arange(terms)[:, None], (1, 3))
    moves = sn.solvers.automaton.build_automaton(index, np.ones(terms), (terms,) * 3)
    return matrix, SeparableVector(tuple(f.T for f in image), moves, index, np.ones(terms)), vector(cores)


@pytest.mark.parametrize("direct", [0.0, np.inf])
def test_an_exact_low_rank_solution_is_found_with_its_ranks(direct, monkeypatch):
    monkeypatch.setattr(train_local, "DIRECT", direct)
    matrix, load, exact = low_rank_solution()
    iteration = TrainIteration(matrix, load)
    A = dense(matrix)
    scale = float(exact @ A @ exact)
    for _ in range(8):
        iteration.sweep(allowed=1e-20 * scale, columns=2)
    iteration.sweep(allowed=1e-16 * scale)
    assert iteration.ranks == (2, 3)
    e = vector(iteration.cores) - exact
    assert e @ A @ e <= 4e-16 * scale


def test_it_starts_from_given_cores_in_either_direction():
    matrix, load, exact = low_rank_solution()
    shape = [a.size for a in matrix.axes]
    u, s, vt = np.linalg.svd(exact.reshape(shape[0], -1), full_matrices=False)
    v, t, wt = np.linalg.svd((s[:2, None] * vt[:2]).reshape(2 * shape[1], -1), full_matrices=False)
    start = [u[None, :, :2], v[:, :3].reshape(2, shape[1], 3), (t[:3, None] * wt[:3])[:, :, None]]
    for sweeps in (0, 1):
        iteration = TrainIteration(matrix, load)
        for _ in range(sweeps):
            iteration.sweep()
        iteration.start(start)
        np.testing.assert_allclose(vector(iteration.cores), exact, rtol=0, atol=1e-13 * np.abs(exact).max())
        energy, work = iteration.sweep()
        assert energy == pytest.approx(work, rel=1e-12)
        np.testing.assert_allclose(vector(iteration.cores), exact, rtol=0, atol=1e-10 * np.abs(exact).max())


# -------------------------------------------------------------------------------------------------------- one axis


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
@pytest.mark.parametrize("sweeps", [0, 1, 2])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("columns", [0, 1])
def test_a_single_step_is_the_minimiser_over_one_core(order, sweeps, axis, columns, monkeypatch):
    watched = Watched(galerkin(["spline", "free", "ring"]), monkeypatch, order=order)
    for _ in range(sweeps):
        watched.sweep(columns=columns)
    place = order.index(axis)
    cores = [host(c) for c in watched.iteration.cores]
    energy, work = watched.iteration.step(axis)
    frame = embedding(cores, place)
    best = frame @ np.linalg.lstsq(frame.T @ watched.A @ frame, frame.T @ watched.b, rcond=None)[0]
    u = watched.u
    tol = 1e3 * EPS * np.linalg.cond(watched.A)
    assert energy == pytest.approx(u @ watched.A @ u, rel=tol)
    assert work == pytest.approx(watched.b @ u, rel=tol)
    sigma = np.linalg.svd(frame, compute_uv=False)
    if columns == 0 and sigma[-1] > 1e-6 * sigma[0]:
        np.testing.assert_allclose(u, best, rtol=0, atol=tol * np.abs(best).max())
    # directions that were added but are not yet used count; where the frames have gaps others fill them
    assert watched.functional(u) <= watched.functional(best) + watched.noise(u)
    # and it goes on from there
    watched.sweep()
    assert watched.functional(watched.u) <= watched.functional(u) + watched.noise(u)


def test_a_single_step_uses_directions_that_are_not_used_yet(monkeypatch):
    watched = Watched(galerkin(["spline", "free", "ring"]), monkeypatch)
    cores = random_cores(np.random.default_rng(0), watched.shape, [3, 2])
    cores[1][2] = 0.0
    watched.iteration.start(cores)
    watched.iteration.step(1)
    frame = embedding(cores, 1)
    best = frame @ np.linalg.solve(frame.T @ watched.A @ frame, frame.T @ watched.b)
    np.testing.assert_allclose(watched.u, best, rtol=0, atol=1e3 * EPS * np.linalg.cond(watched.A) * np.abs(best).max())


# --------------------------------------------------------------------------------------------------- small and other


def test_one_axis_is_solved_in_one_sweep(monkeypatch):
    for kind in ("spline", "one function", "ring", "fourier"):
        watched = Watched(galerkin([kind]), monkeypatch)
        watched.sweep(allowed=1.0, columns=3, rank=1)
        assert watched.iteration.ranks == ()
        assert watched.iteration.rank == 1
        assert watched.distance <= 1e2 * EPS * np.linalg.cond(watched.A)


def test_the_seed_alone_decides():
    matrix, load, _ = system_of(galerkin(["spline", "free", "ring"]))

    def run(seed):
        iteration = TrainIteration(matrix, load, seed=seed)
        seen = [iteration.sweep(columns=1, allowed=1e-6) for _ in range(3)]
        return seen, iteration.cores

    (one, cores), (two, others), (three, _) = run(4), run(4), run(5)
    assert one == two
    assert one != three
    for a, b in zip(cores, others, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("direct", [0.0, np.inf])
def test_the_same_on_every_namespace(xp, direct, monkeypatch):
    monkeypatch.setattr(train_local, "DIRECT", direct)
    problem = galerkin(["spline", "ring", "two functions"])
    watched = Watched(problem, monkeypatch, home=(xp.xp, xp.device, xp.dtype))
    check_steps(watched, 1e-6, 2, sweeps=2)
    cores = watched.iteration.cores
    assert all(c.dtype == xp.dtype for c in cores)
    for _ in range(4):
        watched.iteration.sweep(columns=2)
    # what LAPACK allows and the ridge, as for the CP form; conjugate gradients end at the round-off of their residual
    assert watched.distance <= (30 + RIDGE) * xp.eps * np.linalg.cond(watched.A)


def test_loads_that_cancel_and_tiny_ones_are_no_trouble():
    matrix, load, _ = system_of(galerkin(["spline", "free"]))
    tiny = SeparableVector(load.vectors, load.automaton, load.index, load.weights * 1e-150)
    moves = sn.solvers.automaton.build_automaton(load.index, tiny.weights, tuple(len(v) for v in load.vectors))
    iteration = TrainIteration(matrix, SeparableVector(load.vectors, moves, load.index, tiny.weights))
    for _ in range(3):
        energy, work = iteration.sweep(columns=2)
    assert energy == pytest.approx(work, rel=1e-12)
    assert np.isfinite(vector(iteration.cores)).all()
    nothing = sn.solvers.automaton.build_automaton(load.index, 0 * load.weights, tuple(len(v) for v in load.vectors))
    iteration = TrainIteration(matrix, SeparableVector(load.vectors, nothing, load.index, 0 * load.weights))
    for _ in range(2):
        assert iteration.sweep(columns=2) == (0.0, 0.0)
    assert not vector(iteration.cores).any()


def test_the_start_rank_fits_a_matrix_of_one_term():
    V = sn.TensorSpace(x=AXES["free"], y=AXES["ring"])
    problem = sn.LeastSquares(V.identity, source=sn.product(x=np.cos, y=lambda s: np.sin(2 * np.pi * s)))
    matrix, load, _ = system_of(problem)
    assert isinstance(matrix, SeparableMatrix)
    iteration = TrainIteration(matrix, load)
    for _ in range(2):
        iteration.sweep(allowed=1e-20)
    assert iteration.ranks == (1,)
    assert train_als.START_RANK > 1
