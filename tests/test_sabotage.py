"""The suite can fail: each way of breaking the library turns the check red that the real tests use."""

import dataclasses

import numpy as np
import pytest
from solver_support import (
    Grid,
    check_als_steps,
    check_automaton,
    check_form,
    check_symmetric_pair,
    dense_form,
    matrix_of,
    on_grid,
    system_of,
)
from test_als import galerkin
from test_assembly import check_data_on_other_breaks
from test_automaton import squared_laplacian
from test_axis_systems import check_numpy
from test_convergence import GALERKIN, check, study
from test_dual_norm import check_norm
from test_guarantees import check_cea, space
from test_solve import heat, recomputed

import sepnet as sn
from sepnet.backends import dispatch
from sepnet.bases.basis import gauss_rule
from sepnet.solvers import als, assembly, automaton, axis_matrices, axis_systems, dual_norm, lifting, system
from sepnet.solvers.kronecker_sum import KroneckerSum
from sepnet.terms import Term


def plane():
    return sn.TensorSpace(
        a=sn.BSpline((0, 2), cells=3, degree=2, zero="left"), b=sn.BSpline(breaks=(0, 0.1, 0.7, 2), degree=3)
    )


def form_on(V):
    a, b = V.coordinates
    trial, test = (1 + a * b) * V.d.a + V.d.b, V.identity + b * V.d.b
    return trial, test


def form_check():
    trial, test = form_on(plane())
    check_form(sn.inner(trial, test), dense_form(trial, test, 12))


def rate_check():
    meshes, caps = GALERKIN[1, 3]
    errors, kappa = study("galerkin", 1, meshes, 3, method="full")
    check("galerkin", 3, meshes, errors, kappa, caps)


def automaton_check():
    index, letters = squared_laplacian(4)
    rng = np.random.default_rng(0)
    values = [rng.standard_normal((n, 2, 2)) for n in letters]
    check_automaton(index, np.ones(len(index)), automaton.build_automaton(index, np.ones(len(index)), letters), values)


def step_check():
    matrix, load, _ = system_of(galerkin(("spline", "free")))
    check_als_steps(matrix, load, rank=2, sweeps=2)


def symmetry_check():
    V = plane()
    check_symmetric_pair(matrix_of(sn.inner(V.d.a, V.d.a) + sn.inner(V.d.b, V.d.b)), 0)


def residual_check():
    problem = heat()
    solution = sn.solve(problem, rank=6)
    assert solution.residual == pytest.approx(recomputed(problem, solution.u, 1e-2), rel=1e-8)


def solution_check():
    problem = heat()
    u = sn.solve(problem, method="full", tol=1.0).u
    lift = lifting.make_lift(problem, 0.1)
    lowest = recomputed(problem, u, 1.0)
    rng = np.random.default_rng(0)
    for _ in range(5):
        # the minimiser: every change, of either sign, that vanishes where data are given makes the residual larger
        change = sn.CP(lift.space, [rng.standard_normal((n, 1)) for n in lift.space.shape])
        for step in (1e-4, -1e-4):
            assert recomputed(problem, u + step * change, 1.0) >= lowest


def cea_check():
    V = space(("cubic",), 4)
    form = sn.inner((1 + V.coordinates[0]) * V.d.x, V.d.x)
    check_cea(V, form, 1.0, 2.0, True)


def lift_check():
    problem = heat()
    u = sn.solve(problem, rank=6).u
    grid = Grid.of(u.space, 5, t=0.0)
    x = grid.coordinates[0]
    start = np.sin(np.pi * x) + 0.3 * np.sin(3 * np.pi * x)
    # data_error is below tol / 10 = 1e-3
    assert grid.norm(on_grid(u, grid) - start) <= 1e-3 * grid.norm(start)


CHECKS = [
    form_check,
    rate_check,
    automaton_check,
    step_check,
    symmetry_check,
    residual_check,
    solution_check,
    cea_check,
    lift_check,
]


@pytest.mark.parametrize("check", CHECKS)
def test_sound_library_passes(check):
    check()


def red(check):
    """The check fails: by its assertion, or because the broken library refuses to go on."""
    with pytest.raises((AssertionError, ArithmeticError, ValueError, LookupError)):
        check()


# --------------------------------------------------------------------------------------------------- wrong quadrature


@pytest.mark.parametrize("check", [form_check, rate_check, cea_check])
def test_too_few_quadrature_points(monkeypatch, check):
    # rate_check needs two points a cell less: an under-integrated cubic converges at 3.5 instead of 4
    monkeypatch.setattr(assembly, "gauss_rule", lambda breaks, count: gauss_rule(breaks, 2))
    red(check)


def test_a_wrong_weight(monkeypatch):
    def rule(breaks, count):
        points, weights = gauss_rule(breaks, count)
        return type(gauss_rule(breaks, count))(points, weights * (1 + 1e-6))

    monkeypatch.setattr(assembly, "gauss_rule", rule)
    red(form_check)


def test_breaks_of_the_data_forgotten(monkeypatch):
    check_data_on_other_breaks(0, 2)
    monkeypatch.setattr(assembly, "join_breaks", lambda breaks: breaks[0])
    red(lambda: check_data_on_other_breaks(0, 2))


# ------------------------------------------------------------------------------------------------- dropped and flipped


def broken_pairs(change):
    original = assembly.assemble_matrices

    def broken(space, pairs, axes):
        return original(space, change(list(pairs)), axes)

    return broken


def drop(pairs):
    return pairs[:-1] if len(pairs) > 1 else pairs


def flip(pairs):
    a, b = pairs[-1]
    return [*pairs[:-1], (Term(-a.weight, a.factors), b)]


@pytest.mark.parametrize("change", [drop, flip])
def test_dropped_term_and_flipped_sign(monkeypatch, change):
    broken = broken_pairs(change)
    monkeypatch.setattr(assembly, "assemble_matrices", broken)
    monkeypatch.setattr(system, "assemble_matrices", broken)
    red(form_check)
    red(solution_check)


@pytest.mark.parametrize("change", ["drop", "flip"])
def test_dropped_or_flipped_load(monkeypatch, change):
    original = system.assemble_loads

    def broken(space, loads, axes):
        (t, s), *rest = loads
        return original(space, rest if change == "drop" and rest else [(Term(-t.weight, t.factors), s), *rest], axes)

    monkeypatch.setattr(system, "assemble_loads", broken)
    red(rate_check)


def test_rows_and_columns_exchanged(monkeypatch):
    original = assembly.AxisAssembler.matrix
    monkeypatch.setattr(assembly.AxisAssembler, "matrix", lambda self, trial, test: original(self, test, trial))
    red(form_check)


# --------------------------------------------------------------------------------------------------- wrong transition


@pytest.mark.parametrize("what", ["source", "letter", "target", "weight"])
def test_wrong_transition(monkeypatch, what):
    original = automaton._transitions

    def broken(moves, before, letters, after):
        if len(moves) > 1:
            s, j, t, w = moves[0]
            moves = [
                {
                    "source": ((s + 1) % before, j, t, w), "letter": (s, (j + 1) % letters, t, w),
                    "target": (s, j, (t + 1) % after, w), "weight": (s, j, t, 2 * w),
                }[what],
                *moves[1:],
            ]  # fmt: skip
        return original(moves, before, letters, after)

    monkeypatch.setattr(automaton, "_transitions", broken)
    red(automaton_check)


def test_lost_branch(monkeypatch):
    original = automaton._transitions
    monkeypatch.setattr(
        automaton,
        "_transitions",
        lambda moves, *sizes: original(moves[:-1] if len(moves) > 1 else moves, *sizes),
    )
    red(automaton_check)
    red(form_check)


# -------------------------------------------------------------------------------------------------------- the ALS step


def test_a_large_ridge(monkeypatch):
    # a regularisation that is no round-off, and no refinement to take it away: a(u, u) = f(u) no longer holds
    monkeypatch.setattr(axis_systems, "RIDGE", 1e8)
    step_check()
    monkeypatch.setattr(axis_systems, "REFINEMENTS", 0)
    red(step_check)


def test_band_filled_wrongly(monkeypatch):
    original = dispatch.fill_band

    def broken(bands, weights, **options):
        band = original(bands, weights, **options)
        band[1, 0] *= 1.01
        return band

    monkeypatch.setattr(dispatch, "fill_band", broken)
    red(step_check)


def test_a_stale_environment(monkeypatch):
    # the Gram matrices of an axis are not renewed after its step
    original = als.AlternatingLeastSquares._measure
    seen = set()

    def broken(self, i):
        if (id(self), i, self.rank) not in seen:
            seen.add((id(self), i, self.rank))
            original(self, i)

    monkeypatch.setattr(als.AlternatingLeastSquares, "_measure", broken)
    red(step_check)


def test_half_a_matrix(monkeypatch):
    # the upper band is forgotten, as if only the lower half were stored: no longer symmetric
    original = assembly.AxisAssembler.matrix

    def broken(self, trial, test):
        import scipy.sparse

        return scipy.sparse.csr_array(scipy.sparse.tril(original(self, trial, test)))

    monkeypatch.setattr(assembly.AxisAssembler, "matrix", broken)
    red(symmetry_check)
    red(form_check)


@pytest.mark.parametrize("kind", ["banded", "cyclic", "legendre"])
def test_axis_systems_with_a_large_ridge(monkeypatch, kind):
    check_numpy(kind, 3, 0)
    monkeypatch.setattr(axis_systems, "RIDGE", 1e4)
    monkeypatch.setattr(axis_systems, "REFINEMENTS", 0)
    red(lambda: check_numpy(kind, 3, 0))


def test_cyclic_corner_forgotten(monkeypatch):
    original = axis_matrices.AxisMatrices.last_rows
    monkeypatch.setattr(axis_matrices.AxisMatrices, "last_rows", lambda self: 0.99 * original(self))
    red(lambda: check_numpy("cyclic", 2, 0))


# ------------------------------------------------------------------------------------------------------- the dual norm


@pytest.mark.parametrize("what", ["step", "eigenvalues", "transitions"])
def test_wrong_dual_norm(monkeypatch, what):
    case = (("spline", "left"), 1.0, 0, 2)
    check_norm(*case)
    if what == "step":
        monkeypatch.setattr(dual_norm, "CLOSE", 0.1)  # an exponential sum too coarse: 10 % instead of 0.1 %
    elif what == "eigenvalues":
        original = KroneckerSum.from_form

        def exchanged(form):
            right = original(form)
            return dataclasses.replace(right, vectors=right.vectors[::-1], values=right.values[::-1])

        monkeypatch.setattr(KroneckerSum, "from_form", exchanged)
        case = (("spline", "spline"), 1.0, 0, 2)  # two axes of one size, whose diffusions are exchanged
    else:
        pairs = dual_norm._Pairs
        monkeypatch.setattr(dual_norm, "_Pairs", lambda a, b, *rest: pairs(a, a if b is not a else b, *rest))
    red(lambda: check_norm(*case))


# ------------------------------------------------------------------------------------------------------------ the lift


def test_wrong_lift(monkeypatch):
    original = lifting._project

    def broken(space, data, tol):
        lift = original(space, data, tol)
        return dataclasses.replace(lift, function=lift.function * 1.01)

    monkeypatch.setattr(lifting, "_project", broken)
    red(lift_check)


def test_lift_not_subtracted(monkeypatch):
    monkeypatch.setattr(system, "applied", lambda operator, function: sn.coefficients.Coefficient())
    red(residual_check)
