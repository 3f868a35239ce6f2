"""The algebra of differential operators, and the forms made of them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sepnet as sn
from sepnet.coefficients import Coefficient
from sepnet.forms import BilinearForm, LinearForm
from sepnet.operators import Operator

EPS = np.finfo(float).eps
V = sn.TensorSpace(x=sn.BSpline((0, 2), cells=4, degree=4), y=sn.BSpline((-1, 1), cells=3, degree=4))
W = sn.TensorSpace(x=sn.BSpline((0, 2), cells=8, degree=3), y=sn.BSpline((-1, 1), cells=2, degree=2))
x, y = V.coordinates
d, one = V.d, V.identity
POINTS = np.random.default_rng(0).uniform((0, -1), (2, 1), (9, 2))


def sine(order):
    return [lambda s, k=k: np.sin(s + k * np.pi / 2) for k in range(order, order + 5)]


# sin(x) * sin(2 y), with derivatives
SMOOTH = sn.apply(sine(0)[0], x, derivatives=sine(1)) * sn.apply(sine(0)[0], 2 * y, derivatives=sine(1))


def derivative(i, j, p=POINTS):
    """d^i/dx^i d^j/dy^j of SMOOTH in closed form."""
    return np.sin(p[:, 0] + i * np.pi / 2) * 2**j * np.sin(2 * p[:, 1] + j * np.pi / 2)


def values(operator, data=SMOOTH):
    return operator.apply(data)(POINTS, V.names)


def same(a, b, scale=100.0):
    # a few dozen operations of eps on parts of size `scale`
    return abs(a - b).max() <= 100 * EPS * scale


coefficients = st.sampled_from([1.0 + 0 * x, x, y, x * y, 1 + x**2, sn.apply(np.exp, x, derivatives=[np.exp] * 4)])
first_order = st.builds(lambda a, b, c: a * d.x + b * d.y + c * one, coefficients, coefficients, coefficients)


@given(coefficients, st.integers(0, 2), st.integers(0, 2))
def test_a_term_is_coefficient_times_derivative(c, i, j):
    expected = c(POINTS, V.names) * derivative(i, j)
    assert same(values(c * (d.x**i @ d.y**j)), expected)


@given(first_order, first_order)
def test_composition_is_application_after_application(a, b):
    assert same(values(a @ b), values(a, b.apply(SMOOTH)), 1e4)


@given(first_order, first_order, first_order)
def test_algebra(a, b, c):
    assert same(values(a + b), values(a) + values(b))
    assert same(values(a - b), values(a) - values(b))
    assert same(values(2 * a - a / 2), 1.5 * values(a))
    assert same(values(-a), -values(a))
    assert same(values((a + b) @ c), values(a @ c) + values(b @ c), 1e4)
    assert same(values(c @ (a + b)), values(c @ a) + values(c @ b), 1e4)
    assert same(values((a @ b) @ c), values(a @ (b @ c)), 1e6)
    assert same(values(x * (a + b)), values(x * a) + values(x * b))


def test_leibniz_by_hand():
    # d/dx (x^2 d/dx) = 2 x d/dx + x^2 d^2/dx^2
    composed = d.x @ (x**2 * d.x)
    assert same(values(composed), 2 * POINTS[:, 0] * derivative(1, 0) + POINTS[:, 0] ** 2 * derivative(2, 0))
    commutator = d.x @ (x * one) - (x * one) @ d.x
    assert commutator.terms == one.terms


def test_powers_and_the_identity():
    assert (d.x**0).terms == one.terms
    assert (d.x**3).terms == (d.x @ d.x @ d.x).terms
    assert (one @ d.x).terms == d.x.terms == (d.x @ one).terms
    assert (d.x ** np.int64(2)).terms == (d.x**2).terms
    assert same(values((d.x + d.y) ** 2), derivative(2, 0) + 2 * derivative(1, 1) + derivative(0, 2))
    assert (0 * d.x).terms == () == (d.x - d.x).terms
    assert sum([d.x, d.y]).terms == (d.x + d.y).terms
    assert (np.float64(2) * d.x).terms == (d.x * 2).terms
    assert [op.terms for op in d] == [d.x.terms, d.y.terms]


def test_a_name_of_the_library_can_be_an_axis():
    S = sn.TensorSpace(space=sn.BSpline((0, 1), cells=2), time=sn.BSpline((0, 1), cells=2))
    assert isinstance(S.d.space, Operator)
    assert S.d.space.terms == S.d["space"].terms


def test_faces():
    face = (x * d.x + d.y).at(x=2)
    on_face = POINTS.copy()
    on_face[:, 0] = 2
    expected = 2 * derivative(1, 0, on_face) + derivative(0, 1, on_face)
    assert same(values(face), expected)
    assert face.apply(SMOOTH).axes == ("y",)
    edge = one.at(x=0, y=1)
    assert same(values(edge, x + y), np.ones(9))
    assert same(values(3 * face), 3 * expected)
    assert same(values((1 + y) * one.at(x=2)), (1 + POINTS[:, 1]) * derivative(0, 0, on_face))
    # an operator along other axes may follow the evaluation
    assert same(values(d.y @ one.at(x=2)), derivative(0, 1, on_face))


def test_on_another_space():
    L = (x * d.x).on(W)
    assert L.space == W
    assert L.terms == (x * d.x).terms
    with pytest.raises(ValueError, match=r"axes \('x',\), expected \('x', 'y'\)"):
        d.x.on(V.drop("y"))


def test_data_of_every_kind():
    u = sn.project(SMOOTH, V)
    # the spline's derivative is the function that `derivative` returns
    assert same(values(d.x, u), u.derivative("x")(POINTS), 10)
    assert same(values(x * one, 2.0), 2 * POINTS[:, 0])
    assert values(d.x, 2.0) == pytest.approx(0.0, abs=0)
    with pytest.raises(ValueError, match="derivative 5"):
        d.x.apply((d.x**4).apply(u))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: d.x + x, TypeError, r"`c \* V\.identity`"),
        (lambda: d.x + 1, TypeError, r"`c \* V\.identity`"),
        (lambda: x - d.x, TypeError, r"`c \* V\.identity`"),
        (lambda: d.x + "x", TypeError, "str, expected another operator"),
        (lambda: d.x * x, TypeError, r"`c \* L`"),
        (lambda: d.x * d.y, TypeError, r"`L1 @ L2`"),
        (lambda: d.x @ x, TypeError, "@"),
        (lambda: np.ones(2) * d.x, TypeError, "ndarray"),
        (lambda: math.nan * d.x, ValueError, "nan, expected a finite number"),
        (lambda: d.x / 0, ZeroDivisionError, "zero"),
        (lambda: d.x**-1, TypeError, "-1, expected an integer >= 0"),
        (lambda: d.x**1.5, TypeError, "1.5"),
        (lambda: d.z, AttributeError, "no axis 'z', expected one of x, y"),
        (lambda: d.x.at(), ValueError, r"L\.at\(x=1\)"),
        (lambda: d.x.at(x=3), ValueError, r"outside the axis's domain \[0, 2\]"),
        (lambda: d.x.at(x=math.nan), ValueError, "outside"),
        (lambda: d.x.at(z=3), ValueError, "the axis 'z'"),
        (lambda: one.at(x=1).at(x=0), ValueError, "already evaluated at x = 1"),
        (lambda: d.x @ one.at(x=1), ValueError, r"apply \.at\(\.\.\.\) last"),
        (lambda: x * one.at(x=1), ValueError, r"apply \.at\(\.\.\.\) last"),
        (lambda: d.x + W.d.x, ValueError, r"L\.on\(W\)"),
        (lambda: d.x @ W.d.x, ValueError, r"L\.on\(W\)"),
        (lambda: sn.product(q=np.sin) * d.x, ValueError, "the axis 'q'"),
        (lambda: d.x.apply(np.sin), TypeError, "`data` is ufunc"),
        (lambda: d.x.apply(sn.product(q=np.sin)), ValueError, "the axis 'q'"),
        (lambda: sn.TensorSpace(), ValueError, "at least one axis"),
        (lambda: sn.TensorSpace(x=3), TypeError, "axis 'x' is int"),
        (lambda: sn.TensorSpace(_x=V.axes["x"]), ValueError, "'_x'"),
        (lambda: sn.TensorSpace(**{"a b": V.axes["x"]}), ValueError, "'a b', expected an identifier"),
        (lambda: sn.TensorSpace(**{"lambda": V.axes["x"]}), ValueError, "keyword"),
        (lambda: V.drop("z"), ValueError, "'z'"),
        (lambda: V.drop("x", "y"), ValueError, "at least one"),
        (lambda: V.replace(z=V.axes["x"]), ValueError, "'z'"),
    ],
)
def test_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_repr_is_short():
    assert repr(d.x - x * d.y**2) == "Operator(2 separable terms: d.x, d.y**2)"
    assert repr(0 * d.x) == "Operator(0 separable terms)"


# ------------------------------------------------------------------------------------------------------------- forms


def test_a_form_is_the_product_of_its_sums():
    form = sn.inner(d.x + x * d.y, d.x)
    assert [(a.weight, b.weight) for a, b in form.pairs] == [(1.0, 1.0)] * 2
    total = form + sn.inner(one, one) - 2 * sn.inner(d.y, d.y)
    assert isinstance(total, BilinearForm)
    assert len(total.pairs) == 4
    assert total.pairs[-1][0].weight == -2.0
    assert len(sum([form, form]).pairs) == 4
    assert (form / 2).pairs[0][0].weight == 0.5
    assert (0 * form).pairs == ()
    assert total.on(W).space == W
    assert repr(form) == "BilinearForm(2 separable integrals over x, y)"


def test_faces_of_forms():
    robin = sn.inner(2 * one.at(x=2), one.at(x=2))
    assert [t.factor("x").at for t in robin.pairs[0]] == [2.0, 2.0]
    with pytest.raises(ValueError, match=r"evaluated at x = 2\.0, the other at None.*\.at\(x=\.\.\.\)"):
        sn.inner(one.at(x=2), one)
    with pytest.raises(ValueError, match=r"at x = 2\.0, the other at 0\.0"):
        sn.inner(one.at(x=2), one.at(x=0))


def test_linear_forms_add_up():
    load = sn.load_on(1 + y, one.at(x=2))
    total = 2 * load + x + 1 - sn.load_on(y, d.x)
    assert isinstance(total, LinearForm)
    assert len(total.parts) == 4
    assert same(total.parts[0][0](POINTS, V.names), 2 * (1 + POINTS[:, 1]))
    assert same(total.parts[3][0](POINTS, V.names), -POINTS[:, 1])
    # from the left, numbers and expressions
    assert len((x + load).parts) == 2
    assert len((1 - load).parts) == 2
    assert same((1 - load).parts[0][0](POINTS, V.names), -(1 + POINTS[:, 1]))
    assert same((load / 4).parts[0][0](POINTS, V.names), (1 + POINTS[:, 1]) / 4)
    assert (0 * load).parts == ()
    assert len(sum([load, load]).parts) >= 2
    assert load.on(W).space == W
    assert repr(load) == "LinearForm(1 loads over x, y)"
    u = sn.project(x * y, V)
    assert len(sn.load_on(u, one).parts) == 1


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: sn.inner(d.x, x), TypeError, "`test` is Coefficient"),
        (lambda: sn.inner(x, d.x), TypeError, "`trial` is Coefficient"),
        (lambda: sn.inner(d.x, W.d.x), ValueError, "different spaces"),
        (lambda: sn.inner(d.x**5, d.x), ValueError, r"d\.x\*\*5 needs 5 derivatives on axis 'x', which has 4.*degree="),
        (lambda: sn.inner(d.x, d.y**5), ValueError, r"d\.y\*\*5"),
        (lambda: sn.inner(d.x, d.x) + 1, TypeError, "BilinearForm"),
        (lambda: sn.inner(d.x, d.x) + sn.inner(W.d.x, W.d.x), ValueError, r"different spaces.*a\.on\(W\)"),
        (lambda: x * sn.inner(d.x, d.x), TypeError, r"sn\.inner\(c \* d\.x, d\.x\)"),
        (lambda: math.inf * sn.inner(d.x, d.x), ValueError, "inf, expected a finite"),
        (lambda: sn.inner(d.x, d.x).on(V.drop("x")), ValueError, "the new space"),
        (lambda: sn.load_on(1, x), TypeError, "`test` is Coefficient"),
        (lambda: sn.load_on(np.sin, one), TypeError, "`data` is ufunc"),
        (lambda: sn.load_on(math.nan, one), ValueError, "`data` is nan"),
        (lambda: sn.load_on(sn.product(q=np.sin), one), ValueError, "`data` names the axis 'q'"),
        (lambda: sn.load_on(1, d.x**5), ValueError, "5 derivatives"),
        (lambda: sn.load_on(1, one) + sn.load_on(1, W.identity), ValueError, r"f\.on\(W\)"),
        (lambda: sn.load_on(1, one) - sn.load_on(1, W.identity), ValueError, r"f\.on\(W\)"),
        (lambda: sn.load_on(1, one) + np.sin, TypeError, "the summand"),
        (lambda: x * sn.load_on(1, one), TypeError, r"sn\.load_on\(c \* g, test\)"),
        (lambda: sn.load_on(1, one).on(V.drop("x")), ValueError, "the new space"),
    ],
)
def test_refused_in_forms(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_jump_counts_as_a_missing_derivative():
    rough = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4, degree=3, continuity=0))
    sn.inner(rough.d.x, rough.d.x)
    with pytest.raises(ValueError, match="which has 1"):
        sn.inner(rough.d.x**2, rough.identity)


def test_terms_do_not_depend_on_the_space():
    assert Coefficient(d.x.apply(x**2).terms).axes == ("x",)
