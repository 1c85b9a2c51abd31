"""This machine: its addresses, its name, and the names it greets with."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

import psutil

from operators.message import Message
from pipeline.process.supervisor import spawn
from settings import Settings


def addresses() -> list[str]:
    """Every address of this machine, IPv4 first, without link-local ones."""
    found = [
        ipaddress.ip_address(entry.address.partition("%")[0])
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    ]
    usable = [address for address in found if not address.is_link_local]
    return [str(address) for address in sorted(usable, key=lambda address: (address.version, address.is_loopback))]


class MtaIps:
    """Which MTA IPs there are, and which of them a message may leave from."""

    def __init__(self, settings: Settings) -> None:
        mine = addresses()
        outward = [ip for ip in mine if not ipaddress.ip_address(ip).is_loopback]
        self.default = tuple(settings.smtp_default_ips or _ipv4_first(outward) or ["127.0.0.1"])
        self.all = tuple(dict.fromkeys((*self.default, *mine)))

    def is_ours(self, ip: str) -> bool:
        """One of this machine's: listed, on an interface, or in its loopback network."""
        return ip in self.all or ip.startswith("127.")

    def allowed(self, message: Message) -> Sequence[str]:
        """The MTA IPs a message may leave from: its `ips` that are ours, or the default ones."""
        if message.ips is None:
            return self.default
        return [ip for ip in message.ips if self.is_ours(ip)]


def _ipv4_first(ips: list[str]) -> list[str]:
    """IPv6 sends only where it is all there is, or is listed: most hosts have it, few have it working for mail."""
    return [ip for ip in ips if ":" not in ip] or ips


class Names:
    """The EHLO name of each MTA IP: its reverse DNS name, else the host name. Looked up once, at start."""

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname
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
        self._names[ip] = name

    def ehlo(self, ip: str) -> str:
        """The name to greet with from this MTA IP (RFC 5321 4.1.1.1)."""
        return self._names.get(ip, self.hostname)
