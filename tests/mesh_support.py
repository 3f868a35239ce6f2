"""Spline axes handed over as assembled matrices, and dense answers for problems with such an axis."""

import numpy as np
import scipy.linalg

import sepnet as sn
from sepnet.bases.matrix_axis import MatrixAxis


def one_matrix(form):
    """The matrix of a form with a single term on a single axis."""
    table = sn.assemble(form)
    return table.weights[0] * table.matrices[0][table.index[0, 0]]


def assembled(basis, *, dense=False):
    """A spline axis as `MatrixAxis`: mass, stiffness, wind, and a load that is not the mass times anything."""
    V = sn.TensorSpace(x=basis)
    (x,) = V.coordinates
    d, one = V.d.x, V.identity
    terms = {"stiffness": sn.inner(d, d), "wind": sn.inner(d, one), "weight": sn.inner((1 + x) * one, one)}
    matrices = {name: one_matrix(form) for name, form in terms.items()}
    mass = one_matrix(sn.inner(one, one))
    if dense:
        mass, matrices = mass.toarray(), {name: m.toarray() for name, m in matrices.items()}
    return MatrixAxis(
        basis.size, mass=mass, terms=matrices, loads={"unit": basis.integrals()}, points=basis.nodes[:, None]
    )


class Pair:
    """The same problem on a spline axis x and on the matrices of it."""

    def __init__(self, basis, others, make, **data):
        self.axis = assembled(basis)
        self.splines = sn.TensorSpace(x=basis, **others)
        self.given = sn.TensorSpace(x=self.axis, **others)
        self.spline = self._problem(self.splines, basis, make, data)
        self.mesh = self._problem(self.given, self.axis, make, data)
        self.full = sn.solve(self.spline, method="full").u.full()

    @staticmethod
    def _problem(V, axis, make, data):
        def on_axis(c, name):
            one = V.identity
            if isinstance(axis, MatrixAxis):
                return sn.inner(c * one, one, x=name)
            if name == "weight":
                return sn.inner(c * (1 + V.coordinates[0]) * one, one)
            return sn.inner(c * V.d.x, V.d.x if name == "stiffness" else one)

        form, source = make(V, on_axis)
        initial = {n: sn.CP(sn.TensorSpace(x=axis), [c[:, None]]) if np.ndim(c) else c for n, c in data.items()}
        return sn.Galerkin(form, source=source, initial=initial)

    def distance(self, u):
        return np.linalg.norm(u.full() - self.full) / np.linalg.norm(self.full)


def dense_residual(problem, solution):
    """Relative dual norm of ``b - A u``, all dense: P is the symmetric part of A at mean coefficients, by hand.

    For problems whose only derivatives off the mesh are in time: ``P = P_s (x) M + M (x) (B + B') / 2``.
    """
    from sepnet.solvers.lifting import make_lift
    from sepnet.solvers.separable import SeparableMatrix, SeparableVector
    from sepnet.solvers.system import make_system

    lift = make_lift(problem, 1e-9)
    system = make_system(problem, lift)
    table = system.matrices
    b = system.scale * SeparableVector.from_table(system.loads).dense()
    A = SeparableMatrix.from_table(table).kronecker()
    masses = [np.asarray(one_matrix(sn.inner(W.identity, W.identity)).todense()) for W in _single(lift.space)]
    P = 0.0
    for weight, row in zip(table.weights, table.index, strict=True):
        parts = [table.matrices[k][j].toarray() for k, j in enumerate(row)]
        for k, mass in enumerate(masses[1:], start=1):
            if np.abs(parts[k] - parts[k].T).max() <= 1e-12 * np.abs(parts[k]).max():
                parts[k] = np.trace(parts[k]) / np.trace(mass) * mass
        term = weight * _kron(parts)
        P = P + (term + term.T) / 2
    u = solution.u
    if lift.function is not None:
        u = u - lift.function
    names = lift.space.names
    if isinstance(u, sn.TensorTrain):
        u = u.reorder(*names)
    tensor = u.full()
    for k, (whole, part) in enumerate(zip(u.space.bases, lift.space.bases, strict=True)):
        if whole != part:  # the first function of the whole is the one that does not vanish at the left
            tensor = np.take(tensor, np.arange(whole.size - part.size, whole.size), axis=k)
    r = b - A @ tensor.reshape(-1)
    return np.sqrt(r @ scipy.linalg.solve(P, r, assume_a="pos") / (b @ scipy.linalg.solve(P, b, assume_a="pos")))


def _single(space):
    return [sn.TensorSpace(**{name: basis}) for name, basis in space.items]


def _kron(parts):
    total = np.ones((1, 1))
    for part in parts:
        total = np.kron(total, part)
    return total
