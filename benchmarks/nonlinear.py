"""Newton's method on the full tensor space and in low-rank formats: Allen and Cahn, a reaction front, four axes.

Run ``python benchmarks/nonlinear.py``; ``--part allen-cahn|front|low-rank|all``. Errors are relative L2 errors.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when it is loaded)

from __future__ import annotations

import argparse
import math
import os
import time

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

import sepnet as sn
from sepnet.models import gallery_nonlinear as gallery


def allen_cahn() -> bool:
    """Weak and strong form, at the spline rates."""
    met = True
    for form, degrees in (("galerkin", (1, 2, 3, 4)), ("least-squares", (3, 4, 5))):
        for degree in degrees:
            errors, line = [], ""
            for cells in (12, 24, 48):
                case = gallery.allen_cahn(cells, degree, form=form)  # type: ignore[arg-type]
                began = time.perf_counter()
                solution = sn.solve(case.problem, **(dict(case.options) | {"tol": 0.5}))
                seconds = time.perf_counter() - began
                errors.append(case.measure(solution.u).value)
                line += f"  {errors[-1]:.2e} ({seconds:.1f} s)"
            rate = math.log2(errors[-2] / errors[-1])
            met &= rate >= degree + 1 - 0.1
            print(f"allen-cahn, {form}, degree {degree}, 12, 24, 48 cells:{line}  rate {rate:.2f}", flush=True)
    case = gallery.allen_cahn(24, 3)
    solution = sn.solve(case.problem, **case.options)
    print("   Newton:", " ".join(f"{r.residual:.1e}" for r in solution.history))
    return met


def front() -> bool:
    """Fisher's front over space, time and rate."""
    errors = []
    for degree, cells, modes in ((3, 20, 8), (4, 20, 8), (4, 40, 10), (5, 40, 12)):
        case = gallery.reaction_diffusion(cells, degree, modes=modes, tol=1e-3)
        began = time.perf_counter()
        solution = sn.solve(case.problem, **case.options)
        seconds = time.perf_counter() - began
        errors.append(case.measure(solution.u).value)
        print(
            f"reaction-diffusion, degree {degree}, {cells} cells in x, {modes} modes: error {errors[-1]:.2e}, residual "
            f"{solution.residual:.1e}, {len(solution.history) - 1} steps, {seconds:.1f} s",
            flush=True,
        )
    return errors[-1] < 1e-6


def low_rank() -> bool:
    """A reaction with diffusivity and rate as axes, in four dimensions: low rank against slices solved alone."""

    def problem(cells: int, kappa: float | None = None, rate: float | None = None) -> sn.Galerkin:
        axes = {n: sn.BSpline((0, 1), cells=cells, zero="both") for n in ("x", "y")}
        if kappa is None:
            axes |= {"kappa": sn.BSpline((1, 3), cells=2), "rate": sn.BSpline((1, 5), cells=2)}
        V = sn.TensorSpace(**axes)
        u, d, one = V.unknown, V.d, V.identity
        k, r = V.coordinates[2:] if kappa is None else (kappa, rate)
        return sn.Galerkin(sn.inner(k * d.x(u), d.x) + sn.inner(k * d.y(u), d.y) + sn.inner(r * u**3, one), source=50)

    worst = 0.0
    for format_ in ("cp", "tt"):
        for tol in (1e-2, 1e-3, 1e-4):
            began = time.perf_counter()
            solution = sn.solve(problem(12), tol=tol, method="als", format=format_)
            seconds = time.perf_counter() - began
            worst = 0.0
            for kappa, rate in ((1.0, 5.0), (1.7, 3.1), (3.0, 1.0)):
                alone = sn.solve(problem(12, kappa, rate), tol=1e-8).u
                slice_ = solution.u.restrict(kappa=kappa, rate=rate)
                worst = max(worst, float((slice_ - alone).norm() / alone.norm()))  # type: ignore[union-attr]
            print(
                f"reaction with two parameters, 4 axes, {format_}, tol {tol:.0e}: {solution.status.name}, residual "
                f"{solution.residual:.1e}, rank {solution.u.rank}, {len(solution.history) - 1} steps, {seconds:.1f} s; "
                f"worst of three slices against two-dimensional solves {worst:.1e}",
                flush=True,
            )
    return worst < 1e-3


PARTS = {"allen-cahn": allen_cahn, "front": front, "low-rank": low_rank}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    options = parser.parse_args()
    np.set_printoptions(precision=3)
    met = [part() for name, part in PARTS.items() if options.part in (name, "all")]
    print("all met" if all(met) else "NOT ALL MET")


if __name__ == "__main__":
    main()
