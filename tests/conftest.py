"""What holds for all tests: Hypothesis draws the same examples each run, and its clock fails none of them; a test
that needs a broker or a database server is one of the system.

`HYPOTHESIS_PROFILE=search pytest ...` draws others, many more.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

SERVERS = {"node", "rabbitmq", "postgres", "mariadb"}  # fixtures, and parameters of fixtures, that start one


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark them, before tests are chosen by their marks."""
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if SERVERS.intersection([*item.fixturenames, *(value for value in parameters if isinstance(value, str))]):
            item.add_marker("system")
