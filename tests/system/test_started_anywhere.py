"""The program does not depend on where it is started, nor on how it was installed."""

from __future__ import annotations

import asyncio
import os
import pathlib
import shutil
import smtplib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import pytest

from tests.support.disk import rights
from tests.support.installed import NOBODY, build, install, readable_python
from tests.support.mailbox import Mailbox
from tests.support.program import Program
from tests.system.test_signed_mail import stored

pytestmark = pytest.mark.system
MAIL = "From: Anna <anna@a.test>\r\nTo: b@b.test\r\nSubject: hello\r\nX-Number: 1\r\n\r\nbody\r\n"
PREVIEW = "from gui.components.mail.preview import preview; print(preview(b'Subject: x\\r\\n\\r\\nlooked at').text)"
HOSTILE = ("contextlib", "json", "email", "msgspec", "pipeline", "settings", "asyncio", "signal", "dkim", "duckdb")


@pytest.fixture
def hostile(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder whose modules leave a mark when they are imported."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in HOSTILE:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'a').write({name!r})\n")
    return folder


@pytest.fixture(scope="module")
def wheel() -> Iterator[pathlib.Path]:
    """Built once; in a folder that every user may read."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mailrace-wheel-"))
    folder.chmod(0o755)
    yield build(folder)
    shutil.rmtree(folder)


def works(program: Program) -> None:
    """It delivers, signs and logs, and shuts down in time."""
    (program.folder / "var").mkdir(exist_ok=True)
    asyncio.run(stored(program.folder / "var", "rsa"))
    if program.user is not None:
        for path in [program.folder, *program.folder.rglob("*")]:
            os.chown(path, program.user, program.user)
    with Mailbox(keep=True) as mailbox:
        program.options |= {"delivery_sink": f"127.0.0.1:{mailbox.port}", "dkim_check_dns": "false"}
        with program:
            with smtplib.SMTP("127.0.0.1", program.smtp_port) as client:
                client.sendmail("anna@a.test", ["b@b.test"], MAIL)
            log, end = program.folder / "var" / "logs" / "send.jsonl", time.monotonic() + 30
            while not (log.exists() and log.read_text()) and time.monotonic() < end:
                time.sleep(0.05)
            assert '"accepted"' in log.read_text(), program.output
            assert b"DKIM-Signature" in mailbox.messages[0]
            assert program.stop(patience=10) == 0
    assert not any(complaint in program.output for complaint in ("Traceback", "has ended with", "leaked"))


def previews(python: pathlib.Path | str, program: Program) -> None:
    """It takes messages apart for people, too."""
    command = [str(python), "-P", "-c", PREVIEW]
    done = subprocess.run(
        command, cwd=program.cwd, env=program.environment, user=program.user, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "looked at", done.stderr


@pytest.mark.parametrize("where", ["root", "hostile"])
def test_a_checkout_works_from_any_folder(tmp_path: pathlib.Path, hostile: pathlib.Path, where: str) -> None:
    """K5, K14: as `make run` installs it, started from `/` and from a folder with modules that nobody should import.

    Once without a usable /dev/shm, as some containers are.
    """
    program = Program(tmp_path)
    program.run = [str(pathlib.Path(sys.executable).parent / "mailrace")]
    if where == "root" and (way := rights()) is not None:
        program.run = [*way, "sh", "-c", 'mount -t tmpfs -o ro none /dev/shm && exec "$@"', "--", *program.run]
    program.cwd = pathlib.Path("/") if where == "root" else hostile
    program.environment = {"PATH": os.environ["PATH"]}
    works(program)
    previews(sys.executable, program)
    assert not (tmp_path / "mark").exists()


def test_an_installed_wheel_works_from_any_folder(
    tmp_path: pathlib.Path, hostile: pathlib.Path, wheel: pathlib.Path
) -> None:
    """K5: in a virtual environment of its own."""
    program = Program(tmp_path)
    script = install(wheel, tmp_path / "venv", sys.executable)
    program.run, program.cwd, program.environment = [str(script)], hostile, {"PATH": os.environ["PATH"]}
    works(program)
    previews(script.with_name("python"), program)
    assert not (tmp_path / "mark").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(not readable_python(), reason="no interpreter that every user may run")
def test_a_read_only_installation_works_for_a_user_without_rights(wheel: pathlib.Path) -> None:
    """K5: nothing is written beside the code, and nothing needs root."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mailrace-installed-"))
    folder.chmod(0o755)
    try:
        script = install(wheel, folder / "venv", str(readable_python()))
        for path in folder.rglob("*"):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o555)
        (folder / "home").mkdir()
        program = Program(folder / "home")
        program.run, program.cwd, program.user = [str(script)], pathlib.Path("/"), NOBODY
        program.environment = {"PATH": "/usr/bin:/bin"}
        works(program)
        previews(script.with_name("python"), program)
    finally:
        shutil.rmtree(folder)
