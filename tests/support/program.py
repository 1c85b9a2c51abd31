"""The whole program as a process of its own, on free ports and a folder of its own."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil

from tests.support.waiting import until

ROOT = pathlib.Path(__file__).parent.parent.parent
MAILRACE = [str(pathlib.Path(sys.executable).with_name("mailrace"))]  # as it is installed beside this Python
FIRST, LAST = 10_000, 32_000  # ports


def _ports() -> Iterator[int]:
    """Below those that outgoing connections are given, each worker of a test run has its own; each port comes once."""
    workers, worker = 8, int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8
    count = (LAST - FIRST) // workers
    for number in itertools.count(os.getpid() * 61):
        yield FIRST + worker + workers * (number % count)


_next_ports = _ports()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on now, and that nothing takes before its server does."""
    for port in _next_ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return port
    raise AssertionError


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Does anything take connections there?"""
    with contextlib.suppress(OSError):
        socket.create_connection((host, port), 1).close()
        return True
    return False


def greets(port: int, host: str = "127.0.0.1") -> bool:
    """Does an SMTP server answer there?"""
    try:
        with socket.create_connection((host, port), 1) as connection:
            connection.settimeout(2)
            return connection.recv(3) == b"220"
    except OSError:
        return False


class Program:
    """`mailrace serve`.

    Args:
        folder: its data-dir, and where its terminal output goes.
        options: configuration keys, underscores for hyphens.
        command: what to run instead of `serve`.
    """

    def __init__(self, folder: pathlib.Path, command: str = "serve", **options: object) -> None:
        self.folder, self.command = folder, command
        self.smtp_port, self.www_port = free_port(), free_port()
        self.options: dict[str, object] = {
            "data_dir": folder / "var",
            "smtp_port": self.smtp_port,
            "www_port": self.www_port,
            "www_ip": "127.0.0.1",
            "smtp_default_ips": "127.0.0.1",
            **options,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.run = MAILRACE  # how it is started, where (not in the checkout), by whom, in which environment
        self.cwd: pathlib.Path = folder
        self.user: int | None = None
        self.terminal: int | None = None  # a descriptor in the place of the file
        self.environment: dict[str, str] = {**os.environ, "PYTHONUNBUFFERED": "1"}

    @property
    def arguments(self) -> list[str]:
        """The options as they stand on the command line."""
        return [f"--{key.replace('_', '-')}={value}" for key, value in self.options.items()]

    @property
    def output(self) -> str:
        """What it has written to the terminal."""
        return (self.folder / "terminal").read_text(errors="replace")

    def start(self, patience: float = 120) -> Program:
        """Start it, and wait until its SMTP server greets."""
        with (self.folder / "terminal").open("ab") as terminal:
            self.process = subprocess.Popen(
                [*self.run, self.command, *self.arguments],
                cwd=self.cwd,
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
                stdout=terminal if self.terminal is None else self.terminal,
                stderr=terminal if self.terminal is None else self.terminal,
                stdin=subprocess.DEVNULL,
                env=self.environment,
            )
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if greets(self.smtp_port):
                return self
            if self.process.poll() is not None:
                raise RuntimeError(f"it ended with {self.process.returncode}:\n{self.output[-2000:]}")
            time.sleep(0.05)
        raise RuntimeError(f"no greeting in {patience} s:\n{self.output[-2000:]}")

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, patience: float = 40) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience)

    def resident(self) -> int:
        """Resident memory, bytes."""
        assert self.process is not None
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def attempts(self, count: int) -> list[dict[str, object]]:
        """The delivery log's lines, once there are so many."""
        log = pathlib.Path(str(self.options["data_dir"])) / "logs" / "send.jsonl"

        def lines() -> list[str]:
            return log.read_text().splitlines() if log.exists() else []

        until(lambda: len(lines()) >= count, "the delivery log has fewer lines")
        return [json.loads(line) for line in lines()]

    def __enter__(self) -> Program:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
