"""CP functions: what they are, where they live, their values and derivatives at points, and bad input."""

import math
import pickle

import numpy as np
import pytest
from function_support import SPACES, dense, random_cp, random_points, size
from hypothesis import given
from hypothesis import strategies as st
from support import dev_size

import sepnet as sn
from sepnet.backends.arrays import as_namespace, device_of, namespace, to_host

every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
SPLINES = SPACES["splines"]


def here(array, xp):
    """Is the array in the backend's namespace, dtype and on its device?"""
    return (
        namespace(array) is as_namespace(xp.xp)
        and array.dtype == xp.dtype
        and (xp.device is None or str(device_of(array)) == str(xp.device))
    )


# Evaluation is a sum of R products of d sums of at most p + 1 (spectral: n) terms: a few dozen eps of the size of the
# parts. Single precision also rounds the points, by eps of the domain, which a derivative of the next order amplifies.
FACTOR = 100


def allowed(u, points, orders, xp):
    bound = FACTOR * size(u, points, orders)
    if xp.eps > 1e-10:
        for k, basis in enumerate(u.space.bases):
            if orders[k] < 3:
                higher = tuple(o + (i == k) for i, o in enumerate(orders))
                bound += 4 * max(map(abs, basis.domain)) * size(u, points, higher)
    return xp.eps * bound


# ------------------------------------------------------------------------------------------------------- evaluation


@every_space
@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_value_gradient_hessian(xp, space, n):
    u = random_cp(space, 3, backend=xp)
    host = random_points(space, n)
    if xp.eps > 1e-10:
        host = host.astype(np.float32).astype(np.float64)
    points, d = xp.asarray(host), space.dim
    value, gradient, hessian = u(points), u.gradient(points), u.hessian(points)
    assert value.shape == (n,)
    assert gradient.shape == (n, d)
    assert hessian.shape == (n, d, d)
    assert all(here(a, xp) for a in (value, gradient, hessian))
    unit = np.eye(d, dtype=int)

    def check(array, orders):
        difference = abs(to_host(array) - dense(u, host, orders)).max(initial=0)
        assert difference <= allowed(u, host, orders, xp), orders

    check(value, (0,) * d)
    for i in range(d):
        check(gradient[:, i], tuple(unit[i]))
        for j in range(d):
            check(hessian[:, i, j], tuple(unit[i] + unit[j]))
    both = u.value_and_gradient(points)
    assert np.array_equal(to_host(both[1]), to_host(gradient))


@every_space
def test_gradient_and_hessian_are_difference_quotients(space):
    u = random_cp(space, 2)
    low, high = np.array([b.domain for b in space.bases]).T
    inside = low + (high - low) * (0.05 + 0.9 * np.random.default_rng(3).random((20, space.dim)))
    h = 1e-5
    for i in range(space.dim):
        step = h * np.eye(space.dim)[i]
        slope = (u(inside + step) - u(inside - step)) / (2 * h)
        # h^2 times third derivatives (below 1e4 on these meshes), round-off over h, and h times a kink of 1e3
        assert abs(slope - u.gradient(inside)[:, i]).max() < 2e-2 * h**0.5
        bend = (u.gradient(inside + step) - u.gradient(inside - step)) / (2 * h)
        smooth = np.array([abs(inside[:, k, None] - b.breaks).min(axis=1) > 2 * h for k, b in enumerate(space.bases)])
        keep = smooth.all(axis=0)
        assert keep.sum() > 10
        assert abs(bend - u.hessian(inside)[:, :, i])[keep].max() < 1e-3


@given(st.integers(0, 5), st.integers(0, 2**32 - 1), st.sampled_from(sorted(SPACES)))
def test_value_for_any_rank_and_seed(rank, seed, name):
    space = SPACES[name]
    u = random_cp(space, rank, seed)
    points = random_points(space, 9, seed)
    assert abs(u(points) - dense(u, points)).max() <= FACTOR * np.finfo(float).eps * size(u, points)


@every_space
def test_ends_and_breaks(xp, space):
    u = random_cp(space, 2, backend=xp)
    corners = np.stack(np.meshgrid(*[b.domain for b in space.bases], indexing="ij"), axis=-1).reshape(-1, space.dim)
    value = to_host(u(xp.asarray(corners)))
    assert abs(value - dense(u, corners)).max() <= allowed(u, corners, (0,) * space.dim, xp)
    for k, basis in enumerate(space.bases):
        for end, position in zip(("left", "right"), basis.domain, strict=True):
            if basis.zero in (end, "both"):
                points = corners.copy()
                points[:, k] = position
                # all functions of the axis vanish there, spectral ones to round-off of their values
                assert abs(to_host(u(xp.asarray(points)))).max() <= 10 * xp.eps * size(u, random_points(space, 50))


@every_space
@pytest.mark.parametrize("rank", [0, 1])
def test_small_ranks(xp, space, rank):
    u = random_cp(space, rank, backend=xp)
    host = random_points(space, 4)
    assert u.rank == rank
    assert u.size == rank * sum(space.shape)
    points = xp.asarray(host)
    for array, shape in [
        (u(points), (4,)),
        (u.gradient(points), (4, space.dim)),
        (u.hessian(points), (4, *2 * [space.dim])),
    ]:
        assert array.shape == shape
        assert rank or not to_host(array).any()
    assert rank or u.norm() == u.inner(u) == 0.0


def test_non_contiguous_and_integral_points():
    u = random_cp(SPLINES, 2)
    points = random_points(SPLINES, 8)
    assert np.array_equal(u(np.asfortranarray(points)), u(points))
    wide = np.zeros((8, 6))
    wide[:, ::2] = points
    assert np.array_equal(u(wide[:, ::2]), u(points))
    assert np.array_equal(u(points[::-2]), u(points)[::-2])
    assert np.array_equal(u(np.array([[1, 1, 1]])), u([[1.0, 1.0, 1.0]]))
    assert u([(1, 1, 1)]).shape == (1,)
    strided = sn.CP(SPLINES, [np.asfortranarray(f)[:, ::-1] for f in u.factors])
    # the order of the terms differs: round-off of a sum of two
    assert abs(strided(points) - u(points)).max() <= 8 * np.finfo(float).eps * size(u, points)


@pytest.mark.parametrize("name", ["splines", "mixed"])
def test_many_points_go_in_chunks(xp, name):
    space = SPACES[name]
    u = random_cp(space, 2, backend=xp)
    points = xp.asarray(random_points(space, 4096 * 2 + 3))
    every, tail = u(points), u(points[-5:, :])
    assert every.shape == (8195,)
    assert abs(to_host(every)[-5:] - to_host(tail)).max() <= 8 * xp.eps * size(u, random_points(space, 50))


# ---------------------------------------------------------------------------------------------------------- on grids


@every_space
def test_on_grid(xp, space):
    u = random_cp(space, 3, backend=xp)
    counts = {name: 2 + k for k, name in enumerate(space.names)}
    grid, array = u.grid(**counts), u.on_grid(**counts)
    assert list(grid) == list(space.names)
    assert array.shape == tuple(counts.values())
    assert here(array, xp)
    assert all(here(g, xp) for g in grid.values())
    points = np.stack([g.ravel() for g in np.meshgrid(*[to_host(g) for g in grid.values()], indexing="ij")], axis=1)
    points = points.astype(np.float64)
    values = to_host(u(xp.asarray(points))).reshape(array.shape)
    assert abs(to_host(array) - values).max() <= 2 * allowed(u, points, (0,) * space.dim, xp)
    for name, basis in space.items:
        ends = to_host(grid[name])[[0, -1]]
        assert ends == pytest.approx(basis.domain, rel=xp.eps)


def test_grids_of_points_and_of_one():
    u = random_cp(SPLINES, 2)
    x = np.array([0.5, -0.5, 1.0])  # in any order
    array = u.on_grid(x=x, y=1, t=[0.0, 3.0])
    assert array.shape == (3, 1, 2)
    assert array[1, 0, 1] == pytest.approx(float(u([[-0.5, 0.5, 3.0]])[0]), rel=1e-12)
    assert u.on_grid(x=np.zeros(0), y=2, t=3).shape == (0, 2, 3)
    assert np.array_equal(u.on_grid(**SPLINES.nodes), u.on_grid(**{k: list(v) for k, v in SPLINES.nodes.items()}))


@pytest.mark.parametrize(
    ("points", "error", "text"),
    [
        ({"x": 2, "y": 2}, ValueError, r"axis 't'.*u\.restrict"),
        ({"x": 2, "y": 2, "t": 2, "q": 2}, ValueError, "the axis 'q'"),
        ({"x": 0, "y": 2, "t": 2}, ValueError, "0 points, expected at least one"),
        ({"x": True, "y": 2, "t": 2}, TypeError, "True"),
        ({"x": [[0.0]], "y": 2, "t": 2}, ValueError, r"shape \(1, 1\), expected \(m,\)"),
        ({"x": [9.0], "y": 2, "t": 2}, ValueError, "9"),
        ({"x": [math.nan], "y": 2, "t": 2}, ValueError, "nan"),
        ({"x": "many", "y": 2, "t": 2}, TypeError, "str"),
        ({"x": 2.0, "y": 2, "t": 2}, TypeError, "axis 'x': got the float 2.0, expected a whole number of points"),
        ({"x": 2, "y": [3.0], "t": 2}, ValueError, "3.0 on axis 0 \\('y'\\)"),
        ({"x": [["a"]], "y": 2, "t": 2}, TypeError, "axis 'x'"),
    ],
)
def test_bad_grids(points, error, text):
    with pytest.raises(error, match=text):
        random_cp(SPLINES, 1).on_grid(**points)


# ------------------------------------------------------------------------------------------------- factors and homes


@every_space
def test_factors_are_kept_without_a_copy(xp, space):
    u = random_cp(space, 2, backend=xp)
    again = sn.CP(space, u.factors)
    assert all(a is b for a, b in zip(again.factors, u.factors, strict=True))
    assert u.xp is as_namespace(xp.xp)
    assert u.dtype == xp.dtype
    assert u.device == device_of(u.factors[0])
    assert u.to() is u


def test_memory_is_shared_with_numpy_and_torch():
    torch = pytest.importorskip("torch")
    hosts = [np.ones((n, 2)) for n in SPLINES.shape]
    u = sn.CP(SPLINES, hosts)
    v = u.to(xp=torch)
    hosts[0][0, 0] = 7.0
    assert u.factors[0][0, 0] == 7.0
    assert v.factors[0][0, 0] == 7.0
    read_only = [h.copy() for h in hosts]
    for h in read_only:
        h.setflags(write=False)
    assert sn.CP(SPLINES, read_only).to(xp=torch).rank == 2


def test_to_every_namespace_and_back(xp):
    u = random_cp(SPACES["mixed"], 2)
    there = u.to(xp=xp.xp, device=xp.device, dtype=str(xp.dtype).rsplit(".", 1)[-1].strip("'>"))
    assert all(here(f, xp) for f in there.factors)
    back = there.to(xp=np, dtype=np.float64)
    for a, b in zip(back.factors, u.factors, strict=True):
        assert a.dtype == np.float64
        assert abs(a - b).max() <= xp.eps
    assert there.to(dtype=xp.xp.float32).dtype == xp.xp.float32
    assert there.to(dtype="float32").device == there.device
    points = random_points(u.space, 5)
    assert abs(to_host(there(xp.asarray(points))) - u(points)).max() <= allowed(u, points, (0,) * 4, xp)


def test_dtypes_are_kept():
    u = random_cp(SPLINES, 2).to(dtype="float32")
    points = random_points(SPLINES, 3)  # float64: taken in the dtype of the factors
    assert u(points).dtype == u.gradient(points).dtype == u.hessian(points).dtype == np.float32
    assert u.on_grid(x=2, y=2, t=2).dtype == np.float32
    for v in (u + u, u * u, 2 * u, u.derivative("x"), u.restrict(x=1.0), u.integrate("x"), u + 1, -u, u / 3):
        assert v.dtype == np.float32
    assert u.project(SPLINES).function.dtype == u.compress(1e-3).dtype == np.float32
    assert u.integrate().dtype == u.restrict(x=1, y=1, t=1).dtype == np.float32


def test_points_and_functions_must_live_together():
    torch = pytest.importorskip("torch")
    strict = pytest.importorskip("array_api_strict")
    u = random_cp(SPLINES, 1)
    points = random_points(SPLINES, 2)
    with pytest.raises(TypeError, match=r"torch float64 on cpu.*numpy float64.*u\.to\("):
        u(torch.asarray(points))
    there = u.to(xp=strict, device=strict.Device("device1"))
    with pytest.raises(TypeError, match=r"u\.to\("):
        there(points)
    with pytest.raises(TypeError, match=r"CPU_DEVICE.*device1.*u\.to\("):
        there(strict.asarray(points))
    with pytest.raises(TypeError, match=r"u\.to\("):
        u + u.to(xp=torch)
    for combine in (lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a.inner(b)):
        with pytest.raises(TypeError, match=r"float32.*u\.to\("):
            combine(u, u.to(dtype="float32"))
        with pytest.raises(TypeError, match=r"device1.*u\.to\("):
            combine(u.to(xp=strict), there)


@pytest.mark.parametrize(
    ("points", "error", "text"),
    [
        ([[math.nan, 0.5, 0.5]], ValueError, "nan"),
        ([[5.0, 0.5, 0.5]], ValueError, r"5.*\[-1(\.0)?, 2(\.0)?\]"),
        ([[0.5, 0.5, math.inf]], ValueError, "inf"),
        (
            [0.5, 0.5, 0.5],
            ValueError,
            r"shape \(3,\), expected \(n, 3\) with columns x, y, t; for one point write \[\[",
        ),
        ([[0.5, 0.5]], ValueError, r"shape \(1, 2\), expected \(n, 3\)"),
        (np.zeros((2, 3), dtype=complex), TypeError, "complex128, expected real"),
        (np.zeros((2, 3), dtype=bool), TypeError, "bool"),
        (np.array([["a", "b", "c"]]), TypeError, "real"),
        ("abc", TypeError, "str, expected an array"),
        (None, TypeError, "NoneType, expected an array"),
    ],
)
@pytest.mark.parametrize("method", ["__call__", "gradient", "hessian"])
def test_bad_points(points, error, text, method):
    with pytest.raises(error, match=text):
        getattr(random_cp(SPLINES, 1), method)(points)


@pytest.mark.parametrize("bad", [math.nan, 9.0])
@pytest.mark.parametrize("name", ["splines", "mixed"])
def test_bad_points_in_every_namespace(xp, name, bad):
    space = SPACES[name]
    host = random_points(space, 3)
    host[1, 0] = bad
    with pytest.raises(ValueError, match="nan" if bad != 9.0 else "9"):
        random_cp(space, 1, backend=xp)(xp.asarray(host))


@pytest.mark.parametrize(
    ("factors", "error", "text"),
    [
        (lambda n: [np.ones((k, 1)) for k in n[:2]], ValueError, "2 members, expected one per axis: x, y, t"),
        (lambda n: [np.ones((k + 1, 1)) for k in n], ValueError, r"axis 'x' has shape \(6, 1\), expected \(5, 1\)"),
        (lambda n: [np.ones((k, 1 + (k == n[2]))) for k in n], ValueError, "axis 't' has shape"),
        (lambda n: [np.ones(k) for k in n], ValueError, r"expected \(5, R\)"),
        (lambda n: [np.ones((k, 1), dtype=int) for k in n], TypeError, "int64, expected float32 or float64"),
        (lambda n: [np.ones((k, 1), dtype=complex) for k in n], TypeError, "complex128"),
        (lambda n: [np.ones((k, 1), dtype="f4" if k == n[0] else "f8") for k in n], TypeError, "differs in dtype"),
        (lambda n: [[[1.0]] * k for k in n], TypeError, "list"),
        (lambda n: [], ValueError, "0 members"),
        (lambda n: None, TypeError, "`factors` is NoneType"),
        (lambda n: dict.fromkeys("xyt"), TypeError, "`factors` is dict"),
        (lambda n: [np.ones((k, 1), dtype=">f8") for k in n], TypeError, r">f8, expected .* factor\.astype"),
        (lambda n: [np.ones((k, 1), dtype="f2") for k in n], TypeError, "float16, expected float32 or float64"),
        (lambda n: [np.ones((k, 1), dtype="g") for k in n], TypeError, r"expected .* factor\.astype"),
    ],
)
def test_bad_factors(factors, error, text):
    with pytest.raises(error, match=text):
        sn.CP(SPLINES, factors(SPLINES.shape))


def test_bad_spaces_and_libraries():
    with pytest.raises(TypeError, match="`space` is dict"):
        sn.CP({}, [])
    with pytest.raises(TypeError, match="`xp` is 3"):
        random_cp(SPLINES, 1).to(xp=3)


def test_repr_and_pickle():
    u = random_cp(SPLINES, 2)
    assert repr(u) == f"CP(rank=2, x[5] x y[5] x t[6], {u.size} coefficients, float64)"
    again = pickle.loads(pickle.dumps(u))
    assert again.space == u.space
    assert all(np.array_equal(a, b) for a, b in zip(again.factors, u.factors, strict=True))


# ---------------------------------------------------------------------------------------------------------- autograd


@pytest.mark.parametrize("name", ["splines", "mixed"])
def test_torch_differentiates_by_points_and_factors(name):
    torch = pytest.importorskip("torch")
    space = SPACES[name]
    u = random_cp(space, 2)
    host = random_points(space, 6)
    factors = [torch.tensor(f, requires_grad=True) for f in u.factors]
    points = torch.tensor(host, requires_grad=True)
    v = sn.CP(space, factors)
    v(points).sum().backward()
    assert abs(points.grad.numpy() - u.gradient(host)).max() <= 1e3 * np.finfo(float).eps * size(u, host) * 100
    for k, factor in enumerate(factors):
        others = np.ones((6, 2))
        for e, basis in enumerate(space.bases):
            if e != k:
                others *= basis.tabulate(host[:, e]) @ u.factors[e]
        expected = space.bases[k].tabulate(host[:, k]).T @ others
        assert abs(factor.grad.numpy() - expected).max() < 1e-12
    # numbers come out without a warning, and moving keeps the record
    assert v.norm() == pytest.approx(u.norm(), rel=1e-12)
    assert v.inner(v) == pytest.approx(u.norm() ** 2, rel=1e-10)
    assert v.to(dtype="float32").factors[0].requires_grad


def test_torch_differentiates_through_the_calculus():
    torch = pytest.importorskip("torch")
    u = random_cp(SPLINES, 2)
    factors = [torch.tensor(f, requires_grad=True) for f in u.factors]
    v = sn.CP(SPLINES, factors)
    for make in (
        lambda f: f.derivative("x").integrate(),
        lambda f: f.restrict(x=0.5, y=0.5, t=0.5),
        lambda f: (f * f).integrate(),
        lambda f: f.on_grid(x=3, y=3, t=3).sum(),
        lambda f: f.hessian(torch.tensor(random_points(SPLINES, 3))).sum(),
    ):
        (gradient,) = torch.autograd.grad(make(v), factors[0])
        step = 1e-6
        moved = [f.copy() for f in u.factors]
        moved[0][1, 0] += step
        with torch.no_grad():
            change = make(sn.CP(SPLINES, [torch.asarray(f) for f in moved])) - make(v)
        # forward difference: step times a second derivative of order one, over a slope of any size
        assert float(change) / step == pytest.approx(float(gradient[1, 0]), rel=1e-3, abs=1e-4)


# ------------------------------------------------------------------------------------------------- measured error


def test_error_against_a_reference():
    space = SPACES["line"]
    (s,) = space.coordinates
    u = sn.project(1 + 0 * s, space)
    estimate = u.error(lambda p: np.full(len(p), 1.25), n=1000)
    assert estimate.value == pytest.approx(0.2, rel=1e-12)
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.maximum == pytest.approx(0.25, rel=1e-12)
    assert u.error(1 + s**2, n=2000).value == pytest.approx(math.sqrt(0.2 / (28 / 15)), rel=0.1)
    assert u.error(u, n=10).value == 0.0
    for reference, text in [
        (lambda p: p, r"shape \(10, 1\)"),
        (lambda p: np.full(len(p), math.nan), "not finite"),
        (lambda p: np.zeros(len(p)), r"\(u - v\)\.norm\(\)"),
    ]:
        with pytest.raises(ValueError, match=text):
            u.error(reference, n=10)
    with pytest.raises(ValueError, match="`n` is 1"):
        u.error(u, n=1)


def test_the_interval_of_the_error_covers_it():
    """Of 100 seeds, the 95 % interval holds the exact error at least 85 times (less has a chance of 1e-4)."""
    space = SPACES["line"]
    (s,) = space.coordinates
    u = sn.project(s, space)
    # of || s - s^3 || / || s^3 ||
    exact = math.sqrt((1 / 3 - 2 / 5 + 1 / 7) / (1 / 7))
    hits = 0
    for seed in range(100):
        e = u.error(s**3, n=500, seed=seed)
        hits += e.low <= exact <= e.high
    assert hits >= 85


@dev_size
@given(st.integers(1, 4), st.integers(0, 2**31))
def test_value_in_every_namespace(xp, rank, seed):
    space = SPACES["rough"]
    u = random_cp(space, rank, seed, backend=xp)
    points = random_points(space, 5, seed)
    assert abs(to_host(u(xp.asarray(points))) - dense(u, points)).max() <= allowed(u, points, (0, 0), xp)
