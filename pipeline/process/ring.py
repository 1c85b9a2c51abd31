"""The ring: memory that the program shares with a child process. Bytes go there without a system call.

A pipe would do the same in fewer lines; but each write to one lets another thread take the interpreter, which costs
the loop 14 microseconds, and a line of the log takes 1 here. What is in the ring outlives either of the two: it goes
when both have ended. A child takes out what it is done with, so the next one can find what a killed one had in hand.

The program owns the memory, and the position up to which it is written; the child owns the one up to which it is
read. Both count bytes from the beginning, for ever. Bound: ROOM bytes. A child with nothing to do sleeps on a pipe,
the bell, which the program rings; its end of that closes with the program, and tells the child so.
"""

from __future__ import annotations

import mmap
import os
import select
import sys
import tempfile
import threading

ROOM = 1024 * 1024  # bytes: for log lines a third of a second at 2,500 mails a second
_AHEAD = 4096  # bytes before them, for the numbers
_WRITTEN, _READ, _ASLEEP = 0, 8, 16  # the numbers, 8 bytes each, 64 bytes apart: each a cache line of its own


def _memory() -> int:
    """A file without a name; on Linux one that no disk is behind."""
    if sys.platform == "linux":
        return os.memfd_create("mailrace")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class _Ring:
    """What both ends see.

    Args:
        memory: the open file of the memory.
    """

    def __init__(self, memory: int) -> None:
        self._memory = mmap.mmap(memory, _AHEAD + ROOM)
        self._bytes = memoryview(self._memory)[_AHEAD:]
        self._numbers = memoryview(self._memory)[:_AHEAD].cast("Q")  # each read and written whole, by one instruction
        self._lock = threading.Lock()
        self._lock.acquire()

    @property
    def inside(self) -> int:
        """Bytes that the child has not taken yet."""
        return self._numbers[_WRITTEN] - self._numbers[_READ]

    def _order(self) -> None:
        """What was stored before is seen before what is stored or read after: a processor need not do it by itself."""
        self._lock.release()
        self._lock.acquire()


class Inlet(_Ring):
    """The program's end. Raises OSError where there is no memory for it.

    Attributes:
        files: what the child's end needs: the memory's file, and the end of the bell that it listens at. They stay
            open here as well, so a child that ends takes nothing with it.
    """

    def __init__(self) -> None:
        memory = _memory()
        os.ftruncate(memory, _AHEAD + ROOM)
        super().__init__(memory)
        listens, self._rings = os.pipe()
        self.files = (memory, listens)
        self._written = 0

    def put(self, data: bytes | bytearray | memoryview) -> bool:
        """Add all of it; False where there is no room. It survives kill -9 of the program from here on."""
        begin = self._written
        end = begin + len(data)
        if end - self._numbers[_READ] > ROOM:
            return False
        start = begin % ROOM
        if start + len(data) <= ROOM:
            self._bytes[start : start + len(data)] = data
        else:
            self._bytes[start:] = data[: ROOM - start]
            self._bytes[: start + len(data) - ROOM] = data[ROOM - start :]
        self._order()
        self._numbers[_WRITTEN] = self._written = end
        self._order()
        if self._numbers[_ASLEEP]:
            self._numbers[_ASLEEP] = 0
            os.write(self._rings, b"\n")
        return True

    @property
    def read(self) -> int:
        """Bytes that the child has taken, ever."""
        return self._numbers[_READ]

    def end(self) -> None:
        """Nothing comes any more: the child ends when it has taken all."""
        rings, self._rings = self._rings, -1
        if rings >= 0:
            os.close(rings)

    def discard(self) -> None:
        """End, and let go of what the child has not taken."""
        self.end()
        self._bytes.release()
        self._numbers.release()
        self._memory.close()
        for file in self.files:
            os.close(file)


class Outlet(_Ring):
    """The child's end.

    Args:
        memory, listens: `Inlet.files`.
    """

    def __init__(self, memory: int, listens: int) -> None:
        super().__init__(memory)
        self._listens = listens

    def peek(self) -> bytes:
        """All that is there, and stays there until it is `taken`."""
        begin = self._numbers[_READ]
        size = self._numbers[_WRITTEN] - begin
        self._order()
        start = begin % ROOM
        first = bytes(self._bytes[start : start + size])
        return first if len(first) == size else first + bytes(self._bytes[: size - len(first)])

    def taken(self, size: int) -> None:
        """So many bytes of it are where they belong."""
        self._order()
        self._numbers[_READ] += size

    def wait(self, patience: float | None = None) -> bool:
        """Sleep until there may be something, `patience` seconds at most; False where nothing will come any more."""
        self._numbers[_ASLEEP] = 1
        self._order()
        rung = self.inside > 0 or self._rung(patience)
        self._numbers[_ASLEEP] = 0
        return rung or self.inside > 0

    def _rung(self, patience: float | None) -> bool:
        if patience is not None and not select.select([self._listens], [], [], patience)[0]:
            return True
        return os.read(self._listens, 100) != b""
