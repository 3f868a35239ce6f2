"""Alternating least squares: the guarantees of every step, and what the iteration reaches."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solver_support import EPS, check_als_steps, dense, full_vector, system_of
from support import dev_size

import sepnet as sn
from sepnet.backends.arrays import to_host
from sepnet.solvers.als import AlternatingLeastSquares
from sepnet.solvers.axis_systems import GROWTH, RIDGE

AXES = {
    "spline": sn.BSpline((0, 1), cells=5, degree=2, zero="both"),
    "free": sn.BSpline((0, 1), cells=4, degree=3),
    "ring": sn.BSpline((0, 1), cells=11, degree=2, periodic=True),
    "fourier": sn.Fourier((0, 1), 2),
    "legendre": sn.Legendre((0, 1), 5, zero="left"),
}


def galerkin(kinds, wave=2.0):
    """A coercive symmetric form with variable coefficients and a load that is not of rank one."""
    V = sn.TensorSpace(**{f"a{i}": AXES[k] for i, k in enumerate(kinds)})
    form = sn.inner(V.identity, V.identity)
    for c, d in zip(V.coordinates, V.d, strict=True):
        form = form + sn.inner((1 + c) * d, d)
    source = 1 + V.coordinates[0] * V.coordinates[-1]
    return sn.Galerkin(form, source=source + sn.product(a0=lambda s: np.cos(wave * s), a1=lambda s: np.exp(-wave * s)))


def poisson(d=2, cells=8, degree=2, source=None):
    names = "xyz"[:d]
    V = sn.TensorSpace(**{n: sn.BSpline((0, 1), cells=cells, degree=degree, zero="both") for n in names})
    form = sn.inner(V.d.x, V.d.x)
    for n in names[1:]:
        form = form + sn.inner(V.d[n], V.d[n])
    return sn.Galerkin(form, source=1 if source is None else source)


def condition(problem):
    return float(np.linalg.cond(dense(system_of(problem)[0])))


def peak():
    """Not of rank one: the load has low rank, the solution has every rank, with singular values that fall slowly."""
    source = sum(
        (
            sn.product(x=lambda s, c=c: np.exp(-80 * (s - c) ** 2), y=lambda s, c=c: np.exp(-80 * (s - c * c) ** 2))
            for c in (0.5, 0.7, 0.9)
        ),
        sn.product(x=lambda s: np.exp(-80 * (s - 0.3) ** 2), y=lambda s: np.exp(-80 * (s - 0.09) ** 2)),
    )
    return poisson(2, cells=14, degree=3, source=source)


@dev_size
@given(
    st.lists(st.sampled_from(sorted(AXES)), min_size=2, max_size=3),
    st.integers(1, 3),
    st.integers(0, 100),
    st.floats(0.5, 4.0),
)
def test_every_step_is_a_galerkin_problem(kinds, rank, seed, wave):
    matrix, load, _ = system_of(galerkin(kinds, wave))
    distance = check_als_steps(matrix, load, rank=rank, sweeps=2, seed=seed)
    assert distance <= 1.0  # J falls below J(0) = 0 in the first step


@pytest.mark.parametrize("rank", [1, 4])
def test_every_step_in_least_squares(rank):
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=5, zero="both"), t=sn.BSpline((0, 1), cells=3, degree=2))
    x, _ = V.coordinates
    problem = sn.LeastSquares(
        V.d.t - 0.2 * V.d.x**2 + x * V.identity, source=1 + x, initial={"t": sn.apply(lambda s: s * (1 - s), x)}
    )
    matrix, load, _ = system_of(problem)
    check_als_steps(matrix, load, rank=rank, sweeps=3)


@pytest.mark.parametrize("kinds", [("spline", "legendre"), ("free", "ring", "spline")])
def test_iterates_are_bounded_by_the_load(kinds):
    # ||u||_V <= ||f||_V' / alpha with V normed by M + K: alpha is the smallest generalised eigenvalue of A
    problem = galerkin(kinds)
    matrix, load, lift = system_of(problem)
    V = lift.space
    norm_form = sn.inner(V.identity, V.identity)
    for d in V.d:
        norm_form = norm_form + sn.inner(d, d)
    G = dense(system_of(sn.Galerkin(norm_form, source=1))[0])
    A, b = dense(matrix), load.dense()
    root = np.linalg.cholesky(G)
    inverse = np.linalg.inv(root)
    alpha = np.linalg.eigvalsh(inverse @ A @ inverse.T)[0]
    # by hand: the coefficients 1 and 1 + x are at least one
    assert alpha >= 1 - 1e-10
    bound = np.linalg.norm(inverse @ b) / alpha
    iteration = AlternatingLeastSquares(matrix, load)
    iteration.grow(2)
    seen = []

    def after(axis, energy, work):
        u = full_vector(iteration.balanced())
        seen.append(math.sqrt(u @ G @ u))

    for _ in range(5):
        iteration.sweep(after)
    assert len(seen) == 5 * len(kinds)
    # the ridge is what a(u, u) = f(u) is off by
    assert max(seen) <= bound * (1 + 1e-9)


def test_error_falls_to_the_full_tensor_error_as_the_rank_grows_and_stays_there():
    problem = peak()
    reference = sn.solve(problem, method="full").u
    distances, errors = [], []
    # a much finer solution stands for the exact one: 28 cells of degree 5 are 1e3 times as good here
    fine = {n: sn.BSpline((0, 1), cells=28, degree=5, zero="both") for n in "xy"}
    W = problem.space.replace(**fine)
    exact = sn.solve(sn.Galerkin(problem.form.on(W), source=problem.source), method="full").u
    floor = (reference - exact).norm() / exact.norm()
    for rank in (1, 2, 4, 8):
        u = sn.solve(problem, rank=rank).u
        distances.append((u - reference).norm() / reference.norm())
        errors.append((u - exact).norm() / exact.norm())
    assert all(a > 2 * b for a, b in itertools.pairwise(distances))
    assert distances[-1] < 0.1 * floor
    # plateau: within a tenth of the full-tensor error; before it, far above
    assert abs(errors[-1] - floor) <= 0.1 * floor
    assert errors[0] > 10 * floor


def test_full_rank_is_the_full_tensor_solution():
    problem = poisson(2, cells=5)
    reference = sn.solve(problem, method="full").u
    u = sn.solve(problem, rank=7).u
    # 7 functions an axis: rank 7 is everything; what is left is sqrt(16 eps), the floor of a squared residual
    assert (u - reference).norm() <= 1e-7 * reference.norm()


def test_same_seed_same_result_other_seed_same_solution():
    problem = poisson(3, cells=6)
    one, two = sn.solve(problem, rank=6, seed=5), sn.solve(problem, rank=6, seed=5)
    for a, b in zip(one.u.factors, two.u.factors, strict=True):
        np.testing.assert_array_equal(a, b)
    assert [r[:3] for r in one.history] == [r[:3] for r in two.history]
    other = sn.solve(problem, rank=6, seed=6)
    assert not np.array_equal(other.u.factors[0], one.u.factors[0])
    # both are within their residual of the discrete solution; in the energy, hence more so in L2
    assert (one.u - other.u).norm() <= (one.residual + other.residual) * one.u.norm() * 2


def test_same_solution_on_every_namespace(xp):
    problem = poisson(2, cells=6)
    reference = sn.solve(problem, rank=4)
    solution = sn.solve(problem, rank=4, xp=xp.xp, device=xp.device, dtype=xp.dtype)
    assert solution.u.dtype == xp.dtype
    moved = [np.asarray(to_host(f), dtype=np.float64) for f in solution.u.factors]
    u = sn.CP(solution.u.space, moved)
    distance = (u - reference.u).norm() / reference.u.norm()
    # both are within their residual, an energy distance, of the discrete solution
    assert distance <= solution.residual + reference.residual
    if xp.eps < 1e-10:
        # another order of summation only: the same sweeps, the ridge being the largest difference
        assert distance <= RIDGE * GROWTH * xp.eps * condition(problem) * len(solution.history)


def test_single_precision_reaches_single_precision():
    problem = poisson(2, cells=8, degree=3)
    exact = sn.solve(problem, method="full").u
    eps = float(np.finfo(np.float32).eps)
    matrix, load, lift = system_of(problem)
    iteration = AlternatingLeastSquares(matrix.to(np, None, np.float32), load.to(np, None, np.float32))
    for _ in range(2):
        iteration.grow(4)
        for _ in range(5):
            iteration.sweep()
    u = sn.CP(lift.space, [f.astype(np.float64) for f in iteration.balanced()])
    # the ridge perturbs the matrix by RIDGE eps, relatively; LAPACK allows its own solvers 30
    assert (u - exact).norm() <= (30 + RIDGE) * eps * condition(problem) * exact.norm()


def test_residual_in_single_precision_does_not_lie():
    problem = poisson(2, cells=8, degree=3)
    exact = sn.solve(problem, method="full").u
    solution = sn.solve(problem, rank=8, dtype="float32")
    u = solution.u.to(dtype="float64")
    eps = float(np.finfo(np.float32).eps)
    # for Poisson the residual is the energy distance to the discrete solution; relative in L2 it is no larger, as the
    # load is nearest to the lowest mode
    assert (u - exact).norm() / exact.norm() <= solution.residual
    # nor does the measurement stop it early: a squared residual formed in float32 would end at 8 sqrt(eps) = 2.8e-3
    assert solution.residual <= RIDGE * eps * condition(problem) * 4


def test_rank_one_solution_in_one_sweep():
    # separable load and solution: u = s(x) s(y), s in the spline space
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4, zero="both"), y=sn.BSpline((0, 1), cells=4, zero="both"))
    _x, _y = V.coordinates
    problem = sn.LeastSquares(V.d.x**2 @ V.d.y**2, source=4)
    u = sn.solve(problem, rank=1).u
    points = np.random.default_rng(0).random((50, 2))
    exact = (points[:, 0] * (1 - points[:, 0])) * (points[:, 1] * (1 - points[:, 1]))
    # kappa of the fourth-order 1-D system: 1e3 per axis at 7 functions, and the ridge of 64 eps
    np.testing.assert_allclose(u(points), exact, rtol=0, atol=64 * EPS * 1e3)
