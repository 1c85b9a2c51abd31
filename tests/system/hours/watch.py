"""The watch: what the running program says of itself, to balancers, to operators, and in its log."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field

import httpx

from tests.support.api import TOKEN
from tests.support.program import Program

PAUSE = 0.5  # seconds


@dataclass
class Said:
    """While something was wrong.

    Attributes:
        unready: what `/readyz` answered with 503.
        overview: faults of `/api/v1/status`, and the verdict of the Overview.
        lines: of the program's log.
        silent: how often neither answered.
    """

    unready: set[str] = field(default_factory=set)
    overview: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    silent: int = 0


class Watch:
    """Asks twice a second; a context manager."""

    def __init__(self, program: Program) -> None:
        self.program, self.said = program, Said()
        self._over, self._from = threading.Event(), len(program.output)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)
        self.read()

    def read(self) -> Said:
        """All until now."""
        self.said.lines = self.program.output[self._from :].splitlines()
        return self.said

    def heard(self, *words: str) -> bool:
        """Is one of these words anywhere in what was said?"""
        said = self.read()
        text = "\n".join([*said.unready, *said.overview, *said.lines]).lower()
        return any(word.lower() in text for word in words)

    def _run(self) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{self.program.www_port}", timeout=10) as client:
            while not self._over.wait(PAUSE):
                try:
                    self._ask(client)
                except httpx.HTTPError:
                    self.said.silent += 1

    def _ask(self, client: httpx.Client) -> None:
        answer = client.get("/readyz")
        if answer.status_code != 200:
            self.said.unready.add(answer.text.strip())
        status = client.get("/api/v1/status", headers={"Authorization": f"Bearer {TOKEN}"}).raise_for_status().json()
        self.said.overview |= {*status["faults"], *status["warnings"]}
        if status["verdict"]["level"] != "good":
            self.said.overview.add(f"{status['verdict']['word']}: {status['verdict']['text']}")


def well(program: Program) -> bool:
    """Is it ready, and without any fault?"""
    base = f"http://127.0.0.1:{program.www_port}"
    with contextlib.suppress(httpx.HTTPError, KeyError):
        status = httpx.get(f"{base}/api/v1/status", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10).json()
        return httpx.get(f"{base}/readyz", timeout=10).status_code == 200 and not status["faults"]
    return False


def waited(holds: object, patience: float) -> float | None:
    """Seconds until it holds; None where it does not in time."""
    begin = time.monotonic()
    assert callable(holds)
    while not holds():
        if time.monotonic() - begin > patience:
            return None
        time.sleep(0.1)
    return time.monotonic() - begin
