"""B-splines of any degree on any breaks, with their own continuity at each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, final

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from sepnet.backends import arrays
from sepnet.bases import knots as kn
from sepnet.bases.basis import SMOOTH, Basis, Kind, Pieces, frozen, no_derivative, same_domain
from sepnet.bases.checks import (
    Zero,
    cell_ends,
    checked_points,
    continuities,
    domain_text,
    ends,
    number_text,
    whole_number,
    zero_of,
)
from sepnet.bases.joints import joined

__all__ = ["BSpline"]

_HIGHEST_DEGREE = 15  # for users; products of two such splines are the highest there are
_HIGHEST_PRODUCT = 2 * _HIGHEST_DEGREE
_FAST_DEGREE = 7  # Greville points and kernels are good up to here


@final
@dataclass(frozen=True, init=False, repr=False)
class BSpline(Basis):
    """B-splines: piecewise polynomials with local support that sum to one.

    Parameters
    ----------
    domain : tuple[float, float], optional
        The interval; may be left out if `breaks` are given.
    cells : int, optional
        Number of equal cells, at least 1.
    degree : int
        Polynomial degree, 0 to 15.
    breaks : sequence of float, optional
        Instead of `cells`: the ends of the cells, rising, both ends of the domain included.
    continuity : int, sequence of int or mapping of float to int, optional
        How many derivatives are continuous at the interior breaks, from -1 (the value may jump) to ``degree - 1``,
        the default. A sequence has one entry for each interior break; a periodic basis takes one more for the seam
        (else ``degree - 1`` there). A mapping names the places where it is lower, such as the interface of two
        materials, ``{0.4: 0}``: with `cells`, the domain is divided there, into equal cells on either side.
    zero : None, "left", "right" or "both"
        Leave out the functions that do not vanish at these ends.
    periodic : bool
        Join the ends.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of its range, if two contradict each other, or if no function is
        left.

    Notes
    -----
    Values are computed by the Cox-de Boor recurrence (de Boor, A Practical Guide to Splines, chapter X) in
    coordinates of the cell: sums and products of positive numbers only, exact at the ends.

    Examples
    --------
    >>> V = BSpline((0, 1), cells=4, degree=2, zero="left")
    >>> V
    BSpline((0, 1), cells=4, degree=2, zero="left")
    >>> V.size
    5
    >>> V.values(1.0)
    array([0., 0., 0., 0., 1.])

    An interface at 0.4, where slopes may jump:

    >>> BSpline((0, 1), cells=5, continuity={0.4: 0})
    BSpline((0, 1), cells=5, degree=3, continuity=(2, 0, 2, 2))
    """

    _breaks: tuple[float, ...]
    _continuity: tuple[int, ...]

    def __init__(
        self,
        domain: tuple[float, float] | None = None,
        cells: int | None = None,
        *,
        degree: int = 3,
        breaks: Sequence[float] | np.ndarray | None = None,
        continuity: int | Sequence[int] | Mapping[float, int] | None = None,
        zero: Zero = None,
        periodic: bool = False,
    ) -> None:
        degree = whole_number("degree", degree, at_least=0, at_most=_HIGHEST_DEGREE)
        if not isinstance(periodic, (bool, np.bool_)):
            msg = f"`periodic` is {periodic!r}, expected True or False: write one of them"
            raise TypeError(msg)
        if isinstance(continuity, Mapping):
            edges, continuity = joined(domain, cells, breaks, continuity, degree, periodic=bool(periodic))
        else:
            edges = cell_ends(domain, cells, breaks)
        smooth = continuities(continuity, degree, len(edges) - 2, periodic=bool(periodic))
        self._assemble(edges, degree, smooth, zero, bool(periodic))

    @classmethod
    def _of(
        cls, breaks: Sequence[float], degree: int, continuity: Sequence[int], zero: Zero, *, periodic: bool
    ) -> Self:
        """Build from parts in normal form (continuity: interior breaks, then the seam), also at degrees of products."""
        if degree > _HIGHEST_PRODUCT:
            msg = (
                f"`degree` of the product would be {degree}, expected at most {_HIGHEST_PRODUCT}: "
                "bring the factors to a lower degree first, `u.project(W)`"
            )
            raise ValueError(msg)
        self = cls.__new__(cls)
        self._assemble(tuple(breaks), degree, tuple(continuity), zero, periodic)
        return self

    def _assemble(
        self, breaks: tuple[float, ...], degree: int, continuity: tuple[int, ...], zero: Zero, periodic: bool
    ) -> None:
        sides = ends(zero)
        if periodic and sides:
            msg = f"`zero` is {zero!r} and `periodic` is True, expected one of them: a ring has no ends; leave out one"
            raise ValueError(msg)
        self._set(
            domain=(breaks[0], breaks[-1]),
            degree=degree,
            zero=zero,
            periodic=periodic,
            _breaks=breaks,
            _continuity=continuity,
        )
        if self.size < 1:
            msg = (
                f"`zero` is {zero!r} on {len(breaks) - 1} cells of degree {degree}, which leaves no function: "
                "raise `cells` or `degree`, or leave out an end"
            )
            raise ValueError(msg)

    def __repr__(self) -> str:
        count = len(self._breaks) - 1
        if self._breaks == tuple(np.linspace(*self.domain, count + 1).tolist()):
            text = f"{domain_text(self.domain)}, cells={count}"
        else:
            texts = [number_text(b) for b in self._breaks]
            shown = texts if len(texts) <= 8 else [*texts[:3], "...", texts[-1]]
            text = f"breaks=({', '.join(shown)})"
        text += f", degree={self.degree}"
        if any(c != self.degree - 1 for c in self._continuity):
            uniform = len(set(self._continuity)) == 1
            several = str(self._continuity) if len(self._continuity) <= 8 else f"<{len(self._continuity)} values>"
            text += f", continuity={self._continuity[0] if uniform else several}"
        if self.zero is not None:
            text += f', zero="{self.zero}"'
        return f"BSpline({text}{', periodic=True' if self.periodic else ''})"

    # -------------------------------------------------------------------------------------------------- its numbers

    @cached_property
    def size(self) -> int:
        """Number of functions."""
        inner = sum(self.degree - c for c in self._continuity)
        return inner if self.periodic else inner + self.degree + 1 - len(ends(self.zero))

    @property
    def kind(self) -> Kind:
        """``"banded"``; periodic: ``"cyclic"``, or ``"dense"`` if too short for a band."""
        if not self.periodic:
            return "banded"
        return "dense" if self.size <= 2 * self.degree else "cyclic"

    @property
    def bandwidth(self) -> int:
        """The degree, or ``size - 1`` if that is less or all functions overlap."""
        return self.size - 1 if self.kind == "dense" else min(self.degree, self.size - 1)

    @property
    def smoothness(self) -> int:
        """The lowest continuity at an interior break or the seam; ``SMOOTH`` without any."""
        return min(self._continuity, default=SMOOTH)

    @property
    def max_order(self) -> int:
        """``smoothness + 1``, at most the degree."""
        return min(self.smoothness + 1, self.degree)

    @property
    def continuity(self) -> tuple[int, ...]:
        """Continuity at each interior break, and last at the seam if periodic."""
        return self._continuity

    @cached_property
    def breaks(self) -> np.ndarray:
        """Ends of the cells, float64, shape (cells + 1,), rising."""
        return frozen(np.array(self._breaks))

    @cached_property
    def _knots(self) -> tuple[np.ndarray, np.ndarray]:
        knots, spans = kn.knot_vector(self.breaks, self.degree, self._continuity, periodic=self.periodic)
        return frozen(knots), frozen(spans)

    @property
    def knots(self) -> np.ndarray:
        """The open knot vector (`zero` leaves it as it is), or the periodic one extended to both sides."""
        return self._knots[0]

    @property
    def _shift(self) -> int:
        """Number of functions left out on the left."""
        return int("left" in ends(self.zero))

    @cached_property
    def _columns(self) -> np.ndarray:
        """Basis function of each local function, shape (cells, degree + 1); -1 if left out."""
        local = (self._knots[1] - self.degree)[:, None] + np.arange(self.degree + 1)
        column = local % self.size if self.periodic else local - self._shift
        return frozen(np.where((column >= 0) & (column < self.size), column, -1).astype(np.int64))

    @cached_property
    def greville(self) -> np.ndarray:
        """Knot averages of the functions, float64, shape (size,); periodic ones are brought into the domain."""
        return frozen(self._inside(kn.greville_points(self.knots, self.degree, self.size + self._shift)))

    @cached_property
    def nodes(self) -> np.ndarray:
        """Greville points, off the breaks where values jump, float64, shape (size,).

        Above degree 7 averages lose digits (their Lebesgue constant on one cell is 5e2 at degree 15, 7e6 at 30), so
        they are moved by exchange there.
        """
        count = self.size + self._shift
        averages = kn.greville_points(self.knots, self.degree, count)
        points = self._inside(kn.move_off_jumps(averages, self.knots, self.degree, periodic=self.periodic))
        points = np.sort(points)
        if self.degree > _FAST_DEGREE:
            moved = kn.exchange_nodes(points, kn.spread_points(self.breaks, 2 * (self.degree + 2)), self.tabulate)
            # signs cannot alternate around a ring of odd size, and then the exchange may do harm
            if not self.periodic or self._condition(moved) < self._condition(points):
                points = moved
        return frozen(points)

    def _condition(self, points: np.ndarray) -> float:
        return float(np.linalg.cond(self.tabulate(points).toarray()))

    def _inside(self, points: np.ndarray) -> np.ndarray:
        left, right = self.domain
        if not self.periodic:
            return np.asarray(np.clip(points[self._shift :], left, right))
        points = left + np.mod(points - left, right - left)
        return np.where(points >= right, left, points)

    # --------------------------------------------------------------------------------------------------- evaluation

    @cached_property
    def pieces(self) -> Pieces:
        """The basis cell by cell as polynomials."""
        table = kn.monomial_table(*self._knots, self.degree)
        lost = self._columns < 0
        table[np.broadcast_to(lost[:, None, :], table.shape)] = 0.0
        return Pieces(self.breaks, frozen(np.where(lost, 0, self._columns)), frozen(table))

    @cached_property
    def _margins(self) -> tuple[np.ndarray, np.ndarray]:
        return kn.cell_margins(*self._knots, self.degree)

    def _local(self, x: arrays.Array, derivative: int) -> tuple[arrays.Array, list[arrays.Array]]:
        """Cells of the points and the derivatives of the ``degree + 1`` functions there, each of shape (n,)."""
        xp, device = arrays.namespace(x), arrays.device_of(x)

        def there(array: np.ndarray) -> arrays.Array:
            return arrays.from_host(np.array(array), xp, device=device, dtype=x.dtype)

        edges = there(self.breaks)
        if not bool(xp.all(edges[1:] > edges[:-1])):
            what = f"too coarse to tell the breaks of {self!r} apart: pass float64 points"
            msg = f"`points` are {arrays.describe(x)}, {what}"
            raise TypeError(msg)
        found = xp.searchsorted(edges, x.detach() if arrays.needs_autograd(x) else x, side="right") - 1
        cell = xp.clip(found, 0, len(self.breaks) - 2)
        width = arrays.gather(there(np.diff(self.breaks)), cell)
        if self.degree < derivative:
            return cell, [0.0 * x] * (self.degree + 1)
        from_left = (x - xp.take(edges, cell, axis=0)) / width
        to_right = (xp.take(edges, cell + 1, axis=0) - x) / width
        before, after = (arrays.gather(there(m), cell) for m in self._margins)
        return cell, kn.triangle(from_left, to_right, before, after, width, self.degree, derivative)

    def _values(self, x: arrays.Array, derivative: int) -> arrays.Array:
        xp, device = arrays.namespace(x), arrays.device_of(x)
        cell, local = self._local(x, derivative)
        columns = arrays.gather(arrays.from_host(np.array(self._columns), xp, device=device), cell)
        every = xp.arange(self.size, device=device, dtype=columns.dtype)[None, :]
        nothing = xp.zeros((), device=device, dtype=x.dtype)
        result = xp.zeros((x.shape[0], self.size), device=device, dtype=x.dtype)
        for j, value in enumerate(local):  # a short periodic basis meets itself: local functions add up
            result = result + xp.where(columns[:, j : j + 1] == every, value[:, None], nothing)
        return result

    def tabulate(self, points: Any, derivative: int = 0) -> scipy.sparse.csr_array:
        """Evaluate as `values` does, for set-up: host points (n,) to a sparse float64 matrix (n, size)."""
        order = whole_number("derivative", derivative, at_least=0)
        x, _ = checked_points(np.asarray(points, dtype=np.float64), self.domain)
        cell, local = self._local(x, order)
        columns = self._columns[cell]
        keep = columns >= 0
        rows = np.broadcast_to(np.arange(len(x))[:, None], columns.shape)
        entries = (np.stack(local, axis=1)[keep], (rows[keep], columns[keep]))
        return scipy.sparse.csr_array(scipy.sparse.coo_array(entries, shape=(len(x), self.size)))

    def integrals(self) -> np.ndarray:
        """Integrals of the functions, float64, shape (size,): the length of the support over ``degree + 1``."""
        i = np.arange(self._shift, self._shift + self.size)
        return np.asarray(self.knots[i + self.degree + 1] - self.knots[i]) / (self.degree + 1)

    @cached_property
    def _collocation_solver(self) -> Callable[[np.ndarray], np.ndarray]:
        solve = scipy.sparse.linalg.splu(self.tabulate(self.nodes).tocsc()).solve
        return lambda right: np.asarray(solve(right))

    # ----------------------------------------------------------------------------------------------------- calculus

    def derivative_basis(self, order: int) -> Basis:
        """Return the B-splines of degree ``degree - order`` on the same breaks; ValueError above `max_order`."""
        order = whole_number("order", order, at_least=0)
        if order > self.max_order:
            raise no_derivative(self, order)
        if order == 0:
            return self
        lower = [c - order for c in self._continuity]
        return self._of(self._breaks, self.degree - order, lower, None, periodic=self.periodic)

    def product_basis(self, other: Basis) -> Basis:
        """Return the splines that hold all products: degrees add up, breaks join, the lower continuity stays.

        An end zero of either stays too; two periodic bases have a periodic one; polynomials are splines of one cell.
        """
        partner = self._spline(other)
        return self._joined(partner, self.degree + partner.degree, ends(self.zero) | ends(partner.zero))

    def sum_basis(self, other: Basis) -> Basis:
        """Return the smallest spline space with both: the higher degree, breaks joined, the end zeros they share."""
        partner = self._spline(other)
        return self._joined(partner, max(self.degree, partner.degree), ends(self.zero) & ends(partner.zero))

    def _spline(self, other: Basis) -> BSpline:
        same_domain(self, other)
        spline = other.as_spline()
        assert isinstance(spline, BSpline)  # by `as_spline`
        return spline

    def as_spline(self) -> Basis:
        """Return this basis."""
        return self

    def _joined(self, other: BSpline, degree: int, zero: frozenset[str]) -> BSpline:
        breaks, continuity = [self.domain[0]], []
        for place, i, j in kn.match_breaks(self.breaks, other.breaks):
            breaks.append(place)
            mine = SMOOTH if i is None else self._continuity[i]
            continuity.append(min(mine, SMOOTH if j is None else other._continuity[j]))
        breaks.append(self.domain[1])
        periodic = self.periodic and other.periodic
        if periodic:
            continuity.append(min(self._continuity[-1], other._continuity[-1]))
        return self._of(breaks, degree, continuity, zero_of(zero), periodic=periodic)

    def refine(self) -> Self:
        """Return the splines with every cell halved: old breaks keep their continuity, new ones have ``degree - 1``.

        Raises
        ------
        ValueError
            If a cell is too small to be halved in float64.
        """
        middles = self.breaks[:-1] / 2 + self.breaks[1:] / 2
        if not (np.all(middles > self.breaks[:-1]) and np.all(middles < self.breaks[1:])):
            msg = f"the cells of {self!r} cannot be halved in float64, expected wider ones: merge the smallest cells"
            raise ValueError(msg)
        breaks = np.sort(np.concatenate([self.breaks, middles])).tolist()
        inner = [c for old in self._continuity[: len(middles) - 1] for c in (self.degree - 1, old)]
        continuity = [*inner, self.degree - 1, *self._continuity[len(middles) - 1 :]]
        return self._of(breaks, self.degree, continuity, self.zero, periodic=self.periodic)

    def with_zero(self, zero: Zero) -> Self:
        """Return the same splines with other end conditions."""
        return self._of(self._breaks, self.degree, self._continuity, zero, periodic=self.periodic)

    def parameters(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "breaks": list(self._breaks),
            "degree": self.degree,
            "continuity": list(self._continuity),
            "zero": self.zero,
            "periodic": self.periodic,
        }

    @classmethod
    def from_parameters(cls, parameters: dict[str, Any]) -> Self:
        """Return the basis with these `parameters`; the degrees of products, beyond 15, are allowed."""
        degree = whole_number("degree", parameters["degree"], at_least=0)
        if degree <= _HIGHEST_DEGREE:
            return cls(**parameters)
        edges, periodic = cell_ends(None, None, parameters["breaks"]), bool(parameters["periodic"])
        smooth = continuities(parameters["continuity"], degree, len(edges) - 2, periodic=periodic)
        return cls._of(edges, degree, smooth, parameters["zero"], periodic=periodic)
