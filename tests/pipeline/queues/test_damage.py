"""The embedded queue when its file is damaged, gone, locked or odd: it is said, and no mail is taken in vain (K11)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pipeline.queues.contract import QueueUnavailable, Retry, Settlement
from pipeline.queues.embedded import file as stores
from pipeline.queues.embedded.damage import condition as conditions
from pipeline.queues.embedded.damage import wal
from pipeline.queues.embedded.damage.condition import Condition
from pipeline.queues.embedded.embedded import EmbeddedQueue
from tests.pipeline.queues.desk import Clock, Desk, bodies, inside, park, until
from tests.pipeline.queues.test_recover import fill
from tests.support.wreck import WAYS, pages, spoil

LEAF = 0x0D


@asynccontextmanager
async def opened(path: Path, clock: Clock, said: list[str]) -> AsyncIterator[Desk]:
    queue = EmbeddedQueue(path, clock=clock, poll=0.01, report=lambda kind, text: said.append(text))
    await queue.start()
    yield Desk(queue, clock)
    await queue.close()


async def refuses(desk: Desk) -> str:
    """The line with which new mail is turned away."""
    with pytest.raises(QueueUnavailable) as refused:
        await desk.publish(b"new")
    return str(refused.value)


@pytest.mark.parametrize("way", sorted(set(WAYS) - {"header", "first page"}))
async def test_damage_is_seen_at_the_start(tmp_path: Path, clock: Clock, way: str) -> None:
    """K11: whatever page it is, also where no message has met it yet."""
    fill(tmp_path / "q")
    WAYS[way](tmp_path / "q")
    said: list[str] = []
    try:
        async with opened(tmp_path / "q", clock, said) as desk:
            await until(lambda: desk.queue.fault is not None)
            assert "mailrace queue recover" in await refuses(desk)
            assert said[0] == desk.queue.fault
    except QueueUnavailable as error:  # it is seen when it is opened
        assert "mailrace queue recover" in str(error)


@pytest.mark.parametrize("way", ["header", "first page"])
async def test_a_file_that_cannot_be_opened_says_what_to_do(tmp_path: Path, way: str) -> None:
    """K11: one line, with the way out."""
    fill(tmp_path / "q")
    WAYS[way](tmp_path / "q")
    with pytest.raises(QueueUnavailable, match="mailrace queue recover"):
        await EmbeddedQueue(tmp_path / "q").start()


async def test_damage_is_seen_when_it_is_read(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """K11: without a check of the whole file; parked mail that cannot be called in is not passed over in silence."""
    monkeypatch.setattr(EmbeddedQueue, "_check_now_and_then", lambda self: None)
    fill(tmp_path / "q")
    spoil(tmp_path / "q", *pages(tmp_path / "q", LEAF)[2:5])
    said: list[str] = []
    async with opened(tmp_path / "q", clock, said) as desk:
        desk.consume(2000)
        await until(lambda: desk.queue.fault is not None)
        await refuses(desk)


async def test_what_happens_to_the_file_from_outside_is_seen(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K11: deleted, replaced, header overwritten, log deleted: SQLite itself would go on as if nothing had happened."""
    monkeypatch.setattr(EmbeddedQueue, "_check_now_and_then", lambda self: None)

    def replace(path: Path) -> None:
        (path.parent / "other").write_bytes(path.read_bytes())
        (path.parent / "other").rename(path)

    ways = {
        "was deleted": Path.unlink,
        "was moved away": lambda path: path.rename(path.with_name("moved")),
        "was replaced": replace,
        "has lost its header": lambda path: spoil(path, 1, content=bytes(16)),
        "has lost its write-ahead log": lambda path: path.with_name("q-wal").unlink(),
    }
    for number, (word, act) in enumerate(ways.items()):
        path, said = tmp_path / str(number) / "q", list[str]()
        async with opened(path, clock, said) as desk:
            await desk.publish(b"before")
            act(path)
            await until(lambda desk=desk: desk.queue.fault is not None)  # type: ignore[misc]
            assert word in (desk.queue.fault or "")
            assert word in await refuses(desk)
            if word != "has lost its header":
                desk.consume()
                [lease] = await desk.next()
                assert lease.body == b"before"  # what is here is sent on


@pytest.mark.parametrize("replaced", [False, True])
async def test_what_a_deleted_file_held_is_saved_at_the_end(tmp_path: Path, clock: Clock, replaced: bool) -> None:
    """K11: under its own name where that is free, beside it otherwise."""
    said: list[str] = []
    async with opened(tmp_path / "q", clock, said) as desk:
        await desk.publish(*bodies(20))
        (tmp_path / "q").unlink()
        if replaced:
            (tmp_path / "q").write_bytes(b"")
        await until(lambda: desk.queue.fault is not None)
        assert "stop Mailrace, which saves" in (desk.queue.fault or "")
    saved = Path(said[-1].rpartition(" ")[2]) if replaced else tmp_path / "q"
    assert str(saved) in said[-1]
    assert saved.stat().st_mode & 0o077 == 0
    async with opened(saved, clock, said) as desk:
        assert (await desk.queue.figures()).ready == 20


async def test_a_disk_that_becomes_read_only_is_said_and_over(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K11: SQLITE_READONLY: it is tried again without any mail, so that it is over when it is over."""
    monkeypatch.setattr(conditions, "CALM", 0.2)
    async with opened(tmp_path / "q", clock, []) as desk:
        assert isinstance(desk.queue, EmbeddedQueue)
        await inside(desk, "PRAGMA query_only = 1")
        assert "readonly" in await refuses(desk)
        await until(lambda: "readonly" in (desk.queue.fault or ""))
        await asyncio.sleep(0.5)
        assert "readonly" in (desk.queue.fault or "")
        await inside(desk, "PRAGMA query_only = 0")
        await until(lambda: desk.queue.fault is None)
        await desk.publish(b"m")


async def test_a_lost_log_loses_no_message(tmp_path: Path, clock: Clock) -> None:
    """K11: what only the deleted log held is in the file after a kill, too."""
    async with opened(tmp_path / "q", clock, []) as desk:
        await desk.publish(*bodies(50))
        (tmp_path / "q-wal").unlink()
        await until(lambda: desk.queue.fault is not None)
        kept = (tmp_path / "q").read_bytes()
    (tmp_path / "killed").write_bytes(kept)
    async with opened(tmp_path / "killed", clock, []) as desk:
        assert (await desk.queue.figures()).ready == 50


async def test_a_lock_of_another_process_is_said_and_over(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K11: SQLITE_BUSY turns mail away with 451, stands in the faults, and does not last longer than the lock."""
    monkeypatch.setattr(stores, "PATIENCE", 0.05)
    monkeypatch.setattr(conditions, "CALM", 0.2)
    said: list[str] = []
    async with opened(tmp_path / "q", clock, said) as desk:
        lock = sqlite3.connect(tmp_path / "q", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        assert "locked" in await refuses(desk)
        await until(lambda: "locked" in (desk.queue.fault or ""))
        lock.execute("ROLLBACK")
        lock.close()
        await until(lambda: desk.queue.fault is None)
        await desk.publish(b"m")
        assert [line for line in said if "works again" in line]


async def test_a_thread_that_does_not_answer_is_said(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K11: a disk that hangs raises no error."""
    monkeypatch.setattr("pipeline.queues.embedded.embedded.STUCK", 0.05)
    monkeypatch.setattr(conditions, "CALM", 0.2)
    gate = asyncio.Event()
    async with opened(tmp_path / "q", clock, []) as desk:
        assert isinstance(desk.queue, EmbeddedQueue)
        loop = asyncio.get_running_loop()
        held = asyncio.run_coroutine_threadsafe
        desk.queue._reader.post(lambda store: held(gate.wait(), loop).result(), lambda result, error: None)
        await until(lambda: "reading fails: no answer" in (desk.queue.fault or ""))
        await refuses(desk)
        gate.set()
        await until(lambda: desk.queue.fault is None)


ODD = {
    "text for a body": "body = CAST(body AS TEXT)",
    "umlauts as text": 'body = \'{"n":"äöü"}\'',
    "a number for a body": "body = 7",
    "no JSON": "body = x'ff00'",
    "text for a time": "due = 'soon'",
    "a time that never comes": "due = 9e999",
    "a negative time": "due = -1.0",
    "text for queued": "queued = 'then'",
    "endless queued": "queued = 9e999",
    "a lane that is no text": "lane = x'ff'",
    "text for expires": "lane = 'x', expires = 'never'",
    "results that are no objects": """body = CAST('{"recipient":"a@b","results":["x"]}' AS BLOB)""",
}


@pytest.mark.parametrize("odd", sorted(ODD))
async def test_an_odd_row_holds_up_nothing(tmp_path: Path, clock: Clock, odd: str) -> None:
    """K11, K9: a column of another type, by a foreign hand or a changed bit, costs that message at most its time."""
    async with opened(tmp_path / "q", clock, []) as desk:
        await desk.publish(*bodies(5))
    db = sqlite3.connect(tmp_path / "q")
    db.execute(f"UPDATE messages SET {ODD[odd]} WHERE id = 3")
    db.commit()
    db.close()
    async with opened(tmp_path / "q", clock, []) as desk:
        assert isinstance(desk.queue, EmbeddedQueue)
        assert len((await desk.queue.browse()).messages) == 5
        desk.consume()
        await desk.lent(4)
        assert [lease.body for lease in desk.leases if lease.id != 3] == [b'{"n":%d}' % n for n in (0, 1, 3, 4)]
        if "lane" not in ODD[odd]:
            await desk.lent(5)
        for lease in list(desk.leases):
            await desk.settle(lease)
        desk.leases.clear()
        await until(lambda: desk.queue.fault is None)
        await desk.publish(b"after")
        await desk.next()


async def test_counters_that_are_wrong_are_worked_out_anew(tmp_path: Path, clock: Clock) -> None:
    """K11: a lane whose count is lost would never be called in."""
    async with opened(tmp_path / "q", clock, []) as desk:
        desk.consume()
        await park(desk, *bodies(3))
    db = sqlite3.connect(tmp_path / "q")
    db.execute("DELETE FROM counts")
    db.commit()
    db.close()
    async with opened(tmp_path / "q", clock, []) as desk:
        await until(lambda: sum(desk.queue.parked().values()) == 3)


async def test_what_is_retried_by_hand_is_not_written_again(tmp_path: Path, clock: Clock) -> None:
    """S4: a large message made ready costs a page of the log, not its size, so that it goes on a full disk too."""
    async with opened(tmp_path / "q", clock, []) as desk:
        assert isinstance(desk.queue, EmbeddedQueue)
        desk.consume()
        await desk.publish(b'{"mime":"%s"}' % (b"x" * 3_000_000))
        [lease] = await desk.next()
        await desk.settle(lease, Settlement(then=Retry(lease.body, clock.now + 3600.5)))
        await inside(desk, lambda store: store.fold())
        assert await desk.queue.change("retry", [lease.id]) == 1
        assert (tmp_path / "q-wal").stat().st_size < 100_000
        [again] = await desk.next()
        assert again.timely and again.body == lease.body


async def test_many_large_messages_are_changed_in_small_transactions(embedded_desk: Desk) -> None:
    """S4: publishers get their turn, and the log does not grow by all of it."""
    queue = embedded_desk.queue
    assert isinstance(queue, EmbeddedQueue)
    embedded_desk.consume(20)
    await park(embedded_desk, *[b"%d" % n + b"x" * 500_000 for n in range(20)])
    ids = [message.id for message in (await queue.browse()).messages]
    assert await queue.change("release", ids) == 20
    assert len(await embedded_desk.next(20)) == 20


def test_a_fault_is_said_once_a_minute_and_when_it_is_over() -> None:
    """K11: loudly, and not a thousand times a second."""
    now, said = [0.0], list[str]()
    condition = Condition(Path("/q"), said.append, lambda: now[0])
    for second in range(200):
        now[0] = float(second)
        condition.failed("writing", sqlite3.OperationalError("disk I/O error"))
        condition.remind()
    assert len(said) == 4
    now[0] += 10
    condition.worked("writing")
    condition.worked("writing")
    assert len(said) == 5
    assert "works again" in said[-1]


def killed(folder: Path) -> Path:
    """A file as a kill leaves it, with three transactions in its log."""
    store = stores.Store(folder / "origin", writes=True)
    store.fold()
    for number in range(3):
        work = stores.Work()
        work.add("outbox", b"%d" % number, 0.0, 1.8e9)
        store.write(work)
    for end in ("", "-wal"):
        (folder / f"q{end}").write_bytes((folder / f"origin{end}").read_bytes())
    store.close()
    return folder / "q"


@pytest.mark.parametrize(("place", "word"), [(0, "its header"), (32 + 24 + 100, "3 of its transactions"), (None, None)])
def test_a_log_that_was_damaged_after_a_kill_is_said(tmp_path: Path, place: int | None, word: str | None) -> None:
    """K11: SQLite ends at the first frame that it cannot read, and what was confirmed after it is gone in silence."""
    path = killed(tmp_path)
    log = tmp_path / "q-wal"
    if place is not None:
        data = bytearray(log.read_bytes())
        data[place : place + 8] = b"\xff" * 8
        log.write_bytes(data)
    said = wal.damage(path)
    assert (said is None) if word is None else (word in str(said))
    assert len(list(tmp_path.glob("q-wal.damaged-*"))) == (word is not None)


def test_half_a_transaction_of_a_kill_is_nothing_to_tell(tmp_path: Path) -> None:
    """K11: it was never confirmed."""
    path = killed(tmp_path)
    log = tmp_path / "q-wal"
    log.write_bytes(log.read_bytes()[:-100])
    assert wal.damage(path) is None
