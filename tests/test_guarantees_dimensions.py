"""The four guarantees on random coercive forms in one to four variables, each in its scope, by dense linear algebra.

On linear spline spaces: a unique solution, quasi-optimality (Cea), stability. On sums of products and trains of fixed
rank, which are no linear spaces: ``a(u, u) = f(u)`` after every step, hence stability, the identity
``||u - u_h||_a**2 = J(u_h) - J(u)``, and a functional that never rises.
"""

import math
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

import sepnet as sn
from sepnet.functions.trains import train_to_dense
from sepnet.solvers.als import AlternatingLeastSquares
from sepnet.solvers.lifting import make_lift
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.solvers.system import make_system
from sepnet.solvers.train_als import TrainIteration

EPS = np.finfo(float).eps
few = settings(max_examples=min(10, settings().max_examples))


@dataclass
class Case:
    """A form with its dense matrix A, the Riesz map P of the gradient norm, a load, and the constants of the form."""

    problem: sn.Galerkin
    matrix: SeparableMatrix
    load: SeparableVector
    A: np.ndarray
    P: np.ndarray
    b: np.ndarray
    alpha: float
    bound: float


def dense(form):
    return SeparableMatrix.from_table(sn.assemble(form)).kronecker().toarray()


@st.composite
def cases(draw, symmetric=False):
    """Diffusion ``a_i + b_i x_j x_k``, a reaction, and a constant wind; zero walls."""
    d = draw(st.integers(1, 4))
    degree, cells = draw(st.integers(1, 2)), draw(st.integers(2, 3 if d > 2 else 5))
    V = sn.TensorSpace(**{n: sn.BSpline((0, 1), cells=cells, degree=degree, zero="both") for n in "wxyz"[:d]})
    quarters = st.integers(0, 20).map(lambda n: n / 4)
    least = [0.25 + draw(quarters) for _ in range(d)]
    more = [draw(quarters) for _ in range(d)]
    reaction = draw(quarters)
    wind = 0.0 if symmetric or draw(st.booleans()) else 0.5 + draw(quarters)
    parts = []
    for i, name in enumerate(V.names):
        slope, k = getattr(V.d, name), V.coordinates
        coefficient = least[i] + more[i] * k[(i + 1) % d] * k[(i + 2) % d]
        parts.append(sn.inner(coefficient * slope, slope))
        parts.append(wind * sn.inner(slope, V.identity))
    form = reduce(add, parts) + reaction * sn.inner(V.identity, V.identity)
    source = 1 + reduce(add, [draw(quarters) * x**2 for x in V.coordinates])
    problem = sn.Galerkin(form, source=source)
    system = make_system(problem, make_lift(problem, 1e-3))
    matrix, load = SeparableMatrix.from_table(system.matrices), SeparableVector.from_table(system.loads)
    P = dense(reduce(add, [sn.inner(k, k) for k in (getattr(V.d, n) for n in V.names)]))
    # Friedrichs: ||u|| <= ||grad u|| / (pi sqrt(d)); the wind is skew, so that it costs nothing in coercivity.
    friedrichs = 1.0 / (math.pi * math.sqrt(d))
    bound = max(a + b for a, b in zip(least, more, strict=True)) + reaction * friedrichs**2
    bound += wind * math.sqrt(d) * friedrichs
    return Case(problem, matrix, load, matrix.kronecker().toarray(), P, load.dense(), min(least), bound)


def norm(matrix, vector):
    return math.sqrt(max(float(vector @ matrix @ vector), 0.0))


@few
@given(cases())
def test_the_solution_is_unique_and_bounded_by_the_load(case):
    """Smallest eigenvalue of the symmetric part at least alpha, and ``||u|| <= ||f||_* / alpha``."""
    lowest = scipy.linalg.eigh((case.A + case.A.T) / 2, case.P, eigvals_only=True)[0]
    assert lowest >= case.alpha * (1 - 1e4 * EPS)
    u = np.linalg.solve(case.A, case.b)
    dual = math.sqrt(case.b @ np.linalg.solve(case.P, case.b))
    assert norm(case.P, u) <= dual / case.alpha * (1 + 1e-8)
    assert np.linalg.norm(case.A @ u - case.b) <= 1e4 * EPS * np.linalg.norm(case.A) * np.linalg.norm(u)


@few
@given(cases(), st.integers(0, 2**31))
def test_cea(case, seed):
    """The solution on a coarse space against the best function there, for an exact solution on a space around it."""
    V = case.problem.space
    fine = sn.TensorSpace(**{name: basis.refine() for name, basis in V.items})
    A, P = dense(case.problem.form.on(fine)), dense(reduce(add, [sn.inner(k, k) for k in gradients(fine)]))
    embed = reduce(np.kron, [np.asarray(fine.axes[n].embed(basis)) for n, basis in V.items])
    u = np.random.default_rng(seed).standard_normal(A.shape[0])
    u_h = embed @ np.linalg.solve(embed.T @ A @ embed, embed.T @ A @ u)
    best = embed @ np.linalg.solve(embed.T @ P @ embed, embed.T @ P @ u)
    if case.problem.form.is_symmetric:
        best = embed @ np.linalg.solve(embed.T @ A @ embed, embed.T @ A @ u)
        assert norm(A, u - u_h) <= (1 + 1e-6) * norm(A, u - best)
        assert norm(P, u - u_h) <= math.sqrt(case.bound / case.alpha) * (1 + 1e-6) * norm(P, u - best)
    assert norm(P, u - u_h) <= case.bound / case.alpha * (1 + 1e-6) * norm(P, u - best)
    # Galerkin orthogonality against the space
    assert np.linalg.norm(embed.T @ A @ (u - u_h)) <= 1e4 * EPS * np.linalg.norm(A) * np.linalg.norm(u)


def gradients(space):
    return [getattr(space.d, name) for name in space.names]


def iterate(case, format, rank, seed):
    """Yield the coefficients, ``a(u, u)`` and ``f(u)`` after every step of three sweeps."""
    found = []
    if format == "cp":
        cp = AlternatingLeastSquares(case.matrix, case.load, seed=seed)
        cp.grow(rank)

        def tell_cp(axis, energy, work):
            found.append((sn.CP(case.problem.space, cp.balanced()).full().reshape(-1), energy, work))

        for _ in range(3):
            cp.sweep(tell_cp)
    else:
        train = TrainIteration(case.matrix, case.load, seed=seed)

        def tell(axis, energy, work):
            found.append((train_to_dense(train.cores).reshape(-1), energy, work))

        for _ in range(3):
            train.sweep(columns=1, rank=rank, after_step=tell)
    return found


@few
@pytest.mark.parametrize("format", ["cp", "tt"])
@given(case=cases(symmetric=True), rank=st.integers(1, 3), seed=st.integers(0, 2**31))
def test_every_step_of_a_low_rank_iteration(format, case, rank, seed):
    u = np.linalg.solve(case.A, case.b)
    exact = -float(case.b @ u)  # J at the discrete solution
    dual = math.sqrt(case.b @ np.linalg.solve(case.P, case.b))
    size = abs(exact) + 1e-300
    # The ridge of a step, and columns that become parallel, leave some 1e-8 of the energy.
    slack, last = 1e-7 * size, math.inf
    for number, (v, energy, work) in enumerate(iterate(case, format, rank, seed)):
        assert abs(float(v @ case.A @ v) - energy) <= slack
        assert abs(energy - work) <= slack  # a(u, u) = f(u)
        assert norm(case.P, v) <= dual / case.alpha * (1 + 1e-6)
        functional = energy - 2 * work
        # In its first sweep a train is cut from the rank that it starts with to the largest allowed.
        assert functional <= last + slack or (format == "tt" and number < case.problem.space.dim)
        assert abs(norm(case.A, v - u) ** 2 - (functional - exact)) <= slack  # the energy identity
        last = functional
    if case.problem.space.dim == 1:
        assert last - exact <= slack


@few
@given(cases(symmetric=True))
def test_the_error_comes_down_to_that_of_the_full_tensor_as_the_rank_grows(case):
    full = sn.solve(case.problem, method="full").u
    for format in ("cp", "tt"):
        close = sn.solve(case.problem, tol=1e-5, format=format)
        assert close.converged
        assert (close.u - full).norm() <= 1e-3 * full.norm()
