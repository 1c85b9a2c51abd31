"""All benchmarks, as the table of `docs/tuning.md`. `python -m tests.bench [name ...]`; some take minutes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from tests.bench import (
    bounded,
    broker,
    busy,
    console,
    domains,
    log_cost,
    log_queries,
    queue,
    real,
    relay,
    rules,
    signing,
    strangers,
)
from tests.bench.table import Row, markdown

BENCHES: dict[str, Callable[[], Iterable[Row]]] = {
    "relay": relay.rows,
    "rules": rules.rows,
    "real": real.rows,
    "busy": busy.rows,
    "queue": queue.rows,
    "strangers": strangers.rows,
    "bounded": bounded.rows,
    "domains": domains.rows,
    "signing": signing.rows,
    "log-cost": log_cost.rows,
    "log-queries": log_queries.rows,
    "console": console.rows,
    "broker": broker.rows,
}

if __name__ == "__main__":
    wanted = sys.argv[1:] or list(BENCHES)
    print(markdown(row for name in wanted for row in BENCHES[name]()), flush=True)
