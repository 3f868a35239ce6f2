"""Inconel 718: yield stress and ultimate tensile strength of printed walls from their thermal histories.

    python benchmarks/inconel.py DATA [--repeats 2] [--walls]          # repeated 5-fold cross-validation
    python benchmarks/inconel.py DATA --repeats 0 --test --invert      # the published split, and inversion

Further: `--arms ARM ...`, `--targets TARGET ...`, `--out FOLDER` (JSON and figures).

DATA is an HDF5 file of the data of Xie et al. (npj Computational Materials 7:86, 2021), which this project does not
ship. The published repository is github.com/xiaoyuxie-vico/DL_AM_Data; the file holds, for 135 points of 12 walls:
`sample` (names, wall_point), `wavelet` (n, rows, columns) the scalograms read back from the published pictures,
`properties/{yield_stress, uts, modulus}` (Pa, MPa, Pa), `is_test` the published split, and `thermal_history/{name}` the
full histories of wall 6.

Every model gets principal components of the scalograms. What is chosen (transformation, number of components, the
model's own settings) is chosen by 5-fold cross-validation inside the training part, from 24 settings for each model.
Beside the best setting stands, for every model alike, the mean of the functions of the best three settings on the
transformation of the best. Printed, and written to FOLDER as JSON:

- how well `WaveletFeatures` reproduces the published scalograms of wall 6, wavelet by wavelet;
- R2 by repeated 5-fold cross-validation over all 135 points, after each repeat, and the paired differences to the
  first; with `--walls` whole walls are left out, since points of one wall are printed together;
- with `--test`, the published split (27 points), to be looked at once, at the end, and a parity figure;
- with `--invert`, ensembles of scalograms for the properties of all points, and their envelopes against the truth.

The modulus is a negative control: no published model predicts it.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when it is loaded)

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
from inconel_arms import ARMS, BEST, Fitted, choose
from inconel_data import TARGETS, Walls, folds, load, reproduce
from inconel_inversion import draw, examine, table_of

Results = dict[str, dict[str, Any]]


def r_squared(y: np.ndarray, predicted: np.ndarray) -> float:
    return 1.0 - float(np.sum((y - predicted) ** 2) / np.sum((y - y.mean()) ** 2))


def cross_validate(
    walls: Walls, arms: list[str], target: str, repeats: int, *, grouped: bool, after: Callable[[Results], None]
) -> None:
    """Add R2 over all points, one value a repeat, of the best setting and of the mean of the best three."""
    y = walls.targets[target]
    results: Results = {arm: {"one": [], "three": [], "seconds": 0.0, "chosen": []} for arm in arms}
    predictions = {arm: np.empty((2, len(y))) for arm in arms}
    for i, (train, test) in enumerate(folds(walls, repeats, grouped=grouped)):
        for arm in arms:
            start = time.perf_counter()
            model = choose(arm, walls.pictures[train], y[train], seed=i)
            predictions[arm][:, test] = [model(walls.pictures[test], count) for count in (1, BEST)]
            results[arm]["seconds"] += time.perf_counter() - start
            results[arm]["chosen"].append(model.settings[0])
        if i % 5 == 4:
            for arm in arms:
                for name, predicted in zip(("one", "three"), predictions[arm], strict=True):
                    results[arm][name].append(r_squared(y, predicted))
            after(results)


def ranking(results: Results) -> str:
    """Return a markdown table, best first; the differences are paired over the repeats."""
    order = sorted(results, key=lambda arm: -float(np.mean(results[arm]["three"])))
    first = np.array(results[order[0]]["three"])
    lines = ["| model | R2: mean of the best three settings | behind the first | R2: best setting | chosen most |"]
    lines.append("|---|---|---|---|---|")
    for arm in order:
        three, one = np.array(results[arm]["three"]), np.array(results[arm]["one"])
        chosen = [", ".join(f"{key} {value}" for key, value in s.items()) for s in results[arm]["chosen"]]
        most = max(set(chosen), key=chosen.count)
        behind = f"{np.mean(first - three):.3f} ({(first - three).min():.3f} to {(first - three).max():.3f})"
        each = f"{three.mean():.3f} ({three.min():.3f} to {three.max():.3f})"
        lines.append(
            f"| {arm} | {each} | {behind} | {one.mean():.3f} | {most} ({chosen.count(most)} of {len(chosen)}) |"
        )
    return "\n".join(lines)


def published_split(walls: Walls, models: dict[str, dict[str, Fitted]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for target, arms in models.items():
        measured = walls.targets[target][walls.test]
        found[target] = {}
        for arm, model in arms.items():
            one, three = (model(walls.pictures[walls.test], count) for count in (1, BEST))
            found[target][arm] = {
                "R2": r_squared(measured, three),
                "R2, best setting": r_squared(measured, one),
                "inner R2": model.score,
                "settings": model.settings,
                "predicted": three.tolist(),
                "measured": measured.tolist(),
            }
    return found


def parity(found: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    arms = list(next(iter(found.values())))
    figure = Figure(figsize=(2.6 * len(arms), 2.7 * len(found)), layout="constrained")
    axes = figure.subplots(len(found), len(arms), squeeze=False)
    for row, (target, results) in zip(axes, found.items(), strict=True):
        for axis, (arm, result) in zip(row, results.items(), strict=True):
            axis.plot(result["measured"], result["predicted"], ".", color="tab:blue")
            ends = [min(result["measured"]), max(result["measured"])]
            axis.plot(ends, ends, color="0.6", linewidth=0.8)
            axis.set_title(f"{arm}: R2 {result['R2']:.2f}", fontsize=9)
            axis.set_xlabel(f"{target} measured", fontsize=8)
            axis.set_ylabel("predicted", fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--walls", action="store_true", help="leave whole walls out")
    parser.add_argument("--invert", action="store_true", help="invert the properties of all points")
    parser.add_argument("--test", action="store_true", help="look at the published split")
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    walls, report = load(options.data), {}
    options.out.mkdir(parents=True, exist_ok=True)

    report["scalograms"] = reproduce(walls)
    print(
        "| wavelet | correlation with the published pictures of wall 6 | smallest | from, samples |\n|---|---|---|---|"
    )
    for entry in report["scalograms"]:
        smallest = min(entry["each"].values())
        print(f"| {entry['wavelet']} | {entry['mean']:.3f} | {smallest} | +{entry['after']}, {entry['samples']} |")

    name = "walls left out" if options.walls else "5-fold"
    report[name] = {}
    for target in options.targets if options.repeats else ():

        def after(results: Results, target: str = target) -> None:
            report[name][target] = results
            (options.out / "inconel.json").write_text(json.dumps(report, indent=1, default=str))
            print(
                f"\n{target}, {name}, {len(next(iter(results.values()))['one'])} repeats\n\n{ranking(results)}",
                flush=True,
            )

        cross_validate(walls, options.arms, target, options.repeats, grouped=options.walls, after=after)

    train, models = ~walls.test, {}
    if options.test or options.invert:
        arms = options.arms if options.test else ["KHRONOS"]
        for target in options.targets:
            y = walls.targets[target][train]
            models[target] = {arm: choose(arm, walls.pictures[train], y) for arm in arms}
    if options.test:
        found = report["published split"] = published_split(walls, models)
        parity(found, options.out / "inconel-parity.png")
        print("\n| published split: R2 of the mean of three (of the best setting) |", " | ".join(options.arms), "|")
        print("|---|" + "---|" * len(options.arms))
        for target, results in found.items():
            cells = [f"{r['R2']:.2f} ({r['R2, best setting']:.2f})" for r in results.values()]
            print(f"| {target} |", " | ".join(cells), "|")
    if options.invert:
        fitted = {target: arms["KHRONOS"] for target, arms in models.items()}
        report["inversion"] = {target: examine(model, walls, target) for target, model in fitted.items()}
        print(f"\n{table_of(report['inversion'])}")
        for target, model in fitted.items():
            draw(model, walls, target, options.out / f"inconel-inversion-{target}.png")
    (options.out / "inconel.json").write_text(json.dumps(report, indent=1, default=str))


if __name__ == "__main__":
    main()
