"""What a receiver's answers are, and what they mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.deliveries.outcome import Next
from operators.deliveries.replies import GARBLED, MAX_LINE, MAX_LINES, Reply, ReplyParser, classify

STAGES = (
    "intro",
    "ehlo",
    "helo",
    "starttls",
    "authplain",
    "authpassword",
    "authresponse",
    "rset",
    "mailfrom",
    "rcptto",
    "data",
    "message",
)


def parse(data: bytes) -> list[Reply]:
    return ReplyParser().feed(data)


@pytest.mark.parametrize("stage", STAGES)
@given(code=st.integers(0, 999))
def test_every_code_at_every_stage_has_one_meaning(stage: str, code: int) -> None:
    """4xx is retried, 5xx is final, the awaited class is accepted, and all else is invalid."""
    awaited = 3 if stage == "data" else 2
    expected = {awaited: ("accepted", Next.DELIVERED), 4: ("error", Next.RETRY), 5: ("error", Next.FAIL)}
    digit = 0 if code == 221 and stage != "message" else code // 100  # a good-bye that has crossed a command
    assert classify(stage, code) == expected.get(digit, ("invalid", Next.RETRY))


def test_an_answer_of_one_line() -> None:
    """Code, enhanced status and text are told apart."""
    (reply,) = parse(b"550 5.1.1 no such user\r\n")
    assert (reply.code, reply.status, reply.description) == (550, "5.1.1", "no such user")


def test_an_answer_of_several_lines_is_one_text() -> None:
    """A status that each line repeats is taken from each."""
    (reply,) = parse(b"550-5.7.1 blocked:\r\n550-see https://x.test\r\n550 5.7.1 sorry\r\n")
    assert (reply.code, reply.status) == (550, "5.7.1")
    assert reply.description == "blocked: see https://x.test sorry"


@pytest.mark.parametrize("line", [b"250\r\n", b"250 \r\n", b"250 ok\n"])
def test_sloppy_but_clear_answers_are_understood(line: bytes) -> None:
    """RFC 5321 4.2: the text may be missing; a bare LF occurs in the wild."""
    assert [reply.code for reply in parse(line)] == [250]


@pytest.mark.parametrize(
    "data",
    [b"hello\r\n", b"25 ok\r\n", b"2500 ok\r\n", b"250_ok\r\n", b"150 ok\r\n", b"650 ok\r\n", b" 250 ok\r\n",
     b"250-a\r\n550 b\r\n", b"x" * (MAX_LINE + 1), b"250-a\r\n" * (MAX_LINES + 1), b"250=ok\r\n",
     b"\r\n" * 101, b"25 0 ok\r\n",
     (b"250-" + b"a" * 8000 + b"\r\n") * 126, b"\xff\xfe\r\n", b"25\0 ok\r\n", b"250-" + b"a" * 2_000_000],
)  # fmt: skip
def test_what_is_no_answer_is_garbled(data: bytes) -> None:
    """RFC 5321 4.2; also what is without end, and lines that do not belong together."""
    assert parse(data)[-1].code == GARBLED


def test_answers_before_garbage_count() -> None:
    """They came, and in that order."""
    assert [reply.code for reply in parse(b"250 ok\r\nrubbish\r\n250 ok\r\n")] == [250, GARBLED]


def test_no_status_where_the_text_has_none() -> None:
    """What merely looks like a version number in the text is text."""
    for line in (b"550 no 5.1.1\r\n", b"550 9.1.1 no\r\n", b"550 5.1.1234 no\r\n", b"550 5.1.1no\r\n"):
        assert parse(line)[0].status is None


def test_what_cannot_be_shown_is_replaced() -> None:
    """An answer is shown in the console, and written to logs, on one line."""
    (reply,) = parse(b"550 a\x1b[31m\xff\tb\r\n")
    assert reply.description.isprintable() and "a" in reply.description


@given(st.lists(st.tuples(st.sampled_from([b"250", b"354", b"451", b"550"]), st.integers(1, 4)), max_size=5), st.data())
def test_answers_are_the_same_however_they_are_cut(answers: list[tuple[bytes, int]], data: st.DataObject) -> None:
    """A TCP segment ends anywhere."""
    wire = b"".join((code + b"-more\r\n") * (lines - 1) + code + b" last\r\n" for code, lines in answers)
    parser, found = ReplyParser(), []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        found += parser.feed(wire[start:end])
    assert [(reply.code, len(reply.lines)) for reply in found] == [(int(code), lines) for code, lines in answers]
    assert not parser.partial


ENDS = st.sampled_from([b"\r\n", b"\n", b"\r", b"\r\r\n", b"\r\n\r\n", b" \t\r\n"])


@given(st.lists(st.tuples(st.sampled_from([b"250", b"354", b"451"]), st.integers(1, 3), ENDS), max_size=5), st.data())
def test_answers_are_the_same_whatever_ends_their_lines(answers, data: st.DataObject) -> None:
    """K6. Liberal in line ends: each answer is found once, cut anywhere, also between CR and LF."""
    wire = b"".join((code + b"-more" + end) * (lines - 1) + code + b"\tlast" + end for code, lines, end in answers)
    parser, found = ReplyParser(), []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        found += parser.feed(wire[start:end])
    assert [(reply.code, len(reply.lines)) for reply in found] == [(int(code), lines) for code, lines, _ in answers]


@given(st.binary(max_size=200))
def test_the_beginning_of_an_answer_has_its_code_or_none(octets: bytes) -> None:
    """K6. What breaks off is never read as a code that has not come."""
    parser = ReplyParser()
    parser.feed(octets)
    last = parser.last()
    assert last is None or str(last.code).encode() in octets


@given(st.binary(max_size=500))
def test_nothing_a_receiver_sends_breaks_the_parser(data: bytes) -> None:
    """Whatever comes, there are replies whose every part can be read."""
    for reply in parse(data + b"\r\n"):
        assert reply.description is not None and (reply.status is None or reply.status)
