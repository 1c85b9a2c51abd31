"""Bulk actions on queued messages: by filter, counted before, with their progress while they run.

Owner of: the jobs, one running at a time, the last JOBS remembered. Bound: a job takes at most MOST messages (their
ids, 8 bytes each); what is more takes another job. A job that fails says why and keeps what it did.
"""

from __future__ import annotations

import array
import asyncio
import collections
import contextlib
import ipaddress
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Literal

import msgspec

from operators.deliveries.delivery import Lease
from pipeline.process.supervisor import spawn
from pipeline.queues.contract import Queue, QueueFull, QueueUnavailable, Withdrawable, parts
from pipeline.queues.listing import Action, Filter, Listed, Place, Sought, listed
from settings.rules.fields import lookup_name

MOST = 1_000_000
FEW = 50  # on a full disk
WAITS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0)  # seconds before another try
PAGE = 2000  # messages looked at, or changed, at once
JOBS = 100
LINE = 20  # jobs that may wait for their turn


Progress = tuple[int, int, int]  # messages looked at, of how many, changed


class Busy(Exception):
    """Too many jobs wait for their turn."""


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which messages; all that are given must hold.

    Attributes:
        queue: its name; empty: the outbox.
        state: ready, waiting (for a time), parked; empty: all.
        lane: parked there.
        domain: of the recipient, one of these.
        ip: whose last attempt left from this MTA IP, or that had none.
        tag: one of the message's tags.
        containing: text that the recipient, the envelope, the message id or the subject contains, in any case.
        envelope: text that the sender contains, in any case; `<>` is the null sender.
        older: seconds that it has been in the queue, at least.
        last: what its last attempt came to: none (no attempt yet), 4xx, 5xx, or silent (no answer).
    """

    queue: str = ""
    state: Literal["", "ready", "waiting", "parked"] = ""
    lane: str = ""
    domain: tuple[str, ...] = ()
    ip: str = ""
    tag: str = ""
    containing: str = ""
    envelope: str = ""
    older: int = 0
    last: Literal["", "none", "4xx", "5xx", "silent"] = ""

    def plain(self) -> Selection:
        """The same with its names as messages have them: domains in lower case and in ASCII (RFC 5891), IPs short."""
        domains = tuple(lookup_name(domain.strip().lstrip("@")) for domain in self.domain)
        ip, slash, group = self.lane.partition("/")
        lane = f"{ip}/{group.lower()}" if slash and ip != "pause" else self.lane
        return msgspec.structs.replace(self, domain=domains, ip=_short(self.ip), lane=lane)


Deleting = Callable[[Selection], AsyncGenerator[Progress, None]]


class BulkJob(msgspec.Struct, kw_only=True):
    """A bulk action. `state`: counting, running, done or failed; times are epoch seconds.

    `looked` of `total` says how far it is; a deletion looks through the whole queue, others at what they have counted.
    """

    id: int
    action: Action
    selection: Selection
    state: str = "counting"
    total: int = 0
    looked: int = 0
    changed: int = 0
    begun: float = 0.0
    ended: float | None = None
    error: str = ""


class Bulk:
    """Selects and changes messages of a queue.

    Args:
        queue: whose.
        outbox: the name of the queue that is meant where none is.
        clock: epoch seconds.
        deleting: deletes a selection, where others do that.
    """

    def __init__(
        self, queue: Queue, outbox: str, clock: Callable[[], float] = time.time, deleting: Deleting | None = None
    ) -> None:
        self.queue, self._outbox, self._clock, self._deleting = queue, outbox, clock, deleting
        self._ids = itertools.count(1)
        self._turn = asyncio.Lock()
        self._jobs: collections.OrderedDict[int, BulkJob] = collections.OrderedDict()
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def page(self, selection: Selection, after: Place, limit: int) -> tuple[list[Listed], Place | None]:
        """A page of messages, and where the next one begins. Raises `QueueUnavailable`.

        It may be short, or empty, and yet have a next one: a page looks at a limited number of messages.
        """
        selection = selection.plain()
        found = await self.queue.browse(self._filter(selection), after, limit)
        return [message for message in found.messages if self._wanted(selection, message)], found.after

    async def count(self, selection: Selection) -> int:
        """How many messages there are now, at most MOST. Raises `QueueUnavailable`."""
        plain = selection.plain()
        if (queue := self.queue.withdrawable) is not None and not plain.domain and _by_queue(plain):
            return min(MOST, await queue.sought(_sought(plain)))
        count = 0
        async for page in self._pages(selection):
            count += len(page)
            if count >= MOST:
                return MOST
        return count

    def begin(self, action: Action, selection: Selection) -> BulkJob:
        """Do this with all of them; the job tells how far it is. Raises `Busy`."""
        if len(self._tasks) > LINE:
            raise Busy(f"{LINE} bulk actions wait for their turn already")
        job = BulkJob(id=next(self._ids), action=action, selection=selection, begun=self._clock())
        self._jobs[job.id] = job
        self._forget()
        task = self._tasks[job.id] = spawn(self._run(job), "bulk")
        task.add_done_callback(lambda _: self._tasks.pop(job.id, None))
        return job

    def get(self, id: int) -> BulkJob | None:
        """A job, or None where there is none, or it is forgotten."""
        return self._jobs.get(id)

    def jobs(self) -> list[BulkJob]:
        """The jobs, newest first."""
        return list(reversed(self._jobs.values()))

    async def finished(self, job: BulkJob) -> BulkJob:
        """Wait until a job has ended."""
        if (task := self._tasks.get(job.id)) is not None:
            await task
        return job

    async def _run(self, job: BulkJob) -> None:
        async with self._turn:
            try:
                await self._work(job)
                job.state = "done"
            except QueueUnavailable as error:
                job.state, job.error = "failed", str(error)
            finally:
                job.ended = self._clock()

    async def _work(self, job: BulkJob) -> None:
        queue, whole = self.queue.withdrawable, job.action == "delete" and not job.selection.containing
        if whole and self._deleting is not None:
            await self._hand_on(job, self._deleting)
        elif whole and queue is not None:  # what is contained needs a page's look
            await self._discard(job, queue)
        else:
            await self._change(job)

    async def _hand_on(self, job: BulkJob, deleting: Deleting) -> None:
        job.state = "running"
        async with contextlib.aclosing(deleting(job.selection)) as progress:
            async for job.looked, job.total, job.changed in progress:
                pass
        job.total = job.looked = job.changed

    async def _discard(self, job: BulkJob, queue: Withdrawable) -> None:
        """One way through the queue, in which each part is taken out, looked at, and goes or is put back."""
        selection = job.selection.plain()
        sought = _sought(selection)
        known = _by_queue(selection) and not selection.domain
        job.state, job.total = "running", await queue.size()
        async with contextlib.aclosing(queue.withdraw(sought, whole=not known)) as withdrawn:
            async for part in withdrawn:
                try:
                    for group in parts(part.leases):
                        meant = [lease for lease in group if known or self._meant(selection, lease)]
                        if meant:
                            await _discarded(queue, meant)
                        job.changed += len(meant)
                finally:
                    queue.put_back(part.leases)
                job.looked += part.looked
        job.total = job.looked = job.changed

    def _meant(self, selection: Selection, lease: Lease) -> bool:
        """Queue, state and lane are those that were sought."""
        message = listed(lease, selection.queue or self._outbox)
        return self._wanted(msgspec.structs.replace(selection, state="", lane=""), message)

    async def _change(self, job: BulkJob) -> None:
        # Their ids first: a message that is retried and waits again would be met again further on, for ever.
        ids = array.array("q")
        async for page in self._pages(job.selection):
            ids.extend(message.id for message in page[: MOST - len(ids)])
            job.total = len(ids)
            if len(ids) >= MOST:
                break
        job.state = "running"
        for part in parts(ids, PAGE):
            job.changed += await self.queue.change(job.action, list(part))
            job.looked += len(part)

    async def _pages(self, selection: Selection) -> AsyncIterator[Sequence[Listed]]:
        after: Place | None = (0, 0)
        while after is not None:
            page, after = await self.page(selection, after, PAGE)
            yield page

    def _filter(self, selection: Selection) -> Filter:
        queue, containing = selection.queue or self._outbox, selection.containing or None
        if selection.lane:
            return Filter(queue=queue, lane=selection.lane, containing=containing)
        if selection.state in ("ready", "waiting"):
            return Filter(queue=queue, waiting=selection.state == "waiting", containing=containing)
        return Filter(containing=containing)

    def _wanted(self, selection: Selection, message: Listed) -> bool:
        if message.queue != (selection.queue or self._outbox):
            return False
        if selection.state and selection.state != state_of(message):
            return False
        if selection.domain and lookup_name(message.recipient.rpartition("@")[2]) not in selection.domain:
            return False
        if selection.ip and (message.last or {}).get("from") not in (None, selection.ip):
            return False
        return self._fits(selection, message)

    def _fits(self, selection: Selection, message: Listed) -> bool:
        """Sender, tag, age and last answer."""
        sender = selection.envelope.lower()
        if sender and not (message.envelope == "" if sender == "<>" else sender in message.envelope.lower()):
            return False
        if selection.tag and selection.tag not in message.tags:
            return False
        if selection.older and message.queued > self._clock() - selection.older:
            return False
        return not selection.last or selection.last == last_of(message)

    def _forget(self) -> None:
        for id in [id for id, job in self._jobs.items() if job.ended is not None][: max(0, len(self._jobs) - JOBS)]:
            del self._jobs[id]


async def _discarded(queue: Withdrawable, leases: Sequence[Lease]) -> None:
    """They go; on a full disk a few at once, for what goes makes the room. Raises `QueueUnavailable`."""
    try:
        await queue.discard(leases)
        return
    except QueueFull:
        pass
    for few in parts(leases, FEW):
        for wait in WAITS:
            await asyncio.sleep(wait)
            with contextlib.suppress(QueueFull):
                await queue.discard(few)
                break
        else:
            await queue.discard(few)


def _sought(selection: Selection) -> Sought:
    """What of a selection a queue itself can look for."""
    state = "parked" if selection.lane else selection.state
    return Sought(queue=selection.queue, state=state, lane=selection.lane, tag=selection.tag, domains=selection.domain)


def _by_queue(selection: Selection) -> bool:
    """Whether that is all of it."""
    looked_at = (selection.ip, selection.containing, selection.envelope, selection.older, selection.last)
    return not any(looked_at)


def _short(ip: str) -> str:
    """An address in its one short form; what is none stays as it is, and fits nothing."""
    try:
        return str(ipaddress.ip_address(ip.strip().strip("[]")))
    except ValueError:
        return ip


def last_of(message: Listed) -> str:
    """What the last attempt came to: none, 4xx, 5xx or silent."""
    if not message.last:
        return "none"
    code = message.last.get("code")
    return f"{str(code)[0]}xx" if code else "silent"


def state_of(message: Listed) -> str:
    """ready, waiting or parked."""
    return "parked" if message.lane else "waiting" if message.due else "ready"
