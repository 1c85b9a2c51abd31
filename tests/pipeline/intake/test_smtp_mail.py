"""Mail that is taken: what comes onto the queue, and when it is confirmed."""

from __future__ import annotations

import asyncio
import base64
import shutil
import smtplib
from email.message import EmailMessage

import pytest

from operators.deliveries.events import Fault, Received, Rejected
from pipeline.queues.contract import QueueFull, QueueUnavailable
from tests.pipeline.intake.harness import House

MAIL = b"Subject: hello\r\n\r\nworld\r\n.\r\n"


async def test_a_message_becomes_one_json_with_everything_that_is_known_of_it(house: House) -> None:
    """spec: Incoming."""
    await house.open()
    caller = await house.call()
    answer = await caller.mail(MAIL)
    (message,) = house.queued()
    id_ = message.pop("message-id")
    assert answer == f"250 2.0.0 Queued as {id_}"
    connection = message.pop("connection")
    assert connection.pop("remote-port") == caller.writer.get_extra_info("sockname")[1]
    assert connection.pop("local-port") == house.intake.addresses[0][1]
    assert connection == {"local-ip": "127.0.0.1", "remote-ip": "127.0.0.1", "secure": False, "user": ""}
    assert message == {
        "recipient": "b@example.net",
        "envelope": "a@example.org",
        "received": "2023-11-14 22:13:20",
        "hostname": "mx.example.com",
        "mime": "Received: from client.example ([127.0.0.1])\r\n"
        f"\tby mx.example.com with ESMTP id {id_};\r\n"
        "\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
        "Subject: hello\r\n\r\nworld\r\n",
    }


async def test_each_recipient_has_a_message_and_an_id_of_its_own(house: House) -> None:
    """One queue message per recipient; the reply has our id for each."""
    await house.open()
    answer = await (await house.call()).mail(MAIL, "b@example.net", "c@example.net", "b@example.net")
    messages = house.queued()
    assert [message["recipient"] for message in messages] == ["b@example.net", "c@example.net", "b@example.net"]
    assert answer == "250 2.0.0 Queued as " + " ".join(message["message-id"] for message in messages)
    assert len({message["message-id"] for message in messages}) == 3
    assert len({message["mime"] for message in messages}) == 1


async def test_a_long_list_of_ids_is_told_in_lines_of_at_most_512_octets(house: House) -> None:
    """RFC 5321 4.5.3.1.5."""
    await house.open()
    answer = await (await house.call()).mail(MAIL, *[f"r{n}@example.net" for n in range(100)])
    lines = answer.split("\n")
    assert all(len(line) <= 510 and line.startswith("250") for line in lines)
    told = [word for line in lines for word in line.split(" as ")[1].split()]
    assert told == [message["message-id"] for message in house.queued()]


async def test_ids_are_unique_over_instances(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each id holds `server-id`."""
    ids = []
    for name in ("mx1", "mx2"):
        house = House(tmp_path_factory.mktemp(name))
        await house.open(server_id=name)
        caller = await house.call()
        await caller.mail(MAIL)
        await caller.mail(MAIL)
        ids += [message["message-id"] for message in house.queued()]
        await house.close()
    assert len(set(ids)) == 4
    assert [id_.split("-")[0] for id_ in ids] == ["mx1", "mx1", "mx2", "mx2"]


async def test_each_message_is_reported(house: House) -> None:
    """The event of a received message has id, addresses, size and source."""
    await house.open()
    await (await house.call()).mail(MAIL)
    (event,) = house.told(Received)
    assert event.message_id == house.queued()[0]["message-id"]
    assert (event.envelope, event.recipient, event.size) == ("a@example.org", "b@example.net", len(MAIL) - 3)
    assert (event.source, event.remote_ip, event.user) == ("smtp", "127.0.0.1", "")


async def test_a_body_that_is_not_utf8_arrives_octet_for_octet(house: House) -> None:
    """JSON has only text: such a body travels as base64."""
    await house.open()
    await (await house.call()).mail(b"Subject: x\r\n\r\n\xff\xfe\r\n.\r\n", options=" BODY=8BITMIME")
    (message,) = house.queued()
    assert message["mime-encoding"] == "base64"
    assert base64.b64decode(message["mime"]).endswith(b"\r\n\r\n\xff\xfe\r\n")


async def test_dsn_parameters_come_along_as_plain_text(house: House) -> None:
    """RFC 3461: RET, ENVID, NOTIFY, ORCPT; xtext is decoded."""
    await house.open()
    caller = await house.call()
    replies = await caller.says(
        "MAIL FROM:<> RET=hdrs ENVID=a+2Bb",
        "RCPT TO:<b@example.net> NOTIFY=success,DELAY ORCPT=rfc822;b+2Bx@example.net",
        "RCPT TO:<c@example.net>",
        "DATA",
        MAIL[:-2],
    )
    assert replies[-1].startswith("250")
    first, second = house.queued()
    assert first["dsn"] == {"notify": "SUCCESS,DELAY", "ret": "HDRS", "orcpt": "rfc822;b+x@example.net", "envid": "a+b"}
    assert second["dsn"] == {"ret": "HDRS", "envid": "a+b"}
    assert first["envelope"] == ""


async def test_international_addresses_are_taken_with_smtputf8(house: House) -> None:
    """RFC 6531; the trace field names the protocol."""
    await house.open()
    caller = await house.call()
    await caller.says("MAIL FROM:<jürgen@example.org> SMTPUTF8", "RCPT TO:<用户@例え.jp>", "DATA", MAIL[:-2])
    (message,) = house.queued()
    assert (message["envelope"], message["recipient"]) == ("jürgen@example.org", "用户@例え.jp")
    assert "with UTF8SMTP id" in message["mime"]


async def test_commands_may_come_all_at_once(house: House) -> None:
    """RFC 2920: the replies come in order, and mail after mail goes through."""
    await house.open()
    caller = await house.call()
    envelope = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<bad>\r\nDATA\r\n"
    caller.send(envelope)
    assert [(await caller.reply())[:3] for _ in range(4)] == ["250", "250", "553", "354"]
    caller.send(MAIL + envelope)
    assert [(await caller.reply())[:3] for _ in range(5)] == ["250", "250", "250", "553", "354"]
    caller.send(MAIL + b"QUIT\r\n")
    assert [(await caller.reply())[:3] for _ in range(2)] == ["250", "221"]
    assert len(house.queued()) == 2


async def test_an_mta_ip_that_is_mappable_becomes_ips(house: House) -> None:
    """The address that the client connected to is the one to send from."""
    await house.open(smtp_ip="127.0.0.5", smtp_mappable_ips="127.0.0.5")
    await (await house.call()).mail(MAIL)
    assert house.queued()[0]["ips"] == ["127.0.0.5"]


class Deaf:
    """A queue that answers every publish with an error."""

    full: str | None = None
    apart = None

    def __init__(self, error: Exception) -> None:
        self.error = error

    def publish(self, messages, confirmed, delay=0.0) -> None:
        confirmed(self.error)


async def test_a_queue_that_cannot_take_it_is_451_and_nothing_is_received(house: House) -> None:
    """No 250 without the queue's confirmation; the session goes on."""
    intake = await house.open()
    intake.shared.queue = Deaf(QueueUnavailable("no broker"))
    caller = await house.call()
    assert await caller.mail(MAIL, "b@example.net", "c@example.net") == (
        "451 4.3.0 The queue takes nothing now, try again later"
    )
    assert not house.told(Received)
    assert [event.code for event in house.told(Rejected)] == [451]
    intake.shared.queue = house.queue
    assert (await caller.mail(MAIL)).startswith("250")
    assert len(house.queued()) == 1


async def test_a_queue_without_room_is_452_before_the_content_is_sent(house: House) -> None:
    """RFC 5321 4.2.2: at MAIL where it is known by then, else at the end of the content."""
    intake = await house.open(rabbitmq_refused="refused")
    queue = intake.shared.queue = Deaf(QueueFull("the disk is full"))
    caller = await house.call()
    assert await caller.mail(MAIL) == "452 4.3.1 Insufficient system storage"
    queue.full = "the disk is full"
    assert await caller.say("MAIL FROM:<a@example.org>") == "452 4.3.1 Insufficient system storage"
    assert [event.code for event in house.told(Rejected)] == [452, 452]
    assert not house.told(Fault)
    queue.full, intake.shared.queue = None, house.queue
    assert (await caller.mail(MAIL)).startswith("250")


async def test_what_is_turned_away_is_kept_where_a_queue_for_it_is_set(house: House) -> None:
    """rabbitmq-refused: reason, addresses, and the message where there was one."""
    await house.open(rabbitmq_refused="refused")
    caller = await house.call()
    await caller.mail(b"X-MQ-MaxAttempts: many\r\n\r\nx\r\n.\r\n")
    await house.queue.close()  # nobody waits for it: this does
    (message,) = house.queued("refused")
    assert message["reason"] == "554 5.6.0 x-mq-maxattempts: allowed is a number up to 1000000, 0 for no limit"
    assert (message["envelope"], message["recipient"]) == ("a@example.org", "b@example.net")
    assert message["mime"].endswith("x\r\n")


async def test_smtplib_can_send(house: House) -> None:
    """Python's own client, with a message of some size."""
    await house.open()
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@example.org", "b@example.net", "hi"
    mail.set_content(".\n..\n" + "line\n" * 50_000)

    def send() -> None:
        ip, port = house.intake.addresses[0]
        with smtplib.SMTP(ip, port) as client:
            client.send_message(mail)

    await asyncio.to_thread(send)
    assert house.queued()[0]["mime"].endswith(mail.as_bytes().replace(b"\n", b"\r\n").decode())


@pytest.mark.system
async def test_swaks_and_smtp_source_can_send(house: House) -> None:
    """Two clients that others wrote."""
    await house.open()
    ip, port = house.intake.addresses[0]
    quiet = asyncio.subprocess.DEVNULL
    commands = (
        ["swaks", "--server", f"{ip}:{port}", "--from", "a@example.org", "--to", "b@example.net", "--pipeline"],
        ["smtp-source", "-s", "5", "-m", "50", "-f", "a@example.org", "-t", "c@example.net", f"{ip}:{port}"],
    )
    for command in commands:
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} is not installed")
        process = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    assert len(house.queued()) == 51


async def test_mail_that_is_thrown_away_is_told(house: House) -> None:
    """K11: with an empty `rabbitmq-inbox` it is taken and goes nowhere; the events say so, one for each recipient."""
    await house.open(rabbitmq_inbox="")
    caller = await house.call()
    answer = await caller.mail(b"Subject: x\r\n\r\nx\r\n.\r\n", "b@example.net", "c@example.net")
    assert answer.startswith("250 2.0.0 Taken and thrown away")
    assert [(event.recipient, event.code) for event in house.told(Rejected)] == [
        ("b@example.net", 250),
        ("c@example.net", 250),
    ]
