"""The states of alert rules: what holds, since when, and whether it was told. Pure: its caller has the clock.

A rule watches subjects: a lane, an instance, a fault; or one that has no name. Each has a state of its own. It is told
when it has held for `lasting`, again after `again`, and when it has been gone for CLEAR seconds, so that what comes and
goes is one state. In its quiet time a rule tells nothing: what still holds at the end is told then, and what has come
and gone in between is not.

Bound: SUBJECTS of a rule; those that are more wait until others have gone.
"""

from __future__ import annotations

import datetime
import zlib
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from settings.rules.acting import is_within, window
from settings.rules.alerting import AlertRule

SUBJECTS = 50
CLEAR = 300.0  # seconds


class Finding(msgspec.Struct, frozen=True):
    """Something that a rule watches for holds now: of which subject, and what exactly."""

    subject: str
    text: str


class AlertState(msgspec.Struct, kw_only=True):
    """Something that holds, or has just ended. Times are epoch seconds.

    Attributes:
        rule: the number of its rule.
        subject, text: as found last.
        since: when it began.
        gone: when it was first not found any more; None while it is found.
        told: when it was told first, and `last`: most recently; None: not yet.
        on: it has held for long enough.
    """

    rule: int
    subject: str
    text: str
    since: float
    gone: float | None = None
    told: float | None = None
    last: float | None = None
    on: bool = False


class AlertNotice(msgspec.Struct, frozen=True, kw_only=True):
    """What is told. `kind`: begun, still, ended or test; times are epoch seconds; `id` is the same in each try."""

    id: str
    time: float
    rule: int
    name: str
    watch: str
    kind: str
    subject: str
    text: str
    since: float


Findings = Mapping[int, Sequence[Finding] | None]  # by rule; None: it cannot be said now


class AlertStates:
    """The states of all rules."""

    def __init__(self, states: Iterable[AlertState] = ()) -> None:
        self._states = {(state.rule, state.subject): state for state in states}

    def all(self) -> list[AlertState]:
        """Those that hold, the longest first."""
        return sorted(self._states.values(), key=lambda state: (state.since, state.rule, state.subject))

    def of(self, rule: int) -> list[AlertState]:
        """Those of a rule that are on."""
        return [state for state in self.all() if state.rule == rule and state.on]

    def tick(self, rules: Sequence[AlertRule], findings: Findings, now: float) -> list[AlertNotice]:
        """What is to be told now."""
        known = {rule.id for rule in rules}
        self._states = {key: state for key, state in self._states.items() if state.rule in known}
        notices: list[AlertNotice] = []
        for rule in rules:
            found = findings.get(rule.id)
            if found is not None:
                self._find(rule, found, now)
            notices += self._tell(rule, now)
        return notices

    def _find(self, rule: AlertRule, found: Sequence[Finding], now: float) -> None:
        mine = {state.subject: state for state in self._states.values() if state.rule == rule.id}
        for finding in found:
            state = mine.get(finding.subject)
            if state is None:
                if len(mine) >= SUBJECTS:
                    continue
                state = mine[finding.subject] = AlertState(rule=rule.id, subject=finding.subject, text="", since=now)
                self._states[rule.id, finding.subject] = state
            state.text, state.gone = finding.text, None
            state.on = state.on or now - state.since >= 60 * rule.lasting
        names = {finding.subject for finding in found}
        for subject, state in mine.items():
            if subject in names:
                continue
            state.gone = now if state.gone is None else state.gone
            if not state.on:  # it had to hold without a break
                del self._states[rule.id, subject]

    def _tell(self, rule: AlertRule, now: float) -> Iterator[AlertNotice]:
        quiet = is_quiet(rule, now)
        for state in [state for state in self._states.values() if state.rule == rule.id and state.on]:
            over = state.gone is not None and now - state.gone >= CLEAR
            if over and (state.told is None or not quiet):
                del self._states[rule.id, state.subject]
                if state.told is not None:
                    yield _notice(rule, state, "ended", now)
            elif not quiet and not over and (kind := _due(rule, state, now)):
                state.told, state.last = state.told or now, now
                yield _notice(rule, state, kind, now)


def _due(rule: AlertRule, state: AlertState, now: float) -> str:
    """Whether it is to be told that it has begun, or that it still lasts."""
    if state.gone is not None:
        return ""
    if state.told is None or state.last is None:
        return "begun"
    if state.last > now:  # the clock was set back
        state.last = now
    return "still" if rule.again and now - state.last >= 3600 * rule.again else ""


def is_quiet(rule: AlertRule, now: float) -> bool:
    """Whether the rule tells nothing at this time of its day."""
    if rule.quiet is None:
        return False
    here = datetime.datetime.fromtimestamp(now, zoneinfo.ZoneInfo(rule.time_zone))
    return is_within(window(rule.quiet), here.hour * 60 + here.minute)


def _notice(rule: AlertRule, state: AlertState, kind: str, now: float) -> AlertNotice:
    return AlertNotice(
        id=f"{rule.id}-{zlib.crc32(state.subject.encode()):08x}-{int(now * 1000)}",
        time=now,
        rule=rule.id,
        name=rule.name,
        watch=rule.watch,
        kind=kind,
        subject=state.subject,
        text=state.text,
        since=state.since,
    )
