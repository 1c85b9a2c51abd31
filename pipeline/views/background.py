"""What runs in the background: tasks that are supervised, child processes, and what has failed."""

from pipeline.process.children import ChildFailed, ChildKind, run
from pipeline.process.hashing import HashingLane, HumbleLane
from pipeline.process.passwords import DamagedHash, matches
from pipeline.process.supervisor import awaited, failed, spawn, supervisor

__all__ = [
    "ChildFailed", "ChildKind", "DamagedHash", "HashingLane", "HumbleLane", "awaited", "failed", "matches", "run",
    "spawn", "supervisor",
]  # fmt: skip
