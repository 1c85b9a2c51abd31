"""What is saved of a damaged queue file, and that it can be done again (K11)."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from pipeline.queues.contract import QueueUnavailable
from pipeline.queues.embedded.damage import recover as recovering
from pipeline.queues.embedded.damage.check import check
from pipeline.queues.embedded.damage.recover import recover
from pipeline.queues.embedded.file import Store, Work
from tests.support.wreck import WAYS, spoil

LANE = "127.0.0.1/example.com"
COUNT = 1500
Rows = dict[int, tuple[str, str, float, bytes]]


def fill(path: Path, close: bool = True) -> tuple[Store, Rows]:
    """A file with messages of all sizes and states, and with free pages that still hold those that are gone."""
    store, dice, rows = Store(path, writes=True), random.Random(1), {}
    for start in range(0, COUNT, 100):
        work = Work()
        for number in range(start, start + 100):
            body = b'{"n":%d,"mime":"%s"}' % (number, b"x" * dice.choice((10, 300, 3_000, 20_000)))
            queue, due = ("outbox", "results")[number % 7 == 0], (0.0, 0.0, 2e9 + number + 0.5)[number % 3]
            work.add(queue, body, due, 1.8e9)
            rows[number + 1] = (queue, "", due, body)
        store.write(work)
    work = Work()
    for id in range(1, COUNT, 5):
        work.done(id)
        del rows[id]
    for id in range(2, COUNT, 5):
        work.park(id, LANE, None)
        rows[id] = (rows[id][0], LANE, 0.0, rows[id][3])
    store.write(work)
    if close:
        store.close()
    return store, rows


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rows]:
    """Such a file, closed: a test spoils a copy of it."""
    path = tmp_path_factory.mktemp("filled") / "queue.db"
    return path, fill(path)[1]


def read(path: Path) -> Rows:
    """All rows of a file that is in order."""
    assert check(path).damage is None
    db = sqlite3.connect(path)
    try:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert (
            db.execute("SELECT sum(n) FROM counts").fetchone() == db.execute("SELECT count(*) FROM messages").fetchone()
        )
        return {id: rest for id, *rest in db.execute("SELECT id, queue, lane, due, body FROM messages")}  # type: ignore[misc]
    finally:
        db.close()


@pytest.mark.parametrize("way", sorted(WAYS))
def test_what_can_be_read_is_saved_whatever_page_is_damaged(
    tmp_path: Path, filled: tuple[Path, Rows], way: str
) -> None:
    """K11: damage of one page costs what is on that page, and nothing that was sent comes back."""
    path = tmp_path / "queue.db"
    origin, rows = filled
    shutil.copytree(origin.parent, path.parent, dirs_exist_ok=True)
    WAYS[way](path)
    assert check(path).damage
    done = recover(path, lambda: 1.8e9)
    saved = read(path)
    assert done.messages == len(saved)
    assert set(saved) <= set(rows)
    lost = set(rows) - set(saved)
    assert (
        lost == set() if way not in ("leaf", "empty leaf", "cut off", "flipped bits") else len(lost) < len(rows) * 0.6
    )
    assert set(done.missing) <= lost
    if way in ("leaf", "empty leaf"):
        assert set(done.missing) == lost
    if way != "flipped bits":
        assert all(tuple(saved[id]) == rows[id] for id in saved)
    assert done.aside == tmp_path / "queue.db.damaged-20270115-080000"
    assert done.aside.exists()
    assert recover(path).damage is None


def test_a_file_that_is_in_order_is_left_alone(tmp_path: Path, filled: tuple[Path, Rows]) -> None:
    """K11: it is safe to try."""
    path = tmp_path / "queue.db"
    origin, rows = filled
    shutil.copytree(origin.parent, path.parent, dirs_exist_ok=True)
    before = path.read_bytes()
    assert recover(path).damage is None
    assert path.read_bytes() == before
    assert len(read(path)) == len(rows)


def test_the_write_ahead_log_of_a_kill_is_read_too(tmp_path: Path) -> None:
    """K11: what was confirmed last is in the log only; where the file's header is gone SQLite does not look at it."""
    store, rows = fill(tmp_path / "origin", close=False)
    path = tmp_path / "queue.db"
    shutil.copy(tmp_path / "origin", path)
    shutil.copy(tmp_path / "origin-wal", tmp_path / "queue.db-wal")
    store.close()
    (tmp_path / "queue.db-wal").open("ab").write(b"half a frame")
    newest = tmp_path / "queue.db-wal"
    data = newest.read_bytes()
    spoil(path, 1)
    wreck = recovering.Wreck(path)
    found = {row.id: row.body for row in wreck.messages()}
    wreck.close()
    assert newest.read_bytes() == data
    assert found == {id: row[3] for id, row in rows.items()}


def test_a_kill_between_two_steps_is_taken_up(tmp_path: Path, filled: tuple[Path, Rows]) -> None:
    """K11: the new file is whole, the damaged one aside, and its log still there, which is for no other file."""
    path = tmp_path / "queue.db"
    origin, rows = filled
    shutil.copytree(origin.parent, path.parent, dirs_exist_ok=True)
    path.rename(tmp_path / "queue.db.recovered")
    (tmp_path / "queue.db-wal").write_bytes(b"of the damaged file")
    assert recover(path).damage is None
    assert len(read(path)) == len(rows)
    assert (tmp_path / "queue.db.damaged-wal").exists()


def test_a_file_that_others_write_to_is_left_alone(
    tmp_path: Path, filled: tuple[Path, Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    """K11: a message that is queued meanwhile must not be lost."""
    path = tmp_path / "queue.db"
    shutil.copytree(filled[0].parent, path.parent, dirs_exist_ok=True)
    WAYS["leaf"](path)
    states = iter(range(100))
    monkeypatch.setattr(recovering, "_state", lambda path: next(states))
    with pytest.raises(QueueUnavailable, match="in use"):
        recover(path)
    assert check(path).damage


def test_what_is_no_queue_is_one_line(tmp_path: Path) -> None:
    """K11."""
    with pytest.raises(QueueUnavailable, match="there is no queue"):
        recover(tmp_path / "queue.db")
