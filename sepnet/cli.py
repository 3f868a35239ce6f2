"""The command ``sepnet``: list the problem gallery, solve one of its problems, look into a file."""

from __future__ import annotations

import argparse
import inspect
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from sepnet.bases.matrix_axis import Assembled
from sepnet.functions import CP, SNA, ErrorEstimate, TensorTrain, Tucker, load
from sepnet.functions.storage import read
from sepnet.models import vsna
from sepnet.models.gallery_problem import GalleryProblem
from sepnet.solvers.options import DEFAULT_TOL, FORMATS, METHODS, PRODUCT_METHODS
from sepnet.solvers.record import Status
from sepnet.solvers.result import Solution
from sepnet.solvers.solve import solve
from sepnet.version import __version__

__all__ = ["main"]

logger = logging.getLogger(__name__)

_FIELD = 64  # points per direction of the timed field
_PICTURES = (".png", ".pdf", ".svg")


class _BadArgumentError(ValueError):
    """An argument of the command line is wrong: exit status 2."""


class _Parser(argparse.ArgumentParser):
    """A parser that reports in one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is, and exit with status 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments after the command's name; those of the process by default.

    Returns
    -------
    int
        0 on success; 1 if solving, reading or writing failed; 130 if interrupted; 141 if nobody reads the output.

    Raises
    ------
    SystemExit
        With status 2, if the arguments are wrong.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        status = int(options.run(options))
        sys.stdout.flush()  # a pipe that is closed already is noticed here, not after the end
        return status
    except _BadArgumentError as error:
        parser.exit(2, f"sepnet: {error}\n")
    except BrokenPipeError:
        for stream in (sys.stdout, sys.stderr):  # so that the interpreter's last flush says nothing either
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 141
    except (ValueError, TypeError, OSError, MemoryError, ImportError, ArithmeticError) as error:
        logger.debug("failed", exc_info=True)
        print(f"sepnet: {_one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sepnet: interrupted", file=sys.stderr)
        return 130


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _parser() -> _Parser:
    parser = _Parser(
        prog="sepnet", description="Solve differential equations in many variables as separable functions."
    )
    parser.add_argument("--version", action="version", version=f"sepnet {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    listing = commands.add_parser("list", help="list the problems that can be solved")
    listing.set_defaults(run=_list)
    info = commands.add_parser("info", help="say what a file holds")
    info.add_argument("file", metavar="FILE.h5")
    info.set_defaults(run=_info)
    _add_solve(commands.add_parser("solve", help="solve a problem of the gallery, compare with its reference, draw it"))
    return parser


def _add_solve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a problem that `sepnet list` names")
    parser.add_argument(
        "--rank", type=int, help="largest rank, initial and boundary data included; not with --method full"
    )
    parser.add_argument(
        "--cells",
        metavar="N or AXIS=N,...",
        help="cells of the finest axis, with which the others scale; or of some axes, e.g. x=34,t=10",
    )
    parser.add_argument("--degree", type=int, help="degree of the splines")
    parser.add_argument(
        "--tol", type=float, help=f"relative residual to reach ({DEFAULT_TOL:g}, and on until it stagnates)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the starting columns (0)")
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="auto",
        help="how to solve (auto); full solves without a rank, small problems only",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="sum of products or tensor train, or what suits better (cp, or the problem's own)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="CONSTANT=VALUE",
        help="a constant of the problem, e.g. --set width=0.2 --set centre=0.3,0.1,0; repeatable",
    )
    files = parser.add_mutually_exclusive_group()
    files.add_argument("--save", metavar="FILE.h5", help="file for the solution (NAME.h5)")
    files.add_argument("--no-save", action="store_true", help="keep no solution")
    pictures = parser.add_mutually_exclusive_group()
    pictures.add_argument("--plot", metavar="FILE.png", help="file for the picture: .png, .pdf or .svg (NAME.png)")
    pictures.add_argument("--no-plot", action="store_true", help="draw no picture")
    parser.add_argument("--quiet", action="store_true", help="no progress and no table, only errors")
    parser.set_defaults(run=_solve)


def _list(options: argparse.Namespace) -> int:
    del options
    width = max(map(len, vsna.GALLERY))
    for name in vsna.GALLERY:
        try:
            case = vsna.make(name)
        except ImportError as missing:
            print(f"{name:<{width}}  {_one_line(missing)}")
            continue
        print(f"{name:<{width}}  {case.title}")
        print(f"{'':<{width}}  axes {', '.join(case.space.names)}; constants {', '.join(vsna.constants(name))}")
    return 0


def _info(options: argparse.Namespace) -> int:
    if Path(options.file).is_dir():
        msg = f"{options.file!r} is a folder, expected a file with a solution, e.g. heat.h5"
        raise IsADirectoryError(msg)
    u = load(options.file)
    rows = [("format", type(u).__name__), ("rank", _rank(u)), ("parameters", f"{u.size:,}"), ("dtype", str(u.dtype))]
    if not isinstance(u, SNA) or u.activation == "identity":
        rows.append(("L2 norm", f"{u.norm():.6g}"))
    rows += [(f"axis {name}", f"{basis!r}, {basis.size} functions") for name, basis in u.space.axes.items()]
    rows += sorted(read(options.file).notes.items())
    _table(rows)
    return 0


def _rank(u: CP | SNA | TensorTrain | Tucker) -> str:
    return str(u.rank) if isinstance(u, CP | SNA) else "-".join(map(str, u.ranks)) or "1"


def _table(rows: Sequence[tuple[str, str]]) -> None:
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        print(f"  {label:<{width}}  {text}")


def _solve(options: argparse.Namespace) -> int:
    case, settings = _case(options)
    targets = _targets(options, case)
    if not options.quiet:
        print(f"{case.name}: {case.title}", flush=True)
        compiled = _compile(options.name, case.constants["degree"])
        print(f"compiling ... {compiled:.1f} s (not part of the times below)", flush=True)
    began = time.perf_counter()
    solution = solve(
        case.problem,
        seed=options.seed,
        method=options.method,
        progress=not options.quiet,
        **settings,
    )
    seconds = time.perf_counter() - began
    status = _status(case, solution, options.method, settings.get("tol", DEFAULT_TOL))
    if solution.status is Status.FAILED:
        print(f"sepnet: {status}", file=sys.stderr)
        return 1
    error = case.measure(solution.u)
    written = _write(case, solution, error, targets)
    if not options.quiet:
        _table(_report(case, solution, error, seconds, status))
        print("\n".join(written))
    return 130 if solution.status is Status.INTERRUPTED else 0


def _case(options: argparse.Namespace) -> tuple[GalleryProblem, dict[str, Any]]:
    """Return the problem and the options of `solve`; what is wrong with either is a wrong argument."""
    try:
        pairs = [_constant(options.name, text) for text in options.set]
        if options.cells is not None:
            pairs.append(("cells", _cells(options.cells)))
        pairs += [(name, getattr(options, name)) for name in ("rank", "degree") if getattr(options, name) is not None]
        values = _once(pairs, "the constant {} is given twice: give it once")
        msg = ""
        if options.tol is not None and not 0 < options.tol <= 1:
            msg = f"--tol is {options.tol}, expected a positive number up to 1"
        elif options.seed < 0:
            msg = f"--seed is {options.seed}, expected an integer >= 0"
        elif "rank" in values and options.method == "full":
            msg = f"--rank is {values['rank']}, but --method full solves without a rank: leave one of the two out"
        elif options.format == "tt" and options.method in PRODUCT_METHODS:
            msg = f"--method {options.method} works on sums of products: leave --format tt out, or take --method als"
        if msg:
            raise _BadArgumentError(msg)
        # Some problems are solved to a tolerance by themselves: then a rank is an option of the solver alone.
        own = "rank" in values and options.name in vsna.GALLERY and "rank" not in vsna.constants(options.name)
        extra = {"rank": values.pop("rank")} if own else {}
        case = vsna.make(options.name, **values)
    except (ValueError, TypeError) as error:
        raise _BadArgumentError(_one_line(error)) from error
    settings = {
        key: v for key, v in (*case.options.items(), *extra.items()) if key != "rank" or options.method != "full"
    }
    if options.tol is not None:
        settings["tol"] = options.tol
    settings["format"] = options.format or settings.get("format", "cp")
    return case, settings


def _once(pairs: Sequence[tuple[str, Any]], message: str) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise _BadArgumentError(message.format(repr(twice[0])))
    return dict(pairs)


def _constant(problem: str, text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not value:
        msg = f"--set {text}: expected CONSTANT=VALUE, e.g. --set width=0.2"
        raise _BadArgumentError(msg)
    if name == "cells":
        return name, _cells(value)
    if problem in vsna.GALLERY:
        known = inspect.signature(vsna.GALLERY[problem]).parameters.get(name)
        if known is not None and isinstance(known.default, str):
            return name, value
    parts = [_number(part, f"--set {text}") for part in value.split(",")]
    return name, parts[0] if len(parts) == 1 else tuple(parts)


def _number(text: str, where: str) -> float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    msg = f"{where}: {text!r} is no number; write numbers, several with commas between, e.g. --set centre=0.3,0.1,0"
    raise _BadArgumentError(msg)


def _cells(text: str) -> int | dict[str, int]:
    try:
        if "=" not in text:
            return int(text)
        parts = (part.split("=") for part in text.split(","))
        pairs = [(name.strip(), int(count)) for name, count in parts]
    except ValueError as error:
        msg = f"--cells {text}: expected a number or numbers per axis, e.g. --cells 20 or --cells x=34,t=10"
        raise _BadArgumentError(msg) from error
    return _once(pairs, f"--cells {text}: the axis {{}} is given twice: give it once")


def _targets(options: argparse.Namespace, case: GalleryProblem) -> dict[str, Path]:
    """Return the files to write, checked before the work begins."""
    targets = {}
    held = not any(isinstance(basis, Assembled) for basis in case.space.bases)
    if options.save is not None and not held:
        msg = f"--save: files hold no meshes, and {case.name} is solved on one: leave it out"
        raise _BadArgumentError(msg)
    if held and not options.no_save:
        targets["--save"] = Path(_name("--save", options.save, f"{options.name}.h5"))
    if not options.no_plot:
        targets["--plot"] = Path(_name("--plot", options.plot, f"{options.name}.png"))
    picture = targets.get("--plot")
    if picture and picture.suffix.lower() not in _PICTURES and not os.path.isdir(picture):
        msg = f"--plot {picture}: expected a name that ends in .png, .pdf or .svg"
        raise _BadArgumentError(msg)
    if len({path.resolve() for path in targets.values()}) < len(targets):
        msg = f"--save and --plot are the same file {str(picture)!r}: give two names, e.g. --save u.h5"
        raise _BadArgumentError(msg)
    for option, path in targets.items():
        _check_target(option, path)
    if options.plot is not None:
        from sepnet import plotting

        plotting.require_matplotlib()  # a picture asked for by name must come; the one by default may be left out
    return targets


def _name(option: str, given: str | None, default: str) -> str:
    if given == "":
        msg = f"{option} is '', expected a file name, e.g. {option} {default}"
        raise _BadArgumentError(msg)
    return default if given is None else given


def _check_target(option: str, path: Path) -> None:
    """Raise OSError unless the file can be written."""
    where = f"{option} {str(path)!r}"
    if os.path.exists(path) and not os.path.isfile(path):  # these two take names that are too long, too
        msg = f"{where} is {'a folder' if path.is_dir() else 'no ordinary file'}: give the name of a file"
        raise OSError(msg)
    if not path.parent.is_dir():
        msg = f"{where}: the folder {str(path.parent)!r} does not exist: create it first"
        raise FileNotFoundError(msg)
    try:
        if os.path.exists(path):
            path.open("ab").close()
        tempfile.NamedTemporaryFile(prefix=f".{path.name}.", suffix=".part", dir=path.parent).close()
    except OSError as error:
        msg = f"{where} cannot be written ({error.strerror}): give another place"
        raise PermissionError(msg) from error


def _compile(name: str, degree: int) -> float:
    """Solve a tiny problem of the same kind, so that everything is compiled; return the seconds."""
    began = time.perf_counter()
    tiny = vsna.make(name, cells=4, degree=degree)
    u = solve(tiny.problem, rank=4).u
    tiny.measure(u, n=10)
    _field(u)
    return time.perf_counter() - began


def _field(u: CP | TensorTrain) -> tuple[CP | TensorTrain, dict[str, np.ndarray]]:
    """Return the function of the first three axes, the others in the middle, and the grid of the timed field."""
    names = u.space.names[:3]
    middle = {name: sum(basis.domain) / 2 for name, basis in u.space.axes.items() if name not in names}
    part: CP | TensorTrain = u.restrict(**middle)
    grid = {name: np.linspace(*basis.domain, _FIELD) for name, basis in part.space.items}
    grid |= {name: np.arange(b.size, dtype=np.float64) for name, b in part.space.items if isinstance(b, Assembled)}
    part.on_grid(**{name: points[:2] for name, points in grid.items()})
    return part, grid


def _evaluation(u: CP | TensorTrain) -> tuple[str, float]:
    """Return what was evaluated and the median of the seconds it took."""
    times = []
    part, grid = _field(u)
    for _ in range(20):
        began = time.perf_counter()
        part.on_grid(**grid)
        times.append(time.perf_counter() - began)
    return " x ".join(str(points.size) for points in grid.values()), float(np.median(times))


def _status(case: GalleryProblem, solution: Solution, method: str, tol: float) -> str:
    """Return the status with the next step, in the words of the command line."""
    kind, details = solution.status, solution.message
    if kind is Status.STAGNATED and method == "full":
        text, details = f"the mesh is too coarse for the tolerance {tol:g}: raise --cells", ""
    elif kind is Status.MESH_LIMITED:
        finer = ",".join(f"{k}={2 * n if k == solution.refine else n}" for k, n in case.constants["cells"].items())
        text = f"above the tolerance {tol:g}, a higher rank does not help: refine {solution.refine}, --cells {finer}"
    else:
        text = {
            Status.CONVERGED: f"the residual is below the tolerance {tol:g}",
            Status.RANK_LIMITED: f"rank {solution.u.rank} does not reach the tolerance {tol:g}: raise --rank",
            Status.STAGNATED: f"above the tolerance {tol:g} and no longer falling: try another --seed, or raise --rank",
            Status.INTERRUPTED: "the best function so far: run the command again for a better one",
            Status.FAILED: "the solve failed",
        }[kind]
    return f"{kind.name}: {text}{'; ' if details else ''}{details}"


def _report(
    case: GalleryProblem, solution: Solution, error: ErrorEstimate, seconds: float, status: str
) -> list[tuple[str, str]]:
    axes = ", ".join(f"{name} {count}" for name, count in case.constants["cells"].items())
    grid, evaluation = _evaluation(solution.u)
    kind = "relative, of the differential equation" if type(case.problem).__name__ == "LeastSquares" else "relative"
    return [
        ("cells", f"{axes}; degree {case.constants['degree']}"),
        ("rank", _rank(solution.u)),
        ("parameters", f"{solution.u.size:,}"),
        ("residual", f"{solution.residual:.2e} ({kind})"),
        ("status", status),
        ("data error", f"{solution.data_error:.2e} (initial and boundary values)"),
        ("error", f"{error} (relative L2, whole box)"),
        ("reference error", f"{case.reference_error:.1e}"),
        ("solving", f"{seconds:.2f} s, of which assembly {max(seconds - solution.seconds, 0.0):.2f} s"),
        ("evaluation", f"{1e3 * evaluation:.2f} ms for a field of {grid} points"),
    ]


def _write(case: GalleryProblem, solution: Solution, error: ErrorEstimate, targets: dict[str, Path]) -> list[str]:
    """Write the files and return what was written, in words; a missing picture is noted on standard error."""
    u, written = solution.u, []
    notes = {"problem": case.name, "status": solution.status.name, "residual": f"{solution.residual:.6e}"}
    notes |= {"error": str(error), "written by": f"sepnet {__version__}"}
    notes |= {f"constant {key}": str(value) for key, value in case.constants.items()}
    if "--save" in targets:
        u.save(targets["--save"], notes=notes)
        written.append(f"saved the solution as {targets['--save']}")
    if "--plot" not in targets:
        return written
    from sepnet import plotting

    try:
        caption = f"rank {u.rank}, {u.size:,} parameters, relative L2 error over the whole box {error}"
        plotting.save(plotting.gallery_figure(case, u, caption=caption), targets["--plot"])
        written.append(f"saved a picture as {targets['--plot']}")
    except ImportError as missing:
        print(f"no picture: {_one_line(missing)}", file=sys.stderr)
    return written


if __name__ == "__main__":
    sys.exit(main())
