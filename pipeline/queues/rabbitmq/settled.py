"""Which messages were settled lately: known also when this process was killed, together with the broker or alone.

Acknowledgements are not confirmed, and a broker that is killed forgets those that it had not written: on classic queues
all since its last rest, 10,000 of 10,000 in one measurement. So what is settled is noted before it is acknowledged, and
what comes again with such a note is only acknowledged once more.

What comes again is known by its AMQP message-id and its body, and the broker's mark "redelivered". Less will not do:
after a crash every message of a classic queue has the mark, also one that nobody was sent, and two applications' equal
messages, or one's, are two messages. So those without a message-id have no note, and are sent twice rather than not at
all. An id that we have made is no other message's, and that of what replaces it - a retry, one that is parked - follows
from it: so a retry that was published by a process that was killed before it could acknowledge its original is known,
too (`rabbitmq_loans`). What was settled over this very connection cannot come again over it, and does not count.

Owns the file `settled` in `data-dir`: a ring of REMEMBERED notes, written with one call each (1.6 microseconds, of
which the page cache takes note; nothing is synced, since a crash of the machine may cost a copy, and no message). Where
it cannot be written, that is said and a fault, the notes are kept in memory as they are without a file, and written
once it can be: that is tried once a minute.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

# RabbitMQ writes acknowledgements after 32,768 notes in its journal at the latest (queue_index_max_journal_entries).
REMEMBERED = 32_768
AGAIN = 60.0  # seconds between tries to write
_NOTE = struct.Struct("<Q16s")  # its number, from 1; the key

Key = bytes | int  # of a message with an id; of one without, which only this process can compare


def key(id: str | None, body: bytes) -> Key:
    """The same for the same message, whenever it comes: 1.5 microseconds for 4 KB, where a digest of all takes 6."""
    if id is None:
        return hash(body)
    return blake2b(id.encode(errors="surrogatepass"), digest_size=12).digest() + zlib.crc32(body).to_bytes(4, "little")


class SettledNotes:
    """The notes.

    Args:
        path: the file; None: in memory only.
        report: told (kind, text) when it cannot be written.
        clock: monotonic seconds.

    Attributes:
        trouble: why they are not written now.
    """

    def __init__(
        self,
        path: Path | None,
        report: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._report, self._clock = path, report, clock
        self.trouble: str | None = None
        self._again_at = 0.0
        self._written = 0  # number of the newest note in the file
        self._numbers: dict[bytes, int] = {}
        self._ring = [b""] * REMEMBERED
        self._last = 0  # number of the newest note
        self._before = 0  # the newest one of the connections before this one
        self._file = -1

    def open(self) -> None:
        """Read what the last process has noted. Once there is a consumer: a second process may look at the queues."""
        if self._path is None or self._file >= 0 or self.trouble is not None:
            return
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            found = os.pread(self._file, REMEMBERED * _NOTE.size, 0)
        except OSError as error:
            self._failed(error)
            return
        whole = len(found) - len(found) % _NOTE.size
        notes = [
            note
            for at, note in enumerate(_NOTE.iter_unpack(found[:whole]))
            if note[0] > 0 and note[0] % REMEMBERED == at
        ]
        for number, noted in sorted(notes):
            self._keep(number, noted)
        self._before = self._written = self._last

    def close(self) -> None:
        """Of use again after `open`."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def lost(self) -> None:
        """The connection is gone: from now on what was settled over it may come again."""
        self._before = self._last

    def add(self, key: Key) -> None:
        """It is settled, and is about to be acknowledged."""
        if not isinstance(key, bytes):
            return
        self._keep(self._last + 1, key)
        if self._file >= 0 or (self.trouble is not None and self._clock() >= self._again_at):
            try:
                self._write()
            except OSError as error:
                self._failed(error)

    def _write(self) -> None:
        """What is not in the file yet: one note, or those of the time in which it could not be written."""
        if self._file < 0:
            assert self._path is not None
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for number in range(max(self._written, self._last - REMEMBERED) + 1, self._last + 1):
            at = number % REMEMBERED
            os.pwrite(self._file, _NOTE.pack(number, self._ring[at]), at * _NOTE.size)
            self._written = number
        if self.trouble is not None:
            self.trouble = None
            self._report("settled-written", "what is settled is noted again")

    def again(self, key: Key, redelivered: bool, ours: bool = False) -> bool:
        """Whether this message was settled, and is to be acknowledged only. Once over each connection.

        `ours`: we have published it ourselves, so that nothing else has its id. RabbitMQ moves such a one twice, the
        second time without the mark, where it was killed between putting it into the outbox and out of its delay.
        """
        number = self._numbers.get(key, 0) if isinstance(key, bytes) else 0
        if not number or not (ours or (redelivered and number <= self._before)):
            return False
        self.add(key)
        return True

    def _keep(self, number: int, key: bytes) -> None:
        at = number % REMEMBERED
        old = self._ring[at]
        if self._numbers.get(old, -1) <= number - REMEMBERED:
            self._numbers.pop(old, None)
        self._ring[at], self._numbers[key], self._last = key, number, number

    def _failed(self, error: OSError) -> None:
        with suppress(OSError):
            self.close()
        self._file, self._again_at = -1, self._clock() + AGAIN
        self.trouble = (
            f"what is settled cannot be noted, and may be sent twice after a crash of the broker and ours: {error}"
        )
        self._report("settled-unwritten", self.trouble)
