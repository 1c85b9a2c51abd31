"""Operations that wait for each other share a commit, and none waits for what does not come."""

from __future__ import annotations

import asyncio

from pipeline.queues.together import MOST, SIBLINGS, Together

LONG, SHORT = 3600.0, 0.001  # seconds


class Commits:
    """Operations go in; `groups` are the sizes of what was committed together."""

    def __init__(self, patience: float) -> None:
        self.groups: list[int] = []
        self.some = asyncio.Event()  # have been handed over
        self.together = Together[str](asyncio.get_running_loop(), patience, self._commit)

    def _commit(self, group: list[str]) -> None:
        self.groups.append(len(group))
        self.some.set()

    async def come(self, count: int) -> None:
        """So many, each in a turn of its own."""
        for _ in range(count):
            self.together.add("operation")
            await self.turn()

    def come_at_once(self, count: int) -> None:
        """So many in one turn."""
        for _ in range(count):
            self.together.add("operation")

    async def turn(self) -> None:
        """What is planned for this turn happens."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def are_done(self) -> None:
        """What was handed over is committed."""
        self.together.done(self.groups[-1])


async def test_what_comes_in_one_turn_is_one_commit() -> None:
    """Whether operations wait or not."""
    for patience in (0.0, LONG):
        commits = Commits(patience)
        commits.come_at_once(10)
        await commits.turn()
        assert commits.groups == [10]


async def test_one_session_never_waits() -> None:
    """Its message is taken and settled, and nothing comes beside it."""
    commits = Commits(LONG)
    for _ in range(5):
        await commits.come(1)
        commits.are_done()
    assert commits.groups == [1] * 5


async def test_those_in_step_wait_for_each_other_and_no_longer() -> None:
    """As many as were under way at once."""
    commits = Commits(LONG)
    commits.come_at_once(8)
    await commits.turn()
    commits.are_done()
    await commits.come(7)
    assert commits.groups == [8]
    await commits.come(1)
    assert commits.groups == [8, 8]


async def test_what_comes_while_others_are_committed_is_waited_for_the_next_time() -> None:
    """So two halves that are out of step become one."""
    commits = Commits(LONG)
    commits.come_at_once(4)
    await commits.turn()
    await commits.come(4)
    commits.are_done()
    await commits.come(3)
    assert commits.groups == [4]
    await commits.come(1)
    assert commits.groups == [4, 8]


async def test_where_fewer_come_than_before_no_more_are_waited_for() -> None:
    """It costs one wait."""
    commits = Commits(SHORT)
    commits.come_at_once(20)
    await commits.turn()
    commits.are_done()
    commits.some.clear()
    commits.come_at_once(SIBLINGS)
    await commits.some.wait()
    commits.are_done()
    commits.together._patience = LONG
    commits.come_at_once(SIBLINGS)
    await commits.turn()
    assert commits.groups == [20, SIBLINGS, SIBLINGS]


async def test_many_wait_for_no_more() -> None:
    """However many there were."""
    commits = Commits(LONG)
    commits.come_at_once(3 * MOST)
    await commits.turn()
    commits.are_done()
    commits.come_at_once(MOST)
    await commits.turn()
    assert commits.groups == [3 * MOST, MOST]


async def test_at_the_end_nothing_is_left() -> None:
    """What waits is handed over when it is told so."""
    commits = Commits(LONG)
    commits.come_at_once(8)
    await commits.turn()
    commits.are_done()
    commits.come_at_once(2)
    commits.together.hand_over()
    commits.together.hand_over()
    assert commits.groups == [8, 2]
