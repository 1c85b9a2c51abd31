"""The ring between the program and the writer."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from pipeline.process.ring import ROOM, Inlet, Outlet


@pytest.fixture
def inlet() -> Iterator[Inlet]:
    """The program's end."""
    inlet = Inlet()
    yield inlet
    inlet.discard()


@pytest.fixture
def outlet(inlet: Inlet) -> Outlet:
    """The writer's end of it."""
    return Outlet(*inlet.files)


def test_lines_come_out_as_they_went_in(inlet: Inlet, outlet: Outlet) -> None:
    """Many times around, of lengths that fall on the seam in every way."""
    put, read = bytearray(), bytearray()
    for number in range(6000):
        line = b"%d\n" % number + b"x" * (number * 37 % 3000) + b"\n"
        while not inlet.put(line):
            lines = outlet.peek()
            outlet.taken(len(lines))
            read += lines
        put += line
    assert len(put) > 5 * ROOM
    assert read + outlet.peek() == put


def test_a_line_that_has_no_room_is_refused_until_there_is(inlet: Inlet, outlet: Outlet) -> None:
    """To the last byte."""
    half = b"x" * (ROOM // 2)
    assert inlet.put(half) and not inlet.put(half + b"\n") and inlet.put(half)
    assert (inlet.inside, inlet.put(b"\n")) == (ROOM, False)
    outlet.taken(1)
    assert inlet.put(b"\n") and not inlet.put(b"\n")


def test_what_was_not_taken_is_there_for_the_next(inlet: Inlet, outlet: Outlet) -> None:
    """A writer that was killed with lines in hand loses none."""
    inlet.put(b"one\n")
    inlet.put(b"two\n")
    assert outlet.peek() == b"one\ntwo\n"
    outlet.taken(4)
    assert Outlet(*inlet.files).peek() == b"two\n"


def test_a_line_wakes_who_sleeps(inlet: Inlet, outlet: Outlet) -> None:
    """Each time, and who has lines to take does not sleep at all."""
    awake = threading.Semaphore(0)

    def listen() -> None:
        for _ in range(300):
            while not (lines := outlet.peek()):
                outlet.wait()
            outlet.taken(len(lines))
            awake.release()

    threading.Thread(target=listen, daemon=True).start()
    for _ in range(300):
        assert inlet.put(b"line\n")
        assert awake.acquire(timeout=10)


def test_nobody_is_woken_who_does_not_sleep(inlet: Inlet, outlet: Outlet) -> None:
    """It costs a system call."""
    listens = inlet.files[1]
    os.set_blocking(listens, False)
    inlet.put(b"line\n")
    assert outlet.wait()
    with pytest.raises(BlockingIOError):
        os.read(listens, 1)


def test_the_end_comes_after_the_last_line(inlet: Inlet, outlet: Outlet) -> None:
    """With lines in it, the ring has not ended; without, it has."""
    inlet.put(b"last\n")
    inlet.end()
    assert outlet.wait() and outlet.wait()
    outlet.taken(len(outlet.peek()))
    assert not outlet.wait() and not outlet.wait()
