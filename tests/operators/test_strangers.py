"""Nobody waits for a stranger: any number of receivers that hang or crawl, and a domain that is well beside them."""

from __future__ import annotations

import pytest

from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import Next, deferred
from tests.support.virtual import World, accepted

CREDIT = 1000


def strangers(world: World, count: int, each: int) -> None:
    """Mail for so many hanging domains, as fast as there is credit."""
    for number in range(count * each):
        while not world.credit:
            world.run(0.1)
        host = number % count
        world.send(1, f"h{host}.example", address=f"127.4.{host // 250}.{host % 250}")


def healthy(world: World, seconds: float, rate: int) -> int:
    """How many of `rate` a second, offered for so long, a healthy domain gets in that time and a second more."""
    before = len(world.numbers())
    for _ in range(round(seconds * 10)):
        world.send(min(rate // 10, world.credit))
        world.run(0.1)
    world.run(1)
    return len(world.numbers()) - before


def hangs(item: Delivery) -> float | None:
    return None if item.domain.startswith("h") else 0.05


def crawls(item: Delivery) -> float | None:
    """It greets, and answers for minutes."""
    return 600.0 if item.domain.startswith("h") else 0.05


@pytest.mark.parametrize("stranger", [hangs, crawls])
@pytest.mark.parametrize("count", [1, 3, 50, 1000])
def test_a_healthy_domain_keeps_its_rate_beside_any_number_of_strangers(count: int, stranger: object) -> None:
    """S2: at least 95 % of its rate alone, however many hang; known before or not."""
    world = World(credit=CREDIT)
    world.answer = stranger  # type: ignore[assignment]
    strangers(world, count, 20 if count < 1000 else 2)
    world.run(10)
    world.send(1)
    world.run(10)
    assert healthy(world, 10, 200) >= 0.95 * 2000


@pytest.mark.parametrize("credit", [20, 100])
def test_little_credit_is_not_all_for_strangers(credit: int) -> None:
    """S2: shares are of what there is."""
    world = World(credit=credit)
    world.answer = hangs
    strangers(world, 300, 3)
    world.run(2)
    assert world.credit >= credit // 4
    assert healthy(world, 10, 40) >= 0.95 * 400


def test_few_connections_are_not_all_for_strangers() -> None:
    """S2: `max-connections` has a share for lanes that answer, and a place for a new lane within seconds."""
    world = World(maximum=20)
    world.answer = hangs
    strangers(world, 100, 3)
    world.run(60)
    assert world.most_total < 20
    assert healthy(world, 10, 40) >= 0.8 * 400  # the first one waits its turn among a hundred new ones


def test_a_receiver_that_takes_its_time_is_asked_again_with_all_of_it() -> None:
    """S2: hurried while places are few, its mail is parked, which is no attempt; later it has the RFC's time-out."""
    world = World(maximum=20)
    patience: list[float | None] = []

    def hurried_at_first(item: Delivery) -> float | None:
        if item.domain == "late.example":
            patience.append(item.slot.patience)
        return 40.0 if item.slot.patience is None else None

    world.answer = hurried_at_first
    world.outcome = lambda item: accepted(item) if item.domain == "late.example" else deferred("intro", "timeout", "")
    strangers(world, 40, 1)
    world.run(5)
    world.send(1, "late.example", address="127.6.0.1")
    world.run(600)
    assert patience[0] is not None and patience[-1] is None
    ends = [item.outcome for item in world.ended if item.domain == "late.example"]
    assert all(outcome is not None and outcome.next is Next.PARK for outcome in ends)
    assert not world.counts


def test_mail_for_many_strangers_is_kept_in_order_and_complete() -> None:
    """S2, 250 means 250: what waits for a place is parked, once each, and nothing else."""
    world = World(maximum=20, credit=100)
    world.answer = hangs
    strangers(world, 60, 5)
    world.run(120)
    held = [item.lease.id for lane in world.lanes.all() for item in lane.waiting]
    parked = [item.lease.id for queue in world.parked.values() for item in queue]
    hung = world.lanes._gate.held
    assert len(set(held + parked)) == len(held + parked)
    assert len(held) + len(parked) + hung == 300
