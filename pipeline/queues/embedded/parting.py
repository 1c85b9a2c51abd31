"""Parts a large message that comes as one JSON object: what follows its header goes apart, or, where `mime` is an
object, what of it may be large. Owns nothing.

Intake hands contents in apart; what applications and the command line submit is parted here, so that a large one that
is lent takes no memory either.
"""

from __future__ import annotations

from typing import Any

import msgspec

from operators.mail.head import length, settled
from operators.mail.message import decode_object, from_properties, mime_properties
from pipeline.queues.contract import Body, LargeBody, NewContent
from pipeline.queues.embedded.segments import APART

PARTS = ("text", "html", "content", "attachments")  # of a `mime` object; lists show the subject, which stays
LEAST = 2**20  # bytes of a body from which on it is parted: that takes the event loop 10 ms a megabyte


def parted(body: Body) -> Body:
    """The message in two parts; as it is where it is small, or no mail that could be."""
    if isinstance(body, LargeBody) or len(body) < LEAST:
        return body
    try:
        properties = decode_object(body)
        if isinstance(properties.get("mime"), dict):
            return _parts(body, properties)
        message = from_properties(properties)
        source = settled(message.source()) if message.mime else b""
    except ValueError:
        return body
    end = length(source) + 2
    content = source[end:]
    if len(content) < APART or b"\0" in source or source[end - 2 : end] != b"\r\n":
        return body
    kept = {name: value for name, value in properties.items() if name != "mime-encoding"}
    head = msgspec.json.encode(kept | mime_properties(source[:end]))
    return LargeBody(head, NewContent(content, len(content), content.isascii()))


def _parts(body: bytes, properties: dict[str, Any]) -> Body:
    """Composed when it is sent, from all of it; see `operators.mail.message.joined`."""
    apart = {name: value for name, value in properties["mime"].items() if name in PARTS}
    content = msgspec.json.encode(apart)
    if len(content) < APART:
        return body
    kept = {name: value for name, value in properties["mime"].items() if name not in PARTS}
    return LargeBody(
        msgspec.json.encode(properties | {"mime": kept}), NewContent(content, len(content), content.isascii())
    )
