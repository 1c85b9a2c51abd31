"""The program of a worker: intake, queue, chain and connections of one process; everything else is the head's.

It ends in order when the head says so, or is gone: what is in flight is finished within `shutdown-timeout`, the rest
returns to the queue.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from operators.deliveries.delivery import Target
from operators.lanes.floods import Active
from operators.lanes.leases import Leases
from pipeline.cluster.repeated import RepeatedWork
from pipeline.log.names import worker_log
from pipeline.machine.garbage import end_at_once, leave_alone_what_is_there
from pipeline.machine.machine import Machine, Seat
from pipeline.process import become
from pipeline.process.supervisor import supervisor
from pipeline.queues import queue_file, worker_folder
from pipeline.smtp.server.server import PortShare
from pipeline.workers.board import SessionBoard
from pipeline.workers.dialogue import WorkerDialogue
from pipeline.workers.discarding import WorkerDiscarding
from pipeline.workers.link import WorkerLink
from pipeline.workers.status import status
from pipeline.workers.telling import Telling
from pipeline.workers.wire import flood_words
from settings import Settings, StartError
from settings.rules import Flood

SWITCH = 0.0005  # seconds, see mailrace.py
EVERY = 0.5  # seconds between two reports of what it holds
LINES = 50  # of its log that it tells the head in a second


def main(end: str) -> None:
    """Run until the head says stop. `end`: the descriptor of the link."""
    sys.setswitchinterval(SWITCH)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    work = _run(socket.socket(fileno=int(end)))
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)
    end_at_once(0)


async def _run(end: socket.socket) -> None:
    with supervisor().hear():
        worker = WorkerProcess()
        await worker.run(end)


def settings_of(settings: Settings, number: int, count: int) -> Settings:
    """The configuration of one of `count` workers: its own folder and logs, and its part of what is bounded."""
    folder = worker_folder(settings.data_dir, number)

    def log(path: Path | None) -> Path | None:
        return None if path is None else worker_log(path, number)

    return settings.model_copy(
        update={
            "data_dir": folder,
            "workers": 1,
            "send_log": log(settings.send_log),
            "received_log": log(settings.received_log),
            "rabbitmq_qos": max(1, settings.rabbitmq_qos // count),
            "smtp_connections": max(1, settings.smtp_connections // count),
        }
    )


class WorkerProcess:
    """One worker, seen from inside."""

    def __init__(self) -> None:
        self._stop = asyncio.Event()
        self._begin: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._machine: Machine | None = None
        self._link: WorkerLink | None = None
        self._leases: Leases | None = None
        self._dialogue: WorkerDialogue | None = None
        self._reread: RepeatedWork | None = None
        self._discarding: WorkerDiscarding | None = None
        self._said = (0.0, 0)
        self._telling: Telling | None = None

    async def run(self, end: socket.socket) -> None:
        """From the head's first word to its last."""
        self._link = link = await WorkerLink.over(end, self._heard, self._stop.set)
        _, number, count, plan, token, files = await self._begin
        settings: Settings = pickle.loads(plan)  # noqa: S301 - of the head, over a pair of sockets that nobody else has
        structlog.configure(processors=[self._log], wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
        self._leases = leases = Leases(
            time.monotonic,
            lambda rate, limit, more, back: link.say("places", rate, limit, more, back),
            lambda ask: link.say("open", msgspec.to_builtins(ask)),
            lambda counted: link.say("closed", counted),
            lambda ask, at: link.say("back", msgspec.to_builtins(ask), at),
            settings.max_connections,
            lambda counted: link.say("pass", counted),
        )
        board, sockets = SessionBoard(files[0]), [socket.socket(fileno=file) for file in files[1:]]
        ports = PortShare(sockets, lambda sessions: board.is_next(number, sessions))
        file, home = queue_file(settings.data_dir, number), settings.data_dir
        seat = Seat(leases, file, home, token, count, self._flooded, lambda: link.say("changed"), ports)
        own = settings_of(settings, number, count)
        machine = self._machine = Machine(own, seat)
        self._reread = RepeatedWork(machine.rules.reload, "rules")
        leases.wake, leases.waits = machine.lanes.go_on, machine.lanes.waits
        machine.slots.noted = self._skipped
        self._dialogue = WorkerDialogue(machine, link.say)
        self._telling = Telling(link.say)
        supervisor().listen(machine.events, self._telling.tell, "events")
        try:
            await machine.start()
        except StartError as error:
            link.say("failed", error.line)
            await asyncio.sleep(0.2)
            return
        become(settings.user)
        leave_alone_what_is_there()
        self._discarding = WorkerDiscarding(machine, link.say)
        link.say("ready", os.getpid())
        reporting = supervisor().keep(
            lambda: self._report(lambda: board.write(number, machine.intake.connections)), "status"
        )
        await self._stop.wait()
        board.absent(number)
        await machine.stop()
        reporting.cancel()
        self._telling.flush()
        link.say("bye")
        link.close()
        await asyncio.sleep(0)

    # -- to the head

    def _log(self, logger: Any, name: str, fields: MutableMapping[str, Any]) -> Any:
        """A line of the program log is written by the head; more than LINES in a second are counted there."""
        second, count = self._said
        now = int(time.monotonic())
        self._said = (now, count + 1 if second == now else 1)
        if self._link is not None and self._said[1] <= LINES:
            told = {
                key: value if isinstance(value, int | float | bool) else str(value) for key, value in fields.items()
            }
            self._link.say("log", name, told)
        raise structlog.DropEvent

    def _flooded(self, flood: Active) -> None:
        if self._link is not None:
            self._link.say("flood", *flood_words(flood))

    def _skipped(self, ip: str, target: Target, why: str, until: float) -> None:
        if self._link is not None:
            self._link.say("skip", ip, target.host, target.address, target.port, why, until)

    async def _report(self, attend: Callable[[], None]) -> None:
        assert self._machine is not None
        assert self._link is not None
        while True:
            if not self._stop.is_set():
                attend()
            self._link.say("status", status(self._machine))
            await asyncio.sleep(EVERY)

    # -- from the head

    def _heard(self, said: list[Any]) -> None:
        kind, *rest = said
        if kind == "begin":
            self._begin.set_result(said)
            return
        if self._leases is None or self._machine is None:
            return
        getattr(self, f"_on_{kind}")(*rest)

    def _on_beat(self) -> None:
        assert self._leases is not None
        self._leases.heard = time.monotonic()

    def _on_placed(self, rate: str, limit: float, places: list[float]) -> None:
        assert self._leases is not None
        self._leases.placed(rate, limit, places)

    def _on_spare(self, rate: str) -> None:
        assert self._leases is not None
        self._leases.spare(rate)

    def _on_answer(self, key: str, at: float, why: str | None, until: float | None, full: str) -> None:
        assert self._leases is not None
        self._leases.answered(key, at, why, until, full)

    def _on_free(self, names: list[str]) -> None:
        assert self._leases is not None
        self._leases.freed(names)

    def _on_give_up(self, name: str) -> None:
        assert self._machine is not None
        self._machine.slots.give_up(name, time.monotonic())

    def _on_reload(self) -> None:
        assert self._reread is not None
        self._reread()

    def _on_flood(
        self, lane: str, rule: int, answer: str, since: float, paused_until: float, reduced_until: float
    ) -> None:
        machine = self._machine
        assert machine is not None
        found = machine.rules.snapshot.rule("floods", rule)
        if isinstance(found, Flood):
            machine.floods.adopt(Active(lane, found, answer, since, paused_until, reduced_until))
            machine.lanes.go_on(lane)

    def _on_end_flood(self, lane: str) -> None:
        assert self._machine is not None
        self._machine.floods.end(lane)
        self._machine.lanes.go_on(lane)

    def _on_skip(self, ip: str, host: str, address: str, port: int, why: str, until: float) -> None:
        assert self._machine is not None
        self._machine.slots.pass_over(ip, Target(host, address, port), why, until)

    def _on_healthy(self, ip: str, host: str, address: str, port: int) -> None:
        assert self._machine is not None
        self._machine.slots.healthy(ip, Target(host, address, port))

    def _on_go_on(self, lane: str) -> None:
        assert self._machine is not None
        self._machine.lanes.go_on(lane)

    def _on_reopen(self) -> None:
        assert self._machine is not None
        self._machine.reopen_logs()

    def _on_watch(self, number: int, only: dict[str, str], rate: int) -> None:
        assert self._dialogue is not None
        self._dialogue.watch(number, only, rate)

    def _on_discard(self, number: int, selection: dict[str, Any]) -> None:
        if self._discarding is not None:  # else it is asked again once it is ready
            self._discarding.begin(number, selection)

    def _on_each(self, wanted: bool) -> None:
        assert self._telling is not None
        self._telling.each(wanted)

    def _on_leave(self, number: int) -> None:
        assert self._dialogue is not None
        self._dialogue.leave(number)

    def _on_go(self) -> None:
        assert self._machine is not None
        self._machine.intake.share()

    def _on_stop(self) -> None:
        self._stop.set()
