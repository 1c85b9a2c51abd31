"""Response rules and classes in the running machine: what they do beyond one message."""

from __future__ import annotations

import pytest

from tests.gui.api.world import World, until
from tests.support.mailbox import Mailbox


@pytest.fixture
def options() -> dict[str, object]:
    return {"retry-interval": "3600"}


async def test_an_answer_suppresses_pauses_and_is_classed(world: World, mailbox: Mailbox) -> None:
    """A dead address is not tried again; the lane rests by a pause that says why; log and figures have the class."""
    mailbox.defers = True
    await world.post("/classes", {"name": "mine", "pattern": "4", "meaning": "routing"})
    rule = await world.post(
        "/responses",
        {
            "name": "dead",
            "meaning": "routing",
            "suppress": "address",
            "fail": True,
            "pause": "lane",
            "set_tags": ["dead"],
        },
    )
    await world.send("a@fine.example")

    async def acted() -> bool:
        return bool((await world.get("/suppressions"))["total"] and await world.get("/pauses"))

    await until(acted)
    (pause,) = await world.get("/pauses")
    assert (pause["ip"], pause["domain"], pause["reason"]) == ("127.0.0.1", "fine.example", "response rule dead")
    (entry,) = (await world.get("/suppressions"))["suppressions"]
    assert (entry["value"], entry["source"]) == ("a@fine.example", "response")

    async def logged() -> bool:
        return bool((await world.get("/logs", bounce_class="routing"))["records"])

    await until(logged)
    (record,) = (await world.get("/logs", rule=f"responses/{rule['id']}"))["records"]
    assert (record["next"], record["bounce_class"]) == ("fail", "routing")
    assert (await world.get(f"/responses/{rule['id']}"))["used"] == 1
    assert world.facade.classes() == {"routing": 1}


async def test_answers_are_tried_and_unknown_ones_are_shown(world: World) -> None:
    """By the table, or by a pattern of the operator's."""
    assert await world.post("/classes/try", {"text": "552 5.2.2 over quota"}, 200) == {
        "class": "mailbox-full",
        "own": False,
    }
    await world.post("/classes", {"name": "mine", "pattern": "over quota", "meaning": "policy"})
    assert await world.post("/classes/try", {"text": "552 5.2.2 over quota"}, 200) == {"class": "policy", "own": True}
    assert await world.get("/classes/other") == []
