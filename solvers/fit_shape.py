"""Which shape a fit takes: the one asked for, or the best of those that grew from two starts.

From nothing, products of all inputs come first, which suits what is mostly a product; from an additive fit,
interactions are added to what is mostly a sum. Samples held back choose between the two, and where to stop; few
samples are held back in turns (5-fold cross-validation, one standard error).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from sepnet.solvers.evidence import FitPrior
from sepnet.solvers.fit_columns import Columns
from sepnet.solvers.fit_data import Table
from sepnet.solvers.fit_growth import Bench, Grower, Stage, best_of, grow
from sepnet.solvers.fit_model import Model, empty_model
from sepnet.solvers.fit_setup import Setup, size_limit

__all__ = ["choose"]

FEW = 1000  # below this many samples folds take turns
FOLDS = 5
LEAST = 40  # samples of which some are held back to choose between two weights
TRIED, STAGES = 4, 40  # stages before the better start is chosen, and after
FEW_STAGES = 6
RANK_STEP = 2
NEAR, SLOW, MOST = 0.05, 0.9, 32  # with a prior: share of that distance, of the last excess, and products
PRIOR_STEPS, PRIOR_TOL = 50, 1e-4


def choose(bench: Bench, setup: Setup, share: float, after: Callable[[Stage], None]) -> Stage:
    """Return the fit whose shape is the best, on all samples of the bench.

    Parameters
    ----------
    bench : Bench
        Without samples held back.
    setup : Setup
    share : float
        Share of the samples to hold back.
    after : callable
        Called with each stage.

    Returns
    -------
    Stage
    """
    if setup.prior is not None and setup.rank is None:
        return _nearest_mean(Grower(bench), setup, setup.prior, after)
    if setup.interaction is not None or setup.rank is not None:
        return _asked(bench, setup, share, after)
    if bench.train.count < FEW:
        return _by_folds(bench, setup, after)
    split, axes, most = _split(bench, share), setup.live + setup.outputs, size_limit(setup)
    paths = [
        grow(split, start, axes, most=most, stages=TRIED, refine=setup.refine, fresh=False, after=after)
        for start in _starts(setup)
    ]
    leaders = [best_of(path) for path in paths if path]
    if not leaders:
        return Grower(bench).settle(_additive(setup, setup.live))
    leader = best_of(leaders)
    made = next(path for path in paths if any(stage is leader for stage in path))
    if len(made) >= TRIED:
        made += grow(
            split, made[-1].model, axes, most=most, stages=STAGES, refine=setup.refine, fresh=False, after=after
        )
    best = best_of(made)
    model = best.model
    for axis in Grower(split).inert(model):
        model = model.without(axis)
    return Grower(bench).settle(model if model.columns.subsets else best.model)


def _asked(bench: Bench, setup: Setup, share: float, after: Callable[[Stage], None]) -> Stage:
    """Fit the shape that was asked for; its knots are halved where that pays."""
    refine = setup.refine and bench.train.count >= FEW
    mixed = any(len(subset) > 1 + len(setup.outputs) for subset, _ in setup.interaction or ())
    several = mixed and setup.gcv and bench.train.count >= LEAST
    checked = refine or several
    grower = Grower(_split(bench, share) if checked else bench)
    if setup.rank is not None:
        model, axes = _from_nothing(setup), setup.live + setup.outputs
        stage = None
        while stage is None or stage.model.columns.ranks[-1] < setup.rank:
            have = 0 if stage is None else stage.model.columns.ranks[-1]
            stage = grower.settle(grower.add(model, axes, min(RANK_STEP, setup.rank - have), sparse=False, fresh=False))
            after(stage)
            model = stage.model
    else:
        stages = [
            grower.settle(_sparse(setup, grower, fresh=fresh)) for fresh in ([True, False] if several else [True])
        ]
        stage = min(stages, key=lambda stage: stage.check)
        after(stage)
    while refine:
        finer = grower.refine(stage.model)
        if finer is None or finer.columns.size > size_limit(setup):
            break
        trial = grower.settle(finer)
        after(trial)
        if not trial.beats(stage):
            break
        stage = trial
    return Grower(bench).settle(stage.model) if checked else stage


def _nearest_mean(grower: Grower, setup: Setup, prior: FitPrior, after: Callable[[Stage], None]) -> Stage:
    """Add products until the function is next to the mean of the posterior, in the posterior's own measure.

    Twice the fall of the log density from its largest value is the squared distance to the mean; that of a draw from
    the posterior is, on average, the number of coefficients, of which the samples decide `freedom`.
    """
    best, left = Stage(_from_nothing(setup), np.inf, None), np.inf
    for _ in range(MOST):
        stage = grower.settle(
            grower.add(best.model, setup.live, 1, sparse=False, fresh=False), steps=PRIOR_STEPS, tol=PRIOR_TOL
        )
        after(stage)
        excess = stage.loss + setup.penalty.value(stage.model.columns, stage.model.factors) - prior.least
        if excess < left:
            best, before, left = stage, left, excess
        if left <= NEAR * prior.freedom * prior.unit or excess > SLOW * before:
            break
    return best


def _sparse(setup: Setup, grower: Grower, *, fresh: bool) -> Model:
    """Return the columns of an interaction: single axes from an additive fit, the rest fitted to what that leaves.

    Where there are nearly as many coefficients as samples, the weights of the additive fit suit better than `fresh`.
    """
    wanted = dict(setup.interaction or ())
    single = [i for i in range(setup.inputs) if (i, *setup.outputs) in wanted]
    model = grower.settle(_additive(setup, single)).model
    for subset, rank in wanted.items():
        if len(subset) > 1 + len(setup.outputs):
            model = grower.add(model, subset, rank, sparse=False, fresh=fresh)
    return model


def _starts(setup: Setup) -> list[Model]:
    return [_from_nothing(setup), _additive(setup, setup.live)]


def _from_nothing(setup: Setup) -> Model:
    """Return a model without columns, but for the constant that a ridge draws to, or a mean that was taken out."""
    return (
        _additive(setup, [])
        if setup.prior is None and (setup.penalty.ridge or setup.shifted)
        else empty_model(setup.axes, setup.penalty)
    )


def _additive(setup: Setup, inputs: Sequence[int]) -> Model:
    """Return the constant, at the mean of the targets, and one function of each input, zero, for each output."""
    levels = (setup.means - setup.units.shifts) / setup.scales if setup.squared else 0.0 * setup.means
    several = len(levels) if setup.outputs else 1
    subsets = [setup.level, *((i, *setup.outputs) for i in inputs)]
    columns = Columns(setup.axes, tuple(subsets), (1, *([several] * len(inputs))))
    factors = [np.zeros((axis.size, len(active))) for axis, active in zip(setup.axes, columns.active, strict=True)]
    factors[setup.level[0]][:, 0] = levels
    for k in range(1, len(subsets)):
        for i in setup.outputs:
            factors[i][:, columns.place(i, k)] = np.eye(several)
    return Model(columns, factors, setup.penalty)


def _split(bench: Bench, share: float) -> Bench:
    held = max(int(share * bench.train.count), 1)
    rows = np.arange(bench.train.count)
    return replace(bench, train=_rows(bench.train, rows[held:]), check=_rows(bench.train, rows[:held]))


def _rows(table: Table, rows: np.ndarray) -> Table:
    return Table(table.points[rows], table.targets[rows], table.weights[rows])


def _by_folds(bench: Bench, setup: Setup, after: Callable[[Stage], None]) -> Stage:
    count = bench.train.count
    folds = [np.arange(k, count, FOLDS) for k in range(min(FOLDS, count))]
    axes = setup.live + setup.outputs
    most, starts = size_limit(setup), _starts(setup)
    candidates: list[tuple[float, float, int, int]] = []
    for s, start in enumerate(starts):
        paths = []
        for fold in folds:
            rest = np.setdiff1d(np.arange(count), fold)
            split = replace(bench, train=_rows(bench.train, rest), check=_rows(bench.train, fold))
            made = grow(
                split, start, axes, most=most, stages=FEW_STAGES, refine=False, fresh=True, after=lambda stage: None
            )
            paths.append([stage.check for stage in made])
        longest = max(map(len, paths))
        for k in range(longest):
            checks = [path[min(k, len(path) - 1)] for path in paths if path]
            if checks:
                mean, error = float(np.mean(checks)), float(np.std(checks) / np.sqrt(len(checks)))
                candidates.append((mean, error, s, k + 1))
    if not candidates:
        return Grower(bench).settle(_additive(setup, setup.live))
    least = min(candidates)
    _, _, s, stages = next(c for c in candidates if c[2] == least[2] and c[0] <= least[0] + least[1])
    made = grow(bench, starts[s], axes, most=most, stages=stages, refine=False, fresh=True, after=after)
    return made[-1] if made else Grower(bench).settle(_additive(setup, setup.live))
