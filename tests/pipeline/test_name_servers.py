"""Name servers that are odd, broken or far away, and what is learnt of them: real ones on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator, Callable, Iterator

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from operators.deliveries.delivery import Route
from operators.deliveries.outcome import Next, Outcome
from operators.deliveries.routes import DnsStatus
from pipeline.demo.nameserver import NameServer
from pipeline.dns.name_servers import NameServers
from pipeline.dns.packet import A
from pipeline.dns.resolver import Resolver
from tests.pipeline.asking import Clock, find, outcome, targets


def asks(*zones: NameServer, timeout: float = 0.3, attempts: int = 4) -> Resolver:
    servers = [(zone.address, zone.port) for zone in zones]
    return Resolver(dns_server=servers, dns_timeout=timeout, dns_attempts=attempts)


def answering(zone: NameServer, change: Callable[[dns.message.Message, bool, bytes], bytes | None]) -> None:
    """`change` sees each query, whether it came over TCP, and the right reply, and gives the one that is sent."""
    right = zone.answer

    def answer(wire: bytes, over_tcp: bool = False) -> bytes | None:
        reply = right(wire, over_tcp)
        return change(dns.message.from_wire(wire), over_tcp, reply or b"")

    zone.answer = answer  # type: ignore[method-assign]


def said(query: dns.message.Message, rcode: dns.rcode.Rcode = dns.rcode.NOERROR, *records: str) -> bytes:
    """A reply with these records, `name ttl kind value`."""
    reply = dns.message.make_response(query, recursion_available=True)
    reply.set_rcode(rcode)
    for record in records:
        name, ttl, kind, *value = record.split()
        reply.answer.append(dns.rrset.from_text(name, int(ttl), "IN", kind, " ".join(value)))
    return reply.to_wire()


@pytest.fixture
async def second() -> AsyncIterator[NameServer]:
    server = NameServer()
    await server.start()
    server.add("a.test", "A", "127.0.1.1")
    yield server
    await server.stop()


@pytest.fixture
def known(zone: NameServer) -> Iterator[NameServer]:
    zone.add("a.test", "A", "127.0.1.1")
    zone.add("b.test", "A", "127.0.1.2")
    yield zone


@pytest.mark.parametrize("rcode", ["FORMERR", "NOTIMP", "BADVERS", "SERVFAIL", None])
async def test_a_server_that_refuses_edns_is_asked_without_it_and_that_is_learnt(known: NameServer, rcode: str | None):
    """K3: also where it is silent (RFC 6891 7); the next name is not asked for with EDNS at all."""
    with_edns: list[str] = []

    def old(query: dns.message.Message, over_tcp: bool, right: bytes) -> bytes | None:
        if query.edns < 0:
            return right
        with_edns.append(query.question[0].name.to_text())
        return None if rcode is None else said(query, dns.rcode.from_text(rcode))

    answering(known, old)
    resolver = asks(known)
    assert await targets(resolver, "a.test") == [("a.test", "127.0.1.1")]
    with_edns.clear()
    assert await targets(resolver, "b.test") == [("b.test", "127.0.1.2")]
    assert with_edns == []


async def test_a_truncated_answer_is_used_where_no_server_speaks_tcp(known: NameServer):
    """K3: part of an answer is better than mail that is never delivered."""
    known.add("a.test", "MX", "10 b.test.")

    def short(query: dns.message.Message, over_tcp: bool, right: bytes) -> bytes | None:
        reply = dns.message.from_wire(right)
        reply.flags |= dns.flags.TC
        return reply.to_wire()

    answering(known, short)
    assert known._tcp is not None
    known._tcp.close()
    assert await targets(asks(known), "a.test") == [("b.test", "127.0.1.2")]


async def test_a_silent_first_server_is_learnt(zone: NameServer, second: NameServer):
    """K3: only the first question waits for it; once it answers again it is asked first again."""
    answering(zone, lambda query, over_tcp, right: None)
    clock = Clock()
    servers = NameServers([(zone.address, zone.port), (second.address, second.port)], 0.2, 4, clock)
    for name in ("a.test", "b.test", "c.test"):
        await servers.ask(name, A)
    assert zone.queries.total() == 1
    clock.now += 31
    answering(zone, lambda query, over_tcp, right: said(query))
    await servers.ask("d.test", A)
    assert zone.queries.total() == 2 and second.queries["d.test", "A"] == 0


async def test_a_server_that_is_silent_about_one_name_is_not_thought_dead(known: NameServer, second: NameServer):
    """K3: it has answered others meanwhile."""

    def partly(query: dns.message.Message, over_tcp: bool, right: bytes) -> bytes | None:
        return None if query.question[0].name.to_text() == "hole.test." else right

    answering(known, partly)
    servers = NameServers([(known.address, known.port), (second.address, second.port)], 0.4, 4)
    hole = asyncio.create_task(servers.ask("hole.test", A))
    await asyncio.sleep(0.1)
    await servers.ask("a.test", A)
    await hole
    second.queries.clear()
    await servers.ask("b.test", A)
    assert not second.queries


@pytest.mark.parametrize("rcode", ["REFUSED", "SERVFAIL", "lame", "YXDOMAIN"])
async def test_the_next_server_is_asked_where_the_first_one_does_not_know(
    zone: NameServer, second: NameServer, rcode: str
):
    """K3: a server that refuses, fails, or refers to others (RFC 1034 4.3.1) has not answered."""

    def bad(query: dns.message.Message, over_tcp: bool, right: bytes) -> bytes | None:
        if rcode != "lame":
            return said(query, dns.rcode.from_text(rcode))
        reply = dns.message.make_response(query, recursion_available=False)
        reply.authority.append(dns.rrset.from_text("test.", 300, "IN", "NS", "ns.test."))
        return reply.to_wire()

    answering(zone, bad)
    assert await targets(asks(zone, second), "a.test") == [("a.test", "127.0.1.1")]
    state, _, then = await outcome(asks(zone), "a.test")
    assert (state, then) == ("dns", Next.RETRY)


async def test_of_more_servers_than_attempts_each_is_asked(zone: NameServer, second: NameServer):
    """K3: the last one may be the only one that answers."""
    answering(zone, lambda query, over_tcp, right: said(query, dns.rcode.REFUSED))
    servers = [(f"127.0.0.{n}", zone.port) for n in range(2, 7)]  # nobody listens there
    resolver = Resolver(dns_server=[*servers, (second.address, second.port)], dns_timeout=0.3, dns_attempts=1)
    assert await targets(resolver, "a.test") == [("a.test", "127.0.1.1")]


async def test_the_last_of_many_equal_mail_servers_is_found(zone: NameServer, resolver: Resolver):
    """K3: no limit behind which a legal answer becomes a permanent failure."""
    zone.add("a.test", "MX", *(f"10 mx{n}.test." for n in range(70)))
    zone.add("mx69.test", "A", "127.0.1.1")
    assert await targets(resolver, "a.test") == [("mx69.test", "127.0.1.1")]


async def test_a_mail_server_that_cannot_be_looked_up_now_fails_no_mail_for_good(zone: NameServer, resolver: Resolver):
    """K3: one SERVFAIL among those that do not exist, wherever it stands."""
    zone.add("a.test", "MX", *(f"{n} mx{n}.test." for n in range(20)))
    answering(
        zone,
        lambda query, over_tcp, right: (
            said(query, dns.rcode.SERVFAIL) if query.question[0].name.to_text() == "mx18.test." else right
        ),
    )
    state, _, then = await outcome(resolver, "a.test")
    assert (state, then) == ("dns", Next.RETRY)


@pytest.mark.parametrize("ttl", [0, 2**31 - 1])
async def test_an_odd_ttl_is_kept_a_second_to_a_day(known: NameServer, ttl: int):
    """K3: with a TTL of 0 a name is not asked for with every message."""
    known.add("a.test", "A", "127.0.1.1", ttl=ttl)
    resolver = asks(known)
    await find(resolver, "a.test")
    assert resolver.peek("a.test") is not None
    answer = await resolver.ask("a.test", "A")
    assert 0.5 < answer.expires - resolver._clock() <= 86400


async def test_a_long_chain_of_aliases_is_followed(zone: NameServer, resolver: Resolver):
    """K3: also where the server gives one alias at a time; a circle is still found."""
    for n in range(30):
        zone.add(f"c{n}.test", "CNAME", f"c{n + 1}.test.")
    zone.add("c30.test", "A", "127.0.1.1")

    def one_at_a_time(query: dns.message.Message, over_tcp: bool, right: bytes) -> bytes | None:
        name = query.question[0].name.to_text()
        number = int(name[1:-6]) if name.startswith("c") and name != "circle.test." else 30
        return said(query, dns.rcode.NOERROR, f"{name} 300 CNAME c{number + 1}.test.") if number < 30 else right

    answering(zone, one_at_a_time)
    assert (await resolver.ask("c0.test", "A")).records == ("127.0.1.1",)
    zone.add("circle.test", "CNAME", "circle.test.")
    assert (await resolver.ask("circle.test", "A")).status is DnsStatus.BROKEN


async def test_answers_about_other_names_are_none(zone: NameServer):
    """K3: what is not asked for is not taken, and is no proof that there is nothing."""
    answering(zone, lambda query, over_tcp, right: said(query, dns.rcode.NOERROR, "other.test. 300 A 127.6.6.6"))
    assert (await asks(zone).ask("a.test", "A")).status is DnsStatus.FAILED


async def test_a_huge_answer_is_read_whole(zone: NameServer, resolver: Resolver):
    """K3: thousands of records, over TCP; the route has as many as one attempt can try."""
    zone.add("a.test", "A", *(f"127.1.{n // 250}.{n % 250 + 1}" for n in range(2000)))
    assert len((await resolver.ask("a.test", "A")).records) == 2000
    first, again = await targets(resolver, "a.test"), await targets(asks(zone), "a.test")
    assert len(first) == 32 and first != again


# -- resolv.conf ------------------------------------------------------------------------------------------------------


def follows(file: pathlib.Path, clock: Clock) -> Callable[[], list[str]]:
    servers = NameServers([], 1, 1, clock, file)

    def now() -> list[str]:
        clock.now += 5
        return [address for address, _ in servers.addresses]

    return now


def test_resolv_conf_is_followed(tmp_path: pathlib.Path):
    """K14: empty at start, filled, changed, replaced by a link, gone, garbled: the last good one holds."""
    file = tmp_path / "resolv.conf"
    file.write_text("")
    now = follows(file, Clock())
    assert now() == ["127.0.0.1"]  # as the C library
    file.write_text("# by DHCP\nsearch a.example\noptions ndots:5 timeout:1 edns0 trust-ad\nnameserver 192.0.2.1\n")
    assert now() == ["192.0.2.1"]
    file.write_text("nameserver 192.0.2.2\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver\n")
    assert now() == ["192.0.2.2", "fe80::1%eth0"]
    other = tmp_path / "stub.conf"
    other.write_text("nameserver 127.0.0.53\n")
    file.unlink()
    assert now() == ["192.0.2.2", "fe80::1%eth0"]
    file.symlink_to(other)
    assert now() == ["127.0.0.53"]
    file.write_bytes(b"\xff\0\n")
    assert now() == ["127.0.0.53"]


def test_what_is_known_of_a_server_outlives_a_change_of_the_others(tmp_path: pathlib.Path):
    """K14: and `reread` (SIGHUP) looks at once."""
    file, clock = tmp_path / "resolv.conf", Clock()
    file.write_text("nameserver 192.0.2.1\n")
    servers = NameServers([], 1, 1, clock, file)
    assert servers.addresses == [("192.0.2.1", 53)]
    kept = servers._servers[0]
    file.write_text("nameserver 192.0.2.9\nnameserver 192.0.2.1\n")
    assert servers.addresses == [("192.0.2.1", 53)]
    servers.reread()
    assert servers.addresses == [("192.0.2.9", 53), ("192.0.2.1", 53)]
    assert servers._servers[1] is kept


# -- many ----------------------------------------------------------------------------------------------------------


async def test_a_look_up_that_takes_long_keeps_nobody_waiting(known: NameServer, monkeypatch: pytest.MonkeyPatch):
    """S2: those that wait are told to park, and what is found is remembered for them."""
    monkeypatch.setattr("pipeline.dns.resolver.SOON", 0.05)
    asked = asyncio.Event()

    def late(query: dns.message.Message, over_tcp: bool, right: bytes) -> bytes | None:
        return right if asked.is_set() else None

    answering(known, late)
    resolver = asks(known, timeout=0.2, attempts=20)
    found = await find(resolver, "a.test")
    assert isinstance(found, Outcome) and found.next is Next.PARK
    assert resolver.late("a.test") and not resolver.late("b.test")
    asked.set()
    await asyncio.gather(*resolver._tasks)
    assert not resolver.late("a.test")
    assert isinstance(resolver.peek("a.test"), Route)
    await resolver.close()


async def test_a_thousand_names_whose_servers_are_silent_hold_up_no_other(known: NameServer):
    """S2: a question that is a little older makes room for the next ones."""

    def silent(query: dns.message.Message, over_tcp: bool, right: bytes) -> bytes | None:
        return None if query.question[0].name.to_text().startswith("hole") else right

    answering(known, silent)
    servers = NameServers([(known.address, known.port)], 3, 40)
    holes = [asyncio.create_task(servers.ask(f"hole{n}.test", A)) for n in range(500)]
    await asyncio.sleep(0)
    answer = await asyncio.wait_for(servers.ask("a.test", A), 60)
    assert answer.records
    for hole in holes:
        hole.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*holes, return_exceptions=True)
