"""The resolver against a real name server on loopback."""

from collections.abc import AsyncIterator

import pytest

from operators.deliveries.delivery import Route
from operators.deliveries.outcome import Next
from operators.deliveries.routes import DnsStatus
from pipeline.demo.nameserver import DnsTrouble, NameServer
from pipeline.dns.resolver import Resolver
from tests.pipeline.asking import find, outcome, targets


@pytest.fixture
async def impatient(zone: NameServer) -> AsyncIterator[Resolver]:
    resolver = Resolver(dns_server=[(zone.address, zone.port)], dns_timeout=0.2, dns_attempts=2)
    yield resolver
    await resolver.close()


# -- the cases of RFC 5321 5.1 and RFC 7505 ---------------------------------------------------------------------------


async def test_the_hosts_of_a_domain_are_its_mx(zone: NameServer, resolver: Resolver):
    """By preference, with all their addresses, families in turn."""
    zone.add("a.test", "MX", "20 mx2.test.", "10 MX1.test.")
    zone.add("mx1.test", "A", "127.0.1.1", "127.0.1.2")
    zone.add("mx1.test", "AAAA", "::1")
    zone.add("mx2.test", "A", "127.0.2.1")
    first, second, third, last = await targets(resolver, "a.test")
    assert {first, third} == {("mx1.test", "127.0.1.1"), ("mx1.test", "127.0.1.2")}  # name servers turn them round
    assert (second, last) == (("mx1.test", "::1"), ("mx2.test", "127.0.2.1"))


async def test_domains_with_the_same_mx_are_one_group(zone: NameServer, resolver: Resolver):
    """Their shared host is looked up once."""
    zone.add("mx.test", "A", "127.0.1.1")
    for domain in ("a.test", "b.test"):
        zone.add(domain, "MX", "10 mx.test.")
    routes = [await find(resolver, domain) for domain in ("a.test", "b.test")]
    assert [route.group for route in routes if isinstance(route, Route)] == ["mx.test", "mx.test"]
    assert zone.queries["mx.test", "A"] == 1


async def test_null_mx(zone: NameServer, resolver: Resolver):
    """RFC 7505: `MX 0 .` fails at once."""
    zone.add("a.test", "MX", "0 .")
    assert await outcome(resolver, "a.test") == ("dns", "error", Next.FAIL)


async def test_no_mx(zone: NameServer, resolver: Resolver):
    """RFC 5321 5.1: the domain's own address."""
    zone.add("a.test", "A", "127.0.1.1")
    assert await targets(resolver, "a.test") == [("a.test", "127.0.1.1")]


async def test_neither_mx_nor_address(zone: NameServer, resolver: Resolver):
    """The name exists, and takes no mail."""
    zone.add("a.test", "TXT", '"nothing here"')
    assert await outcome(resolver, "a.test") == ("dns", "error", Next.FAIL)


async def test_the_domain_is_an_alias(zone: NameServer, resolver: Resolver):
    """RFC 5321 5.1: the alias is followed, to its MX or else its address."""
    zone.add("a.test", "CNAME", "real.test.")
    zone.add("real.test", "MX", "10 mx.test.")
    zone.add("mx.test", "A", "127.0.1.1")
    zone.add("b.test", "CNAME", "mx.test.")
    assert await targets(resolver, "a.test") == [("mx.test", "127.0.1.1")]
    assert await targets(resolver, "b.test") == [("b.test", "127.0.1.1")]


async def test_an_mx_that_is_an_alias(zone: NameServer, resolver: Resolver):
    """Forbidden by RFC 2181 10.3, common, and works."""
    zone.add("a.test", "MX", "10 mail.test.")
    zone.add("mail.test", "CNAME", "mx.test.")
    zone.add("mx.test", "A", "127.0.1.1")
    assert await targets(resolver, "a.test") == [("mail.test", "127.0.1.1")]


async def test_aliases_in_a_circle(zone: NameServer, resolver: Resolver):
    """Permanent: asking again does not help."""
    zone.add("a.test", "CNAME", "b.test.")
    zone.add("b.test", "CNAME", "a.test.")
    assert await outcome(resolver, "a.test") == ("dns", "error", Next.FAIL)


async def test_nxdomain(resolver: Resolver):
    """Fails at once."""
    assert await outcome(resolver, "nowhere.test") == ("dns", "error", Next.FAIL)


@pytest.mark.parametrize("trouble", [DnsTrouble.SERVFAIL, DnsTrouble.REFUSED, DnsTrouble.GARBAGE])
async def test_a_failing_name_server(zone: NameServer, impatient: Resolver, trouble: DnsTrouble):
    """Retried: it may answer later."""
    zone.trouble("a.test", trouble)
    state, _, then = await outcome(impatient, "a.test")
    assert (state, then) == ("dns", Next.RETRY)


async def test_a_silent_name_server(zone: NameServer, impatient: Resolver):
    """Asked `dns-attempts` times at most, then a time-out that is retried."""
    zone.trouble("a.test", DnsTrouble.SILENCE)
    assert await outcome(impatient, "a.test") == ("dns", "timeout", Next.RETRY)
    assert 1 <= zone.queries["a.test", "MX"] <= 2


async def test_no_name_server():
    """Nobody listens there: retried."""
    server = NameServer()
    await server.start()
    await server.stop()
    resolver = Resolver(dns_server=[(server.address, server.port)], dns_timeout=0.2, dns_attempts=1)
    state, _, then = await outcome(resolver, "a.test")
    assert (state, then) == ("dns", Next.RETRY)


async def test_a_truncated_answer_comes_over_tcp(zone: NameServer, resolver: Resolver):
    """RFC 7766: nothing of a long answer is lost."""
    zone.add("a.test", "MX", *(f"{n} a-long-name-of-a-mail-exchanger-{n}.test." for n in range(40)))
    zone.add("a-long-name-of-a-mail-exchanger-0.test", "A", "127.0.1.1")
    assert await targets(resolver, "a.test") == [("a-long-name-of-a-mail-exchanger-0.test", "127.0.1.1")]
    assert zone.over_tcp == 1


async def test_aaaa_only(zone: NameServer, resolver: Resolver):
    """An IPv6 host is a host."""
    zone.add("a.test", "MX", "10 mx.test.")
    zone.add("mx.test", "AAAA", "::1")
    assert await targets(resolver, "a.test") == [("mx.test", "::1")]


async def test_a_dead_first_mx(zone: NameServer, resolver: Resolver):
    """A first MX whose name does not exist, or cannot be looked up, does not hold up the others."""
    zone.add("a.test", "MX", "10 gone.test.", "20 broken.test.", "30 mx.test.")
    zone.trouble("broken.test", DnsTrouble.SERVFAIL)
    zone.add("mx.test", "A", "127.0.1.1")
    assert await targets(resolver, "a.test") == [("mx.test", "127.0.1.1")]


async def test_an_mx_that_no_name_can_be(zone: NameServer, resolver: Resolver):
    """An MX record holds any bytes; those that are no host name are no host."""
    zone.add("a.test", "MX", r"10 a\032b\000\010.test.", "20 mx.test.")
    zone.add("mx.test", "A", "127.0.1.1")
    assert await targets(resolver, "a.test") == [("mx.test", "127.0.1.1")]
    assert {name for name, _ in zone.queries} == {"a.test", "mx.test"}


async def test_an_mx_that_is_an_ip_address(zone: NameServer):
    """K6. It is no name (RFC 1035 3.3.9), and some domains have no other: the address is taken for what it is."""
    zone.add("a.test", "MX", "10 127.0.1.1.", "20 mx.test.")
    zone.add("b.test", "MX", "10 127.0.0.1.")
    zone.add("mx.test", "A", "127.0.1.2")
    resolver = Resolver(dns_server=[(zone.address, zone.port)], ours=lambda ip, port: ip == "127.0.0.1")
    assert await targets(resolver, "a.test") == [("127.0.1.1", "127.0.1.1"), ("mx.test", "127.0.1.2")]
    assert await outcome(resolver, "b.test") == ("dns", "error", Next.FAIL)
    assert {name for name, _ in zone.queries} == {"a.test", "b.test", "mx.test"}


async def test_an_mx_to_ourselves(zone: NameServer):
    """RFC 5321 5.1: mail loops back to myself, permanent; a better host is still tried."""
    zone.add("a.test", "MX", "10 us.test.", "20 mx.test.")
    zone.add("b.test", "MX", "10 mx.test.", "20 us.test.")
    zone.add("us.test", "A", "127.0.0.1")
    zone.add("mx.test", "A", "127.0.1.1")
    resolver = Resolver(dns_server=[(zone.address, zone.port)], ours=lambda ip, port: (ip, port) == ("127.0.0.1", 25))
    assert await outcome(resolver, "a.test") == ("dns", "error", Next.FAIL)
    assert await targets(resolver, "b.test") == [("mx.test", "127.0.1.1")]


async def test_an_international_domain(zone: NameServer, resolver: Resolver):
    """Looked up by its A-labels."""
    zone.add("xn--bcher-kva.test", "A", "127.0.1.1")
    assert await targets(resolver, "bücher.test") == [("xn--bcher-kva.test", "127.0.1.1")]


async def test_what_needs_no_look_up(zone: NameServer, resolver: Resolver):
    """An address literal is its own host; what can be no name is unusable."""
    assert await targets(resolver, "[127.0.1.1]") == [("127.0.1.1", "127.0.1.1")]
    assert await targets(resolver, "[ipv6:::1]") == [("::1", "::1")]
    assert await targets(resolver, "127.0.1.1", 25) == [("127.0.1.1", "127.0.1.1")]
    assert await outcome(resolver, "a..test") == ("process", "invalid", Next.FAIL)
    assert zone.queries.total() == 0


async def test_localhost_is_this_machine(zone: NameServer, resolver: Resolver):
    """RFC 6761 6.3: without asking anybody."""
    assert await targets(resolver, "localhost", 2525) == [("localhost", "127.0.0.1"), ("localhost", "::1")]
    assert zone.queries.total() == 0


async def test_other_records(zone: NameServer, resolver: Resolver):
    """PTR for the EHLO name, TXT for DKIM keys, strings joined (RFC 6376 3.6.2.2)."""
    zone.add("1.0.0.127.in-addr.arpa", "PTR", "MTA.test.")
    zone.add("s._domainkey.a.test", "TXT", '"v=DKIM1; " "p=abc"')
    assert (await resolver.ask("1.0.0.127.in-addr.arpa", "PTR")).records == ("mta.test",)
    assert (await resolver.ask("s._domainkey.a.test", "TXT")).records == (b"v=DKIM1; p=abc",)
    assert (await resolver.ask("none._domainkey.a.test", "TXT")).status is DnsStatus.MISSING


# -- smarthosts, overrides, the sink ----------------------------------------------------------------------------------


async def test_a_smarthost_has_no_mx(zone: NameServer, resolver: Resolver):
    """Its own address and port, and a group of its own."""
    zone.add("relay.test", "MX", "10 elsewhere.test.")
    zone.add("relay.test", "A", "127.0.1.1")
    found = await find(resolver, "relay.test", 587)
    assert isinstance(found, Route)
    assert (found.group, found.targets[0].address, found.targets[0].port) == ("relay.test:587", "127.0.1.1", 587)


async def test_an_override_works_on_the_next_message(zone: NameServer):
    """It comes before DNS and before what is remembered, and its group is the domain."""
    zone.add("a.test", "A", "127.0.1.1")
    rules: dict[str, list[str]] = {}
    resolver = Resolver(dns_server=[(zone.address, zone.port)], overrides=rules.get)
    assert await targets(resolver, "a.test") == [("a.test", "127.0.1.1")]
    rules["a.test"] = ["127.0.9.1", "127.0.9.2"]
    found = await find(resolver, "a.test")
    assert isinstance(found, Route)
    assert found.group == "a.test"
    assert [target.address for target in found.targets] == ["127.0.9.1", "127.0.9.2"]
    del rules["a.test"]
    assert await targets(resolver, "a.test") == [("a.test", "127.0.1.1")]


async def test_with_a_sink_everything_goes_there(zone: NameServer):
    """Domains, smarthosts and overridden ones; each domain keeps its own group."""
    zone.add("sink.test", "A", "127.0.7.7")
    resolver = Resolver(
        dns_server=[(zone.address, zone.port)],
        delivery_sink=("sink.test", 2626),
        overrides={"b.test": ["127.0.9.1"]}.get,
    )
    for name, port in (("a.test", None), ("b.test", None), ("relay.test", 587), ("[192.0.2.1]", None)):
        found = await find(resolver, name, port)
        assert isinstance(found, Route)
        assert (found.group, found.targets[0].address, found.targets[0].port) == (name, "127.0.7.7", 2626)
    assert {name for name, _ in zone.queries} == {"sink.test"}


async def test_a_sink_by_address_needs_no_dns(zone: NameServer):
    """Known at once."""
    resolver = Resolver(dns_server=[(zone.address, zone.port)], delivery_sink=("127.0.7.7", 2626))
    assert isinstance(resolver.peek("a.test"), Route)
    assert zone.queries.total() == 0
