"""What runs in the background: tasks that are supervised, child processes, and what has failed."""

from pipeline.process.children import ChildFailed, ChildKind, run
from pipeline.process.supervisor import awaited, failed, spawn, supervisor

__all__ = ["ChildFailed", "ChildKind", "awaited", "failed", "run", "spawn", "supervisor"]
