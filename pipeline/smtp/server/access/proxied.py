"""PROXY headers: who is behind a load balancer of `smtp-proxy` (HAProxy's PROXY protocol, versions 1 and 2).

A port where some connections begin with such a header. It is read octet by octet as far as it goes, so that TLS may
follow it. From an address of `smtp-proxy` it must come, within PATIENCE seconds; from others it is no command.
Bound: WAITING connections whose header has not come.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence

from pipeline.smtp.server.client import address
from settings.config.values import Network

PATIENCE = 10.0
WAITING = 200
LONGEST = 107  # octets of version 1 (section 2.1)
MOST = 4096  # of version 2, its further fields included
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"

Ends = tuple[tuple[str, int], tuple[str, int]]  # our end's address and the client's
Exactly = Callable[[int], Awaitable[bytes]]
Factory = Callable[[Ends], asyncio.Protocol]


class NoHeader(Exception):
    """What came is no PROXY header."""


class ProxiedEntry:
    """How a connection that was taken becomes a session, where some may begin with a header.

    Args:
        proxies: whose connections do; none: nobody's.
        session: makes the session of a connection with these ends.
        tls: from the first octet after the header; None: none.
        refused: told the address whose connection has none, and why.
    """

    def __init__(
        self,
        proxies: Sequence[Network],
        session: Factory,
        tls: tuple[ssl.SSLContext, float] | None,
        refused: Callable[[str, str], None],
    ) -> None:
        self._proxies, self._session, self._tls, self._refused = proxies, session, tls, refused
        self._waiting = 0

    async def enter(self, client: socket.socket) -> None:
        """Read the header where there must be one, then begin the session."""
        loop = asyncio.get_running_loop()
        remote = ("", 0)
        self._waiting += 1
        try:
            ends = (address(client.getsockname()), remote := address(client.getpeername()))
            if any(ipaddress.ip_address(remote[0]) in one for one in self._proxies if remote[0]):
                ends = await self._headed(client, ends)
            tls, seconds = self._tls or (None, None)
            await loop.connect_accepted_socket(
                lambda: self._session(ends), client, ssl=tls, ssl_handshake_timeout=seconds
            )
        except (NoHeader, TimeoutError) as error:
            self._refused(remote[0], str(error) or f"no PROXY header came within {PATIENCE:g} s")
            client.close()
        except OSError:  # SSLError is one: the client's handshake failed, or it has gone
            client.close()
        finally:
            self._waiting -= 1

    async def _headed(self, client: socket.socket, ends: Ends) -> Ends:
        if self._waiting > WAITING:
            raise NoHeader(f"more than {WAITING} connections wait for their PROXY header")
        loop = asyncio.get_running_loop()

        async def exactly(count: int) -> bytes:
            found = b""
            while len(found) < count:
                more = await loop.sock_recv(client, count - len(found))
                if not more:
                    raise ConnectionResetError
                found += more
            return found

        async with asyncio.timeout(PATIENCE):
            return await read_header(exactly, ends)


async def read_header(exactly: Exactly, ends: Ends) -> Ends:
    """The ends that a header tells of; those of the connection itself where it tells of none (a health check)."""
    first = await exactly(len(_SIGNATURE))
    if first == _SIGNATURE:
        return await _second(exactly, ends)
    if not first.startswith(b"PROXY "):
        raise NoHeader("no PROXY header came first")
    line = bytearray(first)
    while not line.endswith(b"\r\n"):
        if len(line) >= LONGEST:
            raise NoHeader("the PROXY header has no end")
        line += await exactly(1)
    return _first(bytes(line), ends)


def _first(line: bytes, ends: Ends) -> Ends:
    """Version 1: `PROXY TCP4 source destination port port`."""
    words = line[:-2].decode("ascii", "replace").split(" ")
    if words[1] == "UNKNOWN":
        return ends
    with contextlib.suppress(ValueError, IndexError):
        _, kind, source, there, source_port, port = words
        if kind in ("TCP4", "TCP6"):
            return (_ip(there), _port(port)), (_ip(source), _port(source_port))
    raise NoHeader("the PROXY header is none")


async def _second(exactly: Exactly, ends: Ends) -> Ends:
    """Version 2 (section 2.2)."""
    version, family, length = struct.unpack("!BBH", await exactly(4))
    if version not in (0x20, 0x21) or length > MOST:
        raise NoHeader("the PROXY header is none")
    body = await exactly(length) if length else b""
    size = {0x11: 4, 0x21: 16}.get(family)
    if version == 0x20 or size is None:  # LOCAL, or no TCP: the proxy itself
        return ends
    if length < 2 * size + 4:
        raise NoHeader("the PROXY header is too short")
    ports = struct.unpack_from("!HH", body, 2 * size)
    source, there = (str(ipaddress.ip_address(body[at : at + size])) for at in (0, size))
    return (_ip(there), ports[1]), (_ip(source), ports[0])


def _ip(text: str) -> str:
    return address((str(ipaddress.ip_address(text)), 0))[0]


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > 65535:
        raise ValueError
    return int(text)
