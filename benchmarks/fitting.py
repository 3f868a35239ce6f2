"""Time and memory of `sn.fit`: 10,000 samples, a million in memory, and a million read from a file in batches.

    python benchmarks/fitting.py                  # all three
    python benchmarks/fitting.py --samples 200000

The function is borehole (8 inputs, `regression_cases.py`), the fit one of rank 4 on 6 cubic cells an axis. The error
is the root mean square error over 20,000 fresh points divided by the standard deviation of the function there; the
time is CPU time on one thread, without compilation; the memory is the largest resident size of a process that
does nothing else, the samples included.
"""

# ruff: noqa: E402 (BLAS and numba read their number of threads when they are loaded)

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import h5py
import numpy as np
from regression_cases import CASES

import sepnet as sn

SHAPE = {"rank": 4, "cells": 6}
REPEATS = 5


def error(u: Any) -> float:
    points, exact = CASES["borehole"].samples(20_000, 1)
    low, high = np.array([basis.domain for basis in u.space.bases]).T
    values = u(np.clip(points, low, high))
    return float(np.sqrt(np.mean((values - exact) ** 2)) / np.std(exact))


def warm() -> None:
    sn.fit(*CASES["borehole"].samples(500, 2), rank=1, cells=2)


def timed(X: Any, y: Any = None) -> tuple[Any, float]:
    start = time.process_time()
    fit = sn.fit(X, y, **SHAPE)
    return fit, time.process_time() - start


def small() -> None:
    X, y = CASES["borehole"].samples(10_000, 0)
    warm()
    runs = [timed(X, y) for _ in range(REPEATS)]
    seconds = float(np.median([t for _, t in runs]))
    print(f"10,000 samples: error {error(runs[0][0].u):.2e}, {runs[0][0].u.size} coefficients, {seconds:.2f} s")


def in_memory(path: str, queue: Any) -> None:
    with h5py.File(path) as file:
        X, y = file["X"][:], file["y"][:]
    report(X, y, "in memory", queue)


def in_batches(path: str, queue: Any) -> None:
    with h5py.File(path) as file:
        report(file["X"], file["y"], "from the file", queue)


def report(X: Any, y: Any, how: str, queue: Any) -> None:
    warm()
    fit, seconds = timed(X, y)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{len(X):,} samples, {how}: error {error(fit.u):.2e}, {seconds:.1f} s, {memory:.2f} GiB")
    queue.put([np.asarray(f) for f in fit.u.factors])


def large(count: int) -> None:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "samples.h5")
        X, y = CASES["borehole"].samples(count, 0)
        with h5py.File(path, "w") as file:
            file["X"], file["y"] = X, y
        del X, y
        found = []
        for work in (in_memory, in_batches):
            queue = context.Queue()
            process = context.Process(target=work, args=(path, queue))
            process.start()
            found.append(queue.get())
            process.join()
    same = all(np.array_equal(a, b) for a, b in zip(*found, strict=True))
    print(f"the two fits are {'the same to the last bit' if same else 'different'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}")
    small()
    large(options.samples)


if __name__ == "__main__":
    main()
