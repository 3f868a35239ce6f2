"""The models that `benchmarks/inconel.py` compares, each with the same number of settings to choose from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from inconel_data import Components
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

import sepnet as sn

Predictor = Callable[[np.ndarray], np.ndarray]
Fit = Callable[..., Predictor]

FEATURES = tuple(product(("none", "sqrt"), (3, 5, 8)))  # transformation and number of components: the same for all arms
BEST = 3  # functions of the best settings that are averaged
COEFFICIENTS = 250  # of the KHRONOS arm: fewer


def ridge(features: np.ndarray, y: np.ndarray, *, alpha: float) -> Predictor:
    return Ridge(alpha).fit(features, y).predict


def forest(features: np.ndarray, y: np.ndarray, *, leaf: int, share: float, trees: int = 40) -> Predictor:
    model = RandomForestRegressor(trees, min_samples_leaf=leaf, max_features=share, random_state=0, n_jobs=1)
    return model.fit(features, y).predict


def boosting(features: np.ndarray, y: np.ndarray, *, depth: int, trees: int) -> Predictor:
    from xgboost import XGBRegressor

    model = XGBRegressor(max_depth=depth, n_estimators=trees, learning_rate=0.06, subsample=0.8, n_jobs=1)
    return model.fit(features, y).predict


def gaussian_process(features: np.ndarray, y: np.ndarray, *, kernel: str, white: bool) -> Predictor:
    scale = features.std(0) if white else 1.0
    shape = {"rbf": RBF(1.0), "matern": Matern(1.0, nu=1.5)}[kernel]
    model = GaussianProcessRegressor(ConstantKernel(1.0) * shape + WhiteKernel(0.3), normalize_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a hyper-parameter at its bound
        model.fit(features / scale, y)
    return lambda points: np.asarray(model.predict(points / scale))


@dataclass(frozen=True)
class Khronos:
    """A sum of products of splines plus a constant, the mean."""

    u: sn.CP
    constant: float

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return (
            np.asarray(self.u(np.ascontiguousarray(features[:, : self.u.space.dim]), outside="clamp")) + self.constant
        )

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return self.u.size + 1


def khronos(features: np.ndarray, y: np.ndarray, *, rank: int) -> Khronos:
    """Fit cubic splines on two cells an axis under the prior of the largest evidence.

    The boxes have one width, so that the one length which the prior then has means the same on all axes.
    """
    low, high = features.min(0), features.max(0)
    middle, half = (low + high) / 2, 0.5000001 * (high - low).max()
    axes = {f"x{i}": sn.BSpline((m - half, m + half), cells=2) for i, m in enumerate(middle)}
    fit = sn.fit(features, y, sn.TensorSpace(**axes), rank=rank, penalty="evidence")
    (products,) = fit.u.parts.values()
    return Khronos(products, fit.u.constant)


def average(models: list[Khronos]) -> Khronos:
    """Return the mean of functions of nested inputs as one sum of products; on inputs it lacks a product is one."""
    space = max((model.u.space for model in models), key=lambda space: space.dim)
    blocks = []
    for i in range(space.dim):
        rows = [
            model.u.factors[i] if i < model.u.space.dim else np.ones((space.shape[i], model.u.rank)) for model in models
        ]
        blocks.append(np.concatenate(rows, axis=1))
    blocks[0] = blocks[0] / len(models)
    return Khronos(sn.CP(space, blocks), float(np.mean([model.constant for model in models])))


@dataclass(frozen=True)
class Arm:
    """A model: its fit, its settings, and what the last fit does otherwise than those of the search."""

    fit: Fit
    grid: Mapping[str, tuple[Any, ...]]
    last: Mapping[str, Any] = field(default_factory=dict)


ARMS = {
    "ridge": Arm(ridge, {"alpha": (0.3, 3.0, 30.0, 300.0)}),
    "random forest": Arm(forest, {"leaf": (1, 3), "share": (0.4, 1.0)}, {"trees": 200}),
    "XGBoost": Arm(boosting, {"depth": (2, 4), "trees": (60, 150)}),
    "Gaussian process": Arm(gaussian_process, {"kernel": ("rbf", "matern"), "white": (False, True)}),
    "KHRONOS": Arm(khronos, {"rank": (1, 2, 3, 4)}),
}


@dataclass(frozen=True)
class Fitted:
    """A chosen and fitted arm: the function of its best setting, and the mean of those of its best settings."""

    components: Components
    models: list[Predictor]
    settings: list[dict[str, Any]]
    score: float

    def __call__(self, pictures: np.ndarray, count: int = BEST) -> np.ndarray:
        """Return the mean prediction of the first `count` functions."""
        scores = self.components(pictures)
        parts = zip(self.models[:count], self.settings, strict=False)
        return np.mean([model(scores[:, : setting["components"]]) for model, setting in parts], axis=0)


def settings_of(arm: str) -> Iterator[dict[str, Any]]:
    """Yield every setting that an arm may choose."""
    grid = ARMS[arm].grid
    for (transform, count), values in product(FEATURES, product(*grid.values())):
        yield {"transform": transform, "components": count} | dict(zip(grid, values, strict=True))


def errors_of(arm: str, pictures: np.ndarray, y: np.ndarray, seed: int) -> list[tuple[float, dict[str, Any]]]:
    """Return the squared error of every setting by 5-fold cross-validation inside the training part, least first."""
    most = max(count for _, count in FEATURES)
    settings = list(settings_of(arm))
    errors = np.zeros(len(settings))
    for train, test in KFold(5, shuffle=True, random_state=1000 + seed).split(pictures):
        scores = {}
        for transform in {name for name, _ in FEATURES}:
            components = Components.fit(pictures[train], transform, most)
            scores[transform] = components(pictures[train]), components(pictures[test])
        for i, setting in enumerate(settings):
            near, far = (part[:, : setting["components"]] for part in scores[setting["transform"]])
            own = {name: setting[name] for name in ARMS[arm].grid}
            errors[i] += float(np.sum((ARMS[arm].fit(near, y[train], **own)(far) - y[test]) ** 2))
    return [(errors[i], settings[i]) for i in np.argsort(errors, kind="stable")]


def choose(arm: str, pictures: np.ndarray, y: np.ndarray, *, seed: int = 0) -> Fitted:
    """Choose settings inside the training part, and fit to all of it the best ones of the best transformation."""
    order = errors_of(arm, pictures, y, seed)
    best = order[0][1]
    settings = [setting for _, setting in order if setting["transform"] == best["transform"]]
    components = Components.fit(pictures, best["transform"], max(count for _, count in FEATURES))
    scores = components(pictures)
    models: list[Predictor] = []
    kept: list[dict[str, Any]] = []
    for setting in settings:
        own = {name: setting[name] for name in ARMS[arm].grid} | dict(ARMS[arm].last)
        model = ARMS[arm].fit(np.ascontiguousarray(scores[:, : setting["components"]]), y, **own)
        if isinstance(model, Khronos) and average([*models, model]).size >= COEFFICIENTS:
            continue
        models.append(model)
        kept.append(setting)
        if len(models) == BEST:
            break
    score = 1.0 - order[0][0] / float(np.sum((y - y.mean()) ** 2))
    return Fitted(components, models, kept, score)
