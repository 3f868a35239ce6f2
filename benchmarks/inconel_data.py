"""The Inconel 718 walls: what `benchmarks/inconel.py` reads, and the features it makes of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pywt
from sklearn.model_selection import GroupKFold, KFold

from sepnet.models.wavelets import WaveletFeatures

TARGETS = {"yield_stress": 1e-6, "uts": 1.0, "modulus": 1e-9}  # to MPa, MPa, GPa
TRANSFORMS = {"none": lambda x: x, "sqrt": np.sqrt}
BACK = {"none": lambda x: x, "sqrt": np.square}


@dataclass(frozen=True)
class Walls:
    """135 points of 12 walls: pictures (n, rows, columns), targets, the published split, and wall 6 in full."""

    names: list[str]
    wall: np.ndarray
    pictures: np.ndarray
    targets: dict[str, np.ndarray]
    test: np.ndarray
    histories: dict[str, np.ndarray]


def load(path: Path) -> Walls:
    """Read the file; the outermost row and column of its pictures are the frame of the plot, and are cut."""
    with h5py.File(path) as file:
        names = [name.decode() for name in file["sample"][...]]
        return Walls(
            names=names,
            wall=np.array([int(name.split("_")[0]) for name in names]),
            pictures=file["wavelet"][...].astype(float)[:, 1:-1, 1:-1],
            targets={name: file["properties"][name][...] * unit for name, unit in TARGETS.items()},
            test=file["is_test"][...],
            histories={name: file["thermal_history"][name][...].astype(float) for name in file["thermal_history"]},
        )


@dataclass(frozen=True)
class Components:
    """Principal components of transformed scalograms, fitted to the training part alone.

    The scores keep their own scales (the first has variance one): a later component matters less.
    """

    transform: str
    mean: np.ndarray
    directions: np.ndarray
    unit: float

    @classmethod
    def fit(cls, pictures: np.ndarray, transform: str, count: int) -> Components:
        """Fit to pictures (n, rows, columns)."""
        values = TRANSFORMS[transform](pictures).reshape(len(pictures), -1)
        mean = values.mean(0)
        _, sizes, directions = np.linalg.svd(values - mean, full_matrices=False)
        return cls(transform, mean, directions[:count], float(sizes[0]) / np.sqrt(len(values)))

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Return the scores (n, count)."""
        values = TRANSFORMS[self.transform](pictures).reshape(len(pictures), -1)
        return (values - self.mean) @ self.directions.T / self.unit

    def to_pictures(self, scores: np.ndarray, shape: tuple[int, int], rest: np.ndarray | float = 0.0) -> np.ndarray:
        """Return the scalograms (n, rows, columns) of scores: what an inversion ends at.

        `rest` is added before the transformation is undone: what the components leave out, see `rest`.
        """
        values = np.maximum(scores * self.unit @ self.directions + self.mean + rest, 0.0)
        return np.asarray(BACK[self.transform](values)).reshape(-1, *shape)

    def rest(self, pictures: np.ndarray) -> np.ndarray:
        """Return what the components leave out of pictures (n, rows, columns), flat and transformed."""
        values = TRANSFORMS[self.transform](pictures).reshape(len(pictures), -1)
        return np.asarray(values - self.mean - self(pictures) * self.unit @ self.directions)


def folds(walls: Walls, repeats: int, *, grouped: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (training, test) of repeated 5-fold cross-validation; grouped: no wall on both sides."""
    for repeat in range(repeats):
        if grouped:
            split = GroupKFold(5, shuffle=True, random_state=repeat).split(walls.pictures, groups=walls.wall)
        else:
            split = KFold(5, shuffle=True, random_state=repeat).split(walls.pictures)
        yield from split


# How the pictures were made is not published. What reproduces them best was searched on the 12 histories of wall 6:
# every 4th sample (the frequency axis ends at 1/8 cycle a sample), linear frequencies, zero at the lower edge of the
# plot, from shortly after the first passage of 1800 degrees. No threshold, root or logarithm helps.
_START, _AFTER, _EVERY = 1800.0, (200, 300), 4
_LENGTHS = (8000, 9000, 11000)
WAVELETS = ("cmor1.5-1.0", "cmor3.0-1.0", "cgau8", "morl", "mexh", "gaus8")


def reproduce(walls: Walls) -> list[dict[str, object]]:
    """Return per wavelet the correlation of the scalograms of wall 6 with the file's pictures, at its best trimming."""
    names = sorted(walls.histories)
    published = walls.pictures[[walls.names.index(name) for name in names]]
    rows, columns = published.shape[1:]
    found: list[dict[str, object]] = []
    for wavelet in WAVELETS:
        tried = []
        for after, length in itertools.product(_AFTER, _LENGTHS):
            signals = [_trimmed(walls.histories[name], after, length) for name in names]
            frequencies = (np.arange(rows)[::-1] + 1.5) / (rows + 1) / 2  # of the kept samples
            scales = pywt.central_frequency(wavelet) / frequencies
            features = WaveletFeatures(wavelet=wavelet, shape=(rows, columns + 1), scales=scales)
            pictures = features.inverse_transform(features.fit_transform(np.stack(signals)))[:, :, :columns]
            each = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(pictures, published, strict=True)]
            tried.append({"wavelet": wavelet, "after": after, "samples": length, "mean": float(np.mean(each))})
            tried[-1]["each"] = dict(zip(names, np.round(each, 3).tolist(), strict=True))
        found.append(max(tried, key=lambda entry: float(str(entry["mean"]))))
    return found


def _trimmed(history: np.ndarray, after: int, length: int) -> np.ndarray:
    start = int(np.argmax(history > _START)) + after
    return history[start : start + length : _EVERY]
