"""Series: counts over time for one key, kept per second for a minute, per 10 s for an hour, per minute for a day.

Owner: `telemetry`. Bound: each counter has at most 19 blocks in its three tiers; one that counts nothing has none.
A block holds BLOCK slots as 16 bit numbers, and is widened when one does not fit. Measured: a key with five
counters that never rest takes 35 kB after a day, one that was active for a minute 6 kB.
It cannot fail: where the clock jumps back, what lies ahead of it is dropped.
"""

from __future__ import annotations

import array
from collections.abc import Sequence

STEPS = (1, 10, 60)  # seconds a slot, by tier
SLOTS = (60, 360, 1440)  # slots that can be asked for, by tier
BLOCK = 120  # slots a block

_EMPTY = array.array("H", bytes(2 * BLOCK))

Place = tuple[int, int, int]  # (tier, block number, slot in the block)
Column = list[tuple[int, "array.array[int]"]]  # (block number, block), ascending


def places(second: int) -> tuple[Place, ...]:
    """Where this second is counted, in each tier. Worked out once a second, for all keys."""
    return tuple((tier, *divmod(second // step, BLOCK)) for tier, step in enumerate(STEPS))


class Series:
    """The counts of one key. `current` is the running second, which `fold` adds to the tiers."""

    __slots__ = ("_columns", "current", "touched")

    def __init__(self, counters: int) -> None:
        self.current = [0] * counters
        self.touched = False  # `current` has something to fold
        self._columns: dict[int, Column] = {}  # by counter * tiers + tier

    def fold(self, where: Sequence[Place]) -> None:
        """Add the running second, which lies at `where` (see `places`), and begin the next one."""
        for counter, count in enumerate(self.current):
            if not count:
                continue
            for tier, number, slot in where:
                column = self._columns.get(counter * len(STEPS) + tier)
                if column is None or column[-1][0] != number:
                    column = self._open(counter, tier, number)
                try:
                    column[-1][1][slot] += count
                except OverflowError:
                    column[-1] = (number, array.array("Q", column[-1][1]))
                    column[-1][1][slot] += count
        self.current = [0] * len(self.current)
        self.touched = False

    def put_back(self, counter: int, tier: int, slot: int, count: int) -> None:
        """Add to a slot that has passed (epoch seconds // step)."""
        number, place = divmod(slot, BLOCK)
        column = self._columns.setdefault(counter * len(STEPS) + tier, [])
        at = next((at for at, (known, _) in enumerate(column) if known >= number), len(column))
        if at == len(column) or column[at][0] != number:
            column.insert(at, (number, array.array("Q", bytes(8 * BLOCK))))
        block = array.array("Q", column[at][1])
        block[place] += count
        column[at] = (number, block)

    def values(self, counter: int, tier: int, first: int, count: int) -> list[int]:
        """The counts of `count` slots from slot number `first` (epoch seconds // step) on."""
        found = [0] * count
        for number, block in self._columns.get(counter * len(STEPS) + tier, ()):
            start = number * BLOCK - first  # where the block begins in `found`
            low, high = max(start, 0), min(start + BLOCK, count)
            if low < high:
                found[low:high] = block[low - start : high - start]
        return found

    def sums(self, tier: int, first: int, count: int) -> list[int]:
        """The sum of each counter over these slots."""
        found = [0] * len(self.current)
        for counter in range(len(found)):
            for number, block in self._columns.get(counter * len(STEPS) + tier, ()):
                start = number * BLOCK
                low, high = max(first - start, 0), min(first + count - start, BLOCK)
                if low < high:
                    found[counter] += sum(block[low:high])
        return found

    def _open(self, counter: int, tier: int, number: int) -> Column:
        """Begin a block; those out of reach are dropped, and those ahead of it."""
        name = counter * len(STEPS) + tier
        if name not in self._columns:  # most keys are of a domain that is seen once
            self._columns[name] = [(number, _EMPTY[:])]
            return self._columns[name]
        oldest = number - SLOTS[tier] // BLOCK - 1
        kept = [pair for pair in self._columns.get(name, ()) if oldest <= pair[0] <= number]
        if not kept or kept[-1][0] != number:
            kept.append((number, _EMPTY[:]))
        self._columns[name] = kept
        return kept
