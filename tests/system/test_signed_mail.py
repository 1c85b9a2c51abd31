"""A key that is a rule and in DNS signs what the whole program sends."""

from __future__ import annotations

import asyncio
import pathlib
import smtplib
import time

import dkim
import pytest

from pipeline.demo.nameserver import NameServer
from settings.rules import DkimKey
from settings.store import RuleStore
from settings.store.audit import Who
from tests.support.loop import Loop
from tests.support.program import Program
from tests.support.receiver import Receiver

MAIL = "From: Anna <anna@a.test>\r\nTo: b@b.test\r\nSubject: hello\r\n\r\n.dots\r\n..\r\nand  spaces  \r\n\r\n\r\n"


async def stored(data_dir: pathlib.Path, *selectors: str) -> list[DkimKey]:
    """Keys of a.test in the rules database."""
    rules, made = RuleStore("", data_dir), []
    await rules.start()
    for selector in selectors:
        values = {"domain": "a.test", "selector": selector, "generate": True, "algorithm": selector}
        rule = await rules.create("dkim-keys", values, Who("test"))
        assert isinstance(rule, DkimKey)
        made.append(rule)
    await rules.close()
    return made


def received(receiver: Receiver) -> bytes:
    """The one message that comes."""
    end = time.monotonic() + 20
    while not receiver.messages and time.monotonic() < end:
        time.sleep(0.05)
    return receiver.messages[0].data


@pytest.mark.system
def test_mail_arrives_signed_by_all_published_keys(tmp_path: pathlib.Path) -> None:
    """Both kinds of key sign the first message after the start; the signatures hold after the way over the wire."""
    (tmp_path / "var").mkdir()
    rules = asyncio.run(stored(tmp_path / "var", "rsa", "ed25519"))
    with Loop() as loop:
        zone, receiver = NameServer(), Receiver()
        loop.run(zone.start())
        loop.run(receiver.__aenter__())
        for rule in rules:
            zone.add(rule.record_name, "TXT", f'"{rule.record[:200]}" "{rule.record[200:]}"')
        server, sink = f"{zone.address}:{zone.port}", f"127.0.0.1:{receiver.port}"
        with Program(tmp_path, dns_server=server, delivery_sink=sink) as program:
            with smtplib.SMTP("127.0.0.1", program.smtp_port) as client:
                client.sendmail("anna@a.test", ["b@b.test"], MAIL)
            source = received(receiver)
            assert program.stop() == 0
        loop.run(receiver.__aexit__())
        loop.run(zone.stop())
    records = {f"{rule.record_name}.".encode(): rule.record.encode() for rule in rules}
    message = dkim.DKIM(source)
    assert [message.verify(idx=index, dnsfunc=lambda name, timeout: records[name]) for index in (0, 1)] == [True, True]
    secrets = [rule.key.get_secret_value().splitlines()[1] for rule in rules if rule.key]
    assert not any(secret in program.output for secret in secrets)
