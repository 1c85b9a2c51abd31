"""Private by default: only the program's user may read what is in `data-dir`, whatever the umask. No state.

A file that others may open can also be locked by them (flock needs no right to write), and so hold up the program.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import stat
from collections.abc import Iterator
from pathlib import Path

UMASK = 0o027  # of what names no mode itself: nothing for others
OTHERS = 0o077
# What this program makes in `data-dir`. A folder that holds something else may be meant for others, too.
FOLDERS = ("logs", "held", "*.bodies")
OURS = (
    *("queue.db*", "rules.db*", "rules.key*", "settled*", *FOLDERS, "mailrace.lock", "health.json*"),
    *("console-*", ".console-*", "api-tokens*", ".api-tokens*", "api-idempotency.db*", "saved"),
    *("alerts.json", ".alerts.json.part"),
)
KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder", stat.S_IFREG: "a file"}


@contextlib.contextmanager
def masked() -> Iterator[None]:
    """Files and folders that are made meanwhile are not for others, and never kept from their owner."""
    before = os.umask(UMASK)
    os.umask(before & OTHERS | UMASK)
    try:
        yield
    finally:
        os.umask(before)


def folder(path: Path) -> str | None:
    """Make a folder that only its owner may enter; tighten one that was made by this program. Raises OSError.

    Returns a line where it stays open to others: it is not this user's, or holds what is not this program's.
    """
    if not path.exists():
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
        return None
    found = path.stat()
    if found.st_mode & OTHERS:
        if found.st_mode & stat.S_ISVTX or not _may_change(found) or not all(map(is_ours, path.iterdir())):
            mode = stat.S_IMODE(found.st_mode)
            return f"data-dir: {path} can be entered by other users (mode {mode:04o}); make it 0700"
        path.chmod(stat.S_IMODE(found.st_mode) & 0o700)
    return None


def misplaced(path: Path) -> str | None:
    """What stands in the place of a file of this program, or of its folder, and is none; None where nothing does.

    To open a FIFO waits for its other end, without a word; SQLite calls each of them a disk error.
    """
    for file in sorted(path.iterdir()):
        if not is_ours(file) or not file.exists():
            continue
        kind, wanted = stat.S_IFMT(file.stat().st_mode), stat.S_IFDIR if _is_folder(file) else stat.S_IFREG
        if kind != wanted:
            return f"{file} is {KINDS.get(kind, 'a device')}, and has to be {KINDS[wanted]}: remove it"
    return None


def _is_folder(path: Path) -> bool:
    return any(fnmatch.fnmatchcase(path.name, pattern) for pattern in FOLDERS)


def files(path: Path) -> None:
    """Take the rights of others from the files of this program in a folder. Raises OSError."""
    for file in path.iterdir():
        found = file.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_mode & OTHERS and is_ours(file) and _may_change(found):
            file.chmod(stat.S_IMODE(found.st_mode) & 0o600)


def is_ours(path: Path) -> bool:
    """Whether it bears a name of what this program makes in `data-dir`."""
    return any(fnmatch.fnmatchcase(path.name, pattern) for pattern in OURS)


def _may_change(found: os.stat_result) -> bool:
    return os.geteuid() in (0, found.st_uid)
