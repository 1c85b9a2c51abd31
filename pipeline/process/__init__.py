"""The process: its lock and rights (`privileges`), and what runs in the background of it (`supervisor`)."""

from pipeline.process.privileges import become, descent, hand_over, only_one

__all__ = ["become", "descent", "hand_over", "only_one"]
