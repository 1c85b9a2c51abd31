"""Warm-ups as they are shown, and what operators do with one: hold, go on, advance, reset. Owns nothing."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from operators.lanes.warming import PREFIX, WarmupDay, WarmupUnavailable, began, local_day, too_bad
from pipeline.views.recorder import Recorder
from settings.rules import FieldError, InvalidRule
from settings.rules.warming import Schedule, Warmup
from settings.store import Who

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine

WarmupAction = Literal["hold", "go-on", "advance", "reset"]
SO_FAR, TO_COME = 90, 90  # days of the curve


class CurveDay(msgspec.Struct, frozen=True, kw_only=True):
    """A day that is over, or is to come (then without `date` and counts)."""

    day: int
    cap: int
    date: str = ""
    sent: int = 0
    deferred: int = 0
    failed: int = 0
    attempts: int = 0


class WarmupProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How an MTA IP stands with a destination (empty: all mail).

    `state`: waiting (it begins later), warming, held (by hand), holding or back (by its shares, from tomorrow on), warm
    (the last step). `cap` 0 is unlimited. `deferrals`: percent of today's attempts. `waits`: messages for tomorrow.
    `until`: when the day ends, epoch seconds.
    """

    rule: int
    ip: str
    destination: str
    schedule: str
    state: str
    why: str
    date: str
    until: float
    day: int
    last_day: int
    cap: int
    sent: int
    attempts: int
    deferred: int
    failed: int
    deferrals: float
    waits: int
    curve: list[CurveDay]
    to_come: list[CurveDay]


class WarmupsView:
    """Over a running machine."""

    def __init__(self, machine: Machine, recorder: Recorder) -> None:
        self._machine, self._recorder = machine, recorder

    def all(self) -> list[WarmupProgress]:
        """Every MTA IP that is warmed, for each destination."""
        rules = self._machine.rules.snapshot.rules("warmups")
        return [found for rule in rules if isinstance(rule, Warmup) for found in self.of(rule)]

    def of(self, rule: Warmup) -> list[WarmupProgress]:
        """The MTA IPs of one rule; none where the book cannot be read, which its fault says."""
        schedule = self._machine.rules.snapshot.schedule(rule.schedule)
        if schedule is None:
            return []
        try:
            return [self._progress(rule, schedule, ip) for ip in self._ips(rule)]
        except WarmupUnavailable:
            return []

    def _ips(self, rule: Warmup) -> Sequence[str]:
        return [rule.ip] if rule.ip is not None else list(self._machine.rules.snapshot.pool(rule.pool or ""))

    def _progress(self, rule: Warmup, schedule: Schedule, ip: str) -> WarmupProgress:
        machine, (date, until) = self._machine, local_day(rule.time_zone, time.time())
        today = machine.warming.today(rule, ip)
        day = today or WarmupDay(ip=ip, destination=rule.domain or "", date=date, day=rule.day)
        cap, (state, why) = schedule.step(day.day).cap, _state(rule, schedule, today)
        days = reversed(machine.warmups.days(ip, rule.domain or "", SO_FAR))
        next_days = range(day.day + 1, min(schedule.last_day, day.day + TO_COME) + 1)
        return WarmupProgress(
            rule=rule.id,
            ip=ip,
            destination=rule.domain or "",
            schedule=rule.schedule,
            state=state,
            why=why,
            date=day.date,
            until=until,
            day=day.day,
            last_day=schedule.last_day,
            cap=cap,
            sent=day.sent,
            attempts=day.attempts,
            deferred=day.deferred,
            failed=day.failed,
            deferrals=round(100 * day.deferred / day.attempts, 1) if day.attempts else 0.0,
            waits=machine.queue.parked().get(f"{PREFIX}{ip}/{rule.domain or ''}", 0),
            curve=[_over(one) for one in days if one.date < day.date],
            to_come=[CurveDay(day=number, cap=schedule.step(number).cap) for number in next_days],
        )

    def act(self, rule: Warmup, action: WarmupAction, who: Who, ip: str | None = None) -> list[WarmupProgress]:
        """Hold the day, let it go on, begin the next now, or begin anew; of one MTA IP, or of all of the rule.

        Raises:
            InvalidRule: the rule is not for this MTA IP, has not begun, or its book cannot be written.
            NotAllowed: to the user.
        """
        who.must("operate")
        ips = self._ips(rule)
        if ip is not None and ip not in ips:
            raise InvalidRule([FieldError("ip", f"is not warmed by this rule; there are {', '.join(ips) or 'none'}")])
        for one in [ip] if ip is not None else ips:
            self._act(rule, action, who, one)
        self._machine.warming.forget()
        return self.of(rule)

    def _act(self, rule: Warmup, action: WarmupAction, who: Who, ip: str) -> None:
        schedule = self._machine.rules.snapshot.schedule(rule.schedule)
        try:
            self._machine.warming.forget()
            before = self._machine.warming.today(rule, ip)
            if before is None or schedule is None:
                raise InvalidRule([FieldError("", f"the warm-up of {ip} has not begun yet")])
            after = msgspec.structs.replace(before, **_changes(action, rule, schedule, before))
            if not self._machine.warmups.put(after, before):
                raise InvalidRule([FieldError("", "it has been changed meanwhile; look again")])
        except WarmupUnavailable as error:
            raise InvalidRule([FieldError("", str(error))]) from None
        facts = {"ip": ip, "destination": before.destination, "day": after.day, "day_before": before.day}
        self._recorder.soon(who, action, "warmups", rule.id, facts | {"held": after.held})


def _changes(action: WarmupAction, rule: Warmup, schedule: Schedule, day: WarmupDay) -> dict[str, Any]:
    if action in ("hold", "go-on"):
        return {"held": action == "hold"}
    number = rule.day if action == "reset" else min(day.day + 1, max(schedule.last_day, day.day))
    return {"day": number, "cap": schedule.step(number).cap, "held": False}


def _state(rule: Warmup, schedule: Schedule, day: WarmupDay | None) -> tuple[str, str]:
    """The state, and why it is so."""
    if day is None:
        when = datetime.datetime.fromtimestamp(began(rule), datetime.UTC)
        return "waiting", f"it begins {when:%Y-%m-%d %H:%M} UTC"
    if day.held:
        return "held", "held by hand: the day stays"
    if why := too_bad(rule, day):
        return ("back" if rule.then == "back" else "holding"), why
    return ("warm", "the last step stays") if day.day >= schedule.last_day else ("warming", "")


def _over(day: WarmupDay) -> CurveDay:
    return CurveDay(**{name: getattr(day, name) for name in CurveDay.__struct_fields__})
