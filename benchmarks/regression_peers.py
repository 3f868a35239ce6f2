"""Other libraries behind one interface, for `regression.py`. Each is optional: what is not installed is left out.

Every peer gets the same samples and the box of the case, in float64 unless it works in another precision by default.
A peer with several `settings` is fitted with each of them on 80 % of the samples; the setting with the smallest error
on the other 20 % is fitted to all samples, and that fit is measured.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import comb
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from regression_cases import Case

__all__ = ["PEERS", "Peer", "chosen_setting"]

Array = NDArray[np.float64]
Setting = dict[str, Any]
# The prediction, and the number of fitted coefficients where the library tells it.
Fitted = tuple[Callable[[Array], Array], int | None]

# Points that a prediction works on at a time where the library would need gigabytes for all of them.
CHUNK = 4096
# Rows of the samples that the setting is chosen on.
VALIDATION = 0.2


@final
@dataclass(frozen=True)
class Peer:
    """A library's fit, the settings tried, and what it is given beyond the samples."""

    module: str
    distribution: str
    fit: Callable[..., Fitted]
    settings: tuple[Setting, ...]
    # Settings for two or three inputs, where more coefficients an axis can be afforded; the same ones when empty.
    few: tuple[Setting, ...] = ()
    # Cases that it runs on; all of them when empty.
    cases: tuple[str, ...] = ()
    given: str = ""

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    def settings_for(self, case: Case) -> tuple[Setting, ...]:
        return self.few if self.few and len(case.box) <= 3 else self.settings


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the progress bars and remarks of a library out of the table."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def chosen_setting(peer: Peer, case: Case, X: Array, y: Array) -> Setting:
    """Return the setting with the smallest error on the last 20 % of the samples, which none of them was fitted to."""
    settings = peer.settings_for(case)
    if len(settings) == 1:
        return settings[0]
    kept = round((1 - VALIDATION) * len(y))
    errors = []
    for setting in settings:
        try:
            predict, _ = peer.fit(case, X[:kept], y[:kept], **setting)
            error = float(np.sqrt(np.mean((predict(X[kept:]) - y[kept:]) ** 2)))
        except (ArithmeticError, ValueError, np.linalg.LinAlgError, MemoryError):
            error = np.inf
        errors.append(error if np.isfinite(error) else np.inf)
    return settings[int(np.argmin(errors))]


def unit(case: Case, X: Array) -> Array:
    """Map the box to [-1, 1]."""
    return 2 * (X - case.low) / (case.high - case.low) - 1


# ---------------------------------------------------------------------------------------------------- low-rank peers


def fit_teneva(case: Case, X: Array, y: Array, nodes: int, rank: int, ridge: float) -> Fitted:
    """Fit a tensor train of Chebyshev polynomials by alternating least squares."""
    import teneva

    shape = [nodes] * len(case.box)
    centre, scale = y.mean(), y.std()
    # Centred and scaled, because the penalty of `als_func` is absolute.
    start = teneva.rand(shape, rank, seed=0)
    train = teneva.als_func(unit(case, X), (y - centre) / scale, start, -1.0, 1.0, nswp=20, e=1e-8, lamb=ridge)

    def predict(points: Array) -> Array:
        values = [
            teneva.func_get(unit(case, points[i : i + CHUNK]), train, -1.0, 1.0) for i in range(0, len(points), CHUNK)
        ]
        return centre + scale * np.concatenate(values)

    return predict, sum(core.size for core in train)


def tensap_bases(case: Case, degree: int) -> Any:
    """Return Legendre polynomials on every axis of the box."""
    import tensap

    variables = [tensap.UniformRandomVariable(low, high) for low, high in case.box.values()]
    axes = [tensap.PolynomialFunctionalBasis(v.orthonormal_polynomials(), range(degree + 1)) for v in variables]
    return tensap.FunctionalBases(axes)


def tensap_fitted(solver: Any, case: Case, X: Array, y: Array, degree: int) -> Fitted:
    """Run a learning algorithm of tensap, its ranks grown, and keep the iterate that is best on 10 % of the samples."""
    kept = round(0.9 * len(y))
    solver.bases = tensap_bases(case, degree)
    # Copies: the algorithm subtracts from the values in place.
    solver.training_data = [X[:kept], y[:kept].copy()]
    solver.test_data = [X[kept:], y[kept:].copy()]
    solver.test_error = True
    solver.rank_adaptation = True
    solver.model_selection = True
    solver.display = False
    with quiet():
        function, _ = solver.solve()
    return lambda points: np.ravel(function.eval(points)), int(function.tensor.storage())


def fit_tensap_cp(case: Case, X: Array, y: Array, degree: int) -> Fitted:
    """Fit a sum of up to 10 products of polynomials, its rank adapted."""
    import tensap

    solver = tensap.CanonicalTensorLearning(len(case.box), tensap.SquareLossFunction())
    return tensap_fitted(solver, case, X, y, degree)


def fit_tensap_tree(case: Case, X: Array, y: Array, degree: int, steps: int) -> Fitted:
    """Fit a tree tensor of polynomials on a linear tree (a tensor train in Tucker form), its ranks adapted."""
    import tensap

    order = len(case.box)
    tree = tensap.DimensionTree.linear(order)
    solver = tensap.TreeBasedTensorLearning(tree, [True] * (2 * order - 1), tensap.SquareLossFunction())
    solver.rank_adaptation_options["max_iterations"] = steps
    # With the defaults, 30 sweeps a rank and stagnation at 1e-6, one fit takes more than four minutes.
    solver.alternating_minimization_parameters["max_iterations"] = 10
    solver.alternating_minimization_parameters["stagnation"] = 1e-4
    return tensap_fitted(solver, case, X, y, degree)


# --------------------------------------------------------------------------------------------------- additive peers


def fit_pygam(case: Case, X: Array, y: Array, splines: int, penalty: float) -> Fitted:
    """Fit a sum of univariate cubic P-splines."""
    from pygam import LinearGAM, s

    terms = s(0, n_splines=splines)
    for i in range(1, len(case.box)):
        terms = terms + s(i, n_splines=splines)
    model = LinearGAM(terms, lam=penalty).fit(X, y)
    return model.predict, len(model.coef_)


def fit_pygam_given(case: Case, X: Array, y: Array, splines: int, penalty: float) -> Fitted:
    """Fit Friedman-1 with its terms written down by hand: a surface in (x1, x2), three curves, no other input."""
    from pygam import LinearGAM, s, te

    terms = te(0, 1, n_splines=splines) + s(2, n_splines=splines) + s(3, n_splines=splines) + s(4, n_splines=splines)
    model = LinearGAM(terms, lam=penalty).fit(X, y)
    return model.predict, len(model.coef_)


def fit_spline_ridge(case: Case, X: Array, y: Array, knots: int, ridge: float) -> Fitted:
    """Fit a sum of univariate cubic splines by scikit-learn."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import SplineTransformer

    model = make_pipeline(SplineTransformer(n_knots=knots, extrapolation="linear"), Ridge(ridge)).fit(X, y)
    return model.predict, len(model[-1].coef_) + 1


# ----------------------------------------------------------------------------------------------------- other peers


def fit_polynomial(case: Case, X: Array, y: Array, features: int) -> Fitted:
    """Fit all monomials up to the highest total degree with at most `features` of them."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    d = len(case.box)
    degree = max(k for k in range(1, 100) if comb(d + k, k) <= features)
    model = make_pipeline(PolynomialFeatures(degree, include_bias=False), Ridge(1e-8, solver="cholesky"))
    model.fit(unit(case, X), y)

    def predict(points: Array) -> Array:
        return np.concatenate(
            [model.predict(unit(case, part)) for part in np.array_split(points, len(points) // CHUNK + 1)]
        )

    return predict, len(model[-1].coef_) + 1


def fit_histogram_boosting(case: Case, X: Array, y: Array, **options: Any) -> Fitted:
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(random_state=0, early_stopping=False, **options).fit(X, y)
    return model.predict, None


def fit_xgboost(case: Case, X: Array, y: Array, **options: Any) -> Fitted:
    from xgboost import XGBRegressor

    model = XGBRegressor(n_jobs=1, random_state=0, **options).fit(X, y)
    return model.predict, None


def fit_gaussian_process(case: Case, X: Array, y: Array, subset: int) -> Fitted:
    """Fit one length an axis on a subset, by the likelihood, then interpolate all samples with these lengths."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    d = len(case.box)
    kernel = ConstantKernel(10.0, (1e-2, 1e6)) * RBF(np.ones(d), (1e-2, 1e3))
    # The default, 1e-10, gives covariances that are not positive definite on functions as smooth as Friedman-1.
    options = {"alpha": 1e-8, "normalize_y": True, "random_state": 0}
    first = GaussianProcessRegressor(kernel, **options).fit(unit(case, X[:subset]), y[:subset])
    model = GaussianProcessRegressor(first.kernel_, optimizer=None, **options).fit(unit(case, X), y)

    def predict(points: Array) -> Array:
        return np.concatenate([model.predict(unit(case, points[i : i + CHUNK])) for i in range(0, len(points), CHUNK)])

    return predict, len(y) + d + 1


def fit_pykan(case: Case, X: Array, y: Array, width: int, grid: int, steps: int) -> Fitted:
    """Fit a Kolmogorov-Arnold network [d, width, 1] by L-BFGS, in torch's default precision."""
    import torch
    from kan import KAN

    torch.set_num_threads(1)
    centre, scale = y.mean(), y.std()

    def tensor(values: Array) -> Any:
        return torch.tensor(values, dtype=torch.get_default_dtype())

    inputs, labels = tensor(unit(case, X)), tensor((y - centre) / scale)[:, None]
    # pykan wants a test set for its log alone; the samples themselves serve.
    data = {"train_input": inputs, "train_label": labels, "test_input": inputs[:1], "test_label": labels[:1]}
    with quiet():
        model = KAN(width=[len(case.box), width, 1], grid=grid, k=3, seed=0, auto_save=False, symbolic_enabled=False)
        model = model.speed()
        model.fit(data, opt="LBFGS", steps=steps)

    def predict(points: Array) -> Array:
        with torch.no_grad():
            parts = [model(tensor(unit(case, points[i : i + CHUNK]))) for i in range(0, len(points), CHUNK)]
        return centre + scale * torch.cat(parts)[:, 0].double().numpy()

    return predict, sum(p.numel() for p in model.parameters() if p.requires_grad)


def fit_tasmanian(case: Case, X: Array, y: Array, nodes: int) -> Fitted:
    """Interpolate at the sparse grid's own nodes, at most `nodes` of them; the samples are not used."""
    import Tasmanian

    d = len(case.box)

    def grid(depth: int) -> Any:
        made = Tasmanian.makeGlobalGrid(d, 1, depth, "level", "clenshaw-curtis")
        made.setDomainTransform(np.column_stack([case.low, case.high]))
        return made

    depth = 1
    while grid(depth + 1).getNumPoints() <= nodes and depth < 60:
        depth += 1
    surrogate = grid(depth)
    surrogate.loadNeededPoints(case(surrogate.getNeededPoints())[:, None])
    return lambda points: surrogate.evaluateBatch(points)[:, 0], surrogate.getNumPoints()


BOOSTING = (
    {"n_estimators": 1000, "learning_rate": 0.1, "max_depth": 6},
    {"n_estimators": 3000, "learning_rate": 0.05, "max_depth": 4},
)
HISTOGRAM = ({"max_iter": 1000}, {"max_iter": 2000, "learning_rate": 0.05, "max_leaf_nodes": 15})
TENEVA = tuple({"nodes": n, "rank": r, "ridge": g} for n, r in ((4, 4), (5, 3), (5, 4)) for g in (1e-6, 1e-3))
TENEVA_FEW = tuple({"nodes": n, "rank": r, "ridge": 1e-9} for n, r in ((8, 6), (12, 8), (16, 12)))

PEERS: dict[str, Peer] = {
    "teneva": Peer("teneva", "teneva", fit_teneva, TENEVA, TENEVA_FEW),
    "tensap-cp": Peer("tensap", "tensap", fit_tensap_cp, ({"degree": 5},), ({"degree": 12},)),
    "tensap-tree": Peer(
        "tensap",
        "tensap",
        fit_tensap_tree,
        tuple({"degree": p, "steps": 5} for p in (5, 8)),
        ({"degree": 12, "steps": 10},),
    ),
    "pykan": Peer("kan", "pykan", fit_pykan, ({"width": 5, "grid": 5, "steps": 50},)),
    "pygam": Peer("pygam", "pygam", fit_pygam, tuple({"splines": 20, "penalty": p} for p in (1e-6, 1e-3, 0.6))),
    "pygam-given": Peer(
        "pygam",
        "pygam",
        fit_pygam_given,
        tuple({"splines": 15, "penalty": p} for p in (1e-6, 1e-3, 0.6)),
        cases=("friedman",),
        given="the terms of the function",
    ),
    "spline-ridge": Peer(
        "sklearn", "scikit-learn", fit_spline_ridge, tuple({"knots": k, "ridge": 1e-6} for k in (5, 10, 20))
    ),
    "polynomial": Peer(
        "sklearn",
        "scikit-learn",
        fit_polynomial,
        tuple({"features": n} for n in (300, 1000, 2000, 3100)),
        tuple({"features": n} for n in (50, 100, 200, 400)),
    ),
    "hist-boosting": Peer("sklearn", "scikit-learn", fit_histogram_boosting, HISTOGRAM),
    "xgboost": Peer("xgboost", "xgboost", fit_xgboost, BOOSTING),
    "gaussian-process": Peer("sklearn", "scikit-learn", fit_gaussian_process, ({"subset": 1000},)),
    "tasmanian": Peer(
        "Tasmanian",
        "Tasmanian",
        fit_tasmanian,
        ({"nodes": 16_000},),
        cases=("borehole", "friedman"),
        given="values at its own nodes",
    ),
}
