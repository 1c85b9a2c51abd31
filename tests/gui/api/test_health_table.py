"""Every state in which mail does not leave, in every place that tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI

from gui.web.health import routes
from operators.deliveries.events import Rejected
from pipeline.commands.queue import queue as queue_command
from pipeline.machine import health
from pipeline.machine.health import TABLE
from pipeline.process import only_one
from settings.rules import Snapshot
from tests.gui.api.world import World, until

Patch = pytest.MonkeyPatch


async def broken_chain(world: World, _: Patch) -> None:
    world.machine._broken(RuntimeError("by a test"))


async def told_to_stop(world: World, _: Patch) -> None:
    world.machine.supervisor.stopping.set()


async def failing_part(world: World, _: Patch) -> None:
    world.machine.supervisor.failed("signing", RuntimeError("by a test"))


async def damaged(world: World, _: Patch) -> None:
    world.machine.queue._condition.damaged("is damaged")  # type: ignore[union-attr]


async def full(world: World, patch: Patch) -> None:
    patch.setattr("pipeline.queues.embedded.space.Space._free", lambda space: 0)


async def without_addresses(world: World, patch: Patch) -> None:
    world.machine.health._gone = (float("-inf"), None)
    patch.setattr(health, "_is_here", lambda ip: False)


async def silent_dns(world: World, _: Patch) -> None:
    await world.send(*[f"you@d{n}.example" for n in range(3)])  # the world's name server does not exist


async def all_paused(world: World, _: Patch) -> None:
    await world.post("/pauses", {})


async def clock_back(world: World, patch: Patch) -> None:
    now = world.machine.health._clock()
    patch.setattr(world.machine.health, "_clock", lambda: now - 3600)


async def no_rules(world: World, _: Patch) -> None:
    world.machine.rules.available = False


async def without_others(world: World, _: Patch) -> None:
    world.machine.cluster = SimpleNamespace(trouble="the cluster's broker does not answer")  # type: ignore[assignment]


async def odd_rule(world: World, patch: Patch) -> None:
    world.machine.rules._subject.on_next(Snapshot(faults=["pauses 1 is left out: it is odd"]))


async def thrown_away(world: World, _: Patch) -> None:
    world.machine.health.observe(Rejected(time=world.machine.health._clock(), reason="by a test", code=250))


WAYS: dict[str, Callable[[World, Patch], Awaitable[None]]] = {
    "stopping": told_to_stop,
    "chain": broken_chain,
    "background": failing_part,
    "queue": damaged,
    "disk": full,
    "addresses": without_addresses,
    "dns": silent_dns,
    "pause": all_paused,
    "discards": thrown_away,
    "clock": clock_back,
    "rules": no_rules,
    "cluster": without_others,
    "rule": odd_rule,
}


def test_every_line_of_the_table_is_walked() -> None:
    """A new state needs a way to bring it about."""
    assert sorted(WAYS) == sorted(row.name for row in TABLE)


async def readyz(world: World) -> httpx.Response:
    app = FastAPI()
    app.include_router(routes(world.facade))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        return await client.get("/readyz")


async def shown(world: World, capsys: pytest.CaptureFixture[str]) -> str:
    """What `mailrace queue` says beside the program."""
    await asyncio.to_thread(queue_command, world.machine.settings, [])
    return capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_a_state_is_said_everywhere(
    world: World, row: health.HealthRow, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    """K11: readyz is 503 where it stops mail, the verdict is not green, the API and `mailrace queue` have it."""
    with only_one(world.machine.settings):
        assert (await readyz(world)).status_code == 200
        assert (await world.get("/status"))["faults"] == []
        await until(lambda: health.read(world.machine.settings.data_dir))
        assert "!" not in await shown(world, capsys)
        await WAYS[row.name](world, monkeypatch)
        state = await until(lambda: next((one for one in world.machine.health.states() if one.name == row.name), None))
        answer = await readyz(world)
        taken = f"ok: {row.public}\n" if row.remark else "ok\n"
        assert (answer.status_code, answer.text) == ((503, f"{row.public}\n") if row.stops else (200, taken))
        status = await world.get("/status")
        assert status["faults"] == [state.text]
        assert (status["verdict"]["level"], status["verdict"]["word"]) == (row.level, row.word)
        assert row.level in ("bad", "watch")
        told = await until(lambda: (found := health.read(world.machine.settings.data_dir)) and found.states)
        assert told == [state.text]
        assert f"! {state.text}" in await shown(world, capsys)


async def test_what_is_over_is_over(world: World, monkeypatch: Patch) -> None:
    """K11: a balancer sends mail here again."""
    pause = await world.post("/pauses", {})
    assert (await readyz(world)).status_code == 503
    await world.client.delete(f"/pauses/{pause['id']}")
    assert (await readyz(world)).status_code == 200
    await silent_dns(world, monkeypatch)
    await until(lambda: world.machine.health.stopped)
    await world.send("you@fine.example")
    await until(lambda: world.machine.health.stopped is None)


async def test_each_default_address_paused_is_everything_paused(world: World) -> None:
    """K11: whoever writes three rules has said the same; a pause of a domain or a tag is none of it."""
    await world.post("/pauses", {"domain": "fine.example"})
    await world.post("/pauses", {"tag": "news"})
    assert world.machine.health.stopped is None
    await world.post("/pauses", {"ip": "127.0.0.1"})
    assert world.machine.health.stopped is not None
