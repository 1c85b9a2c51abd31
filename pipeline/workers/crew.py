"""The crew: the workers' processes and the ledger of their limits, in the head.

Owner of: each worker's process and link, what was leased to it, and its part of the event stream. A worker that ends
is started again after RESTART seconds; MOST ends of one within WITHIN seconds end the instance with a line. A link's
end stops a worker in order, so none outlives the head.
"""

from __future__ import annotations

import asyncio
import collections
import pickle
import socket
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import structlog

from operators.deliveries.events import Event, Unparked
from operators.lanes.ledger import LimitLedger
from pipeline.machine.machine import WorkerRow
from pipeline.process.children import Child, ChildFailed, ChildKind
from pipeline.process.supervisor import supervisor
from pipeline.workers.board import SessionBoard
from pipeline.workers.link import WorkerLink
from pipeline.workers.mirror import Reports
from pipeline.workers.wire import Unpacking, asked
from settings import Settings, StartError

KIND = ChildKind("worker", "pipeline.workers.worker", outlives=True)
RESTART = 0.1  # seconds
MOST, WITHIN = 5, 60.0
BEAT = 0.25  # seconds
STARTING = 60.0  # seconds
QUIET = 5.0  # seconds without a word of a worker, which reports twice a second, after which that is a fault
STUCK = 60.0  # seconds after which it is killed, and started again: its mail waits for nobody else
log = structlog.get_logger("mailrace")


class _Worker:
    """One of them, as the head sees it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0
        self.since = 0.0  # epoch seconds
        self.child: Child | None = None
        self.link: WorkerLink | None = None
        self.events = Unpacking()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.heard = 0.0  # monotonic seconds
        self.ends: collections.deque[float] = collections.deque(maxlen=MOST)  # of its processes

    def say(self, *message: Any) -> None:
        """Tell it."""
        if self.link is not None:
            self.link.say(*message)


class Crew:
    """All workers.

    Args:
        settings: with ports that are numbers.
        happened: takes each event of a worker.
        flooded: told of a flood, as it came.
        skipped: told of an address that is passed over, as it came.
        token: of this instance in its cluster; empty without one.
        ports: sockets that listen, for all workers.
    """

    def __init__(
        self,
        settings: Settings,
        happened: Callable[[Event], None],
        flooded: Callable[..., None],
        skipped: Callable[..., None],
        token: str,
        ports: Sequence[socket.socket] = (),
    ) -> None:
        self._settings, self._token, self._ports = settings, token, ports
        self._board = SessionBoard()
        self._happened, self._flooded, self._skipped = happened, flooded, skipped
        self._ledger = LimitLedger()
        self._workers = [_Worker(number) for number in range(1, settings.workers + 1)]
        self._started = self._stopping = False
        self._beating: asyncio.Task[None] | None = None
        self.reports = Reports()
        self.reported: Callable[[dict[str, Any]], None] = lambda report: None
        self.changed: Callable[[], None] = lambda: None  # told that a worker has changed the rules
        self.line: Callable[[int, int, dict[str, Any]], None] = lambda worker, number, said: None
        self.body: Callable[[int, int, bytes, int], None] = lambda worker, number, source, size: None
        self.discarded: Callable[[int, int, list[int], bool, str], None] = lambda worker, number, done, over, error: (
            None
        )
        self._asked: dict[Hashable, tuple[Any, ...]] = {}  # what a new worker is told as well

    # -- life

    async def start(self) -> None:
        """Start all, and wait until they take mail. Raises `StartError` where one cannot."""
        for worker in self._workers:
            await self._begin(worker)
        self._beating = supervisor().keep(self._beat, "workers")
        try:
            async with asyncio.timeout(STARTING):
                await asyncio.gather(*(worker.ready for worker in self._workers))
        except TimeoutError:
            raise StartError(f"workers: not all are ready after {STARTING:.0f} s") from None
        self._started = True
        self.say("go")

    async def stop(self) -> None:
        """End all in order."""
        self._stopping = True
        self.say("stop")
        end = time.monotonic() + self._settings.shutdown_timeout + 10
        while any(worker.child is not None for worker in self._workers) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        for worker in self._workers:
            if worker.child is not None:
                worker.child.kill()
        if self._beating is not None:
            self._beating.cancel()

    async def _begin(self, worker: _Worker) -> None:
        ours, theirs = socket.socketpair()
        shared = [self._board.file, *(port.fileno() for port in self._ports)]
        try:
            worker.child = Child(
                KIND,
                [str(theirs.fileno())],
                lambda line: None,
                lambda code, why: self._ended(worker, why),
                files=[theirs.fileno(), *shared],
            )
        except ChildFailed as error:
            ours.close()
            raise StartError(f"workers: a process {error}") from None
        finally:
            theirs.close()
        worker.pid, worker.since = worker.child.pid, time.time()
        worker.link = await WorkerLink.over(ours, lambda said: self._heard(worker, said), lambda: None)
        worker.say("begin", worker.number, len(self._workers), pickle.dumps(self._settings), self._token, shared)

    def _ended(self, worker: _Worker, why: str) -> None:
        worker.child = None
        self._board.absent(worker.number)
        if worker.link is not None:
            worker.link.close()
            worker.link = None
        self._forget(worker)
        if self._stopping:
            return
        if not worker.ready.done():
            worker.ready.set_exception(StartError(f"workers: worker {worker.number} {why}"))
            worker.ready.exception()  # whoever starts them takes it, later ones nobody
        log.error("a worker has ended, and is started again", worker=worker.number, pid=worker.pid, why=why)
        now = time.monotonic()
        worker.ends.append(now)
        if len(worker.ends) == MOST and now - worker.ends[0] <= WITHIN:
            supervisor().give_up(
                f"worker {worker.number} has ended {MOST} times within a minute, the last time: it {why}"
            )
            return
        supervisor().spawn(self._again(worker), "workers")

    def _forget(self, worker: _Worker) -> None:
        """What it held is its queue's again, and what was leased to it is the others'."""
        now = time.time()
        for event in worker.events.given_back(now):
            self._happened(event)
        if self._settings.rabbitmq_address is None:  # else the broker has what it had parked, and the others call it in
            for lane, count in worker.events.parked.items():
                if count > 0:
                    self._happened(Unparked(time=now, lane=lane, count=count))
        worker.events.parked.clear()
        self.reports.of.pop(worker.number, None)
        self._free(self._ledger.gone(worker.number))

    async def _again(self, worker: _Worker) -> None:
        await asyncio.sleep(RESTART)
        if not self._stopping:
            worker.ready = asyncio.get_running_loop().create_future()
            await self._begin(worker)

    async def _beat(self) -> None:
        while True:
            self.say("beat")
            self._ledger.sweep(time.monotonic())
            self._end_those_that_are_stuck()
            await asyncio.sleep(BEAT)

    def _quiet(self, worker: _Worker) -> float:
        """Seconds since it was heard; 0 while it starts, or is none."""
        return time.monotonic() - worker.heard if worker.child is not None and worker.ready.done() else 0.0

    def _end_those_that_are_stuck(self) -> None:
        for worker in self._workers:
            if worker.child is not None and (silent := self._quiet(worker)) > STUCK:
                log.error("a worker does not answer, and is killed", worker=worker.number, seconds=round(silent))
                worker.child.kill()

    # -- what is said

    def say(self, *message: Any) -> None:
        """Tell all."""
        for worker in self._workers:
            worker.say(*message)

    def ask(self, name: Hashable, *message: Any) -> None:
        """Tell all, and each that comes later."""
        self._asked[name] = message
        self.say(*message)

    def ask_no_more(self, name: Hashable, *message: Any) -> None:
        """That is over: tell all, where there is something to tell."""
        self._asked.pop(name, None)
        if message:
            self.say(*message)

    def _others(self, but: _Worker, *message: Any) -> None:
        for worker in self._workers:
            if worker is not but:
                worker.say(*message)

    def _free(self, told: dict[int, list[str]]) -> None:
        for number, names in told.items():
            self._workers[number - 1].say("free", names)

    def _heard(self, worker: _Worker, said: list[Any]) -> None:
        kind, *rest = said
        worker.heard = time.monotonic()
        match kind:
            case "events":
                for one in rest[0]:
                    self._event(worker, one)
            case "places":
                self._places(worker, *rest)
            case "open":
                self._open(worker, rest[0])
            case "closed":
                self._free(self._ledger.close(worker.number, rest[0], time.monotonic()))
            case "back":
                self._free(self._ledger.give_back(worker.number, asked(rest[0]), rest[1], time.monotonic()))
            case "pass":
                self._free(self._ledger.pass_on(worker.number, rest[0], time.monotonic()))
            case "status":
                self.reports.put(worker.number, rest[0])
                self.reported(rest[0])
            case "flood":
                self._others(worker, *said)
                self._flooded(*rest)
            case "skip":
                self._others(worker, *said)
                self._skipped(*rest)
            case "log":
                getattr(log, rest[0], log.warning)(rest[1].pop("event", ""), worker=worker.number, **rest[1])
            case "changed":
                self.changed()
            case "line":
                self.line(worker.number, *rest)
            case "body":
                self.body(worker.number, *rest)
            case "discarded":
                self.discarded(worker.number, *rest)
            case "ready":
                for message in self._asked.values():
                    worker.say(*message)
                if self._started:
                    worker.say("go")
                if not worker.ready.done():
                    worker.ready.set_result(None)
            case "failed":
                if not worker.ready.done():
                    worker.ready.set_exception(StartError(rest[0]))

    def _event(self, worker: _Worker, said: list[Any]) -> None:
        event = worker.events.event(said)
        if event is not None:
            self._happened(event)

    def _places(self, worker: _Worker, rate: str, limit: float, count: int, back: list[float]) -> None:
        now = time.monotonic()
        if count or back:
            places = self._ledger.places(rate, limit, count, now, back)
            if count:
                worker.say("placed", rate, limit, places)
            else:
                for user in self._ledger.users(rate, worker.number):
                    self._workers[user - 1].say("spare", rate)
        else:
            self._ledger.used(rate, limit, now)

    def _open(self, worker: _Worker, values: dict[str, Any]) -> None:
        ask, now = asked(values), time.monotonic()
        refusal = self._ledger.open(worker.number, ask, now)
        if ask.made:
            return
        if refusal is None:
            worker.say("answer", ask.key, now, None, None, "")
            return
        if refusal.full:
            for holder in self._ledger.holders(refusal.full, worker.number)[:1]:
                self._workers[holder - 1].say("give_up", refusal.full)
        worker.say("answer", ask.key, now, refusal.why, refusal.until, refusal.full)

    # -- what others ask

    def rows(self) -> list[WorkerRow]:
        """Each of them."""
        none: dict[str, Any] = {"load": 0.0, "memory": 0, "queue": [0, 0], "sessions": 0}
        found = []
        for worker in self._workers:
            report = self.reports.of.get(worker.number, none)
            found.append(
                WorkerRow(
                    number=worker.number,
                    pid=worker.pid,
                    since=worker.since,
                    load=report["load"],
                    memory=report["memory"],
                    in_memory=report["queue"][0],
                    sessions=report["sessions"],
                )
            )
        return found

    def faults(self) -> list[str]:
        """What is wrong in any worker now, once each."""
        found = [
            f"worker {worker.number} (process {worker.pid}) has not answered for {silent:.0f} s: its mail waits"
            for worker in self._workers
            if (silent := self._quiet(worker)) > QUIET
        ]
        found += [text for report in self.reports.of.values() for text in report["states"]]
        return list(dict.fromkeys(found))
