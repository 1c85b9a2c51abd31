"""The book of alerts: what holds and was told, what waits to be told, and what was, in `alerts.json` in `data-dir`.

Read at the start, written whole or not at all, mode 600. What cannot be read is begun anew, and the log says so.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from pipeline.alerts.outgoing import WaitingNotice
from pipeline.alerts.states import AlertNotice, AlertState

FILE = "alerts.json"
KEPT = 200  # notices that were told


class ToldNotice(msgspec.Struct, frozen=True):
    """A notice, and what became of it on each way: `arrived`, or why not; empty while it is under way."""

    notice: AlertNotice
    ways: dict[str, str] = {}


class AlertPages(msgspec.Struct):
    """What is kept. `members`: instances that were there, and when they were last; epoch seconds."""

    states: list[AlertState] = []
    waiting: list[WaitingNotice] = []
    told: list[ToldNotice] = []
    members: dict[str, float] = {}


class AlertBook:
    """The file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._written = b""

    def read(self) -> AlertPages:
        """What it holds. Raises `ValueError` or `OSError` with why it cannot be read."""
        if not self.path.exists():
            return AlertPages()
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=AlertPages)
        except msgspec.DecodeError as error:
            raise ValueError(f"{self.path}: {error}; alerts begin anew") from None

    def changed(self, pages: AlertPages) -> bytes | None:
        """What is to be written; None where that is what the file has."""
        made = msgspec.json.encode(pages)
        return None if made == self._written else made

    def write(self, made: bytes) -> None:
        """In a thread. Raises OSError."""
        part = self.path.with_name(f".{FILE}.part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(made)
        part.replace(self.path)
        self._written = made
