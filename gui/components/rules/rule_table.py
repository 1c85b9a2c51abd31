"""The table of rules and the form of one: columns and entries are read from the rule's model, never listed twice.

Owner of: nothing but what the browser shows of them. Everything from outside is a plain value, shown as text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

import msgspec
from nicegui.events import GenericEventArguments

from gui.components.parts import SCRIPTS, Shown
from settings.rules import InvalidRule
from settings.rules.form import FormField, fields
from settings.rules.patterns import TypeOrGlobal

LINKS = {"ip": "ip", "from_ip": "ip", "to_ip": "ip", "domain": "domain", "tag": "tag"}  # to the Overview
KINDS = {"whole": "number", "number": "number", "time": "time"}


class RuleColumn(msgspec.Struct, frozen=True, kw_only=True):
    """A column of the table.

    Attributes:
        name, label, help, group: of the field that it shows.
        kind: text, number, seconds, time (ISO 8601) or code.
        empty: what stands where nothing is given.
        link: the Overview's filter that the value is for.
        live: from the running machine, and sent once a second where it has changed.
    """

    name: str
    label: str
    help: str = ""
    group: str = ""
    kind: str = "text"
    empty: str = "–"
    link: str = ""
    live: bool = False
    sortable: bool = True


class Action(msgspec.Struct, frozen=True):
    """A button in each row; with `text` it shows its label, else its drawing."""

    name: str
    label: str
    text: bool = False
    tone: str = ""


def columns_of(kind: str) -> dict[str, RuleColumn]:
    """A column for each field of a kind that may be shown, in the form's order."""
    shown = [field for field in fields(kind) if not field.write_only and field.name != "id"]
    return {field.name: _column(kind, field) for field in shown}


def _column(kind: str, field: FormField) -> RuleColumn:
    help_ = f"{field.help} ({field.unit})" if field.unit else field.help
    kind_ = "seconds" if field.unit == "seconds" else KINDS.get(field.input, "text")
    link = "" if kind == "dkim-keys" else LINKS.get(field.name, "")
    return RuleColumn(name=field.name, label=field.label, help=help_, group=field.group, kind=kind_, link=link)


class RuleTable(Shown, component=f"../{SCRIPTS}/rule_table.js"):
    """Rules in rows, with a search, an order, exports and a button that adds one.

    Args:
        label: what it is a table of.
        columns: in order.
        actions: of each row.
        add: the text of the button that adds one.
        empty: title and text where there is no rule at all.
        drag: rows are put in order by hand.
    """

    def __init__(
        self,
        label: str,
        columns: Iterable[RuleColumn],
        actions: Iterable[Action],
        add: str,
        empty: tuple[str, str],
        drag: bool = False,
    ) -> None:
        super().__init__()
        self._props["label"] = label
        self._props["columns"] = [msgspec.to_builtins(column) for column in columns]
        self._props["actions"] = [msgspec.to_builtins(action) for action in actions]
        self._props["add"] = add
        self._props["empty"] = {"title": empty[0], "text": empty[1]}
        self._props["drag"] = drag
        self._props["live"] = {}
        self._props["rows"] = []

    def told(self, name: str, act: Callable[[Any], Any]) -> None:
        """Call this with what the browser says: filter, sort, page, act, order, export or add."""
        self.on(name, lambda event: act(event.args))


class RuleForm(Shown, component=f"../{SCRIPTS}/rule_form.js"):
    """The form of one rule, over the page.

    Args:
        kind: of rules.
        noun: what one is called.
        check: told (values, id, text to try) as one types.
        save: told the same when it is to be stored.
        suggestions: what is offered for a field; anything else can be typed.
        words: how a choice is called, where its value is no word.
        tryout: label and placeholder of a field for a text to try the rule on.
    """

    def __init__(
        self,
        kind: str,
        noun: str,
        check: Callable[[dict[str, Any], int | None, str], Any],
        save: Callable[[dict[str, Any], int | None, str], Any],
        suggestions: Mapping[str, Sequence[str]],
        words: Mapping[str, str],
        tryout: tuple[str, str] | None = None,
    ) -> None:
        super().__init__()
        entered = [field for field in fields(kind) if not field.read_only]
        self._props["fields"] = [{**msgspec.to_builtins(field), "types": _types(field)} for field in entered]
        self._props["noun"] = noun
        self._props["suggestions"] = {name: list(texts) for name, texts in suggestions.items()}
        self._props["words"] = dict(words)
        self._props["tryout"] = {"label": tryout[0], "placeholder": tryout[1]} if tryout else None
        self._props["errors"] = []
        self._props["aside"] = []
        self.on("check", lambda event: check(*_entered(event)))
        self.on("save", lambda event: save(*_entered(event)))

    def begin(self, values: Mapping[str, Any], id_: int | None = None, trying: str = "") -> None:
        """Open it with these values: of the rule with this id, or of a new one."""
        opening = {"id": id_, "values": dict(values), "trying": trying}
        if self.client.has_socket_connection:
            self.run_method("show", opening)
        else:
            self._props["opening"] = opening

    def refuse(self, error: Exception) -> None:
        """It was not stored: say what is wrong, by its field where it is of one."""
        errors = error.errors if isinstance(error, InvalidRule) else ()
        self.show("errors", [msgspec.to_builtins(one) for one in errors] or [{"field": "", "message": str(error)}])
        self.run_method("refused")

    def anew(self) -> None:
        """It has been deleted meanwhile: what is entered can be stored as a new one."""
        self.show("errors", [{"field": "", "message": "It has been deleted meanwhile. “Add” stores it as a new one."}])
        self.run_method("anew")


def _types(field: FormField) -> list[str]:
    return list(get_args(TypeOrGlobal)) if field.input == "patterns" else []


def _entered(event: GenericEventArguments) -> tuple[dict[str, Any], int | None, str]:
    """What the browser says was entered: from outside, so only its shape is made sure of; `validate` does the rest."""
    said = event.args if isinstance(event.args, dict) else {}
    values, id_ = said.get("values"), said.get("id")
    return (
        values if isinstance(values, dict) else {},
        id_ if isinstance(id_, int) else None,
        str(said.get("trying", "")),
    )
