"""bounce: who is told that mail failed, and how (RFC 3461, RFC 3464)."""

from __future__ import annotations

import email
from email.message import Message as Mail

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.dsn import bounce
from operators.deliveries.outcome import Next, Outcome, deferred, failed
from operators.mail.long_lines import ENCODE, fitted
from operators.mail.message import from_properties
from tests.support import strict

NOW = 1_800_000_000.0
SOURCE = b"Subject: Gr\xc3\xbc\xc3\x9fe\r\nX-Own: 1\r\n\r\nHello\r\n"
GONE = failed("rcptto", "error", "no such user", code=550, status="5.1.1", host="mx.a.example", remote_ip="192.0.2.1")
TAKEN = Outcome(state="message", result="accepted", next=Next.DELIVERED, code=250, dsn=False)


def told(outcome: Outcome, envelope: str = "me@sender.example", **dsn: str) -> dict[str, str] | None:
    properties = {"recipient": "user@a.example", "envelope": envelope, "mime": SOURCE.decode(), "dsn": dsn or None}
    message = from_properties(properties)
    delivery = Delivery(lease=Lease(1, b"", queued=NOW), message=message, outcome=outcome, source=SOURCE)
    return bounce(delivery, "mta.example", "id@mta.example", NOW)


def parts(outcome: Outcome, **dsn: str) -> list[Mail]:
    properties = told(outcome, **dsn)
    assert properties is not None
    return list(email.message_from_string(properties["mime"]).walk())


def test_a_failure_is_reported_to_the_envelope_from_the_null_sender() -> None:
    """So that the notification itself never bounces."""
    properties = told(GONE, notify="FAILURE")
    assert properties is not None
    assert (properties["recipient"], properties["envelope"]) == ("me@sender.example", "")


def test_the_report_has_what_programs_read() -> None:
    """The fields of RFC 3464, with the receiver's answer and what the sender asked to see again."""
    report, _, status, whole, one, *_ = parts(GONE, notify="FAILURE,DELAY", envid="E1", orcpt="rfc822;x@y.example")
    assert report.get_content_type() == "multipart/report"
    assert status.get_content_type() == "message/delivery-status"
    assert (whole["Reporting-MTA"], whole["Original-Envelope-Id"]) == ("dns; mta.example", "E1")
    assert (one["Final-Recipient"], one["Original-Recipient"]) == ("rfc822; user@a.example", "rfc822;x@y.example")
    assert (one["Action"], one["Status"], one["Remote-MTA"]) == ("failed", "5.1.1", "dns; mx.a.example")
    assert one["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"


def test_ret_decides_how_much_of_the_message_comes_back() -> None:
    """HDRS, or nothing said: the header; FULL: all."""
    header = parts(GONE, notify="FAILURE")[-1]
    assert header.get_content_type() == "text/rfc822-headers"
    assert b"X-Own: 1" in header.get_payload(decode=True)  # type: ignore[operator]
    assert parts(GONE, notify="FAILURE", ret="FULL")[-1].get_payload().strip() == "Hello"  # type: ignore[union-attr]


def test_the_whole_message_comes_back_byte_for_byte() -> None:
    """Nothing of it is folded anew: to Python's parser this header is hours of work."""
    source = b"Subject: " + b"=?utf-8?q?a?= " * 15_000 + b"\r\nX: (the original message)\r\n\r\n\xff\r\n"
    wish = {"notify": "FAILURE", "ret": "FULL", "envid": "a;" * 500_000}
    message = from_properties({"recipient": "u@a.example", "envelope": "me@b.example", "mime": "", "dsn": wish})
    delivery = Delivery(lease=Lease(1, b"", queued=NOW), message=message, outcome=GONE, source=source)
    properties = bounce(delivery, "mta.example", "id@mta.example", NOW)
    assert properties is not None
    assert b"\r\n\r\n" + source + b"\r\n--=_" in from_properties(properties).source()


def test_the_header_comes_back_of_a_message_that_no_notification_can_hold() -> None:
    """A line over 998 octets of what is signed: the notification would be refused as the message was."""
    mime = "DKIM-Signature: v=1\r\nSubject: x\r\n\r\n" + "x" * 999 + "\r\n"
    wish = {"notify": "FAILURE", "ret": "FULL"}
    message = from_properties({"recipient": "u@a.example", "envelope": "me@b.example", "mime": mime, "dsn": wish})
    properties = bounce(Delivery(lease=Lease(1, b""), message=message, outcome=GONE), "mta.example", "id", NOW)
    assert properties is not None
    source = from_properties(properties).source()
    assert fitted(source, ENCODE) is source
    assert b"text/rfc822-headers\r\n\r\nDKIM-Signature: v=1\r\nSubject: x\r\n" in source


def test_a_message_that_cannot_be_read_comes_back_empty() -> None:
    """With nothing in its place."""
    broken = {"mime": "&", "mime-encoding": "base64", "dsn": {"notify": "FAILURE", "ret": "FULL"}}
    message = from_properties({"recipient": "u@a.example", "envelope": "me@b.example", **broken})
    properties = bounce(Delivery(lease=Lease(1, b""), message=message, outcome=GONE), "mta.example", "id", NOW)
    assert properties is not None
    assert b"message/rfc822\r\n\r\n\r\n--=_" in from_properties(properties).source()


@pytest.mark.parametrize(
    ("outcome", "envelope", "dsn"),
    [
        (GONE, "", {"notify": "FAILURE"}),
        (GONE, "me@sender.example", {"notify": "NEVER"}),
        (GONE, "me@sender.example", {}),
        (GONE, "me@sender.example", {"notify": "SUCCESS"}),
        (TAKEN, "me@sender.example", {"notify": "FAILURE"}),
        (deferred("rcptto", "error", "later", code=451), "me@sender.example", {"notify": "FAILURE"}),
    ],
)
def test_nobody_is_told_who_did_not_ask(outcome: Outcome, envelope: str, dsn: dict[str, str]) -> None:
    """The null sender, NEVER, another wish, or no wish at all; a retry is no failure."""
    assert told(outcome, envelope, **dsn) is None


def test_success_is_told_only_where_the_receiver_does_not() -> None:
    """`relayed`, where the receiver offers no DSN."""
    assert parts(TAKEN, notify="SUCCESS")[4]["Action"] == "relayed"
    offered = Outcome(state="message", result="accepted", next=Next.DELIVERED, code=250, dsn=True)
    assert told(offered, notify="SUCCESS") is None


# -- by the grammar ---------------------------------------------------------------------------------------------------


def fields_of(outcome: Outcome, recipient: str = "user@a.example", **dsn: str) -> tuple[dict[str, str], dict[str, str]]:
    """The message's and the recipient's fields of the status, read strictly."""
    properties = {"recipient": recipient, "envelope": "me@sender.example", "mime": "A: 1\r\n\r\n", "dsn": dsn}
    delivery = Delivery(lease=Lease(1, b"", queued=NOW), message=from_properties(properties), outcome=outcome)
    made = bounce(delivery, "mta.example", "id", NOW)
    assert made is not None
    source = from_properties(made).source()
    strict.fields(source.partition(b"\r\n\r\n")[0] + b"\r\n")
    _, _, status = source.partition(b"message/delivery-status\r\n\r\n")
    whole, one, *_ = status.split(b"\r\n\r\n")
    return dict(strict.fields(whole + b"\r\n")), dict(strict.fields(one.partition(b"\r\n--=_")[0] + b"\r\n"))


@pytest.mark.parametrize(
    ("code", "status", "result", "wanted"),
    [
        (550, "2.1.0", "error", "5.1.0"),
        (550, "4.7.1", "error", "5.7.1"),
        (451, "5.7.1", "error", "4.7.1"),
        (550, None, "error", "5.1.1"),
        (550, "5.1.10", "error", "5.1.10"),
        (550, "5.1.1111", "error", "5.1.1"),
        (None, None, "timeout", "4.4.7"),
        (None, None, "lost", "4.1.1"),
        (None, "2.0.0", "error", "5.0.0"),
    ],
)
def test_the_status_says_what_the_action_says(code: int | None, status: str | None, result: str, wanted: str) -> None:
    """K6: `failed` is of class 5 or 4, by the code; what the receiver says otherwise of the class does not count."""
    outcome = failed("rcptto", result, "no", code=code, status=status)
    _, one = fields_of(outcome, notify="FAILURE")
    assert (one["Action"], one["Status"]) == ("failed", wanted)


@pytest.mark.parametrize("status", [None, "2.0.0", "5.7.1", "2.6.0"])
def test_what_was_relayed_has_a_status_of_success(status: str | None) -> None:
    """K6: class 2, whatever the text of the 250 says."""
    outcome = Outcome(state="message", result="accepted", next=Next.DELIVERED, code=250, dsn=False, status=status)
    _, one = fields_of(outcome, notify="SUCCESS")
    assert one["Action"] == "relayed" and one["Status"].startswith("2.")


URL = "https://mail.example/postmaster/why?" + "x" * 150


def test_a_long_link_in_an_answer_stays_a_link() -> None:
    """K1: no encoded-word in any field of a status (RFC 2047 5); so of the identifiers."""
    long = "E" * 100
    outcome = failed("rcptto", "error", f"see {URL}", code=550, status="5.7.1", host="mx.a.example")
    whole, one = fields_of(outcome, notify="FAILURE", envid=long, orcpt=f"rfc822;{long}@y.example")
    assert one["Diagnostic-Code"] == f"smtp; 550 5.7.1 see {URL}"
    assert (whole["Original-Envelope-Id"], one["Original-Recipient"]) == (long, f"rfc822;{long}@y.example")


@pytest.mark.parametrize(
    ("orcpt", "wanted"),
    [
        ("rfc822;a+b=c@y.example", "rfc822;a+b=c@y.example"),
        ("rfc822; a@y.example", "rfc822;a@y.example"),
        ("a@y.example", "rfc822;a@y.example"),
        ("x400;/G=A/S=B/", "x400;/G=A/S=B/"),
        ("rfc822;ü+@y.example", r"utf-8;\x{FC}\x{2B}@y.example"),
        ("utf-8;a@y.example", "utf-8;a@y.example"),
        ("rfc822;a\r\nX: y@z", r"rfc822;a\x{D}\x{A}X: y@z"),
    ],
)
def test_the_original_recipient_is_as_its_sender_wrote_it(orcpt: str, wanted: str) -> None:
    """RFC 3461 4.2, RFC 3464 2.3.1: type;address, xtext decoded; beyond ASCII it is utf-8-addr-xtext (RFC 6533 3)."""
    assert fields_of(GONE, notify="FAILURE", orcpt=orcpt)[1]["Original-Recipient"] == wanted


@pytest.mark.parametrize(
    ("host", "wanted"),
    [("mx.example", "dns; mx.example"), ("192.0.2.1", "dns; [192.0.2.1]"),
     ("mx.bücher.example", "dns; mx.xn--bcher-kva.example")],
)  # fmt: skip
def test_a_server_is_named_as_dns_has_it(host: str, wanted: str) -> None:
    """RFC 3464 2.2.2: a host name, or an address literal."""
    outcome = failed("rcptto", "error", "no", code=550, host=host)
    assert fields_of(outcome, notify="FAILURE")[1]["Remote-MTA"] == wanted


@given(st.text(max_size=2000), st.text(max_size=200), st.text(max_size=200), st.text(max_size=60))
@example("x" * 3000, "y" * 3000, "z" * 3000, "ü" * 300)
def test_a_notification_is_well_formed_whatever_is_said(said: str, envid: str, orcpt: str, host: str) -> None:
    """K1: of the receiver's text, the sender's identifiers and any name."""
    outcome = failed("rcptto", "error", said, code=550, host=host)
    fields_of(outcome, notify="FAILURE", envid=envid, orcpt=orcpt)


def test_what_comes_back_of_a_header_is_readable() -> None:
    """RFC 6522 4: its text as it was, no base64, where it is ASCII; else quoted-printable."""
    wish = {"recipient": "u@a.example", "envelope": "me@b.example", "dsn": {"notify": "FAILURE"}}
    for mime, coding in (("A: 1\r\nB: 2\r\n\r\nx", None), ("A: ü and more\r\n\r\nx", "quoted-printable")):
        message = from_properties(wish | {"mime": mime})
        made = bounce(Delivery(lease=Lease(1, b""), message=message, outcome=GONE), "mta.example", "id", NOW)
        assert made is not None
        part = [*email.message_from_string(made["mime"]).walk()][-1]
        assert part["Content-Transfer-Encoding"] == coding
        assert part.get_payload(decode=True).rstrip() == mime.partition("\r\n\r\n")[0].encode()  # type: ignore[union-attr]


def test_a_message_that_never_was_composed_comes_back_all_the_same() -> None:
    """`mime` as an object, that failed before its turn: the header as it would have been."""
    mime = {"from": "Ü <me@b.example>", "subject": "x", "text": "t"}
    wish = {"recipient": "u@a.example", "envelope": "me@b.example", "dsn": {"notify": "FAILURE"}}
    delivery = Delivery(lease=Lease(1, b""), message=from_properties(wish | {"mime": mime}), outcome=GONE)
    made = bounce(delivery, "mta.example", "id", NOW)
    assert made is not None and "Subject: x\r\n" in made["mime"]


def test_a_notification_of_a_utf8_message_says_so() -> None:
    """RFC 6533 3: message/global, where the header is UTF-8."""
    wish = {"recipient": "ü@a.example", "envelope": "me@b.example", "dsn": {"notify": "FAILURE", "ret": "FULL"}}
    message = from_properties(wish | {"mime": "Subject: ü\r\n\r\nx", "smtputf8": True})
    made = bounce(Delivery(lease=Lease(1, b""), message=message, outcome=GONE), "mta.example", "id", NOW)
    assert made is not None and "Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n" in made["mime"]


def test_a_host_name_that_is_none_does_not_spoil_the_notification() -> None:
    """K14: its sender, its Message-ID and the reporting MTA are well formed."""
    wish = {
        "recipient": "u@a.example",
        "envelope": "me@b.example",
        "mime": "A: 1\r\n\r\n",
        "dsn": {"notify": "FAILURE"},
    }
    delivery = Delivery(lease=Lease(1, b""), message=from_properties(wish), outcome=GONE)
    made = bounce(delivery, "(none)", "1@(none)", NOW)
    assert made is not None
    fields = dict(strict.fields(made["mime"].encode().partition(b"\r\n\r\n")[0] + b"\r\n"))
    assert strict.addresses(fields["From"]) == [("Mail Delivery System", "postmaster@localhost")]
    assert fields["Message-ID"].endswith("@localhost>")
