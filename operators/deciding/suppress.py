"""suppress: ends mail to addresses and domains that get none. Runs before DNS; changes nothing in the message.

Nearly every delivery passes with a look into memory. What the index finds is asked of the rules database, so a delivery
may wait here for as long as that takes; where it does not answer, the delivery is put off, and that is no attempt.
Bound: credit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from operators.deciding.force import decided
from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import Next, Outcome, deferred
from operators.stages.stage import Done, Report, Stage, handover, unreported
from settings.rules.suppression import Suppression, holds

Found = Callable[[Sequence[Suppression] | None], None]


class Suppressing(Protocol):
    """Who knows the suppressions."""

    def candidates(self, address: str) -> Sequence[int]:
        """The ids of those that may be for an address; from memory."""

    def fetch(self, ids: Sequence[int], found: Found) -> None:
        """Those entries, as they are now; None: they cannot be read."""


def suppress(known: Suppressing, clock: Callable[[], float], report: Report = unreported) -> Stage:
    """Ends deliveries whose recipient is suppressed, with the code and text of the entry.

    Args:
        known: the suppressions.
        clock: epoch seconds.
        report: told of exceptions.
    """

    def start(delivery: Delivery, done: Done) -> None:
        ids = known.candidates(delivery.message.recipient)
        if not ids:
            done(delivery)
            return
        known.fetch(ids, lambda rules: done(judged(delivery, rules)))

    def judged(delivery: Delivery, rules: Sequence[Suppression] | None) -> Delivery:
        if rules is None:
            why = "the rules database does not say whether this address is suppressed"
            return delivery.ended(deferred("suppression", "error", why, skipped=True))
        rule = holds(rules, delivery.message.recipient, delivery.message.tags, clock())
        return delivery if rule is None else decided(delivery, "suppressions", rule.id).ended(suppressed(rule))

    return handover("suppress", start, report)


def suppressed(rule: Suppression) -> Outcome:
    """The end that an entry makes."""
    return Outcome(
        state="suppression",
        result="error",
        next=Next.FAIL,
        code=rule.code,
        status=rule.extended,
        description=rule.description,
        ours=True,
    )
