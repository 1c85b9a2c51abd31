"""A results queue that takes no more, and a broker with a limit: mail goes on, all of it once, and it is said."""

from __future__ import annotations

import asyncio
import json
import pathlib
import smtplib
import subprocess
import urllib.error
import urllib.request

import pytest

from tests.support.broker import MISSING, installed, limited, shared
from tests.support.mailbox import Mailbox
from tests.support.program import MAILRACE, Program
from tests.support.publisher import Publisher, depth, drain
from tests.support.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.skipif(not installed(), reason=MISSING), pytest.mark.timeout(300)]

TOKEN = "a-token-of-the-tests"
MESSAGES, ROOM = 70, 30
PATIENCE = 60.0


def ask(program: Program, path: str, body: object = None) -> tuple[int, str]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{program.www_port}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {TOKEN}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_full_results_queue_holds_no_mail_up_and_doubles_none(tmp_path: pathlib.Path) -> None:
    """K11: all are delivered with room for some results, once, also over kill -9; the others come with room."""
    node = shared()
    address = node.fresh()
    vhost = address.rpartition("/")[2]
    with (
        Mailbox() as mailbox,
        Program(
            tmp_path,
            rabbitmq_address=address,
            rabbitmq_qos=20,
            delivery_sink=f"127.0.0.1:{mailbox.port}",
            api_token=TOKEN,
        ) as program,
    ):
        node.api("DELETE", f"queues/{vhost}/results")
        arguments = {"x-max-length": ROOM, "x-overflow": "reject-publish"}
        node.api("PUT", f"queues/{vhost}/results", {"durable": True, "arguments": arguments})
        asyncio.run(Publisher(address, MESSAGES).run())
        until(lambda: mailbox.total >= MESSAGES and asyncio.run(depth(address, "outbox"))["outbox"] == 0)
        until(lambda: f"{MESSAGES - ROOM} results for queue 'results' are held" in ask(program, "/api/v1/status")[1])
        assert ask(program, "/readyz")[0] == 200
        assert "results, held here" in _queue(program)
        program.kill()
        program.start()
        until(lambda: "are held here" in ask(program, "/api/v1/status")[1])
        found: set[int] = set()

        def all_came() -> bool:
            found.update(json.loads(body)["number"] for body in asyncio.run(drain(address, "results")))
            return len(found) == MESSAGES

        until(all_came)
        until(lambda: "held here" not in ask(program, "/api/v1/status")[1])
        assert (mailbox.total, len(mailbox.accepted)) == (MESSAGES, MESSAGES)
        assert program.stop() == 0


def _queue(program: Program) -> str:
    """What `mailrace queue` says."""
    command = [*MAILRACE, "queue", *program.arguments]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60, check=True).stdout


def most(octets: int) -> None:
    """The broker takes no larger message from now on."""
    limited().control("eval", f"application:set_env(rabbit, max_message_size, {octets}).")


def test_mail_that_is_too_large_for_the_broker_is_refused_for_good(tmp_path: pathlib.Path) -> None:
    """K12: 552 and 413, the first time too; what is smaller is taken at the same time."""
    address = limited().fresh()
    with (
        Mailbox() as mailbox,
        Program(
            tmp_path,
            rabbitmq_address=address,
            delivery_sink=f"127.0.0.1:{mailbox.port}",
            api_token=TOKEN,
        ) as program,
    ):
        most(200_000)
        large, small = "Subject: x\r\n\r\n" + "x" * 300_000, "Subject: x\r\n\r\nx"
        message = {"envelope": "a@b.example", "recipient": "c@d.example", "mime": large}
        assert ask(program, "/api/v1/messages", message)[0] == 413
        with smtplib.SMTP("127.0.0.1", program.smtp_port, timeout=20) as client:
            with pytest.raises(smtplib.SMTPDataError) as raised:
                client.sendmail("a@b.example", "c@d.example", large)
            assert raised.value.smtp_code == 552
            client.sendmail("a@b.example", "c@d.example", small)
        assert ask(program, "/api/v1/messages", message | {"mime": small})[0] == 202
        until(lambda: mailbox.total == 2)
        assert program.stop() == 0


def test_a_retry_that_outgrew_the_broker_is_settled(tmp_path: pathlib.Path) -> None:
    """K12: the limit was lowered meanwhile: given up with a result, and not sent again after a restart."""
    most(512 * 2**20)
    address = limited().fresh()
    with Mailbox() as mailbox:
        mailbox.defers = True
        outbox = f"queues/{address.rpartition('/')[2]}/outbox"
        limited().api("PUT", outbox, {"durable": True})
        asyncio.run(Publisher(address, 1, body=_large).run())
        most(200_000)
        sink = f"127.0.0.1:{mailbox.port}"
        with Program(tmp_path, rabbitmq_address=address, delivery_sink=sink) as program:
            until(lambda: asyncio.run(depth(address, "failure"))["failure"] == 1)
            until(lambda: limited().api("GET", outbox).get("messages") == 0)  # nor is it lent any more
            program.kill()
            program.start()
            [failure] = asyncio.run(drain(address, "failure"))
            assert [one["state"] for one in json.loads(failure)["results"]] == ["rcptto", "storage"]
            until(lambda: asyncio.run(depth(address, "outbox"))["outbox"] == 0)
            assert asyncio.run(depth(address, "failure"))["failure"] == 0
            assert mailbox.deferred == 1
            assert program.stop() == 0


def _large(number: int) -> bytes:
    return json.dumps({"recipient": "a@b.example", "mime": "x" * 300_000, "number": number}).encode()
