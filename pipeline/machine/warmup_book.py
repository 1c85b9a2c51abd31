"""The book of warm-ups: a SQLite file in `data-dir`, which all workers of an instance write to.

What is written survives `kill -9` of any of them, since the system has it. A failure of power may lose what was not
yet on the disk: so each day is stored with a reserve of BLOCK messages that is synced before the first of them leaves,
and after a start of the machine (its boot id is another) the whole reserve counts as used: never more than the cap.
Bound: KEPT days of each MTA IP and destination.
"""

# ruff: noqa: S608 - SQL is put together from fixed clauses; every value is a parameter.

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from operators.lanes.warming import WarmupDay, WarmupUnavailable
from settings.sqlite import write_ahead

FILE = "warm-up.db"
PATIENCE = 1.0  # seconds that another process may keep the file
BLOCK = 64  # messages
KEPT = 400
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
COLUMNS = ("ip", "destination", "date", "day", "cap", "sent", "attempts", "deferred", "failed", "held", "started")
MAKE = """
CREATE TABLE IF NOT EXISTS days (
    ip TEXT NOT NULL, destination TEXT NOT NULL, date TEXT NOT NULL, day INTEGER NOT NULL, cap INTEGER NOT NULL,
    sent INTEGER NOT NULL, attempts INTEGER NOT NULL, deferred INTEGER NOT NULL, failed INTEGER NOT NULL,
    held INTEGER NOT NULL, started REAL NOT NULL, reserved INTEGER NOT NULL DEFAULT 0, told INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (ip, destination, date)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS boot (id TEXT NOT NULL);
"""
WHERE = "WHERE ip = ? AND destination = ? AND date = ?"
Key = tuple[str, str, str]


class WarmupFile:
    """The book in a file. Every call is one short transaction; about 20 us for a message.

    Args:
        path: of the file; None: in memory, where nothing survives.
        boot: what tells one start of the machine from another.
    """

    def __init__(self, path: Path | None, boot: str | None = None) -> None:
        self._path, self._boot = path, boot_id() if boot is None else boot
        self._opened: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file; it is opened again where it is needed."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    # -- messages ---------------------------------------------------------------------------------------------------

    def take(self, day: WarmupDay) -> bool:
        """Count a message; False where the cap is reached."""
        with self._errors() as file:
            found = file.execute(
                f"UPDATE days SET sent = sent + 1 {WHERE} AND (cap = 0 OR sent < cap) AND sent < reserved", _key(day)
            ).rowcount
            return bool(found) or self._reserve(file, day)

    def _reserve(self, file: sqlite3.Connection, day: WarmupDay) -> bool:
        """Take the first message of another block, once the block is on the disk."""
        file.execute("PRAGMA synchronous = FULL")
        try:
            taken = file.execute(
                f"UPDATE days SET reserved = MAX(reserved, sent + {BLOCK}), sent = sent + 1 {WHERE}"
                " AND (cap = 0 OR sent < cap)",
                _key(day),
            ).rowcount
        finally:
            file.execute("PRAGMA synchronous = OFF")
        return bool(taken)

    def give_back(self, day: WarmupDay) -> None:
        """It has not left."""
        with self._errors() as file:
            file.execute(f"UPDATE days SET sent = MAX(0, sent - 1) {WHERE}", _key(day))

    def ended(self, day: WarmupDay, attempts: int, deferred: int, failed: int) -> None:
        """Count attempts that have ended."""
        with self._errors() as file:
            file.execute(
                f"UPDATE days SET attempts = attempts + ?, deferred = deferred + ?, failed = failed + ? {WHERE}",
                (attempts, deferred, failed, *_key(day)),
            )

    # -- days -------------------------------------------------------------------------------------------------------

    def last(self, ip: str, destination: str) -> WarmupDay | None:
        """The newest day."""
        found = self.days(ip, destination, 1)
        return found[0] if found else None

    def days(self, ip: str, destination: str, most: int = KEPT) -> list[WarmupDay]:
        """The days of an MTA IP and a destination, newest first."""
        with self._errors() as file:
            rows = file.execute(
                f"SELECT {', '.join(COLUMNS)} FROM days WHERE ip = ? AND destination = ? ORDER BY date DESC LIMIT ?",
                (ip, destination, most),
            ).fetchall()
        return [_day(row) for row in rows]

    def begin(self, day: WarmupDay) -> WarmupDay:
        """Store a new day; where another worker was first, what it has stored."""
        values = [getattr(day, name) for name in COLUMNS]
        with self._errors() as file:
            file.execute(
                f"INSERT OR IGNORE INTO days ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})", values
            )
            file.execute(
                "DELETE FROM days WHERE ip = ? AND destination = ? AND date <= (SELECT date FROM days"
                " WHERE ip = ? AND destination = ? ORDER BY date DESC LIMIT 1 OFFSET ?)",
                (day.ip, day.destination, day.ip, day.destination, KEPT),
            )
        return self.last(day.ip, day.destination) or day

    def put(self, day: WarmupDay, before: WarmupDay) -> bool:
        """Change day, cap, held and started of a stored day; False where somebody else has changed them meanwhile."""
        with self._errors() as file:
            changed = file.execute(
                f"UPDATE days SET day = ?, cap = ?, held = ?, started = ? {WHERE} AND day = ? AND held = ?",
                (day.day, day.cap, day.held, day.started, *_key(day), before.day, before.held),
            )
            return bool(changed.rowcount)

    def told(self, day: WarmupDay) -> bool:
        """Whether this is the first to tell that a day is over its shares."""
        with self._errors() as file:
            return bool(file.execute(f"UPDATE days SET told = 1 {WHERE} AND told = 0", _key(day)).rowcount)

    # -- the file ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _errors(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._opened is None:
                self._opened = self._open()
            yield self._opened
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise WarmupUnavailable(f"the book of warm-ups, {self._path}: {error}") from None

    def _open(self) -> sqlite3.Connection:
        if self._path is not None:
            self._path.touch(mode=0o600)
        file = sqlite3.connect(self._path or ":memory:", timeout=PATIENCE, isolation_level=None)
        try:
            write_ahead(file, PATIENCE)
            file.execute("PRAGMA synchronous = FULL")
            file.executescript(MAKE)
            self._booted(file)
            file.execute("PRAGMA synchronous = OFF")
        except BaseException:
            file.close()
            raise
        return file

    def _booted(self, file: sqlite3.Connection) -> None:
        """After a start of the machine what was reserved counts as used: some of it may have left."""
        file.execute("BEGIN IMMEDIATE")
        with file:
            before = file.execute("SELECT id FROM boot").fetchone()
            if before is None or before[0] != self._boot:
                file.execute("UPDATE days SET sent = MAX(sent, reserved)")
                file.execute("DELETE FROM boot")
                file.execute("INSERT INTO boot VALUES (?)", (self._boot,))


def boot_id() -> str:
    """What tells one start of the machine from another; empty where the system does not say."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _key(day: WarmupDay) -> Key:
    return day.ip, day.destination, day.date


def _day(row: tuple[Any, ...]) -> WarmupDay:
    values = dict(zip(COLUMNS, row, strict=True))
    return WarmupDay(**{**values, "held": bool(values["held"])})
