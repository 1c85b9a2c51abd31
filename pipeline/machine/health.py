"""Health: every state in which mail is not taken, or would not leave, or that an operator must know of. One table.

`/readyz`, the verdict on the Overview, `/api/v1/status` and `mailrace queue` read it, and none of them has a list of
its own. A state that `stops` mail makes `/readyz` 503. Owner of: what was seen of DNS and of the clock, and the file
`health.json` in `data-dir`, by which `mailrace queue` hears of it.

A new state is a line of `TABLE`. Its question is asked once a second, on the event loop, and must be cheap. The parts
say on their own account what is wrong with them; what only shows here is said once a minute.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from operators.deliveries.events import Event, Rejected, Settled
from operators.deliveries.outcome import Next
from pipeline.process.supervisor import spawn

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine

FILE = "health.json"
AGAIN = 30.0  # seconds between writings of the file
SAY_AGAIN = 60.0  # seconds
DOMAINS = 3  # whose look-ups got no answer, one after another, until DNS is taken for silent
FORGET = 900.0  # seconds after which a look-up without an answer is no sign any more
REFUSED = 400  # the reply codes from which on a message was not taken (RFC 5321 4.2.1)
BACK = 60.0  # seconds that a clock may be set back without a word
EPOCH = 1_700_000_000  # a clock before this, in 2023, is wrong


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    public: str
    stops: bool = True
    ours: bool = False
    remark: bool = False
    word: str = "Problem"
    level: str = "bad"


class HealthState(_Row, frozen=True, kw_only=True):
    """Something that is wrong, or out of the ordinary, now.

    Attributes:
        name: its line of the table.
        text: for operators.
        public: the same in general words, for those without a login.
        stops: mail is not taken, or what was taken does not leave.
        ours: said in the log by the part itself.
        remark: `/readyz` says it though it is ready.
        word: for the verdict.
        level: bad, or watch where an operator wants it so.
    """

    text: str


class Told(msgspec.Struct):
    """What `health.json` says: when, in epoch seconds, and the texts of the states."""

    time: float
    states: list[str]


Find = Callable[["Health"], str | None]


class HealthRow(_Row, frozen=True, kw_only=True):
    """A line of the table: its `find` gives the text while the state holds. The others as in `HealthState`."""

    find: Find


class Health:
    """What is wrong with a machine now."""

    def __init__(self, machine: Machine, clock: Callable[[], float] = time.time) -> None:
        self.machine = machine
        self._clock = clock
        self._silent: collections.OrderedDict[str, float] = collections.OrderedDict()  # domains, and when
        self.discarded = 0  # messages taken and thrown away, since the start
        self._discarded_at = float("-inf")
        self._latest = clock()  # the latest time that was seen
        self.beside: dict[str, Callable[[], str | None]] = {}  # of parts that no mail needs: what is wrong
        self._said: dict[str, float] = {}
        self._gone: tuple[float, str | None] = (float("-inf"), None)
        self._written: tuple[float, list[str]] = (float("-inf"), [])
        self._writing: asyncio.Task[None] | None = None

    def states(self) -> list[HealthState]:
        """The states that hold now: those that stop mail first."""
        found = [_state(row, text) for row in TABLE if (text := row.find(self)) is not None]
        supervisor = self.machine.supervisor
        known = {state.text for state in found} | set(supervisor.faults if supervisor.grave else ())
        rest = [text for text in self.machine.faults if text not in known]
        others = [
            HealthState(name="fault", text=text, public="a part has failed", stops=False, ours=True) for text in rest
        ]
        for name, ask in self.beside.items():
            if (text := ask()) is not None:
                others.append(_state(BESIDE, text, name))
        return sorted([*found, *others], key=lambda state: (state.level != "bad", not state.stops))

    @property
    def stopped(self) -> str | None:
        """Why mail is not taken, or does not leave, in general words; None while it is, and does."""
        return next((state.public for state in self.states() if state.stops), None)

    @property
    def remarks(self) -> list[str]:
        """What whoever sends mail here should know, though it is taken, in general words."""
        return [state.public for state in self.states() if state.remark]

    def observe(self, event: Event) -> None:
        """See what becomes of look-ups, and what is thrown away."""
        if isinstance(event, Rejected) and event.code < REFUSED:
            self.discarded += 1
            self._discarded_at = self._clock()
        if not isinstance(event, Settled):
            return
        outcome, domain = event.outcome, event.delivery.domain
        if outcome.state != "dns":
            if outcome.remote_ip is not None and self._silent:
                self._silent.clear()
        elif outcome.next is Next.RETRY and domain:
            self._silent[domain] = self._clock()
            if len(self._silent) > DOMAINS:
                self._silent.popitem(last=False)

    def tick(self) -> None:
        """Once a second: say what nobody else says, and write the file."""
        now, states = self._clock(), self.states()
        self._say(states, time.monotonic())
        texts = [state.text for state in states]
        then, before = self._written
        if (texts != before or not 0 <= now - then < AGAIN) and (self._writing is None or self._writing.done()):
            self._written = (now, texts)
            told = msgspec.json.encode(Told(now, texts))
            path = self.machine.settings.data_dir / FILE
            self._writing = spawn(asyncio.to_thread(_write, path, told), "health")

    def _say(self, states: Sequence[HealthState], now: float) -> None:
        here = {state.name: state for state in states if not state.ours}
        for name in [name for name in self._said if name not in here]:
            del self._said[name]
            self.machine.warned("health", f"{name}: that is over")
        for name, state in here.items():
            if now - self._said.get(name, float("-inf")) >= SAY_AGAIN:
                self._said[name] = now
                self.machine.warned("health", state.text)

    # -- the questions ------------------------------------------------------------------------------------------------

    def stopping(self) -> str | None:
        """The program was told to end, and finishes what is under way. What made it give up says so itself."""
        supervisor = self.machine.supervisor
        if supervisor.reason or not supervisor.stopping.is_set():
            return None
        within = self.machine.settings.shutdown_timeout
        return f"Mailrace is being stopped: no mail is taken, what is under way is finished within {within:g} s"

    def full(self) -> str | None:
        """No room for new mail."""
        return self.machine.queue.full

    def queue(self) -> str | None:
        """The queue's file is damaged or cannot be used; the broker is away."""
        fault = self.machine.queue.fault
        return fault if fault != self.machine.queue.full else None

    def chain(self) -> str | None:
        """No message is worked on any more."""
        return self.machine.ended

    def background(self) -> str | None:
        """A part of the program fails, and mail may be concerned."""
        supervisor = self.machine.supervisor
        return "; ".join(supervisor.faults) if supervisor.grave and self.machine.ended is None else None

    def paused(self) -> str | None:
        """The configuration or a rule holds all mail, or a rule all mail of each default MTA IP."""
        if self.machine.settings.paused:
            return "everything is paused by the configuration (paused): mail is taken, and does not leave"
        now, snapshot, ips = self._clock(), self.machine.rules.snapshot, self.machine.ips.default
        held = [snapshot.pauses_for(ip, "", "", (), now) for ip in ips]
        if not held or not all(held):
            return None
        return f"everything is paused by a rule ({held[0][0].reason or 'by hand'}): mail is taken, and does not leave"

    def addresses(self) -> str | None:
        """None of the default MTA IPs is this machine's any more. Tried once in 5 s."""
        then, text = self._gone
        if time.monotonic() - then >= 5:
            ips = self.machine.ips.default
            said = f"this machine has no default MTA IP any more ({', '.join(ips)}): mail does not leave"
            text = None if any(map(_is_here, ips)) else said
            self._gone = (time.monotonic(), text)
        return text

    def dns(self) -> str | None:
        """Nothing is resolved."""
        now = self._clock()
        if len(self._silent) < DOMAINS or now - max(self._silent.values()) > FORGET:
            return None
        return f"DNS does not answer: none of the last {DOMAINS} domains could be looked up, their mail waits"

    def discards(self) -> str | None:
        """Mail is taken and thrown away, as the configuration says."""
        if not 0 <= self._clock() - self._discarded_at < FORGET:
            return None
        since = f"{self.discarded:,} message{'s' if self.discarded > 1 else ''} since the start"
        return f"mail is taken and thrown away, since rabbitmq-inbox is empty: {since}"

    def clock(self) -> str | None:
        """The clock was set back, or is plainly wrong."""
        now = self._clock()
        self._latest = max(self._latest, now)
        if now < EPOCH:
            return f"the clock says {time.strftime('%Y-%m-%d', time.gmtime(now))}: times, signatures and TLS are wrong"
        if self._latest - now > BACK:
            return f"the clock was set back by {self._latest - now:,.0f} s: what waits for a time waits longer"
        return None

    def rules(self) -> str | None:
        """The rules database does not answer."""
        if self.machine.rules.available:
            return None
        return "the rules database does not answer: the last rules stay in force, and none can be changed"

    def cluster(self) -> str | None:
        """The other instances are not heard, one of them has our name, or they do not have a rule that is for all."""
        cluster, settings = self.machine.cluster, self.machine.settings
        if cluster is None:
            return None
        snapshot = self.machine.rules.snapshot
        if not settings.database_address and (snapshot.pauses or snapshot.rules("errors")) and cluster.live():
            ours: list[Any] = [*snapshot.pauses, *snapshot.rules("errors")]
            if any(rule.cluster for rule in ours):
                alone = "rules for the whole cluster hold here alone: the instances share no rules database"
                return cluster.trouble or f"{alone} (database-address)"
        return cluster.trouble

    def left_out(self) -> str | None:
        """Stored rules that cannot be used."""
        return "; ".join(self.machine.rules.snapshot.faults) or None


BESIDE = _Row(name="beside", public="a part that no mail needs does not work", stops=False, word="Watch", level="watch")
TABLE: tuple[HealthRow, ...] = (
    HealthRow(name="stopping", find=Health.stopping, public="it is being stopped: no mail is taken", word="Stopping"),
    HealthRow(name="chain", find=Health.chain, public="no mail is worked on: restart it", ours=True),
    HealthRow(
        name="queue",
        find=Health.queue,
        public="the queue does not work: mail is not taken, or stays",
        ours=True,
    ),
    HealthRow(
        name="background",
        find=Health.background,
        public="a part of the program has failed: its log says which",
        ours=True,
    ),
    HealthRow(name="disk", find=Health.full, public="there is no room for new mail: none is taken", ours=True),
    HealthRow(name="addresses", find=Health.addresses, public="no address to send from: mail does not leave"),
    HealthRow(name="dns", find=Health.dns, public="DNS does not answer: mail does not leave"),
    HealthRow(
        name="pause",
        find=Health.paused,
        public="everything is paused: mail is taken, and does not leave",
        word="Paused",
    ),
    HealthRow(
        name="discards",
        find=Health.discards,
        public="some mail is taken and thrown away, as it is configured",
        stops=False,
        remark=True,
        word="Discarding",
        level="watch",
    ),
    HealthRow(name="clock", find=Health.clock, public="the clock is wrong", stops=False, level="watch"),
    HealthRow(name="rules", find=Health.rules, public="the rules database does not answer", stops=False, ours=True),
    HealthRow(
        name="cluster",
        find=Health.cluster,
        public="the other instances are not heard",
        stops=False,
        ours=True,
        word="Alone",
        level="watch",
    ),
    HealthRow(name="rule", find=Health.left_out, public="a stored rule cannot be used", stops=False, ours=True),
)


def read(folder: Path) -> Told | None:
    """What the running program has said of itself last; None where there is nothing to read."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Told)
    except (OSError, msgspec.DecodeError):
        return None


def _state(row: _Row, text: str, name: str = "") -> HealthState:
    said = {name: getattr(row, name) for name in _Row.__struct_fields__}
    return HealthState(text=text, **{**said, "name": name or row.name})


def _is_here(ip: str) -> bool:
    """Whether this machine can send from an address."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET) as probe:
            probe.bind((ip, 0))
    except OSError as error:
        return error.errno in (None, 23, 24)  # no descriptors left says nothing about the address
    return True


def _write(path: Path, told: bytes) -> None:
    """Whole or not at all. A disk that does not take it is said elsewhere."""
    part = path.with_name(f"{path.name}.part")
    with contextlib.suppress(OSError):
        part.touch(0o600)
        part.write_bytes(told)
        part.replace(path)
