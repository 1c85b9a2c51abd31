"""Where a header ends: decided once, before anything is signed."""

from __future__ import annotations

import random
import time

import dkim
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.mail.dkim import Key, signatures
from operators.mail.head import length, settled, split
from operators.mail.message import InvalidMessage, from_properties
from operators.mail.signing_keys import load, record
from operators.mail.source import source_of
from operators.mail.wire import chunks
from tests.support.keys import RSA as PEM
from tests.support.opendkim import OpenDkim

RSA = Key("example.com", "rsa", load(PEM))
FROM = b"From: a@example.com\r\n"
ODD = [
    (FROM + b"\r\nbody\r\n", FROM + b"\r\nbody\r\n"),
    (FROM + b"no field\r\nSubject: x\r\n\r\nbody\r\n", FROM + b"\r\nno field\r\nSubject: x\r\n\r\nbody\r\n"),
    (FROM + b"body without a blank line", FROM + b"\r\nbody without a blank line\r\n"),
    (FROM, FROM + b"\r\n"),
    (b"Subject: header only\r\n" + FROM[:-2], b"Subject: header only\r\n" + FROM + b"\r\n"),
    (b"From a@b.c Mon Jan  1\r\n" + FROM + b"\r\nx\r\n", FROM + b"\r\nx\r\n"),
    (b">From a@b.c Mon Jan  1\n" + FROM + b"\nx\n", FROM + b"\r\nx\r\n"),
    (b"From here on it is text\r\nall of it\r\n", b"\r\nFrom here on it is text\r\nall of it\r\n"),
    (b"\r\n" + FROM + b"\r\nx\r\n", b"\r\n" + FROM + b"\r\nx\r\n"),
    (b" folded\r\n" + FROM + b"\r\nx\r\n", b"\r\n folded\r\n" + FROM + b"\r\nx\r\n"),
    (b"Subject : x\r\nFrom \t: a@example.com\r\n\r\nb\r\n", b"Subject: x\r\nFrom: a@example.com\r\n\r\nb\r\n"),
    (b"From : a@example.com\r\nSubject: x\r\n\r\nb\r\n", FROM + b"Subject: x\r\n\r\nb\r\n"),
    (FROM + b"Subject: a\r\n\tb\r\n c\r\n\r\nx\r\n", FROM + b"Subject: a\r\n\tb\r\n c\r\n\r\nx\r\n"),
    (FROM + b"Subject: a\r\n \r\n b\r\n\r\nx\r\n", FROM + b"Subject: a\r\n \r\n b\r\n\r\nx\r\n"),
    (FROM + b"Subject: a\rBcc: v@x.example\r\n\r\nx\r\n", FROM + b"Subject: a Bcc: v@x.example\r\n\r\nx\r\n"),
    (b"From: a@example.com\r\r\nSubject: x\r\r\n\r\r\nb\r\r\n", FROM + b"Subject: x\r\n\r\nb\r\n\r\n"),
    (b"From: a@example.com\rSubject: x\r\rb\r", FROM + b"Subject: x\r\n\r\nb\r\n"),
    (b"From: a@example.com\nSubject: x\n\nb\n", FROM + b"Subject: x\r\n\r\nb\r\n"),
    (b"Sub ject: x\r\n" + FROM + b"\r\nx\r\n", b"\r\nSub ject: x\r\n" + FROM + b"\r\nx\r\n"),
    (b"S\xc3\xbcbject: x\r\n" + FROM, b"\r\nS\xc3\xbcbject: x\r\n" + FROM),
    (b": x\r\n" + FROM, b"\r\n: x\r\n" + FROM),
    (b"\xef\xbb\xbf" + FROM + b"\r\nx\r\n", FROM + b"\r\nx\r\n"),
    (b"\xef\xbb\xbfFrom a@b.c Mon Jan  1\n" + FROM + b"\nx\n", FROM + b"\r\nx\r\n"),
    (b"just text", b"\r\njust text\r\n"),
    (b"", b"\r\n"),
    (FROM + b"X-Empty:\r\nX:\r\n\r\nx\r\n", FROM + b"X-Empty:\r\nX:\r\n\r\nx\r\n"),
]


@pytest.mark.parametrize(("given", "wanted"), ODD)
def test_the_body_begins_at_the_first_line_that_is_no_field(given: bytes, wanted: bytes) -> None:
    """K6: as in Postfix; the empty line is put there."""
    assert settled(given) == wanted


@pytest.mark.system
@pytest.mark.parametrize("given", [given for given, _ in ODD])
def test_what_is_odd_is_signed_so_that_others_agree(given: bytes) -> None:
    """K6: dkimpy and libopendkim find the signature and verify it, as what they get on the wire."""
    source = settled(given)
    sent = b"".join(chunks(signatures(source, [RSA], time.time()) + source, 1000))
    published = record(RSA).encode()
    assert dkim.verify(sent, dnsfunc=lambda name, timeout=5: published)
    if b"\nFrom:" in sent.partition(b"\r\n\r\n")[0]:  # libopendkim will not look at other mail
        assert OpenDkim(lambda name: published).verify(sent) == ["rsa: ok"]


PIECES = [b"From: a@b.c", b"X :", b"a", b":", b" ", b"\t", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"From ", b"\xff", b"."]


@given(st.lists(st.sampled_from(PIECES)).map(b"".join))
def test_deciding_it_again_changes_nothing(given: bytes) -> None:
    """K6: intake decides it before Received is put there, compose before signing; the second finds the first's."""
    source = settled(given)
    assert settled(source) is source
    fields, rest = split(source)
    assert rest.startswith(b"\r\n") and b"".join(fields) == source[: length(source)]
    assert all(field[:1] not in b" \t" and b":" in field for field in fields)
    assert b"\n" not in source.replace(b"\r\n", b"") and b"\r" not in source.replace(b"\r\n", b"")


@given(st.lists(st.sampled_from(PIECES)).map(b"".join))
def test_no_octet_of_a_body_is_lost(given: bytes) -> None:
    """Only a mailbox's first line, and white space and CR where they mean nothing, go."""
    kept = bytes(octet for octet in given if octet not in b"\r\n \t")
    found = bytes(octet for octet in settled(given) if octet not in b"\r\n \t")
    assert kept.endswith(found) and (kept == found or kept.lstrip(b">").startswith(b"From"))


@pytest.mark.parametrize("piece", [b"a: b\r\n", b"\r", b"a :\n", b"a\r\r", b" \r\n", b"a: \r", b"\r\r\n", b"a", b"!"])
def test_time_grows_with_the_length_and_no_faster(piece: bytes) -> None:
    """S1: a megabyte of the worst; with the square of it, an hour."""
    began = time.process_time()
    settled(b"a: b\n" + piece * (1_000_000 // len(piece)))
    assert time.process_time() - began < 15


def test_a_nul_is_refused_where_it_is_known() -> None:
    """K1, RFC 5322 4: at the API with 422, from the queue with the reason; SMTP and `mailrace send` refuse it, too."""
    with pytest.raises(InvalidMessage, match=r"^mime: holds a NUL octet"):
        source_of(from_properties({"mime": "Subject: a\0b\r\n\r\n"}))


@pytest.mark.system
def test_signatures_hold_on_any_mail_that_is_not_well_formed() -> None:
    """K6: a thousand of them, made of what breaks parsers."""
    chance, published = random.Random(6), record(RSA).encode()
    verifier = OpenDkim(lambda name: published)
    for _ in range(1000):
        source = settled(FROM + b"".join(chance.choices([*PIECES, b"Subject: x\r\n"], k=chance.randrange(12))))
        sent = b"".join(chunks(signatures(source, [RSA], time.time()) + source, 1000))
        sent = b"\r\n".join(line[1:] if line[:1] == b"." else line for line in sent.split(b"\r\n"))
        assert verifier.verify(sent) == ["rsa: ok"], sent
        assert dkim.verify(sent, dnsfunc=lambda name, timeout=5: published), sent
