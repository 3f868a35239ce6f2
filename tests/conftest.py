"""Fixtures and hypothesis profiles shared by all tests."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

# Before NumPy is loaded: the matrices here are small, and a pool of threads a library waits for itself longer than it
# works, see sepnet.backends.threads. Processes started by tests inherit it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# pytest's importlib mode leaves this folder off the path; the helpers beside the tests are plain modules
sys.path.insert(0, str(Path(__file__).parent))

from support import EXAMPLES, Backend, backends

for _name, _count in EXAMPLES.items():
    settings.register_profile(_name, max_examples=_count, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_finish() -> None:
    """Leave modules and collected tests to the end of the run: to visit them again and again is a tenth of its time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", params=backends())
def xp(request: pytest.FixtureRequest) -> Backend:
    """Each array library in turn; of session scope, as hypothesis asks for."""
    make: Callable[[], Backend] = request.param
    return make()
