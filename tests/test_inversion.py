"""Inversion on level sets: known sets, bounds, targets out of reach, several outputs, kernels = loops, bad input."""

from __future__ import annotations

import pathlib
import re

import numpy as np
import pytest
from function_support import SPACES, random_cp
from hypothesis import assume, given
from hypothesis import strategies as st
from support import Backend, dev_size

import sepnet as sn
from sepnet.backends import dispatch, generic
from sepnet.backends.arrays import device_of, namespace, to_host
from sepnet.backends.newton import OUT_OF_STEPS, REACH, REACHED, STATIONARY
from sepnet.functions.axis_maps import local_polynomials
from sepnet.solvers.inversion_sample import box_starts, spacings, thin
from sepnet.solvers.newton import Inversion, InversionStatus, invert

SQUARE = sn.TensorSpace(x=sn.BSpline((-1, 1), cells=3), y=sn.BSpline((-1, 1), cells=2))
X, Y = SQUARE.coordinates
CIRCLE = sn.project(X**2 + Y**2, SQUARE, rank=2)
PLANE = sn.project(1 + X - 2 * Y, SQUARE, rank=3)
# The default tolerance, relative to the larger of target and values; these are below 4 here.
EPS = np.finfo(np.float64).eps
TOL = 4 * 4096 * EPS

seeds = st.integers(0, 2**31)


def home(u: sn.CP, like: Backend) -> sn.CP:
    return sn.CP(u.space, [like.asarray(to_host(f)) for f in u.factors])


@given(radius=st.floats(0.05, 0.95), seed=seeds)
def test_circle(radius: float, seed: int) -> None:
    found = invert(CIRCLE, radius**2, n_starts=256, seed=seed)
    assert found.status is InversionStatus.REACHED
    assert found.hits == (256,)
    assert np.abs(np.sum(found.points**2, axis=1) - radius**2).max() <= TOL + 1e-14
    assert np.abs(found.residual).max() <= TOL
    angles = np.sort(np.arctan2(found.points[:, 1], found.points[:, 0]))
    gaps = np.diff(np.append(angles, angles[0] + 2 * np.pi))
    # 256 angles would be 0.025 apart; shot radially from a square some are half as dense, and none is even
    assert gaps.max() < 0.4
    # the largest gap has two ends; the nearest neighbour of a point is on its other side, so at most the gap
    assert found.spacing[0] <= radius * gaps.max() / 2 + 1e-12
    assert not found.box_active.any()


@given(y=st.floats(-1.9, 1.9), seed=seeds)
def test_monotone_function_of_one_variable(y: float, seed: int) -> None:
    space = sn.TensorSpace(x=sn.BSpline((-1, 1), cells=4))
    (x,) = space.coordinates
    found = invert(sn.project(x**3 + x, space, rank=1), y, seed=seed)
    root = next(r.real for r in np.roots([1, 0, 1, -y]) if abs(r.imag) < 1e-9)
    # the slope is at least one
    assert found.points.shape == (1, 1)
    assert abs(found.points[0, 0] - root) <= TOL + 1e-14
    assert np.isnan(found.spacing).tolist() == [True]
    assert found.status is InversionStatus.REACHED


@given(seed=seeds, y=st.floats(-1.5, 3.5), x=st.tuples(st.floats(-0.9, 0.9), st.floats(-0.9, 0.9)))
def test_the_step_is_the_shortest(seed: int, y: float, x: tuple[float, float]) -> None:
    """A linear function is inverted by the orthogonal projection, unless it leaves the box or the longest step."""
    start, slope = np.array([x]), np.array([1.0, -2.0])
    expected = start + (y - 1 - start @ slope)[:, None] * slope / 5
    found = invert(PLANE, y, prior=start, seed=seed)
    if np.abs(expected).max() <= 1 and np.abs(expected - start).max() <= 2 * REACH:
        assert np.abs(found.points - expected).max() < 1e-12
    assert abs(found.residual[0]) <= TOL
    # in coordinates scaled by the box, here of half the width in y
    expected = start + (y - 1 - start @ slope)[:, None] * slope * [1, 0.25] / 2
    inside = np.abs(expected) <= [1, 0.5]
    if inside.all() and abs(x[1]) <= 0.5 and (np.abs(expected - start) <= REACH * np.array([2, 1])).all():
        found = invert(PLANE, y, prior=start, bounds={"y": (-0.5, 0.5)}, seed=seed)
        assert np.abs(found.points - expected).max() < 1e-12


@given(low=st.floats(-0.9, 0.2), width=st.floats(0.05, 0.7), seed=seeds)
def test_bounds(low: float, width: float, seed: int) -> None:
    high = low + width
    bounds = {"x": (low, high), "y": (low, high)}
    top = 1 + high - 2 * low  # only at one corner
    found = invert(PLANE, top, bounds=bounds, seed=seed)
    assert found.status is InversionStatus.REACHED
    # the level set is this corner, and within the tolerance a triangle around it
    assert np.abs(found.points - [high, low]).max() <= 2 * TOL
    beyond = invert(PLANE, top + 0.25, bounds=bounds, seed=seed)
    assert beyond.status is InversionStatus.OUT_OF_REACH
    assert beyond.points.tolist() == [[high, low]]
    assert beyond.box_active.tolist() == [[True, True]]
    assert abs(beyond.residual[0] + 0.25) < 1e-13
    loop = invert(sn.TensorTrain.from_cp(PLANE), top, bounds=bounds, seed=seed)
    assert loop.status is InversionStatus.REACHED
    fixed = invert(PLANE, 1 + high - 2 * low, bounds={"x": high}, seed=seed)
    assert fixed.points.shape == (1, 2)
    assert fixed.points[0, 0] == high
    assert abs(fixed.points[0, 1] - low) <= TOL
    assert fixed.box_active.tolist() == [[False, False]]
    assert invert(PLANE, top, bounds={"x": high, "y": low}).status is InversionStatus.REACHED
    assert invert(PLANE, top + 1, bounds=[(high, high), (low, low)]).status is InversionStatus.OUT_OF_REACH


@pytest.mark.parametrize(("y", "nearest"), [(2.5, 2.0), (-0.5, 0.0), (1e30, 2.0), (-1e30, 0.0)])
def test_out_of_reach(y: float, nearest: float) -> None:
    found = invert(CIRCLE, y)
    assert found.status is InversionStatus.OUT_OF_REACH
    assert found.hits == (0,)
    assert found.points.shape == (1, 2)
    # a step of sqrt(eps) of the box no longer helps: the value is off by round-off; at 1e30 no fall is seen any more
    if abs(y) < 1e3:
        assert abs(CIRCLE(found.points)[0] - nearest) < 1e-12
    assert "n_starts=" in found.status.value
    assert "nearest" in repr(found)


def test_out_of_steps() -> None:
    found = invert(CIRCLE, 0.25, max_steps=1)
    assert found.status is InversionStatus.STEP_LIMITED
    assert invert(CIRCLE, 0.25, max_steps=1, tol=10).status is InversionStatus.REACHED


def test_local_extrema_are_told() -> None:
    """A function with two hills, 1 and 2 high: half of the starts cannot reach 1.5."""
    space = sn.TensorSpace(x=sn.BSpline((-2, 2), cells=32))
    u = sn.project(lambda p: 2 * np.exp(-4 * (p[:, 0] - 1) ** 2) + np.exp(-4 * (p[:, 0] + 1) ** 2), space, rank=1)
    found = invert(u, 1.5, n_starts=128)
    assert found.status is InversionStatus.PARTLY
    assert 32 <= found.hits[0] <= 96
    assert len(found.points) == 2
    assert np.abs(np.sort(found.points[:, 0]) - 1).max() < 0.5


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_flat_functions(level: float) -> None:
    u = 0 * CIRCLE + level
    same = invert(u, level)
    assert same.status is InversionStatus.REACHED
    assert same.points.shape == (64, 2)
    other = invert(u, 1.0)
    assert other.status is InversionStatus.OUT_OF_REACH
    assert other.points.shape == (1, 2)
    assert invert([u, u], [1.0, 1.0]).status is InversionStatus.OUT_OF_REACH


@dev_size
@given(seed=seeds, x=st.tuples(st.floats(-0.7, 0.7), st.floats(-0.7, 0.7)))
def test_several_outputs(seed: int, x: tuple[float, float]) -> None:
    point = np.array([x])
    y = [CIRCLE(point)[0], PLANE(point)[0]]
    # a line meets a circle in two points; where it nearly touches it, Newton's method is slow and finds many
    assume(np.sqrt(y[0]) - abs(y[1] - 1) / np.sqrt(5) > 0.02)
    found = invert([CIRCLE, PLANE], y, seed=seed)
    assert found.status in (InversionStatus.REACHED, InversionStatus.PARTLY)
    assert found.residual.shape == (len(found.points), 2)
    assert np.abs(found.residual).max() <= TOL
    assert len(found.points) in (1, 2)
    assert np.abs(found.points - point).sum(axis=1).min() < 1e-8


def test_several_outputs_take_the_shortest_step() -> None:
    space = sn.TensorSpace(**{name: sn.BSpline((0, 1), cells=1, degree=1) for name in "abc"})
    a, b, c = space.coordinates
    u = [sn.project(a + b + c, space, rank=3), sn.project(a + 2 * b, space, rank=2)]
    start = np.array([[0.2, 0.5, 0.6]])
    jacobian = np.array([[1.0, 1, 1], [1, 2, 0]])
    target = np.array([1.5, 1.4])
    expected = start[0] + np.linalg.pinv(jacobian) @ (target - jacobian @ start[0])
    found = invert(u, target, prior=start, max_steps=3)
    # two steps, since the damping leaves the root of round-off of the misfit, and in the point round-off over that root
    assert found.status is InversionStatus.REACHED
    assert np.abs(found.points[0] - expected).max() < 1e-8
    assert np.abs(found.residual).max() < 1e-11


def test_several_targets() -> None:
    y = [0.09, 5.0, 0.49, 0.25]
    found = invert(CIRCLE, y, n_starts=32)
    assert [s.name for s in found.statuses] == ["REACHED", "OUT_OF_REACH", "REACHED", "REACHED"]
    assert found.status is InversionStatus.OUT_OF_REACH
    assert found.hits == (32, 0, 32, 32)
    assert found.spacing.shape == (4,)
    assert np.isnan(found.spacing).tolist() == [False, True, False, False]
    for k, target in enumerate(y):
        single, part = invert(CIRCLE, target, n_starts=32), found.of(k)
        assert np.array_equal(single.points, part.points)
        assert single.statuses == part.statuses
        assert (part.target == 0).all()
        assert np.array_equal(single.spacing, part.spacing, equal_nan=True)
    both = invert([CIRCLE, PLANE], [[0.25, 1.0], [9.0, 9.0]])
    assert [s.name for s in both.statuses] == ["REACHED", "OUT_OF_REACH"]
    assert both.of(1).residual.shape == (1, 2)


@pytest.mark.parametrize("space", ["splines", "mixed", "rough"])
def test_every_format(space: str) -> None:
    """CP goes through the kernel where the axes are splines; trains and Tucker functions through the loop."""
    u = random_cp(SPACES[space], 3, seed=2)
    y = float(np.median(u(box_starts(64, *np.array([b.domain for b in SPACES[space].bases]).T, 5))))
    found = invert(u, y)
    assert found.hits[0] > 32
    assert np.abs(u(found.points) - y).max() < 1e-11
    for other in (sn.TensorTrain.from_cp(u), sn.Tucker.from_train(sn.TensorTrain.from_cp(u))):
        again = invert(other, y)
        assert abs(again.hits[0] - found.hits[0]) <= 2  # a decision may turn on round-off
        assert np.abs(u(again.points) - y).max() < 1e-11


@dev_size
@given(seed=st.integers(0, 99))
def test_every_namespace(xp: Backend, seed: int) -> None:
    u, v = home(CIRCLE, xp), home(PLANE, xp)
    found = invert(u, [0.25, 7.0], seed=seed)
    assert namespace(found.points) is namespace(u.factors[0])
    assert found.points.dtype == u.dtype
    for array in (found.points, found.target, found.residual, found.box_active):
        assert device_of(array) == device_of(u.factors[0])
    points = to_host(found.of(0).points)
    assert np.abs(np.sum(points.astype(float) ** 2, axis=1) - 0.25).max() < 4 * 4096 * xp.eps
    assert [s.name for s in found.statuses] == ["REACHED", "OUT_OF_REACH"]
    host = invert(CIRCLE, [0.25, 7.0], seed=seed)
    if xp.host_dtype is np.float64:
        # the same steps; round-off is multiplied by the few steps of Newton's method
        assert np.abs(to_host(found.points) - host.points).max() < 1e-9
    both = invert([u, v], xp.asarray([0.25, 1.0]), seed=seed)
    assert both.status is InversionStatus.REACHED
    assert np.abs(to_host(both.residual)).max() < 4 * 4096 * xp.eps
    assert "2 targets" in repr(found)


@st.composite
def functions(draw: st.DrawFn) -> tuple[sn.CP, np.ndarray, np.ndarray, np.ndarray]:
    """A CP function of splines, starts, targets among its values, and a box."""
    seed = draw(seeds)
    rng = np.random.default_rng(seed)
    degrees = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    space = sn.TensorSpace(**{f"x{i}": sn.BSpline((-1, 2), cells=2 + i, degree=p) for i, p in enumerate(degrees)})
    rank = draw(st.sampled_from([1, 2, 3, 8, 9, 17]))
    u = sn.CP(space, [rng.uniform(-1, 1, (n, rank)) for n in space.shape])
    low = rng.uniform(-1, 0.2, len(degrees))
    high = low + rng.uniform(0, 1.5, len(degrees)) * (rng.random(len(degrees)) < 0.9)
    n = draw(st.sampled_from([0, 1, 2, 33]))
    starts = low + (high - low) * rng.random((n, len(degrees)))
    starts[::5] = high
    targets = u(low + (high - low) * rng.random((n, len(degrees)))) + rng.choice([0, 0, 3.0], n)
    return u, starts, targets, np.stack([low, high])


def tables(u: sn.CP, dtype: type) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    pairs = [local_polynomials(b, f.astype(dtype)) for b, f in zip(u.space.bases, u.factors, strict=True)]
    return tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)


@given(case=functions(), single=st.booleans())
def test_kernel_is_the_loop(case: tuple, single: bool) -> None:
    u, starts, targets, box = case
    dtype = np.float32 if single else np.float64
    starts, targets, low, high = (a.astype(dtype) for a in (starts, targets, *box))
    starts = np.clip(starts, low, high)
    tol = np.full(len(starts), 2000 * np.finfo(dtype).eps, dtype=dtype)
    results = [
        module.cp_newton(starts, targets, low, high, *tables(u, dtype), tol=tol, max_steps=60)
        for module in (dispatch, generic)
    ]
    breaks, local = tables(u, dtype)
    for found in results:
        assert found.points.dtype == found.values.dtype == dtype
        assert found.steps.dtype == found.ends.dtype == np.int64
        assert (found.points >= low).all()
        assert (found.points <= high).all()
        assert ((found.steps >= 1) & (found.steps <= 60)).all()
        assert np.isin(found.ends, [REACHED, STATIONARY, OUT_OF_STEPS]).all()
        assert ((np.abs(found.values - targets) <= tol) == (found.ends == REACHED)).all()
        before = np.abs(generic.cp_value(starts, breaks, local) - targets)
        assert (np.abs(found.values - targets) <= before + 100 * u.rank * np.finfo(dtype).eps).all()
    one, other = results
    # Equal up to round-off as long as no decision turns on it; after ten steps one may.
    quick = (one.steps <= 8) & (one.ends == REACHED)
    assert np.mean(one.steps[quick] == other.steps[quick]) >= 0.9 if quick.sum() > 10 else True
    same = quick & (one.steps == other.steps)
    assert np.abs(one.points[same] - other.points[same]).max(initial=0) < 1e5 * np.finfo(dtype).eps ** 0.75


def test_kernel_refuses(xp: Backend) -> None:
    u = home(CIRCLE, xp)
    breaks, local = (
        tuple(local_polynomials(b, f)[k] for b, f in zip(SQUARE.bases, u.factors, strict=True)) for k in (0, 1)
    )
    low, high, one = xp.asarray([-1.0, -1]), xp.asarray([1.0, 0.5]), xp.asarray([1.0])

    def call(start: list[float], a: object = low, b: object = high, y: object = one) -> None:
        dispatch.cp_newton(xp.asarray([start]), y, a, b, breaks, local, tol=one, max_steps=3, names=("x", "y"))

    call([0.0, 0.0])
    with pytest.raises(ValueError, match=r"`points` has 0.75 on axis 1 \('y'\)"):
        call([0.0, 0.75])
    with pytest.raises(ValueError, match="`points` has nan on axis 0"):
        call([np.nan, 0.0])
    with pytest.raises(ValueError, match="the box has"):
        call([0.0, 0.0], high, low)
    with pytest.raises(ValueError, match="the box has"):
        call([0.0, 0.0], low * 2)
    with pytest.raises(ValueError, match="`targets` has shape"):
        call([0.0, 0.0], y=low)


def ring(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    xp = namespace(points)
    return xp.sum(points**2, axis=1)[:, None], (2 * points)[:, None, :]


def test_callables(xp: Backend) -> None:
    found = invert(ring, xp.asarray([0.25, 9.0]), bounds=[(-1, 1), (-1, 1)])
    assert namespace(found.points) is namespace(xp.asarray([0.0]))
    assert found.points.dtype == xp.dtype
    assert [s.name for s in found.statuses] == ["REACHED", "OUT_OF_REACH"]
    assert invert(ring, 0.25, bounds=[(-1, 1), (-1, 1)]).points.dtype == np.float64


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("power", [-37, -25, 20, 37])
def test_several_outputs_in_any_unit(dtype: str, power: int) -> None:
    u, v = (10.0**power * f for f in (CIRCLE, PLANE))
    found = invert([u.to(dtype=dtype), v.to(dtype=dtype)], np.array([0.25, 1.0]) * 10.0**power)
    assert found.status is InversionStatus.REACHED
    assert np.abs(found.residual).max() <= TOL * np.finfo(dtype).eps / EPS * 10.0**power


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("power", [-300, -160, -37, -25, 20, 36, 160, 300])
def test_one_output_in_any_unit(dtype: str, power: int) -> None:
    """Squares of the gradient are no numbers of the dtype: the kernel and the loop do not take them."""
    if dtype == "float32" and abs(power) > 37:
        return
    u = (10.0**power * CIRCLE).to(dtype=dtype)
    for f in (u, sn.TensorTrain.from_cp(u)):
        found = invert(f, [0.25 * 10.0**power, 9.0 * 10.0**power], n_starts=32)
        assert [s.name for s in found.statuses] == ["REACHED", "OUT_OF_REACH"]
        assert np.abs(found.of(0).residual).max() <= TOL * np.finfo(dtype).eps / EPS * 10.0**power


@given(seed=seeds, constant=st.floats(-100, 100), single=st.booleans())
def test_sums_with_a_constant(seed: int, constant: float, single: bool) -> None:
    """What a penalised fit returns: the kernel runs its only part, with the target moved."""
    dtype = "float32" if single else "float64"
    part = random_cp(SPACES["splines"], 3, seed=seed % 100).to(dtype=dtype)
    u = sn.SNA(part.space, {part.space.names: part}, constant=constant)
    y = u(box_starts(2, *np.array([b.domain for b in u.space.bases]).T, 5).astype(dtype))
    # the same steps; the default tolerance would count the constant
    moved, whole = (invert(*case, n_starts=16, tol=1e-2) for case in ((part, y - u.constant), (u, y)))
    assert np.array_equal(moved.points, whole.points)
    assert moved.hits == whole.hits
    # round-off of what is added up: three terms of products of factors of a few units, and the constant
    size = abs(constant) + np.prod([np.abs(f).max() for f in part.factors]) * part.rank
    assert np.abs(u(whole.points) - y[whole.target] - whole.residual).max() <= 64 * np.finfo(dtype).eps * size


def test_sums_that_are_more_than_a_constant() -> None:
    """Modal weights, activations, further parts and parts of fewer axes are inverted as they are."""
    line = sn.TensorSpace(x=SQUARE.axes["x"])
    slope = sn.CP(line, [line.axes["x"].greville[:, None]])
    both = SQUARE.names
    functions = [
        sn.SNA(SQUARE, {both: PLANE}, weights={both: 2.0}),
        sn.SNA(SQUARE, {both: PLANE}, constant=0.5, activation="tanh"),
        sn.SNA(SQUARE, {both: PLANE, ("x",): slope}),
        sn.SNA(SQUARE, {("x",): slope}, constant=1.0),
    ]
    for u in functions:
        y = u(np.array([[0.3, 0.1]]))[0]
        found = invert(u, y)
        assert found.hits[0] > 32
        assert np.abs(u(found.points) - y).max() < TOL


@given(seed=seeds, n=st.integers(0, 60), d=st.integers(1, 4), spacing=st.sampled_from([0.0, 0.05, 0.3, 2.0]))
def test_thinning(seed: int, n: int, d: int, spacing: float) -> None:
    rng = np.random.default_rng(seed)
    points, group = rng.choice(20, (n, d)) / 20, rng.choice(3, n)
    keep = thin(points, group, spacing)
    assert (np.diff(keep) > 0).all()
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    distance[group[:, None] != group[None]] = np.inf
    near = distance <= 2 * spacing * (1 + 1e-12)
    inside = distance[np.ix_(keep, keep)] + np.where(np.eye(len(keep)) > 0, np.inf, 0)
    if spacing > 0:
        assert (inside >= spacing * (1 - 1e-12)).all()
        assert near[:, keep].any(axis=1).all() if n else True
    else:
        assert len(keep) == n
    left = distance + np.where(np.eye(n) > 0, np.inf, 0)
    expected = [
        np.nan if (group == g).sum() < 2 else left[group == g][:, group == g].min(axis=1).max() for g in range(3)
    ]
    assert np.allclose(spacings(points, group, 3), expected, rtol=1e-12, equal_nan=True)


def test_a_point_that_is_dropped_drops_none() -> None:
    points = np.array([[0.25], [0.35], [0.62]])
    assert thin(points, np.zeros(3, dtype=int), 0.3).tolist() == [0, 2]


@pytest.mark.parametrize("spacing", [1e-15, 1e-17, 1e-20, 1e-300, 5e-324])
def test_spacing_below_round_off(spacing: float) -> None:
    """Cells that float64 or int64 cannot count: only points that are the same are one."""
    points = np.array([[0.25, 3.0], [0.5, 3.0], [0.25, 3.0], [0.5, -3.0], [0.0, 3.0], [-0.0, 3.0]])
    assert thin(points, np.zeros(6, dtype=int), spacing).tolist() == [0, 1, 3, 4]
    assert thin(points, np.array([0, 0, 1, 0, 0, 1]), spacing).tolist() == [0, 1, 2, 3, 4, 5]
    assert len(invert(CIRCLE, 0.25, spacing=spacing).points) == 64


def test_a_thousand_starts_at_one_root() -> None:
    space = sn.TensorSpace(x=sn.BSpline((0, 1), cells=2))
    found = invert(sn.project(space.coordinates[0], space, rank=1), 0.5, n_starts=20_000)
    assert found.points.shape == (1, 1)
    assert found.hits == (20_000,)


def test_starts() -> None:
    rng = np.random.default_rng(0)
    sample = rng.uniform(-2, 2, (9, 2))
    assert len(invert(CIRCLE, 0.25, prior=sample, spacing=0).points) == 9
    assert len(invert(CIRCLE, 0.25, prior=sample, n_starts=4, spacing=0).points) == 4
    near = invert(CIRCLE, 0.25, prior=([0.5, 0], 1e-4 * np.eye(2)), n_starts=50, spacing=0).points
    assert near.shape == (50, 2)
    assert np.abs(near - [0.5, 0]).max() < 0.06  # six standard deviations
    pair = invert(CIRCLE, 0.25, prior=[[0.5, 0], [[1e-4, 0], [0, 1e-4]]], n_starts=50, spacing=0)
    assert np.array_equal(pair.points, near)
    assert np.array_equal(invert(CIRCLE, 0.25, prior=[[0.5, 0], 1e-4 * np.eye(2)], n_starts=50, spacing=0).points, near)
    rows = [[0.5, 0.1], [-0.3, 0.2]]  # a sample of two
    assert np.array_equal(invert(CIRCLE, 0.25, prior=rows).points, invert(CIRCLE, 0.25, prior=np.array(rows)).points)
    assert np.array_equal(invert(CIRCLE, 0.25).points, invert(CIRCLE, 0.25, seed=0).points)
    assert not np.array_equal(invert(CIRCLE, 0.25).points, invert(CIRCLE, 0.25, seed=1).points)
    for n in (0, 1, 2, 5):
        assert box_starts(n, np.zeros(3), np.ones(3), 0).shape == (n, 3)


NAN = float("nan")


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((CIRCLE, NAN), {}, ValueError, "`y` is .*nan.* for target 0, expected finite"),
        ((CIRCLE, [0.1, np.inf]), {}, ValueError, "`y` is .*inf.* for target 1"),
        ((CIRCLE, "a"), {}, TypeError, "`y` is str"),
        ((CIRCLE, [[1.0, 2.0]]), {}, ValueError, r"`y` has shape \(1, 2\), expected a number or \(T,\)"),
        (([CIRCLE, PLANE], 1.0), {}, ValueError, r"`y` has shape \(\), expected \(2,\) or \(T, 2\)"),
        (([CIRCLE, PLANE], [1.0] * 3), {}, ValueError, r"`y` has shape \(3,\), expected \(2,\)"),
        ((CIRCLE, []), {}, ValueError, "at least one"),
        ((3, 1.0), {}, TypeError, "`u` is int, expected a function"),
        (([], 1.0), {}, TypeError, "`u` is list"),
        (([CIRCLE, random_cp(SPACES["line"], 1)], [1.0, 1.0]), {}, ValueError, r"`u\[1\]` lives on"),
        (([CIRCLE, PLANE.to(dtype="float32")], [1.0, 1.0]), {}, TypeError, r"`u\[1\]` is numpy float32"),
        ((CIRCLE, 1.0), {"bounds": {"q": 1}}, ValueError, "`bounds` names the axis 'q'"),
        ((CIRCLE, 1.0), {"bounds": {"x": (0, 2)}}, ValueError, r"bounds\['x'\] is .*expected rising .*domain"),
        ((CIRCLE, 1.0), {"bounds": {"x": (1, 0)}}, ValueError, r"bounds\['x'\] is .*rising"),
        ((CIRCLE, 1.0), {"bounds": {"x": (NAN, 1)}}, ValueError, r"bounds\['x'\] is .*nan"),
        ((CIRCLE, 1.0), {"bounds": {"x": (0, 0.5, 1)}}, ValueError, r"bounds\['x'\] has 3 numbers"),
        ((CIRCLE, 1.0), {"bounds": [(0, 1)]}, ValueError, r"`bounds` has shape \(1, 2\), expected \(2, 2\)"),
        ((CIRCLE, 1.0), {"bounds": [(0, 1), (1, 0)]}, ValueError, "`bounds` has .* for input 1"),
        ((CIRCLE, NAN), {}, ValueError, "`y` is nan for"),
        ((CIRCLE, 1.0), {"bounds": {"x": (0, 2)}}, ValueError, r"is \(0.0, 2.0\), .* domain \(-1.0, 1.0\) of"),
        ((CIRCLE, 1.0), {"bounds": [(0, 1), (1, 0)]}, ValueError, r"`bounds` has \(1.0, 0.0\) for input 1"),
        ((CIRCLE, 1.0), {"prior": [[0, 0], np.ones((2, 2))]}, ValueError, "covariance of `prior` is not positive"),
        ((CIRCLE, 1.0), {"prior": [0.5, 0.1]}, ValueError, r"`prior` has shape \(2,\)"),
        ((CIRCLE, 1.0), {"n_starts": 0}, ValueError, "n_starts"),
        ((CIRCLE, 1.0), {"n_starts": 2.5}, TypeError, "n_starts"),
        ((CIRCLE, 1.0), {"max_steps": 0}, ValueError, "max_steps"),
        ((CIRCLE, 1.0), {"seed": -1}, ValueError, "seed"),
        ((CIRCLE, 1.0), {"tol": 0}, ValueError, "`tol` is 0.0, expected a positive"),
        ((CIRCLE, 1.0), {"tol": NAN}, ValueError, "`tol` is nan"),
        ((CIRCLE, 1.0), {"spacing": -1}, ValueError, "`spacing` is -1.0"),
        ((CIRCLE, 1.0), {"prior": ([0, 0], np.ones((2, 2)))}, ValueError, "covariance of `prior` is not positive"),
        ((CIRCLE, 1.0), {"prior": ([0, 0], [[1, 0.5], [0, 1]])}, ValueError, "is not symmetric"),
        ((CIRCLE, 1.0), {"prior": ([0, 0], np.zeros((2, 2)))}, ValueError, "is not positive definite"),
        ((CIRCLE, 1.0), {"prior": ([0], np.eye(2))}, ValueError, r"`prior` has shapes \(1,\) and \(2, 2\)"),
        ((CIRCLE, 1.0), {"prior": ([0, NAN], np.eye(2))}, ValueError, "the mean of `prior` is"),
        ((CIRCLE, 1.0), {"prior": np.ones((3, 3))}, ValueError, r"`prior` has shape \(3, 3\)"),
        ((CIRCLE, 1.0), {"prior": np.ones((3, 2)), "n_starts": 4}, ValueError, "`n_starts` is 4, expected at most 3"),
        ((ring, 1.0), {}, ValueError, "`bounds` is missing"),
        ((ring, 1.0), {"bounds": {"x": (0, 1)}}, TypeError, "`bounds` is a mapping"),
        ((ring, 1.0), {"bounds": [(0, np.inf)]}, ValueError, "expected finite numbers: give a box"),
        ((lambda p: p, 1.0), {"bounds": [(0, 1)]}, ValueError, r"`u` returned arrays of shapes \[\]"),
        ((lambda p: (p[:, 0], p), 1.0), {"bounds": [(0, 1)]}, ValueError, "`u` returned arrays of shapes"),
        ((lambda p: (p * NAN, p[:, None]), 1.0), {"bounds": [(0, 1)]}, ValueError, "expected finite numbers"),
    ],
)
def test_bad_input(arguments: tuple, options: dict, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        invert(*arguments, **options)


def test_mixed_places() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="`y` is torch float64"):
        invert(CIRCLE, torch.ones(2, dtype=torch.float64))
    with pytest.raises(TypeError, match="`u` returned torch"):
        invert(lambda p: tuple(torch.asarray(a) for a in ring(p)), 1.0, bounds=[(0, 1)])
    found = invert(CIRCLE, 0.25)
    assert isinstance(found, Inversion)
    for k in (-1, 1):
        with pytest.raises(ValueError, match="`target` is"):
            found.of(k)


def test_values_that_are_not_finite() -> None:
    broken = sn.CP(SQUARE, [CIRCLE.factors[0] * NAN, CIRCLE.factors[1]])
    with pytest.raises(ValueError, match=r"`u` is .*nan.* at the start"):
        invert(broken, 1.0)


def test_the_page_runs() -> None:
    page = (pathlib.Path(__file__).resolve().parents[1] / "docs/inversion.md").read_text()
    scope: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "docs/inversion.md", "exec"), scope)
