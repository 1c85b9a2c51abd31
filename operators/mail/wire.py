"""wire: how a message's bytes look on an SMTP connection. Pure functions; they hold nothing.

Lines end in CRLF, and a line that starts with a dot has it doubled (RFC 5321 2.3.8, 4.5.2). All look before they
copy: for most mail there is nothing to change, and then the same object comes back (4 KB: 3 microseconds each).
"""

from __future__ import annotations

import ctypes
import io
from collections.abc import Callable, Iterator

from operators.mail.message import Message

PASS = 32_768  # bytes looked through at once: they stay in the processor's cache
STEP = 8192  # bytes looked through until it is seen again whether lines of one length follow
RUN = 131_072  # bytes of such lines that are looked at together
FIRST = 16  # lines of one length that make it worth a look
WIDEST = 1000  # bytes of such a line, see `long_lines`
LINE_DOT = b"\r\n."  # a line that begins with a dot, and is not the first


def _quick() -> Callable[[bytes, bytes], int | None] | None:
    """The C library's strstr: 0.04 ms for 1 MB, where `bytes.find` takes 0.75. None where it cannot be had."""
    try:
        found = ctypes.PyDLL(None).strstr
    except (OSError, AttributeError, TypeError):
        return None
    found.restype, found.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_char_p)
    return found


_strstr = _quick()


def has_line_dot(source: bytes) -> bool:
    """Whether LINE_DOT is in it."""
    if _strstr is None or b"\0" in source:  # where strstr ends
        return LINE_DOT in source
    return _strstr(source, LINE_DOT) is not None


def needs_smtputf8(message: Message, source: bytes) -> bool:
    """Whether its header may go to receivers with SMTPUTF8 only (RFC 6531 3.2): it has UTF-8, and that is meant so.

    By the property `smtputf8`, or by an address in what we composed. 8-bit octets in a header that an application
    hands in as it is are older than SMTPUTF8, and go everywhere, as ever.
    """
    if not message.smtputf8 and isinstance(message.mime, str) and not message.headers:
        return False
    if source.isascii():
        return False
    end = 0 if source.startswith(b"\r\n") else source.find(b"\r\n\r\n")
    head = source if end < 0 else source[:end]
    composed = not isinstance(message.mime, str) or not repr(message.headers).isascii()
    return not head.isascii() and (message.smtputf8 or composed)


def normalise(source: bytes) -> bytes:
    """The message with every bare CR or LF made CRLF, and CRLF at its end; to be done before it is signed."""
    source = crlf(source)
    if source and not source.endswith(b"\r\n"):
        source += b"\r\n"
    return source


def dot_stuff(source: bytes) -> bytes:
    """Normalised bytes as they are sent after DATA, without the final dot (RFC 5321 4.5.2)."""
    if has_line_dot(source):
        source = source.replace(LINE_DOT, b"\r\n..")
    if source.startswith(b"."):
        source = b"." + source
    return source


def dot_unstuff(source: bytes, begins: bool = True) -> bytes:
    """What came after DATA without its stuffed dots (RFC 5321 4.5.2); `begins`: it begins a line."""
    if begins and source.startswith(b"."):
        source = source[1:]
    if has_line_dot(source):
        source = source.replace(LINE_DOT, b"\r\n")
    return source


def chunks(source: bytes, size: int) -> Iterator[bytes]:
    """The message as it is sent after DATA, without the final dot, in pieces of about `size` bytes (at least 2).

    Joined they are `dot_stuff(normalise(source))`; so a large message is never copied whole, and never holds the
    loop up.
    """
    start, line_start = 0, True
    while start < len(source):
        end = _cut(source, start, start + size)
        piece = crlf(source[start:end])
        if end == len(source) and not piece.endswith(b"\r\n"):
            piece += b"\r\n"
        yield dot_stuff(piece) if line_start else dot_stuff(b" " + piece)[1:]
        start, line_start = end, piece.endswith(b"\n")


def stuffed(head: bytes, content: Iterator[bytes], dots: bool = True) -> Iterator[bytes]:
    """A header and its content, whose lines end in CRLF, as they are sent after DATA, without the final dot.

    `dots`: a line of the content may begin with one.
    """
    yield dot_stuff(head)
    last = head[-2:]
    for piece in content:
        end = (last + piece[-2:])[-2:]
        if not dots:
            yield piece
            last = end
            continue
        if piece.startswith(b".") and last == b"\r\n":
            yield b"."
        elif piece.startswith(b"\n.") and last.endswith(b"\r"):
            piece = b"\n." + piece[1:]
        yield piece.replace(LINE_DOT, b"\r\n..") if has_line_dot(piece) else piece
        last = end
    if last != b"\r\n":
        yield b"\r\n"


def crlf(source: bytes) -> bytes:
    """With CRLF for each line end; it gets none at its own end."""
    # The decoder notes which line ends it saw, in one pass: 2.6 microseconds for 4 KB, against 6.4 for counting
    # CR, LF and CRLF, and 119 for a search with the expression.
    decoder = io.IncrementalNewlineDecoder(None, translate=False)
    if len(source) <= PASS:
        decoder.decode(source.decode("latin-1"), final=True)  # type: ignore[arg-type]
    else:
        _look_through(decoder, source)
    if decoder.newlines == "\r\n" or decoder.newlines is None:
        return source
    # Three passes; one with an expression holds the loop for seconds where 100 MB are bare line ends.
    return source.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def _look_through(decoder: io.IncrementalNewlineDecoder, source: bytes) -> None:
    """In pieces: a text of all of it would be as large again."""
    octets = memoryview(source)
    for start, end in uneven(source):
        decoder.decode(str(octets[start:end], "latin-1"), final=True)  # type: ignore[arg-type]


def uneven(source: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """The parts of it without its runs of lines that have one length, and CRLF: those are 4 times as quickly seen.

    Most of what is large is base64 (RFC 2045 6.8), which consists of them. A part ends with a line, or after STEP
    bytes, and never between CR and LF.
    """
    size = len(source) if end is None else end
    while start < size:
        run = _run(source, start, size)
        if run > start:
            start = run
            continue
        stop = min(start + STEP, size)
        if stop < size:
            stop = source.rfind(b"\n", start, stop) + 1 or stop + (source[stop - 1 : stop] == b"\r")
        yield start, stop
        start = stop


def _run(source: bytes, start: int, size: int) -> int:
    """Where the run ends that begins with the line at `start`; `start`: none does."""
    width = source.find(b"\n", start, min(start + WIDEST, size)) + 1 - start
    if width < 2 or source[start + width - 1 : min(start + FIRST * width, size) : width] != b"\n" * FIRST:
        return start
    end = start + min(size - start, RUN) // width * width
    lines = min(_leading(source[start + width - 1 : end : width], b"\n"),
                _leading(source[start + width - 2 : end : width], b"\r"))  # fmt: skip
    text = bytearray(memoryview(source)[start : start + lines * width])
    del text[width - 1 :: width], text[width - 2 :: width - 1]
    return start if b"\n" in text or b"\r" in text else start + lines * width


def _leading(ends: bytes, end: bytes) -> int:
    """How many of them, from the first on, are this one."""
    return len(ends) if ends == end * len(ends) else len(ends) - len(ends.lstrip(end))


def _cut(source: bytes, start: int, end: int) -> int:
    """Where a piece ends: after a line where there is one, and never within a CRLF."""
    if end >= len(source):
        return len(source)
    if newline := source.rfind(b"\n", start, end) + 1:
        return newline
    return end - 1 if source[end - 1 : end] == b"\r" else end
