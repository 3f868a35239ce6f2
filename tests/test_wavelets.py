"""Wavelet features: exact inversion, box averages, scikit-learn's contract."""

# ruff: noqa: E402 (nothing here without the two packages)

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pywt = pytest.importorskip("pywt")
pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from sepnet.models import wavelets
from sepnet.models.wavelets import WaveletFeatures

ORTHOGONAL = ["haar", "db2", "db4", "db9", "sym5", "coif2"]
# their filters are tabulated to about twelve digits, not to round-off
BIORTHOGONAL = ["bior2.2", "bior3.5", "rbio3.1"]


@parametrize_with_checks([WaveletFeatures(shape=(3, 4)), WaveletFeatures(kind="discrete"), WaveletFeatures()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("mode", pywt.Modes.modes)
@given(
    st.integers(1, 3),
    st.integers(1, 70),
    st.sampled_from(ORTHOGONAL + BIORTHOGONAL),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=max(10, settings().max_examples // 8))  # of each of nine modes
def test_discrete_features_restore_the_signals(mode, count, length, wavelet, dtype, seed):
    signals = np.random.default_rng(seed).standard_normal((count, length)).astype(dtype)
    features = WaveletFeatures(kind="discrete", wavelet=wavelet, mode=mode)
    coefficients = features.fit_transform(signals)
    back = features.inverse_transform(coefficients)
    assert coefficients.dtype == back.dtype == dtype
    assert back.shape == signals.shape
    assert coefficients.shape[1] == len(features.get_feature_names_out())
    # the tabulated filters are orthonormal to 1e-11; a few levels of sums of up to 20 terms
    assert np.abs(back - signals).max() <= max(1e-9, 500 * np.finfo(dtype).eps) * np.abs(signals).max()


@given(st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_the_discrete_transform_keeps_the_energy(level, seed):
    signals = np.random.default_rng(seed).standard_normal((2, 64))
    features = WaveletFeatures(kind="discrete", wavelet="haar", mode="periodization", level=level)
    coefficients = features.fit_transform(signals)
    assert coefficients.shape == signals.shape
    # orthogonal: 64 terms, a few roundings each
    np.testing.assert_allclose((coefficients**2).sum(1), (signals**2).sum(1), rtol=1e-13)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_boxes_are_integrals_of_a_piecewise_constant_function(length, count, seed):
    values = np.random.default_rng(seed).standard_normal(length)
    integral = np.interp(np.linspace(0, length, count + 1), np.arange(length + 1), np.cumsum([0, *values]))
    # round-off of the running sum
    np.testing.assert_allclose(
        wavelets._boxes(length, count) @ values, np.diff(integral) * count / length, rtol=0, atol=1e-12 * count
    )


def test_boxes_as_wide_as_a_sample_change_nothing():
    assert np.array_equal(wavelets._boxes(5, 5).toarray(), np.eye(5))


@given(st.integers(1, 3), st.integers(20, 90), st.integers(1, 6), st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_a_scalogram_is_the_magnitude_averaged_over_boxes(count, length, rows, columns, seed):
    signals = np.random.default_rng(seed).standard_normal((count, length))
    scales = np.geomspace(2, 12, 2 * rows)
    features = WaveletFeatures(wavelet="mexh", shape=(rows, columns), scales=scales)
    found = features.inverse_transform(features.fit_transform(signals))
    for picture, signal in zip(found, signals, strict=True):
        values, _ = pywt.cwt(signal, scales, "mexh", method="conv")
        fine = np.repeat(np.abs(values), columns, axis=1).reshape(2 * rows, columns, length).mean(2)
        # convolution by FFT and by sums: round-off of sums of up to 200 terms of size 1
        np.testing.assert_allclose(picture, (fine[::2] + fine[1::2]) / 2, rtol=0, atol=1e-12)


def test_blocks_change_nothing(monkeypatch):
    signals = np.random.default_rng(0).standard_normal((5, 200))
    features = WaveletFeatures(shape=(7, 9))
    whole = features.fit_transform(signals)
    for block in (1, 200 * 3, 200 * 7 * 2):
        monkeypatch.setattr(wavelets, "_BLOCK", block)
        np.testing.assert_allclose(features.transform(signals), whole, rtol=0, atol=1e-14 * 200)  # another FFT


@pytest.mark.parametrize("row", [0, 3, 9])
def test_a_wave_lights_the_row_of_its_frequency(row):
    features = WaveletFeatures(shape=(10, 4)).fit(np.zeros((1, 600)))
    np.testing.assert_allclose(features.frequencies_, np.arange(0.475, 0, -0.05), rtol=1e-12)
    wave = np.cos(2 * np.pi * features.frequencies_[row] * np.arange(600))
    assert features.inverse_transform(features.transform(wave[None]))[0, :, 1].argmax() == row


def test_it_is_the_published_pipeline():
    rng = np.random.default_rng(0)
    time, frequencies = np.arange(300), rng.uniform(0.05, 0.45, 40)
    signals = np.sin(2 * np.pi * frequencies[:, None] * time) + 0.1 * rng.standard_normal((40, 300))
    model = make_pipeline(WaveletFeatures(shape=(12, 5)), PCA(6), Ridge(1e-3)).fit(signals[:30], frequencies[:30])
    assert model.score(signals[30:], frequencies[30:]) > 0.8
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(signals), model.predict(signals))


def test_histories_of_unequal_lengths():
    lengths = (150, 151, 400)
    signals = [np.sin(0.8 * np.arange(length)) for length in lengths]
    features = WaveletFeatures(shape=(6, 4))
    found = features.fit_transform(signals)
    assert not hasattr(features, "n_features_in_")
    assert len(features.get_feature_names_out()) == 24
    for row, signal in zip(found, signals, strict=True):
        assert np.array_equal(row, clone(features).fit_transform(signal[None])[0])
    packed = np.empty(3, dtype=object)
    packed[:] = signals
    assert np.array_equal(features.transform(packed), found)
    assert np.array_equal(features.transform(signals[2][None]), found[2:])
    assert np.array_equal(features.fit(signals[2][None]).transform(signals[2:]), found[2:])
    assert features.n_features_in_ == 400  # a fit to a rectangle after one to a list, and the other way
    assert not hasattr(features.fit(signals), "n_features_in_")


def test_unequal_lengths_are_refused_where_they_mean_nothing():
    signals = [np.ones(9), np.ones(11)]
    with pytest.raises(ValueError, match=r"unequal lengths, 9 to 11 samples; kind='discrete' expects equal"):
        WaveletFeatures(kind="discrete").fit(signals)
    features = WaveletFeatures(shape=(2, 2)).fit(np.ones((1, 9)))
    with pytest.raises(ValueError, match=r"unequal lengths, 9 to 11 samples; expected 9 as fitted"):
        features.transform(signals)
    with pytest.raises(ValueError, match=r"X\[1\] contains NaN"):
        WaveletFeatures(shape=(2, 2)).fit([np.ones(9), np.full(11, np.nan)])


def test_float32_is_as_good_as_float32():
    signals = np.random.default_rng(1).standard_normal((2, 500))
    features = WaveletFeatures(shape=(8, 5))
    exact, found = features.fit_transform(signals), features.fit_transform(signals.astype(np.float32))
    assert found.dtype == np.float32
    # FFTs of about a thousand points in single precision
    np.testing.assert_allclose(found, exact, rtol=0, atol=50 * np.finfo(np.float32).eps * exact.max())


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"kind": "fourier"}, "kind is 'fourier', expected 'continuous' or 'discrete'"),
        ({"wavelet": "db4"}, "wavelet is 'db4', expected a continuous wavelet"),
        ({"kind": "discrete", "wavelet": "mexh"}, "wavelet is 'mexh', expected a discrete wavelet"),
        ({"wavelet": 3}, "wavelet is 3, expected a continuous wavelet"),
        ({"shape": (0, 3)}, r"shape is \(0, 3\), expected the rows and columns"),
        ({"shape": (2.5, 3)}, r"shape is \(2.5, 3\), expected the rows and columns"),
        ({"shape": 5}, "shape is 5, expected the rows and columns"),
        ({"scales": [1, -2]}, r"scales is \[1, -2\], expected positive numbers"),
        ({"scales": []}, r"scales is \[\], expected positive numbers"),
        ({"kind": "discrete", "mode": "mirror"}, "mode is 'mirror', expected one of"),
        ({"kind": "discrete", "level": 9}, "level is 9, expected 0 to 2 for signals of 32 samples"),
        ({"kind": "discrete", "level": 1.5}, "level is 1.5, expected 0 to 2"),
        ({"kind": "discrete", "level": "all"}, "level is 'all', expected 0 to 2"),
    ],
)
def test_bad_parameters_are_named(parameters, match):
    with pytest.raises(ValueError, match=match):
        WaveletFeatures(**parameters).fit(np.ones((2, 32)))


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_features_of_another_size_are_refused(kind):
    features = WaveletFeatures(kind=kind, shape=(2, 3)).fit(np.ones((2, 32)))
    with pytest.raises(ValueError, match=r"X has 5 features, expected \d+: give what `transform` returns"):
        features.inverse_transform(np.ones((1, 5)))
