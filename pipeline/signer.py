"""The signer: a program that makes DKIM signatures, so that RSA takes neither the event loop's time nor its lock.

Started by `signers`. Reads jobs from its standard input, and writes to its standard output what came of each, in turn;
ends where the input does, whatever ended the program at its other side. Owns the keys that it was told to keep, in
memory. Bound: one job. A job that fails is answered with why, by the exception's name only.

It imports little, see `operators.dkim`.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import BinaryIO

import msgspec
from cryptography.hazmat.primitives.serialization import load_der_private_key

from operators.dkim import Key, signatures

LENGTH = 4  # bytes before each message that say how long it is, big-endian


class Keep(msgspec.Struct, frozen=True, tag="keep", array_like=True):
    """Know this key by this number; `der` is PKCS 8."""

    number: int
    domain: str
    selector: str
    der: bytes
    headers: list[bytes]
    canonicalization: str


class Forget(msgspec.Struct, frozen=True, tag="forget", array_like=True):
    """Know it no longer."""

    number: int


class Job(msgspec.Struct, frozen=True, tag="job", array_like=True):
    """Sign this message with these keys; `now` is epoch seconds."""

    id: int
    keys: list[int]
    now: float
    source: bytes


class Signed(msgspec.Struct, frozen=True, array_like=True):
    """The DKIM-Signature fields, or the name of the exception."""

    id: int
    fields: bytes
    error: str = ""


_order = msgspec.msgpack.Decoder(Keep | Forget | Job).decode
_answer = msgspec.msgpack.Encoder().encode


def serve(orders: BinaryIO, answers: int) -> None:
    """Until the orders end. `answers` is a file descriptor."""
    keys: dict[int, Key] = {}
    while len(head := orders.read(LENGTH)) == LENGTH:
        match _order(orders.read(int.from_bytes(head, "big"))):
            case Keep() as new:
                keys[new.number] = _key(new)
            case Forget(number):
                keys.pop(number, None)
            case Job() as job:
                body = _answer(_signed(job, keys))
                os.write(answers, len(body).to_bytes(LENGTH, "big") + body)


def _key(new: Keep) -> Key:
    private = load_der_private_key(new.der, None, unsafe_skip_rsa_key_validation=True)
    return Key(new.domain, new.selector, private, frozenset(new.headers), new.canonicalization)  # type: ignore[arg-type]


def _signed(job: Job, keys: dict[int, Key]) -> Signed:
    try:
        return Signed(job.id, signatures(job.source, [keys[number] for number in job.keys], job.now))
    except Exception as error:
        return Signed(job.id, b"", type(error).__name__)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with its input: what is under way is signed first
    serve(sys.stdin.buffer, sys.stdout.fileno())
