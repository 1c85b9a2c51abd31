"""What the demo has when it is started for the first time: rules of every kind, and a night's delivery log.

Owner of nothing. Rules are made where there are none yet, a log is written where there is none beside the one that is
being written; who has played with the demo finds it as it was left.
"""

from __future__ import annotations

import asyncio
import datetime
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import structlog

from pipeline.demo.sample import write
from pipeline.log.names import JSON_LINES, PARQUET, free_name, rotated
from settings import Settings
from settings.rules import KINDS, InvalidRule
from settings.store import RuleStore, RulesUnavailable, Who

DAY = 86_400
MESSAGES = 9000  # of a day
WHO = Who("demo")
log = structlog.get_logger(__name__)


def rules() -> list[tuple[str, dict[str, Any]]]:
    """Of every kind, for the simulated internet's receivers and senders."""
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=6)
    until = later.replace(microsecond=0).isoformat()
    busy = {"pause": 20, "reduced": 600, "domain_messages": 60}
    return [
        ("throttles", {"domain": "bigmail.example", "domain_messages": 1200, "domain_connections": 12}),
        ("throttles", {"domain": "yippee.example", "ip": "127.0.0.2", "domain_messages": 60, "queue": 200}),
        ("throttles", {"domain": "newspaper.example", "domain_messages": 30, "connection_idle": 2}),
        ("floods", {"name": "too many connections", "pattern": "too many connections", **busy}),
        ("pauses", {"domain": "university.example", "until": until}),
        ("redirects", {"from_ip": "127.0.0.1", "domain": "blocked.example", "to_ip": "127.0.0.4", "until": until}),
        ("pools", {"name": "newsletters", "members": [{"ip": "127.0.0.1", "weight": 2}, {"ip": "127.0.0.2"}]}),
        ("tags", {"name": "newsletter", "weight": 1}),
        ("tags", {"name": "password-reset", "weight": 10}),
        ("errors", {"domain": "typo.example", "code": 550, "extended": "5.1.2", "description": "a known misspelling"}),
        ("providers", {"name": "newspapers", "patterns": ["*.newspaper.example"]}),
        ("classes", {"name": "scored", "type": "substring", "pattern": "spam points", "meaning": "spam-content"}),
        ("dkim-keys", {"domain": "plannr.test", "selector": "s2026", "algorithm": "ed25519", "generate": True}),
        ("locals", {"type": "wildcard", "pattern": "*@plannr.test"}),
        ("mta-names", {"ip": "127.0.0.1", "name": "Newsletters", "ehlo": "out1.plannr.test"}),
        ("mta-names", {"ip": "127.0.0.4", "name": "Bank statements"}),
    ]


async def furnish(settings: Settings, store: RuleStore, messages: int = MESSAGES) -> None:
    """Rules and a past, where there are none."""
    if not any(store.list(kind) for kind in KINDS) and not await store.audit(1):
        for kind, values in rules():
            try:
                await store.create(kind, values, WHO)
            except (InvalidRule, RulesUnavailable) as error:
                log.warning("the demo goes without a rule", kind=kind, why=str(error))
    if settings.send_log is not None and not rotated(settings.send_log):
        try:
            await asyncio.to_thread(remember, settings, time.time(), messages)
        except OSError as error:
            log.warning("the demo goes without a past", why=str(error))


def remember(settings: Settings, now: float, messages: int) -> None:
    """Write the log of yesterday and of today until now, and lay it beside the log that is being written."""
    sent, received = settings.send_log, settings.received_log
    assert sent is not None
    names = (sent.name, received.name if received else "received.jsonl")
    midnight = now - now % DAY
    with tempfile.TemporaryDirectory(dir=sent.parent) as folder:
        for begin in (midnight - DAY, midnight):
            write(Path(folder), messages, int(begin), begin, now, names, settings.server_id or "demo")
        for log_file in (Path(folder) / name for name in names):
            if log_file.exists():
                log_file.rename(free_name(log_file, now))
        for file in sorted(Path(folder).iterdir()):
            if file.suffix in (PARQUET, JSON_LINES):
                shutil.move(file, (sent if file.name.startswith(sent.stem + ".") else received or sent).parent)
