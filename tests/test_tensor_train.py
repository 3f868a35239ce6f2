"""Tensor trains as functions: the same as the sum of products they were made of, and what only trains can do."""

import math
import pickle

import h5py
import numpy as np
import pytest
from function_support import SPACES, gauss, random_cp, random_points, table
from hypothesis import given
from hypothesis import strategies as st
from support import dev_size

import sepnet as sn
from sepnet.backends.arrays import as_namespace, device_of, namespace, to_host
from sepnet.cli import main
from sepnet.coefficients import Coefficient
from sepnet.functions import storage

EPS = np.finfo(float).eps
SPLINES = SPACES["splines"]
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
seeds = st.integers(0, 2**31)
names = st.sampled_from(sorted(SPACES))
# Sums of products of a few dozen numbers: a few dozen units of round-off of the sums of their magnitudes.
FACTOR = 200


def random_train(space, ranks=3, seed=0, backend=None):
    """Coefficients in [-1, 1]; `ranks` is one for all, or one for each cut."""
    rng = np.random.default_rng(seed)
    inner = [ranks] * (space.dim - 1) if isinstance(ranks, int) else list(ranks)
    chain = [1, *inner, 1]
    hosts = [rng.uniform(-1, 1, (chain[k], n, chain[k + 1])) for k, n in enumerate(space.shape)]
    return sn.TensorTrain(space, hosts if backend is None else [backend.asarray(h) for h in hosts])


def product(u, points, orders, absolute=False):
    """The oracle: products of the matrices of all axes at each point, or of their magnitudes."""
    rows = np.ones((len(points), 1, 1))
    for k, (basis, order) in enumerate(zip(u.space.bases, orders, strict=True)):
        values, core = table(basis, points[:, k], order), to_host(u.cores[k]).astype(np.float64)
        if absolute:
            values, core = abs(values), abs(core)
        rows = rows @ np.einsum("pn,rns->prs", values, core)
    return rows[:, 0, 0]


def dense(u, points, orders=None):
    return product(u, points, orders or (0,) * u.space.dim)


def size(u, points, orders=None):
    """The magnitude of what is added up, at `points` and over the box."""
    points = np.concatenate([points, random_points(u.space, 50)])
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


# ---------------------------------------------------------------------------------------------------------- evaluation


@every_space
@pytest.mark.parametrize("n", [0, 1, 30])
def test_value_gradient_hessian(xp, space, n):
    u = random_train(space, 3, backend=xp)
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


@given(seeds, names, st.lists(st.integers(1, 4), min_size=3, max_size=3))
def test_value_for_any_ranks_and_seed(seed, name, ranks):
    space = SPACES[name]
    u = random_train(space, ranks[: space.dim - 1], seed)
    points = random_points(space, 9, seed)
    assert abs(u(points) - dense(u, points)).max() <= FACTOR * EPS * size(u, points)
    assert u.ranks == tuple(ranks[: space.dim - 1])
    assert u.rank == max(u.ranks, default=1)
    assert u.size == sum(core.size for core in u.cores)


@pytest.mark.parametrize("name", ["splines", "mixed"])
def test_many_points_go_in_chunks(xp, name):
    u = random_train(SPACES[name], 9, backend=xp)  # larger matrices go in smaller chunks
    points = xp.asarray(random_points(u.space, 4096 + 3))
    for method in (u, u.gradient, u.hessian):
        every, tail = to_host(method(points)), to_host(method(points[-5:, :]))
        assert len(every) == 4099
        # second derivatives on these meshes are below 1e3 times the values
        assert abs(every[-5:] - tail).max() <= 1e3 * 8 * xp.eps * size(u, random_points(u.space, 50))


@every_space
def test_on_grid(xp, space):
    u = random_train(space, 3, backend=xp)
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
    u = random_train(SPLINES, 2)
    assert abs(u.full() - np.einsum("xa,ayb,bt->xyt", u.cores[0][0], u.cores[1], u.cores[2][:, :, 0])).max() <= 1e-14
    big = sn.TensorSpace(**dict.fromkeys("abcdef", sn.BSpline((0, 1), cells=60)))
    with pytest.raises(ValueError, match="restrict axes first"):
        random_train(big, 1).full()


# ------------------------------------------------------------------------------------- the calculus is that of the sum


@dev_size  # each example is dozens of functions
@given(seeds, names, st.integers(0, 4))
def test_the_calculus_is_that_of_the_sum_of_products(seed, name, rank):
    """A sum of products is a train, exactly: whatever is done to both gives the same function."""
    space = SPACES[name]
    c, e = random_cp(space, rank, seed), random_cp(space, 2, seed + 1)
    u, v = sn.TensorTrain.from_cp(c), sn.TensorTrain.from_cp(e)
    points = random_points(space, 12, seed)
    x = space.names[0]
    # coefficients below one in bases whose functions, products and derivatives are below 1e3
    noise = 1e3 * FACTOR * EPS * (1 + rank)
    for train, cp in [
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
        assert isinstance(train, sn.TensorTrain)
        assert train.space == cp.space
        assert abs(train(points) - cp(points)).max() <= noise
        assert train.norm() == pytest.approx(cp.norm(), rel=1e-10, abs=noise)
    for one, other in ((u, v), (u, e), (c, v)):
        assert one.inner(other) == pytest.approx(c.inner(e), rel=1e-10, abs=noise)
    assert float(u.integrate()) == pytest.approx(float(c.integrate()), abs=noise)
    assert u + 0 is u
    assert u.derivative(x, 0) is u


@every_space
def test_restriction_and_integration(xp, space):
    c = random_cp(space, 3, backend=xp)
    u = sn.TensorTrain.from_cp(c)
    host = random_points(space, 5)
    bound = 1e3 * xp.eps * 10
    for count in range(space.dim + 1):
        for chosen in (space.names[:count], space.names[space.dim - count :], space.names[1 : 1 + count]):
            at = {name: float(host[0, space.names.index(name)]) for name in chosen}
            pairs = [(u.restrict(**at), c.restrict(**at))]
            if chosen:
                pairs.append((u.integrate(*chosen), c.integrate(*chosen)))
            for train, cp in pairs:
                if len(chosen) == space.dim:
                    assert train.shape == ()
                    assert here(train, xp)
                    assert abs(float(train) - float(cp)) <= bound
                else:
                    assert isinstance(train, sn.TensorTrain)
                    assert train.space == cp.space
                    assert (train - cp).norm() <= bound
    assert u.restrict() is u
    name = space.names[-1]
    weighted = u.integrate(name, density=np.cos), c.integrate(name, density=np.cos)
    if space.dim > 1:
        weighted = weighted[0].integrate(), weighted[1].integrate()
    assert float(weighted[0]) == pytest.approx(float(weighted[1]), abs=bound)


@every_space
def test_integrals_and_inner_products_are_those_of_gauss(xp, space):
    u, v = random_train(space, 2, 0, xp), random_train(space, 3, 1, xp)
    points, weights = gauss(space)
    a, b = dense(u, points), dense(v, points)
    scale = float(weights.sum()) * (1 + size(u, points)) * (1 + size(v, points))
    assert float(u.integrate()) == pytest.approx(float(weights @ a), abs=1e3 * xp.eps * scale)
    assert u.inner(v) == pytest.approx(float(weights @ (a * b)), abs=1e3 * xp.eps * scale)
    assert u.norm() == pytest.approx(math.sqrt(float(weights @ a**2)), rel=1e3 * xp.eps)
    assert isinstance(u.norm(), float)
    assert isinstance(u.inner(v), float)


def test_functions_on_different_spaces():
    u = random_train(SPLINES, 2, 0)
    v = random_train(SPLINES.replace(x=sn.BSpline((-1, 2), cells=3), y=sn.BSpline((0, 1), cells=2, degree=1)), 3, 1)
    points = random_points(SPLINES, 20)
    for w, expected in [(u + v, dense(u, points) + dense(v, points)), (u * v, dense(u, points) * dense(v, points))]:
        assert abs(w(points) - expected).max() <= 1e3 * EPS * size(u, points) * size(v, points) * 10
    grid, weights = gauss(sn.TensorSpace(**{n: sn.BSpline(breaks=b.breaks, degree=9) for n, b in (u * v).space.items}))
    assert u.inner(v) == pytest.approx(float(weights @ (dense(u, grid) * dense(v, grid))), rel=1e-11)


@pytest.mark.parametrize("delta", [1e-3, 1e-8, 1e-13, 0.0])
def test_the_norm_of_a_small_difference(delta):
    u, w = random_train(SPLINES, 4, 0), random_train(SPLINES, 2, 1)
    w = w * (1 / w.norm())
    # a few units of round-off of the norm of u, which is below 10
    assert abs(((u + delta * w) - u).norm() - delta) <= 1e-14 * 10


def test_dtypes_and_homes_are_kept(xp):
    u = random_train(SPLINES, 2, backend=xp)
    for v in (u + u, u * u, 2 * u, u + 1, u.derivative("x"), u.restrict(x=1.0), u.integrate("t"), u.permute(*"tyx")):
        assert all(here(core, xp) for core in v.cores)
    assert all(here(core, xp) for core in u.project(SPLINES).function.cores)
    assert all(here(core, xp) for core in u.compress(0.3).cores)
    assert all(here(factor, xp) for factor in u.to_cp(0.3).function.factors)
    assert all(here(core, xp) for core in (u - u).compress().cores)
    there = random_train(SPLINES, 2).to(xp=xp.xp, device=xp.device, dtype=str(xp.dtype).rsplit(".", 1)[-1].strip("'>"))
    assert all(here(core, xp) for core in there.cores)
    assert there.to() is there
    assert there.to(dtype="float32").dtype == xp.xp.float32
    again = sn.TensorTrain(SPLINES, there.cores)
    assert all(a is b for a, b in zip(again.cores, there.cores, strict=True))


# ------------------------------------------------------------------------------------------- rounding and projection


@every_space
@pytest.mark.parametrize("tol", [0.3, 1e-2, 1e-7])
def test_the_error_of_compress_is_certified(xp, space, tol):
    if tol < 100 * xp.eps:
        pytest.skip("below the round-off of the dtype")
    u = random_train(space, 4, backend=xp)
    v = u.compress(tol)
    assert v.space == space
    assert all(a <= b for a, b in zip(v.ranks, u.ranks, strict=True))
    assert all(here(core, xp) for core in v.cores)
    # apart from the round-off of the comparison itself
    assert (u - v).norm() <= (tol + 50 * xp.eps) * u.norm()


@given(seeds, names, st.floats(1e-10, 1.0))
def test_compress_keeps_what_it_promises(seed, name, tol):
    u = random_train(SPACES[name], 3, seed)
    v = u.compress(tol)
    assert (u - v).norm() <= (tol + 1e-13) * u.norm()
    for rank in (1, 2):
        short = u.compress(rank=rank)
        assert short.rank <= rank
        # Pythagoras: the cut is a projection
        assert (u - short).norm() ** 2 + short.norm() ** 2 == pytest.approx(u.norm() ** 2, rel=1e-10)
    assert (u + u - 3 * u).compress(1e-10).ranks == u.compress(1e-10).ranks
    assert u.compress(1e-14).compress(1e-14).ranks == u.compress(1e-14).ranks


def test_compress_of_two_axes_is_optimal():
    u = random_train(SPACES["rough"], 5)
    roots = [np.linalg.cholesky(np.asarray((b.tabulate(q.points).T * q.weights) @ b.tabulate(q.points).toarray())).T
             for b in u.space.bases for q in [b.quadrature()]]  # fmt: skip
    sigma = np.linalg.svd(roots[0] @ u.full() @ roots[1].T, compute_uv=False)
    for rank in range(1, 5):
        assert (u - u.compress(rank=rank)).norm() == pytest.approx(float(np.linalg.norm(sigma[rank:])), rel=1e-10)


def test_compress_of_zero_and_of_what_is_short():
    u = random_train(SPLINES, 3)
    zero = (u - u).compress()
    assert zero.ranks == (1, 1)
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
    p, error = sn.TensorTrain.from_cp(c).project(W)
    q, expected = c.project(W)
    assert p.space == W
    assert (p - q).norm() <= 1e-12 * c.norm()
    assert error == pytest.approx(expected, rel=1e-9)
    assert 0.01 < error < 1
    finer = sn.TensorSpace(**{name: b.refine().with_zero(None) for name, b in SPLINES.items})
    u = random_train(SPLINES, 3)
    assert u.project(finer).error <= 100 * EPS
    assert (u - u).project(W).error == 0.0


# -------------------------------------------------------------------------------------------------- order of the axes


@given(seeds, names, st.data())
def test_permute(seed, name, data):
    space = SPACES[name]
    u = random_train(space, 3, seed)
    order = data.draw(st.permutations(space.names))
    v = u.permute(*order)
    assert v.space.names == tuple(order)
    assert dict(v.space.items) == dict(space.items)
    points = random_points(space, 10, seed)
    columns = [space.names.index(n) for n in order]
    # a swap drops no more than fifty units of round-off of the norm
    assert abs(v(points[:, columns]) - dense(u, points)).max() <= 1e3 * FACTOR * EPS * size(u, points)
    back = v.permute(*space.names)
    assert (back - u).norm() <= 1e-12 * (1 + u.norm())
    assert back.compress(1e-12).ranks == u.compress(1e-12).ranks
    assert all(a <= b + 1 for a, b in zip(back.ranks, u.ranks, strict=True))  # noise does not fill the ranks up


def test_permute_keeps_small_parts():
    u, v = random_train(SPLINES, 2, 0), random_train(SPLINES, 1, 1)
    w = u + 1e-9 * v
    assert (w.permute(*"tyx").permute(*"xyt") - w).norm() <= 1e-13 * w.norm()


def test_permute_in_every_namespace(xp):
    u = random_train(SPACES["mixed"], 2, backend=xp)
    v = u.permute(*"cabx")
    assert v.space.names == ("c", "a", "b", "x")
    assert all(here(core, xp) for core in v.cores)
    assert (v.permute(*"xabc") - u).norm() <= 1e3 * xp.eps * u.norm()
    assert u.permute(*"xabc") is u


# ------------------------------------------------------------------------------------------------------ other formats


def test_sums_of_products_come_back(xp):
    space = sn.TensorSpace(**dict.fromkeys("abc", sn.BSpline((0, 1), cells=4)))
    c = random_cp(space, 3, backend=xp)
    v, error = sn.TensorTrain.from_cp(c).to_cp(1e-3)
    assert isinstance(v, sn.CP)
    assert all(here(factor, xp) for factor in v.factors)
    assert v.rank <= 3
    assert error <= 1e-3
    assert (v - c).norm() <= (error + 1e3 * xp.eps) * c.norm()


@dev_size  # each example is dozens of functions
@given(seeds, names, st.floats(1e-6, 0.5))
def test_the_error_of_to_cp_is_measured(seed, name, tol):
    u = random_train(SPACES[name], 2, seed)
    for rank in (None, 2):
        v, error = u.to_cp(tol, rank=rank)
        assert rank is None or v.rank <= rank
        assert (u - v).norm() == pytest.approx(error * u.norm(), rel=1e-6, abs=1e-13 * u.norm())
        # ranks of two have eight paths at most, and all of them are always enough
        assert rank is not None or error <= tol
        if rank is None and u.space.dim == 2:
            assert v.rank == u.compress(tol).rank


def test_to_cp_goes_on_until_the_tolerance():
    u = random_train(SPACES["mixed"], 3)
    first, error = u.to_cp(0.3)
    again, smaller = u.to_cp(0.99 * error)
    assert smaller <= 0.99 * error
    assert again.rank >= first.rank
    # what alternating least squares does not reach, all paths do
    small = random_train(SPLINES, 2)
    exact, error = small.to_cp(1e-14)
    assert exact.rank == 4
    assert error <= 1e-14
    assert (exact - small).norm() <= 1e-14 * small.norm()


def test_zero_and_one_term():
    u = random_train(SPLINES, 2)
    zero, error = (u - u).to_cp()
    assert zero.rank == error == 0
    assert len((u - u).as_coefficient().terms) == 0
    one = sn.TensorTrain.from_cp(random_cp(SPLINES, 1))
    assert one.to_cp().function.rank == 1
    assert sn.TensorTrain.from_cp(random_cp(SPLINES, 0)).norm() == 0.0
    assert isinstance(one + random_cp(SPLINES, 0), sn.TensorTrain)


@dev_size  # each example is dozens of functions
@given(seeds, names)
def test_expressions_and_trains_give_data(seed, name):
    u = random_train(SPACES[name], 2, seed)
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


def test_data_with_many_paths():
    space = sn.TensorSpace(**dict.fromkeys("abcdef", sn.BSpline((0, 1), cells=8)))
    c = random_cp(space, 6, 3)
    u = sn.TensorTrain.from_cp(c)  # 6**5 paths, but six terms
    data = u.as_coefficient()
    assert len(data.terms) <= 12
    points = random_points(space, 10)
    assert abs(data(points, space.names) - c(points)).max() <= 1e-10
    rich = random_train(sn.TensorSpace(**dict.fromkeys("abcd", sn.BSpline((0, 1), cells=9))), (12, 11, 12))
    with pytest.raises(ValueError, match=r"ranks 12-11-12, which is no sum of few products.*u\.to_cp\(tol=1e-6\)"):
        rich.as_coefficient()


def test_a_train_is_initial_data_of_a_problem():
    """What a train gives as data is what the solver takes."""
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8, zero="both"), t=sn.BSpline((0, 1), cells=4))
    start = sn.TensorTrain.from_cp(sn.project(sn.product(x=lambda s: np.sin(np.pi * s)), V.drop("t")))
    solution = sn.solve(sn.LeastSquares(V.d.t, initial={"t": start}), rank=2)
    assert (solution.u.restrict(t=1.0) - start).norm() <= 1e-6 * start.norm()


# -------------------------------------------------------------------------------------------------------- the ways in


@pytest.mark.parametrize("name", ["splines", "mixed", "rough", "line"])
def test_interpolation_of_members_is_exact(xp, name):
    space = SPACES[name]
    u = random_train(space, 2, backend=xp)
    v = sn.interpolate(u.on_grid(**{n: xp.asarray(p) for n, p in space.nodes.items()}), space, format="tt", tol=0.0)
    assert isinstance(v, sn.TensorTrain)
    assert all(here(core, xp) for core in v.cores)
    assert (u - v).norm() <= 1e3 * xp.eps * u.norm()
    if xp.eps < 1e-10:
        assert v.compress(1e-12).ranks == u.compress(1e-12).ranks


def test_interpolation_to_a_tolerance():
    space = sn.TensorSpace(**dict.fromkeys("xyz", sn.BSpline((0, 1), cells=8)))
    values = 1 / (1 + sum(np.meshgrid(*space.nodes.values(), indexing="ij")))
    exact = sn.interpolate(values, space, 1e-14, format="tt")
    last = (0, 0)
    for tol in np.geomspace(1e-1, 1e-8, 20):
        u = sn.interpolate(values, space, tol, format="tt")
        assert (u - exact).norm() <= tol * exact.norm()
        assert u.ranks >= last
        last = u.ranks
    assert sn.interpolate(values, space, 1e-6, rank=2, format="tt").rank == 2
    assert sn.interpolate(0 * values, space, format="tt").norm() == 0.0
    with pytest.raises(ValueError, match="`format` is 'train', expected 'cp'"):
        sn.interpolate(values, space, format="train")


def test_projection_of_callables_and_expressions():
    space = sn.TensorSpace(**dict.fromkeys("xyz", sn.BSpline((0, 1), cells=6)))
    x, y, z = space.coordinates
    u = sn.project((x + y + z) ** 3, space, rank=None, format="tt")
    assert u.ranks == (4, 4)  # powers 0 to 3 of what is on one side
    points = random_points(space, 20)
    assert abs(u(points) - points.sum(axis=1) ** 3).max() <= 1e-12
    assert sn.project((x + y + z) ** 3, space, rank=2, format="tt").rank == 2
    v = sn.project(lambda p: p.sum(axis=1) ** 3, space, rank=None, format="tt")
    assert v.ranks == (4, 4)
    assert (u - v).norm() <= 1e-8 * u.norm()
    assert sn.project(lambda p: p.sum(axis=1) ** 3, space, rank=3, format="tt").rank == 3
    assert sn.project(u, space, format="tt").ranks == (4, 4)
    assert sn.project(2.5, space, format="tt").ranks == (1, 1)
    with pytest.raises(ValueError, match="`format` is None"):
        sn.project(2.5, space, format=None)


# -------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("name", SPACES)
def test_round_trip_in_every_namespace(tmp_path_factory, xp, name):
    path = tmp_path_factory.mktemp("store") / "u.h5"
    u = random_train(SPACES[name], (3, 1, 2)[: SPACES[name].dim - 1], backend=xp)
    u.save(path, notes={"a": "b"})
    v = sn.load(path, xp=xp.xp, device=xp.device)
    assert isinstance(v, sn.TensorTrain)
    assert v.space == u.space
    assert v.ranks == u.ranks
    for a, b in zip(u.cores, v.cores, strict=True):
        assert here(b, xp)
        assert np.array_equal(to_host(a), to_host(b))
    assert sn.load(path, dtype="float32").dtype == np.float32
    assert storage.read(path).notes == {"a": "b"}


@given(st.data())
def test_flipped_bytes(tmp_path_factory, data):
    """A damaged file is refused, or the damage was in bytes that mean nothing and the function is the same."""
    path = tmp_path_factory.getbasetemp() / "train.h5"
    u = random_train(SPACES["rough"], 2)
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
    same = v.space == u.space and all(np.array_equal(a, b) for a, b in zip(u.cores, v.cores, strict=True))
    assert "train.h5" in refused or same


def test_files_that_hold_no_train(tmp_path):
    path = tmp_path / "u.h5"
    u = random_train(SPLINES, 2)
    for cores, text in [
        ((*u.cores[:2], u.cores[2][:1]), r"no sound TensorTrain.*axis 't' has shape \(1, 6, 1\), expected \(2, 6, 1\)"),
        (tuple(core[0] for core in u.cores), r"no sound TensorTrain.*axis 'x' has shape \(5, 2\)"),
        ((*u.cores[:2], u.cores[2].astype("f4")), "no sound TensorTrain.*differs in dtype"),
    ]:
        storage.write(path, storage.Stored("TensorTrain", SPLINES, cores, {}))
        with pytest.raises(ValueError, match=text):
            sn.load(path)
    storage.write(path, storage.Stored("CP", SPLINES, u.cores, {}))
    with pytest.raises(ValueError, match=r"u\.h5' is no sound CP"):
        sn.load(path)


def test_files_with_texts_of_any_length_are_read(tmp_path):
    """As they were written before the texts became of fixed length."""
    path = tmp_path / "u.h5"
    u = random_train(SPLINES, 2)
    u.save(path, notes={"a": "b"})
    with h5py.File(path, "r+") as file:
        for group in (file, *file["axes"].values()):
            texts = {key: value.decode() for key, value in group.attrs.items() if isinstance(value, bytes)}
            assert texts
            group.attrs.update(texts)
    assert np.array_equal(sn.load(path).full(), u.full())
    assert storage.read(path).notes == {"a": "b"}


def test_a_file_that_claims_too_much_is_not_read(tmp_path):
    path = tmp_path / "u.h5"
    random_train(SPLINES, 2).save(path)
    with h5py.File(path, "r+") as file:
        del file["axes/0/factor"]
        file["axes/0"].create_dataset("factor", shape=(1, 10**12, 1), chunks=(1, 1000, 1), dtype="f8")
    with pytest.raises(ValueError, match=r"claims 8\d+ bytes in a file of"):
        sn.load(path)


# --------------------------------------------------------------------------------------------------------- small things


def test_what_it_says_of_itself():
    assert repr(random_train(SPLINES, (2, 3))) == (
        "TensorTrain(ranks=2-3, x[5] x y[5] x t[6], 58 coefficients, float64)"
    )
    assert repr(random_train(SPACES["line"])) == "TensorTrain(x[9], 9 coefficients, float64)"
    u = pickle.loads(pickle.dumps(random_train(SPLINES, 2)))
    assert u.space == SPLINES
    assert u.rank == 2


def test_the_command_line_describes_a_stored_train(tmp_path, capsys):
    path = tmp_path / "u.h5"
    random_train(SPLINES, (2, 3)).save(path)
    assert main(["info", str(path)]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (rows["format"], rows["rank"], rows["parameters"]) == ("TensorTrain", "2-3", "58")


def test_error_against_references():
    c = random_cp(SPLINES, 2)
    u = sn.TensorTrain.from_cp(c)
    assert u.error(c, n=500).value <= 1e-13
    assert c.error(u.permute(*"tyx"), n=500).value <= 1e-12
    assert u.error(1.1 * c, n=500).value == pytest.approx(1 / 11, rel=1e-9)
    assert u.error(lambda p: dense(u, p), n=500).value <= 1e-13


def test_torch_differentiates_through_values():
    torch = pytest.importorskip("torch")
    u = random_train(SPLINES, 2).to(xp=torch)
    cores = [core.clone().requires_grad_() for core in u.cores]
    points = torch.asarray(random_points(SPLINES, 4))
    sn.TensorTrain(SPLINES, cores)(points).sum().backward()
    host = random_points(SPLINES, 4)
    # the value is linear in each core: <core, gradient> is the sum of the values
    for core in cores:
        total = float((core * core.grad).sum().detach())
        assert total == pytest.approx(float(dense(u, host).sum()), rel=1e-12)


CORES = [np.ones((1, 5, 2)), np.ones((2, 5, 3)), np.ones((3, 6, 1))]


@pytest.mark.parametrize(
    ("cores", "error", "text"),
    [
        (CORES[:2], ValueError, "`cores` has 2 members, expected one per axis: x, y, t"),
        ([CORES[0], CORES[1], np.ones((2, 6, 1))], ValueError, r"axis 't' has shape \(2, 6, 1\), expected \(3, 6, 1\)"),
        ([np.ones((2, 5, 2)), *CORES[1:]], ValueError, r"axis 'x' has shape \(2, 5, 2\), expected \(1, 5, r'\)"),
        ([*CORES[:2], np.ones((3, 6, 2))], ValueError, r"axis 't' has shape \(3, 6, 2\), expected \(3, 6, 1\)"),
        (
            [CORES[0], np.ones((2, 4, 3)), CORES[2]],
            ValueError,
            r"axis 'y' has shape \(2, 4, 3\), expected \(2, 5, r'\)",
        ),
        ([np.ones((5, 2)), *CORES[1:]], ValueError, r"axis 'x' has shape \(5, 2\)"),
        ([np.ones((1, 5, 0)), np.ones((0, 5, 3)), CORES[2]], ValueError, r"axis 'x' has shape \(1, 5, 0\)"),
        ([core.astype(int) for core in CORES], TypeError, r"core of axis 'x' has dtype int64.*core\.astype"),
        ([core.astype(complex) for core in CORES], TypeError, "complex128"),
        ([CORES[0], CORES[1].astype("f4"), CORES[2]], TypeError, "axis 'y' differs in dtype"),
        ([core.tolist() for core in CORES], TypeError, "`cores` holds list"),
        (None, TypeError, "`cores` is NoneType"),
        ("abc", TypeError, "`cores` is str"),
    ],
)
def test_bad_cores(cores, error, text):
    with pytest.raises(error, match=text):
        sn.TensorTrain(SPLINES, cores)


def test_mixed_libraries():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="expected one array library"):
        sn.TensorTrain(SPLINES, [CORES[0], torch.asarray(CORES[1]), CORES[2]])
    u = random_train(SPLINES, 2)
    for other in (u.to(xp=torch), u.to(dtype="float32")):
        for combine in (lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a.inner(b)):
            with pytest.raises(TypeError, match=r"u\.to\("):
                combine(u, other)
    with pytest.raises(TypeError, match=r"u\.to\("):
        u(torch.asarray(random_points(SPLINES, 2)))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda u: sn.TensorTrain(3, CORES), TypeError, "sn.TensorTrain: `space` is int"),
        (lambda u: sn.TensorTrain.from_cp(u), TypeError, "`u` is TensorTrain, expected a CP"),
        (lambda u: u + random_train(u.space.drop("t"), 1), ValueError, "different axes meet"),
        (lambda u: u * random_cp(u.space.drop("t"), 1), ValueError, "different axes meet"),
        (lambda u: u + u.permute(*"tyx"), ValueError, "different axes meet"),
        (lambda u: u.inner(u.permute(*"tyx")), ValueError, "different axes meet"),
        (lambda u: u.inner(3), TypeError, "`other` is int, expected a function such as TensorTrain"),
        (lambda u: u + "x", TypeError, "TensorTrain"),
        (lambda u: u * None, TypeError, "TensorTrain"),
        (lambda u: u / u, TypeError, "TensorTrain"),
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
        (lambda u: u.permute("x", "y"), ValueError, "permute: the names are x, y, expected each of x, y, t once"),
        (lambda u: u.permute(*"xyy"), ValueError, "expected each of x, y, t once"),
        (lambda u: u.permute(), ValueError, "the names are missing"),
        (lambda u: u.permute("x", "y", "q"), ValueError, "the axis 'q'"),
        (lambda u: u.permute("x", "y", 3), TypeError, "the axis 3, expected a str"),
        (lambda u: u([[math.nan, 0.5, 0.5]]), ValueError, "nan"),
        (lambda u: u([[5.0, 0.5, 0.5]]), ValueError, "5"),
        (lambda u: u([0.5, 0.5, 0.5]), ValueError, r"expected \(n, 3\) with columns x, y, t"),
        (lambda u: u.on_grid(x=2, y=2), ValueError, "axis 't'"),
    ],
)
def test_refused(make, error, text):
    with pytest.raises(error, match=text):
        make(random_train(SPLINES, 2))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    "use",
    [
        lambda u: u.compress(),
        lambda u: u.to_cp(),
        lambda u: u.permute(*"tyx"),
        lambda u: u.as_coefficient(),
    ],
    ids=["compress", "to_cp", "permute", "as_coefficient"],
)
def test_functions_that_are_not_finite(bad, use):
    u = sn.TensorTrain(SPLINES, [CORES[0], CORES[1] * bad, CORES[2]])
    with pytest.raises(ValueError, match="not finite"):
        use(u)


def test_norms_that_overflow():
    u = sn.TensorTrain(SPLINES, [1e200 * core for core in CORES])
    assert u.norm() == math.inf
    with pytest.raises(ValueError, match="its norm overflows"):
        u.compress()
