"""Measure how often the confidence bands of fits hold the truth.

Run ``python benchmarks/bands.py`` (some three minutes, one thread). Each line names the case and the samples, and
gives, over 40 draws of points and noise: the share of 400 points at which the 90 % band holds the truth, and its
standard error; the same where the first input is above 0.8; the root mean square error over the mean standard error;
and the time a band takes, fit not included. The noise has one standard deviation, or one that grows tenfold along the
first input.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when it is loaded)

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

import sepnet as sn
from sepnet.solvers.bands import confidence

RUNS, LEVEL = 40, 0.9
PARTS = sn.Interaction(2, subsets=["x0", "x1", ("x0", "x1")])


def inside(X: np.ndarray) -> np.ndarray:
    """Return a function of the space of `PARTS` on one cubic cell."""
    return X[:, 0] - 2 * X[:, 0] ** 2 + 0.3 * X[:, 1] + 0.5 * X[:, 0] ** 3 * (1 - X[:, 1] ** 2)


def beyond(X: np.ndarray) -> np.ndarray:
    """Return a function of no spline space."""
    return np.sin(5 * X[:, 0]) * np.exp(X[:, 1])


def measure(label: str, truth: Callable[[np.ndarray], np.ndarray], count: int, rough: bool, **options: Any) -> None:
    points = np.random.default_rng(99).random((400, 2))
    inner, exact = points[:, 0] > 0.8, truth(points)
    shares, high_shares, ratios, seconds = [], [], [], 0.0
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        X = rng.random((count, 2))
        X[0], X[1] = 0, 1
        y = truth(X) + (0.1 + 0.9 * X[:, 0] ** 2 if rough else 0.4) * rng.standard_normal(count)
        fit = sn.fit(X, y, **options)
        start = time.perf_counter()
        bands = confidence(fit, X, y)
        seconds += time.perf_counter() - start
        low, high = bands.band(points, LEVEL)
        held = (low < exact) & (exact < high)
        shares.append(held.mean())
        high_shares.append(held[inner].mean())
        error = np.sqrt(np.mean((fit.u(points) - exact) ** 2))
        ratios.append(error / np.sqrt(np.mean(bands.standard_error(points) ** 2)))
    share, spread = np.mean(shares), np.std(shares) / np.sqrt(RUNS)
    noise = "growing" if rough else "equal"
    print(
        f"{label:<34} n={count:<5} noise {noise:<8} {share:.3f} +- {spread:.3f}  where it is high "
        f"{np.mean(high_shares):.3f}  error / standard error {np.mean(ratios):.2f}  {1e3 * seconds / RUNS:.0f} ms",
        flush=True,
    )


def main() -> None:
    for rough in (False, True):
        for count in (100, 400, 2000):
            measure("in the space, no penalty", inside, count, rough, interaction=PARTS, cells=1, penalty=0.0)
        for count in (100, 400, 2000):
            measure("beyond it, penalty by GCV", beyond, count, rough, rank=1, cells=8)
        for count in (400, 2000):
            measure("beyond it, shape found by the fit", beyond, count, rough)


if __name__ == "__main__":
    main()
