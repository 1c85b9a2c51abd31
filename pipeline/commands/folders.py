"""Which folder a command works on: the `data-dir` that was named; else that of here, where nobody else can write, or of
the service.
"""

from __future__ import annotations

from pathlib import Path

from settings import SERVICE_DIR, Settings, private


def folders(settings: Settings) -> list[Path]:
    """Where to look, the first one first."""
    if settings.origin("data-dir") != "default":
        return [settings.data_dir]
    own = [settings.data_dir] if private(settings.data_dir) else []  # or somebody's `./var` would get root's mail
    return [*own, SERVICE_DIR]


def at(settings: Settings, name: str) -> Settings | None:
    """The settings with the first folder as `data-dir` that has something of this name; None where none has."""
    for folder in folders(settings):
        if _is_there(folder / name):
            return settings.under(folder)
    return None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:  # opening it will say so
        return True
