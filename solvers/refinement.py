"""Which axis to refine: measured by refining each in turn for one ALS step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sepnet.problems import LeastSquares
from sepnet.solvers.als import AlternatingLeastSquares
from sepnet.solvers.lifting import Lift
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.solvers.system import make_system

__all__ = ["best_axis"]

# A refinement must lower the squared residual by this share to count as the remedy.
USEFUL = 0.02


def best_axis(problem: LeastSquares, lift: Lift, factors: Sequence[np.ndarray], residual: float) -> str | None:
    """Return the axis whose refinement lowers the least-squares functional most, or None if none helps.

    Parameters
    ----------
    problem : LeastSquares
        The problem.
    lift : Lift
        Its lifted data.
    factors : sequence of ndarray
        The solution on the present mesh, on the host.
    residual : float
        The relative residual reached.

    Returns
    -------
    str or None
        Every axis is refined in turn (cells halved), and the functional minimised over the factor of that axis alone.
    """
    gains: dict[str, float] = {}
    for k, name in enumerate(lift.space.names):
        fine = lift.space.axes[name].refine()
        space = lift.space.replace(**{name: fine})
        system = make_system(problem, replace(lift, space=space))
        matrix, load = SeparableMatrix.from_table(system.matrices), SeparableVector.from_table(system.loads)
        iteration = AlternatingLeastSquares(matrix, load)
        iteration.start([fine.embed(lift.space.axes[name]) @ f if i == k else f for i, f in enumerate(factors)])
        energy, work = iteration.step(k)
        gains[name] = residual**2 - (energy - 2 * work + 1.0)
    best = max(gains, key=lambda name: gains[name])
    return best if gains[best] > USEFUL * residual**2 else None
