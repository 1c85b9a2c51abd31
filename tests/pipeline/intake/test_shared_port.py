"""A port that several processes take connections from."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from pipeline.smtp.server.access.port import Port
from pipeline.workers.board import SessionBoard


class Counted(asyncio.Protocol):
    """A session that says who has it."""

    def __init__(self, sessions: list[Counted], name: bytes) -> None:
        self.sessions, self.name = sessions, name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.sessions.append(self)
        assert isinstance(transport, asyncio.Transport)
        transport.write(self.name)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """The one socket."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def board() -> Iterator[SessionBoard]:
    """Of all."""
    made = SessionBoard()
    yield made
    made.close()


def process(sock: socket.socket, board: SessionBoard, number: int) -> tuple[Port, list[Counted]]:
    """One that takes connections, and the sessions that it has."""
    sessions: list[Counted] = []
    name = str(number).encode()

    def ours() -> bool:
        return board.is_next(number, len(sessions) + port.arriving)

    async def enter(client: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: Counted(sessions, name), client)

    port = Port(sock.dup(), enter, ours)
    return port, sessions


async def test_connections_are_divided_evenly(listening: socket.socket, board: SessionBoard) -> None:
    """Twenty that come at once: ten for each of two."""
    (one, first), (two, second) = process(listening, board, 1), process(listening, board, 2)
    open_ = await asyncio.gather(*(asyncio.open_connection(*listening.getsockname()) for _ in range(20)))
    for reader, _ in open_:
        await reader.readexactly(1)
    assert len(first) == len(second) == 10
    for _, writer in open_:
        writer.close()
    one.close()
    two.close()


async def test_a_process_that_is_stuck_keeps_no_connection_waiting(
    listening: socket.socket, board: SessionBoard
) -> None:
    """It has fewest sessions, and takes none; so the other one does."""
    board.write(2, 0)
    port, sessions = process(listening, board, 1)
    open_ = await asyncio.gather(*(asyncio.open_connection(*listening.getsockname()) for _ in range(3)))
    for reader, _ in open_:
        await reader.readexactly(1)
    assert len(sessions) == 3
    for _, writer in open_:
        writer.close()
    port.close()


async def test_a_process_that_has_closed_its_end_leaves_the_port_to_the_others(
    listening: socket.socket, board: SessionBoard
) -> None:
    """What waited for it is taken by another one."""
    gone, _ = process(listening, board, 2)
    gone.close()
    board.absent(2)
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    port, sessions = process(listening, board, 1)
    assert await reader.readexactly(1) == b"1"
    assert len(sessions) == 1
    writer.close()
    port.close()
