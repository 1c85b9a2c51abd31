"""`mailrace logs`: the delivery log on the terminal, and into files."""

from __future__ import annotations

import argparse
import datetime
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Protocol

from pipeline.log.reading.filters import Filters, UnknownFilter
from pipeline.log.reading.query import COUNT_BY, FORMATS, MOST, LogPage, LogQuery, LogQueryFailed
from pipeline.log.reading.render import Printer, printer, say_counts

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
POLL = 0.5  # seconds between two looks with --follow


class LogFiles(Protocol):
    """The settings that this needs."""

    @property
    def send_log(self) -> Path | None: ...
    @property
    def received_log(self) -> Path | None: ...


class _Usage(Exception):
    """Wrong usage; one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Usage(message)


def logs(settings: LogFiles, argv: Sequence[str]) -> int:
    """Run the command; returns the exit code: 0 fine, 1 the log cannot be read, 2 wrong usage."""
    try:
        options = _options(argv)
    except _Usage as error:
        print(f"mailrace logs: {error}", file=sys.stderr)
        return 2
    except SystemExit:  # --help
        return 0
    query = LogQuery(settings.send_log, settings.received_log)
    try:
        _answer(query, options)
    except UnknownFilter as error:
        print(f"mailrace logs: {error}", file=sys.stderr)
        return 2
    except (LogQueryFailed, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        print(f"mailrace logs: {error}", file=sys.stderr)
        return 1
    finally:
        query.close()
    return 0


def duration(text: str) -> int:
    """Seconds in `90s`, `15m`, `1h`, `2d` or `1w`. Raises ArgumentTypeError."""
    if not (match := re.fullmatch(r"(\d{1,9})([smhdw])", text)) or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: a number and s, m, h, d or w, like 15m")
    return int(match[1]) * UNITS[match[2]]


def moment(text: str) -> datetime.datetime:
    """A time: a duration ago, or ISO 8601, local where it has no zone. Raises ArgumentTypeError."""
    try:
        return datetime.datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        pass
    try:
        return datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=duration(text))
    except (argparse.ArgumentTypeError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: how long ago, like 15m, 1h or 2d, or like 2026-11-22T13:45"
        ) from None


def _answer(query: LogQuery, options: argparse.Namespace) -> None:
    filters = Filters(**{name: getattr(options, name) for name in Filters.__struct_fields__})
    if options.output is not None:
        _warn(query.export(options.output, options.format, filters, options.received))
    elif options.count_by is not None:
        counts = query.counts(filters, options.bucket, options.count_by)
        _warn(counts.warnings)
        say_counts(counts.rows, options.format)
    elif options.follow:
        _follow(query, filters, options)
    elif filters.given().keys() == {"message_id"} and not options.received:
        _show(query.story(options.message_id), printer(options.format))
    else:
        _show(_newest(query, filters, options), printer(options.format))


def _newest(query: LogQuery, filters: Filters, options: argparse.Namespace) -> LogPage:
    ask = query.received if options.received else query.attempts
    page = ask(filters, options.limit)
    return LogPage(page.records[::-1], page.after, page.warnings)


def _follow(query: LogQuery, filters: Filters, options: argparse.Namespace) -> None:
    follower = query.follow(filters, options.received)
    out = printer(options.format, live=True)
    page = _newest(query, filters, options)
    _show(page, out)
    shown = {repr(record) for record in page.records}  # what came between the two is in both
    try:
        while True:
            out([record for record in follower.poll() if repr(record) not in shown])
            time.sleep(POLL)
    except KeyboardInterrupt:
        pass
    finally:
        follower.close()


def _show(page: LogPage, out: Printer) -> None:
    out(page.records)
    _warn(page.warnings)


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        print(f"mailrace logs: {warning}", file=sys.stderr)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(argv)
    if options.output is not None and options.format == "table":
        options.format = options.output.suffix.lstrip(".")
        if options.format not in FORMATS:
            parser.error(f"--output {options.output}: add --format {', '.join(FORMATS)}")
    if options.output is None and options.format == "parquet":
        parser.error("--format parquet: needs --output FILE")
    if options.output is not None and (options.follow or options.count_by):
        parser.error("--output: takes all records that pass, without --follow and --count-by")
    if options.count_by and (options.follow or options.received):
        parser.error("--count-by: counts attempts, without --follow and --received")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mailrace logs", description="Ask the delivery log; all filters that are given must hold.")
    filters = parser.add_argument_group("filters")
    filters.add_argument("--since", type=moment, metavar="TIME", help="15m, 1h, 2d ago, or 2026-11-22T13:45")
    filters.add_argument("--until", type=moment, metavar="TIME", help="likewise")
    for name, help in _FILTERS.items():
        filters.add_argument(f"--{name}", metavar="X", help=help, type=_code if name == "code" else str)
    parser.add_argument("--received", action="store_true", help="ask the received-log")
    parser.add_argument("--limit", type=_limit, default=100, help=f"newest records to show, at most {MOST:,}")
    parser.add_argument("--follow", "-f", action="store_true", help="go on with what comes")
    parser.add_argument("--count-by", choices=COUNT_BY, metavar="FIELD", help=", ".join(COUNT_BY))
    parser.add_argument("--bucket", type=duration, default=3600, metavar="TIME", help="with --count-by: 10m, 1h, 1d")
    parser.add_argument("--format", choices=("table", *FORMATS), default="table")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all that pass to a file")
    return parser


def _code(text: str) -> int:
    if not re.fullmatch(r"[2-5][0-9][0-9]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no SMTP code: 200 to 599")
    return int(text)


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r}: 1 to {MOST:,}; for more, --output FILE")
    return int(text)


_FILTERS = {
    "ip": "MTA IP",
    "remote-ip": "IP of the other side",
    "domain": "the recipient's domain",
    "recipient": "RCPT TO",
    "envelope": "MAIL FROM",
    "containing": "part of either address",
    "message-id": "alone: the message's whole story",
    "lane": "MTA IP and destination group, ip/group",
    "host": "the receiving host",
    "tag": "one of the tags",
    "state": "how far it got",
    "result": "what came of it there",
    "next": "what becomes of it",
    "code": "SMTP code",
    "bounce-class": "what the answer means, as mailbox-full",
    "rule": "one of the rules that decided on it, as errors/3",
    "text": "part of the answer",
    "user": "who was logged in (--received)",
}
