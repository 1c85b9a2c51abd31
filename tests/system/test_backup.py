"""What was saved, and what a release before has left behind, comes up whole."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import smtplib
import sqlite3
import subprocess
import sys
from typing import Any

import httpx
import pytest

from tests.support.api import TOKEN, Api
from tests.support.mailbox import Mailbox
from tests.support.program import ROOT, Program, free_port
from tests.support.waiting import until

pytestmark = pytest.mark.system
PASSWORD = "kept over the upgrade"
BEFORE = ROOT / "tests" / "data" / "before"  # the data-dir that the release before has made
TOKEN_BEFORE = "mr_TjktGSPVG3VpXPlkOYHcLEOWS-6JvWjYjNXnlW5V8hI"
NOWHERE = "127.0.0.1:1"
PATIENT = {"retry_interval": 86400, "max_delivertime": "9000d", "dkim_check_dns": "false", "dns_server": NOWHERE}


def program(folder: pathlib.Path, sink: str, **options: Any) -> Program:
    """On this folder's data, with all mail to one place."""
    folder.mkdir(exist_ok=True)
    return Program(folder, **{"api_token": TOKEN, "delivery_sink": sink, **PATIENT, **options})


def logs_in(running: Program, password: str) -> bool:
    """Whether the console's password is this one."""
    answer = httpx.post(f"http://127.0.0.1:{running.www_port}/login", data={"password": password})
    return answer.status_code == 303 and "login" not in answer.headers["location"]


def opens(running: Program, token: str) -> bool:
    """Whether this is a token."""
    url = f"http://127.0.0.1:{running.www_port}/api/v1/status"
    return httpx.get(url, headers={"Authorization": f"Bearer {token}"}).status_code == 200


def listed(api: Api) -> dict[str, tuple[str, bool]]:
    """Each message's lane, and whether it waits for a time, by its recipient."""
    messages = api.get("/messages")["messages"]
    return {one["recipient"]: (one["lane"], one["due"] > 0) for one in messages}


def ids(path: pathlib.Path) -> set[str]:
    """The message ids in a queue's file that nobody writes."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        return {row[0] for row in database.execute("SELECT body ->> '$.\"message-id\"' FROM messages")}


def all_delivered(running: Program, mailbox: Mailbox) -> None:
    """Whatever waits goes when it is told to, the pause is over, and the key signs."""
    api = Api(running)
    before = listed(api)
    for pause in api.get("/pauses"):
        api.delete("pauses", pause["id"])
    answer = api.client.post("/messages/actions", json={"action": "retry", "selection": {}})
    assert answer.is_success, answer.text
    until(lambda: not listed(api), f"{listed(api)} of {before} stay")
    assert mailbox.messages
    assert all(b"d=example.com" in message and b"s=old" in message for message in mailbox.messages)


def test_saved_while_it_runs_and_restored_elsewhere(tmp_path: pathlib.Path) -> None:
    """Messages that are ready, parked and waiting, rules with a DKIM key, token and password: nothing is missing."""
    with program(tmp_path / "one", NOWHERE) as running:
        api = Api(running)
        api.create("dkim-keys", domain="example.com", selector="old", generate=True, algorithm="ed25519")
        api.create("pauses", tag="held", reason="a test")
        api.create("throttles", domain="slow.example", domain_messages=60)
        made = api.create("tokens", name="script")["secret"]
        send(running, "held@a.example", "x-mq-tag: held")
        send(running, "waiting@a.example", "x-mq-delayed: 2100-01-01 00:00:00")
        send(running, "refused@a.example")
        until(lambda: set(listed(api).values()) == {("pause/1", False), ("", True)} and len(listed(api)) == 3)
        password = running.output.partition("Password ")[2].split()[0]
        saved = tmp_path / "saved"
        save(tmp_path / "one" / "var", saved)
        before, rules = listed(api), api.get("/throttles")
        assert running.stop() == 0
    assert ids(saved / "queue.db") == ids(tmp_path / "one" / "var" / "queue.db")
    assert {path.stat().st_mode & 0o077 for path in saved.iterdir()} == {0}
    shutil.copytree(saved, tmp_path / "other" / "var")
    with Mailbox(keep=True) as mailbox, program(tmp_path / "other", f"127.0.0.1:{mailbox.port}") as running:
        api = Api(running)
        assert listed(api) == before
        assert api.get("/throttles") == rules
        assert logs_in(running, password)
        assert opens(running, made)
        all_delivered(running, mailbox)


def test_saved_by_a_user_who_may_not_read_it(tmp_path: pathlib.Path) -> None:
    """One line and an exit code; nothing that looks like a backup."""
    tried = subprocess.run([ROOT / "deploy" / "backup.sh", tmp_path / "none", tmp_path / "saved"], capture_output=True)
    assert tried.returncode == 2
    assert tried.stderr.decode().splitlines() == [f"backup.sh: {tmp_path / 'none'} is no folder"]
    assert not (tmp_path / "saved").exists()


def test_a_damaged_file_is_no_backup(tmp_path: pathlib.Path) -> None:
    """The backup before it stays."""
    data, saved = tmp_path / "data", tmp_path / "saved"
    shutil.copytree(BEFORE, data)
    save(data, saved)
    good = (saved / "queue.db").read_bytes()
    damaged = bytearray((data / "queue.db").read_bytes())
    damaged[4096:] = b"\xff" * (len(damaged) - 4096)
    (data / "queue.db").write_bytes(damaged)
    with pytest.raises(subprocess.CalledProcessError):
        save(data, saved)
    assert (saved / "queue.db").read_bytes() == good


def test_what_the_release_before_has_left_comes_up(tmp_path: pathlib.Path) -> None:
    """Its queue, rules, key, password and tokens; made by that release: one message ready, two parked, two waiting."""
    shutil.copytree(BEFORE, tmp_path / "var")
    here = {"wait@wait.example", "parked@held.example", "parked2@held.example", "later@later.example",
            "queued@new.example"}  # fmt: skip
    with program(tmp_path, f"127.0.0.1:{free_port()}") as running:
        api = Api(running)
        until(lambda: listed(api).keys() == here and all(lane or waits for lane, waits in listed(api).values()))
        assert api.get("/throttles")[0]["domain"] == "slow.example"
        assert {rule["name"] for rule in api.get("/dns")} == {"wait.example", "held.example"}
        assert logs_in(running, PASSWORD)
        assert opens(running, TOKEN_BEFORE)
        assert running.stop() == 0
    with Mailbox(keep=True) as mailbox, program(tmp_path, f"127.0.0.1:{mailbox.port}") as running:
        all_delivered(running, mailbox)
        assert len(mailbox.messages) == len(here)


def save(data: pathlib.Path, target: pathlib.Path) -> None:
    """As an operator does."""
    environment = {**os.environ, "MAILRACE_PYTHON": sys.executable}
    subprocess.run([ROOT / "deploy" / "backup.sh", data, target], check=True, capture_output=True, env=environment)


def send(running: Program, recipient: str, *fields: str) -> None:
    """One message over SMTP."""
    lines = [*fields, "From: me@example.com", "Subject: kept", "", "mail"]
    with smtplib.SMTP("127.0.0.1", running.smtp_port) as client:
        client.sendmail("me@example.com", [recipient], "\r\n".join(lines))
