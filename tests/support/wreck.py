"""Damages a queue's file in given ways: whole pages, single bits, its header, its size."""

from __future__ import annotations

import os
import random
from pathlib import Path

PAGE = 4096
LEAF, INNER, INDEX_LEAF, INDEX_INNER = 0x0D, 0x05, 0x0A, 0x02


def pages(path: Path, kind: int) -> list[int]:
    """The numbers of the pages of a kind, the first one left out."""
    data = path.read_bytes()
    return [start // PAGE + 1 for start in range(PAGE, len(data), PAGE) if data[start] == kind]


def spoil(path: Path, *numbers: int, content: bytes | None = None) -> None:
    """Overwrite pages, with noise unless something else is given."""
    with path.open("r+b") as file:
        for number in numbers:
            file.seek((number - 1) * PAGE)
            file.write(content or random.Random(number).randbytes(PAGE))


def flip(path: Path, count: int, seed: int = 1) -> None:
    """Change single bits of what describes the cells of leaves."""
    dice, leaves = random.Random(seed), pages(path, LEAF)
    with path.open("r+b") as file:
        for _ in range(count):
            place = (dice.choice(leaves) - 1) * PAGE + dice.randrange(1, 10)
            file.seek(place)
            old = file.read(1)[0]
            file.seek(place)
            file.write(bytes((old ^ 1 << dice.randrange(8),)))


def cut(path: Path, part: float) -> None:
    """Only the first part of the file is left."""
    os.truncate(path, int(path.stat().st_size * part))


WAYS = {
    "header": lambda path: spoil(path, 1, content=bytes(100)),
    "first page": lambda path: spoil(path, 1),
    "leaf": lambda path: spoil(path, *pages(path, LEAF)[3:5]),
    "empty leaf": lambda path: spoil(path, pages(path, LEAF)[3], content=bytes(PAGE)),
    "root": lambda path: spoil(path, *pages(path, INNER)),
    "index leaf": lambda path: spoil(path, *pages(path, INDEX_LEAF)[:3]),
    "index root": lambda path: spoil(path, *pages(path, INDEX_INNER)),
    "pointer map": lambda path: spoil(path, 2),
    "cut off": lambda path: cut(path, 0.6),
    "flipped bits": lambda path: flip(path, 5),
}
