"""What cannot start says why in one line, leaves nothing behind, and exits with 1."""

from __future__ import annotations

import pathlib
import socket
import subprocess
from collections.abc import Callable

import pytest

from tests.support.program import MAILRACE, free_port

pytestmark = pytest.mark.system


def a_folder_in_its_place(folder: pathlib.Path) -> None:
    (folder / "queue.db").mkdir()


def garbage(folder: pathlib.Path) -> None:
    (folder / "rules.db").write_text("this is no database, and longer than a header of one would be")


def nothing(folder: pathlib.Path) -> None:
    """All is well there."""


@pytest.mark.parametrize(
    ("prepare", "options", "line"),
    [
        (a_folder_in_its_place, [], "data-dir: DIR/queue.db is a folder, and has to be a file: remove it"),
        (garbage, [], "sqlite:///DIR/rules.db: file is not a database"),
        (nothing, ["--send-log=/proc/none/x"], "send-log: cannot write /proc/none: No such file or directory"),
        (
            nothing,
            ["--smtp-ip=192.0.2.1"],
            "smtp-port: 192.0.2.1 port PORT cannot be opened: the address is not one of this machine's",
        ),
        (nothing, ["--smtp-port=TAKEN"], "smtp-port: 127.0.0.1 port TAKEN is taken by another program"),
        (nothing, ["--user=nobody-here"], "user: there is no user 'nobody-here' on this machine"),
        (nothing, ["--smtp-auth=file:///none"], "smtp-auth: /none: No such file or directory"),
    ],
    ids=lambda value: value.__name__ if callable(value) else str(value)[:40],
)
def test_what_cannot_start_is_one_clear_line(
    tmp_path: pathlib.Path, prepare: Callable[[pathlib.Path], None], options: list[str], line: str
) -> None:
    """It names the part, the value and the reason; no traceback."""
    prepare(tmp_path)
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        names = {"TAKEN": str(taken.getsockname()[1]), "PORT": str(port), "DIR": str(tmp_path)}
        arguments = [f"--data-dir={tmp_path}", f"--smtp-port={port}", "--www-port=0", *options]
        for name, value in names.items():
            arguments = [argument.replace(name, value) for argument in arguments]
            line = line.replace(name, value)
        command = [*MAILRACE, "serve", *arguments]
        ended = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr.splitlines()) == (1, [f"mailrace: {line}"])
