"""Logs as text, each line a template filled in: `send-log-file` and `received-log-file`, in the form that MailerQ has.

Owns the lines on their way to the disk: each MOMENT they are written in a thread, so that mail never waits for a disk.
Lines of the last moment are lost where the program is killed; the delivery log has them. A file that was moved away or
removed is made again, as logrotate needs it. Bound: MOST characters of lines; what is over is lost, and said.
"""

from __future__ import annotations

import asyncio
import datetime
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from operators.deliveries.delivery import Delivery
from operators.deliveries.events import Received
from operators.deliveries.outcome import Outcome
from operators.deliveries.results import entry, without_secrets
from operators.template.language import compiled, render
from operators.template.values import Budget, Printed, TemplateError
from pipeline.log.schema import NOT_LOGGED
from pipeline.log.text import visible
from pipeline.log.writing.delivery_log import LogUnavailable
from pipeline.log.writing.fault import LogFault, Report
from pipeline.log.writing.file import LogFile, open_log
from pipeline.process.rights import Account

MOMENT = 0.5  # seconds
MOST = 8_000_000
LONGEST = 16_384  # characters of a line
SENT = (
    "[{$date}] {$result.state}:{$result.result} {$attempt} <{$email.envelope}> <{$email.recipient}> [{$result.from}] "
    "[{$result.to}] {$email.tags} {$result.code} {$result.status} {$result.description}"
)
RECEIVED = (
    "[{$date}]{if $json.message_id} {$json.message_id} {/if}<{$json.envelope}> <{$json.recipient}> "
    "[{$json.connection.remote_ip}]"
)
Spawn = Callable[[Coroutine[Any, Any, None], str], object]


class AttemptLog(Protocol):
    """Takes what came of a delivery, when, and when it comes back."""

    def __call__(self, delivery: Delivery, outcome: Outcome, when: float, retry_at: float | None = None, /) -> None: ...


class TextLog:
    """One of them.

    Args:
        key: of the configuration.
        path: the file.
        template: of a line.
        report: takes `Fault` where lines are lost.
        clock: epoch seconds.
        spawn: runs what writes, by the name of the part.
    """

    def __init__(
        self, key: str, path: Path, template: str, report: Report, clock: Callable[[], float], spawn: Spawn
    ) -> None:
        self.key, self.path = key, path.absolute()
        self._template, self._spawn = template, spawn
        self._file = LogFile(self.path, 0, clock)
        self.trouble = LogFault(key, str(self.path), report, clock)
        self._lines: list[str] = []
        self._held = 0
        self._writing = False
        self._one = asyncio.Lock()  # writes at a time

    def prepare(self, account: Account | None) -> None:
        """Look at the template, and make the file, which is that account's then. Raises `LogUnavailable`."""
        try:
            compiled(self._template)
        except TemplateError as error:
            raise LogUnavailable(f"{self.key.removesuffix('file')}format: {error}") from None
        made = not self.path.parent.exists()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(open_log(self.path))
            for file in (self.path, *([self.path.parent] if made else [])):
                if account is not None:
                    os.chown(file, account[0], account[1], follow_symlinks=False)
        except OSError as error:
            raise LogUnavailable(f"{self.key}: cannot write {error.filename}: {error.strerror}") from None

    def write(self, when: float, variables: dict[str, Any]) -> None:
        """A line more."""
        date = datetime.datetime.fromtimestamp(when, datetime.UTC)
        variables |= {"date": f"{date:%Y-%m-%d %H:%M:%S}", "time": int(when)}
        try:
            line = visible(render(self._template, variables, Budget())[:LONGEST])
        except TemplateError as error:
            self.trouble.lost(1, str(error))
            return
        if self._held + len(line) > MOST:
            self.trouble.lost(1, "the disk is too slow for its lines")
            return
        self._lines.append(line)
        self._held += len(line)
        if not self._writing:
            self._writing = True
            self._spawn(self._later(), self.key)

    async def _later(self) -> None:
        await asyncio.sleep(MOMENT)
        await self.flush()

    async def flush(self) -> None:
        """Write what has come so far."""
        self._writing = False
        lines, self._lines, self._held = self._lines, [], 0
        if lines:
            async with self._one:
                await self._append(lines)

    async def _append(self, lines: Sequence[str]) -> None:
        try:
            await asyncio.to_thread(self._to_disk, "".join(f"{line}\n" for line in lines))
        except OSError as error:
            self.trouble.lost(len(lines), f"cannot be written: {error.strerror}")
        else:
            self.trouble.over()

    def _to_disk(self, text: str) -> None:
        self._file.follow()
        self._file.append(text.encode(errors="replace"))

    async def close(self) -> None:
        """Write the rest."""
        await self.flush()
        self._file.close()


class TextLogs:
    """Both of them.

    Args:
        sent, received: None where there is no such log.
    """

    def __init__(self, sent: TextLog | None, received: TextLog | None) -> None:
        self._sent, self._received = sent, received
        self._logs = [log for log in (sent, received) if log is not None]

    @property
    def troubles(self) -> list[str]:
        """A line for each that is not written."""
        return [f"{log.key} is not written: {log.trouble.now}" for log in self._logs if log.trouble.now]

    def start(self, account: Account | None) -> None:
        """Make the files. Raises `LogUnavailable`."""
        for log in self._logs:
            log.prepare(account)

    def after(self, log: AttemptLog) -> AttemptLog:
        """A log of attempts that writes to this one too."""
        sent = self._sent
        if sent is None:
            return log

        def both(delivery: Delivery, outcome: Outcome, when: float, retry_at: float | None = None) -> None:
            log(delivery, outcome, when, retry_at)
            if outcome.next not in NOT_LOGGED:
                sent.write(when, _attempt(delivery, outcome, when))

        return both

    def received(self, event: Received) -> None:
        """Log a received message."""
        if self._received is not None:
            self._received.write(event.time, _reception(event))

    async def close(self) -> None:
        """Write the rest."""
        for log in self._logs:
            await log.close()


def _attempt(delivery: Delivery, outcome: Outcome, when: float) -> dict[str, Any]:
    message = delivery.message
    given = {name: value for name, value in message.properties.items() if name not in ("mime", "results", "data")}
    return {
        "email": printed(without_secrets(given)),
        "result": printed(entry(outcome, when)),
        "attempt": len(message.results) + 1,
    }


def _reception(event: Received) -> dict[str, Any]:
    connection = {"remote-ip": event.remote_ip, "user": event.user}
    found = {"message-id": event.message_id, "envelope": event.envelope, "recipient": event.recipient}
    return {"json": {**found, "connection": connection, "size": event.size, "source": event.source}}


def printed(values: Mapping[str, Any]) -> dict[str, Any]:
    """With lists that a line shows as JSON."""
    return {name: Printed(value) if isinstance(value, list) else value for name, value in values.items()}
