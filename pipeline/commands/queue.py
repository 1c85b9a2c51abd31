"""The commands that work on the queue without the server: `mailrace send` and `mailrace queue`.

They open the queue's file beside the server, running or not, which notices within half a second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from typing import BinaryIO, NoReturn

from rich.console import Console
from rich.table import Table

from pipeline.commands.folders import at, folders
from pipeline.commands.speak import speak
from pipeline.machine import health
from pipeline.process import is_running, only_one
from pipeline.process.supervisor import awaited
from pipeline.queues import open_queue, result_rule
from pipeline.queues.contract import Queue, QueueFigures, QueueUnavailable, confirmed
from pipeline.queues.embedded.damage.check import check
from pipeline.queues.embedded.damage.condition import SAVE
from pipeline.queues.embedded.damage.recover import recover
from pipeline.queues.listing import Unbrowsable
from pipeline.smtp.server.refusal import Refusal
from pipeline.smtp.server.transaction import Ids
from pipeline.spool.sendmail import Origin, SendRequest, UnusableSubmission, compose, parse, read_message
from pipeline.views.bulk import Bulk, BulkJob, Selection
from settings import ConfigurationErrors, Settings, StartError

NAMED = 20  # ids that `recover` names
LOOK = 5.0  # seconds for a check of the queue's file
PATIENCE = 20.0  # seconds for the queue's own answer
SILENT = 120.0  # seconds after which what the program said of itself is old


def send(settings: Settings, arguments: Sequence[str], stdin: BinaryIO) -> int:
    """Queue one message from standard input, a queue message a recipient; says nothing, as sendmail does.

    Raises:
        ConfigurationErrors: the command line cannot be used.
        StartError: the message cannot be queued; nothing of it is.
    """
    request = parse(arguments)
    if settings.origin("data-dir") == "default":
        settings = _at_the_queue(settings)  # in a queue that was made here and now it would wait for a server for ever
    try:
        if request.speaks:
            asyncio.run(_speak(settings, stdin))
            return 0
        messages = _messages(settings, request, stdin)
        asyncio.run(_publish(settings, messages))
    except (UnusableSubmission, QueueUnavailable) as error:
        raise StartError(f"send: {error}") from None
    except Refusal as refusal:
        raise StartError(f"send: {refusal.reply.split(' ', 2)[2]}") from None
    return 0


async def _speak(settings: Settings, stdin: BinaryIO) -> None:
    if settings.rabbitmq_inbox is None:
        raise StartError("send: rabbitmq-inbox is empty: what is handed in here would be thrown away")
    async with _opened(settings) as queue:
        await speak(settings, queue, stdin, sys.stdout.buffer)


def _messages(settings: Settings, request: SendRequest, stdin: BinaryIO) -> list[tuple[str, bytes]]:
    if settings.rabbitmq_inbox is None:
        raise StartError("send: rabbitmq-inbox is empty: what is handed in here would be thrown away")
    source = read_message(stdin, request.ignore_dot, settings.smtp_maxsize)
    origin = Origin(_user(), socket.gethostname(), time.time(), settings.mail_domain or "")
    id = Ids(f"{settings.server_id}-{os.getpid()}").next()
    bodies = compose(
        source, request, origin, id, settings.smtp_extract, result_rule(settings), long_lines=settings.long_lines
    )
    return [(settings.rabbitmq_inbox, body) for body in bodies]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


async def _publish(settings: Settings, messages: Sequence[tuple[str, bytes]]) -> None:
    async with _opened(settings) as queue:
        await confirmed(partial(queue.publish, messages))


def queue(settings: Settings, arguments: Sequence[str]) -> int:
    """Show what waits, retry it now, or throw it away.

    Raises:
        ConfigurationErrors: the command line cannot be used.
        StartError: there is no queue, or it cannot be opened.
    """
    wanted = _queue_arguments(arguments)
    settings = _at_the_queue(settings)
    try:
        return asyncio.run(_ACTIONS[wanted.action](settings, wanted))
    except QueueUnavailable as error:
        raise StartError(f"queue: {error}") from None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationErrors([f"queue: {message}"])


def _queue_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    what = "What waits: show it, retry it now, throw it away (delete: by tag or domain; purge: all), or save it."
    parser = _Parser(prog="mailrace queue", description=what)
    parser.add_argument("action", nargs="?", default="show", choices=sorted(_ACTIONS))
    parser.add_argument("name", nargs="?", help="the queue to purge; the outbox, unless named")
    parser.add_argument("--lane", help="purge only what is parked in this lane")
    parser.add_argument("--tag", default="", help="delete only messages with this tag")
    parser.add_argument("--domain", default="", help="delete only messages to this domain")
    parser.add_argument("--yes", action="store_true", help="delete or purge without asking")
    return parser.parse_args(arguments)


async def _show(settings: Settings, _: argparse.Namespace) -> int:
    shown = awaited(_shown(settings), "queue")
    if (await asyncio.wait({shown}, timeout=PATIENCE))[0]:
        code, own = shown.result()
    else:  # an alarm of the broker holds up who publishes
        code, own = 1, f"the queue has not answered for {PATIENCE:.0f} s"
        shown.cancel()
        await asyncio.sleep(0)  # it closes its connection now, and the end of the loop cancels that as well
    for line in dict.fromkeys(line for line in (own, *_checked(settings), *_told(settings)) if line):
        print(f"! {line}")
    return code


async def _shown(settings: Settings) -> tuple[int, str | None]:
    """Print the figures; returns the exit code, and what is wrong: what the running program says then counts more."""
    try:
        async with _opened(settings) as queue:
            Console(soft_wrap=True).print(_table(settings.rabbitmq_outbox, await queue.figures()))
            return 0, queue.fault
    except QueueUnavailable as error:
        return 1, str(error)


def _checked(settings: Settings) -> Iterator[str]:
    """What is wrong with the queue's file, as far as LOOK seconds show."""
    if settings.rabbitmq_address is None:
        path = settings.data_dir / "queue.db"
        if (damage := check(path, budget=LOOK).damage) is not None:
            yield f"{path} is damaged ({damage}): no new mail is taken; {SAVE}"


def _told(settings: Settings) -> Iterator[str]:
    """What the running program says of itself; that none runs, or that it says nothing any more."""
    if not is_running(settings):
        yield f"Mailrace does not run on {settings.data_dir}: nothing is sent"
        return
    told = health.read(settings.data_dir)
    if told is None or abs(time.time() - told.time) > SILENT:
        yield f"Mailrace runs on {settings.data_dir}, and does not say how it is"
    if told is not None:
        yield from told.states


def _table(outbox: str, figures: QueueFigures) -> Table:
    table = Table("queue", "lane", box=None, pad_edge=False)
    for heading in ("ready", "waiting", "parked"):
        table.add_column(heading, justify="right")
    table.add_row(outbox, "", str(figures.ready), str(figures.waiting), str(sum(figures.parked.values())))
    for lane, count in sorted(figures.parked.items()):
        table.add_row("", lane, "", "", str(count))
    for name, count in sorted(figures.other.items()):
        table.add_row(name, "", str(count), "", "")
    return table


async def _recover(settings: Settings, _: argparse.Namespace) -> int:
    if settings.rabbitmq_address is not None:
        raise ConfigurationErrors(["queue: recover: is for the embedded queue; a broker has tools of its own"])
    path = settings.data_dir / "queue.db"
    with only_one(settings):
        done = recover(path)
    if done.damage is None:
        print(f"{path} is in order; nothing was done")
        return 0
    print(f"{path} was damaged: {done.damage}")
    print(f"{done.messages:,} messages were saved; the damaged file is {done.aside}")
    if done.missing or done.unread:
        some = ", ".join(map(str, done.missing[:NAMED])) + (", ..." if len(done.missing) > NAMED else "")
        print(f"{max(len(done.missing), done.unread):,} messages could not be read{f': {some}' if some else ''}")
    return 0


async def _flush(settings: Settings, _: argparse.Namespace) -> int:
    async with _opened(settings) as queue:
        print(f"{await queue.flush()} messages that waited for their time are ready now")
    return 0


async def _purge(settings: Settings, wanted: argparse.Namespace) -> int:
    name = wanted.name or settings.rabbitmq_outbox
    what = f"{name}, lane {wanted.lane}" if wanted.lane else name
    async with _opened(settings) as queue:
        if not wanted.yes and not _agreed(f"Throw away every message in {what}? [y/N] "):
            return 1
        print(f"{await queue.purge(name, wanted.lane)} messages of {what} are gone")
    return 0


async def _delete(settings: Settings, wanted: argparse.Namespace) -> int:
    if not (wanted.tag or wanted.domain):
        raise ConfigurationErrors(["queue: delete: needs --tag or --domain, or both; to delete all is purge"])
    selection = Selection(tag=wanted.tag, domain=(wanted.domain,) if wanted.domain else ())
    named = (f"tag {wanted.tag}" if wanted.tag else "", f"domain {wanted.domain}" if wanted.domain else "")
    what = ", ".join(filter(None, named))
    async with _opened(settings) as queue:
        bulk = Bulk(queue, settings.rabbitmq_outbox)
        try:
            count = await bulk.count(selection)
        except Unbrowsable as error:
            raise StartError(f"queue: delete: {error}") from None
        if not wanted.yes and not _agreed(f"Throw away {count:,} messages ({what})? [y/N] ", "delete"):
            return 1
        job = await _watched(bulk, bulk.begin("delete", selection))
    if job.error:
        raise StartError(f"queue: delete: {job.changed:,} messages are gone, then it failed: {job.error}")
    print(f"{job.changed:,} messages ({what}) are gone")
    return 0


async def _watched(bulk: Bulk, job: BulkJob) -> BulkJob:
    """Until it has ended; where somebody looks, with its progress."""
    ended = awaited(bulk.finished(job), "queue")
    while not (await asyncio.wait({ended}, timeout=1.0))[0]:
        if sys.stderr.isatty():
            print(f"\r{job.looked:,} of {job.total:,}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    return ended.result()


def _agreed(question: str, action: str = "purge") -> bool:
    if not sys.stdin.isatty():
        raise ConfigurationErrors([f"queue: {action}: needs --yes where nobody can be asked"])
    return input(question).strip().lower() in ("y", "yes")


@contextlib.asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Queue]:
    queue = open_queue(settings)
    await queue.start()
    try:
        yield queue
    finally:
        await queue.close()


def _at_the_queue(settings: Settings) -> Settings:
    """With the folder in which there is a queue."""
    if settings.rabbitmq_address is not None:
        return settings
    if (found := at(settings, "queue.db")) is not None:
        return found
    what = f"{folders(settings)[0] / 'queue.db'}: there is no queue"
    if is_running(settings):
        raise StartError(f"{what}, and Mailrace runs there: {'; '.join(_told(settings)) or 'it says nothing of it'}")
    raise StartError(f"{what}; start `mailrace serve`, or name its folder with --data-dir")


_ACTIONS = {"show": _show, "flush": _flush, "purge": _purge, "delete": _delete, "recover": _recover}
