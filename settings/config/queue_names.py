"""Which queues mail is read from: results may not go there, or one message becomes endless mail. Pure functions."""

from __future__ import annotations


def is_read(name: str, outbox: str, inbox: str) -> bool:
    """Whether mail is read from a queue of this name: the outbox, the inbox, or what comes back to the outbox."""
    return name in (outbox, inbox) or is_ours(name, outbox)


def is_ours(name: str, outbox: str) -> bool:
    """Whether the queue is one that Mailrace keeps beside the outbox: parked messages, their index, delays."""
    return name == f"{outbox}.parked" or name.startswith((f"{outbox}.parked.", f"{outbox}.delay."))
