"""Warm-up: how many messages a day leave from an MTA IP that receivers do not know yet."""

from __future__ import annotations

import collections
import datetime
import random
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reactivex import operators as ops
from reactivex.subject import Subject

from operators.deliveries.delivery import Delivery, Lease, Route, Target
from operators.deliveries.outcome import Next, Outcome, deferred, failed
from operators.lanes.limits import Limits
from operators.lanes.pools import Pools
from operators.lanes.warming import ENOUGH, Warming
from operators.mail.message import from_properties
from operators.stages.assign import assign
from pipeline.machine.warmup_book import BLOCK, WarmupFile
from settings.rules import Pool, Snapshot
from settings.rules.models import PoolMember
from settings.rules.validate import parse
from settings.rules.warming import Schedule, Warmup

COLD, WARM = "192.0.2.1", "192.0.2.2"
NOON = datetime.datetime(2030, 3, 1, 12, tzinfo=datetime.UTC).timestamp()
DAY = 86_400.0


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def rules(*steps: str, pool: bool = True, **warmup: Any) -> Snapshot:
    schedule = parse("schedules", {"name": "slow", "steps": list(steps) or ["1=2", "2=4", "5=10"]})
    values = {"schedule": "slow", "ip": COLD, **warmup}
    members = (PoolMember(ip=COLD), PoolMember(ip=WARM)) if pool else (PoolMember(ip=COLD),)
    found = parse("warmups", values).model_copy(update={"id": 7})
    return Snapshot({"schedules": [schedule], "warmups": [found], "pools": [Pool(id=1, name="mine", members=members)]})


def accepted(delivery: Delivery) -> Outcome:
    return Outcome(state="message", result="accepted", next=Next.DELIVERED, code=250, attempted=True)


def refused(delivery: Delivery) -> Outcome:
    return failed("rcptto", "error", "no", code=550, attempted=True)


def later(delivery: Delivery) -> Outcome:
    return deferred("rcptto", "error", "slow down", code=450, attempted=True)


def unreached(delivery: Delivery) -> Outcome:
    return deferred("connect", "timeout", "no answer")


class Worker:
    """The stages that have to do with warm-up, around receivers that answer as a test says."""

    def __init__(self, snapshot: Snapshot, clock: Clock, book: WarmupFile, seed: int = 1) -> None:
        self.snapshot, self.clock, self.book = snapshot, clock, book
        self.notices: list[str] = []
        self.warming = Warming(lambda: self.snapshot, clock, book, lambda kind, text: self.notices.append(text))
        self.answer = accepted
        chance = random.Random(seed).random
        idle = lambda lane: (0.0, 0)  # noqa: E731
        pools = Pools(lambda: self.snapshot, clock, lambda ip: True, lambda lane: None, idle, chance, self.warming.left)
        self.input: Subject[Delivery] = Subject()
        self.out: list[Delivery] = []
        self.input.pipe(
            assign(lambda message: message.ips or [COLD], idle, pools.choose, passed_over=self.warming.left),
            self.warming.admit(),
            self.warming.count(),
            ops.map(self._deliver),
            self.warming.counted(),
        ).subscribe(self.out.append)

    def _deliver(self, delivery: Delivery) -> Delivery:
        return delivery if delivery.outcome is not None else delivery.ended(self.answer(delivery))

    def send(self, group: str = "gmail", **properties: Any) -> Delivery:
        domain = f"{group}.example"
        message = from_properties({"recipient": f"a@{domain}", "mime": "x", "pool": "mine", **properties})
        route = Route(group, (Target(f"mx.{domain}", "198.51.100.1"),))
        self.input.on_next(Delivery(lease=Lease(1, b""), message=message, domain=domain, route=route))
        return self.out[-1]

    def sent(self, count: int, **more: Any) -> collections.Counter[str]:
        """How many of these were tried from each address; those that wait: 'waits'."""
        found = [self.send(**more) for _ in range(count)]
        return collections.Counter(one.ip if one.outcome and one.outcome.attempted else "waits" for one in found)

    def day(self, ip: str = COLD) -> int:
        rule = self.snapshot.rules("warmups")[0]
        assert isinstance(rule, Warmup)
        self.warming.forget()
        found = self.warming.today(rule, ip)
        assert found is not None
        return found.day


@pytest.fixture
def book(tmp_path: Path) -> Iterator[WarmupFile]:
    book = WarmupFile(tmp_path / "book.db", "this boot")
    yield book
    book.close()


def worker(book: WarmupFile, *steps: str, **warmup: Any) -> Worker:
    return Worker(rules(*steps, **warmup), Clock(), book)


def test_what_is_over_the_cap_leaves_from_the_others_of_the_pool(book: WarmupFile) -> None:
    """Two a day from the cold one, all else from the warm one, and the rule stands in the log of both."""
    one = worker(book)
    assert one.sent(20) == {COLD: 2, WARM: 18}
    assert one.out[-1].rules == ("warmups/7",)


def test_what_is_over_the_cap_waits_where_there_is_no_other(book: WarmupFile) -> None:
    """It is parked, and its queue is blocked until tomorrow."""
    one = worker(book, pool=False)
    assert one.sent(20) == {COLD: 2, "waits": 18}
    outcome = one.out[-1].outcome
    assert outcome is not None
    assert (outcome.next, outcome.lane) == (Next.PARK, f"warm/{COLD}/")
    assert one.warming.blocked(f"warm/{COLD}/")
    one.clock.now += DAY / 2
    assert not one.warming.blocked(f"warm/{COLD}/")
    assert one.sent(20) == {COLD: 4, "waits": 16}


def test_a_rule_may_say_that_it_waits(book: WarmupFile) -> None:
    """With `wait`, what its pool has drawn for the cold one leaves from no other."""
    found = worker(book, overflow="wait").sent(20)
    assert found[COLD] == 2
    assert found[WARM] == 10
    assert found["waits"] == 8


def test_a_change_of_the_rules_looks_again(book: WarmupFile) -> None:
    """What waits for tomorrow is called in when a rule has changed, since it may leave now."""
    one = worker(book, pool=False)
    one.sent(3)
    assert one.warming.blocked(f"warm/{COLD}/")
    one.snapshot = rules("1=100", pool=False)
    assert not one.warming.blocked(f"warm/{COLD}/")
    assert one.sent(200) == {COLD: 98, "waits": 102}


def test_the_day_goes_on_only_after_a_day_with_mail(book: WarmupFile) -> None:
    """Day 1 lasts as long as nothing leaves; a day without mail later does not count either."""
    one = worker(book)
    days = []
    for mail in (False, False, True, True, False, False, True):
        if mail:
            one.send(ips=[COLD])
        days.append(one.day())
        one.clock.now += DAY
    assert days == [1, 1, 1, 2, 3, 3, 3]


def test_a_day_on_which_no_receiver_was_reached_does_not_count(book: WarmupFile) -> None:
    """Places that were not used are free again, and the day stays."""
    one = worker(book)
    one.answer = unreached
    one.sent(30)
    one.clock.now += DAY
    assert one.day() == 1
    one.answer = accepted
    assert one.sent(20) == {COLD: 2, WARM: 18}


def test_the_last_step_stays(book: WarmupFile) -> None:
    """Its day is the last, its cap holds for ever."""
    one = worker(book)
    for _ in range(12):
        one.sent(1, ips=[COLD])
        one.clock.now += DAY
    assert one.day() == 5
    assert one.sent(20, ips=[COLD]) == {COLD: 10, "waits": 10}


def test_days_are_those_of_the_rules_time_zone(book: WarmupFile) -> None:
    """At 12 UTC it is midnight in Auckland, on the day on which its summer time holds."""
    one = worker(book, "1=1", "2=5", time_zone="Pacific/Auckland")
    one.clock.now = datetime.datetime(2030, 6, 1, 11, 59, 59, tzinfo=datetime.UTC).timestamp()
    assert one.sent(3, ips=[COLD]) == {COLD: 1, "waits": 2}
    one.clock.now += 1
    assert one.sent(9, ips=[COLD]) == {COLD: 5, "waits": 4}


@pytest.mark.parametrize("change", [datetime.datetime(2030, 3, 31), datetime.datetime(2030, 10, 27)])
def test_a_day_of_23_or_25_hours_is_one_day(book: WarmupFile, change: datetime.datetime) -> None:
    """Summer time begins and ends: one cap for that day, the next at midnight."""
    one = worker(book, "1=3", time_zone="Europe/Berlin")
    one.clock.now = change.replace(tzinfo=datetime.UTC).timestamp() - 3 * 3600
    found: collections.Counter[str] = collections.Counter()
    for _ in range(24 * 12):
        item = one.send(ips=[COLD])
        if item.outcome and item.outcome.attempted:
            berlin = datetime.datetime.fromtimestamp(one.clock.now, datetime.UTC).astimezone(
                zoneinfo.ZoneInfo("Europe/Berlin")
            )
            found[berlin.date().isoformat()] += 1
        one.clock.now += 600
    assert set(found.values()) == {3}


def test_a_clock_that_goes_back_gives_no_second_cap(book: WarmupFile) -> None:
    """Yesterday comes again: nothing more leaves."""
    one = worker(book)
    one.sent(5, ips=[COLD])
    one.clock.now -= 2 * DAY
    assert one.sent(5, ips=[COLD]) == {"waits": 5}


@pytest.mark.parametrize("then", ["hold", "back"])
@pytest.mark.parametrize("answer", [later, refused])
def test_a_day_over_its_shares_is_held_or_taken_back(book: WarmupFile, then: str, answer: Any) -> None:
    """From 100 attempts on, with a notice; without them nothing is held."""
    one = worker(book, "1=1000", "2=2000", "3=3000", then=then)
    one.sent(1, ips=[COLD])
    one.clock.now += DAY
    assert one.day() == 2
    one.sent(ENOUGH // 2, ips=[COLD])
    one.answer = answer
    one.sent(ENOUGH // 2, ips=[COLD])
    one.warming.tick()
    assert "day 2" in one.notices[-1]
    assert "50 %" in one.notices[-1]
    one.warming.tick()
    assert len([line for line in one.notices if "50 %" in line]) == 1
    one.clock.now += DAY
    assert one.day() == (2 if then == "hold" else 1)


def test_99_attempts_hold_nothing(book: WarmupFile) -> None:
    """Too few to say anything."""
    one = worker(book, "1=1000", "2=2000")
    one.answer = refused
    one.sent(ENOUGH - 1, ips=[COLD])
    one.clock.now += DAY
    assert one.day() == 2
    assert not [line for line in one.notices if "%" in line]


def test_the_limits_of_the_step_are_those_of_the_lane(book: WarmupFile) -> None:
    """Where they are less than what holds anyway; 0 is unlimited."""
    one = worker(book, "1=50/domain_connections=2/connection_messages=5", "2=100")
    base = Limits(domain_connections=0, connection_messages=3)
    found = one.warming.limits(COLD, "gmail.example", "gmail", base)
    assert (found.domain_connections, found.connection_messages) == (2, 3)
    assert one.warming.limits(WARM, "gmail.example", "gmail", base) is base


def test_the_most_specific_warm_up_counts(book: WarmupFile) -> None:
    """A provider's before that of all mail, an IP's before its pool's; each is counted for itself."""
    schedule = parse("schedules", {"name": "slow", "steps": ["1=2"]})
    values: list[dict[str, Any]] = [{"pool": "mine"}, {"ip": COLD}, {"ip": COLD, "domain": "gmail"}]
    made = [parse("warmups", {"schedule": "slow", **one}).model_copy(update={"id": n}) for n, one in enumerate(values)]
    pool = Pool(id=1, name="mine", members=(PoolMember(ip=COLD), PoolMember(ip=WARM)))
    one = Worker(Snapshot({"schedules": [schedule], "warmups": made, "pools": [pool]}), Clock(), book)
    assert one.send(ips=[COLD]).rules == ("warmups/2",)
    assert one.send("yahoo", ips=[COLD]).rules == ("warmups/1",)
    assert one.send(ips=[WARM]).rules == ("warmups/0",)
    assert one.sent(5, ips=[COLD]) == {COLD: 1, "waits": 4}
    assert one.sent(5, group="yahoo", ips=[COLD]) == {COLD: 1, "waits": 4}


def test_a_warm_up_that_has_not_begun_does_nothing(book: WarmupFile) -> None:
    """`started` is to come."""
    one = worker(book, started="2030-03-02T00:00:00Z")
    assert one.sent(5, ips=[COLD]) == {COLD: 5}
    one.clock.now += DAY / 2
    assert one.sent(5, ips=[COLD]) == {COLD: 2, "waits": 3}


def test_a_rule_that_is_made_anew_begins_at_its_day_and_knows_what_has_left_today(book: WarmupFile) -> None:
    """No second cap by deleting and creating."""
    one = worker(book, "1=3", "2=5", started="2030-01-01T00:00:00Z")
    one.sent(2, ips=[COLD])
    one.snapshot = rules("1=3", "2=5", started="2030-03-01T11:00:00Z")
    assert one.sent(5, ips=[COLD]) == {COLD: 1, "waits": 4}
    one.snapshot = rules("1=3", "2=5", "3=9", day=3, started="2030-03-01T11:30:00Z")
    assert one.sent(9, ips=[COLD]) == {COLD: 6, "waits": 3}


def test_a_power_failure_never_makes_more_of_a_cap(tmp_path: Path) -> None:
    """After another boot all that was reserved counts as used; after a kill exactly what has left."""
    path = tmp_path / "book.db"
    one = Worker(rules("1=1000"), Clock(), WarmupFile(path, "first"))
    one.sent(10, ips=[COLD])
    killed = Worker(one.snapshot, one.clock, WarmupFile(path, "first"))
    assert killed.sent(1000, ips=[COLD]) == {COLD: 990, "waits": 10}
    other = tmp_path / "other.db"
    one = Worker(rules("1=1000"), Clock(), WarmupFile(other, "first"))
    one.sent(10, ips=[COLD])
    started = Worker(one.snapshot, one.clock, WarmupFile(other, "second"))
    assert started.sent(1000, ips=[COLD])[COLD] == 1000 - BLOCK


def test_a_book_that_cannot_be_written_lets_nothing_leave_uncounted(tmp_path: Path) -> None:
    """The message comes again later, which is no attempt, and it is said once."""
    one = Worker(rules(pool=False), Clock(), WarmupFile(tmp_path / "no such folder" / "book.db", "boot"))
    outcome = one.send().outcome
    assert outcome is not None
    assert outcome.next is Next.POSTPONE
    one.send()
    assert len(one.notices) == 1
    assert one.warming.trouble


def test_thirty_days(tmp_path: Path) -> None:
    """Two providers, 4 workers, outages, holidays, a restart each day: caps exact to the message, days as they are."""
    steps = ["1=5", "2=10", "4=20", "8=30", "15=40"]
    schedule = parse("schedules", {"name": "slow", "steps": steps})
    assert isinstance(schedule, Schedule)
    made = [
        parse("warmups", {"schedule": "slow", "ip": COLD, "domain": name, "time_zone": "America/New_York"}).model_copy(
            update={"id": number}
        )
        for number, name in enumerate(("gmail", "yahoo"), 1)
    ]
    pool = Pool(id=1, name="mine", members=(PoolMember(ip=COLD), PoolMember(ip=WARM)))
    snapshot = Snapshot({"schedules": [schedule], "warmups": made, "pools": [pool]})
    clock, path, chance = Clock(), tmp_path / "book.db", random.Random(17)
    holidays, outages, expected = {3, 4, 10, 17, 18, 25}, {6, 20}, {"gmail": 1, "yahoo": 1}

    def start(count: int) -> list[Worker]:
        return [Worker(snapshot, clock, WarmupFile(path, "boot"), n) for n in range(count)]

    workers = start(4)
    for day in range(30):
        clock.now = NOON + day * DAY  # at noon UTC it is the same date in New York
        if day in holidays:
            continue
        for name in ("gmail", "yahoo"):
            cap = schedule.step(expected[name]).cap
            out = name == "yahoo" and day in outages
            for one in workers:
                one.answer = unreached if out else accepted
            demand = 2 * cap + 9
            found = collections.Counter[str]()
            for number in range(demand):
                if number == demand // 3:
                    workers[chance.randrange(4)] = start(1)[0]  # killed, and started again
                    workers[0].answer = workers[1].answer = workers[2].answer = workers[3].answer = (
                        unreached if out else accepted
                    )
                clock.now += 0.17
                item = workers[chance.randrange(4)].send(name)
                while item.outcome is not None and item.outcome.next is Next.POSTPONE:
                    clock.now += 1.0
                    item = workers[chance.randrange(4)].send(name)
                found[item.ip if item.outcome and item.outcome.attempted else "not tried"] += 1
            if out:
                assert found == {"not tried": demand}
                continue
            assert found == {COLD: cap, WARM: demand - cap}, (day, name)
            expected[name] = min(expected[name] + 1, schedule.last_day)
    assert expected == {"gmail": 15, "yahoo": 15}
