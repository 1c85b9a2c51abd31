"""Pools: which MTA IP of its pool a message leaves from."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import pytest
import reactivex as rx

from operators.deliveries.delivery import Delivery, Lease, Route, Target
from operators.deliveries.outcome import Next
from operators.lanes.pools import Pools
from operators.lanes.slots import Wait
from operators.mail.message import from_properties
from operators.stages.assign import assign
from operators.stages.hold import hold
from settings.rules import Pause, Pool, Rule, Snapshot
from settings.rules.models import PoolMember
from tests.operators.pooling import NOW, pools_of

A, B, C = "192.0.2.1", "192.0.2.2", "192.0.2.3"


def pool(*members: str, name: str = "gold") -> Pool:
    return Pool(id=1, name=name, members=tuple(PoolMember.model_validate(member) for member in members))


def rules(*found: Rule) -> Snapshot:
    kinds = {Pool: "pools", Pause: "pauses"}
    return Snapshot({kind: [rule for rule in found if type(rule) is model] for model, kind in kinds.items()})


def delivery(domain: str = "a.example", **properties: Any) -> Delivery:
    message = from_properties({"recipient": f"user@{domain}", "mime": "x", "pool": "gold", **properties})
    route = Route(f"mx.{domain}", (Target(f"mx.{domain}", "198.51.100.1"),))
    return Delivery(lease=Lease(1, b""), message=message, domain=domain, route=route)


def assigned(pools: Pools, *items: Delivery, default: str = "192.0.2.99") -> list[Delivery]:
    out: list[Delivery] = []
    stage = assign(lambda message: message.ips or [default], lambda lane: (0.0, 0), pools.choose)
    rx.of(*items).pipe(stage).subscribe(out.append)
    return out


def chosen(pools: Pools, **properties: Any) -> str:
    return assigned(pools, delivery(**properties))[0].ip


@pytest.mark.parametrize("members", [(A, B), (f"{A}=3", B), (f"{A}=97", f"{B}=3"), (f"{A}=5", f"{B}=3", f"{C}=2")])
def test_the_weights_hold(members: tuple[str, ...]) -> None:
    """Over 10,000 messages within 5 % of each member's share."""
    gold = pool(*members)
    pools, total = pools_of(rules(gold)), sum(member.weight for member in gold.members)
    drawn = collections.Counter(item.ip for item in assigned(pools, *[delivery()] * 10_000))
    for member in gold.members:
        share = 10_000 * member.weight / total
        assert abs(drawn[member.ip] - share) <= 0.05 * share


def test_a_pattern_in_the_mail_meets_none_in_the_pool() -> None:
    """Mail that goes to two domains in turn leaves from both MTA IPs to each of them."""
    pools = pools_of(rules(pool(A, B)))
    found = collections.Counter(
        (domain, assigned(pools, delivery(domain))[0].ip) for _ in range(500) for domain in ("a.example", "b.example")
    )
    assert len(found) == 4
    assert min(found.values()) > 200


def test_a_change_works_on_the_next_message() -> None:
    """A member is taken out: the next message does not leave from it."""
    before, after = rules(pool(A, B)), rules(pool(B))
    now = [before]
    pools = Pools(lambda: now[0], lambda: NOW, lambda ip: True, lambda lane: None, lambda lane: (0.0, 0), lambda: 0.0)
    assert chosen(pools) == A
    now[0] = after
    assert [chosen(pools) for _ in range(3)] == [B, B, B]


@pytest.mark.parametrize(
    ("snapshot", "ours"),
    [
        (rules(), lambda ip: True),
        (rules(pool(name="other")), lambda ip: True),
        (rules(pool()), lambda ip: True),
        (rules(pool(A, B)), lambda ip: False),
        (rules(pool("2001:db8::1", "2001:db8::2")), lambda ip: True),
    ],
    ids=["none", "another", "empty", "not of this machine", "cannot reach"],
)
def test_a_pool_without_a_usable_mta_ip_is_bind_error(snapshot: Snapshot, ours: Callable[[str], bool]) -> None:
    """Never another IP."""
    outcome = assigned(pools_of(snapshot, ours=ours), delivery())[0].outcome
    assert outcome is not None
    assert (outcome.state, outcome.result, outcome.next) == ("bind", "error", Next.FAIL)


def test_ips_outrank_the_pool() -> None:
    """A message with both leaves from its `ips`."""
    assert chosen(pools_of(rules(pool(A))), ips=[C]) == C


def test_a_message_without_a_pool_has_the_default_ones() -> None:
    """Pools are for those that name them."""
    assert chosen(pools_of(rules(pool(A))), pool=None) == "192.0.2.99"


@pytest.mark.parametrize(
    "pause",
    [{"ip": A}, {"ip": A, "domain": "a.example"}, {"ip": A, "remote_ip": "198.51.100.1"}, {"ip": A, "tag": "t"}],
)
def test_a_paused_member_is_passed_over(pause: dict[str, str]) -> None:
    """For the mail that the pause is for: of its domain, remote IP, tag, or all."""
    pools = pools_of(rules(pool(f"{A}=100", B), Pause(id=7, **pause)))  # type: ignore[arg-type]
    assert {chosen(pools, tags=["t"]) for _ in range(20)} == {B}


def test_a_member_is_not_passed_over_for_other_mail() -> None:
    """Its pause is for another domain."""
    pools = pools_of(rules(pool(A, B), Pause(id=7, ip=A, domain="b.example")))
    assert {chosen(pools) for _ in range(20)} == {A, B}


def test_a_flooded_member_is_passed_over_for_that_destination() -> None:
    """For others it sends on."""
    pools = pools_of(
        rules(pool(A, B)), paused=lambda lane: Wait("flood", 99.0) if lane == f"{A}/mx.a.example" else None
    )
    assert {chosen(pools) for _ in range(20)} == {B}
    assert {chosen(pools, domain="b.example") for _ in range(20)} == {A, B}


def test_where_all_are_flooded_the_first_to_end_is_waited_for() -> None:
    """A flood ends sooner than an operator's pause."""
    ends = {A: 99.0, B: 50.0}
    pools = pools_of(
        rules(pool(A, B, C), Pause(id=7, ip=C)), paused=lambda lane: Wait("flood", ends[lane.partition("/")[0]])
    )
    assert {chosen(pools) for _ in range(10)} == {B}


def test_the_members_that_can_send_soonest_take_turns() -> None:
    """One that must wait for its limits is left out while another need not."""
    pools = pools_of(rules(pool(f"{A}=100", B, C)), outlook=lambda lane: (9.0 if lane.startswith(A) else 0.0, 0))
    assert {chosen(pools) for _ in range(20)} == {B, C}


def test_a_retry_leaves_from_the_member_it_left_from() -> None:
    """Unless that one is passed over now."""
    before = [{"state": "rcptto", "result": "error", "from": A}]
    assert {chosen(pools_of(rules(pool(A, f"{B}=100"))), results=before) for _ in range(10)} == {A}
    assert chosen(pools_of(rules(pool(A, B), Pause(id=7, ip=A))), results=before) == B


# -- all members paused ---------------------------------------------------------------------------------------


def parked(snapshot: Snapshot, item: Delivery | None = None) -> str | None:
    """The parked queue that a message goes to."""
    pools, out = pools_of(snapshot), list[Delivery]()
    moved = assigned(pools, item or delivery())[0]
    rx.of(moved).pipe(hold(lambda: snapshot, lambda: NOW, queue=pools.parked_queue)).subscribe(out.append)
    return out[0].outcome.lane if out[0].outcome is not None else None


def test_mail_waits_only_where_all_members_are_paused() -> None:
    """In a queue of the pool, until the first of the pauses ends."""
    gold, one, two = pool(A, B), Pause(id=7, ip=A), Pause(id=9, ip=B)
    assert parked(rules(gold, one)) is None
    queue = parked(rules(gold, one, two))
    assert queue == "pool/gold/7+9"
    assert pools_of(rules(gold, one, two)).blocked(queue)
    assert not pools_of(rules(gold, two)).blocked(queue)


def test_a_new_member_sends_what_waits() -> None:
    """And a pool that is gone ends it."""
    pause = Pause(id=7, ip=A)
    queue = parked(rules(pool(A), pause))
    assert queue == "pool/gold/7"
    assert pools_of(rules(pool(A), pause)).blocked(queue)
    assert not pools_of(rules(pool(A, B), pause)).blocked(queue)
    assert not pools_of(rules(pause)).blocked(queue)


def test_a_pause_of_all_mta_ips_has_one_queue() -> None:
    """A domain's pause holds the mail of pools like any other."""
    assert parked(rules(pool(A, B), Pause(id=7, domain="a.example"))) == "pause/7"


def test_a_message_with_ips_waits_in_the_queue_of_its_pause() -> None:
    """Its pool does not count."""
    assert parked(rules(pool(A, B), Pause(id=7, ip=C)), delivery(ips=[C])) == "pause/7"
