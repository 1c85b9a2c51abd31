"""What the service manager is told, as systemd would hear it: a datagram socket."""

from __future__ import annotations

import asyncio
import pathlib
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from pipeline.process.notify import ServiceManager
from pipeline.process.supervisor import supervisor
from tests.support.loop import VirtualLoop
from tests.support.program import Program, greets


class Manager:
    """The service manager's end of the socket.

    Args:
        name: a path; or an abstract name, which begins with @.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self._socket.settimeout(60)

    def hears(self) -> list[str]:
        """What has come, without waiting."""
        self._socket.setblocking(False)
        found = []
        try:
            while True:
                found.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            return found

    def until(self, holds: Callable[[str], bool]) -> str:
        """The next datagram of that kind; others before it are left out."""
        while True:
            said = self._socket.recv(4096).decode()
            if holds(said):
                return said

    def close(self) -> None:
        """No more is taken."""
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest) -> Iterator[Manager]:
    """Both kinds of names that systemd gives; a path has to be short."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        manager = Manager(f"@{folder}" if request.param == "abstract" else f"{folder}/notify")
        yield manager
        manager.close()


def spoken(seconds: float, manager: Manager, status: Callable[[], str], **more: str) -> list[str]:
    """What is said in so many virtual seconds by a program that works."""
    loop = VirtualLoop()

    async def run() -> None:
        with ServiceManager({"NOTIFY_SOCKET": manager.name, **more}) as told:
            told.ready(status)
            await asyncio.sleep(seconds)
            told.stopping()

    loop.run_until_complete(run())
    loop.close()
    return manager.hears()


def test_the_watchdog_is_beaten_at_half_of_its_time(systemd: Manager) -> None:
    """sd_watchdog_enabled(3); by the event loop, so that one which does not turn is seen."""
    said = spoken(9, systemd, lambda: "well", WATCHDOG_USEC="4000000")
    assert said == ["READY=1", "WATCHDOG=1", "STATUS=well", *["WATCHDOG=1"] * 4, "STOPPING=1"]


@pytest.mark.parametrize("more", [{}, {"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}])
def test_without_a_watchdog_for_this_process_there_is_no_beat(systemd: Manager, more: dict[str, str]) -> None:
    """WATCHDOG_PID names whom it is for."""
    assert spoken(60, systemd, lambda: "well", **more) == ["READY=1", "STATUS=well", "STOPPING=1"]


def test_a_status_is_one_line_and_said_where_it_changes(systemd: Manager) -> None:
    """A line end in it would begin another assignment."""
    texts = iter(["well", "the disk is full\nREADY=0", "well"])
    last = "well"
    said = spoken(45, systemd, lambda: next(texts, last))
    assert said == ["READY=1", "STATUS=well", "STATUS=the disk is full\\u000aREADY=0", "STATUS=well", "STOPPING=1"]


def test_a_status_that_fails_ends_no_beat(systemd: Manager) -> None:
    """A fault of the status is no reason to start the program anew."""

    def fails() -> str:
        if next(calls):
            raise RuntimeError
        return "well"

    calls = iter(range(99))
    assert spoken(5, systemd, fails, WATCHDOG_USEC="4000000").count("WATCHDOG=1") == 3


def test_a_reload_is_announced_only_while_the_program_works(systemd: Manager) -> None:
    """Else READY=1 would be said before the ports are open."""

    async def run() -> None:
        with ServiceManager({"NOTIFY_SOCKET": systemd.name}) as told:
            reload = told.reloading(lambda: None)
            reload()
            told.ready(lambda: "well")
            reload()
            told.stopping()
            reload()

    asyncio.run(run())
    said = systemd.hears()
    assert [line.split("\n")[0] for line in said] == ["READY=1", "STATUS=well", "RELOADING=1", "READY=1", "STOPPING=1"]
    assert said[2].split("\n")[1].removeprefix("MONOTONIC_USEC=").isdecimal()


def test_a_manager_that_is_gone_is_a_fault_and_holds_nothing_up(systemd: Manager) -> None:
    """Neither a message to nobody nor a full socket ends the program."""

    async def run() -> tuple[dict[str, int], bool]:
        with ServiceManager({"NOTIFY_SOCKET": systemd.name}) as told:
            systemd.close()
            told.ready(lambda: "well")
            return supervisor().errors, supervisor().grave

    errors, grave = asyncio.run(run())
    assert errors["notify"] > 0
    assert not grave


def test_without_a_service_manager_nothing_is_said() -> None:
    """Nothing to send to, nothing to fail; and what is not a socket's name is none."""

    async def run(environment: dict[str, str]) -> dict[str, int]:
        with ServiceManager(environment) as told:
            told.ready(lambda: "well")
            told.reloading()()
            told.stopping()
        assert not environment
        return supervisor().errors

    for environment in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}):
        assert asyncio.run(run(environment)) == {}


@pytest.mark.system
def test_the_whole_program_as_a_service(tmp_path: pathlib.Path, systemd: Manager) -> None:
    """READY with open ports, beats, a reload at SIGHUP, STOPPING at SIGTERM; children know nothing of it."""
    program = Program(tmp_path)
    program.environment |= {"NOTIFY_SOCKET": systemd.name, "WATCHDOG_USEC": "1000000"}
    with program:
        systemd.until(lambda said: said == "READY=1")
        assert greets(program.smtp_port)
        with socket.create_connection(("127.0.0.1", program.www_port), 5):
            pass
        assert systemd.until(lambda said: said.startswith("STATUS=")) == "STATUS=mail is taken, and leaves"
        systemd.until(lambda said: said == "WATCHDOG=1")
        assert program.process is not None
        for child in psutil.Process(program.process.pid).children(recursive=True):
            assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & child.environ().keys()
        before = time.monotonic_ns() // 1000
        program.process.send_signal(signal.SIGHUP)
        reloading = systemd.until(lambda said: said.startswith("RELOADING=1"))
        assert int(reloading.partition("MONOTONIC_USEC=")[2]) >= before
        systemd.until(lambda said: said == "READY=1")
        program.process.send_signal(signal.SIGTERM)
        systemd.until(lambda said: said == "STOPPING=1")
        assert program.process.wait(40) == 0
