"""The queue, as it is shown: its figures and messages, and what operators do to them, one or many.

Owner of: the last census.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from operators.deliveries.delivery import Target, lane_ip
from pipeline.queues.census import Census, census
from pipeline.queues.contract import QueueFigures
from pipeline.queues.listing import Action, Unbrowsable
from pipeline.telemetry.backlog import Backlog
from pipeline.views.bulk import Bulk, BulkJob, Selection
from pipeline.views.changing.notices import done_by
from pipeline.views.explain import Explainer
from pipeline.views.queued_message import ShownMessage, show
from pipeline.views.recorder import Recorder
from settings.store import Who

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine

CENSUS = 10.0  # seconds


class QueueView:
    """Over a running machine."""

    def __init__(
        self, machine: Machine, bulk: Bulk, explainer: Explainer, backlog: Backlog, recorder: Recorder
    ) -> None:
        self._machine, self._bulk, self._explainer = machine, bulk, explainer
        self._backlog, self._recorder = backlog, recorder
        self._census: tuple[float, Census | None] = (0.0, None)
        self._counting = asyncio.Lock()

    async def figures(self) -> QueueFigures:
        """What the queue holds. Raises `QueueUnavailable`."""
        return await self._machine.queue.figures()

    async def answers(self) -> None:
        """Raises `QueueUnavailable` where the queue does not answer."""
        await self._machine.queue.answers()

    async def census(self) -> Census | None:
        """A look at each queued message: one in CENSUS seconds, or in 20 times what it costs. None: a broker's queue.

        What it finds waiting corrects what was counted since the start. Raises `QueueUnavailable`.
        """
        async with self._counting:
            then, found = self._census
            if then and time.monotonic() - then < max(CENSUS, 20 * found.cost if found else 0.0):
                return found
            try:
                found = await census(self._machine.queue, self._machine.settings.rabbitmq_outbox)
            except Unbrowsable:
                found = None
            self._census = (time.monotonic(), found)
            if found is not None and found.whole:
                self._backlog.recount(found.waiting, tags=False)
                self._backlog.recount(found.tags, tags=True)
            return found

    def anything_waits(self) -> bool:
        """Whether any message waits for a time, or is parked."""
        return bool(self._machine.depth.waiting or self._machine.queue.parked())

    async def message(self, id: int) -> ShownMessage | None:
        """One queued message; None where it is gone. Raises `QueueUnavailable`."""
        opened = await self._bulk.queue.read(id)
        return show(opened) if opened else None

    async def change(self, action: Action, id: int, who: Who) -> bool:
        """Retry, release or delete one message; False where it is gone, or in no such state. Raises as `message`."""
        who.must("operate")
        done = bool(await self._bulk.queue.change(action, [id]))
        if done:
            self._recorder.soon(who, action, "messages", 0, {"message": id})
            self._machine.report(done_by(who, f"message-{action}", f"{who.name}: {action} message {id}"))
        return done

    def begin(self, action: Action, selection: Selection, who: Who) -> BulkJob:
        """Retry, release or delete all messages of a selection; the job tells how far it is. Raises `Busy`."""
        who.must("operate")
        job = self._bulk.begin(action, selection)
        self._recorder.at_end(who, "messages", job, msgspec.to_builtins(selection), self._bulk.finished)
        text = f"{who.name}: {action} messages, job {job.id}"
        self._machine.report(done_by(who, f"bulk-{action}", text, selection.lane))
        return job

    def retry_lane(self, lane: str, who: Who) -> BulkJob:
        """Retry this provider now: its hosts are tried again, and what waits for a time goes now."""
        who.must("operate")
        explained = self._explainer.explain(lane)
        for host in explained.hosts if explained else ():
            self._machine.slots.healthy(lane_ip(lane), Target(host.host, host.address, host.port))
        self._machine.report(done_by(who, "retry-now", f"{who.name} has {lane} retried now", lane))
        self._machine.lanes.go_on(lane)
        ip, _, group = lane.partition("/")
        domains = tuple(explained.domains if explained else ()) or (group,)
        job = self._bulk.begin("retry", Selection(state="waiting", domain=domains, ip="" if ip == "?" else ip))
        self._recorder.at_end(who, "lanes", job, {"lane": lane}, self._bulk.finished)
        return job
