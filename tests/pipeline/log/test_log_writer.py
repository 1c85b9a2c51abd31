"""Writing the delivery log."""

# ruff: noqa: ASYNC110, ASYNC240 - small files, and a disk that is waited for
from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import msgspec
import pytest

from operators.events import Event, Fault, Notice, Received
from operators.outcome import parked, postponed
from pipeline.log import journal
from pipeline.log.names import rotated
from pipeline.log.writer import DeliveryLog, LogUnavailable
from tests.pipeline.log.conftest import Make
from tests.pipeline.log.records import TIME, accepted, delivery


def logged(path: Path) -> list[str]:
    """The message-ids in a file."""
    return [msgspec.json.decode(line)["message_id"] for line in path.read_bytes().splitlines()]


async def write(log: DeliveryLog, number: int) -> None:
    """Log an attempt, and wait until the log has it."""
    done = asyncio.Event()
    log.attempt(delivery(number), accepted(), TIME + number, None, done.set)
    await done.wait()


async def test_then_is_called_when_the_line_is_with_the_kernel(make: Make, send_log: Path) -> None:
    """Whoever settles then loses no line to kill -9."""
    log = make()
    seen: list[list[str]] = []
    done = asyncio.Event()
    log.attempt(delivery(1), accepted(), TIME, None, lambda: (seen.append(logged(send_log)), done.set()))
    assert seen == []
    await done.wait()
    assert seen == [["m1"]]


async def test_many_lines_keep_their_order(make: Make, send_log: Path) -> None:
    """Batches follow each other."""
    log = make()
    called: list[int] = []
    for number in range(500):
        log.attempt(delivery(number), accepted(), TIME, None, lambda number=number: called.append(number))
        if number % 50 == 0:
            await asyncio.sleep(0)
    await log.close()
    assert called == list(range(500))
    assert logged(send_log) == [f"m{number}" for number in range(500)]


@pytest.mark.parametrize("outcome", [parked("lane", "full"), postponed(TIME + 60, "not yet")])
async def test_what_is_no_attempt_and_no_end_is_not_logged(make: Make, send_log: Path, outcome: object) -> None:
    """Parking happens inside; its `then` is called all the same."""
    log = make()
    done: list[bool] = []
    log.attempt(delivery(), outcome, TIME, None, lambda: done.append(True))
    await log.close()
    assert done == [True]
    assert send_log.read_bytes() == b""


async def test_received_messages_have_a_log_of_their_own(make: Make, send_log: Path) -> None:
    """One line for each that intake took."""
    log = make()
    log.received(Received(time=TIME, message_id="m9", envelope="", recipient="a@b.example", size=1, source="smtp"))
    await log.close()
    assert logged(send_log.with_name("received.jsonl")) == ["m9"]


async def test_a_torn_last_line_is_ended_at_the_start(make: Make, send_log: Path) -> None:
    """What follows a crash is readable."""
    send_log.write_bytes(b'{"v":1,"time":"2026-')
    log = make()
    await write(log, 1)
    torn, whole = send_log.read_bytes().splitlines()
    assert torn == b'{"v":1,"time":"2026-'
    assert msgspec.json.decode(whole)["message_id"] == "m1"


async def test_a_file_that_others_moved_away_is_left_at_sighup(make: Make, send_log: Path) -> None:
    """As logrotate expects it."""
    log = make()
    await write(log, 1)
    moved = send_log.rename(send_log.with_name("moved"))
    await write(log, 2)
    log.reopen()
    await write(log, 3)
    assert (logged(moved), logged(send_log)) == (["m1", "m2"], ["m3"])


async def test_a_full_file_is_rotated_between_lines(make: Make, send_log: Path) -> None:
    """Nothing is lost or doubled on the way."""
    log = make(maxsize=2000)
    for number in range(20):
        await write(log, number)
    await log.close()
    assert len(rotated(send_log)) >= 3


def test_a_log_that_cannot_be_opened_is_one_clear_line(tmp_path: Path) -> None:
    """It names the key, the file and the reason."""
    (tmp_path / "file").write_text("")
    log = DeliveryLog(tmp_path / "file" / "send.jsonl", None, maxsize=0, history=0, instance="mx1", report=print)

    async def start() -> None:
        log.start()

    with pytest.raises(LogUnavailable, match=r"send-log: cannot write .*file.*: (Not a directory|File exists)"):
        asyncio.run(start())


async def test_a_full_disk_is_said_and_holds_nobody_up(make: Make, send_log: Path, said: list[Event]) -> None:
    """/dev/full is a disk without room: mail goes on, the lines are counted, and their end is said too."""
    send_log.symlink_to("/dev/full")
    log = make()
    await write(log, 1)
    await write(log, 2)
    assert [type(event) for event in said] == [Fault]
    assert "No space left on device; 1 lines are lost so far, mail goes on" in said[0].detail
    assert log.trouble == "No space left on device"
    send_log.unlink()
    await write(log, 3)
    assert logged(send_log) == ["m3"]
    assert isinstance(said[1], Notice)
    assert said[1].fields == {"lost": 2}
    assert log.trouble is None


async def test_a_disk_that_hangs_is_given_up(
    make: Make, send_log: Path, said: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe that nobody reads is such a disk. Who waited goes on, who comes does not wait, and memory is bounded."""
    monkeypatch.setattr(journal, "PATIENCE", 0.02)
    monkeypatch.setattr(journal, "MOST", 200_000)
    os.mkfifo(send_log)
    disk = os.open(send_log, os.O_RDWR | os.O_NONBLOCK)
    log = make()
    called: list[int] = []
    for number in range(100):
        log.attempt(delivery(number), accepted(description="x" * 1000), TIME, None, lambda: called.append(1))
    while len(called) < 100:
        await asyncio.sleep(0.01)
    log.attempt(delivery(), accepted(), TIME, None, lambda: called.append(2))
    assert called[-1] == 2
    for number in range(1000):
        log.attempt(delivery(number), accepted(description="x" * 1000), TIME, None)
    assert log.trouble is not None
    assert "the disk has not answered" in said[0].detail
    while log.trouble:  # the disk is back
        with contextlib.suppress(BlockingIOError):
            os.read(disk, 1 << 20)
        await asyncio.sleep(0.001)
    await log.close()
    os.close(disk)
