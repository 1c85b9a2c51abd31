"""A campaign is stopped: what waits already ends, and nothing leaves."""

from __future__ import annotations

from tests.gui.api.world import World, until
from tests.support.mailbox import Mailbox

SOLD = {"a@fine.example", "b@fine.example", "d@elsewhere.example"}


async def test_a_forced_error_without_a_word_on_which_mail_is_refused(world: World) -> None:
    """Not even with a code: all mail must be said."""
    for path in ("/errors", "/errors/stop"):
        refused = await world.client.post(path, json={"code": 554})
        assert refused.status_code == 422
        assert "all" in refused.text
    both = await world.client.post("/errors", json={"tag": "news", "all": True})
    assert both.status_code == 422
    assert (await world.post("/errors", {"code": 554, "all": True}))["all"] is True


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


async def test_nothing_is_stopped_where_no_mail_is_named(world: World) -> None:
    """An empty request must not end all mail."""
    for asked in ({}, {"code": 550}, {"tag": ""}):
        answer = await world.client.post("/errors/stop", json=asked)
        assert answer.status_code == 422, answer.text
    assert await world.get("/errors") == []


async def test_shipped_rules_are_adopted_by_their_provider(world: World) -> None:
    """One that there is not is said."""
    assert len(await world.post("/providers/adopt", {"provider": "yahoo"}, 200)) == 2
    assert (await world.client.post("/providers/adopt", json={"provider": "nobody"})).status_code == 422
    assert (await world.client.post("/providers/adopt", json={})).status_code == 422
    assert {entry["state"] for entry in await world.get("/providers/catalogue") if entry["provider"] == "yahoo"} == {
        "adopted"
    }


async def test_a_lane_is_stopped_by_its_name(world: World, mailbox: Mailbox) -> None:
    """Its MTA IP and its destination group."""
    rule = await world.post("/errors/stop", {"lane": "127.0.0.1/fine.example"})
    assert (rule["ip"], rule["domain"], rule["code"]) == ("127.0.0.1", "fine.example", 550)
    await world.send("a@fine.example")

    async def given_up() -> bool:
        return bool((await world.get("/status"))["totals"]["failed"] == 1)

    await until(given_up)
    assert mailbox.total == 0
