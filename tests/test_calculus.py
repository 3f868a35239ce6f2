"""The calculus of CP functions: closed and exact."""

import math

import numpy as np
import pytest
from function_support import SPACES, dense, gauss, random_cp, random_points, size
from hypothesis import given
from hypothesis import strategies as st
from support import dev_size

import sepnet as sn
from sepnet.backends.arrays import device_of, to_host
from sepnet.coefficients import Coefficient

EPS = np.finfo(float).eps
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)

# pairs of bases on one interval: other degree, breaks, continuity, end zeros, family
PARTNERS = {
    "degree": (sn.BSpline((0, 1), cells=3), sn.BSpline((0, 1), cells=3, degree=1)),
    "breaks": (sn.BSpline((0, 1), cells=3), sn.BSpline(breaks=(0, 0.2, 0.9, 1), degree=2)),
    "jumps": (sn.BSpline((0, 1), cells=4, degree=2), sn.BSpline((0, 1), cells=2, degree=0)),
    "zeros": (sn.BSpline((0, 1), cells=3, zero="both"), sn.BSpline((0, 1), cells=3, zero="left")),
    "ring": (sn.BSpline((0, 1), cells=5, periodic=True), sn.BSpline((0, 1), cells=4, degree=2)),
    "high": (sn.BSpline((0, 1), cells=2, degree=15), sn.BSpline((0, 1), cells=2, degree=9)),
    "polynomials": (sn.Legendre((0, 1), 3), sn.Chebyshev((0, 1), 5, "both")),
    "polynomial and spline": (sn.Legendre((0, 1), 3), sn.BSpline((0, 1), cells=3, degree=2)),
    "waves": (sn.Fourier((0, 1), 2), sn.Fourier((0, 1), 3)),
}
every_pair = pytest.mark.parametrize("pair", PARTNERS.values(), ids=PARTNERS)


def two(pair, rank=2):
    """Two functions of two variables, the second axis being the same for both."""
    other = sn.BSpline((-1, 1), cells=2)
    u, v = (sn.TensorSpace(x=basis, y=other) for basis in pair)
    return random_cp(u, rank, 0), random_cp(v, rank + 1, 1)


# Values at points: a few dozen operations of eps on parts of size `scale`; changing the basis costs its condition
# number, which the tests of the bases bound: 100 for the degrees here, and some 1e4 at degree 15 to 24
def close(u, expected, points, scale, factor=1e3):
    assert abs(to_host(u(points)) - expected).max() <= factor * EPS * scale


# ----------------------------------------------------------------------------------------------------------- algebra


@every_pair
def test_sum_difference_product(pair):
    u, v = two(pair)
    points = random_points(u.space, 40)
    a, b = dense(u, points), dense(v, points)
    scale = size(u, points) + size(v, points)
    factor = 1e5 if max(p.degree for p in pair) > 7 else 1e3
    for left, right, p, q in [(u, v, a, b), (v, u, b, a)]:
        close(left + right, p + q, points, scale, factor)
        close(left - right, p - q, points, scale, factor)
        close(left * right, p * q, points, scale**2, factor * 100 if factor > 1e4 else factor)
    assert (u + v).rank == u.rank + v.rank
    assert (u * v).rank == u.rank * v.rank
    assert (u * v).space.axes["x"].degree == pair[0].degree + pair[1].degree


@given(st.floats(-4, 4), st.floats(-4, 4), st.integers(0, 3), st.integers(0, 3))
def test_vector_space(a, b, r, s):
    space = SPACES["splines"]
    u, v = random_cp(space, r, 0), random_cp(space, s, 1)
    points = random_points(space, 5)
    p, q = dense(u, points), dense(v, points)
    scale = 20 * (size(u, points) + size(v, points))
    close(a * u + v * b, a * p + b * q, points, scale)
    close(-(u - v), q - p, points, scale)
    close(u / 4 + 0, p / 4, points, scale)
    assert (u + v).space == space
    assert sum([u, v]).rank == r + s


@every_space
def test_constants_are_added_exactly(xp, space):
    u = random_cp(space, 2, backend=xp)
    host = random_points(space, 20)
    points = xp.asarray(host)
    expected = to_host(u(points))
    for v, sign in [(u + 1.5, 1), (1.5 + u, 1), (u - (-1.5), 1), (1.5 - u, -1)]:
        assert v.rank == 3
        assert v.dtype == u.dtype
        assert v.device == u.device
        assert all(basis.zero is None for basis in v.space.bases)
        # single precision: the points are rounded in both, the sums differ by eps of their parts
        assert abs(to_host(v(points)) - (1.5 + sign * expected)).max() <= 1e3 * xp.eps * size(u, host)
    assert u + 0 is u
    assert (u + np.float64(2.0)).rank == 3


def test_expressions_and_functions_give_data():
    u = random_cp(SPACES["splines"], 2)
    x, y, t = u.space.coordinates
    points = random_points(u.space, 6)
    value = dense(u, points)
    for data, expected in [
        (u + x, value + points[:, 0]),
        (x + u, value + points[:, 0]),
        (u - x, value - points[:, 0]),
        (x - u, points[:, 0] - value),
        (y * u, points[:, 1] * value),
        (u * (1 + t), (1 + points[:, 2]) * value),
        (u.as_coefficient(), value),
    ]:
        assert isinstance(data, Coefficient)
        assert abs(data(points, u.space.names) - expected).max() <= 100 * EPS * 4 * size(u, points)


def test_repeated_products_and_mixed_axes():
    u = random_cp(SPACES["mixed"], 2)
    points = random_points(u.space, 10)
    value = dense(u, points)
    close(u * u * u, value**3, points, size(u, points) ** 3)
    assert (u * u).space.axes["c"].zero == "left"


BAD_NUMBERS = ("1", None, [1], 1j)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda u: u + random_cp(u.space.drop("t"), 1), ValueError, "different axes meet"),
        (lambda u: u * random_cp(u.space.replace(x=sn.BSpline((0, 2), cells=2)), 1), ValueError, "one box"),
        (lambda u: u + random_cp(u.space.replace(x=sn.Fourier((-1, 2), 2)), 1), TypeError, r"u\.project\(W\)"),
        (lambda u: u + "x", TypeError, "CP"),
        (lambda u: u * None, TypeError, "CP"),
        (lambda u: u * np.ones(3), TypeError, "CP"),
        (lambda u: u / u, TypeError, "CP"),
        (lambda u: 1 / u, TypeError, "CP"),
        (lambda u: u * math.nan, ValueError, "nan, expected a finite"),
        (lambda u: u + math.inf, ValueError, "inf, expected a finite"),
        (lambda u: u / 0, ZeroDivisionError, "zero"),
        (lambda u: u.inner(3), TypeError, "`other` is int"),
        (lambda u: u.inner(random_cp(u.space.drop("t"), 1)), ValueError, "different axes"),
        (lambda u: u.restrict(x=9), ValueError, "9"),
        (lambda u: u.restrict(x=math.nan), ValueError, "nan"),
        (lambda u: u.restrict(q=0), ValueError, "the axis 'q'"),
        (lambda u: u.derivative("q"), ValueError, "the axis 'q'"),
        (lambda u: u.derivative("x", -1), ValueError, "`order` is -1, expected an integer, at least 0"),
        *((lambda u, bad=bad: u.derivative("x", bad), TypeError, "`order` is") for bad in BAD_NUMBERS),
        (lambda u: u.derivative("x", 1.5), TypeError, "`order` is 1.5"),
        (lambda u: u.derivative(["x"]), TypeError, r"derivative names the axis \['x'\], expected a str"),
        (lambda u: u.integrate(["x"]), TypeError, r"integrate names the axis \['x'\], expected a str"),
        *((lambda u, bad=bad: u.restrict(x=bad), TypeError, "position on axis 'x' is") for bad in (*BAD_NUMBERS, True)),
        (lambda u: u.restrict(x=np.ones(2)), TypeError, "position on axis 'x' is"),
        (lambda u: u.restrict(x=10**400), ValueError, "position on axis 'x' is inf"),
        (lambda u: u.project(None), TypeError, "project: `space` is NoneType, expected a TensorSpace"),
        (lambda u: u.compress("a"), TypeError, "`tol` is 'a', expected a real number"),
        (lambda u: u.compress(True), TypeError, "`tol` is True"),
        (lambda u: u.integrate("x", density=3), TypeError, "`density` is int"),
        (lambda u: u.integrate("x", density=lambda s: s + 0j), TypeError, "`density` returned complex"),
        (lambda u: u.derivative("x", 4), ValueError, "expected at most 3"),
        (lambda u: u.integrate("q"), ValueError, "the axis 'q'"),
        (lambda u: u.integrate("x", "t", density=np.cos), ValueError, "exactly one"),
        (lambda u: u.integrate("x", density=lambda s: s[:2]), ValueError, "returned shape"),
        (lambda u: u.project(u.space.drop("x")), ValueError, "different axes"),
        (lambda u: u.project(u.space.replace(x=sn.BSpline((0, 1), cells=2))), ValueError, "one box"),
    ],
)
def test_refused(make, error, text):
    with pytest.raises(error, match=text):
        make(random_cp(SPACES["splines"], 2))


# ----------------------------------------------------------------------------------------- restriction and derivative


@every_space
def test_restrict(xp, space):
    u = random_cp(space, 3, backend=xp)
    host = random_points(space, 1)
    at = dict(zip(space.names, host[0], strict=True))
    expected = dense(u, host)[0]
    bound = 1e3 * xp.eps * size(u, host)
    for k in range(1, space.dim + 1):
        fixed = {name: at[name] for name in space.names[-k:]}
        rest = u.restrict(**fixed)
        if k == space.dim:
            assert rest.shape == ()
            assert rest.dtype == u.dtype
            assert str(device_of(rest)) == str(u.device)
            value = float(rest)
        else:
            assert rest.space == space.drop(*fixed)
            value = float(rest(xp.asarray(host[:, : space.dim - k]))[0])
        assert abs(value - expected) <= bound
    assert u.restrict() is u


@every_space
def test_derivative(xp, space):
    u = random_cp(space, 2, backend=xp)
    low, high = np.array([b.domain for b in space.bases]).T
    host = random_points(space, 30)
    for k, (name, basis) in enumerate(space.items):
        for order in range(min(basis.max_order, 3) + 1):
            v = u.derivative(name, order)
            orders = tuple(order * (i == k) for i in range(space.dim))
            if order and isinstance(basis, sn.BSpline):
                assert v.space.axes[name].degree == basis.degree - order
            # values change by the basis change, and float32 also by the rounding of the points
            slack = size(u, host, orders) + (size(u, host, tuple(o + (i == k) for i, o in enumerate(orders))))
            points = xp.asarray(host)
            got, want = to_host(v(points)), dense(u, to_host(points).astype(float), orders)
            assert abs(got - want).max() <= 1e3 * xp.eps * slack
    assert u.derivative(space.names[0], 0) is u
    assert (low < high).all()


def test_mixed_derivatives_commute_and_match_the_hessian():
    u = random_cp(SPACES["splines"], 2)
    points = random_points(u.space, 10)
    one, other = u.derivative("x").derivative("t"), u.derivative("t").derivative("x")
    scale = size(u, points, (1, 0, 1))
    close(one, other(points), points, scale)
    close(one, u.hessian(points)[:, 0, 2], points, scale)
    close(u.derivative("x"), u.gradient(points)[:, 0], points, size(u, points, (1, 0, 0)))


# ---------------------------------------------------------------------------------------------- integrals and norms


@every_space
def test_integrals_and_inner_products_are_those_of_gauss(xp, space):
    u, v = random_cp(space, 2, 0, backend=xp), random_cp(space, 3, 1, backend=xp)
    points, weights = gauss(space)
    a, b = dense(u, points), dense(v, points)
    volume = float(weights.sum())
    scale = volume * (1 + size(u, points)) * (1 + size(v, points))
    assert float(u.integrate()) == pytest.approx(float(weights @ a), abs=1e3 * xp.eps * scale)
    assert u.inner(v) == pytest.approx(float(weights @ (a * b)), abs=1e3 * xp.eps * scale)
    assert v.inner(u) == pytest.approx(u.inner(v), abs=1e3 * xp.eps * scale)
    assert u.norm() == pytest.approx(math.sqrt(float(weights @ a**2)), rel=1e3 * xp.eps)
    assert isinstance(u.norm(), float)
    assert isinstance(u.inner(v), float)


@every_space
def test_integrate_some_axes(xp, space):
    u = random_cp(space, 2, backend=xp)
    for name in space.names[: space.dim - 1]:
        rest = u.integrate(name)
        assert rest.space == space.drop(name)
        assert float(rest.integrate()) == pytest.approx(
            float(u.integrate()), abs=1e3 * xp.eps * 10 * size(u, gauss(space)[0])
        )
    assert float(u.integrate(*space.names)) == float(u.integrate())


def test_densities():
    u = random_cp(SPACES["splines"], 2)
    points, weights = gauss(u.space, extra=30)
    t = points[:, 2]
    expected = float(weights @ (dense(u, points) * np.exp(-t)))
    got = float(u.integrate("t", density=lambda s: np.exp(-s)).integrate())
    # exp(-s) on cells of length 1: Gauss with 17 points is exact to round-off
    assert got == pytest.approx(expected, abs=1e-12 * size(u, points) * 9)
    uniform = u.integrate("t", density=lambda s: np.full_like(s, 1 / 3))
    assert float(uniform.integrate()) == pytest.approx(float(u.integrate()) / 3, rel=1e-12)
    with pytest.raises(ValueError, match="not finite"):
        u.integrate("t", density=lambda s: np.full_like(s, np.nan))


@every_pair
def test_inner_products_across_spaces(pair):
    u, v = two(pair)
    x = sn.Legendre((0, 1), 60) if not isinstance(pair[0], sn.Fourier) else sn.Fourier((0, 1), 20)
    cells = np.unique(np.concatenate([p.breaks for p in pair]))
    if isinstance(pair[0], sn.BSpline) or isinstance(pair[1], sn.BSpline):
        x = sn.BSpline(breaks=cells, degree=15)
    points, weights = gauss(sn.TensorSpace(x=x, y=u.space.axes["y"]), extra=20)
    exact = float(weights @ (dense(u, points) * dense(v, points)))
    assert u.inner(v) == pytest.approx(exact, abs=1e5 * EPS * 2 * size(u, points) * size(v, points))


@pytest.mark.parametrize("delta", [1e-3, 1e-8, 1e-13, 0.0])
def test_the_norm_of_a_small_difference(delta):
    """The Gram formula would return noise of 1e-8 here; the orthogonalised norm sees down to round-off."""
    space = SPACES["splines"]
    u, w = random_cp(space, 4, 0), random_cp(space, 1, 1)
    w = w * (1 / w.norm())
    difference = (u + delta * w) - u
    # 14 digits of the largest column, whose norm is below 10 here
    assert abs(difference.norm() - delta) <= 1e-14 * 10
    assert random_cp(SPACES["line"], 3).norm() > 0


def test_norm_of_high_degree_products():
    """Their mass matrix is numerically singular; the norm must not need its Cholesky factor."""
    line = sn.TensorSpace(x=sn.BSpline((0, 1), cells=2, degree=15))
    u = random_cp(line, 1)
    points, weights = gauss((u * u).space)
    # the coefficients of degree 30 carry a condition number of 1e6
    assert (u * u).norm() == pytest.approx(math.sqrt(float(weights @ dense(u, points) ** 4)), rel=1e-9)


@every_space
def test_norm_of_every_backend(xp, space):
    u = random_cp(space, 3, backend=xp)
    host = sn.CP(space, [to_host(f).astype(np.float64) for f in u.factors])
    assert u.norm() == pytest.approx(host.norm(), rel=100 * xp.eps)
    assert (u - u).norm() <= 100 * xp.eps * u.norm()


# -------------------------------------------------------------------------------------------------------- projection


PROJECTIONS = {
    "coarser": (SPACES["splines"], {"x": sn.BSpline((-1, 2), cells=2, zero="both"), "t": sn.BSpline((0, 3), cells=2)}),
    "other family": (SPACES["splines"], {"x": sn.Fourier((-1, 2), 3), "y": sn.Legendre((0, 1), 4)}),
    "other zeros": (SPACES["splines"], {"y": sn.BSpline((0, 1), cells=4, zero="left")}),
    "waves to splines": (SPACES["mixed"], {"a": sn.BSpline((0, 2), cells=6, periodic=True)}),
}


@pytest.mark.parametrize(("source", "changes"), PROJECTIONS.values(), ids=PROJECTIONS)
def test_projection_is_orthogonal(source, changes):
    u = random_cp(source, 3)
    W = source.replace(**changes)
    p, error = u.project(W)
    assert p.space == W
    # the residual against a function of W, all by a fine Gauss rule on joint cells
    joint = {}
    for (name, a), b in zip(source.items, W.bases, strict=True):
        waves = isinstance(a, sn.Fourier) or isinstance(b, sn.Fourier)
        joint[name] = sn.BSpline(breaks=np.unique(np.r_[a.breaks, b.breaks]), degree=15 if waves else 5)
    points, weights = gauss(sn.TensorSpace(**joint), extra=4)
    residual = dense(u, points) - dense(p, points)
    for seed in range(5):
        w = random_cp(W, 1, 10 + seed)
        value = float(weights @ (residual * dense(w, points)))
        # a sum of round-off over the box against functions of norm about one
        assert abs(value) <= 1e-11 * u.norm() * w.norm()
    exact = math.sqrt(float(weights @ residual**2) / float(weights @ dense(u, points) ** 2))
    assert error == pytest.approx(exact, rel=1e-9)


def test_projection_into_a_larger_space_is_exact(xp):
    space = SPACES["splines"]
    u = random_cp(space, 2, backend=xp)
    finer = sn.TensorSpace(**{name: b.refine().with_zero(None) for name, b in space.items})
    p, error = u.project(finer)
    assert error <= 100 * xp.eps
    host = random_points(space, 10)
    assert abs(to_host(p(xp.asarray(host))) - dense(u, host)).max() <= 1e3 * xp.eps * size(u, host)
    back = p.project(space)
    assert back.error <= 200 * xp.eps
    # and twice is once
    coarse = u.project(space.replace(x=sn.BSpline((-1, 2), cells=2))).function
    assert coarse.project(coarse.space).error <= 100 * xp.eps


def test_projection_of_zero():
    u = 0 * random_cp(SPACES["line"], 1)
    assert u.project(sn.TensorSpace(x=sn.BSpline((0, 1), cells=2))).error == 0.0


# --------------------------------------------------------------------------------------------------------- full array


def test_full_array():
    u = random_cp(SPACES["splines"], 2)
    assert abs(u.full() - np.einsum("ar,br,cr->abc", *u.factors)).max() <= 10 * EPS
    big = sn.TensorSpace(**dict.fromkeys("abcdef", sn.BSpline((0, 1), cells=60)))
    with pytest.raises(ValueError, match="restrict axes first"):
        random_cp(big, 1).full()


@dev_size
@given(st.integers(0, 2**31), st.integers(1, 3))
def test_leibniz_in_every_namespace(xp, seed, rank):
    """(u v)' = u' v + u v', exactly."""
    space = SPACES["rough"]
    u, v = random_cp(space, rank, seed, backend=xp), random_cp(space, 2, seed + 1, backend=xp)
    left = (u * v).derivative("x")
    right = u.derivative("x") * v + u * v.derivative("x")
    # derivatives on these cells are below 8 p times the coefficients
    assert (left - right).norm() <= 1e4 * xp.eps * (1 + right.norm())


@given(st.integers(0, 2**31), st.sampled_from(sorted(SPACES)))
def test_fundamental_theorem(seed, name):
    """The integral of a derivative is the difference of the values at the ends."""
    u = random_cp(SPACES[name], 2, seed)
    low, high = u.space.axes["x"].domain
    got = u.derivative("x").integrate("x")
    want_high, want_low = u.restrict(x=high), u.restrict(x=low)
    if u.space.dim == 1:
        difference = float(got) - float(want_high - want_low)
        assert abs(difference) <= 1e3 * EPS * 10
        return
    assert (got - (want_high - want_low)).norm() <= 1e4 * EPS * (1 + u.norm())
