"""Conditions of the gallery, and a plume in time windows: errors, bounds, ranks, and the picture of docs/conditions.md.

Run ``python benchmarks/conditions.py``. Needs matplotlib for the picture. The plume turns once in the cube |x| < 1.25
(degree 4, 28 cells in space, 32 in time, width 0.2, centre 0.4, kappa 1e-3): relative L2 errors at 40,000 random
points against the plume in free space.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when it is loaded)

from __future__ import annotations

import math
import os
import pathlib
import time

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

import sepnet as sn
from sepnet.models.gallery_conditions import interface, periodic_heat, robin
from sepnet.solvers.march import March, march

PICTURE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "figures" / "conditions.png"
WIDTH, CENTRE, KAPPA, END = 0.2, 0.4, 1e-3, 4.0
OMEGA = 2 * math.pi / END


def gallery() -> None:
    """Print the errors of the gallery problems on two meshes."""
    print("| problem | cells | rank | status | error | bound, energy | seconds |")
    print("|---|---|---|---|---|---|---|")
    for make in (robin, periodic_heat, interface):
        for options in ({}, {"cells": 40, "rank": 20}):
            case = make(**options)
            began = time.perf_counter()
            solution = sn.solve(case.problem, **case.options)
            seconds = time.perf_counter() - began
            bound = solution.error_bound
            shown = f"{bound.value:.1e}" if bound.finite else "none"
            cells = "/".join(str(n) for n in case.constants["cells"].values())
            error = case.measure(solution.u).value
            print(
                f"| {case.name} | {cells} | {solution.u.rank} | {solution.status.name} | {error:.1e} | {shown} "
                f"| {seconds:.2f} |"
            )


def plume() -> sn.LeastSquares:
    """Return the plume that turns once."""
    walls = {a: sn.BSpline((-1.25, 1.25), cells=28, degree=4, zero="both") for a in "xyz"}
    V = sn.TensorSpace(**walls, t=sn.BSpline((0, END), cells=32, degree=4))
    x, y, _, _ = V.coordinates
    d = V.d
    operator = d.t + OMEGA * (x * d.y - y * d.x) - KAPPA * (d.x**2 + d.y**2 + d.z**2)

    def bell(c: float) -> object:
        return lambda s: np.exp(-((s - c) ** 2) / (2 * WIDTH**2))

    start = sn.product(x=bell(CENTRE), y=bell(0.0), z=bell(0.0))
    return sn.LeastSquares(operator, initial={"t": start}, stability=(2 * END / math.pi, math.sqrt(END)))


def error_at(run: March, t: float) -> float:
    """Return the relative error of the plume at a time."""
    points = np.random.default_rng(0).uniform(-1.25, 1.25, (40_000, 3))
    variance = WIDTH**2 + 2 * KAPPA * t
    centre = [CENTRE * math.cos(OMEGA * t), CENTRE * math.sin(OMEGA * t), 0.0]
    square = ((points - centre) ** 2).sum(axis=1)
    exact = (WIDTH**2 / variance) ** 1.5 * np.exp(-square / (2 * variance))
    return float(np.linalg.norm(run.restrict(t=t)(points) - exact) / np.linalg.norm(exact))


def windows() -> dict[str, March]:
    """Print and return the runs of the plume in 1, 4 and 8 windows."""
    problem, runs = plume(), {}
    print("\n| format | windows | ranks | error after one turn | bound, L2 over the box | seconds |")
    print("|---|---|---|---|---|---|")
    for form in ("cp", "tt"):
        for count in (1, 4, 8):
            began = time.perf_counter()
            run = march(problem, count, tol=1e-2, format=form)
            seconds = time.perf_counter() - began
            ranks = " ".join(str(s.u.rank) for s in run.solutions)
            error, bound = error_at(run, END), run.error_bound.value
            print(f"| {form} | {count} | {ranks} | {error:.1e} | {bound:.1e} | {seconds:.1f} |")
            if form == "cp":
                runs[f"{count} window{'s' if count > 1 else ''}"] = run
    return runs


def picture(runs: dict[str, March]) -> None:
    """Draw an interface, a periodic state, and the errors of the plume."""
    import matplotlib.pyplot as plt
    from PIL import Image

    layers, ground = interface(), periodic_heat()
    u = sn.solve(layers.problem, **layers.options).u.restrict(y=0.5)
    wave = sn.solve(ground.problem, **ground.options).u.restrict(kappa=0.1)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10.5, 3.0), layout="constrained")
    x = np.linspace(0, 1, 201)
    for k2 in (1.0, 3.0, 10.0, 100.0):
        left.plot(x, u.restrict(k2=k2)(x[:, None]), label=f"k2 = {k2:g}")
    left.axvline(0.4, color="0.7", linewidth=0.8)
    left.set(xlabel="x", ylabel="u(x, 1/2)", title="Two layers, for any k2")
    t = np.linspace(0, 2, 201)
    for depth in (0.0, 0.1, 0.2, 0.4):
        middle.plot(t, wave.restrict(x=depth)(np.mod(t, 1.0)[:, None]), label=f"x = {depth:g}")
    middle.set(xlabel="t (two periods)", ylabel="u", title="Ground, time-periodic")
    times = np.linspace(0.25, END, 16)
    for name, run in runs.items():
        right.semilogy(times, [error_at(run, s) for s in times], ".-", label=name)
    right.set(xlabel="t", ylabel="relative error", title="A plume turns once, tol 1e-2")
    for axes in (left, middle, right):
        axes.legend(fontsize=7)
    figure.savefig(PICTURE, dpi=80)
    with Image.open(PICTURE) as image:  # 64 colours are enough, and a third of the bytes
        image.convert("RGB").quantize(64).save(PICTURE, optimize=True)
    plt.close(figure)


if __name__ == "__main__":
    print(f"Load average {os.getloadavg()[0]:.2f} at the start.\n")
    gallery()
    picture(windows())
