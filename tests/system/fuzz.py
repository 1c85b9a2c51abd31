"""All the fuzzers, one after the other, and one table of what they found.

    python -m tests.system.fuzz --smtp 24000 --rest 5000 --amqp 5000 --config 2000 --cluster 5000

The same seed draws the same cases. 0 leaves one out, `--only smtp` all others. Each says on standard error what it is
doing, and ends after `--minutes` with what is missing. Exit code 1 where one found something, or did not end.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

from tests.support.program import Program
from tests.system import fuzz_amqp, fuzz_cluster, fuzz_config, fuzz_rest, fuzz_smtp
from tests.system.progress import OverdueError, Progress

HEAD = "| what | cases | accepted | refused | wrong | tracebacks | memory, MB | seconds |\n" + "|---" * 8 + "|"


class FuzzRow(NamedTuple):
    """A line of the table. `memory`: after a fifth of the cases, and in the end."""

    what: str
    cases: int
    accepted: int
    refused: int
    wrong: list[str]
    tracebacks: int
    memory: tuple[int, int]
    took: float = 0.0

    def __str__(self) -> str:
        before, after = (octets // 10**6 for octets in self.memory)
        figures = (self.cases, self.accepted, self.refused, len(self.wrong), self.tracebacks, f"{before}, {after}")
        return f"| {self.what} | " + " | ".join(map(str, figures)) + f" | {self.took:.0f} |"

    @property
    def failed(self) -> bool:
        """Whether something was found."""
        return bool(self.wrong or self.tracebacks or fuzz_rest.grew(*self.memory))


def smtp(folder: pathlib.Path, count: int, seed: int, progress: Progress) -> FuzzRow:
    """SMTP dialogues; accepted: those of which a message was taken."""
    tally = fuzz_smtp.run(folder, count, seed, progress)
    accepted = tally.dialogues - tally.refused
    return FuzzRow("SMTP dialogues", count, accepted, tally.refused, tally.wrong, tally.tracebacks, tally.memory)


def rest(folder: pathlib.Path, count: int, seed: int, progress: Progress) -> FuzzRow:
    """REST calls; accepted: answered 2xx or 3xx."""
    with Program(folder, **fuzz_rest.options()) as program:
        found, *memory = fuzz_rest.fuzz(program, count, seed, progress)
        accepted = sum(times for status, times in found.statuses.items() if status < 400)
        tracebacks = program.output.count("Traceback")
    before, after = memory
    return FuzzRow("REST calls", count, accepted, count - accepted, found.wrong, tracebacks, (before, after))


def amqp(folder: pathlib.Path, count: int, seed: int, progress: Progress) -> FuzzRow:
    """AMQP deliveries; accepted: with a result, or waiting for their time; refused: by the program, or the broker."""
    tally = fuzz_amqp.run(folder, count, seed, progress)
    checks = {
        f"{tally.taken - sum(tally.found.values())} are not accounted for": sum(tally.found.values()) == tally.taken,
        f"{tally.good - tally.delivered} good ones were not delivered": tally.delivered == tally.good,
        f"readyz: {tally.ready}": tally.ready == "ok",
    }
    wrong = [line for line, right in checks.items() if not right]
    accepted = tally.found["results"] + tally.found["waiting"]
    return FuzzRow("AMQP deliveries", count, accepted, count - accepted, wrong, tally.tracebacks, tally.memory)


def config(folder: pathlib.Path, count: int, seed: int, progress: Progress) -> FuzzRow:
    """Configurations; accepted: exit code 0; refused: 2, with a line for each mistake."""
    tally = fuzz_config.run(folder, count, seed, progress)
    return FuzzRow("configurations", count, tally.accepted, tally.refused, tally.wrong, tally.tracebacks, tally.memory)


def cluster(folder: pathlib.Path, count: int, seed: int, progress: Progress) -> FuzzRow:
    """Words on the cluster's exchange; accepted: of a form that is known."""
    tally = fuzz_cluster.run(folder, count, seed, progress)
    less = [f"{tally.refused} refused, not {tally.useless}"] if tally.refused < tally.useless else []
    wrong = [*tally.wrong, *less]
    accepted = tally.said - tally.useless
    return FuzzRow("words to a cluster", count, accepted, tally.refused, wrong, tally.tracebacks, tally.memory)


Fuzzer = Callable[[pathlib.Path, int, int, Progress], FuzzRow]
FUZZERS: dict[str, tuple[Fuzzer, int]] = {
    "smtp": (smtp, 24_000),
    "rest": (rest, 5000),
    "amqp": (amqp, 5000),
    "config": (config, 2000),
    "cluster": (cluster, 5000),
}


def run(name: str, count: int, seed: int, seconds: float) -> FuzzRow:
    """One of them, in a folder of its own, by a deadline."""
    begin, progress = time.monotonic(), Progress()
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, progress.by(seconds, name):
            row = FUZZERS[name][0](pathlib.Path(folder), count, seed, progress)
    except OverdueError as error:
        row = FuzzRow(name, count, 0, 0, [str(error)], 0, (0, 0))
    return row._replace(took=time.monotonic() - begin)


def main() -> int:
    """As a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    for name, (_, usual) in FUZZERS.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--only", choices=FUZZERS)
    parser.add_argument("--minutes", type=float, default=60.0, help="that each of them may take")
    given = parser.parse_args()
    chosen = [given.only] if given.only else FUZZERS
    print(HEAD, flush=True)
    rows = []
    for name in chosen:
        if count := getattr(given, name):
            rows.append(run(name, count, given.seed, given.minutes * 60))
            print(rows[-1], flush=True)
    print(*(f"{row.what}: {line}" for row in rows for line in row.wrong[:20]), sep="\n")
    return int(any(row.failed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
