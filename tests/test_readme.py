"""The README's listing is run as it stands, in one namespace, from top to bottom."""

import pathlib
import re

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TEST_FILE = re.compile(r"\btest_\w+\.py\b")
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path):
    return BLOCK.findall((ROOT / path).read_text())


LISTINGS = (
    "backends",
    "mathematics",
    "coming-from",
    "explain",
    "estimators",
    "separate",
    "maps",
    "nonlinear",
    "mesh",
    "conditions",
    "output",
)


@pytest.mark.parametrize(
    "path", [*(f"docs/{name}.md" for name in LISTINGS), pytest.param("docs/laser.md", marks=pytest.mark.slow)]
)
def test_listing_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = blocks(path)
    assert code, f"{path} has no python blocks"
    scope = {}
    for block in code:
        exec(compile(block, path, "exec"), scope)


def test_readme_listing(tmp_path, monkeypatch):
    """The README's listing runs, and its problems are solved."""
    monkeypatch.chdir(tmp_path)
    scope = {}
    for block in blocks("README.md"):
        exec(compile(block, "README.md", "exec"), scope)
    assert scope["solution"].residual < 0.02  # rank 32 reaches 0.011
    assert scope["field"].shape == (64, 64, 64, 3)
    # u = x satisfies the heat equation, its initial and boundary values and u_x + 3 u = 4: w = x throughout.
    x = np.linspace(0, 1, 9)
    assert np.abs(scope["w"].on_grid(x=x, t=[0.5])[:, 0] - x).max() < 1e-6


@pytest.mark.parametrize("path", PAGES)
def test_links_lead_somewhere(path):
    """Every relative link, images too, leads to a file."""
    links = LINK.findall((ROOT / path).read_text())
    assert links or path != "README.md"
    for link in links:
        target = link.partition("#")[0]
        if target and "://" not in target and not target.startswith("mailto:"):
            assert (ROOT / path).parent.joinpath(target).is_file(), f"{path} links to {link}"


@pytest.mark.parametrize("path", PAGES)
def test_the_test_files_named_exist(path):
    """Every test file that a page names is there."""
    named = TEST_FILE.findall((ROOT / path).read_text())
    assert named or path != "README.md"
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []
