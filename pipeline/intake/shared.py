"""What all SMTP sessions share: the settings, the queue, the bounds, and who is connected.

Bounds: `smtp-connections` sessions, `room` octets of messages on their way in. Nothing here fails for one session what
another one did.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from operators.events import Event, Fault
from operators.message import mime_properties
from pipeline.intake.auth import Credentials, Guard
from pipeline.intake.content import Room
from pipeline.intake.refusal import Refusal
from pipeline.intake.transaction import Dates, Ids
from pipeline.queues.contract import Queue
from settings import Settings

if TYPE_CHECKING:
    from pipeline.intake.session import Session

_LEAST_ROOM = 256_000_000
_LOG = structlog.get_logger("intake")

Watch = Callable[[str, str, str], None]  # (client's IP, "in" or "out", line without secrets)


class Shared:
    """One for all sessions of an intake.

    Attributes:
        watch: gets the dialogue's lines while somebody looks; None costs one comparison a line.
        closing: no new transactions are begun.
        most_copied: octets that one transaction may come to, over all its recipients.
    """

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        report: Callable[[Event], None],
        is_local: Callable[[str], bool],
        credentials: Credentials | None,
        guard: Guard,
        hostname: str,
        clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.queue = queue
        self.report = report
        self.credentials = credentials
        self.guard = guard
        self.hostname = hostname
        self.clock = clock
        self.tls: ssl.SSLContext | None = None
        self.watch: Watch | None = None
        self.closing = False
        self.sessions: set[Session] = set()
        self.local_queue = settings.rabbitmq_local or ""
        self.ids = Ids(settings.server_id)
        self.dates = Dates()
        # A message is held as it came and as JSON: the largest one must fit whatever else is on its way.
        self.room = Room(max(_LEAST_ROOM, 4 * settings.smtp_maxsize))
        self.most_copied = self.room.size // 2
        self._is_local = is_local

    def is_local(self, recipient: str) -> bool:
        """A local address, where there is a queue for such."""
        return bool(self.local_queue) and self._is_local(recipient)

    def admit(self, ip: str) -> None:
        """Raises `Refusal` for a client that may not connect, and for one too many."""
        if self.closing:
            raise Refusal("421 4.3.2 Shutting down", close=True)
        if not _within(ip, self.settings.smtp_range):
            raise Refusal(f"554 5.7.1 {ip} may not send here", close=True)
        if len(self.sessions) > self.settings.smtp_connections:
            raise Refusal("421 4.7.0 Too many connections, try again later", close=True)

    def mapped(self, ip: str) -> list[str]:
        """The MTA IP that mail submitted to this address leaves from, if it is a mappable one."""
        settings = self.settings
        mappable = _within(ip, settings.smtp_mappable_ips) and not _within(ip, settings.smtp_unmappable_ips)
        return [ip] if mappable else []

    def record(
        self, sender: str, recipients: list[str], reason: str, properties: dict[str, Any], raw: bytes | None
    ) -> None:
        """Put what was turned away on the refused queue, if there is one; nobody waits for it."""
        queue = self.settings.rabbitmq_refused
        if not queue:
            return
        message = {"envelope": sender, "reason": reason, **properties, **(mime_properties(raw) if raw else {})}
        bodies = [(queue, msgspec.json.encode({"recipient": recipient, **message})) for recipient in recipients]
        self.queue.publish(bodies, lambda error: error and self.fault("refused queue", error))

    def fault(self, where: str, error: Exception) -> None:
        """Something of ours failed: told to the operator by name, to the log in full."""
        _LOG.error(where, exc_info=error)
        self.report(Fault(time=self.clock(), where=where, detail=type(error).__name__))


def _within(ip: str, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    return bool(ip) and any(ipaddress.ip_address(ip) in network for network in networks)
