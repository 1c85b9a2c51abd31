"""Bodies that are hard to use, end to end through the stages: each comes to an end, and none comes round for ever."""

from __future__ import annotations

import email
import random
import time

import msgspec
import pytest
import reactivex as rx
from reactivex.scheduler import VirtualTimeScheduler

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.dsn import bounce
from operators.deliveries.outcome import Next, Outcome, deferred, failed
from operators.deliveries.settlement import Retry, Settlement
from operators.mail.message import SECURITIES, Message
from operators.stages.compose import compose
from operators.stages.conclude import conclude
from operators.stages.decode import DEEPEST, decode
from operators.stages.expire import expire
from operators.stages.settle import settle
from operators.stages.stage import stage
from pipeline.smtp.client.tls import NEEDED

NOW = 1_800_000_000.0
MAXSIZE = 1_000_000
ACCEPTED = Outcome(state="message", result="accepted", next=Next.DELIVERED, code=250)
REJECTED = failed("rcptto", "error", "Empfänger unbekannt", code=550, status="5.1.1", host="mx.a.example")
LATER = deferred("rcptto", "error", "später", code=451)
QUEUES = {"results": "results", "success": "success", "failure": "failure", "retry": "retry", "refused": "refused"}
USUAL = {"recipient": '"a@b.example"', "envelope": '"me@s.example"', "mime": '"Subject: x\\r\\n\\r\\ny"',
         "dsn": '{"notify": "FAILURE,SUCCESS"}'}  # fmt: skip
STRANGE = [
    "null", "true", "0", "-1", "1.5", "-0", "1e999", "99999999999999", "123456789012345678901234567890",
    '""', '"a\\r\\nb"', '"\\u0000"', '"\\ud800"', '"ü@b.example"', '"9999-12-31 23:59:59"', '"0001-01-01 00:00:00"',
    "[]", "[0]", "[-1]", "[null]", "[[]]", "[99999999999999999]", '[{"from": []}]', '[{"from": {}}]',
    "{}", '{"": 1}', '{"\\ud800": 1}', '{"time": ""}', '{"time": "9999-12-31 23:59:59"}', '{"remove": ["X"]}',
    '{"results": ""}', '{"results": "\\ud800"}', '{"hostname": "x", "port": -1}', '{"text": "x", "subject": "\\ud800"}',
    '{"notify": "FAILURE", "envid": "\\r\\nX: y", "orcpt": "rfc822;ü@b"}',
    '"Subject: =?utf-8?q?=ff?=\\r\\nFrom: ä\\r\\n\\r\\nx"', '"\\ud800: x\\r\\n\\r\\n"',
    '"Subject: a\\u0000b\\r\\n\\r\\nx"',
]  # fmt: skip


class Chain:
    """The stages around a receiver that always answers the same."""

    def __init__(self, answer: Outcome) -> None:
        self.settlements: list[Settlement] = []
        self.faults: list[object] = []
        self.stages = [
            decode(MAXSIZE, time.monotonic),
            expire(3600, lambda: NOW, self._fault),
            compose(self._fault),
            stage("answer", lambda item: item if item.outcome is not None else item.ended(answer)),
            conclude(3600, [60], 0, lambda: NOW, random.Random(1).random, self._fault),
            settle(self._settle, QUEUES, 3600, lambda: NOW, VirtualTimeScheduler(), self._fault, _notice),
        ]

    def _fault(self, *what: object) -> None:
        self.faults.append(what)

    def _settle(self, lease: Lease, settlement: Settlement, confirmed: object) -> None:
        self.settlements.append(settlement)

    def ends(self, body: bytes) -> Settlement:
        """What becomes of a body; no stage has failed over it."""
        rx.of(Lease(1, body, queued=NOW)).pipe(*self.stages).subscribe()
        assert self.faults == []
        [settlement] = self.settlements
        return settlement


def _notice(delivery: Delivery, when: float) -> tuple[str, bytes] | None:
    properties = bounce(delivery, "mta.example", "id@mta.example", when)
    return ("outbox", msgspec.json.encode(properties)) if properties else None


@pytest.mark.parametrize("answer", [ACCEPTED, REJECTED, LATER], ids=lambda answer: answer.next.value)
@pytest.mark.parametrize("name", [*(name.replace("_", "-") for name in Message.__struct_fields__), "own", "extracted"])
def test_whatever_a_property_holds_the_message_comes_to_an_end(name: str, answer: Outcome) -> None:
    """Accepted and given up are ends; what comes back has a time, and was not accepted."""
    for value in STRANGE:
        properties = {**USUAL, name: value}
        body = "{" + ", ".join(f'"{key}": {json}' for key, json in properties.items()) + "}"
        settlement = Chain(answer).ends(body.encode())
        assert settlement.then is None or (isinstance(settlement.then, Retry) and settlement.then.at > NOW)
        assert settlement.then is None or {"nextattempt", "delayed"} & {
            name,
            *msgspec.json.decode(settlement.then.body),
        }


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("security", "tls", "security: 'tls' is none of off, optional, opportunistic, required, verified"),
        ("smarthost", {"hostname": ""}, "smarthost.hostname: expected `str` of length >= 1"),
        ("smarthost", {"hostname": "[192.0.2.1]"}, "smarthost.hostname: '[192.0.2.1]' is no host name"),
        ("smarthost", {"hostname": "a\r\nb"}, r"smarthost.hostname: 'a\r\nb' is no host name"),
        ("smarthost", {"hostname": "a.example", "port": 70000}, "smarthost.port: expected `int` <= 65535"),
        ("smarthost", {"hostname": "a.example", "port": -1}, "smarthost.port: expected `int` >= 0"),
    ],
)
def test_a_way_that_cannot_be_is_refused_before_anything_is_tried(name: str, value: object, said: str) -> None:
    """S2. A port beyond 65535 was another port, one below 0 a fault of the network, retried for days."""
    body = msgspec.json.encode({"recipient": "a@b.example", name: value})
    ended: list[Delivery] = []
    rx.of(Lease(1, body)).pipe(decode(MAXSIZE, time.monotonic)).subscribe(ended.append)
    outcome = ended[0].outcome
    assert outcome is not None and (outcome.state, outcome.result, outcome.next) == ("process", "invalid", Next.FAIL)
    assert outcome.description.startswith(said)


def test_each_security_is_known_to_the_client() -> None:
    """What is taken can be honoured."""
    assert set(SECURITIES) == set(NEEDED)


@pytest.mark.parametrize("depth", [DEEPEST - 1, DEEPEST, 500, *range(900, 1010, 5), 2000, 100_000])
def test_a_body_nested_too_deep_is_refused_before_it_is_sent(depth: int) -> None:
    """From 940 levels on it could be read and sent, but its result not be written: it would be sent again and again."""
    body = b'{"recipient": "a@b.example", "mime": "x", "own": ' + b"[" * depth + b"]" * depth + b"}"
    settlement = Chain(ACCEPTED).ends(body)
    assert settlement.then is None
    assert [name for name, _ in settlement.publish] == (["results", "success"] if depth < DEEPEST else ["refused"])


def test_a_body_of_which_the_queue_has_only_the_beginning_is_refused_with_its_length() -> None:
    """The queue keeps no more of what is too long; the copy tells how long it was."""
    chain = Chain(ACCEPTED)
    lease = Lease(1, b"{", size=200_000_000)
    rx.of(lease).pipe(*chain.stages).subscribe()
    [(name, body)] = chain.settlements[0].publish
    assert name == "refused"
    assert msgspec.json.decode(body) == {
        "error": "body of 200000000 bytes: at most 1000000 are taken",
        "body": "ew==",
        "size": 200_000_000,
    }


@pytest.mark.parametrize(("outcome", "ended"), [(ACCEPTED, True), (REJECTED, True), (LATER, False)])
def test_a_message_that_has_ended_is_not_sent_again_though_its_end_cannot_be_told(
    outcome: Outcome, ended: bool
) -> None:
    """K1. By a fault of ours: what can be told is told. What has not ended comes back later, its attempt counted."""
    seen: list[Settlement] = []

    def settler(lease: Lease, settlement: Settlement, confirmed: object) -> None:
        seen.append(settlement)

    def broken(delivery: Delivery, when: float) -> None:
        raise ZeroDivisionError

    item = Delivery(lease=Lease(1, b"{}", queued=NOW), message=Message(maxdelivertime="never"), outcome=outcome)
    operator = settle(settler, QUEUES, 1, lambda: NOW, VirtualTimeScheduler(), notify=broken)
    rx.of(item).pipe(operator).subscribe()
    assert (seen[0].then is None) is ended
    assert {name for name, _ in seen[0].publish} <= ({"results", "success", "failure"} if ended else {"retry"})
    assert ended or len(msgspec.json.decode(seen[0].then.body)["results"]) == 1  # type: ignore[union-attr]


def test_a_notification_of_an_international_address_is_ascii_but_for_its_to() -> None:
    """RFC 6533 3; and what a receiver or an application said in more than one line is one."""
    properties = {**USUAL, "recipient": '"ü@b.example"', "envelope": '"ä@s.example"',
                  "dsn": '{"notify": "FAILURE", "envid": "1\\r\\nX: 2"}'}  # fmt: skip
    body = "{" + ", ".join(f'"{key}": {json}' for key, json in properties.items()) + "}"
    notice = msgspec.json.decode(dict(Chain(REJECTED).ends(body.encode()).publish)["outbox"])
    assert notice["recipient"] == "ä@s.example"
    mail = email.message_from_bytes(notice["mime"].encode())
    whole, one = mail.get_payload()[1].get_payload()  # type: ignore[union-attr]
    assert whole["Original-Envelope-Id"] == r"1\x{D}\x{A}X: 2"
    assert one["Final-Recipient"] == r"utf-8; \x{FC}@b.example"
    assert one["Diagnostic-Code"] == r"smtp; 550 5.1.1 Empf\x{E4}nger unbekannt"
