"""The nonlinear problems of the gallery: references, orders of convergence, and the accuracies that are claimed."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solver_support import check_rate
from support import EXAMPLES

import sepnet as sn
from sepnet.models import fronts
from sepnet.models import gallery_nonlinear as gallery

PI = math.pi
FEW = settings(max_examples=min(20, EXAMPLES["ci"]), deadline=None)


def error(case, u):
    """The relative L2 error by Gauss points that are not those of the solver."""
    rules = [basis.quadrature(2 * (basis.degree + 3) - 1) for basis in case.space.bases]
    grid = np.stack(np.meshgrid(*[r.points for r in rules], indexing="ij"), axis=-1)
    exact = case.reference(grid.reshape(-1, len(rules))).reshape(grid.shape[:-1])
    values = u.on_grid(**{n: r.points for n, r in zip(case.space.names, rules, strict=True)})
    weights = rules[0].weights
    for rule in rules[1:]:
        weights = np.multiply.outer(weights, rule.weights)
    return math.sqrt(float((weights * (values - exact) ** 2).sum() / (weights * exact**2).sum()))


def solved(case, **options):
    return sn.solve(case.problem, **(dict(case.options) | options))


# ------------------------------------------------------------------------------------------------------- references


@FEW
@given(st.floats(-1, 1), st.floats(1e-6, 1), st.floats(0.003, 0.1))
def test_cole_and_hopf_by_another_rule(x, t, nu):
    # 150 nodes are enough for these viscosities: doubling them changes nothing above round-off
    z, weights = np.polynomial.hermite.hermgauss(150)
    y = x - math.sqrt(4 * nu * t) * z
    exponent = -np.cos(PI * y) / (2 * PI * nu)
    share = weights * np.exp(exponent - exponent.max())
    expected = -(share * np.sin(PI * y)).sum() / share.sum()
    found = fronts.cole_hopf(np.array([x]), np.array([t]), np.array([nu]))[0]
    # exponents of size 1 / (2 pi nu) = 50 carry as many units of round-off
    assert found == pytest.approx(expected, abs=1e-11)


def test_the_gallery_states_the_error_of_its_reference():
    assert 0 < gallery.burgers().reference_error < 1e-12
    assert 0 < gallery.burgers(nu=1e-3 / PI).reference_error < 1e-12
    assert 0 < gallery.burgers_nu().reference_error < 1e-12


@FEW
@given(st.floats(-1, 1), st.floats(0, 0.99 / PI))
def test_characteristics_carry_the_initial_value(x, t):
    u = fronts.characteristics(np.array([x]), np.array([t]))[0]
    # u is constant along x = a + t u: the foot has that value; near the breaking time the foot is 100 times as doubtful
    assert u == pytest.approx(-math.sin(PI * (x - t * u)), abs=1e-12)
    assert abs(x - t * u) <= 1 + 1e-12


@pytest.mark.parametrize("width", [1e-4, 0.1, 10.0])
def test_graded_breaks(width):
    breaks = fronts.graded((-1.0, 2.0), 9, 0.5, width)
    assert breaks.shape == (10,)
    assert breaks[0] == -1.0
    assert breaks[-1] == 2.0
    assert (np.diff(breaks) > 0).all()
    narrow = np.argmin(np.diff(breaks))
    assert breaks[narrow] <= 0.5 + 1e-12
    assert breaks[narrow + 1] >= 0.5 - 1e-12


# --------------------------------------------------------------------------------------------------------- Burgers


@pytest.mark.parametrize(("degree", "cap"), [(3, 2e-4), (4, 1e-5)])
def test_burgers_at_the_spline_rate(degree, cap):
    errors = []
    for cells in (12, 24):
        case = gallery.burgers(cells, degree, nu=0.05)
        errors.append(error(case, solved(case, tol=1e-4).u))
    check_rate(errors, [2.0, 1.0], degree + 1, floor=1e-11, cap=cap)


@pytest.mark.parametrize(("degree", "cap"), [(3, 5e-6), (4, 2e-6)])
def test_inviscid_burgers_at_the_spline_rate(degree, cap):
    errors = []
    for cells in (16, 32):
        case = gallery.burgers_inviscid(cells, degree, last=0.5)
        errors.append(error(case, solved(case, tol=1e-4).u))
    check_rate(errors, [2.0, 1.0], degree + 1, floor=1e-11, cap=cap)


def test_burgers_with_the_viscosity_as_an_axis():
    case = gallery.burgers_nu(16, 3, nu=(0.1, 0.4), modes=5)
    solution = solved(case, tol=2e-2)
    assert solution.converged
    assert error(case, solution.u) <= 1e-3
    # and each of its slices is the solution at that viscosity
    alone = gallery.burgers(20, 4, nu=0.2)
    slice_ = solution.u.restrict(s=0.5)
    assert isinstance(slice_, sn.CP)
    assert alone.measure(slice_, 5000).value <= 1e-3


@pytest.mark.slow
def test_the_front_to_a_millionth():
    case = gallery.burgers()
    solution = solved(case)
    assert solution.converged
    assert error(case, solution.u) <= 1e-6


@pytest.mark.slow
def test_a_decade_of_viscosities():
    case = gallery.burgers_nu()
    assert case.measure(solved(case, method="full").u).value <= 1e-4


# ------------------------------------------------------------------------------------------------------ the others


@pytest.mark.parametrize(
    ("form", "degree", "cap"), [("galerkin", 2, 2e-4), ("galerkin", 3, 1e-5), ("least-squares", 3, 1e-5)]
)
def test_allen_cahn_at_the_spline_rate(form, degree, cap):
    errors = []
    for cells in (12, 24):
        case = gallery.allen_cahn(cells, degree, form=form)
        errors.append(error(case, solved(case, tol=0.1).u))
    check_rate(errors, [2.0, 1.0], degree + 1, floor=1e-11, cap=cap)


def test_reaction_and_diffusion():
    case = gallery.reaction_diffusion(14, modes=6, tol=5e-3)
    solution = solved(case)
    assert solution.converged
    assert error(case, solution.u) <= 2e-4


def test_constants_out_of_range_are_refused():
    with pytest.raises(ValueError, match="below 1"):
        gallery.burgers_inviscid(last=1.0)
    with pytest.raises(ValueError, match="nu"):
        gallery.burgers(nu=0.0)
    with pytest.raises(ValueError, match="form"):
        gallery.allen_cahn(form="weak")
    with pytest.raises(ValueError, match="degree"):
        gallery.allen_cahn(degree=1, form="least-squares")
