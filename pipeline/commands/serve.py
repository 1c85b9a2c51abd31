"""The command `serve`: the machine and its console in one process, from start to orderly stop.

Owner of: the process's signals and its program log. SIGTERM and SIGINT stop the machine first, while the console still
shows how, then the console. SIGHUP reopens the log files. What cannot start is one line (`StartError`), and whatever
had started is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import structlog

from pipeline.machine.garbage import leave_alone_what_is_there
from pipeline.machine.machine import Machine
from pipeline.process import become, check_rights, hand_over, only_one
from pipeline.process.budget import claim
from pipeline.process.children import unreadable
from pipeline.process.destinations import Destination, StreamSink, let_go_of_terminal
from pipeline.process.notify import ServiceManager
from pipeline.process.program_log import ProgramLog, ProgramLogUnavailable
from pipeline.process.supervisor import spawn, supervisor
from pipeline.queues import adopt_orphans, open_queue, orphans
from pipeline.queues.contract import QueueUnavailable
from pipeline.views.facade import Facade
from settings import Settings, StartError

if TYPE_CHECKING:
    from pipeline.demo.demo import Demo

log = structlog.get_logger("mailrace")


class ServedConsole(Protocol):
    """What this command needs of the console. Making it opens its ports: one that is taken is said before all else."""

    async def start(self, facade: Facade) -> Sequence[str]:
        """Serve; returns lines for the person at the terminal."""

    async def stop(self) -> None:
        """Say goodbye to the browsers, and close."""


NewConsole = Callable[[Settings], ServedConsole]


async def run(settings: Settings, console: NewConsole, demo: bool = False) -> int:
    """Run until a signal says stop; the exit code.

    Args:
        settings: the configuration.
        console: makes the console; it raises `StartError`, too.
        demo: with a simulated internet, and traffic.

    Raises:
        StartError: something cannot start; the line says what.
    """
    try:
        program_log = ProgramLog(settings.application_log, settings.application_log_format)
    except ProgramLogUnavailable as error:
        raise StartError(str(error)) from None
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(let_go_of_terminal)
        stack.callback(program_log.close)
        settings, tight = claim(settings)
        if tight:
            log.warning(tight)
        stack.enter_context(only_one(settings))
        internet = None
        if demo:
            from pipeline.demo import start  # it brings the simulated internet, which mail needs nothing of

            internet = await start(settings)
            stack.push_async_callback(internet.stop)
            settings = internet.settings
        overseer = stack.enter_context(supervisor().hear())
        overseer.condition("program-log", lambda: program_log.trouble)
        overseer.lost_lines = lambda: program_log.lost
        await _run(settings, console, program_log.reopen, internet)
    if overseer.reason:
        raise StartError(overseer.reason)
    return 0


async def _run(settings: Settings, console: NewConsole, reopen: Callable[[], None], internet: Demo | None) -> None:
    """Machine and console, until a signal; in the end the machine stops first, while the console still shows how."""
    stopped = supervisor().stopping
    web = console(settings)
    machine = await machine_of(settings)
    facade = Facade(machine)
    facade.fictional = internet is not None
    manager = ServiceManager(os.environ)
    try:
        with manager, _signals(stopped, manager.reloading(reopen, machine.reopen_logs)):
            await machine.start()
            try:
                lines = await web.start(facade)
                hand_over(settings)
                become(settings.user)
                check_rights(settings)
                if (why := unreadable()) is not None:
                    supervisor().condition("installation", lambda: why)
                announce(settings, lines)
                leave_alone_what_is_there()
                facade.alerts.start()
                sending = None
                if internet is not None:
                    sending = spawn(_played(internet, machine, facade), "traffic", grave=False)
                else:
                    spawn(facade.remember(), "charts", grave=False)
                manager.ready(lambda: machine.health.stopped or "mail is taken, and leaves")
                await stopped.wait()
                manager.stopping()
                if sending is not None:
                    sending.cancel()
            finally:
                await facade.alerts.close()
                await machine.stop()
    finally:
        await web.stop()
        facade.close()


async def _played(internet: Demo, machine: Machine, facade: Facade) -> None:
    """The demo's rules and its past, then its traffic until cancelled."""
    await internet.furnish(machine.rules)
    await facade.remember()
    await internet.traffic(machine.settings.smtp_port[0])


@contextlib.contextmanager
def _signals(stopped: asyncio.Event, *reopen: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def reopen_all() -> None:
        for one in reopen:
            one()

    handlers: dict[signal.Signals, Callable[[], None]] = {
        signal.SIGTERM: stopped.set,
        signal.SIGINT: stopped.set,
        signal.SIGHUP: reopen_all,
    }
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)  # who started this may have left them blocked
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a log rotation during the stop must not end it


async def machine_of(settings: Settings) -> Machine:
    """The machine, with workers where there are several. What other workers have left is taken up first."""
    if settings.workers == 1:
        await adopted(settings)
        return Machine(settings)
    from pipeline.workers.head import HeadMachine

    machine = HeadMachine(settings)
    machine.prepare()
    await adopted(settings)
    return machine


async def adopted(settings: Settings) -> None:
    """Mail in queues without a worker goes into the first one's. Raises `StartError`."""
    if settings.rabbitmq_address is not None or not orphans(settings.data_dir, settings.workers):
        return
    queue = open_queue(settings, alone=True)
    try:
        await queue.start()  # so that the file is there
        await queue.close()
        moved = await asyncio.to_thread(adopt_orphans, settings.data_dir, settings.workers)
    except (QueueUnavailable, sqlite3.Error, OSError) as error:
        raise StartError(f"workers: what is queued for others cannot be taken up: {error}") from None
    if moved:
        log.warning("mail of workers that are no more was taken up", messages=moved)


def announce(settings: Settings, console: Sequence[str]) -> None:
    """Where everything is, for the person at the terminal."""
    lines = [*console, *_mail(settings.smtp_ip, settings.smtp_port)]
    text = "\n".join(["", *(f"  {line}" for line in lines), "", ""])
    terminal = Destination(StreamSink("stderr"))  # a pipe that nobody reads holds up nothing
    terminal.put(logging.INFO, text.encode())
    terminal.close(patience=0.5)


def _mail(address: str, ports: Sequence[int] | int | None) -> list[str]:
    port = ports[0] if isinstance(ports, Sequence) and ports else ports
    if not port:
        return []
    host = "127.0.0.1" if address in ("0.0.0.0", "::") else address  # noqa: S104
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return [f"SMTP     {where}", f"Try      swaks --server {where} --from me@example.com --to you@example.com"]
