"""A campaign and the mail beside it: how long a password reset waits behind it, and how fast it is stopped and deleted.

    python -m tests.bench.campaigns [--messages 200000] [--folder /dev/shm] [fair] [stop] [delete]

`fair`: the campaign is on its way to one domain, and a reset to the same domain is handed in each second, with a
priority: from its 250 until the receiver has it. `stop`: a forced error for its tag: when the last of it leaves, how
many end in a second, and how long resets take meanwhile. `delete`: the same as a bulk deletion. The queue is filled
before the program starts. CPU seconds count where other work runs beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import smtplib
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator

import msgspec
import psutil

from pipeline.queues.embedded.file import Store, Work
from tests.bench.table import Row, markdown
from tests.support.api import TOKEN, Api
from tests.support.mailbox import Mailbox
from tests.support.program import Program

PART = 2000
MIME = "From: a@sender.example\r\nSubject: Sale\r\n\r\n" + ("x" * 70 + "\r\n") * 20
RESETS = 40  # seconds of `fair`
PATIENCE = 600.0


def fill(path: pathlib.Path, count: int, domains: int) -> None:
    """A queue with a campaign."""
    path.parent.mkdir(mode=0o700, parents=True)
    store, now = Store(path, writes=True), time.time()
    for start in range(0, count, PART):
        work = Work()
        for number in range(start, min(start + PART, count)):
            message = {"recipient": f"u{number}@d{number % domains}.example", "envelope": "news@sender.example"}
            message |= {"message-id": f"{number}@sender.example", "tags": ["sale"], "mime": MIME}
            work.add("outbox", msgspec.json.encode(message), 0.0, now)
        store.write(work)
    store.close()


class Resets:
    """One password reset a second to the first domain, and how long each took from its 250 to the receiver."""

    def __init__(self, program: Program, mailbox: Mailbox) -> None:
        self._program, self._mailbox = program, mailbox
        self._sent: dict[str, float] = {}
        self.came: dict[str, float] = {}
        mailbox.accept = self._accept  # type: ignore[method-assign]
        self.campaign: list[float] = []  # when each of its messages came
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> Resets:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _accept(self, message: bytes) -> None:
        now = time.monotonic()
        if b"X-Reset: " not in message:
            self.campaign.append(now)
            return
        self.came[message.partition(b"X-Reset: ")[2].partition(b"\r\n")[0].decode()] = now

    def _send(self) -> None:
        number = 0
        while not self._over.wait(1.0):
            number += 1
            with smtplib.SMTP("127.0.0.1", self._program.smtp_port, timeout=60) as client:
                text = f"Subject: Reset\r\nX-MQ-Priority: 9\r\nX-Reset: {number}\r\n\r\nhere\r\n"
                client.sendmail("bank@example.com", f"r{number}@d0.example", text)
                self._sent[str(number)] = time.monotonic()

    def waited(self) -> list[float]:
        """Of those that came; one that comes before its 250 is read has not waited."""
        return [max(0.0, self.came[number] - sent) for number, sent in self._sent.items() if number in self.came]

    @property
    def line(self) -> str:
        """How they fared."""
        found = sorted(self.waited())
        if len(found) < 2:
            return "no resets"
        p99 = statistics.quantiles(found, n=100, method="inclusive")[98]
        return f"{len(found)} of {len(self._sent)} resets came, p50 {found[len(found) // 2]:.2f} s, p99 {p99:.2f} s"


@contextlib.contextmanager
def running(folder: pathlib.Path, count: int, domains: int) -> Iterator[tuple[Program, Resets]]:
    """The program with the campaign, and resets beside it."""
    with tempfile.TemporaryDirectory(dir=folder) as name, Mailbox() as mailbox:
        fill(pathlib.Path(name) / "var" / "queue.db", count, domains)
        options = {"delivery_sink": f"127.0.0.1:{mailbox.port}", "api_token": TOKEN, "smtp_extract": "true"}
        with Program(pathlib.Path(name), **options) as program, Resets(program, mailbox) as resets:
            yield program, resets


def fair(folder: pathlib.Path, count: int) -> Row:
    """A reset each second behind a campaign to the same domain."""
    with running(folder, count, 1) as (_, resets):
        time.sleep(RESETS)
        went = len(resets.campaign)
    return Row(
        f"{count:,} queued for a domain, a reset a second with priority", resets.line, f"{went / RESETS:.0f}/s went"
    )


def ended(folder: pathlib.Path, count: int, how: str) -> Row:
    """The campaign is stopped, or deleted."""
    with running(folder, count, 10_000) as (program, resets):
        api, process = Api(program), psutil.Process(program.process.pid)  # type: ignore[union-attr]
        time.sleep(3)
        before, begun = sum(process.cpu_times()[:2]), time.monotonic()
        if how == "stop":
            api.post("errors/stop", tag="sale", code=554)
        else:
            api.post("messages/actions", action="delete", selection={"tag": "sale"})
        answered = time.monotonic()
        while _left(api) > 0 and time.monotonic() < begun + PATIENCE:
            time.sleep(0.5)
        took, cpu = time.monotonic() - begun, sum(process.cpu_times()[:2]) - before
        last = max([0.0, *(moment - answered for moment in resets.campaign)])
    figure = f"{count / took:,.0f}/s, {cpu / count * 1e6:.0f} us CPU each; {resets.line}"
    return Row(f"{how} a campaign of {count:,}", figure, f"the last of it left {last:.2f} s after the answer")


def _left(api: Api) -> int:
    figures = api.get("queues")
    return int(figures["ready"] + figures["waiting"] + figures["unsettled"] + sum(figures["parked"].values()))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["fair", "stop", "delete"])
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()))
    wanted = parser.parse_args()
    rows = [
        fair(wanted.folder, wanted.messages) if what == "fair" else ended(wanted.folder, wanted.messages, what)
        for what in wanted.what
    ]
    print(markdown(rows))


if __name__ == "__main__":
    main()
