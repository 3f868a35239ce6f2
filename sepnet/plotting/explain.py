"""Pictures that explain a function: its factors, what each input does, and how well it predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sepnet.backends.arrays import Array, from_host, to_host
from sepnet.bases.checks import numbers, whole_number
from sepnet.functions.axis_maps import rule
from sepnet.functions.cp import CP
from sepnet.functions.evaluation import column_values
from sepnet.functions.tensor_train import TensorTrain
from sepnet.functions.tucker import Tucker
from sepnet.plotting.canvas import bare, captioned, new_figure, panel_rows
from sepnet.sensitivity import Effect, Effects, sobol
from sepnet.sensitivity import effects as effects_of
from sepnet.spaces import TensorSpace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["effects", "factors", "parity"]

_Curve: TypeAlias = Callable[[np.ndarray], np.ndarray]

_POINTS = 241  # along an axis
_ACROSS = 4  # panels in a row
# Okabe and Ito's colours, which people with any colour vision tell apart; yellow is too light for a line on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_INK, _PALE = "#0072b2", "#bcd5e8"
# Beyond this many points single ones are not seen: they are counted.
_MANY = 5000


def factors(u: Any, *, terms: int = 6, title: str = "", caption: str = "") -> Figure:
    """Draw the univariate functions of a sum of products, one panel an axis, one colour a term.

    A term does not say how its size is shared among its factors, nor its sign: each factor is drawn with mean square
    one over its domain, its largest value positive, and the weight of the term stands in the legend. The terms of
    largest weight are coloured, the others grey.

    Parameters
    ----------
    u : CP
        The function, or one whose ``u.to_cp()`` is exact.
    terms : int, optional
        Number of terms in colour, 1 to 6.
    title, caption : str, optional
        Lines above and below.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If `u` is no such function, or `terms` no integer.
    ValueError
        If `terms` is out of range, `u` has no terms or is not finite.

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), y=sn.BSpline((0, 1), cells=4))
    >>> x, y = V.coordinates
    >>> len(sn.plot.factors(sn.project(x + x * y, V)).axes)
    2
    """
    terms = whole_number("terms", terms, at_least=1, at_most=len(_COLOURS))
    cp = _sum_of_products(u)
    columns, weights = _unit_columns(cp)
    order = np.argsort(-np.abs(weights))
    figure = _sized(cp.space.dim)
    for panel, (name, basis), curves in zip(
        panel_rows(figure, cp.space.dim, _ACROSS), cp.space.items, columns, strict=True
    ):
        points = np.linspace(*basis.domain, _POINTS)
        _plain(panel, name, basis.domain)
        panel.axhline(0.0, color="0.85", linewidth=0.8, zorder=0)
        panel.plot(points, curves[:, order[terms:]], color="0.85", linewidth=0.7, zorder=1)
        for place, r in enumerate(order[:terms]):  # lines that lie on each other are all seen
            width, label = 3.4 - 0.45 * place, f"{weights[r]:+.3g}"
            panel.plot(points, curves[:, r], color=_COLOURS[place], linewidth=width, label=label, zorder=2 + place)
    lines, labels = figure.axes[0].get_legend_handles_labels()
    rest = f"\n(grey: {len(order) - terms} more)" if len(order) > terms else ""
    figure.legend(lines, labels, title=f"weight{rest}", frameon=False, loc="outside right upper", fontsize=9)
    captioned(figure, title, caption)
    return figure


def _sum_of_products(u: Any) -> CP:
    cp = u if isinstance(u, CP) else None
    if cp is None and hasattr(u, "to_cp") and not isinstance(u, TensorTrain | Tucker):  # whose to_cp is a fit
        cp = u.to_cp()
    if not isinstance(cp, CP):
        msg = (
            f"plot.factors: `u` is {type(u).__name__}, expected a sum of products: fit one first, "
            "u.to_cp(tol=1e-6).function"
        )
        raise TypeError(msg)
    if cp.rank == 0 or not all(bool(cp.xp.all(cp.xp.isfinite(f))) for f in cp.factors):
        state = "no terms" if cp.rank == 0 else "coefficients that are not finite"
        msg = f"plot.factors: `u` has {state}, expected a finite function with at least one term: check its source"
        raise ValueError(msg)
    return cp


def _unit_columns(cp: CP) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the values of the factors with mean square one, largest value positive, and the weights of the terms."""
    result, weights = [], np.ones(cp.rank)
    for (name, basis), factor in zip(cp.space.items, cp.factors, strict=True):
        line, host = TensorSpace(**{name: basis}), to_host(factor.detach() if hasattr(factor, "detach") else factor)
        host = np.asarray(host, dtype=np.float64)
        points, lengths = rule([basis])
        grid = np.linspace(*basis.domain, _POINTS)
        inside, drawn = (column_values(line, [host], {name: where})[0] for where in (points, grid))
        size = np.sqrt((lengths / lengths.sum()) @ inside**2)
        size = size * np.where(np.take_along_axis(drawn, np.abs(drawn).argmax(0)[None], 0)[0] < 0, -1.0, 1.0)
        weights = weights * size
        result.append(drawn / np.where(size == 0, 1.0, size))
    return result, weights


def effects(
    u: Any,
    *,
    bands: Mapping[str, tuple[_Curve, _Curve]] | None = None,
    axes: Sequence[str] | None = None,
    title: str = "",
    caption: str = "",
) -> Figure:
    """Draw the mean of a function against each input, and how far the other inputs move it.

    One panel an input, all of one height, with its first and total Sobol index. The line is ``E[u | x_i]``, the pale
    area one standard deviation ``sqrt(Var[u | x_i])`` to both sides: where the line is flat and the area changes its
    width, the input acts through others.

    Parameters
    ----------
    u : Effects, or a function
        What `sepnet.effects` returned, with its densities; of a function the effects for uniform inputs are drawn.
    bands : mapping of str to (callable, callable), optional
        Axis name to lower and upper end of a confidence band of the line: host points (n,) to values (n,).
    axes : sequence of str, optional
        The inputs drawn; by default all, the one of largest total index first.
    title, caption : str, optional
        Lines above and below.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If `u` is neither, or a band is no pair of callables.
    ValueError
        If there is no such axis, or a band returns values of another shape.

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), y=sn.BSpline((0, 1), cells=4))
    >>> x, y = V.coordinates
    >>> figure = sn.plot.effects(sn.project(x**2 + x * y, V))
    >>> [panel.get_xlabel() for panel in figure.axes]
    ['x', 'y']
    """
    found = u if isinstance(u, Effects) else effects_of(u)
    space = found.function.space
    space.check_axes([*(axes or ()), *(bands or ())], "plot.effects")
    indices = sobol(found.function, density=found.measure.density)
    names = list(axes) if axes else sorted(space.names, key=lambda name: -indices.total[name])
    figure = _sized(len(names))
    panels = panel_rows(figure, len(names), _ACROSS, sharey=True)
    for number, (panel, name) in enumerate(zip(panels, names, strict=True)):
        domain = space.axes[name].domain
        points = np.linspace(*domain, _POINTS)
        mean, deviation = _effect_values(found.main[name], points)
        panel.axhline(found.mean, color="0.8", linewidth=0.8, zorder=0)
        panel.fill_between(points, mean - deviation, mean + deviation, color=_PALE, linewidth=0, alpha=0.7)
        for end in _band(bands, name, points):
            panel.plot(points, end, color=_INK, linewidth=0.9, linestyle="--")
        panel.plot(points, mean, color=_INK, linewidth=2)
        _plain(panel, name, domain)
        panel.set_title(f"first {indices.first[name]:.2g}, total {indices.total[name]:.2g}", fontsize=9, color="0.3")
        if number % _ACROSS == 0:
            panel.set_ylabel("mean ± deviation", fontsize=10)
    captioned(figure, title, caption)
    return figure


def _effect_values(effect: Effect, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    curve = effect.curve
    there = from_host(points, curve.xp, device=curve.device, dtype=curve.dtype)
    pair: list[Array] = [curve(there[:, None]), effect.deviation(there)]
    mean, deviation = (to_host(values).astype(np.float64) for values in pair)
    return mean, deviation


def _band(bands: Mapping[str, tuple[_Curve, _Curve]] | None, name: str, points: np.ndarray) -> list[np.ndarray]:
    """Return the ends of the confidence band of one axis, none where none is given."""
    if not bands or name not in bands:
        return []
    pair = bands[name]
    if not isinstance(pair, Sequence) or len(pair) != 2 or not all(map(callable, pair)):
        msg = f"`bands` of axis {name!r} is {pair!r}, expected two callables (lower, upper) of points (n,)"
        raise TypeError(msg)
    ends = [numbers(f"`bands` of axis {name!r}", end(points)) for end in pair]
    if any(end.shape != points.shape for end in ends):
        shapes = " and ".join(str(end.shape) for end in ends)
        msg = f"`bands` of axis {name!r} returned shapes {shapes} for points {points.shape}: expected one value a point"
        raise ValueError(msg)
    return ends


def parity(y: Array, predicted: Array, *, name: str = "", title: str = "", caption: str = "") -> Figure:
    """Draw predictions against the truth, with the root mean square error and the share of variance explained.

    Parameters
    ----------
    y, predicted : array or list, shape (n,)
        Truth and prediction. Beyond 5000 points they are counted in hexagons.
    name : str, optional
        What is predicted, with its unit.
    title, caption : str, optional
        Lines above and below.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If one holds no real numbers.
    ValueError
        If the shapes differ or are not (n,) with n of at least one, or a value is not finite.

    Examples
    --------
    >>> import sepnet as sn
    >>> sn.plot.parity([1.0, 2.0, 3.0], [1.1, 2.0, 2.9]).axes[0].get_xlabel()
    'truth'
    """
    truth, guess = _values("y", y), _values("predicted", predicted)
    if truth.shape != guess.shape:
        msg = f"`y` has {truth.size} values and `predicted` {guess.size}: expected one prediction for each"
        raise ValueError(msg)
    error = float(np.sqrt(np.mean((guess - truth) ** 2)))
    spread = float(np.sqrt(np.mean((truth - truth.mean()) ** 2)))
    low, high = min(truth.min(), guess.min()), max(truth.max(), guess.max())
    margin = 0.04 * (high - low) or max(0.04 * abs(high), 1e-3)
    ends = (low - margin, high + margin)
    figure = new_figure(4.4, 4.4)
    panel = figure.subplots()
    if truth.size > _MANY:
        panel.hexbin(
            truth, guess, gridsize=60, extent=(*ends, *ends), cmap="Blues", bins="log", mincnt=1, linewidths=0.1
        )
    else:
        clear = 0.8 if truth.size < 200 else 0.4
        panel.scatter(truth, guess, s=14, color=_INK, alpha=clear, linewidths=0, rasterized=truth.size > 500, zorder=2)
    panel.plot(ends, ends, color="0.25", linewidth=0.9, zorder=3)
    share = f"R² = {1 - (error / spread) ** 2:.4g}\n" if spread > 0 else ""
    note = f"{share}RMSE = {error:.3g}\nn = {truth.size}"
    panel.text(0.04, 0.96, note, transform=panel.transAxes, va="top", fontsize=9.5, linespacing=1.4)
    panel.set(xlim=ends, ylim=ends, aspect="equal")
    panel.set_xlabel(f"{name}, truth" if name else "truth", fontsize=10)
    panel.set_ylabel(f"{name}, predicted" if name else "predicted", fontsize=10)
    bare(panel)
    captioned(figure, title, caption)
    return figure


def _values(name: str, values: Array) -> np.ndarray:
    """Return a vector of finite numbers on the host."""
    array = values.detach() if hasattr(values, "detach") else values
    host = numbers(f"`{name}`", to_host(array) if hasattr(array, "dtype") else array)
    if host.ndim != 1 or not host.size:
        msg = f"`{name}` has shape {host.shape}, expected (n,) with n of at least one: draw one output at a time"
        raise ValueError(msg)
    if not np.isfinite(host).all():
        msg = f"`{name}` holds values that are not finite, {np.sum(~np.isfinite(host))} of {host.size}: leave them out"
        raise ValueError(msg)
    return host


# ------------------------------------------------------------------------------------------------------------ panels


def _sized(count: int) -> Figure:
    across, up = min(count, _ACROSS), ceil(count / _ACROSS)
    return new_figure(max(2.4 * across + 0.6, 3.6), 2.3 * up + 0.3)


def _plain(panel: Any, name: str, domain: tuple[float, float]) -> None:
    panel.set_xlabel(name, fontsize=10)
    panel.set_xlim(domain)
    panel.locator_params(axis="x", nbins=4)
    panel.locator_params(axis="y", nbins=5)
    bare(panel)
