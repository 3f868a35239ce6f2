"""Problems in coordinates in which they separate, asked in the physical ones."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from function_support import random_cp
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Backend

import sepnet as sn
from sepnet.backends.arrays import namespace, to_host

TURN = 2 * math.pi
RING = sn.TensorSpace(
    r=sn.BSpline((0.5, 2), cells=5), theta=sn.BSpline((0, TURN), cells=6, periodic=True), s=sn.Legendre((0, 1), 3)
)
LINE = sn.BSpline((-1, 1), cells=5)
TURNING = sn.TensorSpace(xi=LINE, eta=LINE, t=sn.BSpline((0.5, 2), cells=3), omega=sn.Legendre((-1, 2), 3))
SHEAR = np.array([[1.0, 0.5, 0.0], [0.0, 2.0, -1.0], [0.3, 0.0, 1.0]])
BOX = sn.TensorSpace(a=LINE, b=sn.BSpline((0, 3), cells=4), c=sn.Legendre((0, 1), 4))


def wavy(space: sn.TensorSpace) -> sn.CoordinateMap:
    """x = a + sin(pi b) / 10 + c / 5, y = b + a**2 / 10, on (0, 1)^3: smooth, not separable, undone by iteration."""

    def to_physical(q: Any) -> Any:
        xp = namespace(q)
        a, b, c = q[:, 0], q[:, 1], q[:, 2]
        return xp.stack([a + xp.sin(math.pi * b) / 10 + c / 5, b + a * a / 10, c], axis=1)

    def to_computational(x: Any) -> Any:
        xp = namespace(x)
        a, b, c = x[:, 0] - x[:, 2] / 5, x[:, 1], x[:, 2]
        for _ in range(60):  # contracts by pi / 50
            a, b = x[:, 0] - c / 5 - xp.sin(math.pi * b) / 10, x[:, 1] - a * a / 10
        return xp.stack([a, b, c], axis=1)

    def jacobian(q: Any) -> Any:
        xp = namespace(q)
        one, zero = xp.ones_like(q[:, 0]), xp.zeros_like(q[:, 0])
        rows = [[one, math.pi / 10 * xp.cos(math.pi * q[:, 1]), one / 5], [q[:, 0] / 5, one, zero], [zero, zero, one]]
        return xp.stack([xp.stack(row, axis=1) for row in rows], axis=1)

    return sn.CoordinateMap(space, ("x", "y", "c"), to_physical, to_computational, jacobian)


UNIT = sn.BSpline((0, 1), cells=4)
MAPS = {
    "polar": sn.polar(RING, centre=(0.3, -0.2)),
    "affine": sn.affine(BOX, ["x", "y", "z"], SHEAR, [1, 2, 3]),
    "rotating": sn.rotating(TURNING, ("xi", "eta"), rate="omega"),
    "constant rate": sn.rotating(TURNING, ("eta", "xi"), rate=-2.0, names=("u", "v")),
    "smooth": wavy(sn.TensorSpace(a=UNIT, b=UNIT, c=UNIT)),
}


def inner_points(space: sn.TensorSpace, n: int, seed: int) -> np.ndarray:
    low, high = np.array([b.domain for b in space.bases]).T
    return low + (high - low) * (0.02 + 0.96 * np.random.default_rng(seed).random((n, space.dim)))


@pytest.mark.parametrize("name", MAPS)
def test_values_and_gradients_in_every_namespace(xp: Backend, name: str) -> None:
    M = MAPS[name]
    u = random_cp(M.space, 2, 3, xp)
    q = inner_points(M.space, 40, 1).astype(xp.host_dtype)
    x = M.to_physical(q.astype(float))
    v = M(u)
    value, gradient = (to_host(a) for a in v.value_and_gradient(xp.asarray(x)))
    assert (value == to_host(v(xp.asarray(x)))).all()
    assert (gradient == to_host(v.gradient(xp.asarray(x)))).all()
    # the map and its inverse lose a few digits, and the function's slope multiplies them
    slope = to_host(u.gradient(xp.asarray(q)))
    tol = 500 * xp.eps * (1 + np.abs(slope).max())
    np.testing.assert_allclose(value, to_host(u(xp.asarray(q))), atol=tol, rtol=0)
    # in double, from the definition: grad_q u = (dx/dq)' grad_x v
    pulled = np.einsum("nij,ni->nj", M.jacobian(q.astype(float)), gradient)
    np.testing.assert_allclose(pulled, slope, atol=100 * tol, rtol=0)
    assert str(namespace(v(xp.asarray(x))).__name__) == str(namespace(u.factors[0]).__name__)


@pytest.mark.parametrize("name", MAPS)
def test_physical_derivatives_are_operators(name: str) -> None:
    """``M.d.x`` of a function, as an expression, is the gradient of the mapped function."""
    M = MAPS[name]
    u = random_cp(M.space, 1, 5)
    q = inner_points(M.space, 50, 2)
    gradient = M(u).gradient(M.to_physical(q))
    for j, operator in enumerate(M.d):
        found = operator.apply(u)(q, M.space.names)
        # entries that are not known in closed form are separated to 1e-10
        np.testing.assert_allclose(found, gradient[:, j], atol=1e-8 * np.abs(gradient).max(), rtol=0)


@pytest.mark.parametrize("name", MAPS)
def test_coordinates_and_volume(name: str) -> None:
    M = MAPS[name]
    q = inner_points(M.space, 50, 3)
    for j, expression in enumerate(M.coordinates):
        np.testing.assert_allclose(expression(q, M.space.names), M.to_physical(q)[:, j], atol=1e-8, rtol=0)
    volume = np.abs(np.linalg.det(M.jacobian(q)))
    np.testing.assert_allclose(M.volume(q, M.space.names), volume, rtol=1e-8)


def test_a_wind_is_gone_in_the_frame_that_turns_with_it() -> None:
    M = MAPS["rotating"]
    xi, eta, _, omega = M.space.coordinates
    d = M.space.d
    rest = M.d.t + omega * (xi * d.eta - eta * d.xi)
    assert rest.terms == d.t.terms


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31))
def test_polar_goes_around(seed: int) -> None:
    """Every angle is found, whatever turn the axis begins with."""
    rng = np.random.default_rng(seed)
    low, length = rng.uniform(-20, 20), rng.uniform(0.5, TURN)
    space = sn.TensorSpace(rho=sn.BSpline((0, 3), cells=3), phi=sn.BSpline((low, low + length), cells=4))
    M = sn.polar(space, radius="rho", angle="phi", names=("a", "b"), centre=(float(rng.normal()), 1.0))
    q = inner_points(space, 100, seed)
    np.testing.assert_allclose(M.to_computational(M.to_physical(q)), q, atol=1e-12, rtol=0)
    assert M.names == ("a", "b")


def rate(errors: list[float], sizes: list[int]) -> float:
    return math.log(errors[-2] / errors[-1]) / math.log(sizes[-1] / sizes[-2])


def test_laplacian_on_a_ring_at_the_spline_rate() -> None:
    """-Laplace u = f with u = (x**2 - y) (r - 1) (2 - r), of three harmonics in theta; degree 3: rate 4."""
    errors, sizes = [], [4, 8]
    for cells in sizes:
        V = sn.TensorSpace(
            r=sn.BSpline((1, 2), cells=cells, zero="both"),
            theta=sn.BSpline((0, TURN), cells=2 * cells, periodic=True),
        )
        M = sn.polar(V)
        x, y = M.coordinates
        r, _ = V.coordinates
        exact = (x * x - y) * (r - 1) * (2 - r)
        strong = sum(D @ D for D in M.d)
        f = -1 * strong.apply(exact)
        u = M(sn.solve(sn.Galerkin(M.stiffness(), source=M.volume * f), method="full").u)
        errors.append(u.error(lambda p: (p[:, 0] ** 2 - p[:, 1]) * bump(p), n=20_000).value)
    assert rate(errors, sizes) >= 4 - 0.1
    # splines of 16 cells around: h**4 / 384 times the fourth derivative of cos(2 theta)
    assert errors[-1] <= (TURN / 16) ** 4 * 16 / 384


def bump(p: np.ndarray) -> np.ndarray:
    r = np.hypot(p[:, 0], p[:, 1])
    return np.asarray((r - 1) * (2 - r))


def test_poisson_on_a_curved_domain() -> None:
    """A map that is known by its callables alone: everything is separated."""
    V = sn.TensorSpace(
        a=sn.BSpline((0, 1), cells=8, zero="both"), b=sn.BSpline((0, 1), cells=8, zero="both"), c=sn.Legendre((0, 1), 3)
    )
    M = wavy(V)

    a, b, _ = V.coordinates
    target = sn.apply(np.sin, math.pi * a, derivatives=[np.cos]) * b * (1 - b)

    def exact(p: np.ndarray) -> np.ndarray:
        return target(M.to_computational(p), V.names)

    form = M.stiffness("x", "y")
    # the weak form with the exact solution as the load
    load = sum(
        sn.load_on(sn.operators.Operator(V, (trial,)).apply(target), sn.operators.Operator(V, (test,)))
        for trial, test in form.pairs
    )
    u = M(sn.solve(sn.Galerkin(form, source=load), tol=1e-6).u)
    assert u.error(exact, n=20_000).value <= (math.pi / 8) ** 4 / 384  # interpolation of the sine by 8 cubic cells


def test_heat_in_a_domain_that_grows() -> None:
    """u_t = u_xx on 0 < x < 1 + t / 2, a time-dependent map: x = s (1 + t / 2); exact: t-dependent modes by source."""
    V = sn.TensorSpace(s=sn.BSpline((0, 1), cells=12, degree=4, zero="both"), t=sn.BSpline((0, 1), cells=8, degree=4))

    def length(t: Any) -> Any:
        return 1 + t / 2

    def jacobian(q: Any) -> Any:
        xp = namespace(q)
        one, zero = xp.ones_like(q[:, 0]), xp.zeros_like(q[:, 0])
        first = xp.stack([length(q[:, 1]), q[:, 0] / 2], axis=1)
        return xp.stack([first, xp.stack([zero, one], axis=1)], axis=1)

    M = sn.CoordinateMap(
        V,
        ("x", "t"),
        lambda q: namespace(q).stack([q[:, 0] * length(q[:, 1]), q[:, 1]], axis=1),
        lambda x: namespace(x).stack([x[:, 0] / length(x[:, 1]), x[:, 1]], axis=1),
        jacobian,
    )

    def exact(p: np.ndarray) -> np.ndarray:
        return np.asarray(np.sin(math.pi * p[:, 0] / length(p[:, 1])) * np.exp(-p[:, 1]))

    def source(p: np.ndarray) -> np.ndarray:
        x, t = p.T
        L = length(t)
        z = math.pi * x / L
        e = np.exp(-t)
        return np.asarray(e * (-np.sin(z) - np.cos(z) * z / (2 * L) + (math.pi / L) ** 2 * np.sin(z)))

    s = V.coordinates[0]
    f = sn.separate(M.pull(source), V, tol=1e-9)
    second = sn.separate(lambda q: length(q[:, 0]) ** -2.0, V.drop("s"), tol=1e-10) * V.d.s**2
    problem = sn.LeastSquares(M.d.t - second, source=f, initial={"t": sn.apply(np.sin, math.pi * s)})
    u = M(sn.solve(problem, method="full").u)
    assert u.error(exact, n=20_000).value <= 1e-5


def test_error_counts_the_volume() -> None:
    M = sn.polar(sn.TensorSpace(r=sn.Legendre((0, 1), 2), theta=sn.Fourier((0, TURN), 1)))
    u = M(sn.project(M.space.coordinates[0], M.space))  # u = r, reference 1: || r - 1 || / || 1 || over the disc
    found = u.error(lambda p: np.ones(p.shape[0]), n=200_000)
    assert found.low <= math.sqrt(1 / 6) <= found.high


# ----------------------------------------------------------------------------------------------------------- refused


def test_images_outside_are_named() -> None:
    M = MAPS["rotating"]
    v = M(random_cp(M.space, 1, 0))
    with pytest.raises(
        ValueError, match=r"`points\[1\]`, x = 1, y = 1, t = 2, .* has the image xi = .* outside the box"
    ):
        v([[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 2.0, 0.5]])
    with pytest.raises(ValueError, match="has the image t = 3"):
        v([[0.0, 0.0, 3.0, 1.0]])
    assert np.isfinite(v([[0.0, 0.0, 3.0, 1.0]], outside="clamp")).all()
    with pytest.raises(ValueError, match=r"shape \(1, 2\), expected \(n, 4\) with columns x, y, t, omega"):
        v([[0.0, 0.0]])


def test_edges_of_the_box_are_inside() -> None:
    """Round-off of the map does not throw out its own boundary."""
    M = MAPS["polar"]
    low, high = np.array([b.domain for b in M.space.bases]).T
    q = np.array([[a, b, c] for a in (low[0], high[0]) for b in np.linspace(low[1], high[1], 50) for c in (0.0, 1.0)])
    assert np.isfinite(M(random_cp(M.space, 1, 0))(M.to_physical(q))).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("x", "x", "c")}, "`names` is .* expected 3 different identifiers"),
        ({"names": ("x", "y")}, "`names` is .* expected 3"),
        ({"to_computational": lambda x: x}, "`to_computational` does not undo `to_physical`"),
        ({"to_physical": lambda q: q[:, :2]}, r"`to_physical` returned shape \(16, 2\)"),
        ({"jacobian": lambda q: np.broadcast_to(np.eye(3), (len(q), 3, 3))}, "not the derivative .* along 'a'"),
        ({"jacobian": lambda q: np.eye(3)}, r"`jacobian` returned shape \(3, 3\)"),
        ({"known": {("z", "a"): 1.0}}, "`known` names 'z'"),
    ],
)
def test_maps_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    M = MAPS["smooth"]
    given = {k: getattr(M, k) for k in ("space", "names", "to_physical", "to_computational", "jacobian")}
    with pytest.raises(ValueError, match=message):
        sn.CoordinateMap(**(given | change))


def test_refused() -> None:
    M = MAPS["polar"]
    with pytest.raises(TypeError, match="`u` is int, expected a function"):
        M(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`u` has the axes xi, eta, t, omega, expected r, theta, s"):
        M(random_cp(TURNING, 1, 0))
    with pytest.raises(AttributeError, match="no coordinate 'z', expected one of x, y, s"):
        _ = M.d.z
    with pytest.raises(ValueError, match="singular"):
        sn.affine(BOX, ["x", "y", "z"], np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        sn.affine(BOX, ["x", "y", "z"], np.eye(2))
    with pytest.raises(ValueError, match=r"`names` is .* expected 3: one for each"):
        sn.affine(BOX, "abcd", np.eye(3))
    with pytest.raises(TypeError, match="`matrix` is 'eye', expected an array"):
        sn.affine(BOX, "abc", "eye")
    with pytest.raises(TypeError, match="`rate` is None"):
        sn.rotating(TURNING, ("xi", "eta"), rate=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected two axes and others for time and rate"):
        sn.rotating(TURNING, ("xi", "xi"))
    with pytest.raises(TypeError, match="`jacobian` is int, expected a callable"):
        sn.CoordinateMap(BOX, "xyz", np.copy, np.copy, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a radius from 0 on"):
        sn.polar(sn.TensorSpace(r=LINE, theta=UNIT))
    with pytest.raises(ValueError, match="'spin'"):
        sn.rotating(TURNING, ("xi", "eta"), rate="spin")
    with pytest.raises(TypeError, match="`reference` is int"):
        M(random_cp(RING, 1, 0)).error(1)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["polar", "affine", "rotating"])
def test_ready_made_maps_survive_a_pickle(name: str) -> None:
    M = MAPS[name]
    u = M(random_cp(M.space, 2, 3))
    again = pickle.loads(pickle.dumps(u))
    low, high = np.array([basis.domain for basis in M.space.bases]).T
    x = M.to_physical(low + (high - low) * np.random.default_rng(0).random((20, M.space.dim)))
    np.testing.assert_array_equal(again(x), u(x))
    assert repr(again.map) == f"CoordinateMap({', '.join(M.space.names)} -> {', '.join(M.names)})"


def test_units_and_far_origins_are_no_reason_to_refuse() -> None:
    """Central differences far from the origin are round-off, and a matrix in mixed units is not singular."""
    far = sn.TensorSpace(a=sn.BSpline((1e9, 1e9 + 1), cells=2), b=UNIT)
    assert sn.affine(far, "xy", [[1, 2], [0, 1]]).volume.terms[0].weight == pytest.approx(1.0)
    near = sn.TensorSpace(a=UNIT, b=UNIT)
    for matrix, offset in (([[1, 2], [0, 1]], [1e9, 0]), (np.diag([1e-9, 1e9]), None), ([[1e-6, 300], [0, 1]], None)):
        M = sn.affine(near, "xy", matrix, offset)
        assert M.volume.terms[0].weight == pytest.approx(abs(np.linalg.det(matrix)))
    with pytest.raises(ValueError, match="along 'a'"):  # what is wrong stays wrong there
        sn.CoordinateMap(far, ("x", "y"), np.copy, np.copy, lambda q: np.tile(2 * np.eye(2), (len(q), 1, 1)))


@pytest.mark.filterwarnings("ignore:_power on axis 'r' is not resolved")  # 1 / r at the pole, where r dr counts it
def test_a_disc_is_solved_with_its_pole() -> None:
    """By the closed form: -Laplace (1 - r**2)(1 + x) = 4 + 8 x, rates as elsewhere."""
    errors = []
    for cells in (8, 16):
        V = sn.TensorSpace(
            r=sn.BSpline((0, 1), cells=cells, zero="right"), theta=sn.BSpline((0, TURN), cells=cells, periodic=True)
        )
        M = sn.polar(V)
        form = sn.inner(M.volume * M.d.x, M.d.x) + sn.inner(M.volume * M.d.y, M.d.y)
        u = M(sn.solve(sn.Galerkin(form, source=M.volume * (4 + 8 * M.coordinates[0])), tol=1e-6).u)
        errors.append(u.error(lambda p: (1 - (p**2).sum(axis=1)) * (1 + p[:, 0]), n=10_000).value)
    assert errors[1] < errors[0] / 14  # p + 1 = 4
    with pytest.raises(ValueError, match=r"singular at r = 0, .* sn.inner"):
        M.stiffness()
    with pytest.raises(ValueError, match=r"singular at the image of `points\[1\]`, r = 0"):
        u.gradient([[0.1, 0.0], [0.0, 0.0]])
    assert u([[0.0, 0.0]])[0] == pytest.approx(1.0, abs=1e-4)
