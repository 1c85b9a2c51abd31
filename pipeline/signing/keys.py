"""Signing: the keys that sign now, and what DNS says of each key. `signers` makes the signatures.

With `dkim-check-dns` a rule's key signs only while its public half is in DNS. It is asked for at start, when the key
changes, and again when the answer's TTL ends, at most every LONGEST seconds; never for a message. While DNS does not
answer the last answer holds. A message's own keys sign until DNS has said that their record is missing or different:
what an application hands in is not held up by a look-up, and is looked up once, whatever the number of messages.

Bounds: a state for each rule, and for OWN of the messages' own keys, the least recently used forgotten; QUESTIONS to
DNS at once, so that mail's own look-ups find room, and LOOKS that wait: more own keys are looked up with a later
message. When a name server is dead, keys stay as they are, and it is asked again.
"""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import msgspec
from reactivex import abc

from operators.deliveries.delivery import Delivery
from operators.deliveries.events import Event, Notice
from operators.deliveries.routes import DnsAnswer
from operators.mail.dkim import Key, from_domain
from operators.mail.signing_keys import load, record
from operators.stages.sign import own_keys
from pipeline.process.supervisor import spawn
from pipeline.signing.key_records import Verdict, compare
from settings.rules import DkimKey, Snapshot

LONGEST = 600.0  # seconds between two looks at a record
SHORTEST = 30.0  # the same, whatever the TTL says
OWN = 10_000  # messages' own keys whose record is remembered
QUESTIONS = 50  # to DNS at once
LOOKS = 1000  # under way at once, for messages' own keys
ASKING = "DNS is being asked"  # why a key is unreachable at first

Ask = Callable[[str, str], Awaitable[DnsAnswer]]


class KeyState(msgspec.Struct, frozen=True, kw_only=True):
    """What DNS says of a key.

    Attributes:
        status: `valid`, `missing`, `different`, or `unreachable` where there was no answer.
        since: epoch seconds from which it has been so.
        signs: the key signs: it is valid, or was so when DNS last answered.
        why: for people, in one line; empty where it is valid.
        name, record: the TXT record to publish, and where.
    """

    status: Verdict
    since: float
    signs: bool
    why: str
    name: str
    record: str


class _Watched:
    """A rule's key, and what is known of its record."""

    def __init__(self, rule: DkimKey, key: Key, state: KeyState) -> None:
        self.rule, self.key, self.state = rule, key, state
        self.again: abc.DisposableBase | None = None

    def dispose(self) -> None:
        if self.again is not None:
            self.again.dispose()
            self.again = None


class Signing:
    """Which keys sign which delivery.

    Args:
        rules: the rules in force.
        ask: a question to DNS (name, type); raises nothing.
        scheduler: of the event loop.
        check_dns: `dkim-check-dns`.
        report: told when a key's state changes.
        clock: epoch seconds.
        monotonic: the clock of answers' `expires`.
    """

    def __init__(
        self,
        rules: Callable[[], Snapshot],
        ask: Ask,
        scheduler: abc.SchedulerBase,
        *,
        check_dns: bool = True,
        report: Callable[[Event], None] = lambda event: None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules, self._dns, self._scheduler = rules, ask, scheduler
        self._check_dns, self._report = check_dns, report
        self._clock, self._monotonic = clock, monotonic
        self._watched: dict[int, _Watched] = {}
        self._own: collections.OrderedDict[tuple[str, str], tuple[bool, float]] = collections.OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._limit = asyncio.Semaphore(QUESTIONS)
        self._loop = asyncio.get_running_loop()

    # -- for every message --------------------------------------------------------------------------------------

    def keys_of(self, delivery: Delivery) -> Sequence[Key]:
        """The keys that sign this delivery now.

        Raises:
            Invalid: the message's own `dkim` cannot be used.
        """
        rules, own = self._rules(), delivery.message.dkim
        if not rules.dkim_keys and own is None:
            return ()
        now = self._clock()
        found = rules.dkim_keys_for(from_domain(delivery.source), now) if rules.dkim_keys else ()
        keys = [watched.key for rule in found if (watched := self._watched.get(rule.id)) and watched.state.signs]
        return keys if own is None else [*keys, *filter(self._signs, own_keys(own, now))]

    # -- what DNS says ------------------------------------------------------------------------------------------

    def state(self, key_id: int) -> KeyState | None:
        """What DNS says of a rule's key; None where there is no such key, or DNS is not asked."""
        watched = self._watched.get(key_id)
        return watched.state if watched is not None and self._check_dns else None

    async def check(self, key_id: int) -> KeyState | None:
        """Ask DNS now, and say what it says; as `state`."""
        watched = self._watched.get(key_id)
        if watched is not None and self._check_dns:
            await self._look(watched)
        return self.state(key_id)

    async def settle(self, patience: float) -> None:
        """Wait until what is being asked has been answered, at most `patience` seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)

    def changed(self, snapshot: Snapshot) -> None:
        """The rules have changed: look at the keys that are new or different."""
        keys = {rule.id: rule for rule in snapshot.dkim_keys}
        for key_id in [key_id for key_id in self._watched if key_id not in keys]:
            self._watched.pop(key_id).dispose()
        for rule in keys.values():
            before = self._watched.get(rule.id)
            if before is None or (before.rule is not rule and before.rule != rule):
                self._watch(rule, before)

    def _watch(self, rule: DkimKey, before: _Watched | None) -> None:
        if rule.key is None:
            return
        headers = frozenset(name.lower().encode() for name in rule.headers)
        private = load(rule.key.get_secret_value())
        key = Key(rule.domain, rule.selector, private, headers, rule.canonicalization)
        new = KeyState(
            status="unreachable",
            since=self._clock(),
            signs=not self._check_dns,
            why=ASKING,
            name=key.name,
            record=record(key),
        )
        same = before is not None and (before.state.name, before.state.record) == (new.name, new.record)
        watched = self._watched[rule.id] = _Watched(rule, key, before.state if before and same else new)
        if before is not None:
            before.dispose()
        if self._check_dns:
            self._begin(self._look(watched))

    async def _look(self, watched: _Watched) -> None:
        """Ask for a key's record, take the answer over, and plan the next time."""
        answer = await self._ask(watched.state.name)
        if self._watched.get(watched.rule.id) is not watched:  # changed or gone meanwhile
            return
        self._learn(watched, answer)
        watched.dispose()
        delay = min(max(answer.expires - self._monotonic(), SHORTEST), LONGEST)
        watched.again = self._scheduler.schedule_relative(delay, lambda *_: self._begin(self._look(watched)))

    async def _ask(self, name: str) -> DnsAnswer:
        async with self._limit:
            return await self._dns(name, "TXT")

    def _learn(self, watched: _Watched, answer: DnsAnswer) -> None:
        before, first = watched.state, watched.state.why == ASKING
        status, why = compare(answer, before.record)
        signs = before.signs if status == "unreachable" else status == "valid"
        since = before.since if status == before.status else self._clock()
        watched.state = msgspec.structs.replace(before, status=status, why=why, signs=signs, since=since)
        if status != "valid" if first else status != before.status:
            self._tell(watched.state)

    def _tell(self, state: KeyState) -> None:
        signs = "signs" if state.signs else "does not sign"
        why = f" ({state.why})" if state.why else ""
        fields = {"name": state.name, "status": state.status, "signs": state.signs}
        text = f"DKIM key {state.name}: {state.status} in DNS{why}, {signs}"
        self._report(Notice(time=self._clock(), kind="dkim-dns", text=text, fields=fields))

    # -- messages' own keys ---------------------------------------------------------------------------------------

    def _signs(self, key: Key) -> bool:
        if not self._check_dns:
            return True
        known = (key.name, record(key))
        signs, expires = self._own.get(known, (True, 0.0))
        if expires <= self._monotonic() and len(self._tasks) < LOOKS:
            self._remember(known, signs, self._monotonic() + LONGEST)  # so that it is asked for once
            self._begin(self._look_own(known))
        return signs

    async def _look_own(self, known: tuple[str, str]) -> None:
        answer = await self._ask(known[0])
        signs, _ = self._own.get(known, (True, 0.0))
        status, _ = compare(answer, known[1])
        now = self._monotonic()
        expires = now + min(max(answer.expires - now, SHORTEST), LONGEST)
        self._remember(known, signs if status == "unreachable" else status == "valid", expires)

    def _remember(self, known: tuple[str, str], signs: bool, expires: float) -> None:
        self._own[known] = signs, expires
        self._own.move_to_end(known)
        if len(self._own) > OWN:
            self._own.popitem(last=False)

    # -- life -----------------------------------------------------------------------------------------------------

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = spawn(work, "signing")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Ask no more."""
        for watched in self._watched.values():
            watched.dispose()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
