"""Functions that do not separate: cross approximation, refined axes, measured errors, sums of few products."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sepnet as sn
from sepnet.separation.cross import VOLUME, cross, entries_of, maxvol
from sepnet.separation.resolve import SEARCHED, Values, explore
from sepnet.separation.separate import Separation, SeparationStatus, separate
from sepnet.separation.sum_of_products import sum_of_products

seeds = st.integers(0, 2**16)


def space(names="xyz", cells=8, ends=(0, 1), **options):
    return sn.TensorSpace(**{name: sn.BSpline(ends, cells=cells, **options) for name in names})


def fresh(V, n=2000, seed=99):
    low, high = np.array([b.domain for b in V.bases]).T
    return np.random.default_rng(seed).uniform(low, high, size=(n, V.dim))


def relative(S, f, seed=99):
    points = fresh(S.space, seed=seed)
    exact = f(points)
    return float(np.linalg.norm(S(points) - exact) / np.linalg.norm(exact))


# ----------------------------------------------------------------------------------------------- cross approximation


@given(seed=seeds, d=st.integers(2, 6), rank=st.integers(1, 4), n=st.integers(8, 30))
def test_tensors_of_known_rank_are_recovered(seed, d, rank, n):
    """With O(d n r**2) entries, to round-off."""
    rng = np.random.default_rng(seed)
    exact = [rng.standard_normal((1 if k == 0 else rank, n, 1 if k == d - 1 else rank)) for k in range(d)]
    asked = [0]

    def entries(index):
        asked[0] += len(index)
        return entries_of(exact, index)

    found = cross(entries, (n,) * d, 1e-10, 50, rng, rng.integers(0, n, size=(4, d)))
    assert found.reached
    assert not found.full
    index = rng.integers(0, n, size=(500, d))
    size = np.abs(entries_of(exact, index)).max()
    # 1e-10 was asked of the root mean square and of the largest entry
    assert np.abs(entries_of(found.cores, index) - entries_of(exact, index)).max() <= 1e-9 * size
    # Every cut's rank and the pivots beside it, in a few sweeps; 1,024 entries a sweep are the check's.
    assert max(c.shape[2] for c in found.cores) == (1 if d == 1 else rank)
    assert asked[0] <= 12 * (d * n * (rank + 6) ** 2 + 1024)


@given(seed=seeds, r=st.integers(1, 6), more=st.integers(0, 20))
def test_rows_of_large_volume(seed, r, more):
    frame = np.random.default_rng(seed).standard_normal((r + more, r))
    rows, coefficients = maxvol(frame)
    assert len(set(rows.tolist())) == r
    np.testing.assert_allclose(coefficients @ frame[rows], frame, atol=1e-10 * np.abs(frame).max())
    assert np.abs(coefficients).max() <= VOLUME + 1e-9


@pytest.mark.parametrize("tol", [1e-8, 1e-3])
def test_a_support_of_one_entry_in_ten_thousand_is_found(tol):
    """From starts that all miss it: the pivots climb to it. With 1e-3 random entries see no error worth a word."""
    centre = np.array([17, 3, 11, 8])

    def entries(index):
        return np.exp(-2.0 * np.sum((index - centre) ** 2, axis=1)) + 5 * np.exp(-1e-3 * index.sum(axis=1))

    rng = np.random.default_rng(0)
    found = cross(entries, (20,) * 4, tol, 20, rng, np.zeros((1, 4), dtype=np.int64))
    assert found.reached
    assert entries_of(found.cores, centre[None])[0] == pytest.approx(entries(centre[None])[0], abs=10 * tol)


# ----------------------------------------------------------------------------------------------------- measured error


FAMILIES = {
    "rational": lambda a: lambda p: 1 / (1 + a * p[:, 0] ** 2 + p[:, 1:].sum(axis=1)),
    "wave": lambda a: lambda p: np.sin(2 + a * p.sum(axis=1)),
    "bell": lambda a: lambda p: np.exp(-a * ((p - 0.4) ** 2).sum(axis=1)) + 0.1 * p[:, 0] * p[:, -1],
}


@settings(max_examples=max(10, settings().max_examples // 3))  # each example is a separation
@given(
    seed=seeds,
    family=st.sampled_from(sorted(FAMILIES)),
    a=st.floats(0.5, 8.0),
    d=st.integers(1, 4),
    tol=st.sampled_from([1e-2, 1e-4, 1e-6]),
    format=st.sampled_from(["cp", "tt"]),
)
def test_what_converged_holds_at_fresh_points(seed, family, a, d, tol, format):
    f = FAMILIES[family](a)
    S = separate(f, space("xyzw"[:d], cells=4), tol, format=format, seed=seed)
    assert S.converged
    assert S.error.value <= tol
    # Two samples of a few thousand points differ by less than half.
    assert relative(S, f) <= 1.5 * tol
    points = fresh(S.space)
    # `doubt` is twice the largest error seen: other points do not see more than that.
    assert np.abs(S(points) - f(points)).max() <= S.doubt + 1e-14


@pytest.mark.parametrize("format", ["cp", "tt"])
def test_error_falls_with_the_tolerance(format):
    f = FAMILIES["rational"](1.0)
    runs = [separate(f, space(cells=4), tol, format=format) for tol in (1e-2, 1e-4, 1e-6)]
    assert all(S.converged for S in runs)
    # A hundred times smaller each was asked for; the first may be better than that by chance.
    assert all(b.error.value < 0.1 * a.error.value for a, b in itertools.pairwise(runs))
    assert all(b.function.rank > a.function.rank for a, b in itertools.pairwise(runs))


def narrow(p):
    """Two parts of one norm: a peak in a tenth of the box, and waves beside it."""
    peak = np.exp(-((p - 0.3) ** 2).sum(axis=1) / 2e-3)
    return peak + 0.004 * np.sin(20 * p[:, 0]) * np.sin(9 * p[:, 0] * p[:, 1])


@pytest.mark.parametrize("f", [FAMILIES["bell"](8.0), narrow])
def test_the_true_error_is_inside_the_interval(f):
    """Against Gauss's rule on 40 cells; three standard deviations where the interval has 1.96."""
    x, w = np.polynomial.legendre.leggauss(6)
    nodes = (np.arange(40)[:, None] + 0.5 * (x + 1)).ravel() / 40
    weights = np.tile(w, 40) / 80
    points = np.stack([g.ravel() for g in np.meshgrid(nodes, nodes, indexing="ij")], axis=1)
    both = np.multiply.outer(weights, weights).ravel()
    for seed in range(8):
        S = separate(f, space("xy", cells=4), 1e-4, seed=seed)
        exact = f(points)
        true = float(np.sqrt(both @ (S(points) - exact) ** 2 / (both @ exact**2)))
        slack = 3 / 1.96
        assert S.error.value - slack * (S.error.value - S.error.low) <= true
        assert true <= S.error.value + slack * (S.error.high - S.error.value)


# -------------------------------------------------------------------------------------------------- where it is needed


def test_only_axes_that_need_it_are_refined_and_known_breaks_stay():
    V = sn.TensorSpace(
        x=sn.BSpline(breaks=[0, 0.25, 0.3, 1], continuity=[2, 0], zero="both"), y=sn.BSpline((0, 1), cells=6)
    )
    S = separate(lambda p: np.abs(p[:, 0] - 0.3) * np.exp(8 * p[:, 0]) * (1 + p[:, 1]), V, 1e-7)
    assert S.converged
    assert S.function.rank == 1
    x, y = S.space.axes["x"], S.space.axes["y"]
    assert y == V.axes["y"]
    assert {0.25, 0.3} <= set(x.breaks.tolist())
    assert x.size > V.axes["x"].size
    assert x.continuity[x.breaks.tolist().index(0.3) - 1] == 0
    assert x.zero is None


def test_cells_are_halved_at_a_kink_only():
    S = separate(lambda p: np.abs(p[:, 0] - 0.3) * (1 + p[:, 1]), space("xy", cells=4), 1e-6)
    assert S.converged
    assert S.space.shape[1] == 7
    breaks = S.space.axes["x"].breaks
    near = np.abs(breaks - 0.3) < 0.05
    assert near.sum() > 0.5 * breaks.size


@pytest.mark.parametrize("axis", [sn.Legendre((0, 1), 4), sn.Chebyshev((0, 1), 4), sn.Fourier((0, 1), 2)])
def test_other_families_are_refined_as_a_whole(axis):
    V = sn.TensorSpace(x=axis, y=sn.BSpline((0, 1), cells=8))
    S = separate(lambda p: 1 / (1.5 + np.cos(2 * np.pi * p[:, 0]) + 0.2 * p[:, 1]), V, 1e-6)
    assert S.converged
    assert type(S.space.axes["x"]) is type(axis)
    assert S.space.axes["x"].size > axis.size


@pytest.mark.parametrize("axis", [sn.BSpline((0, 1), cells=8, periodic=True), sn.Fourier((0, 1), 4)])
def test_a_function_that_does_not_close_on_a_ring_gets_two_ends(axis):
    V = sn.TensorSpace(a=axis, y=sn.BSpline((0, 1), cells=8))
    S = separate(lambda p: p[:, 0] + p[:, 1] ** 2, V, 1e-8)
    assert S.converged
    assert not S.space.axes["a"].periodic
    closed = separate(lambda p: np.sin(2 * np.pi * p[:, 0]) + p[:, 1] ** 2, V, 1e-4)
    assert closed.converged
    assert closed.space.axes["a"].periodic


def test_large_values_are_looked_for_before_anything_else():
    """A peak that no random point meets, by climbing; a bump on a plain, from the largest of the random points."""
    V = space(cells=16)
    centre = np.array([0.371, 0.62, 0.113])

    def peak(p):
        return np.exp(-((p - centre) ** 2).sum(axis=1) / 1e-3)

    def bump(p):
        return np.maximum(1 - ((p - centre) ** 2).sum(axis=1) / 0.07**2, 0.0) + 1e-4 * p[:, 0]

    for f in (peak, bump):
        for seed in range(3):
            fibres = explore(Values(f, V), V, np.random.default_rng(seed))
            assert f(fibres.points).max() > 0.8
            low, high = fibres.around
            assert ((low < centre) & (centre < high)).all()
            assert np.prod(high - low) < 0.05


def ring(p):
    """A beam between a Gaussian (b = 0) and a ring (b = 1) of size s, over the plane."""
    x, y, s, b = p.T
    square = (x - 0.71) ** 2 + (y + 0.4) ** 2
    return ((1 - b) + b * square / s**2) * np.exp(-2 * square / s**2)


def test_a_narrow_ring_source_is_found():
    """A hundredth of the box is not zero; the size is an axis."""
    V = sn.TensorSpace(
        x=sn.BSpline((-2, 2), cells=16),
        y=sn.BSpline((-2, 2), cells=16),
        s=sn.BSpline((0.1, 0.2), cells=2),
        b=sn.BSpline((0, 1), cells=1, degree=1),
    )
    S = separate(ring, V, 1e-3, format="tt")
    assert S.converged
    # Points of the ring itself: a missed support would be off by the whole of it.
    turn = np.linspace(0, 2 * np.pi, 50)
    on_it = np.stack([0.71 + 0.1 * np.cos(turn), -0.4 + 0.1 * np.sin(turn), 0 * turn + 0.14, 0 * turn + 1], axis=1)
    assert np.abs(S(on_it) - ring(on_it)).max() < 5e-3 * ring(on_it).max()
    assert relative(S, ring) < 1e-2  # few uniform points meet it


def test_a_peak_far_narrower_than_the_cells_is_found():
    """Support 1e-6 of the box: random points never meet it, climbing does."""
    f = lambda p: np.exp(-((p - np.array([0.371, 0.62, 0.113])) ** 2).sum(axis=1) / 1e-4)  # noqa: E731
    S = separate(f, space(cells=16), 1e-4)
    assert S.converged
    assert S.function.rank == 1
    assert S([[0.371, 0.62, 0.113]])[0] == pytest.approx(1.0, abs=1e-3)


def spike(p):
    """One part in a hundred, in 1e-4 of the box, upon a constant: its values are not large, its error is."""
    return 1 + 1e-2 * np.exp(-((p - np.array([0.31, 0.77])) ** 2).sum(axis=1) / (2 * 0.004**2))


def corner(p):
    return 1 / (0.02 + p.sum(axis=1))


@pytest.mark.parametrize(
    ("f", "names", "tol", "cells", "degree"),
    [(corner, "xyz", 1e-4, 8, 3), (corner, "xyz", 1e-4, 4, 7), (spike, "xy", 1e-6, 8, 3), (spike, "xy", 1e-6, 1, 1)],
)
def test_what_is_in_doubt_covers_corners_and_narrow_parts(f, names, tol, cells, degree):
    """Where few or no random points are: bounds count with it."""
    S = separate(f, space(names, cells=cells, degree=degree), tol)
    points = fresh(S.space, 20000)
    places = [points, points**6, 1 - points**6, 0.02 * (points - 0.5) + np.array([0.31, 0.77, 0.5])[: S.space.dim]]
    error = max(np.abs(S(q) - f(q)).max() for q in places)
    assert error <= S.doubt
    assert S.doubt <= 3 * error  # and it is not a guess


@pytest.mark.parametrize("cells", [1, 8])
def test_a_narrow_part_upon_a_constant_is_refined(cells):
    S = separate(spike, space("xy", cells=cells), 1e-6)
    assert S.converged
    assert S.function.rank == 2
    assert S([[0.31, 0.77]])[0] == pytest.approx(1.01, abs=1e-5)


def test_splines_at_their_finest_are_as_good_as_they_are():
    """Some 257 hat functions an axis, and not the coarsest of them: h**2 of a wave, 40**2 / 8 / 256**2 of its size."""
    S = separate(lambda p: np.sin(40 * p[:, 0] * p[:, 1]), space("xy", cells=1, degree=1), 1e-6)
    assert S.status is SeparationStatus.MESH_LIMITED
    assert S.error.value < 40**2 / 8 / 256**2


def test_splines_that_end_before_a_singular_corner_are_said():
    """The measured error may be that of a smaller tolerance: what no random point sees is not resolved."""
    S = separate(lambda p: np.sqrt(p.sum(axis=1)), space("xy", cells=1, degree=1), 1e-6)
    assert S.largest > 1e-3
    assert S.status is SeparationStatus.MESH_LIMITED


# ------------------------------------------------------------------------------------------------------ simple things


@pytest.mark.parametrize("format", ["cp", "tt"])
@pytest.mark.parametrize("names", ["x", "xy", "xyzw"])
def test_zero_constants_and_functions_of_one_axis(names, format):
    V = space(names)
    zero = separate(lambda p: 0 * p[:, 0], V, format=format)
    assert zero.converged
    assert zero.largest == 0.0
    assert zero.doubt == 0.0
    assert not zero(fresh(V)).any()
    assert not zero.as_coefficient().terms
    assert not zero.as_coefficient().doubts
    three = separate(lambda p: 3 + 0 * p[:, 0], V, 1e-12, format=format)
    assert three.converged
    assert three.function.rank == 1
    assert three.space == V
    np.testing.assert_allclose(three(fresh(V)), 3.0, rtol=1e-12)
    last = separate(lambda p: np.exp(p[:, -1]), V, 1e-8, format=format)
    assert last.converged
    assert last.function.rank == 1


def test_tiny_and_huge_values():
    for scale in (1e-200, 1e200):
        S = separate(lambda p, scale=scale: scale / (1 + p.sum(axis=1)), space("xy"), 1e-6)
        assert S.converged
        assert 0.0 < S.largest < 1e-5 * scale


def test_few_values_are_asked_for_in_many_variables():
    """1 / (1 + x_1 + ... + x_8): the full grid has 11**8 = 2e8 nodes."""
    S = separate(lambda p: 1 / (1 + p.sum(axis=1)), space("abcdefgh"), 1e-4, format="tt")
    assert S.converged
    assert S.evaluations < 1e5


def test_the_count_is_that_of_the_values_asked_for():
    asked = [0]

    def f(p):
        asked[0] += len(p)
        return 1 / (1 + p.sum(axis=1))

    S = separate(f, space(), 1e-4, format="tt")
    assert S.evaluations == asked[0] > SEARCHED


def test_seeds_repeat_and_the_callable_cannot_spoil_its_points():
    def f(p):
        result = 1 / (1 + p.sum(axis=1))
        p[:] = np.nan
        return result

    first, second = (separate(f, space(cells=30), 1e-5, format="tt", seed=3) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first.function.cores, second.function.cores, strict=True))


# ----------------------------------------------------------------------------------------------- when it does not work


def test_a_rank_that_does_not_suffice_is_said():
    for format in ("cp", "tt"):
        S = separate(FAMILIES["rational"](4.0), space(), 1e-8, rank=2, format=format)
        assert S.status is SeparationStatus.RANK_LIMITED
        assert not S.converged
        assert S.error.value > 1e-8
        assert "raise rank=" in repr(S)
        assert S.function.rank <= 2


def test_a_jump_along_no_axis_is_said():
    S = separate(lambda p: 1.0 * (p[:, 0] + p[:, 1] ** 2 < 0.9), space("xy"), 1e-6, rank=20, format="tt")
    assert not S.converged
    assert S.error.value > 1e-3
    assert S.largest > 0.3
    assert S.status is not SeparationStatus.CONVERGED
    assert S.doubt > 0.6


def test_an_axis_at_its_finest_is_said():
    S = separate(lambda p: np.sqrt(p[:, 0]) * (1 + p[:, 1]), space("xy", degree=1), 1e-10)
    assert S.status is SeparationStatus.MESH_LIMITED
    assert "breaks=" in S.status.value


BAD = {
    "nan": (lambda p: np.where(p[:, 0] > 0.5, np.nan, 1.0), ValueError, r"not finite at x=0\.[5-9]\d*, y="),
    "inf": (lambda p: 1 / (0 * p[:, 0] + np.float64(0)), ValueError, "not finite at x="),
    "shape": (lambda p: p, ValueError, r"returned shape \(\d+, 2\).*one value a row, the columns are x, y"),
    "none": (lambda p: None, TypeError, "returned None"),
    "complex": (lambda p: p[:, 0] * 1j, TypeError, "complex numbers"),
    "text": (lambda p: "no", TypeError, "returned str"),
}


@pytest.mark.parametrize("case", sorted(BAD))
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_callables_that_misbehave(case):
    f, error, text = BAD[case]
    with pytest.raises(error, match=text):
        separate(f, space("xy"))


def test_a_tensor_that_records_gradients_is_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="returned Tensor, expected real numbers"):
        separate(lambda p: torch.ones(len(p), requires_grad=True), space("xy"))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"f": 3.0}, TypeError, "`f` is float.*it separates already"),
        ({"f": sn.product(x=np.sin)}, TypeError, "`f` is Coefficient.*it separates already"),
        ({"f": None}, TypeError, "`f` is NoneType, expected a callable"),
        ({"space": 3}, TypeError, "sn.separate"),
        ({"tol": 0.0}, ValueError, "`tol` is 0.0"),
        ({"tol": 2.0}, ValueError, "`tol` is 2.0"),
        ({"tol": "no"}, TypeError, "`tol`"),
        ({"rank": 0}, ValueError, "`rank` is 0"),
        ({"rank": 1.5}, TypeError, "`rank` is 1.5"),
        ({"format": "dense"}, ValueError, "`format` is 'dense'"),
        ({"seed": -1}, ValueError, "`seed` is -1"),
        ({"seed": "no"}, TypeError, "`seed` is 'no'"),
    ],
)
def test_arguments_out_of_range(arguments, error, text):
    given = {"f": lambda p: p[:, 0], "space": space("xy"), "tol": 1e-3} | arguments
    with pytest.raises(error, match=text):
        separate(given.pop("f"), given.pop("space"), **given)


# ------------------------------------------------------------------------------------------------- sums of few products


@given(seed=seeds, d=st.integers(1, 5), rank=st.integers(1, 4))
def test_a_sum_of_products_comes_back_from_its_train(seed, d, rank):
    rng = np.random.default_rng(seed)
    V = space("abcde"[:d], cells=3)
    u = sn.CP(V, [rng.standard_normal((n, rank)) for n in V.shape])
    train = sn.TensorTrain.from_cp(u).compress(1e-13)
    found, error = sum_of_products(train, 1e-6, 100)
    assert error <= 1e-6
    assert (found - u).norm() <= 1.1e-6 * u.norm()
    if d <= 2:
        assert found.rank <= max(rank if d == 2 else 1, 1)


RIDGES = {
    "rational": (FAMILIES["rational"](4.0), "xyzw", 1e-4),
    "ridge": (lambda p: np.exp(-8 * (p[:, 0] - p[:, 1] * p[:, 2]) ** 2), "xyz", 1e-3),
}


@pytest.mark.parametrize("case", sorted(RIDGES))
def test_fewer_terms_than_alternating_least_squares_finds(case):
    f, names, tol = RIDGES[case]
    train = separate(f, space(names, cells=4), 0.01 * tol, format="tt").function
    ours, error = sum_of_products(train, tol, 100)
    assert error <= tol
    assert ours.rank < train.to_cp(tol).function.rank


def test_zero_and_rank_limits_of_sums():
    V = space("xyz", cells=3)
    zero = sn.TensorTrain(V, [np.zeros((1, n, 1)) for n in V.shape])
    assert sum_of_products(zero, 1e-6, 5)[0].rank == 0
    S = separate(FAMILIES["rational"](4.0), V, 1e-8, format="tt")
    few, error = sum_of_products(S.function, 1e-8, 2)
    assert few.rank <= 2
    assert error > 1e-8


# --------------------------------------------------------------------------------------------------- as a coefficient


def test_it_is_a_coefficient_wherever_one_is_taken():
    V = space("xyt", cells=4)
    x, _, t = V.coordinates
    f = FAMILIES["rational"](1.0)
    S = separate(f, V.drop("t"), 1e-6)
    assert isinstance(S, Separation)
    assert S.converged
    points = fresh(V, 50)
    exact, (px, _, pt) = f(points[:, :2]), points.T
    cases = {
        "scaled": (2 * S, 2 * exact),
        "halved": (S / 2, exact / 2),
        "negated": (-S, -exact),
        "sum": (x + S + 1, px + exact + 1),
        "difference": (1 - S - x, 1 - exact - px),
        "product": (t * S * x, pt * exact * px),
        "with itself": (S * S - S**2 + S, exact),
        "function": (S * sn.project(t, V) + sn.project(t, V) * S, 2 * pt * exact),
    }
    for name, (expression, values) in cases.items():
        np.testing.assert_allclose(expression(points, V.names), values, atol=1e-5, err_msg=name)
    slope = (S * V.d.x + V.d.t).apply(x**2 * t)
    np.testing.assert_allclose(slope(points, V.names), 2 * px * pt * exact + px**2, atol=1e-5)
    with pytest.raises(TypeError):
        S * "no"
    assert (np.float64(2) * S).doubts == (2 * S).doubts
    for refused in (lambda: 1 / S, lambda: np.float64(1) / S, lambda: np.ones(3) * S, lambda: np.sin(S)):
        with pytest.raises(
            TypeError, match=r"separate the quotient|write the reciprocal|expected a real number|sn.apply"
        ):
            refused()
    assert re.match(r"Separation into CP\(rank=", repr(S))
