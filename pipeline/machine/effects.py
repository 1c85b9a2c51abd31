"""Effects: what response rules do beyond a message: suppressions and pauses, as rules that people can see and end.

Owner of: what is on its way into the rules database (one of each at a time), what dry rules would have done, how many
answers fell into each class, and the answers of the last LAST that no class was found for. Where the database does not
answer, it is said, and the next such answer tries again.
"""

from __future__ import annotations

import collections
import datetime
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any

import msgspec

from operators.deliveries.delivery import Delivery
from operators.deliveries.events import Event, Settled
from pipeline.process.supervisor import spawn
from settings.rules import InvalidRule, Pause
from settings.rules.acting import Response
from settings.rules.snapshot import answer_text
from settings.store import RuleStore, RulesUnavailable, Who

WHO = Who("response rule")
LAST = 10_000  # negative answers that the unknown ones are counted among
LONGEST = 500  # characters of one that is shown
DAY = 86_400


class UnknownAnswer(msgspec.Struct, frozen=True):
    """An answer without a class: how often it came among the last LAST, the last time (epoch seconds), and for whom."""

    text: str
    count: int
    time: float
    domain: str


class RuleEffects:
    """Carries out what response rules ask for.

    Args:
        rules: where suppressions and pauses are kept.
        warn: told what could not be done, as (kind, line).
        clock: epoch seconds.
    """

    def __init__(
        self, rules: RuleStore, warn: Callable[[str, str], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._rules, self._warn, self._clock = rules, warn, clock
        self._under_way: set[Hashable] = set()
        self.dry: collections.Counter[int] = collections.Counter()  # by rule
        self.classes: collections.Counter[str] = collections.Counter()
        self._last: collections.deque[tuple[str, str, float] | None] = collections.deque(maxlen=LAST)

    def would(self, rule: Response) -> None:
        """A dry rule would have acted."""
        self.dry[rule.id] += 1

    def suppress(self, delivery: Delivery, rule: Response) -> None:
        """The recipient, or its domain, gets no more mail."""
        message, outcome = delivery.message, delivery.outcome
        value = message.recipient if rule.suppress == "address" else message.domain
        given: dict[str, Any] = {"type": rule.suppress, "value": value}
        if rule.suppress_days is not None:
            given["until"] = self._until(rule.suppress_days * DAY)
        if outcome is not None and (outcome.code or 0) >= 500:
            if outcome.status and outcome.status.startswith("5."):
                given["extended"] = outcome.status
            given |= {"code": outcome.code, "description": outcome.description[:LONGEST].strip() or rule.name}
        self._begin(("suppress", value), lambda: self._rules.suppressions.create(given, WHO, "response"))

    def pause(self, delivery: Delivery, rule: Response) -> None:
        """The lane, or the tag, rests for a while; one pause at a time for each."""
        if rule.pause == "tag":
            tag = rule.tag or next(iter(delivery.message.tags), None)
            if tag is None:
                return
            given: dict[str, Any] = {"tag": tag}
        else:
            ip, _, group = delivery.lane.partition("/")
            given = {"ip": ip, "domain": group}
        if self._is_paused(given):
            return
        given["until"] = self._until(rule.pause_seconds)
        reason = f"response rule {rule.name}"
        self._begin(tuple(sorted(given.items())), lambda: self._rules.create("pauses", given, WHO, reason))

    def _is_paused(self, given: Mapping[str, str]) -> bool:
        now = self._clock()
        return any(_same(pause, given) and not pause.ended(now) for pause in self._rules.snapshot.pauses)

    def _until(self, seconds: float) -> str:
        return datetime.datetime.fromtimestamp(self._clock() + seconds, datetime.UTC).isoformat()

    def _begin(self, key: Hashable, work: Callable[[], Awaitable[Any]]) -> None:
        if key in self._under_way:
            return
        self._under_way.add(key)

        async def run() -> None:
            try:
                await work()
            except (InvalidRule, RulesUnavailable) as error:
                self._warn("responses", f"a response rule could not act: {error}")
            finally:
                self._under_way.discard(key)

        spawn(run(), "responses", grave=False)

    # -- classes ------------------------------------------------------------------------------------------------------

    def count(self, event: Event) -> None:
        """Count the class of an attempt's end."""
        if isinstance(event, Settled) and (class_ := event.outcome.bounce_class) is not None:
            self.classes[class_] += 1
            known = event.outcome.code is None or class_ != "other"
            self._last.append(None if known else self._entry(event))

    @staticmethod
    def _entry(event: Settled) -> tuple[str, str, float]:
        outcome = event.outcome
        text = answer_text(outcome.code, outcome.status, outcome.description)
        return text[:LONGEST], event.delivery.domain, event.time

    def unknown(self) -> list[UnknownAnswer]:
        """The answers without a class among the last LAST negative ones, the most frequent first."""
        found: dict[str, UnknownAnswer] = {}
        for entry in self._last:
            if entry is not None:
                text, domain, when = entry
                count = found[text].count + 1 if text in found else 1
                found[text] = UnknownAnswer(text, count, when, domain)
        return sorted(found.values(), key=lambda answer: -answer.count)


def _same(pause: Pause, given: Mapping[str, str]) -> bool:
    fields = {
        "ip": pause.ip,
        "pool": pause.pool,
        "domain": pause.domain,
        "remote_ip": pause.remote_ip,
        "tag": pause.tag,
    }
    return {name: value for name, value in fields.items() if value is not None} == given
