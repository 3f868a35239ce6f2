"""A small call of every function of the CUDA backend; as a program, all of them under the sanitizers.

``python tests/cuda_examples.py DTYPE RANK ORDER...`` runs the sources on the CPU in the orders, compiled with the
sanitizers for addresses and undefined behaviour, whose library has to be loaded first: see `test_cuda_shim`. What a
sanitizer finds ends the process.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
from cuda_support import ShimDriver, on_host

from sepnet.backends import cuda, generic

# Without optimisation, which would cost two times the compiler's time and hide some errors.
SANITIZERS = ("-O0", "-g1", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all")
# What has no kernel: it tells that LAPACK's band is for NumPy.
HOST = {"fill_band"}

Call = Callable[[Any], Any]


def splines(dtype: type, *tails: tuple[int, ...], n: int = 37) -> tuple:
    """Points, breaks and tables of quadratics on unequal cells; the coefficients of a cell have the shapes `tails`."""
    rng = np.random.default_rng(len(tails))
    breaks = tuple(np.cumsum(np.r_[0.0, 0.2 + rng.random(8 + i)]).astype(dtype) for i in range(len(tails)))
    tables = tuple(rng.standard_normal((8 + i, 3, *tail)).astype(dtype) for i, tail in enumerate(tails))
    points = np.stack([b[0] + (b[-1] - b[0]) * rng.random(n).astype(dtype) for b in breaks], axis=1)
    # ends, and breaks within
    points[0], points[1], points[2] = [b[0] for b in breaks], [b[-1] for b in breaks], [b[1] for b in breaks]
    return points, breaks, tables


def examples(dtype: type, rank: int = 4) -> dict[str, list[Call]]:
    """Calls by the name of the function, each of which takes the module whose function it is to be."""
    rng = np.random.default_rng(0)
    # a lane reads 16 bytes at once where the rank is a multiple of 4
    x, breaks, tables = cp = splines(dtype, (rank,), (rank,))
    train = splines(dtype, (1, 3), (3, 1))
    weight, weights = rng.standard_normal(len(x)).astype(dtype), rng.standard_normal((3, 5, 5)).astype(dtype)
    low, high = (np.array([b[i] for b in breaks]) for i in (0, -1))
    level = generic.cp_value(x[::-1], breaks, tables), low, high, breaks, tables
    close = {"tol": np.full(len(x), 1e-3, dtype=dtype), "max_steps": 5}
    bands = np.where(np.add.outer(np.arange(7), np.arange(3)) < 7, rng.standard_normal((3, 7, 3)), 0).astype(dtype)
    first = tuple(rng.integers(0, m - 2, len(x)) for m in (5, 6))
    values = tuple(rng.standard_normal((len(x), 3)).astype(dtype) for _ in first)
    gains = tuple(rng.standard_normal((len(x), r)).astype(dtype) for r in (4, 2))
    calls: dict[str, list[Call]] = {
        "local_values": [lambda k: k.local_values(x[:, 0], breaks[0], tables[0])],
        "cp_newton": [lambda k: k.cp_newton(x, *level, **close)],
        "window_values": [lambda k: k.window_values(first[0], values[0], np.ones((5, 4), dtype=dtype))],
        "normal_blocks": [lambda k: k.normal_blocks(first, values, gains, abs(weight), weight, sizes=(5, 6))],
        "fill_dense": [lambda k: k.fill_dense(rng.standard_normal((3, 7, 7)).astype(dtype), weights)],
        "fill_dense_from_bands": [lambda k: k.fill_dense_from_bands(bands, weights)],
        "fill_blocks": [lambda k: k.fill_blocks(bands, weights, group=3)],
    }
    for kind, case in (("cp", cp), ("train", train)):
        for what in ("value", "gradient", "hessian", "columns"):
            name = f"{kind}_{what}"
            calls[name] = [lambda k, name=name, case=case: getattr(k, name)(*case)]
        for name in (f"{kind}_vjp", f"{kind}_columns_vjp"):
            cotangent = rng.standard_normal((len(x), rank)).astype(dtype) if "columns" in name else weight
            calls[name] = [
                lambda k, name=name, case=case, c=cotangent, d=d: getattr(k, name)(*case, c, deterministic=d)
                for d in (False, True)
            ]
    return {name: calls[name] for name in cuda.__all__ if name not in HOST}


def numbers(result: Any) -> list[np.ndarray]:
    """All arrays of a result, also of nested tuples and records."""
    parts = vars(result).values() if hasattr(result, "__dict__") else result if isinstance(result, tuple) else None
    return [np.asarray(result)] if parts is None else [a for part in parts for a in numbers(part)]


@final
class Cramped(ShimDriver):
    """A device with hardly any shared memory: sums that do not fit into it are added up in another way."""

    def shared_limit(self) -> int:
        return 1024


def run(dtype: type, rank: int, orders: Sequence[str], edit: Callable[[str], str] | None = None) -> list[str]:
    """Call everything once an order under the sanitizers; return the kernels that were launched."""
    launched = set()
    for order in orders:
        driver, cramped = (kind(order, edit=edit, extra=SANITIZERS) for kind in (ShimDriver, Cramped))
        for name, calls in examples(dtype, rank).items():
            for on in (driver, cramped) if name == "cp_vjp" else (driver,):
                with on_host(on):
                    for call in calls:
                        if not all(np.isfinite(a).all() for a in numbers(call(cuda))):
                            raise RuntimeError(f"{name} gives numbers that are not finite")
        for bad in (np.nan, np.inf, -99.0):
            points, breaks, tables = splines(dtype, (rank,), (rank,))
            points[30, 1] = bad
            with on_host(driver), contextlib.suppress(ValueError):
                cuda.cp_value(points, breaks, tables)
                raise RuntimeError(f"{bad} is taken for a point")
        launched |= {*driver.launches, *cramped.launches}
    return sorted(launched)


if __name__ == "__main__":
    sys.stdout.write("\n".join(run(np.dtype(sys.argv[1]).type, int(sys.argv[2]), sys.argv[3:])))
