"""compose: makes the bytes that are sent, from the message's `mime` and `headers`.

Runs once the message has its slot, so that waiting messages are not held in memory twice. Sets `source`, with CRLF
line ends; changes nothing else. What cannot be composed ends as `process/invalid`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from typing import Any

from operators.delivery import Delivery
from operators.headers import change
from operators.message import Invalid, Message
from operators.outcome import failed
from operators.stage import Report, Stage, stage, unreported
from operators.wire import normalise

LONGEST = 10_000  # characters of a header field
PARTS = ("from", "to", "cc", "subject", "text", "html", "headers", "attachments")


def compose(report: Report = unreported) -> Stage:
    """The message as bytes, composed where `mime` is an object, with its `headers` changes applied."""

    def step(delivery: Delivery) -> Delivery:
        try:
            return delivery.but(source=source_of(delivery.message))
        except Invalid as error:
            return delivery.ended(failed("process", "invalid", str(error)))

    return stage("compose", step, report)


def source_of(message: Message) -> bytes:
    """The message's bytes, lines ending in CRLF.

    Raises:
        Invalid: `mime` or `headers` cannot be used; says what, and what is allowed.
    """
    if isinstance(message.mime, dict):
        source = build(message.mime, message.message_id)
    else:
        try:
            source = normalise(message.source())
        except Invalid:
            raise
        except ValueError:  # of base64, and of text that is no Unicode
            raise Invalid("mime: is not what mime-encoding says") from None
    return change(source, message.headers) if message.headers else source


def build(parts: Mapping[str, Any], message_id: str | None) -> bytes:
    """A MIME message from an object: `from`, `to`, `cc`, `subject`, `text`, `html`, `headers`, `attachments`.

    Raises:
        Invalid: a part has a wrong name or type.
    """
    if unknown := [name for name in parts if name not in PARTS]:
        raise Invalid(f"mime.{unknown[0]}: there is no such part: {', '.join(PARTS)}")
    mail = EmailMessage(policy=SMTP)
    try:
        _head(mail, parts, message_id)
        _body(mail, parts)
        for index, attachment in enumerate(parts.get("attachments") or []):
            _attach(mail, attachment, f"mime.attachments[{index}]")
    except (ValueError, TypeError, AttributeError, IndexError, LookupError, RecursionError) as error:
        raise Invalid(str(error) if isinstance(error, Invalid) else f"mime: {error}") from None
    return normalise(mail.as_bytes())


def _head(mail: EmailMessage, parts: Mapping[str, Any], message_id: str | None) -> None:
    for name in ("from", "to", "cc", "subject"):
        value = parts.get(name)
        if value is not None:
            mail[name.title()] = _header(f"mime.{name}", ", ".join(value) if isinstance(value, list) else value)
    for name, value in (parts.get("headers") or {}).items():
        mail[name] = _header(f"mime.headers.{name}", value)
    if "Date" not in mail:
        mail["Date"] = formatdate(localtime=False)
    if "Message-ID" not in mail and message_id:
        mail["Message-ID"] = f"<{message_id}>"


def _body(mail: EmailMessage, parts: Mapping[str, Any]) -> None:
    text, html = parts.get("text"), parts.get("html")
    mail.set_content(_text("mime.text", text or ""))
    if html is not None and text is None:
        mail.set_content(_text("mime.html", html), subtype="html")
    elif html is not None:
        mail.add_alternative(_text("mime.html", html), subtype="html")


def _attach(mail: EmailMessage, attachment: Any, where: str) -> None:
    if not isinstance(attachment, Mapping):
        raise Invalid(f"{where}: must be an object with name, type and content")
    try:
        content = base64.b64decode(_text(f"{where}.content", attachment.get("content")), validate=True)
    except binascii.Error:
        raise Invalid(f"{where}.content: is not base64") from None
    main, _, sub = str(attachment.get("type") or "application/octet-stream").partition("/")
    mail.add_attachment(content, maintype=main, subtype=sub or "octet-stream", filename=str(attachment.get("name", "")))


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Invalid(f"{where}: must be a string")
    return value


def _header(where: str, value: Any) -> str:
    """Python's parser takes 0.2 s for LONGEST characters in the worst case, and the square of that for more."""
    text = _text(where, value)
    if len(text) > LONGEST:
        raise Invalid(f"{where}: has {len(text):,} characters, {LONGEST:,} are allowed")
    return text
