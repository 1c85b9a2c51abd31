"""Pools: which MTA IP of its pool a message leaves from, and where it waits while the operator has paused all of them.

Owner of: the draws of each pool. Bound: the pools that have been used since the start, a number for each member.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from operators.deliveries.delivery import Delivery, Route, lane_name
from operators.lanes.slots import Wait
from operators.stages.assign import MtaChoice, PassedOver, none_passed_over
from operators.stages.hold import parked_queue
from settings.rules import Pause, Snapshot

PREFIX = "pool/"
MOST = 20  # pauses that the name of a parked queue tells
NEVER = float("inf")

Outlook = Callable[[str], tuple[float, int]]


class Pools:
    """Chooses among the members of pools.

    A member that is paused for the message, or whose lane is, is passed over. Of the others those count whose lane
    can send soonest; among them the draw is by weight.

    Args:
        rules: the rules in force.
        clock: epoch seconds.
        ours: whether a MTA IP is of this machine.
        paused: until when a lane is paused as a whole, or None.
        outlook: for a lane, (seconds until it can send, deliveries in memory).
        chance: a random number from 0 to 1, 1 not included.
        passed_over: of several MTA IPs those that are not used up, and the rules that say so.
    """

    def __init__(
        self,
        rules: Callable[[], Snapshot],
        clock: Callable[[], float],
        ours: Callable[[str], bool],
        paused: Callable[[str], Wait | None],
        outlook: Outlook,
        chance: Callable[[], float],
        passed_over: PassedOver = none_passed_over,
    ) -> None:
        self._rules, self._clock, self._ours = rules, clock, ours
        self._paused, self._outlook, self._chance = paused, outlook, chance
        self._passed_over = passed_over
        self._urns: dict[str, Urn] = {}

    def choose(self, delivery: Delivery, route: Route) -> MtaChoice:
        """The MTA IP, or None where the pool is unknown, or has none of this machine that can reach the route."""
        name = delivery.message.pool or ""
        mine = self._members(name, route)
        if len(mine) <= 1:
            return MtaChoice(mine[0] if mine else None)
        left, rules = self._passed_over(mine, delivery, route)
        return MtaChoice(left[0] if len(left) == 1 else self._soonest(delivery, route, left), rules)

    def _soonest(self, delivery: Delivery, route: Route, mine: Sequence[str]) -> str:
        name = delivery.message.pool or ""
        waits = {ip: self._waits(delivery, route, ip) for ip in mine}
        first = min(waits.values())
        free = [ip for ip in mine if waits[ip] == first]
        if delivery.message.results and (before := delivery.message.results[-1].get("from")) in free:
            return str(before)  # greylisting knows senders by their address
        seconds = {ip: self._outlook(lane_name(ip, route.group))[0] for ip in free}
        soonest = min(seconds.values())
        return self._urn(name, self._rules().pool(name)).draw(
            [ip for ip in free if seconds[ip] <= soonest], self._chance()
        )

    def parked_queue(self, delivery: Delivery, pause: Pause) -> str:
        """Where a message waits that `pause` holds: until the first pause of its pool's members ends."""
        message, route = delivery.message, delivery.route
        if message.ips is not None or message.pool is None or pause.ip is None or route is None:
            return parked_queue(pause)
        held = [self._pauses(delivery, route, ip) for ip in self._members(message.pool, route)]
        numbers = sorted({pauses[0].id for pauses in held if pauses})
        if not all(held) or len(numbers) > MOST:
            return parked_queue(pause)
        return f"{PREFIX}{message.pool}/{'+'.join(map(str, numbers))}"

    def blocked(self, queue: str) -> bool:
        """Whether this is the parked queue of a pool whose members are all still paused."""
        if not queue.startswith(PREFIX):
            return False
        _, name, numbers = queue.split("/", 2)
        snapshot, now = self._rules(), self._clock()
        pauses = [snapshot.rule("pauses", int(number)) for number in numbers.split("+")]
        held = {pause.ip for pause in pauses if isinstance(pause, Pause) and not pause.ended(now)}
        mine = [ip for ip in snapshot.pool(name) if self._ours(ip)]
        return bool(mine) and (None in held or held.issuperset(mine))

    def _members(self, name: str, route: Route) -> list[str]:
        """The pool's MTA IPs of this machine; of several, those whose address family some target has."""
        mine = [ip for ip in self._rules().pool(name) if self._ours(ip)]
        if len(mine) <= 1:
            return mine
        families = {":" in target.address for target in route.targets}
        return [ip for ip in mine if (":" in ip) in families]

    def _waits(self, delivery: Delivery, route: Route, ip: str) -> float:
        """How long the message would be held back from this MTA IP: 0 not at all, NEVER by an operator's pause."""
        if self._pauses(delivery, route, ip):
            return NEVER
        wait = self._paused(lane_name(ip, route.group))
        return 0.0 if wait is None else wait.until or NEVER

    def _pauses(self, delivery: Delivery, route: Route, ip: str) -> Sequence[Pause]:
        """The pauses of the first target, where every target is paused from this MTA IP; else none."""
        snapshot = self._rules()
        if not snapshot.pauses or not route.targets:
            return ()
        now, tags = self._clock(), delivery.message.tags
        held = [
            snapshot.pauses_for(ip, delivery.domain, target.address, tags, now, route.group) for target in route.targets
        ]
        return held[0] if all(held) else ()

    def _urn(self, name: str, weights: Mapping[str, int]) -> Urn:
        urn = self._urns.get(name)
        if urn is None or urn.weights != weights:
            urn = self._urns[name] = Urn(weights)
        return urn


class Urn:
    """Draws without putting back: over as many draws as the weights add up to, each member has exactly its share.

    In between the order is random, so that no pattern in the messages (every second one to the same domain) meets
    one of ours.
    """

    def __init__(self, weights: Mapping[str, int]) -> None:
        self.weights = dict(weights)
        self._left = dict(weights)

    def draw(self, among: Sequence[str], chance: float) -> str:
        """One of these; `chance` is from 0 to 1, 1 not included."""
        if len(among) == 1:
            return among[0]
        if not any(self._left[ip] for ip in among):
            self._left.update((ip, self.weights[ip]) for ip in among)
        at = chance * sum(self._left[ip] for ip in among)
        for ip in among:
            at -= self._left[ip]
            if at < 0:
                break
        self._left[ip] -= 1
        return ip
