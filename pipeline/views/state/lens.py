"""Lenses: the counters of a combination of MTA IP, domain and tag, from the moment when somebody looks at it.

The telemetry keeps series for each of them, not for what they have in common, of which there is no end. Owner of: MOST
lenses, the one that was looked at longest ago is given up. While nobody looks through one there is no cost.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Mapping

from reactivex import Observable
from reactivex.abc import DisposableBase

from operators.deliveries.delivery import lane_ip
from operators.deliveries.events import Event
from pipeline.telemetry.telemetry import Telemetry

MOST = 10


class Lens:
    """What passes one combination. `since`: epoch seconds from which on it is counted."""

    def __init__(self, events: Observable[Event], selected: Mapping[str, str]) -> None:
        self._selected = dict(selected)
        self.telemetry, self.since = Telemetry(keys=100), time.time()
        self._watching: DisposableBase = events.subscribe(self._see)

    def close(self) -> None:
        """Count no more."""
        self._watching.dispose()

    def _see(self, event: Event) -> None:
        delivery = getattr(event, "delivery", None)
        if delivery is None:
            return
        message, recalled = delivery.message, delivery.lease.recalled
        here = {"domain": delivery.domain or message.domain, "ip": delivery.ip or lane_ip(recalled or "")}
        for name, value in self._selected.items():
            if value not in message.tags if name == "tag" else value != here[name]:
                return
        self.telemetry.count(event)


class Lenses:
    """Those that somebody looks through."""

    def __init__(self, events: Observable[Event]) -> None:
        self._events = events
        self._lenses: collections.OrderedDict[frozenset[tuple[str, str]], Lens] = collections.OrderedDict()

    def of(self, selected: Mapping[str, str]) -> Lens:
        """The lens of a combination; a new one where there is none."""
        key = frozenset(selected.items())
        if key not in self._lenses:
            self._lenses[key] = Lens(self._events, selected)
            if len(self._lenses) > MOST:
                self._lenses.popitem(last=False)[1].close()
        self._lenses.move_to_end(key)
        return self._lenses[key]

    def close(self) -> None:
        """Count no more."""
        while self._lenses:
            self._lenses.popitem()[1].close()
