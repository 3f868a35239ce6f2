"""Separable fluxes from one potential, and the least-squares problem for it: the sharpness of the majorant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import final

import numpy as np
import scipy.sparse

from sepnet.bases import BSpline
from sepnet.bases.basis import Basis
from sepnet.coefficients import Coefficient
from sepnet.solvers.assembly import AxisAssembler, assemblers
from sepnet.solvers.automaton import build_automaton
from sepnet.solvers.axis_matrices import AxisMatrices
from sepnet.solvers.elliptic import Elliptic, common_factors
from sepnet.solvers.sampled import Function, Sampled, roots, sample_coefficient, sample_function
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.spaces import TensorSpace
from sepnet.terms import Term

__all__ = ["FluxSpace", "Linear", "Table", "functional"]

HIGHEST_DEGREE = 14


@final
@dataclass(frozen=True, eq=False)
class Table:
    """A linear map from coefficients of an axis to values at its points, ``values @ (map @ C)``.

    The map is applied first: what it returns are the coefficients of a spline, and the table of the spline and that of
    its derivative then belong to one function, whatever the round-off of the map.
    """

    values: scipy.sparse.csr_array
    map: np.ndarray

    def weighted(self, rows: np.ndarray) -> Table:
        """Multiply the values by a function."""
        return Table(scipy.sparse.csr_array(self.values.multiply(rows[:, None])), self.map)

    def apply(self, factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return values of columns, and what their evaluation added up."""
        moved = self.map @ factor
        return np.asarray(self.values @ moved), np.asarray(abs(self.values) @ np.abs(moved))

    def transposed(self, values: np.ndarray) -> np.ndarray:
        """Return the transpose applied to columns of values."""
        return np.asarray(self.map.T @ (self.values.T @ values))

    def product(self, other: Table) -> np.ndarray:
        """Return the inner products of the values of two tables."""
        return np.asarray(self.map.T @ ((self.values.T @ other.values) @ other.map))

    @property
    def key(self) -> bytes:
        """What makes two tables equal."""
        parts = (self.values.indptr, self.values.indices, self.values.data, self.map)
        return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


@final
@dataclass(frozen=True, eq=False)
class Linear:
    """An affine function of the potential at the quadrature points: ``sum_t prod_k table_tk C_k  +  data``."""

    terms: tuple[tuple[Table, ...], ...]
    data: Sampled

    def weighted(self, rows: Sequence[np.ndarray]) -> Linear:
        """Multiply by a product of functions."""
        terms = tuple(tuple(t.weighted(w) for t, w in zip(term, rows, strict=True)) for term in self.terms)
        return Linear(terms, self.data.weighted(rows))

    def norm(self, factors: Sequence[np.ndarray] | None) -> float:
        """Return the norm for a potential (None: zero), with its round-off added."""
        total = self.data
        for term in self.terms if factors is not None else ():
            parts = [table.apply(c) for table, c in zip(term, factors or (), strict=True)]
            total = total + Sampled(tuple(p for p, _ in parts), tuple(p for _, p in parts))
        return total.norm()


@final
class FluxSpace:
    """The potentials and fluxes for a problem and a function v.

    On an axis with a derivative the fluxes are splines one degree above those of v, on the same cells, and the
    potential is what their derivatives are; on a parameter axis the potential is one degree above v. All cells may be
    halved `level` times.
    """

    def __init__(self, problem: Elliptic, v: Function, level: int = 0) -> None:
        self.problem, self.v = problem, v
        pairs = {n: _bases(b, problem.natural(n), n in problem.diffusion, level) for n, b in v.space.items}
        self.space = TensorSpace(**{n: potential for n, (potential, _) in pairs.items()})
        self.fluxes = {n: flux for n, (_, flux) in pairs.items()}
        rules = TensorSpace(**{n: _wide(flux) for n, flux in self.fluxes.items()})
        data = [problem.reaction, problem.source, *problem.robin.values(), *problem.neumann.values()]
        coefficients = [*problem.diffusion.values(), *data]
        self.axes = assemblers(rules, [t for c in coefficients for t in c.terms])
        self.roots = roots(self.axes, {})

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of coefficients of the potential per axis."""
        return self.space.shape

    @property
    def dim(self) -> int:
        """Number of axes."""
        return self.space.dim

    def blocks(self) -> tuple[list[Linear], Linear]:
        """Return the misfits ``A_i**(-1/2) (s_i - A_i d_i v)`` and the residual ``f - c v + sum_i d_i s_i``.

        With coefficients of several terms, the factors that all of them share are kept as weights, and the rest is
        replaced by a lower bound. Functions of parameters that all diffusions share weigh the residual in the same way.
        """
        names = self.space.names
        misfits: list[Linear] = []
        divergence: list[tuple[Table, ...]] = []
        data = self._sample(self.problem.source)
        if self.problem.reaction.terms:
            data = data + (self._sample(self.problem.reaction) * sample_function(self.v, self.axes)).scaled(-1.0)
        for axis, A in self.problem.diffusion.items():
            flux, slopes, shift, shift_slope = self._component(axis, A)
            gradient = self._sample(A) * sample_function(self.v, self.axes, {axis: 1})
            shared, low = common_factors(A, self.problem.space, names)
            rows = [r.copy() for r in self.roots]
            for name, function in shared.items():
                rows[names.index(name)] /= np.sqrt(np.abs(self.axes[name].data(function)))
            rows[0] = rows[0] / sqrt(low)
            misfits.append(Linear(flux, shift + gradient.scaled(-1.0)).weighted(rows))
            divergence.extend(slopes)
            data = data + shift_slope
        rows = [r.copy() for r in self.roots]
        for name, function in self.problem.shared.items():
            rows[names.index(name)] /= np.sqrt(np.abs(self.axes[name].data(function)))
        return misfits, Linear(tuple(divergence), data).weighted(rows)

    def _component(
        self, axis: str, A: Coefficient
    ) -> tuple[tuple[tuple[Table, ...], ...], tuple[tuple[Table, ...], ...], Sampled, Sampled]:
        """Return ``s_i`` and ``d_i s_i`` as functions of the potential, and what data on the faces add to them."""
        natural = self.problem.natural(axis)
        line = _Line(self.fluxes[axis], self.space.axes[axis], self.axes[axis], A, axis, natural)
        flows, slopes = [], []
        shift, shift_slope = self._none(), self._none()
        for term, map_ in zip(A.terms, line.maps, strict=True):
            flows.append(self._along(term, axis, Table(line.values, map_ @ line.gradient)))
            slopes.append(self._along(term, axis, Table(line.slopes, map_ @ line.gradient)))
        for end, position in zip(("left", "right"), self.v.space.axes[axis].domain, strict=True):
            if line.wide.periodic:
                continue
            if end in natural:
                parts = [(self._on_face(axis, end, position), line.free_end(end))]
            else:
                # The potential vanishes weakly where v is held; the values of v there enter the weak gradient.
                trace = sample_function(self.v, self.axes, {}, {axis: position})
                if trace.norm() == 0.0:
                    continue
                rise = line.held_end(end)
                others = [Coefficient((self._without(t, axis),)) for t in A.terms]
                parts = [(self._sample(c) * trace, map_ @ rise) for c, map_ in zip(others, line.maps, strict=True)]
            for datum, column in parts:
                shift = shift + self._lined(datum, axis, line.values, column)
                shift_slope = shift_slope + self._lined(datum, axis, line.slopes, column)
        return tuple(flows), tuple(slopes), shift, shift_slope

    def _without(self, term: Term, axis: str) -> Term:
        return Term(term.weight, tuple(item for item in term.factors if item[0] != axis))

    def _lined(self, datum: Sampled, axis: str, table: scipy.sparse.csr_array, column: np.ndarray) -> Sampled:
        """Multiply data that are constant along an axis by the spline with coefficients `column`."""
        k = self.space.names.index(axis)
        rows = [np.ones_like(r) for r in self.roots]
        sizes = list(rows)
        rows[k], sizes[k] = np.asarray(table @ column), np.asarray(abs(table) @ np.abs(column))
        return datum.weighted(rows, sizes)

    def _along(self, term: Term, axis: str, own: Table) -> tuple[Table, ...]:
        """Return a term of ``s_i``: the weak gradient on axis i, coefficient times potential on the others."""
        tables = []
        for name in self.space.names:
            if name == axis:
                tables.append(own)
            else:
                basis = self.space.axes[name]
                table = Table(basis.tabulate(self.axes[name].rule.points), np.eye(basis.size))
                tables.append(table.weighted(self.axes[name].data(term.factor(name).coefficient)))
        tables[0] = tables[0].weighted(np.full(self.roots[0].size, term.weight))
        return tuple(tables)

    def _on_face(self, axis: str, end: str, position: float) -> Sampled:
        """Return the outward flux ``g - gamma v`` as ``s_i`` has it, with the sign of the normal."""
        total = self._none()
        if (axis, end) in self.problem.neumann:
            total = self._sample(self.problem.neumann[axis, end])
        if (axis, end) in self.problem.robin:
            trace = sample_function(self.v, self.axes, {}, {axis: position})
            total = total + (self._sample(self.problem.robin[axis, end]) * trace).scaled(-1.0)
        return total if end == "right" else total.scaled(-1.0)

    def _none(self) -> Sampled:
        return Sampled.zero([r.size for r in self.roots])

    def _sample(self, coefficient: Coefficient) -> Sampled:
        return sample_coefficient(coefficient, self.axes)


@final
class _Line:
    """What happens along the axis on which a component of the flux is differentiated.

    Fluxes vanish at natural ends up to what is given there: `inside` embeds those into all splines of their degree
    (`wide`, with `values` and `slopes` at the quadrature points). With a function a of this axis that the terms of
    ``A_i`` have in common, the weak gradient is ``(s / a, q) = -(l, q')`` for all q inside: jumps of a do no harm.
    Otherwise it is ``(s, q) = -(l, q') + [l q]`` for all splines q, the bracket at natural ends only, and `maps` are
    the L2 projections inside of its products with the functions of the terms.
    """

    def __init__(
        self, flux: Basis, potential: Basis, assembler: AxisAssembler, A: Coefficient, axis: str, natural: Sequence[str]
    ) -> None:
        points, weights = assembler.rule
        self.wide = _wide(flux)
        self.values, self.slopes = self.wide.tabulate(points), self.wide.tabulate(points, 1)
        self.inside = np.eye(self.wide.size) if self.wide == flux else self.wide.embed(flux)
        functions = [assembler.data(t.factor(axis).coefficient) for t in A.terms]
        common = len({t.factor(axis).coefficient for t in A.terms}) == 1
        self._weights = weights / functions[0] if common else weights
        full = self._products(self.values, self._weights, self.values)
        self._gram = self.inside.T @ full @ self.inside
        right = -self._products(self.slopes, weights, potential.tabulate(points))
        if common:
            self._tests, self._mass = self.inside, self._gram
            self.maps = [self.inside] * len(functions)
        else:
            self._tests, self._mass = np.eye(self.wide.size), full
            for end in natural:
                right = right + np.outer(self._end(end), potential.tabulate([self._place(end)]).toarray())
            self.maps = [self._projected(self._products(self.values, weights * f, self.values)) for f in functions]
        self.gradient = np.linalg.solve(self._mass, self._tests.T @ right)

    @staticmethod
    def _products(left: scipy.sparse.csr_array, rows: np.ndarray, right: scipy.sparse.csr_array) -> np.ndarray:
        return np.asarray((left.T @ right.multiply(rows[:, None])).toarray())

    def _place(self, end: str) -> float:
        return self.wide.domain[0 if end == "left" else 1]

    def _end(self, end: str) -> np.ndarray:
        """Return the values of all splines at an end, with the sign of the normal."""
        row = self.wide.tabulate([self._place(end)]).toarray()[0]
        return np.asarray(-row if end == "left" else row)

    def _projected(self, products: np.ndarray) -> np.ndarray:
        """Return the projection inside, from inner products with all splines."""
        return np.asarray(self.inside @ np.linalg.solve(self._gram, self.inside.T @ products))

    def held_end(self, end: str) -> np.ndarray:
        """Return the weak gradient of a function with the value one at a held end, beside what the potential gives."""
        return np.asarray(np.linalg.solve(self._mass, self._tests.T @ self._end(end)))

    def free_end(self, end: str) -> np.ndarray:
        """Return the flux of value one at a natural end and zero at the other that is orthogonal to all inside."""
        low, high = self.wide.domain
        share = (self.wide.nodes - low) / (high - low)
        column = self.wide.interpolate(share if end == "right" else 1 - share)
        return np.asarray(column - self._projected(self.values.T @ (self._weights * (self.values @ column))))


def _bases(basis: Basis, natural: tuple[str, ...], differentiated: bool, level: int) -> tuple[Basis, Basis]:
    """Return the bases of the potential and of the flux along an axis (parameters: of the potential, twice)."""
    for _ in range(level):
        basis = basis.refine()
    richer = _richer(basis, 0 if differentiated else -1)
    if not differentiated:
        return richer, richer
    if basis.periodic or not isinstance(basis, BSpline):
        flux = richer
        potential = basis if basis.periodic else richer.derivative_basis(1)
    else:
        flux, potential = richer, richer.derivative_basis(1)
    if natural:
        flux = flux.with_zero("both" if len(natural) == 2 else "left" if natural[0] == "left" else "right")
    return _wide(potential), flux


def _wide(basis: Basis) -> Basis:
    return basis if basis.periodic else basis.with_zero(None)


def _richer(basis: Basis, least: int) -> Basis:
    """Return a basis of one degree more on the same cells, with kinks where `basis` is less smooth than its degree."""
    if not isinstance(basis, BSpline):
        return basis if basis.periodic else basis.with_zero(None).refine()
    degree = min(basis.degree, HIGHEST_DEGREE) + 1
    smooth = [c + 1 if c == basis.degree - 1 else max(c, least) for c in basis.continuity]
    smooth = [min(c, degree - 1) for c in smooth]
    return BSpline(breaks=basis.breaks, degree=degree, continuity=smooth or None, periodic=basis.periodic)


def functional(space: FluxSpace, blocks: Sequence[tuple[float, Linear]]) -> tuple[SeparableMatrix, SeparableVector]:
    """Return matrix and load of the potential that minimises the weighted sum of the squared norms of `blocks`."""
    d = space.dim
    stores: list[_Store] = [_Store() for _ in range(d)]
    matrix_index, matrix_weights, load_index, load_weights = [], [], [], []
    vectors: list[list[np.ndarray]] = [[] for _ in range(d)]
    for weight, block in blocks:
        numbers = [[stores[k].table(t) for k, t in enumerate(term)] for term in block.terms]
        for one in numbers:
            for other in numbers:
                matrix_index.append([stores[k].product(one[k], other[k]) for k in range(d)])
                matrix_weights.append(weight)
            first = [len(v) for v in vectors]
            for k in range(d):
                vectors[k].extend(stores[k].tables[one[k]].transposed(block.data.values[k]).T)
            for r in range(block.data.values[0].shape[1]):
                load_index.append([n + r for n in first])
                load_weights.append(-weight)
    axes = []
    for store in stores:
        matrices = np.stack(store.matrices, axis=1)
        axes.append(AxisMatrices("dense", matrices, None, matrices.shape[0] - 1))
    index, weights = np.array(matrix_index), np.array(matrix_weights)
    matrix = SeparableMatrix(
        space.space, tuple(axes), build_automaton(index, weights, tuple(a.count for a in axes)), index, weights
    )
    stacked = tuple(np.stack(v) if v else np.zeros((1, n)) for v, n in zip(vectors, space.shape, strict=True))
    rows, scales = np.array(load_index).reshape(-1, d), np.array(load_weights)
    automaton = build_automaton(rows, scales, tuple(v.shape[0] for v in stacked))
    return matrix, SeparableVector(stacked, automaton, rows, scales)


@final
class _Store:
    """The distinct tables of an axis and the distinct products of two of them."""

    def __init__(self) -> None:
        self.tables: list[Table] = []
        self.matrices: list[np.ndarray] = []
        self._known: dict[bytes, int] = {}
        self._products: dict[tuple[int, int], int] = {}

    def table(self, table: Table) -> int:
        key = table.key
        if key not in self._known:
            self._known[key] = len(self.tables)
            self.tables.append(table)
        return self._known[key]

    def product(self, left: int, right: int) -> int:
        if (left, right) not in self._products:
            self._products[left, right] = len(self.matrices)
            self.matrices.append(self.tables[left].product(self.tables[right]))
        return self._products[left, right]
