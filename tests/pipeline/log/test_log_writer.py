"""Writing the delivery log."""

# ruff: noqa: ASYNC240 - small files
from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from operators.deliveries.events import Fault, Notice, Received
from operators.deliveries.outcome import parked, postponed
from pipeline.log.names import rotated
from pipeline.log.reading.query import LogQuery
from pipeline.log.writing import buffer, converter, writer_life
from pipeline.log.writing import fault as trouble
from pipeline.log.writing.delivery_log import DeliveryLog, LogUnavailable
from pipeline.process.children import ChildKind
from pipeline.process.supervisor import supervisor
from tests.pipeline.log.conftest import Make, logged, until
from tests.pipeline.log.records import TIME, accepted, delivery
from tests.support.halted import halt

pytestmark = pytest.mark.slow


def write(log: DeliveryLog, *numbers: int, description: str = "queued") -> None:
    """Log these attempts."""
    for number in numbers:
        log.attempt(delivery(number), accepted(description=description), TIME + number)


def writer(log: DeliveryLog) -> psutil.Process:
    """The process that writes it."""
    return psutil.Process(log.writer.pid)


async def test_what_is_logged_is_in_the_ring_at_once(make: Make, send_log: Path) -> None:
    """Whoever settles then loses no line to kill -9, whatever the writer is doing."""
    log = make()
    halt(writer(log))
    write(log, 1)
    assert log.buffer.inside > 0
    writer(log).resume()
    await until(lambda: logged(send_log) == ["m1"])


async def test_many_lines_keep_their_order(make: Make, send_log: Path) -> None:
    """And all of them are in the file once the log is closed."""
    log = make()
    for number in range(500):
        write(log, number)
        if number % 50 == 0:
            await asyncio.sleep(0)
    await log.close()
    assert logged(send_log) == [f"m{number}" for number in range(500)]


@pytest.mark.parametrize("outcome", [parked("lane", "full"), postponed(TIME + 60, "not yet")])
async def test_what_is_no_attempt_and_no_end_is_not_logged(make: Make, send_log: Path, outcome: object) -> None:
    """Parking happens inside."""
    log = make()
    log.attempt(delivery(), outcome, TIME)
    await log.close()
    assert send_log.read_bytes() == b""


async def test_received_messages_have_a_log_of_their_own(make: Make, send_log: Path) -> None:
    """One line for each that intake took."""
    log = make()
    log.received(Received(time=TIME, message_id="m9", envelope="", recipient="a@b.example", size=1, source="smtp"))
    await log.close()
    assert logged(send_log.with_name("received.jsonl")) == ["m9"]
    assert logged(send_log) == []


async def test_a_torn_last_line_is_ended_at_the_start(make: Make, send_log: Path) -> None:
    """What follows a crash is readable."""
    send_log.write_bytes(b'{"v":1,"time":"2026-')
    log = make()
    write(log, 1)
    await log.close()
    torn, whole = send_log.read_bytes().splitlines()
    assert torn == b'{"v":1,"time":"2026-'
    assert msgspec.json.decode(whole)["message_id"] == "m1"


async def test_a_file_that_others_moved_away_is_left_at_sighup(make: Make, send_log: Path) -> None:
    """As logrotate expects it: what is logged from then on is in the new file, without waiting for anything."""
    log = make()
    write(log, 1)
    await until(lambda: logged(send_log) == ["m1"])
    moved = send_log.rename(send_log.with_name("moved"))
    write(log, 2)
    log.reopen()
    write(log, 3)
    await log.close()
    assert (logged(moved), logged(send_log)) == (["m1", "m2"], ["m3"])


async def test_a_file_that_others_removed_is_made_again(make: Make, send_log: Path) -> None:
    """K10: with its folder, and without SIGHUP: what is written to a file without a name is read by nobody."""
    log = make()
    write(log, 1)
    await until(lambda: logged(send_log) == ["m1"])
    shutil.rmtree(send_log.parent)
    write(log, 2)
    await log.close()
    assert logged(send_log) == ["m2"]


async def test_a_full_file_is_rotated_between_lines_and_converted(make: Make, send_log: Path) -> None:
    """Nothing is lost or doubled on the way, and the oldest go when there are too many."""
    log, query = make(maxsize=1000, history=3), LogQuery(send_log)

    def found() -> list[str | None]:
        return [record.message_id for record in query.attempts().records]

    for number in range(12):
        write(log, number)
        await until(lambda number=number: found()[:1] == [f"m{number}"])
    await until(lambda: [path.suffix for path in rotated(send_log)] == [".parquet"] * 3)
    await log.close()
    ids = found()
    assert len(ids) >= 6
    assert ids == [f"m{number}" for number in range(11, 11 - len(ids), -1)]


def test_a_log_that_cannot_be_opened_is_one_clear_line(tmp_path: Path) -> None:
    """It names the key, the file and the reason."""
    (tmp_path / "file").write_text("")
    log = DeliveryLog(tmp_path / "file" / "send.jsonl", None, maxsize=0, history=0, instance="mx1", report=print)

    async def start() -> None:
        log.start()

    with pytest.raises(LogUnavailable, match=r"send-log: cannot write .*file.*: (Not a directory|File exists)"):
        asyncio.run(start())


async def test_a_log_that_is_turned_off_needs_no_process() -> None:
    """With neither of them, everything passes without one."""
    log = DeliveryLog(None, None, maxsize=0, history=0, instance="mx1", report=print)
    log.start()
    write(log, 1)
    log.reopen()
    assert (log.writer.pid, log.trouble) == (None, None)
    await log.close()


async def test_a_full_disk_is_said_and_holds_nobody_up(make: Make, send_log: Path, said: list[Any]) -> None:
    """/dev/full is a disk without room: mail goes on, the lines are counted, and their end is said too."""
    send_log.symlink_to("/dev/full")
    log = make()
    write(log, 1)
    await until(lambda: log.trouble is not None)
    assert log.trouble == "No space left on device"
    assert "No space left on device; 1 lines are lost so far, mail goes on" in said[0].detail
    write(log, 2)
    send_log.unlink()
    write(log, 3)
    await until(lambda: log.trouble is None)
    assert [type(event) for event in said] == [Fault, Notice]
    assert said[1].fields["lost"] + len(logged(send_log)) == 3
    assert logged(send_log)[-1] == "m3"


async def test_a_pipe_that_nobody_reads_is_no_log(make: Make, send_log: Path) -> None:
    """K11: its lines would be nowhere; neither at the start, nor in the place of the file later."""
    log = make()
    send_log.unlink()
    os.mkfifo(send_log)
    log.reopen()
    write(log, 1)
    await until(lambda: log.trouble == "No such device or address")
    await log.close()
    with pytest.raises(LogUnavailable, match=r"send-log: cannot write .*: No such device or address"):
        make()


async def test_a_disk_that_hangs_is_said_and_holds_nobody_up(
    make: Make, send_log: Path, said: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named pipe that nobody reads is such a disk. Memory is bounded; all that was not dropped is written later."""
    monkeypatch.setattr(buffer, "PATIENCE", 0.1)
    monkeypatch.setattr(buffer, "MOST", 400_000)
    monkeypatch.setattr(trouble, "SAY_AGAIN", 0.0)
    os.mkfifo(send_log)
    disk = os.open(send_log, os.O_RDWR | os.O_NONBLOCK)
    log = make()
    write(log, *range(200), description="x" * 1000)
    write(log, *range(200, 3000), description="x" * 1000)
    await until(lambda: "nothing was written for" in (log.trouble or ""))
    faults = [event.detail for event in said if isinstance(event, Fault)]
    assert sum("bytes wait for the disk; " in detail for detail in faults) > 10
    assert any("nothing was written for" in detail for detail in faults)
    seen = bytearray()
    asyncio.get_running_loop().add_reader(disk, lambda: seen.extend(os.read(disk, 1 << 20)))  # the disk is back
    await until(lambda: log.trouble is None and b'"m199"' in seen)
    lost = sum(event.fields["lost"] for event in said if isinstance(event, Notice))
    await until(lambda: seen.count(b"\n") == 3000 - lost)
    await log.close()
    asyncio.get_running_loop().remove_reader(disk)
    os.close(disk)
    assert lost > 1000
    numbers = [int(msgspec.json.decode(line)["message_id"][1:]) for line in seen.splitlines()]
    assert numbers == sorted(set(numbers)) and numbers[:1000] == list(range(1000))


async def test_what_does_not_fit_into_the_ring_waits_in_memory(make: Make, send_log: Path, said: list[Any]) -> None:
    """A writer that gets no processor for a while costs no line, and their order stays."""
    log = make()
    halt(writer(log))
    write(log, *range(600), description="x" * 5000)
    assert log.buffer.inside < 600 * 5000
    writer(log).resume()
    await until(lambda: logged(send_log)[-1:] == ["m599"])
    assert logged(send_log) == [f"m{number}" for number in range(600)]
    assert said == []


async def test_a_scribe_that_is_killed_is_replaced(make: Make, send_log: Path, said: list[Any]) -> None:
    """What is logged while there is none waits in the ring; that it happened is said, and that it is over."""
    log = make()
    write(log, 1)
    await until(lambda: log.buffer.inside == 0)
    killed = log.writer.pid
    writer(log).kill()
    write(log, 2, 3)
    await until(lambda: bool(said))
    assert "the process that writes it has ended with -9" in said[0].detail
    write(log, 4)
    await until(lambda: logged(send_log) == ["m1", "m2", "m3", "m4"])
    await until(lambda: log.trouble is None)
    assert log.writer.pid not in (None, killed)
    assert [type(event) for event in said] == [Fault, Notice]


async def test_a_scribe_that_is_killed_loses_no_line(make: Make, send_log: Path) -> None:
    """Whatever it was doing: what it had in hand is still in the ring. Lines may then be there twice."""
    log = make()
    for part in range(4):
        before = log.writer.pid
        for number in range(part * 400, part * 400 + 400):
            write(log, number)
            await asyncio.sleep(0)
        writer(log).kill()
        await until(lambda before=before: log.writer.pid not in (None, before))
    await log.close()
    assert set(logged(send_log)) == {f"m{number}" for number in range(1600)}


async def test_a_scribe_that_is_killed_at_the_end_is_replaced_too(make: Make, send_log: Path) -> None:
    """An orderly stop leaves no line in the ring."""
    log = make()
    halt(writer(log))
    write(log, 1)
    writer(log).kill()
    await log.close()
    assert logged(send_log) == ["m1"]


async def test_a_scribe_that_cannot_live_is_not_called_a_slow_disk(
    make: Make, send_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K15: why it ended is what is said, also after the time in which a disk would be taken for gone."""
    monkeypatch.setattr(writer_life, "LOG_WRITER", ChildKind("log-writer", "no.such.module", outlives=True))
    monkeypatch.setattr(buffer, "PATIENCE", 0.05)
    log = make()
    write(log, 1)
    await until(lambda: log.trouble is not None)
    await asyncio.sleep(0.2)  # the disk would be blamed by now
    assert "ModuleNotFoundError: No module named 'no'" in str(log.trouble)
    monkeypatch.undo()
    await until(lambda: logged(send_log) == ["m1"])


async def test_log_files_are_private_whatever_the_umask(make: Make, send_log: Path) -> None:
    """S4, K15: who may read a lock can hold it; a rotated file is as private as the one that is written."""
    folder = send_log.parent
    folder.rmdir()
    before = os.umask(0)
    try:
        log = make(maxsize=1)
        write(log, 1, 2)
        await until(lambda: bool(list(folder.glob("*.parquet"))))
        await log.close()
    finally:
        os.umask(before)
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes[".parquet"] == 0o640 and modes[".lock"] == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not [mode for mode in modes.values() if mode & 0o137]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_the_scribe_ends_with_the_program_only(make: Make, send_log: Path, number: signal.Signals) -> None:
    """A service manager, or Ctrl-C, may mean all processes: the last lines come when those have been told."""
    log = make()
    write(log, 1)
    await until(lambda: logged(send_log) == ["m1"])
    before = log.writer.pid
    writer(log).send_signal(number)
    write(log, 2)
    await until(lambda: logged(send_log) == ["m1", "m2"])
    assert log.writer.pid == before
    assert os.getsid(before) == before != os.getsid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user reaches; `tmp_path` is only for one."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give away its rights")
async def test_its_processes_have_no_rights_that_the_program_will_not_have(open_folder: Path) -> None:
    """Started as root with `user`: the writer is that user, and so are the files."""
    account = (65534, 65534, [65534])
    path = open_folder / "new" / "send.jsonl"
    log = DeliveryLog(path, None, maxsize=200, history=2, instance="mx1", report=print, account=account)
    log.start()
    write(log, 1)
    await until(lambda: [file.suffix for file in rotated(path)] == [".parquet"])
    assert Path(f"/proc/{log.writer.pid}").stat().st_uid == 65534

    def owners() -> set[int]:
        with contextlib.suppress(FileNotFoundError):  # what was converted goes a moment later
            return {file.stat().st_uid for file in (path.parent, *path.parent.iterdir())}
        return set()

    await until(lambda: owners() == {65534})
    await log.close()


async def test_an_archive_that_is_killed_is_said(
    tmp_path: Path, said: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """K11: the system kills it where memory is short; the files stay, and an operator hears of it."""
    monkeypatch.setattr(converter, "ARCHIVE", ChildKind("archive", "tests.support.confession"))
    start = converter.Child
    monkeypatch.setattr(converter, "Child", lambda kind, _, *rest, **how: start(kind, ["stay"], *rest, **how))
    office = converter.Converter(0, said.append, None)
    office.due("send-log", tmp_path / "send.jsonl")
    await until(lambda: bool(said))  # it has said its number
    os.kill(int(said[0].text), signal.SIGKILL)
    await until(lambda: len(said) == 2)
    assert "the archive has ended with -9" in said[1].text
    assert "archive failed in the background" in supervisor().faults[0]
    await office.close()
