"""SMTP dialogues that no client should hold: random octets, mutated transactions, false ends, injected commands."""

from __future__ import annotations

import base64
import itertools
import random
from typing import NamedTuple

SECRET = "right-of-the-tests"
VERBS = (
    b"EHLO x", b"HELO x", b"EHLO [127.0.0.1]", b"EHLO \xff\xfe", b"MAIL FROM:<>", b"MAIL FROM:<a@b.example>",
    b"MAIL FROM:<a@b.example> SIZE=5 BODY=8BITMIME", b"MAIL FROM:<a@b.example> SIZE=99999999999999999999",
    b"MAIL FROM:<\xc3\xbc@b.example> SMTPUTF8", b"MAIL FROM: <a@b.example>", b"MAIL FROM:a@b.example",
    b"RCPT TO:<c@d.example>", b"RCPT TO:<c@d.example> NOTIFY=NEVER", b"RCPT TO:<c@d.example> NOTIFY=NEVER,DELAY",
    b"RCPT TO:<c%x@d.example>", b"RCPT TO:<@x,@y:c@d.example>", b"RCPT TO:<\"c d\"@d.example>", b"RCPT TO:<c@[1.2.3]>",
    b"RCPT TO:<c@d.example> ORCPT=rfc822;c+40d", b"RCPT TO:<postmaster>", b"RSET", b"NOOP", b"NOOP x y", b"HELP",
    b"VRFY a", b"EXPN a", b"BDAT 5", b"BDAT 5 LAST", b"BDAT 99999999999999999999", b"BURL x", b"ETRN x", b"TURN",
    b"XCLIENT ADDR=1.2.3.4", b"DATA x", b"AUTH", b"AUTH PLAIN", b"AUTH LOGIN", b"AUTH CRAM-MD5", b"AUTH PLAIN =",
    b"AUTH PLAIN *", b"data", b"QUIT", b"", b" ", b"\xc3", b"Subject: x", b"GET / HTTP/1.1", b"\0", b"A" * 600,
)  # fmt: skip
ENDS = (b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\n", b"\r\n\r\n", b"\n\r", b"\0\r\n", b"\x0b", b"\x85")
LINES = (
    b"", b".", b"..", b"...", b". ", b" .", b".x", b"text", b"From: x", b"QUIT", b"DATA", b"RSET", b"\xff",
    b"\xc3\xbc", b"--x", b"x" * 998, b"x" * 1500, b"From x", b"\t", b"=0A.=0D", b"\xe2\x80\xa8.\xe2\x80\xa8",
)  # fmt: skip
FALSE_ENDS = (
    b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\n.\r", b"\r\n\r.\r\n", b"\r\r\n.\r\r\n",
    b"\r\n.\0\r\n", b"\r\n\0.\r\n", b"\r\n. \r\n", b"\r\n .\r\n", b"\r\n.\x0b\r\n", b"\r\n..\r\n", b"\r\n.\t\r\n",
    b"\x85.\x85", b"\n\n.\n\n", b"\r\n.\r\r\n",
)  # fmt: skip


class FuzzedDialogue(NamedTuple):
    """What is sent: in the clear, then behind STARTTLS where there is something.

    Attributes:
        chunks: each in a write of its own.
        secret: what is sent after the handshake; None where there is none.
        waits: the client reads a reply after each chunk, as one without pipelining does.
    """

    chunks: list[bytes]
    secret: list[bytes] | None = None
    waits: bool = False


class DrawnDialogues:
    """Draws them; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def draw(self, number: int, guarded: bool) -> FuzzedDialogue:
        """One of a random kind."""
        dice, kind = self.dice, self.dice.random()
        if guarded and kind < 0.5:
            return self._starttls(number)
        if kind < 0.15:
            return FuzzedDialogue(self._split(dice.randbytes(dice.randrange(1, 400))))
        octets = b"EHLO fuzz.example\r\n" + b"".join(self._part(number, part) for part in range(dice.randrange(1, 6)))
        if dice.random() < 0.3:
            octets = self._mutated(octets)
        return FuzzedDialogue(self._split(octets + (b"QUIT\r\n" if dice.random() < 0.5 else b"")))

    def _part(self, number: int, part: int) -> bytes:
        """A transaction, or some commands."""
        dice = self.dice
        if dice.random() < 0.35:
            return b"".join(dice.choice(VERBS) + dice.choice(ENDS) for _ in range(dice.randrange(1, 6)))
        recipients = [f"r{number}.{part}.{one}@fine.example" for one in range(dice.choice((1, 1, 1, 2, 5)))]
        lines = [b"MAIL FROM:<s@sender.example>", *(f"RCPT TO:<{name}> NOTIFY=NEVER".encode() for name in recipients)]
        return b"".join(line + b"\r\n" for line in [*lines, b"DATA"]) + self.content(number, part) + b"\r\n.\r\n"

    def content(self, number: int, part: int) -> bytes:
        """A message with line ends of all kinds, often one that others take for its end, and a message behind it."""
        dice = self.dice
        head = f"X-Number: {number}.{part}\r\nSubject: fuzz\r\n\r\n".encode()
        body = b"".join(self._line() + dice.choice(ENDS) for _ in range(dice.randrange(8)))
        if dice.random() < 0.4:
            body += b"text" + dice.choice(FALSE_ENDS) + self._smuggled(number)
        if dice.random() < 0.01:
            body += b"y" * dice.choice((65_530, 70_000, 300_000, 1_200_000))
        return head + body

    def _line(self) -> bytes:
        line = self.dice.choice(LINES)
        return line + self.dice.choice(LINES) if self.dice.random() < 0.3 else line

    def _smuggled(self, number: int) -> bytes:
        lines = [b"MAIL FROM:<evil@x.example>", b"RCPT TO:<smuggled@x.example>", b"DATA", b"X-Number: smuggled"]
        end = self.dice.choice((b"\r\n", b"\n"))
        return b"".join(line + end for line in lines) + end + b"x"

    def _mutated(self, octets: bytes) -> bytes:
        dice = self.dice
        for _ in range(dice.randrange(1, 6)):
            at = dice.randrange(len(octets) + 1)
            match dice.randrange(4):
                case 0:
                    octets = octets[:at] + dice.randbytes(dice.randrange(1, 5)) + octets[at:]
                case 1:
                    octets = octets[:at] + octets[at + dice.randrange(1, 20) :]
                case 2:
                    octets = octets[:at] + dice.choice(ENDS) + octets[at:]
                case _:
                    octets = octets[:at] + octets[max(0, at - dice.randrange(1, 60)) :]
        return octets

    def _split(self, octets: bytes) -> list[bytes]:
        """In one write, in a few, in many; cut anywhere, between CR and LF as well."""
        pieces = self.dice.choice((1, 1, 2, 3, 10))
        cuts = sorted(self.dice.randrange(len(octets) + 1) for _ in range(pieces - 1))
        ends = [0, *cuts, len(octets)]
        return [octets[begin:end] for begin, end in itertools.pairwise(ends) if begin < end]

    def _starttls(self, number: int) -> FuzzedDialogue:
        """STARTTLS, often with commands behind it in the same write; then a login, right or not, and mail."""
        dice = self.dice
        injected = b"MAIL FROM:<evil@x.example>\r\nRCPT TO:<smuggled@x.example>\r\nDATA\r\n\r\nx\r\n.\r\n"
        behind = dice.choice((b"", b"", injected, injected[: dice.randrange(1, 60)], b"NOOP\r\n", b"RSET\r\n"))
        lines = b"EHLO fuzz.example\r\n" + self._login()
        lines += b"".join(self._part(number, part) for part in range(dice.randrange(1, 4)))
        if dice.random() < 0.3:
            lines = self._mutated(lines)
        return FuzzedDialogue([b"EHLO x\r\n", b"STARTTLS\r\n" + behind], self._split(lines))

    def _login(self) -> bytes:
        """Mostly right; a wrong one is another user's each time, so that nobody stands in line."""
        dice = self.dice
        user, password = ("joe", SECRET) if dice.random() < 0.97 else (f"u{dice.randrange(10**6)}", "wrong")
        plain = base64.b64encode(f"\0{user}\0{password}".encode())
        words = base64.b64encode(user.encode()), base64.b64encode(password.encode())
        return dice.choice(
            (b"AUTH PLAIN " + plain + b"\r\n", b"AUTH PLAIN\r\n" + plain + b"\r\n", b"AUTH PLAIN\r\n*\r\n",
             b"AUTH LOGIN\r\n" + b"\r\n".join(words) + b"\r\n", b"AUTH LOGIN " + b"\r\n".join(words) + b"\r\n",
             b"AUTH PLAIN " + plain[:-3] + b"\r\n", b"AUTH PLAIN " + plain * 400 + b"\r\n")
        )  # fmt: skip
