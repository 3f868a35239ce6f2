"""Fit a separable function to samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, Literal

import numpy as np

from sepnet.backends.threads import one_blas_thread
from sepnet.bases.checks import whole_number
from sepnet.functions.interaction import Interaction
from sepnet.solvers.evidence import FitPrior
from sepnet.solvers.fit_data import Table
from sepnet.solvers.fit_gcv import freedom
from sepnet.solvers.fit_growth import Bench, Grower, Stage, together
from sepnet.solvers.fit_loss import LossName, Squared, loss_of
from sepnet.solvers.fit_model import Model
from sepnet.solvers.fit_prior import with_prior
from sepnet.solvers.fit_result import Fit, FitRecord, FitStatus
from sepnet.solvers.fit_samples import Samples
from sepnet.solvers.fit_setup import Setup, function_of, set_up
from sepnet.solvers.fit_shape import choose
from sepnet.solvers.fit_source import Streamed, source_of
from sepnet.spaces import TensorSpace

__all__ = ["fit"]

GROWING = 20_000  # samples, on the host, on which the shape is found; the last steps see all, where they live
CHECKED = 0.25  # share of these that is held back


@one_blas_thread()
def fit(
    X: Any,
    y: Any = None,
    space: TensorSpace | None = None,
    *,
    interaction: Interaction | None = None,
    rank: int | None = None,
    cells: int | None = None,
    degree: int = 3,
    weights: Any = None,
    loss: LossName = "squared",
    penalty: Literal["gcv", "evidence"] | float | Mapping[str, float] = "gcv",
    ridge: float = 0.0,
    method: Literal["lm", "als"] = "lm",
    names: Sequence[str] | None = None,
    tol: float = 1e-6,
    max_steps: int = 30,
    seed: int = 0,
    callback: Callable[[FitRecord], None] | None = None,
) -> Fit:
    """Fit a sum of products of univariate functions to samples.

    By default the fit finds its own shape: which inputs act together, how many products they need, and where knots
    are needed. Samples that were held back decide what pays; then the function is fitted to all of them. With `rank`
    it is one sum of that many products of all inputs, the KHRONOS class; with `interaction` a sparse one, such as an
    additive model.

    Parameters
    ----------
    X : array of shape (n, d), or batches
        Points, of any array library: they stay where they are, but for at most 20,000 on which the shape is found,
        which are copied to the host once. Objects that read slices from a disk, such as HDF5 datasets, are read in
        pieces.
        With ``y=None`` an iterable that can be read again and again, or a function that makes one, of tuples
        ``(X, y)`` or ``(X, y, weights)``; each pass reads it once.
    y : array of shape (n,) or (n, outputs)
        Targets; NaN where one is missing. Several outputs share their products: the function has one more axis.
    space : TensorSpace, optional
        Axes in the order of the columns, each with the basis to use. By default the box of the points, with splines
        of `degree` on equal cells.
    interaction : Interaction, optional
        Which axes act together, and the ranks; ``sn.Interaction(1)`` is additive. Format "cp" only.
    rank : int, optional
        Number of products of all inputs.
    cells : int, optional
        Cells an axis at the start; they are halved where that pays unless `space`, or `cells` with `rank` or
        `interaction`, is given. By default 3, or 6 where rank or interaction are given.
    degree : int, optional
        Degree of the splines.
    weights : array of shape (n,), optional
        Weights of the samples, not negative.
    loss : {"squared", "logistic"}, optional
        "logistic" takes targets 0 and 1, and u is the log-odds.
    penalty : "gcv", "evidence", float or mapping of axis name to float, optional
        Weight of the roughness ``||d_i^2 u||^2`` on each axis, relative to the mean squared error; over the box with
        the uniform probability, in coordinates from 0 to 1. By default by generalised cross-validation.
        "evidence" is for few and noisy samples, at most 1000: the mean of a Gaussian process on the span of the bases,
        whose smoothness, strength and noise have the largest marginal likelihood, as a sum of `rank` products, or of as
        many as it takes.
    ridge : float, optional
        Weight of ``||u - c||^2``, c a constant that is fitted too, relative likewise: it draws the function towards its
        mean, which helps where samples are few and noisy (0.05 to 0.2).
    method : {"lm", "als"}, optional
        Levenberg-Marquardt steps in all factors at once, or alternating least squares.
    names : sequence of str, optional
        Names of the axes; by default ``x0, x1, ...``.
    tol : float, optional
        Root mean square error, relative to the targets' standard deviation, at which nothing is added any more.
    max_steps : int, optional
        Most steps of the last fit to all samples.
    seed : int, optional
        Seed of the starts and of the samples held back.
    callback : callable, optional
        Called with each record of the history.

    Returns
    -------
    Fit

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or batches can be read only once.
    ValueError
        If points of rows that count are not finite or outside `space`, shapes do not agree, there are no samples, or an
        option is not known.

    Notes
    -----
    Functional alternating least squares: Beylkin, Garcke and Mohlenkamp, SIAM J. Sci. Comput. 31 (2009). The growth of
    sparse sums, with an F test for each axis of a new product, is our own.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> X = np.random.default_rng(0).random((500, 3))
    >>> fit = sn.fit(X, np.sin(3 * X[:, 0]) * X[:, 1])
    >>> fit.inert
    ('x2',)
    >>> float(abs(fit.u([[0.5, 0.5, 0.5]]) - np.sin(1.5) / 2)[0]) < 1e-3
    True
    """
    started = time.perf_counter()
    objective = loss_of(loss)
    if method not in ("lm", "als"):
        msg = f"`method` is {method!r}, expected 'lm' (all factors at once) or 'als' (one after the other)"
        raise ValueError(msg)
    tol = _tolerance(tol)
    max_steps, seed = whole_number("max_steps", max_steps, at_least=1), whole_number("seed", seed, at_least=0)
    source = source_of(X, y, weights)
    summary = source.summary()
    setup = set_up(
        summary, space, interaction=interaction, rank=rank, cells=cells, degree=degree, penalty=penalty, ridge=ridge,
        names=names, squared=isinstance(objective, Squared),
    )  # fmt: skip
    history: list[FitRecord] = []
    best: Stage | None = None

    def note(stage: Stage) -> None:
        nonlocal best
        best = stage if best is None or stage.check <= best.check else best
        value, check = _shown(stage.loss, setup), _shown(stage.check, setup)
        record = FitRecord(stage.model.columns.size, value, check, time.perf_counter() - started)
        history.append(record)
        if callback is not None:
            callback(record)

    if setup.constant:
        return _constant(setup, history, started)
    rng = np.random.default_rng(seed)
    table = _shuffled(source.table(_chosen(summary.count, rng), setup.units), rng)
    if setup.evidence:
        setup = with_prior(setup, table)
    bench = Bench(table, None, objective, setup.gcv, seed, method, tol**2)
    try:
        best = stage = choose(bench, setup, CHECKED, note)
        every: Samples = table.samples(stage.model.columns.axes)
        if summary.count > GROWING:
            every = Streamed(source, stage.model.columns.axes, setup.units, setup.inputs)
        values: list[float] = []
        last = 1e-2 if setup.prior is None else 1e-5
        model, value = together(every, stage.model, objective, method, steps=max_steps, tol=last, after=values.append)
        status = FitStatus.FITTED if len(values) < max_steps else FitStatus.STEP_LIMITED
    except KeyboardInterrupt:
        if best is None:
            raise
        model, value, status = best.model, best.loss, FitStatus.INTERRUPTED
    return _result(setup, bench, model, value, status, history, started)


def _result(
    setup: Setup, bench: Bench, model: Model, value: float, status: FitStatus, history: list[FitRecord], started: float
) -> Fit:
    samples = bench.train.samples(model.columns.axes)
    count = float(setup.effective)
    used = freedom(samples, model.columns, model.factors, bench.loss, model.penalty)
    inert = {i for i, active in enumerate(model.columns.active) if not len(active)}
    inert |= set(Grower(bench).inert(model))
    names = [name for i, name in enumerate(setup.names[: setup.inputs]) if i in inert]
    if model.columns.size > setup.effective and setup.prior is None and status is not FitStatus.INTERRUPTED:
        status = FitStatus.UNDERDETERMINED
    left = max(count - used, 1.0)
    return Fit(
        u=function_of(setup, model),
        status=status,
        error=_shown(value, setup),
        noise=float(np.sqrt(max(value, 0.0) * count / left) * setup.scales[0]) if setup.squared else float("nan"),
        freedom=used,
        gcv=float(value / max(1.0 - used / count, 1.0 / count) ** 2 * (setup.scales[0] / setup.spread) ** 2),
        penalty={name: model.penalty.weights[i] for i, name in enumerate(setup.names)},
        ridge=model.penalty.ridge,
        inert=tuple(names),
        count=setup.count,
        prior=_in_units(setup),
        history=tuple(history),
        seconds=time.perf_counter() - started,
    )


def _tolerance(tol: Any) -> float:
    if isinstance(tol, bool) or not isinstance(tol, Real) or not 0.0 <= float(tol) < np.inf:
        msg = f"`tol` is {tol!r}, expected a number >= 0, such as 1e-6: a share of the targets' standard deviation"
        raise ValueError(msg)
    return float(tol)


def _in_units(setup: Setup) -> FitPrior | None:
    scale, prior = float(setup.scales[0]), setup.prior
    if prior is None:
        return None
    return replace(
        prior, noise=prior.noise * scale, variance=prior.variance * scale * scale, least=prior.least * scale * scale,
        unit=prior.unit * scale * scale,
    )  # fmt: skip


def _constant(setup: Setup, history: list[FitRecord], started: float) -> Fit:
    """Return the mean where nothing varies."""
    count = setup.effective
    rest = count / (count - 1.0) if count > 1 else 1.0  # one degree of freedom is used
    if setup.squared:
        error = float(setup.varied)
        noise, gcv = setup.spread * error * rest**0.5, error * rest**2
    else:
        share = 1.0 / (1.0 + np.exp(-setup.means[0]))
        error = float(-2.0 * (share * np.log(share) + (1.0 - share) * np.log1p(-share)))
        noise, gcv = float("nan"), error
    return Fit(
        u=function_of(setup, None), status=FitStatus.CONSTANT, error=error, noise=noise, freedom=1.0,
        gcv=gcv, penalty=dict.fromkeys(setup.names, 0.0), ridge=setup.penalty.ridge,
        inert=tuple(setup.names[: setup.inputs]), count=setup.count, history=tuple(history),
        seconds=time.perf_counter() - started,
    )  # fmt: skip


def _shown(value: float, setup: Setup) -> float:
    """Return a mean loss in the units of `Fit.error`."""
    if not setup.squared or not np.isfinite(value):
        return float(value)
    return float(np.sqrt(max(value, 0.0)) * setup.scales[0] / setup.spread)


def _chosen(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the numbers of the samples on which the shape is found, rising."""
    if count > GROWING:
        # no permutation: of 1e8 numbers it takes seconds, and 800 MB on the host
        return np.sort(rng.choice(count, GROWING, replace=False, shuffle=False))
    return np.sort(rng.permutation(count))


def _shuffled(table: Table, rng: np.random.Generator) -> Table:
    """Return the samples in random order: the first ones are then a fair choice."""
    order = rng.permutation(table.count)
    return replace(table, points=table.points[order], targets=table.targets[order], weights=table.weights[order])
