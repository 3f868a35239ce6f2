"""The pictures: what is drawn where, and what is refused."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from function_support import random_cp

import sepnet as sn
from sepnet import cli, plotting
from sepnet.models import vsna
from sepnet.sensitivity import effects, sobol


@pytest.fixture(scope="module")
def plume():
    case = vsna.advection_diffusion(10, centre=(0.3, 0.1, 0.2), t=(1.0, 2.0))
    return case, sn.solve(case.problem, rank=6).u


def _panels(figure):
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]


def test_the_plume_is_drawn_where_it_is(plume):
    pytest.importorskip("matplotlib")
    case, u = plume
    panels = _panels(plotting.gallery_figure(case, u, caption="rank 6"))
    assert len(panels) == 15
    assert [panel.get_title() for panel in panels[:5]] == ["t = 1", "t = 1.25", "t = 1.5", "t = 1.75", "t = 2"]
    assert [panels[k].get_ylabel() for k in (0, 5, 10)] == ["solution\n\ny", "reference\n\ny", "difference\n\ny"]
    assert panels[10].get_xlabel() == "x"
    for number, panel in enumerate(panels[5:10]):
        image = np.asarray(panel.images[0].get_array())  # rows y, columns x
        left, right, bottom, top = panel.images[0].get_extent()
        row, column = np.unravel_index(image.argmax(), image.shape)
        seen = (  # the middle of the pixel
            left + (right - left) * (column + 0.5) / image.shape[1],
            bottom + (top - bottom) * (row + 0.5) / image.shape[0],
        )
        angle = number / 4  # omega = 1
        x = 0.3 * np.cos(angle) - 0.1 * np.sin(angle)
        y = 0.3 * np.sin(angle) + 0.1 * np.cos(angle)
        np.testing.assert_allclose(seen, (x, y), atol=(right - left) / image.shape[0])  # one pixel
        end = panel.lines[-1].get_xydata()[0]
        np.testing.assert_allclose(end, (x, y), atol=1e-12)
    solution, reference, difference = (panels[k].images[0] for k in (2, 7, 12))
    assert solution.get_clim() == reference.get_clim()
    assert difference.get_clim()[0] == -difference.get_clim()[1]
    np.testing.assert_allclose(difference.get_array(), solution.get_array() - reference.get_array(), atol=1e-15)


def test_pixels_stand_over_their_points_and_round_off_has_no_level_lines():
    pytest.importorskip("matplotlib")
    case = vsna.poisson_kan(8)
    figure = plotting.gallery_figure(case, sn.solve(case.problem, rank=1).u)
    for panel in _panels(figure):
        left, right, bottom, top = panel.images[0].get_extent()
        np.testing.assert_allclose((left, right, bottom, top), np.array([-1, 1, -1, 1]) * 121 / 120)
        assert panel.get_xlim() == panel.get_ylim() == (-1.0, 1.0)
        assert panel.images[0].get_interpolation() == "bilinear"
    for panel in _panels(figure)[:2]:
        (lines,) = panel.collections
        np.testing.assert_allclose(lines.levels, [-0.8, -0.4, 0.4, 0.8], atol=1e-2)


def test_the_caption_says_at_most_where_the_reference_sees_no_more(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("matplotlib")
    captions = []

    def draw(case, u, *, caption):
        captions.append(caption)
        return draw_(case, u, caption=caption)

    draw_ = plotting.gallery_figure
    monkeypatch.setattr(plotting, "gallery_figure", draw)
    monkeypatch.setattr(vsna.GalleryProblem, "floor", 0.5)
    assert cli.main(["solve", "poisson-1", "--set", "d=1", "--no-save"]) == 0
    estimate = "at most 0.5 (the reference allows to see no smaller error; 20000 points)"
    assert captions == [f"rank 1, 17 parameters, relative L2 error over the whole box {estimate}"]
    assert estimate in capsys.readouterr().out


def test_long_captions_are_broken_into_lines():
    pytest.importorskip("matplotlib")
    case = vsna.poisson_1(1, 4)
    figure = plotting.gallery_figure(case, sn.solve(case.problem, rank=1).u, caption="many words " * 20)
    assert max(map(len, figure.get_supxlabel().splitlines())) <= 98


def test_slices_take_functions_and_callables_in_any_order_of_axes(plume):
    pytest.importorskip("matplotlib")
    u = plume[1]
    at = {"z": 0.2, "omega": 0.5, "kappa": 1e-3}
    both = [plotting.slices_over_time(u, f, plane=("y", "x"), times=[1.5], at=at) for f in (u, lambda p: u(p))]
    for figure in both:
        mine, theirs, difference = (np.asarray(panel.images[0].get_array()) for panel in _panels(figure))
        np.testing.assert_allclose(mine, theirs, atol=1e-14)
        assert np.abs(difference).max() < 1e-14
        x = u.grid(x=121, y=1, z=1, t=1, omega=1, kappa=1)["x"]
        middle = u.space.axes["y"].domain
        y = np.linspace(*middle, 121)[70]
        line = u(np.stack([x, *(np.full(121, v) for v in (y, 0.2, 1.5, 0.5, 1e-3))], axis=1))
        np.testing.assert_allclose(mine[:, 70], line, atol=1e-13)


def test_axes_that_are_not_drawn_are_in_the_middle(plume):
    pytest.importorskip("matplotlib")
    case, u = plume
    middle = {"z": 0.0, "t": 1.5, "omega": 0.5, "kappa": 1.05e-3}
    figures = [plotting.slices(u, case.reference, **options) for options in ({}, {"at": middle})]
    drawn, expected = ([panel.images[0].get_array() for panel in _panels(figure)] for figure in figures)
    np.testing.assert_allclose(drawn, expected, atol=1e-14)
    assert np.max(expected[0]) > 0.3


def test_pictures_refuse_what_they_cannot_draw(plume, tmp_path):
    pytest.importorskip("matplotlib")
    case, u = plume
    with pytest.raises(ValueError, match="names the axis 'q', expected one of x, y, z"):
        plotting.slices(u, case.reference, plane=("x", "q"))
    with pytest.raises(ValueError, match="`at` fixes the axis 'x', which is drawn"):
        plotting.slices(u, case.reference, at={"x": 0.1})
    with pytest.raises(ValueError, match="`time` names the axis 'tau'"):
        plotting.slices_over_time(u, case.reference, time="tau")
    figure = plotting.cut(u, case.reference, axis="x")
    with pytest.raises(ValueError, match=r"expected a file name that ends in .png, .pdf or .svg"):
        plotting.save(figure, tmp_path / "u.gif")
    with pytest.raises(FileNotFoundError, match="does not exist: create it first"):
        plotting.save(figure, tmp_path / "no" / "u.png")
    assert list(tmp_path.iterdir()) == []


def test_drawing_touches_no_global_state_of_matplotlib(tmp_path):
    pytest.importorskip("matplotlib")
    code = """
import sys
from sepnet import plotting
assert not any(name.startswith("matplotlib") for name in sys.modules)
import sepnet as sn
from sepnet.models import vsna
case = vsna.poisson_kan(4)
plotting.save(plotting.gallery_figure(case, sn.solve(case.problem, rank=1).u), "u.png")
assert "matplotlib.pyplot" not in sys.modules
"""
    env = os.environ | {"PYTHONPATH": str(pathlib.Path(sn.__file__).resolve().parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------------------ functions explained


def small(rank=2, names="xyz", seed=0):
    space = sn.TensorSpace(**{name: sn.BSpline((0, 2), cells=3) for name in names})
    return random_cp(space, rank, seed)


def test_factors_are_drawn_with_mean_square_one_and_their_weights():
    pytest.importorskip("matplotlib")
    u = small(8)
    figure = plotting.factors(u, terms=3)
    (legend,) = figure.legends
    weights = np.array([float(text.get_text()) for text in legend.get_texts()])
    norms = np.ones(8)
    for k, (basis, factor) in enumerate(zip(u.space.bases, u.factors, strict=True)):
        points, lengths = basis.quadrature()
        norms *= np.sqrt(lengths @ (basis.tabulate(points) @ factor) ** 2 / 2)  # the domain is of length 2
        lines = figure.axes[k].lines
        assert len(lines) == 1 + 5 + 3  # zero, grey, coloured
        for line in lines[1:]:
            x, y = line.get_xdata(), line.get_ydata()
            assert np.trapezoid(y**2, x) / 2 == pytest.approx(1, rel=1e-2)  # the trapezoidal rule's error
            assert y[np.abs(y).argmax()] > 0
    np.testing.assert_allclose(np.abs(weights), np.sort(norms)[::-1][:3], rtol=5e-3)  # three digits are printed
    assert legend.get_title().get_text() == "weight\n(grey: 5 more)"
    # The terms put together again are the function.
    figure = plotting.factors(small(1))
    middle = [panel.lines[1].get_ydata()[120] for panel in figure.axes]
    weight = float(figure.legends[0].get_texts()[0].get_text())
    assert weight * np.prod(middle) == pytest.approx(float(small(1)([[1.0, 1.0, 1.0]])[0]), rel=5e-3)


def test_effects_are_drawn_with_their_spread_indices_and_bands():
    pytest.importorskip("matplotlib")
    u = small(3)
    found = effects(u, density={"y": lambda x: x / 2})
    indices = sobol(u, density={"y": lambda x: x / 2})
    lower, upper = (lambda x: np.sin(x) - 1), (lambda x: np.sin(x) + 1)
    figure = plotting.effects(found, bands={"y": (lower, upper)})
    names = [panel.get_xlabel() for panel in figure.axes]
    assert names == sorted("xyz", key=lambda name: -indices.total[name])
    for panel, name in zip(figure.axes, names, strict=True):
        assert panel.get_title() == f"first {indices.first[name]:.2g}, total {indices.total[name]:.2g}"
        x, y = panel.lines[-1].get_data()
        np.testing.assert_allclose(y, found.main[name].curve(x[:, None]), atol=1e-13)
        edge = panel.collections[0].get_paths()[0].vertices
        spread = found.main[name].deviation(x)
        assert edge[:, 1].max() == pytest.approx((y + spread).max(), rel=1e-12)
        assert edge[:, 1].min() == pytest.approx((y - spread).min(), rel=1e-12)
        assert len(panel.lines) == (4 if name == "y" else 2)
    band = figure.axes[names.index("y")].lines
    np.testing.assert_allclose(band[1].get_ydata(), lower(x))
    np.testing.assert_allclose(band[2].get_ydata(), upper(x))
    chosen = plotting.effects(u, axes=["z"])
    assert [panel.get_xlabel() for panel in chosen.axes] == ["z"]


def test_parity_draws_every_pair_and_says_how_good_they_are():
    pytest.importorskip("matplotlib")
    y, guess = np.array([1.0, 2.0, 4.0]), np.array([1.3, 2.0, 3.7])
    (panel,) = plotting.parity(y, guess, name="E [GPa]").axes
    np.testing.assert_allclose(panel.collections[0].get_offsets(), np.stack([y, guess], axis=1))
    assert panel.texts[0].get_text() == f"R² = {1 - 0.18 / (14 / 3):.4g}\nRMSE = {np.sqrt(0.06):.3g}\nn = 3"
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("E [GPa], truth", "E [GPa], predicted")
    assert panel.get_xlim() == panel.get_ylim()
    (panel,) = plotting.parity(np.linspace(0, 1, 6000), np.linspace(0, 1, 6000)).axes
    assert panel.collections[0].get_array().sum() == 6000
    (panel,) = plotting.parity([2.0], [2.0]).axes  # no variance, no R²
    assert panel.texts[0].get_text() == "RMSE = 0\nn = 1"


def test_functions_of_every_library_are_drawn(xp):
    pytest.importorskip("matplotlib")
    u = random_cp(small().space, 2, 0, xp)
    assert len(plotting.effects(u).axes) == len(plotting.factors(u).axes) == 3
    (panel,) = plotting.parity(xp.asarray([1.0, 2.0]), xp.asarray([1.0, 2.5])).axes
    np.testing.assert_allclose(panel.collections[0].get_offsets(), [[1, 1], [2, 2.5]])


@pytest.mark.parametrize("count", [1, 4, 5, 9])
def test_panels_stand_in_rows_of_four(count, tmp_path):
    pytest.importorskip("matplotlib")
    u = small(2, names="abcdefghi"[:count])
    for draw in (plotting.factors, plotting.effects):
        figure = draw(u, title="title", caption="caption")
        assert len(figure.axes) == count
        if count == 5:
            plotting.save(figure, tmp_path / "u.png")


def test_explanations_refuse_what_they_cannot_draw():
    pytest.importorskip("matplotlib")
    u = small()
    for other in (sn.TensorTrain.from_cp(u), sn.Tucker.from_cp(u), 3):
        with pytest.raises(TypeError, match="expected a sum of products"):
            plotting.factors(other)
    with pytest.raises(ValueError, match="no terms"):
        plotting.factors(small(0))
    with pytest.raises(ValueError, match="not finite"):
        plotting.factors(sn.CP(u.space, [f * np.nan for f in u.factors]))
    with pytest.raises(ValueError, match="`terms` is 7"):
        plotting.factors(u, terms=7)
    with pytest.raises(ValueError, match=r"plot.effects names the axis 'q'"):
        plotting.effects(u, axes=["q"])
    with pytest.raises(ValueError, match=r"plot.effects names the axis 'q'"):
        plotting.effects(u, bands={"q": (np.sin, np.sin)})
    with pytest.raises(TypeError, match="expected two callables"):
        plotting.effects(u, bands={"x": np.sin})
    with pytest.raises(ValueError, match="expected one value a point"):
        plotting.effects(u, bands={"x": (np.sin, lambda x: 1.0)})
    with pytest.raises(ValueError, match="expected one prediction for each"):
        plotting.parity([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match=r"`predicted` has shape \(1, 1\)"):
        plotting.parity([1.0], [[1.0]])
    with pytest.raises(ValueError, match="`y` holds values that are not finite, 1 of 2"):
        plotting.parity([1.0, np.nan], [1.0, 1.0])
    with pytest.raises(TypeError, match="`y` is"):
        plotting.parity(["a"], [1.0])
