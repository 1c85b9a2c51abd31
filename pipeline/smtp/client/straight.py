"""A content that goes from its file to the socket without a copy in our memory (sendfile(2)).

For connections in plain text, and contents without a dot to be doubled. Owns nothing, and holds no descriptor while it
waits for the receiver. The transport has nothing to send whenever it is asked for more: what it had came before.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from operators.mail.message import Content
from operators.mail.wire import dot_stuff

PIECE = 65_536  # bytes that the transport gets where the socket is full: it tells when there is room again

Sent = bytes | int  # what is to be sent, or how many bytes of it have been


def straight(head: bytes, content: Content, socket: int) -> Iterator[Sent]:
    """As `stuffed`. `socket`: its descriptor; only used while the transport is not closing. Raises OSError."""
    yield dot_stuff(head)
    file, at, left = content.place
    while left:
        sent, piece = _send(socket, file, at, left)
        yield sent
        if piece:
            yield piece
        at, left = at + sent + len(piece), left - sent - len(piece)


def _send(socket: int, path: str, at: int, left: int) -> tuple[int, bytes]:
    """(bytes that the socket has taken, what comes next where it takes no more)."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sent = 0
        while sent < left:
            try:
                more = os.sendfile(socket, file, at + sent, left - sent)
            except OSError:  # it is full, or gone: the transport will see
                return sent, _read(path, file, at + sent, min(PIECE, left - sent))
            if not more:
                raise OSError(errno.EIO, "is shorter than the queue knows it", path)
            sent += more
        return sent, b""
    finally:
        os.close(file)


def _read(path: str, file: int, at: int, size: int) -> bytes:
    found = os.pread(file, size, at)
    if len(found) != size:
        raise OSError(errno.EIO, "is shorter than the queue knows it", path)
    return found
