"""What a child process does first, see `children`. It imports Python's own modules alone, so that the log writer, which
needs no others, stays small.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Sequence
from typing import Any

from pipeline.process.rights import drop

UMASK = 0o027  # files that a child makes are its user's, and its group may read them


def begin(module: str, plan: dict[str, Any], arguments: Sequence[str]) -> None:
    """Run the module's `main`, with the rights that the plan gives; ends with the program where there is a lifeline.

    The module is imported before rights are dropped: the installation may be readable to root alone.
    """
    os.umask(UMASK)
    if plan["lifeline"] is not None:
        threading.Thread(target=_end_with, args=(plan["lifeline"],), daemon=True).start()
    main = importlib.import_module(module).main
    drop(plan["account"])
    main(*arguments)


def _end_with(lifeline: int) -> None:
    """Nothing is ever written to it: it ends when the program is gone, however that went."""
    os.read(lifeline, 1)
    os._exit(0)
