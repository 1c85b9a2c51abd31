"""parts: the leaves of a mail's MIME tree, and what stands between them, so that one leaf can be replaced alone.

What is signed or encrypted as a whole (RFC 1847) is one leaf, and so is a message in a message. Bounds: DEPTH of
multiparts; what is deeper is one leaf.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message as Entity
from email.policy import compat32

import msgspec

from operators.mail import head
from operators.mail.entity import coded
from operators.mail.message import InvalidMessage

DEPTH = 20
_OURS = (b"content-type", b"content-transfer-encoding", b"mime-version")
_WHOLE = ("multipart/signed", "multipart/encrypted")


class MimeLeaf(msgspec.Struct, frozen=True):
    """A part without parts: its header fields, and its body; `whole`: it is the message itself."""

    fields: bytes
    body: bytes
    whole: bool

    @property
    def kind(self) -> str:
        """Its media type, in lower case."""
        return self._entity.get_content_type()

    @property
    def is_text(self) -> bool:
        """Whether it is text that people read, and no file."""
        return self.kind in ("text/plain", "text/html") and self._entity.get_content_disposition() != "attachment"

    @property
    def _entity(self) -> Entity:
        return message_from_bytes(self.fields + b"\r\n", policy=compat32)

    def text(self) -> str:
        """Its text, whatever it is encoded in. Raises `InvalidMessage`."""
        entity = message_from_bytes(self.fields + b"\r\n" + self.body, policy=compat32)
        payload = entity.get_payload(decode=True)
        octets = payload if isinstance(payload, bytes) else b""
        charset = entity.get_content_charset() or "utf-8"
        try:
            return octets.decode("utf-8" if charset == "us-ascii" else charset)
        except (LookupError, UnicodeError):
            raise InvalidMessage(f"mime: the text of a part cannot be read as {charset[:60]!r}") from None

    def replaced(self, text: str) -> bytes:
        """The part with another text, in UTF-8; its other fields stay. Raises `InvalidMessage`."""
        entity = self._entity
        others = [field for field in head.split(self.fields)[0] if head.name_of(field) not in _OURS]
        pairs = entity.get_params() or []
        more = [(name, value) for name, value in pairs[1:] if name.lower() != "charset" and value.isascii()]
        try:
            octets = text.encode()
        except UnicodeEncodeError:
            raise InvalidMessage("mime: is no Unicode text") from None
        charset = ("charset", "us-ascii" if octets.isascii() else "utf-8")
        made = coded(octets, self.kind, [charset, *more], "mime")
        version = b"MIME-Version: 1.0\r\n" if self.whole else b""
        return b"".join([*others, version, made.fields, b"\r\n", made.body])


def leaves(source: bytes) -> Iterator[bytes | MimeLeaf]:
    """The message in pieces: its leaves, and the octets between them. Lines must end in CRLF."""
    yield from _leaves(source, 0)


def _leaves(source: bytes, depth: int) -> Iterator[bytes | MimeLeaf]:
    end = head.length(source)
    fields, body = source[:end], source[end + 2 :]
    boundary = _boundary(fields) if depth < DEPTH else None
    if boundary is None:
        yield MimeLeaf(fields, body, depth == 0)
        return
    at, inside = end + 2, False
    for mark in re.finditer(rb"(?:\A|\r\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?:\r\n|\Z)", source[end + 2 :]):
        start, after = end + 2 + mark.start(), end + 2 + mark.end()
        if start < at:  # the line end before it is that of the mark before: an empty part
            start = at
        if inside:
            yield from _leaves(source[at:start], depth + 1)
            yield source[start:after]
        else:
            yield source[:after]
        at, inside = after, not mark[1]
        if mark[1]:
            break
    if not inside and at == end + 2:
        yield source  # no such boundary in it
    elif inside:
        yield from _leaves(source[at:], depth + 1)
    else:
        yield source[at:]


def _boundary(fields: bytes) -> bytes | None:
    entity = message_from_bytes(fields + b"\r\n", policy=compat32)
    kind = entity.get_content_type()
    if entity.get_content_maintype() != "multipart" or kind in _WHOLE:
        return None
    boundary = entity.get_boundary()
    return boundary.encode(errors="replace") if boundary else None
