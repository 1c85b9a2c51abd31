"""What the event stream hears of what operators do."""

from __future__ import annotations

import time

from operators.deliveries.events import Notice
from settings.store import Who


def done_by(who: Who, kind: str, text: str, lane: str = "") -> Notice:
    """The notice of what somebody did; `lane`: the one that it was done to."""
    return Notice(time=time.time(), kind=kind, text=text, fields={"lane": lane, "who": who.name, "origin": who.origin})
