"""KHRONOS for scikit-learn: sums of products of splines as a regressor and a classifier.

This module needs scikit-learn; `import sepnet` does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, final

import numpy as np

from sepnet.functions.outside import Outside, check_outside
from sepnet.models.khronos_base import SeparableRegressor, by_output, inert_inputs, points_of, run_fit
from sepnet.models.khronos_rows import Rows, axis_names, weighted_rows
from sepnet.solvers.fit_result import Fit

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_y
except ImportError as error:
    msg = f"the estimators of sepnet need scikit-learn ({error}): pip install 'sepnet[sklearn]'"
    raise ImportError(msg) from error

__all__ = ["KhronosClassifier", "KhronosRegressor"]


@final
class KhronosRegressor(SeparableRegressor):
    """Regression by sums of products of univariate splines, fitted by `sepnet.fit`.

    By default the fit finds which inputs act together, how many products they need, and where knots are needed. With
    `rank` it is that many products of all inputs, the KHRONOS class. Several outputs share their products.

    Parameters
    ----------
    rank : int, optional
        Number of products of all inputs; by default a sparse sum that the fit finds.
    cells : int, optional
        Cells an axis: with `rank` fixed, otherwise at the start. By default the fit halves cells where that pays.
    degree : int
        Degree of the splines.
    penalty : "gcv", "evidence", float or mapping of axis name to float
        Weight of the roughness of each axis; by default by generalised cross-validation. "evidence" is for at most 1000
        noisy samples, see `sepnet.fit`.
    ridge : float
        Weight of the distance to the best constant, as `sepnet.fit` takes it.
    method : {"lm", "als"}
        Levenberg-Marquardt steps in all factors at once, or alternating least squares.
    tol : float
        Root mean square error, relative to the targets' standard deviation, at which nothing is added any more.
    max_steps : int
        Most steps of the last fit to all samples.
    random_state : int, RandomState or None
        Seed of the starts and of the samples held back. None draws a new one for each fit.
    outside : {"linear", "clamp", "error"}
        How the function goes on outside the box of the samples: by its tangent at the nearest point of the box, by the
        value there, or not at all.

    Attributes
    ----------
    function_ : CP, SNA or tuple of these
        The fitted function, in the units of the data; one for each output if `y` has two dimensions.
    fit_ : Fit
        The whole result of the fit: status, noise, degrees of freedom, penalty, history. With several outputs
        ``fit_.u`` has one more axis, ``output``.
    inert_ : tuple of str
        Names of the inputs that do nothing.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only after a fit to a data frame.

    Notes
    -----
    Rows that are equal count as one sample of their total weight, so that a weight of two and the same row twice give
    the same function.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> X = np.random.default_rng(0).random((500, 3))
    >>> model = sn.KhronosRegressor().fit(X, np.sin(3 * X[:, 0]) * X[:, 1])
    >>> model.inert_
    ('x2',)
    >>> bool(abs(model.predict([[0.5, 0.5, 0.5]]) - np.sin(1.5) / 2)[0] < 1e-3)
    True
    >>> found = model.invert(0.3)
    >>> found.status.name, bool(np.allclose(model.predict(found.points), 0.3))
    ('REACHED', True)
    """

    def __init__(
        self,
        rank: int | None = None,
        *,
        cells: int | None = None,
        degree: int = 3,
        penalty: Literal["gcv", "evidence"] | float | Mapping[str, float] = "gcv",
        ridge: float = 0.0,
        method: Literal["lm", "als"] = "lm",
        tol: float = 1e-6,
        max_steps: int = 30,
        random_state: Any = 0,
        outside: Outside = "linear",
    ) -> None:
        self.rank = rank
        self.cells = cells
        self.degree = degree
        self.penalty = penalty
        self.ridge = ridge
        self.method = method
        self.tol = tol
        self.max_steps = max_steps
        self.random_state = random_state
        self.outside = outside

    def _functions(self, rows: Rows, names: tuple[str, ...]) -> tuple[Any, Fit]:
        found = run_fit(self, rows, names, rank=self.rank, cells=self.cells, degree=self.degree)
        outputs = rows.targets.shape[1:]
        if outputs in ((), (1,)):  # a single column makes no axis
            return (found.u if outputs == () else (found.u,)), found
        return by_output(found.u, outputs[0]), found


@final
class KhronosClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Classification by sums of products of univariate splines: the log-odds are fitted by `sepnet.fit`.

    Of more than two classes each is told from all the others, and the probabilities are normalised.

    Parameters
    ----------
    rank : int, optional
        Number of products of all inputs; by default a sparse sum that the fit finds.
    cells : int, optional
        Cells an axis: with `rank` fixed, otherwise at the start. By default the fit halves cells where that pays.
    degree : int
        Degree of the splines.
    penalty : "gcv", float or mapping of axis name to float
        Weight of the roughness of each axis; by default by generalised cross-validation.
    ridge : float
        Weight of the distance to the best constant, as `sepnet.fit` takes it.
    method : {"lm", "als"}
        Levenberg-Marquardt steps in all factors at once, or alternating least squares.
    tol : float
        As `sepnet.fit` takes it.
    max_steps : int
        Most steps of the last fit to all samples.
    random_state : int, RandomState or None
        Seed of the starts and of the samples held back. None draws a new one for each fit.
    outside : {"linear", "clamp", "error"}
        How the log-odds go on outside the box of the samples: by the tangent at the nearest point of the box, by the
        value there, or not at all.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, in order.
    function_ : CP, SNA or tuple of these
        The log-odds of the second class; of more than two classes those of each class.
    fit_ : Fit or tuple of Fit
    inert_ : tuple of str
        Names of the inputs that do nothing.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only after a fit to a data frame.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-1, 1, size=(600, 2))
    >>> y = np.where(rng.random(600) < 1 / (1 + np.exp(3 - 8 * X[:, 0] ** 2)), "out", "in")
    >>> model = sn.KhronosClassifier().fit(X, y)
    >>> model.predict([[0.0, 0.5], [0.9, 0.5]])
    array(['in', 'out'], dtype='<U3')
    """

    def __init__(
        self,
        rank: int | None = None,
        *,
        cells: int | None = None,
        degree: int = 3,
        penalty: Literal["gcv"] | float | Mapping[str, float] = "gcv",
        ridge: float = 0.0,
        method: Literal["lm", "als"] = "lm",
        tol: float = 1e-6,
        max_steps: int = 30,
        random_state: Any = 0,
        outside: Outside = "linear",
    ) -> None:
        self.rank = rank
        self.cells = cells
        self.degree = degree
        self.penalty = penalty
        self.ridge = ridge
        self.method = method
        self.tol = tol
        self.max_steps = max_steps
        self.random_state = random_state
        self.outside = outside

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the log-odds to samples.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Inputs, finite. The names of the columns of a data frame become those of the axes where they can be.
        y : array-like of shape (n,)
            Labels.
        sample_weight : array-like of shape (n,), optional
            Weights of the samples, not negative.

        Returns
        -------
        KhronosClassifier
            Itself.

        Raises
        ------
        ValueError
            If data or a parameter do not fit, or samples of positive weight have one class only.
        """
        check_outside(self.outside)
        if y is None:
            msg = "KhronosClassifier requires y to be passed, but the target y is None: give a label for each row of X"
            raise ValueError(msg)
        if np.ma.is_masked(y):
            msg = "`y` has masked labels, expected a label for each row: leave the rows out"
            raise ValueError(msg)
        labels = _check_y(y, estimator=self)
        check_classification_targets(labels)
        rows = weighted_rows(self, X, labels, sample_weight, reset=True)
        self.classes_, codes = np.unique(rows.targets, return_inverse=True)
        if len(self.classes_) < 2:
            msg = f"`y` has one class, {self.classes_[0]}, expected two or more: nothing is to be told apart"
            raise ValueError(msg)
        names = axis_names(getattr(self, "feature_names_in_", None), self.n_features_in_)
        chosen = [1] if len(self.classes_) == 2 else range(len(self.classes_))
        fits = tuple(self._one(rows._replace(targets=(codes == k).astype(np.float64)), names) for k in chosen)
        self.fit_ = fits if len(fits) > 1 else fits[0]
        self.function_ = tuple(f.u for f in fits) if len(fits) > 1 else fits[0].u
        self.inert_ = inert_inputs(self.fit_)
        return self

    def _one(self, rows: Rows, names: tuple[str, ...]) -> Fit:
        return run_fit(self, rows, names, rank=self.rank, cells=self.cells, degree=self.degree, loss="logistic")

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the log-odds.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Inputs.

        Returns
        -------
        ndarray of shape (n,) or (n, n_classes)
            Of the second class, or with more than two of each class against all others.

        Raises
        ------
        ValueError
            If the inputs are not finite or not those of the fit, or with ``outside="error"`` outside the box.
        """
        points = points_of(self, X)
        if isinstance(self.function_, tuple):
            return np.stack([u(points, outside=self.outside) for u in self.function_], axis=1)
        return np.asarray(self.function_(points, outside=self.outside))

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable labels.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Inputs.

        Returns
        -------
        ndarray of shape (n,)

        Raises
        ------
        ValueError
            As for `decision_function`.
        """
        odds = self.decision_function(X)
        return np.asarray(self.classes_[odds.argmax(axis=1) if odds.ndim == 2 else (odds > 0).astype(np.int64)])

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Inputs.

        Returns
        -------
        ndarray of shape (n, n_classes)
            In the order of `classes_`; rows sum to one.

        Raises
        ------
        ValueError
            As for `decision_function`.
        """
        odds = self.decision_function(X)
        logs = -np.logaddexp(0.0, np.stack([odds, -odds], axis=1) if odds.ndim == 1 else -odds)
        # in logarithms: where every class is improbable, the quotient of vanishing numbers still has a meaning
        shares = np.exp(logs - logs.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))
