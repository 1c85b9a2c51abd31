"""Rules in words: what a rule is for, and what a change of it was, from the values that the audit keeps."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from settings.rules.form import FormField, fields
from settings.rules.validate import NoSuchRule

Values = Mapping[str, Any]
LONGEST = 300  # characters of a value
NAMED = {  # kinds whose rules are told by a name of their own
    "floods": "flood pattern",
    "classes": "bounce class",
    "responses": "response rule",
    "rewrites": "rewrite rule",
    "schedules": "warm-up schedule",
    "dns": "DNS override of",
    "suppressions": "suppression of",
    "alerts": "alert rule",
}


def rule_words(kind: str, values: Values) -> str:
    """Describes a rule in words: the limits of a domain, a flood pattern by its name."""
    get = values.get
    target = get("domain") or get("remote_ip")
    source = get("ip") or (f"pool {get('pool')}" if get("pool") else None)
    match kind:
        case "throttles":
            of = f", tag {get('tag')}" if get("tag") else ""
            called = f" {get('name')!r}" if get("name") else ""
            return f"limits{called} of {get('domain') or 'all domains'} from {source or 'all MTA IPs'}{of}"
        case "pauses" | "errors":
            noun = "pause of" if kind == "pauses" else "forced error for"
            return f"{noun} {_mail(source, target, get('tag'))}"
        case "redirects":
            return f"redirect from {get('from_ip')} to {get('to_ip')}, for {target or 'all mail'}"
        case "dkim-keys":
            return f"DKIM key {get('selector')} of {get('domain')}"
        case "locals":
            return f"local address {get('pattern')}"
        case "mta-names":
            return f"names of {get('ip')}"
        case "warmups":
            return f"warm-up of {source} for {target or 'all mail'}"
        case "external-mtas":
            return f"way out of {get('public_ip')}"
    name = next((get(one) for one in ("name", "value", "lane", "message", "pattern") if get(one)), "")
    return f"{NAMED.get(kind) or kind.removesuffix('s').replace('-', ' ')} {name}".strip()


def _mail(ip: str | None, target: str | None, tag: str | None) -> str:
    what = f"{ip or 'all MTA IPs'} to {target or 'everywhere'}" if ip or target else "all mail"
    return what + (f", tag {tag}" if tag else "")


def told_words(kind: str, values: Values) -> list[tuple[str, Any]]:
    """(label, value) of each field that says something; a time is a `datetime`, for whoever shows it in a zone."""
    known, labels = _fields(kind), _labels(kind)
    return [
        (labels.get(name, name), _time(value) if name in known and known[name].input == "time" else _plain(value))
        for name, value in values.items()
        if name != "id" and value not in (None, "", [], False) and not (name in known and value == known[name].default)
    ]


def changed_words(kind: str, before: Values | None, after: Values | None) -> list[tuple[str, str, str]]:
    """(label, before, after) of each field that a change has changed."""
    if before is None or after is None:
        return []
    labels = _labels(kind)
    names = dict.fromkeys((*before, *after))
    return [
        (labels.get(name, name), _plain(before.get(name)), _plain(after.get(name)))
        for name in names
        if before.get(name) != after.get(name)
    ]


def _fields(kind: str) -> dict[str, FormField]:
    try:
        return {field.name: field for field in fields(kind)}
    except NoSuchRule:
        return {}


def _labels(kind: str) -> dict[str, str]:
    known = _fields(kind).values()
    return {field.name: f"{field.group}: {field.label}" if field.group else field.label for field in known}


def _plain(value: Any) -> str:
    if value in (None, "", []):
        return "empty"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))[:LONGEST]
    if isinstance(value, Mapping):
        pairs = (f"{name.replace('_', ' ')} {_plain(one)}" for name, one in value.items() if one not in (None, "", []))
        return " ".join(pairs)[:LONGEST]
    return str(value)[:LONGEST]


def _time(value: Any) -> datetime.datetime | str:
    try:
        return datetime.datetime.fromisoformat(str(value))
    except ValueError:
        return _plain(value)
