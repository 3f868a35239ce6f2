"""Integrals along an axis given by matrices: its own matrices and load vectors, by name."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot
from typing import final

import numpy as np
import scipy.sparse

from sepnet.bases.matrix_axis import Assembled
from sepnet.functions.columns import Column
from sepnet.terms import Factor
from sepnet.univariate import Univariate

__all__ = ["GivenAxis"]


@final
class GivenAxis:
    """What stands in for quadrature on an axis given by matrices.

    Data along it are constants or functions on the same axis, which are vectors of coefficients.

    Parameters
    ----------
    name : str
        Name of the axis, for messages.
    basis : Assembled
        The axis.
    """

    def __init__(self, name: str, basis: Assembled) -> None:
        self.name = name
        self.basis = basis

    def matrix(self, trial: Factor, test: Factor) -> scipy.sparse.csr_array:
        """Return the matrix that the test factor names.

        Raises
        ------
        ValueError
            If a factor has a coefficient, derivative or face along the axis.
        """
        return scipy.sparse.csr_array(self._scale(trial) * self._scale(test) * self.basis.matrix(test.matrix))

    def vector(self, data: Univariate, test: Factor) -> np.ndarray:
        """Return the load of data: the named vector for constants, the named matrix times the coefficients else."""
        scale, coefficients = self._split(data)
        scale *= self._scale(test)
        if coefficients is None:
            return np.asarray(scale * self.basis.load(test.matrix))
        return np.asarray(scale * (self.basis.matrix(test.matrix) @ coefficients))

    def vector_noise(self, data: Univariate, test: Factor) -> float:
        """Return the norm of what the entries of `vector` added up, in absolute value."""
        scale, coefficients = self._split(data)
        scale = abs(scale * self._scale(test))
        if coefficients is None:
            return scale * float(np.linalg.norm(self.basis.load(test.matrix)))
        return scale * hypot(*(abs(self.basis.matrix(test.matrix)) @ np.abs(coefficients)))

    def coefficients(self, functions: Sequence[Univariate]) -> np.ndarray:
        """Return the coefficients (n, k) of functions; a constant is the L2 projection of that constant."""
        columns = []
        for function in functions:
            scale, coefficients = self._split(function)
            held = self.basis.represent(self.basis.load(None)) if coefficients is None else coefficients
            columns.append(scale * held)
        return np.stack(columns, axis=1) if columns else np.zeros((self.basis.size, 0))

    def weighted(self, functions: Sequence[Univariate]) -> np.ndarray:
        """Return functions in orthonormal coordinates, (n, k): the Euclidean norm is the L2 norm."""
        root = self.basis.mass_root.root if self.basis.kind == "sparse" else self.basis.dense_root
        return np.asarray(root @ self.coefficients(functions))

    def _scale(self, factor: Factor) -> float:
        value = factor.coefficient.constant
        if value is None or factor.order or factor.at is not None:
            what = "an evaluation" if factor.at is not None else "a derivative" if factor.order else "a coefficient"
            msg = (
                f"a term has {what} along axis {self.name!r}, which is given by matrices: put it into one of them, and "
                f"name that, e.g. sn.inner(one, one, {self.name}='stiffness')"
            )
            raise ValueError(msg)
        return value

    def _split(self, data: Univariate) -> tuple[float, np.ndarray | None]:
        """Return data as a number times a vector of coefficients, None for the constant 1."""
        if data.constant is not None:
            return data.constant, None
        if len(data.powers) == 1 and len(data.callables) == 1:
            column = data.callables[0]
            if isinstance(column, Column) and column.order == 0 and column.matrix.basis == self.basis:
                return data.powers[0], column.matrix.factor[:, column.number]
            if isinstance(column, Column) and isinstance(column.matrix.basis, Assembled):
                msg = (
                    f"data live on another axis than {self.name!r}, {column.matrix.basis!r}, expected {self.basis!r}: "
                    "give the coefficients on this one"
                )
                raise ValueError(msg)
        msg = (
            f"data depend on axis {self.name!r} by an expression, but it is given by matrices and has no coordinate: "
            f"give the values at its degrees of freedom, sn.CP(sn.TensorSpace({self.name}=axis), [values[:, None]])"
        )
        raise ValueError(msg)
