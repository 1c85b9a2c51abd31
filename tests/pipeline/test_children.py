"""Children: each starts the same way, whatever surrounds the program, and ends with it."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import signal
import subprocess
import sys
from typing import Any

import psutil
import pytest

from gui.components.mail.preview import PREVIEW
from pipeline.demo.demo import INTERNET
from pipeline.log.reading.past import PAST
from pipeline.log.writing.converter import ARCHIVE
from pipeline.log.writing.writer_life import LOG_WRITER
from pipeline.process import children
from pipeline.process.children import ROOT, Child, ChildFailed, ChildKind, ask, run
from pipeline.process.hashing import HASHER
from pipeline.process.supervisor import supervisor
from pipeline.signing.pool import SIGNER
from tests.support.waiting import comes

pytestmark = pytest.mark.slow

PROBE = ChildKind("probe", "tests.support.confession")
KINDS = [LOG_WRITER, ARCHIVE, SIGNER, PREVIEW, INTERNET, HASHER, PAST]
NOTHING_TO_DO = ("TypeError: main() missing", "DecodeError: Input data was truncated")
HOSTILE = ("contextlib", "json", "email", "msgspec", "pipeline", "asyncio", "signal", "duckdb", "sitecustomize")


@pytest.fixture
def hostile(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The working folder: its modules leave a mark when they are imported. The environment says they should be."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in HOSTILE:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'a').write({name!r})\n")
    monkeypatch.chdir(folder)
    for name in ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME"):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("MAILRACE_WWW_PASSWORD", "hidden")
    monkeypatch.syspath_prepend("")
    return folder


class Watched:
    """A child, and what came of it."""

    def __init__(self, kind: ChildKind, *arguments: str, **how: Any) -> None:
        self.lines: list[bytes] = []
        self.end: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self.child = Child(kind, arguments, self.lines.append, lambda *end: self.end.set_result(end), **how)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.part)
async def test_each_kind_imports_nothing_from_where_the_program_stands(
    kind: ChildKind, hostile: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """K5, K14: the module is found, with all that it needs, and no module of the working folder runs."""
    watched = Watched(kind)
    if kind is INTERNET:
        await comes(lambda: watched.lines)
        watched.child.terminate()
    code, why = await watched.end
    assert code == 0 or any(text in why for text in NOTHING_TO_DO), why
    assert not (tmp_path / "mark").exists()


async def test_a_child_gets_nothing_that_it_was_not_given(hostile: pathlib.Path) -> None:
    """K5, S4: no environment of ours but the language, no open file, no terminal, and a umask that keeps it private."""
    stray = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(stray, True)
    reads, writes = os.pipe()
    watched = Watched(PROBE, files=[reads])
    assert await watched.end == (0, "has ended with 0")
    said = json.loads(watched.lines[0])
    for file in (stray, reads, writes):
        os.close(file)
    assert set(said["environment"]) <= {"PATH", *children.SAFE}
    assert said["folder"] == "/"
    assert reads in said["files"] and stray not in said["files"] and writes not in said["files"]
    assert "" not in said["path"] and str(hostile) not in said["path"]
    assert said["umask"] == 0o027
    assert said["session"]


async def test_a_program_in_a_removed_folder_starts_children(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K5: a release that was replaced under the running program."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    try:
        assert (await Watched(PROBE).end)[0] == 0
    finally:
        os.chdir(ROOT)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_rights_are_dropped_before_its_work_begins() -> None:
    """K5, S4: user, group and all groups."""
    watched = Watched(PROBE, account=(65534, 65534, [65534]))
    await watched.end
    said = json.loads(watched.lines[0])
    assert (said["user"], said["groups"]) == (65534, [65534])


async def test_what_it_says_on_standard_error_is_the_reason_of_its_end() -> None:
    """K15: a child that cannot do its work says why; control characters are shown."""
    code, why = await Watched(PROBE, "fail").end
    assert (code, why) == (1, "has ended with 1: ValueError: no such\\u001b[31m thing")


async def test_a_child_that_closes_its_outputs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """K11: the loop does not wait for its end; it is ended."""
    monkeypatch.setattr(children, "GRACE", 2)
    code, _ = await Watched(PROBE, "close").end
    assert code == -signal.SIGKILL


async def test_an_answer_that_cannot_be_understood_is_heard() -> None:
    """K11: what `told` raises is a failure of that part, and the child is still watched."""
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def told(_: bytes) -> None:
        raise ValueError("what?")

    Child(PROBE, [], told, lambda code, _: ended.set_result(code))
    assert await ended == 0
    assert supervisor().errors == {"probe": 1}


async def test_one_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """K15: with the reason and the file."""
    monkeypatch.setattr(sys, "executable", "/none/python")
    with pytest.raises(ChildFailed, match="cannot be started: No such file or directory: /none/python"):
        Watched(PROBE)


def test_a_child_ends_with_a_program_that_was_killed(tmp_path: pathlib.Path) -> None:
    """K5: kill -9 leaves nothing behind that would work for half a day."""
    code = (
        "import asyncio\n"
        "from pipeline.process.children import Child, ChildKind\n"
        "async def main():\n"
        "    kind = ChildKind('probe', 'tests.support.confession')\n"
        "    Child(kind, ['stay'], lambda line: print(line.decode(), flush=True), print)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env={"PYTHONPATH": ROOT}) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        psutil.wait_procs([child], timeout=30)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_run_gives_what_it_makes_or_why_not() -> None:
    """K11: the preview's way; it waits no longer than it may."""
    assert b"environment" in run(PROBE, b"", 30)
    with pytest.raises(ChildFailed, match="has ended with 1: ModuleNotFoundError"):
        run(ChildKind("x", "no.such.module"), b"", 30)


def test_run_waits_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the process is gone then."""
    command = children.command(PROBE, ["stay"])
    monkeypatch.setattr(children, "command", lambda kind: command)
    with pytest.raises(TimeoutError):
        run(PROBE, b"", 0.5)
    mine = [child for child in psutil.Process().children() if PROBE.module in child.cmdline()]
    assert not mine


async def test_a_foreign_program_knows_nothing_of_us(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S4: `exec:` programs get user and password, and no secret of our environment."""
    monkeypatch.setenv("MAILRACE_WWW_PASSWORD", "hidden")
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\nenv > {tmp_path}/environment\ncat > {tmp_path}/input\nexit 3\n")
    script.chmod(0o700)
    assert await ask(script, b"user\npassword\n", 30) == 3
    assert "hidden" not in (tmp_path / "environment").read_text()
    assert (tmp_path / "input").read_text() == "user\npassword\n"


async def test_a_foreign_program_ends_with_what_it_started(tmp_path: pathlib.Path) -> None:
    """K11: a shell that is killed would leave its `sleep` behind, one for each login."""
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\nsleep 600 &\necho $! > {tmp_path}/pid\nwait\n")
    script.chmod(0o700)
    with pytest.raises(TimeoutError):
        await ask(script, b"", 1.0)
    pid = int((tmp_path / "pid").read_text())
    await comes(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
