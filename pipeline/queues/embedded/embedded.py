"""The embedded queue: one SQLite file, durable, with group commit.

Owns the file and three threads: one writes, one reads what is lent next, one answers the console. All callers'
publishing and settling that comes together is one transaction (WAL, synchronous=FULL), confirmed after its commit.
Leases live in memory only: after a kill everything unsettled is lent again.

Bounds: leases by credit and by bytes (`lending`); operations under way by those who wait for them: credit, and the
sessions of intake. The page caches are a few MB, whatever the file holds. When the disk fails, each operation is
confirmed with `QueueUnavailable`, nothing of it is stored, and the writer goes on. When it is full, new messages are
confirmed with `QueueFull`, and what is lent can still be settled; see `space`.

Other processes may publish to the same file, flush and purge it; that is noticed within `poll` seconds. Only one
process may consume it at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import reactivex as rx
from reactivex import Observable, abc
from reactivex.disposable import Disposable

from operators.deliveries.delivery import Lease
from pipeline.process.supervisor import spawn
from pipeline.queues.contract import (
    Body,
    Confirmed,
    LargeBody,
    Park,
    QueueFigures,
    QueueUnavailable,
    Retry,
    Settlement,
    confirmed,
)
from pipeline.queues.embedded import edit
from pipeline.queues.embedded.browse import browse, last, seek
from pipeline.queues.embedded.damage import wal
from pipeline.queues.embedded.damage.check import Checked, check, mend
from pipeline.queues.embedded.damage.condition import LISTING, READING, WRITING, Condition
from pipeline.queues.embedded.damage.recover import complete
from pipeline.queues.embedded.fetch import Fetched, FetchRequest, fetch
from pipeline.queues.embedded.file import RELEASED, Store
from pipeline.queues.embedded.lending import Lending
from pipeline.queues.embedded.parting import parted
from pipeline.queues.embedded.segments import SegmentKeeper, StoredContent, link
from pipeline.queues.embedded.survey import surveys
from pipeline.queues.embedded.urgent import head_of, urgent
from pipeline.queues.embedded.worker import Operation, QueueWriter, Worker, due_time
from pipeline.queues.listing import EVERYTHING, Action, Browsed, Filter, OpenedMessage, Place, Sought, Withdrawn
from pipeline.queues.survey import AskSurvey
from pipeline.queues.together import Together

POLL = 0.5  # seconds between looks for other processes' changes, and at the clock
CHANGED = 200  # ids handed to the writer at once
RECOUNT = 60.0  # seconds between looks for what was missed, whatever it may be
CHECK = 3600.0  # seconds between checks of the whole file
STUCK = 20.0  # seconds without an answer of a thread; SQLite waits 10 for another process's lock

RESCUE = "stop Mailrace, which saves what it still holds"

Counts = list[tuple[str, str, bool, int]]


class EmbeddedQueue:
    """The queue contract on one SQLite file.

    Args:
        path: the file; it and its folder are made where they are missing.
        outbox: the name of the queue that `consume` reads.
        clock: epoch seconds, for due times.
        poll: seconds between looks at the clock, at the disk, and for other processes' changes.
        report: told (kind, text) when the disk is full or the file does not work, and when that is over.
        moved: told (lane, by how many) when parked messages come or go by no lease, but by an operator's hand.
        alone: no other program has the file open: what a kill has left is looked at before SQLite takes it up.
        patience: seconds that operations wait for others to share their commit with, where there are some.
    """

    def __init__(
        self,
        path: Path,
        outbox: str = "outbox",
        clock: Callable[[], float] = time.time,
        poll: float = POLL,
        report: Callable[[str, str], None] = lambda kind, text: None,
        moved: Callable[[str, int], None] = lambda lane, by: None,
        alone: bool = False,
        patience: float = 0.0,
    ) -> None:
        self._path, self._outbox, self._clock, self._poll = path, outbox, clock, poll
        self._moved, self._alone = moved, alone
        self._say_of_disk, self._say = partial(report, "disk"), partial(report, "queue")
        self._condition = Condition(path, self._say)
        self._keeper = SegmentKeeper(path)
        self._open = False
        self._sole: sqlite3.Connection | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._asking: dict[str, float] = {}  # parts that have not answered the last look yet, and since when
        self._checking: asyncio.Task[None] | None = None
        self._checked = float("-inf")
        self._sound = False  # a check has found nothing: what the file says of segments can be trusted
        self._due, self._due_until = 0, 0.0
        self._patience = patience

    async def start(self) -> None:
        """Open the file. Raises `QueueUnavailable` with one clear line where it cannot be."""
        self._loop = asyncio.get_running_loop()
        self._together = Together(self._loop, self._patience, self._commit)
        self._writer = QueueWriter(self._loop, self._condition, self._committed, self._path, self._say_of_disk)
        self._reader, self._views = (Worker(part, self._loop, self._condition) for part in (READING, LISTING))
        self._lending = Lending(self._loop, self._clock, self._read, self._moved)
        try:
            await asyncio.to_thread(complete, self._path)
            if self._alone and (lost := await asyncio.to_thread(wal.damage, self._path)) is not None:
                self._say(lost)
            await self._writer.open()
            await self._reader.start(self._path, writes=False)
            await self._views.start(self._path, writes=False)
            self._lending.counted(self._parked_in(await self._writer.run(Store.counts)))
        except BaseException:
            await self._end()
            raise
        self._open = True
        self._tick = self._loop.call_later(self._poll, self._look)

    async def close(self) -> None:
        """Confirm what is under way, and close. What is still lent is lent again at the next start."""
        if not self._open:
            return
        self._open = False
        if self._tick is not None:
            self._tick.cancel()
        if self._checking is not None:
            await self._checking  # ends at once, since the queue is not open any more
        observer = self._lending.shut()
        if self._writer.gone:
            await self._rescue()
        await self._end()
        self._release()
        if observer is not None:
            observer.on_completed()

    async def _rescue(self) -> None:
        """The file was deleted or replaced: what it still holds goes into a new one, before it goes for good."""
        path = self._path
        if await asyncio.to_thread(path.exists):
            path = path.with_name(f"{path.name}.saved-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(self._clock()))}")
        try:
            self._together.hand_over()
            await self._writer.run(lambda store: store.save(path))
            if path != self._path:
                await asyncio.to_thread(link, self._path, path)
            self._say(f"{self._path} was deleted or replaced: what it held is in {path}")
        except QueueUnavailable as error:
            lost = (
                "was moved away, and holds its mail there"
                if self._writer.moved
                else "was deleted, and its mail is lost"
            )
            self._say(f"{self._path} {lost}: a new file cannot be written: {error}")

    async def _end(self) -> None:
        self._together.hand_over()  # it may have been asked for in this turn of the loop
        for worker in (self._writer, self._reader, self._views):
            await worker.close()

    # Lending

    def consume(self, credit: int) -> Observable[Lease]:
        """The messages of the outbox, each lent until it is settled; at most `credit` at once. One subscriber.

        Ends with `QueueUnavailable` where another process consumes the file already.
        """

        def subscribe(
            observer: abc.ObserverBase[Lease], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            try:
                self._reserve()
            except QueueUnavailable as error:
                observer.on_error(error)
                return Disposable()
            self._lending.open(observer, credit)
            return Disposable(self._stop_consuming)

        return rx.create(subscribe)

    def cease(self) -> None:
        """Lend no more. What is lent can still be settled; what is given back is in the queue again."""
        self._lending.shut()

    def _stop_consuming(self) -> None:
        if self._lending.shut() is not None:
            self._release()

    def _reserve(self) -> None:
        """Two consumers would send everything twice. A lock of SQLite's own falls with the process that holds it."""
        if not self._open:
            raise QueueUnavailable(f"{self._path}: the queue is not open")
        if self._sole is not None:
            raise QueueUnavailable(f"{self._path}: is consumed already")
        lock = sqlite3.connect(f"{self._path}.lock", timeout=0, isolation_level=None)
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            lock.close()
            raise QueueUnavailable(f"{self._path}: another process consumes this queue ({error})") from None
        self._sole = lock

    def _release(self) -> None:
        if self._sole is not None:
            self._sole.close()
            self._sole = None

    def recall(self, lane: str, most: int) -> None:
        """Lend up to `most` messages of a lane's parked queue, oldest first, in the stream of `consume`, within credit.

        Calls add up. Where the lane has fewer, the rest lapses.
        """
        self._lending.recall(lane, most)

    @property
    def free(self) -> int:
        """Credit that is not used now."""
        return self._lending.free

    @property
    def lent(self) -> int:
        """Messages that are lent."""
        return self._lending.lent

    @property
    def full(self) -> str | None:
        """Why no new message is taken now: there is no room on the disk. None while there is."""
        return self._writer.space.full if self._open else None

    @property
    def fault(self) -> str | None:
        """What is wrong with it now: its file, or the disk is full. None while it works."""
        return self._condition.fault or self.full

    @property
    def refuses(self) -> str | None:
        """Why new messages are not taken now, or would not leave; None while they are, and would."""
        return self._condition.fault or self.full

    def notice(self, parked: Mapping[str, int]) -> None:
        """Each file's parked messages are its own."""

    def parked(self) -> Mapping[str, int]:
        """Messages in the parked queues, by lane; those lent are not counted. A live view, not a copy."""
        return self._lending.parked if self._open else {}  # the rules are read before the queue is opened

    @property
    def troubles(self) -> Sequence[str]:
        """What is wrong with single queues: nothing can be."""
        return ()

    def _read(self, request: FetchRequest, done: Callable[[Fetched | None], None]) -> None:
        self._reader.post(lambda store: fetch(store, self._outbox, request), lambda answer, error: done(answer))

    # Changing

    @property
    def withdrawable(self) -> EmbeddedQueue:
        """How messages are taken out whoever's turn it is."""
        return self

    @property
    def apart(self) -> SegmentKeeper:
        """How large contents are handed in."""
        return self._keeper

    def publish(self, messages: Sequence[tuple[str, Body]], confirmed: Confirmed, delay: float = 0.0) -> None:
        """Add (queue name, body) messages, all or none; `confirmed` when they are safe. `delay`: seconds, for all."""
        now = self._clock()
        messages = [(name, parted(body) if name == self._outbox else body) for name, body in messages]
        due = (
            due_time(now + delay)
            if delay > 0
            else RELEASED
            if any(urgent(head_of(body)) for _, body in messages)
            else 0.0
        )
        self._submit(Operation(messages, due, now, confirmed))

    def settle(self, lease: Lease, settlement: Settlement, confirmed: Confirmed) -> None:
        """End a lease: durably, and atomically with what replaces the message. `confirmed` is called exactly once.

        Where that fails, the message is still lent, and can be settled again.
        """
        if not self._lending.settling(lease.id):
            self._loop.call_soon(confirmed, ValueError(f"message {lease.id} is not lent, or is being settled already"))
            return
        back = lease if settlement.give_back else None
        apart = lease.content is not None
        operation = Operation(settlement.publish, 0.0, self._clock(), confirmed, lease.id, settlement.then, back, apart)
        if back is not None and not settlement.publish:
            self._loop.call_soon(self._report, [operation])
        else:
            self._submit(operation)

    def _submit(self, operation: Operation) -> None:
        if self._open:
            self._together.add(operation)
        else:
            operation.error = QueueUnavailable(f"{self._path}: the queue is not open")
            self._loop.call_soon(self._report, [operation])

    def _commit(self, operations: list[Operation]) -> None:
        for operation in operations:
            self._writer.submit(operation)

    def _committed(self, group: list[Operation]) -> None:
        self._together.done(len(group))
        self._report(group)

    def _report(self, group: list[Operation]) -> None:
        """A group has been committed, or has failed."""
        for operation in group:
            if operation.error is None:
                self._done(operation)
            elif operation.ends is not None:
                self._lending.unsettled(operation.ends)
            self._confirm(operation)
        self._lending.fill()

    def _done(self, operation: Operation) -> None:
        lending = self._lending
        lending.ended(operation.all)
        if operation.back is not None:
            lending.given_back(operation.back)
        elif operation.ends is not None:
            lending.settled(operation.ends)
            match operation.then:
                case Park(lane=lane, expires=expires):
                    lending.was_parked(lane, expires)
                case Retry(at=at):
                    lending.waits(due_time(at))
        for id, (name, body) in enumerate(operation.publish, operation.first):
            if name == self._outbox and operation.due:
                lending.waits(operation.due)
            elif name != self._outbox:
                continue
            elif isinstance(body, LargeBody):
                assert isinstance(body.content.stored, StoredContent)
                lending.arrived(id, body.head, operation.queued, body.content.stored)
            else:
                lending.arrived(id, body, operation.queued)

    def _confirm(self, operation: Operation) -> None:
        try:
            operation.confirmed(operation.error)
        except Exception as error:
            self._loop.call_exception_handler({"message": "a caller of the queue failed", "exception": error})

    # Looking

    def _look(self) -> None:
        """Look at the clock, and for other processes' changes; now and then count anew whatever happened."""
        self._tick = self._loop.call_later(self._poll, self._look)
        self._ticks += 1
        if self._ask_after(WRITING):
            anew = self._ticks * self._poll >= RECOUNT
            self._ticks = 0 if anew else self._ticks
            probe = self._condition.fault is not None
            lent = self._lending.segments if self._sound else None
            self._writer.post(partial(self._news, anew=anew, probe=probe, lent=lent), self._looked)
        if self._ask_after(READING):
            self._reader.post(lambda store: None, lambda _, __: self._answered(READING))
        self._condition.remind()
        self._check_now_and_then()
        self._lending.fill()

    def _ask_after(self, part: str) -> bool:
        """Whether a part is to be asked how it is; one that does not answer is in trouble."""
        now = self._loop.time()
        if (since := self._asking.setdefault(part, now)) == now:
            return True
        if (took := now - since) > STUCK:
            self._condition.failed(part, TimeoutError(f"no answer in {took:.0f} s"))
        return False

    def _answered(self, part: str) -> None:
        self._asking.pop(part, None)

    def _news(
        self, store: Store, anew: bool, probe: bool, lent: set[int] | None = None
    ) -> tuple[Counts | None, str | None, bool]:
        """Runs in the thread that writes. `lent`: segments that are read; None: not known."""
        damage, shortened = self._writer.look(store)
        if probe and damage is None:
            store.probe()
        if lent is not None and damage is None and self._condition.damage is None:
            store.drop_segments(lent)
            if self._writer.space.full is None:
                store.thin_out(lent)
        return store.counts() if store.changed() or anew else None, damage, shortened

    def _looked(self, news: tuple[Counts | None, str | None, bool] | None, error: Exception | None) -> None:
        self._answered(WRITING)
        if news is None:
            return
        counts, damage, shortened = news
        if damage is not None:
            self._condition.damaged(damage, *((RESCUE,) if self._writer.gone else ()))
        if shortened:
            self._checked = float("-inf")
        if counts is not None:
            self._lending.counted(self._parked_in(counts))

    def _check_now_and_then(self) -> None:
        """Check the whole file at the start, every CHECK seconds, and when it has become smaller."""
        if self._checking is None and self._loop.time() - self._checked >= CHECK and self._condition.damage is None:
            self._checked = self._loop.time()
            self._checking = spawn(self._check(), "queue check")

    async def _check(self) -> None:
        found: Checked = await asyncio.to_thread(check, self._path, lambda: not self._open)
        if found.damage is not None:
            with contextlib.suppress(QueueUnavailable):  # where it is another file now, that is what is to be said
                self._looked(await self._writer.run(partial(self._news, anew=False, probe=False)), None)
            self._condition.damaged(f"is damaged ({found.damage})")
        elif (found.odd or found.miscounted) and self._open:
            await self._mend(found)
        elif not found.whole and self._open:
            self._say(f"{self._path} is too large or too busy to be checked whole; what was checked is in order")
        self._sound = found.damage is None
        self._checking = None

    async def _mend(self, found: Checked) -> None:
        """And look again soon: there may be more."""
        with contextlib.suppress(QueueUnavailable):  # the condition knows
            await self._writer.run(lambda store: mend(store, found))
            what = f"{len(found.odd)} messages had columns of wrong types" if found.odd else "the counters were wrong"
            self._say(f"{self._path}: {what}; that is mended")
            await self._recount()
            self._checked = float("-inf")

    def _parked_in(self, counts: Counts) -> Counter[str]:
        return Counter({lane: n for queue, lane, _, n in counts if queue == self._outbox and lane})

    # For people

    async def answers(self) -> None:
        """Raises `QueueUnavailable` where it does not."""
        await self.figures()

    async def figures(self) -> QueueFigures:
        """What the queue holds now. Raises `QueueUnavailable`."""

        counts, due = await self._ask(self._views, self._count)
        ready = waiting = 0
        other: Counter[str] = Counter()
        for queue, lane, waits, n in counts:
            if queue != self._outbox:
                other[queue] += n
            elif not lane:
                ready, waiting = (ready, waiting + n) if waits else (ready + n, waiting)
        lent = self._lending.lent
        # Of those whose time had come when they were lent. A clock set back, or a flush, may have moved them since.
        lent_waiting = min(self._lending.lent_waiting, waiting)
        lent_ready = lent - self._lending.lent_parked - lent_waiting
        return QueueFigures(
            ready=max(0, ready - lent_ready + max(0, due - lent_waiting)),
            waiting=max(0, waiting - max(due, lent_waiting)),
            unsettled=lent,
            parked=dict(self._lending.parked),
            other=other,
        )

    def _count(self, store: Store) -> tuple[Counts, int]:
        """Runs in the thread of the views. Counting a million that are due takes 0.3 s: then not every time."""
        begin = time.monotonic()
        if begin >= self._due_until:
            self._due = store.due(self._outbox, self._clock())
            took = time.monotonic() - begin
            self._due_until = begin + (took * 20 if took > 0.02 else 0)
        return store.counts(), self._due

    def surveys(self) -> AbstractAsyncContextManager[AskSurvey]:
        """While people look at the queues: asks what each holds."""
        return surveys(self._outbox, self.figures)

    async def browse(self, filter: Filter = EVERYTHING, after: Place = (0, 0), limit: int = 50) -> Browsed:
        """A page of messages, from `after` on; see `browse`. Raises `QueueUnavailable`."""
        found: Browsed = await self._ask(self._views, partial(browse, filter=filter, after=after, limit=limit))
        return found

    async def read(self, id: int) -> OpenedMessage | None:
        """One message, or None where it is not there (any more). Raises `QueueUnavailable`."""
        found: OpenedMessage | None = await self._ask(self._views, partial(edit.read, id=id))
        return found

    async def change(self, action: Action, ids: Sequence[int]) -> int:
        """Do this with these messages, see `edit.change`; returns how many. Raises `QueueUnavailable`.

        What is being sent at this moment is sent.
        """
        changed = start = 0
        while start < len(ids):
            some, looked = await self._ask(self._writer, partial(edit.change, action=action, ids=ids[start:][:CHANGED]))
            changed, start = changed + some, start + looked
        if changed:
            await self._recount()
        return changed

    async def withdraw(self, sought: Sought, whole: bool = True) -> AsyncGenerator[Withdrawn, None]:
        """Lend what is sought apart from the stream of `consume`, and from its credit, a part at a time, oldest first.

        Each is settled or put back. What is lent already is on its way, and is left out. Raises `QueueUnavailable`.
        `whole`: with their bodies; else nothing of a message is read but where it is.
        """
        reached, until = 0, int(await self._ask(self._views, last))

        def begin() -> asyncio.Task[tuple[int, int, list[int]]]:
            return spawn(self._seek(sought, reached, until, whole), "queue seek", grave=False)

        ahead = begin()  # of one part while the other is worked on
        try:
            while reached < until:
                looked, reached, found = await ahead
                ahead = begin()
                ids = self._lending.withdraw(found)
                self._lending.sweep(reached, until)
                yield Withdrawn(await self._withdrawn(ids, whole), looked)
        finally:
            ahead.cancel()
            self._lending.unswept()

    async def _seek(self, sought: Sought, after: int, until: int, whole: bool) -> tuple[int, int, list[int]]:
        part = partial(seek, queue=self._outbox, sought=sought, after=after, until=until, whole=whole)
        found: tuple[int, int, list[int]] = await self._ask(self._views, part)
        return found

    async def _withdrawn(self, ids: list[int], whole: bool) -> list[Lease]:
        try:
            rows = (
                await self._ask(self._views, lambda store: (store.take if whole else store.places)(ids)) if ids else {}
            )
        except BaseException:
            self._lending.put_back(ids)
            raise
        return self._lending.withdrawn(ids, rows)

    async def sought(self, sought: Sought) -> int:
        """How many are sought, at most: some of them may be others. Raises `QueueUnavailable`."""
        count, reached, until = 0, 0, int(await self._ask(self._views, last))
        while reached < until:
            _, reached, found = await self._seek(sought, reached, until, whole=False)
            count += len(found)
        return count

    async def size(self) -> int:
        """How many messages it has, in all queues. Raises `QueueUnavailable`."""
        return sum(n for *_, n in await self._ask(self._views, Store.counts))

    def end(self, leases: Sequence[Lease], publish: Sequence[tuple[str, Body]], confirmed: Confirmed) -> None:
        """End what was withdrawn for good: durably, all or nothing, with the messages that this owes to queues.

        Where that fails, they are still withdrawn, and can be ended again or put back.
        """
        ids = [lease.id for lease in leases]
        self._submit(Operation(publish, 0.0, self._clock(), confirmed, all=ids))

    async def discard(self, leases: Sequence[Lease]) -> None:
        """They go for good, and nobody is told but of what was parked. Raises `QueueUnavailable`."""
        await confirmed(partial(self.end, leases, ()))
        for lane, count in Counter(lease.recalled for lease in leases if lease.recalled).items():
            self._moved(lane, -count)

    def put_back(self, leases: Sequence[Lease]) -> None:
        """What was withdrawn is as it was."""
        self._lending.put_back([lease.id for lease in leases])

    async def flush(self) -> int:
        """What waits for a time becomes ready now; returns how many. Raises `QueueUnavailable`."""
        return await self._repeat(lambda store: store.flush(self._outbox))

    async def purge(self, queue: str | None = None, lane: str | None = None) -> int:
        """Remove the messages of a queue (the outbox, unless named), or of one lane's parked queue; returns how many.

        What is being sent at this moment is sent. Raises `QueueUnavailable`.
        """
        return await self._repeat(lambda store: store.purge(queue or self._outbox, lane))

    async def _repeat(self, step: Callable[[Store], int]) -> int:
        """In steps, so that publishers get their turn between them."""
        total = 0
        while changed := await self._ask(self._writer, step):
            total += changed
        await self._recount()
        return total

    async def _recount(self) -> None:
        self._lending.counted(self._parked_in(await self._ask(self._writer, Store.counts)))

    async def _ask(self, worker: Worker, task: Callable[[Store], Any]) -> Any:
        if not self._open:
            raise QueueUnavailable(f"{self._path}: the queue is not open")
        return await worker.run(task)
