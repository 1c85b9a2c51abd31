"""A port whose connections are taken one a turn; several processes may have the same listening socket.

A connection waits in the one queue of the socket until a process takes it. So one that is stuck or has died keeps none
waiting, which it does where each has a socket of its own (SO_REUSEPORT): there the system chooses who gets a connection
before anybody is there for it.

Bounds: one connection taken in a turn of the loop; a process that has more than others leaves a connection to them for
POLITE seconds.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from pipeline.process.supervisor import spawn, supervisor

Enter = Callable[[socket.socket], Coroutine[Any, Any, None]]
POLITE = 0.02  # seconds
EXHAUSTED = 1.0  # seconds until another try where there are no descriptors left


class Port:
    """One process's end of it; where there is one process, all of it.

    Args:
        sock: listens; owned from now on.
        enter: makes a session of a connection; owns it.
        ours: whether the next connection is for this process: no other one has fewer.
    """

    def __init__(self, sock: socket.socket, enter: Enter, ours: Callable[[], bool] = lambda: True) -> None:
        self.sockets = (sock,)
        self._sock, self._enter, self._ours = sock, enter, ours
        self._loop = asyncio.get_running_loop()
        self._ready = supervisor().guarded(self._look, "smtp intake")
        sock.setblocking(False)
        self._open = True
        self.arriving = 0  # taken, and no session yet
        self._in_vain = 0  # connections that were left to others, and not taken by them, in a row
        self._watch()

    def close(self) -> None:
        """Take no more."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _watch(self) -> None:
        if self._open:
            self._loop.add_reader(self._sock.fileno(), self._ready)

    def _rest(self, seconds: float, act: Callable[[], None]) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._loop.call_later(seconds, act)

    def _look(self) -> None:
        if self._ours():
            self._take()
        else:
            self._rest(POLITE, self._take_what_is_left)

    def _take_what_is_left(self) -> None:
        """The others are busy or stuck: one, the next time two, and so on, so that a stuck one holds up little."""
        if not self._open:
            return
        self._watch()
        most = 2 ** min(self._in_vain, 10)
        self._in_vain = self._in_vain + 1 if all(self._take() for _ in range(most)) else 0

    def _take(self) -> bool:
        try:
            connection, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):  # another process has it, or it is gone
            return False
        except OSError:
            self._rest(EXHAUSTED, self._watch)
            raise
        connection.setblocking(False)
        self.arriving += 1
        spawn(self._begin(connection), "smtp intake", grave=False)
        return True

    async def _begin(self, connection: socket.socket) -> None:
        try:
            await self._enter(connection)
        finally:
            self.arriving -= 1
