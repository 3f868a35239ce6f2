"""The problem gallery: right-hand sides, references and their errors by independent means, small solves, constants."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

import sepnet as sn
from sepnet.models import vsna
from sepnet.models.gallery_poisson import expand, heat_integral
from sepnet.models.gallery_problem import mesh
from sepnet.models.gallery_transport import image_error

SMALL_PLUME = {
    "cells": {"x": 16, "y": 16, "z": 14, "t": 5, "omega": 3, "kappa": 1},
    "width": 0.3,
    "walls": 2.0,
    "kappa": (5e-3, 3e-2),
}


def _points(case, n=50, margin=0.02, seed=1):
    low, high = np.array([b.domain for b in case.space.bases]).T
    inside = margin + (1 - 2 * margin) * np.random.default_rng(seed).random((n, case.space.dim))
    return low + (high - low) * inside


def _difference(f, points, axis, order, step):
    """First or second derivative by the central difference of fourth order."""
    offsets = (-2, -1, 0, 1, 2)
    weights = {1: (1 / 12, -2 / 3, 0, 2 / 3, -1 / 12), 2: (-1 / 12, 4 / 3, -5 / 2, 4 / 3, -1 / 12)}[order]
    total = np.zeros(len(points))
    for offset, weight in zip(offsets, weights, strict=True):
        moved = points.copy()
        moved[:, axis] += offset * step
        total += weight * f(moved)
    return total / step**order


def _source(case, points):
    source = case.problem.source
    if isinstance(source, float):
        return np.full(len(points), source)
    return source(points) if isinstance(source, sn.CP) else source(points, case.space.names)


POISSON = [
    vsna.poisson_kan(4),
    vsna.poisson_kan(4, waves=(2, 1)),
    vsna.poisson_peak(4),
    vsna.poisson_peak(4, offset=0.3, steepness=2.0, centre=(0.7, 0.2)),
    vsna.poisson_1(1, 4),
    vsna.poisson_1(3, 4),
    vsna.poisson_1(9, 4),
]


@pytest.mark.parametrize("case", POISSON, ids=lambda c: f"{c.name}-{c.space.dim}")
def test_poisson_reference_solves_the_equation(case):
    points = _points(case)
    laplacian = sum(_difference(case.reference, points, axis, 2, 2e-3) for axis in range(case.space.dim))
    scale = np.abs(_source(case, points)).max()
    # truncation: step**4 / 90 times the sixth derivative, which for these functions is below 1e5 of the second
    np.testing.assert_allclose(-laplacian, _source(case, points), atol=3e-7 * scale)


@pytest.mark.parametrize("case", POISSON, ids=lambda c: f"{c.name}-{c.space.dim}")
def test_poisson_reference_vanishes_on_the_boundary(case):
    for axis, basis in enumerate(case.space.bases):
        for end in basis.domain:
            points = _points(case)
            inside = np.abs(case.reference(points)).max()
            points[:, axis] = end
            assert np.abs(case.reference(points)).max() < 1e-14 * max(inside, 1.0)


@pytest.mark.parametrize(
    "constants",
    [{}, {"centre": (0.2, -0.25, 0.1), "t": (0.5, 1.5), "omega": (-1.0, 2.0), "width": 0.2, "kappa": (1e-3, 1e-2)}],
)
def test_plume_reference_solves_the_equation(constants):
    case = vsna.advection_diffusion(3, **constants)
    points = _points(case, n=400)
    points[:, :3] *= 0.4  # where the plume is
    x, y, _, _, omega, kappa = points.T
    first = [_difference(case.reference, points, axis, 1, 1e-3) for axis in (0, 1, 3)]
    laplacian = sum(_difference(case.reference, points, axis, 2, 1e-3) for axis in range(3))
    wind = omega * (x * first[1] - y * first[0])
    assert np.abs(wind).max() > 0.05  # so that a vanishing wind could not pass
    np.testing.assert_allclose(first[2] + wind - kappa * laplacian, 0.0, atol=1e-8)


def test_heat_reference_solves_the_equation():
    case = vsna.heat(3, amplitudes=(1.0, 0.5, -0.3), t=(1.0, 2.0))
    points = _points(case)
    rate = _difference(case.reference, points, 1, 1, 1e-3)
    laplacian = _difference(case.reference, points, 0, 2, 1e-3)
    np.testing.assert_allclose(rate, points[:, 2] * laplacian, atol=1e-8)
    assert np.abs(rate).max() > 0.1


@pytest.mark.parametrize("case", [vsna.heat(3, t=(1.0, 2.0)), vsna.advection_diffusion(3, t=(0.5, 1.0))])
def test_reference_starts_from_the_initial_data(case):
    points = _points(case)
    points[:, case.space.names.index("t")] = case.constants["t"][0]
    initial = case.problem.initial["t"](points, case.space.names)
    np.testing.assert_allclose(case.reference(points), initial, rtol=1e-13, atol=1e-15)


# --- references against other methods -----------------------------------------------------------------------------


def test_poisson_1_is_the_parabola_in_one_dimension():
    x = np.linspace(0, 1, 101)
    np.testing.assert_allclose(heat_integral(x[:, None]), x * (1 - x) / 2, rtol=1e-12, atol=1e-15)


def test_poisson_1_is_the_sine_series_in_two_dimensions():
    points = np.random.default_rng(0).uniform(0.05, 0.95, (20, 2))
    x, y = points.T
    total = x * (1 - x) / 2
    for k in range(1, 2000, 2):
        # cosh(k pi (y - 1/2)) / cosh(k pi / 2), without overflow
        decay = (np.exp(-k * np.pi * y) + np.exp(-k * np.pi * (1 - y))) / (1 + math.exp(-k * np.pi))
        total = total - 4 / (k * np.pi) ** 3 * np.sin(k * np.pi * x) * decay
    np.testing.assert_allclose(heat_integral(points), total, rtol=1e-11)


def test_poisson_1_is_the_limit_of_the_full_tensor_solution_in_three_dimensions():
    errors = []
    for cells in (4, 8):
        case = vsna.poisson_1(3, cells, degree=4)
        errors.append(case.measure(sn.solve(case.problem, method="full").u, 5_000).value)
    # the solution has singular edges: the rate is theirs (about 3), not the degree's
    assert errors[1] < 2e-4
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize("case", POISSON, ids=lambda c: f"{c.name}-{c.space.dim}")
def test_poisson_references_are_exact_to_round_off(case):
    assert 0 < case.reference_error < 1e-12


def test_poisson_1_reference_error_is_that_of_the_quadrature():
    points = np.random.default_rng(3).random((300, 5))
    accurate = heat_integral(points, step=0.1)
    measured = np.linalg.norm(heat_integral(points) - accurate) / np.linalg.norm(accurate)
    assert measured < 10 * vsna.poisson_1(5, 2).reference_error
    assert np.linalg.norm(heat_integral(points, step=1.5) - accurate) > 1e-5 * np.linalg.norm(accurate)


def test_expansion_reports_its_distance():
    expansion, distance = expand(lambda x, y: 1 / (1.2 + x * y), ("x", "y"))
    points = np.random.default_rng(0).random((1000, 2))
    there = expansion(points) - 1 / (1.2 + points[:, 0] * points[:, 1])
    assert np.sqrt(np.mean(there**2)) < 3 * distance + 1e-15
    assert distance < 1e-13
    assert expansion.rank < 20


def _walls_change(walls, centre, width, spreads):
    """Relative L2 norms in 1-D of what two walls change: sine series between walls less the Gaussian in free space."""
    s, weights = np.polynomial.legendre.leggauss(300)
    x, weights = walls * s, walls * weights
    k = np.arange(1, 150) * np.pi / (2 * walls)  # the Gaussian's spectrum has ended there
    sines = np.sin(k[:, None] * (x + walls))
    start = sines @ (weights * np.exp(-((x - centre) ** 2) / (2 * width**2))) / walls
    inside = (np.exp(-np.outer(spreads, k**2)) * start) @ sines
    variance = width**2 + 2 * spreads[:, None]
    free = width / np.sqrt(variance) * np.exp(-((x - centre) ** 2) / (2 * variance))
    return np.sqrt((inside - free) ** 2 @ weights / (free**2 @ weights))


@pytest.mark.parametrize(("walls", "expected"), [(1.0, 8e-6), (1.25, 2e-9)])
def test_image_error_is_what_the_walls_change(walls, expected):
    s, weights = np.polynomial.legendre.leggauss(12)
    t, kappa = (s + 1) / 2, 1e-4 + 1.9e-3 * (s + 1) / 2
    squares = _walls_change(walls, 0.3, 0.15, np.outer(t, kappa).reshape(-1)).reshape(12, 12) ** 2
    exact = math.sqrt(weights / 2 @ squares @ weights / 2)
    still = image_error(walls, (0.3, 0, 0), 0.15, t=(0, 1), omega=(0, 1e-12), kappa=(1e-4, 2e-3))
    # an image is that of the whole Gaussian from the start on: somewhat too large
    assert exact <= still < 1.3 * exact
    assert expected / 1.3 < still < 1.3 * expected
    turning = vsna.advection_diffusion(3, walls=walls)
    assert still / 3 < turning.reference_error < still  # turning away from the wall


# --- small solves -------------------------------------------------------------------------------------------------


def test_poisson_kan_converges_with_the_degree():
    errors = []
    for cells in (16, 32):
        case = vsna.poisson_kan(cells, 3)
        errors.append(case.measure(sn.solve(case.problem, **case.options).u, 20_000).value)
    assert errors[1] < 1e-4
    assert math.log2(errors[0] / errors[1]) > 3.9


def test_poisson_peak_reaches_the_full_tensor_error_at_low_rank():
    case = vsna.poisson_peak(16)
    full = case.measure(sn.solve(case.problem, method="full").u, 20_000).value
    low = sn.solve(case.problem, **case.options).u
    assert low.rank <= 8
    assert case.measure(low, 20_000).value < 1.01 * full < 2e-3
    assert case.measure(sn.solve(case.problem, rank=1).u, 20_000).value > 0.05  # the rank matters


def test_poisson_1_in_five_dimensions():
    case = vsna.poisson_1(5, 8, rank=16)
    assert case.measure(sn.solve(case.problem, **case.options).u, 5_000).value < 3e-3


@pytest.mark.parametrize(("d", "rank", "title"), [(1, 1, "interval"), (2, 6, "square"), (3, 10, "cube")])
def test_poisson_1_asks_for_no_more_rank_than_it_needs(d, rank, title):
    case = vsna.poisson_1(d)
    assert case.options["rank"] == rank
    assert case.title == f"Poisson with f = 1 on the unit {title}"
    u = sn.solve(case.problem, **case.options).u
    assert u.rank <= rank
    full = case.measure(sn.solve(case.problem, method="full").u, 5_000)
    assert case.measure(u, 5_000).value < 1.1 * full.value + 1e-11


@pytest.mark.parametrize("name", ["poisson-kan", "poisson-peak", "heat"])
def test_a_higher_rank_than_the_default_gains_nothing(name):
    case = vsna.make(name)
    errors = [case.measure(sn.solve(case.problem, rank=case.options["rank"] + more).u, 5_000).value for more in (0, 4)]
    assert errors[0] < 1.01 * errors[1]


def test_poisson_1_in_many_dimensions_names_them_and_takes_a_rank():
    assert vsna.poisson_1(6).options == {"rank": 64, "tol": 1e-8}
    assert vsna.poisson_1(6).title == "Poisson with f = 1 on the unit cube in 6 dimensions"
    assert vsna.poisson_1(6, rank=3).options["rank"] == 3


def test_one_amplitude_may_be_a_number():
    assert vsna.heat(3, amplitudes=2).constants["amplitudes"] == (2.0,)


def test_heat_is_solved():
    case = vsna.heat(12)
    solution = sn.solve(case.problem, **case.options)
    assert case.measure(solution.u, 20_000).value < 1e-4


def test_plume_is_solved():
    case = vsna.advection_diffusion(**SMALL_PLUME, centre=(0.2, -0.25, 0.1), rank=16)
    solution = sn.solve(case.problem, **case.options)
    assert solution.u.rank <= 16
    assert case.measure(solution.u, 100_000).value < 1.2e-2


def test_plume_of_the_design_is_the_default():
    case = vsna.advection_diffusion()
    assert case.constants["cells"] == {"x": 34, "y": 34, "z": 34, "t": 10, "omega": 5, "kappa": 2}
    assert case.constants["walls"] == 1.25
    assert case.constants["centre"] == (0.3, 0.0, 0.0)
    assert case.constants["width"] == 0.15
    domains = [basis.domain for basis in case.space.bases]
    assert domains == [(-1.25, 1.25)] * 3 + [(0.0, 1.0), (0.0, 1.0), (1e-4, 2e-3)]
    assert case.options["rank"] == 64


# --- measure ------------------------------------------------------------------------------------------------------


def test_no_error_below_ten_times_that_of_the_reference():
    case = vsna.heat(12)
    u = sn.solve(case.problem, **case.options).u
    honest = case.measure(u, 2_000)
    assert honest.value == u.error(case.reference, n=2_000).value
    rough = dataclasses.replace(case, reference_error=1e-2).measure(u, 2_000)
    assert rough.floor == pytest.approx(0.1)
    assert (rough.low, rough.value, rough.high) == (rough.floor,) * 3
    assert "at most 0.1" in str(rough)
    assert "at most" not in str(honest)


def test_measure_refuses_what_is_no_solution():
    case = vsna.heat(3)
    with pytest.raises(TypeError, match="`u` is ndarray, expected a function"):
        case.measure(np.zeros(3))
    other = sn.solve(vsna.poisson_kan(4).problem, rank=1).u
    with pytest.raises(ValueError, match="`u` has the axes x, y, expected x, t, kappa"):
        case.measure(other)


# --- names and constants ------------------------------------------------------------------------------------------


def test_gallery_holds_the_promised_problems():
    assert list(vsna.GALLERY) == [
        "poisson-kan", "poisson-peak", "poisson-1", "heat", "advection-diffusion", "plume-corotating", "ring", "robin",
        "periodic-heat", "interface", "burgers", "burgers-nu", "burgers-inviscid", "allen-cahn", "reaction-diffusion",
        "laser", "heat-mesh",
    ]  # fmt: skip
    for name in vsna.GALLERY:
        assert vsna.make(name, cells=4).name == name


@pytest.mark.parametrize("call", [vsna.make, vsna.constants])
def test_unknown_names_list_the_known_ones(call):
    with pytest.raises(ValueError, match=r"'poison'.*poisson-kan, poisson-peak, poisson-1, heat, advection-diffusion"):
        call("poison")


def test_unknown_constants_list_the_known_ones():
    with pytest.raises(ValueError, match=r"heat has no constant 'walls', expected one of cells, degree, t, kappa"):
        vsna.make("heat", walls=1)


@pytest.mark.parametrize(
    ("name", "constants", "message"),
    [
        ("heat", {"cells": 0}, "`cells` is 0, expected an integer >= 1"),
        ("heat", {"cells": {"y": 3}}, "`cells` names the axis 'y', expected one of x, t, kappa"),
        ("heat", {"cells": {"x": 2.5}}, r"`cells\['x'\]` is 2.5, expected an integer >= 1"),
        ("heat", {"degree": 1}, "`degree` is 1, expected an integer >= 2"),
        ("heat", {"kappa": (0.1, 0.01)}, "`kappa` is .*, expected two rising numbers from 0 on"),
        ("heat", {"kappa": (-0.1, 0.01)}, "`kappa` is .*, expected two rising numbers from 0 on"),
        ("heat", {"t": 1}, "`t` is 1, expected 2 finite numbers"),
        ("heat", {"amplitudes": ()}, "`amplitudes` is .*, expected a list of finite numbers"),
        ("poisson-kan", {"waves": (1, 0)}, "`waves` is 0, expected an integer >= 1"),
        ("poisson-kan", {"waves": 2}, "`waves` is 2, expected two integers"),
        ("poisson-peak", {"offset": 0.0}, "`offset` is 0.0, expected a positive finite number"),
        ("poisson-peak", {"offset": 1e-9}, "too steep for polynomials of degree 512: use a larger `offset`"),
        ("poisson-peak", {"centre": (0.1, math.nan)}, "`centre` is .*, expected 2 finite numbers"),
        ("poisson-1", {"d": 0}, "`d` is 0, expected an integer >= 1"),
        ("poisson-1", {"rank": 0}, "`rank` is 0, expected an integer >= 1"),
        ("advection-diffusion", {"walls": -1}, "`walls` is -1, expected a positive finite number"),
        ("advection-diffusion", {"width": math.inf}, "`width` is inf, expected a positive finite number"),
        ("advection-diffusion", {"centre": (0.3, 0)}, "`centre` is .*, expected 3 finite numbers"),
        ("advection-diffusion", {"centre": (1.0, 1.0, 0)}, "`centre` is .* stays inside the walls at 1.25"),
        ("advection-diffusion", {"omega": (1, 1)}, "`omega` is .*, expected two rising numbers"),
    ],
)
def test_bad_constants_are_named(name, constants, message):
    with pytest.raises(ValueError, match=message):
        vsna.make(name, **constants)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (None, {"x": 30, "t": 10, "k": 2}),
        (60, {"x": 60, "t": 20, "k": 4}),
        (15, {"x": 15, "t": 5, "k": 1}),
        (14, {"x": 14, "t": 5, "k": 1}),
        (1, {"x": 1, "t": 1, "k": 1}),
        ({"t": 7}, {"x": 30, "t": 7, "k": 2}),
    ],
)
def test_cells_scale_or_are_set_per_axis(cells, expected):
    assert mesh(cells, {"x": 30, "t": 10, "k": 2}) == expected


# --- on a mesh ----------------------------------------------------------------------------------------------------


def test_the_mesh_has_its_order_in_the_norm_of_the_mass():
    """Points of a mesh axis are drawn as often as their mass says, so the measured error is that of L2."""
    pytest.importorskip("skfem")
    errors = []
    for cells in (8, 16, 32):
        case = vsna.heat_mesh(cells)
        u = sn.solve(case.problem, **case.options).u
        errors.append(case.measure(u))
    rates = np.log2([a.value / b.value for a, b in itertools.pairwise(errors)])
    assert (rates > 1.9).all()  # linear triangles
    mesh = case.space.axes["s"]
    space = case.space
    number, one = np.arange(mesh.size), np.ones(mesh.size)
    wave = case.reference(np.stack([number, 0.5 * one, one], axis=1))  # at the middle of the time, for kappa = 1
    rise = space.axes["t"].interpolate(np.sin(math.pi * space.nodes["t"]))
    inverse = space.axes["kappa"].interpolate(1 / space.nodes["kappa"])
    # splines miss sine and inverse by 1e-4, at right angles to what the mesh misses
    exact = sn.CP(space, [wave[:, None], rise[:, None], inverse[:, None]])
    # the diagonal of the mass in the place of the mass: of the order of (pi h)**2 in each direction
    assert errors[-1].value == pytest.approx((u - exact).norm() / exact.norm(), rel=2 * (math.pi / 16) ** 2)
    count = 10**5
    seen = np.bincount(mesh.spread((np.arange(count) + 0.5) / count).astype(int), minlength=mesh.size)
    weights = mesh.mass.diagonal()
    np.testing.assert_allclose(seen, count * weights / weights.sum(), rtol=0, atol=1.0)
