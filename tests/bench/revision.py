"""Another version of Mailrace, to measure beside this one: a program that is installed, or a revision of this
repository on this Python and its libraries.
"""

from __future__ import annotations

import contextlib
import io
import pathlib
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]


@contextlib.contextmanager
def other(name: str) -> Iterator[list[str]]:
    """How that version is started: `name` is a program's path, or what `git` knows as a revision.

    Raises:
        SystemExit: it is neither; says what git says.
    """
    if pathlib.Path(name).is_file():
        yield [name]
        return
    packed = subprocess.run(["git", "-C", ROOT, "archive", name], capture_output=True, check=False)
    if packed.returncode:
        sys.exit(f"{name}: no program, and no revision: {packed.stderr.decode(errors='replace').strip()}")
    with tempfile.TemporaryDirectory(prefix="revision-") as folder:
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(folder, filter="data")
        start = pathlib.Path(folder) / "start.py"  # before what is installed: that is this version
        start.write_text(f"import sys\nsys.path[0] = {folder!r}\nfrom mailrace import main\nsys.exit(main())\n")
        yield [sys.executable, str(start)]
