"""The estimators: scikit-learn's contract, rows and weights, sums of batches, functions in the user's units."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import sepnet as sn
from sepnet.models.khronos import KhronosClassifier, KhronosRegressor
from sepnet.models.khronos_rows import Rows, axis_names, merged, seed_of
from sepnet.models.khronos_sparse import AdditiveRegressor, PairwiseRegressor

FEW = settings(max_examples=max(5, settings().max_examples // 8))  # each example is a fit or more
SMALL = {"cells": 1, "degree": 2, "max_steps": 2}
# checks on data of 10 to 30 inputs, that is 45 to 435 pairs; the plain `check_regressors_train` fits all pairs
WIDE = {
    "check_dtype_object",
    "check_estimators_dtypes",
    "check_regressor_data_not_an_array",
    "check_regressor_multioutput",
    "check_regressors_int",
    "check_sample_weight_equivalence_on_dense_data",
}
# on 15 inputs or more, thirty fits; `test_neither_order_nor_copies_nor_weights_of_zero_change_the_fit` says the same of
# three inputs, to the last bit, and sums, whose fits are fast, take this check too
EQUIVALENCE = "check_sample_weight_equivalence_on_dense_data"
REGRESSORS = [
    KhronosRegressor(cells=2, degree=2),
    KhronosRegressor(2, **SMALL),
    AdditiveRegressor(**SMALL),
    PairwiseRegressor(**SMALL),
]


def checks_of(*estimators):
    """scikit-learn's checks of each estimator, the weights of those that iterate among the slow tests."""
    mark = parametrize_with_checks(list(estimators))
    names, cases = mark.args
    marked = [
        pytest.param(
            estimator,
            check,
            marks=[pytest.mark.slow]
            if check.func.__name__ == EQUIVALENCE and not isinstance(estimator, AdditiveRegressor)
            else [],
        )
        for estimator, check in cases
    ]
    return pytest.mark.parametrize(names, marked, **mark.kwargs)


@checks_of(
    KhronosRegressor(1, penalty=1e-4, **SMALL),
    KhronosClassifier(1, penalty=1e-2, **SMALL),
    AdditiveRegressor(penalty=1e-4, **SMALL),
    AdditiveRegressor(penalty=1e-6, box=(-200, 200), cells=3),
    PairwiseRegressor(penalty=1e-4, cells=1, degree=1, max_steps=2),
)
def test_scikit_learns_checks(estimator, check):
    named = check.func.__name__
    # clones: one estimator serves all checks
    if isinstance(estimator, PairwiseRegressor) and named in WIDE:
        estimator = clone(estimator).set_params(subsets=["x0", ("x0", "x1"), ("x2", "x3")])
    if isinstance(estimator, PairwiseRegressor) and named == "check_regressors_train" and check.keywords:
        estimator = clone(estimator).set_params(subsets=[*(f"x{k}" for k in range(10)), ("x0", "x1")])
    if isinstance(estimator, KhronosClassifier) and named == EQUIVALENCE:
        estimator = clone(estimator).set_params(max_steps=1)  # thirty fits of 15 inputs: equal after one step or never
    check(estimator)


def samples(count=120, inputs=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (count, inputs))
    return X, np.sin(2 * X[:, 0]) + X[:, 1 % inputs] ** 2


# --- rows --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(1, 3), st.sampled_from([(), (1,), (2,)]), st.integers(0, 2**32 - 1))
def test_rows_are_merged_whatever_their_order(count, inputs, outputs, seed):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 2, (count, inputs)) - 0.0
    targets = rng.choice([0.0, 1.0, np.nan], size=(count, *outputs))
    weights = rng.integers(1, 4, count) + 0.0
    rows = merged(Rows(points, targets, weights))
    order = rng.permutation(count)
    for one, other in zip(rows, merged(Rows(points[order], targets[order], weights[order])), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(rows, merged(rows), strict=True):
        np.testing.assert_array_equal(one, other)
    assert rows.weights.sum() == weights.sum()
    assert rows.targets.shape[1:] == outputs
    told = {(x.tobytes(), np.nan_to_num(y, nan=7).tobytes()) for x, y in zip(points, targets, strict=True)}
    found = {(x.tobytes(), np.nan_to_num(y, nan=7).tobytes()) for x, y in zip(*rows[:2], strict=True)}
    assert told == found
    assert len(rows.points) == len(found)


@pytest.mark.parametrize("model", REGRESSORS, ids=repr)
def test_neither_order_nor_copies_nor_weights_of_zero_change_the_fit(model):
    X, y = samples(40)
    rng = np.random.default_rng(1)
    weights = rng.integers(0, 3, len(X))
    one = clone(model).fit(X, y, sample_weight=weights).predict(X)
    order = rng.permutation(np.repeat(np.arange(len(X)), weights))
    other = clone(model).fit(X[order], y[order]).predict(X)
    assert np.array_equal(one, other)


def test_nor_do_they_change_the_probabilities():
    X, y = noisy_classes(40, 3)
    weights = np.random.default_rng(1).integers(0, 3, len(X))
    model = KhronosClassifier(1, penalty=1e-2, **SMALL)
    one = clone(model).fit(X, y, sample_weight=weights).predict_proba(X)
    order = np.random.default_rng(2).permutation(np.repeat(np.arange(len(X)), weights))
    assert np.array_equal(one, clone(model).fit(X[order], y[order]).predict_proba(X))


# --- names and seeds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        (None, ("x0", "x1")),
        (["depth", "speed"], ("depth", "speed")),
        (["depth [mm]", "speed"], ("x0", "speed")),
        (["class", "output"], ("x0", "x1")),
        (["x1", "a b"], ("x0", "x1")),
    ],
)
def test_axes_have_the_names_of_the_columns_that_can_be_names(columns, names):
    assert axis_names(columns, 2) == names


def test_columns_of_a_data_frame_name_the_axes():
    pandas = pytest.importorskip("pandas")
    X, y = samples(60)
    frame = pandas.DataFrame(X, columns=["depth", "speed", "laser power"])
    model = AdditiveRegressor(penalty={"depth": 1e-4, "x2": 1.0}, cells=2).fit(frame, y)
    assert model.function_.space.names == ("depth", "speed", "x2")
    assert list(model.feature_names_in_) == list(frame.columns)


def test_seeds():
    assert seed_of(3) == seed_of(np.int64(3)) == 3
    assert seed_of(np.random.RandomState(1)) == seed_of(np.random.RandomState(1)) != seed_of(np.random.RandomState(2))
    assert seed_of(None) != seed_of(None)
    with pytest.raises(ValueError, match="`seed` is -1"):
        KhronosRegressor(1, random_state=-1).fit(*samples(20))


# --- what is fitted ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", REGRESSORS, ids=repr)
def test_predictions_are_the_function_and_its_continuation(model):
    X, y = samples()
    model = clone(model).fit(X, y)
    far = 1.5 * X
    assert np.array_equal(model.predict(X), model.function_(X))
    assert np.array_equal(model.predict(far), model.function_(far, outside="linear"))
    assert np.array_equal(model.gradient(far), model.function_.gradient(far, outside="linear"))
    assert np.array_equal(model.set_params(outside="clamp").predict(far), model.function_(far, outside="clamp"))
    with pytest.raises(ValueError, match="domain"):
        model.set_params(outside="error").predict(far)
    assert model.fit_.u is model.function_
    model.set_params(outside="linear")
    assert model.predict(X.astype(np.float32)).dtype == np.float64  # rounded, they are outside


def test_the_estimator_is_the_fit():
    X, y = samples(100)
    order = np.lexsort(X.T[::-1])
    found = sn.fit(X[order], y[order])
    model = KhronosRegressor().fit(X, y)
    assert np.array_equal(model.predict(X), found.u(X))
    assert model.inert_ == found.inert == ("x2",)


@pytest.mark.parametrize("model", REGRESSORS, ids=repr)
def test_several_outputs(model):
    sought = isinstance(model, KhronosRegressor) and model.rank is None  # which is many fits
    X, y = samples(60 if sought else 120)
    Y = np.stack([y, 100 * X[:, 2], X[:, 0] - X[:, 1]], axis=1)
    Y[::7, 1] = np.nan
    model = clone(model).set_params(cells=2, max_steps=30).fit(X, Y)
    there = np.isfinite(Y)
    assert model.predict(X).shape == Y.shape
    assert model.gradient(X).shape == (*Y.shape, 3)
    assert model.predict(X).tolist() == np.stack([u(X) for u in model.function_], axis=1).tolist()
    if not (isinstance(model, KhronosRegressor) and model.rank):  # two products are too few for these
        errors = np.where(there, model.predict(X) - np.nan_to_num(Y), 0.0).std(axis=0) / np.nanstd(Y, axis=0)
        assert errors.max() < 0.1
    assert model.inert_ == ()
    column = clone(model).fit(X, Y[:, :1])
    assert column.predict(X).shape == (len(X), 1)
    found = model.invert(model.predict(X[:2]), n_starts=8, max_steps=200)
    for k in (0, 1):
        if found.statuses[k].name == "REACHED":
            np.testing.assert_allclose(
                model.predict(found.of(k).points), model.predict(X[k : k + 1]).repeat(len(found.of(k).points), 0),
                atol=1e-6,
            )  # fmt: skip


def test_inversion_gives_the_target_back():
    X, y = samples()
    model = AdditiveRegressor(cells=3).fit(X, y)
    found = model.invert([0.2, 0.5], n_starts=16, bounds={"x2": 0.25})
    assert {status.name for status in found.statuses} <= {"REACHED", "PARTLY"}
    # the tolerance of `invert` is 4096 roundings
    np.testing.assert_allclose(model.predict(found.points), np.array([0.2, 0.5])[found.target], atol=1e-11)
    assert (found.points[:, 2] == 0.25).all()


def test_pairs_that_are_asked_for():
    X, y = samples()
    model = PairwiseRegressor(2, subsets=["x2", ("x0", "x1")], cells=2).fit(X, y)
    assert set(model.function_.parts) <= {("x2",), ("x0", "x1")}
    with pytest.raises(ValueError, match="names the axis 'b'"):
        PairwiseRegressor(subsets=[("x0", "b")]).fit(X, y)


# --- classes -----------------------------------------------------------------------------------------------------


def noisy_classes(count, classes, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (count, 2))
    scores = 2 * np.sin(np.outer(X[:, 0], 1 + np.arange(classes))) + rng.gumbel(size=(count, classes))
    return X, np.array(["ash", "birch", "cedar"])[scores.argmax(axis=1)]


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities(classes):
    X, y = noisy_classes(300, classes)
    model = KhronosClassifier(1, cells=2).fit(X, y)
    odds, shares = model.decision_function(X), model.predict_proba(X)
    assert list(model.classes_) == sorted(set(y))
    # rounding of a quotient of sums
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=4e-16 * classes)
    assert (model.predict(X) == model.classes_[shares.argmax(axis=1)]).all()
    if classes == 2:
        np.testing.assert_allclose(np.log(shares[:, 1] / shares[:, 0]), odds, atol=1e-10)
        assert np.array_equal(odds, model.function_(X))
    else:
        single = 1 / (1 + np.exp(-odds))
        np.testing.assert_allclose(shares, single / single.sum(axis=1, keepdims=True), rtol=1e-12)
    shown = shares[np.arange(len(y)), np.searchsorted(model.classes_, y)]
    frequencies = np.array([(y == name).mean() for name in y])
    assert np.log(shown).mean() > np.log(frequencies).mean() + 0.05


def test_probabilities_far_from_all_classes_sum_to_one():
    X, y = noisy_classes(200, 3)
    model = KhronosClassifier(1, cells=1).fit(X, y)
    shares = model.predict_proba(np.array([[1e6, -1e6], [-1e6, 1e6], [1e6, 1e6]]))
    assert np.isfinite(shares).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-15)


def test_one_class_is_refused():
    X, _ = samples(10)
    with pytest.raises(ValueError, match="`y` has one class, a, expected two or more"):
        KhronosClassifier().fit(X, ["a"] * 10)


# --- batches -----------------------------------------------------------------------------------------------------


@given(st.integers(30, 80), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(0, 2**32 - 1))
@FEW
def test_batches_add_up_to_one_fit(count, inputs, degree, several, seed):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (count, inputs))
    y = rng.standard_normal((count, 2) if several else count)
    y[rng.random(y.shape) < 0.1] = np.nan
    weights = rng.uniform(0.5, 2.0, count)
    model = AdditiveRegressor(penalty=1e-3, box=(-1, 1), cells=2, degree=degree)
    whole = clone(model).fit(X, y, weights)
    cuts = np.sort(rng.integers(1, count, 2))
    for part in np.split(np.arange(count), cuts):
        if len(part):
            model.partial_fit(X[part], y[part], weights[part])
    probe = rng.uniform(-1, 1, (20, inputs))
    # round-off of sums of 80 products, times the condition number of the scaled matrix, some 1e4 with this penalty
    np.testing.assert_allclose(model.predict(probe), whole.predict(probe), rtol=0, atol=1e-10)


@given(st.integers(1, 3), st.integers(0, 2**32 - 1))
@FEW
def test_sums_are_what_the_iterative_fit_finds(inputs, seed):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (200, inputs))
    y = np.sin(3 * X).sum(axis=1) + 0.1 * rng.standard_normal(200)
    model = AdditiveRegressor(penalty=1e-4, box=(-1, 1), cells=3).fit(X, y)
    found = sn.fit(X, y, model.function_.space, interaction=sn.Interaction(1), penalty=1e-4, max_steps=50)
    # both minimise one quadratic form; the iteration stops where it falls by less than a hundredth of a step
    np.testing.assert_allclose(model.predict(X), found.u(X), rtol=0, atol=1e-4)
    assert model.fit_.error == pytest.approx(found.error, rel=1e-3)
    assert model.fit_.penalty == found.penalty
    assert model.fit_.error == pytest.approx(np.sqrt(np.mean((model.predict(X) - y) ** 2)) / y.std(), rel=1e-6)


def test_degrees_of_freedom_are_the_trace_of_the_influence_matrix():
    X, _ = samples(30)
    model = AdditiveRegressor(penalty=1e-3, box=(-1, 1), cells=2)
    influence = clone(model).fit(X, np.eye(30)).predict(X)  # what values each target makes
    found = model.fit(X, X[:, 0]).fit_.freedom
    # the constant may be had in four ways, and round-off chooses one
    assert found == pytest.approx(np.trace(influence), abs=1e-4)


def test_an_input_that_does_nothing_is_found_in_sums():
    X, y = samples(300)
    model = AdditiveRegressor(penalty=1e-4, box=(-1, 1)).fit(X, y + 0.1 * np.cos(100 * y))
    assert model.inert_ == ("x2",)
    flat = AdditiveRegressor(penalty=1e-4, box=(-1, 1)).fit(X, 0 * y + 0.3)
    assert flat.fit_.status is sn.FitStatus.CONSTANT
    np.testing.assert_allclose(flat.predict(X), 0.3, rtol=1e-15)


def test_partial_fit_is_there_only_where_it_is_exact():
    X, y = samples(20)
    assert hasattr(AdditiveRegressor(penalty=1.0, box=(-1, 1)), "partial_fit")
    for model in (AdditiveRegressor(box=(-1, 1)), AdditiveRegressor(penalty=1.0)):
        assert not hasattr(model, "partial_fit")
    for model in (KhronosRegressor(penalty=1.0), PairwiseRegressor(penalty=1.0), KhronosClassifier(penalty=1.0)):
        assert not hasattr(model, "partial_fit")
    model = AdditiveRegressor(penalty=1e-3, box=(-1, 1)).partial_fit(X, y)
    with pytest.raises(ValueError, match="call fit to start anew"):
        model.set_params(cells=2).partial_fit(X, y)
    model.fit(X, y)
    assert model.fit_.count == 20
    assert model.partial_fit(X + 0.001, y).fit_.count == 40 if np.abs(X + 0.001).max() <= 1 else True
    with pytest.raises(ValueError, match="widen the axis"):
        model.partial_fit(3 * X, y)


@pytest.mark.parametrize(
    ("box", "match"),
    [
        (5, "expected .low, high., numbers or 3 of them each"),
        ((0, 1, 2), "expected .low, high."),
        (([0, 0], 1), "expected .low, high."),
        ((1, -1), "expected finite ends, low below high"),
        ((-np.inf, 1), "expected finite ends"),
    ],
)
def test_bad_boxes_are_named(box, match):
    with pytest.raises(ValueError, match=match):
        AdditiveRegressor(box=box).fit(*samples(20))


def test_bad_parameters_are_named():
    X, y = samples(20)
    with pytest.raises(ValueError, match="`outside` is 'nearest'"):
        KhronosRegressor(outside="nearest").fit(X, y)
    with pytest.raises(ValueError, match=r"`sample_weight` is -1\.0 in row 2"):
        KhronosRegressor(1).fit(X, y, sample_weight=np.where(np.arange(20) == 2, -1, 1))
    with pytest.raises(ValueError, match=r"(zero in every row|at least one non-zero)"):
        KhronosRegressor(1).fit(X, y, sample_weight=np.zeros(20))
    with pytest.raises(NotFittedError):
        KhronosRegressor().invert(0.5)


# --- scikit-learn's machinery ------------------------------------------------------------------------------------


def test_in_a_grid_search_over_processes_and_pickled():
    X, y = samples(90)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), KhronosRegressor(**SMALL)),
        {"khronosregressor__rank": [1, 2], "khronosregressor__outside": ["clamp"]},
        cv=3,
        n_jobs=2,
    ).fit(X, y)
    assert search.best_params_["khronosregressor__rank"] == 2  # a sum of two functions is no product
    assert search.best_score_ > 0.9
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    assert np.array_equal(again.predict(X), search.predict(X))
    scores = cross_val_score(AdditiveRegressor(cells=2), X, y, cv=3)
    assert scores.min() > 0.99


def test_behind_wavelets_and_principal_components():
    wavelets = pytest.importorskip("sepnet.models.wavelets", exc_type=ImportError)
    rng = np.random.default_rng(0)
    level, time = rng.uniform(0.5, 2.0, 60), np.linspace(0, 1, 64)
    signals = level[:, None] * np.sin(60 * time) + 0.01 * rng.standard_normal((60, 64))
    model = make_pipeline(wavelets.WaveletFeatures(shape=(4, 6)), PCA(2), KhronosRegressor(1, cells=1))
    model.fit(signals[:45], level[:45] ** 2)
    assert model.score(signals[45:], level[45:] ** 2) > 0.95


def test_sepnet_needs_neither_scikit_learn_nor_wavelets_and_says_what_is_missing():
    code = """
import sys, sepnet, sepnet.models
print(sorted({"sklearn", "pywt"} & set(sys.modules)))
cases = (("sklearn", "khronos"), ("sklearn", "khronos_sparse"), ("sklearn", "wavelets"), ("pywt", "wavelets"))
for missing, name in cases:
    sys.modules[missing] = None
    try:
        __import__(f"sepnet.models.{name}")
    except ImportError as error:
        print(missing in str(error), error)
    del sys.modules[missing]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, *errors = done.stdout.splitlines()
    assert loaded == "[]"
    assert len(errors) == 4
    assert all(error.startswith("True") and error.endswith("pip install 'sepnet[sklearn]'") for error in errors)


def test_evidence_in_a_regressor_and_masked_labels_in_a_classifier() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((60, 2))
    y = np.sin(3 * X[:, 0])
    model = sn.KhronosRegressor(penalty="evidence", rank=2).fit(X, y + 0.1 * rng.standard_normal(60))
    assert model.fit_.prior.noise == pytest.approx(0.1, rel=0.4)  # four standard errors
    assert model.score(X, y) > 0.95
    with pytest.raises(ValueError, match="masked labels"):
        sn.KhronosClassifier().fit(X, np.ma.array((y > 0.5) * 1, mask=np.arange(60) == 3))
