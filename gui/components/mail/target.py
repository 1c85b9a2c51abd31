"""What pauses and redirects have in common: a target, which is a domain, a remote IP, or all."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gui.components.rules.rule_page import Cells
from gui.components.rules.rule_table import RuleColumn
from settings.rules import Pause, Redirect
from settings.rules.selection import Selecting

HELP = "The destination: a domain, a receiver's IP address, or everything."


def with_target(columns: Mapping[str, RuleColumn], after: str, empties: Mapping[str, str]) -> dict[str, RuleColumn]:
    """The columns with one for the target in place of its two fields, after the column `after`."""
    found: dict[str, RuleColumn] = {}
    for name, column in columns.items():
        if name not in ("domain", "remote_ip"):
            found[name] = msgspec.structs.replace(column, empty=empties.get(name, column.empty))
        if name == after:
            found["target"] = RuleColumn(name="target", label="To", help=HELP, empty="everywhere", link="domain")
    return found


def target_cells(rule: Pause | Redirect | Selecting) -> Cells:
    """A row's values, its target among them. An address is no filter of the Overview, so it is no link."""
    target = rule.domain if rule.remote_ip is None else [{"label": "", "text": rule.remote_ip, "tip": "remote IP"}]
    return {**rule.shown(), "target": target}


def pool_cell(pool: str) -> list[dict[str, str]]:
    """A pool where others have an MTA IP: no filter of that name."""
    return [{"label": "", "text": f"pool {pool}", "tip": "each MTA IP of it"}]


def target_name(rule: Pause | Redirect | Selecting) -> str:
    """The target, as one says it."""
    return rule.domain or rule.remote_ip or "everywhere"
