"""What the octets of an SMTP client mean, by RFC 5321 alone: which message each 250 was for. Beside the program's own
reading, so that where the two differ something is wrong."""

from __future__ import annotations

import re
from typing import NamedTuple

_REPLY = re.compile(rb"(?:(\d\d\d)-[^\r\n]*\r\n)*(\d\d\d) ([^\r\n]*)\r\n")
_QUEUED = re.compile(rb"^250[ -]2\.0\.0 Queued as (.*)\r\n", re.MULTILINE)
_LINE_END = re.compile(rb"\r\n|\r|\n")
_HEAD = re.compile(rb"X-Number: [0-9.]+\r\nSubject: fuzz\r\n\r\n")
_CLOSES = (b"421", b"221")


class MeantMessage(NamedTuple):
    """A message that was answered 250.

    Attributes:
        ids: one for each recipient.
        content: as it was sent, before the end and with its dots.
    """

    ids: list[str]
    content: bytes

    @property
    def transaction(self) -> str:
        """The id that all of them have in common: that of Received."""
        return self.ids[0] if len(self.ids) == 1 else self.ids[0].rpartition(".")[0]

    def is_in(self, message: bytes) -> bool:
        """Whether what a receiver got, dots and all, has this body; not compared where the header was damaged."""
        if not (head := _HEAD.match(self.content)):
            return True
        body = _lines(self.content)[head.end() :]
        return _unstuffed(message).partition(b"\r\n\r\n")[2] == body


def _lines(content: bytes) -> bytes:
    """Dots unstuffed where a line begins by RFC 5321 2.3.8, then every line end CRLF."""
    return _LINE_END.sub(b"\r\n", _unstuffed(content))


def _unstuffed(content: bytes) -> bytes:
    return re.sub(rb"(\A|\r\n)\.", rb"\1", content)


def meant(sent: bytes, said: bytes, greeted: bool) -> list[MeantMessage]:
    """The messages that were taken.

    Args:
        sent: all that the client sent.
        said: all that the server answered.
        greeted: `said` begins with the greeting.

    Raises:
        ValueError: the two do not fit together; the text says where.
    """
    replies = _replies(said)
    if greeted and replies and replies[0][:3] == b"220":
        replies.pop(0)
    taken: list[MeantMessage] = []
    rest = sent
    for number, reply in enumerate(replies):
        code = reply[:3]
        if code in _CLOSES or b"This is an SMTP server" in reply or b"too long" in reply:
            break
        if number and replies[number - 1][:3] == b"354":
            content, found, rest = _content(rest)
            if not found:
                raise ValueError(f"{reply!r} to a message without an end")
            if queued := _QUEUED.findall(reply):
                taken.append(MeantMessage([name.decode() for line in queued for name in line.split()], content))
            continue
        line, ended, rest = rest.partition(b"\n")
        if not ended:
            raise ValueError(f"{reply!r} to no line")
        if b"Queued as" in reply:
            raise ValueError(f"{reply!r} to the line {line!r}")
        if line.strip().upper() == b"STARTTLS" and code == b"220":
            break
    return taken


def _content(octets: bytes) -> tuple[bytes, bool, bytes]:
    """Up to CRLF.CRLF; a message may begin with its end."""
    if octets.startswith(b".\r\n"):
        return b"", True, octets[3:]
    content, found, rest = octets.partition(b"\r\n.\r\n")
    return content + b"\r\n", bool(found), rest


def _replies(said: bytes) -> list[bytes]:
    """One after the other, each with all its lines."""
    found, at = [], 0
    while at < len(said):
        reply = _REPLY.match(said, at)
        if reply is None:
            raise ValueError(f"no reply: {said[at : at + 100]!r}")
        found.append(reply[0])
        at = reply.end()
    return found
