"""Reads messages out of a damaged queue file, page by page, without SQLite.

SQLite finds a row by way of the pages above it, so that one damaged page hides all below it. Here each page is looked
at by itself: every table leaf with rows like those of `messages` gives its rows, whatever became of the pages above
(sqlite.org/fileformat.html, 1.5 and 1.6; 4 for the write-ahead log). Pages that are free are left out, since they
still hold messages that were sent. Owns the mapped file while it reads. Memory: one message, and the ids.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

MAGIC = b"SQLite format 3\0"
PAGE = 4096  # bytes, where the header does not say
LEAF, INDEX_LEAF = 0x0D, 0x0A
COLUMNS = (7, 11)  # of `messages`: before there were segments, and now
LONGEST = 2**30  # bytes of a row
FREE, TREE, ROOT = 2, 5, 1  # kinds of page in a pointer map


class Lost(Exception):
    """A row, or the rest of a page, cannot be read."""


class Salvaged(NamedTuple):
    """A row of `messages`, as it was found."""

    id: int
    queue: Any
    lane: Any
    due: Any
    expires: Any
    queued: Any
    body: Any
    segment: Any = None
    start: Any = None
    octets: Any = None
    flags: Any = None


class Wreck:
    """A damaged file.

    Attributes:
        pages: how many it has.
        unread: rows that were there, and could not be read.
        known: the ids that the indexes name.
    """

    def __init__(self, path: Path) -> None:
        self.unread = 0
        self.known: set[int] = set()
        with path.open("rb") as file:
            size = path.stat().st_size
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        self._header = bytes(self._map[:100])
        self._size = _page_size(self._header)
        self._newer = _log(path.with_name(f"{path.name}-wal"), self._size)
        self.pages = max([len(self._map) // self._size, *self._newer])
        self._kinds = self._pointer_map()
        self._free = self._free_pages()

    def close(self) -> None:
        """Let the file go."""
        if isinstance(self._map, mmap.mmap):
            self._map.close()

    def messages(self) -> Iterator[Salvaged]:
        """All messages that can be read, by page; one may come twice."""
        for number in range(1, self.pages + 1):
            if number in self._free or self._kinds.get(number, TREE) not in (TREE, ROOT):
                continue
            page = self.page(number)
            kind = page[100 if number == 1 else 0 :][:1]
            if kind == bytes((LEAF,)):
                yield from self._rows(number, page)
            elif kind == bytes((INDEX_LEAF,)):
                self._note(page)

    def page(self, number: int) -> bytes:
        """A page as it was last committed; one that is not there is empty."""
        if number in self._newer:
            return self._newer[number]
        return bytes(self._map[(number - 1) * self._size : number * self._size])

    # -- rows -------------------------------------------------------------------------------------------------------

    def _rows(self, number: int, page: bytes) -> Iterator[Salvaged]:
        for position in _cells(page, 100 if number == 1 else 0):
            try:
                row = self._row(page, position)
            except (Lost, IndexError, struct.error):
                self.unread += 1
                continue
            if row is not None:
                yield row

    def _row(self, page: bytes, position: int) -> Salvaged | None:
        """A row of `messages`; None where it is one of another table."""
        size, position = _varint(page, position)
        id, position = _varint(page, position)
        if not 0 < size <= LONGEST:
            raise Lost
        head, _ = _varint(page, position)
        types = list(_types(page, position, head))
        if len(types) not in COLUMNS or types[0] != 0:  # the id stands for the first column
            return None
        payload = self._payload(page, position, size, _local(size, self._size, LEAF))
        values = list(_values(payload, head, types))
        return Salvaged(id, *values[1:])

    def _payload(self, page: bytes, position: int, size: int, local: int) -> bytes:
        """A cell's bytes, those on overflow pages included."""
        parts = [page[position : position + local]]
        left = size - local
        following = int.from_bytes(page[position + local : position + local + 4], "big") if left else 0
        while left > 0:
            more = self.page(following) if 1 < following <= self.pages and following not in self._free else b""
            if len(more) != self._size:
                raise Lost
            following = int.from_bytes(more[:4], "big")
            parts.append(more[4 : 4 + left])
            left -= self._size - 4
        found = b"".join(parts)
        if len(found) != size:
            raise Lost
        return found

    def _note(self, page: bytes) -> None:
        """The ids that an index of `messages` names: its last column."""
        for position in _cells(page, 0):
            try:
                size, position = _varint(page, position)
                payload = self._payload(page, position, size, _local(size, self._size, INDEX_LEAF))
                head, _ = _varint(payload, 0)
                types = list(_types(payload, 0, head))
                values = list(_values(payload, head, types))
            except (Lost, IndexError, struct.error):
                continue
            if len(values) in (2, 3) and isinstance(values[0], str) and isinstance(values[-1], int):
                self.known.add(values[-1])

    # -- which pages are free -----------------------------------------------------------------------------------------

    def _pointer_map(self) -> dict[int, int]:
        """What each page is, where the file keeps that (1.8)."""
        first = self.page(1) if self.pages else b""
        if first[:16] == MAGIC and not int.from_bytes(first[52:56], "big"):
            return {}
        kinds: dict[int, int] = {}
        entries = self._size // 5
        for place in range(2, self.pages + 1, entries + 1):
            page = self.page(place)
            found = page[: entries * 5 : 5]
            if any(kind > TREE for kind in found):
                continue  # damaged, or no pointer map
            kinds |= {place + 1 + index: kind for index, kind in enumerate(found) if kind}
        return kinds

    def _free_pages(self) -> set[int]:
        """Pages on the list of free ones (1.5), as far as that can be read."""
        first = self.page(1) if self.pages else b""
        free = {number for number, kind in self._kinds.items() if kind == FREE}
        trunk = int.from_bytes(first[32:36], "big") if first[:16] == MAGIC else 0
        seen: set[int] = set()
        while 1 < trunk <= self.pages and trunk not in seen and len(page := self.page(trunk)) == self._size:
            seen.add(trunk)
            count = min(int.from_bytes(page[4:8], "big"), self._size // 4 - 2)
            leaves = struct.unpack(f">{count}I", page[8 : 8 + 4 * count])
            if any(not 1 < leaf <= self.pages for leaf in leaves):
                break
            free.update((trunk, *leaves))
            trunk = int.from_bytes(page[:4], "big")
        return free


def _page_size(header: bytes) -> int:
    size = int.from_bytes(header[16:18], "big")
    size = 65536 if size == 1 else size
    return size if header[:16] == MAGIC and 512 <= size <= 65536 and size & (size - 1) == 0 else PAGE


def _cells(page: bytes, start: int) -> Iterator[int]:
    """Where the cells of a leaf begin."""
    count = int.from_bytes(page[start + 3 : start + 5], "big")
    for index in range(min(count, len(page) // 4)):
        position = int.from_bytes(page[start + 8 + 2 * index : start + 10 + 2 * index], "big")
        if start + 8 <= position < len(page):
            yield position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of 1 to 9 bytes, and where it ends."""
    value = 0
    for index in range(8):
        byte = data[position + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, position + index + 1
    return value << 8 | data[position + 8], position + 9


def _local(size: int, page: int, kind: int) -> int:
    """How many bytes of a payload stand in the cell itself."""
    most = page - 35 if kind == LEAF else (page - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (page - 12) * 32 // 255 - 23
    part = least + (size - least) % (page - 4)
    return part if part <= most else least


def _types(data: bytes, position: int, head: int) -> Iterator[int]:
    """The types of a record's columns."""
    end = position + head
    _, position = _varint(data, position)
    while position < end:
        kind, position = _varint(data, position)
        yield kind


def _values(record: bytes, position: int, types: list[int]) -> Iterator[Any]:
    """The columns of a record. Raises `Lost`."""
    for kind in types:
        size = (kind - 12) // 2 if kind >= 12 else (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)[kind]
        part = record[position : position + size]
        if len(part) != size or kind in (10, 11):
            raise Lost
        position += size
        yield _value(kind, part)


def _value(kind: int, part: bytes) -> Any:
    if kind >= 12:
        return part.decode(errors="replace") if kind % 2 else part
    if kind == 7:
        return struct.unpack(">d", part)[0]
    return {0: None, 8: 0, 9: 1}.get(kind, int.from_bytes(part, "big", signed=True))


def _log(path: Path, size: int) -> Mapping[int, bytes]:
    """The newest committed pages of a write-ahead log, as far as its checksums hold (4.1 to 4.4)."""
    pages: dict[int, bytes] = {}
    pending: dict[int, bytes] = {}
    try:
        data = path.read_bytes()
    except OSError:
        return pages
    head = data[:32]
    if len(head) < 32 or int.from_bytes(head[:4], "big") & ~1 != 0x377F0682:
        return pages
    order = ">" if int.from_bytes(head[:4], "big") & 1 else "<"
    if int.from_bytes(head[8:12], "big") not in (size, 1 if size == 65536 else size):
        return pages
    sums = _checksum(head[:24], order, (0, 0))
    if sums != struct.unpack(">2I", head[24:32]):
        return pages
    for start in range(32, len(data) - size - 23, size + 24):
        frame, page = data[start : start + 24], data[start + 24 : start + 24 + size]
        sums = _checksum(page, order, _checksum(frame[:8], order, sums))
        if frame[8:16] != head[16:24] or sums != struct.unpack(">2I", frame[16:24]):
            break
        pending[int.from_bytes(frame[:4], "big")] = page
        if int.from_bytes(frame[4:8], "big"):
            pages |= pending
            pending.clear()
    return pages


def _checksum(data: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
