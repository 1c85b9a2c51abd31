"""What follows a large mail's header lies in a file, and is sent from there."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path

import pytest
import trustme

from operators.deliveries.outcome import Next
from pipeline.queues.embedded.segments import StoredContent
from tests.support.receiver import Receiver
from tests.support.sender import SOURCE, Sender, to, until

HEAD = b"Subject: large\r\n\r\n"
TEXT = b"".join(b"%07d " % number + b"x" * 990 + b"\r\n" for number in range(9000))  # more than sockets hold


def stored(folder: Path, text: bytes, dots: bool = False) -> StoredContent:
    """In a segment, between others."""
    file = folder / "00000001"
    file.write_bytes(b"before" + text + b"behind")
    return StoredContent(str(file), 1, len(b"before"), len(text), True, dots)


@pytest.mark.parametrize("secured", [False, True])
@pytest.mark.parametrize("dots", [False, True])
async def test_a_content_arrives_octet_for_octet(tmp_path: Path, secured: bool, dots: bool) -> None:
    """Also where the receiver reads more slowly than we send; and the next message over the same connection."""
    text = TEXT + b".\r\n..dots\r\n" if dots else TEXT
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(tls)
    async with Receiver(tls=tls if secured else None) as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send(HEAD, content=stored(tmp_path, text, dots))
        assert (outcome.result, outcome.sent_data) == ("accepted", len(HEAD + text) + 2 * dots)
        assert bool(outcome.tls) is secured
        assert (await sender.send(SOURCE)).messages == 2
        assert [mail.data for mail in receiver.messages] == [HEAD + text, SOURCE]


async def test_a_content_that_is_cut_off_is_never_taken_for_a_message(tmp_path: Path) -> None:
    """It is a fault of ours: the connection ends before the final dot, and the message stays."""
    content = stored(tmp_path, TEXT)
    os.truncate(content.file, len(TEXT) // 2)
    async with Receiver() as receiver, Sender(to(receiver)) as sender:
        outcome = await sender.send(HEAD, content=content)
        assert (outcome.state, outcome.next) == ("process", Next.RETRY)
        assert receiver.messages == [] and sender.kinds()[-1] == "Disconnected"


async def test_a_receiver_that_hangs_up_in_the_middle_ends_the_attempt(tmp_path: Path) -> None:
    """It is the receiver's doing, and the message is tried again."""
    async with Receiver(read_data=False) as receiver, Sender(to(receiver)) as sender:
        sending = asyncio.create_task(sender.send(HEAD, content=stored(tmp_path, TEXT)))
        await until(lambda: b"DATA\r\n" in receiver.raw and not receiver.raw.endswith(b"\r\n"))
        receiver.writers[0].transport.abort()
        outcome = await sending
        assert (outcome.state, outcome.result, outcome.next) == ("message", "lost", Next.RETRY)
        assert outcome.sent_data < len(HEAD + TEXT)
