"""The command `sepnet`: what it prints and writes, and how it refuses."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest

import sepnet as sn
from sepnet import cli
from sepnet.functions.storage import read
from sepnet.models import vsna
from sepnet.solvers.record import Status

SMALL = ["--cells", "x=6,t=4,kappa=2", "--rank", "6"]


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _refused(arguments, capsys):
    """The one line with which the command refuses, and its exit status."""
    try:
        status = cli.main(arguments)
    except SystemExit as exit_:
        status = exit_.code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert "Traceback" not in captured.err
    return status, captured.err


def _png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


# --- list and info ------------------------------------------------------------------------------------------------


def test_list_names_problems_axes_and_constants(capsys):
    assert cli.main(["list"]) == 0
    text = capsys.readouterr().out
    for name in vsna.GALLERY:
        assert f"{name} " in text
    assert "axes x, y, z, t, omega, kappa; constants cells, degree, walls, centre, width" in text


def test_info_tells_what_a_file_holds(tmp_path, capsys):
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4, zero="both"), k=sn.Chebyshev((1, 2), 3))
    u = sn.CP(V, [np.ones((5, 2)), np.ones((4, 2))])
    u.save(tmp_path / "u.h5", notes={"made by": "hand"})
    assert cli.main(["info", "u.h5"]) == 0
    text = capsys.readouterr().out
    for part in ("rank", "2", "18", "float64", 'BSpline((0, 1), cells=4, degree=3, zero="both"), 5 functions', "hand"):
        assert part in text
    assert f"{u.norm():.6g}" in text
    assert "Chebyshev((1, 2), 3), 4 functions" in text


def test_info_on_damaged_foreign_and_missing_files(tmp_path, capsys):
    V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=40))
    sn.CP(V, [np.random.default_rng(0).random((43, 20))]).save(tmp_path / "whole.h5")
    data = (tmp_path / "whole.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.h5").write_text("no HDF5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["a"] = 1
    for name, wanted in [
        ("cut.h5", "'cut.h5' is no readable sepnet file (truncated, damaged or foreign)"),
        ("text.h5", "'text.h5' is no readable sepnet file"),
        ("foreign.h5", "not one written by sepnet"),
        ("none.h5", "'none.h5': no such file"),
        (".", "'.' is a folder, expected a file with a solution, e.g. heat.h5"),
    ]:
        status, line = _refused(["info", name], capsys)
        assert status == 1
        assert line.startswith("sepnet: ")
        assert wanted in line


# --- solve --------------------------------------------------------------------------------------------------------


def test_solve_prints_a_table_and_writes_solution_and_picture(tmp_path, capsys):
    assert cli.main(["solve", "heat", *SMALL, "--set", "kappa=0.02,0.05", "--seed", "3"]) == 0
    captured = capsys.readouterr()
    u = sn.load(tmp_path / "heat.h5")
    assert u.rank <= 6
    assert u.space.names == ("x", "t", "kappa")
    assert u.space.axes["kappa"].domain == (0.02, 0.05)
    case = vsna.heat({"x": 6, "t": 4, "kappa": 2}, kappa=(0.02, 0.05))
    table = dict(line.strip().split("  ", 1) for line in captured.out.splitlines() if line.startswith("  "))
    table = {key: value.strip() for key, value in table.items()}
    assert table["parameters"] == f"{u.size:,}"
    assert table["cells"] == "x 6, t 4, kappa 2; degree 3"
    assert table["error"].startswith(str(case.measure(u)))
    for label in ("rank", "residual", "status", "data error", "reference error", "solving", "evaluation"):
        assert table[label]
    assert "compiling" in captured.out
    assert "saved the solution as heat.h5" in captured.out
    assert "saved a picture as heat.png" in captured.out
    assert "sweeps" in captured.err  # the progress bar
    assert _png_size(tmp_path / "heat.png")[0] > 600
    notes = read(tmp_path / "heat.h5").notes
    assert notes["problem"] == "heat"
    assert notes["constant kappa"] == "(0.02, 0.05)"


def test_quiet_says_nothing_and_no_files_are_written_when_not_wanted(tmp_path, capsys):
    assert cli.main(["solve", "heat", *SMALL, "--quiet", "--no-save", "--no-plot"]) == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    assert list(tmp_path.iterdir()) == []


def test_the_plume_is_drawn_small_enough_to_send(tmp_path, capsys):
    arguments = ["solve", "advection-diffusion", "--cells", "10", "--rank", "6", "--save", "u.h5", "--plot", "u.png"]
    assert cli.main(arguments) == 0
    assert "field of 64 x 64 x 64" in capsys.readouterr().out
    assert (tmp_path / "u.png").stat().st_size < 300_000
    assert sn.load(tmp_path / "u.h5").space.axes["t"].breaks.size == 4  # 10 * 10 / 34 cells, rounded up


@pytest.mark.parametrize("name", ["poisson-kan", "poisson-peak", "poisson-1", "ring", "interface", "burgers-inviscid"])
def test_every_problem_runs(name, tmp_path):
    extra = ["--set", "d=3"] if name == "poisson-1" else []
    assert cli.main(["solve", name, "--cells", "4", "--rank", "2", "--quiet", "--plot", "p.svg", *extra]) == 0
    assert (tmp_path / f"{name}.h5").is_file()
    assert "<svg" in (tmp_path / "p.svg").read_text()


def test_a_mesh_is_drawn_and_not_saved(tmp_path, capsys):
    pytest.importorskip("skfem")
    assert cli.main(["solve", "heat-mesh", "--cells", "8", "--plot", "p.png"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]
    assert "field of 33 x 64 x 64 points" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["solve", "heat-mesh", "--save", "u.h5"])
    assert "files hold no meshes" in capsys.readouterr().err


def test_options_reach_the_solver(tmp_path, monkeypatch):
    seen = {}

    def fake(problem, **options):
        seen.update(options, size=problem.space.shape)
        return sn.solve(problem, rank=4)

    monkeypatch.setattr(cli, "_compile", lambda *_: 0.0)
    monkeypatch.setattr(cli, "solve", fake)
    arguments = ["solve", "heat", *SMALL[:2], "--tol", "1e-3", "--seed", "5", "--degree", "4", "--quiet"]
    arguments += ["--no-save", "--no-plot"]
    assert cli.main([*arguments, "--rank", "6"]) == 0
    common = {"tol": 1e-3, "seed": 5, "progress": False, "size": (8, 8, 6)}
    assert seen == common | {"rank": 6, "method": "auto", "format": "cp"}
    seen.clear()
    assert cli.main([*arguments, "--method", "full"]) == 0
    assert seen == common | {"method": "full", "format": "cp"}  # which solves without a rank


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["nothing"], "expected one of poisson-kan, poisson-peak, poisson-1, heat, advection-diffusion"),
        (["heat", "--rank", "0"], "`rank` is 0, expected an integer >= 1"),
        (["heat", "--rank", "many"], "argument --rank: invalid int value: 'many'"),
        (["heat", "--tol", "-1"], "--tol is -1.0, expected a positive number"),
        (["heat", "--tol", "nan"], "--tol is nan, expected a positive number"),
        (["heat", "--seed", "-1"], "--seed is -1, expected an integer >= 0"),
        (["heat", "--cells", "x=0"], "`cells['x']` is 0, expected an integer >= 1"),
        (["heat", "--cells", "q=3"], "`cells` names the axis 'q', expected one of x, t, kappa"),
        (["heat", "--cells", "x=3=4"], "--cells x=3=4: expected a number or numbers per axis"),
        (["heat", "--cells", "two"], "--cells two: expected a number or numbers per axis"),
        (["heat", "--degree", "1"], "`degree` is 1, expected an integer >= 2"),
        (["heat", "--degree", "99"], "`degree` is 99, expected"),
        (["heat", "--set", "walls=1"], "heat has no constant 'walls', expected one of cells"),
        (["heat", "--set", "kappa"], "--set kappa: expected CONSTANT=VALUE"),
        (["heat", "--set", "kappa=a,b"], "--set kappa=a,b: 'a' is no number"),
        (["heat", "--set", "kappa=2,1"], "`kappa` is (2, 1), expected two rising numbers"),
        (["heat", "--method", "magic"], "invalid choice: 'magic'"),
        (["heat", "--plot", "u.gif"], "--plot u.gif: expected a name that ends in .png, .pdf or .svg"),
        (["heat", "--save", "u.h5", "--no-save"], "not allowed with argument"),
        (["heat", "--save", "same.png", "--plot", "same.png"], "--save and --plot are the same file 'same.png'"),
        (["heat", "--save", "./heat.png"], "--save and --plot are the same file 'heat.png': give two names"),
        (["heat", "--save", ""], "--save is '', expected a file name, e.g. --save heat.h5"),
        (["heat", "--plot", ""], "--plot is '', expected a file name, e.g. --plot heat.png"),
        (["heat", "--cells", "x=3,x=4"], "--cells x=3,x=4: the axis 'x' is given twice: give it once"),
        (["heat", "--rank", "4", "--set", "rank=5"], "the constant 'rank' is given twice: give it once"),
        (["heat", "--set", "kappa=nan,1"], "`kappa` is (nan, 1), expected 2 finite numbers"),
        (["heat", "--rank", "6", "--method", "full"], "--rank is 6, but --method full solves without a rank: leave"),
        (["heat", "--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line_with_status_2(arguments, wanted, tmp_path, capsys):
    status, line = _refused(["solve", *arguments], capsys)
    assert status == 2
    assert wanted in line
    assert list(tmp_path.iterdir()) == []


def test_no_command_is_refused(capsys):
    status, line = _refused([], capsys)
    assert status == 2
    assert "COMMAND" in line


def test_what_cannot_be_done_ends_with_status_1(tmp_path, capsys):
    status, line = _refused(["solve", "heat", "--save", "no/u.h5"], capsys)  # before any work
    assert status == 1
    assert "folder 'no' does not exist" in line
    big = ["solve", "advection-diffusion", "--method", "full", "--quiet"]
    status, line = _refused(big, capsys)
    assert status == 1
    assert "GiB are allowed: use fewer cells" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--save", "."], "--save '.' is a folder: give the name of a file"),
        (["--save", "folder.h5"], "--save 'folder.h5' is a folder"),
        (["--plot", "."], "--plot '.' is a folder"),
        (["--plot", "folder.png"], "--plot 'folder.png' is a folder"),
        (["--plot", "no/u.png"], "--plot 'no/u.png': the folder 'no' does not exist: create it first"),
        (["--save", "/dev/null"], "--save '/dev/null' is no ordinary file"),
        (["--save", "/proc/u.h5"], "--save '/proc/u.h5' cannot be written ("),
        (["--plot", f"{'u' * 253}.png"], "cannot be written (File name too long)"),
    ],
)
def test_files_that_cannot_be_written_are_refused_before_the_work(arguments, wanted, tmp_path, capsys, monkeypatch):
    if "/proc" in wanted and not pathlib.Path("/proc").is_dir():
        pytest.skip("needs a folder that nobody can write to")
    monkeypatch.setattr(cli, "solve", lambda *_, **__: pytest.fail("the work began"))
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "folder.png").mkdir()
    status, line = _refused(["solve", "heat", *SMALL, *arguments], capsys)
    assert status == 1
    assert wanted in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.h5", "folder.png"]


def test_an_existing_file_is_checked_and_replaced(tmp_path, capsys):
    (tmp_path / "u.h5").write_text("old")
    assert cli.main(["solve", "heat", *SMALL, "--quiet", "--save", "u.h5", "--plot", "pic.PNG"]) == 0
    assert sn.load(tmp_path / "u.h5").rank <= 6
    assert _png_size(tmp_path / "pic.PNG")[0] > 600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pic.PNG", "u.h5"]


def test_an_interrupt_outside_the_iteration_ends_with_status_130_and_writes_nothing(tmp_path, capsys, monkeypatch):
    def interrupted(problem, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "solve", interrupted)
    assert _refused(["solve", "heat", *SMALL, "--quiet"], capsys) == (130, "sepnet: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_iteration_keeps_the_best_function_so_far(tmp_path, capsys, monkeypatch):
    def stop(record):
        if record.sweep >= 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_compile", lambda *_: 0.0)
    monkeypatch.setattr(cli, "solve", lambda problem, **options: sn.solve(problem, **options, callback=stop))
    assert cli.main(["solve", "heat", *SMALL, "--no-plot"]) == 130
    text = capsys.readouterr().out
    assert "INTERRUPTED: the best function so far: run the command again for a better one" in text
    assert "saved the solution as heat.h5" in text
    assert sn.load(tmp_path / "heat.h5").rank >= 1
    assert read(tmp_path / "heat.h5").notes["status"] == "INTERRUPTED"


@pytest.mark.parametrize(
    ("changes", "arguments", "wanted"),
    [
        ({"status": Status.CONVERGED}, ["--tol", "0.5"], "CONVERGED: the residual is below the tolerance 0.5"),
        ({"status": Status.RANK_LIMITED}, [], "does not reach the tolerance 0.01: raise --rank"),
        (
            {"status": Status.MESH_LIMITED, "refine": "t"},
            [],
            "a higher rank does not help: refine t, --cells x=6,t=8,kappa=2",
        ),
        ({"status": Status.STAGNATED}, [], "no longer falling: try another --seed, or raise --rank"),
        (
            {"status": Status.STAGNATED},
            ["full"],
            "STAGNATED: the mesh is too coarse for the tolerance 0.01: raise --cells",
        ),
        ({"status": Status.STAGNATED, "message": "no unique solution?"}, [], "raise --rank; no unique solution?"),
    ],
)
def test_the_status_speaks_of_the_options_of_the_command(changes, arguments, wanted, capsys, monkeypatch):
    done = sn.solve(vsna.heat({"x": 6, "t": 4, "kappa": 2}).problem, rank=4)
    monkeypatch.setattr(cli, "_compile", lambda *_: 0.0)
    monkeypatch.setattr(
        cli, "solve", lambda *_, **__: dataclasses.replace(done, **{"message": "", "refine": None} | changes)
    )
    options = ["--method", "full"] if arguments == ["full"] else [*arguments, "--rank", "6"]
    assert cli.main(["solve", "heat", *SMALL[:2], *options, "--no-save", "--no-plot"]) == 0
    (line,) = (row for row in capsys.readouterr().out.splitlines() if row.startswith("  status"))
    assert line.endswith(wanted)
    for python in ("rank=.", "seed=", "`", "(axis"):
        assert python not in line


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_pipe_that_nobody_reads_is_no_error(tmp_path):
    sn.CP(sn.TensorSpace(x=sn.BSpline((0, 1), cells=4)), [np.ones((7, 1))]).save(tmp_path / "u.h5")
    env = os.environ | {"PYTHONPATH": str(pathlib.Path(sn.__file__).resolve().parents[1])}
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "sepnet.cli", "info", "u.h5"]
    done = subprocess.run(command, env=env, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 141  # 128 + SIGPIPE, as of a command that the signal ends


def test_a_failed_solve_ends_with_status_1_and_writes_nothing(tmp_path, capsys, monkeypatch):
    def failing(problem, **options):
        done = sn.solve(problem, rank=options["rank"])
        return dataclasses.replace(done, status=Status.FAILED, message="a value is not finite")

    monkeypatch.setattr(cli, "solve", failing)
    status, line = _refused(["solve", "heat", *SMALL, "--quiet"], capsys)
    assert status == 1
    assert "FAILED: the solve failed; a value is not finite" in line
    assert list(tmp_path.iterdir()) == []


def test_a_picture_asked_for_by_name_needs_matplotlib_before_the_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(cli, "solve", lambda *_, **__: pytest.fail("the work began"))
    status, line = _refused(["solve", "heat", *SMALL, "--plot", "x.png"], capsys)
    assert status == 1
    assert line == "sepnet: pictures need matplotlib, which is not installed: pip install 'sepnet[plot]'\n"
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_it_still_solves_and_says_how_to_get_the_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert cli.main(["solve", "heat", *SMALL, "--quiet"]) == 0
    assert capsys.readouterr().err == (
        "no picture: pictures need matplotlib, which is not installed: pip install 'sepnet[plot]'\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["heat.h5"]
