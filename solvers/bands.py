"""Confidence bands of a fit: how far the function would move if the samples were drawn again.

The coefficients solve ``sum_i w_i r_i j_i = W P c`` with the residuals r, the rows j of the Jacobian, the sum W of the
weights and the penalty's matrix P. To first order they move by ``H^-1 sum_i w_i j_i e_i`` with the noise e and
``H = sum_i w_i j_i j_i' + W P``, so that

    cov = H^-1 ( sum_i (w_i r_i / (1 - h_i))^2 j_i j_i'  +  noise^2 W P ) H^-1,      h_i = w_i j_i' H^-1 j_i.

The first part is the sandwich (Huber, Proc. 5th Berkeley Symp. 1, 1967; White, Econometrica 48, 1980), which asks for
no common variance of the noise; a residual is smaller than the noise by what its own sample has pulled the function,
and ``1 / (1 - h_i)`` is the residual that a fit without the sample has (HC3: MacKinnon and White, J. Econometrics 29,
1985). The second part is the bias that the penalty causes, squared and averaged over the functions that a penalty of
this weight expects (Wahba, J. R. Stat. Soc. B 45, 1983): with noise of one variance the sum is Wahba's
``noise^2 H^-1``. Without it a band covers the mean of many fits and not the truth (Nychka, J. Am. Stat. Assoc. 83,
1988).

Factors of a column may be scaled against each other, and constants may go from one part to another: along such
directions H is singular, and no function value moves. They are cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, TypeAlias, final

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.stats

from sepnet.backends.arrays import Array, eps, namespace, to_host
from sepnet.backends.threads import one_blas_thread
from sepnet.functions import CP
from sepnet.functions.sna import SNA
from sepnet.measures import Density, product_measure
from sepnet.solvers.fit_algebra import moved
from sepnet.solvers.fit_columns import Columns, Factors
from sepnet.solvers.fit_loss import Loss, LossName, Squared, loss_of
from sepnet.solvers.fit_penalty import Penalty
from sepnet.solvers.fit_prior import with_norm
from sepnet.solvers.fit_result import Fit, FitStatus
from sepnet.solvers.fit_rows import columns_of, designs_at, rows_at
from sepnet.solvers.fit_samples import normal
from sepnet.solvers.fit_setup import APART
from sepnet.solvers.fit_source import Source, Streamed, Summary, Units, source_of

__all__ = ["Bands", "confidence"]

Curve: TypeAlias = Callable[[np.ndarray], np.ndarray]

NUMBERS = 2**22  # of a piece of the Jacobian: 32 MB
SAME = 1e-3  # relative difference of the fit's error and that of the samples at which they are other samples
ALONG = 257  # points of a curve of which the length is taken


@final
@dataclass(frozen=True, repr=False)
class Bands:
    """Standard errors and confidence bands of a fitted function, as `confidence` returns them.

    Attributes
    ----------
    u : CP or SNA
        The fitted function; with a logistic loss the log-odds, and so are the bands.
    freedom : float
        Degrees of freedom used, the trace of the influence matrix of all factors together.
    left : float
        Degrees of freedom left, the number of samples less `freedom`: that of Student's t in the bands.
    noise : float
        Standard deviation of the noise of a sample of weight one, ``sqrt(sum w r^2 / left)``; 1 with a logistic loss.
    """

    u: CP | SNA
    freedom: float
    left: float
    noise: float
    _columns: Columns = field(repr=False)
    _factors: Factors = field(repr=False)
    _root: np.ndarray = field(repr=False)  # (P, k), cov = root root'

    def __repr__(self) -> str:
        """Noise and degrees of freedom."""
        return f"Bands(noise={self.noise:.4g}, freedom={self.freedom:.1f}, left={self.left:.1f})"

    def standard_error(self, points: Array) -> Array:
        """Return the standard error of the function.

        Parameters
        ----------
        points : array of shape (n, d)
            In the namespace and on the device of the function; lists are host data.

        Returns
        -------
        array of shape (n,)

        Raises
        ------
        TypeError, ValueError
            As for a call of the function.
        """
        return self._at(points)[1]

    def band(self, points: Array, level: float = 0.95) -> tuple[Array, Array]:
        """Return a confidence interval for the function at each point.

        Parameters
        ----------
        points : array of shape (n, d)
            In the namespace and on the device of the function; lists are host data.
        level : float, optional
            Share of the intervals that hold the truth, on average over the points.

        Returns
        -------
        lower, upper : array of shape (n,)

        Raises
        ------
        TypeError, ValueError
            As for a call of the function, or if `level` is not between 0 and 1.
        """
        reach = self._quantile(level)
        values, error = self._at(points)
        return values - reach * error, values + reach * error

    def effect(
        self, axis: str, level: float = 0.95, *, density: Density | None = None, simultaneous: bool = False
    ) -> tuple[Curve, Curve]:
        """Return a confidence band of the mean effect of an input, ``E[u | x_i]``.

        Parameters
        ----------
        axis : str
            The input.
        level : float, optional
            Share of the intervals that hold the truth, or with `simultaneous` of the bands.
        density : mapping of str to callable, optional
            Densities of the other inputs, as `sepnet.effects` takes them; by default uniform.
        simultaneous : bool, optional
            The band holds the whole curve, not each of its points. By the tube formula of Sun and Loader, Ann. Stat.
            22 (1994), eq. 2.1, with Student's t.

        Returns
        -------
        lower, upper : callable
            Host points (n,) to values (n,), as ``sn.plot.effects(bands={axis: (lower, upper)})`` takes them.

        Raises
        ------
        TypeError, ValueError
            If there is no such axis, `level` is not between 0 and 1, or a density is refused as by `sepnet.effects`.
        """
        space, columns = self.u.space, self._columns
        space.check_axes([axis], "effect")
        reach = self._quantile(level)
        measure = product_measure(space, density)
        here = space.names.index(axis)
        means = [measure.mean_row(name)[None, :] for name in space.names] + [np.ones((1, 1))]

        def parts(points: Any) -> tuple[np.ndarray, np.ndarray]:
            own = np.asarray(space.axes[axis].values(np.array(points, dtype=np.float64, ndmin=1)))
            designs = [own if i == here else np.repeat(row, len(own), axis=0) for i, row in enumerate(means)]
            values, rows = rows_at(columns, self._factors, designs)
            return np.asarray(values), np.asarray(rows @ self._root)

        if simultaneous:
            spread = parts(np.linspace(*space.axes[axis].domain, ALONG))[1]
            reach = _tube_quantile(spread, self.left, level)

        def end(sign: float) -> Curve:
            def curve(points: np.ndarray) -> np.ndarray:
                values, spread = parts(points)
                return np.asarray(values + sign * reach * np.linalg.norm(spread, axis=1))

            return curve

        return end(-1.0), end(1.0)

    def effects(
        self, level: float = 0.95, *, density: Density | None = None, simultaneous: bool = False
    ) -> dict[str, tuple[Curve, Curve]]:
        """Return the bands of all inputs, for ``sn.plot.effects(u, bands=...)``; see `effect`."""
        names = self.u.space.names
        return {name: self.effect(name, level, density=density, simultaneous=simultaneous) for name in names}

    def _quantile(self, level: float) -> float:
        return float(scipy.stats.t.isf((1.0 - _share(level)) / 2.0, self.left))

    def _at(self, points: Array) -> tuple[Array, Array]:
        """Return values and standard errors: computed in float64, given in the dtype of the function."""
        values = self.u(points)
        xp, dtype = namespace(values), values.dtype
        places = xp.astype(self.u._as_points(points), xp.float64)
        root, *factors = moved([self._root, *self._factors], places)
        step = max(NUMBERS // max(self._columns.size, 1), 1)
        errors, count = [], int(places.shape[0])
        for start in range(0, count, step):
            designs = designs_at(self._columns, places[start : min(start + step, count), :])
            rows = rows_at(self._columns, factors, designs)[1]
            errors.append(xp.astype(xp.linalg.vector_norm(rows @ root, axis=1), dtype))
        return values, xp.concat(errors) if errors else values


@one_blas_thread()
def confidence(fit: Fit, X: Any, y: Any = None, *, weights: Any = None, loss: LossName = "squared") -> Bands:
    """Return standard errors and confidence bands of a fit, from the samples that it was made of.

    The noise may have another variance at every sample (weights say what is known of it); it is taken to be
    independent. The bands hold what the noise and the penalty do to the coefficients of the shape that was fitted. They
    do not hold what another choice of axes, ranks or knots would do, nor what no function of this shape can follow.

    Parameters
    ----------
    fit : Fit
    X, y, weights : array, or batches
        The samples of the fit, as `fit` took them; batches with ``y=None``. They are read three times.
    loss : {"squared", "logistic"}, optional
        The loss of the fit.

    Returns
    -------
    Bands

    Raises
    ------
    TypeError
        If `fit` is no fit, or the samples are of the wrong kind.
    ValueError
        If the fit was interrupted or has several outputs, the samples or the loss are not those of the fit, or there
        are too few to tell the noise from the function.

    Notes
    -----
    Costs ``O(n P^2)`` for n samples and P coefficients and some ``O(P^3)``; memory ``O(P^2)``. See the module for the
    formulas and their sources.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((400, 2))
    >>> y = np.sin(3 * X[:, 0]) * X[:, 1] + 0.1 * rng.standard_normal(400)
    >>> fit = sn.fit(X, y, rank=1, cells=4)
    >>> bands = sn.confidence(fit, X, y)
    >>> low, high = bands.band([[0.5, 0.5]], level=0.99)
    >>> bool(low[0] < np.sin(1.5) / 2 < high[0])
    True
    >>> figure = sn.plot.effects(fit.u, bands=bands.effects())
    """
    if not isinstance(fit, Fit):
        msg = (
            f"`fit` is {type(fit).__name__}, expected what sn.fit returned: a function alone says nothing of its noise"
        )
        raise TypeError(msg)
    objective = loss_of(loss)
    source = source_of(X, y, weights)
    summary = source.summary()
    _check(fit, summary)
    columns, factors = columns_of(fit.u)
    if fit.status is FitStatus.CONSTANT:
        columns, factors = _mean_alone(columns, float(fit.u(_middle(fit.u))[0]))
    names = (*fit.u.space.names, "")
    axes = tuple(with_norm(axis, fit.prior, name) for axis, name in zip(columns.axes, names, strict=True))
    columns = replace(columns, axes=axes)
    squared = isinstance(objective, Squared)
    samples = Streamed(source, columns.axes, Units(np.zeros(1), np.ones(1)), len(summary.low))
    data = normal(samples, columns, factors, objective)
    if fit.status is not FitStatus.CONSTANT:  # which says no error
        _check_error(fit, data.loss, float(summary.scales[0]), squared)
    weights_of = (*(fit.penalty[name] for name in fit.u.space.names), 0.0)
    penalty = Penalty(weights_of, fit.ridge, APART).terms(columns, factors).matrix
    total = float(sum(namespace(weights).sum(weights) for _, _, weights in _present(source)))
    bread = _inverse_root(total * (data.matrix + penalty))
    meat, freedom = _meat(source, columns, factors, objective, bread)
    left = int(summary.present[0]) - freedom
    if left < 1.0:
        msg = (
            f"there are {int(summary.present[0])} samples for {freedom:.1f} degrees of freedom, expected more: the "
            "residuals say nothing of the noise; fit fewer coefficients, with rank=, cells= or interaction="
        )
        raise ValueError(msg)
    noise = float(np.sqrt(max(data.loss, 0.0) * total / left)) if squared else 1.0
    meat = meat + noise**2 * total * (bread.T @ penalty @ bread)
    sizes, vectors = scipy.linalg.eigh((meat + meat.T) / 2)
    root = bread @ (vectors * np.sqrt(np.maximum(sizes, 0.0)))
    return Bands(fit.u, freedom, left, noise, columns, factors, np.ascontiguousarray(root))


def _check(fit: Fit, summary: Summary) -> None:
    names = fit.u.space.names
    if "output" in names or summary.outputs > 1:
        msg = "the fit or the samples have several outputs, expected one: fit each alone, sn.fit(X, y[:, j])"
        raise ValueError(msg)
    if fit.status is FitStatus.INTERRUPTED:
        msg = "the fit was interrupted, so its function is no minimum, of which alone bands are known: fit again"
        raise ValueError(msg)
    if len(summary.low) != len(names) or summary.count != fit.count:
        msg = (
            f"the samples are {summary.count} points of {len(summary.low)} inputs, the fit is of {fit.count} of "
            f"{len(names)}: pass the samples that were fitted"
        )
        raise ValueError(msg)


def _check_error(fit: Fit, value: float, spread: float, squared: bool) -> None:
    """Raise ValueError if the fit has another error on these samples than on those it was made of."""
    error = float(np.sqrt(max(value, 0.0))) / (spread or 1.0) if squared else value
    # a fit that is exact to half the digits has an error of round-off
    if abs(error - fit.error) > SAME * fit.error + eps(fit.u.dtype, fit.u.xp) ** 0.5:
        msg = (
            f"the error of the fit is {fit.error:.6g} and on these samples, with this loss, {error:.6g}: pass the same "
            "X, y, weights= and loss= as to sn.fit"
        )
        raise ValueError(msg)


def _middle(u: CP | SNA) -> Array:
    return u._here(np.array([[sum(basis.domain) / 2.0 for basis in u.space.bases]]))


def _mean_alone(columns: Columns, level: float) -> tuple[Columns, Factors]:
    """Return the mean as a column of the constant: where nothing varies nothing else was fitted."""
    factors = [np.zeros((axis.size, 0)) for axis in columns.axes]
    factors[-1] = np.array([[level]])
    return Columns(columns.axes, ((len(factors) - 1,),), (1,)), factors


def _present(source: Source) -> Iterator[tuple[Array, Array, Array]]:
    """Yield points, targets and weights, those of missing targets zero."""
    for rows in source.parts():
        xp = namespace(rows.points)
        here = xp.isfinite(rows.targets[:, 0])
        zero = xp.zeros_like(rows.weights)
        yield rows.points, xp.where(here, rows.targets[:, 0], zero), xp.where(here, rows.weights, zero)


def _inverse_root(matrix: np.ndarray) -> np.ndarray:
    """Return Q (P, k) with ``Q Q'`` the pseudo-inverse, for a unit diagonal truncated where round-off begins."""
    matrix = (matrix + matrix.T) / 2
    diagonal = np.diag(matrix)
    scale = np.where(diagonal > 0.0, 1.0 / np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0)), 0.0)
    sizes, vectors = scipy.linalg.eigh(scale[:, None] * matrix * scale)
    seen = sizes > len(sizes) * np.finfo(np.float64).eps * max(float(sizes[-1]), 0.0)
    return np.asarray(scale[:, None] * vectors[:, seen] / np.sqrt(sizes[seen]))


def _meat(
    source: Source, columns: Columns, factors: Factors, loss: Loss, bread: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the sum of ``(w r / (1 - h))^2 z z'`` with ``z = Q' j``, and the sum of the h.

    They are added up where the samples live, and copied once.
    """
    matrix: Array = 0.0
    freedom: Array = 0.0
    step = max(NUMBERS // max(columns.size, 1), 1)
    floor = float(np.sqrt(np.finfo(np.float64).eps))  # of 1 - h: beyond that, the residual is round-off too
    root, here = None, factors
    for part in _present(source):
        xp = namespace(*part)
        if root is None:
            root, *here = moved([bread, *factors], part[0])
        count = int(part[0].shape[0])
        for start in range(0, count, step):
            points, targets, weights = (a[start : min(start + step, count), ...] for a in part)
            values, rows = rows_at(columns, here, designs_at(columns, points))
            terms = loss.terms(values, targets)
            z = rows @ root
            leverage = weights * terms.curvature * xp.sum(z * z, axis=1)
            share = weights * terms.slope / xp.maximum(1.0 - leverage, xp.full_like(leverage, floor))
            scaled = z * share[:, None]
            matrix, freedom = matrix + scaled.T @ scaled, freedom + xp.sum(leverage)
    return to_host(matrix), float(freedom)


def _share(level: float) -> float:
    if isinstance(level, bool) or not isinstance(level, Real) or not 0.0 < float(level) < 1.0:
        msg = f"`level` is {level!r}, expected a number between 0 and 1, such as 0.95"
        raise ValueError(msg)
    return float(level)


def _tube_quantile(spread: np.ndarray, left: float, level: float) -> float:
    """Return c with ``length / pi (1 + c^2 / left)^(-left / 2) + P(|t| > c) = 1 - level``.

    The length is that of the curve which the directions of the rows `spread` draw on the unit sphere.
    """
    sizes = np.linalg.norm(spread, axis=1, keepdims=True)
    rows = spread[sizes[:, 0] > 0.0] / sizes[sizes[:, 0] > 0.0]
    length = float(np.linalg.norm(np.diff(rows, axis=0), axis=1).sum())

    def outside(c: float) -> float:
        tube = length / np.pi * np.exp(-left / 2.0 * np.log1p(c * c / left))
        return float(tube + 2.0 * scipy.stats.t.sf(c, left) - (1.0 - level))

    start, end = 0.0, 2.0
    while outside(end) > 0.0:
        end *= 2.0
    return float(scipy.optimize.brentq(outside, start, end))
