"""The delivery log's schema: what a line says, in one place.

Two records: `Attempt` (send-log) and `Reception` (received-log). A line is one record as a JSON object; fields
that are not known are left out. Rotated files hold the same columns as Parquet. The column types that DuckDB
reads with and the table in the README are derived from here.

`v` is the schema's version. Fields may be added without a new one: readers find null in older files. A field
that changes its meaning or its type raises it.
"""

from __future__ import annotations

import datetime
import typing
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from operators.deliveries.delivery import Delivery
from operators.deliveries.events import Received
from operators.deliveries.outcome import Next, Outcome

VERSION = 1
LONGEST = 64 * 1024  # bytes in a line; in a longer one the texts are cut
CUT = 1000  # characters that are left of a text then

NOT_LOGGED = frozenset({Next.PARK, Next.RETURN, Next.POSTPONE, Next.HANDOVER})  # neither an attempt nor an end


class LogRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What both logs say."""

    v: Annotated[int, Meta(description="version of this schema")]
    time: Annotated[datetime.datetime, Meta(description="when it happened, UTC, microseconds")]
    instance: Annotated[str | None, Meta(description="`server-id` of the instance")] = None
    message_id: Annotated[str | None, Meta(description="the message's `message-id`")] = None
    envelope: Annotated[str | None, Meta(description="MAIL FROM; empty is the null sender")] = None
    recipient: Annotated[str | None, Meta(description="RCPT TO")] = None
    domain: Annotated[str | None, Meta(description="the recipient's domain, lower case")] = None
    size: Annotated[int | None, Meta(description="bytes of the MIME source, as sent or as received")] = None
    remote_ip: Annotated[str | None, Meta(description="IP of the other side: the receiver's, or the client's")] = None


class Attempt(LogRecord, frozen=True, omit_defaults=True, gc=False):
    """One line of `send-log`: an attempt, or an end without one (expired, no MTA IP, unusable)."""

    lane: Annotated[str | None, Meta(description="MTA IP and destination group, `ip/group`")] = None
    mta_ip: Annotated[str | None, Meta(description="our IP that it left from")] = None
    host: Annotated[str | None, Meta(description="name of the receiving host")] = None
    state: Annotated[str | None, Meta(description="how far it got: `process`, `dns`, `connect` ... `message`")] = None
    result: Annotated[str | None, Meta(description="`accepted`, `timeout`, `lost`, `invalid` or `error`")] = None
    next: Annotated[str | None, Meta(description="`delivered`, `retry`, `fail` or `refuse`")] = None
    retry_at: Annotated[datetime.datetime | None, Meta(description="with `retry`: when it comes back, UTC")] = None
    code: Annotated[int | None, Meta(description="SMTP reply code, null without an answer")] = None
    status: Annotated[str | None, Meta(description="enhanced status code (RFC 3463), as received")] = None
    description: Annotated[str | None, Meta(description="the answer's text, or what went wrong")] = None
    attempt: Annotated[int | None, Meta(description="number of this attempt, from 1")] = None
    tags: Annotated[list[str], Meta(description="the message's tags")] = []
    queued: Annotated[float | None, Meta(description="seconds in the queue and in memory before the attempt")] = None
    wire: Annotated[float | None, Meta(description="seconds on the wire; null where no connection was used")] = None
    tls: Annotated[str | None, Meta(description="TLS version, null without TLS")] = None
    bounce_class: Annotated[str | None, Meta(description="what a negative answer means, see docs/rules.md")] = None
    rule: Annotated[str | None, Meta(description="rules that decided on it, as `errors/3`, with spaces between")] = None


class Reception(LogRecord, frozen=True, omit_defaults=True, gc=False):
    """One line of `received-log`: a message that intake took."""

    source: Annotated[str | None, Meta(description="how it came in: `smtp`, `spool`, `cli` or `http`")] = None
    user: Annotated[str | None, Meta(description="who was logged in")] = None


RECORDS: dict[str, type[LogRecord]] = {"send-log": Attempt, "received-log": Reception}  # by the configuration's keys

_encode = msgspec.json.Encoder().encode
_from_epoch = datetime.datetime.fromtimestamp
_UTC = datetime.UTC


def attempt(delivery: Delivery, outcome: Outcome, when: float, retry_at: float | None, instance: str) -> Attempt:
    """The record of a delivery's outcome. `when` and `retry_at` are epoch seconds."""
    message, queued = delivery.message, delivery.lease.queued
    return Attempt(  # by position, in the fields' order: 0.2 microseconds, against 1.0 by name
        VERSION,
        _from_epoch(when, _UTC),
        instance,
        message.message_id,
        message.envelope or "",
        message.recipient,
        delivery.domain or message.domain,
        delivery.size or None,
        outcome.remote_ip,
        delivery.lane or None,
        delivery.ip or outcome.local_ip,
        outcome.host,
        outcome.state,
        outcome.result,
        outcome.next.value,
        None if retry_at is None else _from_epoch(retry_at, _UTC),
        outcome.code,
        outcome.status,
        outcome.description or None,
        message.attempts + 1,
        message.tags,
        round(max(0.0, when - queued - outcome.wire), 4) if queued else None,
        round(outcome.wire, 4) or None,
        _tls_version(outcome.tls) if outcome.tls else None,
        outcome.bounce_class,
        " ".join(delivery.rules) or None,
    )


def reception(event: Received, instance: str) -> Reception:
    """The record of a received message."""
    return Reception(
        v=VERSION,
        time=_from_epoch(event.time, _UTC),
        instance=instance,
        message_id=event.message_id,
        envelope=event.envelope,
        recipient=event.recipient,
        domain=event.recipient.rpartition("@")[2].lower().rstrip("."),
        size=event.size,
        remote_ip=event.remote_ip or None,
        source=event.source,
        user=event.user or None,
    )


def line(record: LogRecord) -> bytes:
    """The record as a line, at most LONGEST bytes: texts that are too long are cut, lone surrogates replaced."""
    try:
        encoded = _encode(record) + b"\n"
    except ValueError:  # UnicodeEncodeError: bytes that were no UTF-8 came in through `surrogateescape`
        encoded = b""
    if encoded and len(encoded) <= LONGEST:
        return encoded
    return _encode({name: _shorter(value) for name, value in msgspec.structs.asdict(record).items()}) + b"\n"


def columns(record: type[LogRecord]) -> dict[str, str]:
    """The DuckDB type of each column."""
    hints = typing.get_type_hints(record)
    return {name: _TYPES[hints[name]] for name in record.__struct_fields__}


def reference() -> str:
    """The schema as Markdown, for the README."""
    parts = []
    for title, record in (("`send-log`", Attempt), ("`received-log`", Reception)):
        hints = typing.get_type_hints(record, include_extras=True)
        rows = [
            f"| `{name}` | {kind} | {hints[name].__metadata__[0].description} |"
            for name, kind in columns(record).items()
        ]
        parts.append(
            "\n".join([f"{title}, version {VERSION}:", "", "| field | type | meaning |", "|---|---|---|", *rows])
        )
    return "\n\n".join(parts) + "\n"


_TYPES: dict[Any, str] = {
    int: "BIGINT",
    int | None: "BIGINT",
    float | None: "DOUBLE",
    str | None: "VARCHAR",
    list[str]: "VARCHAR[]",
    datetime.datetime: "TIMESTAMP",
    datetime.datetime | None: "TIMESTAMP",
}


def _tls_version(tls: dict[str, Any]) -> str | None:
    cipher = tls.get("cipher")
    return cipher.get("version") if isinstance(cipher, dict) else None


def _shorter(value: Any) -> Any:
    if isinstance(value, str):
        return value[:CUT].encode(errors="replace").decode()
    if isinstance(value, list):
        return [_shorter(text) for text in value[:10]]
    return value
