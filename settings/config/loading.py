"""Loading: from the sources to one checked `Settings`, or to one line for each mistake."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import SecretStr, ValidationError

from settings.config import mailerq
from settings.config.errors import ConfigurationErrors
from settings.config.keys import FIELDS, NOWHERE, Settings
from settings.config.queue_names import is_read
from settings.config.sources import (
    MOST,
    OWN_FILE,
    ConfigSource,
    Given,
    SourceNotes,
    nullable,
    read_arguments,
    read_environment,
    read_file,
)
from settings.config.values import PROXIES, kind_of, show

SYSTEM_FILE = Path("/etc/mailrace/config.txt")
SERVICE_DIR = Path("/var/lib/mailrace")
LARGEST = 500_000_000  # octets of a message; as JSON it must fit into a blob of SQLite, 1 GB (sqlite.org/limits.html)
LONGEST = 60  # characters of a value in an error line


def load(
    argv: Sequence[str] = (), environ: Mapping[str, str] | None = None, system_file: Path | None = SYSTEM_FILE
) -> Settings:
    """The effective configuration: defaults, the system's file, `--config-file`, environment, command line; later wins.

    Args:
        argv: the options of the command line, without program and command.
        environ: the environment; None is an empty one.
        system_file: need not exist; None reads none.

    Raises:
        ConfigurationErrors: with one line for each mistake.
    """
    environ = environ or {}
    notes = SourceNotes()
    arguments, own_file = _own_file([*read_environment(environ), *read_arguments(argv, notes)])
    layers = [
        [given for given in arguments if given.origin == "command line"],
        [given for given in arguments if given.origin != "command line"],
        [*read_file(Path(own_file.text), notes, own_file.origin)] if own_file else [],
        [*read_file(system_file, notes)] if system_file else [],
        [Given("data-dir", str(default_data_dir(environ)), "default")],
    ]
    layers.insert(-1, _of_mailerq(layers, notes))
    return _build([ConfigSource(layer, notes) for layer in layers], notes)


def _of_mailerq(layers: Sequence[Sequence[Given]], notes: SourceNotes) -> list[Given]:
    """What follows from keys of MailerQ that stand for others together."""
    given = [one for layer in reversed(layers) for one in layer]
    off = [Given(key, "", origin) for key, origin in mailerq.newer(given, notes)]
    return [*mailerq.broker(given, notes), *mailerq.logs(given, notes), *off]


def _own_file(given: Iterable[Given]) -> tuple[list[Given], Given | None]:
    files = {one.key: one for one in given if one.key == OWN_FILE and one.text}
    return [one for one in given if one.key != OWN_FILE], files.get(OWN_FILE)


def _build(sources: Sequence[ConfigSource], notes: SourceNotes) -> Settings:
    found = {name: given for source in reversed(sources) for name, given in source.found.items()}
    try:
        settings = Settings(sources)
    except ValidationError as error:
        notes.mistakes += _explain(error, found)
    else:
        settings._origins.update({name: given.origin for name, given in found.items()})
        settings._warnings.extend([*notes.warnings, *_loud(settings)])
        notes.mistakes += check(settings)
    if notes.mistakes:
        more = [f"and {len(notes.mistakes) - MOST} more mistakes"] if len(notes.mistakes) > MOST else []
        raise ConfigurationErrors(notes.mistakes[:MOST] + more)
    return settings


def _loud(settings: Settings) -> Iterator[str]:
    """What works as it is written, and should not be overlooked."""
    if settings.rabbitmq_inbox is None:
        where = settings.origin("rabbitmq-inbox")
        yield f"rabbitmq-inbox ({where}): is empty: received mail that is for no local address is thrown away"
    for log in ("send-log", "received-log"):
        if _value(settings, f"{log}-format") is not None and _value(settings, f"{log}-file") is None:
            yield f"{log}-format ({settings.origin(f'{log}-format')}): has no effect without {log}-file"
    proxy = settings.download_proxy
    if proxy is not None and not proxy.get_secret_value().startswith(PROXIES):
        where = settings.origin("download-proxy")
        allowed = "http(s)://host:port or socks://host:port"
        yield f"download-proxy ({where}): is not {allowed}: no file of attachments[].url can be fetched"
    if settings.smtp_sink_address in NOWHERE:
        where = settings.origin("smtp-sink-address")
        yield f"smtp-sink-address ({where}): {settings.smtp_sink_address} is no sink: mail goes to its receivers"
    if settings.paused:
        yield f"paused ({settings.origin('paused')}): mail is taken and kept, and none leaves until a start without it"


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """`./var` where it is ours or can be made; the system's folder for a service of systemd, or else."""
    here = Path("var")
    if "INVOCATION_ID" in environ and _writable(SERVICE_DIR):
        return SERVICE_DIR
    return here if _writable(here) and private(here) else SERVICE_DIR


def private(folder: Path) -> bool:
    """Only this user can write there: it is theirs, or does not exist yet. Others must be named to be used."""
    try:
        found = folder.stat()
    except OSError:
        return True
    others = found.st_mode & 0o002 or (found.st_mode & 0o020 and found.st_gid != os.getegid())
    return found.st_uid == os.geteuid() and not others


def _writable(folder: Path) -> bool:
    """Can files be made in it, once it is made?"""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _explain(error: ValidationError, found: Mapping[str, Given]) -> Iterator[str]:
    for one in error.errors(include_url=False):
        name = str(one["loc"][0])
        if name not in found:
            continue  # a default that stands on a key which is wrong itself
        given, kind = found[name], kind_of(FIELDS[name])
        empty = ", or empty" if nullable(name) else ""
        yield f"{given.key}: {_shown(name, given.text)} ({given.origin}): must be {kind.allowed}{empty}"


def _shown(name: str, text: str) -> str:
    """The text as an error line may show it: no secrets, not longer than a line.

    Nothing from the first control character on: what was meant to be another line may hold a secret.
    """
    if "Secret" in str(FIELDS[name].annotation):
        return "'******'"
    shown = next((text[:at] for at, letter in enumerate(text) if not letter.isprintable()), text)[:LONGEST]
    return repr(shown if shown == text else f"{shown}...")


def check(settings: Settings) -> Iterator[str]:
    """What is wrong with keys together, though each is right by itself."""
    for server in ("www", "smtp"):
        yield from _pair(settings, f"{server}-certificate", f"{server}-privatekey")
        if getattr(settings, f"{server}_secure_port"):
            yield from _needs(settings, f"{server}-secure-port", f"{server}-certificate")
    yield from _pair(settings, "smtp-username", "smtp-password")
    yield from _relays(settings)
    yield from _apart(settings)
    yield from _read_alone(settings)
    if settings.smtp_maxsize > LARGEST:
        yield _line(
            settings, "smtp-maxsize", f"must be at most {LARGEST // 10**6}MB: the queue stores no larger message"
        )
    for log in ("send-log-file", "received-log-file"):
        if _value(settings, log) is not None and _value(settings, log) in (settings.send_log, settings.received_log):
            yield _line(settings, log, "must be another file than send-log and received-log, which are JSON")
    if settings.smtp_auth and settings.smtp_username:
        yield _line(settings, "smtp-auth", "cannot be used together with smtp-username")
    if settings.spool_directory and settings.spool_directory == settings.spool_fail_directory:
        yield _line(settings, "spool-fail-directory", "must be another folder than spool-directory")


def _relays(settings: Settings) -> Iterator[str]:
    """A server that mail goes to in place of its receivers: half a description of one would send it to the world."""
    for one in ("smarthost", "smtp-sink"):
        host = one if one == "smarthost" else "smtp-sink-address"
        yield from _needs(settings, f"{one}-username", host)
        yield from _pair(settings, f"{one}-username", f"{one}-password")
    yield from _needs(settings, "smtp-sink-port", "smtp-sink-address")
    if settings.delivery_sink and settings.smtp_sink_address:
        yield _line(settings, "smtp-sink-address", "cannot be used together with delivery-sink")


def _apart(settings: Settings) -> Iterator[str]:
    """Ports that would be taken by ourselves; 0 is any free port."""
    if settings.www_port and settings.www_port == settings.www_secure_port:
        yield _line(settings, "www-secure-port", "must be another port than www-port")
    if both := sorted({*settings.smtp_port} & {*settings.smtp_secure_port} - {0}):
        yield _line(settings, "smtp-secure-port", f"must not have ports of smtp-port: {both[0]}")


def _read_alone(settings: Settings) -> Iterator[str]:
    """Queues that mail is read from: a result that came there would be sent on, and have a result again."""
    outbox, inbox = settings.rabbitmq_outbox, settings.rabbitmq_inbox or ""
    own = (f"{outbox}.delay.", f"{outbox}.parked")
    for kind in ("results", "success", "failure", "retry", "refused", "reports"):
        name = getattr(settings, f"rabbitmq_{kind}")
        if name and is_read(name, outbox, inbox):
            yield _line(settings, f"rabbitmq-{kind}", "must be another queue than those that mail is read from")
    if inbox.startswith(own):
        yield _line(settings, "rabbitmq-inbox", f"must not be one of the queues that {outbox!r} keeps for itself")


def _pair(settings: Settings, one: str, other: str) -> Iterator[str]:
    yield from _needs(settings, one, other)
    yield from _needs(settings, other, one)


def _needs(settings: Settings, key: str, needed: str) -> Iterator[str]:
    if _value(settings, key) is not None and _value(settings, needed) is None:
        yield _line(settings, key, f"needs {needed} as well")


def _value(settings: Settings, key: str) -> object:
    return getattr(settings, key.replace("-", "_"))


def _line(settings: Settings, key: str, what: str) -> str:
    value = _value(settings, key)
    text = "'******'" if isinstance(value, SecretStr) else repr(show(value))
    return f"{key}: {text} ({settings.origin(key)}): {what}"
