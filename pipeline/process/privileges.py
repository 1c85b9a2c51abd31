"""The process: one for each `data-dir`, and without root's rights once its ports are open.

The lock is the system's own (flock): it falls with the process, however that ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.process import private
from pipeline.process.rights import Account
from settings import Settings, StartError


@contextlib.contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Hold the lock; raises `StartError` where another process has it, or the folder cannot be written."""
    with private.masked(), _locked(settings):
        yield


@contextlib.contextmanager
def _locked(settings: Settings) -> Iterator[None]:
    shared = _is_shared(settings.data_dir)
    try:
        if (warning := private.folder(settings.data_dir)) is not None:
            print(f"mailrace: warning: {warning}", file=sys.stderr)
        private.files(settings.data_dir)
        if (wrong := private.misplaced(settings.data_dir)) is not None:
            raise StartError(f"data-dir: {wrong}")
        settings.lock.parent.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(os.open(settings.lock, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+")
    except OSError as error:
        raise StartError(f"data-dir: cannot write {error.filename}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            who = file.read(20).strip() or "unknown"
            raise StartError(f"lock: {settings.lock} is held: Mailrace runs on this data-dir, process {who}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        with contextlib.nullcontext() if shared else _folder_locked(settings.data_dir):
            yield


@contextlib.contextmanager
def _folder_locked(folder: Path) -> Iterator[None]:
    """The folder itself, too: somebody may remove the lock's file. Not for one that others could open, and so lock."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = False
    except OSError as error:
        held = error.errno == errno.EWOULDBLOCK  # some file systems lock no folders
    try:
        if held:
            raise StartError(f"lock: Mailrace runs on this data-dir, {folder}, though its lock file was removed")
        yield
    finally:
        os.close(descriptor)


def _is_shared(folder: Path) -> bool:
    """Whether others could open it until now."""
    try:
        return bool(folder.stat().st_mode & 0o077)
    except OSError:
        return False  # it is made, and private


def is_running(settings: Settings) -> bool:
    """Whether a process holds the lock, or the folder whose lock was removed."""
    return _is_held(settings.lock) or (not _is_shared(settings.data_dir) and _is_held(settings.data_dir))


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno == errno.EWOULDBLOCK
    finally:
        os.close(descriptor)
    return False


def become(user: str | None) -> None:
    """Change to this user and its groups, for good; raises `StartError` where that cannot be."""
    if user is None:
        return
    entry = _account(user)
    if os.geteuid() == entry.pw_uid:
        return
    try:
        os.initgroups(entry.pw_name, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except PermissionError:
        raise StartError(f"user: only root can change to {user!r}") from None


def check_rights(settings: Settings) -> None:
    """Whether this process, after `become`, may write what is in `data-dir`; raises `StartError` where it may not.

    What a link there leads to is not handed over: who owns the folder could have made the link, to anything.
    """
    folder = settings.data_dir
    for path in [folder, *filter(private.is_ours, sorted(folder.iterdir() if os.access(folder, os.R_OK) else ()))]:
        wanted = os.R_OK | os.W_OK | (os.X_OK if path == folder or os.path.isdir(path) else 0)  # noqa: PTH112 - no error
        if (path == folder or os.path.exists(path)) and not os.access(path, wanted):  # noqa: PTH110 - no error
            who = settings.user or f"number {os.geteuid()}"
            raise StartError(f"data-dir: user {who} may not write {path.resolve()}; give it to that user")


def hand_over(settings: Settings) -> None:
    """Give what is in `data-dir` to the user that the process will be, so that it can go on writing there."""
    if settings.user is None or os.geteuid() != 0:
        return
    entry = _account(settings.user)
    folder = settings.data_dir.resolve()  # it may be a link itself
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def descent(user: str | None) -> Account | None:
    """What a child process has to become, where this one will `become` that user; None where it stays what it is.

    Raises `StartError`.
    """
    if user is None:
        return None
    entry = _account(user)
    if os.geteuid() != 0 or entry.pw_uid == 0:
        return None
    return entry.pw_uid, entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid)


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise StartError(f"user: there is no user {user!r} on this machine") from None
