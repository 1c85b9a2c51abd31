"""The queues: the contract that the machine needs, and who keeps it."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.queues.embedded import EmbeddedQueue
from pipeline.queues.rabbitmq import RabbitQueue, unreported
from settings import Settings

RESULTS = ("results", "success", "failure", "retry", "refused")
JSON_GROWTH = 2  # a body's JSON is at most this much larger than its MIME, escapes and base64 included


def open_queue(
    settings: Settings,
    report: Callable[[str, str], None] = unreported,
    moved: Callable[[str, int], None] = lambda lane, by: None,
    alone: bool = False,
) -> EmbeddedQueue | RabbitQueue:
    """The queue that the configuration asks for; not started yet.

    Args:
        settings: with `rabbitmq-address` it is RabbitMQ's, else the embedded one.
        report: told (kind, text) when the disk is full, a broker goes away, what it refuses, and when that is over.
        moved: told (lane, by how many) when parked messages come or go by an operator's hand.
        alone: no other program has it open.
    """
    if settings.rabbitmq_address is not None:
        return RabbitQueue(settings, settings.smtp_maxsize * JSON_GROWTH, report, folder=settings.data_dir)
    return EmbeddedQueue(
        settings.data_dir / "queue.db", settings.rabbitmq_outbox, report=report, moved=moved, alone=alone
    )


def result_queues(settings: Settings) -> dict[str, str]:
    """The names of the result queues that are on.

    Nobody reads the embedded queue from outside, so there a result queue is on only where it is named in the
    configuration; the delivery log has the same facts, and is bounded.
    """
    named = {kind: getattr(settings, f"rabbitmq_{kind}") for kind in RESULTS}
    on = {kind: name for kind, name in named.items() if name}
    if settings.rabbitmq_address is None:
        on = {kind: name for kind, name in on.items() if settings.origin(f"rabbitmq-{kind}") != "default"}
    return on
