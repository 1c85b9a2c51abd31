"""The store: what is in force when, who is told, what is kept secret."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from reactivex.testing import TestScheduler

from settings.rules import InvalidRule, NoSuchRule, Snapshot
from settings.rules import key_pairs as keys
from settings.rules.limits import Limits
from settings.store import RuleStore, RulesUnavailable, Who
from settings.store.vault import Locked, Vault
from tests.support.database import put_database

WHO = Who("anna", "192.0.2.9")
START = datetime.datetime(2027, 1, 15, tzinfo=datetime.UTC).timestamp()


class Clock:
    """Epoch seconds and timers that only a test moves."""

    def __init__(self) -> None:
        self.scheduler = TestScheduler()

    def __call__(self) -> float:
        return START + float(self.scheduler.clock)

    def advance(self, seconds: float) -> None:
        """Let time pass; what is due begins, and goes on in the loop."""
        self.scheduler.advance_by(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def opened(path: Path, clock: Clock, address: str = "", **more: Any) -> RuleStore:
    if not address:
        put_database(path)
    store = RuleStore(address, path, clock=clock, scheduler=clock.scheduler, **more)
    await store.start()
    return store


async def next_snapshot(store: RuleStore, begin: Any) -> Snapshot:
    """The first new snapshot after `begin` is called."""
    found: asyncio.Future[Snapshot] = asyncio.get_running_loop().create_future()
    seen: list[Snapshot] = []
    subscription = store.snapshots.subscribe(
        lambda s: found.set_result(s) if seen and not found.done() else seen.append(s)
    )
    begin()
    try:
        return await asyncio.wait_for(found, 60)
    finally:
        subscription.dispose()


async def test_a_change_is_in_force_when_the_call_returns(store: RuleStore) -> None:
    """Created, changed, removed: the next look-up has it."""
    rule = await store.create("throttles", {"domain": "a.example", "queue": 1}, WHO)
    assert store.snapshot.limits("", "a.example", Limits()).queue == 1
    await store.update("throttles", rule.id, {"domain": "a.example", "queue": 2}, WHO)
    assert store.snapshot.limits("", "a.example", Limits()).queue == 2
    await store.delete("throttles", rule.id, WHO)
    assert store.snapshot.limits("", "a.example", Limits()).queue == 500


async def test_every_change_is_published_once_on_the_loop(store: RuleStore) -> None:
    """A subscriber gets the rules in force, then those after each change; reading them again publishes nothing."""
    seen: list[tuple[int, bool]] = []
    main = threading.current_thread()
    store.snapshots.subscribe(lambda s: seen.append((len(s.throttles), threading.current_thread() is main)))
    for domain in ("a.example", "b.example"):
        await store.create("throttles", {"domain": domain}, WHO)
    await store.reload()
    assert seen == [(0, True), (1, True), (2, True)]


async def test_changes_at_once_are_all_made(store: RuleStore) -> None:
    """Many callers at a time: none is lost, and none sees rules older than its own change."""

    async def change(n: int) -> bool:
        rule = await store.create("throttles", {"domain": f"{n}.example"}, WHO)
        return store.snapshot.rule("throttles", rule.id) == rule

    assert all(await asyncio.gather(*(change(n) for n in range(30)))) and len(store.list("throttles")) == 30


async def test_a_snapshot_never_changes(store: RuleStore) -> None:
    """Whoever holds one holds the rules of one moment."""
    before = store.snapshot
    await store.create("throttles", {}, WHO)
    assert before.throttles == () and len(store.snapshot.throttles) == 1


async def test_the_loop_never_waits_for_the_database(store: RuleStore) -> None:
    """While a change waits for the disk or makes a key, the loop goes on."""
    ticks = 0
    working = asyncio.ensure_future(
        store.create("dkim-keys", {"domain": "a.example", "selector": "s", "generate": True}, WHO)
    )
    while not working.done():
        await asyncio.sleep(0)
        ticks += 1
    assert (await working).id == 1 and ticks > 10


async def test_a_caller_that_goes_away_leaves_its_change_whole(store: RuleStore) -> None:
    """A cancelled change that has begun is finished and in force: database and snapshot never part."""
    task = asyncio.ensure_future(store.create("throttles", {"queue": 1}, WHO))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await store.audit()) == len(store.list("throttles")) == 1


async def test_an_observer_that_fails_does_not_stop_a_change(store: RuleStore, reports: Any) -> None:
    """The change is in force and the caller is answered; the failure is reported."""

    def fail(snapshot: Snapshot) -> None:
        if snapshot.throttles:
            raise RuntimeError("observer's own")

    store.snapshots.subscribe(fail)
    await store.create("throttles", {}, WHO)
    assert len(store.snapshot.throttles) == 1 and reports.kinds == ["rules-observer"]


async def test_a_rule_that_is_refused_changes_nothing(store: RuleStore) -> None:
    """Neither the rules nor the audit."""
    with pytest.raises(InvalidRule):
        await store.create("throttles", {"domain": "no domain"}, WHO)
    with pytest.raises(NoSuchRule, match="no rule 5 among the throttles"):
        await store.update("throttles", 5, {}, WHO)
    with pytest.raises(NoSuchRule):
        await store.delete("throttles", 5, WHO)
    assert store.list("throttles") == () and list(await store.audit()) == []


async def test_a_change_that_changes_nothing_leaves_no_record(store: RuleStore) -> None:
    """The audit has changes only; what was read may be sent back."""
    rule = await store.create("throttles", {"queue": 1}, WHO)
    assert await store.update("throttles", rule.id, rule.shown(), WHO) == rule
    assert len(await store.audit()) == 1


async def test_the_audit_says_who_when_where_before_and_after(tmp_path: Path, clock: Clock) -> None:
    """Newest first, and only as many as asked for."""
    store = await opened(tmp_path, clock)
    rule = await store.create("throttles", {"queue": 1}, WHO)
    clock.advance(60)
    await store.update("throttles", rule.id, {"queue": 2}, Who("ben", "::1"))
    (record,) = await store.audit(1)
    await store.close()
    assert (record.who, record.origin, record.action, record.kind, record.rule) == (
        "ben",
        "::1",
        "update",
        "throttles",
        1,
    )
    assert record.time.timestamp() == START + 60
    assert record.before is not None and record.after is not None
    assert (record.before["queue"], record.after["queue"]) == (1, 2)


async def test_the_id_of_a_rule_that_is_gone_is_never_anothers(store: RuleStore) -> None:
    """The audit names rules by their id."""
    first = await store.create("throttles", {}, WHO)
    await store.delete("throttles", first.id, WHO)
    assert (await store.create("throttles", {}, WHO)).id != first.id


async def test_what_has_ended_is_removed_when_its_time_has_come(tmp_path: Path, clock: Clock) -> None:
    """Pauses and redirects go at their end, long before the ttl, with a record in the audit."""
    store = await opened(tmp_path, clock)
    await store.create("pauses", {"until": "2027-01-15T00:01:00Z", "tag": "x"}, WHO)
    await store.create("pauses", {"until": "2027-01-15T01:00:00Z"}, WHO)
    end = {"until": "2027-01-15T00:02:00Z"}
    await store.create("redirects", {"from_ip": "192.0.2.1", "to_ip": "192.0.2.2", **end}, WHO)

    after = await next_snapshot(store, lambda: clock.advance(60))
    assert [pause.id for pause in after.pauses] == [2] and len(after.redirects) == 1
    after = await next_snapshot(store, lambda: clock.advance(60))
    assert len(after.redirects) == 0
    records = await store.audit(2)
    await store.close()
    assert [(record.action, record.kind, record.who) for record in records] == [
        ("end", "redirects", "mailrace"),
        ("end", "pauses", "mailrace"),
    ]


async def test_changes_by_others_come_in_every_ttl(tmp_path: Path, clock: Clock) -> None:
    """Not before, and again and again."""
    store, other = await opened(tmp_path, clock, ttl=600), await opened(tmp_path, clock, ttl=10_000)
    for n in range(1, 4):
        await other.create("throttles", {"domain": f"{n}.example"}, WHO)
        clock.advance(599)
        assert len(store.snapshot.throttles) == n - 1
        assert len((await next_snapshot(store, lambda: clock.advance(1))).throttles) == n
    await store.close()
    await other.close()


async def test_a_pause_of_one_instance_is_not_anothers(tmp_path: Path, clock: Clock) -> None:
    """With a shared database a pause is for this instance, or for the cluster."""
    shared = f"sqlite:///{tmp_path}/shared.db"
    one, two = (RuleStore(shared, tmp_path / name, clock=clock, instance=name) for name in ("one", "two"))
    await one.start()
    await two.start()
    await one.create("pauses", {"tag": "mine"}, WHO)
    await one.create("pauses", {"tag": "ours", "cluster": True}, WHO)
    await two.reload()
    assert [pause.tag for pause in one.snapshot.pauses] == ["mine", "ours"]
    assert [pause.tag for pause in two.snapshot.pauses] == ["ours"]
    await one.close()
    await two.close()


async def test_an_instance_that_is_renamed_keeps_its_pauses(tmp_path: Path, clock: Clock) -> None:
    """The database in `data-dir` is its own: a host that is called something else sends no mail that was held."""
    one = await opened(tmp_path, clock, instance="old")
    await one.create("pauses", {"tag": "mine"}, WHO)
    await one.close()
    renamed = await opened(tmp_path, clock, instance="new")
    assert [pause.tag for pause in renamed.snapshot.pauses] == ["mine"]
    await renamed.close()


async def test_flood_patterns_take_the_order_they_are_put_in(store: RuleStore) -> None:
    """Those not named come after, as they were; each move is in the audit."""
    for name in "abc":
        await store.create("floods", {"name": name, "pattern": name}, WHO)
    await store.reorder([3, 1], WHO)
    assert [flood.name for flood in store.snapshot.floods] == ["c", "a", "b"]
    assert {record.action for record in await store.audit(3)} == {"update"}


async def test_a_form_is_checked_with_the_stores_own_code(store: RuleStore) -> None:
    """The same refusal while typing as when it is stored, without waiting for the database."""
    rule = await store.create("throttles", {"domain": "a.example"}, WHO)
    with pytest.raises(InvalidRule) as typed:
        store.validate("throttles", {"domain": "A.example."})
    with pytest.raises(InvalidRule) as saved:
        await store.create("throttles", {"domain": "A.example."}, WHO)
    assert typed.value.errors == saved.value.errors
    assert store.validate("throttles", {"domain": "a.example", "queue": 5}, rule.id).id == rule.id


SQLITE = {
    "/proc/none/rules.db": "rules.db",
    "nonsense": "allowed are sqlite:///file",
    "oracle://x/y": "allowed are sqlite:///file",
}


@pytest.mark.parametrize(("address", "text"), SQLITE.items())
async def test_a_database_that_cannot_be_opened_is_one_clear_line(
    tmp_path: Path, clock: Clock, address: str, text: str
) -> None:
    """It says which, and what is allowed."""
    with pytest.raises(RulesUnavailable, match=text) as caught:
        await opened(tmp_path, clock, f"sqlite:///{address}" if address.startswith("/") else address)
    assert "\n" not in str(caught.value)


async def test_a_file_that_is_no_database_is_one_clear_line(tmp_path: Path, clock: Clock) -> None:
    """And it stays as it was."""
    (tmp_path / "rules.db").write_text("These are not the rules. " * 100)
    with pytest.raises(RulesUnavailable, match="not a database"):
        await opened(tmp_path, clock)
    assert (tmp_path / "rules.db").read_text().startswith("These are")


async def test_only_the_owner_can_read_rules_and_key(tmp_path: Path) -> None:
    """Mode 600, for the SQLite file and the key file."""
    store = RuleStore("", tmp_path)  # which makes the file itself
    await store.start()
    await store.create(
        "dkim-keys", {"domain": "a.example", "selector": "s", "generate": True, "algorithm": "ed25519"}, WHO
    )
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("rules.db", "rules.key")} == {0o600}
    await store.close()


async def test_a_private_key_is_nowhere_but_in_the_rule(
    store: RuleStore, tmp_path: Path, reports: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in a file, what is shown, printed, exported, recorded, reported or logged; encrypted in the database."""
    caplog.set_level(logging.DEBUG)
    pem = keys.generate("rsa")
    body = pem.splitlines()[5]
    rule = await store.create("dkim-keys", {"domain": "a.example", "selector": "s", "key": pem}, WHO)
    with pytest.raises(InvalidRule) as refused:
        await store.create("dkim-keys", {"domain": "a.example", "selector": "s", "key": pem[:-60]}, WHO)
    told = [
        repr(rule),
        str(rule),
        rule.model_dump_json(),
        str(rule.model_dump()),
        json.dumps(rule.shown()),
        str(refused.value),
    ]
    told += [
        json.dumps(store.export()),
        repr(await store.audit()),
        repr(store.snapshot.dkim_keys),
        str(reports),
        caplog.text,
    ]
    told += [(tmp_path / name).read_bytes().decode("latin-1") for name in ("rules.db", "rules.db-wal", "rules.key")]
    assert not any(body in text or "PRIVATE" in text for text in told)
    assert rule.key.get_secret_value() == pem  # type: ignore[attr-defined]
    assert "p=MII" in rule.shown()["record"]


async def test_a_changed_key_keeps_its_private_key_unless_another_is_given(store: RuleStore) -> None:
    """What a form sends back has no key; that is no reason to lose it."""
    rule = await store.create(
        "dkim-keys", {"domain": "a.example", "selector": "s", "generate": True, "algorithm": "ed25519"}, WHO
    )
    same = await store.update("dkim-keys", rule.id, {**rule.shown(), "expire": "2999-01-01T00:00:00Z"}, WHO)
    assert same.record == rule.record  # type: ignore[attr-defined]
    other = await store.update("dkim-keys", rule.id, {**rule.shown(), "generate": True}, WHO)
    assert other.record != rule.record  # type: ignore[attr-defined]


async def test_without_the_key_file_keys_are_left_out_and_the_rest_holds(
    tmp_path: Path, clock: Clock, reports: Any
) -> None:
    """It says which key and which file; what is stored stays, and works again with the file."""
    store = await opened(tmp_path, clock)
    await store.create(
        "dkim-keys", {"domain": "a.example", "selector": "s", "generate": True, "algorithm": "ed25519"}, WHO
    )
    await store.create("throttles", {}, WHO)
    await store.close()
    (tmp_path / "rules.key").rename(tmp_path / "elsewhere")

    store = await opened(tmp_path, clock, report=reports)
    assert (len(store.snapshot.dkim_keys), len(store.snapshot.throttles)) == (0, 1)
    assert reports.kinds == ["rules-left-out"] and "dkim-keys 1" in reports[0][1] and "rules.key" in reports[0][1]
    (tmp_path / "elsewhere").rename(tmp_path / "rules.key")
    await store.reload()
    assert len(store.snapshot.dkim_keys) == 1
    await store.close()


def test_a_vault_reads_only_what_was_encrypted_with_its_file(tmp_path: Path) -> None:
    """Another key file, or none that is one, is said."""
    stored = Vault(tmp_path).encrypt("secret")
    assert Vault(tmp_path).decrypt(stored) == "secret"
    (tmp_path / "rules.key").unlink()
    Vault(tmp_path).encrypt("other")
    with pytest.raises(Locked, match="was not encrypted with"):
        Vault(tmp_path).decrypt(stored)
    (tmp_path / "rules.key").write_text("no key")
    with pytest.raises(Locked, match="is no key file"):
        Vault(tmp_path).decrypt(stored)


async def test_a_closed_store_ends_its_stream(tmp_path: Path, clock: Clock) -> None:
    """And reloads no more."""
    store = await opened(tmp_path, clock)
    ended: list[bool] = []
    store.snapshots.subscribe(on_completed=lambda: ended.append(True))
    await store.close()
    clock.advance(10_000)
    assert ended == [True]


# -- pools ----------------------------------------------------------------------------------------------------


async def test_a_mta_ip_is_in_one_pool(tmp_path: Path, clock: Clock) -> None:
    """Put into another pool it leaves the first; the audit has both changes."""
    store = await opened(tmp_path, clock)
    first = await store.create("pools", {"name": "one", "members": ["192.0.2.1=5", "192.0.2.2"]}, WHO)
    second = await store.create("pools", {"name": "two", "members": ["192.0.2.3"]}, WHO)
    await store.update("pools", second.id, {"name": "two", "members": ["192.0.2.3", "192.0.2.1"]}, WHO)
    assert store.snapshot.pool("one") == {"192.0.2.2": 1}
    assert store.snapshot.pool("two") == {"192.0.2.3": 1, "192.0.2.1": 1}
    records = await store.audit()
    assert [(record.action, record.rule) for record in records[:2]] == [("update", first.id), ("update", second.id)]
    assert records[0].before is not None and records[0].before["members"][0] == {"ip": "192.0.2.1", "weight": 5}
    await store.close()


async def test_an_import_keeps_each_mta_ip_in_one_pool(tmp_path: Path, clock: Clock) -> None:
    """The pool that comes later in the document has it, as if each had been stored after the other."""
    store = await opened(tmp_path, clock)
    await store.create("pools", {"name": "here", "members": ["192.0.2.1", "192.0.2.9"]}, WHO)
    pools = [{"name": "one", "members": ["192.0.2.1", "192.0.2.2"]}, {"name": "two", "members": ["192.0.2.2"]}]
    result = await store.import_rules({"mailrace-rules": 1, "pools": pools}, WHO)
    assert (result.created, result.errors) == (2, ())
    found = {pool.name: [member.ip for member in pool.members] for pool in store.snapshot.pools}
    assert found == {"here": ["192.0.2.9"], "one": ["192.0.2.1"], "two": ["192.0.2.2"]}
    await store.close()
