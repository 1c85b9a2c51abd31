"""replies: what a receiver's answer means. The one table for it, and the parser that finds the answers.

Nothing here does I/O. `ReplyParser` owns the answer that has not come whole yet, at most MAX_REPLY bytes of it.
What is no answer by RFC 5321 4.2 becomes a reply with the code GARBLED, so that it is classified by the same table.
"""

from __future__ import annotations

import re

from operators.outcome import Next

MAX_LINE = 8192  # bytes; RFC 5321 4.5.3.1.5 allows 512, receivers send more
MAX_LINES = 100
MAX_REPLY = MAX_LINE * 4
MAX_TEXT = 4000  # characters of a description
GARBLED = 0

# The first digit -> (result, what becomes of the message). One row for what a stage waits for, one for each rest.
_REFUSED = {
    4: ("error", Next.RETRY),
    5: ("error", Next.FAIL),
}
_STRANGE = ("invalid", Next.RETRY)  # no answer at all, or one that makes no sense there
_ACCEPTED = ("accepted", Next.DELIVERED)  # short of the stage `message`: the dialogue goes on

# What each stage waits for (RFC 5321 4.3.2). Whatever is not listed here or above is strange.
_AWAITED = {
    "intro": 2,
    "ehlo": 2,
    "helo": 2,
    "starttls": 2,
    "auth": 2,
    "rset": 2,
    "mailfrom": 2,
    "rcptto": 2,
    "data": 3,
    "message": 2,
}
_TABLE = {
    stage: tuple(_ACCEPTED if digit == awaited else _REFUSED.get(digit, _STRANGE) for digit in range(10))
    for stage, awaited in _AWAITED.items()
}
CLOSING = 421  # at any stage: the receiver closes the connection (RFC 5321 3.8)


def classify(stage: str, code: int) -> tuple[str, Next]:
    """What an answer means at a stage: the outcome's `result` and `next`. The code alone decides, not its text.

    Args:
        stage: what it answers; one of the outcome's states, or `rset`.
        code: the SMTP code; GARBLED for what is no answer.
    """
    return _TABLE[stage][code // 100]


class Reply:
    """One answer: its code, and its lines' texts as received, without codes and line ends."""

    __slots__ = ("code", "lines")

    def __init__(self, code: int, lines: list[bytes]) -> None:
        self.code = code
        self.lines = lines

    @property
    def status(self) -> str | None:
        """The enhanced status code (RFC 3463) that its text begins with, as received."""
        found = _STATUS.match(self.lines[0])
        return found[1].decode() if found else None

    @property
    def description(self) -> str:
        """The text in one line, without the enhanced status; what cannot be shown is replaced."""
        first = self.lines[0]
        if found := _STATUS.match(first):
            first = first[found.end() :]
        if len(self.lines) == 1:
            return _shown(first)
        status = found[0] if found else None
        rest = (line[len(status) :] if status and line.startswith(status) else line for line in self.lines[1:])
        return _shown(b" ".join((first, *rest)))


class ReplyParser:
    """Finds the answers in what arrives, however it is cut."""

    __slots__ = ("_code", "_lines", "_rest", "_size")

    def __init__(self) -> None:
        self._rest = b""
        self._code = b""
        self._lines: list[bytes] = []
        self._size = 0

    @property
    def partial(self) -> bool:
        """Part of an answer has come."""
        return bool(self._rest or self._lines)

    def feed(self, data: bytes) -> list[Reply]:
        """The answers that are whole now. After one with the code GARBLED there are no more."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        replies: list[Reply] = []
        for line in lines:
            found = _LINE(line)
            if found is None:
                return [*replies, self._garbled(line)]
            code, more, text = found.groups(b"")
            if more == b"-" or self._lines:
                if not self._takes(code, text):
                    return [*replies, self._garbled(line)]
                if more == b"-":
                    continue
                replies.append(Reply(int(code), self._lines))
                self._lines, self._size = [], 0
            else:
                replies.append(Reply(int(code), [text]))
        if len(self._rest) > MAX_LINE:
            replies.append(self._garbled(self._rest))
        return replies

    def _takes(self, code: bytes, text: bytes) -> bool:
        """Add a line to the answer under way; False where they do not belong together, or it grows too long."""
        if not self._lines:
            self._code = code
        self._lines.append(text)
        self._size += len(text)
        return self._code == code and len(self._lines) <= MAX_LINES and self._size <= MAX_REPLY

    def _garbled(self, line: bytes) -> Reply:
        lines, self._lines, self._rest, self._size = self._lines, [], b"", 0
        if lines and _LINE(line):
            return Reply(GARBLED, [b"lines of one answer do not belong together: " + line[:200]])
        return Reply(GARBLED, [b"no SMTP answer: " + line[:200]])


# RFC 5321 4.2 allows 2-5, 0-5, 0-9; a second digit above 5 occurs in the wild, and does no harm.
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])([^\r]*))?\r?").fullmatch
_STATUS = re.compile(rb"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[ \t]+|$)")


def _shown(text: bytes) -> str:
    shown = text[:MAX_TEXT].decode("utf-8", "replace").strip()
    if not shown.isprintable():
        shown = "".join(character if character.isprintable() else "\ufffd" for character in shown)
    return shown
