"""The process: one for each data-dir, and the user it becomes."""

from __future__ import annotations

import fcntl
import os
import pathlib
import pwd

import pytest

from pipeline.process import become, check_rights, descent, hand_over, is_running, only_one
from settings import StartError, load


def test_a_second_start_on_the_same_data_dir_is_refused(tmp_path: pathlib.Path) -> None:
    """One line says which process holds it."""
    settings = load([f"--data-dir={tmp_path}"])
    with only_one(settings), pytest.raises(StartError, match=r"mailrace.lock is held.*process \d+"), only_one(settings):
        pass


def test_a_second_start_is_refused_though_the_lock_file_was_removed(tmp_path: pathlib.Path) -> None:
    """S4: two programs would send everything twice, and `queue recover` would work on a queue that is in use."""
    tmp_path.chmod(0o700)
    settings = load([f"--data-dir={tmp_path}"])
    with only_one(settings):
        settings.lock.unlink()
        assert is_running(settings)
        with pytest.raises(StartError, match=r"runs on this data-dir.*was removed"), only_one(settings):
            pass
    settings.lock.unlink()
    assert not is_running(settings)


def test_a_folder_that_others_may_open_is_not_locked(tmp_path: pathlib.Path) -> None:
    """S4: else anybody on the machine could lock it, and keep the program from starting."""
    tmp_path.chmod(0o755)
    settings = load([f"--data-dir={tmp_path}"])
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with only_one(settings):
        assert is_running(settings)
    os.close(descriptor)


def test_the_lock_falls_with_its_holder(tmp_path: pathlib.Path) -> None:
    """The next start finds it free."""
    settings = load([f"--data-dir={tmp_path}"])
    for _ in range(2):
        with only_one(settings):
            assert settings.lock.exists()


def test_a_data_dir_that_cannot_be_made_is_one_clear_line(tmp_path: pathlib.Path) -> None:
    """It names the folder and the reason."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StartError, match=r"data-dir: cannot write .*Not a directory"),
        only_one(load([f"--data-dir={tmp_path}/file/var"])),
    ):
        pass


def test_a_user_that_does_not_exist_is_one_clear_line() -> None:
    """Before anything is lost."""
    with pytest.raises(StartError, match="there is no user 'nobody-here'"):
        become("nobody-here")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
def test_children_become_what_the_program_will_become() -> None:
    """User, group and all groups; nothing where both stay what they are."""
    nobody = pwd.getpwnam("nobody")
    account = descent("nobody")
    assert account is not None
    assert account[:2] == (nobody.pw_uid, nobody.pw_gid)
    assert nobody.pw_gid in account[2]
    assert descent(None) is descent("root") is None
    with pytest.raises(StartError, match="there is no user 'nobody-here'"):
        descent("nobody-here")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
def test_a_data_dir_that_is_a_link_is_handed_over(tmp_path: pathlib.Path) -> None:
    """S4: the folder it leads to, not the link; what links in it lead to stays whose it is."""
    nobody = pwd.getpwnam("nobody")
    for name in ("real", "foreign"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "queue.db").touch()
    (tmp_path / "real" / "logs").symlink_to(tmp_path / "foreign")
    hand_over(load([f"--data-dir={tmp_path / 'link'}", "--user=nobody"]))
    owners = {name: (tmp_path / name).stat().st_uid for name in ("real", "real/queue.db", "foreign")}
    assert owners == {"real": nobody.pw_uid, "real/queue.db": nobody.pw_uid, "foreign": 0}


def test_what_the_user_may_not_write_ends_the_start(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S4: one line, where all mail would be refused later."""
    (tmp_path / "foreign").mkdir()
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "logs").symlink_to(tmp_path / "foreign")
    settings = load([f"--data-dir={tmp_path / 'var'}"])
    check_rights(settings)
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "logs" and allowed(path, mode))
    with pytest.raises(StartError, match=r"data-dir: user .* may not write .*/foreign; give it to that user"):
        check_rights(settings)
