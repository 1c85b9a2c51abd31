"""The retry rule: when a message that was put off is tried again, or that it is given up. One pure function."""

from __future__ import annotations

from collections.abc import Sequence

from operators.deliveries.delivery import Lease
from operators.mail.message import Message, seconds

SHORTEST = 1  # second between attempts, whatever a message's own `retries` say
JITTER = 0.05  # a retry comes up to this fraction later than its delay, so that an outage does not end in a stampede


def deadline(message: Message, lease: Lease, lifetime: float, now: float) -> float:
    """Epoch seconds after which the message is given up.

    Its `maxdelivertime` where it has one, else `lifetime` seconds after it came into the queue.
    """
    if message.maxdelivertime is not None:
        return seconds(message.maxdelivertime)
    return (lease.queued or now) + lifetime


def retry_at(attempts: int, delays: Sequence[int], now: float, last: float, most: int, chance: float) -> float | None:
    """Epoch seconds of the next attempt, or None to give up.

    Args:
        attempts: how many are behind it, the one that just ended included where it was one.
        delays: seconds between attempts; the last one repeats.
        now: epoch seconds.
        last: the deadline, epoch seconds; no attempt begins after it.
        most: attempts allowed; 0 is unlimited.
        chance: from 0 to 1, decides the jitter.
    """
    if most and attempts >= most:
        return None
    delay = max(SHORTEST, delays[min(max(attempts, 1), len(delays)) - 1]) if delays else SHORTEST
    at = now + delay * (1 + JITTER * chance)
    return at if at <= last else None
