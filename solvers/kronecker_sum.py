"""Kronecker sums: the part of a form whose inverse separates.

``P = c M (x) .. (x) M + sum_i M (x) .. K_i .. (x) M``. In the M-orthonormal eigenvectors of the one-dimensional pencils
(fast diagonalisation, Lynch, Rice and Thomas, Numer. Math. 6, 1964) P is the diagonal ``c + sum_i lambda_i``, and
``1 / s`` is replaced by a sum of exponentials, which separates (Hackbusch, Tensor Spaces, section 9.8.2): the inverse
is applied to a load in CP format without anything of the size of the tensor product, in time linear in the number of
axes. For Laplace-like forms that is the solution itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import final

import numpy as np
import scipy.linalg

from sepnet.bases.basis import Basis
from sepnet.forms import BilinearForm
from sepnet.functions.axis_maps import mass
from sepnet.solvers.assembly import AxisAssembler, assemblers
from sepnet.solvers.exponential_sums import exponential_sum, shortest_sum
from sepnet.solvers.separable import SeparableVector
from sepnet.spaces import TensorSpace
from sepnet.terms import Factor, Term

__all__ = ["KroneckerSum"]

# What counts as the same matrix: assembly adds up some 1e3 products an entry.
SAME = 1e4 * float(np.finfo(np.float64).eps)
# A spectrum that is not positive, or wider than round-off allows, is lifted to this share of its upper end.
LOWEST = exp(-23)


@final
@dataclass(frozen=True, eq=False)
class KroneckerSum:
    """A symmetric positive Kronecker sum, diagonalised. Set-up: float64 on the host.

    Axes with the same basis and the same matrix share one array. The eigenvectors are computed densely, once per
    distinct axis: 10 s at 3,000 cells, nothing below 300. Applying them costs ``n**2`` a column, less than what ALS
    does with the same columns.

    Parameters
    ----------
    space : TensorSpace
        Trial and test space.
    vectors : tuple of ndarray (N, N)
        Per axis the eigenvectors V of the pencil (K, M), in columns, with ``V' M V = I``.
    values : tuple of ndarray (N,)
        Per axis the eigenvalues in rising order, less the lowest: the first is zero.
    low : float
        Lowest eigenvalue of P relative to the mass, all shifts included; positive.
    exact : bool
        Whether the form it was taken from is this Kronecker sum, up to round-off.

    Examples
    --------
    >>> import sepnet as sn
    >>> V = sn.TensorSpace(x=sn.BSpline((0, 1), cells=8, zero="both"), y=sn.BSpline((0, 1), cells=8, zero="both"))
    >>> P = KroneckerSum.from_form(sn.inner(V.d.x, V.d.x) + sn.inner(V.d.y, V.d.y))
    >>> P.exact, round(P.low / np.pi**2, 4), P.vectors[0] is P.vectors[1]
    (True, 2.0, True)
    """

    space: TensorSpace
    vectors: tuple[np.ndarray, ...]
    values: tuple[np.ndarray, ...]
    low: float
    exact: bool

    @property
    def high(self) -> float:
        """Highest eigenvalue relative to the mass."""
        return self.low + sum(float(v[-1]) for v in self.values)

    @classmethod
    def from_form(cls, form: BilinearForm) -> KroneckerSum:
        """Return the Kronecker-sum part of a form.

        Integrals whose matrices are multiples of the mass on all axes but one are taken as they are. Of the others
        those count that are symmetric with derivatives on one axis at most, every coefficient on another axis by its
        mean. What is not symmetric counts by its symmetric part.

        Parameters
        ----------
        form : BilinearForm
            Any form; the result is of use for coercive ones.

        Returns
        -------
        KroneckerSum
            Positive whatever the form is: a part without energy, or with a negative one, is lifted, and `exact` is then
            False. Where derivatives that are not symmetric see it, such as that in time, their lowest frequency is
            what it is lifted by.
        """
        parts = _Parts(form)
        pencils: dict[tuple[Basis, bytes], tuple[np.ndarray, np.ndarray]] = {}
        vectors, values = [], []
        for basis, matrix in zip(form.space.bases, parts.stiff, strict=True):
            key = (basis, b"" if matrix is None else matrix.tobytes())
            if key not in pencils:
                pencils[key] = _pencil(basis, matrix)
            vectors.append(pencils[key][0])
            values.append(pencils[key][1])
        low, lifted, positive = _positive(parts.shift, values)
        if not positive and parts.frequency > 0.0:
            # Insulated walls and time: a lift by round-off alone calls errors of 5 % a residual of 1e-4.
            low, lifted, _ = _positive(parts.shift + parts.frequency, values)
        return cls(form.space, tuple(vectors), tuple(lifted), low, parts.exact and positive)

    def exponentials(self, tol: float) -> tuple[np.ndarray, np.ndarray]:
        """Return weights w and exponents t of ``sum_q w_q exp(-t_q s)``, within `tol` of ``1 / s`` on the spectrum.

        Parameters
        ----------
        tol : float
            Relative error, between 1e-13 and 1.

        Returns
        -------
        weights, exponents : ndarray (Q,)
            Positive.
        """
        return exponential_sum(self.low, self.high, tol)

    def solve(self, load: SeparableVector, tol: float, *, rank: int | None = None) -> list[np.ndarray]:
        """Return the factors of ``P^-1 b``, with a relative error of at most `tol` in the norm of P (and of M).

        Parameters
        ----------
        load : SeparableVector
            b of r terms, on the host.
        tol : float
            Relative error.
        rank : int, optional
            Largest number of columns: where `tol` asks for more, the error is what they allow, and of the columns of a
            load with many terms the largest are kept.

        Returns
        -------
        list of ndarray (N_i, Q r)
            Q exponentials for each term of the load, the largest first, the L2 norm of each column spread evenly over
            the axes.

        Raises
        ------
        ValueError
            If `tol` or `rank` is out of its range.

        Examples
        --------
        >>> import sepnet as sn
        >>> from sepnet.solvers.assembly import assemble_loads, assemblers
        >>> from sepnet.terms import Term
        >>> V = sn.TensorSpace(**{n: sn.BSpline((0, 1), cells=32, zero="both") for n in "xyz"})
        >>> P = KroneckerSum.from_form(sum(sn.inner(k, k) for k in V.d))
        >>> one = [(Term(), Term())]
        >>> load = SeparableVector.from_table(assemble_loads(V, one, assemblers(V, [Term()])))
        >>> u = sn.CP(V, P.solve(load, 1e-6))
        >>> u.rank, round(float(u([[0.5, 0.5, 0.5]])[0]), 6)  # -Laplace u = 1
        (18, 0.056213)
        """
        if rank is not None and rank < 1:
            msg = f"`rank` is {rank!r}, expected an integer >= 1"
            raise ValueError(msg)
        terms = load.weights.size
        weights, exponents = self.exponentials(tol)
        if rank is not None and weights.size * terms > rank:
            weights, exponents = shortest_sum(self.low, self.high, max(rank // max(terms, 1), 1))
        # Logarithms of the norms: the product of many small ones leaves the range.
        logs = np.log(np.abs(weights))[:, None] - (exponents * self.low)[:, None] + _log(np.abs(load.weights))
        columns = []
        for axis, (vectors, values) in enumerate(zip(self.vectors, self.values, strict=True)):
            b = vectors.T @ load.vectors[axis][load.index[:, axis]].T  # (N, r)
            damped = np.exp(-np.outer(values, exponents))[:, :, None] * b[:, None, :]
            norms = np.linalg.norm(damped, axis=0)
            columns.append(damped / np.where(norms > 0.0, norms, 1.0))
            logs = logs + _log(norms)
        order = np.argsort(-logs, axis=None, kind="stable")[:rank]
        order = order[logs.reshape(-1)[order] > -np.inf]
        share = np.exp(logs.reshape(-1)[order] / len(columns))
        sign = np.broadcast_to(np.sign(load.weights), logs.shape).reshape(-1)[order]
        factors = []
        for axis, (vectors, damped) in enumerate(zip(self.vectors, columns, strict=True)):
            chosen = damped.reshape(damped.shape[0], -1)[:, order] * share
            factors.append(vectors @ (chosen * sign if axis == 0 else chosen))
        return factors


def _log(values: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(values))


@final
class _Parts:
    """The matrices ``K_i`` (None: zero) and the multiple c of the mass."""

    def __init__(self, form: BilinearForm) -> None:
        self.space = form.space
        self.axes = assemblers(form.space, [t for pair in form.pairs for t in pair])
        self.stiff: list[np.ndarray | None] = [None] * form.space.dim
        self.shift = self.frequency = 0.0
        self.exact = True
        self.number = {name: i for i, name in enumerate(form.space.names)}
        self.known: dict[object, tuple[np.ndarray, float, bool]] = {}
        for trial, test in form.pairs:
            self._add(trial, test)
        for i, matrix in enumerate(self.stiff):
            if matrix is None:
                continue
            even = (matrix + matrix.T) / 2
            if np.linalg.norm(matrix - even) > SAME * np.linalg.norm(matrix):
                self.exact = False
                self.frequency += _lowest_frequency(self.space.bases[i], matrix)
            self.stiff[i] = even

    def _add(self, trial: Term, test: Term) -> None:
        names = sorted({*trial.axes, *test.axes}, key=self.number.__getitem__)
        found = {name: self._matrix(name, trial, test) for name in names}
        odd = [name for name in names if not found[name][2]]
        weight = trial.weight * test.weight
        if len(odd) > 1:
            self.exact = False
            odd = [name for name in names if _is_derived(trial.factor(name), test.factor(name))]
            if len(odd) > 1 or any(trial.factor(name).order != test.factor(name).order for name in odd):
                return
        for name in names:
            weight *= 1.0 if name in odd else found[name][1]
        if not odd:
            self.shift += weight
            return
        i = self.number[odd[0]]
        matrix = weight * found[odd[0]][0]
        old = self.stiff[i]
        self.stiff[i] = matrix if old is None else old + matrix

    def _matrix(self, name: str, trial: Term, test: Term) -> tuple[np.ndarray, float, bool]:
        """Return the matrix of an axis, its mean relative to the mass, and whether it is that multiple of the mass."""
        key = (name, trial.factor(name), test.factor(name))
        if key not in self.known:
            assembler: AxisAssembler = self.axes[name]
            matrix = assembler.matrix(trial.factor(name), test.factor(name)).toarray()
            unit = mass(assembler.basis)
            mean = float(np.trace(matrix) / np.trace(unit))
            same = bool(np.linalg.norm(matrix - mean * unit) <= SAME * np.linalg.norm(matrix))
            self.known[key] = (matrix, mean, same)
        return self.known[key]


def _is_derived(trial: Factor, test: Factor) -> bool:
    """Tell whether an integral has derivatives along an axis, or a named matrix, which stands for such."""
    return (trial.order, test.order) != (0, 0) or test.matrix is not None


def _lowest_frequency(basis: Basis, matrix: np.ndarray) -> float:
    """Return the lowest singular value of a matrix relative to the mass."""
    root = np.linalg.cholesky(mass(basis))
    half = scipy.linalg.solve_triangular(root, matrix, lower=True)
    return float(np.linalg.svd(scipy.linalg.solve_triangular(root, half.T, lower=True), compute_uv=False)[-1])


def _pencil(basis: Basis, matrix: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    unit = mass(basis)
    values, vectors = scipy.linalg.eigh(np.zeros_like(unit) if matrix is None else matrix, unit)
    vectors.setflags(write=False)
    values.setflags(write=False)
    return vectors, values


def _positive(shift: float, values: Sequence[np.ndarray]) -> tuple[float, list[np.ndarray], bool]:
    """Return the lowest eigenvalue, the others less it, and whether they are what they were."""
    low = shift + sum(float(v[0]) for v in values)
    high = shift + sum(float(v[-1]) for v in values)
    positive = low > LOWEST * high > 0.0
    if not positive:
        # The norm must be one all the same: what is negative does not count.
        clipped = {id(v): np.maximum(v, 0.0) for v in values}
        values = [clipped[id(v)] for v in values]
        low = max(shift, 0.0) + sum(float(v[0]) for v in values)
        high = max(shift, 0.0) + sum(float(v[-1]) for v in values)
        low = max(low, LOWEST * high) if high > 0.0 else 1.0
    shared = {id(v): v - v[0] for v in values}
    return low, [shared[id(v)] for v in values], positive
