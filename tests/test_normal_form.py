"""Non-symmetric Galerkin systems as minimisation: the normal equations in the dual norm, and what comes of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solver_support import EPS, dense, full_vector, random_factors, system_of
from support import EXAMPLES
from train_support import AXES, kronecker

import sepnet as sn
from sepnet.solvers.kronecker_sum import KroneckerSum
from sepnet.solvers.normal_form import CLOSE, normal_form
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.solvers.system import make_system

SOLVER = settings(max_examples=min(EXAMPLES["dev"], settings().max_examples))


def transport(kinds, wind=1.5):
    """A reaction-diffusion form with wind along the first axis: not symmetric."""
    V = sn.TensorSpace(**{f"a{i}": AXES[k] for i, k in enumerate(kinds)})
    form = sn.inner(V.identity, V.identity)
    for k, d in zip((1.0, 0.1, 3.0), V.d, strict=False):
        form = form + k * sn.inner(d, d)
    x = V.coordinates[0]
    form = form + wind * sn.inner(x * V.d.a0, V.identity)
    return sn.Galerkin(form, source=1 + V.coordinates[-1] * x)


def dense_inverse(riesz, tol):
    """The same sum of exponentials as a matrix, term by term."""
    weights, exponents = riesz.exponentials(tol)
    total = 0.0
    for w, t in zip(weights * np.exp(-riesz.low * exponents), exponents, strict=True):
        parts = [(v * np.exp(-t * lam)) @ v.T for v, lam in zip(riesz.vectors, riesz.values, strict=True)]
        total = total + kronecker([p[None] for p in parts], np.zeros((1, len(parts)), dtype=int), np.array([w]))
    return total


def dense_riesz(riesz):
    """P itself, from its eigenvectors."""
    inverses = [np.linalg.inv(v) for v in riesz.vectors]
    roots = kronecker([i[None] for i in inverses], np.zeros((1, len(inverses)), dtype=int), np.ones(1))
    total = riesz.low + np.zeros([v.size for v in riesz.values])
    for k, lam in enumerate(riesz.values):
        total = total + lam.reshape([-1 if i == k else 1 for i in range(total.ndim)])
    return roots.T @ (total.reshape(-1, 1) * roots)


@SOLVER
@given(st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=3), st.floats(-3, 3), st.integers(0, 2**31))
def test_functional_is_the_squared_dual_residual(kinds, wind, seed):
    check_functional(transport(kinds, wind), seed)


def check_functional(problem, seed):
    matrix, load, lift = system_of(problem)
    riesz = KroneckerSum.from_form(problem.form.on(lift.space))
    form = normal_form(matrix, load, riesz)
    A, b = dense(matrix), load.dense()
    inverse = dense_inverse(riesz, CLOSE)
    assert form.reference == pytest.approx(math.sqrt(b @ inverse @ b), rel=1e-10)
    scale = 1e3 * EPS * np.linalg.cond(inverse)
    normal = A.T @ inverse @ A
    np.testing.assert_allclose(dense(form.matrix), normal, rtol=0, atol=scale * np.abs(normal).max())
    right = A.T @ inverse @ b / form.reference
    np.testing.assert_allclose(form.load.dense(), right, rtol=0, atol=scale * np.abs(right).max())
    factors = random_factors(lift.space, 2, seed)
    u = full_vector(factors)
    energy, work = form.matrix.energy(factors), form.load.inner(factors)
    residual = A @ u * form.reference - b
    expected = residual @ inverse @ residual / form.reference**2
    noise = 1e3 * EPS * (abs(energy) + 2 * abs(work) + 1)
    assert abs(energy - 2 * work + 1 - expected) <= noise
    # the dual norm itself, by the inverse of P: within 2.5 %, its square within 5 %
    true = residual @ np.linalg.solve(dense_riesz(riesz), residual) / form.reference**2
    assert abs(expected - true) <= 0.05 * true * (1 + 1e-6)
    assert form.matrix.is_symmetric()


def heat(parameter=False):
    axes = {"x": sn.BSpline((0, 1), cells=6, zero="both"), "t": sn.BSpline((0, 0.5), cells=5, degree=2)}
    if parameter:
        axes["k"] = sn.Legendre((0.5, 1.5), 3)
    V = sn.TensorSpace(**axes)
    x, t = V.coordinates[:2]
    conductivity = V.coordinates[2] if parameter else 0.7
    form = sn.inner(V.d.t, V.identity) + sn.inner(conductivity * V.d.x, V.d.x)
    start = sn.apply(lambda s: np.sin(np.pi * s) + 0.3 * np.sin(3 * np.pi * s), x)
    return sn.Galerkin(form, source=x * t, initial={"t": start})


def advection(parameter=False):
    axes = {
        "x": sn.BSpline((0, 1), cells=5, zero="both"),
        "y": sn.BSpline((0, 1), cells=4, zero="both", degree=2),
        "t": sn.BSpline((0, 0.5), cells=3, degree=2),
    }
    if parameter:
        axes["w"] = sn.Legendre((0, 2), 2)
    V = sn.TensorSpace(**axes)
    x, y = V.coordinates[:2]
    wind = V.coordinates[3] if parameter else 1.0
    form = sn.inner(V.d.t, V.identity) + 0.2 * sn.inner(V.d.x, V.d.x) + 0.2 * sn.inner(V.d.y, V.d.y)
    form = form + sn.inner(wind * (x * V.d.y - y * V.d.x), V.identity)
    return sn.Galerkin(form, source=x, initial={"t": sn.product(x=lambda s: s * (1 - s), y=lambda s: s * (1 - s) ** 2)})


CASES = {
    "heat": heat(),
    "heat, parameter": heat(True),
    "advection": advection(),
    "advection, parameter": advection(True),
}


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize("format", ["cp", "tt"])
def test_low_rank_solutions_agree_with_the_direct_one(name, format):
    problem = CASES[name]
    full = sn.solve(problem, method="full").u
    tol = 1e-3
    solution = sn.solve(problem, format=format, tol=tol)
    assert solution.converged
    v = full if format == "cp" else sn.TensorTrain.from_cp(full)
    distance = (solution.u - v).norm() / v.norm()
    # the dual norm of the residual is the energy norm of the error up to the inf-sup constant, about one here; the
    # L2 norm of the lifted part is of the order of the whole
    assert distance <= 5 * tol
    assert solution.residual <= tol
    # within the accuracy of the sum of exponentials; a residual at round-off is one of the dense reference as well
    assert recomputed(problem, solution) == pytest.approx(solution.residual, rel=0.025, abs=1e-10)


def recomputed(problem, solution):
    """The dual residual of v = u - lift from dense matrices."""
    lift = solution.lift
    system = make_system(problem, lift)
    A = dense(SeparableMatrix.from_table(system.matrices))
    b = SeparableVector.from_table(system.loads).dense() * system.scale
    P = dense_riesz(KroneckerSum.from_form(problem.form.on(lift.space)))
    coefficients = interior(solution)
    residual = A @ coefficients - b
    return math.sqrt((residual @ np.linalg.solve(P, residual)) / (b @ np.linalg.solve(P, b)))


def interior(solution):
    """Coefficients of v = u - lift in the space that vanishes where data are given."""
    full, lift = np.asarray(solution.u._dense()), solution.lift
    if lift.function is not None:
        full = full - np.asarray(lift.function._dense())
    for k, (fine, coarse) in enumerate(zip(solution.u.space.bases, lift.space.bases, strict=True)):
        back = np.linalg.pinv(fine.embed(coarse))
        full = np.moveaxis(np.tensordot(back, full, axes=(1, k)), 0, k)
    return full.ravel()
