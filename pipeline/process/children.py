"""Children: the one way to start a process, whether a module of ours or another program.

A module of ours runs with the interpreter of the program, and finds what that finds, from whichever folder and kind of
installation it was started: `sys.path` of the program is handed over behind Python's own folders (`-S`). It never
imports from the working folder (`-I`), and stands in `/`. It gets no environment but SAFE, so no secret of ours; no
descriptor but those named; the rights of `account` before its `main`; and a session of its own, which Ctrl-C does not
reach.

It ends with the program, also after kill -9 of that, unless its work goes on until its ring is empty (`outlives`).
What it says on standard error is logged, and stands in the reason of its end. Bounds: LONGEST bytes of a line that is
not whole yet, SAID lines logged of each child.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import structlog

from pipeline.log.text import visible
from pipeline.process.rights import Account
from pipeline.process.supervisor import supervisor

SAFE = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ROOT = str(Path(__file__).parent.parent.parent)  # the folder that our packages are in
BEGIN = (
    "import json, sys; module, plan = sys.argv[1], json.loads(sys.argv[2]); "
    "sys.path += [path for path in plan['path'] if path not in sys.path]; "
    "from pipeline.process.begin import begin; begin(module, plan, sys.argv[3:])"
)
LONGEST = 64 * 1024
SAID = 100
REAP = 0.02  # seconds between looks whether a child whose outputs have ended is gone
GRACE = 100  # such looks, before it is killed

log = structlog.get_logger("child")


class ChildFailed(Exception):
    """A process could not be started, or has failed; the text says why, in one line."""


class ChildKind(msgspec.Struct, frozen=True):
    """A module of ours that runs as a process: it has a `main`, which takes texts.

    Attributes:
        part: its name for the supervisor.
        outlives: it is told by its work when to end, and finishes that first.
    """

    part: str
    module: str
    outlives: bool = False


def command(kind: ChildKind, arguments: Sequence[str] = (), account: Account | None = None) -> list[str]:
    """The command line of such a process."""
    plan = {"path": _search_path(), "account": account, "lifeline": None if kind.outlives else _lifeline()}
    return [sys.executable, "-I", "-S", "-X", "utf8", "-c", BEGIN, kind.module, json.dumps(plan), *arguments]


def environment() -> dict[str, str]:
    """What a child, ours or not, may know of our environment."""
    return {"PATH": PATH, **{name: os.environ[name] for name in SAFE if name in os.environ}}


class Child:
    """A module of ours as a process, seen from the event loop.

    Args:
        kind: which one.
        arguments: for its `main`.
        told: called on the loop with each line of its standard output, or with each piece where `raw`.
        ended: called on the loop with the exit code, negative for a signal, and why; after the last line.
        files: open files that it gets, by the same numbers.
        account: what it becomes before its `main`.

    Raises:
        ChildFailed: it cannot be started.
    """

    def __init__(
        self,
        kind: ChildKind,
        arguments: Sequence[str],
        told: Callable[[bytes], None],
        ended: Callable[[int, str], None],
        *,
        files: Sequence[int] = (),
        account: Account | None = None,
        raw: bool = False,
    ) -> None:
        self._kind, self._told, self._ended, self._raw = kind, told, ended, raw
        self._loop = asyncio.get_running_loop()
        self._process = _popen(kind, arguments, files, account)
        self._rest = b""
        self._lines = 0
        self._last = ""  # of what it said on standard error
        self._open: set[int] = set()
        for pipe, take in ((self._process.stdout, self._out), (self._process.stderr, self._err)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._open.add(pipe.fileno())
            self._loop.add_reader(pipe.fileno(), self._read, pipe.fileno(), take)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def terminate(self) -> None:
        """SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def _read(self, file: int, take: Callable[[bytes], None]) -> None:
        try:
            data = os.read(file, LONGEST)
        except BlockingIOError:
            return
        try:
            take(data)
        except Exception as error:  # what it tells cannot be understood, or acted on
            supervisor().failed(self._kind.part, error)
        if not data:
            self._loop.remove_reader(file)
            self._open.discard(file)
            if not self._open:
                self._reap(GRACE)

    def _out(self, data: bytes) -> None:
        if self._raw:
            if data:
                self._told(data)
            return
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-LONGEST:]
        for line in lines:
            self._told(line)

    def _err(self, data: bytes) -> None:
        for line in data.decode(errors="replace").splitlines():
            if not line.strip():
                continue
            self._last = visible(line.strip())[:200]
            self._lines += 1
            if self._lines <= SAID:
                log.warning(self._last, part=self._kind.part, pid=self.pid)

    def _reap(self, looks: int) -> None:
        """Its outputs end when it does; unless it has closed them, and goes on."""
        code = self._process.poll()
        if code is None:
            if looks == 0:
                self._process.kill()
            self._loop.call_later(REAP, self._reap, looks - 1)
            return
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()
        self._ended(code, _why(code, self._last))


def run(kind: ChildKind, source: bytes, patience: float) -> bytes:
    """What such a process makes of `source`, given on its standard input. Waits for it: call it in a thread.

    Raises:
        ChildFailed: it could not be started, or ended with an error.
        TimeoutError: it takes longer than `patience` seconds; it is ended.
    """
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command(kind), input=source, capture_output=True, timeout=patience, env=environment(), cwd="/",
            pass_fds=_kept(kind), start_new_session=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    except OSError as error:
        raise ChildFailed(_not_started(error)) from None
    if done.returncode:
        last = visible(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])[:200]
        raise ChildFailed(_why(done.returncode, last))
    return done.stdout


async def ask(program: Path, source: bytes, patience: float) -> int:
    """The exit status of another program, which reads `source` from its standard input.

    It and what it has started are ended where it takes longer than `patience` seconds, or nothing waits for it.

    Raises:
        ChildFailed: it cannot be started.
        TimeoutError: it took too long.
    """
    quiet = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            stdin=asyncio.subprocess.PIPE,
            stdout=quiet,
            stderr=quiet,
            env=environment(),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise ChildFailed(str(error.strerror)) from None
    try:
        async with asyncio.timeout(patience):
            await process.communicate(source)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return process.returncode or 0


def unreadable() -> str | None:
    """Why this process, with the rights that it has now, cannot start another Python; None where it can."""
    for path in (sys.executable, os.path.realpath(sys.executable), ROOT):
        if not os.access(path, os.R_OK | os.X_OK):
            return f"this user may not read the installation, {path}: nothing is signed, and previews are empty"
    return None


def _popen(
    kind: ChildKind, arguments: Sequence[str], files: Sequence[int], account: Account | None
) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(  # noqa: S603 - our own modules
            command(kind, arguments, account),
            stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment(), cwd="/",
            pass_fds=[*files, *_kept(kind)], start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise ChildFailed(_not_started(error)) from None


def _kept(kind: ChildKind) -> list[int]:
    return [] if kind.outlives else [_lifeline()]


@functools.cache
def _lifeline() -> int:
    """The end of a pipe whose other end is open here and nowhere else, until this process is gone."""
    reads, _ = os.pipe()
    return reads


def _search_path() -> list[str]:
    """Where this process finds modules, without the folders that are relative to where it stands."""
    try:
        here = str(Path.cwd())
    except OSError:  # it was removed
        here = ""
    return [ROOT, *(path for path in sys.path if Path(path).is_absolute() and path != here)]


def _not_started(error: OSError) -> str:
    return f"cannot be started: {error.strerror}{f': {error.filename}' if error.filename else ''}"


def _why(code: int, said: str) -> str:
    return f"has ended with {code}: {said}" if said and code else f"has ended with {code}"
