"""Lanes: even rates, connection limits, bounded memory, parking and calling in, on virtual time."""

import bisect
import collections
import itertools

from operators.deliveries.delivery import Target
from operators.deliveries.outcome import Next, deferred
from operators.lanes.lanes import HORIZON, REST
from operators.lanes.limits import Limits
from tests.support.virtual import World, delivery


def most_in_a_minute(moments: list[float]) -> int:
    return max(bisect.bisect_left(moments, begin + 60) - index for index, begin in enumerate(moments))


def test_a_lane_without_limits_sends_at_once() -> None:
    """What has a slot does not wait."""
    world = World()
    world.send(3)
    assert world.moments == [0.0, 0.0, 0.0]


def test_messages_leave_evenly_at_the_lane_s_rate() -> None:
    """60 a minute: at most 60 in every window of 60 s, one a second, no burst at the minute."""
    world = World(domain_messages=60)
    world.send(25)
    world.run(200)
    moments = world.moments
    assert len(moments) == 25
    assert most_in_a_minute(moments) <= 60
    assert min(later - earlier for earlier, later in itertools.pairwise(moments)) > 0.99


def test_a_changed_rate_holds_from_the_next_message() -> None:
    """From 60 to 600 a minute the next message already comes faster."""
    world = World(domain_messages=60)
    world.send(5)
    world.limits = Limits(domain_messages=600)
    world.run(0.5)
    world.send(1)
    assert len(world.moments) >= 2
    world.run(1.0)
    assert len(world.moments) == 6


def test_a_domain_never_has_more_connections_than_allowed() -> None:
    """Three at once, also while connections fail and new ones begin."""
    world = World(domain_connections=3, ip_connections=0)
    world.keep_open = False
    world.send(60)
    world.run(200)
    assert len(world.gone) == 60
    assert world.most_open["127.1.0.1"] == 3


def test_a_remote_ip_never_has_more_connections_than_allowed() -> None:
    """Two groups on one address share what the address allows."""
    world = World(ip_connections=4)
    for _ in range(20):
        world.send(1, "a.example")
        world.send(1, "b.example")
    world.run(100)
    assert len(world.gone) == 40
    assert world.most_open["127.1.0.1"] == 4


def test_all_connections_together_are_bounded_and_idle_ones_give_way() -> None:
    """With `max-connections` 5, twenty domains still all get their mail."""
    world = World(maximum=5)
    for index in range(20):
        world.send(1, f"d{index}.example", address=f"127.1.0.{index + 1}")
    world.run(60)
    assert len(world.gone) == 20
    assert world.most_total <= 5


def test_new_connections_keep_to_their_rate() -> None:
    """12 new connections a minute are one in five seconds, however many messages wait."""
    world = World(domain_connects=12)
    world.keep_open = False
    world.send(10)
    world.run(100)
    gaps = [later - earlier for earlier, later in zip(world.moments, world.moments[1:], strict=False)]
    assert len(world.gone) == 10
    assert min(gaps) > 4.99


def test_idle_connections_are_used_again_then_closed() -> None:
    """A second message takes the open connection; after `connection-maxidle` nothing is left open."""
    world = World(connection_idle=5.0)
    world.send(1)
    world.run(2)
    world.send(1)
    assert world.most_open["127.1.0.1"] == 1
    world.run(10)
    assert world.slots.open == 0


def test_an_idle_time_of_zero_is_unlimited() -> None:
    """The connection stays open until the receiver, or `max-connections`, ends it."""
    world = World(connection_idle=0.0)
    world.send(1)
    world.run(600)
    assert world.slots.open == 1


def test_a_lane_leaves_half_of_the_credit_to_others() -> None:
    """One stalled lane holds at most half of the credit, as soon as that is known; the rest is parked."""
    world = World(credit=100, queue=0)
    world.answer = lambda delivery: None
    world.send(90)
    world.run(3)
    lane = world.lanes.get("127.0.0.1/a.example")
    assert lane is not None
    assert lane.memory <= 50
    assert world.credit >= 45
    assert sum(map(len, world.parked.values())) == 90 - lane.memory


def test_a_quick_lane_holds_what_goes_within_a_second() -> None:
    """However much that is: to park it and call it in again would be more work than to deliver it."""
    world = World(credit=400, queue=10, ip_connections=0)
    world.answer = lambda item: 0.05
    world.flood(3)
    assert len(world.gone) > 10_000
    assert not world.ended


def test_a_lane_that_has_become_slow_parks_what_it_holds_too_much() -> None:
    """And calls in what there is room for, oldest first: the order stays."""
    world = World(credit=300, queue=10, ip_connections=20)
    world.answer = lambda item: 0.05
    world.flood(3)
    world.answer = lambda item: 5.0
    world.run(15)
    lane = world.lanes.get("127.0.0.1/a.example")
    assert lane is not None
    assert len(lane.waiting) <= 10
    assert world.credit >= 250
    world.answer = lambda item: 0.05
    world.run(100)
    assert world.numbers() == list(range(1, world.number + 1))


def test_what_a_quick_lane_holds_counts_as_free_for_the_others() -> None:
    """A lane with a rate holds what can go soon, though a quick one has taken all of the credit."""
    world = World(credit=400, ip_connections=0)
    world.answer = lambda item: 0.3
    world.by_group["slow.example"] = Limits(domain_messages=60)
    world.flood(5)
    world.send(world.credit)
    world.credit += 20
    world.send(20, "slow.example", address="127.1.0.9")
    world.run(0.1)
    assert not world.ended


def test_a_stalled_lane_does_not_slow_another() -> None:
    """Messages behind the stalled domain's leave as if it were not there."""
    world = World(credit=100)
    world.answer = lambda item: None if item.domain == "stalled.example" else 1.0
    for _ in range(200):
        world.send(3, "stalled.example", address="127.1.0.9")
        world.send(1, "a.example")
        world.run(1)
    assert len(world.numbers("a.example")) == 200


def test_a_stalled_receiver_holds_few_slots() -> None:
    """A new lane begins with a small window, and grows it only with answers."""
    world = World(ip_connections=0)
    world.answer = lambda delivery: None
    world.send(100)
    assert len(world.gone) == 5


def test_what_is_parked_comes_back_in_order() -> None:
    """A lane with more than its memory parks, and calls in what it parked, oldest first, before anything newer."""
    world = World(queue=10, domain_connections=1)
    world.answer = lambda delivery: 0.1
    for _ in range(10):
        world.send(10)
        world.run(0.2)
    world.run(60)
    assert world.numbers() == list(range(1, 101))


def test_a_slow_rate_holds_only_what_can_go_soon() -> None:
    """One a second: no more than the next half minute's messages wait in memory."""
    world = World(domain_messages=60)
    world.send(200)
    world.run(0.5)
    lane = world.lanes.get("127.0.0.1/a.example")
    assert lane is not None
    assert lane.memory <= HORIZON
    world.run(230)
    assert len(world.gone) == 200


def test_a_lane_without_progress_parks_what_waits() -> None:
    """After half a minute the waiting messages give their credit back; those under way stay."""
    world = World(credit=100)
    world.answer = lambda delivery: None
    world.send(20)
    world.run(HORIZON + 3)
    assert world.credit == 95
    assert sum(map(len, world.parked.values())) == 15


def test_when_all_hosts_are_skipped_the_message_is_put_off_at_once() -> None:
    """No attempt is made on an address that failed a moment ago."""
    world = World()
    world.slots.skip("127.0.0.1", Target("a.example", "127.1.0.1"), "connection refused", 60.0)
    world.send(1)
    assert not world.gone
    outcome = world.ended[0].outcome
    assert outcome is not None
    assert (outcome.state, outcome.result, outcome.next) == ("connect", "error", Next.RETRY)
    assert "connection refused" in outcome.description
    assert outcome.skipped


def test_failures_narrow_the_window_and_answers_widen_it() -> None:
    """Halved when a connection fails, one more with each answer."""
    world = World(ip_connections=0)
    world.send(4)
    world.run(2)
    lane = world.lanes.get("127.0.0.1/a.example")
    assert lane is not None
    assert lane.window == 9
    world.outcome = lambda item: deferred("connect", "timeout", "no answer")
    world.send(1)
    world.run(2)
    assert lane.window == 4


def test_idle_lanes_are_forgotten() -> None:
    """100,000 domains leave nothing behind once they are at rest."""
    world = World(credit=200_000, connection_idle=1.0)
    for index in range(1000):
        world.send(1, f"d{index}.example", address=f"127.{index // 250}.{index % 250}.1")
    world.run(REST + 10)
    assert world.lanes.all() == []
    assert world.slots.open == 0
    assert world.slots.remembered == 0


def test_a_lane_is_remembered_as_long_as_it_has_learned_something() -> None:
    """One that had a single message is as good as new after some seconds; a window that has grown is kept longer."""
    world = World()
    world.send(50, "busy.example")
    world.send(1, "once.example", address="127.1.0.2")
    world.run(20)
    assert [lane.group for lane in world.lanes.all()] == ["busy.example"]
    world.run(REST)
    assert world.lanes.all() == []


def test_closing_gives_back_what_waits() -> None:
    """Waiting deliveries return to the queue as if never taken; later ones too."""
    world = World(domain_connections=1)
    world.send(5)
    world.lanes.close()
    world.send(1)
    returned = [item.lease.id for item in world.ended if item.outcome and item.outcome.next is Next.RETURN]
    assert returned == [2, 3, 4, 5, 6]


def test_the_outlook_of_a_busy_lane_is_later_than_that_of_an_idle_one() -> None:
    """`assign` picks the lane that can send soonest."""
    world = World(domain_messages=60)
    world.send(10)
    assert world.lanes.outlook("127.0.0.1/a.example") > world.lanes.outlook("127.0.0.2/a.example")


def test_a_paused_lane_parks_and_goes_on_by_itself() -> None:
    """A flood's pause: nothing leaves, nothing holds credit, and at its end all comes back in order."""
    world = World(credit=100)
    world.paused = {"127.0.0.1/a.example": 40.0}
    world.send(20)
    world.run(30)
    assert world.gone == []
    assert world.credit == 100
    world.run(60)
    assert world.numbers() == list(range(1, 21))


def test_what_waits_is_looked_at_again_when_the_rules_change() -> None:
    """A redirect or pause made now holds for messages that wait in their lane already."""
    world = World(domain_messages=6)
    world.send(3)
    world.lanes.reconsider()
    assert [item.lease.id for item in world.ended] == [2, 3]
    world.run(40)
    assert world.numbers() == [1, 2, 3]


def test_what_comes_back_from_a_pause_stays_in_order_behind_what_its_lane_has_parked() -> None:
    """However much was held, and however little of it the lane has room for."""
    world = World(credit=40, queue=5, domain_connections=1)
    world.answer = lambda delivery: 0.05
    for number in range(1, 301):
        item = delivery(number, "a.example", "127.0.0.1", "127.1.0.1")
        world.parked.setdefault("pause/1", collections.deque()).append(item)
        world.counts["pause/1"] = number
    world.run(120)
    assert world.numbers() == list(range(1, 301))


def test_an_open_connection_that_waits_for_its_remote_ip_s_rate_goes_on_in_time() -> None:
    """One connection, 60 a minute to the address: one a second, not one whenever the connection idles out."""
    world = World(domain_connections=1, ip_messages=60)
    world.answer = lambda item: 0.1
    world.send(10)
    world.run(15)
    assert len(world.gone) == 10


def test_a_busy_lane_gives_others_their_connections() -> None:
    """All connections are one lane's, which has mail for them without end: another lane still gets some."""
    world = World(maximum=5)
    world.send(60)
    for _ in range(20):
        world.send(10)
        world.send(1, "b.example", address="127.1.0.2")
        world.run(1)
    assert len(world.numbers("b.example")) >= 18
    assert world.most_total == 5


def test_more_lanes_than_connections_take_turns() -> None:
    """Each with mail without end: none is left out."""
    world = World(maximum=2)
    world.answer = lambda item: 0.1
    for _ in range(60):
        for name in "abcd":
            world.send(5, f"{name}.example", address=f"127.1.0.{ord(name)}")
        world.run(1)
    sent = [len(world.numbers(f"{name}.example")) for name in "abcd"]
    assert min(sent) > max(sent) / 2


def test_a_busy_lane_gives_others_their_connections_to_an_address_they_share() -> None:
    """Also where its idle ones would be kept for ever."""
    world = World(ip_connections=3, connection_idle=0.0)
    world.send(20)
    world.run(20)
    assert world.slots.of("127.0.0.1/a.example")[1] == 3
    world.send(1, "b.example")
    world.run(2)
    assert len(world.numbers("b.example")) == 1
    assert world.most_open["127.1.0.1"] == 3


def test_a_pause_gives_back_the_credit_of_what_waits_already() -> None:
    """However long it lasts; it began with the answer to one of them."""
    world = World(credit=100, domain_connections=1)
    world.send(20)
    world.paused = {"127.0.0.1/a.example": 3600.0}
    world.run(2)
    assert world.credit == 100
    assert len(world.parked["127.0.0.1/a.example"]) == 19


def test_one_connection_that_hangs_does_not_hold_up_what_is_parked() -> None:
    """The lane's other slots are free."""
    world = World(credit=100)
    world.answer = lambda item: None if item.lease.id == 1 else 1.0
    world.send(1)
    world.paused = {"127.0.0.1/a.example": 40.0}
    world.send(10)
    world.run(60)
    assert world.numbers() == list(range(1, 12))


def test_what_is_on_its_way_to_be_parked_is_not_overtaken() -> None:
    """Not even while the queue has not confirmed that it is parked."""
    world = World(queue=1, domain_messages=60)
    world.send(2)
    world.lanes.settled(world.gone[0][1].ended(world.outcome(world.gone[0][1])))
    world.send(1)
    assert [item.lease.id for item in world.ended] == [2, 3]
