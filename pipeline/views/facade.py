"""The facade: what the console and the API read of the running machine and change in it. They hold layout, not logic.

It has a view for each subject. Owner of: the history of the lanes, the backlog, the count of what each rule decided,
the sizes of the queue, and the views, each made when it is first asked for. All calls are made on the event loop; what
reads a database or the log goes to a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import structlog
from reactivex import Observable, abc

from operators.deliveries.events import Event
from pipeline.log.reading.past import ends
from pipeline.log.reading.query import LogQuery, LogQueryFailed
from pipeline.machine.health import HealthState
from pipeline.machine.machine import WorkerRow as WorkerRow
from pipeline.machine.withdrawing import Withdrawal
from pipeline.process.supervisor import spawn
from pipeline.queues import largest_body, result_rule
from pipeline.queues.contract import QueueUnavailable
from pipeline.smtp.watch import DialogueWatch
from pipeline.telemetry.backlog import Backlog
from pipeline.telemetry.history import History
from pipeline.telemetry.restored import LoggedEnds, restore, spans
from pipeline.telemetry.telemetry import Telemetry
from pipeline.views.alerting.alerts import Alerting
from pipeline.views.answers import UnknownAnswer
from pipeline.views.bulk import Bulk
from pipeline.views.changing.floods import FloodsView
from pipeline.views.changing.queue import QueueView
from pipeline.views.changing.rules import RulesView
from pipeline.views.changing.tracing import MessageTrace
from pipeline.views.cluster import ClusterView
from pipeline.views.explain import Explainer
from pipeline.views.queue_monitor import QueueMonitor
from pipeline.views.recorder import Recorder
from pipeline.views.scoped import ScopedFigures
from pipeline.views.state.destinations import DestinationsView
from pipeline.views.state.growth import STEP, QueueSizes
from pipeline.views.state.lanes import LanesView
from pipeline.views.state.lens import Lenses
from pipeline.views.state.mta_ips import MtaIpsView
from pipeline.views.state.selected import SelectedView
from pipeline.views.stopping import Stopping
from pipeline.views.submit import Submission
from pipeline.views.suppressing import SuppressionJob, SuppressionJobs
from pipeline.views.tally import Tally
from pipeline.views.warming import WarmupsView
from settings import Settings
from settings.store import RuleStore, Who, audit

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine

LEAVING = ("delivered", "failed", "refused")  # counters of what leaves the queue for good


log = structlog.get_logger("telemetry")


class Facade:
    """Over a running machine; call `close` when it is not shown any more."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.history, self.backlog, self.lenses = History(), Backlog(), Lenses(machine.events)
        self.tally = Tally(lambda: machine.rules.snapshot)
        self.fictional = False  # the demo's mail is
        self.sizes = QueueSizes()
        self._sampling: asyncio.Task[None] | None = None
        self.recorder = Recorder(machine.rules)
        self.stopping = Stopping(
            lambda: self.bulk,
            lambda: self.queue.anything_waits(),
            lambda name: self.lanes.domains_of(name),
            lambda text: machine.warned("errors", text),
            lambda: machine.withdraws,
        )
        self._watching: list[abc.DisposableBase] = [
            self.history.watch(machine.counted),
            self.backlog.watch(machine.counted),
            machine.counted.subscribe(self.tally.count),
            machine.rules.snapshots.subscribe(self.stopping.changed),
        ]

    def start(self) -> None:
        """Begin to note how large the queue is."""
        self._sampling = spawn(self._sample(), "queue-sizes", grave=False)

    async def remember(self) -> None:
        """Put the last hour and day of the log back into the charts, once after the start."""
        telemetry, sent = self._machine.telemetry, self._machine.settings.send_log
        if sent is None:
            return
        wanted = spans(telemetry.began)
        try:
            found = await asyncio.to_thread(ends, sent, [(since, step) for _, since, step in wanted])
        except LogQueryFailed as error:
            log.warning("the charts begin with this start: the log does not tell what was before", why=str(error))
            return
        for (tier, _, _), rows in zip(wanted, found, strict=True):
            restore(telemetry, tier, (LoggedEnds(*row) for row in rows))

    async def _sample(self) -> None:
        while True:
            with contextlib.suppress(QueueUnavailable):  # its state says so; the line has a gap
                totals = self._machine.telemetry.totals()
                self.sizes.add(await self._machine.queue.figures(), sum(totals[name] for name in LEAVING))
            await asyncio.sleep(STEP)

    def close(self) -> None:
        """Stop watching."""
        if self._sampling is not None:
            self._sampling.cancel()
        self.lenses.close()
        for watch in self._watching:
            watch.dispose()
        if "logs" in vars(self):
            self.logs.close()

    # -- the views, one for each subject ----------------------------------------------------------------------------

    @cached_property
    def lanes(self) -> LanesView:
        """The lanes with mail."""
        return LanesView(self._machine, self.explainer, self.history, self.backlog)

    @cached_property
    def destinations(self) -> DestinationsView:
        """The destinations."""
        return DestinationsView(self._machine, self.explainer, self.backlog, self.lanes, self.cluster)

    @cached_property
    def ips(self) -> MtaIpsView:
        """The MTA IPs."""
        return MtaIpsView(self._machine, self.explainer, self.backlog, self.lanes, self.cluster)

    @cached_property
    def selected(self) -> SelectedView:
        """How what is selected on a page stands."""
        return SelectedView(self._machine, self.backlog, self.ips)

    @cached_property
    def rules(self) -> RulesView:
        """The rules with their live figures."""
        return RulesView(self._machine, self.explainer, self.scoped, self.tally, self.warmups, self.alerts)

    @cached_property
    def alerts(self) -> Alerting:
        """What alert rules find, and whom they tell."""
        found = Alerting(self)
        self.beside("alerts", lambda: found.trouble)
        return found

    @cached_property
    def warmups(self) -> WarmupsView:
        """How far each MTA IP is that is warmed."""
        return WarmupsView(self._machine, self.recorder)

    @cached_property
    def floods(self) -> FloodsView:
        """The floods in force."""
        return FloodsView(self._machine, self.explainer, self.recorder)

    @cached_property
    def queue(self) -> QueueView:
        """The queue and its messages."""
        return QueueView(self._machine, self.bulk, self.explainer, self.backlog, self.recorder)

    @cached_property
    def explainer(self) -> Explainer:
        """Explains lanes."""
        return Explainer(self._machine, self.history, self.backlog)

    @cached_property
    def bulk(self) -> Bulk:
        """Selects and changes queued messages."""
        return Bulk(self._machine.queue, self._machine.settings.rabbitmq_outbox, deleting=self._machine.deleting)

    @cached_property
    def suppressions(self) -> SuppressionJobs:
        """Imports and removes suppressions."""

        def record(who: Who, job: SuppressionJob) -> None:
            facts = {"action": job.action, "created": job.created, "replaced": job.replaced, "removed": job.removed}
            action: audit.Action = "create" if job.action == "import" else "delete"
            self.recorder.soon(who, action, "suppressions", job.id, facts)

        return SuppressionJobs(self._machine.rules.suppressions, self.settings.data_dir, record)

    @cached_property
    def monitor(self) -> QueueMonitor:
        """Watches the queues."""
        return QueueMonitor(self._machine)

    @cached_property
    def cluster(self) -> ClusterView:
        """The other instances, and all together."""
        return ClusterView(self._machine)

    @cached_property
    def submission(self) -> Submission:
        """Takes messages from applications."""
        machine, s = self._machine, self._machine.settings
        return Submission(
            machine.queue,
            s.rabbitmq_outbox,
            s.server_id,
            largest_body(s),
            machine.report,
            result_rule(s),
            s.long_lines,
        )

    @cached_property
    def trace(self) -> MessageTrace:
        """Finds the queued message of a line of the log."""
        return MessageTrace(self._machine, self.bulk, self.submission, self.recorder)

    @cached_property
    def injection(self) -> Submission:
        """Takes messages as MailerQ's API does: into the queue that received mail goes to."""
        machine, s = self._machine, self._machine.settings
        inbox = s.rabbitmq_inbox or s.rabbitmq_outbox
        rule = result_rule(s)
        return Submission(machine.queue, inbox, s.server_id, largest_body(s), machine.report, rule, s.long_lines)

    @cached_property
    def logs(self) -> LogQuery:
        """The log queries; they block, so call them in a thread."""
        return LogQuery(self._machine.settings.send_log, self._machine.settings.received_log)

    @cached_property
    def scoped(self) -> ScopedFigures:
        """The figures of an MTA IP, domain, tag or pool."""
        return ScopedFigures(self._machine.telemetry, lambda: self._machine.rules.snapshot, self.ips.is_ours)

    # -- what others own, as it is shown ------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The configuration in force."""
        return self._machine.settings

    @property
    def events(self) -> Observable[Event]:
        """Everything that happens, as it happens."""
        return self._machine.events

    @property
    def telemetry(self) -> Telemetry:
        """The counters: read them."""
        return self._machine.telemetry

    @property
    def store(self) -> RuleStore:
        """The rules, and who changed them."""
        return self._machine.rules

    @property
    def dialogue(self) -> DialogueWatch:
        """The SMTP dialogues, for as long as somebody watches."""
        return self._machine.dialogue

    def beside(self, name: str, ask: Callable[[], str | None]) -> None:
        """A part that no mail needs says its trouble so: it is looked at, and is no reason not to be ready."""
        self._machine.health.beside[name] = ask

    def withdrawals(self) -> list[Withdrawal]:
        """Forced errors on their way through the queue, newest first."""
        return self._machine.withdrawals

    def workers(self) -> list[WorkerRow]:
        """The processes that carry mail, where there are several."""
        return self._machine.workers()

    def states(self) -> list[HealthState]:
        """What is wrong now, the worst first."""
        return self._machine.health.states()

    @property
    def stopped(self) -> str | None:
        """Why mail is not taken or does not leave, in general words; None while it does."""
        return self._machine.health.stopped

    @property
    def remarks(self) -> list[str]:
        """What whoever sends mail here should know, though it is taken, in general words."""
        return self._machine.health.remarks

    @property
    def discarded(self) -> int:
        """Messages taken and thrown away since the start, as the configuration says."""
        return self._machine.health.discarded

    def classes(self) -> dict[str, int]:
        """Negative ends of attempts since the start, by class."""
        return dict(self._machine.effects.classes)

    def unknown_answers(self) -> list[UnknownAnswer]:
        """The negative answers without a class, the most frequent first."""
        return self._machine.effects.unknown()

    def figures(self) -> dict[str, int]:
        """Counters of the last 60 s, and gauges."""
        return self._machine.telemetry.snapshot()
