"""`x-mq-*` header fields become properties."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.mail.message import from_properties
from pipeline.smtp.server.headers import FIELDS, extract, has_fields
from pipeline.smtp.server.refusal import Refusal
from tests.pipeline.intake.harness import House

NOW = 1_700_000_000.0  # 2023-11-14 22:13:20

OFF = dict.fromkeys(("results", "success", "failure", "retry"))  # one turns all the configured ones off
GOOD: list[tuple[str, dict[str, Any]]] = [
    ("x-mq-ip: 192.0.2.1", {"ips": ["192.0.2.1"]}),
    ("X-MQ-IP: 192.0.2.1\r\nx-mq-ip: 2001:DB8::1, 192.0.2.2", {"ips": ["192.0.2.1", "2001:db8::1", "192.0.2.2"]}),
    ("x-mq-pool: fast", {"pool": "fast"}),
    ("x-mq-tag: a, b\r\nx-mq-tag: c", {"tags": ["a, b", "c"]}),
    ("x-mq-inlinecss: 1", {"inlinecss": True}),
    ("x-mq-envelope: <bounce@example.org>", {"envelope": "bounce@example.org"}),
    ("x-mq-envelope: <>", {"envelope": ""}),
    ("x-mq-delayed: 2024-01-01 12:00:00", {"nextattempt": {"time": "2024-01-01 12:00:00"}}),
    ("x-mq-delayed: 60", {"nextattempt": {"time": "2023-11-14 22:14:20"}}),
    ("x-mq-maxdelivertime: 2024-01-01 12:00:00", {"maxdelivertime": "2024-01-01 12:00:00"}),
    ("x-mq-maxattempts: 3", {"maxattempts": 3}),
    ("x-mq-maxattempts: 0", {"maxattempts": 0}),
    ("x-mq-retries: 60, 120,300", {"retries": [60, 120, 300]}),
    ("x-mq-keepmime: True", {"keepmime": True}),
    ("x-mq-priority: 5", {"priority": 5}),
    ("x-mq-security: required", {"security": "required"}),
    (
        "x-mq-results-queue: mine\r\nx-mq-failure-queue:",
        {"queues": OFF | {"results": "mine"}},
    ),
    (
        "x-mq-success-queue: s\r\nx-mq-retry-queue: r",
        {"queues": OFF | {"success": "s", "retry": "r"}},
    ),
    ("x-mq-dsn-queue: d", {"queues": {"dsn": "d"}}),
    (
        "x-mq-smarthost-hostname: relay.example\r\nx-mq-smarthost-port: 587\r\n"
        "x-mq-smarthost-username: joe\r\nx-mq-smarthost-password: se cret",
        {"smarthost": {"hostname": "relay.example", "port": 587, "username": "joe", "password": "se cret"}},
    ),
    (
        "x-mq-dsn-notify: failure,delay\r\nx-mq-dsn-ret: hdrs\r\nx-mq-dsn-envid: e\r\nx-mq-dsn-orcpt: rfc822;a@b",
        {"dsn": {"notify": "DELAY,FAILURE", "ret": "HDRS", "envid": "e", "orcpt": "rfc822;a@b"}},
    ),
    ("x-mq-smarthost-name: relay.example", {"smarthost": {"hostname": "relay.example"}}),
    ("x-mq-campaign: spring\r\n  sale", {"campaign": "spring sale"}),
]

BAD = [
    ("x-mq-maxattempts: many", "x-mq-maxattempts: allowed is a number up to 1000000, 0 for no limit"),
    ("x-mq-ip: mx.example.com", "x-mq-ip: allowed is IP addresses with commas between them"),
    ("x-mq-pool:", "x-mq-pool: allowed is some text"),
    ("x-mq-tag:", "x-mq-tag: allowed is some text"),
    ("x-mq-inlinecss: perhaps", "x-mq-inlinecss: allowed is true or false"),
    ("x-mq-envelope: nobody", "x-mq-envelope: allowed is an address, or <> for the null sender"),
    ("x-mq-retries: soon", "x-mq-retries: allowed is seconds between attempts, with commas between them"),
    ("x-mq-keepmime: maybe", "x-mq-keepmime: allowed is true or false"),
    (
        "x-mq-delayed: tomorrow",
        "x-mq-delayed: allowed is a time in UTC, YYYY-MM-DD HH:MM:SS, or a number of seconds up to 31622400",
    ),
    ("x-mq-smarthost-hostname: a b", "x-mq-smarthost-hostname: allowed is a host name or an IP address"),
    ("x-mq-smarthost-hostname: [192.0.2.1]", "x-mq-smarthost-hostname: allowed is a host name or an IP address"),
    ("x-mq-smarthost-port: 0", "x-mq-smarthost-port: allowed is a port number from 1 to 65535"),
    ("x-mq-dsn-notify: NEVER,DELAY", "x-mq-dsn-notify: allowed is NEVER, or some of SUCCESS, FAILURE, DELAY"),
    ("x-mq-dsn-ret: ALL", "x-mq-dsn-ret: allowed is FULL or HDRS"),
    ("x-mq-security: optional", "x-mq-security: allowed is off or opportunistic or required or verified"),
    (
        "x-mq-recipient: evil@example.org",
        "x-mq-recipient: allowed is any other name; this one is not set by a header field",
    ),
    ("x-mq-connection: x", "x-mq-connection: allowed is any other name; this one is not set by a header field"),
    ("x-mq-: x", "x-mq-: allowed is any other name; this one is not set by a header field"),
    ("x-mq-campaign: a\x07b", "x-mq-campaign: allowed is printable text"),
    ("x-mq-campaign: \udcff", "x-mq-campaign: allowed is UTF-8 text"),
]


@pytest.mark.parametrize(("fields", "properties"), GOOD)
def test_a_field_becomes_a_property(fields: str, properties: dict[str, Any]) -> None:
    """And is taken out; what stands around it stays as it is."""
    head = f"Subject: a\r\n{fields}\r\nTo: b\r\n c\r\n"
    assert extract(head.encode(), NOW) == (b"Subject: a\r\nTo: b\r\n c\r\n", properties)
    from_properties({"recipient": "a@example.org", **properties})


@pytest.mark.parametrize(("field", "reply"), BAD)
def test_a_bad_value_is_refused_with_what_is_allowed(field: str, reply: str) -> None:
    """554 5.6.0 and one line that names the field."""
    with pytest.raises(Refusal) as raised:
        extract(field.encode(errors="surrogateescape") + b"\r\n", NOW)
    assert raised.value.reply == f"554 5.6.0 {reply}"


def test_a_smarthost_needs_a_host_name() -> None:
    """Or the message could not be sent."""
    with pytest.raises(Refusal, match="x-mq-smarthost-hostname: needed"):
        extract(b"x-mq-smarthost-port: 25\r\n", NOW)


def test_every_field_of_the_table_is_tested() -> None:
    """Who adds a field adds a row here."""
    tested = {line.partition(":")[0].lower() for fields, _ in GOOD for line in fields.split("\r\n")}
    assert {f"x-mq-{name}" for name in FIELDS} <= tested


@given(st.binary())
def test_no_header_breaks_it(head: bytes) -> None:
    """It is read, or refused; nothing else."""
    try:
        rest, _ = extract(b"x-mq-ip: 192.0.2.1\r\n" + head, NOW)
    except Refusal:
        return
    assert not rest.lower().startswith(b"x-mq-ip")


async def test_fields_are_taken_out_of_the_message_on_the_queue(house: House) -> None:
    """Where smtp-extract is on, in any case of letters; the body is not looked at."""
    await house.open()
    caller = await house.call()
    await caller.mail(b"X-MQ-Pool: fast\r\nSubject: x\r\n\r\nx-mq-pool: slow\r\n.\r\n")
    (message,) = house.queued()
    assert message["pool"] == "fast"
    assert message["mime"].endswith("+0000\r\nSubject: x\r\n\r\nx-mq-pool: slow\r\n")


async def test_with_smtp_extract_off_they_stay(house: House) -> None:
    """The message goes on as it came."""
    await house.open(smtp_extract="false")
    await (await house.call()).mail(b"x-mq-pool: fast\r\n\r\n.\r\n")
    (message,) = house.queued()
    assert "pool" not in message
    assert "x-mq-pool: fast" in message["mime"]


async def test_fields_win_over_the_dialogue(house: House) -> None:
    """Envelope and DSN wishes."""
    await house.open()
    caller = await house.call()
    await caller.says("MAIL FROM:<a@example.org> RET=FULL ENVID=e", "RCPT TO:<b@example.net> NOTIFY=NEVER", "DATA")
    await caller.say("x-mq-dsn-notify: DELAY\r\nx-mq-envelope: c@example.org\r\n\r\n.")
    (message,) = house.queued()
    assert message["envelope"] == "c@example.org"
    assert message["dsn"] == {"notify": "DELAY", "ret": "FULL", "envid": "e"}


def test_the_quick_look_sees_every_case() -> None:
    """has_fields."""
    assert has_fields(b"a: b\r\nX-Mq-Ip: c\r\n")
    assert not has_fields(b"a: b\r\n")
