"""The roster: which instances live, by what they have said; and what follows from that. Pure but for its clock.

Owner of: the last announcement of each. One that is silent for GONE seconds is gone. Bounds: MOST instances; when they
are that many, new ones are refused. Each is heard at most once in SOON seconds.
"""

from __future__ import annotations

import collections
from collections.abc import Callable

import msgspec

from pipeline.cluster.words import Announcement, Goodbye

GONE = 100.0  # seconds of silence
MOST = 100  # instances
SOON = 0.2  # seconds


class LiveInstance(msgspec.Struct, frozen=True):
    """An instance, and when it was heard last, monotonic seconds."""

    said: Announcement
    heard: float


class Roster:
    """The other instances.

    Args:
        id, token: of this one.
        clock: monotonic seconds.
        told: (kind, text) when one comes, goes, or has our name.

    Attributes:
        refused: announcements that were not taken: too many, too often, or with our name.
    """

    def __init__(self, id: str, token: str, clock: Callable[[], float], told: Callable[[str, str], None]) -> None:
        self._id, self._token, self._clock, self._told = id, token, clock, told
        self._live: collections.OrderedDict[str, LiveInstance] = collections.OrderedDict()
        self._twin = float("-inf")
        self.refused = 0

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
            self._told("cluster", f"instance {said.id} is there")
        self._live[said.id] = LiveInstance(said, now)
        return True

    def _notice_twin(self, said: Announcement, now: float) -> None:
        if said.token == self._token:
            return
        self.refused += 1
        if self.twin is None:
            self._told("cluster", f"another instance calls itself {self._id} as well: give each a server-id of its own")
        self._twin = now

    @property
    def twin(self) -> str | None:
        """That another instance has our name, in one line."""
        if self._clock() - self._twin > GONE:
            return None
        return f"another instance of the cluster calls itself {self._id} as well: give each a server-id of its own"

    def left(self, said: Goodbye) -> bool:
        """An instance says goodbye; whether it was one."""
        known = self._live.get(said.id)
        if known is None or known.said.token != said.token:
            return said.token == self._token  # our own
        del self._live[said.id]
        self._told("cluster", f"instance {said.id} has ended")
        return True

    def sweep(self) -> None:
        """Once a second: forget who is silent."""
        now = self._clock()
        for id in [id for id, one in self._live.items() if now - one.heard > GONE]:
            del self._live[id]
            self._told("cluster", f"instance {id} is gone: it was silent for {GONE:.0f} s")

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
