"""compose: makes the bytes that are sent, from the message's `mime` and `headers`.

Runs once the message has its slot, so that waiting messages are not held in memory twice. Sets `source`, with CRLF
line ends; changes nothing else. What cannot be composed ends as `process/invalid`, what lies in
a message store as `storage/error`, since there is none; an empty mail is never sent.
"""

from __future__ import annotations

from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import failed
from operators.mail.message import InvalidMessage
from operators.mail.source import source_of
from operators.stages.stage import Report, Stage, stage, unreported


def compose(report: Report = unreported) -> Stage:
    """The message as bytes, composed where `mime` is an object, with its `headers` changes applied."""

    def step(delivery: Delivery) -> Delivery:
        message = delivery.message
        if not message.mime and message.key is not None:
            why = f"key: there is no message store to have {message.key[:100]!r} from"
            return delivery.ended(failed("storage", "error", why))
        try:
            return delivery.but(source=source_of(message))
        except InvalidMessage as error:
            return delivery.ended(failed(error.state, error.result, str(error)))

    return stage("compose", step, report)
