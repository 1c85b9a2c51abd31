"""The supervisor: everything that runs in the background, and what goes wrong there.

Nothing waits for the result of these tasks, threads, subscriptions and timers, so an exception there would be lost.
Each is started through a door of this module: `spawn` and `keep` for tasks, `thread` for threads, `listen` for
subscriptions, `guarded` for any other callback. An error is counted by its part, logged with its traceback, and
logged again once a minute with the count while it goes on. It stands in `faults` until nothing has failed for STANDS
seconds; where the part has ended for good it stands until the program ends, which `give_up` asks for.

Errors that pass by these doors are heard by the event loop's exception handler, `threading.excepthook` and
`sys.unraisablehook` (`hear`). Errors of one connection's protocol count and stand too, but a stranger must not make
the program unready by them: only `grave` ones do that.

Each event loop has one supervisor, found by `supervisor()`. Bound: PARTS names; further ones count as "other".
All methods can be called from any thread, and none raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import structlog
from reactivex import Observable, abc
from reactivex.subject import Subject

from operators.deliveries.events import Event, Fault, Notice
from pipeline.log.text import masked, visible

T = TypeVar("T")
P = ParamSpec("P")

PARTS = 100
OTHER = "other"
LIBRARY = "library"  # the part of tasks that are not ours
STANDS = 60.0  # seconds after its last error for which a part's fault stands, and between two lines about it
FIRST, LAST = 0.5, 30.0  # seconds before a part that failed is started again, at first and at most
LONGEST = 300  # characters of an error's text

log = structlog.get_logger("background")


class Fanout(Subject[T]):
    """A subject whose observers do not affect each other: one that raises is a failure of the part `observer`, which
    neither the others nor the source of the value see.
    """

    def __init__(self, overseer: Supervisor) -> None:
        super().__init__()
        self._overseer = overseer

    def _on_next_core(self, value: T) -> None:
        with self.lock:
            observers = self.observers.copy()
        for observer in observers:
            try:
                observer.on_next(value)
            except Exception as error:
                self._overseer.failed("observer", error)


class _Part:
    """What went wrong with one part."""

    __slots__ = ("count", "ended", "grave", "last", "said", "text", "unsaid")

    def __init__(self) -> None:
        self.count = 0  # since the start of the program
        self.unsaid = 0  # since the last line about it
        self.said = float("-inf")
        self.last = float("-inf")  # loop time of the last error
        self.text = ""
        self.ended = False  # for good
        self.grave = False


class Supervisor:
    """What runs in the background of one event loop.

    Args:
        loop: the loop.

    Attributes:
        report: takes a `Fault` or a `Notice` for each line that is logged.
        stopping: set where the program is to end: by a signal, or because it cannot go on; `reason` says why then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._parts: dict[str, _Part] = {}
        self._tasks: dict[asyncio.Task[Any], bool] = {}  # and which are grave; the loop holds only weak references
        self.report: Callable[[Event], None] = lambda event: None
        self.stopping = asyncio.Event()
        self.lost_lines: Callable[[], int] = lambda: 0  # of the program log
        self._conditions: dict[str, tuple[Callable[[], str | None], bool]] = {}
        self._standing: dict[str, str] = {}  # conditions that were said
        self.reason = ""

    # -- the doors ------------------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, T], part: str, *, grave: bool = True) -> asyncio.Task[T]:
        """Run a coroutine that nothing waits for; its exception is a failure of that part, `grave` as in `failed`."""
        task = self._loop.create_task(work, name=part)
        self._tasks[task] = grave
        task.add_done_callback(self._done)
        return task

    def keep(self, make: Callable[[], Coroutine[Any, Any, None]], part: str) -> asyncio.Task[None]:
        """Run a coroutine, and a new one after a growing pause where it raises; cancel the task to end it."""
        return self.spawn(self._kept(make, part), part)

    def thread(self, target: Callable[[], None], part: str) -> threading.Thread:
        """A daemon thread, not started yet. An exception ends it, and the part for good."""

        def run() -> None:
            try:
                target()
            except Exception as error:
                self.failed(part, error, ended=True)

        return threading.Thread(target=run, name=part, daemon=True)

    def listen(
        self,
        source: Observable[T],
        act: Callable[[T], None],
        part: str,
        *,
        grave: bool = True,
        scheduler: abc.SchedulerBase | None = None,
    ) -> abc.DisposableBase:
        """Subscribe for good: where `act` raises, the subscription goes on; where the source fails, the part ends."""
        ended = partial(self.failed, part, ended=True, grave=grave)
        return source.subscribe(self.guarded(act, part, grave=grave), ended, scheduler=scheduler)

    def guarded(self, act: Callable[P, Any], part: str, *, grave: bool = True) -> Callable[P, None]:
        """The same call, for a timer or a reader: its exception is a failure of that part, and goes no further."""

        @wraps(act)
        def guard(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                act(*args, **kwargs)
            except Exception as error:
                self.failed(part, error, grave=grave)

        return guard

    # -- what goes wrong --------------------------------------------------------------------------------------------

    def failed(self, part: str, error: BaseException, *, ended: bool = False, grave: bool = True) -> None:
        """Something of this part failed.

        Args:
            part: a short fixed name, never text from outside: a label of `/metrics`.
            error: the exception.
            ended: the part does nothing any more, until the program is started again.
            grave: mail may be concerned, so `/readyz` says no.
        """
        if threading.get_ident() == self._thread:
            self._failed(part, error, ended, grave)
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: the program ends
            self._loop.call_soon_threadsafe(self._failed, part, error, ended, grave)

    def condition(self, part: str, ask: Callable[[], str | None], *, grave: bool = False) -> None:
        """This part knows itself what is wrong with it now: `ask` says it, or None; `grave` as in `failed`."""
        self._conditions[part] = ask, grave

    def give_up(self, reason: str) -> None:
        """The program cannot go on: it stops in order, and ends with this line."""
        if not self.stopping.is_set():
            self.reason = visible(masked(reason))[:LONGEST]
            self.stopping.set()

    @property
    def errors(self) -> dict[str, int]:
        """How many there were, by part, since the start of the program."""
        return {name: part.count for name, part in self._parts.items()}

    @property
    def faults(self) -> list[str]:
        """What is wrong now, a line each; those that have ended for good first."""
        now = self._loop.time()
        standing = [(name, part) for name, part in self._parts.items() if _stands(part, now)]
        lines = [_line(name, part) for name, part in sorted(standing, key=lambda pair: not pair[1].ended)]
        return lines + [f"{name}: {text}" for name, text in self._asked().items()]

    @property
    def grave(self) -> bool:
        """Does something stand that may concern mail?"""
        now = self._loop.time()
        failed = any(part.grave for part in self._parts.values() if _stands(part, now))
        return failed or any(self._conditions[name][1] for name in self._asked())

    def sweep(self) -> None:
        """Called each second: say what went on failing, and what is over."""
        now = self._loop.time()
        for name, part in self._parts.items():
            if part.unsaid and now >= part.said + STANDS:
                self._say(name, part, None)
            elif part.text and not _stands(part, now):
                part.text, part.grave = "", False
                self._tell(Notice(time=time.time(), kind="background", text=f"{name}: no error for {STANDS:.0f} s"))
        self._say_conditions()

    def _asked(self) -> dict[str, str]:
        """The conditions that hold."""
        found = {}
        for name, (ask, _) in self._conditions.items():
            try:
                if text := ask():
                    found[name] = text
            except Exception as error:
                self.failed(name, error)
        return found

    def _say_conditions(self) -> None:
        before, self._standing = self._standing, self._asked()
        for name in self._standing.keys() - before.keys():
            with contextlib.suppress(Exception):
                log.error(self._standing[name], part=name)
            self._tell(Fault(time=time.time(), where=name, detail=self._standing[name]))
        for name in before.keys() - self._standing.keys():
            self._tell(Notice(time=time.time(), kind="background", text=f"{name}: all is well again"))

    def _failed(self, name: str, error: BaseException, ended: bool, grave: bool) -> None:
        name = name if name in self._parts or len(self._parts) < PARTS else OTHER
        part = self._parts.setdefault(name, _Part())
        part.count += 1
        part.unsaid += 1
        part.last = self._loop.time()
        part.text = _described(error)
        part.ended |= ended
        part.grave |= grave
        if ended or self._loop.time() >= part.said + STANDS:
            self._say(name, part, error)

    def _say(self, name: str, part: _Part, error: BaseException | None) -> None:
        count, part.unsaid, part.said = part.unsaid, 0, self._loop.time()
        with contextlib.suppress(Exception):  # the log counts what it could not write
            log.error("failed in the background", part=name, error=part.text, times=count, exc_info=error)
        self._tell(Fault(time=time.time(), where=name, detail=_line(name, part)))

    def _tell(self, event: Event) -> None:
        try:
            self.report(event)
        except Exception:
            with contextlib.suppress(Exception):
                log.exception("a fault could not be reported")

    def _done(self, task: asyncio.Task[Any]) -> None:
        grave = self._tasks.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed(task.get_name(), error, grave=grave)

    async def _kept(self, make: Callable[[], Coroutine[Any, Any, None]], part: str) -> None:
        pause = FIRST
        while True:
            began = self._loop.time()
            try:
                return await make()
            except Exception as error:
                self.failed(part, error)
            pause = FIRST if self._loop.time() - began > STANDS else pause
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST)

    # -- what passes the doors --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def hear(self) -> Iterator[Supervisor]:
        """Take what would only be printed: the loop's, the threads' and the interpreter's own handlers."""
        global _heard
        before = self._loop.get_exception_handler(), threading.excepthook, sys.unraisablehook
        _heard = self
        self._loop.set_exception_handler(lambda _, context: self._loop_failed(context))
        threading.excepthook = self._thread_failed
        sys.unraisablehook = self._unraisable
        try:
            yield self
        finally:
            self._loop.set_exception_handler(before[0])
            threading.excepthook, sys.unraisablehook = before[1:]
            _heard = None

    def _loop_failed(self, context: dict[str, Any]) -> None:
        error = context.get("exception") or RuntimeError(str(context.get("message", "unknown")))
        if "transport" in context or "protocol" in context:
            self.failed("connection", error, grave=False)
            return
        name = _name(context.get("task") or context.get("future"))
        self.failed(name or "loop", error, grave=name != LIBRARY)

    def _thread_failed(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            self.failed("thread", args.exc_value)

    def _unraisable(self, args: sys.UnraisableHookArgs) -> None:
        if args.exc_value is not None:
            self.failed("interpreter", args.exc_value, grave=False)


def supervisor(loop: asyncio.AbstractEventLoop | None = None) -> Supervisor:
    """The one of this event loop, or of the running one; made at the first call, on that loop."""
    loop = loop or asyncio.get_running_loop()
    found = _supervisors.get(loop)
    if found is None:
        found = _supervisors[loop] = Supervisor(loop)
    return found


def spawn(work: Coroutine[Any, Any, T], part: str, *, grave: bool = True) -> asyncio.Task[T]:
    """`Supervisor.spawn` on the running loop."""
    return supervisor().spawn(work, part, grave=grave)


def failed(part: str, error: BaseException, *, grave: bool = True) -> None:
    """`Supervisor.failed`, from a thread of the program that has no loop."""
    if _heard is not None:
        _heard.failed(part, error, grave=grave)


def awaited(work: Coroutine[Any, Any, T], part: str) -> asyncio.Task[T]:
    """A task whose caller takes its result and its error; an error that is not taken is heard by `hear`."""
    return asyncio.get_running_loop().create_task(work, name=part)


_heard: Supervisor | None = None  # the program's
_supervisors: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Supervisor] = weakref.WeakKeyDictionary()


def _name(future: object) -> str:
    """A task's part; those that libraries start have no names of their own."""
    if not isinstance(future, asyncio.Task):
        return ""
    return LIBRARY if re.fullmatch(r"Task-\d+", future.get_name()) else future.get_name()


def _stands(part: _Part, now: float) -> bool:
    return part.ended or now < part.last + STANDS


def _described(error: BaseException) -> str:
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # its own __str__ fails
        text = type(error).__name__
    return visible(masked(text[: 2 * LONGEST]))[:LONGEST]


def _line(name: str, part: _Part) -> str:
    end = ", and has ended for good" if part.ended else ""
    often = f" ({part.count:,} times)" if part.count > 1 else ""
    return f"{name} failed in the background{often}: {part.text}{end}"
