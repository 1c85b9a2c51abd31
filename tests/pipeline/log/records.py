"""Deliveries and outcomes to log."""

from __future__ import annotations

from typing import Any

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.outcome import Next, Outcome
from operators.mail.message import from_properties

TIME = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC


def delivery(number: int = 0, **properties: Any) -> Delivery:
    """A delivery to user<number>@example.com."""
    message = {"recipient": f"user{number}@example.com", "envelope": "from@sender.example", "message-id": f"m{number}"}
    return Delivery(
        lease=Lease(id=number, body=b"", queued=TIME - 2),
        message=from_properties({**message, **properties}),
        source=b"x" * 1000,
        ip="127.0.0.1",
        lane="127.0.0.1/example.com",
    )


def accepted(**changes: Any) -> Outcome:
    """The outcome of a message that was taken."""
    given = {"code": 250, "status": "2.0.0", "description": "queued", "remote_ip": "127.0.0.9", "wire": 0.5} | changes
    return Outcome(state="message", result="accepted", next=Next.DELIVERED, **given)


def refused(description: str = "no such user", code: int = 550) -> Outcome:
    """The outcome of a message that was turned away for good."""
    return Outcome(state="rcptto", result="error", next=Next.FAIL, code=code, description=description)
