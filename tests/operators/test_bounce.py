"""bounce: who is told that mail failed, and how (RFC 3461, RFC 3464)."""

from __future__ import annotations

import email
from email.message import Message as Mail

import pytest

from operators.bounce import PLACE, bounce
from operators.delivery import Delivery, Lease
from operators.message import from_properties
from operators.outcome import Next, Outcome, deferred, failed

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
    source = b"Subject: " + b"=?utf-8?q?a?= " * 100_000 + b"\r\nX: (the original message)\r\n\r\n\xff\r\n"
    wish = {"notify": "FAILURE", "ret": "FULL", "envid": "a;" * 500_000}
    message = from_properties({"recipient": "u@a.example", "envelope": "me@b.example", "mime": "", "dsn": wish})
    delivery = Delivery(lease=Lease(1, b"", queued=NOW), message=message, outcome=GONE, source=source)
    properties = bounce(delivery, "mta.example", "id@mta.example", NOW)
    assert properties is not None
    assert b"\r\n\r\n" + source + b"\r\n--==" in from_properties(properties).source()


def test_a_message_that_cannot_be_read_comes_back_empty() -> None:
    """With nothing in its place."""
    broken = {"mime": "&", "mime-encoding": "base64", "dsn": {"notify": "FAILURE", "ret": "FULL"}}
    message = from_properties({"recipient": "u@a.example", "envelope": "me@b.example", **broken})
    properties = bounce(Delivery(lease=Lease(1, b""), message=message, outcome=GONE), "mta.example", "id", NOW)
    assert properties is not None
    assert PLACE not in from_properties(properties).source()


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
