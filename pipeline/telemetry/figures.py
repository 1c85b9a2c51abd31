"""Figures: what is counted, how it is called, and what it means. The one place where definitions are."""

from __future__ import annotations

import functools

import msgspec

from operators.deliveries.outcome import STATES, Next


class Figure(msgspec.Struct, frozen=True):
    """A figure's name, what it is called, and what it means, for the console's tooltips and `/metrics`."""

    name: str
    label: str
    definition: str


COUNTERS = (
    Figure("processed", "Processed", "Messages taken from the outbox; parking one and calling it in again is once."),
    Figure("attempts", "Attempts", "Messages whose MAIL FROM was sent to a receiving server."),
    Figure("delivered", "Delivered", "Messages that the receiving server accepted."),
    Figure("errors", "Errors", "Negative answers (4xx and 5xx) of receiving servers."),
    Figure("strange", "Strange", "Attempts without a usable answer: timeout, connection lost, invalid reply."),
    Figure("retried", "Retried", "Messages put back in the queue, to be tried again later."),
    Figure("failed", "Failed", "Messages given up for good."),
    Figure("not_tried", "Not tried", "Messages given up before any connection: expired, no DNS, no MTA IP, unusable."),
    Figure("returned", "Returned", "Messages given back: shutdown, the broker lost; or handed to another instance."),
    Figure("refused", "Refused", "Bodies in the outbox that could not be read as a message."),
    Figure("redirected", "Redirected", "Messages whose MTA IP was replaced by a redirect rule."),
    Figure("connects", "Connects", "New connections begun to receiving servers."),
    Figure("reuses", "Reuses", "Messages sent over a connection that had carried another one before."),
)  # fmt: skip
# Beside the counters that have a tile: without it, a destination that refuses every connection would look idle.
UNREACHED = Figure(
    "unreached", "Unreached", "Attempts that ended before a server was ready for mail, without an answer."
)
# Counted by the supervisor, whatever the event stream does.
BACKGROUND = Figure("background_errors", "Background errors", "Errors of what runs in the background, by its part.")
LOST_LINES = Figure("program_log_lost", "Lost log lines", "Lines of the program log that could not be written.")
CLASSED = Figure("bounces", "Bounces", "Negative ends of attempts, by their class.")
DISCARDED = Figure(
    "discarded", "Discarded", "Messages taken and thrown away, as it is configured: `rabbitmq-inbox` is empty."
)
INSTANCES = Figure("instances", "Instances", "Live instances of the cluster, this one counted.")
WARMED = (
    Figure("warmup_sent", "Warm-up: today", "Messages that have left today, by MTA IP and destination."),
    Figure("warmup_cap", "Warm-up: cap", "The most messages today; 0 is unlimited."),
    Figure("warmup_day", "Warm-up: day", "The day of its schedule."),
)
ALERTS = Figure("alerts", "Alerts", "What of the alert rules holds now.")
NOTICES = Figure("alert_notices", "Notices", "Notices of alert rules, by what became of them: sent or lost.")
STRAY = Figure("cluster_refused", "Refused words", "Messages on the cluster's exchange that were of no use.")
REMOVED = Figure("removed", "Removed", "Parked messages an operator took out: deleted, purged, or released.")
GAUGES = (
    Figure("in_memory", "In memory", "Messages held in memory now, on their way."),
    Figure("parked", "Parked", "Messages waiting outside memory now, because their lane is full, slow or paused."),
    Figure("waiting", "Retrying", "Messages that wait now for their retry."),
    Figure("attempting", "Attempting", "Connections that are being made now."),
    Figure("active", "Active", "Connections with a message on them now."),
    Figure("idle", "Idle", "Connections that are open now, and wait for another message."),
)
FIGURES: dict[str, Figure] = {figure.name: figure for figure in (*COUNTERS, UNREACHED, REMOVED, *GAUGES)}
INDEX: dict[str, int] = {figure.name: index for index, figure in enumerate((*COUNTERS, UNREACHED, REMOVED))}

WRONG = frozenset((INDEX["errors"], INDEX["strange"], INDEX["unreached"]))  # what an operator looks into
OUTSIDE = frozenset(STATES[STATES.index("dns") :])  # how far an attempt got where it was no more up to us

_ENDS: dict[Next, str | None] = {
    Next.DELIVERED: "delivered",
    Next.RETRY: "retried",
    Next.POSTPONE: "retried",
    Next.FAIL: "failed",
    Next.REFUSE: "refused",
    Next.RETURN: "returned",
    Next.HANDOVER: "returned",
    Next.PARK: None,
}


@functools.cache
def counted(
    next_: Next, result: str, code: bool, attempted: bool, reused: bool, connected: bool, outside: bool
) -> tuple[int, ...]:
    """The counters that an outcome of this kind counts in. Few kinds exist: a look-up in place of eight tests."""
    tried = next_ in (Next.DELIVERED, Next.RETRY, Next.FAIL)
    names = [
        _ENDS[next_],
        "attempts" if attempted else None,
        "errors" if tried and result == "error" and code else None,
        "strange" if tried and result in ("timeout", "lost", "invalid") else None,
        "unreached" if tried and result == "error" and outside and not code else None,
        "not_tried" if next_ is Next.FAIL and not connected else None,
        "reuses" if reused and attempted else None,
    ]
    return tuple(INDEX[name] for name in names if name)
