"""The spool directory on the running program: moved in, written slowly, unreadable, and a kill in between."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable

import pytest

from tests.support.mailbox import Mailbox
from tests.support.program import Program

pytestmark = pytest.mark.system
MAIL = "From: me@a.example\nTo: X <one@b.example>, two@b.example\nBcc: three@b.example\nSubject: x\n\nx\n"


def wait(found: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not found():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def drop(folder: pathlib.Path, name: str, text: str) -> None:
    """Move a file in."""
    aside = folder.parent / name
    aside.write_text(text)
    aside.rename(folder / name)


def test_what_is_dropped_is_queued_once_whole_and_removed(tmp_path: pathlib.Path) -> None:
    """One message a recipient, Bcc taken out; a file that is being written waits; one that is no mail is set aside."""
    spool, failed = tmp_path / "spool", tmp_path / "failed"
    spool.mkdir(), failed.mkdir()
    with Mailbox() as mailbox:
        options = {"spool_directory": spool, "spool_fail_directory": failed}
        options |= {"delivery_sink": f"127.0.0.1:{mailbox.port}"}
        with Program(tmp_path, **options) as program:
            drop(spool, "one.eml", MAIL)
            wait(lambda: mailbox.total == 3 and not list(spool.iterdir()))
            with (spool / "slow.eml").open("w") as slow:
                slow.write("To: slow@b.example\n")
                slow.flush()
                drop(spool, "bad.eml", "Subject: nobody\n\nx\n")
                wait(lambda: (failed / "bad.eml.error").exists() and (failed / "bad.eml").exists())
                assert "names no recipient" in (failed / "bad.eml.error").read_text() and mailbox.total == 3
                slow.write("Subject: late\n\nx\n")
            wait(lambda: mailbox.total == 4)
            drop(spool, "two.eml", "x-mq-envelope: other@a.example\nFrom: me@a.example\nTo: y@b.example\n\nx\n")
            wait(lambda: mailbox.total == 5)
            log = tmp_path / "var" / "logs" / "send.jsonl"
            wait(lambda: '"envelope":"other@a.example"' in log.read_text().replace('": "', '":"'))
            for number in range(20):
                drop(spool, f"{number}.eml", f"From: me@a.example\nTo: n{number}@b.example\n\nx\n")
            program.kill()
        with Program(tmp_path, **options):
            wait(lambda: mailbox.total >= 25 and not list(spool.iterdir()))
