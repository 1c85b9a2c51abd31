"""A large message takes the way over the disk, and comes out as a small one does."""

from __future__ import annotations

import io
import random

import msgspec
import pytest

from operators.mail.head import length, settled
from operators.mail.message import from_properties, mime_properties
from pipeline.smtp.server import large
from pipeline.smtp.server.content import plain
from pipeline.smtp.server.large import LargeMessage, copies
from pipeline.smtp.server.refusal import Refusal
from tests.pipeline.intake.harness import House

PIECES = [
    b"\r\n",
    b"\r",
    b"\n",
    b".",
    b"..",
    b"a",
    b"x: y",
    b" ",
    "\u00fc\u20ac\U0001f600".encode(),
    b"\xff",
    b"\x1b" * 40,
    b'"\\',
]
HEADS = [
    b"",
    b"From: a@example.com\r\nSubject: x\r\n",
    b"a: b\r\n c\n",
    b"From me\r\nA: b\r\n",
    b"no field\r\n",
    b"a : b\r\r\n",
]
TEXT = b"A: b\r\n\r\n" + (b"x" * 76 + b"\r\n") * 10


def whole(raw: bytes) -> tuple[bytes, bytes]:
    """(header, the rest) of a message that goes through memory."""
    source = settled(plain(raw))
    end = length(source)
    return source[:end], source[end:]


def sources(number: int) -> list[bytes]:
    """Messages of all kinds, as they stand on the wire."""
    chance = random.Random(number)
    texts = (b"".join(chance.choices(PIECES, k=chance.randrange(60))) for _ in range(300))
    return [chance.choice(HEADS) + chance.choice([b"\r\n", b"\n", b"", b"\r\n\r\n"]) + text + b"\r\n" for text in texts]


@pytest.mark.parametrize("piece", [3, 7, 64, 1000])
def test_what_comes_of_a_message_does_not_depend_on_its_way(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """K12: read in pieces, however they are cut, it has the header, the octets and the form that it has in memory."""
    monkeypatch.setattr(large, "PIECE", piece)
    for raw in sources(piece):
        head, rest = whole(raw)
        message = LargeMessage(io.BytesIO(raw), len(raw))
        assert message.read_head() == head, raw
        found = msgspec.json.decode(message.written(b'{"recipient":"a@example.net"', head))
        assert from_properties(found).source() == head + rest, raw


@pytest.mark.parametrize("line", [b"x" * 76, b'"' * 76, b"\x1b" * 20 + b"x" * 60, b"\xe4" * 76, "\u00e4".encode() * 38])
def test_a_message_has_the_same_form_on_either_way(line: bytes) -> None:
    """K12: text where it is UTF-8 and JSON does not make it much larger, else base64."""
    raw = b"A: b\r\n\r\n" + (line + b"\r\n") * 4000
    message = LargeMessage(io.BytesIO(raw), len(raw))
    found = msgspec.json.decode(message.written(b'{"recipient":"a@example.net"', message.read_head()))
    assert found == {"recipient": "a@example.net", **mime_properties(raw)}


def test_each_recipient_has_a_body_of_its_own() -> None:
    """One body is made, the others are copies of it behind other beginnings."""
    message = LargeMessage(io.BytesIO(TEXT), len(TEXT))
    openings = [b'{"recipient":"a@example.net"', b'{"recipient":"b2@example.net"']
    bodies = copies(message.written(openings[0], message.read_head()), openings)
    found = [msgspec.json.decode(body) for body in bodies]
    assert [one["recipient"] for one in found] == ["a@example.net", "b2@example.net"]
    assert {one["mime"] for one in found} == {TEXT.decode()}


@pytest.mark.parametrize(
    ("raw", "most", "why"), [(b"A: b\r\n\r\n\0\r\n", 100, "NUL"), (b"A: b\r\n\r\nxxxx\r\n", 9, "larger")]
)
def test_what_memory_would_refuse_is_refused_from_the_disk(raw: bytes, most: int, why: str) -> None:
    """NUL, and what is larger than `smtp-maxsize` without its dots."""
    message = LargeMessage(io.BytesIO(raw), most)
    with pytest.raises(Refusal, match=why):
        message.written(b"{", message.read_head())


async def test_a_large_message_with_dots_and_bare_line_ends_is_queued_as_it_is_meant(house: House) -> None:
    """K12: over the wire, from either side of the edge between memory and disk."""
    await house.open(smtp_maxsize="20MB")
    line = b"..dot\r\nbare\nend\xc3\xbc\r\n"
    for size in (1_000_000, 3_000_000):
        source = b"Subject: x\r\n\r\n" + line * (size // len(line))
        assert (await (await house.call()).mail(source + b".\r\n")).startswith("250")
        wanted = source.replace(b"\r\n..", b"\r\n.").replace(b"bare\n", b"bare\r\n")
        assert from_properties(house.queued()[-1]).source().endswith(wanted)
