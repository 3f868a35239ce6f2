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
from sepnet.solvers.train_als import TrainIteration

__all__ = ["best_axis"]

# A refinement must lower the squared residual by this share to count as the remedy.
USEFUL = 0.02


def best_axis(
    problem: LeastSquares,
    lift: Lift,
    parts: Sequence[np.ndarray],
    residual: float,
    *,
    order: Sequence[int] | None = None,
) -> str | None:
    """Return the axis whose refinement lowers the least-squares functional most, or None if none helps.

    Parameters
    ----------
    problem : LeastSquares
        The problem.
    lift : Lift
        Its lifted data.
    parts : sequence of ndarray
        The solution on the present mesh, on the host: factors (n, R), or with `order` the cores of a train.
    residual : float
        The relative residual reached.
    order : sequence of int, optional
        The order of the axes along the train.

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
        embed = fine.embed(lift.space.axes[name])
        iteration: AlternatingLeastSquares | TrainIteration
        if order is None:
            iteration = AlternatingLeastSquares(matrix, load)
            iteration.start([embed @ f if i == k else f for i, f in enumerate(parts)])
        else:
            iteration = TrainIteration(matrix, load, order=order)
            place = order.index(k)
            iteration.start([np.einsum("mn,anc->amc", embed, c) if i == place else c for i, c in enumerate(parts)])
        energy, work = iteration.step(k)
        gains[name] = residual**2 - (energy - 2 * work + 1.0)
    best = max(gains, key=lambda name: gains[name])
    return best if gains[best] > USEFUL * residual**2 else None
