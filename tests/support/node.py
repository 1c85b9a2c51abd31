"""What the tests need of npm: packages, pinned in `node/package-lock.json`, and the AMQP client in `node/client.js`.

Installed into `node/node_modules`, which git ignores, by whoever comes first; a lock keeps others waiting.
"""

from __future__ import annotations

import fcntl
import json
import pathlib
import shutil
import subprocess
from typing import Any

FOLDER = pathlib.Path(__file__).parent / "node"
LOCK = FOLDER / "package-lock.json"
PATIENCE = 100  # seconds for npm, and for one run of the client


class Missing(Exception):
    """Node.js or its packages are not here, and cannot be had; says what to do."""


def modules() -> pathlib.Path:
    """The folder of the installed packages. Raises `Missing`."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise Missing("npm is missing; install Debian's nodejs and npm")
    installed = FOLDER / "node_modules"
    done = installed / ".installed"
    with LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists() or done.read_text() != LOCK.read_text():
            command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            npm = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=PATIENCE)
            if npm.returncode:
                raise Missing(f"npm cannot install what package-lock.json names: {npm.stderr.strip()[-300:]}")
            done.write_text(LOCK.read_text())
    return installed


def _client(*arguments: str, given: str) -> str:
    modules()
    done = subprocess.run(
        ["node", "client.js", *arguments], cwd=FOLDER, input=given, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def publish(address: str, queue: str, messages: list[dict[str, Any]]) -> None:
    """Publish {body, gzip, options} each, and wait until the broker has confirmed all. Raises `Missing`."""
    _client("publish", address, queue, given=json.dumps(messages))


def read(address: str, counts: dict[str, int]) -> dict[str, list[dict[str, Any]]]:
    """Take so many messages off each queue: {body, properties} each. Raises `Missing`."""
    found: dict[str, list[dict[str, Any]]] = json.loads(_client("read", address, given=json.dumps(counts)))
    return found
