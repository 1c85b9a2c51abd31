"""Rules of the kinds that have no table of their own, as JSON."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

OPTIONS: dict[str, Any] = {
    "sqlite_autoincrement": True,
    "mysql_engine": "InnoDB",
    "mysql_default_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "documents",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(32), nullable=False, server_default=""),
        sa.Column("document", sa.Text, nullable=False),
        **OPTIONS,
    )
    op.create_index("ix_documents_kind", "documents", ["kind"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("documents")
