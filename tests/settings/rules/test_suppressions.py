"""Suppressions: what they are, how they are found, and that a file of them comes in whole."""

from __future__ import annotations

import asyncio
import datetime
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from operators.deciding.suppress import suppress
from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.outcome import Next
from operators.deliveries.results import entry
from operators.mail.message import from_properties
from pipeline.views.suppressing import SuppressionJob, SuppressionJobs
from settings.rules import InvalidRule, NoSuchRule
from settings.rules.suppression import HashIndex, Suppression, SuppressionFilter, SuppressionIndex, digest, holds
from settings.store import RuleStore, RulesUnavailable, Who
from tests.operators.test_force import through

WHO = Who("anna")
NOW = 1_800_000_000.0
ALL = SuppressionFilter()


def entry_of(id_: int = 1, **values: Any) -> Suppression:
    return Suppression.model_validate({"id": id_, **values})


def message(recipient: str, *tags: str) -> Delivery:
    return Delivery(
        lease=Lease(1, b""), message=from_properties({"recipient": recipient, "mime": "x", "tags": list(tags)})
    )


class Known:
    """Entries in memory, as the stage asks for them."""

    def __init__(self, *rules: Suppression, answers: bool = True) -> None:
        self._rules, self._answers = {rule.id: rule for rule in rules}, answers
        self.index = SuppressionIndex()
        for rule in rules:
            self.index.changed(rule)

    def candidates(self, address: str) -> Any:
        return self.index.candidates(address)

    def fetch(self, ids: Any, found: Any) -> None:
        found([self._rules[id_] for id_ in ids] if self._answers else None)


def judged(item: Delivery, known: Known) -> Delivery:
    return through(suppress(known, lambda: NOW), item)


@pytest.mark.parametrize("recipient", ["Ann@Example.COM", "ann@example.com.", "ANN@example.com"])
def test_an_address_is_found_however_it_is_written(recipient: str) -> None:
    """The local part without case, the domain in lower case and without a final dot."""
    known = Known(entry_of(value="aNN@eXample.com", code=551, extended="5.1.1", description="gone"))
    outcome = judged(message(recipient), known).outcome
    assert outcome is not None
    assert (outcome.state, outcome.result, outcome.next) == ("suppression", "error", Next.FAIL)
    assert (outcome.code, outcome.status, outcome.description) == (551, "5.1.1", "gone")
    assert not outcome.attempted and "forced" not in entry(outcome, NOW)


def test_an_international_domain_is_found_in_both_forms() -> None:
    """It is kept in its ASCII form."""
    rule = entry_of(value="ann@münchen.example")
    assert rule.value == "ann@xn--mnchen-3ya.example"
    for recipient in ("ann@MÜNCHEN.example", "ann@xn--mnchen-3ya.example"):
        assert judged(message(recipient), Known(rule)).outcome is not None


def test_a_domain_holds_for_all_its_addresses_and_no_others() -> None:
    """Not for its subdomains."""
    known = Known(entry_of(value="example.com"))
    assert judged(message("any@example.com"), known).rules == ("suppressions/1",)
    for other in ("any@sub.example.com", "example.com@elsewhere.example", "any@notexample.com"):
        assert judged(message(other), known).outcome is None


def test_a_tag_narrows_an_entry() -> None:
    """Only that tag's mail."""
    known = Known(entry_of(value="a@b.example", tag="news"))
    assert judged(message("a@b.example", "news", "x"), known).outcome is not None
    assert judged(message("a@b.example", "x"), known).outcome is None


def test_an_address_comes_before_its_domain_and_a_tag_before_none() -> None:
    """The most specific entry's code and text are told."""
    rules = [
        entry_of(1, value="b.example"),
        entry_of(2, value="b.example", tag="t"),
        entry_of(3, value="a@b.example"),
        entry_of(4, value="a@b.example", tag="t"),
    ]
    for gone in (4, 3, 2, 1):
        found = holds(rules[:gone], "a@b.example", ("t",), NOW)
        assert found is not None and found.id == gone


def test_what_has_ended_and_what_only_has_the_same_hash_holds_nothing() -> None:
    """The index finds candidates; the entry decides."""
    before = datetime.datetime.fromtimestamp(NOW - 1, datetime.UTC)
    assert judged(message("a@b.example"), Known(entry_of(value="a@b.example", until=before))).outcome is None
    assert holds([entry_of(value="other@b.example")], "a@b.example", (), NOW) is None


def test_without_an_answer_of_the_database_mail_waits() -> None:
    """It is put off, and that is no attempt."""
    outcome = judged(message("a@b.example"), Known(entry_of(value="a@b.example"), answers=False)).outcome
    assert outcome is not None
    assert (outcome.next, outcome.skipped) == (Next.RETRY, True)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"value": "no address", "type": "address"}, "value"),
        ({"value": "a b.example"}, "value"),
        ({"value": "a@b@c.example"}, "value"),
        ({"value": "@b.example", "type": "address"}, "value"),
        ({"value": "a@b.example", "code": 450}, "code"),
        ({"value": "a@b.example", "extended": "4.1.1"}, "extended"),
        ({"value": "a@b.example\r\nRCPT TO:<x@y>"}, "value"),
        ({}, "value"),
    ],
)
async def test_what_cannot_be_used_is_said(store: RuleStore, values: dict[str, Any], field: str) -> None:
    """A line for the field."""
    with pytest.raises(InvalidRule) as caught:
        await store.suppressions.create(values, WHO)
    assert caught.value.errors[0].field == field


async def test_an_entry_holds_when_the_call_returns(store: RuleStore) -> None:
    """Created, changed, removed; each is in the audit, and one with the same value and tag is replaced."""
    known = store.suppressions
    one = await known.create({"value": "a@b.example"}, WHO)
    assert known.candidates("A@B.example") == [one.id]
    again = await known.create({"value": "a@b.example", "code": 551}, WHO)
    assert (again.id, len(known.index), (await known.get(one.id)).code) == (one.id, 1, 551)
    await known.update(one.id, {"value": "c@b.example"}, WHO)
    assert (known.candidates("a@b.example"), known.candidates("c@b.example")) == ([], [one.id])
    await known.delete(one.id, WHO)
    assert not known.candidates("c@b.example")
    with pytest.raises(NoSuchRule):
        await known.get(one.id)
    actions = [record.action for record in await store.audit() if record.kind == "suppressions"]
    assert actions == ["delete", "update", "update", "create"]


async def test_many_asked_for_in_one_turn_are_read_together(store: RuleStore) -> None:
    """Each gets its own entry; where the database does not answer each is told so."""
    known = store.suppressions
    rules = [await known.create({"value": f"{n}@b.example"}, WHO) for n in range(5)]
    got: dict[int, Any] = {}
    for rule in rules:
        known.fetch([rule.id], lambda found, id_=rule.id: got.__setitem__(id_, found))  # type: ignore[misc]
    await until(lambda: len(got) == 5)
    assert all(got[rule.id] == [rule] for rule in rules)

    async def broken(work: Any) -> Any:
        raise RulesUnavailable("away")

    known._cache.clear()
    known._work = broken
    told: list[Any] = []
    known.fetch([rules[0].id], told.append)
    await until(lambda: bool(told))
    assert told == [None]


async def done(job: SuppressionJob) -> SuppressionJob:
    await until(lambda: job.ended is not None)
    return job


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def brought_in(store: RuleStore, folder: Path, text: str | bytes) -> tuple[SuppressionJob, SuppressionJobs]:
    jobs = SuppressionJobs(store.suppressions, folder, lambda who, job: None)
    path = folder / "in.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    job = await done(jobs.bring_in(path, WHO))
    assert not path.exists()
    return job, jobs


async def test_a_file_of_addresses_comes_in_whole(store: RuleStore, tmp_path: Path) -> None:
    """Without a header each line is an address; those that cannot be used are named; twice is once."""
    job, _ = await brought_in(store, tmp_path, "\ufeffA@b.example\r\n\nc@b.example\nnonsense \x00 line\na@B.example\n")
    assert (job.state, job.created, job.skipped, len(store.suppressions.index)) == ("done", 2, 1, 2)
    assert job.errors[0].startswith("line 4: ")
    assert store.suppressions.candidates("a@b.EXAMPLE")


@pytest.mark.parametrize(
    ("octets", "values"),
    [
        (b"email;code\na@x.example;551\n", [("a@x.example", 551)]),
        (b"Email Address\tcode\r\na@x.example\t551\r\n", [("a@x.example", 551)]),
        (b"code,tag,E-Mail\n551,sale,a@x.example\n", [("a@x.example", 551)]),
        ("value\na@x.example\n".encode("utf-16"), [("a@x.example", 550)]),
        (b"a@x.example\rb@x.example\r", [("a@x.example", 550), ("b@x.example", 550)]),
        (b"email,domain\na@x.example,x.example\n", [("a@x.example", 550)]),  # not all addresses of the domain
        (b"", []),
    ],
)
async def test_a_file_comes_in_as_programs_write_it(
    store: RuleStore, tmp_path: Path, octets: bytes, values: list[tuple[str, int]]
) -> None:
    """Spreadsheets write semicolons, tabs, UTF-16, their own headers in any order, and lines that end as they like."""
    job, _ = await brought_in(store, tmp_path, octets)
    assert (job.state, job.skipped) == ("done", 0)
    page = await store.suppressions.page(ALL)
    assert [(one.value, one.code) for one in page] == values


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        ("value\nmüller@x.example\n".encode("latin-1"), "line 2: value: is no UTF-8"),
        (b'value,description\na@x.example,"a\nb"\nb@x.example\nnot any\n', "line 2: description: goes over several"),
        (b'a@x.example\n"b\nc"@x.example\nnot any\n', "line 2: value: goes over several lines"),
        (b"value,code\na@x.example,250\n", "line 2: code: is too small"),
        (b"Anna <a@x.example>\n", "line 1: value: is no address"),
    ],
)
async def test_a_line_that_is_not_what_was_meant_is_said_by_its_number(
    store: RuleStore, tmp_path: Path, octets: bytes, said: str
) -> None:
    """Nothing is guessed: an address with a replaced letter would be nobody's."""
    job, _ = await brought_in(store, tmp_path, octets)
    assert job.errors[0].startswith(said)
    if b"not any" in octets:  # the number is that of the file's line, whatever a quoted field has taken
        number = 1 + octets.count(b"\n", 0, octets.index(b"not any"))
        assert job.errors[-1].startswith(f"line {number}: ")


async def test_each_line_of_an_import_is_counted_once(store: RuleStore, tmp_path: Path) -> None:
    """New, replaced, or not used: also one that stands in the file twice."""
    job, _ = await brought_in(store, tmp_path, "a@x.example\nA@X.example\nb@x.example\nnonsense\x00\na@x.example.\n")
    assert (job.created, job.replaced, job.skipped) == (2, 2, 1)


async def test_what_is_exported_comes_in_again(store: RuleStore, tmp_path: Path) -> None:
    """All fields; what is there already is replaced, not doubled."""
    lines = "email,tag,code,description\nx@b.example,news,552,full\ny@b.example,,,\n"
    _, jobs = await brought_in(store, tmp_path, lines)
    await store.suppressions.create({"value": "b.example", "until": "2999-01-01T00:00:00Z"}, WHO)
    text = "".join([part async for part in jobs.export(ALL)])
    before = await store.suppressions.page(ALL)
    job, _ = await brought_in(store, tmp_path, text)
    assert (job.created, job.replaced, job.skipped) == (0, 3, 0)
    assert [rule.shown() for rule in await store.suppressions.page(ALL)] == [rule.shown() for rule in before]


async def test_many_are_removed_by_a_filter(store: RuleStore, tmp_path: Path) -> None:
    """And hold no more when the job is over; others stay."""
    _, jobs = await brought_in(store, tmp_path, "".join(f"{n}@b.example\n{n}@c.example\n" for n in range(50)))
    job = await done(jobs.remove(SuppressionFilter(containing="@B."), WHO))
    assert (job.state, job.removed, len(store.suppressions.index)) == ("done", 50, 50)
    assert not store.suppressions.candidates("1@b.example") and store.suppressions.candidates("1@c.example")


async def test_another_instances_entries_come_with_the_next_reload(store: RuleStore, tmp_path: Path) -> None:
    """And change and go with it; what has ended is removed."""
    other = RuleStore("", tmp_path)
    await other.start()
    one = await other.suppressions.create({"value": "b@b.example"}, WHO)
    assert not store.suppressions.candidates("b@b.example")
    await store.reload()
    assert store.suppressions.candidates("b@b.example")
    await store.suppressions.create({"value": "c@b.example"}, WHO)
    await other.suppressions.update(one.id, {"value": "a@b.example"}, WHO)
    await store.suppressions.create({"value": "d@b.example"}, WHO)
    await store.reload()
    assert store.suppressions.candidates("a@b.example") and not store.suppressions.candidates("b@b.example")
    held = store.suppressions.index
    await store.suppressions.create({"value": "e@b.example"}, WHO)
    await store.reload()
    assert store.suppressions.index is held, "its own changes are in it already"
    await other.suppressions.delete(one.id, WHO)
    await store.reload()
    assert not store.suppressions.candidates("a@b.example")
    await other.close()


def test_a_million_have_sixteen_bytes_each() -> None:
    """Sorted hashes and ids, in arrays."""
    rows = sorted((digest(f"{n}@b.example"), n) for n in range(1000))
    index = HashIndex([rows[:400], rows[400:]])
    assert len(index) == 1000
    assert all(index.find(f"{n}@b.example") == [n] for n in range(0, 1000, 37))
    assert index.find("x@b.example") == []


async def test_another_instance_reads_what_was_added_and_not_all(tmp_path: Path) -> None:
    """Where something else has changed as well, the whole index is read."""
    stores = [RuleStore(f"sqlite:///{tmp_path}/shared.db", tmp_path / name) for name in ("a", "b")]
    for store in stores:
        await store.start()
    one, other = (store.suppressions for store in stores)
    await one.create({"value": "first@example.com"}, WHO)
    await other.reload()
    index = other.index
    await one.create({"value": "second@example.com"}, WHO)
    await other.reload()
    assert (other.index is index, len(other.index)) == (True, 2)
    await one.update(1, {"value": "edited@example.com"}, WHO)
    await one.create({"value": "beside@example.com"}, WHO)
    await other.reload()
    assert (other.index is index, len(other.index)) == (False, 3)
    index = other.index
    await one.delete(1, WHO)
    await one.create({"value": "third@example.com"}, WHO)
    await one.create({"value": "fourth@example.com"}, WHO)
    await other.reload()
    assert (other.index is index, len(other.index)) == (False, 4)
    for store in stores:
        await store.close()


async def test_who_reads_waits_for_no_writer(store: RuleStore, tmp_path: Path) -> None:
    """Another worker may be at an import of a million: pages, look-ups and the index do not stand behind it."""
    await store.suppressions.create({"value": "a@b.example"}, WHO)
    other = sqlite3.connect(tmp_path / "rules.db", timeout=0, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        other.execute("UPDATE suppressions SET code = 551")
        await store.suppressions.reload()
        await store.reload()
        assert [rule.code for rule in await store.suppressions.page(ALL)] == [550]
        assert await store.suppressions.count(ALL) == 1
    finally:
        other.execute("COMMIT")
        other.close()
    assert [rule.code for rule in await store.suppressions.page(ALL)] == [551]
