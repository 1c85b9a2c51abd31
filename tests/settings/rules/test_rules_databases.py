"""The rules on each database: SQLite, PostgreSQL, MariaDB."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import sqlite3
import threading
from pathlib import Path
from typing import Any

import alembic.autogenerate
import alembic.migration
import pytest
import sqlalchemy as sa

from settings.rules import InvalidRule, Snapshot
from settings.rules.limits import Limits
from settings.store import RuleStore, RulesUnavailable, Who, engine, tables
from settings.store import store as store_module

WHO = Who("anna", "192.0.2.9")
RULES: dict[str, dict[str, Any]] = {
    "throttles": {"ip": "192.0.2.1", "domain": "example.com", "domain_messages": 60, "name": "Grüße"},
    "floods": {"name": "Grüße", "type": "regex", "pattern": "too many", "pause": 60, "ip_connections": 0},
    "pauses": {"domain": "example.org", "tag": "news", "until": "2999-12-31T23:59:59Z"},
    "redirects": {"from_ip": "192.0.2.1", "remote_ip": "198.51.100.1", "to_ip": "192.0.2.2"},
    "errors": {"ip": "192.0.2.1", "tag": "näws", "code": 450, "until": "2999-12-31T23:59:59Z"},
    "providers": {"name": "mine", "patterns": ["*.mine.example", "mx.other.example"]},
    "tags": {"name": "näws", "weight": 5, "messages": 60, "scope": "all", "colour": "#ff0000"},
    "classes": {"name": "Grüße", "pattern": "voll", "meaning": "mailbox-full"},
    "responses": {"name": "r", "pattern": "x", "set_message": ["/data/x=1"], "suppress": "address"},
    "rewrites": {"name": "w", "when": 'envelope equals ""', "delay": 60, "header": "X-A: b"},
    "dkim-keys": {
        "domain": "example.com",
        "selector": "s1",
        "generate": True,
        "algorithm": "ed25519",
        "headers": ["List-Id"],
        "patterns": [{"type": "wildcard", "pattern": "*.example.com"}, {"type": "global"}],
    },
    "locals": {"type": "wildcard", "pattern": "*@example.net"},
    "mta-names": {"ip": "192.0.2.1", "name": "first", "ehlo": "mx.example.com"},
    "dns": {"name": "example.com", "addresses": ["198.51.100.1", "2001:db8::1"]},
    "schedules": {"name": "slow", "steps": ["1=50", {"day": 2, "cap": 100, "domain_connections": 2}]},
    "warmups": {"schedule": "slow", "ip": "192.0.2.1", "domain": "gmail", "time_zone": "Europe/Berlin"},
    "alerts": {"name": "Grüße", "webhook": "https://hook.example/secret", "secret": "s3", "email": ["a@b.example"]},
    "pools": {"name": "gold", "description": "Grüße", "members": ["192.0.2.1=3", {"ip": "2001:db8::1"}]},
}


async def opened(address: str, data_dir: Path, **more: Any) -> RuleStore:
    store = RuleStore(address, data_dir, **more)
    await store.start()
    return store


def raw(address: str) -> sa.Engine:
    return engine.engine_for(engine.location(address, Path()))


def threads() -> set[threading.Thread]:
    """Of the stores."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("rules")}


async def left(before: set[threading.Thread]) -> set[threading.Thread]:
    """Those that were not there before and do not end."""
    for thread in threads() - before:
        await asyncio.to_thread(thread.join, 30)
    return threads() - before


async def until(store: RuleStore, wanted: Any) -> Snapshot:
    """The first snapshot that is wanted."""
    found: asyncio.Future[Snapshot] = asyncio.get_running_loop().create_future()

    def look(snapshot: Snapshot) -> None:
        if wanted(snapshot) and not found.done():
            found.set_result(snapshot)

    subscription = store.snapshots.subscribe(look)
    try:
        return await asyncio.wait_for(found, 60)
    finally:
        subscription.dispose()


async def test_every_kind_of_rule_comes_back_as_it_was_stored(address: str, tmp_path: Path) -> None:
    """What was created is the same after the store was closed and opened."""
    store = await opened(address, tmp_path)
    created = {kind: (await store.create(kind, values, WHO)) for kind, values in RULES.items()}
    await store.close()

    store = await opened(address, tmp_path)
    assert {kind: store.list(kind) for kind in RULES} == {kind: (rule,) for kind, rule in created.items()}
    await store.close()


async def test_a_rule_can_be_changed_and_removed(address: str, tmp_path: Path) -> None:
    """Every change is in the database, and in the audit with who, from where, before and after."""
    store = await opened(address, tmp_path)
    key = await store.create("dkim-keys", RULES["dkim-keys"], WHO)
    await store.update("dkim-keys", key.id, {"domain": "example.com", "selector": "s2"}, Who("ben", "::1"))
    await store.delete("dkim-keys", key.id, WHO)
    last, change, first = await store.audit()
    await store.close()

    assert [first.action, change.action, last.action] == ["create", "update", "delete"]
    assert (change.who, change.origin, change.kind, change.rule) == ("ben", "::1", "dkim-keys", key.id)
    assert change.before is not None and change.after is not None
    assert (change.before["selector"], change.after["selector"]) == ("s1", "s2")
    assert len(change.before["patterns"]) == 2 and change.after["patterns"] == []
    with raw(address).connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(tables.dkim_patterns)).scalar() == 0


async def test_the_migrations_make_the_tables_that_the_program_uses(address: str, tmp_path: Path) -> None:
    """After all migrations Alembic finds no difference to the tables as declared."""
    await (await opened(address, tmp_path)).close()
    with raw(address).connect() as connection:
        context = alembic.migration.MigrationContext.configure(connection)
        assert alembic.autogenerate.compare_metadata(context, tables.metadata) == []


async def test_instances_that_start_at_once_migrate_once(address: str, tmp_path: Path) -> None:
    """Several stores that open an empty database together all find it ready."""
    stores = [RuleStore(address, tmp_path) for _ in range(4)]
    await asyncio.gather(*(store.start() for store in stores))
    assert all(store.available for store in stores)
    await asyncio.gather(*(store.close() for store in stores))


async def test_tables_of_a_newer_version_are_refused(address: str, tmp_path: Path) -> None:
    """A database that a newer Mailrace has migrated is one clear line, not a wrong guess."""
    await (await opened(address, tmp_path)).close()
    with raw(address).begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(RulesUnavailable, match="not of this version"):
        await opened(address, tmp_path)


async def test_two_instances_cannot_store_the_same_rule(address: str, tmp_path: Path) -> None:
    """What another instance has stored a moment ago is seen, even before the next reload."""
    first, second = await opened(address, tmp_path), await opened(address, tmp_path)
    results = await asyncio.gather(
        *(store.create("throttles", {"domain": "example.com"}, WHO) for store in (first, second)),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["InvalidRule", "Throttle"]
    await asyncio.gather(first.close(), second.close())


async def test_two_instances_cannot_make_a_loop_together(address: str, tmp_path: Path) -> None:
    """Redirects there and back at the same moment: one of both is refused."""
    first, second = await opened(address, tmp_path), await opened(address, tmp_path)
    there, back = {"from_ip": "192.0.2.1", "to_ip": "192.0.2.2"}, {"from_ip": "192.0.2.2", "to_ip": "192.0.2.1"}
    results = await asyncio.gather(
        first.create("redirects", there, WHO), second.create("redirects", back, WHO), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["InvalidRule", "Redirect"]
    await asyncio.gather(first.close(), second.close())


async def test_a_change_by_another_program_is_in_force_after_the_ttl(address: str, tmp_path: Path) -> None:
    """A row that another program writes limits the next message after database-ttl."""
    store = await opened(address, tmp_path, ttl=0.1)
    with raw(address).begin() as connection:
        connection.exec_driver_sql("INSERT INTO throttles (domain, domain_messages) VALUES ('example.com', 60)")
    snapshot = await until(store, lambda snapshot: snapshot.throttles)
    assert snapshot.limits("192.0.2.1", "example.com", Limits()).domain_messages == 60
    await store.close()


async def test_a_row_that_cannot_be_used_is_left_out(address: str, tmp_path: Path, reports: Any) -> None:
    """Bad rows of another program are named, once each; the other rules hold."""
    store = await opened(address, tmp_path, report=reports)
    with raw(address).begin() as connection:
        connection.exec_driver_sql("INSERT INTO throttles (domain, domain_messages) VALUES ('good.example', 60)")
        connection.exec_driver_sql("INSERT INTO throttles (domain, domain_messages) VALUES ('not a domain', 60)")
    await store.reload()
    await store.reload()
    assert [rule.domain for rule in store.snapshot.throttles] == ["good.example"]
    assert reports.kinds == ["rules-left-out"] and "throttles 2" in reports[0][1] and "domain" in reports[0][1]
    await store.close()


async def test_times_are_utc_in_the_database(address: str, tmp_path: Path) -> None:
    """The end of a pause is stored as UTC, whatever zone it was entered in."""
    store = await opened(address, tmp_path)
    await store.create("pauses", {"until": "2999-01-01T12:00:00+02:00"}, WHO)
    await store.close()
    with raw(address).connect() as connection:
        stored = connection.execute(sa.select(tables.pauses.c.until)).scalar()
        assert stored == datetime.datetime(2999, 1, 1, 10, tzinfo=datetime.UTC)
        assert str(connection.exec_driver_sql("SELECT until FROM pauses").scalar()).startswith("2999-01-01 10:00:00")


async def test_a_database_that_goes_away_leaves_the_last_rules_in_force(
    server: Any, tmp_path: Path, reports: Any
) -> None:
    """Killed: the rules hold, it is said once, changes fail. Started again: it is said, and changes come in again."""
    address = server.fresh()
    store = await opened(address, tmp_path, ttl=0.1, report=reports)
    await store.create("throttles", {"domain": "example.com", "queue": 7}, WHO)

    server.kill()
    try:
        for _ in range(3):
            await store.reload()
        assert store.snapshot.limits("", "example.com", Limits()).queue == 7
        assert not store.available and reports.kinds == ["rules-unavailable"]
        with pytest.raises(RulesUnavailable):
            await store.create("throttles", {"domain": "example.org"}, WHO)
        assert store.list("throttles")[0].id == 1 and len(store.list("throttles")) == 1
    finally:
        server.start()

    with raw(address).begin() as connection:
        connection.exec_driver_sql("INSERT INTO throttles (domain, queue) VALUES ('example.net', 9)")
    await until(store, lambda snapshot: len(snapshot.throttles) == 2)
    assert store.available and reports.kinds == ["rules-unavailable", "rules-recovered"]
    await store.close()


async def test_a_damaged_file_is_not_called_well_because_some_of_it_can_be_read(tmp_path: Path, reports: Any) -> None:
    """K11: it stands as a fault until the file is whole, and the last rules stay in force."""
    store = await opened("", tmp_path, report=reports)
    await store.create("throttles", {"domain": "example.com", "queue": 7}, WHO)
    with contextlib.closing(sqlite3.connect(tmp_path / "rules.db")) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = (tmp_path / "rules.db").read_bytes()
    with (tmp_path / "rules.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (len(whole) - 4096))
    with pytest.raises(RulesUnavailable):
        await store.create("throttles", {"domain": "example.org"}, WHO)
    for _ in range(3):
        await store.reload()
        assert not store.available
    assert reports.kinds == ["rules-unavailable"]
    assert store.snapshot.limits("", "example.com", Limits()).queue == 7
    (tmp_path / "rules.db").write_bytes(whole)
    await store.reload()
    assert reports.kinds == ["rules-unavailable", "rules-recovered"]
    await store.close()


async def test_a_database_that_cannot_be_reached_at_the_start_is_one_clear_line(server: Any, tmp_path: Path) -> None:
    """The line names the database, and never its password; no thread is left behind."""
    before = threads()
    address = f"{server.scheme}://someone:secret-word@127.0.0.1:1/rules"
    with pytest.raises(RulesUnavailable) as caught:
        await opened(address, tmp_path)
    line = str(caught.value)
    assert "127.0.0.1:1/rules" in line and "secret-word" not in line and "\n" not in line
    assert not await left(before)


async def test_a_database_that_goes_silent_is_found_out(
    server: Any, tmp_path: Path, reports: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that stops answering without closing its connection does not hold up anybody for ever."""
    store = await opened(server.fresh(), tmp_path, report=reports)
    monkeypatch.setattr(store_module, "PATIENCE", 0.5)
    with server.silent():
        await store.reload()
        assert not store.available and reports.kinds == ["rules-unavailable"]
    monkeypatch.undo()
    await store.reload()
    assert store.available and reports.kinds == ["rules-unavailable", "rules-recovered"]
    await store.close()


async def test_a_silent_database_does_not_hold_up_a_stop(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that waits for a server that says nothing closes all the same, and leaves no thread behind."""
    before = threads()
    store = await opened(server.fresh(), tmp_path)
    monkeypatch.setattr(store_module, "GOODBYE", 0.2)
    with server.silent():
        waiting = asyncio.ensure_future(store.reload())
        await asyncio.sleep(0)
        await store.close()
        await waiting
        assert not await left(before)


async def test_names_are_compared_letter_by_letter(address: str, tmp_path: Path) -> None:
    """No collation takes two different names for one."""
    store = await opened(address, tmp_path)
    for name in ("resume", "résumé", "Resume"):
        await store.create("floods", {"name": name, "pattern": "x"}, WHO)
    with pytest.raises(InvalidRule, match="already"):
        await store.create("floods", {"name": "resume", "pattern": "x"}, WHO)
    await store.close()
