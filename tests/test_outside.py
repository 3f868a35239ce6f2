"""Functions outside their box: the nearest point, or the tangent there, for every format and in every namespace."""

import math

import numpy as np
import pytest
from function_support import SPACES, random_cp, random_points
from hypothesis import given
from hypothesis import strategies as st
from support import dev_size

import sepnet as sn
from sepnet.backends.arrays import to_host
from sepnet.functions import SNA

V = sn.TensorSpace(x=sn.BSpline((-1, 2), cells=4), y=sn.Legendre((0, 1), 4), t=sn.BSpline((0, 3), cells=3, degree=2))
SMOOTH = sn.TensorSpace(x=V.axes["x"], y=V.axes["y"], t=sn.BSpline((0, 3), cells=2, degree=4))
seeds = st.integers(0, 2**31)


def functions(space, seed=0, backend=None):
    """The same function, or one close to it, in every format."""
    u = random_cp(space, 2, seed, backend)
    first = random_cp(sn.TensorSpace(x=space.axes["x"]), 1, seed + 1, backend)
    names = space.names
    return {
        "cp": u,
        "tt": sn.TensorTrain.from_cp(u),
        "tucker": sn.Tucker.from_cp(u),
        "sna": SNA(space, {names: u, ("x",): first}, constant=0.5),
        "tanh": SNA(space, {names: u, ("x",): first}, activation="tanh"),
    }


def around(space, n, seed=1):
    """Points in a box three times as wide, and their nearest points of the box."""
    low, high = np.array([b.domain for b in space.bases]).T
    points = low - (high - low) + 3 * (high - low) * np.random.default_rng(seed).random((n, space.dim))
    return points, np.clip(points, low, high)


@pytest.mark.parametrize("kind", functions(V))
def test_clamp_and_linear_are_what_they_say(xp, kind):
    u = functions(V, backend=xp)[kind]
    host, near = (a.astype(xp.host_dtype).astype(float) for a in around(V, 60))
    points, inside = xp.asarray(host), host == near
    value, gradient, hessian = (to_host(f(xp.asarray(near))).astype(float) for f in (u, u.gradient, u.hessian))
    step = host - near
    # sums of a few dozen products of numbers of the size of the result
    tol = 500 * xp.eps * (1 + abs(hessian).max()) * 10

    def close(array, expected):
        assert abs(to_host(array) - expected).max() <= tol

    close(u(points, outside="clamp"), value)
    close(u.gradient(points, outside="clamp"), gradient * inside)
    close(u.hessian(points, outside="clamp"), hessian * inside[:, :, None] * inside[:, None, :])
    close(u(points, outside="linear"), value + (gradient * step).sum(axis=1))
    tangent = gradient + inside * (hessian @ step[:, :, None])[:, :, 0]
    close(u.gradient(points, outside="linear"), tangent)
    both = u.value_and_gradient(points, outside="linear")
    close(both[0], value + (gradient * step).sum(axis=1))
    close(both[1], tangent)


@pytest.mark.parametrize("outside", ["clamp", "linear"])
@pytest.mark.parametrize("kind", functions(V))
def test_gradients_are_difference_quotients(kind, outside):
    u = functions(SMOOTH)[kind]
    points, near = around(SMOOTH, 200)
    h = 1e-5
    low, high = np.array([b.domain for b in SMOOTH.bases]).T
    # the continuation has kinks on the faces, which a difference must not cross
    keep = (np.minimum(abs(points - low), abs(points - high)) > 2 * h).all(axis=1)
    points = points[keep]
    gradient = u.gradient(points, outside=outside)
    scale = 1 + abs(gradient).max()
    for k in range(SMOOTH.dim):
        step = h * np.eye(SMOOTH.dim)[k]
        slope = (u(points + step, outside=outside) - u(points - step, outside=outside)) / (2 * h)
        # h^2 times third derivatives of at most 1e5, and round-off over h
        assert abs(slope - gradient[:, k]).max() < 1e-4 * scale
    assert (~np.isclose(points, near[keep])).any(axis=1).sum() > 100


@given(seeds, st.sampled_from(sorted(SPACES)), st.integers(0, 5))
def test_points_inside_are_not_touched(seed, name, n):
    u = random_cp(SPACES[name], 2, seed)
    points = random_points(SPACES[name], n, seed)
    for outside in ("clamp", "linear"):
        assert np.array_equal(u(points, outside=outside), u(points))
        assert np.array_equal(u.gradient(points, outside=outside), u.gradient(points))
    assert np.array_equal(u.hessian(points, outside="clamp"), u.hessian(points))


@given(seeds, st.integers(1, 8))
def test_linear_functions_go_on(seed, n):
    rng = np.random.default_rng(seed)
    slopes = rng.uniform(-1, 1, 3)
    x, y, t = V.coordinates
    u = sn.project(slopes[0] * x + slopes[1] * y + slopes[2] * t, V)
    points, _ = around(V, n, seed)
    # projections carry some hundred units of round-off of values below ten
    assert abs(u(points, outside="linear") - points @ slopes).max() < 1e-11
    assert abs(u.gradient(points, outside="linear") - slopes).max() < 1e-10


def test_continuous_across_the_faces(xp):
    u = functions(V, backend=xp)["cp"]
    low, high = np.array([b.domain for b in V.bases]).T
    face = np.array([[2.0, 0.5, 1.0], [0.5, 0.0, 3.0]])
    beyond = face + 1e-6 * (face >= high) - 1e-6 * (face <= low)
    for outside in ("clamp", "linear"):
        there = to_host(u(xp.asarray(beyond), outside=outside))
        # slopes below 1e3 times the step; single precision rounds the points too
        assert abs(there - to_host(u(xp.asarray(face)))).max() < 1e-3 + 1e4 * xp.eps


@pytest.mark.parametrize("kind", functions(V))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("outside", ["error", "clamp", "linear"])
def test_what_is_not_finite_is_an_error(kind, bad, outside):
    u = functions(V)[kind]
    points = np.array([[0.0, 0.5, 1.0], [5.0, 0.5, 1.0], [0.0, bad, 1.0]])
    with pytest.raises(ValueError, match=r"nan|inf|axis|domain"):
        u(points if outside != "error" else points[::2], outside=outside)
    if outside != "error":
        with pytest.raises(ValueError, match=r"on axis 1 \('y'\), expected finite numbers"):
            u.gradient(points, outside=outside)


def test_bad_arguments():
    u = functions(V)["cp"]
    with pytest.raises(ValueError, match="`outside` is 'extend', expected 'error', 'clamp'"):
        u([[0.0, 0.5, 1.0]], outside="extend")
    with pytest.raises(ValueError, match="`outside` is None"):
        u.gradient([[0.0, 0.5, 1.0]], outside=None)
    with pytest.raises(ValueError, match=r"third derivatives.*outside='clamp'"):
        u.hessian([[0.0, 0.5, 9.0]], outside="linear")
    with pytest.raises(ValueError, match="domain"):
        u([[0.0, 0.5, 9.0]])


def test_torch_gradients_flow_through_the_continuation():
    torch = pytest.importorskip("torch")
    u = random_cp(V, 2).to(xp=torch)
    for factor in u.factors:
        factor.requires_grad_()
    points = torch.asarray(around(V, 7)[0])
    for outside in ("clamp", "linear"):
        u(points, outside=outside).sum().backward()
    assert all(bool(torch.isfinite(f.grad).all()) and float(abs(f.grad).max()) > 0 for f in u.factors)


@dev_size
@given(seeds)
def test_rows_keep_their_order(seed):
    u = functions(V)["cp"]
    points, _ = around(V, 30, seed)
    order = np.random.default_rng(seed).permutation(30)
    for outside in ("clamp", "linear"):
        assert np.array_equal(u(points, outside=outside)[order], u(points[order], outside=outside))
