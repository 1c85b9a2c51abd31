"""The small form of strangers' hour: a few disturbances, on the checkout, where nothing needs to be mounted."""

from __future__ import annotations

import pathlib
import sys

import pytest

from tests.system.strangers_hour import run

pytestmark = pytest.mark.system


@pytest.mark.timeout(300)
def test_nothing_is_lost_among_strangers(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """K5, K9, K10, K11: killed, its child killed, its logs moved, a damaged copy saved: all of 250 arrives, once."""
    command = str(pathlib.Path(sys.executable).with_name("mailrace"))
    found = run(tmp_path, [command], "embedded", 0, 1, ("kill -9", "child", "moved", "damaged"))
    assert found == []
    assert "| **lost** | **0** |" in capsys.readouterr().out
