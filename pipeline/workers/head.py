"""The head of several workers: a machine that carries no mail, and shows all of theirs.

Its event stream is that of its workers together, its lanes and connections are what they report, its queue is all of
their files; so the views, the API and the metrics are the same as of a machine alone.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable

from operators.deliveries.delivery import Target
from operators.deliveries.events import Event, Passed, Settled
from operators.lanes.floods import Active, Floods, with_threshold
from operators.lanes.lanes import Lanes
from pipeline.cluster.repeated import RepeatedWork
from pipeline.machine.machine import Machine, WorkerRow
from pipeline.machine.withdrawing import Withdrawal, can_withdraw, together
from pipeline.queues import open_files, open_queue, queue_file, worker_folder
from pipeline.queues.contract import Queue
from pipeline.queues.embedded.many import ManyFiles
from pipeline.telemetry.telemetry import Telemetry
from pipeline.workers.crew import Crew
from pipeline.workers.dialogue import HeadDialogue
from pipeline.workers.discarding import HeadDiscarding
from pipeline.workers.mirror import MirroredLanes, MirroredSlots
from pipeline.workers.wire import flood_words
from settings import Settings, StartError
from settings.rules import Flood, Snapshot

BACKLOG = 1024
EVENTS = "events"  # what workers are asked under this name, see `Crew.ask`


class HeadFloods(Floods):
    """The floods of all workers. Those with a threshold begin here: each worker sees a part of the matches."""

    def __init__(self, crew: Crew, begun: Callable[[Active], None]) -> None:
        super().__init__(time.monotonic, begun, with_threshold)
        self._crew = crew

    def happened(self, event: Event, snapshot: Snapshot) -> None:
        """An attempt has ended in a worker."""
        if isinstance(event, Settled):
            # Of what was accepted, only a share of the last attempts asks how many there were.
            for _ in range(event.count if isinstance(event, Passed) and snapshot.flood_shares else 1):
                self.look(event.delivery.but(outcome=event.outcome), snapshot)

    def end(self, lane: str) -> bool:
        """End a flood early, in all."""
        self._crew.say("end_flood", lane)
        return super().end(lane)


class HeadMachine(Machine):
    """A machine whose mail is carried by workers.

    Raises:
        StartError: a port is taken.
    """

    def __init__(self, settings: Settings) -> None:
        self._ports, settings = _reserve(settings)
        self._each = rx.create(self._watch_each)
        self._watching = 0
        super().__init__(settings)
        token = self.cluster.token if self.cluster is not None else ""
        self.crew = Crew(settings, self._happened, self._flood_there, self._skip_there, token, self._ports)
        self.floods = self._head_floods = HeadFloods(self.crew, self._flooded)
        self._reread = RepeatedWork(self.rules.reload, "rules")
        self.crew.changed = self._changed_there
        self.crew.reported, self.effects.dry = self._reported, self.crew.reports.dry
        self.slots = MirroredSlots(self.crew.reports, settings.max_connections, self.crew.say)
        self.dialogue = HeadDialogue(self.crew, self.scheduler)
        self._discarding = HeadDiscarding(self.crew)
        self.lanes = cast(Lanes, MirroredLanes(self.crew.reports, self.crew.say))
        self.telemetry = Telemetry(gauges=self._gauges() | {"attempting": lambda: self.slots.making})  # type: ignore[attr-defined]

    @property
    def events(self) -> Observable[Event]:
        """Everything that happens, as it happens: the workers tell each event only while somebody watches."""
        return self._each

    def _watch_each(
        self, observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        self._watching += 1
        if self._watching == 1:
            self.crew.ask(EVENTS, "each", True)
        each = self._events.pipe(ops.filter(lambda event: type(event) is not Passed)).subscribe(
            observer.on_next, observer.on_error, observer.on_completed
        )

        def leave() -> None:
            each.dispose()
            self._watching -= 1
            if not self._watching:
                self.crew.ask_no_more(EVENTS, "each", False)

        return Disposable(leave)

    def _open_queue(self) -> Queue:
        s = self.settings
        if s.rabbitmq_address is not None:
            return open_queue(s, self.warned)
        return open_files(s, [queue_file(s.data_dir, number) for number in range(1, s.workers + 1)], self.warned)

    def _count_parked(self) -> None:
        """Each worker counts what is in its own file; the broker's parked queues are those of all."""
        if self.settings.rabbitmq_address is not None:
            super()._count_parked()

    async def _carry(self, life: contextlib.AsyncExitStack) -> None:
        life.push_async_callback(self.crew.stop)
        life.callback(self._close_ports)  # first: what connects later is turned away at once
        await self.crew.start()
        self.here.listen(port.getsockname()[:2] for port in self._ports)
        self.rules.suppressions.told = lambda: self.crew.say("reload")
        changes = self.rules.snapshots.pipe(ops.skip(1))
        life.callback(self.supervisor.listen(changes, lambda _: self.crew.say("reload"), "workers").dispose)

    def _close_ports(self) -> None:
        for port in self._ports:
            port.close()

    def prepare(self) -> None:
        """Make the workers' folders."""
        for number in range(1, self.settings.workers + 1):
            worker_folder(self.settings.data_dir, number).mkdir(mode=0o700, parents=True, exist_ok=True)

    def _each_second(self, second: int) -> None:
        if isinstance(self.queue, ManyFiles):
            self.queue.lent = self.crew.reports.total("queue", 0)
        super()._each_second(second)

    def workers(self) -> list[WorkerRow]:
        """Each of them."""
        return self.crew.rows()

    @property
    def deleting(self) -> Any:
        """Each worker does, in its own queue."""
        return self._discarding.delete if isinstance(self.queue, ManyFiles) else None

    @property
    def withdraws(self) -> bool:
        """Each worker does, in its own queue."""
        return isinstance(self.queue, ManyFiles) and can_withdraw(self.customs)

    @property
    def withdrawals(self) -> list[Withdrawal]:
        """Of all workers, added up."""
        return together(report.get("withdrawals", ()) for report in self.crew.reports.of.values())

    def reopen_logs(self) -> None:
        """SIGHUP, for all."""
        super().reopen_logs()
        self.crew.say("reopen")

    @property
    def faults(self) -> list[str]:
        """What is wrong here or in a worker."""
        return list(dict.fromkeys([*super().faults, *self.crew.faults()]))

    def _happened(self, event: Event) -> None:
        """A worker has told of something; its own log has it already."""
        self._events.on_next(event)
        self._head_floods.happened(event, self.rules.snapshot)

    def _flooded(self, flood: Active) -> None:
        """A threshold was reached."""
        self.crew.say("flood", *flood_words(flood))
        super()._flooded(flood)

    def _reported(self, report: dict[str, Any]) -> None:
        """A worker has told what it holds now."""
        self.egress.adopt(row for one in self.crew.reports.of.values() for row in one["proxies"])
        self.queue.notice(report["parked"])

    def _changed_there(self) -> None:
        """A response rule has acted in a worker: have all read the rules again."""
        self._reread()
        self._changed_here()()

    def _flood_there(
        self, lane: str, rule: int, answer: str, since: float, paused_until: float, reduced_until: float
    ) -> None:
        found = self.rules.snapshot.rule("floods", rule)
        if isinstance(found, Flood):
            self.floods.adopt(Active(lane, found, answer, since, paused_until, reduced_until))

    def _skip_there(self, ip: str, host: str, address: str, port: int, why: str, until: float) -> None:
        self.slots.pass_over(ip, Target(host, address, port), why, until)


def _reserve(settings: Settings) -> tuple[list[socket.socket], Settings]:
    """The intake's ports: they listen for all workers, and what connects waits until one of them takes it."""
    held: list[socket.socket] = []
    found: dict[str, list[int]] = {}
    try:
        for key in ("smtp_port", "smtp_secure_port"):
            found[key] = []
            for port in getattr(settings, key):
                held.append(_bound(settings.smtp_ip, port, key.replace("_", "-")))
                found[key].append(held[-1].getsockname()[1])
    except BaseException:
        for one in held:
            one.close()
        raise
    return held, settings.model_copy(update=found)


def _bound(ip: str, port: int, key: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with _explained(ip, port, key):
        where = socket.socket(family)
        where.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            where.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as asyncio's are
        where.bind((ip, port))
        where.listen(BACKLOG)
    return where


@contextlib.contextmanager
def _explained(ip: str, port: int, key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StartError(f"{key}: {ip} port {port} cannot be opened: {error.strerror}") from None
