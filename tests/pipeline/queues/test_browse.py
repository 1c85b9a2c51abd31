"""Pages of messages, straight from the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.queues.embedded.browse import browse
from pipeline.queues.embedded.file import LATEST, Store, Work
from pipeline.queues.embedded.worker import due_time
from pipeline.queues.listing import Filter

WAITING = Filter(queue="outbox", waiting=True)


@given(times=st.lists(st.floats(1.0, LATEST) | st.floats(1.8e9, 1.8e9 + 1e-5), min_size=1, max_size=8))
def test_a_place_is_the_exact_time(tmp_path_factory: pytest.TempPathFactory, times: list[float]) -> None:
    """Rounded up, the next page would skip messages; rounded down, it would repeat them for ever."""
    store = Store(Path(tmp_path_factory.mktemp("queue")) / "queue.db", writes=True)
    work = Work()
    for time in times:
        work.add("outbox", b"{}", due_time(time), 0.0)
    store.write(work)
    seen, after = [], (0.0, 0)
    for _ in range(len(times) + 1):
        page = browse(store, WAITING, after, 1)
        seen += [message.due for message in page.messages]
        if page.after is None:
            break
        after = page.after
    store.close()
    assert seen == sorted(times)
