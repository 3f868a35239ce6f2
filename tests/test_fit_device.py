"""Fits and inversions run where the samples are: what is moved, and that every library finds what NumPy finds."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from fit_support import AXES, random_columns, random_table
from hypothesis import given
from hypothesis import strategies as st
from support import Backend, dev_size

import sepnet as sn
from sepnet.backends import arrays
from sepnet.backends.arrays import device_of, namespace, to_host
from sepnet.functions.sna import SNA
from sepnet.solvers import fit as fit_module
from sepnet.solvers import fit_data, fit_source
from sepnet.solvers.fit_algebra import cholesky, kron, moved, picked, plus_diagonal
from sepnet.solvers.fit_als import solve_symmetric
from sepnet.solvers.fit_axes import FitAxis
from sepnet.solvers.fit_columns import Columns
from sepnet.solvers.fit_growth import together
from sepnet.solvers.fit_loss import Logistic, Squared
from sepnet.solvers.fit_model import Model
from sepnet.solvers.fit_penalty import Penalty
from sepnet.solvers.fit_source import Streamed, Units, source_of

GROWING, PART = 100, 50  # samples on which the shape is found here, and rows of a part: several of both
D = 2


@dataclass
class Ledger:
    """What crossed between the host and where the arrays live: numbers of each transfer, in order."""

    down: list[int] = field(default_factory=list)
    up: list[int] = field(default_factory=list)


@contextmanager
def counted() -> Iterator[Ledger]:
    """Count the transfers of arrays that are not NumPy's, wherever the two functions have been imported."""
    ledger, to, fro = Ledger(), arrays.to_host, arrays.from_host

    def down(array: Any, /) -> np.ndarray:
        if not isinstance(array, np.ndarray):
            ledger.down.append(int(np.prod(array.shape)))
        return to(array)

    def up(array: Any, xp: Any, /, **where: Any) -> Any:
        if not arrays.is_numpy(xp):
            ledger.up.append(np.size(array))
        return fro(array, xp, **where)

    with pytest.MonkeyPatch.context() as patch:
        for module in [m for name, m in sys.modules.items() if name.split(".")[0] == "sepnet" and m is not None]:
            for name, old, new in (("to_host", to, down), ("from_host", fro, up)):
                if getattr(module, name, None) is old:
                    patch.setattr(module, name, new)
        yield ledger


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few samples are many: the last steps see others than those on which the shape is found, in several parts."""
    monkeypatch.setattr(fit_module, "GROWING", GROWING)
    monkeypatch.setattr(fit_data, "PART", PART)
    monkeypatch.setattr(fit_data, "DEVICE_PART", PART)
    monkeypatch.setattr(fit_source, "MEMORY", 2 * PART)


def elsewhere(xp: Backend, *, double: bool = False) -> None:
    """Skip where nothing can leave the host; with `double` also what float64 of the same library shows as well."""
    if double and xp.host_dtype is np.float32:
        pytest.skip("float64 of this library shows the same")
    if arrays.is_numpy(arrays.as_namespace(xp.xp)):
        pytest.skip("nothing can leave the host of NumPy arrays")


def sample(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.random((n, D))
    return X, np.sin(3 * X[:, 0]) * np.exp(X[:, 1]) + 0.05 * rng.standard_normal(n)


def rounded(xp: Backend, *values: np.ndarray) -> list[np.ndarray]:
    """The numbers that are left of some in the dtype of a library, on the host in float64."""
    return [a.astype(xp.host_dtype).astype(float) for a in values]


# --------------------------------------------------------------------------------------------------------- transfers


@pytest.mark.parametrize("options", [{}, {"loss": "logistic"}])
def test_transfers_of_a_fit(xp: Backend, options: dict, small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither steps nor samples add transfers, but for a few numbers of each part when it is seen first."""
    elsewhere(xp, double=True)
    found: dict[tuple[int, int], Ledger] = {}
    taken = []
    real = fit_module.together
    monkeypatch.setattr(fit_module, "together", lambda *a, **k: real(*a, **{**k, "tol": 0.0, "after": taken.append}))
    for n, steps in ((3 * PART, 1), (3 * PART, 2), (5 * PART, 2)):
        X, y = sample(n)
        X, y = xp.asarray(X), xp.asarray(y > 1.2 if "loss" in options else y)
        with counted() as found[n, steps]:
            fit = sn.fit(X, y, max_steps=steps, rank=1, cells=1, degree=2, penalty=1e-3, **options)
        assert len(taken) == steps
        taken.clear()
        ledger, size = found[n, steps], max(part.size for part in parts_of(fit.u))
        # one copy of the samples on which the shape is found, with targets and weights
        assert sorted(ledger.down)[-1] == GROWING * (D + 2)
        assert sorted(ledger.down)[-2] <= max(size, 3 * D)
        assert sum(ledger.down) <= GROWING * (D + 2) + 3 * D + 2 * fit.u.size + 7 * n // PART
        # the numbers of those samples, the coefficients there and back, the polynomials of the axes
        assert max(ledger.up) <= max(GROWING, 4 * size)
    few, many, more = found.values()
    assert few == many
    assert few.up == more.up
    # of each part and output the extremes, and sums, once
    assert sorted(more.down) == sorted(few.down + 2 * [3, 4])


def parts_of(u: sn.CP | SNA) -> list[Any]:
    return list(u.parts.values()) if isinstance(u, SNA) else [u]


@pytest.mark.parametrize("method", ["lm", "als"])
def test_transfers_of_steps(xp: Backend, method: str, small: None) -> None:
    """Coefficients go there and come back; samples, sums and matrices stay, whatever the number of any of them."""
    elsewhere(xp, double=True)
    columns, rng = Columns(AXES, ((4,), (0, 2), (1, 3)), (1, 1, 2)), np.random.default_rng(3)
    start = [rng.uniform(-1, 1, (a.size, len(k))) for a, k in zip(AXES, columns.active, strict=True)]
    model = Model(columns, start, Penalty((1e-3,) * 5, 1e-3, 1e-6))
    ledgers = []
    for n, steps in ((60, 1), (60, 1), (60, 2), (120, 2)):
        table = random_table(1, n)
        X, y, w = (xp.asarray(a) for a in (table.points, table.targets, table.weights))
        samples = Streamed(source_of(X, y, w), AXES, Units(np.zeros(1), np.ones(1)), 4)
        samples.source.summary()
        taken: list[float] = []
        with counted() as ledger:
            together(samples, model, Squared(), method, steps=steps, tol=-1.0, after=taken.append)
        assert len(taken) == steps
        ledgers.append(ledger)
    sizes = [f.size for f in start]
    assert ledgers[0].down == sizes
    # the first time also what is needed of the axes, which is then kept; a spectral axis asks for the ends of its
    # domain in each part
    assert max(ledgers[0].up) <= max(a.size for a in AXES) ** 3
    for ledger in ledgers[1:]:
        assert ledger.down == sizes
        assert [k for k in ledger.up if k > 1] == [k for k in sizes if k > 1]


def test_transfers_of_bands(xp: Backend, small: None) -> None:
    elsewhere(xp, double=True)
    ledgers = []
    for n in (3 * PART, 5 * PART):
        X, y = (xp.asarray(a) for a in sample(n))
        fit = sn.fit(X, y, rank=1, cells=1, penalty=1e-3)
        with counted() as ledger:
            sn.confidence(fit, X, y)
        size = fit.u.size
        assert max(ledger.down) == size**2
        # the matrix of the samples, and that of their squares, with what round-off does not see cut off
        assert sum(k > size for k in ledger.down) == 2
        ledgers.append(ledger)
    assert sorted(ledgers[1].down) == sorted(ledgers[0].down + 2 * [3, 4])


def test_targets_of_another_library_are_moved_once(xp: Backend, small: None) -> None:
    elsewhere(xp, double=True)
    X, y = sample(3 * PART)
    for steps in (1, 3):
        with counted() as ledger:
            sn.fit(xp.asarray(X), y, rank=1, cells=1, max_steps=steps, weights=np.ones(len(y)), penalty=1e-3)
        assert [k for k in ledger.up if k >= len(y)] == [len(y)] * 2
    with counted() as ledger:
        sn.fit(X, xp.asarray(y), rank=1, cells=1, penalty=1e-3)
    assert ledger.down == [len(y)]


def test_gradients_do_not_go_through_a_fit(small: None) -> None:
    # recorded, they would keep what every pass over the samples made
    torch = pytest.importorskip("torch")
    X, y = sample(3 * GROWING)
    plain = [torch.tensor(a) for a in (X, y, np.linspace(1.0, 2.0, len(y)))]
    followed = [a.clone().requires_grad_() for a in plain]
    kept: list[Any] = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda k: k):
        fit = sn.fit(followed[0], followed[1], weights=followed[2], rank=1, cells=2)
        bands = sn.confidence(fit, followed[0], followed[1], weights=followed[2])
    assert kept == []
    assert all(not a.requires_grad for a in fit.u.arrays)
    same = sn.fit(plain[0], plain[1], weights=plain[2], rank=1, cells=2)
    assert all(bool((a == b).all()) for a, b in zip(fit.u.arrays, same.u.arrays, strict=True))
    assert bands.noise > 0.0


def test_devices_are_not_mixed() -> None:
    xp = pytest.importorskip("array_api_strict")
    X, y = sample(20)
    here, there = xp.asarray(X, device=xp.Device("device1")), xp.asarray(y)
    with pytest.raises(TypeError, match=r"`y` is .* on .*CPU_DEVICE.*, `X` is .* on .*device1"):
        sn.fit(here, there, rank=1)
    with pytest.raises(TypeError, match=r"a batch is .*CPU_DEVICE.*, the first .*device1"):
        sn.fit([(here, y), (xp.asarray(X), y)], rank=1)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("X", np.nan, "`X` has nan in row 60, column 1: drop the row"),
        ("X", -np.inf, "`X` has -inf in row 60, column 1: drop the row"),
        ("y", np.inf, "`y` has an infinity in row 60: a missing target"),
        ("w", -2.0, "`weights` are not finite numbers >= 0: -2.0 in row 60"),
        ("w", np.nan, "`weights` are not finite numbers >= 0: nan in row 60"),
    ],
)
def test_bad_rows_are_found_where_they_are(xp: Backend, where: str, value: float, message: str, small: None) -> None:
    X, y = sample(3 * PART)
    w = np.ones(len(y))
    {"X": X[:, 1], "y": y, "w": w}[where][60] = value
    with counted() as ledger, pytest.raises(ValueError, match=message):
        sn.fit(xp.asarray(X), xp.asarray(y), weights=xp.asarray(w), rank=1)
    # the sums of the part before it
    assert sum(ledger.down) <= 7


def test_missing_rows_stay_where_they_are(xp: Backend, small: None) -> None:
    """Rows without weight or target are left out there, too; what they hold does not matter."""
    elsewhere(xp, double=True)
    X, y = sample(4 * PART)
    w = np.linspace(1, 2, len(y))
    y[5::7], w[3::7] = np.nan, 0.0
    X[3::7] = np.inf
    with counted() as ledger:
        fit = sn.fit(xp.asarray(X), xp.asarray(y), weights=xp.asarray(w), rank=1, cells=1)
    here = np.isfinite(y) & (w > 0)
    want = sn.fit(xp.asarray(X[here]), xp.asarray(y[here]), weights=xp.asarray(w[here]), rank=1, cells=1)
    for a, b in zip(fit.u.factors, want.u.factors, strict=True):
        assert np.array_equal(to_host(a), to_host(b))
    assert sorted(ledger.down)[-1] == GROWING * (D + 2)


# ------------------------------------------------------------------------------------------------------------ parity

SHAPES: dict[str, dict[str, Any]] = {
    "rank": {"rank": 2, "cells": 2},
    "als": {"rank": 1, "cells": 2, "method": "als"},
    "interaction": {"interaction": sn.Interaction(2, rank=1), "cells": 2},
    "ridge": {"rank": 1, "cells": 2, "ridge": 0.05, "penalty": 1e-4},
    "logistic": {"rank": 1, "cells": 2, "loss": "logistic"},
    "chosen": {"cells": 1},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_fits_are_those_of_numpy(xp: Backend, shape: str, small: None) -> None:
    """With weights and missing targets: the same shape, function, gradient, errors and degrees of freedom."""
    elsewhere(xp, double=shape != "rank")
    if shape == "chosen" and xp.name.startswith("torch"):
        pytest.skip("the shape is found on the host: one library shows it")
    X, y = sample(200)
    w = np.random.default_rng(1).random(200)
    y = (y > 1.2) * 1.0 if shape == "logistic" else y
    X, y, w = rounded(xp, X, y, w)
    y[::17] = np.nan
    want = sn.fit(X, y, weights=w, **SHAPES[shape])
    got = sn.fit(*(xp.asarray(a) for a in (X, y)), weights=xp.asarray(w), **SHAPES[shape])
    assert got.status is want.status
    assert got.inert == want.inert
    assert [p.space.names for p in parts_of(got.u)] == [p.space.names for p in parts_of(want.u)]
    assert [[f.shape for f in p.factors] for p in parts_of(got.u)] == [
        [f.shape for f in p.factors] for p in parts_of(want.u)
    ]
    here = xp.asarray(X[:50])
    value, slope = got.u.value_and_gradient(here)
    assert namespace(value) is namespace(here)
    assert value.dtype == xp.dtype
    assert device_of(slope) == device_of(here)
    # steps end where the objective falls by 1e-2 of itself, at the same point up to round-off that steps magnify
    tol = 1e3 * xp.eps + 1e-8
    np.testing.assert_allclose(to_host(value), want.u(X[:50]), rtol=0, atol=tol)
    np.testing.assert_allclose(to_host(slope), want.u.gradient(X[:50]), rtol=0, atol=100 * tol)
    for name in ("error", "noise", "freedom", "gcv"):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-7)


@pytest.mark.parametrize(("seed", "logistic"), [(0, False), (1, True)])
def test_bands_are_those_of_numpy(xp: Backend, seed: int, logistic: bool) -> None:
    elsewhere(xp)
    X, y = sample(120, seed)
    X, y, w = rounded(xp, X, (y > 1.2) * 1.0 if logistic else y, np.random.default_rng(seed).random(120) + 0.1)
    loss = "logistic" if logistic else "squared"
    fit = sn.fit(X, y, weights=w, rank=1, cells=1, degree=1, loss=loss, penalty=1e-3)
    there = replace(fit, u=fit.u.to(xp.xp, device=xp.device, dtype="float32" if xp.host_dtype is np.float32 else None))
    want = sn.confidence(fit, X, y, weights=w, loss=loss)
    got = sn.confidence(there, xp.asarray(X), xp.asarray(y), weights=xp.asarray(w), loss=loss)
    # the coefficients are rounded in float32, and the residuals with them
    tol = 1e-8 if xp.host_dtype is np.float64 else 1e-3
    np.testing.assert_allclose(got.freedom, want.freedom, rtol=tol)
    np.testing.assert_allclose(
        to_host(got.standard_error(xp.asarray(X[:9]))), want.standard_error(X[:9]), rtol=10 * tol
    )


def test_samples_of_several_outputs_have_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    # a device takes larger parts than the host: the table on which the shape is found is the same
    monkeypatch.setattr(fit_source, "PART", PART)
    X, y = sample(4 * PART + 7)
    Y = np.stack([y, X[:, 0]], axis=1)
    Y[::9, 1] = np.nan
    chosen, units = np.arange(0, len(y), 3), Units(np.zeros(2), np.ones(2))
    tables = []
    for size in (PART, 3 * PART, 10 * PART):
        monkeypatch.setattr(fit_source, "part_of", lambda like, size=size: size)
        tables.append(source_of(X, Y, None).table(chosen, units))
    for other in tables[1:]:
        assert all((a == b).all() for a, b in zip(vars(tables[0]).values(), vars(other).values(), strict=True))


def test_batches_are_arrays(xp: Backend, small: None) -> None:
    """However the rows come, to the last bit."""
    elsewhere(xp, double=True)
    X, y = (xp.asarray(a) for a in sample(4 * PART))
    cuts = [0, 90, 91, 170, 4 * PART]
    batches = [(X[a:b, ...], y[a:b]) for a, b in itertools.pairwise(cuts)]
    one, other = (sn.fit(*source, rank=1, cells=1, penalty=1e-3) for source in ((X, y), (batches,)))
    for a, b in zip(one.u.factors, other.u.factors, strict=True):
        assert np.array_equal(to_host(a), to_host(b))


def test_extreme_targets(xp: Backend, small: None) -> None:
    """Sums of targets, of which some are missing, neither overflow nor vanish anywhere."""
    X, y = sample(3 * PART)
    Y, w = np.stack([y, y**2], axis=1), np.random.default_rng(1).random(len(y))
    Y[::5, 0] = np.nan
    sizes = (1.0, 2.0**-960, 2.0**960) if xp.host_dtype is np.float64 else (1.0, 2.0**-100, 2.0**100)
    summaries = [source_of(xp.asarray(X), xp.asarray(Y * size), xp.asarray(w)).summary() for size in sizes]
    for size, summary in zip(sizes, summaries, strict=True):
        assert np.array_equal(summary.means, summaries[0].means * size)
        assert np.array_equal(summary.scales, summaries[0].scales * size)
    Y, w = rounded(xp, Y, w)
    for j, there in enumerate(np.isfinite(Y).T):
        mean = np.average(Y[there, j], weights=w[there])
        spread = np.average((Y[there, j] - mean) ** 2, weights=w[there]) ** 0.5
        assert abs(summaries[0].means[j] / mean - 1) <= 1e-13
        assert abs(summaries[0].scales[j] / spread - 1) <= 1e-13


# ----------------------------------------------------------------------------------------------------------- algebra


@dev_size
@given(seed=st.integers(0, 2**31), size=st.integers(0, 12))
def test_cholesky(xp: Backend, seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((size, size)) + 4 * np.eye(size)
    matrix, right = root @ root.T, rng.standard_normal(size)
    factor = cholesky(xp.asarray(matrix).copy() if xp.readonly else xp.asarray(matrix))
    assert factor is not None
    # backward stable: round-off times the condition number, times a small multiple of the size
    tol = 100 * (size + 1) * xp.eps * np.linalg.cond(matrix) if size else 0.0
    solution = np.linalg.solve(matrix, right)
    np.testing.assert_allclose(
        to_host(factor.solve(xp.asarray(right))), solution, rtol=0, atol=tol * np.abs(solution).max(initial=0.0)
    )
    a, b = xp.asarray(rng.random((size, 2))), xp.asarray(rng.random((2, 3)))
    np.testing.assert_array_equal(to_host(kron(a, b)), np.kron(to_host(a), to_host(b)))
    diagonal = rng.random(size)
    np.testing.assert_allclose(
        to_host(plus_diagonal(xp.asarray(matrix), xp.asarray(diagonal))), matrix + np.diag(diagonal), rtol=2 * xp.eps
    )


def test_no_cholesky(xp: Backend) -> None:
    for matrix in (np.diag([1.0, -1.0]), np.zeros((2, 2)), np.full((2, 2), np.nan)):
        assert cholesky(xp.asarray(matrix).copy() if xp.readonly else xp.asarray(matrix)) is None
    one = xp.asarray([1.0, 1.0])
    with pytest.raises(ArithmeticError, match="not finite"):
        solve_symmetric(xp.asarray(np.full((2, 2), np.nan)), one, one)
    np.testing.assert_allclose(
        to_host(solve_symmetric(xp.asarray(np.diag([2.0, 0.0])), xp.asarray([6.0, 0.0]), xp.asarray([1.0, 7.0]))),
        [3.0, 7.0],
        # the ridge is 1e3 units of float64, below the round-off of float32
        rtol=1e-12 + 4 * xp.eps,
    )


@dev_size
@given(seed=st.integers(0, 2**31))
def test_penalties_are_those_of_numpy(xp: Backend, seed: int) -> None:
    columns, factors = random_columns(seed)
    factors = rounded(xp, *factors)
    there, penalty = [xp.asarray(f) for f in factors], Penalty((0.3, 0.02, 0.5, 0.07, 0.0), ridge=0.11, apart=0.13)
    got, want = penalty.terms(columns, there), penalty.terms(columns, factors)
    scale = 1e3 * xp.eps
    assert abs(got.value - want.value) <= scale * want.value
    assert abs(penalty.value(columns, there) - want.value) <= scale * want.value
    for a, b in ((got.vector, want.vector), (got.matrix, want.matrix)):
        np.testing.assert_allclose(to_host(a), b, rtol=0, atol=scale * np.abs(want.matrix).max())
    for i in range(len(AXES)):
        for a, b in zip(penalty.block(columns, there, i), penalty.block(columns, factors, i), strict=True):
            np.testing.assert_allclose(to_host(a), b, rtol=0, atol=scale * max(np.abs(b).max(initial=0.0), 1.0) * 10)
    for a, b in zip(columns.balanced(there), columns.balanced(factors), strict=True):
        np.testing.assert_allclose(to_host(a), b, rtol=0, atol=scale)
    joined = columns.join(there)
    assert all(np.array_equal(to_host(a), f) for a, f in zip(columns.split(joined), factors, strict=True))


def test_axes_are_moved_once(xp: Backend) -> None:
    axis, like = FitAxis(sn.BSpline((0, 1), cells=3, periodic=True)), xp.asarray([0.0])
    with counted() as ledger:
        first = axis.arrays(like)
    assert axis.arrays(like) is first
    assert len(ledger.up) == (0 if arrays.is_numpy(namespace(like)) else 7)
    np.testing.assert_allclose(to_host(first.gram), axis.gram, rtol=2 * xp.eps)
    assert moved([like], like)[0] is like
    assert to_host(picked(xp.asarray([[1.0, 2.0], [3.0, 4.0]]), *[first.first[:1] * 0 + 1] * 2)).tolist() == [[4.0]]


def test_losses_elsewhere(xp: Backend) -> None:
    f, y = [-800.0, -1.0, 0.0, 2.0, 800.0], [1.0, 0.0, 0.3, 1.0, 0.0]
    for loss in (Squared(), Logistic()):
        for a, b in zip(loss.terms(xp.asarray(f), xp.asarray(y)), loss.terms(np.array(f), np.array(y)), strict=True):
            np.testing.assert_allclose(to_host(a), b, rtol=8 * xp.eps, atol=xp.eps)


# --------------------------------------------------------------------------------------------------------- inversion

BOX = sn.TensorSpace(x=sn.BSpline((-1, 1), cells=3), y=sn.BSpline((-1, 1), cells=2))
GAUSS = (np.array([0.3, 0.1]), np.diag([0.1, 0.2]))


def home(u: sn.CP, xp: Backend) -> sn.CP:
    return sn.CP(u.space, [xp.asarray(to_host(f)) for f in u.factors])


def functions(xp: Backend) -> tuple[sn.CP, sn.CP]:
    x, y = BOX.coordinates
    return home(sn.project(x**2 + y**2, BOX, rank=2), xp), home(sn.project(1 + x - 2 * y, BOX, rank=3), xp)


@pytest.mark.parametrize("kind", ["level", "several", "map"])
def test_transfers_of_inversions(xp: Backend, kind: str) -> None:
    """Neither iterations nor targets nor starts add transfers: the starts go there, what was found comes back."""
    elsewhere(xp)
    circle, plane = functions(xp)
    u: Any = [circle, plane] if kind == "several" else circle
    found = []
    for steps, targets, starts in ((2, 2, 8), (20, 2, 8), (20, 5, 14)):
        levels = np.linspace(0.2, 0.6, targets)
        y = xp.asarray(np.stack([levels, np.ones(targets)], axis=1) if kind == "several" else levels)
        options: dict[str, Any] = {"max_steps": steps, "n_starts": starts}
        with counted() as ledger:
            if kind == "map":
                got: Any = sn.map_inversion(u, y, prior=GAUSS, noise=0.05, **options)
            else:
                got = sn.invert(u, y, **options)
        found.append(ledger)
        assert int(got.points.shape[0]) >= targets
        # no more than points and Jacobians of all samples, at the end
        assert max(ledger.down) <= targets * starts * 6
        assert max(ledger.up) <= max(targets * starts * 4, 2 * 60)
    for ledger in found[1:]:
        assert len(ledger.up) == len(found[0].up)
        assert len(ledger.down) == len(found[0].down)
    assert len(found[0].down) <= 9


def test_samples_as_priors_stay_where_they_are(xp: Backend) -> None:
    elsewhere(xp)
    circle, _ = functions(xp)
    rows = np.random.default_rng(0).uniform(-1.2, 1.2, (500, 2))
    there = xp.asarray(rows)
    with counted() as ledger:
        found = sn.invert(circle, 0.25, prior=there, spacing=0)
    assert found.hits == (500,)
    # how many starts came through; with a spacing also the points, to be thinned out
    assert ledger.down == [2]
    assert max(ledger.up) < 500
    want = sn.invert(functions(Backend("numpy", np, np.float64))[0], 0.25, prior=rounded(xp, rows)[0], spacing=0)
    atol = 1e-9 if xp.host_dtype is np.float64 else 1e-2
    np.testing.assert_allclose(to_host(found.points), want.points, rtol=0, atol=atol)
    fewer = sn.invert(circle, 0.25, prior=there, n_starts=7)
    assert int(fewer.points.shape[0]) == 7
    with pytest.raises(ValueError, match=r"`prior` has shape \(500, 2\), expected .* finite rows"):
        sn.invert(circle, 0.25, prior=xp.asarray(np.where(rows > 1.1, np.nan, rows)))


@pytest.mark.parametrize(("seed", "several"), [(0, False), (1, True)])
def test_levels_are_those_of_numpy(xp: Backend, seed: int, several: bool) -> None:
    elsewhere(xp)
    host = functions(Backend("numpy", np, np.float64))
    circle, plane = functions(xp)
    y = np.array([[0.3, 0.9], [9.0, 9.0], [0.5, 1.1]]) if several else np.array([0.3, 9.0, 0.5])
    u, v = ([circle, plane], list(host)) if several else (circle, host[0])
    got, want = sn.invert(u, xp.asarray(y), seed=seed, n_starts=9), sn.invert(v, y, seed=seed, n_starts=9)
    assert [s.name for s in got.statuses] == [s.name for s in want.statuses]
    assert device_of(got.points) == device_of(circle.factors[0])
    for k in range(3):
        part = got.of(k)
        assert int(part.points.shape[0]) == (1 if k == 1 else int(part.points.shape[0]))
        assert not to_host(part.target).any()
        assert to_host(part.points).shape[0] == (to_host(got.target) == k).sum()
    if xp.host_dtype is np.float64:
        assert got.hits == want.hits
        reached = want.target != 1  # the nearest point to what is out of reach is flat: it is known to half the digits
        np.testing.assert_array_equal(to_host(got.target), want.target)
        np.testing.assert_allclose(to_host(got.points)[reached], want.points[reached], rtol=0, atol=1e-6)
        np.testing.assert_allclose(got.spacing, want.spacing, rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", [0])
def test_modes_are_those_of_numpy(xp: Backend, seed: int) -> None:
    elsewhere(xp)
    y = np.array([0.2, 0.4])
    options: dict[str, Any] = {"prior": GAUSS, "noise": 0.05, "n_starts": 6, "seed": seed}
    want = sn.map_inversion(functions(Backend("numpy", np, np.float64))[0], y, **options)
    got = sn.map_inversion(functions(xp)[0], xp.asarray(y), **options)
    # Gauss-Newton converges linearly where data are missed: to a share of a standard deviation
    atol = 1e-5 if xp.host_dtype is np.float64 else 2e-2
    np.testing.assert_allclose(to_host(got.best), want.best, rtol=0, atol=atol)
    for k in range(2):
        part = got.of(k)
        # by the objective at the end of the steps, of which a last one that costs nothing moves the last digits
        assert (np.diff(to_host(part.value)) >= -64 * xp.eps).all()
        assert abs(to_host(part.weight).sum() - 1) <= 8 * xp.eps
    if xp.host_dtype is np.float64:
        assert got.statuses == want.statuses
        np.testing.assert_array_equal(to_host(got.target), want.target)
        np.testing.assert_allclose(to_host(got.covariance), want.covariance, rtol=0, atol=1e-4)


def test_functions_that_are_not_finite(xp: Backend) -> None:
    """Of all starts only the one that is shown is read."""
    elsewhere(xp)

    def broken(points: Any) -> tuple[Any, Any]:
        value = namespace(points).sum(points, axis=1)[:, None]
        return value * float("nan"), points[:, None, :]

    for call in (
        lambda y: sn.invert(broken, y, bounds=[(0, 1)] * 2),
        lambda y: sn.map_inversion(broken, y, prior=GAUSS, noise=0.1),
    ):
        with counted() as ledger, pytest.raises(ValueError, match="at the start"):
            call(xp.asarray([1.0]))
        assert sum(ledger.down) <= 3


def test_columns_know_their_places(xp: Backend) -> None:
    columns = Columns(AXES, ((4,), (0, 1)), (1, 2))
    places = columns.places(xp.asarray([0.0]))
    assert columns.places(xp.asarray([1.0, 2.0])) is places
    for i, active in enumerate(columns.active):
        assert to_host(places.active[i]).tolist() == active.tolist()
        assert to_host(places.passive[i]).tolist() == columns.passive[i].tolist()
        assert to_host(places.absent[i])[:, 0].tolist() == np.isin(range(3), columns.passive[i]).tolist()
    assert to_host(places.free)[:, 0].tolist() == [True, False, False]
