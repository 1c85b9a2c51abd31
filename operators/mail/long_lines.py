"""long_lines: no line of a message is longer than 998 octets without its CRLF (RFC 5321 4.5.3.1.6, RFC 5322 2.1.1).

A server behind us may break such a line where it likes, and with it the content and the signature; so a part that has
one is encoded before the message is signed, or the message is refused. What is next to the part stays, octet for octet.
Signed or encrypted content is never encoded. Bounds: DEPTH of
parts, PARTS of them, MARKS that look like a boundary, HEAD octets of a header.
"""

from __future__ import annotations

import base64
import binascii
import re

from operators.mail import head
from operators.mail.message import InvalidMessage
from operators.mail.wire import crlf, uneven

LONGEST = 998
WIDTH = 76  # of a line that we write (RFC 2045 6.7, 6.8)
DEPTH, PARTS, MARKS = 20, 1000, 10_000
QUOTED = 1_000_000  # octets of a message whose text becomes quoted-printable: that takes 29 ms, base64 2
HEAD = 262_144  # octets of a header that is looked at
PIECE = 8192  # octets from which on runs of even lines are looked for
PARAMETERS = 4096  # octets of a Content-Type that is read
ENCODE, REFUSE, PASS = "encode", "refuse", "pass"
_SIGNED = (b"dkim-signature", b"arc-message-signature", b"arc-seal", b"domainkey-signature")
_OURS = b"x-mq-"
_SEALED = (b"multipart/signed", b"multipart/encrypted")  # RFC 1847
_MESSAGES = (b"message/rfc822", b"message/global")
_IDENTITY = (b"", b"7bit", b"8bit", b"binary")
_TYPE = re.compile(rb"([!#$%&'*+.^_`{|}~0-9a-z-]++/[!#$%&'*+.^_`{|}~0-9a-z-]++)[ \t]*+", re.IGNORECASE).match
_PARAMETER = re.compile(rb';[ \t]*+(?:([^\s=;"]++)[ \t]*+=[ \t]*+("(?:[^"\\]|\\.)*+"|[^\s;"]++)[ \t]*+)?+').match
_IS_FIELD = re.compile(rb"[!-9;-~]++[ \t]*+:").match
_WORDS = re.compile(rb"[ \t]*+[^ \t]++|[ \t]++").findall
_QUOTED_WORDS = re.compile(rb"(?:=[0-9A-Fa-f]{2}|[^=\r\n]){1,72}").findall
_BASE64 = re.compile(rb"[A-Za-z0-9+/=\s]*+").fullmatch


class _CannotEncode(Exception):
    """Why, of the line at `at`."""

    def __init__(self, at: int, why: str) -> None:
        super().__init__(why)
        self.at, self.why = at, why


def first_long(data: bytes, start: int = 0, end: int | None = None) -> int:
    """Where the first line begins that is too long, -1 where none is."""
    size = len(data) if end is None else end
    if size - start <= PIECE:
        return _step_by_step(data, start, size)
    return next((at for part in uneven(data, start, size) if (at := _step_by_step(data, *part)) >= 0), -1)


def _step_by_step(data: bytes, start: int, end: int) -> int:
    """A step for each KB."""
    rfind = data.rfind
    while end - start > LONGEST:
        newline = rfind(b"\n", start, min(start + LONGEST + 2, end))
        if newline < 0:
            return start
        start = newline + 1
    return -1


def orderly(source: bytes) -> bool:
    """Whether each line ends in CRLF, and none is too long: one look in place of two."""
    parts = uneven(source)
    return source.endswith(b"\r\n") and all(_is_orderly(source, start, end) for start, end in parts)


def _is_orderly(source: bytes, start: int, end: int) -> bool:
    part = source[start:end]
    return crlf(part) is part and _step_by_step(source, start, end) < 0


class HasLongLine(Exception):
    """Of a message that comes in pieces: it is to be looked at whole."""


class LineLengths:
    """The same of a message that comes in pieces; what it keeps is a number."""

    def __init__(self) -> None:
        self._open = 0  # octets of the line that the pieces so far ended in

    def has_long(self, piece: bytes) -> bool:
        """Whether a line that ends or goes on in this piece is too long. No CRLF is cut in two."""
        newline = piece.find(b"\n", 0, LONGEST + 2) + 1
        if self._open + (newline or len(piece)) > LONGEST + (2 if newline else 0):
            return True
        last = piece.rfind(b"\n") + 1
        self._open = len(piece) - last if last else self._open + len(piece)
        return first_long(piece, newline) >= 0


def fitted(source: bytes, way: str, for_us: bool = False) -> bytes:
    """The message without lines that are too long, by the key `long-lines`; mostly the same object.

    Its lines end in CRLF, and its header where `settled` puts it. `for_us`: its `x-mq-*` fields, which may have a key
    or JSON, are taken out before it is sent, and so may be long.

    Raises:
        InvalidMessage: says which line, and why it cannot be encoded.
    """
    if way == PASS or (at := _first_sent(source) if for_us else first_long(source)) < 0:
        return source
    try:
        if way == REFUSE:
            raise _CannotEncode(at, "")
        return _Encoding(source, for_us).result()
    except _CannotEncode as error:
        number, end = source.count(b"\n", 0, error.at) + 1, source.find(b"\r\n", error.at)
        octets = (len(source) if end < 0 else end) - error.at
        why = f"; {error.why}" if error.why else ""
        raise InvalidMessage(
            f"mime: line {number} has {octets} octets, at most {LONGEST} are allowed (RFC 5322 2.1.1){why}"
        ) from None


def _first_sent(source: bytes) -> int:
    """The first long line behind which are no more of the fields for us."""
    at = first_long(source)
    if at < 0:
        return at
    end = head.length(source)
    while 0 <= at < end and _is_ours(source[at : at + len(_OURS)]):
        at = first_long(source, source.find(b"\n", at) + 1 or len(source))
    return at


def _is_ours(field: bytes) -> bool:
    return field[: len(_OURS)].lower() == _OURS


class _Encoding:
    """Of one message: what is put in place of what."""

    def __init__(self, source: bytes, for_us: bool) -> None:
        self._source, self._for_us = source, for_us
        self._edits: list[tuple[int, int, bytes]] = []
        self._parts = self._marks = 0
        self._encodes = False

    def result(self) -> bytes:
        """The message with its parts encoded. Raises `_CannotEncode`."""
        source = self._source
        self._entity(0, len(source), 0, b"text/plain")
        pieces: list[bytes] = []
        at = 0
        for start, end, new in self._edits:
            pieces += (source[at:start], new)
            at = end
        made = b"".join([*pieces, source[at:]])
        fields, _ = head.split(made)
        if self._encodes and b"mime-version" not in map(head.name_of, fields):
            end = head.length(made)
            made = made[:end] + b"MIME-Version: 1.0\r\n" + made[end:]  # else nobody has to decode (RFC 2045 4)
        return made

    def _entity(self, start: int, end: int, depth: int, kind: bytes) -> None:
        """A message or a part; `kind`: what it is where it does not say."""
        at = first_long(self._source, start, end)
        if at < 0:
            return
        self._parts += 1
        if depth > DEPTH or self._parts > PARTS:
            raise _CannotEncode(at, f"more than {DEPTH} levels or {PARTS} parts are not looked through")
        begin, body = self._head_end(start, end)
        if begin - start > HEAD:
            raise _CannotEncode(at, f"a header of more than {HEAD} octets is not looked through")
        fields, _ = head.split(self._source[start:begin])
        kind, boundary, coding = self._described(fields, at, kind)
        in_body = first_long(self._source, body, end)
        if kind in _SEALED and in_body >= 0:
            raise _CannotEncode(in_body, f"it is in a {kind.decode()}, which encoding would break")
        new = self._fields(fields, start, begin)
        if in_body < 0 or kind in _MESSAGES or boundary is not None:
            self._edit(start, begin, new)
            if in_body >= 0:
                self._within(body, end, depth, kind, boundary, coding)
            return
        content, coding = self._content(body, end, in_body, kind, coding)
        self._encodes = True
        self._edit(start, begin, _with_coding(new, coding))
        if body > begin:
            self._edit(body, end, content)

    def _within(self, body: int, end: int, depth: int, kind: bytes, boundary: bytes | None, coding: bytes) -> None:
        """What has parts, or a message, in it."""
        if coding not in _IDENTITY:
            raise _CannotEncode(first_long(self._source, body, end), f"its {kind.decode()} is encoded itself")
        if boundary is None:
            self._entity(body, end, depth + 1, b"text/plain")
        else:
            inner = b"message/rfc822" if kind == b"multipart/digest" else b"text/plain"
            self._multipart(body, end, boundary, depth, inner)

    def _multipart(self, body: int, end: int, boundary: bytes, depth: int, kind: bytes) -> None:
        """RFC 2046 5.1.1. What stands before the first part and behind the last one is nobody's to encode."""
        source, mark = self._source, b"\n--" + boundary
        at, inside, found = body, False, source.find(mark, body - 1, end)
        while found >= 0:
            self._marks += 1
            if self._marks > MARKS:
                at = first_long(source, at, end)
                raise _CannotEncode(at, f"more than {MARKS} lines look like a boundary")
            line = source.find(b"\r\n", found + 1, end)
            line = end if line < 0 else line
            rest = source[found + len(mark) : line]
            last = rest.startswith(b"--")
            if not (rest[2:] if last else rest).strip(b" \t"):
                self._between(at, max(at, found - 1), inside, depth, kind)
                at, inside = min(line + 2, end), not last
                if last:
                    break
            found = source.find(mark, max(line, found + 1), end)
        self._between(at, end, inside, depth, kind)

    def _between(self, start: int, end: int, inside: bool, depth: int, kind: bytes) -> None:
        if inside:
            self._entity(start, end, depth + 1, kind)
        elif (at := first_long(self._source, start, end)) >= 0:
            raise _CannotEncode(at, "it is in no part of the message, so that no encoding holds for it")

    def _head_end(self, start: int, end: int) -> tuple[int, int]:
        """(where the fields end, where the body begins)"""
        if self._source.startswith(b"\r\n", start, end):
            return start, start + 2
        blank = self._source.find(b"\r\n\r\n", start, end)
        return (end, end) if blank < 0 else (blank + 2, blank + 4)

    def _described(self, fields: list[bytes], at: int, kind: bytes) -> tuple[bytes, bytes | None, bytes]:
        """(media type, boundary, encoding) of an entity that may be changed."""
        types, codings = [], []
        for field in fields:
            name = head.name_of(field)
            if not _IS_FIELD(field):
                raise _CannotEncode(at, "the header of its part has a line that is no field")
            if name in _SIGNED:
                shown = field.partition(b":")[0].decode()
                raise _CannotEncode(at, f"the message is signed ({shown}), which encoding would break")
            if name == b"content-type":
                types.append(field.partition(b":")[2])
            elif name == b"content-transfer-encoding":
                codings.append(field.partition(b":")[2].replace(b"\r\n", b"").strip(b" \t").lower())
        if len(types) > 1 or len(codings) > 1:
            raise _CannotEncode(at, "its part has Content-Type or Content-Transfer-Encoding twice")
        kind, boundary = _media_type(types[0], at) if types else (kind, None)
        return kind, boundary, codings[0] if codings else b""

    def _fields(self, fields: list[bytes], start: int, end: int) -> list[bytes]:
        """The fields, folded where one is too long."""
        if first_long(self._source, start, end) < 0:
            return fields
        made = []
        for field in fields:
            short = first_long(field) < 0 or (self._for_us and _is_ours(field))
            made.append(field if short else _folded(field, start))
            start += len(field)
        return made

    def _content(self, start: int, end: int, at: int, kind: bytes, coding: bytes) -> tuple[bytes, bytes]:
        """(body, its encoding)"""
        body = self._source[start:end]
        if coding == b"base64" and _BASE64(body):
            return _lines(b"".join(body.split()), body), coding
        if coding == b"quoted-printable" and len(self._source) <= QUOTED:
            return _softened(body, at), coding
        if coding not in _IDENTITY:
            raise _CannotEncode(at, f"its part is encoded already: {coding[:40].decode(errors='replace')}")
        if kind.startswith((b"message/", b"multipart/")):  # RFC 2045 6.4
            raise _CannotEncode(at, f"a part of type {kind[:60].decode()} may not be encoded")
        if kind.startswith(b"text/") and len(self._source) <= QUOTED:
            quoted = binascii.b2a_qp(body.replace(b"\r\n", b"\n"), istext=True).replace(b"\n", b"\r\n")
            if 5 * len(quoted) <= 7 * len(body):  # base64 is shorter, else; a queue takes twice what came
                return _unlike_boundary(quoted), b"quoted-printable"
        return base64.encodebytes(body).replace(b"\n", b"\r\n"), b"base64"

    def _edit(self, start: int, end: int, new: bytes | list[bytes]) -> None:
        self._edits.append((start, end, new if isinstance(new, bytes) else b"".join(new)))


def _media_type(value: bytes, at: int) -> tuple[bytes, bytes | None]:
    """(type, boundary); raises `_CannotEncode` for what readers may read in more than one way."""
    text = value.replace(b"\r\n", b"").strip(b" \t") if len(value) <= PARAMETERS else b""
    found, boundaries = _TYPE(text), []
    if not found:
        raise _CannotEncode(at, "the Content-Type of its part cannot be read")
    kind, place = found[1].lower(), found.end()
    while place < len(text) and (one := _PARAMETER(text, place)):
        if (one[1] or b"").lower().partition(b"*")[0] == b"boundary":
            boundaries.append(one)
        place = one.end()
    if not kind.startswith(b"multipart/"):
        return kind, None
    if place < len(text) or len(boundaries) != 1 or b"*" in boundaries[0][1]:
        raise _CannotEncode(at, "the boundary in the Content-Type of its part cannot be read")
    boundary = boundaries[0][2]
    if boundary.startswith(b'"'):
        boundary = re.sub(rb"\\(.)", rb"\1", boundary[1:-1]).rstrip(b" \t")
    if not boundary:
        raise _CannotEncode(at, "the boundary in the Content-Type of its part is empty")
    return kind, boundary


def _with_coding(fields: list[bytes], coding: bytes) -> list[bytes]:
    new = b"Content-Transfer-Encoding: " + coding + b"\r\n"
    made = [new if head.name_of(field) == b"content-transfer-encoding" else field for field in fields]
    return made if new in made else [*made, new]


def _folded(field: bytes, at: int) -> bytes:
    """A field with line ends before white space that is there (RFC 5322 2.2.3): unfolded it is what it was."""
    made: list[bytes] = []
    for line in field.removesuffix(b"\r\n").split(b"\r\n"):
        pieces = _wrapped(line, 1 if made else 2) if len(line) > LONGEST else [line]  # a name alone is no first line
        if max(map(len, pieces)) > LONGEST:
            name = field.partition(b":")[0][:60].decode(errors="replace")
            raise _CannotEncode(at, f"the field {name} has no white space where it could be folded")
        made += pieces
        at += len(line) + 2
    return b"\r\n".join(made) + b"\r\n"


def _wrapped(line: bytes, together: int) -> list[bytes]:
    words = _WORDS(line)
    made = [b"".join(words[:together])] if words else [line]
    for word in words[together:]:
        if len(made[-1]) + len(word) <= WIDTH or word.isspace():  # no line is blank (RFC 5322 3.2.2)
            made[-1] += word
        else:
            made.append(word)
    return made


def _lines(text: bytes, before: bytes) -> bytes:
    """Base64 in lines; it ends in a line end where it did."""
    made = b"\r\n".join(text[at : at + WIDTH] for at in range(0, len(text), WIDTH))
    return made + b"\r\n" if before.endswith(b"\r\n") else made


def _softened(body: bytes, at: int) -> bytes:
    """Quoted-printable with soft line breaks (RFC 2045 6.7) where a line is too long."""
    made = []
    for line in body.split(b"\r\n"):
        pieces = _QUOTED_WORDS(line) if len(line) > LONGEST else [line]
        text = b"=\r\n".join(pieces)
        if len(line) > LONGEST and b"".join(pieces) != line.removesuffix(b"="):
            raise _CannotEncode(at, "its part is said to be quoted-printable, and is not")
        made.append(text + b"=" if len(line) > LONGEST and line.endswith(b"=") else text)
    return _unlike_boundary(b"\r\n".join(made))


def _unlike_boundary(quoted: bytes) -> bytes:
    """No line that begins anew begins as a boundary does."""
    return quoted.replace(b"=\r\n--", b"=\r\n=2D-")
