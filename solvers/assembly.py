"""Assembly: integrals of separable terms become tables of one-dimensional matrices and vectors.

Gauss quadrature on every cell; nothing of the size of the tensor product exists. Equal 1-D matrices of an axis are
computed and stored once; the table of terms refers to them by number.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any, final

import numpy as np
import scipy.sparse

from sepnet.bases.basis import Basis, Quadrature, gauss_rule
from sepnet.bases.matrix_axis import Assembled
from sepnet.forms import BilinearForm
from sepnet.functions.axis_maps import join_breaks
from sepnet.solvers.given_axis import GivenAxis
from sepnet.spaces import TensorSpace
from sepnet.terms import Factor, Term
from sepnet.univariate import Univariate

__all__ = ["AxisAssembler", "LoadTable", "MatrixTable", "assemble", "assemble_loads", "assemble_matrices", "assemblers"]

# Beyond the points that polynomials need: for callables, whose smoothness is not known.
CALLABLE_POINTS = 8
# Their norms count as settled, or as not resolved, when doubling the points changes them by these shares.
SETTLED, UNRESOLVED, MOST_POINTS = 1e-10, 1e-4, 96
# Exactness is for polynomials; higher polynomial coefficients than this are integrated like callables.
MAX_POLYNOMIAL = 64


@final
@dataclass(frozen=True)
class MatrixTable:
    """A bilinear form as per-axis sparse 1-D matrices and a table of terms.

    Parameters
    ----------
    space : TensorSpace
        Trial and test space.
    matrices : tuple of tuple of csr_array
        For each axis the distinct matrices ``A[i, k] = int c (D B_i)(D' B_k)``, rows for the test functions.
    index : ndarray of shape (M, d)
        Number of the matrix of each term on each axis.
    weights : ndarray of shape (M,)
        Weights of the terms.
    """

    space: TensorSpace
    matrices: tuple[tuple[scipy.sparse.csr_array, ...], ...]
    index: np.ndarray
    weights: np.ndarray

    def __repr__(self) -> str:
        """Tell the number of terms and of distinct matrices per axis."""
        counts = ", ".join(f"{n}: {len(m)}" for n, m in zip(self.space.names, self.matrices, strict=True))
        return f"MatrixTable({self.weights.size} terms; distinct matrices per axis {counts})"


@final
@dataclass(frozen=True)
class LoadTable:
    """A linear form as per-axis vectors (n_b, N) and a table of terms.

    `noise` is the size, as a Euclidean norm, of everything that was added up: round-off is proportional to it.
    """

    space: TensorSpace
    vectors: tuple[np.ndarray, ...]
    index: np.ndarray
    weights: np.ndarray
    noise: float


@final
class AxisAssembler:
    """Quadrature and cached tables of one axis.

    Parameters
    ----------
    name : str
        Name of the axis, for messages.
    basis : Basis
        Trial and test basis.
    functions : iterable of Univariate
        All coefficients and data that will be integrated: they decide the rule.

    Attributes
    ----------
    rule : Quadrature
        The rule; not there on an axis given by matrices.
    given : GivenAxis or None
        What stands in for it on such an axis.
    """

    def __init__(self, name: str, basis: Basis, functions: Iterable[Univariate]) -> None:
        self.name = name
        self.basis = basis
        self.given = GivenAxis(name, basis) if isinstance(basis, Assembled) else None
        if self.given is None:
            self.rule = _rule_for(name, basis, set(functions))
        self._tables: dict[Factor, tuple[scipy.sparse.csr_array, np.ndarray]] = {}
        self._values: dict[Univariate, np.ndarray] = {}
        self._raw: dict[tuple[int, float | None], scipy.sparse.csr_array] = {}

    def table(self, factor: Factor) -> tuple[scipy.sparse.csr_array, np.ndarray]:
        """Return the values of ``factor(B_n)`` at the quadrature points (m, N), and the weights (m,)."""
        if factor not in self._tables:
            points, weights = self._points(factor.at)
            raw = self._raw.get((factor.order, factor.at))
            if raw is None:
                raw = scipy.sparse.csr_array(self.basis.tabulate(points, factor.order))
                self._raw[factor.order, factor.at] = raw
            values = self._finite(factor.coefficient(points))
            self._tables[factor] = (scipy.sparse.csr_array(raw * values[:, None]), weights)
        return self._tables[factor]

    def _points(self, at: float | None) -> Quadrature:
        return self.rule if at is None else Quadrature(np.array([at]), np.ones(1))

    def weighted(self, functions: Sequence[Univariate], *, magnitude: bool = False) -> np.ndarray:
        """Return values at the quadrature points, scaled by root weights: the Euclidean norm is the L2 norm.

        With `magnitude`, they are what the evaluation adds up, in absolute value.
        """
        if self.given is not None:
            columns = self.given.weighted(functions)
            return np.abs(columns) if magnitude else columns
        values = [f.magnitude(self.rule.points) if magnitude else self.data(f) for f in functions]
        return np.asarray(np.sqrt(self.rule.weights)[:, None] * np.stack(values, axis=1))

    def data(self, function: Univariate, at: float | None = None) -> np.ndarray:
        """Return the values of a univariate function at the quadrature points, or at the face."""
        if at is not None:
            return self._finite(function(np.array([at])))
        if function not in self._values:
            self._values[function] = self._finite(function(self.rule.points))
        return self._values[function]

    def _finite(self, values: np.ndarray) -> np.ndarray:
        if not np.isfinite(values).all():
            msg = f"a coefficient or datum on axis {self.name!r} overflows or is NaN: scale it, or give finite values"
            raise ValueError(msg)
        return values

    def matrix(self, trial: Factor, test: Factor) -> scipy.sparse.csr_array:
        """Return ``A[i, k] = int (test B_i) (trial B_k)``."""
        if self.given is not None:
            return self.given.matrix(trial, test)
        right, weights = self.table(trial)
        left, _ = self.table(test)
        result = scipy.sparse.csr_array(left.T @ (right * weights[:, None]))
        result.sum_duplicates()
        return result

    def vector(self, data: Univariate, test: Factor) -> np.ndarray:
        """Return ``b[i] = int data (test B_i)``."""
        if self.given is not None:
            return self.given.vector(data, test)
        left, weights = self.table(test)
        return np.asarray(left.T @ (weights * self.data(data, test.at)))

    def vector_noise(self, data: Univariate, test: Factor) -> float:
        """Return the norm of what the integrals of `vector` added up, in absolute value."""
        if self.given is not None:
            return self.given.vector_noise(data, test)
        left, weights = self.table(test)
        points = self._points(test.at).points
        return hypot(*(abs(left).T @ (weights * data.magnitude(points))))


def _rule_for(name: str, basis: Basis, functions: set[Univariate]) -> Quadrature:
    """Return a rule exact for polynomials between known breaks, with more points where callables need them."""
    breaks = [basis.breaks]
    degree = 0
    callables: list[Univariate] = []
    for function in sorted(functions, key=lambda f: (f.powers, [c.key for c in f.callables])):
        spline = 0
        for factor in function.callables:
            breaks.append(factor.breaks)
            spline += factor.degree or 0
        degree = max(degree, min(spline + len(function.powers) - 1, MAX_POLYNOMIAL))
        if function.piece_degree is None:
            callables.append(function)
    # Two coefficients can meet in one integral, hence twice the degree.
    own = basis.quadrature(2 * basis.degree + 2 * degree + 1)
    count = own.points.size // (basis.breaks.size - 1)
    joined = join_breaks(breaks)
    if not callables:
        return gauss_rule(joined, count)
    return _resolve(name, joined, count + CALLABLE_POINTS + basis.degree, callables)


def _resolve(name: str, breaks: np.ndarray, count: int, functions: list[Univariate]) -> Quadrature:
    """Double the points a cell until the norms of all functions have settled, or say that they do not."""
    rule = gauss_rule(breaks, count)
    norms = [_norm(f, rule) for f in functions]
    while True:
        finer = gauss_rule(breaks, 2 * count)
        finer_norms = [_norm(f, finer) for f in functions]
        changes = [abs(b - a) / max(a, b) if max(a, b) > 0 else 0.0 for a, b in zip(norms, finer_norms, strict=True)]
        worst = max(changes)
        if not worst > SETTLED:
            return rule
        count, rule, norms = 2 * count, finer, finer_norms
        if count >= MOST_POINTS:
            break
    if worst > UNRESOLVED:
        culprit = functions[changes.index(worst)]
        shown = " * ".join(str(getattr(f, "label", "a callable")) for f in culprit.callables)
        warnings.warn(
            f"{shown} on axis {name!r} is not resolved by {count} quadrature points a cell (its norm changes by "
            f"{worst:.1g}): put breaks= where it jumps, kinks or is steep",
            UserWarning,
            stacklevel=2,
        )
    return rule


def _norm(function: Univariate, rule: Quadrature) -> float:
    values = function(rule.points)
    return float(np.sqrt(rule.weights @ values**2))


def assemblers(space: TensorSpace, terms: Iterable[Term]) -> dict[str, AxisAssembler]:
    """Return one assembler per axis for everything that occurs in `terms` (operators and data alike)."""
    functions: dict[str, set[Univariate]] = {name: set() for name in space.names}
    for term in terms:
        for axis, factor in term.factors:
            functions[axis].add(factor.coefficient)
    return {name: AxisAssembler(name, space.axes[name], functions[name]) for name in space.names}


def assemble_matrices(
    space: TensorSpace, pairs: Sequence[tuple[Term, Term]], axes: dict[str, AxisAssembler]
) -> MatrixTable:
    """Assemble ``sum_m int (trial_m u)(test_m v)``."""
    index = np.zeros((len(pairs), space.dim), dtype=np.int64)
    matrices = []
    for k, name in enumerate(space.names):
        store = _Distinct()
        for m, (trial, test) in enumerate(pairs):
            index[m, k] = store.number(axes[name].matrix, trial.factor(name), test.factor(name))
        matrices.append(tuple(store.values))
    weights = np.array([a.weight * b.weight for a, b in pairs], dtype=np.float64)
    return MatrixTable(space, tuple(matrices), index, weights)


def assemble_loads(space: TensorSpace, loads: Sequence[tuple[Term, Term]], axes: dict[str, AxisAssembler]) -> LoadTable:
    """Assemble ``sum_m int data_m (test_m v)``; the data terms have order zero."""
    index = np.zeros((len(loads), space.dim), dtype=np.int64)
    weights = np.array([a.weight * b.weight for a, b in loads], dtype=np.float64)
    sizes = np.abs(weights)
    vectors = []
    for k, name in enumerate(space.names):
        store = _Distinct()
        for m, (data, test) in enumerate(loads):
            index[m, k] = store.number(axes[name].vector, data.factor(name).coefficient, test.factor(name))
        vectors.append(np.stack(store.values) if store.values else np.zeros((0, space.axes[name].size)))
        known: dict[tuple[Univariate, Factor], float] = {}
        for m, (data, test) in enumerate(loads):
            key = (data.factor(name).coefficient, test.factor(name))
            if key not in known:
                known[key] = axes[name].vector_noise(*key)
            sizes[m] *= known[key]
    return LoadTable(space, tuple(vectors), index, weights, hypot(*sizes))


@final
class _Distinct:
    """Numbers the distinct values of one axis, by key and then by content."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._keys: dict[object, int] = {}
        self._contents: dict[bytes, int] = {}

    def number(self, make: Callable[..., Any], *key: object) -> int:
        if key not in self._keys:
            value = make(*key)
            content = value.tobytes() if isinstance(value, np.ndarray) else _content(value)
            if content not in self._contents:
                self._contents[content] = len(self.values)
                self.values.append(value)
            self._keys[key] = self._contents[content]
        return self._keys[key]


def _content(matrix: scipy.sparse.csr_array) -> bytes:
    matrix.sort_indices()
    content: bytes = matrix.indptr.tobytes() + matrix.indices.tobytes() + matrix.data.tobytes()
    return content


def assemble(form: BilinearForm) -> MatrixTable:
    """Assemble a bilinear form into one-dimensional matrices.

    Parameters
    ----------
    form : BilinearForm
        From `inner` and sums of it.

    Returns
    -------
    MatrixTable
        ``matrices`` (per axis, sparse), ``index`` and ``weights`` (the table of terms).

    Raises
    ------
    TypeError
        If `form` is no bilinear form.

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=4), y=sn.BSpline((0, 1), cells=4))
    >>> sn.assemble(sn.inner(V.d.x, V.d.x) + sn.inner(V.d.y, V.d.y))
    MatrixTable(2 terms; distinct matrices per axis x: 2, y: 2)
    """
    if not isinstance(form, BilinearForm):
        msg = f"`form` is {type(form).__name__}, expected a bilinear form such as sn.inner(V.d.x, V.d.x)"
        raise TypeError(msg)
    axes = assemblers(form.space, [t for pair in form.pairs for t in pair])
    return assemble_matrices(form.space, form.pairs, axes)
