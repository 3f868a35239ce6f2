"""The moving laser: the closed form by its equation and its power, the problem, the solve, the frame, the peaks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sepnet as sn
from sepnet.models import gallery_laser
from sepnet.models.gallery_laser import LASER_UNITS, Beam, laboratory, laser
from sepnet.models.gallery_problem import GalleryProblem
from sepnet.solvers.extremes import maximum, peaks

CAPACITY = 8190 * 650 * 1e-9
BEAM = Beam(0.8, 25e-6 / CAPACITY, CAPACITY, 0.3)
# A mesh on which a solve takes half a second; the beam is wide for its cells.
COARSE = {"xi": 30, "y": 14, "z": 12, "t": 20, "size": 2}
WIDE = (0.08, 0.1)
OVER = ("xi", "y", "z", "t")


@pytest.fixture(scope="module")
def case() -> GalleryProblem:
    return laser(COARSE, size=WIDE)


@pytest.fixture(scope="module")
def solution(case: GalleryProblem) -> sn.Solution:
    return sn.solve(case.problem, **(dict(case.options) | {"tol": 0.05}))


def hot(case: GalleryProblem, n: int, seed: int = 0) -> np.ndarray:
    """Points in and behind the beam, after the first 5 % of the time."""
    rng = np.random.default_rng(seed)
    low, high = np.array([b.domain for b in case.space.bases]).T
    points = low + (high - low) * rng.random((n, 7))
    points[:, 3] = high[3] * (0.05 + 0.95 * rng.random(n))
    points[:, 0] = rng.normal(0, 0.1, n) - (rng.random(n) < 0.5) * rng.random(n) * 0.8 * points[:, 3]
    points[:, 1], points[:, 2] = rng.normal(0, 0.06, n), np.abs(rng.normal(0, 0.03, n))
    return np.clip(points, low, high)


places = st.tuples(
    st.floats(-0.4, 0.1), st.floats(-0.1, 0.1), st.floats(0.01, 0.1), st.floats(0.3, 1.2), st.just(100.0),
    st.floats(0.05, 0.1), st.floats(0, 1),
)  # fmt: skip


@settings(max_examples=20)
@given(place=places)
def test_the_closed_form_solves_the_equation(place: tuple[float, ...]) -> None:
    """``u_t - v u_xi = kappa Laplace u`` by differences of fourth order."""
    offsets = (-2, -1, 0, 1, 2)
    weights = {1: (1 / 12, -2 / 3, 0, 2 / 3, -1 / 12), 2: (-1 / 12, 4 / 3, -5 / 2, 4 / 3, -1 / 12)}

    def difference(axis: int, order: int) -> float:
        step = 0.002
        moved = np.tile(place, (5, 1))
        moved[:, axis] += step * np.array(offsets)
        # Rounding: 1e-12 of a rise of some 1e3 K, over the square of the step.
        return float(np.dot(weights[order], BEAM.rise(moved, panels=12))) / step**order

    left = difference(3, 1) - BEAM.velocity * difference(0, 1)
    right = BEAM.diffusivity * sum(difference(axis, 2) for axis in (0, 1, 2))
    # Each side is below 1e5 K/ms here; the truncation is (step / 0.02 mm)**4 of that at the narrowest.
    assert abs(left - right) < 50.0


@settings(max_examples=12)
@given(xi=st.floats(-0.15, 0.1), y=st.floats(-0.1, 0.1), size=st.floats(0.05, 0.1), shape=st.floats(0, 1))
def test_the_flux_enters_at_the_surface(xi: float, y: float, size: float, shape: float) -> None:
    """``-k u_z = q`` at z = 0, by an one-sided difference of third order."""
    step = 5e-4
    points = np.tile([xi, y, 0.0, 1.0, 100.0, size, shape], (4, 1))
    points[:, 2] = step * np.arange(4)
    slope = float(np.dot((-11 / 6, 3, -3 / 2, 1 / 3), BEAM.rise(points, panels=60))) / step
    flux = 100 * BEAM.absorptivity * float(BEAM.flux(*map(np.array, (xi, y, size, shape))))
    # 38 W/mm**2 is the largest flux of all these beams; the truncation is a share of (step / 0.01 mm)**3 of it
    assert abs(-BEAM.conductivity * slope - flux) < 5e-3 * 15e3 * BEAM.absorptivity


@settings(max_examples=4)
@given(size=st.floats(0.05, 0.1), shape=st.floats(0, 1), t=st.floats(0.1, 1.2))
def test_no_power_is_lost(size: float, shape: float, t: float) -> None:
    """The flux has unit power, and the heat in the half space is what was absorbed."""
    s, w = np.polynomial.legendre.leggauss(60)
    x, wx = 0.4 * s, 0.4 * w
    flux = BEAM.flux(x[:, None], x[None, :], np.array(size), np.array(shape))
    assert abs(wx @ flux @ wx - 1) < 1e-6
    half, weight = np.polynomial.legendre.leggauss(24)
    xi, wi = 0.8 * s - 0.5, 0.8 * w
    wide, wx = 0.2 * (1 + half), 0.4 * weight  # one half, twice
    depth, wd = 0.2 * (1 + half), 0.2 * weight
    grid = np.meshgrid(xi, wide, depth, indexing="ij")
    points = np.stack([g.ravel() for g in grid], axis=1)
    rest = np.tile([t, 100.0, size, shape], (len(points), 1))
    rise = BEAM.rise(np.concatenate([points, rest], axis=1), panels=2).reshape(grid[0].shape)
    heat = BEAM.capacity * np.einsum("xyz,x,y,z->", rise, wi, wx, wd)
    # 60 points on 1.6 mm for a beam of 0.05 mm, and two panels: 1e-2 is what this quadrature gives.
    assert abs(heat / (1e-3 * 100 * BEAM.absorptivity * t) - 1) < 1e-2


def test_ranks_in_both_frames() -> None:
    """On the surface, for a Gaussian, to 1e-3: x against all else has rank 45 at rest and 14 seen from the beam."""
    t, y, size = np.linspace(0.02, 1.25, 60), np.linspace(0, 0.2, 4), np.array([0.05, 0.1])
    ranks = []
    for speed, ends in ((BEAM.velocity, (-0.3, 1.3)), (0.0, (-1.3, 0.3))):
        x, time, beside, radius = np.meshgrid(np.linspace(*ends, 160), t, y, size, indexing="ij")
        columns = (x - speed * time, beside, 0 * x, time, 0 * x + 100, radius, 0 * x)
        values = BEAM.rise(np.stack([c.ravel() for c in columns], axis=1), panels=4).reshape(160, -1)
        sizes = np.linalg.svd(values, compute_uv=False)
        ranks.append(int((np.sqrt(np.cumsum(sizes[::-1] ** 2)[::-1]) > 1e-3 * np.linalg.norm(sizes)).sum()))
    assert 40 <= ranks[0] <= 50
    assert 12 <= ranks[1] <= 16


def test_the_problem(case: GalleryProblem) -> None:
    assert case.space.names == ("xi", "y", "z", "t", "power", "size", "shape")
    assert case.reference_error < 1e-3
    assert set(LASER_UNITS) == {*case.space.names, "x", "u"}
    assert case.constants["beam"].diffusivity == pytest.approx(BEAM.diffusivity, rel=1e-12)


def test_the_solve(case: GalleryProblem, solution: sn.Solution) -> None:
    """On the coarse mesh: 3 % where it is hot, and at the peak."""
    assert solution.converged
    points = hot(case, 5000)
    exact = case.reference(points)
    error = solution.u(points) - exact
    assert np.linalg.norm(error) < 0.03 * np.linalg.norm(exact)
    # the rise is proportional to the power, exactly: the axis has degree one, and nothing else depends on it
    doubled = points.copy()
    doubled[:, 4] = 0.5 * points[:, 4] + 20
    u = solution.u
    at = {w: u(np.concatenate([points[:, :4], np.full((5000, 1), w), points[:, 5:]], axis=1)) for w in (40.0, 140.0)}
    assert np.abs(at[140.0] - 3.5 * at[40.0]).max() < 1e-3 * np.abs(at[140.0]).max()


def test_at_rest(case: GalleryProblem, solution: sn.Solution) -> None:
    """Points of the laboratory: the beam is at x = v t."""
    frame = laboratory(case.space, case.constants["beam"])
    u, points = solution.u, hot(case, 100)
    seen = frame(u)
    moved = points.copy()
    moved[:, 0] += 0.8 * points[:, 3]
    assert np.allclose(seen(moved), u(points), atol=1e-9 * np.abs(u(points)).max())
    slopes, inner = seen.gradient(moved), u.gradient(points)
    assert np.allclose(slopes[:, 3], inner[:, 3] - 0.8 * inner[:, 0])


def largest_rise(case: GalleryProblem, rows: np.ndarray) -> np.ndarray:
    """The oracle: the closed form on a dense grid of the surface at the end, when it is largest."""
    found = []
    for power, size, shape in rows:
        xi, y = np.meshgrid(np.linspace(-2, 0.5, 41) * size, np.linspace(0, 1, 21) * size, indexing="ij")
        grid = np.stack([xi.ravel(), y.ravel(), *np.zeros((2, xi.size))], axis=1)
        grid = np.concatenate([grid, np.tile([power, size, shape], (xi.size, 1))], axis=1)
        grid[:, 3] = case.constants["duration"]
        found.append(case.reference(grid).max())
    return np.array(found)


def random_beams(case: GalleryProblem, n: int) -> np.ndarray:
    low, high = np.array([b.domain for b in case.space.bases[4:]]).T
    return low + (high - low) * np.random.default_rng(0).random((n, 3))


def test_peaks(case: GalleryProblem, solution: sn.Solution) -> None:
    """On the surface, behind the centre, beside the track for a ring; as a function of size and shape."""
    found = peaks(solution.u, OVER, [[100.0, 0.08, 0.0], [100.0, 0.1, 1.0]])
    assert (found.points[:, 2] == 0).all()
    assert (found.points[:, 0] < 0).all()
    assert abs(found.points[0, 1]) < 0.01 < abs(found.points[1, 1])
    M = maximum(solution.u.restrict(z=0.0, t=1.25, power=100.0), ("xi", "y"), tol=1e-2)
    assert M.converged
    assert M.function.space.names == ("size", "shape")
    rows = random_beams(case, 10)
    rows[:, 0] = 100.0
    assert np.abs(M(rows[:, 1:]) / largest_rise(case, rows) - 1).max() < 0.03  # that of the coarse solve


def test_bad_constants() -> None:
    for wrong in ({"size": (0.0, 0.1)}, {"size": (0.2, 0.1)}, {"velocity": 0}, {"degree": 1}, {"cells": {"w": 3}}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            laser(**wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_accuracy_claimed() -> None:
    """Within 1 % where it is hot and at the peak, and in L2 of the whole box."""
    whole = laser()
    u = sn.solve(whole.problem, **whole.options).u
    assert whole.measure(u).value < 0.01
    points = hot(whole, 20_000)
    exact = whole.reference(points)
    assert np.linalg.norm(u(points) - exact) < 0.004 * np.linalg.norm(exact)
    rows = random_beams(whole, 200)
    M = maximum(u, OVER, tol=3e-3)
    assert M.converged
    assert np.abs(M(rows) / largest_rise(whole, rows) - 1).max() < 0.01
    refined = dataclasses.replace(whole, reference=lambda p: whole.constants["beam"].rise(p, panels=12))
    assert abs(refined.measure(u).value - whole.measure(u).value) < 1e-4


def test_a_flux_that_does_not_separate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gallery_laser.separate
    monkeypatch.setattr(gallery_laser, "separate", lambda f, space, tol: whole(f, space, tol, rank=1))
    with pytest.raises(ValueError, match=r"`size` is .* narrower range"):
        laser(cells={"xi": 6, "y": 4, "z": 4, "t": 4})
