"""compose: makes the bytes that are sent, from the message's `mime` and `headers`.

Runs once the message has its slot, so that waiting messages are not held in memory twice. Sets `source`, with CRLF
line ends; changes nothing else. What the message names and does not carry is gathered first, and is not kept with it.
What cannot be composed ends as `process/invalid`; an empty mail is never sent. Lines over 998 octets are encoded or
refused here, by the key `long-lines`. What came in through us was looked at then; a template, or another program that
publishes it anew, may have made a line longer since: it is encoded where that can be done, and never refused.
"""

from __future__ import annotations

from collections.abc import Callable

from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import Outcome, failed
from operators.mail.long_lines import ENCODE, REFUSE, fitted
from operators.mail.message import InvalidMessage, Message
from operators.mail.source import is_apart, source_of
from operators.stages.stage import Done, Report, Stage, handover, unable, unreported

_TAKEN = ("connection", "cli", "spool")  # properties of what was taken by us: it is never refused again
Gather = Callable[[Message, Callable[[Message | Outcome], None]], None]


def nowhere(message: Message, done: Callable[[Message | Outcome], None]) -> None:
    """Gathers nothing: there is no message store, and no web."""
    if message.mime:
        done(message)
    else:
        why = f"key: there is no message store to have {str(message.key)[:100]!r} from: storage-address"
        done(failed("storage", "error", why))


def compose(gather: Gather = nowhere, report: Report = unreported, long_lines: str = ENCODE) -> Stage:
    """The message as bytes, composed where `mime` is an object, with its `headers` changes applied.

    Args:
        gather: calls back once with the message whole, or with what it came to; it may take its time.
        report: told of exceptions.
        long_lines: the key.
    """

    def start(delivery: Delivery, done: Done) -> None:
        if is_apart(delivery.message):
            gather(delivery.message, lambda found: done(gathered(delivery, found)))
        else:
            done(made(delivery, delivery.message, long_lines))

    def gathered(delivery: Delivery, found: Message | Outcome) -> Delivery:
        if isinstance(found, Outcome):
            return delivery.ended(found)
        try:
            return made(delivery, found, long_lines)
        except Exception as error:
            return unable("compose", delivery, error, report)

    return handover("compose", start, report)


def made(delivery: Delivery, message: Message, long_lines: str) -> Delivery:
    """The delivery with the bytes of this message."""
    try:
        source = source_of(message)
        if delivery.content is None:
            source = _fitted(source, long_lines, any(name in message.properties for name in _TAKEN))
        return delivery.but(source=source)
    except InvalidMessage as error:
        return delivery.ended(failed(error.state, error.result, str(error)))


def _fitted(source: bytes, long_lines: str, taken: bool) -> bytes:
    """Without lines that are too long; raises `InvalidMessage` where it was not `taken` by us."""
    if not taken:
        return fitted(source, long_lines)
    try:
        return fitted(source, ENCODE if long_lines == REFUSE else long_lines)
    except InvalidMessage:
        return source
