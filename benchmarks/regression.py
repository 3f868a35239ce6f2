"""Functions of two to ten variables learned from 10,000 random samples, by `sn.fit` and by other libraries.

    python benchmarks/regression.py                                      # sn.fit on all cases
    python benchmarks/regression.py --cases borehole special             # some cases, or a group of them
    python benchmarks/regression.py --arms --peers teneva pygam --out peers.json     # peers alone
    python benchmarks/regression.py --merge peers.json --out all.json    # sn.fit, beside figures measured before
    python benchmarks/regression.py --arms --merge peers.json all.json   # tables of figures measured before

Cases are in `regression_cases.py`, peers in `regression_peers.py`; one that is not installed is left out, with a line
that says so. All get the same noise-free uniformly random samples. The **error** is the root mean square error over
100,000 fresh points divided by the standard deviation of the function there (the same as sqrt(1 - R^2)). The **time**
is the CPU time of the fit on one thread, without compilation, imports, and the search for the setting, which has its
own column; below five seconds it is a median of three for `sn.fit`, else a single run, as for a peer. *defaults* is
`sn.fit(X, y)`; *tuned* has its rank and cells, and a peer with several settings its setting, chosen on 20 % of the
samples, and is then fitted to all of them. Outside the box of the samples (2 points in 10,000 an axis) `sn.fit` is
extended linearly, as its estimators do; the peers are told the true box.
"""

# ruff: noqa: E402 (BLAS and numba read their number of threads when they are loaded)

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np
from numpy.typing import NDArray
from regression_cases import CASES, GROUPS, Case
from regression_peers import PEERS, Peer, chosen_setting

Array = NDArray[np.float64]
Row = dict[str, Any]

ARMS = ("defaults", "tuned")
# Rank and cells among which the tuned arm chooses.
GRID: tuple[dict[str, int], ...] = tuple({"rank": rank, "cells": cells} for rank in (4, 8, 12) for cells in (4, 6, 10))
REPEATS, LONG = 3, 5.0  # a fit of more CPU seconds than that is run once


def relative_error(values: Array, exact: Array) -> float:
    return float(np.sqrt(np.mean((values - exact) ** 2)) / np.std(exact))


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return the result, the CPU seconds and the wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return result, time.process_time() - cpu, time.perf_counter() - wall


# ------------------------------------------------------------------------------------------------------------ our arms


def extended(u: Any, points: Array) -> Array:
    """Return the values of a fitted function, linear outside the box of its samples."""
    return np.asarray(u(points, outside="linear"))


def tuned_setting(X: Array, y: Array) -> Row:
    """Return the rank and the cells of the smallest error on the last 20 % of the samples."""
    import sepnet as sn

    kept = round(0.8 * len(y))
    fits = (sn.fit(X[:kept], y[:kept], **setting) for setting in GRID)
    errors = [relative_error(extended(fit.u, X[kept:]), y[kept:]) for fit in fits]
    return GRID[int(np.argmin(errors))]


def run_sepnet(case: Case, arm: str, X: Array, y: Array, points: Array, exact: Array) -> Row:
    """Fit and measure `sn.fit`, with its defaults or tuned."""
    import sepnet as sn

    setting: Row = {}
    search = 0.0
    if arm == "tuned":
        setting, search, _ = timed(lambda: tuned_setting(X, y))
    # Compiles whatever the fit uses; what it learns is thrown away.
    sn.fit(X[:1500], y[:1500], **setting)
    runs = [timed(lambda: sn.fit(X, y, **setting))]
    while len(runs) < REPEATS and runs[0][1] < LONG:
        runs.append(timed(lambda: sn.fit(X, y, **setting)))
    fit = runs[0][0]
    values, evaluation, _ = timed(lambda: extended(fit.u, points))
    names = list(case.box)
    return {
        "setting": setting,
        "error": relative_error(values, exact),
        "seconds": float(np.median([cpu for _, cpu, _ in runs])),
        "wall": float(np.median([wall for _, _, wall in runs])),
        "search": search,
        "evaluation": evaluation,
        "parameters": fit.u.size,
        # Samples without names have axes in the order of their columns.
        "inert": [names[list(fit.u.space.axes).index(axis)] for axis in fit.inert],
        "expected inert": list(case.inert),
        "version": sn.__version__,
    }


# --------------------------------------------------------------------------------------------------------------- peers


def run_peer(case: Case, peer: Peer, X: Array, y: Array, points: Array, exact: Array) -> Row:
    """Choose a peer's setting, fit it once and measure."""
    # The import belongs to no fit.
    importlib.import_module(peer.module)
    setting, search, _ = timed(lambda: chosen_setting(peer, case, X, y))
    (predict, parameters), seconds, wall = timed(lambda: peer.fit(case, X, y, **setting))
    values, evaluation, _ = timed(lambda: predict(points))
    return {
        "setting": setting,
        "error": relative_error(values, exact),
        "seconds": seconds,
        "wall": wall,
        "search": search,
        "evaluation": evaluation,
        "parameters": parameters,
        "given": peer.given,
        "version": version(peer.distribution),
    }


# --------------------------------------------------------------------------------------------------------------- table


def number(value: float | None, form: str) -> str:
    return "" if value is None or not np.isfinite(value) else format(value, form)


def table(rows: list[Row], case: str) -> str:
    """Return the markdown table of a case, the smallest error first; what got more than the samples comes last."""
    lines = [
        f"\n**{case}** ({len(CASES[case].box)} inputs)\n",
        "| method | error | fit, CPU s | search, CPU s | 1e5 values, CPU s | parameters | remarks |",
        "|---|---|---|---|---|---|---|",
    ]
    mine = [row for row in rows if row["case"] == case]
    for row in sorted(mine, key=lambda r: (bool(r.get("given")), r["error"] if r["error"] is not None else np.inf)):
        remarks = [f"{k} {v:g}" for k, v in row.get("setting", {}).items()]
        if row.get("given"):
            remarks.insert(0, f"**given {row['given']}**")
        if "inert" in row:
            found = ", ".join(row["inert"]) or "none"
            remarks.append(f"inert: {found}" + ("" if row["inert"] == row["expected inert"] else " (WRONG)"))
        if row.get("failed"):
            remarks.append(row["failed"])
        lines.append(
            f"| {row['arm']} | {number(row['error'], '.1e')} | {number(row.get('seconds'), '.2f')} | "
            f"{number(row.get('search'), '.1f')} | {number(row.get('evaluation'), '.2f')} | "
            f"{number(row.get('parameters'), ',')} | {'; '.join(remarks)} |"
        )
    return "\n".join(lines)


def merged(old: list[Row], new: list[Row]) -> list[Row]:
    """Return all rows, a later one of the same case and arm in place of an earlier one."""
    rows = {(row["case"], row["arm"]): row for row in [*old, *new]}
    return list(rows.values())


# ---------------------------------------------------------------------------------------------------------------- main


def expanded(names: list[str]) -> list[str]:
    """Return the cases, groups replaced by what they stand for."""
    return list(dict.fromkeys(case for name in names for case in GROUPS.get(name, (name,))))


def installed(names: list[str]) -> list[str]:
    """Return the peers that can run, and say which cannot."""
    wanted = list(PEERS) if names == ["all"] else names
    for name in wanted:
        if not PEERS[name].installed:
            print(f"{name} is left out: {PEERS[name].distribution} is not installed", flush=True)
    return [name for name in wanted if PEERS[name].installed]


def measure(case_name: str, arm: str, options: argparse.Namespace) -> Row:
    """Run one arm, ours or a peer, on one case."""
    case = CASES[case_name]
    X, y = case.samples(options.samples, (options.seed, 0))
    points, exact = case.samples(options.points, (options.seed, 1))
    row: Row = {"case": case_name, "arm": arm if arm in PEERS else f"sepnet, {arm}"}
    row |= {"samples": options.samples, "points": options.points, "seed": options.seed, "machine": platform.machine()}
    row["load"] = round(os.getloadavg()[0], 2)
    if arm not in PEERS:
        return row | run_sepnet(case, arm, X, y, points, exact)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return row | run_peer(case, PEERS[arm], X, y, points, exact)
    # A peer that breaks down is a result, whatever it raises.
    except Exception as failure:
        return row | {"error": None, "failed": f"{type(failure).__name__}: {failure}"[:200], "given": PEERS[arm].given}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cases", nargs="+", default=["all"], choices=[*CASES, *GROUPS], metavar="NAME")
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=ARMS, metavar="ARM", help="none: peers alone")
    parser.add_argument("--peers", nargs="+", default=[], choices=["all", *PEERS], metavar="NAME")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=100_000, help="fresh points of the errors")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--merge", nargs="+", type=Path, default=[], metavar="FILE", help="JSON files of earlier runs")
    parser.add_argument("--out", type=Path, help="JSON file to write, after every fit")
    options = parser.parse_args()
    rows: list[Row] = []
    for path in options.merge:
        rows = merged(rows, json.loads(path.read_text()))
    arms = [*options.arms, *installed(options.peers)]
    for case in expanded(options.cases):
        for arm in arms:
            if arm in PEERS and PEERS[arm].cases and case not in PEERS[arm].cases:
                continue
            row = measure(case, arm, options)
            print(f"{case}, {row['arm']}: {row.get('failed') or format(row['error'], '.2e')}", flush=True)
            rows = merged(rows, [row])
            if options.out:
                options.out.write_text(json.dumps(rows, indent=1) + "\n")
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")
    for case in CASES:
        if any(row["case"] == case for row in rows):
            print(table(rows, case))


if __name__ == "__main__":
    main()
