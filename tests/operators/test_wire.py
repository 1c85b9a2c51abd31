"""How a message's bytes look on the wire."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from operators.mail.wire import chunks, dot_stuff, has_line_dot, normalise

PIECES = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a", b"\xff", b"..", b"text"]), max_size=40).map(
    b"".join
)


def unstuffed(wire: bytes) -> bytes:
    return re.sub(rb"(?m)^\.", b"", wire)


@given(PIECES)
@example(b"a\n.\nb")
@example(b"a\r.\rb")
@example(b"a\n.\r\nb")
@example(b"a\r\r\n.\n\rb")
def test_no_bare_cr_or_lf_remains(source: bytes) -> None:
    """Each becomes one CRLF, and everything else stays."""
    wire = normalise(source)
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", wire)
    assert wire.replace(b"\r\n", b"").replace(b"\n", b"") == source.replace(b"\r", b"").replace(b"\n", b"")
    assert normalise(wire) == wire
    assert not source or wire.endswith(b"\r\n")


@given(PIECES)
def test_dots_are_stuffed_and_come_back(source: bytes) -> None:
    """RFC 5321 4.5.2: no line is a lone dot, and the receiver finds what was sent."""
    clean = normalise(source)
    wire = dot_stuff(clean)
    assert b"\r\n.\r\n" not in b"\r\n" + wire
    assert unstuffed(wire) == clean


@given(PIECES, st.integers(2, 20))
def test_pieces_of_any_size_make_the_same_whole(source: bytes, size: int) -> None:
    """At every buffer boundary: within CRLF, before and after a dot, within a long line."""
    assert b"".join(chunks(source, size)) == dot_stuff(normalise(source))


def test_what_needs_no_change_is_not_copied() -> None:
    """Most mail is clean; looking costs less than copying."""
    source = b"Subject: x\r\n\r\nhello\r\n"
    assert normalise(source) is source and dot_stuff(source) is source


@given(PIECES)
def test_pieces_are_bounded(source: bytes) -> None:
    """A large message is never held twice."""
    assert all(len(piece) <= 2 * 16 + 4 for piece in chunks(source * 10, 16))


@given(
    st.binary(max_size=20), st.sampled_from([b"", b"\r\n.", b"\0\r\n.", b"\r\n", b"\n.", b"."]), st.binary(max_size=9)
)
def test_lines_that_begin_with_a_dot_are_found(before: bytes, middle: bytes, after: bytes) -> None:
    """Also behind a NUL, where the C library's search ends."""
    whole = before + middle + after
    assert has_line_dot(whole) == (b"\r\n." in whole)
