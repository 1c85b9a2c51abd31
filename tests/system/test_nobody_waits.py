"""Nobody waits for a stranger. `python -m tests.bench.strangers` measures the rates."""

import asyncio
import pathlib

import pytest

from tests.support.source import Source
from tests.support.strangers import HOSTS, scene
from tests.support.waiting import until


@pytest.mark.system
def test_a_healthy_domain_gets_its_mail_while_three_others_hang_refuse_and_crawl(tmp_path: pathlib.Path) -> None:
    """With little credit, and most of the mail for those that do not take it."""
    domains = tuple(HOSTS)
    with scene(tmp_path, rabbitmq_qos=100) as stage:
        source = Source(stage.program.smtp_port, 1200, domain=lambda number: domains[number % 4])
        asyncio.run(source.run())
        until(lambda: stage.mailbox.total >= 300, patience=30)
        assert len(stage.mailbox.accepted) == 300
        assert stage.program.stop() == 0


@pytest.mark.system
def test_a_healthy_domain_gets_its_mail_beside_hundreds_that_hang(tmp_path: pathlib.Path) -> None:
    """S2: more of them than there is credit; none of them answers before the test ends."""
    with scene(tmp_path, hanging=250, rabbitmq_qos=200) as stage:
        asyncio.run(Source(stage.program.smtp_port, 1, domain=lambda number: "healthy.example", first=20_000).run())
        asyncio.run(Source(stage.program.smtp_port, 1000, domain=lambda number: f"h{number % 250}.example").run())
        asyncio.run(Source(stage.program.smtp_port, 300, domain=lambda number: "healthy.example", first=10_000).run())
        until(lambda: stage.mailbox.total >= 301)
        assert len(stage.mailbox.accepted) == 301
