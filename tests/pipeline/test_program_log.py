"""The program log."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from pipeline.process import destinations, program_log
from pipeline.process.program_log import ProgramLog, ProgramLogUnavailable


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Other tests keep their logging."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    root.handlers = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers, root.level = handlers, level
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file for the log, in a folder that is not there yet."""
    return tmp_path / "logs" / "mailrace.log"


def flush() -> None:
    """Wait until the destinations' threads have written what they have."""
    for handler in logging.getLogger().handlers:
        assert handler.destination.flush(10)  # type: ignore[attr-defined]


def text_of(path: Path) -> str:
    """What is in the log's file now."""
    flush()
    return path.read_text()


def entries(path: Path) -> list[dict[str, object]]:
    """What is in a JSON log."""
    return [json.loads(line) for line in text_of(path).splitlines()]


def test_ours_and_libraries_come_the_same_way(path: Path) -> None:
    """Level, logger, UTC time, and what was given."""
    ProgramLog([str(path)], "json")
    structlog.get_logger("mailrace").info("started", port=2525)
    logging.getLogger("library").warning("slow %s", "query")
    ours, theirs = entries(path)
    assert (ours["event"], ours["level"], ours["logger"], ours["port"]) == ("started", "info", "mailrace", 2525)
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("slow query", "warning", "library")
    assert str(ours["timestamp"]).endswith("Z")


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize(
    ("event", "more"),
    [
        ("cannot reach amqp://user:hunter2@broker/vhost", {}),
        ("login", {"password": "hunter2"}),
        ("settings", {"settings": {"smtp-password": "hunter2", "api_token": "hunter2"}}),
        ("settings", {"list": [{"secret": "hunter2"}, "postgresql://me:hunter2@db/x"]}),
        ("sent AUTH PLAIN hunter2", {}),
        ("header", {"line": "Authorization: Bearer hunter2hunter2"}),
        ("-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----", {}),
        ("bad option password=hunter2", {}),
        ("object", {"error": ValueError("mysql://root:hunter2@db/x")}),
    ],
)
def test_secrets_are_masked(path: Path, form: str, event: str, more: dict[str, object]) -> None:
    """By their name and by how they look, at any depth."""
    ProgramLog([str(path)], form)
    structlog.get_logger().error(event, **more)
    text = text_of(path)
    assert "hunter2" not in text
    assert "***" in text


@pytest.mark.parametrize("form", ["console", "json"])
def test_secrets_in_tracebacks_are_masked(path: Path, form: str) -> None:
    """What an exception says is outside our hands."""
    ProgramLog([str(path)], form)
    try:
        raise ConnectionError("amqp://guest:hunter2@broker refused")
    except ConnectionError:
        structlog.get_logger().exception("broker")
    text = text_of(path)
    assert "ConnectionError" in text and "Traceback" in text
    assert "hunter2" not in text


def test_nothing_from_outside_breaks_a_line_or_drives_a_terminal(path: Path) -> None:
    """Line ends, escape sequences and lone surrogates are shown as what they are."""
    ProgramLog([str(path)], "console")
    structlog.get_logger().info("from\r\n2026-01-01 forged", answer="\x1b[2Jgone\udcff", **{"na\nme": 1})
    text = text_of(path)
    assert text.count("\n") == 1
    assert "\x1b" not in text and "\\u001b[2Jgone\\udcff" in text


def test_a_file_that_was_moved_away_is_left_at_sighup(path: Path) -> None:
    """As logrotate expects it."""
    log = ProgramLog([str(path)], "json")
    structlog.get_logger().info("one")
    flush()
    path.rename(path.with_name("old"))
    log.reopen()
    structlog.get_logger().info("two")
    assert [entry["event"] for entry in entries(path)] == ["two"]


def test_several_destinations_get_all(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file and the terminal."""
    ProgramLog(["stderr", str(path)], "console")
    structlog.get_logger().info("hello")
    flush()
    assert "hello" in capsys.readouterr().err
    assert "hello" in text_of(path)


def test_python_warnings_are_logged(path: Path) -> None:
    """Not printed past the log."""
    ProgramLog([str(path)], "json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old" in str(entries(path)[0]["event"])


def test_a_destination_that_cannot_be_opened_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the key, the place and the reason."""
    with pytest.raises(ProgramLogUnavailable, match=r"application-log: cannot write .*: Is a directory"):
        ProgramLog([str(tmp_path)], "json")
    monkeypatch.setattr(program_log, "SYSLOG", str(tmp_path / "none"))
    with pytest.raises(ProgramLogUnavailable, match=r"application-log: cannot write .*none: No such file"):
        ProgramLog(["syslog"], "json")


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Does this come to hold?"""
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


def test_a_file_that_cannot_be_opened_again_ends_nothing(path: Path) -> None:
    """K10: the folder became root's, or a folder stands in its place: lines go on into the file of before, and it is
    said; when the place is free again, they go there.
    """
    log = ProgramLog([str(path)], "json")
    structlog.get_logger().info("one")
    flush()
    path.rename(path.with_name("old"))
    path.mkdir()
    log.reopen()
    structlog.get_logger().info("two")
    assert '"two"' in text_of(path.with_name("old"))
    assert "cannot be opened again (Is a directory)" in str(log.trouble)
    path.rmdir()
    log.reopen()
    structlog.get_logger().info("three")
    assert [entry["event"] for entry in entries(path)] == ["three"]
    assert log.trouble is None and log.lost == 0


def test_a_removed_file_is_made_again_and_one_that_cannot_be_is_counted(path: Path) -> None:
    """K10: what goes into a file without a name is lost, however well the write goes."""
    log = ProgramLog([str(path)], "json")
    path.unlink()
    structlog.get_logger().info("two")
    assert [entry["event"] for entry in entries(path)] == ["two"]
    path.unlink()
    path.mkdir()
    structlog.get_logger().info("three")
    flush()
    assert log.lost == 1 and "was removed" in str(log.trouble)
    path.rmdir()
    log.reopen()
    structlog.get_logger().info("four")
    text = text_of(path)
    assert "1 lines of this log were lost" in text and "four" in text


def test_a_full_disk_loses_lines_and_nothing_else(path: Path, full: Path) -> None:
    """K10: each lost line is counted, and the first line after that says how many there were."""
    log = ProgramLog([str(full), str(path)], "json")
    structlog.get_logger().info("one")
    assert "one" in text_of(path)
    assert log.lost == 1 and "No space left on device" in str(log.trouble)


@pytest.fixture
def full() -> Path:
    """A device that is always full."""
    return Path("/dev/full")


def test_a_pipe_that_nobody_reads_holds_up_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """K10: what it has no room for waits within bounds, and then is counted; other destinations get all."""
    reads, writes = os.pipe()
    with os.fdopen(writes, "w") as pipe:
        monkeypatch.setattr(sys, "stderr", pipe)
        monkeypatch.setattr(destinations, "STUCK", 0.05)
        monkeypatch.setattr(destinations, "LINES", 1000)
        log = ProgramLog(["stderr", str(path)], "json")
        for number in range(destinations.LINES * 2):
            structlog.get_logger().info("x" * 100, number=number)
        logging.getLogger().handlers[1].destination.flush(10)  # type: ignore[attr-defined]
        assert log.lost > 0
        assert within(10, lambda: log.trouble is not None)
        assert "does not take what is written" in str(log.trouble)
        assert not log.flush(0.0)
        os.close(reads)  # so that its thread comes back
        flush()


def test_a_pipe_whose_reader_has_gone_raises_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """K10: `mailrace serve 2>&1 | head`, and systemd's journal restarted."""
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as pipe:
        monkeypatch.setattr(sys, "stderr", pipe)
        log = ProgramLog(["stderr", str(path)], "json")
        structlog.get_logger().info("one")
        assert "one" in text_of(path)
        assert log.lost == 1 and "Broken pipe" in str(log.trouble)


def test_a_closed_standard_error_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """K10: `2>&-`; Python has no object for it then."""
    monkeypatch.setattr(sys, "stderr", None)
    log = ProgramLog(["stderr", str(path)], "json")
    structlog.get_logger().info("one")
    assert "one" in text_of(path)
    assert log.lost == 1 and "is closed" in str(log.trouble)


def test_a_stuck_syslog_holds_up_nobody_and_one_that_comes_back_is_used_again(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K10: its socket takes some hundred datagrams, and then none; after a restart it is another one."""
    monkeypatch.setattr(program_log, "SYSLOG", str(tmp_path / "log"))
    stuck = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stuck.bind(str(tmp_path / "log"))
    log = ProgramLog(["syslog", str(path)], "json")
    for number in range(1000):
        structlog.get_logger().info("x", number=number)
    logging.getLogger().handlers[1].destination.flush(10)  # type: ignore[attr-defined]
    assert len(path.read_text().splitlines()) == 1000
    assert not log.flush(0.0)
    stuck.close()
    (tmp_path / "log").unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as fresh:
        fresh.settimeout(10)
        fresh.bind(str(tmp_path / "log"))
        structlog.get_logger().info("again")
        assert fresh.recv(9000).startswith(b"<")


def test_a_syslog_that_takes_a_stream_gets_an_entry_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """K10: a long entry is cut, so that it is never refused for its size."""
    monkeypatch.setattr(program_log, "SYSLOG", str(tmp_path / "log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "log"))
        server.listen()
        ProgramLog(["syslog"], "json")
        structlog.get_logger().error("one", text="x" * 20_000)
        structlog.get_logger().warning("two")
        connection, _ = server.accept()
        flush()
        with connection:
            connection.settimeout(10)
            data = b""
            while data.count(b"\n") < 2:
                data += connection.recv(100_000)
    first, second = data.splitlines()
    assert first.startswith(b"<19>mailrace[") and second.startswith(b"<20>mailrace[") and len(first) == 8_000


@pytest.mark.parametrize(
    "piece",
    ["x", "a://:", "://a:", "-----BEGIN ", "-----BEGIN A PRIVATE KEY-----", "password", "password ", "AUTH A", "basic ",
     "\x1b", "\n", "token='", "A", " "],
)  # fmt: skip
def test_a_long_text_from_outside_costs_no_more_than_its_length(path: Path, piece: str) -> None:
    """K10, S1: a quadratic pattern takes seconds for one line of 64,000 characters, in which the loop stands still."""
    log = ProgramLog([str(path)], "json")
    text = (piece * destinations.LONGEST)[: 4 * destinations.LONGEST]
    for _ in range(5):
        structlog.get_logger().info(text, text=text)
    assert log.flush(15)


def test_an_entry_that_cannot_be_shown_is_a_line_that_says_so(path: Path) -> None:
    """K10: whatever an entry holds, the log call comes back."""

    class Odd:
        def __str__(self) -> str:
            raise ValueError("odd")

        __repr__ = __str__

    ProgramLog([str(path)], "json")
    structlog.get_logger().info("one", odd=Odd())
    logging.getLogger("library").info("%s %s", Odd())
    structlog.get_logger().info("two")
    assert len(text_of(path).splitlines()) == 3


def test_what_a_traceback_quotes_cannot_pass_for_an_entry(path: Path) -> None:
    """K10: an exception's text comes from outside, line ends and all."""
    ProgramLog([str(path)], "console")
    try:
        raise ValueError("x\n2026-01-01T00:00:00Z [info] forged")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert not [line for line in text_of(path).splitlines() if line.startswith("2026-01-01T00:00:00Z [info]")]


def test_the_log_is_private_whatever_the_umask(path: Path) -> None:
    """S4: it names senders and receivers."""
    before = os.umask(0)
    try:
        ProgramLog([str(path)], "json")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o7777 == 0o640
    assert path.parent.stat().st_mode & 0o7777 == 0o700
