"""Outgoing: notices on their way to people, each way by itself, so that one that is slow holds up no other.

A way is a rule and how it tells: its webhook, its mail. A notice that cannot be handed over is tried again after a
pause that doubles, TRIES times, in half an hour. What is given up, or finds no room, is counted, and stands in
`troubles` until a notice of the same way has arrived, or for STANDS seconds. Notices that wait are handed out by
`waiting`, to be kept over a restart. Bounds: EACH notices of a way, one try at a time.
"""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Literal

import msgspec

from pipeline.alerts.hooks import NotPosted
from pipeline.alerts.states import AlertNotice

EACH = 20
TRIES = 12
FIRST, LAST = 2.0, 300.0  # seconds before a second try, and at most
STANDS = 3600.0
Way = Literal["webhook", "email"]
Deliver = Callable[[AlertNotice, Way], Awaitable[None]]  # raises `NotPosted`


class WaitingNotice(msgspec.Struct, frozen=True):
    """A notice that has not arrived."""

    way: Way
    notice: AlertNotice


class Outgoing:
    """The ways of all rules.

    Args:
        deliver: hands one over, once.
        spawn: runs a task of the supervisor's.
        told: told how it goes with a notice: what is wrong, empty where it has arrived, and whether that is its end.
        clock: seconds.
        sleep: of a pause.
    """

    def __init__(
        self,
        deliver: Deliver,
        spawn: Callable[[Awaitable[None]], asyncio.Task[None]],
        told: Callable[[WaitingNotice, str, bool], None] = lambda notice, why, final: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._deliver, self._spawn, self._told, self._clock, self._sleep = deliver, spawn, told, clock, sleep
        self._ways: dict[tuple[int, Way], collections.deque[WaitingNotice]] = {}
        self._tasks: dict[tuple[int, Way], asyncio.Task[None]] = {}
        self._troubles: dict[tuple[int, Way], tuple[float, str]] = {}
        self.sent = self.lost = 0

    def waiting(self) -> list[WaitingNotice]:
        """Those that have not arrived, in their order."""
        return [one for way in self._ways.values() for one in way]

    @property
    def troubles(self) -> list[str]:
        """What could not be told, a line each."""
        now = self._clock()
        return [text for since, text in self._troubles.values() if now - since < STANDS]

    def send(self, notices: Sequence[WaitingNotice]) -> None:
        """Hand these over, after those that wait already."""
        for one in notices:
            key = one.notice.rule, one.way
            way = self._ways.setdefault(key, collections.deque())
            if len(way) >= EACH:
                self._give_up(way.popleft(), "newer ones took its place")
            way.append(one)
            if key not in self._tasks:
                self._tasks[key] = self._spawn(self._work(key))

    def keep(self, rules: Collection[int]) -> None:
        """These rules are there; what is said of others is over."""
        self._troubles = {key: said for key, said in self._troubles.items() if key[0] in rules}

    def close(self) -> None:
        """Nothing is sent any more."""
        for task in self._tasks.values():
            task.cancel()

    async def _work(self, key: tuple[int, Way]) -> None:
        """Until nothing waits on this way."""
        way = self._ways[key]
        try:
            while way:
                one = way[0]
                why = await self._try(one)
                if not (way and way[0] is one):
                    continue  # it was given up meanwhile
                way.popleft()
                if why:
                    self._give_up(one, why)
                else:
                    self.sent += 1
                    self._troubles.pop(key, None)
                    self._told(one, "", True)
        finally:
            self._tasks.pop(key, None)
            if not way:
                self._ways.pop(key, None)

    async def _try(self, one: WaitingNotice) -> str:
        """Why it has not arrived; empty where it has."""
        pause, why = FIRST, ""
        for number in range(1, TRIES + 1):
            try:
                await self._deliver(one.notice, one.way)
            except NotPosted as error:
                why, again, wait = str(error), error.again, error.wait
            except Exception as error:  # of our own: the way goes on with the next notice
                why, again, wait = f"{type(error).__name__}: {error}", True, 0.0
            else:
                return ""
            if not again:
                return why
            self._told(one, f"{why}; it is tried again", False)
            if number > 1:
                self._note(one, f"{why}; it is tried again")
            if number < TRIES:
                await self._sleep(max(pause, wait))
            pause = min(2 * pause, LAST)
        return f"{why} ({TRIES} tries)"

    def _give_up(self, one: WaitingNotice, why: str) -> None:
        self.lost += 1
        self._note(one, why)
        self._told(one, why, True)

    def _note(self, one: WaitingNotice, why: str) -> None:
        text = f"the alert rule {one.notice.name!r} cannot tell by {one.way}: {why}"
        self._troubles[one.notice.rule, one.way] = self._clock(), text
