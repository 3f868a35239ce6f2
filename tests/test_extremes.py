"""Maxima over some axes: known ones, dense grids, bounds, seams, kinks, many local maxima, namespaces, bad input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from function_support import SPACES, random_cp, random_points
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Backend

import sepnet as sn
from sepnet.backends.arrays import to_host
from sepnet.separation.separate import separate
from sepnet.solvers import extremes
from sepnet.solvers.ascent import Climber
from sepnet.solvers.extremes import MaximumStatus, maximum, peaks

seeds = st.integers(0, 2**31)

BOX = sn.TensorSpace(
    x=sn.BSpline((-1, 1), cells=3), a=sn.BSpline((-2, 2), cells=2), y=sn.BSpline((0, 3), cells=2, degree=2)
)
X, A, Y = BOX.coordinates


def home(u: sn.CP, like: Backend) -> sn.CP:
    return sn.CP(u.space, [like.asarray(to_host(f)) for f in u.factors])


def on_dense_grid(u: sn.CP, over: list[str], at: np.ndarray, n: int) -> np.ndarray:
    """The oracle: the largest of n values an axis."""
    left = [name for name in u.space.names if name not in over]
    return np.array(
        [
            np.max(u.restrict(**dict(zip(left, row, strict=True))).on_grid(**dict.fromkeys(over, n)))
            for row in at.tolist()
        ]
    )


@given(centre=st.floats(-2, 2), bend=st.floats(0.1, 3.0), coupling=st.floats(-0.5, 0.5))
def test_a_parabola_and_its_bounds(centre: float, bend: float, coupling: float) -> None:
    """The maximum of a concave quadratic over a box, within it or on its bounds, by all its possible active sets."""
    # u = -(x - centre a)**2 - bend (y - a)**2 + coupling x y, concave as 4 bend > coupling**2
    u = sn.project(-((X - centre * A) ** 2) - bend * (Y - A) ** 2 + coupling * X * Y, BOX, None)
    rows = np.linspace(-2, 2, 9)[:, None]
    found = peaks(u, ["x", "y"], rows)
    for (a,), value, point in zip(rows, found.values, found.points, strict=True):
        best = -np.inf
        for x, y in itertools.product((-1.0, None, 1.0), (0.0, None, 3.0)):
            hessian = np.array([[-2.0, coupling], [coupling, -2 * bend]])
            slope = np.array([2 * centre * a, 2 * bend * a])
            place = np.array([np.nan if v is None else v for v in (x, y)])
            free = np.isnan(place)
            if free.any():
                rest = slope[free] + hessian[np.ix_(free, ~free)] @ place[~free]
                place[free] = np.linalg.solve(-hessian[np.ix_(free, free)], rest)
            if abs(place[0]) <= 1 and 0 <= place[1] <= 3:
                v = -((place[0] - centre * a) ** 2) - bend * (place[1] - a) ** 2 + coupling * place[0] * place[1]
                best = max(best, v)
        # a climb ends when the next step would gain 1e-9 of the largest value met, which is below 60 here
        assert abs(value - best) <= 1e-7
        assert point[1] == a
        assert abs(point[0]) <= 1
        assert 0 <= point[2] <= 3


@given(seed=seeds, name=st.sampled_from(["splines", "rough", "mixed"]), rank=st.integers(1, 4))
def test_no_grid_has_more(seed: int, name: str, rank: int) -> None:
    """Random functions have many local maxima; none of a dense grid is above what is found, and that is attained."""
    u = random_cp(SPACES[name], rank, seed)
    over, left = list(u.space.names[:2]), list(u.space.names[2:])
    low, high = np.array([b.domain for b in u.space.bases]).T
    rows = low[2:] + (high - low)[2:] * np.random.default_rng(seed).random((3, len(left)))
    found = peaks(u, over, rows if left else None, seed=seed)
    dense = on_dense_grid(u, over, rows if left else np.zeros((1, 0)), 41)
    size = np.abs(u(random_points(u.space, 500))).max() + 1e-300
    assert (found.values >= dense - 1e-7 * size).all()
    assert np.abs(u(found.points) - found.values).max() <= 1e-12 * size
    assert (found.points >= low).all()
    assert (found.points <= high).all()


@given(seed=seeds, rank=st.integers(1, 3))
def test_climbs_rise_within_the_box(seed: int, rank: int) -> None:
    u = random_cp(SPACES["splines"], rank, seed)
    low, high = np.array([b.domain for b in u.space.bases]).T
    start = low + (high - low) * np.random.default_rng(seed).random((20, 3))
    values, points = Climber(u, [0, 2])(start)
    assert (values >= u(start)).all()
    assert np.array_equal(values, u(points))
    assert np.array_equal(points[:, 1], start[:, 1])
    assert (points >= low).all()
    assert (points <= high).all()
    # what is left is a local maximum: along the axes, no small step within the box gains more than at second order
    for k, step in itertools.product((0, 2), (-1e-4, 1e-4)):
        moved = points.copy()
        moved[:, k] = np.clip(moved[:, k] + step * (high - low)[k], low[k], high[k])
        assert (u(moved) - values).max() <= 1e-6 * max(np.abs(values).max(), 1e-3)


@settings(max_examples=2)
@given(seed=seeds)
def test_the_maximum_as_a_function(seed: int) -> None:
    """The function agrees with searches at places of its own to the error that it says."""
    rng = np.random.default_rng(seed)
    centre, tilt = rng.uniform(-0.8, 0.8), rng.uniform(-1, 1)
    u = sn.project(3 - (X - centre * A / 2) ** 2 - (Y - 1 - tilt * A / 2) ** 2, BOX, None)
    M = maximum(u, ["x", "y"], tol=1e-3, seed=seed)
    assert M.converged
    assert M.error.value <= 1e-3
    assert M.missed <= 1e-3
    rows = rng.uniform(-2, 2, (200, 1))
    exact = peaks(u, ["x", "y"], rows, seed=seed + 1).values
    assert np.linalg.norm(M(rows) - exact) <= 2e-3 * np.linalg.norm(exact)
    assert "CONVERGED" in repr(M)


def test_two_maxima_that_change_places() -> None:
    """Two bumps at x = -0.5 and 0.5 with heights 1 + a / 4 and 1 - a / 4: the maximum has a kink at a = 0."""
    V = sn.TensorSpace(x=sn.BSpline((-1, 1), cells=48), a=sn.BSpline((-2, 2), cells=2))
    x, a = V.coordinates

    def bump(centre: float) -> sn.Coefficient:
        return sn.apply(lambda s: np.exp(-((s - centre) ** 2) / 0.02), x)

    u = sn.project((1 + a / 4) * bump(-0.5) + (1 - a / 4) * bump(0.5), V)
    rows = np.linspace(-2, 2, 21)[:, None]
    found = peaks(u, ["x"], rows)
    # the bumps are splines to 4e-4 at their tops, times 1.5, and are the same on both sides
    assert np.abs(found.values - (1 + np.abs(rows[:, 0]) / 4)).max() < 6e-4
    assert (np.sign(found.points[:, 0]) == np.where(rows[:, 0] > 0, -1, 1))[rows[:, 0] != 0].all()
    M = maximum(u, ["x"], tol=1e-3)
    assert M.converged
    assert np.abs(M(rows) - found.values).max() < 2e-2  # near the kink the largest error is above that in L2
    assert maximum(u, ["x"], tol=1e-9).status is MaximumStatus.MESH_LIMITED


def test_a_plateau_that_splits() -> None:
    """A ring: at b = 0 one maximum in the centre, from b = 1/2 on two beside it; both are found, by symmetry equal."""
    V = sn.TensorSpace(y=sn.BSpline((-3, 3), cells=20), b=sn.BSpline((0, 1), cells=1, degree=1))
    y, b = V.coordinates
    core = sn.apply(lambda s: np.exp(-(s**2)), y)
    u = sn.project((1 - b) * core + b * y**2 * core, V)
    rows = np.linspace(0, 1, 11)[:, None]
    found = peaks(u, ["y"], rows)
    share = np.maximum(rows[:, 0], 0.5)
    square = np.maximum(0.0, (2 * share - 1) / share)  # where the derivative of (1 - b + b s) exp(-s) vanishes
    assert np.abs(found.points[:, 0] ** 2 - square).max() < 2e-2
    assert np.abs(found.values - (1 - rows[:, 0] + rows[:, 0] * square) * np.exp(-square)).max() < 1e-3


def test_round_a_periodic_axis() -> None:
    """cos(theta - a): the maximum is 1 for every a, also at the seam."""
    V = sn.TensorSpace(theta=sn.Fourier((0, 2 * np.pi), 2), a=sn.BSpline((-4, 4), cells=16))
    theta, a = V.coordinates
    u = sn.project(
        sn.apply(np.cos, theta) * sn.apply(np.cos, a) + sn.apply(np.sin, theta) * sn.apply(np.sin, a), V, None
    )
    found = peaks(u, ["theta"], np.linspace(-4, 4, 33)[:, None])
    assert np.abs(found.values - 1).max() < 1e-3  # the splines of a


def test_a_power_scales_the_maximum() -> None:
    V = BOX.replace(a=sn.BSpline((1, 5), cells=1, degree=1))
    u = sn.project(V.coordinates[1] * (1 - V.coordinates[0] ** 2), V)
    M = maximum(u, ["x", "y"])
    assert M.function.space.names == ("a",)
    assert np.abs(M([[1.0], [2.5], [5.0]]) - [1.0, 2.5, 5.0]).max() < 1e-8


def test_grids_too_large_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Climbs along the axes instead: here they find what the grid finds."""
    u = random_cp(SPACES["splines"], 2, 3)
    whole = peaks(u, ["x", "y"], [[1.0], [2.0]])
    monkeypatch.setattr(extremes, "WHOLE", 1)
    climbed = peaks(u, ["x", "y"], [[1.0], [2.0]])
    assert np.allclose(whole.values, climbed.values, rtol=1e-6)


def test_all_axes() -> None:
    found = peaks(sn.project(-((X - 0.5) ** 2) - (A + 1) ** 2 - (Y - 4) ** 2, BOX, None))
    assert found.points.shape == (1, 3)
    assert np.abs(found.points - [[0.5, -1, 3]]).max() < 1e-4
    assert abs(found.values[0] + 1) < 1e-8
    zero = peaks(sn.project(0 * X, BOX))
    assert zero.values.tolist() == [0.0]


@pytest.mark.parametrize("seed", range(6))
def test_places_scanned_and_searched_agree(seed: int) -> None:
    """Few places are scanned, many searched: the same values, though there are many maxima."""
    u = random_cp(SPACES["splines"], 4, seed)
    rows = np.linspace(0.1, 2.9, 32)[:, None]
    many = peaks(u, ["x", "y"], rows).values
    few = np.concatenate([peaks(u, ["x", "y"], part).values for part in np.split(rows, 2)])
    assert np.abs(many - few).max() <= 1e-6 * np.abs(few).max()


def test_a_climb_goes_round() -> None:
    """From both sides of the seam of a periodic axis to the maximum on the other."""
    V = sn.TensorSpace(theta=sn.BSpline((0, 1), cells=12, periodic=True))
    for centre, start in ((0.9, 0.05), (0.1, 0.95)):

        def wave(s: np.ndarray, centre: float = centre) -> np.ndarray:
            return np.cos(2 * np.pi * (s - centre))

        values, points = Climber(sn.project(sn.apply(wave, V.coordinates[0]), V), [0])(np.array([[start]]))
        assert abs(points[0, 0] - centre) < 1e-3
        assert abs(values[0] - 1) < 1e-3


def test_the_best_of_several_climbs_counts() -> None:
    """The start of the largest value leads to the lower maximum here: a wide low hill, and a narrow high one."""
    V = sn.TensorSpace(x=sn.BSpline((0, 8), cells=64), a=sn.BSpline((0, 1), cells=1, degree=1))
    u = sn.project(sn.apply(lambda s: np.exp(-((s - 2) ** 2)) + 2 * np.exp(-20 * (s - 6) ** 2), V.coordinates[0]), V)
    search = extremes._Search(u, ["x"], 0)
    search.starts = np.array([[2.2], [5.6]])
    values, points = search.find(np.array([[0.3], [0.7]]))
    assert np.abs(values - 2).max() < 1e-2
    assert np.abs(points[:, 0] - 6).max() < 1e-2


def test_what_the_search_misses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one start and no second look a wavy function is not searched well, and fresh scans see it."""
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=24), a=sn.BSpline((0, 1), cells=24))
    u = random_cp(V, 6, 1)
    for name in ("MOST", "STARTS", "SCANS"):
        monkeypatch.setattr(extremes, name, 1)
    monkeypatch.setattr(extremes, "ROUNDS", 0)
    monkeypatch.setattr(extremes, "separate", lambda f, space, tol, seed: separate(f, space, 0.9, seed=seed))
    M = maximum(u, ["x"], tol=0.1)
    assert M.status is MaximumStatus.SEARCH_LIMITED
    assert not M.converged
    assert M.missed > 0.025


def test_namespaces(xp: Backend) -> None:
    host = sn.project(2 - (X - A / 4) ** 2 - (Y - 1) ** 2, BOX, None)
    u = home(host, xp)
    found = peaks(u, ["x", "y"], xp.asarray([[0.4], [1.0]]))
    assert found.values.dtype == xp.dtype
    assert to_host(found.points).shape == (2, 3)
    assert np.abs(to_host(found.values) - 2).max() < 1e-5
    M = maximum(u, ["x", "y"], tol=0.02)
    assert M.function.dtype == xp.dtype
    assert np.abs(to_host(M(xp.asarray([[0.4], [1.0]]))) - 2).max() < 0.1


def test_no_places() -> None:
    found = peaks(random_cp(BOX, 1), ["x", "y"], np.zeros((0, 1)))
    assert found.values.shape == (0,)
    assert found.points.shape == (0, 3)


def test_bad_input() -> None:
    u = random_cp(BOX, 1)
    mesh = sn.MatrixAxis(4, mass=np.eye(4))
    on_mesh = sn.CP(sn.TensorSpace(s=mesh, a=sn.Legendre((0, 1), 2)), [np.ones((4, 1)), np.ones((3, 1))])
    for wrong, error, match in (
        (lambda: peaks(3, ["x"]), TypeError, "`u` is int"),
        (lambda: peaks(u, ["q"]), ValueError, "over"),
        (lambda: peaks(u, []), ValueError, "empty"),
        (lambda: peaks(u, ["x"]), ValueError, "`at` is missing"),
        (lambda: peaks(u, ["x", "y"], [[0.0, 1.0]]), ValueError, "shape"),
        (lambda: peaks(u, ["x", "y"], [[9.0]]), ValueError, "outside"),
        (lambda: peaks(u, ["x", "y"], [[np.nan]]), ValueError, "outside"),
        (lambda: maximum(u, ["x", "a", "y"]), ValueError, "all axes"),
        (lambda: maximum(u, ["x"], tol=0), ValueError, "tol"),
        (lambda: peaks(u, at=[[1.0]]), ValueError, "`at` is given, but `over` names all axes"),
        (lambda: peaks(sn.CP(BOX, [np.full((n, 1), np.nan) for n in BOX.shape])), ValueError, "not finite"),
        (lambda: peaks(u, seed=-1), ValueError, "`seed` is -1"),
        (lambda: maximum(on_mesh, ["a"]), TypeError, r"restrict\(s=3\)"),
    ):
        with pytest.raises(error, match=match):
            wrong()  # type: ignore[no-untyped-call]
