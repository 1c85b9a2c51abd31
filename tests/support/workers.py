"""Several workers of one instance on one virtual clock: each has lanes of its own, the limits are the head's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from reactivex.scheduler import VirtualTimeScheduler

from operators.lanes.leases import Leases
from operators.lanes.ledger import ConnectionAsk, LimitLedger
from tests.support.virtual import World

DELAY = 0.001  # seconds that a word between head and worker takes


class Workers:
    """`count` of them, and the ledger; `receivers` count what arrives from all."""

    def __init__(self, count: int, maximum: int = 1000, **limits: object) -> None:
        self.scheduler = VirtualTimeScheduler()
        self.ledger = LimitLedger()
        self.maximum, self.limits = maximum, limits
        self.head_lives = True
        self.demand = 60  # messages that wait in each
        self.worlds: list[World] = []
        self.dead: list[World] = []
        for _ in range(count):
            self.worlds.append(self._new())
        self.scheduler.schedule_periodic(0.25, lambda state: self._beat())

    def _new(self) -> World:
        number = len(self.worlds) + len(self.dead)
        leases = Leases(
            lambda: float(self.scheduler.clock),
            lambda rate, limit, count, back: self._later(lambda: self._place(number, rate, limit, count, back)),
            lambda ask: self._later(lambda: self._open(number, ask)),
            lambda counted: self._later(lambda: self._tell(self.ledger.close(number, counted, self.now))),
            lambda ask, at: self._later(lambda: self._tell(self.ledger.give_back(number, ask, at, self.now))),
            self.maximum,
            lambda counted: self._later(lambda: self._tell(self.ledger.pass_on(number, counted, self.now))),
        )
        world = World(maximum=self.maximum, scheduler=self.scheduler, leases=leases, **self.limits)  # type: ignore[arg-type]
        leases.wake, leases.waits = world.lanes.go_on, world.lanes.waits
        world.number, world.base = 100_000 * number, number  # type: ignore[attr-defined]
        if self.worlds:
            world.open_now, world.most_open = self.worlds[0].open_now, self.worlds[0].most_open
        return world

    @property
    def now(self) -> float:
        return float(self.scheduler.clock)

    def run(self, seconds: float) -> None:
        self.scheduler.advance_by(seconds)

    def flood(self, seconds: float, **mail: str) -> None:
        """Full demand on all of them."""
        for _ in range(round(seconds * 4)):
            for world in self.worlds:
                left = world.number % 100_000 - len(world.gone)
                world.send(max(0, self.demand - left), **mail)
            self.run(0.25)

    def kill(self, which: int) -> None:
        """kill -9 of a worker, and a new one in its place."""
        world = self.worlds[which]
        self.dead.append(world)
        world.lanes.close()
        world.answer = lambda delivery: None
        for slot in [*world.slots._idle]:
            world.open_now[slot.target.address] -= 1
        for _, item in world.gone:
            if item.slot.busy and item.slot.connection is not None:
                world.open_now[item.slot.target.address] -= 1
                item.slot.connection = None
        self._tell(self.ledger.gone(self._number(world)))
        self.worlds[which] = self._new()

    def _number(self, world: World) -> int:
        return world.base  # type: ignore[attr-defined, no-any-return]

    @property
    def moments(self) -> list[float]:
        """When a receiver got a message, of whichever worker."""
        return sorted(moment for world in (*self.worlds, *self.dead) for moment in world.moments)

    # -- the link

    def _later(self, act: Callable[[], None]) -> None:
        if self.head_lives:
            self.scheduler.schedule_relative(DELAY, lambda *_: act())

    def _leases(self, number: int) -> Leases | None:
        found = next((world for world in self.worlds if self._number(world) == number), None)
        return found.slots._leases if found is not None else None  # type: ignore[return-value]

    def _place(self, number: int, rate: str, limit: float, count: int, back: list[float]) -> None:
        if not count and not back:
            self.ledger.used(rate, limit, self.now)
            return
        places = self.ledger.places(rate, limit, count, self.now, back)
        if not count:
            for user in self.ledger.users(rate, number):
                self._later(lambda n=user: (found := self._leases(n)) and found.spare(rate))  # type: ignore[misc]
            return
        self._later(lambda: (found := self._leases(number)) and found.placed(rate, limit, places))  # type: ignore[func-returns-value]

    def _open(self, number: int, ask: ConnectionAsk) -> None:
        if self._leases(number) is None:
            return
        refusal, at = self.ledger.open(number, ask, self.now), self.now
        if ask.made:
            return
        if refusal is not None and refusal.full:
            for holder in self.ledger.holders(refusal.full, number)[:1]:
                self._later(partial(self._give_up, holder, refusal.full))
        why, until, full = (refusal.why, refusal.until, refusal.full) if refusal is not None else (None, None, "")
        self._later(lambda: (found := self._leases(number)) and found.answered(ask.key, at, why, until, full))  # type: ignore[func-returns-value]

    def _give_up(self, number: int, counted: str) -> None:
        for world in self.worlds:
            if self._number(world) == number:
                world.slots.give_up(counted, self.now)

    def _tell(self, told: dict[int, list[str]]) -> None:
        for number, names in told.items():
            self._later(lambda n=number, w=names: (found := self._leases(n)) and found.freed(w))  # type: ignore[misc]

    def _beat(self) -> None:
        self.ledger.sweep(self.now)
        if self.head_lives:
            for world in self.worlds:
                world.slots._leases.heard = self.now  # type: ignore[union-attr]
