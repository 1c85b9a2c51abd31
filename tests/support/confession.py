"""A child for tests: says how it was started, as one line of JSON, or does what it is asked."""

from __future__ import annotations

import contextlib  # noqa: F401 - a hostile one may lie in the working folder
import json
import os
import sys
import time
from pathlib import Path


def main(do: str = "say") -> None:
    """Be that child."""
    match do:
        case "fail":
            raise ValueError("no such\x1b[31m thing")
        case "stay":
            print(os.getpid(), flush=True)
            time.sleep(600)
        case "close":
            os.close(1)
            os.close(2)
            time.sleep(600)
        case _:
            umask = os.umask(0)
            files = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
            said = {
                "environment": sorted(os.environ),
                "folder": str(Path.cwd()),
                "files": sorted(file for file in files if Path(f"/proc/self/fd/{file}").exists()),
                "path": sys.path,
                "umask": umask,
                "session": os.getsid(0) == os.getpid(),
                "user": os.getuid(),
                "groups": os.getgroups(),
            }
            print(json.dumps(said), flush=True)
