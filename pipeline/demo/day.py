"""A day of the demo's mail on virtual time: who sends what, what the receivers answer, and when it is tried again.

Providers and their words, the receivers' tempers, senders, the pacer and the retry rule are the demo's and the
machine's own. There are no sockets and no waiting, so a day takes seconds, and the same seed gives the same day.

What happens: a night, office hours, a newsletter to all from 06:30, and at 10:00 a campaign that leaves from one MTA
IP, faster than some providers like; they put it off, and when it goes on, block it. Lookout is slow in the evening.
"""

from __future__ import annotations

import collections
import heapq
import itertools
import math
import random
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from operators.deliveries.delivery import Delivery, Lease, lane_name
from operators.deliveries.events import Received
from operators.deliveries.outcome import Next, Outcome, deferred, failed
from operators.deliveries.replies import ReplyParser, classify
from operators.deliveries.retry import retry_at
from operators.deliveries.routes import group_name
from operators.lanes.limits import Pacer
from operators.mail.message import Message
from pipeline.demo.providers import MTA_IPS, PROVIDERS, Provider
from pipeline.demo.receiver import Receiver
from pipeline.demo.traffic import FIRST, LAST, SENDERS, DemoSender

DAY = 86_400.0
HOUR = 3_600.0
DELAYS = (600, 600, 1800, 1800, 3600, 3600, 7200)  # seconds between attempts, those of the configuration
SCALE = 30  # a second has a hundredth of the demo's mail, and the receivers' patience is shorter, too
CONNECTIONS = 20  # at once for each lane, where the table of LIMITS has nothing

# What the operator has set: messages a minute, connections at once, for each lane of a provider.
LIMITS = {
    "bigmail.example": (8, 20),
    "shared-hosting.example": (3, 20),
    "crawling.example": (0, 3),
    "few-connections.example": (0, 2),
}
# Who blocks an IP that does not stop: 421s within half an hour, and for how long.
STRICT = {"lookout.example": 120, "yippee.example": 60, "flood.example": 90}
BLOCKED_FOR = 2.5 * HOUR

# (share of the day's messages, from, until in hours, tags that it is of, MTA IPs). None: all.
Wave = tuple[float, float, float, tuple[str, ...] | None, tuple[str, ...]]
WAVES: tuple[Wave, ...] = (
    (0.14, 0.0, 24.0, None, MTA_IPS[:3]),
    (0.42, 7.0, 23.0, None, MTA_IPS[:3]),
    (0.28, 6.5, 8.0, ("newsletter", "digest"), MTA_IPS[:3]),
    (0.16, 10.0, 10.5, ("campaign",), (MTA_IPS[2],)),
)

Logged = tuple[Delivery, Outcome, float, float | None]


class SampleMail:
    """A message on its way through the day."""

    __slots__ = ("attempts", "ip", "message", "provider", "queued", "size")

    def __init__(self, message: Message, provider: Provider, ip: str, size: int, queued: float) -> None:
        self.message, self.provider, self.ip, self.size, self.queued = message, provider, ip, size, queued
        self.attempts = 0


class _Lane:
    """Who waits for a permit and a connection."""

    def __init__(self, provider: Provider) -> None:
        self.limit, self.connections = LIMITS.get(provider.name, (0, CONNECTIONS))
        self.pacer, self.waiting = Pacer(), collections.deque[SampleMail]()
        self.busy, self.awake, self.last = 0, False, -math.inf


class _Internet:
    """The demo's receivers, without sockets: the same answers, on the day's clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._receivers: dict[str, Receiver] = {}
        self._complaints: dict[tuple[str, str], collections.deque[float]] = {}
        self._blocked: dict[tuple[str, str], float] = {}

    def answer(self, mail: SampleMail) -> tuple[str, str]:
        """How far the message gets, and the line it gets there."""
        name, ip, rcpt = mail.provider.name, mail.ip, mail.message.recipient
        receiver, sender = self._receiver(mail.provider), mail.message.envelope or ""
        if self._blocked.get((name, ip), 0.0) > self._clock():
            return "mailfrom", receiver.say("blocked", ip)
        if refusal := receiver.on_connect(ip):
            self._complain(name, ip)
            return "intro", refusal
        if refusal := receiver.on_mail(ip):
            if refusal.startswith("421"):
                self._complain(name, ip)
            return "mailfrom", refusal
        if refusal := receiver.on_rcpt(ip, sender, rcpt):
            return "rcptto", refusal
        return "message", receiver.on_message(ip, sender, rcpt)

    def _receiver(self, provider: Provider) -> Receiver:
        if provider.name not in self._receivers:
            calmer = msgspec.structs.replace(provider, flood=math.ceil(provider.flood / SCALE), pause=60.0, spells=0.0)
            self._receivers[provider.name] = Receiver(calmer, host(provider), clock=self._clock)
        return self._receivers[provider.name]

    def _complain(self, name: str, ip: str) -> None:
        """It has said 421 once more; there is an end to its patience."""
        recent = self._complaints.setdefault((name, ip), collections.deque())
        recent.append(self._clock())
        while recent[0] < self._clock() - HOUR / 2:
            recent.popleft()
        if len(recent) > STRICT.get(name, math.inf):
            self._blocked[name, ip] = self._clock() + BLOCKED_FOR
            recent.clear()


class Day:
    """The day.

    Args:
        begin: epoch seconds of its midnight.
        messages: about how many are sent.
        seed: of everything that is left to chance.
    """

    def __init__(self, begin: float, messages: int, seed: int) -> None:
        self.now = self._begin = begin
        self._random = random.Random(seed)  # noqa: S311 - nothing depends on nobody guessing it
        self._internet = _Internet(lambda: self.now)
        self._lanes: dict[str, _Lane] = {}
        self._serial = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], Iterator[Logged | Received]]]] = []
        self._mail = self._sent(messages)

    def events(self) -> Iterator[Logged | Received]:
        """What the log is told, in the order of time."""
        self._next_mail()
        while self._agenda and self._agenda[0][0] < self._begin + DAY:
            self.now, _, happen = heapq.heappop(self._agenda)
            yield from happen()

    def _at(self, when: float, happen: Callable[[], Iterator[Logged | Received]]) -> None:
        heapq.heappush(self._agenda, (when, next(self._serial), happen))

    # -- senders ---------------------------------------------------------------------------------------------------

    def _sent(self, messages: int) -> Iterator[SampleMail]:
        """The day's mail in the order in which it comes."""
        moments = sorted(
            (self._begin + HOUR * self._moment(start, end), number)
            for number, (share, start, end, _, _) in enumerate(WAVES)
            for _ in range(round(share * messages))
        )
        letters = [_letters(tags) for _, _, _, tags, _ in WAVES]
        domains = [(domain, one, one.weight / len(one.taken)) for one in PROVIDERS for domain in one.taken]
        # Drawn all at once: `choices` with weights adds them up on each call.
        receivers = self._random.choices(domains, [weight for _, _, weight in domains], k=len(moments))
        for (moment, wave), (domain, provider, _) in zip(moments, receivers, strict=True):
            (sender, tag), ips = self._random.choice(letters[wave]), WAVES[wave][4]
            yield self._written(sender, tag, domain, provider, sender.ip or self._random.choice(ips), moment)

    def _moment(self, start: float, end: float) -> float:
        """An hour between the two: most likely in the middle, but of the whole day any."""
        draw = self._random.random()
        return start + (end - start) * (draw if end - start == 24 else (draw + self._random.random()) / 2)

    def _written(
        self, sender: DemoSender, tag: str, domain: str, provider: Provider, ip: str, when: float
    ) -> SampleMail:
        pick = self._random
        name = f"{pick.choice(FIRST)}.{pick.choice(LAST)}{pick.randrange(1000)}"
        message = Message(
            recipient=f"{name}@{domain}",
            envelope=f"bounces@{sender.domain}",
            message_id=f"{int(when * 1000):x}.{next(self._serial):x}@{sender.domain}",
            tags=[tag, sender.domain.partition(".")[0]],
        )
        return SampleMail(message, provider, ip, round(pick.lognormvariate(9.4, 0.8)), when)

    def _next_mail(self) -> None:
        if (mail := next(self._mail, None)) is not None:
            self._at(mail.queued, lambda: self._receive(mail))

    def _receive(self, mail: SampleMail) -> Iterator[Logged | Received]:
        message = mail.message
        yield Received(
            time=self.now, message_id=message.message_id or "", envelope=message.envelope or "",
            recipient=message.recipient, size=mail.size, source="smtp", remote_ip="127.0.0.1",
        )  # fmt: skip
        self._next_mail()
        yield from self._try(mail)

    # -- the machine -------------------------------------------------------------------------------------------------

    def _try(self, mail: SampleMail) -> Iterator[Logged | Received]:
        if not mail.provider.receives:
            yield from self._end(mail, _unroutable(mail.provider, mail.message.domain), "")
            return
        lane = lane_name(mail.ip, group(mail.provider))
        self._lanes.setdefault(lane, _Lane(mail.provider)).waiting.append(mail)
        self._pump(lane)

    def _pump(self, name: str) -> None:
        """Let go what has a permit and a connection."""
        lane = self._lanes[name]
        while lane.waiting and lane.busy < lane.connections:
            if (ready := lane.pacer.ready(lane.limit)) > self.now:
                if not lane.awake:
                    lane.awake = True
                    self._at(ready, lambda: self._wake(name))
                return
            lane.pacer.take(self.now)
            lane.busy += 1
            self._attempt(lane.waiting.popleft(), name, lane)

    def _wake(self, name: str) -> Iterator[Logged | Received]:
        self._lanes[name].awake = False
        self._pump(name)
        return iter(())

    def _attempt(self, mail: SampleMail, name: str, lane: _Lane) -> None:
        outcome = self._outcome(mail, fresh=self.now - lane.last > 5.0)

        def ended() -> Iterator[Logged | Received]:
            lane.busy -= 1
            lane.last = self.now
            yield from self._end(mail, outcome, name)
            self._pump(name)

        self._at(self.now + outcome.wire, ended)

    def _end(self, mail: SampleMail, outcome: Outcome, lane: str) -> Iterator[Logged | Received]:
        retry = None
        if outcome.next is Next.RETRY:
            last = mail.queued + DAY
            retry = retry_at(mail.attempts + 1, DELAYS, self.now, last, 0, self._random.random())
        if retry is None and outcome.next is Next.RETRY:
            outcome = msgspec.structs.replace(outcome, next=Next.FAIL)
        yield self._delivery(mail, lane), outcome, self.now, retry
        mail.attempts += 1
        if retry is not None:
            self._at(retry, lambda: self._try(mail))

    def _delivery(self, mail: SampleMail, lane: str) -> Delivery:
        behind: list[dict[str, str]] = [{}] * mail.attempts
        message = msgspec.structs.replace(mail.message, results=behind) if behind else mail.message
        lease = Lease(id=0, body=b"", queued=mail.queued)
        source, domain = bytes(mail.size), message.domain
        return Delivery(
            lease=lease, message=message, domain=domain, source=source, ip=mail.ip if lane else "", lane=lane
        )

    # -- the receivers -------------------------------------------------------------------------------------------------

    def _outcome(self, mail: SampleMail, *, fresh: bool) -> Outcome:
        provider, name = mail.provider, host(mail.provider)
        known: dict[str, Any] = {"host": name, "local_ip": mail.ip, "remote_ip": address(provider)}
        trip = 0.01 + 0.00002 * (zlib.crc32(provider.name.encode()) % 5000)  # seconds there and back
        if provider.trouble == "refuses":
            return deferred("connect", "error", f"{name}:25: Connection refused", host=name, wire=trip)
        if provider.trouble == "silent":
            return deferred("intro", "timeout", "no time left for an answer: intro", wire=300.0, **known)
        state, line = self._internet.answer(mail)
        (reply,) = ReplyParser().feed(line.encode() + b"\r\n")
        wire = trip * (5 if fresh else 2)
        if state == "message":
            wire += self._latency(provider)
            if provider.trouble == "drops":
                return deferred("message", "lost", "connection lost after the message", wire=wire, **known)
        result, then = classify("mailfrom" if state == "intro" else state, reply.code)
        tls = {"cipher": {"version": "TLSv1.3"}} if provider.tls in ("offered", "required") else None
        return Outcome(
            state=state, result=result, next=then, code=reply.code, status=reply.status,
            description=reply.description, attempted=state != "intro", wire=wire, tls=tls, **known,
        )  # fmt: skip

    def _latency(self, provider: Provider) -> float:
        hour = (self.now - self._begin) / HOUR
        slow = 5.0 if provider.name == "lookout.example" and 18.5 < hour < 21 else 1.0
        return slow * provider.latency * self._random.lognormvariate(0.0, 0.4)


def host(provider: Provider) -> str:
    """The host that its mail goes to."""
    return f"mx{2 if provider.trouble == 'halfdead' else 1}.{provider.name}"


def address(provider: Provider) -> str:
    """The address of that host."""
    return f"127.10.{PROVIDERS.index(provider) + 1}.{2 if provider.trouble == 'halfdead' else 1}"


def group(provider: Provider) -> str:
    """Its destination group."""
    return group_name({f"mx{number}.{provider.name}" for number in range(1, provider.hosts + 1)})


def _letters(tags: tuple[str, ...] | None) -> list[tuple[DemoSender, str]]:
    """(sender, tag) of what is sent with these tags; without any, of all but bulk mail, by the senders' shares."""
    bulk = ("newsletter", "digest", "campaign")
    return [
        (sender, tag)
        for sender in SENDERS
        for tag, _, _ in sender.mail * (sender.weight if tags is None else 1)
        if (tag not in bulk if tags is None else tag in tags)
    ]


def _unroutable(provider: Provider, domain: str) -> Outcome:
    """What the resolver makes of a domain without mail servers (`operators.deliveries.routes`)."""
    if provider.dns == "null-mx":
        return failed("dns", "error", f"{domain} takes no mail: null MX", status="5.1.10")
    if provider.dns == "servfail":
        return deferred("dns", "error", f"DNS look-up of {domain}: SERVFAIL", status="4.4.3")
    return failed("dns", "error", f"{domain} does not exist", status="5.1.2")
