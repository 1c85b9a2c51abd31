"""Pools on the running program, as the receiver sees them: the addresses that mail comes from."""

from __future__ import annotations

import collections
import json
import pathlib
import smtplib
import time

import pytest

from tests.support.api import TOKEN, Api
from tests.support.mailbox import Mailbox
from tests.support.program import Program

pytestmark = pytest.mark.system
MAIL = "From: me@a.example\nSubject: x\nx-mq-pool: {pool}\n\nx\n"


def send(program: Program, pool: str, count: int) -> None:
    """So many mails that name a pool."""
    with smtplib.SMTP("127.0.0.1", program.smtp_port) as client:
        for _ in range(count):
            client.sendmail("me@a.example", "you@b.example", MAIL.format(pool=pool))


def wait(mailbox: Mailbox, total: int) -> None:
    end = time.monotonic() + 60
    while mailbox.total < total and time.monotonic() < end:
        time.sleep(0.05)
    assert mailbox.total == total


def log(program: Program, count: int) -> list[dict[str, object]]:
    """The delivery log, when it has so many attempts."""
    path, end = program.folder / "var" / "logs" / "send.jsonl", time.monotonic() + 30
    while not path.exists() or len(path.read_text().splitlines()) < count:
        assert time.monotonic() < end, "it was not logged"
        time.sleep(0.05)
    return [json.loads(line) for line in path.read_text().splitlines()]


def sent_from(program: Program, count: int) -> collections.Counter[object]:
    """How many left from each MTA IP."""
    return collections.Counter(line["mta_ip"] for line in log(program, count))


def test_a_pool_shares_its_mail_by_weight_and_a_change_holds_at_once(tmp_path: pathlib.Path) -> None:
    """By weight; a paused member passed over; mail waits where all are; an unknown or empty pool is bind/error."""
    with Mailbox() as mailbox:
        options = {"delivery_sink": f"127.0.0.1:{mailbox.port}", "api_token": TOKEN}
        with Program(tmp_path, **options) as program:
            api = Api(program)
            api.create("pools", name="gold", members=["127.0.0.2=3", "127.0.0.3"])
            send(program, "gold", 40)
            wait(mailbox, 40)
            assert sent_from(program, 40) == {"127.0.0.2": 30, "127.0.0.3": 10}
            pause = api.create("pauses", ip="127.0.0.2")
            send(program, "gold", 5)
            wait(mailbox, 45)
            assert sent_from(program, 45)["127.0.0.3"] == 15
            other = api.create("pauses", ip="127.0.0.3")
            send(program, "gold", 4)
            api.delete("pauses", other["id"])  # the first that ends lets them go, from its address
            wait(mailbox, 49)
            assert sent_from(program, 49)["127.0.0.3"] == 19
            api.delete("pauses", pause["id"])
            moved = api.create("pools", name="silver", members=["127.0.0.2"])
            assert moved["moved"] == [{"ip": "127.0.0.2", "from": "gold"}]
            send(program, "gold", 3)
            wait(mailbox, 52)
            assert sent_from(program, 52)["127.0.0.3"] == 22
            send(program, "unknown", 1)
            api.create("pools", name="empty")
            send(program, "empty", 1)
            assert [(line["state"], line["result"]) for line in log(program, 54)[-2:]] == [("bind", "error")] * 2
