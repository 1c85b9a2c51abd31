"""NOTICE: the licences of what is installed with Mailrace. `python -m tests.support.notice` writes it anew."""

from __future__ import annotations

import importlib.metadata
import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent.parent
NOTICE = ROOT / "NOTICE"
HEAD = """\
Mailrace
Licensed under the Apache License, Version 2.0, see LICENSE.

It stands on these packages, which are installed with it and are not part of it. Each has its own licence; those marked
with * are under the LGPL (they are used as they are, and can be replaced).

"""


def packages() -> list[str]:
    """The names in `requirements.lock`."""
    return re.findall(r"^([A-Za-z0-9_.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)


def licence(name: str) -> str:
    """As the package itself says it, in one line."""
    about = importlib.metadata.metadata(name)
    classified = [one.rpartition(" :: ")[2] for one in about.get_all("Classifier") or () if one.startswith("License")]
    named = about.get("License-Expression") or ", ".join(one for one in classified if one != "OSI Approved")
    return named or (about.get("License") or "see the package").strip().splitlines()[0][:80]


def notice() -> str:
    """The whole file."""
    found = {name: licence(name) for name in packages()}
    rows = [f"{'*' if is_lesser(what) else ' '} {name}: {what}" for name, what in found.items()]
    return HEAD + "\n".join(rows) + "\n"


def is_lesser(what: str) -> bool:
    """The LGPL, however it is written."""
    return "LGPL" in what or "Lesser" in what


if __name__ == "__main__":
    NOTICE.write_text(notice())
