"""Levenberg-Marquardt steps in all factors at once, with the hand-derived Jacobian of a sum of products.

The row of a sample holds ``B_im(x_i) prod_{j != i} f_jr(x_j)``; its products are added up by `normal_blocks` in one
pass, which also gives the loss of the point it is taken at: a step that is accepted has its equations already.
Marquardt's damping, a multiple of the diagonal (SIAM J. Appl. Math. 11, 1963), does not see the scaling of columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from sepnet.backends.arrays import namespace
from sepnet.solvers.fit_algebra import cholesky, plus_diagonal
from sepnet.solvers.fit_columns import Columns, Factors
from sepnet.solvers.fit_loss import Loss
from sepnet.solvers.fit_penalty import Penalty, PenaltyTerms
from sepnet.solvers.fit_samples import Normal, Samples, normal

__all__ = ["LMState", "levenberg_marquardt"]

TRIALS = 8


@final
@dataclass(frozen=True)
class LMState:
    """Where a Levenberg-Marquardt iteration stands.

    Parameters
    ----------
    factors : list of arrays
    data : Normal
        The data's share of the normal equations there.
    penalty : PenaltyTerms
    damping : float
    steps : int
    settled : bool
        The objective fell by less than the tolerance, or could not fall at all.
    """

    factors: Factors
    data: Normal
    penalty: PenaltyTerms
    damping: float
    steps: int
    settled: bool

    @property
    def objective(self) -> float:
        """Mean loss and penalty."""
        return self.data.loss + self.penalty.value


def levenberg_marquardt(
    samples: Samples,
    columns: Columns,
    factors: Factors,
    loss: Loss,
    penalty: Penalty,
    *,
    steps: int,
    tol: float,
    damping: float = 1e-3,
    after: Callable[[LMState], None] | None = None,
) -> LMState:
    """Take damped Gauss-Newton steps until the objective falls by less than a share `tol` of itself.

    All of it happens where the factors live; of the samples' size nothing ever leaves the place of the samples. A step
    reads some single numbers.

    Parameters
    ----------
    samples, columns, factors, loss, penalty
        The problem and where to start.
    steps : int
        Most steps taken.
    tol : float
        Relative fall of the objective that ends the iteration.
    damping : float, optional
        Multiple of the diagonal at the start.
    after : callable, optional
        Called with the state after each step.

    Returns
    -------
    LMState
    """
    factors = columns.balanced(factors)
    data = normal(samples, columns, factors, loss)
    state = LMState(factors, data, penalty.terms(columns, factors), damping, 0, False)
    while state.steps < steps and not state.settled:
        state = _step(samples, columns, loss, penalty, state, tol)
        if after is not None:
            after(state)
    return state


def _step(samples: Samples, columns: Columns, loss: Loss, penalty: Penalty, state: LMState, tol: float) -> LMState:
    matrix = state.data.matrix + state.penalty.matrix
    vector = state.data.vector + state.penalty.vector
    xp = namespace(matrix)
    diagonal = xp.linalg.diagonal(matrix)
    least = float(np.finfo(np.float64).eps) * max(float(xp.max(diagonal)), np.finfo(float).tiny)
    diagonal = xp.maximum(diagonal, xp.full_like(diagonal, least))
    damping, growth = state.damping, 4.0
    here = columns.join(state.factors)
    for _ in range(TRIALS):
        factor = cholesky(plus_diagonal(matrix, damping * diagonal))
        if factor is None:
            damping *= 10.0
            continue
        step = factor.solve(vector)
        factors = columns.balanced(columns.split(here + step))
        data, terms = normal(samples, columns, factors, loss), penalty.terms(columns, factors)
        fall = state.objective - data.loss - terms.value
        promised = float(2.0 * (step @ vector) - step @ (matrix @ step))
        if np.isfinite(fall) and fall > 0.0:
            ratio = fall / max(promised, np.finfo(float).tiny)
            damping *= 0.1 if ratio > 0.9 else 0.3 if ratio > 0.7 else 1.0 if ratio > 0.3 else 3.0
            settled = fall < tol * state.objective
            return LMState(factors, data, terms, damping, state.steps + 1, settled)
        if 0.0 <= promised <= 4.0 * np.finfo(float).eps * state.objective:
            break
        damping, growth = damping * growth, 2.0 * growth
    return LMState(state.factors, state.data, state.penalty, damping, state.steps + 1, True)
