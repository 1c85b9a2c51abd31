"""Requests that are sent again, and changes of what has been changed meanwhile."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest

from gui.api import idempotency
from gui.api.answers import Problem
from gui.api.idempotency import FILE, LASTS, Idempotency
from tests.gui.api.world import World, until
from tests.support.mailbox import Mailbox

MAIL = {"envelope": "me@example.org", "recipient": "you@fine.example", "mime": "Subject: Hi\r\n\r\nHello\r\n"}


async def send(world: World, key: str, message: Any = MAIL, **headers: str) -> httpx.Response:
    """Hand a message in, with a key."""
    return await world.client.post("/messages", json=message, headers={"Idempotency-Key": key, **headers})


async def test_a_message_sent_again_with_its_key_is_queued_once(world: World, mailbox: Mailbox) -> None:
    """The same ids are answered; without the key, or with another, it is another message (K14)."""
    first, again = await send(world, "order 17"), await send(world, "order 17")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    assert (await send(world, "order 18")).json() != first.json()
    await until(lambda: mailbox.total == 2)


async def test_a_key_is_for_one_request_of_one_token(world: World) -> None:
    """Another body is refused; another token's key is another key (K14)."""
    first = await send(world, "k")
    answer = await send(world, "k", {**MAIL, "recipient": "other@fine.example"})
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "This Idempotency-Key was used for another request in the last day.",
    )
    other = {"Authorization": f"Bearer {world.tokens.make('other')}"}
    assert (await send(world, "k", **other)).json() != first.json()


@pytest.mark.parametrize("key", ["", "x" * 256, "é".encode("latin-1"), "a\tb"])
async def test_a_key_that_cannot_be_used_is_refused(world: World, key: str | bytes) -> None:
    """Nothing is queued (K14)."""
    answer = await world.client.post("/messages", json=MAIL, headers=[(b"Idempotency-Key", key)])  # type: ignore[list-item]
    assert answer.status_code == 422
    assert "Idempotency-Key" in answer.text


async def test_what_was_refused_can_be_sent_again(world: World) -> None:
    """A failure leaves no key (K14)."""
    assert (await send(world, "k", {**MAIL, "recipient": "nobody"})).status_code == 422
    assert (await send(world, "k")).status_code == 202


async def test_two_at_once_are_one(world: World) -> None:
    """The second is told that the first is being worked on (K14)."""
    codes = sorted(answer.status_code for answer in await asyncio.gather(*(send(world, "k") for _ in range(5))))
    assert codes[0] == 202
    assert set(codes) <= {202, 409}
    replies = [await send(world, "k") for _ in range(2)]
    assert replies[0].json() == replies[1].json()


async def answered(text: bytes) -> bytes:
    """What a request would be answered."""
    return text


async def test_keys_outlive_a_restart_for_a_day(tmp_path: Path) -> None:
    """In a file that only we may read (K14)."""
    now = 1000.0
    for expected in ((b"first", False), (b"first", True)):
        keys = Idempotency(tmp_path, lambda: now)
        assert await keys.once("me", "k", b"request", lambda: answered(b"first")) == expected
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    now += LASTS + 1
    assert await keys.once("me", "k", b"request", lambda: answered(b"second")) == (b"second", False)


async def test_a_request_whose_end_is_not_known_is_not_done_again(tmp_path: Path) -> None:
    """The program ended between the queue's confirmation and the answer (K14)."""

    async def killed() -> bytes:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await Idempotency(tmp_path).once("me", "k", b"request", killed)
    with pytest.raises(Problem) as known:
        await Idempotency(tmp_path).once("me", "k", b"request", lambda: answered(b"again"))
    assert known.value.status == 409


async def test_the_keys_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be kept for a day is refused, rather than another forgotten (K14)."""
    monkeypatch.setattr(idempotency, "MOST", 2)
    keys = Idempotency(tmp_path)
    for number in range(2):
        await keys.once("me", str(number), b"request", lambda: answered(b"answer"))
    with pytest.raises(Problem) as full:
        await keys.once("me", "3", b"request", lambda: answered(b"answer"))
    assert full.value.status == 503


async def test_keys_that_cannot_be_kept_are_refused(tmp_path: Path) -> None:
    """Nothing is done that could be done twice (K14)."""
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(Problem) as broken:
        await Idempotency(tmp_path).once("me", "k", b"request", lambda: answered(b"answer"))
    assert broken.value.status == 503


async def test_a_rule_that_another_has_changed_is_not_overwritten(world: World) -> None:
    """If-Match with the ETag of what was seen: 412 after a change, for PUT and DELETE (K14)."""
    created = await world.client.post("/locals", json={"type": "substring", "pattern": "one.example"})
    path, seen = created.headers["location"].removeprefix("/api/v1"), created.headers["etag"]
    assert (await world.client.get(path)).headers["etag"] == seen
    changed = await world.client.put(
        path, json={"type": "substring", "pattern": "two.example"}, headers={"If-Match": seen}
    )
    assert (changed.status_code, changed.headers["etag"] != seen) == (200, True)
    values, stale = {"type": "substring", "pattern": "three.example"}, {"If-Match": seen}
    answer = await world.client.put(path, json=values, headers=stale)
    assert (answer.status_code, answer.headers["etag"]) == (412, changed.headers["etag"])
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await world.client.delete(path, headers=stale)).status_code == 412
    assert (await world.client.get(path)).json()["pattern"] == "two.example"
    assert (await world.client.put(path, json=values, headers={"If-Match": '"x", *'})).status_code == 412
    assert (await world.client.put(path, json=values, headers={"If-Match": "*"})).status_code == 200
    assert (await world.client.delete(path)).status_code == 204


async def test_of_two_who_change_what_both_have_seen_one_is_told(world: World) -> None:
    """Also at the same moment (K14)."""
    created = await world.client.post("/locals", json={"type": "substring", "pattern": "one.example"})
    path, seen = created.headers["location"].removeprefix("/api/v1"), {"If-Match": created.headers["etag"]}
    answers = await asyncio.gather(
        *(
            world.client.put(path, json={"type": "substring", "pattern": f"n{n}.example"}, headers=seen)
            for n in range(4)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]
