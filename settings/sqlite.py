"""What SQLite needs beyond its own time-out, wherever the program opens a file of it."""

from __future__ import annotations

import sqlite3
import time

PAUSE = 0.01  # seconds between two tries


def write_ahead(connection: sqlite3.Connection, patience: float) -> None:
    """Have the file keep a write-ahead log, waiting so many seconds for others that open it at the same moment.

    The change of the journal does not wait by itself: of two that both begin to read and then want to write, SQLite
    refuses one at once, whatever the busy time-out is (sqlite.org/c3ref/busy_handler.html).

    Raises:
        sqlite3.Error: it cannot be done, or others had the file for all this time.
    """
    end = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
            return
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= end:
                raise
        time.sleep(PAUSE)
