"""The condition of the embedded queue's file: what is wrong with it, said once a minute, and when that is over.

Two kinds. *Damage* lasts until the program is started on a file that is in order: a page that cannot be read, a file
that was deleted, replaced or shortened. *Trouble* of a part (writing, reading, listing) is over when that part works
again: an error of the disk, a lock of another process, a thread that does not answer.

While the file is damaged, or what is queued cannot be read, no new message is taken: it would be answered 250 and not
be sent. What is lent can still be settled. All calls are made on the event loop; `refuses` is read by other threads.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

SAY_AGAIN = 60.0  # seconds
CALM = 3.0  # seconds without an error until trouble is over
WRITING, READING, LISTING = "writing", "reading", "listing"
SAVE = "stop Mailrace and run `mailrace queue recover`"

# sqlite.org/rescode.html. A table or an index that is missing is a plain SQLITE_ERROR.
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_MISSING = ("no such table", "no such index", "no such column", "no such view")


class Condition:
    """What is wrong with the queue's file now.

    Args:
        path: the file, for the lines.
        say: told a line when something is wrong, once a minute while it is, and when it is over.
        clock: seconds.

    Attributes:
        damage: why the file cannot be trusted any more, or None.
        refuses: why no new message is taken, or None. The only thing that another thread may read.
    """

    def __init__(self, path: Path, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.damage: str | None = None
        self.refuses: str | None = None
        self._path, self._say, self._clock = path, say, clock
        self._troubles: dict[str, str] = {}
        self._failed: dict[str, float] = {}  # when each part failed last
        self._since = self._said = 0.0

    @property
    def fault(self) -> str | None:
        """What is wrong, in one line; None while nothing is."""
        return self.damage or next(iter(self._troubles.values()), None)

    def failed(self, part: str, error: Exception) -> None:
        """A part could not do what it was asked for."""
        if is_damage(error):
            self.damaged(f"is damaged ({error})")
        elif part != LISTING or isinstance(error, sqlite3.OperationalError):
            self._begin()
            self._failed[part] = self._clock()
            self._troubles[part] = f"{self._path}: {part} fails: {' '.join(str(error).split())}"
            self._judge()

    def worked(self, part: str) -> None:
        """A part has done what it was asked for. Costs nothing while there is no trouble."""
        if part in self._troubles and self._clock() - self._failed[part] >= CALM:
            del self._troubles[part]
            self._judge()

    def damaged(self, what: str, then: str = SAVE) -> None:
        """The file is damaged; the first finding is the one that is told. `then`: what is to be done."""
        if self.damage is None:
            self._begin()
            self.damage = f"{self._path} {what}: no new mail is taken; {then}"
            self._said = float("-inf")  # what was said before was less
            self._judge()

    def remind(self) -> None:
        """Say it again, when it is time to."""
        now, fault = self._clock(), self.fault
        if fault is not None and now - self._said >= SAY_AGAIN:
            self._said = now
            self._say(f"{fault}; for {now - self._since:.0f} s now" if now - self._since >= 1 else fault)

    def _begin(self) -> None:
        if self.fault is None:
            self._since, self._said = self._clock(), float("-inf")

    def _judge(self) -> None:
        self.refuses = self.damage or self._troubles.get(READING)
        if self.fault is None:
            self._say(f"{self._path} works again, after {self._clock() - self._since:.0f} s")
        else:
            self.remind()


def is_damage(error: Exception) -> bool:
    """Whether SQLite says that the file is not what it should be."""
    if not isinstance(error, sqlite3.Error):
        return False
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE or str(error).startswith(_MISSING)
