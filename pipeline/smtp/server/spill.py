"""Spill: a large message on its way in waits on disk, so that slow clients with much to say fill no memory.

What comes beyond MEMORY octets goes to a file without a name in `data-dir`, in a thread; the disk never holds the loop
up. Bound: all files together take what `Room` has. What is made of it when it is complete: `LargeMessage`.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import IO

from pipeline.smtp.server.content import Room


class Spill:
    """The beginning of one message. Raises OSError where the disk takes no more."""

    def __init__(self, folder: Path, room: Room) -> None:
        self._folder, self._room = folder, room
        self._file: IO[bytes] | None = None
        self._taken = 0

    async def write(self, part: bytes) -> bool:
        """Add octets; False where there is no room for them."""
        if not self._room.try_take(len(part)):
            return False
        self._taken += len(part)
        await asyncio.to_thread(self._write, part)
        return True

    async def end(self, last: bytes) -> IO[bytes]:
        """These octets are the end of the message; all of it, in a file. Nothing if nothing was written before."""
        await asyncio.to_thread(self._write, last)
        assert self._file is not None
        return self._file

    async def whole(self) -> bytes:
        """All of the message."""
        return await asyncio.to_thread(self._read)

    @property
    def size(self) -> int:
        """Octets on disk."""
        return self._taken

    def close(self) -> None:
        """The file goes."""
        self._room.give(self._taken)
        self._taken = 0
        if self._file is not None:
            self._file.close()

    def _write(self, part: bytes) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - `close` does it
        left = memoryview(part)
        while left:
            left = left[self._file.write(left) :]

    def _read(self) -> bytes:
        assert self._file is not None
        self._file.seek(0)
        return self._file.read()  # unbuffered: read in one piece, not put together from several
