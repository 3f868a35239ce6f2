"""Problems in coordinates in which they separate: the plume in the frame that turns with it, a ring, a curved domain.

    python benchmarks/maps.py [--picture docs/figures/maps.png]

Prints error, coefficients and seconds; the second solve of each is timed, when everything is compiled.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import sepnet as sn
from sepnet.models.gallery_maps import plume_corotating, ring


def solved(case) -> tuple[sn.Solution, float]:
    sn.solve(case.problem, **case.options)
    began = time.perf_counter()
    solution = sn.solve(case.problem, **case.options)
    return solution, time.perf_counter() - began


def table() -> None:
    print("the plume in the frame that turns with it: 6-D, box |xi|, |eta|, |z| < 1.25")
    for degree, cells, tol in ((5, 24, 1e-3), (5, 32, 3e-4), (7, 32, 1e-4), (7, 40, 1e-5)):
        case = plume_corotating(cells=cells, degree=degree, tol=tol)
        solution, seconds = solved(case)
        error = case.measure(solution.u)
        print(
            f"  degree {degree}, {cells} cells, tol {tol:.0e}: {solution.status.name:12s} error {error.value:.2e} "
            f"(seen from {error.floor:.0e} on), {solution.u.size:6,d} coefficients, {seconds:6.2f} s"
        )
    print("Laplace's equation on a ring, cubic splines")
    last = None
    for cells in (8, 16, 32, 64):
        case = ring(cells=cells, tol=1e-12)
        solution, seconds = solved(case)
        error = sn.polar(case.space)(solution.u).error(lambda x, case=case: case.reference(_polar(x))).value
        slope = "" if last is None else f"slope {np.log2(last / error):.2f}"
        print(f"  {cells:3d} cells around: error {error:.2e}, {seconds:5.2f} s {slope}")
        last = error


def _polar(x: np.ndarray) -> np.ndarray:
    return np.stack([np.hypot(x[:, 0], x[:, 1]), np.arctan2(x[:, 1], x[:, 0])], axis=1)


def picture(path: str) -> None:
    from matplotlib.figure import Figure

    case = plume_corotating()
    map_ = sn.rotating(case.space, ("xi", "eta"), rate="omega")
    u = map_(sn.solve(case.problem, **case.options).u)
    side = np.linspace(-0.8, 0.8, 161)
    x, y = np.meshgrid(side, side, indexing="ij")
    figure = Figure(figsize=(9.6, 2.7), layout="constrained")
    panels = figure.subplots(1, 4)
    for panel, t in zip(panels[:3], (0.0, 0.5, 1.0), strict=True):
        points = np.stack([x.ravel(), y.ravel(), *(np.full(x.size, v) for v in (0.0, t, 1.0, 2e-3))], axis=1)
        image = panel.pcolormesh(side, side, u(points).reshape(x.shape).T, vmin=0, vmax=1, rasterized=True)
        panel.set(title=f"plume at t = {t:g}", xlabel="x", ylabel="y" if t == 0 else "", aspect="equal")
    figure.colorbar(image, ax=panels[:3], shrink=0.9)
    flat = ring()
    v = sn.solve(flat.problem, **flat.options).u
    r, theta = np.linspace(1, 2, 41), np.linspace(0, 2 * np.pi, 161)
    values = v.on_grid(r=r, theta=theta)
    xs, ys = r[:, None] * np.cos(theta), r[:, None] * np.sin(theta)
    image = panels[3].pcolormesh(xs, ys, values, cmap="RdBu_r", shading="gouraud", rasterized=True)
    panels[3].set(title="ring", xlabel="x", aspect="equal")
    figure.colorbar(image, ax=panels[3], shrink=0.9)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", metavar="PATH", help="write the picture of docs/maps.md instead")
    arguments = parser.parse_args()
    picture(arguments.picture) if arguments.picture else table()
