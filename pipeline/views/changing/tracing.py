"""Tracing: the queued message that belongs to a line of the log, and a bounced one that is sent again.

Owner of nothing. Bound: LOOKS looks into each queue, at most OTHERS queues beside the outbox.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from operators.mail.message import Unreadable, decode_object
from pipeline.queues.listing import Listed, Unbrowsable
from pipeline.views.bulk import Bulk, Selection
from pipeline.views.recorder import Recorder
from pipeline.views.submit import Submission
from settings.store import Who

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine

LOOKS = 20
LIMIT = 100  # messages of one look
OTHERS = 8
# What belonged to the attempts behind it: a message that is sent again begins anew, and has an id of its own.
SPENT = ("results", "message-id", "nextattempt", "maxdelivertime", "extracted", "received")


class NotAgain(Exception):
    """This message cannot be sent again; one line says why."""


class MessageTrace:
    """Over a running machine."""

    def __init__(self, machine: Machine, bulk: Bulk, submission: Submission, recorder: Recorder) -> None:
        self._machine, self._bulk, self._submission, self._recorder = machine, bulk, submission, recorder

    async def queued(self, message_id: str, recipient: str) -> Listed | None:
        """Where the message is now: in the outbox, or with its result in another queue; None: nowhere, or a broker's.

        Raises `QueueUnavailable`.
        """
        figures = await self._machine.queue.figures()
        for queue in ("", *sorted(figures.other)[:OTHERS]):
            if (found := await self._in(queue, message_id, recipient)) is not None:
                return found
        return None

    async def _in(self, queue: str, message_id: str, recipient: str) -> Listed | None:
        after: Any = (0.0, 0)
        for _ in range(LOOKS):
            try:
                page, after = await self._bulk.page(Selection(queue=queue, containing=message_id), after, LIMIT)
            except Unbrowsable:
                return None
            for message in page:
                if message.message_id == message_id and message.recipient.lower() == recipient.lower():
                    return message
            if after is None:
                break
        return None

    def can_again(self, listed: Listed, properties: dict[str, Any]) -> bool:
        """Whether it is a result that has kept its mail (`keepmime`)."""
        return listed.queue != self._machine.settings.rabbitmq_outbox and bool(properties.get("mime"))

    async def again(self, id: int, who: Who) -> str:
        """Send the mail of a result once more, as a new message; returns its id.

        Raises `NotAgain`, `Unacceptable`, `QueueUnavailable`.
        """
        who.must("operate")
        opened = await self._bulk.queue.read(id)
        try:
            properties = decode_object(opened.body) if opened else {}
        except Unreadable:
            properties = {}
        if opened is None or not self.can_again(opened.listed, properties):
            raise NotAgain("its mail was not kept: `keepmime` keeps it in the result")
        new = {name: value for name, value in properties.items() if name not in SPENT}
        (message_id,) = await self._submission.submit([new], who.origin, who.name)
        self._recorder.soon(who, "create", "messages", 0, {"message": message_id, "again": id})
        return message_id
