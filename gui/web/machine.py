"""What the console needs of the machine: its streams and figures, and nothing of how it works."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from reactivex import Observable

from operators.deliveries.events import Event
from pipeline.machine.health import Health
from pipeline.telemetry.telemetry import Telemetry
from settings import Settings


class ShownMachine(Protocol):
    """The running machine, as the console sees it."""

    @property
    def settings(self) -> Settings:
        """The configuration in force."""

    @property
    def events(self) -> Observable[Event]:
        """Everything that happens, as it happens."""

    @property
    def telemetry(self) -> Telemetry:
        """The counters."""

    @property
    def faults(self) -> Sequence[str]:
        """What is wrong with the disk or the broker now, a line each."""

    @property
    def health(self) -> Health:
        """The states in which mail is not taken or does not leave, and others that an operator must know of."""

    @property
    def queue(self) -> Any:
        """The queue contract; `figures()` answers while the queue does."""
