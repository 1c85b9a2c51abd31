"""Logs as text: lines of MailerQ's form, from templates, on their way to a file that others may move away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from operators.deliveries.events import Event, Fault, Received
from pipeline.log.writing.delivery_log import LogUnavailable
from pipeline.log.writing.text_logs import RECEIVED, SENT, TextLog, TextLogs, printed

WHEN = 1_535_527_216.0  # 2018-08-29 07:20:16
EMAIL = {"envelope": "info@a.example", "recipient": "you@b.example", "tags": ["a", "b"]}
RESULT = {
    "state": "message", "result": "accepted", "from": "192.0.2.1", "to": "192.0.2.2", "code": 250, "status": "2.0.0",
    "description": "Ok",
}  # fmt: skip


def log(path: Path, template: str, events: list[Event] | None = None) -> TextLog:
    """One, whose writes wait until they are asked for."""

    def later(work: Coroutine[Any, Any, None], part: str) -> None:
        work.close()

    told = events if events is not None else []
    return TextLog("send-log-file", path, template, told.append, lambda: WHEN, later)


async def lines(one: TextLog) -> list[str]:
    """What is on the disk, once all is written."""
    await one.flush()
    return one.path.read_text().splitlines()


async def test_a_line_is_as_documented(tmp_path: Path) -> None:
    """The default form, with lists as JSON; what is not known is empty."""
    one = log(tmp_path / "logs" / "send.log", SENT)
    one.prepare(None)
    one.write(WHEN, {"email": printed(EMAIL), "result": RESULT, "attempt": 1})
    one.write(WHEN, {"email": {}, "result": {"state": "dns", "result": "error"}, "attempt": 2})
    assert await lines(one) == [
        '[2018-08-29 07:20:16] message:accepted 1 <info@a.example> <you@b.example> [192.0.2.1] [192.0.2.2] ["a", "b"] '
        "250 2.0.0 Ok",
        "[2018-08-29 07:20:16] dns:error 2 <> <> [] []    ",
    ]


async def test_what_a_receiver_says_stays_on_its_line(tmp_path: Path) -> None:
    """No line ends, and nothing that a terminal obeys."""
    one = log(tmp_path / "send.log", "{if $result.code > 499}{$time} {$result.description}{/if}")
    one.write(WHEN, {"result": {"code": 550, "description": "no\r\n[x] \x1b[2J"}})
    assert await lines(one) == ["1535527216 no\\u000d\\u000a[x] \\u001b[2J"]


async def test_a_file_that_was_moved_is_begun_again(tmp_path: Path) -> None:
    """As logrotate does, without a signal; and one that was removed."""
    one = log(tmp_path / "send.log", "{$attempt}")
    for number in (1, 2, 3):
        one.write(WHEN, {"attempt": number})
        assert await lines(one) == [str(number)]
        if number == 1:
            one.path.rename(tmp_path / "send.log.1")
        else:
            one.path.unlink()
    assert (tmp_path / "send.log.1").read_text() == "1\n"


async def test_a_disk_that_takes_nothing_costs_lines_and_is_said(tmp_path: Path) -> None:
    """Mail goes on; it stands among the faults until lines are written again."""
    events: list[Event] = []
    one = log(tmp_path / "folder" / "send.log", "x", events)
    logs = TextLogs(one, None)
    (tmp_path / "folder").write_text("no folder")
    one.write(WHEN, {})
    await one.flush()
    assert isinstance(events[0], Fault) and "1 lines are lost" in events[0].detail
    assert logs.troubles and logs.troubles[0].startswith("send-log-file is not written: cannot be written")
    (tmp_path / "folder").unlink()
    one.write(WHEN, {})
    assert await lines(one) == ["x"] and not logs.troubles


async def test_what_is_over_the_bound_is_lost_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than the program's memory."""
    monkeypatch.setattr("pipeline.log.writing.text_logs.MOST", 10)
    events: list[Event] = []
    one = log(tmp_path / "send.log", "1234567", events)
    one.write(WHEN, {})
    one.write(WHEN, {})
    assert isinstance(events[0], Fault) and await lines(one) == ["1234567"]


def test_a_template_that_is_none_is_said_at_the_start(tmp_path: Path) -> None:
    """With the key that it is of."""
    with pytest.raises(LogUnavailable, match="send-log-format: line 1"):
        log(tmp_path / "send.log", "{if $x}").prepare(None)


async def test_received_mail_has_its_own(tmp_path: Path) -> None:
    """Names with dashes are written with underscores."""
    one = log(tmp_path / "received.log", RECEIVED)
    event = Received(
        time=WHEN, message_id="m-1", envelope="a@b.example", recipient="c@d.example", size=3, source="smtp",
        remote_ip="192.0.2.9",
    )  # fmt: skip
    TextLogs(None, one).received(event)
    assert await lines(one) == ["[2018-08-29 07:20:16] m-1 <a@b.example> <c@d.example> [192.0.2.9]"]
    await asyncio.sleep(0)
