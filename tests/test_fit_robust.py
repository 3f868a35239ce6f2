"""Fits of data that are awkward without being noisy: far means, columns of no use, hidden products, interruptions."""

from __future__ import annotations

import numpy as np
import pytest

import sepnet as sn


def smooth(X: np.ndarray) -> np.ndarray:
    return np.asarray(np.sin(3 * X[:, 0]) * X[:, 1] + X[:, 2])


@pytest.mark.parametrize("options", [{}, {"rank": 3}, {"interaction": sn.Interaction(2)}], ids=["own", "rank", "pairs"])
def test_a_far_mean_costs_nothing(options: dict[str, object]) -> None:
    """Means up to 1e9 times the spread: the error is that without, or the round-off of the targets."""
    X = np.random.default_rng(0).random((1000, 3))
    near = sn.fit(X, smooth(X), **options).error  # type: ignore[arg-type]
    for mean in (-50.0, 1e6, 1e9):
        fit = sn.fit(X, smooth(X) + mean, **options)  # type: ignore[arg-type]
        assert fit.error <= 3 * near + 1e-5 + 1e-15 * abs(mean)
        assert float(fit.u(X).mean()) == pytest.approx(float(smooth(X).mean()) + mean, abs=1e-3, rel=1e-14)


def test_a_constant_output_leaves_the_others_alone() -> None:
    X = np.random.default_rng(0).random((300, 3))
    both = sn.fit(X, np.stack([np.full(300, 5e6), smooth(X)], axis=1), rank=3)
    alone = sn.fit(X, smooth(X), rank=3)
    rest = both.u.restrict(output=1)(X) - smooth(X)
    assert np.sqrt(np.mean(rest**2)) / np.std(smooth(X)) <= 3 * alone.error + 1e-3
    np.testing.assert_allclose(both.u.restrict(output=0)(X), 5e6, rtol=1e-6)


@pytest.mark.parametrize("order", [2, 3])
def test_a_constant_column_takes_no_part(order: int) -> None:
    """Also where an interaction asks for it, and where it varies by round-off."""
    rng = np.random.default_rng(1)
    X = rng.random((200, 3))
    for column in (np.full(200, 0.5), 0.5 + 1e-16 * np.arange(200)):
        points = np.column_stack([X, column])
        fit = sn.fit(points, smooth(X), interaction=sn.Interaction(order))
        assert fit.inert == ("x3",)
        low, high = fit.u.space.axes["x3"].domain
        ends = [np.column_stack([X[:20], np.full(20, end)]) for end in (low, high)]
        np.testing.assert_array_equal(fit.u(ends[0]), fit.u(ends[1]))


def test_a_constant_is_the_mean_where_the_axes_vanish() -> None:
    space = sn.TensorSpace(a=sn.BSpline((0, 1), cells=4, zero="both"), b=sn.BSpline((0, 1), cells=4))
    fit = sn.fit(np.random.default_rng(0).random((50, 2)), np.full(50, 2.0), space)
    assert fit.status is sn.FitStatus.CONSTANT
    np.testing.assert_allclose(fit.u([[0.0, 0.5], [0.5, 0.5], [1.0, 1.0]]), 2.0)


@pytest.mark.parametrize("seed", [5, 8, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (10, 11))])
def test_a_product_without_main_effects_is_found_in_few_samples(seed: int) -> None:
    """A start of which the axes are constants sees nothing: some are tried."""
    X = np.random.default_rng(seed).random((150, 4))
    fit = sn.fit(X, (X[:, 0] - 0.5) * (X[:, 1] - 0.5))
    assert fit.error < 1e-6
    assert fit.inert == ("x2", "x3")


@pytest.mark.parametrize("count", [200, pytest.param(400, marks=pytest.mark.slow)])
def test_pairs_are_not_held_back_by_the_additive_fit(count: int) -> None:
    """Its weights are large on axes that do nothing alone."""
    errors = []
    for seed in range(4):
        X = np.random.default_rng(seed).random((count, 3))
        y = np.sin(2 * np.pi * X[:, 0]) * np.sin(np.pi * X[:, 1]) + X[:, 2]
        errors.append(sn.fit(X, y, interaction=sn.Interaction(2), cells=5).error)
    # the best function on 5 cells has 3e-3
    assert max(errors) < 0.01


def test_an_interruption_while_the_shape_is_sought_keeps_the_best() -> None:
    X = np.random.default_rng(0).random((1500, 3))
    seen: list[sn.FitRecord] = []

    def stop(record: sn.FitRecord) -> None:
        seen.append(record)
        if len(seen) == 3:
            raise KeyboardInterrupt

    fit = sn.fit(X, smooth(X), callback=stop)
    assert fit.status is sn.FitStatus.INTERRUPTED
    assert fit.error <= 2 * min(record.check for record in seen)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"tol": -1}, ValueError, "`tol` is -1, expected a number >= 0"),
        ({"tol": float("nan")}, ValueError, "`tol` is nan"),
        ({"tol": "a"}, ValueError, "`tol` is 'a'"),
        ({"loss": ["squared"]}, ValueError, "`loss` is"),
        ({"names": (1, 2, 3)}, TypeError, "`names` is"),
    ],
)
def test_bad_options_name_themselves(options: dict[str, object], error: type[Exception], words: str) -> None:
    X = np.random.default_rng(0).random((20, 3))
    with pytest.raises(error, match=words):
        sn.fit(X, smooth(X), **options)  # type: ignore[arg-type]


def test_noise_of_what_has_none() -> None:
    """A logistic loss has no noise; constant inputs leave the whole spread, with one degree of freedom used."""
    X = np.random.default_rng(0).random((60, 2))
    assert np.isnan(sn.fit(X, (X[:, 0] > 0.5) * 1.0, loss="logistic", rank=1).noise)
    fit = sn.fit(np.ones((4, 1)), np.arange(4.0))
    assert fit.noise == pytest.approx(np.std(np.arange(4.0), ddof=1))
