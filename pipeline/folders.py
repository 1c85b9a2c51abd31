"""Which folder a command works on: the `data-dir` that was named; else that of here, or of the service."""

from __future__ import annotations

from pathlib import Path

from settings import SERVICE_DIR, Settings


def folders(settings: Settings) -> list[Path]:
    """Where to look, the first one first."""
    named = settings.origin("data-dir") != "default"
    return [settings.data_dir] if named else [settings.data_dir, SERVICE_DIR]


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
