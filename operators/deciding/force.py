"""force: ends what the operator stops, with the answer that the rule gives. Runs when MTA IP and route are known, and
before that where it is certain already which rule decides: mail ends that no DNS answers for.

Before hold, so that a pause keeps no mail from its end; what waits in lanes is looked at again when the rules change.
Persists as the outcome alone: no connection is made, and nothing of it counts against the receiver.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import Next, Outcome
from operators.stages.stage import Report, Stage, stage, unreported
from settings.rules import ForcedError, Snapshot
from settings.rules.selection import Chosen, Traits

NEXT = {2: Next.DELIVERED, 4: Next.RETRY, 5: Next.FAIL}


def force(
    rules: Callable[[], Snapshot], clock: Callable[[], float], report: Report = unreported, *, early: bool = False
) -> Stage:
    """Ends deliveries that a forced error is for: the most specific decides.

    Args:
        rules: the rules in force.
        clock: epoch seconds.
        report: told of exceptions.
        early: before the route is known.
    """

    def step(delivery: Delivery) -> Delivery:
        snapshot = rules()
        if not (errors := snapshot.chosen("errors")):
            return delivery
        if early:
            message = delivery.message
            rule = errors.certain(Traits("", "", message.domain, "", (), message.tags), clock())
        else:
            rule = errors.best(traits(delivery, snapshot, errors), clock())
        if rule is None:
            return delivery
        return delivery.but(rules=(*delivery.rules, f"errors/{rule.id}"), outcome=forced(rule))

    return stage("force", step, report)


def forced(rule: ForcedError) -> Outcome:
    """The end that a forced error makes."""
    return _forced(rule.code, rule.extended, rule.description)


@functools.lru_cache(100)
def _forced(code: int, extended: str | None, description: str) -> Outcome:
    return Outcome(
        state="process",
        result="accepted" if code < 300 else "error",
        next=NEXT[code // 100],
        code=code,
        status=extended,
        description=description,
        ours=True,
    )


def traits(delivery: Delivery, snapshot: Snapshot, chosen: Chosen) -> Traits:
    """What these rules choose a delivery by, as far as it is known."""
    route, message = delivery.route, delivery.message
    return Traits(
        delivery.ip,
        snapshot.pool_of(delivery.ip),
        delivery.domain or message.domain,
        route.group if route is not None else "",
        [target.address for target in route.targets] if chosen.by_remote and route is not None else (),
        message.tags,
    )


def decided(delivery: Delivery, kind: str, id_: int) -> Delivery:
    """The delivery with this rule among those that have decided on it, for the log."""
    return delivery.but(rules=(*delivery.rules, f"{kind}/{id_}"))
