"""How a fit finds its shape: columns are added where they pay, on the axes that they need, and knots where they pay.

A new group of columns is fitted to what is left over on all axes. An axis whose factor could as well be a constant, by
an F test, takes no part in the group; this keeps the model small, finds interactions, and inputs that do nothing at
all. Then all columns are fitted together. What pays is seen on samples that were held back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import scipy.stats

from sepnet.backends.arrays import to_host
from sepnet.bases.bspline import BSpline
from sepnet.solvers.fit_algebra import moved
from sepnet.solvers.fit_als import solve_symmetric, sweep
from sepnet.solvers.fit_axes import FitAxis
from sepnet.solvers.fit_columns import Columns, Factors
from sepnet.solvers.fit_data import Table, with_targets
from sepnet.solvers.fit_gcv import choose_weights
from sepnet.solvers.fit_lm import levenberg_marquardt
from sepnet.solvers.fit_loss import Loss, Squared
from sepnet.solvers.fit_model import Model
from sepnet.solvers.fit_samples import Held, Samples, losses, normal, objective

__all__ = ["START", "Bench", "Grower", "Stage", "best_of", "grow", "together"]

START = 1e-6  # weight of the roughness before GCV has its say
SIGNIFICANT = 1e-4  # chance of an inert axis to pass the F test of one group
SWEEPS, TRIES = 2, 4  # of each start, and again of the best one
STEPS, TOL = 10, 0.03
INERT = 1.05  # an axis that may be left out at this cost does nothing
SURE = 2.0  # standard errors
PAYS = 0.97  # what an addition must leave of the checked loss to be kept
PATIENCE = 2
SAMPLES, LEAST = 12, 2000  # samples a coefficient while the shape is sought, and the fewest


@final
@dataclass(frozen=True)
class Bench:
    """What a growing fit works with: samples to fit and, where there are any, samples to check on.

    Parameters
    ----------
    train, check : Table
    loss : Loss
    gcv : bool
        Choose the weights of the roughness.
    seed : int
    method : {"lm", "als"}
        How the columns are fitted together.
    enough : float, optional
        Checked loss at which no more is asked for.
    """

    train: Table
    check: Table | None
    loss: Loss
    gcv: bool
    seed: int
    method: str = "lm"
    enough: float = 0.0


@final
@dataclass(frozen=True)
class Stage:
    """A model on the way, its mean loss on the samples it was fitted to, and the losses of those held back, if any."""

    model: Model
    loss: float
    checks: np.ndarray | None

    @property
    def check(self) -> float:
        """Mean loss of the samples held back; of those that were fitted where there are none."""
        return self.loss if self.checks is None else float(np.mean(self.checks))

    def beats(self, other: Stage) -> bool:
        """Return whether this is worth its coefficients: twice as many take 7 % off the loss, or it is surely lower."""
        mine, theirs = (stage.check * stage.model.columns.size**0.1 for stage in (self, other))
        return mine < theirs or _surely_below(self.checks, other.checks)


def best_of(stages: list[Stage]) -> Stage:
    """Return the last stage that beat all before it."""
    best = stages[0]
    for stage in stages[1:]:
        if stage.beats(best):
            best = stage
    return best


def _surely_below(losses: np.ndarray | None, others: np.ndarray | None) -> bool:
    """Return whether losses of the same samples are lower than others by twice the standard error of the mean."""
    if losses is None or others is None or len(losses) < 2:
        return False
    falls = others - losses
    return bool(np.mean(falls) > SURE * np.std(falls, ddof=1) / np.sqrt(len(falls)))


class _Windows:
    """Windows of a table on the present axes; only those of axes that changed are made anew."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.axes: tuple[FitAxis, ...] = ()
        self.held: Held | None = None

    def on(self, axes: tuple[FitAxis, ...]) -> Held:
        if self.held is None or len(axes) != len(self.axes):
            self.held = self.table.samples(axes)
        elif axes != self.axes:
            new = tuple(i for i, (a, b) in enumerate(zip(axes, self.axes, strict=True)) if a is not b)
            self.held = self.table.samples(axes, like=self.held, new=new)
        self.axes = axes
        return self.held


def together(
    samples: Samples, model: Model, loss: Loss, method: str, *, steps: int, tol: float,
    after: Callable[[float], None] = lambda value: None,
) -> tuple[Model, float]:  # fmt: skip
    """Fit all columns together, by Levenberg-Marquardt steps or by sweeps, and return the mean loss too.

    The steps are taken where the samples live: the coefficients go there at the start and come back at the end.

    Parameters
    ----------
    samples, model, loss
        What is fitted.
    method : {"lm", "als"}
    steps : int
        Most steps; a sweep is one.
    tol : float
        Relative fall of the objective that ends the iteration.
    after : callable, optional
        Called with the mean loss after each step.
    """
    columns, factors, penalty = model.columns, moved(model.factors, samples.like), model.penalty
    if method == "lm":
        state = levenberg_marquardt(
            samples, columns, factors, loss, penalty, steps=steps, tol=tol, after=lambda now: after(now.data.loss)
        )
        return replace(model, factors=[to_host(f) for f in state.factors]), state.data.loss
    value = objective(samples, columns, factors, loss) + penalty.value(columns, factors)
    for _ in range(steps):
        factors, before = sweep(samples, columns, factors, loss, penalty), value
        value = objective(samples, columns, factors, loss) + penalty.value(columns, factors)
        after(value - penalty.value(columns, factors))
        if not before - value > tol * before:
            break
    value -= penalty.value(columns, factors)
    return replace(model, factors=[to_host(f) for f in factors]), value


@final
class Grower:
    """Grows one model on one bench."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.rng = np.random.default_rng(bench.seed)
        self._train, self._check = _Windows(bench.train), None if bench.check is None else _Windows(bench.check)

    def settle(self, model: Model, *, steps: int = STEPS, tol: float = TOL) -> Stage:
        """Fit all columns together, with the weights of the roughness by GCV if asked.

        On as many samples as `SAMPLES` times the coefficients: more of them cost time and change little on the way.
        """
        bench = self.bench
        samples, count = self.some(model)
        fitted, loss = together(samples, model, bench.loss, bench.method, steps=steps, tol=tol)
        if bench.gcv:
            w = bench.train.weights[:count]
            penalty = choose_weights(
                samples, fitted.columns, fitted.factors, bench.loss, fitted.penalty, float(w.sum() ** 2 / (w**2).sum())
            )
            again = replace(fitted, penalty=penalty)
            fitted, loss = together(samples, again, bench.loss, bench.method, steps=max(steps // 3, 2), tol=tol)
        return Stage(fitted, loss, self.checks(fitted))

    def some(self, model: Model) -> tuple[Held, int]:
        """Return as many samples as a model of this size needs on the way, and their number."""
        count = min(max(SAMPLES * model.columns.size, LEAST), self.bench.train.count)
        if 3 * count < 2 * self.bench.train.count:
            return self.bench.train.first(count).samples(model.columns.axes), count
        return self._train.on(model.columns.axes), self.bench.train.count

    def checks(self, model: Model) -> np.ndarray | None:
        """Return the losses of the samples held back."""
        if self._check is None:
            return None
        return losses(self._check.on(model.columns.axes), model.columns, model.factors, self.bench.loss)

    def leftover(self, model: Model, samples: Held) -> Held:
        """Return samples with what the model leaves over as targets: a step of Newton's method in the function."""
        targets, weights = [], []
        for windows, y, w in samples.parts:
            f = model.columns.total(model.columns.values(windows, model.factors))
            terms = self.bench.loss.terms(f, y)
            targets.append(terms.slope / terms.curvature)
            weights.append(w * terms.curvature)
        return with_targets(samples, targets, weights)

    def add(self, model: Model, axes: tuple[int, ...], rank: int, *, sparse: bool, fresh: bool) -> Model:
        """Return the model with `rank` more columns on `axes`, or with `sparse` on those of them that matter.

        With `fresh` the roughness of these axes is weighed as at the start, until GCV has its say: weights which suit
        the columns that are there hold back what new ones have to follow, if these have no main effects. Where samples
        are many it does harm: wing weight from 1e4 samples 1.9e-4 instead of 5.8e-5.
        """
        if fresh and self.bench.gcv:
            weights = tuple(min(w, START) if i in axes else w for i, w in enumerate(model.penalty.weights))
            model = replace(model, penalty=replace(model.penalty, weights=weights))
        if not sparse or len(axes) == 1:
            left = self.leftover(model, self.some(model)[0])
            columns, factors = self._columns(model, left, axes, rank)
            return model.joined(columns, factors)
        left = self.leftover(model, self._train.on(model.columns.axes))
        columns, factors = self._columns(model, left, axes, 1)
        needed = tuple(i for i in axes if self._matters(left, columns, factors, i))
        if needed and (needed != axes or rank > 1):
            columns, factors = self._columns(model, left, needed, rank)
        return model if not needed else model.joined(columns, factors).tidy()

    def _columns(self, model: Model, left: Held, axes: tuple[int, ...], rank: int) -> tuple[Columns, Factors]:
        """Fit columns to what is left, from one random start, or from the best of some where samples are few."""
        columns = Columns(model.columns.axes, (axes,), (rank,))

        def swept(factors: Factors) -> Factors:
            for _ in range(SWEEPS):
                factors = sweep(left, columns, factors, Squared(), model.penalty)
            return factors

        def value(factors: Factors) -> float:
            return objective(left, columns, factors, Squared()) + model.penalty.value(columns, factors)

        starts = [
            [
                axis.constant[:, None] + 0.5 * axis.draw(self.rng, rank)
                if i in axes else np.zeros((axis.size, 0))
                for i, axis in enumerate(columns.axes)
            ]
            for _ in range(TRIES if self.bench.train.count < LEAST and len(axes) > 1 else 1)
        ]  # fmt: skip
        first, *more = map(swept, starts)
        return columns, swept(min([first, *more], key=value) if more else first)

    def _matters(self, left: Held, columns: Columns, factors: Factors, axis: int) -> bool:
        """Return whether the factor of an axis explains more than a constant would, by an F test."""
        data, here = normal(left, columns, factors, Squared(), axis=axis), factors[axis].ravel()
        moved = data.matrix @ here
        best = solve_symmetric(data.matrix, data.vector + moved, here)
        # the loss is a quadratic in the factor: here it is data.loss, without the factor `empty`
        rest = max(data.loss - float((best - here) @ data.vector), np.finfo(float).tiny)
        empty = data.loss + 2.0 * float(here @ data.vector) + float(here @ moved)
        constant = columns.axes[axis].constant
        gain, size = float(constant @ (data.vector + moved)), float(constant @ data.matrix @ constant)
        explained = empty - (gain**2 / size if size > 0.0 else 0.0) - rest
        freedom, count = len(best) - 1, self.bench.train.count - columns.size
        if freedom <= 0 or count <= 1:
            return True
        return bool(scipy.stats.f.sf(explained / freedom / (rest / count), freedom, count) < SIGNIFICANT)

    def inert(self, model: Model) -> tuple[int, ...]:
        """Return the axes that may be constant in all columns: the loss is hardly larger."""
        samples, loss = self._train.on(model.columns.axes), self.bench.loss
        checks = self.checks(model)
        base = 0.0 if checks is not None else objective(samples, model.columns, model.factors, loss)
        count, found = self.bench.train.count, []
        for i, (axis, active) in enumerate(zip(model.columns.axes, model.columns.active, strict=True)):
            if axis.basis is None or axis.labels or not len(active):
                continue
            without = model.without(i)
            if checks is not None:
                others = self.checks(without)
                much = (
                    others is not None and float(np.mean(others)) > INERT * float(np.mean(checks)) + self.bench.enough
                )
                if not much and not _surely_below(checks, others):
                    found.append(i)
                continue
            # on the samples that were fitted, chance alone gives as much as the degrees of freedom of the axis
            unit = base if isinstance(loss, Squared) else 1.0
            allowed = 3.0 * unit * (axis.size - 1) * len(active) / count
            if objective(samples, without.columns, without.factors, loss) <= base + max(allowed, self.bench.enough):
                found.append(i)
        return tuple(found)

    def refine(self, model: Model) -> Model | None:
        """Return the model with knots halved on the axes where that pays by itself; None where it pays nowhere."""
        before = self.checks(model)
        if before is None:
            return None
        train, paying = self._train.on(model.columns.axes), {}
        for i, axis in enumerate(model.columns.axes):
            if not isinstance(axis.basis, BSpline) or axis.labels or not len(model.columns.active[i]):
                continue
            fine = FitAxis(axis.basis.refine())
            trial = model.refined({i: fine})
            samples = self.bench.train.samples(trial.columns.axes, like=train, new=(i,))
            data = normal(samples, trial.columns, trial.factors, self.bench.loss, axis=i)
            own, rest, load = trial.penalty.block(trial.columns, trial.factors, i)
            matrix = data.matrix + trial.penalty.weights[i] * own + rest
            here = trial.factors[i].ravel()
            factors = list(trial.factors)
            factors[i] = solve_symmetric(matrix, data.vector + data.matrix @ here + load, here).reshape(
                factors[i].shape
            )
            after = self.checks(replace(trial, factors=factors))
            if after is not None and float(np.mean(after)) < PAYS * float(np.mean(before)):
                paying[i] = fine
        return model.refined(paying) if paying else None


def grow(
    bench: Bench, start: Model, axes: tuple[int, ...], *, most: int, stages: int, refine: bool, fresh: bool,
    after: Callable[[Stage], None],
) -> list[Stage]:  # fmt: skip
    """Add columns and knots while they pay.

    Parameters
    ----------
    bench : Bench
    start : Model
        With or without columns.
    axes : tuple of int
        Axes that new columns may use.
    most : int
        Most coefficients.
    stages : int
        Most stages.
    refine : bool
        Knots may be added.
    fresh : bool
        See `Grower.add`.
    after : callable
        Called with each stage.

    Returns
    -------
    list of Stage
        In the order they were made; the last ones may be worse.
    """
    grower = Grower(bench)
    made: list[Stage] = []

    def take(model: Model) -> Stage:
        made.append(grower.settle(model))
        after(made[-1])
        return made[-1]

    model = take(start).model if start.columns.subsets else start
    best, waited = made[-1] if made else None, 0
    while waited < PATIENCE and len(made) < stages and not (best is not None and best.check <= bench.enough):
        size = len(made)
        wider = grower.add(model, axes, 2 if made else 1, sparse=True, fresh=fresh)
        if model.columns.size < wider.columns.size <= most:
            model = take(wider).model
        finer = grower.refine(model) if refine and made else None
        if finer is not None and finer.columns.size <= most:
            model = take(finer).model
        if len(made) == size:
            break
        leader = best_of([*([] if best is None else [best]), *made[size:]])
        waited = waited + 1 if leader is best else 0
        best = leader
    return made
