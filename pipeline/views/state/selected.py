"""What is selected on a page (MTA IP or pool, domain, tag): how it is answered, and what goes wrong. Owns nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from pipeline.telemetry.backlog import SPAN, Backlog, Standing
from pipeline.telemetry.telemetry import Dimension, DomainErrors
from pipeline.views.state.destinations import last_errors
from pipeline.views.state.mta_ips import MtaIpsView

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine


class SelectedView:
    """Over a running machine."""

    def __init__(self, machine: Machine, backlog: Backlog, ips: MtaIpsView) -> None:
        self._machine, self._backlog, self._ips = machine, backlog, ips

    def standing(self, selected: Mapping[str, str]) -> Standing:
        """How what is selected (ip, domain, tag) is answered, and what of it waits for a retry."""
        return self._backlog.standing(self._ips_wanted(selected), selected.get("domain"), selected.get("tag"))

    def ips_of(self, selected: Mapping[str, str]) -> list[str]:
        """The MTA IPs that are selected, by themselves or as members of a pool; none: all."""
        if "pool" in selected:
            return list(self._machine.rules.snapshot.pool(selected["pool"]))
        return [selected["ip"]] if "ip" in selected else []

    def _ips_wanted(self, selected: Mapping[str, str]) -> frozenset[str] | None:
        return frozenset(self.ips_of(selected)) if selected.keys() & {"ip", "pool"} else None

    def troubles(self, selected: Mapping[str, str], most: int) -> list[DomainErrors]:
        """The destinations with the most errors in the last 5 minutes, of what is selected."""
        if not selected:
            return self._machine.telemetry.top_errors(most)
        last = last_errors(self._machine.telemetry)
        standings = self._backlog.by("domain", self._ips_wanted(selected), selected.get("domain"), selected.get("tag"))
        found = [
            DomainErrors(
                domain=domain,
                errors=standing.deferred + standing.bounced,
                attempts=standing.ended,
                delivered=standing.accepted,
                last=last[domain],
            )
            for domain, standing in standings.items()
            if standing.deferred + standing.bounced and domain in last
        ]
        return sorted(found, key=lambda trouble: (-trouble.errors, trouble.domain))[:most]

    def sent_a_minute(self, ip: str | None, domain: str | None) -> int:
        """Attempts in the last minute, from an MTA IP or all, to a domain or all."""
        if ip is not None and domain is not None:
            return round(self._backlog.standing(ip, domain).ended / SPAN)
        dimension: Dimension | None = "ip" if ip else "domain" if domain else None
        return self._machine.telemetry.snapshot(dimension, ip or domain)["attempts"]

    def knows(self, selected: Mapping[str, str]) -> bool:
        """Whether anything of each that is selected has been seen, or stands in a rule."""
        telemetry, snapshot = self._machine.telemetry, self._machine.rules.snapshot
        for name, value in selected.items():
            rules = (*snapshot.throttles, *snapshot.pauses)
            if name == "pool":
                known = any(pool.name == value for pool in snapshot.pools)
            else:
                known = value in telemetry.keys(cast(Dimension, name))
                known = known or (name == "ip" and value in {ip.ip for ip in self._ips.known()})
                known = known or any(getattr(rule, name, None) == value for rule in rules)
            if not known:
                return False
        return True
