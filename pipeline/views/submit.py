"""Submit: messages that an application hands in as JSON, checked as the chain will check them, queued all or none.

Owns nothing but the count of its message ids. Bound: the caller's, who has the messages in memory already.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
import reactivex as rx

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.events import Event, Received
from operators.deliveries.result_queues import ResultRule
from operators.mail.head import settled
from operators.mail.long_lines import ENCODE, fitted
from operators.mail.message import InvalidMessage, Message, mime_properties, seconds
from operators.mail.source import needs_all, source_of
from operators.stages.decode import decode
from operators.stages.sign import own_keys
from pipeline.queues.contract import Queue, confirmed
from pipeline.smtp.server.transaction import Ids

_encode = msgspec.json.Encoder().encode


class Mistake(msgspec.Struct, frozen=True):
    """What is wrong with one of the messages: its place from 0, the field, and what is allowed."""

    index: int
    field: str
    message: str


class Unacceptable(ValueError):
    """Some messages cannot be sent; nothing is queued."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("; ".join(f"[{mistake.index}].{mistake.field}: {mistake.message}" for mistake in mistakes))


class Submission:
    """Takes messages for a queue.

    Args:
        queue: where they are published.
        name: of the queue.
        server_id: makes message ids unique.
        maxsize: largest body, bytes.
        report: told of each message once it is safe.
        rule: which queues results may not go to.
        long_lines: the key.
    """

    def __init__(
        self,
        queue: Queue,
        name: str,
        server_id: str,
        maxsize: int,
        report: Callable[[Event], None],
        rule: ResultRule | None = None,
        long_lines: str = ENCODE,
    ) -> None:
        self._queue, self._name, self._report = queue, name, report
        self._decode = decode(maxsize, time.monotonic, rule)
        self._ids = Ids(server_id)
        self._long_lines = long_lines

    async def submit(self, messages: Sequence[Any], remote_ip: str = "", user: str = "") -> list[str]:
        """Queue these messages; returns their ids when the queue has confirmed them.

        Raises:
            Unacceptable: with what is wrong; nothing is queued.
            QueueUnavailable: nothing is queued.
        """
        bodies = [self._body(message) for message in messages]
        checked = self._check(bodies)
        bodies = [made or body for (_, _, made), body in zip(checked, bodies, strict=True)]
        await self._publish(bodies)
        for delivery, size, _ in checked:
            self._report(_received(delivery.message, size, remote_ip, user))
        return [delivery.message.message_id or "" for delivery, *_ in checked]

    def _body(self, message: Any) -> bytes:
        if isinstance(message, dict) and not message.get("message-id"):
            message = {**message, "message-id": self._ids.next()}
        return _encode(message)

    def _check(self, bodies: Sequence[bytes]) -> list[tuple[Delivery, int, bytes | None]]:
        """(delivery, octets, body in place of the one that came) of each."""
        deliveries: list[Delivery] = []
        rx.from_iterable(Lease(id=number, body=body) for number, body in enumerate(bodies)).pipe(
            self._decode
        ).subscribe(deliveries.append)
        checked: list[tuple[Delivery, int, bytes | None]] = []
        mistakes: list[Mistake] = []
        for number, delivery in enumerate(deliveries):
            try:
                source = _source(delivery)
                if fitted(source, self._long_lines) is source:
                    checked.append((delivery, len(source), None))
                else:
                    checked.append((delivery, len(source), self._encoded(delivery.message)))
            except InvalidMessage as error:
                mistakes.append(Mistake(number, *_split(str(error))))
        if mistakes:
            raise Unacceptable(mistakes)
        return checked

    def _encoded(self, message: Message) -> bytes | None:
        """The body with its long lines encoded: a queue may keep the content apart, where no stage sees it."""
        if not isinstance(message.mime, str) or needs_all(message.properties):
            return None
        kept = {name: value for name, value in message.properties.items() if name != "mime-encoding"}
        return _encode(kept | mime_properties(fitted(settled(message.source()), self._long_lines)))

    async def _publish(self, bodies: Sequence[bytes]) -> None:
        await confirmed(partial(self._queue.publish, [(self._name, body) for body in bodies]))


def _source(delivery: Delivery) -> bytes:
    """The MIME source. Raises `InvalidMessage` for what the chain would give up at once."""
    if delivery.outcome is not None:
        raise InvalidMessage(delivery.outcome.description)
    message = delivery.message
    for name, text in _times(message):
        try:
            seconds(text)
        except InvalidMessage as error:
            raise InvalidMessage(f"{name}: {error}") from None
    own_keys(message.dkim, time.time())
    return source_of(message)


def _times(message: Message) -> Iterator[tuple[str, str]]:
    if message.maxdelivertime is not None:
        yield "maxdelivertime", message.maxdelivertime
    if message.nextattempt is not None:
        yield "nextattempt.time", message.nextattempt.time
    elif message.not_before is not None:
        yield "delayed", message.not_before


def _split(text: str) -> tuple[str, str]:
    """(field, message) of what was said; without a field it is said of the whole object."""
    field, colon, message = text.partition(": ")
    return (field, message) if colon and " " not in field and field != "body" else ("", text)


def _received(message: Message, size: int, remote_ip: str, user: str) -> Received:
    return Received(
        time=time.time(),
        message_id=message.message_id or "",
        envelope=message.envelope or "",
        recipient=message.recipient,
        size=size,
        source="http",
        remote_ip=remote_ip,
        user=user,
    )
