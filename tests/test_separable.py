"""The separable matrix and vector are what their Kronecker products are."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from solver_support import EPS, check_symmetric_pair, dense, full_vector, matrix_of, random_factors, system_of
from support import dev_size

import sepnet as sn

AXES = {
    "banded": sn.BSpline((0, 1), cells=4, degree=2, zero="left"),
    "cyclic": sn.BSpline((0, 1), cells=7, degree=3, periodic=True),
    "short cyclic": sn.BSpline((0, 1), cells=2, degree=3, periodic=True),
    "fourier": sn.Fourier((0, 1), 2),
    "legendre": sn.Legendre((0, 1), 4, zero="both"),
    "chebyshev": sn.Chebyshev((0, 1), 3),
    "one function": sn.BSpline((0, 1), cells=1, degree=0),
}
pairs = st.tuples(st.sampled_from(sorted(AXES)), st.sampled_from(sorted(AXES)))


def space(kinds):
    return sn.TensorSpace(**{f"a{i}": AXES[k] for i, k in enumerate(kinds)})


def form_on(V):
    """Neither symmetric nor of full rank in any axis: every term differs."""
    total = sn.inner(V.identity, V.identity)
    for k, (name, c) in enumerate(zip(V.names, V.coordinates, strict=True)):
        if V.axes[name].max_order >= 1:
            d = V.d[name]
            total = total + sn.inner((1 + c) * d, d) + sn.inner((k + 1.0) * d, V.identity)
    return total


def symmetric_form_on(V):
    total = sn.inner(V.identity, V.identity)
    for name, c in zip(V.names, V.coordinates, strict=True):
        if V.axes[name].max_order >= 1:
            total = total + sn.inner((1 + c) * V.d[name], V.d[name])
    return total


@dev_size
@given(pairs, st.integers(0, 2**31), st.integers(1, 3))
def test_apply_inner_energy_and_kronecker_agree_with_the_dense_matrix(kinds, seed, rank):
    V = space(kinds)
    matrix = matrix_of(form_on(V))
    A = dense(matrix)
    scale = np.abs(A).max()
    u, v = random_factors(V, rank, seed), random_factors(V, 2, seed + 1)
    x, y = full_vector(u), full_vector(v)
    # sums of prod(n) terms of size scale |x|: a few hundred eps of the sum of magnitudes
    bound = 100 * EPS * (np.abs(y) @ np.abs(A) @ np.abs(x))
    np.testing.assert_allclose(matrix.kronecker().toarray(), A, rtol=0, atol=50 * EPS * scale)
    assert abs(matrix.inner(v, u) - y @ A @ x) <= bound
    assert abs(matrix.energy(u) - x @ A @ x) <= 100 * EPS * (np.abs(x) @ np.abs(A) @ np.abs(x))
    applied = matrix.apply(u)
    assert applied[0].shape[1] == len(matrix.weights) * rank
    np.testing.assert_allclose(full_vector(applied), A @ x, rtol=0, atol=100 * EPS * (np.abs(A) @ np.abs(x)).max())


@dev_size
@given(st.tuples(*[st.sampled_from(sorted(AXES))] * 3), st.integers(0, 2**31))
def test_symmetry_and_its_detection(kinds, seed):
    V = space(kinds)
    form = symmetric_form_on(V)
    check_symmetric_pair(matrix_of(form), seed)
    assert form.is_symmetric
    for name, basis in V.items:
        if basis.max_order >= 1:
            assert not (form + 1e-9 * sn.inner(V.d[name], V.identity)).is_symmetric


def test_symmetry_of_forms_written_in_unsymmetric_ways():
    V = space(("banded", "banded"))
    x, _ = V.coordinates
    # two terms, each the transpose of the other
    assert (sn.inner(V.d.a0, V.d.a1) + sn.inner(V.d.a1, V.d.a0)).is_symmetric
    assert not sn.inner(V.d.a0, V.d.a1).is_symmetric
    # the coefficient may stand on either side
    assert sn.inner(x * V.d.a0, V.d.a0).is_symmetric
    assert not (1e6 * sn.inner(V.d.a0, V.d.a0) + 1e-3 * sn.inner(V.d.a0, V.identity)).is_symmetric


@dev_size
@given(pairs, st.integers(0, 2**31), st.integers(1, 3))
def test_vector_equals_its_dense_form(kinds, seed, rank):
    V = space(kinds)
    a, b = V.coordinates
    _, load, _ = system_of(sn.Galerkin(symmetric_form_on(V), source=1 + a * b - sn.product(a0=np.exp)))
    u = random_factors(V, rank, seed)
    x, f = full_vector(u), load.dense()
    assert abs(load.inner(u) - f @ x) <= 200 * EPS * (np.abs(f) @ np.abs(x))


def test_vector_of_nothing():
    V = space(("banded", "fourier"))
    _, load, _ = system_of(sn.Galerkin(symmetric_form_on(V)))
    assert load.is_zero
    assert load.inner(random_factors(V, 2, 0)) == 0.0
    assert not load.dense().any()


def test_same_on_every_namespace(xp):
    V = space(("banded", "cyclic", "legendre"))
    matrix = matrix_of(form_on(V))
    _, load, _ = system_of(sn.Galerkin(symmetric_form_on(V), source=V.coordinates[0]))
    u, v = random_factors(V, 2, 1), random_factors(V, 3, 2)
    moved, there = matrix.to(xp.xp, xp.device, xp.dtype), load.to(xp.xp, xp.device, xp.dtype)
    U, W = [xp.asarray(f) for f in u], [xp.asarray(f) for f in v]
    x, y = full_vector(u), full_vector(v)
    bound = np.abs(y) @ np.abs(dense(matrix)) @ np.abs(x)
    # the same sums in the unit of round-off of the dtype
    assert abs(moved.inner(W, U) - matrix.inner(v, u)) <= 100 * xp.eps * bound
    assert abs(there.inner(U) - load.inner(u)) <= 100 * xp.eps * (np.abs(load.dense()) @ np.abs(x))
