"""The MTA IPs, as they are shown: their names, figures, lanes, and how each stands. Owns nothing."""

from __future__ import annotations

import collections
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from operators.deliveries.delivery import lane_ip
from pipeline.telemetry.backlog import Backlog, Standing
from pipeline.views.cluster import ClusterView
from pipeline.views.explain import Explainer
from pipeline.views.state.lanes import NONE, LanesView
from pipeline.views.state.standing import condition, sentence

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine


class MtaIp(msgspec.Struct, frozen=True, kw_only=True):
    """An MTA IP: its names, its figures of the last 60 s, its lanes. `mine`: this machine has it, not only
    a rule. `pool`: the one that it is in."""

    ip: str
    name: str | None
    ehlo: str
    host_name: str
    mine: bool
    default: bool
    pool: str | None
    figures: dict[str, int]
    lanes: list[str]
    state: str = "running"
    retrying: int = 0
    next_retry: float | None = None
    says: str = ""
    attempting: int = 0
    active: int = 0


class MtaIpsView:
    """Over a running machine."""

    def __init__(
        self, machine: Machine, explainer: Explainer, backlog: Backlog, lanes: LanesView, cluster: ClusterView
    ) -> None:
        self._machine, self._explainer, self._backlog = machine, explainer, backlog
        self._lanes, self._cluster = lanes, cluster

    @property
    def own(self) -> list[str]:
        """The addresses of this machine that mail may leave from."""
        return list(self._machine.ips.all)

    def is_ours(self, ip: str) -> bool:
        """Whether this machine has this address."""
        return self._machine.ips.is_ours(ip)

    def known(self) -> list[MtaIp]:
        """Every address of this machine, and those that rules name."""
        machine, snapshot = self._machine, self._machine.rules.snapshot
        named = [rule.ip for rule in snapshot.mta_names] + [m.ip for pool in snapshot.pools for m in pool.members]
        all_ips = list(dict.fromkeys((*machine.ips.all, *named, *machine.telemetry.keys("ip"))))
        figures = machine.telemetry.snapshots("ip", all_ips)
        lanes: dict[str, list[str]] = collections.defaultdict(list)
        for name in self._explainer.names():
            lanes[lane_ip(name)].append(name)
        standings, connections = self._backlog.by("ip"), self._lanes.connections()
        return [
            MtaIp(
                ip=ip,
                name=snapshot.mta_name(ip),
                ehlo=snapshot.ehlo_name(ip) or machine.names.ehlo(ip),
                host_name=machine.names.ehlo(ip),
                mine=machine.ips.is_ours(ip),
                default=ip in machine.ips.default,
                pool=snapshot.pool_of(ip) or None,
                figures=_without(figures[ip], ("attempting", "active", "idle", "waiting")),
                lanes=lanes[ip],
                **self._stands(ip, standings.get(ip) or Standing()),
                attempting=connections.get(ip, NONE)[0],
                active=connections.get(ip, NONE)[1],
            )
            for ip in all_ips
        ]

    def everywhere(self) -> list[MtaIp]:
        """As `known`, with what the other instances say of theirs."""
        others, own = self._cluster.by("ip"), self.known()
        known = [_with_others(ip, others[ip.ip]) if ip.ip in others else ip for ip in own]
        foreign = [ip for ip in others if all(ip != one.ip for one in own)]
        none = dict.fromkeys(own[0].figures, 0) if own else {}
        return known + [
            MtaIp(
                ip=ip,
                name=self._machine.rules.snapshot.mta_name(ip),
                ehlo="",
                host_name="",
                mine=False,
                default=False,
                pool=self._machine.rules.snapshot.pool_of(ip),
                figures={name: others[ip][name] for name in none},
                lanes=[],
            )
            for ip in foreign
        ]

    def _stands(self, ip: str, standing: Standing) -> dict[str, Any]:
        """State, retrying, next retry and sentence of an MTA IP."""
        held = self._machine.rules.snapshot.pauses_for(ip, "", "", (), time.time())
        return {
            "state": "paused" if held else condition(standing) or "running",
            "retrying": standing.retrying,
            "next_retry": standing.next_retry,
            "says": sentence(standing),
        }

    def sending(self, domain: str | None) -> list[str]:
        """The MTA IPs that mail of a domain, or any, leaves from: the default ones, and those that have sent some."""
        sent = (ip for ip in self._backlog.by("ip", domain=domain) if self.is_ours(ip))
        return list(dict.fromkeys((*self._machine.ips.default, *sent)))


def _with_others(ip: MtaIp, more: Mapping[str, int]) -> MtaIp:
    return msgspec.structs.replace(ip, figures={name: count + more.get(name, 0) for name, count in ip.figures.items()})


def _without(figures: Mapping[str, int], names: Iterable[str]) -> dict[str, int]:
    return {name: value for name, value in figures.items() if name not in names}
