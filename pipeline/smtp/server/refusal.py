"""Refusal: a negative SMTP reply, raised where the reason is found and answered in one place."""

from __future__ import annotations


class Refusal(Exception):
    """The client is answered with `reply`, and the session goes on.

    Args:
        reply: code, enhanced status code (RFC 3463) and text, one line.
        close: the connection is closed after it.
    """

    def __init__(self, reply: str, *, close: bool = False) -> None:
        super().__init__(reply)
        self.reply = reply
        self.close = close

    @property
    def code(self) -> int:
        """The three digits (RFC 5321 4.2)."""
        return int(self.reply[:3])
