"""Opening one SQLite file at the same moment."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from settings.sqlite import write_ahead


def opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)


def test_who_comes_while_another_has_the_file_waits(tmp_path: Path) -> None:
    """The journal is changed as soon as the other is done; its own busy time-out does not see to that."""
    other, mine = opened(tmp_path / "x.db"), opened(tmp_path / "x.db")
    other.execute("CREATE TABLE t(n)")
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.05, lambda: other.execute("COMMIT"))
    timer.start()
    write_ahead(mine, 60.0)
    timer.join()
    assert mine.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_wait_is_bounded(tmp_path: Path) -> None:
    """Where the other does not end, the error is said."""
    other, mine = opened(tmp_path / "x.db"), opened(tmp_path / "x.db")
    other.execute("CREATE TABLE t(n)")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        write_ahead(mine, 0.0)
