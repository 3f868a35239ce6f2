"""The examples in the docstrings run, module by module under their installed names.

Not by `--doctest-modules`: on `backends/` that would load a second copy of every module as top-level `backends`.
"""

import doctest
import importlib
import pkgutil

import pytest

import sepnet

OPTIONAL = {"torch", "cupy", "matplotlib", "meshio", "skfem", "xarray"}
MODULES = ["sepnet", *(found.name for found in pkgutil.walk_packages(sepnet.__path__, "sepnet."))]


def test_walk_reaches_every_floor():
    assert {"sepnet.backends", "sepnet.bases", "sepnet.solvers", "sepnet.models"} <= set(MODULES)


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_docstring_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may save a file
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        pytest.skip(f"{error.name} is not installed")
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for example in doctest.DocTestFinder().find(module, name):
        runner.run(example, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)
