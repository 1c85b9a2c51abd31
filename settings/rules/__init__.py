"""The rules: what the operator of the machine decides at run time, as a live stream of immutable snapshots.

`RuleStore` keeps them in a database and publishes a `Snapshot` at every change; `KINDS` are their models, `form.fields`
what forms show of them, and `validate` is the one place that says whether a rule can be used.
"""

from settings.rules.decisions import ForcedError
from settings.rules.models import KINDS, DkimKey, Dns, Flood, Local, MtaName, Pause, Pool, Redirect, Rule, Throttle
from settings.rules.snapshot import Snapshot
from settings.rules.transfer import Imported
from settings.rules.validate import FieldError, InvalidRule, NoSuchRule

__all__ = [
    "KINDS",
    "DkimKey",
    "Dns",
    "FieldError",
    "Flood",
    "ForcedError",
    "Imported",
    "InvalidRule",
    "Local",
    "MtaName",
    "NoSuchRule",
    "Pause",
    "Pool",
    "Redirect",
    "Rule",
    "Snapshot",
    "Throttle",
]
