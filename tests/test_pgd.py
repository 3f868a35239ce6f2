"""Greedy enrichment (PGD): every mode is the best of its kind, the functional falls, the cost is linear in modes."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solver_support import EPS, dense, full_vector, random_factors, system_of
from support import dev_size

import sepnet as sn
from sepnet.backends.arrays import to_host
from sepnet.solvers.als import AlternatingLeastSquares
from sepnet.solvers.automaton import Transitions
from sepnet.solvers.axis_matrices import AxisMatrices
from sepnet.solvers.axis_systems import GROWTH, RIDGE
from sepnet.solvers.pgd import GreedyEnrichment

AXES = {
    "spline": sn.BSpline((0, 1), cells=5, degree=2, zero="both"),
    "free": sn.BSpline((0, 1), cells=4, degree=3),
    "ring": sn.BSpline((0, 1), cells=11, degree=2, periodic=True),
    "fourier": sn.Fourier((0, 1), 2),
    "legendre": sn.Legendre((0, 1), 5, zero="left"),
}
# Equalities hold up to the ridge of one step, with one retry, relative to the diagonal of well scaled systems.
RIDGED = 10 * RIDGE * GROWTH * EPS


def galerkin(kinds, wave=2.0):
    """A coercive symmetric form with variable coefficients and a load that is not of rank one."""
    V = sn.TensorSpace(**{f"a{i}": AXES[k] for i, k in enumerate(kinds)})
    form = sn.inner(V.identity, V.identity)
    for c, d in zip(V.coordinates, V.d, strict=True):
        form = form + sn.inner((1 + c) * d, d)
    first, last = V.coordinates[0], V.coordinates[-1]
    form = form + sn.inner(first * last * V.identity, V.identity)
    return sn.Galerkin(form, source=1 + first * last + sn.product(**{V.names[-1]: lambda s: np.cos(wave * s)}))


def poisson(d, cells=6):
    V = sn.TensorSpace(**{f"x{i}": sn.BSpline((0, 1), cells=cells, degree=2, zero="both") for i in range(d)})
    return sn.Galerkin(sum(sn.inner(k, k) for k in V.d), source=1)


@dev_size
@given(
    st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=3),
    st.booleans(),
    st.integers(0, 100),
    st.integers(1, 4),
)
def test_functional_falls_and_is_what_is_returned(kinds, update, seed, passes):
    check_enrichment(kinds, update, seed, passes)


def check_enrichment(kinds, update, seed, passes, modes=4):
    matrix, load, _ = system_of(galerkin(kinds))
    A, b = dense(matrix), load.dense()
    exact = np.linalg.solve(A, b)
    size = float(b @ exact)
    pgd = GreedyEnrichment(matrix, load, seed=seed, update=update, passes=passes, change=0.0)
    last = 0.0
    for k in range(modes):
        pgd.grow(1)
        assert pgd.rank == k + 1
        for _ in range(2):  # the mode itself, then an improvement of what there is
            energy, work = pgd.sweep()
            u = full_vector(pgd.balanced())
            # energies are sums of some 1e2 products a mode, on the scale of the energy of the solution
            assert abs(energy - u @ A @ u) <= 1e4 * EPS * size
            assert abs(work - b @ u) <= 1e4 * EPS * size
            assert energy - 2 * work <= last + RIDGED * size
            last = energy - 2 * work
            if update:
                assert abs(energy - work) <= RIDGED * size
        assert pgd.rank == pgd.balanced()[0].shape[1] == k + 1
    assert last < 0.0
    assert -last <= size * (1 + RIDGED)


@dev_size
@given(st.lists(st.sampled_from(sorted(AXES)), min_size=2, max_size=3), st.integers(0, 100))
def test_converged_mode_is_a_galerkin_solution_beside_the_earlier_ones(kinds, seed):
    check_orthogonality(kinds, seed)


def check_orthogonality(kinds, seed):
    matrix, load, _ = system_of(galerkin(kinds))
    A, b = dense(matrix), load.dense()
    pgd = GreedyEnrichment(matrix, load, seed=seed, passes=400, change=1e-15)
    for _ in range(3):
        pgd.grow(1)
        earlier = pgd.balanced()
        pgd.sweep()
        factors = pgd.balanced()
        for before, after in zip(earlier, factors, strict=False):
            np.testing.assert_array_equal(after[:, :-1], before)  # plain enrichment touches no earlier mode
        residual = b - A @ full_vector(factors)
        mode = [f[:, -1] for f in factors]
        for axis, n in enumerate(matrix.space.shape):
            parts = [c / np.linalg.norm(c) for c in mode]
            tests = []
            for k in range(n):
                parts[axis] = np.eye(n)[k]
                tests.append(full_vector([p[:, None] for p in parts]))
            gradient = np.abs(np.array(tests) @ residual).max()
            # the last axis was solved for last; the others are at the fixed point, whose functional is known to 1e-15
            room = 1e-10 if axis == len(mode) - 1 else 1e-5
            assert gradient <= room * np.abs(b).max()


@pytest.mark.parametrize("update", [False, True])
def test_solution_of_rank_one_in_one_enrichment_and_nothing_after(update):
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4, zero="both"), y=sn.BSpline((0, 1), cells=4, zero="both"))
    problem = sn.LeastSquares(V.d.x**2 @ V.d.y**2, source=4)
    matrix, load, _ = system_of(problem)
    pgd = GreedyEnrichment(matrix, load, update=update)
    pgd.grow(1)
    pgd.sweep()
    exact = np.linalg.solve(dense(matrix), load.dense())
    room = 64 * EPS * np.linalg.cond(dense(matrix))
    assert np.linalg.norm(full_vector(pgd.balanced()) - exact) <= room * np.linalg.norm(exact)
    pgd.grow(2)
    pgd.sweep()
    assert pgd.rank == 3
    assert np.linalg.norm(full_vector(pgd.balanced()) - exact) <= 10 * room * np.linalg.norm(exact)


def test_one_axis_is_solved_by_the_first_mode():
    matrix, load, _ = system_of(galerkin(["spline"]))
    pgd = GreedyEnrichment(matrix, load)
    pgd.grow(1)
    energy, work = pgd.sweep()
    exact = np.linalg.solve(dense(matrix), load.dense())
    np.testing.assert_allclose(full_vector(pgd.balanced()), exact, rtol=0, atol=RIDGED * np.abs(exact).max())
    assert energy == pytest.approx(work, rel=RIDGED)


@pytest.mark.parametrize("update", [False, True])
def test_without_a_load_there_are_modes_of_size_zero(update):
    matrix, load, _ = system_of(poisson(3))
    nothing = dataclasses.replace(load, vectors=tuple(0.0 * v for v in load.vectors))
    pgd = GreedyEnrichment(matrix, nothing, update=update)
    for _ in range(2):
        pgd.grow(1)
        assert pgd.sweep() == (0.0, 0.0)
        assert pgd.sweep() == (0.0, 0.0)
    assert not full_vector(pgd.balanced()).any()


def test_error_falls_with_the_modes_and_updates_make_it_fall_faster():
    matrix, load, _ = system_of(poisson(3))
    exact = np.linalg.solve(dense(matrix), load.dense())
    errors = {}
    for update in (False, True):
        pgd = GreedyEnrichment(matrix, load, update=update)
        errors[update] = []
        for _ in range(8):
            pgd.grow(1)
            energy, work = pgd.sweep()
            errors[update].append(math.sqrt(max(1.0 + (energy - 2 * work) / (load.dense() @ exact), 0.0)))
    for falling in errors.values():
        assert all(a > b for a, b in itertools.pairwise(falling))
    assert errors[True][-1] < 0.3 * errors[False][-1] < 0.3 * 0.05
    assert errors[True][0] == pytest.approx(errors[False][0], rel=1e-3)


def test_several_modes_at_once_are_the_same_modes():
    matrix, load, _ = system_of(poisson(3))
    one, several = GreedyEnrichment(matrix, load, seed=3), GreedyEnrichment(matrix, load, seed=3)
    assert one.sweep() == (0.0, 0.0)
    for _ in range(3):
        one.grow(1)
        one.sweep()
    several.grow(3)
    assert several.rank == 3
    assert several.balanced() == []
    several.sweep()
    for a, b in zip(one.balanced(), several.balanced(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("update", [False, True])
def test_it_goes_on_from_given_modes(update):
    matrix, load, lift = system_of(poisson(3))
    A, b = dense(matrix), load.dense()
    factors = [0.1 * f for f in random_factors(lift.space, 3, 0)]
    u = full_vector(factors)
    pgd = GreedyEnrichment(matrix, load, update=update)
    pgd.start(factors)
    assert pgd.rank == 3
    last = float(u @ A @ u - 2 * b @ u)
    for grown in (0, 1, 0):
        pgd.grow(grown)
        energy, work = pgd.sweep()
        u = full_vector(pgd.balanced())
        size = abs(last) + float(u @ A @ u)
        assert abs(energy - u @ A @ u) <= 1e4 * EPS * size
        assert energy - 2 * work <= last + RIDGED * size
        last = energy - 2 * work
    assert pgd.rank == 4


@pytest.mark.parametrize("update", [False, True])
def test_same_on_every_namespace(xp, update):
    matrix, load, _ = system_of(poisson(3))
    results = []
    for target in ((np, None, np.float64), (xp.xp, xp.device, xp.dtype)):
        pgd = GreedyEnrichment(matrix.to(*target), load.to(*target), update=update, passes=4, change=0.0)
        pgd.grow(3)
        energy, work = pgd.sweep()
        results.append((full_vector([to_host(f).astype(np.float64) for f in pgd.balanced()]), energy, work))
    assert pgd.balanced()[0].dtype == xp.dtype
    (u, energy, work), (v, other, second) = results
    # a mode that is not converged carries the round-off of its start through the passes and into the next modes
    room = 1e4 * xp.eps
    assert np.linalg.norm(u - v) <= room * np.linalg.norm(u)
    assert (other, second) == pytest.approx((energy, work), rel=room)


@pytest.mark.parametrize("options", [{"passes": 0}, {"change": -1.0}, {"change": math.nan}])
def test_bad_options_are_refused(options):
    matrix, load, _ = system_of(poisson(2))
    with pytest.raises(ValueError, match=r"`passes` is .* and `change` .*, expected an integer >= 1 and a number >= 0"):
        GreedyEnrichment(matrix, load, **options)


def counted(monkeypatch, run):
    """Entries that go through Gram matrices and environments while `run` works: what its cost is proportional to."""
    total = []

    def watch(owner, name, size):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda self, *a: total.append(size(self, *a)) or original(self, *a))

    watch(AxisMatrices, "gram", lambda self, test, applied: test.shape[1] * math.prod(applied.shape))
    for name in ("left", "right"):
        watch(Transitions, name, lambda self, env, values: self.letter.size * math.prod(values.shape[1:]))
    watch(Transitions, "around", lambda self, left, right: self.letter.size * math.prod(left.shape[1:]))
    run()
    monkeypatch.undo()
    return sum(total)


def slope(sizes, costs):
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def test_cost_of_an_enrichment_is_linear_in_the_modes_and_in_the_axes(monkeypatch):
    def enrichment(d, modes):
        matrix, load, lift = system_of(poisson(d))
        pgd = GreedyEnrichment(matrix, load, passes=2, change=0.0)
        pgd.start(random_factors(lift.space, modes, 0))
        pgd.grow(1)
        return counted(monkeypatch, pgd.sweep)

    ranks, axes = (8, 16, 32, 64), (4, 8, 16, 32)
    # the mode itself does not grow with the others, and the ends of the chain have fewer moves than its inside
    assert 0.8 <= slope(ranks, [enrichment(3, r) for r in ranks]) <= 1.0
    assert slope(axes, [enrichment(d, 8) for d in axes]) <= 1.15


def test_a_sweep_of_als_would_not_be_linear_in_the_modes(monkeypatch):
    # the same count; shows that the slope above can fail
    def sweep(rank):
        matrix, load, _ = system_of(poisson(3))
        iteration = AlternatingLeastSquares(matrix, load)
        iteration.grow(rank)
        return counted(monkeypatch, iteration.sweep)

    assert slope((8, 16, 32), [sweep(r) for r in (8, 16, 32)]) > 1.9
