"""Tensor trains on the 6-D advection-diffusion problem, with sums of products beside them.

    python benchmarks/trains.py

Prints two markdown tables and the load of the machine. The first gives what is asked, and error, seconds and
parameters measured; errors are relative L2 over the whole six-dimensional box at 10^6 random points, seconds medians of
the wall time of one `sepnet.solve`, assembly and choice of the axis order included, after compilation. Where nothing is
asked the line is there to compare. The second is the error against the number of parameters as the mesh and the
tolerance are refined together, with the slope of the line through the points.

Trains of the first table are solved in the order of the axes that the solver finds, and in that of the space; those of
the second in the order that the solver finds. Parameters are those of the solution, initial data included. Meshes and
tolerances were found by some trial solves of this problem: they show what can be reached, not what a guess gives.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when it is loaded)

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

import sepnet as sn
from sepnet.models import vsna


@dataclass(frozen=True)
class Job:
    """One solve: mesh, options, and what is asked of it."""

    label: str
    cells: tuple[int, int, int, int]
    options: dict[str, Any]
    degree: int = 5
    turn: float = 1.0
    asked: tuple[float, float] = (math.inf, math.inf)


@dataclass
class Line:
    """What a job gave."""

    job: Job
    error: float
    high: float
    seconds: float
    size: int
    solution: sn.Solution = field(repr=False)

    @property
    def met(self) -> bool:
        """Whether error and seconds are as asked."""
        return self.high <= self.job.asked[0] and self.seconds <= self.job.asked[1]


TRAIN: dict[str, Any] = {"format": "tt"}
GIVEN = TRAIN | {"order": ("x", "y", "z", "t", "omega", "kappa")}
MESHES = {"omega to 1": (40, 11, 7, 2), "omega to 1, finer": (50, 12, 8, 3), "omega to pi": (40, 16, 14, 2)}
TOLERANCES = {"omega to 1": 1.2e-4, "omega to 1, finer": 4e-5, "omega to pi": 3e-4}
ASKED = {"omega to 1": (1.5e-5, 6.0), "omega to 1, finer": (3.5e-6, 15.0), "omega to pi": (2e-4, 45.0)}
TARGETS = (
    *(
        Job(
            f"TT, {box}" + (", order of the space" if "order" in options else ""),
            MESHES[box],
            options | {"tol": TOLERANCES[box]},
            turn=math.pi if box == "omega to pi" else 1.0,
            asked=ASKED[box],
        )
        for box in MESHES
        for options in (TRAIN, GIVEN)
    ),
    Job("CP, omega to 1, rank 64", (30, 8, 4, 1), {"rank": 64}),
    Job("CP, omega to 1, rank 128", (30, 8, 4, 1), {"rank": 128}),
)
# Meshes and the tolerances that go with them, finer and finer.
SERIES = (
    ((24, 5, 3, 1), 5e-2),
    ((24, 6, 4, 1), 2e-2),
    ((26, 7, 4, 1), 6e-3),
    ((30, 9, 5, 1), 1.5e-3),
    ((36, 10, 6, 2), 4e-4),
    ((43, 11, 7, 2), 1.2e-4),
    ((50, 12, 8, 3), 4e-5),
)


def case_of(job: Job) -> vsna.GalleryProblem:
    """Return the gallery problem of a job."""
    space, *rest = job.cells
    cells = dict.fromkeys("xyz", space) | dict(zip(("t", "omega", "kappa"), rest, strict=True))
    return vsna.make("advection-diffusion", cells=cells, degree=job.degree, omega=(0, job.turn), walls=1.25)


def run(job: Job, repeat: int, points: int, order: tuple[str, ...] | None) -> Line:
    """Solve a job `repeat` times and measure it."""
    case, seconds = case_of(job), []
    options = job.options | ({"order": order} if order and job.options.get("format") == "tt" else {})
    for _ in range(repeat):
        began = time.perf_counter()
        solution = sn.solve(case.problem, **options)
        seconds.append(time.perf_counter() - began)
    error = case.measure(solution.u, points)
    return Line(job, error.value, error.high, float(np.median(seconds)), solution.u.size, solution)


def ranks(u: sn.CP | sn.TensorTrain) -> str:
    """Return the ranks, and the order of the axes of a train."""
    if isinstance(u, sn.CP):
        return str(u.rank)
    return "-".join(map(str, u.ranks)) + " " + ",".join(u.order)


def print_targets(lines: Iterator[Line]) -> list[bool]:
    """Print the first table; return whether the lines are as asked."""
    met = []
    print("\n| case | cells, degree | asked | error | seconds | parameters | ranks | status | |")
    print("|---|---|---|---|---|---|---|---|---|")
    for line in lines:
        job, solution = line.job, line.solution
        bound = math.isfinite(job.asked[0])
        asked = f"<= {job.asked[0]:.1e} in <= {job.asked[1]:g} s" if bound else ""
        verdict = ("met" if line.met else "MISSED") if bound else ""
        print(
            f"| {job.label} | {'/'.join(map(str, job.cells))}, {job.degree} | {asked} | {line.error:.2e} | "
            f"{line.seconds:.2f} | {line.size:,} | {ranks(solution.u)} | {solution.status.name} | {verdict} |",
            flush=True,
        )
        met.append(line.met)
    return met


def print_series(found: Iterator[Line]) -> bool:
    """Print the second table and the slope; return whether it is as steep as asked."""
    print("\n| cells, degree 5 | tol | error | seconds | parameters | slope to the line above |")
    print("|---|---|---|---|---|---|")
    lines: list[Line] = []
    for line in found:
        slope = ""
        if lines:
            before = lines[-1]
            slope = f"{math.log(line.error / before.error) / math.log(line.size / before.size):.2f}"
        cells, tol = "/".join(map(str, line.job.cells)), line.job.options["tol"]
        print(f"| {cells} | {tol:g} | {line.error:.2e} | {line.seconds:.2f} | {line.size:,} | {slope} |")
        lines.append(line)
    sizes, errors = (np.log([getattr(line, name) for line in lines]) for name in ("size", "error"))
    slope = float(np.polyfit(sizes, errors, 1)[0])
    decades = float(sizes.max() - sizes.min()) / math.log(10)
    met = slope <= -2 and decades >= 1
    print(
        f"\nslope {slope:.2f} over {decades:.2f} decades of parameters (asked <= -2 over one decade at least: "
        f"{'met' if met else 'MISSED'})"
    )
    return met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeat", type=int, default=3, help="solves per line of the first table")
    parser.add_argument("--points", type=int, default=1_000_000, help="random points of the errors")
    parser.add_argument("--order", help="order of the axes of all trains, e.g. z,x,y,t,omega,kappa")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the lines of the first table to run")
    options = parser.parse_args()
    order = tuple(options.order.split(",")) if options.order else None
    print(f"load average {os.getloadavg()[0]:.2f} at the start, {os.cpu_count()} cores")
    warm = vsna.advection_diffusion(cells=3)
    for name in ("cp", "tt"):
        warm.measure(sn.solve(warm.problem, rank=4, format=name).u, 10)
    chosen = range(len(TARGETS)) if options.only is None else options.only
    met = print_targets(run(TARGETS[k], options.repeat, options.points, order) for k in chosen)
    if options.only is None:
        jobs = [Job("", cells, {"tol": tol} | TRAIN) for cells, tol in SERIES]
        met.append(print_series(run(job, 1, options.points, order) for job in jobs))
    print(f"\nload average {os.getloadavg()[0]:.2f} at the end")
    raise SystemExit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
