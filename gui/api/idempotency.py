"""Idempotency keys: a request that is sent again with its `Idempotency-Key` is answered again, and queued once.

Owner of: the file `api-idempotency.db` in `data-dir`, mode 600: for each key its request's digest, and the answer once
there is one, for LASTS seconds, also over a restart. The key is written before the queue is asked, and the answer
before it is sent: where the program ended between the two, nobody knows whether the messages are queued, and the answer
says so rather than send them twice. Bounds: MOST keys and ROOM octets of answers; what does not fit is refused. All
work is done in one thread. A request that failed leaves no key, so that it can be sent again.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import structlog

from gui.api.answers import Problem

LASTS = 86_400.0
MOST = 100_000
ROOM = 64_000_000
LONGEST = 255  # characters of a key
FILE = "api-idempotency.db"
T = TypeVar("T")
log = structlog.get_logger("console")


class Idempotency:
    """The keys of this instance."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = folder / FILE, clock
        self._thread = ThreadPoolExecutor(1, "idempotency")
        self._database: sqlite3.Connection | None = None
        self._working: set[str] = set()

    async def once(
        self, holder: str, key: str, request: bytes, do: Callable[[], Awaitable[bytes]]
    ) -> tuple[bytes, bool]:
        """The answer to this request, and whether it is that of an earlier one.

        Args:
            holder: whose key it is.
            request: what was asked, in one form.
            do: does it; what it raises is raised, and leaves no key.

        Raises:
            Problem: the key cannot be used, is in use, or was used for another request.
        """
        if not 0 < len(key) <= LONGEST or not key.isascii() or not key.isprintable():
            raise Problem(422, f"Idempotency-Key: allowed are 1 to {LONGEST} printable ASCII characters.")
        name = _digest(holder.encode() + b"\0" + key.encode())
        if name in self._working:
            raise Problem(409, "A request with this Idempotency-Key is being worked on.", headers={"Retry-After": "1"})
        self._working.add(name)
        try:
            return await self._once(name, _digest(request), do)
        finally:
            self._working.discard(name)

    async def _once(self, name: str, digest: str, do: Callable[[], Awaitable[bytes]]) -> tuple[bytes, bool]:
        found = await self._work(lambda: self._begin(name, digest))
        if found is not None:
            return _earlier(found, digest), True
        try:
            answer = await do()
        except Exception:
            await self._work(lambda: self._forget(name))
            raise
        await self._work(lambda: self._answer(name, answer))
        return answer, False

    # -- in the thread ------------------------------------------------------------------------------------------------

    async def _work(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (OSError, sqlite3.Error) as error:
            log.error("idempotency keys cannot be kept", file=str(self._path), why=str(error))
            raise Problem(503, "Idempotency keys cannot be kept now; the program log says why.") from None

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            database.execute("PRAGMA journal_mode=TRUNCATE")
            database.execute(
                "CREATE TABLE IF NOT EXISTS keys (name TEXT PRIMARY KEY, request TEXT, time REAL, answer BLOB)"
            )
            database.execute("CREATE INDEX IF NOT EXISTS keys_time ON keys (time)")
            self._database = database
        return self._database

    def _begin(self, name: str, digest: str) -> tuple[str, bytes | None] | None:
        """What is known of a key; None where it is new, and now begun."""
        database, now = self._open(), self._clock()
        database.execute("DELETE FROM keys WHERE time < ?", (now - LASTS,))
        row: tuple[str, bytes | None] | None = database.execute(
            "SELECT request, answer FROM keys WHERE name = ?", (name,)
        ).fetchone()
        if row is not None:
            return row
        count, octets = database.execute("SELECT count(*), total(length(answer)) FROM keys").fetchone()
        if count >= MOST or octets >= ROOM:
            raise Problem(503, f"There are {count} idempotency keys of the last day already; send without one.")
        database.execute("INSERT INTO keys VALUES (?, ?, ?, NULL)", (name, digest, now))
        return None

    def _answer(self, name: str, answer: bytes) -> None:
        self._open().execute("UPDATE keys SET answer = ? WHERE name = ?", (answer, name))

    def _forget(self, name: str) -> None:
        self._open().execute("DELETE FROM keys WHERE name = ?", (name,))


def _earlier(found: tuple[str, bytes | None], digest: str) -> bytes:
    request, answer = found
    if request != digest:
        raise Problem(422, "This Idempotency-Key was used for another request in the last day.")
    if answer is None:
        raise Problem(409, "A request with this key was begun, and how it ended is not known: look for its messages.")
    return answer


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
