"""Cost of an ALS sweep: time and memory linear in the number of axes, and a small multiple of the factorisations in it.

    python benchmarks/als.py

Prints asked and measured figures for sums of products (CP) and tensor trains (TT), medians, and the load of the
machine. Memory is the peak during a sweep: matrices, function and what the sweep allocates. One BLAS thread.
"""

from __future__ import annotations

import argparse
import os
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from scipy.linalg import lapack
from threadpoolctl import threadpool_limits

import sepnet as sn
from sepnet.backends import dispatch
from sepnet.models import vsna
from sepnet.problems import Problem
from sepnet.solvers.als import AlternatingLeastSquares
from sepnet.solvers.lifting import make_lift
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.solvers.system import make_system
from sepnet.solvers.train_als import TrainIteration

CELLS, CP_RANK, TT_RANK = 32, 16, 12
# The two cores at the ends of a train are cheaper than the others: of four they are half.
CP_DIMENSIONS, TT_DIMENSIONS = (4, 8, 16, 32), (8, 16, 32, 64)
Sweeper = AlternatingLeastSquares | TrainIteration


def iteration_for(problem: Problem, rank: int) -> AlternatingLeastSquares:
    """Return an ALS iteration of full rank, one sweep past its random start."""
    system = make_system(problem, make_lift(problem, 1e-3))
    matrix, load = SeparableMatrix.from_table(system.matrices), SeparableVector.from_table(system.loads)
    iteration = AlternatingLeastSquares(matrix, load)
    iteration.grow(rank)
    iteration.sweep()
    return iteration


def train_for(problem: Problem, rank: int) -> TrainIteration:
    """Return an ALS iteration on trains of one rank, one sweep past its random start."""
    system = make_system(problem, make_lift(problem, 1e-3))
    matrix, load = SeparableMatrix.from_table(system.matrices), SeparableVector.from_table(system.loads)
    iteration = TrainIteration(matrix, load)
    rng, sizes = np.random.default_rng(0), problem.space.shape
    ranks = [1, *[rank] * (len(sizes) - 1), 1]
    iteration.start([rng.standard_normal(s) for s in zip(ranks[:-1], sizes, ranks[1:], strict=True)])
    iteration.sweep()
    return iteration


def poisson(d: int, cells: int, *, least_squares: bool) -> Problem:
    """Return ``-Laplace u = 1`` on the unit cube of d dimensions."""
    if not least_squares:
        return vsna.poisson_1(d=d, cells=cells).problem
    space = sn.TensorSpace(**{f"x{i + 1}": sn.BSpline((0, 1), cells=cells, zero="both") for i in range(d)})
    derivatives = list(space.d)
    laplace = derivatives[0] ** 2
    for derivative in derivatives[1:]:
        laplace = laplace + derivative**2
    return sn.LeastSquares(laplace, source=-1)


def median_seconds(action: Callable[[], object], repeat: int) -> float:
    """Return the median time of `repeat` calls."""
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def allocated(build: Callable[[Problem, int], Sweeper], problem: Problem, rank: int) -> float:
    """Return the MiB held by an iteration and one sweep of it at their peak."""
    tracemalloc.start()
    try:
        iteration = build(problem, rank)
        tracemalloc.reset_peak()
        iteration.sweep()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def slope(dimensions: tuple[int, ...], values: np.ndarray) -> float:
    """Return the slope of log values against log d."""
    return float(np.polyfit(np.log(dimensions), np.log(values), 1)[0])


def linear_in_d(repeat: int) -> None:
    """Print time and memory of a sweep of poisson-1 for growing d, and their slopes."""
    asked = 1.15
    print(
        f"\n| format, problem, rank | time and memory of a sweep | slopes in d, asked <= {asked} | |\n|---|---|---|---|"
    )
    families: tuple[tuple[str, int, tuple[int, ...], Callable[[Problem, int], Sweeper]], ...] = (
        ("CP", CP_RANK, CP_DIMENSIONS, iteration_for),
        ("TT", TT_RANK, TT_DIMENSIONS, train_for),
    )
    for format, rank, dimensions, build in families:
        for kind in ("Galerkin", "least squares"):
            problems = [poisson(d, CELLS, least_squares=kind != "Galerkin") for d in dimensions]
            iterations = [build(problem, rank) for problem in problems]
            # Round by round, so that a disturbance of the machine hits all sizes alike.
            rounds = [[median_seconds(it.sweep, 1) for it in iterations] for _ in range(repeat)]
            times = np.median(np.array(rounds), axis=0)
            del iterations
            memory = np.array([allocated(build, problem, rank) for problem in problems])
            shown = ", ".join(
                f"d = {d}: {1e3 * t:.1f} ms, {m:.1f} MiB" for d, t, m in zip(dimensions, times, memory, strict=True)
            )
            slopes = slope(dimensions, times), slope(dimensions, memory)
            verdict = "met" if max(slopes) <= asked else "MISSED"
            print(f"| {format}, {kind}, {rank} | {shown} | {slopes[0]:.2f}, {slopes[1]:.2f} | {verdict} |", flush=True)


def factorisations(iteration: AlternatingLeastSquares) -> list[np.ndarray]:
    """Return the bands that one sweep factorises."""
    rng = np.random.default_rng(0)
    rank = iteration.rank
    bands = []
    for axis in iteration.matrix.axes:
        root = rng.standard_normal((axis.count, rank, rank))
        band = dispatch.fill_band(axis.lower, root @ root.transpose(0, 2, 1))
        # The time of a factorisation does not depend on the values; make sure that it runs to the end.
        band[0] += 10.0 * np.abs(band).sum(axis=0).max()
        bands.append(band)
    return bands


def sweep_against_lapack(repeat: int) -> None:
    """Print the sweep time of the 6-D problem over the time of its factorisations."""
    for rank, asked in ((16, 5.0), (32, 3.0), (64, 3.0)):
        iteration = iteration_for(vsna.advection_diffusion().problem, rank)
        bands = factorisations(iteration)

        def factorise(bands: list[np.ndarray] = bands) -> None:
            for band in bands:
                _, info = lapack.dpbtrf(band, lower=1, overwrite_ab=0)
                assert info == 0

        copies = median_seconds(lambda bands=bands: [b.copy(order="F") for b in bands], repeat)
        pairs = [(median_seconds(iteration.sweep, 1), median_seconds(factorise, 1) - copies) for _ in range(repeat)]
        sweep, alone = np.median(np.array(pairs), axis=0)
        ratio = float(np.median([a / b for a, b in pairs]))
        verdict = "met" if ratio <= asked else "MISSED"
        print(
            f"6-D, CP rank {rank}: sweep {1e3 * sweep:.2f} ms, dpbtrf {1e3 * alone:.2f} ms, "
            f"ratio {ratio:.2f} (asked <= {asked:g}: {verdict})"
        )


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=15, help="repetitions, of which medians are taken")
    repeat = parser.parse_args().repeat
    print(f"load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores")
    with threadpool_limits(limits=1, user_api="blas"):
        linear_in_d(repeat)
        sweep_against_lapack(repeat)


if __name__ == "__main__":
    main()
