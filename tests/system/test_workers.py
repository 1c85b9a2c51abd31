"""Three workers as they run: one set of figures, limits that are the instance's, and deaths that cost nothing.

`python -m tests.system.test_workers` kills one process after another under load.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import pathlib
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import psutil
import pytest

from tests.support.api import TOKEN, Api
from tests.support.loop import Loop
from tests.support.mailbox import Mailbox
from tests.support.program import Program
from tests.support.receiver import Receiver
from tests.support.source import Source

pytestmark = pytest.mark.system
ENDS = ("delivered", "retried", "failed", "refused", "returned", "in_memory", "parked", "removed")


class Crowd:
    """The program, and the receiver of all its mail."""

    def __init__(self, folder: pathlib.Path, workers: int = 3) -> None:
        self.loop = Loop().__enter__()
        self.receiver = Timed()
        self.loop.run(self.receiver.__aenter__())
        self.program = Program(
            folder,
            workers=workers,
            api_token=TOKEN,
            delivery_sink=f"127.0.0.1:{self.receiver.port}",
            www_password="secret",
            shutdown_timeout=5,
        )

    def send(self, count: int, domain: str = "a.example") -> None:
        """So many messages over a dozen connections."""
        asyncio.run(Source(self.program.smtp_port, count, 12, domain=lambda number: domain).run())

    @property
    def api(self) -> Api:
        return Api(self.program)

    def delivered(self) -> int:
        """How many the console knows of."""
        return int(self.api.get("/status")["totals"]["delivered"])

    @property
    def processes(self) -> list[psutil.Process]:
        """The workers."""
        assert self.program.process is not None
        pids = {row["pid"] for row in self.api.get("/workers")}
        return [child for child in psutil.Process(self.program.process.pid).children() if child.pid in pids]

    def close(self) -> None:
        """End all of it."""
        if self.program.process is not None and self.program.process.poll() is None:
            self.program.kill()
        self.loop.run(self.receiver.__aexit__())
        self.loop.__exit__()


class Timed(Receiver):
    """A receiver that counts as receivers do: connections at once, and messages in a minute."""

    @property
    def most_at_once(self) -> int:
        """Connections open at once, at most, since `moments` was emptied."""
        return self.peak

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open = getattr(self, "open", 0) + 1
        self.peak = max(getattr(self, "peak", 0), self.open)
        super()._accept(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await super()._serve(reader, writer)
        finally:
            self.open -= 1


def until(holds: Callable[[], bool], patience: float = 30.0) -> float:
    """Wait until something is so; how many seconds it took."""
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < patience
        time.sleep(0.05)
    return time.monotonic() - begin


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    """Three workers."""
    running = Crowd(tmp_path_factory.mktemp("workers"))
    running.program.start()
    yield running
    running.close()


def test_the_console_has_one_set_of_figures(crowd: Crowd) -> None:
    """All that was taken is delivered, counted once, and in the log once."""
    before = crowd.delivered()
    crowd.send(300)
    until(lambda: crowd.delivered() == before + 300)
    totals = crowd.api.get("/status")["totals"]
    assert totals["processed"] == sum(totals[name] for name in ENDS)
    assert len(crowd.api.get("/workers")) == 3
    until(lambda: len(crowd.api.get("/logs?limit=500")["records"]) >= 300)


def test_a_rule_reaches_all_and_what_it_parks_is_listed_and_released(crowd: Crowd) -> None:
    """A pause holds the mail of every worker, and what is deleted of it goes from every worker's queue."""
    pause = crowd.api.create("pauses", reason="test")["id"]
    time.sleep(0.2)
    before = crowd.delivered()
    crowd.send(60)
    crowd.send(30, "b.example")
    until(lambda: crowd.api.get("/status")["totals"]["parked"] == 90)
    job = crowd.api.post("/messages/actions", action="delete", selection={"domain": ["b.example"]})
    until(lambda: crowd.api.get(f"/messages/actions/{job['id']}")["ended"] is not None)
    assert crowd.api.get(f"/messages/actions/{job['id']}")["changed"] == 30
    until(lambda: crowd.api.get("/status")["totals"]["parked"] == 60)
    assert crowd.delivered() == before
    crowd.api.delete("pauses", pause)
    until(lambda: crowd.delivered() == before + 60)
    totals = crowd.api.get("/status")["totals"]
    assert totals["processed"] == sum(totals[name] for name in ENDS)


def test_the_events_and_the_lanes_are_those_of_all(crowd: Crowd) -> None:
    """One stream of events; each lane is explained, wherever its mail is."""
    with httpx.stream(
        "GET",
        f"http://127.0.0.1:{crowd.program.www_port}/api/v1/events?type=settled",
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=20,
    ) as answer:
        crowd.send(60)
        seen = ""
        for text in answer.iter_text():
            seen += text
            if seen.count("event: settled") >= 60:
                break
    explained = [crowd.api.get(f"/lanes/{lane['lane']}") for lane in crowd.api.get("/lanes")]
    assert all(lane["domains"] and lane["answers"] for lane in explained)


def test_connections_at_once_are_the_instances(crowd: Crowd) -> None:
    """One, however many workers."""
    rule = crowd.api.create("throttles", ip_connections=1)["id"]
    time.sleep(6)  # what is open idles for five seconds
    crowd.receiver.peak = 0
    before = crowd.delivered()
    crowd.send(60)
    until(lambda: crowd.delivered() == before + 60, 60)
    crowd.api.delete("throttles", rule)
    assert crowd.receiver.most_at_once <= 1


def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost(crowd: Crowd) -> None:
    """The others go on; what it had is delivered; the counters add up."""
    before = {mail.data for mail in crowd.receiver.messages}
    crowd.send(100)
    victim = crowd.processes[0]
    victim.send_signal(signal.SIGKILL)
    until(lambda: len({mail.data for mail in crowd.receiver.messages} - before) >= 100)
    until(lambda: len(crowd.processes) == 3 and victim.pid not in [one.pid for one in crowd.processes])
    totals = crowd.api.get("/status")["totals"]
    assert totals["processed"] == sum(totals[name] for name in ENDS)
    crowd.send(30)


def test_a_worker_that_is_stuck_is_said_and_keeps_no_new_mail(crowd: Crowd) -> None:
    """New connections go to the others; the fault says which one does not answer; it goes on where it stood."""
    stuck, before = crowd.processes[1], crowd.delivered()
    stuck.suspend()
    try:
        crowd.send(40)
        until(lambda: any(str(stuck.pid) in fault for fault in crowd.api.get("/status")["faults"]))
    finally:
        stuck.resume()
    until(lambda: crowd.delivered() >= before + 40)
    until(lambda: not crowd.api.get("/status")["faults"])


def test_without_its_head_no_worker_stays(crowd: Crowd) -> None:
    """They end in order, and nothing is left behind."""
    pids = [one.pid for one in crowd.processes]
    crowd.program.kill()
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    crowd.program.start()
    crowd.send(20)
    until(lambda: crowd.delivered() == 20)


def test_five_deaths_in_a_minute_end_the_instance(crowd: Crowd) -> None:
    """With one line that says so."""
    for _ in range(5):
        with contextlib.suppress(psutil.Error, IndexError, Exception):
            os.kill(next(row["pid"] for row in crowd.api.get("/workers") if row["number"] == 2), signal.SIGKILL)
        time.sleep(0.3)
        with contextlib.suppress(Exception):
            until(lambda: len(crowd.processes) == 3, 5)
    assert crowd.program.process is not None
    assert crowd.program.process.wait(30) == 1
    assert "worker 2 has ended 5 times within a minute" in crowd.program.output


def kind_of(process: psutil.Process) -> str:
    """What a child of the head does."""
    words = process.cmdline()
    return next((word for word in words if word.startswith("pipeline.")), "helper").removeprefix("pipeline.")


class KillRun:
    """kill -9 of one process after another while mail flows, the head every fourth time; what came of it."""

    def __init__(self, folder: pathlib.Path, mailbox: Mailbox, program: Program, seed: int) -> None:
        self.folder, self.mailbox, self.program = folder, mailbox, program
        self.source = Source(program.smtp_port, 10**9)
        self.chance = random.Random(seed)
        self.rows: list[tuple[str, int, float]] = []  # who, messages in flight, the longest pause afterwards

    def run(self, kills: int, interval: float) -> None:
        """All of it, until the last message has come."""
        sending = threading.Thread(target=lambda: asyncio.run(self.source.run()))
        sending.start()
        time.sleep(interval)
        for number in range(kills):
            self.rows.append(self._kill(number % 4 == 3, interval))
            print(self._row(*self.rows[-1]), flush=True)
        self.source.total = 0
        sending.join()
        wanted, end = {str(number) for number in self.source.confirmed}, time.monotonic() + 60
        while not wanted <= self.mailbox.accepted.keys() and time.monotonic() < end:
            time.sleep(0.1)

    def _kill(self, head: bool, interval: float) -> tuple[str, int, float]:
        assert self.program.process is not None
        children = [
            child
            for child in psutil.Process(self.program.process.pid).children()
            if child.status() != psutil.STATUS_ZOMBIE
        ]
        in_flight, begin = self.mailbox.open, time.monotonic()
        if head:
            who = "head"
            self.program.kill()
            self.program.start()
        else:
            victim = self.chance.choice(children)
            who = kind_of(victim)
            victim.kill()
        time.sleep(interval)
        moments = [begin, *(moment for moment in self.mailbox.moments if moment > begin), time.monotonic()]
        pause = max(later - earlier for earlier, later in itertools.pairwise(moments))
        return who, in_flight, pause

    @staticmethod
    def _row(who: str, in_flight: int, pause: float) -> str:
        return f"{who:22} {in_flight:4} in flight   longest pause {pause:5.2f} s"

    def table(self) -> str:
        """What must hold, and whether it does."""
        wanted = {str(number) for number in self.source.confirmed}
        lost, doubles = wanted - self.mailbox.accepted.keys(), self.mailbox.total - len(self.mailbox.accepted)
        in_flight = sum(row[1] for row in self.rows)
        pause = max((row[2] for row in self.rows if row[0] != "head"), default=0.0)
        left = [
            one for one in psutil.process_iter(["cmdline"]) if str(self.folder) in " ".join(one.info["cmdline"] or ())
        ]
        lines = [
            f"answered 250           {len(wanted):8,} of {self.source.offered:,}",
            f"lost                   {len(lost):8}   {'ok' if not lost else 'WRONG'}",
            f"doubles                {doubles:8}   {'ok' if doubles <= in_flight else 'WRONG'}: {in_flight} in flight",
            f"longest pause          {pause:8.2f} s {'ok' if pause < 1 else 'WRONG'}: a worker or helper killed",
            f"processes left         {len(left):8}   {'ok' if not left else 'WRONG'}",
        ]
        return "\n".join(lines)


def survive(folder: pathlib.Path, kills: int, interval: float, seed: int) -> str:
    """The run, and its table."""
    with Mailbox() as mailbox, Program(folder, delivery_sink=f"127.0.0.1:{mailbox.port}", workers=3) as program:
        run = KillRun(folder, mailbox, program, seed)
        run.run(kills, interval)
        assert program.stop() == 0
        return run.table()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--interval", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        print(survive(pathlib.Path(name), given.kills, given.interval, given.seed))
