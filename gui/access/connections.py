"""The console's connections, bounded from their first moment: how many there are, and how long each may take.

Owner of: who is connected to the console's ports. The console shares its event loop with the mail, so what a stranger
may hold is little: STRANGERS connections in all, EACH from one address; a proxy of `www-trusted-proxies` speaks for
many, and only MOST bounds it. A connection is known once a request on it had a session or a token. Where there is no
room, the oldest idle stranger of the address that has most gives its place to the new connection: the flood displaces
itself, and an operator or Prometheus always gets in. A known connection is never displaced by a stranger.

A sweep each second closes what is late: a TLS handshake, a header, a body, an idle connection, a reader that does not
read, and a stream or socket whose session or token has ended. What was closed is counted, and said once a minute.
"""

from __future__ import annotations

import asyncio
import collections
import enum
import time
from collections.abc import Callable, Iterator, Sequence

import structlog

from gui.access.proxies import Networks, inside
from gui.access.tries import network
from pipeline.views.background import supervisor
from pipeline.views.budget import console

MOST = 400  # connections in all
STRANGERS = 100  # of those that have shown neither session nor token
EACH = 50  # of these from one address
HEADER = 10.0  # seconds for the handshake, and for the header
BODY = 10.0  # seconds for a stranger's body, which is a login form
UPLOAD = 30.0  # seconds of a known client's body, and one more for each RATE octets that came
RATE = 1000
ANSWER = 60.0  # seconds that a stranger's answer may take
YOUNG = 1.0  # seconds in which a new connection is not the first to go
IDLE = 10.0  # seconds between the requests of a stranger
KEPT = 75.0  # of others; more than the 60 s after which nginx closes
STUCK = 30.0  # seconds in which a reader must have taken something
FAREWELL = 3.0  # seconds in which a page is told that its session has ended
SAID = 60.0
EVERY = 1.0  # seconds between sweeps
USUAL = 20  # in SAID seconds
STANDS = 2 * SAID  # seconds in which a want of room is a fault

log = structlog.get_logger("console")


class Stage(enum.Enum):
    """Where a connection is."""

    HEADER = "header"  # a request is awaited or begun; also a TLS handshake
    BODY = "body"
    ANSWER = "answer"
    IDLE = "idle"
    SOCKET = "socket"


class Visit:
    """One connection.

    Attributes:
        address: the peer's; of IPv6 its network.
        stage: where it is, and `since` when.
        received: octets of the request's body.
        lasts: whether the session or token of its last request is valid; None: it had neither.
    """

    __slots__ = ("_ended", "_unsent", "_unsent_since", "address", "lasts", "proxy", "received", "since", "stage",
                 "transport")  # fmt: skip

    def __init__(self, transport: asyncio.Transport, address: str, proxy: bool, now: float) -> None:
        self.transport, self.address, self.proxy = transport, address, proxy
        self.stage, self.since, self.received = Stage.HEADER, now, 0
        self.lasts: Callable[[], bool] | None = None
        self._unsent, self._unsent_since = 0, now
        self._ended: float | None = None

    @property
    def known(self) -> bool:
        """Whether its last request had a session or a token."""
        return self.lasts is not None

    @property
    def idle(self) -> bool:
        """Whether nothing is lost with it but what its peer has not finished."""
        return not self.known and self.stage in (Stage.HEADER, Stage.BODY, Stage.IDLE)

    def to(self, stage: Stage, now: float) -> None:
        """It goes on to the next stage."""
        self.stage, self.since = stage, now

    def wait(self, seconds: float) -> None:
        """It had to wait for us so long."""
        self.since += seconds
        self._unsent_since += seconds

    def late(self, now: float) -> str:
        """Why it is to be closed; empty where it is not."""
        if self._stuck(now):
            return "reads nothing"
        if self._over(now):
            return "its session has ended"
        return f"late: {self.stage.value}" if now - self.since > self._patience() else ""

    def _patience(self) -> float:
        patience = {
            Stage.HEADER: HEADER,
            Stage.BODY: UPLOAD + self.received / RATE if self.known else BODY,
            Stage.ANSWER: float("inf") if self.known else ANSWER,
            Stage.IDLE: KEPT if self.known or self.proxy else IDLE,
            Stage.SOCKET: float("inf") if self.known else HEADER,
        }
        return patience[self.stage]

    def _stuck(self, now: float) -> bool:
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent < self._unsent:
            self._unsent_since = now
        self._unsent = unsent
        return unsent > 0 and now - self._unsent_since > STUCK

    def _over(self, now: float) -> bool:
        if self.lasts is None or self.stage not in (Stage.ANSWER, Stage.SOCKET) or self.lasts():
            self._ended = None
            return False
        self._ended = now if self._ended is None else self._ended
        return now - self._ended > FAREWELL


class Connections:
    """All connections of the console's ports.

    Args:
        proxies: who speaks for many.
        clock: seconds.
    """

    def __init__(self, proxies: Networks = (), clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._proxies = proxies
        self._visits: dict[Visit, None] = {}  # the oldest first
        self.closed: collections.Counter[str] = collections.Counter()
        self._said: collections.Counter[str] = collections.Counter()
        self._last_said = self._swept = clock()
        self._timer: asyncio.TimerHandle | None = None
        self._crowded, self._crowded_at = 0, float("-inf")  # that had to go for want of room, and when that was

    @property
    def trouble(self) -> str | None:
        """What to say while there is no room for all; None where there is."""
        if self.clock() - self._crowded_at >= STANDS:
            return None
        bounds = f"{min(MOST, console()):,} in all, {STRANGERS} without a login, {EACH} of one address"
        return f"too many connections ({bounds}): {self._crowded:,} were closed or refused"

    def __len__(self) -> int:
        return len(self._visits)

    @property
    def known(self) -> int:
        """How many have shown a session or a token."""
        return sum(visit.known for visit in self._visits)

    def enter(self, transport: asyncio.Transport) -> Visit | None:
        """A new connection; None where it was closed, since there is no room."""
        host = str((transport.get_extra_info("peername") or ("",))[0])
        visit = Visit(transport, network(host), inside(host, self._proxies), self.clock())
        if not self._make_room(visit):
            self.count("no room")
            transport.abort()
            return None
        self._visits[visit] = None
        return visit

    def leave(self, visit: Visit | None) -> None:
        """It is closed."""
        if visit is not None:
            self._visits.pop(visit, None)

    def count(self, why: str) -> None:
        """A connection is closed for this."""
        self.closed[why] += 1

    def close(self, visit: Visit, why: str) -> None:
        """Close one, whatever it is doing."""
        self.count(why)
        self.leave(visit)
        visit.transport.abort()

    # -- room -------------------------------------------------------------------------------------------------------

    def _make_room(self, visit: Visit) -> bool:
        strangers = [other for other in self._visits if not other.known]
        if len(self._visits) >= min(MOST, console()) and not self._displace(strangers):
            return False
        if visit.proxy:
            return True
        direct = [other for other in strangers if not other.proxy and other in self._visits]
        mine = [other for other in direct if other.address == visit.address]
        if len(mine) >= EACH:
            return self._displace(mine)
        return len(direct) < STRANGERS or self._displace(direct)

    def _displace(self, some: Sequence[Visit]) -> bool:
        """Close the oldest idle one of the address that has most of these, or its oldest; False where there is none."""
        by_address: dict[str, list[Visit]] = collections.defaultdict(list)
        for visit in some:
            by_address[visit.address].append(visit)
        if not by_address:
            return False
        most, now = max(by_address.values(), key=len), self.clock()
        idle = (visit for visit in most if visit.idle and now - visit.since > YOUNG)
        self.close(next(idle, most[0]), "displaced")
        return True

    # -- time -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Sweep each second, and say where there is no room."""
        supervisor().condition("console", lambda: self.trouble)
        self._again()

    def _again(self) -> None:
        self.sweep()
        self._timer = asyncio.get_running_loop().call_later(EVERY, self._again)

    def stop(self) -> None:
        """Sweep no more."""
        if self._timer is not None:
            self._timer.cancel()

    def sweep(self) -> None:
        """Close what is late. Time in which this program itself did nothing is nobody's delay."""
        now = self.clock()
        stood = max(0.0, now - self._swept - EVERY)
        self._swept = now
        for visit in self._visits:
            visit.wait(stood)
        for visit, why in list(self._late(now)):
            if visit.stage is Stage.IDLE:
                visit.transport.close()  # the usual end of a connection
            else:
                self.close(visit, why)
        if now - self._last_said >= SAID:
            self._say()
            self._last_said = now

    def _late(self, now: float) -> Iterator[tuple[Visit, str]]:
        for visit in self._visits:
            if why := visit.late(now):
                yield visit, why

    def _say(self) -> None:
        if new := self.closed - self._said:
            # Some are usual: browsers open connections in case of need, watchers look whether the port answers.
            say = log.warning if new.total() > USUAL else log.info
            say("connections to the console were closed", open=len(self), **_named(new))
            if (crowded := new["displaced"] + new["no room"]) > USUAL:
                self._crowded, self._crowded_at = crowded, self.clock()
        self._said = self.closed.copy()


def _named(closed: collections.Counter[str]) -> dict[str, int]:
    return {why.replace(": ", "_").replace(" ", "_"): count for why, count in closed.items()}
