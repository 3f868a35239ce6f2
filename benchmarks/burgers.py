"""Burgers' equation: errors against the solutions by Cole and Hopf and by characteristics, one viscosity or a decade.

Run ``python benchmarks/burgers.py``; ``--part front|characteristics|limit|decade|all``, ``--figure FILE`` for the
picture. Errors are relative L2 errors over the whole box by Gauss quadrature on every cell, at points other than those
of the solver; `rate` is the order in the number of cells between two rows.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when it is loaded)

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

import sepnet as sn
from sepnet.models import gallery_nonlinear as gallery
from sepnet.models.gallery_problem import GalleryProblem


def box_error(case: GalleryProblem, u: sn.CP) -> float:
    """The relative L2 error in two dimensions, by degree + 3 Gauss points a cell and direction."""
    rules = [basis.quadrature(2 * (basis.degree + 3) - 1) for basis in case.space.bases]
    grid = np.stack(np.meshgrid(*[r.points for r in rules], indexing="ij"), axis=-1)
    exact = case.reference(grid.reshape(-1, 2)).reshape(grid.shape[:2])
    values = u.on_grid(**dict(zip(case.space.names, (r.points for r in rules), strict=True)))
    weights = np.multiply.outer(rules[0].weights, rules[1].weights)
    return math.sqrt(float((weights * (values - exact) ** 2).sum() / (weights * exact**2).sum()))


def solved(case: GalleryProblem, **options: object) -> tuple[sn.Solution, float]:
    """The solution and the seconds it took."""
    began = time.perf_counter()
    solution = sn.solve(case.problem, **(dict(case.options) | options))  # type: ignore[arg-type]
    return solution, time.perf_counter() - began


def table(title: str, make: object, meshes: list[int], **options: object) -> list[float]:
    """Errors on meshes of one family, every one solved from nothing."""
    print(f"{title}\n   cells  coefficients  steps  seconds   residual      error   rate")
    errors: list[float] = []
    for k, cells in enumerate(meshes):
        case = make(cells)  # type: ignore[operator]
        solution, seconds = solved(case, **options)
        errors.append(box_error(case, solution.u))  # type: ignore[arg-type]
        rate = math.log(errors[-2] / errors[-1]) / math.log(cells / meshes[k - 1]) if k else float("nan")
        shape = " x ".join(str(n) for n in case.constants["cells"].values())
        unknowns = math.prod(case.space.shape)
        print(
            f"{shape:>8}  {unknowns:12,}  {len(solution.history) - 1:5}  {seconds:7.1f}  {solution.residual:9.2e}  "
            f"{errors[-1]:9.2e}  {rate:5.2f}",
            flush=True,
        )
    print(f"   error of the reference: {case.reference_error:.1e}")
    return errors


def front() -> bool:
    """The viscous front at nu = 0.01 / pi."""
    case = gallery.burgers()
    solution, seconds = solved(case)
    error = box_error(case, solution.u)  # type: ignore[arg-type]
    met = error <= 1e-6 and seconds <= 60
    print(
        f"burgers, nu = 0.01 / pi, one thread: asked error <= 1e-6 in 60 s, measured {error:.2e} in {seconds:.1f} s, "
        f"{len(solution.history) - 1} Newton steps  {'met' if met else 'MISSED'}"
    )
    for degree, meshes in ((4, [32, 48, 64, 96, 128]), (5, [32, 48, 64, 96])):
        table(
            f"burgers, degree {degree}, tol only for the data",
            lambda n, p=degree: gallery.burgers(n, p),
            meshes,
            tol=1e-6,
        )
    return met


def characteristics() -> bool:
    """Without viscosity, up to nine tenths of the time at which the wave breaks."""
    for degree in (3, 4, 5):
        title = f"burgers-inviscid, degree {degree}, t <= 0.9 / pi"
        errors = table(title, lambda n, p=degree: gallery.burgers_inviscid(n, p), [24, 48, 96], tol=1e-6)
    return errors[-1] < 1e-6


def limit() -> bool:
    """After the wave breaks: the distance to the shock as the viscosity falls."""
    print("limit of small viscosities, t in [0, 1]: distance to the entropy solution (a standing shock at x = 0)")
    distances = []
    for viscosity in (1e-2 / math.pi, 3e-3 / math.pi, 1e-3 / math.pi):
        case = gallery.burgers(64, 5, nu=viscosity)
        solution, seconds = solved(case)
        error = box_error(case, solution.u)  # type: ignore[arg-type]
        distances.append(_distance_to_shock(solution.u))  # type: ignore[arg-type]
        print(
            f"   nu pi = {viscosity * math.pi:.0e}: error {error:.2e} against Cole and Hopf (whose own is "
            f"{case.reference_error:.0e}), distance to the shock {distances[-1]:.3f}, over nu**(1/2) "
            f"{distances[-1] / math.sqrt(viscosity):.2f}, {seconds:.1f} s",
            flush=True,
        )
    return distances[-1] < distances[0]


def _distance_to_shock(u: sn.CP) -> float:
    """Relative L2 distance to the entropy solution, by characteristics from each side of the shock at x = 0."""
    x_rule, t_rule = (b.quadrature(15) for b in u.space.bases)
    x, t = (g.ravel() for g in np.meshgrid(x_rule.points, t_rule.points, indexing="ij"))
    a = np.sign(x) * _foot(np.abs(x), t)
    exact = (-np.sin(math.pi * a)).reshape(x_rule.points.size, -1)
    values = u.on_grid(x=x_rule.points, t=t_rule.points)
    weights = np.multiply.outer(x_rule.weights, t_rule.weights)
    return math.sqrt(float((weights * (values - exact) ** 2).sum() / (weights * exact**2).sum()))


def _foot(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The foot in (0, 1) of the characteristic that comes to x > 0 from the right: the largest root, by bisection."""
    # a - t sin(pi a) falls up to its minimum at cos(pi a) = 1 / (pi t), and rises after it.
    low = np.arccos(np.minimum(1.0, 1.0 / np.maximum(math.pi * t, 1e-300))) / math.pi
    high = np.ones_like(x)
    for _ in range(60):
        middle = (low + high) / 2
        below = middle - t * np.sin(math.pi * middle) < x
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def decade() -> bool:
    """The viscosity as an axis."""
    met = False
    for modes in (7, 9, 11):
        case = gallery.burgers_nu(modes=modes)
        solution, seconds = solved(case, method="full")
        error = case.measure(solution.u)
        met = error.value <= 1e-4
        print(
            f"burgers-nu, nu pi from 0.01 to 0.1, {modes} modes, {math.prod(case.space.shape):,} unknowns: asked error "
            f"<= 1e-4, measured {error} in {seconds:.0f} s, {len(solution.history) - 1} steps  "
            f"{'met' if met else 'missed'}",
            flush=True,
        )
    return met


def figure(path: str) -> None:
    """The front, its knots, and the profile at several times."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    case = gallery.burgers()
    u = sn.solve(case.problem, **case.options).u
    x, t = np.linspace(-1, 1, 401), np.linspace(0, 1, 201)
    fig, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
    shown = left.imshow(u.on_grid(x=x, t=t), extent=(0, 1, -1, 1), origin="lower", aspect="auto", cmap="RdBu_r")
    left.set(xlabel="t", ylabel="x", title="u(x, t) and the knots")
    left.plot(np.full(case.space.axes["x"].breaks.size, 0.0), case.space.axes["x"].breaks, "k_", ms=3, clip_on=False)
    left.plot(case.space.axes["t"].breaks, np.full(case.space.axes["t"].breaks.size, -1.0), "k|", ms=3, clip_on=False)
    fig.colorbar(shown, ax=left)
    for time_ in (0.0, 0.2, 1 / math.pi, 0.6, 1.0):
        right.plot(x, u.on_grid(x=x, t=np.array([time_]))[:, 0], lw=1, label=f"t = {time_:.2f}")
    right.set(xlabel="x", title="nu = 0.01 / pi")
    right.legend(fontsize=7)
    fig.savefig(Path(path), dpi=72)


PARTS = {"front": front, "characteristics": characteristics, "limit": limit, "decade": decade}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--figure")
    options = parser.parse_args()
    if options.figure:
        figure(options.figure)
        return
    met = [part() for name, part in PARTS.items() if options.part in (name, "all")]
    print("all met" if all(met) else "NOT ALL MET")


if __name__ == "__main__":
    main()
