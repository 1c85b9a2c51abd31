"""The sample of a day's log: real records, the same each time, with the day's events in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pipeline.demo import sample
from pipeline.demo.day import DELAYS, LIMITS
from pipeline.log.reading.query import LogQuery

pytestmark = pytest.mark.slow
MESSAGES = 12_000


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> LogQuery:
    """A smaller day."""
    send = sample.write(tmp_path_factory.mktemp("sample"), MESSAGES)
    return LogQuery(send, send.with_name("received.jsonl"))


def count(log: LogQuery, condition: str) -> int:
    """Attempts for which it holds."""
    return int(log.sql(f"SELECT count(*) FROM attempts WHERE {condition}").fetchall()[0][0])


def test_every_message_is_received_once_and_attempted(log: LogQuery) -> None:
    """What comes in goes out, or ends in the log."""
    received = log.sql("SELECT count(*), count(DISTINCT message_id) FROM received").fetchall()[0]
    assert received[0] == received[1] == pytest.approx(MESSAGES, abs=5)
    strangers = "SELECT count(*) FROM attempts WHERE message_id NOT IN (SELECT message_id FROM received)"
    assert log.sql(strangers).fetchall() == [(0,)]


def test_a_retry_comes_when_it_was_announced_or_later_and_no_message_is_sent_twice(log: LogQuery) -> None:
    """By the machine's own retry rule; later, where its lane is throttled."""
    pairs = log.sql("""
        SELECT attempt, retry_at, next, lead(attempt) OVER sent AS following,
            lead(time) OVER sent - to_microseconds(coalesce((1e6 * lead(wire) OVER sent)::BIGINT, 0)) AS begun
        FROM attempts WINDOW sent AS (PARTITION BY message_id ORDER BY time)
    """).fetchall()
    followed = [pair for pair in pairs if pair[3] is not None]
    assert len(followed) > 500
    for attempt, retry_at, after, following, begun in followed:
        assert (after, following) == ("retry", attempt + 1)
        assert (begun - retry_at).total_seconds() > -0.001


def test_greylisting_gives_way_to_a_second_attempt(log: LogQuery) -> None:
    """The demo's receivers, with their own words."""
    grey = "domain = 'greylist.example' AND attempt = {}"
    assert count(log, grey.format(1) + " AND description NOT LIKE '%Greylisted%'") == 0
    assert count(log, grey.format(2) + " AND next <> 'delivered'") == 0
    assert count(log, grey.format(2)) > 20
    assert DELAYS[0] == 600


def test_a_limited_lane_keeps_its_limit(log: LogQuery) -> None:
    """No window of a minute has more than the table says."""
    limit = LIMITS["bigmail.example"][0]
    most = log.sql("""
        SELECT max(gone) FROM (
            SELECT count(*) OVER (PARTITION BY lane ORDER BY begun RANGE BETWEEN 59.9 PRECEDING AND CURRENT ROW) AS gone
            FROM (SELECT lane, epoch(time) - wire AS begun FROM attempts WHERE lane LIKE '%bigmail%')
        )
    """).fetchall()[0][0]
    assert 1 < most <= limit


@pytest.mark.system  # no process, but seconds of work
def test_a_flood_comes_before_the_block(tmp_path: Path) -> None:
    """The full day: 421 and then 550 on the lane of the campaign."""
    query = LogQuery(sample.write(tmp_path))
    first = query.sql("""
        SELECT min(time) FILTER (code = 421), min(time) FILTER (code = 550 AND description LIKE '%S3140%')
        FROM attempts WHERE mta_ip = '127.0.0.3' AND lane LIKE '%lookout%' AND time > TIMESTAMP '2026-11-17 09:55:00'
    """).fetchall()[0]
    assert first[0] < first[1]
    assert count(query, "description LIKE '%S3140%' AND mta_ip = '127.0.0.1' AND lane LIKE '%lookout%'") == 0


async def test_the_same_arguments_give_the_same_records_under_a_running_loop_too(tmp_path: Path) -> None:
    """Notebooks have one; another seed gives another day."""
    assert asyncio.get_running_loop() is not None
    days = []
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        query = LogQuery(sample.write(tmp_path / folder, 500, seed))
        days.append(query.sql("SELECT * FROM attempts ORDER BY time, message_id").fetchall())
    assert days[0] == days[1] != days[2]
