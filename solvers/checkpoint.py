"""Runs that survive: the state of a solve in an HDF5 file, written at the end of a sweep, and read to go on.

A file holds the problem and the options, pickled by value (cloudpickle), so that functions written in a script are in
it; the history; the best iterate; and what the next sweep depends on. It is written beside the old one and then takes
its place: at any moment the file is a whole one. A run that goes on assembles the problem again and takes the sweeps of
the history without carrying them out, so that it arrives at the same decisions, and then at the same bits.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, final

import cloudpickle
import h5py
import numpy as np

from sepnet.backends.arrays import Array, to_host
from sepnet.functions.storage import LIBRARY, checked_path, read_text, replacing
from sepnet.problems import Problem
from sepnet.solvers.record import Record, Saved, State
from sepnet.solvers.separable import SeparableMatrix, SeparableVector

__all__ = ["Checkpoint", "Stored", "fingerprint", "read_checkpoint"]

FORMAT, VERSION = "sepnet-run", 1


class Stored(NamedTuple):
    """What a checkpoint holds; `saved` is None before the first sweep, `fingerprint` tells the assembled problem."""

    problem: Problem
    options: dict[str, Any]
    fingerprint: str
    saved: Saved | None


@final
class Checkpoint:
    """Writes the state of a run.

    Parameters
    ----------
    path : path
        The file; replaced as a whole.
    every : float
        Seconds between two writes, at least; 0 writes after every sweep.
    problem : LeastSquares or Galerkin
        What is solved.
    options : mapping
        What `solve` was called with, of kinds that can be pickled.
    fingerprint : str
        Of the assembled problem.
    saved : Saved, optional
        Where the run begins.

    Raises
    ------
    TypeError
        If the problem cannot be pickled.
    OSError
        If the file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: float,
        problem: Problem,
        options: Mapping[str, Any],
        fingerprint: str,
        saved: Saved | None = None,
    ) -> None:
        self._path, self._every = path, every
        try:
            content = cloudpickle.dumps((problem, dict(options)))
        except Exception as error:
            msg = (
                f"`checkpoint` is {str(path)!r}, but the problem cannot be stored ({error}): its callables must not "
                "hold open files, locks or generators"
            )
            raise TypeError(msg) from error
        self._content = np.frombuffer(content, dtype=np.uint8)
        self._fingerprint = fingerprint
        self._written: Saved | None = None
        self._write(saved)
        self._last = time.monotonic()

    def __call__(self, saved: Saved, final: bool) -> None:
        """Write, if enough time has passed or the run ends."""
        if saved is self._written or not (final or time.monotonic() - self._last >= self._every):
            return
        self._write(saved)
        self._written, self._last = saved, time.monotonic()

    def _write(self, saved: Saved | None) -> None:
        with replacing(self._path) as temporary, h5py.File(temporary, "w", libver=LIBRARY) as file:
            file.attrs.update({"format": FORMAT, "version": VERSION, "fingerprint": self._fingerprint})
            file.create_dataset("problem", data=self._content)
            if saved is not None:
                _write_saved(file, saved)
            file.attrs["checksum"] = _checksum(file)


def _write_saved(file: h5py.File, saved: Saved) -> None:
    file.create_dataset("history", data=np.array(saved.history, dtype=np.float64).reshape(-1, len(Record._fields)))
    best = file.create_group("best")
    best.attrs["residual"] = saved.best[0]
    _write_arrays(best, "parts", saved.best[1])
    for k, state in enumerate(saved.states):
        group = file.create_group(f"states/{k}")
        group.attrs["numbers"] = json.dumps(state.numbers)
        for name, arrays in state.arrays.items():
            _write_arrays(group, name, arrays)


def _write_arrays(group: h5py.Group, name: str, arrays: list[Array]) -> None:
    members = group.create_group(name)
    for k, array in enumerate(arrays):
        members.create_dataset(str(k), data=to_host(array))


def _read_arrays(group: h5py.Group) -> list[np.ndarray]:
    return [np.asarray(group[str(k)]) for k in range(len(group))]


def _checksum(file: h5py.File) -> str:
    digest = hashlib.sha256()

    def add(name: str, item: Any) -> None:
        digest.update(name.encode())
        for key in sorted(item.attrs):
            digest.update(f"{key}={item.attrs[key]}".encode())
        if isinstance(item, h5py.Dataset):
            array = np.ascontiguousarray(item)
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())

    file.visititems(add)
    return digest.hexdigest()


def read_checkpoint(path: str | os.PathLike[str]) -> Stored:
    """Read a checkpoint.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, foreign, or of a newer version; or the problem in it cannot be unpickled here.
    """
    target: Path = checked_path(path)
    if not target.is_file():
        msg = f"`path` is {str(target)!r}: no such file; a solve writes it with checkpoint="
        raise FileNotFoundError(msg)
    try:
        with h5py.File(target, "r") as file:
            found = read_text(file, "format") if "format" in file.attrs else ""
            if found != FORMAT:
                kind = "a function: read it with sn.load" if found == "sepnet" else "no checkpoint"
                reason = f"{str(target)!r} holds {kind}"
            elif int(file.attrs["version"]) > VERSION:
                reason = f"{str(target)!r} is of a newer version of sepnet: update sepnet"
            elif file.attrs["checksum"] != _checksum(file):
                reason = f"{str(target)!r} is damaged, its checksum does not fit: take a copy, or solve again"
            else:
                return _parse(file)
    # A damaged file can make h5py raise almost anything.
    except Exception as error:
        reason = f"{str(target)!r} is no readable checkpoint (truncated, damaged or foreign): {error}"
    raise ValueError(reason)


def _parse(file: h5py.File) -> Stored:
    problem, options = cloudpickle.loads(np.asarray(file["problem"]).tobytes())
    saved = None
    if "history" in file:
        history = tuple(Record(int(s), int(r), float(v), float(t)) for s, r, v, t in np.asarray(file["history"]))
        states = []
        for k in range(len(file["states"])):
            group = file[f"states/{k}"]
            arrays = {name: _read_arrays(group[name]) for name in group}
            states.append(State(arrays, json.loads(group.attrs["numbers"])))
        best = (float(file["best"].attrs["residual"]), _read_arrays(file["best/parts"]))
        saved = Saved(history, best, tuple(states))
    return Stored(problem, options, str(file.attrs["fingerprint"]), saved)


def fingerprint(matrix: SeparableMatrix, load: SeparableVector) -> str:
    """Return a digest of an assembled system (host): equal if and only if a run on it can go on to the same bits."""
    digest = hashlib.sha256()
    arrays = [a.values for a in matrix.axes] + [matrix.index, matrix.weights]
    for array in [*arrays, *load.vectors, load.index, load.weights]:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
