"""The log query: the only reader of the delivery log, for the console, the command line, REST and notebooks.

DuckDB reads JSON Lines and Parquet as one table (`source`). Every method blocks: call it in a thread
(`asyncio.to_thread`); DuckDB lets go of the GIL while it works, and each call has a cursor of its own. Bounds: MEMORY
for all queries that run at once (an export has as much for itself), THREADS, MOST records a page, SERIES values a
count. What does not fit ends in `LogQueryFailed`, and never in a file of spilled rows.
"""

# ruff: noqa: S608 - SQL is put together from the schema's names and fixed clauses; every value is a parameter.
from __future__ import annotations

import datetime
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import msgspec

from pipeline.log.reading.database import connect
from pipeline.log.reading.filters import EVERYTHING, Filters, utc, where
from pipeline.log.reading.source import Files, LogTable
from pipeline.log.reading.tail import LogTails
from pipeline.log.schema import Attempt, LogRecord, Reception, columns
from pipeline.log.text import FORMULA

MEMORY = "300MB"
THREADS = 2
MOST = 10_000
SERIES = 20
FORMATS = {"json": "FORMAT json", "csv": "FORMAT csv, HEADER", "parquet": "FORMAT parquet, COMPRESSION zstd"}
COUNT_BY = ("result", "state", "next", "code", "domain", "mta_ip", "lane", "host", "instance", "tls", "tag")

Result = TypeVar("Result")


_Run = Callable[[duckdb.DuckDBPyConnection, Files], Result]
_Asked = tuple[Result, list[str]]


class LogQueryFailed(Exception):
    """The query could not be answered; one line."""


class Position(msgspec.Struct, frozen=True):
    """Where a page ended: after the record of this time, `seen` of which were shown."""

    time: datetime.datetime
    seen: int


class LogPage(msgspec.Struct, frozen=True):
    """Records, newest first. `after` gives the next page, None is the end."""

    records: list[LogRecord]
    after: Position | None
    warnings: list[str]


class Count(msgspec.Struct, frozen=True):
    """`count` attempts with this value in the bucket that begins at `time`; None is without, `other` the rest."""

    time: datetime.datetime
    value: str | None
    count: int


class Counts(msgspec.Struct, frozen=True):
    """Counts, oldest first."""

    rows: list[Count]
    warnings: list[str]


class LogQuery:
    """Questions about a send-log and a received-log.

    Args:
        send_log, received_log: the active files; rotated ones lie beside them. None: there is none.
    """

    def __init__(self, send_log: Path | None, received_log: Path | None = None) -> None:
        self._database = connect(THREADS, MEMORY)
        self._sent = LogTable(send_log, Attempt)
        self._received = LogTable(received_log, Reception)

    def attempts(self, filters: Filters = EVERYTHING, limit: int = 100, after: Position | None = None) -> LogPage:
        """The newest attempts that pass. Raises `LogQueryFailed`, `UnknownFilter`."""
        return self._page(self._sent, filters, limit, after)

    def received(self, filters: Filters = EVERYTHING, limit: int = 100, after: Position | None = None) -> LogPage:
        """The newest received messages that pass. Raises `LogQueryFailed`, `UnknownFilter`."""
        return self._page(self._received, filters, limit, after)

    def counts(self, filters: Filters = EVERYTHING, bucket: int = 3600, by: str = "result") -> Counts:
        """Attempts that pass, by the values of `by` (one of COUNT_BY) and by buckets of so many seconds.

        Raises `LogQueryFailed`, `UnknownFilter`, and ValueError for another `by` or a bucket under a second.
        """
        if by not in COUNT_BY or bucket < 1:
            raise ValueError(f"counts by {by!r} every {bucket} s: by is one of {', '.join(COUNT_BY)}, 1 s or more")
        value = "unnest(tags)" if by == "tag" else f"{by}::VARCHAR"
        condition, parameters = where(filters, Attempt)

        def run(cursor: duckdb.DuckDBPyConnection, files: Files) -> list[Count]:
            table, given = self._sent.table(files)
            sql = _COUNTS.format(value=value, table=table, condition=condition, series=SERIES)
            rows = cursor.execute(sql, {**parameters, **given, "bucket": bucket}).fetchall()
            return [Count(_aware(time), value, count) for time, value, count in rows]

        return Counts(*self._ask(self._sent, run))

    def ends(self, since: float, bucket: int) -> list[tuple[Any, ...]]:
        """Attempts since a time, by buckets of so many seconds, MTA IP and how they ended, with their count.

        Raises `LogQueryFailed`.
        """

        def run(cursor: duckdb.DuckDBPyConnection, files: Files) -> list[tuple[Any, ...]]:
            table, given = self._sent.table(files)
            sql = _ENDS.format(table=table)
            start = datetime.datetime.fromtimestamp(since, datetime.UTC)
            return cursor.execute(sql, {**given, "since": utc(start), "bucket": bucket}).fetchall()

        return self._ask(self._sent, run)[0]

    def story(self, message_id: str) -> LogPage:
        """All that is known of one message, oldest first. Raises `LogQueryFailed`."""
        filters = Filters(message_id=message_id)
        pages = [self.received(filters, MOST), self.attempts(filters, MOST)]
        records = sorted((record for page in pages for record in page.records), key=lambda record: record.time)
        return LogPage(records, None, [warning for page in pages for warning in page.warnings])

    def follow(self, filters: Filters = EVERYTHING, received: bool = False) -> Follower:
        """What comes from now on. Raises `LogQueryFailed` where there is no such log, and `UnknownFilter`."""
        source = self._received if received else self._sent
        if source.log is None:
            raise LogQueryFailed("this log is not written")
        return Follower(source, LogTails(source.log), self._database, filters)

    def export(self, path: Path, kind: str, filters: Filters = EVERYTHING, received: bool = False) -> list[str]:
        """Write all records that pass, oldest file first, as json (JSON Lines), csv or parquet; returns warnings.

        The file is whole or not there. Raises `LogQueryFailed`, `UnknownFilter`, OSError, ValueError (another kind).
        """
        if kind not in FORMATS:
            raise ValueError(f"{kind!r} is no format: {', '.join(FORMATS)}")
        source = self._received if received else self._sent
        condition, parameters = where(filters, source.record)

        def run(cursor: duckdb.DuckDBPyConnection, files: Files) -> None:
            ordered = msgspec.structs.replace(files, parquet=files.parquet[::-1])
            table, given = source.table(ordered)
            shown = "*" if kind == "parquet" else _written(source.record, kind)
            sql = f"COPY (SELECT {shown} FROM {table} WHERE {condition}) TO $target ({FORMATS[kind]})"
            cursor.execute(sql, {**parameters, **given, "target": part})

        # One thread: with several, DuckDB keeps rows in memory until their turn to be written has come.
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            with connect(1, MEMORY) as database:
                _, warnings = self._ask(source, run, database)
            Path(part).replace(path)
        finally:
            Path(part).unlink(missing_ok=True)
        return warnings

    def sql(self, text: str, **parameters: Any) -> duckdb.DuckDBPyRelation:
        """Any SELECT over `attempts` and `received`, for notebooks. Never give it text from outside."""
        cursor = self._database.cursor()
        given: dict[str, Any] = {}
        tables = []
        for name, source in (("attempts", self._sent), ("received", self._received)):
            table, own = source.table(source.files())
            for key in sorted(own, key=len, reverse=True):
                table = table.replace(f"${key}", f"${name}_{key}")
            tables.append(f"{name} AS {table}")
            given |= {f"{name}_{key}": value for key, value in own.items()}
        return cursor.sql(f"WITH {', '.join(tables)} {text}", params={**given, **parameters})

    def close(self) -> None:
        """Let go of the memory."""
        self._database.close()

    def _page(self, source: LogTable, filters: Filters, limit: int, after: Position | None) -> LogPage:
        limit = max(1, min(limit, MOST))
        condition, parameters = where(filters, source.record)
        seen = 0
        if after is not None:
            condition, seen = f"{condition} AND time <= $after", after.seen
            parameters["after"] = utc(after.time)

        def run(cursor: duckdb.DuckDBPyConnection, files: Files) -> list[LogRecord]:
            table, given = source.table(files)
            sql = f"SELECT * FROM {table} WHERE {condition} {_NEWEST} LIMIT {limit + seen + 1}"
            return records(cursor.execute(sql, {**parameters, **given}), source.record)

        found, warnings = self._ask(source, run)
        page = found[seen : seen + limit]
        return LogPage(page, _position(found[: seen + limit]) if len(found) > seen + limit else None, warnings)

    def _ask(self, source: LogTable, run: _Run[Result], own: duckdb.DuckDBPyConnection | None = None) -> _Asked[Result]:
        with (own or self._database).cursor() as cursor:
            try:
                return source.steady(cursor, lambda files: run(cursor, files))
            except (duckdb.Error, OSError) as error:
                raise LogQueryFailed(f"{source.log}: {str(error).splitlines()[0]}") from None


class Follower:
    """New records as they come; see `LogQuery.follow`. A poll blocks for a few milliseconds."""

    def __init__(self, source: LogTable, tail: LogTails, database: duckdb.DuckDBPyConnection, filters: Filters) -> None:
        self._source, self._tail, self._database = source, tail, database
        self._condition, self._parameters = where(filters, source.record)

    def poll(self) -> list[LogRecord]:
        """The records that came since the last poll and pass, oldest first; torn lines are left out."""
        if not (lines := self._tail.lines()):
            return []
        table, given = self._source.lines(lines)
        with self._database.cursor() as cursor:
            answer = cursor.execute(
                f"SELECT * FROM {table} WHERE {self._condition} ORDER BY time", {**self._parameters, **given}
            )
            return records(answer, self._source.record)

    def close(self) -> None:
        """Stop looking."""
        self._tail.close()


def records(answer: duckdb.DuckDBPyConnection, record: type[LogRecord]) -> list[LogRecord]:
    """A query's rows as records."""
    names = [column[0] for column in answer.description or ()]
    return [record(**_fields(dict(zip(names, row, strict=True)))) for row in answer.fetchall()]


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    if "tags" in row and row["tags"] is None:
        row["tags"] = []
    return {name: _aware(value) if isinstance(value, datetime.datetime) else value for name, value in row.items()}


def _aware(time: datetime.datetime) -> datetime.datetime:
    return time.replace(tzinfo=datetime.UTC)


def _position(shown: list[LogRecord]) -> Position:
    last = shown[-1].time
    return Position(last, sum(record.time == last for record in shown))


def _written(record: type[LogRecord], kind: str) -> str:
    """What to select for a file of text: times as ISO 8601, and in CSV no formulas and no controls."""
    times = [name for name in ("time", "retry_at") if name in record.__struct_fields__]
    written = [f"strftime({name}, '%Y-%m-%dT%H:%M:%S.%fZ') AS {name}" for name in times]
    if kind == "csv":
        signs = ", ".join(f"chr({ord(sign)})" for sign in FORMULA)
        texts = [name for name, type in columns(record).items() if type == "VARCHAR"]
        for name in texts:
            clean = f"regexp_replace({name}, '{_CONTROLS}', chr(65533), 'g')"
            written.append(f"if(left({name}, 1) IN ({signs}), chr(39) || {clean}, {clean}) AS {name}")
    return f"* REPLACE ({', '.join(written)})"


# What a terminal may obey (RE2's syntax): C0 and C1 controls but the tab, and those that turn the direction of text.
_CONTROLS = r"[\x{0}-\x{8}\x{a}-\x{1f}\x{7f}-\x{9f}\x{202a}-\x{202e}\x{2066}-\x{2069}]"
# Records of one time have an order too, so that pages do not overlap.
_NEWEST = "ORDER BY time DESC, message_id, recipient"

_ENDS = """
    SELECT (epoch(time) // $bucket)::BIGINT * $bucket AS slot, coalesce(mta_ip, '') AS ip, coalesce(next, '') AS next,
        coalesce(result, '') AS result, coalesce(state, '') AS state, code IS NOT NULL AS code,
        remote_ip IS NOT NULL AS connected, count(*) AS count
    FROM {table} WHERE time >= $since GROUP BY ALL
"""

_COUNTS = """
    WITH found AS NOT MATERIALIZED (
        SELECT time_bucket(to_microseconds($bucket::BIGINT * 1000000), time, TIMESTAMP '1970-01-01') AS bucket,
            {value} AS value
        FROM {table} WHERE {condition}
    ), shown AS (
        SELECT value FROM found WHERE value IS NOT NULL GROUP BY value ORDER BY count(*) DESC, value LIMIT {series}
    )
    SELECT bucket, CASE WHEN value IS NULL OR value IN (FROM shown) THEN value ELSE 'other' END AS value, count(*)
    FROM found GROUP BY ALL ORDER BY ALL
"""
