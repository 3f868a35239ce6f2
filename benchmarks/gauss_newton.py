"""What Gauss-Newton on all factors gains over more sweeps of ALS, on the 6-D advection-diffusion problem.

    python benchmarks/gauss_newton.py

For each rank: rank continuation as in `sepnet.solve`; from there a number of sweeps of ALS; from the same place
Gauss-Newton for as long as those took. Errors are relative L2 over the whole six-dimensional box. One BLAS thread;
seconds are processor time, which other work on the machine disturbs less.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when it is loaded)

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from math import sqrt
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import sepnet as sn
from sepnet.models import vsna
from sepnet.solvers.als import AlternatingLeastSquares
from sepnet.solvers.continuation import RankContinuation
from sepnet.solvers.gauss_newton import GaussNewton
from sepnet.solvers.lifting import make_lift
from sepnet.solvers.progress import make_progress
from sepnet.solvers.run import Run
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.solvers.system import make_system


def relative(energy: float, work: float) -> float:
    """Return the relative residual: least squares with data of norm one."""
    return sqrt(max(energy - 2.0 * work + 1.0, 0.0))


def timed(iteration: Any, more: Callable[[int, float], bool], goal: float = 0.0) -> tuple[int, float, float, float]:
    """Sweep while `more`; return sweeps, seconds, the residual, and the seconds until it was at most `goal`."""
    began, count, residual, reached = time.process_time(), 0, float("inf"), float("nan")
    while more(count, time.process_time() - began) and not getattr(iteration, "stalled", False):
        residual = relative(*iteration.sweep())
        count += 1
        if reached != reached and residual <= goal:
            reached = time.process_time() - began
    return count, time.process_time() - began, residual, reached


def compare(rank: int, sweeps: int, points: int) -> None:
    """Print the three lines of one rank."""
    case = vsna.advection_diffusion(rank=rank)
    lift = make_lift(case.problem, 1e-3)
    system = make_system(case.problem, lift)
    matrix, load = SeparableMatrix.from_table(system.matrices), SeparableVector.from_table(system.loads)
    lifted = lift.function.rank if lift.function is not None else 0

    def line(name: str, count: int, seconds: float, residual: float, factors: list[Any], note: str = "") -> None:
        u = system.scale * sn.CP(lift.space, factors)
        error = case.measure(u if lift.function is None else lift.function + u, points)
        print(f"{rank:4d}  {name:22s}{count:6d}{seconds:9.2f}{residual:11.3e}{error.value:11.2e}  {note}")

    began = time.process_time()
    run = Run(relative, lifted=lifted, progress=make_progress(False))
    fresh = AlternatingLeastSquares(matrix, load)
    outcome = run.outcome(RankContinuation(run, fresh, rank=rank - lifted, goal=0.0), 1e-2)
    line(
        "rank continuation",
        len(outcome.history),
        time.process_time() - began,
        relative(matrix.energy(outcome.factors), load.inner(outcome.factors)),
        outcome.factors,
    )
    als, newton = AlternatingLeastSquares(matrix, load), GaussNewton(matrix, load)
    als.start(outcome.factors)
    count, budget, residual, _ = timed(als, lambda k, _: k < sweeps)
    line("+ ALS", count, budget, residual, als.balanced())
    newton.start(outcome.factors)
    count, seconds, final, reached = timed(newton, lambda _, t: t < budget, residual)
    note = f"the residual of ALS after {reached:.2f} s" if reached == reached else "never as low as ALS"
    line("+ Gauss-Newton", count, seconds, final, newton.balanced(), note)


def main() -> None:
    """Run all ranks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--ranks", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--sweeps", type=int, default=200, help="sweeps of ALS, whose time Gauss-Newton gets too")
    parser.add_argument("--points", type=int, default=200_000, help="random points of the error")
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.2f} at the start, {os.cpu_count()} cores")
    warm = vsna.advection_diffusion(cells=3)
    warm.measure(sn.solve(warm.problem, rank=4).u, 10)
    print("rank  after                 sweeps  seconds   residual      error")
    for rank in options.ranks:
        compare(rank, options.sweeps, options.points)
    print(f"load average {os.getloadavg()[0]:.2f} at the end")


if __name__ == "__main__":
    main()
