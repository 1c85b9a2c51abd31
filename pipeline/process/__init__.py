"""The process: its lock and rights (`privileges`), its children (`children`, `begin`), and what runs in its background
(`supervisor`). Imports nothing by itself: a child imports it, and starts in a few milliseconds.
"""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """`become`, `descent`, `hand_over` and `only_one`, from `privileges`."""
    if name.startswith("_"):
        raise AttributeError(name)
    return getattr(importlib.import_module("pipeline.process.privileges"), name)
