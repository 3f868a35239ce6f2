"""What a type checker sees: code of users that is right passes mypy --strict."""

import os
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

def knots(space: sn.TensorSpace) -> tuple[np.ndarray, np.ndarray]:
    return space.axes["x"].knots, space.axes["x"].greville
"""


def test_user_code_passes_strict(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(USER)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--ignore-missing-imports"]
    done = subprocess.run(
        [*command, "--cache-dir", str(tmp_path / "cache"), "user.py"],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
