"""Newton's method in a low-rank format: every step is a linear problem with coefficients from the last iterate.

The correction w solves ``R'(u) w = f - R(u)`` by the linear low-rank solvers, to a share of the residual only, with the
coefficients of ``R'(u)`` rounded to a share too (inexact Newton: Dembo, Eisenstat and Steihaug, SIAM J. Numer. Anal.
19, 1982): the steps converge linearly, a decade or so each, and all ranks but that of u stay small.
"""

from __future__ import annotations

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import reduce
from math import hypot, inf, sqrt
from typing import TypeAlias, final

import numpy as np

from sepnet.coefficients import Coefficient, as_coefficient
from sepnet.forms import BilinearForm, as_linear_form, inner
from sepnet.functions import CP, TensorTrain
from sepnet.functions.axis_maps import mass
from sepnet.functions.trains import add_trains, round_train, train_norm, train_size
from sepnet.nonlinear import NonlinearOperator
from sepnet.nonlinear_forms import NonlinearForm
from sepnet.operators import Operator
from sepnet.problems import Galerkin, LeastSquares, Problem
from sepnet.solvers.kronecker_sum import KroneckerSum
from sepnet.solvers.lifting import Lift
from sepnet.solvers.nonlinear_newton import DIVERGED, TOO_SHORT, NewtonIterate, NoStepError, run_newton
from sepnet.solvers.nonlinear_system import breaks_of, split_term
from sepnet.solvers.nonlinear_trains import ValueTrains
from sepnet.solvers.options import DEFAULT_RANK, Options
from sepnet.solvers.record import Status
from sepnet.solvers.report import with_data
from sepnet.solvers.result import Solution
from sepnet.spaces import TensorSpace

__all__ = ["solve_by_low_rank"]

Function: TypeAlias = CP | TensorTrain
Solver: TypeAlias = Callable[[Problem, Options], Solution]

# Relative residual of the linear problems, and the relative L2 error of the coefficients of their operators.
FORCING, SKETCH = 0.1, 1e-2
# Products of derivatives in the residual are rounded at this share of the tolerance.
SHARE = 1e-2
# What rounding the iterate may add to its residual.
LOSS = 1.02
# A step after which a cut to the rank allowed leaves more than this share of the residual is the last one.
WORTH = 0.7
# A correction that leaves this much of the residual is none: the discrete solution is found.
NOTHING_LEFT = 0.9
ACCURACY = 1e-2
EPS = float(np.finfo(np.float64).eps)


class _Equation(ABC):
    """What is solved: residuals of functions, and the linear problems for corrections."""

    def __init__(self, space: TensorSpace) -> None:
        self.space = space

    @abstractmethod
    def residual(self, u: Function) -> tuple[float, float]:
        """Return the norm of the residual, and the part of it that may be round-off."""

    @abstractmethod
    def correction(self, u: Function) -> Problem:
        """Return the linear problem for the Newton step."""


@final
class _Equations(_Equation):
    """Residuals of least squares."""

    def __init__(self, problem: LeastSquares, lift: Lift, tol: float) -> None:
        super().__init__(lift.space)
        self._blocks = []
        for operator, source, name in problem.blocks:
            expression = problem.space.unknown.under(operator) if isinstance(operator, Operator) else operator
            data = as_coefficient(source, name)
            trains = ValueTrains(lift.space, expression, data, [], breaks_of(lift.function), tol)
            self._blocks.append((expression, trains))

    def residual(self, u: Function) -> tuple[float, float]:
        """Return the norm of the residual, and the part of it that may be round-off."""
        v = _train(u)
        found = [trains.norm(trains.weighted(v)) for _, trains in self._blocks]
        return hypot(*(norm for norm, _ in found)), hypot(*(floor for _, floor in found))

    def correction(self, u: Function) -> Problem:
        """Return the linear problem for the Newton step."""
        v, sketch = _train(u), _sketch(u)
        blocks = []
        for expression, trains in self._blocks:
            data = -trains.data(trains.weighted(v), v.order, SKETCH)
            blocks.append((expression.linearised(sketch, tol=SKETCH).on(self.space), data))
        return LeastSquares(*blocks[0], conditions=blocks[1:])


@final
class _WeakEquation(_Equation):
    """The residual of Galerkin's method, in the dual norm of the linear part of the form."""

    def __init__(self, problem: Galerkin, lift: Lift, tol: float) -> None:
        super().__init__(lift.space)
        space = lift.space
        assert isinstance(problem.form, NonlinearForm)
        self._form = problem.form.parts
        zero = NonlinearOperator(space, {})
        parts = [(expression, Coefficient(), test) for expression, test in self._form]
        for data, test in as_linear_form(problem.source, problem.space, "source").parts:
            parts.append((zero.at(**test.face) if test.face else zero, data, test))
        self._parts = []
        for expression, data, test in parts:
            tests = [split_term(term) for term in test.terms]
            trains = ValueTrains(space, expression, data, [c for _, c in tests], breaks_of(lift.function), tol)
            self._parts.append((trains, tests))
        linear = [inner(e.linear.on(space), test.on(space)) for e, test in self._form if e.linear.terms]
        mass_form = inner(space.identity, space.identity)
        self._riesz = KroneckerSum.from_form(reduce(lambda a, b: a + b, linear) if linear else mass_form)
        self._exponentials = self._riesz.exponentials(ACCURACY)

    def _residual(self, v: TensorTrain) -> list[np.ndarray]:
        """Return the train of the residual's values on all basis functions, its axes in the order of v."""
        found = []
        for trains, tests in self._parts:
            values = trains.weighted(v)
            found += [trains.tested(values, v.order, jet, c) for jet, c in tests]
        return reduce(add_trains, found)

    def residual(self, u: Function) -> tuple[float, float]:
        """Return the dual norm of the residual, and the part of it that may be round-off."""
        v = _train(u)
        places = [self.space.names.index(name) for name in v.order]
        cores = [
            np.einsum("nk,anb->akb", self._riesz.vectors[k], core)
            for k, core in zip(places, self._residual(v), strict=True)
        ]
        size = EPS * train_size(cores)
        cores, _ = round_train(cores, tol=size)
        square = noise = 0.0
        for weight, t in zip(*self._exponentials, strict=True):
            damping = [np.exp(-t * self._riesz.values[k] / 2) for k in places]
            damped = [core * d[None, :, None] for core, d in zip(cores, damping, strict=True)]
            share = float(weight * np.exp(-self._riesz.low * t))
            square += share * train_norm(damped) ** 2
            noise += share * size**2
        return sqrt(square), sqrt(noise)

    def correction(self, u: Function) -> Problem:
        """Return the linear problem for the Newton step."""
        v, sketch = _train(u), _sketch(u)
        form = BilinearForm(self.space)
        for expression, test in self._form:
            operator = expression.linearised(sketch, tol=SKETCH)
            if operator.terms:
                form = form + inner(operator.on(self.space), test.on(self.space))
        # The function of the space whose inner products with the basis functions are the residual.
        cores = [
            np.linalg.solve(mass(self.space.axes[name]), core.transpose(1, 0, 2).reshape(core.shape[1], -1))
            .reshape(core.shape[1], core.shape[0], -1)
            .transpose(1, 0, 2)
            for name, core in zip(v.order, self._residual(v), strict=True)
        ]
        data = TensorTrain(self.space, cores, v.order).compress(SKETCH**2)
        return Galerkin(form, source=-data.as_coefficient())


def _train(u: Function) -> TensorTrain:
    return TensorTrain.from_cp(u).compress(EPS) if isinstance(u, CP) else u


def _sketch(u: Function) -> Function:
    """Return what the coefficients of the linearised operator are made of."""
    short = _train(u).compress(SKETCH)
    return short if u.space.dim > 2 else _function(short.to_cp(SKETCH).function)


@final
class _LowRankIterate(NewtonIterate):
    """A function in a low-rank format: the lifted data, which stay as they are, and the unknown v, which is rounded."""

    def __init__(
        self, equation: _Equation, lifted: Function | None, v: Function, options: Options, solve_linear: Solver
    ) -> None:
        self.equation, self.lifted, self.v, self.options, self._solve = equation, lifted, v, options, solve_linear
        # A start may leave the range of numbers.
        with np.errstate(over="ignore", invalid="ignore"):
            self._residual, self._floor = equation.residual(self.with_data(v))
        self._step = v
        self._order = options.order
        self.most = (options.rank or DEFAULT_RANK) - (0 if lifted is None else lifted.rank)
        self.limited = False

    def with_data(self, v: Function) -> Function:
        """Return the whole function."""
        return v if self.lifted is None else _function(self.lifted + v)

    @property
    def residual(self) -> float:
        """Norm of the nonlinear residual."""
        return self._residual

    @property
    def rank(self) -> int:
        """Rank of the function, lifted data included."""
        return self.with_data(self.v).rank

    @property
    def floor(self) -> float:
        """The residual that round-off leaves."""
        return self._floor

    def step(self) -> float:
        """Compute the next step, and the square of the residual that it promises to take away."""
        options = dataclasses.replace(
            self.options,
            tol=FORCING,
            rank=None,
            method="als",
            format="tt" if isinstance(self.v, TensorTrain) else "cp",
            order=self._order,
            start=None,
            progress=False,
            callback=None,
        )
        try:
            solution = self._solve(self.equation.correction(self.with_data(self.v)), options)
        except ValueError as error:
            msg = f"the linearised problem cannot be solved ({error}). {DIVERGED}"
            raise NoStepError(msg) from error
        self._step = _function(solution.u.to(np, dtype="float64"))
        if isinstance(self._step, TensorTrain):
            # The order is chosen by trial once, not in every step.
            self._order = self._step.order
        left = min(solution.residual, 1.0)
        return (1.0 - left**2) * self._residual**2 if left < NOTHING_LEFT else 0.0

    def measure(self, share: float) -> float:
        """Return the residual after this share of the step."""
        return self.equation.residual(self.with_data(_function(self.v + share * self._step)))[0]

    def go(self, share: float, residual: float) -> None:
        """Take this share of the step, and round."""
        moved, size = _function(self.v + share * self._step), self._step.norm() * share
        tol = FORCING * size / (moved.norm() or size or 1.0)
        while tol > EPS and moved.rank > 1:
            rounded = _function(moved.compress(tol))
            measured, floor = self.equation.residual(self.with_data(rounded))
            if measured <= LOSS * residual:
                moved, residual, self._floor = rounded, measured, floor
                break
            tol /= 10
        self.limited = moved.rank > self.most
        if self.limited:
            moved = _function(moved.compress(rank=max(self.most, 1)))
            residual, self._floor = self.equation.residual(self.with_data(moved))
            self.exhausted = residual > WORTH * self._residual
        if residual < self._residual:
            self.v, self._residual = moved, residual


def _function(value: object) -> Function:
    assert isinstance(value, CP | TensorTrain)
    return value


def _as_products(iterate: _LowRankIterate, lift: Lift, goal: float, reference: float) -> CP:
    """Return the solution as a sum of products, as close to the iterate as its residual needs."""
    zero = CP(lift.space, [np.zeros((n, 1)) for n in lift.space.shape])
    v, lifted = iterate.v, lift.function
    best: tuple[float, CP] = (inf, lifted or zero)
    tol = goal
    while v.norm() > 0.0 and tol > EPS:
        products = v if isinstance(v, CP) else v.to_cp(tol, rank=max(iterate.most, 1)).function
        whole = products if lifted is None else lifted + products
        residual = iterate.equation.residual(whole)[0]
        if residual >= best[0]:
            break
        best, tol = (residual, whole), tol / 10
        if isinstance(v, CP) or residual <= max(goal * reference, LOSS * iterate.residual):
            break
    return best[1]


def solve_by_low_rank(problem: Problem, lift: Lift, options: Options, solve_linear: Solver) -> Solution:
    """Solve a nonlinear problem in a low-rank format; see `sepnet.solvers.nonlinear.solve_nonlinear`."""
    began = time.perf_counter()
    tol = SHARE * options.goal
    equation: _Equation = (
        _Equations(problem, lift, tol) if isinstance(problem, LeastSquares) else _WeakEquation(problem, lift, tol)
    )
    # Trains from three axes on, whatever the result shall be: what is rounded in every step has no swamps there.
    train = options.format == "tt" or lift.space.dim > 2
    lifted: Function | None = lift.function
    if lift.function is not None and train:
        lifted = TensorTrain.from_cp(lift.function).compress(EPS)
    zero = CP(lift.space, [np.zeros((n, 1)) for n in lift.space.shape])
    v: Function = TensorTrain.from_cp(zero) if train else zero
    iterate = _LowRankIterate(equation, lifted, v, options, solve_linear)
    reference = iterate.residual
    if options.start is not None:
        start = options.start.to(np, dtype="float64")
        start = start if lifted is None else start - lifted
        v = _function(start.project(lift.space).function)
        iterate = _LowRankIterate(equation, lifted, v, options, solve_linear)
    if reference <= iterate.floor:
        reference = iterate.residual or 1.0
    outcome = run_newton(
        iterate,
        reference=reference,
        goal=options.goal,
        early=True,
        progress=options.progress,
        callback=options.callback,
    )
    whole = iterate.with_data(iterate.v)
    u = _as_products(iterate, lift, options.goal, reference) if options.format == "cp" else whole
    there = _function(u.to(options.xp, device=options.device, dtype=options.dtype))
    residual = equation.residual(_function(there.to(np, dtype="float64")))[0] / reference
    status, message = outcome.status, outcome.message
    limited = iterate.limited or (options.rank is not None and there.rank >= options.rank)
    if limited and status in (Status.CONVERGED, Status.FAILED, Status.STAGNATED) and residual > options.goal:
        status, message = Status.RANK_LIMITED, ""
    if status is Status.CONVERGED and residual > options.goal:
        status, message = Status.STAGNATED, "no correction lowers the residual: refine the mesh, or raise rank="
        if options.dtype != np.float64 and iterate.residual <= options.goal * reference:
            message = TOO_SHORT.format(options.dtype)
    solution = Solution(
        u=there,
        residual=residual,
        residual_norm=residual * reference,
        status=status,
        history=outcome.history,
        data_error=lift.data_error,
        seconds=time.perf_counter() - began,
        message=message,
        problem=problem,
        lift=lift,
    )
    return with_data(solution, lift, options.goal)
