"""The signer: a program that makes DKIM signatures, so that RSA takes neither the event loop's time nor its lock.

Started by `signers`. Takes jobs out of a ring, and writes to its standard output what came of each, in turn; ends with
the program at the other side, whatever ended that. Owns the keys that it was told to keep, in memory. Bound: what a
ring holds, and one job. A job that fails is answered with why, by the exception's name only.

It imports little, see `operators.mail.dkim`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.serialization import load_der_private_key

from operators.mail.arc import signatures_and_seals
from operators.mail.dkim import Key
from pipeline.process.ring import Outlet

# Seconds between looks for further jobs, and looks until it sleeps: to be woken costs it, and who wakes it, 19 us each.
NAP, NAPS = 0.0001, 10
TOGETHER = 4  # answers written at once while there are further jobs: RSA-2048 takes 1 ms for them
LENGTH = 4  # bytes before each message that say how long it is, big-endian


class Keep(msgspec.Struct, frozen=True, tag="keep", array_like=True):
    """Know this key by this number; `der` is PKCS 8."""

    number: int
    domain: str
    selector: str
    der: bytes
    headers: list[bytes]
    canonicalization: str
    report: bool
    signs: bool
    seals: bool


class Forget(msgspec.Struct, frozen=True, tag="forget", array_like=True):
    """Know it no longer."""

    number: int


class SigningJob(msgspec.Struct, frozen=True, tag="job", array_like=True):
    """Sign this message with these keys; `now` is epoch seconds. `rest`: (file, begin, size) of what follows it."""

    id: int
    keys: list[int]
    now: float
    source: bytes
    rest: tuple[str, int, int] | None = None


class Signed(msgspec.Struct, frozen=True, array_like=True):
    """The DKIM-Signature fields, or the name of the exception."""

    id: int
    fields: bytes
    error: str = ""


_order = msgspec.msgpack.Decoder(Keep | Forget | SigningJob).decode
_answer = msgspec.msgpack.Encoder().encode


def serve(orders: Outlet, answers: int) -> None:
    """Until the orders end. `answers` is a file descriptor."""
    keys: dict[int, Key] = {}
    received, signed = bytearray(), bytearray()
    while orders.wait():
        naps = 0
        while naps < NAPS:
            data = orders.peek()
            if not data:
                naps += 1
                time.sleep(NAP)
                continue
            naps = 0
            received += data
            orders.taken(len(data))
            for number, job in enumerate(_jobs(received, keys), 1):
                body = _answer(_signed(job, keys))
                signed += len(body).to_bytes(LENGTH, "big") + body
                if number % TOGETHER == 0:
                    _write(answers, signed)
            _write(answers, signed)


def frames(received: bytearray) -> Iterator[bytearray]:
    """The messages that are complete, without their lengths; what was handed out is taken from `received`."""
    begin = 0
    try:
        while len(received) >= (body := begin + LENGTH):
            end = body + int.from_bytes(received[begin:body], "big")
            if len(received) < end:
                break
            begin = end
            yield received[body:end]
    finally:
        del received[:begin]


def _jobs(received: bytearray, keys: dict[int, Key]) -> Iterator[SigningJob]:
    """Those that are complete; what stands between them is done."""
    for frame in frames(received):
        match _order(frame):
            case Keep() as new:
                keys[new.number] = _key(new)
            case Forget(number):
                keys.pop(number, None)
            case SigningJob() as job:
                yield job


def _write(answers: int, signed: bytearray) -> None:
    if signed:
        os.write(answers, signed)
        signed.clear()


def _key(new: Keep) -> Key:
    private = load_der_private_key(new.der, None, unsafe_skip_rsa_key_validation=True)
    headers = frozenset(new.headers)
    form = new.canonicalization
    return Key(new.domain, new.selector, private, headers, form, new.report, new.signs, new.seals)  # type: ignore[arg-type]


def _signed(job: SigningJob, keys: dict[int, Key]) -> Signed:
    try:
        source = job.source + _read(*job.rest) if job.rest is not None else job.source
        return Signed(job.id, signatures_and_seals(source, [keys[number] for number in job.keys], job.now))
    except Exception as error:
        return Signed(job.id, b"", type(error).__name__)


def _read(path: str, start: int, size: int) -> bytes:
    """What lies apart; see `operators.mail.message.Content`. Raises OSError, and `EOFError` where it is shorter."""
    with Path(path).open("rb", buffering=0) as file:
        found = os.pread(file.fileno(), size, start)
    if len(found) != size:
        raise EOFError(path)
    return found


def main(memory: str, listens: str) -> None:
    """Be the signer: the files of an `Outlet`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with the ring: what is under way is signed first
    serve(Outlet(int(memory), int(listens)), sys.stdout.fileno())
