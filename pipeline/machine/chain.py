"""The chain: every message's way through the stages, a stage a line, and what is under way in it.

What a stage tells becomes an event; what it raises ends one attempt of one message. Owner of: how many messages are
under way, and which of them wait for the queue. Bound: the queue's credit.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import reactivex as rx
import structlog
from reactivex import Observable

from operators.custom.live import Live
from operators.deciding.classes import classify_answers
from operators.deciding.force import force
from operators.deciding.respond import respond
from operators.deciding.rewrite import rewrite
from operators.deciding.suppress import suppress
from operators.deliveries.delivery import Delivery, Lease, Route, lane_name
from operators.deliveries.dsn import bounce
from operators.deliveries.events import Assigned, Fault, Notice, Redirected, Settled, Taken
from operators.deliveries.result_queues import ResultQueues
from operators.mail.message import Message
from operators.stages.assign import assign, chooser
from operators.stages.compose import compose
from operators.stages.conclude import conclude
from operators.stages.decode import decode
from operators.stages.deliver import deliver
from operators.stages.expire import expire
from operators.stages.handover import hand_over
from operators.stages.hold import hold
from operators.stages.record import record
from operators.stages.redirect import redirect
from operators.stages.resolve import resolve
from operators.stages.settle import settle, work_out
from operators.stages.sign import sign
from operators.stages.stage import Stage
from operators.stages.tap import tap
from pipeline.machine.announcing import elsewhere_ips
from pipeline.machine.custom_operators import LATE, Custom, woven
from pipeline.machine.parts import wishes_of
from pipeline.machine.unsettled import Unsettled, rest
from pipeline.machine.withdrawing import Withdrawing, can_withdraw
from pipeline.queues import largest_body, result_queues, result_rule
from pipeline.queues.contract import QueueUnavailable

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine

CHANCE = random.SystemRandom()

log = structlog.get_logger("mailrace")


class Chain:
    """The stages of a machine, in their order."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._underway = 0
        self._unsettled = Unsettled(partial(machine.warned, "queue"))
        self._at_rest = asyncio.Event()  # nothing is under way
        self._at_rest.set()

    async def rest(self) -> None:
        """Until nothing is under way, or what is waits for a queue that does not work."""
        queue = self._machine.queue

        def waits() -> bool:
            return len(self._unsettled) >= self._underway or queue.fault is not None

        await rest(self._at_rest, lambda: self._underway, waits)

    def deliveries(self) -> Observable[Delivery]:
        """A message's way, a stage a line; a custom operator stands behind the stage that it names."""
        m, failed, now = self._machine, self.failed, time.time
        s, rules = m.settings, m.snapshot
        stages = woven(
            m.customs,
            self._live,
            partial(m.warned, "operator"),
            decode=rx.compose(self._decode(), tap("taken", self._taken, failed)),
            expire=self._expire(),
            suppress=suppress(m.rules.suppressions, now, failed),
            rewrite=rewrite(rules, now, failed),
            **self._handing_over(),
            resolve=resolve(m.resolving, failed, m.relay, lambda host: rules().provider_of(host)),
            assign=assign(m.ips.allowed, m.lanes.outlook, m.pools.choose, failed, self.passed_over),
            redirect=redirect(rules, now, self._redirected, self._looped, failed),
            assigned=tap("assigned", self._assigned, failed, ended=False),
            force=rx.compose(force(rules, now, failed), m.warming.admit(failed)),
            hold=hold(rules, now, failed, m.pools.parked_queue),
            throttle=rx.compose(m.lanes.throttle(failed), m.warming.count(failed)),
            compose=compose(m.gathering, failed, s.long_lines),
            sign=sign(m.signing.keys_of, m.signers.sign, now, failed),
            deliver=deliver(m.transport.deliver, failed),
            classify=rx.compose(classify_answers(rules, failed), respond(rules, now, m.effects, failed)),
            detect=m.floods.detect(rules, failed),
            conclude=rx.compose(
                conclude(s.max_delivertime, s.retry_interval, s.max_attempts, now, CHANCE.random, failed),
                m.warming.counted(failed),
            ),
            record=record(m.texts.after(m.log.attempt), now, failed),
            settle=settle(
                m.queue.settle, result_queues(s), s.max_delivertime, now, m.scheduler, self._not_settled, self._notify
            ),
            settled=tap("settled", self._settled, failed),
            freed=tap("freed", m.lanes.settled, failed),
        )
        return m.queue.consume(s.rabbitmq_qos).pipe(*stages)  # type: ignore[no-any-return]

    def _decode(self) -> Callable[[Observable[Lease]], Observable[Delivery]]:
        s, customs = self._machine.settings, self._machine.customs
        given = {"recipient": s.validate_recipient, "envelope": s.validate_envelope}
        loose = [name for name, how in given.items() if how == "loose"]
        return decode(largest_body(s), time.monotonic, result_rule(s), bool(customs), wishes_of(s), loose)

    def _expire(self) -> Stage:
        """With what is forced whatever its route is."""
        life, rules = self._machine.settings.max_delivertime, self._machine.snapshot
        return rx.compose(expire(life, time.time, self.failed), force(rules, time.time, self.failed, early=True))

    def withdrawing(self) -> Withdrawing | None:
        """None where the queue lends messages only, and where custom operators see them before it is decided."""
        machine = self._machine
        queue = machine.queue.withdrawable
        if queue is None or not can_withdraw(machine.customs):
            return None
        log, stages = machine.log, rx.compose(self._decode(), self._expire())
        owed = partial(self._owed, result_queues(machine.settings))
        return Withdrawing(queue, stages, owed, machine.texts.after(log.attempt), log.room, machine.report, time.time)

    def _owed(self, queues: ResultQueues, delivery: Delivery) -> Sequence[tuple[str, bytes]]:
        """The messages that an end owes to other queues; most owe none."""
        message = delivery.message
        if not queues and message.queues is None and message.dsn is None:
            return ()
        life = self._machine.settings.max_delivertime
        return work_out(delivery, queues, life, time.time(), self._notify, self._not_settled).publish

    def _live(self, custom: Custom) -> Live:
        """What a custom operator is given."""
        machine = self._machine
        late = custom.stage in LATE
        return Live(
            custom.name, machine.settings, machine.rules.snapshots, machine.scheduler, time.time, self.failed, late
        )

    def _handing_over(self) -> dict[str, Any]:
        machine = self._machine
        cluster = machine.cluster
        if cluster is None:
            return {}
        ours = machine.ips.default

        def wanted(message: Message) -> list[str]:
            return elsewhere_ips(message, ours, machine.rules.snapshot)

        return {"handover": hand_over(wanted, cluster.elsewhere, cluster.hand_over, time.time, self.failed)}

    def _taken(self, delivery: Delivery) -> None:
        self._underway += 1
        self._at_rest.clear()
        self._machine.report(Taken(time=time.time(), delivery=delivery))

    def _assigned(self, delivery: Delivery) -> None:
        self._machine.report(Assigned(time=time.time(), delivery=delivery))

    def passed_over(
        self, ips: Sequence[str], delivery: Delivery, route: Route
    ) -> tuple[Sequence[str], tuple[str, ...]]:
        """Of several MTA IPs those that reach the receiver and have room today, and the rules that say so."""
        left = self._machine.unreached.left(ips, route)
        return (left, ()) if len(left) == 1 else self._machine.warming.left(left, delivery, route)

    def elsewhere(self, delivery: Delivery) -> bool:
        """Whether another attempt would be made from an MTA IP of the other address family, by all rules."""
        m, route = self._machine, delivery.route
        assert route is not None
        choose = chooser(m.ips.allowed, m.lanes.outlook, m.pools.choose, self.passed_over)
        ip, _ = choose(delivery, route)
        if ip is None or (":" in ip) == (":" in delivery.ip) or m.unreached.holds(lane_name(ip, route.group)):
            return False
        remotes = [*(target.address for target in route.targets), route.group]
        return not m.snapshot().redirects_of(ip, delivery.domain, remotes, time.time())

    def _notify(self, delivery: Delivery, when: float) -> tuple[str, bytes] | None:
        """The notification that a message's end owes its sender, and the queue it goes to."""
        machine = self._machine
        if delivery.message.dsn is None:
            return None
        message_id = f"{uuid.uuid4().hex}@{machine.settings.server_id}"
        properties = bounce(delivery, machine.settings.server_id, message_id, when)
        if properties is None:
            return None
        own = (delivery.message.queues or {}).get(
            "dsn", machine.settings.rabbitmq_dsn or machine.settings.rabbitmq_outbox
        )
        return (own, msgspec.json.encode(properties)) if own else None

    def _redirected(self, delivery: Delivery, from_ip: str) -> None:
        self._machine.report(Redirected(time=time.time(), delivery=delivery, from_ip=from_ip))

    def _looped(self, delivery: Delivery, chain: Sequence[str]) -> None:
        text = f"redirects go round in a circle: {' -> '.join(chain)}"
        self._machine.report(Notice(time=time.time(), kind="redirect-loop", text=text, fields={"lane": delivery.lane}))

    def _settled(self, delivery: Delivery) -> None:
        self._unsettled.settled(delivery)
        self._underway -= 1
        if not self._underway:
            self._at_rest.set()
        outcome = delivery.outcome
        assert outcome is not None
        self._machine.report(Settled(time=time.time(), delivery=delivery, outcome=outcome, retry_at=outcome.until))

    def _not_settled(self, stage: str, delivery: Delivery, error: Exception) -> None:
        if isinstance(error, QueueUnavailable):
            self._unsettled.failed(delivery, error)
        else:
            self.failed(stage, delivery, error)

    def failed(self, stage: str, delivery: Delivery, error: Exception) -> None:
        """An operator's exception ends one delivery's attempt; it is logged with its traceback."""
        message = delivery.message
        of = {"stage": stage, "message_id": message.message_id, "recipient": message.recipient}
        log.error("operator failed", **of, exc_info=error)
        self._machine.report(Fault(time=time.time(), where=stage, detail=f"{type(error).__name__}: {error}"[:500]))
