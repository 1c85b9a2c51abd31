"""`x-mq-*` header fields: taken out of the message, they become its properties (README, "Messages on the queues").

The table below is all there is to a field: its name, and how its value is read. Pure functions.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Callable
from typing import Any

from operators.deliveries.result_queues import ResultRule
from operators.deliveries.routes import is_host
from operators.mail import dsn_parameters
from operators.mail.addresses import valid_path
from operators.mail.message import OPTIONAL, SECURITIES, TIME_FORMAT, InvalidMessage, Message, seconds, timestamp
from pipeline.smtp.server.refusal import Refusal

Properties = dict[str, Any]
Reader = Callable[[str, float], Any]  # (value, now in epoch seconds); raises ValueError that says what is allowed

# A field with its folded lines (RFC 5322 2.2.3); the header's lines all end in CRLF here.
_FIELD = re.compile(rb"^(x-mq-[!-9;-~]*)[ \t]*:([^\r]*(?:\r\n[ \t][^\r]*)*)\r\n", re.IGNORECASE | re.MULTILINE)
LARGEST_HEAD = 262_144  # octets of a header that has such fields: looking for them takes 0.1 s then
MOST_FIELDS = 1000
_RESULTS = frozenset(("results", "success", "failure", "retry"))
_LONGEST_DELAY = 366 * 86400


def has_fields(head: bytes) -> bool:
    """A quick look, for the many messages that have none."""
    return b"x-mq-" in head.lower()


def extract(head: bytes, now: float) -> tuple[bytes, Properties]:
    """Take the fields out.

    Args:
        head: the header, each line with its CRLF.
        now: epoch seconds, what delays count from.

    Returns:
        The header without them, and the properties that they stand for.

    Raises:
        Refusal: 554 5.6.0; the line names the field and what is allowed.
    """
    properties: Properties = {}
    for name, value in _fields(head):
        _read(name.decode("ascii").lower(), value, properties, now)
    if not _RESULTS.isdisjoint(properties.get("queues", ())):  # one turns all the configured ones off, so documented
        properties["queues"] = dict.fromkeys(_RESULTS) | properties["queues"]
    if "hostname" not in properties.get("smarthost", {"hostname": ""}):
        raise Refusal("554 5.6.0 x-mq-smarthost-hostname: needed beside other x-mq-smarthost fields")
    return _FIELD.sub(b"", head), properties


def refuse_queues(properties: Properties, rule: ResultRule) -> None:
    """Raises `Refusal` where results would go to a queue that mail is read from."""
    for kind, why in rule.wrong(properties.get("queues")).items():
        raise Refusal(f"554 5.6.0 x-mq-{kind}-queue: {why}")


def without(head: bytes) -> bytes:
    """The header without the fields, whatever they say. Raises `Refusal` as of `extract` for its size alone."""
    _fields(head)
    return _FIELD.sub(b"", head)


def _fields(head: bytes) -> list[tuple[bytes, bytes]]:
    """(name, value) of each; a header is read on the event loop, so it is bounded first."""
    if len(head) > LARGEST_HEAD:
        raise Refusal(f"554 5.6.0 A header with x-mq fields has at most {LARGEST_HEAD} octets")
    fields: list[tuple[bytes, bytes]] = _FIELD.findall(head)
    if len(fields) > MOST_FIELDS:
        raise Refusal(f"554 5.6.0 There are at most {MOST_FIELDS} x-mq fields")
    return fields


def _read(name: str, raw: bytes, properties: Properties, now: float) -> None:
    try:
        value = " ".join(raw.decode().split())
        if not value.isprintable():
            raise ValueError("printable text")
        key = name.removeprefix("x-mq-")
        where, read = FIELDS.get(key) or _custom(key)
        _put(properties, where, read(value, now))
    except ValueError as error:  # UnicodeDecodeError is one, too
        allowed = "UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise Refusal(f"554 5.6.0 {name[:60]}: allowed is {allowed}") from None


def _put(properties: Properties, where: str, value: Any) -> None:
    """Lists grow with each field of the name; of anything else the last one counts."""
    outer, _, inner = where.partition(".")
    if inner:
        properties.setdefault(outer, {})[inner] = value
    elif isinstance(value, list) and outer in properties:
        properties[outer] += value
    else:
        properties[outer] = value


def _custom(key: str) -> tuple[str, Reader]:
    if not key or key in _RESERVED:
        raise ValueError("any other name; this one is not set by a header field")
    return key, lambda value, _: value


def _text(value: str, _: float) -> str:
    if not value:
        raise ValueError("some text")
    return value


def _host(value: str, _: float) -> str:
    if not is_host(value):
        raise ValueError("a host name or an IP address")
    return value


def _name_or_off(value: str, _: float) -> str | None:
    return value or None


def _words(value: str, _: float) -> list[str]:
    words = [word.strip() for word in value.split(",")]
    if not all(words):
        raise ValueError("words with commas between them")
    return words


def _addresses(value: str, now: float) -> list[str]:
    try:
        return [str(ipaddress.ip_address(word)) for word in _words(value, now)]
    except ValueError:
        raise ValueError("IP addresses with commas between them") from None


def _envelope(value: str, _: float) -> str:
    address = value.removeprefix("<").removesuffix(">")
    if address and not valid_path(address):
        raise ValueError("an address, or <> for the null sender")
    return address


def _count(value: str, _: float) -> int:
    return _number(value, 0, 1_000_000, "a number up to 1000000, 0 for no limit")


def _port(value: str, _: float) -> int:
    return _number(value, 1, 65535, "a port number from 1 to 65535")


def _priority(value: str, _: float) -> int:
    return _number(value, 0, 255, "a number from 0 to 255")


def _number(value: str, least: int, most: int, allowed: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 12 and least <= int(value) <= most):
        raise ValueError(allowed)
    return int(value)


def _retries(value: str, _: float) -> list[int]:
    allowed = "seconds between attempts, with commas between them"
    return [_number(word.strip(), 0, _LONGEST_DELAY, allowed) for word in value.split(",")]


def _flag(value: str, _: float) -> bool:
    flags = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if value.lower() not in flags:
        raise ValueError("true or false")
    return flags[value.lower()]


def _time(value: str, now: float) -> str:
    allowed = f"a time in UTC, YYYY-MM-DD HH:MM:SS, or a number of seconds up to {_LONGEST_DELAY}"
    if value.isascii() and value.isdigit():
        return timestamp(now + _number(value, 0, _LONGEST_DELAY, allowed))
    try:
        return datetime.datetime.fromtimestamp(seconds(value), datetime.UTC).strftime(TIME_FORMAT)
    except InvalidMessage:
        raise ValueError(allowed) from None


def _one_of(*allowed: str) -> Reader:
    def read(value: str, _: float) -> str:
        if value.lower() not in allowed:
            raise ValueError(" or ".join(allowed))
        return value.lower()

    return read


def _notify(value: str, _: float) -> str:
    return ",".join(sorted(set(dsn_parameters.notify(value).split(","))))


def _ret(value: str, _: float) -> str:
    return dsn_parameters.ret(value)


# Field name without `x-mq-` -> the property (`outer.inner` for one inside an object), and how the value is read.
FIELDS: dict[str, tuple[str, Reader]] = {
    "ip": ("ips", _addresses),
    "pool": ("pool", _text),
    "tag": ("tags", lambda value, now: [_text(value, now)]),  # one, whatever is in it
    "envelope": ("envelope", _envelope),
    "delayed": ("nextattempt.time", _time),
    "maxdelivertime": ("maxdelivertime", _time),
    "maxattempts": ("maxattempts", _count),
    "retries": ("retries", _retries),
    "keepmime": ("keepmime", _flag),
    "inlinecss": ("inlinecss", _flag),
    "priority": ("priority", _priority),
    "security": ("security", _one_of(*(name for name in SECURITIES if name != OPTIONAL))),
    "results-queue": ("queues.results", _name_or_off),
    "failure-queue": ("queues.failure", _name_or_off),
    "success-queue": ("queues.success", _name_or_off),
    "retry-queue": ("queues.retry", _name_or_off),
    "dsn-queue": ("queues.dsn", _name_or_off),
    "smarthost-hostname": ("smarthost.hostname", _host),
    "smarthost-name": ("smarthost.hostname", _host),  # an older name
    "smarthost-port": ("smarthost.port", _port),
    "smarthost-username": ("smarthost.username", _text),
    "smarthost-password": ("smarthost.password", _text),
    "dsn-notify": ("dsn.notify", _notify),
    "dsn-ret": ("dsn.ret", _ret),
    "dsn-orcpt": ("dsn.orcpt", _text),
    "dsn-envid": ("dsn.envid", _text),
}

# What the queue message says of itself: never taken from a header field.
_RESERVED = frozenset(
    [name.replace("_", "-") for name in Message.__struct_fields__]
    + ["connection", "spool", "cli", "http", "hostname", "reason", "extracted", "smtputf8"]
)
