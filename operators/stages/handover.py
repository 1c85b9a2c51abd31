"""handover: gives a message to the instance of the cluster that has its MTA IPs. Runs before resolve, where there is a
cluster.

It is published to that instance's outbox, once: a mark in the message (`handover`) says to whom, and keeps two
instances from playing ball. Where nobody has its IPs, it goes on to `assign`, and ends there in `bind/error`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import Next, Outcome, postponed
from operators.mail.message import Message
from operators.stages.stage import Done, Report, Stage, handover, unreported

LATER = 10.0  # seconds, where the cluster's broker does not answer
AGAIN = 1.0  # seconds, for a message that its instance will find in the outbox that we read as well


class NobodyReads(Exception):
    """There is no such queue any more."""


class Elsewhere(msgspec.Struct, frozen=True):
    """The instance that a message is for, and the queue that it reads; an empty one: the same as ours."""

    instance: str
    outbox: str = ""


def ask_again(instance: str) -> Elsewhere:
    """It is in the right queue already."""
    return Elsewhere(instance)


Find = Callable[[Message, list[str]], Elsewhere | None]
Publish = Callable[[str, bytes, Callable[[Exception | None], None]], None]


def hand_over(
    wanted: Callable[[Message], Sequence[str]],
    find: Find,
    publish: Publish,
    clock: Callable[[], float],
    report: Report = unreported,
) -> Stage:
    """Ends deliveries that belong to another instance, once its queue has them; all others pass.

    Args:
        wanted: the MTA IPs that a message asks for, where none of them is ours; else nothing.
        find: the instance that has one of them.
        publish: puts a body into a queue, and calls back when it is safe, or with why it is not.
        clock: epoch seconds.
        report: told of exceptions.
    """

    def start(delivery: Delivery, done: Done) -> None:
        message = delivery.message
        if message.ips is None and message.pool is None:
            done(delivery)
            return
        ips = list(wanted(message))
        found = find(message, ips) if ips else None
        if found is None:
            done(delivery)
        elif not found.outbox:
            done(delivery.ended(postponed(clock() + AGAIN, f"belongs to instance {found.instance}")))
        else:
            give(delivery, found, done)

    def give(delivery: Delivery, to: Elsewhere, done: Done) -> None:
        def confirmed(error: Exception | None) -> None:
            if error is None:
                done(delivery.ended(handed(to.instance)))
            elif isinstance(error, NobodyReads):
                done(delivery)
            else:  # of the broker's or ours: the message has no part in it
                done(delivery.ended(postponed(clock() + LATER, f"belongs to instance {to.instance}: {error}")))

        properties = {**delivery.message.properties, "handover": to.instance}
        publish(to.outbox, msgspec.json.encode(properties), confirmed)

    return handover("handover", start, report)


def handed(instance: str) -> Outcome:
    """The end of a message that is another instance's now."""
    return Outcome(
        state="process", result="error", next=Next.HANDOVER, description=f"handed over to instance {instance}"
    )
