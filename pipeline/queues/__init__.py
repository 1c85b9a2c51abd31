"""The queues: the contract that the machine needs, and the two implementations of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from operators.deliveries.result_queues import ResultQueues, ResultRule
from pipeline.queues.contract import Queue
from pipeline.queues.embedded.adopt import adopt, remove
from pipeline.queues.embedded.embedded import EmbeddedQueue
from pipeline.queues.embedded.many import ManyFiles
from pipeline.queues.rabbitmq.rabbitmq import RabbitQueue, unreported
from settings import Settings

FILE = "queue.db"
RESULTS = ("results", "success", "failure", "retry", "refused")
JSON_GROWTH = 2  # a body's JSON is at most this much larger than its MIME: see `mime_properties`
TOGETHER = 0.008  # seconds that messages of a worker wait for each other, so that they share a commit
GATHERED = 16_000_000  # bytes of a body beside its MIME: properties, and what its attempts add


def open_queue(
    settings: Settings,
    report: Callable[[str, str], None] = unreported,
    moved: Callable[[str, int], None] = lambda lane, by: None,
    alone: bool = False,
    file: Path | None = None,
) -> Queue:
    """The queue that the configuration asks for; not started yet.

    Args:
        settings: with `rabbitmq-address` it is RabbitMQ's, else the embedded one.
        report: told (kind, text) when the disk is full, a broker goes away, what it refuses, and when that is over.
        moved: told (lane, by how many) when parked messages come or go by an operator's hand.
        alone: no other program has it open.
        file: of the embedded queue, where it is a worker's.
    """
    if settings.rabbitmq_address is not None:
        return RabbitQueue(settings, largest_body(settings), report, folder=settings.data_dir)
    if not alone and file is None and (others := worker_files(settings.data_dir)):
        return open_files(settings, [settings.data_dir / FILE, *others], report)
    path = file or settings.data_dir / FILE
    patience = 0.0 if file is None else TOGETHER
    return EmbeddedQueue(path, settings.rabbitmq_outbox, report=report, moved=moved, alone=alone, patience=patience)


def open_files(settings: Settings, files: Sequence[Path], report: Callable[[str, str], None] = unreported) -> ManyFiles:
    """The files of several workers as one queue, for people; not started yet."""
    outbox = settings.rabbitmq_outbox
    return ManyFiles([EmbeddedQueue(path, outbox, report=report) for path in files], outbox)


def worker_folder(folder: Path, number: int) -> Path:
    """What the worker of a number keeps, from 1; the first one's queue is that of an instance without workers."""
    return folder / f"worker-{number}"


def queue_file(folder: Path, number: int) -> Path:
    """The queue of a worker."""
    return folder / FILE if number == 1 else worker_folder(folder, number) / FILE


def worker_files(folder: Path) -> list[Path]:
    """The queues of workers from the second on, with a worker or without."""
    return sorted(folder.glob(f"worker-*/{FILE}"))


def adopt_orphans(folder: Path, workers: int) -> int:
    """Move what is in queues of workers that are no more into the first one's; how many messages. Blocks."""
    moved = 0
    for orphan in orphans(folder, workers):
        moved += adopt(orphan, folder / FILE)
        remove(orphan)
    return moved


def orphans(folder: Path, workers: int) -> list[Path]:
    """Queues of workers that are no more."""
    kept = {queue_file(folder, number) for number in range(1, workers + 1)}
    return [path for path in worker_files(folder) if path not in kept]


def largest_body(settings: Settings) -> int:
    """Bytes of the largest body that is read from the queue: never less than what acceptance answered with 250.

    Only a broker has bodies that others put there. What the embedded queue holds was accepted, by this `smtp-maxsize`
    or an earlier one.
    """
    if settings.rabbitmq_address is None:
        return sys.maxsize
    return settings.smtp_maxsize * JSON_GROWTH + GATHERED


def result_rule(settings: Settings) -> ResultRule:
    """Which queues results may not go to."""
    return ResultRule(settings.rabbitmq_outbox, settings.rabbitmq_inbox or "")


def result_queues(settings: Settings) -> ResultQueues:
    """The names of the result queues that are on.

    No other program reads the embedded queue, so there a result queue is on only where it is named in the
    configuration; the delivery log has the same facts, and is bounded.
    """
    named = {kind: getattr(settings, f"rabbitmq_{kind}") for kind in RESULTS}
    on = {kind: name for kind, name in named.items() if name}
    if settings.rabbitmq_address is None:
        on = {kind: name for kind, name in on.items() if settings.origin(f"rabbitmq-{kind}") != "default"}
    found = ResultQueues(on)
    found.previous = settings.results_format == "previous"
    return found
