"""MTA IPs that are not of this machine: mail through real proxies, and what happens when one is down."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import smtplib
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.api import TOKEN, Api
from tests.support.mailbox import Mailbox
from tests.support.program import Program, free_port, listens

pytestmark = pytest.mark.system
PUBLIC = "203.0.113.7"


def wait(found: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


@contextlib.contextmanager
def running(port: int, *command: str) -> Iterator[None]:
    """A proxy, until the end of the block."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait(lambda: listens(port))
        yield
    finally:
        process.kill()
        process.wait()


def socks5(folder: pathlib.Path, port: int, mailbox: Mailbox) -> list[str]:
    return ["microsocks", "-i", "127.0.0.1", "-p", str(port)]


def http(folder: pathlib.Path, port: int, mailbox: Mailbox) -> list[str]:
    config = folder / "tinyproxy.conf"
    config.write_text(f"Port {port}\nListen 127.0.0.1\nTimeout 60\nAllow 127.0.0.1\n")
    return ["tinyproxy", "-d", "-c", str(config)]


def proxy(folder: pathlib.Path, port: int, mailbox: Mailbox) -> list[str]:
    config = folder / "haproxy.cfg"
    config.write_text(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
        f"listen mail\n bind 127.0.0.1:{port} accept-proxy\n server there 127.0.0.1:{mailbox.port}\n"
    )
    return ["haproxy", "-db", "-f", str(config)]


def send(program: Program, *headers: str) -> None:
    with smtplib.SMTP("127.0.0.1", program.smtp_port) as client:
        client.sendmail("me@a.example", "you@b.example", "\n".join([*headers, "Subject: x", "", "x", ""]))


def logged(folder: pathlib.Path) -> list[str]:
    """The attempts so far."""
    log = folder / "var" / "logs" / "send.jsonl"
    return log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize("kind", [socks5, http, proxy], ids=lambda kind: kind.__name__)
def test_mail_leaves_through_a_proxy_and_waits_while_it_is_down(
    tmp_path: pathlib.Path, kind: Callable[[pathlib.Path, int, Mailbox], list[str]]
) -> None:
    """Under its public IP; a dead proxy pauses its lanes with the reason, and other members of the pool go on."""
    with Mailbox() as mailbox:
        port = free_port()
        command = kind(tmp_path, port, mailbox)
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} is not installed")
        options = {
            "delivery_sink": f"127.0.0.1:{mailbox.port}", "api_token": TOKEN,
        }  # fmt: skip
        protocol = kind.__name__.removesuffix("5")
        if kind is not socks5:  # that is a rule, made while the program runs
            options["external_mtas"] = f"{PUBLIC}={protocol}://127.0.0.1:{port}"
        with Program(tmp_path, **options) as program:
            api = Api(program)
            if kind is socks5:
                way = {"protocol": protocol, "connect_ip": "127.0.0.1", "connect_port": port}
                api.create("external-mtas", public_ip=PUBLIC, **way)
            api.create("pools", name="both", members=[PUBLIC, "127.0.0.2"])
            with running(port, *command):
                send(program, f"x-mq-ip: {PUBLIC}")
                wait(lambda: len(logged(tmp_path)) == 1)  # by then the answer has come through, too
            send(program, f"x-mq-ip: {PUBLIC}")
            wait(lambda: any("proxy" in fault and "down" in fault for fault in api.get("/status")["faults"]))
            wait(lambda: [1 for lane in api.get("/lanes") if lane["ip"] == PUBLIC and lane["parked"] == 1])
            assert any(lane["ip"] == PUBLIC and "proxy" in lane["waits_for"] for lane in api.get("/lanes"))
            for _ in range(4):
                send(program, "x-mq-pool: both")
            wait(lambda: mailbox.total == 5)
            with running(port, *command):
                wait(lambda: len(logged(tmp_path)) == 6, 60)
            assert not [fault for fault in api.get("/status")["faults"] if "proxy" in fault]
        sent = [json.loads(line) for line in logged(tmp_path)]
        assert [line["result"] for line in sent] == ["accepted"] * 6
        assert sorted(line["mta_ip"] for line in sent) == ["127.0.0.2"] * 4 + [PUBLIC] * 2
