"""What a machine says of itself to the other instances of its cluster. No state."""

from __future__ import annotations

import functools
import importlib.metadata
import ipaddress
import os
import time
from typing import TYPE_CHECKING

from yarl import URL

from operators.mail.message import Message
from pipeline.cluster.words import MOST_IPS, MOST_KEYS, Announcement
from settings import Settings
from settings.rules import Snapshot

if TYPE_CHECKING:
    from pipeline.machine.machine import Machine

LEFT_OUT = frozenset(("attempting", "active", "idle", "waiting"))  # known of the whole machine only


def announcement(machine: Machine, token: str) -> Announcement:
    """Its addresses, its queue and its figures, as they are now."""
    settings, telemetry = machine.settings, machine.telemetry
    states = machine.health.states()
    ips = list(machine.ips.default)[:MOST_IPS]
    domains = telemetry.keys("domain")[:MOST_KEYS]
    return Announcement(
        id=settings.server_id,
        token=token,
        url=console_url(settings, machine.ips.all),
        version=_version(),
        ips=ips,
        outbox=_outbox(settings),
        workers=max(1, len(machine.workers())),
        load=_load(),
        state=states[0].word if states else "Running",
        level=states[0].level if states else "good",
        clock=round(time.time(), 2),
        figures=telemetry.snapshot(),
        by_ip=_used(telemetry.snapshots("ip", ips[:MOST_KEYS])),
        by_domain=_used(telemetry.snapshots("domain", domains)),
    )


def _used(of: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """What is not 0 of each."""
    return {
        key: {name: count for name, count in its.items() if count and name not in LEFT_OUT} for key, its in of.items()
    }


def elsewhere_ips(message: Message, ours: tuple[str, ...], snapshot: Snapshot) -> list[str]:
    """The MTA IPs that a message asks for, where none of them is one of those that this instance sends from."""
    ips = message.ips if message.ips is not None else list(snapshot.pool(message.pool or "") or ())
    return [] if any(ip in ours for ip in ips) else ips


def console_url(settings: Settings, ips: tuple[str, ...]) -> str:
    """Where people find the console: `www-url`, or an address of this machine; empty where it is off."""
    if settings.www_url:
        return settings.www_url.rstrip("/")[:200]
    secure = settings.www_secure_port
    port = secure or settings.www_port
    if not port:
        return ""
    host = settings.www_ip
    if host in ("0.0.0.0", "::"):  # noqa: S104
        outward = [ip for ip in ips if not ipaddress.ip_address(ip).is_loopback]
        host = next(iter(outward), "127.0.0.1")
    return f"{'https' if secure else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _outbox(settings: Settings) -> str:
    """The queue that others may put messages into: it must be on the broker that all of them meet on."""
    own, met = settings.rabbitmq_address, settings.cluster_broker
    if own is None or met is None:
        return ""
    places = [{_place(one) for one in address.get_secret_value().split(",")} for address in (own, met)]
    return settings.rabbitmq_outbox if places[0] & places[1] else ""


def _place(address: str) -> tuple[str | None, int | None, str]:
    url = URL(address.strip())
    return url.host, url.port, url.path.strip("/")


def _load() -> float:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return 0.0


@functools.cache
def _version() -> str:
    try:
        return importlib.metadata.version("mailrace")
    except importlib.metadata.PackageNotFoundError:
        return ""
