"""The first tables: eight kinds of rules, and the audit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

OPTIONS: dict[str, Any] = {
    "sqlite_autoincrement": True,  # the id of a rule that is gone is never another's: the audit names rules by it
    "mysql_engine": "InnoDB",
    "mysql_default_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}


def upgrade() -> None:
    """Make the tables."""
    _table("throttles", _text("ip", 45), _text("domain", 255), *_limits(), _once("throttles", "ip", "domain"))
    _table(
        "floods", _text("name", 100), _text("type", 16), _text("pattern", 500), _number("pause"), _number("reduced"),
        _number("position"), *_limits(), _once("floods", "name"),
    )  # fmt: skip
    _table(
        "pauses", _text("ip", 45), _text("domain", 255), _text("remote_ip", 45), _text("tag", 200), _time("until"),
        sa.Column("cluster", sa.Boolean, nullable=False), _text("reason", 500), _text("instance", 200),
    )  # fmt: skip
    _table(
        "redirects", _text("from_ip", 45), _text("domain", 255), _text("remote_ip", 45), _text("to_ip", 45),
        _time("until"), _once("redirects", "from_ip", "domain", "remote_ip"),
    )  # fmt: skip
    _table(
        "dkim_keys", _text("domain", 255), _text("selector", 200), sa.Column("private_key", sa.Text, nullable=False),
        _text("algorithm", 16), _time("expire"), sa.Column("headers", sa.Text, nullable=False),
        _text("canonicalization", 16), _once("dkim_keys", "domain", "selector"),
    )  # fmt: skip
    owner = sa.ForeignKey("dkim_keys.id", ondelete="CASCADE")
    _table(
        "dkim_patterns",
        sa.Column("dkim_key", sa.Integer, owner, nullable=False),
        _text("type", 16),
        _text("pattern", 500),
    )
    op.create_index("ix_dkim_patterns_dkim_key", "dkim_patterns", ["dkim_key"])
    _table("local_addresses", _text("type", 16), _text("pattern", 500), _once("local_addresses", "type", "pattern"))
    _table("mta_names", _text("ip", 45), _text("name", 100), _text("ehlo", 255), _once("mta_names", "ip"))
    _table(
        "dns_overrides",
        _text("name", 255),
        sa.Column("addresses", sa.Text, nullable=False),
        _once("dns_overrides", "name"),
    )
    _table(
        "audit", sa.Column("time", sa.DateTime, nullable=False), _text("who", 200), _text("origin", 200),
        _text("action", 16), _text("kind", 16), _number("rule"), sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
    )  # fmt: skip


def downgrade() -> None:
    """Drop the tables."""
    for table in ("audit", "dns_overrides", "mta_names", "local_addresses", "dkim_patterns", "dkim_keys"):
        op.drop_table(table)
    for table in ("redirects", "pauses", "floods", "throttles"):
        op.drop_table(table)


def _table(name: str, *columns: sa.Column[Any] | sa.UniqueConstraint) -> None:
    op.create_table(name, sa.Column("id", sa.Integer, primary_key=True, autoincrement=True), *columns, **OPTIONS)


def _once(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=f"{table}_once")


def _text(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=False, server_default="")


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False)


def _time(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime)


def _limits() -> Iterator[sa.Column[Any]]:
    for name in ("domain_messages", "domain_connects", "domain_connections", "ip_messages", "ip_connects"):
        yield sa.Column(name, sa.Integer)
    yield sa.Column("ip_connections", sa.Integer)
    yield sa.Column("connection_messages", sa.Integer)
    yield sa.Column("connection_idle", sa.Double)
    yield _text("connection_security", 16)
    yield sa.Column("queue", sa.Integer)
