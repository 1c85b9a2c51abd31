"""The SMTP server: its ports, its certificate, its start and its end.

Bounds are `Shared`'s. What cannot be opened is a `StartError` with one line; afterwards nothing that a
client does ends it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Callable, Sequence

import msgspec

from operators.deliveries.events import Event, Rejected
from pipeline.process.supervisor import supervisor
from pipeline.queues.contract import Queue
from pipeline.smtp.server.access import auth
from pipeline.smtp.server.access.guard import Guard
from pipeline.smtp.server.access.port import Enter, Port
from pipeline.smtp.server.access.proxied import ProxiedEntry
from pipeline.smtp.server.dialogue import HANDSHAKE
from pipeline.smtp.server.session import Session
from pipeline.smtp.server.shared import Shared
from pipeline.smtp.watch import DialogueObserver
from settings import Settings, StartError

_REASONS = {
    errno.EADDRINUSE: "is taken by another program",
    errno.EADDRNOTAVAIL: "cannot be opened: the address is not one of this machine's",
    errno.EACCES: "cannot be opened: that needs root, or CAP_NET_BIND_SERVICE",
}


class PortShare(msgspec.Struct, frozen=True):
    """Ports that a process has in common with others.

    Attributes:
        sockets: that listen: those of `smtp-port`, then those of `smtp-secure-port`.
        is_next: told how many sessions this process has, says whether the next one is for it.
    """

    sockets: Sequence[socket.socket]
    is_next: Callable[[int], bool]


class SmtpIntake:
    """Takes mail by SMTP and queues it.

    Args:
        settings: the `smtp-*` keys, `server-id`, and the queues' names.
        queue: where messages go; open already.
        report: told of what was received and rejected.
        is_local: whether a recipient is a local address, which needs no login.
        hostname: the name to greet with; `server-id` where none is given.
        guard: against guessed passwords.
        clock: epoch seconds.
        ports: those that it shares with other processes; it opens its own without.

    Attributes:
        shared: what its sessions share: the queue, the bounds, who is connected.
    """

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        report: Callable[[Event], None],
        *,
        is_local: Callable[[str], bool] = lambda _: False,
        hostname: str = "",
        guard: Guard | None = None,
        clock: Callable[[], float] = time.time,
        ports: PortShare | None = None,
    ) -> None:
        self._settings = settings
        self.shared = Shared(
            settings,
            queue,
            report,
            is_local,
            None,
            Guard() if guard is None else guard,
            hostname or settings.server_id,
            clock,
        )
        self._servers: list[asyncio.Server | Port] = []
        self._ports = ports

    @property
    def connections(self) -> int:
        """Open sessions."""
        return len(self.shared.crowd)

    @property
    def watch(self) -> DialogueObserver | None:
        """Gets each line of every dialogue; None while nobody looks."""
        return self.shared.watch

    @watch.setter
    def watch(self, watch: DialogueObserver | None) -> None:
        self.shared.watch = watch

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(IP, port) of each open port, those of `smtp-port` first."""
        shared = self._ports.sockets if self._ports is not None else ()
        return [sock.getsockname()[:2] for sock in shared or [server.sockets[0] for server in self._servers]]

    async def start(self) -> None:
        """Open every port.

        Raises:
            StartError: a port is taken, the address is not ours, the certificate or `smtp-auth` cannot be used.
        """
        settings, shared = self._settings, self.shared
        supervisor().condition("intake", lambda: shared.crowd.trouble)
        shared.credentials = _credentials(settings)
        shared.tls = _tls(settings)
        try:
            if self._ports is not None:
                return  # `share` begins
            for port in settings.smtp_port:
                self._servers.append(await self._open("smtp-port", port, None))
            for port in settings.smtp_secure_port:
                self._servers.append(await self._open("smtp-secure-port", port, shared.tls))
        except StartError:
            await self.close()
            raise

    async def _open(self, key: str, port: int, tls: ssl.SSLContext | None) -> asyncio.Server | Port:
        loop = asyncio.get_running_loop()
        ip = self._settings.smtp_ip
        try:
            if self._settings.smtp_proxy:
                family = socket.AF_INET6 if ":" in ip else socket.AF_INET
                return Port(socket.create_server((ip, port), family=family, backlog=1024), self._entry(tls))
            return await loop.create_server(
                lambda: Session(self.shared, loop),
                ip,
                port,
                ssl=tls,
                ssl_handshake_timeout=HANDSHAKE if tls else None,
                backlog=1024,
            )
        except OSError as error:
            reason = _REASONS.get(error.errno or 0, f"cannot be opened: {error.strerror or error}")
            raise StartError(f"{key}: {ip} port {port} {reason}") from None

    def share(self) -> None:
        """Take connections of the shared ports, once the other processes can, too: sessions stay where they are."""
        ports = self._ports
        if ports is None or self._servers or self.shared.closing:
            return

        def ours() -> bool:
            arriving = sum(port.arriving for port in self._servers if isinstance(port, Port))
            return ports.is_next(len(self.shared.crowd) + arriving)

        for index, sock in enumerate(ports.sockets):
            tls = self.shared.tls if index >= len(self._settings.smtp_port) else None
            self._servers.append(Port(sock, self._entry(tls), ours))

    def _entry(self, tls: ssl.SSLContext | None) -> Enter:
        """How a connection that was taken becomes a session."""
        loop, proxies = asyncio.get_running_loop(), self._settings.smtp_proxy
        handshake = None if tls is None else (tls, HANDSHAKE)
        return ProxiedEntry(proxies, lambda ends: Session(self.shared, loop, ends), handshake, self._unheaded).enter

    def _unheaded(self, ip: str, why: str) -> None:
        """A connection of a proxy without its header is turned away."""
        now = self.shared.clock()
        self.shared.report(Rejected(time=now, reason=f"421 4.3.0 {why}", code=421, remote_ip=ip))

    async def close(self, grace: float = 5.0) -> None:
        """Take no more connections or transactions, give those under way `grace` seconds, then close with 421."""
        shared = self.shared
        shared.closing = True
        for server in self._servers:
            server.close()
        for session in [session for session in shared.crowd.sessions if session.idle]:
            session.leave("421 4.3.2 Shutting down")
        await shared.emptied(grace)
        for session in list(shared.crowd.sessions):
            session.leave("421 4.3.2 Shutting down")
        self._servers.clear()


def _credentials(settings: Settings) -> auth.Credentials | None:
    password = settings.smtp_password.get_secret_value() if settings.smtp_password else ""
    source = settings.smtp_auth.get_secret_value() if settings.smtp_auth else ""
    try:
        return auth.parse(source, settings.smtp_username or "", password)
    except ValueError as error:
        raise StartError(str(error)) from None


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.smtp_certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.smtp_certificate, settings.smtp_privatekey)
        if settings.smtp_ciphers:
            context.set_ciphers(settings.smtp_ciphers)
    except ssl.SSLError as error:
        reason = (
            "the key does not belong to it" if error.reason == "KEY_VALUES_MISMATCH" else str(error.reason or error)
        )
        raise StartError(f"smtp-certificate: {settings.smtp_certificate}: {reason}") from None
    except OSError as error:
        raise StartError(f"smtp-certificate: {error.filename or settings.smtp_certificate}: {error.strerror}") from None
    return context
