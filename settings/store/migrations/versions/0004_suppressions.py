"""Addresses and domains that get no mail."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

OPTIONS: dict[str, Any] = {
    "sqlite_autoincrement": True,
    "mysql_engine": "InnoDB",
    "mysql_default_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "suppressions",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("hash", sa.BigInteger, nullable=False),
        _text("type", 8),
        _text("value", 320),
        _text("tag", 200),
        sa.Column("code", sa.Integer, nullable=False),
        _text("extended", 16),
        _text("description", 500),
        sa.Column("until", sa.DateTime),
        _text("source", 16),
        sa.Column("created", sa.DateTime),
        **OPTIONS,
    )
    op.create_index("suppressions_by_hash", "suppressions", ["hash", "type"])
    op.create_index("suppressions_ending", "suppressions", ["until"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("suppressions")


def _text(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=False, server_default="")
