"""What holds for all tests: Hypothesis draws the same examples each run, and its clock fails none of them; a test
that needs a broker, a database server or a whole machine is one of the system.

`HYPOTHESIS_PROFILE=search pytest ...` draws others, many more; `quick` draws the first of the same, for `make check`.
"""

from __future__ import annotations

import atexit
import gc
import os
import pathlib

import pytest
from hypothesis import settings

settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("quick", deadline=None, derandomize=True, max_examples=30)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

gc.disable()  # until all tests are collected, see below

ROOT = pathlib.Path(__file__).parent
FIRST = {"system": 0, "gui": 1}  # folders

# Fixtures, and parameters of fixtures, that start one.
SERVERS = {"node", "limited", "rabbitmq", "postgres", "mariadb", "world"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark them, before tests are chosen by their marks; and put what takes long first, so that no worker is left alone
    with it in the end.
    """
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if SERVERS.intersection([*item.fixturenames, *(value for value in parameters if isinstance(value, str))]):
            item.add_marker("system")
    items.sort(key=lambda item: FIRST.get(item.path.relative_to(ROOT).parts[0], len(FIRST)))


def pytest_collection_finish() -> None:
    """What there is now stays until the end: the collector need not look through it, again and again, for a sixth of
    the time.
    """
    gc.freeze()
    atexit.register(gc.unfreeze)
    gc.enable()
