"""Processes that are halted: SIGSTOP only asks for it, and a thread that runs may still answer after it was sent."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

PATIENCE = 20.0  # seconds


def halt(*processes: psutil.Process) -> None:
    """Stop these, and wait until none of their threads runs."""
    for process in processes:
        process.suspend()
    end = time.monotonic() + PATIENCE
    while not all(_stands(process.pid) for process in processes):
        assert time.monotonic() < end, "a process does not stop"
        time.sleep(0.001)


def _stands(process: int) -> bool:
    """The state of a thread follows its name, which is in parentheses: proc(5), /proc/pid/stat."""
    threads = Path(f"/proc/{process}/task").glob("*/stat")
    return all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)
