"""Relative residuals of an iteration, as exactly as they can be had."""

from __future__ import annotations

from math import sqrt
from typing import final

import numpy as np

from sepnet.backends.arrays import eps, to_host
from sepnet.problems import Galerkin, Problem
from sepnet.separable_norm import MANY_COLUMNS
from sepnet.solvers.als import AlternatingLeastSquares
from sepnet.solvers.continuation import Outcome
from sepnet.solvers.dual_norm import DualNorm
from sepnet.solvers.lifting import Lift
from sepnet.solvers.options import Options
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.solvers.system import System, residual_norm

__all__ = ["Meter"]


@final
class Meter:
    """Relative residuals after a sweep, never below what round-off lets one see."""

    def __init__(
        self,
        problem: Problem,
        system: System,
        matrix: SeparableMatrix,
        load: SeparableVector,
        lift: Lift,
        iteration: AlternatingLeastSquares,
        options: Options,
    ) -> None:
        self.system, self.matrix, self.lift, self.iteration = system, matrix, lift, iteration
        self.eps = eps(options.dtype, options.xp)
        self.dual: DualNorm | None = None
        # The unknown of the iteration is v / system.scale; Galerkin residuals have the dual norm of the load beside it.
        self.unit = 1.0
        if isinstance(problem, Galerkin):
            form = problem.form.on(system.space)
            self.dual = DualNorm(form, matrix, load, options.xp, options.device, options.dtype)
            self.unit = self.dual.reference

    def __call__(self, energy: float, work: float) -> float:
        """Return the relative residual after a sweep, from ``a(u, u)`` and ``f(u)``."""
        if self.dual is not None:
            value, floor = self.dual.measure(self.iteration.balanced())
            return max(value, floor) / self.unit
        square = energy - 2 * work + 1.0
        floor = 16 * self.eps * (abs(energy) + 2 * abs(work) + 1.0)
        if square < 100 * floor:
            factors = [to_host(f).astype(np.float64) for f in self.iteration.balanced()]
            factors[0] *= self.system.scale
            exact = residual_norm(self.system, self.lift.function, factors, most=MANY_COLUMNS)
            if exact is not None:
                return exact / self.system.scale
        return sqrt(max(square, floor))

    def final(self, outcome: Outcome) -> float:
        """Return the residual of the best sweep as exactly as it can be had.

        Least squares: by orthogonalised columns where they are few; else with the round-off of the functional, which
        is that of ``|C|' |A| |C|`` and can be large where the operator is ill-conditioned.
        """
        if self.dual is not None:
            return outcome.residual
        factors = [to_host(f).astype(np.float64) for f in outcome.factors]
        scaled = [factors[0] * self.system.scale, *factors[1:]]
        exact = residual_norm(self.system, self.lift.function, scaled)
        if exact is not None:
            return exact / self.system.scale
        noise = 4 * self.eps * self.matrix.magnitude(factors, factors)
        return sqrt(outcome.residual**2 + noise) if noise > 1e-3 * outcome.residual**2 else outcome.residual
