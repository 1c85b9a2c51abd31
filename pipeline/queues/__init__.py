"""The queues: the contract that the machine needs, and who keeps it."""

from __future__ import annotations

from pipeline.queues.embedded import EmbeddedQueue
from settings import Settings

RESULTS = ("results", "success", "failure", "retry", "refused")


def open_queue(settings: Settings) -> EmbeddedQueue:
    """The queue that the configuration asks for; not started yet."""
    return EmbeddedQueue(settings.data_dir / "queue.db", settings.rabbitmq_outbox)


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
