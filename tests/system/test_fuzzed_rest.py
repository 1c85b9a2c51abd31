"""A small form of `fuzz_rest`, for each run of the tests."""

from __future__ import annotations

import pathlib

import pytest

from tests.support.program import Program
from tests.system.fuzz_rest import fuzz, grew, options

pytestmark = pytest.mark.system


def test_no_call_of_the_api_fails(tmp_path: pathlib.Path) -> None:
    """No 500, no answer that is no problem, no traceback, and no memory that is kept (S1, K15)."""
    with Program(tmp_path, **options()) as program:
        found, before, after = fuzz(program, 600, seed=7)
        assert not found.wrong
        assert "Traceback" not in program.output
        assert not grew(before, after)
        assert found.statuses[200] > 50
