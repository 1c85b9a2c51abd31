"""Guards a custom operator: whatever it does, no message is lost and no stream ends.

Owner of: the deliveries that are inside the operator; at most the queue's credit. An exception that ends its stream
defers the delivery that it was about, and the operator is subscribed anew for the next one. What it swallows goes
back to the queue after PATIENCE, what it hands on twice goes on once. Behind the attempt (`live.late`) deliveries go
on as they came in all these cases: what has been sent must not be sent again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import reactivex as rx
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SerialDisposable
from reactivex.subject import Subject

from operators.custom.live import Function, Live
from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import Next, Outcome, deferred, postponed
from operators.stages.stage import Stage

PATIENCE = 300.0  # seconds that a delivery may stay inside
PUT_OFF = 60.0  # seconds until a message comes back that was inside when it should not
OPENING = 0.02  # seconds that an operator has to subscribe
ONCE_A = 60.0  # seconds in which the same is told once

Tell = Callable[[str], None]


def custom(function: Function, live: Live, tell: Tell, patience: float = PATIENCE) -> Stage:
    """A custom operator as a stage. Deliveries that have come to their end pass beside it, but for `live.late`.

    Costs 3 microseconds a delivery.

    Args:
        function: from the deliveries and `live` to the deliveries.
        live: what it gets; its `name` is in every outcome and report.
        tell: told in a line what the operator does wrong, once a minute.
        patience: seconds that a delivery may stay inside.
    """

    def operator(source: Observable[Delivery]) -> Observable[Delivery]:
        def subscribe(
            observer: abc.ObserverBase[Delivery], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            guard = _Guard(function, live, tell, patience, observer)
            taking = source.subscribe(guard.take, observer.on_error, guard.complete, scheduler=scheduler)
            return CompositeDisposable(taking, guard.pipe, guard.timer)

        return rx.create(subscribe)

    return operator


class _Guard:
    """One subscription of a custom operator."""

    def __init__(
        self, function: Function, live: Live, tell: Tell, patience: float, observer: abc.ObserverBase[Delivery]
    ) -> None:
        self._function, self._live, self._patience, self._observer = function, live, patience, observer
        self._complaints = _Complaints(live, tell)
        self._inside: dict[int, tuple[Delivery, float]] = {}  # by id(lease), oldest first; and since when
        self._current: Delivery | None = None  # the one that it is being given right now
        self._input: Subject[Delivery] | None = None  # of the pipe; None: to be made for the next delivery
        self._waiting: list[Delivery] | None = None  # until the pipe is open
        self._watching = self._completed = False
        self._thread = threading.get_ident()
        self.pipe, self.timer = SerialDisposable(), SerialDisposable()

    # -- in -----------------------------------------------------------------------------------------------------------

    def take(self, delivery: Delivery) -> None:
        if delivery.outcome is not None and not self._live.late:
            self._observer.on_next(delivery)
        elif self._waiting is not None:
            self._waiting.append(delivery)
        elif self._input is None:
            self._waiting = [delivery]
            self._open()
        else:
            self._give(delivery, self._input)

    def _give(self, delivery: Delivery, pipe: Subject[Delivery]) -> None:
        self._inside[id(delivery.lease)] = delivery, self._live.clock()
        before, self._current = self._current, delivery
        try:
            pipe.on_next(delivery)
        except Exception as error:
            self._broken(error)
        finally:
            self._current = before
        if self._inside and not self._watching:
            self._watch(self._patience)

    def _open(self) -> None:
        """Subscribe the operator. What comes meanwhile waits: RxPY's `merge` and others subscribe by the scheduler."""
        self._input = source = Subject[Delivery]()
        try:
            result = self._function(source, self._live)
            if not isinstance(result, Observable):
                raise TypeError(f"returned {type(result).__name__}, which is no Observable")
            subscribed = result.subscribe(self._hand_on, self._broken, self._finished, scheduler=self._live.scheduler)
        except Exception as error:
            self._broken(error)
            return
        if self._input is source:
            self.pipe.disposable = subscribed
        self._live.scheduler.schedule_relative(OPENING, lambda *_: self._opened(source))

    def _opened(self, source: Subject[Delivery]) -> None:
        if self._input is not source:
            return
        waiting, self._waiting = self._waiting or [], None
        for delivery in waiting:
            self.take(delivery)  # by now another may have broken it
        if self._completed and self._input is source:
            source.on_completed()

    def complete(self) -> None:
        """No more will come: what is inside is waited for."""
        self._completed = True
        if self._input is not None and self._waiting is None:
            self._input.on_completed()
        self._end()

    # -- out ----------------------------------------------------------------------------------------------------------

    def _hand_on(self, delivery: Delivery) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError(f"{self._live.name} hands on from a thread; give its operators live.scheduler")
        if not isinstance(delivery, Delivery):
            self._broken(TypeError(f"handed on {type(delivery).__name__}, which is no Delivery"))
            return
        before, _ = self._inside.pop(id(delivery.lease), (None, 0.0))
        if before is None:
            self._complaints.add("handed on a delivery twice, or too late, or none of its own; it is left out")
            return
        self._observer.on_next(self._checked(before, delivery))
        self._end()

    def _checked(self, before: Delivery, after: Delivery) -> Delivery:
        """What the machine's own books rest on stays as it was."""
        if self._live.late and (after.outcome is None or (_sent(before) and not _sent(after))):
            self._complaints.add("took back how an attempt had ended; it stands")
            after = after.but(outcome=before.outcome)
        if before.slot is not None and (after.slot is not before.slot or after.lane != before.lane):
            self._complaints.add("changed the lane of a delivery that has its connection; it stands")
            after = after.but(slot=before.slot, lane=before.lane, ip=before.ip)
        return after

    # -- what goes wrong ----------------------------------------------------------------------------------------------

    def _broken(self, error: Exception) -> None:
        """The operator's stream has ended with an exception. Others that were inside come back soon."""
        name, inside = self._live.name, self._emptied()
        current = next((delivery for delivery in inside if delivery is self._current), None)
        if not inside:
            self._complaints.add(f"failed between two deliveries: {type(error).__name__}: {error}")
        for delivery in inside:
            if delivery is current or current is None:  # where it is unknown which delivery failed, each of them did
                self._live.report(name, delivery, error)
                self._release(delivery, deferred("process", "error", f"{name}: {type(error).__name__}"))
            else:
                self._release(delivery, self._put_off("failed over another message"))

    def _finished(self) -> None:
        """The operator's stream has ended by itself."""
        if not self._completed:
            self._complaints.add("ended its stream; it is started anew")
        for delivery in self._emptied():
            self._release(delivery, self._put_off("ended its stream"))
        self._end()

    def _watch(self, seconds: float) -> None:
        self._watching = True
        self.timer.disposable = self._live.scheduler.schedule_relative(seconds, lambda *_: self._sweep())

    def _sweep(self) -> None:
        """Let go of what has been inside for too long."""
        self._watching = False
        now = self._live.clock()
        overdue = [key for key, (_, since) in self._inside.items() if now - since >= self._patience]
        for delivery in [self._inside.pop(key)[0] for key in overdue]:
            self._complaints.add(f"did not hand a delivery on within {self._patience:.0f} seconds")
            self._release(delivery, self._put_off("did not hand it on"))
        self._end()
        if self._inside and not self._watching:
            _, oldest = next(iter(self._inside.values()))
            self._watch(min(max(oldest + self._patience - now, 1.0), self._patience))  # clocks may be set

    def _emptied(self) -> list[Delivery]:
        """Without the operator's stream until the next delivery; and what was inside."""
        inside = [delivery for delivery, _ in self._inside.values()] + (self._waiting or [])
        self._inside.clear()
        self._input, self._waiting, self.pipe.disposable = None, None, Disposable()
        return inside

    def _put_off(self, why: str) -> Outcome:
        return postponed(self._live.clock() + PUT_OFF, f"{self._live.name} {why}")

    def _release(self, delivery: Delivery, outcome: Outcome) -> None:
        self._observer.on_next(delivery if self._live.late else delivery.ended(outcome))

    def _end(self) -> None:
        if self._completed and not self._inside and not self._waiting:
            self._observer.on_completed()


class _Complaints:
    """Says what is wrong once, then once a minute how often it was."""

    def __init__(self, live: Live, tell: Tell) -> None:
        self._live, self._tell = live, tell
        self._more: dict[str, int] = {}

    def add(self, text: str) -> None:
        if text in self._more:
            self._more[text] += 1
            return
        self._more[text] = 0
        self._tell(f"{self._live.name} {text}")
        self._live.scheduler.schedule_relative(ONCE_A, lambda *_: self._sum_up(text))

    def _sum_up(self, text: str) -> None:
        if more := self._more.pop(text):
            self._tell(f"{self._live.name} {text} ({more} times more)")


def _sent(delivery: Delivery) -> bool:
    return delivery.outcome is not None and delivery.outcome.next is Next.DELIVERED
