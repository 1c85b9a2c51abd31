"""The server's side of SMTP without I/O: octets in, events and replies out.

The owner gives what came to `receive`, asks `next_event` what it means, answers each command with `accept` or
`refuse`, and sends what `output` gives. What may come when is the table of `states`. What is no command, too long or
out of order raises `Refusal`, for the owner to report and to give to `refuse`.

Bounds: LONGEST octets without a line end, MOST_ERRORS, MOST_LINES; of a message what the owner leaves in `content`.
"""

from __future__ import annotations

import re
from collections import deque

import msgspec

from pipeline.smtp.server.content import ContentReader
from pipeline.smtp.server.refusal import Refusal
from pipeline.smtp.server.states import IDLE, TABLE, VERBS, WITHOUT_PARAMETER, State

MOST_ERRORS = 20  # negative 5xx answers in one session
MOST_LINES = 5000  # commands without a message that was taken; a transaction has about a thousand
LONGEST = 32768  # octets that are looked through for the end of a line
LONGEST_LINE = 4096  # RFC 5321 4.5.3.1.4 asks for 512, and more for extensions
LONGEST_AUTH = 12288  # RFC 4954 4

_LINE = re.compile(rb"[^\r\n\0]*\r\n").fullmatch
_FOREIGN = re.compile(r"GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|CONNECT|PRI|.*:.*|SSH-.*", re.DOTALL).fullmatch
# Verbs of SMTP that are not offered; any other word before EHLO is another protocol.
_KNOWN = frozenset(
    ["EXPN", "TURN", "ETRN", "ATRN", "BDAT", "BURL", "LHLO", "SEND", "SOML", "SAML", "XCLIENT", "XFORWARD"]
) | {""}
_BEGINS = re.compile(rb"[A-Za-z\s]").match
_NO_SMTP = "500 5.5.1 This is an SMTP server"


class CommandLine(msgspec.Struct, frozen=True):
    """A command that may come now. `accept` or `refuse` it."""

    verb: str
    argument: str


class ChallengeAnswer(msgspec.Struct, frozen=True):
    """The line that `challenge` asked for."""

    line: bytes


class MailData(msgspec.Struct, frozen=True):
    """So many octets of the message have come. `accept` or `refuse` it once it is whole.

    Attributes:
        octets: how many.
        whole: what is left of it in memory, dots still stuffed, its last CRLF included; None before its end.
        dots: a line of it may begin with a dot.
    """

    octets: int
    whole: bytes | None
    dots: bool


class ServerProtocol:
    """One session.

    Attributes:
        line: the command line that was read last, b"" where it was none.
        verb: its verb, also where it was refused.
        content: of the message that comes now, what is in memory.
    """

    def __init__(self) -> None:
        self.state = State.CONNECTED
        self.line, self.verb = b"", ""
        self.content = ContentReader()
        self._next = State.CONNECTED  # once the command is accepted
        self._in, self._at = b"", 0
        self._later: deque[bytes] = deque()  # what came of a message while `_in` was not read yet: it is not copied
        self._out: list[bytes] = []
        self._fresh = True
        self._errors = self._lines = 0

    # -- octets in, events out

    def receive(self, data: bytes) -> None:
        """Octets have come."""
        if self._at == len(self._in):
            self._in, self._at = data, 0
        elif self.state is State.CONTENT:
            self._later.append(data)
        else:
            self._in, self._at = self._in[self._at :] + data, 0

    @property
    def waiting(self) -> int:
        """Octets that were received and not read yet."""
        return len(self._in) - self._at + sum(map(len, self._later))

    def next_event(self) -> CommandLine | ChallengeAnswer | MailData | None:
        """What has come next; None: it has not come whole. Raises `Refusal`."""
        self.line, self.verb = b"", ""
        if self.state is State.CONTENT:
            return self._message()
        if self._fresh and self.waiting:
            self._fresh = False
            if not _BEGINS(self._in):  # TLS, a database, a scanner
                raise Refusal(_NO_SMTP, close=True)
        line = self._read_line()
        if not line or self.state is State.CLOSED:
            return None
        if self.state is State.CHALLENGED:
            self.state = State.READY
            if len(line) > LONGEST_AUTH:
                raise Refusal("500 5.5.6 The line is too long", close=True)
            return ChallengeAnswer(line)
        return self._command(line)

    def _read_line(self) -> bytes:
        """The next line with its LF; b"" where it has not come whole."""
        start, end = self._at, self._in.find(b"\n", self._at) + 1
        if (end or len(self._in)) - start > LONGEST:
            kind = "5.5.6" if self.state is State.CHALLENGED else "5.5.2"  # RFC 4954 4
            raise Refusal(f"500 {kind} The line is too long", close=True)
        if not end:
            return b""
        self._at = end
        return self._in[start:end]

    def _command(self, line: bytes) -> CommandLine:
        self.line = line
        verb, argument = self._parsed(line)
        answer = TABLE[self.state].get(verb)
        if answer is None:
            raise Refusal("500 5.5.1 The command is not known")
        self.verb = verb
        self._lines += 1
        if self._lines > MOST_LINES:
            raise Refusal("421 4.7.0 Too many commands without a message", close=True)
        if argument and verb in WITHOUT_PARAMETER:
            raise Refusal(f"501 5.5.4 {verb} takes no parameter")
        if isinstance(answer, str):
            raise Refusal(answer)
        self._next = answer
        return CommandLine(verb, argument)

    def _parsed(self, line: bytes) -> tuple[str, str]:
        """The verb and the rest; raises `Refusal`, and hangs up on what is another protocol.

        A web page can make a browser send any text to any port, behind the line of its own that comes first.
        """
        strange = self.state is State.CONNECTED
        try:
            verb, argument = parsed(line)
        except Refusal as refusal:
            raise Refusal(refusal.reply, close=strange) from None
        if (strange and verb not in VERBS and verb not in _KNOWN) or _FOREIGN(verb):
            raise Refusal(_NO_SMTP, close=True)
        return verb, argument

    def _message(self) -> MailData | None:
        chunk = self._in[self._at :]
        if not chunk:
            return None
        left = self.content.feed(chunk)
        if left is None:
            self._in, self._at = self._later.popleft() if self._later else b"", 0
            return MailData(len(chunk), None, self.content.dots)
        self._in, self._at = b"".join([chunk[len(chunk) - left :], *self._later]), 0
        self._later.clear()
        self.state = self._next = State.RECEIVED
        return MailData(len(chunk), self.content.take(), self.content.dots)

    # -- replies

    def accept(self, reply: bytes) -> None:
        """The command is done, or the message taken: the session goes on to its next state."""
        self.say(reply)
        if self.state is State.RECEIVED:
            self._move(State.READY)
            self._lines = 0
        else:
            self._move(self._next)

    def refuse(self, refusal: Refusal) -> bytes:
        """The command or the message is refused; what is said. Too many refusals for good end the session."""
        self._errors += refusal.code >= 500
        if self._errors > MOST_ERRORS:
            refusal = Refusal("421 4.7.0 Too many errors", close=True)
        said = self.say(refusal.reply.encode())
        if refusal.close or self.state is State.CONTENT:  # what is left of a message is never read as commands
            self._move(State.CLOSED)
        elif self.state is State.RECEIVED:
            self._move(State.READY)
        return said

    def challenge(self, text: str) -> bytes:
        """Ask for a line (RFC 4954 4); `text` is base64 already."""
        self._move(State.CHALLENGED)
        return self.say(f"334 {text}".encode())

    def say(self, reply: bytes) -> bytes:
        """A reply, or several lines of one; nothing once the session is closed."""
        if self.state is not State.CLOSED:
            self._out += (reply, b"\r\n")
        return reply

    def close(self, line: bytes) -> None:
        """Say `line` and no more."""
        self.say(line)
        self._move(State.CLOSED)

    def _move(self, state: State) -> None:
        if self.state is State.CLOSED:
            return
        self.state = state
        if state is State.CONTENT:
            self.content = ContentReader()

    def output(self) -> bytes:
        """What is to be sent now."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    # -- the connection

    @property
    def idle(self) -> bool:
        """Between two transactions."""
        return self.state in IDLE

    @property
    def closed(self) -> bool:
        """Nothing is read or said any more."""
        return self.state is State.CLOSED

    def forget(self) -> bytes:
        """What came and was not read is never read: of a client that sends on behind STARTTLS (RFC 3207 4.2)."""
        rest = b"".join([self._in[self._at :], *self._later])
        self._in, self._at = b"", 0
        self._later.clear()
        return rest


def parsed(line: bytes) -> tuple[str, str]:
    """(verb in capitals, the rest) of a command line; raises `Refusal`."""
    if not _LINE(line):
        raise Refusal("500 5.5.2 A command ends in CRLF, and holds no other CR, LF or NUL")
    words = line.split(None, 1)
    verb = words[0].decode(errors="replace").upper() if words else ""
    if len(line) > (LONGEST_AUTH if verb == "AUTH" else LONGEST_LINE):
        raise Refusal("500 5.5.2 The line is too long")
    try:
        arg = words[1].decode(errors="replace" if verb in ("EHLO", "HELO") else "strict") if len(words) == 2 else ""
    except UnicodeDecodeError:
        raise Refusal("500 5.5.2 A command is ASCII or UTF-8") from None
    return verb, arg.strip(" \t\r\n")
