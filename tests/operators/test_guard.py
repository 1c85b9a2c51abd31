"""The guard around custom operators: whatever they do, no message is lost and no stream ends."""

from __future__ import annotations

import threading

import pytest
import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops
from reactivex.abc import DisposableBase, ObserverBase

from operators.custom.guard import OPENING, PATIENCE, PUT_OFF
from operators.custom.live import Live
from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import Next, Outcome, failed
from tests.support.live import Trial, delivery

SENT = Outcome(state="message", result="accepted", next=Next.DELIVERED, code=250)


def refuse_bad(one: Delivery) -> Delivery:
    if one.domain == "bad.example":
        raise ValueError("bad")
    return one


def mapped(source: Observable[Delivery], live: Live) -> Observable[Delivery]:
    return source.pipe(ops.map(refuse_bad))


def guarded(source: Observable[Delivery], live: Live) -> Observable[Delivery]:
    return source.pipe(live.stage(refuse_bad))


def swallowing(source: Observable[Delivery], live: Live) -> Observable[Delivery]:
    return source.pipe(ops.filter(lambda one: one.domain != "bad.example"))


def doubling(source: Observable[Delivery], live: Live) -> Observable[Delivery]:
    return source.pipe(ops.flat_map(lambda one: rx.of(one, one)))


def first_only(source: Observable[Delivery], live: Live) -> Observable[Delivery]:
    return source.pipe(ops.take(1))


def slow(source: Observable[Delivery], live: Live) -> Observable[Delivery]:
    return source.pipe(ops.delay(10.0, scheduler=live.scheduler), ops.map(refuse_bad))


def forgetful(source: Observable[Delivery], live: Live) -> Observable[Delivery]:
    return source.pipe(ops.map(lambda one: None))  # type: ignore[arg-type, return-value]


def unmade(source: Observable[Delivery], live: Live) -> Observable[Delivery]:
    raise KeyError("SHOP_URL")


def no_stream(source: Observable[Delivery], live: Live) -> Observable[Delivery]:
    return None  # type: ignore[return-value]


def raising_late(source: Observable[Delivery], live: Live) -> Observable[Delivery]:
    """Raises where RxPY does not catch it."""

    def subscribe(observer, scheduler=None):  # type: ignore[no-untyped-def]
        return source.subscribe(lambda one: observer.on_next(refuse_bad(one)))

    return rx.create(subscribe)


@pytest.mark.parametrize("function", [mapped, guarded, raising_late])
def test_an_exception_defers_the_one_delivery_and_the_next_goes_on(function) -> None:
    """It is reported, the outcome names the operator, and nothing ends."""
    trial, good, bad, next_one = Trial(function), delivery(), delivery("bad.example"), delivery()
    assert trial.give(good, bad, next_one)[::2] == [good, next_one]
    outcome = trial.outcome(bad)
    assert (outcome.state, outcome.result, outcome.next) == ("process", "error", Next.RETRY)
    assert outcome.description == "shop:mark@hold: ValueError"
    assert [str(error) for error in trial.reported] == ["bad"]
    assert trial.ends == []


@pytest.mark.parametrize(
    ("function", "description"),
    [
        (forgetful, "shop:mark@hold: TypeError"),
        (no_stream, "shop:mark@hold: TypeError"),
        (unmade, "shop:mark@hold: KeyError"),
    ],
)
def test_an_operator_that_never_works_defers_each_delivery(function, description: str) -> None:
    """A function that raises, that returns no stream, that hands on what is no delivery."""
    trial, one, other = Trial(function), delivery(), delivery()
    trial.give(one, other)
    assert trial.outcome(one).description == trial.outcome(other).description == description
    assert len(trial.reported) == 2 and trial.ends == []


def test_what_is_swallowed_goes_back_to_the_queue() -> None:
    """Not as an attempt, within the patience, and the operator is named."""
    trial, good, bad = Trial(swallowing), delivery(), delivery("bad.example")
    assert trial.give(good, bad) == [good]
    trial.wait(PATIENCE - 1)
    assert trial.out == [good]
    trial.wait(1)
    outcome = trial.outcome(bad)
    assert (outcome.next, outcome.until) == (Next.POSTPONE, pytest.approx(trial.now() + PUT_OFF, abs=1))
    assert trial.told == ["shop:mark@hold did not hand a delivery on within 300 seconds"]


def test_each_delivery_has_the_whole_patience() -> None:
    """One that came later goes back later."""
    trial, early, later = Trial(swallowing), delivery("bad.example"), delivery("bad.example")
    trial.give(early)
    trial.wait(100)
    trial.give(later)
    trial.wait(PATIENCE - 100)
    assert [one.lease for one in trial.out] == [early.lease]
    trial.wait(100)
    assert [one.lease for one in trial.out] == [early.lease, later.lease]


def test_what_is_handed_on_twice_goes_on_once() -> None:
    """Else it would be sent twice. It is said once, then once a minute how often."""
    trial, one, other = Trial(doubling), delivery(), delivery()
    assert trial.give(one, other) == [one, other]
    text = "shop:mark@hold handed on a delivery twice, or too late, or none of its own; it is left out"
    assert trial.told == [text]
    trial.wait(60)
    assert trial.told == [text, f"{text} (1 times more)"]


def test_what_comes_after_it_has_gone_back_is_left_out() -> None:
    """The queue may have lent it again by then."""
    gate: rx.Subject[None] = rx.Subject()
    trial = Trial(lambda source, live: source.pipe(ops.flat_map(lambda item: gate.pipe(ops.map(lambda _: item)))))
    one = delivery()
    trial.give(one)
    trial.wait(PATIENCE)
    gate.on_next(None)
    assert len(trial.out) == 1 and trial.outcome(one).next is Next.POSTPONE


def test_an_operator_that_ends_its_stream_is_started_anew() -> None:
    """`take`, `first` and the like are about one delivery at most, never about the machine."""
    trial, one, other = Trial(first_only), delivery(), delivery()
    assert trial.give(one, other) == [one, other]
    assert trial.told == ["shop:mark@hold ended its stream; it is started anew"]
    assert trial.ends == []


def test_when_nobody_can_say_which_delivery_failed_all_inside_are_deferred() -> None:
    """An exception on a timer; later deliveries go on."""
    trial, one, bad = Trial(slow), delivery(), delivery("bad.example")
    trial.give(bad, one)
    trial.wait(10)
    assert trial.outcome(bad).next is trial.outcome(one).next is Next.RETRY
    later = delivery()
    trial.give(later)
    trial.wait(10)
    assert trial.out[-1] is later


def test_those_that_were_inside_when_another_failed_come_back_soon() -> None:
    """They are not to blame: it is no attempt."""

    def half_slow(source: Observable[Delivery], live: Live) -> Observable[Delivery]:
        waits = source.pipe(ops.filter(lambda one: one.domain == "slow.example"), ops.delay(10.0, live.scheduler))
        return rx.merge(waits, source.pipe(ops.filter(lambda one: one.domain != "slow.example"), ops.map(refuse_bad)))

    trial, waits, bad = Trial(half_slow), delivery("slow.example"), delivery("bad.example")
    trial.give(waits, bad)
    assert trial.outcome(bad).next is Next.RETRY
    assert (trial.outcome(waits).next, trial.outcome(waits).until) == (
        Next.POSTPONE,
        pytest.approx(trial.now() + PUT_OFF, abs=1),
    )


def test_what_comes_while_an_operator_subscribes_waits_for_it() -> None:
    """RxPY's `merge` subscribes by the scheduler; the first delivery must not slip through before."""
    trial, one = Trial(lambda source, live: rx.merge(source, rx.never())), delivery()
    trial.input.on_next(one)
    assert trial.out == []
    trial.wait(OPENING)
    assert trial.out == [one]


def test_an_operator_that_works_on_a_thread_gets_no_further() -> None:
    """RxPY's timed operators do, without a scheduler; the machine has one thread. The delivery goes back."""
    errors: list[BaseException] = []

    def attempt(observer: ObserverBase[Delivery], one: Delivery) -> None:
        try:
            observer.on_next(one)
        except RuntimeError as error:
            errors.append(error)

    def threaded(source: Observable[Delivery], live: Live) -> Observable[Delivery]:
        def subscribe(observer: ObserverBase[Delivery], scheduler: object = None) -> DisposableBase:
            def hand_on(one: Delivery) -> None:
                thread = threading.Thread(target=attempt, args=(observer, one))
                thread.start()
                thread.join()

            return source.subscribe(hand_on)

        return rx.create(subscribe)

    trial, one = Trial(threaded), delivery()
    trial.give(one)
    trial.wait(PATIENCE)
    assert trial.outcome(one).next is Next.POSTPONE
    assert [str(error) for error in errors] == [
        "shop:mark@hold hands on from a thread; give its operators live.scheduler"
    ]


def test_deliveries_that_have_ended_pass_beside() -> None:
    """An operator before the attempt sees what may still be sent."""
    trial, ended = Trial(mapped), delivery("bad.example").ended(failed("dns", "error", "no such domain"))
    assert trial.give(ended) == [ended]


def test_when_the_source_completes_what_is_inside_is_waited_for() -> None:
    """Then the stream completes, once."""
    trial, one = Trial(slow), delivery()
    trial.give(one)
    trial.input.on_completed()
    assert trial.ends == []
    trial.wait(10)
    assert trial.out == [one] and trial.ends == ["completed"]


def test_a_slot_and_its_lane_cannot_be_changed() -> None:
    """The connection would be lost to the lane whose it is."""
    trial = Trial(lambda source, live: source.pipe(live.stage(lambda one: one.but(slot=None, lane="x/y", ip="x"))))
    one = delivery().but(slot=object(), lane="127.0.0.1/a.example", ip="127.0.0.1")
    (got,) = trial.give(one)
    assert (got.slot, got.lane, got.ip) == (one.slot, one.lane, one.ip)
    assert trial.told == ["shop:mark@hold changed the lane of a delivery that has its connection; it stands"]


# -- behind the attempt -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [mapped, guarded, raising_late, forgetful, unmade, swallowing])
def test_behind_the_attempt_a_failure_changes_no_outcome(function) -> None:
    """What has been sent must not be sent again."""
    trial, sent = Trial(function, late=True), delivery("bad.example").ended(SENT)
    trial.give(sent)
    trial.wait(PATIENCE)
    assert trial.out == [sent]


def test_behind_the_attempt_an_outcome_may_be_changed() -> None:
    """A refusal that is known to be none, say."""
    again = failed("rcptto", "error", "greylisted", code=550)
    trial = Trial(lambda source, live: source.pipe(live.stage(lambda one: one.ended(again))), late=True)
    refused = delivery().ended(failed("rcptto", "error", "no", code=550))
    assert trial.give(refused)[0].outcome == again


@pytest.mark.parametrize("outcome", [None, failed("rcptto", "error", "no")])
def test_what_was_delivered_stays_delivered(outcome: Outcome | None) -> None:
    """And no outcome is lost."""
    trial = Trial(lambda source, live: source.pipe(live.stage(lambda one: one.but(outcome=outcome))), late=True)
    sent = delivery().ended(SENT)
    assert trial.give(sent)[0].outcome == SENT
    assert trial.told == ["shop:mark@hold took back how an attempt had ended; it stands"]
