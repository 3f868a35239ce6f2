"""The weight of the roughness on one axis by generalised cross-validation, with the exact trace.

With the other axes held, the factor of an axis solves a linear problem ``(A + B + lambda K) c = b``: A from the data,
K its own roughness, B the rest. GCV (Craven and Wahba, Numer. Math. 31, 1979; Golub, Heath and Wahba, Technometrics
21, 1979) takes the lambda with the smallest ``RSS / (1 - (trace + others) / n)**2``; the eigenvectors of K against
A + B give residual and trace of every lambda at once. `others` is what the other axes take: a conditional problem
knows nothing of them.

GCV takes every pattern in the residual for signal. Where the error is not noise but what the columns cannot express,
it goes to zero and the fit oscillates between samples: borehole function, rank 6 on 6 cells, 1e4 samples: 2.1e-4
instead of 1.2e-4. So a weight is not smaller than the one at which the roughness is what a Gaussian prior of that
variance expects, ``lambda = loss trace / (n ||d_i^2 u||^2)``, the fixed point of restricted likelihood (Wood and
Fasiolo, Biometrics 73, 2017).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.linalg

from sepnet.solvers.fit_als import axis_system, scaled_cholesky
from sepnet.solvers.fit_columns import Columns, Factors
from sepnet.solvers.fit_loss import Loss
from sepnet.solvers.fit_penalty import Penalty
from sepnet.solvers.fit_samples import Samples, normal

__all__ = ["Conditional", "choose_weights", "conditional", "freedom", "influence_trace"]

# Weights looked at, relative to the one that halves the roughest direction. Larger ones, up to what makes a factor
# straight, were tried: weak axes went straight too early and stayed so (wing weight: 4.0e-4 instead of 5.7e-5).
LOW, HIGH, COUNT = 1e-14, 1e4, 73


class Conditional(NamedTuple):
    """One axis' linear problem in its eigenvectors: of each direction its roughness, load and share of the data.

    `value` is the mean loss without the factor, up to the quadratic expansion at the present one; `bent` the roughness
    of the present one, `loss` its mean loss.
    """

    rough: np.ndarray
    load: np.ndarray
    gain: np.ndarray
    cross: np.ndarray
    value: float
    bent: float
    loss: float

    def fit(self, weight: float) -> tuple[float, float]:
        """Return the mean squared residual and the trace of the influence matrix for a weight of the roughness."""
        shrink = 1.0 / (1.0 + weight * self.rough)
        c = shrink * self.load
        residual = self.value - 2.0 * c @ self.gain + c @ (self.cross @ c)
        return float(residual), float(shrink @ np.diag(self.cross))


def conditional(
    samples: Samples, columns: Columns, factors: Factors, loss: Loss, penalty: Penalty, axis: int
) -> Conditional:
    """Return the linear problem of one axis, ready for any weight of its roughness."""
    data, own, rest, load = axis_system(samples, columns, factors, loss, penalty, axis)
    here = factors[axis].ravel()
    # the loss as a quadratic in the factor, with the value and slope it has here
    value = data.loss + 2.0 * here @ data.vector - here @ (data.matrix @ here)
    metric = data.matrix + rest
    scale = np.sqrt(np.maximum(np.diag(metric), np.finfo(float).tiny))
    metric = metric + np.diag(1e4 * np.finfo(float).eps * scale**2)
    rough, V = scipy.linalg.eigh((own + own.T) / 2, (metric + metric.T) / 2)
    return Conditional(
        np.maximum(rough, 0.0), V.T @ (data.vector + load), V.T @ data.vector, V.T @ data.matrix @ V, value,
        float(here @ own @ here), data.loss,
    )  # fmt: skip


def choose_weights(
    samples: Samples, columns: Columns, factors: Factors, loss: Loss, penalty: Penalty, count: float
) -> Penalty:
    """Return the penalty with the weight of every axis by GCV.

    Parameters
    ----------
    samples, columns, factors, loss, penalty
        The fit as it is.
    count : float
        Number of samples.

    Returns
    -------
    Penalty
    """
    weights = list(penalty.weights)
    axes = [i for i, active in enumerate(columns.active) if len(active)]
    problems, traces = {}, {}
    for i in axes:
        problems[i] = conditional(samples, columns, factors, loss, replace(penalty, weights=tuple(weights)), i)
        traces[i] = problems[i].fit(weights[i])[1]
    # the scalings between the factors of a column do nothing, and each axis counts them
    gauge = sum(r * (len(s) - 1) for s, r in zip(columns.subsets, columns.ranks, strict=True))
    for i in axes:
        top = float(problems[i].rough.max(initial=0.0))
        if top <= 0.0:
            continue
        others = sum(t for j, t in traces.items() if j != i) - gauge
        best = (np.inf, weights[i])
        for weight in np.geomspace(LOW / top, HIGH / top, COUNT):
            residual, trace = problems[i].fit(weight)
            left = 1.0 - max(trace + others, 0.0) / count
            score = max(residual, 0.0) / left**2 if left > 0.0 else np.inf
            if score < best[0]:
                best = (score, float(weight))
                traces[i] = trace
        expected = problems[i].loss * traces[i] / (count * max(problems[i].bent, np.finfo(float).tiny))
        # not above what leaves the roughest direction some freedom: a factor once straight would stay so
        weights[i] = float(max(best[1], min(expected, HIGH / top)))
    return replace(penalty, weights=tuple(weights))


def freedom(samples: Samples, columns: Columns, factors: Factors, loss: Loss, penalty: Penalty) -> float:
    """Return the trace of the influence matrix of all factors together, linearised where the fit is."""
    data = normal(samples, columns, factors, loss)
    return influence_trace(data.matrix, data.matrix + penalty.terms(columns, factors).matrix)


def influence_trace(matrix: np.ndarray, penalised: np.ndarray) -> float:
    """Return the trace of ``penalised^-1 matrix``, both symmetric and positive semidefinite.

    Directions that the data do not see count for nothing: with their round-off, divided by what little the penalty
    has there, the trace changed by 1e-6 with the order of the samples.
    """
    factor, scale = scaled_cholesky(penalised)
    values, vectors = scipy.linalg.eigh(matrix / np.outer(scale, scale), check_finite=False)
    seen = values > len(values) * np.finfo(values.dtype).eps * values[-1]
    root = vectors[:, seen] * np.sqrt(values[seen])
    return float(np.sum(scipy.linalg.solve_triangular(factor.lower, root, lower=True, check_finite=False) ** 2))
