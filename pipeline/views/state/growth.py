"""How the queue grows: its size over time, what comes in and goes out, and when it is empty at this rate.

Owner of: one sample each STEP seconds of the last hour, and each LONG seconds of the last day, 40 bytes each.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable

import msgspec

from pipeline.queues.contract import QueueFigures
from pipeline.views.state.pauses import span

STEP, LONG = 10, 60  # seconds
KEPT = {STEP: 360, LONG: 1440}  # samples
RATE = 60.0  # seconds that a rate is taken over, at least
STEADY = 0.05  # messages a second, below which nothing grows


class QueueSample(msgspec.Struct, frozen=True):
    """What the queue held at a moment (epoch seconds), and what had left it for good since the start."""

    time: float
    ready: int
    waiting: int
    parked: int
    in_memory: int
    left: int

    @property
    def size(self) -> int:
        """All that it held."""
        return self.ready + self.waiting + self.parked + self.in_memory


class Growth(msgspec.Struct, frozen=True):
    """A rate is a second; `empty`: seconds until it is, None where it does not shrink."""

    size: int
    into: float
    out: float
    empty: float | None

    def sentence(self) -> str:
        """In words."""
        if not self.size:
            return "The queue is empty."
        grows = self.into - self.out
        flow = f"{_rate(self.into)} come in, {_rate(self.out)} leave"
        if abs(grows) < STEADY:
            return f"It stays as it is: {flow}."
        if self.empty is None:
            return f"It grows by {_rate(grows)}: {flow}. At this rate it is never empty."
        return f"It shrinks by {_rate(-grows)}: {flow}. At this rate it is empty in {span(self.empty)}."


class QueueSizes:
    """The samples."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._samples = {step: collections.deque[QueueSample](maxlen=count) for step, count in KEPT.items()}

    def add(self, figures: QueueFigures, left: int) -> None:
        """So it is now; `left`: messages that have left for good since the start."""
        parked = sum(figures.parked.values())
        sample = QueueSample(self._clock(), figures.ready, figures.waiting, parked, figures.unsettled, left)
        for step, samples in self._samples.items():
            if not samples or sample.time - samples[-1].time >= step - 1:
                samples.append(sample)

    def over(self, step: int) -> list[QueueSample]:
        """The samples of each `step` seconds, the oldest first."""
        return list(self._samples[step])

    def growth(self) -> Growth | None:
        """How it grows now; None before there are two samples."""
        samples = self._samples[STEP]
        if len(samples) < 2:
            return None
        last = samples[-1]
        then = next((one for one in reversed(samples) if last.time - one.time >= RATE), samples[0])
        passed = last.time - then.time
        out, grows = (last.left - then.left) / passed, (last.size - then.size) / passed
        empty = last.size / -grows if grows < -STEADY else None
        return Growth(last.size, max(0.0, grows + out), out, empty)


def _rate(rate: float) -> str:
    return f"{rate:,.0f} a second" if rate >= 10 else f"{rate * 60:,.0f} a minute"
