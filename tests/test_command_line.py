"""The program, as people and other programs call it: each command in a process of its own, on a real queue."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

import mailrace
import settings
from operators.mail.message import decode
from pipeline.commands import queue as commands
from pipeline.log import schema
from pipeline.process import only_one
from pipeline.queues.contract import Park, Settlement
from pipeline.queues.embedded.embedded import EmbeddedQueue
from tests.pipeline.log.records import TIME, accepted, delivery
from tests.pipeline.queues.desk import confirmation

PROGRAM = Path(mailrace.__file__)
MESSAGE = b"Subject: trial\nTo: a@example.org\nBcc: b@example.org\n\nbody\n"


def run(*arguments: str, stdin: bytes = b"", program: Path = PROGRAM) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, program, *arguments], input=stdin, capture_output=True, timeout=60)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["serve", "--help"], ["send", "--help"]])
def test_help_names_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """On standard output, exit code 0."""
    assert mailrace.main(arguments) == 0
    text = capsys.readouterr().out
    assert all(f"mailrace {command}" in text for command in mailrace.COMMANDS)


def test_the_cluster_is_listed_by_mailerqs_option_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    """`--list-cluster` is `cluster`, wherever it stands; without a broker there is none."""
    for arguments in (["--list-cluster"], ["--cluster-timeout=2", "--list-cluster"], ["cluster"]):
        assert mailrace.main(arguments) == 1
        assert "this instance is alone" in capsys.readouterr().err


def test_the_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """`mailrace 1.2.3`."""
    assert mailrace.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mailrace ")


def test_config_shows_each_value_with_its_origin_and_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is printed can be shown to anybody."""
    file = tmp_path / "c.txt"
    file.write_text("smtp-username: relay\nsmtp-password: hunter2\nsmtp-threads: 4\n")
    monkeypatch.setenv("MAILRACE_DATABASE_ADDRESS", "mysql://u:hunter2@h/db")
    assert (
        mailrace.main(["config", "--config-file", str(file), "--www-password=hunter2", "--api-token=hunter2hunter2-x"])
        == 0
    )
    shown, warned = capsys.readouterr()
    lines = {line.split(":")[0]: line.split(":", 1)[1].split() for line in shown.splitlines()}
    assert lines["smtp-username"] == ["relay", "#", f"{file}:1"]
    assert lines["database-address"] == ["mysql://u:******@h/db", "#", "environment", "MAILRACE_DATABASE_ADDRESS"]
    assert lines["www-password"] == ["**********", "#", "command", "line"]
    assert lines["www-port"] == ["8485", "#", "default"]
    assert "hunter2" not in shown + warned
    assert warned.startswith(f"mailrace: warning: smtp-threads ({file}:3): ")


async def leases(folder: Path, count: int, started: asyncio.Event | None = None, deadline: float = 30.0) -> list[str]:
    """The recipients of the first messages that a consumer of the queue is lent."""
    queue = EmbeddedQueue(folder / "queue.db")
    await queue.start()
    lent: asyncio.Queue[str] = asyncio.Queue()
    subscription = queue.consume(100).subscribe(lambda lease: lent.put_nowait(decode(lease.body).recipient))
    if started:
        started.set()
    try:
        async with asyncio.timeout(deadline):
            return [await lent.get() for _ in range(count)]
    finally:
        subscription.dispose()
        await queue.close()


@pytest.mark.system
async def test_send_queues_a_message_for_each_recipient(tmp_path: Path) -> None:
    """It says nothing, as sendmail does; the server finds them when it starts."""
    done = await asyncio.to_thread(run, "send", "--data-dir", str(tmp_path), "-t", "-oi", stdin=MESSAGE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert await leases(tmp_path, 2) == ["a@example.org", "b@example.org"]


@pytest.mark.system
async def test_send_reaches_a_server_that_is_running(tmp_path: Path) -> None:
    """The one that consumes the queue notices, in its own time."""
    started = asyncio.Event()
    waiting = asyncio.create_task(leases(tmp_path, 1, started))
    await started.wait()
    done = await asyncio.to_thread(run, "send", "--data-dir", str(tmp_path), "c@example.org", stdin=MESSAGE)
    assert done.returncode == 0, done.stderr
    assert await waiting == ["c@example.org"]


def test_logs_has_its_own_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the keys of the configuration; where both have a name, it is the command's."""
    assert mailrace.main(["logs", "--help"]) == 0
    own = set(re.findall(r"--([a-z-]+)", capsys.readouterr().out))
    assert "since" in own
    assert settings.split([f"--{name}=x" for name in own], mailrace.COMMANDS["logs"][1] or ())[0] == []


@pytest.mark.system
async def test_send_speaks_smtp_on_standard_input(tmp_path: Path) -> None:
    """`-bs`, as Alpine and Zabbix call sendmail: 250 means queued, and the end of the input ends it."""
    said = b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"
    done = await asyncio.to_thread(run, "send", "--data-dir", str(tmp_path), "-bs", stdin=said)
    replies = [line[:3] for line in done.stdout.splitlines() if line[3:4] == b" "]
    assert (done.returncode, replies) == (0, [b"220", b"250", b"250", b"250", b"354", b"250"])
    assert await leases(tmp_path, 1) == ["c@d.example"]


@pytest.mark.system
def test_linked_as_sendmail_it_is_send(tmp_path: Path) -> None:
    """`/usr/sbin/sendmail` can be a link to it."""
    link = tmp_path / "sendmail"
    link.symlink_to(PROGRAM)
    assert run("-i", "a@example.org", f"--data-dir={tmp_path}", stdin=MESSAGE, program=link).returncode == 0
    shown = run("queue", "--data-dir", str(tmp_path)).stdout.decode().split()
    assert shown[:9] == ["queue", "lane", "ready", "waiting", "parked", "outbox", "1", "0", "0"]


def sent_from(folder: Path, service: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Send without --data-dir, in this folder, on a machine whose service has that one."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("pipeline.commands.folders.SERVICE_DIR", service)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(MESSAGE)))
    return mailrace.main(["send", "a@example.org"])


def test_send_makes_no_queue_where_no_server_would_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Started in any folder without --data-dir, a new queue there would be a hole that mail falls into."""
    assert sent_from(tmp_path, tmp_path / "service", monkeypatch) == 1
    assert "there is no queue" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


async def test_send_finds_the_queue_of_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stands in for sendmail is called from anywhere."""
    await fill(tmp_path / "service")
    assert await asyncio.to_thread(sent_from, tmp_path, tmp_path / "service", monkeypatch) == 0
    assert "a@example.org" in await leases(tmp_path / "service", 2)


async def test_send_does_not_use_a_queue_that_others_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """S4: mail of root's cron would go into a file of whoever owns the folder it stands in."""
    await fill(tmp_path / "var")
    (tmp_path / "var").chmod(0o777)
    assert await asyncio.to_thread(sent_from, tmp_path, tmp_path / "service", monkeypatch) == 1
    assert "there is no queue" in capsys.readouterr().err


def test_logs_finds_the_log_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked from any folder; a log that stands elsewhere in the configuration stays there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.commands.folders.SERVICE_DIR", tmp_path / "service")
    (tmp_path / "service" / "logs").mkdir(parents=True)
    line = schema.line(schema.attempt(delivery(7), accepted(), TIME, None, "mx1"))
    (tmp_path / "service" / "logs" / "send.jsonl").write_bytes(line)
    assert mailrace.main(["logs", "--format=json"]) == 0
    assert "user7@example.com" in capsys.readouterr().out
    assert mailrace.main(["logs", "--format=json", "--send-log", str(tmp_path / "own.jsonl")]) == 0
    assert capsys.readouterr().out == ""


async def fill(folder: Path) -> None:
    """One message ready, one waiting, one parked, one among the results."""
    queue = EmbeddedQueue(folder / "queue.db")
    await queue.start()

    async def publish(name: str, delay: float = 0.0) -> None:
        safe = asyncio.get_running_loop().create_future()
        queue.publish([(name, b"{}")], safe.set_result, delay)
        assert await safe is None

    await publish("outbox")
    settled = asyncio.get_running_loop().create_future()
    park = Settlement(then=Park("192.0.2.1/example.org"))
    subscription = queue.consume(1).subscribe(lambda lease: queue.settle(lease, park, settled.set_result))
    assert await settled is None
    subscription.dispose()
    await publish("outbox")
    await publish("outbox", delay=3600)
    await publish("results")
    await queue.close()


def rows(*arguments: str) -> list[list[str]]:
    done = run("queue", *arguments)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.decode().splitlines() if not line.startswith("!")]


@pytest.mark.system
async def test_queue_shows_flushes_and_purges(tmp_path: Path) -> None:
    """What waits, for each queue and lane; flush makes what waits ready; purge throws away what it names. And that
    none of it is sent while no server runs (K11).
    """
    await fill(tmp_path)
    where = f"--data-dir={tmp_path}"
    assert run("queue", where).stdout.decode().endswith(f"! Mailrace does not run on {tmp_path}: nothing is sent\n")
    lane = ["192.0.2.1/example.org", "1"]
    assert rows(where)[1:] == [["outbox", "1", "1", "1"], lane, ["results", "1"]]
    assert rows("flush", where) == [["1", "messages", "that", "waited", "for", "their", "time", "are", "ready", "now"]]
    assert rows("show", where)[1:] == [["outbox", "2", "0", "1"], lane, ["results", "1"]]
    assert rows("purge", "--lane=192.0.2.1/example.org", "--yes", where)[0][0] == "1"
    assert rows("purge", "results", "--yes", where)[0][:4] == ["1", "messages", "of", "results"]
    assert rows(where)[1:] == [["outbox", "2", "0", "0"]]
    assert rows("purge", "--yes", where)[0][0] == "2"


@pytest.mark.system
async def test_queue_deletes_by_tag_and_domain(tmp_path: Path) -> None:
    """What has the tag and is for the domain; it asks first, and names what it needs."""
    where = f"--data-dir={tmp_path}"
    queue = EmbeddedQueue(tmp_path / "queue.db")
    await queue.start()
    bodies = [b'{"recipient": "a@%b", "tags": ["%b"]}' % (domain, tag) for domain in (b"x.example", b"y.example")
              for tag in (b"sale", b"news")]  # fmt: skip
    await confirmation(lambda confirmed: queue.publish([("outbox", body) for body in bodies], confirmed))
    await queue.close()
    done = run("queue", "delete", "--tag=sale", where)
    assert (done.returncode, done.stderr) == (2, b"mailrace: queue: delete: needs --yes where nobody can be asked\n")
    assert run("queue", "delete", "--yes", where).returncode == 2
    assert rows("delete", "--tag=sale", "--domain=x.example", "--yes", where)[0][0] == "1"
    assert rows("delete", "--domain=y.example", "--yes", where)[0][0] == "2"
    assert rows(where)[1:] == [["outbox", "1", "0", "0"]]


@pytest.mark.system
async def test_purge_asks_first(tmp_path: Path) -> None:
    """Where nobody can answer, nothing is thrown away."""
    await fill(tmp_path)
    done = run("queue", "purge", f"--data-dir={tmp_path}")
    assert (done.returncode, done.stderr) == (2, b"mailrace: queue: purge: needs --yes where nobody can be asked\n")
    assert rows(f"--data-dir={tmp_path}")[1] == ["outbox", "1", "1", "1"]


@pytest.mark.system
def test_a_queue_that_is_none_is_one_line(tmp_path: Path) -> None:
    """A file of something else is left alone."""
    (tmp_path / "queue.db").write_bytes(b"something else entirely, longer than a header of SQLite" * 4)
    done = run("send", "a@example.org", f"--data-dir={tmp_path}", stdin=MESSAGE)
    assert done.returncode == 1
    assert done.stderr.decode().startswith(f"mailrace: send: {tmp_path / 'queue.db'}: ")
    assert done.stderr.decode().count("\n") == 1


@pytest.mark.system
def test_queue_says_how_the_program_is_also_where_its_file_cannot_be_opened(tmp_path: Path) -> None:
    """K11: that the file is gone, or is none, is a reason to hear the rest."""
    where = f"--data-dir={tmp_path}"
    with only_one(settings.load([where], None, None)):
        (tmp_path / "health.json").write_bytes(msgspec.json.encode({"time": time.time(), "states": ["no mail leaves"]}))
        done = run("queue", where)
        assert (done.returncode, done.stderr.decode().count("\n")) == (1, 1)
        assert done.stderr.decode().endswith("there is no queue, and Mailrace runs there: no mail leaves\n")
        (tmp_path / "queue.db").write_bytes(b"something else entirely, longer than a header of SQLite" * 4)
        done = run("queue", where)
    assert done.returncode == 1
    assert done.stdout.decode().startswith(f"! {tmp_path / 'queue.db'}: cannot be used as the queue")
    assert done.stdout.decode().endswith("\n! no mail leaves\n")


def test_queue_does_not_wait_for_a_broker_that_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """K11: an alarm, or a node that stands still; what the running program says of itself is there all the same."""
    monkeypatch.setattr(commands, "PATIENCE", 0.2)
    (tmp_path / "health.json").write_bytes(msgspec.json.encode({"time": time.time(), "states": ["no mail leaves"]}))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}/%2F"
        given = settings.load([f"--data-dir={tmp_path}", f"--rabbitmq-address={address}"], None, None)
        with only_one(given):
            assert commands.queue(given, []) == 1
    said = capsys.readouterr().out
    assert said == "! the queue has not answered for 0 s\n! no mail leaves\n"


@pytest.mark.system
@pytest.mark.parametrize("odd", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {}])
def test_the_program_needs_no_utf8_locale_and_no_folder(tmp_path: Path, odd: dict[str, str]) -> None:
    """K5: what libraries read is read as UTF-8; the folder of the start may be gone, where no path is meant in it."""
    program = "import os, sys; os.rmdir(os.getcwd()); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"

    def start(*options: str) -> str:
        (tmp_path / "gone").mkdir()
        command = [sys.executable, "-c", program, mailrace.__file__, "serve", *options]
        environment = os.environ | odd
        done = subprocess.run(
            command, cwd=tmp_path / "gone", env=environment, capture_output=True, text=True, timeout=100, check=False
        )
        return done.stderr

    assert start("--data-dir=var") == "mailrace: data-dir: 'var' (command line): must be a path\n"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = start(f"--data-dir={tmp_path / 'var'}", "--www-ip=127.0.0.1", f"--www-port={port}")
    assert "www-port" in said
    assert said.count("\n") == 1


def test_a_hangup_while_it_starts_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotation of logs that meets the start, before `serve` has its handler."""
    before = signal.getsignal(signal.SIGHUP)
    monkeypatch.setattr(mailrace, "_guarded", lambda _: int(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN))
    try:
        assert mailrace.main(["--www-port", "0", "serve"]) == 1
    finally:
        signal.signal(signal.SIGHUP, before)
