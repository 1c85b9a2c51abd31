"""The threads of the embedded queue: one that writes, and ones that read.

A thread owns its connection to the file. What it is asked to do waits in its inbox, which its callers bound: intake
sessions and credit for the writer, one request at a time for a reader. Answers go back to the event loop, one
`call_soon_threadsafe` a group. An error fails what it belongs to, and the thread goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from operators.deliveries.delivery import Lease
from pipeline.process.supervisor import supervisor
from pipeline.queues.contract import Body, Confirmed, LargeBody, Park, QueueFull, QueueUnavailable, Retry
from pipeline.queues.embedded.damage.condition import SAVE, WRITING, Condition, is_damage
from pipeline.queues.embedded.damage.watch import Watch
from pipeline.queues.embedded.file import LATEST, Store, Work
from pipeline.queues.embedded.space import Say, Space

GROUP = 256  # operations in a transaction
GROUP_BYTES = 8 * 2**20  # of bodies in a transaction, and one more message

# There is no room on the disk; the second is said where the index of the write-ahead log cannot grow.
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}

# What fails for one operation of a group fails for all.
_COMMON = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_ERROR,  # a table or an index is missing
}

Task = Callable[[Store], Any]


class Operation(msgspec.Struct):
    """What one caller wants changed, all or nothing.

    Attributes:
        publish: (queue, body) to add.
        due, queued: of those, epoch seconds.
        ends: the id of the message that it settles, or None.
        then: what becomes of that message; None: it goes.
        confirmed: the caller's.
        back: the lease, where that message is given back: it stays as it is.
        apart: that message has its content in a segment.
        all: the ids of messages that it ends for good, where it is for many.
        first: the answer: the id of the first message added.
        error: the answer: why nothing was done.
    """

    publish: Sequence[tuple[str, Body]]
    due: float
    queued: float
    confirmed: Confirmed
    ends: int | None = None
    then: Retry | Park | None = None
    back: Lease | None = None
    apart: bool = False
    all: Sequence[int] = ()
    first: int = 0
    error: Exception | None = None

    @property
    def owed(self) -> bool:
        """It settles something."""
        return self.ends is not None or bool(self.all)

    def describe(self, work: Work) -> None:
        """Put it into a group."""
        for name, body in self.publish:
            work.add(name, body, self.due, self.queued)
        work.gone += self.all
        if self.ends is None or self.back is not None:
            return
        match self.then:
            case None:
                work.done(self.ends)
            case Park(lane=lane, expires=expires):
                work.park(self.ends, lane, expires)
            case Retry(body=body, at=at, content=content):
                work.retry(self.ends, body, due_time(at), whole=self.apart and content is None)


def due_time(at: float) -> float:
    """A time as the file keeps it: never 0, which means ready."""
    return min(max(at, 1.0), LATEST)


class Worker:
    """A thread with its own connection. `part`: what it is for; `condition` is told what fails, and what works."""

    def __init__(self, part: str, loop: asyncio.AbstractEventLoop, condition: Condition) -> None:
        self._part, self._loop, self._condition = part, loop, condition
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = supervisor(loop).thread(self._run, f"queue-{part}")
        self._store: Store | None = None
        self._path: Path | None = None

    async def start(self, path: Path, *, writes: bool) -> None:
        """Open the file in the thread. Raises `QueueUnavailable`."""
        self._path = path
        self._store = await asyncio.to_thread(Store, path, writes=writes)
        self._thread.start()

    def post(self, task: Task, done: Callable[[Any, Exception | None], None]) -> None:
        """Run `task` in the thread, and `done` with its result or its error on the loop."""
        self._inbox.put((task, done))

    async def run(self, task: Task) -> Any:
        """Run `task` in the thread. Raises `QueueUnavailable` where SQLite fails."""
        answer: asyncio.Future[Any] = self._loop.create_future()

        def done(result: Any, error: Exception | None) -> None:
            if answer.cancelled():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)

        self.post(task, done)
        return await answer

    async def close(self) -> None:
        """Do what is asked already, then end the thread and close the file."""
        if self._store is None:
            return
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._store.close)
        self._store = None

    def _run(self) -> None:
        while (item := self._inbox.get()) is not None:
            self._do(*item)

    def _do(self, task: Task, done: Callable[[Any, Exception | None], None]) -> None:
        try:
            result, failure = self._attempt(task), None
        except Exception as error:
            result, failure = None, error
        self._loop.call_soon_threadsafe(self._answer, done, result, failure)

    def _attempt(self, task: Task) -> Any:
        assert self._store is not None
        return task(self._store)

    def _answer(self, done: Callable[[Any, Exception | None], None], result: Any, failure: Exception | None) -> None:
        """On the event loop."""
        if failure is None:
            self._condition.worked(self._part)
            done(result, None)
            return
        assert self._path is not None
        if not is_full(failure):
            self._condition.failed(self._part, failure)
        done(None, _unavailable(self._path, failure))


class QueueWriter(Worker):
    """The thread that changes the file: everything that waits goes into one transaction.

    New messages go in while `space` has room for them; what is settled goes in as long as there is any.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        condition: Condition,
        report: Callable[[list[Operation]], None],
        path: Path,
        say: Say,
    ) -> None:
        super().__init__(WRITING, loop, condition)
        self._report = report
        self._path: Path = path
        self._watch: Watch | None = None
        self.space = Space(path, lambda text: self._tell(say, text))

    async def open(self) -> None:
        """Open the file, on a full disk too. Raises `QueueUnavailable`."""
        try:
            await self.start(self._path, writes=True)
        except QueueUnavailable:
            if not self.space.give():
                raise
            await self.start(self._path, writes=True)
        self._watch = await asyncio.to_thread(Watch, self._path)
        await self.run(self.space.tend)

    async def close(self) -> None:
        """Do what is asked already, then end the thread and close the file."""
        await super().close()
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    @property
    def gone(self) -> bool:
        """The file has no name any more."""
        return self._watch is not None and self._watch.gone

    @property
    def moved(self) -> bool:
        """It has another name."""
        return self._watch is not None and self._watch.moved

    def look(self, store: Store) -> tuple[str | None, bool]:
        """What has become of the file, or None; and whether it may be damaged. Runs in the thread."""
        self.space.tend(store)
        if self._watch is None:
            return None, False
        return self._watch.look(store), self._watch.shortened

    def _tell(self, say: Say, text: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(say, text)

    def submit(self, operation: Operation) -> None:
        """Have it done, durably; `report` gets it back, answered, on the loop."""
        self._inbox.put(operation)

    def _run(self) -> None:
        item = self._inbox.get()
        while item is not None:
            item = self._step(item)
            if item is _NOTHING:  # and nothing of what was done is kept while this waits: it may be large
                item = self._inbox.get()

    def _step(self, item: Any) -> Any:
        """Do what was asked; returns what is to be done next, where that was taken out already."""
        if not isinstance(item, Operation):
            self._do(*item)
            return _NOTHING
        group, following = self._gather(item)
        self._commit(group)
        self._loop.call_soon_threadsafe(self._report, group)
        return following

    def _gather(self, operation: Operation) -> tuple[list[Operation], Any]:
        """What waits, up to the group's bounds, and what came after it."""
        group: list[Operation] = []
        size = 0
        following: Any = operation
        while isinstance(following, Operation):
            group.append(following)
            size += _size(following)
            if len(group) >= GROUP or size >= GROUP_BYTES:
                return group, _NOTHING
            try:
                following = self._inbox.get_nowait()
            except queue.Empty:
                return group, _NOTHING
        return group, following

    def _commit(self, group: list[Operation]) -> None:
        group = [operation for operation in group if self._admitted(operation)]
        work = Work()
        try:
            for operation in group:
                operation.first = work.added
                operation.describe(work)
            first = self._write(work, owed=all(operation.owed for operation in group))
        except Exception as error:
            self._fail(group, error)
        else:
            for operation in group:
                operation.first += first

    def _admitted(self, operation: Operation) -> bool:
        if operation.owed:
            return True
        if (why := self._condition.refuses) is not None:
            operation.error = QueueUnavailable(why)
            return False
        if self.space.take(*_sizes(operation)):
            return True
        operation.error = QueueFull(self.space.full or f"{self._path}: there is no room for a message of this size")
        return False

    def _write(self, work: Work, owed: bool) -> int:
        """`owed`: all of it settles something, which is what the reserve is for."""
        return int(self._with_room(lambda store: store.write(work), owed))

    def _attempt(self, task: Task) -> Any:
        """What people have changed goes on a full disk, too: it makes room, or has mail leave."""
        return self._with_room(task, owed=True)

    def _with_room(self, task: Task, owed: bool) -> Any:
        assert self._store is not None
        while True:
            try:
                return task(self._store)
            except sqlite3.Error as error:
                if not is_full(error):
                    raise
                self.space.failed()
                if not owed or not self.space.give():
                    raise
                with contextlib.suppress(sqlite3.Error):
                    self._store.fold(keep=True)

    def _fail(self, group: list[Operation], error: Exception) -> None:
        """Nothing of the group is done. Where it may be the fault of one operation, the others get another try."""
        common = isinstance(error, sqlite3.Error) and not is_full(error) and _primary(error) in _COMMON
        if common:
            self._loop.call_soon_threadsafe(self._condition.failed, WRITING, error)
        if common or len(group) == 1:
            for operation in group:
                operation.error = _unavailable(self._path, error)
            return
        for operation in group:
            self._commit([operation])


_NOTHING = object()


def _size(operation: Operation) -> int:
    size = sum(len(body) for _, body in operation.publish)
    return size + len(operation.then.body) if isinstance(operation.then, Retry) else size


def _sizes(operation: Operation) -> tuple[int, int]:
    """Of what goes into SQLite's file, and of what goes into segments, where messages share it."""
    large = [body.content for _, body in operation.publish if isinstance(body, LargeBody)]
    contents = {id(content): content.size for content in large if content.stored is None}
    json = sum(len(body.head if isinstance(body, LargeBody) else body) for _, body in operation.publish)
    return json, sum(contents.values())


def _primary(error: sqlite3.Error) -> int:
    """The primary result code (sqlite.org/rescode.html); sqlite3 gives the extended one."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_full(error: Exception) -> bool:
    """Whether SQLite has found no room on the disk."""
    return getattr(error, "sqlite_errorcode", 0) in _FULL


def _unavailable(path: Path, error: Exception) -> QueueUnavailable:
    help = f"; {SAVE}" if is_damage(error) else ""
    return (QueueFull if is_full(error) else QueueUnavailable)(f"{path}: {error}{help}")
