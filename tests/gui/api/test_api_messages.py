"""Messages over the API: handed in, looked at, retried, released and deleted."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest

from settings.rules import key_pairs as keys
from tests.gui.api.world import World, until
from tests.support import strict
from tests.support.mailbox import Mailbox

MAIL = {"recipient": "you@fine.example", "envelope": "me@example.org", "mime": "Subject: Hi\r\n\r\nHello\r\n"}


def later(hours: float = 1.0) -> dict[str, str]:
    """A time to come, as the queues write it."""
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)
    return {"time": moment.strftime("%Y-%m-%d %H:%M:%S")}


async def waiting(world: World, *recipients: str) -> list[dict[str, Any]]:
    """Messages that wait for an hour."""
    await world.send(*recipients, nextattempt=later())
    await until(lambda: listed(world, len(recipients), state="waiting"))
    return list((await world.get("/messages", state="waiting"))["messages"])


async def listed(world: World, count: int, **query: Any) -> bool:
    return (await world.get("/messages/count", **query))["count"] == count


async def test_a_message_is_queued_and_delivered(world: World, mailbox: Mailbox) -> None:
    """One object; its own id stays."""
    answer = await world.post("/messages", {**MAIL, "message-id": "mine-1"}, 202)
    assert answer == {"ids": ["mine-1"]}
    await until(lambda: mailbox.total == 1)


async def test_many_messages_are_queued_at_once(world: World, mailbox: Mailbox) -> None:
    """A list; each gets an id of its own, and the received-log knows the token."""
    ids = (await world.post("/messages", [MAIL] * 3, 202))["ids"]
    assert len(set(ids)) == 3
    await until(lambda: mailbox.total == 3)
    story = await until(lambda: told(world, ids[0]))
    assert [(r.get("source"), r.get("user")) for r in story if "source" in r] == [("http", "tester")]
    assert story[-1]["result"] == "accepted"


async def told(world: World, id: str) -> list[dict[str, Any]] | None:
    records = (await world.get("/logs/story", message_id=id))["records"]
    return records if len(records) == 2 else None


@pytest.mark.parametrize(
    ("bad", "field", "message"),
    [
        (7, "", "not a JSON object but int"),
        ({**MAIL, "recipient": "you"}, "recipient", "'you' is no address"),
        ({**MAIL, "recipient": "you@a.example>\r\nDATA"}, "recipient", "is no address"),
        ({**MAIL, "envelope": "x y"}, "envelope", "'x y' is no address"),
        ({**MAIL, "retries": ["soon"]}, "retries[0]", "expected `int`, got `str`"),
        ({**MAIL, "maxdelivertime": "soon"}, "maxdelivertime", "'soon' is no time: YYYY-MM-DD HH:MM:SS in UTC"),
        ({**MAIL, "nextattempt": {"time": "x"}}, "nextattempt.time", "'x' is no time: YYYY-MM-DD HH:MM:SS in UTC"),
        ({**MAIL, "mime": {"colour": 1}}, "mime.colour", "there is no such part"),
        ({**MAIL, "mime": {"from": "a@b.c", "subject": "a\0b"}}, "mime.subject", "has a line break or NUL in it"),
        ({**MAIL, "mime": {"from": "a@b.c", "subject": "abc\n"}}, "mime.subject", "has a line break or NUL in it"),
        ({**MAIL, "mime": {"from": "nobody"}}, "mime.from", "is no list of addresses"),
        ({**MAIL, "mime": {"headers": {"X\r\nBcc": "v@x.example"}}}, "headers", "is no header name"),
        ({**MAIL, "mime": "Subject: a\0b\r\n\r\n"}, "mime", "holds a NUL octet"),
        ({**MAIL, "headers": {"replace": {"From": "nobody"}}}, "headers.From", "is no list of addresses"),
        ({**MAIL, "headers": {"append": {"X": "a\r\nBcc: b"}}}, "headers", "the value of X has a line break or NUL"),
        (
            {**MAIL, "dkim": {"domain": "b.c", "selector": "s", "key": "x"}},
            "dkim[0].key",
            "an unencrypted PEM private key",
        ),
    ],
)
async def test_one_bad_message_and_none_is_queued(world: World, bad: Any, field: str, message: str) -> None:
    """The problem names its place and the field."""
    answer = await world.client.post("/messages", json=[MAIL, bad])
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["index"], error["field"]) == (1, field)
    assert message in error["message"]
    assert (await world.machine.queue.figures()).ready == 0


async def test_a_queued_message_is_shown_without_body_and_secrets(world: World) -> None:
    """Header, properties, history; passwords and keys are blanked out."""
    smarthost = {"hostname": "fine.example", "username": "u", "password": "s3cret"}
    private = keys.generate("ed25519")
    dkim = {"domain": "example.org", "selector": "s", "key": private}
    await world.send("you@fine.example", nextattempt=later(), smarthost=smarthost, dkim=dkim)
    await until(lambda: listed(world, 1, state="waiting"))
    (found,) = (await world.get("/messages", state="waiting"))["messages"]
    answer = await world.client.get(f"/messages/{found['id']}")
    shown = answer.json()
    assert shown["header"] == "From: me@example.org\nSubject: Hi"
    assert shown["properties"]["smarthost"] == {**smarthost, "password": "***"}
    assert shown["properties"]["dkim"]["selector"] == "s"
    assert shown["results"] == []
    assert not any(secret in answer.text for secret in ("s3cret", private.splitlines()[1], "Hello"))


async def test_one_message_is_retried_now(world: World, mailbox: Mailbox) -> None:
    """It does not wait for its time any more."""
    (found,) = await waiting(world, "you@fine.example")
    assert (await world.client.post(f"/messages/{found['id']}/release")).status_code == 404  # it is not parked
    assert (await world.client.post(f"/messages/{found['id']}/retry")).status_code == 204
    await until(lambda: mailbox.total == 1)


async def test_one_message_is_deleted(world: World) -> None:
    """Only that one."""
    first, _ = await waiting(world, "a@fine.example", "b@fine.example")
    assert (await world.client.delete(f"/messages/{first['id']}")).status_code == 204
    assert (await world.client.get(f"/messages/{first['id']}")).status_code == 404
    assert await listed(world, 1)


async def test_messages_are_deleted_by_filter(world: World) -> None:
    """Counted before; only those that match are gone."""
    await waiting(world, *(f"u{n}@fine.example" for n in range(5)), *(f"v{n}@other.example" for n in range(3)))
    assert await listed(world, 3, domain="other.example")
    assert await listed(world, 5, containing="FINE")
    assert await listed(world, 8, state="waiting")
    assert await listed(world, 0, state="ready")
    order = {"action": "delete", "selection": {"domain": ["other.example"]}}
    job = await world.post("/messages/actions", order, 202)
    done = await until(lambda: ended(world, job["id"]))
    assert (done["state"], done["total"], done["looked"], done["changed"]) == ("done", 3, 3, 3)
    assert await listed(world, 5)
    assert (await world.get("/messages/actions"))[0]["id"] == job["id"]


async def ended(world: World, job: int) -> Any:
    found = await world.get(f"/messages/actions/{job}")
    return found if found["ended"] else None


async def test_a_bulk_retry_meets_each_message_once(world: World) -> None:
    """Also one that fails at once and waits again."""
    await waiting(world, *(f"u{n}@nowhere.example" for n in range(4)))  # its DNS does not answer
    job = await world.post("/messages/actions", {"action": "retry", "selection": {"state": "waiting"}}, 202)
    done = await until(lambda: ended(world, job["id"]))
    assert (done["total"], done["changed"]) == (4, 4)


async def test_a_long_list_comes_in_pages(world: World) -> None:
    """Each message once."""
    await waiting(world, *(f"u{n}@fine.example" for n in range(7)))
    seen, after = [], "0-0"
    while after:
        page = await world.get("/messages", state="waiting", limit=3, after=after)
        seen += [message["recipient"] for message in page["messages"]]
        after = page["next"]
    assert sorted(seen) == sorted(f"u{n}@fine.example" for n in range(7))


@pytest.mark.parametrize("shift", range(8))
async def test_messages_that_wait_for_one_moment_come_in_pages_too(world: World, shift: int) -> None:
    """Their time has fractions: rounded up it would skip messages, rounded down it would repeat them for ever."""
    safe = asyncio.get_running_loop().create_future()
    body = b'{"recipient": "you@fine.example"}'
    delay = 3600 + shift * 1.1234567e-6
    world.machine.queue.publish([("outbox", body)] * 5, safe.set_result, delay)
    await safe
    seen, after = [], "0-0"
    while after and len(seen) < 20:
        page = await world.get("/messages", state="waiting", limit=2, after=after)
        seen += [message["id"] for message in page["messages"]]
        after = page["next"]
    assert len(seen) == len(set(seen)) == 5
    assert await listed(world, 5, state="waiting")


async def test_a_queue_that_is_closed_is_a_problem(world: World) -> None:
    """503, and nothing is queued."""
    await world.machine.queue.close()
    answer = await world.client.post("/messages", json=MAIL)
    assert (answer.status_code, answer.json()["detail"]) == (503, "The queue does not answer; nothing is queued.")


async def test_what_is_taken_is_sent_and_says_no_more_than_was_asked_for(world: World, mailbox: Mailbox) -> None:
    """K1: an encoded line end in a subject, a long URL, an umlaut beside an address, all the way to a receiver."""
    link = "<https://mail.example/u/" + "a" * 100 + ">"
    mime = {
        "from": "Müller, J. <me@example.org>",
        "to": "you@fine.example",
        "subject": "Hello=?utf-8?q?=0A=0A?=Bcc: v@x.example",
        "headers": {"List-Unsubscribe": link, "In-Reply-To": f"<{'x' * 100}@b.example>"},
        "text": "Grüße",
    }
    mailbox.keep = True
    await world.post("/messages", {**MAIL, "mime": mime, "headers": {"append": {"X-Ü": "x"}}}, 422)
    await world.post("/messages", {**MAIL, "mime": mime}, 202)
    await until(lambda: mailbox.total == 1)
    (mail,) = mailbox.messages
    fields = dict(strict.fields(mail.partition(b"\r\n\r\n")[0] + b"\r\n"))
    assert "Bcc" not in fields and fields["List-Unsubscribe"] == link
    assert strict.addresses(fields["From"]) == [("Müller, J.", "me@example.org")]
    assert strict.text_of(fields["Subject"]) == mime["subject"]


@pytest.mark.parametrize(
    "domain",
    ["Fine.Example", "fine.example.", " fine.example", "@fine.example", "BÜCHER.example", "xn--Bcher-kva.example"],
)
async def test_a_domain_is_found_however_it_is_written(world: World, domain: str) -> None:
    """K14: in any case, with its final dot, as U-label or A-label; listed, counted and changed alike."""
    await waiting(world, "you@FINE.example", "you@xn--bcher-kva.example", "you@other.example")
    assert [m["recipient"].rpartition("@")[0] for m in (await world.get("/messages", domain=domain))["messages"]] == [
        "you"
    ]
    assert (await world.get("/messages/count", domain=domain))["count"] == 1
    order = {"action": "delete", "selection": {"domain": [domain], "state": "waiting"}}
    job = await world.post("/messages/actions", order, 202)
    done = await until(lambda: ended(world, job["id"]))
    assert done["changed"] == 1
