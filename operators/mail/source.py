"""source: the bytes that are sent, from the message's `mime` and `headers`, with CRLF line ends. Pure functions."""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from typing import Any

from operators.mail.blocks import document
from operators.mail.dkim import from_domain
from operators.mail.entity import Entity, attachment, several, text
from operators.mail.fields import address_field, field, message_id
from operators.mail.head import length, name_of, settled, value_of
from operators.mail.headers import change, pairs
from operators.mail.inline_css import inlined, inlined_mail
from operators.mail.links import rewritten
from operators.mail.mailboxes import mailboxes
from operators.mail.message import InvalidMessage, Message
from operators.mail.personalize import personal
from operators.mail.unmade import Unmade

PARTS = (
    "from", "to", "cc", "bcc", "reply-to", "replyTo", "subject", "text", "html", "content", "headers", "attachments",
    "background", "font", "css", "blocks", "data", "tracking", "rewrite",
)  # fmt: skip
HEAD = 262_144  # characters in which a header is expected to end
TOLD = ("name", "description", "version", "templateName", "attributes")  # for people and programs, not for receivers
_OFF: tuple[Any, ...] = (None, False, 0, "", "0", "false", "no", "off", [])  # of inlinecss
_ADDRESSES = {"from": "From", "reply-to": "Reply-To", "replyTo": "Reply-To", "to": "To", "cc": "Cc"}
_OURS = (b"content-type", b"content-transfer-encoding", b"content-disposition", b"mime-version")  # of the whole
_ONCE = frozenset((
    b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc", b"message-id", b"in-reply-to", b"references", b"subject",
    b"date",
))  # fmt: skip  # RFC 5322 3.6


def needs_all(properties: Mapping[str, Any]) -> bool:
    """Whether the mail is made of all of its text, so that no part of it can lie apart."""
    return "data" in properties or properties.get("inlinecss") not in _OFF


def is_apart(message: Message) -> bool:
    """Whether the message names what it does not carry: its MIME by `key`, or the files of attachments by `url`."""
    mime = message.mime
    if not mime:
        return message.key is not None
    given = mime.get("attachments") if isinstance(mime, dict) else None
    return isinstance(given, list) and any(map(is_elsewhere, given))


def is_elsewhere(attachment: Any) -> bool:
    """Whether an attachment has a `url` in place of its content."""
    return (
        isinstance(attachment, Mapping)
        and bool(attachment.get("url"))
        and attachment.get("content") is None
        and attachment.get("data") is None
    )


def source_of(message: Message) -> bytes:
    """The message's bytes, lines ending in CRLF, its header ending where every reader finds it.

    Where the content is apart, those of the header.

    Raises:
        Invalid: `mime` or `headers` cannot be used; says what, and what is allowed.
    """
    if not message.mime:
        raise InvalidMessage("mime: is missing or empty, and an empty mail is not sent")
    values, inline = personal(message), message.properties.get("inlinecss") not in _OFF
    if isinstance(message.mime, dict):
        parts = values.object(message.mime) if values else message.mime
        source = build(_inlined(parts) if inline else parts, message.message_id, message.envelope or "")
    else:
        given = _given(message)
        if given.isspace() or not given:
            raise InvalidMessage("mime: is missing or empty, and an empty mail is not sent")
        source = settled(given)
        if b"\0" in source:
            raise InvalidMessage("mime: holds a NUL octet, which mail may not (RFC 5322 4)")
        source = values.mail(source) if values else source
        source = inlined_mail(source) if inline else source
    if message.headers:
        source = change(source, values.headers(message.headers) if values else message.headers)
    return source


def head_of(message: Message) -> bytes:
    """The header fields of `source_of`, each with its CRLF. Of a mail as text only its header is looked at."""
    mime = message.mime
    plain = (
        isinstance(mime, str) and message.mime_encoding is None and not message.headers and personal(message) is None
    )
    end = _end_of_head(mime) if plain and isinstance(mime, str) else -1
    if end < 0:
        source = source_of(message)
        return source[: length(source)]
    assert isinstance(mime, str)
    source = settled(mime[:end].encode())
    return source[: length(source)]


def _end_of_head(mime: str) -> int:
    """Where the empty line after the header ends, whatever the line ends are; -1 where there is none."""
    crlf = mime.find("\r\n\r\n", 0, HEAD)
    lf = mime.find("\n\n", 0, crlf if crlf >= 0 else HEAD)  # not through the whole body, where that is known to follow
    return lf + 2 if lf >= 0 else crlf + 4 if crlf >= 0 else -1


def _inlined(parts: Mapping[str, Any]) -> dict[str, Any]:
    plain, html = _versions(parts)
    return {**parts, "text": plain, "html": inlined(html), "rewrite": None} if isinstance(html, str) else dict(parts)


def _given(message: Message) -> bytes:
    try:
        return message.source()
    except InvalidMessage:
        raise
    except ValueError:  # of base64, and of text that is no Unicode
        raise InvalidMessage("mime: is not what mime-encoding says") from None


def build(parts: Mapping[str, Any], id: str | None, envelope: str = "") -> bytes:
    """A MIME message from an object: PARTS are the properties that it may have.

    Args:
        parts: the object.
        id: of the message; its Message-ID is made of it, and so is the same in each attempt.
        envelope: is From where there is none.

    Raises:
        Invalid: a part has a wrong name or type, or a value that cannot be written.
    """
    if unknown := [name for name in parts if name not in PARTS and name not in TOLD]:
        raise InvalidMessage(f"mime.{unknown[0][:60]}: there is no such part: {', '.join(PARTS)}")
    head = [*_head(parts)]
    names = [name_of(one) for one in head]
    if several_of := [name for name in names if name in _ONCE and names.count(name) > 1]:
        raise InvalidMessage(f"mime.headers: {several_of[0].decode()} may stand in a header once (RFC 5322 3.6)")
    if b"from" not in names and envelope:  # which a message must have: RFC 5322 3.6
        head.insert(0, address_field("From", [("", envelope)], "envelope"))
    if (sender := _sender(head)) is not None and b"sender" not in names:
        head.append(sender)
    if b"date" not in names:
        head.append(field("Date", formatdate(localtime=False)))
    if b"message-id" not in names:
        head.append(field("Message-ID", message_id(id or uuid.uuid4().hex, from_domain(b"".join(head)))))
    return b"".join(head) + b"MIME-Version: 1.0\r\n" + _body(parts).octets


def _sender(head: list[bytes]) -> bytes | None:
    """The Sender that a message of several authors must have: the first of them (RFC 5322 3.6.2)."""
    authors = [one for made in head if name_of(made) == b"from" for one in mailboxes(value_of(made)) if one.address]
    return address_field("Sender", [("", authors[0].address)], "mime.from") if len(authors) > 1 else None


def _head(parts: Mapping[str, Any]) -> Iterator[bytes]:
    for part, name in _ADDRESSES.items():
        if entries := [*_listed(parts.get(part), f"mime.{part}")]:
            yield address_field(name, entries, f"mime.{part}")
    if parts.get("subject") is not None:
        yield field("Subject", _text("mime.subject", parts["subject"]), "mime.subject")
    for name, value in pairs("mime.headers", parts.get("headers") or {}):
        made = field(name, value, f"mime.headers.{name[:60]}")
        if name_of(made) not in _OURS:
            yield made
        elif name_of(made) != b"mime-version":
            raise InvalidMessage(f"mime.headers.{name}: follows from text, html and attachments")


def _listed(value: Any, where: str) -> Iterator[str | tuple[str, str]]:
    """The addresses of a part: a text, {name, address}, or a list of them; nothing where it is empty."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, Mapping):
            if unknown := [str(key) for key in one if key not in ("name", "address", "email")]:
                raise InvalidMessage(f"{where}.{unknown[0][:60]}: there are name and address")
            address = one.get("address", one.get("email"))  # an older name
            yield _text(f"{where}.name", one.get("name") or ""), _text(f"{where}.address", address)
        elif one is not None and _text(where, one).strip():
            yield one


def _body(parts: Mapping[str, Any]) -> Entity:
    plain, html = _versions(parts)
    bodies = []
    if plain is not None or html is None:
        bodies.append(text(_text("mime.text", plain or ""), "plain", "mime.text"))
    if html is not None:
        bodies.append(text(_text("mime.html", html), "html", "mime.html"))
    given = parts.get("attachments") or []
    given = [given] if isinstance(given, Mapping) else given
    if not isinstance(given, list):
        raise InvalidMessage("mime.attachments: must be a list")
    files = [_attachment(one, f"mime.attachments[{index}]") for index, one in enumerate(given)]
    return several("mixed", [several("alternative", bodies), *files])


def _versions(parts: Mapping[str, Any]) -> tuple[Any, Any]:
    """The text and the HTML version, each None where there is none, with the links as `rewrite` says."""
    plain, html = _written(parts)
    if html is None or parts.get("rewrite") is None:
        return plain, html
    return plain, rewritten(_text("mime.html", html), parts["rewrite"], "mime.rewrite")


def _written(parts: Mapping[str, Any]) -> tuple[Any, Any]:
    """As they were given; `content` is HTML, or blocks to make both of."""
    plain, html, content = parts.get("text"), parts.get("html"), parts.get("content")
    if content is None and parts.get("blocks") is not None:
        content = {"blocks": parts["blocks"]}
    if html is not None or content is None or isinstance(content, str):
        return plain, content if html is None else html
    if not isinstance(content, Mapping):
        raise Unmade("responsive", "mime.content: must be HTML, or an object with blocks")
    made, text_of_it = document(content, parts)
    return text_of_it if plain is None else plain, made


def _attachment(given: Any, where: str) -> Entity:
    if not isinstance(given, Mapping):
        raise InvalidMessage(f"{where}: must be an object with name, type and content")
    if is_elsewhere(given):
        raise Unmade("responsive", f"{where}.url: is not fetched here; give it as content, in base64")
    content = _text(f"{where}.content", given.get("content", given.get("data")))
    try:
        octets = base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidMessage(f"{where}.content: is not base64") from None
    kind = _text(f"{where}.type", given.get("type") or "application/octet-stream")
    return attachment(octets, kind, _text(f"{where}.name", given.get("name") or ""), where)


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidMessage(f"{where}: must be a string")
    return value
