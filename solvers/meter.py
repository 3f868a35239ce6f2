"""Relative residuals of an iteration, as exactly as they can be had."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from math import sqrt
from typing import TypeAlias, final

import numpy as np

from sepnet.backends.arrays import Array, as_namespace, eps, to_host
from sepnet.functions.trains import cp_to_train
from sepnet.problems import Galerkin
from sepnet.separable_norm import MANY_COLUMNS
from sepnet.solvers.dual_norm import DualNorm
from sepnet.solvers.mesh_norm import MeshNorm, mesh_axis
from sepnet.solvers.mesh_residual import MeshResidual
from sepnet.solvers.prepare import Prepared
from sepnet.solvers.run import Iteration, Outcome
from sepnet.solvers.separable import SeparableMatrix
from sepnet.solvers.system import MOST_COLUMNS, residual_norm
from sepnet.solvers.train_als import TrainIteration
from sepnet.solvers.train_norms import TrainDualNorm, train_residual

__all__ = ["DualMeter", "FunctionalMeter", "Meter", "cp_meter", "train_meter"]

# Host float64 parts of an iterate (factors or cores) and the columns that may be spent, to the relative residual
# without cancellation, or None where that would cost too much.
_Exact: TypeAlias = Callable[[list[np.ndarray], int], float | None]
_Double: TypeAlias = Callable[[list[Array]], tuple[float, float]]

DOUBLE = float(np.finfo(np.float64).eps)


class Meter(ABC):
    """Relative residuals after a sweep, never below what round-off lets one see.

    Attributes
    ----------
    unit : float
        The energy norm of the error is about this multiple of the relative residual, in the units of the iteration.
    """

    unit: float = 1.0

    @abstractmethod
    def watch(self, iteration: Iteration) -> None:
        """Measure the iterates of another iteration from now on."""

    @abstractmethod
    def __call__(self, energy: float, work: float) -> float:
        """Return the relative residual after a sweep, from ``a(u, u)`` and ``f(u)``."""

    @abstractmethod
    def final(self, outcome: Outcome) -> float:
        """Return the residual of the best sweep as exactly as it can be had."""


@final
class FunctionalMeter(Meter):
    """What is minimised is the squared residual less a constant, which is one.

    Parameters
    ----------
    iteration : Iteration
        Whose iterates are measured.
    exact : callable
        Measures without cancellation.
    matrix : SeparableMatrix or None
        That of the iteration, for the round-off of the functional where `exact` costs too much; on the host.
    unit_of_round_off : float
        Of the iteration's dtype.
    double : callable, optional
        Takes the parts of an iterate in float32, and returns ``a(u, u)`` and ``f(u)`` in float64, computed where the
        parts are.
    """

    def __init__(
        self,
        iteration: Iteration,
        exact: _Exact,
        matrix: SeparableMatrix | None,
        unit_of_round_off: float,
        double: _Double | None = None,
    ) -> None:
        self._iteration, self._exact, self._matrix, self._eps = iteration, exact, matrix, unit_of_round_off
        self._double = double

    def watch(self, iteration: Iteration) -> None:
        """Measure the iterates of another iteration from now on."""
        self._iteration = iteration

    def __call__(self, energy: float, work: float) -> float:
        """Return the relative residual after a sweep, from ``a(u, u)`` and ``f(u)``."""
        square, floor = _squares(energy, work, self._eps)
        if square < 100 * floor and self._double is not None:
            # From 3 % on float32 sees nothing: the same sums in float64, still on the device, see down to 1e-6.
            square, floor = _squares(*self._double(self._iteration.balanced()), DOUBLE)
        if square < 100 * floor:
            exact = self._exact(_hosts(self._iteration.balanced()), MANY_COLUMNS)
            if exact is not None:
                return exact
        return sqrt(max(square, floor))

    def final(self, outcome: Outcome) -> float:
        """Return the residual of the best sweep.

        By orthogonalised columns where they are few; else with the round-off of the functional, which is that of
        ``|C|' |A| |C|`` and can be large where the operator is ill-conditioned.
        """
        parts = _hosts(outcome.factors)
        exact = self._exact(parts, MOST_COLUMNS)
        if exact is not None or self._matrix is None:
            return outcome.residual if exact is None else exact
        noise = 4 * self._eps * self._matrix.magnitude(parts, parts)
        return sqrt(outcome.residual**2 + noise) if noise > 1e-3 * outcome.residual**2 else outcome.residual


def _squares(energy: float, work: float, unit_of_round_off: float) -> tuple[float, float]:
    """Return the squared residual, and its round-off."""
    return energy - 2 * work + 1.0, 16 * unit_of_round_off * (abs(energy) + 2 * abs(work) + 1.0)


@final
class DualMeter(Meter):
    """What is minimised is an energy: the residual is measured in the dual norm after every sweep.

    Parameters
    ----------
    iteration : Iteration
        Whose iterates are measured.
    measure : callable
        Parts to the relative residual.
    unit : float
        Dual norm of the load.
    """

    def __init__(self, iteration: Iteration, measure: Callable[[list[Array]], float], unit: float) -> None:
        self._iteration, self._measure, self.unit = iteration, measure, unit

    def watch(self, iteration: Iteration) -> None:
        """Measure the iterates of another iteration from now on."""
        self._iteration = iteration

    def __call__(self, energy: float, work: float) -> float:
        """Return the relative residual after a sweep."""
        return self._measure(self._iteration.balanced())

    def final(self, outcome: Outcome) -> float:
        """Return the residual of the best sweep."""
        return outcome.residual


def cp_meter(prepared: Prepared, iteration: Iteration) -> Meter:
    """Return the meter of an iteration on CP factors."""
    options, system = prepared.options, prepared.system
    round_off = eps(options.dtype, options.xp)
    if mesh_axis(prepared.space) is not None:
        measure, unit = _on_mesh(prepared, 16 * round_off)
        return DualMeter(iteration, measure, unit)
    if prepared.riesz is None:

        def exact(factors: list[np.ndarray], most: int) -> float | None:
            scaled = [factors[0] * system.scale, *factors[1:]]
            norm = residual_norm(system, prepared.lift.function, scaled, most=most)
            return None if norm is None else norm / system.scale

        return FunctionalMeter(iteration, exact, prepared.matrix, round_off, _double(prepared))
    if prepared.normal is None:
        dual = DualNorm(prepared.riesz, prepared.matrix, prepared.load, options.xp, options.device, options.dtype)
        return DualMeter(iteration, lambda factors: max(dual.measure(factors)) / dual.reference, dual.reference)
    return FunctionalMeter(iteration, _dual_of_normal(prepared), prepared.normal.matrix, round_off, _double(prepared))


def _double(prepared: Prepared, order: Sequence[int] | None = None) -> _Double | None:
    """Return what evaluates the functional in float64 where the iterates are, if these are in float32.

    Parameters
    ----------
    order : sequence of int, optional
        The order of the axes, for the cores of a train; factors by default.
    """
    options = prepared.options
    xp = options.xp
    if options.dtype == xp.float64:
        return None
    home = (xp, options.device, xp.float64)
    host_matrix, host_load, _ = prepared.minimised
    matrix, load = host_matrix.to(*home), host_load.to(*home)
    train = None if order is None else TrainIteration(matrix, load, order=order)

    def double(parts: list[Array]) -> tuple[float, float]:
        wide = [xp.astype(p, xp.float64) for p in parts]
        if train is None:
            return matrix.energy(wide), load.inner(wide)
        train.start(wide)
        return train.present()

    return double


def _on_mesh(prepared: Prepared, floor: float) -> tuple[Callable[[list[Array]], float], float]:
    """Return the measure of a symmetric problem with a mesh axis, and the dual norm of its load."""
    axis = mesh_axis(prepared.space)
    assert axis is not None
    assert isinstance(prepared.problem, Galerkin)
    norm = MeshNorm.from_form(prepared.problem.bilinear.on(prepared.space), axis)
    residual = MeshResidual(prepared.system, axis, norm)
    order = range(prepared.space.dim)
    reference = residual.modes(residual.span([]), None, order).norm

    def measure(factors: list[Array]) -> float:
        hosts = _hosts(factors)
        span = residual.span(residual.images(hosts[axis]))
        hosts[axis] = np.eye(hosts[axis].shape[1])
        return max(residual.modes(span, cp_to_train(hosts), order).norm / reference, floor)

    return measure, reference


def _dual_of_normal(prepared: Prepared) -> _Exact:
    assert prepared.riesz is not None
    assert prepared.normal is not None
    reference = prepared.normal.reference
    dual = DualNorm(prepared.riesz, prepared.matrix, prepared.load, as_namespace(None), None, np.float64)

    def exact(factors: list[np.ndarray], most: int) -> float | None:
        return max(dual.measure([factors[0] * reference, *factors[1:]])) / dual.reference

    return exact


def train_meter(prepared: Prepared, iteration: Iteration, order: Sequence[int]) -> Meter:
    """Return the meter of an iteration on the cores of a train."""
    options, system = prepared.options, prepared.system
    round_off = eps(options.dtype, options.xp)
    if prepared.riesz is None:

        def exact(cores: list[np.ndarray], most: int) -> float | None:
            scaled = [cores[0] * system.scale, *cores[1:]]
            return train_residual(system, prepared.lift.function, scaled, order) / system.scale

        return FunctionalMeter(iteration, exact, None, round_off, _double(prepared, order))
    normal, forms = prepared.normal, (prepared.riesz, prepared.matrix, prepared.load)
    if normal is None:
        dual = TrainDualNorm(*forms, order, options.xp, options.device)
        return DualMeter(iteration, lambda cores: max(dual.measure(cores), 4 * round_off), dual.reference)
    host = TrainDualNorm(*forms, order)
    return FunctionalMeter(
        iteration,
        lambda cores, most: max(host.measure([cores[0] * normal.reference, *cores[1:]]), 4 * round_off),
        None,
        round_off,
        _double(prepared, order),
    )


def _hosts(parts: Sequence[Array]) -> list[np.ndarray]:
    return [to_host(p).astype(np.float64) for p in parts]
