"""`mailrace send -bs`: SMTP on standard input and output, as programs expect it of sendmail.

The session is the SMTP server's, between this process and itself; a user of this machine needs no login. 250 is said
when the queue has the message, so it needs no server that runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import threading
import time
from typing import BinaryIO

from operators.deliveries.events import Event
from pipeline.queues.contract import Queue
from pipeline.smtp.server.access.guard import Guard
from pipeline.smtp.server.session import Session
from pipeline.smtp.server.shared import Shared
from settings import Settings

PIECE = 65536
_HERE = ("127.0.0.1", 0)
_ALL = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]


async def speak(settings: Settings, queue: Queue, stdin: BinaryIO, stdout: BinaryIO) -> None:
    """One session, until either side ends it."""
    mine = settings.model_copy(update={"smtp_range": _ALL, "smtp_unmappable_ips": _ALL})
    shared = Shared(mine, queue, _unheard, lambda _: False, None, Guard(), socket.gethostname(), time.time)
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    session = Session(shared, loop, (_HERE, _HERE))
    await loop.connect_accepted_socket(lambda: session, ours)
    threading.Thread(target=_pass_in, args=(stdin, theirs), daemon=True).start()
    await asyncio.to_thread(_pass_out, theirs, stdout)
    await shared.emptied(5.0)


def _unheard(event: Event) -> None:
    """The server's log is the server's."""


def _pass_in(stdin: BinaryIO, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := os.read(stdin.fileno(), PIECE):
            to.sendall(piece)
        to.shutdown(socket.SHUT_WR)


def _pass_out(source: socket.socket, stdout: BinaryIO) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(PIECE):
            stdout.write(piece)
            stdout.flush()
