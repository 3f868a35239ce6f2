"""What runs where, as data: every kernel, implementation, array library and data type, with the reason of each gap.

The table is one of claims. `tests/test_capabilities.py` runs each claim, and fails for a kernel that the table leaves
out; tests ask it what to expect of an array library; the table of `docs/backends.md` is `markdown` of it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import final

from sepnet.backends.contract import KERNELS
from sepnet.backends.cuda.layout import MAX_AXES, MOST_BENT, MOST_CORES

__all__ = ["BACKENDS", "DTYPES", "HOME", "LIBRARIES", "VERIFIED_ON", "Capability", "capabilities", "gap", "markdown"]

BACKENDS = ("numba", "generic", "cuda")
"""The implementations: `sepnet.backends.cpu`, `sepnet.backends.generic`, `sepnet.backends.cuda`."""

HOME = {"numpy": "numba", "array-api-strict": "generic", "torch-cpu": "generic", "torch-cuda": "cuda", "cupy": "cuda"}
"""Which implementation `sepnet.backends.dispatch` takes for the arrays of each library."""

LIBRARIES = tuple(HOME)
DTYPES = ("float32", "float64")

VERIFIED_ON: tuple[str, ...] = ()
"""The devices on which the tests passed, such as "NVIDIA H100, CuPy 14.2"; while empty, no claim is checked on one."""

_ON_DEVICE = ("torch-cuda", "cupy")

# How the NumPy and the CUDA implementation come by a kernel: "own" code, or the "generic" one under their name.
_OWN: dict[str, tuple[str, str]] = {
    "local_values": ("own", "own"),
    "cp_value": ("own", "own"),
    "cp_gradient": ("own", "own"),
    "cp_hessian": ("own", "own"),
    "cp_vjp": ("own", "own"),
    "cp_columns": ("own", "own"),
    "cp_columns_vjp": ("own", "own"),
    "cp_newton": ("own", "own"),
    "train_value": ("own", "own"),
    "train_gradient": ("own", "own"),
    "train_hessian": ("own", "own"),
    "train_vjp": ("own", "own"),
    "window_values": ("own", "own"),
    "normal_blocks": ("own", "own"),
    "fill_dense": ("generic", "own"),
    "fill_dense_from_bands": ("generic", "own"),
    "fill_blocks": ("generic", "own"),
    "fill_band": ("own", "generic"),
}

_MANY_AXES = "more than {} axes go to the generic kernel: the axes are arguments of a launch, of 4 KiB"
_SUMS = "sums by cells are matrix products: as many operations a point and axis as a table has numbers"
_LIMITS = (
    {("cuda", name): _MANY_AXES.format(MAX_AXES) for name in _OWN if name.startswith("cp_")}
    | {("cuda", "cp_hessian"): f"more than {MOST_BENT} axes go to the generic kernel: it has no place for so many sums"}
    | {("cuda", name): _MANY_AXES.format(MOST_CORES) for name in _OWN if name.startswith("train_")}
    | {("generic", name): _SUMS for name in ("cp_vjp", "cp_columns_vjp", "train_vjp")}
)

_BAND = "LAPACK's band storage is for NumPy: the others take `fill_dense_from_bands` or `fill_blocks`"


@final
@dataclass(frozen=True)
class Capability:
    """What one implementation does with one kernel on the arrays of one library in one data type."""

    kernel: str
    """A function of `sepnet.backends.contract.Kernels`."""
    backend: str
    """One of `BACKENDS`."""
    library: str
    """One of `LIBRARIES`; "torch-cuda" is torch's tensors on a CUDA device."""
    dtype: str
    """One of `DTYPES`."""
    how: str
    """"own" code or the "generic" kernel's; empty where there is a gap."""
    gap: str
    """Why it does not run; empty where it does."""
    limit: str
    """What else is to be known; may be empty."""
    verified: str
    """"suite", "host shim" (the CUDA sources run on the CPU), "device", or "not yet"; empty where there is a gap."""

    @property
    def supported(self) -> bool:
        """Whether it runs."""
        return not self.gap


@functools.cache
def capabilities() -> tuple[Capability, ...]:
    """Return the whole table.

    Returns
    -------
    tuple of Capability
        One for each kernel, implementation, array library and data type, gaps included.

    Examples
    --------
    >>> from sepnet.backends.capabilities import capabilities
    >>> {c.gap for c in capabilities() if c.kernel == "cp_value" and c.library == "numpy" and not c.supported}
    {'its arrays are on a CUDA device'}
    """
    return tuple(
        _capability(kernel, backend, library, dtype)
        for kernel in _OWN
        for backend in BACKENDS
        for library in LIBRARIES
        for dtype in DTYPES
    )


def _capability(kernel: str, backend: str, library: str, dtype: str) -> Capability:
    numba, cuda = _OWN[kernel]
    how = {"numba": numba, "generic": "own", "cuda": cuda}[backend]
    why = ""
    if backend == "numba" and library != "numpy":
        why = "numba's loops are for NumPy arrays"
    elif backend == "cuda" and library not in _ON_DEVICE:
        why = "its arrays are on a CUDA device"
    elif kernel == "fill_band" and backend != "numba":
        why = _BAND
    if why:
        return Capability(kernel, backend, library, dtype, "", why, "", "")
    verified = "suite"
    if library in _ON_DEVICE:
        verified = "device" if VERIFIED_ON else "host shim" if backend == "cuda" else "not yet"
    return Capability(kernel, backend, library, dtype, how, "", _LIMITS.get((backend, kernel), ""), verified)


def gap(kernel: str, library: str, dtype: str = "float64") -> str:
    """Return why a call through `sepnet.backends.dispatch` does not run, or an empty text where it does.

    Parameters
    ----------
    kernel : str
    library : str
        One of `LIBRARIES`.
    dtype : str
        One of `DTYPES`.

    Raises
    ------
    KeyError
        If the table has no such entry.
    """
    return _by_key()[kernel, HOME[library], library, dtype].gap


@functools.cache
def _by_key() -> dict[tuple[str, str, str, str], Capability]:
    return {(c.kernel, c.backend, c.library, c.dtype): c for c in capabilities()}


def markdown() -> str:
    """Return the table as Markdown: what dispatch takes for each library, how it was checked, gaps and limits below."""
    notes: list[str] = []

    def mark(text: str) -> str:
        if text and text not in notes:
            notes.append(text)
        return f" [{notes.index(text) + 1}]" if text else ""

    lines = ["| kernel | " + " | ".join(LIBRARIES) + " |", "|---" * (len(LIBRARIES) + 1) + "|"]
    for kernel in (name for name in KERNELS if name in _OWN):
        cells = []
        for library in LIBRARIES:
            one = _by_key()[kernel, HOME[library], library, DTYPES[0]]
            label = "generic" if one.how == "generic" else one.backend
            checked = f", {one.verified}" if one.verified not in ("", "suite") else ""
            cells.append(f"no{mark(one.gap)}" if one.gap else f"{label}{checked}{mark(one.limit)}")
        lines.append(f"| `{kernel}` | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"[{i}] {text}.  " for i, text in enumerate(notes, 1))]) + "\n"
