"""modifiers: `{$name|toupper}`: each a pure function of a value and its parameters.

One that is not known has no effect, so documented. Regular expressions run on RE2, whose time grows with the text.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import functools
import hashlib
import json
import re
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

import re2

from operators.template.values import Budget, Safe, as_number, as_text, escaped, member, true, whole

Parameters = Sequence[Any]
COST = 4  # steps of a modifier
HASHED, SEARCHED, WRITTEN = 5, 100, 5  # times what text costs otherwise: a hash, a regular expression, JSON

Modifier = Callable[[Any, Parameters, Budget], Any]

_WORD = re.compile(r"[^\W_]")
_DIRECTIVE = re.compile(r"%[-_0^#]?([A-Za-z%])?")
_KNOWN = frozenset("aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ%")
_DATES = ("%Y-%m-%d %H:%M", "%Y/%m/%d", "%d-%m-%Y", "%d.%m.%Y", "%d %B %Y", "%d %b %Y", "%B %d, %Y", "%b %d, %Y")


@functools.lru_cache(maxsize=200)
def expression(source: str) -> Any:
    """A regular expression, or None where it is none."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        return re2.compile(source[:500], options)
    except re2.error:
        return None


def modified(name: str, value: Any, parameters: Parameters, budget: Budget) -> Any:
    """The value after one modifier."""
    budget.step(COST)
    modifier = MODIFIERS.get(name)
    return value if modifier is None else modifier(value, parameters, budget)


def _texts(change: Callable[..., Any], otherwise: Callable[[Any], Any] = lambda value: value) -> Modifier:
    """Of a text; a list or an object stays as it is, or counts as said."""

    def modifier(value: Any, parameters: Parameters, budget: Budget) -> Any:
        if isinstance(value, list | dict):
            return otherwise(value)
        text = as_text(value)
        budget.text(2 * len(text))
        return change(text, parameters, budget)

    return modifier


def _simple(change: Callable[[str], Any]) -> Modifier:
    return _texts(lambda text, parameters, budget: change(text))


def _counted(change: Callable[[str], int]) -> Modifier:
    return _texts(lambda text, parameters, budget: change(text), lambda value: 0)


def _hash(name: str) -> Modifier:
    def modifier(value: Any, parameters: Parameters, budget: Budget) -> str:
        found = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else [value]
        text = "".join(as_text(one) for one in found)
        budget.text(HASHED * len(text))
        return hashlib.new(name, text.encode(errors="replace"), usedforsecurity=False).hexdigest()

    return modifier


def _given(parameters: Parameters, place: int, otherwise: Any) -> Any:
    return parameters[place] if len(parameters) > place else otherwise


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=False).decode(errors="replace")
    except (binascii.Error, ValueError):
        return text


def _cat(text: str, parameters: Parameters, budget: Budget) -> str:
    more = [as_text(one) for one in parameters]
    budget.text(sum(map(len, more)))
    return text + "".join(more)


def _default(value: Any, parameters: Parameters, budget: Budget) -> Any:
    return _given(parameters, 0, "") if value is None or value == "" else value


def _empty(value: Any, parameters: Parameters, budget: Budget) -> bool:
    return not value if isinstance(value, list | dict) else as_text(value) == ""


def _escape(text: str, parameters: Parameters, budget: Budget) -> str:
    match as_text(_given(parameters, 0, "html")):
        case "url":
            return urllib.parse.quote(text, safe="-_.~")
        case "base64":
            return base64.b64encode(text.encode(errors="replace")).decode()
        case "json":
            return json.dumps(text)[1:-1]
        case "null":
            return text
    return escaped(text)


def _indent(text: str, parameters: Parameters, budget: Budget) -> str:
    character = as_text(_given(parameters, 1, " "))
    count = max(0, whole(_given(parameters, 0, 1)))
    budget.text(count * len(character) * (text.count("\n") + 1))
    before = character * count
    return before + text.replace("\n", "\n" + before)


def _nl2br(text: str, parameters: Parameters, budget: Budget) -> str:
    budget.text(5 * text.count("\n"))
    return Safe(escaped(text).replace("\r\n", "\n").replace("\n", "<br>\n"))


def _range(value: Any, parameters: Parameters, budget: Budget) -> Any:
    if not isinstance(value, list | dict) or not parameters:
        return value
    start, end = (0, parameters[0]) if len(parameters) == 1 else parameters[:2]
    part = slice(max(0, whole(start)), max(0, whole(end)))
    budget.text(len(value))
    return value[part] if isinstance(value, list) else dict(list(value.items())[part])


def _regex_replace(text: str, parameters: Parameters, budget: Budget) -> str:
    found = expression(as_text(_given(parameters, 0, ""))) if len(parameters) > 1 else None
    if found is None:
        return text
    budget.text(SEARCHED * len(text))
    new, pieces, at = as_text(parameters[1]), [], 0
    for match in found.finditer(_readable(text)):
        budget.step()
        budget.text(len(new))
        pieces += [text[at : match.start()], new]
        at = match.end()
    return "".join([*pieces, text[at:]])


def _readable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _replace(text: str, parameters: Parameters, budget: Budget) -> str:
    old, new = as_text(_given(parameters, 0, "")), as_text(_given(parameters, 1, ""))
    if not old or len(parameters) < 2:
        return text
    budget.text(text.count(old) * len(new))
    return text.replace(old, new)


def _spacify(text: str, parameters: Parameters, budget: Budget) -> str:
    between = as_text(_given(parameters, 0, " "))
    budget.text(len(text) * (len(between) + 1))
    return between.join(text)


def _strstr(text: str, parameters: Parameters, budget: Budget) -> Any:
    at = text.find(as_text(parameters[0])) if parameters else 0
    if at < 0:
        return ""
    return text[:at] if true(_given(parameters, 1, False)) else text[at:]


def _strpos(text: str, parameters: Parameters, budget: Budget) -> Any:
    at = text.find(as_text(_given(parameters, 0, "")))
    return at if at >= 0 else False


def _substr(text: str, parameters: Parameters, budget: Budget) -> str:
    if not parameters:
        return text
    start = whole(parameters[0])
    rest = text[start:] if start >= 0 else text[max(0, len(text) + start) :]
    return rest[: max(0, whole(parameters[1]))] if len(parameters) > 1 else rest


def _truncate(text: str, parameters: Parameters, budget: Budget) -> str:
    length, more = max(0, whole(_given(parameters, 0, 80))), as_text(_given(parameters, 1, "..."))
    if len(text) <= length:
        return text
    if not length:
        return ""
    room = max(0, length - len(more))
    if not true(_given(parameters, 2, False)):
        kept = text[: room + 1]
        cut = re.search(r"\s+\S*\Z", kept)
        text = kept[: cut.start()] if cut else kept
    return (text[:room] + more)[:length] if len(more) > length else text[:room] + more


def _capitalize(text: str, parameters: Parameters, budget: Budget) -> str:
    digits = true(_given(parameters, 0, False))
    words = re.split(r"(\s+)", text)
    return "".join(
        word if not digits and any(sign.isdigit() for sign in word) else word[:1].upper() + word[1:] for word in words
    )


def _characters(text: str, parameters: Parameters, budget: Budget) -> int:
    return len(text) if true(_given(parameters, 0, True)) else sum(not sign.isspace() for sign in text)


def _number_format(value: Any, parameters: Parameters, budget: Budget) -> str:
    decimals = min(20, max(0, whole(_given(parameters, 0, 0))))
    point, thousands = as_text(_given(parameters, 1, "."))[:1] or ".", as_text(_given(parameters, 2, ""))[:1]
    shown = f"{as_number(value):,.{decimals}f}"
    return shown.translate({ord(","): thousands, ord("."): point})


def _date_format(text: str, parameters: Parameters, budget: Budget) -> str:
    moment = _moment(text.strip())
    if moment is None:
        return text
    wanted = as_text(_given(parameters, 0, "%b %e, %Y"))[:200]
    sound = _DIRECTIVE.sub(lambda found: found[0] if found[1] and found[1] in _KNOWN else "%" + found[0], wanted)
    return moment.strftime(sound)


def _moment(text: str) -> datetime.datetime | None:
    try:
        if text.isdecimal() and len(text) < 12 and len(text) != 8:
            return datetime.datetime.fromtimestamp(int(text), datetime.UTC)
        return datetime.datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        pass
    for shape in _DATES:
        try:
            return datetime.datetime.strptime(text, shape)  # noqa: DTZ007: as it was written
        except ValueError:
            continue
    return None


def _json(value: Any, parameters: Parameters, budget: Budget) -> str:
    text = json.dumps(value, ensure_ascii=False)
    budget.text(WRITTEN * len(text))
    return text


def _column(value: Any, parameters: Parameters, budget: Budget) -> Any:
    """Of each item of a list one member: `join` and `count` are for lists."""
    if not isinstance(value, list) or not parameters:
        return value
    budget.text(len(value))
    return [member(one, parameters[0]) for one in value]


def _join(value: Any, parameters: Parameters, budget: Budget) -> Any:
    if not isinstance(value, list | dict):
        return value
    found = [as_text(one) for one in (value if isinstance(value, list) else value.values())]
    between = as_text(_given(parameters, 0, ", "))
    budget.text(sum(map(len, found)) + len(between) * len(found))
    return between.join(found)


MODIFIERS: dict[str, Modifier] = {
    "base64_encode": _simple(lambda text: base64.b64encode(text.encode(errors="replace")).decode()),
    "base64_decode": _simple(_decoded),
    "capitalize": _texts(_capitalize),
    "cat": _texts(_cat),
    "column": _column,
    "count": lambda value, parameters, budget: len(value) if isinstance(value, list | dict) else 0,
    "count_characters": _texts(_characters, lambda value: 0),
    "count_paragraphs": _counted(lambda text: len([part for part in re.split(r"[\r\n]+", text) if part.strip()])),
    "count_words": _counted(lambda text: sum(bool(_WORD.search(word)) for word in text.split())),
    "date_format": _texts(_date_format),
    "default": _default,
    "empty": _empty,
    "escape": _texts(_escape),
    "indent": _texts(_indent),
    "join": _join,
    "jsonencode": _json,
    "json_encode": _json,
    "lower": _simple(str.lower),
    "md5": _hash("md5"),
    "nl2br": _texts(_nl2br),
    "number_format": _number_format,
    "range": _range,
    "raw": _simple(Safe),
    "regex_replace": _texts(_regex_replace),
    "replace": _texts(_replace),
    "sha1": _hash("sha1"),
    "sha256": _hash("sha256"),
    "sha512": _hash("sha512"),
    "spacify": _texts(_spacify),
    "strlen": _counted(len),
    "strpos": _texts(_strpos),
    "strstr": _texts(_strstr),
    "substr": _texts(_substr),
    "tolower": _simple(str.lower),
    "toupper": _simple(str.upper),
    "trim": _simple(lambda text: text.strip(" \t\r\n\v\0")),
    "truncate": _texts(_truncate),
    "ucfirst": _simple(lambda text: text[:1].upper() + text[1:]),
    "upper": _simple(str.upper),
    "urldecode": _simple(lambda text: urllib.parse.unquote_plus(text, errors="replace")),
    "urlencode": _simple(lambda text: urllib.parse.quote(text, safe="-_.~")),
}
