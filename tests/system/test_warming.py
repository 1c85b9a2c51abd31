"""Warm-up on the running program with two workers, as the receiver sees it, over kill -9 and a restart."""

from __future__ import annotations

import collections
import json
import pathlib
import smtplib

import pytest

from tests.support.api import TOKEN, Api
from tests.support.mailbox import Mailbox
from tests.support.program import Program
from tests.support.waiting import until

pytestmark = pytest.mark.system
WARM, COLD, ALONE = "127.0.0.1", "127.0.0.2", "127.0.0.3"
MAIL = "From: me@a.example\nSubject: x\nx-mq-pool: {pool}\n\nx\n"


def send(program: Program, pool: str, count: int) -> None:
    with smtplib.SMTP("127.0.0.1", program.smtp_port) as client:
        for _ in range(count):
            client.sendmail("me@a.example", "you@b.example", MAIL.format(pool=pool))


def sent(program: Program) -> collections.Counter[str]:
    """How many attempts came to MAIL FROM from each MTA IP, in the logs of all workers."""
    lines = [
        json.loads(line)
        for path in (program.folder / "var").rglob("send*.jsonl")
        for line in path.read_text().splitlines()
    ]
    return collections.Counter(line["mta_ip"] for line in lines if line["result"] == "accepted")


def test_a_cap_is_exact_over_workers_a_kill_and_a_restart(tmp_path: pathlib.Path) -> None:
    """What is over it leaves from the rest of the pool, or waits; advance lets the next day begin."""
    with Mailbox() as mailbox:
        options = {"delivery_sink": f"127.0.0.1:{mailbox.port}", "api_token": TOKEN, "workers": 2}
        with Program(tmp_path, **options) as program:
            api = Api(program)
            api.create("schedules", name="slow", steps=["1=15", "2=40"])
            api.create("pools", name="mixed", members=[WARM, COLD])
            api.create("pools", name="alone", members=[ALONE])
            mixed = api.create("warmups", schedule="slow", ip=COLD)
            alone = api.create("warmups", schedule="slow", pool="alone")
            assert alone["progress"][0]["state"] == "warming"
            send(program, "mixed", 20)
            send(program, "alone", 20)
            until(lambda: mailbox.total >= 35, "the caps are not used")
            program.kill()
        with program:
            api = Api(program)
            send(program, "mixed", 40)
            send(program, "alone", 5)
            until(lambda: mailbox.total >= 75, "the others of the pool take no more")
            until(lambda: sent(program).total() >= 75, "it is not logged")
            assert sent(program) == {WARM: 45, COLD: 15, ALONE: 15}
            until(lambda: [one["waits"] for one in api.get("/warmups/progress")] == [0, 10], "it is not shown")
            shown = api.get(f"/warmups/{mixed['id']}")["progress"][0]
            assert (shown["day"], shown["cap"], shown["sent"], shown["state"]) == (1, 15, 15, "warming")
            metrics = api.client.get(f"http://127.0.0.1:{program.www_port}/metrics").text
            assert f'mailrace_warmup_sent{{destination="",ip="{COLD}"}} 15.0' in metrics
            assert api.client.delete("/schedules/1").status_code == 422
            api.client.post(f"/warmups/{alone['id']}/advance", json={}).raise_for_status()
            until(lambda: mailbox.total >= 85, "the next day has not begun")
            assert api.get("/warmups/progress")[1]["sent"] == 25
            assert next(one["action"] for one in api.get("/audit") if one["kind"] == "warmups") == "advance"
