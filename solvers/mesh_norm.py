"""The energy norm along a mesh: what its part of a form is on average over all other axes.

The Riesz map of the test space is ``P = P_s (x) M (x) .. (x) M + (a positive rest)`` with the mass matrices M of the
other axes and, on the mesh, the matrices of the form by their mean weights. `KroneckerSum` takes the same part of a
form, densely; a mesh is factorised instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import scipy.sparse

from sepnet.bases.matrix_axis import Assembled
from sepnet.bases.sparse_root import SparseRoot
from sepnet.forms import BilinearForm
from sepnet.functions.axis_maps import mass_root_inverse
from sepnet.solvers.assembly import AxisAssembler, assemblers
from sepnet.spaces import TensorSpace
from sepnet.terms import Factor, Term

__all__ = ["MeshNorm", "check_kernel", "mesh_axis"]

# What counts as the same matrix: assembly adds up some 1e3 products an entry.
SAME = 1e4 * float(np.finfo(np.float64).eps)
# A mean operator has no energy of its own, as for insulated walls, where a pivot is below this share of the diagonal.
SINGULAR = 1e-11
# It is lifted by the mass then: by the lowest frequency of the form, or by this share of its mean diagonal relative to
# that of the mass.
LIFT = 1e-6
# Steps of inverse iteration; a matrix does not see a function of which it leaves less than this share.
INVERSE, UNSEEN = 4, 1e-9


def mesh_axis(space: TensorSpace) -> int | None:
    """Return the number of the axis with sparse matrices, None if there is none.

    Raises
    ------
    ValueError
        If there are several.
    """
    found = [k for k, basis in enumerate(space.bases) if basis.kind == "sparse"]
    if len(found) > 1:
        names = ", ".join(space.names[k] for k in found)
        msg = f"the axes {names} are meshes, expected one at most: give the smaller one as modes, with dense matrices"
        raise ValueError(msg)
    return found[0] if found else None


@final
@dataclass(frozen=True, eq=False)
class MeshNorm:
    """The mean operator along a mesh, factorised.

    Parameters
    ----------
    matrix : csr_array (n, n)
        ``P_s``, symmetric positive definite.
    root : SparseRoot
        Its factorisation.
    lift : float
        The multiple of the mass in it that is not in the form.
    """

    matrix: scipy.sparse.csr_array
    root: SparseRoot
    lift: float = 0.0

    @classmethod
    def from_form(cls, form: BilinearForm, axis: int) -> MeshNorm:
        """Return that of a form.

        Terms without derivatives on other axes count by the mean of their coefficients there. Those with a derivative
        on one other axis count, where they have the mass on the mesh, by the lowest eigenvalue of their symmetric part:
        less than that no function has. Other terms do not count, and of all the symmetric part along the mesh.

        Parameters
        ----------
        form : BilinearForm
            The form, on the space of the unknown.
        axis : int
            Number of the mesh axis.

        Raises
        ------
        ValueError
            If the mean is not positive even with a little of the mass: the form is not coercive along the mesh.
        """
        basis = form.space.bases[axis]
        assert isinstance(basis, Assembled)
        unit = scipy.sparse.csr_array(basis.mass)
        mean = _Mean(form, axis)
        total = scipy.sparse.csr_array((mean.total + mean.total.T) / 2)
        try:
            root = SparseRoot(total)
            if root.weakest > SINGULAR:
                return cls(total, root)
        except ValueError:
            pass
        # The norm must be one all the same.
        lift = mean.frequency or LIFT * float(np.abs(total.diagonal()).sum()) / float(unit.diagonal().sum()) or 1.0
        lifted = scipy.sparse.csr_array(total + lift * unit)
        try:
            return cls(lifted, SparseRoot(lifted), lift)
        except ValueError as error:
            msg = (
                "the symmetric part of the form along the mesh, at mean coefficients, is not positive definite: check "
                "the signs of the form; what is meant to be indefinite, such as waves, only method='full' takes, on "
                "small meshes"
            )
            raise ValueError(msg) from error


def check_kernel(norm: MeshNorm, matrices: Sequence[scipy.sparse.csr_array], mass: Any, name: str) -> None:
    """Refuse forms of which no matrix along the mesh sees some function, such as constants or rigid motions.

    Round-off would see it, and hide a load that has no solution behind coefficients of 1e14.

    Parameters
    ----------
    norm : MeshNorm
        Of the form; where it was not lifted, there is no such function.
    matrices : sequence of csr_array (n, n)
        All that the form has along the mesh.
    mass : csr_array (n, n)
        The mass.
    name : str
        Name of the axis, for the message.

    Raises
    ------
    ValueError
        If there is such a function.
    """
    if not norm.lift:
        return
    # Inverse iteration: what has no energy is 1 / LIFT times larger after each step.
    z = np.random.default_rng(0).standard_normal((norm.matrix.shape[0], 1))
    for _ in range(INVERSE):
        z = norm.root.solve(np.asarray(mass @ z))
        z = z / np.abs(z).max()
    if all(np.linalg.norm(a @ z) <= UNSEEN * np.linalg.norm(abs(a) @ np.abs(z)) for a in matrices):
        msg = (
            f"the problem does not determine its solution: no matrix along {name!r} sees some function, constants or "
            "rigid motions as it seems: take out Dirichlet degrees of freedom, or add a reaction term or a film"
        )
        raise ValueError(msg)


@final
class _Mean:
    """Adds up the mean operator, term by term.

    Attributes
    ----------
    total : csr_array (n, n)
        The sum.
    frequency : float
        The lowest singular value, relative to the mass, of what is not symmetric on one other axis and has the mass on
        the mesh: a time derivative. By Poincare's inequality in time it bounds the function itself.
    """

    def __init__(self, form: BilinearForm, axis: int) -> None:
        self.names = form.space.names
        self.mesh = form.space.names[axis]
        self.axes = assemblers(form.space, [t for pair in form.pairs for t in pair])
        self.frequency = 0.0
        basis = form.space.bases[axis]
        assert isinstance(basis, Assembled)
        self.total = scipy.sparse.csr_array(basis.mass * 0.0)
        for trial, test in form.pairs:
            weight = self._weight(trial, test)
            if weight != 0.0:
                self.total = self.total + weight * self.axes[self.mesh].matrix(
                    trial.factor(self.mesh), test.factor(self.mesh)
                )

    def _weight(self, trial: Term, test: Term) -> float:
        weight = trial.weight * test.weight
        derived: list[np.ndarray] = []
        for name in self.names:
            if name == self.mesh:
                continue
            a, b = trial.factor(name), test.factor(name)
            matrix = _orthonormal(self.axes[name], a, b)
            mean = float(np.trace(matrix)) / matrix.shape[0]
            same = np.linalg.norm(matrix - mean * np.eye(matrix.shape[0])) <= SAME * np.linalg.norm(matrix)
            if same or (a.order, b.order) == (0, 0):
                weight *= mean
            else:
                derived.append(matrix)
        if not derived:
            return weight
        if len(derived) > 1 or test.factor(self.mesh).matrix is not None:
            return 0.0
        matrix = derived[0]
        if np.abs(matrix - matrix.T).max() > SAME * np.abs(matrix).max():
            self.frequency += abs(weight) * float(np.linalg.svd(matrix, compute_uv=False)[-1])
        return weight * max(float(np.linalg.eigvalsh((matrix + matrix.T) / 2)[0]), 0.0)


def _orthonormal(assembler: AxisAssembler, trial: Factor, test: Factor) -> np.ndarray:
    """Return the matrix of an axis in orthonormal coordinates."""
    inverse = mass_root_inverse(assembler.basis)
    return np.asarray(inverse.T @ (assembler.matrix(trial, test) @ inverse))
