"""The disturbances: what strangers, and machines, do to a program. Each has: do, undo, and what must be said."""

from __future__ import annotations

import contextlib
import pathlib
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from typing import ClassVar

import httpx
import psutil

from tests.support import wreck
from tests.support.amqp import reconnecting
from tests.support.api import TOKEN
from tests.system.fuzz_amqp import cases
from tests.system.hours.scene import FAKETIME, LOG, NAME_SERVERS, Scene
from tests.system.test_disk_full import occupy

ODD = 60  # frames, and bodies, at once
IDLE = 1100  # connections at each port
HOUR = 3600
ROOM = 30_000_000  # octets of the disk that may be free when it is full
WRONG = 3  # logins, a line of the log each; they are slowed down


class Disturbance:
    """Something that happens to the program.

    Attributes:
        name: for the table.
        says: words of which one must be said, in `/readyz`, the status or the log; none: there is nothing to say.
        stops: mail cannot go on, and `/readyz` must be 503. With one queue only where it is named.
        ends: the program does not run meanwhile.
        lasts: seconds between `do` and `undo`, where mail does not go on meanwhile.
        queues: with which it is possible.
        reason: why a message may come twice; "": it may not.
    """

    name: ClassVar[str]
    says: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    ends = False
    lasts = 8.0
    queues: tuple[str, ...] = ("embedded", "rabbitmq")
    reason = ""

    def missing(self, scene: Scene) -> str:
        """Why it cannot be done here."""
        return "" if scene.queue in self.queues else f"not with the {scene.queue} queue"

    def halts(self, scene: Scene) -> bool:
        """Does mail stand still meanwhile?"""
        return self.ends or scene.queue in self.stops

    def do(self, scene: Scene) -> None:
        """Begin it."""

    def undo(self, scene: Scene) -> None:
        """End it."""

    def complaint(self, scene: Scene) -> str:
        """What of its own went wrong, after its end."""
        return ""


class OddFrames(Disturbance):
    """Properties that no client library sets."""

    name = "AMQP frames with odd properties"
    queues = ("rabbitmq",)

    def do(self, scene: Scene) -> None:
        assert scene.broker is not None
        with reconnecting(scene.broker.address) as publisher:
            for case in cases(ODD, scene.dice.randrange(10**6)):
                if not case.good:
                    publisher.publish(b"outbox", case.header, case.body, case.size)


class OddBodies(Disturbance):
    """The same bodies, over REST."""

    name = "odd REST bodies"

    def do(self, scene: Scene) -> None:
        self.bad: list[int] = []
        head = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        with httpx.Client(base_url=f"http://127.0.0.1:{scene.program.www_port}", headers=head, timeout=30) as client:
            for case in cases(ODD, scene.dice.randrange(10**6)):
                answer = client.post("/api/v1/messages", content=case.body)
                self.bad += [answer.status_code] if answer.status_code >= 500 else []

    def complaint(self, scene: Scene) -> str:
        return f"answers {self.bad}" if self.bad else ""


class DamagedCopy(Disturbance):
    """A copy of the queue with damaged pages, saved by `mailrace queue recover` beside the running program."""

    name = "damaged pages in a copy of the queue"
    queues = ("embedded",)

    def do(self, scene: Scene) -> None:
        copy = scene.folder / f"copy-{time.monotonic_ns()}"
        copy.mkdir()
        self.rows = _copied(scene.disk / "queue.db", copy / "queue.db")
        way = scene.dice.choice(["leaf", "empty leaf", "index leaf", "flipped bits", "cut off"])
        with contextlib.suppress(IndexError):  # it has too few pages for that
            wreck.WAYS[way](copy / "queue.db")
        command = [*scene.doors.command[:1], "queue", "recover", "--yes", f"--data-dir={copy}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd="/")
        self.said, self.code = f"{way}, of {self.rows}: {done.stdout.strip()} {done.stderr.strip()}", done.returncode
        scene.notes.append(f"recover: {self.said}")
        shutil.rmtree(copy)

    def complaint(self, scene: Scene) -> str:
        return f"recover ended with {self.code}: {self.said}" if self.code or "Traceback" in self.said else ""


def _copied(source: pathlib.Path, to: pathlib.Path) -> int:
    queue = contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True))
    with queue as old, contextlib.closing(sqlite3.connect(to)) as copy:
        old.backup(copy)
        return int(copy.execute("SELECT count(*) FROM messages").fetchone()[0])


class LogsMoved(Disturbance):
    """As logrotate does, with and without its SIGHUP."""

    name = "log files moved"

    def do(self, scene: Scene) -> None:
        self.files = [scene.disk / "logs" / "send.jsonl", scene.disk / "logs" / "received.jsonl", scene.disk / LOG]
        for file in self.files:
            if file.exists():
                file.replace(file.with_name(f"{file.name}.old"))
        self.told = scene.dice.random() < 0.7
        if self.told:
            assert scene.program.process is not None
            scene.program.process.send_signal(signal.SIGHUP)

    def complaint(self, scene: Scene) -> str:
        end = time.monotonic() + 20
        while self.told and not self.files[0].exists() and time.monotonic() < end:
            time.sleep(0.2)
        return "" if self.files[0].exists() or not self.told else "the delivery log is not written anew"


class TerminalUnread(Disturbance):
    """standard error is a pipe that is full."""

    name = "stderr not read"

    def do(self, scene: Scene) -> None:
        scene.terminal.stand()
        with httpx.Client(base_url=f"http://127.0.0.1:{scene.program.www_port}", timeout=5) as client:
            for number in range(WRONG):
                with contextlib.suppress(httpx.HTTPError):
                    client.get("/api/v1/status", headers={"Authorization": f"Bearer wrong{number}"})

    def undo(self, scene: Scene) -> None:
        scene.terminal.reading.set()


class BrokerKilled(Disturbance):
    """SIGKILL, and a new start."""

    name = "broker killed"
    says = ("cannot be reached", "queue-lost", "connection reset")
    stops = ("rabbitmq",)
    queues = ("rabbitmq",)
    reason = "settled while the broker was killed"

    def do(self, scene: Scene) -> None:
        assert scene.broker is not None
        scene.broker.kill()

    def undo(self, scene: Scene) -> None:
        assert scene.broker is not None
        scene.broker.start()


class DiskFull(Disturbance):
    """Others take data-dir's disk, to the last byte."""

    name = "disk full"
    says = ("is full", "No space left")
    stops = ("embedded",)

    def missing(self, scene: Scene) -> str:
        return "" if scene.mounted else "nobody may mount"

    def do(self, scene: Scene) -> None:
        occupy(scene.disk)
        self.free = shutil.disk_usage(scene.disk).free

    def undo(self, scene: Scene) -> None:
        size = (scene.disk / "others").stat().st_size
        self.left = f"{self.free:,} bytes were free, {size:,} taken by others" if self.free > ROOM else ""
        (scene.disk / "others").unlink()

    def complaint(self, scene: Scene) -> str:
        return self.left


class DiskReadOnly(Disturbance):
    """What ext4 does after an error of its disk. It is mended with the program stopped, as anybody must."""

    name = "disk read-only"
    says = ("read-only", "readonly", "Read-only", "I/O error", "disk I/O")
    stops = ("embedded",)
    reason = "settled on a disk that was read-only, then restarted"

    def missing(self, scene: Scene) -> str:
        return "" if scene.image else "no loop devices"

    def do(self, scene: Scene) -> None:
        subprocess.run(["mount", "-o", "remount,abort", scene.disk], check=True)

    def undo(self, scene: Scene) -> None:
        self.trouble = ""
        try:
            scene.program.stop()
        except subprocess.TimeoutExpired:
            self.trouble = "SIGTERM did not end it within 40 s"
            scene.program.kill()
        for _ in range(100):
            if subprocess.run(["umount", scene.disk], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.2)
        subprocess.run(["e2fsck", "-p", "-f", str(scene.image)], capture_output=True, check=False)
        scene.mount()
        scene.program.start()

    def complaint(self, scene: Scene) -> str:
        return self.trouble


class ResultsFull(Disturbance):
    """A bound on the results queue, which rejects what is over it."""

    name = "results queue full"
    says = ("held",)
    queues = ("rabbitmq",)

    def do(self, scene: Scene) -> None:
        assert scene.broker is not None
        # Not both at once: RabbitMQ would first drop all but five, since until then the queue's head gives way.
        for policy in ('{"overflow":"reject-publish"}', '{"max-length":5,"overflow":"reject-publish"}'):
            scene.broker.control("set_policy", "full", "^results$", policy, "--apply-to", "queues")
        time.sleep(self.lasts)

    def undo(self, scene: Scene) -> None:
        assert scene.broker is not None
        scene.broker.control("clear_policy", "full")


class IdleConnections(Disturbance):
    """Strangers who only connect, to a program with 1,024 descriptors."""

    name = f"{IDLE:,} idle connections on each port"
    says = ("too many connections",)

    def do(self, scene: Scene) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.open = contextlib.ExitStack()
        for port in (scene.program.smtp_port, scene.program.www_port):
            for _ in range(IDLE):
                stranger = self.open.enter_context(socket.socket())
                stranger.setblocking(False)
                stranger.connect_ex(("127.0.0.1", port))

    def undo(self, scene: Scene) -> None:
        self.open.close()


class ResolverSilent(Disturbance):
    """No name server answers, until it does again."""

    name = "resolver silent"
    says = ("DNS does not answer",)
    stops = ("embedded", "rabbitmq")
    lasts = 25.0

    def do(self, scene: Scene) -> None:
        for names in scene.receivers.names:
            names.silent = True

    def undo(self, scene: Scene) -> None:
        for names in scene.receivers.names:
            names.silent = False


class ResolverChanged(Disturbance):
    """/etc/resolv.conf names another server, and the old one is gone."""

    name = "resolver changed"

    def missing(self, scene: Scene) -> str:
        return "" if scene.resolver else "nobody may mount"

    def do(self, scene: Scene) -> None:
        self._use(scene, 1)

    def undo(self, scene: Scene) -> None:
        self._use(scene, 0)

    @staticmethod
    def _use(scene: Scene, which: int) -> None:
        assert scene.resolver is not None
        scene.resolver.write_text(f"nameserver {NAME_SERVERS[which]}\n")
        scene.receivers.names[which].silent, scene.receivers.names[1 - which].silent = False, True


class ClockForward(Disturbance):
    """Two hours, and it stays so."""

    name = "clock forward by 2 h"

    def missing(self, scene: Scene) -> str:
        return "" if FAKETIME else "libfaketime is not installed"

    def do(self, scene: Scene) -> None:
        scene.offset += 2 * HOUR
        scene.set_clock(scene.offset)


class ClockBack(ClockForward):
    """Half an hour, and it is put right."""

    name = "clock back by 30 min"
    says = ("clock was set back",)

    def do(self, scene: Scene) -> None:
        scene.set_clock(scene.offset - HOUR // 2)
        time.sleep(3)

    def undo(self, scene: Scene) -> None:
        scene.set_clock(scene.offset)


class ChildKilled(Disturbance):
    """SIGKILL to one of its processes."""

    name = "a child killed"
    says = ("started again", "has ended")

    def do(self, scene: Scene) -> None:
        assert scene.program.process is not None
        if children := psutil.Process(scene.program.process.pid).children(recursive=True):
            scene.dice.choice(children).kill()


class ProgramKilled(Disturbance):
    """kill -9, and a new start."""

    name = "kill -9 of the program"
    reason = "in flight when the program was killed"
    ends = True
    lasts = 1.0

    def do(self, scene: Scene) -> None:
        scene.program.kill()

    def undo(self, scene: Scene) -> None:
        scene.program.start()


EVERY: tuple[type[Disturbance], ...] = (
    OddFrames, OddBodies, DamagedCopy, LogsMoved, TerminalUnread, BrokerKilled, DiskFull, DiskReadOnly, ResultsFull,
    IdleConnections, ResolverSilent, ResolverChanged, ClockForward, ClockBack, ChildKilled, ProgramKilled,
)  # fmt: skip
