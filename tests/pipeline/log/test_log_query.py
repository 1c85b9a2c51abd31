"""Asking the delivery log."""

from __future__ import annotations

import csv
import datetime
import threading
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operators.deliveries.events import Received
from operators.deliveries.outcome import deferred
from pipeline.log import schema
from pipeline.log.names import free_name
from pipeline.log.reading.filters import Filters, UnknownFilter
from pipeline.log.reading.query import COUNT_BY, Count, LogQuery, LogQueryFailed
from pipeline.log.writing.conversion import Archive
from tests.pipeline.log.records import TIME, accepted, delivery, refused

HOUR = 3600.0


def at(seconds: float) -> datetime.datetime:
    """So many seconds after the first attempt."""
    return datetime.datetime.fromtimestamp(TIME + seconds, datetime.UTC)


def attempts() -> list[schema.Attempt]:
    """Nine attempts, 10 minutes apart: accepted, refused and without an answer, in turn."""
    outcomes = [
        accepted(host="mx1.example.com"),
        refused("5.7.1 Blocked by PolicyD; 100% sure"),
        deferred("connect", "timeout", "no answer in 30 s"),
    ]
    made = []
    for number in range(9):
        domain = ["example.com", "Other.Example"][number % 2]
        tags = ["all", f"t{number % 2}"]
        one = delivery(number, recipient=f"User{number}@{domain}", tags=tags)
        made.append(schema.attempt(one, outcomes[number % 3], TIME + number * 600, None, "mx1"))
    return made


def write(send_log: Path, records: list[Any]) -> None:
    """The first third as Parquet, the second rotated, the last in the file that is written."""
    third = len(records) // 3
    free_name(send_log, TIME).write_bytes(b"".join(map(schema.line, records[:third])))
    Archive(send_log, schema.Attempt, 0).tidy()
    free_name(send_log, TIME).write_bytes(b"".join(map(schema.line, records[third : 2 * third])))
    send_log.write_bytes(b"".join(map(schema.line, records[2 * third :])))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> LogQuery:
    """A log over three files, which nobody changes."""
    send_log = tmp_path_factory.mktemp("kept") / "send.jsonl"
    write(send_log, attempts())
    return LogQuery(send_log, send_log.with_name("received.jsonl"))


@pytest.fixture
def query(send_log: Path) -> LogQuery:
    """The same, of this test alone."""
    write(send_log, attempts())
    return LogQuery(send_log, send_log.with_name("received.jsonl"))


def numbers(records: list[schema.LogRecord]) -> list[int]:
    """Which attempts these are."""
    return [int((record.message_id or "m-1")[1:]) for record in records]


def test_records_come_back_as_they_were_written(kept: LogQuery) -> None:
    """From JSON Lines and Parquet alike, newest first."""
    assert kept.attempts().records == attempts()[::-1]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"since": at(600), "until": at(1800)}, [1, 2]),
        ({"ip": "127.0.0.1", "result": "accepted"}, [0, 3, 6]),
        ({"ip": "127.0.0.2"}, []),
        ({"domain": "OTHER.example"}, [1, 3, 5, 7]),
        ({"recipient": "user4@Example.com"}, [4]),
        ({"envelope": "FROM@sender.example", "code": 550}, [1, 4, 7]),
        ({"tag": "t1"}, [1, 3, 5, 7]),
        ({"tag": "t"}, []),
        ({"state": "connect"}, [2, 5, 8]),
        ({"next": "fail"}, [1, 4, 7]),
        ({"text": "blocked BY"}, [1, 4, 7]),
        ({"text": "100%"}, [1, 4, 7]),
        ({"text": "1_0%"}, []),
        ({"text": "' OR 1=1 --"}, []),
        ({"message_id": "m5"}, [5]),
        ({"host": "mx1.example.com"}, [0, 3, 6]),
        ({"remote_ip": "127.0.0.9"}, [0, 3, 6]),
        ({"lane": "127.0.0.1/example.com", "domain": "example.com", "result": "timeout"}, [2, 8]),
    ],
)
def test_filters_are_what_they_say(kept: LogQuery, filters: dict[str, Any], expected: list[int]) -> None:
    """All that are given must hold; text is literal."""
    assert numbers(kept.attempts(Filters(**filters)).records) == expected[::-1]


def test_a_filter_that_the_log_does_not_have_is_said(kept: LogQuery) -> None:
    """The received-log knows no codes."""
    with pytest.raises(UnknownFilter, match="code: receptions have none; they have since, until"):
        kept.received(Filters(code=250))


def test_a_filter_by_a_word_that_no_attempt_has_is_said(kept: LogQuery) -> None:
    """K15: a mistyped one would find nothing, as if there were nothing."""
    with pytest.raises(UnknownFilter, match="result: 'accept' is none of accepted, timeout, lost, invalid, error"):
        kept.attempts(Filters(result="accept"))
    with pytest.raises(UnknownFilter, match="next: 'bounced' is none of delivered, retry"):
        kept.attempts(Filters(next="bounced"))


@settings(
    max_examples=settings.default.max_examples // 6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seconds=st.lists(st.integers(0, 4), min_size=1, max_size=30), limit=st.integers(1, 7))
def test_pages_show_each_record_once(send_log: Path, seconds: list[int], limit: int) -> None:
    """Also where many have the same time."""
    records = [
        schema.attempt(delivery(number), accepted(), TIME + second, None, "mx1")
        for number, second in enumerate(seconds)
    ]
    send_log.write_bytes(b"".join(map(schema.line, records)))
    query, seen, after = LogQuery(send_log), [], None
    while True:
        page = query.attempts(limit=limit, after=after)
        seen += page.records
        if (after := page.after) is None:
            break
    assert sorted(numbers(seen)) == list(range(len(seconds)))
    assert [record.time for record in seen] == sorted((record.time for record in records), reverse=True)


def test_counts_are_by_bucket_and_value(kept: LogQuery) -> None:
    """Buckets are aligned to the clock, whatever they are filtered by."""
    hour = datetime.datetime(2026, 9, 21, 14, tzinfo=datetime.UTC)
    counts = kept.counts(Filters(domain="example.com"), 3600).rows
    assert counts == [
        Count(hour, "accepted", 1),
        Count(hour, "error", 1),
        Count(hour, "timeout", 1),
        Count(hour + datetime.timedelta(hours=1), "accepted", 1),
        Count(hour + datetime.timedelta(hours=1), "timeout", 1),
    ]


@pytest.mark.parametrize("by", COUNT_BY)
def test_counts_can_be_by_each_of_these(kept: LogQuery, by: str) -> None:
    """And each attempt is counted; one with two tags under both."""
    assert sum(count.count for count in kept.counts(by=by).rows) == (18 if by == "tag" else 9)


def test_counts_by_many_values_show_the_most_frequent(send_log: Path) -> None:
    """The rest is `other`, so that an answer is bounded."""
    records = [
        schema.attempt(delivery(number, recipient=f"a@d{number // 2}.example"), accepted(), TIME, None, "mx1")
        for number in range(61)
    ]
    send_log.write_bytes(b"".join(map(schema.line, records)))
    counts = {count.value: count.count for count in LogQuery(send_log).counts(by="domain").rows}
    assert (len(counts), counts["other"]) == (21, 21)


@pytest.mark.parametrize(("bucket", "by"), [(0, "result"), (3600, "description; DROP")])
def test_counts_by_anything_else_are_refused(kept: LogQuery, bucket: int, by: str) -> None:
    """Names in SQL come from a list."""
    with pytest.raises(ValueError, match="by is one of result, state"):
        kept.counts(bucket=bucket, by=by)


def test_a_story_is_all_of_one_message(send_log: Path) -> None:
    """How it came, and each attempt, oldest first."""
    tries = [deferred("data", "error", "later", code=451), accepted()]
    records = [schema.attempt(delivery(1), one, TIME + n * 60, None, "mx1") for n, one in enumerate(tries)]
    send_log.write_bytes(
        b"".join(map(schema.line, [*records, schema.attempt(delivery(2), accepted(), TIME, None, "")]))
    )
    event = Received(time=TIME - 1, message_id="m1", envelope="", recipient="a@b.example", size=1, source="smtp")
    came = schema.reception(event, "mx1")
    received = send_log.with_name("received.jsonl")
    received.write_bytes(schema.line(came))
    assert LogQuery(send_log, received).story("m1").records == [came, *records]


@pytest.mark.parametrize("folder", ["logs", "none"])
def test_a_log_that_is_not_there_is_empty(tmp_path: Path, send_log: Path, folder: str) -> None:
    """Before the first message there is nothing to see, and nothing wrong."""
    query = LogQuery(tmp_path / folder / "send.jsonl")
    assert (query.attempts().records, query.counts().rows, query.story("m1").records) == ([], [], [])
    assert query.attempts().warnings == []


def test_a_broken_parquet_file_hides_no_others(query: LogQuery, send_log: Path) -> None:
    """It is left out, with a warning that names it."""
    broken = free_name(send_log, TIME + 9).with_suffix(".parquet")
    broken.write_bytes(b"PAR1 no, it is not")
    page = query.attempts()
    assert len(page.records) == 9
    assert len(page.warnings) == 1
    assert f"{broken} cannot be read, and is left out" in page.warnings[0]


def test_a_newer_or_older_file_is_read_with_what_it_has(query: LogQuery, send_log: Path) -> None:
    """Columns that are missing are null, columns that nobody knows are not shown."""
    other = str(free_name(send_log, TIME + 9).with_suffix(".parquet"))
    select = "SELECT 1 AS v, TIMESTAMP '2026-12-01' AS time, 'm77' AS message_id, [1] AS future"
    duckdb.execute(f"COPY ({select}) TO $target (FORMAT parquet)", {"target": other})
    record = query.attempts(limit=1).records[0]
    assert (record.message_id, record.recipient) == ("m77", None)


@pytest.mark.slow
def test_queries_and_conversions_do_not_disturb_each_other(send_log: Path) -> None:
    """Whatever moment of a rotation it is, each attempt is found once."""
    records = [schema.attempt(delivery(n), accepted(), TIME + n, None, "mx1") for n in range(24)]
    for part in range(12):
        free_name(send_log, TIME).write_bytes(b"".join(map(schema.line, records[part * 2 : part * 2 + 2])))
    archive = threading.Thread(target=Archive(send_log, schema.Attempt, 0).tidy)
    query = LogQuery(send_log)
    archive.start()
    while archive.is_alive():
        assert sorted(numbers(query.attempts().records)) == list(range(24))
    archive.join()


def test_following_gives_what_comes_over_rotations(query: LogQuery, send_log: Path) -> None:
    """What was there before is not shown; filters hold; a line is shown once it is whole."""
    follower = query.follow(Filters(result="accepted"))
    assert follower.poll() == []
    lines = [schema.line(schema.attempt(delivery(n), accepted(), TIME + n, None, "mx1")) for n in range(20, 25)]
    no = schema.line(schema.attempt(delivery(99), refused(), TIME, None, "mx1"))
    with send_log.open("ab") as file:
        file.write(lines[0] + no + b'{"torn\n' + lines[1] + lines[2][:20])
    assert numbers(follower.poll()) == [20, 21]
    with send_log.open("ab") as file:
        file.write(lines[2][20:])
    send_log.rename(free_name(send_log, TIME + 5))
    assert numbers(follower.poll()) == [22]
    assert follower.poll() == []
    send_log.write_bytes(lines[3] + lines[4])
    assert numbers(follower.poll()) == [23, 24]
    follower.close()


@pytest.mark.parametrize("kind", ["json", "csv", "parquet"])
def test_an_export_has_all_that_pass_oldest_first(kept: LogQuery, tmp_path: Path, kind: str) -> None:
    """In a form that DuckDB, and so anything, reads back."""
    path = tmp_path / f"it's.{kind}"
    assert kept.export(path, kind, Filters(result="accepted")) == []
    reader = {"json": duckdb.read_json, "csv": duckdb.read_csv, "parquet": duckdb.read_parquet}[kind]
    assert reader(str(path)).select("message_id").fetchall() == [("m0",), ("m3",), ("m6",)]
    if kind == "json":
        decoded = [msgspec.json.decode(line, type=schema.Attempt) for line in path.read_bytes().splitlines()]
        assert decoded == attempts()[::3]
    assert list(tmp_path.glob(".*")) == []


def test_a_csv_export_holds_no_formulas(tmp_path: Path) -> None:
    """What a receiver answered is text in a spreadsheet, too; only there does it get a quote."""
    send_log = tmp_path / "send.jsonl"
    answers = ["=1+1", "@SUM(A1)", "+49", "-1", "\tx", "plain"]
    send_log.write_bytes(
        b"".join(schema.line(msgspec.structs.replace(attempts()[0], description=it)) for it in answers)
    )
    written = {kind: tmp_path / f"x.{kind}" for kind in ("csv", "json")}
    for kind, path in written.items():
        assert LogQuery(send_log).export(path, kind) == []
    with written["csv"].open(newline="") as file:
        assert [row["description"] for row in csv.DictReader(file)] == [*(f"'{it}" for it in answers[:-1]), "plain"]
    assert [msgspec.json.decode(line)["description"] for line in written["json"].read_bytes().splitlines()] == answers


def test_a_csv_export_drives_no_terminal(tmp_path: Path) -> None:
    """S4: `cat` shows it, and a receiver wrote parts of it: escape sequences of both kinds, and marks of direction."""
    record = msgspec.structs.replace(attempts()[0], description="a\x1b[2Jb\x9b31mc\u202ed\r\ne é")
    (tmp_path / "send.jsonl").write_bytes(schema.line(record))
    LogQuery(tmp_path / "send.jsonl").export(tmp_path / "x.csv", "csv")
    with (tmp_path / "x.csv").open(newline="") as file:
        assert [row["description"] for row in csv.DictReader(file)] == ["a�[2Jb�31mc�d��e é"]


def test_an_export_that_cannot_be_written_says_so(kept: LogQuery, tmp_path: Path) -> None:
    """Rather than leave half a file."""
    with pytest.raises(OSError, match="none"):
        kept.export(tmp_path / "none" / "x.csv", "csv")
    with pytest.raises(ValueError, match="'xml' is no format: json, csv, parquet"):
        kept.export(tmp_path / "x", "xml")


def test_notebooks_can_ask_anything(kept: LogQuery) -> None:
    """SQL over `attempts` and `received`, with parameters."""
    relation = kept.sql(
        "SELECT domain, count(*) AS n FROM attempts WHERE code = $code GROUP BY ALL ORDER BY n", code=550
    )
    assert relation.fetchall() == [("example.com", 1), ("other.example", 2)]


def test_a_log_that_may_not_be_read_is_one_clear_line(send_log: Path) -> None:
    """Not a traceback."""
    send_log.symlink_to(send_log.name)
    with pytest.raises(LogQueryFailed, match=r"send\.jsonl: .*Too many levels of symbolic links"):
        LogQuery(send_log).attempts()
