"""A campaign is stopped: what waits already ends, and nothing leaves."""

from __future__ import annotations

from tests.gui.api.world import World, until
from tests.support.mailbox import Mailbox

SOLD = {"a@fine.example", "b@fine.example", "d@elsewhere.example"}


async def waits(world: World, state: str, count: int) -> bool:
    return bool((await world.get("/messages/count", state=state))["count"] == count)


async def test_what_waits_for_a_pause_or_a_time_ends_with_the_answer(world: World, mailbox: Mailbox) -> None:
    """That of the tag alone; the rule counts what it ended, and the log names it."""
    await world.post("/pauses", {"domain": "fine.example"})
    await world.send("a@fine.example", "b@fine.example", tags=["sale"])
    await world.send("c@fine.example", tags=["news"])
    await world.send("d@elsewhere.example", tags=["sale"])  # DNS does not answer: waits for a time
    await until(lambda: waits(world, "parked", 3))
    await until(lambda: waits(world, "waiting", 1))
    rule = await world.post("/errors/stop", {"tag": "sale", "code": 554, "extended": "5.7.1"})

    async def ended() -> bool:
        return bool((await world.get(f"/errors/{rule['id']}"))["used"] == 3)

    await until(ended)
    assert await waits(world, "parked", 1)
    assert mailbox.total == 0
    logged = await world.get("/logs", rule=f"errors/{rule['id']}")
    assert {row["recipient"] for row in logged["records"]} == SOLD
    assert {(row["code"], row["status"]) for row in logged["records"]} == {(554, "5.7.1")}


async def test_a_lane_is_stopped_by_its_name(world: World, mailbox: Mailbox) -> None:
    """Its MTA IP and its destination group."""
    rule = await world.post("/errors/stop", {"lane": "127.0.0.1/fine.example"})
    assert (rule["ip"], rule["domain"], rule["code"]) == ("127.0.0.1", "fine.example", 550)
    await world.send("a@fine.example")

    async def given_up() -> bool:
        return bool((await world.get("/status"))["totals"]["failed"] == 1)

    await until(given_up)
    assert mailbox.total == 0
