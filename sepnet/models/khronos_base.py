"""What the regressors share: checks, prediction, gradients and inversion of the functions that were fitted.

This module needs scikit-learn; `import sepnet` does not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np

from sepnet.functions import CP
from sepnet.functions.outside import check_outside
from sepnet.functions.sna import SNA
from sepnet.models.khronos_rows import Rows, axis_names, merged, real_targets, seed_of, weighted_rows
from sepnet.solvers.fit import fit
from sepnet.solvers.fit_result import Fit
from sepnet.solvers.newton import Inversion, invert

try:
    from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    msg = f"the estimators of sepnet need scikit-learn ({error}): pip install 'sepnet[sklearn]'"
    raise ImportError(msg) from error

__all__ = ["SeparableRegressor", "by_output", "inert_inputs", "points_of", "run_fit"]


class SeparableRegressor(MultiOutputMixin, RegressorMixin, BaseEstimator, ABC):  # type: ignore[misc]  # no types there
    """A regressor whose prediction is a separable function of the inputs."""

    @abstractmethod
    def _functions(self, rows: Rows, names: tuple[str, ...]) -> tuple[Any, Any]:
        """Return the function and the fit of targets (n,), or those of targets (n, m)."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the function to samples.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Inputs, finite. The names of the columns of a data frame become those of the axes where they can be
            (identifiers), otherwise the axes are ``x0, x1, ...``.
        y : array-like of shape (n,) or (n, outputs)
            Targets; NaN where one is missing.
        sample_weight : array-like of shape (n,), optional
            Weights of the samples, not negative.

        Returns
        -------
        SeparableRegressor
            Itself.

        Raises
        ------
        ValueError
            If data or a parameter do not fit; see `sepnet.fit`.
        """
        check_outside(self.outside)
        rows = weighted_rows(self, X, real_targets(y, estimator=self), sample_weight, reset=True)
        names = axis_names(getattr(self, "feature_names_in_", None), self.n_features_in_)
        self.function_, self.fit_ = self._functions(rows, names)
        self.inert_ = inert_inputs(self.fit_)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the values of the function.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Inputs.

        Returns
        -------
        ndarray of shape (n,) or (n, outputs)
            In float64.

        Raises
        ------
        ValueError
            If the inputs are not finite or not those of the fit, or with ``outside="error"`` outside the box.
        """
        points = points_of(self, X)
        if isinstance(self.function_, tuple):
            return np.stack([u(points, outside=self.outside) for u in self.function_], axis=1)
        return np.asarray(self.function_(points, outside=self.outside))

    def gradient(self, X: Any) -> np.ndarray:
        """Return the exact derivatives of the prediction by the inputs.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Inputs.

        Returns
        -------
        ndarray of shape (n, d) or (n, outputs, d)
            In float64.

        Raises
        ------
        ValueError
            As for `predict`.
        """
        points = points_of(self, X)
        if isinstance(self.function_, tuple):
            return np.stack([u.gradient(points, outside=self.outside) for u in self.function_], axis=1)
        return np.asarray(self.function_.gradient(points, outside=self.outside))

    def invert(self, y: Any, **options: Any) -> Inversion:
        """Find inputs of which the function gives targets: a sample of all of them, by `sepnet.invert`.

        Parameters
        ----------
        y : float or array-like
            A target or T targets (T,); with m outputs (m,) or (T, m).
        **options
            As `sepnet.invert` takes them: ``n_starts``, ``bounds``, ``prior``, ``tol`` and so on.

        Returns
        -------
        Inversion
            Points in the box of the fit, by default; its status says when a target is out of reach.

        Raises
        ------
        TypeError, ValueError
            As `sepnet.invert`.
        """
        check_is_fitted(self)
        u = list(self.function_) if isinstance(self.function_, tuple) else self.function_
        return invert(u, np.asarray(y, dtype=np.float64), **options)


def points_of(estimator: Any, X: Any) -> np.ndarray:
    """Return inputs in float64, checked against those of the fit."""
    check_is_fitted(estimator)
    return np.asarray(validate_data(estimator, X, dtype=np.float64, reset=False))


def run_fit(estimator: Any, rows: Rows, names: tuple[str, ...] | None, **options: Any) -> Fit:
    """Fit a function to rows, equal ones merged, with the parameters that all estimators have.

    Parameters
    ----------
    estimator : estimator
    rows : Rows
    names : tuple of str or None
        Names of the axes; None with ``space=``.
    **options
        Further arguments of `fit`.
    """
    points, targets, weights = merged(rows)
    return fit(
        points, targets, weights=weights, names=names, penalty=estimator.penalty, ridge=estimator.ridge,
        method=estimator.method, tol=estimator.tol, max_steps=estimator.max_steps,
        seed=seed_of(estimator.random_state), **options,
    )  # fmt: skip


def by_output(u: CP | SNA, count: int) -> tuple[Any, ...]:
    """Return the functions of the single outputs."""
    return tuple(u.restrict(output=float(j)) for j in range(count))


def inert_inputs(fits: Fit | tuple[Fit, ...]) -> tuple[str, ...]:
    """Return the names of the inputs that do nothing in any of the fits."""
    first, *rest = fits if isinstance(fits, tuple) else (fits,)
    return tuple(name for name in first.inert if all(name in other.inert for other in rest))
