"""Poisson's problem in two dimensions, against published figures and against the full tensor-product space.

Run ``python benchmarks/poisson.py``. Errors are computed by Gauss quadrature on every cell, with enough points that
they are exact to round-off; "squared" is the absolute squared L2 norm, as the publications give it.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when it is loaded)

from __future__ import annotations

import argparse
import os
import time

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

import sepnet as sn
from sepnet.models import vsna
from sepnet.models.gallery_problem import GalleryProblem


def squared_errors(case: GalleryProblem, u: sn.CP, points: int = 10) -> tuple[float, float]:
    """Return ``||u - reference||**2`` and ``||reference||**2`` by `points` Gauss points a cell and direction."""
    rules = [basis.quadrature(2 * points - 1) for basis in case.space.bases]
    (x, wx), (y, wy) = ((np.asarray(rule.points), np.asarray(rule.weights)) for rule in rules)
    error = norm = 0.0
    for rows, weights in zip(np.array_split(x, 16), np.array_split(wx, 16), strict=True):
        grid = np.stack(np.meshgrid(rows, y, indexing="ij"), axis=-1)
        exact = case.reference(grid.reshape(-1, 2)).reshape(grid.shape[:2])
        values = u.on_grid(**dict(zip(case.space.names, (rows, y), strict=True)))
        error += float(weights @ (values - exact) ** 2 @ wy)
        norm += float(weights @ exact**2 @ wy)
    return error, norm


def timed(case: GalleryProblem, repeat: int, **options: object) -> tuple[sn.Solution, float]:
    """Return the solution and the median of the seconds of `repeat` solves."""
    seconds = []
    for _ in range(repeat):
        began = time.perf_counter()
        solution = sn.solve(case.problem, **options)  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - began)
    return solution, float(np.median(seconds))


def kan(repeat: int) -> list[bool]:
    """u = sin(pi x) sin(pi y**2) with 512 coefficients; published with as many: 6e-11."""
    met = []
    for degree, cells, asked in ((2, 256, 1e-13), (3, 255, 1e-16)):
        case = vsna.poisson_kan(cells, degree)
        solution, seconds = timed(case, repeat, **case.options)
        error, _ = squared_errors(case, solution.u)
        met.append(error <= asked and solution.u.size <= 512)
        print(
            f"poisson-kan, degree {degree}, {solution.u.size} coefficients, rank {solution.u.rank}: asked squared "
            f"error <= {asked:.0e}, measured {error:.2e} in {1e3 * seconds:.0f} ms  {'met' if met[-1] else 'MISSED'}"
        )
    return met


def peak(repeat: int, *, rank: int = 10, factor: float = 1.05) -> list[bool]:
    """The peak, rank 10 against all coefficients."""
    met = []
    for degree, cells in ((2, 32), (3, 16), (3, 32), (3, 64)):
        case = vsna.poisson_peak(cells, degree)
        full, norm = squared_errors(case, sn.solve(case.problem, method="full").u)
        solution, seconds = timed(case, repeat, rank=rank)
        error, _ = squared_errors(case, solution.u)
        ratio = (error / full) ** 0.5
        met.append(ratio <= factor)
        print(
            f"poisson-peak, degree {degree}, {cells} x {cells} cells: asked error at rank {rank} <= {factor} x full "
            f"tensor error {(full / norm) ** 0.5:.3e}, measured {ratio:.4f} x ({(error / norm) ** 0.5:.3e}) in "
            f"{1e3 * seconds:.0f} ms  {'met' if met[-1] else 'MISSED'}"
        )
    return met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeat", type=int, default=5, help="solves per figure")
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.2f} at the start, {os.cpu_count()} cores")
    warm = vsna.poisson_kan(cells=4)
    sn.solve(warm.problem, rank=1)
    met = kan(options.repeat) + peak(options.repeat)
    print(f"{sum(met)} of {len(met)} met; load average {os.getloadavg()[0]:.2f} at the end")
    raise SystemExit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
