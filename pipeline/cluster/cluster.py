"""This instance in its cluster: it announces itself, hears the others, and says what follows for mail and limits.

Owner of: the roster, and the place at the exchange. It announces itself at start, every EVERY seconds and when asked,
at most once in SOON seconds; it reads the rules again when told, at most once in SOON seconds. Nothing that is said on
the exchange does more than that: it is counted in `refused` and forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any

import reactivex as rx
from reactivex import abc

from operators.lanes.shares import Share
from operators.mail.message import Message
from operators.stages.handover import Elsewhere, NobodyReads, ask_again
from pipeline.cluster.exchange import ClusterExchange
from pipeline.cluster.repeated import RepeatedWork
from pipeline.cluster.roster import GONE, LiveInstance, Roster
from pipeline.cluster.words import HELLO, RELOAD, Announcement, ClusterWord, Goodbye, NotUnderstood, read
from pipeline.process.supervisor import supervisor
from pipeline.queues.contract import Confirmed
from pipeline.queues.rabbitmq.amqp.link import Unroutable
from settings import Settings

EVERY = 30.0  # seconds between two announcements
SOON = 0.5  # seconds
APART = 0.2  # seconds between two words on changes of ours
SAY_AGAIN = 60.0  # seconds
FRESH = 2.0  # seconds after which the others are asked again, while somebody looks
PAUSED = 10.0  # seconds without a look, after which looking begins anew
ECHO = 10.0  # seconds within which our own word comes back, or nobody hears us


class Cluster:
    """One instance of many.

    Args:
        settings: `cluster-*`, `server-id`.
        describe: what this instance says of itself; called with its token.
        reload: reads the rules again.
        report: told (kind, text) what an operator should know.
        clock: monotonic seconds.
        token: of the head, where this is one of several workers, which hears and says nothing.

    Attributes:
        refused: messages on the exchange that were of no use, since the start.
    """

    def __init__(
        self,
        settings: Settings,
        describe: Callable[[str], Announcement],
        reload: Callable[[], Coroutine[Any, Any, None]],
        report: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
        token: str = "",
    ) -> None:
        self._id, self._outbox = settings.server_id, settings.rabbitmq_outbox
        self._describe, self._report, self._clock = describe, report, clock
        self._load = RepeatedWork(reload, "cluster", SOON)
        self._silent = bool(token)  # a worker of the instance: its head speaks
        self.token = token or secrets.token_hex(8)
        self.roster = Roster(self._id, self.token, clock, report)
        self.exchange = ClusterExchange(settings, self._id, self._heard, self._join)
        self._refused = 0
        self._announced = self._asked = self._looking = self._told = float("-inf")
        self._announcing = self._telling = False
        self._unsaid = self._closing = False
        self._joins = 0
        self._read: dict[str, bool] = {}  # outboxes of others, and whether somebody reads them
        self._checking: asyncio.Task[None] | None = None
        self._trouble_said = (float("-inf"), "")
        self._timers: list[abc.DisposableBase] = []

    # -- life

    def start(self, scheduler: abc.SchedulerBase) -> None:
        """Join; where the broker is away, later."""
        self.exchange.start()
        second = supervisor().listen(rx.interval(1.0), self._each_second, "cluster", scheduler=scheduler)
        self._timers = [second]

    async def close(self) -> None:
        """Say goodbye, and leave."""
        self._closing = True
        for timer in self._timers:
            timer.dispose()
        if not self._silent:
            self.exchange.say(ClusterWord(goodbye=Goodbye(self._id, self.token)))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.exchange.said(), 1.0)
        await self.exchange.close()

    def _join(self) -> None:
        self._joins += 1
        if self._silent:
            self.exchange.came_back()
            self.exchange.expect(EVERY + GONE / 2)  # the head's word
        self._announce()
        self.exchange.say(HELLO)
        if self._joins > 1:
            self._load()  # others may have changed rules meanwhile
        if self._unsaid:
            self.rules_changed()

    def _each_second(self, _: int) -> None:
        now = self._clock()
        self.roster.sweep()
        self.exchange.look()
        if now - self._announced >= EVERY:
            self._announce()
        self._say_trouble(now)
        if self._checking is None or self._checking.done():
            self._checking = supervisor().spawn(self._check_outboxes(), "cluster")

    def _say_trouble(self, now: float) -> None:
        """What hinders us: at once, once a minute, and when it is over."""
        said_at, said = self._trouble_said
        trouble = self.trouble or ""
        if trouble and (not said or now - said_at >= SAY_AGAIN):
            self._trouble_said = now, trouble
            self._report("cluster-away", trouble)
        elif said and not trouble:
            self._trouble_said = now, ""
            self._report("cluster-back", "the cluster's broker is there again")

    # -- what is said

    def _announce(self) -> None:
        self._announced = self._clock()
        if self._silent:
            return
        self.exchange.say(ClusterWord(announce=self._describe(self.token)))
        self.exchange.expect(ECHO)

    def ask(self) -> None:
        """Somebody looks at the whole cluster: have its figures fresh."""
        now = self._clock()
        if now - self._asked >= PAUSED:
            self._looking = now
        if now - self._asked >= FRESH:
            self._asked = now
            self.exchange.say(HELLO)

    @property
    def looked(self) -> float:
        """Seconds for which the others have been asked again and again."""
        return self._clock() - self._looking

    def rules_changed(self) -> None:
        """A rule was changed here: the others read them again, at once, or as soon as they can be told."""
        self._soon(self._told, "_telling", self._tell, APART)

    def _tell(self) -> None:
        self._told, self._unsaid = self._clock(), False
        self.exchange.say(RELOAD, self._lost)

    def _lost(self) -> None:
        self._unsaid = True

    def _heard(self, body: bytes) -> None:
        try:
            word = read(body)
        except NotUnderstood:
            self._refused += 1
            return
        if word.hello:
            self._soon(self._announced, "_announcing", self._announce)
        if word.reload:
            self._load()
        if word.announce is not None:
            self._announced_by(word.announce)
        if word.goodbye is not None and not self._closing and not self.roster.left(word.goodbye):
            self._refused += 1
            if word.goodbye.id == self._id:  # somebody else has said it: we live
                self._soon(self._announced, "_announcing", self._announce)

    def _announced_by(self, said: Announcement) -> None:
        if (said.id, said.token) == (self._id, self.token):
            self.exchange.came_back()
            if self._silent:
                self.exchange.expect(EVERY + GONE / 2)
        self.roster.announced(said)

    def _soon(self, then: float, flag: str, act: Callable[[], None], seconds: float = SOON) -> None:
        """Do it, at most once in so many seconds, however often it is asked for."""
        if getattr(self, flag):
            return

        def now() -> None:
            setattr(self, flag, False)
            act()

        setattr(self, flag, True)
        delay = max(0.0, then + seconds - self._clock())
        asyncio.get_running_loop().call_later(delay, supervisor().guarded(now, "cluster"))

    async def _check_outboxes(self) -> None:
        """Mail is handed over only to a queue that somebody reads: an announcement alone makes none."""
        names = {one.said.outbox for one in self.roster.live() if one.said.outbox}
        self._read = {name: self._read.get(name, False) for name in names}
        for name in names:
            self._read[name] = name == self._outbox or await self.exchange.is_read(name)

    # -- what follows

    @property
    def refused(self) -> int:
        """Messages that were of no use."""
        return self._refused + self.roster.refused

    @property
    def trouble(self) -> str | None:
        """What is wrong with the cluster, for operators; None while all is well."""
        if self.exchange.trouble is not None:
            return f"the cluster is not heard, this instance goes on alone: {self.exchange.trouble}"
        return self.roster.twin or self.roster.astray

    def share(self, ip: str) -> Share:
        """This instance's part of what receivers allow an MTA IP."""
        return Share(*self.roster.sharing(ip))

    def elsewhere(self, message: Message, ips: list[str]) -> Elsewhere | None:
        """Which live instance a message is for whose MTA IPs are these, and not ours."""
        if (marked := message.properties.get("handover")) is not None:
            return self._on_its_way(str(marked), ips)
        owner = self.roster.owner(ips)
        if owner is None or not self._read.get(owner.outbox):
            return None
        return Elsewhere(owner.id, owner.outbox)

    def _on_its_way(self, to: str, ips: list[str]) -> Elsewhere | None:
        """It was handed over once. Where its instance reads the same outbox as we do, it is left to it."""
        live = self.roster.get(to)
        if to == self._id or live is None or live.said.outbox != self._outbox or not {*ips} & {*live.said.ips}:
            return None
        return ask_again(to)

    def live(self) -> list[LiveInstance]:
        """The others that live."""
        return self.roster.live()

    def hand_over(self, queue: str, body: bytes, confirmed: Confirmed) -> None:
        """Publish a message to another instance's outbox."""

        def answered(error: Exception | None) -> None:
            confirmed(NobodyReads(queue) if isinstance(error, Unroutable) else error)

        self.exchange.hand_over(queue, body, answered)

    def own(self) -> Announcement:
        """What this instance says of itself now."""
        return self._describe(self.token)

    @property
    def whole(self) -> list[Announcement]:
        """Every live instance, this one first."""
        return [self.own(), *(one.said for one in self.live())]
