"""Mail as it really is: large, to many domains, with latency and TLS, signed. Mailrace against Postfix, turn by turn.

    python -m tests.bench.real [--works 1MB,6000-tls] [--rounds 3] [--scale 0.5] [--against REVISION] [--keep NAME]

Medians of interleaved rounds; compare figures of one run only. `--against` measures another Mailrace instead of
Postfix: a revision of this repository, or the path of a program. It says each work's ratio: below 0.95 is a regression,
and the exit code is 1 then. `--keep` adds the figures to `tests/bench/history/figures.json`, by machine. Needs Debian's
postfix and opendkim, and root.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import pathlib
import platform
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import msgspec
import psutil

from tests.bench import relay
from tests.bench.internet import host_of
from tests.bench.relay import QUIET, Figures, Sink, processor_time
from tests.bench.revision import other
from tests.bench.signing import _with_key
from tests.bench.table import Row, markdown
from tests.support.program import MAILRACE, Program, free_port

HISTORY = pathlib.Path(__file__).parent / "history" / "figures.json"
REGRESSION = 0.95
INJECTORS = 4


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of mail.

    Attributes:
        messages, size: how many, of how many octets.
        domains, hosts: 0: all to one sink without latency.
        latency: milliseconds before each answer.
        tls: the receivers offer it.
        signed: with RSA-2048; Postfix by OpenDKIM on a unix socket.
        wanted: times as fast as Postfix.
    """

    messages: int
    size: int = 4096
    domains: int = 0
    hosts: int = 0
    latency: int = 0
    tls: bool = False
    signed: bool = False
    wanted: float = 1.0


WORKS = {
    "4KB": Piece(messages=6000, wanted=5),
    "100KB": Piece(messages=2000, size=100_000, wanted=3),
    "1MB": Piece(messages=400, size=1_000_000, wanted=2),
    "1000": Piece(messages=6000, domains=1000, hosts=500, latency=50, wanted=4),
    "1000-tls": Piece(messages=6000, domains=1000, hosts=500, latency=50, tls=True, wanted=3),
    "6000-tls": Piece(messages=6000, domains=6000, hosts=3000, latency=100, tls=True, wanted=2),
    "signed": Piece(messages=4000, signed=True, wanted=6),
}


class Net:
    """The receiving internet of a work with domains."""

    def __init__(self, folder: pathlib.Path, work: Piece) -> None:
        self.port, self.dns, self._file = free_port(), free_port(), folder / "count"
        pem = folder / "mx.pem"
        make = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "9",
        ]
        subprocess.run([*make, "-keyout", pem, "-out", f"{pem}.crt", "-subj", "/CN=mx.example"], check=True, **QUIET)
        with pem.open("ab") as whole:
            whole.write(pathlib.Path(f"{pem}.crt").read_bytes())
        told = (self.port, self.dns, work.latency, int(work.tls), work.hosts, self._file, pem)
        self.process = subprocess.Popen([sys.executable, "-m", "tests.bench.internet", *map(str, told)], **QUIET)
        relay.await_greeting(self.port)

    def count(self) -> int:
        """Messages so far."""
        return int(struct.unpack("<Q", self._file.read_bytes())[0])


@contextlib.contextmanager
def receivers(folder: pathlib.Path, work: Piece) -> Iterator[Sink | Net]:
    """Where the mail of a work goes."""
    found = Net(folder, work) if work.domains else Sink()
    try:
        yield found
    finally:
        found.process.terminate()
        found.process.wait(20)


@contextlib.contextmanager
def mailrace(folder: pathlib.Path, work: Piece, to: Sink | Net, command: list[str]) -> Iterator[tuple[int, int]]:
    """The whole program: durable queue, delivery log, console."""
    options: dict[str, object] = {"delivery_sink": f"127.0.0.1:{to.port}"}
    if isinstance(to, Net):
        options = {"delivery_port": to.port, "dns_server": f"127.0.0.1:{to.dns}"}
    if work.signed:
        (folder / "var").mkdir()
        asyncio.run(_with_key(folder / "var", {"algorithm": "rsa"}))
        options["dkim_check_dns"] = "no"
    program = Program(folder, **options)
    program.run = command
    with program:
        assert program.process is not None
        yield program.smtp_port, program.process.pid


@contextlib.contextmanager
def postfix(folder: pathlib.Path, work: Piece, to: Sink | Net) -> Iterator[tuple[int, int]]:
    """Postfix, with a process for each connection; it has the addresses in a table, and asks no DNS."""
    more = ""
    if isinstance(to, Net):
        table = folder / "transport"
        hosts = [host_of(b"d%d" % number, work.hosts) for number in range(work.domains)]
        table.write_text("".join(f"d{number}.example smtp:[{host}]:{to.port}\n" for number, host in enumerate(hosts)))
        security = "may" if work.tls else "none"
        more = f"relayhost =\ntransport_maps = texthash:{table}\nqmgr_message_active_limit = 50000\n"
        more += "qmgr_message_recipient_limit = 50000\ndefault_process_limit = 500\n"
        more += f"smtp_tls_security_level = {security}\n"
    with opendkim(folder) if work.signed else contextlib.nullcontext("") as milter:
        more += f"smtpd_milters = {milter}\nmilter_default_action = tempfail\n" if milter else ""
        with relay.postfix(folder, to, more) as found:
            yield found


@contextlib.contextmanager
def opendkim(folder: pathlib.Path) -> Iterator[str]:
    """OpenDKIM that signs everything with RSA-2048, on a unix socket; as `smtpd_milters` has it."""
    folder.chmod(0o755)
    (folder / "sock").mkdir()
    (folder / "sock").chmod(0o777)
    key = folder / "key.pem"
    subprocess.run(["openssl", "genrsa", "-traditional", "-out", key, "2048"], check=True, **QUIET)
    key.chmod(0o644)
    settings = {"Mode": "s", "Canonicalization": "relaxed/simple", "Domain": "example.com", "Selector": "bench",
                "KeyFile": key, "Background": "no", "Syslog": "no", "InternalHosts": "127.0.0.0/8", "UMask": "000",
                "RequireSafeKeys": "no", "OversignHeaders": "From", "Socket": f"local:{folder}/sock/dkim"}  # fmt: skip
    (folder / "opendkim.conf").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    process = subprocess.Popen(["/usr/sbin/opendkim", "-f", "-x", folder / "opendkim.conf"], **QUIET)
    try:
        while not (folder / "sock" / "dkim").exists():
            time.sleep(0.05)
        yield f"unix:{folder}/sock/dkim"
    finally:
        process.terminate()
        process.wait(20)


def send(port: int, work: Piece, messages: int) -> None:
    """By injectors that cost little: smtp-source, or for many domains several processes."""
    if not work.domains:
        relay.inject(port, messages, work.size)
        return
    told = [[port, first, messages, INJECTORS, work.size, work.domains] for first in range(INJECTORS)]
    command = [sys.executable, "-m", "tests.bench.injector"]
    running = [subprocess.Popen([*command, *map(str, numbers)], **QUIET) for numbers in told]
    if any(process.wait() for process in running):
        sys.exit("an injector failed")


def measure(port: int, pid: int, work: Piece, to: Sink | Net, messages: int) -> Figures:
    """One round, after some mail to warm up. OpenDKIM is counted with Postfix: it is a process of ours, too."""
    warm = to.count() + 50
    relay.inject(port, 50) if not work.domains else send(port, work, 50)
    _wait(to, warm)
    base = to.count()
    peers = [psutil.Process(pid), *(one for one in psutil.Process().children() if one.name() == "opendkim")]
    cpu, begin = sum(map(processor_time, peers)), time.perf_counter()
    send(port, work, messages)
    accepted = time.perf_counter() - begin
    _wait(to, base + messages)
    delivered = time.perf_counter() - begin
    used = (sum(map(processor_time, peers)) - cpu) / messages * 1000
    return Figures(messages / accepted, messages / delivered, used)


def _wait(to: Sink | Net, wanted: int) -> None:
    last, since = -1, time.monotonic()
    while (now := to.count()) < wanted:
        if now != last:
            last, since = now, time.monotonic()
        if time.monotonic() - since > 120:
            sys.exit(f"only {now} of {wanted} arrived")
        time.sleep(0.01)


def one_round(work: Piece, peer: str, command: list[str], scale: float) -> Figures:
    """Start a peer in a new folder, measure it, stop it."""
    with tempfile.TemporaryDirectory(prefix="real-", ignore_cleanup_errors=True) as name:
        folder = pathlib.Path(name)
        with receivers(folder, work) as to:
            started = postfix(folder, work, to) if peer == "postfix" else mailrace(folder, work, to, command)
            with started as (port, pid):
                return measure(port, pid, work, to, max(100, int(work.messages * scale)))


def run(works: list[str], commands: dict[str, list[str]], rounds: int, scale: float) -> dict[str, dict[str, Figures]]:
    """Medians, by work and peer; the peers take turns."""
    found: dict[str, dict[str, Figures]] = {}
    for name in works:
        seen: dict[str, list[Figures]] = {peer: [] for peer in commands}
        for _ in range(rounds):
            for peer, command in commands.items():
                seen[peer].append(one_round(WORKS[name], peer, command, scale))
        found[name] = {peer: _medians(figures) for peer, figures in seen.items()}
        for peer, figures in found[name].items():  # at once: a later work may not come to its end
            print(f"{name}, {peer}: {figures.delivered:.0f}/s, CPU {figures.cpu:.2f} s/1000", file=sys.stderr)
    return found


def _medians(figures: list[Figures]) -> Figures:
    columns = Figures.__struct_fields__
    return Figures(*(statistics.median(getattr(one, column) for one in figures) for column in columns))


def rows(rounds: int = 3, scale: float = 1.0, works: list[str] | None = None) -> list[Row]:
    """For the table."""
    found = run(works or list(WORKS), {"mailrace": MAILRACE, "postfix": []}, rounds, scale)
    return [_row(name, figures) for name, figures in found.items()]


def _row(name: str, figures: dict[str, Figures]) -> Row:
    mine, theirs = figures["mailrace"], figures["postfix"]
    rates = f"{mine.delivered:.0f}/s and {theirs.delivered:.0f}/s, CPU {mine.cpu:.2f} and {theirs.cpu:.2f} s/1000"
    speed, processor = mine.delivered / theirs.delivered, theirs.cpu / mine.cpu
    wanted = f"{speed:.2f} times as fast ({WORKS[name].wanted:g} wanted), {processor:.1f} times less CPU"
    return Row(f"{name}: Mailrace and Postfix", rates, wanted)


def keep(name: str, found: dict[str, dict[str, Figures]]) -> None:
    """Add to the history."""
    machine = f"{platform.machine()}, {psutil.cpu_count()} cores, {platform.release()}"
    history = msgspec.json.decode(HISTORY.read_bytes()) if HISTORY.exists() else []
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    history.append({"release": name, "date": date, "machine": machine, "works": found})
    HISTORY.write_bytes(msgspec.json.format(msgspec.json.encode(history), indent=1) + b"\n")


def compare(found: dict[str, dict[str, Figures]]) -> bool:
    """Print each work's ratio to the other Mailrace; False where one is worse by more than REGRESSION allows."""
    good = True
    for name, figures in found.items():
        mine, other = figures["mailrace"], figures["other"]
        speed, processor = mine.delivered / other.delivered, other.cpu / mine.cpu
        bad = processor < REGRESSION and speed < REGRESSION
        good = good and not bad
        print(f"{name}: {speed:.2f} of its rate, {processor:.2f} of its mail for a second of CPU{' REGRESSION' * bad}")
    return good


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--works", default=",".join(WORKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--against", default="")
    parser.add_argument("--keep", default="")
    asked = parser.parse_args()
    with other(asked.against) if asked.against else contextlib.nullcontext([]) as command:
        peers = {"mailrace": MAILRACE, "other" if asked.against else "postfix": command}
        measured = run(asked.works.split(","), peers, asked.rounds, asked.scale)
    if asked.keep:
        keep(asked.keep, measured)
    if asked.against:
        sys.exit(0 if compare(measured) else 1)
    print(markdown(_row(name, figures) for name, figures in measured.items()))
