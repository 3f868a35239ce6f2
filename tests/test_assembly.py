"""One-dimensional matrices against exact integrals and dense quadrature."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solver_support import EPS, Grid, check_form, dense_form, matrix_of, on_grid, random_factors, tabulated
from support import dev_size

import sepnet as sn
from sepnet.solvers.assembly import assemble_loads, assemblers


def exact_monomials(p, powers, low, high, left_order, right_order):
    """int c(x) (x^i)^(a) (x^k)^(b) in exact rational arithmetic, i test, k trial; the exact answer on monomials."""

    def derived(i, order):
        factor = Fraction(1)
        for s in range(order):
            factor *= i - s
        return factor, i - order

    result = np.zeros((p + 1, p + 1))
    for i in range(p + 1):
        for k in range(p + 1):
            (a, m), (b, n) = derived(i, left_order), derived(k, right_order)
            total = Fraction(0)
            for j, c in enumerate(powers):
                e = m + n + j + 1
                if a and b and e > 0:
                    total += c * a * b * (Fraction(high) ** e - Fraction(low) ** e) / e
            result[i, k] = float(total)
    return result


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("orders", [(0, 0), (1, 0), (0, 1), (1, 1), (2, 1), (2, 2)])
def test_matrix_of_polynomials_is_the_exact_integral(degree, orders):
    trial, test = orders
    if max(orders) > max(degree, 0):
        pytest.skip("the axis has fewer derivatives")
    basis = sn.BSpline((1, 3), cells=1, degree=degree)
    V = sn.TensorSpace(x=basis)
    (x,) = V.coordinates
    coefficient = 2 - 3 * x + x**3
    powers = [Fraction(2), Fraction(-3), Fraction(0), Fraction(1)]
    form = sn.inner(coefficient * V.d.x**trial, V.d.x**test)
    ours = matrix_of(form).kronecker().toarray()
    # monomials to B-splines of one cell: x^i = sum_n T[n, i] B_n, so T' A T is the matrix of the monomials
    T = basis.interpolate(np.stack([basis.nodes**i for i in range(degree + 1)], axis=1))
    reference = exact_monomials(degree, powers, 1, 3, test, trial)
    size = np.abs(T.T) @ np.abs(ours) @ np.abs(T)
    np.testing.assert_array_less(np.abs(T.T @ ours @ T - reference), 200 * EPS * size.max() + 1e-300)


def test_textbook_matrices_of_hat_functions():
    h, n = 0.25, 4
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=n, degree=1, zero="both"))
    stiff = (2 * np.eye(3) - np.eye(3, k=1) - np.eye(3, k=-1)) / h
    mass = h / 6 * (4 * np.eye(3) + np.eye(3, k=1) + np.eye(3, k=-1))
    wind = (np.eye(3, k=1) - np.eye(3, k=-1)) / 2
    check_form(sn.inner(V.d.x, V.d.x), stiff)
    check_form(sn.inner(V.identity, V.identity), mass)
    check_form(sn.inner(V.d.x, V.identity), wind)  # rows are test functions
    check_form(sn.inner(V.identity, V.d.x), wind.T)


AXES = [
    sn.BSpline((0, 2), cells=3, degree=2, zero="left"),
    sn.BSpline(breaks=(0, 0.1, 0.7, 2), degree=3, continuity=1),
    sn.BSpline((0, 2), cells=6, degree=2, periodic=True),
    sn.Fourier((0, 2), 2),
    sn.Legendre((0, 2), 4, zero="both"),
    sn.Chebyshev((0, 2), 3),
]


@st.composite
def operators(draw, V, orders=1):
    """Random operators with polynomial and callable coefficients and faces left out."""
    coordinates = V.coordinates
    total = 0 * V.identity
    for _ in range(draw(st.integers(1, 3))):
        term = draw(st.sampled_from([1.0, -2.0, 0.5])) * V.identity
        for derivative in V.d:
            term = term @ derivative ** draw(st.integers(0, orders))
        for c in coordinates:
            kind = draw(st.sampled_from(["one", "x", "poly", "sin"]))
            factor = {"one": 1.0, "x": c, "poly": 1 + c**2, "sin": sn.apply(np.sin, 1.5 * c)}[kind]
            term = factor * term
        total = total + term
    return total


@dev_size
@given(st.data())
def test_form_equals_dense_quadrature(data):
    V = sn.TensorSpace(a=data.draw(st.sampled_from(AXES)), b=data.draw(st.sampled_from(AXES)))
    trial, test = data.draw(operators(V)), data.draw(operators(V))
    if not trial.terms or not test.terms:
        return
    # polynomials of degree <= 4 + 4 + 4 need 7 points; sines and Fourier functions of at most 2 pi a cell need the rest
    check_form(sn.inner(trial, test), dense_form(trial, test, 28))


@pytest.mark.parametrize("side", [0.0, 2.0])
@pytest.mark.parametrize("axis", AXES[:2] + AXES[4:])
def test_faces_are_evaluation(axis, side):
    V = sn.TensorSpace(a=axis, b=AXES[0])
    a, b = V.coordinates
    trial, test = (1 + b) * V.d.a, (2 + a) * V.identity
    form = sn.inner(trial.at(a=side), test.at(a=side))
    reference = dense_form(trial, test, 10, a=side)
    if not reference.any():
        assert not matrix_of(form).kronecker().toarray().any()
        return
    check_form(form, reference)


def test_inside_and_face_add_up():
    V = sn.TensorSpace(a=AXES[1], b=AXES[0])
    edge = V.identity.at(a=2, b=2)
    form = sn.inner(V.d.a, V.d.a) + 3 * sn.inner(edge, edge)
    reference = dense_form(V.d.a, V.d.a, 8) + 3 * dense_form(V.identity, V.identity, 8, a=2, b=2)
    check_form(form, reference)


def test_callable_of_low_smoothness_on_its_cells():
    # exact for a polynomial in disguise: a callable gets more points than its neighbours need
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=2, degree=2))
    (x,) = V.coordinates
    hidden = sn.apply(lambda s: s**5, x)
    one = matrix_of(sn.inner(hidden * V.identity, V.identity)).kronecker().toarray()
    check_form(sn.inner(x**5 * V.identity, V.identity), one)


def test_equal_matrices_are_merged():
    V = sn.TensorSpace(**{n: sn.BSpline((0, 1), cells=4) for n in "xyz"})
    table = sn.assemble(sum((sn.inner(k, k) for k in (V.d.y, V.d.z)), sn.inner(V.d.x, V.d.x)))
    assert [len(m) for m in table.matrices] == [2, 2, 2]
    assert table.weights.size == 3
    (x, _, _) = V.coordinates
    # written in two ways, one matrix; a multiple goes into the weight
    twice = sn.assemble(sn.inner(x * V.d.x, V.d.x) + sn.inner(V.d.x, (2 * x) * V.d.x))
    assert [len(m) for m in twice.matrices] == [1, 1, 1] or len(twice.matrices[0]) == 2
    assert max(twice.weights) == 2 * min(twice.weights)


def load_of(space, data, test):
    terms = [(t, s) for t in data.terms for s in test.terms]
    axes = assemblers(space, [*data.terms, *test.terms])
    table = assemble_loads(space, terms, axes)
    total = np.zeros(int(np.prod(space.shape)))
    for row, w in zip(table.index, table.weights, strict=True):
        part = np.array([w])
        for vectors, j in zip(table.vectors, row, strict=True):
            part = np.kron(part, vectors[j])
        total += part
    return total


def check_data_on_other_breaks(seed, rank):
    V = sn.TensorSpace(a=sn.BSpline((0, 2), cells=3, degree=2), b=sn.BSpline((0, 2), cells=2, degree=3))
    W = sn.TensorSpace(
        a=sn.BSpline(breaks=(0, 0.3, 1.1, 1.9, 2), degree=4, continuity=0), b=sn.BSpline((0, 2), cells=5, degree=1)
    )
    source = sn.CP(W, random_factors(W, rank, seed))
    ours = load_of(V, source.as_coefficient(), V.d.a)
    # the reference knows the breaks of both
    union = sn.TensorSpace(
        a=sn.BSpline(breaks=sorted({*V.axes["a"].breaks, *W.axes["a"].breaks}), degree=2),
        b=sn.BSpline(breaks=sorted({*V.axes["b"].breaks, *W.axes["b"].breaks}), degree=2),
    )
    grid = Grid.of(union, 6)
    reference = tabulated(V, grid, V.d.a).T @ (grid.weights * on_grid(source, grid)).ravel()
    np.testing.assert_allclose(ours, reference, rtol=0, atol=1e3 * EPS * np.abs(reference).max())


@dev_size
@given(st.integers(0, 2**31), st.integers(1, 3))
def test_data_on_other_breaks_are_integrated_exactly(seed, rank):
    check_data_on_other_breaks(seed, rank)


def test_loads_against_dense_quadrature():
    V = sn.TensorSpace(a=AXES[1], b=AXES[4])
    a, b = V.coordinates
    data = 3 + a * b**2 - sn.product(a=np.cos, b=np.exp)
    test = (1 + b) * V.d.a + V.identity
    grid = Grid.of(V, 16)
    values = data(np.stack([g.ravel() for g in grid.coordinates], axis=1), V.names)
    reference = tabulated(V, grid, test).T @ (grid.weights.ravel() * values)
    np.testing.assert_allclose(load_of(V, data, test), reference, rtol=0, atol=1e3 * EPS * np.abs(reference).max())


# ------------------------------------------------------------------------------------------------ what is refused


def test_too_many_derivatives_are_refused_with_the_weak_form():
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4, degree=1), y=sn.BSpline((0, 1), cells=4, degree=3, continuity=0))
    for operator in (V.d.x**2, V.d.y**2 + V.identity):
        with pytest.raises(ValueError, match=r"derivatives on axis '[xy]'.*weak form.*sn\.inner"):
            sn.LeastSquares(operator)
        with pytest.raises(ValueError, match="derivatives on axis"):
            sn.inner(operator, V.identity)


def test_terms_that_do_not_separate_are_refused_with_the_projection():
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), y=sn.BSpline((0, 1), cells=4))
    x, y = V.coordinates
    with pytest.raises(ValueError, match=r"depends on x and y.*sn\.project"):
        sn.apply(np.sin, x * y)
    with pytest.raises(TypeError, match=r"sn\.apply"):
        np.sin(x)
    with pytest.raises(ValueError, match="same face"):
        sn.inner(V.identity.at(x=1), V.identity)
    with pytest.raises(TypeError, match="expected a bilinear form"):
        sn.assemble(V.d.x)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_callables_that_are_not_finite_are_refused(bad):
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4))
    (x,) = V.coordinates
    c = sn.apply(lambda s: np.where(s > 0.5, bad, s), x)
    with pytest.raises(ValueError, match="not finite"):
        sn.assemble(sn.inner(c * V.identity, V.identity))
