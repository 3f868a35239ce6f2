"""The pictures: what is drawn where, and what is refused."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import sepnet as sn
from sepnet import cli, plotting
from sepnet.models import vsna


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
