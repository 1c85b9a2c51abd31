"""The delivery log and kill -9."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.log import schema
from pipeline.log.names import free_name, lock_name, rotated
from pipeline.log.reading.query import MOST, LogQuery
from pipeline.log.writing.conversion import Archive
from tests.pipeline.log.conftest import Make, logged, until
from tests.pipeline.log.records import TIME, accepted, delivery
from tests.support.halted import halt

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[3]


def lines(numbers: Iterable[int]) -> bytes:
    """The lines of these attempts."""
    return b"".join(
        schema.line(schema.attempt(delivery(number), accepted(), TIME + number, None, "mx1")) for number in numbers
    )


def rotate(send_log: Path, numbers: Iterable[int], torn: bytes = b"") -> Path:
    """A rotated file with these attempts."""
    path = free_name(send_log, TIME + 10)
    path.write_bytes(lines(numbers) + torn)
    return path


def found(send_log: Path) -> list[int]:
    """The numbers of the attempts that a query finds, oldest first."""
    return [int((record.message_id or "")[1:]) for record in reversed(LogQuery(send_log).attempts(limit=MOST).records)]


def run(*arguments: object) -> subprocess.Popen[bytes]:
    """A process of `killed`."""
    command = [sys.executable, "-m", "tests.pipeline.log.killed", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def kill(process: subprocess.Popen[bytes]) -> list[int]:
    """SIGKILL; the numbers that it had printed and nobody had read."""
    process.kill()
    assert process.stdout is not None
    rest = [int(number) for number in process.stdout.read().split(b"\n")[:-1]]
    process.stdout.close()
    process.wait()
    return rest


def await_end(send_log: Path) -> None:
    """Until nobody writes or converts: their locks fall with them."""
    for path in (lock_name(send_log), send_log.parent):
        lock = os.open(path, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.close(lock)


@pytest.mark.parametrize("after", [100, 1500, 4000])
def test_no_line_of_a_settled_message_is_lost(send_log: Path, after: int) -> None:
    """Killed while it writes, rotates and converts: each attempt that could be settled is in the log, once."""
    process = run("writer", send_log.parent)
    assert process.stdout is not None
    process.stdout.readline()
    settled = [int(process.stdout.readline()) for _ in range(after)]
    settled += kill(process)
    await_end(send_log)
    logged = found(send_log)
    assert set(settled[-MOST:]) <= set(logged)
    assert len(set(logged)) == len(logged)
    Archive(send_log, schema.Attempt, 0).tidy()
    assert found(send_log) == logged


async def test_a_scribe_waits_for_the_one_before(send_log: Path, make: Make, said: list[Any]) -> None:
    """Killed and started again at once: the lines that were under way come first, and rotation loses none."""
    process = run("writer", send_log.parent)
    assert process.stdout is not None
    writer = psutil.Process(int(process.stdout.readline()))
    halt(writer)
    written, settled = max([0, *found(send_log)]), [0]
    while settled[-1] < written + 300:
        settled.append(int(process.stdout.readline()))
    settled += kill(process)
    assert settled[-1] not in found(send_log)
    log = make()
    log.attempt(delivery(10**9), accepted(), TIME)
    await until(lambda: bool(said))
    assert "waits until the process that wrote it before has finished" in said[0].detail
    assert 10**9 not in found(send_log)
    writer.resume()
    await until(lambda: send_log.exists() and '"m1000000000"' in send_log.read_text())
    await log.close()
    await_end(send_log)
    assert [name for name in logged(send_log) if name == "m1000000000"] == logged(send_log)[-1:]
    assert set(settled[-MOST // 2 :]) <= set(found(send_log))


@pytest.mark.parametrize("step", range(12))
def test_a_rotation_that_is_killed_anywhere_is_repeated(send_log: Path, step: int) -> None:
    """Before each change on disk in turn: nothing is lost or doubled, then and after the next start."""
    for part in range(5):
        rotate(send_log, range(part * 10, part * 10 + 10))
    send_log.write_bytes(lines(range(50, 60)))
    process = run("archive", send_log.parent, step)
    killed = process.wait() == -signal.SIGKILL
    assert set(found(send_log)) >= set(range(20, 60)) and len(set(found(send_log))) == len(found(send_log))
    Archive(send_log, schema.Attempt, 3).tidy()
    assert found(send_log) == list(range(20, 60))
    assert {path.suffix for path in rotated(send_log)} == {".parquet"}
    assert sorted(path.name for path in send_log.parent.iterdir()) == sorted(
        [send_log.name, *(path.name for path in rotated(send_log))]
    )
    assert killed or step >= 11


def test_a_torn_line_is_left_out_with_a_warning(send_log: Path) -> None:
    """In the file that is written, and in those that become Parquet."""
    rotate(send_log, range(3), torn=b'{"v":1,"time"\n')
    send_log.write_bytes(lines([3]) + b'{"v":1,"ti\n' + lines([4]) + b"\xff\xfe\n[1]\n")
    page = LogQuery(send_log).attempts()
    assert [record.message_id for record in page.records] == ["m4", "m3", "m2", "m1", "m0"]
    assert [warning.rpartition(": ")[2] for warning in page.warnings] == [
        "1 torn or foreign lines are left out",
        "3 torn or foreign lines are left out",
    ]
    (said,) = Archive(send_log, schema.Attempt, 0).tidy()
    assert "1 torn or foreign lines were left out" in said
    assert found(send_log) == [0, 1, 2, 3, 4]


def test_a_conversion_that_cannot_write_leaves_the_lines_as_they_are(send_log: Path) -> None:
    """A disk without room: the JSON Lines file stays and is read, and it is said."""
    path = rotate(send_log, range(3))
    path.with_suffix(".parquet.part").symlink_to("/dev/full")
    shutil.copy(path, send_log)
    archive = Archive(send_log, schema.Attempt, 0)
    archive._sweep = lambda: None  # type: ignore[method-assign]  # or it would make room
    (said,) = archive.tidy()
    assert "stays as it is, until the next rotation" in said
    assert path.exists() and len(found(send_log)) == 6


def test_only_the_newest_files_are_kept(send_log: Path) -> None:
    """As many as the history says, by age."""
    for part in range(5):
        rotate(send_log, [part])
    Archive(send_log, schema.Attempt, 2).tidy()
    assert found(send_log) == [3, 4]


def test_files_of_others_are_left_alone(send_log: Path) -> None:
    """Whatever else lies in the folder is none of ours."""
    others = ["send.parquet", "send.jsonl.1", "send.20260101T000000Z.000.csv", "sender.20260101T000000Z.000.jsonl"]
    for name in others:
        send_log.with_name(name).write_text("theirs")
    Archive(send_log, schema.Attempt, 1).tidy()
    assert sorted(path.name for path in send_log.parent.iterdir()) == sorted(others)
