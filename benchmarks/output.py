"""Draw the picture of docs/output.md, and measure what the ways out cost.

Run ``python benchmarks/output.py`` (half a minute, one thread); ``--figures FOLDER`` writes the picture, by default
none is written. Files are written to a temporary folder; each line names what was made, its size and the time.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when it is loaded)

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from PIL import Image

import sepnet as sn
from sepnet import plotting
from sepnet.io import write_vtk
from sepnet.models import vsna

UNITS = {"x": "m", "y": "m", "t": "s", "omega": "rad/s", "c": "g/l"}
WINDOW = {"x": (-0.75, 0.75), "y": (-0.75, 0.75)}


def plume() -> sn.CP:
    """Return the turning plume as a function of x, y, z, t, omega, kappa."""
    case = vsna.advection_diffusion({"x": 28, "y": 28, "z": 20, "t": 12, "omega": 8, "kappa": 2}, omega=(0.0, 2.5))
    return sn.solve(case.problem, rank=40).u


def picture(u: sn.CP) -> Any:
    return plotting.slices(
        u,
        x="x",
        y="y",
        at={"t": [0, 0.5, 1], "omega": [1, 2.5], "z": 0, "kappa": 1e-3},
        window=WINDOW,
        name="c",
        units=UNITS,
    )


def measured(label: str, work: Callable[[], Any], made: Path | None = None) -> None:
    work()  # compiles, and loads the library
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    files = [] if made is None else [made, *made.with_suffix("").glob("*")]
    size = sum(f.stat().st_size for f in files) if files else result.nbytes
    print(f"{label:<58} {1e3 * seconds:7.0f} ms {size / 1e6:7.2f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", type=Path, help="folder for the picture")
    figures = parser.parse_args().figures
    u = plume()
    print(u)
    rest: dict[str, Any] = {"omega": 2.5, "kappa": 1e-3}
    with tempfile.TemporaryDirectory() as folder:
        vtu, pvd, gif = (Path(folder) / name for name in ("u.vtu", "all.pvd", "u.gif"))
        grid = {"x": 64, "y": 64, "z": 64}
        measured("xarray, 64 x 64 x 64 x 11", lambda: u.to_xarray(**grid, t=11, **rest))
        measured("vtu, 64 x 64 x 64", lambda: write_vtk(vtu, u, **grid, t=1.0, **rest), vtu)
        measured("vtu, 64 x 64 x 64, gradient", lambda: write_vtk(vtu, u, gradient=True, **grid, t=1.0, **rest), vtu)
        coarse = dict.fromkeys(grid, 32)
        measured("pvd, 32 x 32 x 32, 11 times", lambda: write_vtk(pvd, u, **coarse, t=11, **rest), pvd)
        film: dict[str, Any] = {"x": "x", "y": "y", "at": {"z": 0, **rest}, "frames": 20, "window": WINDOW}
        measured("gif, 20 pictures", lambda: plotting.animate(u, gif, **film), gif)
    if figures is not None:
        plotting.save(picture(u), figures / "slices.png")
        with Image.open(figures / "slices.png") as image:  # 200 colours are less than half of the bytes
            image.convert("RGB").quantize(200, dither=Image.Dither.NONE).save(figures / "slices.png", optimize=True)


if __name__ == "__main__":
    main()
