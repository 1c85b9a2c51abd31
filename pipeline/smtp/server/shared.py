"""What all SMTP sessions share: the settings, the queue, the bounds, and who is connected.

Bounds: those of `Crowd` for sessions, `room` octets of messages on their way in. Nothing here fails for one session
what another one did.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from operators.deliveries.events import Event, Fault
from operators.mail.message import mime_properties
from pipeline.queues import result_rule
from pipeline.queues.contract import Queue, QueueFull
from pipeline.smtp.server.access.auth import Credentials
from pipeline.smtp.server.access.crowd import Crowd
from pipeline.smtp.server.access.guard import Guard
from pipeline.smtp.server.client import SmtpPeer
from pipeline.smtp.server.content import Room
from pipeline.smtp.server.refusal import Refusal
from pipeline.smtp.server.transaction import Dates, Ids
from pipeline.smtp.watch import DialogueObserver
from settings import Settings

if TYPE_CHECKING:
    from pipeline.smtp.server.dialogue import SessionDialogue

_LEAST_ROOM = 256_000_000
_LEAST_SPILLED = 1_000_000_000
SAID_AGAIN = 60.0  # seconds until the same fault is told again
MOST_SAID = 100  # faults that are remembered for it
_LOG = structlog.get_logger("intake")


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
        self.watch: DialogueObserver | None = None
        self.closing = False
        most = settings.smtp_connections
        self.crowd = Crowd(most, settings.smtp_client_connections or most - most // 10)
        self.local_queue = settings.rabbitmq_local or ""
        self.result_rule = result_rule(settings)
        self.ids = Ids(settings.server_id)
        self.dates = Dates()
        # The largest message must fit: it is held as it came, as text and as JSON (see `Session._queue`).
        self.room = Room(max(_LEAST_ROOM, 5 * settings.smtp_maxsize))
        self.spilled = Room(max(_LEAST_SPILLED, 10 * settings.smtp_maxsize))
        self.most_copied = self.room.size // 4
        self._is_local = is_local
        self._empty: asyncio.Event | None = None
        self._said: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def is_local(self, recipient: str) -> bool:
        """A local address, where there is a queue for such."""
        return bool(self.local_queue) and self._is_local(recipient)

    def admit(self, session: SessionDialogue) -> None:
        """Raises `Refusal` for a client that may not connect, and for one too many."""
        if self.closing:
            raise Refusal("421 4.3.2 Shutting down", close=True)
        if not _within(session.ip, self.settings.smtp_range):
            raise Refusal(f"554 5.7.1 {session.ip} may not send here", close=True)
        self.crowd.admit(session)

    def leave(self, session: SessionDialogue) -> None:
        """A session has ended. May be told twice."""
        self.crowd.leave(session)
        if not self.crowd and self._empty is not None:
            self._empty.set()

    async def emptied(self, patience: float) -> None:
        """Wait until no session is left, or `patience` seconds."""
        self._empty = asyncio.Event()
        if self.crowd:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), patience)

    def properties(self, client: SmtpPeer, received: str) -> dict[str, Any]:
        """What every message from this client says: where it came in, and the MTA IP that goes with that."""
        properties = {"received": received, "hostname": self.hostname, "connection": client.connection()}
        ip, settings = client.local[0], self.settings
        if _within(ip, settings.smtp_mappable_ips) and not _within(ip, settings.smtp_unmappable_ips):
            properties["ips"] = [ip]
        return properties

    def record(self, client: SmtpPeer, sender: str, recipients: list[str], reason: str, raw: bytes | None) -> None:
        """Put what was turned away on the refused queue, if there is one; nobody waits for it."""
        queue = self.settings.rabbitmq_refused
        if not queue or self.queue.full is not None:
            return
        message = {"envelope": sender, "reason": reason, **self.properties(client, self.dates.at(self.clock())[1])}
        if raw and len(recipients) * len(raw) <= self.most_copied:
            message |= mime_properties(raw)
        bodies = [(queue, msgspec.json.encode({"recipient": recipient, **message})) for recipient in recipients]
        self.queue.publish(bodies, self._recorded)

    def _recorded(self, error: Exception | None) -> None:
        if error is not None and not isinstance(error, QueueFull):  # that is said elsewhere, and once
            self.fault("refused queue", error)

    def fault(self, where: str, error: Exception) -> None:
        """Something of ours failed: told to the operator by name, to the log in full."""
        self.trouble(where, type(error).__name__, error)

    def trouble(self, where: str, detail: str, error: Exception | None = None) -> None:
        """Tell the operator of a fault: at once, and how often once a minute; clients can bring it about many times."""
        now = self.clock()
        said, more = self._said.pop((where, detail), (0.0, 0))
        if now - said < SAID_AGAIN:
            self._said[where, detail] = (said, more + 1)
            return
        self._said[where, detail] = (now, 0)
        if len(self._said) > MOST_SAID:
            self._said.popitem(last=False)
        times = f", {more} times more in the last while" if more else ""
        _LOG.error(where, detail=detail + times, exc_info=error)
        self.report(Fault(time=now, where=where, detail=detail + times))


def _within(ip: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    return bool(networks and ip) and any(ipaddress.ip_address(ip) in network for network in networks)
