"""The room on the disk: what the queue keeps of it, and says of it. The disk is real, what is left of it is told."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.queues.embedded import space
from pipeline.queues.embedded.file import Store, Work
from pipeline.queues.embedded.space import CALM, ENOUGH, KEPT, RESERVE, SAY_AGAIN, STEP, Space
from tests.pipeline.queues.desk import Clock

MB = 2**20


class Disk:
    """A queue's file and the room beside it; `free` is what the system says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free, self.clock, self.said = 1000 * MB, Clock(), list[str]()
        self.store = Store(folder / "queue.db", writes=True)
        self.space = Space(folder / "queue.db", self.said.append, self.clock)
        self.reserve = folder / "queue.db.reserve"
        monkeypatch.setattr(space.os, "statvfs", self.statvfs)
        self.space.tend(self.store)

    def statvfs(self, path: Path) -> os.statvfs_result:
        return os.statvfs_result((4096, 4096, 0, 0, self.free // 4096, 0, 0, 0, 0, 255))

    def left(self, free: int) -> None:
        """From now on so much is left, and it is looked at."""
        self.free = free
        self.space.tend(self.store)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk(tmp_path, monkeypatch)
    yield disk
    disk.store.close()


def test_the_reserve_is_really_allocated(disk: Disk) -> None:
    """And nobody else reads it; where it cannot be made, no mail is taken."""
    found = disk.reserve.stat()
    assert (found.st_size, found.st_blocks * 512 >= RESERVE) == (RESERVE, True)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert (disk.said, disk.space.full) == ([], None)


def test_new_messages_leave_room_for_what_is_queued(disk: Disk) -> None:
    """A small one is taken where a large one is not; neither once less is left than what is kept."""
    disk.left(KEPT + 30 * MB)
    assert disk.space.take(5 * MB)
    assert not disk.space.take(11 * MB)
    disk.free = KEPT - 1
    assert not disk.space.take(11 * MB)
    assert disk.space.full is not None
    assert not disk.space.take(1)


def test_a_full_disk_is_said_once_a_minute_and_when_it_is_over(disk: Disk) -> None:
    """It is over when more than enough is left, and stays so for a while."""
    for _ in range(90):
        disk.left(KEPT // 2)
        disk.clock.now += 1
    disk.left(ENOUGH - 4096)
    assert disk.space.full is not None
    disk.left(ENOUGH)
    assert disk.space.full is not None
    disk.clock.now += CALM
    disk.left(ENOUGH)
    assert disk.space.full is None
    begin, again, end = disk.said
    assert "is full, 8.4 of the 42 MB that are needed are left: intake answers 452" in begin
    assert again.endswith(f"; for {SAY_AGAIN:.0f} s now")
    assert end.endswith(f"has room again, after {90 + CALM:.0f} s")


def test_the_reserve_is_given_up_in_steps_and_made_again(disk: Disk) -> None:
    """Others cannot take all of it at once; until it is whole again no mail is taken."""
    disk.free = 0
    assert disk.space.give()
    assert disk.reserve.stat().st_size == RESERVE - STEP
    while disk.space.give():
        pass
    assert disk.reserve.stat().st_size == 0
    disk.left(RESERVE)
    assert (disk.reserve.stat().st_size, disk.space.full is None) == (0, False)
    disk.left(RESERVE + KEPT)
    assert disk.reserve.stat().st_size == RESERVE


def test_a_reserve_that_cannot_be_written_is_no_full_disk(disk: Disk) -> None:
    """K15: the line names the file and the reason, where there is room enough."""
    disk.reserve.unlink()
    disk.reserve.mkdir()
    disk.left(100 * MB)
    assert disk.space.full == (
        f"{disk.reserve} cannot be written (Is a directory): intake answers 452, what is queued is sent on"
    )
    disk.reserve.rmdir()
    disk.left(100 * MB)
    assert disk.reserve.stat().st_size == RESERVE


def test_while_room_is_short_the_file_shrinks(disk: Disk) -> None:
    """What was queued in it is gone, so its room is the disk's again."""
    work = Work()
    for _ in range(100):
        work.add("outbox", bytes(40_000), 0, 1)
    first = disk.store.write(work)
    done = Work()
    for id in range(first, first + 100):
        done.done(id)
    disk.store.write(done)
    disk.store.fold()
    assert disk.store.path.stat().st_size > 4_000_000
    disk.left(KEPT // 2)
    assert disk.store.path.stat().st_size < 200_000
