"""settle and results: what replaces a message on the queue, by its outcome."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import msgspec
import pytest
import reactivex as rx
from reactivex.scheduler import VirtualTimeScheduler

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.outcome import Next, Outcome, TlsFacts, deferred, failed, parked, postponed
from operators.deliveries.results import entry, refusal, without_secrets
from operators.deliveries.settlement import Park, Retry, Settlement, Unstorable
from operators.mail.message import encode, from_properties, timestamp
from operators.stages.settle import plan, settle

NOW = 1_800_000_000.0
QUEUES = {"results": "results", "success": "success", "failure": "failure", "retry": "retry"}
ACCEPTED = Outcome(
    state="message", result="accepted", next=Next.DELIVERED, code=250, status="2.0.0", description="queued",
    mta="mx.a.example", local_ip="192.0.2.7", remote_ip="192.0.2.1", messages=3, sent_connection=900, sent_data=300,
    attempted=True, dsn=True,
)  # fmt: skip


def delivery(outcome: Outcome, **properties: object) -> Delivery:
    message = from_properties({"recipient": "user@a.example", "mime": "Subject: Hi\r\n\r\nx", "own": 7, **properties})
    return Delivery(lease=Lease(1, encode(message), queued=NOW), message=message, domain="a.example", outcome=outcome)


def planned(outcome: Outcome, **properties: object) -> Settlement:
    return plan(delivery(outcome, **properties), QUEUES, 3600, NOW)


def bodies(settlement: Settlement) -> dict[str, dict[str, object]]:
    return {queue: json.loads(body) for queue, body in settlement.publish}


def test_what_is_delivered_goes_to_success_and_results() -> None:
    """The message as it came, without mime, with its custom properties and one more entry in `results`."""
    settlement = planned(ACCEPTED)
    assert settlement.then is None
    assert sorted(bodies(settlement)) == ["results", "success"]
    body = bodies(settlement)["success"]
    assert "mime" not in body
    assert body["own"] == 7
    assert body["extracted"]["subject"] == "Hi"  # type: ignore[index]
    assert body["results"] == [
        {
            "state": "message", "result": "accepted", "time": timestamp(NOW), "mta": "mx.a.example",
            "from": "192.0.2.7", "to": "192.0.2.1", "messages": 3, "sent": {"connection": 900, "data": 300},
            "code": 250, "status": "2.0.0", "description": "queued", "dsn": True,
        }
    ]  # fmt: skip


def test_a_certificate_is_read_when_a_result_tells_of_it() -> None:
    """Once, and not for mail that is delivered without one."""
    read: list[int] = []

    def certificate() -> dict[str, object]:
        read.append(1)
        return {"verified": False}

    outcome = msgspec.structs.replace(ACCEPTED, tls=TlsFacts({"cipher": {"version": "TLSv1.3"}}, certificate))
    plan(delivery(outcome), {}, 3600, NOW)
    assert (outcome.tls or {}).get("cipher") == {"version": "TLSv1.3"}
    assert not read
    for _ in range(2):
        assert entry(outcome, NOW)["certificate"] == {"verified": False}
    assert read == [1]
    assert "certificate" in entry(msgspec.convert(msgspec.to_builtins(outcome), Outcome), NOW)


def test_keepmime_keeps_the_mime_in_the_results() -> None:
    """As the application asked."""
    assert bodies(planned(ACCEPTED, keepmime=True))["results"]["mime"] == "Subject: Hi\r\n\r\nx"


def test_what_is_given_up_goes_to_failure_and_results() -> None:
    """Nothing stays on the outbox."""
    settlement = planned(failed("rcptto", "error", "no such user", code=550))
    assert sorted(bodies(settlement)) == ["failure", "results"]
    assert settlement.then is None


def test_what_is_retried_goes_back_with_its_time_and_its_deadline() -> None:
    """All state travels in the message: attempts, next attempt, and when it is given up."""
    settlement = planned(deferred("rcptto", "error", "later", code=451, until=NOW + 600))
    assert isinstance(settlement.then, Retry)
    assert settlement.then.at == NOW + 600
    body = json.loads(settlement.then.body)
    assert body["mime"]
    assert body["nextattempt"] == {"time": timestamp(NOW + 600)}
    assert body["maxdelivertime"] == timestamp(NOW + 3600)
    assert len(body["results"]) == 1
    assert "mime" not in bodies(settlement)["retry"]


def test_a_postponed_message_goes_back_as_it_came() -> None:
    """Not an attempt: no entry, no copy."""
    settlement = planned(postponed(NOW + 60, "early"))
    assert not settlement.publish
    assert isinstance(settlement.then, Retry)
    assert "results" not in json.loads(settlement.then.body)


def test_a_parked_message_waits_in_its_lane_until_it_expires_at_the_latest() -> None:
    """What is parked past its `maxdelivertime` expires there too."""
    assert planned(parked("ip/group", "full")).then == Park("ip/group", NOW + 3600)


def test_a_returned_message_is_given_back_unchanged() -> None:
    """As if it had never been taken."""
    assert planned(Outcome(state="process", result="error", next=Next.RETURN)) == Settlement(give_back=True)


def test_a_refused_body_goes_to_failure_where_no_refused_queue_is_set() -> None:
    """With the reason, and the body as base64."""
    outcome = Outcome(state="process", result="invalid", next=Next.REFUSE, description="not JSON")
    body = bodies(planned(outcome))["failure"]
    assert body["error"] == "not JSON"
    assert "refused" in dict(plan(delivery(outcome), {"refused": "refused", **QUEUES}, 1, NOW).publish)


def test_a_refused_body_of_any_size_is_quoted_only_so_far() -> None:
    """A copy that no queue would take tells nobody anything."""
    outcome = Outcome(state="process", result="invalid", next=Next.REFUSE, description="too large")
    item = delivery(outcome).but(lease=Lease(1, b"x" * 3_000_000))
    ((_, body),) = plan(item, QUEUES, 1, NOW).publish
    assert len(json.loads(body)["body"]) == 4 * -(-1_000_000 // 3)
    assert json.loads(body)["size"] == 3_000_000


@pytest.mark.parametrize(
    ("queues", "expected"),
    [
        ({"success": "mine"}, ["mine", "results"]),
        ({"success": None}, ["results"]),
        ({"results": None, "success": None}, []),
        ({"failure": "mine"}, ["results", "success"]),
    ],
)
def test_a_message_names_its_own_result_queues(queues: dict[str, str | None], expected: list[str]) -> None:
    """A name overrides, null turns off, absent keeps the configured one."""
    assert sorted(bodies(planned(ACCEPTED, queues=queues))) == expected


def test_an_outcome_without_a_connection_has_no_connection_properties() -> None:
    """No `mta`, `from`, `to`, `messages`."""
    assert entry(failed("dns", "error", "no such domain"), NOW).keys() == {"state", "result", "time", "description"}


def test_a_queue_that_fails_is_asked_again_until_it_confirms() -> None:
    """The delivery counts as settled only then."""
    scheduler, tries, out = VirtualTimeScheduler(), [], []

    def queue(lease: Lease, settlement: Settlement, confirmed: Callable[[Exception | None], None]) -> None:
        tries.append(scheduler.clock)
        confirmed(OSError("disk full") if len(tries) < 3 else None)

    operator = settle(queue, QUEUES, 3600, lambda: NOW, scheduler)
    rx.of(delivery(ACCEPTED)).pipe(operator).subscribe(out.append)
    assert out == []
    scheduler.advance_by(10)
    assert tries == [0, 1, 2]
    assert len(out) == 1


def test_a_message_whose_end_cannot_be_worked_out_is_put_off_not_lost() -> None:
    """A fault of ours never leaves a lease unsettled."""
    seen: list[Settlement] = []
    broken = delivery(parked("lane", "full"), maxdelivertime="never")
    operator = settle(
        lambda lease, settlement, confirmed: seen.append(settlement), QUEUES, 1, lambda: NOW, VirtualTimeScheduler()
    )
    rx.of(broken).pipe(operator).subscribe(lambda _: None)
    assert seen == [Settlement(then=Retry(broken.lease.body, NOW + 60))]


class Small:
    """A queue that takes so many bytes of a message at most."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, list[Settlement]()

    def __call__(self, lease: Lease, settlement: Settlement, confirmed: Callable[[Exception | None], None]) -> None:
        if isinstance(settlement.then, Retry) and len(settlement.then.body) > self.most:
            error = Unstorable("too large")
            error.most = self.most
            confirmed(error)
        else:
            self.taken.append(settlement)
            confirmed(None)


def settled_in(queue: Small, **properties: object) -> Delivery:
    """What becomes of a message that is to be retried."""
    stage = settle(queue, QUEUES, 3600, lambda: NOW, VirtualTimeScheduler())
    done: list[Delivery] = []
    outcome = deferred("rcptto", "error", "later" * 20, code=451, until=NOW + 60)
    rx.just(delivery(outcome, **properties)).pipe(stage).subscribe(done.append)
    return done[0]


LONG = {"state": "rcptto", "result": "error", "time": timestamp(NOW), "description": "x" * 900, "cipher": {"bits": 256}}


def test_a_retry_that_outgrew_its_broker_is_stored_with_shorter_attempts() -> None:
    """K12: of the earlier ones only what they came to; there are as many, since that decides on the next one."""
    queue = Small(1500)
    assert settled_in(queue, results=[LONG] * 5).outcome.next is Next.RETRY  # type: ignore[union-attr]
    [settlement] = queue.taken
    assert isinstance(settlement.then, Retry)
    assert settlement.then.at == NOW + 60
    results = json.loads(settlement.then.body)["results"]
    assert [len(one) for one in results] == [3] * 5 + [5]
    assert json.loads(settlement.then.body)["mime"] == "Subject: Hi\r\n\r\nx"


def test_a_retry_that_no_shortening_makes_fit_is_given_up() -> None:
    """K12: by the ordinary rule, with its results and its last answer; it is not sent again at each restart."""
    queue = Small(100)
    given_up = settled_in(queue, results=[LONG])
    assert given_up.outcome is not None
    assert (given_up.outcome.next, given_up.outcome.state) == (Next.FAIL, "storage")
    [settlement] = queue.taken
    assert settlement.then is None
    assert sorted(bodies(settlement)) == ["failure", "results"]
    attempts = bodies(settlement)["failure"]["results"]
    assert [(one["state"], one.get("code")) for one in attempts] == [  # type: ignore[attr-defined]
        ("rcptto", None), ("rcptto", 451), ("storage", None),
    ]  # fmt: skip


@pytest.mark.parametrize("outcome", [ACCEPTED, failed("data", "error", "no"), deferred("data", "error", "later")])
def test_secrets_stay_with_us(outcome: Outcome) -> None:
    """S4: results have no smarthost's password and no private key; the message that is retried has both."""
    smarthost = {"hostname": "h", "username": "u", "password": "pa55"}
    dkim = [{"domain": "d", "selector": "s", "key": "-----PEM"}]
    settlement = planned(outcome, smarthost=smarthost, dkim=dkim, keepmime=True)
    assert settlement.publish
    for body in bodies(settlement).values():
        assert body["smarthost"] == {"hostname": "h", "username": "u"}
        assert body["dkim"] == [{"domain": "d", "selector": "s"}]
    if isinstance(settlement.then, Retry):
        kept = json.loads(settlement.then.body)
        assert (kept["smarthost"], kept["dkim"]) == (smarthost, dkim)


@pytest.mark.parametrize("value", ["pa55", ["pa55"], [{"key": "pa55"}, "pa55"], 1, None])
def test_secrets_of_an_unusable_message_stay_with_us_too(value: object) -> None:
    """S4: whatever form they have; also where the body is quoted whole."""
    found = without_secrets({"smarthost": value, "dkim": value, "own": 1})
    assert "pa55" not in json.dumps(found)
    assert found["own"] == 1
    body = json.dumps({"smarthost": {"password": "pa55"}, "own": 7}).encode()
    [(_, refused)] = refusal(Lease(1, body), {"refused": "refused"}, "why")
    quoted = base64.b64decode(json.loads(refused)["body"])
    assert (b"pa55" in quoted, b'"own":7' in quoted) == (False, True)
