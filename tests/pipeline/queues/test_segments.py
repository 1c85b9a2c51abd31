"""Segments: large contents beside the embedded queue's file, and what becomes of them."""

from __future__ import annotations

import base64
import errno
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import msgspec
import pytest

from operators.deliveries.delivery import Lease
from operators.mail.message import joined
from operators.mail.wire import dot_stuff, stuffed
from pipeline.queues.contract import LargeBody, NewContent, Park, QueueFull, Retry, Settlement
from pipeline.queues.embedded import segments, space
from pipeline.queues.embedded.damage.check import check
from pipeline.queues.embedded.damage.recover import recover
from pipeline.queues.embedded.embedded import EmbeddedQueue
from pipeline.queues.embedded.segments import StoredContent, folder, numbers
from tests.pipeline.queues.desk import Clock, Desk, confirmation, until

HEAD = b'{"recipient":"b@example.net","mime":"Subject: x\\r\\n\\r\\n"}'
BEFORE = """
DROP INDEX contents; ALTER TABLE messages DROP COLUMN segment; ALTER TABLE messages DROP COLUMN start;
ALTER TABLE messages DROP COLUMN octets; ALTER TABLE messages DROP COLUMN flags; PRAGMA user_version = 1;
"""


def large(text: bytes, head: bytes = HEAD) -> LargeBody:
    return LargeBody(head, NewContent(text, len(text), text.isascii()))


@asynccontextmanager
async def opened(path: Path, clock: Clock) -> AsyncIterator[Desk]:
    queue = EmbeddedQueue(path, clock=clock, poll=0.01)
    await queue.start()
    yield Desk(queue, clock)
    await queue.close()


async def publish(desk: Desk, *bodies: LargeBody | bytes) -> None:
    await confirmation(lambda confirmed: desk.queue.publish([("outbox", body) for body in bodies], confirmed))


def text(lease: Lease) -> bytes:
    assert lease.content is not None
    return lease.content.read()


async def test_contents_are_lent_as_they_came_from_memory_and_from_the_file(tmp_path: Path, clock: Clock) -> None:
    """In order among small ones, after a restart too; of bytes and of a file."""
    path = tmp_path / "q"
    with (tmp_path / "spilled").open("w+b") as file:
        file.write(b"three\r\n" * 300_000)
        file.flush()
        async with opened(path, clock) as desk:
            desk.consume(2)
            await publish(desk, large(b"one\r\n"), b"small", large(b"tw\xc3\xb6\r\n"))
            await publish(desk, LargeBody(HEAD, NewContent(file, 2_100_000, ascii=True)))
            first, second = await desk.next(2)
            assert (text(first), second.content, second.body) == (b"one\r\n", None, b"small")
    async with opened(path, clock) as desk:
        desk.consume(10)
        leases = await desk.next(4)
        contents = [lease.content for lease in leases if lease.content is not None]
        assert [one.read() for one in contents] == [b"one\r\n", b"tw\xc3\xb6\r\n", b"three\r\n" * 300_000]
        assert [one.ascii for one in contents] == [True, False, True]
        assert b"".join(contents[2].pieces(1000)) == contents[2].read()


async def test_a_content_is_stored_once_for_all_who_share_it(tmp_path: Path, clock: Clock) -> None:
    """However many recipients a mail has."""
    async with opened(tmp_path / "q", clock) as desk:
        shared = NewContent(b"x" * 100_000, 100_000, ascii=True, dots=True)
        await publish(desk, *(LargeBody(HEAD, shared) for _ in range(50)))
        assert sum(segments.ends(tmp_path / "q").values()) == 100_000


async def test_a_segment_goes_when_nobody_refers_to_it(tmp_path: Path, clock: Clock) -> None:
    """Not while one of its messages is queued, parked, waits or is lent."""
    path = tmp_path / "q"
    async with opened(path, clock) as desk:
        desk.consume(10)
        await publish(desk, large(b"one"), large(b"two"), large(b"three"))
        one, two, three = await desk.next(3)
        await desk.settle(one)
        await desk.settle(two, Settlement(then=Park("lane")))
        await desk.settle(three, Settlement(then=Retry(HEAD, clock.now + 60, three.content)))
        assert numbers(path) == [1]
        assert await desk.queue.purge(lane="lane") == 1
        clock.now += 61
        (again,) = await desk.next()
        assert text(again) == b"three"
        assert await desk.queue.change("delete", [again.id]) == 1
        ticks = desk.queue._ticks  # type: ignore[attr-defined]
        await until(lambda: desk.queue._ticks != ticks)  # type: ignore[attr-defined]
        assert text(again) == b"three"  # it is being sent
        await desk.settle(again)
        await until(lambda: numbers(path) == [])
        await publish(desk, large(b"four"))
        assert text((await desk.next())[0]) == b"four"


async def test_a_retry_with_the_whole_body_needs_no_content(tmp_path: Path, clock: Clock) -> None:
    """A custom operator has read it; it is not told twice."""
    async with opened(tmp_path / "q", clock) as desk:
        desk.consume(1)
        await publish(desk, large(b"apart"))
        (lease,) = await desk.next()
        await desk.settle(lease, Settlement(then=Retry(b"whole", clock.now)))
        (again,) = await desk.next()
        assert (again.body, again.content) == (b"whole", None)


async def test_large_mail_lent_holds_up_nobody(tmp_path: Path, clock: Clock) -> None:
    """A hundred of 1 MB and one of 70 MB to slow receivers are out, and the next ones are lent all the same."""
    with (tmp_path / "sparse").open("w+b") as file:
        file.truncate(70_000_000)
        async with opened(tmp_path / "q", clock) as desk:
            desk.consume(200)
            await publish(desk, LargeBody(HEAD, NewContent(file, 70_000_000, ascii=True)))
            await publish(desk, *[large(b"x" * 1_000_000)] * 100, b"small")
            assert (await desk.next(102))[-1].body == b"small"


async def test_a_large_message_that_is_submitted_whole_is_parted(tmp_path: Path, clock: Clock) -> None:
    """By an application: text or base64; line ends are made CRLF. Of parts the large ones are; no mail stays whole."""
    long = "caf\u00e9.\n" * 200_000
    whole = {"recipient": "b@example.net", "mime": "Subject: x\n\n" + long, "own": 1}
    binary = {
        "mime": base64.b64encode(b"Subject: x\r\n\r\n" + b"\xff\r\n" * 400_000).decode(),
        "mime-encoding": "base64",
    }
    parts = {"mime": {"subject": "x", "text": long}}
    async with opened(tmp_path / "q", clock) as desk:
        await desk.publish(
            msgspec.json.encode(whole), msgspec.json.encode(binary), msgspec.json.encode(parts), b"x" * 2_000_000
        )
        desk.consume(10)
        first, second, third, other = await desk.next(4)
        assert msgspec.json.decode(first.body) == {**whole, "mime": "Subject: x\r\n\r\n"}
        assert text(first) == long.replace("\n", "\r\n").encode()
        assert msgspec.json.decode(second.body) == {"mime": "Subject: x\r\n\r\n"}
        assert text(second) == b"\xff\r\n" * 400_000
        assert msgspec.json.decode(third.body) == {"mime": {"subject": "x"}}
        assert joined(msgspec.json.decode(third.body), text(third)) == parts
        assert (other.body, other.content) == (b"x" * 2_000_000, None)


async def test_a_very_large_content_is_written_by_who_brings_it(tmp_path: Path, clock: Clock) -> None:
    """Into a segment of its own, which stays until the queue has answered, and goes where it was never published."""

    def write(file: IO[bytes]) -> tuple[bool, bool]:
        file.write(b"x" * segments.OWN)
        return True, False

    path = tmp_path / "q"
    async with opened(path, clock) as desk:
        assert desk.queue.apart is not None
        content = desk.queue.apart.keep(segments.OWN, write)
        dropped = desk.queue.apart.keep(segments.OWN, write)
        dropped.close()
        await until(lambda: numbers(path) == [1])
        await publish(desk, LargeBody(HEAD, content))
        content.close()
        desk.consume(1)
        (lease,) = await desk.next()
        assert text(lease) == b"x" * segments.OWN
        assert lease.content is not None
        assert not lease.content.dots
        await desk.settle(lease)
        await until(lambda: numbers(path) == [])


async def test_a_content_that_cannot_be_written_leaves_nothing(tmp_path: Path, clock: Clock) -> None:
    """The disk is full, or the client's message is refused."""

    def write(file: IO[bytes]) -> tuple[bool, bool]:
        file.write(b"x")
        raise OSError(errno.ENOSPC, "no room")

    async with opened(tmp_path / "q", clock) as desk:
        assert desk.queue.apart is not None
        with pytest.raises(OSError, match="no room"):
            desk.queue.apart.keep(segments.OWN, write)
        assert numbers(tmp_path / "q") == []


async def test_what_little_is_left_of_a_segment_is_moved(tmp_path: Path, clock: Clock) -> None:
    """So one mail that waits for days does not keep a whole segment; two that share a content still do."""
    path = tmp_path / "q"
    async with opened(path, clock) as desk:
        shared = NewContent(b"shared", 6, ascii=True)
        await publish(desk, large(b"x" * 1000), LargeBody(HEAD, shared), LargeBody(HEAD, shared))
    async with opened(path, clock) as desk:
        desk.consume(3)
        gone, *kept = await desk.next(3)
        for lease in kept:
            await desk.settle(lease, Settlement(then=Retry(HEAD, clock.now + 60, lease.content)))
        await desk.settle(gone)
        await until(lambda: numbers(path) == [2])
        assert segments.ends(path) == {2: 6}
        clock.now += 61
        assert [text(lease) for lease in await desk.next(2)] == [b"shared", b"shared"]
        assert check(path).damage is None


async def test_a_full_disk_takes_no_content_and_loses_nothing(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """452; what was written of it is given back, and the next one goes in."""

    def no_room(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(space, "CALM", 0.1)
    async with opened(tmp_path / "q", clock) as desk:
        await publish(desk, large(b"first"))
        with monkeypatch.context() as patch:
            patch.setattr(segments.os, "pwrite", no_room)
            with pytest.raises(QueueFull):
                await publish(desk, large(b"x" * 100_000))
        assert segments.ends(tmp_path / "q") == {1: 5}
        await until(lambda: desk.queue.full is None)
        await publish(desk, large(b"second"))
        desk.consume(10)
        assert [text(lease) for lease in await desk.next(2)] == [b"first", b"second"]


async def test_a_message_is_opened_whole(tmp_path: Path, clock: Clock) -> None:
    """People who look at it in the console see its text; its size is that of both parts."""
    async with opened(tmp_path / "q", clock) as desk:
        await publish(desk, large(b"Hello\r\n" * 10_000))
        opened_message = await desk.queue.read(1)
        assert opened_message is not None
        assert msgspec.json.decode(opened_message.body)["mime"] == "Subject: x\r\n\r\n" + "Hello\r\n" * 10_000
        assert opened_message.listed.size == len(HEAD) + 70_000


async def test_a_file_of_the_release_before_is_read(tmp_path: Path, clock: Clock) -> None:
    """Its messages are lent as they were, and new ones go beside them."""
    path = tmp_path / "q"
    async with opened(path, clock) as desk:
        await desk.publish(b"old", b"large" * 1_000_000)
    with sqlite3.connect(path) as old:
        old.executescript(BEFORE)
    old.close()
    assert check(path).damage is None
    async with opened(path, clock) as desk:
        await publish(desk, large(b"new"))
        desk.consume(10)
        first, second, third = await desk.next(3)
        assert (first.body, second.body, text(third)) == (b"old", b"large" * 1_000_000, b"new")
    assert check(path).damage is None


async def test_a_missing_segment_is_found_and_recovery_says_what_is_lost(tmp_path: Path, clock: Clock) -> None:
    """A check names the file; `recover` keeps the rest, and the other segments with the damaged file."""
    path = tmp_path / "q"
    async with opened(path, clock) as desk:
        await publish(desk, large(b"lost"))
    async with opened(path, clock) as desk:
        await publish(desk, large(b"kept"), b"small")
    (folder(path) / "00000001").unlink()
    damage = check(path).damage
    assert damage is not None
    assert "1 files of contents are missing" in damage
    done = recover(path)
    assert (done.messages, done.missing) == (2, (1,))
    assert done.aside is not None
    assert numbers(done.aside) == [2]
    async with opened(path, clock) as desk:
        desk.consume(10)
        first, second = await desk.next(2)
        assert (text(first), second.body) == (b"kept", b"small")


async def test_segments_are_private(tmp_path: Path, clock: Clock) -> None:
    """Only the program's user reads mail."""
    async with opened(tmp_path / "q", clock) as desk:
        await publish(desk, large(b"secret"))
        modes = [file.stat().st_mode & 0o777 for file in (folder(tmp_path / "q"), *folder(tmp_path / "q").iterdir())]
        assert modes == [0o700, 0o600]


@pytest.mark.parametrize("size", range(1, 12))
def test_dots_are_doubled_wherever_a_content_is_cut(tmp_path: Path, size: int) -> None:
    """RFC 5321 4.5.2; the end of the header is the beginning of a line, too."""
    content = b".\r\n..x\r\n.\r\nab.\r\n\r\n.\r\n"
    (tmp_path / "s").write_bytes(content)
    stored = StoredContent(str(tmp_path / "s"), 1, 0, len(content), ascii=True, dots=True)
    head = b"A: b\r\n\r\n"
    assert b"".join(stuffed(head, stored.pieces(size))) == dot_stuff(head + content)
