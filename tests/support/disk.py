"""A small disk of one's own: a program runs in a mount namespace, whose tmpfs goes when its last process has gone.

    run("tests.system.test_disk_full", "queue", folder)

runs that module as a program, with rights to mount there; as root, and without where user namespaces are allowed.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

from tests.support.program import ROOT

_WAYS = (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"])


def mount(folder: pathlib.Path, megabytes: int) -> pathlib.Path:
    """Make this folder a disk; inside the namespace only."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)
    return folder


def run(module: str, *arguments: object, patience: float = 220) -> str:
    """Run a module as a program where it may mount; what it prints. Skips the test where nobody may."""
    way = rights()
    if way is None:
        pytest.skip("a disk of one's own needs root or user namespaces, and the right to mount")
    command = [*way, sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=patience, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rights() -> list[str] | None:
    """What to run a program with, so that it may mount; None where nobody may."""
    if shutil.which("unshare") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        trial = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
        for way in _WAYS if os.getuid() == 0 else _WAYS[1:]:
            if subprocess.run([*way, *trial], capture_output=True, check=False).returncode == 0:
                return way
    return None
