"""A receiver with IPv4 and IPv6 addresses of which one family is dead: it is reached in the same attempt."""

from __future__ import annotations

import contextlib
import pathlib
import smtplib

import pytest

from pipeline.demo.nameserver import NameServer
from tests.support.loop import Loop
from tests.support.program import Program
from tests.support.receiver import Receiver

pytestmark = pytest.mark.system
LIVE, DEAD = {"A": "127.0.0.1", "AAAA": "::1"}, {"A": "127.0.0.9", "AAAA": "2001:db8::1"}
DOMAINS = {
    "dead4.example": DEAD["A"] + " " + LIVE["AAAA"],
    "dead6.example": LIVE["A"] + " " + DEAD["AAAA"],
    "dead.example": DEAD["A"] + " " + DEAD["AAAA"],
}


def test_the_other_family_is_tried_at_once_and_once(tmp_path: pathlib.Path) -> None:
    """K3: RFC 5321 5.1, the next address; by the MTA IP of its family. Where both are dead it is one attempt."""
    with Loop() as loop, contextlib.ExitStack() as stack:
        names = NameServer()
        loop.run(names.start())
        receiver = Receiver({}, host=LIVE["A"])
        loop.run(receiver.__aenter__())
        other = Receiver({}, host=LIVE["AAAA"], port=receiver.port)
        loop.run(other.__aenter__())
        for domain, addresses in DOMAINS.items():
            for kind, address in zip(("A", "AAAA"), addresses.split(), strict=True):
                names.add(domain, kind, address)
        program = stack.enter_context(
            Program(
                tmp_path,
                dns_server=f"{names.address}:{names.port}",
                delivery_port=receiver.port,
                smtp_default_ips="127.0.0.1,::1",
                retry_interval=600,
            )
        )
        with smtplib.SMTP("127.0.0.1", program.smtp_port) as client:
            for number in range(5):
                client.sendmail("me@a.example", [f"{number}@{domain}" for domain in DOMAINS], "Subject: x\r\n\r\nx")
        attempts = program.attempts(15)
        assert len(attempts) == 15
        ends = {(str(one["recipient"]).partition("@")[2], one["result"], one["mta_ip"]) for one in attempts}
        assert {end for end in ends if end[0] != "dead.example"} == {
            ("dead4.example", "accepted", "::1"),
            ("dead6.example", "accepted", "127.0.0.1"),
        }
        assert {end[1] for end in ends if end[0] == "dead.example"} == {"error"}
        assert (len(receiver.messages), len(other.messages)) == (5, 5)
