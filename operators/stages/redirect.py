"""redirect: replaces the MTA IP by the operator's rules. Runs after assign; changes `ip` and `lane`.

Rules chain. A loop ends where it began: the message leaves from the IP that was assigned, and `looped` is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from operators.deliveries.delivery import Delivery, lane_name
from operators.stages.stage import Report, Stage, stage, unreported
from settings.rules import Snapshot

Redirected = Callable[[Delivery, str], None]
Looped = Callable[[Delivery, Sequence[str]], None]


def redirect(
    rules: Callable[[], Snapshot],
    clock: Callable[[], float],
    redirected: Redirected,
    looped: Looped,
    report: Report = unreported,
) -> Stage:
    """Follows the redirects of a delivery's MTA IP, for its domain, its remote IPs, or all.

    Args:
        rules: the rules in force.
        clock: epoch seconds.
        redirected: told of each delivery that got another IP, with the one it had.
        looped: told of a chain that comes back to itself, with its IPs.
        report: told of exceptions.
    """

    def step(delivery: Delivery) -> Delivery:
        snapshot = rules()
        if not snapshot.redirects or delivery.route is None or not snapshot.redirects_from(delivery.ip):
            return delivery
        remotes = [*(target.address for target in delivery.route.targets), delivery.route.group]
        now = clock()
        followed = snapshot.redirects_of(delivery.ip, delivery.domain, remotes, now)
        if not followed:
            return delivery
        chain = [rule.to_ip for rule in followed]
        ip = chain[-1]
        if ip in (delivery.ip, *chain[:-1]):
            looped(delivery, [delivery.ip, *chain])
            return delivery
        decided = (*delivery.rules, *[f"redirects/{rule.id}" for rule in followed])
        moved = delivery.but(ip=ip, lane=lane_name(ip, delivery.route.group), rules=decided)
        redirected(moved, delivery.ip)
        return moved

    return stage("redirect", step, report)
