"""The prior of a function of few and noisy samples, chosen by the samples: its evidence is the largest.

A priori u is the mean of the targets plus a Gaussian field, ``cov u(x), u(z) = v prod_i (1 + s k_i(x_i, z_i)) / (1 +
s)``: products of all orders, the more interaction the larger the share s. The covariance k_i of an axis lives in the
span of its basis: coefficients of covariance ``(M + 2 l^2 S + l^4 K)^-1``, M, S and K the Gram matrices of the
functions, their first and their second derivatives in the coordinate from 0 to 1, mean variance one. On the whole line
that is Matern's covariance of order 3/2 and length l. The noise of a sample of weight w is independent and Gaussian,
of variance ``noise^2 / w``.

Lengths, s, v and the noise maximise the marginal likelihood (Rasmussen and Williams, Gaussian Processes for Machine
Learning, 2006, section 5.4), whose gradient is written out; a step costs O(d n^2 + n^3). All axes have one length,
unless lengths of their own raise its logarithm by ``log(n) / 2`` each (Schwarz, Ann. Stat. 6, 1978): axes of a small
sample find lengths by chance. A constant of its own, with a flat prior (restricted likelihood), was tried: it draws
noisy data too little to the mean.

The mean given the samples minimises ``sum w (y - u)^2 + (noise^2 / v) |u - mean|^2``, |.| the norm of a product of
spaces: a penalty on the function that no scaling of factors changes, `FitAxis.norm`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, final

import numpy as np
import scipy.linalg
import scipy.optimize

from sepnet.bases.basis import Basis
from sepnet.functions.axis_maps import mass
from sepnet.solvers.fit_axes import derivative_gram

__all__ = ["FitPrior", "maximise_evidence", "norm_of"]

LENGTHS, SHARES, VARIANCES, NOISES = (0.02, 20.0), (0.02, 1e4), (1e-4, 1e4), (1e-8, 1e1)
STARTS = ((0.3, 0.1), (1.0, 0.5))  # length, and variance of the noise relative to that of the targets
STEPS = 100


@final
@dataclass(frozen=True)
class FitPrior:
    """The Gaussian prior of a fit with ``penalty="evidence"``, in the targets' units, and what the samples say of it.

    Parameters
    ----------
    lengths : dict of str to float
        Over which the function forgets itself on each axis, relative to the box.
    share : float
        Variance of the functions on an axis, relative to that of its constant: the larger, the more the inputs
        interact.
    variance : float
        Of the function.
    noise : float
        Standard deviation of the noise.
    evidence : float
        Logarithm of the marginal likelihood of the targets divided by their standard deviation, up to a constant:
        priors on the same samples may be compared, also with other bases.
    freedom : float
        Trace of the influence matrix of the mean given the samples.
    least : float
        Mean squared residual plus penalty of that mean: no function has less.
    unit : float
        By this much more of it the logarithm of the density given the samples falls by one half.
    ridge : float
        Weight of the squared norm in which `sepnet.fit` then measures functions: the penalty.
    """

    lengths: dict[str, float]
    share: float
    variance: float
    noise: float
    evidence: float
    freedom: float = field(repr=False)
    least: float = field(repr=False)
    unit: float = field(repr=False)
    ridge: float = field(repr=False)


class _Axis(NamedTuple):
    """Functions of an axis at the samples, and the Gram matrices of them and their derivatives."""

    values: np.ndarray
    mass: np.ndarray
    slopes: np.ndarray
    bends: np.ndarray

    def covariance(self, length: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the covariance of the coefficients and its derivative by the logarithm of the length."""
        first, second = 2.0 * length**2 * self.slopes, length**4 * self.bends
        C = scipy.linalg.inv(self.mass + first + second, check_finite=False)
        C = (C + C.T) / 2
        D = -C @ (2.0 * first + 4.0 * second) @ C
        mean, change = float(np.sum(C * self.mass)), float(np.sum(D * self.mass))
        return C / mean, D / mean - C * (change / mean**2)


def _grams(basis: Basis) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    M = mass(basis) / (basis.domain[1] - basis.domain[0])
    slopes, bends = (derivative_gram(basis, k) if k <= basis.max_order else np.zeros_like(M) for k in (1, 2))
    return M, slopes, bends


def norm_of(basis: Basis, length: float, share: float) -> tuple[np.ndarray, float]:
    """Return the matrix of the norm on an axis, the constant's norm being one, and what it was divided by for that.

    Parameters
    ----------
    basis : Basis
    length, share : float
        See `FitPrior`.

    Returns
    -------
    matrix : ndarray of shape (size, size)
    constant : float
    """
    M, S, K = _grams(basis)
    one = np.linalg.solve(M, basis.integrals() / (basis.domain[1] - basis.domain[0]))
    C, _ = _Axis(np.zeros((0, basis.size)), M, S, K).covariance(length)
    P = scipy.linalg.inv((np.outer(one, one) + share * C) / (1.0 + share), check_finite=False)
    P = (P + P.T) / 2
    constant = float(one @ P @ one)
    return P / constant, constant


def maximise_evidence(
    bases: dict[str, Basis], points: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> FitPrior:
    """Return the prior of the largest evidence.

    Parameters
    ----------
    bases : dict of str to Basis
        By axis.
    points : ndarray of shape (n, d)
        In the box of the bases, d as many as these.
    targets, weights : ndarray of shape (n,)
        The targets without their mean, and of size one.

    Returns
    -------
    FitPrior
    """
    axes = [_Axis(basis.tabulate(points[:, i]).toarray(), *_grams(basis)) for i, basis in enumerate(bases.values())]
    problem = _Problem(axes, targets, weights / weights.mean())
    tied = min((_minimum(problem, np.log([length, 1.0, 1.0, noise])) for length, noise in STARTS), key=lambda m: m[0])
    value, theta = tied
    if len(axes) > 1:
        own, separate = _minimum(problem, np.concatenate([np.repeat(theta[0], len(axes)), theta[1:]]))
        if value - own > 0.5 * np.log(len(targets)) * (len(axes) - 1):
            theta = separate
    return _prior(problem, theta, bases, float(weights.mean()))


def _minimum(problem: _Problem, start: np.ndarray) -> tuple[float, np.ndarray]:
    lengths = len(start) - 3
    bounds = [tuple(np.log(b)) for b in (*[LENGTHS] * lengths, SHARES, VARIANCES, NOISES)]
    found = scipy.optimize.minimize(
        problem.value, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS}
    )
    return float(found.fun), np.asarray(found.x)


class _State(NamedTuple):
    field: np.ndarray  # covariance of the function at the samples
    inverse: np.ndarray  # of the covariance of the samples
    load: np.ndarray  # inverse @ targets
    value: float


class _Problem:
    """Minus the logarithm of the marginal likelihood as a function of the logarithms of all parameters."""

    def __init__(self, axes: list[_Axis], targets: np.ndarray, weights: np.ndarray) -> None:
        self.axes, self.targets, self.weights = axes, targets, weights

    def factors(self, lengths: np.ndarray, share: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the covariances of the axes at the samples, and their derivatives by the logarithm of the length."""
        covariances, slopes = [], []
        for axis, length in zip(self.axes, lengths, strict=True):
            C, D = axis.covariance(float(length))
            covariances.append(axis.values @ C @ axis.values.T)
            slopes.append(axis.values @ D @ axis.values.T * (share / (1.0 + share)))
        return covariances, slopes

    def state(self, field: np.ndarray, noise: float) -> _State:
        """Return the inverse of the covariance of the samples, and minus the logarithm of their likelihood.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the covariance of the samples is not positive.
        """
        A = field + np.diag(noise / self.weights)
        L = np.linalg.cholesky(A)
        inverse = scipy.linalg.lapack.dpotri(L, lower=1)[0]
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        load = inverse @ self.targets
        return _State(field, inverse, load, 0.5 * float(self.targets @ load) + float(np.log(np.diag(L)).sum()))

    def value(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the value and its gradient, for one length or one on each axis."""
        d = len(self.axes)
        lengths, (share, variance, noise) = self.split(theta)
        covariances, slopes = self.factors(lengths, share)
        parts = [(1.0 + share * k) / (1.0 + share) for k in covariances]
        after = [np.ones_like(parts[0])]
        for part in parts[:0:-1]:
            after.append(after[-1] * part)
        after.reverse()
        try:
            state = self.state(variance * parts[0] * after[0], float(noise))
        except np.linalg.LinAlgError:
            return 1e100, np.zeros_like(theta)
        G = 0.5 * (state.inverse - np.outer(state.load, state.load))
        gradient = np.empty(d + 3)
        by_share, before = 0.0, variance * np.ones_like(parts[0])
        for i in range(d):
            rest = G * before * after[i]
            gradient[i] = np.sum(rest * slopes[i])
            by_share += float(np.sum(rest * (covariances[i] - 1.0))) * share / (1.0 + share) ** 2
            before *= parts[i]
        gradient[d] = by_share
        gradient[d + 1] = np.sum(G * state.field)
        gradient[d + 2] = np.sum(np.diag(G) * noise / self.weights)
        if len(theta) < d + 3:
            gradient = np.concatenate([[gradient[:d].sum()], gradient[d:]])
        return state.value, gradient

    def split(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the lengths of all axes, and share, variance and noise."""
        return np.broadcast_to(np.exp(theta[:-3]), (len(self.axes),)), np.exp(theta[-3:])


def _prior(problem: _Problem, theta: np.ndarray, bases: dict[str, Basis], weight: float) -> FitPrior:
    """Return the prior of some parameters; `weight` is what the weights were divided by."""
    lengths, (share, variance, noise) = problem.split(theta)
    covariances, _ = problem.factors(lengths, float(share))
    field = variance * np.prod([(1.0 + share * k) / (1.0 + share) for k in covariances], axis=0)
    state = problem.state(field, float(noise))
    count = len(problem.targets)
    norms = [norm_of(basis, float(n), float(share))[1] for basis, n in zip(bases.values(), lengths, strict=True)]
    return FitPrior(
        lengths=dict(zip(bases, map(float, lengths), strict=True)),
        share=float(share),
        variance=float(variance),
        noise=float(np.sqrt(noise * weight)),
        evidence=-state.value,
        freedom=float(np.sum(field * state.inverse)),
        least=float(noise * (problem.targets @ state.load)) / count,
        unit=float(noise) / count,
        ridge=float(noise / (variance * count) * np.prod(norms)),
    )
