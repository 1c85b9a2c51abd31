"""A transport with its slots, as the throttle and settle stages use them, for tests against scripted receivers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from operators.deliveries.delivery import Delivery, Lease, Route, Target
from operators.deliveries.events import Event
from operators.deliveries.outcome import Outcome
from operators.lanes.limits import Limits
from operators.lanes.slots import Slot, Slots
from operators.mail.message import Content, Message
from pipeline.smtp.client import Transport
from tests.support.waiting import comes as until  # noqa: F401 - for those who send

SOURCE = b"Subject: hello\r\n\r\nbody\r\n"


@dataclass
class Sender:
    """Sends one message after another, by `targets`."""

    targets: tuple[Target, ...]
    delivery_timeout_factor: float = 1.0
    limits: Limits = field(default_factory=Limits)
    ip: str = ""
    slots: Slots = field(default_factory=Slots)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.transport = Transport(self.slots, self, lambda ip: "sender.test", self.events.append)

    async def __aenter__(self) -> Sender:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.transport.close(grace=0.5)
        assert (self.slots.open, self.slots.attempting, self.slots.idle) == (0, 0, 0), "a slot was lost"

    def take(self) -> Slot:
        """A slot, as `throttle` takes it."""
        slot = self.slots.take("lane", self.ip, self.targets, self.limits, time.monotonic())
        assert isinstance(slot, Slot), slot
        return slot

    async def send(
        self, source: bytes = SOURCE, slot: Slot | None = None, content: Content | None = None, **message: Any
    ) -> Outcome:
        """One attempt, and its slot released as `settle` does. `content`: what follows the source."""
        ended: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        envelope = {"envelope": "sender@example.org", "recipient": "someone@example.com"} | message
        delivery = Delivery(
            lease=Lease(1, b""),
            message=Message(**envelope),
            source=source,
            content=content,
            route=Route("group", self.targets),
            lane="lane",
            slot=slot or self.take(),
        )
        self.transport.deliver(delivery, ended.set_result)
        outcome = (await asyncio.wait_for(ended, 30)).outcome
        self.slots.release(delivery.slot, time.monotonic())
        assert outcome is not None
        return outcome

    def kinds(self) -> list[str]:
        """The names of the events so far."""
        return [type(event).__name__ for event in self.events]


def to(*receivers: Any, host: str = "localhost") -> tuple[Target, ...]:
    """Targets for these receivers, in order."""
    return tuple(Target(host, receiver.host, receiver.port) for receiver in receivers)
