"""The tables: where the rules are kept. `settings/migrations` makes and changes them; a test holds both together.

Kinds of rules that have no table of their own are JSON objects in `documents`, so that a new one needs no migration.
Other programs may write here: text that is not given is empty, a limit that is not given NULL, times are UTC.
Private keys are stored encrypted (`settings.store.vault`).
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from settings.rules.models import NAMES, DkimKey, Dns, Flood, Local, MtaName, Pause, Pool, Redirect, Rule, Throttle

OPTIONS: dict[str, Any] = {
    "sqlite_autoincrement": True,  # the id of a rule that is gone is never another's: the audit names rules by it
    "mysql_engine": "InnoDB",
    "mysql_default_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}
SEALED = "sealed"  # where a document has its secrets, encrypted by the vault
metadata = sa.MetaData()


class Utc(sa.types.TypeDecorator[datetime.datetime]):
    """A time, UTC, in whole seconds; without a zone in the database, since not every one of them has zones."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime.datetime | None, dialect: sa.Dialect) -> datetime.datetime | None:
        """To the database."""
        return None if value is None else value.astimezone(datetime.UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime.datetime | None, dialect: sa.Dialect) -> datetime.datetime | None:
        """From the database."""
        return None if value is None else value.replace(tzinfo=datetime.UTC)


def _text(name: str, length: int, **more: Any) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=False, server_default="", **more)


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.Integer, primary_key=True, autoincrement=True)


def _limits() -> Iterator[sa.Column[Any]]:
    for name in ("domain_messages", "domain_connects", "domain_connections", "ip_messages", "ip_connects"):
        yield sa.Column(name, sa.Integer)
    yield sa.Column("ip_connections", sa.Integer)
    yield sa.Column("connection_messages", sa.Integer)
    yield sa.Column("connection_idle", sa.Double)
    yield _text("connection_security", 16)
    yield sa.Column("queue", sa.Integer)


throttles = sa.Table(
    "throttles", metadata, _id(), _text("ip", 45), _text("pool", 64), _text("domain", 255), _text("tag", 200),
    _text("scope", 8), *_limits(), sa.Column("more", sa.Text),
    sa.UniqueConstraint("ip", "pool", "domain", "tag", name="throttles_once"), **OPTIONS,
)  # fmt: skip
floods = sa.Table(
    "floods", metadata, _id(), _text("name", 100), _text("type", 16), _text("pattern", 500),
    sa.Column("pause", sa.Integer, nullable=False), sa.Column("reduced", sa.Integer, nullable=False),
    sa.Column("position", sa.Integer, nullable=False, key="order"), *_limits(), sa.Column("more", sa.Text),
    sa.UniqueConstraint("name", name="floods_once"), **OPTIONS,
)  # fmt: skip
pauses = sa.Table(
    "pauses", metadata, _id(), _text("ip", 45), _text("pool", 64), _text("domain", 255), _text("remote_ip", 45),
    _text("tag", 200), sa.Column("until", Utc), sa.Column("cluster", sa.Boolean, nullable=False), _text("reason", 500),
    _text("instance", 200), **OPTIONS,
)  # fmt: skip
redirects = sa.Table(
    "redirects", metadata, _id(), _text("from_ip", 45), _text("domain", 255), _text("remote_ip", 45),
    _text("to_ip", 45), sa.Column("until", Utc),
    sa.UniqueConstraint("from_ip", "domain", "remote_ip", name="redirects_once"), **OPTIONS,
)  # fmt: skip
dkim_keys = sa.Table(
    "dkim_keys", metadata, _id(), _text("domain", 255), _text("selector", 200),
    sa.Column("private_key", sa.Text, nullable=False, key="key"), _text("algorithm", 16), sa.Column("expire", Utc),
    sa.Column("headers", sa.Text, nullable=False), _text("canonicalization", 16),
    sa.UniqueConstraint("domain", "selector", name="dkim_keys_once"), **OPTIONS,
)  # fmt: skip
dkim_patterns = sa.Table(
    "dkim_patterns", metadata, _id(),
    sa.Column("dkim_key", sa.Integer, sa.ForeignKey("dkim_keys.id", ondelete="CASCADE"), nullable=False, index=True),
    _text("type", 16), _text("pattern", 500), **OPTIONS,
)  # fmt: skip
locals_ = sa.Table(
    "local_addresses", metadata, _id(), _text("type", 16), _text("pattern", 500),
    sa.UniqueConstraint("type", "pattern", name="local_addresses_once"), **OPTIONS,
)  # fmt: skip
mta_names = sa.Table(
    "mta_names", metadata, _id(), _text("ip", 45), _text("name", 100), _text("ehlo", 255),
    sa.UniqueConstraint("ip", name="mta_names_once"), **OPTIONS,
)  # fmt: skip
dns = sa.Table(
    "dns_overrides", metadata, _id(), _text("name", 255), sa.Column("addresses", sa.Text, nullable=False),
    sa.UniqueConstraint("name", name="dns_overrides_once"), **OPTIONS,
)  # fmt: skip
documents = sa.Table(
    "documents", metadata, _id(), _text("kind", 32, index=True), sa.Column("document", sa.Text, nullable=False),
    **OPTIONS,
)  # fmt: skip
suppressions = sa.Table(
    "suppressions", metadata, _id(), sa.Column("hash", sa.BigInteger, nullable=False), _text("type", 8),
    _text("value", 320), _text("tag", 200), sa.Column("code", sa.Integer, nullable=False), _text("extended", 16),
    _text("description", 500), sa.Column("until", Utc), _text("source", 16), sa.Column("created", Utc),
    sa.Index("suppressions_by_hash", "hash", "type"), sa.Index("suppressions_ending", "until"), **OPTIONS,
)  # fmt: skip
pools = sa.Table(
    "pools", metadata, _id(), _text("name", 64), _text("description", 500),
    sa.Column("members", sa.Text, nullable=False),
    sa.UniqueConstraint("name", name="pools_once"), **OPTIONS,
)  # fmt: skip
audit = sa.Table(
    "audit", metadata, _id(), sa.Column("time", Utc, nullable=False), _text("who", 200), _text("origin", 200),
    _text("action", 16), _text("kind", 16), sa.Column("rule", sa.Integer, nullable=False),
    sa.Column("before", sa.Text), sa.Column("after", sa.Text), **OPTIONS,
)  # fmt: skip

TABLES: Mapping[type[Rule], sa.Table] = {
    Throttle: throttles,
    Flood: floods,
    Pause: pauses,
    Redirect: redirects,
    DkimKey: dkim_keys,
    Local: locals_,
    MtaName: mta_names,
    Dns: dns,
    Pool: pools,
}


def table_of(model: type[Rule]) -> sa.Table:
    """Where the rules of a model are."""
    return TABLES.get(model, documents)


def parsed(document: str) -> dict[str, Any]:
    """The values in a document; what is no JSON object, which only a foreign hand writes, has none."""
    try:
        found = json.loads(document)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def with_sealed(document: str, sealed: Mapping[str, str]) -> str:
    """The document with its encrypted secrets."""
    return json.dumps({**parsed(document), SEALED: dict(sealed)}, ensure_ascii=False)


def row_of(rule: Rule) -> dict[str, Any]:
    """The rule as column values, without its id and what is in tables of its own; the private key as it is."""
    if type(rule) not in TABLES:
        ours = {"id", *type(rule).model_computed_fields}
        document = rule.model_dump(mode="json", exclude=ours, exclude_defaults=True)
        return {"kind": NAMES[type(rule)], "document": json.dumps(document, ensure_ascii=False)}
    table = TABLES[type(rule)]
    if "more" in table.columns:
        return {**_columns(rule, table), "more": _more(rule, table)}
    return _columns(rule, table)


def _more(rule: Rule, table: sa.Table) -> str | None:
    """The fields that are not at their default and have no column of their own, as JSON."""
    own = {column.key for column in table.columns} | {"id"}
    more = {n: v for n, v in rule.model_dump(mode="json", exclude_defaults=True).items() if n not in own}
    return json.dumps(more, ensure_ascii=False) if more else None


def _columns(rule: Rule, table: sa.Table) -> dict[str, Any]:
    return {
        column.key: _stored(column, getattr(rule, column.key))
        for column in table.columns
        if column.key not in ("id", "more")
    }


def _stored(column: sa.Column[Any], value: Any) -> Any:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None and isinstance(column.type, sa.String) else value
