"""Ways out: labelled arrays and files for ParaView hold the values that the function has there."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from function_support import SPACES, random_cp
from hypothesis import given
from hypothesis import strategies as st

import sepnet as sn
from sepnet.bases.matrix_axis import MatrixAxis
from sepnet.bases.mesh import Mesh
from sepnet.io import write_vtk
from sepnet.io.grids import directions

FORMATS = {
    "cp": lambda u: u,
    "train": sn.TensorTrain.from_cp,
    "tucker": sn.Tucker.from_cp,
    "sum": lambda u: sn.SNA(u.space, {u.space.names: u}, constant=0.5, activation="tanh"),
}
BOX = sn.TensorSpace(
    z=sn.BSpline((0, 1), cells=2),
    y=sn.BSpline((-1, 1), cells=3, degree=2),
    t=sn.BSpline((0, 2), cells=2),
    x=sn.BSpline((0, 3), cells=2),
)


def pointwise(u, coordinates):
    """The oracle: the function at single points, given the position of each axis as arrays of one shape."""
    columns = np.broadcast_arrays(*[coordinates[name] for name in u.space.names])
    points = np.stack([np.asarray(c, dtype=np.float64).ravel() for c in columns], axis=1)
    return np.asarray(u.to(np)(points)).reshape(columns[0].shape)


def close(found, expected, unit):
    # Terms of at most one before they are added, R = 3 of them, Fourier and Legendre values of at most one too.
    np.testing.assert_allclose(found, expected, rtol=0, atol=300 * unit)


def places(domain, *, least=0):
    """A number of points, points, or a position, in a domain."""
    low, high = domain
    inside = st.integers(0, 97).map(lambda k: low + k / 97 * (high - low))
    points = st.lists(inside, min_size=least, max_size=3, unique=True).map(np.array)
    return st.one_of(st.integers(1 + least, 3), points, inside)


# ------------------------------------------------------------------------------------------------------------- xarray


@pytest.mark.parametrize("space", ["splines", "mixed"])
@given(data=st.data(), form=st.sampled_from(list(FORMATS)))
def test_labelled_arrays_hold_the_values_at_their_coordinates(space, data, form):
    pytest.importorskip("xarray")
    u = FORMATS[form](random_cp(SPACES[space], 3, data.draw(st.integers(0, 9))))
    where = {name: data.draw(places(basis.domain)) for name, basis in u.space.items}
    field = u.to_xarray(name="q", **where)
    varying = tuple(name for name in u.space.names if not isinstance(where[name], float))
    assert field.dims == varying
    assert field.shape == tuple(where[n] if isinstance(where[n], int) else where[n].size for n in varying)
    for name in u.space.names:
        if not isinstance(where[name], int):
            np.testing.assert_array_equal(field[name], where[name])
    grid = dict(zip(varying, np.meshgrid(*[field[n] for n in varying], indexing="ij"), strict=True))
    expected = pointwise(u, {n: grid.get(n, float(field[n]) if n not in grid else None) for n in u.space.names})
    close(field.values, expected.reshape(field.shape), np.finfo(float).eps)


def test_labelled_arrays_come_to_the_host_from_every_library(xp):
    pytest.importorskip("xarray")
    u = random_cp(SPACES["splines"], 3, 0, xp)
    points = xp.asarray([0.25, 1.0])
    field = u.to_xarray(x=5, y=points, t=1.5)
    assert isinstance(field.values, np.ndarray)
    assert field.dtype == field.x.dtype == xp.host_dtype
    expected = u.to(np, dtype="float64").restrict(t=1.5).on_grid(x=5, y=[0.25, 1.0])
    close(field.values, expected, xp.eps)
    np.testing.assert_array_equal(u.to_xarray(x=5, y=[0.25, 1.0], t=1.5), field)  # points from the host are taken, too


def test_names_units_and_origin_are_written_down_and_survive_a_file(tmp_path):
    xarray = pytest.importorskip("xarray")
    u = random_cp(SPACES["splines"], 3)
    field = u.to_xarray(x=4, y=0.5, t=[0.0, 3.0], name="temperature", units={"t": "s", "y": "m", "temperature": "K"})
    assert field.name == "temperature"
    assert field.attrs == {"units": "K", "format": "CP", "rank": 3, "sepnet_version": sn.__version__}
    assert (field.t.units, field.y.units, field.x.attrs) == ("s", "m", {})
    assert (field.y.shape, float(field.y)) == ((), 0.5)
    field.to_netcdf(tmp_path / "u.nc", engine="scipy")
    with xarray.open_dataarray(tmp_path / "u.nc", engine="scipy") as read:
        xarray.testing.assert_identical(read.load(), field)


def test_constants_and_single_points_are_arrays_like_others():
    pytest.importorskip("xarray")
    u = sn.project(sn.product() * 2.0, SPACES["line"])
    assert u.to_xarray(x=0.3).shape == ()
    assert float(u.to_xarray(x=0.3)) == pytest.approx(2.0, abs=1e-14)
    one = u.to_xarray(x=1)
    assert (one.dims, one.shape, float(one.x[0])) == (("x",), (1,), 0.5)
    assert u.to_xarray(x=[]).shape == (0,)


def test_labelled_arrays_refuse_what_they_cannot_label():
    pytest.importorskip("xarray")
    u = random_cp(SPACES["splines"], 2)
    cases = [
        (ValueError, "to_xarray names the axis 'q', expected one of x, y, t", {"x": 3, "y": 3, "t": 3, "q": 3}),
        (ValueError, "axis 't': give t a number, t=1.5, or points along it, t=64", {"x": 3, "y": 3}),
        (ValueError, r"position on axis 't' is 9.0, expected a number in the domain", {"x": 3, "y": 3, "t": 9.0}),
        (ValueError, "`units` names 'q', expected one of x, y, t, u", {"x": 3, "y": 3, "t": 3, "units": {"q": "m"}}),
        (TypeError, "unit of 'x' is 3, expected a str", {"x": 3, "y": 3, "t": 3, "units": {"x": 3}}),
        (TypeError, "`units` is 'm', expected a mapping", {"x": 3, "y": 3, "t": 3, "units": "m"}),
        (ValueError, "`name` is 'x', which is an axis", {"x": 3, "y": 3, "t": 3, "name": "x"}),
        (TypeError, "`name` is None", {"x": 3, "y": 3, "t": 3, "name": None}),
        (TypeError, "got the bool True", {"x": 3, "y": 3, "t": True}),
        (TypeError, "got the str 'all'", {"x": 3, "y": 3, "t": "all"}),
    ]
    for error, message, where in cases:
        with pytest.raises(error, match=message):
            u.to_xarray(**where)
    named = random_cp(sn.TensorSpace(name=sn.BSpline((0, 1), cells=2)), 1)
    with pytest.raises(ValueError, match="the axis 'name' has the name of an argument"):
        named.to_xarray(name=0.5)


def test_missing_libraries_are_named_with_the_next_step(monkeypatch, tmp_path):
    u = random_cp(SPACES["line"], 1)
    for library in ("xarray", "meshio"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r"needs xarray, which is not installed: pip install 'sepnet\[io\]'"):
        u.to_xarray(x=3)
    with pytest.raises(ImportError, match=r"needs meshio, which is not installed: pip install 'sepnet\[io\]'"):
        write_vtk(tmp_path / "u.vtu", u, x=3)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------------- VTK


def test_axes_lie_along_the_directions_of_their_names():
    assert directions(["y", "x"], ["z"]) == {"x": 0, "y": 1, "z": 2}
    assert directions(["r", "theta", "h"], ["t"]) == {"r": 0, "theta": 1, "h": 2}
    assert directions(["kappa", "y"], ["x", "t"]) == {"x": 0, "y": 1, "kappa": 2}
    assert directions(["a", "b", "c"], ["x", "z"]) == {"a": 1, "b": 0, "c": 2}
    assert directions([], []) == {}


def cell_sizes(mesh):
    """The product of the edges at each cell's first corner, with its sign: the cells are boxes."""
    (block,) = mesh.cells
    corners = mesh.points[block.data]
    edges = {"line": [1], "quad": [1, 3], "hexahedron": [1, 3, 4]}[block.type]
    along = np.stack([corners[:, k] - corners[:, 0] for k in edges], axis=1)
    if len(edges) == 3:
        return np.linalg.det(along)
    return np.prod(np.linalg.norm(along, axis=2), axis=1)


@given(data=st.data(), form=st.sampled_from(list(FORMATS)))
def test_meshes_hold_values_and_gradients_at_their_points(data, form, tmp_path_factory):
    meshio = pytest.importorskip("meshio")
    u = FORMATS[form](random_cp(BOX, 3, data.draw(st.integers(0, 9))))
    names = data.draw(st.permutations(BOX.names))
    where = {n: data.draw(places(BOX.axes[n].domain, least=1)) for n in names}
    where = {n: np.sort(p) if isinstance(p, np.ndarray) else p for n, p in where.items()}
    count = {n: p if isinstance(p, int) else np.size(p) for n, p in where.items()}
    fixed = [n for n in names if count[n] == 1 or isinstance(where[n], float)]
    varying = [n for n in names if n not in fixed]
    path = tmp_path_factory.mktemp("vtk") / "u.vtu"
    if len(varying) > 3:
        with pytest.raises(ValueError, match=f"give {varying[-1]} a number"):
            write_vtk(path, u, **where)
        return
    write_vtk(path, u, gradient=True, **where)
    mesh = meshio.read(path)
    lies = directions(varying, fixed)
    positions = u.grid(**{n: p if not isinstance(p, float) else [p] for n, p in where.items()})
    coordinates = {n: mesh.points[:, lies[n]] if n in lies else positions[n][0] for n in names}
    assert len(mesh.points) == np.prod([count[n] for n in varying])
    for n in lies:
        np.testing.assert_array_equal(np.unique(coordinates[n]), positions[n])
    close(
        mesh.point_data["u"],
        pointwise(u, {n: np.broadcast_to(c, len(mesh.points)) for n, c in coordinates.items()}),
        np.finfo(float).eps,
    )
    exact = u.gradient(np.stack([np.broadcast_to(coordinates[n], len(mesh.points)) for n in BOX.names], axis=1))
    for k in range(3):
        axis = next((n for n, direction in lies.items() if direction == k), None)
        expected = 0.0 if axis is None else exact[:, BOX.names.index(axis)]
        close(mesh.point_data["u_gradient"][:, k], expected, np.finfo(float).eps)
    if varying:
        sizes = cell_sizes(mesh)
        assert sizes.min() > 0  # no cell is inside out, and together they fill the box
        assert sizes.sum() == pytest.approx(np.prod([np.ptp(positions[n]) for n in varying]), rel=1e-12)
    else:
        assert (mesh.cells[0].type, len(mesh.points)) == ("vertex", 1)


def test_functions_of_every_library_are_written_in_their_dtype(xp, tmp_path):
    meshio = pytest.importorskip("meshio")
    u = random_cp(BOX, 3, 0, xp)
    write_vtk(tmp_path / "u.vtu", u, x=xp.asarray([0.0, 3.0]), y=3, z=0.5, t=1.0, gradient=True)
    data = meshio.read(tmp_path / "u.vtu").point_data
    assert data["u"].dtype == data["u_gradient"].dtype == xp.host_dtype
    expected = u.to(np, dtype="float64").restrict(z=0.5, t=1.0).on_grid(x=2, y=3).T
    close(data["u"], expected.ravel(), xp.eps)


def test_several_functions_share_a_file_and_need_not_depend_on_all_axes(tmp_path):
    meshio = pytest.importorskip("meshio")
    T = random_cp(BOX, 3)
    start, profile = T.restrict(t=0.0), random_cp(sn.TensorSpace(x=BOX.axes["x"]), 2, 7)
    write_vtk(tmp_path / "u.vtu", {"T": T, "start": start, "profile": profile}, y=2, x=4, z=3, t=2.0)
    mesh = meshio.read(tmp_path / "u.vtu")
    x, y, z = mesh.points.T
    close(mesh.point_data["T"], pointwise(T, {"x": x, "y": y, "z": z, "t": 2.0}), np.finfo(float).eps)
    close(mesh.point_data["start"], pointwise(T, {"x": x, "y": y, "z": z, "t": 0.0}), np.finfo(float).eps)
    close(mesh.point_data["profile"], profile(x[:, None]), np.finfo(float).eps)


def test_a_series_is_a_collection_of_files_with_their_times(tmp_path):
    meshio = pytest.importorskip("meshio")
    u = random_cp(BOX, 3)
    times = [0.0, 0.1, 2.0]
    for name, over, position in (("series.pvd", "t", {"t": times, "z": 0.5}), ("z.pvd", "z", {"z": 3, "t": 1.0})):
        write_vtk(tmp_path / name, u, x=3, y=2, over=over, **position)
        sets = ElementTree.parse(tmp_path / name).getroot().findall("Collection/DataSet")
        steps = times if over == "t" else [0.0, 0.5, 1.0]
        assert [float(entry.get("timestep")) for entry in sets] == steps
        for entry, step in zip(sets, steps, strict=True):
            write_vtk(tmp_path / "one.vtu", u, x=3, y=2, **{**position, over: step})
            read, one = meshio.read(tmp_path / entry.get("file")), meshio.read(tmp_path / "one.vtu")
            np.testing.assert_array_equal(read.points, one.points)
            np.testing.assert_array_equal(read.point_data["u"], one.point_data["u"])
    assert sorted(p.name for p in (tmp_path / "series").iterdir()) == [f"series_000{k}.vtu" for k in range(3)]
    write_vtk(tmp_path / "one.pvd", u, x=3, y=2, z=0.5, t=[1.0])
    assert len(list((tmp_path / "one").iterdir())) == 1


def test_names_are_written_whatever_they_are(tmp_path):
    meshio = pytest.importorskip("meshio")
    u = random_cp(BOX, 2)
    write_vtk(tmp_path / "u.vtu", {'a <b> & "c"': u}, x=3, y=2, z=0.5, t=1.0)
    assert list(meshio.read(tmp_path / "u.vtu").point_data) == ['a <b> & "c"']
    with pytest.raises(ValueError, match="'u_gradient' is a function and the gradient of another one"):
        write_vtk(tmp_path / "v.vtu", {"u": u, "u_gradient": u}, x=3, y=2, z=0.5, t=1.0, gradient=True)
    with pytest.raises(TypeError, match=r"'u' is Mapped, .* write its `.u`"):
        write_vtk(tmp_path / "v.vtu", sn.affine(BOX, ["a", "b", "c", "e"], np.eye(4))(u), x=3)
    assert [path.name for path in tmp_path.iterdir()] == ["u.vtu"]


def test_files_are_not_begun_when_something_is_wrong(tmp_path):
    pytest.importorskip("meshio")
    u = random_cp(BOX, 2)
    there = {"x": 3, "y": 3, "z": 3}
    cases = [
        ("u.vtk", {**there, "t": 1.0}, ValueError, "ends in .vtu, or in .pvd"),
        ("u.vtu", there, ValueError, "axis 't': give t a number, t=1.0, or points"),
        ("u.vtu", {**there, "t": 3}, ValueError, "axes x, y, z, t vary, expected at most 3: give t a number"),
        ("u.vtu", {**there, "t": 9.0}, ValueError, "position on axis 't' is 9.0"),
        ("u.vtu", {**there, "t": 1.0, "q": 1.0}, ValueError, "names the axis 'q'"),
        ("u.vtu", {**there, "x": [1.0, 0.0], "t": 1.0}, ValueError, "points of axis 'x' do not rise"),
        ("u.vtu", {**there, "x": [0.0, np.nan], "t": 1.0}, ValueError, "points of axis 'x' do not rise"),
        ("u.vtu", {**there, "x": [], "t": 1.0}, ValueError, "points of axis 'x' do not rise, or there is none"),
        ("u.pvd", {**there, "t": [0.0, 3.0]}, ValueError, "position on axis 't' is 3.0"),
        ("u.pvd", {**there, "t": 1.0}, ValueError, "`over` is 't', which is fixed"),
        ("u.pvd", {**there, "t": 3, "over": "q"}, ValueError, "`over` is 'q', which is none of the axes z, y, t, x"),
        ("no/u.vtu", {**there, "t": 1.0}, FileNotFoundError, "does not exist: create it first"),
        ("no/u.pvd", {**there, "t": 2}, FileNotFoundError, "does not exist: create it first"),
    ]
    for name, where, error, message in cases:
        with pytest.raises(error, match=message):
            write_vtk(tmp_path / name, u, **where)
    other = random_cp(sn.TensorSpace(x=sn.BSpline((0, 1), cells=2)), 1)
    for functions, error, message in (
        ({}, ValueError, "`u` is empty"),
        ({"u": 3}, TypeError, "'u' is int, expected a name and a function"),
        ({"": u}, TypeError, "expected a name and a function"),
        (3, TypeError, "'u' is int, expected a name and a function"),
        ({"u": u, "v": other}, ValueError, r"'v' has the domain \(0.0, 1.0\) on axis 'x', another function"),
    ):
        with pytest.raises(error, match=message):
            write_vtk(tmp_path / "u.vtu", functions, **there, t=1.0)
    named = random_cp(sn.TensorSpace(over=sn.BSpline((0, 1), cells=2)), 1)
    with pytest.raises(ValueError, match="the axis 'over' has the name of an argument"):
        write_vtk(tmp_path / "u.vtu", named, over=3)
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------------------------------------- meshes


def _fields():
    """Meshes and elements of every kind, with a function that the element holds and its gradient."""
    skfem = pytest.importorskip("skfem")

    def bilinear(x):
        return 1 + x[0] + 2 * x[1] + x[0] * x[1]

    def slopes(x):
        return np.stack([1 + x[1], 2 + x[0]])

    yield "P1", skfem.MeshTri.init_lshaped(), skfem.ElementTriP1(), lambda x: 1 + x[0] - x[1], lambda x: [1, -1]
    yield "P2", skfem.MeshTri().refined(1), skfem.ElementTriP2(), bilinear, slopes
    yield "curved", skfem.MeshTri2.init_circle(1), skfem.ElementTriP1(), lambda x: 3 + 0 * x[0], lambda x: [0, 0]
    yield "Q1", skfem.MeshQuad().refined(1), skfem.ElementQuad1(), bilinear, slopes
    yield "hexahedra", skfem.MeshHex().refined(1), skfem.ElementHex1(), lambda x: x[0] - 3 * x[2], lambda x: [1, 0, -3]
    yield "tetrahedra", skfem.MeshTet(), skfem.ElementTetP1(), lambda x: 2 * x[1], lambda x: [0, 2, 0]
    yield "line", skfem.MeshLine().refined(2), skfem.ElementLineP2(), lambda x: x[0] ** 2, lambda x: [2 * x[0]]
    yield "broken", skfem.MeshTri(), skfem.ElementTriDG(skfem.ElementTriP1()), lambda x: x[1], lambda x: [0, 1]


def test_a_mesh_is_written_with_its_cells_and_nodal_values(tmp_path):
    meshio, skfem = pytest.importorskip("meshio"), pytest.importorskip("skfem")
    for name, mesh, element, field, slope in _fields():
        axis = Mesh(skfem.Basis(mesh, element))
        V = sn.TensorSpace(s=axis, t=sn.BSpline((0, 2), cells=2))
        u = sn.CP(V, [axis.project(field)[:, None], V.axes["t"].interpolate(V.axes["t"].nodes)[:, None]])  # field * t
        write_vtk(tmp_path / "u.vtu", {"u": u, "clock": u.restrict(s=0.0)}, t=2.0, gradient=True)
        read = meshio.read(tmp_path / "u.vtu")
        places = np.pad(mesh.p, ((0, 3 - mesh.dim()), (0, 0)))
        np.testing.assert_array_equal(read.points.T, places)
        (block,) = read.cells
        assert [set(cell) for cell in block.data] == [set(cell) for cell in mesh.dofs.element_dofs.T], name
        # 1e-12: the projection solves with a mass matrix whose condition is below 1e3.
        np.testing.assert_allclose(read.point_data["u"], 2 * field(mesh.p), atol=1e-12, err_msg=name)
        expected = np.zeros_like(places)
        expected[: mesh.dim()] = np.stack(np.broadcast_arrays(*slope(mesh.p), mesh.p[0])[:-1])
        np.testing.assert_allclose(read.point_data["u_gradient"].T, 2 * expected, atol=1e-11, err_msg=name)
        assert np.ptp(read.point_data["clock"]) == 0


def test_dirichlet_values_and_vectors_are_written_too(tmp_path):
    meshio, skfem = pytest.importorskip("meshio"), pytest.importorskip("skfem")
    grid = skfem.MeshTri().refined(1).with_boundaries({"left": lambda x: x[0] == 0})
    plain = skfem.Basis(grid, skfem.ElementTriP1())
    axis = Mesh(plain, dirichlet="left", values=5 - plain.doflocs[0])
    u = sn.CP(sn.TensorSpace(s=axis), [axis.points[:, :1]])  # x where it is free, 5 at the left
    write_vtk(tmp_path / "u.vtu", u)
    read = meshio.read(tmp_path / "u.vtu")
    np.testing.assert_allclose(read.point_data["u"], np.where(grid.p[0] == 0, 5, grid.p[0]), atol=1e-14)
    elastic = Mesh(skfem.Basis(grid, skfem.ElementVector(skfem.ElementTriP2())))
    moved = elastic.project(lambda x: np.stack([x[0] * x[1], 2 * x[0]]))
    write_vtk(tmp_path / "v.vtu", sn.CP(sn.TensorSpace(s=elastic), [moved[:, None]]), gradient=True)
    data, (x, y) = meshio.read(tmp_path / "v.vtu").point_data, grid.p
    np.testing.assert_allclose(data["u"].T, [x * y, 2 * x, 0 * x], atol=1e-12)
    zero, one = 0 * x, 1 + 0 * x
    np.testing.assert_allclose(data["u_gradient"].T, [y, x, zero, 2 * one, *[zero] * 5], atol=1e-11)


def test_a_mesh_without_cells_is_written_as_points_and_a_series_has_their_times(tmp_path, xp):
    meshio = pytest.importorskip("meshio")
    places = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 1.0]])
    V = sn.TensorSpace(t=sn.BSpline((0, 2), cells=2), s=MatrixAxis(3, mass=np.eye(3), points=places))
    u = random_cp(V, 2, 0, xp)
    write_vtk(tmp_path / "u.pvd", u, t=[0.5, 2.0])
    for k, t in enumerate((0.5, 2.0)):
        read = meshio.read(tmp_path / f"u/u_000{k}.vtu")
        np.testing.assert_array_equal(read.points, np.pad(places, ((0, 0), (0, 1))))
        assert read.cells[0].type == "vertex"
        close(read.point_data["u"], u.restrict(t=t).to(np).full(), xp.eps)
    write_vtk(tmp_path / "one.vtu", u, t=3, s=1.0)  # along t at one degree of freedom
    line = meshio.read(tmp_path / "one.vtu")
    close(line.point_data["u"], u.to(np).restrict(s=1.0).on_grid(t=3), xp.eps)


def test_meshes_that_cannot_be_written_are_refused(tmp_path):
    pytest.importorskip("meshio")
    axis = MatrixAxis(2, mass=np.eye(2), points=np.zeros((2, 2)))
    bare = MatrixAxis(2, mass=np.eye(2))
    many = MatrixAxis(2, mass=np.eye(2), points=np.zeros((2, 4)))
    line = sn.BSpline((0, 1), cells=2)
    u = random_cp(sn.TensorSpace(s=axis, t=line, k=line), 1)
    for functions, where, message in (
        (u, {"t": 0.5, "k": 3}, "axes k vary, expected none beside a mesh: give k a number"),
        (u, {"t": 0.5}, "axis 'k': give k a number"),
        (u, {"t": 0.5, "k": 0.5, "gradient": True}, "without cells there are no gradients"),
        (random_cp(sn.TensorSpace(s=bare), 1), {}, "axis 's' has no points, expected those of its degrees of freedom"),
        (random_cp(sn.TensorSpace(s=many), 1), {}, "has points in 4 dimensions"),
        (random_cp(sn.TensorSpace(a=axis, b=axis), 1), {}, "axes a, b are meshes, expected one: fix the others, b=0.0"),
        ({"u": u, "v": random_cp(sn.TensorSpace(s=bare), 1)}, {"t": 0.5, "k": 0.5}, "'v' has another mesh on axis 's'"),
    ):
        with pytest.raises(ValueError, match=message):
            write_vtk(tmp_path / "u.vtu", functions, **where)
    assert list(tmp_path.iterdir()) == []
