"""The rule store: the rules database, its migrations, the audit, and the vault for private keys."""

from settings.store.audit import ROLES, AuditRecord, NotAllowed, Role, Who
from settings.store.engine import RulesUnavailable
from settings.store.store import REFUSED, RuleStore
from settings.store.undo import undo, undoable

__all__ = [
    "REFUSED",
    "ROLES",
    "AuditRecord",
    "NotAllowed",
    "Role",
    "RuleStore",
    "RulesUnavailable",
    "Who",
    "undo",
    "undoable",
]
