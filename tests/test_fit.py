"""`sn.fit` as users see it: what it finds, weights, missing targets, outputs, batches, arrays, spaces, bad input."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Backend, dev_size

import sepnet as sn
from sepnet.backends.arrays import device_of, namespace, to_host
from sepnet.functions.sna import SNA
from sepnet.solvers import fit as module
from sepnet.solvers.fit_columns import Columns
from sepnet.solvers.fit_growth import together
from sepnet.solvers.fit_loss import Squared
from sepnet.solvers.fit_model import Model
from sepnet.solvers.fit_setup import set_up
from sepnet.solvers.fit_source import Streamed, source_of

STATUS = sn.FitStatus


def smooth(X: np.ndarray) -> np.ndarray:
    return np.sin(3 * X[:, 0]) * np.exp(X[:, 1]) + X[:, 2] ** 2


def sample(n: int, seed: int = 0, d: int = 3) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(seed).random((n, d))
    return X, smooth(X) if d == 3 else X.sum(axis=1)


def root(a: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(a))))


def same(a: sn.CP | SNA, b: sn.CP | SNA) -> bool:
    """Whether two functions have the same bits."""
    if isinstance(a, SNA):
        pairs = zip(a.parts.items(), b.parts.items(), strict=True)
        return a.constant == b.constant and all(s == t and same(p, q) for (s, p), (t, q) in pairs)
    return all(np.array_equal(to_host(f), to_host(g)) for f, g in zip(a.factors, b.factors, strict=True))


# ------------------------------------------------------------------------------------------------------ what is found


@dev_size
@given(seed=st.integers(0, 2**31))
def test_recovers_a_product(seed: int) -> None:
    """A function of the class is found from its values, far beyond what any error of approximation allows."""
    rng = np.random.default_rng(seed)
    space = sn.TensorSpace(x=sn.BSpline((0, 1), cells=2), y=sn.BSpline((-1, 1), cells=3, degree=2))
    exact = sn.CP(space, [rng.uniform(0.5, 1.5, (n, 1)) for n in space.shape])
    X = rng.uniform((0, -1), (1, 1), (150, 2))
    fit = sn.fit(X, exact(X), space, rank=1, penalty=0.0)
    # the weight of 1e-10 that keeps columns from cancelling shrinks the function by as much
    assert root(fit.u(X) - exact(X)) <= 1e-8 * root(exact(X))
    assert fit.status is STATUS.FITTED
    assert isinstance(fit.u, sn.CP)
    assert fit.u.rank == 1


@pytest.mark.parametrize("method", ["lm", "als"])
def test_recovers_rank_two(method: str) -> None:
    rng = np.random.default_rng(1)
    space = sn.TensorSpace(**{n: sn.BSpline((0, 1), cells=2) for n in "xyz"})
    exact = sn.CP(space, [rng.standard_normal((n, 2)) for n in space.shape])
    X = rng.random((400, 3))
    fit = sn.fit(X, exact(X), space, rank=2, penalty=0.0, method=method, max_steps=100)
    # Levenberg-Marquardt ends quadratically; sweeps end where they fall by less than 1e-3
    assert fit.error <= (1e-6 if method == "lm" else 0.1)


def test_default_fit_finds_shape_and_inert_inputs() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((1500, 5))
    y = np.sin(3 * X[:, 0]) * X[:, 1] + (X[:, 3] - 0.4) ** 2
    fit = sn.fit(X, y)
    assert fit.inert == ("x2", "x4")
    test = np.clip(rng.random((500, 5)), X.min(axis=0), X.max(axis=0))
    want = np.sin(3 * test[:, 0]) * test[:, 1] + (test[:, 3] - 0.4) ** 2
    # the smooth function has a variance of 0.09; cubic splines on a few cells are good for 1e-3 and far better
    assert root(fit.u(test) - want) <= 1e-3 * np.std(want)
    assert fit.history
    assert fit.history[-1].size <= 500
    assert fit.count == 1500


def test_interactions() -> None:
    """Additive and pairwise fits have the parts that were asked for; an additive function is found by both."""
    X, _ = sample(400)
    y = np.sin(4 * X[:, 0]) + X[:, 1] ** 3 - 2 * X[:, 2] + 5
    additive = sn.fit(X, y, interaction=sn.Interaction(1), names=("a", "b", "c"))
    assert set(additive.u.parts) <= {("a",), ("b",), ("c",)}
    assert additive.error <= 1e-3
    pairs = sn.Interaction(2, rank=1, subsets=["a", "b", "c", ("a", "b")])
    wider = sn.fit(X, y + X[:, 0] * X[:, 1], interaction=pairs, names=("a", "b", "c"))
    assert ("a", "b") in wider.u.parts
    assert wider.error <= 1e-3
    # the fit without the pair cannot get there: x0 x1 less its additive part has a spread of 1 / 12
    assert sn.fit(X, y + X[:, 0] * X[:, 1], interaction=sn.Interaction(1)).error > 0.02


def test_spaces_of_all_kinds() -> None:
    rng = np.random.default_rng(3)
    space = sn.TensorSpace(
        w=sn.BSpline((0, 1), cells=8, periodic=True),
        f=sn.Fourier((0, 2), 2),
        z=sn.BSpline((-1, 1), cells=6, zero="both"),
    )
    X = rng.uniform((0, 0, -1), (1, 2, 1), (600, 3))

    def truth(X: np.ndarray) -> np.ndarray:
        return np.cos(2 * np.pi * X[:, 0]) * (2 + np.sin(np.pi * X[:, 1])) * (1 - X[:, 2] ** 2)

    fit = sn.fit(X, truth(X), space, rank=1)
    assert fit.u.space.names == ("w", "f", "z")
    assert fit.error <= 2e-3  # eight periodic cubic cells for one wave
    ends = np.array(
        [[0.2, 0.3, -1.0], [0.2, 0.3, 1.0], [0.0, 0.7, 0.1], [1.0, 0.7, 0.1], [0.4, 0.0, 0.1], [0.4, 2.0, 0.1]]
    )
    values = fit.u(ends)
    np.testing.assert_allclose(values[:2], 0.0, atol=1e-12)
    np.testing.assert_allclose(values[[2, 4]], values[[3, 5]], atol=1e-12)


def test_noise_freedom_and_gcv() -> None:
    X, y = sample(400, 4)
    noise = 0.1 * np.random.default_rng(5).standard_normal(400)
    fit = sn.fit(X, y + noise)
    # of 400 samples to 1 / sqrt(800) = 3.5 %, four times that
    assert abs(fit.noise - 0.1) <= 0.014
    assert 5 < fit.freedom < 80
    assert fit.gcv > fit.error**2
    assert root(fit.u(X) - y) <= 0.05


@pytest.mark.parametrize("shape", [{"rank": 1}, {"rank": 1, "method": "als"}, {"interaction": sn.Interaction(2)}, {}])
def test_logistic(shape: dict) -> None:
    rng = np.random.default_rng(6)
    X = rng.random((1200, 2))
    odds = 4 * np.sin(4 * X[:, 0]) * (X[:, 1] - 0.3)
    y = (rng.random(1200) < 1 / (1 + np.exp(-odds))).astype(int)
    fit = sn.fit(X, y, loss="logistic", **shape)
    log_loss = np.mean(np.log1p(np.exp(fit.u(X))) - y * fit.u(X))
    bayes = np.mean(np.log1p(np.exp(odds)) - y * odds)
    # in sample a fit of p coefficients lies p / (2 n) below the truth; a bad one lies far above it
    assert bayes - 0.03 <= log_loss <= bayes + 0.02
    assert np.mean((fit.u(X) > 0) == (odds > 0)) > 0.85
    assert fit.inert == ()


def test_logistic_of_separable_and_single_classes() -> None:
    X = np.random.default_rng(0).random((60, 2))
    fit = sn.fit(X, X[:, 0] > 0.5, loss="logistic", rank=1)
    assert np.isfinite(fit.u(X)).all()
    assert ((fit.u(X) > 0) == (X[:, 0] > 0.5)).mean() > 0.95
    sure = sn.fit(X, np.ones(60), loss="logistic")
    assert sure.status is STATUS.CONSTANT
    # half a sample of the other class: log(60.5 / 0.5)
    np.testing.assert_allclose(sure.u(X), np.log(121.0), rtol=1e-12)
    flat = sn.fit(np.ones((4, 1)), [0, 1, 1, 1], loss="logistic")
    np.testing.assert_allclose(flat.u([[1.0]]), np.log(3.0), rtol=1e-12)


# -------------------------------------------------------------------------------------------------- weights, missing


@pytest.mark.parametrize("shape", [{"rank": 2}, {"interaction": sn.Interaction(1)}])
def test_weights_are_repetitions(shape: dict) -> None:
    rng = np.random.default_rng(7)
    X, y = sample(120, 7)
    y = y + 0.1 * rng.standard_normal(120)
    times = rng.integers(1, 4, 120)
    one = sn.fit(X, y, weights=times, penalty=1e-4, **shape)
    other = sn.fit(np.repeat(X, times, axis=0), np.repeat(y, times), penalty=1e-4, **shape)
    # the same minimum, of sums in another order, up to where steps that gain less than 1e-3 end
    np.testing.assert_allclose(one.u(X), other.u(X), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [{}, {"rank": 1}])
def test_zero_weights_and_missing_targets_are_samples_that_are_not_there(shape: dict) -> None:
    X, y = sample(80, 8)
    there = np.random.default_rng(8).random(80) < 0.7
    want = sn.fit(X[there], y[there], **shape)
    assert same(sn.fit(X, y, weights=there * 1.0, **shape).u, want.u)
    missing = sn.fit(X, np.where(there, y, np.nan), **shape)
    assert same(missing.u, want.u)
    assert missing.count == want.count == there.sum()


def test_constant_of_weighted_targets() -> None:
    """Where only the mean can be fitted it is the weighted one."""
    fit = sn.fit(np.ones((3, 2)), [1.0, 2.0, 6.0], weights=[1, 1, 2])
    np.testing.assert_allclose(fit.u(np.ones((1, 2))), 3.75, rtol=1e-14)


# ----------------------------------------------------------------------------------------------------------- outputs


def test_several_outputs() -> None:
    """Of any size, some targets missing; each output has its own scale."""
    X, y = sample(300, 9)
    Y = np.stack([1e3 * y, 1e-3 * X[:, 0] * X[:, 1] - 7e-4, np.full(300, 4.0)], axis=1)
    Y[::7, 0] = np.nan
    Y[::5, 1] = np.nan
    fit = sn.fit(X, Y, cells=4, interaction=sn.Interaction(2, rank=2))
    assert fit.u.space.names == ("x0", "x1", "x2", "output")
    exact = np.stack([1e3 * y, 1e-3 * X[:, 0] * X[:, 1] - 7e-4, np.full(300, 4.0)], axis=1)
    for j, scale in enumerate((np.std(1e3 * y), np.std(exact[:, 1]), 1.0)):
        part = fit.u.restrict(output=j)
        assert root(part(X) - exact[:, j]) <= 2e-2 * scale
    assert np.isfinite(fit.error)


def test_outputs_share_or_not() -> None:
    """One column for both outputs is no part of a single one: each comes in its own units."""
    X, _ = sample(60, 10)
    y = np.sin(3 * X[:, 0])
    for shape in ({"interaction": sn.Interaction(1)}, {"rank": 1}):
        fit = sn.fit(X, np.stack([y, 1e4 * y + 3e4], axis=1), **shape)
        for j, want in enumerate((y, 1e4 * y + 3e4)):
            got = fit.u.restrict(output=j)(X)
            # one product of rank one cannot do the offset of the second; it is off by a share of it
            assert root(got - want) <= (1e-2 if "rank" not in shape else 5.0) * np.std(want)


# ----------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("shape", [{}, {"rank": 1, "cells": 2}])
def test_batches_are_arrays_to_the_last_bit(shape: dict) -> None:
    n = 30 if not shape else 350
    X, y = sample(n, 11)
    want = sn.fit(X, y, **shape)
    cut = [(X[a:b], y[a:b]) for a, b in ((0, 3), (3, 3), (3, 20), (20, n))]
    assert same(sn.fit(cut, **shape).u, want.u)

    def make() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        yield from ((X[k : k + 64], y[k : k + 64], np.ones(len(y[k : k + 64]))) for k in range(0, n, 64))

    assert same(sn.fit(make, **shape).u, want.u)


def test_parts_do_not_depend_on_the_batches() -> None:
    X, y = sample(100, 24)
    cut = [(X[a:b], y[a:b]) for a, b in ((0, 1), (1, 70), (70, 100))]
    one, other = (list(source_of(*s, None).parts(32)) for s in ((X, y), (cut, None)))
    assert [len(rows.points) for rows in one] == [len(rows.points) for rows in other] == [32, 32, 32, 4]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.points, b.points)
        np.testing.assert_array_equal(a.targets, b.targets)


def test_out_of_core_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """With samples beyond what the shape is found on, windows are made anew in every pass: the same numbers."""
    X, y = sample(900, 12)
    parts = [(X[k : k + 100], y[k : k + 100]) for k in range(0, 900, 100)]
    want = sn.fit(X, y, rank=1, cells=2)
    monkeypatch.setattr(module, "GROWING", 500)
    streamed, whole = (sn.fit(*source, rank=1, cells=2) for source in ((parts,), (X, y)))
    assert same(streamed.u, whole.u)
    # the shape and the weights come from 500 of the 900, so near the fit of all and not equal
    assert root(streamed.u(X) - want.u(X)) <= 0.1 * np.std(y)


def test_streamed_sums_are_those_in_memory() -> None:
    """One Levenberg-Marquardt step and one sweep over batches of all sizes equal those over arrays."""
    X, y = sample(500, 13)
    Y = np.stack([y, 2 * y - X[:, 0]], axis=1)
    Y[::9, 1] = np.nan
    source = source_of([(X[:7], Y[:7]), (X[7:], Y[7:])], None, None)
    setup = set_up(
        source.summary(),
        None,
        interaction=None,
        rank=1,
        cells=2,
        degree=3,
        penalty=1e-4,
        ridge=0.0,
        names=None,
        squared=True,
    )
    rng = np.random.default_rng(0)
    columns = Columns(setup.axes, ((0, 1, 2, 3), (4,)), (2, 1))
    factors = [rng.random((a.size, len(k))) for a, k in zip(setup.axes, columns.active, strict=True)]
    model = Model(columns, factors, setup.penalty)
    table = source.table(np.arange(500), setup.units)
    held, streamed = table.samples(setup.axes), Streamed(source, setup.axes, setup.units, setup.inputs)
    for method in ("lm", "als"):
        one, other = (together(s, model, Squared(), method, steps=1, tol=0.0) for s in (held, streamed))
        assert abs(one[1] - other[1]) <= 1e-12 * one[1]
        for a, b in zip(one[0].factors, other[0].factors, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-8)


def test_hdf5_datasets(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    X, y = sample(300, 14)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["X"], file["y"], file["w"] = X, y, np.linspace(1, 2, 300)
        disk = sn.fit(file["X"], file["y"], weights=file["w"], rank=1)
    assert same(disk.u, sn.fit(X, y, weights=np.linspace(1, 2, 300), rank=1).u)


# ------------------------------------------------------------------------------------------------------------ arrays


@pytest.mark.parametrize("growing", [20_000, 100])
def test_namespaces_in_and_out(xp: Backend, growing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROWING", growing)
    X, y = sample(200, 15)
    here = xp.asarray(X)
    fit = sn.fit(here, xp.asarray(y), rank=1, cells=2, weights=xp.asarray(np.linspace(1, 2, 200)))
    got = fit.u(here)
    assert namespace(got) is namespace(here)
    assert got.dtype == xp.dtype
    assert device_of(got) == device_of(here)
    rounded = X.astype(xp.host_dtype).astype(float), y.astype(xp.host_dtype).astype(float)
    weights = np.linspace(1, 2, 200).astype(xp.host_dtype).astype(float)
    want = sn.fit(*rounded, rank=1, cells=2, weights=weights)
    # fitted in float64, whatever comes in; the function is rounded at the end
    np.testing.assert_allclose(to_host(got), want.u(rounded[0]), rtol=0, atol=1e3 * xp.eps + 1e-7)


def test_lists_integers_and_single_precision() -> None:
    X, y = sample(60, 16)
    want = sn.fit(X, y, rank=1)
    assert same(sn.fit(X.tolist(), y.tolist(), rank=1).u, want.u)
    integers = np.arange(40)[:, None] % 7
    fit = sn.fit(integers, integers[:, 0] ** 2, rank=1)
    assert fit.error <= 1e-3
    assert fit.u.dtype == "float64"
    single = sn.fit(X.astype(np.float32), y.astype(np.float32), rank=1)
    assert single.u(X.astype(np.float32)).dtype == np.float32


def test_seed_and_names() -> None:
    X, y = sample(150, 17)
    one, other = (sn.fit(X, y, rank=2, seed=s, names=("a", "b", "c")) for s in (3, 3))
    assert same(one.u, other.u)
    assert one.u.space.names == ("a", "b", "c")
    assert set(one.penalty) == {"a", "b", "c"}


def test_callback_sees_the_history() -> None:
    X, y = sample(150, 18)
    seen: list[sn.FitRecord] = []
    fit = sn.fit(X, y, rank=3, callback=seen.append)
    assert tuple(seen) == fit.history
    assert [r.size for r in seen] == sorted(r.size for r in seen)


def test_penalty_is_passed_on() -> None:
    X, y = sample(200, 19)
    fit = sn.fit(X, y, rank=1, penalty={"x0": 1e-3})
    assert fit.penalty == {"x0": 1e-3, "x1": 0.0, "x2": 0.0}
    # what is infinitely stiff in an axis is a straight line there
    stiff = sn.fit(X, y, rank=1, penalty={"x0": 1e6})
    points = np.column_stack([[0.1, 0.5, 0.9], np.full((3, 2), 0.5)])
    assert abs(np.diff(stiff.u(points), 2)[0]) <= 1e-3 * np.abs(stiff.u(points)).max()


# --------------------------------------------------------------------------------------------------- few, odd, wrong


def test_one_sample_and_two() -> None:
    one = sn.fit([[0.3, 0.4]], [2.5])
    assert one.status is STATUS.CONSTANT
    np.testing.assert_allclose(one.u([[0.3, 0.4]]), [2.5])
    two = sn.fit([[0.0, 0.0], [1.0, 2.0]], [1.0, 3.0])
    assert np.isfinite(two.u([[0.5, 1.0]])).all()
    assert two.status is not STATUS.STEP_LIMITED
    for shape in ({"rank": 2}, {"interaction": sn.Interaction(1)}):
        fit = sn.fit([[0.0, 0.0], [1.0, 2.0]], [1.0, 3.0], **shape)
        assert fit.status is STATUS.UNDERDETERMINED
        assert np.isfinite(fit.u([[0.0, 0.0], [0.5, 1.0], [1.0, 2.0]])).all()


def test_fewer_samples_than_coefficients() -> None:
    X, y = sample(15, 20)
    fit = sn.fit(X, y, rank=2, cells=4)
    assert fit.status is STATUS.UNDERDETERMINED
    assert fit.freedom <= fit.u.size
    grid = np.random.default_rng(0).random((50, 3)) * np.ptp(X, axis=0) + X.min(axis=0)
    # roughness keeps the function near the data
    assert np.abs(fit.u(grid) - y.mean()).max() <= 20 * np.ptp(y)


def test_constant_inputs_and_targets() -> None:
    X, _ = sample(100, 21)
    X[:, 1] = 7.0
    fit = sn.fit(X, X[:, 0] ** 2)
    assert "x1" in fit.inert
    assert fit.error <= 1e-3
    flat = sn.fit(X, np.full(100, -3.25))
    assert flat.status is STATUS.CONSTANT
    np.testing.assert_allclose(flat.u(X), -3.25, rtol=1e-13)
    assert flat.inert == ("x0", "x1", "x2")
    nothing = sn.fit(np.ones((5, 2)), np.arange(5.0))
    assert nothing.status is STATUS.CONSTANT
    np.testing.assert_allclose(nothing.u(np.ones((1, 2))), 2.0)
    both = sn.fit(X, np.array([1.0, 2.0]) * np.ones((100, 2)))
    assert both.status is STATUS.CONSTANT
    np.testing.assert_allclose(both.u.restrict(output=1)(X), 2.0)


def test_targets_far_from_zero() -> None:
    """A small variation on a large mean: the spread is that of the variation, and it is fitted as without the mean."""
    X, y = sample(200, 22)
    fit = sn.fit(X, 1e4 + y, interaction=sn.Interaction(2))
    assert root(fit.u(X) - 1e4 - y) <= 0.02 * np.std(y)


def test_duplicates() -> None:
    X, y = sample(40, 23)
    fit = sn.fit(np.repeat(X, 5, axis=0), np.repeat(y, 5), rank=1, cells=2)
    assert np.isfinite(fit.u(X)).all()
    assert fit.count == 200


X0, Y0 = np.random.default_rng(0).random((20, 2)), np.arange(20.0)


def spoiled(array: np.ndarray, at: object, value: float) -> np.ndarray:
    array = array.copy()
    array[at] = value
    return array


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((spoiled(X0, (3, 1), np.nan), Y0), {}, ValueError, "`X` has nan in row 3, column 1: drop the row"),
        ((spoiled(X0, (0, 0), -np.inf), Y0), {}, ValueError, "`X` has -inf in row 0"),
        ((X0, spoiled(Y0, 5, np.inf)), {}, ValueError, "`y` has an infinity in row 5: a missing target is NaN"),
        ((X0, Y0 * np.nan), {}, ValueError, "`y` has no finite value with positive weight in any row"),
        ((X0, np.stack([Y0, Y0 * np.nan], axis=1)), {}, ValueError, "no finite value with positive weight in column 1"),
        ((X0, Y0), {"weights": 0 * Y0}, ValueError, "`y` has no finite value with positive weight"),
        ((X0, Y0), {"weights": Y0 - 1}, ValueError, "`weights` are not finite numbers >= 0"),
        ((X0, Y0), {"weights": Y0 * np.nan}, ValueError, "`weights` are not finite numbers >= 0"),
        ((X0, Y0), {"weights": Y0[1:]}, ValueError, r"`weights` has shape \(19,\), expected \(20,\)"),
        ((X0[0], Y0), {}, ValueError, r"`X` has shape \(2,\) and `y` \(20,\), expected \(n, d\)"),
        ((X0, Y0[1:]), {}, ValueError, r"`X` has shape \(20, 2\) and `y` \(19,\)"),
        ((X0[:0], Y0[:0]), {}, ValueError, "there are no samples: `X` is empty"),
        ((X0 + 1j, Y0), {}, TypeError, "`X` has dtype complex128, expected real numbers"),
        ((X0,), {}, TypeError, "`y` is missing and `X` is ndarray"),
        ((iter([(X0, Y0)]),), {}, TypeError, "`X` is an iterator, which can be read once only"),
        (([X0, Y0],), {}, TypeError, "a batch is ndarray, expected a tuple"),
        (([(X0, Y0), (X0[:, :1], Y0)],), {}, ValueError, "a batch has 1 inputs and 1 outputs, the first 2 and 1"),
        (([(X0, Y0)],), {"weights": Y0}, TypeError, "`weights` is given beside batches"),
        (([],), {}, ValueError, "there are no samples"),
        ((X0, Y0), {"loss": "huber"}, ValueError, "`loss` is 'huber'"),
        ((X0, Y0), {"loss": "logistic"}, ValueError, "`y` runs from 0.0 to 19.0, expected 0 and 1"),
        ((X0, Y0), {"method": "sgd"}, ValueError, "`method` is 'sgd'"),
        ((X0, Y0), {"penalty": "auto"}, ValueError, "`penalty` is 'auto', expected 'gcv'"),
        ((X0, Y0), {"penalty": -1.0}, ValueError, r"`penalty\['x0'\]` is -1.0, expected a number >= 0"),
        ((X0, Y0), {"penalty": True}, ValueError, r"`penalty\['x0'\]` is True"),
        ((X0, Y0), {"penalty": {"x9": 1.0}}, ValueError, "`penalty` names the axis 'x9', expected some of x0, x1"),
        ((X0, Y0), {"names": ("a",)}, ValueError, "`names` has 1 names, expected 2"),
        ((X0, Y0), {"names": ("a", "a")}, ValueError, "expected 2 different names"),
        ((X0, Y0), {"names": ("a", "output")}, ValueError, "an axis is named 'output'"),
        ((X0, Y0), {"rank": 0}, ValueError, "rank"),
        ((X0, Y0), {"cells": 0}, ValueError, "cells"),
        ((X0, Y0), {"degree": 0}, ValueError, "degree"),
        ((X0, Y0), {"max_steps": 0}, ValueError, "max_steps"),
        (
            (X0, Y0),
            {"rank": 1, "interaction": sn.Interaction(1)},
            ValueError,
            "`rank` and `interaction` are both given",
        ),
        ((X0, Y0), {"interaction": 2}, TypeError, "`interaction` is int, expected e.g. sn.Interaction"),
        ((X0, Y0), {"interaction": sn.Interaction(2, format="tt")}, ValueError, "`interaction` has format 'tt'"),
        ((X0, Y0, "x"), {}, TypeError, "`space` is str, expected a sn.TensorSpace"),
        ((X0, Y0, sn.TensorSpace(x=sn.BSpline((0, 1), cells=2))), {}, ValueError, "`space` has 1 axes"),
        (
            (X0, Y0, sn.TensorSpace(x=sn.BSpline((0, 1), cells=2), y=sn.BSpline((0, 0.5), cells=2))),
            {},
            ValueError,
            "axis 'y': the points run from .*: widen the axis",
        ),
        (
            (X0, Y0, sn.TensorSpace(x=sn.BSpline((0, 1), cells=2), y=sn.BSpline((0, 1), cells=2))),
            {"cells": 3},
            ValueError,
            "`names` and `cells` are given beside `space`",
        ),
    ],
)
def test_bad_input(arguments: tuple, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sn.fit(*arguments, **options)


def test_a_function_that_gives_the_same_iterator_twice() -> None:
    once = iter([(X0, Y0)])
    with pytest.raises(ValueError, match="gave 0 rows when it was read again"):
        sn.fit(lambda: once)


def test_page() -> None:
    """The examples of docs/fitting.md run."""
    text = (Path(__file__).parents[1] / "docs" / "fitting.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    scope: dict = {}
    for block in blocks:
        exec(compile(block, "fitting.md", "exec"), scope)


def test_inputs_that_do_not_vary_leave_the_spread_as_noise():
    y = np.random.default_rng(0).standard_normal(40)
    fit = sn.fit(np.ones((40, 2)), y)
    assert (fit.status, fit.error) == (sn.FitStatus.CONSTANT, 1.0)
    assert fit.noise == pytest.approx(y.std(ddof=1), rel=1e-12)  # round-off of sums in another order
