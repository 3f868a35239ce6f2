"""How fast are the kernels, against a plain loop, SciPy and LAPACK? One thread, through the public dispatch functions.

Run ``python benchmarks/kernels.py``. Each line gives what is asked, what was measured (ratio of minima, and of medians
in brackets) and whether the target is met. The reference is the loop one would write by hand: cubic B-splines on 64
equal cells in closed form, six variables, a run-time rank of 16, 1e6 points. Where it takes 75 ns a point or more the
run is void: something else is running, the machine is slow, or the compiler did not vectorise it. The tensor train, of
ranks 4-14-20-16-4 on the same axes, has a loop of the same kind beside it, on a fifth of the points.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when it is loaded)

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numba
import numpy as np
from scipy.interpolate import BSpline
from scipy.linalg import lapack

from sepnet.backends import dispatch

VOID = 75.0
CELLS, AXES, RANK = 64, 6, 16
CHAIN = (1, 4, 14, 20, 16, 4, 1)


@numba.njit(nogil=True, error_model="numpy")
def reference(points, coefficients, cells, out):  # type: ignore[no-untyped-def]
    """Evaluate a CP function of uniform cubic B-splines on the unit box: closed-form weights, run-time rank."""
    n, d = points.shape
    rank = coefficients.shape[2]
    products = np.empty(rank)
    for k in range(n):
        for r in range(rank):
            products[r] = 1.0
        for i in range(d):
            t = points[k, i] * cells
            c = min(int(t), cells - 1)
            t -= c
            u = 1.0 - t
            w0 = u * u * u / 6.0
            w1 = (4.0 + t * t * (3.0 * t - 6.0)) / 6.0
            w2 = (4.0 + u * u * (3.0 * u - 6.0)) / 6.0
            w3 = t * t * t / 6.0
            for r in range(rank):
                products[r] *= (
                    w0 * coefficients[i, c, r]
                    + w1 * coefficients[i, c + 1, r]
                    + w2 * coefficients[i, c + 2, r]
                    + w3 * coefficients[i, c + 3, r]
                )
        value = 0.0
        for r in range(rank):
            value += products[r]
        out[k] = value


@numba.njit(nogil=True, error_model="numpy")
def train_reference(points, coefficients, chain, cells, out):  # type: ignore[no-untyped-def]
    """Evaluate a tensor train of uniform cubic B-splines on the unit box: closed-form weights, run-time ranks."""
    n, d = points.shape
    row, product = np.empty(chain.max()), np.empty(chain.max())
    for k in range(n):
        row[0] = 1.0
        for i in range(d):
            t = points[k, i] * cells
            c = min(int(t), cells - 1)
            t -= c
            u = 1.0 - t
            w0 = u * u * u / 6.0
            w1 = (4.0 + t * t * (3.0 * t - 6.0)) / 6.0
            w2 = (4.0 + u * u * (3.0 * u - 6.0)) / 6.0
            w3 = t * t * t / 6.0
            core = coefficients[i]
            for b in range(chain[i + 1]):
                product[b] = 0.0
            for a in range(chain[i]):
                for b in range(chain[i + 1]):
                    entry = (
                        w0 * core[c, a, b] + w1 * core[c + 1, a, b] + w2 * core[c + 2, a, b] + w3 * core[c + 3, a, b]
                    )
                    product[b] += row[a] * entry
            row, product = product, row
        out[k] = row[0]


def seconds(function: Callable[[], object], repeat: int) -> np.ndarray:
    """Return [minimum, median] of `repeat` calls after one that warms up.

    A call counts as the smaller of its wall and its processor time: on one thread, what others do on the machine is
    then left out as far as it can be.
    """
    function()
    times = []
    for _ in range(repeat):
        wall, processor = time.perf_counter(), time.process_time()
        function()
        times.append(min(time.perf_counter() - wall, time.process_time() - processor))
    return np.array([min(times), np.median(times)])


def line(what: str, asked: float, ratio: np.ndarray, *, at_least: bool = False) -> None:
    """Print one target."""
    met = ratio[0] >= asked if at_least else ratio[0] <= asked
    sign = ">=" if at_least else "<="
    print(
        f"{what:<58} asked {sign} {asked:<5} measured {ratio[0]:6.2f} ({ratio[1]:6.2f})  {'met' if met else 'MISSED'}"
    )


def bspline_tables(breaks: np.ndarray, degree: int) -> np.ndarray:
    """Return the table of the smoothest B-splines, ``(cells, degree + 1, degree + 1)``, by interpolation in s."""
    cells = len(breaks) - 1
    knots = np.concatenate([[breaks[0]] * degree, breaks, [breaks[-1]] * degree])
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    fit = np.linalg.inv(np.vander(nodes, degree + 1, increasing=True))
    basis = BSpline(knots, np.eye(cells + degree), degree)
    values = [basis((breaks[c] + breaks[c + 1] + nodes * (breaks[c + 1] - breaks[c])) / 2) for c in range(cells)]
    return np.stack([fit @ values[c][:, c : c + degree + 1] for c in range(cells)])


def cp_problem(
    degree: int, breaks: np.ndarray, dtype: type = np.float64
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Return breaks and tables of a random rank-16 function of six variables."""
    rng = np.random.default_rng(degree)
    table = bspline_tables(breaks, degree)
    tables = []
    for _ in range(AXES):
        coefficients = rng.standard_normal((len(breaks) - 1 + degree, RANK))
        windows = np.stack([coefficients[c : c + degree + 1] for c in range(len(breaks) - 1)])
        tables.append((table @ windows).astype(dtype))
    return (breaks.astype(dtype),) * AXES, tuple(tables)


def cp_targets(n: int, repeat: int) -> None:
    """Measure value, gradient, vector-Jacobian product and Hessian against the reference loop."""
    rng = np.random.default_rng(0)
    points = rng.random((n, AXES))
    coefficients, out = rng.standard_normal((AXES, CELLS + 3, RANK)), np.empty(n)
    uniform = np.linspace(0, 1, CELLS + 1)
    base = seconds(lambda: reference(points, coefficients, CELLS, out), repeat)
    per_point = base / n * 1e9
    verdict = f"VOID: {VOID:.0f} or more" if per_point[0] >= VOID else "valid"
    print(f"reference loop: {per_point[0]:.1f} ns/point (median {per_point[1]:.1f}); run is {verdict}")
    cases = [("value, cubic, uniform", 1.3, 3, uniform), ("value, degree 5, uniform", 2.0, 5, uniform),
             ("value, cubic, graded breaks (squares)", 2.0, 3, uniform**2)]  # fmt: skip
    for what, asked, degree, breaks in cases:
        b, t = cp_problem(degree, breaks)
        line(what, asked, seconds(lambda b=b, t=t: dispatch.cp_value(points, b, t), repeat) / base)  # type: ignore[misc]
    b, t = cp_problem(3, uniform)
    value = seconds(lambda: dispatch.cp_value(points, b, t), repeat)
    gradient = seconds(lambda: dispatch.cp_gradient(points, b, t), repeat)
    line("value and gradient, per value", 2.5, gradient / value)
    y = rng.standard_normal(n)
    back = seconds(lambda: dispatch.cp_vjp(points, b, t, y), repeat)
    line("vector-Jacobian product, per value and gradient", 2.5, back / gradient)
    columns = seconds(lambda: dispatch.cp_columns(points, b, t), repeat)
    wide = np.repeat(y[:, None], RANK, axis=1)
    back_columns = seconds(lambda: dispatch.cp_columns_vjp(points, b, t, wide), repeat)
    print(f"columns, per value: {(columns / value)[0]:.2f}; back from the columns, per value: "
          f"{(back_columns / value)[0]:.2f}, from the value: {(back / value)[0]:.2f}")  # fmt: skip
    hessian = seconds(lambda: dispatch.cp_hessian(points, b, t), 3)
    print(f"value, gradient and Hessian, per value: {(hessian / value)[0]:.2f}")
    few, (single, small) = points.astype(np.float32), cp_problem(3, uniform, np.float32)
    half = seconds(lambda: dispatch.cp_value(few, single, small), repeat)
    half_back = seconds(lambda: dispatch.cp_vjp(few, single, small, y.astype(np.float32)), repeat)
    print(f"float32 per float64: value {(half / value)[0]:.2f}, vector-Jacobian product {(half_back / back)[0]:.2f}")
    print(f"value at one point: {seconds(lambda: dispatch.cp_value(points[:1], b, t), 200)[0] * 1e6:.0f} us")


def train_targets(n: int, repeat: int) -> None:
    """Measure the kernels of a tensor train against the loop of its kind."""
    rng = np.random.default_rng(1)
    points, breaks = rng.random((n, AXES)), np.linspace(0, 1, CELLS + 1)
    # the functions of an interior cell on all cells: the loop knows no ends
    table = bspline_tables(breaks, 3)[CELLS // 2]
    cores = tuple(rng.standard_normal((CELLS + 3, left, right)) for left, right in pairwise(CHAIN))
    windows = [np.stack([core[c : c + 4] for c in range(CELLS)]) for core in cores]
    b, t = (breaks,) * AXES, tuple(np.einsum("mj,cjab->cmab", table, w) for w in windows)
    out, chain = np.empty(n), np.array(CHAIN)
    base = seconds(lambda: train_reference(points, cores, chain, CELLS, out), repeat)
    value = seconds(lambda: dispatch.train_value(points, b, t), repeat)
    error = np.max(np.abs(dispatch.train_value(points, b, t) - out)) / np.max(np.abs(out))
    gradient = seconds(lambda: dispatch.train_gradient(points, b, t), repeat)
    hessian = seconds(lambda: dispatch.train_hessian(points, b, t), 3)
    y = rng.standard_normal(n)
    back = seconds(lambda: dispatch.train_vjp(points, b, t, y), repeat)
    print(f"train, ranks {'-'.join(map(str, CHAIN[1:-1]))}: the loop takes {(base / n * 1e9)[0]:.0f} ns/point")
    for what, time_taken in (
        ("value", value),
        ("value and gradient", gradient),
        ("value, gradient and Hessian", hessian),
        ("vector-Jacobian product", back),
    ):
        per_point, per_value, per_loop = time_taken / n * 1e9, time_taken / value, time_taken / base
        print(
            f"    {what:<27} {per_point[0]:6.0f} ns/point (median {per_point[1]:.0f}), "
            f"per value {per_value[0]:.2f} ({per_value[1]:.2f}), per loop {per_loop[0]:.2f} ({per_loop[1]:.2f})"
        )
    line("vector-Jacobian product, per value and gradient", 2.5, back / gradient)
    print(f"    relative difference from the loop: {error:.1e}")


def basis_targets(n: int, repeat: int) -> None:
    """Measure basis values against SciPy."""
    points, breaks = np.random.default_rng(0).random(n), np.linspace(0, 1, CELLS + 1)
    table = bspline_tables(breaks, 3)
    knots = np.concatenate([[0.0] * 3, breaks, [1.0] * 3])
    peer = seconds(lambda: BSpline.design_matrix(points, knots, 3), max(repeat // 2, 2))
    ours = seconds(lambda: dispatch.local_values(points, breaks, table), repeat)
    line("basis values, cubic: times faster than design_matrix", 20, peer / ours, at_least=True)


def band_inputs(rank: int, cells: int = 36, width: int = 3, terms: int = 12) -> Iterator[np.ndarray]:
    """Give bands and weights of a positive definite sum."""
    rng = np.random.default_rng(rank)
    bands = rng.standard_normal((terms, cells, width + 1)) / 8
    bands[:, :, 0] = 4
    for o in range(1, width + 1):
        bands[:, cells - o :, o] = 0
    yield bands
    roots = rng.standard_normal((terms, rank, rank))
    yield roots @ roots.transpose(0, 2, 1) / rank + np.eye(rank)


def band_targets(repeat: int) -> None:
    """Measure the filling of the ALS band against its factorisation."""
    for rank, asked in ((16, 2.0), (32, 1.0), (64, 1.0), (128, 1.0)):
        bands, weights = band_inputs(rank)
        out = dispatch.fill_band(bands, weights)
        full, copy = out.copy(order="F"), out.copy(order="F")

        def factorise(full: np.ndarray = full, copy: np.ndarray = copy) -> None:
            copy[...] = full
            _, info = lapack.dpbtrf(copy, lower=1, overwrite_ab=1)
            if info:
                raise ArithmeticError(f"dpbtrf failed with {info}")

        copying = seconds(lambda full=full, copy=copy: np.copyto(copy, full), repeat)  # type: ignore[misc]
        factor = seconds(factorise, repeat) - copying
        fresh = seconds(lambda b=bands, w=weights: dispatch.fill_band(b, w), repeat)  # type: ignore[misc]
        kept = seconds(lambda b=bands, w=weights, out=out: dispatch.fill_band(b, w, out=out), repeat)  # type: ignore[misc]
        line(f"fill_band, R = {rank}, per dpbtrf ({factor[0] * 1e3:.2f} ms)", asked, fresh / factor)
        print(f"    the same into memory that is kept: {(kept / factor)[0]:.2f}")


def main() -> None:
    """Run all targets."""
    parser = argparse.ArgumentParser(description="Time the kernels of sepnet on one thread.")
    parser.add_argument("--points", type=int, default=10**6)
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    numba.set_num_threads(1)
    print(f"load average {os.getloadavg()[0]:.2f} at the start, {options.points} points, {options.repeat} repetitions")
    cp_targets(options.points, options.repeat)
    train_targets(max(options.points // 5, 1), options.repeat)
    basis_targets(options.points, options.repeat)
    band_targets(max(options.repeat, 20))
    print(f"load average {os.getloadavg()[0]:.2f} at the end")


if __name__ == "__main__":
    main()
