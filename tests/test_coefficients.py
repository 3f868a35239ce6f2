"""Coefficient expressions: a commutative ring of functions that are evaluated pointwise."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sepnet as sn
from sepnet.coefficients import Coefficient, as_coefficient
from sepnet.univariate import Univariate

NAMES = ("x", "y", "t")
V = sn.TensorSpace(**dict.fromkeys(NAMES, sn.BSpline((-1, 1), cells=2)))
x, y, t = V.coordinates
POINTS = np.random.default_rng(0).uniform(-1, 1, (7, 3))
EPS = np.finfo(float).eps

LEAVES = {
    "x": (x, lambda p: p[:, 0]),
    "y": (y, lambda p: p[:, 1]),
    "sin": (sn.apply(np.sin, 2 * x - 1), lambda p: np.sin(2 * p[:, 0] - 1)),
    "exp": (sn.apply(np.exp, t), lambda p: np.exp(p[:, 2])),
    "product": (sn.product(x=np.cos, t=np.abs), lambda p: np.cos(p[:, 0]) * np.abs(p[:, 2])),
}
numbers = st.floats(-4, 4, allow_subnormal=False).map(lambda v: round(v, 3))


@st.composite
def expressions(draw, depth=3):
    """An expression and its values at POINTS by plain NumPy, with the size of its parts for round-off."""
    if depth == 0 or draw(st.booleans()):
        if draw(st.booleans()):
            c = draw(numbers)
            return Coefficient() + c, np.full(len(POINTS), c), abs(c)
        expression, function = LEAVES[draw(st.sampled_from(sorted(LEAVES)))]
        # 3 bounds every leaf on the box
        return expression, function(POINTS), 3.0
    (a, va, sa), (b, vb, sb) = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    kind = draw(st.sampled_from("+-*/^"))
    if kind == "+":
        return a + b, va + vb, sa + sb
    if kind == "-":
        return a - b, va - vb, sa + sb
    if kind == "*":
        return a * b, va * vb, sa * sb
    if kind == "/":
        return a / 3, va / 3, sa
    return a**2, va**2, sa**2


def values(c):
    return c(POINTS, NAMES)


def close(c, expected, scale):
    # some 30 operations of eps each on parts of size `scale`; merging polynomials reorders sums
    assert abs(values(c) - expected).max() <= 200 * EPS * max(scale, 1e-300)


@given(expressions())
def test_expressions_are_pointwise(case):
    close(*case)


@given(expressions(2), expressions(2), expressions(2))
def test_ring_axioms(a, b, c):
    (a, _, sa), (b, _, sb), (c, _, sc) = a, b, c
    scale = (1 + sa) * (1 + sb) * (1 + sc)
    close(a + b, values(b + a), scale)
    close(a * b, values(b * a), scale)
    close((a + b) + c, values(a + (b + c)), scale)
    close((a * b) * c, values(a * (b * c)), scale)
    close(a * (b + c), values(a * b + a * c), scale)
    close(a - a, 0 * POINTS[:, 0], scale)
    close(a + 0, values(a), scale)
    close(1 * a, values(a), scale)
    close(a**3, values(a * a * a), (1 + sa) ** 3)


@pytest.mark.parametrize(
    ("expression", "count"),
    [
        (1 + x**2, 1),
        (x + y, 2),
        (1 + x + y + x * y, 1),
        (x * y - y * x, 0),
        (x - x, 0),
        (0 * x, 0),
        (2 * x + 3 * x, 1),
        (sn.apply(np.sin, x) + sn.apply(np.sin, x), 1),
        (sn.apply(np.sin, x) * sn.apply(np.cos, x) - sn.apply(np.cos, x) * sn.apply(np.sin, x), 0),
        (sn.apply(np.sin, x) + x * sn.apply(np.sin, x), 1),
        (sn.apply(np.sin, x) + sn.apply(np.sin, y), 2),
        ((1 + x**2) * y + (3 - x) * y, 1),
        (sn.product(x=np.sin, y=2.0), 1),
        (sn.product(), 1),
    ],
)
def test_like_terms_merge(expression, count):
    assert len(expression.terms) == count


def test_polynomials_stay_polynomials():
    (term,) = ((1 + x) ** 3).terms
    assert term.factor("x").coefficient.degree == 3
    # the binomial coefficients, with the leading one pulled out
    assert term.weight * np.array(term.factor("x").coefficient.powers) == pytest.approx([1, 3, 3, 1], rel=4 * EPS)


@pytest.mark.parametrize(
    "number", [2, 2.0, True, Fraction(1, 2), np.float64(2), np.float32(2), np.int64(2), np.array(2.0)]
)
def test_every_kind_of_real_number(number):
    value = float(number)
    for expression, expected in [
        (number * x, value * POINTS[:, 0]),
        (x * number, value * POINTS[:, 0]),
        (number + x, value + POINTS[:, 0]),
        (x + number, value + POINTS[:, 0]),
        (number - x, value - POINTS[:, 0]),
        (x - number, POINTS[:, 0] - value),
        (x / number, POINTS[:, 0] / value),
    ]:
        assert isinstance(expression, Coefficient)
        close(expression, expected, 10)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: np.sin(x), TypeError, r"sn\.apply\(np\.sin, \.\.\.\)"),
        (lambda: x / y, TypeError, r"sn\.apply\(lambda s: 1 / s, x\)"),
        (lambda: 1 / x, TypeError, "reciprocal"),
        (lambda: np.float64(1) / x, TypeError, "reciprocal"),
        (lambda: x / 0, ZeroDivisionError, "divided by zero"),
        (lambda: sn.apply(np.sin, x * y), ValueError, r"depends on x and y.*does not separate.*sn\.project"),
        (lambda: sn.apply(lambda s: np.inf + s, 0 * x), ValueError, "not finite"),
        (lambda: sn.apply(np.sin, 3.0), TypeError, "`argument` is float"),
        (lambda: sn.apply(3.0, x), TypeError, "`function` is float"),
        (lambda: sn.apply(np.sin, x, derivatives=[1]), TypeError, r"`derivatives\[0\]` is int"),
        (lambda: sn.product(x="sin"), TypeError, "`x` is str"),
        (lambda: np.ones(3) * x, TypeError, r"array of shape \(3,\)"),
        (lambda: x * np.ones(3), TypeError, r"array of shape \(3,\).*np\.interp"),
        (lambda: np.complex128(1j) * x, TypeError, "complex128.*real"),
        (lambda: 1j * x, TypeError, "complex"),
        (lambda: x * math.nan, ValueError, "nan, expected a finite number"),
        (lambda: x + math.inf, ValueError, "inf, expected a finite number"),
        (lambda: x ** (-1), TypeError, r"-1.*sn\.apply"),
        (lambda: x**0.5, TypeError, r"0\.5.*sn\.apply"),
        (lambda: x**True, TypeError, "True"),
        (lambda: as_coefficient(np.sin, "source"), TypeError, r"`source` is ufunc.*sn\.product\(x=f\)"),
        (lambda: as_coefficient(math.nan, "source"), ValueError, "`source` is nan"),
        (lambda: as_coefficient([1.0], "source"), TypeError, "`source` is list"),
        (lambda: sn.product(q=np.sin)(POINTS, NAMES), ValueError, "depends on q"),
        (lambda: x(POINTS[:, :2], NAMES), ValueError, r"shape \(7, 2\), expected \(n, 3\)"),
    ],
)
def test_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def two_columns(s):
    return np.stack([s, s])


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        (math.sin, TypeError, "'sin' failed.*shape.*elementwise"),
        (lambda s: 1.0 if s > 0 else 0.0, ValueError, "'<lambda>' failed.*elementwise"),
        (two_columns, ValueError, r"'two_columns' returned shape \(2, 7\).*\(7,\)"),
        (lambda s: s[:3], ValueError, r"returned shape \(3,\)"),
        (lambda s: np.where(s > 0, np.nan, 1.0), ValueError, "not finite at"),
        (lambda s: np.full_like(s, np.inf), ValueError, "not finite at"),
        (lambda s: None, TypeError, "returned None.*`return`"),
        (lambda s: ["a"] * len(s), TypeError, "returned list"),
    ],
)
def test_callables_are_checked(function, error, text):
    with pytest.raises(error, match=text):
        sn.apply(function, x)(POINTS, NAMES)


def test_constant_callables_and_unhashable_ones():
    close(sn.apply(np.cos, 0 * x), np.ones(7), 1)
    close(sn.apply(np.exp, 0 * x + 2) * y, np.exp(2.0) * POINTS[:, 1], 8)
    close(sn.product(x=lambda s: 2.5), np.full(7, 2.5), 3)
    cubic = np.polynomial.Polynomial([1.0, 0.0, 0.0, 2.0])  # defines == but no hash
    twice = sn.apply(cubic, x) * y + y * sn.apply(cubic, x)
    close(twice, 2 * cubic(POINTS[:, 0]) * POINTS[:, 1], 10)


@given(st.integers(0, 4), st.integers(0, 3), numbers, numbers)
def test_derivative_of_a_univariate_function(power, other, a, b):
    """The derivative of s**power * exp(a s + b) * cos(s) against its closed form."""
    polynomial = x**power + other
    factor = sn.apply(np.exp, a * x + b, derivatives=[np.exp])
    wave = sn.apply(np.cos, x, derivatives=[lambda s: -np.sin(s)])
    derived = V.d.x.apply(polynomial * factor * wave)
    s = POINTS[:, 0]
    p, dp = s**power + other, power * s ** max(power - 1, 0)
    e = np.exp(a * s + b)
    expected = dp * e * np.cos(s) + p * a * e * np.cos(s) - p * e * np.sin(s)
    # exp(8) bounds the factor, 20 the rest
    close(derived, expected, 20 * np.exp(8))


def test_unknown_derivative_is_named():
    with pytest.raises(ValueError, match=r"derivative of the callable 'sin'.*derivatives=\[\.\.\.\]"):
        V.d.x.apply(sn.apply(np.sin, x))


def test_zero_leading_coefficient_normalises():
    assert Univariate((0.0, 2.0, 0.0)).normalised() == (2.0, Univariate((0.0, 1.0, 0.0)))
    assert Univariate((0.0,)).normalised()[0] == 0.0


def test_repr_is_short():
    assert repr(x * y + 1) == "Coefficient(2 separable terms in x, y)"
    assert repr(Coefficient()) == "Coefficient(0 separable terms in no axis)"
