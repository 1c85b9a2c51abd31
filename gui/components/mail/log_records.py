"""Log records as the console shows them: a row, a step of a message's story, the points of a chart."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec

from gui.components.detail_drawer import Section, facts
from gui.components.live_table import shown
from pipeline.views.logs import Attempt, Counts, Filters, LogRecord, Reception

MOST = 10_000  # slots of a chart
MEANING = {
    "accepted": "Accepted",
    "error": "Errors",
    "timeout": "Timeouts",
    "lost": "Connection lost",
    "invalid": "Invalid",
}


def row(key: str, record: LogRecord) -> dict[str, Any]:
    """A row of the table."""
    common = {"key": key, "time": record.time.timestamp(), "recipient": shown(record.recipient or "", 320)}
    if isinstance(record, Reception):
        return common | {
            "envelope": shown(record.envelope or "<>", 320),
            "source": record.source,
            "remote_ip": record.remote_ip,
            "user": shown(record.user or "", 100),
            "size": record.size,
        }
    assert isinstance(record, Attempt)
    said = " ".join(part for part in (record.status, record.description) if part)
    return common | {
        "ip": record.mta_ip,
        "result": record.result,
        "state": shown(record.state or "", 40),
        "attempt": record.attempt or 0,
        "wire": f"{record.wire:.2f} s" if record.wire is not None else "",
        "answer": {"code": str(record.code or ""), "text": shown(said)},
    }


def step(record: LogRecord) -> dict[str, Any]:
    """A step of the message's story."""
    told: dict[str, Any] = {"time": record.time.timestamp(), "text": ""}
    if isinstance(record, Reception):
        where = f"by {record.source} from {record.remote_ip or 'this machine'}" + (
            f", user {record.user}" if record.user else ""
        )
        return told | {
            "title": "received",
            "state": "received",
            "text": shown(where),
            "under": f"{record.size or 0:,} bytes",
        }
    assert isinstance(record, Attempt)
    said = " ".join(part for part in (record.status, record.description) if part)
    places = [
        f"from {record.mta_ip}" if record.mta_ip else "",
        f"to {record.host} [{record.remote_ip}]" if record.host else "",
    ]
    then = "" if record.retry_at else f"then: {record.next}"
    under = ", ".join(part for part in (*places, record.tls or "", then) if part)
    return told | {
        "title": f"attempt {record.attempt}: {record.state} {record.result}",
        "state": record.result,
        "code": str(record.code or ""),
        "text": shown(said, 1000),
        "under": shown(under),
        "again": record.retry_at.timestamp() if record.retry_at else None,
    }


def all_of(record: LogRecord) -> Section:
    """Everything that the record says."""
    fields = msgspec.structs.asdict(record)
    return facts(
        "The last record", [(name.replace("_", " "), _plain(value)) for name, value in fields.items() if name != "v"]
    )


def _plain(value: Any) -> object:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value


def points(counts: Counts, every: int, filters: Filters) -> dict[str, Any]:
    """Counts as the chart takes them: a number for each slot of `every` seconds."""
    until = filters.until or now()
    unfinished = filters.until is None or until >= now()  # the last slot has only begun, and would look like a plunge
    first = filters.since or min((row.time for row in counts.rows), default=until)
    begin, end = int(first.timestamp()) // every, int(until.timestamp()) // every - unfinished
    slots = min(max(end - begin + 1, 2), MOST)
    values: dict[str, list[int]] = {name: [0] * slots for name in MEANING}
    for row in counts.rows:
        at = int(row.time.timestamp()) // every - begin
        if row.value in values and 0 <= at < slots:
            values[row.value][at] = row.count
    return {
        "first": begin * every,
        "step": every,
        "values": {name: row for name, row in values.items() if any(row) or name == "accepted"},
    }


def aware(time: datetime.datetime | None) -> datetime.datetime | None:
    """A time that says no zone is UTC."""
    return time.replace(tzinfo=datetime.UTC) if time is not None and time.tzinfo is None else time


def now() -> datetime.datetime:
    """This moment."""
    return datetime.datetime.now(datetime.UTC)


def duration(seconds: int) -> str:
    """A span, as one says it."""
    for size, name in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            return name if seconds == size else f"{seconds // size} {name}s"
    return f"{seconds} seconds"
