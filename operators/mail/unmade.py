"""unmade: a message that cannot be made as it asks, so that it is given up and never sent raw."""

from __future__ import annotations

from operators.mail.message import InvalidMessage


class Unmade(InvalidMessage):
    """The message cannot be made: `state` says which step it was, `responsive` or `personalize`."""

    result = "error"

    def __init__(self, state: str, text: str) -> None:
        self.state = state
        super().__init__(text)
