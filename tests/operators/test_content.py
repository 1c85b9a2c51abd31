"""A content that is apart: the stages pass it on unread, and who needs the whole message gets it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
import pytest
import reactivex as rx

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.dsn import bounce
from operators.deliveries.outcome import Next, Outcome, failed
from operators.deliveries.settlement import Retry
from operators.mail.message import decode_object, joined
from operators.stages.compose import compose
from operators.stages.decode import decode
from operators.stages.settle import plan
from pipeline.smtp.client.transaction import Capabilities, commands

NOW = 1_800_000_000.0
HEAD = "From: me@b.example\r\nSubject: Gr\u00fc\u00dfe\r\n\r\n"
OFFERED = Capabilities(pipelining=True, sizes=True, eightbit=True)
LATER = Outcome(state="message", result="error", next=Next.RETRY, description="later", until=NOW + 60)


class Apart:
    """A content that tells how often it was read."""

    def __init__(self, text: bytes, fails: bool = False) -> None:
        self.text, self.fails, self.reads = text, fails, 0
        self.size, self.ascii, self.dots, self.place = len(text), text.isascii(), True, ("/none", 0, len(text))

    def read(self) -> bytes:
        self.reads += 1
        if self.fails:
            raise OSError(5, "Input/output error")
        return self.text

    def pieces(self, size: int) -> Iterator[bytes]:
        yield self.read()


def delivery(content: Apart, whole: bool = False, **properties: object) -> Delivery:
    body = msgspec.json.encode({"recipient": "u@a.example", "envelope": "me@b.example", "mime": HEAD, **properties})
    found: list[Delivery] = []
    rx.of(Lease(1, body, NOW, content=content)).pipe(decode(10**6, lambda: 0.0, None, whole)).subscribe(found.append)
    return found[0]


def composed(one: Delivery) -> Delivery:
    found: list[Delivery] = []
    rx.of(one).pipe(compose()).subscribe(found.append)
    return found[0]


def test_the_header_is_composed_and_the_content_follows_unread() -> None:
    """Changes of the header, too; SIZE is that of both, and 8BITMIME is said where either needs it."""
    content = Apart(b"caf\xc3\xa9\r\n")
    one = composed(delivery(content, headers={"append": {"X-One": "1"}}))
    assert one.source == HEAD.replace("\r\n\r\n", "\r\nX-One: 1\r\n\r\n").encode()
    assert (one.content, content.reads) == (content, 0)
    mail, _ = commands(one.message, b"Subject: x\r\n\r\n", OFFERED, content)
    assert mail == b"MAIL FROM:<me@b.example> SIZE=21 BODY=8BITMIME\r\n"


def test_a_retry_keeps_the_content_where_it_is() -> None:
    """What is written again is the JSON, with one attempt more."""
    content = Apart(b"text\r\n")
    then = plan(delivery(content).ended(LATER), {}, 3600, NOW).then
    assert isinstance(then, Retry)
    assert (then.content, content.reads) == (content, 0)
    assert json.loads(then.body)["mime"] == HEAD


def test_a_result_that_keeps_the_mime_has_all_of_it() -> None:
    """Else it is not read."""
    content = Apart(b"text\r\n")
    taken = Outcome(state="message", result="accepted", next=Next.DELIVERED, code=250)
    for keep, mime, reads in ((False, None, 0), (True, HEAD + "text\r\n", 1)):
        (_, body), *_ = plan(delivery(content, keepmime=keep).ended(taken), {"results": "r"}, 3600, NOW).publish
        assert (json.loads(body).get("mime"), content.reads) == (mime, reads)


@pytest.mark.parametrize(("ret", "there"), [("FULL", True), ("HDRS", False)])
def test_a_notification_has_what_the_sender_asked_for(ret: str, there: bool) -> None:
    """RFC 3461 4.3."""
    one = delivery(Apart(b"text of it\r\n"), dsn={"notify": "FAILURE", "ret": ret})
    told = bounce(composed(one).ended(failed("rcptto", "error", "gone", code=550)), "mta.example", "id", NOW)
    assert told is not None
    assert ("text of it" in told["mime"]) is there


def test_custom_operators_know_a_message_whole() -> None:
    """As it was before there were contents apart; its retry is whole, too."""
    one = delivery(Apart(b"caf\xe9\r\n"), whole=True)
    assert one.content is None
    assert composed(one).source == HEAD.encode() + b"caf\xe9\r\n"
    then = plan(one.ended(LATER), {}, 3600, NOW).then
    assert isinstance(then, Retry)
    assert then.content is None


PARTS = {"from": "me@b.example", "subject": "x"}


def test_parts_of_an_object_that_are_apart_are_there_when_it_is_composed() -> None:
    """Its header and its text are made of all of it, so none of it is sent from where it lies."""
    one = composed(delivery(Apart(b'{"text":"good day"}'), mime=PARTS))
    assert one.content is None and one.outcome is None
    assert b"Subject: x\r\n" in one.source and one.source.endswith(b"\r\n\r\ngood day\r\n")


def test_an_object_that_is_nested_too_deep_is_refused_wherever_it_lies() -> None:
    """The bound is for all of it."""
    deep = b'{"content":' + b"[" * 500 + b"]" * 500 + b"}"
    outcome = delivery(Apart(deep), mime=PARTS).outcome
    assert outcome is not None and outcome.next is Next.REFUSE


def test_a_property_that_cannot_be_used_is_told_with_the_whole_message_once() -> None:
    """In the result that keeps it, and in the notification."""
    one = delivery(
        Apart(b'{"text":"good day"}'),
        mime=PARTS,
        recipient="nobody",
        keepmime=True,
        dsn={"notify": "FAILURE", "ret": "FULL"},
    )
    (_, body), *_ = plan(one, {"failure": "f"}, 3600, NOW).publish
    assert json.loads(body)["mime"] == PARTS | {"text": "good day"}
    told = bounce(one, "mta.example", "id", NOW)
    assert told is not None and told["mime"].count("good day") == 1


def test_what_cannot_be_read_is_put_off_as_a_fault_of_ours() -> None:
    """Of the disk; it never counts against the receiver."""
    outcome = delivery(Apart(b"x", fails=True), whole=True).outcome
    assert outcome is not None
    assert (outcome.state, outcome.next) == ("storage", Next.RETRY)


def test_joined_is_the_message_as_it_came() -> None:
    """Octets that are no UTF-8 make base64 of all."""
    properties = decode_object(msgspec.json.encode({"mime": "Subject: x\r\n\r\n", "own": 1}))
    assert joined(properties, b"y\r\n") == {"mime": "Subject: x\r\n\r\ny\r\n", "own": 1}
    assert joined(properties, b"\xff")["mime-encoding"] == "base64"
