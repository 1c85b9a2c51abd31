"""relay: the server that takes a message in place of its receivers, and the login there. Pure functions.

The sink is the operator's word, and wins over everything; then the message's own smarthost; then the configured one.
"""

from __future__ import annotations

import msgspec

from operators.deliveries.outcome import Next, deferred
from operators.deliveries.routes import Found
from operators.mail.message import Message, Smarthost


class Relay(msgspec.Struct, frozen=True):
    """What the configuration has: `smarthost`, and `smtp-sink-address` or `delivery-sink`."""

    smarthost: Smarthost | None = None
    sink: Smarthost | None = None

    def host(self, message: Message) -> Smarthost | None:
        """The smarthost of a message, as it would be without a sink."""
        return message.smarthost or self.smarthost

    def through(self, message: Message) -> Smarthost | None:
        """The server that the message is given to, where that is not its receiver's."""
        return self.sink or message.smarthost or self.smarthost

    def found(self, message: Message, found: Found) -> Found:
        """The configured smarthost is the operator's word: that it has no address fails no message for good."""
        if message.smarthost is None and self.smarthost is not None and getattr(found, "next", None) is Next.FAIL:
            return deferred("dns", "error", f"smarthost: {getattr(found, 'description', '')}")
        return found
