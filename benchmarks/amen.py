"""Against torchTT's AMEn on the same spline matrices, to the same residual, in one run.

    pip install torch==2.13.0 numpy scipy && pip install --no-build-isolation torchTT
    python benchmarks/amen.py

Prints two markdown tables. The first: the value at the centre of poisson-1 with the options of the gallery, against
the integral of the heat equation's solution; the figure asked for is that of the default format. The second: per
problem and solver the tolerance, the residual and the error at the centre of the cube, the fastest and the median
seconds, ranks and numbers stored. "Same residual" is the Euclidean one, ``||A x - b|| / ||b||`` of the coefficients,
computed by one function for all (from tensor-train cores, orthogonalised: free of cancellation). Every solver climbs
the same ladder of tolerances, and the line shown is the loosest that reaches the residual asked for. AMEn runs with and
without its preconditioner; ours as a sum of products, as a train that chooses the order of its axes, and as one in the
order given, which is what AMEn has. One thread for all. Our seconds are those of `sepnet.solve`, assembly included;
AMEn's begin with finished TT matrices.

torchTT is no dependency of sepnet. Without it the script says so and runs our side alone.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when it is loaded)

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add, mul
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

import sepnet as sn
from sepnet.forms import BilinearForm
from sepnet.models import vsna
from sepnet.models.gallery_poisson import heat_integral

Cores = list[np.ndarray]
# Multiples of the residual asked for.
LADDER = tuple(10.0 ** (-k / 2) for k in range(-4, 9))


@dataclass(frozen=True)
class Case:
    """A problem with its matrices as TT cores and its value at the centre."""

    name: str
    problem: sn.Galerkin
    matrix: Cores
    load: Cores
    centre: float
    residual: float


@dataclass(frozen=True)
class Line:
    """One solver on one case."""

    case: Case
    solver: str
    tol: float
    residual: float
    error: float
    seconds: list[float]
    ranks: str
    numbers: int


# ------------------------------------------------------------------------------------------------------ TT matrices


def matrix_cores(form: BilinearForm) -> Cores:
    """Return the TT cores (r, n, n, r') of a form; suffixes of the table of terms that are equal share a state."""
    table = sn.assemble(form)
    dense = [[m.toarray() for m in axis] for axis in table.matrices]
    terms: dict[tuple[int, ...], float] = {}
    for row, weight in zip(table.index, table.weights, strict=True):
        key = tuple(int(j) for j in row)
        terms[key] = terms.get(key, 0.0) + float(weight)
    states = [frozenset(terms.items())]
    cores = []
    for k, matrices in enumerate(dense):
        following: dict[frozenset[tuple[tuple[int, ...], float]], int] = {}
        moves = []
        for source, state in enumerate(states):
            for letter in sorted({row[0] for row, _ in state}):
                rest = frozenset((row[1:], weight) for row, weight in state if row[0] == letter)
                last = k == len(dense) - 1
                target = 0 if last else following.setdefault(rest, len(following))
                moves.append((source, letter, target, sum(w for _, w in rest) if last else 1.0))
        n = matrices[0].shape[0]
        core = np.zeros((len(states), n, n, max(len(following), 1)))
        for source, letter, target, weight in moves:
            core[source, :, :, target] += weight * matrices[letter]
        states = list(following)
        cores.append(core)
    return cores


def cores_of(u: sn.CP | sn.TensorTrain) -> Cores:
    """Return the cores of a function, in the order of the axes x1, x2, ..."""
    names = [f"x{i + 1}" for i in range(u.space.dim)]
    if isinstance(u, sn.TensorTrain):
        return [np.asarray(core) for core in u.permute(*names).cores]
    first, *middle, last = u.factors
    eye = np.eye(u.rank)
    return [first[None], *(f.T[:, :, None] * eye[:, None, :] for f in middle), last.T[:, :, None]]


def applied(matrix: Cores, x: Cores) -> Cores:
    """Return the cores of A x."""
    result = []
    for a, c in zip(matrix, x, strict=True):
        core = np.einsum("amnb,rns->armbs", a, c, optimize=True)
        result.append(core.reshape(a.shape[0] * c.shape[0], a.shape[1], a.shape[3] * c.shape[2]))
    return result


def norm(cores: Cores) -> float:
    """Return the Euclidean norm, by orthogonalisation; the logarithm keeps products of many cores in range."""
    rest, log = np.ones((1, 1)), 0.0
    for core in cores:
        part = np.tensordot(rest, core, 1)
        rest = np.linalg.qr(part.reshape(-1, part.shape[2]), mode="r")
        size = float(np.linalg.norm(rest))
        if size == 0.0:
            return 0.0
        rest, log = rest / size, log + math.log(size)
    return math.exp(log)


def residual(matrix: Cores, load: Cores, x: Cores) -> float:
    """Return ``||A x - b|| / ||b||``."""
    product = applied(matrix, x)
    product[0] = -product[0]
    both = []
    for k, (a, b) in enumerate(zip(product, load, strict=True)):
        r0 = 1 if k == 0 else a.shape[0] + b.shape[0]
        r1 = 1 if k == len(load) - 1 else a.shape[2] + b.shape[2]
        core = np.zeros((r0, a.shape[1], r1))
        core[: a.shape[0], :, : a.shape[2]] += a
        core[r0 - b.shape[0] :, :, r1 - b.shape[2] :] += b
        both.append(core)
    return norm(both) / norm(load)


# ---------------------------------------------------------------------------------------------------------- problems


def cube(d: int, cells: int, degree: int = 3) -> sn.TensorSpace:
    """Return splines on the unit cube, zero on its boundary."""
    return sn.TensorSpace(
        **{f"x{i + 1}": sn.BSpline((0, 1), cells=cells, degree=degree, zero="both") for i in range(d)}
    )


def laplace(V: sn.TensorSpace) -> BilinearForm:
    """Return the form of Poisson's problem."""
    return reduce(add, [sn.inner(derivative, derivative) for derivative in V.d])


def conductivity(V: sn.TensorSpace) -> BilinearForm:
    """Return the form of ``-div(k grad u)``, ``k = 1 + 0.5 sin(pi x_1) ... sin(pi x_d)``."""
    bump = reduce(mul, [sn.apply(lambda s: np.sin(np.pi * s), x) for x in V.coordinates])
    return laplace(V) + reduce(add, [sn.inner(0.5 * bump * derivative, derivative) for derivative in V.d])


def make_case(name: str, form: BilinearForm, centre: float, asked: float) -> Case:
    """Return a case with load one."""
    load = [basis.integrals()[None, :, None] for basis in form.space.bases]
    return Case(name, sn.Galerkin(form, source=1), matrix_cores(form), load, centre, asked)


def cases(asked: float, dims: Sequence[int]) -> Iterator[Case]:
    """Yield the problems."""
    for d in dims:
        centre = float(heat_integral(np.full((1, d), 0.5))[0])
        yield make_case(f"poisson-1, d = {d}, 48 cells", laplace(cube(d, 48)), centre, asked)
    fine = sn.solve(sn.Galerkin(conductivity(cube(10, 32, degree=5)), source=1), tol=1e-9, format="tt")
    print(f"reference of the conductivity at the centre: degree 5, residual {fine.residual:.1e}, {fine.status.name}")
    yield make_case(
        "conductivity, d = 10, 32 cells", conductivity(cube(10, 32)), middle(cores_of(fine.u), 32, 5), asked
    )


def middle(cores: Cores, cells: int, degree: int = 3) -> float:
    """Return the value at the centre of the cube."""
    row = cube(1, cells, degree).axes["x1"].values(np.array([0.5]))
    row = np.asarray(row.toarray() if hasattr(row, "toarray") else row)[0]
    value = np.ones((1, 1))
    for core in cores:
        value = value @ np.einsum("n,rns->rs", row, core)
    return float(value[0, 0])


# ----------------------------------------------------------------------------------------------------------- solvers


OURS: dict[str, dict[str, Any]] = {
    "sepnet CP": {"format": "cp"},
    "sepnet TT": {"format": "tt"},
    "sepnet TT, order given": {"format": "tt", "given": True},
}


def ours(case: Case, format: str, *, given: bool = False) -> Callable[[float], tuple[Any, str, int]]:
    """Return our solver as a function of the tolerance."""
    order = case.problem.space.names if given else None

    def solve(tol: float) -> tuple[Any, str, int]:
        u = sn.solve(case.problem, tol=tol, format=format, order=order).u
        shown = str(u.rank) if isinstance(u, sn.CP) else str(max(u.ranks))
        return u, shown, u.size

    return solve


def amen(case: Case, preconditioner: str | None) -> Callable[[float], tuple[Any, str, int]] | None:
    """Return AMEn as a function of the tolerance, or None without torchTT."""
    try:
        import torch
        import torchtt
    except ImportError:
        return None
    torch.set_num_threads(1)
    matrix = torchtt.TT([torch.tensor(core) for core in case.matrix])
    load = torchtt.TT([torch.tensor(core) for core in case.load])

    def solve(tol: float) -> tuple[Any, str, int]:
        x = torchtt.solvers.amen_solve(matrix, load, eps=tol, nswp=40, preconditioner=preconditioner)
        return x, str(max(x.R)), sum(core.numel() for core in x.cores)

    return solve


def host(x: Any) -> Cores:
    """Return the cores of what a solver returned."""
    return cores_of(x) if isinstance(x, sn.CP | sn.TensorTrain) else [core.numpy() for core in x.cores]


def centres(dims: Sequence[int], repeat: int) -> list[bool]:
    """Print the values at the centre of poisson-1 with the options of the gallery; return whether they are as asked."""
    met = []
    print("\n| problem | format | asked | error at the centre | s, median | rank | numbers | status | |")
    print("|---|---|---|---|---|---|---|---|---|")
    for d in dims:
        case = vsna.make("poisson-1", d=d)
        point, asked = np.full((1, d), 0.5), 1e-6 if d <= 10 else 1e-4
        exact = float(heat_integral(point)[0])
        for format in ("cp", "tt"):
            seconds = []
            for _ in range(repeat):
                began = time.perf_counter()
                solution = sn.solve(case.problem, format=format, **case.options)
                seconds.append(time.perf_counter() - began)
            u = solution.u
            error = abs(float(u(point)[0]) - exact) / exact
            verdict = "met" if error <= asked else "MISSED"
            if format == "cp":
                met.append(error <= asked)
            print(
                f"| {case.name}, d = {d} | {format} | <= {asked:.0e} | {error:.1e} | {np.median(seconds):.3f} | "
                f"{u.rank} | {u.size:,} | {solution.status.name} | {verdict} |",
                flush=True,
            )
    return met


def climb(
    case: Case, name: str, solve: Callable[[float], tuple[Any, str, int]], repeat: int, most: float
) -> Line | None:
    """Return the line of the loosest tolerance that reaches the residual; None if none does in `most` seconds."""
    cells = case.problem.space.bases[0].breaks.size - 1
    spent = 0.0
    for tol in (case.residual * step for step in LADDER):
        began = time.perf_counter()
        x, ranks, numbers = solve(tol)
        spent += time.perf_counter() - began
        found = residual(case.matrix, case.load, host(x))
        if found <= case.residual:
            seconds = []
            for _ in range(repeat):
                began = time.perf_counter()
                solve(tol)
                seconds.append(time.perf_counter() - began)
            error = abs(middle(host(x), cells) - case.centre) / abs(case.centre)
            return Line(case, name, tol, found, error, seconds, ranks, numbers)
        if spent > most:
            break
    print(f"{case.name}, {name}: {case.residual:.0e} not reached in {spent:.0f} s, but {found:.1e} at tol {tol:.0e}")
    return None


def show(lines: Sequence[Line]) -> None:
    """Print the lines of one case."""
    for line in lines:
        print(
            f"| {line.case.name} | {line.solver} | {line.tol:.1e} | {line.residual:.1e} | {line.error:.1e} | "
            f"{min(line.seconds):.3f} | {np.median(line.seconds):.3f} | {line.ranks} | {line.numbers:,} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--residual", type=float, default=1e-6, help="Euclidean residual that all must reach")
    parser.add_argument("--dims", type=int, nargs="*", default=[6, 10, 64], help="dimensions of poisson-1")
    parser.add_argument("--repeat", type=int, default=3, help="timed solves at the tolerance found")
    parser.add_argument("--most", type=float, default=30.0, help="seconds after which a ladder is given up")
    options = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)
    print(f"load average {os.getloadavg()[0]:.2f} at the start, {os.cpu_count()} cores, one thread for all")
    if importlib.util.find_spec("torchtt") is None:
        print("torchTT is left out: it is not installed (the top of this file says how to)")
    else:
        print(f"torchTT's compiled extension: {'found' if importlib.util.find_spec('torchttcpp') else 'missing'}")
    for name in ("cp", "tt"):
        sn.solve(sn.Galerkin(laplace(cube(3, 8)), source=1), tol=1e-3, format=name)
    met = centres(options.dims, options.repeat)
    print("\n| problem | solver | tol | residual | error at the centre | s, fastest | s, median | rank | numbers |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in cases(options.residual, options.dims):
        lines = [climb(case, n, ours(case, **o), options.repeat, options.most) for n, o in OURS.items()]
        solvers = {name: amen(case, name) for name in (None, "c")}
        rivals = [
            climb(case, "AMEn" + (f", preconditioner {name!r}" if name else ""), solve, options.repeat, options.most)
            for name, solve in solvers.items()
            if solve is not None
        ]
        show([line for line in lines + rivals if line is not None])
    print(f"\nload average {os.getloadavg()[0]:.2f} at the end")
    raise SystemExit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
