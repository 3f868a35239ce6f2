"""200 random starts over the gallery at default options: no false convergence, and how many reach the tolerance.

    python benchmarks/starts.py

Solves every problem of the gallery as a sum of products and as a tensor train from 20 seeds each, with nothing given
but `format` and `seed`, and computes every residual again by another way than the solver's. For Poisson's problems: the
distance of the gradient to that of the exact solution, relative to its norm, which is never less than the relative
energy distance to the discrete solution that `tol` bounds. For least squares: ``||L u - f||`` over ``||f - L lift||``
from point values of the derivatives of u, at Gauss points (heat) or at random points (6-D, where the lower end of the
95 % interval counts); and the initial data at random points. A solve that says CONVERGED with either of them above the
tolerance is a false one.

Prints a markdown table, one line per problem and format, and the counts. Poisson's problems start from the inverse of
the operator whatever the seed, so that their 20 starts differ only where that is not enough.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when it is loaded)

from __future__ import annotations

import argparse
import math
import os
import time
from collections import Counter
from dataclasses import dataclass

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
from bounds import energy_error, gradient_error, kan_slopes, mean_of_poisson, peak_slopes

import sepnet as sn
from sepnet.models import vsna

TOL = 1e-2  # the default of `solve`
Function = sn.CP | sn.TensorTrain


@dataclass(frozen=True)
class Trial:
    """One start."""

    status: str
    claimed: float
    residual: float
    data: float
    error: float
    seconds: float

    @property
    def false(self) -> bool:
        """Whether it says CONVERGED and is not."""
        return self.status == "CONVERGED" and max(self.residual, self.data) > TOL


def poisson_residual(case: vsna.GalleryProblem, u: Function) -> float:
    """Return the true energy error, relative."""
    if case.name == "poisson-1":
        return energy_error(u) / math.sqrt(mean_of_poisson(u.space.dim))
    slopes = {"poisson-kan": kan_slopes, "poisson-peak": peak_slopes}[case.name]
    return gradient_error(u, slopes) / gradient_error(0.0 * u, slopes)


def heat_operator(u: Function, grid: dict[str, np.ndarray]) -> np.ndarray:
    """Return ``u_t - kappa u_xx`` on a grid."""
    return np.asarray(u.derivative("t").on_grid(**grid) - grid["kappa"] * u.derivative("x", 2).on_grid(**grid))


def heat_residual(u: Function, lift: sn.CP) -> float:
    """Return ``||L u|| / ||L lift||`` by Gauss quadrature."""
    rules = [basis.quadrature(2 * basis.degree + 4) for basis in u.space.bases]
    grid = dict(zip(u.space.names, (rule.points for rule in rules), strict=True))
    weights = np.einsum("i,j,k->ijk", *(rule.weights for rule in rules))
    squares = [float(np.sum(weights * heat_operator(v, grid) ** 2)) for v in (u, lift)]
    return math.sqrt(squares[0] / squares[1])


def plume_operator(u: Function, points: np.ndarray) -> np.ndarray:
    """Return ``u_t + omega (x u_y - y u_x) - kappa (u_xx + u_yy + u_zz)`` at points."""
    x, y, _, _, omega, kappa = points.T
    slopes = np.asarray(u.gradient(points))
    spread = sum(np.asarray(u.derivative(name, 2)(points)) for name in "xyz")
    return slopes[:, 3] + omega * (x * slopes[:, 1] - y * slopes[:, 0]) - kappa * spread


def plume_residual(u: Function, lift: sn.CP, points: np.ndarray) -> float:
    """Return the lower end of the interval of ``||L u|| / ||L lift||`` from random points."""
    squares = plume_operator(u, points) ** 2
    low = squares.mean() - 1.96 * squares.std() / math.sqrt(squares.size)
    return math.sqrt(max(low, 0.0) / float(np.mean(plume_operator(lift, points) ** 2)))


def sample(space: sn.TensorSpace, n: int) -> np.ndarray:
    """Return random points of the box."""
    low, high = np.array([b.domain for b in space.bases]).T
    return low + (high - low) * np.random.default_rng(1).random((n, space.dim))


def initial_error(case: vsna.GalleryProblem, u: Function, points: np.ndarray) -> float:
    """Return the relative error of the initial data at random points."""
    start = points.copy()
    start[:, case.space.names.index("t")] = case.space.axes["t"].domain[0]
    exact = case.reference(start)
    return float(np.linalg.norm(np.asarray(u(start)) - exact) / np.linalg.norm(exact))


def attempt(case: vsna.GalleryProblem, format: str, seed: int, points: np.ndarray) -> Trial:
    """Solve once and recompute."""
    began = time.perf_counter()
    solution = sn.solve(case.problem, format=format, seed=seed)
    seconds = time.perf_counter() - began
    u, data = solution.u, 0.0
    if isinstance(case.problem, sn.Galerkin):
        residual = poisson_residual(case, u)
    else:
        lift = solution.lift.function
        assert lift is not None
        residual = heat_residual(u, lift) if case.name == "heat" else plume_residual(u, lift, points)
        data = initial_error(case, u, points)
    error = case.measure(u, 20_000).value
    return Trial(solution.status.name, solution.residual, residual, data, error, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--starts", type=int, default=20, help="starts per problem and format")
    parser.add_argument("--points", type=int, default=200_000, help="random points in six dimensions")
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.2f} at the start, {os.cpu_count()} cores")
    print("\n| problem | format | starts | reached | false | residual said, most | recomputed | error | s, median |")
    print("|---|---|---|---|---|---|---|---|---|")
    everything: list[Trial] = []
    for name in vsna.GALLERY:
        case = vsna.make(name)
        points = sample(case.space, options.points)
        for format in ("cp", "tt"):
            trials = [attempt(case, format, seed, points) for seed in range(options.starts)]
            everything += trials
            counts = Counter(t.status for t in trials)
            others = ", ".join(f"{n} {status}" for status, n in counts.items() if status != "CONVERGED")
            print(
                f"| {name} | {format} | {len(trials)} | {counts['CONVERGED']}{' (' + others + ')' if others else ''} | "
                f"{sum(t.false for t in trials)} | {max(t.claimed for t in trials):.2e} | "
                f"{max(t.residual for t in trials):.2e} | {max(t.error for t in trials):.1e} | "
                f"{np.median([t.seconds for t in trials]):.2f} |",
                flush=True,
            )
    reached, false = sum(t.status == "CONVERGED" for t in everything), sum(t.false for t in everything)
    least = 0.95 * len(everything)
    print(
        f"\n{len(everything)} starts: {reached} say CONVERGED (asked >= {least:.0f}: "
        f"{'met' if reached >= least else 'MISSED'}), {false} of them falsely (asked 0: "
        f"{'met' if not false else 'MISSED'})"
    )
    print(f"load average {os.getloadavg()[0]:.2f} at the end")
    raise SystemExit(0 if reached >= least and not false else 1)


if __name__ == "__main__":
    main()
