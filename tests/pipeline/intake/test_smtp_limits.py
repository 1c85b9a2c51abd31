"""The bounds: size, memory, connections, recipients, silence; and the end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from operators.deliveries.events import Fault, Received, Rejected
from pipeline.queues.embedded.embedded import EmbeddedQueue
from pipeline.smtp.server.content import CHUNK, MEMORY, Account, Room
from pipeline.smtp.server.refusal import Refusal
from tests.pipeline.intake.harness import House
from tests.support.waiting import comes

MAIL = b"Subject: hello\r\n\r\nworld\r\n.\r\n"


async def test_size_is_told_and_refused_at_mail(house: House) -> None:
    """RFC 1870: before a single octet of the message is sent."""
    await house.open(smtp_maxsize=1000)
    caller = await house.call()
    assert "250-SIZE 1000\n" in await caller.say("EHLO client.example")
    assert await caller.say("MAIL FROM:<a@example.org> SIZE=1001") == "552 5.3.4 The message is larger than 1000 octets"
    assert (await caller.say("MAIL FROM:<a@example.org> SIZE=1000")).startswith("250")


@pytest.mark.parametrize(("size", "code"), [(1000, "250"), (1001, "552"), (300_000, "552")])
async def test_a_message_over_the_limit_is_refused_after_its_end(house: House, size: int, code: str) -> None:
    """Where SIZE did not tell: to the octet, without dot stuffing; the next message goes through."""
    await house.open(smtp_maxsize=1000)
    caller = await house.call()
    content = b"\r\n.." + b"x" * (size - 5) + b"\r\n"
    assert (await caller.mail(content + b".\r\n"))[:3] == code
    assert (await caller.mail(MAIL)).startswith("250")


async def test_at_most_a_thousand_recipients(house: House) -> None:
    """452 4.5.3 for those above; those before get the message."""
    await house.open()
    caller = await house.call()
    caller.send(b"MAIL FROM:<a@example.org>\r\n" + b"RCPT TO:<b@example.net>\r\n" * 1002)
    replies = [await caller.reply() for _ in range(1003)]
    assert replies[1000] == "250 2.1.5 Recipient ok"
    assert replies[1001:] == ["452 4.5.3 At most 1000 recipients at once"] * 2
    assert (await caller.says("DATA", "x\r\n."))[1].startswith("250")


async def test_a_large_message_to_many_is_taken_in_parts(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a queue that takes each whole its copies must fit in memory: told at RCPT where SIZE is known, or later."""
    monkeypatch.setattr(EmbeddedQueue, "apart", None)
    intake = await house.open()
    intake.shared.most_copied = 5000
    caller = await house.call()
    replies = await caller.says("MAIL FROM:<a@example.org> SIZE=2000", *["RCPT TO:<b@example.net>"] * 3)
    assert replies[-2:] == [
        "250 2.1.5 Recipient ok",
        "452 4.5.3 Too many recipients at once for a message of this size",
    ]
    await caller.say("RSET")
    answer = await caller.mail(b"x" * 2000 + b"\r\n.\r\n", "b@example.net", "c@example.net", "d@example.net")
    assert answer.startswith("552 5.3.4 Too large for 3 recipients at once")
    assert not house.queued()


async def test_too_many_connections_are_421(house: House) -> None:
    """And closed; when one leaves there is room again."""
    intake = await house.open(smtp_connections=2)
    first = await house.call()
    await house.call()
    third = await house.call(greet=False)
    assert await third.rest() == b"421 4.7.0 Too many connections, try again later\r\n"
    await first.say("QUIT")
    await first.rest()
    await house.until(lambda: intake.connections == 1)
    await house.call()


async def test_a_silent_client_is_told_and_closed(house: House) -> None:
    """smtp-timeout; also in the middle of DATA."""
    await house.open(smtp_timeout="50ms")
    idle = await house.call()
    busy = await house.call()
    await busy.says("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>", "DATA")
    busy.send(b"half a line")
    for caller in (idle, busy):
        assert await caller.rest() == b"421 4.4.2 Nothing came for too long\r\n"
    assert not house.queued()


async def test_a_byte_now_and_then_does_not_hold_the_session(house: House) -> None:
    """In DATA only every further 64 KiB set the timer back."""
    await house.open(smtp_timeout="100ms")
    caller = await house.call()
    await caller.says("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>", "DATA")

    def over() -> bool:
        if house.intake.connections:
            caller.send(b"x")
        return not house.intake.connections

    await comes(over)
    assert not house.queued()


async def test_the_largest_message_fits(house: House) -> None:
    """Whatever smtp-maxsize is, the memory set aside is enough for one of that size."""
    await house.open(smtp_maxsize="60MB")
    caller = await house.call()
    content = b"\r\n" + b"y" * (60_000_000 - 4) + b"\r\n"
    assert (await caller.mail(content + b".\r\n", options=" SIZE=60000000")).startswith("250")


class Slow:
    """A queue that answers when it is told to."""

    full = apart = None

    def publish(self, messages, confirmed, delay=0.0) -> None:
        self.confirmed = confirmed


async def test_a_queue_that_never_answers_is_451_and_never_250(house: House) -> None:
    """After smtp-timeout; a confirmation after that is still reported."""
    intake = await house.open(smtp_timeout="50ms")
    intake.shared.queue = slow = Slow()
    caller = await house.call()
    assert (await caller.mail(MAIL)).startswith("451 4.3.0")
    assert not house.told(Received)
    slow.confirmed(None)
    assert len(house.told(Received)) == 1


async def test_a_client_that_leaves_before_the_end_leaves_nothing(house: House) -> None:
    """No message, no memory, no session."""
    intake = await house.open()
    caller = await house.call()
    await caller.says("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>", "DATA")
    caller.send(b"x" * 300_000)
    await caller.writer.drain()
    caller.writer.close()
    await house.until(lambda: intake.connections == 0)
    assert intake.shared.room.used == 0
    assert not house.queued()


async def test_a_client_that_closes_its_side_gets_its_answers(house: House) -> None:
    """`printf ... | nc`: what was sent is answered."""
    await house.open()
    caller = await house.call()
    caller.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n" + MAIL)
    caller.writer.write_eof()
    assert [line[:3] for line in (await caller.rest()).splitlines()] == [b"250", b"250", b"354", b"250"]
    assert len(house.queued()) == 1


async def test_closing_lets_a_transaction_end_and_turns_others_away(house: House) -> None:
    """Idle clients hear 421; the one in DATA gets its 250, then 421."""
    intake = await house.open()
    idle, busy = await house.call(), await house.call()
    await busy.says("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>", "DATA")
    closing = asyncio.create_task(intake.close(grace=20))
    assert await idle.rest() == b"421 4.3.2 Shutting down\r\n"
    busy.send(MAIL)
    answer, goodbye = (await busy.rest()).splitlines()
    assert answer.startswith(b"250")
    assert goodbye == b"421 4.3.2 Shutting down"
    await closing
    with pytest.raises(ConnectionError):
        await asyncio.open_connection(*intake_address(intake, busy))


def intake_address(intake, caller) -> tuple[str, int]:
    return caller.writer.get_extra_info("peername")[:2]


async def test_closing_does_not_wait_for_ever(house: House) -> None:
    """After the grace a transaction is broken off; the client keeps its message."""
    intake = await house.open()
    caller = await house.call()
    await caller.says("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>", "DATA")
    await intake.close(grace=0)
    assert await caller.rest() == b"421 4.3.2 Shutting down\r\n"


# -- memory


async def test_who_finds_no_room_waits_in_line() -> None:
    """First come, first served."""
    room = Room(100)
    await room.take(80)
    first, second = asyncio.create_task(room.take(50)), asyncio.create_task(room.take(10))
    await asyncio.sleep(0)
    assert not first.done()
    assert not second.done()
    room.give(80)
    await asyncio.gather(first, second)
    assert room.used == 60


async def test_who_waits_too_long_is_refused() -> None:
    """452, and nothing is taken."""
    room = Room(100, patience=0.01)
    await room.take(100)
    with pytest.raises(Refusal, match=r"452 4\.3\.1"):
        await room.take(1)
    room.give(100)
    assert room.used == 0


async def test_who_stops_waiting_holds_up_nobody() -> None:
    """Cancelled before its turn, or in the very round of it."""
    room = Room(100)
    await room.take(100)
    gone, next_ = asyncio.create_task(room.take(90)), asyncio.create_task(room.take(50))
    await asyncio.sleep(0)
    room.give(100)
    gone.cancel()
    await next_
    assert room.used == 50


async def test_a_message_that_outgrows_the_room_is_dropped_at_once() -> None:
    """Its memory is free before it has been read to its end."""
    room = Room(2 * CHUNK)
    account = Account(room, most=10 * CHUNK)
    await account.need(CHUNK)
    assert account.keep(2 * CHUNK)
    assert not account.keep(1)
    assert account.refusal is not None
    assert account.refusal.code == 452
    assert room.used == 0


async def test_a_message_without_room_is_452_and_the_next_one_is_taken(house: House) -> None:
    """Over all sessions; the client comes back."""
    intake = await house.open()
    intake.shared.room.size = 3 * CHUNK
    caller = await house.call()
    assert (await caller.mail(b"x" * 300_000 + b"\r\n.\r\n")).startswith("452 4.3.1")
    assert (await caller.mail(MAIL)).startswith("250")
    assert [event.code for event in house.told(Rejected)] == [452]


@pytest.mark.parametrize("cut", [0, 1, 3, MEMORY - 5, MEMORY, MEMORY + 1])
async def test_a_large_message_waits_on_disk_and_arrives_octet_for_octet(house: House, cut: int) -> None:
    """S1: what slow clients have said fills no memory; nothing of it stays on the disk."""
    intake = await house.open()
    shared = intake.shared
    caller = await house.call()
    lines = b"".join(b"%d ..\r\n.%d\r\n" % (number, number) for number in range(150_000))
    stuffed = lines.replace(b"\r\n.", b"\r\n..")
    await caller.says("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>", "DATA")
    caller.send(stuffed[:cut])
    await caller.writer.drain()
    caller.send(stuffed[cut:-1])
    await caller.writer.drain()
    await house.until(lambda: shared.spilled.used >= 2 * MEMORY)
    assert shared.room.used <= MEMORY
    caller.send(b"\n.\r\n")
    assert (await caller.reply()).startswith("250")
    await house.until(lambda: shared.spilled.used == shared.room.used == 0)
    assert house.queued()[0]["mime"].endswith("\r\n" + lines.decode())


async def test_a_disk_that_takes_no_more_is_452(house: House) -> None:
    """S1: the message is read to its end, and the next one is taken."""
    intake = await house.open()
    intake.shared.spilled.size = MEMORY
    caller = await house.call()
    assert (await caller.mail(b"x" * 4 * MEMORY + b"\r\n.\r\n")).startswith("452 4.3.1")
    assert (await caller.mail(MAIL)).startswith("250")
    assert intake.shared.spilled.used == intake.shared.room.used == 0


async def test_a_folder_that_cannot_be_written_is_452_and_said(house: House, tmp_path: Path) -> None:
    """K11: nothing fails silently."""
    intake = await house.open()
    intake.shared.settings = intake.shared.settings.model_copy(update={"data_dir": tmp_path / "gone"})
    caller = await house.call()
    assert (await caller.mail(b"x" * 4 * MEMORY + b"\r\n.\r\n")).startswith("452 4.3.1")
    assert "No such file" in house.told(Fault)[0].detail
    assert (await caller.mail(MAIL)).startswith("250")
