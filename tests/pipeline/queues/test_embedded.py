"""The embedded queue's own rules: its file, other processes, a full disk, a kill."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pipeline.queues.contract import Park, QueueFull, QueueUnavailable, Retry, Settlement
from pipeline.queues.embedded import file, lending, space
from pipeline.queues.embedded.embedded import EmbeddedQueue
from pipeline.queues.listing import Filter
from tests.pipeline.queues.desk import Clock, Desk, confirmation, inside, until

LANE = "127.0.0.1/example.com"
PUBLISHER = Path(__file__).with_name("publisher.py")
ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def opened(path: Path, clock: Clock) -> AsyncIterator[Desk]:
    queue = EmbeddedQueue(path, clock=clock, poll=0.01)
    await queue.start()
    yield Desk(queue, clock)
    await queue.close()


def embedded(desk: Desk) -> EmbeddedQueue:
    assert isinstance(desk.queue, EmbeddedQueue)
    return desk.queue


async def refusal(path: Path) -> str:
    """The line with which a start is refused."""
    with pytest.raises(QueueUnavailable) as refused:
        await EmbeddedQueue(path).start()
    assert "\n" not in str(refused.value)
    return str(refused.value)


# Large bodies


async def test_large_bodies_are_lent_as_they_were_published(tmp_path: Path, clock: Clock) -> None:
    """K12: from memory and from the file, among small ones, on either side of the edge, in order and to the octet."""
    sent = [b"small", bytes(range(256)) * (file.LARGE // 256), b"a" * (file.LARGE - 1), b"", b"\xff\0\r\n" * 800_001]
    async with opened(tmp_path / "q", clock) as desk:
        await desk.publish(*sent)
        desk.consume(10)
        assert [lease.body for lease in await desk.next(5)] == sent
    async with opened(tmp_path / "q", clock) as desk:
        desk.consume(10)
        leases = await desk.next(5)
        assert [lease.body for lease in leases] == sent
        for lease in leases:
            await desk.settle(lease, Settlement())
        assert (await desk.queue.figures()).ready == 0


def test_large_bodies_are_written_all_or_none(tmp_path: Path) -> None:
    """A group with a large body whose writing fails leaves nothing of itself, and the next one goes in."""
    store = file.Store(tmp_path / "q", writes=True)
    work = file.Work()
    work.add("outbox", b"small", 0.0, 1.0)
    work.add("outbox", b"x" * file.LARGE, 0.0, 1.0)
    work.large.append((7, b"of no message"))
    with pytest.raises(sqlite3.Error):
        store.write(work)
    assert store.counts() == []
    del work.large[1:]
    first = store.write(work)
    assert [len(row.body) for row in store.take([first, first + 1]).values()] == [5, file.LARGE]
    store.close()


def test_a_large_body_of_another_type_is_read_too(tmp_path: Path) -> None:
    """What a foreign hand has put into the column as text is lent as octets."""
    store = file.Store(tmp_path / "q", writes=True)
    store.change("INSERT INTO messages(queue, queued, body) VALUES('outbox', 1, ?)", "\u00fc" * file.LARGE)
    assert store.take([1])[1].body == ("\u00fc" * file.LARGE).encode()
    store.close()


# What lasts


async def test_everything_is_there_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    """What waits, what is parked, and what was lent; in order."""
    async with opened(tmp_path / "q", clock) as desk:
        desk.consume(4)
        await desk.publish(b"lent", b"waits", b"parked", b"given back", b"ready")
        _, waits, parked, back = await desk.next(4)
        await desk.settle(waits, Settlement(then=Retry(b"waited", clock.now + 60)))
        await desk.settle(parked, Settlement(then=Park(LANE)))
        await desk.settle(back, Settlement(give_back=True))
    async with opened(tmp_path / "q", clock) as desk:
        assert dict(desk.queue.parked()) == {LANE: 1}
        desk.consume(10)
        assert [lease.body for lease in await desk.next(3)] == [b"lent", b"given back", b"ready"]
        desk.queue.recall(LANE, 1)
        assert [lease.body for lease in await desk.next()] == [b"parked"]
        clock.now += 61
        assert [lease.body for lease in await desk.next()] == [b"waited"]


@pytest.mark.system
async def test_every_confirmed_message_survives_a_kill(tmp_path: Path, clock: Clock) -> None:
    """SIGKILL at any moment: what was confirmed is there, and nothing is half there."""
    path = tmp_path / "q"
    for _ in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            PUBLISHER,
            path,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert process.stdout is not None
        confirmed = [await process.stdout.readline() for _ in range(200)]
        process.send_signal(signal.SIGKILL)
        confirmed += (await process.stdout.read()).splitlines(keepends=True)
        await process.wait()
        async with opened(path, clock) as desk:
            desk.consume(100_000)
            figures = await desk.queue.figures()
            leases = await desk.next(figures.ready + figures.unsettled)
            bodies = [int(lease.body) for lease in leases]
            assert {int(line) for line in confirmed if line.endswith(b"\n")} <= set(bodies)
            assert len(bodies) == len(set(bodies)) == figures.other["copies"]
            await embedded(desk).purge()
            await embedded(desk).purge("copies")


# Other processes


async def test_what_another_process_publishes_is_lent(tmp_path: Path, clock: Clock) -> None:
    """Also between our own messages, which then have other numbers."""
    async with opened(tmp_path / "q", clock) as server, opened(tmp_path / "q", clock) as command:
        server.consume(100)
        for n in range(10):
            await server.publish(b"ours %d" % n)
            await command.publish(b"theirs %d" % n)
        bodies = [lease.body for lease in await server.next(20)]
        assert [body for body in bodies if body.startswith(b"o")] == [b"ours %d" % n for n in range(10)]
        assert [body for body in bodies if body.startswith(b"t")] == [b"theirs %d" % n for n in range(10)]
        await server.nothing_more()


async def test_another_process_flushes(tmp_path: Path, clock: Clock) -> None:
    """What waited for its time is lent at once, and forgets the time it names itself."""
    async with opened(tmp_path / "q", clock) as server, opened(tmp_path / "q", clock) as command:
        server.consume(100)
        await server.publish(b'{"recipient":"a@b","nextattempt":{"time":"2099-01-01 00:00:00"}}', b"no json", delay=500)
        await server.publish(b"ready")
        await server.next(1)
        assert await embedded(command).flush() == 2
        flushed = await server.next(2)
        assert [lease.body[:17] for lease in flushed] == [b'{"recipient":"a@b', b"no json"]
        assert all(lease.timely for lease in flushed)
        assert (await server.queue.figures()).waiting == 0


async def test_another_process_purges(tmp_path: Path, clock: Clock) -> None:
    """A message that is lent at that moment settles quietly, and does not come back by its retry."""
    async with opened(tmp_path / "q", clock) as server, opened(tmp_path / "q", clock) as command:
        server.consume(2)
        await server.publish(*[b"%d" % n for n in range(1200)])
        done, tried = await server.next(2)
        await server.publish(b"kept", queue="results")
        assert await embedded(command).purge() == 1200
        await server.settle(done)
        await server.settle(tried, Settlement(then=Retry(b"again", clock.now), publish=[("results", b"copy")]))
        await server.nothing_more()
        figures = await server.queue.figures()
        assert (figures.ready, figures.waiting, figures.unsettled) == (0, 0, 0)
        assert figures.other == {"results": 2}


async def test_a_lane_is_purged_alone(embedded_desk: Desk) -> None:
    """The others' parked messages stay, and so does what is ready."""
    embedded_desk.consume(3)
    await embedded_desk.publish(b"a", b"b", b"c", b"ready")
    for lane, lease in zip((LANE, LANE, "other"), await embedded_desk.next(3), strict=True):
        await embedded_desk.settle(lease, Settlement(then=Park(lane)))
    assert await embedded(embedded_desk).purge(lane=LANE) == 2
    assert dict(embedded_desk.queue.parked()) == {"other": 1}
    await embedded_desk.lent(1)


async def test_only_one_process_consumes(tmp_path: Path, clock: Clock) -> None:
    """Two would send everything twice; when the first has left, the next may."""
    async with opened(tmp_path / "q", clock) as first, opened(tmp_path / "q", clock) as second:
        errors: list[Exception] = []
        first.consume()
        second.queue.consume(10).subscribe(on_error=errors.append)
        assert [type(error) for error in errors] == [QueueUnavailable]
        assert "another process consumes" in str(errors[0])
        assert first.subscription is not None
        first.subscription.dispose()
        second.consume()
        await second.publish(b"m")
        await second.next()


# Failures


async def test_a_full_disk_refuses_what_needs_room_and_nothing_else(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publishing fails whole and unstored, settling goes on, and when there is room again, so does publishing."""
    monkeypatch.setattr(space, "CALM", 0.0)
    async with opened(tmp_path / "q", clock) as desk:
        await desk.publish(*[bytes(20_000)] * 10)
        desk.consume(10)
        leases = await desk.next(10)
        [(pages,)] = await inside(desk, "PRAGMA page_count")
        await inside(desk, f"PRAGMA max_page_count = {pages}")
        calls = [desk.publish(bytes(20_000), bytes(20_000)) for _ in range(20)]
        results = await asyncio.gather(*calls, desk.settle(leases[0]), return_exceptions=True)
        assert {type(result) for result in results[:10]} == {QueueFull}
        assert "full" in str(results[0])
        assert results[-1] is None
        for lease in leases[1:]:
            await desk.settle(lease)
        await until(lambda: desk.queue.full is None)
        await desk.publish(bytes(20_000), b"fits")
        await until(lambda: desk.leases[-1].body == b"fits")


async def test_a_settlement_that_fails_leaves_the_message_lent(tmp_path: Path, clock: Clock) -> None:
    """It can be settled again, with less."""
    async with opened(tmp_path / "q", clock) as desk:
        await desk.publish(b"m")
        desk.consume(1)
        [lease] = await desk.next()
        await inside(desk, "PRAGMA max_page_count = 1")
        with pytest.raises(QueueUnavailable):
            await desk.settle(lease, Settlement(publish=[("results", bytes(100_000))]))
        assert desk.queue.free == 0
        await desk.settle(lease)
        assert desk.queue.free == 1
        assert (await desk.queue.figures()).other == {}


async def test_what_cannot_be_stored_fails_alone(embedded_desk: Desk) -> None:
    """A queue name that is no text spoils nobody else's message in the same group."""
    calls = [embedded_desk.publish(b"m", queue=name) for name in ("a", "\ud800", "b")]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), QueueUnavailable, type(None)]


async def test_after_the_end_everything_is_refused(tmp_path: Path, clock: Clock) -> None:
    """Each call has its answer, also when nobody can carry it out."""
    async with opened(tmp_path / "q", clock) as desk:
        await desk.publish(b"m")
    with pytest.raises(QueueUnavailable, match="not open"):
        await desk.publish(b"m")
    with pytest.raises(QueueUnavailable, match="not open"):
        await desk.queue.figures()


async def test_closing_confirms_what_is_under_way(tmp_path: Path, clock: Clock) -> None:
    """And stores it."""
    answers: list[Exception | None] = []
    async with opened(tmp_path / "q", clock) as desk:
        for _ in range(500):
            desk.queue.publish([("outbox", b"m")], answers.append)
    assert answers == [None] * 500
    async with opened(tmp_path / "q", clock) as desk:
        assert (await desk.queue.figures()).ready == 500


async def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    """The line names the file."""
    path = tmp_path / "q"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    line = await refusal(path)
    assert str(path) in line and "not a database" in line


async def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    """And so is its content."""
    path = tmp_path / "q"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE messages(id)")
    assert "not a Mailrace queue" in await refusal(path)
    assert other.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (1,)
    other.close()


async def test_a_newer_file_is_refused(tmp_path: Path, clock: Clock) -> None:
    """An older Mailrace would not know what is in it."""
    path = tmp_path / "q"
    async with opened(path, clock):
        pass
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    assert "newer Mailrace (version 99, known: 2)" in await refusal(path)


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """For instance since there is a file of that name."""
    (tmp_path / "data").write_text("")
    assert str(tmp_path / "data") in await refusal(tmp_path / "data" / "q")


async def test_only_the_owner_can_read_the_mail(tmp_path: Path, clock: Clock) -> None:
    """The file and its log."""
    async with opened(tmp_path / "q", clock) as desk:
        await desk.publish(b"m")
        modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}  # noqa: ASYNC240
    assert modes == {0o600}


# Bounds


async def test_lent_bodies_are_bounded_in_bytes(embedded_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once they exceed the budget nothing more is lent; but one always is."""
    monkeypatch.setattr(lending, "BUDGET", 10_000)
    await embedded_desk.publish(*[bytes(4_000)] * 5, bytes(50_000), b"last")
    embedded_desk.consume(100)
    await embedded_desk.lent(3)
    await embedded_desk.nothing_more()
    for n in range(7):
        await embedded_desk.lent(n + 1)
        await embedded_desk.settle(embedded_desk.leases[n])


async def test_a_clock_that_jumps_back_stalls_nothing(embedded_desk: Desk, clock: Clock) -> None:
    """Fresh messages are lent on, and a retry comes at its time by the new clock."""
    embedded_desk.consume()
    clock.now += 3600
    await embedded_desk.publish(b"waits", delay=60)
    clock.now -= 3600
    await embedded_desk.publish(b"fresh")
    assert [lease.body for lease in await embedded_desk.next()] == [b"fresh"]
    await embedded_desk.nothing_more()
    clock.now += 3661
    assert [lease.body for lease in await embedded_desk.next()] == [b"waits"]


async def test_the_figures_hold_while_the_clock_is_set_back(embedded_desk: Desk, clock: Clock) -> None:
    """A message that was lent when its time had come does not wait for it again."""
    embedded_desk.consume()
    await embedded_desk.publish(b"m", delay=60)
    clock.now += 61
    await embedded_desk.lent(1)
    clock.now -= 61
    figures = await embedded_desk.queue.figures()
    assert (figures.ready, figures.waiting, figures.unsettled) == (0, 0, 1)


# Looking into it


async def test_messages_are_listed_page_by_page(embedded_desk: Desk, clock: Clock) -> None:
    """With what the console shows of them, and without their bodies."""
    queue = embedded(embedded_desk)
    results = b'[{"state":"data","code":451},{"state":"rcptto","code":450}]'
    await embedded_desk.publish(
        *[b'{"recipient":"a%d@example.com","envelope":"me@example.org","results":%s}' % (n, results) for n in range(5)]
    )
    await embedded_desk.publish(b"\xff no json", queue="refused")
    page = await queue.browse(limit=4)
    assert [message.recipient for message in page.messages] == [f"a{n}@example.com" for n in range(4)]
    assert page.after is not None
    rest = await queue.browse(after=page.after, limit=4)
    assert [(message.queue, message.recipient) for message in rest.messages] == [
        ("outbox", "a4@example.com"),
        ("refused", ""),
    ]
    assert rest.after is None
    first = page.messages[0]
    assert (first.envelope, first.attempts, first.last) == ("me@example.org", 2, {"state": "rcptto", "code": 450})
    assert (first.lane, first.due, first.queued, first.size) == ("", 0, clock.now, 128)


async def test_messages_are_listed_by_where_they_are(embedded_desk: Desk) -> None:
    """Ready, waiting by time, parked in a lane; and by a part of an address."""
    queue = embedded(embedded_desk)
    embedded_desk.consume(1)
    await embedded_desk.publish(b'{"recipient":"p@x"}')
    [lease] = await embedded_desk.next()
    await embedded_desk.publish(b'{"recipient":"l@x"}')
    await embedded_desk.settle(lease, Settlement(then=Park(LANE)))
    await embedded_desk.publish(b'{"recipient":"late@x"}', delay=90)
    await embedded_desk.publish(b'{"recipient":"soon@x"}', delay=30)
    await embedded_desk.publish(b'{"recipient":"r@x"}')

    async def found(**wanted: object) -> list[str]:
        page = await queue.browse(Filter(**wanted))  # type: ignore[arg-type]
        return [message.recipient for message in page.messages]

    assert await found(queue="outbox") == ["l@x", "r@x"]
    assert await found(queue="outbox", waiting=True) == ["soon@x", "late@x"]
    assert await found(queue="outbox", lane=LANE) == ["p@x"]
    assert await found(containing="OON") == ["soon@x"]


async def test_the_counts_are_what_is_there(embedded_desk: Desk) -> None:
    """The small table of counts never differs from the messages, and forgets empty lanes."""
    embedded_desk.consume(100)
    await embedded_desk.publish(*[b"%d" % n for n in range(30)])
    for n, lease in enumerate(await embedded_desk.next(30)):
        await embedded_desk.settle(lease, Settlement(then=(None, Retry(b"r", 4e9), Park(f"lane {n}"))[n % 3]))
    embedded_desk.queue.recall("lane 2", 1)
    [lease] = await embedded_desk.next()
    await confirmation(lambda confirmed: embedded_desk.queue.settle(lease, Settlement(), confirmed))
    counted = await inside(embedded_desk, "SELECT * FROM counts WHERE n <> 0")
    there = await inside(
        embedded_desk, "SELECT queue, lane, due > 0, count(*) FROM messages GROUP BY queue, lane, due > 0"
    )
    assert sorted(counted) == sorted(there)
    await until(lambda: len(embedded_desk.queue.parked()) == 9)


async def test_what_is_asked_for_as_it_closes_is_done(tmp_path: Path) -> None:
    """In the same turn of the loop."""
    queue, confirmed = EmbeddedQueue(tmp_path / "queue.db"), []
    await queue.start()
    queue.publish([("outbox", b"1")], confirmed.append)
    await queue.close()
    assert confirmed == [None]
