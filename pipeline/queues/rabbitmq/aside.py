"""The last resort: a message of the broker that we fail at, by a fault of ours, is taken aside; the others go on."""

from __future__ import annotations

import structlog
from aiormq.abc import DeliveredMessage

from operators.deliveries.delivery import Lease
from operators.deliveries.results import QUOTED, refusal
from pipeline.queues.rabbitmq.amqp.broker import Report
from pipeline.queues.rabbitmq.amqp.link import Ledger
from pipeline.queues.rabbitmq.amqp.mail import BrokerMessage
from pipeline.queues.rabbitmq.sending import Publisher
from settings import Settings

log = structlog.get_logger("queues")


class Aside:
    """Sends such messages to the refused queue, or to failure, with the reason.

    Where there is neither, or it takes nothing, a message stays with us, unsettled, until the connection ends.

    Args:
        settings: the names of those queues.
        sender: publishes.
        report: told (kind, text).
    """

    def __init__(self, settings: Settings, sender: Publisher, report: Report) -> None:
        named = {"refused": settings.rabbitmq_refused, "failure": settings.rabbitmq_failure}
        self._queues = {kind: name for kind, name in named.items() if name}
        self._sender, self._report = sender, report

    def take(self, ledger: Ledger, message: DeliveredMessage, error: Exception) -> None:
        """This one."""
        log.error("a message of the queue cannot be lent", exc_info=error)
        why, tag = f"cannot be lent, by a fault of ours: {type(error).__name__}", message.delivery_tag
        self._report("queue-fault", f"a message of {len(message.body):,} bytes {why}")

        def confirmed(error: Exception | None) -> None:
            if error is None and tag is not None:
                ledger.ack(tag)

        for name, body in refusal(Lease(0, message.body[:QUOTED], size=len(message.body)), self._queues, why):
            self._sender.send(BrokerMessage(queue=name, body=body, copy=True), confirmed)
