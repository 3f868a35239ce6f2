"""What the library asks of an array library exists in CuPy: names and keywords, read from the sources, with no device.

CuPy runs nothing without a device, but its functions can be looked at. The other libraries of the suite run the code.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("backends", "solvers", "sepnet")


def _calls() -> Iterator[tuple[str, ast.Call]]:
    """Every ``xp.name(...)`` and ``xp.linalg.name(...)`` of the library."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    name = ast.unparse(node.func)
                    if name.startswith("xp."):
                        yield name.removeprefix("xp."), node


def _find(namespace: Any, name: str) -> Any:
    for part in name.split("."):
        namespace = getattr(namespace, part, None)
    return namespace


def _missing(namespace: Any, calls: list[tuple[str, ast.Call]]) -> list[str]:
    wrong = []
    for name, call in calls:
        function = _find(namespace, name)
        if function is None:
            wrong.append(f"line {call.lineno}: {name}")
            continue
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):
            continue  # compiled: says nothing of its parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue
        wrong += [f"line {call.lineno}: {name}({k.arg}=)" for k in call.keywords if k.arg and k.arg not in parameters]
    return wrong


def test_cupy_has_every_function_and_keyword_that_is_asked_for() -> None:
    namespace = pytest.importorskip("array_api_compat.cupy")
    calls = list(_calls())
    assert len({name for name, _ in calls}) > 40  # the sources were found
    assert _missing(namespace, calls) == []


def test_a_missing_function_or_keyword_is_noticed() -> None:
    namespace = pytest.importorskip("array_api_compat.cupy")
    text = "xp.einsnum(a)\nxp.linalg.lstsk(a)\nxp.sum(a, axes=1)\nxp.sum(a, axis=1)"
    calls = [
        (ast.unparse(n.func).removeprefix("xp."), n)
        for n in ast.walk(ast.parse(text))
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)
    ]
    assert len(_missing(namespace, calls)) == 3
