"""Alerts: what of the alert rules holds now, what was told to whom, and the rules."""

from __future__ import annotations

from typing import Any

import msgspec

from gui.components.alerting.notifier import NotificationSwitch
from gui.components.drawing import tag, text
from gui.components.live_table import Column, Empty, LiveTable, shown
from gui.components.rules.rule_page import EDIT, REMOVE, Cells, RulePage
from gui.components.rules.rule_table import Action, RuleColumn, columns_of
from gui.components.view import ConsolePage, View
from pipeline.views.alerting.alerts import HoldingAlert, ToldNotice
from settings.rules import NoSuchRule, Rule
from settings.rules.alerting import PERCENT, AlertRule
from settings.store import REFUSED

TOLD = 30  # notices
UNITS = {"queue": "messages", "age": "minutes", "suppressions": "more"}
WORDS = {
    "verdict": "The verdict", "failures": "Share of mail given up", "deferrals": "Share of mail deferred",
    "queue": "Size of the queue", "age": "Age of the oldest message", "flood": "Lanes paused by a flood pattern",
    "fault": "Faults of this program: disk, broker, rules", "member": "An instance or a worker gone",
    "suppressions": "Growth of suppressions", "blocked": "MTA IPs blocked by a provider",
    "json": "JSON", "slack": "Text for Slack, Mattermost",
}  # fmt: skip
ON = (
    Column("name", "Rule", "text", "The alert rule.", width="22%", main=True),
    Column("text", "What", "text", "As it was found last."),
    Column("since", "Since", "time", "When it began.", width="120px"),
    Column("told", "Told", "time", "When it was told first; nothing: not yet, as in a quiet time.", width="120px"),
)
NONE_ON = Empty(
    "Nothing is wrong that a rule watches for", "What holds now stands here, until it has been gone for 5 min."
)
WAS = (
    Column("time", "Time", "time", "When it was told.", width="120px"),
    Column("kind", "Kind", "state", "begun, still: it lasts, ended, or a test.", width="90px"),
    Column("name", "Rule", "text", "The alert rule.", width="18%", main=True),
    Column("text", "What", "text", "As it stood in the notice."),
    Column("ways", "Became of it", "text", "Whether it has arrived, on each way.", width="24%"),
)
NONE_WAS = Empty("Nothing was told yet", "Each notice stands here, with whether it has arrived.")


class Alerts(RulePage):
    """One opened Alerts."""

    path = "/alerts"
    kind = "alerts"
    noun = "alert rule"
    label = "Rules"
    actions = (Action("test", "Send a test", text=True), EDIT, REMOVE)
    words = WORDS
    empty = (
        "No alert rules yet",
        "A rule watches something, such as the verdict, and tells a webhook, an address, or open browsers.",
    )

    def __init__(self, view: View) -> None:
        with view.tools:
            NotificationSwitch()
        super().__init__(view)

    def above(self) -> None:
        self._on = _card("On now", ON, NONE_ON)

    def below(self) -> None:
        self._was = _card("What was told", WAS, NONE_WAS)

    def shown_columns(self) -> list[RuleColumn]:
        found = columns_of(self.kind)
        watch = msgspec.structs.replace(found["watch"], group="")
        to = RuleColumn(name="to", label="Tells", help="Whom it tells.", sortable=False)
        when = RuleColumn(name="when", label="When", help="From when on, how often, and when not.", sortable=False)
        now = RuleColumn(name="now", label="Now", help="Whether it holds.", empty="no", live=True, sortable=False)
        return [found["name"], watch, when, to, now]

    def title(self, rule: Rule) -> str:
        assert isinstance(rule, AlertRule)
        return rule.name

    def rank(self, rule: Rule) -> Any:
        assert isinstance(rule, AlertRule)
        return rule.name.casefold()

    def cells(self, rule: Rule) -> Cells:
        assert isinstance(rule, AlertRule)
        return {"name": rule.name, "watch": _watched(rule), "when": _when(rule), "to": _to(rule)}

    def live_cells(self, rule: Rule) -> Cells:
        assert isinstance(rule, AlertRule)
        return {"now": "on" if self.facade.alerts.of(rule) else None}

    def consequence(self, rule: Rule) -> str:
        return "It tells nobody any more, not even that what it has told of has ended."

    def refresh(self) -> None:
        super().refresh()
        now = self.facade.alerts.now()
        self._on.show([_holding(one) for one in now.on])
        self._was.show([_told(one) for one in now.told[:TOLD]])

    async def acted(self, action: str, rule: Rule) -> None:
        assert isinstance(rule, AlertRule)
        try:
            self.facade.alerts.test(rule, self.view.who)
        except (*REFUSED, NoSuchRule) as error:
            self.notes.say(str(error), level="bad")
            return
        self.refresh()
        self.notes.say(f"A test is on its way; whether it has arrived stands below: {rule.name}")


def _card(title: str, columns: tuple[Column, ...], empty: Empty) -> LiveTable:
    with tag("section", "card whole-texts"):
        with tag("div", "card-head"):
            text("h2", title)
        return LiveTable(columns, title, empty)


def _watched(rule: AlertRule) -> str:
    parts = [f"to {rule.domain}" if rule.domain else "", f"from {rule.ip}" if rule.ip else ""]
    parts.append(f"tag {rule.tag}" if rule.tag else "")
    narrowed = " ".join(part for part in parts if part)
    return f"{WORDS[rule.watch]} {narrowed}".strip()


def _when(rule: AlertRule) -> str:
    if rule.watch == "verdict":
        parts = ["bad" if rule.level == "bad" else "watch or bad"]
    elif rule.watch in PERCENT:
        minutes = 5 if rule.watch == "blocked" else rule.minutes
        parts = [f"from {rule.limit} % of {rule.attempts:,} attempts in {minutes} min"]
    elif rule.watch in UNITS:
        within = f" in {rule.minutes} min" if rule.watch == "suppressions" else ""
        parts = [f"from {rule.limit:,} {UNITS[rule.watch]}{within}"]
    else:
        parts = ["at once"] if not rule.lasting else []
    parts += [f"for {rule.lasting} min"] if rule.lasting else []
    parts.append(f"again after {rule.again} h" if rule.again else "once")
    parts += [f"not {rule.quiet} {rule.time_zone}"] if rule.quiet else []
    return ", ".join(parts)


def _to(rule: AlertRule) -> str:
    signed = ", signed" if rule.signed else ""
    ways = [f"{rule.webhook_at}{signed}" if rule.webhook_at else "", *rule.email, "browsers" if rule.browser else ""]
    return "; ".join(way for way in ways if way)


def _holding(one: HoldingAlert) -> dict[str, Any]:
    return {
        "key": f"{one.rule}/{one.subject}",
        "name": shown(one.name),
        "text": shown(one.text) + (" (gone; ended after 5 min)" if one.ending else ""),
        "since": one.since,
        "told": one.told,
    }


def _told(one: ToldNotice) -> dict[str, Any]:
    notice = one.notice
    ways = [f"{way}: {why or 'on its way'}" for way, why in one.ways.items()]
    return {
        "key": notice.id,
        "time": notice.time,
        "kind": notice.kind,
        "name": shown(notice.name),
        "text": shown(notice.text),
        "ways": shown("; ".join(ways)),
    }


PAGE = ConsolePage(
    path="/alerts",
    title="Alerts",
    section="Monitor",
    icon="M10 3a4.500 4.500 0 0 1 4.500 4.500v3.500l1.500 2.500H4l1.500-2.500V7.500A4.500 4.500 0 0 1 10 3M8.500 17h3",
    key="1",
    build=Alerts,
    purpose="What is wrong now that you want to be told of, what was told to whom, and the rules that say so.",
)
