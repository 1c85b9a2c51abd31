"""The lane drawer: why a lane's mail waits, when it goes, and what can be done about it.

Owner of: which lanes one opened page looks at. While it is open it asks the facade once a tick, and sends the parts
that changed. What the actions do goes through the same rules as the forms and the API.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from nicegui.element import Element

from gui.components.dialog_box import DialogBox, Entry, Errors, Values
from gui.components.filter_bar import address
from gui.components.live_table import shown
from gui.components.mail.answer_table import pattern_of
from gui.components.notes import Notes
from gui.components.parts import SCRIPTS
from gui.components.pausing.running import FOR, until
from gui.components.view import View
from pipeline.views.bulk import Busy
from pipeline.views.explain import AppliedLimit, Brief, Explained
from pipeline.views.queues import Unbrowsable
from pipeline.views.state.standing import WORST, EqualAnswers
from settings.rules import InvalidRule, NoSuchRule, Rule, Throttle
from settings.store import RulesUnavailable

MOST = 200  # lanes in the list
KINDS = {"throttles": "/throttling", "floods": "/floods"}


class LaneDrawer(Element, component=f"../{SCRIPTS}/lane_drawer.js"):
    """Explains lanes.

    Args:
        picked: told the lane that was chosen, "" when the drawer was closed; for the address.
    """

    def __init__(self, view: View, box: DialogBox, notes: Notes, picked: Callable[[str], object]) -> None:
        super().__init__()
        self._facade, self._who, self._box, self._notes, self._picked = view.facade, view.who, box, notes, picked
        self._lanes: Callable[[], Sequence[str]] | None = None
        self._title, self._overview, self._domain, self._chosen = "", "", "", ""
        self._sent: dict[str, Any] = {}
        self._lane: dict[str, Any] = {}
        self.on("pick", lambda event: self.pick(str(event.args)))
        self.on("leave", self.leave)
        self.on("act", lambda event: self._act(str(event.args)))

    def show(
        self, title: str, overview: str, lanes: Callable[[], Sequence[str]], chosen: str = "", domain: str = ""
    ) -> None:
        """Open it on these lanes.

        Args:
            overview: the address of what the title names.
            chosen: the lane to explain; empty: the first.
            domain: that the actions are for; empty: all of the lane's.
        """
        self._title, self._overview, self._lanes, self._domain = title, overview, lanes, domain
        self._chosen = chosen
        self.refresh()

    @property
    def chosen(self) -> str:
        """The lane that is explained, or nothing."""
        return self._chosen if self._lanes else ""

    @property
    def is_open(self) -> bool:
        """Whether it shows anything."""
        return self._lanes is not None

    def pick(self, lane: str) -> None:
        """Explain this lane."""
        self._chosen = lane
        self._picked(lane)
        self.refresh()

    def leave(self) -> None:
        """Close it."""
        self._lanes, self._chosen = None, ""
        self._send({"open": False}, None)
        self._picked("")

    def refresh(self) -> None:
        """Send what has changed; for every tick."""
        if self._lanes is None:
            return
        briefs = sorted(map(self._facade.explainer.brief, self._lanes()), key=_urgency)
        if not self._chosen and briefs:
            self._chosen = briefs[0].lane
        explained = self._facade.explainer.explain(self._chosen) if self._chosen else None
        state = {
            "open": True,
            "title": shown(self._title, 255),
            "overview": self._overview,
            "lanes": [_clean(msgspec.to_builtins(brief)) for brief in briefs[:MOST]],
            "chosen": self._chosen if explained else "",
            "actions": _actions(explained) if explained else [],
            "limitsLink": self._limits_link(explained) if explained else "",
            "links": self._links(explained) if explained else [],
        }
        self._send(state, _explanation(explained) if explained else None)

    def _send(self, state: dict[str, Any], lane: dict[str, Any] | None) -> None:
        patch = {name: value for name, value in state.items() if self._sent.get(name, self) != value}
        if lane is None:
            if self._lane:
                patch["lane"] = None
        elif news := {name: value for name, value in lane.items() if self._lane.get(name, self) != value}:
            patch["lane"] = news
        self._sent, self._lane = {**self._sent, **state}, lane or {}
        if patch:
            self.run_method("patch", patch)

    def _links(self, explained: Explained) -> list[list[str]]:
        """To the log, the dialogue and the queued mail of this lane."""
        domain, ip = self._domain or next(iter(explained.domains), ""), explained.ip if explained.ip != "?" else ""
        pages = {"Log": ("/logs", {"domain": domain, "ip": ip}), "Queue": ("/queue", {"domain": domain, "ip": ip})}
        pages["SMTP monitor"] = ("/smtp", {"domain": domain, "mta_ip": ip})
        return [[label, address(path, values)] for label, (path, values) in pages.items()]

    def _limits_link(self, explained: Explained) -> str:
        """Of a domain: its limits from all MTA IPs; of a lane: those of its own MTA IP."""
        if self._domain:
            return address("/throttling", {"domain": self._domain})
        domain = next(iter(explained.domains), explained.group)
        return address("/throttling", {"ip": explained.ip, "domain": domain})

    # -- actions --------------------------------------------------------------------------------------------------

    async def _act(self, action: str) -> None:
        explained = self._facade.explainer.explain(self._chosen)
        act = {
            "pause": self._pause, "redirect": self._redirect, "retry": self._retry, "resume": self._resume,
            "end-flood": self._end_flood,
        }.get(action)  # fmt: skip
        if explained is None or act is None:
            return
        try:
            await act(explained)
        except (RulesUnavailable, NoSuchRule, InvalidRule, Unbrowsable, Busy) as error:
            self._notes.say(str(error), level="bad")
        self.refresh()

    def _target(self, explained: Explained) -> str:
        return self._domain or next(iter(explained.domains), explained.group)

    async def _pause(self, explained: Explained) -> None:
        domain = self._target(explained)
        entries = (
            Entry("ip", "From", options=((explained.ip, explained.ip), ("", "all MTA IPs"))),
            Entry("minutes", "For", options=FOR),
        )

        async def save(values: Values) -> Errors:
            rule = {"ip": values["ip"] or None, "domain": domain, "until": until(values["minutes"])}
            return await self._create("pauses", rule, f"Mail to {domain} is paused.")

        lines = [f"Mail to {domain} is parked, and called back in order when it is resumed."]
        start = {"ip": explained.ip, "minutes": "60"}
        await self._box.fill(f"Pause {domain}?", entries, start, "Pause", save, lines=lines)

    async def _redirect(self, explained: Explained) -> None:
        """Of one domain, or of all whose mail is in the lane: those of one provider have the same servers."""
        domains = [self._domain] if self._domain else explained.domains or [explained.group]
        what = domains[0] if len(domains) == 1 else f"{len(domains)} domains of {explained.group}"
        same = [
            ip.ip
            for ip in self._facade.ips.known()
            if (":" in ip.ip) == (":" in explained.ip) and ip.ip != explained.ip
        ]
        entries = (
            Entry("to_ip", "To MTA IP", options=tuple((ip, ip) for ip in same)),
            Entry("minutes", "For", options=FOR),
        )

        async def save(values: Values) -> Errors:
            common = {"from_ip": explained.ip, "to_ip": values["to_ip"], "until": until(values["minutes"])}
            rules = [{**common, "domain": domain} for domain in domains]
            return await self._create_all("redirects", rules, f"Mail to {what} leaves from {values['to_ip']} now.")

        start = {"to_ip": same[0] if same else "", "minutes": "60"}
        lines = [f"Mail to {what} that would leave from {explained.ip} leaves from another MTA IP."]
        if len(domains) > 1:
            lines.append(shown(", ".join(domains[:20]), 300))
        await self._box.fill(f"Redirect {what}?", entries, start, "Redirect", save, lines=lines)

    async def _create(self, kind: str, values: Mapping[str, Any], text: str) -> Errors:
        return await self._create_all(kind, [values], text)

    async def _create_all(self, kind: str, values: Sequence[Mapping[str, Any]], text: str) -> Errors:
        """All of these rules, with one way back."""
        store, made = self._facade.store, list[Rule]()
        try:
            for one in values:
                made.append(await store.create(kind, one, self._who))
        except InvalidRule as error:
            for rule in made:
                await store.delete(kind, rule.id, self._who)
            return {"": str(error)}

        async def undo() -> None:
            for rule in made:
                await store.delete(kind, rule.id, self._who)
            self._notes.say("Undone.")

        self._notes.say(text, undo)
        return {}

    async def _resume(self, explained: Explained) -> None:
        pauses = [obstacle.rule for obstacle in explained.waits_for if obstacle.kind == "pause" and obstacle.rule]
        rules = [self._facade.store.get("pauses", id) for id in pauses]
        for rule in rules:
            await self._facade.rules.resume(rule.id, self._who)

        async def undo() -> None:
            for rule in rules:
                await self._facade.rules.pause(rule.shown(), self._who)
            self._notes.say("Paused again.")

        self._notes.say(f"{explained.lane} is resumed.", undo)

    async def _end_flood(self, explained: Explained) -> None:
        if self._facade.floods.end(explained.lane, self._who):
            self._notes.say(f"The flood on {explained.lane} is ended; its usual limits hold.")

    async def _retry(self, explained: Explained) -> None:
        job = await self._facade.bulk.finished(self._facade.queue.retry_lane(explained.lane, self._who))
        if job.error:
            self._notes.say(job.error, level="bad")
        else:
            self._notes.say(f"{job.changed:,} waiting messages go now; skipped hosts are tried again.")


def _urgency(brief: Brief) -> tuple[int, int, str]:
    """The worst state first, in it the most mail."""
    return WORST.index(brief.state), -brief.in_memory - brief.parked - brief.retrying, brief.lane


def overview(dimension: str, key: str) -> str:
    """The Overview of a key."""
    return f"/?{dimension}={quote(key, safe='')}"


def _actions(explained: Explained) -> list[list[str]]:
    actions = [["retry", "Retry now"]]
    if any(obstacle.kind == "pause" for obstacle in explained.waits_for):
        actions.append(["resume", "Resume"])
    if explained.flood is not None:
        actions.append(["end-flood", "End the flood"])
    if explained.ip != "?":
        actions += [["pause", "Pause…"], ["redirect", "Redirect…"]]
    return actions


def _explanation(explained: Explained) -> dict[str, Any]:
    told: dict[str, Any] = _clean(msgspec.to_builtins(explained))
    told["limits"] = [_limit(limit) for limit in explained.limits]
    told["reasons"] = [{**_clean(msgspec.to_builtins(one)), "flood": _flood(one)} for one in explained.reasons]
    return told


def _flood(one: EqualAnswers) -> str:
    return pattern_of(one.code, one.text) if one.code.isdecimal() else ""


def _limit(limit: AppliedLimit) -> dict[str, Any]:
    field = Throttle.model_fields[limit.field]
    extra = field.json_schema_extra
    more = extra if isinstance(extra, dict) else {}
    group, unit = str(more.get("group", "")), str(more.get("unit", ""))
    number = isinstance(limit.value, int | float)
    endless = limit.value == 0 and limit.field != "connection_idle"
    value = "no limit" if endless else f"{limit.value:,g} {unit}" if number else str(limit.value)
    source = limit.source
    link = f"{KINDS[source.kind]}?rule={source.id}" if source.kind in KINDS else ""
    called = f"{source.called!r}, {source.name}" if source.called else f"rule {source.name}"
    names = {"throttles": called, "floods": f"flood pattern {source.name}", "configuration": source.name}
    return {
        "field": limit.field,
        "label": f"{group}: {(field.title or '').lower()}" if group != "Memory" else "Memory: deliveries",
        "help": field.description or "",
        "value": limit.value,
        "shown": value,
        "endless": endless,
        "origin": shown(names.get(source.kind, source.name), 100),
        "link": link,
    }


def _clean(value: Any) -> Any:
    """Texts from outside, as they can be shown."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, list):
        return [_clean(part) for part in value]
    if isinstance(value, dict):
        return {name: _clean(part) for name, part in value.items()}
    return value
