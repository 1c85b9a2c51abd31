"""Signers: the processes that make DKIM signatures, from the event loop's side.

A thread would do too, were it not for the interpreter's lock: RSA-2048 takes 0.25 ms, and to hand a message to a thread
and back cost the loop as much again. Sending it to a process and back costs 0.03 ms, and there it is another core's.
Messages go there through a ring, answers come back through a pipe: with a pipe both ways signed mail was 5 % slower.

Owns the processes, and the rings. A process starts with the first message, a further one where all the others have BUSY
messages waiting, MOST at most. Bounds: a message for each connection is on its way, in the ring or, where that is full,
in our memory; and each process keeps KEYS keys, the longest unused forgotten. Where a process ends by itself, what it
had is answered with `Unsigned` (and so is tried again later), that is said, and a new one starts, AGAIN seconds after
the last one at the soonest, and LAST where none of them comes to sign anything.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from operators.deliveries.events import Event, Fault
from operators.mail.dkim import Key
from operators.mail.message import Content
from pipeline.process.children import Child, ChildFailed, ChildKind
from pipeline.process.ring import Inlet
from pipeline.process.supervisor import supervisor
from pipeline.signing.worker import LENGTH, Forget, Keep, Signed, SigningJob, frames

MOST = max(1, min(4, (os.cpu_count() or 1) - 1))  # processes; one core is the event loop's
BUSY = 8  # messages: 2 ms of RSA-2048
KEYS = 1000  # of rules and of messages, in each process: 2 MB
AGAIN, LAST = 1.0, 30.0  # seconds between two starts; twice as many after each process that has signed nothing
SIGNER = ChildKind("signer", "pipeline.signing.worker", outlives=True)
PIECE = 65_536  # bytes that go into a full ring at once, as it empties
LINGER = 5.0  # seconds that it may take to sign what it has, in the end
FEED = 0.001  # seconds between tries to put them there
ROOT = Path(__file__).parents[2]

Done = Callable[[bytes | Exception], None]
_encoder = msgspec.msgpack.Encoder()
_decode = msgspec.msgpack.Decoder(Signed).decode


class Unsigned(Exception):
    """The process that was to sign has ended, or could not do it; says which."""


class Signers:
    """Signs elsewhere.

    Args:
        report: told when a process ends by itself.
        clock: epoch seconds.
    """

    def __init__(self, report: Callable[[Event], None], clock: Callable[[], float] = time.time) -> None:
        self._report, self._clock = report, clock
        self._loop = asyncio.get_running_loop()
        self._running: list[_Signer] = []
        self._useless = 0  # processes in a row that have signed nothing
        self._next = 0.0  # loop time of the next start, at the soonest
        self._closed = False

    @property
    def processes(self) -> int:
        """How many there are."""
        return len(self._running)

    def sign(self, source: bytes, content: Content | None, keys: Sequence[Key], now: float, done: Done) -> None:
        """Calls `done` with the DKIM-Signature fields, or with why there are none."""
        signer = min(self._running, key=lambda signer: signer.waiting, default=None)
        if (signer is None or signer.waiting >= BUSY) and self._may_start():
            signer = self._start() or signer
        if signer is None:
            done(Unsigned("the signer has ended, and starts again soon"))
        else:
            signer.sign(source, content, keys, now, done)

    async def close(self) -> None:
        """Let them end what they have, and end."""
        self._closed = True
        await asyncio.gather(*(signer.close() for signer in self._running))

    def _may_start(self) -> bool:
        return not self._closed and len(self._running) < MOST and self._loop.time() >= self._next

    def _start(self) -> _Signer | None:
        self._next = self._loop.time() + min(AGAIN * 2**self._useless, LAST)
        try:
            signer = _Signer(self._loop, self._ended)
        except (OSError, ChildFailed) as error:
            self._failed(str(error), signed=False)
            return None
        self._running.append(signer)
        return signer

    def _ended(self, signer: _Signer, why: str) -> None:
        self._running.remove(signer)
        if not self._closed:
            self._failed(why, signer.signed)

    def _failed(self, why: str, signed: bool) -> None:
        self._useless = 0 if signed else min(self._useless + 1, 10)
        self._report(Fault(time=self._clock(), where="signer", detail=why))
        supervisor().failed(SIGNER.part, ChildFailed(why))


class _Signer:
    """One process: what it was asked, and which keys it has. Raises OSError and `ChildFailed`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ended: Callable[[_Signer, str], None]) -> None:
        self._loop, self._ended = loop, ended
        self._asked: dict[int, Done] = {}
        self._numbers: collections.OrderedDict[Key, int] = collections.OrderedDict()
        self._last = 0  # number given out, to a job or a key
        self._unsent: collections.deque[memoryview] = collections.deque()  # what has found no room in the ring
        self._received = bytearray()
        self._gone: asyncio.Future[None] = loop.create_future()
        self.signed = False  # anything yet
        self._ring = Inlet()
        try:
            arguments = [str(file) for file in self._ring.files]
            self._child = Child(SIGNER, arguments, self._answered, self._exited, files=self._ring.files, raw=True)
        except ChildFailed:
            self._ring.discard()
            raise

    @property
    def waiting(self) -> int:
        """Messages that it has not signed yet."""
        return len(self._asked)

    def sign(self, source: bytes, content: Content | None, keys: Sequence[Key], now: float, done: Done) -> None:
        """As `Signers.sign`."""
        numbers = [self._number(key) for key in keys]
        self._last += 1
        self._asked[self._last] = done
        self._send(SigningJob(self._last, numbers, now, source, content.place if content is not None else None))

    async def close(self) -> None:
        """Wait until it has done what it was asked, and ended; one that does not within LINGER is killed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._finish(), LINGER)
        if not self._gone.done():
            self._child.kill()
            await self._gone

    async def _finish(self) -> None:
        while self._unsent and not self._gone.done():  # noqa: ASYNC110 - a few ms, once
            await asyncio.sleep(FEED)
        if not self._gone.done():
            self._ring.end()
        await asyncio.shield(self._gone)

    def _exited(self, _: int, why: str) -> None:
        """It has ended: nobody waits for it any longer."""
        self._gone.set_result(None)
        self._unsent.clear()
        self._ring.discard()
        self._ended(self, why)
        asked, self._asked = self._asked, {}
        for done in asked.values():
            done(Unsigned(why))

    def _number(self, key: Key) -> int:
        number = self._numbers.get(key)
        if number is None:
            self._last += 1
            number = self._numbers[key] = self._last
            der = key.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
            headers = list(key.headers)
            uses = (key.canonicalization, key.report, key.signs, key.seals)
            self._send(Keep(number, key.domain, key.selector, der, headers, *uses))
            if len(self._numbers) > KEYS:
                self._send(Forget(self._numbers.popitem(last=False)[1]))
        else:
            self._numbers.move_to_end(key)
        return number

    def _send(self, order: Keep | Forget | SigningJob) -> None:
        frame = bytearray(LENGTH)
        _encoder.encode_into(order, frame, LENGTH)
        frame[:LENGTH] = (len(frame) - LENGTH).to_bytes(LENGTH, "big")
        if self._unsent or not self._ring.put(frame):
            self._hold(memoryview(frame))

    def _hold(self, frame: memoryview) -> None:
        if not self._unsent:
            self._loop.call_later(FEED, self._feed)
        self._unsent.extend(frame[start : start + PIECE] for start in range(0, len(frame), PIECE))

    def _feed(self) -> None:
        """Hand over what there is room for again."""
        while self._unsent and self._ring.put(self._unsent[0]):
            self._unsent.popleft()
        if self._unsent:
            self._loop.call_later(FEED, self._feed)

    def _answered(self, data: bytes) -> None:
        self.signed = True
        self._received += data
        for frame in frames(self._received):
            signed = _decode(frame)
            if (done := self._asked.pop(signed.id, None)) is not None:
                done(Unsigned(signed.error) if signed.error else signed.fields)
