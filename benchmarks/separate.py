"""What `sn.separate` needs and reaches: ``python benchmarks/separate.py [figure.png]``.

A table for docs/separate.md: values asked for, ranks, measured errors and seconds, and the nodes of the full grid.
With a file name the picture of that page is drawn too.
"""

from __future__ import annotations

import sys
from math import prod
from time import perf_counter
from typing import Any

import numpy as np

import sepnet as sn
from sepnet.separation.separate import separate


def rational(p: np.ndarray) -> np.ndarray:
    """1 / (1 + x_1 + ... + x_d)."""
    return np.asarray(1 / (1 + p.sum(axis=1)))


def runge(p: np.ndarray) -> np.ndarray:
    """A cone, rounded at its tip."""
    return np.sqrt(p[:, 0] ** 2 + p[:, 1] ** 2 + 0.01)


def beam(p: np.ndarray) -> np.ndarray:
    """A beam of size s between a Gaussian (b = 0) and a ring (b = 1), of one power, with its centre on a line c."""
    x, c, s, y, b = p.T
    square = ((x - c) ** 2 + y**2) / s**2
    return np.asarray(2 / np.pi / s**2 * ((1 - b) + 2 * b * square) * np.exp(-2 * square))


def fixed_beam(p: np.ndarray) -> np.ndarray:
    """The beam at the centre 0: a source in its own frame."""
    return beam(np.stack([p[:, 0], 0 * p[:, 0], p[:, 2], p[:, 1], p[:, 3]], axis=1))


def cube(d: int) -> sn.TensorSpace:
    """The unit cube with eight cells an axis."""
    return sn.TensorSpace(**{f"x{k}": sn.BSpline((0, 1), cells=8) for k in range(d)})


def main() -> None:
    """Print the table; draw the picture if a file name is given."""
    plane = {n: sn.BSpline((-2, 2), cells=16) for n in "xy"}
    shape = {"s": sn.BSpline((0.3, 0.6), cells=4), "b": sn.BSpline((0, 1), cells=1, degree=1)}
    square = sn.TensorSpace(**{n: sn.BSpline((-1, 1), cells=16) for n in "xy"})
    moving = sn.TensorSpace(x=plane["x"], c=sn.BSpline((-1, 1), cells=8), s=shape["s"], y=plane["y"], b=shape["b"])
    cases: list[tuple[str, Any, sn.TensorSpace, float, str]] = [
        *((f"1 / (1 + sum x), d = {d}", rational, cube(d), 1e-6, f) for d in (3, 6, 8) for f in ("tt", "cp")),
        ("sqrt(x**2 + y**2 + 0.01)", runge, square, 1e-6, "cp"),
        *(
            ("beam: x, y, size, shape", fixed_beam, sn.TensorSpace(**plane, **shape), t, "cp")
            for t in (1e-2, 1e-3, 1e-4)
        ),
        ("beam: x, y, size, shape", fixed_beam, sn.TensorSpace(**plane, **shape), 1e-6, "tt"),
        ("beam: x, centre, size, y, shape", beam, moving, 1e-3, "tt"),
    ]
    print("| function | tol | format | values | nodes of the grid | ranks | error | largest | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, f, space, tol, kind in cases:
        S = separate(f, space, tol, format=kind)  # type: ignore[arg-type]
        ranks = "-".join(map(str, S.function.ranks)) if isinstance(S.function, sn.TensorTrain) else str(S.function.rank)
        nodes = prod(map(float, S.space.shape))
        status = "" if S.converged else f" {S.status.name}"
        print(
            f"| {name} | {tol:.0e} | {kind} | {S.evaluations:,} | {nodes:.2g} | {ranks} | {S.error.value:.1e}{status} "
            f"| {S.largest:.1e} | {S.seconds:.2g} |",
            flush=True,
        )
    full_grid()
    if len(sys.argv) > 1:
        draw(sys.argv[1], sn.TensorSpace(**plane, **shape))


def full_grid() -> None:
    """Print what the same costs by `sn.interpolate` on all nodes, of 18 an axis."""
    for d in (3, 4, 5):
        V = sn.TensorSpace(**{f"x{k}": sn.BSpline((0, 1), cells=15) for k in range(d)})
        nodes = prod(V.shape)
        started = perf_counter()
        values = 1 / (1 + sum(np.meshgrid(*V.nodes.values(), indexing="ij")))
        u = sn.interpolate(values, V, tol=3e-7, format="tt")
        print(f"full grid, d = {d}: {nodes:,} values, ranks {u.ranks}, {perf_counter() - started:.2g} s")


def draw(path: str, space: sn.TensorSpace) -> None:
    """Draw the beam at three shapes and the values asked for against the tolerance."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    S = separate(fixed_beam, space, 1e-4, format="tt")
    figure, panels = plt.subplots(1, 4, figsize=(11, 2.7), layout="constrained", width_ratios=(1, 1, 1, 1.25))
    for panel, b in zip(panels, (0.0, 0.5, 1.0), strict=False):
        field = S.function.restrict(s=0.5, b=b).on_grid(x=120, y=120)
        panel.imshow(field.T, origin="lower", extent=(-2, 2, -2, 2), cmap="inferno", vmin=0)
        panel.set_title(f"separated beam, shape {b:g}", fontsize=9)
        panel.set_xticks([])
        panel.set_yticks([])
    tolerances = 10.0 ** -np.arange(1, 7)
    for d in (3, 6, 8):
        runs = [separate(rational, cube(d), tol, format="tt") for tol in tolerances]
        panels[3].semilogy(
            [S.evaluations / 1000 for S in runs], [S.error.value for S in runs], "o-", ms=3, label=f"d = {d}"
        )
    panels[3].set_xlabel("thousand values asked for", fontsize=8)
    panels[3].set_title("relative error, 1 / (1 + $\\sum x_i$)", fontsize=9)
    panels[3].tick_params(labelsize=7)
    panels[3].legend(fontsize=7)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
