"""The scene: the installed program with little of everything, its disk, its broker, its receivers, and the ledger."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.api import TOKEN
from tests.support.broker import Broker
from tests.support.disk import mount
from tests.support.program import Program
from tests.system.hours.ledger import Ledger
from tests.system.hours.receivers import WELL, Receivers, resolvable
from tests.system.hours.senders import Doors, Session, offer
from tests.system.test_descriptors import POOR

MEGABYTES = 200
NAME_SERVERS = tuple(f"127.6.{os.getpid() % 250}.{last}" for last in (1, 2))  # on port 53
FAKETIME = sorted(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
RESOLV_CONF = "/etc/resolv.conf"
LOG = "mailrace.log"


class Terminal:
    """The program's terminal is a pipe; a thread reads it into a file, while somebody reads."""

    def __init__(self, file: pathlib.Path) -> None:
        reads, self.writes = os.pipe()
        fcntl.fcntl(reads, fcntl.F_SETPIPE_SZ, 4096)
        self.reading = threading.Event()
        self.reading.set()
        self._thread = threading.Thread(target=self._run, args=(reads, file), daemon=True)
        self._thread.start()

    def stand(self) -> None:
        """Nobody reads any more, and it is full."""
        self.reading.clear()
        os.set_blocking(self.writes, False)  # that is so for the program, too, while it lasts
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.writes, b"\n" * 512)
        os.set_blocking(self.writes, True)

    def _run(self, reads: int, file: pathlib.Path) -> None:
        with file.open("ab", buffering=0) as out:
            while data := os.read(reads, 65536):
                self.reading.wait()
                out.write(data)


@dataclass
class Scene:
    """Everything of one run.

    Attributes:
        disk: data-dir, which is a disk of its own where that can be had.
        image: the file behind it; None: it is no real disk, and cannot be made read-only.
        clock: the file that libfaketime reads; None: it is not installed.
        resolver: the file that is /etc/resolv.conf here; None: nobody may mount.
    """

    folder: pathlib.Path
    ledger: Ledger
    program: Program
    receivers: Receivers
    terminal: Terminal
    doors: Doors
    dice: random.Random
    broker: Broker | None = None
    image: pathlib.Path | None = None
    clock: pathlib.Path | None = None
    resolver: pathlib.Path | None = None
    mounted: bool = False
    offset: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def disk(self) -> pathlib.Path:
        return self.folder / "var"

    @property
    def queue(self) -> str:
        return "rabbitmq" if self.broker else "embedded"

    def works_again(self, patience: float) -> float | None:
        """Seconds until a message that is offered now, or later, is accepted and has arrived; None: it does not."""
        begin, send, sent = time.monotonic(), Session(self.doors), set()
        while time.monotonic() - begin < patience:
            if (id := offer(self.ledger, "probe", WELL, send)) is not None:
                sent.add(id)
            until = time.monotonic() + 1
            while time.monotonic() < until:
                if sent & self.ledger.delivered.keys():
                    return time.monotonic() - begin
                time.sleep(0.02)
        return None

    def set_clock(self, offset: int) -> None:
        """So many seconds from the true one."""
        assert self.clock is not None
        self.clock.write_text(f"{offset:+d}\n")

    def mount(self) -> None:
        """The disk, after it was made or mended."""
        subprocess.run(["mount", "-o", "loop,errors=remount-ro", str(self.image), self.disk], check=True)


@contextlib.contextmanager
def scene(
    folder: pathlib.Path, run: list[str], seed: int, *, rabbitmq: bool, mounts: bool, pace: float = 1.0
) -> Iterator[Scene]:
    """A running program, started from another folder, with 1,024 descriptors. `run`: the command that is installed."""
    ledger = Ledger()
    with contextlib.ExitStack() as stack:
        receivers = stack.enter_context(Receivers(ledger, folder, NAME_SERVERS if mounts else ()))
        broker = stack.enter_context(Broker()) if rabbitmq else None
        program = Program(folder, **_options(folder, receivers, broker, mounts))
        program.run, program.cwd = [sys.executable, "-c", POOR, *run], pathlib.Path("/")
        program.environment = {"PATH": os.environ["PATH"]}
        terminal = Terminal(folder / "terminal")
        program.terminal = terminal.writes
        where = [f"--data-dir={folder / 'var'}", *([f"--rabbitmq-address={broker.address}"] if broker else [])]
        doors = Doors(
            program.smtp_port, program.www_port, [*run, "send", *where], folder, broker.address if broker else "", pace
        )
        made = Scene(folder, ledger, program, receivers, terminal, doors, random.Random(seed), broker, mounted=mounts)
        _surround(made)
        if made.mounted:
            stack.callback(_unmount, made)
        stack.enter_context(program)
        yield made


def _options(folder: pathlib.Path, receivers: Receivers, broker: Broker | None, mounts: bool) -> dict[str, object]:
    options: dict[str, object] = {
        "delivery_port": receivers.port,
        "retry_interval": "2,2,5",
        "shutdown_timeout": 10,
        "dns_timeout": 1,
        "dns_attempts": 2,
        "api_token": TOKEN,
        "www_password": "the-password-of-the-hour",
        "rabbitmq_results": "results",
        "rabbitmq_success": "",
        "rabbitmq_failure": "",
        "rabbitmq_retry": "",
        "rabbitmq_refused": "refused",
        "application_log": f"stderr,{folder / 'var' / LOG}",
    }
    if broker:
        options |= {"rabbitmq_address": broker.address, "rabbitmq_qos": 200}
    if not mounts:
        options["dns_server"] = resolvable(receivers.names[0])
    return options


def _surround(made: Scene) -> None:
    """Its disk, its clock and its resolv.conf."""
    if FAKETIME:
        made.clock = made.folder / "clock"
        made.set_clock(0)
        made.program.environment |= {
            "LD_PRELOAD": str(FAKETIME[0]), "FAKETIME_TIMESTAMP_FILE": str(made.clock), "NO_FAKE_STAT": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_RESET": "1",
        }  # fmt: skip
    if not made.mounted:
        made.disk.mkdir(0o700)
        return
    image = made.folder / "image"
    try:
        made.disk.mkdir()
        with image.open("wb") as file:
            file.truncate(MEGABYTES * 1_000_000)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
        made.image = image
        made.mount()
    except (OSError, subprocess.CalledProcessError):
        made.image = None
        made.disk.rmdir()
        mount(made.disk, MEGABYTES)
    made.disk.chmod(0o700)
    made.resolver = made.folder / "resolv.conf"
    made.resolver.write_text(f"nameserver {NAME_SERVERS[0]}\n")
    subprocess.run(["mount", "--bind", made.resolver, RESOLV_CONF], check=True)


def _unmount(made: Scene) -> None:
    for path in (made.disk, RESOLV_CONF):
        subprocess.run(["umount", "-l", path], check=False)
