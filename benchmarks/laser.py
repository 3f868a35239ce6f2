"""The moving laser over seven axes: offline and online times, errors against two references, and a Monte Carlo study.

    python benchmarks/laser.py

Prints a report in markdown for docs/laser.md and, with ``--figure FILE``, draws its picture. Two references:

1. the closed form of a half space (`sepnet.models.gallery_laser.Beam`), one integral over the past;
2. linear finite elements on a block of the same size, in the frame of the beam: the modes of y (half of it, by
   symmetry) and z are found once, and every mode is marched in time along xi by the Crank-Nicolson rule, started by
   four steps of backward Euler. The mesh and the time steps are halved once, and what changes is stated.

Seconds are medians of five for queries, single runs for the offline part, everything compiled before; two threads where
the kernels use them.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when it is loaded)

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numba
import numpy as np
import scipy.linalg
from scipy import stats

import sepnet as sn
from sepnet.models.gallery_laser import Beam, laboratory, laser
from sepnet.models.gallery_problem import GalleryProblem
from sepnet.solvers.extremes import Maximum, maximum

OVER = ("xi", "y", "z", "t")
MILLION = 1_000_000
PLACES = ((100.0, 0.05, 0.0), (100.0, 0.075, 0.5), (100.0, 0.1, 1.0), (140.0, 0.05, 1.0))
TIMES = (0.25, 0.6, 1.25)

# ------------------------------------------------------------------------------------------------- finite elements


def elements(breaks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mass, stiffness and ``int phi_j' phi_i`` of linear elements, dense."""
    n, h = breaks.size, np.diff(breaks)
    mass, stiff, wind = np.zeros((3, n, n))
    for k, step in enumerate(h):
        both = np.ix_((k, k + 1), (k, k + 1))
        mass[both] += step / 6 * np.array([[2, 1], [1, 2]])
        stiff[both] += np.array([[1, -1], [-1, 1]]) / step
        wind[both] += np.array([[-0.5, 0.5], [-0.5, 0.5]])
    return mass, stiff, wind


def hats(breaks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Gauss points and weights of the cells, and the hat functions there (points, n)."""
    s, w = np.polynomial.legendre.leggauss(5)
    h = np.diff(breaks)
    points = (breaks[:-1, None] + h[:, None] * (1 + s) / 2).ravel()
    weights = (h[:, None] * w / 2).ravel()
    values = np.zeros((points.size, breaks.size))
    cell = np.repeat(np.arange(h.size), s.size)
    share = np.tile((1 + s) / 2, h.size)
    values[np.arange(points.size), cell], values[np.arange(points.size), cell + 1] = 1 - share, share
    return points, weights, values


@numba.njit(cache=True, error_model="numpy")
def step_modes(state, new, load, rates, lower, middle, upper, mass_l, mass_m, mass_u, dt, theta):  # type: ignore[no-untyped-def]
    """One time step of all modes: tridiagonal systems along xi, state (modes, n)."""
    modes, n = state.shape
    c, r = np.empty(n), np.empty(n)
    for m in range(modes):
        for i in range(n):
            al, am, au = (
                lower[i] + rates[m] * mass_l[i],
                middle[i] + rates[m] * mass_m[i],
                upper[i] + rates[m] * mass_u[i],
            )
            right = load[m, i] * dt + (mass_m[i] - (1 - theta) * dt * am) * state[m, i]
            if i > 0:
                right += (mass_l[i] - (1 - theta) * dt * al) * state[m, i - 1]
            if i < n - 1:
                right += (mass_u[i] - (1 - theta) * dt * au) * state[m, i + 1]
            left = mass_l[i] + theta * dt * al
            pivot = mass_m[i] + theta * dt * am - (left * c[i - 1] if i > 0 else 0.0)
            c[i] = (mass_u[i] + theta * dt * au) / pivot
            r[i] = (right - (left * r[i - 1] if i > 0 else 0.0)) / pivot
        new[m, n - 1] = r[n - 1]
        for i in range(n - 2, -1, -1):
            new[m, i] = r[i] - c[i] * new[m, i + 1]


def diagonals(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return lower, middle and upper diagonal, each as long as the matrix."""
    lower, upper = np.zeros(len(matrix)), np.zeros(len(matrix))
    lower[1:], upper[:-1] = np.diag(matrix, -1), np.diag(matrix, 1)
    return lower, np.diag(matrix).copy(), upper


def widening(first: float, end: float, ratio: float) -> np.ndarray:
    """Return breaks from 0 to `end` whose cells grow by `ratio` from `first` on."""
    sizes = [first]
    while sum(sizes) < end:
        sizes.append(sizes[-1] * ratio)
    breaks = np.concatenate([[0.0], np.cumsum(sizes)])
    return breaks * end / breaks[-1]


def axes(block: dict[str, float], halvings: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the breaks of xi, y (half) and z."""
    even = np.linspace(-0.12, 0.12, 61)
    side = widening(0.004, block["end"] - 0.12, 1.05)
    breaks = [
        np.concatenate([-0.12 - side[:0:-1], even, 0.12 + side[1:]]),
        widening(0.004, block["half_width"], 1.07),
        widening(0.0025, block["depth"], 1.09),
    ]
    for _ in range(halvings):
        breaks = [np.sort(np.concatenate([b, (b[1:] + b[:-1]) / 2])) for b in breaks]
    return breaks[0], breaks[1], breaks[2]


def finite_elements(
    beam: Beam, place: tuple[float, float, float], block: dict[str, float], halvings: int
) -> tuple[tuple[np.ndarray, ...], list[np.ndarray]]:
    """Return the breaks, and the rise at the nodes at `TIMES`."""
    power, size, shape = place
    breaks = axes(block, halvings)
    xi, y, z = breaks
    keep = slice(1, -1), slice(0, -1), slice(0, -1)  # zero at the walls; y = 0 and z = 0 are natural
    modes, rates = [], []
    for b, inner in zip((y, z), keep[1:], strict=True):
        mass, stiff, _ = elements(b)
        rate, mode = scipy.linalg.eigh(stiff[inner, inner], mass[inner, inner])
        modes.append(mode)
        rates.append(rate)
    (px, wx, hx), (py, wy, hy) = hats(xi), hats(y)
    flux = beam.flux(px[:, None], py[None, :], np.float64(size), np.float64(shape)) * wx[:, None] * wy
    load = (hx[:, keep[0]].T @ flux @ hy[:, keep[1]]) @ modes[0]
    load *= beam.diffusivity * beam.absorptivity * power / beam.conductivity
    mass, stiff, wind = (m[keep[0], keep[0]] for m in elements(xi))
    operator = beam.diffusivity * stiff - beam.velocity * wind
    decay = beam.diffusivity * (rates[0][:, None] + rates[1][None, :]).ravel()
    loads = np.ascontiguousarray((load.T[:, None, :] * modes[1][0][None, :, None]).reshape(decay.size, -1))
    state = np.zeros_like(loads)
    fields, now = [], 0.0
    steps = 120 * 2**halvings
    instants = TIMES[-1] * (np.arange(steps + 1) / steps) ** 2
    instants = np.unique(np.concatenate([instants, TIMES]))
    tridiagonal = (*diagonals(operator), *diagonals(mass))
    for k, then in enumerate(instants[1:]):
        parts, theta = (2, 1.0) if k < 2 else (1, 0.5)
        for _ in range(parts):
            new = np.empty_like(state)
            step_modes(state, new, loads, decay, *tridiagonal, (then - now) / parts, theta)
            state = new
        now = then
        if then in TIMES:
            values = np.zeros((xi.size, y.size, z.size))
            cube = state.reshape(modes[0].shape[1], modes[1].shape[1], -1)
            values[1:-1, :-1, :-1] = np.einsum("mnx,ym,zn->xyz", cube, *modes, optimize=True)
            fields.append(values)
    return breaks, fields


def compare_with_elements(u: sn.TensorTrain, beam: Beam, block: dict[str, float]) -> None:
    """Print errors at the nodes of the coarse mesh where the rise is above 5 % of its peak."""
    columns = ("power, size, shape", "elements, h to h/2", "train to elements, h/2", "train to closed form")
    print("| " + " | ".join((*columns, "peaks: elements h/2, train")) + " |")
    print("|---|---|---|---|---|")
    for place in PLACES:
        began = time.perf_counter()
        breaks, coarse = finite_elements(beam, place, block, 0)
        middle = time.perf_counter()
        _, fine = finite_elements(beam, place, block, 1)
        seconds = middle - began, time.perf_counter() - middle
        mine, others, known, halved, largest = [], [], [], [], []
        for t, first, second in zip(TIMES, coarse, fine, strict=True):
            second = second[::2, ::2, ::2]
            hot = np.argwhere(second > 0.05 * second.max())
            points = np.stack([b[i] for b, i in zip(breaks, hot.T, strict=True)], axis=1)
            rest = np.tile([t, *place], (len(points), 1))
            points = np.concatenate([points, rest], axis=1)
            at = tuple(hot.T)
            mine.append(np.asarray(u(points)))
            known.append(beam.rise(points))
            others.append(second[at])
            halved.append(first[at])
            largest.append((float(second.max()), float(mine[-1].max())))
        m, o, k, h = (np.concatenate(v) for v in (mine, others, known, halved))
        change, miss, closed = (np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in ((h, o), (m, o), (m, k)))
        peak = largest[-1]
        print(
            f"| {place[0]:g} W, {1e3 * place[1]:g} um, {place[2]:g} | "
            f"{change:.2e} ({seconds[0]:.1f}, {seconds[1]:.1f} s) | {miss:.2e} | {closed:.2e} | "
            f"{peak[0]:.1f} K, {peak[1]:.1f} K |",
            flush=True,
        )


# ------------------------------------------------------------------------------------------------------- the study


def clock(task: Callable[[], object], repeats: int = 5) -> tuple[float, float]:
    """Return the median seconds of a task, and of processor time: of all threads, and without other programs."""
    task()
    seconds, busy = [], []
    for _ in range(repeats):
        began, at = time.perf_counter(), time.process_time()
        task()
        seconds.append(time.perf_counter() - began)
        busy.append(time.process_time() - at)
    return statistics.median(seconds), statistics.median(busy)


def hot_points(case_space: sn.TensorSpace, beam: Beam, rng: np.random.Generator, n: int) -> np.ndarray:
    """Return random points in and behind the beam, where the rise is."""
    low, high = np.array([b.domain for b in case_space.bases]).T
    points = low + (high - low) * rng.random((n, low.size))
    points[:, 0] = rng.normal(0, 0.1, n) - (rng.random(n) < 0.5) * rng.random(n) * beam.velocity * points[:, 3]
    points[:, 1] = rng.normal(0, 0.06, n)
    points[:, 2] = np.abs(rng.normal(0, 0.03, n)) * (rng.random(n) < 0.7)
    return np.clip(points, low, high)


def dense_peak(u: sn.TensorTrain, row: np.ndarray) -> float:
    """Return the largest value of the grid of nodes, and of a fine grid around its largest."""
    line = u.restrict(power=row[0], size=row[1], shape=row[2])
    nodes = {name: np.unique(np.concatenate([line.space.nodes[name], line.space.axes[name].domain])) for name in OVER}
    coarse = line.on_grid(**nodes)
    top = np.unravel_index(int(np.argmax(coarse)), coarse.shape)
    fine = {}
    for k, (name, points) in zip(top, nodes.items(), strict=True):
        fine[name] = np.linspace(points[max(k - 2, 0)], points[min(k + 2, points.size - 1)], 25)
    return float(line.on_grid(**fine).max())


def dense_reference(beam: Beam, row: np.ndarray, t: float) -> float:
    """Return the largest rise of the closed form: on the surface, at the end (its integrand is nowhere negative)."""
    xi, y = np.meshgrid(np.linspace(-2.5, 0.5, 121) * row[1], np.linspace(0, 1, 41) * row[1], indexing="ij")
    points = np.stack([xi.ravel(), y.ravel(), *np.zeros((2, xi.size)), *np.tile(row[:, None], xi.size)], axis=1)
    points[:, 3] = t
    return float(beam.rise(points).max())


def draws(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return samples of power (normal, 3 %), size (normal, 5 %) and shape (beta), within the box."""
    power = stats.truncnorm(-4, 4, loc=100.0, scale=3.0).rvs(n, random_state=rng)
    size = stats.truncnorm(-4, 4, loc=0.075, scale=0.00375).rvs(n, random_state=rng)
    return np.stack([power, size, rng.beta(4.0, 4.0, n)], axis=1)


def errors(
    case: GalleryProblem,
    beam: Beam,
    trains: dict[str, sn.TensorTrain],
    hottest: Maximum,
    points: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Print the errors against the closed form, and those of the peaks."""
    exact = beam.rise(points)
    for name, v in trains.items():
        difference = v(points) - exact
        hot = exact > 0.05 * exact.max()
        late = points[:, 3] > 0.02
        print(
            f"- {name}: relative L2 over the whole box {case.measure(v)}; at 200,000 points in and behind the beam "
            f"{np.linalg.norm(difference) / np.linalg.norm(exact):.2e}, of those above 5 % of the peak "
            f"{np.linalg.norm(difference[hot]) / np.linalg.norm(exact[hot]):.2e}; largest error over largest rise "
            f"{np.abs(difference).max() / exact.max():.2e}, after the first 0.02 ms "
            f"{np.abs(difference[late]).max() / exact.max():.2e}"
        )
    print(f"- error of the closed form for this block (walls, quadrature): {case.reference_error:.1e}")
    low, high = np.array([b.domain for b in case.space.bases[4:]]).T
    sample = low + (high - low) * rng.random((200, 3))
    found = np.asarray(hottest(sample))
    dense = np.array([dense_peak(trains["train"], row) for row in sample])
    known = np.array([dense_reference(beam, row, case.constants["duration"]) for row in sample])
    against, closed = np.abs(found / dense - 1).max(), np.abs(found / known - 1).max()
    print(f"- peaks at 200 random parameters: largest difference to a dense search {against:.2e} (asked 1e-2), to the")
    print(f"  largest rise of the closed form {closed:.2e}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, help="file for the picture")
    target = parser.parse_args().figure
    rng = np.random.default_rng(0)
    print(f"Load average {os.getloadavg()[0]:.2f} at the start, {numba.get_num_threads()} threads.\n")
    laser(cells={"t": 8, "z": 6})  # compiles
    began = time.perf_counter()
    case = laser()
    built = time.perf_counter() - began
    beam: Beam = case.constants["beam"]
    block = {name: case.constants[name] for name in ("half_width", "depth")} | {"end": case.space.axes["xi"].domain[1]}
    sn.solve(case.problem, **(dict(case.options) | {"tol": 0.3}))
    began = time.perf_counter()
    solution = sn.solve(case.problem, **case.options)
    solved = time.perf_counter() - began
    u = solution.u
    short = u.compress(1e-3)
    maximum(sn.solve(case.problem, **(dict(case.options) | {"tol": 0.3})).u, OVER, tol=0.1)  # compiles
    began, at = time.perf_counter(), time.process_time()
    hottest = maximum(u, OVER, tol=3e-3)
    searched, busy_search = time.perf_counter() - began, time.process_time() - at
    print(f"{solution}\n\n{hottest}\n")
    print("| offline | s |\n|---|---|")
    print(
        f"| problem, the flux separated | {built:.1f} |\n| solve: {u.size:,} numbers, ranks {u.ranks} | {solved:.1f} |"
    )
    print(f"| maximum over x, y, z, t as a function | {searched:.1f} |\n")

    physical = laboratory(case.space, beam)
    points = hot_points(case.space, beam, rng, MILLION)
    lab = physical.to_physical(points)
    rows = draws(MILLION, rng)
    moved = physical(short)
    queries, inner, peaks = (clock(f) for f in (lambda: moved(lab), lambda: short(points), lambda: hottest(rows)))
    print("| online, 10^6 | asked, s | s | s of processor time | |\n|---|---|---|---|---|")
    for name, asked, (seconds, busy) in (
        ("probes at x, y, z, t, power, size, shape", 1, queries),
        ("the same, seen from the beam", None, inner),
        ("peak temperatures", 10, peaks),
        ("peak temperatures, the search offline included", None, (peaks[0] + searched, peaks[1] + busy_search)),
    ):
        verdict = "" if asked is None else ("met" if seconds <= asked else "MISSED")
        print(f"| {name} | {asked or ''} | {seconds:.2f} | {busy:.2f} | {verdict} |")
    print()
    errors(case, beam, {"train": u, "train, compressed to 1e-3": short}, hottest, points[:200_000], rng)
    compare_with_elements(u, beam, block)

    temperatures = np.asarray(hottest(rows))
    quantiles = np.quantile(temperatures, (0.01, 0.05, 0.5, 0.95, 0.99))
    print("\n| quantile | 1 % | 5 % | 50 % | 95 % | 99 % |\n|---|---|---|---|---|---|")
    print("| peak rise, K | " + " | ".join(f"{q:.0f}" for q in quantiles) + " |")
    print(f"\nLoad average {os.getloadavg()[0]:.2f} at the end.")
    if target:
        draw(target, physical(short), case.constants["duration"], beam, temperatures, quantiles)


def draw(
    target: Path, rise: Callable[..., np.ndarray], t: float, beam: Beam, peaks: np.ndarray, quantiles: np.ndarray
) -> None:
    """Draw the surface for three shapes, and the histogram of the peaks."""
    from sepnet.plotting.canvas import new_figure, save

    figure = new_figure(8.0, 4.2)
    grid = figure.add_gridspec(2, 3, height_ratios=(1.2, 1.0))
    x, y = np.meshgrid(np.linspace(0.55, 1.15, 181), np.linspace(-0.18, 0.18, 109), indexing="ij")
    fields = []
    for shape in (0.0, 0.5, 1.0):
        row = np.array([0.0, t, 100.0, 0.075, shape])
        points = np.concatenate([np.stack([x.ravel(), y.ravel()], axis=1), np.tile(row, (x.size, 1))], axis=1)
        fields.append(np.asarray(rise(points)).reshape(x.shape))
    top = max(float(f.max()) for f in fields)
    for k, (field, shape) in enumerate(zip(fields, ("Gaussian", "half ring", "ring"), strict=True)):
        panel = figure.add_subplot(grid[0, k])
        image = panel.contourf(x, y, field, levels=np.linspace(0, top, 25), cmap="magma", extend="min")
        panel.set(title=f"{shape}: {field.max():.0f} K", xlabel="x, mm", aspect="equal")
        if k == 0:
            panel.set_ylabel("y, mm")
    figure.colorbar(image, ax=figure.axes, label="rise, K", shrink=0.9, ticks=range(0, int(top), 500))
    panel = figure.add_subplot(grid[1, :])
    panel.hist(peaks, bins=100, color="0.6", density=True)
    for value, name in zip(quantiles, ("1 %", "5 %", "50 %", "95 %", "99 %"), strict=True):
        panel.axvline(value, color="C3", lw=0.9)
        text = f"{name}: {value:.0f} K"
        panel.text(value, panel.get_ylim()[1] * 0.97, text, rotation=90, ha="right", va="top", fontsize=7)
    panel.set(xlabel="peak rise of 10^6 beams, K", yticks=[])
    save(figure, target)


if __name__ == "__main__":
    main()
