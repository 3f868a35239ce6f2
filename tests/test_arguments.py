"""What functions are asked with: wrong kinds, dtypes, devices and references are named in a sentence."""

import numpy as np
import pytest
from function_support import SPACES, random_cp

import sepnet as sn
from sepnet.backends.arrays import as_dtype, as_namespace

V = SPACES["splines"]


@pytest.mark.parametrize(
    "dtype", ["float99", "float16", ">f8", np.dtype(">f8"), np.float16, np.longdouble, 3, int, "int64", [1]]
)
def test_wrong_dtypes(dtype, tmp_path):
    u = random_cp(V, 1)
    u.save(tmp_path / "u.h5")
    for call in (lambda: u.to(dtype=dtype), lambda: sn.load(tmp_path / "u.h5", dtype=dtype)):
        with pytest.raises(ValueError, match=r'`dtype` is .*, expected "float32" or "float64"'):
            call()


def test_dtypes_by_every_name(xp):
    target = as_namespace(xp.xp)
    for dtype in ("float32", np.float32, np.dtype("f4"), target.float32):
        assert as_dtype(dtype, target) == target.float32
    for dtype in ("float64", float, None, np.float64, target.float64):
        assert as_dtype(dtype, target) == target.float64


@pytest.mark.parametrize("device", ["cuda", "nonsense", 3.5])
def test_devices_that_do_not_exist(device, tmp_path):
    u = random_cp(V, 1)
    u.save(tmp_path / "u.h5")
    with pytest.raises(ValueError, match=r"`device` is .*numpy does not offer here .*leave `device` out"):
        u.to(device=device)
    with pytest.raises(ValueError, match=r"`device` is .*numpy does not offer"):
        sn.load(tmp_path / "u.h5", device=device)
    torch = pytest.importorskip("torch")
    if device != "cuda" or not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"`device` is .*torch does not offer here"):
            u.to(xp=torch, device=device)
    assert u.to(device="cpu") is u
    assert u.to(xp=torch, device="cpu").device == torch.device("cpu")


@pytest.mark.parametrize(
    ("points", "error", "text"),
    [
        ([["a", "b", "c"]], TypeError, r"`points` is list .*, expected real numbers"),
        ([[1.0, 2.0, 3.0], [1.0]], ValueError, "`points` has rows of different lengths"),
        ([[1j, 0, 0]], TypeError, "`points` is list .*, expected real"),
        ([[True, False, True]], TypeError, "`points` is list .*, expected real"),
        (True, TypeError, "`points` is bool True"),
    ],
)
def test_bad_lists_of_points(points, error, text):
    with pytest.raises(error, match=text):
        random_cp(V, 1)(points)


@pytest.mark.parametrize("points", [None, "a", True, 1j, [[True]], ["b"]])
@pytest.mark.parametrize("basis", [V.axes["x"], sn.Legendre((0, 1), 2)], ids=["spline", "legendre"])
def test_bad_points_of_bases(points, basis):
    with pytest.raises(TypeError, match=r"`points` is .*, expected real numbers"):
        basis.values(points)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((None, {}), TypeError, "`reference` is NoneType, expected a callable"),
        ((3, {}), TypeError, "`reference` is int"),
        ((lambda p: p[:, 0] + 0j, {}), TypeError, "`reference` returned complex numbers"),
        ((lambda p: "a", {}), TypeError, "`reference` returned str"),
        ((np.exp, {"n": "a"}), TypeError, "`n` is 'a'"),
        ((np.exp, {"n": 2.5}), TypeError, "`n` is 2.5"),
        ((np.exp, {"n": 1}), ValueError, "`n` is 1, expected an integer, at least 2"),
        ((np.exp, {"seed": -1}), ValueError, "`seed` is -1"),
        ((np.exp, {"seed": None}), TypeError, "`seed` is None"),
        ((random_cp(V.drop("t"), 1), {}), ValueError, "`reference` is a function of x, y, expected one of x, y, t"),
        ((random_cp(V.replace(t=sn.BSpline((0, 9), cells=2)), 1), {}), ValueError, r"domain \(0.0, 9.0\) on axis 't'"),
    ],
)
def test_bad_references(arguments, error, text):
    reference, options = arguments
    with pytest.raises(error, match=text):
        random_cp(V, 1).error(reference, **options)


def test_references_go_by_the_names_of_the_axes():
    u = random_cp(V, 2)
    turned = sn.CP(sn.TensorSpace(**{name: V.axes[name] for name in "tyx"}), u.factors[::-1])
    assert u.error(turned).value < 1e-14
    assert u.error(u.as_coefficient()).value < 1e-14


def test_other_entries():
    with pytest.raises(TypeError, match="returned complex numbers"):
        sn.project(lambda p: p[:, 0] + 0j, V)
    with pytest.raises(TypeError, match="`tol` is 'a', expected a real number"):
        sn.interpolate(np.ones(V.shape), V, tol="a")
    with pytest.raises(TypeError, match="float16, expected float32 or float64"):
        sn.interpolate(np.ones(V.shape, dtype="f2"), V)
    with pytest.raises(TypeError, match=">f8, expected float32 or float64"):
        sn.interpolate(np.ones(V.shape, dtype=">f8"), V)
    with pytest.raises(KeyError, match="there is no axis 'q', expected one of x, y, t"):
        V.axes["q"]
    with pytest.raises(ValueError, match="drop names all axes"):
        V.drop(*V.names)
    with pytest.raises(ValueError, match="Python reads as 'fi'"):
        sn.TensorSpace(**{"\ufb01": V.axes["x"]})
    for name in ("knots", "greville"):
        with pytest.raises(AttributeError, match="has no `knots` and no `greville`"):
            getattr(sn.Legendre((0, 1), 2), name)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: sn.BSpline((0, 1), cells=10**12), ValueError, "`cells` is 1000000000000, expected"),
        (lambda: sn.BSpline(breaks=np.arange(1_000_002.0)), ValueError, "`breaks` has 1000002 numbers"),
        (lambda: sn.Legendre((0, 1), 10**9), ValueError, "`degree` is 1000000000, expected"),
        (lambda: sn.Fourier((0, 1), 10**9), ValueError, "`harmonics` is 1000000000, expected"),
        (lambda: V.axes["x"].quadrature(10**9), ValueError, "`exactness` is 1000000000, expected"),
        (lambda: sn.BSpline((0, 1), cells=10**5).quadrature(2000), ValueError, "1001 points on each of 100000 cells"),
        (lambda: sn.BSpline("01", cells=4), TypeError, "`domain` is '01'"),
        (lambda: sn.BSpline((1, 1 + 1e-15), cells=4), ValueError, "expected cells that float64 can resolve"),
        (lambda: sn.BSpline((0, 10**400), cells=4), ValueError, "inf.*expected two finite numbers"),
        (lambda: sn.Legendre((-(10**400), 0), 2), ValueError, "inf.*expected two finite numbers"),
    ],
)
def test_sizes_beyond_reason(make, error, text):
    with pytest.raises(error, match=text):
        make()
