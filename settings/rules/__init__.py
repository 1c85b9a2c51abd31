"""The rules: what the operator of the machine decides at run time, as a live stream of immutable snapshots.

`RuleStore` keeps them in a database and publishes a `Snapshot` at every change; `KINDS` are their models, `form.fields`
what forms show of them, and `validate` is the one place that says whether a rule can be used.
"""

from settings.rules.audit import Record, Who
from settings.rules.engine import Unavailable
from settings.rules.models import KINDS, DkimKey, Dns, Flood, Local, MtaName, Pause, Redirect, Rule, Throttle
from settings.rules.snapshot import Snapshot
from settings.rules.store import RuleStore
from settings.rules.transfer import Imported
from settings.rules.validate import FieldError, Invalid, NoSuchRule

__all__ = [
    "KINDS", "DkimKey", "Dns", "FieldError", "Flood", "Imported", "Invalid", "Local", "MtaName", "NoSuchRule", "Pause",
    "Record", "Redirect", "Rule", "RuleStore", "Snapshot", "Throttle", "Unavailable", "Who",
]  # fmt: skip
