"""Odd SMTP dialogues from a seed, a few of them. Full size: `python -m tests.system.fuzz --only smtp`."""

from __future__ import annotations

import pathlib

import pytest

from tests.system.fuzz_smtp import run
from tests.system.smtp_reading import meant

pytestmark = pytest.mark.system
DATA = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n"
SAID = b"220 x\r\n250-x\r\n250 x\r\n250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 Go\r\n"


def test_every_message_that_is_answered_250_is_delivered_once_and_nothing_else_is(tmp_path: pathlib.Path) -> None:
    """K11, S1: with the body that was meant; no traceback, no dialogue without an end."""
    tally = run(tmp_path, count=150, seed=7)
    assert not tally.wrong
    assert tally.tracebacks == 0
    assert tally.taken == tally.delivered + tally.ended > 50


def test_the_reader_beside_the_program_sees_a_smuggled_message() -> None:
    """S3: where a server ends a message at a bare LF, its replies and what was sent do not fit together."""
    smuggled = b"X: y\r\n\r\nx\n.\nMAIL FROM:<>\r\nRCPT TO:<v@b.example>\r\nDATA\r\nx\r\n.\r\n"
    (one,) = meant(DATA + smuggled, SAID + b"250 2.0.0 Queued as a-1\r\n", greeted=True)
    assert one.content.endswith(b"DATA\r\nx\r\n")
    fooled = SAID + b"250 2.0.0 Queued as a-1\r\n250 Ok\r\n250 Ok\r\n354 Go\r\n250 2.0.0 Queued as a-2\r\n"
    with pytest.raises(ValueError, match="to no line"):
        meant(DATA + smuggled, fooled, greeted=True)
