"""head: where a message's header ends. The one place that decides it, before anything is signed. Pure functions.

The rule is Postfix's: the header is the fields at the top, and ends at the first line that is neither a field nor a
continuation (RFC 5322 2.2). Where no empty line stands there, it is put there: every reader after us, verifiers of
signatures among them, then agrees with us on what is header and what is body.
"""

from __future__ import annotations

import re
from email.header import decode_header, make_header

from operators.mail.wire import normalise

BOM = b"\xef\xbb\xbf"  # editors and shells of Windows begin files with it; no field can (RFC 5322 2.2)
_FIELDS = re.compile(rb"[^\n]*\n(?:[ \t][^\n]*(?:\n|\Z))*+|[^\n]+").findall  # a line, and those that continue it
_HEADER = re.compile(rb"(?:[!-9;-~]++:[^\n]*\n(?:[ \t][^\n]*\n)*+)*+").match
_LOOSE = re.compile(rb"(?:[!-9;-~]++[ \t]*+:[^\n]*\n(?:[ \t][^\n]*\n)*+)*+").match  # RFC 5322 4.5: space before colon
_SPACED = re.compile(rb"^([!-9;-~]++)[ \t]++:", re.MULTILINE)
_MAILBOX = re.compile(
    rb">?From (?![ \t]*:)[^\n]*\n(?=[!-9;-~]+[ \t]*:)"
).match  # RFC 4155; a `From ` that is text stays


def settled(source: bytes) -> bytes:
    """The message as it is signed and sent: line ends CRLF, the header's end where every reader finds it.

    A byte order mark and a mailbox's `From ` line go, white space before a field's colon too (RFC 5322 4.5). What is
    well formed comes back as the same object (1 KB of header: 3 us).
    """
    return ended(line_ends(source))


def ended(source: bytes) -> bytes:
    """As `settled`, of a message whose line ends are CRLF already."""
    end = _HEADER(source).end()  # type: ignore[union-attr]
    return source if source.startswith(b"\r\n", end) else _repaired(source)


def line_ends(source: bytes) -> bytes:
    """The message with CRLF at the end of each line. In the header a CR that ends none is a space, and no new field."""
    clean = normalise(source)
    if clean is not source and b"\n" in source and source.count(b"\r") != source.count(b"\r\n"):
        return normalise(_without_stray(source))
    return clean


def _repaired(source: bytes) -> bytes:
    source = source.removeprefix(BOM)
    if found := _MAILBOX(source):
        source = source[found.end() :]
    end = _LOOSE(source).end()  # type: ignore[union-attr]
    head, rest = _SPACED.sub(rb"\1:", source[:end]), source[end:]
    return head + rest if rest.startswith(b"\r\n") else head + b"\r\n" + rest


def _without_stray(source: bytes) -> bytes:
    """Without CR in the header but in CRLF: before a line end it goes, elsewhere it becomes a space, as in Postfix."""
    end = _LOOSE(source).end()  # type: ignore[union-attr]
    lines = source[:end].split(b"\n")[:-1]
    head = b"".join(line.rstrip(b"\r").replace(b"\r", b" ") + b"\r\n" for line in lines)
    blank, newline, rest = source[end:].partition(b"\n")
    return head + (newline + rest if newline and not blank.strip(b"\r") else source[end:])


def length(source: bytes) -> int:
    """Bytes of the header fields, the last one's CRLF included: up to the empty line, or all where there is none."""
    end = 0 if source.startswith(b"\r\n") else source.find(b"\r\n\r\n") + 2
    return len(source) if end == 1 else end


def shown(source: bytes) -> str:
    """The header as people read it, whatever the message is: lines ending in LF, the last one's without."""
    source = settled(source)
    return source[: length(source)].replace(b"\r\n", b"\n").decode(errors="replace").removesuffix("\n")


def split(source: bytes) -> tuple[list[bytes], bytes]:
    """The header fields, each with its CRLF, and the rest: from the empty line on. Lines must end in CRLF."""
    end = length(source)
    return _FIELDS(source[:end]), source[end:]


def name_of(field: bytes) -> bytes:
    """A field's name, lower case."""
    return field.partition(b":")[0].strip().lower()


def value_of(field: bytes) -> str:
    """A field's value, unfolded (RFC 5322 2.2.3); what is no UTF-8 is replaced."""
    return field.partition(b":")[2].replace(b"\r\n", b"").strip(b" \t").decode("utf-8", "replace")


def readable(value: str) -> str:
    """A field's value as people read it: its encoded-words decoded (RFC 2047)."""
    if "=?" not in value:
        return value
    try:
        return str(make_header(decode_header(value)))
    except (ValueError, LookupError):  # a charset that nobody knows, or what is no encoded word
        return value
