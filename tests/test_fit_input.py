"""What samples may be: masked, tiny, huge, in frames and files, with rows that do not count; and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Backend

import sepnet as sn
from sepnet.backends.arrays import to_host
from sepnet.solvers.fit_source import source_of

COUNT = 60
X = np.random.default_rng(0).random((COUNT, 2))
Y = np.sin(3 * X[:, 0]) + X[:, 1] ** 2 / 2
W = np.random.default_rng(1).uniform(0.5, 2.0, COUNT)
QUICK: dict[str, Any] = {"interaction": sn.Interaction(1), "cells": 2, "penalty": 1e-6}
# a fit each: as of the solvers, ten examples
FEW = settings(max_examples=10)
BITS = st.integers(0, 2**32 - 1)


def values(fit: sn.Fit, points: np.ndarray = X) -> np.ndarray:
    return np.asarray(to_host(fit.u(points, outside="linear")))


def fitted(points: Any = X, y: Any = Y, **options: Any) -> np.ndarray:
    return values(sn.fit(points, y, **QUICK, **options))


class Frame:
    """As much of a data frame, or of a column of one, as a fit may count on."""

    def __init__(self, table: np.ndarray) -> None:
        self._table = table
        self.shape, self.iloc = table.shape, self

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, key: Any) -> Any:
        raise KeyError(key)  # brackets name columns

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._table, dtype=dtype)


# --------------------------------------------------------------------------------------------------------- masked


@given(seed=BITS, whole=st.booleans())
def test_masked_targets_are_missing_ones(seed: int, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(-5, 5, (30, 2)) if whole else rng.standard_normal((30, 2))
    mask = rng.random((30, 2)) < 0.3
    mask[0] = False
    points, nan = rng.random((30, 2)), np.where(mask, np.nan, y)
    masked = np.ma.array(y, mask=mask)
    for source in ((points, masked), ([(points[:11], masked[:11]), (points[11:], masked[11:])], None)):
        summary, want = source_of(*source, None).summary(), source_of(points, nan, None).summary()
        assert np.array_equal(summary.present, (~mask).sum(axis=0))
        assert np.array_equal(summary.means, want.means)
        assert np.array_equal(summary.scales, want.scales)


def test_a_fit_to_masked_targets() -> None:
    mask = np.arange(COUNT) >= COUNT - 10
    fit = sn.fit(X, np.ma.array(np.where(mask, 1e6, Y), mask=mask), **QUICK)
    assert fit.status is not sn.FitStatus.CONSTANT
    assert fit.count == COUNT - 10
    assert np.array_equal(values(fit), fitted(y=np.where(mask, np.nan, Y)))
    # no mask that is set is no mask
    assert np.array_equal(fitted(np.ma.array(X), np.ma.array(Y), weights=np.ma.array(W)), fitted(weights=W))


def test_masked_points_and_weights_are_refused() -> None:
    points = np.ma.array(X, mask=np.zeros_like(X, dtype=bool))
    points[4, 1] = np.ma.masked
    weights = np.ma.array(W, mask=np.arange(COUNT) == 7)
    for source in ((points, Y), ([(points[:3], Y[:3]), (points[3:], Y[3:])],)):
        with pytest.raises(ValueError, match="`X` has nan in row 4, column 1: drop the row or fill"):
            sn.fit(*source, **QUICK)
    with pytest.raises(ValueError, match="`weights` are not finite numbers >= 0: nan in row 7"):
        sn.fit(X, Y, weights=weights, **QUICK)


def test_estimators_see_masks() -> None:
    pytest.importorskip("sklearn")
    mask = np.arange(COUNT) % 7 == 3
    for model in (sn.AdditiveRegressor(penalty=1e-6, box=(0, 1)), sn.KhronosRegressor(rank=1, cells=2)):
        masked, missing = (
            model.fit(X, y).predict(X)
            for y in (np.ma.array(np.where(mask, 1e3, Y), mask=mask), np.where(mask, np.nan, Y))
        )
        assert np.array_equal(masked, missing)
        with pytest.raises(ValueError, match="NaN"):
            model.fit(np.ma.array(X, mask=X > 0.9), Y)
        with pytest.raises(ValueError, match="NaN"):
            model.fit(X, Y, np.ma.array(W, mask=mask))


# ----------------------------------------------------------------------------------------------------- any units


@given(power=st.integers(-960, 960), seed=BITS)
def test_moments_scale_with_the_targets(power: int, seed: int) -> None:
    """Powers of two are exact, so the moments scale to the last bit; numbers of size one leave room for 60 more."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((20, 2)) + rng.uniform(-100, 100, 2)
    one, other = (source_of(rng.random((20, 1)), t, None).summary() for t in (y, np.ldexp(y, power)))
    assert np.array_equal(np.ldexp(one.means, power), other.means)
    assert np.array_equal(np.ldexp(one.scales, power), other.scales)
    np.testing.assert_allclose(one.scales, y.std(axis=0), rtol=1e-10)  # a mean of 100 costs four digits of its square
    np.testing.assert_allclose(one.means, y.mean(axis=0), rtol=1e-10)


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-160, 1e160, 1e200, 1e300])
def test_tiny_and_huge_targets(size: float) -> None:
    fit = sn.fit(X, Y * size, **QUICK)
    assert fit.status is sn.fit(X, Y, **QUICK).status
    # a product with 1e200 is rounded, and the fit amplifies what is rounded by its condition
    np.testing.assert_allclose(values(fit) / size, fitted(), rtol=1e-10)


def test_targets_beyond_float64_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`y` runs from .* too far for float64: divide the targets"):
        sn.fit(X, np.where(Y > 1, 1.7e308, -1.7e308), **QUICK)
    with pytest.raises(ValueError, match=r"`y` runs from .* too close for float64: multiply the targets"):
        sn.fit(X, Y * 1e-315, **QUICK)
    equal = sn.fit(X, 0 * Y + 1e-315, **QUICK)  # nothing is wrong with numbers that are the same
    assert equal.status is sn.FitStatus.CONSTANT
    assert np.array_equal(values(equal), 0 * Y + 1e-315)


def test_parts_that_vary_little_do_not_hide_the_others() -> None:
    """Sums of parts of very different size are brought to one scale, whichever comes first."""
    y = np.zeros(3 * 8192)
    y[8192 : 2 * 8192] = 1e-200 * np.arange(8192)
    y[2 * 8192 :] = 1e-170 * np.arange(8192)
    points = np.linspace(0, 1, len(y))[:, None]
    for targets in (y, y[::-1]):
        summary = source_of(points, targets, None).summary()
        assert summary.scales[0] * 1e170 == pytest.approx((y * 1e170).std(), rel=1e-12)
        assert summary.means[0] * 1e170 == pytest.approx((y * 1e170).mean(), rel=1e-12)


@pytest.mark.parametrize("size", [1e-320, 1e-310, 1e-200, 1e-31, 1.0, 1e31, 1e200, 1e300])
def test_weights_of_any_unit(size: float) -> None:
    weights = W * size
    want = sn.fit(X, Y, weights=weights / size, **QUICK)
    fit = sn.fit(X, Y, weights=weights, **QUICK)
    # numbers of 1e-310 and less have but few digits, which `weights / size` has, too, up to its own rounding
    np.testing.assert_allclose(values(fit), values(want), rtol=1e-4 if size < 1e-305 else 1e-10)
    assert fit.error == pytest.approx(want.error, rel=1e-3)
    assert np.isfinite([fit.noise, fit.freedom, fit.gcv]).all()
    cut = [(X[a:b], Y[a:b], weights[a:b]) for a, b in ((0, 7), (7, 40), (40, COUNT))]
    assert np.array_equal(values(sn.fit(cut, **QUICK)), values(fit))


def test_weights_of_any_unit_and_a_shape_that_is_found() -> None:
    """Folds, F tests and cross-validation see them too."""
    points = np.random.default_rng(5).random((80, 2))
    y, w = points[:, 0] * points[:, 1], np.random.default_rng(6).uniform(0.5, 2.0, 80)
    want = sn.fit(points, y, weights=w)
    for size in (1e-200, 1e200):
        fit = sn.fit(points, y, weights=w * size)
        assert fit.status is want.status
        np.testing.assert_allclose(values(fit, points), values(want, points), rtol=0, atol=1e-6 * y.std())


def test_weights_of_usual_size_are_left_as_they_are() -> None:
    """Bands and evidence speak of the noise of a sample of weight one."""
    for size in (1e-30, 1.0, 1e30):
        rows = next(source_of(X, Y, W * size).parts())
        assert np.array_equal(rows.weights, W * size)
    for size in (1e-320, 1e-40, 1e40, 1e307):
        rows = next(source_of(X, Y, W * size).parts())
        assert 1.0 <= rows.weights.max() < 2.0
        assert np.array_equal(rows.weights / rows.weights.max(), W * size / np.max(W * size))


# ------------------------------------------------------------------------------------------------ frames and files


@pytest.mark.parametrize("whole", [True, False])
def test_frames_in_every_place(whole: bool) -> None:
    if whole:
        got = fitted(Frame(X), Frame(Y), weights=Frame(W))
    else:
        cut = [tuple(Frame(a[part]) for a in (X, Y, W)) for part in (slice(0, 9), slice(9, COUNT))]
        got = fitted(cut, None)
    assert np.array_equal(got, fitted(weights=W))


def test_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    frame, y, w = pandas.DataFrame(X, columns=["a", "b"]), pandas.Series(Y), pandas.Series(W)
    y[3] = None
    want = fitted(y=np.where(np.arange(COUNT) == 3, np.nan, Y), weights=W)
    assert np.array_equal(fitted(frame, y, weights=w), want)
    assert np.array_equal(fitted([(frame[:9], y[:9], w[:9]), (frame[9:], y[9:], w[9:])], None), want)


def test_files_in_batches(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    want = fitted(weights=W)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        for k, part in enumerate((slice(0, 9), slice(9, COUNT))):
            for name, array in (("X", X), ("y", Y), ("w", W)):
                file[f"{name}{k}"] = array[part]
        cut = [(file[f"X{k}"], file[f"y{k}"], file[f"w{k}"]) for k in range(2)]
        assert np.array_equal(fitted(cut, None), want)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_lists_matrices_and_none() -> None:
    want = fitted(weights=W)
    assert np.array_equal(fitted(np.asmatrix(X), Y, weights=W.tolist()), want)
    assert np.array_equal(fitted(X.tolist(), np.asmatrix(Y).T, weights=W), want)
    assert np.array_equal(fitted([(np.asmatrix(X), Y.tolist(), W.tolist())], None), want)
    holes = [None if k == 5 else v for k, v in enumerate(Y.tolist())]
    assert np.array_equal(fitted(y=holes), fitted(y=np.where(np.arange(COUNT) == 5, np.nan, Y)))


def test_single_precision_of_frames() -> None:
    single = X.astype(np.float32)
    for source in ((Frame(single), Y), ([(Frame(single), Y)],)):
        assert sn.fit(*source, **QUICK).u.dtype == "float32"


# ------------------------------------------------------------------------------------------ rows that do not count


@given(seed=BITS)
def test_rows_that_do_not_count_are_not_looked_at(seed: int) -> None:
    """Neither points nor targets of rows without weight, nor points of rows without target."""
    rng = np.random.default_rng(seed)
    n = 40
    points, y, w = rng.random((n, 2)), rng.standard_normal((n, 2)), rng.uniform(0.5, 2.0, n)
    kind = rng.integers(0, 4, n)  # 0 and 1 count, 2 has no weight, 3 no target
    kind[0] = 0
    w[kind == 2], y[kind == 3] = 0.0, np.nan
    counts = kind < 2
    X, Y = points.copy(), y.copy()
    X[~counts] = rng.choice([np.nan, np.inf, -np.inf, 1e300], (n, 2))[~counts]
    Y[kind == 2] = rng.choice([np.nan, np.inf, 7.0], (n, 2))[kind == 2]
    for source in ((X, Y, w), ([(X[:13], Y[:13], w[:13]), (X[13:], Y[13:], w[13:])], None, None)):
        mine, only = source_of(*source), source_of(points[counts], y[counts], w[counts])
        for got, want in zip(mine.parts(16), only.parts(16), strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(got[:3], want[:3], strict=True))
        assert np.array_equal(mine.summary().high, only.summary().high)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_count_are_complete(value: float) -> None:
    points, weights = X.copy(), W.copy()
    weights[:5] = 0.0
    points[[2, 9], 1] = value
    with pytest.raises(ValueError, match=f"`X` has {value} in row 9, column 1"):
        sn.fit(points, Y, weights=weights, **QUICK)
    several = np.stack([Y, Y], axis=1)
    several[[2, 8], 0] = np.inf
    several[8, 1] = np.nan
    with pytest.raises(ValueError, match="`y` has an infinity in row 8"):
        sn.fit([(X[:4], several[:4], weights[:4]), (X[4:], several[4:], weights[4:])], **QUICK)
    weights[1] = value
    with pytest.raises(ValueError, match=f"`weights` are not finite numbers >= 0: {value} in row 1"):
        sn.fit(X, Y, weights=weights, **QUICK)


def test_zero_weights_in_every_library(xp: Backend) -> None:
    points, weights = X.copy(), W.copy()
    weights[::4] = 0.0
    points[::4] = np.nan
    here = weights > 0
    got = sn.fit(xp.asarray(points), xp.asarray(Y), weights=xp.asarray(weights * 2.0**-120), **QUICK)
    want = sn.fit(xp.asarray(X[here]), xp.asarray(Y[here]), weights=xp.asarray(weights[here]), **QUICK)
    # a power of two in the weights is exact
    probe = xp.asarray(X[here])
    assert np.array_equal(to_host(got.u(probe)), to_host(want.u(probe)))


# -------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("arguments", "weights", "error", "message"),
    [
        ((X, (Y + 1j).tolist()), None, TypeError, "`y` has dtype complex128, expected real numbers"),
        ((X, Y + 1j), None, TypeError, "`y` has dtype complex128"),
        (((X + 1j).tolist(), Y), None, TypeError, "`X` has dtype complex128"),
        ((X, Y), (W + 1j).tolist(), TypeError, "`weights` has dtype complex128"),
        (([(X, (Y + 1j).tolist())],), None, TypeError, "`y` has dtype complex128"),
        ((X, np.ma.array(Y + 1j, mask=Y > 1)), None, TypeError, "`y` has dtype complex128"),
        ((X, [str(v) for v in Y]), None, TypeError, "`y` has dtype <U.*, expected real numbers: encode it first"),
        ((X, ["a", None] * (COUNT // 2)), None, TypeError, "`y` is list, expected an array of real numbers"),
        (([[0.0], [1.0, 2.0]], [1.0, 2.0]), None, TypeError, "`X` is list, expected an array of real numbers"),
        ((X[:, :0], Y), None, ValueError, r"`X` has shape \(60, 0\) and `y` \(60,\), .* one column at least"),
        (([(X[:, :0], Y)],), None, ValueError, r"`X` has shape \(60, 0\)"),
        ((X, np.zeros((COUNT, 0))), None, ValueError, r"`X` has shape \(60, 2\) and `y` \(60, 0\)"),
        (([(X, Y[1:])],), None, ValueError, r"`X` has shape \(60, 2\) and `y` \(59,\)"),
        (([(X, Y, W[1:])],), None, ValueError, r"`weights` has shape \(59,\), expected \(60,\)"),
        ((X, Y), W[:, None], ValueError, r"`weights` has shape \(60, 1\), expected \(60,\)"),
    ],
)
def test_refused(arguments: tuple, weights: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sn.fit(*arguments, weights=weights, **QUICK)


# ------------------------------------------------------------------------------------------------------ additive sums


def additive(**options: Any) -> Any:
    pytest.importorskip("sklearn")
    return sn.AdditiveRegressor(penalty=1e-6, box=(0, 1), cells=3, **options)


@given(
    level=st.sampled_from([0.0, 1.0, -1e8, 1e10]),
    other=st.sampled_from([0.0, 1e3]),
    ridge=st.sampled_from([0.0, 0.1]),
    cuts=st.lists(st.integers(1, COUNT - 1), max_size=3),
)
@FEW
def test_sums_do_not_see_the_level(level: float, other: float, ridge: float, cuts: list[int]) -> None:
    """Also where the batches have levels of their own, a step of the first input."""
    y = Y + other * (X[:, 0] > 0.5)
    want = additive(ridge=ridge).fit(X, y, W)
    whole, model = additive(ridge=ridge).fit(X, y + level, W), additive(ridge=ridge)
    order = np.argsort(X[:, 0])
    for part in np.split(order, sorted(set(cuts))):
        model.partial_fit(X[part], y[part] + level, W[part])
    # targets are rounded by eps times the level, predictions again, and the solution amplifies round-off of both
    size = np.finfo(float).eps * (abs(level) * 1e2 + y.std() * 1e6)
    for mine in (whole, model):
        np.testing.assert_allclose(mine.predict(X) - level, want.predict(X), rtol=0, atol=size)
        assert mine.fit_.status is want.fit_.status
        # an error moves by no more than what targets are rounded by, relative to their spread
        moved = np.finfo(float).eps * abs(level) + 1e-8
        assert mine.fit_.error == pytest.approx(want.fit_.error, rel=1e-6, abs=moved / y.std())
        assert mine.fit_.freedom == pytest.approx(want.fit_.freedom, rel=1e-6)
        assert mine.fit_.noise == pytest.approx(want.fit_.noise, rel=1e-6, abs=2 * moved)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_the_freedom_of_sums_does_not_see_the_order(ridge: float) -> None:
    """Constants move between the axes freely: that direction is round-off in the data, and all but free of penalty."""
    want = additive(ridge=ridge).fit(X, Y, W).fit_.freedom
    order = np.argsort(X[:, 0])
    for cut in (1, *range(2, COUNT - 2, 6), COUNT - 1):
        model = additive(ridge=ridge)
        for part in np.split(order, [cut]):
            model.partial_fit(X[part], Y[part], W[part])
        assert model.fit_.freedom == pytest.approx(want, rel=1e-11)  # eps by the condition of the rest, 1e4


@pytest.mark.parametrize("size", [1e-320, 1e-200, 1e200, 1e300])
def test_sums_of_weights_of_any_unit(size: float) -> None:
    weights = W * size
    want, model = additive().fit(X, Y, weights / size), additive()
    for part in np.split(np.arange(COUNT), [20, 21]):
        model.partial_fit(X[part], Y[part], weights[part])
    # numbers of 1e-320 have three digits, which the sums of batches round once more
    np.testing.assert_allclose(model.predict(X), want.predict(X), rtol=1e-3 if size < 1e-305 else 1e-10)
    assert model.fit_.noise == pytest.approx(want.fit_.noise, rel=1e-2 if size < 1e-305 else 1e-6)


def test_sums_beyond_float64_are_refused() -> None:
    for size in (1e-200, 1e200):
        with pytest.raises(ValueError, match="beyond the squares of float64: multiply or divide the targets"):
            additive().fit(X, Y * size)
    model = additive().fit(X, Y, np.full(COUNT, 2e306))
    with pytest.raises(ValueError, match="`sample_weight` adds up to inf"):
        model.partial_fit(X, Y, np.full(COUNT, 2e306))
    for value in (0.0, 1e-300, 0.1, 1e300):
        flat = additive().fit(X, 0 * Y + value)
        assert flat.fit_.status is sn.FitStatus.CONSTANT
        np.testing.assert_allclose(flat.predict(X), value, rtol=1e-14)
