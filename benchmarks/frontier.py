"""Error against parameters and against time on the 6-D advection-diffusion problem, and the published figure 3b.

    python benchmarks/frontier.py

Writes, into docs/figures unless `--folder` says otherwise,

- ``frontier.json``: every solve, with its options, error, parameters and seconds (not kept in the repository);
- ``frontier.png``: error against parameters and against seconds for greedy enrichment (PGD,
  without and with updates), alternating least squares (ALS) and Gauss-Newton, all as sums of products, and for tensor
  trains (TT), on one mesh of degree 5;
- ``figure-3b.png``: error against parameters P for cubic splines, ranks 4 ... 64 on 8 ... 48 cells,
  as in figure 3b of arXiv 2603.12244, whose constants and data are not published (these are ours); with the slope
  before the rank saturates, a line P^(-2/3), and the full tensor-product space of cubic splines. Nobody can run the
  latter in six dimensions: that line is an **extrapolation**, error h^4 with (1/h)^6 unknowns, hence the slope -4/6,
  laid through the errors that the highest rank has before it saturates.

Prints two markdown tables. Seconds are medians of up to three solves, errors are relative L2 over the whole box at
random points. `--plot` draws again from the JSON, without solving.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when it is loaded)

from __future__ import annotations

import argparse
import json
import math
import os
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import sepnet as sn
from sepnet.models import vsna
from sepnet.problems import Problem

Row = dict[str, Any]

CELLS, DEGREE = {"x": 36, "y": 36, "z": 36, "t": 10, "omega": 6, "kappa": 2}, 5
# Label to the options of each of its solves.
METHODS: dict[str, list[dict[str, Any]]] = {
    "PGD": [{"method": "pgd", "rank": r} for r in (4, 8, 16, 32, 64)],
    "PGD, updated": [{"method": "pgd-update", "rank": r} for r in (4, 8, 16, 32, 64)],
    "ALS": [{"method": "als", "rank": r} for r in (4, 8, 16, 32, 64, 128)],
    "Gauss-Newton": [{"method": "gauss-newton", "rank": r} for r in (4, 8, 16, 32)],
    "TT": [{"format": "tt", "tol": t} for t in (0.2, 0.1, 3e-2, 1e-2, 3e-3, 1e-3, 4e-4, 2.5e-4)],
}
RANKS, MESHES = (4, 8, 16, 32, 64), (8, 12, 16, 24, 32, 48)
# An error counts as not saturated while one refinement of the mesh still lowers it by this share of what h^4 promises.
UNSATURATED = 0.75
# Seconds after which a solve is not repeated for its time.
ENOUGH = 8.0
COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3")


# ------------------------------------------------------------------------------------------------------------- solves


def solved(case: vsna.GalleryProblem, problem: Problem, points: int, options: dict[str, Any], repeat: int = 1) -> Row:
    """Solve, as often as fits into some seconds, and measure; seconds are the median."""
    seconds: list[float] = []
    while len(seconds) < repeat and sum(seconds) < ENOUGH:
        began = time.perf_counter()
        solution = sn.solve(problem, **options)
        seconds.append(time.perf_counter() - began)
    u = solution.u
    return {
        **options,
        "error": case.measure(u, points).value,
        "parameters": u.size,
        "seconds": float(np.median(seconds)),
        "residual": solution.residual,
        "status": solution.status.name,
    }


def frontier(points: int) -> list[Row]:
    """Solve with all methods on one mesh."""
    case = vsna.make("advection-diffusion", cells=CELLS, degree=DEGREE)
    rows = []
    print(f"\n| method, degree {DEGREE} | rank or tol | error | parameters | seconds | status |")
    print("|---|---|---|---|---|---|")
    for label, jobs in METHODS.items():
        for options in jobs:
            row = {"label": label} | solved(case, case.problem, points, options, repeat=3)
            rows.append(row)
            knob = f"rank {row['rank']}" if "rank" in row else f"tol {row['tol']:g}"
            print(
                f"| {label} | {knob} | {row['error']:.2e} | {row['parameters']:,} | {row['seconds']:.2f} | "
                f"{row['status']} |",
                flush=True,
            )
    return rows


def on_mesh(case: vsna.GalleryProblem) -> sn.LeastSquares:
    """Return the problem of a case with its initial data interpolated on its own mesh.

    Otherwise `solve` refines the knots where the mesh does not resolve the data; a point of figure 3b has the mesh that
    it says, and the error of the data is part of its error.
    """
    centre, width = case.constants["centre"], case.constants["width"]
    axes = {name: case.space.axes[name] for name in "xyz"}
    columns = []
    for basis, c in zip(axes.values(), centre, strict=True):
        columns.append(basis.interpolate(np.exp(-((basis.nodes - c) ** 2) / (2 * width**2)))[:, None])
    return sn.LeastSquares(case.problem.operator, initial={"t": sn.CP(sn.TensorSpace(**axes), columns)})


def figure_3b(points: int) -> list[Row]:
    """Solve for all ranks on all meshes, by ALS, cubic."""
    rows = []
    print("\n| cells | " + " | ".join(f"rank {r}" for r in RANKS) + " |\n|---|" + "---|" * len(RANKS))
    for cells in MESHES:
        case = vsna.make("advection-diffusion", cells=cells)
        problem = on_mesh(case)
        for rank in RANKS:
            row = {"cells": cells, "full": math.prod(case.space.shape)} | solved(case, problem, points, {"rank": rank})
            rows.append(row)
        line = rows[-len(RANKS) :]
        print(f"| {cells} | " + " | ".join(f"{r['error']:.2e} ({r['parameters']:,})" for r in line) + " |", flush=True)
    return rows


# -------------------------------------------------------------------------------------------------------- evaluation


def unsaturated(rows: list[Row], rank: int) -> list[Row]:
    """Return the points of a rank up to the mesh from which on refinement no longer pays as h^4."""
    line = sorted((r for r in rows if r["rank"] == rank), key=lambda r: r["cells"])
    kept = line[:1]
    for before, after in pairwise(line):
        order = math.log(before["error"] / after["error"]) / math.log(after["cells"] / before["cells"])
        if order < UNSATURATED * 4:
            # The first pair lies before the asymptotic range: the plume is as narrow as a cell.
            if len(kept) > 1:
                break
            kept = []
        kept.append(after)
    return kept


def slope(rows: list[Row], key: str = "parameters") -> float:
    """Return the slope of log error against log of `key`; not a number for less than two points."""
    if len(rows) < 2:
        return math.nan
    return float(np.polyfit(np.log([r[key] for r in rows]), np.log([r["error"] for r in rows]), 1)[0])


def envelope(rows: list[Row]) -> list[Row]:
    """Return the points that no other beats in both error and parameters."""
    best: list[Row] = []
    for row in sorted(rows, key=lambda r: (r["parameters"], r["error"])):
        if not best or row["error"] < best[-1]["error"]:
            best.append(row)
    return best


def full_line(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Return unknowns and errors of the extrapolated full space, through the unsaturated errors of the highest rank."""
    kept = unsaturated(rows, max(RANKS))
    constant = float(np.exp(np.mean([math.log(r["error"]) + 4 / 6 * math.log(r["full"]) for r in kept])))
    errors = np.geomspace(max(r["error"] for r in rows), min(r["error"] for r in rows) / 3, 50)
    return (constant / errors) ** 1.5, errors


def summary(rows: list[Row]) -> dict[str, Any]:
    """Return the slopes and the factors in parameters."""
    unknowns, errors = full_line(rows)
    best = envelope(rows)
    factors = {}
    for level in (1e-1, 3e-2, 1e-2, 3e-3, 1e-3):
        reached = [r["parameters"] for r in best if r["error"] <= level]
        if reached:
            full = float(np.exp(np.interp(-math.log(level), -np.log(errors), np.log(unknowns))))
            factors[f"{level:g}"] = full / min(reached)
    return {
        "slope before saturation": {str(r): slope(unsaturated(rows, r), "cells") for r in RANKS},
        "slope of the frontier": slope(best),
        "parameters saved at equal error": factors,
    }


# ------------------------------------------------------------------------------------------------------------ figures


def draw_frontier(rows: list[Row]) -> Figure:
    """Draw error against parameters and against seconds."""
    figure = Figure(figsize=(9.5, 4.2), dpi=110, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, key, name in zip(axes, ("parameters", "seconds"), ("parameters", "seconds, one core"), strict=True):
        for label, colour, mark in zip(METHODS, COLOURS, "oDvs^", strict=False):
            line = sorted((r for r in rows if r["label"] == label), key=lambda r: -r["error"])
            axis.loglog([r[key] for r in line], [r["error"] for r in line], mark + "-", color=colour, label=label, ms=5)
        axis.set_xlabel(name)
        axis.grid(True, which="major", alpha=0.3)
    axes[0].set_ylabel("relative L2 error over the box")
    axes[0].legend(frameon=False)
    figure.suptitle("6-D advection-diffusion, degree 5, 36 cells in space", fontsize=11)
    return figure


def draw_3b(rows: list[Row]) -> Figure:
    """Draw error against parameters for all ranks, with the lines to compare with."""
    figure = Figure(figsize=(8.2, 5.2), dpi=110, layout="constrained")
    axis: Axes = figure.subplots()
    found = summary(rows)
    for rank, colour in zip(RANKS, COLOURS, strict=True):
        line = [r for r in rows if r["rank"] == rank]
        order = found["slope before saturation"][str(rank)]
        label = f"rank {rank}" + ("" if math.isnan(order) else f", error ~ h^{-order:.1f} before saturation")
        axis.loglog([r["parameters"] for r in line], [r["error"] for r in line], "o-", color=colour, label=label, ms=5)
    unknowns, errors = full_line(rows)
    axis.loglog(unknowns, errors, "k--", label="full tensor product, cubic, slope -4/6: EXTRAPOLATION, not run")
    best = envelope(rows)
    start = best[0]
    ends = np.array([start["parameters"], best[-1]["parameters"]], dtype=float)
    axis.loglog(ends, 0.6 * start["error"] * (ends / ends[0]) ** (-2 / 3), "k:", label=r"$P^{-2/3}$")
    for level, factor in found["parameters saved at equal error"].items():
        if level in ("0.1", "0.01", "0.001"):
            place = min(r["parameters"] for r in best if r["error"] <= float(level))
            axis.annotate(
                "",
                (place * factor, float(level)),
                (place, float(level)),
                arrowprops={"arrowstyle": "<->", "color": "0.5"},
            )
            middle = place * math.sqrt(factor)
            power = math.floor(math.log10(factor))
            text = rf"${factor / 10**power:.0f}\times 10^{{{power}}}$ fewer"
            axis.text(middle, float(level) * 1.12, text, ha="center", fontsize=9, color="0.3")
    axis.set_xlabel("parameters (initial data included)")
    axis.set_ylabel("relative L2 error over the box")
    axis.set_title(f"6-D advection-diffusion, cubic, {MESHES[0]} to {MESHES[-1]} cells in space, ALS", fontsize=11)
    axis.grid(True, which="major", alpha=0.3)
    axis.legend(frameon=False, fontsize=8, loc="upper right")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[1] / "docs" / "figures")
    parser.add_argument("--points", type=int, default=200_000, help="random points of the errors")
    parser.add_argument("--plot", action="store_true", help="draw again from frontier.json, without solving")
    options = parser.parse_args()
    store = options.folder / "frontier.json"
    if options.plot:
        data = json.loads(store.read_text())
    else:
        loads = [os.getloadavg()[0]]
        print(f"load average {loads[0]:.2f} at the start, {os.cpu_count()} cores")
        warm = vsna.advection_diffusion(cells=3)
        for name in ("cp", "tt"):
            warm.measure(sn.solve(warm.problem, rank=4, format=name).u, 10)
        data = {"frontier": frontier(options.points), "figure 3b": figure_3b(options.points)}
        loads.append(os.getloadavg()[0])
        data |= {"load average": [round(load, 2) for load in loads], "summary": summary(data["figure 3b"])}
        options.folder.mkdir(parents=True, exist_ok=True)
        store.write_text(json.dumps(data, indent=1) + "\n")
        print(f"\nload average {loads[1]:.2f} at the end")
    found = summary(data["figure 3b"])
    print(
        "\nslope against cells before saturation: "
        + ", ".join(f"rank {r} {s:.2f}" for r, s in found["slope before saturation"].items())
    )
    print(f"slope of the frontier of all points: {found['slope of the frontier']:.2f} (published: -2/3)")
    print(
        "parameters saved against the extrapolated full space: "
        + ", ".join(f"{f:.1e} at error {e}" for e, f in found["parameters saved at equal error"].items())
    )
    draw_frontier(data["frontier"]).savefig(options.folder / "frontier.png")
    draw_3b(data["figure 3b"]).savefig(options.folder / "figure-3b.png")


if __name__ == "__main__":
    main()
