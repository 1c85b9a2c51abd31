"""This machine: its addresses, where it listens, its name, and the names it greets with."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Sequence

import psutil

from operators.deliveries.routes import ascii_name
from operators.mail.message import Message
from pipeline.process.supervisor import spawn
from settings import Settings

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_NOBODY = ("localhost", "localdomain", "(none)", "none")  # what a machine without a name calls itself


def interfaces() -> frozenset[Ip]:
    """Every address of this machine now, link-local ones too."""
    return frozenset(
        ipaddress.ip_address(entry.address.partition("%")[0])
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    )


def addresses() -> list[str]:
    """Every address of this machine, IPv4 first, without link-local ones."""
    usable = [address for address in interfaces() if not address.is_link_local]
    return [str(one) for one in sorted(usable, key=lambda one: (one.version, one.is_loopback, int(one)))]


class Here:
    """Is this address and port one that we listen on? The one place where that is decided, for every way out.

    Owner of: the sockets' addresses, and the machine's as they were at the last `refresh`.
    """

    def __init__(self, machine: Callable[[], frozenset[Ip]] = interfaces) -> None:
        self._interfaces = machine
        self._machine = machine()
        self._listening: dict[int, set[Ip]] = {}  # by port

    def listen(self, sockets: Iterable[tuple[str, int]]) -> None:
        """We listen on these."""
        for ip, port in sockets:
            self._listening.setdefault(port, set()).add(_plain(ip))

    def refresh(self) -> bool:
        """Look at the machine's addresses again, a few seconds apart; whether they have changed."""
        before, self._machine = self._machine, self._interfaces()
        return before != self._machine

    def __call__(self, ip: str, port: int) -> bool:
        """Whether mail sent there would come back to us."""
        listening = self._listening.get(port)
        if listening is None:
            return False
        target = _reached(_plain(ip))
        if target in listening:
            return True
        wildcard = ipaddress.ip_address("0.0.0.0" if target.version == 4 else "::")  # noqa: S104
        return wildcard in listening and (target.is_loopback or target in self._machine)


def _plain(ip: str) -> Ip:
    """Without a scope; an IPv4 address that is written as an IPv6 one (RFC 4291 2.5.5.2) as what it is."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _reached(target: Ip) -> Ip:
    """Who connects to the unspecified address reaches the loopback one."""
    if not target.is_unspecified:
        return target
    return ipaddress.ip_address("127.0.0.1" if target.version == 4 else "::1")


class MtaIps:
    """Which MTA IPs there are, and which of them a message may leave from."""

    def __init__(self, settings: Settings) -> None:
        mine = addresses()
        outward = [ip for ip in mine if not ipaddress.ip_address(ip).is_loopback]
        self.default = tuple(settings.smtp_default_ips or _ipv4_first(outward) or ["127.0.0.1"])
        external = [way.public_ip for way in settings.external_mtas]
        self._fixed = self.all = tuple(dict.fromkeys((*self.default, *external, *mine)))

    def ruled(self, external: Iterable[str]) -> None:
        """Rules name these besides: public IPs of external MTAs."""
        self.all = tuple(dict.fromkeys((*self._fixed, *external)))

    @property
    def ipv6(self) -> bool:
        """One of them is an IPv6 address that reaches other machines."""
        return any(":" in ip and not ipaddress.ip_address(ip).is_loopback for ip in self.all)

    def is_here(self, ip: str) -> bool:
        """One of this machine's own, whatever rules say."""
        return ip in self._fixed or ip.startswith("127.")

    def is_ours(self, ip: str) -> bool:
        """One of this machine's: listed, on an interface, or in its loopback network."""
        return ip in self.all or ip.startswith("127.")

    def allowed(self, message: Message) -> Sequence[str]:
        """The MTA IPs a message may leave from that names no pool: its `ips` that are ours, or the default ones."""
        if message.ips is None:
            return self.default
        return [ip for ip in message.ips if self.is_ours(ip)]


def _ipv4_first(ips: list[str]) -> list[str]:
    """IPv6 sends only where it is all there is, or is listed: most hosts have it, few have it working for mail."""
    return [ip for ip in ips if ":" not in ip] or ips


def greeting(name: str) -> str | None:
    """The name as EHLO may say it: letters, digits and hyphens (RFC 5321 4.1.2, 2.3.5); None where it is no such name.

    A name with other letters is said by its A-labels. `localhost` is everybody's, and many receivers refuse it.
    """
    ascii = ascii_name(name.strip()) or ""
    if not all(map(_LABEL.fullmatch, ascii.split("."))) or ascii.split(".")[0] in _NOBODY:
        return None
    return None if ascii.replace(".", "").isdigit() else ascii


def literal(ip: str) -> str:
    """An address in the place of a name (RFC 5321 4.1.3)."""
    return f"[IPv6:{_plain(ip)}]" if _plain(ip).version == 6 else f"[{_plain(ip)}]"


class HostNames:
    """The EHLO name of each MTA IP: its reverse DNS name, else the host name, else its address.

    Reverse names are looked up once, at start.
    """

    def __init__(self, hostname: str) -> None:
        self.hostname = greeting(hostname)
        self._names: dict[str, str] = {}

    async def learn(self, ips: Sequence[str], patience: float = 2.0) -> None:
        """Ask for the reverse names; what has no answer in `patience` seconds keeps the host name."""
        await asyncio.wait([spawn(self._learn(ip), "host-names", grave=False) for ip in ips], timeout=patience)

    async def _learn(self, ip: str) -> None:
        if ipaddress.ip_address(ip).is_loopback:
            return
        try:
            name, _ = await asyncio.get_running_loop().getnameinfo((ip, 0), socket.NI_NAMEREQD)
        except OSError:
            return
        if (usable := greeting(name)) is not None:
            self._names[ip] = usable

    def ehlo(self, ip: str) -> str:
        """The name to greet with from this MTA IP (RFC 5321 4.1.1.1, 4.1.4)."""
        return self._names.get(ip) or self.hostname or literal(ip or "127.0.0.1")

    def nameless(self, hostname: str, ips: Sequence[str]) -> str | None:
        """What to tell the operator where the host name is no name to greet with, and an address stands for it."""
        said = [self.ehlo(ip) for ip in ips if ip not in self._names]
        if self.hostname is not None or not said:
            return None
        shown = hostname.encode("unicode_escape").decode()[:80]
        return (
            f"the host name {shown!r} is no name to greet with: EHLO says {said[0]}, which many receivers distrust; "
            "give this machine a full host name, or set server-id to one"
        )
