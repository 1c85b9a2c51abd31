"""MailerQ's response patterns and rewrite rules as ours: which triggers, which conditions, which actions.

Its pages name these tables and what their rules can do, but no columns: columns are found by the names that such a
thing may have, and a rule of which something is not understood is left out whole, with a line that says what. Half a
rule would send mail where nobody meant it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

Row = Mapping[str, Any]
Tables = Mapping[str, Sequence[Row]]
Values = dict[str, Any]

TYPES = {"regex": "regex", "fnmatch": "wildcard", "wildcard": "wildcard", "substr": "substring", "exact": "exact"}
WORDS = ("type", "action", "kind", "method", "operation")  # columns that name an action
GIVEN = ("value", "data", "argument", "arguments", "parameter", "parameters", "config", "properties")
COMMON = {"id", "name", "title", "description", "position", "priority", "order", "sequence", "enabled", "active",
          "created", "modified"}  # fmt: skip
MINE = {*COMMON, *WORDS, *GIVEN}  # columns of an action that are no action themselves
TRIGGER = {
    *COMMON, "localip", "mta", "mtaip", "pool", "domain", "target", "remoteip", "ip", "tag", "continue", "proceed",
    "evaluate", "last", "final",
}  # fmt: skip
PARTS = ("rewrite_actions", "rewrite_conditions")
PATTERNS = ("pattern_id", "response_pattern_id", "response_patterns_id", "pattern", "trigger_id")
ACTIONS = ("action_id", "response_action_id", "response_actions_id", "action")
OWNERS = ("trigger_id", "trigger", "rewrite_trigger", "rewrite_triggers_id", "rewrite_trigger_id", "rule_id", "rule")
_WORD = re.compile("[^a-z]+")


class NotCarried(ValueError):
    """Something of a rule is not understood; the text says what."""


def first(row: Row, *names: str) -> Any:
    """The first of these columns that is filled."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def responses(tables: Tables, scope: Callable[[Row], Values], left: list[str]) -> Iterator[Values]:
    """Response rules, of `response_patterns`, `response_actions` and what joins them."""
    actions = {row.get("id"): row for row in tables.get("response_actions", ())}
    pairs = [(first(row, *PATTERNS), first(row, *ACTIONS)) for row in tables.get("response_patterns_actions", ())]
    for number, row in enumerate(tables.get("response_patterns", ()), 1):
        mine = [actions[action] for pattern, action in pairs if pattern == row.get("id") and action in actions]
        yield from _rule("response_patterns", row, number, partial(_response, mine, scope), left)


def rewrites(tables: Tables, scope: Callable[[Row], Values], left: list[str]) -> Iterator[Values]:
    """Rewrite rules, of `rewrite_triggers`, `rewrite_actions` and `rewrite_conditions`."""
    for number, row in enumerate(tables.get("rewrite_triggers", ()), 1):
        yield from _rule("rewrite_triggers", row, number, partial(_rewrite, tables, scope), left)


def _rule(table: str, row: Row, number: int, made: Callable[[Row], Values], left: list[str]) -> Iterator[Values]:
    called = str(first(row, "name", "description", "title", "id") or number)[:100]
    try:
        if not _on(first(row, "enabled", "active"), True):
            raise NotCarried("is switched off")
        values = made(row)
    except NotCarried as error:
        left.append(f"{table} {called}: {error}")
        return
    given = first(row, "priority", "position", "order", "sequence")
    order = given if isinstance(given, int) and given >= 0 else number
    go_on = _on(first(row, "continue", "proceed", "evaluate"), False) or not _on(first(row, "last", "final"), True)
    yield {"name": called, "order": order, "go_on": go_on, **values}


def _response(actions: Sequence[Row], scope: Callable[[Row], Values], row: Row) -> Values:
    _known(row, TRIGGER | {"pattern", "response", "match", "type"})
    if not (pattern := first(row, "pattern", "response", "match")):
        raise NotCarried("has no pattern")
    kind = TYPES.get(str(row.get("type")), "substring")
    return {"pattern": str(pattern), "type": kind, **scope(row), **_all(actions, RESPONSE)}


def _rewrite(tables: Tables, scope: Callable[[Row], Values], row: Row) -> Values:
    _known(row, TRIGGER | {"conditions", "condition"})
    mine = {name: [one for one in tables.get(name, ()) if first(one, *OWNERS) == row.get("id")] for name in PARTS}
    when = _when([*mine["rewrite_conditions"], row])
    return {**scope(row), **({"when": when} if when else {}), **_all(mine["rewrite_actions"], REWRITE)}


def _known(row: Row, columns: set[str]) -> None:
    for name, value in row.items():
        if name not in columns and value not in (None, "", 0):
            raise NotCarried(f"column {name!r} is not known here")


def _all(actions: Sequence[Row], known: Actions) -> Values:
    acts: Values = {}
    for action in actions:
        for name, value in _acts(action, known).items():
            acts[name] = [*acts[name], *value] if isinstance(acts.get(name), list) else value
    if not acts:
        raise NotCarried("has no action")
    return acts


def _on(value: Any, otherwise: bool) -> bool:
    return otherwise if value is None else str(value).lower() not in ("0", "false", "no", "n", "off")


# -- conditions of rewrite rules -------------------------------------------------------------------------------------

_HOW = {"equals": "equals", "is": "equals", "exact": "equals", "contains": "contains", "substr": "contains",
        "substring": "contains", "matches": "matches", "regex": "matches", "match": "matches"}  # fmt: skip
_WHAT = ("envelope", "recipient", "subject")


def _when(rows: Sequence[Row]) -> str:
    """Our text of these conditions, all of which must hold."""
    found = [_condition(row) for row in rows[:-1]]
    given = first(rows[-1], "conditions", "condition")
    if given is not None:
        listed = _json(given)
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise NotCarried("conditions: is no list of conditions")
        found += [_condition({str(name).lower(): value for name, value in one.items()}) for one in listed]
    return " and ".join(found)


def _condition(row: Row) -> str:
    what = str(first(row, "property", "pointer", "path", "field", "header", "what") or "").strip()
    kind = str(first(row, "type", "kind") or "").lower()
    how = _HOW.get(str(first(row, "operator", "comparison", "match", "how") or kind).lower())
    text = str(first(row, "value", "pattern", "text") or "")
    if not what and kind in _WHAT:
        what = kind
    if kind == "header" or row.get("header"):
        what = f"header:{what}"
    if what.lower() in _WHAT:
        what = what.lower()
    elif not what.startswith(("header:", "/")):
        raise NotCarried(f"condition {what or kind or '?'!r} is not known here")
    if how is None or '"' in text:
        raise NotCarried(f"condition on {what}: its comparison is not known here")
    return f'{what} {"not " if _on(first(row, "negate", "not", "inverted"), False) else ""}{how} "{text}"'


# -- actions -----------------------------------------------------------------------------------------------------------

Act = Callable[[Row, Any], Values]
Actions = Mapping[str, Act]


def _acts(row: Row, known: Actions) -> Values:
    """What an action does: its word and value, or the columns that are named for what they do."""
    word = first(row, *WORDS)
    if word is not None:
        plain = _WORD.sub("", str(word).lower())
        if plain not in known:
            raise NotCarried(f"action {str(word)[:60]!r} is not known here")
        return known[plain](row, first(row, *GIVEN))
    found: Values = {}
    for column, value in row.items():
        if column in MINE or column.endswith(("_id", "id")) or value in (None, "", 0):
            continue
        if (act := known.get(_WORD.sub("", column))) is None:
            raise NotCarried(f"action {first(row, 'name', 'id')}: column {column!r} is not known here")
        found |= act(row, value)
    return found


def _json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _texts(value: Any) -> list[str]:
    found = _json(value)
    if isinstance(found, dict):
        found = list(found.values())
    items = found if isinstance(found, list) else re.split("[,;]", str(found))
    return [str(one).strip() for one in items if str(one).strip()]


def _list(name: str) -> Act:
    def act(row: Row, value: Any) -> Values:
        given = value if value is not None else first(row, "ip", "ips", "tag", "tags")
        if not (found := _texts("" if given is None else given)):
            raise NotCarried(f"{name}: its action has no value")
        return {name: found}

    return act


def _seconds(name: str) -> Act:
    def act(row: Row, value: Any) -> Values:
        given = value if value is not None else first(row, "seconds", "interval", "delay", "time")
        found = _json(given)
        if isinstance(found, dict):
            found = next(iter(found.values()), None)
        if not str(found).isdecimal():
            raise NotCarried(f"{name}: {str(found)[:60]!r} is no number of seconds")
        return {name: int(str(found))}

    return act


def _property(name: str) -> Act:
    """A property and its value, of the message or of the result."""

    def act(row: Row, value: Any) -> Values:
        where = first(row, "property", "pointer", "path", "key", "field")
        given = _json(value)
        if where is None and isinstance(given, dict):
            return _together(name, given)
        if where is None:
            raise NotCarried(f"{name}: its action names no property")
        return _together(name, {str(where): given})

    return act


def _together(name: str, given: Mapping[str, Any]) -> Values:
    """`fatal` of a result is what decides: true gives the message up."""
    if name == "set_result" and given.get("fatal") in (True, 1, "1", "true"):
        rest = {key: value for key, value in given.items() if key != "fatal"}
        return {"fail": True, **(_together(name, rest) if rest else {})}
    if name == "set_result" and "fatal" in given:
        raise NotCarried("fatal: false needs the seconds after which it is retried; make it an action retry")
    pairs = {key if key.startswith("/") else f"/{key}": json.dumps(value) for key, value in given.items()}
    return {name: [f"{pointer}={text}" for pointer, text in pairs.items()]}


def _smarthost(row: Row, value: Any) -> Values:
    given = _json(value) if value is not None else row
    if isinstance(given, Mapping):
        if given.get("username") or given.get("password"):
            raise NotCarried("smarthost: has a login; give it with the messages, or as the key smarthost")
        host, port = first(given, "hostname", "host", "smarthost"), first(given, "port", "smarthost_port")
        return {"smarthost": f"{host}:{port}" if port else str(host)}
    return {"smarthost": str(given)}


def _fail(row: Row, value: Any) -> Values:
    code = first(row, "code") or value
    return {"fail": int(code)} if str(code).isdecimal() and 500 <= int(code) <= 599 else {"fail": 550}


_IPS = {"addip": "add_ips", "addips": "add_ips", "removeip": "remove_ips", "removeips": "remove_ips",
        "setip": "set_ips", "setips": "set_ips", "ip": "set_ips", "ips": "set_ips"}  # fmt: skip
_TAGS = {"addtag": "add_tags", "addtags": "add_tags", "tag": "add_tags", "tags": "add_tags",
         "removetag": "remove_tags", "removetags": "remove_tags", "settag": "set_tags",
         "settags": "set_tags"}  # fmt: skip

RESPONSE: Actions = {
    **{word: _list(name) for word, name in {**_IPS, **_TAGS}.items()},
    **dict.fromkeys(("fail", "failure", "bounce", "giveup"), lambda row, value: {"fail": True}),
    **dict.fromkeys(("retry", "reschedule", "delay"), _seconds("retry")),
    **dict.fromkeys(
        ("setmessage", "setproperty", "message", "property", "email", "setemail"), _property("set_message")
    ),
    **dict.fromkeys(("setresult", "result", "resultproperty", "setresultproperty"), _property("set_result")),
}
REWRITE: Actions = {
    **{word: _list(name) for word, name in {**_IPS, **_TAGS}.items() if name in ("set_ips", "add_tags", "remove_tags")},
    **dict.fromkeys(("setpool", "pool"), lambda row, value: {"set_pool": str(value or first(row, "pool") or "")}),
    **dict.fromkeys(("delay", "reschedule"), _seconds("delay")),
    **dict.fromkeys(("fail", "failure", "bounce", "reject"), _fail),
    **dict.fromkeys(("smarthost", "setsmarthost", "hostname"), _smarthost),
}
