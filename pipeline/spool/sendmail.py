"""What `/usr/sbin/sendmail` is called with, and what becomes of its message: the pure half of `mailrace send`.

The message is completed as a submission server does (RFC 6409 8), and is otherwise kept octet for octet, but for its
line ends, which become CRLF. Nothing is queued that is not whole: one bad recipient refuses all.
"""

from __future__ import annotations

import email.utils
import getopt
import itertools
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import msgspec

from operators.deliveries.result_queues import ResultRule
from operators.mail.addresses import valid_path
from operators.mail.dsn_parameters import ENVID, envid, notify, ret
from operators.mail.fields import address_field, field, message_id
from operators.mail.head import length, line_ends, name_of, settled, split, value_of
from operators.mail.long_lines import ENCODE
from operators.mail.mailboxes import mailboxes
from operators.mail.message import InvalidMessage, mime_properties, timestamp
from pipeline.smtp.server.content import fitted, refuse_loop
from pipeline.smtp.server.headers import extract, has_fields, refuse_queues
from pipeline.smtp.server.transaction import ids_of
from settings import ConfigurationErrors

# Options of sendmail, postfix and exim; with a colon they take a value. Those not in `_REFUSED` and not read below
# tune what Mailrace does its own way, and are passed over.
_SHORT = "A:B:C:F:GIL:N:O:R:UV:X:b:d:e:f:h:imno:p:q:r:tv"
_LONG = ["envelope=", "extract-recipients", "ignore-dot"]
_REFUSED = {
    "-bd": "the server is `mailrace serve`",
    "-bp": "the queue is shown by `mailrace queue`",
    "-bi": "there is no alias database",
    "-bv": "addresses are not verified",
    "-bt": "addresses are not tested",
    "-q": "the queue is run by `mailrace serve`; `mailrace queue flush` retries now",
}
_CHUNK = 65536
ARGUMENTS = 10_000  # characters of the command line that a message tells

_QUALIFIED = (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc")
# `Name <user>`, or `user (comment)`.
_USER = re.compile(r'(?:(.*?)\s*<\s*([^\s<>@",;:()]+)\s*>|([^\s<>@",;:()]+)(?:\s*\(([^()]*)\))?)').fullmatch

Fields = dict[str, list[str]]  # values by name, lower case


class SendRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `mailrace send` was called with.

    Attributes:
        arguments: as they were.
        recipients: those of the command line.
        envelope: MAIL FROM; "" is the null sender, None: to be found in the message.
        extract: take recipients from the header, too.
        ignore_dot: a dot on its own line does not end the message.
        name: full name for a missing From.
        dsn: wishes for delivery status notifications (RFC 3461).
        speaks: SMTP on standard input, in place of a message.
    """

    arguments: Sequence[str] = ()
    recipients: Sequence[str] = ()
    envelope: str | None = None
    extract: bool = False
    ignore_dot: bool = False
    name: str = ""
    dsn: dict[str, str] = {}
    speaks: bool = False


class Origin(msgspec.Struct, frozen=True):
    """Who hands the message in: a user of this machine, at a moment (epoch seconds).

    `domain` completes addresses that have none; "": the host's name does.
    """

    user: str
    hostname: str
    now: float
    domain: str = ""


class UnusableSubmission(Exception):
    """The message cannot be queued; one line says why."""


def parse(arguments: Sequence[str]) -> SendRequest:
    """Read the command line.

    Raises:
        ConfigurationErrors: with one line.
    """
    try:
        options, recipients = getopt.gnu_getopt(list(arguments), _SHORT, _LONG)
    except getopt.GetoptError as error:
        raise ConfigurationErrors([f"send: {error.msg}"]) from None
    values: dict[str, Any] = {"dsn": {}}
    for option, value in options:
        _read(option, value, values)
    if not recipients and not values.get("extract") and not values.get("speaks"):
        raise ConfigurationErrors(
            ["send: needs a recipient, or --extract-recipients (-t) to take them from the header"]
        )
    return SendRequest(arguments=arguments, recipients=recipients, **values)


def _read(option: str, value: str, values: dict[str, Any]) -> None:
    whole = option + value[:1] if option == "-b" else option
    if whole in _REFUSED:
        raise ConfigurationErrors([f"send: {whole}: {_REFUSED[whole]}"])
    match option, value:
        case (("--envelope" | "-f" | "-r"), _):
            named = [] if value.strip() in ("", "<>") else _named(value)
            values["envelope"] = named[0] if len(named) == 1 else value.strip().removeprefix("<").removesuffix(">")
        case (("--extract-recipients" | "-t"), _):
            values["extract"] = True
        case (("--ignore-dot" | "-i"), _) | ("-o", "i"):
            values["ignore_dot"] = True
        case "-b", "s":
            values["speaks"] = True
        case "-F", _:
            values["name"] = value
        case (("-N" | "-R" | "-V"), _):
            values["dsn"] |= _dsn(option, value)


def _dsn(option: str, value: str) -> dict[str, str]:
    key, read, allowed = {
        "-N": ("notify", notify, "never, or some of success, failure, delay with commas"),
        "-R": ("ret", ret, "full or hdrs"),
        "-V": ("envid", envid, f"1 to {ENVID} printable ASCII characters"),
    }[option]
    try:
        return {key: read(value)}
    except ValueError:
        raise ConfigurationErrors([f"send: {option}: {value[:60]!r}: must be {allowed}"]) from None


def read_message(stdin: BinaryIO, ignore_dot: bool, most: int) -> bytes:
    """The message from standard input, its line ends made CRLF; at most `most` bytes.

    Raises:
        Unsendable: it is larger, or holds NUL (RFC 5322 4).
    """
    pieces: list[bytes] = []
    size = 0
    fresh = True  # at the beginning of a line
    while piece := stdin.readline(_CHUNK):
        if fresh and not ignore_dot and piece.rstrip(b"\r\n") == b".":
            break
        if fresh and not ignore_dot and piece.startswith(b".."):
            piece = piece[1:]  # as in SMTP (RFC 5321 4.5.2), so that a line may be a dot
        fresh = piece.endswith(b"\n")
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise UnusableSubmission(f"the message is larger than smtp-maxsize, {most} bytes")
    source = b"".join(pieces)
    if not fresh:
        source += b"\n"
    if b"\0" in source:
        raise UnusableSubmission("the message holds a NUL octet, which mail may not (RFC 5322)")
    source = line_ends(source)
    if len(source) > most:
        raise UnusableSubmission(f"the message is larger than smtp-maxsize, {most} bytes")
    return source


def compose(
    source: bytes,
    request: SendRequest,
    origin: Origin,
    id: str,
    x_mq: bool,
    rule: ResultRule | None = None,
    came: Mapping[str, Any] | None = None,
    long_lines: str = ENCODE,
) -> list[bytes]:
    """The queue's messages, one for each recipient.

    Args:
        source: the message with CRLF.
        request: what was asked.
        origin: who asks.
        id: of the submission; unique.
        x_mq: turn `x-mq-*` fields into properties.
        rule: which queues results may not go to.
        came: the property that says how it came in; None: by this command.
        long_lines: the key.

    Raises:
        Unsendable: an address is none, or nobody is to get it.
        Refusal: what the SMTP server would refuse, too.
    """
    source = fitted(settled(source), long_lines, x_mq)
    end = length(source)
    head, rest = source[:end], source[end:]
    refuse_loop(head)
    head, properties = extract(head, origin.now) if x_mq and has_fields(head) else (head, {})
    if rule is not None:
        refuse_queues(properties, rule)
    head = _completed(head, origin)
    fields = _fields(head)
    recipients = [_address(text, "recipient", origin) for text in _recipients(fields, request)]
    if not recipients:
        raise UnusableSubmission("the header names no recipient in To, Cc or Bcc")
    envelope = _envelope(fields, request, properties, origin)
    if request.extract:
        head = b"".join(one for one in split(head)[0] if name_of(one) not in (b"bcc", b"resent-bcc"))
    head += _missing(fields, request, envelope, origin)
    common = {
        **properties,
        "envelope": envelope,
        "received": timestamp(origin.now),
        "hostname": origin.hostname,
        **(came or {"cli": {"command": "send", "arguments": _told(request.arguments), "user": origin.user}}),
        **({"dsn": properties.get("dsn", {}) | request.dsn} if request.dsn else {}),
        **mime_properties(head + rest),
    }
    unique = list(dict.fromkeys(recipients))
    return [
        msgspec.json.encode({"recipient": recipient, "message-id": own} | common)
        for recipient, own in zip(unique, ids_of(id, len(unique)), strict=True)
    ]


def _completed(head: bytes, origin: Origin) -> bytes:
    """The header with whole addresses: cron writes `From: root (Cron Daemon)` (RFC 6409 8.3)."""
    found = split(head)[0]
    return b"".join(_whole(one, origin) if name_of(one) in _QUALIFIED else one for one in found)


def _whole(one: bytes, origin: Origin) -> bytes:
    """The field with its users of this machine as addresses; as it is, where not all of it can be read."""
    entries = list(mailboxes(value_of(one)))
    if all(entry.address or entry.group is not None for entry in entries):
        return one
    pairs = []
    for entry in entries:
        user = _USER(entry.name) if not entry.address and entry.group is None else None
        if user is not None:
            pairs.append((user[1] or user[4] or "", _address(user[2] or user[3], "address", origin)))
        elif entry.address:
            pairs.append((entry.name, entry.address))
        else:
            return one
    name = one.partition(b":")[0].decode("ascii", "replace").strip()
    try:
        return address_field(name, pairs, name)
    except InvalidMessage:
        return one


def _told(arguments: Sequence[str]) -> list[str]:
    """The first arguments, ARGUMENTS characters of them: each recipient message carries them."""
    lengths = itertools.accumulate(len(argument) + 1 for argument in arguments)
    return [argument for argument, length in zip(arguments, lengths, strict=True) if length <= ARGUMENTS]


def _fields(head: bytes) -> Fields:
    fields: Fields = {}
    for one in split(head)[0]:
        fields.setdefault(name_of(one).decode("ascii", "replace"), []).append(value_of(one))
    return fields


def _recipients(fields: Fields, request: SendRequest) -> Iterator[str]:
    for argument in request.recipients:
        yield from _named(argument)
    if request.extract:
        resent = any(f"resent-{name}" in fields for name in ("to", "cc", "bcc"))  # RFC 5322 3.6.6
        for name in ("to", "cc", "bcc"):
            yield from _addresses(fields, f"resent-{name}" if resent else name)


def _named(argument: str) -> Sequence[str]:
    """The addresses that an argument names: as in To, it may be a list, and each may have a name before it."""
    return [entry.address or entry.name for entry in mailboxes(argument)] if {*",<"} & {*argument} else [argument]


def _addresses(fields: Fields, name: str) -> Iterator[str]:
    """The addresses of all fields of this name; a word alone is a user of this machine."""
    for value in fields.get(name, []):
        for entry in mailboxes(value):
            if found := entry.address or entry.name:
                yield found


def _address(text: str, what: str, origin: Origin) -> str:
    """The address; a bare user name is one of this machine (RFC 6409 4.2)."""
    bare = text.strip().removeprefix("<").removesuffix(">")
    address = bare if "@" in bare else f"{bare}@{origin.domain or origin.hostname}"
    if not valid_path(address):
        raise UnusableSubmission(f"{what} {text[:60]!r} is no address")
    return address


def _envelope(fields: Fields, request: SendRequest, properties: dict[str, Any], origin: Origin) -> str:
    if request.envelope is not None:
        return _address(request.envelope, "envelope", origin) if request.envelope else ""
    if "envelope" in properties:
        return str(properties["envelope"])
    for name in ("return-path", "sender", "from"):
        if found := next(_addresses(fields, name), None):
            return _address(found, name.title(), origin)
    return _address(origin.user, "user", origin)


def _missing(fields: Fields, request: SendRequest, envelope: str, origin: Origin) -> bytes:
    """The fields that a message must have, as far as it has not (RFC 6409 8, RFC 5322 3.6)."""
    added = []
    try:
        if "from" not in fields:
            author = envelope or _address(origin.user, "user", origin)
            added.append(address_field("From", [(" ".join(request.name.split()), author)], "From"))
        if "date" not in fields:
            added.append(field("Date", email.utils.formatdate(origin.now, localtime=True)))
        if "message-id" not in fields:
            added.append(field("Message-ID", message_id(uuid.uuid4().hex, origin.domain or origin.hostname)))
    except InvalidMessage as error:
        raise UnusableSubmission(str(error)) from None
    return b"".join(added)
