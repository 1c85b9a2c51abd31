"""The process: its lock and rights (`privileges`), its children (`children`, `begin`), and what runs in its background
(`supervisor`). Empty but for names that moved: a child imports it, and has Python's own modules alone.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    from pipeline.process import privileges

    return getattr(privileges, name)
