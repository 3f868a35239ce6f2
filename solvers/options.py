"""The options of `solve`, checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, final

import numpy as np

from sepnet.backends.arrays import Namespace, as_device, as_dtype, as_namespace
from sepnet.problems import Galerkin, LeastSquares, Problem
from sepnet.solvers.result import Record

__all__ = ["DEFAULT_RANK", "DEFAULT_TOL", "METHODS", "Options"]

DEFAULT_TOL = 1e-2
DEFAULT_RANK = 128
METHODS = ("als", "full")


@final
@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    rank: int | None
    tol: float | None
    method: str
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
        defaults |= {"method": "als", "seed": 0, "progress": False}
        unknown = sorted(set(given) - set(defaults))
        if unknown:
            msg = f"unknown option {unknown[0]!r}, expected one of {', '.join(defaults)}"
            raise TypeError(msg)
        options: dict[str, Any] = defaults | given
        rank, tol, callback = options["rank"], options["tol"], options["callback"]
        if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int | np.integer) or rank < 1):
            msg = f"`rank` is {rank!r}, expected an integer >= 1"
            raise ValueError(msg)
        if tol is not None and (
            isinstance(tol, bool) or not isinstance(tol, Real) or not 0 < float(tol) < float("inf")
        ):
            msg = f"`tol` is {tol!r}, expected a positive number"
            raise ValueError(msg)
        if options["method"] not in METHODS:
            msg = f"`method` is {options['method']!r}, expected one of {', '.join(map(repr, METHODS))}"
            raise ValueError(msg)
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

    @property
    def goal(self) -> float:
        """The relative residual at which a solve counts as converged."""
        return DEFAULT_TOL if self.tol is None else self.tol
