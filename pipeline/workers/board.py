"""The board: how many SMTP sessions each worker has, in memory that all of them share, so that they divide new ones.

A word would come too late: a client opens twenty connections within a millisecond. Each worker writes its own figure;
the head writes ABSENT for one that has ended. No lock: a figure that is a moment old costs nothing but balance.
"""

from __future__ import annotations

import mmap
import os

WORKERS = 64
ABSENT = 2**31


class SessionBoard:
    """The board, by its descriptor.

    Args:
        file: of an existing one; a new one is made without.
    """

    def __init__(self, file: int | None = None) -> None:
        self.file = os.memfd_create("sessions") if file is None else file
        if file is None:
            os.ftruncate(self.file, WORKERS * 4)
        self._memory = mmap.mmap(self.file, WORKERS * 4)
        self._counts = memoryview(self._memory).cast("I")
        if file is None:
            for number in range(1, WORKERS + 1):
                self.absent(number)

    def absent(self, number: int) -> None:
        """A worker takes no connections."""
        self.write(number, ABSENT)

    def write(self, number: int, sessions: int) -> None:
        """What a worker has."""
        self._counts[number - 1] = sessions

    def is_next(self, number: int, sessions: int) -> bool:
        """Write that this worker has so many; whether no other one has fewer."""
        self.write(number, sessions)
        return sessions <= min(self._counts)

    def close(self) -> None:
        """Give the memory back."""
        self._counts.release()
        self._memory.close()
        os.close(self.file)
