"""Withdrawing: what waits already ends in the queue when it is stopped, hundreds at once, each with all it is owed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import reactivex as rx

from operators.deciding.force import force
from operators.deliveries.delivery import Delivery
from operators.deliveries.events import Event, Settled, Taken
from operators.deliveries.outcome import Outcome
from operators.deliveries.results import copies
from operators.stages.decode import decode
from operators.stages.expire import expire
from pipeline.machine import withdrawing
from pipeline.machine.withdrawing import Withdrawal, Withdrawing, together
from pipeline.queues.contract import Park, QueueFull, Retry, Settlement
from pipeline.queues.embedded import browse
from pipeline.queues.embedded.embedded import EmbeddedQueue
from pipeline.queues.embedded.file import Store
from pipeline.queues.listing import Sought
from pipeline.views import bulk as bulk_actions
from pipeline.views.bulk import Bulk, Selection
from settings.rules import ForcedError, Snapshot
from tests.pipeline.queues.desk import Desk, confirmation

LANE = "192.0.2.1/example.com"
DAY = 86_400.0
STOP = ForcedError(id=1, tag="sale", code=554, description="Withdrawn")


def mail(number: int, tag: str = "sale", **more: Any) -> bytes:
    return msgspec.json.encode({"recipient": f"{number}@example.com", "envelope": "a@b.example", "tags": [tag], **more})


class Bench:
    """A queue, and what ends its messages."""

    def __init__(self, folder: Path) -> None:
        self.queue = EmbeddedQueue(folder / "queue.db", poll=0.01)
        self.desk = Desk(self.queue, None)
        self.rules = Snapshot()
        self.logged: list[str] = []
        self.events: list[Event] = []
        stages = rx.compose(
            decode(2**30, time.monotonic),
            expire(DAY, time.time),
            force(lambda: self.rules, time.time, early=True),
        )
        self.withdrawing = Withdrawing(
            self.queue, stages, self.owed, self.note, self.room, self.events.append, time.time
        )

    def owed(self, delivery: Delivery) -> list[tuple[str, bytes]]:
        return copies(delivery, {"results": "results"}, time.time())

    def note(self, delivery: Delivery, outcome: Outcome, when: float) -> None:
        self.logged.append(delivery.message.recipient.partition("@")[0])

    async def room(self) -> None:
        """There always is."""

    async def stop(self, *errors: ForcedError) -> Withdrawal:
        """These rules are in force; wait for what they end."""
        self.rules = Snapshot({"errors": errors}).indexed()
        self.withdrawing.changed(self.rules)
        await self.withdrawing.finished()
        return self.withdrawing.all[0] if self.withdrawing.all else Withdrawal(rule=0)

    async def left(self) -> list[str]:
        """The recipients in the outbox."""
        page = await self.queue.browse(limit=1000)
        return [one.recipient.partition("@")[0] for one in page.messages if one.queue == "outbox"]

    async def results(self) -> list[dict[str, Any]]:
        page = await self.queue.browse(limit=1000)
        opened = [await self.queue.read(one.id) for one in page.messages if one.queue == "results"]
        return [msgspec.json.decode(one.body)["results"][-1] for one in opened if one is not None]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    found = Bench(tmp_path)
    await found.queue.start()
    yield found
    found.withdrawing.close()
    await found.queue.close()


async def test_what_is_ready_waits_or_is_parked_ends_and_the_rest_stays(bench: Bench) -> None:
    """Wherever it is; another tag's mail is as it was."""
    await bench.desk.publish(mail(1), mail(2), mail(3), mail(4, "reset"))
    bench.desk.consume(2)
    waits, parked = await bench.desk.next(2)
    bench.desk.subscription.dispose()  # type: ignore[union-attr]
    await bench.desk.settle(waits, Settlement(then=Retry(waits.body, time.time() + DAY)))
    await bench.desk.settle(parked, Settlement(then=Park(LANE)))
    done = await bench.stop(STOP)
    assert await bench.left() == ["4"]
    assert (done.looked, done.total, done.ended) == (4, 4, 3)
    assert bench.queue.parked() == {}


async def test_each_message_has_its_result_its_line_and_its_events_once(bench: Bench) -> None:
    """The answer of the rule, marked as forced."""
    await bench.desk.publish(*(mail(number) for number in range(20)))
    await bench.stop(STOP)
    results = await bench.results()
    assert len(results) == 20
    assert {(one["code"], one["description"], one["forced"]) for one in results} == {(554, "Withdrawn", True)}
    assert sorted(bench.logged, key=int) == [str(number) for number in range(20)]
    assert [type(event) for event in bench.events].count(Taken) == 20
    settled = [event for event in bench.events if isinstance(event, Settled)]
    assert [event.delivery.rules for event in settled] == [("errors/1",)] * 20


async def test_a_message_on_its_way_is_left_to_the_chain(bench: Bench) -> None:
    """It ends once: there, or here."""
    await bench.desk.publish(mail(1), mail(2))
    bench.desk.consume(1)
    [lent] = await bench.desk.next(1)
    done = await bench.stop(STOP)
    assert done.ended == 1
    assert lent.body == mail(1)
    await bench.desk.settle(lent)
    assert await bench.left() == []
    assert bench.logged == ["2"]


async def test_a_message_in_withdrawal_is_lent_to_nobody(bench: Bench) -> None:
    """It would end twice; what is put back is lent as before."""
    await bench.desk.publish(mail(1), mail(2, "reset"))
    async for part in bench.queue.withdraw(Sought()):
        bench.desk.consume(10)
        await asyncio.sleep(0.05)
        assert bench.desk.leases == []
        bench.queue.put_back(part.leases)
        assert len(await bench.desk.next(2)) == 2


async def test_new_mail_is_lent_while_a_queue_is_looked_through(bench: Bench) -> None:
    """A password reset does not wait for the end of a campaign, with a priority or without one."""
    await bench.desk.publish(*(mail(number) for number in range(50)))
    bench.desk.consume(10)
    old = await bench.desk.next(10)
    async for part in bench.queue.withdraw(Sought(tag="sale")):
        for lease in old:
            await bench.desk.settle(lease)
        await bench.desk.publish(mail(100, "reset"))
        await bench.desk.publish(mail(101, "reset", priority=9))
        assert {lease.body for lease in await bench.desk.next(2)} == {
            mail(100, "reset"),
            mail(101, "reset", priority=9),
        }
        bench.queue.put_back(part.leases)


async def test_of_a_queue_that_is_looked_through_only_what_has_been_looked_at_is_lent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is next would be lent to be ended one by one."""
    monkeypatch.setattr(browse, "SEARCHED", 2)
    await bench.desk.publish(*(mail(number, "other") for number in range(6)))
    lent = []
    async for _ in bench.queue.withdraw(Sought(tag="sale")):
        if not lent:
            bench.desk.consume(10)
        await asyncio.sleep(0.05)
        lent.append(len(bench.desk.leases))
    assert lent == [2, 4, 6]


async def test_what_a_rule_is_not_certain_for_is_put_back(bench: Bench) -> None:
    """A rule for an MTA IP may be more specific; a tag in a mail's text is none; what is no message is refused."""
    await bench.desk.publish(mail(1, "other", data={"x": "sale"}), b'"sale" is no message', mail(2))
    done = await bench.stop(STOP, ForcedError(id=2, tag="sale", ip="192.0.2.1", code=550))
    assert done.ended == 0
    assert len(await bench.left()) == 3


async def test_a_domain_is_found_as_dns_has_it(bench: Bench) -> None:
    """In any case, and in Unicode (RFC 5891)."""
    names = ("a@Example.com", "b@bücher.example", "c@other.example", "d@example.com.", "e@xn--bcher-kva.example")
    await bench.desk.publish(*(msgspec.json.encode({"recipient": name, "envelope": ""}) for name in names))
    await bench.stop(
        ForcedError(id=1, domain="example.com", code=554), ForcedError(id=2, domain="bücher.example", code=554)
    )
    assert await bench.left() == ["c"]


async def test_a_tag_is_found_however_its_letters_are_written(bench: Bench) -> None:
    """Other programs write JSON with escapes."""
    escaped = rb'{"recipient": "1@example.com", "envelope": "", "tags": ["s\u0061le"]}'
    await bench.desk.publish(escaped, mail(2, 'with "quotes"'))
    await bench.stop(STOP, ForcedError(id=2, tag='with "quotes"', code=554))
    assert await bench.left() == []


async def test_what_shall_be_tried_again_is_not_withdrawn(bench: Bench) -> None:
    """A forced 4xx is an attempt that comes back: the chain counts it."""
    await bench.desk.publish(mail(1))
    await bench.stop(ForcedError(id=1, tag="sale", code=450))
    assert bench.withdrawing.all == []


async def test_a_queue_that_does_not_answer_is_asked_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is ended twice, and nothing is forgotten."""
    monkeypatch.setattr(withdrawing, "AGAIN", 0.01)
    await bench.desk.publish(mail(1), mail(2))
    fails = [OSError("no room"), OSError("no room")]
    end = bench.queue.end

    def failing(leases: Any, publish: Any, confirmed: Any) -> None:
        if fails:
            confirmed(fails.pop())
        else:
            end(leases, publish, confirmed)

    monkeypatch.setattr(bench.queue, "end", failing)
    done = await bench.stop(STOP)
    assert (done.ended, done.error) == (2, "")
    assert len(await bench.results()) == len(bench.logged) == 2


async def test_what_fails_in_the_middle_leaves_no_message_behind(bench: Bench) -> None:
    """They are lent as if nothing had been."""
    await bench.desk.publish(mail(1), mail(2))

    async def broken() -> None:
        raise RuntimeError("of ours")

    bench.withdrawing._room = broken  # type: ignore[method-assign]
    bench.rules = Snapshot({"errors": [STOP]}).indexed()
    bench.withdrawing.changed(bench.rules)
    with pytest.raises(RuntimeError):
        await bench.withdrawing.finished()
    bench.desk.consume(10)
    assert len(await bench.desk.next(2)) == 2


async def test_the_rules_in_force_at_the_start_go_through_the_queue(bench: Bench) -> None:
    """A kill in the middle leaves the rest, which ends after it; each rule goes through once."""
    await bench.desk.publish(mail(1))
    await bench.stop(STOP)
    await bench.desk.publish(mail(2))
    await bench.stop(STOP)
    assert await bench.left() == ["2"]
    bench.withdrawing._seen.clear()
    await bench.stop(STOP)
    assert await bench.left() == []


async def test_many_end_in_one_transaction_and_on_a_full_disk(bench: Bench) -> None:
    """What is ended makes room: the reserve is for it."""
    await bench.desk.publish(*(mail(number) for number in range(3)))
    results = [("results", b"{}")] * 3
    async for part in bench.queue.withdraw(Sought()):
        bench.queue._writer.space.full = "no room"
        await confirmation(partial(bench.queue.end, part.leases, results))
    assert await bench.left() == []


async def test_a_bulk_deletion_leaves_what_is_being_sent(bench: Bench) -> None:
    """That is sent, or comes back; nobody is told of the others."""
    await bench.desk.publish(mail(1), mail(2), mail(3, "reset"), mail(4))
    bench.desk.consume(1)
    [lent] = await bench.desk.next(1)
    bulk = Bulk(bench.queue, "outbox")
    job = await bulk.finished(bulk.begin("delete", Selection(tag="sale")))
    assert (job.state, job.total, job.changed) == ("done", 2, 2)
    await bench.desk.settle(lent, Settlement(then=Retry(lent.body, time.time() + DAY)))
    assert sorted(await bench.left()) == ["1", "3"]
    assert await bench.results() == []


async def test_a_bulk_deletion_goes_on_on_a_full_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few at once: what goes makes the room."""
    monkeypatch.setattr(bulk_actions, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(bulk_actions, "FEW", 2)
    await bench.desk.publish(*(mail(number) for number in range(5)))
    discard, asked = bench.queue.discard, []

    async def scarce(leases: Any) -> None:
        asked.append(len(leases))
        if len(leases) > 2 or len(asked) == 2:
            raise QueueFull("no room")
        await discard(leases)

    monkeypatch.setattr(bench.queue, "discard", scarce)
    bulk = Bulk(bench.queue, "outbox")
    job = await bulk.finished(bulk.begin("delete", Selection(tag="sale")))
    assert (job.state, job.changed, asked) == ("done", 5, [5, 2, 2, 2, 1])
    assert await bench.left() == []


@pytest.mark.parametrize("tag", ["50%_off", "a\\b", 'with "quotes"', "größe", "[x]*?", "%"])
async def test_a_bulk_deletion_means_its_tag_letter_by_letter(bench: Bench, tag: str) -> None:
    """What stands for any text in a search stands for itself here, and a tag within the mail's text is none."""
    others = [mail(2, "50x off"), mail(3, tag.upper() + "!"), mail(4, "other", mime=f'Subject: "{tag}"\r\n\r\n')]
    await bench.desk.publish(mail(1, tag), *others, mail(5, "x", data={"tags": [tag]}))
    bulk = Bulk(bench.queue, "outbox")
    job = await bulk.finished(bulk.begin("delete", Selection(tag=tag)))
    assert (job.state, job.changed) == ("done", 1)
    assert await bench.left() == ["2", "3", "4", "5"]


async def test_a_bulk_deletion_reads_no_bodies_where_none_are_needed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue itself knows a tag; parked messages are counted down at once, and what is lent stays."""
    await bench.desk.publish(*(mail(number) for number in range(6)))
    bench.desk.consume(2)
    for lease in await bench.desk.next(2):
        await bench.desk.settle(lease, Settlement(then=Park(LANE)))
    await bench.desk.next(2)
    monkeypatch.setattr(Store, "take", None)
    bulk = Bulk(bench.queue, "outbox")
    job = await bulk.finished(bulk.begin("delete", Selection(tag="sale")))
    assert (job.state, job.changed, bench.queue.parked()) == ("done", 4, {})
    assert bench.queue.lent == 2


def test_a_queue_that_is_not_open_has_nothing_parked(tmp_path: Path) -> None:
    """The rules are read first, and who hears of a forced error then looks."""
    assert EmbeddedQueue(tmp_path / "queue.db").parked() == {}


def test_what_workers_withdraw_is_added_up() -> None:
    """By rule; it is over when it is over in all."""
    one = Withdrawal(rule=3, looked=5, total=10, ended=2, begun=2.0, over=4.0)
    other = Withdrawal(rule=3, looked=1, total=10, ended=1, begun=1.0)
    [found] = together([msgspec.to_builtins([one]), msgspec.to_builtins([other])])
    assert (found.looked, found.total, found.ended, found.begun, found.over) == (6, 20, 3, 1.0, None)
