"""office_hours: a worked example. A domain gets its mail in the daytime only; what comes at night waits for morning.

    mailrace serve --operators operators.examples.office_hours:office_hours@expire

Runs after expire, so that what is too old is given up first. Ends deliveries with `postponed`, which is not an attempt:
the message goes back to the queue until its time. Keeps nothing, so a night's mail takes no memory.
"""

from __future__ import annotations

import datetime

from reactivex import Observable

from operators.custom import Delivery, Live, postponed

DOMAINS = frozenset({"office.example"})
OPENS, CLOSES = datetime.time(8), datetime.time(18)  # UTC


def office_hours(source: Observable[Delivery], live: Live) -> Observable[Delivery]:
    """Postpones mail to DOMAINS that comes outside the hours, until they begin."""

    def step(delivery: Delivery) -> Delivery:
        if delivery.domain not in DOMAINS:
            return delivery
        now = live.clock()
        until = opening(now)
        if until <= now:
            return delivery
        return delivery.ended(postponed(until, f"{delivery.domain} takes mail from {OPENS} to {CLOSES} UTC"))

    return source.pipe(live.stage(step))


def opening(now: float) -> float:
    """Epoch seconds at which mail may go: `now` within the hours, else when they begin next."""
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    if OPENS <= moment.time() < CLOSES:
        return now
    day = moment.date() + datetime.timedelta(days=moment.time() >= CLOSES)
    return datetime.datetime.combine(day, OPENS, datetime.UTC).timestamp()
