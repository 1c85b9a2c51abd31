"""The charts after a restart: what the delivery log tells of the hours before."""

from __future__ import annotations

import datetime
from pathlib import Path

from pipeline.log import schema
from pipeline.log.reading.past import ends
from pipeline.log.schema import Attempt
from pipeline.telemetry.restored import LoggedEnds, restore, spans
from pipeline.telemetry.telemetry import RANGES, Telemetry

START = 1_794_873_600
MINUTE, HOUR = RANGES["1m"], RANGES["1h"]
TWO_HOURS = 7200


def attempt(ago: int, **fields: object) -> Attempt:
    """A line of so many seconds before the start."""
    time = datetime.datetime.fromtimestamp(START - ago, datetime.UTC)
    given = {"state": "message", "result": "accepted", "next": "delivered", "code": 250, "remote_ip": "192.0.2.9"}
    return Attempt(v=1, time=time, mta_ip="192.0.2.1", **{**given, **fields})  # type: ignore[arg-type]


def restored(folder: Path, *lines: Attempt) -> Telemetry:
    """The counters of a start, with these lines in the log."""
    log = folder / "send.jsonl"
    log.write_bytes(b"".join(map(schema.line, lines)))
    telemetry, wanted = Telemetry(lambda: START), spans(START)
    for (tier, _, _), rows in zip(wanted, ends(log, [(since, step) for _, since, step in wanted]), strict=True):
        restore(telemetry, tier, [LoggedEnds(*row) for row in rows])
    return telemetry


def test_the_last_hour_and_day_come_back_from_the_log(tmp_path: Path) -> None:
    """What was delivered, put off and given up, of all mail and of its MTA IP; the day has more than the hour."""
    late = {"state": "rcptto", "result": "error", "next": "retry", "code": 451}
    telemetry = restored(tmp_path, attempt(TWO_HOURS), attempt(600), attempt(600, **late))
    for key in ((None, None), ("ip", "192.0.2.1")):
        _, hour = telemetry.series(["delivered", "retried", "errors", "attempts", "processed"], "1h", *key)  # type: ignore[arg-type]
        assert {name: sum(row) for name, row in hour.items()} == {
            "delivered": 1, "retried": 1, "errors": 1, "attempts": 2, "processed": 2,
        }  # fmt: skip
        _, day = telemetry.series(["delivered"], "24h", *key)  # type: ignore[arg-type]
        assert sum(day["delivered"]) == 2


def test_between_the_last_line_and_the_start_there_is_a_gap(tmp_path: Path) -> None:
    """Nobody counted then, which is not the same as nothing; and the counters since the start are not touched."""
    telemetry = restored(tmp_path, attempt(600))
    assert telemetry.knows(START - 600, HOUR)
    assert not telemetry.knows(START - 300, HOUR)
    assert telemetry.knows(START, HOUR)
    assert telemetry.totals()["delivered"] == telemetry.snapshot()["delivered"] == 0


def test_of_the_last_minute_nothing_comes_back(tmp_path: Path) -> None:
    """Its seconds before the start are a gap, whatever the hour and the day are known to have had."""
    telemetry = restored(tmp_path, attempt(20), attempt(3000))
    assert telemetry.knows(START - 2990, HOUR)
    assert not any(telemetry.knows(START - ago, MINUTE) for ago in (1, 15, 59))
    assert telemetry.knows(START, MINUTE)


def test_a_log_without_a_line_restores_nothing(tmp_path: Path) -> None:
    """The charts begin with the start."""
    assert not restored(tmp_path).restored
