"""Strangers who only connect take no descriptor from those who deliver."""

from __future__ import annotations

import contextlib
import importlib.util
import pathlib
import socket
import subprocess
import sys

import pytest

from tests.support.mailbox import Mailbox
from tests.support.program import MAILRACE, Program

pytestmark = pytest.mark.system
CONNECTIONS = 1100
# Root could raise the hard limit; PR_CAPBSET_DROP of CAP_SYS_RESOURCE takes that from it.
POOR = (
    "import ctypes, os, resource, sys; ctypes.CDLL(None).prctl(24, 24); "
    "resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)); os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.mark.parametrize(
    "door",
    [
        "smtp_port",
        pytest.param(
            "www_port",
            marks=pytest.mark.skipif(
                not importlib.util.find_spec("gui.access.connections"), reason="the console has no cap"
            ),
        ),
    ],
)
def test_idle_connections_do_not_stop_delivery(tmp_path: pathlib.Path, door: str) -> None:
    """K13: with 1,024 descriptors and 1,100 silent connections mail goes out, and no receiver is blamed."""
    with Mailbox() as mailbox, contextlib.ExitStack() as idle:
        program = Program(tmp_path, delivery_sink=f"127.0.0.1:{mailbox.port}")
        program.run = [sys.executable, "-c", POOR, *program.run]
        with program:
            assert "descriptors: this process may have 1,024" in program.output
            port = getattr(program, door)
            for _ in range(CONNECTIONS):
                with contextlib.suppress(OSError):
                    idle.enter_context(socket.create_connection(("127.0.0.1", port), 5))
            for number in range(3):
                send(program, f"you{number}@example{number}.test")
            lines = program.attempts(3)
            assert {line["result"] for line in lines} == {"accepted"}
            assert not [line for line in lines if line["next"] == "retry"]
            assert program.stop() == 0


def send(program: Program, to: str) -> None:
    """One mail, past the ports."""
    command = [*MAILRACE, "send", f"--data-dir={program.options['data_dir']}", "-f", "a@a.test", to]
    subprocess.run(command, cwd="/", input=b"Subject: x\n\nx\n", check=True, timeout=60)
