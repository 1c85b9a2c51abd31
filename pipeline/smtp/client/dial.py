"""The TCP connection: from an MTA IP to a receiver's address. Each way to fail is told apart by where it happens."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from typing import TypeVar

from operators.deliveries.delivery import Target
from operators.deliveries.routes import address
from pipeline.smtp.client.egress import dead, pass_through, server_of
from pipeline.smtp.client.failure import ANSWERED, NO_PORTS, SHORTAGE, Failed, reason
from settings.config.egress import ExternalMta

CONNECT = 30.0  # seconds, before the factor
# Linux picks the port at `connect` then, so that a port serves many receivers at once (ip(7)).
_NO_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)

Made = TypeVar("Made", bound=asyncio.BaseProtocol)


async def dial(
    ip: str, target: Target, protocol: Callable[[], Made], factor: float, way: ExternalMta | None = None
) -> tuple[asyncio.Transport, Made]:
    """A connection from `ip` ("" is any) with this protocol on it; `way`: not straight from here.

    Raises:
        Failed: none could be made.
    """
    if way is not None:
        return await _dial_through(way, target, protocol, factor)
    sock = _bound(ip, target)
    try:
        await _connect(sock, ip, target, CONNECT * factor)
        return await asyncio.get_running_loop().create_connection(protocol, sock=sock)
    except OSError as error:  # it was made, and is gone
        sock.close()
        raise _failed(error, ip, target) from None
    except BaseException:
        sock.close()
        raise


async def _dial_through(
    way: ExternalMta, target: Target, protocol: Callable[[], Made], factor: float
) -> tuple[asyncio.Transport, Made]:
    server = server_of(way, target)
    sock = _bound(way.local_ip, server)
    try:
        try:
            await _connect(sock, way.local_ip, server, CONNECT * factor)
        except (OSError, Failed) as error:
            if way.protocol == "nat":
                raise
            why = error.outcome.description if isinstance(error, Failed) else reason(error)
            raise dead(way, why) from None
        await pass_through(sock, way, target, CONNECT * factor)
        return await asyncio.get_running_loop().create_connection(protocol, sock=sock)
    except OSError as error:
        sock.close()
        raise _failed(error, way.local_ip, target) from None
    except BaseException:
        sock.close()
        raise


def _bound(ip: str, target: Target) -> socket.socket:
    """A socket of the MTA IP."""
    if ip and address(ip) is None:  # `bind` would ask DNS for it, and wait
        raise Failed("bind", "error", f"{ip} is no IP address", ours=True)
    try:
        sock = socket.socket(socket.AF_INET6 if ":" in target.address else socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise Failed("connect", "error", f"no socket: {reason(error)}", ours=True, shortage=True) from None
    try:
        sock.setblocking(False)
        if ip:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_IP, _NO_PORT, 1)
            sock.bind((ip, 0))
    except OSError as error:
        sock.close()
        text, short = f"{ip} cannot be bound: {reason(error)}", error.errno in NO_PORTS
        raise Failed("bind", "error", text, ours=True, shortage=short) from None
    return sock


async def _connect(sock: socket.socket, ip: str, target: Target, seconds: float) -> None:
    host, port = target.address, target.port
    try:
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except TimeoutError:
        raise Failed("connect", "timeout", f"{host}:{port} does not answer") from None
    except ValueError as error:  # no address, or no port
        raise Failed("connect", "error", f"{host}:{port}: {error}", ours=True) from None


def _failed(error: OSError, ip: str, target: Target) -> Failed:
    """ENETUNREACH, EACCES, EPERM, EINVAL and the like: there is no way from this IP, which the receiver cannot help."""
    where = f"{target.address}:{target.port}"
    short = error.errno in SHORTAGE or (error.errno == errno.EADDRNOTAVAIL and bool(ip))
    if short:
        return Failed("connect", "error", f"no connection to {where}: {reason(error)}", ours=True, shortage=True)
    if error.errno in ANSWERED:
        return Failed("connect", "error", f"{where}: {reason(error)}")
    text = f"no way from {ip or 'here'} to {where}: {reason(error)}"
    return Failed("connect", "error", text, ours=True)
