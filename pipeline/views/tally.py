"""Tally: how often each rule has decided on a message since the start, from the event stream.

Bound: one number for each rule that has; a deleted rule's number goes with the next look at its kind.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

from operators.deliveries.events import Event, Redirected, Settled
from operators.deliveries.outcome import Next
from settings.rules import Snapshot

UNDECIDED = (Next.PARK, Next.RETURN, Next.POSTPONE)


class Tally:
    """Counts what rules have decided, and what redirects have moved. `rules`: those in force."""

    def __init__(self, rules: Callable[[], Snapshot]) -> None:
        self._rules = rules
        self._counts: collections.Counter[str] = collections.Counter()
        self._redirected: collections.Counter[int] = collections.Counter()

    def count(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, Redirected):
            self._count_redirect(event)
        elif isinstance(event, Settled) and event.delivery.rules and event.outcome.next not in UNDECIDED:
            self._counts.update(event.delivery.rules)

    def _count_redirect(self, event: Redirected) -> None:
        """Each rule of the chain that moved a message counts it."""
        delivery, route = event.delivery, event.delivery.route
        if route is None:
            return
        remotes = [*(target.address for target in route.targets), route.group]
        chain = self._rules().redirects_of(event.from_ip, delivery.domain, remotes, event.time)
        self._redirected.update(rule.id for rule in chain)

    def redirected(self, id_: int) -> int:
        """How many messages this redirect has moved."""
        return self._redirected[id_]

    def of(self, kind: str, id_: int) -> int:
        """How many messages this rule has decided on."""
        return self._counts[f"{kind}/{id_}"]

    def live(self, kind: str, rule: Any) -> dict[str, Any]:
        """A rule's figures, as far as they are counted here."""
        return {"used": self.of(kind, rule.id)} if "used" in rule.live else {}
