"""MAP inversion: the closed form of the linear Gaussian case, modes, bounds, several outputs and targets, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
from hypothesis import assume, example, given
from hypothesis import strategies as st
from support import Backend, dev_size

import sepnet as sn
from sepnet.backends.arrays import device_of, namespace, to_host
from sepnet.solvers.map_inversion import MapInversion, MapStatus, map_inversion

seeds = st.integers(0, 2**31)
NAN = float("nan")

SQUARE = sn.TensorSpace(x=sn.BSpline((-1, 1), cells=3), y=sn.BSpline((-1, 1), cells=2))
X, Y = SQUARE.coordinates
CIRCLE = sn.project(X**2 + Y**2, SQUARE, rank=2)
PLANE = sn.project(1 + X - 2 * Y, SQUARE, rank=3)
UNIT = ([0.0, 0.0], np.eye(2))


def linear(matrix: np.ndarray, constant: np.ndarray, like: Backend, half: float) -> list[sn.CP]:
    """The functions ``A x + c`` as splines of degree one on a wide box."""
    space = sn.TensorSpace(**{f"x{i}": sn.BSpline((-half, half), cells=2, degree=1) for i in range(matrix.shape[1])})
    functions = []
    for row, c in zip(matrix, constant, strict=True):
        factors = [np.ones((basis.size, len(row) + 1)) for basis in space.bases]
        for i, (basis, a) in enumerate(zip(space.bases, row, strict=True)):
            factors[i][:, i] = a * basis.greville
        factors[0][:, -1] = c
        functions.append(sn.CP(space, [like.asarray(f) for f in factors]))
    return functions


def spd(rng: np.random.Generator, n: int) -> np.ndarray:
    """A covariance whose condition number is below about 100."""
    root = rng.standard_normal((n, n))
    return root @ root.T / n + 0.1 * np.eye(n)


def check_closed_form(like: Backend, seed: int, d: int, m: int, tol: float) -> None:
    rng = np.random.default_rng(seed)
    matrix, constant = rng.standard_normal((m, d)), rng.standard_normal(m)
    mean, prior, noise = rng.standard_normal(d), spd(rng, d), 10.0 ** -(seed % 3) * spd(rng, m)
    y = rng.standard_normal((3, m))
    covariance = np.linalg.inv(matrix.T @ np.linalg.solve(noise, matrix) + np.linalg.inv(prior))
    expected = mean + (y - matrix @ mean - constant) @ np.linalg.solve(noise, matrix) @ covariance
    # the box is so wide that no mode comes near it, and that the values have round-off
    u = linear(matrix, constant, like, 200.0)
    found = map_inversion(u, y.tolist(), prior=(mean, prior), noise=noise, n_starts=4, seed=seed % 1000)
    assert found.status is MapStatus.CONVERGED
    assert to_host(found.target).tolist() == [0, 1, 2]
    assert np.abs(to_host(found.points) - expected).max() < tol
    assert np.abs(to_host(found.covariance) - covariance).max() < tol
    assert np.abs(to_host(found.weight) - 1).max() < 1e-6
    assert not to_host(found.box_active).any()
    far = expected - mean
    misfit = y - expected @ matrix.T - constant
    value = np.sum(misfit * np.linalg.solve(noise, misfit.T).T, axis=1) / 2
    value += np.sum(far * np.linalg.solve(prior, far.T).T, axis=1) / 2
    assert np.abs(to_host(found.value) - value).max() < tol * (1 + value.max())


@example(seed=90, d=1, m=3)  # here and there the last step is below the round-off of the objective
@example(seed=104, d=5, m=1)
@given(seed=seeds, d=st.integers(1, 5), m=st.integers(1, 4))
def test_linear_gaussian_case_is_the_closed_form(seed: int, d: int, m: int) -> None:
    # measured 2e-11: round-off of u on the box of 400 times the condition numbers
    check_closed_form(Backend("numpy", np, np.float64), seed, d, m, 1e-8)


@dev_size
@given(seed=seeds, d=st.integers(1, 3), m=st.integers(1, 2))
def test_linear_gaussian_case_everywhere(xp: Backend, seed: int, d: int, m: int) -> None:
    check_closed_form(xp, seed, d, m, 1e-8 if xp.host_dtype is np.float64 else 2e-2)


@given(seed=seeds, d=st.integers(1, 4), digits=st.floats(1, 9), single=st.booleans())
def test_small_noise(seed: int, d: int, digits: float, single: bool) -> None:
    """The normal equations would lose the prior where the noise is below the root of round-off, and be singular."""
    rng = np.random.default_rng(seed)
    like = Backend("numpy", np, np.float32 if single else np.float64)
    matrix, mean, prior = rng.standard_normal((1, d)), rng.uniform(-1, 1, d), spd(rng, d)
    sigma = 10.0 ** -(digits / 2 if single else digits)
    gain = prior @ matrix.T / (matrix @ prior @ matrix.T + sigma**2)
    found = map_inversion(linear(matrix, np.zeros(1), like, 8.0)[0], 0.5, prior=(mean, prior), noise=sigma, n_starts=4)
    assume(not found.box_active.any())
    assert found.status is MapStatus.CONVERGED
    # The mode is known to the root of some units of round-off of the objective, and to the round-off of u, whose terms
    # are up to 8, in units of the noise; the covariance to the digits of the function, however small the noise.
    spread = np.sqrt(np.abs(prior).max())
    assert np.abs(found.best[0] - mean - gain @ (0.5 - matrix @ mean)).max() < spread * (
        64 * like.eps**0.5 + 64 * d * like.eps / sigma
    )
    exact = prior - gain @ matrix @ prior
    # condition numbers of the prior of up to a hundred
    assert np.abs(found.covariance[0] - exact).max() < 1e3 * like.eps * np.abs(prior).max()


def test_noise_below_round_off() -> None:
    """Half a unit of round-off as noise: no posterior could be told from another."""
    single, options = PLANE.to(dtype="float32"), {"prior": UNIT, "n_starts": 4}
    for u, sigma in ((PLANE, 1e-300), (PLANE, 1e-17), (single, 1e-8), (single, 1e-300)):
        with pytest.raises(ValueError, match=r"`noise` is .* times smaller than the round-off of `u`"):
            map_inversion(u, 0.5, noise=sigma, **options)
    with pytest.raises(ValueError, match=r"`noise` is .* times smaller than the round-off of `u`"):
        map_inversion([PLANE, CIRCLE], [0.5, 0.5], noise=np.diag([1.0, 1e-40]), **options)
    # ten units: the values are off by a tenth of the noise, at which no sample gets stuck
    for u in (PLANE, single):
        found = map_inversion(u, 0.5, noise=40 * float(np.finfo(u.dtype).eps), **options)
        assert found.status is MapStatus.CONVERGED
        assert found.points.shape == (1, 2)
        # at rest where the objective could still fall by a tenth; the last step leaves a hundredth of the way
        assert np.abs(found.best[0] - [-0.1, 0.2]).max() < 5e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_small_noise_on_a_curve(dtype: str) -> None:
    """The mode is where the circle comes closest to the mean; the posterior is a narrow ellipse along it."""
    prior, sigma = ([0.6, 0.8], 0.04 * np.eye(2)), 1e-4 if dtype == "float32" else 1e-8
    found = map_inversion(CIRCLE.to(dtype=dtype), 0.25, prior=prior, noise=sigma, n_starts=4)
    assert found.status in (MapStatus.CONVERGED, MapStatus.PARTLY)  # the far side of the circle is slow
    # The objective is known to some units of round-off, the misfit to one in units of the noise: along the circle the
    # mode is known to the root of the one and to the other, in standard deviations of the prior.
    unit = float(np.finfo(dtype).eps)
    tol = 0.2 * (8 * unit**0.5 + 8 * unit / sigma)
    assert np.abs(found.best[0] - [0.3, 0.4]).max() < tol
    normal = np.array([0.6, 0.8])
    along = 0.04 * (np.eye(2) - np.outer(normal, normal))
    assert np.abs(found.covariance[0] - along).max() < tol


@dev_size
@given(seed=seeds, sigma=st.floats(0.01, 1))
def test_kinds_of_noise(seed: int, sigma: float) -> None:
    y = [0.3, 0.8]
    kinds = [sigma, [sigma, sigma], sigma**2 * np.eye(2)]
    found = [map_inversion([CIRCLE, PLANE], y, prior=UNIT, noise=n, n_starts=4, seed=seed).value[0] for n in kinds]
    assert np.ptp(found) < 1e-10 * (1 + found[0])


@dev_size
@given(x=st.floats(-0.8, 0.8), spread=st.floats(0.1, 0.5), sigma=st.floats(0.02, 0.2), seed=seeds)
def test_every_mode_is_a_minimum(x: float, spread: float, sigma: float, seed: int) -> None:
    """No neighbour is better, the value is the objective, and the weights are ordered like the values."""
    prior = ([x, 0.1], spread**2 * np.eye(2))
    found = map_inversion(CIRCLE, 0.25, prior=prior, noise=sigma, seed=seed)

    def objective(points: np.ndarray) -> np.ndarray:
        far = np.sum((points - [x, 0.1]) ** 2, axis=-1) / spread**2
        return ((np.sum(points**2, axis=-1) - 0.25) ** 2 / sigma**2 + far) / 2

    assert np.abs(found.value - objective(found.points)).max() < 1e-9 * (1 + found.value.max())
    assert (np.diff(found.value) >= 0).all()
    assert abs(found.weight.sum() - 1) < 1e-12
    if found.status is MapStatus.STEP_LIMITED:
        return
    angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    around = found.points[:, None] + 1e-3 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    around = np.clip(around, -1, 1)
    assert (objective(around) >= found.value[:, None] - 1e-12).all()


def test_two_modes_and_their_weights() -> None:
    """u = x^2: the modes are near -0.5 and 0.5; their weights against the integral of the density."""
    space = sn.TensorSpace(x=sn.BSpline((-2, 2), cells=2))
    u = sn.project(space.coordinates[0] ** 2, space, rank=1)
    mean, spread, sigma = 0.1, 0.5, 0.05
    found = map_inversion(u, 0.25, prior=([mean], [[spread**2]]), noise=sigma)

    def density(x: float) -> float:
        return float(np.exp(-(((x**2 - 0.25) / sigma) ** 2 + ((x - mean) / spread) ** 2) / 2))

    right, left = scipy.integrate.quad(density, 0, 2)[0], scipy.integrate.quad(density, -2, 0)[0]
    assert found.points.shape == (2, 1)
    assert np.abs(found.points[:, 0] - [0.5, -0.5]).max() < 0.01
    # Laplace's method: off by the square of the width relative to the curvature, about 1 % of each
    assert abs(found.weight[0] - right / (right + left)) < 0.01
    # the second derivative of u, which the covariance leaves out, and the skewness
    variance = scipy.integrate.quad(lambda x: (x - found.points[0, 0]) ** 2 * density(x), 0.2, 0.8)[0] / right
    assert abs(found.covariance[0, 0, 0] / variance - 1) < 0.2


@dev_size
@given(high=st.floats(-0.5, 0.4))
def test_bounds(high: float) -> None:
    """The free mode lies beyond the bound: the other input goes where it is best there."""
    prior = ([0.5, 0.0], np.array([[0.04, 0.01], [0.01, 0.09]]))
    found = map_inversion(PLANE, 1.5, prior=prior, noise=0.1, bounds={"x": (-1, high)})
    assert found.status is MapStatus.CONVERGED
    assert found.box_active.tolist() == [[True, False]]
    assert np.isnan(found.covariance).all()
    assert found.points[0, 0] == high
    fixed = map_inversion(PLANE, 1.5, prior=prior, noise=0.1, bounds={"x": high})
    assert fixed.box_active.tolist() == [[False, False]]
    assert np.abs(fixed.points - found.points).max() < 1e-7
    # the prior of y given x = high, then the closed form in one variable
    gain, variance = 0.01 / 0.04, 0.09 - 0.01**2 / 0.04
    centre = gain * (high - 0.5)
    post = 1 / (4 / 0.1**2 + 1 / variance)
    expected = post * (-2 * (1.5 - 1 - high) / 0.1**2 + centre / variance)
    assume(abs(expected) < 1)
    assert abs(fixed.points[0, 1] - expected) < 1e-8
    assert np.abs(fixed.covariance[0] - [[0, 0], [0, post]]).max() < 1e-10
    assert fixed.weight.tolist() == [1.0]


def test_weights_at_a_bound() -> None:
    """Two modes, one of them at a bound: the mass there is that of the tail inside."""
    space = sn.TensorSpace(x=sn.BSpline((-2, 2), cells=2))
    u = sn.project(space.coordinates[0] ** 2, space, rank=1)
    mean, spread, sigma, low = 0.3, 0.5, 0.05, -0.48
    found = map_inversion(u, 0.25, prior=([mean], [[spread**2]]), noise=sigma, bounds=[(low, 2)])

    def density(x: float) -> float:
        return float(np.exp(-(((x**2 - 0.25) / sigma) ** 2 + ((x - mean) / spread) ** 2) / 2))

    right, left = scipy.integrate.quad(density, 0, 2)[0], scipy.integrate.quad(density, low, 0)[0]
    assert found.box_active.tolist() == [[False], [True]]
    assert np.isnan(found.covariance[:, 0, 0]).tolist() == [False, True]
    # the misfit is no parabola: a few per cent; twice as much if the part outside were counted
    assert abs(found.weight[1] / (left / (right + left)) - 1) < 0.15


def test_far_targets_end_on_the_box() -> None:
    found = map_inversion(CIRCLE, 50.0, prior=UNIT, noise=0.01)
    assert found.status is MapStatus.CONVERGED
    assert np.abs(np.abs(found.points) - 1).max() < 1e-12
    assert found.box_active.all()
    assert np.isnan(found.covariance).all()
    assert np.isfinite(found.weight).all()


def test_several_targets() -> None:
    y = [0.25, 0.5, 9.0]
    found = map_inversion(CIRCLE, y, prior=([0.2, 0.1], 0.1 * np.eye(2)), noise=0.05)
    assert found.best.shape == (3, 2)
    assert len(found.statuses) == 3
    for k, target in enumerate(y):
        single = map_inversion(CIRCLE, target, prior=([0.2, 0.1], 0.1 * np.eye(2)), noise=0.05)
        part = found.of(k)
        assert np.abs(single.points - part.points).max() < 1e-12
        assert np.abs(single.weight - part.weight).max() < 1e-9
        assert np.array_equal(part.best[0], found.best[k])
        assert (part.target == 0).all()
    assert "3 targets" in repr(found)
    with pytest.raises(ValueError, match="`target` is 3"):
        found.of(3)


def test_out_of_steps() -> None:
    found = map_inversion(CIRCLE, [0.25, 0.5], prior=UNIT, noise=1e-3, max_steps=2)
    assert found.status is MapStatus.STEP_LIMITED
    assert found.points.shape == (2, 2)
    assert "max_steps=" in repr(found)
    part = map_inversion(CIRCLE, 0.25, prior=([0.4, 0], 0.1 * np.eye(2)), noise=1e-2, max_steps=12)
    assert part.status in (MapStatus.PARTLY, MapStatus.STEP_LIMITED)


def test_lists_as_priors() -> None:
    mean, covariance = UNIT
    one = map_inversion(CIRCLE, 0.25, prior=(mean, covariance), noise=0.1)
    other = map_inversion(CIRCLE, 0.25, prior=[mean, covariance.tolist()], noise=0.1)
    assert np.array_equal(one.points, other.points)


def test_spacing_below_round_off() -> None:
    """No cells are counted then; the modes are those of no spacing, but for points that are the same."""
    prior = ([0.3, 0.2], 0.1 * np.eye(2))
    every = map_inversion(CIRCLE, 0.25, prior=prior, noise=0.1, spacing=0).points
    for spacing in (1e-20, 1e-300, 5e-324):
        found = map_inversion(CIRCLE, 0.25, prior=prior, noise=0.1, spacing=spacing).points
        assert len(found) == len(np.unique(every, axis=0))


@pytest.mark.parametrize("form", ["tt", "tucker"])
def test_other_formats(form: str) -> None:
    train = sn.TensorTrain.from_cp(CIRCLE)
    u = train if form == "tt" else sn.Tucker.from_train(train)
    prior = ([0.3, 0.2], 0.1 * np.eye(2))
    one = map_inversion(CIRCLE, 0.25, prior=prior, noise=0.1)
    other = map_inversion(u, 0.25, prior=prior, noise=0.1)
    assert np.abs(one.best - other.best).max() < 1e-7  # the iteration ends by the round-off of the objective


def decoder(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A small network, tanh(W x), with its Jacobian."""
    xp = namespace(points)
    host = np.array([[1.0, 0.5], [-0.3, 0.8], [0.2, 0.2]])
    weights = xp.asarray(host, dtype=points.dtype, device=device_of(points))
    hidden = xp.tanh(points @ weights.T)
    return hidden, (1 - hidden**2)[:, :, None] * weights[None, :, :]


def test_callables(xp: Backend) -> None:
    truth = np.array([[0.4, -0.7]])
    y = xp.asarray(decoder(truth)[0][0])
    found = map_inversion(decoder, y, prior=UNIT, noise=1e-3)
    assert namespace(found.points) is namespace(y)
    assert found.points.dtype == xp.dtype
    assert device_of(found.covariance) == device_of(y)
    assert found.points.shape == (1, 2)
    assert np.abs(to_host(found.points) - truth).max() < 1e-4
    boxed = map_inversion(decoder, y, prior=UNIT, noise=1e-3, bounds=[(-1, 0.2), (-1, 1)])
    assert to_host(boxed.box_active).tolist()[0] == [True, False]
    assert map_inversion(decoder, [0.1, 0.2, 0.3], prior=UNIT, noise=0.1).points.dtype == np.float64


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((CIRCLE, NAN), {}, ValueError, "`y` is .*nan"),
        ((CIRCLE, [[1.0, 2.0]]), {}, ValueError, "`y` has shape"),
        (([CIRCLE, PLANE], 1.0), {}, ValueError, r"`y` has shape \(\), expected \(2,\)"),
        ((None, 1.0), {}, TypeError, "`u` is NoneType"),
        ((CIRCLE, 1.0), {"noise": 0.0}, ValueError, "`noise` is 0.0, expected positive"),
        ((CIRCLE, 1.0), {"noise": NAN}, ValueError, "`noise` is nan"),
        ((CIRCLE, 1.0), {"noise": [1.0, 1.0]}, ValueError, r"`noise` has shape \(2,\)"),
        (([CIRCLE, PLANE], [1.0, 1.0]), {"noise": np.ones((2, 2))}, ValueError, "`noise` is not positive definite"),
        ((CIRCLE, 1.0), {"noise": "a"}, TypeError, "`noise` is str"),
        ((CIRCLE, 1.0), {"prior": None}, TypeError, "`prior` is NoneType"),
        ((CIRCLE, 1.0), {"prior": np.zeros((3, 2))}, TypeError, "`prior` is ndarray"),
        ((CIRCLE, 1.0), {"prior": ([0, 0], np.ones((2, 2)))}, ValueError, "covariance of `prior` is not positive"),
        ((CIRCLE, 1.0), {"prior": ([0, 0], [[NAN, 0], [0, 1]])}, ValueError, "covariance of `prior` is not positive"),
        ((CIRCLE, 1.0), {"prior": ([0, 0], np.eye(3))}, ValueError, "`prior` has shapes"),
        ((CIRCLE, 1.0), {"bounds": {"x": (0, 3)}}, ValueError, r"bounds\['x'\] is"),
        ((CIRCLE, 1.0), {"bounds": [(0, 1)]}, ValueError, "`bounds` has shape"),
        ((CIRCLE, 1.0), {"n_starts": 0}, ValueError, "n_starts"),
        ((CIRCLE, 1.0), {"spacing": -1}, ValueError, "`spacing` is -1.0"),
        ((lambda p: (p * NAN, np.zeros((len(p), 2, 2))), [1.0, 1.0]), {}, ValueError, "`u` is not finite at the start"),
        ((decoder, [1.0, 1, 1]), {"bounds": [(0, 1)] * 3}, ValueError, r"`bounds` has shape \(3, 2\)"),
    ],
)
def test_bad_input(arguments: tuple, options: dict, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        map_inversion(*arguments, **({"prior": UNIT, "noise": 0.1} | options))


def test_a_callable_that_fails_on_the_way() -> None:
    """Beyond x = 0.5 there are no values: the steps get shorter, and the answer is finite."""

    def half(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value = np.where(points[:, :1] < 0.5, points[:, :1], NAN)
        return value, np.repeat(np.eye(1, points.shape[1])[None], len(points), axis=0)

    found = map_inversion(half, 3.0, prior=([-1.0, 0.0], 0.01 * np.eye(2)), noise=0.01)
    assert isinstance(found, MapInversion)
    assert np.isfinite(found.points).all()
    assert np.isfinite(found.value).all()
