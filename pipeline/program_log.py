"""The program log: what Mailrace and its libraries say about themselves, by structlog.

Owns the handlers of the root logger, so everything that uses `logging` comes the same way. Last before it is
written, each entry is scrubbed: secrets are masked wherever they stand, and nothing from outside can break the line
or drive the terminal. A destination that fails while running is told on stderr by `logging`, and stops nobody.
"""

from __future__ import annotations

import logging
import logging.handlers
import re
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from structlog.types import Processor

from pipeline.log.text import MASK, masked, visible

SYSLOG = "/dev/log"
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
        handlers = [_handler(destination) for destination in destinations]
        for handler in handlers:
            handler.setFormatter(_formatter(form, _is_terminal(handler)))
        self._files = [found for found in handlers if isinstance(found, logging.handlers.WatchedFileHandler)]
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

    def reopen(self) -> None:
        """Go on with what is now at the files' paths (SIGHUP)."""
        for handler in self._files:
            handler.reopenIfNeeded()


def scrub(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: masks secrets by their names and by how they look, and escapes control characters."""
    return {visible(name): _clean(name, value) for name, value in entry.items()}


def _clean(name: str, value: Any) -> Any:
    if _SECRET_NAME.search(name) and value is not None:
        return MASK
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return visible(masked(value), keep="\n" if name in ("exception", "stack") else "")
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


def _handler(destination: str) -> logging.Handler:
    try:
        if destination in ("stderr", "stdout"):
            return logging.StreamHandler(getattr(sys, destination))
        if destination == "syslog":
            Path(SYSLOG).stat()  # the handler itself says nothing until it is used
            return logging.handlers.SysLogHandler(SYSLOG, logging.handlers.SysLogHandler.LOG_MAIL)
        path = Path(destination)
        path.parent.mkdir(parents=True, exist_ok=True)
        return logging.handlers.WatchedFileHandler(path, encoding="utf-8")
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


def _is_terminal(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and handler.stream.isatty()
