"""Sobol indices and effects against the definitions on tensor grids, and against functions with known answers."""

from __future__ import annotations

import copy
import itertools
import pickle
from dataclasses import replace
from math import comb

import numpy as np
import pytest
import scipy.stats
from function_support import SPACES, random_cp
from hypothesis import given
from hypothesis import strategies as st
from support import dev_size

import sepnet as sn
from sepnet.backends.arrays import to_host
from sepnet.measures import product_measure
from sepnet.moments import Grams, Roots, chain_of, energy
from sepnet.sensitivity import effects, sobol

EPS = float(np.finfo(np.float64).eps)
PI = np.pi


def tilted(basis):
    """A density that is a polynomial of degree 2, by no means symmetric, and zero at the left end."""
    low, high = basis.domain
    return lambda x: 3 * (x - low) ** 2 / (high - low) ** 3


def grids(space, density):
    """Points and weights an axis, the density in the weights, exact for squares of basis functions."""
    rules = {}
    for name, basis in space.items:
        points, weights = basis.quadrature(2 * basis.degree + 9)
        pdf = density.get(name, lambda x, b=basis: np.full_like(x, 1 / (b.domain[1] - b.domain[0])))
        rules[name] = points, weights * pdf(points)
    return rules


class Brute:
    """The definitions, by averages of the dense array of values."""

    def __init__(self, u, density=None):
        self.names = u.space.names
        rules = grids(u.space, density or {})
        self.points = {name: rules[name][0] for name in self.names}
        self.weights = [rules[name][1] for name in self.names]
        self.values = np.asarray(u.on_grid(**self.points))
        self.mean = self.conditional(()).item()
        self.variance = self.spread(self.values, range(len(self.names)))
        self.size = np.abs(self.values).max()

    def conditional(self, kept, values=None):
        """E[u | kept], with the other dimensions of length one."""
        values = self.values if values is None else values
        for k, weights in enumerate(self.weights):
            if self.names[k] not in kept:
                values = np.expand_dims(np.tensordot(weights, values, axes=(0, k)), k)
        return values

    def spread(self, values, axes):
        values = (values - self.mean) ** 2
        for k in axes:
            if values.shape[k] > 1:
                values = np.expand_dims(np.tensordot(self.weights[k], values, axes=(0, k)), k)
        return values.item()

    def closed(self, subset):
        return self.spread(self.conditional(subset), range(len(self.names)))

    def interaction(self, subset):
        """By inclusion and exclusion."""
        total = 0.0
        for size in range(1, len(subset) + 1):
            for part in itertools.combinations(subset, size):
                total += (-1) ** (len(subset) - size) * self.closed(part)
        return total

    def group_total(self, subset):
        return self.variance - self.closed([n for n in self.names if n not in subset])

    def deviation(self, name):
        centred = (self.values - self.conditional((name,))) ** 2
        return np.sqrt(np.maximum(self.conditional((name,), centred), 0)).reshape(-1)


def subsets(names):
    return [s for size in range(1, len(names) + 1) for s in itertools.combinations(names, size)]


functions = st.tuples(
    st.sampled_from(["splines", "mixed", "rough", "line"]), st.integers(1, 5), st.integers(0, 10**6), st.integers(0, 15)
)


def made(space, rank, seed, weighted):
    u = random_cp(SPACES[space], rank, seed)
    chosen = [name for k, name in enumerate(u.space.names) if weighted >> k & 1]
    return u, {name: tilted(u.space.axes[name]) for name in chosen}


# --------------------------------------------------------------------------------------------- against the definitions


@given(functions)
def test_all_indices_are_those_of_the_definition(case):
    u, density = made(*case)
    brute, groups = Brute(u, density), subsets(u.space.names)
    found = sobol(u, density=density, subsets=groups)
    # The oracle takes differences: its error is round-off of the square of the largest value.
    close = 1e3 * EPS * brute.size**2
    assert abs(found.mean - brute.mean) < 1e2 * EPS * brute.size
    assert abs(found.variance - brute.variance) < close
    for name in u.space.names:
        assert abs(found.first[name] * found.variance - brute.closed((name,))) < close
        assert abs(found.total[name] * found.variance - brute.group_total((name,))) < close
    for group in groups:
        assert abs(found.closed[group] * found.variance - brute.closed(group)) < close
        assert abs(found.interaction[group] * found.variance - brute.interaction(group)) < 10 * close
        assert abs(found.group_total[group] * found.variance - brute.group_total(group)) < close


@given(functions)
def test_effects_are_those_of_the_definition(case):
    u, density = made(*case)
    brute, found = Brute(u, density), effects(u, density=density)
    assert abs(found.mean - brute.mean) < 1e2 * EPS * brute.size
    for name, effect in found.main.items():
        points = brute.points[name]
        expected = brute.conditional((name,)).reshape(-1)
        np.testing.assert_allclose(effect.curve(points[:, None]), expected, atol=1e2 * EPS * brute.size)
        # The oracle's root of a difference of squares sees half the digits.
        np.testing.assert_allclose(
            effect.deviation(points) ** 2, brute.deviation(name) ** 2, atol=1e3 * EPS * brute.size**2
        )
    for pair in itertools.combinations(u.space.names, 2):
        both = found.given(*pair).on_grid(**{name: brute.points[name] for name in pair})
        expected = brute.conditional(pair).reshape(both.shape)
        np.testing.assert_allclose(both, expected, atol=1e2 * EPS * brute.size)


@given(functions)
def test_components_add_up_to_the_variance(case):
    u, density = made(*case)
    found = sobol(u, density=density, subsets=subsets(u.space.names))
    assert abs(sum(found.interaction.values()) - 1) < 1e-12  # sums of squares: a few hundred units of round-off
    whole = u.space.names
    assert abs(found.closed[whole] - 1) < 1e-12
    assert abs(found.group_total[whole] - 1) < 1e-12
    for name in whole:
        assert found.first[name] <= found.total[name] * (1 + 1e-12)
        assert found.closed[name,] == pytest.approx(found.first[name], rel=1e-10)
        assert found.group_total[name,] == pytest.approx(found.total[name], rel=1e-10)


@given(functions)
def test_law_of_total_variance(case):
    u, density = made(*case)
    found, indices = effects(u, density=density), sobol(u, density=density)
    for name, (points, weights) in grids(u.space, density).items():
        within = weights @ found.main[name].deviation(points) ** 2
        assert within == pytest.approx(
            (1 - indices.first[name]) * indices.variance, rel=1e-9, abs=1e-12 * indices.variance
        )


# -------------------------------------------------------------------------------------------------------- invariance


@given(functions, st.floats(-300, 300), st.floats(-2, 2))
def test_scale_shift_and_representation_change_nothing(case, power, shift):
    u, density = made(*case)
    expected = sobol(u, density=density)
    rng = np.random.default_rng(case[2])
    # The size of a term moves among its factors, one term becomes two, and the terms change places.
    ratios = np.exp(rng.normal(size=(u.space.dim, u.rank)))
    ratios /= np.prod(ratios, axis=0) ** (1 / u.space.dim)
    order = rng.permutation(u.rank + 1)
    split = [np.hstack([f * r, (f * r)[:, :1]]) for f, r in zip(u.factors, ratios, strict=True)]
    split[0] = split[0] * np.append(np.where(np.arange(u.rank) == 0, 0.25, 1.0), 0.75)
    scale = float(10.0 ** (power / 2.5))  # to 1e120: the variance stays in range
    other = scale * sn.CP(u.space, [f[:, order] for f in split])
    found = sobol(other, density=density)
    assert found.variance == pytest.approx(expected.variance * scale**2, rel=1e-8)
    moved = sobol(u + shift, density=density)
    assert moved.mean == pytest.approx(expected.mean + shift, abs=1e-12)
    for name in u.space.names:  # round-off of the terms, which may be larger than their sum: 1e-9
        assert found.first[name] == pytest.approx(expected.first[name], rel=1e-7, abs=1e-9)
        assert found.total[name] == pytest.approx(expected.total[name], rel=1e-7, abs=1e-9)
        assert moved.first[name] == pytest.approx(expected.first[name], rel=1e-7, abs=1e-9)


@dev_size
@given(functions)
def test_formats_agree(case):
    u, density = made(*case)
    groups = subsets(u.space.names)
    expected, curves = sobol(u, density=density, subsets=groups), effects(u, density=density)
    train = sn.TensorTrain.from_cp(u)
    turned = train.permute(*u.space.names[::-1])
    for v in (train, train.reorder(*u.space.names[::-1]), turned, sn.Tucker.from_cp(u)):
        found = sobol(v, density=density, subsets=groups)
        assert tuple(found.first) == v.space.names
        for name in u.space.names:
            assert found.first[name] == pytest.approx(expected.first[name], rel=1e-8, abs=1e-12)
            assert found.total[name] == pytest.approx(expected.total[name], rel=1e-8, abs=1e-12)
        for group in groups:
            assert found.interaction[group] == pytest.approx(expected.interaction[group], rel=1e-8, abs=1e-12)
        for name, effect in effects(v, density=density).main.items():
            points = v.space.axes[name].nodes
            bound = 1e-7 * np.sqrt(expected.variance) + 1e-12  # deviations are roots of squares
            np.testing.assert_allclose(effect.deviation(points), curves.main[name].deviation(points), atol=bound)


@dev_size
@given(functions)
def test_gram_matrices_and_roots_agree(case):
    u, density = made(*case)
    chain = chain_of(u, product_measure(u.space, density))
    assert isinstance(chain.form, Roots)
    grams = replace(chain, form=Grams())
    whole = energy(chain, ["full"] * u.space.dim)
    for parts in itertools.product(["mean", "rest", "full", "split"], repeat=u.space.dim):
        # Gram matrices see differences of squares of all terms; 1e-12 of these is a few thousand units of round-off.
        assert abs(energy(chain, parts) - energy(grams, parts)) < 1e-12 * max(1.0, whole) * u.rank**2 * 10**u.space.dim


# -------------------------------------------------------------------------------------------------- known functions


def test_ishigami():
    V = sn.TensorSpace(**{name: sn.BSpline((-PI, PI), cells=32) for name in "xyz"})
    wave = sn.product(x=np.sin)
    f = wave + sn.product(y=lambda s: 7 * np.sin(s) ** 2) + wave * sn.product(z=lambda s: 0.1 * s**4)
    one, two, mixed = (1 + 0.1 * PI**4 / 5) ** 2 / 2, 49 / 8, 0.01 * PI**8 * 8 / 225
    whole = one + two + mixed
    for form in ("cp", "tt", "tucker"):
        found = sobol(sn.project(f, V, format=form), subsets=[("x", "z"), ("x", "y")])
        # The splines' own error: its square is 1e-10 of the variance.
        assert found.mean == pytest.approx(3.5, rel=1e-8)
        assert found.variance == pytest.approx(whole, rel=1e-8)
        expected = {"x": (one, one + mixed), "y": (two, two), "z": (0.0, mixed)}
        for name, (first, total) in expected.items():
            assert found.first[name] == pytest.approx(first / whole, abs=1e-8)
            assert found.total[name] == pytest.approx(total / whole, abs=1e-8)
        assert found.interaction["x", "z"] == pytest.approx(mixed / whole, abs=1e-8)
        assert found.interaction["x", "y"] < 1e-12
        assert found.group_total["x", "y"] == pytest.approx(1, abs=1e-8)


@dev_size
@given(st.lists(st.floats(0, 100), min_size=1, max_size=12))
def test_g_function(weights):
    V = sn.TensorSpace(**{f"x{k}": sn.BSpline((0, 1), cells=2, degree=1) for k in range(len(weights))})
    factors = [(np.abs(4 * b.greville - 2) + a)[:, None] / (1 + a) for b, a in zip(V.bases, weights, strict=True)]
    found = sobol(sn.CP(V, factors), subsets=[V.names])
    alone = np.array([1 / (3 * (1 + a) ** 2) for a in weights])
    variance = np.expm1(np.log1p(alone).sum())
    assert found.mean == pytest.approx(1, rel=1e-13)
    assert found.variance == pytest.approx(variance, rel=1e-11)
    for k, name in enumerate(V.names):
        assert found.first[name] == pytest.approx(alone[k] / variance, rel=1e-10)
        total = alone[k] * np.prod(np.delete(1 + alone, k)) / variance
        assert found.total[name] == pytest.approx(total, rel=1e-10)
    # Below (1e3 eps)**2 of the mean square it is taken for round-off, and zero.
    assert found.interaction[V.names] == pytest.approx(np.prod(alone) / variance, rel=1e-8, abs=1e-24 / variance)


@given(st.integers(1, 8), st.integers(0, 10**6))
def test_additive_functions_have_no_interaction(d, seed):
    V = sn.TensorSpace(**{f"x{k}": sn.BSpline((0, 2), cells=3) for k in range(d)})
    rng = np.random.default_rng(seed)
    factors = [np.where(np.arange(d) == k, rng.normal(size=(n, 1)), 1.0) for k, n in enumerate(V.shape)]
    found = sobol(sn.CP(V, factors), subsets=itertools.combinations(V.names, min(2, d)))
    assert sum(found.first.values()) == pytest.approx(1, rel=1e-12)
    for name in V.names:
        assert found.first[name] == pytest.approx(found.total[name], rel=1e-12, abs=1e-20)
    if d > 1:
        assert len(found.closed) == comb(d, 2)
        assert max(found.interaction.values()) < 1e-24
        for one, two in found.closed:
            assert found.closed[one, two] == pytest.approx(found.first[one] + found.first[two], rel=1e-12)


@pytest.mark.parametrize("form", ["cp", "tt"])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e3])
def test_a_share_of_1e_12_has_its_digits(form, offset):
    """Neither a large mean nor terms that cancel cover it, as they would a difference of squares."""
    V = sn.TensorSpace(**{name: sn.BSpline((-1, 1), cells=4) for name in "xyz"})
    x, y, _ = V.coordinates
    large = sn.project(sn.product(z=np.exp, y=np.cos), V)
    u = sn.project(x + 1e-6 * y + offset, V) + large - large
    v = u if form == "cp" else sn.TensorTrain.from_cp(u)
    found = sobol(v)
    # The coefficients are rounded to 1e-16 of the offset, which is 1e-10 of y's part for 1, and 1e-7 for 1000.
    assert found.first["y"] == pytest.approx(1e-12, rel=1e-8 * max(1.0, offset))
    assert found.total["y"] == pytest.approx(1e-12, rel=1e-8 * max(1.0, offset))
    assert found.total["z"] == 0.0


def test_many_products_are_as_good_where_nothing_cancels():
    V = sn.TensorSpace(**{name: sn.BSpline((0, 1), cells=3) for name in "xyz"})
    for rank in (65, 150):
        u = random_cp(V, rank)
        chain = chain_of(u, product_measure(V))
        assert isinstance(chain.form, Grams)
        found, expected = sobol(u), sobol(sn.Tucker.from_cp(u))
        for name in V.names:
            assert found.first[name] == pytest.approx(expected.first[name], rel=1e-9)
            assert found.total[name] == pytest.approx(expected.total[name], rel=1e-9)
        points = np.linspace(0, 1, 7)
        mine, theirs = (effects(v).main["y"].deviation(points) for v in (u, u.compress(1e-12)))
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
        gone = sobol(u - u)
        assert gone.variance == 0.0
        assert set(gone.total.values()) == {0.0}
    # Where more terms than that cancel, fewer than 129 are carried as roots: the share of y is not lost.
    x, y, _ = V.coordinates
    small = random_cp(V, 49)
    u = 1e3 * small - 1e3 * small + sn.project(x + 1e-4 * y, V)
    assert isinstance(chain_of(u, product_measure(V)).form, Roots)
    assert sobol(u).first["y"] == pytest.approx(1e-8, rel=1e-3)  # round-off of 1e-11 against the 1e-4


# ----------------------------------------------------------------------------------------------------------- densities


def line(cells=6):
    return sn.TensorSpace(x=sn.BSpline((0, 1), cells=cells), y=sn.BSpline((-3, 3), cells=cells))


DENSITIES = {
    "arcsine": ("x", scipy.stats.beta(0.5, 0.5)),  # infinite at both ends
    "beta": ("x", scipy.stats.beta(2.5, 4)),
    "triangle": ("x", scipy.stats.triang(0.313)),  # a kink between breaks
    "part": ("x", scipy.stats.uniform(0.211, 0.5)),  # jumps between breaks
    "normal": ("y", scipy.stats.truncnorm(-12, 12, scale=0.25)),
}


@pytest.mark.parametrize("kind", DENSITIES)
def test_densities_have_their_own_moments(kind):
    name, law = DENSITIES[kind]
    V = line()
    u = sn.project(V.coordinates[V.names.index(name)] + 0, V)
    found = sobol(u, density={name: law.pdf})
    # At 1 the arcsine density is not resolved better than the square root of round-off, in the points themselves.
    close = 1e-6 if kind == "arcsine" else 1e-11
    assert found.mean == pytest.approx(law.mean(), abs=close)
    assert found.variance == pytest.approx(law.var(), rel=close)


@given(functions)
def test_a_constant_density_is_the_uniform_one(case):
    u, _ = made(*case)
    flat = {name: lambda x, b=b: 1 / (b.domain[1] - b.domain[0]) + 0 * x for name, b in u.space.items}
    one, two = sobol(u), sobol(u, density=flat)
    assert one.variance == pytest.approx(two.variance, rel=1e-11)
    for name in u.space.names:
        assert one.total[name] == pytest.approx(two.total[name], rel=1e-10, abs=1e-14)


def test_a_density_is_normalised_to_round_off():
    V = line()
    found = sobol(sn.CP(V, [np.ones((n, 1)) for n in V.shape]), density={"x": lambda x: (1 + 9e-7) + 0 * x})
    assert found.mean == pytest.approx(1, abs=1e-14)


# -------------------------------------------------------------------------------------------------- homes and sizes


@dev_size
@given(case=functions)
def test_every_library(xp, case):
    u, density = made(*case)
    v = random_cp(SPACES[case[0]], case[1], case[2], xp)
    expected, found = sobol(u, density=density), sobol(v, density=density)
    # Only the coefficients are rounded; in single precision terms may cancel to a tenth and more.
    close = 1e3 * xp.eps if xp.eps < 1e-10 else 5e-4
    for name in u.space.names:
        assert found.first[name] == pytest.approx(expected.first[name], rel=0.1, abs=close)
        assert found.total[name] == pytest.approx(expected.total[name], rel=0.1, abs=close)
        mine, theirs = effects(u, density=density).main[name], effects(v, density=density).main[name]
        assert theirs.curve.xp is v.xp
        assert theirs.curve.dtype == v.dtype
        assert theirs.curve.device == v.device
        points = u.space.axes[name].nodes
        there = theirs.deviation(xp.asarray(points))
        assert there.dtype == v.dtype
        scale = np.sqrt(expected.variance)
        np.testing.assert_allclose(
            to_host(there), mine.deviation(points), atol=(1e-6 if xp.eps < 1e-10 else 3e-2) * scale
        )


def test_tensors_that_record_gradients():
    torch = pytest.importorskip("torch")
    factors = [torch.rand((n, 2), dtype=torch.float64, requires_grad=True) for n in SPACES["splines"].shape]
    for u in (sn.CP(SPACES["splines"], factors), sn.TensorTrain.from_cp(sn.CP(SPACES["splines"], factors))):
        assert sobol(u).variance > 0
        assert effects(u).main["x"].curve(torch.tensor([[0.5]], dtype=torch.float64)).requires_grad


def test_trains_and_tucker_functions_elsewhere(xp):
    u = random_cp(SPACES["splines"], 3, 5)
    v = random_cp(SPACES["splines"], 3, 5, xp)
    expected = sobol(u)
    for other in (sn.TensorTrain.from_cp(v), sn.Tucker.from_cp(v)):
        found = sobol(other)
        for name in u.space.names:
            assert found.total[name] == pytest.approx(expected.total[name], abs=1e3 * xp.eps)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_small_sizes(rank):
    for space in (SPACES["line"], SPACES["splines"], sn.TensorSpace(x=sn.BSpline((0, 1), cells=1, degree=0))):
        u = random_cp(space, rank)
        found = sobol(u, subsets=[space.names])
        if rank == 0 or space.shape == (1,):  # zero, or a constant
            assert found.variance == 0.0
            assert set(found.total.values()) | set(found.first.values()) | set(found.closed.values()) == {0.0}
            assert found.mean == pytest.approx(float(u.factors[0].sum()), abs=1e-15)
        else:
            assert found.closed[space.names] == pytest.approx(1, rel=1e-12)
        for name, effect in effects(u).main.items():
            assert effect.deviation(space.axes[name].nodes).shape == (space.axes[name].size,)
            if space.dim == 1:
                assert not effect.deviation(space.axes[name].nodes).any()


def test_functions_without_variance():
    V = line()
    constant = sn.project(V.coordinates[0] * 0 + 0.3, V)
    for u in (constant, sn.TensorTrain.from_cp(constant), sn.Tucker.from_cp(constant), constant.to(dtype="float32")):
        found = sobol(u, subsets=[("x", "y")])
        assert found.variance == 0.0
        assert found.mean == pytest.approx(0.3, rel=1e-6)
        assert [*found.first.values(), *found.total.values(), *found.closed.values()] == [0.0] * 5
    zero = sn.CP(V, [np.zeros((n, 1)) for n in V.shape])
    for u in (zero, sn.TensorTrain.from_cp(zero), sn.Tucker.from_cp(zero)):
        assert sobol(u).variance == sobol(u).mean == effects(u).mean == 0.0


def test_what_says_that_it_is_a_sum_of_products():
    class Sum:
        def to_cp(self):
            return u

    u = random_cp(SPACES["splines"], 3)
    assert sobol(Sum()) == sobol(u)
    assert effects(Sum()).function is u


def test_repr_fits_a_screen():
    V = sn.TensorSpace(**{f"x{k}": sn.BSpline((0, 1), cells=1, degree=1) for k in range(40)})
    text = repr(sobol(random_cp(V, 2), subsets=[("x1", "x2")]))
    assert text.startswith("Sobol(mean=")
    assert text.endswith("... 30 more)")
    assert text.count("\n") == 12


# ------------------------------------------------------------------------------------------------------------ bad input


def test_bad_input():
    u = random_cp(SPACES["splines"], 2)
    with pytest.raises(TypeError, match=r"sn.sobol: `u` is ndarray, expected a function"):
        sobol(np.ones(3))
    broken = sn.CP(u.space, [f * np.nan for f in u.factors])
    for call in (sobol, effects):
        with pytest.raises(ValueError, match="coefficients that are not finite"):
            call(broken)
        with pytest.raises(ValueError, match="`density` names the axis 'q'"):
            call(u, density={"q": np.exp})
        with pytest.raises(TypeError, match=r"`density` is function, expected a mapping"):
            call(u, density=lambda x: x)
        with pytest.raises(TypeError, match=r"`density` of axis 'x' is float, expected a callable"):
            call(u, density={"x": 1.0})
        with pytest.raises(ValueError, match=r"`density` of axis 'x' has the integral 3 over the domain \(-1.0, 2.0\)"):
            call(u, density={"x": np.ones_like})
        with pytest.raises(ValueError, match="`density` of axis 'y' is negative at 0"):
            call(u, density={"y": lambda x: 4 * x - 1})
        with pytest.raises(ValueError, match="not finite"):
            call(u, density={"y": lambda x: x * np.nan})
        with pytest.raises(TypeError, match="expected real numbers"):
            call(u, density={"y": lambda x: x + 1j})
    for wrong in ("x", ["x"], 3, [3]):
        with pytest.raises(TypeError, match="`subsets`"):
            sobol(u, subsets=wrong)
    for wrong in ([()], [("x", "x")], [("q",)]):
        with pytest.raises(ValueError, match="`subsets`"):
            sobol(u, subsets=wrong)
    found = effects(u)
    with pytest.raises(ValueError, match="no axis is given"):
        found.given()
    with pytest.raises(ValueError, match="names the axis 'q'"):
        found.given("q")
    with pytest.raises(ValueError, match="in the domain"):
        found.main["x"].deviation([7.0])


def test_a_density_that_no_rule_resolves_is_refused():
    V = line()
    u = random_cp(V, 1)
    with pytest.raises(ValueError, match="has the integral 0 over the domain"):
        sobol(u, density={"x": lambda x: np.where(np.abs(x - 0.2501) < 1e-9, 5e8, 0.0)})


# ------------------------------------------------------------------------------------------------------------ copies


def half_parabola(x):
    return 3 * np.asarray(x) ** 2


def copies(value):
    return copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))


def test_indices_can_be_copied_and_stored():
    space = sn.TensorSpace(**{name: sn.BSpline((0, 1), cells=2) for name in "xy"})
    for u in (random_cp(space, 2, seed=1), 0 * random_cp(space, 2, seed=1)):
        found = sobol(u, density={"x": half_parabola}, subsets=[("x", "y")])
        for other in copies(found):
            assert other == found
            assert repr(other) == repr(found)
            with pytest.raises(TypeError):
                other.first["x"] = 0.0


@dev_size
@given(single=st.booleans())
def test_effects_can_be_copied_and_stored(single):
    space = sn.TensorSpace(**{name: sn.BSpline((0, 1), cells=2) for name in "xy"})
    u = random_cp(space, 2, seed=1).to(dtype="float32" if single else "float64")
    found = effects(u, density={"x": half_parabola})
    assert found == found
    assert found != effects(u)
    assert found.main["x"] != effects(u).main["x"]
    assert found.measure != product_measure(space)
    points = np.linspace(0, 1, 5).astype(u.dtype)
    for other in copies(found):
        assert other.mean == found.mean
        for name in space.names:
            assert np.array_equal(other.main[name].curve(points[:, None]), found.main[name].curve(points[:, None]))
            assert np.array_equal(other.main[name].deviation(points), found.main[name].deviation(points))
        assert np.array_equal(other.given("x", "y")([[0.3, 0.7]]), found.given("x", "y")([[0.3, 0.7]]))
        assert np.array_equal(other.measure.mean_row("x"), found.measure.mean_row("x"))
        with pytest.raises(TypeError):
            other.main["x"] = found.main["y"]
    # a density that only lives here can be copied, not stored
    local = effects(u, density={"x": lambda x: 2 * x})
    assert copy.deepcopy(local).mean == local.mean
