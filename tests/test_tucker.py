"""Tucker functions: the same as the sum of products they were made of, and what only they can do."""

import math
import pickle

import numpy as np
import pytest
from function_support import SPACES, gauss, random_cp, random_points, table
from hypothesis import given
from hypothesis import strategies as st
from support import dev_size

import sepnet as sn
from sepnet.backends.arrays import as_namespace, device_of, namespace, to_host
from sepnet.coefficients import Coefficient
from sepnet.functions import storage, tucker_tensors
from sepnet.functions.dense import mode_product

EPS = np.finfo(float).eps
SPLINES = SPACES["splines"]
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
seeds = st.integers(0, 2**31)
names = st.sampled_from(sorted(SPACES))
# Sums of products of a few dozen numbers: a few dozen units of round-off of the sums of their magnitudes.
FACTOR = 200


def random_tucker(space, ranks=3, seed=0, backend=None):
    """Coefficients in [-1, 1]; `ranks` is one for all, or one for each axis."""
    rng = np.random.default_rng(seed)
    every = [ranks] * space.dim if isinstance(ranks, int) else list(ranks)[: space.dim]
    hosts = [rng.uniform(-1, 1, (n, r)) for n, r in zip(space.shape, every, strict=True)]
    core = rng.uniform(-1, 1, every)
    if backend is not None:
        hosts, core = [backend.asarray(h) for h in hosts], backend.asarray(core)
    return sn.Tucker(space, hosts, core)


def host(array):
    return to_host(array).astype(np.float64)


def product(u, points, orders, absolute=False):
    """The oracle: at each point the core, contracted with the row of one axis after the other."""
    core = np.broadcast_to(abs(host(u.core)) if absolute else host(u.core), (len(points), *u.core.shape))
    for k, (basis, factor, order) in enumerate(zip(u.space.bases, u.factors, orders, strict=True)):
        values, columns = table(basis, points[:, k], order), host(factor)
        core = np.einsum("pa,pa...->p...", abs(values) @ abs(columns) if absolute else values @ columns, core)
    return core


def dense(u, points, orders=None):
    return product(u, points, orders or (0,) * u.space.dim)


def size(u, points, orders=None):
    """The magnitude of what is added up, at `points` and over the box."""
    points = np.concatenate([points, random_points(u.space, 20)])
    return float(product(u, points, orders or (0,) * u.space.dim, absolute=True).max(initial=1e-300))


def allowed(u, points, orders, xp):
    bound = FACTOR * size(u, points, orders)
    if xp.eps > 1e-10:
        # Single precision also rounds the points, which a derivative of the next order amplifies.
        for k, basis in enumerate(u.space.bases):
            if orders[k] < 3:
                higher = tuple(o + (i == k) for i, o in enumerate(orders))
                bound += 4 * max(map(abs, basis.domain)) * size(u, points, higher)
    return xp.eps * bound


def here(array, xp):
    return (
        namespace(array) is as_namespace(xp.xp)
        and array.dtype == xp.dtype
        and (xp.device is None or str(device_of(array)) == str(xp.device))
    )


def orthonormal(u):
    """The dense array of coefficients in orthonormal coordinates, by Cholesky factors of the mass matrices."""
    array = host(u.full())
    for k, basis in enumerate(u.space.bases):
        points, weights = basis.quadrature()
        table = basis.tabulate(points).toarray()
        root = np.linalg.cholesky((table.T * weights) @ table).T
        array = np.moveaxis(np.tensordot(root, array, axes=(1, k)), 0, k)
    return array


# ---------------------------------------------------------------------------------------------------------- evaluation


@every_space
@pytest.mark.parametrize("n", [0, 1, 12])
def test_value_gradient_hessian(xp, space, n):
    u = random_tucker(space, (2, 3, 1, 2), backend=xp)
    where = random_points(space, n)
    if xp.eps > 1e-10:
        where = where.astype(np.float32).astype(np.float64)
    points, d = xp.asarray(where), space.dim
    value, gradient, hessian = u(points), u.gradient(points), u.hessian(points)
    assert value.shape == (n,)
    assert gradient.shape == (n, d)
    assert hessian.shape == (n, d, d)
    assert all(here(a, xp) for a in (value, gradient, hessian))
    if n == 0:
        return
    unit = np.eye(d, dtype=int)

    def check(array, orders):
        difference = abs(to_host(array) - dense(u, where, orders)).max(initial=0)
        assert difference <= allowed(u, where, orders, xp), orders

    check(value, (0,) * d)
    for i in range(d):
        check(gradient[:, i], tuple(unit[i]))
        for j in range(i, d):
            check(hessian[:, i, j], tuple(unit[i] + unit[j]))
            assert np.array_equal(to_host(hessian[:, i, j]), to_host(hessian[:, j, i]))
    both = u.value_and_gradient(points)
    assert np.array_equal(to_host(both[1]), to_host(gradient))


@given(seeds, names, st.lists(st.integers(1, 4), min_size=4, max_size=4))
def test_value_for_any_ranks_and_seed(seed, name, ranks):
    space = SPACES[name]
    u = random_tucker(space, ranks, seed)
    points = random_points(space, 5, seed)
    assert abs(u(points) - dense(u, points)).max() <= FACTOR * EPS * size(u, points)
    assert u.ranks == tuple(ranks[: space.dim])
    assert u.rank == max(u.ranks)
    assert u.size == sum(factor.size for factor in u.factors) + u.core.size


def test_many_points_go_in_chunks(xp):
    u = random_tucker(SPACES["rough"], (30, 600), backend=xp)  # halves of more than 512: smaller chunks
    points = xp.asarray(random_points(u.space, 4096 + 3))
    for method in (u, u.gradient, u.hessian):
        every, tail = to_host(method(points)), to_host(method(points[-5:, :]))
        assert len(every) == 4099
        # second derivatives on these meshes are below 1e3 times the values
        assert abs(every[-5:] - tail).max() <= 1e3 * 8 * xp.eps * size(u, random_points(u.space, 5))


@every_space
def test_on_grid(xp, space):
    u = random_tucker(space, 3, backend=xp)
    counts = {name: 2 + k for k, name in enumerate(space.names)}
    grid, array = u.grid(**counts), u.on_grid(**counts)
    assert here(array, xp)
    points = np.stack([g.ravel() for g in np.meshgrid(*[to_host(g) for g in grid.values()], indexing="ij")], axis=1)
    values = dense(u, points.astype(np.float64)).reshape(array.shape)
    assert array.shape == tuple(counts.values())
    assert abs(to_host(array) - values).max() <= allowed(u, points, (0,) * space.dim, xp)
    full = u.full()
    assert full.shape == space.shape
    assert here(full, xp)
    none = {name: 1 for name in space.names} | {space.names[0]: xp.asarray([])}
    assert u.on_grid(**none).shape == (0, *[1] * (space.dim - 1))


def test_full_array_and_its_limit():
    u = random_tucker(SPLINES, (2, 3, 1))
    assert abs(u.full() - np.einsum("abc,xa,yb,tc->xyt", u.core, *u.factors)).max() <= 1e-14
    big = sn.TensorSpace(**dict.fromkeys("abcdef", sn.BSpline((0, 1), cells=60)))
    with pytest.raises(ValueError, match="restrict axes first"):
        random_tucker(big, 1).full()


# ------------------------------------------------------------------------------------- the calculus is that of the sum


@dev_size  # each example is dozens of functions
@given(seeds, names, st.integers(0, 4))
def test_the_calculus_is_that_of_the_sum_of_products(seed, name, rank):
    """A sum of products is a Tucker function, exactly: whatever is done to both gives the same function."""
    space = SPACES[name]
    c, e = random_cp(space, rank, seed), random_cp(space, 2, seed + 1)
    u, v = sn.Tucker.from_cp(c), sn.Tucker.from_cp(e)
    points = random_points(space, 12, seed)
    x = space.names[0]
    # coefficients below one in bases whose functions, products and derivatives are below 1e3
    noise = 1e3 * FACTOR * EPS * (1 + rank)
    for tucker, cp in [
        (u, c),
        (u + v, c + e),
        (u - v, c - e),
        (u + e, c + e),
        (c - v, c - e),
        (u * v, c * e),
        (c * v, c * e),
        (2.5 * u, 2.5 * c),
        (u / 4, c / 4),
        (-u, -c),
        (u + 1.5, c + 1.5),
        (1.5 - u, 1.5 - c),
        (u.derivative(x), c.derivative(x)),
        (u.derivative(space.names[-1]), c.derivative(space.names[-1])),
    ]:
        assert isinstance(tucker, sn.Tucker)
        assert tucker.space == cp.space
        assert all(r <= n for r, n in zip(tucker.ranks, tucker.space.shape, strict=True))
        assert abs(tucker(points) - cp(points)).max() <= noise
        assert tucker.norm() == pytest.approx(cp.norm(), rel=1e-10, abs=noise)
    for one, other in ((u, v), (u, e), (c, v)):
        assert one.inner(other) == pytest.approx(c.inner(e), rel=1e-10, abs=noise)
    assert float(u.integrate()) == pytest.approx(float(c.integrate()), abs=noise)
    assert u + 0 is u
    assert u.derivative(x, 0) is u


def test_ranks_add_and_multiply():
    u, v = random_tucker(SPLINES, (1, 2, 3), 0), random_tucker(SPLINES, (2, 1, 2), 1)
    assert (u + v).ranks == (3, 3, 5)
    assert (u * v).ranks == (2, 2, 6)
    # as many functions as the axes have: 5, 5 and 6
    assert (u + random_tucker(SPLINES, 4)).ranks == (5, 5, 6)
    full = random_tucker(SPLINES, 5)
    square, points = full * full, random_points(SPLINES, 20)
    assert square.ranks == square.space.shape
    assert abs(square(points) - full(points) ** 2).max() <= 1e3 * FACTOR * EPS * size(full, points) ** 2
    assert sn.Tucker.from_cp(random_cp(SPLINES, 7)).ranks == (5, 5, 6)
    c = random_cp(SPLINES, 3)
    w = sn.Tucker.from_cp(c)
    assert all(a is b for a, b in zip(w.factors, c.factors, strict=True))
    assert np.array_equal(w.core, np.einsum("ar,br,cr->abc", *[np.eye(3)] * 3))


@every_space
def test_restriction_and_integration(xp, space):
    c = random_cp(space, 3, backend=xp)
    u = sn.Tucker.from_cp(c)
    where = random_points(space, 5)
    bound = 1e3 * xp.eps * 10
    for count in range(space.dim + 1):
        for chosen in (space.names[:count], space.names[space.dim - count :], space.names[1 : 1 + count]):
            at = {name: float(where[0, space.names.index(name)]) for name in chosen}
            pairs = [(u.restrict(**at), c.restrict(**at))]
            if chosen:
                pairs.append((u.integrate(*chosen), c.integrate(*chosen)))
            for tucker, cp in pairs:
                if len(chosen) == space.dim:
                    assert tucker.shape == ()
                    assert here(tucker, xp)
                    assert abs(float(tucker) - float(cp)) <= bound
                else:
                    assert isinstance(tucker, sn.Tucker)
                    assert tucker.space == cp.space
                    assert (tucker - cp).norm() <= bound
    assert u.restrict() is u
    name = space.names[-1]
    weighted = u.integrate(name, density=np.cos), c.integrate(name, density=np.cos)
    if space.dim > 1:
        weighted = weighted[0].integrate(), weighted[1].integrate()
    assert float(weighted[0]) == pytest.approx(float(weighted[1]), abs=bound)


@pytest.mark.parametrize("name", ["splines", "rough", "line"])
def test_integrals_and_inner_products_are_those_of_gauss(xp, name):
    space = SPACES[name]
    u, v = random_tucker(space, 2, 0, xp), random_tucker(space, 3, 1, xp)
    points, weights = gauss(space)
    a, b = dense(u, points), dense(v, points)
    scale = float(weights.sum()) * (1 + abs(a).max()) * (1 + abs(b).max())
    assert float(u.integrate()) == pytest.approx(float(weights @ a), abs=1e3 * xp.eps * scale)
    assert u.inner(v) == pytest.approx(float(weights @ (a * b)), abs=1e3 * xp.eps * scale)
    assert u.norm() == pytest.approx(math.sqrt(float(weights @ a**2)), rel=1e3 * xp.eps)
    assert isinstance(u.norm(), float)
    assert isinstance(u.inner(v), float)


def test_functions_on_different_spaces():
    u = random_tucker(SPLINES, 2, 0)
    v = random_tucker(SPLINES.replace(x=sn.BSpline((-1, 2), cells=3), y=sn.BSpline((0, 1), cells=2, degree=1)), 3, 1)
    points = random_points(SPLINES, 20)
    for w, expected in [(u + v, dense(u, points) + dense(v, points)), (u * v, dense(u, points) * dense(v, points))]:
        assert abs(w(points) - expected).max() <= 1e3 * EPS * size(u, points) * size(v, points) * 10
    assert u.inner(v) == pytest.approx(float((u * v).integrate()), rel=1e-11)


@pytest.mark.parametrize("ranks", [2, 4])  # sums of rank 4 and more have full ranks on two axes
@pytest.mark.parametrize("delta", [1e-3, 1e-8, 1e-13, 0.0])
def test_the_norm_of_a_small_difference(delta, ranks):
    u, w = random_tucker(SPLINES, ranks, 0), random_tucker(SPLINES, 2, 1)
    w = w * (1 / w.norm())
    # a few units of round-off of the norm of u, which is below 10
    assert abs(((u + delta * w) - u).norm() - delta) <= 1e-14 * 10


@pytest.mark.parametrize("scales", [(1e200, 1e200, 1e-300, 1e-100), (1e-200, 1e-200, 1e300, 1e100), (1e-170, 1, 1, 1)])
def test_norms_of_badly_scaled_functions(scales):
    """Squares and partial products of these leave the range of the dtype, the function does not."""
    u = random_tucker(SPLINES, 3)
    v = sn.Tucker(SPLINES, [s * f for s, f in zip(scales, u.factors, strict=False)], scales[3] * u.core)
    assert v.norm() == pytest.approx(
        u.norm() * math.prod(sorted(scales)[::2]) * math.prod(sorted(scales)[1::2]), rel=1e-13
    )
    assert v.compress(rank=2).norm() == pytest.approx(v.norm() * u.compress(rank=2).norm() / u.norm(), rel=1e-12)


def test_dtypes_and_homes_are_kept(xp):
    u = random_tucker(SPLINES, 2, backend=xp)
    for v in (u + u, u * u, 2 * u, u + 1, u.derivative("x"), u.restrict(x=1.0), u.integrate("t"), u + random_cp(
        SPLINES, 7, backend=xp)):  # fmt: skip
        assert all(here(array, xp) for array in v.arrays)
    for v in (u.project(SPLINES).function, u.compress(0.3), (u - u).compress(), u.to_cp(0.3).function, u.to_train()):
        assert all(here(array, xp) for array in v.arrays)
    there = random_tucker(SPLINES, 2).to(xp=xp.xp, device=xp.device, dtype=str(xp.dtype).rsplit(".", 1)[-1].strip("'>"))
    assert all(here(array, xp) for array in there.arrays)
    assert there.to() is there
    assert there.to(dtype="float32").core.dtype == xp.xp.float32
    again = sn.Tucker(SPLINES, there.factors, there.core)
    assert all(a is b for a, b in zip(again.arrays, there.arrays, strict=True))


# ------------------------------------------------------------------------------------------- rounding and projection


@every_space
@pytest.mark.parametrize("tol", [0.3, 1e-2, 1e-7])
def test_the_error_of_compress_is_certified(xp, space, tol):
    if tol < 100 * xp.eps:
        pytest.skip("below the round-off of the dtype")
    u = random_tucker(space, 4, backend=xp)
    v = u.compress(tol)
    assert v.space == space
    assert all(a <= b for a, b in zip(v.ranks, u.ranks, strict=True))
    assert all(here(array, xp) for array in v.arrays)
    # apart from the round-off of the comparison itself
    assert (u - v).norm() <= (tol + 50 * xp.eps) * u.norm()


@given(seeds, names, st.floats(1e-10, 1.0))
def test_compress_keeps_what_it_promises(seed, name, tol):
    u = random_tucker(SPACES[name], (3, 2, 4, 3), seed)
    v = u.compress(tol)
    assert (u - v).norm() <= (tol + 1e-13) * u.norm()
    for rank in (1, 2):
        short = u.compress(rank=rank)
        assert short.rank <= rank
        # Pythagoras: the cut is a projection
        assert (u - short).norm() ** 2 + short.norm() ** 2 == pytest.approx(u.norm() ** 2, rel=1e-10)
    assert (u + u - 3 * u).compress(1e-10).ranks == u.compress(1e-10).ranks
    assert u.compress(1e-14).compress(1e-14).ranks == u.compress(1e-14).ranks


@given(seeds, st.integers(1, 3))
def test_compress_is_quasi_optimal(seed, rank):
    """Within sqrt(d) of the largest of the tails of the unfoldings, which bound every function of these ranks."""
    u = random_tucker(SPLINES, 5, seed)
    array = orthonormal(u)
    tails = []
    for k in range(3):
        sigma = np.linalg.svd(np.moveaxis(array, k, 0).reshape(array.shape[k], -1), compute_uv=False)
        tails.append(np.linalg.norm(sigma[rank:]))
    error = (u - u.compress(rank=rank)).norm()
    assert max(tails) * (1 - 1e-10) <= error <= math.hypot(*tails) * (1 + 1e-10)


def test_the_error_of_the_sequential_decomposition_is_exact(xp):
    """The root of the sum of squares of what was cut is the error, not a bound of it."""
    array = np.random.default_rng(0).uniform(-1, 1, (6, 3, 5, 4))
    for tol, rank in [(3.0, None), (0.0, 2), (0.0, None)]:
        frames, core, error = tucker_tensors.st_hosvd(xp.asarray(array), tol, rank)
        back = host(core)
        for k, frame in enumerate(frames):
            back = mode_product(back, host(frame), k)
            assert abs(host(frame).T @ host(frame) - np.eye(frame.shape[1])).max() <= 10 * xp.eps
        size = np.linalg.norm(array)
        assert np.linalg.norm(array - back) == pytest.approx(
            error, rel=1e-5 if rank or tol else 0, abs=50 * xp.eps * size
        )
        assert rank is not None or error <= tol + 20 * xp.eps * size
    assert core.shape == array.shape


def test_compress_of_zero_and_of_what_is_short():
    u = random_tucker(SPLINES, 3)
    zero = (u - u).compress()
    assert zero.ranks == (1, 1, 1)
    assert zero.norm() == 0.0
    assert zero.space == u.space
    short = u.compress(1e-13)
    assert short.compress(1e-13) is short
    assert short.compress(rank=50) is short
    with pytest.raises(ValueError, match=r"`rank` is 1, with which the relative error is 0\.\d+, more than tol=1e-06"):
        u.compress(1e-6, rank=1)


PROJECTIONS = [
    {"x": sn.BSpline((-1, 2), cells=2, zero="both"), "t": sn.BSpline((0, 3), cells=2)},
    {"x": sn.Fourier((-1, 2), 3), "y": sn.Legendre((0, 1), 4)},
]


@pytest.mark.parametrize("changes", PROJECTIONS)
def test_projection_is_that_of_the_sum_of_products(changes):
    c = random_cp(SPLINES, 3)
    W = SPLINES.replace(**changes)
    p, error = sn.Tucker.from_cp(c).project(W)
    q, expected = c.project(W)
    assert p.space == W
    assert (p - q).norm() <= 1e-12 * c.norm()
    assert error == pytest.approx(expected, rel=1e-9)
    assert 0.01 < error < 1
    finer = sn.TensorSpace(**{name: b.refine().with_zero(None) for name, b in SPLINES.items})
    u = random_tucker(SPLINES, 3)
    assert u.project(finer).error <= 100 * EPS
    assert (u - u).project(W).error == 0.0


# ------------------------------------------------------------------------------------------------------ other formats


@dev_size
@given(seeds, names, st.lists(st.integers(1, 4), min_size=4, max_size=4))
def test_trains_and_back(seed, name, ranks):
    u = random_tucker(SPACES[name], ranks, seed)
    train = u.to_train()
    assert isinstance(train, sn.TensorTrain)
    points = random_points(u.space, 8, seed)
    noise = FACTOR * EPS * size(u, points)
    assert abs(train(points) - dense(u, points)).max() <= 10 * noise
    assert train.ranks == train.compress(1e-13).ranks
    again = sn.Tucker.from_train(train)
    assert (again - u).norm() <= 1e-13 * u.norm()
    assert again.ranks == u.compress(1e-13).ranks


def test_trains_in_every_namespace(xp):
    u = random_tucker(SPACES["mixed"], (2, 3, 1, 2), backend=xp)
    train = u.to_train()
    again = sn.Tucker.from_train(train)
    assert all(here(array, xp) for array in (*train.arrays, *again.arrays))
    assert (again - u).norm() <= 50 * xp.eps * u.norm()
    other = sn.Tucker.from_train(train.reorder("c", "x", "a", "b"))
    assert other.space == u.space
    assert (other - u).norm() <= 200 * xp.eps * u.norm()
    zero = sn.Tucker.from_train((u - u).to_train())
    assert zero.ranks == (1, 1, 1, 1)
    assert zero.norm() == 0.0


def test_what_cancels_in_a_train_adds_no_rank():
    c, e = random_cp(SPLINES, 2, 0), 1e-3 * random_cp(SPLINES, 2, 1)
    assert sn.Tucker.from_train(sn.TensorTrain.from_cp(c + e - e)).ranks == (2, 2, 2)
    assert sn.Tucker.from_cp(c + e - e).to_train().ranks == (2, 2)


def test_sums_of_products_come_back(xp):
    space = sn.TensorSpace(**dict.fromkeys("abc", sn.BSpline((0, 1), cells=4)))
    c = random_cp(space, 3, backend=xp)
    v, error = sn.Tucker.from_cp(c).to_cp(1e-3)
    assert isinstance(v, sn.CP)
    assert all(here(factor, xp) for factor in v.factors)
    assert v.rank <= 3
    assert error <= 1e-3
    assert (v - c).norm() <= (error + 1e3 * xp.eps) * c.norm()


@dev_size  # each example is dozens of functions
@given(seeds, names, st.floats(1e-6, 0.5))
def test_the_error_of_to_cp_is_measured(seed, name, tol):
    u = random_tucker(SPACES[name], 2, seed)
    for rank in (None, 2):
        v, error = u.to_cp(tol, rank=rank)
        assert rank is None or v.rank <= rank
        assert (sn.Tucker.from_cp(v) - u).norm() == pytest.approx(error * u.norm(), rel=1e-6, abs=1e-13 * u.norm())
        # ranks of two have eight terms at most, and all of them are always enough
        assert rank is not None or error <= tol


def test_the_entries_of_the_core_are_an_exact_sum(xp):
    u = random_tucker(SPLINES, (2, 1, 3), backend=xp)
    v, error = u.to_cp(10 * xp.eps)
    assert v.rank <= 2
    assert error <= 50 * xp.eps
    assert (u - v).norm() <= 100 * xp.eps * u.norm()
    terms = tucker_tensors.tucker_terms(u.factors, u.core)
    assert terms[0].shape == (5, 2)
    line = random_tucker(SPACES["line"], 4, backend=xp).to_cp()
    assert line.function.rank == 1
    assert line.error <= 10 * xp.eps


def test_zero_and_one_term():
    u = random_tucker(SPLINES, 2)
    zero, error = (u - u).to_cp()
    assert zero.rank == error == 0
    assert len((u - u).as_coefficient().terms) == 0
    assert sn.Tucker.from_cp(random_cp(SPLINES, 1)).to_cp().function.rank == 1
    assert sn.Tucker.from_cp(random_cp(SPLINES, 0)).norm() == 0.0
    assert isinstance(u + random_cp(SPLINES, 0), sn.Tucker)


@dev_size  # each example is dozens of functions
@given(seeds, names)
def test_expressions_and_functions_give_data(seed, name):
    u = random_tucker(SPACES[name], 2, seed)
    x = u.space.coordinates[0]
    points = random_points(u.space, 6, seed)
    value = dense(u, points)
    for data, expected in [
        (u + x, value + points[:, 0]),
        (x - u, points[:, 0] - value),
        (u * x, points[:, 0] * value),
        (u.as_coefficient(), value),
    ]:
        assert isinstance(data, Coefficient)
        assert abs(data(points, u.space.names) - expected).max() <= 1e-12 * (1 + 4 * size(u, points))


def test_data_with_many_terms():
    space = sn.TensorSpace(**dict.fromkeys("abcde", sn.BSpline((0, 1), cells=8)))
    c = random_cp(space, 6, 3)
    u = sn.Tucker.from_cp(c)  # 6**4 entries, but six terms
    data = u.as_coefficient()
    assert len(data.terms) <= 12
    points = random_points(space, 10)
    assert abs(data(points, space.names) - c(points)).max() <= 1e-10
    rich = random_tucker(sn.TensorSpace(**dict.fromkeys("abcd", sn.BSpline((0, 1), cells=9))), 11)
    with pytest.raises(ValueError, match=r"core of ranks 11-11-11-11, which is no sum of few.*u\.to_cp\(tol=1e-6\)"):
        rich.as_coefficient()


def test_a_tucker_function_is_initial_data_of_a_problem():
    """What it gives as data is what the solver takes."""
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8, zero="both"), t=sn.BSpline((0, 1), cells=4))
    start = sn.Tucker.from_cp(sn.project(sn.product(x=lambda s: np.sin(np.pi * s)), V.drop("t")))
    solution = sn.solve(sn.LeastSquares(V.d.t, initial={"t": start}), rank=2)
    assert (solution.u.restrict(t=1.0) - start).norm() <= 1e-6 * start.norm()


def test_cores_that_would_be_too_large():
    space = sn.TensorSpace(**dict.fromkeys("abcdef", sn.BSpline((0, 1), cells=30)))
    c = random_cp(space, 23)
    text = (
        r"the core would be 23 x 23 x 23 x 23 x 23 x 23 = 1.48e\+08 numbers, at most 134217728 are allowed: lower the"
    )
    for make in (sn.Tucker.from_cp, lambda v: sn.Tucker.from_cp(random_cp(space, 1)) + v):
        with pytest.raises(ValueError, match=text):
            make(c)
    u, v = random_tucker(space, 5), random_tucker(space, (18, 18, 18, 18, 1, 1))
    with pytest.raises(ValueError, match=r"25 x 25 x .*u\.to_train"):
        u * u
    with pytest.raises(ValueError, match=r"23 x 23 x 23 x 23 x 23 x 23 = .*u\.compress"):
        v + random_tucker(space, (5, 5, 5, 5, 22, 22))
    many = sn.TensorTrain(space, [np.random.default_rng(k).random((a, 33, b)) for k, (a, b) in enumerate(
        [(1, 33), (33, 33), (33, 33), (33, 33), (33, 33), (33, 1)])])  # fmt: skip
    with pytest.raises(ValueError, match=r"33 x 33 x 33 x 33 x 33 x 33 = .*the ranks of the train first"):
        sn.Tucker.from_train(many)


# -------------------------------------------------------------------------------------------------------- the ways in


@pytest.mark.parametrize("name", ["splines", "mixed", "rough", "line"])
def test_interpolation_of_members_is_exact(xp, name):
    space = SPACES[name]
    u = random_tucker(space, 2, backend=xp)
    v = sn.interpolate(u.on_grid(**{n: xp.asarray(p) for n, p in space.nodes.items()}), space, format="tucker", tol=0.0)
    assert isinstance(v, sn.Tucker)
    assert all(here(array, xp) for array in v.arrays)
    assert (u - v).norm() <= 1e3 * xp.eps * u.norm()
    if xp.eps < 1e-10:
        assert v.compress(1e-12).ranks == u.compress(1e-12).ranks


def test_interpolation_to_a_tolerance():
    space = sn.TensorSpace(**dict.fromkeys("xyz", sn.BSpline((0, 1), cells=8)))
    values = 1 / (1 + sum(np.meshgrid(*space.nodes.values(), indexing="ij")))
    exact = sn.interpolate(values, space, 1e-14, format="tucker")
    for tol in np.geomspace(1e-1, 1e-8, 20):
        u = sn.interpolate(values, space, tol, format="tucker")
        assert (u - exact).norm() <= tol * exact.norm()
        # the tails of the unfoldings, each at most the error that is allowed
        train = sn.interpolate(values, space, tol / 2, format="tt")
        assert u.ranks[0] <= train.ranks[0] + 1
    assert sn.interpolate(values, space, 1e-6, rank=2, format="tucker").ranks == (2, 2, 2)
    assert sn.interpolate(0 * values, space, format="tucker").norm() == 0.0
    with pytest.raises(ValueError, match="`format` is 'Tucker', expected 'cp'"):
        sn.interpolate(values, space, format="Tucker")


def test_projection_of_callables_and_expressions():
    space = sn.TensorSpace(**dict.fromkeys("xyz", sn.BSpline((0, 1), cells=6)))
    x, y, z = space.coordinates
    u = sn.project((x + y + z) ** 3, space, rank=None, format="tucker")
    assert u.ranks == (4, 4, 4)  # powers 0 to 3 on each axis
    points = random_points(space, 20)
    assert abs(u(points) - points.sum(axis=1) ** 3).max() <= 1e-12
    assert sn.project((x + y + z) ** 3, space, rank=2, format="tucker").rank == 2
    v = sn.project(lambda p: p.sum(axis=1) ** 3, space, rank=None, format="tucker")
    assert v.ranks == (4, 4, 4)
    assert (u - v).norm() <= 1e-8 * u.norm()
    assert sn.project(lambda p: p.sum(axis=1) ** 3, space, rank=3, format="tucker").rank == 3
    assert sn.project(u, space, format="tucker").ranks == (4, 4, 4)
    assert sn.project(2.5, space, format="tucker").ranks == (1, 1, 1)


# -------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("name", SPACES)
def test_round_trip_in_every_namespace(tmp_path_factory, xp, name):
    path = tmp_path_factory.mktemp("store") / "u.h5"
    u = random_tucker(SPACES[name], (3, 1, 2, 2), backend=xp)
    u.save(path, notes={"a": "b"})
    v = sn.load(path, xp=xp.xp, device=xp.device)
    assert isinstance(v, sn.Tucker)
    assert v.space == u.space
    assert v.ranks == u.ranks
    for a, b in zip(u.arrays, v.arrays, strict=True):
        assert here(b, xp)
        assert np.array_equal(to_host(a), to_host(b))
    assert sn.load(path, dtype="float32").core.dtype == np.float32
    assert storage.read(path).notes == {"a": "b"}


@given(st.data())
def test_flipped_bytes(tmp_path_factory, data):
    """A damaged file is refused, or the damage was in bytes that mean nothing and the function is the same."""
    path = tmp_path_factory.getbasetemp() / "tucker.h5"
    u = random_tucker(SPACES["rough"], 2)
    u.save(path)
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    refused, v = "", u
    try:
        v = sn.load(path)
    except ValueError as error:
        refused = str(error)
    same = v.space == u.space and all(np.array_equal(a, b) for a, b in zip(u.arrays, v.arrays, strict=True))
    assert "tucker.h5" in refused or same


def test_the_core_is_under_the_checksum(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "u.h5"

    def damage(change):
        random_tucker(SPLINES, 2).save(path)
        with h5py.File(path, "r+") as file:
            assert file.attrs["version"] == 2  # a reader of version 1 says that it is too old, not that this is damaged
            change(file)
        with pytest.raises(ValueError, match=r"u\.h5.*checksum"):
            sn.load(path)

    def number(file):
        values = file["core"][...]
        values[0, 0, 0] = np.nextafter(values[0, 0, 0], 9)
        file["core"][...] = values

    damage(number)
    damage(lambda file: file.__delitem__("core"))
    random_cp(SPLINES, 2).save(path)
    with h5py.File(path, "r") as file:
        assert file.attrs["version"] == 1


def test_files_that_hold_no_tucker_function(tmp_path):
    path = tmp_path / "u.h5"
    u = random_tucker(SPLINES, 2)
    for arrays, text in [
        (u.factors, "no sound Tucker.*`factors` has 2 members"),
        ((*u.factors, u.core[:1]), r"no sound Tucker.*`core` has shape \(1, 2, 2\), expected \(2, 2, 2\)"),
        ((*u.factors, u.core.astype("f4")), "no sound Tucker.*`core` is float32"),
    ]:
        storage.write(path, storage.Stored("Tucker", SPLINES, arrays, {}))
        with pytest.raises(ValueError, match=text):
            sn.load(path)
    storage.write(path, storage.Stored("CP", SPLINES, u.arrays, {}))
    with pytest.raises(ValueError, match=r"u\.h5' is no sound CP"):
        sn.load(path)


# --------------------------------------------------------------------------------------------------------- small things


def test_what_it_says_of_itself():
    assert repr(random_tucker(SPLINES, (2, 3, 1))) == (
        "Tucker(ranks=2-3-1, x[5] x y[5] x t[6], 37 coefficients, float64)"
    )
    assert repr(random_tucker(SPACES["line"], 1)) == "Tucker(ranks=1, x[9], 10 coefficients, float64)"
    u = pickle.loads(pickle.dumps(random_tucker(SPLINES, 2)))
    assert u.space == SPLINES
    assert u.rank == 2


def test_error_against_references():
    c = random_cp(SPLINES, 2)
    u = sn.Tucker.from_cp(c)
    assert u.error(c, n=500).value <= 1e-13
    assert c.error(u, n=500).value <= 1e-12
    assert u.error(1.1 * c, n=500).value == pytest.approx(1 / 11, rel=1e-9)


def test_torch_differentiates_through_values():
    torch = pytest.importorskip("torch")
    u = random_tucker(SPLINES, 2).to(xp=torch)
    arrays = [array.clone().requires_grad_() for array in u.arrays]
    where = random_points(SPLINES, 4)
    v = sn.Tucker(SPLINES, arrays[:-1], arrays[-1])
    v(torch.asarray(where)).sum().backward()
    # the value is linear in each array: <array, gradient> is the sum of the values
    for array in arrays:
        assert float((array * array.grad).sum().detach()) == pytest.approx(float(dense(u, where).sum()), rel=1e-12)
    assert v.norm() == pytest.approx(u.norm(), rel=1e-14)
    assert v.compress(1e-13).ranks == (2, 2, 2)


FACTORS = [np.ones((5, 2)), np.ones((5, 3)), np.ones((6, 1))]
CORE = np.ones((2, 3, 1))


@pytest.mark.parametrize(
    ("factors", "core", "error", "text"),
    [
        (FACTORS[:2], CORE, ValueError, "`factors` has 2 members, expected one per axis: x, y, t"),
        ([*FACTORS[:2], np.ones((5, 1))], CORE, ValueError, r"axis 't' has shape \(5, 1\), expected \(6, r\)"),
        ([*FACTORS[:2], np.ones((6, 0))], CORE, ValueError, r"axis 't' has shape \(6, 0\).*r >= 1"),
        ([*FACTORS[:2], np.ones(6)], CORE, ValueError, r"axis 't' has shape \(6,\)"),
        (FACTORS, CORE[0], ValueError, r"`core` has shape \(3, 1\), expected \(2, 3, 1\)"),
        (FACTORS, np.ones((3, 2, 1)), ValueError, r"`core` has shape \(3, 2, 1\), expected \(2, 3, 1\)"),
        (FACTORS, CORE.tolist(), TypeError, r"`core` is list, expected an array of shape \(2, 3, 1\); np.asarray"),
        (FACTORS, None, TypeError, "`core` is NoneType"),
        (FACTORS, CORE.astype("f4"), TypeError, "`core` is float32 on cpu, the factors are float64 on cpu"),
        (FACTORS, CORE.astype(int), TypeError, "`core` is int64"),
        ([f.astype(complex) for f in FACTORS], CORE, TypeError, "complex128"),
        ([FACTORS[0], FACTORS[1].astype("f4"), FACTORS[2]], CORE, TypeError, "axis 'y' differs in dtype"),
        ([f.tolist() for f in FACTORS], CORE, TypeError, "`factors` holds list"),
        (None, CORE, TypeError, "`factors` is NoneType"),
    ],
)
def test_bad_factors_and_cores(factors, core, error, text):
    with pytest.raises(error, match=text):
        sn.Tucker(SPLINES, factors, core)


def test_mixed_libraries():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="expected one array library"):
        sn.Tucker(SPLINES, FACTORS, torch.asarray(CORE))
    u = random_tucker(SPLINES, 2)
    for other in (u.to(xp=torch), u.to(dtype="float32")):
        for combine in (lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a.inner(b)):
            with pytest.raises(TypeError, match=r"u\.to\("):
                combine(u, other)
    with pytest.raises(TypeError, match=r"u\.to\("):
        u(torch.asarray(random_points(SPLINES, 2)))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda u: sn.Tucker(3, FACTORS, CORE), TypeError, "sn.Tucker: `space` is int"),
        (lambda u: sn.Tucker.from_cp(u), TypeError, "`u` is Tucker, expected a CP"),
        (lambda u: sn.Tucker.from_train(u), TypeError, "`u` is Tucker, expected a TensorTrain"),
        (lambda u: u + u.to_train(), TypeError, "functions meet that are Tucker and TensorTrain: convert one"),
        (lambda u: u + random_tucker(u.space.drop("t"), 1), ValueError, "different axes meet"),
        (lambda u: u * random_cp(u.space.drop("t"), 1), ValueError, "different axes meet"),
        (lambda u: u.inner(3), TypeError, "`other` is int, expected a function such as Tucker"),
        (lambda u: u + "x", TypeError, "Tucker"),
        (lambda u: u / u, TypeError, "Tucker"),
        (lambda u: u * math.nan, ValueError, "nan, expected a finite"),
        (lambda u: u / 0, ZeroDivisionError, "zero"),
        (lambda u: u.restrict(x=9), ValueError, "9"),
        (lambda u: u.restrict(q=0), ValueError, "the axis 'q'"),
        (lambda u: u.derivative("x", 4), ValueError, "expected at most 3"),
        (lambda u: u.integrate("x", "t", density=np.cos), ValueError, "exactly one"),
        (lambda u: u.project(u.space.drop("x")), ValueError, "different axes"),
        (lambda u: u.compress("a"), TypeError, "`tol` is 'a', expected a real number"),
        (lambda u: u.compress(-1.0), ValueError, "`tol` is -1.0"),
        (lambda u: u.compress(rank=0), ValueError, "`rank` is 0"),
        (lambda u: u.compress(rank=2.0), TypeError, "`rank` is 2.0"),
        (lambda u: u.to_cp(math.nan), ValueError, "`tol` is nan"),
        (lambda u: u.to_cp(rank=0), ValueError, "`rank` is 0"),
        (lambda u: u([[math.nan, 0.5, 0.5]]), ValueError, "axis 'x'.*nan"),
        (lambda u: u([[0.5, 5.0, 0.5]]), ValueError, "axis 'y'.*5"),
        (lambda u: u([0.5, 0.5, 0.5]), ValueError, r"expected \(n, 3\) with columns x, y, t"),
        (lambda u: u.on_grid(x=2, y=2), ValueError, "axis 't'"),
    ],
)
def test_refused(make, error, text):
    with pytest.raises(error, match=text):
        make(random_tucker(SPLINES, 2))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    "use",
    [lambda u: u.compress(), lambda u: u.to_cp(), lambda u: u.to_train(), lambda u: u.as_coefficient()],
    ids=["compress", "to_cp", "to_train", "as_coefficient"],
)
def test_functions_that_are_not_finite(bad, use):
    for u in (sn.Tucker(SPLINES, FACTORS, CORE * bad), sn.Tucker(SPLINES, [FACTORS[0] * bad, *FACTORS[1:]], CORE)):
        with pytest.raises(ValueError, match="not finite"):
            use(u)


def test_norms_that_overflow():
    u = sn.Tucker(SPLINES, [1e200 * factor for factor in FACTORS], CORE)
    assert u.norm() == math.inf
    with pytest.raises(ValueError, match="its norm overflows"):
        u.compress()
