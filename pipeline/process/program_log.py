"""The program log: what Mailrace and its libraries say about themselves, by structlog.

Owns the handlers of the root logger, so everything that uses `logging` comes the same way. Last before it is
written, each entry is scrubbed: secrets are masked wherever they stand, and nothing from outside can break the line
or drive the terminal. A log call never raises and never waits: see `destinations`.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from structlog.types import Processor

from pipeline.log.text import MASK, masked, visible
from pipeline.process.destinations import LONGEST, SYSLOG, Destination, FileSink, Sink, StreamSink, SyslogSink

TEXT = 16_000  # characters of one value of an entry
QUIET = ("aio_pika", "aiormq", "alembic", "uvicorn", "httpx", "mail.log", "watchfiles")  # from warnings up


class ProgramLogUnavailable(Exception):
    """A destination cannot be opened; one clear line."""


class ProgramLog:
    """Where the program log goes, from now on.

    Args:
        destinations: each `stderr`, `stdout`, `syslog` or a file's path.
        form: `console` or `json`.

    Raises:
        ProgramLogUnavailable: a destination cannot be opened.
    """

    def __init__(self, destinations: Sequence[str], form: str) -> None:
        sinks = [_sink(destination) for destination in destinations]
        handlers = [_Handler(Destination(sink)) for sink in sinks]
        for handler, sink in zip(handlers, sinks, strict=True):
            handler.setFormatter(_formatter(form, isinstance(sink, StreamSink) and sink.is_terminal))
        self._destinations = [handler.destination for handler in handlers]
        root = logging.getLogger()
        for old in [*root.handlers]:
            root.removeHandler(old)
            old.close()
        for handler in handlers:
            root.addHandler(handler)
        root.setLevel(logging.INFO)
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.captureWarnings(True)
        structlog.configure(
            processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
        )

    @property
    def lost(self) -> int:
        """Lines that could not be written, since the start, of all destinations."""
        return sum(destination.lost for destination in self._destinations)

    @property
    def trouble(self) -> str | None:
        """What is wrong with the destinations now, or None."""
        troubles = [destination.trouble for destination in self._destinations]
        return "; ".join(trouble for trouble in troubles if trouble) or None

    def reopen(self) -> None:
        """Go on with what is now at the files' paths (SIGHUP). Raises nothing."""
        for destination in self._destinations:
            destination.reopen()

    def flush(self, patience: float = 5.0) -> bool:
        """Wait until what was logged is written; False where that takes longer."""
        return all(destination.flush(patience) for destination in self._destinations)

    def close(self, patience: float = 1.0) -> None:
        """Write what waits, where that is soon. Further lines are still taken, and may be lost."""
        end = time.monotonic() + patience
        for destination in self._destinations:
            destination.flush(max(0.0, end - time.monotonic()))


class _Handler(logging.Handler):
    """Hands each entry to a destination, in its final form; raises nothing, whatever the entry holds."""

    def __init__(self, destination: Destination) -> None:
        super().__init__()
        self.destination = destination

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as error:  # an object of the entry cannot be shown
            text = f"{record.levelname} {visible(record.name)}: an entry could not be written: {type(error).__name__}"
        text = text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text):,} characters)"
        self.destination.put(record.levelno, text.encode(errors="backslashreplace") + b"\n")

    def close(self) -> None:
        self.destination.close(1.0)
        super().close()


def scrub(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: masks secrets by their names and by how they look, and escapes control characters."""
    return {visible(name): _clean(name, value) for name, value in entry.items()}


def _clean(name: str, value: Any) -> Any:
    if _SECRET_NAME.search(name) and value is not None:
        return MASK
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        most = LONGEST if name in ("exception", "stack") else TEXT
        value = value if len(value) <= most else f"{value[:most]} ... ({len(value):,} characters)"
        if name in ("exception", "stack"):  # its lines stand apart: what it quotes cannot pass for an entry
            return visible(masked(value), keep="\n").replace("\n", "\n  ")
        return visible(masked(value))
    if isinstance(value, MutableMapping):
        return {visible(str(key)): _clean(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean("", inner) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return _clean("", str(value))


_SECRET_NAME = re.compile(
    r"passw|secret|token|authorization|cookie|credential|private|api.?key|^key$|^auth$", re.IGNORECASE
)

_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]


def _sink(destination: str) -> Sink:
    try:
        if destination in ("stderr", "stdout"):
            return StreamSink(destination)
        return SyslogSink(SYSLOG) if destination == "syslog" else FileSink(Path(destination))
    except OSError as error:
        where = SYSLOG if destination == "syslog" else destination
        raise ProgramLogUnavailable(f"application-log: cannot write {where}: {error.strerror}") from None


def _formatter(form: str, colors: bool) -> logging.Formatter:
    renderer: Processor
    if form == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            scrub,
            renderer,
        ],
    )
