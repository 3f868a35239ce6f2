"""Packages, public names and imports: what breaks here breaks the wheel or the import, silently."""

import ast
import importlib
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = {"sepnet": "sepnet", "backends": "sepnet.backends", "solvers": "sepnet.solvers"}
HEAVY = ("torch", "cupy", "matplotlib", "numba")


def _sources() -> dict[str, pathlib.Path]:
    """Every module's dotted name and its file, from the folders themselves and not through the symlinks."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if folder == "sepnet" and parts[0] in FOLDERS:
                continue  # Python >= 3.13 follows the symlinks here
            found[".".join((package, *(p for p in parts if p != "__init__")))] = path
    return found


SOURCES = _sources()


def _run(code: str, cwd: pathlib.Path) -> str:
    """Run `code` in a fresh interpreter outside the checkout that finds this `sepnet` and nothing else of ours."""
    env = os.environ | {"PYTHONPATH": "" if _installed() else str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _installed() -> str | None:
    """The version of the installed distribution; a stale egg-info folder in the checkout is no installation."""
    for found in importlib.metadata.distributions(name="sepnet"):
        if pathlib.Path(str(found.locate_file(""))).resolve() != ROOT:
            return found.version
    return None


def _bound(body: list[ast.stmt], *, imports: bool) -> set[str]:
    """The public functions and classes at top level; names imported from sepnet only where `imports` says so."""
    names: set[str] = set()
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.ImportFrom(module=str(module), names=aliases) if imports and module.split(".")[0] == "sepnet":
                names |= {alias.asname or alias.name for alias in aliases}
    return {name for name in names if not name.startswith("_")}


def test_package_list_is_complete():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {name for name, path in SOURCES.items() if path.name == "__init__.py"}
    assert set(config["packages"]) == folders


def test_every_folder_with_sources_is_a_package():
    for path in SOURCES.values():
        assert (path.parent / "__init__.py").exists(), f"{path.parent} has no __init__.py: it would not be installed"


def test_symlinks_lead_to_the_top_level_folders():
    for folder in ("backends", "solvers"):
        assert (ROOT / "sepnet" / folder).resolve() == ROOT / folder


def test_version_is_the_packages():
    import sepnet
    from sepnet.version import __version__

    assert sepnet.__version__ == __version__
    assert _installed() in {None, __version__}


def test_import_is_light_and_every_module_is_loaded_once(tmp_path):
    """One interpreter for what starts with a fresh one: after the import, and after that of every module."""
    names = [name for name in SOURCES if not name.endswith("__main__") and not name.startswith("sepnet.nn")]
    code = f"""
import importlib, json, sys
from importlib.util import find_spec
import sepnet
heavy = [name for name in {HEAVY!r} if name in sys.modules]
for name in {names!r}: importlib.import_module(name)
twice = sorted({{'backends', 'solvers'}} & set(sys.modules))
print(json.dumps([heavy, twice, [name for name in ('backends', 'solvers') if find_spec(name)]]))
"""
    heavy, twice, top = json.loads(_run(code, tmp_path))
    assert heavy == []
    assert twice == []
    # the checkout itself on the path has its folders there
    assert top == ([] if _installed() else ["backends", "solvers"])


@pytest.mark.parametrize("name", SOURCES)
def test_imports_are_absolute(name):
    for node in ast.walk(ast.parse(SOURCES[name].read_text())):
        match node:
            case ast.ImportFrom(level=level, module=module, lineno=line):
                assert level == 0, f"{name}:{line}: relative import"
                modules = [module]
            case ast.Import(names=aliases, lineno=line):
                modules = [alias.name for alias in aliases]
            case _:
                continue
        for module in modules:
            assert module.split(".")[0] not in {"backends", "solvers"}, f"{name}:{line}: import it as sepnet.{module}"


@pytest.mark.parametrize("name", SOURCES)
def test_all_lists_what_is_public(name):
    path = SOURCES[name]
    body = ast.parse(path.read_text()).body
    package = path.name == "__init__.py"
    public = _bound(body, imports=package)
    module = importlib.import_module(name)
    if not hasattr(module, "__all__"):
        assert not (package and public), f"{name} defines or re-exports {sorted(public)} and has no __all__"
        return
    assert len(set(module.__all__)) == len(module.__all__)
    assert [entry for entry in module.__all__ if not hasattr(module, entry)] == []
    assert public - set(module.__all__) == set()
