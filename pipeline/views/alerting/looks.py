"""Looks: what each alert rule finds in the running program at this moment.

Owner of: the counts of the minutes that shares are taken over, and what was seen of suppressions, instances and
workers. Bounds: 60 minutes for each rule; MEMBERS instances. A look costs about a millisecond for each 1,000 active
destinations, where a rule looks at shares; else next to nothing.
"""

from __future__ import annotations

import collections
import functools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from operators.deliveries.delivery import lane_ip
from pipeline.alerts.states import Finding
from pipeline.telemetry.backlog import SPAN
from pipeline.views.answers import classify
from pipeline.views.state.standing import provider, quoted
from pipeline.views.verdict import Judged
from settings.rules import Snapshot
from settings.rules.alerting import AlertRule

if TYPE_CHECKING:
    from pipeline.telemetry.backlog import MinuteCount
    from pipeline.views.facade import Facade

BLOCKS = ("spam-block", "reputation-domain")  # classes of answers that say that an MTA IP is not wanted
MEMBERS = 200
FORGOTTEN = 86_400.0  # seconds after which an instance that is gone is not missed any more
RECENT = 600.0  # seconds for which the new start of a worker is told
HOUR = 3600.0
RANK = {"watch": 1, "bad": 2}
Counts = tuple[int, int, int]  # accepted, deferred, bounced


class Looks:
    """What the rules see.

    Args:
        facade: of the running machine.
        judged: how all mail is.
        members: instances that were there before the start, and when they were last (epoch seconds).
    """

    def __init__(
        self,
        facade: Facade,
        judged: Callable[[], Judged],
        members: dict[str, float],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._facade, self._judged, self.members, self._clock = facade, judged, members, clock
        self._minutes: dict[tuple[object, ...], dict[int, Counts]] = {}
        self._suppressed: collections.deque[tuple[float, int]] = collections.deque(maxlen=720)
        self._begun: dict[int, float] = {}  # when each worker began that was there first
        self.oldest: float | None = None  # when the oldest message came into the queue, epoch seconds
        self.queued: int | None = None
        self._by: dict[str, Callable[[AlertRule], Sequence[Finding] | None]] = {
            "verdict": self._verdict,
            "failures": functools.partial(self._share, part=2, word="given up"),
            "deferrals": functools.partial(self._share, part=1, word="deferred"),
            "queue": self._queue,
            "age": self._age,
            "flood": lambda rule: list(self._floods(rule)),
            "fault": lambda rule: list(self._faults()),
            "member": lambda rule: [*self._instances(), *self._workers()],
            "suppressions": self._suppressions,
            "blocked": lambda rule: list(self._blocked(rule)),
        }

    def look(self, rules: Sequence[AlertRule]) -> dict[int, Sequence[Finding] | None]:
        """What each of these rules finds; None: it cannot be said now."""
        watched = {rule.watch for rule in rules}
        if watched & {"failures", "deferrals"}:
            self._count([rule for rule in rules if rule.watch in ("failures", "deferrals")])
        self._see_members()
        self._suppressed.append((self._clock(), len(self._facade.store.suppressions.index)))
        return {rule.id: self._by[rule.watch](rule) if self._ours(rule) else [] for rule in rules}

    def _ours(self, rule: AlertRule) -> bool:
        """What all instances see alike only one of them tells: the first by name of those that live."""
        if rule.watch not in ("member", "suppressions") or not self._facade.cluster.there:
            return True
        own = self._facade.settings.server_id
        return all(own < row.id for row in self._facade.cluster.others())

    # -- how mail goes ------------------------------------------------------------------------------------------------

    def _verdict(self, rule: AlertRule) -> Sequence[Finding]:
        judged = self._judged()
        if RANK.get(judged.level, 0) < RANK[rule.level]:
            return []
        detail = f" {judged.detail}" if judged.detail else ""
        return [Finding("", f"{judged.word}: {judged.text}{detail}")]

    def _count(self, rules: Sequence[AlertRule]) -> None:
        """The minute that runs and the one before, and all that are known of a selection that is new."""
        now = int(self._clock()) // 60
        backlog, snapshot = self._facade.backlog, self._facade.store.snapshot
        wanted = {_selection(rule): rule for rule in rules}
        self._minutes = {key: self._minutes.get(key, {}) for key in wanted}
        new = any(not minutes for minutes in self._minutes.values())
        for minute in range(now - (SPAN if new else 2) + 1, now + 1):
            rows = {tags: backlog.minute(minute, tags) for tags in {rule.tag is not None for rule in wanted.values()}}
            for key, rule in wanted.items():
                found = [row for row in rows[rule.tag is not None] if _chosen(rule, row, snapshot)]
                sums = (sum(r.accepted for r in found), sum(r.deferred for r in found), sum(r.bounced for r in found))
                self._minutes[key][minute] = sums
        for minutes in self._minutes.values():
            for old in [minute for minute in minutes if not now - 60 < minute <= now]:
                del minutes[old]

    def _share(self, rule: AlertRule, part: int, word: str) -> Sequence[Finding]:
        now, minutes = int(self._clock()) // 60, self._minutes.get(_selection(rule), {})
        # The minute that runs has only begun: it comes on top.
        found = [counts for minute, counts in minutes.items() if now - rule.minutes <= minute <= now]
        ended, those = sum(map(sum, found)), sum(counts[part] for counts in found)
        if ended < rule.attempts or 100 * those < rule.limit * ended:
            return []
        text = f"{100 * those / ended:.0f} % {word}, {those:,} of {ended:,} in the last {rule.minutes} min"
        standing = self._facade.backlog.standing(rule.ip, rule.domain, rule.tag)
        said = f": {quoted(standing)}" if standing.reasons else ""
        return [Finding("", f"{_of(rule)}{text}{said}")]

    def _queue(self, rule: AlertRule) -> Sequence[Finding] | None:
        if self.queued is None:
            return None
        growth = self._facade.sizes.growth()
        more = f" {growth.sentence()}" if growth else ""
        return [Finding("", f"{self.queued:,} messages are in the queue.{more}")] if self.queued >= rule.limit else []

    def _age(self, rule: AlertRule) -> Sequence[Finding] | None:
        if self.oldest is None:
            return None
        minutes = (self._clock() - self.oldest) / 60
        return [Finding("", f"the oldest message waits for {minutes:,.0f} min")] if minutes >= rule.limit else []

    def _floods(self, rule: AlertRule) -> Iterator[Finding]:
        explainer = self._facade.explainer
        for lane in explainer.names(retried=False):
            flood = explainer.flood(lane)
            if flood is None or flood.state != "paused" or rule.ip not in (None, lane_ip(lane)):
                continue
            if rule.domain not in (None, lane.partition("/")[2], *explainer.domains(lane)):
                continue
            until = time.strftime("%H:%M", time.gmtime(flood.paused_until))
            name = f"{lane_ip(lane)} to {provider(lane.partition('/')[2])}"
            text = f"{name} is paused until {until} UTC by the flood pattern {flood.pattern!r}: {flood.answer[:200]}"
            yield Finding(lane, text)

    def _blocked(self, rule: AlertRule) -> Iterator[Finding]:
        snapshot = self._facade.store.snapshot
        for lane, standing in self._facade.backlog.by("lane").items():
            ip, _, group = lane.partition("/")
            if standing.ended < rule.attempts or rule.ip not in (None, ip):
                continue
            if rule.domain not in (None, group) and rule.domain not in self._facade.explainer.domains(lane):
                continue
            blocks = [(r, n) for r, n in standing.reasons if classify(snapshot, f"{r.code} {r.text}")[0] in BLOCKS]
            count = sum(n for _, n in blocks)
            if blocks and 100 * count >= rule.limit * standing.ended:
                share = f"{count:,} of {standing.ended:,} attempts in the last {SPAN} min"
                text = f"{provider(group)} blocks {ip}, {share}: {blocks[0][0].code} {blocks[0][0].text[:200]}"
                yield Finding(lane, text)

    # -- the program --------------------------------------------------------------------------------------------------

    def _faults(self) -> Iterator[Finding]:
        """What changes in a line from one look to the next are its numbers: it stays one fault."""
        for state in self._facade.states():
            subject = re.sub(r"[0-9][0-9.,:]*", "#", state.text)[:200] if state.name == "fault" else state.name
            yield Finding(subject, state.text)

    def _see_members(self) -> None:
        now = self._clock()
        for row in self._facade.cluster.others():
            if row.id in self.members or len(self.members) < MEMBERS:
                self.members[row.id] = now
        for id_ in [id_ for id_, last in self.members.items() if now - last > FORGOTTEN]:
            del self.members[id_]

    def _instances(self) -> Iterator[Finding]:
        if not self._facade.cluster.there or any(state.name == "cluster" for state in self._facade.states()):
            return  # who hears nobody cannot say who is gone; that is a fault of its own
        live = {row.id for row in self._facade.cluster.others()}
        for id_, last in self.members.items():
            if id_ not in live:
                when = time.strftime("%H:%M", time.gmtime(last))
                yield Finding(f"instance {id_}", f"the instance {id_} is gone since {when} UTC")

    def _workers(self) -> Iterator[Finding]:
        now = self._clock()
        for worker in self._facade.workers():
            first = self._begun.setdefault(worker.number, worker.since)
            if worker.since != first and now - worker.since < RECENT:
                text = f"worker {worker.number} had ended, and was started again (process {worker.pid})"
                yield Finding(f"worker {worker.number}", text)

    def _suppressions(self, rule: AlertRule) -> Sequence[Finding]:
        now, count = self._suppressed[-1]
        before = next((had for then, had in self._suppressed if now - then <= 60 * rule.minutes), count)
        if count - before < rule.limit:
            return []
        return [Finding("", f"{count - before:,} suppressions more within {rule.minutes} min, {count:,} in all")]


def _selection(rule: AlertRule) -> tuple[object, ...]:
    return rule.ip, rule.domain, rule.tag


def _chosen(rule: AlertRule, row: MinuteCount, snapshot: Snapshot) -> bool:
    """Whether a count is of what the rule is for: its domain may be a provider's name."""
    ip, _, group = row.lane.partition("/")
    own = row.key if rule.tag is None else ip
    if rule.tag is not None and row.key != rule.tag:
        return False
    return rule.ip in (None, own) and rule.domain in (None, row.domain, group)


def _of(rule: AlertRule) -> str:
    """What the rule is for, in front of what was found."""
    parts = [f"to {rule.domain}" if rule.domain else "", f"from {rule.ip}" if rule.ip else ""]
    parts.append(f"tag {rule.tag}" if rule.tag else "")
    said = " ".join(part for part in parts if part)
    return f"{said}: " if said else ""
