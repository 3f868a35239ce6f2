"""The direct solution on the full tensor space: for small problems, and as the reference of the tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse.linalg

from sepnet.functions import CP
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.spaces import TensorSpace

__all__ = ["Factorisation", "check_size", "tensor_to_cp"]

# Largest memory, in bytes, that the factorisation may be expected to need.
LIMIT = 2 * 2**30
# Condition number from which on the matrix counts as singular: the solution is then round-off.
SINGULAR = 3e16
NO_UNIQUE_SOLUTION = (
    "the system is singular up to round-off: give boundary values, a reaction term, or a form with a unique solution; "
    "for operators of high order on fine meshes, take fewer cells"
)


def check_size(space: TensorSpace) -> None:
    """Refuse problems whose factorisation would not fit, stating the memory it would need.

    Raises
    ------
    MemoryError
        If a band factorisation of the full matrix would need more than 2 GiB.
    """
    sizes = sorted((float(n) for n in space.shape), reverse=True)
    widths = {n: b.bandwidth for n, b in zip(space.names, space.bases, strict=True)}
    unknowns = float(np.prod(sizes))
    band = min(unknowns, float(np.prod(sizes[1:])) * (max(widths.values()) + 1))
    memory = 8.0 * unknowns * band
    if memory > LIMIT:
        msg = (
            f"method='full' would factorise {unknowns:.3g} unknowns with about {memory / 2**30:.3g} GiB, at most "
            f"{LIMIT / 2**30:.0f} GiB are allowed: use fewer cells, or method='als' with a rank"
        )
        raise MemoryError(msg)


class Factorisation:
    """A factorised matrix of the full tensor space, for several loads.

    Parameters
    ----------
    matrix : SeparableMatrix
        The matrix, on the host.
    symmetric : bool
        Whether it is symmetric positive definite.
    """

    def __init__(self, matrix: SeparableMatrix, *, symmetric: bool) -> None:
        check_size(matrix.space)
        self.space = matrix.space
        self.matrix = matrix.kronecker()
        options = {"SymmetricMode": True} if symmetric else {}
        ordering = "MMD_AT_PLUS_A" if symmetric else "COLAMD"
        threshold = 0.0 if symmetric else 1.0
        try:
            self._lu = scipy.sparse.linalg.splu(
                self.matrix, permc_spec=ordering, diag_pivot_thresh=threshold, options=options
            )
        except RuntimeError as error:  # "Factor is exactly singular"
            raise ValueError(NO_UNIQUE_SOLUTION) from error
        self._norm = float(scipy.sparse.linalg.norm(self.matrix, 1))
        n = self.matrix.shape[0]
        inverse = scipy.sparse.linalg.LinearOperator(
            (n, n), matvec=self._lu.solve, rmatvec=lambda b: self._lu.solve(b, trans="T"), dtype=np.float64
        )
        # An estimate of the condition number; a matrix that is singular up to round-off has 1e16 and more.
        condition = self._norm * float(scipy.sparse.linalg.onenormest(inverse)) if n > 1 else 1.0
        if not condition < SINGULAR:
            raise ValueError(NO_UNIQUE_SOLUTION)

    def solve(self, load: SeparableVector) -> np.ndarray:
        """Return coefficients of shape ``space.shape``.

        One step of iterative refinement brings the residual to round-off even without pivoting. The load must not be
        zero.

        Raises
        ------
        ValueError
            If the matrix is singular up to round-off.
        """
        b = load.dense()
        x = self._lu.solve(b)
        x = x + self._lu.solve(b - self.matrix @ x)
        size = float(np.linalg.norm(b))
        growth = float(np.linalg.norm(x)) * self._norm
        if not growth < SINGULAR * size:
            raise ValueError(NO_UNIQUE_SOLUTION)
        return np.asarray(x.reshape(self.space.shape))

    def residual(self, coefficients: np.ndarray, load: np.ndarray) -> float:
        """Return the relative Euclidean residual of the linear system."""
        return float(np.linalg.norm(load - self.matrix @ coefficients.reshape(-1)) / np.linalg.norm(load))

    def functional(self, coefficients: np.ndarray, load: np.ndarray) -> tuple[float, float]:
        """Return ``x'Ax - 2 b'x``, and the round-off of that sum."""
        x = coefficients.reshape(-1)
        value = float(x @ (self.matrix @ x)) - 2 * float(load @ x)
        size = float(np.abs(x) @ (abs(self.matrix) @ np.abs(x))) + 2 * float(np.abs(load) @ np.abs(x))
        return value, 4 * float(np.finfo(np.float64).eps) * size


def tensor_to_cp(space: TensorSpace, coefficients: np.ndarray) -> CP:
    """Write a dense coefficient array as a CP function, exactly up to round-off, by nested SVDs.

    In two dimensions the rank is that of the matrix; beyond, each singular vector of the first is expanded in turn.
    """
    scale = float(np.abs(coefficients).max(initial=0.0))
    # Singular values below the round-off of the solution are noise.
    factors = _decompose(coefficients, 1e-15 * scale)
    return CP(space, [np.ascontiguousarray(f) for f in factors])


def _decompose(tensor: np.ndarray, drop: float) -> list[np.ndarray]:
    if tensor.ndim == 1:
        return [tensor[:, None]]
    matrix = tensor.reshape(tensor.shape[0], -1)
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    keep = max(int((s > drop).sum()), 1)
    if tensor.ndim == 2:
        return [u[:, :keep] * s[:keep], vt[:keep].T]
    parts: list[Sequence[np.ndarray]] = []
    columns = []
    for k in range(keep):
        part = _decompose((s[k] * vt[k]).reshape(tensor.shape[1:]), drop)
        parts.append(part)
        columns.append(np.repeat(u[:, k : k + 1], part[0].shape[1], axis=1))
    first = np.concatenate(columns, axis=1)
    rest = [np.concatenate([p[i] for p in parts], axis=1) for i in range(tensor.ndim - 1)]
    return [first, *rest]
