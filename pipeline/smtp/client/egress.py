"""Ways out: through a SOCKS5 server (RFC 1928), an HTTP proxy (CONNECT), HAProxy (PROXY v2), or bound to another IP.

Owner of: which of these servers are down. One that does not answer pauses the lanes of its MTA IP for a while, longer
each time, with the reason; their mail waits, which is no attempt. Bound: one record for each way.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable

import msgspec

from operators.deliveries.delivery import Target, lane_ip
from operators.deliveries.replies import clean
from operators.lanes.slots import Wait
from pipeline.smtp.client.failure import Failed
from settings.config.egress import ExternalMta

FIRST, LONGEST = 5.0, 300.0  # seconds that a server is left alone after it failed
HEAD = 8192  # octets of an HTTP proxy's answer
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
# SOCKS5 replies (RFC 1928 6) that tell of the receiver, not of the server.
_UNREACHED = {3: "network unreachable", 4: "host unreachable", 5: "connection refused", 6: "TTL expired"}
_OTHERS = {1: "general failure", 2: "not allowed", 7: "command not supported", 8: "address type not supported"}
LOGIN = 407  # Proxy Authentication Required (RFC 9110 15.5.8)
_GATEWAY = frozenset((502, 503, 504))  # an HTTP proxy that did not reach the receiver


class _Down(msgspec.Struct):
    """A server that failed: why, until when it is left alone (monotonic seconds), and for how long that was."""

    why: str
    until: float
    pause: float


class Egress:
    """The ways out, by public IP.

    Args:
        ways: as configured; rules add to them, and go before them.
        clock: monotonic seconds.
        warn: told (kind, text) when a server is down, and when it answers again.
    """

    def __init__(
        self, ways: Iterable[ExternalMta], clock: Callable[[], float], warn: Callable[[str, str], None]
    ) -> None:
        self._configured = {way.public_ip: way for way in ways}
        self._ways = dict(self._configured)
        self._clock, self._warn = clock, warn
        self._down: dict[str, _Down] = {}

    def ruled(self, ways: Iterable[ExternalMta]) -> None:
        """The rules have changed. What is known of a server that no way goes through any more is forgotten."""
        before, self._ways = self._ways, self._configured | {way.public_ip: way for way in ways}
        for ip in [ip for ip in self._down if self._ways.get(ip) != before.get(ip)]:
            del self._down[ip]

    def way(self, ip: str) -> ExternalMta | None:
        """How mail of this MTA IP leaves; None: from this machine."""
        return self._ways.get(ip) if self._ways else None

    def __contains__(self, ip: str) -> bool:
        return ip in self._ways

    def paused(self, lane: str) -> Wait | None:
        """Until when a lane waits for its server, or None."""
        if not self._down or (down := self._down.get(lane_ip(lane))) is None or down.until <= self._clock():
            return None
        return Wait(down.why, down.until)

    def failed(self, ip: str, why: str) -> None:
        """Its server does not answer."""
        known = self._down.get(ip)
        pause = FIRST if known is None else min(2 * known.pause, LONGEST)
        self._down[ip] = _Down(why, self._clock() + pause, pause)
        if known is None:
            self._warn("egress", f"mail from {ip} waits: {why}")

    def answered(self, ip: str) -> None:
        """It answers."""
        if self._down and self._down.pop(ip, None) is not None:
            self._warn("egress", f"mail from {ip} leaves again: its proxy answers")

    @property
    def down(self) -> list[tuple[str, str, float]]:
        """(public IP, why, until) of each server that is down."""
        return [(ip, down.why, down.until) for ip, down in self._down.items()]

    def adopt(self, rows: Iterable[tuple[str, str, float]]) -> None:
        """Have what others have found, in place of our own; rows as in `down`."""
        self._down = {ip: _Down(why, until, FIRST) for ip, why, until in rows}

    @property
    def troubles(self) -> list[str]:
        """A line for each server that is down."""
        return [f"mail from {ip} waits: {down.why}" for ip, down in self._down.items()]


def server_of(way: ExternalMta, target: Target) -> Target:
    """Where the TCP connection goes."""
    if way.protocol == "nat":
        return target
    return Target(way.connect_ip, way.connect_ip, way.connect_port)


async def pass_through(sock: socket.socket, way: ExternalMta, target: Target, seconds: float) -> None:
    """Have the server connect to the receiver. Raises `Failed`."""
    shake = {"socks": _socks, "http": _connect, "proxy": _proxy}.get(way.protocol)
    if shake is None:
        return
    try:
        async with asyncio.timeout(seconds):
            await shake(sock, way, target)
    except TimeoutError:
        raise dead(way, "no answer in time") from None
    except OSError as error:
        raise dead(way, str(error.strerror or error)) from None


def dead(way: ExternalMta, why: str) -> Failed:
    """The server itself does not serve."""
    text = f"the {way.protocol} proxy {way.connect_ip}:{way.connect_port} is down: {why}"
    return Failed("handshake", "error", text, ours=True, proxy=True)


async def _socks(sock: socket.socket, way: ExternalMta, target: Target) -> None:
    await _send(sock, b"\x05\x01\x00")  # version 5, one method: no login
    version, method = await _exactly(sock, 2)
    if version != 5:
        raise dead(way, "it is no SOCKS5 server")
    if method != 0:
        raise Failed("handshake", "error", f"the socks proxy {way.connect_ip} wants a login", ours=True, proxy=True)
    ip = ipaddress.ip_address(target.address)
    kind = b"\x01" if ip.version == 4 else b"\x04"
    await _send(sock, b"\x05\x01\x00" + kind + ip.packed + struct.pack("!H", target.port))
    _, reply, _, bound = await _exactly(sock, 4)
    length = {1: 4, 4: 16}.get(bound) or (await _exactly(sock, 1))[0]
    await _exactly(sock, length + 2)
    if reply in _UNREACHED:
        raise Failed("connect", "error", f"{target.address}:{target.port}: {_UNREACHED[reply]}, by {way.connect_ip}")
    if reply:
        why = _OTHERS.get(reply, f"reply {reply}")
        raise Failed("handshake", "error", f"the socks proxy {way.connect_ip} answers: {why}", ours=True)


async def _connect(sock: socket.socket, way: ExternalMta, target: Target) -> None:
    host = f"[{target.address}]" if ":" in target.address else target.address
    await _send(sock, f"CONNECT {host}:{target.port} HTTP/1.1\r\nHost: {host}:{target.port}\r\n\r\n".encode())
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):  # octet by octet: what follows is the receiver's greeting
        if len(head) > HEAD:
            raise dead(way, "its answer has no end")
        head += await _exactly(sock, 1)
    first = clean(head.partition(b"\r\n")[0].decode(errors="replace"), 200)
    parts = first.split(" ", 2)
    code = int(parts[1]) if len(parts) > 1 and parts[0].startswith("HTTP/") and parts[1].isdecimal() else 0
    if 200 <= code < 300:
        return
    if code in _GATEWAY:
        raise Failed("connect", "error", f"{target.address}:{target.port}: {first}, by {way.connect_ip}")
    if not code:
        raise dead(way, "it is no HTTP proxy")
    if code == LOGIN:
        raise Failed("handshake", "error", f"the http proxy {way.connect_ip} wants a login", ours=True, proxy=True)
    raise Failed("handshake", "error", f"the http proxy {way.connect_ip} answers: {first}", ours=True)


async def _proxy(sock: socket.socket, way: ExternalMta, target: Target) -> None:
    """HAProxy's PROXY protocol, version 2, section 2.2: source and destination as the receiver should see them."""
    source, there = ipaddress.ip_address(way.public_ip), ipaddress.ip_address(target.address)
    family = b"\x11" if there.version == 4 else b"\x21"  # TCP over IPv4, IPv6
    addresses = source.packed + there.packed + struct.pack("!HH", sock.getsockname()[1], target.port)
    await _send(sock, _SIGNATURE + b"\x21" + family + struct.pack("!H", len(addresses)) + addresses)


async def _send(sock: socket.socket, octets: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, octets)


async def _exactly(sock: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = await asyncio.get_running_loop().sock_recv(sock, count - len(found))
        if not more:
            raise ConnectionResetError("it hung up")
        found += more
    return found
