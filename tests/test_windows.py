"""Time windows: one solution after another, and what is known of the error of all of them."""

import dataclasses
import math
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solver_support import EPS

import sepnet as sn
from sepnet.solvers import march as module
from sepnet.solvers.march import march
from sepnet.solvers.record import Status

few = settings(max_examples=6)  # each example solves up to four problems
PI = math.pi


def rod(amplitudes, kappa, duration, cells=(10, 12), degree=3):
    """The cooling rod: a sum of sines, each with its own decay."""
    V = sn.TensorSpace(
        x=sn.BSpline((0, 1), cells=cells[0], degree=degree, zero="both"),
        t=sn.BSpline((0, duration), cells=cells[1], degree=degree),
    )
    x, _ = V.coordinates
    start = sum(a * sn.apply(np.sin, k * PI * x) for k, a in enumerate(amplitudes, 1))
    constants = (2 * duration / PI, math.sqrt(duration))
    problem = sn.LeastSquares(V.d.t - kappa * V.d.x**2, initial={"t": start}, stability=constants)

    def exact(p):
        parts = enumerate(amplitudes, 1)
        return sum(a * np.sin(k * PI * p[:, 0]) * np.exp(-kappa * (k * PI) ** 2 * p[:, 1]) for k, a in parts)

    return problem, exact


def distance(run, other, count=16):
    """L2 distance of a run and a function of points, by a Gauss rule for each window."""
    s, w = np.polynomial.legendre.leggauss(count)
    total = 0.0
    for solution in run.solutions:
        low, high = np.array([b.domain for b in solution.u.space.bases]).T
        axes = [(a + b) / 2 + (b - a) / 2 * s for a, b in zip(low, high, strict=True)]
        points = np.stack([c.ravel() for c in np.meshgrid(*axes, indexing="ij")], axis=1)
        weights = reduce(np.multiply.outer, [(b - a) / 2 * w for a, b in zip(low, high, strict=True)]).ravel()
        total += float(weights @ (np.asarray(solution.u(points)) - other(points)) ** 2)
    return math.sqrt(total)


@few
@given(
    st.lists(st.sampled_from([-2.0, 0.0, 0.5, 1.0]), min_size=1, max_size=4).filter(any),
    st.sampled_from([0.02, 0.1, 0.5]),
    st.sampled_from([0.5, 1.0, 4.0]),
    st.sampled_from([2, 3]),
    st.sampled_from([dict(tol=1e-1), dict(tol=1e-3), dict(rank=5, handover=0.2), dict(tol=1e-2, format="tt")]),
)
def test_windows_equal_one_to_the_sum_of_the_bounds(amplitudes, kappa, duration, windows, options):
    """Both are within their bounds of the exact solution, hence within the sum of each other."""
    problem, exact = rod(amplitudes, kappa, duration)
    options = dict(options)
    several = march(problem, windows, handover=options.pop("handover", None), **options)
    one = march(problem, 1, **options)
    assert one.error_bound.value == pytest.approx(one.solutions[0].error_bound.value)
    bounds = one.error_bound.value, several.error_bound.value
    assert max(bounds) < math.inf
    assert distance(one, exact) <= bounds[0]
    assert distance(several, exact) <= bounds[1]
    assert distance(several, lambda p: np.asarray(one.solutions[0].u(p))) <= sum(bounds)
    values = [b.value for b in several.error_bounds]
    assert values == sorted(values)


def test_a_window_by_hand():
    """What the README shows: rebind the operator, restrict the solution."""
    problem, _ = rod([1.0, 0.5], 0.1, 1.0)
    run = march(problem, 2, rank=6, handover=0.0)
    first, second = run.solutions
    W = problem.space.replace(t=second.problem.space.axes["t"])
    start = first.u.restrict(t=0.5)
    again = sn.solve(sn.LeastSquares(problem.operator.on(W), initial={"t": start}), rank=6)
    assert (again.u - second.u).norm() <= 1e-12 * second.u.norm()
    # and the bound, as documented: residuals together, jumps added
    C, C_0 = problem.constants
    jump = (second.u.restrict(t=0.5) - start).norm()
    missed = dataclasses.replace(problem, stability=(1.0, 1.0))
    part = module.error_bound(missed, first.u).value - first.residual_norm
    by_hand = C * math.hypot(first.residual_norm, second.residual_norm) + C_0 * (part + jump)
    assert run.error_bound.value == pytest.approx(by_hand, rel=1e-6)


def rods(amplitudes, duration, cells):
    """The same over the diffusivity: as many products at each time as there are waves."""
    V = sn.TensorSpace(
        x=sn.BSpline((0, 1), cells=cells[0], zero="both"),
        t=sn.BSpline((0, duration), cells=cells[1]),
        kappa=sn.BSpline((0.02, 0.1), cells=2),
    )
    x, _, kappa = V.coordinates
    start = sum(a * sn.apply(np.sin, k * PI * x) for k, a in enumerate(amplitudes, 1))
    constants = (2 * duration / PI, math.sqrt(duration))
    problem = sn.LeastSquares(V.d.t - kappa * V.d.x**2, initial={"t": start}, stability=constants)

    def exact(p):
        waves = [(a, k * PI) for k, a in enumerate(amplitudes, 1)]
        return sum(a * np.sin(w * p[:, 0]) * np.exp(-p[:, 2] * w**2 * p[:, 1]) for a, w in waves)

    return problem, exact


def test_what_compression_costs_is_counted():
    problem, exact = rods([1.0, 0.5, 0.3], 1.0, (14, 8))
    fine, crude = (march(problem, 4, tol=1e-2, handover=h) for h in (0.0, 0.2))
    errors = [distance(run, exact, count=12) for run in (fine, crude)]
    # a fifth of the norm may be dropped, and its first term is most of it
    assert errors[1] > 5 * errors[0]
    bounds = [run.error_bound.value for run in (fine, crude)]
    assert bounds[0] >= errors[0]
    assert bounds[1] >= errors[1]
    assert bounds[1] - bounds[0] > errors[1] - errors[0]
    lost = [run.starts[1] - run.solutions[1].u.restrict(t=0.25) for run in (fine, crude)]
    # C_0 = 1, so that the bound has the first jump in full
    assert bounds[1] > lost[1].norm() > 100 * lost[0].norm()


def test_ranks_do_not_add_up():
    problem, exact = rods([1.0, 0.5], 2.0, (12, 12))
    run = march(problem, 6, tol=1e-2)
    plain = march(problem, 6, tol=1e-2, handover=0.0)
    assert run.solutions[-1].u.rank < plain.solutions[-1].u.rank
    assert len(repr(run).splitlines()) == 7
    points = np.random.default_rng(0).uniform((0, 0.02), (1, 0.1), size=(40, 2))
    for t in (0.0, 0.3, 1 / 3, 1.9, 2.0):
        expected = exact(np.insert(points, 1, t, axis=1))
        # the tolerance; the values begin at 1.3
        np.testing.assert_allclose(np.asarray(run.restrict(t=t)(points)), expected, atol=1e-2)


@pytest.mark.parametrize("kind", ["least squares", "galerkin"])
@pytest.mark.parametrize("format", ["cp", "tt"])
def test_walls_that_vary_and_a_parameter(kind, format):
    """u = sin(x + 1) cos(t) (1 + k), with Dirichlet data on the left and a flux on the right."""
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8), t=sn.BSpline((0, 2), cells=12), k=sn.BSpline((0.1, 0.4), cells=1))
    _, _, k = V.coordinates
    d, one = V.d, V.identity
    wave = {"x": lambda s: np.sin(s + 1), "t": np.cos, "k": lambda s: 1 + s}
    f = k * sn.product(**wave) - sn.product(**{**wave, "t": np.sin})
    left = math.sin(1) * sn.product(t=np.cos, k=wave["k"])
    flux = math.cos(2) * sn.product(t=np.cos, k=wave["k"])
    data = dict(initial={"t": sn.product(x=wave["x"], k=wave["k"])}, boundary={"x": (left, None)})
    if kind == "galerkin":
        form = sn.inner(d.t, one) + sn.inner(k * d.x, d.x)
        problem = sn.Galerkin(form, source=f + sn.load_on(k * flux, one.at(x=1)), **data)
    else:
        problem = sn.LeastSquares(d.t - k * d.x**2, source=f, conditions=[(d.x.at(x=1), flux)], **data)
    run = march(problem, 3, tol=1e-2, format=format)
    assert run.converged
    rng = np.random.default_rng(0)
    for t in (0.5, 4 / 3, 2.0):
        points = rng.uniform((0, 0.1), (1, 0.4), size=(50, 2))
        expected = np.sin(points[:, 0] + 1) * math.cos(t) * (1 + points[:, 1])
        # a hundredth of the tolerance for each window, and the mesh
        np.testing.assert_allclose(np.asarray(run.restrict(t=t)(points)), expected, atol=2e-3)
    assert run.solutions[-1].u.rank <= run.solutions[0].u.rank + 12
    if kind == "galerkin":
        assert not run.error_bound.finite
        assert "sn.LeastSquares" in run.error_bound.derivation
    else:
        assert "no stability constant" in run.error_bound.derivation


def test_the_time_windows_lead_to_the_periodic_state():
    """A rod heated periodically, from cold: after some periods it does what the problem on a ring of time says."""
    heat = lambda s: 1 + np.sin(2 * PI * s)  # noqa: E731
    rod = sn.BSpline((0, 1), cells=10, zero="both")
    R = sn.TensorSpace(x=rod, t=sn.BSpline((0, 1), cells=12, periodic=True))
    ring = sn.solve(sn.LeastSquares(R.d.t - 0.2 * R.d.x**2, source=sn.product(t=heat)), rank=8).u
    V = sn.TensorSpace(x=rod, t=sn.BSpline((0, 4), cells=48))
    problem = sn.LeastSquares(V.d.t - 0.2 * V.d.x**2, source=sn.product(t=heat), initial={"t": 0})
    run = march(problem, 4, rank=10)
    x = np.linspace(0, 1, 20)[:, None]
    size = ring.restrict(t=0.0)(x).max()
    for t in (0.0, 0.25, 0.6):
        # exp(-3 * 0.2 * pi**2) = 3e-3 of the beginning is left after three periods
        np.testing.assert_allclose(run.restrict(t=3 + t)(x), ring.restrict(t=t)(x), atol=6e-3 * size)
    assert np.abs(run.restrict(t=0.25)(x) - ring.restrict(t=0.25)(x)).max() > 0.05 * size


def test_an_axis_of_time_alone():
    V = sn.TensorSpace(t=sn.BSpline((0, 3), cells=24))
    problem = sn.LeastSquares(V.d.t + V.identity, initial={"t": 1.0}, stability=(1.0, 1.0))
    run = march(problem, [sn.BSpline((0, 1), cells=8), sn.BSpline((1, 3), cells=16)], method="full")
    last = float(run.solutions[-1].u([[3.0]])[0])
    assert abs(last - math.exp(-3)) < 1e-6
    assert abs(last - math.exp(-3)) <= run.error_bound.value < 1e-3


def test_windows_live_where_they_were_asked_for(xp):
    problem, exact = rod([1.0], 0.1, 1.0, cells=(8, 8))
    run = march(problem, 2, rank=4, xp=xp.xp, device=xp.device, dtype=xp.dtype)
    for solution in run.solutions:
        assert all(f.dtype == xp.dtype for f in solution.u.factors)
    points = np.linspace(0, 1, 9)
    u = run.restrict(t=1.0).to(np, dtype="float64")
    expected = exact(np.stack([points, np.ones(9)], axis=1))
    # single precision: round-off times the condition, some 1e4
    np.testing.assert_allclose(u(points[:, None]), expected, atol=1e-3 + 1e4 * xp.eps)
    assert run.error_bound.finite


def test_an_interrupted_run_ends_there():
    problem, _ = rod([1.0, 0.5], 0.1, 1.0)
    seen = []

    def stop(record):
        seen.append(record)
        return len(seen) > first

    first = len(march(problem, 1, rank=5).solutions[0].history)
    run = march(problem, 4, rank=5, callback=stop)
    assert run.solutions[-1].status is Status.INTERRUPTED
    assert len(run.solutions) < 4
    assert not run.converged
    assert len(run.error_bounds) == len(run.solutions)
    with pytest.raises(ValueError, match=r"t is 1\.0, expected a value in the windows solved"):
        run.restrict(t=1.0)


def spaces(**bases):
    return sn.TensorSpace(x=sn.BSpline((0, 1), cells=4, zero="both"), **bases)


PLAIN = spaces(t=sn.BSpline((0, 1), cells=6))
HEAT = sn.LeastSquares(PLAIN.d.t - PLAIN.d.x**2, initial={"t": 0})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: march(HEAT.operator, 2), TypeError, "`problem` is Operator, expected sn.LeastSquares"),
        (lambda: march(sn.LeastSquares(PLAIN.d.x**2), 2), ValueError, "initial values on no axis, expected one"),
        (lambda: march(HEAT, 4), ValueError, "`windows` is 4, which does not divide the 6 cells"),
        (lambda: march(HEAT, 0), ValueError, "`windows` is 0"),
        (lambda: march(HEAT, 2.0), TypeError, "`windows` is 2.0"),
        (lambda: march(HEAT, []), ValueError, "`windows` end at 0 and axis 't' of the problem at 1"),
        (lambda: march(HEAT, [2]), TypeError, r"`windows\[0\]` is int, expected a basis"),
        (lambda: march(HEAT, [sn.BSpline((0, 0.5), cells=2)]), ValueError, "`windows` end at 0.5"),
        (
            lambda: march(HEAT, [sn.BSpline((0, 0.5), cells=2), sn.BSpline((0.6, 1), cells=2)]),
            ValueError,
            r"`windows\[1\]` begins at 0.6, expected 0.5",
        ),
        (lambda: march(HEAT, 2, handover=-1), ValueError, "`handover` is -1"),
        (lambda: march(HEAT, 2, handover=math.nan), ValueError, "`handover` is nan"),
        (lambda: march(HEAT, 2, checkpoint="run.h5"), ValueError, "`checkpoint` is given"),
        (lambda: march(HEAT, 2, tol=-1.0), ValueError, "tol"),
        (
            lambda: march(dataclasses.replace(HEAT, boundary={"t": (None, 0)}), 2),
            ValueError,
            "data at the end of 't'",
        ),
        (
            lambda: march(dataclasses.replace(HEAT, conditions=[(PLAIN.identity.at(t=1), 0)]), 2),
            ValueError,
            "one on a face of 't'",
        ),
        (
            lambda: march(sn.LeastSquares(S.d.t - S.d.x**2, initial={"t": 0}), 2),
            ValueError,
            "has no cells to share out",
        ),
        (lambda: march(HEAT, 2).restrict(x=0.5), ValueError, "'t' is missing"),
        (lambda: march(HEAT, 2).restrict(t="end"), TypeError, "t is 'end', expected a real number"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


S = spaces(t=sn.Legendre((0, 1), 4))


def test_windows_far_from_the_origin_are_told_apart():
    V = spaces(t=sn.BSpline((1e6, 1e6 + 1), cells=4))
    run = march(sn.LeastSquares(V.d.t - V.d.x**2, initial={"t": 0}), 2)
    assert "1000000 to 1000000.5  CONVERGED" in repr(run)


def test_windows_keep_grading_and_continuity():
    breaks = (0, 0.1, 0.3, 0.6, 1.0)
    V = spaces(t=sn.BSpline(breaks=breaks, continuity=[0, 1, 2]))
    run = march(sn.LeastSquares(V.d.t - V.d.x**2, source=1, initial={"t": 0}), 2, rank=4)
    axes = [s.problem.space.axes["t"] for s in run.solutions]
    assert [a.breaks.tolist() for a in axes] == [[0, 0.1, 0.3], [0.3, 0.6, 1.0]]
    assert [a.continuity for a in axes] == [(0,), (2,)]
    single = march(sn.LeastSquares(V.d.t - V.d.x**2, source=1, initial={"t": 0}), 4, rank=4)
    assert len(single.solutions) == 4


@pytest.mark.parametrize(("names", "windows"), [("xy", 6), pytest.param("xyz", 8, marks=pytest.mark.slow)])
def test_the_plume_keeps_its_rank_in_windows(names, windows):
    """A plume that goes round once: as one problem its rank is higher, and its error too, than in windows."""
    width, omega, end, tol = 0.4, PI, 2.0, 5e-2
    bases = {a: sn.BSpline((-1.8, 1.8), cells=10, degree=4, zero="both") for a in names}
    V = sn.TensorSpace(**bases, t=sn.BSpline((0, end), cells=(16 // windows + 1) * windows))
    x, y, *_ = V.coordinates
    d = V.d
    L = d.t + omega * (x * d.y - y * d.x) - 2e-3 * sum(d[a] ** 2 for a in names)
    centre = dict(zip(names, (0.4, 0.0, 0.0), strict=False))
    bell = {a: (lambda s, c=c: np.exp(-((s - c) ** 2) / (2 * width**2))) for a, c in centre.items()}
    problem = sn.LeastSquares(L, initial={"t": sn.product(**bell)}, stability=(2 * end / PI, math.sqrt(end)))
    run, one = march(problem, windows, tol=tol), march(problem, 1, tol=tol)
    assert run.converged
    assert one.converged
    assert max(s.u.rank for s in run.solutions) < one.solutions[0].u.rank
    points = np.random.default_rng(0).uniform(-1.8, 1.8, size=(4000, len(names)))
    variance = width**2 + 4e-3 * end
    square = ((points - np.array(list(centre.values()))) ** 2).sum(axis=1)
    shape = np.exp(-square / (2 * variance)) * (width**2 / variance) ** (len(names) / 2)
    errors = [np.linalg.norm(r.restrict(t=end)(points) - shape) / np.linalg.norm(shape) for r in (run, one)]
    assert errors[0] < min(errors[1], 2 * tol)
    assert EPS < run.error_bounds[0].value < run.error_bound.value < math.inf


def test_a_crude_handover_still_agrees_with_the_walls():
    """Compressed as it is, the value handed over would miss the data of the wall by more than a corner may."""
    V = sn.TensorSpace(
        x=sn.BSpline((0, 1), cells=10), t=sn.BSpline((0, 0.5), cells=8), k=sn.BSpline((0.1, 0.4), cells=2)
    )
    x, _, k = V.coordinates
    u0 = (1 + k) * (1 - x**2) + 5 * k**2 * (1 - x**3)
    wall = (1 + k) + 5 * k**2
    problem = sn.LeastSquares(V.d.t - k * V.d.x**2, initial={"t": u0}, boundary={"x": (wall, 0)})
    fine, crude = (march(problem, 2, tol=1e-2, handover=h) for h in (1e-4, 0.1))
    points = np.random.default_rng(0).uniform((0, 0.1), (1, 0.4), size=(60, 2))
    last = fine.restrict(t=0.5)(points)
    # three times a tenth of the norm
    assert 0 < np.abs(crude.restrict(t=0.5)(points) - last).max() < 0.3 * np.abs(last).max()
    edge = np.stack([np.zeros(20), points[:20, 1]], axis=1)
    np.testing.assert_allclose(crude.restrict(t=0.5)(edge), wall(edge, ["x", "k"]), rtol=1e-9)
