"""The schema of the delivery log."""

from __future__ import annotations

import datetime

import msgspec
import pytest

from operators.deliveries.events import Received
from pipeline.log import schema
from tests.pipeline.log.records import TIME, accepted, delivery


def test_a_line_says_all_that_the_log_promises() -> None:
    """Who, from where, to where, what came of it, how long it took: in one JSON object."""
    tls = {"cipher": {"name": "TLS_AES_256_GCM_SHA384", "bits": 256, "version": "TLSv1.3"}}
    one, came = delivery(1, tags=["a", "b"], results=[{}, {}]), accepted(tls=tls, host="mx.example.com")
    made = schema.attempt(one, came, TIME, TIME + 60, "mx1")
    assert msgspec.json.decode(schema.line(made)) == {
        "v": 1,
        "time": "2026-09-21T14:13:20Z",
        "instance": "mx1",
        "message_id": "m1",
        "envelope": "from@sender.example",
        "recipient": "user1@example.com",
        "domain": "example.com",
        "size": 1000,
        "remote_ip": "127.0.0.9",
        "lane": "127.0.0.1/example.com",
        "mta_ip": "127.0.0.1",
        "host": "mx.example.com",
        "state": "message",
        "result": "accepted",
        "next": "delivered",
        "retry_at": "2026-09-21T14:14:20Z",
        "code": 250,
        "status": "2.0.0",
        "description": "queued",
        "attempt": 3,
        "tags": ["a", "b"],
        "queued": 1.5,
        "wire": 0.5,
        "tls": "TLSv1.3",
    }


def test_a_received_message_says_how_it_came() -> None:
    """The received-log has the same beginning, and the way in."""
    event = Received(
        time=TIME, message_id="m1", envelope="", recipient="a@B.Example.", size=10, source="smtp", user="app"
    )
    line = msgspec.json.decode(schema.line(schema.reception(event, "mx1")))
    assert (line["envelope"], line["domain"], line["source"], line["user"]) == ("", "b.example", "smtp", "app")


@pytest.mark.parametrize("record", [schema.Attempt, schema.Reception])
def test_the_reference_has_every_field_with_its_meaning(record: type[schema.LogRecord]) -> None:
    """What is not documented is not in the log."""
    rows = [row.split(" | ") for row in schema.reference().splitlines() if row.startswith("| `")]
    documented = {row[0].strip("|` "): row[2] for row in rows}
    assert all(len(documented[name]) > 5 for name in record.__struct_fields__)
    assert all(name in schema.columns(record) for name in record.__struct_fields__)


@pytest.mark.parametrize("text", ["x" * 200_000, "bad \udcff byte", "é" * 100_000])
def test_a_line_is_bounded_and_always_utf_8(text: str) -> None:
    """A receiver's endless or broken answer is cut, not lost."""
    line = schema.line(schema.attempt(delivery(), accepted(description=text), TIME, None, "mx1"))
    assert len(line) <= schema.LONGEST
    assert msgspec.json.decode(line, type=schema.Attempt).description[:2] == text[:2]


def test_what_has_line_ends_in_it_is_still_one_line() -> None:
    """An answer of several lines adds none to the log."""
    line = schema.line(schema.attempt(delivery(), accepted(description='one\r\n{"v":1}\x00'), TIME, None, "mx1"))
    assert line.count(b"\n") == 1


def test_times_before_the_queue_knew_are_not_invented() -> None:
    """A clock that jumped back gives no negative seconds."""
    made = schema.attempt(delivery(), accepted(), TIME - 100, TIME + 60, "mx1")
    assert made.queued == 0.0
    assert made.retry_at == datetime.datetime.fromtimestamp(TIME + 60, datetime.UTC)
