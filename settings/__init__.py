"""What the operator of the machine decides: the configuration (here), and the rules as a live stream."""

from settings.errors import ConfigurationErrors, StartError
from settings.keys import Settings
from settings.loading import SERVICE_DIR, SYSTEM_FILE, load, private
from settings.sources import nearest, split
from settings.table import effective, reference

__all__ = [
    "SERVICE_DIR",
    "SYSTEM_FILE",
    "ConfigurationErrors",
    "Settings",
    "StartError",
    "effective",
    "load",
    "nearest",
    "private",
    "reference",
    "split",
]
