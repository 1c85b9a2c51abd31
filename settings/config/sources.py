"""Where values come from: a file, the environment, the command line. Each gives `Given` texts and notes its mistakes.

Owns nothing. A file is read up to a megabyte; what cannot be read is one line among the mistakes, and the rest goes on.
"""

from __future__ import annotations

import collections
import dataclasses
import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from settings.config import mailerq
from settings.config.keys import FIELDS, Settings, more

LARGEST = 1_000_000  # bytes of a configuration file
MOST = 50  # mistakes that are told one by one: a file of something else has one a line
PREFIX = "MAILRACE_"
NARROWER = "smtp-connections-in"  # beside `smtp-connections`, which is of both directions in MailerQ
OWN_FILE = "config-file"
# Kubernetes sets these in every container for a service that is named mailrace.
_KUBERNETES = re.compile(r"MAILRACE_(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?)")

NAMES = {name.replace("_", "-"): name for name in FIELDS}
ALSO = {other: name for name in FIELDS for other in more(name)["also"]}


_ALL_NAMES = {*NAMES, *ALSO, *mailerq.KEYS, *mailerq.BROKER, *mailerq.LOGS, *mailerq.REFUSED, "rabbitmq-retries"}


class Given(NamedTuple):
    """A key's text, and where it was given."""

    key: str
    text: str
    origin: str


@dataclasses.dataclass
class SourceNotes:
    """What reading the configuration came upon: mistakes end it, warnings do not."""

    mistakes: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)


class ConfigSource(PydanticBaseSettingsSource):
    """One source for pydantic-settings: the known keys among what was given."""

    def __init__(self, given: Iterable[Given], notes: SourceNotes) -> None:
        super().__init__(Settings)
        self.found: dict[str, Given] = {}
        for one in given:
            if (name := _known(one, notes)) and (one.text or nullable(name)):
                before = self.found.get(name)
                self.found[name] = one if before is None or before.key == one.key else _of_two(before, one, notes)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The text for a field; an empty one turns it off."""
        return self.found[field_name].text or None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return {name: self.get_field_value(FIELDS[name], name)[0] for name in self.found}


def _of_two(before: Given, now: Given, notes: SourceNotes) -> Given:
    """One key under two names: of connections that come in `-in` is the narrower; else both must say the same."""
    if now.key == NARROWER or before.key == NARROWER:
        return now if now.key == NARROWER else before
    if before.text and now.text and before.text != now.text:
        notes.mistakes.append(
            f"{now.key} ({now.origin}): is another name of {before.key} ({before.origin}), which says something else"
        )
    return now if now.text or not before.text else before


def nullable(name: str) -> bool:
    """Can this key be empty? Elsewhere an empty text is as good as none."""
    return type(None) in getattr(FIELDS[name].annotation, "__args__", ())


def _known(given: Given, notes: SourceNotes) -> str | None:
    name = NAMES.get(given.key) or ALSO.get(given.key)
    if name is None and given.key in (*mailerq.BROKER, *mailerq.LOGS, "rabbitmq-retries"):
        return None  # `mailerq.broker`, `mailerq.logs` and `mailerq.newer` have them
    if name is None and given.key in mailerq.REFUSED:
        if given.text:
            notes.mistakes.append(f"{given.key} ({given.origin}): {mailerq.REFUSED[given.key]}")
    elif name is None and given.key in mailerq.KEYS:
        _warn(
            notes,
            f"{given.key} ({given.origin}): is a key of MailerQ for what Mailrace does not have; it has no effect",
        )
    elif name is None:
        near = nearest(given.key) if len(notes.mistakes) < MOST else "not looked for"  # a millisecond each
        notes.mistakes.append(f"{_named(given.key)} ({given.origin}): no such key; the nearest is {near}")
    return name


def _warn(notes: SourceNotes, line: str) -> None:
    if not any(line.split(" ")[0] == other.split(" ")[0] for other in notes.warnings):
        notes.warnings.append(line)


def nearest(key: str, words: Iterable[str] = NAMES) -> str:
    """The word that looks most like this one."""
    return difflib.get_close_matches(key[:60], list(words), n=1, cutoff=0.0)[0]


def read_file(path: Path, notes: SourceNotes, origin: str | None = None) -> Iterator[Given]:
    """The `key: value` lines of a file. `origin`: who named the file; None where it need not exist."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError(f"is larger than {LARGEST} bytes")
        yield from _lines(content.decode("utf-8-sig"), path, notes)
    except FileNotFoundError:
        if origin:
            notes.mistakes.append(f"{OWN_FILE}: {str(path)!r} ({origin}): there is no such file")
    except UnicodeDecodeError as error:
        notes.mistakes.append(f"{path}: must be UTF-8 text; byte {error.start + 1} is not")
    except (OSError, ValueError) as error:
        notes.mistakes.append(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")


def _lines(text: str, path: Path, notes: SourceNotes) -> Iterator[Given]:
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        key, colon, value = (part.strip() for part in line.partition(":"))
        if colon:
            yield Given(key, value, f"{path}:{number}")
        else:
            notes.mistakes.append(f"{path}:{number}: {_no_colon(line)}must be `key: value`; there is no colon")


def _no_colon(line: str) -> str:
    """The key of such a line, and nothing else of it: that may be a password, like `www-password=x`, or what is one."""
    name = _named(line)
    return f"{name!r}: " if name in _ALL_NAMES else ""


def _named(text: str) -> str:
    """The beginning that may be a key's name; what stands behind it may be a secret."""
    return re.split(r"[=\s]", text, maxsplit=1)[0][:60]


def read_environment(environ: Mapping[str, str]) -> Iterator[Given]:
    """The variables whose names begin with MAILRACE_."""
    for variable, value in environ.items():
        if variable.startswith(PREFIX) and not _KUBERNETES.fullmatch(variable):
            key = variable.removeprefix(PREFIX).lower().replace("_", "-")
            yield Given(key, value.strip(), f"environment {variable}")


def read_arguments(arguments: Sequence[str], notes: SourceNotes) -> Iterator[Given]:
    """`--key value` and `--key=value`. What stands behind `--key= ` may be a password, and is not said."""
    rest, empty = collections.deque(arguments), ""
    while rest:
        argument = rest.popleft()
        key, equals, value = argument.removeprefix("--").partition("=")
        option = argument.startswith("--") and bool(key)
        empty = (key[:60] if equals and not value else "") if option else empty
        if not option and empty:
            notes.mistakes.append(f"{empty} (command line): a word stands behind `--{empty}=`; must be --{empty}=VALUE")
        elif not option:
            notes.mistakes.append(f"{_named(argument)!r} (command line): must be --key value")
        elif equals or (rest and not rest[0].startswith("--")):
            yield Given(key, (value if equals else rest.popleft()).strip(), "command line")
        else:
            notes.mistakes.append(f"{key[:60]} (command line): needs a value: --{key[:60]} VALUE")


def split(arguments: Sequence[str], own: Collection[str] = (), *, whole: bool = True) -> tuple[list[str], list[str]]:
    """The options of the configuration among these arguments, and the others; after `--` all are others.

    Args:
        arguments: with a command's own options among them, which are left alone.
        own: those of them that have a key's name.
        whole: go on behind the first of the others, which is the command.
    """
    options: list[str] = []
    others: list[str] = []
    keys = {*NAMES, *ALSO, OWN_FILE} - {*own}
    rest = collections.deque(arguments)
    while rest and rest[0] != "--" and (whole or not others):
        argument = rest.popleft()
        key, equals, _ = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or key not in keys:
            others.append(argument)
            continue
        options.append(argument)
        if rest and not equals:
            options.append(rest.popleft())
    return options, [*others, *rest]
