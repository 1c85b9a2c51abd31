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
        if not snapshot.redirects or delivery.route is None:
            return delivery
        remotes, now = [target.address for target in delivery.route.targets], clock()
        chain = [delivery.ip]
        while (rule := snapshot.redirect(chain[-1], delivery.domain, remotes, now)) is not None:
            if rule.to_ip in chain:
                looped(delivery, [*chain, rule.to_ip])
                return delivery
            chain.append(rule.to_ip)
        if len(chain) == 1:
            return delivery
        moved = delivery.but(ip=chain[-1], lane=lane_name(chain[-1], delivery.route.group))
        redirected(moved, delivery.ip)
        return moved

    return stage("redirect", step, report)
