"""Notify: what the service manager is told of the program, by the protocol of sd_notify(3).

`Type=notify` of systemd waits for READY=1, shows STATUS in `systemctl status`, and with `WatchdogSec` starts a program
anew whose event loop does not turn: the loop itself sends WATCHDOG=1. Without NOTIFY_SOCKET nothing is sent.

The variables are taken out of the environment, so that no child can speak for the program. A socket that takes nothing
is a failure of the part `notify`, and holds nothing up.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, MutableMapping
from types import TracebackType

from pipeline.log.text import visible
from pipeline.process.supervisor import supervisor

BEAT = 10.0  # seconds between looks at the status, and between two beats where the watchdog wants them less often
LONGEST = 300  # characters of a status


class ServiceManager:
    """The service manager that started this process, as a context manager around the program's life.

    Args:
        environment: has NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID where there is one.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        name = environment.pop("NOTIFY_SOCKET", "")
        self._pause = _pause(environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", ""))
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ask: Callable[[], str] = lambda: ""
        self._status = ""
        self._works = False

    def __enter__(self) -> ServiceManager:
        if self._address.startswith(("/", "\0")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ready(self, status: Callable[[], str]) -> None:
        """The program works. From now on the event loop says so again and again, with the status where it changes."""
        self._ask, self._works = status, True
        self._say("READY=1")
        if self._socket is not None:
            self._beat()

    def reloading(self, *acts: Callable[[], None]) -> Callable[[], None]:
        """The same calls one after another, announced as a reload while the program works."""

        def reload() -> None:
            if self._works:
                self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                for act in acts:
                    act()
            finally:
                if self._works:
                    self._say("READY=1")

        return reload

    def stopping(self) -> None:
        """The program ends in order. The beats go on meanwhile."""
        self._ask, self._works = lambda: "stops: what is in flight ends", False
        self._say("STOPPING=1")

    def _beat(self) -> None:
        again = supervisor().guarded(self._beat, "notify", grave=False)
        self._timer = asyncio.get_running_loop().call_later(self._pause or BEAT, again)
        if self._pause is not None:
            self._say("WATCHDOG=1")
        status = visible(self._ask())[:LONGEST]
        if status != self._status:
            self._status = status
            self._say(f"STATUS={status}")

    def _say(self, *lines: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            supervisor().failed("notify", error, grave=False)


def _pause(microseconds: str, pid: str) -> float | None:
    """Seconds between two beats: half of what the watchdog waits, as sd_watchdog_enabled(3) asks for; None without."""
    if not microseconds.isdecimal() or int(microseconds) == 0 or (pid and pid != str(os.getpid())):
        return None
    return min(BEAT, int(microseconds) / 2_000_000)
