"""What to look for in the log: one filter, for the console, the command line, REST and notebooks alike."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec

from operators.deliveries.outcome import RESULTS, Next
from pipeline.log.schema import LogRecord


class UnknownFilter(ValueError):
    """This log has no such field; says which it has."""


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """All that are given must hold.

    Attributes:
        since, until: from (included) and to (excluded), aware times.
        ip: MTA IP. remote_ip: of the other side.
        domain, recipient, envelope: whole, whatever their case.
        containing: part of the recipient or the sender, whatever its case; or a whole message id.
        tag: one of the message's tags.
        rule: one of those that decided on it, as `errors/3`.
        text: part of the answer, whatever its case.
        message_id, lane, host, state, result, next, code, user, bounce_class: whole.
    """

    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    ip: str | None = None
    remote_ip: str | None = None
    domain: str | None = None
    recipient: str | None = None
    envelope: str | None = None
    containing: str | None = None
    message_id: str | None = None
    lane: str | None = None
    host: str | None = None
    tag: str | None = None
    state: str | None = None
    result: str | None = None
    next: str | None = None
    code: int | None = None
    text: str | None = None
    user: str | None = None
    bounce_class: str | None = None
    rule: str | None = None

    def given(self) -> dict[str, Any]:
        """The filters that are not empty, by name."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}


EVERYTHING = Filters()

_CLAUSES = {  # filter: (column, condition)
    "since": ("time", "time >= $since"),
    "until": ("time", "time < $until"),
    "ip": ("mta_ip", "mta_ip = $ip"),
    "domain": ("domain", "domain = lower($domain)"),
    "recipient": ("recipient", "lower(recipient) = lower($recipient)"),
    "envelope": ("envelope", "lower(envelope) = lower($envelope)"),
    "containing": (
        "recipient",
        "(contains(lower(recipient), lower($containing)) OR contains(lower(envelope), lower($containing))"
        " OR message_id = $containing)",
    ),
    "tag": ("tags", "list_contains(tags, $tag)"),
    "rule": ("rule", "list_contains(string_split(rule, ' '), $rule)"),
    "text": ("description", "contains(lower(description), lower($text))"),
}


# What is one of a few words: another one finds nothing, which looks as if there were nothing.
_KNOWN: dict[str, tuple[str, ...]] = {"result": RESULTS, "next": tuple(Next)}


def where(filters: Filters, record: type[LogRecord]) -> tuple[str, dict[str, Any]]:
    """The SQL condition and its parameters. Raises `UnknownFilter` where these records have no such field."""
    conditions, parameters = ["true"], {}
    for name, value in filters.given().items():
        column, condition = _CLAUSES.get(name, (name, f"{name} = ${name}"))
        if column not in record.__struct_fields__:
            raise UnknownFilter(f"{name}: {record.__name__.lower()}s have none; they have {_fields(record)}")
        if (known := _KNOWN.get(name)) is not None and value not in known:
            raise UnknownFilter(f"{name}: {str(value)[:60]!r} is none of {', '.join(known)}")
        conditions.append(condition)
        parameters[name] = utc(value) if isinstance(value, datetime.datetime) else value
    return " AND ".join(conditions), parameters


def utc(time: datetime.datetime) -> datetime.datetime:
    """As DuckDB keeps it: UTC, without saying so."""
    return time.astimezone(datetime.UTC).replace(tzinfo=None)


def _fields(record: type[LogRecord]) -> str:
    known = (name for name in Filters.__struct_fields__)
    return ", ".join(name for name in known if _CLAUSES.get(name, (name,))[0] in record.__struct_fields__)
