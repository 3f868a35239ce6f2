"""The entry point: from a problem to a solution."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from sepnet.backends.arrays import Namespace
from sepnet.backends.availability import require_cupy
from sepnet.backends.threads import one_blas_thread
from sepnet.coefficients import Source
from sepnet.forms import LinearForm
from sepnet.functions.base import SeparableFunction
from sepnet.problems import Problem
from sepnet.solvers.checkpoint import Stored, fingerprint, read_checkpoint
from sepnet.solvers.direct import solve_directly
from sepnet.solvers.full_tensor import Factorisation, check_size
from sepnet.solvers.iterate import solve_iteratively
from sepnet.solvers.lifting import make_lift
from sepnet.solvers.mesh_norm import mesh_axis
from sepnet.solvers.mesh_solve import check_mesh, solve_on_mesh, takes_mesh
from sepnet.solvers.nonlinear import solve_nonlinear
from sepnet.solvers.options import Options
from sepnet.solvers.prepare import Prepared
from sepnet.solvers.record import Record
from sepnet.solvers.report import only_lift
from sepnet.solvers.result import Solution
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.solvers.system import make_system
from sepnet.solvers.uniqueness import check_uniqueness

__all__ = ["resume", "solve", "solve_many"]


def solve(
    problem: Problem,
    *,
    rank: int | None = None,
    tol: float | None = None,
    method: str = "auto",
    format: str = "cp",
    order: Sequence[str] | None = None,
    start: Solution | SeparableFunction | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 5.0,
    xp: Namespace = None,
    device: Any = None,
    dtype: Any = None,
    seed: int = 0,
    progress: bool = False,
    callback: Callable[[Record], object] | None = None,
) -> Solution:
    """Solve a problem for a function in a low-rank format.

    Parameters
    ----------
    problem : LeastSquares or Galerkin
        What to solve.
    rank : int, optional
        Largest rank of the solution, lifted data included; for a train the largest rank of a bond. Given alone, the
        solver goes on until the residual stagnates at this rank; with `tol` it stops at the tolerance.
    tol : float, optional
        Relative residual to reach; 0.01 by default.
    method : {"auto", "als", "gauss-newton", "pgd", "pgd-update", "full"}, optional
        Alternating least squares with ranks that grow ("als"); the same, polished by Gauss-Newton steps in all factors
        at once; greedy enrichment (proper generalised decomposition), without and with updates of the earlier modes;
        or the direct solution on the full tensor space (small problems). The low-rank methods minimise the energy of
        symmetric coercive forms, the residual of least squares, and the dual norm of the residual of Galerkin forms
        that are not symmetric. "auto" is "als", polished where it misses a `tol` that was given. Nonlinear problems are
        solved by Newton's method, with "full" or "als" inside; "auto" is "full" where that fits. A record of their
        history is a Newton step.
    format : {"cp", "tt", "auto"}, optional
        A sum of products, `CP`, or a tensor train, `TensorTrain`: more accurate from some thousand coefficients on.
        "auto" takes a train from three axes on, unless the problem is Laplace-like.
    order : sequence of str, optional
        The order of the axes along a train; chosen by the solver unless given.
    start : Solution, CP or TensorTrain, optional
        A function to begin from, on the same box, in any format and on any mesh: the solution of a coarser or a similar
        problem.
    checkpoint : path, optional
        A file that holds the state of the solve, for `resume`; it is written at the beginning, at the end, and at the
        ends of sweeps.
    checkpoint_every : float, optional
        Seconds between two writes, at least.
    xp, device, dtype : optional
        Where the iteration runs and the solution lives: array library, device, dtype. NumPy float64 by default.
        Assembly is float64 on the host in any case.
    seed : int, optional
        Seed of the starting columns; the result is reproducible.
    progress : bool, optional
        Show a bar with the residual.
    callback : callable, optional
        Called after every sweep with a `Record`; returning True interrupts the solve.

    Returns
    -------
    Solution

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value, or the form is not coercive (ALS).
    MemoryError
        If the problem is too large for ``method="full"``.

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8, zero="both"), y=sn.BSpline((0, 1), cells=8, zero="both"))
    >>> solution = sn.solve(sn.LeastSquares(V.d.x**2 + V.d.y**2, source=-1), rank=6)
    >>> solution.status.name, solution.u.rank
    ('MESH_LIMITED', 6)
    """
    options = Options.checked(
        problem,
        rank=rank,
        tol=tol,
        method=method,
        format=format,
        order=order,
        start=start,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        xp=xp,
        device=device,
        dtype=dtype,
        seed=seed,
        progress=progress,
        callback=callback,
    )
    with one_blas_thread():
        return _solve_all(problem, [problem], options)[0]


def resume(
    path: str | os.PathLike[str],
    *,
    progress: bool = False,
    callback: Callable[[Record], object] | None = None,
) -> Solution:
    """Go on with a solve that was killed or interrupted, from the file that it wrote with ``checkpoint=``.

    The result is the one that the solve would have come to by itself, bit for bit, on the same machine with the same
    libraries. The file is kept up to date as before.

    Parameters
    ----------
    path : path
        The file. It holds the problem as a pickle, which can run any code when it is read: take files only from those
        whose programs you would run.
    progress, callback
        As in `solve`.

    Returns
    -------
    Solution

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, foreign or of a newer version, or the problem assembles to other matrices here.

    Examples
    --------
    >>> import tempfile
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8, zero="both"), y=sn.BSpline((0, 1), cells=8, zero="both"))
    >>> problem = sn.LeastSquares(V.d.x**2 + V.d.y**2, source=-1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = folder + "/run.h5"
    ...     first = sn.solve(problem, rank=6, checkpoint=path, callback=lambda record: record.sweep == 3)
    ...     second = sn.resume(path)
    >>> first.status.name, second.status.name
    ('INTERRUPTED', 'MESH_LIMITED')
    """
    stored = read_checkpoint(path)
    library = stored.options["xp"]
    given = stored.options | {"xp": require_cupy() if library == "cupy" else import_module(library)}
    options = Options.checked(stored.problem, **given, checkpoint=path, progress=progress, callback=callback)
    with one_blas_thread():
        return _solve_all(stored.problem, [stored.problem], options, stored)[0]


def solve_many(problem: Problem, sources: Sequence[Source | LinearForm], **options: Any) -> list[Solution]:
    """Solve one problem for several right-hand sides, assembling its matrices once.

    Parameters
    ----------
    problem : LeastSquares or Galerkin
        The problem; its own source is not used.
    sources : sequence
        Right-hand sides, each as the problem's ``source``.
    **options
        As in `solve`; one factorisation serves all with ``method="full"``.

    Returns
    -------
    list of Solution

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8, zero="both"))
    >>> problem = sn.Galerkin(sn.inner(V.d.x, V.d.x))
    >>> [round(float(s.u([[0.5]])[0]), 3) for s in sn.solve_many(problem, [1, 2], rank=1)]
    [0.125, 0.25]
    """
    if isinstance(sources, str) or not isinstance(sources, Sequence):
        msg = f"`sources` is {type(sources).__name__}, expected a list of right-hand sides"
        raise TypeError(msg)
    checked = Options.checked(problem, **options)
    if checked.checkpoint is not None:
        msg = "`checkpoint` is given, but a file holds one run: solve the problems one at a time"
        raise ValueError(msg)
    members: list[Any] = [dataclasses.replace(problem, source=s) for s in sources]  # type: ignore[arg-type]
    with one_blas_thread():
        return _solve_all(problem, members, checked)


def _solve_linear(problem: Problem, options: Options) -> Solution:
    return _solve_all(problem, [problem], options)[0]


def _solve_all(
    problem: Problem, problems: Sequence[Problem], options: Options, stored: Stored | None = None
) -> list[Solution]:
    mesh = mesh_axis(problem.space)
    if mesh is not None:
        check_mesh(problem, mesh, options)
    if problem.is_nonlinear:
        return [solve_nonlinear(member, options, _solve_linear) for member in problems]
    lift = make_lift(problem, options.goal / 10)
    check_uniqueness(problem, lift.space)
    if options.method == "full":
        check_size(lift.space)
    solutions = []
    first: Prepared | None = None
    direct: Factorisation | None = None
    for member in problems:
        system = make_system(member, lift, first.system.matrices if first else None)
        matrix = first.matrix if first else SeparableMatrix.from_table(system.matrices)
        load = SeparableVector.from_table(system.loads)
        prepared = Prepared(member, lift, system, matrix, load, options, stored.saved if stored else None)
        if stored is not None and stored.fingerprint != fingerprint(matrix, load):
            msg = (
                "the problem assembles to other matrices than when the run was begun (other versions of the libraries, "
                "or a callable that changed): solve again, with start= from the best function if you have it"
            )
            raise ValueError(msg)
        first = first or prepared
        if load.norm() == 0.0:
            solutions.append(only_lift(prepared))
        elif options.method == "full":
            direct = direct or Factorisation(matrix, symmetric=prepared.symmetric)
            solutions.append(solve_directly(prepared, direct))
        elif mesh is not None and not takes_mesh(prepared):
            solutions.append(solve_on_mesh(prepared))
        else:
            solutions.append(solve_iteratively(prepared))
    return solutions
