"""Figures: what is counted, how it is called, and what it means. The one place where definitions are."""

from __future__ import annotations

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """A figure's name, what it is called, and what it means, for the console's tooltips and `/metrics`."""

    name: str
    label: str
    definition: str


COUNTERS = (
    Figure("processed", "Processed", "Messages taken from the outbox. Calling a parked one in again does not count."),
    Figure("attempts", "Attempts", "Messages whose MAIL FROM was sent to a receiving server."),
    Figure("delivered", "Delivered", "Messages that the receiving server accepted."),
    Figure("errors", "Errors", "Negative answers (4xx and 5xx) of receiving servers."),
    Figure("strange", "Strange", "Attempts without a usable answer: timeout, connection lost, invalid reply."),
    Figure("retried", "Retried", "Messages put back in the queue, to be tried again later."),
    Figure("failed", "Failed", "Messages given up for good."),
    Figure("not_tried", "Not tried", "Messages given up before any connection: expired, no DNS, no MTA IP, unusable."),
    Figure("returned", "Returned", "Messages given back to the queue unsettled: shutdown, or the broker was lost."),
    Figure("refused", "Refused", "Bodies in the outbox that could not be read as a message."),
    Figure("redirected", "Redirected", "Messages whose MTA IP was replaced by a redirect rule."),
    Figure("connects", "Connects", "New connections begun to receiving servers."),
    Figure("reuses", "Reuses", "Messages sent over a connection that had carried another one before."),
)  # fmt: skip
GAUGES = (
    Figure("in_memory", "In memory", "Messages held in memory now, on their way."),
    Figure("parked", "Parked", "Messages waiting outside memory now, because their lane is full, slow or paused."),
    Figure("waiting", "Waiting", "Messages waiting now for their retry time."),
    Figure("attempting", "Attempting", "Connections that are being made now."),
    Figure("active", "Active", "Connections with a message on them now."),
    Figure("idle", "Idle", "Connections that are open now, and wait for another message."),
)
FIGURES: dict[str, Figure] = {figure.name: figure for figure in (*COUNTERS, *GAUGES)}
INDEX: dict[str, int] = {figure.name: index for index, figure in enumerate(COUNTERS)}
