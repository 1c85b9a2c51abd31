"""Routes: what DNS said about a domain becomes the hosts to try, in order, or the reason why there are none.

Pure functions, RFC 5321 5.1 and RFC 7505. The resolver (`pipeline.dns.resolver`) calls `exchangers` with the MX
answer, looks up the hosts it names, and calls `route` with their addresses.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import ipaddress
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import idna
import msgspec

from operators.deliveries.delivery import Route, Target
from operators.deliveries.outcome import Outcome, deferred, failed

HOSTS = 16  # MX hosts of a domain that are looked up at once
TARGETS = 32  # addresses of a route; which ones, of more, is another choice each time

Found = Route | Outcome
Ours = Callable[[str, int], bool]  # is this address and port one that this machine listens on?

_CHANCE = random.SystemRandom()
_NAME = re.compile(r"(?!.{254})[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\Z")


class DnsStatus(enum.StrEnum):
    """What became of a question to DNS."""

    FOUND = "found"
    EMPTY = "empty"  # the name exists, without records of this type (RFC 2308 2.2)
    MISSING = "missing"  # NXDOMAIN
    BROKEN = "broken"  # aliases in a circle
    FAILED = "failed"  # SERVFAIL, REFUSED, unreachable or nonsense: later perhaps
    TIMEOUT = "timeout"


class DnsAnswer(msgspec.Struct, frozen=True):
    """What DNS said to one question.

    Attributes:
        status: what became of it.
        records: A, AAAA, PTR: texts; TXT: bytes; MX: (preference, host). Names are lower case without final dot.
        expires: monotonic seconds until which it may be used.
        why: what went wrong, for people.
    """

    status: DnsStatus
    records: tuple[Any, ...] = ()
    expires: float = 0.0
    why: str = ""

    @property
    def transient(self) -> bool:
        """Asking again later may help."""
        return self.status in (DnsStatus.FAILED, DnsStatus.TIMEOUT)


class Exchangers(msgspec.Struct, frozen=True):
    """The hosts that take a domain's mail: (preference, name), and the name of their destination group."""

    group: str
    hosts: tuple[tuple[int, str], ...]


def ascii_name(domain: str) -> str | None:
    """The name as DNS has it: lower case, A-labels (RFC 5891) for IDN; None where it can be no host or domain name."""
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode()
        except idna.IDNAError:
            return None
    domain = domain.lower().rstrip(".")
    return domain if _NAME.match(domain) else None


def is_host(name: str) -> bool:
    """Whether it can be connected to: a host name, or an IP address."""
    return address(name) is not None or ascii_name(name) is not None


def address_literal(domain: str) -> str | None:
    """The address in `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 4.1.3); None for anything else."""
    if not (domain.startswith("[") and domain.endswith("]")):
        return None
    text = domain[1:-1]
    return address(text[5:]) if text[:5].lower() == "ipv6:" else address(text)


@functools.lru_cache(1024)
def address(text: str) -> str | None:
    """The IP address in its usual form; None where it is none."""
    if not text[-1:].isdigit() and ":" not in text:  # a name, as nearly always: 0.1 microseconds instead of 5
        return None
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def exchangers(domain: str, mx: DnsAnswer, chance: Callable[[], float] = _CHANCE.random) -> Exchangers | Outcome:
    """The hosts to look up for a domain, or why it takes no mail (now).

    Without MX records the domain is its own host (RFC 5321 5.1). `MX 0 .` is a null MX: it takes no mail (RFC 7505).
    """
    if mx.status is DnsStatus.EMPTY:
        return Exchangers(domain, ((0, domain),))
    if mx.status is not DnsStatus.FOUND:
        return _unknown(domain, mx)
    shuffled = sorted((preference, chance(), host) for preference, host in mx.records if host)
    hosts = tuple((preference, host) for preference, _, host in shuffled)
    if not hosts:
        return failed("dns", "error", f"{domain} takes no mail: null MX", status="5.1.10")
    return Exchangers(group_name({host for _, host in hosts}), hosts)


def group_name(hosts: set[str]) -> str:
    """The destination group of a set of MX hosts: the same for the same set, whatever their order and preferences.

    The shortest name stands for the set, since that is the one people know (`aspmx` before `alt1.aspmx`).
    """
    first = min(hosts, key=lambda host: (len(host), host))
    if len(hosts) == 1:
        return first
    digest = hashlib.sha256(" ".join(sorted(hosts)).encode()).hexdigest()
    return f"{first}+{len(hosts) - 1}~{digest[:4]}"


def both_families(v4: DnsAnswer, v6: DnsAnswer) -> DnsAnswer:
    """A host's A and AAAA answers as one: families in turn, IPv4 first, so that a dead family costs one try."""
    expires = min(v4.expires, v6.expires)
    if v4.records or v6.records:
        return DnsAnswer(DnsStatus.FOUND, tuple(in_turn(v4.records, v6.records)), expires)
    worst = max((v4, v6), key=lambda answer: list(DnsStatus).index(answer.status))
    return DnsAnswer(worst.status, (), expires, worst.why)


def in_turn(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """`a1 b1 a2 b2 b3` of `a1 a2` and `b1 b2 b3`."""
    both = min(len(first), len(second))
    paired = [address for pair in zip(first, second, strict=False) for address in pair]
    return [*paired, *first[both:], *second[both:]]


def route(
    domain: str,
    where: Exchangers,
    found: Mapping[str, DnsAnswer],
    port: int,
    ours: Ours,
    chance: Callable[[], float] = _CHANCE.random,
) -> Found:
    """The route to a domain, or why there is none.

    A host that is this very machine is left out with all of the same or a worse preference (RFC 5321 5.1).

    Args:
        domain: for the texts.
        where: its hosts.
        found: the addresses of each host.
        port: of the receiving servers.
        ours: is this address and port our own?
        chance: shuffles hosts of equal preference.
    """
    loops = [preference for preference, host in where.hosts if any(ours(ip, port) for ip in found[host].records)]
    hosts = [(preference, chance(), host) for preference, host in where.hosts if not loops or preference < min(loops)]
    targets = tuple(Target(host, ip, port) for _, _, host in sorted(hosts) for ip in _some(found[host].records, chance))
    if targets:
        return Route(where.group, targets[:TARGETS], min(answer.expires for answer in found.values()))
    for _, _, host in hosts:
        if found[host].transient:
            return _unknown(host, found[host])
    if loops:
        return failed("dns", "error", f"mail for {domain} loops back to myself", status="5.4.6")
    return failed("dns", "error", _unreachable(domain, where, found), status="5.4.4")


def _some(addresses: Sequence[str], chance: Callable[[], float]) -> Sequence[str]:
    """As they are; of more than a route may hold, others each time, so that no attempt is lost to the same ones."""
    return addresses if len(addresses) <= TARGETS else sorted(addresses, key=lambda _: chance())


def fixed(name: str, group: str, addresses: Sequence[str], port: int, ours: Ours) -> Found:
    """The route to addresses that need no look-up: a literal, a DNS override, a sink."""
    usable = [ip for ip in addresses if not ours(ip, port)]
    if not usable:
        return failed("dns", "error", f"mail for {name} loops back to myself", status="5.4.6")
    return Route(group, tuple(Target(name, ip, port) for ip in usable))


def no_name(domain: str) -> Outcome:
    """The end of a message to what can be no domain."""
    return failed("process", "invalid", f"{domain[:255]!r} is no domain name", status="5.1.2")


def _unknown(name: str, answer: DnsAnswer) -> Outcome:
    """The outcome where a name that is needed was not found."""
    if answer.status is DnsStatus.TIMEOUT:
        return deferred("dns", "timeout", f"DNS look-up of {name}: {answer.why or 'no answer in time'}", status="4.4.3")
    if answer.status is DnsStatus.FAILED:
        return deferred("dns", "error", f"DNS look-up of {name}: {answer.why}", status="4.4.3")
    if answer.status is DnsStatus.BROKEN:
        return failed("dns", "error", f"{name} is an alias (CNAME) that leads nowhere", status="5.4.4")
    return failed("dns", "error", f"{name} does not exist", status="5.1.2")


def _unreachable(domain: str, where: Exchangers, found: Mapping[str, DnsAnswer]) -> str:
    names = [host for _, host in where.hosts]
    if names == [domain]:
        return (
            f"{domain} does not exist" if found[domain].status is DnsStatus.MISSING else f"{domain} has no mail server"
        )
    return f"no mail server of {domain} has an address: {', '.join(names[:5])}"
