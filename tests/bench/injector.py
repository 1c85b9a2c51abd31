"""Injects mail to many domains over one connection, pipelined; run several of them. smtp-source knows one domain only.

    python -m tests.bench.injector PORT FIRST TOTAL STEP SIZE DOMAINS [PER-SECOND]

Prints the seconds that each answer to a message took.
"""

from __future__ import annotations

import socket
import sys
import time


def inject(port: int, first: int, total: int, step: int, size: int, domains: int, pace: float = 0.0) -> list[float]:
    """Send those numbered `first`, `first` + `step`, ... below `total`; `pace`: a second, 0: as quick as they go."""
    body = (b"x" * 76 + b"\r\n") * (size // 78)
    took = []
    with socket.create_connection(("127.0.0.1", port), 60) as connection, connection.makefile("rb") as answers:
        _answers(answers, 1)
        connection.sendall(b"EHLO injector.example\r\n")
        _answers(answers, 1)
        begin = time.monotonic()
        for turn, number in enumerate(range(first, total, step)):
            if pace and (early := begin + turn / pace - time.monotonic()) > 0:
                time.sleep(early)
            recipient = b"u%d@d%d.example" % (number, number % domains)
            connection.sendall(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<%b>\r\nDATA\r\n" % recipient)
            _answers(answers, 3)
            sent = time.monotonic()
            connection.sendall(b"From: a@b.example\r\nSubject: %d\r\n\r\n%b.\r\n" % (number, body))
            _answers(answers, 1)
            took.append(time.monotonic() - sent)
    return took


def _answers(answers, count: int) -> None:  # type: ignore[no-untyped-def]
    while count:
        line = answers.readline()
        if not line or line[:1] in b"45":
            sys.exit(f"answered {line!r}")
        count -= line[3:4] != b"-"


if __name__ == "__main__":
    *numbers, pace = (*sys.argv[1:7], sys.argv[7] if len(sys.argv) > 7 else "0")
    print("\n".join(f"{one:.6f}" for one in inject(*map(int, numbers), float(pace))))  # type: ignore[misc]
