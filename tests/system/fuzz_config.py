"""Odd configurations, thousands of them, drawn from a seed: files, environments and command lines, of keys and of junk.

    python -m tests.system.fuzz --only config

`mailrace config` is run with each, in a process of its own: it ends with 0, or with 2 and one line for each mistake. No
traceback, no secret, nothing that a terminal would obey, and no case that takes long or keeps memory.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import resource
import signal
import sys
import time
import traceback
from typing import NamedTuple, NoReturn

import mailrace
from settings.config.keys import FIELDS
from settings.config.mailerq import KEYS as FOREIGN
from tests.system.progress import Progress

PATIENCE = 20  # seconds
MEMORY = 1_000_000_000  # octets that a case may have
SECRET = "S3cretOfTheTests"
NAMES = tuple(name.replace("_", "-") for name in FIELDS)
SECRETS = tuple(name for name in NAMES if "Secret" in str(FIELDS[name.replace("-", "_")].annotation))
VALUES = (
    "", " ", "0", "1", "-1", "65536", "99999999999999999999", "1e9", "1e400", "nan", "inf", "0x10", "yes", "no", "true",
    "off", "1s", "5m", "1 h", "10MB", "10TB", "1KiB", "-1s", "1..2", "127.0.0.1", "::1", "0.0.0.0", "300.1.1.1",
    "127.0.0.1:25", "localhost:0", "host:99999", "10.0.0.0/8", "10.0.0.0/99", "10.0.0.0/8;::/0", ";", ",", ",,", ":",
    "a,b,c", "2525,2525", "25;26", "amqp://guest:guest@localhost/", "amqp://", "amqp://[", "amqps://x:y@z:99999/%2f",
    "sqlite:///x.db", "sqlite://", "postgresql://u:p@h/d", "mysql://", "x://y", "http://[", "https://x/y", "file://x",
    "file://", "exec:///bin/true", "exec://x", "hardcoded://a:b", "hardcoded://", "hardcoded://a", "/", "/dev/null",
    "/none", "~", "..", "x" * 5000, "\u00fc\u20ac\U0001f600", "\u202e", "\x1b[31m", "%s", "%(x)s", "{0}", "{x}", "$x",
    "`id`", "'", '"', "\\", "ALL:!aNULL", "@SECLEVEL=0", "TLSv1.3", "module:function@stage", "a:b", "a:b@c", "[a-z",
    "(a+)+$", "*", "mx1.example", "-", "--", "=", "#", "null", "None", "1,5,10", "1m,5m,1h", "embedded", "\u0661",
)  # fmt: skip
JUNK = (
    "", "#", "# www-port: 1", ":", "::", "www-port", "www-port=1", "www_port: 1", "WWW-PORT: 1", " www-port : 1 ",
    "www-password: ", "config-file: x", "include: /etc/passwd", "[section]", "---", "{}", "\u00fc: 1", "\x00: 1",
    "\x1b[2J: 1", "a" * 3000 + ": 1", "data-dir: ~", "www-port: 1 # x", "\ufeffwww-port: 1", "www-port:\t1\r", "\u2028",
)  # fmt: skip


class ConfigCase(NamedTuple):
    """A configuration: the arguments, the environment, and a file that `FILE` in them stands for."""

    arguments: list[str]
    environ: dict[str, str]
    file: bytes


class ConfigEnded(NamedTuple):
    """How a case ended: its exit code, or why there is none; what it said; seconds; most resident octets."""

    code: int | None
    out: bytes
    err: bytes
    took: float
    memory: int


class ConfigTally(NamedTuple):
    """What became of them; `memory`: the most that a case had, early and late."""

    cases: int
    accepted: int
    refused: int
    tracebacks: int
    wrong: list[str]
    memory: tuple[int, int]


class ConfigCases:
    """Draws them; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def draw(self) -> ConfigCase:
        """One."""
        dice, count = self._dice, lambda most: dice.randrange(most) if dice.random() < 0.7 else 0
        arguments = [text for _ in range(count(6)) for text in self._argument()]
        environ = dict(self._variable() for _ in range(count(5)))
        content = self._file() if dice.random() < 0.7 else b""
        if content or dice.random() < 0.05:
            arguments += ["--config-file", dice.choice(("FILE", "FILE", "FILE", "FILE", "/", "/none", ""))]
        return ConfigCase(arguments, environ, content)

    def _pair(self) -> tuple[str, str]:
        dice = self._dice
        if dice.random() < 0.15:
            return dice.choice(SECRETS), self._secret()
        name = (
            dice.choice(NAMES) if dice.random() < 0.9 else dice.choice((*FOREIGN, "www-prt", "x", "", "config", "help"))
        )
        return name, dice.choice(VALUES)

    def _secret(self) -> str:
        """Right for some of the keys, wrong for others, odd for all."""
        return self._dice.choice(
            (SECRET, f"hardcoded://joe:{SECRET}", f"hardcoded://{SECRET}", f"amqp://u:{SECRET}@h:99999/",
             f"{SECRET}\x1b[31m", f"postgresql://u:{SECRET}@h/d", f"http://u:{SECRET}@[",
             f"$argon2id${SECRET}", f"x{SECRET}\u00fc" * 50)
        )  # fmt: skip

    def _argument(self) -> list[str]:
        name, value = self._pair()
        value = value.replace("\0", "")
        form = self._dice.random()
        if form < 0.5:
            return [f"--{name}={value}"]
        if form < 0.9:
            return [f"--{name}", value]
        return self._dice.choice(([f"--{name}"], [f"-{name}"], [name], ["--"], ["--=x"], [f"--{name}=", value]))

    def _variable(self) -> tuple[str, str]:
        name, value = self._pair()
        odd = self._dice.choice(
            ("MAILRACE_", "MAILRACE_SERVICE_HOST", "MAILRACE_PORT", "MAILRACE_\u00fc", "mailrace_www_port")
        )
        key = f"MAILRACE_{name.replace('-', '_').upper()}" if self._dice.random() < 0.95 else odd
        return key, value.replace("\0", "")

    def _file(self) -> bytes:
        dice = self._dice
        if dice.random() < 0.05:
            return dice.choice(
                (dice.randbytes(500), b"\0" * 1000, b"x" * 1_100_000, b"a: b\n" * 50_000, b"\xff\xfea\0")
            )
        lines = [
            dice.choice(JUNK) if dice.random() < 0.15 else ": ".join(self._pair()) for _ in range(dice.randrange(12))
        ]
        return dice.choice(("\n", "\r\n", "\n", "\r")).join(lines).encode()


def run(folder: pathlib.Path, count: int, seed: int, progress: Progress | None = None) -> ConfigTally:
    """Go through them."""
    progress = progress or Progress()
    drawn, wrong, codes, memory, tracebacks = ConfigCases(seed), [], [], [], 0
    for number in range(count):
        progress(f"case {number} of {count}")
        case = drawn.draw()
        ended = _end(folder, case)
        codes.append(ended.code)
        memory.append(ended.memory)
        tracebacks += b"Traceback" in ended.err
        wrong += [f"{number}: {why}: {str(case)[:600]} {ended.err[-600:]!r}" for why in _wrong(ended)]
    part = max(1, count // 5)
    return ConfigTally(
        count, codes.count(0), codes.count(2), tracebacks, wrong, (max(memory[:part]), max(memory[part:] or memory))
    )


def _wrong(ended: ConfigEnded) -> list[str]:
    lines = ended.err.decode(errors="replace").removesuffix("\n").split("\n")
    mistakes = [line for line in lines if line and not line.startswith("mailrace: warning: ")]
    found = {
        f"exit code {ended.code}": ended.code not in (0, 2),
        "a traceback": b"Traceback" in ended.err,
        "a secret is said": SECRET.encode() in ended.err + ended.out,
        "it says what a terminal obeys": not all(line.isprintable() for line in lines),
        "a line of another form": not all(line.startswith("mailrace: ") for line in mistakes),
        "refused without a line": ended.code == 2 and not mistakes,
        "accepted with a mistake": ended.code == 0 and bool(mistakes),
        "too many lines": len(mistakes) > 60,
        "it took long": ended.took > PATIENCE / 2,
    }
    return [why for why, so in found.items() if so]


def _end(folder: pathlib.Path, case: ConfigCase) -> ConfigEnded:
    """Run it in a child; forked, since starting Python takes longer than all the rest."""
    (folder / "config.txt").write_bytes(case.file)
    begin, child = time.monotonic(), os.fork()
    if not child:
        _child(folder, case)
    _, status, usage = os.wait4(child, 0)
    code = None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    out, err = ((folder / name).read_bytes() for name in ("out", "err"))
    return ConfigEnded(code, out, err, time.monotonic() - begin, usage.ru_maxrss * 1024)


def _child(folder: pathlib.Path, case: ConfigCase) -> NoReturn:
    """`mailrace config`, with what stands in the case and nothing else."""
    code = 70
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        os.chdir(folder)
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        os.environ.clear()
        os.environ.update(case.environ)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        file = str(folder / "config.txt")
        code = mailrace.main(["config", *(file if text == "FILE" else text for text in case.arguments)])
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
