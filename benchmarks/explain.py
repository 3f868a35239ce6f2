"""Draw the pictures of docs/explain.md, and measure the Sobol indices of functions whose indices are known.

Run ``python benchmarks/explain.py`` (half a minute, one thread); ``--figures FOLDER`` writes the pictures, by default
none is written. Each line names the function, the largest error of any first or total index, and the time.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when it is loaded)

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

import sepnet as sn
from sepnet import plotting
from sepnet.sensitivity import effects, sobol

PI = np.pi


def ishigami(cells: int = 32) -> tuple[sn.CP, dict[str, float], dict[str, float]]:
    """Return sin x1 + 7 sin(x2)**2 + 0.1 x3**4 sin x1 on (-pi, pi)**3 in splines, and its first and total indices."""
    V = sn.TensorSpace(**{name: sn.BSpline((-PI, PI), cells=cells) for name in ("x1", "x2", "x3")})
    a, b = 7.0, 0.1
    wave = sn.product(x1=np.sin)
    u = sn.project(wave + sn.product(x2=lambda x: a * np.sin(x) ** 2) + wave * sn.product(x3=lambda x: b * x**4), V)
    one, two, mixed = (1 + b * PI**4 / 5) ** 2 / 2, a**2 / 8, b**2 * PI**8 * 8 / 225
    whole = one + two + mixed
    first = {"x1": one / whole, "x2": two / whole, "x3": 0.0}
    return u, first, {"x1": (one + mixed) / whole, "x2": two / whole, "x3": mixed / whole}


def g_function(weights: tuple[float, ...] = (0, 1, 4.5, 9, 99, 99, 99, 99)) -> tuple[sn.CP, dict, dict]:
    """Return prod (|4 x_i - 2| + a_i) / (1 + a_i) on (0, 1)**d, exact in splines of degree 1, and its indices."""
    V = sn.TensorSpace(**{f"x{k + 1}": sn.BSpline((0, 1), cells=2, degree=1) for k in range(len(weights))})
    pairs = zip(V.bases, weights, strict=True)
    u = sn.CP(V, [(np.abs(4 * basis.greville - 2) + a)[:, None] / (1 + a) for basis, a in pairs])
    alone = np.array([1 / (3 * (1 + a) ** 2) for a in weights])
    whole = np.prod(1 + alone) - 1
    total = alone * np.prod(1 + alone) / (1 + alone) / whole
    return u, dict(zip(V.names, alone / whole, strict=True)), dict(zip(V.names, total, strict=True))


def line(label: str, u: sn.CP, first: dict[str, float], total: dict[str, float]) -> None:
    start = time.perf_counter()
    found = sobol(u)
    seconds = time.perf_counter() - start
    error = max(abs(found.first[n] - first[n]) for n in first), max(abs(found.total[n] - total[n]) for n in total)
    print(f"{label:<40} first {error[0]:.1e}  total {error[1]:.1e}  {1e3 * seconds:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", type=Path, help="folder for the pictures")
    folder = parser.parse_args().figures
    sobol(ishigami(4)[0])  # compiles the kernels
    for cells in (8, 16, 32, 64):
        line(f"Ishigami, {cells} cubic cells", *ishigami(cells))
    line("g-function, 8 inputs", *g_function())
    line("g-function, 50 inputs", *g_function(tuple(np.linspace(0, 20, 50))))
    rng = np.random.default_rng(0)
    for d, rank, cells in ((6, 16, 32), (10, 32, 32), (10, 64, 32), (10, 200, 32), (10, 400, 32)):
        V = sn.TensorSpace(**{f"x{k}": sn.BSpline((0, 1), cells=cells) for k in range(d)})
        u = sn.CP(V, [rng.standard_normal((n, rank)) for n in V.shape])
        start = time.perf_counter()
        sobol(u)
        middle = time.perf_counter()
        effects(u)
        times = 1e3 * (middle - start), 1e3 * (time.perf_counter() - middle)
        print(f"random, {d} inputs, rank {rank}: indices {times[0]:.1f} ms, effects {times[1]:.1f} ms")
    if folder is not None:
        draw(folder)


def draw(folder: Path) -> None:
    u = ishigami()[0]
    plotting.save(plotting.effects(u), folder / "effects.png")
    plotting.save(plotting.factors(u), folder / "factors.png")
    rng = np.random.default_rng(0)
    truth = u(rng.uniform(-PI, PI, (400, 3)))
    noisy = truth + rng.normal(0, 0.6, 400)
    plotting.save(plotting.parity(truth, noisy, name="u"), folder / "parity.png")


if __name__ == "__main__":
    main()
