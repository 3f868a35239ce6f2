"""Heat in a bracket with holes: a mesh of 1e5 degrees of freedom x time x conductivity x film coefficient.

    python benchmarks/mesh_heat.py [--dofs 100000] [--tol 1e-5] [--format tt] [--figure docs/figures/mesh.png]

Prints the time and the largest memory of the solve, and the error against scikit-fem's matrices marched in time by
Crank and Nicolson's method (extrapolated from two step sizes, with its own change) at three values of the parameters.
"""

import argparse
import resource
import time

import numpy as np
import scipy.sparse.linalg
import skfem

import sepnet as sn
from sepnet.bases.mesh import Mesh

POINTS = ({"kappa": 1.0, "h": 0.2}, {"kappa": 10.0, "h": 5.0}, {"kappa": 3.0, "h": 1.5})


def bracket(dofs: int) -> Mesh:
    """An L-shaped bracket with two holes: bolted on the left, heated inside, cooled by air at the right and top."""
    cells = int(np.sqrt(dofs / 0.68) / 2) * 2
    line = np.linspace(-1, 1, cells + 1)
    grid = skfem.MeshTri.init_tensor(line, line)
    x, y = grid.p[:, grid.t].mean(axis=1)
    outside = ((x > 0) & (y > 0)) | (np.hypot(x + 0.5, y - 0.5) < 0.2) | (np.hypot(x - 0.5, y + 0.5) < 0.2)
    grid = grid.remove_elements(np.nonzero(outside)[0])
    walls = {"bolted": lambda x: np.isclose(x[0], -1.0), "air": lambda x: np.isclose(x[0], 1.0) | np.isclose(x[1], 1.0)}
    fem = skfem.Basis(grid.with_boundaries(walls), skfem.ElementTriP1())
    film = skfem.BilinearForm(lambda u, v, _: u * v)
    air = skfem.FacetBasis(fem.mesh, fem.elem, facets="air")
    return Mesh(fem, dirichlet="bolted", terms={"film": (film, air)})


def problem(mesh: Mesh) -> sn.Galerkin:
    """Heated with sin(pi t) from rest."""
    V = sn.TensorSpace(
        s=mesh, t=sn.BSpline((0, 1), cells=32), kappa=sn.Legendre((1, 10), 20), h=sn.Legendre((0.2, 5), 12)
    )
    _, t, kappa, h = V.coordinates
    d, one = V.d, V.identity
    a = sn.inner(d.t, one) + sn.inner(kappa * one, one, s="stiffness") + sn.inner(h * one, one, s="film")
    f = sn.load_on(sn.apply(lambda t: np.sin(np.pi * t), t), one, s="unit")
    return sn.Galerkin(a, source=f, initial={"t": 0})


def marched(mesh: Mesh, steps: int, kappa: float, h: float) -> np.ndarray:
    """Crank and Nicolson's method up to t = 1."""
    A, M = kappa * mesh.terms["stiffness"] + h * mesh.terms["film"], mesh.terms["mass"]
    dt = 1.0 / steps
    lu = scipy.sparse.linalg.splu(
        (M + dt / 2 * A).tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    u = np.zeros(mesh.size)
    for k in range(steps):
        load = (np.sin(np.pi * k * dt) + np.sin(np.pi * (k + 1) * dt)) / 2
        u = lu.solve(M @ u - dt / 2 * (A @ u) + dt * load * mesh.loads["unit"])
    return u


def relative(mesh: Mesh, u: np.ndarray, v: np.ndarray) -> float:
    M = mesh.terms["mass"]
    return float(np.sqrt((u - v) @ (M @ (u - v)) / (v @ (M @ v))))


def memory() -> float:
    """Largest resident memory so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def draw(mesh: Mesh, u: sn.CP | sn.TensorTrain, path: str) -> None:
    """Four temperatures of the one function."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cases = ({"t": 0.25, "kappa": 1.0}, {"t": 1.0, "kappa": 1.0}, {"t": 0.25, "kappa": 10.0}, {"t": 1.0, "kappa": 10.0})
    fields = [mesh.expand(u.restrict(h=0.5, **case).full()) for case in cases]
    grid = mesh.fem.mesh
    figure, axes = plt.subplots(1, 4, figsize=(9, 2.6), layout="constrained")
    for axis, case, field in zip(axes, cases, fields, strict=True):
        top = max(f.max() for c, f in zip(cases, fields, strict=True) if c["kappa"] == case["kappa"])
        image = axis.tripcolor(*grid.p, grid.t.T, field, shading="gouraud", vmin=0, vmax=top, rasterized=True)
        axis.set(title=f"t = {case['t']:g}, kappa = {case['kappa']:g}", aspect="equal", xticks=[], yticks=[])
        figure.colorbar(image, ax=axis, shrink=0.8)
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dofs", type=int, default=100_000)
    parser.add_argument("--tol", type=float, default=1e-5)
    parser.add_argument("--format", default="tt")
    parser.add_argument("--figure")
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    began = time.perf_counter()
    mesh = bracket(options.dofs)
    print(f"{mesh.size} degrees of freedom, assembled in {time.perf_counter() - began:.1f} s, {memory():.2f} GB")
    began = time.perf_counter()
    solution = sn.solve(problem(mesh), tol=options.tol, format=options.format)
    print(f"solved in {time.perf_counter() - began:.1f} s, largest memory {memory():.2f} GB")
    print(solution)
    if options.figure:
        draw(mesh, solution.u, options.figure)
    for at in POINTS if options.steps else ():
        began = time.perf_counter()
        found = solution.u.restrict(t=1.0, **at).full()
        asked = time.perf_counter() - began
        began = time.perf_counter()
        coarse, fine = (marched(mesh, steps, **at) for steps in (options.steps, 2 * options.steps))
        reference = fine + (fine - coarse) / 3
        seconds = time.perf_counter() - began
        print(
            f"{at}: relative L2 error at t = 1 {relative(mesh, found, reference):.2e} (the reference changes by "
            f"{relative(mesh, fine, reference):.1e}; it takes {seconds:.1f} s, the answer {asked * 1e3:.0f} ms)"
        )


if __name__ == "__main__":
    main()
