"""Separable neural architectures: what they represent, their values, calculus, unique form, and bad input."""

import math
import pickle
from itertools import combinations

import numpy as np
import pytest
from function_support import random_cp, random_points
from hypothesis import given, settings
from hypothesis import strategies as st
from support import dev_size

import sepnet as sn
from sepnet.backends.arrays import as_namespace, device_of, namespace, to_host
from sepnet.functions import SNA, Interaction, sna_evaluation, storage
from sepnet.functions.activations import ACTIVATIONS, apply_activation
from sepnet.functions.sna_parts import subspace

EPS = np.finfo(float).eps
V = sn.TensorSpace(
    x=sn.BSpline((-1, 2), cells=3), y=sn.BSpline(breaks=(0, 0.3, 1), degree=2), z=sn.Legendre((0, 1), 3),
    w=sn.BSpline((0, 2), cells=2, degree=4),
)  # fmt: skip
CLOSED = V.replace(x=sn.BSpline((-1, 2), cells=3, zero="both"), z=sn.Legendre((0, 1), 4, "left"))
spaces = pytest.mark.parametrize("space", [V, CLOSED], ids=["open", "closed"])
seeds = st.integers(0, 2**31)
FORMATS = {"cp": lambda u: u, "tt": sn.TensorTrain.from_cp, "tucker": sn.Tucker.from_cp}
# Values are sums of some dozen products of a few numbers below one; changes of basis amplify round-off a hundredfold.
TOL = 1e4 * EPS


def quarter(test):
    """A fourth of the profile's examples, for calculus on several random architectures at a time."""
    return settings(max_examples=max(settings().max_examples // 4, 10))(test)


@st.composite
def architectures(draw, space=V, order=3):
    """Random parts in random formats, some weights, a constant; never all axes in every part."""
    every = [s for k in range(1, order + 1) for s in combinations(space.names, k)]
    subsets = draw(st.lists(st.sampled_from(every), unique=True, max_size=5))
    seed = draw(seeds)
    parts = {
        s: FORMATS[draw(st.sampled_from(sorted(FORMATS)))](part(space, s, 2, seed + k)) for k, s in enumerate(subsets)
    }
    weights = {s: draw(st.floats(-2, 2)) for s in subsets if draw(st.booleans())}
    return SNA(space, parts, constant=draw(st.sampled_from([0.0, 0.7])), weights=weights)


def part(space, names, rank=2, seed=0, backend=None):
    return random_cp(subspace(space, names), rank, seed, backend)


def model(space=V, seed=0, backend=None, **options):
    """One of everything: univariate, pairs and a triple, in all formats."""
    pieces = {
        ("x",): "cp",
        ("z",): "tt",
        ("x", "y"): "tt",
        ("y", "w"): "cp",
        ("x", "z"): "tucker",
        ("x", "y", "w"): "cp",
    }
    parts = {s: FORMATS[f](part(space, s, 2, seed + k, backend)) for k, (s, f) in enumerate(pieces.items())}
    return SNA(space, parts, **{"constant": 0.3, **options})


def direct(u, points):
    """The oracle: parts at their own columns, times the weights, one after the other."""
    total = np.full(len(points), float(to_host(u.constant)))
    for names, function in u.parts.items():
        columns = points[:, [u.space.names.index(n) for n in names]]
        weight = to_host(u.weights.get(names, np.ones(())))
        if weight.ndim:
            function = sn.CP(function.space, [function.factors[0] * weight, *function.factors[1:]])
            weight = 1.0
        total = total + weight * to_host(function(columns))
    return total


def here(array, xp):
    return (
        namespace(array) is as_namespace(xp.xp)
        and array.dtype == xp.dtype
        and (xp.device is None or str(device_of(array)) == str(xp.device))
    )


# -------------------------------------------------------------------------------------------------------- evaluation


@given(architectures(), st.integers(0, 6))
def test_values_are_sums_of_parts(u, n):
    points = random_points(V, n)
    assert abs(u(points) - direct(u, points)).max(initial=0) <= TOL
    assert u.size == sum(int(np.prod(a.shape)) for a in u.arrays)
    assert u.rank == sum(p.rank for p in u.parts.values())


@spaces
@pytest.mark.parametrize("activation", ["identity", "tanh"])
def test_every_namespace(xp, space, activation):
    weights = {("x",): xp.asarray([0.5, 2.0]), ("x", "y"): -1.5}
    u = model(space, backend=xp, weights=weights, activation=activation)
    oracle = model(space, weights={("x",): np.array([0.5, 2.0]), ("x", "y"): -1.5}, activation=activation)
    for n in (0, 1, 2, 30):
        points = random_points(space, n).astype(xp.host_dtype).astype(float)
        jet = u(xp.asarray(points)), u.gradient(xp.asarray(points)), u.hessian(xp.asarray(points))
        expected = oracle(points), oracle.gradient(points), oracle.hessian(points)
        for array, exact in zip(jet, expected, strict=True):
            assert here(array, xp)
            assert array.shape == exact.shape
            # single precision rounds the points and the factors: a few hundred units of the largest derivative
            assert abs(to_host(array) - exact).max(initial=0) <= 2e3 * xp.eps * (1 + abs(expected[2]).max(initial=1))
    grid = u.on_grid(x=3, y=2, z=[0.25], w=4)
    assert grid.shape == (3, 2, 1, 4)
    assert here(grid, xp)
    mesh = np.meshgrid(*[to_host(g).astype(float) for g in u.grid(x=3, y=2, z=[0.25], w=4).values()], indexing="ij")
    values = to_host(u(xp.asarray(np.stack([m.ravel() for m in mesh], axis=1)))).reshape(grid.shape)
    assert abs(to_host(grid) - values).max() <= 1e4 * xp.eps * (1 + abs(values).max())


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_derivatives_are_difference_quotients(activation):
    smooth = V.replace(y=sn.BSpline((0, 1), cells=2, degree=4), x=sn.BSpline((-1, 2), cells=2, degree=4))
    u = model(smooth, activation=activation)
    low, high = np.array([b.domain for b in smooth.bases]).T
    points, h = low + (high - low) * (0.05 + 0.9 * np.random.default_rng(3).random((20, 4))), 1e-5
    gradient, hessian = u.gradient(points), u.hessian(points)
    for k, step in enumerate(h * np.eye(4)):
        slope = (u(points + step) - u(points - step)) / (2 * h)
        bend = (u.gradient(points + step) - u.gradient(points - step)) / (2 * h)
        # h^2 times derivatives of the third and fourth order (below 1e5 of the size), and round-off over h
        assert abs(slope - gradient[:, k]).max() <= 1e-4 * (1 + abs(hessian).max())
        assert abs(bend - hessian[:, :, k]).max() <= 1e-4 * (1 + abs(hessian).max())


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations(xp, name):
    z = np.array([-800.0, -40.0, -2.0, -0.5, 0.0, 0.3, 3.0, 40.0, 80.0])
    value, first, second = (to_host(a) for a in apply_activation(name, xp.asarray(z), 2))
    mild = abs(z) < 10
    h = 1e-5
    up, here_, down = (apply_activation(name, z[mild] + s)[0] for s in (h, 0.0, -h))
    scale = 1 + abs(here_)
    assert (abs((up - down) / (2 * h) - first[mild]) <= (1e-8 + 20 * xp.eps) * scale).all()
    assert (abs((up - 2 * here_ + down) / h**2 - second[mild]) <= (1e-4 + 20 * xp.eps) * scale).all()
    if name not in ("exp", "square"):
        assert np.isfinite([value, first, second]).all()
    if name == "logistic":
        # the left tail keeps its digits
        assert value[1] == pytest.approx(math.exp(-40), rel=20 * xp.eps)


def test_packing_is_a_partition_and_changes_nothing(monkeypatch):
    shapes = tuple(((i, k), 4) for i, k in combinations(range(12), 2)) + tuple(((i,), 1) for i in range(12))
    groups = sna_evaluation.packed(shapes)
    owners = sorted({part for group in groups for places, _ in group.columns for part, _ in places})
    assert owners == list(range(len(shapes)))
    assert 1 < len(groups) < len(shapes) / 2
    space = sn.TensorSpace(**{f"x{i}": sn.BSpline((0, 1), cells=3, zero="left") for i in range(12)})
    parts = {s: part(space, s, 4, k) for k, s in enumerate(combinations(space.names, 2))}
    assert len(sna_evaluation.Sum(space, parts, np.zeros(())).items) > 1
    u = SNA(space, parts, constant=1.0)
    points = random_points(space, 50)
    assert abs(u(points) - direct(u, points)).max() <= TOL
    many = np.concatenate([points] * 5)
    monkeypatch.setattr(sna_evaluation, "ROUND", 64)
    assert abs(u(many)[-50:] - u(points)).max() <= TOL
    assert abs(u.gradient(many)[-50:] - u.gradient(points)).max() <= TOL * 100
    assert u.hessian(many).shape == (250, 12, 12)


def test_bad_points_are_named_by_their_own_axis():
    u = SNA(V, {("y", "w"): part(V, ("y", "w")), ("z",): part(V, ("z",))})
    for row, text in [
        ([0.0, 5.0, 0.5, 1.0], r"5\.0 on axis 1 \('y'\)"),
        ([9.0, 0.5, 0.5, 1.0], r"9\.0 on axis 0 \('x'\)"),
        ([math.nan, 0.5, 0.5, 1.0], r"nan on axis 0 \('x'\)"),
        ([0.0, 0.5, -1.0, 1.0], r"-1\.0 on axis 2 \('z'\)"),
    ]:
        with pytest.raises(ValueError, match=text):
            u([[0.0, 0.5, 0.5, 1.0], row])
    with pytest.raises(ValueError, match=r"9\.0 on axis 0 \('x'\)"):
        u.on_grid(x=[9.0], y=2, z=2, w=2)


# ---------------------------------------------------------------------------------------------------------- recovery


@given(seeds)
def test_order_one_is_the_additive_model(seed):
    rng = np.random.default_rng(seed)
    columns = {name: rng.uniform(-1, 1, (basis.size, 1)) for name, basis in V.items}
    u = SNA(V, {(n,): sn.CP(subspace(V, (n,)), [c]) for n, c in columns.items()}, constant=float(rng.normal()))
    points = random_points(V, 20, seed)
    exact = float(u.constant) + sum(V.axes[n].values(points[:, k]) @ columns[n][:, 0] for k, n in enumerate(V.names))
    assert abs(u(points) - exact).max() <= TOL
    gam = u.to_cp()
    assert gam.rank == V.dim
    assert gam.space == V
    assert abs(gam(points) - exact).max() <= TOL
    assert u.to_train().compress(1e-12).rank == 2


@given(seeds, st.integers(1, 5))
def test_order_two_is_the_quadratic_model(seed, d):
    """Any x'Qx + b'x + c: linear atoms for the pairs, quadratic ones on the diagonal."""
    rng = np.random.default_rng(seed)
    q, b, c = rng.normal(size=(d, d)), rng.normal(size=d), float(rng.normal())
    space = sn.TensorSpace(**{f"x{i}": sn.BSpline((-1, 1), cells=1, degree=2) for i in range(d)})
    atoms = {name: {k: basis.interpolate(basis.nodes**k) for k in range(3)} for name, basis in space.items}
    architecture = Interaction(order=min(2, d), rank=1)
    parts = {}
    for names in architecture.subsets_of(space.names):
        i, k = space.names.index(names[0]), space.names.index(names[-1])
        own = atoms[names[0]]
        if len(names) == 1:
            factors = [(q[i, i] * own[2] + b[i] * own[1])[:, None]]
        else:
            factors = [((q[i, k] + q[k, i]) * own[1])[:, None], atoms[names[1]][1][:, None]]
        parts[names] = sn.CP(subspace(space, names), factors)
    u = SNA(space, parts, constant=c)
    points = random_points(space, 15, seed)
    exact = np.einsum("ni,ij,nj->n", points, q, points) + points @ b + c
    assert abs(u(points) - exact).max() <= TOL * d**2
    assert abs(u.hessian(points) - (q + q.T)).max() <= TOL * 10
    assert len(parts) == d + d * (d - 1) // 2


@pytest.mark.parametrize("kind", FORMATS)
def test_order_d_is_the_tensor_class_itself(kind):
    function = FORMATS[kind](random_cp(V, 3))
    u = SNA(V, {V.names: function})
    points = random_points(V, 20)
    assert abs(u(points) - function(points)).max() <= TOL
    assert abs(u.to_cp()(points) - function(points)).max() <= TOL
    assert Interaction(order=4, rank=3, subsets=[V.names], format=kind).subsets_of(V.names) == (V.names,)
    if kind != "tucker":
        back = u.to_cp() if kind == "cp" else u.to_train()
        assert all(np.array_equal(a, b) for a, b in zip(back.arrays, function.arrays, strict=True))


@given(seeds)
def test_full_rank_is_every_spline(seed):
    space = subspace(V, ("x", "y"))
    dense = np.random.default_rng(seed).uniform(-1, 1, space.shape)
    plane = sn.CP(space, [np.eye(space.shape[0]), dense.T])  # rank n_1: one term for each row
    u = SNA(V, {("x", "y"): plane})
    points = random_points(V, 15, seed)
    a, b = (basis.values(points[:, k]) for k, basis in enumerate(space.bases))
    assert abs(u(points) - np.einsum("ni,ij,nj->n", a, dense, b)).max() <= TOL


@given(seeds, st.sampled_from(sorted(ACTIVATIONS)), st.integers(1, 3))
def test_linear_atoms_and_an_activation_are_a_neuron(seed, activation, d):
    """sigma(a'x + b): logistic regression and the other generalised linear models; sums of parts stay inside sigma."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=d), float(rng.normal())
    space = sn.TensorSpace(**{f"x{i}": sn.BSpline((-2, 1), cells=1, degree=1) for i in range(d)})
    ends = np.array([-2.0, 1.0])[:, None]
    parts = {(n,): sn.CP(subspace(space, (n,)), [a[k] * ends]) for k, n in enumerate(space.names)}
    u = SNA(space, parts, constant=b, activation=activation)
    points = random_points(space, 10, seed)
    z = points @ a + b
    sigma = {"identity": z, "exp": np.exp(z), "logistic": 1 / (1 + np.exp(-z)), "sin": np.sin(z), "square": z**2,
             "softplus": np.log1p(np.exp(z)), "tanh": np.tanh(z)}[activation]  # fmt: skip
    assert abs(u(points) - sigma).max() <= TOL * (1 + abs(sigma).max())


# ---------------------------------------------------------------------------------------------------------- calculus


@quarter
@given(architectures(), architectures(CLOSED))
def test_conversions_are_exact(u, v):
    for function in (u, v):
        points = random_points(V, 9)
        assert abs(function.to_cp()(points) - function(points)).max() <= TOL
        assert abs(function.to_train()(points) - function(points)).max() <= TOL
        data = function.as_coefficient()
        assert abs(data(points, V.names) - function(points)).max() <= TOL


@dev_size
@given(architectures(), architectures(CLOSED), st.floats(-3, 3))
def test_algebra(u, v, a):
    points = random_points(V, 7)
    p, q = u(points), v(points)
    size = (1 + abs(p).max()) * (1 + abs(q).max())
    for function, exact in [
        (u + v, p + q), (v - u, q - p), (a * u, a * p), (u * v, p * q), (v * v, q * q), (u - a, p - a), (a - v, a - q),
        (-u, -p), (u / 2, p / 2),
    ]:  # fmt: skip
        assert isinstance(function, SNA)
        assert abs(function(points) - exact).max() <= 10 * TOL * size * (1 + abs(a))
    assert set((u + v).parts) == set(u.parts) | set(v.parts)
    assert all(len(s) <= 4 for s in (u * v).parts)


@pytest.mark.parametrize("kind", FORMATS)
def test_meets_the_other_formats(kind):
    u, v = model(), FORMATS[kind](random_cp(V, 2, 9))
    points = random_points(V, 9)
    p, q = u(points), v(points)
    for function, exact in [
        (u + v, p + q),
        (v + u, p + q),
        (v - u, q - p),
        (u - v, p - q),
        (v * u, p * q),
        (u * v, p * q),
    ]:
        assert isinstance(function, SNA)
        assert abs(function(points) - exact).max() <= 100 * TOL
    assert u.inner(v) == pytest.approx(u.to_train().inner(sn.TensorTrain.from_cp(random_cp(V, 2, 9))), rel=1e-10)
    x = V.coordinates[0]
    assert abs((u + x)(points, V.names) - p - points[:, 0]).max() <= TOL
    assert abs((x * u)(points, V.names) - p * points[:, 0]).max() <= TOL
    assert u.error(u.to_cp()).value < 1e-13


@quarter
@given(architectures(CLOSED), st.sampled_from(V.names), seeds)
def test_derivative_integral_restriction(u, axis, seed):
    cp, points = u.to_cp(), random_points(CLOSED, 6, seed)
    k = CLOSED.names.index(axis)
    low, high = CLOSED.axes[axis].domain
    others = np.delete(points, k, axis=1)
    size = 100 * TOL
    assert abs(u.derivative(axis)(points) - cp.derivative(axis)(points)).max() <= size
    assert u.derivative(axis, 0) is u
    assert abs(u.integrate(axis)(others) - cp.integrate(axis)(others)).max() <= size
    density = np.exp
    assert (
        abs(u.integrate(axis, density=density)(others) - cp.integrate(axis, density=density)(others)).max()
        <= 1e3 * size
    )
    assert float(u.integrate()) == pytest.approx(float(cp.integrate()), abs=size)
    place = 0.3 * low + 0.7 * high
    points[:, k] = place
    assert abs(u.restrict(**{axis: place})(others) - u(points)).max() <= size
    everything = dict(zip(CLOSED.names, points[0], strict=True))
    assert float(u.restrict(**everything)) == pytest.approx(float(u(points[:1])[0]), abs=size)


@quarter
@given(architectures(order=2), architectures(CLOSED, order=2))
def test_norms_and_projections(u, v):
    assert u.norm() == pytest.approx(u.to_train().norm(), rel=1e-10, abs=1e-12)
    assert u.inner(v) == pytest.approx(u.to_train().inner(v.to_train()), rel=1e-9, abs=1e-10)
    assert u.norm() ** 2 == pytest.approx(u.inner(u), rel=1e-10, abs=1e-20)
    # the difference of close functions is seen down to round-off
    assert (u + 1e-12 * v - u).norm() == pytest.approx(1e-12 * v.norm(), abs=TOL * (u.norm() + v.norm()))
    coarse = V.replace(x=sn.BSpline((-1, 2), cells=1, degree=2), z=sn.Legendre((0, 1), 1))
    projected, error = u.project(coarse)
    exact = u.to_cp().project(coarse)
    points = random_points(V, 5)
    assert abs(projected(points) - exact.function(points)).max() <= 10 * TOL
    assert error == pytest.approx(exact.error, rel=1e-8, abs=1e-11)
    assert set(projected.parts) == set(u.parts)


@pytest.mark.parametrize("tol", [1e-1, 1e-3, 1e-10])
def test_compress(tol):
    u = model()
    twice = u + 1e-6 * model(seed=40) + u
    short = twice.compress(tol)
    assert (short - twice).norm() <= tol * twice.norm()
    assert short.rank < twice.rank
    assert SNA(V, {("x",): part(V, ("x",), 3)}).compress().rank == 1
    assert (u - u).compress().norm() <= TOL


def test_norm_of_parts_of_many_axes():
    space = sn.TensorSpace(**{f"x{i}": sn.BSpline((0, 1), cells=1, degree=1) for i in range(12)})
    u = SNA(space, {space.names: random_cp(space, 2), ("x1",): part(space, ("x1",), 1)}, constant=0.5)
    assert u.norm() == pytest.approx(u.to_cp().norm(), rel=1e-12)
    assert u.inner(u) == pytest.approx(u.norm() ** 2, rel=1e-12)
    assert u.project(space).error < 1e-14


# ------------------------------------------------------------------------------------------------------- unique form


@quarter
@given(architectures(CLOSED), st.booleans())
def test_anova(u, weighted):
    density = {"x": lambda s: np.exp(-s), "w": lambda s: 1 + s} if weighted else None
    v = u.anova(density)
    points = random_points(V, 7)
    assert abs(v(points) - u(points)).max() <= 10 * TOL
    mass = {n: (density or {}).get(n, np.ones_like) for n in V.names}
    for names, function in v.parts.items():
        for name in names:
            mean = function.integrate(name, density=mass[name])
            assert (abs(to_host(mean)) if len(names) == 1 else mean.norm()) <= 1e3 * TOL
    # unique: however the same function is written, its parts are these
    again = (u.to_train() + SNA(CLOSED, {}, constant=1.0) - 1.0).anova(density)
    assert float(again.constant) == pytest.approx(float(v.constant), abs=1e3 * TOL)
    for names, function in again.parts.items():
        other = v.parts.get(names)
        assert (function.norm() if other is None else _distance(function, other)) <= 1e4 * TOL


def _distance(left, right):
    pair = [sn.Tucker.to_train(f) if isinstance(f, sn.Tucker) else f for f in (left, right)]
    return (pair[0] - pair[1]).norm()


@quarter
@given(architectures())
def test_anova_parts_are_orthogonal(u):
    v = u.anova()
    volumes = {n: b.domain[1] - b.domain[0] for n, b in V.items}
    box = math.prod(volumes.values())
    assert float(v.constant) * box == pytest.approx(float(u.integrate()), abs=100 * TOL)
    squares = [p.norm() ** 2 * math.prod(volumes[n] for n in V.names if n not in s) for s, p in v.parts.items()]
    total = float(v.constant) ** 2 * box + sum(squares)
    assert total == pytest.approx(u.to_train().norm() ** 2, rel=1e-9, abs=1e-18)
    for (s, p), (t, q) in combinations([(s, SNA(v.space, {s: p})) for s, p in v.parts.items()], 2):
        assert abs(p.to_train().inner(q.to_train())) <= 1e4 * TOL, (s, t)


def test_anova_of_a_polynomial():
    x, y = subspace(V, ("x", "w")).coordinates
    plane = sn.project(x * y + x**2, subspace(V, ("x", "w")))
    v = SNA(V, {("x", "w"): plane}).anova()
    # on [-1, 2] x [0, 2]: means of x, w, x^2 are 1/2, 1, 1
    assert float(v.constant) == pytest.approx(1.5, rel=1e-12)
    s = np.array([[-0.5], [0.3], [1.7]])
    assert abs(v.parts["x",](s) - (s + s**2 - 1.5)[:, 0]).max() < 1e-11
    assert abs(v.parts["w",](s[1:]) - (0.5 * s[1:] - 0.5)[:, 0]).max() < 1e-11


# ------------------------------------------------------------------------------------------- what is refused, and kept


@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS) - {"identity"}))
def test_what_is_not_linear_is_refused_with_the_next_step(activation):
    u = model(activation=activation)
    calls = {
        "derivative": lambda: u.derivative("x"), "integrate": u.integrate, "anova": u.anova, "norm": u.norm,
        "inner": lambda: u.inner(u), "project": lambda: u.project(V), "compress": u.compress, "to_cp": u.to_cp,
        "to_train": u.to_train, "as_coefficient": u.as_coefficient,
        r"\+": lambda: u + 1.0, r"\*": lambda: model() * u,
    }  # fmt: skip
    for what, call in calls.items():
        with pytest.raises(
            ValueError, match=rf"{what}: the function is {activation} of a sum.*use (sn\.project|u\.grad)"
        ):
            call()
    cut = u.restrict(x=0.5, z=0.2)
    points = random_points(cut.space, 5)
    whole = np.stack([np.full(5, 0.5), points[:, 0], np.full(5, 0.2), points[:, 1]], axis=1)
    assert abs(cut(points) - u(whole)).max() <= TOL * (1 + abs(u(whole)).max())
    # the next step that is named is one
    plane = SNA(subspace(V, ("x", "y")), {("x",): part(V, ("x",), 1)}, activation="tanh")
    assert sn.project(plane, plane.space, rank=1).error(plane).value < 0.2


def test_project_needs_constants():
    u = SNA(V, {("x",): part(V, ("x",)), ("x", "y"): part(V, ("x", "y"))})
    with pytest.raises(ValueError, match=r"vanish at an end of axis 'y'.*u\.to_cp\(\)\.project\(W\)"):
        u.project(V.replace(y=sn.BSpline((0, 1), cells=2, zero="left")))
    # every part has x: nothing is constant along it
    target = V.replace(x=sn.BSpline((-1, 2), cells=3, zero="left"))
    assert u.project(target).error == pytest.approx(u.to_cp().project(target).error, rel=1e-9)


def test_parts_with_too_many_terms():
    space = sn.TensorSpace(**{n: sn.BSpline((0, 1), cells=9) for n in "abcd"})
    rng = np.random.default_rng(0)
    cores = [rng.normal(size=s) for s in [(1, 12, 11), (11, 12, 11), (11, 12, 11), (11, 12, 1)]]
    u = SNA(space, {space.names: sn.TensorTrain(space, cores)})
    with pytest.raises(ValueError, match=r"1331 terms, expected at most 1024: take u\.to_train\(\)"):
        u.to_cp()
    points = random_points(space, 5)
    assert abs(u.to_train()(points) - u(points)).max() <= 1e-9


@dev_size
@given(architectures(), st.sampled_from(["identity", "tanh"]), st.sampled_from(["float32", "float64"]))
def test_files(tmp_path_factory, u, activation, dtype):
    path = tmp_path_factory.getbasetemp() / "sna.h5"
    weights = {**u.weights}
    if ("x",) in u.parts and isinstance(u.parts["x",], sn.CP):
        weights["x",] = np.array([0.5, 2.0])
    u = SNA(u.space, u.parts, constant=u.constant, weights=weights, activation=activation).to(dtype=dtype)
    u.save(path, notes={"a": "b"})
    v = sn.load(path)
    assert repr(v) == repr(u)
    assert storage.read(path).notes == {"a": "b"}
    points = random_points(V, 5).astype(dtype)
    for other in (v, pickle.loads(pickle.dumps(u))):
        assert other.dtype == u.dtype
        assert other.parts.keys() == u.parts.keys()
        assert np.array_equal(other(points), u(points))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    try:
        damaged = sn.load(path)
    except ValueError:
        return
    assert np.array_equal(damaged(points), u(points))


def test_train_along_another_order_in_a_file(tmp_path):
    train = sn.TensorTrain.from_cp(random_cp(V, 2)).reorder("w", "x", "z", "y")
    three = sn.TensorTrain.from_cp(part(V, ("x", "y", "w"))).reorder("w", "x", "y")
    u = SNA(V, {V.names: train, ("y",): part(V, ("y",)), ("x", "y", "w"): three})
    u.save(tmp_path / "u.h5")
    v = sn.load(tmp_path / "u.h5")
    assert v.parts[V.names].order == train.order
    points = random_points(V, 5)
    assert np.array_equal(v(points), u(points))
    assert abs(u.to_train()(points) - u(points)).max() <= TOL
    assert abs((u * u)(points) - u(points) ** 2).max() <= 100 * TOL


def test_moves(xp):
    u = model(weights={("x",): np.array([0.5, 2.0]), ("z",): 3.0}, activation="tanh")
    there = u.to(xp=xp.xp, device=xp.device, dtype="float32" if xp.host_dtype is np.float32 else "float64")
    points = random_points(V, 5)
    assert here(there.constant, xp)
    assert all(here(a, xp) for a in there.arrays)
    assert abs(to_host(there(xp.asarray(points))) - u(points)).max() <= 1e3 * xp.eps
    assert repr(there.to(xp=np, dtype="float64")) == repr(u)
    assert u.to(dtype="float64") is u
    cut = model(backend=xp).restrict(x=0.0, y=0.5, w=1.0)
    assert here(cut.constant, xp)
    gone = SNA(V, {}, constant=xp.asarray(np.array(2.0)))
    assert here(gone.derivative("x").constant, xp)
    assert here(model(backend=xp).to_cp().factors[0], xp)
    assert here(model(backend=xp).anova().constant, xp)


def test_torch_gradients_reach_parts_weights_and_constant():
    torch = pytest.importorskip("torch")
    parts = {s: p.to(xp=torch) for s, p in model().parts.items() if isinstance(p, sn.CP)}
    constant, weight = torch.tensor(0.3, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    leaves = [constant, weight, *(f for p in parts.values() for f in p.factors)]
    for leaf in leaves:
        leaf.requires_grad_()
    u = SNA(V, parts, constant=constant, weights={("x",): weight}, activation="logistic")
    points = torch.asarray(random_points(V, 9))
    for _ in range(2):
        u(points).sum().backward()
    assert all(leaf.grad is not None and bool(torch.isfinite(leaf.grad).all()) for leaf in leaves)


def test_repr_is_one_screen():
    assert repr(SNA(V, {})) == "SNA(parts none; rank=0, x[6] x y[4] x z[4] x w[6], 1 coefficients, float64)"
    many = SNA(V, {s: part(V, s) for k in (1, 2) for s in combinations(V.names, k)}, activation="tanh")
    assert repr(many).startswith("SNA(tanh of parts x, y, z, w, x-y, x-z, ... (4 more); rank=20, x[6]")
    assert many.order == 2


GOOD = {("x",): part(V, ("x",), 1)}


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: SNA(3, GOOD), TypeError, "`space` is int"),
        (lambda: SNA(V, [part(V, ("x",))]), TypeError, "`parts` is list, expected a mapping"),
        (lambda: SNA(V, {("x",): 3}), TypeError, r"the part \('x',\) is int, expected a CP"),
        (lambda: SNA(V, {("q",): GOOD["x",]}), ValueError, "names the axis 'q', expected axes among x, y, z, w"),
        (
            lambda: SNA(V, {("y", "x"): part(V, ("x", "y"))}),
            ValueError,
            r"expected the order of the space, \('x', 'y'\)",
        ),
        (lambda: SNA(V, {("y",): GOOD["x",]}), ValueError, r"the part \('y',\) lives on"),
        (lambda: SNA(CLOSED, GOOD), ValueError, r"the part \('x',\) lives on"),
        (lambda: SNA(V, {**GOOD, ("y",): part(V, ("y",)).to(dtype="float32")}), TypeError, "float32.*float64"),
        (lambda: SNA(V, GOOD, constant=math.nan), ValueError, "`constant` is nan"),
        (lambda: SNA(V, GOOD, constant="a"), TypeError, "`constant` is 'a'"),
        (lambda: SNA(V, GOOD, constant=np.ones(2)), TypeError, "`constant` is"),
        (lambda: SNA(V, GOOD, weights={("y",): 1.0}), ValueError, r"entry for \('y',\), expected one of the parts"),
        (lambda: SNA(V, GOOD, weights={("x",): np.ones(3)}), ValueError, r"a number or an array \(1,\)"),
        (lambda: SNA(V, GOOD, weights={("x",): None}), ValueError, "the weight of"),
        (lambda: SNA(V, GOOD, weights=[1.0]), TypeError, "`weights` is list"),
        (lambda: SNA(V, GOOD, activation="relu"), ValueError, "`activation` is 'relu', expected one of identity, exp"),
        (lambda: SNA(V, GOOD, activation=np.tanh), ValueError, "`activation` is"),
        (lambda: SNA(V, GOOD) + SNA(V.drop("y"), GOOD), ValueError, "different axes"),
        (lambda: SNA(V, GOOD) + SNA(V, GOOD).to(dtype="float32"), TypeError, "float32"),
        (lambda: SNA(V, GOOD) + "a", TypeError, "unsupported operand"),
        (lambda: SNA(V, GOOD) - [1], TypeError, "unsupported operand"),
        (lambda: SNA(V, GOOD) / 0, ZeroDivisionError, "divided by zero"),
        (lambda: SNA(V, GOOD) * math.inf, ValueError, "the factor is inf"),
        (lambda: SNA(V, GOOD).inner(3), TypeError, "`other` is int"),
        (lambda: SNA(V, GOOD).restrict(q=1), ValueError, "restrict names the axis 'q'"),
        (lambda: SNA(V, GOOD).restrict(y=7), ValueError, "position on axis 'y' is 7"),
        (lambda: SNA(V, GOOD).integrate("x", "y", density=np.exp), ValueError, "expected exactly one"),
        (lambda: SNA(V, GOOD).anova({"q": np.exp}), ValueError, "the axis 'q'"),
        (lambda: SNA(V, GOOD).anova({"x": np.zeros_like}), ValueError, "the integral 0.0, expected a positive number"),
        (lambda: SNA(V, GOOD).compress(-1), ValueError, "tol"),
        (lambda: SNA(V, GOOD).project(3), TypeError, "expected a TensorSpace"),
        (lambda: Interaction(order=0), ValueError, "`order` is 0"),
        (lambda: Interaction(order=1.5), TypeError, "`order` is 1.5"),
        (lambda: Interaction(order=1, rank=0), ValueError, "`rank` is 0"),
        (lambda: Interaction(order=2, rank={("x", "y"): 0}), ValueError, "is 0"),
        (lambda: Interaction(order=1, format="svd"), ValueError, "`format` is 'svd'"),
        (lambda: Interaction(order=1, subsets="x"), TypeError, "`subsets` is 'x'"),
        (lambda: Interaction(order=1, subsets=[3]), TypeError, "`subsets` holds 3"),
        (lambda: Interaction(order=1, subsets=[()]), ValueError, "at least one axis name"),
        (lambda: Interaction(order=2, subsets=[("x", "x")]), ValueError, "each once"),
        (lambda: Interaction(order=1, subsets=[("x", "y")]), ValueError, "expected at most order=1"),
        (lambda: Interaction(order=2, subsets=[("x", "y"), ("y", "x")]), ValueError, "twice"),
        (lambda: Interaction(order=5).subsets_of("xy"), ValueError, "`order` is 5, expected at most 2"),
        (lambda: Interaction(order=2, subsets=["q"]).subsets_of("xy"), ValueError, "names the axis 'q'"),
        (lambda: Interaction(order=2, rank={("x", "y"): 3}).rank_of(("x", "z")), ValueError, "no entry for"),
    ],
)
def test_bad_input(make, error, text):
    with pytest.raises(error, match=text):
        make()


@given(st.integers(1, 6), st.integers(1, 6))
def test_interactions(d, order):
    names = tuple("abcdef"[:d])
    order = min(order, d)
    architecture = Interaction(order=order, rank={s: k + 1 for k, s in enumerate(combinations(names, 2))})
    subsets = architecture.subsets_of(names)
    assert len(subsets) == sum(math.comb(d, k) for k in range(1, order + 1))
    assert len(set(subsets)) == len(subsets)
    assert all(s == tuple(n for n in names if n in s) for s in subsets)
    assert [architecture.rank_of(s[::-1]) for s in subsets if len(s) == 2] == list(
        range(1, math.comb(d, 2) * (order > 1) + 1)
    )
    assert architecture.rank_of(("a",)) == 1
    assert hash(architecture) == hash(Interaction(order=order, rank=architecture.rank))
    assert Interaction(order=order, rank=3).rank_of(names if d > 1 else "ab") == 3
