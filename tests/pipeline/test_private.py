"""What is in `data-dir` is for one user alone (S4)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.process import only_one, private
from pipeline.queues.contract import QueueUnavailable
from pipeline.queues.embedded.embedded import EmbeddedQueue
from settings import load


@pytest.fixture(autouse=True)
def careless() -> Iterator[None]:
    """The widest umask there is."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def start(folder: Path) -> None:
    with only_one(load([f"--data-dir={folder}"], None, None)):
        (folder / "rules.key").touch()


def test_a_new_folder_is_private_whatever_the_umask(tmp_path: Path) -> None:
    """S4: 0700, and nothing in it is for others."""
    start(tmp_path / "var")
    assert mode(tmp_path / "var") == 0o700
    assert mode(tmp_path / "var" / "mailrace.lock") == 0o600
    assert mode(tmp_path / "var" / "rules.key") & 0o007 == 0


def test_a_folder_of_before_is_tightened_with_what_is_in_it(tmp_path: Path) -> None:
    """S4: what older versions made wider."""
    folder = tmp_path / "var"
    folder.mkdir()
    for name in ("mailrace.lock", "queue.db", "queue.db.lock"):
        (folder / name).touch()
    start(folder)
    assert {mode(path) for path in folder.iterdir() if path.name != "rules.key"} == {0o600}
    assert mode(folder) == 0o700


@pytest.mark.parametrize("foreign", ["holiday.jpg", "sticky"])
def test_a_folder_with_other_things_is_left_and_said(
    tmp_path: Path, foreign: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """S4: `data-dir` may be /tmp or somebody's home; our own files there are private all the same."""
    folder = tmp_path / "var"
    folder.mkdir()
    if foreign == "sticky":
        folder.chmod(0o1777)
    else:
        (folder / foreign).touch()
    before = mode(folder)
    start(folder)
    assert mode(folder) == before
    assert mode(folder / "mailrace.lock") == 0o600
    assert capsys.readouterr().err.count(f"{folder} can be entered by other users") == 1


async def test_nobody_else_can_lock_the_queue(tmp_path: Path) -> None:
    """S4: a read lock on its lock file would hold up the consumer."""
    queue = EmbeddedQueue(tmp_path / "var" / "queue.db")
    await queue.start()
    queue.consume(1).subscribe()
    assert {mode(path) for path in (tmp_path / "var").iterdir()} == {0o600}
    assert mode(tmp_path / "var") == 0o700
    await queue.close()


@pytest.mark.parametrize("name", ["queue.db.reserve", "queue.db.lock", "queue.db-wal"])
async def test_a_folder_in_a_files_place_is_one_line(tmp_path: Path, name: str) -> None:
    """S4: and not a disk that is full."""
    (tmp_path / name).mkdir()
    with pytest.raises(QueueUnavailable, match=f"{name}: is no file"):
        await EmbeddedQueue(tmp_path / "queue.db").start()


def test_the_umask_is_given_back() -> None:
    """For who runs in the same process."""
    with private.masked():
        assert os.umask(private.UMASK) == private.UMASK
    assert os.umask(0) == 0
