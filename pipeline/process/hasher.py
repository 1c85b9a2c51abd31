"""The hasher: a program that checks passwords of those who may be guessing, one after the other.

Started by `hashing`. It gives way to everybody: a thread could not, since one that the system puts aside while it has
the interpreter's lock holds up the whole program. Reads lines of JSON, [hash, password]; answers each with a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys

from pipeline.process.passwords import answer

HUMBLE = 15  # niceness


def main(source: str) -> None:
    """`source`: the number of the file that the lines come from."""
    with contextlib.suppress(OSError, AttributeError):  # Windows has no such thing
        os.nice(HUMBLE)
    with os.fdopen(int(source), "rb") as lines:
        for line in lines:
            sys.stdout.write(f"{answer(*json.loads(line))}\n")
            sys.stdout.flush()
