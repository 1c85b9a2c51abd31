"""The event stream over the API, as server-sent events.

Owner of: the clients that watch, at most CLIENTS. Each has a line of BACKLOG events; who reads slower loses events, and
is told how many (`dropped`). Events are made into their JSON's parts as they come, since a delivery holds its body: 7
microseconds an event and client that its filter lets through, 0.6 for others. Without clients nothing is subscribed.

Each event of a stream has an id. Who lost the connection asks again with `Last-Event-ID`: its watch goes on for AWAY
seconds after it went, within the same bounds, and what it missed comes first; where that is not possible, the stream
begins with `dropped` and no count. At most PAST sent events are kept for it, since what was sent may not have arrived.
"""

from __future__ import annotations

import asyncio
import collections
import secrets
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response
from reactivex import Observable
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gui.api.answers import Problem, encode
from gui.api.context import Context
from pipeline.views.events import Delivery, Event, Outcome

CLIENTS = 50
BACKLOG = 1000
AWAY = 30.0  # seconds
PAST = 200
ALIVE = 15.0  # seconds without an event after which a comment is sent, so that a lost client is found out


class EventFilter(msgspec.Struct, frozen=True):
    """Which events; empty is all."""

    type: frozenset[str] = frozenset()
    lane: str = ""
    domain: str = ""
    ip: str = ""

    def wants(self, event: Event) -> bool:
        """Whether this event passes."""
        if self.type and type(event).__name__.lower() not in self.type:
            return False
        return not (self.lane or self.domain or self.ip) or self._about(event)

    def _about(self, event: Event) -> bool:
        delivery: Delivery | None = getattr(event, "delivery", None)
        about: Any = delivery if delivery is not None else event
        lane = getattr(about, "lane", "") or getattr(event, "fields", {}).get("lane", "")
        if self.lane and lane != self.lane:
            return False
        if self.ip and self.ip not in (getattr(about, "ip", ""), lane.partition("/")[0]):
            return False
        return not self.domain or self.domain == _domain(about)


class EventClient:
    """One who watches. Its ids are `watch-number`; the watch's part is random, so that nobody resumes another's."""

    def __init__(self, events: Observable[Event], watch: EventFilter, backlog: int = BACKLOG) -> None:
        self.watch, self._most = watch, backlog
        self.name = secrets.token_hex(8)
        self._line: collections.deque[dict[str, Any]] = collections.deque()
        self._sent: collections.deque[tuple[int, bytes]] = collections.deque(maxlen=PAST)
        self._number = 0
        self._dropped = 0
        self._again = b""
        self._some = asyncio.Event()
        self._subscription = events.subscribe(self.take)

    def take(self, event: Event) -> None:
        """An event; one that cannot be told is none: an observer must not fail."""
        try:
            if not self.watch.wants(event):
                return
            if len(self._line) >= self._most:
                self._dropped += 1
            else:
                self._line.append(told(event))
            self._some.set()
        except Exception:
            self._dropped += 1

    async def next(self, patience: float = ALIVE) -> bytes:
        """What to send next: some events, how many were dropped, or a sign of life."""
        try:
            await asyncio.wait_for(self._some.wait(), patience)
        except TimeoutError:
            return b": alive\n\n"
        self._some.clear()
        again, self._again = self._again, b""
        line, self._line = self._line, collections.deque()
        sent = again + b"".join(self._numbered(event["type"], event) for event in line)
        if self._dropped:
            sent += self._numbered("dropped", {"type": "dropped", "count": self._dropped})
            self._dropped = 0
        return sent

    def _numbered(self, name: str, data: dict[str, Any]) -> bytes:
        self._number += 1
        sent = _sent(name, data, f"{self.name}-{self._number}")
        self._sent.append((self._number, sent))
        return sent

    def resume(self, number: int) -> bool:
        """Send again what came after this event; False where that is not kept any more."""
        first = self._sent[0][0] if self._sent else self._number + 1
        if not first - 1 <= number <= self._number:
            return False
        self._again = b"".join(sent for each, sent in self._sent if each > number)
        if self._again or self._line or self._dropped:
            self._some.set()
        return True

    def close(self) -> None:
        """Watch no more."""
        self._subscription.dispose()


class Clients:
    """All who watch, and those who have just gone, with when they are forgotten."""

    def __init__(self, events: Observable[Event]) -> None:
        self._events = events
        self.open: set[EventClient] = set()
        self._away: dict[str, tuple[EventClient, str, asyncio.TimerHandle]] = {}

    def enter(self, watch: EventFilter, holder: str = "", last: str = "") -> EventClient:
        """A new one, or one that comes again. Raises `Problem` where there are too many.

        Args:
            holder: whose token it is; nobody resumes another's stream.
            last: the id of the last event that it has; empty: it is new.
        """
        if last and (client := self._return(watch, holder, last)) is not None:
            return client
        if len(self.open) >= CLIENTS:
            raise Problem(503, f"{CLIENTS} clients watch the events already.", headers={"Retry-After": "30"})
        client = EventClient(self._events, watch)
        self.open.add(client)
        return client

    def _return(self, watch: EventFilter, holder: str, last: str) -> EventClient | None:
        name, _, number = last.partition("-")
        client, whose, timer = self._away.get(name, (None, "", None))
        if client is None or timer is None or whose != holder or client.watch != watch or len(self.open) >= CLIENTS:
            return None
        if not (number.isascii() and number.isdigit() and len(number) < 16 and client.resume(int(number))):
            return None
        timer.cancel()
        del self._away[name]
        self.open.add(client)
        return client

    async def stream(self, client: EventClient, last: str = "") -> AsyncIterator[bytes]:
        """What it is sent until it goes."""
        yield b"retry: 3000\n\n"
        if last and not last.startswith(f"{client.name}-"):
            yield _sent("dropped", {"type": "dropped", "count": None})  # what came meanwhile is not known any more
        while True:
            yield await client.next()

    def leave(self, client: EventClient, holder: str = "") -> None:
        """It has gone; it may come back."""
        if client not in self.open:
            return
        self.open.discard(client)
        if len(self._away) >= CLIENTS:
            self._forget(next(iter(self._away)))
        timer = asyncio.get_running_loop().call_later(AWAY, self._forget, client.name)
        self._away[client.name] = (client, holder, timer)

    def _forget(self, name: str) -> None:
        client, _, timer = self._away.pop(name)
        timer.cancel()
        client.close()


class _Stream(StreamingResponse):
    """Leaves also where the client went before the first octet, when the generator never began."""

    def __init__(self, clients: Clients, client: EventClient, holder: str, last: str) -> None:
        super().__init__(clients.stream(client, last), media_type="text/event-stream")
        self.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
        self._clients, self._client, self._holder = clients, client, holder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._clients.leave(self._client, self._holder)


TYPES = frozenset(kind.__name__.lower() for kind in Event.__subclasses__())


def routes(context: Context, clients: Clients) -> APIRouter:
    """The route of the events."""
    router = APIRouter()

    @router.get(
        "/events",
        tags=["events"],
        summary="What happens, as it happens: server-sent events",
        response_class=Response,
        responses={200: {"description": "A stream without end", "content": {"text/event-stream": {}}}},
    )
    async def events(
        request: Request,
        type: Annotated[list[str] | None, Query(description=f"Any of: {', '.join(sorted(TYPES))}")] = None,
        lane: Annotated[str, Query(max_length=1000)] = "",
        domain: Annotated[str, Query(max_length=255)] = "",
        ip: Annotated[str, Query(max_length=64)] = "",
        last_event_id: Annotated[str, Header(max_length=40, description="Go on after this event.")] = "",
    ) -> Response:
        wanted = frozenset(name.lower() for name in type or ())
        if unknown := wanted - TYPES:
            message = f"{min(unknown)[:50]!r} is no type of event; there are {', '.join(sorted(TYPES))}"
            raise Problem(422, "A parameter cannot be used.", [{"field": "type", "message": message}])
        holder = request.state.holder
        client = clients.enter(EventFilter(wanted, lane, domain.lower(), ip), holder, last_event_id)
        return _Stream(clients, client, holder, last_event_id)

    return router


def told(event: Event) -> dict[str, Any]:
    """An event as JSON values: of a delivery its message's names, never its body."""
    found: dict[str, Any] = {"type": type(event).__name__.lower()}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if name == "delivery":
            found |= _delivery(value)
        elif isinstance(value, Outcome):
            found |= _outcome(value)
        elif isinstance(value, dict):
            found |= {key: each for key, each in value.items() if key not in found}
        else:
            found[name] = value
    return found


def _delivery(delivery: Delivery) -> dict[str, Any]:
    message = delivery.message
    return {
        "message_id": message.message_id,
        "envelope": message.envelope,
        "recipient": message.recipient,
        "domain": delivery.domain or message.domain,
        "lane": delivery.lane,
        "ip": delivery.ip,
        "tags": message.tags,
        "attempt": message.attempts + 1,
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    names = ("state", "result", "next", "code", "status", "description", "host", "remote_ip", "until")
    return {name: getattr(outcome, name) for name in names}


def _domain(about: Any) -> str:
    """The domain of a delivery, or of a received message."""
    if domain := getattr(about, "domain", ""):
        return str(domain)
    return str(getattr(about, "recipient", "")).rpartition("@")[2].lower()


def _sent(name: str, data: dict[str, Any], id: str = "") -> bytes:
    """JSON has no line ends, so that data is one line."""
    numbered = b"id: " + id.encode() + b"\n" if id else b""
    return numbered + b"event: " + name.encode() + b"\ndata: " + encode(data) + b"\n\n"
