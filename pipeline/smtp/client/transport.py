"""The transport: gives each delivery a connection, and tells the slots and the event stream what became of it.

Owner of: the open connections, and the tasks that make new ones. Bound: the slots, one connection or task each.
A delivery whose connection failed tries the other targets of its route, within the limits; when none is left, it
ends with an outcome. Whatever happens, its `done` is called once: a fault of ours ends this attempt like any other,
logged with its traceback, and what this machine has run out of puts the delivery off for a moment, uncounted.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from operators.deliveries.delivery import Delivery, Target
from operators.deliveries.events import Connected, Connecting, Disconnected, Event, Notice
from operators.deliveries.outcome import Next, Outcome, deferred, failed, parked, postponed
from operators.deliveries.relay import Relay
from operators.lanes.slots import Slot, Slots
from operators.lanes.unreached import UnreachedLanes, both_families
from operators.mail.addresses import valid_path
from operators.mail.message import SECURITIES, Smarthost
from operators.stages.stage import Done, Report, unreported
from pipeline.process.supervisor import spawn
from pipeline.smtp.client.connect import OpeningDialogue, Wish
from pipeline.smtp.client.connection import SmtpConnection
from pipeline.smtp.client.egress import Egress
from pipeline.smtp.client.failure import Failed
from pipeline.smtp.client.tls import NEEDED, PLAIN, context
from pipeline.smtp.client.troubles import DeliveryTroubles
from pipeline.smtp.watch import OUT, Conversation, DialogueObserver

Elsewhere = Callable[[Delivery], bool]
TICK = 1.0  # seconds between two looks at the deadlines, before the factor
CHANCE = random.SystemRandom()
DIRECT = Relay()  # no smarthost but a message's own
SHORT = 5.0  # seconds until a delivery comes back for which this machine had no descriptor, port or memory
SPREAD = 5.0  # and up to so many more
PLAIN_FOR = 3600.0  # seconds for which TLS is not tried again where it took all the time, or broke off under mail
REMEMBER = 1000  # receivers with such TLS


class TransportSettings(Protocol):
    """What the transport reads of the configuration."""

    @property
    def delivery_timeout_factor(self) -> float:
        """Multiplies the time-outs of RFC 5321 4.5.3.2."""


class Transport:
    """Sends deliveries over SMTP connections.

    Args:
        slots: the ledger of connections.
        settings: `delivery_timeout_factor`.
        ehlo_name: the EHLO name for an MTA IP.
        report: told of each connection's begin and end.
        failed: told of exceptions.
        clock: monotonic seconds.
        relay: the configured smarthost and sink.
        egress: the ways out of MTA IPs that are not of this machine.
        unreached: told which lanes reach nothing.
        elsewhere: whether a delivery would leave from an MTA IP of the other family now.
    """

    def __init__(
        self,
        slots: Slots,
        settings: TransportSettings,
        ehlo_name: Callable[[str], str],
        report: Callable[[Event], None],
        failed: Report = unreported,
        clock: Callable[[], float] = time.monotonic,
        relay: Relay = DIRECT,
        egress: Egress | None = None,
        unreached: UnreachedLanes | None = None,
        elsewhere: Elsewhere = lambda delivery: False,
    ) -> None:
        self._unreached, self._elsewhere = unreached or UnreachedLanes(clock), elsewhere
        self.relay = relay
        self.egress = egress or Egress((), clock, lambda kind, text: None)
        self.factor = settings.delivery_timeout_factor
        self.clock = clock
        self.watch: DialogueObserver | None = None  # gets the dialogue while somebody looks
        self.failed = failed
        self.troubles = DeliveryTroubles(report, clock)
        self._slots, self._ehlo_name, self._report = slots, ehlo_name, report
        self._plain: collections.OrderedDict[tuple[str, int], float] = collections.OrderedDict()
        self._connections: set[SmtpConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticker: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()  # the last connection is gone

    # -- a delivery -------------------------------------------------------------------------------------------------

    def deliver(self, delivery: Delivery, done: Done) -> None:
        """Make one attempt over the slot that the delivery has; `done` gets it back with its outcome."""
        slot: Slot = delivery.slot
        if (why := unusable(delivery)) is not None:
            self._slots.abandon(slot)
            done(delivery.ended(failed("process", "invalid", why)))
            return
        connection = slot.connection
        if isinstance(connection, SmtpConnection) and connection.usable:
            if fits(connection, delivery, self._login(delivery)) and connection.peer.way == self.egress.way(slot.ip):
                connection.begin(delivery, done, self.clock())
                return
            connection.drop("quit")
        self.again(delivery, done, self.clock())

    def again(self, delivery: Delivery, done: Done, started: float) -> None:
        """Make a connection for this delivery, and send it there."""
        if not delivery.slot.attempting:
            self._slots.reopen(delivery.slot, self.clock())
        task = spawn(self._fill(delivery, done, started), "delivery")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fill(self, delivery: Delivery, done: Done, started: float) -> None:
        try:
            async with asyncio.timeout(delivery.slot.patience):
                connection = await self._connect(delivery)
        except (
            TimeoutError
        ):  # too many others do not answer either, so it was hurried: no attempt (`operators.lanes.gate`)
            self._slots.abandon(delivery.slot)
            done(delivery.ended(parked(delivery.lane, f"no answer within {delivery.slot.patience:g} s")))
        except Failed as error:
            self._end(delivery, done, self._outcome(delivery, error, started))
        except asyncio.CancelledError:
            stopped = Outcome(state="connect", result="lost", next=Next.RETURN, description="stopped by shutdown")
            self._end(delivery, done, stopped)
        except Exception as error:
            self.failed("deliver", delivery, error)
            self._end(delivery, done, deferred("process", "error", f"deliver: {type(error).__name__}"))
        else:
            connection.begin(delivery, done, started)

    def _end(self, delivery: Delivery, done: Done, outcome: Outcome) -> None:
        self._slots.abandon(delivery.slot)
        done(delivery.ended(outcome))

    def _outcome(self, delivery: Delivery, error: Failed, started: float) -> Outcome:
        """What a failure comes to: with a smarthost each is about us and it, until it answers to the message."""
        slot, outcome = delivery.slot, error.outcome
        if error.proxy:
            self.egress.failed(slot.ip, outcome.description)
            return parked(delivery.lane, outcome.description)
        if error.shortage:
            self.troubles.short(outcome.description)
            return postponed(time.time() + SHORT + CHANCE.uniform(0.0, SPREAD), f"put off: {outcome.description}")
        if error.other_host and delivery.route is not None and both_families(delivery.route):
            self._unreached.note(slot.lane, error.skip)
            if self._elsewhere(delivery):
                return postponed(time.time(), f"next from another MTA IP: {outcome.description}")
        if (smarthost := self.relay.through(delivery.message)) is not None:
            outcome = error.may_yet().outcome
            if outcome.state.startswith(("auth", "starttls")) and outcome.result == "error" and login_of(smarthost):
                self.troubles.refused(slot.target, smarthost.username or "", outcome)
        facts = {"local_ip": slot.ip or None, "remote_ip": slot.target.address, "host": slot.target.host}
        return msgspec.structs.replace(outcome, wire=self.clock() - started, **facts)

    # -- making a connection ----------------------------------------------------------------------------------------

    async def _connect(self, delivery: Delivery) -> SmtpConnection:
        """Try the slot's target, and the route's others after it.

        Raises:
            Failed: none of them did; a transient failure wins, since a host that was not heard may yet take it.
        """
        slot: Slot = delivery.slot
        failures: list[Failed] = []
        heard = True  # every target was tried
        for target in _targets(delivery):
            if target is not slot.target and not self._move(slot, target):
                heard = False
                continue
            try:
                return await self._open(delivery)
            except Failed as error:
                failures.append(error)
                if error.skip:
                    self._slots.skip(slot.ip, target, error.outcome.description, self.clock() + error.skip)
                if not error.other_host:
                    break
        raise _decisive(failures, heard)

    def _move(self, slot: Slot, target: Target) -> bool:
        if slot.ip and (":" in slot.ip) != (":" in target.address):
            return False
        return self._slots.move(slot, target, self.clock())

    async def _open(self, delivery: Delivery) -> SmtpConnection:
        """Connect to the slot's target; opportunistic TLS that fails gets a second, plain connection."""
        slot: Slot = delivery.slot
        wish, target = self._wish(delivery), slot.target
        if wish.encrypted or not self._tls_is_broken(target):
            try:
                return await self._dial(slot, wish, delivery.domain)
            except Failed as error:
                if not error.handshake or wish.encrypted or wish.security == "off":
                    raise
                self._falls_back(slot, error.outcome)
            self._slots.reopen(slot, self.clock())
        return await self._dial(slot, msgspec.structs.replace(wish, security="off", fallback=True), delivery.domain)

    def _falls_back(self, slot: Slot, outcome: Outcome) -> None:
        why, host = outcome.description, slot.target.host
        if outcome.result == "timeout":
            self.tls_broke(slot.target)
        text = f"TLS with {host} failed, its mail goes in plain text: {why}"
        fields = {"lane": slot.lane, "host": host, "remote-ip": slot.target.address, "why": why}
        self._report(Notice(time=time.time(), kind="tls", text=text, fields=fields))

    def tls_broke(self, target: Target) -> None:
        """TLS there costs minutes, or mail: opportunistic mail goes in plain text for a while."""
        self._plain[target.address, target.port] = self.clock() + PLAIN_FOR
        if len(self._plain) > REMEMBER:
            self._plain.popitem(last=False)

    def _tls_is_broken(self, target: Target) -> bool:
        return bool(self._plain) and self._plain.get((target.address, target.port), 0.0) > self.clock()

    async def _dial(self, slot: Slot, wish: Wish, domain: str) -> SmtpConnection:
        target = slot.target
        conversation = Conversation(OUT, slot.ip, target.address, domain)
        self._report(Connecting(time=time.time(), **_where(slot)))
        try:
            transport, peer = await OpeningDialogue(target, slot.ip, wish, self, conversation).open()
        except BaseException as error:
            reason = _why(error.outcome) if isinstance(error, Failed) else "quit"
            self._report(Disconnected(time=time.time(), reason=reason, messages=0, **_where(slot)))
            raise
        connection = SmtpConnection(self, slot, transport, peer, conversation)
        self._connections.add(connection)
        self._tick_on()
        self._slots.healthy(slot.ip, target)
        self._unreached.reached(slot.lane)
        self.egress.answered(slot.ip)
        self.troubles.made(target, wish.login)
        self._slots.connected(slot, connection)
        self._report(Connected(time=time.time(), tls=peer.level > PLAIN, **_where(slot)))
        return connection

    def _wish(self, delivery: Delivery) -> Wish:
        slot: Slot = delivery.slot
        security = security_of(delivery)
        way = self.egress.way(slot.ip)
        return Wish(self._ehlo_name(slot.ip), security, self._login(delivery), self.factor, way=way)

    def _login(self, delivery: Delivery) -> tuple[str, str] | None:
        return login_of(self.relay.through(delivery.message))

    def gone(self, connection: SmtpConnection, reason: str) -> None:
        """A connection is closed."""
        self._connections.discard(connection)
        if not self._connections:
            self._closed.set()
        self._slots.closed(connection.slot)
        where = _where(connection.slot, connection.target)
        self._report(Disconnected(time=time.time(), reason=reason, messages=connection.messages, **where))

    # -- time -------------------------------------------------------------------------------------------------------

    def _tick_on(self) -> None:
        if self._ticker is None and self._connections:
            delay = max(0.01, min(TICK, TICK * self.factor))
            self._ticker = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        """One look at every deadline: cheaper than a timer for each command (a timer costs 1 microsecond, twice)."""
        self._ticker = None
        now = self.clock()
        for connection in [connection for connection in self._connections if connection.deadline <= now]:
            try:
                connection.expire()
            except Exception as error:
                connection.broke(error)
        self._tick_on()

    def start(self) -> None:
        """Read the authorities now: without a descriptor left, TLS would know none until the next start."""
        for verify in (False, True):
            context(verify)

    async def close(self, grace: float = 2.0) -> None:
        """Close every connection with QUIT, within `grace` seconds; deliveries that are still under way return."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self._connections):
            connection.quit("quit")
        if self._connections:
            self._closed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), grace)
        for connection in list(self._connections):
            connection.abort(Next.RETURN)
        if self._ticker is not None:
            self._ticker.cancel()


def unusable(delivery: Delivery) -> str | None:
    """Why this can be sent nowhere, or None. The last guard: nothing of a message may become a command."""
    message = delivery.message
    if not valid_path(message.recipient):
        return f"recipient: {message.recipient!r} is no address"
    if message.envelope and not valid_path(message.envelope):
        return f"envelope: {message.envelope!r} is no address"
    if b"\0" in delivery.source:
        return "mime: has a NUL byte, which mail cannot carry (RFC 5321 4.5.2)"
    if message.security is not None and message.security not in SECURITIES:
        return f"security: {message.security!r} is none of {', '.join(SECURITIES)}"
    return None


def security_of(delivery: Delivery) -> str:
    """The security in force: the message's own, else the lane's."""
    security: str = delivery.message.security or delivery.slot.limits.connection_security
    return security


def login_of(smarthost: Smarthost | None) -> tuple[str, str] | None:
    """User name and password for the smarthost, where it has them."""
    if smarthost is None or not smarthost.username:
        return None
    return smarthost.username, smarthost.password or ""


def fits(connection: SmtpConnection, delivery: Delivery, login: tuple[str, str] | None) -> bool:
    """Whether an open connection is secured, and logged in, as this delivery asks."""
    peer = connection.peer
    return peer.level >= NEEDED[security_of(delivery)] and peer.login == login


def _targets(delivery: Delivery) -> list[Target]:
    """The slot's target, then those that come after it in the route, then those before it."""
    slot: Slot = delivery.slot
    route = list(delivery.route.targets) if delivery.route is not None else []
    if slot.target not in route:
        return [slot.target, *route]
    at = route.index(slot.target)
    return [slot.target, *route[at + 1 :], *route[:at]]


def _decisive(failures: list[Failed], heard: bool) -> Failed:
    """Of all failures the one that says what becomes of the message: a receiver's words rather than what we met."""
    last = failures[-1]
    open_ = [error for error in reversed(failures) if error.outcome.next is not Next.FAIL]
    if last.shortage:
        return last
    if open_:
        return next((error for error in open_ if error.outcome.code is not None), open_[0])
    if not heard and last.other_host:
        last.outcome = msgspec.structs.replace(last.outcome, next=Next.RETRY)
    return last


def _where(slot: Slot, target: Target | None = None) -> dict[str, str]:
    target = target or slot.target
    return {"lane": slot.lane, "ip": slot.ip, "remote_ip": target.address, "host": target.host}


def _why(outcome: Outcome) -> str:
    if outcome.code is not None:
        return f"{outcome.code} {outcome.description}"
    return "refused" if outcome.state == "connect" and outcome.result == "error" else outcome.result
