"""replies: what a receiver's answer means. The one table for it, and the parser that finds the answers.

Nothing here does I/O. `ReplyParser` owns the answer that has not come whole yet, at most MAX_REPLY bytes of it.
What is no answer by RFC 5321 4.2 becomes a reply with the code GARBLED, so that it is classified by the same table.

Liberal in what ends a line, in what follows the code and in how much is said; strict in what a code is. For an answer
to a message that is called garbled though it says 250 means a retry, and the mail arrives twice.
"""

from __future__ import annotations

import codecs
import re

from operators.deliveries.outcome import Next

MAX_LINE = 8192  # bytes of a line that are kept; RFC 5321 4.5.3.1.5 allows 512, receivers send more
MAX_KEPT = MAX_LINE * 4  # bytes of an answer of several lines that are kept
MAX_LINES = 10_000  # of one answer: beyond these, and MAX_REPLY, it has no end
MAX_REPLY = 1_000_000  # bytes
MAX_BLANK = 100  # lines of nothing in a row
MAX_TEXT = 4000  # bytes of a description
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
    "authplain": 2,
    "authlogin": 2,
    "authusername": 2,
    "authpassword": 2,
    "authcram": 2,
    "authresponse": 2,
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
BYE = 221  # answers QUIT; to a command of a transaction it is a good-bye that has crossed it


def classify(stage: str, code: int) -> tuple[str, Next]:
    """What an answer means at a stage: the outcome's `result` and `next`. The code alone decides, not its text.

    Args:
        stage: what it answers; one of the outcome's states, or `rset`.
        code: the SMTP code; GARBLED for what is no answer.
    """
    if code == BYE and stage != "message":
        return _STRANGE
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
        """The text in one line, without the enhanced status; clean."""
        first = self.lines[0]
        if found := _STATUS.match(first):
            first = first[found.end() :]
        if len(self.lines) == 1:
            return clean(first)
        status = found[0] if found else None
        rest = (line[len(status) :] if status and line.startswith(status) else line for line in self.lines[1:])
        return clean(b" ".join((first, *rest)))


class ReplyParser:
    """Finds the answers in what arrives, however it is cut.

    CR, LF and any number of them end a line, so a line of nothing says nothing: some servers send CR CR LF, some begin
    their greeting with an empty line. What has no code between the lines of an answer belongs to its text. The lines of
    one answer agree in the first digit of their codes, and the last code counts (RFC 5321 4.2.1).
    """

    __slots__ = ("_blank", "_code", "_count", "_kept", "_lines", "_rest", "_size")

    def __init__(self) -> None:
        self._rest = b""
        self._blank = 0  # lines of nothing since the last one that said something
        self._begin()

    def _begin(self) -> None:
        self._code = b""  # of the answer under way; empty: none is
        self._lines: list[bytes] = []
        self._count = self._size = self._kept = 0

    @property
    def partial(self) -> bool:
        """Part of an answer has come."""
        return bool(self._rest or self._code)

    def feed(self, data: bytes) -> list[Reply]:
        """The answers that are whole now. After one with the code GARBLED there are no more."""
        whole = self._rest + data
        lines = whole.splitlines()  # of bytes: CR, LF, CRLF
        self._rest = lines.pop() if lines and whole[-1] not in b"\r\n" else b""
        replies: list[Reply] = []
        for line in lines:
            if (reply := self._line(line)) is not None:
                replies.append(reply)
                if reply.code == GARBLED:
                    return replies
        if len(self._rest) > MAX_LINE and (reply := self._cut()) is not None:
            replies.append(reply)
        return replies

    def _line(self, line: bytes) -> Reply | None:
        """Take a line; returns the answer that it ends."""
        found = _LINE(line)
        if found is None:
            if line.isspace() or not line:
                self._blank += 1
                return None if self._blank <= MAX_BLANK else self._garbled(line)
            return None if self._code and self._keeps(line) else self._garbled(line)
        self._blank = 0
        code, more, text = found.groups(b"")
        if self._code:
            if code[:1] != self._code[:1]:
                return self._garbled(line)
        elif more != b"-":
            return Reply(int(code), [text])
        self._code = code
        if not self._keeps(text):
            return self._garbled(line)
        if more == b"-":
            return None
        lines = self._lines
        self._begin()
        return Reply(int(code), lines)

    def _keeps(self, text: bytes) -> bool:
        """Add a line to the answer under way, or to what is only counted; False where it has no end."""
        if self._kept <= MAX_KEPT:
            self._lines.append(text[:MAX_LINE])
            self._kept += len(text) + 1
        self._count += 1
        self._size += len(text)
        return self._count <= MAX_LINES and self._size <= MAX_REPLY

    def _cut(self) -> Reply | None:
        """Keep the beginning of a line that is too long, and count the rest."""
        self._size += len(self._rest) - MAX_LINE
        if self._size > MAX_REPLY or (not self._code and _LINE(self._rest) is None):
            return self._garbled(self._rest)
        self._rest = self._rest[:MAX_LINE]
        return None

    def last(self) -> Reply | None:
        """What there is of an answer whose end does not come any more; its code stands in its first bytes."""
        found = _LINE(self._rest)
        if found is None and not self._code:
            return None
        code, _, text = found.groups(b"") if found is not None else (self._code, b"", b"")
        if self._code and code[:1] != self._code[:1]:
            return None
        return Reply(int(code), [*self._lines, text] if text or not self._lines else self._lines)

    def _garbled(self, line: bytes) -> Reply:
        code, count = self._code, self._count
        self._rest = b""
        self._begin()
        if not code or _LINE(line) is None:
            return Reply(GARBLED, [b"no SMTP answer: " + line[:200]])
        if count > MAX_LINES or line[:1] == code[:1]:
            return Reply(GARBLED, [b"an answer without end: " + line[:200]])
        return Reply(GARBLED, [b"lines of one answer do not belong together: " + line[:200]])


# RFC 5321 4.2 allows 2-5, 0-5, 0-9; a second digit above 5 occurs in the wild, and does no harm.
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ \t-])(.*))?", re.DOTALL).fullmatch
_STATUS = re.compile(rb"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[ \t]+|$)")


def clean(text: bytes | str, most: int = MAX_TEXT) -> str:
    """A stranger's text as one line that can be shown, encoded and logged: UTF-8, else Latin-1, and no controls.

    Args:
        text: as it came.
        most: bytes, or characters, of it that are used.
    """
    shown = (_decoded(text, most) if isinstance(text, bytes) else text[:most]).strip()
    if not shown.isprintable():
        shown = "".join(_printable(character) for character in shown)
    return shown


def _decoded(text: bytes, most: int) -> str:
    try:
        if len(text) <= most:
            return text.decode()
        return codecs.utf_8_decode(text[:most], "strict", False)[0]  # but for a character that the cut goes through
    except UnicodeDecodeError:
        return text[:most].decode("latin-1")


def _printable(character: str) -> str:
    return character if character.isprintable() else " " if character.isspace() else "\ufffd"
