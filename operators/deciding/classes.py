"""classes: what a negative answer means, as one word. RE2 patterns, many tried in one pass over the answer.

The operator's own patterns come before the table. An answer that nothing matches is `other`, and one without a receiver
is classed by how far the attempt got.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import re2

from operators.deciding.class_table import TABLE
from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import Next, Outcome
from operators.stages.stage import Report, Stage, handover, unreported
from settings.rules import Snapshot
from settings.rules.acting import BounceClass
from settings.rules.decisions import CLASSES
from settings.rules.patterns import TEXT
from settings.rules.snapshot import answer_text

OTHER = "other"
MEMORY = 16 << 20  # bytes for the automaton of TOGETHER patterns
TOGETHER = 48  # patterns in one automaton: its states grow with their product, and beyond MEMORY it is slow
UNANSWERED = {
    "dns": "invalid-domain",
    "connect": "connection",
    "intro": "connection",
    "ehlo": "connection",
    "helo": "connection",
    "starttls": "tls",
    "mailfrom": "connection",
    "rcptto": "connection",
    "data": "connection",
    "message": "connection",
}
"""The class of an attempt that ended without an answer."""


class PatternSet:
    """Patterns in order, TOGETHER of them tried at once.

    Args:
        table: (class, RE2 pattern).
    """

    def __init__(self, table: Sequence[tuple[str, str]]) -> None:
        options = re2.Options()
        options.case_sensitive = False
        options.log_errors = False
        options.max_mem = MEMORY
        self._sets: list[tuple[list[str], Any]] = []
        for start in range(0, len(table), TOGETHER):
            some = table[start : start + TOGETHER]
            patterns = re2.Set.SearchSet(options)
            for _, pattern in some:
                patterns.Add(pattern)
            patterns.Compile()
            self._sets.append(([class_ for class_, _ in some], patterns))

    def __call__(self, text: str) -> str | None:
        """The class of the first pattern that matches."""
        for classes, patterns in self._sets:
            found: list[int] = patterns.Match(text)
            if found:
                return classes[min(found)]
        return None


@functools.cache
def shipped() -> PatternSet:
    """The table, compiled when it is first used."""
    assert {class_ for class_, _ in TABLE} <= set(CLASSES)
    return PatternSet(TABLE)


def class_of(text: str) -> str:
    """The class of an answer, `code status text`, by the table alone. 6 us."""
    text = text[:TEXT]
    return shipped()(text if text.isascii() else text.encode("utf-8", "replace").decode()) or OTHER


def classed(outcome: Outcome, snapshot: Snapshot) -> Outcome:
    """The outcome with its class, where it is a negative one of a receiver or of the way to it."""
    return _decided(outcome, snapshot)[0]


def _decided(outcome: Outcome, snapshot: Snapshot) -> tuple[Outcome, BounceClass | None]:
    """As `classed`, and the operator's own pattern that the class is from."""
    if outcome.result == "accepted" or outcome.ours or outcome.next not in (Next.RETRY, Next.FAIL):
        return outcome, None
    own: BounceClass | None = None
    class_: str | None
    if outcome.code is None:
        class_ = UNANSWERED.get(outcome.state)
    else:
        text = answer_text(outcome.code, outcome.status, outcome.description)
        own = snapshot.own_class(text)
        class_ = own.meaning if own is not None else class_of(text)
    return (outcome if class_ is None else msgspec.structs.replace(outcome, bounce_class=class_)), own


def classify_answers(rules: Callable[[], Snapshot], report: Report = unreported) -> Stage:
    """The stage: gives each negative outcome its class. Runs after deliver, before what acts on classes.

    Args:
        rules: the rules in force.
        report: told of exceptions; the delivery goes on without a class.
    """

    def start(delivery: Delivery, done: Callable[[Delivery], None]) -> None:
        outcome = delivery.outcome
        if outcome is not None and outcome.result != "accepted":
            try:
                given, own = _decided(outcome, rules())
                if own is not None:
                    delivery = delivery.but(rules=(*delivery.rules, f"classes/{own.id}"))
                delivery = delivery.ended(given)
            except Exception as error:
                report("classify", delivery, error)
        done(delivery)

    return handover("classify", start, report, ended=True)
