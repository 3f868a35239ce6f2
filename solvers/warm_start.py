"""Starts from a function: the solution of a coarser or a similar problem."""

from __future__ import annotations

import numpy as np

from sepnet.functions import CP, TensorTrain
from sepnet.functions.base import SeparableFunction
from sepnet.solvers.prepare import Prepared

__all__ = ["warm_start"]


def warm_start(prepared: Prepared, function: SeparableFunction, unit: float) -> CP | TensorTrain:
    """Return the unknown that belongs to a function: less the lift, projected into the space, over the unit (host).

    Parameters
    ----------
    prepared : Prepared
        What is solved.
    function : CP or TensorTrain
        On the same box.
    unit : float
        What the unknown is multiplied with.
    """
    u = function.to(np, dtype="float64")
    if prepared.lift.function is not None:
        u = u - prepared.lift.function
    projected = u.project(prepared.space).function / unit
    assert isinstance(projected, CP | TensorTrain)
    return projected
