"""Alerts of a running machine: told, shown, kept over a restart."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from pipeline.views.alerting.alerts import Alerting
from tests.gui.api.world import World, running, until
from tests.support.mailbox import Mailbox


async def test_what_begins_is_told_and_survives_a_restart(tmp_path: Path, mailbox: Mailbox) -> None:
    """By webhook, by mail through our own queue, and to browsers; a restart tells nothing again."""
    got: list[bytes] = []

    async def hook(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(65_536))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    mailbox.keep = True
    server = await asyncio.start_server(hook, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/T0KEN"
    async with running(tmp_path, mailbox, {"alert-whitelist": "127.0.0.1"}) as world:
        world.facade.alerts.start()
        values = {"name": "all", "webhook": url, "email": ["ops@fine.example"], "browser": True, "lasting": 0}
        rule = await world.post("/alerts", values)
        assert "T0KEN" not in json.dumps(rule)
        await world.client.post(f"/alerts/{rule['id']}/test")
        await until(lambda: mailbox.total == 1 and len(got) == 1)
        await world.post("/pauses", {"domain": "slow.example"})
        await world.post("/pauses", {})
        await world.facade.alerts.look()
        told = await _told(world, 2)
        assert [one["notice"]["kind"] for one in told] == ["begun", "test"]
        assert told[1]["ways"] == {"webhook": "arrived", "email": "arrived", "browser": "arrived"}
        assert [one.title for one in world.facade.alerts.since(0)] == ["TEST mx1.example", "ALERT mx1.example"]
        assert "Auto-Submitted: auto-generated" in mailbox.messages[0].decode()
        await world.facade.alerts.close()
        again = Alerting(world.facade)
        again.start()
        await again.look()
        assert [one.told for one in again.now().on] != [None] and len(again.now().told) == 2
        await again.close()
        assert (tmp_path / "alerts.json").stat().st_mode & 0o777 == 0o600
        assert "T0KEN" not in (tmp_path / "alerts.json").read_text()
    server.close()


async def _told(world: World, count: int) -> list[dict[str, Any]]:
    """What was told, when the webhook has all of it."""

    async def arrived() -> bool:
        now = await world.get("/alerts/now")
        return len(now["told"]) == count and all(one["ways"]["webhook"] == "arrived" for one in now["told"])

    await until(arrived)
    found: list[dict[str, Any]] = (await world.get("/alerts/now"))["told"]
    return found


async def test_a_book_that_cannot_be_read_is_begun_anew(tmp_path: Path, mailbox: Mailbox) -> None:
    """And one that cannot be written is said, and is no reason not to be ready."""
    async with running(tmp_path, mailbox) as world:
        (tmp_path / "alerts.json").write_text("{not json")
        alerts = world.facade.alerts
        alerts.start()
        await alerts.look()
        (tmp_path / ".alerts.json.part").mkdir()
        await world.post("/alerts", {"name": "a", "browser": True})
        await world.post("/pauses", {})
        await alerts.look()
        assert "cannot be written" in str(alerts.trouble)
        (state,) = [one for one in world.facade.states() if one.name == "alerts"]
        assert (state.stops, state.level) == (False, "watch")
        await alerts.close()
