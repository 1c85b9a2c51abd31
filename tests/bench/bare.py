"""The script that one would write instead: consume with aio-pika, send with aiosmtplib, publish a result, acknowledge.

As many workers as connections, each with one that stays open; no retries, no limits, no log. `broker` measures it.

    python -m tests.bench.bare AMQP-ADDRESS SMTP-PORT [CONNECTIONS]
"""

from __future__ import annotations

import asyncio
import sys

import aio_pika
import aiosmtplib
import msgspec
import uvloop

PREFETCH = 1000  # as `rabbitmq-qos`


async def work(
    messages: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage], channel: aio_pika.abc.AbstractChannel, port: int
) -> None:
    """Send one message after another over one connection."""
    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False)
    await client.connect()
    while True:
        message = await messages.get()
        mail = msgspec.json.decode(message.body)
        _, answer = await client.sendmail(mail["envelope"], [mail["recipient"]], mail.pop("mime"))
        mail["results"] = [{"state": "message", "result": "accepted", "description": answer}]
        result = aio_pika.Message(msgspec.json.encode(mail), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(result, "results")
        await message.ack()


async def main(address: str, port: int, connections: int) -> None:
    """Until killed."""
    connection = await aio_pika.connect(address)
    channel = await connection.channel(publisher_confirms=True)
    await channel.set_qos(PREFETCH)
    outbox = await channel.get_queue("outbox")
    messages: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
    await outbox.consume(messages.put)
    await asyncio.gather(*(work(messages, channel, port) for _ in range(connections)))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 20))
