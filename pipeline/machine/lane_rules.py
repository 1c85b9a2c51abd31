"""What is in force on a lane now: its limits, a tag's share of it, and what holds it up. Each question is asked anew.

Owner of nothing: rules, floods, warm-up and the cluster say it, and the configuration where none of them does.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from operators.lanes.lanes import Lane
from operators.lanes.limits import Limits
from operators.lanes.slots import Wait
from operators.lanes.turns import PLAIN, TagShare
from operators.stages.hold import in_force
from pipeline.machine.parts import default_limits
from settings.rules import Throttle

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine


class LaneRules:
    """What the parts of a machine say of its lanes."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._defaults = default_limits(machine.settings)

    def limits(self, lane: Lane) -> Limits:
        """Flood, then rules by specificity, then configuration."""
        machine = self._machine
        names = tuple(lane.domains) if "." in lane.group else (*lane.domains, lane.group)  # a provider's has no dot
        limits = machine.rules.snapshot.limits(lane.ip, names, self._defaults)
        limits = machine.warming.limits(lane.ip, next(iter(lane.domains), ""), lane.group, limits)
        limits = machine.floods.over(lane.name, limits)
        return limits if machine.cluster is None else machine.cluster.share(lane.ip).of(limits, time.time())

    def share(self, lane: str, tag: str) -> TagShare:
        """A tag's share of a lane, by its rule, and by a flood that is in force on it."""
        machine = self._machine
        snapshot = machine.rules.snapshot
        rule = snapshot.share(tag)
        share = PLAIN if rule is None else TagShare(rule.weight, self._part(rule.messages), rule.scope == "all")
        if snapshot.throttles and (throttle := self._tag_throttle(lane, tag)) is not None:
            messages, rate = self._part(throttle.domain_messages or 0), f"throttles/{throttle.id}"
            share = share._replace(messages=messages, everywhere=throttle.scope == "all", rate=rate)
        if (flood := machine.floods.of_tag(lane, tag)) is None:
            return share
        normal = Limits(domain_messages=math.ceil(share.messages) or self._defaults.domain_messages)
        return share._replace(messages=flood.rule.over(normal).domain_messages, paused_until=flood.paused_until)

    def _tag_throttle(self, lane: str, tag: str) -> Throttle | None:
        """The throttle of a tag's mail in a lane."""
        machine = self._machine
        ip, _, group = lane.partition("/")
        found = machine.lanes.get(lane)
        return machine.rules.snapshot.tag_throttle(ip, [*(found.domains if found is not None else ()), group], tag)

    def _part(self, messages: float) -> float:
        """This process's part of a tag's rate."""
        machine = self._machine
        return messages if machine.seat is None else messages / machine.seat.count

    def held_up(self, lane: str) -> Wait | None:
        """Until when a lane is paused as a whole: by a flood, or by the proxy that its mail leaves through."""
        machine = self._machine
        return machine.floods.paused(lane) or machine.egress.paused(lane)

    def blocked(self, queue: str) -> bool:
        """Calling this parked queue in is of no use now: its pause holds, or its look-up is under way."""
        machine = self._machine
        held = in_force(queue, machine.rules.snapshot, time.time()) or machine.pools.blocked(queue)
        return held or machine.warming.blocked(queue) or machine.resolving.waits(queue)
