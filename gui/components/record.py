"""The DNS record of a DKIM key: what to publish, where, and what DNS says of it now. Only public halves come here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gui.components.parts import SCRIPTS, Shown
from settings.rules import DkimKey

STRING = 255  # characters of one string of a TXT record (RFC 1035 3.3.14)


class Record(Shown, component=f"{SCRIPTS}/record.js"):
    """A dialog with the record of one key.

    Args:
        check: asks DNS again.
    """

    def __init__(self, check: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._props["record"] = {}
        self._props["state"] = None
        self.on("check", lambda: check())

    def begin(self, rule: DkimKey, state: Mapping[str, Any]) -> None:
        """Open it."""
        self.show("record", {"name": rule.record_name, "value": rule.record, "zone": zone_line(rule)})
        self.show("state", dict(state))
        self.run_method("show")


def zone_line(rule: DkimKey) -> str:
    """The record as a line of a zone file (RFC 1035 5.1), in strings of at most 255 characters."""
    parts = [f'"{rule.record[at : at + STRING]}"' for at in range(0, len(rule.record), STRING)]
    return f"{rule.record_name}. IN TXT ( {' '.join(parts)} )" if parts else ""
