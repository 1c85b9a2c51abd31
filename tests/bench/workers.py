"""Workers: one against two and four, turn by turn; and their limits, as a receiver sees them in real time.

python -m tests.bench.workers [--messages 5000] [--rounds 3] [--workers 1,2,4] [--broker]
python -m tests.bench.workers --limits [--seconds 130]      60 a minute with four workers, one killed meanwhile
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import collections
import contextlib
import os
import pathlib
import resource
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping

import psutil

from tests.bench.relay import WARM, Figures, Sink, mailrace, measure
from tests.bench.table import Row
from tests.support.api import TOKEN, Api
from tests.support.broker import Broker
from tests.support.loop import Loop
from tests.support.program import Program
from tests.support.receiver import Receiver
from tests.support.source import Source

LIMIT = 60  # messages a minute


class Shares:
    """CPU seconds of each kind of process, sender and receiver counted: what two cores are shared out among."""

    def __init__(self, head: int, sink: Sink) -> None:
        self._head, self._sink = psutil.Process(head), sink.process.pid
        self._before = self._now()

    def _now(self) -> collections.Counter[str]:
        used = collections.Counter[str]()
        for name, process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                used[name] += sum(process.cpu_times()[:2])  # type: ignore[assignment]
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        used["smtp-source"] = ended.ru_utime + ended.ru_stime  # type: ignore[assignment]
        return used

    def _processes(self) -> Iterator[tuple[str, psutil.Process]]:
        yield "smtp-sink", psutil.Process(self._sink)
        yield "main", self._head
        for child in self._head.children(recursive=True):
            words = child.cmdline()
            yield next((word for word in words if word.startswith("pipeline.")), "helper").rpartition(".")[2], child

    def taken(self, messages: int) -> Mapping[str, float]:
        """Since it was made, of each kind, for 1,000 messages."""
        return {name: (used - self._before[name]) / messages * 1000 for name, used in self._now().items()}


def run(counts: list[int], messages: int, rounds: int, broker: Broker | None = None) -> dict[int, Figures]:
    """Medians of the rounds; the numbers of workers take turns. `broker`: in place of the embedded queue."""
    sink, found = Sink(), dict[int, list[Figures]]()
    try:
        for _ in range(rounds):
            for count in counts:
                options = {} if broker is None else {"rabbitmq_address": broker.fresh()}
                with (
                    tempfile.TemporaryDirectory(prefix="workers-", ignore_cleanup_errors=True) as folder,
                    mailrace(pathlib.Path(folder), sink, workers=count, **options) as (port, process),
                ):
                    shares = Shares(process, sink)
                    one = measure(port, sink, process, messages)
                    found.setdefault(count, []).append(one)
                    taken = shares.taken(messages + WARM)
                    print(count, one, " ".join(f"{name} {used:.3f}" for name, used in taken.items()), flush=True)
    finally:
        sink.process.terminate()
    columns = Figures.__struct_fields__
    return {
        count: Figures(*(statistics.median(getattr(one, column) for one in ones) for column in columns))
        for count, ones in found.items()
    }


def rows(messages: int = 5000, rounds: int = 3) -> list[Row]:
    """For the table of `docs/tuning.md`."""
    found = run([1, 2, 4], messages, rounds)
    return [
        Row(f"{count} workers: delivered a second", f"{figures.delivered:,.0f}") for count, figures in found.items()
    ]


class Watching(Receiver):
    """A receiver that notes when each message came, and how many connections were open at once."""

    open = peak = 0

    def __init__(self) -> None:
        super().__init__()
        self.moments: list[float] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            await super()._serve(reader, writer)
        finally:
            self.open -= 1

    def note(self) -> None:
        """What has come since the last look, as of now: to a millisecond."""
        self.moments += [time.monotonic()] * (len(self.messages) - len(self.moments))


def limits(seconds: float) -> None:
    """Full demand on four workers; prints the most in any 60 s, the most connections at once, and how much is used."""
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(Loop())
        receiver = Watching()
        loop.run(receiver.__aenter__())
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        sink = f"127.0.0.1:{receiver.port}"
        program = stack.enter_context(
            Program(folder, workers=4, delivery_sink=sink, api_token=TOKEN, www_password="secret")
        )
        api = Api(program)
        api.create("throttles", domain_messages=LIMIT, ip_connections=3)
        time.sleep(0.5)
        source = Source(program.smtp_port, 2000, 12)
        threading.Thread(target=lambda: asyncio.run(source.run()), daemon=True).start()
        begin, killed = time.monotonic(), False
        while time.monotonic() - begin < seconds:
            receiver.note()
            time.sleep(0.001)
            if not killed and time.monotonic() - begin > seconds / 2:
                killed = True
                os.kill(api.get("/workers")[0]["pid"], signal.SIGKILL)
        moments = receiver.moments
        most = max(bisect.bisect_left(moments, at + 60.0) - index for index, at in enumerate(moments))
        used = len(moments) / ((moments[-1] - moments[0]) / 60 * LIMIT)
        print(
            f"limit {LIMIT} a minute: at most {most} in 60 s, {used:.0%} used; {receiver.peak} connections at once of 3"
        )
        loop.run(receiver.__aexit__())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--limits", action="store_true")
    parser.add_argument("--broker", action="store_true")
    parser.add_argument("--seconds", type=float, default=130)
    wanted = parser.parse_args()
    if wanted.limits:
        limits(wanted.seconds)
        return
    counts = [int(count) for count in wanted.workers.split(",")]
    with Broker(management=True) if wanted.broker else contextlib.nullcontext() as broker:
        for count, figures in run(counts, wanted.messages, wanted.rounds, broker).items():
            print(f"{count} workers: {figures.accepted:,.0f} accepted, {figures.delivered:,.0f} delivered ", end="")
            print(f"a second, {figures.cpu:.2f} CPU s for 1,000 messages")


if __name__ == "__main__":
    main()
