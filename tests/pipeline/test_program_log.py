"""The program log."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from pipeline import program_log
from pipeline.program_log import ProgramLog, ProgramLogUnavailable


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


def entries(path: Path) -> list[dict[str, object]]:
    """What is in a JSON log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


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
    text = path.read_text()
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
    text = path.read_text()
    assert "ConnectionError" in text and "Traceback" in text
    assert "hunter2" not in text


def test_nothing_from_outside_breaks_a_line_or_drives_a_terminal(path: Path) -> None:
    """Line ends, escape sequences and lone surrogates are shown as what they are."""
    ProgramLog([str(path)], "console")
    structlog.get_logger().info("from\r\n2026-01-01 forged", answer="\x1b[2Jgone\udcff", **{"na\nme": 1})
    text = path.read_text()
    assert text.count("\n") == 1
    assert "\x1b" not in text and "\\u001b[2Jgone\\udcff" in text


def test_a_file_that_was_moved_away_is_left_at_sighup(path: Path) -> None:
    """As logrotate expects it."""
    log = ProgramLog([str(path)], "json")
    structlog.get_logger().info("one")
    path.rename(path.with_name("old"))
    log.reopen()
    structlog.get_logger().info("two")
    assert [entry["event"] for entry in entries(path)] == ["two"]


def test_several_destinations_get_all(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file and the terminal."""
    ProgramLog(["stderr", str(path)], "console")
    structlog.get_logger().info("hello")
    assert "hello" in capsys.readouterr().err
    assert "hello" in path.read_text()


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
