"""`mailrace logs`."""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.commands.logs import duration, logs, moment
from pipeline.log import schema
from pipeline.log.text import visible
from tests.pipeline.log.records import TIME, accepted, delivery, refused

ROOT = Path(__file__).parents[3]
# What a shell starts in the background ignores SIGINT, and so do its children: also tests.
HEARD = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
RUN = """
import sys, types, pathlib
from pipeline.commands.logs import logs
sys.exit(logs(types.SimpleNamespace(send_log=pathlib.Path(sys.argv[1]), received_log=None), sys.argv[2:]))
"""


@pytest.fixture
def files(send_log: Path) -> SimpleNamespace:
    """The settings, with a log of three attempts."""
    outcomes = [accepted(), refused("\x1b]0;owned\x07 \u202ego away", 550), accepted(description="[bold]thanks[/bold]")]
    records = [schema.attempt(delivery(n), one, TIME + n, None, "mx1") for n, one in enumerate(outcomes)]
    send_log.write_bytes(b"".join(map(schema.line, records)))
    return SimpleNamespace(send_log=send_log, received_log=send_log.with_name("received.jsonl"))


def test_the_table_has_the_newest_at_the_end(files: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    """As every log on a terminal; markup in an answer is just text."""
    assert logs(files, ["--limit", "2"]) == 0
    title, first, last = capsys.readouterr().out.splitlines()
    assert title.split() == ["time", "from", "recipient", "host", "came", "to", "answer"]
    assert "user1@example.com" in first and "rcptto/error fail" in first
    assert "user2@example.com" in last and "250 2.0.0 [bold]thanks[/bold]" in last


def test_nothing_from_outside_reaches_the_terminal_as_a_command(
    files: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Escape sequences and direction marks are shown as what they are."""
    logs(files, ["--code", "550"])
    out = capsys.readouterr().out
    assert "\\u001b]0;owned\\u0007 \\u202ego away" in out
    assert visible("plain é") == "plain é"


def test_json_and_csv_are_for_programs(files: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    """One object a line; one row with all fields."""
    logs(files, ["--format", "json", "--result", "accepted"])
    assert [json.loads(line)["message_id"] for line in capsys.readouterr().out.splitlines()] == ["m0", "m2"]
    logs(files, ["--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["code"] for row in rows] == ["250", "550", "250"]


def test_csv_holds_no_formulas(files: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    """A spreadsheet would run what a receiver answered, or a sender wrote."""
    record = schema.attempt(delivery(9, recipient="@x.example"), refused("=cmd|' /C calc'!A1"), TIME, None, "mx1")
    files.send_log.write_bytes(schema.line(record))
    logs(files, ["--format", "csv"])
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["recipient"], row["description"]) == ("'@x.example", "'=cmd|' /C calc'!A1")
    assert row["code"] == "550"


def test_csv_drives_no_terminal(files: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    """S4: also through `less -R` or a file that is looked at later; a row stays a line."""
    logs(files, ["--format", "csv"])
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\u202e" not in out and "\\u001b" in out
    assert len(out.splitlines()) == 4


def test_counts_have_a_line_each(files: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    """By a field, in buckets."""
    assert logs(files, ["--count-by", "result", "--bucket", "1d", "--format", "csv"]) == 0
    assert [row.split(",")[1:] for row in capsys.readouterr().out.splitlines()] == [
        ["value", "count"],
        ["accepted", "2"],
        ["error", "1"],
    ]


def test_the_kind_of_a_file_is_known_by_its_name(files: SimpleNamespace, tmp_path: Path) -> None:
    """`--output x.parquet` needs no more."""
    assert logs(files, ["--output", str(tmp_path / "x.parquet")]) == 0
    assert (tmp_path / "x.parquet").read_bytes().startswith(b"PAR1")


def test_no_records_are_said(files: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty answer is an answer."""
    assert logs(files, ["--received"]) == 0
    assert capsys.readouterr().out.strip() == "no records"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--since", "5q"], "--since: '5q' is no time: how long ago, like 15m, 1h or 2d, or like 2026-11-22T13:45"),
        (["--bucket", "0m"], "--bucket: '0m' is no duration: a number and s, m, h, d or w, like 15m"),
        (["--code", "none"], "--code: 'none' is no SMTP code: 200 to 599"),
        (["--limit", "0"], "--limit: '0': 1 to 10,000; for more, --output FILE"),
        (["--format", "xml"], "--format: invalid choice: 'xml'"),
        (["--format", "parquet"], "--format parquet: needs --output FILE"),
        (["--output", "x.doc"], "--output x.doc: add --format json, csv, parquet"),
        (["--output", "x.csv", "--follow"], "--output: takes all records that pass"),
        (["--count-by", "result", "--follow"], "--count-by: counts attempts"),
        (["--received", "--code", "250"], "code: receptions have none; they have"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
    ],
)
def test_wrong_usage_is_one_clear_line(
    files: SimpleNamespace, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    """What, where, and what is allowed; exit code 2."""
    assert logs(files, arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("mailrace logs: ") and line in captured.err and captured.err.count("\n") == 1


def test_a_log_that_cannot_be_read_is_one_clear_line(
    files: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1."""
    files.send_log.unlink()
    files.send_log.symlink_to(files.send_log.name)
    assert logs(files, []) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_help_is_there(files: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    """With every filter, and exit code 0."""
    assert logs(files, ["--help"]) == 0
    assert "--recipient" in capsys.readouterr().out


def test_times_are_how_long_ago_or_iso() -> None:
    """ISO times without a zone are local."""
    ago = datetime.datetime.now(datetime.UTC) - moment("2h")
    assert 7199 < ago.total_seconds() < 7300
    assert moment("2026-11-22T13:45:00Z") == datetime.datetime(2026, 11, 22, 13, 45, tzinfo=datetime.UTC)
    assert moment("2026-11-22").tzinfo is not None
    assert [duration(text) for text in ("90s", "15m", "1h", "2d", "1w")] == [90, 900, 3600, 172800, 604800]


@pytest.mark.slow
def test_following_goes_on_until_it_is_interrupted(files: SimpleNamespace) -> None:
    """On a real terminal: what is there, then what comes; Ctrl-C ends it with exit code 0."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", HEARD + RUN, str(files.send_log), "--follow", "--code", "250"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=theirs, stdin=subprocess.DEVNULL)
    out = ""
    while "user2@example.com" not in out:
        out += os.read(ours, 65536).decode()
    with files.send_log.open("ab") as log:
        for number, one in ((3, refused()), (4, accepted())):
            log.write(schema.line(schema.attempt(delivery(number), one, time.time(), None, "mx1")))
    while "user4@example.com" not in out:
        out += os.read(ours, 65536).decode()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert "user3@example.com" not in out
    os.close(ours)
    os.close(theirs)
