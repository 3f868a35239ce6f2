"""Each claim of the capability table is run; a kernel without a claim, or a claim that nothing can run, is an error.

What is compared is whether an implementation does the same as another one on the arrays of a library; that the numbers
are right, for all sizes, degrees and bad inputs, is for the tests of the kernels. Where there is no CUDA device, CPU
tensors and NumPy arrays stand in for those of torch and CuPy, and the CUDA sources run on the host.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cuda_support import COMPILER, on_host
from oracles import kronecker_sum, lower_band
from support import missing_device

from sepnet.backends import capabilities as table
from sepnet.backends import cpu, cuda, dispatch, generic
from sepnet.backends.arrays import device_of, library_name, namespace, to_host
from sepnet.backends.capabilities import BACKENDS, DTYPES, HOME, LIBRARIES, Capability, capabilities
from sepnet.backends.contract import KERNELS
from sepnet.backends.cuda.layout import MAX_AXES
from sepnet.backends.newton import REACHED

MODULES: dict[str, ModuleType] = {"numba": cpu, "generic": generic, "cuda": cuda}
PAGE = Path(__file__).parents[1] / "docs" / "backends.md"
CUBIC, CELLS, RANK, N = 3, (2, 3), 3, 7


# --- inputs, by kernel -----------------------------------------------------------------------------------------------

Case = tuple[tuple[Any, ...], dict[str, Any]]


def _points(rng: np.random.Generator) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    breaks = tuple(np.linspace(-1, 1, c + 1) for c in CELLS)
    return rng.uniform(-1, 1, (N, len(CELLS))), breaks


def _cp(rng: np.random.Generator, *cotangent: int) -> Case:
    points, breaks = _points(rng)
    tables = tuple(rng.standard_normal((c, CUBIC + 1, RANK)) for c in CELLS)
    return (points, breaks, tables, *((rng.standard_normal(cotangent),) if cotangent else ())), {}


def _train(rng: np.random.Generator, *cotangent: int) -> Case:
    points, breaks = _points(rng)
    shapes = ((1, RANK), (RANK, 1))
    tables = tuple(rng.standard_normal((c, CUBIC + 1, *s)) for c, s in zip(CELLS, shapes, strict=True))
    return (points, breaks, tables, *((rng.standard_normal(cotangent),) if cotangent else ())), {}


def _local(rng: np.random.Generator) -> Case:
    points, breaks = _points(rng)
    return (points[:, 0], breaks[0], rng.standard_normal((CELLS[0], CUBIC + 1, CUBIC + 1))), {}


def _newton(rng: np.random.Generator) -> Case:
    """Starts for u = x + y, of rank 2 and degree 3, each within a step of its target."""
    points, breaks = _points(rng)
    tables = [np.zeros((c, CUBIC + 1, 2)) for c in CELLS]
    for i, b in enumerate(breaks):
        tables[i][:, 0, 1 - i] = 1
        tables[i][:, 0, i], tables[i][:, 1, i] = (b[1:] + b[:-1]) / 2, (b[1:] - b[:-1]) / 2
    targets, tol = 0.5 * points.sum(axis=1), np.full(N, 1e-3)
    ends = -np.ones(2), np.ones(2)
    return (points, targets, *ends, breaks, tuple(tables)), {"tol": tol, "max_steps": 50}


def _windows(rng: np.random.Generator) -> Case:
    return (rng.integers(0, 3, N), rng.standard_normal((N, 4)), rng.standard_normal((6, RANK))), {}


def _normal(rng: np.random.Generator) -> Case:
    first = tuple(rng.integers(0, c, N) for c in CELLS)
    values, gains = (tuple(rng.standard_normal((N, q)) for _ in CELLS) for q in (CUBIC + 1, RANK))
    sizes = tuple(c + CUBIC for c in CELLS)
    return (first, values, gains, rng.uniform(0, 1, N), rng.standard_normal(N)), {"sizes": sizes}


def _dense(rng: np.random.Generator) -> Case:
    return (rng.standard_normal((2, 5, 5)), rng.standard_normal((2, RANK, RANK))), {}


def _bands(rng: np.random.Generator, **options: Any) -> Case:
    bands, weights = rng.standard_normal((2, 5, 3)), rng.standard_normal((2, RANK, RANK))
    for o in range(3):
        bands[:, 5 - o :, o] = 0
    return (bands, weights + weights.transpose(0, 2, 1)), options


CASES: dict[str, Callable[[np.random.Generator], Case]] = {
    "local_values": _local,
    **dict.fromkeys(("cp_value", "cp_gradient", "cp_hessian", "cp_columns"), _cp),
    "cp_vjp": lambda rng: _cp(rng, N),
    "cp_columns_vjp": lambda rng: _cp(rng, N, RANK),
    "cp_newton": _newton,
    **dict.fromkeys(("train_value", "train_gradient", "train_hessian"), _train),
    "train_vjp": lambda rng: _train(rng, N),
    "window_values": _windows,
    "normal_blocks": _normal,
    "fill_dense": _dense,
    "fill_dense_from_bands": _bands,
    "fill_blocks": lambda rng: _bands(rng, group=2),
    "fill_band": _bands,
}


def case(kernel: str, dtype: str) -> Case:
    """The inputs, rounded to `dtype`."""
    arguments, options = CASES[kernel](np.random.default_rng(7))
    return mapped(lambda a: a.astype(dtype) if a.dtype.kind == "f" else a, (arguments, options))


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """`function` of every NumPy array in tuples and dicts; all else stays."""
    if isinstance(tree, np.ndarray):
        return function(tree)
    if isinstance(tree, dict):
        return {key: mapped(function, value) for key, value in tree.items()}
    return tuple(mapped(function, value) for value in tree) if isinstance(tree, tuple) else tree


# --- what is expected ------------------------------------------------------------------------------------------------


def expected(kernel: str, backend: str, tree: Case) -> list[np.ndarray]:
    """The results in double precision by definition, or by another implementation."""
    arguments, options = mapped(lambda a: a.astype(np.float64) if a.dtype.kind == "f" else a, tree)
    if not kernel.startswith("fill_"):
        other = cpu if backend == "generic" else generic
        return results(kernel, getattr(other, kernel)(*arguments, **options))
    matrices, weights = arguments
    if kernel == "fill_dense":
        return [kronecker_sum(matrices, weights)]
    n, full = matrices.shape[1], np.zeros((len(matrices), matrices.shape[1], matrices.shape[1]))
    for o in range(matrices.shape[2]):
        full[:, range(o, n), range(n - o)] = full[:, range(n - o), range(o, n)] = matrices[:, : n - o, o]
    whole = kronecker_sum(full, weights)
    if kernel == "fill_blocks":
        side = options["group"] * RANK
        padded = np.eye(-(-len(whole) // side) * side)
        padded[: len(whole), : len(whole)] = whole
        pieces = padded.reshape(len(padded) // side, side, -1, side).transpose(0, 2, 1, 3)
        count = range(len(pieces))
        return results(kernel, (pieces[count, count], pieces[count[1:], count[:-1]]))
    return [lower_band(whole, matrices.shape[2] * RANK) if kernel == "fill_band" else whole]


def sizes(kernel: str, backend: str, tree: Case) -> list[np.ndarray]:
    """Sums of the magnitudes of the terms: the same of absolute values, with every local coordinate next to 1."""
    arguments, options = mapped(lambda a: np.abs(a) if a.dtype.kind == "f" else a, tree)
    if kernel == "local_values" or kernel.startswith(("cp_", "train_")):
        points, breaks = tree[0][:2]
        single = kernel == "local_values"
        columns = [points] if single else list(points.T)
        ends = []
        for x, b in zip(columns, (breaks,) if single else breaks, strict=True):
            cell = np.clip(np.searchsorted(b, x, side="right") - 1, 0, len(b) - 2)
            ends.append(b[cell] + (1 - 1e-6) * (b[cell + 1] - b[cell]))
        moved = (ends[0] if single else np.stack(ends, axis=1)).astype(points.dtype)
        arguments = (moved, breaks, *arguments[2:])
    return expected(kernel, backend, (arguments, options))


def results(kernel: str, given: Any) -> list[Any]:
    """The arrays of a result, in a list, without the triangles that do not count."""
    flat: list[Any] = []

    def collect(one: Any) -> None:
        if isinstance(one, tuple):
            for part in one:
                collect(part)
        else:
            flat.append(one)

    collect(given)
    if kernel in ("normal_blocks", "fill_blocks"):
        flat[0] = namespace(flat[0]).tril(flat[0])
    return flat


# --- where it runs ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def place(claim: Capability) -> Iterator[Callable[[np.ndarray], Any]]:
    """Give what moves an array to the library of a claim; skip where that is not to be had."""
    on_device = claim.library in ("torch-cuda", "cupy")
    if on_device and missing_device() and (claim.backend != "cuda" or COMPILER is None):
        pytest.skip(f"{claim.verified} verified: {missing_device()}")
    stands_in = on_device and bool(missing_device())
    library, device = claim.library.partition("-")[0], None
    if claim.library == "array-api-strict":
        library = "array_api_strict"
    elif claim.library == "cupy":
        library = "numpy" if stands_in else "array_api_compat.cupy"
    elif claim.library == "torch-cuda" and not stands_in:
        device = "cuda"
    xp = pytest.importorskip(library)
    with on_host() if stands_in else contextlib.nullcontext():
        yield lambda a: xp.asarray(a, device=device) if device else xp.asarray(a)


CLAIMS = [c for c in capabilities() if c.supported]


def run(claim: Capability) -> None:
    tree = case(claim.kernel, claim.dtype)
    with place(claim) as put:
        arguments, options = mapped(put, tree)
        given = results(claim.kernel, getattr(MODULES[claim.backend], claim.kernel)(*arguments, **options))
        like = put(np.zeros(1, dtype=claim.dtype))
        for one in given:
            assert namespace(one) is namespace(like)
            assert device_of(one) == device_of(like)
            assert one.dtype in (like.dtype, namespace(like).int64)
        host = [to_host(one) for one in given]
    if claim.kernel == "cp_newton":
        reached(claim, tree, host)
        return
    want, size = (f(claim.kernel, claim.backend, tree) for f in (expected, sizes))
    assert len(host) == len(want)
    # eight units for a value of two cubic axes, see docs/kernels.md, and as many for what is added up after it
    bound = 16 * np.finfo(claim.dtype).eps
    for one, other, scale in zip(host, want, size, strict=True):
        assert one.shape == other.shape
        assert np.all(np.abs(one - other) <= bound * scale), (
            float(np.max(np.abs(one - other) / (scale + 1e-300))) / bound
        )


def reached(claim: Capability, tree: Case, host: list[np.ndarray]) -> None:
    """u = x + y is the target, to `tol`."""
    points, values, steps, ends = host
    (starts, targets, *_), options = tree
    assert points.shape == starts.shape
    assert np.all(np.abs(points) <= 1)
    assert np.all(np.abs(points.sum(axis=1) - targets) <= options["tol"] + 16 * np.finfo(claim.dtype).eps)
    assert np.all(np.abs(values - points.sum(axis=1)) <= 16 * np.finfo(claim.dtype).eps * 4)
    assert np.all((steps >= 1) & (steps <= options["max_steps"]))
    assert np.all(ends == REACHED)


@pytest.mark.parametrize(
    "claims",
    [[c for c in CLAIMS if (c.kernel, c.backend, c.library) == key]
     for key in dict.fromkeys((c.kernel, c.backend, c.library) for c in CLAIMS)],
    ids=lambda claims: f"{claims[0].kernel}-{claims[0].backend}-{claims[0].library}",
)  # fmt: skip
def test_a_claim_holds(claims: list[Capability]) -> None:
    for claim in claims:
        run(claim)


# --- the table -------------------------------------------------------------------------------------------------------


def test_every_kernel_has_its_claims_and_its_inputs() -> None:
    assert {c.kernel for c in capabilities()} == set(KERNELS) == set(CASES)
    keys = {(c.kernel, c.backend, c.library, c.dtype) for c in capabilities()}
    assert len(keys) == len(capabilities()) == len(KERNELS) * len(BACKENDS) * len(LIBRARIES) * len(DTYPES)
    assert set(MODULES) == set(BACKENDS)


def test_a_claim_says_how_or_why_not() -> None:
    for c in capabilities():
        assert bool(c.gap) != bool(c.how)
        assert (c.verified == "") == bool(c.gap)
        if c.verified == "suite":
            assert c.library not in ("torch-cuda", "cupy")
        if c.verified == "device":
            assert table.VERIFIED_ON


@pytest.mark.parametrize("backend", ["numba", "cuda"])
def test_own_code_is_what_the_table_calls_so(backend: str) -> None:
    same = [k for k in KERNELS if getattr(MODULES[backend], k) is getattr(generic, k)]
    claimed = {c.kernel for c in CLAIMS if c.backend == backend and c.how == "generic"}
    assert {k for k in same if any(c.kernel == k for c in CLAIMS if c.backend == backend)} == claimed


@pytest.mark.parametrize("library", ["numpy", "array-api-strict", "torch-cpu"])
def test_gaps_raise(library: str) -> None:
    with place(replace(CLAIMS[0], library=library)) as put:
        for kernel in KERNELS:
            if table.gap(kernel, library):
                arguments, options = mapped(put, case(kernel, "float64"))
                with pytest.raises(TypeError, match="use fill_dense_from_bands"):
                    getattr(dispatch, kernel)(*arguments, **options)
        xp = namespace(put(np.zeros(1)))
    assert dispatch.kernels(importlib.import_module(library_name(xp))) is MODULES[HOME[library]]


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler for the host shim")
@pytest.mark.parametrize("kernel", [k for k in KERNELS if k.startswith(("cp_", "train_", "normal_"))])
def test_many_axes_are_what_the_table_says(kernel: str) -> None:
    """One axis more than a launch takes, constants on one cell."""
    count, n = MAX_AXES + 1, 2
    points, breaks = np.zeros((n, count)), (np.array([-1.0, 1.0]),) * count
    tables = (np.ones((1, 1, 1, 1) if kernel.startswith("train_") else (1, 1, 1)),) * count
    arguments: tuple[Any, ...] = (points, breaks, tables)
    options: dict[str, Any] = {}
    if kernel.endswith("_vjp"):
        arguments += (np.ones((n, 1) if "columns" in kernel else n),)
    elif kernel == "cp_newton":
        arguments = (points, np.ones(n), -np.ones(count), np.ones(count), breaks, tables)
        options = {"tol": np.full(n, 1e-3), "max_steps": 3}
    elif kernel == "normal_blocks":
        arguments = ((np.zeros(n, dtype=int),) * count, *((np.ones((n, 1)),) * count,) * 2, np.ones(n), np.ones(n))
        options = {"sizes": (1,) * count}
    (claim,) = (c for c in CLAIMS if (c.kernel, c.backend, c.library, c.dtype) == (kernel, "cuda", "cupy", "float64"))
    with on_host() as shim:
        given = results(kernel, getattr(cuda, kernel)(*arguments, **options))
    assert bool(claim.limit) == (not shim.launches)
    for one, other in zip(given, results(kernel, getattr(generic, kernel)(*arguments, **options)), strict=True):
        assert np.array_equal(one, other)


def test_a_question_outside_the_table_is_an_error() -> None:
    with pytest.raises(KeyError):
        table.gap("cp_value", "jax")
    with pytest.raises(KeyError):
        table.gap("no_kernel", "numpy")


def test_the_page_has_the_table() -> None:
    """To renew: ``python -c "from sepnet.backends.capabilities import markdown; print(markdown())"``."""
    assert table.markdown() in PAGE.read_text(encoding="utf-8")
