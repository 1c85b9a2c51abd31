"""The SMTP dialogue of all workers: a watcher of the head is one in each of them, and gets the lines of all.

Owner of: the watchers, and the bodies that workers have sent along. Bounds: `rate` lines a second of each worker for a
watcher, BODIES bodies, of which a worker sends the first SENT bytes.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import reactivex as rx
from reactivex import Observable, abc
from reactivex.disposable import Disposable

from pipeline.machine.machine import Machine
from pipeline.process.supervisor import supervisor
from pipeline.smtp.watch import BODIES, RATE, Caught, DialogueWatch, Line, Only, SkippedLines
from pipeline.workers.crew import Crew

SENT = 65_536
APART = 2**40  # numbers of connections and bodies of one worker


class HeadDialogue(DialogueWatch):
    """The dialogue of all workers."""

    def __init__(self, crew: Crew, scheduler: abc.SchedulerBase) -> None:
        super().__init__((), scheduler)
        self._crew = crew
        self._numbers = itertools.count(1)
        self._observers: dict[int, abc.ObserverBase[Line | SkippedLines]] = {}
        crew.line, crew.body = self._heard, self._caught

    def watch(self, only: Only | None = None, rate: int = RATE) -> Observable[Line | SkippedLines]:
        """The lines that are asked for, until disposal."""

        def subscribe(
            observer: abc.ObserverBase[Line | SkippedLines], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            number = next(self._numbers)
            self._observers[number] = observer
            self._crew.ask(number, "watch", number, msgspec.to_builtins(only or Only()), rate)
            return Disposable(lambda: self._gone(number))

        return rx.create(subscribe)

    def _gone(self, number: int) -> None:
        self._observers.pop(number, None)
        self._crew.ask_no_more(number, "leave", number)
        if not self._observers:
            self._bodies.clear()

    def _heard(self, worker: int, number: int, said: dict[str, Any]) -> None:
        observer = self._observers.get(number)
        if observer is None:
            return
        if "connection" not in said:
            observer.on_next(msgspec.convert(said, SkippedLines))
            return
        line = msgspec.convert(said, Line)
        caught = None if line.caught is None else line.caught + worker * APART
        observer.on_next(msgspec.structs.replace(line, connection=line.connection + worker * APART, caught=caught))

    def _caught(self, worker: int, number: int, source: bytes, size: int) -> None:
        self._bodies[number + worker * APART] = Caught(source, size)
        if len(self._bodies) > BODIES:
            self._bodies.popitem(last=False)


class WorkerDialogue:
    """The watchers of the head, in a worker.

    Args:
        machine: whose dialogue.
        say: tells the head.
    """

    def __init__(self, machine: Machine, say: Callable[..., None]) -> None:
        self._dialogue, self._say = machine.dialogue, say
        self._watching: dict[int, abc.DisposableBase] = {}

    def watch(self, number: int, only: dict[str, str], rate: int) -> None:
        """One has come."""
        self.leave(number)
        lines = self._dialogue.watch(msgspec.convert(only, Only), rate)
        tell = supervisor().listen(lines, lambda line: self._tell(number, line), "dialogue", grave=False)
        self._watching[number] = tell

    def leave(self, number: int) -> None:
        """One has gone."""
        if (watching := self._watching.pop(number, None)) is not None:
            watching.dispose()

    def _tell(self, number: int, line: Line | SkippedLines) -> None:
        self._say("line", number, msgspec.to_builtins(line))
        if isinstance(line, Line) and line.caught is not None:
            asyncio.get_running_loop().call_soon(self._send_body, line.caught)  # it is kept once its line was told

    def _send_body(self, number: int) -> None:
        if (body := self._dialogue.caught(number)) is not None:
            self._say("body", number, body.source[:SENT], body.size)
