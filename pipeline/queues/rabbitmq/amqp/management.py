"""What RabbitMQ's management API says of the queues: unacked messages and rates, which AMQP itself cannot tell.

Owns its connections while it is asked. Bounds: PAGE queues, ANSWER bytes, PATIENCE seconds. Where it does not answer
(the plugin is off, the account lacks the tag `management`) it is asked again after AGAIN seconds, and `why` says so:
the figures that AMQP has go on without it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Self
from urllib.parse import quote

import httpx
import msgspec
from yarl import URL

PORTS = {"amqp": ("http", 15672), "amqps": ("https", 15671)}
PAGE = 200  # queues
ANSWER = 4_000_000  # bytes
PATIENCE = 2.0  # seconds
AGAIN = 15.0  # seconds until it is asked again after a failure
LONGEST = 3000  # characters of the expression that names the queues: a broker takes 8,000 in a request's line
COLUMNS = (
    "name,messages_ready,messages_unacknowledged,consumers,"
    "message_stats.publish,message_stats.deliver_get,message_stats.ack"
)


class Totals(msgspec.Struct, frozen=True):
    """Messages since the queue was declared. Its rates would not do: they are 0 wherever statistics come faster."""

    publish: int = 0
    deliver_get: int = 0
    ack: int = 0


class Said(msgspec.Struct, frozen=True):
    """What the API says of a queue, up to 5 s old. `message_stats` is missing where nothing has gone through it."""

    name: str
    messages_ready: int = 0
    messages_unacknowledged: int = 0
    consumers: int = 0
    message_stats: Totals = Totals()


class _Answer(msgspec.Struct, frozen=True):
    items: list[Said]


class Management:
    """Asks the management API.

    Args:
        address: of the API; None: its usual port on the broker's host.
        verify: check its certificate.
    """

    def __init__(self, address: str | None, verify: bool) -> None:
        self._address, self._verify = address, verify
        self.why = "it has not been asked yet"  # why there is no answer
        self._not_before = 0.0  # monotonic seconds
        self._clients: dict[str, httpx.AsyncClient] = {}  # by scheme

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients.values():
            await client.aclose()

    def _client(self, scheme: str) -> httpx.AsyncClient:
        """Loading the authorities takes 20 ms, which plain HTTP need not pay."""
        if scheme not in self._clients:
            verify = self._verify and scheme == "https"
            self._clients[scheme] = httpx.AsyncClient(verify=verify, timeout=PATIENCE, trust_env=False)
        return self._clients[scheme]

    async def queues(self, broker: str, outbox: str, names: Iterable[str]) -> dict[str, Said] | None:
        """What it says of these queues, and of the outbox's temporary ones; None where it does not answer.

        Args:
            broker: the AMQP address in use; its login is the API's, too.
        """
        if time.monotonic() < self._not_before:
            return None
        try:
            found = await self._ask(URL(broker), _expression(outbox, names))
        except (httpx.HTTPError, httpx.InvalidURL, msgspec.MsgspecError, OSError, ValueError) as error:
            self.why = _say(error)
            self._not_before = time.monotonic() + AGAIN
            return None
        self.why = ""
        return {one.name: one for one in found}

    async def _ask(self, broker: URL, expression: str) -> list[Said]:
        own = URL(self._address) if self._address else None
        scheme, port = PORTS[broker.scheme]
        base = own or URL.build(scheme=scheme, host=broker.host or "localhost", port=port)
        login = own if own is not None and own.user else broker
        url = f"{str(base.with_user(None)).rstrip('/')}/api/queues/{quote(broker.path[1:] or '/', safe='')}"
        query = {"page": "1", "page_size": str(PAGE), "name": expression, "use_regex": "true", "columns": COLUMNS}
        query |= {"sort": "messages", "sort_reverse": "true"}
        body = bytearray()
        auth = (login.user or "guest", login.password or "guest")
        async with self._client(base.scheme).stream("GET", url, params=query, auth=auth) as answer:
            answer.raise_for_status()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > ANSWER:
                    raise ValueError(f"its answer is longer than {ANSWER:,} bytes")
        return msgspec.json.decode(body, type=_Answer).items


def _expression(outbox: str, names: Iterable[str]) -> str:
    """Matches these names, as many as fit, and the temporary queues of the outbox."""
    said = f"^{re.escape(outbox)}\\.(delay|parked)\\."
    for name in names:
        more = f"|^{re.escape(name)}$"
        if len(said) + len(more) > LONGEST:
            break
        said += more
    return said


def _say(error: Exception) -> str:
    """In a line, without the address, which may hold a password."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"it answers {error.response.status_code} {error.response.reason_phrase}"
    if isinstance(error, httpx.TimeoutException):
        return f"no answer in {PATIENCE:g} seconds"
    if isinstance(error, httpx.TransportError | OSError):
        return "it cannot be reached"
    return "its answer cannot be understood"
