"""The residual of a function with a mesh axis, in the dual norm, as functions on the mesh times functions of the rest.

Along the mesh the residual lies in the span of the loads and of the images ``A_j c`` of the columns c of the function.
Their Riesz representatives ``P_s^-1 A_j c`` are written as a few orthonormal columns times a small triangle; with the
triangle in place of the matrices the residual is a train with a small axis, whose norm is taken by orthogonalisation,
without subtracting squares. On the other axes the norm is that of the inverse mass.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple, final

import numpy as np

from sepnet.functions.axis_maps import mass_root_inverse
from sepnet.functions.trains import add_trains, orthogonalise_left, orthogonalise_right, scale
from sepnet.solvers.automaton import build_automaton
from sepnet.solvers.mesh_norm import MeshNorm
from sepnet.solvers.system import System
from sepnet.solvers.train_norms import multiplied

__all__ = ["SYMMETRIC", "MeshResidual", "Modes", "Span"]

SYMMETRIC = 1e-10
"""A matrix counts as symmetric up to this share of its largest entry."""


@final
class Span(NamedTuple):
    """Representatives of loads and images: orthonormal columns (n, k), and their coefficients (k, ...) in these."""

    frame: np.ndarray
    loads: np.ndarray
    images: list[np.ndarray]


@final
class MeshResidual:
    """Measures residuals of a system with a mesh axis.

    Parameters
    ----------
    system : System
        The assembled problem, on the host.
    axis : int
        Number of the mesh axis.
    norm : MeshNorm
        The energy norm along it.
    """

    def __init__(self, system: System, axis: int, norm: MeshNorm) -> None:
        self.system, self.axis, self.norm = system, axis, norm
        self.matrices = system.matrices.matrices[axis]
        self.loads = self.represent(system.loads.vectors[axis].T)
        bases = system.space.bases
        self._inverses = [None if k == axis else mass_root_inverse(basis) for k, basis in enumerate(bases)]

    def represent(self, columns: np.ndarray) -> np.ndarray:
        """Return the Riesz representatives of functionals on the mesh, in orthonormal coordinates, ``S P_s^-1 b``."""
        return np.asarray(self.norm.root.root @ self.norm.root.solve(columns))

    def images(self, functions: np.ndarray) -> list[np.ndarray]:
        """Return the representatives of ``A_j c`` for all matrices and columns c (n, k)."""
        return [self.represent(np.asarray(matrix @ functions)) for matrix in self.matrices]

    def span(self, images: Sequence[np.ndarray], known: np.ndarray | None = None) -> Span:
        """Return the span of the loads and of images, less the part along given columns.

        Parameters
        ----------
        images : sequence of ndarray (n, m)
            What `images` returns for the functions that u is made of along the mesh; empty for u = 0.
        known : ndarray (n, q), optional
            Orthonormal columns, in the coordinates of `represent`.
        """
        columns = np.hstack([self.loads, *images])
        if known is not None:
            for _ in range(2):
                columns = columns - known @ (known.T @ columns)
        frame, triangle = np.linalg.qr(columns)
        count = self.loads.shape[1]
        return Span(frame, triangle[:, :count], np.split(triangle[:, count:], max(len(images), 1), axis=1))

    def modes(self, span: Span, cores: Sequence[np.ndarray] | None, order: Sequence[int]) -> Modes:
        """Return the residual ``b - A u``.

        Parameters
        ----------
        span : Span
            Of the functions that u is made of along the mesh.
        cores : sequence of ndarray (r, n, r') or None
            u as a train, with coefficients (r, m, r') of these functions on the mesh; None for zero.
        order : sequence of int
            The order of the axes along it.
        """
        table, loads = self.system.matrices, self.system.loads
        letters: list[list[np.ndarray]] = []
        vectors: list[list[np.ndarray]] = []
        for k in order:
            inverse = self._inverses[k]
            if inverse is None:
                letters.append(span.images)
                vectors.append([span.loads[:, [j]] for j in range(span.loads.shape[1])])
            else:
                letters.append([inverse.T @ matrix for matrix in table.matrices[k]])
                vectors.append([inverse.T @ vector[:, None] for vector in loads.vectors[k]])
        automaton = build_automaton(loads.index[:, order], loads.weights, tuple(len(v) for v in vectors))
        rest = multiplied(automaton, vectors, [np.ones((1, 1, 1))] * len(order))
        if cores is not None:
            automaton = build_automaton(table.index[:, order], table.weights, tuple(len(ls) for ls in letters))
            rest = add_trains(rest, scale(multiplied(automaton, letters, cores), -1.0))
        return Modes(self, span.frame, rest, list(order))

    def forms(self, m: int) -> tuple[dict[int, np.ndarray], bool]:
        """Return the matrices of a term on the other axes in orthonormal coordinates, and whether all are symmetric."""
        table, found, symmetric = self.system.matrices, {}, True
        for k, inverse in enumerate(self._inverses):
            if inverse is not None:
                matrix = inverse.T @ (table.matrices[k][table.index[m, k]] @ inverse)
                symmetric = symmetric and bool(np.abs(matrix - matrix.T).max() <= SYMMETRIC * np.abs(matrix).max())
                found[k] = matrix
        return found, symmetric


@final
class Modes:
    """A residual as a sum of orthogonal terms, a function on the mesh times one of the other axes, the largest first.

    Attributes
    ----------
    sizes : ndarray (k,)
        Their norms, falling.
    """

    def __init__(
        self, residual: MeshResidual, frame: np.ndarray, train: Sequence[np.ndarray], order: list[int]
    ) -> None:
        self._residual, self._frame, self._order = residual, frame, order
        place = order.index(residual.axis)
        # Orthonormal on both sides of the mesh axis, so that its core holds all sizes.
        left = orthogonalise_left(train[: place + 1])
        right = orthogonalise_right([left[-1], *train[place + 1 :]])
        self._left, self._right = left[:-1], right[1:]
        a, k, c = right[0].shape
        unfolded = right[0].transpose(1, 0, 2).reshape(k, a * c)
        self._vectors, self.sizes, others = np.linalg.svd(unfolded, full_matrices=False)
        self._others = others.reshape(-1, a, c)

    @property
    def norm(self) -> float:
        """The norm of the residual."""
        return float(np.linalg.norm(self.sizes))

    def functions(self, count: int) -> np.ndarray:
        """Return the first functions on the mesh (n, count), as Riesz representatives ``P_s^-1 r``."""
        return self._residual.norm.root.unroot(self._frame @ self._vectors[:, :count])

    def weights(self) -> np.ndarray:
        """Return what the terms of the form weigh in the first mode, (M,).

        A term that is symmetric on the other axes weighs its Rayleigh quotient in the function of these axes; another,
        such as a time derivative, the root of that of its square, which is a frequency.
        """
        table = self._residual.system.matrices
        place = self._order.index(self._residual.axis)
        result = np.zeros(table.weights.size)
        v = self._others[0]
        for m in range(result.size):
            forms, symmetric = self._residual.forms(m)
            if not symmetric:
                forms = {k: a.T @ a for k, a in forms.items()}
            left, right = np.ones((1, 1)), np.ones((1, 1))
            for core, k in zip(self._left, self._order[:place], strict=True):
                left = np.einsum("ab,amc,mn,bnd->cd", left, core, forms[k], core, optimize=True)
            for core, k in zip(self._right[::-1], self._order[:place:-1], strict=True):
                right = np.einsum("cd,amc,mn,bnd->ab", right, core, forms[k], core, optimize=True)
            value = float(np.sum(v * (left @ v @ right.T)))
            result[m] = table.weights[m] * (value if symmetric else sqrt(max(value, 0.0)))
        return result
