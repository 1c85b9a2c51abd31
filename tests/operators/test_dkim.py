"""DKIM signatures: which keys, which headers, and canonicalisation equal to dkimpy's."""

from __future__ import annotations

import re
import time

import dkim
import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import example, given
from hypothesis import strategies as st

from operators.deliveries.routes import DnsAnswer, DnsStatus
from operators.mail.dkim import BODY, HEADER, Key, from_domain, signatures
from operators.mail.signing_keys import load
from operators.mail.wire import normalise
from pipeline.signing.key_records import compare
from settings.rules import key_pairs as keys
from tests.support.keys import ED25519, OTHER, RSA
from tests.support.opendkim import OpenDkim

NOW = 1_700_000_000.0
MAIL = b"From: a@example.com\r\nTo: b@example.net\r\nSubject: hello\r\nX-Id: 1\r\n\r\nbody\r\n"
LINES = st.lists(st.sampled_from([b"\r\n", b" ", b"\t", b"a", b".", b"\xff", b"word word", b"  "]), max_size=40)


def key(pem: str = RSA, **more: object) -> Key:
    return Key("example.com", "s1", load(pem), **more)  # type: ignore[arg-type]


def tag(source: bytes, name: str) -> str:
    """A tag of the first signature, without white space."""
    field = source[: source.index(b"From:")].decode()
    found = re.search(rf"[\s;]{name}=([^;]*)", field)
    assert found is not None
    return re.sub(r"\s", "", found[1])


# -- canonicalisation ---------------------------------------------------------------------------------------------


@given(LINES.map(b"".join).map(normalise))
@example(b"")
@example(b"\r\n")
@example(b" \t\r\n\r\n")
def test_bodies_are_canonicalised_as_dkimpy_does(body: bytes) -> None:
    """Two programs read RFC 6376 3.4.3 and 3.4.4 alike."""
    assert BODY["simple"](body) == Simple.canonicalize_body(body)
    assert BODY["relaxed"](body) == Relaxed.canonicalize_body(body)


@given(st.sampled_from([b"Subject", b"SUBJECT ", b"x-A\t"]), LINES.map(b"".join))
def test_headers_are_canonicalised_as_dkimpy_does(name: bytes, text: bytes) -> None:
    """RFC 6376 3.4.1 and 3.4.2; a line end in a value is a folded one."""
    value = b" " + text.replace(b"\r\n", b"\r\n ") + b"\r\n"
    for form, theirs in (("simple", Simple), ("relaxed", Relaxed)):
        wanted = b":".join(theirs.canonicalize_headers([(name, value)])[0])
        assert HEADER[form](name + b":" + value) == wanted


def test_a_megabyte_of_spaces_is_canonicalised_in_linear_work() -> None:
    """No message can hold the signing up: this one takes dkimpy minutes, and the test would time out."""
    assert BODY["relaxed"](b" " * 1_000_000 + b"x\r\n") == b" x\r\n"


# -- what is signed -----------------------------------------------------------------------------------------------


def test_from_is_signed_and_oversigned() -> None:
    """Once more than it occurs, so that no second one can be added (RFC 6376 8.15)."""
    assert tag(signatures(MAIL, [key()], NOW) + MAIL, "h").split(":").count("from") == 2
    double = b"From: c@example.com\r\n" + MAIL
    assert tag(signatures(double, [key()], NOW) + double, "h").split(":").count("from") == 3


@pytest.mark.parametrize(
    "own", [b"", b" v=1; a=; b", b" \xff\xfe", b" v=1;\r\n\t\r\n b=", b" x" * 3000, b" v=1; l=-1; b=" + b"A" * 5000]
)
def test_a_damaged_signature_of_the_sender_harms_ours_not(own: bytes) -> None:
    """K6: it is left as it is, and ours beside it is right."""
    source = b"DKIM-Signature:" + own + b"\r\n" + MAIL
    signed = signatures(source, [key()], NOW) + source
    record = keys.record_of(load(RSA)).encode()
    assert dkim.verify(signed, dnsfunc=lambda name, timeout=5: record)


def test_an_added_from_breaks_the_signature() -> None:
    """Which is what oversigning is for."""
    signed = signatures(MAIL, [key()], NOW) + MAIL
    record = keys.record_of(load(RSA)).encode()
    assert dkim.verify(signed, dnsfunc=lambda name, timeout=5: record)
    assert not dkim.verify(b"From: evil@example.com\r\n" + signed, dnsfunc=lambda name, timeout=5: record)


def test_extra_headers_are_signed() -> None:
    """Where they occur, as often as they do, in any case."""
    extra = b"x-ID: 2\r\n" + MAIL
    names = tag(signatures(extra, [key(headers=frozenset([b"x-id", b"x-none"]))], NOW) + extra, "h").split(":")
    assert names.count("x-id") == 2
    assert "x-none" not in names
    assert "x-id" not in tag(signatures(extra, [key()], NOW) + extra, "h").split(":")


def test_what_verifiers_cannot_take_is_not_signed() -> None:
    """K6. One field too long, or one name too many in h=, would void the whole signature."""
    long = b"Subject: above\r\nSubject:" + b"\r\n x" * 17_000 + b"\r\n"
    many = b"References: <x@example.com>\r\n" * 1000
    names = tag(signatures(long + MAIL, [key()], NOW) + long + MAIL, "h").split(":")
    assert names.count("subject") == MAIL.lower().count(b"\nsubject:")
    listed = tag(signatures(many + MAIL, [key()], NOW) + many + MAIL, "h")
    assert len(listed) <= 4096 and listed.split(":").count("from") == 2
    huge = b"From: (" + b"y\r\n " * 20_000 + b") a@example.com\r\n" + many + b"\r\nx\r\n"
    assert tag(signatures(huge, [key()], NOW) + huge, "h").split(":").count("from") == 2


@pytest.mark.system
@pytest.mark.parametrize(
    "odd",
    [
        b"Subject:" + b"\r\n x" * 30_000 + b"\r\n",
        b"Subject: above\r\nSubject:" + b"\r\n x" * 17_000 + b"\r\n",
        b"Subject:" + b"\r\n x" * 17_000 + b"\r\nSubject: below\r\n",
        b"References: <x@example.com>\r\n" * 1000,
        b"Resent-Message-Id: <x@example.com>\r\n" * 2000 + b"To: b@example.com\r\n" * 200,
    ],
)
@pytest.mark.parametrize("form", ["relaxed/simple", "simple/relaxed"])
def test_a_header_of_any_size_is_verified_by_others(odd: bytes, form: str) -> None:
    """K6. libopendkim takes 65,533 octets of a field, and 4,096 of h=."""
    source = b"From: a@example.com\r\n" + odd + b"\r\nx\r\n"
    signed = signatures(source, [key(canonicalization=form)], NOW) + source
    record = keys.record_of(load(RSA)).encode()
    assert dkim.verify(signed, dnsfunc=lambda name, timeout=5: record)
    assert [line.endswith(": ok") for line in OpenDkim(lambda name: record).verify(signed)] == [True]


def test_every_key_signs() -> None:
    """RSA and Ed25519 side by side (RFC 8463 1)."""
    signed = signatures(MAIL, [key(), key(ED25519)], NOW)
    assert re.findall(rb"a=([a-z0-9-]+)", signed) == [b"rsa-sha256", b"ed25519-sha256"]


def test_a_header_name_cannot_add_a_tag() -> None:
    """A field name may have a semicolon (RFC 5322 3.6.8), the list of h= may not."""
    odd = b"x;l=0: 1\r\n" + MAIL
    assert b"l=0" not in signatures(odd, [key(headers=frozenset([b"x;l=0"]))], NOW)


def test_lines_of_the_signature_are_short() -> None:
    """At most 78 characters (RFC 5322 2.1.1), where its names are not longer themselves."""
    many = b"".join(b"X-Header-%d: x\r\n" % number for number in range(50)) + MAIL
    headers = frozenset(b"x-header-%d" % number for number in range(50))
    for line in signatures(many, [key(headers=headers)], NOW).split(b"\r\n"):
        assert len(line) <= 78


def test_nothing_goes_before_a_continuation_line() -> None:
    """It would continue the signature; such a message has no readable header anyway."""
    assert signatures(b" odd\r\n" + MAIL, [key()], NOW) == b""


# -- the From domain ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        ("a@example.com", "example.com"),
        ("A <a@Example.COM>", "Example.COM"),
        ('"x@evil.example" <a@example.com>', "example.com"),
        ("x@evil.example <a@example.com>", "example.com"),
        ("(x@evil.example) a@example.com", "example.com"),
        ("a@example.com (x@evil.example)", "example.com"),
        ('"a@b"@example.com', "example.com"),
        ("A\r\n <a@example.com>", "example.com"),
        ("a@example.com, b@example.net", "example.com"),
        ("Team: a@example.com, b@example.net;", "example.com"),
        ("=?utf-8?q?J=C3=B6rg?= <a@b\u00fccher.example>", "b\u00fccher.example"),
        ("nobody", ""),
        ("", ""),
        ("(a (nested, x@evil.example) b) a@example.com", "example.com"),
        ("a(x@evil.example)@(y(z))example.com", "example.com"),
        ("=?utf-8?q?x=40evil.example?= <a@example.com>", "example.com"),
        ("=?utf-8?q?x@evil.example?= <a@example.com>", "example.com"),
        ("Team <x>: A <a@example.com>;", "example.com"),
        ("Nobody:;, a@example.com", "example.com"),
        ('"Doe, John <x@evil.example>" <a@example.com>', "example.com"),
        ('"John \\" <x@evil.example>" <a@example.com>', "example.com"),
        ('"a\\"@evil.example"@example.com', "example.com"),
        ("<@evil.example,@x.example:a@example.com>", "example.com"),
        ("a@[192.0.2.1]", "[192.0.2.1]"),
        ("A\r\n\t<a@\r\n example.com>", "example.com"),
        ("a @ example . com", "example.com"),
        ("Doe, John <a@example.com>", "example.com"),
        ('"unclosed <a@example.com>', "example.com"),
        ("(unclosed <a@example.com>", "example.com"),
        ("x" * 5000 + " <a@example.com>", "example.com"),
        ("(" + "c" * 5000 + ") a@example.com", "example.com"),
        (",".join(["nobody"] * 1000) + ", a@example.com", "example.com"),
        ("A <a@example.com", "example.com"),
        ("a@example.com(x)evil.example", "example.com"),
        ("A <a@example.com(x)evil.example>", "example.com"),
        ("a@example.com evil.example", "example.com"),
        ('"x@evil.example y"@example.com', "example.com"),
    ],
)
def test_the_from_domain(value: str, domain: str) -> None:
    """Of the address, whatever stands around it."""
    assert from_domain(f"To: x@y\r\nfrom: {value}\r\nFrom: z@z\r\n\r\n".encode()) == domain


@pytest.mark.parametrize("piece", ["(", '"', "\\", "a,", "<", "@", "(a)", '"a" ', "\r\n ", ":", "a@", ";", "[", "("])
def test_the_from_domain_takes_time_by_its_length_only(piece: str) -> None:
    """S1: a From of a megabyte, of the worst; with the square of it, an hour of the loop."""
    began = time.process_time()
    from_domain(f"From: {piece * (1_000_000 // len(piece))}\r\n\r\n".encode())
    assert time.process_time() - began < 20


def test_a_message_without_from_has_no_from_domain() -> None:
    """Only keys for all mail can match it."""
    assert from_domain(b"To: x@y\r\n\r\nFrom: a@b\r\n") == ""


# -- keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "x", "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----", "x" * 10**6]
)
def test_what_is_no_key_is_refused_without_being_shown(text: str) -> None:
    """The error's text has nothing of what was given."""
    with pytest.raises(ValueError, match="cannot be read") as caught:
        load(text)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_key_does_not_show_its_private_half() -> None:
    """It may come into a log with what it is part of."""
    assert "PRIVATE" not in repr(key())
    assert RSA.splitlines()[1] not in repr(key())


# -- the record in DNS ---------------------------------------------------------------------------------------------

RECORD = keys.record_of(load(RSA))
DATA = RECORD.partition("p=")[2]
PKCS1 = "MIIBCg"  # how a bare RSAPublicKey of 2048 bits begins, in base64


def verdict(*records: str, status: DnsStatus = DnsStatus.FOUND) -> str:
    return compare(DnsAnswer(status, tuple(record.encode() for record in records)), RECORD)[0]


def test_a_record_is_valid_however_it_is_written() -> None:
    """Order, spaces, tags without meaning; v= and k= may be missing (RFC 6376 3.6.1)."""
    spaced = f"{DATA[:90]} {DATA[90:]}"
    bare = f"p={DATA[32:]}"  # without the algorithm's 24 bytes around the key
    assert DATA[32:].startswith(PKCS1)
    for record in (
        RECORD,
        f"p={DATA}",
        f"v=DKIM1;p={spaced};n=hello;t=y;",
        f"v=DKIM1; h=sha1:sha256; s=email; p={DATA}",
        bare,
    ):
        assert verdict(record) == "valid", record


def test_other_records_beside_it_do_not_matter() -> None:
    """Only those that are keys count."""
    assert verdict("v=spf1 -all", RECORD) == "valid"


@pytest.mark.parametrize(
    "record",
    [
        "v=DKIM1; p=",
        f"v=DKIM1; k=ed25519; p={DATA}",
        f"v=DKIM1; h=sha1; p={DATA}",
        f"v=DKIM1; s=other; p={DATA}",
        keys.record_of(load(ED25519)),
        keys.record_of(load(OTHER)),
        "v=DKIM1; p=!!!",
    ],
    ids=["revoked", "other kind", "other hash", "other service", "an Ed25519 key", "another RSA key", "no base64"],
)
def test_a_record_with_which_verification_would_fail_is_different(record: str) -> None:
    """Revoked, another key or kind, hashes or services without ours; also where the right one is beside it."""
    assert verdict(record) == "different"
    assert verdict(RECORD, record) == "different"


@pytest.mark.parametrize("status", [DnsStatus.MISSING, DnsStatus.EMPTY, DnsStatus.BROKEN])
def test_no_record_is_missing(status: DnsStatus) -> None:
    """Asking again does not help."""
    assert verdict(status=status) == "missing"
    assert verdict("v=spf1 -all", "v=DKIM2; p=x", "nonsense") == "missing"


@pytest.mark.parametrize("status", [DnsStatus.FAILED, DnsStatus.TIMEOUT])
def test_no_answer_is_unreachable(status: DnsStatus) -> None:
    """DNS has not said anything of the key."""
    assert verdict(status=status) == "unreachable"
