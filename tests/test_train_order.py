"""Trains along another order of the axes than that of the space: the same functions, to whoever uses them."""

import pickle

import numpy as np
import pytest
from function_support import SPACES, random_points
from hypothesis import given
from hypothesis import strategies as st
from test_tensor_train import random_train

import sepnet as sn
from sepnet.functions import storage

EPS = np.finfo(float).eps
# Swaps drop fifty units of round-off of the norm each, and values are up to some dozen times the norm.
CLOSE = 1e-11


@st.composite
def pairs(draw):
    """A train in the order of its space, the same function along another order, and a seed."""
    name, seed = draw(st.sampled_from(sorted(SPACES))), draw(st.integers(0, 2**31))
    u = random_train(SPACES[name], 2, seed)
    return u, u.reorder(*draw(st.permutations(u.space.names))), seed


def close(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    assert np.abs(a - b).max(initial=0.0) <= CLOSE * (1 + np.abs(b).max(initial=0.0))


def same(v, u):
    assert v.space == u.space
    assert (v - u).norm() <= CLOSE * (1e-3 + u.norm())


@given(pairs())
def test_values_belong_to_the_axes_of_the_space(pair):
    u, v, seed = pair
    assert v.space == u.space
    assert sorted(v.order) == sorted(u.space.names)
    points = random_points(u.space, 20, seed)
    close(v(points), u(points))
    close(v.gradient(points), u.gradient(points))
    close(v.hessian(points), u.hessian(points))
    counts = {name: 2 + k for k, name in enumerate(u.space.names)}
    close(v.on_grid(**counts), u.on_grid(**counts))
    close(v.full(), u.full())


@given(pairs(), st.data())
def test_the_calculus_is_the_same(pair, data):
    u, v, seed = pair
    name = data.draw(st.sampled_from(u.space.names))
    place = float(np.mean(u.space.axes[name].domain))
    if u.space.dim > 1:
        same(v.restrict(**{name: place}), u.restrict(**{name: place}))
        same(v.integrate(name), u.integrate(name))
    same(v.derivative(name), u.derivative(name))
    close(v.integrate(), u.integrate())
    close(v.norm(), u.norm())
    w = random_train(u.space, 2, seed + 1)
    close(v.inner(w), u.inner(w))
    same(v + w, u + w)
    same(w + v, u + w)
    same(v * w, u * w)
    same(2 * v + 1, 2 * u + 1)
    same(v - 0.5 * v.reorder(*u.space.names), 0.5 * u)
    same(v.compress(1e-12), u)
    close(v.as_coefficient()(random_points(u.space, 5), u.space.names), u(random_points(u.space, 5)))


def test_sums_of_products_and_trains_meet():
    u = random_train(SPACES["splines"], 2, 0)
    v, c = u.reorder(*"tyx"), sn.project(lambda p: p.sum(axis=1), SPACES["splines"], rank=3)
    same(v + c, u + c)
    same(c * v, c * u)
    close(v.inner(c), u.inner(c))
    assert (v + c).order == ("t", "y", "x")
    back, error = v.to_cp(1e-9)
    assert back.space == u.space
    assert (back - u).norm() <= (error + 1e-12) * u.norm()


def test_projection_keeps_the_order():
    u = random_train(SPACES["splines"], 2, 0).reorder(*"ytx")
    finer = sn.TensorSpace(**{name: basis.refine() for name, basis in u.space.items})
    v, error = u.project(finer)
    assert v.order == u.order
    assert error <= 1e-12
    assert v.space == finer


def test_files_keep_the_order(tmp_path):
    u = random_train(SPACES["splines"], 2, 0)
    v, path = u.reorder(*"tyx"), tmp_path / "v.h5"
    v.save(path)
    w = sn.load(path)
    assert (w.order, w.space) == (v.order, v.space)
    assert all(np.array_equal(a, b) for a, b in zip(w.cores, v.cores, strict=True))
    p = pickle.loads(pickle.dumps(v))
    assert all(np.array_equal(a, b) for a, b in zip(p.cores, v.cores, strict=True))
    assert p.order == v.order
    wrong = storage.Stored("TensorTrain", v.space, tuple(v.cores[k] for k in v.places), {}, ("x", "y", "t"))
    storage.write(path, wrong)
    with pytest.raises(ValueError, match="no sound TensorTrain"):
        sn.load(path)


def test_an_order_in_every_namespace(xp):
    u = random_train(SPACES["mixed"], 2, backend=xp)
    v = u.reorder(*"cabx")
    assert v.order == ("c", "a", "b", "x")
    points = xp.asarray(random_points(u.space, 10))
    for mine, theirs in ((v(points), u(points)), (v.gradient(points), u.gradient(points))):
        assert float(xp.xp.max(xp.xp.abs(mine - theirs))) <= 1e4 * xp.eps * (1 + float(xp.xp.max(xp.xp.abs(theirs))))
    assert u.reorder(*"xabc") is u
    assert repr(v).startswith("TensorTrain(ranks=")
    assert "along c-a-b-x" in repr(v)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (("x", "y"), ValueError, "the names are x, y, expected each of x, y, t once"),
        (("x", "y", "y"), ValueError, "expected each of x, y, t once"),
        (("x", "y", "q"), ValueError, "the axis 'q'"),
        ((), ValueError, "the names are missing"),
        (("x", "y", 3), TypeError, "the axis 3, expected a str"),
    ],
)
def test_names_that_are_no_order(names, error, message):
    u = random_train(SPACES["splines"], 2, 0)
    with pytest.raises(error, match=message):
        u.reorder(*names)
    with pytest.raises(error):
        sn.TensorTrain(u.space, u.cores, names)
