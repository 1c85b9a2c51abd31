"""smtp-source -> relay -> smtp-sink, all on loopback: Mailrace against Postfix (and Haraka), turn by turn.

Every relay accepts durably and delivers over SMTP. 4 KB mails, 20 sessions kept open. Figures are medians of the
rounds; compare those of one run only. Needs Debian's postfix, and root for Postfix itself. Haraka takes part where
HARAKA_HOME names a folder in which `npm install Haraka` ran.

    python -m tests.bench.relay [--messages 5000] [--rounds 3] [--only mailrace,postfix]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec
import psutil

from tests.bench.table import Row
from tests.support.program import Program, free_port, greets

SESSIONS, BODY, WARM = 20, 4096, 500
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class Figures(msgspec.Struct, frozen=True):
    """One round: messages a second accepted and end to end, CPU seconds of the relay for 1,000 messages."""

    accepted: float
    delivered: float
    cpu: float


class Listening(Protocol):
    """What mail is sent to."""

    port: int


class Sink:
    """smtp-sink, which counts what it gets on its standard output."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the sink
        self.port = free_port()
        command = ["/usr/sbin/smtp-sink", "-c", f"127.0.0.1:{self.port}", "1000"]
        if os.geteuid() == 0:
            command[1:1] = ["-u", "root"]
        self.process = subprocess.Popen(command, **{**QUIET, "stdout": self._file})
        await_greeting(self.port)

    def count(self) -> int:
        """Messages so far."""
        size = os.fstat(self._file.fileno()).st_size
        found = re.findall(rb"mesg=\s*(\d+)", os.pread(self._file.fileno(), 300, max(0, size - 300)))
        return int(found[-1]) if found else 0

    def wait(self, wanted: int) -> int:
        """Until so many have come, or none for a minute."""
        last, since = -1, time.monotonic()
        while (now := self.count()) < wanted and time.monotonic() - since < 60:
            if now != last:
                last, since = now, time.monotonic()
            time.sleep(0.005)
        return now


def await_greeting(port: int) -> None:
    """Until an SMTP server answers there."""
    end = time.monotonic() + 30
    while not greets(port):
        if time.monotonic() > end:
            sys.exit(f"nothing greets on port {port}")
        time.sleep(0.05)


def inject(port: int, messages: int, size: int = 0) -> None:
    """smtp-source: sessions kept open."""
    sessions, octets = str(min(SESSIONS, messages)), str(size or BODY)
    command = ["/usr/sbin/smtp-source", "-d", "-s", sessions, "-l", octets, "-m", str(messages)]
    addresses = ["-f", "foo@example.com", "-t", "bar@example.net", f"127.0.0.1:{port}"]
    subprocess.run([*command, *addresses], check=True, **QUIET)


def processor_time(relay: psutil.Process) -> float:
    """CPU seconds of a relay and all that it started, what has ended included."""
    total = 0.0
    for process in [relay, *relay.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def measure(port: int, sink: Sink, relay: int, messages: int) -> Figures:
    """One round against a relay that listens on `port` and delivers to the sink."""
    warm = sink.count() + WARM
    inject(port, WARM)
    sink.wait(warm)
    time.sleep(1)
    base, process = sink.count(), psutil.Process(relay)
    cpu, begin = processor_time(process), time.perf_counter()
    inject(port, messages)
    accepted = time.perf_counter() - begin
    got = sink.wait(base + messages) - base
    delivered = time.perf_counter() - begin
    time.sleep(0.3)
    if got != messages:
        sys.exit(f"only {got} of {messages} arrived")
    used = (processor_time(process) - cpu) / messages * 1000
    return Figures(messages / accepted, messages / delivered, used)


# -- the relays -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mailrace(folder: pathlib.Path, sink: Sink, **options: object) -> Iterator[tuple[int, int]]:
    """The whole program: durable queue, delivery log, console."""
    with Program(folder, delivery_sink=f"127.0.0.1:{sink.port}", **options) as program:
        assert program.process is not None
        yield program.smtp_port, program.process.pid


@contextlib.contextmanager
def postfix(folder: pathlib.Path, sink: Listening, more: str = "") -> Iterator[tuple[int, int]]:
    """Postfix with a queue of its own in a folder; `more`: lines of main.cf."""
    port, conf = free_port(), folder / "conf"
    folder.chmod(0o755)
    for name in ("conf", "spool", "data"):
        (folder / name).mkdir()
    shutil.chown(folder / "data", "postfix")
    (conf / "main.cf").write_text(MAIN_CF.format(folder=folder, sink=sink.port) + more)
    (conf / "master.cf").write_text(f"127.0.0.1:{port} inet n - n - - smtpd\n{MASTER_CF}")
    subprocess.run(["postfix", "-c", conf, "set-permissions", "create-missing"], check=False, **QUIET)
    process = subprocess.Popen(["postfix", "-c", conf, "start-fg"], start_new_session=True, **QUIET)
    try:
        await_greeting(port)
        yield port, process.pid
    finally:
        subprocess.run(["postfix", "-c", conf, "stop"], check=False, **QUIET)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


MAIN_CF = """compatibility_level = 3.6
queue_directory = {folder}/spool
data_directory = {folder}/data
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}, /var
myhostname = mta.example.org
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
relayhost = [127.0.0.1]:{sink}
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_tls_security_level = none
smtp_tls_security_level = none
disable_dns_lookups = yes
default_process_limit = 100
smtp_destination_concurrency_limit = 50
initial_destination_concurrency = 50
in_flow_delay = 0
smtpd_client_connection_count_limit = 0
"""
SERVICES = (
    ("pickup", "n", "60", "1", "pickup"), ("cleanup", "n", "-", "0", "cleanup"), ("qmgr", "n", "300", "1", "qmgr"),
    ("tlsmgr", "-", "1000?", "1", "tlsmgr"), ("rewrite", "-", "-", "-", "trivial-rewrite"),
    ("bounce", "-", "-", "0", "bounce"), ("defer", "-", "-", "0", "bounce"), ("trace", "-", "-", "0", "bounce"),
    ("verify", "-", "-", "1", "verify"), ("flush", "n", "1000?", "0", "flush"), ("proxymap", "-", "-", "-", "proxymap"),
    ("proxywrite", "-", "-", "1", "proxymap"), ("smtp", "-", "-", "-", "smtp"), ("relay", "-", "-", "-", "smtp"),
    ("showq", "n", "-", "-", "showq"), ("error", "-", "-", "-", "error"), ("retry", "-", "-", "-", "error"),
    ("discard", "-", "-", "-", "discard"), ("anvil", "-", "-", "1", "anvil"), ("scache", "-", "-", "1", "scache"),
)  # fmt: skip
MASTER_CF = (
    "".join(f"{name} unix {private} - n {wake} {most} {does}\n" for name, private, wake, most, does in SERVICES)
    + "postlog unix-dgram n - n - 1 postlogd\n"
)


@contextlib.contextmanager
def haraka(folder: pathlib.Path, sink: Sink) -> Iterator[tuple[int, int]]:
    """Haraka with two processes, from HARAKA_HOME."""
    modules, port = pathlib.Path(os.environ["HARAKA_HOME"]) / "node_modules", free_port()
    program = str(modules / "Haraka" / "bin" / "haraka")
    subprocess.run(["node", program, "-i", folder / "home"], check=False, **QUIET)
    for name, text in haraka_files(port, sink.port).items():
        path = folder / "home" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "home" / "queue").mkdir(exist_ok=True)
    (folder / "home" / "node_modules").symlink_to(modules)
    process = subprocess.Popen(["node", program, "-c", folder / "home"], start_new_session=True, **QUIET)
    try:
        await_greeting(port)
        yield port, process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


def haraka_files(port: int, sink: int) -> dict[str, str]:
    """Relays everything to the sink."""
    relaying = "exports.hook_rcpt = (next, connection) => { connection.relaying = true; next(OK) };\n"
    route = f"exports.hook_get_mx = (next, h, d) => next(OK, {{ priority: 0, exchange: '127.0.0.1', port: {sink} }});\n"
    return {
        "plugins/forward.js": relaying + route,
        "config/plugins": "forward\n",
        "config/smtp.ini": f"listen=127.0.0.1:{port}\nnodes=2\n",
        "config/outbound.ini": "concurrency_max=100\nlocal_mx_ok=true\nenable_tls=false\n",
        "config/me": "mta.example.org\n",
        "config/loglevel": "3\n",
        "config/log.ini": "[main]\nlevel=error\n",
    }


Relay = Callable[[pathlib.Path, Sink], contextlib.AbstractContextManager[tuple[int, int]]]
RELAYS: dict[str, Relay] = {"mailrace": mailrace, "postfix": postfix, "haraka": haraka}


def run(names: list[str], messages: int, rounds: int) -> dict[str, Figures]:
    """Medians of the rounds, relay by relay; the relays take turns."""
    sink, found = Sink(), dict[str, list[Figures]]()
    try:
        for _ in range(rounds):
            for name in names:
                found.setdefault(name, []).append(one_round(name, sink, messages))
    finally:
        sink.process.terminate()
    columns = Figures.__struct_fields__
    return {
        name: Figures(*(statistics.median(getattr(one, column) for one in rounds_) for column in columns))
        for name, rounds_ in found.items()
    }


def one_round(name: str, sink: Sink, messages: int) -> Figures:
    """Start a relay in a new folder, measure it, stop it."""
    with (
        tempfile.TemporaryDirectory(prefix="relay-", ignore_cleanup_errors=True) as folder,
        RELAYS[name](pathlib.Path(folder), sink) as (port, process),
    ):
        return measure(port, sink, process, messages)


def takes_part(name: str) -> bool:
    """Postfix needs root, Haraka its folder."""
    return {"postfix": os.geteuid() == 0 and bool(shutil.which("postfix")), "haraka": "HARAKA_HOME" in os.environ}.get(
        name, True
    )


def rows(messages: int = 5000, rounds: int = 3) -> list[Row]:
    """For the table: each relay, and Mailrace as a multiple of it."""
    figures = run([name for name in RELAYS if takes_part(name)], messages, rounds)
    mine = figures["mailrace"]
    return [
        Row(
            f"relay, 4 KB, 20 sessions, durable: {name}",
            f"{one.delivered:.0f}/s end to end, {one.cpu:.2f} s CPU for 1,000",
            "" if one is mine else f"Mailrace is {mine.delivered / one.delivered:.1f} times as fast",
        )
        for name, one in figures.items()
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(RELAYS))
    asked = parser.parse_args()
    wanted = [name for name in asked.only.split(",") if takes_part(name)]
    for name, one in run(wanted, asked.messages, asked.rounds).items():
        print(f"{name:10} accepts {one.accepted:6.0f}/s   end to end {one.delivered:6.0f}/s   CPU {one.cpu:.2f} s/1000")
