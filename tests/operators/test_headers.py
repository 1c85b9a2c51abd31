"""The fields of a message's header, and how long they may be."""

from __future__ import annotations

import pytest

from operators.mail.head import split
from operators.mail.message import InvalidMessage
from operators.mail.source import build


@pytest.mark.parametrize(
    ("source", "fields", "rest"),
    [
        (b"A: 1\r\n 2\r\n\t3\r\nB: 4\r\n\r\nbody\r\n", [b"A: 1\r\n 2\r\n\t3\r\n", b"B: 4\r\n"], b"\r\nbody\r\n"),
        (b"\r\nA: 1\r\n", [], b"\r\nA: 1\r\n"),
        (b" 1\r\n 2\r\nA: 3\r\n\r\n", [b" 1\r\n 2\r\n", b"A: 3\r\n"], b"\r\n"),
        (b"A: 1\r\nB: 2", [b"A: 1\r\n", b"B: 2"], b""),
        (b"A: 1\r\n 2", [b"A: 1\r\n 2"], b""),
        (b"", [], b""),
    ],
)
def test_a_field_is_its_lines_as_they_stand(source: bytes, fields: list[bytes], rest: bytes) -> None:
    """Folded or not, whole or not: together they are the message again."""
    assert split(source) == (fields, rest)


def test_a_field_of_many_lines_costs_no_more_than_its_length() -> None:
    """With the square of it, these would take minutes of the event loop; the test's own time-out is the bound."""
    field = b"Subject: a\r\n" + b" a\r\n" * 3_000_000
    assert split(field + b"\r\n") == ([field], b"\r\n")


@pytest.mark.parametrize(
    ("parts", "where"), [({"to": "a@b," * 25_001}, "to"), ({"headers": {"X": "a " * 50_002}}, "headers.X")]
)
def test_a_field_that_is_to_be_made_has_a_bound(parts: dict[str, object], where: str) -> None:
    """What receivers take of one (K1)."""
    with pytest.raises(InvalidMessage, match=rf"^mime\.{where}: has 100,004 characters, 100,000 are allowed$"):
        build(parts, None)
