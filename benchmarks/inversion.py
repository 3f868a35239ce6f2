"""How fast is the inversion? One step of Newton's method a sample, and 64 inversions at once, on one thread.

Run ``python benchmarks/inversion.py``. The function of the first part is cubic on 16 cells an axis, of six variables
and rank 8, with random positive coefficients; a step is one evaluation of value and gradient with all decisions
around it. The second part has functions of the size of a small surrogate, and 64 targets that are values of theirs.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when it is loaded)

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numba
import numpy as np

import sepnet as sn
from sepnet.backends import dispatch
from sepnet.backends.newton import REACHED
from sepnet.functions.axis_maps import local_polynomials
from sepnet.solvers.map_inversion import map_inversion
from sepnet.solvers.newton import invert


def seconds(function: Callable[[], object], repeat: int) -> np.ndarray:
    """Return [minimum, median] of `repeat` calls after one that warms up, of the smaller of wall and processor time."""
    function()
    times = []
    for _ in range(repeat):
        wall, processor = time.perf_counter(), time.process_time()
        function()
        times.append(min(time.perf_counter() - wall, time.process_time() - processor))
    return np.array([min(times), np.median(times)])


def surrogate(dim: int, rank: int, cells: int, seed: int, dtype: str = "float64") -> sn.CP:
    """Return a random function on the unit box."""
    rng = np.random.default_rng(seed)
    space = sn.TensorSpace(**{f"x{i}": sn.BSpline((0, 1), cells=cells) for i in range(dim)})
    return sn.CP(space, [rng.uniform(0.3, 1.3, (n, rank)).astype(dtype) for n in space.shape])


def step_targets(n: int, repeat: int) -> None:
    """Measure a step of one sample, 6 inputs and rank 8."""
    for dtype in ("float64", "float32"):
        u = surrogate(6, 8, 16, 0, dtype)
        starts = np.random.default_rng(1).random((n, 6)).astype(dtype)
        pairs = [local_polynomials(b, f) for b, f in zip(u.space.bases, u.factors, strict=True)]
        breaks, tables = tuple(p[0] for p in pairs if p), tuple(p[1] for p in pairs if p)
        targets = np.full(n, np.median(u(starts)), dtype=dtype)
        tol = np.full(n, 4096 * np.finfo(dtype).eps * abs(targets[0]), dtype=dtype)
        low, high = np.zeros(6, dtype=dtype), np.ones(6, dtype=dtype)

        def run(s=starts, y=targets, a=low, b=high, br=breaks, ta=tables, tol=tol):  # type: ignore[no-untyped-def]
            return dispatch.cp_newton(s, y, a, b, br, ta, tol=tol, max_steps=100)

        found = run()
        taken = seconds(run, repeat) * 1e6
        gradient = seconds(lambda: dispatch.cp_gradient(starts, breaks, tables), repeat) * 1e6 / n  # noqa: B023
        step = taken / found.steps.sum()
        verdict = "met" if step[0] < 0.3 else "MISSED"
        print(
            f"{dtype}: one step {step[0]:.3f} us (median {step[1]:.3f}), asked < 0.3  {verdict}; "
            f"a gradient alone {gradient[0]:.3f}; {found.steps.mean():.1f} steps a sample, "
            f"{taken[0] / n:.2f} us a sample, {np.mean(found.ends == REACHED):.1%} reached"
        )


def batch_targets(repeat: int) -> None:
    """Measure 64 inversions at once, everything included."""
    for dim, rank, cells in ((6, 4, 6), (10, 4, 3)):
        u = surrogate(dim, rank, cells, 2)
        rng = np.random.default_rng(3)
        y = np.sort(u(rng.random((64, dim))))
        print(f"{dim} inputs, rank {rank}, {u.size} coefficients:")
        for targets, starts in ((y[32], 64), (y, 1), (y, 8), (y, 64)):
            call = lambda y=targets, n=starts: invert(u, y, n_starts=n)  # noqa: E731, B023
            taken, found = seconds(call, repeat) * 1e3, call()
            count = np.size(targets)
            met = sum(h > 0 for h in found.hits)
            print(
                f"    {count:>2} targets x {starts:>2} starts: {taken[0]:6.2f} ms (median {taken[1]:.2f}), "
                f"{met} of {count} targets reached, {len(found.points)} points; asked < 5 ms for 64 inversions"
            )
        prior = (np.full(dim, 0.5), 0.05 * np.eye(dim))
        call = lambda y=y: map_inversion(u, y, prior=prior, noise=0.05, n_starts=4)  # noqa: E731, B023
        taken, modes = seconds(call, 3) * 1e3, call()
        print(f"    MAP, 64 targets x 4 starts: {taken[0]:.1f} ms, {len(modes.points)} modes; {modes.status.name}")


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description="Time the inversion of sepnet on one thread.")
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    numba.set_num_threads(1)
    print(f"load average {os.getloadavg()[0]:.2f} at the start, {os.cpu_count()} processors, {options.samples} samples")
    step_targets(options.samples, options.repeat)
    batch_targets(options.repeat)
    print(f"load average {os.getloadavg()[0]:.2f} at the end")


if __name__ == "__main__":
    main()
