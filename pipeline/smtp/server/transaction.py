"""One mail transaction: what MAIL and RCPT said, and the queue messages that come of it.

The common part is encoded once, however many recipients there are: each message puts a few bytes of its own before it.
"""

from __future__ import annotations

import datetime
import email.utils
import itertools
import time
from typing import Any

import msgspec

from operators.mail.message import mime_properties, timestamp
from pipeline.smtp.server.commands import MailCommand, Rcpt

_encode = msgspec.json.Encoder().encode


MOST_RECIPIENTS = 1000
NOWHERE = ""  # the queue of what is thrown away, since `rabbitmq-inbox` is empty


class IncomingTransaction:
    """From MAIL to the end of DATA (RFC 5321 3.3). Bounded by `MOST_RECIPIENTS`."""

    def __init__(self, mail: MailCommand | None = None) -> None:
        self.mail = mail
        self.recipients: list[tuple[Rcpt, str]] = []  # with the queue that each goes to

    @property
    def sender(self) -> str:
        """MAIL FROM; "" for the null sender, and where there is none."""
        return self.mail.sender if self.mail else ""

    def reported(self, local: str, reports: str) -> None:
        """It is a report: for local addresses it goes to the queue of reports."""
        self.recipients = [(rcpt, reports if queue == local else queue) for rcpt, queue in self.recipients]


class Ids:
    """Message ids: unique over instances by `server-id`, over restarts by the start time, within both by a count."""

    def __init__(self, server_id: str) -> None:
        self._prefix = f"{server_id}-{time.time_ns() // 1000:x}"
        self._count = itertools.count(1)

    def next(self) -> str:
        """A new one."""
        return f"{self._prefix}-{next(self._count):x}"


class Dates:
    """The time as mail and queues write it. Kept for a second: writing it takes 8 microseconds."""

    def __init__(self) -> None:
        self._second = -1
        self._texts = ("", "")

    def at(self, now: float) -> tuple[str, str]:
        """(RFC 5322 date, queue timestamp) in UTC of these epoch seconds."""
        if int(now) != self._second:
            self._second = int(now)
            moment = datetime.datetime.fromtimestamp(self._second, datetime.UTC)
            self._texts = (email.utils.format_datetime(moment), timestamp(self._second))
        return self._texts


def ids_of(transaction_id: str, recipients: int) -> list[str]:
    """One id for each recipient."""
    if recipients == 1:
        return [transaction_id]
    return [f"{transaction_id}.{number}" for number in range(1, recipients + 1)]


def openings(transaction: IncomingTransaction, ids: list[str], properties: dict[str, Any]) -> list[bytes]:
    """The queue messages without their MIME, one for each recipient: JSON objects that are not closed.

    Args:
        transaction: with at least one recipient.
        ids: theirs.
        properties: what the messages have in common; a `dsn` in it wins over the client's parameters.
    """
    assert transaction.mail is not None
    mail = transaction.mail
    wishes = properties.get("dsn", {})
    shared = {name: value for name, value in properties.items() if name != "dsn"}
    common = b"," + _encode({"envelope": mail.sender, **shared})[1:-1]
    return [
        _encode(_own(rcpt, mail, wishes, id_))[:-1] + common
        for (rcpt, _), id_ in zip(transaction.recipients, ids, strict=True)
    ]


def bodies(openings: list[bytes], source: bytes) -> list[bytes]:
    """The queue messages of a small message, as it is to be queued."""
    content = b"," + _encode(mime_properties(source))[1:]
    return [opening + content for opening in openings]


def _own(rcpt: Rcpt, mail: MailCommand, wishes: dict[str, str], id_: str) -> dict[str, Any]:
    own: dict[str, Any] = {"recipient": rcpt.recipient, "message-id": id_}
    asked = {"notify": rcpt.notify, "ret": mail.ret, "orcpt": rcpt.orcpt, "envid": mail.envid}
    dsn = {name: value for name, value in asked.items() if value} | wishes
    return own | {"dsn": dsn} if dsn else own


def reply(ids: list[str]) -> str:
    """`250` with every id, in lines of at most 512 octets (RFC 5321 4.5.3.1.5)."""
    if len(ids) == 1:
        return f"250 2.0.0 Queued as {ids[0]}"
    per_line = max(1, 480 // (len(ids[-1]) + 1))
    lines = [" ".join(ids[start : start + per_line]) for start in range(0, len(ids), per_line)]
    return "\r\n".join(
        f"250{' ' if number == len(lines) else '-'}2.0.0 Queued as {line}" for number, line in enumerate(lines, 1)
    )
