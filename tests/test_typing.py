"""What a type checker sees: code of users that is right passes mypy --strict."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
USER = """
import numpy as np
import sepnet as sn

def algebra(u: sn.CP, v: sn.CP) -> list[sn.CP]:
    return [u + v, u - v, u * v, 2 * u, u * 2.0, -u, u / 2, u + 1, 1 - u, np.float64(2) * 1.0 * u]

def total(u: sn.CP, v: sn.CP) -> sn.CP:
    return u + v

def product(u: sn.CP, v: sn.CP) -> sn.CP:
    return u * v

def negative(u: sn.CP) -> sn.CP:
    return -u

def double(u: sn.CP) -> sn.CP:
    return 2 * u

def slice_of(u: sn.CP) -> sn.CP:
    return u.restrict(x=0.5)

def field(u: sn.CP) -> object:
    return u.restrict(x=0.5).on_grid(y=3)

def marginal(u: sn.CP) -> sn.CP:
    return u.integrate("x")

def mean(u: sn.CP) -> float:
    return float(u.integrate())

def operator(space: sn.TensorSpace) -> sn.Galerkin:
    x = space.coordinates[0]
    return sn.Galerkin(sn.inner((1 + x) * space.d.x, space.d.x), source=2 * x * x)

def knots(space: sn.TensorSpace) -> tuple[np.ndarray, np.ndarray]:
    return space.axes["x"].knots, space.axes["x"].greville
"""


def test_user_code_passes_strict(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(USER)
    # with the settings and the cache of the checkout: alone it would take twenty seconds
    done = subprocess.run(
        [sys.executable, "-m", "mypy", str(tmp_path / "user.py")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
