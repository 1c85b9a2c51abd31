"""links: the `rewrite.links` of a mail as an object: parameters and protocol of the addresses that its HTML links to.

Rules are tried in their order on each link to the web; what a rule says of an address must hold as a whole. Regular
expressions run on RE2. Bounds: RULES of them, and TRIED rules on links in one mail.
"""

from __future__ import annotations

import html as markup
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

from operators.mail.unmade import Unmade
from settings.rules.patterns import compile_pattern

RULES, TRIED = 100, 100_000
COMPONENTS: Mapping[str, Callable[[SplitResult], str]] = {
    "domain": lambda parts: (parts.hostname or "").lower(),
    "path": lambda parts: parts.path,
    "url": urlunsplit,
}
TESTS = ("equals", "contains", "match", "regex")
OTHERS = ("params", "protocol", "last", "unique")
_HREF = re.compile(r"""(<(?:a|area)\b[^<>]*?\shref\s*=\s*)("[^"<>]*"|'[^'<>]*')""", re.IGNORECASE)
_REGEX = re.compile(r"[\^$|(\[\\+]|\.\*").search

Holds = Callable[[SplitResult], bool]


class LinkRule(NamedTuple):
    """A rule: what must hold of an address, and what it is given."""

    holds: tuple[Holds, ...]
    params: Mapping[str, str]
    protocol: str
    last: bool
    unique: bool


def rewritten(html: str, rewrite: Any, where: str) -> str:
    """The HTML with the addresses of its links as the rules say. Raises `Unmade`."""
    links = rewrite.get("links") if isinstance(rewrite, Mapping) else None
    if not links:
        return html
    rules = _rules(links, f"{where}.links")
    left = TRIED

    def changed(found: re.Match[str]) -> str:
        nonlocal left
        left -= len(rules)
        if left < 0:
            raise Unmade("responsive", f"{where}.links: has too many rules for so many links")
        quote = found[2][0]
        return f"{found[1]}{quote}{markup.escape(_changed(markup.unescape(found[2][1:-1]), rules))}{quote}"

    return _HREF.sub(changed, html)


def _changed(address: str, rules: list[LinkRule]) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    if parts.scheme.lower() not in ("http", "https"):
        return address
    now, matched = parts, False
    for rule in rules:
        if (rule.unique and matched) or not all(holds(parts) for holds in rule.holds):
            continue
        matched, now = True, _given(now, rule)
        if rule.last:
            break
    return urlunsplit(now) if matched else address


def _given(parts: SplitResult, rule: LinkRule) -> SplitResult:
    if rule.params:
        query = dict(parse_qsl(parts.query, keep_blank_values=True)) | dict(rule.params)
        parts = parts._replace(query=urlencode(query))
    return parts._replace(scheme=rule.protocol) if rule.protocol else parts


def _rules(given: Any, where: str) -> list[LinkRule]:
    """A list of rules; or, as older pages have it, an object of patterns of domains and what is given to them."""
    if isinstance(given, Mapping):
        given = [
            {"domain": {"regex" if _REGEX(str(name)) else "match": str(name)}, **_object(one, where)}
            for name, one in given.items()
        ]
    if not isinstance(given, list) or len(given) > RULES:
        raise Unmade("responsive", f"{where}: must be a list of at most {RULES} rules")
    return [_rule(_object(one, f"{where}[{index}]"), f"{where}[{index}]") for index, one in enumerate(given)]


def _rule(given: Mapping[str, Any], where: str) -> LinkRule:
    if unknown := [name for name in given if name not in (*COMPONENTS, *TESTS, *OTHERS)]:
        known = ", ".join((*COMPONENTS, *OTHERS))
        raise Unmade("responsive", f"{where}.{unknown[0][:60]}: there is no such thing; there are {known}")
    tests = {name: _object(given[name], f"{where}.{name}") for name in COMPONENTS if name in given}
    if whole := {name: given[name] for name in TESTS if name in given}:
        tests["url"] = {**whole, **tests.get("url", {})}
    holds = [_holds(COMPONENTS[part], how, text, where) for part, one in tests.items() for how, text in one.items()]
    params = {str(name): str(value) for name, value in _object(given.get("params") or {}, f"{where}.params").items()}
    protocol = str(given.get("protocol") or "").lower()
    if protocol not in ("", "http", "https"):
        raise Unmade("responsive", f"{where}.protocol: must be http or https")
    return LinkRule(tuple(holds), params, protocol, bool(given.get("last")), bool(given.get("unique")))


def _holds(part: Callable[[SplitResult], str], how: str, text: Any, where: str) -> Holds:
    wanted = str(text)
    match how:
        case "equals":
            return lambda parts: part(parts) == wanted
        case "contains":
            return lambda parts: wanted in part(parts)
        case "match" | "regex":
            try:
                matches = compile_pattern("wildcard" if how == "match" else "regex", wanted[:500])
            except ValueError as error:
                raise Unmade("responsive", f"{where}.{how}: {error}") from None
            return lambda parts: matches(part(parts).encode("utf-8", "replace").decode())
    raise Unmade("responsive", f"{where}.{how[:60]}: there is no such test; there are {', '.join(TESTS)}")


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Unmade("responsive", f"{where}: must be an object")
    return value
