"""The collector of garbage, set for a program that runs for weeks: it looks at what mail makes, not at the program.

What is there once everything has started (modules, classes, the console) never becomes garbage; to look through it
again and again took a quarter of the CPU of mail to many domains, where objects live as long as a receiver takes.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
import os
import sys
from typing import NoReturn

YOUNG = 5000  # new containers after which it looks at them; Python's own 700 are fewer than a turn of the loop makes


def leave_alone_what_is_there() -> None:
    """Called once everything has started."""
    gc.freeze()
    atexit.register(gc.unfreeze)  # else libraries that count what they leave behind complain, a line each
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])


def end_at_once(code: int) -> NoReturn:
    """End the process when everything is closed: to free each object of a program takes up to a second of CPU."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more, or it is closed
            if stream is not None:  # the program was started without it
                stream.flush()
    os._exit(code)
