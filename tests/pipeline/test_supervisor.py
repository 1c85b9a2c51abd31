"""The supervisor: nothing that fails in the background is dropped silently."""

import asyncio
import gc
import itertools
import threading

import pytest
import reactivex as rx
from reactivex.subject import Subject

from operators.deliveries.events import Event, Fault
from pipeline.process.supervisor import STANDS, Fanout, Supervisor, spawn, supervisor
from tests.support.loop import VirtualLoop


async def broken() -> None:
    """Work that fails."""
    raise ValueError("no such thing")


async def test_a_task_that_nobody_waits_for_is_heard() -> None:
    """K11: its error is counted, reported and stands in the faults; the program is unready meanwhile."""
    said: list[Event] = []
    supervisor().report = said.append
    with pytest.raises(ValueError, match="no such thing"):
        await spawn(broken(), "part")
    await asyncio.sleep(0)
    assert supervisor().errors == {"part": 1}
    assert [event.where for event in said if isinstance(event, Fault)] == ["part"]
    assert supervisor().faults == ["part failed in the background: ValueError: no such thing"]
    assert supervisor().grave


async def test_a_cancelled_task_is_no_error() -> None:
    """K11: what is ended on purpose has not failed."""
    task = spawn(asyncio.Event().wait(), "part")
    task.cancel()
    await asyncio.wait([task])
    assert supervisor().errors == {}


def test_a_kept_part_is_started_again_with_a_growing_pause() -> None:
    """K9, K11: two failures a second would be said for ever; the pause grows, and the fault stands meanwhile."""
    begun: list[float] = []

    async def kept() -> None:
        async def part() -> None:
            begun.append(asyncio.get_running_loop().time())
            if len(begun) < 4:
                raise ValueError

        await supervisor().keep(part, "part")
        assert supervisor().errors == {"part": 3}
        assert supervisor().grave

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(kept())
    first, second, third = (later - earlier for earlier, later in itertools.pairwise(begun))
    assert first < second < third


def test_a_fault_is_said_once_a_minute_and_falls_when_it_is_over() -> None:
    """K11: a thousand errors a minute are one line with their number, and a minute without any is the end."""

    async def minutes() -> None:
        said: list[Event] = []
        own = supervisor()
        own.report = said.append
        for _ in range(1000):
            own.failed("part", ValueError("x"))
        assert len(said) == 1
        await asyncio.sleep(STANDS - 1)
        own.failed("part", ValueError("x"))
        await asyncio.sleep(1.5)
        own.sweep()
        assert len(said) == 2
        assert "1,001 times" in own.faults[0]
        await asyncio.sleep(STANDS)
        own.sweep()
        assert own.faults == [] and not own.grave
        assert own.errors == {"part": 1001}

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(minutes())


async def test_a_thread_that_ends_by_an_error_stands_until_the_program_ends() -> None:
    """K11: a dead thread does nothing any more, and the views must not turn green after a minute."""

    def work() -> None:
        raise ValueError("torn")

    thread = supervisor().thread(work, "part")
    thread.start()
    await asyncio.to_thread(thread.join)
    await asyncio.sleep(0)
    assert supervisor().faults == ["part failed in the background: ValueError: torn, and has ended for good"]


async def test_a_listener_that_raises_goes_on_listening() -> None:
    """K11: RxPY would hand the error to whoever pushed the value, and the next observers would miss it."""
    source: Subject[int] = Subject()
    heard: list[int] = []

    def act(value: int) -> None:
        heard.append(value)
        raise ValueError

    supervisor().listen(source, act, "part")
    source.on_next(1)
    source.on_next(2)
    assert heard == [1, 2]
    assert supervisor().errors == {"part": 2}


async def test_a_subscription_whose_source_fails_is_a_fault() -> None:
    """K11: without `on_error` RxPY raises at whoever pushes."""
    supervisor().listen(rx.throw(ValueError("dry")), print, "part")
    assert "has ended for good" in supervisor().faults[0]


async def test_one_observer_does_not_stop_the_others() -> None:
    """K11: the one event stream feeds the log, the metrics and the pages; each of them stands alone."""
    stream: Fanout[int] = Fanout(supervisor())
    heard: list[int] = []

    def fail(_: int) -> None:
        raise ValueError

    stream.subscribe(fail, print)
    stream.subscribe(heard.append, print)
    stream.on_next(1)
    assert heard == [1]
    assert supervisor().errors == {"observer": 1}


async def test_what_passes_the_doors_is_heard() -> None:
    """K11: a callback of the loop, a task that nobody asks, a foreign thread, a finalizer."""

    class Finalized:
        def __del__(self) -> None:
            raise ValueError("finalizer")

    def fail() -> None:
        raise ValueError("raised")

    with supervisor().hear():
        asyncio.get_running_loop().call_soon(fail)
        task = asyncio.get_running_loop().create_task(broken(), name="named")
        await asyncio.wait([task])
        del task
        Finalized()
        thread = threading.Thread(target=fail)
        thread.start()
        await asyncio.to_thread(thread.join)
        gc.collect()
        await asyncio.sleep(0)
    assert supervisor().errors.keys() == {"loop", "named", "interpreter", "thread"}


async def test_a_strangers_connection_does_not_make_the_program_unready() -> None:
    """K11, S1: it counts and stands, but whoever can send bytes must not take the program out of service."""
    own = supervisor()
    with own.hear():
        asyncio.get_running_loop().call_exception_handler(
            {"message": "Fatal error", "exception": ValueError("bytes"), "transport": object()}
        )
    assert own.faults and not own.grave


async def test_an_errors_text_is_clean() -> None:
    """K10: secrets are masked and control characters escaped; an error that cannot be shown is shown by its name."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    supervisor().failed("a", ValueError("amqp://user:hidden@host \x1b[31m\n"))
    supervisor().failed("b", Odd())
    assert "hidden" not in str(supervisor().faults)
    assert "\x1b" not in supervisor().faults[0]
    assert "Odd" in supervisor().faults[1]


async def test_a_report_that_fails_hurts_nobody() -> None:
    """K10: a fault that cannot be told is still counted."""

    def fail(_: Event) -> None:
        raise ValueError

    supervisor().report = fail
    supervisor().failed("part", ValueError())
    assert supervisor().errors == {"part": 1}


async def test_names_are_bounded() -> None:
    """K13: what is a label of a metric is bounded, whatever comes."""
    for number in range(300):
        supervisor().failed(f"part {number}", ValueError())
    assert len(supervisor().errors) <= 101


async def test_each_loop_has_its_own() -> None:
    """Two machines in one process do not see each other's faults."""
    spawned: list[Supervisor] = []

    async def other() -> None:
        spawned.append(supervisor())

    await asyncio.to_thread(asyncio.run, other())
    assert spawned[0] is not supervisor()
