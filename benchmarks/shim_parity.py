"""The CUDA kernels on the host shim against the CPU, in units of round-off of the sums of the terms' magnitudes.

    python benchmarks/shim_parity.py [--axes 1 2 3 4 5 6] [--degrees 1 3 5 7] [--ranks 1 4 16 33] [--points 400]

No device is needed, but a C++ compiler (`tests/cuda_support.py`); each combination of axes, degree and dtype is
compiled once. The reference are the numba kernels in double precision on the same numbers. The local coordinate s is a
difference of terms of size one, so each of its powers counts as one. For each kernel: the largest difference and where
it is, and the largest median of a configuration. The bound is ``max(8, (degree + 1) axes / 2)``, the median's is 2.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
from gpu import parity
from gpu_cases import Case

from sepnet.backends import cuda

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from cuda_support import on_host

Found = tuple[float, float, str]


def cases(rng: np.random.Generator, d: int, degree: int, rank: int, n: int, dtype: str) -> list[Case]:
    """Return every kernel of functions on uneven breaks; trains have all ranks equal."""

    def numbers(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    breaks = tuple(np.concatenate([[0], np.cumsum(rng.uniform(0.2, 1, 8 + i))]).astype(dtype) for i in range(d))
    points = np.stack([np.minimum(rng.random(n) * b[-1], b[-1]) for b in breaks], axis=1).astype(dtype)
    tables = tuple(numbers(len(b) - 1, degree + 1, rank) for b in breaks)
    chain = [1, *[rank] * (d - 1), 1]
    cores = tuple(numbers(len(b) - 1, degree + 1, chain[i], chain[i + 1]) for i, b in enumerate(breaks))
    given: dict[str, tuple[Any, ...]] = {
        name: (points, breaks, tables) for name in ("cp_value", "cp_columns", "cp_gradient", "cp_hessian")
    } | {name: (points, breaks, cores) for name in ("train_value", "train_gradient", "train_hessian")}
    given |= {
        "cp_vjp": (points, breaks, tables, numbers(n)),
        "cp_columns_vjp": (points, breaks, tables, numbers(n, rank)),
    }
    given |= {"train_vjp": (points, breaks, cores, numbers(n))}
    if d == 1:
        given["local_values"] = (points[:, 0], breaks[0], tables[0])
    allowed = max(8.0, (degree + 1) * d / 2)
    return [Case(name, dtype, arguments, {}, n, 0, 0, 0, allowed) for name, arguments in given.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("axes", [1, 2, 3, 4, 5, 6]), ("degrees", [1, 3, 5, 7]), ("ranks", [1, 4, 16, 33])):
        parser.add_argument(f"--{name}", type=int, nargs="+", default=default)
    parser.add_argument("--points", type=int, default=400)
    options = parser.parse_args()
    worst: dict[tuple[str, str], Found] = {}
    outside = count = 0
    for dtype, d, degree, rank in itertools.product(
        ("float32", "float64"), options.axes, options.degrees, options.ranks
    ):
        rng = np.random.default_rng([d, degree, rank])
        for case in cases(rng, d, degree, rank, options.points, dtype):
            with on_host():
                found = parity(case, lambda a: a, cuda) or {}
            largest, median = found["largest_units"], found["median_units"]
            count, outside = count + 1, outside + (largest > found["allowed_units"] or median > 2)
            before = worst.get((case.kernel, dtype), (0.0, 0.0, ""))
            where = f"{d} axes, degree {degree}, rank {rank}" if largest > before[0] else before[2]
            worst[case.kernel, dtype] = (max(largest, before[0]), max(median, before[1]), where)
    print("| kernel | dtype | largest | median | largest at |\n|---|---|---|---|---|")
    for (kernel, dtype), (largest, median, where) in sorted(worst.items()):
        print(f"| `{kernel}` | {dtype} | {largest:.2f} | {median:.2f} | {where} |")
    print(f"\n{count} configurations of {options.points} points, {outside} outside the bounds")


if __name__ == "__main__":
    main()
