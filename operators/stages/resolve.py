"""resolve: finds out where a delivery goes. Runs before the MTA IP is chosen.

A delivery that waits for DNS holds credit. So only so many wait at once; more of them are parked, in the lane
`?/<name>`, until `Resolving` says that there is room again; and so are those whose look-up takes long. A name that is
known costs no waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from operators.deliveries.delivery import Delivery, Route
from operators.deliveries.outcome import Next, Outcome, parked
from operators.deliveries.relay import Relay
from operators.deliveries.routes import Found
from operators.stages.stage import Done, Report, Stage, handover, unreported

ProviderOf = Callable[[str], str | None]
DIRECT = Relay()  # no smarthost but a message's own
MOST_PER_NAME = 50  # deliveries that wait for one look-up


class Lookups(Protocol):
    """Finds out where mail goes. With a `port` the name is a host itself, else a mail domain."""

    def peek(self, name: str, port: int | None = None) -> Found | None:
        """The route, or the outcome of mail for it; None where that takes a look-up."""

    def lookup(self, name: str, done: Callable[[Found], None], port: int | None = None) -> None:
        """Find out; calls `done` exactly once: at once where it is known, else when the look-up is over.

        Where it takes long, `done` gets an outcome that parks, and `late` holds until it is over.
        """

    def late(self, key: str) -> bool:
        """Whether the look-up of a name, or of `name:port`, is under way and takes long."""


class Resolving:
    """The deliveries that wait for look-ups, counted. Bound: `most()` in all, MOST_PER_NAME for one name."""

    def __init__(self, names: Lookups, most: Callable[[], int]) -> None:
        """`most`: how many may wait now, over all names; asked each time, since it follows the free credit."""
        self.names = names
        self.total = 0
        self._most = most
        self._waiting: dict[str, int] = {}

    def waits(self, lane: str) -> bool:
        """Calling in those parked in `?/<name>` is of no use now: the look-up is under way, or too many wait."""
        mine, _, name = lane.partition("/")
        return mine == "?" and (name in self._waiting or self.total >= self._most() or self.names.late(name))

    def enter(self, name: str) -> bool:
        """Let one delivery wait for this name; False where there is no room."""
        here = self._waiting.get(name, 0)
        if here >= MOST_PER_NAME or self.total >= self._most():
            return False
        self._waiting[name] = here + 1
        self.total += 1
        return True

    def leave(self, name: str) -> None:
        """One delivery waits no longer."""
        self.total -= 1
        self._waiting[name] -= 1
        if not self._waiting[name]:
            del self._waiting[name]


def unresolved(name: str) -> str:
    """The lane of deliveries parked before their destination group is known."""
    return f"?/{name}"


def unnamed(host: str) -> str | None:
    """No host is a provider's."""
    return None


def resolve(
    resolving: Resolving,
    report: Report = unreported,
    relay: Relay = DIRECT,
    provider: ProviderOf = unnamed,
) -> Stage:
    """Sets `route`: to the message's smarthost, else to the configured one, else to the mail servers of its domain.

    Ends the delivery where the domain takes no mail (`dns/error`), where DNS does not answer (retried), and, parked,
    where no more may wait.
    """

    def start(delivery: Delivery, done: Done) -> None:
        name, port = delivery.domain, None
        if (smarthost := relay.host(delivery.message)) is not None:
            name, port = smarthost.hostname, smarthost.port
        named = provider if port is None else unnamed
        found = resolving.names.peek(name, port)
        if found is not None:
            done(_resolved(delivery, relay.found(delivery.message, found), named))
            return
        key = name if port is None else f"{name}:{port}"
        if resolving.names.late(key) or not resolving.enter(key):
            done(delivery.ended(parked(unresolved(key), f"too many wait for the look-up of {name}")))
            return

        def arrived(answer: Found) -> None:
            if isinstance(answer, Outcome) and answer.next is Next.PARK:
                answer = parked(unresolved(key), answer.description)
            try:
                done(_resolved(delivery, relay.found(delivery.message, answer), named))
            finally:
                resolving.leave(key)

        resolving.names.lookup(name, arrived, port)

    return handover("resolve", start, report)


def _resolved(delivery: Delivery, found: Found, provider: ProviderOf) -> Delivery:
    if not isinstance(found, Route):
        return delivery.ended(found)
    name = provider(found.targets[0].host) if found.targets else None
    return delivery.but(route=found if name is None else msgspec.structs.replace(found, group=name))
