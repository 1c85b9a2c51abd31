"""A large message on its way from the disk to the queue: read, cleaned and written as JSON in pieces.

For a broker it is in memory once, as the body that is queued; for the embedded queue its content goes into a file, and
never is. A small one goes through memory whole, see `Session`. What comes of both is the same,
octet for octet. Runs in a thread, but for the header, which is bounded by the message.
"""

from __future__ import annotations

import binascii
import codecs
import io
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import IO

import msgspec

from operators.mail.head import length, settled
from operators.mail.long_lines import HasLongLine, LineLengths, first_long
from operators.mail.wire import crlf
from pipeline.smtp.server.content import plain, too_large

PIECE = 262_144  # octets read at once
_EMPTY_LINE = re.compile(rb"(?:\A|\n)\r*\n")
_encode = msgspec.json.Encoder().encode


class LargeMessage:
    """A message in a file, as it came.

    Args:
        file: its octets, dots still stuffed; the last of them are CRLF.
        most: octets that it may have without its dots.
        dots: a line of it may begin with a dot.
        bounded: no line may be longer than 998 octets; where one is, all methods raise `HasLongLine`.
    """

    def __init__(self, file: IO[bytes], most: int, dots: bool = True, bounded: bool = False) -> None:
        self._file, self._most, self._dots, self._bounded = file, most, dots, bounded
        self._rest = b""  # what was read beyond the header
        self._passed = 0  # pieces with the header
        self.head = b""

    def read_head(self) -> bytes:
        """Its header fields, as of `settled`. Raises `Refusal`."""
        found, seen, begin = None, bytearray(), 0
        for piece in self._pieces():
            self._passed += 1
            seen += piece
            if found := _EMPTY_LINE.search(seen, begin):
                break
            begin = max(0, len(seen) - 2)  # an empty line is found from its line before on, or again
            while begin and seen[begin - 1] in b"\r\n":
                begin -= 1
        end = found.end() if found else len(seen)
        top = settled(bytes(seen[:end]))
        size = length(top)
        self._rest = top[size:] + crlf(bytes(seen[end:]))
        if self._bounded and first_long(top, 0, size) >= 0:
            raise HasLongLine
        return top[:size]

    def written(self, opening: bytes, head: bytes) -> bytes:
        """A JSON object that begins with `opening` and ends with the properties of the MIME; `head` is its header.

        Raises:
            Refusal: it is too large, or holds NUL.
        """
        try:
            return self._as_text(opening, head) or self._as_base64(opening, head)
        except UnicodeDecodeError:
            return self._as_base64(opening, head)

    def write_content(self, file: IO[bytes]) -> tuple[bool, bool]:
        """Write what follows the header and its empty line: whether it is ASCII, whether a line may begin with a dot.

        Raises:
            Refusal: it is too large, or holds NUL.
            OSError: the disk takes no more.
        """
        is_ascii = True
        self._dots = self._dots or b"\r\n." in self._rest
        for piece in self._checked(self._rest[2:]):
            left = memoryview(piece)
            while left:
                left = left[file.write(left) :]
            is_ascii = is_ascii and piece.isascii()
        return is_ascii, self._dots

    def _as_text(self, opening: bytes, head: bytes) -> bytes | None:
        """None where JSON needs too much for its escapes; see `mime_properties`."""
        out, read, added = io.BytesIO(), 0, 0
        most = 2 * self._file.seek(0, io.SEEK_END) + len(head)  # octets: each bare line end may become two
        decode = codecs.getincrementaldecoder("utf-8")().decode
        begin = out.write(opening + b',"mime":"')
        for piece in chain(self._source(head), [b""]):
            text = _encode(decode(piece, not piece))
            out.write(memoryview(text)[1:-1])
            read += len(piece)
            added = out.tell() - begin - read
            if 3 * added > most:
                return None
        if 3 * added > read:
            return None
        out.write(b'"}')
        return out.getvalue()

    def _as_base64(self, opening: bytes, head: bytes) -> bytes:
        out, left = io.BytesIO(), b""
        out.write(opening + b',"mime-encoding":"base64","mime":"')
        for piece in self._source(head):
            data = left + piece
            end = len(data) // 3 * 3
            out.write(binascii.b2a_base64(data[:end], newline=False))
            left = data[end:]
        out.write(binascii.b2a_base64(left, newline=False) + b'"}')
        return out.getvalue()

    def _source(self, head: bytes) -> Iterator[bytes]:
        """What is queued."""
        yield head
        yield from self._checked(self._rest)

    def _checked(self, first: bytes) -> Iterator[bytes]:
        """What follows the header, this first."""
        lengths = LineLengths()
        for piece in chain([first], self._cleaned()):
            if self._bounded and lengths.has_long(piece):
                raise HasLongLine
            yield piece

    def _cleaned(self) -> Iterator[bytes]:
        """What follows the pieces with the header."""
        for piece in islice(self._pieces(), self._passed, None):
            clean = crlf(piece)
            self._dots = self._dots or clean is not piece  # another line end may have got a dot behind it
            yield clean

    def _pieces(self) -> Iterator[bytes]:
        """The message without its stuffed dots, cut where no CRLF and no dot is cut off from what it belongs to."""
        self._file.seek(0)
        left, begins, size = b"", True, 0
        while data := self._file.read(PIECE):
            data = left + data
            end = data.rfind(b"\r\n") + 2
            end = end if end > 1 else len(data) - 2
            piece, left = plain(data[:end], begins, self._dots), data[end:]
            begins = data.endswith(b"\r\n", 0, end)
            size += len(piece)
            if size > self._most:
                raise too_large(self._most)
            yield piece


def copies(first: bytes, openings: Sequence[bytes]) -> list[bytes]:
    """The body for each opening, of the one that begins with the first of them."""
    rest = memoryview(first)[len(openings[0]) :]
    return [first, *(b"".join([opening, rest]) for opening in openings[1:])]
