"""The roster: which instances live, by what they have said; and what follows from that. Pure but for its clock.

Owner of: the last announcement of each. One that is silent for GONE seconds is gone. Bounds: MOST instances; when they
are that many, new ones are refused. Each is heard at most once in SOON seconds.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable

import msgspec

from pipeline.cluster.words import Announcement, Goodbye

GONE = 100.0  # seconds of silence
MOST = 100  # instances
SOON = 0.2  # seconds
LINES, MINUTE = 20, 60.0
APART = 5.0  # seconds that clocks may differ


class LiveInstance(msgspec.Struct, frozen=True):
    """An instance, and when it was heard last, monotonic seconds.

    `apart`: by how many seconds its clock is ahead of ours; of its last two words the one that says less, since a word
    may have been on its way for long.
    """

    said: Announcement
    heard: float
    apart: float = 0.0
    last: float | None = None


class Roster:
    """The other instances.

    Args:
        id, token: of this one.
        clock: monotonic seconds.
        now: epoch seconds.
        told: (kind, text) when one comes, goes, or has our name.

    Attributes:
        refused: announcements that were not taken: too many, too often, or with our name.
    """

    def __init__(
        self,
        id: str,
        token: str,
        clock: Callable[[], float],
        told: Callable[[str, str], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._id, self._token, self._clock, self._told, self._now = id, token, clock, told, now
        self._live: collections.OrderedDict[str, LiveInstance] = collections.OrderedDict()
        self._twin, self._twin_token = float("-inf"), ""
        self._lines: collections.deque[float] = collections.deque(maxlen=LINES)  # when they were said
        self._unsaid = 0
        self.refused = 0

    def _tell(self, text: str) -> None:
        """At most LINES in MINUTE seconds: who comes and goes all the time fills no log."""
        now = self._clock()
        if len(self._lines) == LINES and now - self._lines[0] < MINUTE:
            self._unsaid += 1
            return
        more, self._unsaid = f" ({self._unsaid} such lines were left out)" if self._unsaid else "", 0
        self._lines.append(now)
        self._told("cluster", text + more)

    def announced(self, said: Announcement) -> bool:
        """An instance has said something of itself; whether it was taken. Our own word comes back as well."""
        now = self._clock()
        if said.id == self._id:
            self._notice_twin(said, now)
            return said.token == self._token
        before = self._live.get(said.id)
        if (before is not None and now - before.heard < SOON and said.token == before.said.token) or (
            before is None and len(self._live) >= MOST
        ):
            self.refused += 1
            return False
        if before is None:
            self._tell(f"instance {said.id} is there")
        self._live[said.id] = self._heard(said, before, now)
        return True

    def _heard(self, said: Announcement, before: LiveInstance | None, now: float) -> LiveInstance:
        if not said.clock:
            return LiveInstance(said, now)
        ahead = said.clock - self._now()
        earlier = before.last if before is not None and before.said.token == said.token else None
        apart = 0.0 if earlier is None else min(ahead, earlier, key=abs)
        return LiveInstance(said, now, apart, ahead)

    @property
    def astray(self) -> str | None:
        """Whose clock differs from ours, in one line."""
        found = [f"{id} ({one.apart:+,.0f} s)" for id, one in sorted(self._live.items()) if abs(one.apart) > APART]
        if not found:
            return None
        return f"the clocks of the cluster differ, so limits may be exceeded: {', '.join(found)} from this one's"

    def _notice_twin(self, said: Announcement, now: float) -> None:
        if said.token == self._token:
            return
        self.refused += 1
        if self.twin is None:
            self._tell(f"another instance calls itself {self._id} as well: give each a server-id of its own")
        self._twin, self._twin_token = now, said.token

    def _twin_left(self, token: str) -> bool:
        """Somebody has said goodbye in our name: another one of this name, or nobody that may."""
        if token != self._twin_token or self.twin is None:
            return False
        self._twin = float("-inf")
        return True

    @property
    def twin(self) -> str | None:
        """That another instance has our name, in one line."""
        if self._clock() - self._twin > GONE:
            return None
        return f"another instance of the cluster calls itself {self._id} as well: give each a server-id of its own"

    def left(self, said: Goodbye) -> bool:
        """An instance says goodbye; whether it was one."""
        if said.id == self._id:
            return self._twin_left(said.token)
        known = self._live.get(said.id)
        if known is None or known.said.token != said.token:
            return False
        del self._live[said.id]
        self._tell(f"instance {said.id} has ended")
        return True

    def sweep(self) -> None:
        """Once a second: forget who is silent."""
        now = self._clock()
        for id in [id for id, one in self._live.items() if now - one.heard > GONE]:
            del self._live[id]
            self._tell(f"instance {id} is gone: it was silent for {GONE:.0f} s")

    def live(self) -> list[LiveInstance]:
        """The others that live, by their names."""
        now = self._clock()
        return [one for _, one in sorted(self._live.items()) if now - one.heard <= GONE]

    def get(self, id: str) -> LiveInstance | None:
        """One of them."""
        return self._live.get(id)

    def sharing(self, ip: str) -> tuple[int, int]:
        """(which of them this one is, how many instances have this MTA IP), in the order of their names."""
        if not self._live:
            return 0, 1
        names = [id for id, one in self._live.items() if ip in one.said.ips]
        return sum(name < self._id for name in names), len(names) + 1

    def owner(self, ips: list[str]) -> Announcement | None:
        """A live instance with an outbox that has one of these MTA IPs."""
        for ip in ips:
            for _, one in sorted(self._live.items()):
                if one.said.outbox and ip in one.said.ips:
                    return one.said
        return None
