"""What the resolver remembers, and how often it asks: against a real name server on loopback."""

import asyncio

import pytest

from operators.deliveries.delivery import Route
from operators.deliveries.outcome import Next, Outcome
from operators.deliveries.routes import Found
from pipeline.demo.nameserver import DnsTrouble, NameServer
from pipeline.dns.name_servers import QUESTIONS
from pipeline.dns.resolver import FAILURE_TTL, Resolver
from tests.pipeline.asking import Clock, find, outcome, targets


async def test_many_ask_once(zone: NameServer, resolver: Resolver):
    """Concurrent look-ups of one name are one look-up; so are those of domains that share a host."""
    for domain in ("a.test", "b.test"):
        zone.add(domain, "MX", "10 mx.test.")
    zone.add("mx.test", "A", "127.0.1.1")
    found = await asyncio.gather(*(find(resolver, domain) for domain in ("a.test", "b.test") for _ in range(100)))
    assert len(found) == 200
    assert zone.queries == {("a.test", "MX"): 1, ("b.test", "MX"): 1, ("mx.test", "A"): 1, ("mx.test", "AAAA"): 1}


async def test_without_ipv6_aaaa_is_asked_for_where_there_is_no_a(zone: NameServer):
    """A host with both costs a question less; one with AAAA alone is known as ever."""
    resolver = Resolver(dns_server=[(zone.address, zone.port)], ipv6=False)
    for host in ("both.test", "new.test"):
        zone.add(host, "AAAA", "::1")
    zone.add("both.test", "A", "127.0.1.1")
    assert await targets(resolver, "both.test") == [("both.test", "127.0.1.1")]
    assert await targets(resolver, "new.test") == [("new.test", "::1")]
    assert ("both.test", "AAAA") not in zone.queries and ("new.test", "AAAA") in zone.queries
    await resolver.close()


async def test_an_answer_is_kept_for_its_ttl(zone: NameServer, resolver: Resolver, clock: Clock):
    """The shortest of all that were needed, and known without asking until then."""
    zone.add("a.test", "MX", "10 mx.test.", ttl=300)
    zone.add("mx.test", "A", "127.0.1.1", ttl=60)
    await find(resolver, "a.test")
    clock.now += 50
    assert isinstance(resolver.peek("a.test"), Route)
    clock.now += 10
    assert resolver.peek("a.test") is None


async def test_a_busy_domain_never_waits(zone: NameServer, resolver: Resolver, clock: Clock):
    """In the last tenth of its TTL an answer that is used is asked for again, and used meanwhile."""
    zone.add("a.test", "A", "127.0.1.1", ttl=100)
    await find(resolver, "a.test")
    clock.now += 95
    assert await targets(resolver, "a.test") == [("a.test", "127.0.1.1")]
    await asyncio.gather(*resolver._tasks)
    assert zone.queries["a.test", "MX"] == 2
    clock.now += 50
    assert isinstance(resolver.peek("a.test"), Route)


async def test_what_is_known_outlives_a_failure(zone: NameServer, resolver: Resolver, clock: Clock):
    """When asking again ahead of time fails, the answer holds until its own end."""
    zone.add("a.test", "A", "127.0.1.1", ttl=100)
    await find(resolver, "a.test")
    zone.trouble("a.test", DnsTrouble.SERVFAIL)
    clock.now += 95
    resolver.peek("a.test")
    await asyncio.gather(*resolver._tasks)
    assert isinstance(resolver.peek("a.test"), Route)
    clock.now += 5
    assert await outcome(resolver, "a.test") == ("dns", "error", Next.RETRY)


async def test_an_answer_is_kept_for_the_least_ttl(zone: NameServer, clock: Clock):
    """`dns-min-ttl` makes short TTLs longer."""
    zone.add("a.test", "A", "127.0.1.1", ttl=1)
    resolver = Resolver(dns_server=[(zone.address, zone.port)], dns_min_ttl=600, clock=clock)
    await find(resolver, "a.test")
    clock.now += 500
    assert isinstance(resolver.peek("a.test"), Route)


async def test_an_answer_without_ttl_is_kept_for_a_second(zone: NameServer, resolver: Resolver, clock: Clock):
    """TTL 0: or it would be asked for with every message."""
    zone.add("a.test", "A", "127.0.1.1", ttl=0)
    assert await targets(resolver, "a.test") == [("a.test", "127.0.1.1")]
    assert resolver.peek("a.test") is not None
    clock.now += 1
    assert resolver.peek("a.test") is None


async def test_a_name_that_does_not_exist_is_remembered(zone: NameServer, resolver: Resolver, clock: Clock):
    """RFC 2308 5: for the negative TTL of its zone."""
    await find(resolver, "nowhere.test")
    clock.now += 299
    assert isinstance(resolver.peek("nowhere.test"), Outcome)
    clock.now += 1
    assert resolver.peek("nowhere.test") is None


async def test_a_failure_is_remembered_for_a_moment(zone: NameServer, resolver: Resolver, clock: Clock):
    """A dead name server is not asked for every message, and soon asked again."""
    zone.trouble("a.test", DnsTrouble.SERVFAIL)
    await find(resolver, "well.test")  # or it is asked once more, without EDNS
    await find(resolver, "a.test")
    await find(resolver, "a.test")
    assert zone.queries["a.test", "MX"] == 1
    zone.trouble("a.test", None)
    zone.add("a.test", "A", "127.0.1.1")
    clock.now += FAILURE_TTL
    assert await targets(resolver, "a.test") == [("a.test", "127.0.1.1")]


async def test_memory_is_bounded(zone: NameServer):
    """The name that was not used for longest is forgotten."""
    resolver = Resolver(dns_server=[(zone.address, zone.port)], names=3)
    for name in ("a", "b", "c", "a", "d"):
        zone.add(f"{name}.test", "A", "127.0.1.1")
        await find(resolver, f"{name}.test")
    assert [name for name in "abcd" if resolver.peek(f"{name}.test")] == ["a", "c", "d"]
    assert len(resolver._routes) == len(resolver._hosts) == 3


async def test_questions_at_once_are_bounded(zone: NameServer, monkeypatch: pytest.MonkeyPatch):
    """No more than QUESTIONS are under way; the others wait for their turn."""
    monkeypatch.setattr("pipeline.dns.name_servers.YOUNG", 60.0)
    asked: list[bytes] = []
    reached = asyncio.Event()

    def silent(wire: bytes, over_tcp: bool = False) -> bytes | None:
        asked.append(wire)
        if len(asked) == QUESTIONS:
            reached.set()
        return None

    zone.answer = silent  # type: ignore[method-assign]
    resolver = Resolver(dns_server=[(zone.address, zone.port)], dns_timeout=60)
    found = asyncio.gather(*(find(resolver, f"{n}.test") for n in range(QUESTIONS + 100)))
    await reached.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(asked) == QUESTIONS
    await resolver.close()
    assert len(await found) == QUESTIONS + 100


async def test_one_that_fails_does_not_take_the_others_along(zone: NameServer, resolver: Resolver):
    """An exception in one caller's callback stays there."""
    zone.add("a.test", "A", "127.0.1.1")

    def fails(found: Found) -> None:
        raise RuntimeError

    resolver.lookup("a.test", fails)
    assert await targets(resolver, "a.test") == [("a.test", "127.0.1.1")]


async def test_close_returns_those_who_wait(zone: NameServer, resolver: Resolver):
    """Shutdown does not wait for a silent name server."""
    zone.trouble("a.test", DnsTrouble.SILENCE)
    found: list[Found] = []
    resolver.lookup("a.test", found.append)
    await asyncio.sleep(0)
    await resolver.close()
    assert [isinstance(f, Outcome) and f.next for f in found] == [Next.RETURN]
