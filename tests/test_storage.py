"""Functions in files: complete or not at all, and never read wrongly."""

import h5py
import numpy as np
import pytest
from basis_examples import BASES
from function_support import SPACES, random_cp
from hypothesis import given
from hypothesis import strategies as st

import sepnet as sn
from sepnet.backends.arrays import as_namespace, device_of, to_host
from sepnet.functions import storage

EVERY = [*BASES, sn.BSpline((0, 1), cells=3, degree=12).product_basis(sn.BSpline((0, 1), cells=2, degree=9))]


def same(a, b):
    return a.space == b.space and all(
        x.dtype == y.dtype and np.array_equal(x, y)
        for x, y in zip(map(to_host, a.factors), map(to_host, b.factors), strict=True)
    )


@pytest.mark.parametrize("basis", EVERY, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip_of_every_basis(tmp_path, basis, dtype):
    u = random_cp(sn.TensorSpace(q=basis), 2).to(dtype=dtype)
    u.save(tmp_path / "u.h5")
    v = sn.load(tmp_path / "u.h5")
    assert same(u, v)
    assert v.space.axes["q"] == basis
    assert [p.name for p in tmp_path.iterdir()] == ["u.h5"]


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("rank", [0, 1, 3])
def test_round_trip_in_every_namespace(tmp_path_factory, xp, name, rank):
    path = str(tmp_path_factory.mktemp("store") / "u.h5")
    u = random_cp(SPACES[name], rank, backend=xp)
    u.save(path, notes={"made by": "a test", "größe": "ε < 1"})
    v = sn.load(path, xp=xp.xp, device=xp.device)
    assert v.xp is as_namespace(xp.xp)
    assert str(device_of(v.factors[0])) == str(u.device)
    assert same(u, v)
    assert sn.load(path).xp is as_namespace(np)
    assert sn.load(path, dtype="float32").dtype == np.float32
    assert storage.read(path).notes == {"made by": "a test", "größe": "ε < 1"}


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "u.h5"
    random_cp(SPACES["splines"], 2).save(path, notes={"a": "b"})
    return path.read_bytes()


def test_truncated_files(tmp_path, content):
    path = tmp_path / "u.h5"
    lengths = sorted({0, 1, 7, 8, 100, *range(50, len(content), len(content) // 40), len(content) - 1})
    for length in lengths:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"u\.h5"):
            sn.load(path)


@given(st.data())
def test_flipped_bytes(tmp_path_factory, content, data):
    """A damaged file is refused, or the damage was in bytes that mean nothing and the function is the same."""
    path = tmp_path_factory.getbasetemp() / "flipped.h5"
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    refused = ""
    try:
        v = sn.load(path)
    except ValueError as error:
        refused = str(error)
    assert "flipped.h5" in refused or same(v, random_cp(SPACES["splines"], 2))


def test_every_single_number_is_under_the_checksum(tmp_path, content):
    path = tmp_path / "u.h5"

    def damage(change):
        path.write_bytes(content)
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(ValueError, match=r"u\.h5.*(checksum|damaged)"):
            sn.load(path)

    def number(file):
        values = file["axes/1/factor"][...]
        values[0, 0] = np.nextafter(values[0, 0], 9)
        file["axes/1/factor"][...] = values

    def basis(file):
        file["axes/0"].attrs["basis"] = file["axes/0"].attrs["basis"].decode().replace("2.0", "3.0")

    def order(file):
        file.move("axes/0", "axes/9")
        file.move("axes/1", "axes/0")
        file.move("axes/9", "axes/1")

    damage(number)
    damage(basis)
    damage(order)
    damage(lambda f: f["axes/0"].attrs.__setitem__("name", "z"))
    damage(lambda f: f.attrs.__setitem__("note:a", "c"))
    damage(lambda f: f.attrs.__delitem__("checksum"))
    damage(lambda f: f.__delitem__("axes"))
    damage(lambda f: f.__delitem__("axes/2/factor"))
    damage(lambda f: f["axes/0"].attrs.__setitem__("basis", '{"class": "Mystery"}'))


def test_foreign_and_newer_files(tmp_path, content):
    path = tmp_path / "u.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.ones(3)
    with pytest.raises(ValueError, match="not one written by sepnet"):
        sn.load(path)
    path.write_text("x, y\n1, 2\n")
    with pytest.raises(ValueError, match="no readable sepnet file"):
        sn.load(path)
    for key, value, text in [("version", 99, "version 99, .* update sepnet"), ("kind", "Mystery", "Mystery|checksum")]:
        path.write_bytes(content)
        with h5py.File(path, "r+") as file:
            file.attrs[key] = value
        with pytest.raises(ValueError, match=text):
            sn.load(path)


def test_another_kind_of_function(tmp_path):
    u = random_cp(SPACES["line"], 1)
    storage.write(tmp_path / "u.h5", storage.Stored("Mystery", u.space, u.factors, {}))
    with pytest.raises(
        ValueError, match="holds a Mystery, expected one of CP, TensorTrain, Tucker, SNA: update sepnet"
    ):
        sn.load(tmp_path / "u.h5")


def test_missing_places(tmp_path):
    u = random_cp(SPACES["line"], 1)
    with pytest.raises(FileNotFoundError, match=r"folder '.*nowhere' does not exist: create it first"):
        u.save(tmp_path / "nowhere" / "u.h5")
    with pytest.raises(FileNotFoundError, match="no such file"):
        sn.load(tmp_path / "u.h5")
    with pytest.raises(IsADirectoryError, match="a folder, expected a file written by"):
        sn.load(tmp_path)
    with pytest.raises(IsADirectoryError, match="a folder, expected a file: add a name"):
        u.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["_fill", "replace"])
def test_a_failure_while_writing_leaves_the_old_file(tmp_path, monkeypatch, stage):
    path = tmp_path / "u.h5"
    u = random_cp(SPACES["splines"], 2)
    u.save(path)
    before = path.read_bytes()
    if stage == "_fill":
        fill = storage._fill

        def full_disk(file, stored):
            fill(file, stored)
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(storage, "_fill", full_disk)
    else:

        def interrupted(self, target):
            raise KeyboardInterrupt

        monkeypatch.setattr(storage.Path, "replace", interrupted)
    with pytest.raises((OSError, KeyboardInterrupt)):
        random_cp(SPACES["line"], 1).save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["u.h5"]
    assert same(sn.load(path), u)


@pytest.mark.parametrize(
    ("notes", "error", "text"),
    [
        ({"a": 3}, TypeError, "`notes`: the text of 'a' is 3, expected a str"),
        ({3: "x"}, TypeError, "`notes`: the key is 3"),
        ({"a": True}, TypeError, "is True"),
        ({"a": None}, TypeError, "is None"),
        ({"a": b"x"}, TypeError, "is b'x'"),
        ({"a": "x\0y"}, ValueError, "the text of 'a' holds a NUL"),
        ({"x\0": "y"}, ValueError, "the key holds a NUL"),
        ({"a": "\ud800"}, ValueError, "cannot be written as UTF-8"),
        ({"": "x"}, ValueError, "a key has 0 bytes"),
        ({"a" * 201: "x"}, ValueError, "a key has 201 bytes"),
        ({"a": "x" * 70_000}, ValueError, "has 70000 bytes, expected at most"),
        ([1], TypeError, "`notes` is list, expected a mapping"),
    ],
)
def test_notes_that_cannot_be_stored(tmp_path, notes, error, text):
    with pytest.raises(error, match=text):
        random_cp(SPACES["line"], 1).save(tmp_path / "u.h5", notes=notes)
    assert list(tmp_path.iterdir()) == []


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        max_size=4,
    )
)
def test_every_text_comes_back(tmp_path_factory, notes):
    path = tmp_path_factory.getbasetemp() / "notes.h5"
    random_cp(SPACES["line"], 1).save(path, notes=notes)
    assert storage.read(path).notes == notes


@pytest.mark.parametrize(
    ("path", "error"), [(None, TypeError), (3, TypeError), (b"x", TypeError), ("", ValueError), ("a\0", ValueError)]
)
def test_bad_paths(path, error):
    with pytest.raises(error, match="`path` is"):
        random_cp(SPACES["line"], 1).save(path)
    with pytest.raises(error, match="`path` is"):
        sn.load(path)


def test_refusals_are_plain_value_errors(tmp_path, content):
    path = tmp_path / "u.h5"
    path.write_bytes(content)
    with h5py.File(path, "r+") as file:
        file.attrs["note:a"] = "c"
    with pytest.raises(ValueError, match="checksum") as caught:
        sn.load(path)
    assert caught.type is ValueError


def test_numbers_of_other_machines_and_kinds(tmp_path):
    u = random_cp(SPACES["line"], 2)
    path = tmp_path / "u.h5"
    storage.write(path, storage.Stored("CP", u.space, tuple(f.astype(">f8") for f in u.factors), {}))
    assert same(sn.load(path), u)
    storage.write(path, storage.Stored("CP", u.space, tuple(f.astype("f2") for f in u.factors), {}))
    with pytest.raises(ValueError, match="float16 numbers, expected float32 or float64"):
        sn.load(path)


def test_links_long_names_and_the_umask(tmp_path, monkeypatch):
    u = random_cp(SPACES["line"], 1)
    (tmp_path / "deep").mkdir()
    link = tmp_path / "link.h5"
    link.symlink_to(tmp_path / "deep" / "u.h5")

    def refuse(mask):
        raise AssertionError(mask)

    monkeypatch.setattr(storage.os, "umask", refuse)  # it is one for all threads
    u.save(link)
    assert link.is_symlink()
    assert same(sn.load(tmp_path / "deep" / "u.h5"), u)
    long = tmp_path / ("x" * 250 + ".h5")
    u.save(long)
    assert same(sn.load(long), u)
    long.chmod(0o640)
    u.save(long)
    assert long.stat().st_mode & 0o777 == 0o640


def test_saving_replaces_and_keeps_usual_permissions(tmp_path):
    path = tmp_path / "u.h5"
    random_cp(SPACES["splines"], 2).save(path)
    random_cp(SPACES["line"], 1).save(path)
    assert sn.load(path).space == SPACES["line"]
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode
