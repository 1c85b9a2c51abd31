"""The process: one for each data-dir, and the user it becomes."""

from __future__ import annotations

import os
import pathlib
import pwd

import pytest

from pipeline.process import become, descent, only_one
from settings import StartError, load


def test_a_second_start_on_the_same_data_dir_is_refused(tmp_path: pathlib.Path) -> None:
    """One line says which process holds it."""
    settings = load([f"--data-dir={tmp_path}"])
    with only_one(settings), pytest.raises(StartError, match=r"mailrace.lock is held.*process \d+"), only_one(settings):
        pass


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
