"""Additive and pairwise models for scikit-learn.

This module needs scikit-learn; `import sepnet` does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, final

import numpy as np

from sepnet.bases.bspline import BSpline
from sepnet.functions.interaction import Interaction, Subset
from sepnet.functions.outside import Outside, check_outside
from sepnet.models.khronos_base import SeparableRegressor, inert_inputs, run_fit
from sepnet.models.khronos_rows import Rows, axis_names, merged, real_targets, weighted_rows
from sepnet.models.khronos_sums import Sums, additive_fit, additive_setup, sums_of
from sepnet.spaces import TensorSpace

try:
    from sklearn.utils.metaestimators import available_if
except ImportError as error:
    msg = f"the estimators of sepnet need scikit-learn ({error}): pip install 'sepnet[sklearn]'"
    raise ImportError(msg) from error

__all__ = ["AdditiveRegressor", "PairwiseRegressor"]

_CELLS = 6  # as sepnet.fit has it


def _adds_up(estimator: Any) -> bool:
    """Whether the fit is linear in its coefficients: the penalty and the box are given.

    Raises
    ------
    AttributeError
        If not, with the next step: a method that is not there raises this.
    """
    if isinstance(estimator.penalty, str):
        msg = (
            f"partial_fit needs a fixed penalty, it is {estimator.penalty!r}, which looks at all samples: give a "
            "number such as penalty=1e-6, or call fit with all samples; sn.fit takes batches that are read again"
        )
        raise AttributeError(msg)
    if estimator.box is None:
        msg = (
            "partial_fit needs the box of all samples to come, `box` is None: give box=(low, high), numbers or one "
            "for each input, or call fit with all samples; sn.fit takes batches that are read again"
        )
        raise AttributeError(msg)
    return True


@final
class AdditiveRegressor(SeparableRegressor):
    """Regression by a sum of functions of one input each: the generalised additive model.

    Several outputs are fitted one by one.

    Parameters
    ----------
    cells : int, optional
        Cells an axis, fixed; by default 6, which the fit halves where that pays unless `box` is given.
    degree : int
        Degree of the splines.
    penalty : "gcv", float or mapping of axis name to float
        Weight of the roughness of each axis; by default by generalised cross-validation.
    ridge : float
        Weight of the distance to the best constant, as `sepnet.fit` takes it.
    box : (low, high), optional
        Domain of the function, numbers or one for each input; by default the box of the samples. Samples outside are
        refused.
    method : {"lm", "als"}
        Levenberg-Marquardt steps in all factors at once, or alternating least squares.
    tol : float
        As `sepnet.fit` takes it.
    max_steps : int
        Most steps of the last fit to all samples.
    random_state : int, RandomState or None
        Seed of the starts and of the samples held back. None draws a new one for each fit.
    outside : {"linear", "clamp", "error"}
        How the function goes on outside the box: by its tangent at the nearest point of the box, by the value there,
        or not at all.

    Attributes
    ----------
    function_ : SNA or CP, or tuple of these
        The fitted function, in the units of the data; one for each output if `y` has two dimensions.
    fit_ : Fit or tuple of Fit
        The whole result of the fit: status, noise, degrees of freedom, penalty.
    inert_ : tuple of str
        Names of the inputs that do nothing.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only after a fit to a data frame.

    Notes
    -----
    With a penalty that is no string and a `box` the coefficients solve one linear system, whose matrix is a sum over
    samples. Then `fit` solves it, and `partial_fit` is there: it adds samples to the sums and solves again. The result
    is that of one fit to all samples, to round-off.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> X = np.random.default_rng(0).random((400, 2))
    >>> y = np.exp(X[:, 0]) + X[:, 1] ** 2
    >>> model = sn.AdditiveRegressor(penalty=1e-8, box=(0, 1))
    >>> for batch in np.split(np.arange(400), 4):
    ...     _ = model.partial_fit(X[batch], y[batch])
    >>> bool(abs(model.predict([[0.5, 0.5]]) - np.exp(0.5) - 0.25)[0] < 1e-4)
    True
    """

    _sums: list[Sums]
    _sums_space: TensorSpace
    _sums_outputs: tuple[int, ...]

    def __init__(
        self,
        *,
        cells: int | None = None,
        degree: int = 3,
        penalty: Literal["gcv"] | float | Mapping[str, float] = "gcv",
        ridge: float = 0.0,
        box: Any = None,
        method: Literal["lm", "als"] = "lm",
        tol: float = 1e-6,
        max_steps: int = 30,
        random_state: Any = 0,
        outside: Outside = "linear",
    ) -> None:
        self.cells = cells
        self.degree = degree
        self.penalty = penalty
        self.ridge = ridge
        self.box = box
        self.method = method
        self.tol = tol
        self.max_steps = max_steps
        self.random_state = random_state
        self.outside = outside

    @available_if(_adds_up)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Add samples to those that were fitted before, exactly.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Inputs in the box.
        y : array-like of shape (n,) or (n, outputs)
            Targets; NaN where one is missing. The first samples must hold one of each output at least.
        sample_weight : array-like of shape (n,), optional
            Weights of the samples, not negative.

        Returns
        -------
        AdditiveRegressor
            Itself.

        Raises
        ------
        ValueError
            If data do not fit, inputs are outside the box, or box, cells or degree have changed since the first call.
        """
        check_outside(self.outside)
        first = not hasattr(self, "_sums")
        rows = weighted_rows(self, X, real_targets(y, estimator=self), sample_weight, reset=first)
        space = self._space(axis_names(getattr(self, "feature_names_in_", None), self.n_features_in_))
        if not first and (space != self._sums_space or rows.targets.shape[1:] != self._sums_outputs):
            msg = (
                "the box, cells, degree or number of outputs are not those of the samples before, expected the same: "
                "call fit to start anew"
            )
            raise ValueError(msg)
        self._sums_space, self._sums_outputs = space, rows.targets.shape[1:]
        self._add(rows)
        return self

    def _functions(self, rows: Rows, names: tuple[str, ...]) -> tuple[Any, Any]:
        for state in ("_sums", "_sums_space", "_sums_outputs"):
            self.__dict__.pop(state, None)
        if self.box is None:
            return _one_by_one(self, rows, names, Interaction(1), cells=self.cells, degree=self.degree)
        space = self._space(names)
        if isinstance(self.penalty, str):
            return _one_by_one(self, rows, None, Interaction(1), space=space)
        self._sums_space, self._sums_outputs = space, rows.targets.shape[1:]
        self._add(rows)
        return self.function_, self.fit_

    def _add(self, rows: Rows) -> None:
        """Add the samples to the sums, and solve."""
        rows = merged(rows)
        setup = additive_setup(self._sums_space, rows.points, self.penalty, self.ridge)
        table = rows.targets.reshape(len(rows.targets), -1)
        sums = [sums_of(setup, rows.points, column, rows.weights) for column in table.T]
        before = getattr(self, "_sums", None)
        if before is not None:
            sums = [one + other for one, other in zip(before, sums, strict=True)]
        empty = [j for j, one in enumerate(sums) if one.count == 0]
        if empty:
            msg = f"`y` has no target in column {empty[0]}, expected one at least: leave the column out"
            raise ValueError(msg)
        self._sums = sums
        fits = tuple(additive_fit(setup, one) for one in sums)
        single = not self._sums_outputs
        self.fit_ = fits[0] if single else fits
        self.function_ = fits[0].u if single else tuple(f.u for f in fits)
        self.inert_ = inert_inputs(self.fit_)

    def _space(self, names: tuple[str, ...]) -> TensorSpace:
        low, high = _box_of(self.box, len(names))
        cells = _CELLS if self.cells is None else self.cells
        ends = zip(names, low, high, strict=True)
        return TensorSpace(**{n: BSpline((float(a), float(b)), cells=cells, degree=self.degree) for n, a, b in ends})


@final
class PairwiseRegressor(SeparableRegressor):
    """Regression by a sum of functions of one and of two inputs.

    Several outputs are fitted one by one.

    Parameters
    ----------
    rank : int or mapping of subset to int
        Products in each function of two inputs.
    subsets : sequence of tuples of axis names, optional
        Which inputs act together, at most two at a time; by default each one and all pairs. Axes are the names of the
        columns of a data frame, or ``x0, x1, ...``.
    cells : int, optional
        Cells an axis, fixed; by default 6, and the fit halves them where that pays.
    degree : int
        Degree of the splines.
    penalty : "gcv", float or mapping of axis name to float
        Weight of the roughness of each axis; by default by generalised cross-validation.
    ridge : float
        Weight of the distance to the best constant, as `sepnet.fit` takes it.
    method : {"lm", "als"}
        Levenberg-Marquardt steps in all factors at once, with a dense matrix of all coefficients, or alternating
        least squares, with one of the coefficients of one input. All pairs of many inputs are for "als".
    tol : float
        As `sepnet.fit` takes it.
    max_steps : int
        Most steps of the last fit to all samples.
    random_state : int, RandomState or None
        Seed of the starts and of the samples held back. None draws a new one for each fit.
    outside : {"linear", "clamp", "error"}
        How the function goes on outside the box of the samples: by its tangent at the nearest point of the box, by the
        value there, or not at all.

    Attributes
    ----------
    function_ : SNA or CP, or tuple of these
        The fitted function, in the units of the data; one for each output if `y` has two dimensions.
    fit_ : Fit or tuple of Fit
        The whole result of the fit: status, noise, degrees of freedom, penalty.
    inert_ : tuple of str
        Names of the inputs that do nothing.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only after a fit to a data frame.

    Examples
    --------
    >>> import numpy as np
    >>> import sepnet as sn
    >>> X = np.random.default_rng(0).random((400, 3))
    >>> y = np.sin(3 * X[:, 0]) * X[:, 1] + X[:, 2]
    >>> model = sn.PairwiseRegressor(subsets=["x2", ("x0", "x1")]).fit(X, y)
    >>> list(model.function_.parts), bool(model.score(X, y) > 0.999)
    ([('x2',), ('x0', 'x1')], True)
    """

    def __init__(
        self,
        rank: int | Mapping[Subset, int] = 1,
        *,
        subsets: Sequence[str | Sequence[str]] | None = None,
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
        self.subsets = subsets
        self.cells = cells
        self.degree = degree
        self.penalty = penalty
        self.ridge = ridge
        self.method = method
        self.tol = tol
        self.max_steps = max_steps
        self.random_state = random_state
        self.outside = outside

    def _functions(self, rows: Rows, names: tuple[str, ...]) -> tuple[Any, Any]:
        interaction = Interaction(min(2, len(names)), rank=self.rank, subsets=self.subsets)
        return _one_by_one(self, rows, names, interaction, cells=self.cells, degree=self.degree)


def _one_by_one(
    estimator: Any, rows: Rows, names: tuple[str, ...] | None, interaction: Interaction, **options: Any
) -> tuple[Any, Any]:
    """Fit each output by itself: in `sepnet.fit` they would share their functions, up to factors."""
    if rows.targets.ndim == 1:
        found = run_fit(estimator, rows, names, interaction=interaction, **options)
        return found.u, found
    fits = tuple(
        run_fit(estimator, rows._replace(targets=column), names, interaction=interaction, **options)
        for column in rows.targets.T
    )
    return tuple(f.u for f in fits), fits


def _box_of(box: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper ends of a box, one for each input."""
    try:
        low, high = (np.broadcast_to(np.asarray(end, dtype=np.float64), (count,)) for end in box)
    except (TypeError, ValueError) as error:
        msg = f"`box` is {box!r}, expected (low, high), numbers or {count} of them each, one for each input ({error})"
        raise ValueError(msg) from error
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        msg = f"`box` is {box!r}, expected finite ends, low below high for each input"
        raise ValueError(msg)
    return low, high
