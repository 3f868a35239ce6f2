"""Fits under the prior of the largest evidence: the likelihood, its gradient, and the mean given the samples."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import sepnet as sn
from sepnet.bases import Basis, BSpline, Fourier, Legendre
from sepnet.solvers.evidence import FitPrior, _Axis, _grams, _Problem, maximise_evidence, norm_of
from tests.support import dev_size

seeds = st.integers(0, 2**31)
BASES: dict[str, Basis] = {
    "a": BSpline((-1, 2), cells=3), "b": BSpline((0, 1), cells=2, degree=1), "c": Legendre((0, 2), 3),
    "d": Fourier((0, 1), 2),
}  # fmt: skip


def samples(seed: int, n: int, bases: dict[str, Basis]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = np.stack([rng.uniform(*basis.domain, n) for basis in bases.values()], axis=1)
    return X, rng.standard_normal(n), rng.uniform(0.2, 3.0, n)


def problem_of(bases: dict[str, Basis], X: np.ndarray, y: np.ndarray, w: np.ndarray) -> _Problem:
    axes = [_Axis(b.tabulate(X[:, i]).toarray(), *_grams(b)) for i, b in enumerate(bases.values())]
    return _Problem(axes, y, w)


def covariance(bases: dict[str, Basis], prior: FitPrior, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The covariance of the field, from the norms that a fit measures in."""
    result, scale = np.full((len(left), len(right)), prior.variance), 1.0
    for i, (name, basis) in enumerate(bases.items()):
        P, constant = norm_of(basis, prior.lengths[name], prior.share)
        scale /= constant
        values = [basis.tabulate(np.ascontiguousarray(points[:, i])).toarray() for points in (left, right)]
        result *= values[0] @ np.linalg.solve(P, values[1].T)
    return result * scale


@dev_size
@given(seed=seeds, several=st.booleans())
def test_gradient_of_the_likelihood(seed: int, several: bool) -> None:
    """Central differences; 1e-6 is their own error, the third derivative times the squared step."""
    problem = problem_of(BASES, *samples(seed, 12, BASES))
    lengths = len(BASES) if several else 1
    theta = np.random.default_rng(seed).uniform(-1, 1, lengths + 3)
    value, gradient = problem.value(theta)
    for i, step in enumerate(1e-4 * np.eye(len(theta))):
        slope = (problem.value(theta + step)[0] - problem.value(theta - step)[0]) / 2e-4
        assert abs(slope - gradient[i]) <= 1e-6 * (1 + abs(value))


@dev_size
@given(seed=seeds)
def test_value_is_the_likelihood(seed: int) -> None:
    """Against scipy's density of the samples."""
    X, y, w = samples(seed, 9, BASES)
    theta = np.random.default_rng(seed).uniform(-1, 1, 4)
    length, share, variance, noise = np.exp(theta)
    prior = FitPrior(dict.fromkeys(BASES, float(length)), float(share), float(variance), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    A = covariance(BASES, prior, X, X) + np.diag(noise / w)
    density = scipy.stats.multivariate_normal(np.zeros(9), A).logpdf(y) + 4.5 * np.log(2 * np.pi)
    # the inverses of the norms have conditions of 1e5
    assert abs(problem_of(BASES, X, y, w).value(theta)[0] + density) <= 1e-9 * (1 + abs(density))


def test_covariance_of_an_axis_is_that_of_matern() -> None:
    """Away from the ends, on cells a third of the length: order 3/2, whose spectrum is ``(1 + l^2 w^2)^-2``."""
    basis, length = BSpline((2, 6), cells=60), 0.05
    points = np.linspace(3.5, 4.5, 21)
    values = basis.tabulate(points).toarray()
    K = values @ _Axis(values, *_grams(basis)).covariance(length)[0] @ values.T
    r = np.abs(points[:, None] - points) / 4.0 / length
    correlation = K / np.sqrt(np.outer(np.diag(K), np.diag(K)))
    # splines of this mesh follow the kink of the covariance's second derivative to a percent
    np.testing.assert_allclose(correlation, (1 + r) * np.exp(-r), atol=0.01)


def noisy(seed: int, n: int = 60, noise: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.random((n, 3))
    return X, np.sin(3 * X[:, 0]) * X[:, 1] + noise * rng.standard_normal(n) + 7.0


def posterior_mean(fit: sn.Fit, X: np.ndarray, y: np.ndarray, w: np.ndarray, points: np.ndarray) -> np.ndarray:
    prior, bases = fit.prior, dict(fit.u.space.items)
    assert prior is not None
    mean = np.average(y, weights=w)
    A = covariance(bases, prior, X, X) + np.diag(prior.noise**2 / w)
    return mean + covariance(bases, prior, points, X) @ scipy.linalg.solve(A, y - mean, assume_a="pos")


@pytest.mark.parametrize("seed", range(3))
def test_fit_is_the_mean_given_the_samples(seed: int) -> None:
    """To a quarter of the posterior's own standard deviation, which the rank is chosen for; the mean in closed form."""
    X, y = noisy(seed)
    w = np.random.default_rng(seed).uniform(0.5, 2.0, len(y))
    fit = sn.fit(X, y, cells=3, penalty="evidence", weights=w)
    points = np.random.default_rng(9).uniform(X.min(0), X.max(0), (200, 3))
    difference = fit.u(points) - posterior_mean(fit, X, y, w, points)
    bases, prior = dict(fit.u.space.items), fit.prior
    assert prior is not None
    A = covariance(bases, prior, X, X) + np.diag(prior.noise**2 / w)
    C = covariance(bases, prior, points, X)
    variance = np.diag(covariance(bases, prior, points, points)) - np.sum(C * scipy.linalg.solve(A, C.T).T, axis=1)
    assert np.sqrt(np.mean(difference**2)) <= 0.25 * np.sqrt(np.mean(variance))
    assert abs(prior.freedom - np.trace(scipy.linalg.solve(A, covariance(bases, prior, X, X)))) <= 1e-6 * prior.freedom
    assert prior.noise == pytest.approx(0.2, rel=0.35)  # four standard errors of 60 samples


def test_full_rank_is_the_mean_exactly() -> None:
    """Two axes of five functions: every function is a sum of five products."""
    X, y = noisy(1)
    X = np.ascontiguousarray(X[:, :2])
    fit = sn.fit(X, y, cells=2, rank=5, penalty="evidence", max_steps=200)
    points = np.random.default_rng(9).uniform(X.min(0), X.max(0), (200, 2))
    mean = posterior_mean(fit, X, y, np.ones(len(y)), points)
    # the steps end where the objective falls by 1e-5 of itself: the function is then known to its root
    assert np.abs(fit.u(points) - mean).max() <= 1e-2 * np.std(y)


def test_units_do_not_matter() -> None:
    """Scale and origin of targets and inputs, and the scale of the weights."""
    X, y = noisy(2)
    first = sn.fit(X, y, penalty="evidence", rank=2)
    second = sn.fit(3 + 10 * X, 1e4 * y - 5e5, penalty="evidence", rank=2, weights=np.full(len(y), 7.0))
    np.testing.assert_allclose(second.u(3 + 10 * X), 1e4 * first.u(X) - 5e5, atol=1e-3 * 1e4 * np.std(y))
    assert first.prior is not None
    assert second.prior is not None
    assert second.prior.variance == pytest.approx(1e8 * first.prior.variance, rel=1e-3)
    assert second.prior.noise == pytest.approx(1e4 * 7**0.5 * first.prior.noise, rel=1e-3)
    assert second.ridge == pytest.approx(first.ridge, rel=1e-3)


def test_lengths_of_their_own_only_where_they_pay() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((120, 4))
    shared = sn.fit(X[:30], rng.standard_normal(30), penalty="evidence", rank=1).prior
    assert shared is not None
    assert len(set(shared.lengths.values())) == 1
    own = sn.fit(X, np.sin(6 * X[:, 0]) + 0.05 * rng.standard_normal(120), penalty="evidence", rank=1)
    assert own.prior is not None
    assert own.prior.lengths["x0"] < min(own.prior.lengths[f"x{i}"] for i in (1, 2, 3))
    assert own.inert == ("x1", "x2", "x3")


def test_few_noisy_samples_do_not_oscillate() -> None:
    """Pure noise: the function is nearly the mean; and every size that can be fitted is."""
    rng = np.random.default_rng(3)
    X = rng.random((80, 3))
    fit = sn.fit(X, rng.standard_normal(80), penalty="evidence")
    assert np.std(fit.u(X)) < 0.35
    for n in (2, 3, 5):
        u = sn.fit(X[:n], X[:n, 0], penalty="evidence").u
        assert np.isfinite(u(X[:n])).all()


def test_bands_hold_the_truth() -> None:
    """Shares over 8 data sets of 200 points each at 90 %, which differ by 0.08 from set to set: within 0.8 and 1."""
    held = []
    for seed in range(8):
        X, y = noisy(seed, n=100)
        fit = sn.fit(X, y, cells=3, penalty="evidence", rank=3)
        points = np.random.default_rng(seed).uniform(X.min(0), X.max(0), (200, 3))
        low, high = sn.confidence(fit, X, y).band(points, level=0.9)
        truth = np.sin(3 * points[:, 0]) * points[:, 1] + 7.0
        held.append(np.mean((low <= truth) & (truth <= high)))
    assert 0.8 <= np.mean(held) <= 1.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"interaction": sn.Interaction(1)}, "interaction"),
        ({"ridge": 0.1}, "ridge"),
        ({"loss": "logistic"}, "logistic"),
    ],
)
def test_what_has_no_evidence_is_refused(options: dict[str, object], words: str) -> None:
    X, y = noisy(0)
    with pytest.raises(ValueError, match=f"`penalty` is 'evidence' with .*{words}"):
        sn.fit(X, (y > 7.2) * 1.0, penalty="evidence", **options)  # type: ignore[arg-type]


def test_too_many_samples_and_outputs_are_refused() -> None:
    X = np.random.default_rng(0).random((1001, 2))
    with pytest.raises(ValueError, match="1001 samples, expected at most 1000"):
        sn.fit(X, X[:, 0], penalty="evidence")
    with pytest.raises(ValueError, match="2 outputs, expected one"):
        sn.fit(X[:50], X[:50], penalty="evidence")


def test_prior_of_the_samples_alone() -> None:
    """A larger noise is found as such, and more samples have more evidence for the right function."""
    X, y = noisy(5, n=200, noise=0.5)
    bases: dict[str, Basis] = {f"x{i}": BSpline((0, 1), cells=3) for i in range(3)}
    prior = maximise_evidence(bases, X, y - y.mean(), np.ones(200))
    assert prior.noise == pytest.approx(0.5, rel=0.2)  # four standard errors
