"""Forms of messages that MailerQ's public pages show, of all its versions: older names, and what programs write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import reactivex as rx

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.outcome import Next
from operators.mail.message import Dsn, InvalidMessage, Message, from_properties
from operators.mail.source import build, source_of
from operators.stages.decode import decode, with_defaults
from operators.stages.expire import expire

HEAD = {"from": "a@my.test", "to": "b@c.example", "subject": "s"}


def message(**properties: Any) -> Message:
    """As it is read from a queue."""
    return from_properties({"recipient": "b@c.example", "mime": "Subject: x\r\n\r\nx\r\n", **properties})


def decoded(loose: Sequence[str] = (), **properties: Any) -> Delivery:
    """As it leaves the second stage, at 2016-01-01."""
    body = {"recipient": "b@c.example", "mime": "Subject: x\r\n\r\nx\r\n", **properties}
    found: list[Delivery] = []
    stages = (decode(100_000, lambda: 0.0, loose=loose), expire(3600, lambda: 1_451_606_400.0))
    rx.of(Lease(id=1, body=json.dumps(body).encode(), queued=1_451_606_400.0)).pipe(*stages).subscribe(found.append)
    return found[0]


def html(*blocks: dict[str, Any], **more: Any) -> str:
    """The HTML version of these blocks, all in one line."""
    made = build({**HEAD, "text": "t", "content": {"blocks": list(blocks)}, **more}, "id").decode()
    return made.replace("=\r\n", "").replace("=3D", "=")


@pytest.mark.parametrize("delayed", ["2099-01-01 00:00:00", {"time": "2099-01-01 00:00:00"}])
def test_an_older_name_of_the_next_attempt_holds(delayed: Any) -> None:
    """`delayed`, of versions before 4: what was meant for tomorrow is not sent today."""
    outcome = decoded(delayed=delayed).outcome
    assert outcome is not None and outcome.next is Next.POSTPONE
    assert decoded(delayed="2015-01-01 00:00:00").outcome is None
    assert decoded(delayed="2099-01-01 00:00:00", nextattempt={"time": "2015-01-01 00:00:00"}).outcome is None
    wrong = decoded(delayed="tomorrow").outcome
    assert wrong is not None and (wrong.state, wrong.result) == ("process", "invalid")


@pytest.mark.parametrize("name", ["hostname", "name", "host"])
def test_older_names_of_a_smarthosts_host_hold(name: str) -> None:
    """Else its mail would go to the world."""
    found = message(smarthost={name: "relay.example", "port": "25", "username": "u", "password": "p"}).smarthost
    assert found is not None and (found.hostname, found.port, found.username) == ("relay.example", 25, "u")


@pytest.mark.parametrize("smarthost", [{}, [], "", {"port": 25}, {"server": "relay.example"}, {"name": ""}])
def test_a_smarthost_without_a_host_is_never_taken_for_none(smarthost: Any) -> None:
    """The message is given up."""
    with pytest.raises(InvalidMessage, match="smarthost"):
        message(smarthost=smarthost)


def test_false_and_an_empty_name_turn_a_queue_off() -> None:
    """As null does."""
    queues = message(queues={"results": False, "success": None, "failure": "mine"}).queues
    assert queues == {"results": None, "success": None, "failure": "mine"}


def test_addresses_may_have_the_brackets_of_the_wire() -> None:
    """They are sent once."""
    found = decoded(recipient="<b@c.example>", envelope="<a@my.test>")
    assert found.outcome is None
    assert (found.message.recipient, found.message.envelope, found.domain) == ("b@c.example", "a@my.test", "c.example")
    assert decoded(recipient="<b@c.example").outcome is not None


def test_addresses_may_be_loose_where_that_is_configured() -> None:
    """They go out quoted, and stand in results as they came; each of both by its own key."""
    body = {"recipient": "b c@c.example", "envelope": "a, b@my.test"}
    loose = decoded(loose=("recipient", "envelope"), **body)
    assert loose.outcome is None and loose.domain == "c.example"
    assert (loose.message.recipient, loose.message.envelope) == ('"b c"@c.example', '"a, b"@my.test')
    assert loose.message.properties["recipient"] == "b c@c.example"
    for one in ((), ("recipient",), ("envelope",)):
        strict = decoded(loose=one, **body).outcome
        assert strict is not None and (strict.state, strict.result) == ("process", "invalid")
    assert decoded(loose=("recipient",), recipient="b c@no domain").outcome is not None


def test_an_address_may_be_called_email() -> None:
    """In `from` and the other fields of a mime object."""
    made = build({**HEAD, "from": {"name": "John Doe", "email": "john@my.test"}, "text": "t"}, "id")
    assert b"From: John Doe <john@my.test>\r\n" in made


def test_an_attachment_alone_need_not_be_a_list() -> None:
    """A single object is one."""
    made = build(
        {**HEAD, "text": "t", "attachments": {"data": "aGVsbG8=", "name": "h.txt", "type": "text/plain"}}, "id"
    )
    assert b'filename="h.txt"' in made


def test_what_a_template_says_of_itself_is_no_part_of_the_mail() -> None:
    """name, description, version; blocks beside content; css and a tracking pixel are the page's."""
    made = build(
        {
            **HEAD, "name": "My template", "description": "d", "version": 1, "css": {"color": "red"},
            "tracking": {"pixel": "http://t.example/p.gif"}, "blocks": [{"type": "text", "content": "hello"}],
        },
        "id",
    ).decode()  # fmt: skip
    made = made.replace("=\r\n", "").replace("=3D", "=")
    assert "hello" in made and "color: red" in made and 'src="http://t.example/p.gif"' in made
    assert "My template" not in made
    with pytest.raises(InvalidMessage, match=r"mime.nosuch: there is no such part"):
        build({**HEAD, "text": "t", "nosuch": {}}, "id")


def test_a_mime_object_may_have_its_own_data() -> None:
    """Its templates are filled in with it."""
    made = source_of(message(mime={**HEAD, "subject": "Hi {$name}", "text": "t", "data": {"name": "Em"}}))
    assert b"Subject: Hi Em\r\n" in made


def test_people_are_followed_by_address_or_name() -> None:
    """`platforms` of a follow block; its label stands above."""
    platforms = {"facebook": "copernica", "twitter": "https://twitter.com/x", "linkedin": {"identifier": "em"}}
    made = html({"type": "follow", "label": "Follow us!", "platforms": platforms})
    assert 'href="https://facebook.com/copernica"' in made and 'href="https://twitter.com/x"' in made
    assert 'href="https://www.linkedin.com/in/em"' in made and "Follow us!" in made


def test_a_link_is_shared() -> None:
    """`platforms` of a share block, with the settings of each beside them; those that are gone are left out."""
    made = html({
        "type": "share", "link": {"url": "https://a.example/?x=1", "title": "T"}, "facebook": {"appid": "1"},
        "platforms": ["facebook", "twitter", "googleplus"],
    })  # fmt: skip
    assert 'href="https://www.facebook.com/sharer/sharer.php?u=https%3A%2F%2Fa.example%2F%3Fx%3D1"' in made
    assert "https://twitter.com/intent/tweet?" in made and "plus.google" not in made


def test_a_video_is_a_picture_that_leads_to_it() -> None:
    """Mail programs play none."""
    made = html({"type": "video", "url": "https://www.youtube.com/watch?v=zSQCH1qyIDo"})
    assert 'href="https://www.youtube.com/watch?v=zSQCH1qyIDo"' in made and "/zSQCH1qyIDo/" in made
    with pytest.raises(InvalidMessage, match="no address to link to"):
        html({"type": "video", "url": "javascript:alert(1)"})


def test_what_is_for_the_web_alone_is_not_mailed() -> None:
    """`visibility.output`."""
    made = html(
        {"type": "text", "content": "web", "visibility": {"output": "webonly"}},
        {"type": "text", "content": "letter", "visibility": {"output": "mailonly"}},
    )
    assert "letter" in made and ">web<" not in made


def test_wishes_of_the_configuration_hold_where_a_message_has_none() -> None:
    """`dsn-notify` and `dsn-ret`."""
    wishes = Dsn("FAILURE", "HDRS")
    assert with_defaults(None, wishes) == wishes
    assert with_defaults(Dsn("NEVER", envid="e"), wishes) == Dsn("NEVER", "HDRS", envid="e")
    body = json.dumps({"recipient": "b@c.example", "mime": "x", "dsn": {"ret": "FULL"}}).encode()
    found: list[Delivery] = []
    rx.of(Lease(id=1, body=body)).pipe(decode(1000, lambda: 0.0, wishes=wishes)).subscribe(found.append)
    assert found[0].message.dsn == Dsn("FAILURE", "FULL")
