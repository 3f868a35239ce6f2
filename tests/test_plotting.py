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
from sepnet.plotting.sections import limits_of
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
    at = {"t": [1.5, 1.6], "z": 0.2, "omega": 0.5, "kappa": 1e-3}
    both = [plotting.slices(u, f, x="y", y="x", at=at) for f in (u, lambda p: u(p))]
    for figure in both:
        panels = [np.asarray(panel.images[0].get_array()) for panel in _panels(figure)]
        mine, theirs, difference = panels[::2]
        np.testing.assert_allclose(mine, theirs, atol=1e-14)
        assert np.abs(difference).max() < 1e-14
        x = u.grid(x=121, y=1, z=1, t=1, omega=1, kappa=1)["x"]
        middle = u.space.axes["y"].domain
        y = np.linspace(*middle, 121)[70]
        line = u(np.stack([x, *(np.full(121, v) for v in (y, 0.2, 1.5, 0.5, 1e-3))], axis=1))
        np.testing.assert_allclose(mine[:, 70], line, atol=1e-13)


def test_pictures_refuse_what_they_cannot_draw(plume, tmp_path):
    pytest.importorskip("matplotlib")
    case, u = plume
    rest = {"z": 0, "t": 1, "omega": 1, "kappa": 1e-3}
    refused = [
        ("plot.slices names the axis 'q', expected one of x, y, z", {"y": "q", "at": rest}),
        ("plot.slices names the axis 'q'", {"at": {**rest, "q": 0}}),
        ("a position is given for the axis 'x', which is drawn", {"x": "x", "at": {**rest, "x": 0.1}}),
        ("`x` and `y` are both 'x'", {"x": "x", "y": "x", "at": rest}),
        (r"axis 'kappa' has no position: give kappa a number, at={'kappa': 0.00105}", {"at": {**rest, "kappa": None}}),
        ("nothing is left to draw", {"at": {**rest, "x": 0, "y": 0}}),
        ("several positions on the axes t, omega, expected at most 1", {"at": {**rest, "t": [1, 2], "omega": [0, 1]}}),
        ("use plot.cut for curves", {"at": {**rest, "y": 0}}),
        ("`window` names 'z', expected one of the axes drawn, x, y", {"at": rest, "window": {"z": (0, 1)}}),
        (r"window of the axis 'x' is \(1, 0\)", {"at": rest, "window": {"x": (1, 0)}}),
        (r"window of the axis 'x' is \(0, 9\)", {"at": rest, "window": {"x": (0, 9)}}),
        (r"window of the axis 'x' is \(0, 0.1, 1\)", {"at": rest, "window": {"x": (0, 0.1, 1)}}),
        ("`name` is 'x', which is an axis", {"at": rest, "name": "x"}),
        ("`units` names 'q'", {"at": rest, "units": {"q": "m"}}),
        (r"position on axis 't' has shape \(0,\)", {"at": {**rest, "t": []}}),
        ("position on axis 't' is 9.0", {"at": {**rest, "t": 9}}),
    ]
    for message, options in refused:
        options["at"] = {name: place for name, place in options["at"].items() if place is not None}
        with pytest.raises(ValueError, match=message):
            plotting.slices(u, case.reference, **options)
    with pytest.raises(TypeError, match="position on axis 't' is 'last', expected a real number"):
        plotting.slices(u, at={**rest, "t": "last"})
    for message, options in (
        ("`at` is ..., expected a mapping", {"at": [1]}),
        ("`window` is ..., expected a mapping", {"at": rest, "window": [1]}),
    ):
        with pytest.raises(TypeError, match=message):
            plotting.slices(u, **options)
    mapped = sn.affine(u.space, "abcdef", np.eye(6))(u)
    for draw in (
        lambda: plotting.slices(mapped, at=rest),
        lambda: plotting.cut(mapped, case.reference, axis="x", at=rest),
        lambda: plotting.animate(mapped, tmp_path / "u.gif"),
    ):
        with pytest.raises(TypeError, match=r"`u` is Mapped, whose function of the computational .* is its `.u`"):
            draw()
    with pytest.raises(ValueError, match="expected at most 2 such axes: give omega a number"):
        plotting.slices(u, x="x", at={"y": [0, 0.1], "z": [0], "t": 1, "omega": [0, 1], "kappa": 1e-3})
    with pytest.raises(ValueError, match="a value is not finite"):
        plotting.slices(sn.CP(u.space, [f * np.nan for f in u.factors]), at=rest)
    with pytest.raises(ValueError, match="the axis 'kappa' has not one position"):
        plotting.cut(u, case.reference, axis="x", at={"y": 0, "z": 0, "t": 1, "omega": 1})
    with pytest.raises(ValueError, match="axis 't' has not one position: give t a number"):
        plotting.cut(u, case.reference, axis="x", at={**rest, "y": 0, "t": [1, 2]})
    figure = plotting.cut(u, case.reference, axis="x", at={**rest, "y": 0.1})
    with pytest.raises(ValueError, match=r"expected a file name that ends in .png, .pdf or .svg"):
        plotting.save(figure, tmp_path / "u.gif")
    with pytest.raises(FileNotFoundError, match="does not exist: create it first"):
        plotting.save(figure, tmp_path / "no" / "u.png")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------- a function alone


def test_positions_far_from_the_origin_are_told_apart():
    pytest.importorskip("matplotlib")
    far = sn.TensorSpace(x=sn.BSpline((0, 1), cells=2), y=sn.BSpline((1e6, 1e6 + 1), cells=2))
    figure = plotting.slices(random_cp(far, 1), x="x", at={"y": [1e6, 1e6 + 0.25]})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["y = 1000000", "y = 1000000.25"]


FLAT = sn.TensorSpace(**{name: sn.BSpline((0, 2), cells=3) for name in "xytk"})


def test_slices_share_a_scale_and_say_where_they_are():
    pytest.importorskip("matplotlib")
    u = random_cp(FLAT, 3)
    units = {"x": "m", "t": "s", "k": "W", "T": "K"}
    figure = plotting.slices(u, x="y", y="x", at={"t": [0, 0.5, 2], "k": [1, 2]}, name="T", units=units)
    panels = _panels(figure)
    assert [panel.get_title() for panel in panels] == ["t = 0 s", "t = 0.5 s", "t = 2 s", "", "", ""]
    assert [panel.get_ylabel() for panel in panels] == ["k = 1 W\n\nx [m]", "", "", "k = 2 W\n\nx [m]", "", ""]
    assert [panel.get_xlabel() for panel in panels] == ["", "", "", "y", "y", "y"]
    (bar,) = [axes for axes in figure.axes if axes not in panels]
    assert bar.get_ylabel() == "T [K]"
    line = np.linspace(0, 2, 121)
    values = [u.restrict(t=t, k=k).on_grid(x=line, y=line) for k in (1, 2) for t in (0, 0.5, 2)]
    for panel, value in zip(panels, values, strict=True):
        np.testing.assert_allclose(panel.images[0].get_array(), value, atol=1e-14)  # rows are x, the vertical axis
        assert panel.images[0].get_clim() == pytest.approx((np.min(values), np.max(values)), abs=1e-14)


@pytest.mark.parametrize("count", [1, 5, 7])
def test_a_long_row_is_broken(count):
    pytest.importorskip("matplotlib")
    figure = plotting.slices(random_cp(FLAT, 2), at={"t": np.linspace(0, 2, count), "k": 1.0}, window={"x": (0, 1)})
    panels = _panels(figure)
    assert [bool(panel.get_ylabel()) for panel in panels] == [k % 5 == 0 for k in range(count)]
    assert [bool(panel.get_xlabel()) for panel in panels] == [k + 5 >= count for k in range(count)]
    assert {panel.get_xlim() for panel in panels} == {(0.0, 1.0)}
    figure.draw_without_rendering()
    ticks = [any(text.get_visible() for text in panel.get_xticklabels()) for panel in panels]
    assert ticks == [k + 5 >= count for k in range(count)]


def test_one_axis_is_drawn_as_curves():
    pytest.importorskip("matplotlib")
    u = random_cp(FLAT, 3)
    figure = plotting.slices(u, x="y", at={"x": [0.0, 0.5, 2.0], "t": [0, 1], "k": 1}, units={"x": "m"})
    assert [panel.get_title() for panel in figure.axes] == ["t = 0", "t = 1"]
    for panel, t in zip(figure.axes, (0, 1), strict=True):
        for line, x in zip(panel.lines, (0.0, 0.5, 2.0), strict=True):
            y = line.get_xdata()
            points = np.stack([np.full(y.size, x), y, np.full(y.size, t), np.ones(y.size)], axis=1)
            np.testing.assert_allclose(line.get_ydata(), u(points), atol=1e-13)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["x = 0 m", "x = 0.5 m", "x = 2 m"]
    (panel,) = plotting.slices(u.restrict(x=1, t=1, k=1)).axes  # a function of one axis
    assert (panel.get_xlabel(), panel.get_ylabel(), len(panel.lines)) == ("y", "u", 1)


def test_constants_are_drawn_without_the_noise_of_round_off():
    pytest.importorskip("matplotlib")
    for dtype in (np.float32, np.float64):
        noisy = dtype(7) * (1 + np.finfo(dtype).eps * np.arange(-8, 8, dtype=dtype))
        assert limits_of([noisy], "here") == pytest.approx((6.65, 7.35), rel=1e-5)
        assert limits_of([noisy * dtype(1.001), noisy], "here") == pytest.approx((7, 7.007), rel=1e-5)
    for value in (0.0, -7.0):
        u = sn.project(sn.product() * value, FLAT).to(dtype="float32")
        for at in ({"t": [0, 1], "k": 0}, {"t": [0, 1], "k": 0, "y": 0}):
            figure = plotting.slices(u, at=at)
            panel = figure.axes[0]
            low, high = panel.images[0].get_clim() if panel.images else panel.get_ylim()
            assert low < value - 0.04 < value + 0.04 < high
            assert not panel.collections
            figure.draw_without_rendering()


def test_functions_of_every_format_and_library_are_drawn_as_slices(xp):
    pytest.importorskip("matplotlib")
    u = random_cp(FLAT, 2, 0, xp)
    at = {"t": xp.asarray([0.0, 1.0]), "k": 1}
    forms = [u, sn.TensorTrain.from_cp(u), sn.SNA(FLAT, {FLAT.names: u})]
    drawn = [[panel.images[0].get_array() for panel in _panels(plotting.slices(f, at=at))] for f in forms]
    for other in drawn[1:]:
        np.testing.assert_allclose(other, drawn[0], atol=100 * xp.eps)


# --------------------------------------------------------------------------------------------------------- animations


def _frames(path):
    found = []
    with pytest.importorskip("PIL.Image").open(path) as image:
        for k in range(image.n_frames):
            image.seek(k)
            found.append((image.info["duration"], np.asarray(image.convert("RGB"), dtype=float)))
    return found


def test_an_animation_has_a_picture_for_each_position(tmp_path):
    pytest.importorskip("matplotlib")
    u = sn.project(sn.product(x=lambda s: s, t=lambda s: s - 1), FLAT.drop("k"))
    path = tmp_path / "u.gif"
    plotting.animate(u, path, frames=[0.0, 0.5, 2.0], fps=4, units={"t": "s"})
    frames = _frames(path)
    assert [duration for duration, _ in frames] == [250, 250, 250]
    height, width, _ = frames[0][1].shape
    left, right = (
        (slice(height // 3, height // 2), slice(width // 4, width // 3)),
        slice(int(0.6 * width), int(0.7 * width)),
    )
    # yellow is large, violet is small: the slope is turned round on the way, and all pictures have one scale
    steep = [frame[left[0], right, 1].mean() - frame[left[0], left[1], 1].mean() for _, frame in frames]
    assert steep[0] < steep[1] < 0 < steep[2]
    assert steep[2] == pytest.approx(-steep[0], rel=0.5)
    plotting.animate(u, path, frames=[2.0, 0.0], units={"t": "s"})  # what was drawn before leaves no trace
    for (_, again), (_, frame) in zip(_frames(path), frames[::-2], strict=True):
        np.testing.assert_array_equal(again, frame)
    plotting.animate(u, path, over="x", x="y", at={"t": 0.5}, frames=2)  # a curve, in place of the former file
    assert len(_frames(path)) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_animations_refuse_what_they_cannot_film(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    from matplotlib.animation import FFMpegWriter

    u = random_cp(FLAT, 1)
    monkeypatch.setattr(FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    good = {"at": {"k": 1}, "frames": 2}
    for error, message, name, options in (
        (ValueError, r"ends in .gif or .mp4", "u.avi", good),
        (FileNotFoundError, "ffmpeg is needed and was not found: install it, or write a .gif", "u.mp4", good),
        (FileNotFoundError, "does not exist: create it first", "no/u.gif", good),
        (ValueError, "`over` names the axis 'q'", "u.gif", {**good, "over": "q"}),
        (ValueError, "axis 'k' has no position: give k a number, at={'k': 1.0}", "u.gif", {"frames": 2}),
        (ValueError, "a position is given for the axis 't', which is drawn", "u.gif", {**good, "x": "t"}),
        (ValueError, "several positions on the axis 'k': give it a number", "u.gif", {"at": {"k": [1, 2]}}),
        (ValueError, "`frames` is 0", "u.gif", {**good, "frames": 0}),
        (TypeError, "`frames` is 0.5", "u.gif", {**good, "frames": 0.5}),
        (ValueError, "`fps` is 0", "u.gif", {**good, "fps": 0}),
        (ValueError, "`frames` is 0", "u.gif", {**good, "frames": np.int64(0)}),
        (ValueError, "position on axis 't' is 3.0", "u.gif", {**good, "frames": [3.0]}),
    ):
        with pytest.raises(error, match=message):
            plotting.animate(u, tmp_path / name, **options)
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
plotting.save(plotting.gallery_figure(case, sn.project(1, case.space)), "u.png")
plotting.animate(sn.project(1, case.space), "u.gif", over="y", frames=1)
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
