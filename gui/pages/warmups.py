"""Warm-up: which MTA IPs are warmed for whom, how far each is, and what holds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gui.components.drawing import tag, text
from gui.components.live_table import Column, Empty, LiveTable
from gui.components.rules.rule_page import Cells, RulePage
from gui.components.rules.rule_table import RuleColumn, columns_of
from gui.components.view import ConsolePage
from pipeline.views.warming import CurveDay, WarmupProgress
from settings.rules import Rule
from settings.rules.warming import Warmup
from settings.store import REFUSED

MOST = 500  # rows
COMING = 6  # days to come that the tooltip of a row names
COLUMNS = (
    Column("ip", "MTA IP", "link", "The address that is warmed.", main=True),
    Column("to", "Destination", width="15%"),
    Column(
        "state", "State", "state", "held: by hand. holding, back: by its shares. warm: the last step.", width="96px"
    ),
    Column("day", "Day", "text", "Of the schedule; it goes on only after a day on which mail went.", width="80px"),
    Column("used", "Today", "text", "Messages that have left today, and the day's cap.", width="120px"),
    Column("deferrals", "Deferred", "text", "Of today's attempts.", width="84px"),
    Column("waits", "Waits", "number", "Messages that wait for tomorrow.", width="76px"),
    Column("spark", "So far", "spark", "Messages a day, since it began.", width="101px"),
    Column("next", "To come", "text", "The caps of the next days.", width="17%"),
    Column("acts", "", "actions", width="210px"),
)
NOTHING = Empty("Nothing is warmed", "Each MTA IP of a warm-up appears here, with its day, cap and use.")
SAID = {"hold": "Held", "go-on": "Goes on", "advance": "The next day has begun", "reset": "Begun anew"}


class Warmups(RulePage):
    """One opened Warm-up."""

    path = "/warmups"
    kind = "warmups"
    noun = "warm-up"
    label = "Warm-ups"
    empty = (
        "No warm-ups yet",
        "Make a schedule first. A warm-up then keeps a new MTA IP, or each of a pool, under the day's cap.",
    )

    def above(self) -> None:
        with tag("section", "card"):
            with tag("div", "card-head"):
                text("h2", "Now")
            self._now = LiveTable(COLUMNS, "How far each MTA IP is", NOTHING)
        self._now.on_act(self._acted_on)

    def shown_columns(self) -> list[RuleColumn]:
        found = columns_of(self.kind)
        del found["progress"]
        ip = msgspec.structs.replace(found.pop("ip"), label="From", link="")
        del found["pool"]
        domain = msgspec.structs.replace(found.pop("domain"), empty="all mail")
        return [ip, domain, *found.values()]

    def title(self, rule: Rule) -> str:
        assert isinstance(rule, Warmup)
        return f"{rule.ip or f'pool {rule.pool}'} to {rule.domain or 'all'}"

    def rank(self, rule: Rule) -> Any:
        assert isinstance(rule, Warmup)
        return (rule.domain is None, rule.domain or "", rule.ip or rule.pool or "")

    def cells(self, rule: Rule) -> Cells:
        assert isinstance(rule, Warmup)
        return {**rule.shown(), "ip": rule.ip or f"pool {rule.pool}"}

    def live_cells(self, rule: Rule) -> Cells:
        return {}

    def consequence(self, rule: Rule) -> str:
        return "Its mail leaves without a cap from the next message on."

    def aside(self, rule: Rule | None, values: Mapping[str, Any], trying: str) -> list[Cells]:
        schedule = self.store.snapshot.schedule(rule.schedule) if isinstance(rule, Warmup) else None
        if schedule is None:
            return []
        lines = [{"text": f"from day {step.day}: {step.cap:,} a day" if step.cap else f"from day {step.day}: no cap"}
                 for step in schedule.steps]  # fmt: skip
        return [{"tone": "good", "title": f"It follows {schedule.name}:", "lines": lines}]

    def refresh(self) -> None:
        super().refresh()
        self._now.show([_row(one) for one in self.facade.warmups.all()[:MOST]])

    async def _acted_on(self, key: str, action: str) -> None:
        if action not in SAID or not self.allowed():
            return
        number, _, ip = key.partition("/")
        if action == "reset" and not await self.box.confirm(
            f"Begin the warm-up of {ip} anew?", ["Its day is the first again. What has left today counts."], "Reset"
        ):
            return
        try:
            rule = self.store.get("warmups", int(number))
            assert isinstance(rule, Warmup)
            self.facade.warmups.act(rule, action, self.view.who, ip)  # type: ignore[arg-type]
        except REFUSED as error:
            self.notes.say(str(error), level="bad")
            return
        self.done(f"{SAID[action]}: {ip}")


def _row(one: WarmupProgress) -> dict[str, Any]:
    hold = ("go-on", "Go on") if one.state == "held" else ("hold", "Hold")
    sent = [day.sent for day in one.curve] + [one.sent]
    return {
        "key": f"{one.rule}/{one.ip}",
        "ip": {"text": one.ip, "href": f"/?ip={one.ip}"},
        "to": one.destination or "all mail",
        "state": one.state,
        "day": f"{one.day} of {one.last_day}",
        "used": f"{one.sent:,} of {one.cap:,}" if one.cap else f"{one.sent:,}, no cap",
        "deferrals": f"{one.deferrals:.0f} %" if one.attempts else "",
        "waits": one.waits,
        "spark": sent if any(sent) else None,
        "next": one.why or _coming(one.to_come),
        "acts": [] if one.state == "waiting" else [hold, ("advance", "Advance"), ("reset", "Reset")],
    }


def _coming(days: list[CurveDay]) -> str:
    return ", ".join(f"{day.cap:,}" if day.cap else "no cap" for day in days[:COMING])


PAGE = ConsolePage(
    path="/warmups",
    title="Warm-up",
    section="Deliver",
    icon="M10 3v6M10 17a4 4 0 0 0 2-7.500V4a2 2 0 0 0-4 0v5.500a4 4 0 0 0 2 7.500z",
    key="n",
    build=Warmups,
    purpose="How many messages a day leave from new MTA IPs, and how far each is.",
)
