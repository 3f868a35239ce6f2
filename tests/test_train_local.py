"""The system of one core of a tensor train: dense projections, and both ways of solving."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solver_support import EPS, dense, matrix_of, ratio
from support import Backend, dev_size
from train_support import AXES, Table, both, embedding, galerkin, host, left_frame, random_cores, vector

import sepnet as sn
from sepnet.solvers import axis_matrices, train_local
from sepnet.solvers.automaton import Transitions
from sepnet.solvers.axis_matrices import AxisMatrices
from sepnet.solvers.axis_systems import RIDGE, NotPositiveDefiniteError
from sepnet.solvers.train_local import ACCURACY, AxisStep, CoreSystem, carry, close, core_load

KINDS = st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=4)
NUMPY = Backend("numpy", np, np.float64)


def ranks_of(rng, kinds):
    return [int(r) for r in rng.integers(1, 4, len(kinds) - 1)]


# ------------------------------------------------------------------------------------------------------ projections


@dev_size
@given(KINDS, st.integers(0, 2**31), st.booleans())
def test_carried_and_closed_is_the_dense_projection(xp, kinds, seed, rows):
    # `rows`: the products by gathered rows, which large axes take
    with mock.patch.object(axis_matrices, "SMALL", 0 if rows else 256):
        check_projection(xp, kinds, seed)


def check_projection(xp, kinds, seed):
    rng = np.random.default_rng(seed)
    table = Table(kinds, seed, xp)
    u, w = (random_cores(rng, table.sizes, ranks_of(rng, kinds)) for _ in range(2))
    trial, test = ([xp.asarray(c) for c in cores] for cores in (u, w))
    left, right = table.environments(xp, test, trial)
    # a sum of products of some 1e2 numbers each, with an error of eps each, on the scale of the magnitudes
    tol = 1e3 * xp.eps
    image, size = table.matrix @ vector(u), table.size @ vector([np.abs(c) for c in u])
    for i in range(len(kinds)):
        ours = close(carry(table.steps[i], left[i], trial[i]), right[i + 1])
        frame = embedding(w, i)
        scale = (np.abs(frame).T @ size).max()
        assert ours.dtype == xp.dtype
        np.testing.assert_allclose(host(ours).ravel(), frame.T @ image, rtol=0, atol=tol * scale)
    total = vector(w) @ image
    for env in (left[-1], right[0]):
        assert abs(float(env[0, 0, 0]) - total) <= tol * (vector([np.abs(c) for c in w]) @ size)


@dev_size
@given(KINDS, st.integers(0, 2**31))
def test_load_of_a_core_is_the_dense_projection(xp, kinds, seed):
    rng = np.random.default_rng(seed)
    table = Table(kinds, seed, xp)
    w = random_cores(rng, table.sizes, ranks_of(rng, kinds))
    left, right = table.load_environments(xp, [xp.asarray(c) for c in w])
    tol = 1e3 * xp.eps
    for i in range(len(kinds)):
        ours = core_load(table.vectors[i], table.moves[i], left[i], right[i + 1])
        frame = embedding(w, i)
        scale = (np.abs(frame).T @ table.load_size).max()
        np.testing.assert_allclose(host(ours).ravel(), frame.T @ table.load, rtol=0, atol=tol * scale)
    for env in (left[-1], right[0]):
        size = vector([np.abs(c) for c in w]) @ table.load_size
        assert abs(float(env[0, 0]) - vector(w) @ table.load) <= tol * size


@dev_size
@given(KINDS, st.integers(0, 2**31))
def test_system_of_a_core_is_the_dense_projection(xp, kinds, seed):
    rng = np.random.default_rng(seed)
    table = Table(kinds, seed, xp)
    u = random_cores(rng, table.sizes, ranks_of(rng, kinds))
    cores = [xp.asarray(c) for c in u]
    left, right = table.environments(xp, cores, cores)
    for i, core in enumerate(u):
        frame = embedding(u, i)
        H, size = frame.T @ table.matrix @ frame, np.abs(frame).T @ table.size @ np.abs(frame)
        tol = 1e3 * xp.eps * size.max()
        system = CoreSystem(table.steps[i], left[i], right[i + 1])
        x = rng.standard_normal(core.shape)
        # one more sum, over the entries of the core
        norm = tol * np.abs(x).sum()
        np.testing.assert_allclose(host(system.apply(xp.asarray(x))).ravel(), H @ x.ravel(), rtol=0, atol=norm)
        assert abs(system.energy(xp.asarray(x)) - x.ravel() @ H @ x.ravel()) <= norm * np.abs(x).sum()
        a, _, c = core.shape
        blocks = host(system._weights()).reshape(-1, a, c, a, c)
        stacks = host(table.steps[i].axis.dense())
        # unknowns (n, a, c) there, (a, n, c) here
        ours = np.einsum("jmn,jacbd->amcbnd", stacks, blocks).reshape(H.shape)
        np.testing.assert_allclose(ours, H, rtol=0, atol=tol)


# ------------------------------------------------------------------------------------------------------- solutions


class Local:
    """The system of core i of a train with orthonormal frames, for a symmetric positive definite form."""

    def __init__(self, problem_or_form, ranks, seed=0, backend=NUMPY, i=1):
        rng = np.random.default_rng(seed)
        form = getattr(problem_or_form, "form", problem_or_form)
        matrix = matrix_of(form)
        moved = matrix.to(backend.xp, backend.device, backend.dtype)
        steps = [AxisStep(a, m) for a, m in zip(moved.axes, moved.automaton.steps, strict=True)]
        sizes = [a.size for a in matrix.axes]
        cores = random_cores(rng, sizes, ranks)
        for k in range(len(cores)):
            a, n, c = cores[k].shape
            if k < i:
                cores[k] = np.linalg.qr(cores[k].reshape(a * n, c))[0].reshape(a, n, c)
            elif k > i:
                cores[k] = np.linalg.qr(cores[k].reshape(a, n * c).T)[0].T.reshape(a, n, c)
        here = [backend.asarray(c) for c in cores]
        left, right = both(steps, here, here, backend.asarray(np.ones((1, 1, 1))))
        self.system = CoreSystem(steps[i], left[i], right[i + 1])
        frame = embedding(cores, i)
        self.H = frame.T @ dense(matrix) @ frame
        self.shape = cores[i].shape
        self.load, self.guess = rng.standard_normal((2, *self.shape))
        self.exact = np.linalg.solve(self.H, self.load.ravel())

    def distance(self, core):
        e = core.ravel() - self.exact
        return float(np.sqrt(e @ self.H @ e))


# of any kind in the middle; two functions and a rank of two on either side fit all of them
MIDDLES = sorted(set(AXES))


@pytest.mark.parametrize("kind", MIDDLES)
def test_direct_solution_is_the_dense_one(xp, kind):
    local = Local(galerkin(["spline", kind, "legendre"]), [2, 3], backend=xp)
    ours = host(local.system.solve(xp.asarray(local.load), xp.asarray(local.guess)))
    # as for one ALS step (test_axis_systems): what LAPACK allows, and the ridge; the environments add their round-off
    assert ratio(local.H, ours.ravel(), local.load.ravel(), xp.eps) < 30 + 2 * RIDGE + 100


@pytest.mark.parametrize("kind", [k for k in MIDDLES if k != "one function"])
def test_conjugate_gradients_reach_what_they_say(xp, kind, monkeypatch):
    monkeypatch.setattr(train_local, "DIRECT", 0.0)
    local = Local(galerkin(["spline", kind, "legendre"]), [2, 3], backend=xp)
    core = local.system.solve(xp.asarray(local.load), xp.asarray(local.guess))
    x, load = host(core), local.load.ravel()
    energy, work = x.ravel() @ local.H @ x.ravel(), load @ x.ravel()
    assert abs(energy - work) <= 1e3 * xp.eps * np.abs(x.ravel()) @ np.abs(local.H) @ np.abs(x.ravel())
    assert abs(local.system.energy(core) - energy) <= 1e3 * xp.eps * energy * np.linalg.cond(local.H)
    # the fall of the preconditioned residual is that of the error up to the root of the condition of M^-1 H
    spread = np.exp(0.5 * np.ptp(np.log(spectrum(local, xp))))
    assert spread <= 10
    noise = 1e3 * xp.eps * np.sqrt(np.linalg.cond(local.H) * abs(energy))
    assert local.distance(x) <= ACCURACY * spread * local.distance(local.guess) + noise


def inverse(local, xp):
    """The preconditioner as a matrix."""
    precondition = local.system._preconditioner()
    unit = np.eye(local.load.size).reshape(-1, *local.shape)
    return np.stack([host(precondition(xp.asarray(e))).ravel() for e in unit], axis=1)


def spectrum(local, xp):
    M = inverse(local, xp)
    # as a preconditioner it may be off by the round-off of a dense inverse
    np.testing.assert_allclose(M, M.T, rtol=0, atol=1e3 * xp.eps * np.abs(M).max() * np.linalg.cond(M))
    values = np.linalg.eigvals(M @ local.H)
    assert np.abs(values.imag).max() <= 1e-3 * np.abs(values).max()
    assert values.real.min() > 0
    return values.real


@pytest.mark.parametrize("kind", ["spline", "ring", "legendre"])
def test_preconditioner_is_exact_where_each_neighbour_has_one_matrix(kind):
    # H is one product of three: in the eigenvectors of the two outer ones nothing is off the diagonal
    V = sn.TensorSpace(x=AXES["free"], y=AXES[kind], z=AXES["legendre"])
    x, _, z = V.coordinates
    local = Local(
        sn.inner((1 + x) * V.d.y, (1 + z) * V.d.y) + sn.inner((1 + x) * V.identity, (1 + z) * V.identity), [3, 3]
    )
    # but for the ridge, and what the eigenvectors are off by; both are multiplied by the condition
    np.testing.assert_allclose(spectrum(local, NUMPY), 1.0, rtol=0, atol=1e2 * EPS * np.linalg.cond(local.H))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("degree", [3, 7])
def test_wild_systems_still_fall_and_stay_finite(dtype, degree, monkeypatch):
    monkeypatch.setattr(train_local, "DIRECT", 0.0)
    V = sn.TensorSpace(
        x=sn.BSpline((0, 1), cells=6, degree=degree, zero="both"),
        t=sn.BSpline((0, 1), cells=30, degree=degree),
        k=sn.Legendre((1e-9, 1e3), 3),
    )
    L = V.d.t - V.coordinates[2] * V.d.x**2
    backend = Backend("numpy", np, dtype)
    local = Local(sn.inner(L, L), [4, 3], backend=backend)
    # loads as they occur, in the range of H
    local.load = (local.H @ np.random.default_rng(1).standard_normal(local.load.size)).reshape(local.shape)
    core = host(local.system.solve(backend.asarray(local.load), backend.asarray(0 * local.guess)))
    assert np.isfinite(core).all()
    x, b = core.ravel(), local.load.ravel()
    # below J(0) = 0, up to the round-off of the environments
    eps = float(np.finfo(dtype).eps)
    noise = 1e3 * eps * np.abs(x) @ np.abs(local.H) @ np.abs(x)
    assert x @ local.H @ x - 2 * b @ x <= noise


@pytest.mark.parametrize("kind", ["spline", "fourier"])
def test_an_exact_guess_stays(kind, monkeypatch):
    monkeypatch.setattr(train_local, "DIRECT", 0.0)
    local = Local(galerkin(["spline", kind, "legendre"]), [2, 2])
    exact = local.exact.reshape(local.shape)
    core = local.system.solve(local.load, exact)
    np.testing.assert_allclose(core, exact, rtol=0, atol=1e3 * EPS * np.linalg.cond(local.H) * np.abs(exact).max())
    zero = local.system.solve(0 * local.load, 0 * exact)
    np.testing.assert_array_equal(zero, 0 * exact)


@pytest.mark.parametrize("direct", [0.0, np.inf])
@pytest.mark.parametrize("kind", ["spline", "fourier", "ring"])
def test_indefinite_systems_are_refused(kind, direct, monkeypatch):
    monkeypatch.setattr(train_local, "DIRECT", direct)
    V = sn.TensorSpace(x=AXES["spline"], y=AXES[kind], z=AXES["legendre"])
    form = sn.inner(V.d.x, V.d.x) + sn.inner(V.d.y, V.d.y) - 1e3 * sn.inner(V.identity, V.identity)
    local = Local(form, [2, 3])
    with pytest.raises(NotPositiveDefiniteError, match="not positive definite"):
        local.system.solve(local.load, local.guess)


def test_indefinite_systems_are_refused_where_the_preconditioner_is_blind(monkeypatch):
    monkeypatch.setattr(train_local, "DIRECT", 0.0)
    # I (x) I + 2 X (x) diag(1, -1) with X the exchange: its traces and diagonals are those of the identity
    axis = AxisMatrices("dense", np.stack([np.eye(2), np.diag([1.0, -1.0])], axis=1), None, 1)
    one = np.ones(1)
    index = np.array([0, 1])
    moves = Transitions(index, index, 0 * index, np.eye(2), np.eye(2), np.ones((1, 2)))
    left = np.stack([np.eye(2), [[0.0, 2.0], [2.0, 0.0]]])
    system = CoreSystem(AxisStep(axis, moves), left, one.reshape(1, 1, 1))
    load = np.array([[[1.0], [0.0]], [[0.0], [0.5]]])
    with pytest.raises(NotPositiveDefiniteError, match="not positive definite"):
        system.solve(load, 0 * load)


@pytest.mark.parametrize("kind", ["spline", "fourier", "ring"])
def test_what_is_not_finite_does_not_hang(kind, monkeypatch):
    monkeypatch.setattr(train_local, "DIRECT", 0.0)
    local = Local(galerkin(["spline", kind, "legendre"]), [2, 3])
    system = CoreSystem(local.system.step, local.system.left * np.nan, local.system.right)
    with pytest.raises((NotPositiveDefiniteError, np.linalg.LinAlgError)):
        system.solve(local.load, local.guess)


def test_frames_of_the_helpers_agree():
    cores = random_cores(np.random.default_rng(0), [3, 2, 4], [2, 3])
    for i in range(3):
        np.testing.assert_allclose(embedding(cores, i) @ cores[i].ravel(), vector(cores))
    assert left_frame(cores).shape == (24, 1)
