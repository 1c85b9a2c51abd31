"""Lints and formats the console's JavaScript, templates included: `python -m tests.support.javascript [--write]`.

Biome lints, Prettier formats; both are pinned in `node/package-lock.json`, and installed once. Without npm one line
says that nothing was checked; with `--strict` that is a failure.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys

from tests.support.node import FOLDER, Missing, modules

ROOT = pathlib.Path(__file__).parent.parent.parent
STATIC = ROOT / "gui" / "static"


def main() -> int:
    """The exit code of the check."""
    parser = argparse.ArgumentParser(description="Lint and format the console's JavaScript.")
    parser.add_argument("--write", action="store_true", help="format the files, and mend what can be mended safely")
    parser.add_argument("--strict", action="store_true", help="fail where npm is missing")
    wanted = parser.parse_args()
    try:
        tools = modules() / ".bin"
    except (Missing, subprocess.TimeoutExpired) as error:
        print(f"JavaScript was not checked: {error}", file=sys.stderr)
        return int(wanted.strict)
    lint = [tools / "biome", "lint", f"--config-path={FOLDER}", "--error-on-warnings"]
    form = [tools / "prettier", f"--config={FOLDER / '.prettierrc.json'}", "--log-level=warn"]
    lint += ["--write"] if wanted.write else []
    form += ["--write"] if wanted.write else ["--check"]
    files = sorted(STATIC.rglob("*.js"))
    return max(subprocess.run([*command, *files], cwd=ROOT, check=False).returncode for command in (lint, form))


if __name__ == "__main__":
    sys.exit(main())
