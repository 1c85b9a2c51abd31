"""Odd AMQP deliveries from a seed, a few of them. Full size: `python -m tests.system.fuzz --only amqp`."""

from __future__ import annotations

import pathlib

import pytest

from tests.support.broker import MISSING, installed
from tests.system.fuzz_amqp import run

pytestmark = [pytest.mark.system, pytest.mark.skipif(not installed(), reason=MISSING), pytest.mark.timeout(300)]


def test_every_odd_delivery_is_accounted_for(tmp_path: pathlib.Path) -> None:
    """K9: it has a result, is refused, or waits; good mail among them is delivered, and nothing is a traceback."""
    tally = run(tmp_path, count=150, seed=7)
    assert tally.taken > 100
    assert sum(tally.found.values()) == tally.taken
    assert tally.delivered == tally.good
    assert (tally.tracebacks, tally.ready) == (0, "ok")
