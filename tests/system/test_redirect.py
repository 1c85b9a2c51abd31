"""A redirect as the receiver sees it: mail comes from another address."""

import asyncio
import pathlib
import time

import pytest

from tests.support.api import TOKEN, Api
from tests.support.mailbox import Mailbox
from tests.support.program import Program
from tests.support.source import Source


def deliver(program: Program, mailbox: Mailbox, count: int) -> None:
    """So many more messages arrive."""
    wanted, end = mailbox.total + count, time.monotonic() + 30
    asyncio.run(Source(program.smtp_port, count, 1).run())
    while mailbox.total < wanted and time.monotonic() < end:
        time.sleep(0.05)
    assert mailbox.total == wanted


@pytest.mark.system
def test_the_receiver_sees_the_address_at_the_end_of_the_chain(tmp_path: pathlib.Path) -> None:
    """From the next message on; and the old one again when the rule is gone."""
    with Mailbox() as mailbox:
        options = {"delivery_sink": f"127.0.0.1:{mailbox.port}", "api_token": TOKEN}
        with Program(tmp_path, **options) as program:
            api = Api(program)
            deliver(program, mailbox, 1)
            first = api.create("redirects", from_ip="127.0.0.1", to_ip="127.0.0.2")
            api.create("redirects", from_ip="127.0.0.2", to_ip="127.0.0.3", domain="a.example")
            deliver(program, mailbox, 1)
            api.delete("redirects", first["id"])
            deliver(program, mailbox, 1)
            assert set(mailbox.peers) == {"127.0.0.1", "127.0.0.3"}
            assert mailbox.peers["127.0.0.3"] == 1
