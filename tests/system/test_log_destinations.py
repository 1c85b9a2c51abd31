"""What becomes of the log does not become of the program."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import smtplib
import tempfile
import urllib.error
import urllib.request

import pytest

from tests.support.program import Program
from tests.support.waiting import until

pytestmark = pytest.mark.system


def answers(program: Program, path: str) -> tuple[int, str]:
    """What the console answers there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{program.www_port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except urllib.error.URLError:  # its port opens after that of SMTP
        return 0, ""


def wrong_logins(program: Program, count: int) -> None:
    """Each one is a line of the program log."""
    for number in range(count):
        request = urllib.request.Request(
            f"http://127.0.0.1:{program.www_port}/api/v1/status", headers={"Authorization": f"Bearer wrong{number}"}
        )
        try:
            urllib.request.urlopen(request, timeout=10).close()
        except urllib.error.HTTPError as error:
            assert error.code in (401, 429)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_log_that_cannot_be_opened_again_at_sighup_ends_nothing() -> None:
    """K10: `user` is dropped, the log's folder is root's, the file was moved away: mail goes on."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are root's alone
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        keeps_on(folder, folder / "logs" / "mailrace.log")


def keeps_on(folder: pathlib.Path, log: pathlib.Path) -> None:
    """Mail goes on though its log is gone."""
    with Program(folder, user="nobody", application_log=log) as program:
        until(lambda: answers(program, "/readyz")[0] == 200)
        log.rename(log.with_name("old"))
        assert program.process is not None
        program.process.send_signal(signal.SIGHUP)
        wrong_logins(program, 1)
        with smtplib.SMTP("127.0.0.1", program.smtp_port) as client:
            assert client.ehlo()[0] == 250
        assert answers(program, "/readyz")[0] == 200
        assert program.stop() == 0


def test_a_terminal_that_nobody_reads_holds_up_nothing(tmp_path: pathlib.Path) -> None:
    """K10: standard error is a pipe, and full before the program starts; a file beside it gets all lines."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    try:
        while True:
            os.write(writes, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writes, True)
    log = tmp_path / "mailrace.log"
    program = Program(tmp_path, application_log=f"stderr,{log}", application_log_format="json", www_password="secret")
    program.terminal = writes
    with program:
        os.close(writes)
        wrong_logins(program, 50)
        with smtplib.SMTP("127.0.0.1", program.smtp_port) as client:
            assert client.ehlo()[0] == 250
        assert answers(program, "/healthz")[0] == 200
        assert program.stop() == 0
    os.close(reads)
    assert all(json.loads(line) for line in log.read_text().splitlines())


@pytest.mark.parametrize("closed", [[2], [0, 1, 2]], ids=["2", "0, 1 and 2"])
def test_closed_standard_descriptors_are_never_the_queues(tmp_path: pathlib.Path, closed: list[int]) -> None:
    """K10: `2>&-`; the next file that is opened would be number 2, and everything that prints would print into it."""
    program = Program(tmp_path)
    close = " ".join(f"{number}>&-" for number in closed)
    program.run = ["/bin/sh", "-c", f'exec "$@" {close}', "sh", *program.run]
    with program:
        assert program.process is not None
        for number in closed:
            assert pathlib.Path(f"/proc/{program.process.pid}/fd/{number}").readlink() == pathlib.Path("/dev/null")
        with smtplib.SMTP("127.0.0.1", program.smtp_port) as client:
            assert client.ehlo()[0] == 250
        assert program.stop() == 0


def test_a_reader_that_has_gone_ends_nothing(tmp_path: pathlib.Path) -> None:
    """K10: `mailrace serve 2>&1 | head -1`."""
    reads, writes = os.pipe()
    program = Program(tmp_path)
    program.terminal = writes
    os.close(reads)
    with program:
        os.close(writes)
        wrong_logins(program, 5)
        assert answers(program, "/healthz")[0] == 200
        assert program.stop() == 0
