"""The message: one envelope to one recipient, exactly the JSON that travels on the queues.

A `Message` is immutable. Its typed fields are a checked view of `properties`, which is the JSON object as it
came: what is not listed here is custom, is kept, and comes back in the results. Everything that Mailrace knows
about a message travels in it, so any instance can take it up.
"""

from __future__ import annotations

import base64
import codecs
import datetime
from collections.abc import Iterator
from typing import Annotated, Any, Protocol

import msgspec

from operators.mail.lenient import lifted, loosened

OPTIONAL = "optional"  # an older word for `opportunistic`, which messages on queues may use
SECURITIES = ("off", OPTIONAL, "opportunistic", "required", "verified")  # of a connection to a receiver
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"  # UTC, everywhere on the queues


class Unreadable(ValueError):
    """The body is no JSON object: it cannot be a message, and goes to the refused queue."""


class InvalidMessage(ValueError):
    """The body is a JSON object, but a property of it cannot be used; says which, and what is allowed."""

    state, result = "process", "invalid"  # of the outcome


class Content(Protocol):
    """What follows a large mail's header and its empty line, where the queue keeps it apart, on disk.

    Its octets are as they are signed: lines end in CRLF, no NUL, no dot doubled. So the client looks at them once.

    Attributes:
        size: octets.
        ascii: none of them is 8-bit (RFC 6152).
        dots: a line may begin with a dot, which is doubled when it is sent (RFC 5321 4.5.2).
        place: (file, where it begins, octets), for another process of ours.
    """

    @property
    def size(self) -> int: ...

    @property
    def ascii(self) -> bool: ...

    @property
    def dots(self) -> bool: ...

    @property
    def place(self) -> tuple[str, int, int]: ...

    def pieces(self, size: int) -> Iterator[bytes]:
        """All of it, in pieces of at most `size` octets. Raises OSError."""

    def read(self) -> bytes:
        """All of it at once. Raises OSError."""


class Smarthost(msgspec.Struct, frozen=True):
    """Deliver there instead of to the domain's mail servers. `port` 0 is that of all receivers."""

    hostname: Annotated[str, msgspec.Meta(min_length=1)]
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 25
    username: str | None = None
    password: str | None = None


class NextAttempt(msgspec.Struct, frozen=True):
    """Not before `time`, UTC `YYYY-MM-DD HH:MM:SS`."""

    time: str


class Dsn(msgspec.Struct, frozen=True):
    """Delivery status notification wishes (RFC 3461 section 4)."""

    notify: str | None = None
    ret: str | None = None
    orcpt: str | None = None
    envid: str | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one recipient. Field meanings: README, "Messages on the queues"."""

    recipient: str = ""
    envelope: str | None = None
    mime: str | dict[str, Any] = ""
    mime_encoding: str | None = msgspec.field(default=None, name="mime-encoding")
    message_id: str | None = msgspec.field(default=None, name="message-id")
    received: str | None = None
    keepmime: bool = False
    smtputf8: bool = False
    data: dict[str, Any] | None = None
    ips: list[str] | None = None
    pool: str | None = None
    nextattempt: NextAttempt | None = None
    delayed: str | NextAttempt | None = None
    maxdelivertime: str | None = None
    maxattempts: int | None = None
    retries: list[int] | None = None
    dkim: dict[str, Any] | list[dict[str, Any]] | None = None
    dsn: Dsn | None = None
    queues: dict[str, str | None] | None = None
    smarthost: Smarthost | None = None
    tags: list[str] = []
    headers: dict[str, Any] | None = None
    priority: int | None = None
    key: str | None = None
    security: str | None = None
    results: list[dict[str, Any]] = []
    properties: dict[str, Any] = {}

    @property
    def not_before(self) -> str | None:
        """Its `nextattempt`; where it has none its `delayed`, an older name."""
        if self.nextattempt is not None:
            return self.nextattempt.time
        return self.delayed if self.delayed is None or isinstance(self.delayed, str) else self.delayed.time

    @property
    def attempts(self) -> int:
        """How many attempts are behind it; one that found all hosts skipped reached for none, and does not count."""
        return sum(not one.get("skipped") for one in self.results)

    @property
    def local_part(self) -> str:
        """Left of the recipient's last `@`."""
        return self.recipient.rpartition("@")[0]

    @property
    def domain(self) -> str:
        """Right of the recipient's last `@`, lower case, without a final dot."""
        return self.recipient.rpartition("@")[2].lower().rstrip(".")

    def updated(self, **changes: Any) -> Message:
        """A new message with these JSON properties changed; None removes one. Hyphens are underscores here."""
        properties = dict(self.properties)
        for name, value in changes.items():
            key = name.replace("_", "-")
            if value is None:
                properties.pop(key, None)
            else:
                properties[key] = value
        return from_properties(properties)

    def source(self) -> bytes:
        """The MIME as bytes, as it was handed in; an object must have been composed before.

        Bodies that are not UTF-8 travel as base64 with `mime-encoding: base64`, since JSON has only text.
        """
        if not isinstance(self.mime, str):
            raise InvalidMessage("mime: is an object that has not been composed")
        if self.mime_encoding == "base64":
            return base64.b64decode(self.mime, validate=True)
        return self.mime.encode()


_SMALL = 65536  # octets of a message whose escapes do not matter
_SHORT_ESCAPES = b'\b\t\n\f\r"\\'  # two octets in JSON
_LONG_ESCAPES = bytes(octet for octet in range(32) if octet not in _SHORT_ESCAPES)  # six: \u001b

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def from_properties(properties: dict[str, Any]) -> Message:
    """A message from a JSON object.

    Raises:
        Invalid: a known property has a value of the wrong type; the text names it.
    """
    if isinstance(properties.get("mime"), dict):
        properties = lifted(properties)
    try:
        return msgspec.convert({**properties, "properties": properties}, Message)
    except msgspec.ValidationError:
        pass
    try:
        return msgspec.convert({**loosened(properties), "properties": properties}, Message)
    except msgspec.ValidationError as error:
        raise InvalidMessage(_explain(error)) from None


def readable(properties: dict[str, Any]) -> Message:
    """What can be read of a message one of whose properties cannot be used: its address, queues, DSN, tags hold."""
    if isinstance(properties.get("mime"), dict):
        properties = lifted(properties)
    found = Message(properties=properties)
    for name in ("recipient", "envelope", "message-id", "queues", "dsn", "tags", "keepmime", "mime", "mime-encoding"):
        if name in properties:
            try:
                one = from_properties({name: properties[name]})
            except InvalidMessage:
                continue
            field = name.replace("-", "_")
            found = msgspec.structs.replace(found, **{field: getattr(one, field)})
    return found


def decode(body: bytes) -> Message:
    """Read one queue message.

    Raises:
        Unreadable: not JSON, or not a JSON object.
        Invalid: a known property has a value of the wrong type.
    """
    return from_properties(decode_object(body))


def decode_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; raises `Unreadable` where there is none."""
    try:
        properties = _decode(body.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"not JSON: {error}") from None
    if not isinstance(properties, dict):
        raise Unreadable(f"not a JSON object but {type(properties).__name__}")
    return properties


def encode(message: Message) -> bytes:
    """The message as JSON, UTF-8."""
    return _encode(message.properties)


def mime_properties(source: bytes) -> dict[str, str]:
    """The JSON properties that carry these MIME bytes, unchanged, whatever they hold.

    Their JSON is at most 4/3 of a large message: one that needs more for its escapes (RFC 8259 7; a control character
    takes six octets) is base64.
    """
    if len(source) <= _SMALL or 3 * _escapes(source) <= len(source):
        try:
            return {"mime": source.decode()}
        except UnicodeDecodeError:
            pass
    return {"mime": base64.b64encode(source).decode(), "mime-encoding": "base64"}


def joined(properties: dict[str, Any], content: bytes) -> dict[str, Any]:
    """The properties of a message whose `mime` is the header only, with what follows it.

    Where `mime` is an object, the content is JSON of those of its parts that are apart.
    """
    if isinstance(mime := properties.get("mime"), dict):
        return properties | {"mime": mime | decode_object(content)}
    head = from_properties({name: properties[name] for name in ("mime", "mime-encoding") if name in properties})
    kept = {name: value for name, value in properties.items() if name != "mime-encoding"}
    return kept | mime_properties(head.source() + content)


def _escapes(source: bytes) -> int:
    """Octets that JSON adds. 1.7 ms for a megabyte."""
    long = len(source) - len(source.translate(None, _LONG_ESCAPES))
    return 5 * long + len(source) - len(source.translate(None, _SHORT_ESCAPES))


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as the queues write time."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime(TIME_FORMAT)


def seconds(text: str) -> float:
    """The queues' time as seconds since the epoch; raises `InvalidMessage` where it is none."""
    try:
        return datetime.datetime.strptime(text, TIME_FORMAT).replace(tzinfo=datetime.UTC).timestamp()
    except ValueError:
        raise InvalidMessage(f"{text!r} is no time: YYYY-MM-DD HH:MM:SS in UTC") from None


def _explain(error: msgspec.ValidationError) -> str:
    """`Expected int, got str - at $.retries[0]` -> `retries[0]: expected int, got str`."""
    what, _, where = str(error).partition(" - at `$.")
    return f"{where.rstrip('`')}: {what[0].lower()}{what[1:]}" if where else what
