"""Wavelet features of signals as a scikit-learn transformer.

This module needs scikit-learn and PyWavelets; `import sepnet` needs neither.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, Self, final

import numpy as np
import scipy.sparse

try:
    import pywt
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils import Tags
    from sklearn.utils.validation import _check_feature_names_in, check_array, check_is_fitted, validate_data
except ImportError as error:
    msg = f"WaveletFeatures needs scikit-learn and PyWavelets ({error}): pip install 'sepnet[sklearn]'"
    raise ImportError(msg) from error

__all__ = ["WaveletFeatures"]

_KINDS = ("continuous", "discrete")
_FLOATS = (np.float64, np.float32)
_BLOCK = 1 << 22  # complex coefficients held at once: 64 MB


@final
class WaveletFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Features of signals by their wavelet transform, for the pipelines of scikit-learn.

    ``kind="continuous"`` gives the scalogram, the magnitudes of the continuous wavelet transform over frequency and
    time, averaged over boxes to a picture of a given shape. Phases and detail inside a box are lost: its
    `inverse_transform` ends at the scalogram. ``kind="discrete"`` gives the coefficients of the multilevel discrete
    transform, from which `inverse_transform` restores the signals to round-off.

    Parameters
    ----------
    kind : {"continuous", "discrete"}
        Which transform.
    wavelet : str, optional
        A name of PyWavelets: of `pywt.wavelist(kind="continuous")`, with its parameters, or of
        `pywt.wavelist(kind="discrete")`. By default the complex Morlet wavelet ``"cmor1.5-1.0"``, or ``"db4"``.
        Wavelets whose filters only approximate a perfect reconstruction (``"dmey"``) invert as well as they do.
    shape : (int, int)
        Continuous only: rows (frequencies) and columns (times) of the scalogram. The columns are equal parts of the
        signal's duration. A signal with fewer samples than columns is taken as piecewise constant.
    scales : array-like of shape (n_scales,), optional
        Continuous only: the scales of the wavelet in samples, in the order of the rows, averaged over boxes to
        ``shape[0]`` rows; `pywt.frequency2scale` gives the scale of a frequency. By default one a row, with
        frequencies at the middles of ``shape[0]`` equal parts of (0, 1/2) cycles a sample, the highest first.
    mode : str
        Discrete only: how a signal goes on beyond its ends, one of `pywt.Modes.modes`. All are inverted exactly.
    level : int, optional
        Discrete only: how many times the signal is halved, from 0 (no transform) to `pywt.dwt_max_level`, the default.

    Attributes
    ----------
    n_features_in_ : int
        Length of the signals; absent after a fit to signals of unequal lengths.
    scales_ : ndarray of shape (n_scales,)
        Continuous only: the scales in use, in samples.
    frequencies_ : ndarray of shape (rows,)
        Continuous only: the mean frequency of each row in cycles a sample.
    slices_ : tuple of slice
        Discrete only: where the coefficients stand in a row of features: the approximation, then the details from the
        coarsest to the finest.

    Notes
    -----
    Nothing is learned from the signals but their length. Signals of unequal lengths, as a list of 1-D arrays, are taken
    by ``kind="continuous"``: the scales count samples, so that a row means the same frequency for all of them, and a
    column means the same part of each one's own duration. A discrete transform has no such common picture and refuses
    them.

    No logarithm or root is taken: put `sklearn.preprocessing.FunctionTransformer` behind it for that.

    Examples
    --------
    >>> import numpy as np
    >>> from sepnet.models.wavelets import WaveletFeatures
    >>> time = np.arange(400)
    >>> signals = np.stack([np.sin(2 * np.pi * f * time) for f in (0.05, 0.25)])
    >>> scalograms = WaveletFeatures(shape=(5, 8))
    >>> pictures = scalograms.inverse_transform(scalograms.fit_transform(signals))
    >>> pictures.shape, scalograms.frequencies_.round(2)
    ((2, 5, 8), array([0.45, 0.35, 0.25, 0.15, 0.05]))
    >>> np.argmax(pictures[:, :, 4], axis=1)
    array([4, 2])

    The discrete transform is inverted exactly.

    >>> coefficients = WaveletFeatures(kind="discrete")
    >>> features = coefficients.fit_transform(signals)
    >>> np.allclose(coefficients.inverse_transform(features), signals, rtol=0, atol=1e-12)
    True
    """

    def __init__(
        self,
        kind: str = "continuous",
        *,
        wavelet: str | None = None,
        shape: tuple[int, int] = (72, 91),
        scales: Sequence[float] | np.ndarray | None = None,
        mode: str = "symmetric",
        level: int | None = None,
    ) -> None:
        self.kind = kind
        self.wavelet = wavelet
        self.shape = shape
        self.scales = scales
        self.mode = mode
        self.level = level

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the parameters and note the length of the signals.

        Parameters
        ----------
        X : array-like of shape (n, length), or list of n arrays of unequal lengths
            Signals, one a row.
        y : object
            Ignored.

        Returns
        -------
        WaveletFeatures
            Itself.

        Raises
        ------
        ValueError
            If a parameter or the signals do not fit; see the class.
        """
        if self.kind not in _KINDS:
            msg = f"kind is {self.kind!r}, expected 'continuous' or 'discrete'"
            raise ValueError(msg)
        for name in ("n_features_in_", "feature_names_in_", "scales_", "frequencies_", "slices_"):
            self.__dict__.pop(name, None)  # of an earlier fit to other signals
        signals = self._signals(X, reset=True)
        if self.kind == "continuous":
            self._fit_continuous()
        else:
            self._fit_discrete(signals[0])
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of signals.

        Parameters
        ----------
        X : array-like of shape (n, length), or list of n arrays of unequal lengths
            Signals, one a row, of the length that was fitted.

        Returns
        -------
        ndarray of shape (n, n_features)
            In the dtype of the signals, float32 or float64: the scalograms row by row, or the coefficients as
            `slices_` says.

        Raises
        ------
        ValueError
            If the signals are not finite or not of the length that was fitted.
        """
        check_is_fitted(self)
        signals = self._signals(X, reset=False)
        if self.kind == "discrete":
            return _to_coefficients(signals, self._wavelet(), self.mode, self._level(signals.shape[1]))
        if isinstance(signals, list):
            return np.concatenate([self._scalograms(signal) for signal in signals])
        return self._scalograms(signals)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return the signals of features, or for ``kind="continuous"`` the scalograms.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Features.

        Returns
        -------
        ndarray
            For ``kind="discrete"`` the signals, of shape (n, length), exact to round-off. For ``kind="continuous"`` the
            scalograms, of shape (n, rows, columns): many signals have the same one, so that the way back ends there.

        Raises
        ------
        ValueError
            If the number of features is another one.
        """
        check_is_fitted(self)
        features = check_array(X, dtype=_FLOATS)
        size = math.prod(self.shape) if self.kind == "continuous" else self.slices_[-1].stop
        if features.shape[1] != size:
            msg = f"X has {features.shape[1]} features, expected {size}: give what `transform` returns"
            raise ValueError(msg)
        if self.kind == "continuous":
            return np.reshape(features, (-1, *self.shape))
        parts = [features[:, part] for part in self.slices_]
        # a signal of odd length comes back with one sample more
        return np.asarray(pywt.waverec(parts, self._wavelet(), self.mode)[:, : self.n_features_in_])

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features.

        Parameters
        ----------
        input_features : array-like of str, optional
            Only their number is checked.

        Returns
        -------
        ndarray of object
            ``frequency{row}_time{column}``, or ``approximation_{i}`` and ``detail{level}_{i}``, 1 the finest level.
        """
        check_is_fitted(self)
        if hasattr(self, "n_features_in_"):
            _check_feature_names_in(self, input_features, generate_names=False)
        if self.kind == "continuous":
            rows, columns = self.shape
            names = [f"frequency{row}_time{column}" for row in range(rows) for column in range(columns)]
        else:
            levels = range(len(self.slices_) - 1, 0, -1)
            parts = zip(["approximation", *(f"detail{level}" for level in levels)], self.slices_, strict=True)
            names = [f"{name}_{i}" for name, part in parts for i in range(part.stop - part.start)]
        return np.asarray(names, dtype=object)

    def __sklearn_tags__(self) -> Tags:
        """Say that float32 signals give float32 features."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _signals(self, X: Any, *, reset: bool) -> Any:
        if not _is_ragged(X):
            return validate_data(self, X, dtype=_FLOATS, reset=reset)
        lengths = [np.size(signal) for signal in X]
        told = f"X holds signals of unequal lengths, {min(lengths)} to {max(lengths)} samples"
        if self.kind == "discrete":
            msg = f"{told}; kind='discrete' expects equal lengths: resample or pad them, or take kind='continuous'"
            raise ValueError(msg)
        if not reset and hasattr(self, "n_features_in_"):
            msg = f"{told}; expected {self.n_features_in_} as fitted: fit to signals of unequal lengths first"
            raise ValueError(msg)
        return [check_array(np.asarray(x)[None, :], dtype=_FLOATS, input_name=f"X[{i}]") for i, x in enumerate(X)]

    def _wavelet(self) -> Any:
        default, make = ("cmor1.5-1.0", pywt.ContinuousWavelet) if self.kind == "continuous" else ("db4", pywt.Wavelet)
        name = default if self.wavelet is None else self.wavelet
        try:
            return make(name)
        except (ValueError, TypeError, AttributeError) as error:
            listed = f"pywt.wavelist(kind={self.kind!r})"
            msg = f"wavelet is {name!r}, expected a {self.kind} wavelet of PyWavelets: {listed} lists them ({error})"
            raise ValueError(msg) from error

    def _fit_continuous(self) -> None:
        shape = np.asarray(self.shape)
        if shape.shape != (2,) or shape.dtype.kind not in "iu" or shape.min() < 1:
            msg = f"shape is {self.shape!r}, expected the rows and columns of the scalogram, two whole numbers above 0"
            raise ValueError(msg)
        wavelet, rows = self._wavelet(), int(shape[0])
        if self.scales is None:
            middles = (np.arange(rows)[::-1] + 0.5) / (2 * rows)
            scales = pywt.central_frequency(wavelet) / middles
        else:
            scales = np.asarray(self.scales, dtype=np.float64)
            if scales.ndim != 1 or not scales.size or not (np.isfinite(scales) & (scales > 0)).all():
                msg = f"scales is {self.scales!r}, expected positive numbers of samples in one dimension"
                raise ValueError(msg)
        self.scales_ = scales
        self.frequencies_ = _boxes(scales.size, rows) @ (pywt.central_frequency(wavelet) / scales)

    def _fit_discrete(self, signal: np.ndarray) -> None:
        if self.mode not in pywt.Modes.modes:
            msg = f"mode is {self.mode!r}, expected one of {', '.join(pywt.Modes.modes)}"
            raise ValueError(msg)
        wavelet = self._wavelet()
        parts = pywt.wavedec(signal, wavelet, self.mode, self._level(signal.size))
        ends = np.cumsum([0, *(part.size for part in parts)]).tolist()
        self.slices_ = tuple(slice(start, stop) for start, stop in itertools.pairwise(ends))

    def _level(self, length: int) -> int:
        largest = pywt.dwt_max_level(length, self._wavelet().dec_len)
        if self.level is None:
            return int(largest)
        if not isinstance(self.level, Integral) or not 0 <= self.level <= largest:
            msg = f"level is {self.level!r}, expected 0 to {largest} for signals of {length} samples with this wavelet"
            raise ValueError(msg)
        return int(self.level)

    def _scalograms(self, signals: np.ndarray) -> np.ndarray:
        """Return the features of signals of equal length, a few signals and scales at a time."""
        wavelet, (rows, columns) = self._wavelet(), self.shape
        count, length = signals.shape
        over_time = _boxes(length, columns).astype(signals.dtype)
        over_scales = _boxes(self.scales_.size, rows).astype(signals.dtype)
        pictures = np.empty((count, self.scales_.size, columns), dtype=signals.dtype)
        several = max(1, _BLOCK // (length * self.scales_.size))
        some = max(1, _BLOCK // (length * several))
        for i in range(0, count, several):
            for j in range(0, self.scales_.size, some):
                scales = self.scales_[j : j + some]
                values, _ = pywt.cwt(signals[i : i + several], scales, wavelet, method="fft")
                magnitudes = np.abs(values).reshape(-1, length) @ over_time.T
                averaged = magnitudes.reshape(scales.size, -1, columns).transpose(1, 0, 2)
                pictures[i : i + several, j : j + some] = averaged
        boxed = [over_scales @ picture for picture in pictures]
        return np.stack(boxed).reshape(count, -1)


def _to_coefficients(signals: np.ndarray, wavelet: Any, mode: str, level: int) -> np.ndarray:
    return np.concatenate(pywt.wavedec(signals, wavelet, mode, level), axis=1)


def _is_ragged(X: Any) -> bool:
    """Whether X is a list of 1-D arrays of unequal lengths; everything else is scikit-learn's to check."""
    if not isinstance(X, (list, tuple)) and not (isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1):
        return False
    return _all_vectors(X) and len({len(signal) for signal in X}) > 1


def _all_vectors(X: Iterable[Any]) -> bool:
    try:
        return all(np.ndim(signal) == 1 for signal in X)
    except ValueError:  # nested lists of unequal lengths
        return False


def _boxes(length: int, count: int) -> scipy.sparse.csr_array:
    """Return the matrix (count, length) that averages `length` values over `count` equal boxes, cut ones in part."""
    # in units of 1 / (length * count) every edge is a whole number: no overlap is lost or counted twice by round-off
    edges = np.union1d(np.arange(length + 1) * count, np.arange(count + 1) * length)
    rows, columns = edges[:-1] // length, edges[:-1] // count
    return scipy.sparse.csr_array((np.diff(edges) / length, (rows, columns)), shape=(count, length))
