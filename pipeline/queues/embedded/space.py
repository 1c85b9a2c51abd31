"""Room on the disk for the embedded queue: how much is kept free, and what happens when others take that too.

Owns the reserve, a file beside the queue's whose bytes are really allocated. Used by the thread that writes.
Below KEPT bytes of free space no new message is taken, so that what is queued can still be settled and the
write-ahead log be folded into the file: that takes as much room as the log has. Where others fill the disk to the
last byte the reserve is given up, a STEP at a time, so that they cannot take all of it at once; it is made again when
there is room. While room is short, pages that the queue does not need any more are given back to the disk.

Said: when it begins, every SAY_AGAIN seconds, and when it is over.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.queues.embedded.file import Store

RESERVE = 16 * 2**20  # bytes
KEPT = 16 * 2**20  # bytes; about what the write-ahead log comes to, see `Store`
ENOUGH = KEPT * 3 // 2  # bytes: room again; more than KEPT, or it would begin and end all the time
STEP = 2**20  # bytes
GROWTH = 3  # a message takes its size in the write-ahead log, then in the file, and some around it
PAGES = 1000  # of 4 KiB, given back to the disk at once
CALM = 5.0  # seconds in which there is room again until it is over
SAY_AGAIN = 60.0  # seconds

Say = Callable[[str], None]


class Space:
    """The room for one queue's file.

    Args:
        path: the queue's file.
        say: told what an operator should know, a line each.
        clock: seconds.

    Attributes:
        full: why no new message is taken, or None. The only thing that another thread may read.
    """

    def __init__(self, path: Path, say: Say, clock: Callable[[], float] = time.monotonic) -> None:
        self.full: str | None = None
        self._path, self._say, self._clock = path, say, clock
        self._reserve = path.with_name(f"{path.name}.reserve")
        self._why = ""  # the reserve cannot be had, where that is not for want of room
        self._room = 0  # bytes that new messages may still take until the next look
        self._short = 0.0  # when there was too little last
        self._since = self._said = 0.0

    def take(self, size: int, apart: int = 0) -> bool:
        """Set room aside for a new message of this size, and what of it is written once; False where there is none."""
        wanted = GROWTH * size + apart
        if self.full is None and wanted > self._room:
            self._look()
        if self.full is not None or wanted > self._room:
            return False
        self._room -= wanted
        return True

    def give(self) -> bool:
        """Give up a step of the reserve; False where nothing is left of it."""
        left = self._held()
        with contextlib.suppress(OSError):
            os.truncate(self._reserve, max(0, left - STEP))
        return self._held() < left

    def failed(self) -> None:
        """SQLite has found no room, whatever the disk says."""
        self._tell(self._free(), short=True)

    def tend(self, store: Store) -> None:
        """Give back to the disk while room is short, restore the reserve when there is some, and look at it."""
        if self.full is not None or self._free() < ENOUGH:
            self._tidy(store)
        missing = RESERVE - self._held()
        if missing > 0 and self._free() - missing >= KEPT // 2:
            self._fill(missing)
        self._look()

    def _look(self) -> None:
        free = self._free()
        whole = self._held() == RESERVE
        self._room = free - KEPT if whole else 0
        short = not whole or free < (KEPT if self.full is None else ENOUGH)
        if short or self.full is not None:
            self._tell(free, short)

    def _tidy(self, store: Store) -> None:
        keep = self._held() < RESERVE  # what the log has is ours, and others would take it
        try:
            store.fold(keep)
            store.shrink(PAGES)
            store.fold(keep)
        except sqlite3.Error:
            self.give()  # the next turn tries again

    def _free(self) -> int:
        try:
            found = os.statvfs(self._path.parent)
        except OSError:
            return 2 * ENOUGH  # not known: SQLite will say
        return found.f_bavail * found.f_frsize

    def _held(self) -> int:
        try:
            return self._reserve.stat().st_size
        except FileNotFoundError:
            return 0
        except OSError as error:
            self._why = error.strerror or str(error)
            return 0

    def _fill(self, missing: int) -> None:
        self._why = ""
        try:
            file = os.open(self._reserve, os.O_CREAT | os.O_RDWR, 0o600)
            try:
                os.posix_fallocate(file, RESERVE - missing, missing)
            finally:
                os.close(file)
        except OSError as error:
            if error.errno != errno.ENOSPC:  # then another program was faster
                self._why = error.strerror or str(error)

    def _tell(self, free: int, short: bool) -> None:
        now, disk = self._clock(), f"the disk of {self._path.parent}"
        if short:
            if self.full is None:
                self._since, self._said = now, float("-inf")
            self._short = now
            left = f"{free / 1e6:,.1f} of the {(RESERVE + ENOUGH) / 1e6:.0f} MB that are needed are left"
            what = f"{self._reserve} cannot be written ({self._why})" if self._why else f"{disk} is full, {left}"
            self.full = f"{what}: intake answers 452, what is queued is sent on"
            if now - self._said >= SAY_AGAIN:
                self._said = now
                self._say(f"{self.full}; for {now - self._since:.0f} s now" if now > self._since else self.full)
        elif now - self._short >= CALM:
            self.full = None
            self._say(f"{disk} has room again, after {now - self._since:.0f} s")
