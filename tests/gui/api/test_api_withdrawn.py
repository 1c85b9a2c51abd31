"""A forced error on what waits already: what an end owes, it owes there too."""

from __future__ import annotations

import pytest

from tests.gui.api.world import World, until


@pytest.fixture
def options() -> dict[str, object]:
    """Senders are told of failures, though their messages do not say it."""
    return {"dsn-notify": "FAILURE", "rabbitmq-dsn": "notifications"}


async def test_what_is_withdrawn_notifies_as_the_configuration_wants_it(world: World) -> None:
    """As in the chain: one way to read a message, and one to end it early."""
    await world.post("/pauses", {"domain": "fine.example"})
    await world.send("you@fine.example", tags=["sale"])
    await until(lambda: world.machine.queue.parked())
    await world.post("/errors", {"tag": "sale", "code": 554, "description": "withdrawn"})
    await until(lambda: [one.ended for one in world.facade.withdrawals() if one.over] == [1])
    assert (await world.machine.queue.figures()).other == {"notifications": 1}
