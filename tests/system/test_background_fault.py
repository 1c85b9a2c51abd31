"""What fails in the background of the running program is seen from outside."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import smtplib
import urllib.error
import urllib.request

import pytest

from tests.support.mailbox import Mailbox
from tests.support.program import Program
from tests.support.waiting import until

pytestmark = pytest.mark.system
# An operator of somebody's own: a task that nobody waits for, and for `end@` a fault after which nothing can go on.
SHOP = """
from reactivex import operators as ops
from pipeline.process.supervisor import spawn, supervisor

async def lose():
    raise ValueError("lost a parcel, password=hunter2")

def shop(source, live):
    def step(delivery):
        if delivery.domain == "end.example":
            supervisor().give_up("the shop has burnt down")
        else:
            spawn(lose(), "shop")
        return delivery
    return source.pipe(live.stage(step))
"""


def asked(program: Program, path: str, **headers: str) -> tuple[int, str]:
    """What the console answers there."""
    request = urllib.request.Request(f"http://127.0.0.1:{program.www_port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def send(program: Program, to: str) -> None:
    """One mail."""
    with smtplib.SMTP("127.0.0.1", program.smtp_port) as client:
        client.sendmail("a@a.test", [to], "Subject: x\r\n\r\nx\r\n")


def test_a_background_error_is_seen_from_outside(tmp_path: pathlib.Path) -> None:
    """K11: `/readyz` says no, in general words; the log has the part and the reason; a secret is masked in it; and one
    after which nothing can go on ends the program with one line.
    """
    (tmp_path / "shop.py").write_text(SHOP)
    with Mailbox() as mailbox:
        log = tmp_path / "mailrace.log"
        program = Program(
            tmp_path, operators="shop:shop@decode", delivery_sink=f"127.0.0.1:{mailbox.port}",
            application_log=log, application_log_format="json",
        )  # fmt: skip
        program.environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        with program:
            assert asked(program, "/readyz")[0] == 200
            send(program, "you@some.example")
            until(lambda: asked(program, "/readyz")[0] != 200)
            assert asked(program, "/readyz") == (503, "a part of the program has failed: its log says which\n")
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            (said,) = [line for line in lines if line["event"] == "failed in the background"]
            assert said["part"] == "shop" and "lost a parcel" in said["error"] and "Traceback" in said["exception"]
            assert "hunter2" not in log.read_text()
            with contextlib.suppress(smtplib.SMTPException):  # it may end before the client's good-bye
                send(program, "you@end.example")
            assert program.process is not None
            assert program.process.wait(60) == 1
    assert program.output.splitlines()[-1] == "mailrace: the shop has burnt down"
