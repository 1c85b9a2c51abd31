"""A child process that tells what it has to tell as lines on its standard output.

Owns the process and the reading end. Bound: LONGEST bytes of a line that is not whole yet. What fails: an end that
nobody asked for is told like any other; what to do about it is for whoever started it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

LONGEST = 64 * 1024


class Child:
    """A Python module as a process, in a session of its own: neither Ctrl-C nor the program's end reach it.

    Raises OSError where it cannot start.

    Args:
        command: the interpreter's arguments.
        told: called on the loop with each line.
        ended: called on the loop with the exit code, negative for a signal; after the last line.
        pass_fds: open files that it gets, by the same numbers.
    """

    def __init__(
        self,
        command: Sequence[str],
        told: Callable[[bytes], None],
        ended: Callable[[int], None],
        *,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._told, self._ended, self._rest = told, ended, b""
        self._loop = asyncio.get_running_loop()
        self._process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            pass_fds=pass_fds,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._output, False)
        self._loop.add_reader(self._output, self._read)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def terminate(self) -> None:
        """SIGTERM."""
        self._process.terminate()

    def _read(self) -> None:
        try:
            data = os.read(self._output, LONGEST)
        except BlockingIOError:
            return
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-LONGEST:]
        for line in lines:
            self._told(line)
        if not data:
            self._close()

    def _close(self) -> None:
        """Its output ends when it does, and not before: the exit code is there already."""
        self._loop.remove_reader(self._output)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._ended(self._process.wait())
