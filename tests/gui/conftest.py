"""The stage as a process of its own: NiceGUI has one application a process."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import argon2
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from tests.support.chromium import ARGUMENTS, CHROMIUM
from tests.support.program import free_port


@pytest.fixture
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords are hashed in a millisecond; the time that argon2 takes is its own affair."""
    quick = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(argon2, "PasswordHasher", lambda: quick)


class Stage:
    """A running console over scripted events."""

    def __init__(self, folder: Path, *options: str, port: int | None = None, program: str = "stage.py") -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        arguments = ["--data-dir", str(folder), "--www-ip", "127.0.0.1", "--www-port", str(self.port), *options]
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(program)), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n", self.process.communicate()

    def say(self, command: str) -> None:
        """Give the stage a command."""
        assert self.process.stdin
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def ask(self, command: str) -> str:
        """Give the stage a command, and return its answer."""
        self.say(command)
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def stop(self) -> str:
        """End it; what it wrote to the terminal."""
        with contextlib.suppress(BrokenPipeError):
            self.say("stop")
        return self.process.communicate(timeout=20)[1]


@pytest.fixture
def new_stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Starts stages, and stops them."""
    started: list[Stage] = []

    def start(*options: str, port: int | None = None) -> Stage:
        started.append(Stage(tmp_path, *options, port=port))
        return started[-1]

    yield start
    for stage in started:
        if stage.process.poll() is None:
            stage.stop()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A console with traffic and a past; the password is `secret`."""
    running = Stage(tmp_path_factory.mktemp("console"), "--www-password", "secret", "--server-id", "mx1.example")
    running.say("flow")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def running_stage() -> type[Stage]:
    """For stages of one's own."""
    return Stage


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _launched() -> AsyncIterator[Browser]:
    """One for all tests of a run: to start it takes a second. Tests that use it run on the loop of the session."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def chromium(_launched: Browser) -> AsyncIterator[Browser]:
    """A real headless Chromium; what a test opens in it is closed after it, and shares nothing with others."""
    yield _launched
    for context in list(_launched.contexts):
        await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(chromium: Browser) -> Callable[..., Awaitable[Page]]:
    """Opens a page of a console, logged in, in a browser of its own."""

    async def visit(stage: Stage, path: str = "/", width: int = 1440, height: int = 900, **options: Any) -> Page:
        context = await chromium.new_context(viewport={"width": width, "height": height}, **options)
        page = await context.new_page()
        await page.goto(stage.url + "/login?redirect_to=" + quote(path, safe=""))
        await page.fill("#password", "secret")
        await page.click("button[type=submit]")
        await page.wait_for_selector(".tile-value" if path.split("?")[0] == "/" else ".view .card")
        return page

    return visit
