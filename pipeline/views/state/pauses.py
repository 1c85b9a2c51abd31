"""The pauses in force: what each is for, why and for how long, and what they mean for what somebody looks at."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from settings.rules import Pause

MANUAL = "manual"  # the reason of a pause whose maker gave none


class HeldMail(msgspec.Struct, frozen=True):
    """What pauses do to the mail that is looked at.

    Attributes:
        whole: why all of it is held, and for how long; empty where it is not.
        held: messages that wait because of pauses.
        parts: pauses that hold a part of it.
    """

    whole: str = ""
    held: int = 0
    parts: int = 0


def named(pause: Pause) -> str:
    """What a pause is for."""
    tag = f", tag {pause.tag}" if pause.tag else ""
    target = pause.domain or pause.remote_ip or "everywhere"
    source = pause.ip or (f"pool {pause.pool}" if pause.pool else None)
    if source is None and target == "everywhere":
        return f"all mail{tag}"
    return f"{source or 'all MTA IPs'} to {target}{tag}"


def why(pause: Pause, now: float) -> str:
    """Its reason, and how long it lasts."""
    reason = "" if pause.reason in (None, MANUAL) else f" ({pause.reason})"
    return f"paused{reason}, {lasting(pause, now)}"


def lasting(pause: Pause, now: float) -> str:
    """For how long it lasts, in words."""
    if pause.until is None:
        return "until somebody resumes it"
    return f"for another {span(pause.until.timestamp() - now)}"


def span(seconds: float) -> str:
    """A span of time, in the largest unit that says enough."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def is_large(pause: Pause) -> bool:
    """Whether it holds all mail, or all of an MTA IP."""
    return pause.domain is None and pause.remote_ip is None and pause.tag is None


def describes(pause: Pause, selected: Mapping[str, Any]) -> str:
    """Whether a pause is for the `same` mail as is selected, for `wider` (more), `part` of it at most, or `none`."""
    given = {"ip": pause.ip, "pool": pause.pool, "domain": pause.domain, "remote_ip": pause.remote_ip, "tag": pause.tag}
    scope = {name: value for name, value in given.items() if value is not None}
    if scope == selected:
        return "same"
    if scope.items() <= selected.items():
        return "wider"
    common = scope.keys() & selected.keys()
    return "part" if all(scope[name] == selected[name] for name in common) else "none"


def chosen(pauses: Sequence[Pause], selected: Mapping[str, Any], *how: str) -> list[Pause]:
    """The pauses in force that are so for what is selected, see `describes`."""
    now = time.time()
    return [pause for pause in pauses if not pause.ended(now) and describes(pause, selected) in how]


def held_mail(pauses: Sequence[Pause], selected: Mapping[str, Any], held: Callable[[Pause], int]) -> HeldMail:
    """What the pauses in force do to what is selected. `held`: how many messages one holds."""
    if whole := chosen(pauses, selected, "same", "wider"):
        return HeldMail(why(whole[0], time.time()), sum(map(held, whole)))
    parts = chosen(pauses, selected, "part")
    return HeldMail("", sum(map(held, parts)), len(parts))
