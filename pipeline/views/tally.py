"""Tally: how often each rule has decided on a message since the start, from the event stream.

Bound: one number for each rule that has; a deleted rule's number goes with the next look at its kind.
"""

from __future__ import annotations

import collections
from typing import Any

from operators.deliveries.events import Event, Settled
from operators.deliveries.outcome import Next

UNDECIDED = (Next.PARK, Next.RETURN, Next.POSTPONE)


class Tally:
    """Counts what rules have decided."""

    def __init__(self) -> None:
        self._counts: collections.Counter[str] = collections.Counter()

    def count(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, Settled) and event.delivery.rules and event.outcome.next not in UNDECIDED:
            self._counts.update(event.delivery.rules)

    def of(self, kind: str, id_: int) -> int:
        """How many messages this rule has decided on."""
        return self._counts[f"{kind}/{id_}"]

    def live(self, kind: str, rule: Any) -> dict[str, Any]:
        """A rule's figures, as far as they are counted here."""
        return {"used": self.of(kind, rule.id)} if "used" in rule.live else {}
