"""How destinations answer, and what waits for its retry."""

from __future__ import annotations

from typing import Any

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.events import Settled, Taken
from operators.deliveries.outcome import Next, Outcome
from operators.mail.message import Message
from pipeline.telemetry.backlog import ELSE, REASONS, SPAN, Backlog
from pipeline.views.state.standing import answers, condition, sentence

IP, DOMAIN, LANE = "192.0.2.1", "big.example", "192.0.2.1/mx.big.example"


class Scene:
    """A backlog on a clock of its own."""

    def __init__(self) -> None:
        self.now = 6000.0
        self.backlog = Backlog(lambda: self.now)

    def settle(self, next_: Next = Next.RETRY, text: str = "try later", count: int = 1, **more: Any) -> None:
        """Messages end like this."""
        ip, tags, retry = more.pop("ip", IP), more.pop("tags", []), more.pop("retry_at", self.now + 600)
        values = {"state": "rcptto", "result": "error", "code": 421, "status": "4.7.28", "description": text, **more}
        if next_ is Next.DELIVERED:
            values |= {"code": 250, "result": "accepted"}
        outcome = Outcome(next=next_, local_ip=ip, **values)
        message = Message(recipient=f"you@{DOMAIN}", tags=tags)
        delivery = Delivery(lease=Lease(id=1, body=b""), message=message, domain=DOMAIN, ip=ip, lane=LANE)
        for _ in range(count):
            self.backlog.count(Settled(time=self.now, delivery=delivery, outcome=outcome, retry_at=retry))

    def take(self, ip: str | None = IP, tags: tuple[str, ...] = (), **lease: Any) -> None:
        """A message that was tried before is taken up again."""
        message = Message(recipient=f"you@{DOMAIN}", tags=list(tags), results=[{"from": ip}])
        taken = Delivery(lease=Lease(id=1, body=b"", **lease), message=message)
        self.backlog.count(Taken(time=self.now, delivery=taken))


def test_a_domain_that_puts_off_nearly_all_of_its_mail_says_so_with_its_words() -> None:
    """How many of how many, how many wait, and the answer that most of them had."""
    scene = Scene()
    scene.settle(Next.DELIVERED, count=41)
    scene.settle(text="unusual rate of mail from <a1@here.example> (id 77a8b9c0d1)", count=700)
    scene.settle(text="unusual rate of mail from <b2@here.example> (id 11aa22bb33)", count=758)
    standing = scene.backlog.standing(domain=DOMAIN)
    assert condition(standing) == "deferring"
    assert sentence(standing) == (
        "1,458 deferred of 1,499 in the last 5 min; 1,458 messages wait for a retry: "
        "421 4.7.28 unusual rate of mail from … (id …)"
    )
    assert [(one.count, one.kind) for one in answers(standing)] == [(1458, "deferred")]


def test_what_waits_is_counted_from_put_off_to_taken_up() -> None:
    """With the time of the next one; what is called in from a parked queue was not waiting."""
    scene = Scene()
    scene.settle(count=3, tags=["spring"], retry_at=scene.now + 60)
    scene.settle(retry_at=scene.now + 900)
    assert scene.backlog.standing(ip=IP).retrying == 4
    assert scene.backlog.standing(tag="spring").retrying == 3
    assert scene.backlog.standing().next_retry == scene.now + 60
    scene.take(tags=("spring",))
    scene.take(recalled=LANE)
    scene.take(redelivered=True)
    scene.take(ip="192.0.2.9")
    assert scene.backlog.standing(domain=DOMAIN).retrying == 3
    assert scene.backlog.standing(tag="spring").retrying == 2


def test_a_destination_that_only_waits_still_defers() -> None:
    """Its attempts are more than five minutes ago; nothing has become better since."""
    scene = Scene()
    scene.settle(count=50, retry_at=scene.now + 3600)
    scene.now += SPAN * 60 + 60
    standing = scene.backlog.standing(domain=DOMAIN)
    assert (standing.ended, standing.retrying, condition(standing)) == (0, 50, "deferring")
    assert sentence(standing) == "50 messages wait for a retry"


def test_given_up_is_not_put_off() -> None:
    """A destination that refuses for good fails."""
    scene = Scene()
    scene.settle(Next.DELIVERED, count=5)
    scene.settle(Next.FAIL, code=550, status="5.7.1", text="blocked", count=9)
    standing = scene.backlog.standing(domain=DOMAIN)
    assert (condition(standing), standing.bounced, standing.retrying) == ("failing", 9, 0)


def test_a_few_errors_make_no_state() -> None:
    """A share of few says nothing."""
    scene = Scene()
    scene.settle(count=3)
    assert condition(scene.backlog.standing(domain=DOMAIN)) == ""


def test_what_is_up_to_us_is_nobodys_answer() -> None:
    """A full disk of ours does not make a destination defer."""
    scene = Scene()
    scene.settle(count=50, state="storage", code=None)
    assert scene.backlog.standing().ended == 0


def test_it_is_known_of_each_ip_domain_lane_and_tag_and_of_what_they_have_in_common() -> None:
    """As the views select them."""
    scene = Scene()
    scene.settle(tags=["a"], count=2)
    scene.settle(tags=["b"], ip="192.0.2.2")
    assert {ip: one.deferred for ip, one in scene.backlog.by("ip").items()} == {IP: 2, "192.0.2.2": 1}
    assert scene.backlog.by("domain", ip=IP)[DOMAIN].deferred == 2
    assert scene.backlog.by("lane")[LANE].deferred == 3
    assert scene.backlog.standing(tag="a", domain=DOMAIN).deferred == 2
    assert scene.backlog.tags()["b"].deferred == 1
    assert scene.backlog.standing(domain="other.example").ended == 0


def test_answers_that_are_all_different_are_bounded() -> None:
    """Past so many a minute they are others."""
    scene = Scene()
    for number in range(REASONS + 30):
        scene.settle(text=f"no {'x' * number}")
    reasons = scene.backlog.standing().reasons
    assert len(reasons) == REASONS + 1
    assert reasons[0][0].text == ELSE and reasons[0][1] == 30


def test_the_queue_can_say_what_waited_before_the_start() -> None:
    """Its word replaces what was counted."""
    scene = Scene()
    scene.settle(count=5)
    scene.backlog.recount({(IP, DOMAIN): {9000.0: 7, 9600.0: 2}}, tags=False)
    standing = scene.backlog.standing(ip=IP)
    assert (standing.retrying, standing.next_retry) == (9, 9000.0)
