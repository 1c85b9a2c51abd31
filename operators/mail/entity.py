"""entity: MIME entities, each its header fields and its body (RFC 2045, RFC 2046). Pure functions.

Bodies are ASCII with lines of at most 998 octets, so that they need no extension of the receiver's; but a message in
a message, which may not be encoded (RFC 2046 5.2.1), stands as it is.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Sequence

import msgspec

from operators.mail.fields import LONGEST, clean, folded, read_parameters, with_parameters
from operators.mail.message import InvalidMessage
from operators.mail.wire import normalise

_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}").fullmatch  # RFC 6838 4.2
_WHOLE = ("message/", "multipart/")  # never in base64 or quoted-printable: RFC 2045 6.4
_LONG = re.compile(rb"[^\n]{%d}" % (LONGEST + 2)).search  # a line and its CR
_ASCII = bytes(range(128))
Parameters = Sequence[tuple[str, str]]


class Entity(msgspec.Struct, frozen=True):
    """`fields` with their CRLF, and the body; `eight`: it has 8-bit octets."""

    fields: bytes
    body: bytes
    eight: bool = False

    @property
    def octets(self) -> bytes:
        """All of it."""
        return self.fields + b"\r\n" + self.body


def text(value: str, subtype: str, where: str) -> Entity:
    """text/plain or text/html of this text.

    Raises:
        Invalid: it is no Unicode, or holds NUL.
    """
    try:
        source = value.encode()
    except UnicodeEncodeError:
        raise InvalidMessage(f"{where}: is no Unicode text") from None
    return coded(source, f"text/{subtype}", (("charset", "us-ascii" if source.isascii() else "utf-8"),), where)


def coded(source: bytes, kind: str, parameters: Parameters, where: str) -> Entity:
    """Lines of text, as they are where they may be, else in the shorter one of the two encodings."""
    source = normalise(source)
    if b"\0" in source:
        raise InvalidMessage(f"{where}: holds a NUL octet, which mail may not (RFC 5322 4)")
    if source.isascii() and not _LONG(source):
        return _entity(kind, parameters, "7bit", source)
    if len(source.translate(None, _ASCII)) * 6 > len(source):
        return _entity(kind, parameters, "base64", _base64(source))
    quoted = binascii.b2a_qp(source.replace(b"\r\n", b"\n"), istext=True)
    return _entity(kind, parameters, "quoted-printable", normalise(quoted))


def attachment(content: bytes, kind: str, name: str, where: str) -> Entity:
    """A file.

    Raises:
        Invalid: `kind` is no media type, or one that may not be encoded, of content that would have to be.
    """
    main, pairs = read_parameters(kind, f"{where}.type")
    if not _TYPE(main):
        raise InvalidMessage(f"{where}.type: {kind[:60]!r} is no media type; application/pdf is one (RFC 2045 5.1)")
    shown = (("filename", clean(name, f"{where}.name")),) if name else ()
    if not main.lower().startswith(_WHOLE):
        return _entity(main, pairs, "base64", _base64(content), where, shown)
    content = normalise(content)
    if main.lower().startswith("multipart/") or b"\0" in content or _LONG(content):
        raise InvalidMessage(f"{where}.type: {main} may not be encoded (RFC 2045 6.4), and this content needs it")
    return _entity(main, pairs, "7bit" if content.isascii() else "8bit", content, where, shown)


def entity(kind: str, body: bytes, *, eight: bool = False) -> Entity:
    """One whose body stands as it is."""
    return _entity(kind, (), "8bit" if eight else "7bit", body)


def several(subtype: str, parts: Sequence[Entity], parameters: Parameters = ()) -> Entity:
    """A multipart of these; of one part alone, unless it is a report, that part."""
    if len(parts) == 1 and not parameters:
        return parts[0]
    boundary = f"=_{uuid.uuid4().hex}"  # `=_` is in no encoded body
    begin = b"--" + boundary.encode() + b"\r\n"
    body = b"".join(piece for part in parts for piece in (begin, part.octets, b"\r\n")) + begin[:-2] + b"--\r\n"
    eight = any(part.eight for part in parts)
    coding = "8bit" if eight else "7bit"
    return _entity(f"multipart/{subtype}", (*parameters, ("boundary", boundary)), coding, body)


def _entity(
    kind: str, parameters: Parameters, coding: str, body: bytes, where: str = "", shown: Parameters | None = None
) -> Entity:
    fields = folded("Content-Type", with_parameters(kind, parameters), where)
    if coding != "7bit":
        fields += folded("Content-Transfer-Encoding", [coding], where)
    if shown is not None:
        fields += folded("Content-Disposition", with_parameters("attachment", shown), where)
    return Entity(fields, body, coding == "8bit")


def _base64(source: bytes) -> bytes:
    return base64.encodebytes(source).replace(b"\n", b"\r\n")
