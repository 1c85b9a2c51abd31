"""Rules in words: what a rule is for, and what a change of it was, from the values that the audit keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from settings.rules.form import fields
from settings.rules.validate import NoSuchRule

Values = Mapping[str, Any]
LONGEST = 300  # characters of a value


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
        case "floods":
            return f"flood pattern {get('name')}"
        case "pauses":
            return _pause(source, target, get("tag"))
        case "redirects":
            return f"redirect from {get('from_ip')} to {get('to_ip')}, for {target or 'all mail'}"
        case "dkim-keys":
            return f"DKIM key {get('selector')} of {get('domain')}"
        case "locals":
            return f"local address {get('pattern')}"
        case "mta-names":
            return f"names of {get('ip')}"
        case "schedules":
            return f"warm-up schedule {get('name')}"
        case "warmups":
            return f"warm-up of {get('ip') or get('pool')} for {target or 'all mail'}"
        case "external-mtas":
            return f"way out of {get('public_ip')}"
        case "alerts":
            return f"alert rule {get('name')}"
        case "dns":
            return f"DNS override of {get('name')}"
    name = get("name") or get("lane") or get("message") or get("pattern") or ""
    return f"{kind.removesuffix('s').replace('-', ' ')} {name}".strip()


def _pause(ip: str | None, target: str | None, tag: str | None) -> str:
    what = f"{ip or 'all MTA IPs'} to {target or 'everywhere'}" if ip or target else "all mail"
    return f"pause of {what}" + (f", tag {tag}" if tag else "")


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


def _labels(kind: str) -> dict[str, str]:
    try:
        known = fields(kind)
    except NoSuchRule:
        return {}
    return {field.name: f"{field.group}: {field.label}" if field.group else field.label for field in known}


def _plain(value: Any) -> str:
    return "empty" if value in (None, "", []) else str(value)[:LONGEST]
