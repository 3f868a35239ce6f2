"""Product measures on a box: a probability density on each axis, as quadrature rules whose weights add up to one.

Everything here is set-up: float64 on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, TypeAlias, final

import numpy as np

from sepnet.bases.basis import Basis, Quadrature, gauss_rule
from sepnet.spaces import TensorSpace
from sepnet.univariate import Applied, Univariate

__all__ = ["Density", "ProductMeasure", "pickled", "product_measure"]

Density: TypeAlias = Mapping[str, Callable[[np.ndarray], np.ndarray]]

# A density is refused where its integral differs from one by more than this.
TOLERANCE = 1e-6
# Points a cell for a density that is no polynomial, beyond what the basis alone needs.
EXTRA_POINTS = 8
# A cell is halved while its moments change by more than this many units of round-off of the whole mass.
ROUND_OFF = 64
# Halvings of one cell: a square-root singularity at an end at 0 needs about a hundred.
MOST_HALVINGS = 128
# Cells that the rule of one density may have; one that oscillates without end would fill the memory.
MOST_CELLS = 2**16


def pickled(record: Any) -> tuple[Any, ...]:
    """Return what `__reduce__` of a dataclass has to: read-only views of mappings cannot be pickled, dicts can.

    Parameters
    ----------
    record : dataclass
        Its fields that are `MappingProxyType` are so again in the copy.

    Returns
    -------
    tuple
    """
    values = (getattr(record, f.name) for f in fields(record))
    return _restored, (type(record), *(dict(v) if isinstance(v, MappingProxyType) else v for v in values))


def _restored(kind: Any, *values: Any) -> Any:
    return kind(*(MappingProxyType(v) if isinstance(v, dict) else v for v in values))


@final
@dataclass(frozen=True, eq=False)
class ProductMeasure:
    """Independent inputs: a Gauss rule an axis, with weights that add up to one.

    Attributes
    ----------
    space : TensorSpace
        The axes.
    rules : mapping of str to Quadrature
        Exact for products of two basis functions with the density; for densities that are no polynomials to about
        1e-13.
    density : mapping of str to callable
        The densities given; the other axes are uniform.
    """

    space: TensorSpace
    rules: Mapping[str, Quadrature]
    density: Density

    def __reduce__(self) -> tuple[Any, ...]:
        """See `pickled`; densities must be picklable themselves."""
        return pickled(self)

    def mean_row(self, name: str) -> np.ndarray:
        """Return the means of the basis functions of an axis, host float64, shape (size,)."""
        points, weights = self.rules[name]
        return np.asarray(self.space.axes[name].tabulate(points).T @ weights)


def product_measure(space: TensorSpace, density: Density | None = None) -> ProductMeasure:
    """Return the product measure with given densities on some axes, uniform on the others.

    Parameters
    ----------
    space : TensorSpace
        The axes.
    density : mapping of str to callable, optional
        Axis name to a probability density: host points (n,) to values (n,), not negative, with integral one over the
        domain of the axis. It may jump, and be infinite at the ends as an inverse square root is: cells are halved
        until the moments that are needed no longer change.

    Returns
    -------
    ProductMeasure

    Raises
    ------
    TypeError
        If `density` is no mapping of names to callables, or one returns no real numbers.
    ValueError
        If there is no such axis, or a density is negative or not finite, or its integral differs from one by more than
        1e-6. What differs by less is divided by it.

    Examples
    --------
    >>> import sepnet as sn
    >>> from sepnet.measures import product_measure
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4))
    >>> rule = product_measure(V, {"x": lambda x: 2 * x}).rules["x"]
    >>> round(float(rule.weights @ rule.points), 12)
    0.666666666667
    """
    given: Density = {} if density is None else density
    if not isinstance(given, Mapping):
        kind = type(density).__name__
        msg = f"`density` is {kind}, expected a mapping such as {{'x': pdf}}, or None for uniform inputs"
        raise TypeError(msg)
    space.check_axes(given, "`density`")
    rules = {}
    for name, basis in space.items:
        if name in given:
            rules[name] = _weighted_rule(name, basis, given[name])
        else:
            points, weights = basis.quadrature()
            rules[name] = Quadrature(points, weights / (basis.domain[1] - basis.domain[0]))
    return ProductMeasure(space, MappingProxyType(rules), MappingProxyType(dict(given)))


def _weighted_rule(name: str, basis: Basis, density: object) -> Quadrature:
    """Return a rule for the density on the breaks of the basis, with cells halved where the density needs it."""
    if not callable(density):
        msg = (
            f"`density` of axis {name!r} is {type(density).__name__}, expected a callable of points (n,) that returns "
            "values (n,): a probability density"
        )
        raise TypeError(msg)
    weight = Univariate((1.0,), (Applied(density, (Univariate((0.0, 1.0)),)),))
    count = basis.quadrature().points.size // (basis.breaks.size - 1) + EXTRA_POINTS
    cells = np.stack([basis.breaks[:-1], basis.breaks[1:]], axis=1)
    accepted: list[np.ndarray] = []
    for _ in range(MOST_HALVINGS):
        rough, masses = _moments(weight, cells, cells, count)
        middle = cells.mean(axis=1)
        left, right = np.stack([cells[:, 0], middle], axis=1), np.stack([middle, cells[:, 1]], axis=1)
        fine = _moments(weight, left, cells, count)[0] + _moments(weight, right, cells, count)[0]
        # Where a density is steep, the rounding of the points is seen in its values: no halving mends that.
        width, unit = cells[:, 1] - cells[:, 0], np.spacing(np.abs(cells).max(axis=1))
        seen = ROUND_OFF * (np.finfo(np.float64).eps * max(1.0, masses.sum()) + unit / width * masses)
        splits = (np.abs(rough - fine).max(axis=1) > seen) & (width > 1e3 * unit)
        accepted.append(cells[~splits])
        cells = np.concatenate([left[splits], right[splits]])
        if not len(cells) or sum(map(len, accepted)) + len(cells) > MOST_CELLS:
            break
    ends = np.concatenate([*accepted, cells])
    points, lengths = gauss_rule(np.sort(np.append(ends[:, 0], basis.domain[1])), count)
    weights = lengths * weight(points)
    if weights.min() < 0:
        where = points[weights.argmin()]
        msg = f"`density` of axis {name!r} is negative at {where:g}, expected a probability density: correct it"
        raise ValueError(msg)
    total = float(weights.sum())
    if not abs(total - 1.0) <= TOLERANCE:
        msg = (
            f"`density` of axis {name!r} has the integral {total:.8g} over the domain {basis.domain}, expected 1 to "
            f"{TOLERANCE:g}: divide it by its integral there; where it has a peak far narrower than a cell, put breaks "
            "around that"
        )
        raise ValueError(msg)
    return Quadrature(points, weights / total)


def _moments(weight: Univariate, cells: np.ndarray, frames: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the moments of the density on cells, in the coordinates [-1, 1] of their frames, and their masses."""
    nodes, lengths = gauss_rule(np.array([-1.0, 1.0]), count)
    half = np.diff(cells, axis=1) / 2
    points = cells.mean(axis=1)[:, None] + half * nodes
    local = (2 * points - frames.sum(axis=1)[:, None]) / np.diff(frames, axis=1)
    masses = half * lengths * weight(points.reshape(-1)).reshape(points.shape)
    powers = local[:, :, None] ** np.arange(2 * (count - EXTRA_POINTS))
    return np.einsum("cq,cqk->ck", masses, powers), np.abs(masses).sum(axis=1)
