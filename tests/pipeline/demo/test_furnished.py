"""What the demo has before anybody has touched it."""

from __future__ import annotations

import time
from pathlib import Path

from pipeline.demo.furnished import furnish, rules
from pipeline.log.reading.query import LogQuery
from settings import load
from settings.rules import KINDS
from settings.store import RuleStore, Who


async def test_the_demo_begins_with_rules_of_many_kinds_and_a_nights_log(tmp_path: Path) -> None:
    """So that every view has something to show; and what one has made of it stays at the next start."""
    settings = load(["--data-dir", str(tmp_path)], system_file=None)
    assert settings.send_log
    settings.send_log.parent.mkdir()
    store = RuleStore("", tmp_path)
    await store.start()
    await furnish(settings, store, messages=300)
    assert sum(len(store.list(kind)) for kind in KINDS) == len(rules())
    query = LogQuery(settings.send_log, settings.received_log)
    results = {count.value for count in query.counts().rows}
    assert {"accepted", "error"} <= results
    assert all(record.time.timestamp() <= time.time() for record in query.received().records)
    query.close()
    for kind in KINDS:
        for rule in store.list(kind):
            await store.delete(kind, rule.id, Who("test"))
    await furnish(settings, store)
    assert not any(store.list(kind) for kind in KINDS)
    await store.close()
