"""Odd configurations from a seed, some of them. Full size: `python -m tests.system.fuzz --only config`."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from tests.support.program import ROOT

pytestmark = pytest.mark.system


def test_every_configuration_is_accepted_or_refused_with_a_line_for_each_mistake(tmp_path: pathlib.Path) -> None:
    """K10, K12: no traceback, no secret. In a process of its own: it forks, and this one has threads."""
    command = [sys.executable, "-m", "tests.system.fuzz", "--only", "config", "--config", "100", "--seed", "7"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]
