"""Effectivity of the error bounds on the gallery: bound divided by true error, at several ranks and meshes.

Run ``python benchmarks/bounds.py``. Asked: never below one; at most 10 for the energy bounds of Poisson's problems. The
true energy errors come from the gradients of the exact solutions by Gauss quadrature, for ``f = 1`` from the identity
``||u - v||_a**2 = J(v) + int u``; the true L2 errors by Gauss quadrature (heat) and at 10^6 random points (plume).
"""

# ruff: noqa: E402 (BLAS reads its number of threads when it is loaded)

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

import sepnet as sn
from sepnet.models import vsna
from sepnet.models.gallery_problem import GalleryProblem
from sepnet.solvers.certificates import error_bound
from sepnet.solvers.goal import goal

Slopes = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def kan_slopes(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient of sin(pi x) sin(pi y**2)."""
    a, b = np.pi * x, np.pi * y**2
    return np.pi * np.cos(a) * np.sin(b), 2 * np.pi * y * np.sin(a) * np.cos(b)


def peak_slopes(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient of poisson_peak's solution."""
    p, q, D = x * (1 - x), y * (1 - y), 0.1 + 4 * ((x - 0.4) ** 2 + (y - 0.6) ** 2)
    return (1 - 2 * x) * q / D - 8 * (x - 0.4) * p * q / D**2, (1 - 2 * y) * p / D - 8 * (y - 0.6) * p * q / D**2


def gradient_error(u: sn.CP, slopes: Slopes) -> float:
    """Return ``||grad u - slopes||`` by Gauss quadrature."""
    rules = [basis.quadrature(2 * basis.degree + 10) for basis in u.space.bases]
    grid = dict(zip(u.space.names, (rule.points for rule in rules), strict=True))
    weights = np.outer(rules[0].weights, rules[1].weights)
    exact = slopes(*np.meshgrid(*grid.values(), indexing="ij"))
    parts = zip(u.space.names, exact, strict=True)
    return math.sqrt(sum(float(np.sum(weights * (u.derivative(n).on_grid(**grid) - s) ** 2)) for n, s in parts))


def mean_of_poisson(d: int, step: float = 0.05) -> float:
    """Return the integral of the solution of ``-Laplace u = 1`` over the unit cube: ``int_0^inf m(t)**d dt``.

    m is the mean of a cooling rod: a series for large t, ``1 - 4 (t / pi)**(1/2)`` up to exp(-1 / (4 t)) for small t.
    """
    odd = np.arange(1, 60, 2.0)
    t = np.exp(np.arange(math.log(45 / (d * np.pi**2)), -60, -step))
    series = (8 / (np.pi * odd) ** 2 * np.exp(-((np.pi * odd) ** 2) * t[:, None])).sum(axis=1)
    return float(np.sum(step * t * np.where(t < 0.005, 1 - 4 * np.sqrt(t / np.pi), series) ** d))


def energy_error(u: sn.CP) -> float:
    """Return the energy error for ``f = 1``."""
    energy = sum(u.derivative(n).norm() ** 2 for n in u.space.names) - 2 * float(u.integrate())
    return math.sqrt(max(energy + mean_of_poisson(u.space.dim), 0.0))


def l2_error(case: GalleryProblem, u: sn.CP) -> float:
    """Return the L2 error: by Gauss quadrature in three dimensions, at random points in more."""
    if u.space.dim > 3:
        low, high = np.array([b.domain for b in u.space.bases]).T
        points = low + (high - low) * np.random.default_rng(0).random((1_000_000, u.space.dim))
        return math.sqrt(float(np.prod(high - low)) * float(np.mean((u(points) - case.reference(points)) ** 2)))
    rules = [basis.quadrature(2 * basis.degree + 6) for basis in u.space.bases]
    grid = dict(zip(u.space.names, (rule.points for rule in rules), strict=True))
    weights = np.einsum("i,j,k->ijk", *(rule.weights for rule in rules))
    points = np.stack(np.meshgrid(*grid.values(), indexing="ij"), axis=-1).reshape(-1, 3)
    return math.sqrt(float(np.sum(weights * (u.on_grid(**grid) - case.reference(points).reshape(weights.shape)) ** 2)))


def cases() -> Iterator[tuple[str, GalleryProblem, int, Callable[[sn.CP], float]]]:
    """Yield a label, a problem, a rank and the true error."""
    for cells, degree in ((8, 2), (32, 2), (32, 3), (256, 2)):
        yield (
            f"{cells} cells, degree {degree}",
            vsna.poisson_kan(cells, degree),
            1,
            lambda u: gradient_error(u, kan_slopes),
        )
    for cells, degree, rank in ((8, 3, 8), (16, 3, 8), (32, 3, 2), (32, 3, 4), (32, 3, 8), (32, 2, 10), (64, 3, 10)):
        case = vsna.poisson_peak(cells, degree)
        yield f"{cells} cells, degree {degree}", case, rank, lambda u: gradient_error(u, peak_slopes)
    for d, cells, rank in (
        (2, 16, 2),
        (2, 16, 6),
        (2, 32, 6),
        (3, 16, 3),
        (3, 16, 10),
        (6, 16, 4),
        (6, 16, 16),
        (6, 16, 25),
    ):
        yield f"d = {d}, {cells} cells", vsna.poisson_1(d, cells), rank, energy_error
    for d in (2, 3, 6):
        default = vsna.poisson_1(d)
        yield (
            f"d = {d}, defaults ({default.space.shape[0]} functions an axis)",
            default,
            default.options["rank"],
            energy_error,
        )
    for heat_cells, rank in ((12, 4), (24, 4), (24, 10)):
        heat = vsna.heat(heat_cells)
        yield f"{heat_cells} cells", heat, rank, lambda u, case=heat: l2_error(case, u)
    plume = vsna.advection_diffusion()
    for rank in (4, 16, 64):
        yield "34 cells", plume, rank, lambda u: l2_error(plume, u)


def main() -> None:
    print(f"load average {os.getloadavg()[0]:.2f} at the start, {os.cpu_count()} cores")
    met = []
    for label, case, rank, error in cases():
        u = sn.solve(case.problem, rank=rank).u
        began = time.perf_counter()
        bound = error_bound(case.problem, u)
        seconds = time.perf_counter() - began
        true = error(u)
        most = 10.0 if bound.norm == "energy" else math.inf
        met.append(1.0 <= bound.value / true <= most)
        print(
            f"{case.name}, {label}, rank {rank}: {bound.norm} error {true:.3e}, bound {bound.value:.3e}, effectivity "
            f"{bound.value / true:.2f} in {seconds:.2f} s  {'met' if met[-1] else 'MISSED'}"
        )
    for d, rank in ((2, 6), (3, 10), (6, 16)):
        case = vsna.poisson_1(d)
        u = sn.solve(case.problem, rank=rank).u
        began = time.perf_counter()
        found = goal(case.problem, u, 1)
        seconds = time.perf_counter() - began
        true = abs(found.value - mean_of_poisson(d))
        met.append(true <= found.bound.value)
        print(
            f"poisson-1, d = {d}, rank {rank}: integral {found.value:.9g}, error {true:.2e}, bound "
            f"{found.bound.value:.2e} in {seconds:.2f} s, adjoint solution included  {'met' if met[-1] else 'MISSED'}"
        )
    print(f"{sum(met)} of {len(met)} met; load average {os.getloadavg()[0]:.2f} at the end")
    raise SystemExit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
