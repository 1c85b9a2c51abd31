"""redirect, hold and floods: what the operator's rules do to a delivery."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import pytest
import reactivex as rx

from operators.deliveries.delivery import Delivery, Lease, Route, Target
from operators.deliveries.outcome import Next, Outcome, deferred, failed
from operators.lanes.floods import Active, Floods
from operators.lanes.limits import Limits
from operators.mail.message import from_properties
from operators.stages.hold import hold, in_force
from operators.stages.redirect import redirect
from operators.stages.stage import Stage
from settings.rules import Flood, Pause, Redirect, Rule, Snapshot

NOW = 1_800_000_000.0
LATER = datetime.datetime.fromtimestamp(NOW + 60, datetime.UTC)
BEFORE = datetime.datetime.fromtimestamp(NOW - 60, datetime.UTC)


def delivery(ip: str = "127.0.0.1", addresses: Sequence[str] = ("127.1.0.1",), tags: Sequence[str] = ()) -> Delivery:
    message = from_properties({"recipient": "user@a.example", "mime": "x", "tags": list(tags)})
    route = Route("a.example", tuple(Target("mx.a.example", address) for address in addresses))
    return Delivery(
        lease=Lease(1, b""), message=message, domain="a.example", route=route, ip=ip, lane=f"{ip}/a.example"
    )


def through(operator: Stage, item: Delivery) -> Delivery:
    out: list[Delivery] = []
    rx.of(item).pipe(operator).subscribe(out.append)
    return out[0]


# -- redirect -------------------------------------------------------------------------------------------------


class Told:
    """What a redirect stage told."""

    def __init__(self, *rules: Redirect) -> None:
        self.moved: list[str] = []
        self.loops: list[list[str]] = []
        snapshot = Snapshot({"redirects": rules})
        self.stage = redirect(
            lambda: snapshot,
            lambda: NOW,
            lambda item, ip: self.moved.append(f"{ip} -> {item.ip}"),
            lambda item, chain: self.loops.append(list(chain)),
        )


@pytest.mark.parametrize("target", [{}, {"domain": "a.example"}, {"remote_ip": "127.1.0.1"}])
def test_a_redirect_replaces_the_mta_ip(target: dict[str, str]) -> None:
    """For all mail from it, for a domain, or for a remote IP; the lane follows."""
    told = Told(Redirect(id=1, from_ip="127.0.0.1", to_ip="127.0.0.2", **target))  # type: ignore[arg-type]
    got = through(told.stage, delivery())
    assert (got.ip, got.lane) == ("127.0.0.2", "127.0.0.2/a.example")
    assert told.moved == ["127.0.0.1 -> 127.0.0.2"]


def test_redirects_chain() -> None:
    """The last one's IP sends; it counts as one redirect, and all stand among the rules that have decided."""
    told = Told(
        Redirect(id=1, from_ip="127.0.0.1", to_ip="127.0.0.2"), Redirect(id=2, from_ip="127.0.0.2", to_ip="127.0.0.3")
    )
    got = through(told.stage, delivery())
    assert (got.ip, got.rules) == ("127.0.0.3", ("redirects/1", "redirects/2"))
    assert told.moved == ["127.0.0.1 -> 127.0.0.3"]


def test_a_loop_of_redirects_ends_where_it_began() -> None:
    """It is told, and the message leaves from the IP that was assigned."""
    told = Told(
        Redirect(id=1, from_ip="127.0.0.1", to_ip="127.0.0.2"), Redirect(id=2, from_ip="127.0.0.2", to_ip="127.0.0.1")
    )
    assert through(told.stage, delivery()).ip == "127.0.0.1"
    assert told.loops == [["127.0.0.1", "127.0.0.2", "127.0.0.1"]]
    assert told.moved == []


def test_a_redirect_that_has_ended_or_is_for_another_does_nothing() -> None:
    """Time and target decide."""
    told = Told(
        Redirect(id=1, from_ip="127.0.0.1", to_ip="127.0.0.2", until=BEFORE),
        Redirect(id=2, from_ip="127.0.0.1", to_ip="127.0.0.2", domain="b.example"),
        Redirect(id=3, from_ip="127.0.0.9", to_ip="127.0.0.2"),
    )
    assert through(told.stage, delivery()).ip == "127.0.0.1"


# -- hold -----------------------------------------------------------------------------------------------------


def held(item: Delivery, *pauses: Rule) -> Delivery:
    return through(hold(lambda: Snapshot({"pauses": pauses}), lambda: NOW), item)


@pytest.mark.parametrize(
    "pause",
    [
        {},
        {"ip": "127.0.0.1"},
        {"domain": "a.example"},
        {"remote_ip": "127.1.0.1"},
        {"ip": "127.0.0.1", "domain": "a.example"},
        {"tag": "news"},
        {"until": LATER},
    ],
)
def test_a_pause_parks_what_it_is_for(pause: dict[str, object]) -> None:
    """Everything, from a MTA IP, to a domain or a remote IP, with a tag, until an end: in the queue of the pause."""
    outcome = held(delivery(tags=["news"]), Pause(id=7, **pause)).outcome  # type: ignore[arg-type]
    assert outcome is not None
    assert (outcome.next, outcome.lane) == (Next.PARK, "pause/7")


@pytest.mark.parametrize(
    "pause",
    [{"ip": "127.0.0.2"}, {"domain": "b.example"}, {"remote_ip": "127.1.0.9"}, {"tag": "other"}, {"until": BEFORE}],
)
def test_a_pause_lets_others_pass(pause: dict[str, object]) -> None:
    """Another MTA IP, another target, another tag, or its time is over."""
    assert held(delivery(tags=["news"]), Pause(id=7, **pause)).outcome is None  # type: ignore[arg-type]


def test_a_paused_address_is_taken_out_of_a_route_that_has_others() -> None:
    """The message goes to what is left."""
    got = held(delivery(addresses=("127.1.0.1", "127.1.0.2")), Pause(id=7, remote_ip="127.1.0.1"))
    assert got.outcome is None
    assert got.route is not None
    assert [target.address for target in got.route.targets] == ["127.1.0.2"]


def test_the_parked_queue_of_a_pause_is_blocked_while_it_holds() -> None:
    """It is called in when the pause is gone or over."""
    assert in_force("pause/7", Snapshot({"pauses": [Pause(id=7)]}), NOW)
    assert not in_force("pause/7", Snapshot({"pauses": [Pause(id=7, until=BEFORE)]}), NOW)
    assert not in_force("pause/7", Snapshot(), NOW)
    assert not in_force("127.0.0.1/a.example", Snapshot({"pauses": [Pause(id=7)]}), NOW)


# -- floods ---------------------------------------------------------------------------------------------------

RULE = Flood(id=3, name="too many", pattern="too many connections", pause=60, reduced=600, domain_messages=10)
ANSWER = deferred("intro", "error", "Too many connections from your IP", code=421)


class Watched:
    """Floods on a clock that the test turns."""

    def __init__(self, *rules: Flood) -> None:
        self.now = 100.0
        self.begun: list[Active] = []
        self.floods = Floods(lambda: self.now, self.begun.append)
        self._stage = self.floods.detect(lambda: Snapshot({"floods": rules}))

    def answer(self, outcome: Outcome) -> None:
        through(self._stage, delivery().ended(outcome))


LANE = "127.0.0.1/a.example"


def test_a_matching_answer_pauses_the_lane_then_reduces_it_then_ends() -> None:
    """`pause` seconds of rest, then the pattern's own limits for `reduced` seconds, then back to normal."""
    watched = Watched(RULE)
    watched.answer(ANSWER)
    wait = watched.floods.paused(LANE)
    assert wait is not None
    assert (wait.until, "too many" in wait.why) == (160.0, True)
    watched.now = 161.0
    assert watched.floods.paused(LANE) is None
    assert watched.floods.over(LANE, Limits(domain_connects=5)) == Limits(domain_connects=5, domain_messages=10)
    watched.now = 761.0
    assert watched.floods.over(LANE, Limits()) == Limits()
    assert watched.floods.all() == []


def test_a_second_match_starts_it_over() -> None:
    """From the second answer on."""
    watched = Watched(RULE)
    watched.answer(ANSWER)
    watched.now = 150.0
    watched.answer(ANSWER)
    assert watched.begun[-1].paused_until == 210.0
    assert watched.floods.hits(3) == 2


def test_the_first_pattern_in_the_operator_s_order_wins() -> None:
    """Whatever else would match."""
    general = Flood(id=1, name="any", pattern="*", type="wildcard", order=2)
    watched = Watched(general, Flood(**{**RULE.model_dump(), "order": 1}))
    watched.answer(ANSWER)
    assert watched.begun[0].rule.name == "too many"


def test_acceptance_and_failures_without_an_answer_match_nothing() -> None:
    """Only a receiver's negative answer counts."""
    watched = Watched(Flood(id=1, name="any", pattern="*", type="wildcard"))
    watched.answer(Outcome(state="message", result="accepted", next=Next.DELIVERED, code=250, description="too many"))
    watched.answer(deferred("connect", "timeout", "too many connections"))
    assert watched.begun == []


def test_a_flood_can_be_ended_early() -> None:
    """The operator knows better."""
    watched = Watched(RULE)
    watched.answer(failed("rcptto", "error", "too many connections", code=550))
    assert watched.floods.end(LANE)
    assert watched.floods.paused(LANE) is None
    assert not watched.floods.end(LANE)
