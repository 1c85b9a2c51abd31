"""Telling: what the head hears of a worker's events: each, while somebody watches them; else what went alike as one.

Most mail is taken, assigned and delivered within a moment. The head only counts it then, and counting four events of
each message took it as much as a fifth of what the message took its worker. Everything else, and what lasts longer
than HELD seconds, is told event by event.

Owner of: messages that the head has not heard of. Bound: the worker's credit; TOGETHER words at once.
"""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Callable
from typing import Any

from operators.deliveries.delivery import Delivery
from operators.deliveries.events import Assigned, Event, Passed, Received, Redirected, Settled, Taken
from operators.deliveries.outcome import Next
from pipeline.process.supervisor import supervisor
from pipeline.workers.wire import packed

SOON, TOGETHER = 0.1, 1000  # seconds until the head is told of an event; words that it is told at once
HELD = 1.0  # seconds after which it is told of a message that is still on its way
ANSWERS = 10  # of those that went alike: as many as are shown of a lane

Key = tuple[Any, ...]


class _Alike:
    """Messages that were delivered alike: the last of them, how many, and what the receiver said to the last few."""

    __slots__ = ("answers", "count", "last")

    def __init__(self) -> None:
        self.count = 0
        self.last: Settled
        self.answers: collections.deque[Settled] = collections.deque(maxlen=ANSWERS)


class Telling:
    """What a worker tells of its events.

    Args:
        say: tells the head.
        clock: epoch seconds.
    """

    def __init__(self, say: Callable[..., None], clock: Callable[[], float] = time.time) -> None:
        self._say, self._clock = say, clock
        self._each = False
        self._told: list[list[Any]] = []
        self._held: dict[int, list[Event]] = {}  # by the lease, the oldest first
        self._alike: dict[Key, _Alike] = {}
        self._planned = False

    def each(self, wanted: bool) -> None:
        """Somebody watches the events, or nobody does any more."""
        self._each = wanted
        if wanted:
            self._release(list(self._held))
            self.flush()

    def tell(self, event: Event) -> None:
        """Something has happened."""
        kind = type(event)
        if kind is Received:  # nobody counts what comes in: it is counted when it is taken
            if self._each:
                self._tell(event)
        elif kind is Taken or kind is Assigned or kind is Settled or kind is Redirected:
            self._of_a_message(kind, event)
        else:
            self._tell(event)
        if not self._planned:
            self._plan()
        elif len(self._told) + len(self._alike) >= TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Tell of what has happened: one word for all of it, since each costs more than what is in it."""
        self._release_old()
        told, self._told = self._told, []
        alike, self._alike = self._alike, {}
        told += [said for one in alike.values() if (said := packed(_passed(one))) is not None]
        if told:
            self._say("events", told)

    # -- of one message

    def _of_a_message(self, kind: type[Event], event: Any) -> None:
        delivery: Delivery = event.delivery
        key = id(delivery.lease)
        if kind is Taken:
            if not self._each and _is_new(delivery):
                self._held[key] = [event]
            else:
                self._tell(event)
            return
        held = self._held.get(key)
        if held is None:
            self._tell(event)
        elif kind is Assigned:
            held.append(event)
        elif kind is Settled and event.outcome.next is Next.DELIVERED and not delivery.rules:
            del self._held[key]
            self._count(event)
        else:
            self._release([key])
            self._tell(event)

    def _count(self, event: Settled) -> None:
        delivery, outcome = event.delivery, event.outcome
        key = (
            delivery.lane, delivery.domain, *delivery.message.tags, outcome.code, outcome.status, outcome.remote_ip,
            outcome.host, outcome.local_ip, outcome.messages > 1,
        )  # fmt: skip
        alike = self._alike.get(key)
        if alike is None:
            alike = self._alike[key] = _Alike()
        alike.count += 1
        alike.last = event
        alike.answers.append(event)

    def _release(self, keys: list[int]) -> None:
        """Tell what is known of messages event by event."""
        for key in keys:
            for event in self._held.pop(key):
                self._tell(event)

    def _release_old(self) -> None:
        until, old = self._clock() - HELD, []
        for key, events in self._held.items():
            if events[0].time > until:
                break
            old.append(key)
        self._release(old)

    # -- and on

    def _tell(self, event: Event) -> None:
        said = packed(event)
        if said is not None:
            self._told.append(said)

    def _plan(self) -> None:
        self._planned = True
        asyncio.get_running_loop().call_later(SOON, self._flush_as_planned)

    def _flush_as_planned(self) -> None:
        self._planned = False
        supervisor().guarded(self.flush, "events")()
        if self._held:
            self._plan()


def _is_new(delivery: Delivery) -> bool:
    """It was never tried and never parked: nobody knows it."""
    return delivery.lease.recalled is None and not delivery.message.results and not delivery.message.nextattempt


def _passed(alike: _Alike) -> Passed:
    last = alike.last
    answers = [(one.time, one.outcome.description, one.delivery.message.message_id) for one in alike.answers]
    return Passed(
        time=last.time, delivery=last.delivery, outcome=last.outcome, count=alike.count, answers=tuple(answers)
    )
