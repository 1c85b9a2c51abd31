"""DNS: finds out where mail goes, and remembers it.

Owns what is known of mail domains and of hosts: each at most `NAMES`, the least recently used is forgotten; and the
look-ups under way: one for each name, whoever asks. What was asked for lately is asked again shortly before it
expires, so a busy domain never waits for DNS.
A look-up that fails is an outcome like any other answer: transient where asking again may help, and kept for
`FAILURE_TTL` seconds, so that a dead name server is not asked for every message.
"""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import dns.exception
import msgspec
import structlog

from operators.deliveries.delivery import Route
from operators.deliveries.outcome import Next, Outcome, deferred, parked
from operators.deliveries.routes import (
    HOSTS,
    DnsAnswer,
    DnsStatus,
    Exchangers,
    Found,
    Ours,
    address,
    address_literal,
    ascii_name,
    both_families,
    exchangers,
    fixed,
    no_name,
    route,
)
from pipeline.dns.name_servers import RESOLV_CONF, NameServers, Unanswered
from pipeline.dns.packet import CNAME, KINDS, NXDOMAIN, DnsReply
from pipeline.process.supervisor import awaited, spawn

NAMES = 50_000  # domains, and as many hosts, that are remembered
SOON = 2.0  # seconds for which deliveries wait for a look-up in memory
PATIENCE = 60.0  # seconds for the hosts of one domain
ALIASES = 64  # in a row that are followed
FAILURE_TTL = 30.0  # seconds; RFC 2308 7.1 and 7.2 allow 5 minutes
NEGATIVE_TTL = 3600.0  # seconds at most; RFC 2308 5: "one to three hours have been found to work well"
LEAST_TTL = 1.0  # seconds, or a record with a TTL of 0 would be asked for with every message
LONGEST_TTL = 86400.0  # seconds
AHEAD = 0.1  # of its TTL before it expires, an answer that is still used is asked for again

Key = str | tuple[str, int]  # a mail domain, or a host and port
Value = TypeVar("Value")

log = structlog.get_logger(__name__)


class _Entry(msgspec.Struct, Generic[Value], frozen=True):
    value: Value
    ahead: float  # monotonic seconds from which it is asked for again
    expires: float


class _Memory(Generic[Value]):
    """What is known, by name, until it expires. The least recently used goes when there are `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: collections.OrderedDict[Hashable, _Entry[Value]] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable, now: float) -> _Entry[Value] | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires <= now:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry

    def clear(self) -> None:
        self._entries.clear()

    def put(self, key: Hashable, value: Value, ahead: float, expires: float) -> None:
        self._entries[key] = _Entry(value, ahead, expires)
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)


class Resolver:
    """Where mail goes, by name: an `operators.stages.resolve.Names`."""

    def __init__(
        self,
        *,
        dns_server: Sequence[tuple[str, int]] = (),
        dns_timeout: float = 5.0,
        dns_attempts: int = 4,
        dns_min_ttl: float = 0.0,
        delivery_port: int = 25,
        delivery_sink: tuple[str, int] | None = None,
        overrides: Callable[[str], Sequence[str] | None] = lambda domain: None,
        ours: Ours = lambda ip, port: False,
        clock: Callable[[], float] = time.monotonic,
        names: int = NAMES,
        resolv_conf: Path = RESOLV_CONF,
        ipv6: bool = True,
    ) -> None:
        """Starts nothing; look-ups run on the event loop that is running when they begin.

        Args:
            dns_server: (address, port) of the name servers; empty: the system's.
            dns_timeout: seconds to wait for one answer.
            dns_attempts: questions before giving up, over all servers.
            dns_min_ttl: seconds that an answer is kept at least.
            delivery_port: of the receiving servers.
            delivery_sink: (host, port) where everything goes instead.
            overrides: the operator's addresses for a domain or host (A-labels), or None; consulted for every message.
            ours: is this address and port one that this machine listens on?
            clock: monotonic seconds.
            names: domains, and as many hosts, that are remembered.
            resolv_conf: where the system's name servers stand.
            ipv6: mail may leave from an IPv6 address; else AAAA is asked for only where there is no A.
        """
        self._servers = NameServers(dns_server, dns_timeout, dns_attempts, file=resolv_conf)
        self._min_ttl = dns_min_ttl
        self._port = delivery_port
        self._sink = delivery_sink
        self._overrides = overrides
        self._ours = ours
        self._clock = clock
        self._ipv6 = ipv6
        self._routes: _Memory[Found] = _Memory(names)
        self._hosts: _Memory[DnsAnswer] = _Memory(names)
        self._late: set[str] = set()  # look-ups that take long, as `resolve` names them
        self._flights: dict[Key, list[Callable[[Found], None]]] = {}
        self._asking: dict[str, asyncio.Future[DnsAnswer]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what the resolve stage calls, for every message ----------------------------------------------------------

    def peek(self, name: str, port: int | None = None) -> Found | None:
        """What is known without a look-up, or None. With a `port` the name is a host, else a mail domain."""
        if self._sink is not None:
            found = self._known(*self._sink)
            return found and _sunk(found, name)
        return self._known(name, port)

    def lookup(self, name: str, done: Callable[[Found], None], port: int | None = None) -> None:
        """Find out; calls `done` exactly once: at once where it is known, else within SOON seconds."""
        if (found := self.peek(name, port)) is not None:
            done(found)
        elif self._sink is not None:
            self._join(self._sink, lambda found: done(_sunk(found, name)))
        else:
            self._join(_key(name, port), done)

    def late(self, key: str) -> bool:
        """Whether the look-up of a name, or of `name:port`, is under way and takes long: nobody may wait for it."""
        return bool(self._late) if self._sink is not None else key in self._late

    def _known(self, name: str, port: int | None) -> Found | None:
        plain = name if name.isascii() else ascii_name(name) or name
        if addresses := self._overrides(plain):  # before what is remembered: a changed rule works on the next message
            return fixed(plain, _group(plain, port), addresses, port or self._port, self._ours)
        key = _key(name, port)
        now = self._clock()
        entry = self._routes.get(key, now)
        if entry is None:
            return self._plain(name, port)
        if now >= entry.ahead and key not in self._flights:
            self._fly(key)
        return entry.value

    def _plain(self, name: str, port: int | None) -> Found | None:
        """The answer where no DNS is needed."""
        ip = address_literal(name) if port is None else address(name)
        if ip is not None:
            return fixed(ip, ip if port is None else _group(ip, port), [ip], port or self._port, self._ours)
        return None if ascii_name(name) else no_name(name)

    # -- look-ups under way -----------------------------------------------------------------------------------------

    def _join(self, key: Key, done: Callable[[Found], None]) -> None:
        if key not in self._flights:
            self._fly(key)
        self._flights[key].append(done)

    def _fly(self, key: Key) -> None:
        waiting = self._flights[key] = []
        asyncio.get_running_loop().call_later(SOON, self._release, key, waiting)
        task = spawn(self._find(key), "dns")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _release(self, key: Key, waiting: list[Callable[[Found], None]]) -> None:
        """It takes long: those that wait hold credit, so they are parked, and come again when it is over."""
        if self._flights.get(key) is waiting:
            self._late.add(_shown(key))
            self._tell(key, parked("", f"the look-up of {_shown(key)} takes long"), waiting)
            waiting.clear()

    async def _find(self, key: Key) -> None:
        try:
            found, expires = await (self._domain(key) if isinstance(key, str) else self._host(*key))
        except Exception as error:
            log.exception("dns_lookup", name=key)
            found = deferred("dns", "error", f"DNS look-up: {type(error).__name__}")
            expires = self._clock() + FAILURE_TTL
        self._keep(key, found, expires)
        self._land(key, found)

    def _keep(self, key: Key, found: Found, expires: float) -> None:
        now = self._clock()
        before = self._routes.get(key, now)
        if before is not None and isinstance(found, Outcome) and found.next is Next.RETRY:
            self._routes.put(key, before.value, now + FAILURE_TTL, before.expires)  # what was known still holds
        else:
            self._routes.put(key, found, _ahead(now, expires), expires)

    def _land(self, key: Key, found: Found) -> None:
        self._late.discard(_shown(key))
        self._tell(key, found, self._flights.pop(key, ()))

    def _tell(self, key: Key, found: Found, waiting: Sequence[Callable[[Found], None]]) -> None:
        for done in list(waiting):
            try:
                done(found)
            except Exception:
                log.exception("dns_lookup_done", name=key)

    def forget(self) -> None:
        """This machine has other addresses now: which hosts are ours is decided anew."""
        self._routes.clear()

    def reread(self) -> None:
        """The system's name servers may have changed."""
        self._servers.reread()

    async def close(self) -> None:
        """Stop all look-ups; what waits for them is returned."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        stopped = Outcome(state="dns", result="error", next=Next.RETURN, description="shutdown")
        for key in list(self._flights):
            self._land(key, stopped)

    # -- asking ----------------------------------------------------------------------------------------------------

    async def _domain(self, domain: str) -> tuple[Found, float]:
        name = ascii_name(domain) or domain
        mx = await self.ask(name, "MX")
        where = exchangers(name, mx)
        if isinstance(where, Outcome):
            return where, mx.expires
        return await self._route(name, where, self._port, mx.expires)

    async def _host(self, host: str, port: int) -> tuple[Found, float]:
        name = ascii_name(host) or host
        return await self._route(name, Exchangers(f"{name}:{port}", ((0, name),)), port, self._clock() + LONGEST_TTL)

    async def _route(self, name: str, where: Exchangers, port: int, expires: float) -> tuple[Found, float]:
        """Look up the hosts, the best ones first, until some have an address: a domain may publish thousands."""
        found: dict[str, DnsAnswer] = {}
        end = self._clock() + PATIENCE
        for first in range(0, len(where.hosts), HOSTS):
            batch = list(dict.fromkeys(host for _, host in where.hosts[first : first + HOSTS]))
            several = len(batch) > 1
            answers = await asyncio.gather(*map(self.addresses, batch)) if several else [await self.addresses(batch[0])]
            found |= zip(batch, answers, strict=True)
            expires = min([expires, *(answer.expires for answer in answers)])
            some = msgspec.structs.replace(where, hosts=where.hosts[: first + HOSTS])
            answer = route(name, some, found, port, self._ours)
            if isinstance(answer, Route):
                return msgspec.structs.replace(answer, expires=expires), expires
            if self._clock() > end and len(some.hosts) < len(where.hosts):
                text = f"none of {len(some.hosts)} mail servers of {name} has an address, and there are more"
                return deferred("dns", "timeout", text, status="4.4.3"), self._clock() + FAILURE_TTL
        return answer, expires

    async def addresses(self, host: str) -> DnsAnswer:
        """The A and AAAA records of a host, families in turn; remembered, and asked for once by many at once."""
        now = self._clock()
        if (entry := self._hosts.get(host, now)) is not None and now < entry.ahead:
            return entry.value
        asked = self._asking.get(host)
        if asked is not None:
            return await asyncio.shield(asked)
        asked = self._asking[host] = asyncio.get_running_loop().create_future()
        try:
            answer = await self._ask_addresses(host)
        except BaseException as error:
            asked.set_exception(error)
            asked.exception()  # nobody else need have asked
            raise
        finally:
            del self._asking[host]
        asked.set_result(answer)
        return answer

    async def _ask_addresses(self, host: str) -> DnsAnswer:
        if (ip := address(host)) is not None:  # of an MX, which RFC 1035 3.3.9 does not allow, and which occurs
            return DnsAnswer(DnsStatus.FOUND, (ip,), self._clock() + LONGEST_TTL)
        if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 6.3
            return DnsAnswer(DnsStatus.FOUND, ("127.0.0.1", "::1"), self._clock() + LONGEST_TTL)
        answer = await (self._both(host) if self._ipv6 else self._one_or_both(host))
        self._hosts.put(host, answer, _ahead(self._clock(), answer.expires), answer.expires)
        return answer

    async def _both(self, host: str) -> DnsAnswer:
        second = awaited(self.ask(host, "AAAA"), "dns")
        try:
            return both_families(await self.ask(host, "A"), await second)
        finally:
            second.cancel()  # of a look-up that is stopped

    async def _one_or_both(self, host: str) -> DnsAnswer:
        """A third of the questions less; what is said of a host without A is the same."""
        first = await self.ask(host, "A")
        return first if first.records else both_families(first, await self.ask(host, "AAAA"))

    async def ask(self, name: str, kind: str) -> DnsAnswer:
        """One question to DNS (A, AAAA, MX, TXT, PTR), not remembered here; raises nothing.

        Args:
            name: A-labels; for PTR as `dns.reversename` makes it.
            kind: the record type.
        """
        if not ascii_name(name):  # an MX record may hold any bytes
            return DnsAnswer(DnsStatus.MISSING, (), self._clock() + NEGATIVE_TTL)
        try:
            return await self._follow(name.lower().rstrip("."), KINDS[kind])
        except Unanswered as error:
            status = DnsStatus.TIMEOUT if error.silent else DnsStatus.FAILED
            return DnsAnswer(status, (), self._clock() + FAILURE_TTL, str(error))
        except (dns.exception.DNSException, OSError, ValueError) as error:
            return DnsAnswer(DnsStatus.FAILED, (), self._clock() + FAILURE_TTL, type(error).__name__)

    async def _follow(self, name: str, kind: int) -> DnsAnswer:
        """Ask, and follow aliases, also where a server leaves that to us. Aliases in a circle never end."""
        passed, ttl = {name}, LONGEST_TTL
        while len(passed) <= ALIASES:
            reply = await self._servers.ask(name, kind)
            before = name
            while not (records := reply.of(name, kind)):
                alias = reply.of(name, CNAME)
                if not alias:
                    break
                name, ttl = alias[0].value, min(ttl, alias[0].ttl)
                if name in passed:
                    return self._answer(DnsStatus.BROKEN, (), FAILURE_TTL)
                passed.add(name)
            if records:
                values = tuple(dict.fromkeys(record.value for record in records))
                return self._answer(DnsStatus.FOUND, values, min(ttl, *(record.ttl for record in records)))
            if reply.rcode == NXDOMAIN or name == before or reply.soa is not None:
                return self._nothing(reply, ttl, name == before)
        return DnsAnswer(DnsStatus.FAILED, (), self._clock() + FAILURE_TTL, f"more than {ALIASES} aliases")

    def _nothing(self, reply: DnsReply, ttl: float, direct: bool) -> DnsAnswer:
        """No such record, or no such name (RFC 2308 2); an answer about other names is none."""
        if direct and reply.records and reply.rcode != NXDOMAIN:
            return DnsAnswer(DnsStatus.FAILED, (), self._clock() + FAILURE_TTL, "the answer is about other names")
        ttl = min(ttl, FAILURE_TTL if reply.soa is None else min(reply.soa), NEGATIVE_TTL)
        return self._answer(DnsStatus.MISSING if reply.rcode == NXDOMAIN else DnsStatus.EMPTY, (), ttl)

    def _answer(self, status: DnsStatus, records: tuple[Any, ...], ttl: float) -> DnsAnswer:
        return DnsAnswer(status, records, self._clock() + min(max(ttl, self._min_ttl, LEAST_TTL), LONGEST_TTL))


def _ahead(now: float, expires: float) -> float:
    return expires - AHEAD * (expires - now)


def _shown(key: Key) -> str:
    return key if isinstance(key, str) else f"{key[0]}:{key[1]}"


def _key(name: str, port: int | None) -> Key:
    return name if port is None else (name, port)


def _group(name: str, port: int | None) -> str:
    return name if port is None else f"{name}:{port}"


def _sunk(found: Found, group: str) -> Found:
    """The sink is the operator's word: that it cannot be reached, or is ourselves, fails no message for good."""
    if isinstance(found, Route):
        return Route(group, found.targets, found.expires)
    if found.next is Next.FAIL:
        return deferred("dns", "error", f"delivery-sink: {found.description}")
    return found
