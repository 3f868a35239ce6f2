"""Quantities of interest: the true value lies within the bound."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solver_support import Grid, on_grid
from test_certificates import POINTS, coercive, offered, square

import sepnet as sn
from sepnet.models import vsna
from sepnet.solvers import goal as module
from sepnet.solvers.goal import goal


def weight(V):
    """A smooth functional: twice the last coordinate plus one, times a bump."""
    return (1 + 2 * V.coordinates[-1]) * sn.apply(lambda s: np.exp(-4 * (s - 0.3) ** 2), V.coordinates[0])


def integral(V, g, u, **face):
    grid = Grid.of(V, POINTS + 3, **face)
    points = np.stack([c.ravel() for c in grid.coordinates], axis=1)
    return float(np.sum(grid.weights.ravel() * g(points, V.names) * u(points, V.names)))


def check_bracket(case, how, seed, on_face):
    problem, *_, u = case
    V = problem.space
    free = [n for n in "xyz" if n in V.names and V.axes[n].zero in (None, "left")]
    g = weight(V)
    functional, face = g, {}
    if on_face and free:
        face = {free[0]: 1.0}
        functional = g + sn.load_on(g, V.identity.at(**face))
    exact = integral(V, g, u) + (integral(V, g, u, **face) if face else 0.0)
    v = offered(problem, how, seed)
    found = goal(problem, v, functional, rank=3)
    assert found.bound.finite, found.bound.derivation
    assert (found.bound.norm, found.bound.against) == ("functional", "exact")
    # the exact value is a Gauss sum
    assert abs(found.value - exact) <= found.bound.value * (1 + 1e-6) + 1e-9 * (1 + abs(exact))
    return abs(found.value - exact), found.bound.value


@settings(max_examples=min(6, settings().max_examples))
@given(coercive(dims=2), st.sampled_from(["best", "zero", "starved", "noise"]), st.integers(0, 99), st.booleans())
def test_the_true_value_is_bracketed(case, how, seed, on_face):
    check_bracket(case, how, seed, on_face)


def poisson(V, source=1):
    return sn.Galerkin(sn.inner(V.d.x, V.d.x) + sn.inner(V.d.y, V.d.y), source=source)


def test_the_mean_of_poisson_is_known_to_the_square_of_the_energy_error():
    V = square(8)
    u = sn.solve(poisson(V), rank=5).u
    found = goal(poisson(V), u, 1)
    # the mean of the solution of -Laplace u = 1 on the unit square: a classical constant (St Venant's torsion, /4)
    exact = 0.03514425373878841
    assert abs(found.value - exact) <= found.bound.value <= 3 * abs(found.value - exact)
    assert found.bound.value <= 1e-5 * exact


def test_boundary_data_and_a_face_where_the_value_is_given():
    V = square(x=None)
    x, y = V.coordinates
    problem = sn.Galerkin(poisson(V).form, source=2 + 0 * x, boundary={"x": (y * (1 - y), y * (1 - y))})
    u = sn.solve(problem, rank=3).u
    found = goal(problem, u, sn.load_on(6, V.identity.at(x=1)))
    assert found.value == pytest.approx(1.0, abs=1e-12)
    # u = y (1 - y): the face value is given, the adjoint problem has no load, round-off remains
    assert found.bound.value <= 1e-10


@pytest.mark.parametrize("rank", [3, 8])
def test_least_squares(rank):
    case = vsna.heat({"x": 10, "t": 5, "kappa": 3})
    u = sn.solve(case.problem, rank=rank).u
    g = weight(case.space)
    grid = Grid.of(u.space, 8)
    points = np.stack([c.ravel() for c in grid.coordinates], axis=1)
    exact = float(np.sum(grid.weights.ravel() * g(points, case.space.names) * case.reference(points)))
    found = goal(case.problem, u, g)
    assert abs(found.value - exact) <= found.bound.value
    assert found.value == pytest.approx(
        grid.inner(g(points, u.space.names).reshape(grid.weights.shape), on_grid(u, grid))
    )


def test_a_train():
    V = square()
    u = sn.solve(poisson(V), rank=4).u
    one, other = goal(poisson(V), u, 1, rank=4), goal(poisson(V), sn.TensorTrain.from_cp(u), 1, rank=4)
    assert other.value == pytest.approx(one.value, rel=1e-12)
    assert other.bound.value == pytest.approx(one.bound.value, rel=0.1)


def test_reasons():
    V = square()
    u = sn.solve(poisson(V), rank=3).u
    case = vsna.heat({"x": 6, "t": 3, "kappa": 2})
    w = sn.solve(case.problem, rank=3).u
    unknown = sn.LeastSquares(case.problem.operator, initial=case.problem.initial)
    cases = [
        (poisson(V), u, sn.load_on(1, V.d.x), "tested with a derivative"),
        (case.problem, w, sn.load_on(1, case.space.identity.at(t=1)), "a derivative or a face"),
        (unknown, w, 1, "no stability constant"),
    ]
    for problem, function, functional, reason in cases:
        found = goal(problem, function, functional)
        assert found.bound.value == math.inf
        assert reason in found.bound.derivation
        assert math.isfinite(found.value)
        assert "no bound" in repr(found)


def test_bad_functionals():
    V = square()
    u = sn.solve(poisson(V), rank=3).u
    with pytest.raises(TypeError, match="`functional`"):
        goal(poisson(V), u, "mean")
    with pytest.raises(ValueError, match="names the axis 'w'"):
        goal(poisson(V), u, sn.product(w=np.sin))


def test_without_the_residual_of_u_the_bracket_breaks(monkeypatch):
    def check():
        V = square(4, 1)
        # far from the Galerkin solution: the energy bounds alone are too small only if the adjoint is well resolved
        u = 0.5 * sn.solve(poisson(V), rank=4).u
        found = goal(poisson(V), u, 1, rank=4)
        assert abs(found.value - 0.03514425373878841) <= found.bound.value

    check()
    monkeypatch.setattr(module, "_residual", lambda problem, v, z: (0.0, 0.0))
    with pytest.raises(AssertionError):
        check()
