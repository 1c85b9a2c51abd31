"""What runs in the background: tasks that are supervised, child processes, and what has failed."""

from pipeline.process.children import ChildFailed, ChildKind, run
from pipeline.process.hashing import HashingLane
from pipeline.process.supervisor import awaited, failed, spawn, supervisor

__all__ = ["ChildFailed", "ChildKind", "HashingLane", "awaited", "failed", "run", "spawn", "supervisor"]
