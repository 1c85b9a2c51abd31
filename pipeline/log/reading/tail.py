"""The end of a growing log file, over its rotations."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from pipeline.log.names import of_workers

MOST = 4 * 1024 * 1024  # bytes a look; the rest comes with the next one


class Tail:
    """Whole lines that are added to a file from now on. Bound: MOST bytes in memory.

    Args:
        path: the file; it need not be there yet.
        whole: with what is in it already.
    """

    def __init__(self, path: Path, whole: bool = False) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""
        if self._open() and self._file is not None and not whole:
            self._file.seek(0, 2)

    def lines(self) -> list[str]:
        """The lines that came since the last call."""
        data = self._read()
        if not data and self._replaced():
            data = self._read()  # what came before the rotation
            if not data:
                self.close()
                if self._open():
                    data = self._read()
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [line.decode(errors="replace") for line in whole if line]

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
        self._file, self._rest = None, b""

    def _open(self) -> bool:
        try:
            self._file = self._path.open("rb")
        except FileNotFoundError:
            return False
        return True

    def _read(self) -> bytes:
        return self._file.read(MOST) if self._file is not None else b""

    def _replaced(self) -> bool:
        if self._file is None:
            return True
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False


class LogTails:
    """The ends of a log and of those of all workers. Bound: as `Tail`, each."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._tails = {path: Tail(path) for path in self._paths()}

    def _paths(self) -> list[Path]:
        return [self._log, *(of_workers(self._log) if self._log.parent.is_dir() else ())]

    def lines(self) -> list[str]:
        """The lines that came since the last call."""
        for path in self._paths():
            if path not in self._tails:
                self._tails[path] = Tail(path, whole=True)
        return [line for tail in self._tails.values() for line in tail.lines()]

    def close(self) -> None:
        """Let go of the files."""
        for tail in self._tails.values():
            tail.close()
