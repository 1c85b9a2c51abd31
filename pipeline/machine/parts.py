"""Parts: from the configuration to the parts of the machine, opened but not started. No state."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from operators.deliveries.events import Event
from operators.deliveries.relay import Relay
from operators.lanes.limits import Limits
from operators.mail.message import Dsn, Smarthost
from pipeline.dns.resolver import Resolver
from pipeline.log.writing.delivery_log import DeliveryLog
from pipeline.log.writing.text_logs import RECEIVED, SENT, Spawn, TextLog, TextLogs
from pipeline.process import descent
from settings import Settings
from settings.store import RuleStore


def open_log(settings: Settings, report: Callable[[Event], None]) -> DeliveryLog:
    """The delivery log that the configuration asks for; not started yet. Raises `StartError` without its `user`."""
    return DeliveryLog(
        settings.send_log,
        settings.received_log,
        maxsize=settings.send_log_maxsize,
        history=settings.send_log_history,
        instance=settings.server_id,
        report=report,
        account=descent(settings.user),
    )


def open_texts(settings: Settings, report: Callable[[Event], None], spawn: Spawn) -> TextLogs:
    """The logs as text that the configuration asks for; not started yet."""

    def log(key: str, path: Path | None, template: str) -> TextLog | None:
        return None if path is None else TextLog(key, path, template, report, time.time, spawn)

    return TextLogs(
        log("send-log-file", settings.send_log_file, settings.send_log_format or SENT),
        log("received-log-file", settings.received_log_file, settings.received_log_format or RECEIVED),
    )


def open_resolver(
    settings: Settings, overrides: Callable[[str], Sequence[str] | None], ours: Callable[[str, int], bool], ipv6: bool
) -> Resolver:
    """The resolver that the configuration asks for."""
    return Resolver(
        dns_server=settings.dns_server,
        dns_timeout=settings.dns_timeout,
        dns_attempts=settings.dns_attempts,
        dns_min_ttl=settings.dns_min_ttl,
        delivery_port=settings.delivery_port,
        delivery_sink=settings.sink,
        overrides=overrides,
        ours=ours,
        ipv6=ipv6,
    )


def wishes_of(settings: Settings) -> Dsn | None:
    """What senders are told whose messages do not say it."""
    if settings.dsn_notify is None and settings.dsn_ret is None:
        return None
    return Dsn(settings.dsn_notify, settings.dsn_ret)


def relay_of(settings: Settings) -> Relay:
    """What takes messages in place of their receivers."""
    host, sink = settings.smarthost, settings.sink
    return Relay(
        smarthost=None if host is None else _server(host, settings.smarthost_port, settings, "smarthost"),
        sink=None if sink is None else _server(*sink, settings, "smtp_sink"),
    )


def _server(host: str, port: int, settings: Settings, keys: str) -> Smarthost:
    password = getattr(settings, f"{keys}_password")
    secret = None if password is None else password.get_secret_value()
    return Smarthost(host, port, getattr(settings, f"{keys}_username"), secret)


def open_rules(settings: Settings, report: Callable[[str, str], None], home: Path | None = None) -> RuleStore:
    """The rule store that the configuration asks for; not started yet. `home`: where `rules.key` is."""
    return RuleStore(
        settings.database_address.get_secret_value(),
        home or settings.data_dir,
        settings.database_ttl,
        report=report,
        instance=settings.server_id,
    )


def default_limits(settings: Settings) -> Limits:
    """The limits that the configuration gives, where no rule says otherwise."""
    return Limits(
        domain_messages=settings.domain_maxmessages,
        domain_connects=settings.domain_maxconnects,
        domain_connections=settings.domain_maxconnections,
        ip_messages=settings.ip_maxmessages,
        ip_connects=settings.ip_maxconnects,
        ip_connections=settings.ip_maxconnections,
        connection_messages=settings.connection_maxmessages,
        connection_idle=settings.connection_maxidle,
        connection_security=settings.connection_secure,
        queue=settings.domain_maxqueue,
    )
