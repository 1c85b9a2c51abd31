"""No line over 998 octets goes on: the part that has it is encoded, or the message is refused with one line."""

from __future__ import annotations

import base64
import email
import email.policy
import re
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.mail.head import settled
from operators.mail.long_lines import ENCODE, PASS, REFUSE, LineLengths, first_long, fitted, orderly
from operators.mail.message import InvalidMessage
from operators.mail.wire import crlf

LONG = b"<b>" + b"x y" * 500 + b"</b>"
PLAIN = b"From: a@b.example\r\nSubject: x\r\n"


def multipart(*parts: bytes, kind: bytes = b"mixed", boundary: bytes = b"b") -> bytes:
    """A multipart entity, without the fields before its Content-Type."""
    inside = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
    head = b'Content-Type: multipart/%s; boundary="%s"\r\n\r\n' % (kind, boundary)
    return head + b"preamble\r\n" + inside + b"--" + boundary + b"--\r\nepilogue\r\n"


def contents(source: bytes) -> list[tuple[str, bytes]]:
    """Type and content of each leaf, as Python's parser reads them."""
    leaves = [one for one in email.message_from_bytes(source).walk() if not one.is_multipart()]
    return [(one.get_content_type(), bytes(one.get_payload(decode=True))) for one in leaves]


def encoded(source: bytes) -> bytes:
    made = fitted(source, ENCODE)
    assert first_long(made) < 0
    assert settled(made) == made
    return made


def refused(source: bytes, way: str = ENCODE) -> str:
    with pytest.raises(InvalidMessage) as error:
        fitted(source, way)
    return str(error.value)


def test_998_octets_pass_and_999_do_not() -> None:
    """RFC 5322 2.1.1; the CRLF does not count, and the last line may lack it."""
    for end in (b"\r\n", b""):
        assert first_long(b"a\r\n" + b"x" * 998 + end) < 0
        assert first_long(b"a\r\n" + b"x" * 999 + end) == 3
    fine = PLAIN + b"\r\n" + (b"x" * 998 + b"\r\n") * 3
    assert fitted(fine, ENCODE) is fine


@pytest.mark.parametrize("length", [999, 1_000, 5_000, 1_100_000])
def test_bare_text_is_encoded_and_reads_the_same(length: int) -> None:
    """Whatever its size; dots, dashes and blanks at line ends among it."""
    body = b"." + b"- ." * (length // 3) + b"x" * 3 + b" \r\n.\r\n..\r\nFrom x\r\n-- \r\nend \r\n"
    made = encoded(PLAIN + b"\r\n" + body)
    assert contents(made) == [("text/plain", body)]
    assert made.startswith(PLAIN)
    assert b"MIME-Version: 1.0\r\n" in made


def test_only_the_part_with_the_line_changes() -> None:
    """Boundaries, preamble, epilogue and the other parts stay as they are, octet for octet."""
    kept, html = b"Content-Type: text/plain\r\n\r\nshort", b"Content-Type: text/html; charset=utf-8\r\n"
    head = PLAIN + b"MIME-Version: 1.0\r\n"
    source = head + multipart(kept, html + b"Content-Transfer-Encoding: 8bit\r\n\r\n" + LONG, kind=b"alternative")
    made = encoded(source)
    assert contents(made) == contents(source)
    before, _, after = source.partition(html)
    assert made.startswith(before + html + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n")
    assert made.endswith(after[after.index(b"\r\n--b--") :])


def test_nested_parts_files_and_messages_in_messages_are_found() -> None:
    """Text becomes quoted-printable, all else base64."""
    file = b"Content-Type: application/json\r\n\r\n" + LONG
    inner = multipart(b"\r\n" + LONG, file, boundary=b"b-2", kind=b"alternative")
    forwarded = b"Content-Type: message/rfc822\r\n\r\nSubject: old\r\n\r\n" + LONG
    digest = multipart(b"\r\nSubject: one\r\n\r\n" + LONG, kind=b"digest", boundary=b"d")
    source = PLAIN + b"MIME-Version: 1.0\r\n" + multipart(inner, forwarded, digest)
    made = encoded(source)
    assert contents(made) == contents(source)
    assert made.count(b"quoted-printable") == 3
    assert made.count(b"base64") == 1


def test_base64_and_quoted_printable_with_long_lines_get_short_ones() -> None:
    """PHP's base64_encode without chunk_split; soft line breaks that were forgotten."""
    for coding, body in ((b"base64", b"eHh4" * 500), (b"quoted-printable", b"a=3D=C3=BC--" * 200 + b"=")):
        source = PLAIN + b"Content-Transfer-Encoding: " + coding + b"\r\n\r\n" + body + b"\r\nYQ\r\n"
        assert contents(encoded(source)) == contents(source)


def test_no_line_of_ours_looks_like_a_boundary() -> None:
    """A soft line break just before `--b` would begin a part."""
    for shift in range(80):
        long = b"z" * shift + b"--b\r\n"[:3] * 600
        source = PLAIN + b"MIME-Version: 1.0\r\n" + multipart(b"\r\n" + long)
        assert contents(encoded(source)) == contents(source)


def test_a_long_header_line_is_folded_where_it_has_white_space() -> None:
    """Outlook's References; unfolded it is the same (RFC 5322 2.2.3)."""
    field = b"References: " + b" ".join(b"<%d@x.example>" % number for number in range(100))
    made = encoded(PLAIN + field + b"\r\n\r\nshort\r\n")
    assert made.replace(b"\r\n ", b" ") == PLAIN + field + b"\r\n\r\nshort\r\n"
    assert "the field X-A has no white space" in refused(PLAIN + b"X-A: b\r\n c" + b"x" * 999 + b"\r\n\r\nshort\r\n")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (PLAIN + b"DKIM-Signature: v=1\r\n\r\n" + LONG, "signed (DKIM-Signature)"),
        (PLAIN + b"ARC-Seal: i=1\r\n\r\n" + LONG, "signed (ARC-Seal)"),
        (PLAIN + multipart(b"\r\n" + LONG, b"\r\nsig", kind=b"signed"), "in a multipart/signed"),
        (PLAIN + multipart(multipart(b"\r\n" + LONG, kind=b"signed", boundary=b"c")), "in a multipart/signed"),
        (PLAIN + multipart(b"\r\nx").replace(b"preamble", LONG), "in no part"),
        (PLAIN + b"Content-Type: multipart/mixed\r\n\r\n" + LONG, "boundary"),
        (PLAIN + b"Content-Type: multipart/mixed; boundary*=us''b\r\n\r\n" + LONG, "boundary"),
        (PLAIN + b"Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\n" + LONG, "twice"),
        (PLAIN + b"Content-Type: x; " + b"a=b;" * 2000 + b"\r\n\r\n" + LONG, "cannot be read"),
        (PLAIN + b"Content-Type: message/partial\r\n\r\n" + LONG, "may not be encoded"),
        (PLAIN + b"Content-Transfer-Encoding: x-uuencode\r\n\r\n" + LONG, "encoded already: x-uuencode"),
        (PLAIN + multipart(b"no field\r\n\r\n" + LONG), "no field"),
        (PLAIN + multipart(b"\r\n" + b"--b-\r\n" * 10_001 + LONG), "look like a boundary"),
        (PLAIN + multipart(*[b"\r\n" + LONG] * 1001), "1000 parts"),
        (PLAIN + b"X: y\r\n" * 50_000 + b"\r\n" + LONG, "262144 octets"),
        (PLAIN + b"X: y" + b" " * 200_000 + b"\r\n\r\nx", "the field X has no white space"),
    ],
)
def test_what_cannot_be_encoded_is_refused_with_its_reason(source: bytes, why: str) -> None:
    """What is signed would break; what is read in more than one way would be read wrong."""
    assert why in refused(source + b"\r\n")


def test_depth_is_bounded() -> None:
    """Hostile nesting costs what 20 levels cost."""
    part = b"\r\n" + LONG
    for level in range(30):
        part = multipart(part, boundary=b"=%d=" % level)
    assert "20 levels" in refused(PLAIN + part)


def test_a_signed_message_without_such_a_line_passes() -> None:
    """Nothing is looked at then but lengths."""
    source = PLAIN + b"DKIM-Signature: v=1\r\n\r\n" + b"x" * 998 + b"\r\n"
    assert fitted(source, ENCODE) is fitted(source, REFUSE) is source


def test_the_refusal_names_the_line_and_the_limit() -> None:
    """And `pass` passes it on."""
    source = PLAIN + b"\r\nshort\r\n" + b"x" * 1500 + b"\r\n"
    assert refused(source, REFUSE) == "mime: line 5 has 1500 octets, at most 998 are allowed (RFC 5322 2.1.1)"
    assert fitted(source, PASS) is source


@given(st.lists(st.sampled_from([b"x" * 997, b"x", b"\r\n", b"xx\r\n", b"x" * 3000]), max_size=12))
def test_pieces_are_found_as_the_whole_is(pieces: list[bytes]) -> None:
    """Wherever the cuts are."""
    lengths = LineLengths()
    assert any(map(lengths.has_long, pieces)) is (first_long(b"".join(pieces)) >= 0)


LINES = st.tuples(st.sampled_from([b"", b"x", b"x" * 37, b"x" * 76, b"x" * 998]), st.sampled_from([1, 15, 16, 900]))
FLAWS = st.tuples(st.integers(0, 10**6), st.sampled_from([b"\r", b"\n", b"\r\n", b"x", b"\n\r", b"y" * 990]))


@given(st.lists(LINES, min_size=1, max_size=5), st.lists(FLAWS, max_size=3))
def test_runs_of_even_lines_are_seen_as_other_lines_are(
    runs: list[tuple[bytes, int]], flaws: list[tuple[int, bytes]]
) -> None:
    """Whatever stands in the middle of them: base64 is looked at in another way."""
    source = b"".join((line + b"\r\n") * count for line, count in runs)
    for at, flaw in flaws:
        source = source[: at % len(source)] + flaw + source[at % len(source) + len(flaw) % 3 :]
    assert orderly(source) is (re.fullmatch(rb"(?:[^\r\n]{0,998}+\r\n)++", source) is not None)
    assert crlf(source) == re.sub(rb"\r\n|\r|\n", b"\r\n", source)
    long = re.search(rb"^[^\n]{999,}", source, re.MULTILINE)
    if long is None or not long[0].endswith(b"\r"):  # whose CR may be its end
        assert first_long(source) == (long.start() if long else -1)


LEAF = st.text(st.sampled_from("ax=.- \tüé€\n"), max_size=60).flatmap(
    lambda text: st.sampled_from([text, text * 40, text.replace("\n", "") * 40, "\n" + text])
)


def message(tree: Any) -> EmailMessage:
    made = EmailMessage(policy=email.policy.SMTP)
    if isinstance(tree, str):
        made["Content-Type"] = "text/plain; charset=utf-8"
        made["Content-Transfer-Encoding"] = "8bit"
        made.set_payload(tree.encode().decode("ascii", "surrogateescape"))
    elif isinstance(tree, bytes):
        made["Content-Type"] = "application/pdf"
        made["Content-Transfer-Encoding"] = "base64"
        made.set_payload(base64.b64encode(tree * 10).decode())  # in one line
    else:
        made["Content-Type"] = "multipart/mixed"
        for one in tree:
            made.attach(message(one))
    return made


TREE = st.recursive(LEAF | st.binary(max_size=200), lambda inner: st.lists(inner, min_size=1, max_size=4), max_leaves=8)


@given(TREE)
def test_every_part_reads_the_same_after_encoding(tree: Any) -> None:
    """Of any tree that Python's email package writes, by its own parser."""
    source = settled(b"Subject: x\r\nMIME-Version: 1.0\r\n" + message(tree).as_bytes())
    assert contents(encoded(source)) == contents(source)


@pytest.mark.parametrize("rest", ["", "DKIM-Signature: v=1\r\n"], ids=["unsigned", "signed"])
def test_a_field_for_us_may_be_long(rest: str) -> None:
    """A key or JSON in an `x-mq-*` field is taken out before the mail is sent, so its line breaks nothing."""
    mail = f"X-MQ-Data: {'a' * 3000}\r\n{rest}Subject: x\r\n\r\nbody\r\n".encode()
    assert fitted(mail, ENCODE, True) is mail
    assert fitted(mail, REFUSE, True) is mail


def test_where_nobody_takes_it_out_it_is_a_field_like_any_other() -> None:
    """It would be sent as it is: folded where it has white space, else refused."""
    field = b"X-MQ-Data: " + b"a " * 1500
    assert first_long(fitted(field + b"\r\n\r\nbody\r\n", ENCODE)) < 0
    with pytest.raises(InvalidMessage, match="line 1 has 3011 octets"):
        fitted(field.replace(b"a ", b"aa") + b"\r\n\r\nbody\r\n", ENCODE)


def test_a_field_for_us_stays_as_it_is_where_another_line_is_encoded() -> None:
    """It is read as it came."""
    field = b"x-mq-data: " + b"a" * 3000 + b"\r\n"
    made = fitted(field + b"Subject: x\r\n\r\n" + b"b" * 2000 + b"\r\n", ENCODE, True)
    assert made.startswith(field) and b"quoted-printable" in made.lower()
