"""remembered: what was made of texts, kept for the next time. Owns it. Bound: `most` octets or characters of texts."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Generic, TypeVar

Text = TypeVar("Text", str, bytes)
Made = TypeVar("Made")


class Remembered(Generic[Text, Made]):
    """Makes something of a text, or has it still; the one not asked for longest goes first.

    Args:
        make: makes it; what it raises is raised.
        most: of the texts in all; a text of more than a quarter is not kept.
    """

    def __init__(self, make: Callable[[Text], Made], most: int) -> None:
        self._make: Callable[[Text], Made] = make
        self._most = most
        self._made: collections.OrderedDict[Text, Made] = collections.OrderedDict()
        self._kept = 0

    def __call__(self, text: Text) -> Made:
        made = self._made.get(text)
        if made is not None:
            self._made.move_to_end(text)
            return made
        made = self._make(text)
        if len(text) <= self._most // 4:
            self._made[text] = made
            self._kept += len(text)
            while self._kept > self._most:
                gone, _ = self._made.popitem(last=False)
                self._kept -= len(gone)
        return made
