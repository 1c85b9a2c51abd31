"""Wrong credentials beside right ones: how much later the right ones are let in.

Quiet and guessed-at moments alternate. What is measured is the time for which the program itself had the processor
between a request and its answer, with the processes that compute hashes where the request needs one (Linux: proc(5),
schedstat): all that can go before a right request goes before it there, and what else the machine does is not in it.
The guessers are a program of their own (`python -m tests.system.attack_logins`, with the ports as JSON).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import math
import os
import pathlib
import random
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.support.program import ROOT
from tests.system.attacked import OTHERS, PASSWORD, SECRET, USER, AttackedProgram, Figure

GUESSERS = 30  # of each kind
MOST = 0.1  # seconds that a right one may take longer
FIRST = "the first SMTP login of a user"
NICE = 5  # the guessers give way: what is measured is the program
ROUNDS = 3  # of quiet and guessed-at moments, at least


def logins(target: AttackedProgram, seconds: float) -> list[Figure]:
    """Tokens, sessions, the console's password and SMTP logins, old and new, each by itself."""
    others = itertools.cycle(range(OTHERS))
    with target.token() as token, target.operator() as operator, target.browser() as newcomer:
        right: dict[str, Callable[[], None]] = {
            "a token": lambda: _answers(token.get("/api/v1/lanes"), 200),
            "a console session": lambda: _answers(operator.get("/settings"), 200),
            "the console's password": lambda: _answers(newcomer.post("/login", data={"password": PASSWORD}), 303),
            "an SMTP login that was right before": lambda: _logs_in(target, USER, SECRET),
            FIRST: lambda: _logs_in(target, f"u{next(others)}", SECRET),
        }
        quiet: dict[str, list[float]] = {name: [] for name in right}
        beside: dict[str, list[float]] = {name: [] for name in right}
        guesses, end = 0, time.monotonic() + seconds
        for number in itertools.count():
            if number >= ROUNDS and time.monotonic() > end:
                break
            _sample(target, right, quiet, seconds / 2 / ROUNDS)
            guesses += _guessed_at(target, lambda: _sample(target, right, beside, seconds / 2 / ROUNDS))
    found = [_figure(name, quiet[name], beside[name]) for name in right]
    return [
        Figure(f"wrong credentials beside them, {3 * GUESSERS} guessers", f"{guesses} guesses", "some", guesses > 0),
        *found,
    ]


def _sample(
    target: AttackedProgram, right: dict[str, Callable[[], None]], taken: dict[str, list[float]], seconds: float
) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, act in right.items():
            before = _worked(target, name == FIRST)
            act()
            taken[name].append(_worked(target, name == FIRST) - before)
            time.sleep(0.02)


def _worked(target: AttackedProgram, with_children: bool) -> float:
    """Seconds for which the program has had the processor."""
    children = target.process.children(recursive=True) if with_children else []
    found = 0
    for process in (target.process, *children):
        for task in pathlib.Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # it has ended
                found += int(task.read_text().split()[0])
    return found / 1e9


def _figure(name: str, quiet: list[float], beside: list[float]) -> Figure:
    """The medians are what decides, and the 95th percentiles, by what they are later."""
    later = [_percentile(beside, part) - _percentile(quiet, part) for part in (0.5, 0.95)]
    parts = [f"{1000 * _percentile(taken, part):.0f}" for taken in (quiet, beside) for part in (0.5, 0.95)]
    figure = f"median {parts[0]} -> {parts[2]} ms, p95 {parts[1]} -> {parts[3]} ms ({len(beside)})"
    return Figure(f"{name}: quiet -> beside guessers", figure, "100 ms later", max(later) <= MOST)


def _percentile(taken: list[float], part: float) -> float:
    return statistics.median(taken) if part == 0.5 else sorted(taken)[min(len(taken) - 1, math.ceil(part * len(taken)))]


def _answers(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text[:200]


def _logs_in(target: AttackedProgram, user: str, password: str) -> None:
    target.smtp(user=user, password=password).close()


def _guessed_at(target: AttackedProgram, act: Callable[[], None]) -> int:
    """Do it while the guessers guess; how often they did."""
    command = [sys.executable, "-m", "tests.system.attack_logins", json.dumps(target.ports)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as guessers:
        assert guessers.stdout is not None
        assert guessers.stdin is not None
        assert guessers.stdout.readline() == "guessing\n"
        act()
        guessers.stdin.close()
        return int(guessers.stdout.readline())


class Guesser:
    """Gives wrong credentials, each another, from addresses of its own, as fast as they are answered."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._ports, self._dice = ports, random.Random()
        self._trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._trust.check_hostname, self._trust.verify_mode = False, ssl.CERT_NONE
        self.count, self._begun = 0, asyncio.Event()

    async def run(self) -> None:
        """Until standard input ends."""
        os.nice(NICE)
        work = [self._again(act, number) for number in range(GUESSERS) for act in (self._smtp, self._form, self._token)]
        tasks = [asyncio.ensure_future(one) for one in work]
        await self._begun.wait()
        print("guessing", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for task in tasks:
            task.cancel()
        print(self.count, flush=True)

    async def _again(self, act: Callable[[str], Any], number: int) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await act(f"127.77.{number % 3}.{number + 1}")
                self.count += 1
                self._begun.set()

    async def _open(self, name: str, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._ports[name], ssl=self._trust, local_addr=(address, 0))

    async def _smtp(self, address: str) -> None:
        reader, writer = await self._open("SMTPS", address)
        with contextlib.closing(writer):
            user = self._dice.choice((USER, f"u{self._dice.randrange(OTHERS)}", "nobody"))
            plain = base64.b64encode(f"\0{user}\0wrong{self._dice.random()}".encode())
            await reader.readline()
            writer.write(b"EHLO guesser\r\n")
            while (await reader.readline())[3:4] == b"-":
                pass
            writer.write(b"AUTH PLAIN " + plain + b"\r\n")
            await reader.readline()

    async def _form(self, address: str) -> None:
        body = f"password=wrong{self._dice.random()}".encode()
        kind = b"Content-Type: application/x-www-form-urlencoded\r\n"
        await self._ask(address, b"POST /login HTTP/1.1\r\n" + kind + b"Content-Length: %d" % len(body), body)

    async def _token(self, address: str) -> None:
        await self._ask(
            address, f"GET /metrics HTTP/1.1\r\nAuthorization: Bearer mr_{self._dice.random()}".encode(), b""
        )

    async def _ask(self, address: str, head: bytes, body: bytes) -> None:
        reader, writer = await self._open("HTTPS", address)
        with contextlib.closing(writer):
            writer.write(head + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n" + body)
            await reader.read(65536)


if __name__ == "__main__":
    asyncio.run(Guesser(json.loads(sys.argv[1])).run())
