"""The matrices of the calculus: breaks that join, roots of mass matrices, fine and graded meshes."""

import tracemalloc

import numpy as np
import pytest
from function_support import random_cp
from hypothesis import given
from hypothesis import strategies as st

import sepnet as sn
from sepnet.functions import axis_maps

GRADED = sn.BSpline(breaks=[0.0, *(2.0**-k for k in range(45, -1, -1))])


def test_close_breaks_of_one_basis_are_kept():
    assert np.array_equal(axis_maps.join_breaks([GRADED.breaks]), GRADED.breaks)
    assert np.array_equal(axis_maps.join_breaks([GRADED.breaks, np.array([0.0, 1.0])]), GRADED.breaks)
    points, weights = axis_maps.rule([GRADED])
    exact = 2.0**-45 / 7  # of (1 - x / h)**6, the square of the first function
    assert weights @ GRADED.tabulate(points).toarray()[:, 0] ** 2 == pytest.approx(exact, rel=1e-13)
    first = sn.CP(sn.TensorSpace(x=GRADED), [np.eye(GRADED.size)[:, :1]])
    assert first.norm() == pytest.approx(np.sqrt(exact), rel=1e-13)
    assert first.inner(first) == pytest.approx(exact, rel=1e-13)


def test_breaks_of_two_bases_join_as_their_sum_does():
    thirds, ninths = np.linspace(0, 1, 4), sn.BSpline((0, 1), cells=3, degree=1).refine().refine().breaks
    twelfths = np.linspace(0, 1, 13) * (1 + 2e-16)
    twelfths[-1] = 1.0
    assert axis_maps.join_breaks([thirds, ninths, twelfths]).size == 13
    assert axis_maps.join_breaks([np.array([0, 0.5, 1.0]), np.array([0, 0.5 + 1e-13, 1.0])]).size == 4
    cut = axis_maps.join_breaks([np.array([0, 0.5, 1.0]), np.array([-1, 0.0, 0.25, 1 + 1e-16, 2])])
    assert cut.tolist() == [0, 0.25, 0.5, 1]
    with_far_away = axis_maps.join_breaks([np.array([0, 1.0]), np.array([2, 3.0])])
    assert with_far_away.tolist() == [0, 1]


@given(st.integers(1, 40), st.integers(1, 40))
def test_joined_breaks_are_those_of_the_sum_basis(m, n):
    a, b = sn.BSpline((-1, 2), cells=m), sn.BSpline((-1, 2), cells=n, degree=2)
    assert np.array_equal(axis_maps.join_breaks([a.breaks, b.breaks]), a.sum_basis(b).breaks)


BASES = [
    sn.BSpline((0, 1), cells=9, degree=p, zero=zero) for p, zero in [(0, None), (1, "both"), (3, "left"), (8, None)]
] + [GRADED, sn.BSpline((0, 1), cells=12, degree=5, periodic=True), sn.BSpline((0, 1), cells=6, degree=4, continuity=0)]


@pytest.mark.parametrize("basis", BASES, ids=repr)
def test_roots_are_those_of_the_orthogonal_factorisation(basis, monkeypatch):
    """Cholesky loses the condition number of the scaled mass matrix, at most 4**8 in units of round-off."""
    points, weights = axis_maps.rule([basis])
    exact = np.linalg.qr(basis.tabulate(points).toarray() * np.sqrt(weights)[:, None])[1]
    exact *= np.sign(np.diag(exact))[:, None]

    def refuse(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr(axis_maps.np.linalg, "qr", refuse)  # O(n**3) with a large constant
    axis_maps.mass_root.cache_clear()
    root = axis_maps.mass_root(basis)
    # columns have very different sizes on graded breaks
    assert np.abs(root - exact).max(axis=0) == pytest.approx(0, abs=4**8 * 2.3e-16 * np.abs(exact).max())
    assert np.abs((root - exact) / np.sqrt(np.diag(axis_maps.mass(basis)))).max() <= 4**8 * 2.3e-16
    inverse = axis_maps.mass_root_inverse(basis)
    assert np.abs(inverse @ root - np.eye(basis.size)).max() < 4**8 * 2.3e-16
    here, there = axis_maps.joint_roots(basis, basis.refine())
    u = np.random.default_rng(0).uniform(-1, 1, basis.size)
    assert np.linalg.norm(here @ u) == pytest.approx(np.linalg.norm(root @ u), rel=1e-10)
    assert np.linalg.norm(here @ u - there @ (basis.refine().embed(basis) @ u)) < 1e-10 * np.linalg.norm(root @ u)


def test_fine_meshes(monkeypatch):
    """Norms, projections and products on 1600 cells have no dense factorisation."""
    fine, other = sn.BSpline((0, 1), cells=1600), sn.BSpline((0, 1), cells=40)
    u = random_cp(sn.TensorSpace(x=fine), 2)

    def refuse(*args, **kwargs):
        raise AssertionError

    for name in ("qr", "cholesky", "inv"):
        monkeypatch.setattr(axis_maps.scipy.linalg, name, refuse)
    monkeypatch.setattr(axis_maps, "collocation_inverse", refuse)
    assert u.norm() ** 2 == pytest.approx(u.inner(u), rel=1e-12)
    coarse = u.project(sn.TensorSpace(x=other)).function
    assert coarse.inner(u) == pytest.approx(coarse.inner(coarse), rel=1e-10)
    assert (u * u).integrate() == pytest.approx(u.inner(u), rel=1e-11)


def test_many_points_on_many_cells_take_little_memory(xp):
    u = random_cp(sn.TensorSpace(x=sn.BSpline((0, 1), cells=1000)), 2, backend=xp)
    u.on_grid(x=3)
    tracemalloc.start()
    values = u.on_grid(x=50_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # a dense basis matrix takes 400 MB
    assert values.shape == (50_000,)
    middle = xp.asarray([[0.25]])
    assert float(u.on_grid(x=xp.asarray([0.25]))[0]) == pytest.approx(float(u(middle)[0]), rel=20 * xp.eps, abs=xp.eps)


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_a_difference_of_equals_is_zero(name):
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=5), y=sn.BSpline((0, 2), cells=4), z=sn.Legendre((0, 1), 3))
    u = random_cp(V, 2).to(dtype=name)
    refined = u.project(V.replace(x=V.axes["x"].refine())).function
    for zero in (u - u, u - refined, 1e-6 * u - 1e-6 * u):
        assert zero.compress().rank == 0
        assert zero.project(V.replace(x=sn.BSpline((0, 1), cells=2))).error == 0.0
    small = random_cp(V, 1, seed=3).to(dtype=name) * (1e-10 if name == "float64" else 1e-2)
    assert (u + small - u).compress(tol=0.1).rank > 0
