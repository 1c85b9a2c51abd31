"""The ledger: what was answered 250, what arrived and when, and what could make a message arrive twice."""

from __future__ import annotations

import collections
import threading
import time
from dataclasses import dataclass, field

FOREIGN = "amqp-"  # published by others: two of them may have the same id
PUT_OFF = 60.0  # seconds after an unrest in which what was put off before it comes
IN_FLIGHT = 10.0  # seconds before a kill in which a delivery may not have been settled yet, on a busy machine


@dataclass
class Unrest:
    """A time in which what was delivered may not have been settled, and why."""

    reason: str
    begin: float
    end: float = float("inf")


@dataclass
class Ledger:
    """Kept by all threads. Each message has an id of its own, in `X-Number` and in its recipient.

    Attributes:
        accepted: ids that Mailrace, or its broker, has confirmed, and when.
        offered: by sender, all that were begun.
        delivered: when each id arrived; more than once is a double.
        cut: ids that a receiver took, and hung up before its answer.
        hopeless: ids for a receiver that takes none.
        refusals: what senders were told in place of a confirmation.
    """

    accepted: dict[str, float] = field(default_factory=dict)
    offered: collections.Counter[str] = field(default_factory=collections.Counter)
    taken: collections.Counter[str] = field(default_factory=collections.Counter)
    delivered: dict[str, list[float]] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    hopeless: set[str] = field(default_factory=set)
    refusals: collections.Counter[str] = field(default_factory=collections.Counter)
    unrest: list[Unrest] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def offer(self, sender: str) -> str:
        """A new id."""
        with self.lock:
            self.offered[sender] += 1
            return f"{sender}-{self.offered[sender]}"

    def accept(self, id: str) -> None:
        """It was confirmed."""
        with self.lock:
            self.accepted[id] = time.time()
            self.taken[id.rpartition("-")[0]] += 1

    def refuse(self, sender: str, why: str) -> None:
        """It was not."""
        with self.lock:
            self.refusals[f"{sender}: {' '.join(why.split())[:90]}"] += 1

    def arrive(self, id: str, cut: bool = False, when: float | None = None) -> None:
        """A receiver has it, whole."""
        with self.lock:
            self.delivered.setdefault(id, []).append(time.time() if when is None else when)
            if cut:
                self.cut.add(id)

    def begin(self, reason: str) -> Unrest:
        """From now on, until its `end` is set."""
        unrest = Unrest(reason, time.time())
        self.unrest.append(unrest)
        return unrest

    def missing(self) -> set[str]:
        """Confirmed, and not arrived."""
        with self.lock:
            return self.accepted.keys() - self.delivered.keys()

    def doubles(self) -> dict[str, collections.Counter[str]]:
        """How many came once too often, by reason, and with which ids; "" is without a reason."""
        found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        for id, moments in self.delivered.items():
            for first, again in zip(sorted(moments), sorted(moments)[1:], strict=False):
                found[self._reason(id, first, again)][id] += 1
        return dict(found)

    def _reason(self, id: str, first: float, again: float) -> str:
        for unrest in self.unrest:
            if unrest.begin - IN_FLIGHT <= first <= unrest.end and again >= unrest.begin:
                return unrest.reason
            put_off = self.accepted.get(id, again) <= unrest.end and unrest.begin <= first <= unrest.end + PUT_OFF
            if put_off and id.startswith(FOREIGN):
                return "put off just before, with an id that is not ours"
        return "the receiver took it and hung up before its answer" if id in self.cut else ""
