"""What the delivery log costs: the relay with it and without it, turn by turn. It may take BOUND of the throughput.

Measured as `relay` does, end to end; without is `send-log` and `received-log` empty, all else the same. The rounds
come in pairs whose order changes, so that neither is always the first, and the cost is the median of the pairs'.
Needs Debian's postfix.

    python -m tests.bench.log_cost [--messages 5000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import tempfile

import msgspec

from tests.bench.relay import Figures, Sink, mailrace, measure
from tests.bench.table import Row, markdown

BOUND = 0.05
OPTIONS: dict[str, dict[str, object]] = {"with": {}, "without": {"send_log": "", "received_log": ""}}


class Pair(msgspec.Struct, frozen=True):
    """One round of each."""

    with_: Figures
    without: Figures

    @property
    def cost(self) -> float:
        """The share of the throughput that the log takes; negative where the machine was quieter with it."""
        return 1 - self.with_.delivered / self.without.delivered

    @property
    def processor(self) -> float:
        """The share of the processor time, likewise."""
        return self.with_.cpu / self.without.cpu - 1


def once(sink: Sink, name: str, messages: int) -> Figures:
    """One round, in a process and a folder of its own; the log must be there, or must not."""
    with (
        tempfile.TemporaryDirectory(prefix="log-cost-", ignore_cleanup_errors=True) as folder,
        mailrace(pathlib.Path(folder), sink, **OPTIONS[name]) as (port, process),
    ):
        figures = measure(port, sink, process, messages)
        written = [path.name for path in (pathlib.Path(folder) / "var" / "logs").glob("*.jsonl")]
        assert bool(written) == (name == "with"), written
        return figures


def run(messages: int, rounds: int) -> list[Pair]:
    """The pairs."""
    sink, pairs = Sink(), []
    try:
        for number in range(rounds):
            order = ["with", "without"] if number % 2 else ["without", "with"]
            found = {name: once(sink, name, messages) for name in order}
            pairs.append(Pair(found["with"], found["without"]))
    finally:
        sink.process.terminate()
    return pairs


def summary(pairs: list[Pair]) -> Row:
    """Medians of the pairs."""
    cost, processor = (statistics.median(getattr(pair, name) for pair in pairs) for name in ("cost", "processor"))
    with_, without = (
        statistics.median(getattr(pair, name).delivered for pair in pairs) for name in ("with_", "without")
    )
    return Row(
        "log: what writing it costs the relay",
        f"{with_:.0f}/s with, {without:.0f}/s without",
        f"{cost:.1%} of the throughput ({BOUND:.0%} allowed), {processor:+.1%} CPU",
    )


def rows(messages: int = 5000, rounds: int = 5) -> list[Row]:
    """For the table."""
    return [summary(run(messages, rounds))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    pairs = run(options.messages, options.rounds)
    for pair in pairs:
        for name, one in (("with", pair.with_), ("without", pair.without)):
            print(f"{name:8} {one.delivered:6.0f}/s   CPU {one.cpu:.3f} s/1000")
    print(markdown([summary(pairs)]))
