"""Runs that survive: interrupted anywhere, they go on to the same bits."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import sepnet as sn
from sepnet.models import vsna
from sepnet.solvers import als, checkpoint
from sepnet.solvers.record import Status

METHODS = [("auto", "cp"), ("als", "tt"), ("gauss-newton", "cp"), ("pgd", "cp"), ("pgd-update", "cp")]


def plume(**options):
    return vsna.advection_diffusion(cells={"x": 6, "y": 6, "z": 5, "t": 3, "omega": 2, "kappa": 1}, **options).problem


def wind():
    """Not symmetric: the dual norm of the residual is minimised."""
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=6, zero="both"), t=sn.BSpline((0, 1), cells=4))
    x, _ = V.coordinates
    form = sn.inner(V.d.t, V.identity) + sn.inner(V.d.x, V.d.x) + sn.inner(V.d.x, V.identity)
    return sn.Galerkin(form, source=1, initial={"t": sn.apply(lambda s: np.sin(np.pi * s), x)})


def same(a, b):
    """Equal to the last bit, and not only equal in value."""
    return (
        a.status is b.status
        and a.residual == b.residual
        and [r[:3] for r in a.history] == [r[:3] for r in b.history]
        and all(np.array_equal(p, q) for p, q in zip(a.u.arrays, b.u.arrays, strict=True))
    )


@pytest.mark.parametrize(("method", "format"), METHODS)
@pytest.mark.parametrize("problem", [plume, wind])
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, problem, method, format):
    options = {"method": method, "format": format, "rank": 4, "tol": 1e-9}
    whole = sn.solve(problem(), **options)
    sweeps = len(whole.history)
    # a solve of the plume costs four of the wind's: it is stopped once
    for stop in sorted({1, sweeps // 2} - {0}) if problem is wind else [sweeps // 2]:
        path = tmp_path / f"{stop}.h5"
        part = sn.solve(
            problem(), **options, checkpoint=path, checkpoint_every=0, callback=lambda r, n=stop: r.sweep == n
        )
        assert part.status is Status.INTERRUPTED
        live = []
        assert same(sn.resume(path, callback=lambda r, seen=live: seen.append(r.sweep)), whole)
        assert live == list(range(stop + 1, sweeps + 1))  # what was done is not done again
        if problem is wind:
            assert same(sn.resume(path), whole)  # a finished run comes back as it was


@pytest.fixture(scope="module")
def nine():
    return sn.solve(plume(), rank=9)


def test_an_interrupt_in_the_middle_of_a_sweep_loses_that_sweep_only(nine, tmp_path, monkeypatch):
    path, calls = tmp_path / "run.h5", []
    original = als.solve_axis

    def interrupted(*arguments):
        calls.append(None)
        if len(calls) == 40:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(als, "solve_axis", interrupted)
    part = sn.solve(plume(), rank=9, checkpoint=path)
    monkeypatch.undo()
    assert part.status is Status.INTERRUPTED
    assert "interrupted" in part.message
    assert part.residual == pytest.approx(min(r.residual for r in part.history))  # measured once more, more exactly
    assert same(sn.resume(path), nine)


SCRIPT = """
import os
import signal
import sys
import numpy as np
import sepnet as sn
from sepnet.models import vsna

cells, rank, last = map(int, sys.argv[3:])
replace = os.replace


def replaced(*paths):
    global last
    last -= 1
    if last == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)


os.replace = replaced
case = vsna.advection_diffusion(
    cells={"x": cells, "y": cells, "z": cells, "t": cells // 2, "omega": cells // 4, "kappa": 1}
)
bump = sn.apply(lambda s: np.cos(s), case.space.coordinates[0])  # a function that lives in this script only
problem = sn.LeastSquares(case.problem.operator, source=0 * bump, initial={"t": case.problem.initial["t"] * bump})
u = sn.solve(problem, rank=rank, checkpoint=sys.argv[1], checkpoint_every=0.0).u
np.savez(sys.argv[2], *u.arrays)
"""


def start(folder, name, cells, rank, last=0):
    """A process that writes a checkpoint after every sweep, and is killed before the `last` one takes its place."""
    script = folder / "run.py"
    script.write_text(SCRIPT)
    arguments = [str(script), str(folder / f"{name}.h5"), str(folder / f"{name}.npz"), str(cells), str(rank), str(last)]
    # Another order of hashes in every process.
    environment = os.environ | {"PYTHONHASHSEED": str(random.Random(name).randrange(2**31))}
    return subprocess.Popen([sys.executable, *arguments], env=environment)


def test_a_process_killed_while_it_writes_is_resumed_to_the_same_bits(tmp_path, monkeypatch):
    process = start(tmp_path, "killed", cells=6, rank=9, last=5)
    # meanwhile the same in this process, to its end
    arguments = ["run.py", str(tmp_path / "whole.h5"), str(tmp_path / "whole.npz"), "6", "9", "0"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(os, "replace", os.replace)  # to be put back
    exec(SCRIPT, {})
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed.npz").exists()
    assert len(list(tmp_path.glob(".*.part"))) == 1  # it was about to take the place of the one before
    path, seen = tmp_path / "killed.h5", []
    u = sn.resume(path, callback=lambda record: seen.append(record.sweep)).u
    assert seen[0] == 4  # the first of five is written before any sweep
    with np.load(tmp_path / "whole.npz") as whole:
        assert all(np.array_equal(a, whole[k]) for a, k in zip(u.arrays, whole.files, strict=True))


def kill_and_resume(folder, delays):
    """Run a script to its end, then kill it at several moments; whatever was left must lead to the same bits."""
    size = {"cells": 12, "rank": 24}
    began = time.monotonic()
    assert start(folder, "whole", **size).wait() == 0
    seconds = time.monotonic() - began
    with np.load(folder / "whole.npz") as stored:
        whole = [stored[k] for k in stored.files]
    resumed = 0
    for k, delay in enumerate(delays):
        process, path = start(folder, f"run{k}", **size), folder / f"run{k}.h5"
        time.sleep(delay * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if path.exists():
            resumed += 1
            u = sn.resume(path).u
            assert all(np.array_equal(a, b) for a, b in zip(u.arrays, whole, strict=True))
    return resumed


@pytest.mark.slow
def test_processes_killed_at_random_moments_are_resumed_to_the_same_bits(tmp_path):
    rng = random.Random(0)
    assert kill_and_resume(tmp_path, [rng.uniform(0.2, 1.0) for _ in range(20)]) >= 5


def test_it_is_written_when_the_time_has_come_and_at_the_end(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    path, written = tmp_path / "run.h5", []

    def tick(record):
        clock[0] += 2.0
        saved = checkpoint.read_checkpoint(path).saved
        written.append(len(saved.history) if saved else 0)

    solution = sn.solve(plume(), rank=9, checkpoint=path, checkpoint_every=5.0, callback=tick)
    # The clock moves after each sweep: 6 s have passed when the fourth is over.
    assert written[:8] == [0, 0, 0, 4, 4, 4, 7, 7]
    assert len(checkpoint.read_checkpoint(path).saved.history) == len(solution.history)


def test_where_nothing_was_swept_the_run_begins_anew(nine, tmp_path):
    path = tmp_path / "run.h5"

    def stop(*_):
        raise RuntimeError("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(als.AlternatingLeastSquares, "sweep", stop)
        with pytest.raises(RuntimeError, match="killed"):
            sn.solve(plume(), rank=9, checkpoint=path)
    assert same(sn.resume(path), nine)


def test_files_that_are_no_checkpoints(tmp_path):
    path = tmp_path / "run.h5"
    with pytest.raises(FileNotFoundError, match=r"no such file.*checkpoint="):
        sn.resume(path)
    solution = sn.solve(plume(), rank=4, checkpoint=path)
    function = tmp_path / "u.h5"
    solution.u.save(function)
    with pytest.raises(ValueError, match=r"a function: read it with sn.load"):
        sn.resume(function)
    with pytest.raises(ValueError, match="expected the attribute format='sepnet'"):
        sn.load(path)
    content = path.read_bytes()
    for name, damaged in {
        "cut": content[: len(content) // 2],
        "noise": content[:-900] + bytes(100) + content[-800:],
        "text": b"no file of ours",
    }.items():
        target = tmp_path / name
        target.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"damaged|no readable checkpoint"):
            sn.resume(target)


def test_what_cannot_be_kept_is_refused_before_anything_is_solved(tmp_path):
    path = tmp_path / "run.h5"
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4, zero="both"))
    lock = threading.Lock()
    source = sn.apply(lambda s: s + 0 * lock.locked(), V.coordinates[0])
    with pytest.raises(TypeError, match=r"`checkpoint` is .*cannot be stored.*locks"):
        sn.solve(sn.LeastSquares(V.d.x**2, source=source), rank=1, checkpoint=path)
    problem = sn.LeastSquares(V.d.x**2, source=1)
    with pytest.raises(ValueError, match="method='full' has no sweeps"):
        sn.solve(problem, method="full", checkpoint=path)
    with pytest.raises(ValueError, match="expected a file in a folder that exists"):
        sn.solve(problem, rank=1, checkpoint=tmp_path / "missing" / "run.h5")
    with pytest.raises(ValueError, match="`checkpoint_every` is -1"):
        sn.solve(problem, rank=1, checkpoint=path, checkpoint_every=-1)
    with pytest.raises(ValueError, match="one at a time"):
        sn.solve_many(problem, [1, 2], rank=1, checkpoint=path)
    assert list(tmp_path.iterdir()) == []


def test_a_problem_that_assembles_otherwise_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "run.h5"
    sn.solve(plume(), rank=4, checkpoint=path)
    from sepnet.solvers import solve

    monkeypatch.setattr(solve, "fingerprint", lambda *_: "another")
    with pytest.raises(ValueError, match="assembles to other matrices"):
        sn.resume(path)
