"""Each configuration that decides where mail goes, or whether it goes, against two receivers: `right` and `world`.

`world` is where DNS would send the mail. What it gets there, its owner did not mean for it.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys

import httpx
import pytest

import settings
from tests.support.api import TOKEN
from tests.support.mailbox import Mailbox
from tests.support.program import ROOT, Program
from tests.support.waiting import until

pytestmark = pytest.mark.system
TO = "you@[127.0.0.5]"  # the world


def send(program: Program, *headers: str) -> str:
    """One mail; returns what swaks saw."""
    given = [
        word for header in headers for word in ("--h-" + header.partition(":")[0], header.partition(":")[2].strip())
    ]
    command = ["swaks", "--server", f"127.0.0.1:{program.smtp_port}", "--from", "me@a.example", "--to", TO, *given]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def log(program: Program) -> str:
    """The delivery log so far."""
    path = program.folder / "var" / "logs" / "send.jsonl"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("config", [
    "smarthost: {host}\nsmarthost-port: {port}",
    "smarthost: localhost.\nsmarthost-port: {port}\nsmarthost-username:\nsmarthost-password:",
    "smtp-sink-address: {host}\nsmtp-sink-port: {port}",
    "smtp-sink-ip: {host}\nsmtp-sink-port: {port}\nsmarthost: 127.0.0.5",
    "delivery-sink: {host}:{port}",
])  # fmt: skip
def test_a_smarthost_or_a_sink_in_the_configuration_gets_all_mail(tmp_path: pathlib.Path, config: str) -> None:
    """K8. As its owner wrote it: nothing of it reaches the world."""
    with Mailbox() as right, Mailbox("127.0.0.5") as world:
        file = tmp_path / "config.txt"
        file.write_text(config.format(host="127.0.0.1", port=right.port))
        with Program(tmp_path, config_file=file, delivery_port=world.port) as program:
            send(program)
            until(lambda: right.total)
        assert (right.total, world.total) == (1, 0)


def test_a_message_has_its_own_smarthost_before_the_configured_one(tmp_path: pathlib.Path) -> None:
    """K8. As documented; but not before the sink, or a trial would send to real servers."""
    with Mailbox() as right, Mailbox("127.0.0.5") as world, Mailbox("127.0.0.6") as own:
        wanted = ("x-mq-smarthost-hostname: 127.0.0.6", f"x-mq-smarthost-port: {own.port}")
        with Program(tmp_path, smarthost="127.0.0.5", smarthost_port=world.port) as program:
            send(program, *wanted)
            until(lambda: own.total)
            program.stop()
        options = {"smtp_sink_address": "127.0.0.1", "smtp_sink_port": right.port}
        with Program(tmp_path, smarthost="127.0.0.5", smarthost_port=world.port, **options) as program:
            send(program, *wanted, "x-mq-smarthost-username: u", "x-mq-smarthost-password: secret")
            until(lambda: right.total)
        assert (own.total, right.total, world.total) == (1, 1, 0)


def test_a_configured_smarthost_that_does_not_answer_sends_nothing_to_the_world(tmp_path: pathlib.Path) -> None:
    """K8. Its mail waits."""
    with Mailbox("127.0.0.5") as world:
        with Program(tmp_path, smarthost="127.0.0.1", smarthost_port=1, delivery_port=world.port) as program:
            send(program)
            until(lambda: '"next":"retry"' in log(program))
        assert world.total == 0


def test_paused_keeps_mail_over_a_restart_until_a_start_without_it(tmp_path: pathlib.Path) -> None:
    """K8. Taken, kept, said in the terminal; and sent when it is not paused any more."""
    with Mailbox("127.0.0.5") as world:
        with Program(tmp_path, paused="true", delivery_port=world.port) as program:
            assert "250 2.0.0 Queued" in send(program)
            until(lambda: "everything is paused by the configuration" in program.output)
            assert program.stop() == 0
        with Program(tmp_path, paused=1, delivery_port=world.port) as program:
            assert "none leaves until a start without it" in program.output
            assert program.stop() == 0
        assert world.total == 0
        with Program(tmp_path, paused="false", delivery_port=world.port):
            until(lambda: world.total)


def test_an_empty_inbox_throws_away_what_is_received_and_says_so(tmp_path: pathlib.Path) -> None:
    """K8. To the client and at the start; and the command that queues mail refuses it instead."""
    with Mailbox("127.0.0.5") as world:
        file = tmp_path / "config.txt"
        file.write_text("rabbitmq-inbox:\n")
        with Program(tmp_path, config_file=file, delivery_port=world.port, api_token=TOKEN) as program:
            assert "250 2.0.0 Taken and thrown away" in send(program)
            token = {"Authorization": f"Bearer {TOKEN}"}
            with httpx.Client(base_url=f"http://127.0.0.1:{program.www_port}", headers=token, timeout=60) as watcher:
                assert watcher.get("/readyz").text == "ok: some mail is taken and thrown away, as it is configured\n"
                assert "\nmailrace_discarded_total 1.0\n" in watcher.get("/metrics").text
                verdict = watcher.get("/api/v1/status").json()["verdict"]
                assert (verdict["level"], verdict["word"]) == ("watch", "Discarding")
                assert verdict["text"].endswith("since rabbitmq-inbox is empty: 1 message since the start.")
            assert "rabbitmq-inbox" in program.output and "thrown away" in program.output
            at = [f"--data-dir={tmp_path}/var"]
            command = [sys.executable, "mailrace.py", "send", f"--config-file={file}", *at, "-f", "me@a.example", TO]
            handed = subprocess.run(
                command, cwd=ROOT, input="Subject: x\n\nx\n", capture_output=True, text=True, check=False
            )
            assert handed.returncode == 1 and "thrown away" in handed.stderr
            assert program.stop() == 0
        with Program(tmp_path, delivery_port=world.port) as program:
            send(program)
            until(lambda: world.total)
        assert world.total == 1


def test_a_pool_that_does_not_exist_sends_from_no_other_address(tmp_path: pathlib.Path) -> None:
    """K8. Also where the address that mail came in on would be used; `ips` wins over a pool."""
    with Mailbox("127.0.0.5") as world:
        options = {"smtp_mappable_ips": "127.0.0.0/8", "delivery_port": world.port}
        with Program(tmp_path, **options) as program:
            send(program, "x-mq-pool: example-pool")
            until(lambda: "no pool 'example-pool' has an MTA IP" in log(program))
            assert world.total == 0
            send(program, "x-mq-pool: example-pool", "x-mq-ip: 127.0.0.9")
            until(lambda: world.total)
        assert dict(world.peers) == {"127.0.0.9": 1}


def test_the_default_addresses_of_old_configurations_are_the_ones_that_send(tmp_path: pathlib.Path) -> None:
    """K8. `smtp-defaultip` was a warning, and mail left from whatever address there was."""
    with Mailbox("127.0.0.5") as world:
        file = tmp_path / "config.txt"
        file.write_text("smtp-defaultip: 127.0.0.8\n")
        program = Program(tmp_path, config_file=file, delivery_port=world.port)
        del program.options["smtp_default_ips"]
        with program:
            send(program)
            until(lambda: world.total)
        assert dict(world.peers) == {"127.0.0.8": 1}


@pytest.mark.parametrize("config", [
    "smarthost: 127.0.0.1\nsmarthost-port: {smtp}",
    "smtp-sink-ip: localhost\nsmtp-sink-port: {smtp}",
])  # fmt: skip
def test_a_smarthost_or_a_sink_that_is_ourselves_is_refused(tmp_path: pathlib.Path, config: str) -> None:
    """K8. One clear line, no server: one mail would become endless mail."""
    program = Program(tmp_path)
    file = tmp_path / "config.txt"
    file.write_text(config.format(smtp=program.smtp_port))
    program.options["config_file"] = file
    with pytest.raises(RuntimeError, match="it ended with 1"), program:
        pass
    assert program.output.count("\nmailrace: ") <= 1
    assert "is where this server itself listens" in program.output


def test_the_address_of_no_host_is_no_sink(tmp_path: pathlib.Path) -> None:
    """As in MailerQ, whose default it is; and it is said."""
    file = tmp_path / "config.txt"
    file.write_text("smtp-sink-ip: 0.0.0.0\nsmtp-sink-port: 25\n")
    loaded = settings.load([], {}, file)
    assert loaded.sink is None and any("0.0.0.0 is no sink" in line for line in loaded.warnings)


@pytest.mark.parametrize(("config", "line"), [
    ("smarthost: <hostname>", "smarthost: '<hostname>'"),
    ("smarthost-username: joe\nsmarthost-password: x", "smarthost-username: 'joe'"),
    ("smarthost: a.example\nsmarthost-username: joe", "needs smarthost-password as well"),
    ("smtp-sink-port: 2525", "needs smtp-sink-address as well"),
    ("smtp-sink-address: a.example\ndelivery-sink: b.example:25", "cannot be used together with delivery-sink"),
    ("storage-address: mongodb://h/d/c", "there is no MongoDB, Couchbase or S3 here"),
    ("plugin-directory: /usr/share/mailerq/plugins", "plugins of MailerQ cannot be loaded"),
    ("rabbitmq-queue: outbox\nrabbitmq-retries: elsewhere", "rabbitmq-retries"),
    ("rabbitmq-user: joe", "needs rabbitmq-host as well"),
    ("rabbitmq-host: a.example\nrabbitmq-address: amqp://b.example", "cannot be used together"),
    ("paused: perhaps", "paused: 'perhaps'"),
])  # fmt: skip
def test_what_cannot_be_honoured_is_refused_before_mail_moves(tmp_path: pathlib.Path, config: str, line: str) -> None:
    """K8. One clear line."""
    file = tmp_path / "config.txt"
    file.write_text(config)
    with pytest.raises(settings.ConfigurationErrors) as refused:
        settings.load([], {}, file)
    assert len(refused.value.lines) == 1 and line in refused.value.lines[0], refused.value.lines
