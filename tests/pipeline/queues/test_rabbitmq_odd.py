"""Properties, routing keys and bodies that no client library sets: each message is lent, and none ends the link."""

from __future__ import annotations

import asyncio
import base64
import struct
import time

import pytest
from pamqp import frame
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from pipeline.queues.rabbitmq.amqp.frames import EARLIEST, _frame, method, properties
from pipeline.queues.rabbitmq.loans import BrokerLoan
from tests.pipeline.queues.desk import Desk
from tests.pipeline.queues.rabbit import channel, opened, rabbit
from tests.support.amqp import LONGLONG, RawPublisher, nested, short, sized, table
from tests.support.amqp import properties as raw

LATIN = "Müller".encode("latin-1")
HUGE = b"x" * 255
NOW = int(time.time())


def stamp(value: int) -> bytes:
    return struct.pack(">q", value)


VALUES = (
    b"t\2", b"b\xff", b"B\xff", b"s\xff\xff", b"u\xff\xff", b"I" + b"\xff" * 4, b"i" + b"\xff" * 4, b"l" + b"\xff" * 8,
    b"L" + b"\xff" * 8, b"f" + struct.pack(">f", 1e30), b"d" + struct.pack(">d", 1e300), b"D\xff" + b"\xff" * 4, b"V",
    b"x" + sized(b"\0\xff"), b"A" + sized(b""), b"F" + sized(b""),
)  # fmt: skip
ODD = {
    "timestamp in milliseconds": raw(timestamp=stamp(NOW * 10**3)),
    "timestamp in microseconds": raw(timestamp=stamp(NOW * 10**6)),
    "timestamp in nanoseconds": raw(timestamp=stamp(NOW * 10**9)),
    "timestamp before 1970": raw(timestamp=stamp(-1)),
    "timestamp of 0": raw(timestamp=stamp(0)),
    "timestamp as large as can be": raw(timestamp=stamp(2**63 - 1)),
    "timestamp as small as can be": raw(timestamp=stamp(-(2**63))),
    "header time in microseconds": raw(headers=table((b"t", b"T" + stamp(NOW * 10**6)))),
    "header time before 1970": raw(headers=table((b"t", b"T" + stamp(-1)))),
    "Latin-1 header name": raw(headers=table((LATIN, b"S" + sized(b"v")))),
    "Latin-1 header value": raw(headers=table((b"n", b"S" + sized(LATIN)))),
    "Latin-1 content-type": raw(content_type=short(b"text/" + LATIN)),
    "Latin-1 content-encoding": raw(content_encoding=short(LATIN)),
    "Latin-1 message-id": raw(message_id=short(LATIN)),
    "Latin-1 everywhere": raw(
        correlation_id=short(LATIN), reply_to=short(LATIN), type=short(LATIN), app_id=short(LATIN),
        cluster_id=short(LATIN),
    ),
    "longest strings of no UTF-8": raw(message_id=short(b"\xff" * 255), content_type=short(b"\xfe" * 255)),
    "headers nested 2,000 deep": raw(headers=table((b"a", nested(2000)))),
    "headers nested 10,000 deep": raw(headers=table((b"a", nested(10_000)))),
    "arrays nested": raw(headers=table((b"a", b"A" + sized(b"A" + sized(b"A" + sized(b"V")))))),
    "one name twice": raw(headers=table((b"a", b"V"), (b"a", b"I\0\0\0\1"))),
    "a nameless header": raw(headers=table((b"", b"V"))),
    "very many headers": raw(headers=table(*[(b"h%d" % n, b"V") for n in range(15_000)])),
    "a very large header": raw(headers=table((b"h", b"S" + sized(b"x" * 120_000)))),
    "our headers with foreign values": raw(
        headers=table(
            (b"x-mailrace-queued", b"l" + b"\x7f" + b"\xff" * 7), (b"x-mailrace-due", b"l" + b"\xff" * 8),
            (b"x-mailrace-slack", b"S" + sized(b"much")), (b"x-mailrace-lane", b"S" + sized(LATIN)),
        )
    ),
    "our headers, huge": raw(
        headers=table((b"x-mailrace-due", b"l\x7f" + b"\xff" * 7), (b"x-mailrace-slack", b"l\x7f" + b"\xff" * 7))
    ),
    "our lane, unknown": raw(headers=table((b"x-mailrace-lane", b"S" + sized(b"1.2.3.4/nowhere.example")))),
    "our lane, of another type": raw(headers=table((b"x-mailrace-lane", b"F" + sized(b"")))),
    "priority of 255": raw(priority=b"\xff", delivery_mode=b"\1"),
} | {
    f"a header of type {value[:1]!r}": raw(
        headers=table((b"h", value), (b"x-mailrace-queued", b"l" + stamp(NOW * 1000)))
    ) for value in VALUES
}  # fmt: skip


async def flows(desk: Desk, wanted: list[bytes]) -> None:
    """All of these are lent, over the first link, and settled."""
    queue = rabbit(desk)
    link = queue.broker.link
    desk.consume(1000)
    leases = await desk.next(len(wanted))
    assert sorted(lease.body for lease in leases) == sorted(wanted)
    for lease in leases:
        assert EARLIEST <= lease.queued <= time.time()
        await desk.settle(lease)
    assert queue.broker.link is link
    assert (dict(queue.parked()), queue.parked_queues.queues) == ({}, 0)
    assert (await queue.figures()).ready == 0


async def test_no_property_of_a_message_stops_the_stream(address: str) -> None:
    """K9: what a publisher sets beside a good body ends neither the message nor the link; also after a restart."""
    async with opened(address):
        pass
    wanted = [name.encode() for name in ODD]
    with RawPublisher(address) as publisher:
        for name, header in ODD.items():
            await asyncio.to_thread(publisher.publish, b"outbox", header, name.encode())
        await asyncio.to_thread(publisher.publish, b"outbox", b"\0\0", b"last")
    async with opened(address) as desk:
        await flows(desk, [*wanted, b"last"])


async def test_a_routing_key_of_any_bytes_stops_nothing(address: str) -> None:
    """K9: a delivery quotes the exchange and the routing key that its publisher has chosen."""
    async with opened(address) as desk, channel(address) as other:
        await other.exchange_declare("any", exchange_type="fanout")
        await other.queue_bind("outbox", "any")
        with RawPublisher(address) as publisher:
            for key in (LATIN, b"\xff" * 255, b"\0"):
                await asyncio.to_thread(publisher.publish, key, b"\0\0", b"m", b"any")
        await flows(desk, [b"m", b"m", b"m"])


async def test_two_ids_that_are_no_utf_8_are_two_messages(address: str, tmp_path: object) -> None:
    """K9: an id that cannot be read still tells messages apart."""
    ids = [b"\xfc1", b"\xfc2"]
    async with opened(address) as desk:
        with RawPublisher(address) as publisher:
            for id in ids:
                await asyncio.to_thread(publisher.publish, b"outbox", raw(message_id=short(id)), b"same")
        desk.consume()
        await desk.next(2)
        assert len({loan.key for loan in rabbit(desk).loans}) == 2


def test_properties_that_are_cut_off_end_where_they_are() -> None:
    """K9: what stands before the cut counts, and no cut, and no flag, is one that pamqp cannot decode then."""
    whole = bytes(12) + raw(
        content_type=short(b"a/b"), content_encoding=short(b"gzip"),
        headers=table((b"a", b"V"), (b"x-mailrace-queued", b"l" + stamp(NOW * 1000))),
        delivery_mode=b"\2", message_id=short(b"id"), timestamp=stamp(NOW), user_id=short(b"u"),
    )  # fmt: skip
    found = []
    for cut in range(12, len(whole) + 1):
        header = frame.unmarshal(_frame(2, 1, properties(whole[:cut])))[2]
        assert isinstance(header, ContentHeader)
        found.append(header.properties.content_encoding)
    assert found.index("gzip") == whole.index(b"gzip") + 4 - 12
    for flags in (b"\xff\xff", b"\0\1\0\0", b"\xff\xff\xff\xff", b"\0\1" * 2000):
        frame.unmarshal(_frame(2, 1, properties(bytes(12) + flags)))


def test_properties_are_read_in_linear_time() -> None:
    """K9, S1: a table as large as a frame takes as long as its bytes, though its names look like ours."""
    header = bytes(12) + raw(headers=table(*[(b"x-mailrace-%d" % n, b"V") for n in range(6_000)]))
    assert len(properties(header)) < 100
    begin = time.process_time()
    for _ in range(100):
        properties(header)
    assert time.process_time() - begin < 5


def test_a_reason_that_is_cut_off_within_a_character_can_be_read() -> None:
    """K9: RabbitMQ cuts a reply's text after 255 bytes, wherever that is."""
    text = ("x" + "ä" * 127).encode()[:254]
    payload = struct.pack(">HHH", 20, 40, 406) + short(text + b"\xc3") + bytes(4)
    close = frame.unmarshal(_frame(1, 1, method(payload + b"\xce") or b""))[2]
    assert getattr(close, "reply_text", "").endswith("ä")


def test_a_delivery_is_as_it_was_but_for_what_is_not_used() -> None:
    """The consumer's tag, the delivery's, and whether it came before."""
    whole = frame.marshal(Basic.Deliver("ctag", 2**63 - 1, True, "exchange", "key"), 1)
    deliver = frame.unmarshal(_frame(1, 1, method(whole[7:]) or b""))[2]
    assert isinstance(deliver, Basic.Deliver)
    assert (deliver.consumer_tag, deliver.delivery_tag, deliver.redelivered) == ("ctag", 2**63 - 1, True)
    assert LONGLONG.pack(2**63 - 1) in whole


@pytest.mark.parametrize("depth", [900, 970, 50_000])
async def test_a_body_that_is_nested_deep_is_republished_as_it_is(address: str, depth: int) -> None:
    """K9: where it has to wait, and where an operator makes it ready, with priorities too."""
    body = b'{"nextattempt": {}, "own": ' + b"[" * depth + b"]" * depth + b"}"
    due = table((b"x-mailrace-due", b"l" + stamp((int(time.time()) + 500) * 1000)))
    async with opened(address, rabbitmq_maxpriority=5) as desk:
        desk.consume()
        with RawPublisher(address) as publisher:
            await asyncio.to_thread(publisher.publish, b"outbox", raw(headers=due), body)
        async with asyncio.timeout(60):
            while not (await rabbit(desk).figures()).waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # it is on its way
        assert await rabbit(desk).flush() == 1
        [lease] = await desk.next()
        assert lease.body.endswith(b"]}")


@pytest.mark.parametrize("value", [b"?", b"\0", b"U\0\0", b"k\0\0\0\0", b"S\xff\xff\xff\xff", b"S", b""])
def test_a_header_that_is_none_ends_the_headers_only(value: bytes) -> None:
    """K9: nobody knows where the next header begins; ours before it count, and the properties after it."""
    ours = (b"x-mailrace-queued", b"l" + stamp(NOW * 1000))
    whole = bytes(12) + raw(headers=table(ours, (b"h", value), ours), message_id=short(b"id"))
    header = frame.unmarshal(_frame(2, 1, properties(whole)))[2]
    assert isinstance(header, ContentHeader)
    assert (header.properties.headers, header.properties.message_id) == ({"x-mailrace-queued": NOW * 1000}, "id")


async def test_a_message_that_we_fail_at_is_refused_and_the_others_flow(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K9: the last resort, for a fault of our own: said, and recorded with its body; nothing loops."""
    async with opened(address, rabbitmq_refused="refused") as desk, channel(address) as other:
        queue, lend = rabbit(desk), rabbit(desk).lending.lend

        def fail(loan: BrokerLoan) -> None:
            if loan.lease.body == b"bad":
                raise KeyError("oops")
            lend(loan)

        monkeypatch.setattr(queue.lending, "lend", fail)
        await desk.publish(b"1", b"bad", b"2")
        desk.consume()
        assert [lease.body for lease in await desk.next(2)] == [b"1", b"2"]
        async with asyncio.timeout(20):
            while (refused := await other.basic_get("refused", no_ack=True)).delivery_tag is None:
                pass  # it is on its way
        assert b"KeyError" in refused.body
        assert base64.b64encode(b"bad") in refused.body
