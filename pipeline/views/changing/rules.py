"""The rules, as they are shown, with their live figures, and what operators do with them at one touch. Owns nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from operators.stages.hold import parked_queue
from pipeline.signing.keys import KeyState
from pipeline.views import catalogue
from pipeline.views.alerting.alerts import Alerting
from pipeline.views.bulk import Selection
from pipeline.views.catalogue import CatalogueEntry
from pipeline.views.explain import Explainer
from pipeline.views.scoped import ScopedFigures, waits_for
from pipeline.views.tally import Tally
from pipeline.views.warming import WarmupsView
from settings.rules import DkimKey, FieldError, Flood, InvalidRule, Pause, Pool, Redirect, Rule
from settings.rules.acting import Response
from settings.rules.alerting import AlertRule
from settings.rules.decisions import SELECTION
from settings.rules.models import NAMES
from settings.rules.tenants import TagRule
from settings.rules.warming import Warmup
from settings.store import Who

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine


class RulesView:
    """Over a running machine."""

    def __init__(
        self,
        machine: Machine,
        explainer: Explainer,
        scoped: ScopedFigures,
        tally: Tally,
        warmups: WarmupsView,
        alerts: Alerting,
    ) -> None:
        self._machine, self._explainer, self._scoped, self._tally = machine, explainer, scoped, tally
        self._warmups, self._alerts = warmups, alerts

    def all(self, kind: str) -> list[dict[str, Any]]:
        """All rules of a kind, whole, with their live figures. Raises `NoSuchRule`."""
        return [self.shown(rule) for rule in self._machine.rules.list(kind)]

    def shown(self, rule: Rule) -> dict[str, Any]:
        """A rule whole, with its live figures."""
        return {**rule.shown(), **self._live(rule)}

    def _live(self, rule: Rule) -> dict[str, Any]:
        match rule:
            case Pause():
                return {"held": self.held(rule)}
            case Redirect():
                return {"redirected": self._tally.redirected(rule.id)}
            case Flood():
                lanes = [a.lane for a in self._machine.floods.all() if a.rule.id == rule.id]
                reduced = [self._explainer.flood(lane) for lane in lanes]
                return {"hits": self._machine.floods.hits(rule.id), "reduced_lanes": reduced}
            case DkimKey():
                return {"dns": self.dns_state(rule.id)}
            case Pool():
                return {"figures": self._scoped.members(rule), "moved": []}
            case TagRule():
                figures = self._machine.telemetry.snapshot("tag", rule.name)
                names = ("processed", "delivered", "errors", "in_memory", "parked")
                return {"figures": {name: figures[name] for name in names}}
            case Warmup():
                return {"progress": self._warmups.of(rule)}
            case AlertRule():
                return {"on": self._alerts.of(rule)}
            case Response():
                dry = self._machine.effects.dry[rule.id]
                return {"used": self._tally.of("responses", rule.id), "would": dry}
        return self._tally.live(NAMES[type(rule)], rule)

    def held(self, pause: Pause) -> int:
        """How many messages a pause holds."""
        parked = self._machine.queue.parked()
        found = parked.get(parked_queue(pause), 0)
        if not self._machine.rules.snapshot.pools:
            return found
        return found + sum(count for queue, count in parked.items() if waits_for(queue, pause.id))

    @staticmethod
    def held_by(pause: Pause) -> Selection:
        """The messages that a pause holds."""
        return Selection(lane=parked_queue(pause))

    def dns_state(self, key: int) -> KeyState | None:
        """What DNS says of a DKIM key, as it was asked last; None where it was not."""
        return self._machine.signing.state(key)

    async def ask_dns(self, key: int) -> None:
        """Ask DNS of a DKIM key now."""
        await self._machine.signing.check(key)

    async def pause(self, values: Mapping[str, Any], who: Who, reason: str = "manual") -> Rule:
        """Hold mail; raises as `RuleStore.create`."""
        return await self._machine.rules.create("pauses", values, who, reason)

    async def resume(self, id: int, who: Who) -> Rule:
        """End a pause; what it held is called back in. Raises as `RuleStore.delete`."""
        return await self._machine.rules.delete("pauses", id, who)

    async def stop(self, values: Mapping[str, Any], who: Who) -> Rule:
        """End mail with an answer of ours, also what waits: what is selected may name tag, ip, domain or a lane.

        Raises as `RuleStore.create`; a lane is its MTA IP and destination group.
        """
        given = dict(values)
        if lane := given.pop("lane", None):
            ip, _, group = str(lane).partition("/")
            given = {"ip": "" if ip == "?" else ip, "domain": group, **given}
        if not any(given.get(name) for name in (*SELECTION, "all")):
            allowed = f'names no mail; needed is one of lane, {", ".join(SELECTION)}, or "all": true'
            raise InvalidRule([FieldError("tag", allowed)])
        return await self._machine.rules.create("errors", given, who)

    def tag_state(self, tag: str) -> str:
        """Whether a tag's mail runs, is paused as a whole, or is stopped."""
        now, snapshot = time.time(), self._machine.rules.snapshot
        stopped: Iterable[Any] = snapshot.rules("errors")
        if any(rule.tag == tag and not rule.ended(now) for rule in stopped if _whole_tag(rule)):
            return "stopped"
        paused = any(rule.tag == tag and not rule.ended(now) for rule in snapshot.pauses if _whole_tag(rule))
        return "paused" if paused else "running"

    def catalogue(self) -> list[CatalogueEntry]:
        """The shipped rules, and which of them are adopted."""
        return catalogue.entries(self._machine.rules.snapshot)

    async def adopt(self, who: Who, provider: str = "", number: int | None = None) -> list[Rule]:
        """Make ordinary rules of shipped ones: all of a provider, or one. Raises as `RuleStore.create`."""
        return await catalogue.adopt(self._machine.rules, who, provider, number)


def _whole_tag(rule: Any) -> bool:
    """Whether a rule is for all of its tag's mail."""
    return rule.tag is not None and not any(getattr(rule, name, None) for name in ("ip", "pool", "domain", "remote_ip"))
