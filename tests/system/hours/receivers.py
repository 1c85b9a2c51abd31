"""The receivers: five kinds of servers on loopback addresses, one port, and name servers that know their domains."""

from __future__ import annotations

import contextlib
import itertools
import pathlib
import re
import subprocess
import threading
from typing import Any

from aiosmtpd.controller import Controller

from pipeline.demo.nameserver import NameServer
from tests.support.loop import Loop
from tests.support.mailbox import Mailbox
from tests.support.receiver import Mail, Receiver
from tests.system.hours.ledger import Ledger

WELL, AIO, SINK, LATER, PICKY, CUTS = HOSTS = {
    "well.example": "127.5.0.1",
    "aio.example": "127.5.0.2",
    "sink.example": "127.5.0.3",
    "later.example": "127.5.0.4",
    "picky.example": "127.5.0.5",
    "cuts.example": "127.5.0.6",
}
END = b"the end of this message"  # its last line; a message without it has not arrived
TTL = 5
_NUMBER = re.compile(rb"^X-Number: (\S+)\r?$", re.MULTILINE)


def number_of(message: bytes) -> str | None:
    """The id of a whole message."""
    found = _NUMBER.search(message)
    return found[1].decode() if found and END in message else None


class SilentNameServer(NameServer):
    """Answers nothing at all while it is silent."""

    silent = False

    def answer(self, wire: bytes, over_tcp: bool = False) -> bytes | None:
        return None if self.silent else super().answer(wire, over_tcp)


class _Counting(Mailbox):
    """Mailrace's own receiver of the tests."""

    def __init__(self, ledger: Ledger, host: str) -> None:
        super().__init__(host)
        self.ledger = ledger

    def accept(self, message: bytes) -> None:
        if id := number_of(message):
            self.ledger.arrive(id)


class _Noting(list[Mail]):
    """The messages of a scripted receiver, which are noted and not kept."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger

    def append(self, mail: Mail) -> None:
        if id := number_of(mail.data):
            self.ledger.arrive(id)


class _Scripted(Receiver):
    """Puts off each third recipient, unless it has a script for them."""

    turns = itertools.count(1)

    def next(self, verb: str) -> Any:
        self.raw.clear()
        self.commands.clear()
        if verb == "RCPT" and verb not in self.script and next(self.turns) % 3 == 0:
            return "451 4.7.1 later"
        return super().next(verb)


class _Handler:
    """aiosmtpd's. `cuts`: hangs up after each so manieth message, before its answer."""

    def __init__(self, ledger: Ledger, cuts: int = 0) -> None:
        self.ledger, self.cuts, self.turns = ledger, cuts, itertools.count(1)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        cut = bool(self.cuts) and next(self.turns) % self.cuts == 0
        if id := number_of(envelope.content):
            self.ledger.arrive(id, cut=cut)
        if cut:
            server.transport.abort()
        return "250 2.0.0 taken"


class Receivers:
    """All of them, and two name servers. A context manager.

    Args:
        ledger: where arrivals are noted.
        folder: for the messages of smtp-sink.
        name_servers: their addresses, on port 53; empty: one, on a port of its own.
    """

    def __init__(self, ledger: Ledger, folder: pathlib.Path, name_servers: tuple[str, ...] = ()) -> None:
        self.ledger, self.folder = ledger, folder
        self.names = [SilentNameServer(negative_ttl=TTL) for _ in name_servers or ("",)]
        self._addresses = name_servers
        self._life = contextlib.ExitStack()
        self._over = threading.Event()
        self.port = 0

    def __enter__(self) -> Receivers:
        loop = self._life.enter_context(Loop())
        well = self._life.enter_context(_Counting(self.ledger, HOSTS[WELL]))
        self.port = well.port
        for domain, script in ((LATER, {}), (PICKY, {"RCPT": "550 5.1.1 no such user here"})):
            receiver = _Scripted(script, host=HOSTS[domain], port=self.port, messages=_Noting(self.ledger))
            loop.run(receiver.__aenter__())
        for domain, cuts in ((AIO, 0), (CUTS, 20)):
            controller = Controller(_Handler(self.ledger, cuts), hostname=HOSTS[domain], port=self.port)
            controller.start()
            self._life.callback(controller.stop)
        self._sink()
        for names, address in itertools.zip_longest(self.names, self._addresses, fillvalue="127.0.0.1"):
            for domain, host in HOSTS.items():
                names.add(domain, "A", host, ttl=TTL)  # type: ignore[union-attr]
            loop.run(names.start(address, 53 if self._addresses else 0))  # type: ignore[union-attr, arg-type]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._life.close()

    def _sink(self) -> None:
        """Postfix's, which writes each message to a file."""
        folder = self.folder / "sink"
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
        command = ["smtp-sink", "-u", "root", "-d", f"{folder}/m", f"{HOSTS[SINK]}:{self.port}", "100"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._life.callback(process.kill)
        reader = threading.Thread(target=self._read_sink, args=(folder,), daemon=True)
        reader.start()
        self._life.callback(reader.join)

    def _read_sink(self, folder: pathlib.Path) -> None:
        last = False
        while not last:
            last = self._over.wait(0.5)
            for file in folder.iterdir():
                if id := number_of(file.read_bytes()):
                    self.ledger.arrive(id, when=file.stat().st_mtime)
                    file.unlink()


def resolvable(names: NameServer) -> str:
    """For `dns-server`."""
    return f"{names.address}:{names.port}"
