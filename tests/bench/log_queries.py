"""The log view's usual questions over ten million attempts in Parquet: seconds, and peak memory of the asking process.

python -m tests.bench.log_queries [--attempts 10000000] [--files 20]
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.log.reading.database import connect
from pipeline.log.reading.filters import Filters
from pipeline.log.reading.query import LogQuery
from pipeline.log.writing.conversion import ROW_GROUP
from tests.bench.table import Row, markdown

START = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
DAYS = 20
TARGET = 2  # seconds

# Three big domains and 20,000 small ones; 92 % accepted; each answer with an id of its own, one in 100,000 a rare one.
_FILE = """
    COPY (
        SELECT 1::BIGINT AS v, TIMESTAMP '2026-11-01' + to_microseconds((i * $step)::BIGINT) AS time, 'mx1' AS instance,
            format('{:016x}-{}@mx1', hash(i), i) AS message_id,
            'bounce-' || (hash(i * 7) % 100000) || '@news.example' AS envelope,
            'user' || (hash(i * 3) % 5000000) || '@' || domain AS recipient, domain,
            (2000 + hash(i * 5) % 60000)::BIGINT AS size,
            '203.0.' || (hash(domain) % 200) || '.' || (i % 4) AS remote_ip,
            '10.0.0.' || (i % 8) || '/' || domain AS lane, '10.0.0.' || (i % 8) AS mta_ip,
            'mx' || (i % 4) || '.' || domain AS host,
            CASE WHEN r < 920 THEN 'message' WHEN r < 960 THEN 'rcptto' WHEN r < 985 THEN 'mailfrom' ELSE 'connect' END
                AS state,
            CASE WHEN r < 920 THEN 'accepted' WHEN r < 985 THEN 'error' ELSE 'timeout' END AS result,
            CASE WHEN r < 920 THEN 'delivered' WHEN r < 940 THEN 'fail' ELSE 'retry' END AS next,
            NULL::TIMESTAMP AS retry_at,
            CASE WHEN r < 920 THEN 250 WHEN r < 940 THEN 550 WHEN r < 985 THEN 421 END::BIGINT AS code,
            CASE WHEN r < 920 THEN '2.0.0' WHEN r < 940 THEN '5.1.1' WHEN r < 985 THEN '4.7.0' END AS status,
            CASE WHEN r < 920 THEN format('OK {} {:x}.{} - gsmtp', 1700000000 + i, hash(i * 11), i % 999)
                WHEN r < 940 THEN 'The account that you tried to reach does not exist. ' || (hash(i * 3) % 5000000)
                WHEN i % 100000 = 940 THEN 'Blocked, see the Spamhaus list'
                WHEN r < 985 THEN 'Try again later, temporarily rate limited ' || format('{:x}', hash(i * 13))
                ELSE 'no answer in 30 s' END AS description,
            (1 + r % 3)::BIGINT AS attempt, ['newsletter', 'campaign-' || (i // 20000)] AS tags,
            (hash(i * 17) % 100000) / 1000.0 AS queued, (hash(i * 19) % 3000) / 1000.0 AS wire, 'TLSv1.3' AS tls
        FROM (
            SELECT i, i % 1000 AS r, hash(i) % 100 AS d,
                CASE WHEN d < 30 THEN 'gmail.com' WHEN d < 50 THEN 'outlook.com' WHEN d < 60 THEN 'yahoo.com'
                    ELSE 'domain' || (hash(i) % 20000) || '.example' END AS domain
            FROM range($first, $last) t(i)
        )
    ) TO $target (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE $rows)
"""


def generate(folder: Path, attempts: int, files: int) -> None:
    """Write the log; in a process of its own, since it takes memory."""
    database = connect(2, "2GB")
    each, step = attempts // files, DAYS * 86400 * 1_000_000 // attempts
    for number in range(files):
        target = folder / f"send.202611{1 + number * DAYS // files:02d}T000000Z.{number:03d}.parquet"
        given = {
            "first": number * each,
            "last": (number + 1) * each,
            "step": step,
            "target": str(target),
            "rows": ROW_GROUP,
        }
        database.execute(_FILE, given)


def questions(query: LogQuery) -> Iterator[tuple[str, Callable[[], object]]]:
    """The three that have a target, and what else a view asks."""
    day = Filters(since=START + datetime.timedelta(days=DAYS - 1), until=START + datetime.timedelta(days=DAYS))
    yield "last 100 of a big domain", lambda: query.attempts(Filters(domain="gmail.com"))
    yield "last 100 of a small domain", lambda: query.attempts(Filters(domain="domain17777.example"))
    yield "counts an hour by result over a day", lambda: query.counts(day)
    yield "counts an hour by result over all", lambda: query.counts()
    yield "a rare text in the answers", lambda: query.attempts(Filters(text="SPAMHAUS"))
    yield "a text that is nowhere", lambda: query.attempts(Filters(text="no such words"))
    yield "the last 100", lambda: query.attempts()
    yield "one recipient", lambda: query.attempts(Filters(recipient="user44@gmail.com"))
    yield "one message's story", lambda: query.story("0123456789abcdef-1@mx1")
    yield "counts a day by domain over all", lambda: query.counts(bucket=86400, by="domain")


def ask(folder: Path) -> list[Row]:
    """A row for each question; memory is this process's so far."""
    query, asked = LogQuery(folder / "send.jsonl"), []
    for title, question in questions(query):
        begun, cpu = time.perf_counter(), time.process_time()
        question()
        took, cpu = time.perf_counter() - begun, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        asked.append(
            Row(
                f"log: {title}",
                f"{took:.2f} s",
                f"{took / TARGET:.0%} of {TARGET} s; CPU {cpu:.2f} s, peak {peak:.0f} MB",
            )
        )
    return asked


def rows(attempts: int = 10_000_000, files: int = 20) -> list[Row]:
    """For the table. Both halves in processes of their own: the peak is that of asking."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="mailrace-log-") as name, spawn.Pool(1, maxtasksperchild=1) as worker:
        folder = Path(name)
        worker.apply(generate, (folder, attempts, files))
        size = sum(path.stat().st_size for path in folder.iterdir())
        about = Row(f"log: {attempts:,} attempts in {files} Parquet files", f"{size / 1e6:,.0f} MB")
        return [about, *worker.apply(ask, (folder,))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=10_000_000)
    parser.add_argument("--files", type=int, default=20)
    options = parser.parse_args()
    print(markdown(rows(options.attempts, options.files)))
