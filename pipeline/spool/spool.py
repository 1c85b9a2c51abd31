"""The spool directory: a file that is moved in, or written and closed, is read as mail, queued, and then removed.

Owner of: nothing but the directory, which one process reads at a time. A file goes when the queue has confirmed its
messages, so a crash in between may repeat it, and never loses it. What cannot be read goes to `spool-fail-directory`,
with a file beside it that says why; without one it stays, and is said once. Bounds: FILES a look, `smtp-maxsize` bytes
of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pwd
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from operators.deliveries.events import Event, Received
from pipeline.queues import result_rule
from pipeline.queues.contract import Queue, QueueUnavailable, TooLarge, confirmed
from pipeline.smtp.server.refusal import Refusal
from pipeline.smtp.server.transaction import Ids
from pipeline.spool.sendmail import Origin, SendRequest, UnusableSubmission, compose, read_message
from settings import Settings, StartError

LOOK = 0.5  # seconds between two looks
STILL = 1.0  # seconds that a file has not changed, where the system does not say whether somebody writes to it
FILES = 200
REMEMBERED = 10_000  # files that stay where they are
_EVERYBODY = SendRequest(extract=True, ignore_dot=True)


class _File(msgspec.Struct, frozen=True):
    """A file as it was seen: changed, it is another one."""

    path: Path
    inode: int
    size: int
    changed: float


class Spool:
    """Reads the spool directory.

    Args:
        settings: the `spool-*` keys, the inbox, and the largest mail.
        queue: where messages go.
        report: told of each message that was taken.
        warn: told (kind, text) of files that cannot be used, and of a directory that cannot be read.
    """

    def __init__(
        self, settings: Settings, queue: Queue, report: Callable[[Event], None], warn: Callable[[str, str], None]
    ) -> None:
        self._settings, self._queue, self._report, self._warn = settings, queue, report, warn
        self._folder = settings.spool_directory
        self._ids = Ids(f"{settings.server_id}-spool-{os.getpid()}")
        self._done: dict[_File, None] = {}  # files that stay, and are not read again
        self._lock: int | None = None
        self.trouble: str | None = None

    def check(self) -> None:
        """Raises `StartError` where the directory cannot be used."""
        if self._folder is None:
            return
        if self._settings.rabbitmq_inbox is None:
            raise StartError("spool-directory: rabbitmq-inbox is empty, so what is dropped there would be thrown away")
        for key, folder in (("spool-directory", self._folder), ("spool-fail-directory", self._failed_ones)):
            if folder is not None and not (folder.is_dir() and os.access(folder, os.R_OK | os.W_OK | os.X_OK)):
                raise StartError(f"{key}: {folder}: is no directory that can be read and written")

    async def run(self) -> None:
        """Look, for ever."""
        while self._folder is not None:
            try:
                await self._look()
                self.trouble = None
            except OSError as error:
                self._troubled(f"the spool directory {self._folder} cannot be read: {error.strerror}")
            except QueueUnavailable as error:
                self._troubled(f"files in the spool directory wait: {error}")
            await asyncio.sleep(LOOK)

    def close(self) -> None:
        """Let another process read the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def _failed_ones(self) -> Path | None:
        return self._settings.spool_fail_directory

    def _troubled(self, text: str) -> None:
        if self.trouble is None:
            self._warn("spool", text)
        self.trouble = text

    async def _look(self) -> None:
        for file in await asyncio.to_thread(self._ready):
            await self._take(file)

    # -- files, in a thread -----------------------------------------------------------------------------------------

    def _ready(self) -> list[_File]:
        """Files that nobody writes to, the oldest first."""
        if not self._alone():
            return []
        found = [file for file in self._files() if file not in self._done and self._is_whole(file)]
        return sorted(found, key=lambda file: file.changed)[:FILES]

    def _alone(self) -> bool:
        """Whether this is the process that reads the directory."""
        assert self._folder is not None
        if self._lock is None:
            self._lock = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _files(self) -> Iterator[_File]:
        assert self._folder is not None
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.is_file(follow_symlinks=False):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    seen = entry.stat(follow_symlinks=False)
                    yield _File(Path(entry.path), seen.st_ino, seen.st_size, seen.st_mtime)

    def _is_whole(self, file: _File) -> bool:
        """Old enough, and nobody has it open to write: then the system gives a lease on it (fcntl(2))."""
        age = time.time() - file.changed
        if age < self._settings.spool_delay:
            return False
        try:
            descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return True  # it cannot be read: that is said when it is
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except BlockingIOError:
            return False
        except OSError:  # of another user, or a file system without leases
            return age >= STILL
        finally:
            os.close(descriptor)
        return True

    def _read(self, file: _File) -> list[bytes]:
        """Its messages, one a recipient. Raises `UnusableSubmission`, `Refusal`."""
        s = self._settings
        try:
            with file.path.open("rb") as source:
                owner = os.fstat(source.fileno()).st_uid
                mail = read_message(source, True, s.smtp_maxsize)
        except OSError as error:
            raise UnusableSubmission(f"cannot be read: {error.strerror}") from None
        user = _name_of(owner)
        came = {"directory": str(self._folder), "file": file.path.name, "user": user, "size": file.size}
        origin = Origin(user, socket.gethostname(), time.time(), s.mail_domain or "")
        id, rule = self._ids.next(), result_rule(s)
        return compose(mail, _EVERYBODY, origin, id, s.spool_extract, rule, {"spool": came}, s.long_lines)

    def _remove(self, file: _File) -> None:
        if self._settings.spool_remove:
            with contextlib.suppress(FileNotFoundError):
                file.path.unlink()
        else:
            self._keep(file)

    def _set_aside(self, file: _File, why: str) -> None:
        """To the folder of those that failed, with the reason beside it; where there is none it stays."""
        folder = self._failed_ones
        if folder is None:
            self._keep(file)
            return
        there = folder / file.path.name
        there.with_name(there.name + ".error").write_text(f"{why}\n")
        file.path.replace(there)

    def _keep(self, file: _File) -> None:
        self._done[file] = None
        while len(self._done) > REMEMBERED:
            del self._done[next(iter(self._done))]

    # -- on the loop ------------------------------------------------------------------------------------------------

    async def _take(self, file: _File) -> None:
        try:
            bodies = await asyncio.to_thread(self._read, file)
            await self._publish(bodies)
        except UnusableSubmission as error:
            await self._refuse(file, str(error))
            return
        except Refusal as refusal:
            await self._refuse(file, refusal.reply)
            return
        except TooLarge as error:
            await self._refuse(file, str(error))
            return
        for body in bodies:
            self._tell(body, file.size)
        await asyncio.to_thread(self._remove, file)

    async def _refuse(self, file: _File, why: str) -> None:
        self._warn("spool", f"{file.path.name}: {why}")
        await asyncio.to_thread(self._set_aside, file, why)

    async def _publish(self, bodies: list[bytes]) -> None:
        inbox = self._settings.rabbitmq_inbox or ""
        await confirmed(partial(self._queue.publish, [(inbox, body) for body in bodies]))

    def _tell(self, body: bytes, size: int) -> None:
        message: dict[str, Any] = msgspec.json.decode(body)
        self._report(
            Received(
                time=time.time(),
                message_id=message["message-id"],
                envelope=message["envelope"],
                recipient=message["recipient"],
                size=size,
                source="spool",
                remote_ip="",
                user=message["spool"]["user"],
            )
        )


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
