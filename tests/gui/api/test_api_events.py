"""The event stream: ids, and going on where a lost connection left off (WHATWG HTML 9.2, server-sent events)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gui.api.events import PAST
from operators.deliveries.events import Notice
from tests.gui.api.world import World, until


def happen(world: World, *names: str) -> None:
    """A notice each."""
    for name in names:
        world.machine.report(Notice(time=1.0, kind="test", text=name))


@contextlib.asynccontextmanager
async def watching(world: World, last: str = "", token: str = "", query: str = "?type=notice") -> AsyncIterator[Events]:
    """A stream of notices."""
    headers = {"Authorization": f"Bearer {token or world.token}"} | ({"Last-Event-ID": last} if last else {})
    async with world.stranger.stream("GET", f"{world.url}/api/v1/events{query}", headers=headers) as stream:
        yield Events(stream.aiter_lines())


class Events:
    """What a client reads."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def next(self) -> tuple[str, str, str]:
        """Name, id and data of the next event."""
        found = {"event": "", "id": "", "data": ""}
        async with asyncio.timeout(10):
            while True:
                line = await anext(self._lines)
                name, _, value = line.partition(": ")
                if name in found:
                    found[name] = value
                if not line and found["event"]:
                    return found["event"], found["id"], found["data"]


async def gone(world: World) -> None:
    """The server has seen that the client went."""
    await until(lambda: not world.app.state.clients.open)


async def test_who_comes_again_gets_what_was_missed_once(world: World) -> None:
    """What happened meanwhile, and what was sent and did not arrive; nothing twice (K15)."""
    async with watching(world) as stream:
        happen(world, "one", "two", "three")
        ids = [(await stream.next())[1] for _ in range(3)]
    assert len(set(ids)) == 3
    await gone(world)
    happen(world, "four")
    async with watching(world, last=ids[1]) as stream:
        events = [await stream.next() for _ in range(2)]
    assert [name for name in ("three", "four") if any(name in data for _, _, data in events)] == ["three", "four"]
    assert events[0][1] == ids[2]


@pytest.mark.parametrize("last", ["nobody-1", "x", "-", "a" * 16 + "-" + "9" * 15, "١-١"])
async def test_an_id_that_is_not_known_begins_with_what_was_dropped(world: World, last: str) -> None:
    """Then the client knows that it must look for itself (K15)."""
    with contextlib.suppress(UnicodeEncodeError):
        async with watching(world, last=last.encode("ascii", "replace").decode()) as stream:
            assert (await stream.next())[::2] == ("dropped", '{"type":"dropped","count":null}')


async def test_nobody_goes_on_with_the_stream_of_another(world: World) -> None:
    """Another token, or another filter, begins anew (S3)."""
    other = world.tokens.make("other")
    async with watching(world) as stream:
        happen(world, "one")
        _, id, _ = await stream.next()
    await gone(world)
    async with watching(world, last=id, token=other) as stream:
        assert (await stream.next())[0] == "dropped"
    await gone(world)
    async with watching(world, last=id, query="?type=settled") as stream:
        assert (await stream.next())[0] == "dropped"


async def test_what_is_kept_for_who_comes_again_is_bounded(world: World) -> None:
    """An id older than that begins anew (K15)."""
    async with watching(world) as stream:
        happen(world, "first")
        _, id, _ = await stream.next()
        happen(world, *(str(number) for number in range(PAST + 1)))
        for _ in range(PAST + 1):
            await stream.next()
    await gone(world)
    async with watching(world, last=id) as stream:
        assert (await stream.next())[0] == "dropped"


async def test_a_stream_ends_with_its_token(world: World) -> None:
    """Nothing is sent after it was revoked (S3)."""
    token = world.tokens.make("watcher")
    async with watching(world, token=token) as stream:
        happen(world, "one")
        await stream.next()
        world.tokens.revoke(world.tokens.all()[-1].id)
        happen(world, "secret")
        with pytest.raises(StopAsyncIteration):
            await stream.next()
