"""warm-up: how many messages a day leave from an MTA IP that receivers do not know yet. Pure but for its book.

A day is counted for each (MTA IP, destination) in the time zone of the rule, in a book that survives the program. An
attempt takes its place in the book just before it goes to the receiver, and gives it back where MAIL FROM was not sent:
so a cap is never exceeded, whoever is killed when. `admit` runs before the lane, and parks what finds no room; `count`
runs after it. The lane's own look at the book may be FRESH old where other workers write to it, so `count` decides.
"""

from __future__ import annotations

import datetime
import functools
import zoneinfo
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from operators.deciding.force import decided
from operators.deliveries.delivery import Delivery, Route
from operators.deliveries.outcome import Next, parked, postponed
from operators.lanes.limits import Limits
from operators.stages.stage import Report, Stage, stage, unreported
from operators.stages.tap import tap
from settings.rules import Snapshot
from settings.rules.warming import Schedule, Warmup

PREFIX = "warm/"
FRESH = 0.2  # seconds for which the book is not looked at again
AGAIN = 1.0  # seconds until a message is looked at again that another worker has taken the place of
LATER = 10.0  # the same, where the book cannot be read
ENOUGH = 100  # attempts of a day, below which its shares say nothing


class WarmupUnavailable(Exception):
    """The book cannot be read or written."""


class WarmupDay(msgspec.Struct, frozen=True, kw_only=True):
    """A day of an MTA IP and a destination (empty: all).

    Attributes:
        date: ISO 8601, in the rule's time zone.
        day: of the schedule.
        cap: the most messages; 0 is unlimited.
        sent: messages that have left; a try that comes to MAIL FROM is one.
        attempts, deferred, failed: of those that have ended.
        held: by the operator: the day stays.
        started: of the rule, epoch seconds: another one begins anew.
    """

    ip: str
    destination: str
    date: str
    day: int
    cap: int = 0
    sent: int = 0
    attempts: int = 0
    deferred: int = 0
    failed: int = 0
    held: bool = False
    started: float = 0.0


class WarmupBook(Protocol):
    """Where days are kept. All may raise `WarmupUnavailable`."""

    def last(self, ip: str, destination: str) -> WarmupDay | None:
        """The newest day."""

    def begin(self, day: WarmupDay) -> WarmupDay:
        """Store a new day; where another worker was first, what it has stored."""

    def take(self, day: WarmupDay) -> bool:
        """Count a message; False where the cap is reached."""

    def give_back(self, day: WarmupDay) -> None:
        """It has not left."""

    def ended(self, day: WarmupDay, attempts: int, deferred: int, failed: int) -> None:
        """Count attempts that have ended."""

    def put(self, day: WarmupDay, before: WarmupDay) -> bool:
        """Change day, cap, held and started of a stored day; False where somebody else has changed them meanwhile."""

    def told(self, day: WarmupDay) -> bool:
        """Whether this is the first to tell that a day is over its shares."""


def began(rule: Warmup) -> float:
    """Epoch seconds at which a warm-up began."""
    return rule.started.timestamp() if rule.started is not None else 0.0


def followed(rule: Warmup, schedule: Schedule, ip: str, last: WarmupDay | None, date: str) -> WarmupDay:
    """The day of a date. It goes on only after one on which mail went, and that was not held or over its shares.

    A clock that goes back begins no day again.
    """
    fresh = WarmupDay(ip=ip, destination=rule.domain or "", date=date, day=rule.day, started=began(rule))
    if last is None:
        return _capped(fresh, schedule)
    if last.started < fresh.started:  # another rule: the day begins anew, what has left today has left
        same = last.date >= date
        return _capped(
            msgspec.structs.replace(last, day=rule.day, held=False, started=fresh.started) if same else fresh, schedule
        )
    if last.date >= date:
        return _capped(last, schedule)
    return _capped(msgspec.structs.replace(fresh, day=_next_day(rule, schedule, last), held=last.held), schedule)


def _next_day(rule: Warmup, schedule: Schedule, last: WarmupDay) -> int:
    if last.held or not last.sent:
        return last.day
    if too_bad(rule, last):
        return schedule.step_before(last.day) if rule.then == "back" else last.day
    return min(last.day + 1, max(schedule.last_day, last.day))


def _capped(day: WarmupDay, schedule: Schedule) -> WarmupDay:
    cap = schedule.step(day.day).cap
    return day if day.cap == cap else msgspec.structs.replace(day, cap=cap)


def too_bad(rule: Warmup, day: WarmupDay) -> str:
    """Which share of a day is over the rule's, in words; empty where none is, or there are too few attempts."""
    if day.attempts < ENOUGH:
        return ""
    for what, count, most in (("deferred", day.deferred, rule.deferrals), ("given up", day.failed, rule.failures)):
        if most is not None and 100 * count > most * day.attempts:
            return f"{100 * count / day.attempts:.0f} % of {day.attempts:,} attempts were {what}, more than {most} %"
    return ""


@functools.cache
def _zone(name: str) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo(name)


def local_day(zone: str, now: float) -> tuple[str, float]:
    """The date in a time zone, and when it ends, epoch seconds."""
    local = datetime.datetime.fromtimestamp(now, _zone(zone))
    tomorrow = datetime.datetime.combine(local.date() + datetime.timedelta(days=1), datetime.time(), _zone(zone))
    return local.date().isoformat(), tomorrow.timestamp()


class _Running:
    """A day under way, as this process knows it."""

    __slots__ = ("attempts", "day", "deferred", "ends", "failed", "fresh_until", "pending", "rule", "schedule")

    def __init__(self, rule: Warmup, schedule: Schedule) -> None:
        self.rule, self.schedule = rule, schedule
        self.day = WarmupDay(ip="", destination="", date="", day=0)
        self.pending = 0  # admitted, and not taken yet
        self.fresh_until = self.ends = float("-inf")
        self.attempts = self.deferred = self.failed = 0  # that the book does not know yet

    @property
    def room(self) -> bool:
        day = self.day
        return not day.cap or day.sent + self.pending < day.cap


class WarmupPlace:
    """A message's place in a day: admitted, then (with a `day`) taken."""

    __slots__ = ("day", "running")

    def __init__(self, running: _Running) -> None:
        self.running = running
        self.day: WarmupDay | None = None


class Warming:
    """All warm-ups.

    Owner of: what is admitted and not yet taken. Bound: a day for each MTA IP and destination that is warmed.

    Args:
        rules: the rules in force.
        clock: epoch seconds.
        book: where days are kept.
        warn: told what an operator should know, as (kind, line).
    """

    def __init__(
        self,
        rules: Callable[[], Snapshot],
        clock: Callable[[], float],
        book: WarmupBook,
        warn: Callable[[str, str], None] = lambda kind, text: None,
    ) -> None:
        self._rules, self._clock, self._book, self._warn = rules, clock, book, warn
        self._running: dict[tuple[str, str], _Running] = {}
        self._looked: dict[str, Snapshot] = {}  # parked queues, and the rules that a message was parked under
        self.trouble: str | None = None

    # -- what others ask --------------------------------------------------------------------------------------------

    def passes_over(self, ip: str, domain: str, group: str) -> Warmup | None:
        """The rule by which another MTA IP is to be chosen, where there is one: the cap of this one is used."""
        rule = self._rules().warmup(ip, domain, group, self._clock())
        if rule is None or rule.overflow != "pool":
            return None
        try:
            running = self._look(rule, ip)
        except WarmupUnavailable:
            return None
        return rule if running is not None and not running.room else None

    def left(self, ips: Sequence[str], delivery: Delivery, route: Route) -> tuple[Sequence[str], tuple[str, ...]]:
        """Those of several MTA IPs that have room today, or all where none has; and the rules that pass others over."""
        if not self._rules().chosen("warmups"):
            return ips, ()
        over = {ip: self.passes_over(ip, delivery.domain, route.group) for ip in ips}
        free = [ip for ip in ips if over[ip] is None]
        if not free or len(free) == len(ips):
            return ips, ()
        return free, tuple(dict.fromkeys(f"warmups/{rule.id}" for rule in over.values() if rule is not None))

    def limits(self, ip: str, domain: str, group: str, base: Limits) -> Limits:
        """The limits of a lane, with those of the step."""
        rule = self._rules().warmup(ip, domain, group, self._clock())
        if rule is None:
            return base
        try:
            running = self._look(rule, ip)
        except WarmupUnavailable:
            return base
        return base if running is None else running.schedule.step(running.day.day).over(base)

    def blocked(self, queue: str) -> bool:
        """Whether calling this parked queue in is of no use now: there is no room, by the rules it was parked under."""
        if not queue.startswith(PREFIX):
            return False
        snapshot = self._rules()
        _, ip, destination = queue.split("/", 2)
        rule = snapshot.warmup(ip, destination, destination, self._clock())
        if rule is None or self._looked.get(queue) is not snapshot:
            return False
        try:
            running = self._look(rule, ip)
        except WarmupUnavailable:
            return True
        return running is not None and not running.room

    def today(self, rule: Warmup, ip: str) -> WarmupDay | None:
        """The day of an MTA IP under a rule; None before it begins. Raises `WarmupUnavailable`."""
        if began(rule) > self._clock():
            return None
        running = self._look(rule, ip)
        return running.day if running is not None else None

    def forget(self) -> None:
        """The book was changed by somebody else: look again."""
        for running in self._running.values():
            running.fresh_until = float("-inf")

    # -- the stages -------------------------------------------------------------------------------------------------

    def admit(self, report: Report = unreported) -> Stage:
        """Parks what finds no room today in `warm/<ip>/<destination>`; all else has a place kept for it."""

        def step(delivery: Delivery) -> Delivery:
            snapshot, route = self._rules(), delivery.route
            if not snapshot.chosen("warmups") or route is None:
                return delivery
            rule = snapshot.warmup(delivery.ip, delivery.domain, route.group, self._clock())
            if rule is None:
                return delivery
            delivery = decided(delivery, "warmups", rule.id)
            try:
                running = self._look(rule, delivery.ip)
            except WarmupUnavailable as error:
                return delivery.ended(postponed(self._clock() + LATER, str(error)))
            if running is None:
                return delivery.ended(postponed(self._clock() + LATER, f"the schedule {rule.schedule!r} is missing"))
            if not running.room:
                return delivery.ended(parked(self._queue(running, snapshot), words(running.day)))
            running.pending += 1
            return delivery.but(warm=WarmupPlace(running))

        return stage("warm_up", step, report)

    def _queue(self, running: _Running, snapshot: Snapshot) -> str:
        queue = f"{PREFIX}{running.day.ip}/{running.day.destination}"
        self._looked[queue] = snapshot
        return queue

    def count(self, report: Report = unreported) -> Stage:
        """Takes the place in the book, right before the attempt; where it is gone, the message comes again soon."""

        def step(delivery: Delivery) -> Delivery:
            place: WarmupPlace | None = delivery.warm
            if place is None:
                return delivery
            running = place.running
            try:
                found = self._look(running.rule, running.day.ip)
                day = (found or running).day
                taken = self._book.take(day)
            except WarmupUnavailable as error:
                self._said(error)
                return delivery.ended(postponed(self._clock() + LATER, str(error)))
            if not taken:
                running.fresh_until = float("-inf")
                return delivery.ended(postponed(self._clock() + AGAIN, words(day)))
            place.day = day
            running.pending -= 1
            if found is not None:
                found.day = msgspec.structs.replace(found.day, sent=found.day.sent + 1)
            return delivery

        return stage("warm_up_count", step, report)

    def counted(self, report: Report = unreported) -> Stage:
        """Hears how each attempt ended; a place that was not used is free again."""

        def end(delivery: Delivery) -> None:
            place: WarmupPlace | None = delivery.warm
            if place is None:
                return
            if place.day is None:
                place.running.pending -= 1
            else:
                self._ended(place.running, place.day, delivery)

        return tap("warm_up_counted", end, report)

    def _ended(self, running: _Running, day: WarmupDay, delivery: Delivery) -> None:
        outcome = delivery.outcome
        if outcome is None or not outcome.attempted:
            self._give_back(running, day)
            return
        running.attempts += 1
        if outcome.result != "accepted":
            running.deferred += outcome.next is Next.RETRY
            running.failed += outcome.next is Next.FAIL

    def _give_back(self, running: _Running, day: WarmupDay) -> None:
        try:
            self._book.give_back(day)
        except WarmupUnavailable as error:  # the place counts as used: never more than the cap
            self._said(error)
            return
        if running.day.date == day.date:
            running.day = msgspec.structs.replace(running.day, sent=max(0, running.day.sent - 1))

    # -- the days ---------------------------------------------------------------------------------------------------

    def _look(self, rule: Warmup, ip: str) -> _Running | None:
        """The day under way, not older than FRESH; None where the rule's schedule is missing."""
        schedule, now = self._rules().schedule(rule.schedule), self._clock()
        if schedule is None:
            return None
        key = (ip, rule.domain or "")
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = _Running(rule, schedule)
        if now < running.fresh_until and running.rule is rule and running.schedule is schedule:
            return running
        date, ends = local_day(rule.time_zone, now)
        self.flush(running)
        running.rule, running.schedule = rule, schedule
        try:
            running.day = self._day(rule, schedule, ip, date)
        except WarmupUnavailable as error:
            self._said(error)
            raise
        self.trouble = None
        running.fresh_until = min(now + FRESH, ends)
        return running

    def _day(self, rule: Warmup, schedule: Schedule, ip: str, date: str) -> WarmupDay:
        last = self._book.last(ip, rule.domain or "")
        day = followed(rule, schedule, ip, last, date)
        if last is not None and day.date == last.date:
            if day != last:
                self._book.put(day, last)
            return day
        stored = self._book.begin(day)
        if last is not None and stored.day != last.day and stored == day:
            self._warn("warm-up", f"{name(day)}: day {day.day} begins, {_most(day)}")
        return stored

    def flush(self, running: _Running) -> None:
        """Tell the book how attempts ended; what it does not take is told again."""
        if not running.attempts:
            return
        try:
            self._book.ended(running.day, running.attempts, running.deferred, running.failed)
        except WarmupUnavailable as error:
            self._said(error)
            return
        running.attempts = running.deferred = running.failed = 0

    def tick(self) -> None:
        """About once a second: tell the book, and say where a day is over its shares."""
        for running in list(self._running.values()):
            if not running.attempts:
                continue
            self.flush(running)
            running.fresh_until = float("-inf")
            self._judge(running)

    def _judge(self, running: _Running) -> None:
        rule, day = running.rule, running.day
        try:
            day = self._book.last(day.ip, day.destination) or day
            why = too_bad(rule, day)
            if why and self._book.told(day):
                what = "goes back a step" if rule.then == "back" else "stays"
                self._warn("warm-up", f"{name(day)}: day {day.day} {what}, {why}")
        except WarmupUnavailable as error:
            self._said(error)

    def _said(self, error: WarmupUnavailable) -> None:
        if self.trouble is None:
            self._warn("warm-up", f"mail of warm-ups waits: {error}")
        self.trouble = f"mail of warm-ups waits: {error}"


def name(day: WarmupDay) -> str:
    """What is warmed for whom."""
    return f"warm-up of {day.ip} for {day.destination or 'all mail'}"


def _most(day: WarmupDay) -> str:
    return f"at most {day.cap:,} messages" if day.cap else "without a cap"


def words(day: WarmupDay) -> str:
    """Why a message waits."""
    return f"{name(day)}: the {day.cap:,} messages of day {day.day} are used, the next leave tomorrow"
