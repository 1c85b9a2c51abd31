"""The first mail of a newcomer: through the whole program, seen in the queue, in the log, at the receiver."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from tests.support.mailbox import Mailbox
from tests.support.program import MAILRACE, Program

pytestmark = pytest.mark.system
BODY = "Grüße\r\n.\r\n..dots\r\n.leading\r\n" + "x" * 998 + "\r\nthe end, and a trailing blank \r\n"


def swaks(port: int, message: pathlib.Path, to: str) -> None:
    """One mail, as the terminal suggests it."""
    address = ["--server", f"127.0.0.1:{port}", "--from", "me@example.com", "--to", to]
    subprocess.run(["swaks", *address, "--data", f"@{message}"], check=True, capture_output=True, timeout=30)


def mailrace(program: Program, *words: str) -> str:
    """A command beside the running program."""
    command = [*MAILRACE, *words, f"--data-dir={program.options['data_dir']}"]
    return subprocess.run(command, cwd="/", check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_mail_arrives_as_it_was_sent_and_is_in_the_log(tmp_path: pathlib.Path) -> None:
    """Byte for byte; the log has what the receiver said."""
    message = tmp_path / "mail"
    message.write_bytes(f"Subject: First\r\nX-Number: 1\r\n\r\n{BODY}".removesuffix("\r\n").encode())  # swaks adds it
    with Mailbox(keep=True) as mailbox, Program(tmp_path, delivery_sink=f"127.0.0.1:{mailbox.port}") as program:
        swaks(program.smtp_port, message, "you@example.com")
        line = program.attempts(1)[0]
        assert (line["recipient"], line["result"], line["code"]) == ("you@example.com", "accepted", 250)
        assert "you@example.com" in mailrace(program, "logs", "--format=json", "--recipient=you@example.com")
        received = mailbox.messages[0].replace(b"\r\n..", b"\r\n.")
        assert received.partition(b"\r\n\r\n")[2] == BODY.encode()
        assert program.stop() == 0


def test_a_mail_that_waits_is_shown_in_the_queue_and_survives_a_restart(tmp_path: pathlib.Path) -> None:
    """Nothing listens where it should go: it is retried later, and `mailrace queue` says so."""
    message = tmp_path / "mail"
    message.write_bytes(b"Subject: Later\r\n\r\nbody\r\n")
    with Program(tmp_path, delivery_sink="127.0.0.1:1") as program:
        swaks(program.smtp_port, message, "you@example.com")
        assert program.attempts(1)[0]["next"] == "retry"
        assert "waiting" in mailrace(program, "queue")
        assert program.stop() == 0
    with Mailbox() as mailbox, Program(tmp_path, delivery_sink=f"127.0.0.1:{mailbox.port}") as program:
        mailrace(program, "queue", "flush")
        program.attempts(2)
        assert mailbox.total == 1


def test_the_demo_delivers_within_seconds(tmp_path: pathlib.Path) -> None:
    """Its traffic runs through the real pipeline, to providers that take it, put it off, and refuse it."""
    with Program(tmp_path, "demo") as program:
        lines = program.attempts(300)
        assert {"accepted", "error"} <= {str(line["result"]) for line in lines}
        assert program.stop() == 0
