"""Traffic for the simulated internet: shops, papers and offices that send mail, over real SMTP, until they are stopped.

Owns a few connections to intake. When intake is away or refuses, the senders wait a moment and come again.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from email.header import Header
from email.utils import formatdate, make_msgid

import aiosmtplib
import msgspec
import structlog

from pipeline.demo.providers import PROVIDERS

RATE = 70.0  # messages a second on average; half of that and one and a half times that in turn
WAVE = 120.0  # seconds from one busy time to the next
CONNECTIONS = 4
COME_AGAIN = 1.0  # seconds after a refusal

log = structlog.get_logger(__name__)


class DemoSender(msgspec.Struct, frozen=True):
    """Somebody who sends mail: name, domain, share of the traffic, and (tag, subject, opening line) of what they send.

    With `ip` all of it leaves from that MTA IP.
    """

    name: str
    domain: str
    weight: int
    mail: tuple[tuple[str, str, str], ...]
    ip: str = ""


SENDERS = (
    DemoSender("Morgenpost", "morgenpost.test", 30, (
        ("newsletter", "Your briefing for {day}", "Good morning {first}, here is what happened while you slept."),
        ("newsletter", "The long read: why {thing} is back", "Eleven minutes of reading, {first}, and worth each."),
        ("digest", "Die Woche in Zürich – {number} Nachrichten", "Grüezi {first}, das war die Woche."),
    )),
    DemoSender("Gadget Barn", "gadget-barn.test", 25, (
        ("receipt", "Your order #{number} is confirmed", "Thank you {first}, we have your order of one {thing}."),
        ("shipping", "Your {thing} is on its way", "{first}, your parcel {number} left our barn today."),
        ("campaign", "48 hours only: {thing} at half price ⚡", "{first}, this will not come back soon."),
    )),
    DemoSender("Northern Savings", "northern-savings.test", 12, (
        ("statement", "Statement {number} is ready", "Dear {first}, your statement can be read in the usual place."),
        ("security", "New sign-in to your account", "Dear {first}, a new device signed in on {day}."),
    ), ip="127.0.0.4"),
    DemoSender("Plannr", "plannr.test", 20, (
        ("password-reset", "Reset your password", "Hi {first}, somebody, hopefully you, asked for a new password."),
        ("notification", "{other} commented on “{thing}”", "Hi {first}, there is a new comment waiting for you."),
        ("welcome", "Welcome to Plannr, {first}!", "We are glad that you are here. Here are three first steps."),
    )),
    DemoSender("City Library", "city-library.test", 5, (
        ("reminder", "“{thing}” is due on {day}", "Dear {first}, please bring it back or renew it."),
        ("reminder", "Réservation n° {number} : votre livre est arrivé", "Bonjour {first}, il vous attend."),
    )),
)  # fmt: skip

FIRST = (
    "ada", "alan", "barbara", "chen", "dennis", "edsger", "fatima", "grace", "hedy", "ines", "jan", "katherine",
    "linus", "margaret", "niklaus", "olga", "priya", "radia", "sofia", "tim", "ursula", "vint", "wanda", "xin",
    "yukihiro", "zoe",
)  # fmt: skip
LAST = (
    "abara", "becker", "castro", "dubois", "eriksen", "ferrari", "garcia", "hansen", "ito", "jensen",
    "kowalski", "lopez", "meier", "novak", "okafor", "petrov", "quinn", "rossi", "silva", "tanaka", "ueda",
    "vogel", "weber", "xu", "yilmaz", "zhang",
)  # fmt: skip
THINGS = ("kettle", "lamp", "fountain pen", "raincoat", "sextant", "typewriter", "map of Ghent", "bicycle", "loom")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SENTENCES = (
    "The committee met in the small hall, and decided to meet again.",
    "Prices include everything except what they do not.",
    "Weather: bright in the east, brighter in the west, rain where you are.",
    "You can change how often you hear from us at any time.",
    "Nobody who tried it has brought it back.",
    ".A line that begins with a dot, as lines may.",
)
BOUNDARY = "=_the-other-form"
_HEAD = "Content-Type: text/"
_CODED = "; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
_DOMAINS = tuple((domain, p.weight / len(p.taken)) for p in PROVIDERS for domain in p.taken)


class DemoMail(msgspec.Struct, frozen=True):
    """A message to inject."""

    envelope: str
    recipient: str
    source: bytes


class MailWriter:
    """Writes varied mail; the same seed writes the same."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)  # noqa: S311 - nothing depends on nobody guessing it

    def write(self) -> DemoMail:
        """The next message."""
        pick = self._random
        (sender,) = pick.choices(SENDERS, [s.weight for s in SENDERS])
        (domain,) = pick.choices([d for d, _ in _DOMAINS], [weight for _, weight in _DOMAINS])
        first, last = pick.choice(FIRST), pick.choice(LAST)
        recipient = f"{first}.{last}{pick.choice(('', '', pick.randrange(100)))}@{domain}"
        tag, subject, opening = pick.choice(sender.mail)
        words = {
            "first": first.title(), "other": pick.choice(FIRST).title(), "thing": pick.choice(THINGS),
            "day": pick.choice(DAYS), "number": pick.randrange(10_000, 99_999),
        }  # fmt: skip
        fields = {
            "From": f"{sender.name} <hello@{sender.domain}>",
            "To": recipient,
            "Subject": _encoded(subject.format(**words)),
            "Date": formatdate(),
            "Message-ID": make_msgid(domain=sender.domain),
            "x-mq-tag": tag,
        }
        if sender.ip:
            fields["x-mq-ip"] = sender.ip
        return DemoMail(f"bounces@{sender.domain}", recipient, self._compose(fields, opening.format(**words)))

    def _compose(self, fields: dict[str, str], opening: str) -> bytes:
        """MIME by hand: `email.message.EmailMessage` takes 2 ms for it, a seventh of a processor at 70 a second."""
        lines = [opening, "", *self._random.choices(SENTENCES, k=self._random.choice((2, 5, 20, 80)))]
        text = f"{_HEAD}plain{_CODED}" + "\r\n".join(lines)
        fields["MIME-Version"] = "1.0"
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        if self._random.random() < 0.4:
            return f"{head}{text}\r\n".encode()
        body = "".join(f"<p>{line}</p>\r\n" for line in lines if line)
        html = f"{_HEAD}html{_CODED}<html><body><h1>{opening}</h1>\r\n{body}</body></html>"
        kind = f'Content-Type: multipart/alternative; boundary="{BOUNDARY}"\r\n\r\n'
        return f"{head}{kind}--{BOUNDARY}\r\n{text}\r\n--{BOUNDARY}\r\n{html}\r\n--{BOUNDARY}--\r\n".encode()


def _encoded(text: str) -> str:
    return text if text.isascii() else Header(text, "utf-8").encode(linesep="\r\n")


def pace(rate: float, now: float) -> float:
    """Messages a second at this moment: the day has its busy times."""
    return rate * (1 + 0.5 * math.sin(2 * math.pi * now / WAVE))


async def traffic(host: str, port: int, rate: float = RATE, connections: int = CONNECTIONS) -> None:
    """Inject until cancelled.

    Args:
        host, port: of SMTP intake.
        rate: messages a second, on average.
        connections: that share it.
    """
    writers = [MailWriter(seed) for seed in range(connections)]
    async with asyncio.TaskGroup() as senders:
        for writer in writers:
            senders.create_task(_keep_sending(writer, host, port, rate / connections))


def _wanted() -> bool:
    """This task was not cancelled. Up to Python 3.11 `asyncio.wait_for`, in aiosmtplib, may swallow that (gh-86296)."""
    task = asyncio.current_task()
    return task is None or not task.cancelling()


async def _keep_sending(writer: MailWriter, host: str, port: int, rate: float) -> None:
    while _wanted():
        smtp = aiosmtplib.SMTP(hostname=host, port=port, start_tls=False, timeout=30)
        try:
            await smtp.connect()
            await _send(smtp, writer, rate)
        except (aiosmtplib.SMTPException, OSError) as error:
            log.info("demo traffic waits", error=str(error)[:200])
            await asyncio.sleep(COME_AGAIN)
        finally:
            smtp.close()  # without QUIT, which in the middle of a message would be part of it


async def _send(smtp: aiosmtplib.SMTP, writer: MailWriter, rate: float) -> None:
    due = time.monotonic()
    while _wanted():
        mail = writer.write()
        await smtp.sendmail(mail.envelope, [mail.recipient], mail.source, mail_options=["BODY=8BITMIME"])
        now = time.monotonic()
        due = max(due + 1 / pace(rate, now), now - 1)  # one that fell behind does not come in a burst
        await asyncio.sleep(max(0.0, due - now))
