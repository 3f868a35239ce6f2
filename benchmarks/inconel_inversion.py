"""Inversion of the fitted surrogate: which scalograms give this property?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from inconel_arms import Fitted, Khronos, average
from inconel_data import Components, Walls

from sepnet.solvers.newton import Inversion, invert

COUNTS = {"yield_stress": 47, "uts": 64, "modulus": 64}  # inversions at once: as many as published
CALLS = 21
NORMAL_FIFTHS = (-1.28155, -0.52440, 0.0, 0.52440, 1.28155)  # quantiles of 10, 30, 50, 70 and 90 %


def surrogate(fitted: Fitted) -> tuple[Khronos, Components]:
    """Return the mean of the chosen functions as one sum of products, and the components it takes."""
    model = average([part for part in fitted.models if isinstance(part, Khronos)])
    whole = fitted.components
    return model, Components(whole.transform, whole.mean, whole.directions[: model.u.space.dim], whole.unit)


def box_of(scores: np.ndarray) -> np.ndarray:
    """Return the box (k, 2) of the training scores: an axis of the function may be longer."""
    return np.stack([scores.min(axis=0), scores.max(axis=0)], axis=1)


def milliseconds(model: Khronos, bounds: np.ndarray, targets: np.ndarray, starts: int) -> float:
    """Return the median time of all inversions together, everything included, after one call that compiles.

    Of a call the smaller of wall and processor time counts: others use the machine too.
    """
    times = []
    for _ in range(CALLS + 1):
        wall, processor = time.perf_counter(), time.process_time()
        invert(model.u, targets - model.constant, n_starts=starts, bounds=bounds)
        times.append(min(time.perf_counter() - wall, time.process_time() - processor))
    return 1e3 * float(np.median(times[1:]))


@dataclass(frozen=True)
class Ensembles:
    """Inversions of the measured property of every point.

    Every training point is moved by the shortest steps to the scores that give the property; what the components leave
    out stays as it is at the training point next to where it ends. The measured point itself is never used. With
    `noise`, the standard error of the surrogate, five properties around the measured one are asked for.
    """

    model: Khronos
    components: Components
    walls: Walls
    found: Inversion
    asked: int  # properties for each point

    @classmethod
    def of(cls, fitted: Fitted, walls: Walls, target: str, noise: float) -> Ensembles:
        model, components = surrogate(fitted)
        shifts = noise * np.array(NORMAL_FIFTHS if noise else (0.0,))
        y = (walls.targets[target][:, None] + shifts - model.constant).ravel()
        scores = components(walls.pictures[~walls.test])
        found = invert(model.u, y, prior=scores, bounds=box_of(scores))
        return cls(model, components, walls, found, len(shifts))

    def points(self, i: int) -> np.ndarray:
        """Return the scores (N, k) that give the property of point i; none if it is out of reach."""
        parts = [self.found.of(k) for k in range(self.asked * i, self.asked * (i + 1))]
        return np.concatenate([part.points if part.hits[0] else part.points[:0] for part in parts])

    def pictures(self, i: int, *, whole: bool) -> np.ndarray:
        """Return the scalograms of point i, with `whole` including what the components leave out."""
        points, shape = self.points(i), self.walls.pictures.shape[1:]
        if not whole:
            return self.components.to_pictures(points, shape)
        others = np.flatnonzero(~self.walls.test & (np.arange(len(self.walls.test)) != i))
        near = self.components(self.walls.pictures[others])
        nearest = others[np.argmin(np.linalg.norm(points[:, None] - near, axis=2), axis=1)]
        return self.components.to_pictures(points, shape, self.components.rest(self.walls.pictures[nearest]))


def envelopes(pictures: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return least and most of each pixel, and its 5 and 95 %."""
    low, high = np.quantile(pictures, (0.05, 0.95), axis=0)
    return [(pictures.min(axis=0), pictures.max(axis=0)), (low, high)]


def compare(pictures: np.ndarray, true: np.ndarray) -> list[float]:
    """Return the share of the truth that each envelope covers, and its mean width, where the truth is not zero.

    Nine pixels of ten are zero in nearly all scalograms: they would be covered by anything.
    """
    lit = true > 0.0
    bounds = envelopes(pictures[:, lit])
    return [float(np.mean((a <= true[lit]) & (true[lit] <= b))) for a, b in bounds] + [
        float(np.mean(b - a)) for a, b in bounds
    ]


def examine(fitted: Fitted, walls: Walls, target: str) -> dict[str, Any]:
    """Measure times, misfit, and how much of the true scalograms the envelopes of the ensembles cover."""
    y, training = walls.targets[target], walls.pictures[~walls.test]
    noise = float(np.sqrt(1.0 - fitted.score) * y[~walls.test].std())
    exact, wide = (Ensembles.of(fitted, walls, target, error) for error in (0.0, noise))
    reached = np.array([len(exact.points(i)) > 0 for i in range(len(y))])
    makers: dict[str, Callable[[int], np.ndarray]] = {
        "components alone": lambda i: exact.pictures(i, whole=False),
        "whole scalograms": lambda i: exact.pictures(i, whole=True),
        "whole, error of the surrogate": lambda i: wide.pictures(i, whole=True),
        "all training scalograms": lambda i: np.delete(training, np.flatnonzero(~walls.test) == i, axis=0),
    }
    shares: dict[str, Any] = {}
    for part, rows in (("training", ~walls.test), ("test", walls.test)):
        for name, make in makers.items():
            values = [compare(make(int(i)), walls.pictures[i]) for i in np.flatnonzero(rows & reached)]
            shares[f"{part}: {name}"] = np.mean(values, axis=0).tolist()
        shares[f"{part}: reached"] = [int((rows & reached).sum()), int(rows.sum())]
    count, model, box = COUNTS[target], exact.model, box_of(exact.components(training))
    residuals = [np.abs(model(exact.points(int(i))) - y[i]).max() for i in np.flatnonzero(reached)]
    return {
        "coefficients": model.size,
        "inputs": model.u.space.dim,
        "shares": shares,
        "points an ensemble": float(np.mean([len(exact.points(int(i))) for i in np.flatnonzero(reached)])),
        "largest error of the property": float(max(residuals)),
        "inversions": count,
        "milliseconds": {starts: milliseconds(model, box, y[:count], starts) for starts in (1, 4, 16, 64)},
    }


def table_of(results: dict[str, dict[str, Any]]) -> str:
    """Return two markdown tables: envelopes and times."""
    lines = ["| target | part: envelope of | covered by min to max | by 5 to 95 % | width of 5 to 95 % |"]
    lines.append("|---|---|---|---|---|")
    for target, r in results.items():
        for name, values in r["shares"].items():
            if name.endswith("reached"):
                lines.append(f"| {target} | {name} {values[0]} of {values[1]} | | | |")
            else:
                lines.append(f"| {target} | {name} | {values[0]:.2f} | {values[1]:.2f} | {values[3]:.3f} |")
    lines += [
        "",
        "| target | inputs, coefficients | inversions at once | ms with 1, 4, 16, 64 starts each | points an ensemble "
        "| largest error of the property |",
        "|---|---|---|---|---|---|",
    ]
    for target, r in results.items():
        times = ", ".join(f"{value:.1f}" for value in r["milliseconds"].values())
        lines.append(
            f"| {target} | {r['inputs']}, {r['coefficients']} | {r['inversions']} | {times} | "
            f"{r['points an ensemble']:.0f} | {r['largest error of the property']:.0e} |"
        )
    return "\n".join(lines)


def draw(fitted: Fitted, walls: Walls, target: str, path: Path) -> None:
    """Draw truth and envelope of the test points with the least, the middle and the largest target reached."""
    from matplotlib.figure import Figure

    noise = float(np.sqrt(1.0 - fitted.score) * walls.targets[target][~walls.test].std())
    ensembles = Ensembles.of(fitted, walls, target, noise)
    rows = np.array([i for i in np.flatnonzero(walls.test) if len(ensembles.points(int(i)))])
    rows = rows[np.argsort(walls.targets[target][rows])][[0, len(rows) // 2, -1]]
    figure = Figure(figsize=(8.4, 5.4), layout="constrained")
    for line, i in zip(figure.subplots(3, 4), rows, strict=True):
        pictures = ensembles.pictures(int(i), whole=True)
        low, high = envelopes(pictures)[1]
        true, top = walls.pictures[i], max(float(high.max()), float(walls.pictures[i].max()))
        titles = (f"{target} {walls.targets[target][i]:.0f} MPa: true", "ensemble, 5 %", "ensemble, 95 %")
        for axis, values, title in zip(line, (true, low, high), titles, strict=False):
            axis.imshow(np.sqrt(values), aspect="auto", vmax=np.sqrt(top), cmap="viridis", interpolation="nearest")
            axis.set_title(title, fontsize=8)
            axis.set_xticks([])
            axis.set_yticks([])
        curves = pictures.mean(axis=1)
        steps = np.arange(curves.shape[1])
        line[3].fill_between(steps, curves.min(axis=0), curves.max(axis=0), color="0.85", linewidth=0, label="min, max")
        bounds = np.quantile(curves, (0.05, 0.95), axis=0)
        line[3].fill_between(steps, *bounds, color="0.65", linewidth=0, label="5 to 95 %")
        line[3].plot(steps, true.mean(axis=0), color="tab:red", linewidth=1.0, label="true")
        line[3].set_title("mean over the frequencies", fontsize=8)
        line[3].tick_params(labelsize=6)
    figure.axes[3].legend(fontsize=6)
    figure.supxlabel("time, in columns of the scalogram; frequency rises upwards; colours are of the root", fontsize=8)
    figure.savefig(path, dpi=90)
