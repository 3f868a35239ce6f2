"""The kernels, a solution and a large evaluation on a CUDA device: time, share of what the device can do, parity.

    python benchmarks/gpu.py [--out FOLDER] [--only KERNEL ...] [--fraction 1.0] [--skip-solve] [--skip-large]

Writes ``gpu.json`` and ``gpu.md``. Each kernel is timed by CUDA events, the median of several runs after one that
warms up. Its time is compared with the larger of two bounds, both given: the bytes that it must move, at the rate at
which this device was measured to copy, and its operations, at the rate of multiply-adds that was measured here. Beside
it stand the same kernel on this machine's CPU (numba, 2 threads), the same in plain CuPy and, where torch is there for
CUDA, in plain torch (`sepnet.backends.generic`, array functions only), and the largest and the median difference from
the CPU in units of round-off of the sum of the terms' magnitudes. Without a device: one line, and exit status 1.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when it is loaded)

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

THREADS = 2
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, str(THREADS))

import numpy as np
from gpu_cases import Case, cases, magnitudes, mapped

import sepnet as sn
from sepnet.backends import dispatch, generic
from sepnet.backends.arrays import namespace, to_host
from sepnet.backends.availability import BackendUnavailable, require_cupy
from sepnet.models import vsna

Call = Callable[[], object]
Timer = Callable[[Call, int], float]
Put = Callable[[np.ndarray], Any]
UNITS = ("largest_units", "median_units", "allowed_units")

MULTIPLY_ADDS = """
extern "C" __global__ void multiply_adds(REAL *out, int steps) {
    REAL a[8], sum = REAL(0);
    const REAL b = REAL(0.999), c = REAL(0.001);
    for (int i = 0; i < 8; ++i) a[i] = REAL(threadIdx.x + i);
    for (int s = 0; s < steps; ++s)
#pragma unroll
        for (int i = 0; i < 8; ++i) a[i] = a[i] * b + c;
    for (int i = 0; i < 8; ++i) sum += a[i];
    out[(long long)blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
"""


# --- time and rates --------------------------------------------------------------------------------------------------


def host_seconds(call: Call, repeat: int) -> float:
    """Return the median time of `repeat` calls on the host, after one that warms up."""
    call()
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def event_timer(cupy: Any) -> Timer:
    """Return what times calls on the current stream of CuPy by events."""

    def seconds(call: Call, repeat: int) -> float:
        call()
        times = []
        for _ in range(repeat):
            start, stop = cupy.cuda.Event(), cupy.cuda.Event()
            start.record()
            call()
            stop.record()
            stop.synchronize()
            times.append(cupy.cuda.get_elapsed_time(start, stop) * 1e-3)
        return float(np.median(times))

    return seconds


def copy_rate(xp: Any, timer: Timer, numbers: int, repeat: int = 9) -> float:
    """Return bytes read and written per second by a copy."""
    source = xp.zeros(numbers, dtype=xp.float64)
    target = xp.empty_like(source)
    return 2 * source.nbytes / timer(lambda: xp.copyto(target, source), repeat)


def arithmetic_rate(cupy: Any, timer: Timer, dtype: str, repeat: int = 5) -> float:
    """Return additions and multiplications per second, from chains of multiply-adds in registers."""
    real = {"float32": "float", "float64": "double"}[dtype]
    kernel = cupy.RawModule(code=MULTIPLY_ADDS, options=(f"-DREAL={real}",)).get_function("multiply_adds")
    blocks = cupy.cuda.Device().attributes["MultiProcessorCount"] * 8
    out, steps = cupy.empty(blocks * 256, dtype=dtype), 4096
    return 16 * steps * blocks * 256 / timer(lambda: kernel((blocks,), (256,), (out, np.int32(steps))), repeat)


# --- one kernel ------------------------------------------------------------------------------------------------------


def measured(case: Case, put: Put, timer: Timer, repeat: int, kernels: Any = dispatch) -> float:
    """Return the seconds of one call of a case, its inputs moved by `put`."""
    arguments, options = mapped(put, (case.arguments, case.options))
    kernel = getattr(kernels, case.kernel)
    return timer(lambda: kernel(*arguments, **options), repeat)


def bounds(case: Case, copying: float, arithmetic: float, seconds: float) -> dict[str, Any]:
    """Return both bounds on the time of a case, which one binds, and the share of it that was achieved."""
    memory, work = case.traffic / copying, case.flops / arithmetic
    return {
        "bytes": case.traffic,
        "operations": case.flops,
        "memory_seconds": memory,
        "arithmetic_seconds": work,
        "binds": "memory" if memory >= work else "arithmetic",
        "share": max(memory, work) / seconds,
        "table_numbers_per_second": case.cached / seconds,
    }


def parity(case: Case, put: Put, kernels: Any = dispatch) -> dict[str, float] | None:
    """Return how far `kernels` are from the CPU in double precision, in units of round-off of sums of magnitudes.

    None for Newton's method, whose samples may end anywhere on the level set.
    """
    if case.kernel == "cp_newton":
        return None
    arguments, options = mapped(put, (case.arguments, case.options))
    given = flat(case.kernel, getattr(kernels, case.kernel)(*arguments, **options))
    unit = np.finfo(next(a.dtype for a in _arrays(case.arguments) if a.dtype.kind == "f")).eps
    double = mapped(lambda a: a.astype(np.float64) if a.dtype.kind == "f" else a, (case.arguments, case.options))
    reference = getattr(dispatch.kernels(np), case.kernel)
    expected = flat(case.kernel, reference(*double[0], **double[1]))
    larger, switches = mapped(lambda a: a.astype(np.float64) if a.dtype.kind == "f" else a, magnitudes(case))
    sizes = flat(case.kernel, reference(*larger, **switches))
    units = []
    for one, other, size in zip(given, expected, sizes, strict=True):
        known = size > 0
        units.append(np.abs(one - other)[known] / size[known] / unit)
        if not np.array_equal(one[~known], other[~known]):
            units.append(np.array([np.inf]))
    every = np.concatenate([u.ravel() for u in units])
    return dict(zip(UNITS, (float(every.max()), float(np.median(every)), float(case.units)), strict=True))


def flat(kernel: str, result: Any) -> list[np.ndarray]:
    """Return the arrays of a result on the host, without the triangles that do not count."""
    parts = [part for one in result for part in flat("", one)] if isinstance(result, tuple) else [to_host(result)]
    if kernel in ("normal_blocks", "fill_blocks"):
        parts[0] = np.tril(parts[0])
    return parts


def _arrays(tree: Any) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    mapped(lambda a: found.append(a), tree)
    return found


def row(
    case: Case,
    small: Case,
    dtype: str,
    put: Put,
    timer: Timer,
    rates: dict[str, float],
    peers: dict[str, tuple[Put, Timer]],
    repeat: int,
) -> dict[str, Any]:
    """Measure one case on the device, on the CPU and in plain expressions; a failure becomes its text."""
    found: dict[str, Any] = {"kernel": case.kernel, "label": case.label, "dtype": dtype, "items": case.items}
    try:
        seconds = measured(case, put, timer, repeat)
        found |= {"seconds": seconds, "ns_per_item": 1e9 * seconds / case.items}
        found |= bounds(case, rates["copy"], rates[dtype], seconds)
        found |= parity(small, put) or {}
        found["cpu_ns_per_item"] = 1e9 * measured(small, lambda a: a, host_seconds, 3) / small.items
        for name, (there, clock) in peers.items():
            plain = attempted(lambda: {"seconds": measured(case, there, clock, 3, generic)})  # noqa: B023 - called here
            found |= {f"plain_{name}_{k}": v for k, v in plain.items()}
    except Exception as error:  # one kernel that fails must not cost the others their time on the device
        found["error"] = f"{type(error).__name__}: {error}"
        traceback.print_exc(file=sys.stderr)
    return found


# --- a solution, and many points -------------------------------------------------------------------------------------


def solve_seconds(xp: Any, rank: int, **cells: Any) -> dict[str, Any]:
    """Return time and residual of the six-dimensional plume by ALS, assembly included, after a small one to warm up."""
    problem = vsna.advection_diffusion(**cells).problem
    options = {"method": "als", "format": "cp", "xp": xp, "seed": 0}
    sn.solve(problem, rank=min(rank, 8), **options)
    began = time.perf_counter()
    solution = sn.solve(problem, rank=rank, **options)  # its residual is on the host: nothing is under way any more
    return {
        "seconds": time.perf_counter() - began, "rank": int(solution.u.rank), "residual": float(solution.residual),
        "sweeps": len(solution.history), "parameters": int(solution.u.size), "status": solution.status.name,
    }  # fmt: skip


def many_points(put: Put, timer: Timer, points: int, chunk: int, dtype: str = "float64") -> dict[str, Any]:
    """Return the time to evaluate a cubic rank-16 function of six variables at `points` points, a chunk at a time.

    The points are made where they are evaluated, by multiples of irrational numbers; making them is not timed.
    """
    rng = np.random.default_rng(0)
    breaks = (put(np.linspace(0, 1, 61).astype(dtype)),) * 6
    tables = tuple(put(rng.standard_normal((60, 4, 16)).astype(dtype)) for _ in range(6))
    step = put(np.sqrt(np.array([[2.0, 3.0, 5.0, 7.0, 11.0, 13.0]])) % 1)
    xp, total, seconds, done = namespace(step), 0.0, 0.0, 0
    while done < points:
        count = min(chunk, points - done)
        numbers = xp.astype(xp.arange(done, done + count), xp.float64)[:, None]
        at = xp.astype(numbers * step % 1, breaks[0].dtype)
        values: list[Any] = []
        seconds += timer(lambda at=at, values=values: values.append(dispatch.cp_value(at, breaks, tables)), 1)  # type: ignore[misc]
        total += float(xp.sum(values[-1]))
        done += count
    found = {"points": points, "chunk": chunk, "dtype": dtype, "mean": total / points}
    return found | {"seconds": seconds, "ns_per_point": 1e9 * seconds / points}


# --- the report ------------------------------------------------------------------------------------------------------


def table(report: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    rates = report["rates"]
    lines = [
        f"{report['device']}, {report['software']}; CPU: {report['cpu']}, {THREADS} threads. Measured here: "
        f"copy {rates['copy'] / 1e9:.0f} GB/s; multiply-adds {rates['float32'] / 1e12:.2f} (float32) and "
        f"{rates['float64'] / 1e12:.2f} (float64) Tflop/s.",
        "",
        *_kernel_table(report["rows"]),
    ]
    for name, one in report.get("solve", {}).items():
        text = one.get("error") or (
            f"{one['seconds']:.2f} s, rank {one['rank']}, residual {one['residual']:.3e}, {one['sweeps']} sweeps, "
            f"{one['status']}"
        )
        lines += ["", f"ALS with six axes, {name}: {text}"]
    if "large" in report:
        one = report["large"]
        text = one.get("error") or f"{one['seconds']:.2f} s, {one['ns_per_point']:.3g} ns a point"
        lines += ["", f"{one.get('points', 0):,} points, {one.get('chunk', 0):,} at a time: {text}"]
    return "\n".join(lines) + "\n"


def _kernel_table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the table of kernels."""
    peers = sorted({key for r in rows for key in r if key.startswith("plain_") and key.endswith("_seconds")})
    plain = [f"plain {key.removeprefix('plain_').removesuffix('_seconds')}" for key in peers]
    head = [
        "kernel",
        "dtype",
        "items",
        "ns/item",
        "memory bound",
        "arithmetic bound",
        "binds",
        "share",
        "CPU",
        "CPU/device",
    ]
    head += [*plain, "units max", "median", "allowed"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for r in rows:
        cells = [f"`{r['kernel']}`, {r['label']}", r["dtype"], f"{r['items']:,}"]
        if "error" in r:
            cells += [r["error"].splitlines()[0].replace("|", "/"), *[""] * (len(head) - 4)]
        else:
            per = 1e9 / r["items"]
            cells += [f"{v:.3g}" for v in (r["ns_per_item"], r["memory_seconds"] * per, r["arithmetic_seconds"] * per)]
            cells += [r["binds"], f"{100 * r['share']:.0f} %", f"{r['cpu_ns_per_item']:.3g}"]
            cells += [f"{r['cpu_ns_per_item'] / r['ns_per_item']:.3g}"]
            cells += [f"{r[key] * per:.3g}" if key in r else "" for key in peers]
            cells += [f"{r[key]:.3g}" if key in r else "" for key in UNITS]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def kernel_rows(
    put: Put,
    timer: Timer,
    rates: dict[str, float],
    peers: dict[str, tuple[Put, Timer]],
    *,
    fraction: float,
    only: Sequence[str] = (),
    repeat: int = 7,
) -> list[dict[str, Any]]:
    """Measure all cases in both data types; parity and the CPU's time are taken at a fiftieth of the points."""
    rows = []
    for dtype in ("float64", "float32"):
        for case, few in zip(cases(dtype, fraction), cases(dtype, fraction / 50), strict=True):
            if not only or case.kernel in only:
                # a matrix has no points to take fewer of
                small = case if case.kernel.startswith("fill_") else few
                rows.append(row(case, small, dtype, put, timer, rates, peers, repeat))
                print(f"{dtype} {case.kernel}, {case.label}: {rows[-1].get('ns_per_item', 'failed')}", flush=True)
    return rows


def attempted(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what `call` does, or its error as text."""
    try:
        return call()
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return {"error": f"{type(error).__name__}: {error}"}


def plain_peers(cupy: Any, timer: Timer) -> dict[str, tuple[Put, Timer]]:
    """Return where plain expressions run: CuPy, and torch if it is there for CUDA."""
    peers: dict[str, tuple[Put, Timer]] = {"cupy": (cupy.asarray, timer)}
    try:
        import torch
    except ImportError:
        return peers
    if torch.cuda.is_available():

        def seconds(call: Call, repeat: int) -> float:
            def waited() -> None:
                call()
                torch.cuda.synchronize()

            with torch.no_grad():
                return host_seconds(waited, repeat)

        peers["torch"] = (lambda a: torch.asarray(a, device="cuda"), seconds)
    return peers


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description="Measure sepnet on a CUDA device.")
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--only", nargs="*", default=[], metavar="KERNEL")
    parser.add_argument("--fraction", type=float, default=1.0, help="of the points of the kernels")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--skip-solve", action="store_true")
    parser.add_argument("--skip-large", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything that was asked for; return the exit status."""
    options = options_of(arguments)
    try:
        cupy = require_cupy()
    except BackendUnavailable as error:
        print(f"no device to measure: {error}", file=sys.stderr)
        return 1
    import numba

    numba.set_num_threads(min(THREADS, numba.config.NUMBA_NUM_THREADS))
    timer = event_timer(cupy)
    runtime = cupy.cuda.runtime
    rates = {"copy": copy_rate(cupy, timer, 2**27)} | {
        dtype: arithmetic_rate(cupy, timer, dtype) for dtype in ("float32", "float64")
    }
    report: dict[str, Any] = {
        "device": runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode(),
        "software": f"CuPy {cupy.__version__}, CUDA driver {runtime.driverGetVersion()}, NumPy {np.__version__}",
        "cpu": f"{platform.processor() or platform.machine()}, load {os.getloadavg()[0]:.1f}",
        "rates": rates,
        "rows": kernel_rows(cupy.asarray, timer, rates, plain_peers(cupy, timer), fraction=options.fraction,
                            only=options.only, repeat=options.repeat),
    }  # fmt: skip
    write(report, options.out)
    if not options.skip_large:
        report["large"] = attempted(lambda: many_points(cupy.asarray, timer, 10**8, 10**7))
        write(report, options.out)
    if not options.skip_solve:
        report["solve"] = {"device": attempted(lambda: solve_seconds(cupy, 128))}
        write(report, options.out)
        report["solve"]["NumPy"] = attempted(lambda: solve_seconds(np, 128))
    write(report, options.out)
    print(table(report))
    return 0


def write(report: dict[str, Any], folder: Path) -> None:
    """Write the report so far: a run that is cut short keeps what it has."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (folder / "gpu.md").write_text(table(report), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
