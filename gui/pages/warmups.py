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
    Column("ip", "MTA IP", "link", "The address that is warmed, and for which destination.", width="18%", main=True),
    Column(
        "state", "State", "state", "held: by hand. holding, back: by its shares. warm: the last step.", width="92px"
    ),
    Column("day", "Day", "text", "Of the schedule; it goes on only after a day on which mail went.", width="72px"),
    Column("used", "Today", "link", "Messages that have left today, the cap, and those of the next days.", width="17%"),
    Column("deferrals", "Deferred", "text", "Of today's attempts.", width="76px"),
    Column("spark", "So far", "spark", "Messages a day, since it began.", width="101px"),
    Column("acts", "", "actions", width="216px"),
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
        for name in ("progress", "day", "time_zone", "started", "then"):  # in the form; the day stands above
            del found[name]
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
        "ip": {"text": one.ip, "href": f"/?ip={one.ip}", "under": f"to {one.destination or 'all'}"},
        "state": one.state,
        "day": f"{one.day} of {one.last_day}",
        "used": {
            "text": _used(one),
            "href": f"/logs?rule=warmups/{one.rule}",
            "under": one.why or _coming(one.to_come),
        },
        "deferrals": f"{one.deferrals:.0f} %" if one.attempts else "",
        "spark": sent if any(sent) else None,
        "acts": [] if one.state == "waiting" else [hold, ("advance", "Advance"), ("reset", "Reset")],
    }


def _used(one: WarmupProgress) -> str:
    used = f"{one.sent:,} of {one.cap:,}" if one.cap else f"{one.sent:,}, no cap"
    return f"{used}, {one.waits:,} wait" if one.waits else used


def _coming(days: list[CurveDay]) -> str:
    caps = ", ".join(f"{day.cap:,}" if day.cap else "no cap" for day in days[:COMING])
    return f"then {caps}" if caps else ""


PAGE = ConsolePage(
    path="/warmups",
    title="Warm-up",
    section="Deliver",
    icon="M10 3v6M10 17a4 4 0 0 0 2-7.500V4a2 2 0 0 0-4 0v5.500a4 4 0 0 0 2 7.500z",
    key="n",
    build=Warmups,
    purpose="How many messages a day leave from new MTA IPs, and how far each is.",
)
