"""The SMTP dialogue as a stream, both ways: what clients and servers say, for whoever watches.

Owner of: the watchers, and the bodies caught for them. Bounds: a watcher gets at most `rate` items a second and is told
how many lines it missed. What it gets are whole connections, as far as they fit: one that it has begun to see goes on
before another begins, and where lines of it are left out all the same, the next line says how many. BODIES bodies of
BODY bytes are kept, and none once nobody watches. While nobody does, sessions and connections compare one attribute
with None for each line (0.03 microseconds). A watcher that fails is let go, and mail does not notice. Nothing secret
gets into a line: what belongs to AUTH is masked before anybody sees it.
"""

from __future__ import annotations

import collections
import itertools
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import msgspec
import reactivex as rx
import structlog
from reactivex import Observable, abc
from reactivex.disposable import Disposable

from operators.deliveries.replies import clean
from operators.mail.wire import dot_unstuff

IN, OUT = "in", "out"  # mail comes in: intake; mail goes out: delivery
CLIENT, SERVER = "client", "server"
RATE = 200  # items a second that a watcher gets, unless it asks for another rate
WINDOW = 1.0  # seconds
BODIES = 20
BODY = 1_000_000  # bytes of a body that are kept
TEXT = 1000  # characters of a line that are shown
FOLLOWED = 200  # connections that a watcher is told of at once
PARTIAL = 8192  # bytes of a reply's line that has not come whole
MASK = "********"

_VERBS = frozenset(
    ("EHLO", "HELO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "HELP", "VRFY", "EXPN", "QUIT", "STARTTLS")
)
_MECHANISMS = frozenset(
    ("PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "XOAUTH2", "OAUTHBEARER", "NTLM", "GSSAPI", "EXTERNAL")
)
_RECIPIENT = re.compile(rb"\s*RCPT\s+TO:\s*<[^>]*@([^>@]*)>", re.IGNORECASE).match

_ids = itertools.count(1)
log = structlog.get_logger("dialogue")


class Conversation(msgspec.Struct, eq=False):
    """One SMTP connection, as far as watchers are told of it. Made with the connection, by whoever holds that.

    Attributes:
        direction: `in` or `out`.
        mta_ip, remote_ip: our address and the other's.
        domain: going out, of the recipient whose mail is on it; coming in, of the last recipient that was named.
        logging_in: going out: AUTH is under way. Coming in: AUTH was tried.
        secrets: what is masked wherever the other side says it.
        challenged: coming in: the client's answer to a challenge is due; nobody is shown that.
        partial: of a line that has not come whole.
    """

    direction: str
    mta_ip: str
    remote_ip: str
    domain: str = ""
    logging_in: bool = False
    secrets: tuple[str, ...] = ()
    challenged: bool = False
    partial: bytes = b""
    id: int = msgspec.field(default_factory=_ids.__next__)


class DialogueObserver(Protocol):
    """Whom sessions and connections tell while somebody watches."""

    def line(self, conversation: Conversation, sender: str, octets: bytes) -> None:
        """`sender`, CLIENT or SERVER, said this: lines, or for a server's replies parts of lines."""

    def body(self, conversation: Conversation, source: bytes) -> None:
        """The message went over the connection."""


class Watched(Protocol):
    """A part that has connections. It looks at `watch` for each line, and tells it where it is not None."""

    watch: DialogueObserver | None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a dialogue, or a folded body.

    Attributes:
        time: epoch seconds.
        connection: the same for all lines of a connection.
        direction: `in` (intake) or `out` (delivery).
        sender: who said it: `client` or `server`. Going out, we are the client.
        text: what was said, secrets masked, not escaped for any page.
        size: bytes of the body, where it is one, else 0.
        caught: the body's number for `DialogueWatch.caught`, else None.
        missed: lines of this connection that were left out just before this one.
    """

    time: float
    connection: int
    direction: str
    sender: str
    text: str
    mta_ip: str
    remote_ip: str
    domain: str
    size: int = 0
    caught: int | None = None
    missed: int = 0


class SkippedLines(msgspec.Struct, frozen=True):
    """So many lines that a watcher had asked for were left out since the last second."""

    time: float
    count: int


class Only(msgspec.Struct, frozen=True):
    """Which lines a watcher asks for; "" is any. A domain may be a part of one; coming in, it is known once a recipient
    has been named.
    """

    direction: str = ""
    mta_ip: str = ""
    domain: str = ""
    remote_ip: str = ""

    def takes(self, conversation: Conversation) -> bool:
        """Whether lines of this connection are asked for."""
        return (
            (not self.direction or self.direction == conversation.direction)
            and (not self.mta_ip or self.mta_ip == conversation.mta_ip)
            and (not self.domain or self.domain.lower() in conversation.domain)
            and (not self.remote_ip or self.remote_ip == conversation.remote_ip)
        )


class Caught(msgspec.Struct, frozen=True):
    """A message that went by: its first BODY bytes, and how many it had."""

    source: bytes
    size: int


class DialogueWatch:
    """The dialogue of several parts.

    Args:
        parts: whose connections.
        scheduler: times the windows of a second.
        clock: epoch seconds.
    """

    def __init__(
        self, parts: Sequence[Watched], scheduler: abc.SchedulerBase, clock: Callable[[], float] = time.time
    ) -> None:
        self._parts, self._scheduler, self._clock = parts, scheduler, clock
        self._watchers: tuple[_Watcher, ...] = ()
        self._bodies: collections.OrderedDict[int, Caught] = collections.OrderedDict()

    @property
    def lines(self) -> Observable[Line | SkippedLines]:
        """Everything, at RATE."""
        return self.watch()

    def watch(self, only: Only | None = None, rate: int = RATE) -> Observable[Line | SkippedLines]:
        """The lines that are asked for, until disposal; at most `rate` a second, then a `SkippedLines`."""

        def subscribe(
            observer: abc.ObserverBase[Line | SkippedLines], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            watcher = _Watcher(observer, only or Only(), rate, self._scheduler, self._clock)
            self._attend((*self._watchers, watcher))
            return Disposable(lambda: self._leave(watcher))

        return rx.create(subscribe)

    def __len__(self) -> int:
        """Bodies that are kept."""
        return len(self._bodies)

    def caught(self, number: int) -> Caught | None:
        """A body, by the number in its line; None where it has been dropped."""
        return self._bodies.get(number)

    @property
    def kept(self) -> list[int]:
        """The numbers of the bodies that are kept now."""
        return list(self._bodies)

    def _leave(self, watcher: _Watcher) -> None:
        watcher.close()
        self._attend(tuple(one for one in self._watchers if one is not watcher))

    def _attend(self, watchers: tuple[_Watcher, ...]) -> None:
        self._watchers = watchers
        for part in self._parts:
            part.watch = self if watchers else None
        if not watchers:
            self._bodies.clear()

    # -- what sessions and connections tell ---------------------------------------------------------------------------

    def line(self, conversation: Conversation, sender: str, octets: bytes) -> None:
        """See `DialogueObserver`."""
        if sender == SERVER and conversation.direction == OUT:
            octets, _, rest = (conversation.partial + octets).rpartition(b"\n")
            conversation.partial = rest[-PARTIAL:]
        for line in octets.splitlines():
            if conversation.direction == IN:
                self._follow(conversation, sender, line)
            self._tell(conversation, sender, partial(_shown, conversation, sender, line))

    def _follow(self, conversation: Conversation, sender: str, line: bytes) -> None:
        """What is to be known of a client. Nobody hears its answer to a challenge: told, masked, at our next line."""
        if sender == CLIENT:
            if found := _RECIPIENT(line):
                conversation.domain = found[1].decode(errors="replace").lower()
            return
        if conversation.challenged:
            self._tell(conversation, CLIENT, lambda: MASK)
        conversation.challenged = line.startswith(b"334")

    def body(self, conversation: Conversation, source: bytes) -> None:
        """See `DialogueObserver`."""
        number, size = next(_ids), len(source)
        if self._tell(conversation, CLIENT, lambda: f"... {size:,} bytes ...", size, number):
            kept = source[:BODY]  # no copy, where it is all of it
            if conversation.direction == IN:  # as on the wire
                kept = dot_unstuff(kept)
            self._bodies[number] = Caught(kept, size)
            if len(self._bodies) > BODIES:
                self._bodies.popitem(last=False)

    def _tell(
        self, conversation: Conversation, sender: str, text: Callable[[], str], size: int = 0, caught: int | None = None
    ) -> bool:
        """Give it to those who asked for it and have room; whether anybody got it. It is made for them only."""
        line: Line | None = None
        for watcher in self._watchers:
            if watcher.only.takes(conversation) and watcher.admits(conversation.id):
                line = line or _line(self._clock(), conversation, sender, text(), size, caught)
                if not watcher.give(watcher.with_gap(line)):
                    self._leave(watcher)
        return line is not None


class _Watcher:
    """One subscription, and what it may still get in this second."""

    def __init__(
        self,
        observer: abc.ObserverBase[Line | SkippedLines],
        only: Only,
        rate: int,
        scheduler: abc.SchedulerBase,
        clock: Callable[[], float],
    ) -> None:
        self.only = only
        self._observer, self._rate, self._scheduler, self._clock = observer, rate, scheduler, clock
        self._left, self._skipped = rate, 0
        self._missed: collections.OrderedDict[int, int] = collections.OrderedDict()  # by connection that is followed
        self._timer: abc.DisposableBase | None = None

    def admits(self, connection: int) -> bool:
        """Room for one more; else it is counted as skipped. The second half is for connections that have begun."""
        if self._timer is None:
            self._timer = self._scheduler.schedule_relative(WINDOW, lambda *_: self._refill())
        followed = connection in self._missed
        if self._left <= (0 if followed else self._rate // 2):
            self._skipped += 1
            if followed:
                self._missed[connection] += 1
            return False
        if not followed:
            self._missed[connection] = 0
            if len(self._missed) > FOLLOWED:
                self._missed.popitem(last=False)
        self._left -= 1
        return True

    def with_gap(self, line: Line) -> Line:
        """The line, with how many of its connection were left out just before it."""
        missed = self._missed.get(line.connection, 0)
        if not missed:
            return line
        self._missed[line.connection] = 0
        return msgspec.structs.replace(line, missed=missed)

    def _refill(self) -> None:
        skipped, self._skipped, self._left, self._timer = self._skipped, 0, self._rate, None
        if skipped:
            self.give(SkippedLines(self._clock(), skipped))

    def give(self, item: Line | SkippedLines) -> bool:
        """False where it fails: it is a browser's, and mail must not notice."""
        try:
            self._observer.on_next(item)
        except Exception as error:
            log.error("a watcher of the SMTP dialogue failed", exc_info=error)
            return False
        return True

    def close(self) -> None:
        if self._timer is not None:
            self._timer.dispose()


def _line(now: float, conversation: Conversation, sender: str, text: str, size: int, caught: int | None) -> Line:
    return Line(
        time=now,
        connection=conversation.id,
        direction=conversation.direction,
        sender=sender,
        text=text if len(text) <= TEXT else f"{text[:TEXT]}...",
        mta_ip=conversation.mta_ip,
        remote_ip=conversation.remote_ip,
        domain=conversation.domain,
        size=size,
        caught=caught,
    )


def _shown(conversation: Conversation, sender: str, octets: bytes) -> str:
    text = clean(octets, PARTIAL)
    return _said_by_client(conversation, text) if sender == CLIENT else _said_by_server(conversation, text)


def _said_by_client(conversation: Conversation, text: str) -> str:
    """Masked is all that may be of AUTH (RFC 4954): its arguments, its answers, and what is no command after it.

    A client that is refused AUTH and goes on regardless says its password as a command.
    """
    words = text.split(None, 2)
    verb = words[0].upper() if words else ""
    if verb == "AUTH":
        mechanism = words[1] if len(words) > 1 else ""
        if mechanism.upper() in _MECHANISMS:
            return f"{words[0]} {mechanism} {MASK}" if len(words) > 2 else f"{words[0]} {mechanism}"
        return f"{words[0]} {MASK}" if mechanism else text
    if conversation.logging_in and (conversation.direction == OUT or verb not in _VERBS):
        return MASK
    return text if verb in _VERBS or "auth" not in text.lower() else MASK


def _said_by_server(conversation: Conversation, text: str) -> str:
    if text.startswith("334"):
        return f"334 {MASK}"
    for secret in conversation.secrets:
        text = text.replace(secret, MASK)
    return text
