"""`mailrace import mailerq`: the rules of MailerQ's database become ours; what cannot be carried over is one line each.

Tables and columns are found by the names that MailerQ's versions gave them; the database is only read. Bound: MOST
rows of a table.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy as sa

from pipeline.commands.import_acting import COMMON, TYPES, Row, Tables, responses, rewrites
from pipeline.commands.import_acting import first as _first
from settings import ConfigurationErrors, Settings, StartError
from settings.rules import KINDS, Imported, InvalidRule
from settings.rules.transfer import FORMAT, VERSION
from settings.store import RuleStore, RulesUnavailable, Who, engine

MOST = 1_000_000
LIMITS = {
    "domain_messages": ("domain_maxmessages", "domain_messages"),
    "domain_connects": ("domain_maxconnects", "domain_connects"),
    "domain_connections": ("domain_maxconnections", "domain_connections"),
    "ip_messages": ("ip_maxmessages", "ip_messages"),
    "ip_connects": ("ip_maxconnects", "ip_connects"),
    "ip_connections": ("ip_maxconnections", "ip_connections"),
    "connection_messages": ("connection_maxmessages", "connection_messages"),
    "queue": ("domain_maxqueue", "maxqueue", "queue"),
}
SUPPRESSED = "suppressions"  # which may be a million
ACTING = ("response_patterns", "response_actions", "response_patterns_actions", "rewrite_triggers", "rewrite_actions",
          "rewrite_conditions")  # fmt: skip
HOLDING = ("paused", "errors")  # what such a rule is for must be understood whole: without it, it is for all mail
SELECTING = {
    *COMMON, "version", "localip", "mta", "mtaip", "pool", "domain", "target", "remoteip", "ip", "tag", "cluster",
    "instance", "expire", "until", "code", "extended",
}  # fmt: skip
STATISTICS = ("ips", "deliveries", "tokens", "alembic", "users", "sessions")  # nothing to carry over


def import_rules(settings: Settings, arguments: Sequence[str]) -> int:
    """Read MailerQ's database, and put its rules into ours; with `--dry-run` only say what would come of it.

    Raises:
        ConfigurationErrors: the command line cannot be used.
        StartError: a database does not answer.
    """
    asked = _Parser.read(arguments)
    tables = read(asked.database)
    document, left = translated(tables)
    result, many = asyncio.run(_stored(settings, document, list(suppressed(tables)), asked.dry_run))
    for line in (*result.errors, *left, *many.left):
        print(f"not carried over: {line}")
    done = "would be " if asked.dry_run else ""
    print(f"{result.created} rules {done}created, {result.updated} changed, {result.unchanged} there already")
    if many.new or many.replaced:
        print(f"{many.new:,} suppressions {done}created, {many.replaced:,} replaced")
    return 0


class _Parser(argparse.ArgumentParser):
    """Its mistakes are ours to say."""

    @classmethod
    def read(cls, arguments: Sequence[str]) -> argparse.Namespace:
        """The command line."""
        parser = cls(prog="mailrace import", add_help=False)
        parser.add_argument("what", choices=["mailerq"])
        parser.add_argument("--database", required=True)
        parser.add_argument("--dry-run", action="store_true")
        return parser.parse_args(list(arguments))

    def error(self, message: str) -> NoReturn:
        """One line, and what is allowed."""
        raise ConfigurationErrors([f"import: {message}; allowed is: import mailerq --database URL [--dry-run]"])


class _Many:
    """What came of suppressions."""

    def __init__(self) -> None:
        self.new = self.replaced = 0
        self.left: list[str] = []

    def told(self, new: int, replaced: int) -> None:
        """Of a part of them."""
        self.new, self.replaced = self.new + new, self.replaced + replaced


async def _stored(
    settings: Settings, document: Mapping[str, Any], given: Sequence[Mapping[str, str]], dry: bool
) -> tuple[Imported, _Many]:
    with tempfile.TemporaryDirectory() as folder:
        ours = settings.database_address.get_secret_value() if settings.database_address else ""
        where = ("", Path(folder)) if dry else (ours, settings.data_dir)
        store = RuleStore(*where, instance=settings.server_id)
        try:
            await store.start()
            return await store.import_rules(document, Who("import mailerq")), await _suppress(store, given)
        except RulesUnavailable as error:
            raise StartError(f"import: {error}") from None
        finally:
            await store.close()


async def _suppress(store: RuleStore, given: Sequence[Mapping[str, str]]) -> _Many:
    many, rows = _Many(), []
    for number, values in enumerate(given, 1):
        try:
            rows.append(store.suppressions.imported(values))
        except InvalidRule as error:
            many.left.append(f"{SUPPRESSED}[{number}]: {error}")
    await store.suppressions.add_many(rows, many.told)
    return many


def read(address: str) -> dict[str, list[Row]]:
    """All tables, by lower-case name. Raises `StartError`, without what is secret of the address."""
    try:
        url = engine.location(address, Path())
    except RulesUnavailable:
        raise StartError("import: --database: allowed are mysql://, postgresql:// and sqlite:///") from None
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        raise StartError(f"import: {url.database}: there is no such file")
    source = sa.create_engine(url, hide_parameters=True)
    try:
        with source.connect() as connection:
            metadata = sa.MetaData()
            metadata.reflect(connection)
            return {name.lower(): _rows(connection, table) for name, table in metadata.tables.items()}
    except sa.exc.SQLAlchemyError as error:
        shown = url.render_as_string(hide_password=True)
        raise StartError(f"import: {shown}: {engine.reason(error)}") from None
    finally:
        source.dispose()


def _rows(connection: sa.Connection, table: sa.Table) -> list[Row]:
    found = connection.execute(table.select().limit(MOST)).mappings()
    return [{str(name).lower(): value for name, value in row.items()} for row in found]


# -- what becomes what -------------------------------------------------------------------------------------------------


def translated(tables: Tables) -> tuple[dict[str, Any], list[str]]:
    """Our document of rules, and a line for each table that has rows which are no rules here."""
    document: dict[str, Any] = {FORMAT: VERSION}
    used: set[str] = set()
    left: list[str] = []
    tables = {name: _understood(name, rows, left) if name in HOLDING else rows for name, rows in tables.items()}
    for kind, (names, translate) in TABLES.items():
        if kind not in KINDS:
            continue
        rules = [rule for rule in translate(tables) if rule]
        used.update(names)
        if rules:
            document[kind] = rules
    for kind, translate_acting in {"responses": responses, "rewrites": rewrites}.items():
        if acting := list(translate_acting(tables, _selected, left)):
            document[kind] = acting
    left += [
        f"{name}: {len(rows):,} rows; there are no such rules here"
        for name, rows in tables.items()
        if rows and name not in {*used, *ACTING, SUPPRESSED} and not name.startswith(STATISTICS)
    ]
    return document, left


def _understood(table: str, rows: Sequence[Row], left: list[str]) -> list[Row]:
    """The rows in which every column that is filled is known."""
    kept = []
    for number, row in enumerate(rows, 1):
        unknown = [name for name, value in row.items() if name not in SELECTING and value not in (None, "", 0)]
        if unknown:
            left.append(f"{table} {row.get('id') or number}: column {unknown[0]!r} is not known here")
        else:
            kept.append(row)
    return kept


def _throttles(tables: Tables) -> Iterator[dict[str, Any]]:
    capacities = {row.get("id"): row for row in tables.get("capacity", ())}
    joined = tables.get("capacity_rules", ())
    for row in joined:
        base = capacities.get(_first(row, "capacity_id", "capacity", "capacityid")) or {}
        yield {**_scope(row), **_limits(base), **_limits(row)}
    for name in ("capacity", "capacity_per_ip"):
        for row in tables.get(name, ()):
            if _scope(row) or not joined:
                yield {**_scope(row), **_limits(row)}


def _floods(tables: Tables) -> Iterator[dict[str, Any]]:
    for order, row in enumerate(tables.get("flood_responses", ()), 1):
        pattern = str(_first(row, "pattern", "response") or "")
        name = str(_first(row, "name", "description") or f"{row.get('id', '')} {pattern}".strip())[:100]
        rule: dict[str, Any] = {"name": name, "pattern": pattern, "type": TYPES.get(str(row.get("type")), "substring")}
        rule["order"] = order
        pause, reduced = _first(row, "pause", "delay"), _first(row, "duration", "period", "timeout", "expire")
        times = {"pause": pause, "reduced": reduced}
        yield {**rule, **{name: value for name, value in times.items() if isinstance(value, int)}, **_limits(row)}


def _pauses(tables: Tables) -> Iterator[dict[str, Any]]:
    for row in tables.get("paused", ()):
        yield {**_scope(row), **_target(row), **_kept(row, tag=("tag",), until=("expire", "until")), "cluster": True}


def _redirects(tables: Tables) -> Iterator[dict[str, Any]]:
    for row in tables.get("delegates", ()):
        yield {
            "from_ip": _ip(_first(row, "localip", "fromip", "from_ip", "original")),
            "to_ip": _ip(_first(row, "delegate", "toip", "to_ip", "newip", "alternative")),
            **_target(row),
        }


def _dkim_keys(tables: Tables) -> Iterator[dict[str, Any]]:
    patterns: dict[Any, list[dict[str, str]]] = {}
    for row in tables.get("dkim_patterns", ()):
        kind, pattern = TYPES.get(str(row.get("type")), "exact"), _first(row, "sign", "pattern", "domain")
        owner = _first(row, "key_id", "dkim_key", "dkim_id", "keyid", "key")
        patterns.setdefault(owner, []).append({"type": kind, "pattern": str(pattern or "")})
    for row in tables.get("dkim_keys", ()):
        yield {
            **_kept(row, domain=("domain",), selector=("selector",), expire=("expire",)),
            "key": _first(row, "privatekey", "private_key", "key"),
            "patterns": patterns.get(row.get("id"), patterns.get(row.get("domain"), [])),
        }


def _locals(tables: Tables) -> Iterator[dict[str, Any]]:
    for name in ("locals", "local_addresses", "local"):
        for row in tables.get(name, ()):
            kind = TYPES.get(str(row.get("type")), "exact")
            yield {"type": kind, "pattern": _first(row, "pattern", "address", "email", "recipient")}


def _names(tables: Tables) -> Iterator[dict[str, Any]]:
    for row in tables.get("mtanames", ()):
        yield {
            "ip": _ip(_first(row, "ip", "localip", "mta")),
            "ehlo": _first(row, "name", "mtaname", "hostname", "ehlo"),
        }


def _dns(tables: Tables) -> Iterator[dict[str, Any]]:
    found: dict[str, list[str]] = {}
    for row in tables.get("dns", ()):
        name, ip = _first(row, "hostname", "domain", "name"), _ip(_first(row, "ip", "address", "remoteip"))
        if name and ip:
            found.setdefault(str(name), []).append(ip)
    yield from ({"name": name, "addresses": addresses} for name, addresses in found.items())


def _pools(tables: Tables) -> Iterator[dict[str, Any]]:
    members: dict[Any, list[str]] = {}
    for table in ("poolips", "pool_ips", "ippools_ips"):
        for row in tables.get(table, ()):
            ip = _ip(_first(row, "ip", "localip", "mta"))
            members.setdefault(_first(row, "pool_id", "pool", "name"), []).append(ip)
    for table in ("pools", "ippools", "ip_pools"):
        for row in tables.get(table, ()):
            mine = [*members.get(row.get("name"), ()), *members.get(row.get("id"), ())]
            yield {**_kept(row, name=("name",), description=("description",)), "members": mine}


def _external(tables: Tables) -> Iterator[dict[str, Any]]:
    for name in ("externalmtas", "external_mtas", "external_ips"):
        for row in tables.get(name, ()):
            ips = {"public_ip": _first(row, "public_ip", "publicip"), "local_ip": _first(row, "local_ip", "localip")}
            found = {ours: _ip(value) for ours, value in ips.items() if value}
            if (there := _first(row, "connect_ip", "connectip")) is not None:
                found["connect_ip"] = _ip(there)
            yield {**found, **_numbers(row, "connect_port"), **_kept(row, protocol=("protocol",))}


def _numbers(row: Row, *names: str) -> dict[str, int]:
    return {name: int(row[name]) for name in names if str(row.get(name) or "").isdecimal()}


def _errors(tables: Tables) -> Iterator[dict[str, Any]]:
    known = set(KINDS["errors"].model_fields) - {"id"}
    for row in tables.get("errors", ()):
        rule = {name: value for name, value in row.items() if name in known and value not in (None, "")}
        where = {"cluster": bool(rule.pop("cluster", True))}
        yield {**rule, **_selected(row), **_kept(row, until=("expire", "until")), **where}


def suppressed(tables: Tables) -> Iterator[dict[str, str]]:
    """The suppressions, each as a line of a file has it."""
    for row in tables.get(SUPPRESSED, ()):
        same = {name: (name,) for name in ("type", "value", "code", "extended", "description", "tag")}
        yield _kept(row, **same, until=("expire", "until"))


TABLES: dict[str, tuple[tuple[str, ...], Callable[[Tables], Iterator[dict[str, Any]]]]] = {
    "throttles": (("capacity", "capacity_per_ip", "capacity_rules"), _throttles),
    "floods": (("flood_responses",), _floods),
    "pauses": (("paused",), _pauses),
    "redirects": (("delegates",), _redirects),
    "dkim-keys": (("dkim_keys", "dkim_patterns"), _dkim_keys),
    "locals": (("locals", "local_addresses", "local"), _locals),
    "mta-names": (("mtanames",), _names),
    "dns": (("dns",), _dns),
    "external-mtas": (("externalmtas", "external_mtas", "external_ips"), _external),
    "pools": (("pools", "ippools", "ip_pools", "poolips", "pool_ips", "ippools_ips"), _pools),
    "errors": (("errors",), _errors),
}


# -- columns -----------------------------------------------------------------------------------------------------------


def _kept(row: Row, **names: tuple[str, ...]) -> dict[str, Any]:
    found = {ours: _first(row, *theirs) for ours, theirs in names.items()}
    return {name: str(value) for name, value in found.items() if value}


def _scope(row: Row) -> dict[str, Any]:
    """The MTA IP, or pool, and the domain of a row."""
    ip, domain, pool = _ip(_first(row, "localip", "mta", "mtaip")), _first(row, "domain"), _first(row, "pool")
    found = {"ip": ip, "domain": str(domain) if domain else "", "pool": str(pool) if pool else ""}
    return {name: value for name, value in found.items() if value}


def _selected(row: Row) -> dict[str, Any]:
    """What a response or rewrite rule is for: its source, target and tag."""
    return {**_scope(row), **_target(row), **_kept(row, tag=("tag",))}


def _target(row: Row) -> dict[str, Any]:
    """The destination of a row: its `target` is a domain or an IP."""
    target = _first(row, "target", "domain", "remoteip", "ip")
    if target is None:
        return {}
    ip = _ip(target)
    return {"remote_ip": ip} if (ip and ip != target) or _is_ip(target) else {"domain": str(target)}


def _is_ip(value: Any) -> bool:
    try:
        ipaddress.ip_address(str(value))
    except ValueError:
        return False
    return True


def _ip(value: Any) -> str:
    """An address; as old versions kept it, 16 octets, an IPv4 one with twelve zeros behind it."""
    if isinstance(value, bytes | bytearray):
        octets = bytes(value)
        if len(octets) == 16 and not any(octets[4:]):
            octets = octets[:4]
        try:
            return str(ipaddress.ip_address(octets)) if len(octets) in (4, 16) and any(octets) else ""
        except ValueError:
            return ""
    return str(value) if value else ""


def _limits(row: Row) -> dict[str, Any]:
    """The limits of a row: -1 is not set, 0 unlimited. Idle times are milliseconds there."""
    found = {ours: _first(row, *theirs) for ours, theirs in LIMITS.items()}
    limits: dict[str, Any] = {name: value for name, value in found.items() if isinstance(value, int) and value >= 0}
    idle = _first(row, "connection_maxidletime", "connection_maxidle", "connection_idle")
    if isinstance(idle, int | float) and idle >= 0:
        limits["connection_idle"] = idle / 1000 if "connection_maxidletime" in row else idle
    secure = _first(row, "secure", "connection_secure")
    if isinstance(secure, int) and secure > 0:
        limits["connection_security"] = "opportunistic"
    return limits
