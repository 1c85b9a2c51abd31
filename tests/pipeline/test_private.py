"""What is in `data-dir` is for one user alone (S4)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.process import only_one, private
from pipeline.queues.contract import QueueUnavailable
from pipeline.queues.embedded.embedded import EmbeddedQueue
from settings import StartError, load


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


@pytest.mark.parametrize("name", ["queue.db", "queue.db-wal", "rules.db", "console-secret", "health.json"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_one_line(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    """S4: a FIFO would hold up the start without a word."""
    make(tmp_path / name)
    with pytest.raises(StartError, match=f"data-dir: .*{name} is a (FIFO|folder), and has to be a file"):
        start(tmp_path)


@pytest.mark.parametrize("name", ["logs", "held"])
def test_a_file_in_a_folders_place_is_one_line(tmp_path: Path, name: str) -> None:
    """S4: the other way round. A link to a folder is one."""
    (tmp_path / name).touch()
    with pytest.raises(StartError, match=f"{name} is a file, and has to be a folder"):
        start(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    start(tmp_path)


@pytest.mark.parametrize("name", ["held", "api-idempotency.db"])
def test_all_that_the_program_makes_is_known_as_its_own(tmp_path: Path, name: str) -> None:
    """S4: a folder with one of these in it is tightened like any other of ours."""
    (tmp_path / name).mkdir() if name == "held" else (tmp_path / name).touch()
    tmp_path.chmod(0o777)
    start(tmp_path)
    assert mode(tmp_path) == 0o700


def test_no_umask_keeps_the_owner_out(tmp_path: Path) -> None:
    """S4: with 0777 each file would be nobody's, and the next start of an ordinary user would fail."""
    os.umask(0o777)
    with only_one(load([f"--data-dir={tmp_path}"], None, None)):
        (tmp_path / "rules.key").touch()
    os.umask(0)
    assert [mode(tmp_path / name) for name in ("mailrace.lock", "rules.key")] == [0o600, 0o600]
