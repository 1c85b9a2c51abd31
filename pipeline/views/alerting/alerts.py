"""The alerts of a running program: looks every few seconds, tells whom the rules name, and keeps what holds and was.

Owner of: the states, the notices on their way, the last KEPT that were told, and the file that has them over a restart.
Bounds: those of its parts. It begins with `start`, also where the console is off. A look that fails is a fault of the
part `alerts`, and the next one is tried.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import structlog

from pipeline.alerts.book import KEPT, AlertBook, AlertPages, ToldNotice
from pipeline.alerts.hooks import Hooks, NotPosted
from pipeline.alerts.outgoing import Outgoing, WaitingNotice, Way
from pipeline.alerts.states import AlertNotice, AlertStates
from pipeline.alerts.words import headline, mailed, posted, signature
from pipeline.machine.announcing import console_url
from pipeline.process.supervisor import spawn, supervisor
from pipeline.queues.contract import QueueUnavailable, Unbrowsable
from pipeline.views.alerting.looks import Looks
from pipeline.views.state.pauses import held_mail
from pipeline.views.submit import Unacceptable
from pipeline.views.verdict import Judged, judge
from settings.rules.alerting import AlertRule
from settings.store import Who

if TYPE_CHECKING:
    from pipeline.views.facade import Facade

__all__ = ["AlertNotice", "Alerting", "AlertsNow", "HoldingAlert", "ShownNotice", "ToldNotice"]

EVERY = 5.0  # seconds
OLDEST = 60.0  # seconds between looks at each message of the queue
SHOWN = 50  # notices that pages may show to a person
NAMED = 3  # troubles in one line
PART = "alerts"
ARRIVED = "arrived"

log = structlog.get_logger(PART)


class HoldingAlert(msgspec.Struct, frozen=True, kw_only=True):
    """What of a rule holds now. Times are epoch seconds; `told`: None while it was not."""

    rule: int
    name: str
    watch: str
    subject: str
    text: str
    since: float
    told: float | None
    ending: bool


class AlertsNow(msgspec.Struct, frozen=True, kw_only=True):
    """What holds now, what was told lately (the newest first), and how many notices wait, arrived and were lost."""

    on: list[HoldingAlert]
    told: list[ToldNotice]
    waiting: int
    sent: int
    lost: int


class ShownNotice(msgspec.Struct, frozen=True):
    """A notice for a person at a console; numbers grow."""

    number: int
    title: str
    text: str
    key: str


class Alerting:
    """Over a running machine."""

    def __init__(self, facade: Facade) -> None:
        self._facade = facade
        self._settings = facade.settings
        self._book, self._hooks = AlertBook(self._settings.data_dir), Hooks(self._settings)
        self._states, self._looks = AlertStates(), Looks(facade, lambda: self.verdict, {})
        self._outgoing = Outgoing(self._deliver, lambda work: spawn(work, PART, grave=False), self._arrived)  # type: ignore[arg-type]
        self._told: collections.deque[ToldNotice] = collections.deque(maxlen=KEPT)
        self._numbers = itertools.count(1)
        self.shown: collections.deque[ShownNotice] = collections.deque(maxlen=SHOWN)
        self.verdict = Judged("idle", "Idle", "")
        self._looked = float("-inf")
        self._trouble = ""  # of the file
        self._running: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None

    @property
    def rules(self) -> list[AlertRule]:
        """The alert rules in force."""
        return [rule for rule in self._facade.store.snapshot.rules("alerts") if isinstance(rule, AlertRule)]

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up what was, and begin to look."""
        try:
            pages = self._book.read()
        except (OSError, ValueError) as error:
            pages = AlertPages()
            log.error("what was told of alerts is not known", why=str(error))
        self._states, self._looks.members = AlertStates(pages.states), pages.members
        self._told.extend(pages.told)
        self._outgoing.send(pages.waiting)
        self._running = supervisor().keep(self._run, PART)

    async def close(self) -> None:
        """Look no more; what waits is kept."""
        if self._running is not None:
            self._running.cancel()
            pages = self._pages()
            self._outgoing.close()
            await self._hooks.close()
            await self._write(pages)

    @property
    def trouble(self) -> str | None:
        """What could not be told or kept; None where all was."""
        found = [*([self._trouble] if self._trouble else []), *self._outgoing.troubles]
        more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
        return "; ".join(found[:NAMED]) + more or None

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(EVERY)

    async def look(self) -> None:
        """Once: look, tell, keep."""
        rules, now = self.rules, time.time()
        self._judge()
        if rules or self._states.all():
            await self._measure(rules)
            self._outgoing.keep({rule.id for rule in rules})
            for notice in self._states.tick(rules, self._looks.look(rules), now):
                self._tell(notice)
        await self._write(self._pages())

    def _judge(self) -> None:
        facade = self._facade
        held = held_mail(facade.store.snapshot.pauses, {}, facade.rules.held)
        states = [state for state in facade.states() if state.name != PART]  # else one that is deaf alarms all others
        self.verdict = judge(facade.figures(), facade.telemetry.top_errors(), states, held)

    async def _measure(self, rules: Sequence[AlertRule]) -> None:
        """What only the queue knows; where it does not answer, that cannot be said."""
        watched, looks = {rule.watch for rule in rules}, self._looks
        looks.queued = None
        try:
            if "queue" in watched:
                found = await self._facade.queue.figures()
                looks.queued = found.ready + found.waiting + found.unsettled + sum(found.parked.values())
            if "age" in watched and time.monotonic() - self._looked >= OLDEST:
                self._looked = time.monotonic()
                census = await self._facade.queue.census()
                looks.oldest = census.oldest.get("", time.time()) if census is not None else None
        except (QueueUnavailable, Unbrowsable):
            looks.oldest = None

    # -- what is told -------------------------------------------------------------------------------------------------

    def _tell(self, notice: AlertNotice) -> None:
        rule = next((rule for rule in self.rules if rule.id == notice.rule), None)
        if rule is None:
            return
        log.warning(headline(notice, self._settings.server_id), rule=notice.rule)
        ways: list[Way] = []
        if rule.webhook is not None:
            ways.append("webhook")
        if rule.email:
            ways.append("email")
        shown = {"browser": ARRIVED} if rule.browser else {}
        self._told.append(ToldNotice(notice, {**dict.fromkeys(ways, ""), **shown}))
        if rule.browser:
            self._show(notice)
        self._outgoing.send([WaitingNotice(way, notice) for way in ways])

    def _show(self, notice: AlertNotice) -> None:
        line = headline(notice, self._settings.server_id)
        key = f"alert-{notice.rule}-{notice.subject}"
        self.shown.append(ShownNotice(next(self._numbers), line.partition(": ")[0], line.partition(": ")[2], key))

    def test(self, rule: AlertRule, who: Who) -> AlertNotice:
        """Tell those whom a rule names that this is a test. Raises `NotAllowed`."""
        who.must("operate")
        now = time.time()
        text = f"This is a test that {who.name} has asked for. Nothing is wrong."
        id_ = f"{rule.id}-test-{int(now * 1000)}"
        notice = AlertNotice(
            id=id_,
            time=now,
            rule=rule.id,
            name=rule.name,
            watch=rule.watch,
            kind="test",
            subject="",
            text=text,
            since=now,
        )
        self._tell(notice)
        return notice

    async def _deliver(self, notice: AlertNotice, way: Way) -> None:
        """Hand one over, once, as its rule says now. Raises `NotPosted`."""
        rule = next((rule for rule in self.rules if rule.id == notice.rule), None)
        if rule is None:
            return  # deleted meanwhile
        settings = self._settings
        url = console_url(settings, tuple(self._facade.ips.own))
        if way == "email":
            await self._mail(rule, notice, url)
        elif rule.webhook is not None:
            body = posted(notice, settings.server_id, url, rule.style)
            headers = {"Content-Type": "application/json", "X-Mailrace-Id": notice.id}
            if rule.secret is not None:
                headers["X-Mailrace-Signature"] = signature(rule.secret.get_secret_value(), body)
            await self._hooks.post(rule.webhook.get_secret_value(), body, headers)

    async def _mail(self, rule: AlertRule, notice: AlertNotice, url: str) -> None:
        settings = self._settings
        domain = settings.mail_domain or socket.gethostname()
        sender = settings.alert_sender or f"mailrace@{domain}"
        mails = [mailed(notice, settings.server_id, sender, recipient, url) for recipient in rule.email]
        try:
            await self._facade.submission.submit(mails, "", PART)
        except QueueUnavailable as error:
            raise NotPosted(str(error)) from None
        except Unacceptable as error:
            raise NotPosted(str(error), again=False) from None

    def _arrived(self, one: WaitingNotice, why: str, final: bool) -> None:
        for place, told in enumerate(self._told):
            if told.notice.id == one.notice.id:
                self._told[place] = ToldNotice(told.notice, {**told.ways, one.way: why or ARRIVED})

    # -- what is kept and shown ---------------------------------------------------------------------------------------

    def _pages(self) -> AlertPages:
        return AlertPages(self._states.all(), self._outgoing.waiting(), list(self._told), self._looks.members)

    async def _write(self, pages: AlertPages) -> None:
        if (made := self._book.changed(pages)) is None:
            return
        try:
            await asyncio.to_thread(self._book.write, made)
        except OSError as error:
            self._trouble = f"{self._book.path} cannot be written, so a restart tells alerts anew: {error.strerror}"
        else:
            self._trouble = ""

    def now(self) -> AlertsNow:
        """What holds, and what was."""
        names = {rule.id: rule for rule in self.rules}
        on = [
            HoldingAlert(
                rule=state.rule,
                name=names[state.rule].name,
                watch=names[state.rule].watch,
                subject=state.subject,
                text=state.text,
                since=state.since,
                told=state.told,
                ending=state.gone is not None,
            )
            for state in self._states.all()
            if state.on and state.rule in names
        ]
        out = self._outgoing
        return AlertsNow(
            on=on, told=list(reversed(self._told)), waiting=len(out.waiting()), sent=out.sent, lost=out.lost
        )

    def of(self, rule: AlertRule) -> list[HoldingAlert]:
        """What of one rule holds now."""
        return [one for one in self.now().on if one.rule == rule.id]

    def since(self, number: int) -> list[ShownNotice]:
        """Notices for a person that are newer than this one."""
        return [one for one in self.shown if one.number > number]
