"""Mail that would come back to us is refused, in whatever form our address is written."""

import asyncio
import contextlib
import pathlib
import sqlite3
import subprocess

import pytest

from pipeline.demo.nameserver import NameServer
from tests.support.loop import Loop
from tests.support.program import MAILRACE, Program, free_port
from tests.support.source import Source
from tests.support.waiting import until

OURS = ("[0.0.0.0]", "[127.0.0.1]", "[127.8.8.8]", "[IPv6:::ffff:127.0.0.1]", "mx.example", "zero.example")


@pytest.mark.system
def test_one_mail_to_ourselves_never_becomes_two(tmp_path: pathlib.Path) -> None:
    """K4: literals, MX and addresses; with the port that we listen on, on all addresses."""
    with Loop() as loop, contextlib.ExitStack() as stack:
        names = NameServer()
        loop.run(names.start())
        names.add("mx.example", "MX", "10 us.example.")
        names.add("us.example", "A", "127.0.0.1")
        names.add("zero.example", "A", "0.0.0.0")
        port = free_port("0.0.0.0")
        program = Program(
            tmp_path,
            smtp_ip="0.0.0.0",
            dns_server=f"{names.address}:{names.port}",
            delivery_port=port,
        )
        program.smtp_port = port
        program.options["smtp_port"] = port
        stack.enter_context(program)
        asyncio.run(Source(port, len(OURS), 1, domain=lambda number: OURS[number]).run())
        received = tmp_path / "var" / "logs" / "received.jsonl"
        until(lambda: _queued(tmp_path) == 0)
        assert _queued(tmp_path) == 0  # each has ended, and none has come again
        assert received.read_text().count("\n") == len(OURS)


def _queued(folder: pathlib.Path) -> int:
    with contextlib.closing(sqlite3.connect(folder / "var" / "queue.db", timeout=10)) as database:
        return int(database.execute("select count(*) from messages").fetchone()[0])


@pytest.mark.system
def test_a_sink_that_is_this_server_is_refused_at_start(tmp_path: pathlib.Path) -> None:
    """K4: one line, before mail moves."""
    port = free_port()
    command = [*MAILRACE, "serve", f"--data-dir={tmp_path}", f"--smtp-port={port}", "--www-port=0"]
    command += [f"--delivery-sink=localhost:{port}"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert f"delivery-sink: localhost:{port} is where this server itself listens" in done.stderr
