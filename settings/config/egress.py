"""Ways out for MTA IPs that are not on this machine, or show as others: `external-mtas`."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

PROTOCOLS = ("nat", "socks", "http", "proxy")
ALLOWED = (
    "PUBLIC-IP=protocol://host:port, several with commas: 203.0.113.7=socks://192.0.2.1:1080, also http:// and "
    "proxy://, and 203.0.113.8=nat://LOCAL-IP"
)
_ENTRY = re.compile(
    r"([0-9A-Fa-f.:]+)=([a-z]+)://(?:([0-9A-Fa-f.:]+)@)?(?:\[([0-9A-Fa-f:]+)\]|([0-9A-Fa-f.]+))(?::(\d+))?"
)


class ExternalMta(NamedTuple):
    """How mail of a public IP leaves.

    Attributes:
        public_ip: the MTA IP, as receivers see it.
        protocol: nat binds locally; socks (RFC 1928), http (CONNECT, RFC 9110 9.3.6) and proxy (HAProxy's PROXY v2)
            go through a server.
        local_ip: to bind to; empty is any.
        connect_ip, connect_port: of that server.
    """

    public_ip: str
    protocol: str
    local_ip: str = ""
    connect_ip: str = ""
    connect_port: int = 0

    def __str__(self) -> str:
        if self.protocol == "nat":
            return f"{self.public_ip}=nat://{_bracketed(self.local_ip)}"
        local = f"{self.local_ip}@" if self.local_ip else ""
        return f"{self.public_ip}={self.protocol}://{local}{_bracketed(self.connect_ip)}:{self.connect_port}"


def external_mta(text: str) -> ExternalMta:
    """One entry of the key. Raises `ValueError`."""
    found = _ENTRY.fullmatch(text.strip())
    if found is None or found[2] not in PROTOCOLS:
        raise ValueError
    public, protocol, local = str(ipaddress.ip_address(found[1])), found[2], found[3] or ""
    host, port = str(ipaddress.ip_address(found[4] or found[5])), int(found[6] or 0)
    if protocol == "nat":
        if port or local:
            raise ValueError
        return ExternalMta(public, protocol, host)
    if not 0 < port < 65536:
        raise ValueError
    return ExternalMta(public, protocol, str(ipaddress.ip_address(local)) if local else "", host, port)


def _bracketed(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip
