"""Lower ranks with a certified error: compress, the norm behind it, and dense arrays made separable."""

import itertools
import math

import numpy as np
import pytest
from function_support import SPACES, random_cp, random_points
from hypothesis import given
from hypothesis import strategies as st
from support import dev_size

import sepnet as sn
from sepnet.backends.arrays import to_host
from sepnet.functions.dense import _nested, decompose, mode_product, truncated_svd
from sepnet.functions.rounding import _pivots
from sepnet.separable_norm import MANY_COLUMNS, separable_norm

EPS = np.finfo(float).eps
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def dense(columns):
    total = 0.0
    for r in range(columns[0].shape[1]):
        term = np.ones(())
        for c in columns:
            term = np.multiply.outer(term, to_host(c).astype(np.float64)[:, r])
        total = total + term
    return total


# -------------------------------------------------------------------------------------------------------------- norm


@given(st.integers(0, 2**31), st.integers(1, 5), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_separable_norm_is_the_norm_of_the_dense_tensor(seed, rank, shape):
    columns = [np.random.default_rng(seed).uniform(-1, 1, (n, rank)) for n in shape]
    scale = math.prod(np.linalg.norm(c) for c in columns)
    assert abs(separable_norm(columns) - np.linalg.norm(dense(columns))) <= 50 * EPS * scale


def test_separable_norm_in_every_namespace(xp):
    columns = [np.random.default_rng(k).uniform(-1, 1, (n, 3)) for k, n in enumerate((4, 7, 2))]
    there = [xp.asarray(c) for c in columns]
    assert separable_norm(there) == pytest.approx(np.linalg.norm(dense(there)), rel=50 * xp.eps)
    assert separable_norm([xp.asarray(c[:, :0]) for c in columns]) == 0.0


@given(st.integers(0, 2**31), st.floats(-15, 0))
def test_separable_norm_sees_small_differences(seed, exponent):
    """The difference of two equal tensors, one with a perturbed column: exact to round-off of the columns."""
    rng = np.random.default_rng(seed)
    columns = [rng.uniform(0.5, 1, (n, 3)) for n in (4, 5, 6)]
    change = 10**exponent * rng.uniform(-1, 1, (4, 1))
    doubled = [np.hstack([c, c[:, :1], (-1 if k == 0 else 1) * c]) for k, c in enumerate(columns)]
    doubled[0][:, 3:4] = change
    exact = np.linalg.norm(change) * np.linalg.norm(columns[1][:, 0]) * np.linalg.norm(columns[2][:, 0])
    # columns of norm below 3 each, a handful of QR factorisations
    assert abs(separable_norm(doubled) - exact) <= 50 * EPS * 27


# ---------------------------------------------------------------------------------------------------------- compress


@every_space
@pytest.mark.parametrize("tol", [1e-1, 1e-3, 1e-7])
def test_the_error_is_certified(xp, space, tol):
    if tol < 100 * xp.eps:
        pytest.skip("below the round-off of the dtype")
    u = random_cp(space, 6, backend=xp)
    v = u.compress(tol)
    # apart from the round-off of the comparison itself
    assert (u - v).norm() <= (tol + 50 * xp.eps) * u.norm()
    assert v.rank <= u.rank
    assert v.dtype == u.dtype
    assert str(v.device) == str(u.device)
    assert v.space == space


@pytest.mark.parametrize("name", ["splines", "mixed", "rough", "line"])
def test_dependent_terms_disappear(xp, name):
    u = random_cp(SPACES[name], 2, backend=xp)
    rank = 1 if name == "line" else 2
    tol = max(1e-8, 300 * xp.eps)
    for v in (u + u, u + u - 3 * u, u + 0 * u, (u + u) + (u + u)):
        short = v.compress(tol)
        assert short.rank == rank
        assert (short - v).norm() <= 2 * tol * v.norm()
    assert (u - u).compress(tol).norm() <= 1e3 * xp.eps * u.norm()


def test_cancelling_large_terms_still_compress():
    """Two terms of size 1e4 that leave one of size 1: the start must not be the largest columns alone."""
    u, w = random_cp(SPACES["splines"], 1, 0), random_cp(SPACES["splines"], 1, 1)
    total = (1e4 * u + w - 1e4 * u).compress(1e-9)
    assert total.rank == 1
    assert (total - w).norm() <= 1e-8 * w.norm()


def test_two_axes_are_optimal():
    """With two axes the lowest rank is known: the singular values of the matrix in orthonormal coordinates."""
    space = SPACES["rough"]
    u = random_cp(space, 5)
    roots = [np.linalg.cholesky(np.asarray((b.tabulate(q.points).T * q.weights) @ b.tabulate(q.points).toarray())).T
             for b in space.bases for q in [b.quadrature()]]  # fmt: skip
    s = np.linalg.svd(roots[0] @ u.factors[0] @ (roots[1] @ u.factors[1]).T, compute_uv=False)
    for rank in range(1, 6):
        v = u.compress(rank=rank)
        assert v.rank == rank
        best = math.sqrt(float((s[rank:] ** 2).sum()))
        assert (u - v).norm() == pytest.approx(best, abs=1e-12 * u.norm())
        tol = 1.001 * best / u.norm()
        assert u.compress(max(tol, 1e-12)).rank == rank


def test_rank_and_tolerance_together():
    u = random_cp(SPACES["splines"], 6)
    assert u.compress(rank=2).rank == 2
    assert u.compress(rank=99).rank <= 6
    assert u.compress(0.0) is not None
    assert u.compress(1e-8, rank=6).rank <= 6
    with pytest.raises(ValueError, match=r"`rank` is 1, with which the relative error is .*tol=1e-08: raise either"):
        u.compress(1e-8, rank=1)
    errors = [(u - u.compress(rank=r)).norm() for r in range(1, 7)]
    # ALS from nested starts: more columns are never much worse
    assert all(b <= 1.05 * a for a, b in itertools.pairwise(errors))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"tol": -1.0}, ValueError, "`tol` is -1"),
        ({"tol": math.nan}, ValueError, "`tol` is nan"),
        ({"rank": 0}, ValueError, "`rank` is 0, expected an integer >= 1"),
        ({"rank": 1.5}, TypeError, "`rank` is 1.5"),
        ({"rank": True}, TypeError, "`rank` is True"),
    ],
)
def test_bad_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        random_cp(SPACES["splines"], 2).compress(**arguments)


def test_zero_functions():
    u = random_cp(SPACES["splines"], 3)
    assert (0 * u).compress().rank == 0
    assert sn.CP(u.space, [f[:, :0] for f in u.factors]).compress().rank == 0


def test_products_come_down():
    space = SPACES["splines"]
    x, y, t = space.coordinates
    u = sn.project(x * y + t, space.replace(x=sn.BSpline((-1, 2), cells=2), t=sn.BSpline((0, 3), cells=2)), rank=2)
    power = u * u * u  # rank 8; (a + b)^3 has rank 4
    short = power.compress(1e-9)
    assert short.rank <= 4
    assert (power - short).norm() <= 1.01e-9 * power.norm()


# ------------------------------------------------------------------------------------------------------ dense arrays


def test_mode_product(xp):
    tensor, matrix = np.random.default_rng(0).uniform(-1, 1, (3, 4, 5)), np.random.default_rng(1).uniform(-1, 1, (2, 4))
    got = mode_product(xp.asarray(tensor), xp.asarray(matrix), 1)
    assert abs(to_host(got) - np.einsum("ab,xby->xay", matrix, tensor)).max() <= 20 * xp.eps


@pytest.mark.parametrize("rank", [None, 1, 2])
def test_truncated_svd(xp, rank):
    matrix = np.random.default_rng(0).uniform(-1, 1, (6, 4))
    s = np.linalg.svd(matrix, compute_uv=False)
    left, right, error = truncated_svd(xp.asarray(matrix), 1.001 * s[3], rank)
    kept = min(3, rank or 9)
    assert left.shape == (6, kept)
    assert error == pytest.approx(math.sqrt(float((s[kept:] ** 2).sum())), rel=100 * xp.eps)
    distance = np.linalg.norm(matrix - to_host(left) @ to_host(right).T)
    assert distance == pytest.approx(error, rel=1e3 * xp.eps)


@given(st.integers(0, 2**31), st.integers(0, 3), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_decompose_keeps_the_tolerance(seed, rank, shape):
    rng = np.random.default_rng(seed)
    tensor = dense([rng.uniform(-1, 1, (n, rank)) for n in shape]) if rank else np.zeros(shape)
    columns = decompose(tensor, tol=1e-8, rank=None)
    assert [c.shape[0] for c in columns] == shape
    if not rank:
        assert columns[0].shape[1] == 0
        return
    assert np.linalg.norm(tensor - dense(columns)) <= 1.01e-8 * np.linalg.norm(tensor)


@dev_size  # a hard case takes a second
@given(st.integers(0, 2**31), st.integers(3, 4))
def test_decompose_noise(seed, d):
    """No low rank at all: the tolerance is kept all the same."""
    tensor = np.random.default_rng(seed).standard_normal((3,) * d)
    for tol in (0.5, 1e-6):
        columns = decompose(tensor, tol=tol, rank=None)
        assert np.linalg.norm(tensor - dense(columns)) <= 1.01 * tol * np.linalg.norm(tensor)
    assert decompose(tensor, tol=0.0, rank=2)[0].shape[1] == 2


@pytest.mark.parametrize("allowed", [2.0, 0.1, 1e-9])
def test_nested_svds_keep_the_tolerance(allowed):
    tensor = np.random.default_rng(0).standard_normal((3, 4, 2, 3))
    assert np.linalg.norm(tensor - dense(_nested(tensor, allowed))) <= allowed + 1e-13
    # singular values close together, so that truncation uses up what it is allowed
    equal = np.linalg.qr(np.random.default_rng(1).standard_normal((36, 36)))[0].reshape(6, 6, 6, 6)
    for share in np.linspace(0.1, 0.9, 9):
        assert np.linalg.norm(equal - dense(_nested(equal, share * 6))) <= share * 6


def test_decompose_finds_the_rank(xp):
    """Generic tensors of rank 3 in a 6 x 7 x 8 array are found with 3 columns."""
    rng = np.random.default_rng(0)
    tensor = dense([rng.uniform(0, 1, (n, 3)) for n in (6, 7, 8)])
    columns = decompose(xp.asarray(tensor), tol=1e-5, rank=None)
    assert columns[0].shape[1] == 3
    assert np.linalg.norm(tensor - dense(columns)) <= 1.1e-5 * np.linalg.norm(tensor)


# ------------------------------------------------------------------------------------------------------- interpolate


@every_space
def test_interpolation_gives_the_function_back(xp, space):
    u = random_cp(space, 2, backend=xp)
    values = u.on_grid(**{name: xp.asarray(nodes) for name, nodes in space.nodes.items()})
    tol = max(1e-7, 300 * xp.eps)
    v = sn.interpolate(values, space, tol=tol)
    # float32: nodes are rounded, which moves values by eps times the slope, up to 30 here
    assert (u - v).norm() <= (2 * tol + 100 * xp.eps * (xp.eps > 1e-10) * 30) * u.norm()
    assert v.dtype == u.dtype
    assert str(v.device) == str(u.device)
    if xp.eps < 1e-10:
        assert v.rank <= 2


@pytest.mark.parametrize("d", [1, 2, 3, 4])
@pytest.mark.parametrize("tol", [1e-2, 1e-6])
def test_interpolation_error(d, tol):
    space = sn.TensorSpace(**dict.fromkeys("abcd"[:d], sn.BSpline((0, 1), cells=5)))
    grids = np.meshgrid(*space.nodes.values(), indexing="ij")
    array = 1 / (1 + sum((k + 1) * g for k, g in enumerate(grids)))
    full = array
    for k, b in enumerate(space.bases):
        full = mode_product(full, b.interpolate(np.eye(b.size)), k)
    u = sn.interpolate(array, space, tol=tol)
    difference, total = u.full() - full, full
    for k, b in enumerate(space.bases):
        q = b.quadrature()
        weighted = b.tabulate(q.points).toarray() * np.sqrt(q.weights)[:, None]
        difference, total = mode_product(difference, weighted, k), mode_product(total, weighted, k)
    assert np.linalg.norm(difference) <= 1.001 * tol * np.linalg.norm(total)
    low = sn.interpolate(array, space, tol=0.0, rank=1)
    assert low.rank == 1


@pytest.mark.parametrize(
    ("array", "arguments", "error", "text"),
    [
        (np.ones((5, 5, 7)), {}, ValueError, r"shape \(5, 5, 7\), expected \(5, 5, 6\).*V\.nodes"),
        (np.ones((5, 5)), {}, ValueError, r"expected \(5, 5, 6\)"),
        (np.full((5, 5, 6), np.nan), {}, ValueError, "NaN or infinity"),
        (np.full((5, 5, 6), -np.inf), {}, ValueError, "NaN or infinity"),
        (np.ones((5, 5, 6), dtype=int), {}, TypeError, "int64, expected float32 or float64"),
        (np.ones((5, 5, 6)), {"tol": -1}, ValueError, "`tol` is -1"),
        (np.ones((5, 5, 6)), {"rank": 0}, ValueError, "`rank` is 0"),
        ("text", {}, TypeError, "str"),
    ],
)
def test_bad_arrays(array, arguments, error, text):
    with pytest.raises(error, match=text):
        sn.interpolate(array, SPACES["splines"], **arguments)


def test_interpolation_of_lists_and_zeros():
    line = SPACES["line"]
    assert sn.interpolate([0.0] * 9, line).rank == 0
    assert sn.interpolate(list(line.nodes["x"]), line)([[0.3]])[0] == pytest.approx(0.3, rel=1e-12)
    with pytest.raises(TypeError, match="`space` is BSpline"):
        sn.interpolate([0.0] * 9, line.axes["x"])


# ----------------------------------------------------------------------------------------------------------- project


def test_projection_of_a_callable():
    space = sn.TensorSpace(
        x=sn.BSpline((-1, 1), cells=8), y=sn.Legendre((0, 1), 8), t=sn.BSpline((0, 1), cells=6, degree=5)
    )

    def f(p):
        return np.exp(-p[:, 0] * p[:, 1]) / (1 + p[:, 2] * p[:, 0] ** 2)

    u = sn.project(f, space, rank=12)
    assert u.rank <= 12
    # cubic splines with h = 1/4 on a function with fourth derivatives of some 50: h^4 / 384 * 50 = 5e-4 at most
    assert u.error(f, n=2000).value < 5e-4
    assert sn.project(f, space, rank=None, tol=1e-3).rank <= u.rank
    full = sn.project(f, space, rank=None, tol=1e-9)
    assert full.error(f, n=2000).value < 5e-4
    # twelve terms are not all of it, but most
    assert (u - full).norm() <= 1e-4 * full.norm()
    # the projection is the nearest: orthogonal to the space, up to quadrature
    coarse = sn.project(f, space.replace(x=sn.BSpline((-1, 1), cells=2)), rank=None, tol=1e-12)
    fine = sn.project(f, space.replace(x=sn.BSpline((-1, 1), cells=32)), rank=None, tol=1e-12)
    again = fine.project(coarse.space).function
    assert (again - coarse).norm() <= 1e-4 * coarse.norm()


@every_space
def test_projection_of_members_is_exact(space):
    u = random_cp(space, 2)
    for v in (sn.project(u, space), sn.project(u.as_coefficient(), space), sn.project(u, space, rank=None)):
        assert v.rank == 2
        assert (u - v).norm() <= 1e-12 * u.norm()
    w = sn.project(lambda p: u(p), space, rank=3, tol=1e-9)
    assert (u - w).norm() <= 1e-8 * u.norm()
    assert sn.project(2.5, space.replace(), rank=1).rank == 1
    # into a space of much lower degree: the rule must be exact for the function too
    if space is SPACES["line"]:
        high = random_cp(sn.TensorSpace(x=sn.BSpline((0, 1), cells=1, degree=15)), 1)
        low = sn.TensorSpace(x=sn.BSpline((0, 1), cells=1, degree=1))
        assert (sn.project(high, low) - high.project(low).function).norm() <= 1e-12


def test_projection_of_expressions():
    space = sn.TensorSpace(**{f"q{k}": sn.BSpline((0, 1), cells=6) for k in range(30)})
    q = space.coordinates
    f = 1 + 0 * q[0]
    for k, c in enumerate(q):
        f = f * sn.apply(np.sin, c + k)
    u = sn.project(f + q[3] ** 2, space)
    assert u.rank == 2
    # 30 projections of sin, each with an error of (1/6)^4 / 384 at most
    assert u.error(f + q[3] ** 2, n=2000).value < 1e-4
    x, y, _ = SPACES["splines"].coordinates
    many = sum(x**k * y ** (5 - k) for k in range(6))
    wide = SPACES["splines"].replace(x=sn.BSpline((-1, 2), cells=2, degree=5), y=sn.BSpline((0, 1), cells=2, degree=5))
    assert len(many.terms) == 6
    wide = wide.replace(t=sn.BSpline((0, 3), cells=1))
    assert sn.project(many, wide, rank=2).rank == 2
    exact = sn.project(many, wide, rank=None)
    points = random_points(wide, 20)
    assert abs(exact(points) - many(points, wide.names)).max() <= 1e-11
    assert sn.project(0, wide).rank == 0


@pytest.mark.parametrize(
    ("f", "arguments", "error", "text"),
    [
        (lambda p: p, {}, ValueError, r"returned shape \(\d+, 3\).*expected \(\d+,\).*columns are x, y, t"),
        (lambda p: 1.0, {}, ValueError, r"returned shape \(\)"),
        (lambda p: np.full(len(p), np.nan), {}, ValueError, "not finite at x="),
        (lambda p: None, {}, TypeError, "None"),
        (lambda p: ["a"] * len(p), {}, TypeError, "returned list"),
        (np.ones(3), {}, TypeError, r"ndarray.*sn\.interpolate"),
        (math.nan, {}, ValueError, "`f` is nan"),
        (sn.product(q=np.sin), {}, ValueError, "the axis 'q'"),
        (lambda p: p[:, 0], {"rank": 0}, ValueError, "`rank` is 0"),
        (lambda p: p[:, 0], {"rank": 2.0}, TypeError, "`rank` is 2.0"),
        (lambda p: p[:, 0], {"tol": math.nan}, ValueError, "`tol` is nan"),
    ],
)
def test_bad_projections(f, arguments, error, text):
    with pytest.raises(error, match=text):
        sn.project(f, SPACES["splines"], **arguments)


def test_too_large_a_sampling_grid_is_refused():
    space = sn.TensorSpace(**{f"q{k}": sn.BSpline((0, 1), cells=30) for k in range(6)})
    with pytest.raises(ValueError, match=r"150 x 150.*GiB.*at most 67108864.*sn\.product"):
        sn.project(lambda p: p[:, 0], space)
    with pytest.raises(TypeError, match="`space` is int"):
        sn.project(1.0, 3)


@dev_size
@given(st.integers(0, 2**31))
def test_compress_in_every_namespace(xp, seed):
    u = random_cp(SPACES["splines"], 4, seed, backend=xp)
    v = u.compress(1e-2)
    assert (u - v).norm() <= (1e-2 + 50 * xp.eps) * u.norm()


def test_many_columns():
    """Beyond `MANY_COLUMNS` the Gram formula takes part; what it cannot see is still orthogonalised."""
    rng = np.random.default_rng(0)
    columns = [rng.uniform(-1, 1, (n, MANY_COLUMNS + 50)) for n in (6, 5, 4)]
    assert separable_norm(columns) == pytest.approx(np.linalg.norm(dense(columns)), rel=1e-8)
    columns[0] *= np.where(np.arange(MANY_COLUMNS + 50) < 3, 1.0, 1e-9)
    cancelling = [np.hstack([c[:, :3], (-1 if k == 0 else 1) * c]) for k, c in enumerate(columns)]
    assert separable_norm(cancelling) == pytest.approx(np.linalg.norm(dense([c[:, 3:] for c in columns])), rel=1e-5)
    u = random_cp(SPACES["splines"], MANY_COLUMNS + 20)
    for tol in (1e-1, 1e-3):
        v = u.compress(tol)
        assert v.rank <= 30  # a 5 x 5 x 6 array has rank 25 at most
        assert (u - v).norm() <= 1.001 * tol * u.norm()


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 3))
def test_pivots_span_the_terms(seed, rank, copies):
    """As many pivots as the terms have dimensions, and no more."""
    rng = np.random.default_rng(seed)
    columns = [rng.uniform(-1, 1, (n, rank)) for n in (5, 6, 7)]
    mixed = [np.hstack([c] * copies) for c in columns]
    # combinations of the first factor of one term with everything else equal
    mixed[0] = np.hstack([mixed[0], columns[0][:, :1] + columns[0][:, :1] ** 2, columns[0][:, :1] ** 2])
    mixed[1:] = [np.hstack([c, c[:, :1], c[:, :1]]) for c in mixed[1:]]
    assert len(_pivots(mixed, mixed[0].shape[1])) == rank + 1
