"""The options of `solve`, checked."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, final

import numpy as np

from sepnet.backends.arrays import (
    Namespace,
    as_device,
    as_dtype,
    as_namespace,
    float_name,
    is_cupy,
    is_numpy,
    is_torch,
    library_name,
    to_host,
)
from sepnet.functions import CP, TensorTrain, Tucker
from sepnet.functions.base import SeparableFunction
from sepnet.functions.storage import checked_path
from sepnet.problems import Galerkin, LeastSquares, Problem
from sepnet.solvers.record import Record
from sepnet.solvers.result import Solution
from sepnet.spaces import TensorSpace

__all__ = ["DEFAULT_RANK", "DEFAULT_TOL", "FORMATS", "METHODS", "PRODUCT_METHODS", "Options"]

DEFAULT_TOL = 1e-2
DEFAULT_RANK = 128
METHODS = ("auto", "als", "gauss-newton", "pgd", "pgd-update", "full")
PRODUCT_METHODS = ("gauss-newton", "pgd", "pgd-update")
FORMATS = ("cp", "tt", "auto")


@final
@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    rank: int | None
    tol: float | None
    method: str
    format: str
    order: tuple[str, ...] | None
    start: SeparableFunction | None
    checkpoint: str | os.PathLike[str] | None
    checkpoint_every: float
    xp: Namespace
    device: Any
    dtype: Any
    seed: int
    progress: bool
    callback: Callable[[Record], object] | None

    @classmethod
    def checked(cls, problem: Problem, **given: Any) -> Options:
        """Check what the user gave; absent options take their defaults."""
        if not isinstance(problem, LeastSquares | Galerkin):
            msg = f"`problem` is {type(problem).__name__}, expected sn.LeastSquares(...) or sn.Galerkin(...)"
            raise TypeError(msg)
        defaults: dict[str, Any] = {f.name: None for f in dataclasses.fields(cls)}
        defaults |= {"method": "auto", "format": "cp", "checkpoint_every": 5.0, "seed": 0, "progress": False}
        unknown = sorted(set(given) - set(defaults))
        if unknown:
            msg = f"unknown option {unknown[0]!r}, expected one of {', '.join(defaults)}"
            raise TypeError(msg)
        options: dict[str, Any] = defaults | given
        rank, tol, callback = options["rank"], options["tol"], options["callback"]
        if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int | np.integer) or rank < 1):
            msg = f"`rank` is {rank!r}, expected an integer >= 1"
            raise ValueError(msg)
        if tol is not None and (isinstance(tol, bool) or not isinstance(tol, Real) or not 0 < float(tol) <= 1):
            msg = f"`tol` is {tol!r}, expected a positive number up to 1: it is relative to what the lifted data leave"
            raise ValueError(msg)
        if options["method"] not in METHODS:
            msg = f"`method` is {options['method']!r}, expected one of {', '.join(map(repr, METHODS))}"
            raise ValueError(msg)
        if options["format"] not in FORMATS:
            msg = f"`format` is {options['format']!r}, expected one of {', '.join(map(repr, FORMATS))}"
            raise ValueError(msg)
        if options["format"] == "tt" and options["method"] in PRODUCT_METHODS:
            msg = (
                f"`method` is {options['method']!r}, which works on sums of products: use format='cp', or method='als'"
            )
            raise ValueError(msg)
        options["order"] = _order(problem, options)
        options["start"] = _start(problem, options["start"])
        _check_checkpoint(options)
        if callback is not None and not callable(callback):
            msg = f"`callback` is {type(callback).__name__}, expected a callable of one record"
            raise TypeError(msg)
        seed = options["seed"]
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            msg = f"`seed` is {seed!r}, expected an integer >= 0"
            raise ValueError(msg)
        xp = as_namespace(options["xp"])
        home = {"xp": xp, "device": as_device(options["device"], xp), "dtype": as_dtype(options["dtype"], xp)}
        return cls(**(options | home))

    def stored(self) -> dict[str, Any]:
        """Return the options as plain values, without what belongs to a process: `checked` takes them back."""
        kept = ("rank", "tol", "method", "format", "order", "start", "checkpoint_every", "seed")
        values = {name: getattr(self, name) for name in kept}
        return values | {
            "xp": library_name(self.xp),
            "device": self._stored_device,
            "dtype": float_name(self.dtype),
        }

    @property
    def _stored_device(self) -> Any:
        """The device as its library takes it back: of CuPy the number, the text is none that it knows."""
        if is_cupy(self.xp):
            return int(self.device)
        return str(self.device) if is_torch(self.xp) or is_numpy(self.xp) else self.device

    @property
    def goal(self) -> float:
        """The relative residual at which a solve counts as converged."""
        return DEFAULT_TOL if self.tol is None else self.tol

    def axis_order(self, space: TensorSpace) -> list[int]:
        """Return the order of the axes along a train as numbers; that of the space if none was given."""
        return list(range(space.dim)) if self.order is None else [space.names.index(n) for n in self.order]


def _start(problem: Problem, start: object) -> SeparableFunction | None:
    function = start.u if isinstance(start, Solution) else start
    if function is None:
        return None
    if isinstance(function, Tucker):
        function = function.to_train()
    if not isinstance(function, CP | TensorTrain):
        msg = f"`start` is {type(start).__name__}, expected a solution or a function such as solution.u"
        raise TypeError(msg)
    axes, given = problem.space, function.space
    if given.names != axes.names or any(a.domain != b.domain for a, b in zip(given.bases, axes.bases, strict=True)):
        msg = f"`start` lives on {given!r}, expected a function on the box of the problem, {axes!r}; any mesh will do"
        raise ValueError(msg)
    if not all(np.isfinite(to_host(a)).all() for a in function.arrays):
        msg = "`start` has coefficients that are not finite, expected a sound function: check where it comes from"
        raise ValueError(msg)
    return function


def _check_checkpoint(options: dict[str, Any]) -> None:
    every, path = options["checkpoint_every"], options["checkpoint"]
    if isinstance(every, bool) or not isinstance(every, Real) or not 0 <= float(every) < float("inf"):
        msg = f"`checkpoint_every` is {every!r}, expected a number of seconds >= 0"
        raise ValueError(msg)
    if path is None:
        return
    if options["method"] == "full":
        msg = "`checkpoint` is given, but method='full' has no sweeps to go on from: leave it out"
        raise ValueError(msg)
    target = checked_path(path)
    if target.is_dir() or not target.resolve().parent.is_dir():
        msg = f"`checkpoint` is {str(path)!r}, expected a file in a folder that exists, e.g. 'run.h5'"
        raise ValueError(msg)


def _order(problem: Problem, options: dict[str, Any]) -> tuple[str, ...] | None:
    order = options["order"]
    if order is None:
        return None
    names = problem.space.names
    if options["format"] != "tt":
        msg = "`order` is given, but only trains have an order: use format='tt'"
        raise ValueError(msg)
    sequence = isinstance(order, Sequence) and not isinstance(order, str)
    if not sequence or not all(isinstance(n, str) for n in order) or sorted(order) != sorted(names):
        msg = f"`order` is {order!r}, expected each of the axes {', '.join(names)} once"
        raise ValueError(msg)
    return tuple(order)
