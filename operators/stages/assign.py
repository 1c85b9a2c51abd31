"""assign: chooses the MTA IP that a message leaves from, and with it the lane. Runs when the route is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from operators.deliveries.delivery import Delivery, Route, lane_name
from operators.deliveries.outcome import failed
from operators.mail.message import Message
from operators.stages.stage import Report, Stage, stage, unreported

ChooseIp = Callable[[Delivery, Route], "MtaChoice"]
Outlook = Callable[[str], tuple[float, int]]


class MtaChoice(NamedTuple):
    """An MTA IP, or None where there is none, and the rules that have passed others over, as `kind/id`."""

    ip: str | None
    rules: tuple[str, ...] = ()


OfPool = Callable[[Delivery, Route], MtaChoice]
PassedOver = Callable[[Sequence[str], Delivery, Route], tuple[Sequence[str], tuple[str, ...]]]


def none_passed_over(ips: Sequence[str], delivery: Delivery, route: Route) -> tuple[Sequence[str], tuple[str, ...]]:
    """No rule is in the way of an MTA IP."""
    return ips, ()


def assign(
    allowed: Callable[[Message], Sequence[str]],
    outlook: Outlook,
    pool: OfPool,
    report: Report = unreported,
    passed_over: PassedOver = none_passed_over,
) -> Stage:
    """Sets `ip` and `lane`; without a usable MTA IP the delivery ends in `bind/error`.

    A retry leaves from the address it left from before where it may: greylisting knows senders by their address.
    Else, among several, the one whose lane can send soonest; ties by least in memory, then in turn, or, among those
    of a pool, by weight. A message's `ips` outrank its pool.

    Args:
        allowed: the MTA IPs that the message may leave from.
        outlook: for a lane, (seconds until it can send, deliveries in memory).
        pool: the MTA IP of a message that names a pool, or None.
        report: told of exceptions.
        passed_over: of several MTA IPs those that are not used up, and the rules that say so.
    """
    choose = chooser(allowed, outlook, pool, passed_over)

    def step(delivery: Delivery) -> Delivery:
        assert delivery.route is not None
        ip, rules = choose(delivery, delivery.route)
        if ip is None:
            return delivery.ended(failed("bind", "error", _nowhere(delivery.message)))
        lane = lane_name(ip, delivery.route.group)
        if rules:
            return delivery.but(ip=ip, lane=lane, rules=(*delivery.rules, *rules))
        return delivery.but(ip=ip, lane=lane)

    return stage("assign", step, report)


def chooser(
    allowed: Callable[[Message], Sequence[str]],
    outlook: Outlook,
    pool: OfPool,
    passed_over: PassedOver = none_passed_over,
) -> ChooseIp:
    """What `assign` chooses by; its arguments are explained there."""
    turn = itertools.count()

    def choose(delivery: Delivery, route: Route) -> MtaChoice:
        if delivery.message.ips is None and delivery.message.pool is not None:
            return pool(delivery, route)
        mine = allowed(delivery.message)
        if len(mine) > 1:
            mine = reachable(mine, route)
        if len(mine) <= 1:
            return MtaChoice(mine[0] if mine else None)
        mine, rules = passed_over(mine, delivery, route)
        if delivery.message.results and (before := delivery.message.results[-1].get("from")) in mine:
            return MtaChoice(str(before), rules)
        first = next(turn) % len(mine)
        ip = min([*mine[first:], *mine[:first]], key=lambda ip: outlook(lane_name(ip, route.group)))
        return MtaChoice(ip, rules)

    return choose


def _nowhere(message: Message) -> str:
    if message.ips is None and message.pool is not None:
        return f"pool: no pool {message.pool[:100]!r} has an MTA IP of this instance that can reach the receiver"
    return f"no MTA IP of this instance is usable: asked for {message.ips}"


def reachable(ips: Sequence[str], route: Route) -> Sequence[str]:
    """Those of `ips` whose address family some target of the route has."""
    families = {":" in target.address for target in route.targets}
    return [ip for ip in ips if (":" in ip) in families]
