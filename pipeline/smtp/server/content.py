"""The content of DATA: read from the wire, cleaned, stamped. Bounded by `smtp-maxsize` and by `Room`.

Only CRLF.CRLF ends a message (RFC 5321 4.1.1.4). A bare CR or LF is never an end and never begins a line for dot
unstuffing; what is left of them is made CRLF before the message is queued, so that no server after us can read an
end into it (SMTP smuggling). A message with NUL is refused (RFC 5322 4).
"""

from __future__ import annotations

import asyncio
import re
from collections import deque

from operators.mail import long_lines
from operators.mail.message import InvalidMessage
from operators.mail.wire import LINE_DOT, dot_unstuff, has_line_dot
from pipeline.smtp.server.refusal import Refusal

CHUNK = 65536  # octets of memory taken at once
SMALL = 4096  # octets; pieces below that are put together: each object takes 50 octets more
MEMORY = 16 * CHUNK  # octets of a message that wait in memory until it is complete; see `Spill`
MOST_RECEIVED = 100  # Received fields; more are a loop (RFC 5321 6.3)
_END = b"\r\n.\r\n"
_REPORT = re.compile(rb"\r\ncontent-type[ \t]*:[ \t\r\n]*multipart/report\b", re.IGNORECASE).search
_RECEIVED = re.compile(rb"\r\nreceived[ \t]*:", re.IGNORECASE)


class Room:
    """Memory for messages on their way in, shared by all sessions: at most `size` octets.

    Who finds none waits in line for `patience` seconds, and is then refused with 452.
    """

    def __init__(self, size: int, patience: float = 100.0) -> None:
        self.size = size
        self.used = 0
        self._patience = patience
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()

    def try_take(self, octets: int) -> bool:
        """Take it where it is free. Goes before those who wait: a message begun is better ended than another begun."""
        if self.used + octets > self.size:
            return False
        self.used += octets
        return True

    async def take(self, octets: int) -> None:
        """Take it, waiting in line where it is not free; raises `Refusal` after `patience` seconds."""
        if not self._line and self.try_take(octets):
            return
        turn = asyncio.get_running_loop().create_future()
        self._line.append((octets, turn))
        try:
            async with asyncio.timeout(self._patience):
                await turn
        except BaseException as error:
            self._leave(octets, turn)
            if isinstance(error, TimeoutError):
                raise Refusal("452 4.3.1 Too many messages are on their way in, try again later") from None
            raise

    def give(self, octets: int) -> None:
        """Give back what was taken."""
        self.used -= octets
        self._call_up()

    def _leave(self, octets: int, turn: asyncio.Future[None]) -> None:
        if (octets, turn) in self._line:
            self._line.remove((octets, turn))
            self._call_up()
        else:  # called up in the very round in which it gave up
            self.give(octets)

    def _call_up(self) -> None:
        while self._line and self.used + self._line[0][0] <= self.size:
            octets, turn = self._line.popleft()
            self.used += octets
            if not turn.done():
                turn.set_result(None)


class Account:
    """What one message takes of the `Room`, and whether it may go on."""

    def __init__(self, room: Room, most: int) -> None:
        self._room = room
        self._most = most
        self._taken = 0
        self.received = 0
        self.dots = True  # a line of it may begin with a dot
        self.refusal: Refusal | None = None

    async def need(self, octets: int) -> None:
        """Have so many octets in all, waiting for them; raises `Refusal`."""
        if octets > self._taken:
            await self._room.take(octets - self._taken)
            self._taken = octets

    def keep(self, octets: int) -> bool:
        """Count what came from the wire; False, and `refusal` says why, where it is too much."""
        self.received += octets
        if self.received > self._most + CHUNK:  # exactly what counts is known only once dots are unstuffed
            self.refusal = too_large(self._most)
        elif self.received > self._taken < MEMORY:
            more = min(-(-(self.received - self._taken) // CHUNK) * CHUNK, MEMORY - self._taken)
            if self._room.try_take(more):
                self._taken += more
            else:
                self.refusal = Refusal("452 4.3.1 Too many messages are on their way in, try again later")
        if self.refusal:
            self.close()
        return self.refusal is None

    def close(self) -> None:
        """Give everything back."""
        self._room.give(self._taken)
        self._taken = 0


def too_large(most: int) -> Refusal:
    """The refusal of a message over `smtp-maxsize` (RFC 1870 6.1)."""
    return Refusal(f"552 5.3.4 The message is larger than {most} octets")


class ContentReader:
    """What a client sends after 354, up to CRLF.CRLF. What comes in large pieces is copied once, by `take`.

    Attributes:
        dots: a line of it may begin with a dot. Real mail has few: then it is looked through once, here.
    """

    def __init__(self) -> None:
        self._parts: list[bytes | bytearray] = []
        self._size = 0
        self._last = b"\r\n"  # octets, taken or not; the end of the line before: a message may begin with its end
        self._whole = False
        self.dots = False

    def __len__(self) -> int:
        return self._size

    def feed(self, chunk: bytes) -> int | None:
        """Take what came; how many octets of it stand behind the end, None where the end has not come."""
        before, self._last = self._last, (self._last + chunk[-4:])[-4:]
        ends = chunk.endswith(_END)
        text = chunk[:-3] if ends else chunk
        if LINE_DOT in before + chunk[:2] or has_line_dot(text):
            return self._search(before + chunk, len(before))
        self._add(text)
        self._whole = ends
        return 0 if ends else None

    def _search(self, seen: bytes, new: int) -> int | None:
        """The same where a line begins with a dot, or seems to; what came before `new` was looked at already."""
        dot = seen.find(LINE_DOT)
        end = seen.find(_END, dot) if dot >= 0 else -1
        self.dots = self.dots or dot != end
        if end < 0:
            self._add(seen[new:])
            return None
        self._whole = True
        if end + 2 >= new:
            self._add(seen[new : end + 2])
        else:
            self._cut(new - end - 2)
        return len(seen) - end - 5

    def _add(self, octets: bytes) -> None:
        self._size += len(octets)
        if len(octets) >= SMALL:
            self._parts.append(octets)
        elif self._parts and isinstance(last := self._parts[-1], bytearray):
            last += octets
        else:
            self._parts.append(bytearray(octets))

    def _cut(self, octets: int) -> None:
        """So many at the end belonged to the end of the message."""
        data = b"".join(self._parts)
        self._parts = [data[: max(0, len(data) - octets)]]
        self._size = len(self._parts[0])

    def take(self) -> bytes:
        """What is there, as it came: all that is left with its last CRLF, or what can be no part of the end."""
        data = b"".join(self._parts)
        self.drop()
        held = 0 if self._whole else min(_begun(self._last), len(data))
        if held:
            self._add(data[-held:])
        return data[:-held] if held else data

    def drop(self) -> None:
        """Forget what is there."""
        self._parts, self._size = [], 0


def _begun(last: bytes) -> int:
    """How many of the last octets may be the beginning of the end."""
    return next((size for size in (4, 3, 2, 1) if _END.startswith(last[-size:]) and len(last) >= size), 0)


def plain(raw: bytes, begins: bool = True, dots: bool = True) -> bytes:
    """Octets without their stuffed dots (RFC 5321 4.5.2); `begins`: they begin a line; `dots`: some line may.

    Raises:
        Refusal: they hold NUL.
    """
    if b"\0" in raw:
        raise Refusal("554 5.6.0 The message holds a NUL octet, which mail may not (RFC 5322)")
    return dot_unstuff(raw, begins) if dots else raw


def fitted(data: bytes, way: str, for_us: bool) -> bytes:
    """The message without lines over 998 octets, by the key `long-lines`; its `x-mq-*` fields may be long, if `for_us`.

    Raises:
        Refusal: it has one that cannot be encoded.
    """
    try:
        return long_lines.fitted(data, way, for_us)
    except InvalidMessage as error:
        raise Refusal(f"550 5.6.0 {str(error).replace('mime: l', 'L', 1)}") from None


def is_report(head: bytes) -> bool:
    """Whether the message is a report: of a delivery, a disposition, abuse (RFC 6522)."""
    return _REPORT(b"\r\n" + head) is not None


def refuse_loop(head: bytes) -> None:
    """Raises `Refusal` where the message has been received too often (RFC 5321 6.3)."""
    if head.count(b":") > MOST_RECEIVED and len(_RECEIVED.findall(b"\r\n" + head)) > MOST_RECEIVED:
        raise Refusal(f"554 5.4.6 More than {MOST_RECEIVED} Received fields: the message goes in a circle")
