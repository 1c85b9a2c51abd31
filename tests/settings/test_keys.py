"""Every key: what its text becomes."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

import settings
from settings.config.egress import ExternalMta
from settings.config.keys import FIELDS
from settings.config.values import GroupRole, HostPort, Place

VALUES: list[tuple[str, str, Any]] = [
    ("data-dir", "/srv/mail", Path("/srv/mail")),
    ("server-id", "mta-1", "mta-1"),
    ("user", "mail", "mail"),
    ("lock", "/run/mailrace.lock", Path("/run/mailrace.lock")),
    ("shutdown-timeout", "1m", 60.0),
    ("workers", "3", 3),
    ("operators", "shop.rules:skip@hold,shop.rules:mark@sign", ["shop.rules:skip@hold", "shop.rules:mark@sign"]),
    ("www-port", "0", 0),
    ("www-ip", "::1", "::1"),
    ("www-password", "a # b: c", "a # b: c"),
    ("www-dir", "/srv/www", Path("/srv/www")),
    ("www-secure-port", "8443", 8443),
    ("www-certificate", "/c.pem", Path("/c.pem")),
    ("www-privatekey", "/k.pem", Path("/k.pem")),
    ("www-ciphers", "ECDHE+AESGCM", "ECDHE+AESGCM"),
    ("www-url", "https://mta.example.org:8443/", "https://mta.example.org:8443/"),
    ("www-trusted-proxies", "192.0.2.1/24", [ipaddress.ip_network("192.0.2.0/24")]),
    ("www-auth", "hardcoded://u:p", "hardcoded://u:p"),
    ("www-role", "read", "read"),
    ("www-user-header", "X-Remote-User", "X-Remote-User"),
    ("www-openid", "https://id.example.org/", "https://id.example.org/"),
    ("www-openid-client", "mailrace", "mailrace"),
    ("www-openid-secret", "s:/?#", "s:/?#"),
    (
        "www-openid-roles",
        "mail-admins=administer;mail-team=operate",
        [GroupRole("mail-admins", "administer"), GroupRole("mail-team", "operate")],
    ),
    ("www-openid-groups", "realm_access.roles", "realm_access.roles"),
    ("www-openid-user", "email", "email"),
    ("www-openid-scopes", "openid groups", "openid groups"),
    ("api-token", "0123456789abcdef", "0123456789abcdef"),
    ("rabbitmq-address", "amqp://u:p@a/v,amqps://u:p@b/v", "amqp://u:p@a/v,amqps://u:p@b/v"),
    ("rabbitmq-outbox", "out", "out"),
    ("rabbitmq-inbox", "in", "in"),
    ("rabbitmq-local", "local", "local"),
    ("rabbitmq-reports", "reports", "reports"),
    ("rabbitmq-refused", "refused", "refused"),
    ("rabbitmq-dsn", "dsn", "dsn"),
    ("rabbitmq-results", "", None),
    ("rabbitmq-success", "won", "won"),
    ("rabbitmq-failure", "lost", "lost"),
    ("rabbitmq-retry", "", None),
    ("results-format", "previous", "previous"),
    ("rabbitmq-exchange", "mail", "mail"),
    ("rabbitmq-durable", "no", False),
    ("rabbitmq-persistent", "False", False),
    ("rabbitmq-declare", "0", False),
    ("rabbitmq-verify", "off", False),
    ("rabbitmq-queue-type", "quorum", "quorum"),
    ("rabbitmq-maxpriority", "5", 5),
    ("rabbitmq-encoding", "gzip", "gzip"),
    ("rabbitmq-management", "http://u:p@broker:15672", "http://u:p@broker:15672"),
    ("rabbitmq-qos", "5000", 5000),
    ("database-address", "postgresql://u:p@h/db", "postgresql://u:p@h/db"),
    ("database-ttl", "10m", 600.0),
    ("smtp-ip", "0.0.0.0", "0.0.0.0"),
    ("smtp-port", "25,2525,1024-1026", [25, 2525, 1024, 1025, 1026]),
    ("smtp-secure-port", "465", [465]),
    ("smtp-username", "relay", "relay"),
    ("smtp-password", "s3cret", "s3cret"),
    ("smtp-auth", "hardcoded://a:b,c:d", "hardcoded://a:b,c:d"),
    ("smtp-range", "10.0.0.0/8; ::1/128", [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128")]),
    ("smtp-proxy", "192.168.0.0/16", [ipaddress.ip_network("192.168.0.0/16")]),
    ("smtp-certificate", "/c.pem", Path("/c.pem")),
    ("smtp-privatekey", "/k.pem", Path("/k.pem")),
    ("smtp-ciphers", "HIGH:!aNULL", "HIGH:!aNULL"),
    ("smtp-maxsize", "25MB", 25_000_000),
    ("smtp-connections", "50", 50),
    ("smtp-client-connections", "50", 50),
    ("smtp-timeout", "90", 90.0),
    ("long-lines", "refuse", "refuse"),
    ("smtp-extract", "false", False),
    ("mail-domain", "example.com", "example.com"),
    ("spool-directory", "/spool", Path("/spool")),
    ("spool-extract", "0", False),
    ("spool-delay", "2.5", 2.5),
    ("spool-remove", "true", True),
    ("spool-fail-directory", "/bad", Path("/bad")),
    ("validate-envelope", "loose", "loose"),
    ("validate-recipient", "loose", "loose"),
    ("storage-address", "directory:///srv/mail?depth=3", "directory:///srv/mail?depth=3"),
    ("storage-timeout", "20", 20.0),
    ("storage-reschedule", "2m", 120.0),
    ("download-maxsize", "5MB", 5_000_000),
    ("download-timeout", "10", 10.0),
    ("download-ttl", "3600", 3600.0),
    ("download-proxy", "http://proxy.example:3128", "http://proxy.example:3128"),
    (
        "download-whitelist",
        "192.168.0.30/32:80,[fd00::]/8:443",
        [Place(ipaddress.ip_network("192.168.0.30/32"), 80), Place(ipaddress.ip_network("fd00::/8"), 443)],
    ),
    (
        "download-blacklist",
        "192.168.0.0/16,127.0.0.1",
        [Place(ipaddress.ip_network(one)) for one in ("192.168.0.0/16", "127.0.0.1/32")],
    ),
    ("download-user-agent", "My agent", "My agent"),
    ("alert-whitelist", "192.0.2.1/24", [Place(ipaddress.ip_network("192.0.2.0/24"), None)]),
    ("alert-sender", "watch@example.org", "watch@example.org"),
    ("smtp-default-ips", "192.0.2.1;192.0.2.2,2001:DB8::1", ["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
    ("smtp-mappable-ips", "192.0.2.1/24", [ipaddress.ip_network("192.0.2.0/24")]),
    ("smtp-unmappable-ips", "192.0.2.9", [ipaddress.ip_network("192.0.2.9/32")]),
    ("delivery-port", "2525", 2525),
    ("paused", "yes", True),
    (
        "external-mtas",
        "203.0.113.7=socks://192.0.2.1:1080",
        [ExternalMta("203.0.113.7", "socks", "", "192.0.2.1", 1080)],
    ),
    ("delivery-sink", "[::1]:1025", HostPort("::1", 1025)),
    ("smtp-sink-address", "sink.example", "sink.example"),
    ("smtp-sink-port", "2525", 2525),
    ("smtp-sink-username", "joe", "joe"),
    ("smtp-sink-password", "secret", "secret"),
    ("smarthost", "relay.example", "relay.example"),
    ("smarthost-port", "587", 587),
    ("smarthost-username", "joe", "joe"),
    ("smarthost-password", "secret", "secret"),
    ("delivery-timeout-factor", "0.5", 0.5),
    ("domain-maxmessages", "600", 600),
    ("domain-maxconnects", "60", 60),
    ("domain-maxconnections", "6", 6),
    ("domain-maxqueue", "100", 100),
    ("ip-maxmessages", "300", 300),
    ("ip-maxconnects", "30", 30),
    ("ip-maxconnections", "3", 3),
    ("connection-maxmessages", "100", 100),
    ("connection-maxidle", "5 s", 5.0),
    ("connection-secure", "verified", "verified"),
    ("max-connections", "200", 200),
    ("max-delivertime", "1d", 86400.0),
    ("max-attempts", "7", 7),
    ("retry-interval", "60, 120,240", [60, 120, 240]),
    ("dns-server", "127.0.0.1:5353;2001:db8::53", [HostPort("127.0.0.1", 5353), HostPort("2001:db8::53", 53)]),
    ("dns-timeout", "500ms", 0.5),
    ("dns-attempts", "2", 2),
    ("dns-min-ttl", "120", 120.0),
    ("dkim-check-dns", "yes", True),
    ("dsn-notify", "failure, DELAY", "FAILURE,DELAY"),
    ("dsn-ret", "hdrs", "HDRS"),
    ("dsn-advertise", "0", False),
    ("send-log", "/log/send", Path("/log/send")),
    ("received-log", "/log/received", Path("/log/received")),
    ("send-log-maxsize", "1GiB", 2**30),
    ("send-log-history", "0", 0),
    ("send-log-file", "/var/log/sent.log", Path("/var/log/sent.log")),
    ("send-log-format", "{$date} {$email.recipient}", "{$date} {$email.recipient}"),
    ("received-log-file", "/var/log/received.log", Path("/var/log/received.log")),
    ("received-log-format", "{$json.recipient}", "{$json.recipient}"),
    ("application-log", "syslog,/var/log/mailrace.log", ["syslog", "/var/log/mailrace.log"]),
    ("application-log-format", "json", "json"),
    ("cluster-address", "amqp://u:p@h", "amqp://u:p@h"),
    ("cluster-exchange", "fleet", "fleet"),
    ("cluster-verify", "no", False),
    ("cluster-timeout", "3", 3.0),
]
WITH = {  # keys that cannot stand alone
    "www-secure-port": ["--www-certificate=/c", "--www-privatekey=/k"],
    "www-certificate": ["--www-privatekey=/k"],
    "www-privatekey": ["--www-certificate=/c"],
    "smtp-secure-port": ["--smtp-certificate=/c", "--smtp-privatekey=/k"],
    "smtp-certificate": ["--smtp-privatekey=/k"],
    "smtp-privatekey": ["--smtp-certificate=/c"],
    "smtp-sink-port": ["--smtp-sink-address=sink.example"],
    "smtp-sink-username": ["--smtp-sink-address=sink.example", "--smtp-sink-password=p"],
    "smtp-sink-password": ["--smtp-sink-address=sink.example", "--smtp-sink-username=u"],
    "smarthost-username": ["--smarthost=relay.example", "--smarthost-password=p"],
    "smarthost-password": ["--smarthost=relay.example", "--smarthost-username=u"],
    "smtp-username": ["--smtp-password=p"],
    "smtp-password": ["--smtp-username=u"],
}


@pytest.mark.parametrize(("key", "text", "value"), VALUES, ids=[key for key, _, _ in VALUES])
def test_a_keys_text_becomes_its_value(key: str, text: str, value: Any) -> None:
    """Each key has its kind; a secret's value is behind `get_secret_value`."""
    found = getattr(settings.load([f"--{key}={text}", *WITH.get(key, [])], {}, None), key.replace("-", "_"))
    assert (found.get_secret_value() if isinstance(found, SecretStr) else found) == value


def test_the_table_above_has_every_key() -> None:
    """A key without a test is found here."""
    assert [key for key, _, _ in VALUES] == [name.replace("_", "-") for name in FIELDS]


def test_values_cannot_be_changed_after_loading() -> None:
    """The configuration is read once; what changes at run time are rules."""
    with pytest.raises(ValueError, match="frozen"):
        settings.load().www_port = 1


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("amqp://u:p@h/v", "amqp://u:******@h/v"),
        ("amqp://u:p@ss@h/v,amqps://u2:q@h2", "amqp://u:******@h/v,amqps://u2:******@h2"),
        ("amqp://h/v", "amqp://h/v"),
        ("postgresql://u:p,/:@h:5432/db", "postgresql://u:******@h:5432/db"),
        ("postgresql://h/db?user=u&password=p&a=b", "postgresql://h/db?user=u&password=******&a=b"),
        ("hardcoded://u:p/1,u2:q,r", "hardcoded://u:******,u2:******,******"),
    ],
)
def test_an_address_shows_all_but_its_passwords(address: str, shown: str) -> None:
    """Of an address only the password is secret."""
    from settings.config.values import SecretAddress

    assert str(SecretAddress(address)) == shown
    assert re.search(r"'(.*)'", repr(SecretAddress(address)))[1] == shown  # type: ignore[index]


def test_an_sqlite_file_is_absolute_with_three_slashes_as_with_four() -> None:
    """MailerQ's addresses have three, SQLAlchemy wants four."""
    for address in ("sqlite:///srv/rules.db", "sqlite:////srv/rules.db"):
        loaded = settings.load([f"--database-address={address}"])
        assert loaded.database_address.get_secret_value() == "sqlite:////srv/rules.db"


def test_what_lies_in_the_data_dir_follows_it() -> None:
    """Defaults that stand on another key take its value."""
    loaded = settings.load(["--data-dir=/srv/mail"])
    assert (loaded.lock, loaded.send_log) == (Path("/srv/mail/mailrace.lock"), Path("/srv/mail/logs/send.jsonl"))
    assert loaded.database_address.get_secret_value() == "sqlite:////srv/mail/rules.db"
