"""What comes after 354 is the same wherever the network cuts it, and whenever it is taken."""

from __future__ import annotations

import random

import pytest

from pipeline.smtp.server import content
from pipeline.smtp.server.content import ContentReader

END = b"\r\n.\r\n"
OCTETS = [b"\r", b"\n", b".", b"x", b"\0", b"\r\n", b"\r\n.", b"word"]


def _whole(sent: bytes) -> tuple[bytes, bytes]:
    """(the content, what stands behind its end), as RFC 5321 4.1.1.4 has it."""
    text, _, behind = (b"\r\n" + sent).partition(END)
    return (text + b"\r\n")[2:], behind


def _read(sent: bytes, cuts: random.Random, takes: float) -> tuple[bytes, bytes, bool]:
    """(the content, what stands behind its end, `dots`), in pieces of any size."""
    reader, taken, at = ContentReader(), b"", 0
    while True:
        size = cuts.randint(1, 9)
        left = reader.feed(sent[at : at + size])
        at = min(at + size, len(sent))
        if left is not None:
            return taken + reader.take(), sent[at - left :], reader.dots
        if cuts.random() < takes:
            taken += reader.take()


@pytest.mark.parametrize("small", [1, 3, 4096])
def test_content_is_the_same_however_it_is_cut(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is taken in between, and where commands follow it."""
    monkeypatch.setattr(content, "SMALL", small)
    chance = random.Random(7)
    for _ in range(1000):
        sent = b"".join(chance.choices(OCTETS, k=chance.randint(0, 12))) + END + chance.choice([b"", b"QUIT\r\n", b"."])
        for takes in (0.0, 0.5):
            text, behind, dots = _read(sent, chance, takes)
            assert (text, behind) == _whole(sent), sent
            assert dots or b"\r\n." not in b"\r\n" + text[:-2], sent


def test_small_pieces_are_put_together() -> None:
    """A client that sends two octets at a time gets no more memory than others: an object for each would be 40 MB."""
    reader = ContentReader()
    for _ in range(10_000):
        reader.feed(b"ab")
    assert len(reader) == 20_000
    assert len(reader._parts) == 1
