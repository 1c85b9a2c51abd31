"""What the operator of the machine decides: the configuration (here), and the rules as a live stream."""

from settings.config.errors import ConfigurationErrors, StartError
from settings.config.keys import Settings
from settings.config.loading import SERVICE_DIR, SYSTEM_FILE, load, private
from settings.config.sources import nearest, split
from settings.config.table import effective, reference

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
