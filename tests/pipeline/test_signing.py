"""Which keys sign: what DNS says of them, against a real name server on loopback."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator

import pytest
from reactivex.scheduler import VirtualTimeScheduler

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.events import Event, Notice
from operators.mail.message import InvalidMessage, from_properties
from operators.mail.signing_keys import load
from pipeline.demo.nameserver import DnsTrouble, NameServer
from pipeline.dns.resolver import Resolver
from pipeline.signing import keys as module
from pipeline.signing.keys import LONGEST, SHORTEST, KeyState, Signing
from settings.rules import DkimKey, Snapshot
from settings.rules import key_pairs as keys
from tests.support.keys import ED25519, OTHER, RSA

NAME = "s1._domainkey.a.test"


def published(pem: str) -> str:
    """The record of a key as a zone file has it: in strings of up to 255 characters."""
    record = keys.record_of(load(pem))
    return " ".join(f'"{record[start : start + 200]}"' for start in range(0, len(record), 200))


def rule(number: int = 1, pem: str = RSA, **more: object) -> DkimKey:
    return DkimKey.model_validate({"id": number, "domain": "a.test", "selector": f"s{number}", "key": pem, **more})


def delivery(domain: str = "a.test", **properties: object) -> Delivery:
    message = from_properties({"recipient": "b@example.net", **properties})
    return Delivery(lease=Lease(1, b""), message=message, source=f"From: x@{domain}\r\n\r\nbody\r\n".encode())


class Bench:
    """A signing with its rules, its name server, and a clock that passes when told."""

    def __init__(self, zone: NameServer, resolver: Resolver, *, check_dns: bool = True) -> None:
        self.zone = zone
        self.snapshot = Snapshot()
        self.events: list[Event] = []
        self.now = 1000.0
        self.scheduler = VirtualTimeScheduler()
        self.signing = Signing(
            lambda: self.snapshot,
            resolver.ask,
            self.scheduler,
            check_dns=check_dns,
            report=self.events.append,
            clock=lambda: self.now,
        )

    async def rules(self, *rules: DkimKey) -> None:
        """These are the rules from now on; returns once DNS has been asked about them."""
        self.snapshot = Snapshot({"dkim-keys": rules})
        self.signing.changed(self.snapshot)
        await self.signing.settle(10)

    async def passes(self, seconds: float) -> None:
        """This time passes; returns once DNS has answered what was asked meanwhile."""
        self.now += seconds
        self.scheduler.advance_by(seconds)
        await self.signing.settle(10)

    def state(self, number: int = 1) -> KeyState:
        state = self.signing.state(number)
        assert state is not None
        return state

    def selectors(self, domain: str = "a.test", **properties: object) -> list[str]:
        """Of the keys that would sign."""
        return [key.selector for key in self.signing.keys_of(delivery(domain, **properties))]

    def asked(self, name: str = NAME) -> int:
        return self.zone.queries[name, "TXT"]

    def notices(self) -> list[str]:
        return [event.fields["status"] for event in self.events if isinstance(event, Notice)]


@pytest.fixture
async def bench(zone: NameServer) -> AsyncIterator[Bench]:
    resolver = Resolver(dns_server=[(zone.address, zone.port)], dns_timeout=0.2, dns_attempts=1)
    bench = Bench(zone, resolver)
    yield bench
    await bench.signing.close()
    await resolver.close()


# -- what DNS says ------------------------------------------------------------------------------------------------


async def test_a_published_key_is_valid_and_signs(bench: Bench) -> None:
    """From the first answer on, and no operator is told what is as it should be."""
    bench.zone.add(NAME, "TXT", published(RSA))
    await bench.rules(rule())
    assert (bench.state().status, bench.state().signs, bench.state().why) == ("valid", True, "")
    assert bench.selectors() == ["s1"]
    assert bench.notices() == []


async def test_a_missing_key_does_not_sign(bench: Bench) -> None:
    """Its state says what to publish, and where."""
    await bench.rules(rule())
    state = bench.state()
    assert (state.status, state.signs, state.since) == ("missing", False, 1000.0)
    assert (state.name, state.record) == (NAME, rule().record)
    assert bench.selectors() == []
    assert bench.notices() == ["missing"]


async def test_a_different_key_does_not_sign(bench: Bench) -> None:
    """Nobody could verify what it signs."""
    bench.zone.add(NAME, "TXT", published(OTHER))
    await bench.rules(rule())
    assert (bench.state().status, bench.state().why) == ("different", "another key is there")
    assert bench.selectors() == []


@pytest.mark.parametrize("trouble", list(DnsTrouble))
async def test_a_key_never_seen_does_not_sign_while_dns_is_unreachable(bench: Bench, trouble: DnsTrouble) -> None:
    """Whatever is wrong with the name server."""
    bench.zone.trouble(NAME, trouble)
    await bench.rules(rule())
    assert (bench.state().status, bench.state().signs) == ("unreachable", False)
    assert bench.selectors() == []
    assert bench.notices() == ["unreachable"]


async def test_while_dns_is_unreachable_the_last_answer_holds(bench: Bench) -> None:
    """A valid key signs on, and one that was missing does not begin."""
    bench.zone.add(NAME, "TXT", published(RSA))
    await bench.rules(rule(), rule(2))
    for name in (NAME, "s2._domainkey.a.test"):
        bench.zone.trouble(name, DnsTrouble.SERVFAIL)
    await bench.passes(LONGEST)
    assert [(bench.state(number).status, bench.state(number).signs) for number in (1, 2)] == [
        ("unreachable", True),
        ("unreachable", False),
    ]
    assert bench.selectors() == ["s1"]


# -- when it is asked ---------------------------------------------------------------------------------------------


async def test_the_record_is_asked_for_again_when_its_ttl_ends(bench: Bench) -> None:
    """Not before; a change tells the operator, with the time from which it is so."""
    bench.zone.add(NAME, "TXT", published(RSA), ttl=100)
    await bench.rules(rule())
    await bench.passes(98)
    assert bench.asked() == 1
    bench.zone.add(NAME, "TXT", published(OTHER), ttl=100)
    await bench.passes(2)
    assert (bench.asked(), bench.state().status, bench.state().since) == (2, "different", 1100.0)
    assert bench.selectors() == []
    bench.zone.add(NAME, "TXT", published(RSA), ttl=100)
    await bench.passes(100)
    assert bench.selectors() == ["s1"]
    assert bench.notices() == ["different", "valid"]


@pytest.mark.parametrize(("ttl", "wait"), [(86400, LONGEST), (0, SHORTEST)])
async def test_it_is_asked_neither_too_seldom_nor_too_often(bench: Bench, ttl: int, wait: float) -> None:
    """Every ten minutes at least, every half minute at most."""
    bench.zone.add(NAME, "TXT", published(RSA), ttl=ttl)
    await bench.rules(rule())
    await bench.passes(wait - 1)
    assert bench.asked() == 1
    await bench.passes(1)
    assert bench.asked() == 2


async def test_it_is_not_asked_for_messages(bench: Bench) -> None:
    """However many there are."""
    bench.zone.add(NAME, "TXT", published(RSA))
    await bench.rules(rule())
    for _ in range(100):
        bench.selectors()
    await bench.signing.settle(10)
    assert bench.asked() == 1


async def test_since_stays_while_the_state_does(bench: Bench) -> None:
    """It is the time of the change, not of the last look."""
    await bench.rules(rule())
    await bench.passes(LONGEST)
    assert (bench.asked(), bench.state().since) == (2, 1000.0)


async def test_an_operator_can_have_it_asked_now(bench: Bench) -> None:
    """Who has just published the record need not wait."""
    await bench.rules(rule())
    bench.zone.add(NAME, "TXT", published(RSA))
    state = await bench.signing.check(1)
    assert state is not None
    assert state.status == "valid"
    assert bench.selectors() == ["s1"]
    assert await bench.signing.check(99) is None


async def test_without_dkim_check_dns_every_key_signs(zone: NameServer) -> None:
    """DNS is not asked, and no state is claimed."""
    resolver = Resolver(dns_server=[(zone.address, zone.port)])
    bench = Bench(zone, resolver, check_dns=False)
    await bench.rules(rule())
    own = {"domain": "b.test", "selector": "own", "key": RSA}
    assert bench.selectors(dkim=own) == ["s1", "own"]
    assert bench.signing.state(1) is None
    assert not zone.queries
    await bench.signing.close()


# -- when rules change --------------------------------------------------------------------------------------------


async def test_a_changed_key_must_be_seen_anew(bench: Bench) -> None:
    """At once it signs no more: the record that was seen is that of another key."""
    bench.zone.add(NAME, "TXT", published(RSA))
    await bench.rules(rule())
    bench.snapshot = Snapshot({"dkim-keys": [rule(pem=OTHER)]})
    bench.signing.changed(bench.snapshot)
    assert bench.selectors() == []
    await bench.signing.settle(10)
    assert bench.state().status == "different"


async def test_an_answer_for_a_key_that_has_changed_meanwhile_is_dropped(bench: Bench) -> None:
    """It says nothing of the new one, and the old one is not asked for again."""
    bench.zone.add(NAME, "TXT", published(RSA))
    for pem in (RSA, OTHER):
        bench.snapshot = Snapshot({"dkim-keys": [rule(pem=pem)]})
        bench.signing.changed(bench.snapshot)
    await bench.signing.settle(10)
    assert bench.state().status == "different"
    asked = bench.asked()
    await bench.passes(LONGEST)
    assert bench.asked() == asked + 1


async def test_what_is_not_the_key_changes_without_a_gap(bench: Bench) -> None:
    """Other headers or patterns: the same record is valid still."""
    bench.zone.add(NAME, "TXT", published(RSA))
    await bench.rules(rule())
    bench.snapshot = Snapshot({"dkim-keys": [rule(headers=["X-Id"], canonicalization="simple/simple")]})
    bench.signing.changed(bench.snapshot)
    (key,) = bench.signing.keys_of(delivery())
    assert (key.headers, key.canonicalization) == ({b"x-id"}, "simple/simple")


async def test_a_deleted_key_is_forgotten(bench: Bench) -> None:
    """And not asked for any more."""
    bench.zone.add(NAME, "TXT", published(RSA))
    await bench.rules(rule())
    await bench.rules()
    assert bench.signing.state(1) is None
    await bench.passes(2 * LONGEST)
    assert bench.asked() == 1


async def test_all_keys_whose_patterns_match_sign(bench: Bench) -> None:
    """Without patterns those of the domain itself; what has expired does not."""
    for number in (1, 2, 3, 4, 5):
        bench.zone.add(f"s{number}._domainkey.a.test", "TXT", published(RSA))
    past = datetime.datetime.fromtimestamp(999, datetime.UTC)
    await bench.rules(
        rule(1),
        rule(2, patterns=[{"type": "global"}]),
        rule(3, patterns=[{"type": "wildcard", "pattern": "*.a.test"}, {"type": "regex", "pattern": "^b"}]),
        rule(4, patterns=[{"type": "exact", "pattern": "c.test"}]),
        rule(5, expire=past),
    )
    assert bench.selectors("A.test") == ["s1", "s2"]
    assert bench.selectors("x.a.test") == ["s2", "s3"]
    assert bench.selectors("b.test") == ["s2", "s3"]
    assert bench.selectors("c.test") == ["s2", "s4"]
    assert bench.selectors("d.test") == ["s2"]


# -- messages' own keys -------------------------------------------------------------------------------------------

OWN = {"domain": "b.test", "selector": "own", "key": ED25519}
OWN_NAME = "own._domainkey.b.test"


async def test_a_messages_own_key_signs_besides_those_of_the_rules(bench: Bench) -> None:
    """Whatever its From is."""
    bench.zone.add(NAME, "TXT", published(RSA))
    bench.zone.add(OWN_NAME, "TXT", published(ED25519))
    await bench.rules(rule())
    assert bench.selectors(dkim=OWN) == ["s1", "own"]


async def test_an_own_key_signs_until_dns_says_otherwise(bench: Bench) -> None:
    """No message waits for DNS; it is asked once, and again after the TTL."""
    assert bench.selectors(dkim=OWN) == ["own"]
    assert bench.selectors(dkim=OWN) == ["own"]
    await bench.signing.settle(10)
    assert bench.selectors(dkim=OWN) == []
    assert bench.asked(OWN_NAME) == 1


async def test_an_own_key_signs_while_dns_is_unreachable(bench: Bench) -> None:
    """Nothing has been said against it."""
    bench.zone.trouble(OWN_NAME, DnsTrouble.SERVFAIL)
    bench.selectors(dkim=OWN)
    await bench.signing.settle(10)
    assert bench.selectors(dkim=OWN) == ["own"]


async def test_what_is_known_of_own_keys_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used is forgotten; and no more are looked up at once than LOOKS."""
    monkeypatch.setattr(module, "OWN", 2)
    monkeypatch.setattr(module, "LOOKS", 3)
    for number in range(5):
        assert bench.selectors(dkim={**OWN, "selector": f"own{number}"})
    await bench.signing.settle(10)
    assert [bench.asked(f"own{number}._domainkey.b.test") for number in range(5)] == [1, 1, 1, 0, 0]
    assert bench.selectors(dkim={**OWN, "selector": "own0"}) == ["own0"]
    assert bench.selectors(dkim={**OWN, "selector": "own2"}) == []


async def test_an_own_key_that_cannot_be_used(bench: Bench) -> None:
    """Is the sender's mistake, and said so."""
    with pytest.raises(InvalidMessage, match=r"dkim\[0\]\.key: must be"):
        bench.selectors(dkim={**OWN, "key": "x"})


# -- secrets ------------------------------------------------------------------------------------------------------


async def test_no_state_and_no_event_has_a_private_key(bench: Bench) -> None:
    """Public is the record alone."""
    await bench.rules(rule(pem=ED25519))
    inside = "".join(ED25519.splitlines()[1:-1])
    assert inside[-30:] not in repr(bench.state()) + repr(bench.events) + repr(vars(bench.signing))
    assert bench.events


# -- every message ------------------------------------------------------------------------------------------------


async def test_without_keys_nothing_is_parsed(bench: Bench) -> None:
    """The hot path of most machines: one look at the rules and one at the message."""
    item = delivery()
    assert bench.signing.keys_of(item.but(source=None)) == ()
